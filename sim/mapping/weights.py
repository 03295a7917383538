"""The weight of the DRAM in a route: how much of its time a byte takes, by the pattern of what is moved."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from sim.cost.hardware import dram_columns
from sim.graph.nest import Nest, Operand
from sim.hw.chip import Chip
from sim.hw.dram import Dram
from sim.mapping.loops import operand_number
from sim.mapping.memo import by_identity
from sim.program import MAX_ROUTE_WEIGHT, PAYLOAD_WEIGHT

Int64 = npt.NDArray[np.int64]


def dram_weight(
    chip: Chip, nest: Nest, operand: Operand, extents: Int64, *, store: bool = False
) -> Int64:
    """Route weight of the DRAM for boxes with these extents: 256 / efficiency of their runs, in steps of a 32nd
    of an octave (2 %) so that few distinct routes arise. What is below 1/256 counts as that: single bytes that
    all fall into one bank. The least of all workloads, transposes and slices of columns tried is 1/68."""
    from sim.cost.boxes import fill_dram_costs
    from sim.cost.compiled import tables_of

    number = operand_number(nest, operand)
    columns = _dram_columns(chip.dram)
    boxes = extents.reshape(math.prod(extents.shape[:-1]), extents.shape[-1])
    run, cost = np.empty(len(boxes), np.int64), np.empty(len(boxes))
    fill_dram_costs(tables_of(nest), number, columns, boxes, store, run, cost)
    weight = PAYLOAD_WEIGHT * 2.0 ** (np.round(np.log2(cost) * 32) / 32) / chip.calibration.dram_efficiency
    found = np.minimum(np.maximum(np.round(weight), PAYLOAD_WEIGHT), MAX_ROUTE_WEIGHT).astype(np.int64)
    return found.reshape(extents.shape[:-1])


@by_identity(1 << 8)
def _dram_columns(dram: Dram) -> npt.NDArray[np.float64]:
    """The DRAM as compiled code reads it."""
    return dram_columns(dram)
