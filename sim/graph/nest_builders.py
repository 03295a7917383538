"""The loop nest of every operator kind: one builder per kind (see sim/graph/nest.py for what a nest says)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sim.graph.attention import attention_nest
from sim.graph.causal import Range
from sim.graph.graph import (
    attention_ranges,
    attention_shapes,
    op_macs,
    op_passes,
    score_passes,
    unpack_passes,
)
from sim.graph.interpolation import resize_taps
from sim.graph.nest import Axis, Dim, DimRole, Int64, Nest, Operand, Part, broadcast_axes, in_whole
from sim.graph.op import CONTRACTIONS, Op
from sim.graph.tensor import Tensor


def build_nests(
    op: Op, tensors: Mapping[str, Tensor], last: frozenset[str], parts: Mapping[str, Op]
) -> tuple[Nest, ...]:
    """See sim.graph.nest.nests."""
    return tuple(_BUILDERS[op.kind](_Context(op, tensors, last, parts)))


@dataclass(frozen=True, slots=True)
class _Context:
    """One operator and what its builder needs to know of the tensors around it."""

    op: Op
    tensors: Mapping[str, Tensor]
    last: frozenset[str]
    parts: Mapping[str, Op]

    def tensor(self, index: int) -> Tensor:
        return self.tensors[self.op.inputs[index]]

    @property
    def result(self) -> Tensor:
        return self.tensors[self.op.output]

    def operand(self, name: str, part: Part, axes: Iterable[Axis], row_axes: int | None = None) -> Operand:
        found = Operand(self.tensors[name], part, tuple(axes), name in self.last, row_axes)
        return found if name not in self.parts else in_whole(found, self.parts[name], self.tensors)

    def finish(
        self,
        dims: Sequence[Dim],
        operands: Sequence[Operand],
        out_axes: Sequence[Axis],
        *,
        taps: int = 1,
        name: str = "",
        nested: tuple[tuple[int, int], ...] = (),
        part: Range | None = None,
    ) -> Nest:
        """Add the fused operators' operands and passes, which every kind shares. Of an attention it is a `part`."""
        op = self.op
        contraction = op.kind in CONTRACTIONS
        out = self.operand(op.result, "out", out_axes)
        fused: list[Operand] = []
        drain: dict[str, float] = {"convert": 1.0} if contraction else {}
        if part is not None:
            own = dict(score_passes(op, part))
            drain["mul"] = 1.0
        else:
            own = dict(op_passes(op, self.tensors))
        for primitive, count in own.items() if contraction and part is None else ():
            drain[primitive] = drain.get(primitive, 0.0) + count
        for step in op.epilogue:
            if step.kind != "elementwise":
                # Anything else needs more of the result than one tile holds, or aligns its operands otherwise.
                raise ValueError(
                    f"operator {op.name}: {step.name} ({step.kind}) cannot be fused into its drain"
                )
            for primitive, count in op_passes(step, self.tensors).items():
                drain[primitive] = drain.get(primitive, 0.0) + count
            fused += [
                self.operand(extra, "epilogue", broadcast_axes(self.tensors[extra], out_axes))
                for extra in step.inputs[1:]
            ]
        return Nest(
            name or op.name,
            op.kind,
            tuple(dims) or (Dim("element", 1, "m"),),  # a single number still takes one pass of a loop
            (*operands, *fused),
            out,
            taps,
            op_macs(op, self.tensors) if part is None else math.prod(dim.extent for dim in dims) * _widths(self),
            {} if contraction and part is None else own,
            drain,
            nested,
            unpack_passes(op, self.tensors),
            op["chips"] if op.kind == "all_reduce" else 1,
            op.attributes.get("places", ()),
        )


def _parallel(shape: Sequence[int], last: bool) -> tuple[list[Dim], list[Axis]]:
    """One `m` dimension per axis, outermost in memory first, and the axes they address."""
    rank = len(shape)
    order = [0, *range(2, rank), 1] if last and rank > 2 else list(range(rank))
    dims = [Dim(_axis_name(axis, rank, last), shape[axis], "m") for axis in order]
    place = {axis: index for index, axis in enumerate(order)}
    return dims, [Axis(shape[axis], ((place[axis], 1),)) for axis in range(rank)]


