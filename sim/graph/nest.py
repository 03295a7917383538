"""An operator as a loop nest: which dimensions it iterates over and which box of each tensor a tile touches.

Everything that maps an operator (tile search, partitioning, lowering, the functional executor, the cache and DRAM
patterns) reads the same nest, so a convolution's halo, a broadcast operand or an upsampling's input rows are
described once, here, by an affine map per tensor axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from sim.graph.graph import Graph, op_macs, op_passes
from sim.graph.op import CONTRACTIONS, Op
from sim.graph.tensor import DTYPE_BITS, Tensor

Int64 = npt.NDArray[np.int64]
DimRole = Literal["g", "m", "n", "k"]
Part = Literal["left", "right", "main", "epilogue", "out"]


@dataclass(frozen=True, slots=True)
class Dim:
    """One loop. Roles are those of a GEMM: `g` repeats it (groups, heads), `m` and `n` are rows and columns of the
    result, `k` is summed over. Vector operators have only `m` dimensions."""

    name: str
    extent: int
    role: DimRole


@dataclass(frozen=True, slots=True)
class Axis:
    """How loop indices address one tensor axis of `size` elements.

    The half-open loop ranges [lo, hi) touch the elements from (sum(lo * factor) + low) // denominator up to and
    including (sum((hi - 1) * factor) + high) // denominator, clipped to the axis. Without terms: the whole axis.

    A convolution of stride 2, kernel 3 and padding 1 has the term (dim, 2), low = -1, high = 1: output rows [4, 8)
    touch input rows 7 to 15.
    """

    size: int
    terms: tuple[tuple[int, int], ...] = ()
    denominator: int = 1
    low: int = 0
    high: int = 0

    def box(self, lo: Sequence[Int64], hi: Sequence[Int64]) -> tuple[Int64 | int, Int64 | int]:
        """First element and one past the last, for arrays of loop ranges (one array per dimension of the nest).

        A box is never empty: where a range touches padding only, it is the nearest element.
        """
        if not self.terms:
            return 0, self.size
        first = sum((lo[dim] * factor for dim, factor in self.terms), start=np.int64(self.low))
        last = sum(((hi[dim] - 1) * factor for dim, factor in self.terms), start=np.int64(self.high))
        start = np.clip(first // self.denominator, 0, self.size - 1)
        stop = np.clip(last // self.denominator + 1, start + 1, self.size)
        return start, stop

    def extent(self, tile: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64] | int:
        """Most elements that a tile of these sizes (one array per dimension) can touch."""
        if not self.terms:
            return self.size
        reach = sum(
            ((tile[dim] - 1) * factor for dim, factor in self.terms), start=np.int64(self.high - self.low)
        )
        slack = 1 if self.denominator == 1 else 2
        return np.minimum(self.size, reach // self.denominator + slack)


@dataclass(frozen=True, slots=True)
class Operand:
    """One tensor of a nest: `left` and `right` feed the array, `main` a vector operator, `epilogue` the drain.

    `gathered` operands are addressed by data: their axes follow the result, each run is one gathered row.
    `channels_last` tells the order in memory: [N, *spatial, C] although the axes are listed [N, C, *spatial].
    """

    tensor: Tensor
    part: Part
    axes: tuple[Axis, ...]
    channels_last: bool = False
    gathered: bool = False

    @property
    def dims(self) -> frozenset[int]:
        """Loops whose index changes what is touched."""
        return frozenset(dim for axis in self.axes for dim, _ in axis.terms)

    def tile_bytes(self, tile: Sequence[Int64]) -> Int64:
        """Bytes of the largest box of a tile of these sizes."""
        elements: Int64 = np.ones_like(tile[0]) if tile else np.ones((), np.int64)
        for axis in self.axes:
            elements = elements * axis.extent(tile)
        return -(-elements * DTYPE_BITS[self.tensor.dtype] // 8)

    def boxes(self, lo: Sequence[Int64], hi: Sequence[Int64]) -> tuple[Int64, Int64]:
        """Starts and stops, each [tiles, rank], of the boxes touched by loop ranges."""
        shape = np.shape(lo[0]) if lo else ()
        starts = np.empty((*shape, len(self.axes)), np.int64)
        stops = np.empty_like(starts)
        for index, axis in enumerate(self.axes):
            starts[..., index], stops[..., index] = axis.box(lo, hi)
        return starts, stops

    def memory_order(self) -> tuple[int, ...]:
        """Axes from slowest to fastest in memory."""
        order = range(len(self.axes))
        return (0, *order[2:], 1) if self.channels_last and len(self.axes) > 2 else tuple(order)

    def run_bytes(self, extents: Int64) -> Int64:
        """Contiguous bytes of boxes with these extents ([..., rank]): full fastest axes times the first partial
        one. Weights are packed in tile order when the model is prepared, so a box of them is one run."""
        bits = DTYPE_BITS[self.tensor.dtype]
        if self.tensor.role == "weight" and not self.gathered:
            return np.maximum(1, extents.prod(axis=-1) * bits // 8)
        run = np.ones(extents.shape[:-1], np.int64)
        whole = np.ones(extents.shape[:-1], np.bool_)
        for axis in reversed(self.memory_order()):
            run = np.where(whole, run * extents[..., axis], run)
            whole = whole & (extents[..., axis] == self.axes[axis].size) & (not self.gathered)
        return np.maximum(1, run * bits // 8)


@dataclass(frozen=True, slots=True)
class Nest:
    """One loop nest of an operator (a concatenation has one per input).

    `taps` multiplies the reduction length (kernel window); `nested` lists (outer, inner) dimensions that share a
    tensor axis: a tile may hold several outer indices only with the inner dimension whole. `passes` are primitive
    vector passes per element of the result, `own` for a vector operator's body, `drain` for what is applied on the
    way out (bias, fused operators, conversion from the accumulator). `macs` of all nests of an operator sum to
    the operator's.
    """

    name: str
    kind: str
    dims: tuple[Dim, ...]
    operands: tuple[Operand, ...]
    out: Operand
    taps: int
    macs: int
    own: Mapping[str, float]
    drain: Mapping[str, float]
    nested: tuple[tuple[int, int], ...] = ()

    @property
    def contraction(self) -> bool:
        return self.kind in CONTRACTIONS

    def role(self, role: DimRole) -> tuple[int, ...]:
        """Indices of the dimensions with this role, outermost first."""
        return tuple(index for index, dim in enumerate(self.dims) if dim.role == role)

    @property
    def extents(self) -> tuple[int, ...]:
        return tuple(dim.extent for dim in self.dims)

    @property
    def inputs(self) -> tuple[Operand, ...]:
        """Operands read by the main computation (not the drain)."""
        return tuple(o for o in self.operands if o.part != "epilogue")

    @property
    def epilogue(self) -> tuple[Operand, ...]:
        return tuple(o for o in self.operands if o.part == "epilogue")


def channels_last(graph: Graph) -> frozenset[str]:
    """Tensors kept channels-last in memory: those of convolutions and pools, and what elementwise operators of
    the same rank derive from them or feed to them."""
    spatial = {"conv", "conv_transpose", "pool", "resize", "batch_norm", "group_norm", "lrn"}
    carries = {"elementwise", "concat", "pad", "slice"}
    marked: set[str] = set()
    for op in graph.ops:
        if op.kind in spatial:
            marked |= {op.inputs[0], op.output, op.result}
    for ops in (graph.ops, tuple(reversed(graph.ops))):
        for op in ops:
            joined = {name for name in (*op.inputs, op.output, op.result) if _rank(graph, name) > 2}
            if op.kind in carries and joined & marked and len({_rank(graph, n) for n in joined}) == 1:
                marked |= joined
    return frozenset(marked)


def _rank(graph: Graph, name: str) -> int:
    return len(graph.tensors[name].shape)


def nests(op: Op, tensors: Mapping[str, Tensor], last: frozenset[str] = frozenset()) -> tuple[Nest, ...]:
    """The loop nests of an operator; none for a view. `last` names the channels-last tensors.

    >>> # a GEMM of 512 x 256 by 256 x 1024: dims m=512 n=1024 k=256
    """
    if op.kind == "reshape":
        return ()
    build = _BUILDERS[op.kind]
    return tuple(build(_Context(op, tensors, last)))


@dataclass(frozen=True, slots=True)
class _Context:
    """One operator and what its builder needs to know of the tensors around it."""

    op: Op
    tensors: Mapping[str, Tensor]
    last: frozenset[str]

    def tensor(self, index: int) -> Tensor:
        return self.tensors[self.op.inputs[index]]

    @property
    def result(self) -> Tensor:
        return self.tensors[self.op.output]

    def operand(self, name: str, part: Part, axes: Iterable[Axis], gathered: bool = False) -> Operand:
        return Operand(self.tensors[name], part, tuple(axes), name in self.last, gathered)

    def finish(
        self,
        dims: Sequence[Dim],
        operands: Sequence[Operand],
        out_axes: Sequence[Axis],
        *,
        taps: int = 1,
        name: str = "",
        nested: tuple[tuple[int, int], ...] = (),
    ) -> Nest:
        """Add the fused operators' operands and passes, which every kind shares."""
        op = self.op
        contraction = op.kind in CONTRACTIONS
        out = self.operand(op.result, "out", out_axes)
        fused: list[Operand] = []
        drain: dict[str, float] = {"convert": 1.0} if contraction else {}
        own = dict(op_passes(op, self.tensors))
        for primitive, count in own.items() if contraction else ():
            drain[primitive] = drain.get(primitive, 0.0) + count
        for step in op.epilogue:
            for primitive, count in op_passes(step, self.tensors).items():
                drain[primitive] = drain.get(primitive, 0.0) + count
            fused += [
                self.operand(extra, "epilogue", _broadcast(self.tensors[extra], out_axes))
                for extra in step.inputs[1:]
            ]
        return Nest(
            name or op.name,
            op.kind,
            tuple(dims),
            (*operands, *fused),
            out,
            taps,
            op_macs(op, self.tensors),
            {} if contraction else own,
            drain,
            nested,
        )


