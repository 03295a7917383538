"""The account of a run: every reader's numbers about every segment, computed once, for the report's
tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sim.cost.caching import probed_in_order
from sim.cost.energy import COMPONENTS, IDLE, awake_j, idle_power_w, operator_energy
from sim.cost.repeats import Run, unfold
from sim.cost.traffic import Traffic
from sim.cost.transfers import Float64, LinkWork, Routes, program_routes
from sim.errors import InvariantViolation
from sim.graph.graph import Graph, Passes
from sim.hw.area import chip_area
from sim.hw.chip import Chip
from sim.hw.money import chip_cost, load_prices
from sim.hw.technology import Technology
from sim.program import Int64, Program, Segment
from sim.report.causes import Starts
from sim.report.closed_form import input_ends, operator_ticks
from sim.report.contention import limiting_links
from sim.report.critical_path import Pieces, critical_path, path_ticks
from sim.report.invariants import check, check_energy, check_macs
from sim.report.ran import Ran
from sim.report.roofline import Bound, Floors, network_bound, segment_floors
from sim.report.stalls import OperatorTime, Overlap, operator_time, queue_stalls, segment_overlap
from sim.timeline import Probed, SegmentTimeline, Timeline
from sim.units import PS_PER_S


@dataclass(frozen=True)
class Observed:
    """What only a timeline shows of one run of a segment, worked out when it is asked for. `starts` says why each task
    started when it did."""

    program: Program
    segment: Segment
    times: SegmentTimeline
    starts: Starts
    routes: Routes

    @cached_property
    def limiting(self) -> Int64:
        """The link that limited each task."""
        return limiting_links(self.program, self.segment, self.times)

    @cached_property
    def pieces(self) -> Pieces:
        """The critical path."""
        return critical_path(self.program, self.segment, self.times, self.starts, self.routes, self.limiting)

    @cached_property
    def stalls(self) -> Int64:
        """Ticks of each compute queue by cause."""
        return queue_stalls(self.program, self.segment, self.times, self.starts, self.limiting)

    @cached_property
    def overlap(self) -> Overlap:
        """How much of the traffic hides behind compute."""
        return segment_overlap(self.segment, self.times)

    @cached_property
    def time(self) -> OperatorTime:
        """Active time of every operator."""
        return operator_time(self.segment, self.times)


@dataclass(frozen=True, slots=True)
class SegmentAccount:
    """One segment, one run of it. Rows of `energy_j` values, traffic, floors and ticks are its operators.

    `idle_j` is what of `energy_j` would have flowed with nothing to do (components of IDLE). `ticks` are the operators'
    parts of the latency: of the critical path, or of the closed form where nothing was `observed`. `awake_j` is what of
    their clocks flows while cores have threads (GPUs).
    """

    segment: Segment
    repeats: int
    traffic: Traffic
    links: LinkWork
    floors: Floors
    ticks: Int64
    energy_j: dict[str, Float64]
    idle_j: dict[str, Float64]
    awake_j: Float64
    observed: Observed | None
    probed: Probed | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """A whole run; segments of the program that took several courses are there once for each (`segment_of`).
    `input_ends` are the ticks at which the back-to-back inputs finish, ascending; `drained_ps` is when the last
    write-back ends; `closed_form_ps` is the latency of one input by the closed form; `area_mm2`, `cost_usd` (None
    where no die fits on a wafer) and `idle_w`, what flows all the time, are by component; `bound` is of the first
    input, `steady_bound` of the last, which may find weights in the cache."""

    program: Program
    chip: Chip
    routes: Routes
    segments: tuple[SegmentAccount, ...]
    segment_of: tuple[int, ...]
    latency_ps: int
    drained_ps: int
    input_ends: tuple[int, ...]
    closed_form_ps: int
    area_mm2: Mapping[str, float]
    cost_usd: Mapping[str, float] | None
    idle_w: dict[str, float]
    bound: Bound
    steady_bound: Bound

    @property
    def observed(self) -> list[tuple[Observed, SegmentAccount]]:
        """The segments that a timeline was seen of: all, or none of a closed form."""
        return [(s.observed, s) for s in self.segments if s.observed is not None]

    def total(self, column: str) -> float:
        """A column of the traffic over all operators and repeats, in bytes."""
        return sum(float(getattr(s.traffic, column).sum()) * s.repeats for s in self.segments)

    def energy_j(self, component: str) -> float:
        """Energy of one component over all operators and repeats."""
        return sum(float(s.energy_j[component].sum()) * s.repeats for s in self.segments)


def account(
    program: Program,
    timeline: Timeline | None,
    chip: Chip,
    technology: Technology,
    graph: Graph | Passes | None,
) -> Account:
    """Check the run, then read off it where time, bytes and energy went; without a timeline, by the closed form.

    Raises InvariantViolation where a law is broken, InputError where the technology lacks a cost.
    """
    routes = program_routes(program)
    runs = _runs(program, timeline)
    segment_of = tuple(number for number, _, _ in runs)
    program = unfold(program, segment_of, tuple(count for _, count, _ in runs))
    probed = [found for _, _, found in runs]
    ran = [Ran(program, s, routes, found) for s, found in zip(program.segments, probed, strict=True)]
    floors = [segment_floors(program, one.segment, chip, one.probed, one.links) for one in ran]
    after_s = math.inf if timeline is None else (timeline.drained_ps - timeline.latency_ps) / PS_PER_S
    bound = network_bound(floors, program.segments, program.repeats, after_s=after_s)
    ticks = [operator_ticks(program, s, f, routes) for s, f in zip(program.segments, floors, strict=True)]
    last = max(op.input_index for segment in program.segments for op in segment.ops)
    steady = network_bound(floors, program.segments, program.repeats, input_index=last, after_s=after_s)
    ends = closed_form_ends = input_ends(program, ticks, steady)
    observed: list[Observed | None] = [None] * len(program.segments)
    if timeline is not None:
        seen = _observe(ran, timeline, check(program, timeline, chip, graph, ran))
        ticks = [path_ticks(o.segment, o.times, o.starts) for o in seen]
        ends, observed = tuple(_observed_ends(program, timeline)), [*seen]
    elif graph is not None:
        check_macs(program, graph)
    latency_ps = ends[-1] if timeline is None else timeline.latency_ps
    if latency_ps <= 0:
        raise InvariantViolation("no run takes zero time")
    segments = _segments(ran, floors, ticks, observed, chip, technology, latency_ps)
    done = Account(
        program=program,
        chip=chip,
        routes=routes,
        segments=segments,
        segment_of=segment_of,
        latency_ps=latency_ps,
        drained_ps=latency_ps if timeline is None else timeline.drained_ps,
        input_ends=ends,
        closed_form_ps=closed_form_ends[0],
        area_mm2=chip_area(chip, technology),
        cost_usd=chip_cost(chip, technology, load_prices(chip.prices)),
        idle_w=idle_power_w(chip, technology),
        bound=bound,
        steady_bound=steady,
    )
    _check_energy_of(done)
    return done


def _segments(
    ran: Sequence[Ran],
    floors: Sequence[Floors],
    ticks: Sequence[Int64],
    observed: Sequence[Observed | None],
    chip: Chip,
    technology: Technology,
    latency_ps: int,
) -> tuple[SegmentAccount, ...]:
    """The account of every segment. Idle power goes to the operators by their share of the latency."""
    program, idle_w = ran[0].program, idle_power_w(chip, technology)
    worked = sum(int(t.sum()) * n for t, n in zip(ticks, program.repeats, strict=True))
    found = []
    for one, floor, own, seen, repeats in zip(ran, floors, ticks, observed, program.repeats, strict=True):
        elapsed_s = latency_ps / PS_PER_S * own / worked
        found.append(
            SegmentAccount(
                segment=one.segment,
                repeats=repeats,
                traffic=one.traffic,
                links=one.links,
                floors=floor,
                ticks=own,
                energy_j=operator_energy(program, one.segment, one.traffic, chip, technology, elapsed_s),
                idle_j={name: idle_w[name] * elapsed_s for name in IDLE},
                awake_j=awake_j(program, one.segment, chip, technology, elapsed_s),
                observed=seen,
                probed=one.probed,
            )
        )
    return tuple(found)


def _runs(program: Program, timeline: Timeline | None) -> list[Run[Probed | None]]:
    """The runs of the program's segments, and what each found in the cache: as observed, or in program order."""
    if timeline is None:
        return probed_in_order(program)
    if len(timeline.segments) < len(program.segments):
        raise InvariantViolation("the timeline has other segments than the program")
    found = [times.probed for times in timeline.segments]
    return list(zip(timeline.segment_of, timeline.repeats, found, strict=True))


