"""How far a sweep is: counted as results come in."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sim.explore.pareto import Float64, non_dominated
from sim.explore.results import Result, Results
from sim.explore.space import Space
from sim.explore.store import StudyPoint
from sim.explore.study import losses_of, losses_together, mix


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


@dataclass(slots=True)
class _Open:
    """A point of which so many results are still `missing`."""

    asked: StudyPoint
    missing: int
    parts: dict[bytes, Result] = field(default_factory=dict)


class Tally:
    """Counts of one part of a sweep, and the front of its points. Of one workload results are looked at many at once,
    when somebody asks for the progress."""

    def __init__(self, space: Space, part: str, total: int) -> None:
        self._space, self._part, self._total = space, part, total
        self._began = time.monotonic()
        self._wanted: dict[bytes, list[_Open]] = {}
        self._fresh: list[tuple[Results, list[int]]] = []
        self._losses: list[tuple[float, ...]] = []
        self._front: Float64 = np.empty((0, len(space.objectives)))
        self._known = self._done = self._failed = 0
        self.unseen: list[StudyPoint] = []

    def see(self, asked: StudyPoint, missing: Sequence[bytes]) -> None:
        """A point of this part, and which of its evaluations are to be made."""
        if missing:
            made = _Open(asked, len(missing))
            for key in missing:
                self._wanted.setdefault(key, []).append(made)
        else:
            self._known += 1
            self.unseen.append(asked)

    def look(self, read: Callable[[list[bytes]], Mapping[bytes, Result]], limit: int) -> None:
        """Look at up to `limit` points that have stored results, which `read` gives by key."""
        looked, self.unseen = self.unseen[:limit], self.unseen[limit:]
        results = read([key for asked in looked for key in asked.keys])
        self._count([a for a in looked if all(key in results for key in a.keys)], results)

    def take(self, keys: Sequence[bytes], results: Results) -> None:
        """Results that came in. A point of which others were stored before is looked at later."""
        whole: list[int] = []
        for at, key in enumerate(keys):
            for waiting in self._wanted.pop(key, ()):
                if len(waiting.asked.keys) == 1:
                    whole.append(at)
                else:
                    self._take_part(waiting, key, results[at])
        self._done += len(whole)
        self._fresh.append((results, whole))

    def _take_part(self, waiting: _Open, key: bytes, result: Result) -> None:
        waiting.parts[key] = result
        if len(waiting.parts) == waiting.missing:
            self._done += 1
            if all(each in waiting.parts for each in waiting.asked.keys):
                self._count([waiting.asked], waiting.parts)
            else:
                self.unseen.append(waiting.asked)

    def _count(self, asked: Sequence[StudyPoint], results: Mapping[bytes, Result]) -> None:
        rows = [mix(self._space, one, results) for one in asked]
        self._failed += sum(row.status != "ok" for row in rows)
        losses = (tuple(losses_of(self._space, row)) for row in rows)
        self._losses += (each for each in losses if math.inf not in each)

    def progress(self) -> Progress:
        """The counts now."""
        found = [self._front, np.array(self._losses).reshape(-1, self._front.shape[1])]
        for results, whole in self._fresh:
            losses = losses_together(self._space, results)[whole]
            self._failed += sum(results.status[at] != "ok" for at in whole)
            found.append(losses[np.isfinite(losses).all(axis=1)])
        self._fresh, self._losses = [], []
        together = np.concatenate(found)
        self._front = together[non_dominated(together)]
        spent_s = max(time.monotonic() - self._began, 1e-9)
        rate = self._done / spent_s
        left = self._total - self._known - self._done
        return Progress(
            part=self._part,
            done=self._known + self._done,
            total=self._total,
            known=self._known,
            failed=self._failed,
            front=len(self._front),
            rate_per_s=rate,
            left_s=left / rate if rate else None,
        )
