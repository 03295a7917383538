"""Depthwise convolutions of GPUs: on lanes, and in tiles that have whole sectors of channels."""

from __future__ import annotations

import numpy as np
import pytest

import sim
from sim.cost.estimate import SECTOR_BYTES
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.hw.chip import load_chip
from sim.mapping.fabric import Fabric
from sim.mapping.partition import Assignment
from sim.mapping.plan import make_plan
from sim.mapping.sites import usable_units
from sim.passes import default_passes


def convolution(batch: int, channels: int, side: int, groups: int) -> Graph:
    b = GraphBuilder("convolution", "fp16")
    x = b.input("x", (batch, channels, side, side))
    return default_passes(b.build([b.conv(x, channels, 3, padding="same", groups=groups)]))


@pytest.mark.parametrize("chip", ["a100", "mi210"])
def test_a_depthwise_layer_takes_about_as_long_as_its_bytes(chip: str) -> None:
    """A tile of the menu for every channel, of which one column counts, took 9 to 20 times as long; and 8 MiB of cache
    did not keep lines of 64 channels until the tiles of the 64th: 33 times the tensors came from memory."""
    report = sim.simulate(convolution(4, 96, 112, 96), chip)
    tensors = 2 * 2 * 4 * 96 * 112 * 112
    moved = int(report["dram_read_bytes"] or 0) + int(report["dram_write_bytes"] or 0)
    assert float(report["latency_s"] or 0) < 2 * float(report["bound_latency_s"] or 0)
    assert moved < 2.5 * tensors
    assert float(report["latency_s"] or 0) < 40e-6


def test_only_depthwise_convolutions_leave_the_arrays() -> None:
    kind, other = load_chip("a100").cores[0], load_chip("lepton_m").cores[0]
    for groups, channels, units in ((96, 96, ("vector",)), (48, 96, ("array", "vector")), (1, 96, ("array", "vector"))):
        nest = convolution(1, channels, 8, groups).nests[0][0]
        assert usable_units(nest, kind) == units
        assert usable_units(nest, other) == ("vector",)  # lepton_m has no rate for fp16
    nest = convolution(1, 96, 8, 96).with_dtype("bf16").nests[0][0]
    assert usable_units(nest, other) == ("array", "vector")


@pytest.mark.parametrize("shape", [(1, 32, 112), (8, 144, 28), (8, 384, 14)])
def test_tiles_have_whole_sectors_of_every_row(shape: tuple[int, int, int]) -> None:
    batch, channels, side = shape
    graph, chip = convolution(batch, channels, side, channels), load_chip("a100")
    fabric = Fabric(chip)
    (step,) = make_plan(graph, chip, fabric, Assignment(chip, names=tuple(op.name for op in graph.ops))).steps
    tile = [np.array([size], np.int64) for size in step.tiling.tile(step.nest)]
    for operand in (step.nest.operands[0], step.nest.out):
        extents = np.array([[int(axis.extent(tile)[0]) for axis in operand.axes]], np.int64)
        assert int(operand.run_bytes(extents)[0]) % SECTOR_BYTES == 0
