"""Passes keep the meaning: the same numbers before and after, the same multiply-accumulates."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import random_graph

from sim.graph.builder import GraphBuilder
from sim.graph.evaluate import evaluate, random_values
from sim.graph.graph import Graph
from sim.graph.onnx import light_model_path, load_onnx
from sim.passes import default_passes, fold_channel_scales, fold_constants, fuse_epilogues, remove_dead


def functions(graph: Graph) -> list[list[str]]:
    """Kind, then fused functions, of every operator."""
    return [[op.kind, *(step["function"] for step in op.epilogue)] for op in graph.ops]


def assert_same(before: Graph, after: Graph, seed: int = 0) -> None:
    feeds = {name: value for name, value in random_values(before, seed).items() if name in before.inputs}
    with np.errstate(all="ignore"):
        wanted, found = evaluate(before, feeds), evaluate(after, feeds)
    for name in before.outputs:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-9, atol=1e-9)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_passes_keep_numbers_and_macs(seed: int) -> None:
    before = random_graph(seed)
    for run in (remove_dead, fold_constants, fold_channel_scales, fuse_epilogues, default_passes):
        after = run(before)
        assert after.outputs == before.outputs
        assert len(after.ops) <= len(before.ops)
        assert_same(before, after, seed)
    live = remove_dead(before)
    assert default_passes(before).macs == live.macs
    again = default_passes(default_passes(before))
    assert len(again.ops) == len(default_passes(before).ops)


# Convolutions of each network, the rest of its operators, from the papers; all else must disappear.
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet50", {"conv": 53, "pool": 2, "reshape": 1, "matmul": 1, "softmax": 1}),
        ("vgg19", {"conv": 16, "pool": 5, "reshape": 1, "matmul": 3, "softmax": 1}),
        ("inception_v2", {"conv": 69, "pool": 13, "concat": 10, "reshape": 1, "matmul": 1, "softmax": 1}),
        # the first norm of each dense layer follows a concatenation and has no convolution to go into
        ("densenet121", {"conv": 121, "batch_norm": 62, "pool": 4, "concat": 58, "reduce": 1}),
    ],
)
def test_networks_shrink_to_their_layers(name: str, expected: dict[str, int]) -> None:
    before = load_onnx(light_model_path(name))
    after = default_passes(before)
    assert Counter(op.kind for op in after.ops) == expected
    assert after.macs == before.macs


def test_resnet_blocks_are_conv_add_relu() -> None:
    graph = default_passes(load_onnx(light_model_path("resnet50")))
    kinds = Counter(tuple(step["function"] for step in op.epilogue) for op in graph.ops if op.kind == "conv")
    # 16 residual sums, 33 plain activations, 4 shortcuts without one
    assert kinds == {("add", "relu"): 16, ("relu",): 33, (): 4}
    # torchvision's resnet50: 25,557,032 with scale and shift of 26,560 channels, of which the shift stays as bias
    assert graph.parameter_count == 25_557_032 - 26_560


def network() -> tuple[GraphBuilder, str]:
    builder = GraphBuilder("g", "fp32")
    return builder, builder.input("x", (1, 4, 6, 6))


def test_residual_joins_the_later_branch() -> None:
    builder, x = network()
    long = builder.conv(builder.relu(builder.conv(x, 4, 3, padding=1)), 4, 3, padding=1, name="long")
    short = builder.conv(x, 4, 1, name="short")
    graph = fuse_epilogues(builder.build([builder.relu(builder.add(long, short))]))
    assert [op.name for op in graph.ops] == ["conv", "long", "short"]
    assert functions(graph) == [["conv", "relu"], ["conv"], ["conv", "add", "relu"]]
    assert graph.ops[2].epilogue[0].inputs == ("short", "long")


@pytest.mark.parametrize(("at", "function"), [(0, "where"), (1, "keep_where"), (2, "fill_where")])
def test_a_choice_joins_the_host_of_any_of_its_operands(at: int, function: str) -> None:
    builder, x = network()
    more = [builder.input("more", (1, 4, 6, 6)), builder.input("less", (6, 1))]
    host = builder.conv(x, 4, 1, name="host")
    graph = builder.build([builder.relu(builder.elementwise("where", *more[:at], host, *more[at:]))])
    fused = fuse_epilogues(graph)
    assert functions(fused) == [["conv", function, "relu"]]
    assert fused.ops[0].epilogue[0].inputs == ("host", *more)
    graph = replace(graph, values=random_values(graph, 1))
    assert_same(graph, fuse_epilogues(graph))


@pytest.mark.parametrize("late", [False, True])
def test_a_condition_waits_rather_than_what_is_chosen(late: bool) -> None:
    """Wherever it is computed: it has a byte an element, and behind the scores comes their softmax."""
    builder, x = network()
    host = builder.conv(x, 4, 1, name="host") if late else ""
    condition = builder.elementwise("less", builder.input("a", (1, 4, 6, 6)), x, name="condition")
    host = host or builder.conv(x, 4, 1, name="host")
    graph = builder.build([builder.elementwise("where", condition, builder.weight((1,)), host)])
    fused = fuse_epilogues(graph)
    assert functions(fused) == [["elementwise"], ["conv", "fill_where"]]
    graph = replace(graph, values=random_values(graph, 1))
    assert_same(graph, fuse_epilogues(graph))
    alone = builder.build([builder.elementwise("where", condition, x, builder.weight((1,)))])
    assert functions(fuse_epilogues(remove_dead(alone))) == [["elementwise", "where"]]


def test_host_moves_behind_the_operand_it_waits_for() -> None:
    builder, x = network()
    early = builder.conv(x, 4, 1, name="early")
    late = builder.pool(x, "max", 1, name="late")
    graph = fuse_epilogues(builder.build([builder.add(early, late)]))
    assert [op.name for op in graph.ops] == ["late", "early"]


def test_what_must_not_fuse() -> None:
    builder, x = network()
    first = builder.conv(x, 4, 1)
    second = builder.elementwise("sub", x, first)  # the running result is second, and order matters
    third = builder.conv(second, 4, 1)
    fourth = builder.mul(third, third)  # reads it twice
    fifth = builder.conv(fourth, 4, 1)
    sixth = builder.add(builder.relu(fifth), fifth)  # two readers
    seventh = builder.conv(sixth, 4, 1)
    grown = builder.add(seventh, builder.weight((3, 4, 6, 6)))  # another shape
    eighth = builder.conv(grown, 4, 1)
    outputs = [builder.relu(eighth), eighth]  # an output of the graph
    graph = fuse_epilogues(builder.build(outputs))
    assert functions(graph) == [
        ["conv"],
        ["elementwise"],
        ["conv"],
        ["elementwise"],
        ["conv"],
        ["elementwise", "add"],
        ["conv"],
        ["elementwise"],
        ["conv"],
        ["elementwise"],
    ]


def test_blocks_stay_apart() -> None:
    builder, x = network()
    with builder.block(0):
        y = builder.conv(x, 4, 1)
    with builder.block(1):
        z = builder.relu(y)
    assert len(fuse_epilogues(builder.build([z])).ops) == 2


def test_host_does_not_move_past_a_write_of_what_it_reads() -> None:
    builder = GraphBuilder("g", "fp32")
    cache = builder.state("cache", (2, 4))
    old = builder.matmul(cache, builder.weight((4, 4)))
    builder.cache_update(cache, builder.input("new", (1, 4)), 0, 0)
    graph = builder.build([builder.relu(old), cache])
    fused = fuse_epilogues(graph)
    assert functions(fused) == [["matmul"], ["cache_update"], ["elementwise"]]


def test_updates_of_states_are_never_dead() -> None:
    builder, x = network()
    cache = builder.state("cache", (2, 4))
    builder.cache_update(cache, builder.input("new", (1, 4)), 0, 0)
    builder.tanh(x)
    graph = remove_dead(builder.build([builder.relu(x)]))
    assert [op.kind for op in graph.ops] == ["cache_update", "elementwise"]


def test_norm_folds_without_numbers_too() -> None:
    builder, x = network()
    graph = fold_channel_scales(builder.build([builder.batch_norm(builder.conv(x, 8, 3, bias=False))]))
    (op,) = graph.ops
    assert op.kind == "conv"
    assert [graph.tensors[name].shape for name in op.inputs] == [(1, 4, 6, 6), (8, 4, 3, 3), (8,)]
    assert not graph.values
    assert graph.parameter_count == 8 * 36 + 8


def test_shared_weights_are_not_scaled_for_others() -> None:
    builder, x = network()
    first = builder.conv(x, 4, 1, bias=False)
    attributes = builder.ops[-1].attributes
    second = builder.add_op("conv", [x, "conv.weight"], attributes)
    names = [builder.batch_norm(first), second]
    graph = builder.build(names)
    graph = Graph(graph.name, graph.tensors, graph.ops, graph.inputs, graph.outputs, random_values(graph, 1))
    assert_same(graph, fold_channel_scales(graph))


def test_growing_constants_are_left_to_run() -> None:
    builder = GraphBuilder("g", "fp32")
    x = builder.input("x", (1, 300, 300))
    row, column = (builder.weight(shape, value=np.ones(shape)) for shape in ((1, 300), (300, 1)))
    graph = builder.build([builder.add(x, builder.mul(row, column))])
    assert len(fold_constants(graph).ops) == 2
    small = GraphBuilder("g", "fp32")
    x = small.input("x", (1, 30, 30))
    row, column = (small.weight(shape, value=np.ones(shape)) for shape in ((1, 30), (30, 1)))
    assert len(fold_constants(small.build([small.add(x, small.mul(row, column))])).ops) == 1
