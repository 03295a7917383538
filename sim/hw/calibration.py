"""Calibration: at most six fitted scalars by which a real chip stays behind its data sheet.

A chip file without the block runs at its data-sheet rates. The scalars are physical and act in the program itself, so
that the event engines, the tile search and the bound all see them; a peak in a report stays the data sheet's.
`lepton validate CHIP --fit` fits them on measured rows (sim/validate/fit.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt

from sim.config import Field, FieldSpec, Part, Unit, field_specs
from sim.errors import FieldError

POWER_OF_CLOCK = 2.0
"""Power of a chip at a limit goes with the clock to this power: 1 at one voltage, 3 where voltage follows the clock."""

MOST_SCALARS = 6
"""More fitted numbers than this would describe the measurements rather than the machine."""

Float64 = npt.NDArray[np.float64]
Fraction = Annotated[float, Field(ge=0.05, le=1)]


@dataclass(frozen=True, slots=True)
class Calibration(Part):
    """What is left of a data sheet in practice. Every default means "as the data sheet says".

    `launch_overhead_ps`, with what operands and contractions add to it, is a serial task before each operator;
    `tile_overhead_ps` is added to every tile of an array or vector unit; the efficiencies divide cycles (array, vector)
    or the bandwidth of a link (DRAM, cache). Arrays that tiles are dealt to, and that would draw more than all of them
    at `sustained_efficiency` of their clock, run at a lower one (`slowed`).
    """

    launch_overhead_ps: Annotated[
        int,
        Unit("time_ps"),
        Field(alias="launch_overhead", ge=0, description="dispatch of one operator, one after another"),
    ] = 0
    operand_overhead_ps: Annotated[
        int,
        Unit("time_ps"),
        Field(
            alias="operand_overhead", ge=0, description="more per tensor that the operator reads or writes"
        ),
    ] = 0
    contraction_overhead_ps: Annotated[
        int,
        Unit("time_ps"),
        Field(
            alias="contraction_overhead", ge=0, description="more for a contraction, to set up its pipeline of tiles"
        ),
    ] = 0
    tile_overhead_ps: Annotated[
        int,
        Unit("time_ps"),
        Field(alias="tile_overhead", ge=0, description="start of one tile on a core's unit"),
    ] = 0
    array_efficiency: Annotated[Fraction, Field(description="achieved part of the arrays' rate")] = 1.0
    sustained_efficiency: Annotated[
        Fraction,
        Field(description="part of their rate that all arrays keep up together where tiles are dealt: the power limit"),
    ] = 1.0
    vector_efficiency: Annotated[Fraction, Field(description="achieved part of the vector units' rate")] = 1.0
    dram_efficiency: Annotated[Fraction, Field(description="achieved part of the DRAM bandwidth")] = 1.0
    cache_efficiency: Annotated[Fraction, Field(description="achieved part of the cache bandwidth")] = 1.0

    def __post_init__(self) -> None:
        fitted = [spec.key for spec in _scalars() if getattr(self, spec.name) != spec.default]
        if len(fitted) > MOST_SCALARS:
            message = f"found {len(fitted)} scalars ({', '.join(fitted)}); expected at most {MOST_SCALARS}"
            raise FieldError([((fitted[-1],), message)])

    def launch_ps(self, tensors: int, *, contraction: bool) -> int:
        """Launch of an operator that reads and writes `tensors` in memory."""
        more_ps = self.contraction_overhead_ps if contraction else 0
        return self.launch_overhead_ps + tensors * self.operand_overhead_ps + more_ps

    def slowed(self, working: Float64) -> Float64:
        """Times that arrays take their cycles, of whose peak the share `working` would work at the data sheet's clock.

        What they draw goes with that share and with clock x voltage^2, or clock^POWER_OF_CLOCK; the limit is what all
        draw at s of their clock, s the sustained efficiency: clock = s / working^(1/2), at most 1. With s = 0.8: 1.25
        for all of them, 1.06 where 0.72 work, 1 where 0.64 do.
        """
        limited = np.minimum(1.0, working) ** (1 / POWER_OF_CLOCK) / self.sustained_efficiency
        return np.asarray(np.maximum(1.0, limited), np.float64)

    @property
    def arrays_efficiency(self) -> float:
        """Part of the arrays' rate that no operator exceeds on all of them."""
        return min(self.array_efficiency, self.sustained_efficiency)

    @property
    def launches(self) -> bool:
        """Does a launch take time?"""
        return bool(self.launch_overhead_ps or self.operand_overhead_ps or self.contraction_overhead_ps)


def _scalars() -> tuple[FieldSpec, ...]:
    return tuple(spec for spec in field_specs(Calibration) if spec.name not in ("source", "notes"))


UNCALIBRATED = Calibration()
"""The data sheet as it is."""
