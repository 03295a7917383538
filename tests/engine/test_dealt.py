"""Result tiles dealt in waves: every product once, quantised in time, right in value."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from mapped import check, mapped, small_chip
from random_operators import random_operator
from small_models import MODELS

from sim.errors import DoesNotFit
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.graph.op import CONTRACTIONS
from sim.hw.calibration import UNCALIBRATED, Calibration
from sim.hw.chip import load_chip
from sim.mapping.buffers import buffers
from sim.mapping.fabric import Fabric
from sim.mapping.mapper import map_graph
from sim.mapping.partition import Assignment
from sim.mapping.plan import make_plan
from sim.passes import default_passes
from sim.pipeline import simulate
from sim.program import Kind, Program

CHIP = "dealt to 6"


def gemm(m: int, n: int, k: int) -> Graph:
    b = GraphBuilder("gemm", "int8")
    return replace(b.build([b.linear(b.input("x", (m, k)), n, bias=False)]), kernel=True)


def busy_cores(program: Program, kind: Kind) -> dict[str, int]:
    """Tasks of a kind by queue."""
    segment = program.segments[0]
    numbers = segment.queue[segment.kind == kind]
    return {program.queues[q].name: int((numbers == q).sum()) for q in np.unique(numbers)}


@pytest.mark.parametrize(("m", "n", "k"), [(16, 8, 8), (96, 8, 8), (97, 8, 8), (50, 70, 12), (1, 300, 40)])
def test_tiles_are_dealt_one_by_one(m: int, n: int, k: int) -> None:
    program = mapped(gemm(m, n, k), CHIP)
    rows = [row.mapping for row in program.segments[0].ops if "waves" in row.mapping]
    # Names of the rows, columns and sum of a linear layer.
    tile, (row, column, depth) = rows[0]["tile"], rows[0]["tile"]
    tiles = math.ceil(m / tile[row]) * math.ceil(n / tile[column])
    parts = rows[0]["split"].get(depth, 1)
    assert sum(row["waves"] * row["cores"] for row in rows) == tiles * parts
    # No more waves than it takes, and every core busy in all but the last.
    assert sum(row["waves"] for row in rows) == math.ceil(tiles / (6 // parts))
    check(gemm(m, n, k), CHIP, 0)


@pytest.mark.parametrize("kind", sorted(CONTRACTIONS))
@pytest.mark.parametrize("seed", range(4))
def test_contractions_compute_what_they_should(kind: str, seed: int) -> None:
    check(default_passes(random_operator(kind, seed, "int8")), CHIP, seed)


@pytest.mark.parametrize("model", MODELS)
def test_models_compute_what_they_should(model: str) -> None:
    check(default_passes(MODELS[model]()), CHIP, 1)


@pytest.mark.parametrize("size", [4, 5, 7])
def test_all_waves_of_a_transposed_convolution_count_its_macs_once(size: int) -> None:
    """Its tiles count taps between input rows too: they are scaled to the nominal ones, in a last wave as well."""
    b = GraphBuilder("up", "int8")
    graph = b.build([b.conv_transpose(b.input("x", (1, 6, size, size)), 20, 4, stride=3, padding=1)])
    assert graph.macs == size * size * 6 * 20 * 4 * 4
    rows = map_graph(graph, small_chip(CHIP)).segments[0].ops
    assert sum(row.macs for row in rows) == graph.macs


@pytest.mark.parametrize("name", ["a100", "h100", "a40", "mi210"])
def test_a_strided_convolution_takes_a_smaller_tile_where_its_input_does_not_fit(name: str) -> None:
    """Of a tile of 128 rows the input box has four times as many: a GPU's first choice may not fit."""
    b = GraphBuilder("down", "fp16")
    x = b.input("x", (8, 256, 56, 56))
    program = map_graph(b.build([b.conv(x, 512, 1, stride=2)]), load_chip(name))
    assert sum(op.macs for op in program.segments[0].ops) == 8 * 28 * 28 * 512 * 256


def latency_s(columns: int, **dispatch: object) -> float:
    """Of a product of 128 x 1024 by 1024 x columns on 108 cores with one tile shape; cache and memory are no limit."""
    changes: dict[str, object] = {
        "core.dispatch.tiles": [[128, 128]],
        "dram.bandwidth": "1000 TB/s",
        "cache.bandwidth": "1000 TB/s",
        "core.dma.bandwidth": "10 TB/s",
        "core.sram.bandwidth": "50 TB/s",
        "interconnect.link_bandwidth": "100 TB/s",
        **{f"core.dispatch.{name}": value for name, value in dispatch.items()},
    }
    chip = load_chip("a100", changes).with_calibration(UNCALIBRATED)
    return float(simulate(gemm_fp16(128, columns, 1024), chip).summary["latency_s"].iloc[0])


def gemm_fp16(m: int, n: int, k: int) -> Graph:
    b = GraphBuilder("gemm", "fp16")
    return replace(b.build([b.linear(b.input("x", (m, k)), n, bias=False)]), kernel=True)


def test_one_tile_more_than_cores_costs_a_wave() -> None:
    """Tiles 1 to 108 take one wave, 109 two: one more wave is the time of one tile's products, its first loads and its
    drain."""
    one, full, more = (latency_s(128 * tiles) for tiles in (60, 108, 109))
    array = load_chip("a100").cores[0].array
    assert array is not None
    wave_s = 128 * 128 * 1024 / (array.pe_count * array.rates["fp16"] * 1.41e9)
    assert full == pytest.approx(one, rel=1e-3)
    assert wave_s < more - full < 1.1 * wave_s


