"""Workers of a Dask cluster that runs already: more than one machine, the same batches, the same results."""

from __future__ import annotations

import queue
from importlib.util import find_spec
from typing import Any

from sim.errors import Diagnostic, InputError
from sim.explore.evaluate import Result, evaluate
from sim.explore.space import Space
from sim.explore.workers import DEPTH, Batch, DeathRegister, Outcome

CONNECT_S = 10.0


class ClusterWorkers:
    """The workers of a Dask scheduler. Dask gives a dead worker's batches to others, and gives a batch up after
    several deaths; its points are then tried one by one, as in a local pool."""

    def __init__(self, space: Space, address: str) -> None:
        if find_spec("distributed") is None:
            raise InputError(Diagnostic("a scheduler needs Dask", hint="pip install 'lepton-sim[cluster]'"))
        from distributed import Client

        connect: Any = Client
        try:
            self._client: Any = connect(address, timeout=CONNECT_S, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            hint = "start one with `dask scheduler`, and workers with `dask worker ADDRESS`"
            raise InputError(Diagnostic(f"no Dask scheduler at '{address}'", hint=hint)) from error
        self._space = self._client.scatter(space, broadcast=False)
        self._register = DeathRegister()
        self._under_way: dict[str, tuple[Batch, Any]] = {}
        self._done: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._submitted = 0

    @property
    def count(self) -> int:
        """Threads of all workers now; at least one is hoped for."""
        threads: int = sum(self._client.nthreads().values())
        return max(1, threads)

    def room(self) -> int:
        return DEPTH * self.count - len(self._under_way)

    def submit(self, batch: Batch) -> None:
        self._submitted += 1
        name = f"lepton-{batch.number}-{self._submitted}-{id(self):x}"
        future = self._client.submit(run_batch, self._space, batch, key=name, pure=False)
        self._under_way[name] = (batch, future)
        future.add_done_callback(lambda done: self._done.put(done.key))

    def wait(self, timeout_s: float) -> list[Outcome]:
        found: list[Outcome] = []
        try:
            found += self._take(self._done.get(timeout=timeout_s))
            while True:
                found += self._take(self._done.get_nowait())
        except queue.Empty:
            return found

    def close(self) -> None:
        for _, future in self._under_way.values():
            future.cancel()
        self._under_way = {}
        self._client.close()

    def _take(self, name: str) -> list[Outcome]:
        """The outcome of a batch; what died with its workers is given out again, and what died too often is failed."""
        batch, future = self._under_way.pop(name)
        if future.status == "finished":
            return [Outcome(batch, future.result())]
        error = future.exception() if future.status == "error" else None
        how = type(error).__name__ if error is not None else str(future.status)
        if how != "KilledWorker" and error is not None:
            failed = Result("failed", {}, f"internal error: {how}: {error}", 0.0)
            return [Outcome(batch, tuple(failed for _ in batch.points))]
        again, given_up = self._register.after_death(batch, how)
        for one in again:
            self.submit(one)
        return given_up


def run_batch(space: Space, batch: Batch) -> tuple[Result, ...]:
    """A batch on a worker of the cluster."""
    return tuple(evaluate(space, batch.workload, batch.fidelity, batch.points))
