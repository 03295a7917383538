"""Workers of a Dask cluster that runs already: more than one machine, the same batches, the same results."""

from __future__ import annotations

import pickle
import queue
import re
import time
from collections import deque
from dataclasses import replace
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from sim.errors import Diagnostic, InputError, LeptonError
from sim.explore.evaluate import evaluate
from sim.explore.results import Result, Results
from sim.explore.space import Space
from sim.explore.workers import DEPTH, Batch, DeathRegister, Outcome

_ADDRESS = re.compile(r"(\w+://)?[^/\s]+:\d+/?|inproc://\S+")
CONNECT_S = 5.0
COUNT_S = 1.0
"""Workers come and go: they are counted again after so long."""


class ClusterWorkers:
    """The workers of a Dask scheduler. Dask gives a dead worker's batches to others, and gives a batch up after
    several deaths, be it under way or waiting behind another; so each of its points is then tried with nothing else on
    the cluster before it is blamed."""

    def __init__(self, space: Space, address: str) -> None:
        if find_spec("distributed") is None:
            raise InputError(Diagnostic("a scheduler needs Dask", hint="pip install 'lepton-sim[cluster]'"))
        if not _ADDRESS.fullmatch(address):
            hint = "expected an address such as tcp://192.168.0.1:8786"
            raise InputError(Diagnostic(f"no Dask scheduler at '{address}'", hint=hint))
        from distributed import Client

        connect: Any = Client
        try:
            self._client: Any = connect(address, timeout=CONNECT_S, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            hint = "start one with `dask scheduler`, and workers with `dask worker ADDRESS`"
            raise InputError(Diagnostic(f"no Dask scheduler at '{address}'", hint=hint)) from error
        self._space = pickle.dumps(
            space
        )  # small, and sent with each batch: scattered data dies with its worker
        self._register = DeathRegister()
        self._under_way: dict[str, tuple[Batch, Any]] = {}
        self._done: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._suspects: deque[Batch] = deque()
        self._alone: str = ""
        self._threads, self._counted_s = 1, -COUNT_S
        self._submitted = 0

    @property
    def count(self) -> int:
        """Threads of all workers now; at least one is hoped for."""
        if time.monotonic() - self._counted_s > COUNT_S:
            try:
                self._threads = sum(self._client.nthreads().values())
            except (OSError, TimeoutError) as error:
                raise self._lost() from error
            self._counted_s = time.monotonic()
        return max(1, self._threads)

    def room(self) -> int:
        return 0 if self._suspects or self._alone else DEPTH * self.count - len(self._under_way)

    def submit(self, batch: Batch) -> None:
        self._send(batch)

    def _send(self, batch: Batch) -> str:
        self._submitted += 1
        name = f"lepton-{batch.number}-{self._submitted}-{id(self):x}"
        future = self._client.submit(run_batch, self._space, batch, key=name, pure=False)
        self._under_way[name] = (batch, future)
        future.add_done_callback(lambda done: self._done.put(done.key))
        return name

    def wait(self, timeout_s: float) -> list[Outcome]:
        found: list[Outcome] = []
        if self._suspects and not self._under_way:
            self._alone = self._send(self._suspects.popleft())
        try:
            found += self._take(self._done.get(timeout=timeout_s))
            while True:
                found += self._take(self._done.get_nowait())
        except queue.Empty:
            if not found and self._client.status != "running":
                raise self._lost() from None
            return found

    def close(self) -> None:
        for _, future in self._under_way.values():
            future.cancel()
        self._under_way = {}
        self._client.close()

    def _take(self, name: str) -> list[Outcome]:
        """The outcome of a batch; what died with its workers is given out again, and what died too often is failed."""
        batch, future = self._under_way.pop(name)
        alone = name == self._alone
        if alone:
            self._alone = ""
        if future.status == "finished":
            return [Outcome(batch, future.result())]
        if future.status != "error":  # cancelled or lost, through no fault of the batch
            if self._client.status != "running":
                raise self._lost()
            self._send(batch)
            return []
        error = future.exception()
        how = type(error).__name__
        if how != "KilledWorker":
            failed = Result("failed", {}, f"internal error: {how}: {error}", 0.0)
            return [Outcome(batch, Results.of(failed for _ in batch.points))]
        if not alone:
            self._suspects += (replace(batch, points=(point,)) for point in batch.points)
            return []
        again, given_up = self._register.after_death(batch, how, error.allowed_failures + 1)
        self._suspects += again
        return given_up

    def _lost(self) -> LeptonError:
        where = "error: the connection to the Dask scheduler is lost"
        return LeptonError(f"{where}; what was stored stays, and the same command goes on there")


@lru_cache(maxsize=4)
def _space(pickled: bytes) -> Space:
    """Unpickled once per worker: a space keeps its base chip."""
    space: Space = pickle.loads(pickled)
    return space


def run_batch(pickled: bytes, batch: Batch) -> Results:
    """A batch on a worker of the cluster."""
    return evaluate(_space(pickled), batch.workload, batch.fidelity, batch.points)
