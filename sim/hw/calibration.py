"""Calibration: at most six fitted scalars by which a real chip stays behind its data sheet.

A chip file without the block runs at its data-sheet rates. The scalars are physical and act in the program itself, so
that the event engines, the tile search and the bound all see them; a peak in a report stays the data sheet's.
`lepton validate CHIP --fit` fits them on measured rows (sim/validate/fit.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sim.config import Field, Part, Unit

Fraction = Annotated[float, Field(ge=0.05, le=1)]


@dataclass(frozen=True, slots=True)
class Calibration(Part):
    """What is left of a data sheet in practice. Every default means "as the data sheet says".

    `launch_overhead_ps` is a serial task before each operator; `tile_overhead_ps` is added to every tile of an array
    or vector unit; the efficiencies divide cycles (array, vector) or the bandwidth of a link (DRAM, cache).
    """

    launch_overhead_ps: Annotated[
        int,
        Unit("time_ps"),
        Field(alias="launch_overhead", ge=0, description="dispatch of one operator, one after another"),
    ] = 0
    tile_overhead_ps: Annotated[
        int, Unit("time_ps"), Field(alias="tile_overhead", ge=0, description="start of one tile on a core's unit")
    ] = 0
    array_efficiency: Annotated[Fraction, Field(description="achieved part of the arrays' rate")] = 1.0
    vector_efficiency: Annotated[Fraction, Field(description="achieved part of the vector units' rate")] = 1.0
    dram_efficiency: Annotated[Fraction, Field(description="achieved part of the DRAM bandwidth")] = 1.0
    cache_efficiency: Annotated[Fraction, Field(description="achieved part of the cache bandwidth")] = 1.0


UNCALIBRATED = Calibration()
"""The data sheet as it is."""
