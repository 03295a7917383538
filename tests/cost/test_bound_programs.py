"""The bound's bytes, counts and joules against programs lowered with the very tilings that it chose."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from attentions import ATTENTIONS
from operator_graphs import GRAPHS
from random_chips import random_chips

import sim
from sim.cost import kernel
from sim.cost.bound import Bounds, compile_model, evaluate
from sim.cost.designs import designs_of
from sim.cost.nest_tables import signature
from sim.graph.graph import Graph
from sim.graph.nest import Nest
from sim.hw.chip import Chip, load_chip
from sim.hw.technology import load_technology
from sim.mapping import mapper, plan
from sim.mapping.mapper import map_graph
from sim.mapping.partition import mode_splits
from sim.mapping.search import Tiling
from sim.report.bound_table import bound_columns
from sim.report.report import Report, build_report

CHIPS = [load_chip("lepton_s"), *random_chips(3, seed=21)]


def chosen(bounds: Bounds, nest: Nest, chip: Chip) -> Tiling:
    """The bound's choice for a nest as the mapper would have made it."""
    row = [signature(one) for one in bounds.model.nests].index(signature(nest))
    width, dims = bounds.model.tables.extent.shape[1], len(nest.dims)
    kind, vector, order, *rest = bounds.choice[0, row].tolist()
    quanta = np.ones(width, np.int64)
    kernel.set_quanta(bounds.model.tables, row, bounds.hardware[0, kind], vector == 1, quanta)
    array = chip.cores[0].array
    return Tiling(
        splits=tuple(rest[:dims]),
        steps=tuple(rest[width : width + dims]),
        quanta=tuple(quanta[:dims].tolist()),
        order=tuple(bounds.model.tables.order[row, order, :dims][::-1].tolist()),
        unit="vector" if vector else "array",
        dataflow=array.dataflow if array is not None else "",
        latency_s=float(bounds.cost[0, row, kernel.LATENCY_S]),
        dram_bytes=0.0,
        sram_bytes=int(bounds.cost[0, row, kernel.SRAM_NEED]),
        accumulator_bytes=int(bounds.cost[0, row, kernel.ACCUMULATOR_NEED]),
        staying=tuple(bool(rest[2 * width] >> operand & 1) for operand in range(len(nest.operands))),
    )


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> Callable[[Graph, Chip, Bounds], Report]:
    """Maps a graph with the bound's tilings, nothing kept or staying in scratchpads, and reports it in closed form."""

    def run(graph: Graph, chip: Chip, bounds: Bounds) -> Report:
        monkeypatch.setattr(plan, "search", lambda nest, *_: chosen(bounds, nest, chip))
        monkeypatch.setattr(
            plan._Planner, "_candidates", lambda self, index, nest, kind: [None] * len(nest.operands)
        )
        monkeypatch.setattr(plan, "with_staying", lambda chip, fabric, steps, residency: steps)
        monkeypatch.setattr(mapper, "FINALISTS", ())
        program = map_graph(graph, chip)
        technology = load_technology(chip.technology)
        return build_report(graph, chip, technology, program, None, options={}, wall_s=0.0)

    return run


@pytest.mark.parametrize("name", [*GRAPHS, *ATTENTIONS])
def test_a_program_of_the_chosen_tilings_moves_and_costs_what_the_bound_says(name: str, planned: Any) -> None:
    graph = GRAPHS[name]() if name in GRAPHS else ATTENTIONS[name]
    model = compile_model(graph)
    for chip in CHIPS:
        bounds = evaluate(model, designs_of([chip]), partial(mode_splits, "auto"))
        table = bound_columns(bounds, partition="auto", inputs=1)
        report = planned(graph, chip, bounds)
        # An interpolated box has a ragged edge, as groups have that tiles cut: the mean over tiles only comes near.
        near = {"resize": 0.03, "packed_matmul": 0.004}.get(name, 1e-12)
        for level in ("dram_read_bytes", "dram_write_bytes", "sram_read_bytes", "sram_write_bytes"):
            assert table[level][0] == pytest.approx(report[level], rel=near), (level, chip)
        # Ticks and link rates are whole numbers there.
        assert table["latency_s"][0] == pytest.approx(report["latency_s"], rel=1e-5)
        mine, theirs = bounds.energy_j(1, bounds.latency_s), report.energy.set_index("component")["energy_j"]
        for component in ("mac", "registers", "accumulator", "vector", "control", "host"):
            assert mine[component][0] == pytest.approx(theirs[component], rel=1e-9), (component, chip)
        for component in ("sram", "dma", "dram_read", "dram_write", "dram_io"):
            assert mine[component][0] == pytest.approx(theirs[component], rel=max(near, 1e-9)), (
                component,
                chip,
            )
        for component in ("leakage", "clock", "dram_refresh", "dram_standby"):
            assert mine[component][0] == pytest.approx(theirs[component], rel=0.025), (component, chip)
        assert mine["dram_activate"][0] == pytest.approx(theirs["dram_activate"], rel=0.2), chip
        # The network's hops are those of an average core, whichever cores work.
        assert table["energy_j"][0] == pytest.approx(report["energy_j"], rel=0.015), chip


@pytest.mark.parametrize("chip", ["tiny", "gemmini_16", "lepton_s", "lepton_m", "lepton_l"])
@pytest.mark.parametrize(("model", "options"), [("resnet18", {}), ("mobilenet_v2", {}), ("bert_base", {"seq": 64})])
def test_the_closed_form_of_many_designs_and_of_one(model: str, options: dict[str, int], chip: str) -> None:
    """One law, two searches: that of many designs tries finer tiles, and keeps no result in a scratchpad."""
    one = sim.simulate(model, chip, dtype="int8", fidelity="bound", **options)
    many = sim.bound(model, chip, dtype="int8", **options)
    ratio = many["latency_s"][0] / one["latency_s"]
    assert 0.98 < ratio < 1.2
    if ratio > 1.05:
        # What stayed in the scratchpads is stored and loaded again here.
        assert many["dram_write_bytes"][0] > one["dram_write_bytes"]
