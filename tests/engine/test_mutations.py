"""The equality suite is worth something: each plausible mistake in the semantics makes some programs differ.

The source of the reference engine is changed in one place, and run against the compiled engine.
"""

from __future__ import annotations

import inspect
import sys
from types import ModuleType

import numpy as np
import pytest
from random_programs import cached_program, random_program

from sim.engine import compiled, reference
from sim.program import Program
from sim.timeline import Timeline

PROGRAMS = 300
LEAST_CAUGHT = 3
FREEZE = "any(share[link] == lowest for link, _ in routes[flow])"
MUTATIONS = {
    "floor for ceil on finish": ("-(-flow.remaining // rate)", "flow.remaining // rate"),
    "only one saturated link is frozen": (
        FREEZE,
        "min(link for link in share if share[link] == lowest) in dict(routes[flow])",
    ),
    "no settle when a flow ends": (
        "self._settle(self.now - settled_at)",
        "self._settle(self.now - settled_at) if self.joined.triggered else None",
    ),
    "no settle when a flow joins": (
        "self._settle(self.now - settled_at)",
        "self._settle(self.now - settled_at) if not all(flow.rate for flow in self.flows) else None",
    ),
    "progress forgotten": ("flow.remaining -= flow.rate * elapsed", "pass"),
    "what frozen flows take is forgotten": ("max(0, left[link] - link_weight * lowest)", "left[link]"),
    "weights count for nothing": ("weight[link] += link_weight", "weight[link] += PAYLOAD_WEIGHT"),
    "left of a link rounded to units": (
        "max(0, left[link] - link_weight * lowest)",
        "max(0, left[link] - link_weight * lowest // PAYLOAD_WEIGHT * PAYLOAD_WEIGHT)",
    ),
    "compute completes out of order": ("yield previous\n", "pass\n"),
    "hold ignored": ("int(self.segment.hold[task])", "int(self.segment.dur[task])"),
    "room of the DMA queue ignored": (
        "simpy.Resource(self.env, outstanding)",
        "simpy.Resource(self.env, 99)",
    ),
    "release ignored": ("int(self.segment.release[task]) - self.env.now", "0"),
    "only the first predecessor waited for": (
        "range(self.segment.pptr[task], self.segment.pptr[task + 1])",
        "range(self.segment.pptr[task], min(self.segment.pptr[task] + 1, self.segment.pptr[task + 1]))",
    ),
}


CACHE_MUTATIONS = {
    "probes in the order of issue": ("sorted(self.issued, key=lambda one: one[0])", "list(self.issued)"),
    "the write-back is waited for": (
        "self.env.process(self._flow(int(probes.rest_route[row]), dur, found.rest + found.evicted))",
        "miss &= self.env.process(self._flow(int(probes.rest_route[row]), dur, found.rest + found.evicted))",
    ),
    "no write-back": ("dur, found.rest + found.evicted)", "dur, found.rest)"),
    "the rest of a line is free": ("found.rest += self.line_bytes - asked", "pass"),
    "the flow of hits dropped": ("yield hit & miss", "yield miss"),
    "the flow of misses dropped": ("yield hit & miss", "yield hit"),
    "hits take the latency of misses": ("int(probes.hit_dur[row]), found.hit", "dur, found.hit"),
    "not the least recently used": ("lines.move_to_end(number)", "pass"),
    "writes leave lines clean": ("line.dirty |= write", "pass"),
    "bypassing transfers allocate": ("policy == Policy.BYPASS or not", "not"),
    "pinned lines evicted": (
        "for number, line in lines.items() if not line.pinned)",
        "for number, line in lines.items())",
    ),
    "every way may be pinned": ("< self.ways - 1:", "< self.ways:"),
    "a set too few": ("sets = len(self.sets)", "sets = max(1, len(self.sets) - 1)"),
    "empty in every segment": ("repeat, cache[0]).run()", "repeat, Cache(cache[0].shape)).run()"),
    "repeats at the same addresses": ("runs_of(probes, row, self.repeat)", "runs_of(probes, row, 0)"),
}
CACHED_PROGRAMS = 200


@pytest.fixture(scope="module")
def expected_of_cached() -> list[tuple[Program, Timeline]]:
    programs = [cached_program(seed) for seed in range(CACHED_PROGRAMS)]
    return [(program, compiled.run(program)) for program in programs]


@pytest.mark.parametrize("mistake", CACHE_MUTATIONS)
def test_a_mistake_with_the_cache_is_caught(
    mistake: str, expected_of_cached: list[tuple[Program, Timeline]]
) -> None:
    mutant = mutated(*CACHE_MUTATIONS[mistake])
    caught = 0
    for program, timeline in expected_of_cached:
        caught += differs(mutant.run(program), timeline)
        if caught == LEAST_CAUGHT:
            return
    raise AssertionError(f"only {caught} of {CACHED_PROGRAMS} programs show it")


@pytest.fixture(scope="module")
def expected() -> list[tuple[Program, Timeline]]:
    programs = [random_program(seed) for seed in range(PROGRAMS)]
    return [(program, compiled.run(program)) for program in programs]


@pytest.mark.parametrize("mistake", MUTATIONS)
def test_a_mistake_is_caught(mistake: str, expected: list[tuple[Program, Timeline]]) -> None:
    mutant = mutated(*MUTATIONS[mistake])
    caught = sum(differs(mutant.run(program), timeline) for program, timeline in expected)
    assert caught >= LEAST_CAUGHT, f"{caught} of {PROGRAMS} programs show it"


def test_without_a_mistake_nothing_differs(expected: list[tuple[Program, Timeline]]) -> None:
    unchanged = mutated("yield previous\n", "yield previous\n")
    assert not any(differs(unchanged.run(program), timeline) for program, timeline in expected)


def mutated(old: str, new: str) -> ModuleType:
    """The reference engine with one place of its source changed."""
    source = inspect.getsource(reference)
    assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in the reference engine"
    module = ModuleType("mutated_reference")
    sys.modules[module.__name__] = module  # where dataclasses look up their annotations
    exec(compile(source.replace(old, new), module.__name__, "exec"), module.__dict__)
    return module


def differs(a: Timeline, b: Timeline) -> bool:
    return a.repeats != b.repeats or any(
        not (np.array_equal(one.start, other.start) and np.array_equal(one.finish, other.finish))
        for one, other in zip(a.segments, b.segments, strict=True)
    )