def _check_energy_of(done: Account) -> None:
    components = {name: done.energy_j(name) for name in COMPONENTS}
    by_operator = [float(sum(s.energy_j.values()).sum()) * s.repeats for s in done.segments]  # type: ignore[union-attr]
    check_energy(components, by_operator, sum(components.values()))


def _observe(ran: Sequence[Ran], timeline: Timeline, starts: Sequence[Starts]) -> list[Observed]:
    """Why the run took its time, by segment; `starts` says why each task started when it did."""
    return [
        Observed(one.program, one.slower, times, why, one.routes)
        for one, times, why in zip(ran, timeline.segments, starts, strict=True)
    ]


def _observed_ends(program: Program, timeline: Timeline) -> Iterator[int]:
    """When each input's last task finishes, in the last repeat of the last segment that works on it."""
    ends: dict[int, int] = {}
    offset = 0
    for segment, times, repeats in zip(program.segments, timeline.segments, program.repeats, strict=True):
        input_of_op = np.array([op.input_index for op in segment.ops], np.int64)
        latest = np.zeros(len(segment.ops), np.int64)
        np.maximum.at(latest, segment.op, times.finish)
        offset += times.length * (repeats - 1)
        for index in np.unique(input_of_op[latest > 0]).tolist():
            ends[index] = offset + int(latest[input_of_op == index].max())
        offset += times.length
    yield from sorted(ends.values())
