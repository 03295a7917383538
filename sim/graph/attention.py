"""Attention as one operator: scores, softmax and values without the scores ever being a tensor in memory.

For a block of queries, blocks of keys come by. Of every block the scores are made, their exponentials relative to the
largest so far, and the sum of values; what was summed up before is scaled down where a larger score has come (Milakov
and Gimelshein, Online normalizer calculation for softmax, 2018; Dao et al., FlashAttention, 2022, and -2, 2023). The
sums are divided by the total of the exponentials once, at the end.

A tile of it is two matrix products, whose nests `parts_of` gives: what holds of any matrix product (the law of the
array, banks, action counts) holds of these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.graph.causal import CAUSAL, HIDDEN, Range, is_ahead
from sim.graph.graph import attention_shapes
from sim.graph.nest import Axis, Dim, Int64, Nest, Operand, Part, broadcast_axes
from sim.graph.op import Op, arity
from sim.graph.places import RESULT, as_laid, as_listed, laid, listed
from sim.graph.tensor import Tensor

Array = npt.NDArray[Any]
VALUES, MASKS = 2, 3
"""Operands of the nest behind queries and keys; those from MASKS on belong to the scores."""

SUM_DTYPE = "fp32"
"""Format of running sums, and of the largest score and the total of every row."""

ROW_BYTES = 12
"""Of every row and block of keys: the largest score so far, the total so far, the factor on what was summed before."""

ROW_PASSES: Mapping[str, float] = {"compare": 1.0, "add": 1.0, "exp": 1.0, "multiply_add": 1.0}
"""Of every row and block of keys: the larger of two, the factor exp(old - new), the total times it plus the new."""

LAST_PASSES: Mapping[str, float] = {"reciprocal": 1.0}
"""Of every row of a finished result."""


def attention_nest(
    op: Op, tensors: Mapping[str, Tensor], part: Range
) -> tuple[list[Dim], list[tuple[str, Part, tuple[Axis, ...]]], tuple[Axis, ...]]:
    """Loops, operands (names, parts, axes) and the axes of the result of a range of queries of an attention. Loops are
    the batch axes (rows of a product where heads share keys), queries, and keys, which are summed over; the width of a
    head is whole in every tile."""
    (q, _, v), places = attention_shapes(op, tensors), op.attributes.get("places", ())
    rank = len(q)
    shared = [many != one for one, many in zip(q[:-2], v[:-2], strict=True)]
    dims = [
        Dim(f"batch{axis}" if rank > 3 else "batch", q[axis], "m" if shared[axis] else "g")
        for axis in range(rank - 2)
    ]
    row, key = rank - 2, rank - 1
    dims += [Dim("row", part.stop - part.first, "m"), Dim("key", part.keys, "k")]
    batch = tuple(Axis(q[axis], ((axis, 1),)) for axis in range(rank - 2))
    mine = tuple(Axis(1) if shared[axis] else batch[axis] for axis in range(rank - 2))
    rows = Axis(q[-2], ((row, 1),), 1, part.first, part.first)
    keys, depth = Axis(v[-2], ((key, 1),)), Axis(q[-1])
    sides: tuple[tuple[Part, tuple[Axis, ...]], ...] = (
        ("left", (*batch, rows, depth)),
        ("right", (*mine, keys, depth) if op["transpose_b"] else (*mine, depth, keys)),
        ("main", (*mine, keys, Axis(v[-1]))),
    )
    operands = [(op.inputs[at], side, laid(places, at, axes)) for at, (side, axes) in enumerate(sides)]
    scores = (*batch, rows, keys)
    operands += [(name, "main", broadcast_axes(tensors[name], scores)) for name in op.inputs[MASKS:]]
    return dims, operands, laid(places, RESULT, (*batch, rows, Axis(v[-1])))


def attended(op: Op, inputs: Sequence[Array], evaluate: Callable[[Op, Sequence[Array]], Array]) -> Array:
    """The whole result, by the definition; `evaluate` computes an operator."""
    places, rest = op.attributes.get("places", ()), inputs[MASKS:]
    q, k, v = (as_listed(places, number, inputs[number]) for number in range(3))
    product = {"transpose_a": False, "transpose_b": op["transpose_b"]}
    scores = evaluate(Op("", "matmul", (), "", product), [q, k])
    scores, sink = scored(op, scores, rest, (0, 0, scores.shape[-1] - scores.shape[-2]), evaluate)
    softmax = Op("", "softmax", (), "", {"axis": scores.ndim - 1, "log": False})
    shares = evaluate(softmax, [scores, *sink])
    result = evaluate(Op("", "matmul", (), "", {**product, "transpose_b": False}), [shares, v])
    return np.asarray(as_laid(places, RESULT, result))


def scored(
    op: Op,
    scores: Array,
    rest: Sequence[Array],
    place: tuple[int, int, int],
    evaluate: Callable[[Op, Sequence[Array]], Array],
) -> tuple[Array, list[Array]]:
    """The steps of an attention on its scores, or on a block of them with the same block of their further inputs
    `rest`; and the sink, if there is one. `place` is the first query and the first key of the block, and how many keys
    more than queries there are; `evaluate` computes an element function."""
    left = list(rest)
    sink = [left.pop()] if op["sink"] else []
    for function, parameters in op["steps"]:
        if function == CAUSAL:
            queries, keys = (np.arange(size) + at for size, at in zip(scores.shape[-2:], place[:2], strict=True))
            scores = np.where(is_ahead(queries, keys, place[2]), HIDDEN, scores)
            continue
        attributes = {"function": function, "parameters": parameters}
        count = arity(function) - 1
        now, left = left[:count], left[count:]
        scores = evaluate(Op("", "elementwise", (), "", attributes), [scores, *now])
    return scores, sink


@dataclass(frozen=True, slots=True)
class Parts:
    """The two products of every tile of an attention as nests of their own: `scores`, whose drain makes the shares
    (in the format of the values), and `values`, shares times values, whose drain adds to the running result. Their
    loops are those of the attention and one more, of `depth` and `width`, which is whole."""

    scores: Nest
    values: Nest
    depth: int
    width: int


_PARTS: dict[int, tuple[Nest, Parts]] = {}
_MOST_PARTS = 1024


def parts_of(nest: Nest) -> Parts:
    """The products of an attention's nest, made once."""
    known = _PARTS.get(id(nest))
    if known is None:
        if len(_PARTS) >= _MOST_PARTS:
            _PARTS.clear()
        # The entry keeps the nest alive, and with it its id.
        known = _PARTS[id(nest)] = nest, _make_parts(nest)
    return known[1]


