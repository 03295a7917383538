"""Causes of starts, compiled: the latest predecessor, room in queues, and the way back along them; see
sim/report/causes.py and sim/report/critical_path.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.jit import jit, jit_bare, jit_inline
from sim.report.causes import Cause

HOLD, ROOM, ORDER, PREDECESSOR, RELEASE = (int(cause) for cause in Cause)


@jit_bare
def walk_back(start: Any, blocker: Any, released: Any, last: int, end: int, tasks: Any, until: Any) -> tuple[int, int]:
    """(tasks on the way, instant at which it begins) from task `last`, which ends at `end`, along the blockers to one
    that nothing held up. The way goes to `tasks` and, when each hands over, `until`, as far as there is room: from the
    end backwards."""
    count, task, at = 0, last, end
    while True:
        if count < len(tasks):
            tasks[len(tasks) - 1 - count], until[len(tasks) - 1 - count] = task, at
        count += 1
        at = start[task]
        if at == 0 or released[task]:
            return count, at
        task = blocker[task]


@jit_bare
def fill_previous(queue: Any, last: Any, previous: Any) -> None:
    """The task before each task in its queue, -1 for the first; `last` [queues] is -1."""
    for task in range(len(queue)):
        previous[task] = last[queue[task]]
        last[queue[task]] = task


@jit_inline
def latest_predecessor(task: int, pointers: Any, before: Any, finish: Any) -> tuple[int, int]:
    """Finish of a task's last predecessor and which one that is (of several the last); 0 and -1 without one."""
    ready, ready_by = 0, -1
    for place in range(pointers[task], pointers[task + 1]):
        if finish[before[place]] >= ready:
            ready, ready_by = int(finish[before[place]]), int(before[place])
    return ready, ready_by


@jit_bare
def fill_starts(
    start: Any, finish: Any, hold: Any, release: Any, queue: Any, room: Any, previous: Any, pointers: Any, before: Any,
    by_finish: Any, first: Any, place: Any, cause: Any, blocker: Any, broken: Any,
) -> None:  # fmt: skip
    """Why every task started when it did: its `cause` and `blocker` (see sim/report/causes.py). `broken` gets the first
    task that starts before its release, before the last predecessor's finish, before its queue has room, and later than
    all three.

    Task i of a queue with room for k needs i - k + 1 of
    the earlier ones finished; `by_finish`, `first` and `place` are those of `order_by_finish`.
    """
    for task in range(len(start) - 1, -1, -1):
        ready, ready_by = latest_predecessor(task, pointers, before, finish)
        of = queue[task]
        free, free_by, why = 0, previous[task], ORDER if room[of] > 0 else HOLD
        if free_by >= 0:
            free = start[free_by] + (hold[free_by] if room[of] == 0 else 0)
        if 0 < room[of] <= place[task]:
            opener = by_finish[first[of] + place[task] - room[of]]
            if finish[opener] > free:
                free, free_by, why = finish[opener], opener, ROOM
        now = start[task]
        if free_by >= 0 and now == free:
            cause[task], blocker[task] = why, free_by
        elif ready_by >= 0 and now == ready:
            cause[task], blocker[task] = PREDECESSOR, ready_by
        else:
            cause[task], blocker[task] = RELEASE, -1
        if now < release[task]:
            broken[0] = task
        if now < ready:
            broken[1] = task
        if now < free:
            broken[2] = task
        if now > max(ready, free, release[task]):
            broken[3] = task


@jit
def order_by_finish(queue: Any, room: Any, finish: Any) -> tuple[Any, Any, Any]:
    """(tasks by queue, those of a queue with room for a number by finish and else in order; where each queue's begin;
    place of every task in its queue)."""
    first = np.zeros(len(room) + 1, np.int64)
    for task in range(len(queue)):
        first[queue[task] + 1] += 1
    for number in range(len(room)):
        first[number + 1] += first[number]
    filled, order, place = np.zeros(len(room), np.int64), np.empty(len(queue), np.int64), np.empty(len(queue), np.int64)
    for task in range(len(queue)):
        of = queue[task]
        place[task] = filled[of]
        order[first[of] + filled[of]] = task
        filled[of] += 1
    for number in range(len(room)):
        if room[number] > 0 and filled[number] > room[number]:
            mine = order[first[number] : first[number + 1]].copy()
            times = np.empty(len(mine), np.int64)
            for at in range(len(mine)):
                times[at] = finish[mine[at]]
            by_finish = np.argsort(times, kind="mergesort")
            for at in range(len(mine)):
                order[first[number] + at] = mine[by_finish[at]]
    return order, first, place
