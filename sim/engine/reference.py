"""The reference engine: the timing semantics in SimPy, written to be read as the specification.

Time is an integer number of ticks of 1 ps, and every number that decides a time is an integer. One process
serves each queue, one event tells that a task has finished, one process shares the links among the transfers.
The compiled engine gives the same start and the same finish for every task of every program.

Within one instant the order is: transfers that are through finish, whatever can issue issues, and after all
that (priority 2) the network settles once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import simpy
from simpy.events import EventPriority
from simpy.resources.resource import Request

from sim.program import BYTE_UNITS, PAYLOAD_WEIGHT, Program, Segment
from sim.timeline import SegmentTimeline, Timeline

Process = Generator[simpy.Event, Any, None]
Route = tuple[tuple[int, int], ...]
"""(link, weight) pairs."""

SETTLE_PRIORITY = EventPriority(2)
"""After everything else of the same instant: SimPy's own events have priority 0 or 1."""


def run(program: Program) -> Timeline:
    """Start and finish of every task, in ticks; each segment runs from an idle chip at tick 0.

    The program must be valid (`Program.validate`).
    """
    segments = tuple(_Machine(program, segment).run() for segment in program.segments)
    return Timeline("reference", segments, program.repeats)


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
            yield self._end_of_instant()
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

    def _end_of_instant(self) -> simpy.Event:
        event = self.env.event()
        event._ok, event._value = True, None  # triggered, as `succeed` would do with its own priority
        self.env.schedule(event, SETTLE_PRIORITY)
        return event

    def _settle(self, elapsed: int) -> None:
        rates = max_min_rates([flow.route for flow in self.flows], self.capacity)
        for flow, rate in zip(self.flows, rates, strict=True):
            flow.remaining -= flow.rate * elapsed
            flow.rate = rate
            flow.finish = self.now + max(1, -(-flow.remaining // rate))


class _Machine:
    """One segment on the idle chip: its queues, its network, and what is known of its tasks."""

    def __init__(self, program: Program, segment: Segment) -> None:
        self.env = simpy.Environment()
        self.network = Network(self.env, [link.capacity for link in program.links])
        self.segment = segment
        self.routes = _routes(program)
        self.done = [self.env.event() for _ in range(segment.tasks)]
        self.start = np.zeros(segment.tasks, np.int64)
        self.finish = np.zeros(segment.tasks, np.int64)
        for number, queue in enumerate(program.queues):
            tasks = np.flatnonzero(segment.queue == number).tolist()
            if queue.outstanding:
                self.env.process(self._dma_queue(tasks, queue.outstanding))
            else:
                self.env.process(self._compute_queue(tasks))

    def run(self) -> SegmentTimeline:
        self.env.run()
        return SegmentTimeline(self.start, self.finish, int(self.finish.max(initial=0)))

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
        """The head takes the latency; then the payload flows over every link of the route."""
        yield self.env.timeout(int(self.segment.dur[task]))
        yield self.network.transfer(self.routes[self.segment.route[task]], int(self.segment.nbytes[task]))
        channel.release(place)
        self._finish(task)

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
