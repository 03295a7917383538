"""No run beats a resource's own floor, nor the longest chain of tasks that wait for each other.

The floors are added up task by task in whole numbers, with nothing of the reports' arithmetic.
"""

from __future__ import annotations

from collections import defaultdict
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from operator_graphs import GRAPHS, chip
from random_programs import random_program

from sim.engine import run
from sim.pipeline import plan, simulate
from sim.program import Program, Segment

OPERATORS = ("conv strided", "conv depthwise", "matmul deep", "pool", "softmax", "concat", "gather", "cache_update")
UNITS_A_BYTE = 1 << 24
WHOLE_WEIGHT = 256


def routes_of(program: Program) -> list[list[tuple[int, int]]]:
    ptr = program.route_ptr.tolist()
    hops = list(zip(program.route_link.tolist(), program.route_weight.tolist(), strict=True))
    return [hops[low:high] for low, high in pairwise(ptr)]


def alone(program: Program, segment: Segment) -> list[Fraction]:
    """Ticks from start to finish of every task with nothing else on the chip."""
    routes = routes_of(program)
    found = []
    for dur, nbytes, route in zip(*(c.tolist() for c in (segment.dur, segment.nbytes, segment.route)), strict=True):
        ticks = Fraction(dur)
        if route >= 0:
            units = nbytes * UNITS_A_BYTE
            ticks += max(Fraction(units * w, WHOLE_WEIGHT * program.links[n].capacity) for n, w in routes[route])
        found.append(ticks)
    return found


def floors(program: Program, segment: Segment) -> dict[str, Fraction]:
    """Ticks that each queue, each link and the longest chain of tasks take at the least."""
    routes, lone = routes_of(program), alone(program, segment)
    found: dict[str, Fraction] = defaultdict(Fraction)
    ends: list[Fraction] = []
    for task in range(segment.tasks):
        queue = program.queues[int(segment.queue[task])]
        # A DMA queue works on several transfers at a time.
        held = lone[task] / queue.outstanding if queue.outstanding else Fraction(int(segment.hold[task]))
        found[queue.name] += held
        for number, weight in routes[int(segment.route[task])] if segment.route[task] >= 0 else ():
            link = program.links[number]
            units = int(segment.nbytes[task]) * UNITS_A_BYTE * weight
            found[link.name] += Fraction(units, WHOLE_WEIGHT * link.capacity)
        before = segment.pidx[segment.pptr[task] : segment.pptr[task + 1]].tolist()
        begin = max((ends[other] for other in before), default=Fraction(0))
        ends.append(max(begin, Fraction(int(segment.release[task]))) + lone[task])
    return {**found, "chain": max(ends)}


@pytest.mark.parametrize("engine", ["compiled", "reference"])
def test_random_programs(engine: Any) -> None:
    """A link so crowded that everyone gets the least share grants more than it has: those programs say nothing."""
    tight = 0
    for seed in range(80):
        program = random_program(seed)
        timeline = run(program, engine)
        for segment, times in zip(program.segments, timeline.segments, strict=True):
            lowest = floors(program, segment)
            crowded = max(link.capacity for link in program.links) < WHOLE_WEIGHT * segment.tasks
            if not crowded:
                assert times.end >= max(lowest.values()), (seed, max(lowest, key=lowest.__getitem__))
            tight += times.end <= max(lowest.values()) * Fraction(101, 100)
    # The floors are worth something: many runs are within 1 % of theirs.
    assert tight > 8


@pytest.mark.parametrize("on", ["tiny", "lepton_s", "ring"])
def test_mapped_operators_at_both_fidelities(on: str) -> None:
    """The closed form is no way under the floors either."""
    for name in OPERATORS:
        build = GRAPHS[name]
        target = chip(on).replace_many({"cache": None}) if chip(on).cache is not None else chip(on)
        program = plan(build(), target)[2]
        lowest = {}
        for segment, times in zip(program.segments, program.repeats, strict=True):
            for what, ticks in floors(program, segment).items():
                lowest[what] = lowest.get(what, Fraction(0)) + times * ticks
        chain = lowest.pop("chain")
        event = simulate(build(), target)["latency_s"]
        bound = simulate(build(), target, fidelity="bound")["latency_s"]
        assert event * 1e12 >= max(*lowest.values(), chain) * (1 - Fraction(1, 10**9)), name
        assert bound * 1e12 >= max(lowest.values()) * (1 - Fraction(1, 10**9)), name
