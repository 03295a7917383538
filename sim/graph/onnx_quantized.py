"""ONNX operators on quantised tensors: handlers by operator type.

Each is written as the dequantisations, the operator and the quantisation that its definition says it is; the pass
sim/passes/quantized.py then multiplies the integers. Semantics: the ONNX operator definitions, onnx.ai/onnx/operators,
and of com.microsoft docs/ContribOperators.md of github.com/microsoft/onnxruntime.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from sim.graph.onnx_functions import FUNCTIONS
from sim.graph.onnx_layers import LAYERS
from sim.graph.onnx_node import Handler, Importer, Node, Unsupported

_MOST_ROWS = 1024
"""Parallel maxima of a tensor whose range is sought: enough for the lanes of several cores."""


def _dequantized(model: Importer, node: Node, first: int, axis: int = 1) -> str:
    """Inputs `first` to `first` + 2: integers, their scale, their zero point."""
    names = (*node.inputs[first : first + 3], "", "")[:3]
    inner = replace(node, op_type="DequantizeLinear", inputs=names, attributes={"axis": axis})
    return FUNCTIONS["DequantizeLinear"](model, inner)[0]


def _quantized(model: Importer, node: Node, x: str, scale: int) -> str:
    """x quantised by the scale and the zero point that are inputs `scale` and `scale` + 1."""
    name = f"{node.name}.result"
    model.names[name] = x
    names = (name, *node.inputs[scale : scale + 2])
    inner = replace(node, op_type="QuantizeLinear", inputs=names, attributes={"axis": 1})
    return FUNCTIONS["QuantizeLinear"](model, inner)[0]


def _conv(model: Importer, node: Node) -> list[str]:
    """QLinearConv: x, its scale and zero point; w, its; those of y; a bias in steps of both scales."""
    x, w = _dequantized(model, node, 0), _dequantized(model, node, 3, axis=0)
    inputs = [x, w]
    if node.has(8):
        inputs.append(_bias(model, node, 8, 1.0))
    return [_quantized(model, node, _on(model, node, "Conv", inputs), 6)]


def _bias(model: Importer, node: Node, index: int, factor: float) -> str:
    """Input `index`, integers in steps of the product of both operands' scales (inputs 1 and 4), as numbers."""
    whole, left, right = (model.value(node, place) for place in (index, 1, 4))
    if whole is None or left is None or right is None:
        raise ValueError("a scale is missing")
    numbers = whole.astype(np.float64) * factor * left.reshape(-1)[0] * right.reshape(-1)
    return model.weight(numbers.astype(np.float32), f"{node.name}.bias")


def _on(model: Importer, node: Node, op_type: str, tensors: Sequence[str]) -> str:
    """Another operator with this node's attributes, on tensors."""
    names = [f"{node.name}.operand.{index}" for index in range(len(tensors))]
    model.names.update(zip(names, tensors, strict=True))
    handlers = {**LAYERS, **FUNCTIONS}
    return handlers[op_type](model, replace(node, op_type=op_type, domain="", inputs=tuple(names)))[0]


def _matmul(model: Importer, node: Node) -> list[str]:
    a, b = _dequantized(model, node, 0), _dequantized(model, node, 3, axis=-1)
    return [_quantized(model, node, _on(model, node, "MatMul", [a, b]), 6)]


def _gemm(model: Importer, node: Node) -> list[str]:
    """QGemm: without a scale of y the result stays in floating point."""
    columns = -2 if node.get("transB", 0) else -1
    inputs = [_dequantized(model, node, 0), _dequantized(model, node, 3, axis=columns)]
    if node.has(6):
        inputs.append(_bias(model, node, 6, node.get("alpha", 1.0)))
    result = _on(model, node, "Gemm", inputs)
    return [_quantized(model, node, result, 7) if node.has(7) else result]


def _binary(op_type: str) -> Handler:
    """QLinearAdd, QLinearMul: a and b with scales and zero points, then those of the result."""

    def handler(model: Importer, node: Node) -> list[str]:
        operands = [_dequantized(model, node, 0), _dequantized(model, node, 3)]
        return [_quantized(model, node, _on(model, node, op_type, operands), 6)]

    return handler


def _unary(op_type: str) -> Handler:
    """QLinearSigmoid, a quantised pool, ...: x with scale and zero point, then those of the result."""

    def handler(model: Importer, node: Node) -> list[str]:
        if node.get("channels_last", 0):
            raise Unsupported("channels_last = 1")
        return [_quantized(model, node, _on(model, node, op_type, [_dequantized(model, node, 0)]), 3)]

    return handler


def _softmax(model: Importer, node: Node) -> list[str]:
    found = replace(node, opset=node.get("opset", 13))
    return [_quantized(model, node, _on(model, found, "Softmax", [_dequantized(model, node, 0)]), 3)]


def _concat(model: Importer, node: Node) -> list[str]:
    """QLinearConcat: scale and zero point of the result, then triples."""
    parts = [_dequantized(model, node, first) for first in range(2, len(node.inputs), 3)]
    axis = node.attributes["axis"] % len(model.shape(parts[0]))
    return [_quantized(model, node, model.op("concat", parts, {"axis": axis}, node), 0)]


def _product_of_integers(op_type: str) -> Handler:
    """MatMulInteger, ConvInteger: integers less their zero points, the result in int32."""

    def handler(model: Importer, node: Node) -> list[str]:
        operands = [_centred(model, node, index, index + 2) for index in (0, 1)]
        result = _on(model, node, op_type, operands)
        tensors = model.builder.tensors
        tensors[result] = replace(tensors[result], dtype="int32")
        return [result]

    return handler


