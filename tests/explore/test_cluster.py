"""sim/explore/cluster.py against a Dask cluster of processes on this machine, some of which are killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from spaces import PoisonedSpace, numbers, poisoned, space

from sim.errors import InputError, LeptonError
from sim.explore.progress import Progress
from sim.explore.store import open_store
from sim.explore.study import Study
from sim.explore.sweep import sweep


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two worker processes, each with a nurse that replaces it when it dies."""
    import dask
    from distributed import LocalCluster

    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        opened = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def expected() -> Study:
    return sweep(space(), workers=1)


def worker_pids(cluster: Any) -> list[int]:
    return [nanny.process.pid for nanny in cluster.workers.values() if nanny.process is not None]


def test_a_cluster_gives_the_same_study_though_workers_are_killed(cluster: Any, expected: Study) -> None:
    over = threading.Event()
    killed: list[int] = []

    def kill() -> None:
        while len(killed) < 2 and not over.wait(0.3):
            for pid in worker_pids(cluster)[:1]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        found = sweep(space(), scheduler=cluster.scheduler_address)
    finally:
        over.set()
        thread.join()
    assert killed
    pd.testing.assert_frame_equal(numbers(found), numbers(expected))


@pytest.mark.nightly
def test_a_point_that_kills_its_workers_is_failed_there_too(cluster: Any, expected: Study) -> None:
    found = sweep(poisoned(), scheduler=cluster.scheduler_address)
    bad = [row.point for row in found.rows if row.status == "failed"]
    assert bad == [PoisonedSpace.POISON]
    assert "its worker died 3 times" in next(row.error for row in found.rows if row.status == "failed")
    assert (found.table["status"] == "ok").sum() == 17


def test_no_scheduler_at_the_address() -> None:
    began = time.monotonic()
    with pytest.raises(InputError, match=r"no Dask scheduler at 'tcp://127\.0\.0\.1:9'; start one with"):
        sweep(space(), scheduler="tcp://127.0.0.1:9")
    with pytest.raises(InputError, match="no Dask scheduler at 'nonsense://x'"):
        sweep(space(), scheduler="nonsense://x")
    assert time.monotonic() - began < 120


def test_a_scheduler_that_goes_away_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    from distributed import LocalCluster

    file = tmp_path / "study.sqlite"
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as gone:
        gone_s: list[float] = []

        def end(now: Progress) -> None:
            if now.done and not gone_s:
                gone_s.append(time.monotonic())
                gone.close()

        long = space(parameters={"clock": {"from": "100 MHz", "to": "1 GHz", "step": "1 MHz"}})
        with pytest.raises(LeptonError, match="the connection to the Dask scheduler is lost"):
            sweep(long, scheduler=gone.scheduler_address, out=file, progress=end)
    assert time.monotonic() - gone_s[0] < 30
    with open_store(file) as store:
        assert 0 < store.count() < 901
