"""Every operator, cut into random tiles that see only the boxes of its nest, gives what the whole operator gives."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from random_operators import BUILDERS, random_operator

from sim.graph.builder import GraphBuilder
from sim.graph.evaluate import evaluate, random_values
from sim.graph.graph import Graph
from sim.graph.nest import Nest, Operand, channels_last, nests
from sim.graph.op import CONTRACTIONS, KINDS, Op
from sim.graph.tensor import DTYPE_BITS
from sim.graph.tile import Box, drain_result, tile_result

Array = npt.NDArray[Any]
Range = tuple[int, int]

SEEDS = range(40)


def random_cuts(nest: Nest, rng: np.random.Generator) -> list[list[Range]]:
    """Ranges that tile every dimension; several outer indices of a nested pair only with the inner one whole."""
    cuts: list[list[Range]] = []
    for dim in nest.dims:
        inner = rng.integers(1, max(2, dim.extent), int(rng.integers(4))).tolist() if dim.extent > 1 else []
        edges = sorted({0, *inner, dim.extent})
        cuts.append(list(itertools.pairwise(edges)))
    if nest.nested and rng.integers(2):
        for outer, _ in nest.nested:
            cuts[outer] = [(index, index + 1) for index in range(nest.dims[outer].extent)]
    else:
        for _, inner_dim in nest.nested:
            cuts[inner_dim] = [(0, nest.dims[inner_dim].extent)]
    for dim in nest.role("k") if nest.kind == "attention" else ():
        # Blocks of keys do not add up: sim/engine/online.py has their recurrence.
        cuts[dim] = [(0, nest.dims[dim].extent)]
    return cuts


def tiles(nest: Nest, rng: np.random.Generator) -> Iterator[tuple[list[Array], list[Array]]]:
    """(low, high) of every dimension, tile by tile, those of a reduction last."""
    for ranges in itertools.product(*random_cuts(nest, rng)):
        yield [np.array(low) for low, _ in ranges], [np.array(high) for _, high in ranges]


def box_of(operand: Operand, low: list[Array], high: list[Array]) -> Box:
    start, stop = operand.boxes(low, high)
    sizes = [top - bottom for bottom, top in zip(low, high, strict=True)]
    bits = int((stop - start).prod()) * DTYPE_BITS[operand.tensor.dtype]
    assert operand.tile_bytes(sizes) * 8 >= bits
    return tuple(start.tolist()), tuple(stop.tolist())


def cut(value: Array, box: Box) -> Array:
    """A copy of what lies in a box."""
    return value[tuple(slice(start, stop) for start, stop in zip(*box, strict=True))].copy()


def contents(op: Op, nest: Nest, boxes: list[Box], values: Mapping[str, Array]) -> list[Array]:
    """The operands of one tile; of a gather the rows named by the tile's own indices."""
    if op.kind != "gather":
        pairs = zip(nest.inputs, boxes, strict=True)
        return [cut(values[operand.tensor.name], box) for operand, box in pairs]
    data, indices = (values[name] for name in op.inputs)
    (start, stop), places = boxes
    named = cut(indices, places)
    axis = op["axis"]
    before = [slice(*edge) for edge in zip(start[:axis], stop[:axis], strict=True)]
    behind = axis + indices.ndim
    after = [slice(*edge) for edge in zip(start[behind:], stop[behind:], strict=True)]
    rows = data[(*before, slice(None), *after)].take(named, axis=axis)
    return [rows, named]


