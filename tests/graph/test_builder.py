from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sim.graph.builder import GraphBuilder
from sim.graph.evaluate import evaluate, random_values


def test_a_small_network() -> None:
    builder = GraphBuilder("lenet", "int8")
    x = builder.input("x", (4, 1, 28, 28))
    x = builder.relu(builder.conv(x, 6, 5, padding=2))
    x = builder.pool(x, "max", 2)
    x = builder.relu(builder.conv(x, 16, 5))
    x = builder.pool(x, "max", 2)
    x = builder.reshape(x, (4, -1))
    graph = builder.build([builder.linear(x, 10)], items=4)
    assert graph.tensors[x].shape == (4, 400)
    # LeCun et al. 1998: 28 x 28 x 6 x 25, 10 x 10 x 16 x 150, 400 x 10
    assert graph.macs == 4 * (117_600 + 240_000 + 4_000)
    assert graph.parameter_count == 6 * 26 + 16 * 151 + 10 * 401
    assert graph.weight_bytes == graph.parameter_count


def test_names_are_unique_and_readable() -> None:
    builder = GraphBuilder("g", "fp32")
    x = builder.input("x", (2, 8))
    assert builder.linear(x, 8) == "linear"
    assert builder.linear(x, 8) == "linear_2"
    assert builder.linear(x, 8, name="head") == "head"
    assert builder.linear(x, 8, name="head") == "head_2"
    assert {"linear.weight", "linear_2.weight", "head_2.bias"} <= set(builder.tensors)
    with pytest.raises(ValueError, match="'x' exists already"):
        builder.input("x", (1,))


def test_errors_name_the_operator() -> None:
    builder = GraphBuilder("g", "fp32")
    x = builder.input("x", (2, 8))
    with pytest.raises(ValueError, match=r"sum: shapes \[\(2, 8\), \(3,\)\] do not broadcast"):
        builder.add(x, builder.weight((3,)), name="sum")
    with pytest.raises(ValueError, match="there is no tensor 'y'"):
        builder.relu("y")
    with pytest.raises(ValueError, match=r"expected a value of shape \(2,\), found \(3,\)"):
        builder.weight((2,), value=np.zeros(3))
    with pytest.raises(ValueError, match="do not add up to the extent 8"):
        builder.split(x, [3, 4], 1)
    with pytest.raises(ValueError, match="axis 2 is outside"):
        builder.softmax(x, 2)
    with pytest.raises(ValueError, match="expected 1 entries"):
        builder.conv(builder.input("s", (1, 2, 9)), 4, (3, 3))


def test_blocks_nest_and_end() -> None:
    builder = GraphBuilder("g", "fp32")
    x = builder.input("x", (2, 8))
    with builder.block(0):
        x = builder.relu(x)
    x = builder.tanh(x)
    with builder.block(1):
        x = builder.relu(x)
    assert [op.block for op in builder.build([x]).ops] == [0, -1, 1]


@pytest.mark.parametrize(
    ("padding", "begin", "end"),
    [
        (1, (1, 1), (1, 1)),
        ("same", (0, 2), (1, 2)),
        ((2, 0), (2, 0), (2, 0)),
        (((0, 1), (2, 3)), (0, 2), (1, 3)),
    ],
)
def test_paddings(padding: object, begin: tuple[int, ...], end: tuple[int, ...]) -> None:
    builder = GraphBuilder("g", "fp32")
    x = builder.input("x", (1, 2, 8, 9))
    op_name = builder.conv(x, 4, (2, 5), padding=padding)  # type: ignore[arg-type]
    op = builder.build([op_name]).ops[-1]
    assert (op["pad_begin"], op["pad_end"]) == (begin, end)


def test_dtypes_of_masks_and_choices() -> None:
    builder = GraphBuilder("g", "bf16")
    x = builder.input("x", (2, 8))
    mask = builder.elementwise("less", x, builder.weight((8,)))
    chosen = builder.elementwise("where", mask, x, x)
    assert builder.tensors[mask].dtype == "bool"
    assert builder.tensors[chosen].dtype == "bf16"


def test_cache_update_writes_in_place() -> None:
    builder = GraphBuilder("g", "fp32")
    cache = builder.state("cache", (1, 6, 2))
    new = builder.input("new", (1, 2, 2))
    assert builder.cache_update(cache, new, 1, 3) == "cache"
    graph = builder.build(["cache"])
    fed = {"cache": np.zeros((1, 6, 2)), "new": np.ones((1, 2, 2))}
    rows = evaluate(graph, fed)["cache"][0, :, 0]
    np.testing.assert_array_equal(rows, [0, 0, 0, 1, 1, 0])
    assert not fed["cache"].any()


