"""The reference engine: the timing semantics in SimPy, written to be read as the specification.

Time is an integer number of ticks of 1 ps, and every number that decides a time is an integer. One process
serves each queue, one event tells that a task has finished, one process shares the links among the transfers.
The compiled engine gives the same start and the same finish for every task of every program.

Within one instant the order is: transfers that are through finish, whatever can issue issues, and after all
that (priority 2) transfers that have issued look into the cache, those of lower number first, and the network
settles once. What is found in the cache opens flows some ticks later, so that neither of the two affects the other.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import simpy
from simpy.events import EventPriority
from simpy.resources.resource import Request

from sim.cost.repeats import as_timeline, run_all, same_course
from sim.hw.tags import skew_of
from sim.program import BYTE_UNITS, PAYLOAD_WEIGHT, Policy, Probes, Program, Segment, TagStore
from sim.timeline import Probed, SegmentTimeline, Timeline

Process = Generator[simpy.Event, Any, None]
Route = tuple[tuple[int, int], ...]
"""(link, weight) pairs."""

LAST_PRIORITY = EventPriority(2)
"""After everything else of the same instant: SimPy's own events have priority 0 or 1."""


def run(program: Program) -> Timeline:
    """Start and finish of every task, in ticks; each segment runs from an idle chip at tick 0, with what the segment
    before left in the cache.

    The program must be valid (`Program.validate`).
    """
    cache: list[Cache] = []  # of the present pass

    def begin_pass() -> None:
        cache[:] = [Cache(program.cache or TagStore(1, 1, 1))]

    def run_segment(number: int, repeat: int, earlier: Sequence[SegmentTimeline]) -> SegmentTimeline:
        return _Machine(program, program.segments[number], repeat, cache[0]).run()

    return as_timeline("reference", run_all(program, begin_pass, run_segment, same_course))


