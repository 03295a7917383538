"""A chip that keeps a network in its SRAM: the weights of a pinned cache come from the DRAM once, for all inputs."""

from __future__ import annotations

import pytest

import sim
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.hw.chip import Chip, load_chip

LAYERS, WIDTH, ROWS = 4, 512, 16
WEIGHTS = LAYERS * WIDTH * WIDTH


def network() -> Graph:
    """Four products of 16 x 512 by 512 x 512, 1 MiB of weights at one byte each."""
    builder = GraphBuilder("network", "int8")
    x = builder.input("x", (ROWS, WIDTH))
    for _ in range(LAYERS):
        x = builder.linear(x, WIDTH, bias=False)
    return builder.build([x])


def chip(weights: str) -> Chip:
    """An edge NPU with 2 MiB for weights, as wide as its scratchpad takes them, before a slow DRAM."""
    policy = {"inputs": "bypass", "activations": "bypass", "states": "bypass", "weights": weights}
    cache = {"size": "2 MiB", "ways": 16, "line": "64 B", "bandwidth": "64 GB/s", "latency": "20 ns", "policy": policy}
    dram = {"device": "lpddr5_6400", "channels": 1, "capacity": "1 GiB", "bandwidth": "4 GB/s"}
    return load_chip("gemmini_16", {"cache": cache, "core.dma.bandwidth": "32 GB/s", "dram": dram})


def run(weights: str, inputs: int, **options: str) -> sim.Report:
    return sim.simulate(network(), chip(weights), inputs=inputs, **options)


def value(report: sim.Report, name: str) -> float:
    return float(str(report[name]))


def test_weights_are_read_once_for_all_inputs() -> None:
    one, four = (value(run("pin", inputs), "dram_read_bytes") for inputs in (1, 4))
    rest = (four - one) / 3
    assert one - rest == WEIGHTS
    assert rest < 0.2 * WEIGHTS
    # Streamed, every input reads them again.
    assert value(run("bypass", 4), "dram_read_bytes") == 4 * one


def test_a_warm_chip_is_faster_and_takes_less_energy_but_its_first_input_is_cold() -> None:
    pinned, streamed = run("pin", 4), run("bypass", 4)
    assert value(pinned, "latency_s") == pytest.approx(value(streamed, "latency_s"), rel=0.02)
    # Weights at 4 GB/s, when they stream; then 32 x 32 folds a layer of 16 cycles to shift the next weights in.
    streamed_s, pinned_s = (1 / value(report, "throughput_per_s") for report in (streamed, pinned))
    assert streamed_s > WEIGHTS / 4e9
    assert LAYERS * 32 * 32 * 16e-9 < pinned_s < 0.5 * streamed_s
    assert value(pinned, "energy_per_input_j") < 0.8 * value(streamed, "energy_per_input_j")


def test_both_engines_agree_and_the_numbers_are_right() -> None:
    compiled, reference = (run("pin", 3, engine=engine) for engine in ("compiled", "reference"))
    assert compiled["latency_s"] == reference["latency_s"]
    assert compiled["throughput_per_s"] == reference["throughput_per_s"]
    assert compiled["dram_read_bytes"] == reference["dram_read_bytes"]
    assert sim.verify_values(network(), chip("pin"), inputs=2).passed
