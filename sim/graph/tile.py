"""The meaning of one tile: what a correct machine computes from the boxes that a nest says the tile touches.

A tile is evaluated by the operator's own rule (sim/graph/evaluate.py), with its attributes made local to the boxes:
padding is what a window needs beyond them, a group count is that of the groups inside. So a box that is too small
gives a wrong number, never a silent look at the whole tensor.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.graph.evaluate import add_bias, apply_epilogue, evaluate_op, scatter_rows, unpacked
from sim.graph.interpolation import interpolate, resize_taps
from sim.graph.nest import Nest, Operand
from sim.graph.op import BIASED, Op

Array = npt.NDArray[Any]
Box = tuple[tuple[int, ...], tuple[int, ...]]
"""First element and one past the last along every axis of a tensor (of a convolution always [N, C, *S])."""


def tile_result(
    op: Op, nest: Nest, out_box: Box, operand_boxes: Sequence[Box], values: Sequence[Array]
) -> Array:
    """What one tile of `nest`, a nest of `op`, puts into `out_box`: an array of the box's shape, before bias and
    epilogue. Of a contraction it is the partial sum over the reduction indices in the operands' boxes.

    `operand_boxes` are those of `nest.inputs` by `Operand.boxes`, `values` their contents (shape stop - start); of
    a gathered operand the contents are the rows that the indices named, in the shape of `out_box`.

    Raises ValueError where the boxes do not yield the shape of `out_box`.
    """
    inputs = zip(operand_boxes, nest.inputs, strict=True)
    tile = _Tile(op, nest, out_box, tuple(_in_window(box, operand) for box, operand in inputs), tuple(values))
    result = _RULES.get(op.kind, _unchanged)(tile)
    expected = tuple(stop - start for start, stop in zip(*out_box, strict=True))
    if result.shape != expected:
        raise ValueError(f"operator {op.name}: a tile of shape {expected} came out as {result.shape}")
    return result


def _in_window(box: Box, operand: Operand) -> Box:
    """A box of a tensor as one of the part that the operator knows of it."""
    if operand.window is None:
        return box
    first, last = (tuple(np.subtract(edge, operand.window.start).tolist()) for edge in box)
    return first, last


def drain_result(op: Op, sums: Array, extras: Sequence[Array]) -> Array:
    """The finished tile: `sums` (complete, over all of the reduction) with bias and epilogue applied.

    `extras` are the contents of the boxes of `nest.epilogue`, in that order.
    """
    rest = list(extras)
    if op.kind in BIASED and len(op.inputs) > 2:
        sums = add_bias(op, sums, rest.pop(0))
    return apply_epilogue(op, sums, rest)


@dataclass(frozen=True, slots=True)
class _Tile:
    op: Op
    nest: Nest
    out: Box
    boxes: tuple[Box, ...]
    values: tuple[Array, ...]

    def evaluate(self, *inputs: Array, **local: Any) -> Array:
        """The operator on `inputs`, with some attributes replaced by local ones."""
        return evaluate_op(replace(self.op, attributes={**self.op.attributes, **local}), inputs)


def _unchanged(tile: _Tile) -> Array:
    """Kinds whose attributes do not depend on extents."""
    return tile.evaluate(*tile.values)


def _moved(tile: _Tile) -> Array:
    """Kinds whose nest already says where every element goes."""
    return tile.values[0]


def _held(first: int, stop: int, box_start: int, box_stop: int) -> tuple[slice, int, int]:
    """What a box holds of the elements [first, stop), as a slice of the box, and how many elements of padding are
    missing before and after it."""
    low = min(max(first, box_start), stop)
    high = max(min(stop, box_stop), low)
    return slice(low - box_start, high - box_start), low - first, stop - high


def _windowed(tile: _Tile) -> tuple[Array, dict[str, tuple[int, ...]]]:
    """The elements under the windows of the tile's outputs, and their padding."""
    op, (box_start, box_stop) = tile.op, tile.boxes[0]
    cuts, before, after = [], [], []
    for i, (stride, dilation, kernel) in enumerate(
        zip(op["stride"], op["dilation"], op["kernel"], strict=True)
    ):
        first = tile.out[0][2 + i] * stride - op["pad_begin"][i]
        stop = (tile.out[1][2 + i] - 1) * stride - op["pad_begin"][i] + dilation * (kernel - 1) + 1
        cut, missing_before, missing_after = _held(first, stop, box_start[2 + i], box_stop[2 + i])
        cuts.append(cut)
        before.append(missing_before)
        after.append(missing_after)
    return tile.values[0][:, :, *cuts], {"pad_begin": tuple(before), "pad_end": tuple(after)}


