"""The plain NumPy meaning of every operator kind: what a correct machine computes.

Values are float64, or int64 where all operands are integers (sums and products are then exact). Rounding to a
tensor's own number format is not modelled. Formulas are those of the ONNX operator definitions
(onnx.ai/onnx/operators) except where a comment names another source.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.graph.attention import attended
from sim.graph.causal import HIDDEN, causal_mask
from sim.graph.element_functions import FUNCTIONS
from sim.graph.graph import Graph
from sim.graph.interpolation import interpolate, resize_taps
from sim.graph.op import BIASED, Op
from sim.graph.tensor import Tensor

Array = npt.NDArray[Any]
Rule = Callable[[Op, Sequence[Array]], Array]


def evaluate(
    graph: Graph, feeds: Mapping[str, Array], values: Mapping[str, Array] | None = None
) -> dict[str, Array]:
    """Run the graph. `feeds` gives inputs and states, `values` weights; both come before `graph.values`.

    Returns every computed tensor by name, and states as they are at the end. Raises ValueError for a tensor
    without a value or with one of the wrong shape.
    """
    given = {**graph.values, **(values or {}), **feeds}
    known: dict[str, Array] = {}
    computed: dict[str, Array] = {}

    def fetch(name: str) -> Array:
        if name not in computed and name not in known:
            if name not in given:
                raise ValueError(f"tensor {name!r} has no value")
            known[name] = _checked(given[name], graph.tensors[name])
        return computed[name] if name in computed else known[name]

    for op in graph.ops:
        result = evaluate_op(op, [fetch(name) for name in op.inputs])
        extras = [fetch(name) for name in op.operands[len(op.inputs) :]]
        computed[op.result] = apply_epilogue(op, result, extras)
    for name in graph.outputs:
        computed.setdefault(name, fetch(name))
    return computed


def evaluate_op(op: Op, inputs: Sequence[Array]) -> Array:
    """The operator's own result, before its epilogue."""
    if op.kind in BIASED and len(inputs) > 2:
        return add_bias(op, _RULES[op.kind](op, inputs[:2]), inputs[2])
    return _RULES[op.kind](op, inputs)


def add_bias(op: Op, result: Array, bias: Array) -> Array:
    """The result of a contraction plus a vector over its channels: axis 1, of a matmul the last."""
    axis = result.ndim - 1 if op.kind == "matmul" else 1
    return np.asarray(result + bias.reshape(-1, *(1,) * (result.ndim - 1 - axis)))


def apply_epilogue(op: Op, result: Array, extras: Sequence[Array]) -> Array:
    """The fused steps on `result`; `extras` are the values of their further inputs, in order."""
    rest = list(extras)
    for step in op.epilogue:
        count = len(step.inputs) - 1
        result = evaluate_op(step, [result, *rest[:count]])
        rest = rest[count:]
    return result


def random_values(graph: Graph, seed: int, integers: bool = False) -> dict[str, Array]:
    """Values for every input, weight and state that has none: reproducible, and small enough to stay tame.

    Tensors that end up as indices of a gather get legal ones; variances are positive; causal masks are what they say.
    """
    rng = np.random.default_rng(seed)
    limits = _index_limits(graph)
    variances = {op.inputs[4] for op in graph.ops if op.kind == "batch_norm"}
    values: dict[str, Array] = {}
    for name, tensor in graph.tensors.items():
        if tensor.role == "activation" or name in graph.values:
            continue
        if name in limits:
            values[name] = rng.integers(0, limits[name], tensor.shape)
        elif tensor.dtype == "bool":
            values[name] = rng.integers(0, 2, tensor.shape).astype(bool)
        elif name in variances:
            values[name] = rng.uniform(0.5, 1.5, tensor.shape)
        elif name in graph.causal:
            values[name] = causal_mask(tensor.shape[0], tensor.shape[1], -(1 << 20) if integers else HIDDEN)
        elif integers or tensor.dtype in ("int32", "int64"):
            values[name] = rng.integers(-3, 4, tensor.shape)
        else:
            fan_in = tensor.elements // tensor.shape[0] if len(tensor.shape) > 1 else 1
            spread = 1.0 / math.sqrt(fan_in) if tensor.role == "weight" else 1.0
            values[name] = rng.normal(0.0, spread, tensor.shape)
    return values


