"""Boxes, bytes and memory order of loop nests, each worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from sim.graph.builder import GraphBuilder
from sim.graph.nest import Axis, Nest, Operand, channels_last, nests
from sim.graph.tensor import Tensor

Range = tuple[int, int]


def only_nest(builder: GraphBuilder, last: frozenset[str] = frozenset()) -> Nest:
    (nest,) = nests(builder.ops[-1], builder.tensors, last)
    return nest


def box(nest: Nest, operand: Operand, **ranges: Range) -> list[Range]:
    """Box of a tile; dimensions that are not named are taken whole."""
    names = [dim.name for dim in nest.dims]
    assert set(ranges) <= set(names)
    found = [ranges.get(dim.name, (0, dim.extent)) for dim in nest.dims]
    low, high = ([np.array(edge[side]) for edge in found] for side in (0, 1))
    start, stop = operand.boxes(low, high)
    return list(zip(start.tolist(), stop.tolist(), strict=True))


def tile_bytes(nest: Nest, operand: Operand, **sizes: int) -> int:
    return int(operand.tile_bytes([np.array(sizes.get(dim.name, dim.extent)) for dim in nest.dims]))


def run(operand: Operand, *extents: int) -> int:
    return int(operand.run_bytes(np.array(extents)))


def strided_conv() -> Nest:
    """[1, 3, 16, 16] with kernel 3, stride 2, padding 1 to [1, 8, 8, 8]."""
    builder = GraphBuilder("conv", "int8")
    builder.conv(builder.input("x", (1, 3, 16, 16)), 8, 3, stride=2, padding=1)
    return only_nest(builder)


def test_halo_of_a_strided_convolution() -> None:
    nest = strided_conv()
    x, weight, bias = nest.operands
    # Output row r reads 2 r - 1 to 2 r + 1: rows 4 to 7 read 7 to 15, rows 0 to 3 read (-1) 0 to 7.
    assert box(nest, x, row=(4, 8), column=(0, 4)) == [(0, 1), (0, 3), (7, 16), (0, 8)]
    assert box(nest, x, in_channel=(1, 2))[1] == (1, 2)
    assert box(nest, weight, out_channel=(2, 5), in_channel=(1, 3)) == [(2, 5), (1, 3), (0, 3), (0, 3)]
    assert box(nest, bias, out_channel=(2, 5)) == [(2, 5)]
    assert box(nest, nest.out, row=(4, 8), out_channel=(2, 5)) == [(0, 1), (2, 5), (4, 8), (0, 8)]
    assert (nest.taps, nest.macs) == (9, 8 * 8 * 8 * 3 * 9)
    assert [(dim.name, dim.role) for dim in nest.dims[1:]] == [
        ("row", "m"),
        ("column", "m"),
        ("out_channel", "n"),
        ("in_channel", "k"),
    ]


def test_bytes_of_a_convolution_tile() -> None:
    nest = strided_conv()
    # 4 output rows reach over 9 input rows; 8 columns over 17, of which there are 16.
    assert tile_bytes(nest, nest.operands[0], row=4, column=8) == 3 * 9 * 16
    assert tile_bytes(nest, nest.operands[1], out_channel=2, in_channel=2) == 2 * 2 * 9
    assert tile_bytes(nest, nest.out, row=4, column=2, out_channel=5) == 4 * 2 * 5


def test_a_window_in_the_padding_reads_the_nearest_row() -> None:
    builder = GraphBuilder("conv", "int8")
    builder.conv(builder.input("x", (1, 1, 4)), 1, 2, padding=[(3, 4)])
    nest = only_nest(builder)
    # Output column c reads c - 3 and c - 2.
    assert box(nest, nest.operands[0], column=(0, 2))[2] == (0, 1)
    assert box(nest, nest.operands[0], column=(2, 4))[2] == (0, 2)
    assert box(nest, nest.operands[0], column=(8, 10))[2] == (3, 4)


def test_groups_of_a_convolution() -> None:
    builder = GraphBuilder("grouped", "int8")
    builder.conv(builder.input("x", (1, 6, 5, 5)), 8, 1, groups=2)
    nest = only_nest(builder)
    x, weight, _ = nest.operands
    part = {"group": (1, 2), "out_channel": (1, 3), "in_channel": (0, 2)}
    assert box(nest, x, **part)[1] == (3, 5)
    assert box(nest, weight, **part)[:2] == [(5, 7), (0, 2)]
    assert box(nest, nest.out, **part)[1] == (5, 7)
    assert box(nest, x)[1] == (0, 6)
    names = [dim.name for dim in nest.dims]
    assert {(names[a], names[b]) for a, b in nest.nested} == {
        ("group", "out_channel"),
        ("group", "in_channel"),
    }
    assert nest.macs == 8 * 25 * 3


def test_rows_that_reach_a_transposed_convolution() -> None:
    builder = GraphBuilder("up", "int8")
    builder.conv_transpose(builder.input("x", (1, 2, 5)), 3, 4, stride=2, padding=1)
    nest = only_nest(builder)
    x = nest.operands[0]
    # Input i adds to outputs 2 i - 1 to 2 i + 2: outputs 4 and 5 come from inputs 1 to 3.
    assert box(nest, x, column=(4, 6))[2] == (1, 4)
    assert box(nest, x, column=(0, 1))[2] == (0, 1)
    assert box(nest, x, column=(8, 10))[2] == (3, 5)
    assert nest.taps == 2
    # Four outputs meet at most four inputs: 4 to 7 need 1 to 4.
    assert tile_bytes(nest, x, column=4) == 2 * 4


def test_a_kernel_shorter_than_the_stride() -> None:
    """Outputs 1 and 2 of every three are zero; a tile of them reads one element all the same."""
    builder = GraphBuilder("sparse", "int8")
    builder.conv_transpose(builder.input("x", (1, 1, 4)), 1, 1, stride=3)
    nest = only_nest(builder)
    assert box(nest, nest.operands[0], column=(4, 6))[2] == (2, 3)
    assert box(nest, nest.operands[0], column=(3, 7))[2] == (1, 3)
    assert tile_bytes(nest, nest.operands[0], column=1) == 1


@pytest.mark.parametrize(
    ("source", "scale", "mode", "rows", "expected"),
    [
        (5, 2.0, "nearest", (3, 7), (1, 4)),  # y // 2
        (9, 1 / 3, "nearest", (0, 1), (1, 2)),  # 3 y + 1
        (9, 1 / 3, "nearest", (1, 3), (4, 8)),
        (4, 2.0, "linear", (2, 4), (0, 3)),  # coordinates 0.75 and 1.25
        (4, 2.0, "linear", (0, 2), (0, 2)),  # coordinates -0.25, clamped, and 0.25
        (8, 0.5, "linear", (1, 3), (2, 6)),  # coordinates 2.5 and 4.5
    ],
)
def test_rows_that_a_resize_reads(source: int, scale: float, mode: str, rows: Range, expected: Range) -> None:
    builder = GraphBuilder("resize", "int8")
    builder.resize(builder.input("x", (1, 1, source)), scale, mode)
    nest = only_nest(builder)
    assert box(nest, nest.operands[0], column=rows)[2] == expected


def test_an_upsampled_tile_needs_half_its_rows() -> None:
    builder = GraphBuilder("resize", "int8")
    builder.resize(builder.input("x", (1, 1, 8)), 2.0)
    nest = only_nest(builder)
    # 2 outputs from an odd index on straddle two elements, and so do 3 from anywhere.
    assert [tile_bytes(nest, nest.operands[0], column=size) for size in (1, 2, 3, 4)] == [1, 2, 2, 3]


def test_broadcast_operands() -> None:
    builder = GraphBuilder("add", "int8")
    builder.add(builder.input("a", (4, 6, 8)), builder.input("b", (6, 1)))
    nest = only_nest(builder)
    a, b = nest.operands
    tile = {"d0": (1, 3), "d1": (2, 5), "d2": (0, 4)}
    assert box(nest, a, **tile) == [(1, 3), (2, 5), (0, 4)]
    assert box(nest, b, **tile) == [(2, 5), (0, 1)]
    assert b.dims == {1}


def test_heads_that_share_keys() -> None:
    """Grouped-query attention: the group's queries are rows, the keys do not move with them."""
    builder = GraphBuilder("scores", "int8")
    builder.matmul(builder.input("q", (2, 3, 4, 5, 8)), builder.input("k", (2, 3, 1, 8, 7)))
    nest = only_nest(builder)
    q, k = nest.operands
    assert [dim.role for dim in nest.dims] == ["g", "g", "m", "m", "n", "k"]
    assert q.dims == {0, 1, 2, 3, 5}
    assert k.dims == {0, 1, 4, 5}
    tile = {"batch2": (1, 3), "row": (0, 2), "column": (3, 7), "inner": (4, 8)}
    assert box(nest, q, **tile) == [(0, 2), (0, 3), (1, 3), (0, 2), (4, 8)]
    assert box(nest, k, **tile) == [(0, 2), (0, 3), (0, 1), (4, 8), (3, 7)]