def _conv(tile: _Tile) -> Array:
    x, padding = _windowed(tile)
    weight = tile.values[1]
    return tile.evaluate(x, weight, groups=x.shape[1] // weight.shape[1], **padding)


def _conv_transpose(tile: _Tile) -> Array:
    op, (x, weight) = tile.op, tile.values
    front, begin, end, beyond = [], [], [], []
    for i, (stride, dilation, kernel) in enumerate(
        zip(op["stride"], op["dilation"], op["kernel"], strict=True)
    ):
        # Place of the tile's first output among all that the box's elements reach. Where it lies before them (no
        # element reaches it), rows of zeros in front bring it within reach.
        place = tile.out[0][2 + i] + op["pad_begin"][i] - tile.boxes[0][0][2 + i] * stride
        zeros = max(0, -(place // stride))
        place += zeros * stride
        reached = (x.shape[2 + i] + zeros - 1) * stride + dilation * (kernel - 1) + 1
        surplus = reached - place - (tile.out[1][2 + i] - tile.out[0][2 + i])
        front.append(zeros)
        begin.append(place)
        end.append(max(0, surplus))
        beyond.append(max(0, -surplus))
    x = np.pad(x, [(0, 0), (0, 0), *((zeros, 0) for zeros in front)])
    groups = (tile.out[1][1] - tile.out[0][1]) // weight.shape[1]
    return tile.evaluate(x, weight, groups=groups, pad_begin=begin, pad_end=end, output_pad=beyond)


def _packed_matmul(tile: _Tile) -> Array:
    """Which scale an index has depends on where the boxes begin; then the group is whatever they are."""
    op, (a, b, scale, *rest) = tile.op, tile.values
    axis = 1 if op["transpose_b"] else 0
    (start, stop), first = (edge[axis] for edge in tile.boxes[1]), tile.boxes[2][0][axis]
    groups = np.arange(start, stop) // op["group"] - first
    wide = unpacked(b, scale, rest[0] if rest else None, axis, groups)
    return np.asarray(a @ (wide.T if op["transpose_b"] else wide))


def _pool(tile: _Tile) -> Array:
    x, padding = _windowed(tile)
    return tile.evaluate(x, **padding)


def _group_norm(tile: _Tile) -> Array:
    width = tile.nest.out.axes[1].size // tile.op["groups"]
    return tile.evaluate(*tile.values, groups=tile.values[0].shape[1] // width)


def _lrn(tile: _Tile) -> Array:
    """The box has the neighbours of the tile's channels too; what they come to themselves is dropped."""
    origin = tile.boxes[0][0][1]
    return tile.evaluate(*tile.values)[:, tile.out[0][1] - origin : tile.out[1][1] - origin]


def _slice(tile: _Tile) -> Array:
    start, stop = tile.out
    places = zip(tile.op["starts"], tile.op["steps"], start, tile.boxes[0][0], strict=True)
    starts = tuple(first + step * index - origin for first, step, index, origin in places)
    counts = tuple(last - first for first, last in zip(start, stop, strict=True))
    return tile.evaluate(*tile.values, starts=starts, counts=counts)


def _pad(tile: _Tile) -> Array:
    edges = zip(*tile.out, tile.op["pad_begin"], *tile.boxes[0], strict=True)
    held = [_held(start - pad, stop - pad, *box) for start, stop, pad, *box in edges]
    cuts, before, after = zip(*held, strict=True)
    return tile.evaluate(tile.values[0][cuts], pad_begin=before, pad_end=after)


def _resize(tile: _Tile) -> Array:
    """Which elements are mixed depends on the whole extents, so it is worked out on them and then made local."""
    result = tile.values[0]
    for axis in range(2, result.ndim):
        taps = resize_taps(tile.op, axis, tile.nest.inputs[0].axes[axis].size)
        part = taps.part(tile.out[0][axis], tile.out[1][axis], tile.boxes[0][0][axis])
        result = interpolate(result, axis, part)
    return result


def _scatter(tile: _Tile) -> Array:
    """Those of the updates whose rows are the tile's."""
    data, rows, updates = tile.values
    local = rows.astype(np.int64) % tile.nest.out.axes[0].size - tile.out[0][0]
    here = (local >= 0) & (local < len(data))
    return scatter_rows(tile.op, data, local[here], updates[here])


_RULES: Mapping[str, Callable[[_Tile], Array]] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "packed_matmul": _packed_matmul,
    "pool": _pool,
    "group_norm": _group_norm,
    "lrn": _lrn,
    "concat": _moved,
    "slice": _slice,
    "pad": _pad,
    "gather": _moved,
    "resize": _resize,
    "scatter": _scatter,
    "cache_update": _moved,
}