def _index_limits(graph: Graph) -> dict[str, int]:
    """For every tensor that reaches the indices of a gather unchanged: the smallest extent it points into."""
    limits: dict[str, int] = {}
    for op in reversed(graph.ops):
        if op.kind == "gather":
            limit = graph.tensors[op.inputs[0]].shape[op["axis"]]
            limits[op.inputs[1]] = min(limits.get(op.inputs[1], limit), limit)
        moves = op.kind in ("reshape", "transpose", "slice", "concat")
        if (moves or op.attributes.get("function") in ("cast", "copy")) and op.result in limits:
            for name in op.inputs:
                limits[name] = min(limits.get(name, limits[op.result]), limits[op.result])
    return limits


def _checked(value: Array, tensor: Tensor) -> Array:
    if value.shape != tensor.shape:
        raise ValueError(f"tensor {tensor.name!r}: expected the shape {tensor.shape}, found {value.shape}")
    if value.dtype == bool:
        return value
    return value.astype(np.int64 if np.issubdtype(value.dtype, np.integer) else np.float64)


# Contractions.


def _product(a: Array, b: Array) -> Array:
    """Matrix product. Integers go through float64, which BLAS multiplies fast, where that is exact."""
    if np.issubdtype(a.dtype, np.integer) and np.issubdtype(b.dtype, np.integer):
        bound = float(np.abs(a).max(initial=0)) * float(np.abs(b).max(initial=0)) * a.shape[-1]
        if bound < 2**53:
            return np.asarray((a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64))
    return np.asarray(a @ b)


def _matmul(op: Op, inputs: Sequence[Array]) -> Array:
    a, b = inputs
    a = a.swapaxes(-1, -2) if op["transpose_a"] else a
    b = b.swapaxes(-1, -2) if op["transpose_b"] else b
    return _product(a, b)


def unpacked(b: Array, scale: Array, zero: Array | None, axis: int, groups: Array) -> Array:
    """(b - zero) * scale: index i of b along `axis` has row `groups[i]` of scale and zero."""
    origin = np.zeros((), np.int64) if zero is None else zero.take(groups, axis=axis)
    return np.asarray((b - origin) * scale.take(groups, axis=axis))