def _centred(model: Importer, node: Node, index: int, zero: int) -> str:
    """Integers less their zero point, which may be computed; a constant is worked out here."""
    known = model.constants.get(node.inputs[index])
    origin = model.constants.get(node.inputs[zero]) if node.has(zero) else np.zeros((), np.int64)
    if origin is not None and not origin.any():
        return model.tensor(node, index)
    x, offset = model.tensor(node, index), model.tensor(node, zero)
    shape = model.shape(offset)
    if math.prod(shape) > 1 and len(shape) == 1:
        # One per row of a left operand, per filter of a convolution; per column of a right operand as it stands.
        behind = len(model.shape(x)) - 1 if node.op_type == "ConvInteger" else 1 - index
        shape = (*shape, *(1,) * behind)
    if known is not None and origin is not None:
        whole = known.astype(np.int64) - origin.astype(np.int64).reshape(shape)
        return model.builder.weight(whole.shape, f"{node.name}.{index}", "int8", whole)
    if model.shape(offset) != shape:
        offset = model.op("reshape", [offset], {"shape": shape}, node)
    return model.function(node, "sub", x, offset)


def _dynamic_quantize(model: Importer, node: Node) -> list[str]:
    """DynamicQuantizeLinear: to uint8 by the range of the numbers, zero included: y, its scale, its zero point."""
    x = model.tensor(node, 0)
    zero = model.scalar(node, 0.0, x)
    # In two steps: of rows, which have work for all lanes, then of what is left.
    elements = math.prod(model.shape(x))
    rows = next(count for count in range(min(_MOST_ROWS, elements), 0, -1) if elements % count == 0)
    table = model.op("reshape", [x], {"shape": (rows, elements // rows)}, node)

    def end(function: str) -> str:
        reach = model.op("reduce", [table], {"function": function, "axes": (1,), "keepdims": False}, node)
        reach = model.op("reduce", [reach], {"function": function, "axes": (0,), "keepdims": False}, node)
        return model.function(node, function, reach, zero)

    high, low = end("max"), end("min")
    span = model.function(node, "sub", high, low)
    scale = model.function(node, "div", span, model.scalar(node, 255.0, x))
    origin = model.function(node, "neg", model.function(node, "div", low, scale))
    origin = model.function(node, "round", model.function(node, "clip", origin, parameters=(0.0, 255.0)))
    steps = model.function(node, "round", model.function(node, "div", x, scale))
    steps = model.function(node, "clip", model.function(node, "add", steps, origin), parameters=(0.0, 255.0))
    outputs = [model.function(node, "cast", y, parameters=(0.0, 255.0), dtype="int8") for y in (steps, origin)]
    return [outputs[0], scale, outputs[1]]


def _matmul_to_float(model: Importer, node: Node) -> list[str]:
    """MatMulIntegerToFloat (a, b, scales, zero points, bias): com.microsoft's product of integers, scaled."""
    plain = replace(node, inputs=(*node.inputs[:2], *(*node.inputs[4:6], "", "")[:2]), op_type="MatMulInteger")
    result = _product_of_integers("MatMul")(model, plain)[0]
    scale = model.function(node, "mul", model.tensor(node, 2), model.tensor(node, 3))
    result = model.function(node, "mul", result, scale, dtype=model.dtype(scale))
    return [model.function(node, "add", result, model.tensor(node, 6)) if node.has(6) else result]


def _dynamic_matmul(model: Importer, node: Node) -> list[str]:
    """DynamicQuantizeMatMul (a, b, b's scale and zero point, bias): a is quantised here."""
    quantized = dict(zip(("integers", "scale", "zero"), _dynamic_quantize(model, node), strict=True))
    names = {key: f"{node.name}.{key}" for key in quantized}
    model.names.update({names[key]: tensor for key, tensor in quantized.items()})
    b, b_scale, b_zero, bias = (*node.inputs[1:], "", "", "")[:4]
    inputs = (names["integers"], b, names["scale"], b_scale, names["zero"], b_zero, bias)
    return _matmul_to_float(model, replace(node, inputs=inputs))


QUANTIZED: Mapping[str, Handler] = {
    "QLinearConv": _conv,
    "QLinearMatMul": _matmul,
    "MatMulInteger": _product_of_integers("MatMul"),
    "ConvInteger": _product_of_integers("Conv"),
    "DynamicQuantizeLinear": _dynamic_quantize,
}

QUANTIZED_CONTRIB: Mapping[str, Handler] = {
    "DequantizeLinear": FUNCTIONS["DequantizeLinear"],
    "DynamicQuantizeMatMul": _dynamic_matmul,
    "MatMulIntegerToFloat": _matmul_to_float,
    "QGemm": _gemm,
    "QLinearAdd": _binary("Add"),
    "QLinearAveragePool": _unary("AveragePool"),
    "QLinearConcat": _concat,
    "QLinearConv": _conv,
    "QLinearGlobalAveragePool": _unary("GlobalAveragePool"),
    "QLinearLeakyRelu": _unary("LeakyRelu"),
    "QLinearMul": _binary("Mul"),
    "QLinearSigmoid": _unary("Sigmoid"),
    "QLinearSoftmax": _softmax,
    "QuantizeLinear": FUNCTIONS["QuantizeLinear"],
}