def test_a_border_tile_costs_as_much_as_a_whole_one() -> None:
    """8 columns of a tile of 128 take the array as long as all of them; by their products it would be a sixteenth."""
    assert latency_s(8) > 0.9 * latency_s(128)


def test_few_tiles_split_the_sum() -> None:
    """One tile of results with a long sum: several cores work on it."""
    graph = gemm(4, 4, 2048)
    program = map_graph(graph, small_chip(CHIP))
    assert len(busy_cores(program, Kind.MATMUL)) > 1
    check(graph, CHIP, 3)


def test_a_core_with_one_tile_keeps_one_of_each_operand() -> None:
    """Sums are split over all cores: buffers no larger than the search counted, and no slots that one tile
    never fills."""
    b = GraphBuilder("conv", "int8")
    graph = b.build([b.conv(b.input("x", (1, 128, 28, 28)), 256, 3, stride=2, padding=1)])
    chip = load_chip("mi210", {"core.dispatch.split_sums": True, "core.dispatch.choice": "fastest"})
    plan = make_plan(graph, chip, Fabric(chip), Assignment(chip))
    (step,) = plan.steps
    assert step.tiling.splits[-1] > 1
    needed = sum(buffer.slots * buffer.size_bytes for buffer in buffers(step))
    assert needed <= step.tiling.sram_bytes <= chip.cores[0].sram.size_bytes
    slots = {buffer.name: buffer.slots for buffer in buffers(step)}
    assert slots == {"in0": 1, "in1": 1, "in2": 1, "out": 1, "part": 1, "message": 2}


def test_a_library_that_does_not_split_sums_leaves_cores_idle() -> None:
    program = map_graph(gemm(4, 4, 2048), small_chip(CHIP).replace_many({"core.dispatch.split_sums": False}))
    assert len(busy_cores(program, Kind.MATMUL)) == 1


@pytest.mark.parametrize(
    ("m", "n", "tile"), [(65, 512, (128, 128)), (64, 512, (64, 128)), (512, 64, (128, 64)), (9, 9, (64, 64))]
)
def test_a_library_that_takes_the_largest_tile(m: int, n: int, tile: tuple[int, int]) -> None:
    """The largest of which the result leaves no half empty, also where a smaller one would keep more cores busy."""
    menu = [[128, 128], [64, 128], [128, 64], [64, 64]]
    chip = load_chip("a100", {"core.dispatch.tiles": menu, "core.dispatch.choice": "largest"})
    rows = [row.mapping for row in map_graph(gemm_fp16(m, n, 256), chip).segments[0].ops if "waves" in row.mapping]
    assert sum(row["waves"] * row["cores"] for row in rows) == math.ceil(m / tile[0]) * math.ceil(n / tile[1])


def test_a_tile_alone_on_its_core_waits_for_its_loads() -> None:
    """Two slots that a core's tiles use by turns, one each. One tile per core: as with one slot. Two: as with two. A
    third tile on one core is alone again, a second beside the first is not."""
    turns = {"stages": 2, "lone_stages": 1, "split_sums": False}
    full = 108 * 128
    one_each, two_each = latency_s(full, **turns), latency_s(2 * full, **turns)
    assert one_each == latency_s(full, stages=1, split_sums=False)
    assert two_each == latency_s(2 * full, stages=2, split_sums=False)
    assert one_each > 1.05 * latency_s(full, stages=2, split_sums=False)
    assert latency_s(full + 128, **turns) == latency_s(full + 128, stages=2, split_sums=False)
    third = latency_s(2 * full + 128, **turns) - two_each
    assert third > 1.05 * (latency_s(2 * full + 128, stages=2, split_sums=False) - two_each)


def test_the_memory_that_no_tile_fits_is_named() -> None:
    """The accumulator holds 32 sums of 4 B; the smallest result of the menu has 16 x 8 of them."""
    chip = small_chip(CHIP).replace_many({"core.accumulator.size": "128 B", "core.dispatch.tiles": [[16, 8]]})
    with pytest.raises(DoesNotFit, match="accumulator") as caught:
        map_graph(gemm(64, 64, 64), chip)
    assert (caught.value.needed, caught.value.available) == (16 * 8 * 4, 128)


@pytest.mark.parametrize(("rows", "slower"), [(18, 1.0), (54, 1.40), (108, 1.975), (432, 1.99)])
def test_the_more_arrays_work_the_more_their_power_slows_them(rows: int, slower: float) -> None:
    """All arrays of an A100 together sustain 0.5 of the peak, that is half of their clock, at a quarter of the power
    there would be without a limit: a sixth of them is below it at the whole clock, half of them at 1/1.41 of it. They
    reached 0.98 of the peak with one and four waves of tiles."""
    b = GraphBuilder("gemm", "fp16")
    graph = replace(b.build([b.linear(b.input("x", (rows * 128, 8192)), 128, bias=False)]), kernel=True)
    chip = load_chip("a100", {"core.dispatch.tiles": [[128, 128]], "core.dispatch.split_sums": False,
                              "dram.bandwidth": "20 TB/s"})  # fmt: skip
    free_s, held_s = (
        float(simulate(graph, chip.with_calibration(Calibration(sustained_efficiency=share)))["latency_s"] or 0.0)
        for share in (1.0, 0.5)
    )
    assert held_s / free_s == pytest.approx(slower, rel=0.02)
    macs = rows * 128 * 128 * 8192
    assert held_s >= macs / (0.5 * chip.peak_macs_per_s("fp16"))
