"""Who waits for whom, compiled: the loops over users of memory and over boxes of sim/mapping/edges.py.

Pairs go to `waiting` (a task) and `before` (what it waits for).
"""

from __future__ import annotations

from typing import Any

from sim.jit import jit_bare


@jit_bare
def keep_distinct(users: Any, first: int, end: int) -> int:
    """Of the users [columns, cores] (negative: none) from column `first` to `end` those of every core, each once,
    latest first, from `first` on, and none behind them; in how many columns they are. As many columns behind `end` are
    used up."""
    most = 0
    for core in range(users.shape[1]):
        # Gathered in rising order, from the end: a range that was claimed before has its latest first.
        count = 0
        for column in range(end - 1, first - 1, -1):
            user = users[column, core]
            at = count
            while at > 0 and users[end + at - 1, core] > user:
                at -= 1
            if user < 0 or (at > 0 and users[end + at - 1, core] == user):
                continue
            for place in range(count, at, -1):
                users[end + place, core] = users[end + place - 1, core]
            users[end + at, core] = user
            count += 1
        for place in range(count):
            users[first + place, core] = users[end + count - 1 - place, core]
        for column in range(first + count, end):
            users[column, core] = -1
        most = max(most, count)
    return most


@jit_bare
def set_span(spans: Any, at: int, bottom: int, top: int, first: int, columns: int) -> None:
    """A range of addresses, and the first and the number of its columns of users."""
    spans[at, 0], spans[at, 1], spans[at, 2], spans[at, 3] = bottom, top, first, columns


@jit_bare
def take_users(spans: Any, count: int, users: Any, used: int, start: int, stop: int) -> tuple[int, int]:
    """(ranges left, end of the columns): the users of all ranges that overlap [start, stop), each once, are copied to
    the columns from `used` on; what of the ranges lies outside stays. See sim.mapping.occupancy.Occupancy."""
    kept, more, end, copied = 0, count, used, -1
    for span in range(count):
        bottom, top, first, columns = spans[span, 0], spans[span, 1], spans[span, 2], spans[span, 3]
        if top <= start or stop <= bottom:
            set_span(spans, kept, bottom, top, first, columns)
            kept += 1
            continue
        if columns and first != copied:  # not a piece of the same range as the one before
            copied = first
            for column in range(first, first + columns):
                for core in range(users.shape[1]):
                    users[end, core] = users[column, core]
                end += 1
        if bottom < start:
            set_span(spans, kept, bottom, start, first, columns)
            kept += 1
        if stop < top:
            set_span(spans, more, stop, top, first, columns)
            more += 1
    for span in range(count, more):
        set_span(spans, kept, spans[span, 0], spans[span, 1], spans[span, 2], spans[span, 3])
        kept += 1
    return kept, used + keep_distinct(users, used, end)


@jit_bare
def claim_buffers(
    spans: Any, count: int, users: Any, used: int, claims: Any, tasks: Any, of: Any, positions: Any, where: Any,
    cores: Any, waiting: Any, before: Any, left: Any, begin: int,
) -> tuple[int, int, int, int]:  # fmt: skip
    """(ranges, columns, pairs, the first claim without room), from claim `begin` on: task i waits for the
    users of its buffer's range on core `cores[of[i]]`; those of the cores at the buffer's `positions` are none then,
    and `left` [claims, 2] are the columns in which there still are any, first and number. See
    sim.mapping.occupancy.Ports."""
    pairs = 0
    for claim in range(begin, len(claims)):
        copied = 0
        for span in range(count):
            copied += spans[span, 3]
        if used + 2 * copied > len(users) or 2 * count > len(spans):
            return count, used, pairs, claim
        first_task, most, first_position, using = (
            claims[claim, 0], claims[claim, 1], claims[claim, 2], claims[claim, 3]
        )  # fmt: skip
        count, end = take_users(spans, count, users, used, where[claim, 0], where[claim, 0] + where[claim, 1])
        for task in range(first_task, first_task + most):
            core = cores[of[task]]
            for column in range(used, end):
                if users[column, core] >= 0:
                    waiting[pairs], before[pairs] = tasks[task], users[column, core]
                    pairs += 1
        for position in range(first_position, first_position + using):
            for column in range(used, end):
                users[column, cores[positions[position]]] = -1
        left[claim, 0] = used
        for column in range(left[claim, 0], end):
            some = False
            for core in range(users.shape[1]):
                users[used, core] = users[column, core]
                some = some or users[column, core] >= 0
            used += some
        left[claim, 1] = used - left[claim, 0]
    return count, used, pairs, len(claims)


@jit_bare
def release_buffers(
    spans: Any, count: int, users: Any, used: int, uses: Any, last: Any, where: Any, cores: Any, first: int, left: Any,
    other: Any,
) -> tuple[int, int]:  # fmt: skip
    """(ranges, columns): a range for every row of `uses`, whose users are the `last` of a step, with ids from `first`
    on, and what its claim `left`. All columns that a range still has go to `other`, in the order of ranges."""
    for use in range(len(uses)):
        begin, columns, claim = used, uses[use, 2], uses[use, 0]
        for column in range(columns):
            for core in range(users.shape[1]):
                users[used, core] = -1
            for position in range(len(cores)):
                users[used, cores[position]] = first + last[uses[use, 1] + position * columns + column]
            used += 1
        for column in range(left[claim, 0], left[claim, 0] + left[claim, 1]):
            for core in range(users.shape[1]):
                users[used, core] = users[column, core]
            used += 1
        set_span(spans, count, where[use, 0], where[use, 0] + where[use, 1], begin, used - begin)
        count += 1
    used = 0
    for span in range(count):
        begin = used
        for column in range(spans[span, 2], spans[span, 2] + spans[span, 3]):
            for core in range(users.shape[1]):
                other[used, core] = users[column, core]
            used += 1
        spans[span, 2] = begin
    return count, used


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
