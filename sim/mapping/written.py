"""Who wrote a tensor, box by box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.mapping.residency import linear_hull

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Written:
    """Who wrote a tensor: boxes [tasks, rank] in the shape `shape`; `core` and the vector task that put each in
    that core's scratchpad, and the task that stored it in DRAM (-1: none). Rows of a core are in queue order."""

    shape: tuple[int, ...]
    start: Int64
    stop: Int64
    core: Int64
    vector: Int64
    store: Int64

    def boxes(self, start: Int64, stop: Int64, shape: tuple[int, ...]) -> tuple[Int64, Int64, Int64, Int64]:
        """Start and stop of boxes [any, rank] in a tensor of this shape, and of those that were written [tasks, rank],
        so that they can be compared. Across a reshape these are the hulls in row-major order, which may overlap where
        the boxes do not, but never the other way round."""
        if shape == self.shape:
            return start, stop, self.start, self.stop
        hulls = *linear_hull(start, stop, shape), *linear_hull(self.start, self.stop, self.shape)
        first, last, mine, end = (ends[:, None] for ends in hulls)
        return first, last, mine, end

    def joined(self, other: Written) -> Written:
        """Both sets of writers."""
        pairs = (
            (self.start, other.start),
            (self.stop, other.stop),
            (self.core, other.core),
            (self.vector, other.vector),
            (self.store, other.store),
        )
        return Written(self.shape, *(np.concatenate(pair) for pair in pairs))
