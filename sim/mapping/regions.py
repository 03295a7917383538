"""Where a box of a tensor lies in DRAM: runs of bytes at pitches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Regions:
    """Regions of boxes [...]: `run_bytes` at `offset_bytes` from the start of the tensor, repeated `count` times at
    `pitch_bytes` for each level [..., levels], the last innermost. Made by sim.cost.moves.fill_region.

    Weights are packed in tile order, as `Operand.run_bytes` has it: each box is one run, behind those of all boxes
    before it of the same grid. Elsewhere the fastest axes run together as far as boxes take the whole of them, and
    each slower axis is a level. Elements of half a byte are rounded to whole bytes, run by run.

    Rows 8 to 16 of columns 32 to 64 of a 128 x 256 tensor of bytes: offset 8 x 256 + 32, run 32, 8 times at 256.
    """

    offset_bytes: Int64
    run_bytes: Int64
    count: Int64
    pitch_bytes: Int64
