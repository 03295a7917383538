"""Who waits for whom, compiled: the loops over users of memory and over boxes of sim/mapping/edges.py.

Pairs go to `waiting` (a task) and `before` (what it waits for).
"""

from __future__ import annotations

from typing import Any

from sim.jit import jit_bare


@jit_bare
def fill_distinct(users: Any, found: Any) -> int:
    """The users [cores, any] (negative: none) of every core, each once, latest first, in `found` [cores, any], and
    none behind them; in how many columns they are."""
    most, last = 0, found.shape[1] - 1
    for core in range(len(users)):
        # Gathered in rising order from the right end: users mostly come so.
        count = 0
        for column in range(users.shape[1]):
            user = users[core, column]
            at = 0
            while at < count and found[core, last - count + 1 + at] > user:
                at += 1
            if user < 0 or (at < count and found[core, last - count + 1 + at] == user):
                continue
            for place in range(at):
                found[core, last - count + place] = found[core, last - count + 1 + place]
            found[core, last - count + at] = user
            count += 1
        for place in range(count):
            found[core, place] = found[core, last - count + 1 + place]
        for column in range(count, last + 1):
            found[core, column] = -1
        most = max(most, count)
    return most


@jit_bare
def take_over(
    users: Any, cores: Any, tasks: Any, of: Any, positions: Any, waiting: Any, before: Any, left: Any
) -> tuple[int, int]:
    """(number of pairs, columns of `left`): task i waits for the users [cores of the chip, any] of core `cores[of[i]]`;
    those of the cores at `positions` are none then, and in `left` stand the columns in which there still are any."""
    count, columns = 0, 0
    for task in range(len(tasks)):
        core = cores[of[task]]
        for column in range(users.shape[1]):
            if users[core, column] >= 0:
                waiting[count], before[count] = tasks[task], users[core, column]
                count += 1
    for position in range(len(positions)):
        for column in range(users.shape[1]):
            users[cores[positions[position]], column] = -1
    for column in range(users.shape[1]):
        some = False
        for core in range(len(users)):
            left[core, columns] = users[core, column]
            some = some or users[core, column] >= 0
        columns += some
    return count, columns


@jit_bare
def meet(start: Any, stop: Any, at: int, by_start: Any, by_stop: Any, by: int) -> bool:
    """Does box `at` of [boxes, rank] touch box `by` of others?"""
    for axis in range(start.shape[1]):
        if start[at, axis] >= by_stop[by, axis] or by_start[by, axis] >= stop[at, axis]:
            return False
    return True


@jit_bare
def find_stores(
    tasks: Any, start: Any, stop: Any, by_start: Any, by_stop: Any, store: Any, met: Any, waiting: Any, before: Any
) -> int:
    """The number of pairs, as many of them given as there is room for: load i of the box i waits for every store
    (negative: none) of a box that it touches; `met` [stores] says which of them any load waits for."""
    count = 0
    for load in range(len(tasks)):
        for by in range(len(store)):
            if store[by] >= 0 and meet(start, stop, load, by_start, by_stop, by):
                met[by] = True
                if count < len(waiting):
                    waiting[count], before[count] = tasks[load], store[by]
                count += 1
    return count


@jit_bare
def find_writers(
    tasks: Any, core: Any, start: Any, stop: Any, by_start: Any, by_stop: Any, by_core: Any, writer: Any, waiting: Any,
    before: Any,
) -> int:  # fmt: skip
    """The number of pairs: task i on `core[i]`, which reads box i, waits for the last task on that core that wrote some
    of it, as a core's writers finish in order."""
    count = 0
    for task in range(len(tasks)):
        for back in range(len(writer)):
            by = len(writer) - 1 - back
            if by_core[by] == core[task] and meet(start, stop, task, by_start, by_stop, by):
                waiting[count], before[count] = tasks[task], writer[by]
                count += 1
                break
    return count