def _packed_matmul(op: Op, inputs: Sequence[Array]) -> Array:
    a, b, scale, *rest = inputs
    axis = 1 if op["transpose_b"] else 0
    wide = unpacked(b, scale, rest[0] if rest else None, axis, np.arange(b.shape[axis]) // op["group"])
    return _product(a, wide.T if op["transpose_b"] else wide)


def _windows(op: Op, x: Array, fill: Any) -> Array:
    """x [N, C, *S] to [N, C, *out, *kernel], padded with `fill`."""
    rank = x.ndim - 2
    padding = [(0, 0), (0, 0), *zip(op["pad_begin"], op["pad_end"], strict=True)]
    x = np.pad(x, padding, constant_values=fill)
    span = [d * (k - 1) + 1 for d, k in zip(op["dilation"], op["kernel"], strict=True)]
    view = np.lib.stride_tricks.sliding_window_view(x, span, axis=tuple(range(2, 2 + rank)))
    steps = [slice(None, None, step) for step in (*op["stride"], *op["dilation"])]
    return view[(slice(None), slice(None), *steps)]


def _conv(op: Op, inputs: Sequence[Array]) -> Array:
    x, weight = inputs
    groups, rank = op["groups"], x.ndim - 2
    windows = _windows(op, x, 0)
    space = windows.shape[2 : 2 + rank]
    windows = windows.reshape(x.shape[0], groups, -1, *windows.shape[2:])
    # to [groups, N, *out, C / groups, *kernel]
    order = (1, 0, *range(3, 3 + rank), 2, *range(3 + rank, 3 + 2 * rank))
    depth = math.prod(weight.shape[1:])
    columns = windows.transpose(order).reshape(groups, -1, depth)
    filters = weight.reshape(groups, -1, depth).swapaxes(1, 2)
    result = _product(columns, filters).reshape(groups, x.shape[0], *space, -1)
    return np.moveaxis(result, -1, 1).reshape(weight.shape[0], x.shape[0], *space).swapaxes(0, 1)


def _conv_transpose(op: Op, inputs: Sequence[Array]) -> Array:
    """Every input element adds weight times itself to a window of the output; the padding is cut off."""
    x, weight = inputs
    groups, rank, kernel = op["groups"], x.ndim - 2, op["kernel"]
    batch, channels, *extents = x.shape
    rows = x.reshape(batch, groups, channels // groups, -1).swapaxes(2, 3)
    filters = weight.reshape(groups, channels // groups, -1)
    spread = _product(rows, filters[None]).reshape(batch, groups, *extents, -1, *kernel)
    spread = np.moveaxis(spread, 2 + rank, 2).reshape(batch, -1, *extents, *kernel)
    full = [
        (extent - 1) * stride + dilation * (k - 1) + 1 + extra
        for extent, stride, dilation, k, extra in zip(
            extents, op["stride"], op["dilation"], kernel, op["output_pad"], strict=True
        )
    ]
    result = np.zeros((batch, spread.shape[1], *full), spread.dtype)
    for offset in np.ndindex(*kernel):
        target = tuple(
            slice(d * o, d * o + (extent - 1) * stride + 1, stride)
            for d, o, extent, stride in zip(op["dilation"], offset, extents, op["stride"], strict=True)
        )
        result[:, :, *target] += spread[..., *offset]
    kept = tuple(
        slice(begin, extent - end)
        for begin, extent, end in zip(op["pad_begin"], full, op["pad_end"], strict=True)
    )
    return np.asarray(result[:, :, *kept])


# Pools, reductions, normalisation.


def _pool(op: Op, inputs: Sequence[Array]) -> Array:
    (x,) = inputs
    axes = tuple(range(x.ndim, 2 * x.ndim - 2))
    if op["function"] == "max":
        least = np.iinfo(x.dtype).min if np.issubdtype(x.dtype, np.integer) else -np.inf
        return np.asarray(_windows(op, x, least).max(axis=axes))
    total = _windows(op, x, 0).sum(axis=axes)
    if op["count_include_pad"]:
        return np.asarray(total / math.prod(op["kernel"]))
    count = _windows(op, np.ones((1, 1, *x.shape[2:])), 0).sum(axis=axes)
    return np.asarray(total / np.maximum(count, 1.0))


_REDUCTIONS: Mapping[str, Callable[..., Any]] = {
    "sum": np.sum,
    "mean": np.mean,
    "max": np.max,
    "min": np.min,
    "prod": np.prod,
}


def _reduce(op: Op, inputs: Sequence[Array]) -> Array:
    if op["function"] in ("argmax", "argmin"):
        return _place(op, inputs[0])
    function = _REDUCTIONS[op["function"]]
    return np.asarray(function(inputs[0], axis=tuple(op["axes"]), keepdims=op["keepdims"]))


def _place(op: Op, x: Array) -> Array:
    """Index of the largest or smallest element along an axis; of several the first, or the `last`."""
    (axis,) = op["axes"]
    find = np.argmax if op["function"] == "argmax" else np.argmin
    if not op.attributes.get("last"):
        return np.asarray(find(x, axis=axis, keepdims=op["keepdims"]))
    behind = find(np.flip(x, axis), axis=axis, keepdims=op["keepdims"])
    return np.asarray(x.shape[axis] - 1 - behind)


def _topk(op: Op, inputs: Sequence[Array]) -> Array:
    (x,) = inputs
    axis = op["axis"]
    order = np.argsort(x, axis=axis, kind="stable")
    if op["largest"]:
        # The largest first, and of equal ones the first: a stable order of the elements taken backwards.
        backwards = np.argsort(np.flip(x, axis), axis=axis, kind="stable")
        order = x.shape[axis] - 1 - np.flip(backwards, axis)
    order = order.take(np.arange(op["k"]), axis=axis)
    return order if op["indices"] else np.take_along_axis(x, order, axis=axis)


def _scan(op: Op, inputs: Sequence[Array]) -> Array:
    axis = op["axis"]
    x = np.flip(inputs[0], axis) if op["reverse"] else inputs[0]
    add = op["function"] == "sum"
    result = np.cumsum(x, axis=axis) if add else np.cumprod(x, axis=axis)
    if op["exclusive"]:
        neutral = np.full_like(result.take([0], axis=axis), 0 if add else 1)
        result = np.concatenate([neutral, result.take(np.arange(x.shape[axis] - 1), axis=axis)], axis=axis)
    return np.flip(result, axis) if op["reverse"] else result


def _softmax(op: Op, inputs: Sequence[Array]) -> Array:
    largest = inputs[0].max(axis=op["axis"], keepdims=True)
    largest = np.maximum(largest, inputs[1]) if len(inputs) > 1 else largest
    x = inputs[0] - largest
    total = np.exp(x).sum(axis=op["axis"], keepdims=True)
    if len(inputs) > 1:
        total = total + np.exp(inputs[1] - largest)
    return np.asarray(x - np.log(total) if op["log"] else np.exp(x) / total)


def _standardise(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    centred = x - x.mean(axis=axes, keepdims=True)
    variance = np.square(centred).mean(axis=axes, keepdims=True)
    return np.asarray(centred / np.sqrt(variance + epsilon))


def _layer_norm(op: Op, inputs: Sequence[Array]) -> Array:
    x = inputs[0]
    result = _standardise(x, tuple(range(op["axis"], x.ndim)), op["epsilon"])
    result = result * inputs[1] if len(inputs) > 1 else result
    return result + inputs[2] if len(inputs) > 2 else result


def _rms_norm(op: Op, inputs: Sequence[Array]) -> Array:
    """x / sqrt(mean(x^2) + epsilon): Zhang and Sennrich 2019, equation 4."""
    x = inputs[0]
    mean = np.square(x).mean(axis=tuple(range(op["axis"], x.ndim)), keepdims=True)
    result = np.asarray(x / np.sqrt(mean + op["epsilon"]))
    return result * inputs[1] if len(inputs) > 1 else result


def _group_norm(op: Op, inputs: Sequence[Array]) -> Array:
    x = inputs[0]
    grouped = x.reshape(x.shape[0], op["groups"], -1)
    result = _standardise(grouped, (2,), op["epsilon"]).reshape(x.shape)
    result = result * _channels(inputs[1], x) if len(inputs) > 1 else result
    return result + _channels(inputs[2], x) if len(inputs) > 2 else result


def _batch_norm(op: Op, inputs: Sequence[Array]) -> Array:
    x = inputs[0]
    scale, bias, mean, variance = (_channels(vector, x) for vector in inputs[1:])
    return np.asarray((x - mean) / np.sqrt(variance + op["epsilon"]) * scale + bias)


def _channels(vector: Array, x: Array) -> Array:
    """A vector [C] so that it broadcasts over x [N, C, ...]."""
    return vector.reshape(-1, *(1,) * (x.ndim - 2))


def _lrn(op: Op, inputs: Sequence[Array]) -> Array:
    (x,) = inputs
    size = op["size"]
    before = (size - 1) // 2
    padding = [(0, 0), (before, size - 1 - before), *[(0, 0)] * (x.ndim - 2)]
    squares = np.pad(np.square(x), padding)
    total = np.lib.stride_tricks.sliding_window_view(squares, size, axis=1).sum(axis=-1)
    return np.asarray(x / (op["bias"] + op["alpha"] / size * total) ** op["beta"])


# Movement.


def _rope(op: Op, inputs: Sequence[Array]) -> Array:
    """Su et al., RoFormer, 2021, with the halves of the last axis as the pairs (as Llama stores them)."""
    x, cos, sin = inputs
    low, high = np.split(x, 2, axis=-1)
    return np.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1)


def _slice(op: Op, inputs: Sequence[Array]) -> Array:
    result = inputs[0]
    for axis, (start, step, count) in enumerate(zip(op["starts"], op["steps"], op["counts"], strict=True)):
        result = result.take(start + step * np.arange(count), axis=axis)
    return result


def _pad(op: Op, inputs: Sequence[Array]) -> Array:
    padding = list(zip(op["pad_begin"], op["pad_end"], strict=True))
    return np.pad(inputs[0], padding, constant_values=op["value"])


def _gather(op: Op, inputs: Sequence[Array]) -> Array:
    """Negative indices count from the end; beyond that, where ONNX has no meaning, they go round."""
    return inputs[0].take(inputs[1].astype(np.int64), axis=op["axis"], mode="wrap")


def _scatter(op: Op, inputs: Sequence[Array]) -> Array:
    data, rows, updates = inputs
    return scatter_rows(op, data, rows.astype(np.int64) % len(data), updates)


def scatter_rows(op: Op, data: Array, rows: Array, updates: Array) -> Array:
    """A copy of `data` with `updates` at `rows`, which are legal; of several updates of a row the last stays."""
    result = data.astype(np.result_type(data, updates))
    if op["reduction"] == "none":
        for row, update in zip(rows.tolist(), updates, strict=True):
            result[row] = update
    else:
        _SCATTERED[op["reduction"]].at(result, rows, updates)
    return result


_SCATTERED: Mapping[str, np.ufunc] = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _cache_update(op: Op, inputs: Sequence[Array]) -> Array:
    cache, new = inputs
    result = cache.astype(np.result_type(cache, new))
    span = slice(op["position"], op["position"] + new.shape[op["axis"]])
    result[(*(slice(None),) * op["axis"], span)] = new
    return result


def _resize(op: Op, inputs: Sequence[Array]) -> Array:
    """Axis by axis, for nearest and linear interpolation are separable."""
    (result,) = inputs
    for axis in range(2, result.ndim):
        result = interpolate(result, axis, resize_taps(op, axis, result.shape[axis]))
    return result


def _elementwise(op: Op, inputs: Sequence[Array]) -> Array:
    with np.errstate(all="ignore"):  # 1 / 0 is infinite, and so on, as the machine has it
        return np.asarray(FUNCTIONS[op["function"]](*inputs, *op["parameters"]))


def _all_reduce(op: Op, inputs: Sequence[Array]) -> Array:
    """The sum over the chips of what each has as x. All run the same program in step, and this one stands for all: with
    the same numbers on every chip the sum is chips * x."""
    return np.asarray(inputs[0] * op["chips"], inputs[0].dtype)


_RULES: Mapping[str, Rule] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "matmul": _matmul,
    "packed_matmul": _packed_matmul,
    "attention": lambda op, inputs: attended(op, inputs, evaluate_op),
    "pool": _pool,
    "reduce": _reduce,
    "elementwise": _elementwise,
    "softmax": _softmax,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "batch_norm": _batch_norm,
    "lrn": _lrn,
    "rope": _rope,
    "transpose": lambda op, inputs: inputs[0].transpose(op["perm"]),
    "reshape": lambda op, inputs: inputs[0].reshape(op["shape"]),
    "concat": lambda op, inputs: np.concatenate(inputs, axis=op["axis"]),
    "slice": _slice,
    "pad": _pad,
    "gather": _gather,
    "resize": _resize,
    "topk": _topk,
    "scan": _scan,
    "scatter": _scatter,
    "cache_update": _cache_update,
    "all_reduce": _all_reduce,
}
