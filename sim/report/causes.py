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


_LAWS = (
    "starts before its release",
    "starts before a predecessor has finished",
    "starts before its queue has room for it",
    "starts later than anything it waits for",
)


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
    from sim.report.walking import fill_starts, order_by_finish

    before = previous_in_queue(segment) if previous is None else previous
    by_finish = order_by_finish(segment.queue, program.outstanding, times.finish)
    cause, blocker = np.empty(segment.tasks, np.int8), np.empty(segment.tasks, np.int64)
    broken = np.full(len(_LAWS), segment.tasks, np.int64)
    fill_starts(
        times.start, times.finish, segment.hold, segment.release, segment.queue, program.outstanding, before,
        segment.pptr, segment.pidx, *by_finish, cause, blocker, broken,
    )  # fmt: skip
    for law, task in zip(_LAWS, broken.tolist(), strict=True):
        if task < segment.tasks:
            raise InvariantViolation(f"a task {law}", task=task)
    return Starts(cause, blocker)


def previous_in_queue(segment: Segment) -> Int64:
    """The task before each task in its queue, -1 for the first of a queue."""
    from sim.report.walking import fill_previous

    previous = np.empty(segment.tasks, np.int64)
    fill_previous(segment.queue, np.full(int(segment.queue.max(initial=-1)) + 1, -1, np.int64), previous)
    return previous
