"""What the chip did when: utilisation and bandwidth in equal slices of the run, and who held each queue.

Both tables stay small however many tasks there are, so that a run folder can keep them and figures need no engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.cost.traffic import dram_directions
from sim.cost.transfers import LINK_KINDS, Bool, Float64, Routes, ranges, segment_moves
from sim.program import BYTE_UNITS, PAYLOAD_WEIGHT, Int64, Program, Segment
from sim.report.account import Account
from sim.report.ramps import Ramps
from sim.report.stalls import COMPUTE_UNITS
from sim.report.tables import Table
from sim.timeline import SegmentTimeline
from sim.units import PS_PER_S

SLICES = 400
"""Slices of the activity table."""
MOST_SPANS = 40_000
"""About as many rows has the longest timeline table: chips with many queues get fewer slices."""
_UTILIZATION, _ARRIVED, _DUE = "_utilization", ">", "<"
BANDWIDTHS = ("dram_read", "dram_write", "noc_injected", "host", "chip_links")


@dataclass(frozen=True, slots=True)
class _Flow:
    """Work that goes on evenly between two instants (ticks); one entry per piece."""

    begin: Int64
    end: Int64
    amount: Float64

    def curves(self, name: str, at: Float64) -> dict[str, Float64]:
        """Work done before each instant as column `name`; of a link also the most and least that can be done by
        then: all that has begun to flow, and all that has ended."""
        found = {name: Ramps(self.begin, self.end).until(self.amount, at)}
        kind = name.removesuffix(_UTILIZATION)
        if kind in LINK_KINDS:
            for bound, instants, side in ((_ARRIVED, self.begin, "left"), (_DUE, self.end, "right")):
                order = np.argsort(instants, kind="stable")
                total = np.concatenate([[0.0], np.cumsum(self.amount[order])])
                found[kind + bound] = total[np.searchsorted(instants[order], at, side=side)]  # type: ignore[call-overload]
        return found


def activity(account: Account, slices: int = SLICES) -> Table:
    """Equal slices of the run: `start_s`, `end_s`, then for every kind of unit and link the chip has the mean
    `KIND_utilization` of all of that kind, and `dram_read`, `dram_write`, `noc_injected` and `host` as
    `..._bytes_per_s`. Repeats are expanded. A closed form has no columns.

    A unit counts as utilised while a task holds it; a link by the bytes it carries (times the weight of a bad DRAM
    pattern) over its capacity. The payload of one transfer is spread evenly from the end of its head latency to its
    finish, while its rate really changes as others come and go. Where that would put more on a kind of link than it
    carries, work moves to the nearest slices with room, half of it earlier and half later, though not before it
    could begin or after it was over. Totals are exact.
    """
    if not account.observed:
        return {}
    program, routes = account.program, account.routes
    edges = np.linspace(0.0, float(account.latency_ps), slices + 1)
    done: dict[str, Float64] = {}
    offset = 0
    for seen, s in account.observed:
        end = seen.times.length
        at = np.clip(edges - offset, 0.0, float(end * s.repeats))
        whole = np.minimum(at // end, s.repeats - 1)
        for name, flow in _flows(program, s.segment, seen.times, routes):
            for column, curve in flow.curves(name, at - whole * end).items():
                work = curve + whole * float(flow.amount.sum())
                done[column] = done.get(column, np.zeros(slices + 1)) + work
        offset += end * s.repeats
    _respect_capacity(done, edges)
    seconds = np.diff(edges) / PS_PER_S
    columns = {"start_s": edges[:-1] / PS_PER_S, "end_s": edges[1:] / PS_PER_S}
    shown = (name for name in done if not name.endswith((_ARRIVED, _DUE)))
    columns |= {name: np.maximum(np.diff(done[name]), 0.0) / seconds for name in shown}
    return {name: values.tolist() for name, values in columns.items()}


def _flows(
    program: Program, segment: Segment, times: SegmentTimeline, routes: Routes
) -> Iterator[tuple[str, _Flow]]:
    """Column -> seconds of work (utilisations) or bytes of one run of the segment."""
    unit = np.array([queue.unit for queue in program.queues])
    for name in COMPUTE_UNITS:
        if count := int((unit == name).sum()):
            mine = unit[segment.queue] == name
            held = segment.hold[mine]
            start = times.start[mine]
            yield f"{name}_utilization", _Flow(start, start + held, held / PS_PER_S / count)
    moves = segment_moves(segment, times.probed)
    route, nbytes = moves.route, moves.nbytes
    # When a background flow ended is not recorded: as if it went on beside its transfer.
    begin, end = times.start[moves.task] + moves.dur, times.finish[moves.task]
    # A payload can end within its last tick: it still flows for one.
    begin = np.minimum(begin, end - 1)
    for name, weight in _link_weights(program).items():
        yield f"{name}_utilization", _Flow(begin, end, nbytes * weight[route])
    hops = routes.hops[route]
    on_dram, on_host = routes.crossings["dram"][route] > 0, routes.crossings["host"][route] > 0
    reads, writes = dram_directions(moves.kind, on_dram, on_host)
    exchanged = nbytes * routes.exchanged[route]
    injected = (nbytes + 2 * exchanged) * (hops > 0)
    flows = (nbytes * reads, nbytes * writes, injected, nbytes * on_host, exchanged)
    for name, flow in zip(BANDWIDTHS, flows, strict=True):
        some = flow > 0
        yield f"{name}_bytes_per_s", _Flow(begin[some], end[some], flow[some].astype(np.float64))


def _respect_capacity(done: dict[str, Float64], edges: Float64) -> None:
    """Shift work in time so that no kind of link is above 1; bandwidths move with the link that limits them."""
    at = edges / PS_PER_S
    for kind in LINK_KINDS:
        work = done.get(f"{kind}_utilization")
        if work is None or not (np.diff(work) > np.diff(at)).any():
            continue
        late = np.maximum(_postponed(work, at), _advanced(done[kind + _DUE], at))
        early = np.minimum(_advanced(work, at), _postponed(done[kind + _ARRIVED], at))
        shifted = (early + late) / 2
        # The instant at which as much had been done before the shift: whatever else flowed there comes along.
        was_at = np.interp(shifted, work, at)
        for name in BANDWIDTHS:
            if name.startswith(kind):
                column = f"{name}_bytes_per_s"
                done[column] = np.interp(was_at, at, done[column])
                done[column][-1] = done[column].max()
        done[f"{kind}_utilization"] = shifted


def _postponed(work: Float64, at: Float64) -> Float64:
    """The most work that can be done by each instant, never ahead of `work` and never faster than 1."""
    return np.asarray(np.minimum.accumulate(work - at) + at, np.float64)


def _advanced(work: Float64, at: Float64) -> Float64:
    """The least work that must be done by each instant to keep up with `work` at a speed of at most 1."""
    return np.asarray(np.maximum.accumulate((work - at)[::-1])[::-1] + at, np.float64)


def _link_weights(program: Program) -> dict[str, Float64]:
    """For each kind of link the chip has, by route: seconds that a byte takes of all links of that kind together."""
    owner = np.repeat(np.arange(len(program.route_ptr) - 1), np.diff(program.route_ptr))
    link = program.route_link
    seconds = program.route_weight / PAYLOAD_WEIGHT * BYTE_UNITS / program.capacity[link] / PS_PER_S
    kind = np.array([one.kind for one in program.links])
    found: dict[str, Float64] = {}
    for name in LINK_KINDS:
        if count := int((kind == name).sum()):
            found[name] = np.zeros(len(program.route_ptr) - 1)
            np.add.at(found[name], owner, np.where(kind[link] == name, seconds / count, 0.0))
    return found


def timeline(account: Account, most: int = MOST_SPANS) -> Table:
    """Who held which queue when, for a Gantt chart: one row per stretch in which one operator has most of a queue.

    Columns: resource, unit, core, op, `start_ps`, `end_ps`, `busy_ps` (the operator's task time within the stretch: a
    transfer queue may have several under way) and `held_ps` (that of all operators in its slices). The run is cut
    into slices, few enough for about `most` rows; in each slice the operator with most task time has the queue.
    Stretches begin and end with tasks, not with slices. Repeats are expanded; of repeats shorter than a slice
    one row stands for all. A closed form has no columns.
    """
    if not account.observed:
        return {}
    program = account.program
    used = np.unique(np.concatenate([s.segment.queue for s in account.segments])).size
    slice_ps = max(1.0, account.latency_ps / min(1200, max(50, most // max(1, used))))
    rows: list[Int64] = []
    names: list[str] = []
    offset, moved = 0, np.array([0, 0, 1, 1, 0, 0], np.int64)  # columns that count from the start of the run
    for seen, s in account.observed:
        end = seen.times.length
        slices = max(1, round(end / slice_ps))
        spans = _spans(program, s.segment, seen.times, slices)
        spans[:, 1] += len(names)
        if slices == 1:
            spans[:, 3] += end * (s.repeats - 1)
            spans[:, 4:] *= s.repeats
            rows.append(spans + offset * moved)
        else:
            rows += [spans + (offset + end * n) * moved for n in range(s.repeats)]
        names += [op.name for op in s.segment.ops]
        offset += end * s.repeats
    table = np.concatenate(rows)
    table = table[np.lexsort((table[:, 2], table[:, 0]))]
    queues = [program.queues[i] for i in table[:, 0].tolist()]
    return {
        "resource": [queue.name for queue in queues],
        "unit": [queue.unit for queue in queues],
        "core": [queue.core for queue in queues],
        "op": [names[i] for i in table[:, 1].tolist()],
        **{
            name: table[:, column].tolist()
            for column, name in enumerate(("start_ps", "end_ps", "busy_ps", "held_ps"), 2)
        },
    }


def _spans(program: Program, segment: Segment, times: SegmentTimeline, slices: int) -> Int64:
    """Rows (queue, op, start, end, busy, held) of one run of a segment that is cut into `slices`."""
    width = -(-times.end // slices)
    begin = times.start
    end = np.where(program.outstanding[segment.queue] > 0, times.finish, begin + segment.hold)
    task, slice_number = _cut(begin, end, width)
    first = np.maximum(begin[task], slice_number * width)
    last = np.minimum(end[task], (slice_number + 1) * width)
    cell = segment.queue[task].astype(np.int64) * slices + slice_number
    pieces = np.column_stack([cell, segment.op[task], first, last])
    cells, ops, starts, ends, busy = _by_cell_and_op(pieces)
    # Of every (queue, slice) the operator with most task time; then neighbours of the same operator together.
    order = np.lexsort((-busy, cells))
    at = np.flatnonzero(np.append(True, np.diff(cells[order]) > 0))
    starts, ends = np.minimum.reduceat(starts[order], at), np.maximum.reduceat(ends[order], at)
    held = np.add.reduceat(busy[order], at)
    cells, ops, busy = (column[order[at]] for column in (cells, ops, busy))
    queue = cells // slices
    fresh = np.append(True, (np.diff(cells) != 1) | (np.diff(ops) != 0) | (np.diff(queue) != 0))
    at = np.flatnonzero(fresh)
    last_of = np.append(at[1:], len(fresh)) - 1
    own, all_of = (np.add.reduceat(each, at) for each in (busy, held))
    return np.column_stack([queue[at], ops[at], starts[at], ends[last_of], own, all_of])


def _cut(begin: Int64, end: Int64, width: int) -> tuple[Int64, Int64]:
    """Every task once per slice that it touches: (task, slice)."""
    first, last = begin // width, (end - 1) // width
    count = last - first + 1
    return np.repeat(np.arange(len(begin)), count), ranges(first, count)


def _by_cell_and_op(pieces: Int64) -> Sequence[Int64]:
    """Cell, operator, first begin, last end and summed length of the pieces of each operator in each cell."""
    pieces = pieces[np.lexsort((pieces[:, 1], pieces[:, 0]))]
    cell, op, begin, end = pieces.T
    fresh: Bool = np.append(True, (np.diff(cell) != 0) | (np.diff(op) != 0))
    at: npt.NDArray[np.intp] = np.flatnonzero(fresh)
    reduce = (np.minimum.reduceat(begin, at), np.maximum.reduceat(end, at), np.add.reduceat(end - begin, at))
    return cell[at], op[at], *reduce
