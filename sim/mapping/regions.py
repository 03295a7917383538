"""Where a box of a tensor lies in DRAM: runs of bytes at pitches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.graph.nest import Operand
from sim.graph.tensor import DTYPE_BITS
from sim.mapping.memo import by_identity

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
    from sim.cost.moves import fill_regions

    order, sizes = _memory(operand)
    rank, packed, boxes = len(order), operand.tensor.role == "weight", start.shape[:-1]
    # The fastest axis is always part of the run.
    levels = 1 if packed else min(rank, max(1, rank - 1))
    offset, run = np.empty(boxes, np.int64), np.empty(boxes, np.int64)
    count, pitch = np.empty((*boxes, levels), np.int64), np.empty((*boxes, levels), np.int64)
    fill_regions(
        order, sizes, DTYPE_BITS[operand.tensor.dtype], packed, start.reshape(offset.size, rank),
        stop.reshape(offset.size, rank), offset.reshape(-1), run.reshape(-1), count.reshape(offset.size, levels),
        pitch.reshape(offset.size, levels),
    )  # fmt: skip
    return Regions(offset, run, count, pitch)


@by_identity(1 << 14)
def _memory(operand: Operand) -> tuple[Int64, Int64]:
    """The axes from slowest to fastest in memory, and the size of each axis."""
    return np.array(operand.memory_order(), np.int64), np.array([axis.size for axis in operand.axes], np.int64)