def by_tiles(graph: Graph, values: Mapping[str, Array], rng: np.random.Generator) -> Array:
    """The result of the one operator of `graph`, put together from its tiles."""
    (op,) = graph.ops
    shape = graph.tensors[op.result].shape
    in_place = op.kind == "cache_update"
    result = values[op.result].copy() if in_place else None
    written = np.zeros(shape, np.int64)
    for nest in nests(op, graph.tensors, channels_last(graph)):
        sums: dict[Box, Array] = {}
        drains: dict[Box, list[Array]] = {}
        for low, high in tiles(nest, rng):
            out = box_of(nest.out, low, high)
            boxes = [box_of(operand, low, high) for operand in nest.inputs]
            part = tile_result(op, nest, out, boxes, contents(op, nest, boxes, values))
            assert out not in sums or nest.contraction
            sums[out] = sums[out] + part if out in sums else part
            drains[out] = [cut(values[e.tensor.name], box_of(e, low, high)) for e in nest.epilogue]
        for out, total in sums.items():
            finished = drain_result(op, total, drains[out])
            result = np.empty(shape, finished.dtype) if result is None else result
            where = tuple(slice(start, stop) for start, stop in zip(*out, strict=True))
            result[where] = finished
            written[where] += 1
    if in_place:
        assert written.sum() == graph.tensors[op.inputs[1]].elements
    else:
        assert (written == 1).all()
    assert result is not None
    return result


def fused(graph: Graph) -> Graph:
    """All operators after the first as the epilogue of the first."""
    first, *rest = graph.ops
    return graph.with_ops([replace(first, epilogue=tuple(rest))])


def check(graph: Graph, seed: int, *, integers: bool) -> None:
    values = {**graph.values, **random_values(graph, seed, integers)}
    expected = evaluate(graph, values)[graph.outputs[0]]
    computed = by_tiles(fused(graph), values, np.random.default_rng([seed, 1]))
    if np.issubdtype(expected.dtype, np.floating):
        np.testing.assert_allclose(computed, expected, rtol=1e-9, atol=1e-9)
    else:
        assert computed.dtype == expected.dtype
        np.testing.assert_array_equal(computed, expected)


def test_every_kind_is_here() -> None:
    assert set(BUILDERS) == set(KINDS) - {"reshape"}


@pytest.mark.parametrize("kind", BUILDERS)
@pytest.mark.parametrize("seed", SEEDS)
def test_tiles_of_floats(kind: str, seed: int) -> None:
    check(random_operator(kind, seed), seed, integers=False)


INTEGER_KINDS = sorted(
    CONTRACTIONS - {"attention"}
    | {
        "pool",
        "reduce",
        "elementwise",
        "transpose",
        "concat",
        "slice",
        "pad",
        "gather",
        "resize",
        "topk",
        "scan",
        "scatter",
        "cache_update",
        "all_reduce",
    }
)


@pytest.mark.parametrize("kind", INTEGER_KINDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_tiles_of_integers(kind: str, seed: int) -> None:
    check(random_operator(kind, 1000 + seed, "int8"), seed, integers=True)


def test_the_sum_of_a_reduction_in_parts() -> None:
    """Columns 1 to 2 of [1 2 3 4] times a 4 x 3 matrix, plus bias, rectified: by hand."""
    builder = GraphBuilder("parts", "int8")
    y = builder.linear(builder.input("x", (1, 4)), 3)
    builder.relu(y)
    linear, relu = builder.ops
    op = replace(linear, epilogue=(relu,))
    (nest,) = nests(op, builder.tensors)
    x = np.array([[1, 2, 3, 4]])
    weight = np.array([[9, 1, 0], [9, 2, -1], [9, 3, -2], [9, 4, -3]])
    out: Box = ((0, 1), (1, 3))
    sums = []
    for first, stop in ((0, 3), (3, 4)):
        boxes: list[Box] = [((0, first), (1, stop)), ((first, 1), (stop, 3))]
        sums.append(tile_result(op, nest, out, boxes, [cut(x, boxes[0]), cut(weight, boxes[1])]))
    assert [part.tolist() for part in sums] == [[[14, -8]], [[16, -12]]]
    assert drain_result(op, sums[0] + sums[1], [np.array([-5, 5])]).tolist() == [[25, 0]]


def test_boxes_that_do_not_fit_the_result() -> None:
    builder = GraphBuilder("relu", "int8")
    builder.relu(builder.input("x", (4, 4)))
    (nest,) = nests(builder.ops[0], builder.tensors)
    box: Box = ((0, 0), (2, 3))
    with pytest.raises(ValueError, match=r"a tile of shape \(2, 4\) came out as \(2, 3\)"):
        tile_result(builder.ops[0], nest, ((0, 0), (2, 4)), [box], [np.zeros((2, 3))])
