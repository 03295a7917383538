"""The account of a run: every reader's numbers about every segment, computed once, for the report's
tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sim.cost.energy import COMPONENTS, IDLE, idle_power_w, operator_energy
from sim.cost.traffic import Traffic, operator_traffic
from sim.cost.transfers import Float64, LinkWork, Routes, link_work, program_routes
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
from sim.report.critical_path import Pieces, critical_path
from sim.report.invariants import check, check_energy, check_macs
from sim.report.roofline import Bound, Floors, network_bound, segment_floors
from sim.report.stalls import OperatorTime, Overlap, operator_time, queue_stalls, segment_overlap
from sim.timeline import SegmentTimeline, Timeline
from sim.units import PS_PER_S


@dataclass(frozen=True, slots=True)
class Observed:
    """What only a timeline shows of one run of a segment."""

    times: SegmentTimeline
    pieces: Pieces
    stalls: Int64
    overlap: Overlap
    time: OperatorTime


@dataclass(frozen=True, slots=True)
class SegmentAccount:
    """One segment, one run of it. Rows of `energy_j` values, traffic, floors and ticks are its operators.

    `idle_j` is what of `energy_j` would have flowed with nothing to do (components of IDLE). `ticks` are the operators'
    parts of the latency: of the critical path, or of the closed form where nothing was `observed`.
    """

    segment: Segment
    repeats: int
    traffic: Traffic
    links: LinkWork
    floors: Floors
    ticks: Int64
    energy_j: dict[str, Float64]
    idle_j: dict[str, Float64]
    observed: Observed | None


@dataclass(frozen=True, slots=True)
class Account:
    """A whole run. `input_ends` are the ticks at which the back-to-back inputs finish, ascending;
    `closed_form_ps` is the latency of one input by the closed form; `area_mm2`, `cost_usd` (None
    where no die fits on a wafer) and `idle_w`, what flows all the time, are by component."""

    program: Program
    chip: Chip
    segments: tuple[SegmentAccount, ...]
    latency_ps: int
    input_ends: tuple[int, ...]
    closed_form_ps: int
    area_mm2: Mapping[str, float]
    cost_usd: Mapping[str, float] | None
    idle_w: dict[str, float]
    bound: Bound

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
    floors = [segment_floors(program, segment, chip) for segment in program.segments]
    bound = network_bound(floors, program.segments, program.repeats)
    ticks = [operator_ticks(program, s, f, routes) for s, f in zip(program.segments, floors, strict=True)]
    ends = closed_form_ends = input_ends(program, ticks, bound)
    observed: list[Observed | None] = [None] * len(program.segments)
    if timeline is not None:
        seen = _observe(program, timeline, routes, check(program, timeline, chip, graph))
        ticks = [_critical_ticks(s, o) for s, o in zip(program.segments, seen, strict=True)]
        ends, observed = tuple(_observed_ends(program, timeline)), [*seen]
    elif graph is not None:
        check_macs(program, graph)
    latency_ps = ends[-1] if timeline is None else timeline.latency_ps
    if latency_ps <= 0:
        raise InvariantViolation("no run takes zero time")
    # Idle power goes to the operators by their share of the latency.
    worked = sum(int(t.sum()) * n for t, n in zip(ticks, program.repeats, strict=True))
    idle_w = idle_power_w(chip, technology)
    segments = []
    for row, segment in enumerate(program.segments):
        traffic = operator_traffic(program, segment, routes)
        elapsed_s = latency_ps / PS_PER_S * ticks[row] / worked
        segments.append(
            SegmentAccount(
                segment=segment,
                repeats=program.repeats[row],
                traffic=traffic,
                links=link_work(program, segment),
                floors=floors[row],
                ticks=ticks[row],
                energy_j=operator_energy(program, segment, traffic, chip, technology, elapsed_s),
                idle_j={name: idle_w[name] * elapsed_s for name in IDLE},
                observed=observed[row],
            )
        )
    done = Account(
        program=program,
        chip=chip,
        segments=tuple(segments),
        latency_ps=latency_ps,
        input_ends=ends,
        closed_form_ps=closed_form_ends[0],
        area_mm2=chip_area(chip, technology),
        cost_usd=chip_cost(chip, technology, load_prices(chip.prices)),
        idle_w=idle_w,
        bound=bound,
    )
    _check_energy_of(done)
    return done


def _check_energy_of(done: Account) -> None:
    components = {name: done.energy_j(name) for name in COMPONENTS}
    by_operator = [float(sum(s.energy_j.values()).sum()) * s.repeats for s in done.segments]  # type: ignore[union-attr]
    check_energy(components, by_operator, sum(components.values()))


def _observe(
    program: Program, timeline: Timeline, routes: Routes, starts: Sequence[Starts]
) -> list[Observed]:
    """Why the run took its time, by segment; `starts` says why each task started when it did."""
    found = []
    for segment, times, why in zip(program.segments, timeline.segments, starts, strict=True):
        limiting = limiting_links(program, segment, times)
        found.append(
            Observed(
                times=times,
                pieces=critical_path(program, segment, times, why, routes, limiting),
                stalls=queue_stalls(program, segment, times, why, limiting),
                overlap=segment_overlap(segment, times),
                time=operator_time(segment, times),
            )
        )
    return found


def _critical_ticks(segment: Segment, observed: Observed) -> Int64:
    """Every operator's part of the critical path."""
    pieces = observed.pieces
    return np.bincount(pieces.op, weights=pieces.duration, minlength=len(segment.ops)).astype(np.int64)


def _observed_ends(program: Program, timeline: Timeline) -> Iterator[int]:
    """When each input's last task finishes, in the last repeat of the last segment that works on it."""
    ends: dict[int, int] = {}
    offset = 0
    for segment, times, repeats in zip(program.segments, timeline.segments, program.repeats, strict=True):
        input_of_op = np.array([op.input_index for op in segment.ops], np.int64)
        input_of_task = input_of_op[segment.op]
        offset += times.end * (repeats - 1)
        for index in np.unique(input_of_task).tolist():
            ends[index] = offset + int(times.finish[input_of_task == index].max())
        offset += times.end
    yield from sorted(ends.values())
