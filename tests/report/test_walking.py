"""Causes of starts, compiled: against the same written out task by task."""

from __future__ import annotations

import numpy as np
import pytest

from sim.report.walking import fill_previous, latest_predecessor, order_by_finish, walk_back


@pytest.mark.parametrize("seed", range(10))
def test_the_last_predecessor_to_finish_lets_a_task_go(seed: int) -> None:
    """Of several that finish together the one that stands last; a task without any is ready at 0."""
    rng = np.random.default_rng(seed)
    lists = [rng.integers(0, task, rng.integers(0, min(task, 5) + 1)).tolist() for task in range(30)]
    pointers, before = np.cumsum([0, *map(len, lists)]), np.array([p for row in lists for p in row], np.int32)
    finish = rng.integers(1, 6, 30)
    for task, row in enumerate(lists):
        latest = max((int(finish[p]) for p in row), default=0)
        by = next((p for p in reversed(row) if finish[p] == latest), -1)
        assert latest_predecessor(task, pointers, before, finish) == (latest, by)


@pytest.mark.parametrize("seed", range(10))
def test_tasks_by_queue_and_finish(seed: int) -> None:
    """Queue 1 has no task. Where a queue has room for a number, earlier tasks come first of those that finish
    together."""
    rng = np.random.default_rng(seed)
    queue = rng.choice([0, 2, 3], 40).astype(np.int32)
    room, finish = np.array([0, 4, 3, 2], np.int32), rng.integers(1, 9, 40)
    order, first, place = order_by_finish(queue, room, finish)
    previous = np.empty(40, np.int64)
    fill_previous(queue, np.full(4, -1, np.int64), previous)
    for number in range(4):
        mine = np.flatnonzero(queue == number).tolist()
        assert first[number + 1] - first[number] == len(mine)
        assert place[mine].tolist() == list(range(len(mine)))
        assert previous[mine].tolist() == [-1, *mine][:-1][: len(mine)]
        wanted = sorted(mine, key=lambda task: int(finish[task])) if room[number] else mine
        assert order[first[number] : first[number + 1]].tolist() == wanted


def test_the_way_back_goes_along_blockers_to_a_release() -> None:
    start, blocker = np.array([5, 9, 12, 20]), np.array([-1, 0, 1, 2])
    released = np.array([True, False, False, False])
    tasks, until = np.empty((2, 4), np.int64)
    assert walk_back(start, blocker, released, 3, 33, tasks, until) == (4, 5)
    assert (tasks.tolist(), until.tolist()) == ([0, 1, 2, 3], [9, 12, 20, 33])
    # Nothing held up what starts at once; with less room the end of the way is told, and how long it is.
    short, when = np.empty((2, 2), np.int64)
    assert walk_back(np.array([0, 9, 12, 20]), blocker, ~released & False, 3, 33, short, when) == (4, 0)
    assert (short.tolist(), when.tolist()) == ([2, 3], [20, 33])
