"""Where more is slower, by how much and from which size on: folds of an array, and waves of dealt tiles.

Rows, columns and batch are exempt from "more is never slower": a side that no longer divides the work begins another
fold, and a larger array takes longer to fill and drain. Both are asserted here at their closed-form places, on chips
whose memories are too fast to matter. The laws are written out again, from Samajdar et al., ISPASS 2020, and not
called.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.hw.chip import Chip, load_chip
from sim.pipeline import plan, simulate
from sim.program import Kind

SIDE = 8
STREAMED = 24

# Only the array takes time: the vector unit's multiply-adds are slow, so that products stay on the array.
NO_LIMITS: Mapping[str, Any] = {
    "core.sram.size": "64 MiB",
    "core.sram.bandwidth": "100 TB/s",
    "core.accumulator.size": "64 MiB",
    "core.accumulator.bandwidth": "100 TB/s",
    "core.vector.lanes": 8192,
    "core.vector.functions": {"multiply_add": 1000},
    "core.dma.bandwidth": "10 TB/s",
    "core.dma.setup_latency": "1 ns",
    "dram.bandwidth": "100 TB/s",
}

# What lies on the rows, on the columns, and what is streamed, as places in (m, n, k).
SIDES = {
    "weight_stationary": (2, 1, 0),
    "output_stationary": (0, 1, 2),
    "input_stationary": (2, 0, 1),
}


@cache
def one_core(rows: int, columns: int) -> Chip:
    return load_chip("tiny", {**NO_LIMITS, "core.array.rows": rows, "core.array.cols": columns})


def product(m: int, n: int, k: int) -> Graph:
    b = GraphBuilder("gemm", "int8")
    return replace(b.build([b.linear(b.input("x", (m, k)), n, bias=False)]), kernel=True)


def sizes(dataflow: str, on_rows: int, on_columns: int, streamed: int) -> tuple[int, int, int]:
    found = [0, 0, 0]
    for place, size in zip(SIDES[dataflow], (on_rows, on_columns, streamed), strict=True):
        found[place] = size
    return found[0], found[1], found[2]


def cycles(graph: Graph, chip: Chip, dataflow: str) -> tuple[int, float]:
    """(cycles for which the array is held, cycles of the simulated run)."""
    program = plan(graph, chip, dataflow=dataflow)[2]  # type: ignore[arg-type]
    (segment,) = program.segments
    held = int(segment.hold[segment.kind == Kind.MATMUL].sum())
    cycle_ps = 10**12 // chip.cores[0].clock_hz
    assert held % cycle_ps == 0
    latency_s = float(simulate(graph, chip, dataflow=dataflow)["latency_s"])  # type: ignore[arg-type]
    return held // cycle_ps, latency_s * 1e12 / cycle_ps


@pytest.mark.parametrize("axis", ["rows", "columns"])
@pytest.mark.parametrize("dataflow", SIDES)
def test_work_beyond_a_side_begins_a_fold(dataflow: str, axis: str) -> None:
    """Flat from one element of a fold to all of them; one element more costs max(T, R) cycles for each fold of the
    other axis; twice the full folds take twice as long. The batch of a layer is m: on the rows where results stay in
    place, on the columns where inputs do."""
    chip, other = one_core(SIDE, SIDE), 3
    step = max(STREAMED, SIDE) * other
    found = {}
    for work in (2 * SIDE + 1, 3 * SIDE - 1, 3 * SIDE, 3 * SIDE + 1, 6 * SIDE):
        across = (work, other * SIDE) if axis == "rows" else (other * SIDE, work)
        found[work] = cycles(product(*sizes(dataflow, *across, STREAMED)), chip, dataflow)
    held = {work: cycles for work, (cycles, _) in found.items()}
    assert held == {17: 3 * step, 23: 3 * step, 24: 3 * step, 25: 4 * step, 48: 6 * step}
    run = {work: cycles for work, (_, cycles) in found.items()}
    assert run[24] - run[17] == pytest.approx(0, abs=1)
    assert run[25] - run[24] == pytest.approx(step, abs=1)
    assert run[48] - run[24] == pytest.approx(3 * step, abs=1)


@pytest.mark.parametrize("axis", ["rows", "columns"])
@pytest.mark.parametrize("dataflow", SIDES)
def test_a_larger_side_is_slower_until_a_fold_is_saved(dataflow: str, axis: str) -> None:
    """40 elements on a side of 8 to 21: folds end at 10, 14 and 20; between, every row costs two cycles of fill and
    drain, every column one, and rows the time to shift a fold in where they are more than what is streamed."""
    wide, streamed = 40, 12
    runs, folds = {}, {}
    for side in range(8, 22):
        rows, columns = (side, SIDE) if axis == "rows" else (SIDE, side)
        across = (wide, SIDE) if axis == "rows" else (SIDE, wide)
        graph = product(*sizes(dataflow, *across, streamed))
        folds[side] = -(-wide // side)
        law = 2 * rows + columns + streamed - 2 + (folds[side] - 1) * max(streamed, rows)
        runs[side] = cycles(graph, one_core(rows, columns), dataflow)[1]
        assert runs[side] - runs[8] == pytest.approx(law - (16 + 8 + 10 + 4 * 12), abs=1)
    slower = {side for side in range(9, 22) if runs[side] > runs[side - 1]}
    assert slower == {9, 11, 12, 13, *range(15, 20), 21}
    assert {side for side in range(9, 22) if folds[side] < folds[side - 1]} == {10, 14, 20}


def test_a_batch_is_free_until_it_is_as_long_as_the_array_is_high() -> None:
    """Weights in place: max(T, R) cycles a fold, so 1 to 8 inputs cost the same; from there on each costs as much."""
    chip = one_core(SIDE, SIDE)
    held = [cycles(product(batch, 32, 32), chip, "weight_stationary")[0] for batch in (1, 5, 8, 9, 16, 32)]
    assert held == [16 * 8, 16 * 8, 16 * 8, 16 * 9, 16 * 16, 16 * 32]


TILE = 128


@cache
def dealt(cores: int) -> Chip:
    """Cores that are dealt tiles of 128 x 128, with memories that are no limit beside a clock of 100 ns."""
    changes = {
        **NO_LIMITS,
        "clock": "10 MHz",
        "core.count": cores,
        "core.array.rows": SIDE,
        "core.array.cols": SIDE,
        "core.dispatch.tiles": [[TILE, TILE]],
        "interconnect.topology": "crossbar",
        "interconnect.shape": [cores],
        "interconnect.memory_ports": [[0]],
        "interconnect.link_bandwidth": "100 TB/s",
        "interconnect.hop_latency": "1 ns",
    }
    return load_chip("lepton_m", changes)


@pytest.mark.parametrize("cores", [3, 7])
def test_batch_across_a_wave(cores: int) -> None:
    """A wave is full with 128 inputs a core; one more takes another wave, of 16 column folds that stream 128 inputs
    each; twice the full waves take twice as long. The sum is one fold deep: to split it over idle cores, as a long one
    would be, saves nothing. Within 2 % of a wave: the array is 22 cycles deep, a tile may wait for the last to end."""
    wave, full = TILE // SIDE * TILE, TILE * cores
    slack = 0.02 * wave

    def run(batch: int) -> float:
        return cycles(product(batch, TILE, SIDE), dealt(cores), "weight_stationary")[1]

    runs = {batch: run(batch) for batch in (1, full, full + 1, 2 * full, 2 * full + 1, 4 * full)}
    assert runs[full] - runs[1] == pytest.approx(0, abs=slack)
    assert runs[full + 1] - runs[full] == pytest.approx(wave, abs=slack)
    assert runs[2 * full] - runs[full + 1] == pytest.approx(0, abs=slack)
    assert runs[2 * full + 1] - runs[2 * full] == pytest.approx(wave, abs=slack)
    assert runs[4 * full] - runs[2 * full] == pytest.approx(2 * wave, abs=2 * slack)
