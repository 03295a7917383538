"""The account of a run: every reader's numbers about every segment, computed once, for the report's
tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sim.cost.energy import COMPONENTS, operator_energy
from sim.cost.traffic import Traffic, operator_traffic
from sim.cost.transfers import Float64, LinkWork, Routes, link_work, program_routes
from sim.graph.graph import Graph, Passes
from sim.hw.area import chip_area
from sim.hw.chip import Chip
from sim.hw.technology import Technology
from sim.program import Int64, Program, Segment
from sim.report.causes import Starts
from sim.report.contention import limiting_links
from sim.report.critical_path import Pieces, critical_path
from sim.report.invariants import check, check_energy
from sim.report.roofline import Bound, Floors, network_bound, segment_floors
from sim.report.stalls import OperatorTime, Overlap, operator_time, queue_stalls, segment_overlap
from sim.timeline import SegmentTimeline, Timeline
from sim.units import PS_PER_S


@dataclass(frozen=True, slots=True)
class SegmentAccount:
    """One segment, one run of it. Rows of `energy_j` values, traffic, floors and times are its operators."""

    segment: Segment
    times: SegmentTimeline
    repeats: int
    traffic: Traffic
    links: LinkWork
    floors: Floors
    pieces: Pieces
    stalls: Int64
    overlap: Overlap
    time: OperatorTime
    critical: Int64
    energy_j: dict[str, Float64]


@dataclass(frozen=True, slots=True)
class Account:
    """A whole run. `input_ends` are the ticks at which the back-to-back inputs finish, ascending."""

    program: Program
    chip: Chip
    segments: tuple[SegmentAccount, ...]
    latency_ps: int
    input_ends: tuple[int, ...]
    area_mm2: float
    bound: Bound

    def total(self, column: str) -> float:
        """A column of the traffic over all operators and repeats, in bytes."""
        return sum(float(getattr(s.traffic, column).sum()) * s.repeats for s in self.segments)

    def energy_j(self, component: str) -> float:
        """Energy of one component over all operators and repeats."""
        return sum(float(s.energy_j[component].sum()) * s.repeats for s in self.segments)


def account(
    program: Program, timeline: Timeline, chip: Chip, technology: Technology, graph: Graph | Passes | None
) -> Account:
    """Check the run, then read off it where time, bytes and energy went.

    Raises InvariantViolation where a law is broken, InputError where the technology lacks a cost.
    """
    starts = check(program, timeline, chip, graph)
    area_mm2 = sum(chip_area(chip, technology).values())
    idle_w = technology.static_power_w(area_mm2)
    routes = program_routes(program)
    segments = tuple(
        _segment(program, routes, segment, times, repeats, why, chip, technology, idle_w)
        for segment, times, repeats, why in zip(
            program.segments, timeline.segments, program.repeats, starts, strict=True
        )
    )
    bound = network_bound([s.floors for s in segments], program.segments, program.repeats)
    done = Account(
        program, chip, segments, timeline.latency_ps, tuple(_input_ends(segments)), area_mm2, bound
    )
    components = {name: done.energy_j(name) for name in COMPONENTS}
    by_operator = [float(sum(s.energy_j.values()).sum()) * s.repeats for s in segments]  # type: ignore[union-attr]
    check_energy(components, by_operator, sum(components.values()))
    return done


def _segment(
    program: Program,
    routes: Routes,
    segment: Segment,
    times: SegmentTimeline,
    repeats: int,
    starts: Starts,
    chip: Chip,
    technology: Technology,
    idle_w: float,
) -> SegmentAccount:
    traffic = operator_traffic(program, segment, routes)
    limiting = limiting_links(program, segment, times)
    pieces = critical_path(program, segment, times, starts, routes, limiting)
    critical = np.bincount(pieces.op, weights=pieces.duration, minlength=len(segment.ops)).astype(np.int64)
    # Idle power goes to the operators by their share of the critical path, which adds up to the latency.
    static_j = idle_w * critical / PS_PER_S
    return SegmentAccount(
        segment=segment,
        times=times,
        repeats=repeats,
        traffic=traffic,
        links=link_work(program, segment),
        floors=segment_floors(program, segment, chip),
        pieces=pieces,
        stalls=queue_stalls(program, segment, times, starts, limiting),
        overlap=segment_overlap(segment, times),
        time=operator_time(segment, times),
        critical=critical,
        energy_j=operator_energy(program, segment, traffic, chip, technology, static_j),
    )


def _input_ends(segments: tuple[SegmentAccount, ...]) -> Iterator[int]:
    """When each input's last task finishes, in the last repeat of the last segment that works on it."""
    ends: dict[int, int] = {}
    offset = 0
    for s in segments:
        input_of_op = np.array([op.input_index for op in s.segment.ops], np.int64)
        input_of_task = input_of_op[s.segment.op]
        offset += s.times.end * (s.repeats - 1)
        for index in np.unique(input_of_task).tolist():
            ends[index] = offset + int(s.times.finish[input_of_task == index].max())
        offset += s.times.end
    yield from sorted(ends.values())
