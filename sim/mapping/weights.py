"""The weight of the DRAM in a route: how much of its time a byte takes, by the pattern of what is moved (see
sim.cost.moves.dram_cost)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sim.cost.hardware import dram_columns
from sim.hw.chip import Chip
from sim.hw.dram import Dram
from sim.mapping.memo import by_identity


def dram_law(chip: Chip) -> tuple[npt.NDArray[np.float64], float, float]:
    """The DRAM of a chip as compiled code reads it, bytes of a row, and what is achieved of every pattern."""
    return _dram_columns(chip.dram), float(chip.dram.row_bytes), float(chip.calibration.dram_efficiency)


@by_identity(1 << 8)
def _dram_columns(dram: Dram) -> npt.NDArray[np.float64]:
    return dram_columns(dram)
