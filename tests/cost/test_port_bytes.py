"""Where nothing but the scratchpad's port binds, tasks take as long as what energy counts there takes to pass it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from attentions import ATTENTIONS, kernel
from operator_graphs import GRAPHS

from sim.cost.work import compute_bandwidth
from sim.graph.graph import Graph
from sim.hw.chip import load_chip
from sim.mapping.mapper import map_graph
from sim.program import Kind, Program

NARROW: Mapping[str, Any] = {
    "core.array.rows": 8, "core.array.cols": 8, "core.vector.lanes": 1, "core.sram.size": "32 KiB",
    "core.accumulator.size": "4 KiB", "core.accumulator.bandwidth": "10 TB/s", "core.sram.bandwidth": "40 MB/s",
}  # fmt: skip
PADDED = {"conv", "conv strided", "conv depthwise", "conv grouped", "conv_transpose", "pool"}
"""Tiles at the border are as long as others: their boxes are smaller, by at most 5 % here."""

MASKED = kernel((2, 3), 65, 90, 16, mask=(2, 1, 1, 90))
"""A number of every key, which stays in a register: no more is read for a score than without a mask."""


def compute_bytes(program: Program) -> tuple[float, float]:
    """(seconds of all tasks that compute, bytes that they move at the scratchpad)."""
    seconds = moved = 0.0
    for segment, repeat in zip(program.segments, program.repeats, strict=True):
        computes = (segment.kind == Kind.MATMUL) | (segment.kind == Kind.VECTOR)
        seconds += repeat * int(segment.hold[computes].sum()) * 1e-12
        for op in segment.ops:
            moved += repeat * sum(op.counts.get(f"sram_{way}_bytes", 0.0) for way in ("read", "write"))
    return seconds, moved


@pytest.mark.parametrize("dataflow", ["weight_stationary", "output_stationary", "input_stationary"])
@pytest.mark.parametrize("name", [*GRAPHS, *ATTENTIONS, "attention with a mask of keys"])
def test_time_and_energy_count_the_same_bytes(name: str, dataflow: str) -> None:
    """Operands and results of arrays and lanes, scales of packed weights, residuals, masks, shares, numbers of rows and
    running results, on one core, so that no sum is split."""
    chip = load_chip("tiny", {**NARROW, "core.array.dataflow": dataflow})
    graph: Graph = GRAPHS[name]() if name in GRAPHS else ATTENTIONS.get(name, MASKED)
    seconds, moved = compute_bytes(map_graph(graph, chip))
    assert moved > 0
    passed = seconds * compute_bandwidth(chip.cores[0])
    # Each task is rounded up to a cycle.
    assert passed == pytest.approx(moved, rel=0.05 if name in PADDED else 1e-3)


@pytest.mark.parametrize("cores", [2, 3, 8])
def test_parts_of_split_sums_pass_the_port(cores: int) -> None:
    """A core that only sends writes its part; an addition reads a message and writes a part, and reads one unless it
    takes its own sums from the accumulator; the last part is read by the drain."""
    changes = {**NARROW, "core.count": cores, "interconnect.shape": [1, cores], "interconnect.memory_ports": [[0, 0]]}
    chip = load_chip("lepton_m", changes)
    program = map_graph(GRAPHS["matmul deep"](), chip, partition="reduction")
    assert any(op.counts.get("vector_copy") for segment in program.segments for op in segment.ops)
    seconds, moved = compute_bytes(program)
    assert seconds * compute_bandwidth(chip.cores[0]) == pytest.approx(moved, rel=1e-4)