def _broadcast(tensor: Tensor, axes: Sequence[Axis]) -> tuple[Axis, ...]:
    """Axes of an operand that NumPy broadcasting aligns with the result's, from the right."""
    aligned = axes[len(axes) - len(tensor.shape) :]
    return tuple(
        axis if size == axis.size else Axis(size) for size, axis in zip(tensor.shape, aligned, strict=True)
    )


def _parallel(shape: Sequence[int], last: bool, names: str = "") -> tuple[list[Dim], list[Axis]]:
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
            Axis(shape[axis], ((axis, 1),))
            if dims[axis].role in roles and shape[axis] > 1
            else Axis(shape[axis])
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
    operands = [c.operand(name, "main", _broadcast(c.tensors[name], out_axes)) for name in c.op.inputs]
    return [c.finish(dims, operands, out_axes)]


def _normalised(c: _Context) -> list[Nest]:
    """Softmax and norms over whole axes: everything else is parallel."""
    op, x = c.op, c.tensor(0)
    rank = len(x.shape)
    whole = {op["axis"]} if op.kind == "softmax" else set(range(op["axis"], rank))
    dims, axes = _parallel([1 if a in whole else size for a, size in enumerate(x.shape)], x.name in c.last)
    out_axes = [Axis(size) if a in whole else axes[a] for a, size in enumerate(x.shape)]
    operands = [c.operand(x.name, "main", out_axes)]
    operands += [c.operand(n, "main", [Axis(s) for s in c.tensors[n].shape]) for n in op.inputs[1:]]
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
    operands = [c.operand(c.op.inputs[0], "main", axes)]
    for name in c.op.inputs[1:]:
        operands.append(c.operand(name, "main", (axes[-2], Axis(c.tensors[name].shape[-1]))))
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
    operands = [c.operand(data.name, "main", axes, gathered=True), c.operand(indices.name, "main", rows)]
    return [c.finish(dims, operands, axes)]


def _resize(c: _Context) -> list[Nest]:
    dims, axes = _parallel(c.result.shape, True)
    read = list(axes[:2])
    for axis, size in enumerate(c.tensor(0).shape[2:], start=2):
        larger = c.result.shape[axis]
        # Linear interpolation also reads the neighbour on either side.
        reach = larger if c.op["mode"] == "linear" else 0
        terms = tuple((dim, size) for dim, _ in axes[axis].terms)
        read.append(Axis(size, terms, larger, -reach, reach))
    return [c.finish(dims, [c.operand(c.op.inputs[0], "main", read)], axes)]


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
    "cache_update": _cache_update,
}
