"""Bytes of boxes that cross the DRAM run-length coded."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sim.graph.nest import Operand
from sim.graph.tensor import DTYPE_BITS
from sim.hw.run_length import VALUE_BITS, coded_row_bytes

Int64 = npt.NDArray[np.int64]


def codable(operand: Operand) -> bool:
    """Activations of 16 bits with some zeros, fetched by their place (not by indices)."""
    tensor = operand.tensor
    kinds = tensor.role in ("input", "activation") and not operand.gathered
    return kinds and tensor.density < 1 and DTYPE_BITS[tensor.dtype] == VALUE_BITS


def coded_bytes(operand: Operand, extents: Int64) -> Int64:
    """Mean bytes of boxes with these extents [..., rank], each row along the last axis coded by itself; at least 1."""
    rows = extents[..., :-1].prod(axis=-1)
    coded = rows * coded_row_bytes(extents[..., -1], operand.tensor.density)
    return np.asarray(np.maximum(1, np.ceil(coded)), np.int64)
