"""Laws that hold for every run of every program; a broken one is an internal error that names the task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from sim.cost.transfers import Routes, is_transfer, program_routes, ticks_alone
from sim.errors import InvariantViolation
from sim.graph.graph import Graph, Passes
from sim.hw.chip import Chip
from sim.program import BYTE_UNITS, PAYLOAD_WEIGHT, Kind, Policy, Program, Segment
from sim.report.causes import Starts, explain
from sim.report.ran import Ran
from sim.report.roofline import array_seconds
from sim.timeline import SegmentTimeline, Timeline

ROUNDING = 1e-9
"""Relative slack of laws about sums of floating-point numbers."""


def check(
    program: Program,
    timeline: Timeline,
    chip: Chip,
    graph: Graph | Passes | None = None,
    ran: Sequence[Ran] | None = None,
) -> tuple[Starts, ...]:
    """Check every law of a run; with `graph`, also that the program does the graph's work. `ran` are its segments as
    others read them too.

    Returns, per segment, why each task started when it did. Raises InvariantViolation at the first broken
    law. Vectorised: about 1 us a task.
    """
    if timeline.repeats != program.repeats or len(timeline.segments) != len(program.segments):
        raise InvariantViolation("the timeline has other segments than the program")
    _check_routes(program)
    if ran is None:
        routes = program_routes(program)
        pairs = zip(program.segments, timeline.segments, strict=True)
        ran = [Ran(program, segment, routes, times.probed) for segment, times in pairs]
    starts = []
    for run, times in zip(ran, timeline.segments, strict=True):
        segment = run.segment
        if not len(times.start) == len(times.finish) == segment.tasks:
            raise InvariantViolation(f"segment {segment.name}: the timeline has other tasks than the program")
        _refuse((segment.op < 0) | (segment.op >= len(segment.ops)), "a task belongs to an operator")
        _check_probes(segment, times)
        _check_durations(run, times)
        starts.append(explain(program, segment, times, run.previous))
        _check_queues(program, segment, times)
        _check_links(run, times)
    _check_work(program, timeline, chip, graph)
    return tuple(starts)


def check_macs(program: Program, graph: Graph | Passes) -> None:
    """The program does the graph's work, once for each input. Raises InvariantViolation."""
    rows = [(op, n) for s, n in zip(program.segments, program.repeats, strict=True) for op in s.ops]
    inputs = 1 + max(op.input_index for op, _ in rows)
    macs = sum(op.macs * n for op, n in rows)
    if macs != graph.macs * inputs:
        raise InvariantViolation(
            "MACs of the program = MACs of the graph", detail=f"{macs} != {inputs} x {graph.macs}"
        )


def check_energy(components: Mapping[str, float], by_operator_j: Sequence[float], total_j: float) -> None:
    """Components, and operators, add up to the total; nothing is negative. Raises InvariantViolation."""
    for name, value in components.items():
        if not value >= 0:
            raise InvariantViolation(f"energy of component {name} is {value!r} J")
    for what, total in (("components", sum(components.values())), ("operators", sum(by_operator_j))):
        if abs(total - total_j) > ROUNDING * abs(total_j):
            raise InvariantViolation(
                f"the energies of the {what} sum to the total", detail=f"{total} != {total_j} J"
            )


def _check_routes(program: Program) -> None:
    """Bytes leave their source once: no route crosses a link twice."""
    owner = np.repeat(np.arange(len(program.route_ptr) - 1), np.diff(program.route_ptr))
    keys = owner * max(1, len(program.links)) + program.route_link
    if len(np.unique(keys)) != len(keys):
        raise InvariantViolation("a route crosses a link twice")


def _check_probes(segment: Segment, times: SegmentTimeline) -> None:
    """What was asked of the cache is found there or not; no more is written back than was ever written."""
    probes, found = segment.probes, times.probed
    if probes is None or found is None:
        return
    asked = segment.nbytes[probes.task]
    _refuse(found.hit + found.miss != asked, "hits + misses = bytes asked of the cache", segment)
    _refuse(
        (probes.policy == Policy.BYPASS) & (found.rest + found.evicted > 0),
        "a bypass evicts nothing",
        segment,
    )