def max_min_rates(routes: Sequence[Route], capacity: Sequence[int]) -> list[int]:
    """Weighted max-min fair share: the rate of each flow in units per tick, at least 1.

    A flow of rate r takes weight * r / 256 of each link of its route. In each round every link offers its
    unfrozen flows an equal rate, and every flow that crosses a link with the lowest offer is frozen at it.
    What is left of a link is counted in 1/256 units, which keeps it exact. Progressive filling: Bertsekas and
    Gallager, Data Networks, section 6.5.2.
    """
    left = [PAYLOAD_WEIGHT * units for units in capacity]
    rate = [0] * len(routes)
    unfrozen = set(range(len(routes)))
    while unfrozen:
        weight: Counter[int] = Counter()
        for flow in unfrozen:
            for link, link_weight in routes[flow]:
                weight[link] += link_weight
        share = {link: max(1, left[link] // weight[link]) for link in weight}
        lowest = min(share.values())
        frozen = {flow for flow in unfrozen if any(share[link] == lowest for link, _ in routes[flow])}
        for flow in frozen:
            rate[flow] = lowest
            for link, link_weight in routes[flow]:
                left[link] = max(0, left[link] - link_weight * lowest)
        unfrozen -= frozen
    return rate


@dataclass(slots=True)
class Line:
    """A line of memory that is in the cache."""

    dirty: bool = False
    pinned: bool = False


@dataclass(slots=True)
class Found:
    """Bytes that a look into the cache yields (see sim.timeline.Probed)."""

    hit: int = 0
    miss: int = 0
    rest: int = 0
    evicted: int = 0


class Cache:
    """The lines that are in the cache, by set; in each set the least recently used first."""

    def __init__(self, shape: TagStore) -> None:
        self.shape, self.line_bytes, self.ways = shape, shape.line_bytes, shape.ways
        self.sets: list[OrderedDict[int, Line]] = [OrderedDict() for _ in range(shape.sets)]
        self.probe(((address, address + size) for address, size in shape.warm), False, Policy.CACHE)

    def probe(self, runs: Iterator[tuple[int, int]], write: bool, policy: Policy) -> Found:
        """Look up runs (first byte, one past the last) of memory, line by line."""
        found = Found()
        for start, stop in runs:
            for number in range(start // self.line_bytes, (stop - 1) // self.line_bytes + 1):
                first = number * self.line_bytes
                asked = min(stop, first + self.line_bytes) - max(start, first)
                self._touch(number, asked, write, policy, found)
        return found

    def _touch(self, number: int, asked: int, write: bool, policy: Policy, found: Found) -> None:
        sets = len(self.sets)
        lines = self.sets[(number + number // sets * skew_of(sets, self.shape.hashed)) % sets]
        if number in lines:
            found.hit += asked
        else:
            found.miss += asked
            if policy == Policy.BYPASS or not self._make_room(lines, found):
                return
            found.rest += self.line_bytes - asked
            lines[number] = Line()
        lines.move_to_end(number)
        line = lines[number]
        line.dirty |= write
        if policy == Policy.PIN and sum(other.pinned for other in lines.values()) < self.ways - 1:
            line.pinned = True

    def _make_room(self, lines: OrderedDict[int, Line], found: Found) -> bool:
        """Evict the least recently used line that is not pinned from a full set, if there is one."""
        if len(lines) < self.ways:
            return True
        victim = next((number for number, line in lines.items() if not line.pinned), None)
        if victim is None:
            return False
        found.evicted += self.line_bytes if lines.pop(victim).dirty else 0
        return True


def runs_of(probes: Probes, row: int, repeat: int) -> Iterator[tuple[int, int]]:
    """The runs of the region that a probe is about, in order."""
    address, size = int(probes.addresses(repeat)[row]), int(probes.run_bytes[row])
    levels = zip(probes.count[row].tolist(), probes.pitch[row].tolist(), strict=True)
    for offsets in product(
        *(range(0, count * pitch, pitch) if pitch else [0] * count for count, pitch in levels)
    ):
        start = address + sum(offsets)
        yield start, start + size


@dataclass(slots=True)
class Flow:
    """A transfer on the links of its route, all at once and at one rate."""

    route: Route
    remaining: int
    finished: simpy.Event
    rate: int = 0
    finish: int = 0


class Network:
    """Every active flow, and the process that shares the links among them."""

    def __init__(self, env: simpy.Environment, capacity: Sequence[int]) -> None:
        self.env = env
        self.capacity = capacity
        self.flows: list[Flow] = []
        self.joined = env.event()
        env.process(self._serve())

    @property
    def now(self) -> int:
        return int(self.env.now)

    def transfer(self, route: Route, size_bytes: int) -> simpy.Event:
        """Open a flow now; the event that is returned fires when its last byte has arrived."""
        flow = Flow(route, size_bytes * BYTE_UNITS, self.env.event())
        self.flows.append(flow)
        if not self.joined.triggered:
            self.joined.succeed()
        return flow.finished

    def _serve(self) -> Process:
        settled_at = 0
        while True:
            yield self._next_change()
            self._finish_flows()
            yield self.end_of_instant()
            self._settle(self.now - settled_at)
            settled_at = self.now
            self.joined = self.env.event()

    def _next_change(self) -> simpy.Event:
        if not self.flows:
            return self.joined
        first_finish = min(flow.finish for flow in self.flows)
        return self.joined | self.env.timeout(first_finish - self.now)

    def _finish_flows(self) -> None:
        for flow in self.flows:
            if flow.finish == self.now:
                flow.finished.succeed()
        self.flows = [flow for flow in self.flows if not flow.finished.triggered]

    def end_of_instant(self) -> simpy.Event:
        event = self.env.event()
        event._ok, event._value = True, None  # triggered, as `succeed` would do with its own priority
        self.env.schedule(event, LAST_PRIORITY)
        return event

    def _settle(self, elapsed: int) -> None:
        rates = max_min_rates([flow.route for flow in self.flows], self.capacity)
        for flow, rate in zip(self.flows, rates, strict=True):
            flow.remaining -= flow.rate * elapsed
            flow.rate = rate
            flow.finish = self.now + max(1, -(-flow.remaining // rate))


class _Machine:
    """One run of a segment on the idle chip: its queues, its network, the cache, and what is known of its tasks."""

    def __init__(self, program: Program, segment: Segment, repeat: int, cache: Cache) -> None:
        self.env = simpy.Environment()
        self.network = Network(self.env, [link.capacity for link in program.links])
        self.segment, self.repeat, self.cache = segment, repeat, cache
        self.routes = _routes(program)
        self.done = [self.env.event() for _ in range(segment.tasks)]
        self.start = np.zeros(segment.tasks, np.int64)
        self.finish = np.zeros(segment.tasks, np.int64)
        probed = [] if segment.probes is None else segment.probes.task.tolist()
        self.row = {task: row for row, task in enumerate(probed)}
        self.found = [Found() for _ in probed]
        self.issued: list[tuple[int, simpy.Event]] = []  # transfers of this instant that will probe the cache
        self.drained = 0
        for number, queue in enumerate(program.queues):
            tasks = np.flatnonzero(segment.queue == number).tolist()
            if queue.outstanding:
                self.env.process(self._dma_queue(tasks, queue.outstanding))
            else:
                self.env.process(self._compute_queue(tasks))

    def run(self) -> SegmentTimeline:
        self.env.run()
        probed = None
        if self.segment.probes is not None:
            names = Probed.__slots__
            probed = Probed(*(np.array([getattr(f, n) for f in self.found], np.int64) for n in names))
        drained = max(int(self.finish.max(initial=0)), self.drained)
        return SegmentTimeline(self.start, self.finish, drained, probed)

    def _compute_queue(self, tasks: list[int]) -> Process:
        """Issue in order, each task when the hold of the previous one is over."""
        previous: simpy.Event = self.env.timeout(0)
        for task in tasks:
            yield from self._ready(task)
            self.start[task] = self.env.now
            self.env.process(self._compute(task, previous))
            previous = self.done[task]
            yield self.env.timeout(int(self.segment.hold[task]))

    def _compute(self, task: int, previous: simpy.Event) -> Process:
        """Finish after the duration, but never before the previous task of the queue."""
        yield self.env.timeout(int(self.segment.dur[task]))
        yield previous
        self._finish(task)

    def _dma_queue(self, tasks: list[int], outstanding: int) -> Process:
        """Issue in order, each task when fewer than `outstanding` earlier ones are in flight."""
        channel = simpy.Resource(self.env, outstanding)
        for task in tasks:
            yield from self._ready(task)
            place = channel.request()
            yield place
            self.start[task] = self.env.now
            self.env.process(self._transfer(task, channel, place))

    def _transfer(self, task: int, channel: simpy.Resource, place: Request) -> Process:
        """Over when all its bytes have arrived: over one way, or what hits over one and what misses over another."""
        route, dur = int(self.segment.route[task]), int(self.segment.dur[task])
        if task not in self.row:
            yield from self._flow(route, dur, int(self.segment.nbytes[task]))
        else:
            row, probes = self.row[task], self.segment.probes
            assert probes is not None
            yield self._probe(task)
            found = self.found[row]
            hit = self.env.process(
                self._flow(int(probes.hit_route[row]), int(probes.hit_dur[row]), found.hit)
            )
            miss = self.env.process(self._flow(route, dur, found.miss))
            self.env.process(self._flow(int(probes.rest_route[row]), dur, found.rest + found.evicted))
            yield hit & miss
        channel.release(place)
        self._finish(task)

    def _flow(self, route: int, latency: int, size_bytes: int) -> Process:
        """The head takes the latency; then the payload flows over every link of the route."""
        if size_bytes:
            yield self.env.timeout(latency)
            yield self.network.transfer(self.routes[route], size_bytes)
            self.drained = int(self.env.now)

    def _probe(self, task: int) -> simpy.Event:
        """Look into the cache at the end of this instant; the event fires then."""
        done = self.env.event()
        if not self.issued:
            end = self.network.end_of_instant()
            assert end.callbacks is not None
            end.callbacks.append(self._probe_all)
        self.issued.append((task, done))
        return done

    def _probe_all(self, end: simpy.Event) -> None:
        """The probes of one instant, in ascending order of tasks."""
        probes, issued = self.segment.probes, sorted(self.issued, key=lambda one: one[0])
        assert probes is not None
        self.issued = []
        for task, done in issued:
            row = self.row[task]
            runs = runs_of(probes, row, self.repeat)
            self.found[row] = self.cache.probe(runs, bool(probes.write[row]), Policy(probes.policy[row]))
            done.succeed()

    def _ready(self, task: int) -> Process:
        """Wait for the release and for every predecessor."""
        yield self.env.timeout(max(0, int(self.segment.release[task]) - self.env.now))
        for row in range(self.segment.pptr[task], self.segment.pptr[task + 1]):
            yield self.done[self.segment.pidx[row]]

    def _finish(self, task: int) -> None:
        self.finish[task] = self.env.now
        self.done[task].succeed()


def _routes(program: Program) -> list[Route]:
    bounds = zip(program.route_ptr[:-1], program.route_ptr[1:], strict=True)
    link, weight = program.route_link.tolist(), program.route_weight.tolist()
    return [tuple(zip(link[a:b], weight[a:b], strict=True)) for a, b in bounds]
