"""Where a box of a tensor lies in DRAM: runs of bytes at pitches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.graph.nest import Operand
from sim.graph.tensor import DTYPE_BITS

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Regions:
    """Regions of boxes [...]: `run_bytes` at `offset_bytes` from the start of the tensor, repeated `count` times at
    `pitch_bytes` for each level [..., levels], the last innermost."""

    offset_bytes: Int64
    run_bytes: Int64
    count: Int64
    pitch_bytes: Int64

    @property
    def size_bytes(self) -> Int64:
        """Bytes of each region."""
        total: Int64 = self.run_bytes * self.count.prod(axis=-1)
        return total


def regions(operand: Operand, start: Int64, stop: Int64) -> Regions:
    """The regions of boxes [..., rank] of an operand that is not gathered.

    Weights are packed in tile order, as `Operand.run_bytes` has it: each box is one run, behind those of all boxes
    before it of the same grid. Elsewhere the fastest axes run together as far as boxes take the whole of them, and
    each slower axis is a level. Elements of half a byte are rounded to whole bytes, run by run.

    Rows 8 to 16 of columns 32 to 64 of a 128 x 256 tensor of bytes: offset 8 x 256 + 32, run 32, 8 times at 256.
    """
    bits = DTYPE_BITS[operand.tensor.dtype]
    order = operand.memory_order()
    shape = [operand.axes[axis].size for axis in order]
    low, extent = start[..., order], (stop - start)[..., order]
    if operand.tensor.role == "weight":
        return _packed(shape, low, extent, bits)
    stride = np.ones(len(shape), np.int64)
    stride[:-1] = np.cumprod(np.array(shape[:0:-1], np.int64))[::-1]
    run = np.ones(low.shape[:-1], np.int64)
    together = np.ones(low.shape[:-1], np.bool_)
    count = extent.copy()
    for axis in reversed(range(len(shape))):
        run = np.where(together, run * extent[..., axis], run)
        count[..., axis] = np.where(together, 1, extent[..., axis])
        together = together & (extent[..., axis] == shape[axis])
    # The fastest axis is always part of the run.
    levels = slice(0, max(1, len(shape) - 1)) if shape else slice(0, 0)
    first = (low * stride).sum(axis=-1) * bits
    pitch = np.broadcast_to(stride * bits // 8, count.shape)
    return Regions(first // 8, -(-run * bits // 8), count[..., levels], pitch[..., levels])


def _packed(shape: list[int], low: Int64, extent: Int64, bits: int) -> Regions:
    """One run each: in front of a tile lie the slabs before its own along the first axis, in its slab the ones before
    it along the second, and so on."""
    offset = np.zeros(low.shape[:-1], np.int64)
    slab = np.ones(low.shape[:-1], np.int64)
    for axis in range(len(shape)):
        behind = int(np.prod(shape[axis + 1 :], dtype=np.int64))
        offset += slab * low[..., axis] * behind
        slab = slab * extent[..., axis]
    one = np.ones((*low.shape[:-1], 1), np.int64)
    return Regions(offset * bits // 8, -(-slab * bits // 8), one, np.zeros_like(one))
