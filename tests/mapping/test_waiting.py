"""Who waits for whom, against sets and pairs written out in Python."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from sim.mapping.waiting import find_stores, find_writers, keep_distinct
from sim.mapping.written import Written

Int64 = npt.NDArray[np.int64]


def pairs(count: int, waiting: Int64, before: Int64) -> list[tuple[int, int]]:
    return list(zip(waiting[:count].tolist(), before[:count].tolist(), strict=True))


def overlap(one: tuple[Int64, Int64], other: tuple[Int64, Int64]) -> bool:
    return all(set(range(a, b)) & set(range(c, d)) for a, b, c, d in zip(*one, *other, strict=True))


def random_boxes(rng: np.random.Generator, count: int, rank: int) -> tuple[Int64, Int64]:
    start = rng.integers(0, 6, (count, rank))
    return start, start + rng.integers(1, 4, (count, rank))


@pytest.mark.parametrize("seed", range(30))
def test_users_of_every_core_once_latest_first(seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns = int(rng.integers(0, 15))
    users = rng.integers(-3, 12, (2 * columns + 2, 4))
    wanted = [sorted({u for u in row if u >= 0}, reverse=True) for row in users[2 : 2 + columns].T.tolist()]
    before = users[:2].copy()
    count = keep_distinct(users, 2, 2 + columns)
    found = users[2 : 2 + count].T
    assert count == max(map(len, wanted))
    assert [[u for u in row if u >= 0] for row in found.tolist()] == wanted
    assert all(row == sorted(row, reverse=True) for row in np.maximum(found, -1).tolist())
    assert (users[:2] == before).all()


@pytest.mark.parametrize("seed", range(20))
def test_loads_wait_for_every_store_of_what_they_read(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(0, 4))
    (start, stop), (by_start, by_stop) = random_boxes(rng, 7, rank), random_boxes(rng, 9, rank)
    tasks, store = np.arange(100, 107), np.where(rng.random(9) < 0.3, -1, np.arange(9))
    met, (waiting, before) = np.zeros(9, np.bool_), np.empty((2, 63), np.int64)
    count = find_stores(tasks, start, stop, by_start, by_stop, store, met, waiting, before)
    wanted = [
        (100 + load, by)
        for load in range(7)
        for by in range(9)
        if store[by] >= 0 and overlap((start[load], stop[load]), (by_start[by], by_stop[by]))
    ]
    assert pairs(count, waiting, before) == wanted
    assert np.flatnonzero(met).tolist() == sorted({by for _, by in wanted})
    # Without room for all of them they are counted all the same.
    few = max(0, count - 2)
    short, again = np.full((2, few), -1), np.zeros(9, np.bool_)
    assert find_stores(tasks, start, stop, by_start, by_stop, store, again, short[0], short[1]) == count
    assert pairs(few, short[0], short[1]) == wanted[:few]
    assert again.tolist() == met.tolist()


@pytest.mark.parametrize("seed", range(20))
def test_the_last_writer_on_the_core_stands_for_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    (start, stop), (by_start, by_stop) = random_boxes(rng, 7, 2), random_boxes(rng, 12, 2)
    core, by_core = rng.integers(0, 2, 7), rng.integers(0, 2, 12)
    waiting, before = np.empty((2, 7), np.int64)
    count = find_writers(
        np.arange(7), core, start, stop, by_start, by_stop, by_core, 50 + np.arange(12), waiting, before
    )
    wanted = []
    for task in range(7):
        mine = [
            by
            for by in range(12)
            if by_core[by] == core[task] and overlap((start[task], stop[task]), (by_start[by], by_stop[by]))
        ]
        wanted += [(task, 50 + max(mine))] if mine else []
    assert pairs(count, waiting, before) == wanted


def test_across_a_reshape_hulls_are_compared() -> None:
    """Rows 1 and 2 of 4 x 6, elements 6 to 18, and boxes of the same 24 elements as 2 x 12."""
    none = np.zeros(1, np.int64)
    written = Written((4, 6), np.array([[1, 0]]), np.array([[3, 6]]), none, none, none)
    start, stop = np.array([[0, 0], [0, 7], [1, 6]]), np.array([[1, 6], [1, 8], [2, 12]])
    first, last, mine, end = written.boxes(start, stop, (2, 12))
    assert (first.tolist(), last.tolist()) == ([[0], [7], [18]], [[6], [8], [24]])
    assert (mine.tolist(), end.tolist()) == ([[6]], [[18]])
    assert written.boxes(start, stop, (4, 6))[0] is start
