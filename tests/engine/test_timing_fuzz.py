"""The numbers do not depend on how long anything takes: only on what waits for what."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from corruptions import without_edges
from mapped import Array, assert_equal, expected, given_values, mapped
from small_models import MODELS

from sim.engine import functional, run
from sim.errors import InvariantViolation
from sim.graph.graph import Graph
from sim.passes import default_passes
from sim.program import Kind, Program, Segment

CASES = {
    "grouped, data": ("grouped", "mesh of 8", {"partition": "data"}),
    "residual, auto": ("residual", "crossbar of 4", {}),
    "attention, reduction": ("attention", "ring of 2, ganged arrays", {"partition": "reduction"}),
    "llama, two inputs": ("llama decode", "crossbar of 4", {"inputs": 2}),
    "branches, pipeline": ("split_and_concat", "mesh of 8", {"partition": "pipeline", "inputs": 3}),
}
RUNS = 24
LONGEST_TICKS = 10**7


def with_random_times(program: Program, seed: int) -> Program:
    """Durations over seven orders of magnitude; every hold and release legal."""
    rng = np.random.default_rng(seed)
    return replace(program, segments=tuple(_shaken(segment, rng) for segment in program.segments))


def _shaken(segment: Segment, rng: np.random.Generator) -> Segment:
    dur = np.exp(rng.uniform(0, np.log(LONGEST_TICKS), segment.tasks)).astype(np.int64)
    hold = np.maximum(1, (dur * rng.choice([0.0, 0.5, 1.0], segment.tasks)).astype(np.int64))
    release = np.where(rng.random(segment.tasks) < 0.05, rng.integers(0, LONGEST_TICKS, segment.tasks), 0)
    return replace(segment, dur=dur, hold=hold, release=release)


def case(name: str) -> tuple[Graph, Program, dict[str, Array]]:
    model, chip, options = CASES[name]
    graph = default_passes(MODELS[model]())
    return graph, mapped(graph, chip, **options), given_values(graph, 5)


@pytest.mark.parametrize("name", CASES)
def test_numbers_stay_whatever_the_times(name: str) -> None:
    graph, program, values = case(name)
    wanted = expected(graph, values)
    latencies = set()
    for seed in range(RUNS):
        shaken = with_random_times(program, seed)
        timeline = run(shaken)
        latencies.add(timeline.latency_ps)
        assert_equal(functional.run(shaken, timeline, graph, values), wanted)
    assert len(latencies) == RUNS


@pytest.mark.parametrize(
    ("before", "after"),
    [(Kind.LOAD, Kind.MATMUL), (Kind.MATMUL, Kind.LOAD), (Kind.STORE, Kind.VECTOR), (Kind.STORE, Kind.LOAD)],
)
def test_some_times_show_a_missing_edge(before: Kind, after: Kind) -> None:
    """Running with shaken times finds missing edges, though each timing alone may hide them."""
    graph, program, values = case("residual, auto")
    wanted = expected(graph, values)
    broken = without_edges(program, before, after)
    noticed = 0
    for seed in range(5):
        shaken = with_random_times(broken, seed)
        try:
            assert_equal(functional.run(shaken, run(shaken), graph, values), wanted)
        except (InvariantViolation, AssertionError):
            noticed += 1
    assert noticed == 5
