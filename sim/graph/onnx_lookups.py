"""ONNX operators that read or write where indices say, and those that put elements in order: handlers by operator type.

Every lookup becomes a gather of whole rows, every scatter one of whole rows: the axes that the indices address are
joined into one (a view), and the indices of several axes into one by multiplications and additions, which are
operators like any other. Semantics: the ONNX operator definitions, onnx.ai/onnx/operators, of the opset of the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from sim.graph.onnx_node import Handler, Importer, Node, Unsupported, normal_axis
from sim.graph.shapes import Shape


def _view(model: Importer, node: Node, x: str, shape: Shape) -> str:
    return x if model.shape(x) == shape else model.op("reshape", [x], {"shape": shape}, node)


def _integers(model: Importer, node: Node, name: str, value: ArrayLike, like: str) -> str:
    """Constants of the format of the indices `like`."""
    numbers = np.asarray(value, np.int64)
    return model.builder.weight(numbers.shape, f"{node.name}.{name}", model.dtype(like), numbers)


def _strides(extents: Shape) -> Shape:
    return tuple(math.prod(extents[axis + 1 :]) for axis in range(len(extents)))


def _joined(model: Importer, node: Node, index: int, extents: Shape, offset: ArrayLike) -> str:
    """Places in the joined axes: input `index` [..., K] holds places in K axes of `extents`, to which `offset` is
    added. What is constant is worked out here."""
    known = model.constants.get(node.inputs[index])
    if known is not None:
        reach = np.asarray(extents, np.int64)
        if ((known < -reach) | (known >= reach)).any():
            raise ValueError(f"indices {known.min()} to {known.max()} leave axes of {extents}")
        places = (known.astype(np.int64) % reach * _strides(extents)).sum(axis=-1) + offset
        return model.weight(np.asarray(places), f"{node.name}.places")
    found = model.tensor(node, index)
    shape = model.shape(found)
    if len(extents) > 1:
        # Negative indices count from the end, axis by axis.
        found = model.function(node, "mod", found, _integers(model, node, "extents", extents, found))
        found = model.function(node, "mul", found, _integers(model, node, "strides", _strides(extents), found))
        attributes = {"function": "sum", "axes": (len(shape) - 1,), "keepdims": False}
        found = model.op("reduce", [found], attributes, node)
    found = _view(model, node, found, shape[:-1])
    if np.any(offset):
        if len(extents) == 1:
            found = model.function(node, "mod", found, _integers(model, node, "extents", extents[0], found))
        found = model.function(node, "add", found, _integers(model, node, "offset", offset, found))
    return found


def _gather_nd(model: Importer, node: Node) -> list[str]:
    data = model.tensor(node, 0)
    shape, batch = model.shape(data), node.get("batch_dims", 0)
    indices = _indices_shape(model, node, 1)
    depth = indices[-1]
    if not 0 <= batch < min(len(shape), len(indices)) or not 1 <= depth <= len(shape) - batch:
        raise ValueError(f"indices {indices} with {batch} batch axes do not fit data {shape}")
    reach, rest = shape[batch : batch + depth], shape[batch + depth :]
    first = np.arange(math.prod(shape[:batch])) * math.prod(reach)
    offset = first.reshape(*shape[:batch], *(1,) * (len(indices) - 1 - batch))
    places = _joined(model, node, 1, reach, offset)
    rows = _view(model, node, data, (math.prod(shape[: batch + depth]), *rest))
    return [model.op("gather", [rows, places], {"axis": 0}, node)]


def _indices_shape(model: Importer, node: Node, index: int) -> Shape:
    known = model.constants.get(node.inputs[index])
    return model.shape(model.tensor(node, index)) if known is None else known.shape


def _along_axis(model: Importer, node: Node, axis: int) -> tuple[str, Shape]:
    """Places in the flattened data of the elements that input 1 addresses along `axis`; and its shape."""
    shape, indices = model.shape(model.tensor(node, 0)), _indices_shape(model, node, 1)
    fits = len(shape) == len(indices) and all(
        a == axis or mine <= its for a, (mine, its) in enumerate(zip(indices, shape, strict=False))
    )
    if not fits:
        raise ValueError(f"indices {indices} do not fit data {shape} along axis {axis}")
    strides = _strides(shape)
    known = model.constants.get(node.inputs[1])
    offsets = {
        a: np.arange(extent).reshape(-1, *(1,) * (len(indices) - 1 - a)) * strides[a]
        for a, extent in enumerate(indices)
        if a != axis and extent > 1
    }
    if known is not None:
        if ((known < -shape[axis]) | (known >= shape[axis])).any():
            raise ValueError(f"indices {known.min()} to {known.max()} leave an axis of {shape[axis]}")
        places = known.astype(np.int64) % shape[axis] * strides[axis] + sum(offsets.values(), start=np.int64(0))
        return model.weight(places, f"{node.name}.places"), indices
    found = model.tensor(node, 1)
    found = model.function(node, "mod", found, _integers(model, node, "extent", shape[axis], found))
    if strides[axis] != 1:
        found = model.function(node, "mul", found, _integers(model, node, "stride", strides[axis], found))
    # The axes before and those behind: two small tables, where one of all would be as large as the indices.
    for part in (range(axis), range(axis + 1, len(shape))):
        table = sum((offsets[a] for a in part if a in offsets), start=np.int64(0))
        if np.any(table):
            found = model.function(node, "add", found, _integers(model, node, "offset", table, found))
    return found, indices


def _gather_elements(model: Importer, node: Node) -> list[str]:
    data = model.tensor(node, 0)
    axis = normal_axis(node.get("axis", 0), len(model.shape(data)))
    places, _ = _along_axis(model, node, axis)
    flat = _view(model, node, data, (math.prod(model.shape(data)),))
    return [model.op("gather", [flat, places], {"axis": 0}, node)]


def _scatter_elements(model: Importer, node: Node) -> list[str]:
    """Also Scatter, its old name: every element is a row of one."""
    data = model.tensor(node, 0)
    shape = model.shape(data)
    axis = normal_axis(node.get("axis", 0), len(shape))
    places, indices = _along_axis(model, node, axis)
    return [_scatter(model, node, data, places, math.prod(shape), math.prod(indices))]


def _scatter_nd(model: Importer, node: Node) -> list[str]:
    data = model.tensor(node, 0)
    shape, indices = model.shape(data), _indices_shape(model, node, 1)
    depth = indices[-1] if indices else 0
    if not 1 <= depth <= len(shape):
        raise ValueError(f"indices {indices} do not fit data {shape}")
    places = _joined(model, node, 1, shape[:depth], 0)
    return [_scatter(model, node, data, places, math.prod(shape[:depth]), math.prod(indices[:-1]))]


def _scatter(model: Importer, node: Node, data: str, places: str, rows: int, count: int) -> str:
    """Input 2, `count` updates, written to the `places` of a copy of `data` seen as so many rows."""
    node.expect("reduction", "none", "add", "mul", "max", "min")
    shape, updates = model.shape(data), model.tensor(node, 2)
    width = math.prod(shape) // rows
    inputs = [
        _view(model, node, data, (rows, width)),
        _view(model, node, places, (count,)),
        _view(model, node, updates, (count, width)),
    ]
    result = model.op("scatter", inputs, {"reduction": node.get("reduction", "none")}, node)
    return _view(model, node, result, shape)


def _topk(model: Importer, node: Node) -> list[str]:
    """Values and places; both of them are one selection that moves places along, and a lookup of the values."""
    node.expect("largest", 1, 0)
    x = model.tensor(node, 0)
    shape = model.shape(x)
    axis = normal_axis(node.get("axis", -1), len(shape))
    count = model.ints(node, "k", 1)
    if not count:
        raise Unsupported("a k that the model computes")
    attributes = {"axis": axis, "k": count[0], "largest": bool(node.get("largest", 1))}
    wanted = [bool(name) and name in model.read for name in (*node.outputs, "", "")[:2]]
    if not wanted[1]:
        return [model.op("topk", [x], {**attributes, "indices": False}, node)]
    places = model.op("topk", [x], {**attributes, "indices": True}, node)
    if not wanted[0]:
        return ["", places]
    return [_selected(model, node, x, places, axis), places]


def _selected(model: Importer, node: Node, x: str, places: str, axis: int) -> str:
    """Elements of x at `places` along an axis."""
    shape, indices = model.shape(x), model.shape(places)
    found, strides = places, _strides(shape)
    if strides[axis] != 1:
        found = model.function(node, "mul", found, _integers(model, node, "stride", strides[axis], found))
    for part in (range(axis), range(axis + 1, len(shape))):
        tables = (
            np.arange(indices[a]).reshape(-1, *(1,) * (len(indices) - 1 - a)) * strides[a] for a in part if shape[a] > 1
        )
        table = sum(tables, start=np.int64(0))
        if np.any(table):
            found = model.function(node, "add", found, _integers(model, node, "offset", table, found))
    flat = _view(model, node, x, (math.prod(shape),))
    return model.op("gather", [flat, found], {"axis": 0}, node)


def _cumulate(model: Importer, node: Node) -> list[str]:
    x, given = model.tensor(node, 0), model.value(node, 1)
    if given is None:
        raise ValueError("the axis is missing")
    attributes = {
        "axis": normal_axis(int(given.reshape(-1)[0]), len(model.shape(x))),
        "function": "sum" if node.op_type == "CumSum" else "prod",
        "exclusive": bool(node.get("exclusive", 0)),
        "reverse": bool(node.get("reverse", 0)),
    }
    return [model.op("scan", [x], attributes, node)]


def _one_hot(model: Importer, node: Node) -> list[str]:
    """Indices are compared with every position of the new axis."""
    indices, depth, values = model.tensor(node, 0), model.value(node, 1), model.value(node, 2)
    if depth is None or values is None:
        raise ValueError("depth or values are missing")
    extent, shape = int(depth.reshape(-1)[0]), model.shape(indices)
    axis = normal_axis(node.get("axis", -1), len(shape) + 1)
    # Negative ones count from the end; what is beyond is no position.
    low = model.function(node, "less", indices, _integers(model, node, "zero", 0, indices))
    raised = model.function(node, "add", indices, _integers(model, node, "depth", extent, indices))
    indices = model.function(node, "where", low, raised, indices)
    indices = _view(model, node, indices, (*shape[:axis], 1, *shape[axis:]))
    positions = np.arange(extent).reshape(-1, *(1,) * (len(shape) - axis))
    same = model.function(node, "equal", indices, _integers(model, node, "positions", positions, indices))
    off, on = (model.weight(values[place : place + 1].reshape(()), f"{node.name}.{place}") for place in (0, 1))
    return [model.function(node, "where", same, on, off)]


def _trilu(model: Importer, node: Node) -> list[str]:
    """The upper or lower triangle, by a mask that is known."""
    x = model.tensor(node, 0)
    shape, given = model.shape(x), model.value(node, 1)
    offset = 0 if given is None else int(given.reshape(-1)[0])
    ones = np.ones(shape[-2:], np.bool_)
    mask = np.triu(ones, offset) if node.get("upper", 1) else np.tril(ones, offset)
    kept = model.weight(mask, f"{node.name}.mask")
    return [model.function(node, "where", kept, x, model.scalar(node, 0.0, x))]


def _compress(model: Importer, node: Node) -> list[str]:
    """The elements of an axis, or of the flattened input, that a known condition names."""
    x, condition = model.tensor(node, 0), model.value(node, 1)
    assert condition is not None
    axis = node.get("axis", None)
    if axis is None:
        x, axis = _view(model, node, x, (math.prod(model.shape(x)),)), 0
    kept = model.weight(np.flatnonzero(condition), f"{node.name}.kept")
    return [model.op("gather", [x, kept], {"axis": normal_axis(axis, len(model.shape(x)))}, node)]


def _reverse_sequence(model: Importer, node: Node) -> list[str]:
    """By a known length of every sequence."""
    x, lengths = model.tensor(node, 0), model.value(node, 1)
    assert lengths is not None
    time, batch, shape = node.get("time_axis", 0), node.get("batch_axis", 1), model.shape(x)
    steps = np.arange(shape[time])
    source = np.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)  # [batch, time]
    order = (source + np.arange(shape[batch])[:, None] * shape[time]).astype(np.int64)
    front = (batch, time, *(axis for axis in range(len(shape)) if axis not in (batch, time)))
    moved = model.op("transpose", [x], {"perm": front}, node)
    rows = _view(model, node, moved, (shape[batch] * shape[time], *(shape[axis] for axis in front[2:])))
    taken = model.op("gather", [rows, model.weight(order, f"{node.name}.order")], {"axis": 0}, node)
    return [model.op("transpose", [taken], {"perm": tuple(np.argsort(front).tolist())}, node)]


def _data_dependent(model: Importer, node: Node) -> list[str]:
    raise Unsupported(
        f"{node.op_type} of a tensor that the model computes: how much comes out depends on the numbers, which a "
        "simulation of time does not have; export the model with a fixed number (a mask, or TopK with a constant k)"
    )


LOOKUPS: Mapping[str, Handler] = {
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "Scatter": _scatter_elements,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "TopK": _topk,
    "CumSum": _cumulate,
    "CumProd": _cumulate,
    "OneHot": _one_hot,
    "Trilu": _trilu,
    "Compress": _compress,
    "ReverseSequence": _reverse_sequence,
    "NonZero": _data_dependent,
    "Unique": _data_dependent,
    "NonMaxSuppression": _data_dependent,
}
