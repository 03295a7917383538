"""What an engine returns: when every task started and finished, in ticks of 1 ps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SegmentTimeline:
    """`start` and `finish` of every task of one segment run from an idle chip at 0. `drained` is when the last
    background flow (cache write-backs) ended, at least the last finish."""

    start: Int64
    finish: Int64
    drained: int

    @property
    def end(self) -> int:
        """Tick of the last finish."""
        return int(self.finish.max()) if len(self.finish) else 0


@dataclass(frozen=True, slots=True)
class Timeline:
    """One entry per segment of the program, in the same order; repeats are not unrolled."""

    engine: str
    segments: tuple[SegmentTimeline, ...]
    repeats: tuple[int, ...]

    @property
    def latency_ps(self) -> int:
        """From the first issue to the last finish, repeats included."""
        return sum(s.end * n for s, n in zip(self.segments, self.repeats, strict=True))