def test_neighbours_of_a_local_response_normalisation() -> None:
    """An even size looks one channel further up than down."""
    builder = GraphBuilder("lrn", "fp32")
    attributes = {"size": 4, "alpha": 1.0, "beta": 0.5, "bias": 1.0}
    builder.add_op("lrn", [builder.input("x", (1, 9, 2, 2))], attributes)
    nest = only_nest(builder)
    assert box(nest, nest.operands[0], d1=(3, 5))[1] == (2, 7)
    assert box(nest, nest.operands[0], d1=(0, 1))[1] == (0, 3)


def test_slices_and_pads() -> None:
    builder = GraphBuilder("cut", "int8")
    x = builder.input("x", (20,))
    builder.slice(x, 0, start=3, count=5, step=3)
    assert box(only_nest(builder), only_nest(builder).operands[0], d0=(1, 3)) == [(6, 10)]
    builder.slice(x, 0, start=15, count=5, step=-3)
    assert box(only_nest(builder), only_nest(builder).operands[0], d0=(1, 3)) == [(0, 20)]
    builder.pad(x, (4,), (4,))
    assert box(only_nest(builder), only_nest(builder).operands[0], d0=(2, 9)) == [(0, 5)]


def test_a_concatenation_has_one_nest_per_input() -> None:
    builder = GraphBuilder("join", "int8")
    names = [builder.input(f"x{number}", (2, size)) for number, size in enumerate((3, 4))]
    builder.concat(names, 1)
    first, second = nests(builder.ops[0], builder.tensors)
    assert (first.name, second.name) == ("concat[0]", "concat[1]")
    assert box(second, second.out, d1=(1, 3)) == [(0, 2), (4, 6)]
    assert box(second, second.operands[0], d1=(1, 3)) == [(0, 2), (1, 3)]


