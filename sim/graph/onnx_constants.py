"""Arithmetic on constants, mostly of shapes, done while an ONNX file is read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.graph.onnx_node import DTYPES, Array, Importer, Node, Unsupported, normal_axis

if TYPE_CHECKING:
    import onnx

_MOST_ELEMENTS = 1 << 23
"""Larger results are left to operators on weights, which a later pass folds without a copy too many."""

# fmt: off
_FOLDED = frozenset(
    {
        "Abs", "Add", "And", "ArgMax", "ArgMin", "BatchNormalization", "Cast", "CastLike", "Ceil", "Clip", "Concat",
        "Cos", "CumSum", "Div", "Equal", "Exp", "Floor", "Gather", "GatherElements", "GatherND",
        "Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min",
        "Mod", "Mul", "Neg", "NonZero", "Not", "Or", "Pow", "Reciprocal", "ReduceMax", "ReduceMean",
        "ReduceMin", "ReduceProd", "ReduceSum", "Relu", "Reshape", "Round", "ScatterElements",
        "ScatterND", "Sigmoid", "Sign", "Sin", "Slice", "Split", "Sqrt", "Squeeze", "Sub", "Sum",
        "Tanh", "Transpose", "Trilu", "Unsqueeze", "Where", "Xor",
    }
)
# fmt: on
"""Operators whose result has at most the elements of their broadcast (or, for lookups, multiplied) inputs."""

_LOOKUPS = frozenset({"Gather", "GatherElements", "GatherND"})

_VIEWS = frozenset({"Identity", "Squeeze", "Transpose", "Unsqueeze"})


def fold(model: Importer, node: Node, proto: onnx.NodeProto) -> list[Array] | None:
    """The outputs of a node that depends on constants and shapes only; None where it is to be computed."""
    if node.domain:
        return None
    if node.op_type == "Constant":
        return [_constant(node)]
    if node.op_type in ("Shape", "Size") and node.inputs[0]:
        return [_shape(model, node)]
    if not all(name in model.constants for name in node.inputs if name):
        return None
    inputs = [model.constants[name] for name in node.inputs if name]
    if node.op_type == "GatherElements":
        return [_gather_elements(node, *inputs)]
    if node.op_type in _REPEATING:
        return _repeat(node, inputs)
    if node.op_type not in _FOLDED or _bound(node.op_type, inputs) > _MOST_ELEMENTS:
        return None
    return _compute(model, node, proto)


def can_fold(op_type: str) -> bool:
    """Whether the operator is understood where its inputs are constants."""
    return op_type in _FOLDED or op_type in _REPEATING or op_type in ("Constant", "Shape", "Size")


def _constant(node: Node) -> Array:
    for attribute, found in node.attributes.items():
        if attribute == "value" and isinstance(found, np.ndarray):
            return found
        if attribute in ("value_int", "value_ints"):
            return np.asarray(found, np.int64)
        if attribute in ("value_float", "value_floats"):
            return np.asarray(found, np.float32)
        raise Unsupported(f"a constant given as {attribute}")
    raise ValueError("the constant has no value")


def _shape(model: Importer, node: Node) -> Array:
    known = model.constants.get(node.inputs[0])
    shape = model.shape(model.tensor(node, 0)) if known is None else known.shape
    if node.op_type == "Size":
        return np.asarray(math.prod(shape), np.int64)
    return np.asarray(shape[node.get("start", 0) : node.get("end", None)], np.int64)


def _constant_of_shape(node: Node, inputs: Sequence[Array]) -> Array:
    """Takes no memory, however large: every element is the same number."""
    value = np.asarray(node.get("value", np.zeros(1, np.float32)))
    return np.broadcast_to(value.reshape(()), tuple(inputs[0].tolist()))


def _expand(node: Node, inputs: Sequence[Array]) -> Array:
    data, shape = inputs
    return np.broadcast_to(data, np.broadcast_shapes(data.shape, tuple(shape.tolist())))


def _range(node: Node, inputs: Sequence[Array]) -> Array:
    start, limit, delta = (value.reshape(()).item() for value in inputs)
    _check_size(max(0, math.ceil((limit - start) / delta)))
    return np.arange(start, limit, delta, dtype=inputs[0].dtype)


def _tile(node: Node, inputs: Sequence[Array]) -> Array:
    data, repeats = inputs
    _check_size(data.size * math.prod(repeats.tolist()))
    return np.tile(data, repeats)


def _gather_elements(node: Node, data: Array, indices: Array) -> Array:
    """The other axes of the data may be longer than those of the indices. The reference implementation takes no
    data of one row."""
    axis = normal_axis(node.get("axis", 0), data.ndim)
    reach = tuple(slice(None) if a == axis else slice(extent) for a, extent in enumerate(indices.shape))
    return np.take_along_axis(data[reach], indices.astype(np.int64), axis=axis)


def _check_size(elements: int) -> None:
    if elements > _MOST_ELEMENTS:
        raise Unsupported(f"a constant of {elements:,} elements")


_REPEATING: Mapping[str, Any] = {
    "ConstantOfShape": _constant_of_shape,
    "Expand": _expand,
    "Range": _range,
    "Tile": _tile,
}


def _repeat(node: Node, inputs: Sequence[Array]) -> list[Array]:
    return [_REPEATING[node.op_type](node, inputs)]


def _bound(op_type: str, inputs: Sequence[Array]) -> int:
    """No more new elements than this come out."""
    sizes = [value.size for value in inputs]
    if op_type in _VIEWS:
        return 0  # no new elements: NumPy gives another look at the old ones
    if op_type in _LOOKUPS:
        return math.prod(sizes)
    if op_type == "Concat":
        return sum(sizes)
    if op_type == "BatchNormalization":
        return sizes[0]
    rank = max((value.ndim for value in inputs), default=0)
    shapes = [(1,) * (rank - value.ndim) + value.shape for value in inputs]
    return math.prod(max(extents) for extents in zip(*shapes, strict=True))


def _compute(model: Importer, node: Node, proto: onnx.NodeProto) -> list[Array]:
    """By the reference implementation that the ONNX package brings."""
    from onnx.helper import make_function, make_opsetid
    from onnx.reference import ReferenceEvaluator

    names = list(dict.fromkeys(name for name in node.inputs if name))
    try:
        opset = [make_opsetid("", node.opset)]
        outputs = [name for name in node.outputs if name]
        evaluator = ReferenceEvaluator(make_function("", "fold", names, outputs, [proto], opset))
        with np.errstate(all="ignore"):
            results = evaluator.run(None, {name: model.constants[name] for name in names}, attributes={})
    except Exception as error:  # foreign code, which raises what it likes where inputs do not fit
        raise ValueError(f"cannot be computed: {error}") from error
    arrays = [np.asarray(result) for result in results]
    strange = [array.dtype.name for array in arrays if array.dtype.name not in DTYPES]
    if strange:
        raise Unsupported(f"elements of type {strange[0]}")
    return arrays
