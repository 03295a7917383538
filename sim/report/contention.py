"""Which link really limited each transfer, all the others on their way considered."""

from __future__ import annotations

import numpy as np

from sim.cost.transfers import Float64, is_transfer, ranges
from sim.program import BYTE_UNITS, PAYLOAD_WEIGHT, Int64, Program, Segment
from sim.timeline import SegmentTimeline


def limiting_links(program: Program, segment: Segment, times: SegmentTimeline) -> Int64:
    """For every task the link of its route that was busiest while its payload flowed; -1 for tasks that
    move nothing.

    A fair share is limited by a saturated link, so the busiest link of the route is the one that a transfer
    waited for: its own slowest link if it had that for itself, else where it met others. Between the start
    and the end of its flow each transfer is taken to run at its average rate. Of equally busy links the
    first of the route is named.
    """
    limiting = np.full(segment.tasks, -1, np.int64)
    moves = np.flatnonzero(is_transfer(segment))
    if len(moves) == 0:
        return limiting
    lengths = np.diff(program.route_ptr)[segment.route[moves]].astype(np.int64)
    entry = ranges(program.route_ptr[segment.route[moves]].astype(np.int64), lengths)
    transfer = np.repeat(np.arange(len(moves), dtype=np.int32), lengths)
    begin, end = (times.start + segment.dur)[moves], times.finish[moves]
    rate = segment.nbytes[moves] / (end - begin)
    link, weight = program.route_link[entry], program.route_weight[entry] / PAYLOAD_WEIGHT
    order = np.argsort(link, kind="stable")
    first = np.searchsorted(link[order], np.arange(len(program.links) + 1))
    capacity = program.capacity / BYTE_UNITS
    busy = np.zeros(len(entry))
    for number in np.unique(link).tolist():
        here = order[first[number] : first[number + 1]]
        on_link = transfer[here]
        carried = _average_rate(begin[on_link], end[on_link], rate[on_link] * weight[here])
        busy[here] = carried / capacity[number]
    # Rounded, so that equally busy links stay equal whatever the order their loads were added in.
    offset = np.cumsum(lengths) - lengths
    busy = np.round(busy, 6)
    most = np.maximum.reduceat(busy, offset)
    place = np.flatnonzero(busy == most[transfer])[::-1]
    limiting[moves[transfer[place]]] = link[place]
    return limiting


def _average_rate(begin: Int64, end: Int64, rate: Float64) -> Float64:
    """Bytes per tick that all flows of a link carry together, averaged over the interval of each of them."""
    instants = np.concatenate([begin, end])
    order = np.argsort(instants, kind="stable")
    at = instants[order]
    slope = np.cumsum(np.concatenate([rate, -rate])[order])
    carried = np.concatenate([[0.0], np.cumsum(slope[:-1] * np.diff(at))])
    total = np.interp(end, at, carried) - np.interp(begin, at, carried)
    return np.asarray(total / (end - begin), np.float64)