def test_a_view_has_no_nest() -> None:
    builder = GraphBuilder("view", "int8")
    builder.reshape(builder.input("x", (4, 6)), (24,))
    assert nests(builder.ops[0], builder.tensors) == ()


def test_whole_groups_of_a_group_norm() -> None:
    builder = GraphBuilder("norm", "fp16")
    builder.group_norm(builder.input("x", (2, 12, 5)), 4)
    nest = only_nest(builder)
    x, scale, _ = nest.operands
    assert box(nest, x, group=(1, 3)) == [(0, 2), (3, 9), (0, 5)]
    assert box(nest, scale, group=(1, 3)) == [(3, 9)]
    assert tile_bytes(nest, x, batch=1, group=2) == 6 * 5 * 2


def image(dtype: str, *, last: bool) -> Operand:
    """A tensor [1, 8, 4, 6] of an element function."""
    builder = GraphBuilder("relu", dtype)
    builder.relu(builder.input("x", (1, 8, 4, 6)))
    return only_nest(builder, frozenset({"x"}) if last else frozenset()).operands[0]


@pytest.mark.parametrize(
    ("last", "extents", "elements"),
    [
        (True, (1, 8, 2, 6), 8 * 6 * 2),  # two whole rows
        (True, (1, 8, 2, 5), 8 * 5),
        (True, (1, 4, 2, 6), 4),
        (False, (1, 8, 2, 6), 6 * 2),
        (False, (1, 5, 4, 6), 6 * 4 * 5),
        (False, (1, 8, 4, 6), 192),
    ],
)
def test_runs(last: bool, extents: Sequence[int], elements: int) -> None:
    assert run(image("int8", last=last), *extents) == elements
    assert run(image("fp16", last=last), *extents) == 2 * elements


def test_weights_are_packed_tile_by_tile() -> None:
    nest = strided_conv()
    assert run(nest.operands[1], 2, 1, 3, 3) == 18


