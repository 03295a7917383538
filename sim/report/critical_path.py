"""The critical path: the chain of tasks, waits and transfers that the latency is made of, to the
picosecond."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim.cost.transfers import Routes, is_transfer, ticks_alone
from sim.program import Int64, Program, Segment
from sim.report.causes import Cause, Starts
from sim.timeline import SegmentTimeline

COMPUTE, LATENCY, BANDWIDTH, CONTENTION, RELEASE, WRITE_BACK = range(6)
CAUSES = ("compute", "latency", "bandwidth", "contention", "release", "write_back")
"""Why a piece takes its time: a unit computes; a transfer's head is under way; its payload crosses its
slowest link at the full speed of that link; it has to share links with others; a task is not released
yet; after the last task of a segment the cache writes lines back."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """Pieces of one segment's critical path, first to last; `duration` (ticks) adds up to the segment's length.

    `resource` is a queue number, or number of queues + link number. `cause` indexes CAUSES.
    """

    task: Int64
    op: Int64
    resource: Int64
    cause: Int64
    duration: Int64


def critical_path(
    program: Program,
    segment: Segment,
    times: SegmentTimeline,
    starts: Starts,
    routes: Routes,
    limiting: Int64,
) -> Pieces:
    """Walk back from the last finish along the causes of the starts, then split every transfer.

    A transfer on the path becomes its head latency, the time its payload needs alone at the full rate of
    its slowest link, and contention (the rest) on the link that limited it (`limiting_links`). Time: the
    number of tasks on the path.
    """
    task, until, released = _walk(times, starts)
    length = until - times.start[task]
    op, queues = segment.op[task].astype(np.int64), len(program.queues)
    queue = segment.queue[task].astype(np.int64)
    moved = is_transfer(segment)[task] & (length > 0)
    latency = np.where(moved, segment.dur[task], 0)
    alone = np.where(moved, ticks_alone(segment, routes)[task], 0)
    own = queues + routes.bottleneck[np.maximum(segment.route[task], 0)] if len(routes.rate) else queue
    first = np.zeros(len(task), np.int64)
    first[0] = released
    tail = np.zeros(len(task), np.int64)
    tail[-1] = times.tail
    columns = (
        (RELEASE, queue, first),
        (LATENCY, queue, latency),
        (BANDWIDTH, own, alone),
        (CONTENTION, queues + limiting[task], np.where(moved, length - latency - alone, 0)),
        (COMPUTE, queue, np.where(moved, 0, length)),
        (WRITE_BACK, np.full(len(task), queues + _dram_link(program)), tail),
    )
    duration = np.stack([d for _, _, d in columns], axis=1).ravel()
    keep = duration != 0
    resource = np.stack([r for _, r, _ in columns], axis=1).ravel()[keep]
    cause = np.tile([c for c, _, _ in columns], len(task))[keep]
    which = np.repeat(np.arange(len(task)), len(columns))[keep]
    return Pieces(task[which], op[which], resource, cause, duration[keep])


def _dram_link(program: Program) -> int:
    """Number of the DRAM's link, 0 where there is none."""
    return next((number for number, link in enumerate(program.links) if link.kind == "dram"), 0)


def path_ticks(segment: Segment, times: SegmentTimeline, starts: Starts) -> Int64:
    """Every operator's part of the critical path; they add up to the segment's length."""
    task, until, released = _walk(times, starts)
    length = until - times.start[task]
    length[0] += released
    length[-1] += times.tail
    return np.bincount(segment.op[task], weights=length, minlength=len(segment.ops)).astype(np.int64)


def _walk(times: SegmentTimeline, starts: Starts) -> tuple[Int64, Int64, int]:
    """Tasks of the path in time order, when each hands over, and the ticks before the first one starts."""
    from sim.report.walking import walk_back

    way = times.start, starts.blocker, starts.cause == Cause.RELEASE, int(np.argmax(times.finish)), times.end
    none = np.empty(0, np.int64)
    count, at = walk_back(*way, none, none)
    tasks, until = np.empty((2, count), np.int64)
    walk_back(*way, tasks, until)
    return tasks, until, at