def _axis_name(axis: int, rank: int, last: bool) -> str:
    if not last or not 3 <= rank <= 5:
        return f"d{axis}"
    return ("batch", "channel", *_SPATIAL[rank - 2])[axis]


_SPATIAL = {0: (), 1: ("column",), 2: ("row", "column"), 3: ("plane", "row", "column")}


def _window(size: int, dim: int, kernel: int, stride: int, dilation: int, pad: int) -> Axis:
    return Axis(size, ((dim, stride),), 1, -pad, -pad + (kernel - 1) * dilation)


def _scattered(size: int, dim: int, kernel: int, stride: int, dilation: int, pad: int) -> Axis:
    """Input rows that reach an output row of a transposed convolution: ceil((o + pad - reach) / stride) up to
    floor((o + pad) / stride)."""
    reach = (kernel - 1) * dilation
    return Axis(size, ((dim, 1),), stride, pad - reach + stride - 1, pad)


def _convolution(c: _Context) -> list[Nest]:
    op, x, w, out = c.op, c.tensor(0), c.tensor(1), c.result
    groups, kernel = op["groups"], op["kernel"]
    rank = len(kernel)
    transposed = op.kind == "conv_transpose"
    dims = [Dim("group", groups, "g")] if groups > 1 else []
    dims.append(Dim("batch", out.shape[0], "m"))
    first = len(dims)
    dims += [Dim(name, size, "m") for name, size in zip(_SPATIAL[rank], out.shape[2:], strict=True)]
    n, k = len(dims), len(dims) + 1
    out_channels, in_channels = out.shape[1] // groups, x.shape[1] // groups
    dims += [Dim("out_channel", out_channels, "n"), Dim("in_channel", in_channels, "k")]
    batch = Axis(out.shape[0], ((first - 1, 1),))
    in_axis = Axis(x.shape[1], ((0, in_channels), (k, 1)) if groups > 1 else ((k, 1),))
    out_axis = Axis(out.shape[1], ((0, out_channels), (n, 1)) if groups > 1 else ((n, 1),))
    place = _scattered if transposed else _window
    spatial = [
        place(size, first + i, kernel[i], op["stride"][i], op["dilation"][i], op["pad_begin"][i])
        for i, size in enumerate(x.shape[2:])
    ]
    taps_axes = [Axis(size) for size in kernel]
    if transposed:
        per_group = Axis(out_channels, ((n, 1),))
        weights = (in_axis, per_group, *taps_axes)
        taps = math.prod(-(-size // step) for size, step in zip(kernel, op["stride"], strict=True))
    else:
        weights = (out_axis, Axis(in_channels, ((k, 1),)), *taps_axes)
        taps = math.prod(kernel)
    operands = [c.operand(x.name, "left", (batch, in_axis, *spatial)), c.operand(w.name, "right", weights)]
    if len(op.inputs) > 2:
        operands.append(c.operand(op.inputs[2], "epilogue", (out_axis,)))
    out_axes = (batch, out_axis, *(Axis(size, ((first + i, 1),)) for i, size in enumerate(out.shape[2:])))
    nested = ((0, n), (0, k)) if groups > 1 else ()
    return [c.finish(dims, operands, out_axes, taps=taps, nested=nested)]


def _matmul(c: _Context) -> list[Nest]:
    op, a, b, out = c.op, c.tensor(0), c.tensor(1), c.result
    rank = len(out.shape)
    left_shape = (1,) * (rank - len(a.shape)) + a.shape
    right_shape = (1,) * (rank - len(b.shape)) + b.shape
    dims: list[Dim] = []
    for axis in range(rank - 2):
        role: DimRole = (
            "g" if left_shape[axis] == right_shape[axis] else ("m" if right_shape[axis] == 1 else "n")
        )
        dims.append(Dim(f"batch{axis}" if rank > 3 else "batch", out.shape[axis], role))
    m, n, k = rank - 2, rank - 1, rank
    depth = a.shape[-2 if op["transpose_a"] else -1]
    dims += [Dim("row", out.shape[-2], "m"), Dim("column", out.shape[-1], "n"), Dim("inner", depth, "k")]

    def axes(
        shape: tuple[int, ...], roles: set[DimRole], pair: tuple[int, int], rank_kept: int
    ) -> list[Axis]:
        batch = [
            Axis(shape[axis], ((axis, 1),)) if dims[axis].role in roles else Axis(shape[axis])
            for axis in range(rank - 2)
        ]
        return [*batch, *(Axis(dims[dim].extent, ((dim, 1),)) for dim in pair)][-rank_kept:]

    left = axes(left_shape, {"g", "m"}, (k, m) if op["transpose_a"] else (m, k), len(a.shape))
    right = axes(right_shape, {"g", "n"}, (n, k) if op["transpose_b"] else (k, n), len(b.shape))
    out_axes = [Axis(size, ((axis, 1),)) for axis, size in enumerate(out.shape)]
    operands = [c.operand(a.name, "left", left), c.operand(b.name, "right", right)]
    if len(op.inputs) > 2:
        operands.append(c.operand(op.inputs[2], "epilogue", (out_axes[-1],)))
    return [c.finish(dims, operands, out_axes)]


def _packed_matmul(c: _Context) -> list[Nest]:
    op, a, b, out = c.op, c.tensor(0), c.tensor(1), c.result
    rank, group = len(out.shape), op["group"]
    dims = [Dim(f"batch{axis}" if rank > 3 else "batch", out.shape[axis], "m") for axis in range(rank - 2)]
    dims += [Dim("row", out.shape[-2], "m"), Dim("column", out.shape[-1], "n"), Dim("inner", a.shape[-1], "k")]
    out_axes = [Axis(size, ((axis, 1),)) for axis, size in enumerate(out.shape)]
    inner, column = Axis(a.shape[-1], ((rank, 1),)), out_axes[-1]
    rows = -(-a.shape[-1] // group)
    groups = Axis(rows, ((rank, 1),), group) if rows > 1 else Axis(1)

    def right(along: Axis) -> tuple[Axis, ...]:
        return (column, along) if op["transpose_b"] else (along, column)

    operands = [c.operand(a.name, "left", (*out_axes[:-1], inner)), c.operand(b.name, "right", right(inner))]
    operands += [c.operand(name, "unpack", right(groups)) for name in op.inputs[2:]]
    return [c.finish(dims, operands, out_axes)]


def _attention(c: _Context) -> list[Nest]:
    parts, nests = attention_ranges(c.op, c.tensors), []
    for index, part in enumerate(parts):
        dims, operands, out_axes = attention_nest(c.op, c.tensors, part)
        found = [c.operand(name, of, axes) for name, of, axes in operands]
        name = f"{c.op.name}[{index}]" if len(parts) > 1 else c.op.name
        nests.append(c.finish(dims, found, out_axes, name=name, part=part))
    return nests


def _widths(c: _Context) -> int:
    """Multiply-accumulates per score of an attention."""
    q, _, v = attention_shapes(c.op, c.tensors)
    return q[-1] + v[-1]


def _pool(c: _Context) -> list[Nest]:
    op, x = c.op, c.tensor(0)
    dims, out_axes = _parallel(c.result.shape, True)
    axes = list(out_axes)
    for i, size in enumerate(x.shape[2:]):
        dim = out_axes[2 + i].terms[0][0]
        axes[2 + i] = _window(
            size, dim, op["kernel"][i], op["stride"][i], op["dilation"][i], op["pad_begin"][i]
        )
    return [c.finish(dims, [c.operand(x.name, "main", axes)], out_axes)]


def _reduce(c: _Context) -> list[Nest]:
    op, x = c.op, c.tensor(0)
    dims, axes = _parallel(
        [1 if a in op["axes"] else size for a, size in enumerate(x.shape)], x.name in c.last
    )
    kept = [axis for axis in range(len(x.shape)) if op["keepdims"] or axis not in op["axes"]]
    read = [Axis(size) if a in op["axes"] else axes[a] for a, size in enumerate(x.shape)]
    out_axes = [axes[axis] for axis in kept]
    return [c.finish(dims, [c.operand(x.name, "main", read)], out_axes)]


def _elementwise(c: _Context) -> list[Nest]:
    dims, out_axes = _parallel(c.result.shape, c.op.output in c.last)
    operands = [c.operand(name, "main", broadcast_axes(c.tensors[name], out_axes)) for name in c.op.inputs]
    return [c.finish(dims, operands, out_axes)]


def _normalised(c: _Context) -> list[Nest]:
    """Softmax and norms."""
    whole = {c.op["axis"]} if c.op.kind == "softmax" else set(range(c.op["axis"], len(c.result.shape)))
    return _whole_axes(c, whole)


def _whole_axes(c: _Context, whole: set[int]) -> list[Nest]:
    """Each result needs whole axes of its first operand, and all of the others (of a softmax's sink its own part);
    everything else is parallel."""
    op, x = c.op, c.tensor(0)
    dims, axes = _parallel([1 if a in whole else size for a, size in enumerate(x.shape)], x.name in c.last)
    out_axes = [Axis(size) if a in whole else axes[a] for a, size in enumerate(x.shape)]
    operands = [c.operand(x.name, "main", out_axes)]
    for name in op.inputs[1:]:
        extra = c.tensors[name]
        beside = broadcast_axes(extra, out_axes) if op.kind == "softmax" else [Axis(size) for size in extra.shape]
        operands.append(c.operand(name, "main", beside))
    return [c.finish(dims, operands, out_axes)]


def _group_norm(c: _Context) -> list[Nest]:
    x, groups = c.tensor(0), c.op["groups"]
    width = x.shape[1] // groups
    dims = [Dim("batch", x.shape[0], "m"), Dim("group", groups, "m")]
    channel = Axis(x.shape[1], ((1, width),), 1, 0, width - 1)
    axes = [Axis(x.shape[0], ((0, 1),)), channel, *(Axis(size) for size in x.shape[2:])]
    operands = [c.operand(x.name, "main", axes)]
    operands += [c.operand(name, "main", (channel,)) for name in c.op.inputs[1:]]
    return [c.finish(dims, operands, axes)]


def _batch_norm(c: _Context) -> list[Nest]:
    dims, axes = _parallel(c.result.shape, c.op.output in c.last)
    operands = [c.operand(c.op.inputs[0], "main", axes)]
    operands += [c.operand(name, "main", (axes[1],)) for name in c.op.inputs[1:]]
    return [c.finish(dims, operands, axes)]


def _lrn(c: _Context) -> list[Nest]:
    size = c.op["size"]
    dims, axes = _parallel(c.result.shape, c.op.output in c.last)
    near = Axis(axes[1].size, axes[1].terms, 1, -((size - 1) // 2), size // 2)
    read = [axes[0], near, *axes[2:]]
    return [c.finish(dims, [c.operand(c.op.inputs[0], "main", read)], axes)]


def _rope(c: _Context) -> list[Nest]:
    shape = c.result.shape
    dims, axes = _parallel((*shape[:-1], 1), False)
    axes[-1] = Axis(shape[-1])
    angles = (axes[-2], Axis(shape[-1] // 2))
    operands = [c.operand(c.op.inputs[0], "main", axes)]
    operands += [c.operand(name, "main", angles) for name in c.op.inputs[1:]]
    return [c.finish(dims, operands, axes)]


def _transpose(c: _Context) -> list[Nest]:
    dims, axes = _parallel(c.result.shape, c.op.output in c.last)
    read = [axes[c.op["perm"].index(axis)] for axis in range(len(axes))]
    return [c.finish(dims, [c.operand(c.op.inputs[0], "main", read)], axes)]


def _concat(c: _Context) -> list[Nest]:
    found, offset, joined = [], 0, c.op["axis"]
    for index, name in enumerate(c.op.inputs):
        shape = c.tensors[name].shape
        dims, axes = _parallel(shape, c.op.output in c.last)
        out_axes = list(axes)
        out_axes[joined] = Axis(c.result.shape[joined], axes[joined].terms, 1, offset, offset)
        found.append(c.finish(dims, [c.operand(name, "main", axes)], out_axes, name=f"{c.op.name}[{index}]"))
        offset += shape[joined]
    return found


def _slice(c: _Context) -> list[Nest]:
    dims, axes = _parallel(c.result.shape, c.op.output in c.last)
    read = []
    for axis, size in enumerate(c.tensor(0).shape):
        start, step = c.op["starts"][axis], c.op["steps"][axis]
        terms = tuple((dim, step) for dim, _ in axes[axis].terms)
        # A reversed axis is read whole: its boxes run backwards.
        read.append(Axis(size, terms, 1, start, start) if step > 0 else Axis(size))
    return [c.finish(dims, [c.operand(c.op.inputs[0], "main", read)], axes)]


def _pad(c: _Context) -> list[Nest]:
    dims, axes = _parallel(c.result.shape, c.op.output in c.last)
    read = [
        Axis(size, axes[axis].terms, 1, -c.op["pad_begin"][axis], -c.op["pad_begin"][axis])
        for axis, size in enumerate(c.tensor(0).shape)
    ]
    return [c.finish(dims, [c.operand(c.op.inputs[0], "main", read)], axes)]


def _gather(c: _Context) -> list[Nest]:
    data, indices, axis = c.tensor(0), c.tensor(1), c.op["axis"]
    dims, axes = _parallel(c.result.shape, False)
    rows = axes[axis : axis + len(indices.shape)]
    # What lies behind the gathered axis is contiguous in the data.
    row_axes = len(data.shape) - 1 - axis
    operands = [c.operand(data.name, "main", axes, row_axes), c.operand(indices.name, "main", rows)]
    return [c.finish(dims, operands, axes)]


def _resize(c: _Context) -> list[Nest]:
    dims, axes = _parallel(c.result.shape, True)
    read = list(axes[:2])
    for axis, size in enumerate(c.tensor(0).shape[2:], start=2):
        taps = resize_taps(c.op, axis, size)
        read.append(_covering(size, axes[axis].terms[0][0], taps.low, taps.high))
    return [c.finish(dims, [c.operand(c.op.inputs[0], "main", read)], axes)]


def _covering(size: int, dim: int, first: Int64, last: Int64) -> Axis:
    """The tightest axis of the slope of a resize, source over result, that holds elements first[y] to last[y] for
    every result index y: coordinates and rounding decide how far these lie from the slope."""
    factor, denominator = size // math.gcd(size, len(first)), len(first) // math.gcd(size, len(first))
    along = np.arange(len(first)) * factor
    low = int(((first + 1) * denominator - 1 - along).min())
    high = int((last * denominator - along).max())
    return Axis(size, ((dim, factor),), denominator, low, high)


def _topk(c: _Context) -> list[Nest]:
    op, x = c.op, c.tensor(0)
    axis = op["axis"]
    dims, axes = _parallel([1 if a == axis else size for a, size in enumerate(x.shape)], False)
    read, out_axes = list(axes), list(axes)
    read[axis], out_axes[axis] = Axis(x.shape[axis]), Axis(op["k"])
    return [c.finish(dims, [c.operand(x.name, "main", read)], out_axes)]


def _scan(c: _Context) -> list[Nest]:
    return _whole_axes(c, {c.op["axis"]})


def _scatter(c: _Context) -> list[Nest]:
    """Whose rows the updates are for is data: every tile of the result looks at all of them."""
    data, rows, updates = (c.tensor(index) for index in range(3))
    dims, axes = _parallel(data.shape, False)
    operands = [c.operand(data.name, "main", axes), c.operand(rows.name, "main", [Axis(rows.shape[0])])]
    operands.append(c.operand(updates.name, "main", [Axis(updates.shape[0]), axes[1]]))
    return [c.finish(dims, operands, axes)]


def _cache_update(c: _Context) -> list[Nest]:
    cache, new, axis, position = c.tensor(0), c.tensor(1), c.op["axis"], c.op["position"]
    dims, axes = _parallel(new.shape, False)
    out_axes = list(axes)
    for index, size in enumerate(cache.shape):
        shift = position if index == axis else 0
        out_axes[index] = Axis(size, axes[index].terms, 1, shift, shift)
    return [c.finish(dims, [c.operand(new.name, "main", axes)], out_axes)]


_BUILDERS: Mapping[str, Callable[[_Context], list[Nest]]] = {
    "conv": _convolution,
    "conv_transpose": _convolution,
    "matmul": _matmul,
    "packed_matmul": _packed_matmul,
    "attention": _attention,
    "pool": _pool,
    "reduce": _reduce,
    "elementwise": _elementwise,
    "softmax": _normalised,
    "layer_norm": _normalised,
    "rms_norm": _normalised,
    "group_norm": _group_norm,
    "batch_norm": _batch_norm,
    "lrn": _lrn,
    "rope": _rope,
    "transpose": _transpose,
    "concat": _concat,
    "slice": _slice,
    "pad": _pad,
    "gather": _gather,
    "resize": _resize,
    "topk": _topk,
    "scan": _scan,
    "scatter": _scatter,
    "cache_update": _cache_update,
    "all_reduce": _elementwise,
}
