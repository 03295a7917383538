"""Where the time of every compute unit went, and how much of the traffic hides behind compute."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.cost.transfers import is_transfer
from sim.program import Int64, Program, Segment
from sim.report.causes import Cause, Starts, previous_in_queue
from sim.timeline import SegmentTimeline

COMPUTE_UNITS = ("array", "vector")

BUSY, DRAM, INTERCONNECT, HOST, CHIP_LINKS, TRANSFER_LATENCY, DEPENDENCY, RELEASE, FILL_DRAIN, NO_WORK = range(10)
STALLS = (
    "busy",
    "dram",
    "interconnect",
    "host",
    "chip_links",
    "transfer_latency",
    "dependency",
    "release",
    "fill_drain",
    "no_work",
)
"""What a unit does or waits for: the payload of a transfer that memory, the interconnect (DMA and cache
included), the host or the links to other chips limit; the head latency of a transfer; a result of another unit; a
release; the run to begin or end (before the first and after the last compute task of any unit); work, its own being
over."""

_OF_LINK_KIND = {
    "dram": DRAM,
    "port": DRAM,
    "noc": INTERCONNECT,
    "dma": INTERCONNECT,
    "cache": INTERCONNECT,
    "host": HOST,
    "chip_links": CHIP_LINKS,
}


def compute_queues(program: Program) -> Int64:
    """Numbers of the array and vector queues."""
    return np.flatnonzero(is_compute(program))


def is_compute(program: Program) -> npt.NDArray[np.bool_]:
    """Of every queue: is it of an array or a vector unit?"""
    return np.array([queue.unit in COMPUTE_UNITS for queue in program.queues], np.bool_)


def queue_stalls(
    program: Program, segment: Segment, times: SegmentTimeline, starts: Starts, limiting: Int64
) -> Int64:
    """Ticks of each compute queue (rows, as `compute_queues`) by STALLS (columns); every row adds up to the
    end.

    A unit is busy while a task holds it. A gap before a task is followed back through the causes of that
    task's start until the gap's beginning; each part of it goes to what was under way then.
    """
    queues = compute_queues(program)
    row_of_queue = np.full(len(program.queues), -1, np.int64)
    row_of_queue[queues] = np.arange(len(queues))
    row = row_of_queue[segment.queue]
    mine = np.flatnonzero(row >= 0)
    ticks = np.zeros((len(queues), len(STALLS)), np.int64)
    end = times.length
    if len(mine) == 0:
        ticks[:, NO_WORK] = end
        return ticks
    free = times.start + segment.hold
    np.add.at(ticks[:, BUSY], row[mine], segment.hold[mine])
    first, last = int(times.start[mine].min()), int(free[mine].max())
    over = np.full(len(queues), first, np.int64)
    np.maximum.at(over, row[mine], free[mine])
    ticks[:, NO_WORK] = last - over
    ticks[:, FILL_DRAIN] = first + end - last
    previous = previous_in_queue(segment)[mine]
    idle_from = np.where(previous >= 0, free[previous], first)
    _follow(ticks, row[mine], mine, idle_from, segment, times, starts, _payload_stall(program, limiting))
    return ticks


def _payload_stall(program: Program, limiting: Int64) -> Int64:
    """The stall that waiting for each task's payload is: by the kind of link that limited it, or
    DEPENDENCY."""
    of_link = [_OF_LINK_KIND[link.kind] for link in program.links]
    return np.array([*of_link, DEPENDENCY], np.int64)[limiting]


def _follow(
    ticks: Int64,
    row: Int64,
    task: Int64,
    idle_from: Int64,
    segment: Segment,
    times: SegmentTimeline,
    starts: Starts,
    payload: Int64,
) -> None:
    """Attribute the gaps [idle_from, start of task]: all gaps one step back at a time, until each is used
    up."""
    until = times.start[task]
    moves = is_transfer(segment)
    while True:
        open_gap = until > idle_from
        row, task, idle_from, until = row[open_gap], task[open_gap], idle_from[open_gap], until[open_gap]
        if len(row) == 0:
            return
        released = starts.cause[task] == Cause.RELEASE
        by = np.where(released, task, starts.blocker[task])
        since = np.where(released, idle_from, np.maximum(times.start[by], idle_from))
        head_end = np.where(moves[by] & ~released, times.start[by] + segment.dur[by], since)
        head = np.clip(head_end, since, until) - since
        np.add.at(ticks, (row, np.full(len(row), TRANSFER_LATENCY)), head)
        np.add.at(ticks, (row, np.where(released, RELEASE, payload[by])), until - since - head)
        task, until = by, since


@dataclass(frozen=True, slots=True)
class Overlap:
    """Ticks in which only compute, only transfers, both, or neither were under way; they add up to the
    end."""

    compute: int
    exposed_transfer: int
    overlapped: int
    idle: int


def segment_overlap(segment: Segment, times: SegmentTimeline) -> Overlap:
    """How much of one run of the segment is compute, exposed transfer and overlapped transfer."""
    moves = is_transfer(segment)
    everything = np.zeros(segment.tasks, np.int64)
    compute = int(_union(everything[~moves], times.start[~moves], times.finish[~moves], 1)[0])
    transfer = int(_union(everything[moves], times.start[moves], times.finish[moves], 1)[0])
    either = int(_union(everything, times.start, times.finish, 1)[0])
    # Between the last task and what follows only write-backs are under way.
    exposed = either - compute + times.tail
    return Overlap(either - transfer, exposed, compute + transfer - either, times.end - either)


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """Ticks by operator: `active` with any of its tasks under way, `compute` and `transfer` with tasks of
    that sort, `exposed_transfer` the part of its transfers behind which no unit of the chip computes."""

    active: Int64
    compute: Int64
    transfer: Int64
    exposed_transfer: Int64


def operator_time(segment: Segment, times: SegmentTimeline) -> OperatorTime:
    """Active time of every operator in one run of the segment."""
    moves, ops = is_transfer(segment), len(segment.ops)
    op, start, finish = segment.op, times.start, times.finish
    busy = _merged(np.zeros(int((~moves).sum()), np.int64), start[~moves], finish[~moves])
    _, own_start, own_finish = merged = _merged(op[moves], start[moves], finish[moves])
    hidden = _covered(busy, own_finish) - _covered(busy, own_start)
    exposed = np.bincount(merged[0], weights=own_finish - own_start - hidden, minlength=ops)
    return OperatorTime(
        active=_union(op, start, finish, ops),
        compute=_union(op[~moves], start[~moves], finish[~moves], ops),
        transfer=_union(op[moves], start[moves], finish[moves], ops),
        exposed_transfer=exposed.astype(np.int64),
    )


def _merged(
    group: npt.NDArray[np.integer], start: Int64, finish: Int64
) -> tuple[npt.NDArray[np.integer], Int64, Int64]:
    """Disjoint intervals of the union of each group's intervals, ordered by group and start."""
    order = np.lexsort((start, group))
    group, start, finish = group[order], start[order], finish[order]
    if len(order) == 0:
        return group, start, finish
    # Shift every group behind the one before, so that one running maximum serves them all.
    span = int(finish.max()) + 1
    shift = group.astype(np.int64) * span
    reach = np.maximum.accumulate(finish + shift)
    fresh = np.ones(len(order), np.bool_)
    fresh[1:] = start[1:] + shift[1:] > reach[:-1]
    begin = np.flatnonzero(fresh)
    stop = np.append(begin[1:], len(order)) - 1
    return group[begin], start[begin], reach[stop] - shift[stop]


def _union(group: npt.NDArray[np.integer], start: Int64, finish: Int64, groups: int) -> Int64:
    """Length of the union of each group's intervals."""
    owner, begin, end = _merged(group, start, finish)
    return np.bincount(owner, weights=end - begin, minlength=groups).astype(np.int64)


def _covered(intervals: tuple[npt.NDArray[np.integer], Int64, Int64], at: Int64) -> Int64:
    """Ticks of disjoint ordered intervals that lie before each instant `at`."""
    _, begin, end = intervals
    if len(begin) == 0:
        return np.zeros_like(at)
    before = np.concatenate([[0], np.cumsum(end - begin)])
    index = np.searchsorted(begin, at, side="right") - 1
    inside = np.minimum(at, end[np.maximum(index, 0)]) - begin[np.maximum(index, 0)]
    return np.asarray(np.where(index >= 0, before[np.maximum(index, 0)] + inside, 0), np.int64)
