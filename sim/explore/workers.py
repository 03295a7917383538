"""Where batches of points are evaluated: in this process, or in processes of this machine that may die.

`multiprocessing.Pool` and `ProcessPoolExecutor` lose what was queued when a worker is killed (by the system for want of
memory, or by hand). Here every worker has a pipe of its own and the driver knows what it was given: when it dies
that work is given out again, one point at a time, and a point that was under way at three deaths is a failed result.
"""

from __future__ import annotations

import gc
import math
import os
import sys
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from sim.errors import LeptonError
from sim.explore.evaluate import Fidelity, evaluate
from sim.explore.results import Result, Results
from sim.explore.space import Point, Space

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import BaseContext
    from multiprocessing.process import BaseProcess

MAX_DEATHS = 3
"""A point that is under way when its worker dies this often is stored as failed."""

DEPTH = 2
"""Batches given to a worker: one under way and one waiting, so that it never waits for the driver."""

GARBAGE = 100_000
"""New objects of a worker, less those that are gone, between two collections of garbage: what a design leaves is mostly
what the next ones look up, and hardly any of it refers to itself."""

_THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Batch:
    """Points of one workload at one fidelity."""

    number: int
    workload: int
    fidelity: Fidelity
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Results of some points of a batch, in the order of `points`."""

    batch: Batch
    results: Results


class Workers(Protocol):
    """A place that evaluates batches. It never loses one: every point comes back in some Outcome."""

    @property
    def count(self) -> int:
        """Batches that can be under way at once."""

    def room(self) -> int:
        """How many batches it would take now."""

    def submit(self, batch: Batch) -> None:
        """Give it a batch."""

    def wait(self, timeout_s: float) -> list[Outcome]:
        """What is finished, waiting at most so long for the first."""

    def close(self) -> None:
        """End it; what is under way is lost."""


class Serial:
    """This process; for one worker, and to compare with."""

    count = 1

    def __init__(self, space: Space) -> None:
        self._space = space
        self._queue: deque[Batch] = deque()

    def room(self) -> int:
        return 1 - len(self._queue)

    def submit(self, batch: Batch) -> None:
        self._queue.append(batch)

    def wait(self, timeout_s: float) -> list[Outcome]:
        if not self._queue:
            return []
        batch = self._queue.popleft()
        return [Outcome(batch, evaluate(self._space, batch.workload, batch.fidelity, batch.points))]

    def close(self) -> None:
        self._queue.clear()


class DeathRegister:
    """Who was there when workers died: what to give out again, and what to give up."""

    def __init__(self) -> None:
        self._deaths: Counter[tuple[int, str, Point]] = Counter()

    def after_death(self, batch: Batch, how: str, deaths: int = 1) -> tuple[list[Batch], list[Outcome]]:
        """Batches of one point each to try again, and outcomes of the points that have had their chances, after
        `deaths` with the batch under way."""
        again, given_up = [], []
        for point in batch.points:
            single = replace(batch, points=(point,))
            at = (batch.workload, batch.fidelity, point)
            self._deaths[at] += deaths
            if self._deaths[at] >= MAX_DEATHS:
                error = f"its worker died {self._deaths[at]} times while it was under way ({how})"
                given_up.append(Outcome(single, Results.of([Result("failed", {}, error, 0.0)])))
            else:
                again.append(single)
        return again, given_up


def after_timeout(batch: Batch, limit_s: float) -> tuple[list[Batch], list[Outcome]]:
    """What becomes of a batch that was under way for longer than `limit_s`: its points are tried one by one, a single
    one is given up."""
    if len(batch.points) > 1:
        return [replace(batch, points=(point,)) for point in batch.points], []
    error = f"no result after {limit_s:g} s (--timeout): its worker was ended"
    return [], [Outcome(batch, Results.of([Result("failed", {}, error, limit_s)]))]


@dataclass(slots=True, eq=False)
class _Worker:
    """One process, its pipe, and what it was given, in order."""

    process: BaseProcess
    pipe: Connection
    queue: deque[Batch] = field(default_factory=deque)
    ready: bool = False
    began_s: float = 0.0
    """Since when the first of `queue` is under way (monotonic)."""


class LocalPool:
    """Processes of this machine. They are forked from a server that has everything loaded (where the system can),
    ignore Ctrl-C and end with their driver. One that has worked on a point for longer than `timeout_s` is ended."""

    def __init__(self, space: Space, count: int, timeout_s: float | None = None) -> None:
        self.count = count
        self._timeout_s = timeout_s
        self._space = space
        self._register = DeathRegister()
        self._again: deque[Batch] = deque()
        self._outcomes: list[Outcome] = []
        self._stillborn = 0
        self._context = _context()
        self._workers: list[_Worker] = []
        try:
            self._workers += [self._start() for _ in range(count)]
        except BaseException:
            self.close()
            raise

    @property
    def process_ids(self) -> list[int]:
        """Of the workers, for those who want to kill one."""
        return [worker.process.pid or 0 for worker in self._workers]

    def room(self) -> int:
        return sum(DEPTH - len(worker.queue) for worker in self._workers) - len(self._again)

    def submit(self, batch: Batch) -> None:
        self._again.append(batch)
        self._hand_out()

    def wait(self, timeout_s: float) -> list[Outcome]:
        from multiprocessing.connection import wait

        self._hand_out()
        if not self._outcomes:
            pipes = {worker.pipe: worker for worker in self._workers}
            for pipe in wait(list(pipes), min(timeout_s, self._patience_s())):
                self._receive(pipes[pipe])  # type: ignore[index]
            self._end_overdue()
            self._hand_out()
        found, self._outcomes = self._outcomes, []
        return found

    def close(self) -> None:
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(2.0)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()
        self._workers = []

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        with _single_threaded(), _without_main():
            process = self._context.Process(  # type: ignore[attr-defined]
                target=work, args=(theirs, self._space), daemon=True, name="lepton worker"
            )
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def _hand_out(self) -> None:
        while self._again:
            worker = min(self._workers, key=lambda w: len(w.queue))
            if len(worker.queue) >= DEPTH:
                return
            batch = self._again.popleft()
            worker.began_s = worker.began_s if worker.queue else time.monotonic()
            worker.queue.append(batch)
            try:
                worker.pipe.send(batch)
            except OSError:
                self._bury(worker)

    def _receive(self, worker: _Worker) -> None:
        """Everything a worker has to say; its death is the end of its pipe."""
        try:
            while worker.pipe.poll():
                message = worker.pipe.recv()
                worker.began_s = time.monotonic()
                if message is None:
                    worker.ready = True
                    continue
                self._stillborn = 0
                self._outcomes.append(Outcome(worker.queue.popleft(), message))
        except (EOFError, OSError):
            self._bury(worker)

    def _patience_s(self) -> float:
        """Until the first worker is overdue."""
        if self._timeout_s is None:
            return math.inf
        began = [worker.began_s for worker in self._workers if worker.ready and worker.queue]
        return max(0.0, min(began, default=math.inf) + self._timeout_s - time.monotonic())

    def _end_overdue(self) -> None:
        """Kill workers that were at their first batch for too long, and put others in their place."""
        for worker in list(self._workers):
            if self._timeout_s is None or not (worker.ready and worker.queue) or worker.pipe.poll():
                continue
            if time.monotonic() - worker.began_s >= self._timeout_s:
                worker.process.kill()
                again, given_up = after_timeout(worker.queue.popleft(), self._timeout_s)
                self._outcomes += given_up
                self._again.extendleft(reversed([*again, *worker.queue]))
                self._replace(worker)

    def _bury(self, worker: _Worker) -> None:
        """Replace a worker that died; its first batch was under way, the others were not touched."""
        if worker not in self._workers:
            return
        worker.process.join(5.0)
        how = f"exit code {worker.process.exitcode}"
        given = list(worker.queue)
        if worker.ready and given:
            again, given_up = self._register.after_death(given.pop(0), how)
            self._again.extendleft(reversed(again))
            self._outcomes += given_up
        elif not worker.ready:
            self._stillborn += 1
            if self._stillborn > MAX_DEATHS * self.count:
                raise LeptonError(
                    f"error: worker processes end before they can work ({how}); see their output above"
                )
        self._again.extendleft(reversed(given))
        self._replace(worker)

    def _replace(self, worker: _Worker) -> None:
        worker.process.join(5.0)
        worker.pipe.close()
        self._workers[self._workers.index(worker)] = self._start()


def work(pipe: Connection, space: Space) -> None:
    """A worker's life: batches in, results out, until the pipe closes. A thread of its own empties the pipe, so that
    the driver never waits for a worker that is busy."""
    import queue
    import signal
    import threading

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides
    inbox: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()

    def read() -> None:
        try:
            while True:
                inbox.put(pipe.recv())
        except (EOFError, OSError):
            inbox.put(None)

    load_everything()
    gc.set_threshold(GARBAGE)
    threading.Thread(target=read, daemon=True).start()
    try:
        pipe.send(None)
        while (batch := inbox.get()) is not None:
            pipe.send(evaluate(space, batch.workload, batch.fidelity, batch.points))
    except OSError:  # the driver is gone
        return


def load_everything() -> None:
    """Import what an evaluation needs and load (or once per installation make) the machine code."""
    from sim.pipeline import simulate

    simulate("gemm:64x64x64", "tiny", dtype="int8")


def _context() -> BaseContext:
    import multiprocessing

    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sim.explore.preload"])
    return context


@contextmanager
def _single_threaded() -> Iterator[None]:
    """As many workers as cores, each with one thread: BLAS and Numba read these when they are loaded."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _without_main() -> Iterator[None]:
    """Workers need nothing of the main program; multiprocessing would run it again in each, which surprises
    whoever sweeps from a script without `if __name__ == "__main__"`."""
    from types import ModuleType

    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def default_count() -> int:
    """Processors that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def local_workers(space: Space, count: int | None, timeout_s: float | None = None) -> Workers:
    """So many processes (default: one per processor); one is this process itself, unless it may have to be ended."""
    number = default_count() if count is None else count
    return Serial(space) if number == 1 and timeout_s is None else LocalPool(space, number, timeout_s)
