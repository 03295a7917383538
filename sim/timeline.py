"""What an engine returns: when every task started and finished, in ticks of 1 ps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Probed:
    """What the probes of a segment found, in bytes; one entry per probe.

    `hit` and `miss` sum to the bytes the transfer moves. `rest` is what lines were filled with beyond that, `evicted`
    the dirty lines written back: both go between cache and DRAM in the background.
    """

    hit: Int64
    miss: Int64
    rest: Int64
    evicted: Int64


@dataclass(frozen=True, slots=True)
class SegmentTimeline:
    """`start` and `finish` of every task of one run of a segment on an idle chip, from 0. `drained` is when the last
    background flow (write-backs of the cache) ended, at least the last finish; what follows a barrier begins then, so
    a run that something follows has a `tail` of as many ticks after its last finish."""

    start: Int64
    finish: Int64
    drained: int
    probed: Probed | None = None
    tail: int = 0

    @property
    def end(self) -> int:
        """Tick of the last finish."""
        return int(self.finish.max()) if len(self.finish) else 0

    @property
    def length(self) -> int:
        """Ticks until what follows begins, or the last finish where nothing follows."""
        return self.end + self.tail


@dataclass(frozen=True, slots=True)
class Timeline:
    """One entry per run of a segment, in the order of the program; equal runs of a segment are one entry with a count
    in `repeats`. `segment_of` is the program's segment of each; without a cache there is one entry per segment."""

    engine: str
    segments: tuple[SegmentTimeline, ...]
    repeats: tuple[int, ...]
    segment_of: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.segment_of:
            object.__setattr__(self, "segment_of", tuple(range(len(self.segments))))

    @property
    def latency_ps(self) -> int:
        """From the first issue to the last finish, repeats included."""
        return sum(s.length * n for s, n in zip(self.segments, self.repeats, strict=True))

    @property
    def drained_ps(self) -> int:
        """From the first issue until nothing moves any more."""
        last = self.segments[-1] if self.segments else None
        return self.latency_ps + (last.drained - last.length if last is not None else 0)
