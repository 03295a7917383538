"""The loop of a sweep: points from a sampler, batches to workers, results to the store."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from threading import Event
from typing import Any

from sim.errors import InputError
from sim.explore.evaluate import Fidelity
from sim.explore.keys import KeyMaker, simulator_digest
from sim.explore.preview import StudyFidelity, check_bound, check_options, preview
from sim.explore.progress import OnProgress, Tally
from sim.explore.results import Result
from sim.explore.samplers import GUIDED, Listed, Sampler, make_sampler
from sim.explore.screening import to_confirm
from sim.explore.space import Point, Space
from sim.explore.space_file import load_space, space_from_dict
from sim.explore.store import MEMORY, Evaluations, Store, StudyPoint, open_store, read_study
from sim.explore.study import BASELINE, CONFIRM, Row, Study, mix
from sim.explore.workers import Batch, Outcome, Workers, local_workers

BATCH_S = {"event": 0.25, "bound": 2.0}
"""What a batch should take: long beside the cost of sending it, short beside what a killed driver may lose. The bound
computes designs together, and a call has costs of its own: more of them at once take less each."""

MAX_BATCH = 4096
GATHERED = 65_536
"""Points that wait for the bound, if there are so many, before any is given out: designs that are alike are searched
together, so points are sorted."""
FLUSH_S = 0.25
"""Results are stored at most so often: a transaction of many costs a third per row."""

DEFAULT_SLACK = 0.1


def sweep(
    space: Space | str | Path | Mapping[str, Any],
    *,
    workloads: Sequence[str] = (),
    sampler: str = "grid",
    budget: int | None = None,
    fidelity: StudyFidelity = "event",
    seed: int = 0,
    slack: float = DEFAULT_SLACK,
    workers: int | None = None,
    scheduler: str | None = None,
    timeout_s: float | None = None,
    out: str | Path | None = None,
    retry_failed: bool = False,
    progress: OnProgress | None = None,
    say: Callable[[str], None] | None = None,
    stop: Event | None = None,
) -> Study:
    """Evaluate the points of a space and return the study.

    `space` is a Space, the name or path of a space file, or its data; `workloads` are models in place of the file's.
    `budget` counts distinct points (not needed by the grid). A guided sampler gets a random search of the same budget
    beside it. Fidelity `screen` evaluates by the bound and confirms with events what is on the front or within the
    share `slack` of it. `workers` are processes of this machine (default: one per processor), or `scheduler` the
    address of a Dask scheduler. A point that takes a process longer than `timeout_s` (the reading of its model
    included) is failed. `out` is the file of the study: what it has is not done again, but for failures with
    `retry_failed`. `say` is told when something else takes long: once per installation the bound is compiled.

    A design that cannot be or that fails is a row. Once `stop` is set, the study is returned as far as it is. Raises
    InputError for bad input, StoreFull for a full disk; what was stored before stays.
    """
    if not isinstance(space, Space):
        space = _load(space, workloads)
    elif workloads:
        raise InputError("workloads: a Space has its own; give them when it is loaded")
    check_options(fidelity, slack, workers, scheduler, timeout_s)
    make_sampler(sampler, space, budget, seed)  # a wrong choice is told before anything is started
    preview(space)
    if fidelity != "event":
        check_bound(space, say)
    plan = {
        "space": space.to_data(),
        "sampler": sampler,
        "budget": budget,
        "fidelity": fidelity,
        "seed": seed,
        "slack": slack if fidelity == "screen" else None,
        "simulator": simulator_digest(),
    }
    with open_store(out or MEMORY, write=True) as store:
        study = store.study(space.name, plan)
        opener = _opener(space, workers, scheduler, timeout_s)
        driver = Driver(space, store, study, opener, retry_failed, progress, stop, timeout_s)
        try:
            first: Fidelity = "bound" if fidelity == "screen" else fidelity
            driver.run(make_sampler(sampler, space, budget, seed), sampler, first)
            if sampler in GUIDED:
                driver.run(make_sampler(BASELINE, space, budget, seed), BASELINE, first)
            if fidelity == "screen":
                _confirm(driver, read_study(store, study, plan), slack)
        except _Stopped:
            pass
        finally:
            driver.close()
        return read_study(store, study, plan)


def _load(space: str | Path | Mapping[str, Any], workloads: Sequence[str]) -> Space:
    if isinstance(space, Mapping):
        return space_from_dict(space, workloads=workloads)
    return load_space(space, workloads=workloads)


def _opener(
    space: Space, workers: int | None, scheduler: str | None, timeout_s: float | None
) -> Callable[[], Workers]:
    if scheduler is None:
        return lambda: local_workers(space, workers, timeout_s)
    from sim.explore.cluster import ClusterWorkers

    cluster = ClusterWorkers(space, scheduler)  # whether there is one is known before the store is touched
    return lambda: cluster


class _Stopped(Exception):
    """Asked to end; what has come back is stored."""


class Driver:
    """One sweep under way: the only writer of its store. Workers are started with the first batch."""

    def __init__(
        self,
        space: Space,
        store: Store,
        study: int,
        opener: Callable[[], Workers],
        retry_failed: bool = False,
        progress: OnProgress | None = None,
        stop: Event | None = None,
        timeout_s: float | None = None,
    ) -> None:
        self._space, self._store, self._study = space, store, study
        self._open = opener
        self._workers: Workers | None = None
        self._known = store.known(retry_failed)
        self._on_progress = progress
        self._stop = stop
        self._longest_batch_s = float("inf") if timeout_s is None else timeout_s / 4
        self._said_s = self._flushed_s = 0.0
        self._kept: dict[bytes, Result] | None = None
        self._makers: dict[tuple[int, str], KeyMaker] = {}
        self._texts = [
            [json.dumps(dict(zip(axis.paths, row, strict=True)))[1:-1] for row in axis.rows]
            for axis in space.axes
        ]
        self._apart = [at for at, axis in enumerate(space.axes) if not space.leaves_alike(axis)]
        self._waiting: dict[tuple[int, str], list[Point]] = {}
        self._awaited: dict[tuple[int, str], dict[Point, bytes]] = {}
        self._asked: list[StudyPoint] = []
        self._unstored: list[Evaluations] = []
        self._batches = 0
        self._in_flight = 0
        self._seconds: dict[tuple[int, str], float] = {}

    def close(self) -> None:
        """Store what has come back, end the workers."""
        try:
            self._flush()
        finally:
            if self._workers is not None:
                self._workers.close()

    def run(self, sampler: Sampler, name: str, fidelity: Fidelity) -> None:
        """Evaluate every point of a sampler."""
        tally = Tally(self._space, name, sampler.total)
        self._kept = {} if sampler.learns else None
        asked: set[Point] = set()
        for points in sampler.rounds():
            new = [point for point in dict.fromkeys(points) if point not in asked]
            numbered = self._study_points(new, fidelity, name, len(asked))
            asked.update(new)
            self._asked += numbered
            self._submit(numbered, fidelity, tally, wait=sampler.learns)
            if sampler.learns:
                self._finish(tally)
                sampler.tell(self._rows(points, fidelity, name))
        self._finish(tally)
        self._flush()
        self._say(tally, always=True)

    def _study_points(
        self, points: Sequence[Point], fidelity: Fidelity, sampler: str, first: int
    ) -> list[StudyPoint]:
        """The points as a sampler asks for them, numbered from `first`."""
        columns = [
            self._key_maker(workload, fidelity).keys(points) for workload in range(len(self._space.workloads))
        ]
        return [
            StudyPoint(point, fidelity, sampler, number, keys)
            for number, (point, keys) in enumerate(
                zip(points, zip(*columns, strict=True), strict=True), first
            )
        ]

    def _key_maker(self, workload: int, fidelity: str) -> KeyMaker:
        maker = self._makers.get((workload, fidelity))
        if maker is None:
            maker = KeyMaker(self._space, self._space.workloads[workload], fidelity)
            self._makers[workload, fidelity] = maker
        return maker

    def _submit(self, points: Sequence[StudyPoint], fidelity: Fidelity, tally: Tally, wait: bool) -> None:
        """Queue what is not known yet, workload by workload, and give out full batches."""
        known = self._known
        kinds = [(workload, fidelity) for workload in range(len(self._space.workloads))]
        queues = [self._waiting.setdefault(kind, []) for kind in kinds]
        awaited = [self._awaited.setdefault(kind, {}) for kind in kinds]
        for asked in points:
            missing = []
            for key, queue, expected in zip(asked.keys, queues, awaited, strict=True):
                if key not in known:
                    known.add(key)
                    queue.append(asked.point)
                    expected[asked.point] = key
                    missing.append(key)
            if self._on_progress is not None:
                tally.see(asked, missing)
        self._give_out(tally, everything=wait)

    def _give_out(self, tally: Tally, everything: bool) -> None:
        """Send batches while there is something to send; wait for workers where they are full."""
        for (workload, fidelity), points in self._waiting.items():
            if fidelity == "bound":
                if len(points) < GATHERED and not everything:
                    continue
                points.sort(key=lambda point: [point[axis] for axis in self._apart])
            while points:
                size = self._batch_size(workload, fidelity, len(points) if everything else None)
                if len(points) < size and not everything:
                    break
                workers = self._started()
                while workers.room() < 1:
                    self._collect(tally)
                batch, points[:size] = tuple(points[:size]), []
                self._batches += 1
                self._in_flight += len(batch)
                workers.submit(Batch(self._batches, workload, fidelity, batch))  # type: ignore[arg-type]

    def _batch_size(self, workload: int, fidelity: str, left: int | None) -> int:
        """As many points as take BATCH_S (less where a timeout is near), by those seen so far; the last ones are
        dealt evenly."""
        seconds = self._seconds.get((workload, fidelity))
        first = 64 if fidelity == "bound" else 1
        aim_s = min(BATCH_S[fidelity], self._longest_batch_s)
        size = first if seconds is None else int(aim_s / max(seconds, 1e-9))
        if left is not None:
            size = min(size, -(-left // self._started().count))
        return max(1, min(size, MAX_BATCH))

    def _finish(self, tally: Tally) -> None:
        self._give_out(tally, everything=True)
        while self._in_flight:
            self._collect(tally)

    def _collect(self, tally: Tally) -> None:
        """Take in what has come back. While workers are busy, look at what was stored before."""
        if self._on_progress is not None and tally.unseen:
            tally.look(lambda keys: self._store.results(keys=keys), MAX_BATCH)
        for outcome in self._started().wait(0.5):
            self._take(outcome, tally)
        if time.monotonic() - self._flushed_s > FLUSH_S:
            self._flush()
        self._say(tally)
        if self._stop is not None and self._stop.is_set():
            raise _Stopped

    def _take(self, outcome: Outcome, tally: Tally) -> None:
        batch, results = outcome.batch, outcome.results
        self._in_flight -= len(batch.points)
        seconds = sum(results.wall_s) / len(results)
        at = (batch.workload, batch.fidelity)
        self._seconds[at] = 0.5 * (self._seconds.get(at, seconds) + seconds)
        awaited = self._awaited[at]
        keys = [awaited.pop(point) for point in batch.points]
        parameters = [
            "{" + ", ".join([texts[at] for texts, at in zip(self._texts, point, strict=True)]) + "}"
            for point in batch.points
        ]
        model = self._space.workloads[batch.workload].model
        self._unstored.append(Evaluations(keys, model, batch.fidelity, parameters, results))
        if self._kept is not None:
            self._kept |= zip(keys, results, strict=True)
        if self._on_progress is not None:
            tally.take(keys, results)

    def _flush(self) -> None:
        """Everything that has come back, on disk."""
        if self._unstored or self._asked:
            self._store.add(self._unstored, self._asked, self._study)
            self._unstored, self._asked = [], []
        self._flushed_s = time.monotonic()

    def _rows(self, points: Sequence[Point], fidelity: Fidelity, sampler: str) -> list[Row]:
        """Rows of points that are all evaluated, now or before."""
        asked = self._study_points(points, fidelity, sampler, 0)
        kept = self._kept if self._kept is not None else {}
        missing = [key for one in asked for key in one.keys if key not in kept]
        kept |= self._store.results(keys=missing) if missing else {}
        return [mix(self._space, one, kept) for one in asked]

    def _started(self) -> Workers:
        if self._workers is None:
            self._workers = self._open()
        return self._workers

    def _say(self, tally: Tally, always: bool = False) -> None:
        now = time.monotonic()
        if self._on_progress is not None and (always or now - self._said_s > 1.0):
            found = tally.progress()
            if found.done < found.total or always:  # the end is said once
                self._said_s = now
                self._on_progress(found)


def _confirm(driver: Driver, screened: Study, slack: float) -> None:
    """Events for the designs that a screening chose."""
    points = to_confirm(screened, slack)
    driver.run(Listed(iter(points), len(points)), CONFIRM, "event")
