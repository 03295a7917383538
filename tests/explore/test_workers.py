"""sim/explore/workers.py: the same study from any number of workers, and from workers that are killed."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from spaces import MIX, PoisonedSpace, StuckSpace, numbers, poisoned, space, stuck

from sim.errors import LeptonError
from sim.explore import sweep as sweep_module
from sim.explore import workers as workers_module
from sim.explore.space import Space
from sim.explore.study import Study
from sim.explore.sweep import sweep
from sim.explore.workers import Batch, LocalPool, Serial, local_workers


@pytest.fixture(scope="module")
def expected() -> Study:
    """Evaluated one after another in this process."""
    return sweep(space(MIX), workers=1)


@contextmanager
def killer(monkeypatch: pytest.MonkeyPatch, kills: int) -> Iterator[list[int]]:
    """Kills a random worker of the next pool every few milliseconds; gives the list of those killed."""
    pools: list[LocalPool] = []
    killed: list[int] = []
    over = threading.Event()

    def opened(for_space: Space, count: int | None, timeout_s: float | None) -> LocalPool:
        pools.append(LocalPool(for_space, count or 2, timeout_s))
        return pools[-1]

    def kill() -> None:
        rng = random.Random(5)
        while len(killed) < kills and not over.wait(rng.uniform(0.02, 0.1)):
            ready = [w.process.pid for pool in pools for w in pool._workers if w.ready and w.queue]
            if ready:
                victim = rng.choice(ready)
                with suppress(ProcessLookupError):
                    os.kill(victim or 0, signal.SIGKILL)
                    killed.append(victim or 0)

    monkeypatch.setattr(sweep_module, "local_workers", opened)
    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def test_any_number_of_workers_gives_the_same_study(expected: Study) -> None:
    found = sweep(space(MIX), workers=3)
    pd.testing.assert_frame_equal(found.table.drop(columns="wall_s"), expected.table.drop(columns="wall_s"))


def test_killed_workers_cost_nothing(expected: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill blames what was under way, so a point may be blamed by chance: three are needed."""
    monkeypatch.setattr(workers_module, "MAX_DEATHS", 50)
    with killer(monkeypatch, kills=6) as killed:
        found = sweep(space(MIX), workers=2)
    assert len(killed) >= 3
    pd.testing.assert_frame_equal(numbers(found), numbers(expected))


def test_a_point_that_kills_its_worker_three_times_is_failed(expected: Study) -> None:
    found = sweep(poisoned(MIX), workers=2)
    bad = found.table["status"] == "failed"
    assert [row.point for row, is_bad in zip(found.rows, bad, strict=True) if is_bad] == [
        PoisonedSpace.POISON
    ]
    assert found.table[bad]["error"].iloc[0].splitlines() == [
        f"{name}: its worker died 3 times while it was under way (exit code -9)" for name in ("wide", "deep")
    ]
    others = numbers(expected)[~numbers(expected)["key"].isin(found.table[bad]["key"])]
    pd.testing.assert_frame_equal(
        numbers(found)[~numbers(found)["key"].isin(found.table[bad]["key"])][
            ["key", "latency_s", "energy_j"]
        ],
        others[["key", "latency_s", "energy_j"]],
    )


def test_a_point_that_hangs_is_failed_and_not_tried_again_unless_asked(
    expected: Study, tmp_path: Path
) -> None:
    file = tmp_path / "s.sqlite"
    found = sweep(stuck(), workers=1, timeout_s=1.0, out=file)
    bad = found.table["status"] == "failed"
    assert [row.point for row, is_bad in zip(found.rows, bad, strict=True) if is_bad] == [StuckSpace.STUCK]
    assert found.table[bad]["error"].tolist() == [
        "no result after 1 s (--timeout): its worker was ended"
    ]
    wide = expected.table[["wide.latency_s", "wide.energy_j"]][~bad].to_numpy()
    assert found.table[["latency_s", "energy_j"]][~bad].to_numpy(float).tolist() == wide.tolist()
    again = sweep(space(), workers=1, out=file)
    assert again.table["status"].tolist() == found.table["status"].tolist()
    cured = sweep(space(), workers=1, retry_failed=True, out=file)
    assert (cured.table["status"] == "ok").all()


def test_the_clock_of_a_batch_starts_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that waits behind others or for a worker to start is not blamed for them; a batch of several is split."""
    now = [100.0]
    monkeypatch.setattr(workers_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    pool = LocalPool(space(), 1, timeout_s=50.0)
    try:
        for number in (1, 2):
            pool.submit(Batch(number, 0, "event", ((0, 0, 0),)))
        now[0] = 1000.0  # before the worker has told that it is ready
        found = pool.wait(60.0)
        while len(found) < 2:
            now[0] += 40.0
            found += pool.wait(60.0)
        assert [one.results.status for one in found] == [["ok"], ["ok"]]
    finally:
        pool.close()
    many = Batch(3, 0, "bound", ((0, 0, 0), (0, 0, 1)))
    again, given_up = workers_module.after_timeout(many, 2.0)
    assert [one.points for one in again] == [((0, 0, 0),), ((0, 0, 1),)]
    assert not given_up


def test_only_what_was_under_way_is_blamed() -> None:
    register = workers_module.DeathRegister()
    batch = Batch(1, 0, "event", ((0, 0), (0, 1)))
    again, lost = register.after_death(batch, "x")
    assert ([one.points for one in again], lost) == ([((0, 0),), ((0, 1),)], [])
    for expected_lost in (0, 1):
        again, lost = register.after_death(again[0], "exit code -9")
        assert len(lost) == expected_lost
    assert lost[0].results[0].status == "failed"
    assert lost[0].batch.points == ((0, 0),)


def test_workers_that_cannot_start_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unreadable(Space):
        """Breaks where the worker unpickles it."""

        def __reduce__(self) -> tuple[object, ...]:
            return os._exit, (7,)

    one = space()
    broken = Unreadable(one.name, one.chip_data, one.workloads, one.axes)
    pool = LocalPool(broken, 1)
    pool.submit(Batch(1, 0, "event", ((0, 0, 0),)))
    with pytest.raises(LeptonError, match=r"end before they can work \(exit code 7\)"):
        _until_it_raises(pool)
    pool.close()


def _until_it_raises(pool: LocalPool) -> None:
    for _ in range(20):
        pool.wait(5.0)


def test_one_worker_is_this_process() -> None:
    assert isinstance(local_workers(space(), 1), Serial)


def test_workers_end_with_their_driver(expected: Study) -> None:
    pool = local_workers(space(), 2)
    assert isinstance(pool, LocalPool)
    pids = pool.process_ids
    pool.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
