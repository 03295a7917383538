"""How far a sweep is: counted as results come in."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sim.explore.evaluate import Result
from sim.explore.pareto import non_dominated
from sim.explore.space import Point, Space
from sim.explore.store import StudyPoint
from sim.explore.study import losses_of, mix


@dataclass(frozen=True, slots=True)
class Progress:
    """Points of one `part` of a sweep (a sampler, or the confirmation of a screening). `known` of those `done` were
    stored before; `failed` are those without numbers; `front` is the size of the front of what was looked at so far;
    `rate_per_s` and `left_s` are of points evaluated now."""

    part: str
    done: int
    total: int
    known: int
    failed: int
    front: int
    rate_per_s: float
    left_s: float | None


OnProgress = Callable[[Progress], None]


class Tally:
    """Counts of one part of a sweep, and the front of its points."""

    def __init__(self, space: Space, part: str, total: int) -> None:
        self._space, self._part, self._total = space, part, total
        self._began = time.monotonic()
        self._open: dict[Point, tuple[StudyPoint, dict[bytes, Result]]] = {}
        self._wanted: dict[bytes, list[tuple[Point, int]]] = {}
        self._losses: list[tuple[float, ...]] = []
        self._known = self._done = self._failed = 0
        self.unseen: list[StudyPoint] = []

    def see(self, asked: StudyPoint, missing: Sequence[bytes]) -> None:
        """A point of this part, and which of its evaluations are to be made."""
        if missing:
            self._open[asked.point] = (asked, {})
            for key in missing:
                self._wanted.setdefault(key, []).append((asked.point, len(missing)))
        else:
            self._known += 1
            self.unseen.append(asked)

    def look(self, read: Callable[[list[bytes]], Mapping[bytes, Result]], limit: int) -> None:
        """Look at up to `limit` points that have stored results, which `read` gives by key."""
        looked, self.unseen = self.unseen[:limit], self.unseen[limit:]
        results = read([key for asked in looked for key in asked.keys])
        for asked in looked:
            if all(key in results for key in asked.keys):
                self._count(asked, results)

    def take(self, results: Mapping[bytes, Result]) -> None:
        """Results that came in. A point of which others were stored before is looked at later."""
        for key, result in results.items():
            for point, missing in self._wanted.pop(key, ()):
                asked, parts = self._open[point]
                parts[key] = result
                if len(parts) == missing:
                    del self._open[point]
                    self._done += 1
                    if all(each in parts for each in asked.keys):
                        self._count(asked, parts)
                    else:
                        self.unseen.append(asked)

    def _count(self, asked: StudyPoint, results: Mapping[bytes, Result]) -> None:
        row = mix(self._space, asked, results)
        self._failed += row.status != "ok"
        losses = tuple(losses_of(self._space, row))
        if math.inf not in losses:
            self._losses.append(losses)

    def progress(self) -> Progress:
        """The counts now."""
        if self._losses:
            front = np.array(self._losses)
            self._losses = list(map(tuple, front[non_dominated(front)].tolist()))
        spent_s = max(time.monotonic() - self._began, 1e-9)
        rate = self._done / spent_s
        left = self._total - self._known - self._done
        return Progress(
            part=self._part,
            done=self._known + self._done,
            total=self._total,
            known=self._known,
            failed=self._failed,
            front=len(self._losses),
            rate_per_s=rate,
            left_s=left / rate if rate else None,
        )
