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

    def overlaps(self, start: Int64, stop: Int64, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
        """[boxes, tasks]: does the box [boxes, rank] touch what the task wrote? Across a reshape, by the hulls in
        row-major order, which may see an overlap too many but never one too few."""
        if shape == self.shape:
            meets = (start[:, None, :] < self.stop[None]) & (self.start[None] < stop[:, None, :])
            return np.asarray(meets.all(axis=-1))
        first, last = linear_hull(start, stop, shape)
        mine, end = linear_hull(self.start, self.stop, self.shape)
        return np.asarray((first[:, None] < end[None]) & (mine[None] < last[:, None]))

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
