"""Inputs and results that pass between the host and the scratchpad (`host.into: scratchpad`)."""

from __future__ import annotations

import numpy as np
import pytest

import sim
from sim.engine import functional, run
from sim.engine.ordering import find_races
from sim.errors import InputError
from sim.graph.builder import GraphBuilder
from sim.graph.evaluate import evaluate, random_values
from sim.graph.graph import Graph
from sim.hw.chip import Chip, chip_from_dict, load_chip
from sim.mapping.mapper import map_graph
from sim.passes import default_passes
from sim.program import Program

HOST = {"bandwidth": "1 GB/s", "latency": "1 us"}


def chip(sram: str, into: str = "scratchpad") -> Chip:
    return load_chip("tiny", {"core.sram.size": sram, "core.accumulator.size": "256 B", "host": {**HOST, "into": into}})


def mlp(layers: int = 3, rows: int = 12, width: int = 16) -> Graph:
    builder = GraphBuilder("mlp", "int8")
    x = builder.input("x", (rows, width))
    for layer in range(layers):
        x = builder.relu(builder.matmul(x, builder.weight((width, width), f"w{layer}")))
    return builder.build([x])


def check(graph: Graph, on: Chip, inputs: int = 1) -> Program:
    """Map and compute tile by tile, compare with NumPy, look for races."""
    program = map_graph(graph, on, functional=True, inputs=inputs)
    values = {**graph.values, **random_values(graph, 1, True)}
    every = evaluate(graph, values)
    for name, found in functional.run(program, run(program), graph, values).items():
        np.testing.assert_array_equal(found, every[name])
    assert find_races(program) == []
    return program


def dram_bytes(graph: Graph, on: Chip, inputs: int = 1) -> tuple[float, float]:
    report = sim.simulate(graph, on, inputs=inputs)
    return float(str(report["dram_read_bytes"])), float(str(report["dram_write_bytes"]))


@pytest.mark.parametrize("inputs", [1, 3])
def test_only_weights_come_from_the_dram(inputs: int) -> None:
    graph, on = mlp(), chip("8 KiB")
    check(graph, on, inputs)
    assert dram_bytes(graph, on, inputs) == (inputs * 3 * 16 * 16, 0)
    # Through the memory: the input is written there and read, the result stored and read by the host.
    through = dram_bytes(graph, chip("8 KiB", "memory"), inputs)
    assert through == (inputs * (3 * 16 * 16 + 12 * 16 + 12 * 16), inputs * 2 * 12 * 16)


def test_the_array_begins_when_the_input_is_there() -> None:
    """Host: 1 us and 192 B at 1 GB/s each way; nothing waits for a store, and no load for the input."""
    graph = mlp(layers=1)
    report = sim.simulate(graph, chip("8 KiB"))
    ops = report.ops.set_index("name")
    assert ops.at["host in: x", "time_s"] == pytest.approx(1.192e-6, rel=1e-4)
    assert ops.at["matmul", "start_s"] < 1e-6  # its weights
    out = report.ops.iloc[-1]
    assert out["time_s"] == pytest.approx(1.192e-6, rel=1e-4)
    between_s = float(str(report["latency_s"])) - 2 * 1.192e-6
    through = sim.simulate(graph, chip("8 KiB", "memory"))
    assert between_s < 0.75 * (float(str(through["latency_s"])) - 2 * 1.192e-6)


def test_the_next_input_comes_and_the_last_result_leaves_beside_the_work() -> None:
    """1,024 B take 2.024 us each way. Where both have places of their own only the work is left between results; where
    buffers take the result's place, the work waits until it has left."""
    graph = mlp(rows=64)
    for sram, low, high in (("8 KiB", 1.0, 1.05), ("4 KiB", 1.35, 1.6)):
        alone_s = float(str(sim.simulate(graph, chip("8 KiB"))["latency_s"]))
        period_s = 1 / float(str(sim.simulate(graph, chip(sram), inputs=6)["throughput_per_s"]))
        assert low < period_s / (alone_s - 2 * 2.024e-6) < high


def test_an_input_that_the_dma_engine_reads_too_comes_into_the_dram() -> None:
    builder = GraphBuilder("looked up", "int8")
    table, rows = builder.input("table", (16, 16)), builder.input("rows", (4,), "int32")
    graph = builder.build([builder.add(builder.gather(table, rows), builder.slice(builder.relu(table), 0, 0, 4))])
    report = sim.simulate(graph, chip("16 KiB"))
    ops = report.ops.set_index("name")
    assert ops.at["host in: table", "dram_write_bytes"] == 16 * 16
    assert ops.at["host in: rows", "dram_write_bytes"] == 4 * 4
    assert report.ops["host_bytes"].sum() == 16 * 16 + 4 * 4 + 4 * 16


def test_what_does_not_fit_goes_through_the_memory() -> None:
    graph, on = mlp(rows=200), chip("4 KiB")
    check(graph, on)
    read, written = dram_bytes(graph, on)
    assert written >= 200 * 16
    assert read >= 200 * 16


def _random(seed: int) -> Graph:
    """Chains and branches with an input that several operators read, a view, and a result that is read again."""
    rng = np.random.default_rng(seed)
    builder = GraphBuilder(f"random{seed}", "int8")
    rows, width = (int(n) for n in rng.integers(3, 20, 2))
    first, second = builder.input("a", (rows, width)), builder.input("b", (rows, width))
    known = [first, second]
    for step in range(int(rng.integers(2, 6))):
        kind, x, y = int(rng.integers(4)), *(known[int(rng.integers(len(known)))] for _ in range(2))
        if kind == 0:
            known.append(builder.matmul(x, builder.weight((width, width), f"w{step}")))
        elif kind == 1:
            known.append(builder.add(x, y))
        elif kind == 2:
            known.append(builder.relu(x))
        else:
            known.append(builder.reshape(builder.relu(builder.reshape(x, (width, rows))), (rows, width)))
    return default_passes(builder.build([known[-1], *known[2:3]] if len(known) > 3 else [known[-1]]))


@pytest.mark.parametrize("first", range(0, 40, 8))
def test_random_graphs_compute_what_they_should(first: int) -> None:
    for seed in range(first, first + 8):
        check(_random(seed), chip(("1 KiB", "2 KiB", "8 KiB")[seed % 3]), inputs=1 + seed % 2 * 2)


def test_a_kernel_has_its_operands_in_the_dram() -> None:
    builder = GraphBuilder("kernel", "int8")
    graph = builder.build([builder.relu(builder.input("x", (8, 8)))], kernel=True)
    assert dram_bytes(graph, chip("8 KiB")) == (64, 64)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lepton_m", "found scratchpad on a chip of 8 cores"),
        ("eyeriss_v1", "found scratchpad on a core with dispatch or row_stationary"),
    ],
)
def test_chips_whose_scratchpads_the_host_cannot_reach(name: str, message: str) -> None:
    data = load_chip(name).expanded()
    with pytest.raises(InputError, match=rf"host\.into: {message}"):
        chip_from_dict({**data, "host": {**HOST, "into": "scratchpad"}})
