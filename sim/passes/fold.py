"""A scale and a shift per channel disappear into the weights and the bias of the operator before them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.graph.graph import Graph
from sim.graph.op import BIASED, Op
from sim.graph.tensor import Tensor

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class _Affine:
    """y = x * scale + shift per channel. A part that is missing is None; `known` says whether the numbers are."""

    scales: bool
    shift_dtype: str | None
    known: bool
    scale: Array | None = None
    shift: Array | None = None


def fold_channel_scales(graph: Graph) -> Graph:
    """Fold batch normalisation, and products and sums with one constant per channel, into what they follow.

    That is a contraction or a batch normalisation whose own parameters are constant and whose result nothing
    else reads: conv(x, w, b) * s + t = conv(x, w * s, b * s + t). Unknown numbers stay unknown.
    """
    tensors, values = dict(graph.tensors), dict(graph.values)
    ops: dict[str, Op] = {}  # by result, in order
    for op in graph.ops:
        names = [name for name in op.inputs[:2] if name in ops]
        target = ops[names[0]] if len(names) == 1 else None
        if target is None or not _absorbs(target, graph, tensors):
            ops[op.result] = op
            continue
        affine = _affine(op, target, tensors, values)
        if affine is None:
            ops[op.result] = op
            continue
        del ops[target.result]
        ops[op.result] = _merge(target, op, affine, tensors, values)
    if len(ops) == len(graph.ops):
        return graph
    return replace(graph, tensors=tensors, values=values).with_ops(ops.values())


def _absorbs(target: Op, graph: Graph, tensors: Mapping[str, Tensor]) -> bool:
    """Whether the target's parameters are constants of its own result alone."""
    if target.kind not in BIASED | {"batch_norm"} or target.epilogue:
        return False
    if tensors[target.inputs[0]].role == "state":
        return False  # it may be written before the place that the target would move to
    alone = len(graph.consumers.get(target.result, ())) == 1 and target.result not in graph.outputs
    matrix = target.kind != "matmul" or len(tensors[target.inputs[1]].shape) == 2
    return alone and matrix and all(tensors[name].role == "weight" for name in target.inputs[1:])


def _affine(op: Op, target: Op, tensors: Mapping[str, Tensor], values: Mapping[str, Array]) -> _Affine | None:
    """What `op` does to each channel of the target's result, or None where that is something else."""
    if op.epilogue or target.result not in op.inputs:
        return None
    shape = tensors[target.result].shape
    axis = len(shape) - 1 if target.kind == "matmul" else 1
    constants = [name for name in op.inputs if name != target.result]
    if any(tensors[name].role != "weight" for name in constants) or not constants:
        return None
    known = all(name in values for name in constants)
    if op.kind == "batch_norm" and axis == 1:
        dtype = tensors[op.inputs[2]].dtype
        if not known:
            return _Affine(True, dtype, False)
        scale, bias, mean, variance = (values[name].astype(np.float64) for name in op.inputs[1:])
        factor = scale / np.sqrt(variance + op["epsilon"])
        return _Affine(True, dtype, True, factor, bias - mean * factor)
    function = op.attributes.get("function")
    if op.kind != "elementwise" or function not in ("mul", "add") or len(constants) != 1:
        return None
    constant = tensors[constants[0]]
    per_channel = tuple(extent if place == axis else 1 for place, extent in enumerate(shape))
    aligned = (1,) * (len(shape) - len(constant.shape)) + constant.shape
    if aligned != per_channel:
        return None
    value = values[constants[0]].reshape(-1).astype(np.float64) if known else None
    if function == "mul":
        return _Affine(True, None, known, scale=value)
    return _Affine(False, constant.dtype, known, shift=value)


def _merge(target: Op, op: Op, affine: _Affine, tensors: dict[str, Tensor], values: dict[str, Array]) -> Op:
    """The target with new weights; adds them to `tensors` and `values`."""
    weight, *rest = target.inputs[1:]
    bias = rest[0] if rest else None
    channels = tensors[target.result].shape[-1 if target.kind == "matmul" else 1]
    known = affine.known and all(name in values for name in target.inputs[1:3])
    inputs = list(target.inputs)

    def put(index: int, part: str, dtype: str, like: str | None, value: Array | None) -> None:
        name = f"{op.result}.{part}"
        while name in tensors:
            name += "'"
        shape = tensors[like].shape if like else (channels,)
        tensors[name] = Tensor(name, shape, dtype, "weight")
        if value is not None:
            values[name] = value
        inputs[index:] = [name, *inputs[index + 1 :]]

    factor = affine.scale if affine.scale is not None else np.ones(channels)
    if affine.scales:
        scaled = _scale_weight(target, values[weight], factor) if known else None
        put(1, "folded_weight", tensors[weight].dtype, weight, scaled)
    dtype = tensors[bias].dtype if bias else affine.shift_dtype
    if dtype is not None:
        old = values[bias].astype(np.float64) if known and bias else np.zeros(channels)
        shift = affine.shift if affine.shift is not None else np.zeros(channels)
        put(2, "folded_bias", dtype, bias, old * factor + shift if known else None)
    return replace(target, inputs=tuple(inputs), output=op.output)


def _scale_weight(target: Op, weight: Array, factor: Array) -> Array:
    """The weight times one factor per output channel, in the precision of the weight."""
    factor = factor.astype(weight.dtype) if np.issubdtype(weight.dtype, np.floating) else factor
    if target.kind == "matmul":
        return np.asarray(weight * (factor[:, None] if target["transpose_b"] else factor))
    if target.kind == "conv_transpose":
        # [C, O / groups, *kernel]: the rows of a group make that group's output channels
        groups, kernel = target["groups"], weight.shape[2:]
        split = weight.reshape(groups, -1, weight.shape[1], math.prod(kernel))
        return np.asarray((split * factor.reshape(groups, 1, -1, 1)).reshape(weight.shape))
    return np.asarray(weight * factor.reshape(-1, *(1,) * (weight.ndim - 1)))
