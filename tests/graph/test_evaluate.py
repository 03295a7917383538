"""Meanings not reached by way of ONNX, exactness of integers, and the shape of what is computed."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sim.graph.builder import GraphBuilder
from sim.graph.evaluate import apply_epilogue, evaluate, evaluate_op, random_values
from sim.graph.op import BINARY_FUNCTIONS, ELEMENT_FUNCTIONS, TERNARY_FUNCTIONS, Op


def elementwise(function: str, *inputs: Any, parameters: tuple[float, ...] = ()) -> Any:
    op = Op("op", "elementwise", ("x",), "y", {"function": function, "parameters": parameters})
    return evaluate_op(op, [np.asarray(value) for value in inputs])


PARAMETERS = {
    "leaky_relu": (0.1,),
    "elu": (1.0,),
    "clip": (-1.0, 1.0),
    "hard_sigmoid": (0.2, 0.5),
    "quantize": (0.1, 3.0, 0.0, 255.0),
    "dequantize": (0.1, 3.0),
    "isinf": (1, 1),
    "selu": (1.67, 1.05),
    "celu": (0.7,),
    "thresholded_relu": (0.8,),
    "shrink": (0.5, 0.1),
    "quick_gelu": (1.702,),
}

DOMAINS = {"asin": 0.25, "acos": 0.25, "atanh": 0.25, "acosh": 2.0, **dict.fromkeys(("shift_left", "shift_right"), 2.0)}
"""What brings 0.5, 1 and 2 to where the function is defined."""


@pytest.mark.parametrize("function", sorted(ELEMENT_FUNCTIONS))
def test_every_function_has_a_meaning(function: str) -> None:
    arity = 3 if function in TERNARY_FUNCTIONS else 2 if function in BINARY_FUNCTIONS else 1
    inputs = [np.array([0.5, 1.0, 2.0]) * DOMAINS.get(function, 1.0)] * arity
    result = elementwise(function, *inputs, parameters=PARAMETERS.get(function, ()))
    assert result.shape == (3,)
    assert np.isfinite(result.astype(float)).all()


@pytest.mark.parametrize(
    ("function", "parameters", "expected"),
    [
        ("silu", (), -2.0 / (1.0 + math.exp(2.0))),
        ("gelu", (), -2.0 * 0.5 * math.erfc(2.0 / math.sqrt(2.0))),
        ("gelu_tanh", (), -0.04540230591222),  # Hendrycks and Gimpel 2016
        ("mish", (), -2.0 * math.tanh(math.log1p(math.exp(-2.0)))),
        ("quantize", (0.4, 3.0, 0.0, 255.0), 0.0),
        ("quantize", (0.8, 3.0, 0.0, 255.0), 1.0),  # -2.5 rounds to the even -2
        ("dequantize", (0.5, 3.0), -2.5),
        ("cast", (-128.0, 127.0), -2.0),
        ("square", (), 4.0),
    ],
)
def test_functions_of_minus_two(function: str, parameters: tuple[float, ...], expected: float) -> None:
    assert elementwise(function, -2.0, parameters=parameters) == pytest.approx(expected, rel=1e-9)


def test_choices_by_the_tensor_that_is_chosen_from() -> None:
    x, choice, y = [1.0, 2.0, 3.0], [True, False, True], 9.0
    assert elementwise("where", choice, x, y).tolist() == [1.0, 9.0, 3.0]
    assert elementwise("keep_where", x, choice, y).tolist() == [1.0, 9.0, 3.0]
    assert elementwise("fill_where", x, choice, y).tolist() == [9.0, 2.0, 9.0]


def test_nothing_overflows_far_out() -> None:
    for function in ("sigmoid", "silu", "tanh", "softplus", "mish", "elu"):
        assert np.isfinite(elementwise(function, [-1e4, 1e4], parameters=PARAMETERS.get(function, ()))).all()


def test_integers_stay_exact_beyond_double_precision() -> None:
    """2^31 * 2^31 * 2 + 1 is lost in float64."""
    builder = GraphBuilder("g", "int32")
    a, b = builder.input("a", (1, 3)), builder.input("b", (3, 1))
    y = builder.matmul(a, b)
    feeds = {"a": np.array([[2**31, 2**31, 1]]), "b": np.array([[2**30], [2**30], [1]])}
    found = evaluate(builder.build([y]), feeds)[y]
    assert found.dtype == np.int64
    assert found[0, 0] == 2**62 + 1


def test_integer_convolution_is_exact() -> None:
    builder = GraphBuilder("g", "int8")
    x = builder.input("x", (2, 4, 6, 6))
    y = builder.relu(builder.conv(x, 6, 3, padding="same", groups=2))
    graph = builder.build([y])
    values = random_values(graph, 3, integers=True)
    found = evaluate(graph, values)[y]
    assert found.dtype == np.int64
    as_floats = {name: value.astype(float) for name, value in values.items()}
    np.testing.assert_array_equal(found, evaluate(graph, as_floats)[y])


def test_convolution_by_hand() -> None:
    builder = GraphBuilder("g", "fp32")
    x = builder.input("x", (1, 1, 4))
    y = builder.conv(x, 1, 2, stride=2, padding=((1, 1),), dilation=2)
    graph = builder.build([y])
    feeds = {
        "x": np.array([[[1.0, 2, 3, 4]]]),
        "conv.weight": np.array([[[10.0, 1]]]),
        "conv.bias": np.array([5.0]),
    }
    # padded 0 1 2 3 4 0: taps (0, 2), (2, 4)
    np.testing.assert_array_equal(evaluate(graph, feeds)[y], [[[0 + 2 + 5, 20 + 4 + 5]]])


def test_transposed_convolution_is_the_adjoint() -> None:
    """<conv(x), y> = <x, conv_transpose(y)> for the same weight."""
    rng = np.random.default_rng(4)
    window = {"kernel": (3, 2), "stride": (2, 1), "dilation": (1, 2), "pad_begin": (1, 0), "pad_end": (0, 1)}
    forward = Op("f", "conv", ("x", "w"), "y", {**window, "groups": 2})
    backward = Op("b", "conv_transpose", ("y", "w"), "x", {**window, "groups": 2, "output_pad": (0, 0)})
    x, w = rng.normal(size=(2, 4, 8, 6)), rng.normal(size=(6, 2, 3, 2))
    result = evaluate_op(forward, [x, w])
    y = rng.normal(size=result.shape)
    back = evaluate_op(backward, [y, w])
    assert back.shape == x.shape
    assert np.vdot(result, y) == pytest.approx(np.vdot(x, back), rel=1e-12)


def test_average_pool_divides_by_what_it_sees() -> None:
    builder = GraphBuilder("g", "fp32")
    x = builder.input("x", (1, 1, 3))
    plain = builder.pool(x, "average", 2, 1, padding=1)
    counted = builder.pool(x, "average", 2, 1, padding=1, count_include_pad=True)
    found = evaluate(builder.build([plain, counted]), {"x": np.array([[[2.0, 4, 6]]])})
    np.testing.assert_array_equal(found[plain][0, 0], [2, 3, 5, 6])
    np.testing.assert_array_equal(found[counted][0, 0], [1, 3, 5, 3])


def test_max_pool_of_negative_integers_ignores_padding() -> None:
    builder = GraphBuilder("g", "int8")
    y = builder.pool(builder.input("x", (1, 1, 2)), "max", 2, 1, padding=1)
    found = evaluate(builder.build([y]), {"x": np.array([[[-5, -7]]])})[y]
    np.testing.assert_array_equal(found[0, 0], [-5, -5, -7])


def test_norms_have_the_moments_they_promise() -> None:
    builder = GraphBuilder("g", "fp32")
    x = builder.input("x", (2, 6, 8))
    names = [builder.layer_norm(x, 1, epsilon=0.0), builder.group_norm(x, 3, epsilon=0.0)]
    rms = builder.rms_norm(x, epsilon=0.0)
    graph = builder.build([*names, rms])
    ones = {
        n: np.full(t.shape, float(n.endswith("scale")))
        for n, t in graph.tensors.items()
        if t.role == "weight"
    }
    found = evaluate(graph, {"x": random_values(graph, 0)["x"] * 3.0 + 1.0}, ones)
    for name, groups in zip(names, (1, 3), strict=True):
        split = found[name].reshape(2, groups, -1)
        np.testing.assert_allclose(split.mean(axis=2), 0.0, atol=1e-12)
        np.testing.assert_allclose(split.var(axis=2), 1.0, atol=1e-12)
    np.testing.assert_allclose(np.square(found[rms]).mean(axis=2), 1.0, atol=1e-12)


def test_epilogue_steps_take_their_operands_in_order() -> None:
    def step(function: str, *inputs: str) -> Op:
        return Op(function, "elementwise", inputs, function, {"function": function, "parameters": ()})

    epilogue = (step("sub", "r", "a"), step("relu", "sub"), step("div", "relu", "b"))
    op = Op("m", "matmul", ("x", "w"), "r", {"transpose_a": False, "transpose_b": False}, epilogue)
    found = apply_epilogue(op, np.array([[1.0, 8.0]]), [np.array(2.0), np.array([3.0, 4.0])])
    np.testing.assert_array_equal(found, [[0.0, 1.5]])
    assert op.operands == ("x", "w", "a", "b")
    assert op.result == "div"


def test_random_values_are_legal_and_reproducible() -> None:
    builder = GraphBuilder("g", "fp32")
    ids = builder.input("ids", (50,), "int64")
    looked_up = builder.embedding(builder.reshape(ids, (5, 10)), 7, 4)
    mask = builder.input("mask", (5, 10, 4), "bool")
    chosen = builder.elementwise("where", mask, looked_up, looked_up)
    normal = builder.batch_norm(chosen)
    graph = builder.build([normal])
    values = random_values(graph, 9)
    assert set(values["ids"].tolist()) == set(range(7))
    assert values["mask"].dtype == bool
    assert values["batch_norm.variance"].min() > 0
    again = random_values(graph, 9)
    assert all((values[name] == again[name]).all() for name in values)
    assert evaluate(graph, values)[normal].shape == (5, 10, 4)


def test_values_that_do_not_fit_are_named() -> None:
    builder = GraphBuilder("g", "fp32")
    y = builder.relu(builder.input("x", (2, 3)))
    with pytest.raises(ValueError, match="'x' has no value"):
        evaluate(builder.build([y]), {})
    with pytest.raises(ValueError, match=r"'x': expected the shape \(2, 3\), found \(3, 2\)"):
        evaluate(builder.build([y]), {"x": np.zeros((3, 2))})


def test_a_sink_far_above_all_scores_leaves_nothing() -> None:
    """As of a row that sees no key: e^-1000 of 1, without an overflow."""
    op = Op("softmax", "softmax", ("x", "sink"), "y", {"axis": 1, "log": False})
    with np.errstate(all="raise", under="ignore"):
        found = evaluate_op(op, [np.array([[0.0, 1.0], [0.0, 1.0]]), np.array([[1000.0], [0.0]])])
    assert found.tolist() == [[0.0, 0.0], [pytest.approx(1 / (2 + math.e)), pytest.approx(math.e / (2 + math.e))]]
