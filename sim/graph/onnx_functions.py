"""ONNX operators that work element by element, and reductions: handlers by operator type.

Semantics: the ONNX operator definitions, onnx.ai/onnx/operators, of the opset of the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx.helper import tensor_dtype_to_np_dtype

from sim.graph.onnx_node import DTYPES, Array, Handler, Importer, Node, Unsupported, normal_axis

_UNARY: Mapping[str, str] = {
    "Abs": "abs",
    "Acos": "acos",
    "Acosh": "acosh",
    "Asin": "asin",
    "Asinh": "asinh",
    "Atan": "atan",
    "Atanh": "atanh",
    "BitwiseNot": "bit_not",
    "Ceil": "ceil",
    "Cos": "cos",
    "Cosh": "cosh",
    "Erf": "erf",
    "Exp": "exp",
    "Floor": "floor",
    "HardSwish": "hard_swish",
    "IsNaN": "isnan",
    "Log": "log",
    "Mish": "mish",
    "Neg": "neg",
    "Not": "not",
    "Reciprocal": "reciprocal",
    "Relu": "relu",
    "Round": "round",
    "Sigmoid": "sigmoid",
    "Sign": "sign",
    "Sin": "sin",
    "Sinh": "sinh",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Sqrt": "sqrt",
    "Tan": "tan",
    "Tanh": "tanh",
}

_WITH_PARAMETERS: Mapping[str, tuple[str, tuple[tuple[str, float], ...]]] = {
    "LeakyRelu": ("leaky_relu", (("alpha", 0.01),)),
    "Celu": ("celu", (("alpha", 1.0),)),
    "IsInf": ("isinf", (("detect_negative", 1), ("detect_positive", 1))),
    # the constants of Klambauer et al., Self-Normalizing Neural Networks, 2017
    "Selu": ("selu", (("alpha", 1.6732632423543772), ("gamma", 1.0507009873554805))),
    "Shrink": ("shrink", (("lambd", 0.5), ("bias", 0.0))),
    "Swish": ("quick_gelu", (("alpha", 1.0),)),
    "ThresholdedRelu": ("thresholded_relu", (("alpha", 1.0),)),
    "Elu": ("elu", (("alpha", 1.0),)),
    "HardSigmoid": ("hard_sigmoid", (("alpha", 0.2), ("beta", 0.5))),
}

_BINARY: Mapping[str, str] = {
    "Add": "add",
    "And": "and",
    "BitwiseAnd": "bit_and",
    "BitwiseOr": "bit_or",
    "BitwiseXor": "bit_xor",
    "Div": "div",
    "Equal": "equal",
    "Greater": "greater",
    "Less": "less",
    "Mul": "mul",
    "Or": "or",
    "PRelu": "prelu",
    "Sub": "sub",
    "Xor": "xor",
}

_NEGATED: Mapping[str, str] = {"GreaterOrEqual": "less", "LessOrEqual": "greater"}

_CHAINED: Mapping[str, str] = {"Sum": "add", "Mean": "add", "Max": "max", "Min": "min"}

_REDUCTIONS: Mapping[str, tuple[str | None, str, str | None]] = {
    # what is applied before, the reduction, what is applied after
    "ReduceSum": (None, "sum", None),
    "ReduceMean": (None, "mean", None),
    "ReduceMax": (None, "max", None),
    "ReduceMin": (None, "min", None),
    "ReduceProd": (None, "prod", None),
    "ReduceL1": ("abs", "sum", None),
    "ReduceL2": ("square", "sum", "sqrt"),
    "ReduceSumSquare": ("square", "sum", None),
    "ReduceLogSum": (None, "sum", "log"),
    "ReduceLogSumExp": ("exp", "sum", "log"),
}

_INTEGER_RANGES: Mapping[str, tuple[float, float]] = {
    f"{sign}int{bits}": (-(2.0 ** (bits - 1)) if not sign else 0.0, 2.0 ** (bits - (not sign)) - 1.0)
    for bits in (4, 8, 16, 32, 64)
    for sign in ("", "u")
}


def _unary(model: Importer, node: Node) -> list[str]:
    return [model.function(node, _UNARY[node.op_type], model.tensor(node, 0))]


def _with_parameters(model: Importer, node: Node) -> list[str]:
    function, defaults = _WITH_PARAMETERS[node.op_type]
    parameters = [node.get(name, default) for name, default in defaults]
    return [model.function(node, function, model.tensor(node, 0), parameters=parameters)]


def _gelu(model: Importer, node: Node) -> list[str]:
    node.expect("approximate", "none", "tanh")
    function = "gelu" if node.get("approximate", "none") == "none" else "gelu_tanh"
    return [model.function(node, function, model.tensor(node, 0))]


def _clip(model: Importer, node: Node) -> list[str]:
    """Bounds are attributes before opset 11, inputs after; an absent one is no bound."""
    limits = []
    for index, (attribute, default) in enumerate((("min", -np.inf), ("max", np.inf)), start=1):
        given = node.get(attribute, None)
        found = model.value(node, index) if given is None else np.asarray(given)
        limits.append(default if found is None else float(found.reshape(-1)[0]))
    return [model.function(node, "clip", model.tensor(node, 0), parameters=limits)]


def _operands(model: Importer, node: Node) -> tuple[str, str]:
    """Both operands. Before opset 7 the second begins at axis `axis` of the first where `broadcast` says so (a suffix
    unless told), and the slopes of PRelu are those of axis 1."""
    a, b = model.tensor(node, 0), model.tensor(node, 1)
    rank, own = len(model.shape(a)), model.shape(b)
    axis = node.get("axis", None) if node.get("broadcast", 0) else None
    if node.op_type == "PRelu" and node.opset < 7 and len(own) == 1 and own != (1,):
        axis = 1
    if axis is None or node.opset >= 7:
        return a, b
    behind = rank - normal_axis(axis, rank) - len(own)
    if behind < 0:
        raise ValueError(f"axis {axis}: {len(own)} dimensions do not begin there in a tensor of rank {rank}")
    if not behind:
        return a, b
    shape = (*own, *[1] * behind)
    if node.inputs[1] in model.constants:
        return a, model.weight(model.constants[node.inputs[1]].reshape(shape), f"{node.name}.operand")
    return a, model.builder.reshape(b, shape, f"{node.name}.operand")


def _binary(model: Importer, node: Node) -> list[str]:
    node.expect("broadcast", 0, 1)
    a, b = _operands(model, node)
    whole = node.op_type == "Div" and "int" in model.dtype(a)
    return [model.function(node, "int_div" if whole else _BINARY[node.op_type], a, b)]


def _modulo(model: Importer, node: Node) -> list[str]:
    function = "fmod" if node.get("fmod", 0) else "mod"
    return [model.function(node, function, model.tensor(node, 0), model.tensor(node, 1))]


def _shift(model: Importer, node: Node) -> list[str]:
    node.expect("direction", "LEFT", "RIGHT")
    function = f"shift_{node.attributes['direction'].lower()}"
    return [model.function(node, function, model.tensor(node, 0), model.tensor(node, 1))]


def _negated(model: Importer, node: Node) -> list[str]:
    opposite = model.function(node, _NEGATED[node.op_type], model.tensor(node, 0), model.tensor(node, 1))
    return [model.function(node, "not", opposite)]


def _power(model: Importer, node: Node) -> list[str]:
    """Squares and square roots, which are what exponents mostly are, cost less than a power."""
    node.expect("broadcast", 0, 1)
    base, other = _operands(model, node)
    exponent = model.constants.get(node.inputs[1])
    if exponent is not None and exponent.size == 1 and exponent.ndim <= len(model.shape(base)):
        plain = {2.0: "square", 0.5: "sqrt"}.get(float(exponent.reshape(-1)[0]))
        if plain:
            return [model.function(node, plain, base)]
    return [model.function(node, "pow", base, other)]


def _chained(model: Importer, node: Node) -> list[str]:
    """A sum (maximum, ...) of any number of tensors: one operator for each after the first."""
    tensors = model.tensors(node)
    result = tensors[0]
    for other in tensors[1:]:
        result = model.function(node, _CHAINED[node.op_type], result, other)
    if node.op_type == "Mean":
        result = model.function(node, "mul", result, model.scalar(node, 1.0 / len(tensors), result))
    return [result]


def _where(model: Importer, node: Node) -> list[str]:
    return [model.function(node, "where", *model.tensors(node))]


def _cast(model: Importer, node: Node) -> list[str]:
    x = model.tensor(node, 0)
    if node.op_type == "CastLike":
        return [_convert(model, node, x, model.dtype(model.tensor(node, 1)))]
    found = np.dtype(tensor_dtype_to_np_dtype(node.attributes["to"])).name
    if found not in DTYPES:
        raise Unsupported(f"a cast to {found}")
    return [_convert(model, node, x, DTYPES[found], _INTEGER_RANGES.get(found))]


def _convert(
    model: Importer, node: Node, x: str, dtype: str, limits: tuple[float, float] | None = None
) -> str:
    source = model.dtype(x)
    if source == dtype:
        return x
    if dtype == "bool":
        zero = model.builder.weight((), f"{node.name}.zero", source, np.array(0.0, np.float32))
        return model.function(node, "not", model.function(node, "equal", x, zero))
    truncates = source != "bool" and "int" not in source and "int" in dtype
    parameters = (limits or _INTEGER_RANGES[dtype]) if truncates else ()
    return model.function(node, "cast", x, parameters=parameters, dtype=dtype)


def _quantize(model: Importer, node: Node) -> list[str]:
    """round(x / scale) + zero, within the format; with a scale per channel or block, its operators one by one."""
    x, scale, zero = model.tensor(node, 0), model.value(node, 1), model.value(node, 2)
    if scale is None:
        raise ValueError("the scale is missing")
    target = "uint8" if zero is None else zero.dtype.name
    if zero is None and node.get("output_dtype", 0):
        target = np.dtype(tensor_dtype_to_np_dtype(node.attributes["output_dtype"])).name
    if target not in _INTEGER_RANGES:
        raise Unsupported(f"quantisation to {target}")
    if scale.size != 1:
        result = model.function(node, "div", x, model.weight(_spread(model, node, x, scale), f"{node.name}.scale"))
        result = model.function(node, "round", result)
        if zero is not None and zero.any():
            origins = _spread(model, node, x, zero).astype(scale.dtype)
            result = model.function(node, "add", result, model.weight(origins, f"{node.name}.zero"))
        result = model.function(node, "clip", result, parameters=_INTEGER_RANGES[target])
        return [model.function(node, "cast", result, parameters=_INTEGER_RANGES[target], dtype=DTYPES[target])]
    origin = 0.0 if zero is None else float(zero.reshape(-1)[0])
    parameters = (float(scale.reshape(-1)[0]), origin, *_INTEGER_RANGES[target])
    return [model.function(node, "quantize", x, parameters=parameters, dtype=DTYPES[target])]


def _dequantize(model: Importer, node: Node) -> list[str]:
    """(x - zero) * scale; with one scale per channel or block, as a cast, a subtraction and a product."""
    x, scale, zero = model.tensor(node, 0), model.value(node, 1), model.value(node, 2)
    if scale is None:
        raise ValueError("the scale is missing")
    dtype = DTYPES[scale.dtype.name]
    if scale.size == 1:
        origin = 0.0 if zero is None else float(zero.reshape(-1)[0])
        parameters = (float(scale.reshape(-1)[0]), origin)
        return [model.function(node, "dequantize", x, parameters=parameters, dtype=dtype)]
    result = model.function(node, "cast", x, dtype=dtype)
    if zero is not None and zero.any():
        origins = _spread(model, node, x, zero).astype(scale.dtype)
        result = model.function(node, "sub", result, model.weight(origins, f"{node.name}.zero"))
    factor = model.weight(_spread(model, node, x, scale), f"{node.name}.scale")
    attributes: dict[str, Any] = {"function": "mul", "parameters": ()}
    if node.get("block_size", 0):
        attributes["block"] = normal_axis(node.get("axis", 1), len(model.shape(x))), node.attributes["block_size"]
    return [model.op("elementwise", [result, factor], attributes, node)]


def _spread(model: Importer, node: Node, x: str, values: Array) -> Array:
    """Scales or zero points so that they broadcast over x: one per channel of an axis, or per block along it."""
    shape = model.shape(x)
    axis, block = normal_axis(node.get("axis", 1), len(shape)), node.get("block_size", 0)
    if block:
        if values.ndim != len(shape):
            raise ValueError(f"scales {values.shape} per block do not fit a tensor {shape}")
        return np.repeat(values, block, axis=axis).take(np.arange(shape[axis]), axis=axis)
    if values.ndim != 1:
        raise ValueError(f"scales {values.shape} are neither one nor one per channel")
    return values.reshape(-1, *(1,) * (len(shape) - 1 - axis))


def _reduce(model: Importer, node: Node) -> list[str]:
    x = model.tensor(node, 0)
    rank = len(model.shape(x))
    before, function, after = _REDUCTIONS[node.op_type]
    given = model.ints(node, "axes", 1)
    if not given and node.get("noop_with_empty_axes", 0):
        axes: tuple[int, ...] = ()
    else:
        axes = tuple(sorted(normal_axis(axis, rank) for axis in given or range(rank)))
    if before:
        x = model.function(node, before, x)
    if axes:
        attributes = {"function": function, "axes": axes, "keepdims": bool(node.get("keepdims", 1))}
        x = model.op("reduce", [x], attributes, node)
    return [model.function(node, after, x) if after else x]


def _place(model: Importer, node: Node) -> list[str]:
    x = model.tensor(node, 0)
    attributes = {
        "function": node.op_type.lower(),
        "axes": (normal_axis(node.get("axis", 0), len(model.shape(x))),),
        "keepdims": bool(node.get("keepdims", 1)),
        "last": bool(node.get("select_last_index", 0)),
    }
    return [model.op("reduce", [x], attributes, node)]


FUNCTIONS: Mapping[str, Handler] = {
    **dict.fromkeys(_UNARY, _unary),
    **dict.fromkeys(_WITH_PARAMETERS, _with_parameters),
    **dict.fromkeys(_BINARY, _binary),
    **dict.fromkeys(_NEGATED, _negated),
    **dict.fromkeys(_CHAINED, _chained),
    **dict.fromkeys(_REDUCTIONS, _reduce),
    "ArgMax": _place,
    "ArgMin": _place,
    "BitShift": _shift,
    "Mod": _modulo,
    "Gelu": _gelu,
    "Clip": _clip,
    "Pow": _power,
    "Where": _where,
    "Cast": _cast,
    "CastLike": _cast,
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
}
