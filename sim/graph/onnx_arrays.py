"""ONNX operators that move, select and repeat elements: handlers by operator type.

Semantics: the ONNX operator definitions, onnx.ai/onnx/operators, of the opset of the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from sim.graph.onnx_node import Array, Handler, Importer, Node, Unsupported, normal_axis
from sim.graph.shapes import Shape, broadcast_shape

_MOST_PARTS = 4096
"""Pieces that one node may be written out as; more is a mistake in the file, or hopeless to simulate."""


def _identity(model: Importer, node: Node) -> list[str]:
    """Identity, and Dropout, which does nothing outside training."""
    training = model.value(node, 2) if node.op_type == "Dropout" else None
    if training is not None and training.any():
        raise Unsupported("training_mode")
    if node.inputs[0] in model.sequences:
        model.bind(node.outputs[0], model.sequences[node.inputs[0]])
        return [""]
    return [model.tensor(node, 0)]


def _transpose(model: Importer, node: Node) -> list[str]:
    x = model.tensor(node, 0)
    rank = len(model.shape(x))
    perm = tuple(normal_axis(axis, rank) for axis in node.get("perm", range(rank)[::-1]))
    return [x if perm == tuple(range(rank)) else model.op("transpose", [x], {"perm": perm}, node)]


def _view(model: Importer, node: Node, x: str, shape: Shape) -> list[str]:
    return [x if model.shape(x) == shape else model.op("reshape", [x], {"shape": shape}, node)]


def _reshape(model: Importer, node: Node) -> list[str]:
    x = model.tensor(node, 0)
    shape, wanted = model.shape(x), list(model.ints(node, "shape", 1) or ())
    if not node.get("allowzero", 0):
        wanted = [shape[axis] if extent == 0 else extent for axis, extent in enumerate(wanted)]
    if wanted.count(-1) > 1 or min(wanted, default=1) < -1:
        raise ValueError(f"the shape {wanted} has no one meaning")
    if -1 in wanted:
        known = math.prod(extent for extent in wanted if extent != -1)
        wanted[wanted.index(-1)] = math.prod(shape) // max(known, 1)
    return _view(model, node, x, tuple(wanted))


def _flatten(model: Importer, node: Node) -> list[str]:
    x = model.tensor(node, 0)
    shape, axis = model.shape(x), node.get("axis", 1)
    axis = axis + len(shape) if axis < 0 else axis
    return _view(model, node, x, (math.prod(shape[:axis]), math.prod(shape[axis:])))


def _squeeze(model: Importer, node: Node) -> list[str]:
    x = model.tensor(node, 0)
    shape = model.shape(x)
    given = model.ints(node, "axes", 1)
    dropped = (
        [axis for axis, extent in enumerate(shape) if extent == 1]
        if given is None
        else [normal_axis(axis, len(shape)) for axis in given]
    )
    return _view(model, node, x, tuple(extent for axis, extent in enumerate(shape) if axis not in dropped))


def _unsqueeze(model: Importer, node: Node) -> list[str]:
    x = model.tensor(node, 0)
    axes = model.ints(node, "axes", 1) or ()
    rank = len(model.shape(x)) + len(axes)
    new = {normal_axis(axis, rank) for axis in axes}
    rest = iter(model.shape(x))
    return _view(model, node, x, tuple(1 if axis in new else next(rest) for axis in range(rank)))


def _concat(model: Importer, node: Node) -> list[str]:
    parts = model.tensors(node)
    axis = normal_axis(node.attributes["axis"], len(model.shape(parts[0])))
    return [parts[0] if len(parts) == 1 else model.op("concat", parts, {"axis": axis}, node)]


def _cut(model: Importer, node: Node, x: str, spans: Mapping[int, tuple[int, int, int]]) -> str:
    """A slice: (start, step, count) of the axes that are cut."""
    shape = model.shape(x)
    every = [spans.get(axis, (0, 1, extent)) for axis, extent in enumerate(shape)]
    if every == [(0, 1, extent) for extent in shape]:
        return x
    starts, steps, counts = zip(*every, strict=True)
    return model.op("slice", [x], {"starts": starts, "steps": steps, "counts": counts}, node)


def _split(model: Importer, node: Node) -> list[str]:
    x = model.tensor(node, 0)
    axis = normal_axis(node.get("axis", 0), len(model.shape(x)))
    extent, parts = model.shape(x)[axis], len(node.outputs)
    sizes = model.ints(node, "split", 1)
    if sizes is None:
        size = -(-extent // parts)
        sizes = (*(size,) * (parts - 1), extent - size * (parts - 1))
    if len(sizes) != parts or sum(sizes) != extent or min(sizes) < 1:
        raise ValueError(f"split {sizes} does not cut {extent} into {parts} parts")
    starts = [sum(sizes[:index]) for index in range(parts)]
    return [
        _cut(model, node, x, {axis: (start, 1, size)}) if output else ""
        for output, start, size in zip(node.outputs, starts, sizes, strict=True)
    ]


def _slice(model: Importer, node: Node) -> list[str]:
    x = model.tensor(node, 0)
    shape = model.shape(x)
    starts = model.ints(node, "starts", 1) or ()
    ends = model.ints(node, "ends", 2) or ()
    axes = model.ints(node, "axes", 3) or tuple(range(len(starts)))
    steps = model.ints(node, "steps", 4) or (1,) * len(starts)
    spans = {}
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        place = normal_axis(axis, len(shape))
        first, stop, stride = slice(start, end, step).indices(shape[place])
        spans[place] = (first, stride, len(range(first, stop, stride)))
    return [_cut(model, node, x, spans)]


def _pad(model: Importer, node: Node) -> list[str]:
    """Negative padding cuts; reflect, edge and wrap gather elements that are there already."""
    x = model.tensor(node, 0)
    rank = len(model.shape(x))
    pads = model.ints(node, "pads", 1) or model.ints(node, "paddings", 1) or ()
    axes = [normal_axis(axis, rank) for axis in model.ints(node, "axes", 3) or range(rank)]
    pairs = [(0, 0)] * rank
    for axis, begin, end in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        pairs[axis] = (begin, end)
    cuts = {}
    for axis, (begin, end) in enumerate(pairs):
        if min(begin, end) < 0:
            cuts[axis] = (max(-begin, 0), 1, model.shape(x)[axis] + min(begin, 0) + min(end, 0))
    x = _cut(model, node, x, cuts)
    pairs = [(max(begin, 0), max(end, 0)) for begin, end in pairs]
    if not any(map(any, pairs)):
        return [x]
    mode = node.get("mode", "constant")
    if mode == "constant":
        given = model.value(node, 2) if "value" not in node.attributes else np.asarray(node.get("value", 0))
        value = 0.0 if given is None or not given.size else float(given.reshape(-1)[0])
        begins, ends = zip(*pairs, strict=True)
        return [model.op("pad", [x], {"pad_begin": begins, "pad_end": ends, "value": value}, node)]
    if mode not in ("reflect", "edge", "wrap"):
        raise Unsupported(f"mode = {mode!r}")
    for axis, pair in enumerate(pairs):
        if any(pair):
            extent = model.shape(x)[axis]
            x = _take(model, node, x, axis, np.pad(np.arange(extent), pair, mode=mode))
    return [x]


def _take(model: Importer, node: Node, x: str, axis: int, indices: Array) -> str:
    """Elements of one axis in a constant order."""
    chosen = model.weight(indices.astype(np.int64), f"{node.name}.indices")
    return model.op("gather", [x, chosen], {"axis": axis}, node)


def _gather(model: Importer, node: Node) -> list[str]:
    """Negative indices count from the end; where they are constant they are made positive."""
    data = model.tensor(node, 0)
    axis = normal_axis(node.get("axis", 0), len(model.shape(data)))
    indices = model.constants.get(node.inputs[1])
    if indices is None:
        return [model.op("gather", [data, model.tensor(node, 1)], {"axis": axis}, node)]
    extent = model.shape(data)[axis]
    if indices.size and (indices.min() < -extent or indices.max() >= extent):
        raise ValueError(f"indices {indices.min()} to {indices.max()} leave an axis of {extent}")
    return [_take(model, node, data, axis, np.where(indices < 0, indices + extent, indices))]


def _expand(model: Importer, node: Node) -> list[str]:
    """Every axis that grows repeats its one element."""
    x = model.tensor(node, 0)
    target = broadcast_shape([model.shape(x), model.ints(node, "shape", 1) or ()])
    if math.prod(target) == math.prod(model.shape(x)):
        return _view(model, node, x, target)
    x = _view(model, node, x, (1,) * (len(target) - len(model.shape(x))) + model.shape(x))[0]
    for axis, extent in enumerate(target):
        if model.shape(x)[axis] != extent:
            x = _take(model, node, x, axis, np.broadcast_to(np.int64(0), (extent,)))
    return [x]


def _tile(model: Importer, node: Node) -> list[str]:
    x = model.tensor(node, 0)
    for axis, count in enumerate(model.ints(node, "repeats", 1) or ()):
        if count > _MOST_PARTS:
            raise Unsupported(f"{count} repetitions")
        if count != 1:
            x = model.op("concat", [x] * count, {"axis": axis}, node)
    return [x]


def _depth_to_space(model: Importer, node: Node) -> list[str]:
    x = model.tensor(node, 0)
    batch, channels, height, width = model.shape(x)
    block = node.attributes["blocksize"]
    node.expect("mode", "DCR", "CRD")
    depth = channels // block**2
    if node.get("mode", "DCR") == "DCR":
        split, perm = (batch, block, block, depth, height, width), (0, 3, 4, 1, 5, 2)
    else:
        split, perm = (batch, depth, block, block, height, width), (0, 1, 4, 2, 5, 3)
    return regroup(model, node, x, split, perm, (batch, depth, height * block, width * block))


def _space_to_depth(model: Importer, node: Node) -> list[str]:
    x = model.tensor(node, 0)
    batch, channels, height, width = model.shape(x)
    block = node.attributes["blocksize"]
    split = (batch, channels, height // block, block, width // block, block)
    shape = (batch, channels * block**2, height // block, width // block)
    node.expect("mode", "DCR", "CRD")
    perm = (0, 3, 5, 1, 2, 4) if node.get("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    return regroup(model, node, x, split, perm, shape)


def regroup(model: Importer, node: Node, x: str, split: Shape, perm: Shape, shape: Shape) -> list[str]:
    """Reshape, transpose, reshape; what would not change is left out."""
    x = _view(model, node, x, split)[0]
    if perm != tuple(range(len(perm))):
        x = model.op("transpose", [x], {"perm": perm}, node)
    return _view(model, node, x, shape)


ARRAYS: Mapping[str, Handler] = {
    "Identity": _identity,
    "Dropout": _identity,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Pad": _pad,
    "Gather": _gather,
    "Expand": _expand,
    "Tile": _tile,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
}
