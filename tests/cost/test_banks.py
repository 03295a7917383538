"""Bank conflicts of real layouts, word by word, and what they cost; the DMA's share of the scratchpad, by hand."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sim.cost.banks import array_conflicts, weighted_read_bytes
from sim.cost.work import GemmShape, array_cycles, vector_tile_cycles
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.graph.nest import Nest, channels_last, nests
from sim.hw.chip import Chip, load_chip
from sim.pipeline import plan, simulate
from sim.program import Kind, Program

BANKS, WORD = 16, 4


def narrow(**changes: Any) -> Chip:
    """One core with 16 banks of one 4-byte word a cycle, 16 lanes and an array of 16 x 16, rows packed."""
    values = {
        "core.sram.banks": BANKS,
        "core.sram.bandwidth": "32 GB/s",
        "core.sram.padded_rows": False,
        "core.vector.lanes": 16,
        "core.array.rows": 16,
        "core.array.cols": 16,
        "core.array.rates": {"int32": 1},
        "core.dma.bandwidth": "100 MB/s",
        **changes,
    }
    return load_chip("tiny", values)


def only_nest(graph: Graph) -> Nest:
    (nest,) = nests(graph.ops[-1], graph.tensors, channels_last(graph))
    return nest


def built(body: Callable[[GraphBuilder], str]) -> Graph:
    b = GraphBuilder("g", "int32")
    return replace(b.build([body(b)]), kernel=True)


def ratio(addresses: list[int]) -> float:
    """Reads of the busiest bank over those that the same number of words side by side would need; of each word
    one."""
    busiest = max(Counter(word % BANKS for word in set(addresses)).values())
    return busiest / -(-len(addresses) // BANKS)


@pytest.mark.parametrize(("rows", "columns"), [(16, 16), (32, 24), (16, 12), (16, 15), (40, 20), (3, 32), (16, 64)])
def test_a_transpose_reads_along_the_other_axis(rows: int, columns: int) -> None:
    """Source [rows, columns], packed, of words: 16 lanes along its rows read words `columns` apart."""
    nest = only_nest(built(lambda b: b.transpose(b.input("x", (rows, columns)), (1, 0))))
    tile = tuple(np.array([dim.extent]) for dim in nest.dims)
    wanted = ratio([lane * columns for lane in range(min(16, rows))])
    kind = narrow().cores[0]
    assert weighted_read_bytes(nest, kind, tile) / (4 * rows * columns) == pytest.approx(wanted)
    padded = narrow(**{"core.sram.padded_rows": True}).cores[0]
    assert weighted_read_bytes(nest, padded, tile) == 4 * rows * columns


def test_bytes_share_words() -> None:
    """int8: four elements a word, rows of 64 B are 16 words apart, of 66 B also (whole words are counted)."""
    kind = narrow().cores[0]
    for columns, factor in ((3, 1), (4, 1), (64, 16), (66, 16), (68, 1)):
        b = GraphBuilder("g", "int8")
        nest = only_nest(b.build([b.transpose(b.input("x", (16, columns)), (1, 0))]))
        tile = tuple(np.array([dim.extent]) for dim in nest.dims)
        assert weighted_read_bytes(nest, kind, tile).tolist() == [factor * 16 * columns]


@pytest.mark.parametrize(("stride", "channels"), [(1, 1), (2, 1), (2, 2), (3, 4), (4, 4), (2, 16), (1, 16)])
def test_a_strided_convolution_reads_pixels_apart(stride: int, channels: int) -> None:
    """Results in place: 16 rows of the array take 16 output columns, stride x channels words apart, channels last."""
    graph = built(lambda b: b.conv(b.input("x", (1, channels, 8, 80)), 16, 1, stride, 0, bias=False))
    nest = only_nest(graph)
    tile = tuple(np.array([dim.extent]) for dim in nest.dims)
    kind = narrow().cores[0]
    left, right = array_conflicts(nest, kind, tile, "output_stationary")
    assert left == pytest.approx(ratio([lane * stride * channels for lane in range(16)]))
    # Weights are packed as they are read; weights in place, a vector is one pixel's channels, side by side.
    assert right == 1.0
    assert array_conflicts(nest, kind, tile, "weight_stationary") == (pytest.approx(1.0), 1.0)


SIZES = (32, 48, 64)


@pytest.mark.parametrize("dataflow", ["weight_stationary", "input_stationary", "output_stationary"])
@pytest.mark.parametrize(("transpose_a", "transpose_b"), list(itertools.product([False, True], repeat=2)))
def test_products_of_activations(dataflow: str, transpose_a: bool, transpose_b: bool) -> None:
    """Words that 16 lanes read of [m, k] or [k, m] and [k, n] or [n, k], along the loop that feeds the array."""
    m, n, k = SIZES

    def body(b: GraphBuilder) -> str:
        a = b.input("a", (k, m) if transpose_a else (m, k))
        return b.matmul(a, b.input("b", (n, k) if transpose_b else (k, n)), transpose_a, transpose_b)

    nest, kind = only_nest(built(body)), narrow().cores[0]
    tile = tuple(np.array([dim.extent]) for dim in nest.dims)
    pitch_left = {"m": 1, "k": m} if transpose_a else {"m": k, "k": 1}
    pitch_right = {"n": k, "k": 1} if transpose_b else {"n": 1, "k": n}
    along = {"weight_stationary": "kn", "input_stationary": "mk", "output_stationary": "mn"}[dataflow]
    wanted = [
        ratio([lane * pitch[loop] for lane in range(16)])
        for pitch, loop in zip((pitch_left, pitch_right), along, strict=True)
    ]
    assert list(array_conflicts(nest, kind, tile, dataflow)) == pytest.approx(wanted)


def held_cycles(program: Program, kind: Kind) -> int:
    (segment,) = program.segments
    return int(segment.hold[segment.kind == kind].sum()) // 2000


def test_a_conflict_costs_time_in_the_program_and_the_estimate_but_no_bytes() -> None:
    """A transpose of 64 x 64 words: 16 lanes, one bank; each row of 16 reads takes 16 cycles instead of 1. Transfers
    take so long to set up that few tiles are best."""
    graph = built(lambda b: b.transpose(b.input("x", (64, 64)), (1, 0)))
    few = {"core.dma.setup_latency": "100 us", "core.dma.bandwidth": "100 MB/s"}
    packed, padded = (narrow(**few, **{"core.sram.padded_rows": choice}) for choice in (False, True))
    slow, fast = (plan(graph, chip)[2] for chip in (packed, padded))
    rows = 64 * 64 // 16
    # Reads at one bank of 16, writes side by side; with padding both side by side, a cycle each.
    assert held_cycles(slow, Kind.VECTOR) == pytest.approx((16 + 1) * rows, rel=0.01)
    assert held_cycles(fast, Kind.VECTOR) == pytest.approx(2 * rows, rel=0.01)
    reports = [simulate(graph, chip) for chip in (packed, padded)]
    assert reports[0]["sram_read_bytes"] == reports[1]["sram_read_bytes"]
    # One tile: nothing hides the 15 cycles more for each of 256 rows.
    for fidelity in ("event", "bound"):
        slow_s, fast_s = (
            float(simulate(graph, chip, fidelity=fidelity)["latency_s"])  # type: ignore[arg-type]
            for chip in (packed, padded)
        )
        assert slow_s - fast_s == pytest.approx(15 * rows * 2e-9, rel=0.01), fidelity


def test_a_product_waits_for_its_operands() -> None:
    """16 x 64 by 64 x 16 words with results in place: 16 rows of the left one begin in one bank, 16 x 64 cycles instead
    of 64; the right one takes 64 more."""
    graph = built(lambda b: b.matmul(b.input("a", (16, 64)), b.input("b", (64, 16))))
    few = {"core.dma.setup_latency": "100 us", "core.dma.bandwidth": "100 MB/s"}
    few |= {"core.vector.functions": {"multiply_add": 1000}}
    for padded, cycles in ((False, 16 * 64 + 64), (True, 64 + 64)):
        chip = narrow(**few, **{"core.sram.padded_rows": padded})
        program = plan(graph, chip, dataflow="output_stationary")[2]
        assert held_cycles(program, Kind.MATMUL) == pytest.approx(cycles, rel=0.01)
        # The same cycles are counted for the utilization.
        (row,) = [op for op in program.segments[0].ops if op.kind == "matmul"]
        assert row.counts["array_cycles"] == pytest.approx(cycles, rel=0.01)


def test_the_search_turns_to_tiles_without_conflicts() -> None:
    """Of 48 x 64 words in a scratchpad that holds all of it, pieces whose rows are no multiple of the banks win."""
    graph = built(lambda b: b.transpose(b.input("x", (64, 64)), (1, 0)))
    quick = {"core.dma.bandwidth": "100 GB/s", "core.dma.setup_latency": "1 ns", "core.sram.bandwidth": "32 GB/s"}
    tiles = {}
    for choice in (False, True):
        program = plan(graph, narrow(**quick, **{"core.sram.padded_rows": choice}))[2]
        tiles[choice] = next(op.mapping["tile"] for op in program.segments[0].ops if op.kind == "transpose")
    assert tiles[False] != tiles[True]


@pytest.mark.parametrize(
    ("dma", "left_gb_per_s"), [("1 GB/s", 10), ("4 GB/s", 4), ("5 GB/s", 3), ("20 GB/s", 3)]
)
def test_the_dma_has_its_share_of_the_scratchpad(dma: str, left_gb_per_s: int) -> None:
    """12 GB/s less two channels, at least a quarter: what is left feeds an array that wants 8 B a cycle, 4 GB/s."""
    kind = load_chip("tiny", {"core.sram.bandwidth": "12 GB/s", "core.dma.bandwidth": dma}).cores[0]
    m, n, k = 512, 8, 8
    shape = GemmShape(*(np.array([size]) for size in (1, m, n, k)))
    hold, dur = array_cycles(shape, kind, "int8", "weight_stationary", (8, 8))
    bytes_a_cycle = left_gb_per_s * 2  # at 500 MHz
    fed = -(-(m * k + k * n) // bytes_a_cycle)
    assert hold.tolist() == [max(512, fed)]
    assert dur.tolist() == [max(512, fed) + 2 * 8 + 8 - 2]
    # Twice as slow to read on one side, then on the other.
    for conflicts, read in (((2.0, 1.0), 2 * m * k + k * n), ((1.0, 2.0), m * k + 2 * k * n)):
        hold, _ = array_cycles(shape, kind, "int8", "weight_stationary", (8, 8), conflicts)
        assert hold.tolist() == [max(512, -(-read // bytes_a_cycle))]
    # The vector unit: 4096 elements on 8 lanes take 512 cycles, or what 8192 bytes take.
    elements = np.array([4096])
    cycles = vector_tile_cycles(elements, {"relu": 1.0}, kind, 2 * elements)
    assert cycles.tolist() == [max(512, -(-8192 // bytes_a_cycle))]


def test_sums_have_a_memory_of_their_own() -> None:
    """Partial sums load the accumulator's port and leave the scratchpad's alone."""
    slow = load_chip("tiny", {"core.accumulator.bandwidth": "2 GB/s"}).cores[0]
    elements = np.array([4096])
    # 4 B a sum at 4 B a cycle.
    assert vector_tile_cycles(elements, {"convert": 1.0}, slow, elements, 4 * elements).tolist() == [4096]
    shape = GemmShape(*(np.array([size]) for size in (1, 512, 8, 8)))
    assert array_cycles(shape, slow, "int8", "weight_stationary", (8, 8))[0].tolist() == [512]
