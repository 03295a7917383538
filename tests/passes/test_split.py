"""Reductions in two steps: the same numbers, on as many lanes as there are."""

from __future__ import annotations

import numpy as np
import pytest

import sim
from sim.graph.builder import GraphBuilder
from sim.graph.evaluate import evaluate, random_values
from sim.graph.graph import Graph
from sim.passes import default_passes, split_reductions
from sim.pipeline import verify_values


def reduction(shape: tuple[int, ...], axes: tuple[int, ...], function: str = "sum", keepdims: bool = False) -> Graph:
    b = GraphBuilder("one", "fp32")
    return b.build([b.reduce(b.input("x", shape), function, axes, keepdims)], kernel=True)


def convolved(shape: tuple[int, ...], axes: tuple[int, ...]) -> Graph:
    b = GraphBuilder("one", "fp32")
    return b.build([b.reduce(b.conv(b.input("x", shape), 3, 3, padding=1), "sum", axes, False)])


@pytest.mark.parametrize("function", ["sum", "mean", "max", "min", "prod"])
@pytest.mark.parametrize("keepdims", [True, False])
@pytest.mark.parametrize(
    ("shape", "axes", "lengths"),
    [
        ((4096,), (0,), [64, 64]),
        ((3, 8, 40), (0, 1, 2), [32, 30]),  # 960 = 30 x 32
        ((2, 3, 5, 7, 8), (0, 1, 2, 3, 4), [42, 40]),  # 1680 = 40 x 42
        ((6, 600), (1,), [25, 24]),
        ((600, 6), (0,), [25, 24]),
        ((40, 1024), (1,), [64, 16]),  # 16 parts of each of 40
        ((1, 32, 600), (2,), [25, 24]),  # of a group norm written out
        ((2, 3, 4, 5, 30), (2, 3, 4), [25, 24]),
        ((3, 20, 30, 2), (1, 2), [25, 24]),
    ],
)  # fmt: skip
def test_the_same_numbers_in_two_steps(
    shape: tuple[int, ...], axes: tuple[int, ...], lengths: list[int], function: str, keepdims: bool
) -> None:
    graph = reduction(shape, axes, function, keepdims)
    split = split_reductions(graph)
    steps = [op for op in split.ops if op.kind == "reduce"]
    found = [split.tensors[op.inputs[0]].elements // split.tensors[op.output].elements for op in steps]
    assert found == lengths
    values = {"x": random_values(graph, 1)["x"] * 0.01 + 1.0}
    (name,) = graph.outputs
    np.testing.assert_allclose(evaluate(split, values)[name], evaluate(graph, values)[name], rtol=1e-9)
    assert split.tensors[name] == graph.tensors[name]


@pytest.mark.parametrize(
    "graph",
    [
        reduction((64, 4096), (1,)),  # work for 64 lanes
        reduction((255,), (0,)),  # short
        reduction((4099,), (0,)),  # prime
        reduction((20, 4, 20), (0, 2)),  # its axes do not follow each other
        convolved((4, 3, 20, 20), (1, 2, 3)),  # nor do these in memory
        reduction((4096,), (0,), "argmax"),
    ],
)  # fmt: skip
def test_others_are_left(graph: Graph) -> None:
    assert split_reductions(graph) is graph


def test_a_sum_takes_the_lanes_that_there_are() -> None:
    """65,536 numbers on 8 lanes: 256 sums of 256 in 32 rounds, and 256 more in one lane, not 65,536 in it."""
    report = sim.simulate(reduction((65536,), (0,)), "tiny", overrides={"core.dma.bandwidth": "1 TB/s"})
    clock_hz = 500e6
    assert 8192 + 256 <= report["latency_s"] * clock_hz < 20_000


def test_what_follows_joins_the_second_step() -> None:
    b = GraphBuilder("one", "fp32")
    graph = default_passes(b.build([b.relu(b.reduce(b.input("x", (4096,)), "max", (0,), True))]))
    assert [op.kind for op in graph.ops] == ["reshape", "reduce", "reduce", "elementwise"]


@pytest.mark.parametrize("chip", ["tiny", "lepton_s", "a100"])
def test_tile_by_tile(chip: str) -> None:
    for shape, axes in (((6, 600), (1,)), ((2, 4, 300), (2,)), ((3, 5, 60, 2), (1, 2))):
        assert verify_values(reduction(shape, axes, "mean"), chip).outputs
