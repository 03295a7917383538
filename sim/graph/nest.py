"""An operator as a loop nest: which dimensions it iterates over and which box of each tensor a tile touches.

Everything that maps an operator (tile search, partitioning, lowering, the functional executor, the cache and DRAM
patterns) reads the same nest, so a convolution's halo, a broadcast operand or an upsampling's input rows are
described once, here, by an affine map per tensor axis.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt

from sim.graph.graph import Graph
from sim.graph.op import CONTRACTIONS, Op
from sim.graph.places import Places
from sim.graph.tensor import DTYPE_BITS, Tensor

Int64 = npt.NDArray[np.int64]
DimRole = Literal["g", "m", "n", "k"]
Part = Literal["left", "right", "unpack", "main", "epilogue", "out"]


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
        if self.denominator != 1:
            first, last = first // self.denominator, last // self.denominator
        # The nested minimum and maximum are several times faster than np.clip on the small arrays met here.
        start = np.minimum(np.maximum(first, 0), self.size - 1)
        stop = np.minimum(np.maximum(last + 1, start + 1), self.size)
        return start, stop

    def extent(self, tile: Sequence[Int64]) -> Int64 | int:
        """Most elements that a tile of these sizes (one array per dimension) can touch."""
        if not self.terms:
            return self.size
        reach = sum(
            ((tile[dim] - 1) * factor for dim, factor in self.terms), start=np.int64(self.high - self.low)
        )
        return np.minimum(self.size, -(-reach // self.denominator) + 1)


def broadcast_axes(tensor: Tensor, axes: Sequence[Axis]) -> tuple[Axis, ...]:
    """Axes of an operand that NumPy broadcasting aligns with the result's, from the right."""
    aligned = axes[len(axes) - len(tensor.shape) :]
    return tuple(
        axis if size == axis.size else Axis(size) for size, axis in zip(tensor.shape, aligned, strict=True)
    )


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a tensor: its first element and its extent along every axis."""

    start: tuple[int, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Operand:
    """One tensor of a nest: `left` and `right` feed the array, `unpack` (scales, zero points) makes the elements of
    `right` numbers, `main` feeds a vector operator, `epilogue` the drain.

    `channels_last` tells the order in memory: [N, *spatial, C] although the axes are listed [N, C, *spatial].
    Gathered operands are addressed by data: their axes are those of the result, of which the last `row_axes` lie in
    one row of the data (None: an operand that is not gathered). Of the tensor a nest may know a `window` alone: axes
    and boxes are those of the whole tensor all the same.
    """

    tensor: Tensor
    part: Part
    axes: tuple[Axis, ...]
    channels_last: bool = False
    row_axes: int | None = None
    window: Window | None = None
    _dims: frozenset[int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_dims", frozenset(dim for axis in self.axes for dim, _ in axis.terms))

    @property
    def elements(self) -> int:
        """Of what the operator knows of the tensor."""
        return self.tensor.elements if self.window is None else math.prod(self.window.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes of these elements."""
        return -(-self.elements * DTYPE_BITS[self.tensor.dtype] // 8)

    @property
    def gathered(self) -> bool:
        return self.row_axes is not None

    @property
    def dims(self) -> frozenset[int]:
        """Loops whose index changes what is touched."""
        return self._dims

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
        one. Weights are packed in tile order when the model is prepared, so a box of them is one run. A run of a
        gathered operand ends with its row at the latest."""
        bits = DTYPE_BITS[self.tensor.dtype]
        if self.tensor.role == "weight" and not self.gathered:
            return np.asarray(np.maximum(1, extents.prod(axis=-1) * bits // 8))
        run = np.ones(extents.shape[:-1], np.int64)
        whole = np.ones(extents.shape[:-1], np.bool_)
        order = self.memory_order()
        for axis in reversed(order if self.row_axes is None else order[len(order) - self.row_axes :]):
            run = np.where(whole, run * extents[..., axis], run)
            whole = whole & (extents[..., axis] == self.axes[axis].size)
        return np.maximum(1, run * bits // 8)

    def span_bytes(self, extents: Int64) -> Int64:
        """Bytes of memory from the first to the last of boxes with these extents ([..., rank]), what lies between
        their runs included. Weights are packed: a box of them is all there is. Rows of a gathered operand may lie
        anywhere in it."""
        bits = DTYPE_BITS[self.tensor.dtype]
        if self.gathered:
            whole = int(np.prod([axis.size for axis in self.axes])) * bits // 8
            return np.full(extents.shape[:-1], max(1, whole), np.int64)
        if self.tensor.role == "weight":
            return self.run_bytes(extents)
        last, stride = np.zeros(extents.shape[:-1], np.int64), 1
        for axis in reversed(self.memory_order()):
            last = last + (np.minimum(extents[..., axis], self.axes[axis].size) - 1) * stride
            stride *= self.axes[axis].size
        return np.maximum(1, (last + 1) * bits // 8)

    def pitch_bytes(self, extents: Int64) -> Int64:
        """Distance between the starts of the runs of such boxes: the stride of the first slower axis that a box has
        more than one index of. The run's own length where there is one run (what follows lies beside it), 0 for a
        gathered operand, whose rows lie anywhere."""
        run = self.run_bytes(extents)
        if self.tensor.role == "weight" and not self.gathered:
            return run
        if self.gathered:
            return np.zeros_like(run)
        bits, stride = DTYPE_BITS[self.tensor.dtype], 1
        pitch, whole = np.zeros_like(run), np.ones(run.shape, np.bool_)
        for axis in reversed(self.memory_order()):
            apart = ~whole & (extents[..., axis] > 1) & (pitch == 0)
            pitch = np.where(apart, stride * bits // 8, pitch)
            whole = whole & (extents[..., axis] == self.axes[axis].size)
            stride *= self.axes[axis].size
        return np.where(pitch > 0, np.maximum(pitch, run), run)


def in_whole(operand: Operand, part: Op, tensors: Mapping[str, Tensor]) -> Operand:
    """An operand that is a slice which nobody copies, as one that knows a window of the whole. Raises ValueError where
    it cannot be read so: at the drain, by indices, channels-last, or where loops do not say which elements are read."""
    whole, window = tensors[part.inputs[0]], Window(part["starts"], part["counts"])
    if operand.part == "epilogue" or operand.gathered or operand.channels_last:
        raise ValueError(f"{part.output} cannot be read where it lies")
    axes = []
    for axis, start, size in zip(operand.axes, window.start, whole.shape, strict=True):
        cut = axis.size != size
        if cut and (not axis.terms or axis.low or axis.high or axis.denominator != 1):
            raise ValueError(f"{axis} cannot be that of a part of {size} elements")
        axes.append(Axis(size, axis.terms, 1, start, start) if cut else axis)
    return Operand(whole, operand.part, tuple(axes), window=window)


@dataclass(frozen=True, slots=True)
class Nest:
    """One loop nest of an operator (a concatenation has one per input).

    `taps` multiplies the reduction length (kernel window); `nested` lists (outer, inner) dimensions that share a
    tensor axis: a tile may hold several outer indices only with the inner dimension whole. `passes` are primitive
    vector passes per element of the result, `own` for a vector operator's body (of an attention per score), `drain`
    for what is applied on the way out (bias, fused operators, conversion from the accumulator). `unpack` are the
    passes by which an element of a packed right operand becomes a number, for each tile. `macs` of all nests of an
    operator sum to the operator's. Where there are more than one `chips`, what is loaded is exchanged with the others.
    `places` are those of an attention (sim/graph/op.py).
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
    unpack: Mapping[str, float] = field(default_factory=dict)
    chips: int = 1
    places: Places = ()
    _roles: Mapping[str, tuple[int, ...]] = field(init=False, repr=False, compare=False)
    _extents: tuple[int, ...] = field(init=False, repr=False, compare=False)

    @property
    def contraction(self) -> bool:
        return self.kind in CONTRACTIONS

    def __post_init__(self) -> None:
        found: dict[str, tuple[int, ...]] = {}
        for index, dim in enumerate(self.dims):
            found[dim.role] = (*found.get(dim.role, ()), index)
        object.__setattr__(self, "_roles", found)
        object.__setattr__(self, "_extents", tuple(dim.extent for dim in self.dims))

    def role(self, role: DimRole) -> tuple[int, ...]:
        """Indices of the dimensions with this role, outermost first."""
        return self._roles.get(role, ())

    @property
    def extents(self) -> tuple[int, ...]:
        return self._extents

    @property
    def inputs(self) -> tuple[Operand, ...]:
        """Operands read by the main computation (not the drain)."""
        return tuple(o for o in self.operands if o.part != "epilogue")

    @property
    def epilogue(self) -> tuple[Operand, ...]:
        return tuple(o for o in self.operands if o.part == "epilogue")

    def per_result(self, operand: Operand) -> bool:
        """Does the drain read an element of an operand for each of the result: a residual, or a mask that heads share?
        A number for a whole column (a bias) or row is read once and kept in a register."""
        inner = [axis for axis in self.out.axes[-2:] if axis.size > 1]
        return all(axis in operand.axes for axis in inner)

    @property
    def drain_bits(self) -> int:
        """Bits that the drain reads in a scratchpad for each element of the result, beside its sum."""
        return sum(DTYPE_BITS[o.tensor.dtype] for o in self.epilogue if self.per_result(o))


def channels_last(graph: Graph) -> frozenset[str]:
    """Tensors kept channels-last in memory: those of convolutions and pools, and what elementwise operators of
    the same rank derive from them or feed to them."""
    spatial = {"conv", "conv_transpose", "pool", "resize", "batch_norm", "group_norm", "lrn"}
    carries = {"elementwise", "concat", "pad", "slice", "all_reduce"}
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


def nests(
    op: Op,
    tensors: Mapping[str, Tensor],
    last: frozenset[str] = frozenset(),
    parts: Mapping[str, Op] = MappingProxyType({}),
) -> tuple[Nest, ...]:
    """The loop nests of an operator; none for a view. `last` names the channels-last tensors, `parts` are the slices
    that are read where they lie (Graph.in_place).

    A GEMM of 512 x 256 by 256 x 1024 has one, with the dimensions row 512, column 1024, inner 256. Raises
    ValueError for an epilogue that is not element by element, and for a part that cannot be read where it lies.
    """
    # Here, for the builders are made of the classes above.
    from sim.graph.nest_builders import build_nests

    return () if op.view else build_nests(op, tensors, last, parts)
