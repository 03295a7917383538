"""ONNX operators that sample an image at computed places, and norms without parameters: handlers by operator type.

Semantics: the ONNX operator definitions, onnx.ai/onnx/operators, of the opset of the model.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sim.graph.onnx_node import Handler, Importer, Node, Unsupported, normal_axis


def _grid_sample(model: Importer, node: Node) -> list[str]:
    """x [N, C, H, W] at grid [N, Y, X, 2]: rows of channels are looked up at the one or four pixels next to each place
    and mixed; outside the image are zeros, or its border."""
    node.expect("mode", "linear", "bilinear", "nearest")
    node.expect("padding_mode", "zeros", "border")
    x, grid = model.tensor(node, 0), model.tensor(node, 1)
    if len(model.shape(x)) != 4:
        raise Unsupported(f"an input of shape {model.shape(x)}; only images are sampled")
    batch, channels, height, width = model.shape(x)
    places = model.shape(grid)[1:3]
    border = node.get("padding_mode", "zeros") == "border"
    moved = model.op("transpose", [x], {"perm": (0, 2, 3, 1)}, node)
    rows = model.op("reshape", [moved], {"shape": (batch * height * width, channels)}, node)
    nearest = node.get("mode", "linear") == "nearest"
    axes = [_pixels(model, node, grid, axis, size, border) for axis, size in ((1, height), (0, width))]
    result = ""
    for dy, dx in ((0, 0),) if nearest else ((0, 0), (0, 1), (1, 0), (1, 1)):
        cut = [
            _neighbour(model, node, place, step, size, nearest)
            for place, step, size in zip(axes, (dy, dx), (height, width), strict=True)
        ]
        weight = model.function(node, "mul", cut[0][1], cut[1][1])
        index = model.function(node, "mul", cut[0][0], model.scalar(node, float(width), grid))
        index = model.function(node, "add", index, cut[1][0])
        index = model.function(node, "cast", index, parameters=(-(2.0**63), 2.0**63 - 1), dtype="int64")
        if batch > 1:
            first = np.arange(batch).reshape(-1, 1, 1) * (height * width)
            index = model.function(node, "add", index, model.weight(first, f"{node.name}.first"))
        found = model.op("gather", [rows, index], {"axis": 0}, node)
        share = model.op("reshape", [weight], {"shape": (batch, *places, 1)}, node)
        found = model.function(node, "mul", found, share)
        result = model.function(node, "add", result, found) if result else found
    return [model.op("transpose", [result], {"perm": (0, 3, 1, 2)}, node)]


def _pixels(model: Importer, node: Node, grid: str, axis: int, size: int, border: bool) -> str:
    """Coordinate `axis` of the grid, -1 to 1, in pixels [N, Y, X]."""
    batch, *places, _ = model.shape(grid)
    part = model.builder.slice(grid, 3, axis, 1, name=node.name)
    part = model.op("reshape", [part], {"shape": (batch, *places)}, node)
    reach = size - 1 if node.get("align_corners", 0) else size
    part = model.function(node, "mul", part, model.scalar(node, reach / 2, grid))
    part = model.function(node, "add", part, model.scalar(node, (size - 1) / 2, grid))
    return model.function(node, "clip", part, parameters=(0.0, size - 1.0)) if border else part


def _neighbour(model: Importer, node: Node, place: str, step: int, size: int, nearest: bool) -> tuple[str, str]:
    """The pixel next to a place, below it or (`step` 1) above, within the image, and its share: 0 outside."""
    low = model.function(node, "round" if nearest else "floor", place)
    pixel = model.function(node, "add", low, model.scalar(node, 1.0, place)) if step else low
    inside = model.function(node, "clip", pixel, parameters=(0.0, size - 1.0))
    here = model.function(node, "equal", inside, pixel)
    if nearest:
        share = model.scalar(node, 1.0, place)
    else:
        share = model.function(node, "sub", place, low)
        share = share if step else model.function(node, "sub", model.scalar(node, 1.0, place), share)
    return inside, model.function(node, "where", here, share, model.scalar(node, 0.0, place))


def _lp_norm(model: Importer, node: Node) -> list[str]:
    """x over the sum of its magnitudes, or the root of that of its squares, along an axis."""
    node.expect("p", 2, 1)
    x = model.tensor(node, 0)
    axis = normal_axis(node.get("axis", -1), len(model.shape(x)))
    square = node.get("p", 2) == 2
    size = model.function(node, "square" if square else "abs", x)
    size = model.op("reduce", [size], {"function": "sum", "axes": (axis,), "keepdims": True}, node)
    return [model.function(node, "div", x, model.function(node, "sqrt", size) if square else size)]


def _mean_variance(model: Importer, node: Node) -> list[str]:
    """MeanVarianceNormalization: a norm over some axes, its operators one by one."""
    x = model.tensor(node, 0)
    axes = tuple(sorted(normal_axis(axis, len(model.shape(x))) for axis in node.get("axes", [0, 2, 3])))

    def mean(tensor: str) -> str:
        return model.op("reduce", [tensor], {"function": "mean", "axes": axes, "keepdims": True}, node)

    centred = model.function(node, "sub", x, mean(x))
    spread = model.function(node, "sqrt", mean(model.function(node, "square", centred)))
    spread = model.function(node, "add", spread, model.scalar(node, 1e-9, x))
    return [model.function(node, "div", centred, spread)]


def _hardmax(model: Importer, node: Node) -> list[str]:
    """1 at the first largest element along an axis, else 0."""
    if node.opset < 13:
        raise Unsupported("Hardmax before opset 13")
    x = model.tensor(node, 0)
    shape = model.shape(x)
    axis = normal_axis(node.get("axis", -1), len(shape))
    attributes = {"function": "argmax", "axes": (axis,), "keepdims": True, "last": False}
    largest = model.op("reduce", [x], attributes, node)
    positions = np.arange(shape[axis]).reshape(-1, *(1,) * (len(shape) - 1 - axis))
    same = model.function(node, "equal", model.weight(positions, f"{node.name}.positions"), largest)
    return [model.function(node, "cast", same, dtype=model.dtype(x))]


SAMPLING: Mapping[str, Handler] = {
    "GridSample": _grid_sample,
    "Hardmax": _hardmax,
    "LpNormalization": _lp_norm,
    "MeanVarianceNormalization": _mean_variance,
}