def _check_durations(run: Ran, times: SegmentTimeline) -> None:
    """Compute ends on time and in order; a transfer is never faster than alone on the chip."""
    segment, previous = run.slower, run.previous
    moves = is_transfer(segment)
    due = times.start + segment.dur
    in_order = np.where(previous >= 0, np.maximum(due, times.finish[previous]), due)
    _refuse(~moves & (times.finish < due), "a task runs at least its duration", segment)
    _refuse(~moves & (times.finish != in_order), "a compute queue finishes in order, without delay", segment)
    _refuse(times.finish < due + ticks_alone(segment, run.routes), "a transfer is not faster than alone", segment)


def _check_queues(program: Program, segment: Segment, times: SegmentTimeline) -> None:
    """Busy <= elapsed on every queue, per transfer in flight on a DMA queue."""
    dma = program.outstanding[segment.queue] > 0
    occupied = np.where(dma, times.finish - times.start, segment.hold)
    busy = np.bincount(segment.queue, weights=occupied, minlength=len(program.queues))
    room = np.maximum(1, program.outstanding.astype(np.int64))
    for number in np.flatnonzero(busy > room * times.end * (1 + ROUNDING)):
        raise InvariantViolation(
            f"segment {segment.name}: queue {program.queues[number].name} is busy <= elapsed"
        )


def _check_links(run: Ran, times: SegmentTimeline) -> None:
    """No link carries more than its capacity; DRAM bytes by task equal DRAM bytes by link."""
    program, segment, work, traffic = run.program, run.segment, run.links, run.traffic
    capacity = program.capacity / BYTE_UNITS
    # Rates are at least one unit a tick, which a link too crowded for that grants on top.
    moves = is_transfer(segment)
    in_flight = float((times.finish[moves] - times.start[moves]).sum())
    slack = in_flight * float(program.route_weight.max(initial=0)) / PAYLOAD_WEIGHT / BYTE_UNITS
    until = times.end
    if segment.probes is not None:
        until = times.drained
        slack *= 2  # a transfer may have two flows, and one in the background
        slack += (times.drained - times.end) / BYTE_UNITS * len(segment.probes.task)
    carried = work.weighted_bytes.sum(axis=0)
    for number in np.flatnonzero(carried > capacity * until * (1 + ROUNDING) + slack):
        raise InvariantViolation(
            f"segment {segment.name}: link {program.links[number].name} carries its work in time"
        )
    on_dram = np.array([link.kind == "dram" for link in program.links], np.bool_)
    _check_dram_writes(segment, times, run.routes, float(traffic.dram_write_bytes.sum()))
    by_link = work.payload_bytes[:, on_dram].sum(axis=1)
    by_task = traffic.dram_read_bytes + traffic.dram_write_bytes
    for row in np.flatnonzero(by_link != by_task):
        raise InvariantViolation(
            f"operator {segment.ops[row].name}: DRAM traffic = loads + stores",
            detail=f"{by_link[row]} B on the links",
        )


def _check_dram_writes(segment: Segment, times: SegmentTimeline, routes: Routes, written: float) -> None:
    """DRAM writes = stores that go there + write-backs."""
    moves = is_transfer(segment)
    on_host = moves & (routes.crossings["host"][segment.route] > 0)
    writes = moves & ((segment.kind == Kind.STORE) != on_host) & (segment.kind != Kind.SEND)
    writes &= routes.crossings["dram"][segment.route] > 0
    there, back = segment.nbytes.copy(), 0
    if segment.probes is not None and times.probed is not None:
        there[segment.probes.task] = times.probed.miss
        back = int(times.probed.evicted.sum())
    if written != int(there[writes].sum()) + back:
        raise InvariantViolation(
            "DRAM writes = stores + write-backs", detail=f"segment {segment.name}: {written} B"
        )


def _check_work(program: Program, timeline: Timeline, chip: Chip, graph: Graph | Passes | None) -> None:
    """MACs of the graph, in no less than the arrays' time at peak, and in more than no time."""
    if timeline.latency_ps <= 0:
        raise InvariantViolation("no run takes zero time")
    rows = [(op, n) for s, n in zip(program.segments, program.repeats, strict=True) for op in s.ops]
    if graph is not None:
        check_macs(program, graph)
    floor_s = sum(array_seconds(op, chip) * n for op, n in rows)
    if timeline.latency_ps * 1e-12 < floor_s * (1 - ROUNDING):
        raise InvariantViolation("latency >= MACs / peak of all arrays", detail=f"needs {floor_s} s")


def _refuse(bad: npt.NDArray[np.bool_], law: str, segment: Segment | None = None) -> None:
    if bad.any():
        task = int(np.flatnonzero(bad)[0])
        raise InvariantViolation(law, task=task, detail="" if segment is None else f"segment {segment.name}")
