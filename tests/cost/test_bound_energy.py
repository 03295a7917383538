"""The power of a model's course by the bound of many designs."""

from __future__ import annotations

import numpy as np
import pytest
from random_chips import base_chip
from test_tile_search import AUTO

import sim
from sim.cost import kernel
from sim.cost.bound import Bounds, compile_model, evaluate
from sim.cost.bound_energy import peak_power_w
from sim.cost.designs import designs_from
from sim.explore.sweep import sweep
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph, Passes


def stack(width: int) -> Graph:
    """Operators of different power: one that moves, one that multiplies, one for the lanes."""
    b = GraphBuilder("stack", "int8")
    x = b.linear(b.linear(b.input("x", (256, width)), 512), width)
    return b.build([b.softmax(b.add(x, x))])


def bounds_of(graph: Graph | Passes) -> Bounds:
    columns = {
        "clock": ["1 GHz", "500 MHz", "1 GHz"],
        "calibration.launch_overhead": ["0 us", "0 us", "3 us"],
        "core.sram.size": ["1 MiB", "1 MiB", "256 KiB"],
    }
    return evaluate(compile_model(graph), designs_from(base_chip(), columns), AUTO)


def expected(bounds: Bounds, course: list[int], slices: int, design: int) -> float:
    """From energy spent by the end of every step, read off at the edges of the slices."""
    model = bounds.model
    launch_s = bounds.designs.column("calibration", "launch_overhead_ps")[design] * 1e-12
    seconds = (bounds.cost[design, :, kernel.LATENCY_S] + launch_s)[course]
    joules = sum(values[design] for values in bounds.nest_j.values())[course]
    host_in = model.host_in_bytes / (model.host_in_bytes + model.host_out_bytes)
    host_s, host_j = bounds.host_s[design], sum(values[design] for values in bounds.host_j.values())
    ends = np.cumsum([0, host_s * host_in, *seconds, host_s * (1 - host_in)])
    spent = np.cumsum([0, host_j * host_in, *joules, host_j * (1 - host_in)])
    edges = np.linspace(0, ends[-1], slices + 1)
    watts = np.diff(np.interp(edges, ends, spent)) / np.diff(edges)
    return float(watts.max() + sum(values[design] for values in bounds.costs.idle_w.values()))


@pytest.mark.parametrize("slices", [1, 4, 256])
def test_the_peak_is_that_of_the_highest_slice(slices: int) -> None:
    bounds = bounds_of(stack(64))
    assert bounds.host_s[0] > 0
    found = peak_power_w(bounds, 1, slices)
    course = list(range(len(bounds.model.nests)))
    assert found == pytest.approx([expected(bounds, course, slices, design) for design in range(3)], rel=1e-9)
    average = sum(bounds.energy_j(1, bounds.latency_s).values()) / bounds.latency_s
    assert found == pytest.approx(average, rel=1e-9) if slices == 1 else (found > average * 1.02).all()


def test_passes_come_in_their_order_as_often_as_they_do() -> None:
    first, second = stack(64), stack(320)
    bounds = bounds_of(Passes("two", ((first, 3), (second, 2)), "inferences", 5))
    one, count = len(compile_model(first).nests), len(bounds.model.nests)
    course = list(range(one)) * 3 + list(range(one, count)) * 2
    found = peak_power_w(bounds, 1, 64)
    assert found == pytest.approx([expected(bounds, course, 64, design) for design in range(3)], rel=1e-9)


def test_further_inputs_spend_what_their_transfers_take() -> None:
    bounds = bounds_of(stack(64))
    elapsed_s = bounds.latency_s + 6 * (bounds.latency_s - bounds.host_s)
    average = sum(bounds.energy_j(7, elapsed_s).values()) / elapsed_s
    assert peak_power_w(bounds, 7, 1) == pytest.approx(average, rel=1e-9)


def test_of_a_design_that_does_not_hold_the_model_there_is_none() -> None:
    table = sim.bound("gemm:64x64x64", base_chip(), {"core.sram.size": ["1 MiB", "64 B"]}, dtype="int8")
    assert table["peak_power_w"].notna().tolist() == [True, False]
    assert table["peak_power_w"][0] >= table["power_w"][0]


def test_a_screening_under_a_limit_of_power() -> None:
    data = {
        "name": "limited",
        "chip": "tiny",
        "workloads": [{"model": "gemm:48x40x32", "dtype": "int8"}],
        "parameters": {"core.array.rows": [4, 8, 16], "clock": ["250 MHz", "500 MHz", "1 GHz"]},
    }
    free = sweep(data, fidelity="bound", workers=1).table["peak_power_w"]
    limit = float(free.median())
    found = sweep(data | {"constraints": [f"peak_power_w <= {limit} W"]}, fidelity="screen", workers=1)
    bound = found.table[found.table["fidelity"] == "bound"]
    assert bound["feasible"].tolist() == (free <= limit).tolist()
    assert 0 < (found.table["fidelity"] == "event").sum() < len(free)
    assert (found.front["peak_power_w"] <= limit).all()
