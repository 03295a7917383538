"""The weight of the DRAM in a route: how much of its time a byte takes, by the pattern of what is moved."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sim.cost.hardware import dram_columns
from sim.graph.nest import Nest, Operand
from sim.hw.chip import Chip
from sim.hw.dram import Dram
from sim.mapping.loops import operand_number
from sim.mapping.memo import by_identity

Int64 = npt.NDArray[np.int64]


def dram_costs(
    chip: Chip, nest: Nest, operand: Operand, extents: Int64, nbytes: Int64, *, store: bool = False
) -> tuple[Int64, float]:
    """(route weight of the DRAM, rows opened by all of them) for boxes with these extents [..., rank], of which
    `nbytes` [...] are moved.

    The weight is 256 / efficiency of their runs, in steps of a 32nd of an octave (2 %) so that few distinct routes
    arise. What is below 1/256 counts as that: single bytes that all fall into one bank. The least of all workloads,
    transposes and slices of columns tried is 1/68."""
    from sim.cost.compiled import tables_of
    from sim.cost.moves import fill_dram_costs

    number, dram = operand_number(nest, operand), chip.dram
    boxes = extents.reshape(nbytes.size, extents.shape[-1])
    weight, opened = np.empty(nbytes.shape, np.int64), np.empty(nbytes.shape)
    efficiency = float(chip.calibration.dram_efficiency)
    fill_dram_costs(
        tables_of(nest), number, _dram_columns(dram), float(dram.row_bytes), efficiency, operand.gathered, store, boxes,
        nbytes.reshape(-1), weight.reshape(-1), opened.reshape(-1),
    )  # fmt: skip
    return weight, float(np.add.reduce(opened, axis=None))


@by_identity(1 << 8)
def _dram_columns(dram: Dram) -> npt.NDArray[np.float64]:
    """The DRAM as compiled code reads it."""
    return dram_columns(dram)