@pytest.mark.parametrize(
    ("axis", "extents", "elements"),
    [
        (0, (3, 5, 6), 30),  # a row is [5, 6]
        (0, (3, 2, 6), 12),
        (0, (3, 5, 2), 2),
        (1, (7, 3, 6), 6),  # a row is [6]
        (2, (7, 5, 3), 1),  # single elements
    ],
)
def test_gathered_runs_end_with_the_row(axis: int, extents: Sequence[int], elements: int) -> None:
    builder = GraphBuilder("rows", "int8")
    table = builder.weight((7, 5, 6), "table")
    builder.gather(table, builder.input("indices", (3,), "int32"), axis)
    data, indices = only_nest(builder).operands
    assert data.gathered
    assert not indices.gathered
    assert run(data, *extents) == elements


def test_packed_formats_round_a_tile_up() -> None:
    builder = GraphBuilder("int4", "int4")
    builder.relu(builder.input("x", (3, 5)))
    nest = only_nest(builder)
    assert tile_bytes(nest, nest.out, d0=1, d1=5) == 3


def test_channels_last() -> None:
    """What lies around a convolution takes its order, forwards and backwards, up to a change of rank."""
    builder = GraphBuilder("net", "int8")
    x = builder.elementwise("neg", builder.input("x", (1, 3, 8, 8)), name="neg")
    y = builder.relu(builder.conv(x, 4, 3, padding=1, name="conv"), name="relu")
    skip = builder.input("skip", (1, 4, 8, 8))
    y = builder.add(y, skip, name="sum")
    flat = builder.reshape(y, (1, -1), name="flat")
    graph = builder.build([builder.linear(flat, 10, name="linear")])
    assert channels_last(graph) == {"x", "neg", "conv", "relu", "skip", "sum"}
    (nest,) = nests(graph.ops[-3], graph.tensors, channels_last(graph))
    assert graph.ops[-3].name == "sum"
    assert [dim.name for dim in nest.dims] == ["batch", "row", "column", "channel"]
    assert nest.out.memory_order() == (0, 2, 3, 1)


def test_only_element_functions_are_fused() -> None:
    builder = GraphBuilder("fused", "fp32")
    y = builder.linear(builder.input("x", (4, 8)), 6, name="linear")
    builder.softmax(y, name="softmax")
    linear, softmax = builder.ops
    with pytest.raises(ValueError, match=r"operator linear: softmax \(softmax\) cannot be fused"):
        nests(replace(linear, epilogue=(softmax,)), builder.tensors)


def test_drain_passes_count_bias_epilogue_and_conversion() -> None:
    builder = GraphBuilder("fused", "int8")
    y = builder.linear(builder.input("x", (4, 8)), 6)
    builder.add(builder.relu(y), builder.input("skip", (4, 6)))
    linear, relu, add = builder.ops
    (nest,) = nests(replace(linear, epilogue=(relu, add)), builder.tensors)
    assert nest.drain == {"convert": 1.0, "add": 2.0, "compare": 1.0}
    assert [operand.tensor.name for operand in nest.epilogue] == ["linear.bias", "skip"]
    assert nest.out.tensor.name == add.output


def test_an_axis_without_terms_is_whole() -> None:
    assert Axis(7).box([], []) == (0, 7)


@pytest.mark.parametrize("last", [False, True])
def test_pitches_are_the_distances_between_runs(last: bool) -> None:
    """By brute force over all boxes of a small tensor: where the bytes lie, how far the first two runs are apart."""
    sizes = (2, 3, 4, 5)
    operand = Operand(Tensor("x", sizes, "int16"), "left", tuple(Axis(size) for size in sizes), channels_last=last)
    order = operand.memory_order()
    index = np.arange(np.prod(sizes)).reshape([sizes[axis] for axis in order]).transpose(np.argsort(order))
    for extents in np.ndindex(*sizes):
        box = np.sort(index[tuple(slice(0, extent + 1) for extent in extents)].ravel()) * 2
        starts = box[np.flatnonzero(np.diff(box, prepend=-9) > 2)]
        run = len(box) * 2 if len(starts) == 1 else int(np.searchsorted(box, starts[1])) * 2
        shape = np.array(extents) + 1
        assert operand.run_bytes(shape) == run
        assert operand.pitch_bytes(shape) == (run if len(starts) == 1 else starts[1] - starts[0])


def test_packed_weights_go_on_and_gathered_rows_lie_anywhere() -> None:
    axes = (Axis(8), Axis(16))
    box = np.array([2, 4])
    assert Operand(Tensor("w", (8, 16), "int8", "weight"), "right", axes).pitch_bytes(box) == 8
    assert Operand(Tensor("t", (8, 16), "int8"), "main", axes, row_axes=1).pitch_bytes(box) == 0
