"""Small graphs on small chips: programs with many tiles, kept results and reused slots; the check of their numbers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.engine import functional, run
from sim.engine.ordering import find_races
from sim.graph.evaluate import evaluate, random_values
from sim.graph.graph import Graph
from sim.hw.chip import Chip, load_chip
from sim.mapping.mapper import map_graph
from sim.program import Program

Array = npt.NDArray[Any]

PARTITIONS = ("auto", "data", "channel", "reduction", "pipeline")
DATAFLOWS = ("weight_stationary", "output_stationary", "input_stationary")

# Slow enough at arithmetic that work goes to the arrays and to all cores, and with little room.
_CORE: Mapping[str, Any] = {
    "clock": "100 MHz",
    "core.array.rows": 4,
    "core.array.cols": 4,
    "core.vector.lanes": 1,
    "core.dma.setup_latency": "1 ns",
    "core.accumulator.size": "512 B",
    "core.sram.size": "4 KiB",
    "dram.capacity": "1 GiB",
}
_LINKS: Mapping[str, Any] = {"links.count": 2, "links.bandwidth": "100 MB/s"}
_CHIPS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "one core": ("tiny", {"core.sram.size": "4 KiB", "core.accumulator.size": "256 B"}),
    "ring of 2, ganged arrays": (
        "lepton_m",
        {
            **_CORE,
            "core.count": 2,
            "core.array.count": 3,
            "interconnect.topology": "ring",
            "interconnect.shape": [2],
            "interconnect.memory_ports": [[0]],
        },
    ),
    "crossbar of 4": (
        "lepton_m",
        {
            **_CORE,
            "core.count": 4,
            "core.array.double_buffered_weights": False,
            "core.dma.channels": 1,
            "interconnect.topology": "crossbar",
            "interconnect.shape": [4],
            "interconnect.memory_ports": [[1]],
        },
    ),
    "mesh of 8": ("lepton_m", {**_CORE, "core.array.rows": 8, "core.dma.outstanding": 1}),
    "dealt to 6": (
        "lepton_m",
        {
            **_CORE,
            "core.count": 6,
            "core.accumulator.size": "1 KiB",
            "core.dispatch.tiles": [[16, 8], [8, 8], [4, 4]],
            "core.sram.size": "6 KiB",
            "interconnect.topology": "crossbar",
            "interconnect.shape": [6],
            "interconnect.memory_ports": [[0]],
        },
    ),
}
CHIPS = tuple(_CHIPS)


@cache
def small_chip(name: str) -> Chip:
    """One of CHIPS."""
    base, changes = _CHIPS[name]
    return load_chip(base, {**changes, **_LINKS})


def mapped(graph: Graph, chip: str, **options: Any) -> Program:
    """The program of a graph on one of CHIPS, with its functional columns."""
    return map_graph(graph, small_chip(chip), functional=True, **options)


def given_values(graph: Graph, seed: int = 0) -> dict[str, Array]:
    """Inputs, weights and states: whole numbers where the graph computes in an integer format."""
    integers = graph.tensors[graph.outputs[0]].dtype.startswith("int")
    return {**graph.values, **random_values(graph, seed, integers)}


def computed(graph: Graph, program: Program, values: Mapping[str, Array]) -> dict[str, Array]:
    """What the program computes under the timing of the engine."""
    return functional.run(program, run(program), graph, values)


def expected(graph: Graph, values: Mapping[str, Array]) -> dict[str, Array]:
    """What NumPy computes: the outputs and the states at the end."""
    every = evaluate(graph, values)
    states = {op.output for op in graph.ops if op.kind == "cache_update"}
    return {name: every[name] for name in {*graph.outputs, *states}}


def assert_equal(found: Mapping[str, Array], wanted: Mapping[str, Array]) -> None:
    """Integers exactly, floats to 1e-9 of the largest magnitude."""
    assert set(found) == set(wanted)
    for name, want in wanted.items():
        assert found[name].shape == want.shape
        if np.issubdtype(want.dtype, np.floating):
            scale = float(np.abs(want[np.isfinite(want)]).max(initial=0.0)) or 1.0
            np.testing.assert_allclose(found[name], want, rtol=1e-9, atol=1e-9 * scale, err_msg=name)
        else:
            np.testing.assert_array_equal(found[name], want, err_msg=name)


def check(graph: Graph, chip: str, seed: int, **options: Any) -> Program:
    """Map, run, compare with NumPy, look for races; the program."""
    program = mapped(graph, chip, **options)
    values = given_values(graph, seed)
    assert_equal(computed(graph, program, values), expected(graph, values))
    assert find_races(program) == []
    return program
