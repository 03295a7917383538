"""Why every task started when it did: the one event that let it go.

A task starts at the latest of its release, the finish of its last predecessor, and the instant its queue
had room (DESIGN: the head issues at the first instant when all three have come). Following these causes
backwards gives the critical path and the cause of every stall.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from sim.errors import InvariantViolation
from sim.program import Int8, Int64, Program, Segment
from sim.timeline import SegmentTimeline


class Cause(IntEnum):
    """What a task waited for last. The blocking task ends its hold (HOLD), finishes (PREDECESSOR, ROOM) or
    starts (ORDER) at the very tick; a RELEASE has no blocking task."""

    HOLD = 0
    ROOM = 1
    ORDER = 2
    PREDECESSOR = 3
    RELEASE = 4


@dataclass(frozen=True, slots=True)
class Starts:
    """Per task: its `cause` (a Cause) and the task `blocker` that explains its start, -1 where none does."""

    cause: Int8
    blocker: Int64


def explain(program: Program, segment: Segment, times: SegmentTimeline, previous: Int64 | None = None) -> Starts:
    """The cause of every start; where several came at the same tick, the queue's own comes first. `previous` is that of
    `previous_in_queue`, where it is known already.

    Raises InvariantViolation naming the first task that starts earlier or later than its causes allow.
    """
    ready, ready_by = _predecessors(segment, times)
    before = previous_in_queue(segment) if previous is None else previous
    free, free_by, free_cause = _queues(program, segment, times, before)
    start = times.start
    _refuse(start < segment.release, "starts before its release")
    _refuse(start < ready, "starts before a predecessor has finished")
    _refuse(start < free, "starts before its queue has room for it")
    earliest = np.maximum(np.maximum(ready, free), segment.release)
    _refuse(start > earliest, "starts later than anything it waits for")
    by_queue, by_predecessor = (free_by >= 0) & (start == free), (ready_by >= 0) & (start == ready)
    cause = np.where(by_queue, free_cause, np.where(by_predecessor, Cause.PREDECESSOR, Cause.RELEASE))
    blocker = np.where(by_queue, free_by, np.where(by_predecessor, ready_by, -1))
    return Starts(cause.astype(np.int8), blocker)


def previous_in_queue(segment: Segment) -> Int64:
    """The task before each task in its queue, -1 for the first of a queue."""
    from sim.report.walking import fill_previous

    previous = np.empty(segment.tasks, np.int64)
    fill_previous(segment.queue, np.full(int(segment.queue.max(initial=-1)) + 1, -1, np.int64), previous)
    return previous


def _predecessors(segment: Segment, times: SegmentTimeline) -> tuple[Int64, Int64]:
    """Finish of the last predecessor and which one that is; 0 and -1 without predecessors."""
    from sim.report.walking import latest_predecessors

    ready, ready_by = np.empty((2, segment.tasks), np.int64)
    latest_predecessors(segment.pptr, segment.pidx, times.finish, ready, ready_by)
    return ready, ready_by


def _queues(
    program: Program, segment: Segment, times: SegmentTimeline, before: Int64
) -> tuple[Int64, Int64, Int8]:
    """The instant each task's queue has room, the task that made it, and how (HOLD, ROOM or ORDER); `before` is the one
    before it in its queue."""
    from sim.report.walking import order_by_finish

    n, previous = segment.tasks, before.copy()
    room = program.outstanding[segment.queue].astype(np.int64)
    follows = previous >= 0
    free, cause = np.zeros(n, np.int64), np.full(n, Cause.HOLD, np.int8)
    free[follows] = times.start[previous[follows]]
    held = follows & (room == 0)
    free[held] += segment.hold[previous[held]]
    cause[room > 0] = Cause.ORDER
    # Task i of a DMA queue with room for k needs i - k + 1 of the earlier ones finished.
    by_finish, first, place = order_by_finish(segment.queue, program.outstanding, times.finish)
    full = (room > 0) & (place >= room)
    opener = by_finish[(first[segment.queue] + place - room)[full]]
    waited = times.finish[opener] > free[full]
    tasks = np.flatnonzero(full)[waited]
    free[tasks], cause[tasks] = times.finish[opener[waited]], Cause.ROOM
    previous[tasks] = opener[waited]
    return free, previous, cause


def _refuse(bad: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], law: str) -> None:
    if bad.any():
        raise InvariantViolation(f"a task {law}", task=int(np.flatnonzero(bad)[0]))
