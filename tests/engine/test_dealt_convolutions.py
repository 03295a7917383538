"""Convolutions dealt to the cores of a GPU: tiles laid over images, and blocks that bring their own filters."""

from __future__ import annotations

import math

import numpy as np
import pytest
from mapped import check

from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.hw.chip import load_chip
from sim.mapping.buffers import buffers
from sim.mapping.deal_menu import row_boxes, tile_sides
from sim.mapping.fabric import Fabric
from sim.mapping.partition import Assignment
from sim.mapping.plan import make_plan
from sim.mapping.step import Step, closed_form_s
from sim.passes import default_passes
from sim.pipeline import simulate
from sim.validate.planned import launches_s


def convolution(batch: int, channels: int, side: int, filters: int, kernel: int, stride: int = 1) -> Graph:
    b = GraphBuilder("convolution", "int8")
    x = b.input("x", (batch, channels, side, side))
    return default_passes(b.build([b.relu(b.conv(x, filters, kernel, stride, kernel // 2))]))


def planned(graph: Graph) -> tuple[Step, ...]:
    chip = load_chip("a100")
    return make_plan(graph, chip, Fabric(chip), Assignment(chip, names=tuple(op.name for op in graph.ops))).steps


def chosen(graph: Graph) -> Step:
    """The step of a convolution on A100, its last wave a part of it."""
    step = planned(graph)[0]
    assert step.nest.kind == "conv"
    return step


def rows_used(step: Step) -> float:
    """Share of the rows of all dealt tiles that are pixels."""
    nest, deal = step.nest, step.tiling.deal
    assert deal is not None
    tiles = math.prod(step.tiling.steps[dim] for dim in nest.role("m"))
    return math.prod(nest.dims[dim].extent for dim in nest.role("m")) / (tiles * deal.rows)


@pytest.mark.parametrize(("side", "kernel", "before"), [(56, 1, 0.875), (56, 3, 0.875), (28, 3, 0.875), (14, 3, 0.766)])
def test_tiles_of_a_batch_are_full(side: int, kernel: int, before: float) -> None:
    """Whole rows of images of 56, 28 and 14 pixels fill so much of 128; a kernel numbers the pixels of all images."""
    nest = chosen(convolution(64, 128, side, 128, kernel)).nest
    mine = nest.role("m")
    plain, *others = row_boxes(nest, tile_sides(nest, 128, 64), 128)
    assert plain == tile_sides(nest, 128, 64)
    used = [
        math.prod(nest.dims[dim].extent for dim in mine)
        / (128 * math.prod(-(-nest.dims[dim].extent // box[dim]) for dim in mine))
        for box in (plain, *others)
    ]
    assert used[0] == pytest.approx(before, abs=1e-3)
    assert used[1] == max(used) == 1.0
    assert all(math.prod(box[dim] for dim in mine) <= 128 for box in others)
    assert rows_used(chosen(convolution(64, 128, side, 128, kernel))) > 0.97


def test_boxes_with_more_tiles_read_less() -> None:
    """Pixels at the rim of a window of 3 x 3 are read by the neighbours of a box, too."""
    nest = chosen(convolution(64, 128, 14, 128, 3)).nest
    left, mine = nest.operands[0], nest.role("m")
    boxes = row_boxes(nest, tile_sides(nest, 128, 64), 128)[1:]
    counts = [math.prod(-(-nest.dims[dim].extent // box[dim]) for dim in mine) for box in boxes]
    read = [n * int(left.tile_bytes([np.int64(s) for s in box])) for n, box in zip(counts, boxes, strict=True)]
    assert counts == sorted(counts)
    assert read == sorted(read, reverse=True)
    assert len(boxes) > 1


def test_one_image_and_a_product_are_dealt_as_they_were() -> None:
    for side, heights in ((14, (64, 128, 256)), (56, (128, 256))):
        graph = convolution(1, 64, side, 64, 3)
        nest = chosen(graph).nest
        for rows in heights:
            sides = tile_sides(nest, rows, 64)
            assert row_boxes(nest, sides, rows) == [sides]
    b = GraphBuilder("product", "fp16")
    ((nest,),) = b.build([b.matmul(b.input("a", (300, 64)), b.input("b", (64, 640)))], kernel=True).nests
    sides = tile_sides(nest, 128, 64)
    assert row_boxes(nest, sides, 128) == [sides]


def test_a_strided_convolution_of_one_tap_reads_little_of_what_it_skips() -> None:
    """Of 2 x 2 pixels it uses one. Boxes of whole rows read 3.6 times what they use, those of many images 1.5 times."""
    step = chosen(convolution(64, 1024, 14, 2048, 1, 2))
    left = step.nest.operands[0]
    tile = step.tiling.tile(step.nest)
    pixels = math.prod(tile[dim] for dim in step.nest.role("m"))
    (channels,) = (tile[dim] for dim in step.nest.role("k"))
    assert int(left.tile_bytes([np.int64(side) for side in tile])) <= 1.5 * pixels * channels


@pytest.mark.parametrize("case", [(64, 3, 224, 64, 7, 2), (64, 64, 56, 64, 3, 1), (64, 64, 56, 64, 1, 1)])
def test_every_block_brings_its_filters_ahead_of_time(case: tuple[int, int, int, int, int, int]) -> None:
    """All filters in one tile, the sum in one step: blocks after the first found one slot for them, and the array
    waited for every load, up to half of the time; by the closed form it never did."""
    graph, chip = convolution(*case), load_chip("a100")
    steps = planned(graph)
    for step in steps:
        assert step.tiling.deal is not None
        slots = {one.name: one.slots for one in buffers(step)}
        assert slots["in0"] == slots["in1"] == step.tiling.deal.stages
        assert step.tiling.sram_bytes >= sum(one.slots * one.size_bytes for one in buffers(step) if one.name != "in2")
    closed_s = closed_form_s(steps, make_plan(graph, chip, Fabric(chip), Assignment(chip)).segments)
    events_s = simulate(graph, chip)["latency_s"]
    assert float(str(events_s)) < 1.15 * (closed_s + launches_s(steps, chip))


@pytest.mark.parametrize("case", [(6, 4, 6, 8, 3, 1), (8, 5, 7, 9, 1, 2), (12, 3, 5, 8, 3, 2)])
def test_values_of_boxes_of_several_images(case: tuple[int, int, int, int, int, int]) -> None:
    check(convolution(*case), "dealt to 6", 0)