def test_rope_tables_are_shared_and_rotate() -> None:
    builder = GraphBuilder("g", "fp32")
    q, k = builder.input("q", (1, 3, 4)), builder.input("k", (1, 3, 4))
    names = [builder.rope(q, theta=100.0, position=5), builder.rope(k, theta=100.0, position=5)]
    graph = builder.build(names)
    assert graph.ops[0].inputs[1:] == graph.ops[1].inputs[1:]
    feeds = {"q": np.eye(4)[:3][None], "k": np.zeros((1, 3, 4))}
    # second pair of position 6: the angle is 6 * 100^(-2/4) = 0.6
    rotated = evaluate(graph, feeds)[names[0]][0, 1]
    np.testing.assert_allclose(rotated, [0, np.cos(0.6), 0, np.sin(0.6)], atol=1e-6)


@pytest.mark.parametrize(("kind", "gates"), [("lstm", 4), ("gru", 3)])
def test_recurrent_layers_cost_what_they_are(kind: str, gates: int) -> None:
    steps, batch, width, hidden = 7, 2, 5, 3
    builder = GraphBuilder("g", "fp32")
    x = builder.input("x", (steps, batch, width))
    y = getattr(builder, kind)(x, hidden, layers=2, bidirectional=True)
    graph = builder.build([y])
    assert graph.tensors[y].shape == (steps, batch, 2 * hidden)
    first, second = (gates * hidden * (size + hidden) for size in (width, 2 * hidden))
    assert graph.macs == steps * batch * 2 * (first + second)
    found = evaluate(graph, random_values(graph, 1))[y]
    assert found.shape == (steps, batch, 2 * hidden)
    assert np.abs(found).max() < 1.0  # a bounded state: tanh times a gate, or a mix of such


def test_a_bidirectional_layer_sees_the_other_end() -> None:
    builder = GraphBuilder("g", "fp32")
    y = builder.lstm(builder.input("x", (4, 1, 2)), 3, bidirectional=True)
    graph = builder.build([y])
    values = random_values(graph, 2)
    base = evaluate(graph, values)[y]
    values["x"][-1] += 1.0
    moved = np.abs(evaluate(graph, values)[y] - base).max(axis=(1, 2))
    assert (np.abs(evaluate(graph, values)[y] - base)[0, 0, :3] == 0).all()  # forward, first step
    assert moved[0] > 1e-6  # backward, first step


def _conv_of(shape: tuple[int, ...], **arguments: Any) -> Callable[[GraphBuilder], str]:
    return lambda builder: builder.conv(builder.input("x", shape), 4, 3, **arguments)


MISTAKES: list[tuple[Callable[[GraphBuilder], object], str]] = [
    (lambda b: b.shape("lost"), "there is no tensor 'lost'"),
    (lambda b: b.conv("lost", 4, 3), "there is no tensor 'lost'"),
    (lambda b: b.relu("lost"), "there is no tensor 'lost'"),
    (_conv_of((4,)), r"expected an input \[N, C, \*S\], found \(4,\) of x"),
    (_conv_of((1, 4, 8, 8), groups=0), "4 channels of x do not divide into 0 groups"),
    (_conv_of((1, 4, 8, 8), groups=3), "4 channels of x do not divide into 3 groups"),
    (lambda b: b.reduce(b.input("x", (2, 3)), "sum", [5]), r"axis 5 is outside the shape \(2, 3\) of x"),
    (lambda b: b.reshape(b.input("x", (2, 3)), (-1, -1)), r"at most one -1, found \(-1, -1\)"),
    (lambda b: b.reshape(b.input("x", (2, 3)), (0, 6)), r"expected positive extents and at most one -1"),
    (lambda b: b.concat([], 0), "expected one tensor or more"),
    (lambda b: b.batch_norm(b.input("x", (4,))), r"expected an input \[N, C, \*S\]"),
    (lambda b: b.rope(b.input("x", (2, 3))), "with D even"),
    (lambda b: b.resize(b.input("x", (1, 2, 4, 4)), (2.0,)), r"expected 2 scales, .* found \(2.0,\)"),
]


@pytest.mark.parametrize(("mistake", "text"), MISTAKES)
def test_mistakes_are_value_errors_that_say_what_was_expected(
    mistake: Callable[[GraphBuilder], object], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        mistake(GraphBuilder("mistake", "fp32"))


def test_every_public_method_says_what_it_takes() -> None:
    public = [getattr(GraphBuilder, name) for name in dir(GraphBuilder) if not name.startswith("_")]
    assert [method.__name__ for method in public if callable(method) and not method.__doc__] == []