def _make_parts(nest: Nest) -> Parts:
    q, k, v, *rest = nest.operands[: len(nest.inputs)]
    more, places = len(nest.dims), nest.places
    (*read, rows, inner), sides, (*mine, keys, outer) = (
        listed(places, number, operand.axes) for number, operand in enumerate((q, k, v))
    )
    # Those of the queries may be a part of a tensor's.
    batch = listed(places, RESULT, nest.out.axes)[:-2]
    depth, width = inner.size, outer.size
    shares = Tensor(f"{nest.name}.shares", tuple(axis.size for axis in (*batch, rows, keys)), v.tensor.dtype)
    made = listed(places, RESULT, nest.out.tensor.shape)
    running = Tensor(f"{nest.name}.running", made, SUM_DTYPE)
    last = nest.role("k")[0]
    whole, column = Axis(depth, ((more, 1),)), Axis(width, ((more, 1),))
    along = tuple(axis if axis.terms == keys.terms else whole for axis in sides[-2:])
    sums = (*batch, rows, column)
    loops = (*nest.dims[:last], replace(nest.dims[last], role="n"), Dim("depth", depth, "k"))
    scores = Nest(
        f"{nest.name}.scores", "matmul", loops,
        (
            Operand(q.tensor, "left", laid(places, 0, (*read, rows, whole))),
            Operand(k.tensor, "right", laid(places, 1, (*sides[:-2], *along))),
            *(Operand(o.tensor, "epilogue", o.axes) for o in rest),
        ),
        Operand(shares, "out", (*batch, rows, keys)), 1, math.prod(nest.extents) * depth, {}, _drained(nest.own),
    )  # fmt: skip
    values = Nest(
        f"{nest.name}.values", "matmul", (*nest.dims, Dim("column", width, "n")),
        (
            Operand(shares, "left", (*batch, rows, keys)),
            Operand(v.tensor, "right", laid(places, 2, (*mine, keys, column))),
            Operand(running, "epilogue", sums),
        ),
        Operand(running, "out", sums), 1, math.prod(nest.extents) * width, {}, {"multiply_add": 1.0},
    )  # fmt: skip
    return Parts(scores, values, depth, width)


def _drained(own: Mapping[str, float]) -> dict[str, float]:
    """Passes with the conversion out of the accumulator."""
    return {**own, "convert": own.get("convert", 0.0) + 1.0}


def with_whole(tile: Sequence[Int64], extent: int) -> tuple[Int64, ...]:
    """Tile sizes of the loops of an attention, and of one more that is whole."""
    return (*tile, np.full_like(tile[0], extent))


def ranges_with_whole(ranges: tuple[Int64, Int64], extent: int) -> tuple[Int64, Int64]:
    """Loop ranges [dims, cores, iterations] with those of one more loop that is whole."""
    low, high = ranges
    return np.concatenate([low, np.zeros_like(low[:1])]), np.concatenate([high, np.full_like(high[:1], extent)])
