"""Operators on quantised tensors against ONNX Runtime, and that their products are made of integers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx_models import build, compare

from sim.graph.evaluate import evaluate
from sim.graph.graph import Graph
from sim.passes import default_passes

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(3)


def u8(*shape: int) -> Array:
    return RNG.integers(0, 256, shape).astype(np.uint8)


def s8(*shape: int) -> Array:
    return RNG.integers(-128, 128, shape).astype(np.int8)


def scale(*values: float) -> Array:
    return np.array(values[0] if len(values) == 1 else values, np.float32)


def zero(value: int, like: Array) -> Array:
    return np.array(value, like.dtype)


def integer_products(graph: Graph) -> list[str]:
    """Formats of the operands of every contraction after the passes of a simulation."""
    done = default_passes(graph)
    contractions = [op for op in done.ops if op.kind in ("conv", "matmul")]
    return [done.tensors[name].dtype for op in contractions for name in op.inputs[:2]]


def check(
    folder: Path, op_type: str, feeds: list[Array], constants: list[Array], domain: str = "", **more: Any
) -> Graph:
    """One node. A result may lie on a rounding border, where the order of multiplications decides on one step."""
    given = {f"x{index}": value for index, value in enumerate(feeds)}
    known = {f"c{index}": value for index, value in enumerate(constants)}
    names = more.pop("names", [*given, *known])
    node = helper.make_node(op_type, names, ["y"], domain=domain, name="n", **more)
    model = build([node], given, ["y"], known, 17, {domain: 1} if domain else {})
    graph = compare(model, given, folder, TensorProto.UINT8, 1.0)
    feed = {name: given[name] for name in graph.inputs}
    plain, passed = evaluate(graph, feed), evaluate(default_passes(graph), feed)
    assert np.abs(plain[graph.outputs[0]] - passed[graph.outputs[0]]).max() <= 1
    return graph


@pytest.mark.parametrize("origin", [0, 131])
@pytest.mark.parametrize("per_channel", [False, True])
def test_quantised_convolution(origin: int, per_channel: bool, tmp_path: Path) -> None:
    """With padding, which is zero in numbers and the zero point in integers."""
    x, w = u8(2, 4, 7, 6), s8(6, 2, 3, 3)
    w_scale = scale(0.02, 0.01, 0.03, 0.02, 0.01, 0.02) if per_channel else scale(0.02)
    w_zero = np.zeros(6, np.int8) if per_channel else zero(0, w)
    bias = RNG.integers(-900, 900, 6).astype(np.int32)
    constants = [scale(0.03), zero(origin, x), w, w_scale, w_zero, scale(0.5), zero(120, x), bias]
    graph = check(tmp_path, "QLinearConv", [x], constants, pads=[1, 1, 1, 1], group=2, strides=[2, 1])
    assert integer_products(graph) == ["int8", "int8"]
    assert default_passes(graph).macs == graph.macs


@pytest.mark.parametrize("w_zero", [0, 7])
def test_quantised_product(w_zero: int, tmp_path: Path) -> None:
    a, b = u8(3, 8), s8(8, 5)
    constants = [scale(0.03), zero(100, a), b, scale(0.02), zero(w_zero, b), scale(0.2), zero(128, a)]
    assert integer_products(check(tmp_path, "QLinearMatMul", [a], constants)) == ["int8", "int8"]


def test_products_of_integers(tmp_path: Path) -> None:
    a, b = u8(3, 8), u8(8, 5)
    assert integer_products(check(tmp_path, "MatMulInteger", [a], [b, zero(9, a), zero(130, b)])) == ["int8", "int8"]
    x, w = u8(1, 3, 5, 5), u8(2, 3, 3, 3)
    graph = check(tmp_path, "ConvInteger", [x], [w, zero(9, x), zero(130, w)], pads=[1, 1, 1, 1])
    assert integer_products(graph) == ["int8", "int8"]


MS = "com.microsoft"


def test_quantised_functions(tmp_path: Path) -> None:
    a, b, points = u8(2, 3, 4), u8(2, 3, 4), [scale(0.03), np.uint8(100)]
    triple = ["c0", "c1"]
    end = ["c2", "c3"]
    constants = [*points, scale(0.05), zero(90, a)]
    for op_type in ("QLinearAdd", "QLinearMul"):
        check(tmp_path, op_type, [a, b], constants, MS, names=["x0", *triple, "x1", *triple, *end])
    for op_type in ("QLinearSigmoid", "QLinearLeakyRelu"):
        check(tmp_path, op_type, [a], constants, MS, names=["x0", *triple, *end])
    check(tmp_path, "QLinearConcat", [a, b], constants, MS, names=[*end, "x0", *triple, "x1", *triple], axis=1)
    image = u8(1, 3, 6, 6)
    for op_type, more in (("QLinearGlobalAveragePool", {}), ("QLinearAveragePool", {"kernel_shape": [2, 2]})):
        check(tmp_path, op_type, [image], constants, MS, names=["x0", *triple, *end], **more)
    assert isinstance(b, np.ndarray)


def test_quantised_gemm(tmp_path: Path) -> None:
    a, b = u8(3, 8), s8(5, 8)
    bias = RNG.integers(-900, 900, 5).astype(np.int32)
    constants = [scale(0.03), zero(100, a), b, scale(0.02), zero(0, b), bias, scale(0.2), zero(128, a)]
    graph = check(tmp_path, "QGemm", [a], constants, MS, transB=1, alpha=1.0)
    assert integer_products(graph) == ["int8", "int8"]
    node = helper.make_node("QGemm", ["x", *"abcdef"], ["y"], domain=MS, transB=1)
    known = dict(zip("abcdef", constants[:6], strict=True))
    graph = compare(build([node], {"x": a}, ["y"], known, domains={MS: 1}), {"x": a}, tmp_path)
    assert graph.tensors[graph.outputs[0]].dtype == "fp32"


def test_dynamic_quantisation(tmp_path: Path) -> None:
    x = RNG.normal(size=(4, 6)).astype(np.float32)
    b = s8(6, 5)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], name="quantise"),
        helper.make_node("MatMulInteger", ["q", "b", "z"], ["whole"], name="product"),
        helper.make_node("Cast", ["whole"], ["wide"], to=1),
        helper.make_node("Mul", ["wide", "s"], ["y"]),
    ]
    graph = compare(build(nodes, {"x": x}, ["y"], {"b": b}), {"x": x}, tmp_path)
    assert integer_products(graph) == ["int8", "int8"]
    for op_type, names in (
        ("DynamicQuantizeMatMul", ["x", "b", "bs", "", "bias"]),
        ("MatMulIntegerToFloat", ["q", "b", "as", "bs", "", "", "bias"]),
    ):
        node = helper.make_node(op_type, names, ["y"], domain=MS, name="n")
        feeds = {"x": x} if "x" in names else {"q": u8(4, 6)}
        known = {"b": b, "bs": scale(0.02), "as": scale(0.03), "bias": np.ones(5, np.float32)}
        known = {name: value for name, value in known.items() if name in names}
        compare(build([node], feeds, ["y"], known, domains={MS: 1}), feeds, tmp_path)


def packed_parts(graph: Graph) -> list[tuple[str, tuple[int, ...], str, int]]:
    """Format and shape of the weights of every packed product after the passes, format of its result, its group."""
    done = default_passes(graph)
    wide = [tensor for tensor in done.tensors.values() if tensor.role == "weight" and tensor.dtype == "fp32"]
    assert all(tensor.elements <= 20 for tensor in wide)
    return [
        (done.tensors[op.inputs[1]].dtype, done.tensors[op.inputs[1]].shape, done.tensors[op.result].dtype, op["group"])
        for op in done.ops
        if op.kind == "packed_matmul"
    ]


def check_weights(
    folder: Path, weight: Array, scales: Array, zero: Array | None, turned: bool = False, **attributes: Any
) -> Graph:
    """numbers x dequantised weights + a bias, as GPTQ and AWQ models are exported: against ONNX Runtime, as written and
    after the passes."""
    x, known = RNG.normal(size=(3, weight.shape[1 if turned else 0])).astype(np.float32), {"w": weight, "s": scales}
    known |= {} if zero is None else {"z": zero}
    known["b"] = RNG.normal(size=weight.shape[0 if turned else 1]).astype(np.float32)
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s", *(["z"] if zero is not None else [])], ["wide"], **attributes),
        helper.make_node("Gemm", ["x", "wide", "b"], ["y"], transB=int(turned)),
    ]
    graph = compare(build(nodes, {"x": x}, ["y"], known, 21), {"x": x}, folder, as_written=True)
    plain, passed = (evaluate(one, {"x": x})[one.outputs[0]] for one in (graph, default_passes(graph)))
    np.testing.assert_allclose(passed, plain, rtol=1e-5, atol=1e-5)
    return graph


@pytest.mark.parametrize("origin", [False, True])
@pytest.mark.parametrize("turned", [False, True])
def test_weights_of_blocks_stay_packed(turned: bool, origin: bool, tmp_path: Path) -> None:
    """32 x 5 weights in blocks of 8 along the sum, however they lie."""
    shape, rows = ((5, 32), (5, 4)) if turned else ((32, 5), (4, 5))
    scales = RNG.uniform(0.01, 0.1, rows).astype(np.float32)
    zero = s8(*rows) if origin else None
    graph = check_weights(tmp_path, s8(*shape), scales, zero, turned, axis=1 if turned else 0, block_size=8)
    assert packed_parts(graph) == [("int8", shape, "fp32", 8)]


def test_weights_with_a_scale_per_column_or_one(tmp_path: Path) -> None:
    columns = RNG.uniform(0.01, 0.1, 5).astype(np.float32)
    assert packed_parts(check_weights(tmp_path, s8(32, 5), columns, None, axis=1)) == [("int8", (32, 5), "fp32", 32)]
    one = check_weights(tmp_path, u8(32, 5), scale(0.02), np.array(130, np.uint8))
    assert packed_parts(one) == [("int8", (32, 5), "fp32", 32)]


def test_scales_along_the_sum_are_no_columns(tmp_path: Path) -> None:
    """One per row of the weights belongs to no result: they are unpacked when the model is prepared."""
    rows = RNG.uniform(0.01, 0.1, 32).astype(np.float32)
    graph = check_weights(tmp_path, s8(32, 5), rows, None, axis=0)
    assert [op.kind for op in default_passes(graph).ops] == ["matmul"]


def test_transposed_weights_keep_their_blocks(tmp_path: Path) -> None:
    """[5, 32] in blocks of 8 along the 32, turned by an operator of its own: 4 rows of 5 scales."""
    x, known = RNG.normal(size=(3, 32)).astype(np.float32), {"w": s8(5, 32)}
    known["s"] = RNG.uniform(0.01, 0.1, (5, 4)).astype(np.float32)
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["wide"], axis=1, block_size=8),
        helper.make_node("Transpose", ["wide"], ["turned"], perm=[1, 0]),
        helper.make_node("MatMul", ["x", "turned"], ["y"]),
    ]
    graph = compare(build(nodes, {"x": x}, ["y"], known, 21), {"x": x}, tmp_path, as_written=True)
    plain, passed = (evaluate(one, {"x": x})[one.outputs[0]] for one in (graph, default_passes(graph)))
    np.testing.assert_allclose(passed, plain, rtol=1e-5, atol=1e-5)
    assert packed_parts(graph) == [("int8", (32, 5), "fp32", 8)]
