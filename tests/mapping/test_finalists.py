"""`--partition auto` is no slower than the best strategy for all operators, in the events, on odd chips too."""

from __future__ import annotations

import random
from typing import Any

import pytest

from sim.engine import run
from sim.errors import DoesNotFit
from sim.graph.load import load_model
from sim.hw.chip import Chip, load_chip
from sim.mapping.mapper import SearchMemo, map_graph
from sim.passes import default_passes

PRESETS = ("lepton_s", "lepton_m", "lepton_l", "tpu_v4")
MODELS = ("bert_base", "transformer_mt", "mobilenet_v2")


def odd_chip(seed: int) -> Chip:
    """2 to 16 cores, numbers that divide nothing among them, with little or much of everything."""
    of = random.Random(seed)
    cores = of.choice([2, 3, 4, 5, 6, 7, 9, 10, 12, 14, 16])
    changes: dict[str, Any] = {
        "clock": "1.2 GHz",
        "core.count": cores,
        "core.array.rows": of.choice([16, 32, 64, 128]),
        "core.array.cols": of.choice([16, 32, 64, 128]),
        "core.array.dataflow": of.choice(["weight_stationary", "output_stationary"]),
        "core.sram.size": of.choice(["256 KiB", "512 KiB", "1 MiB", "2 MiB", "4 MiB"]),
        "core.accumulator.size": of.choice(["64 KiB", "256 KiB", "1 MiB"]),
        "core.vector.lanes": of.choice([64, 128, 256]),
        "core.dma.channels": of.choice([1, 2, 4]),
        "core.dma.bandwidth": of.choice(["32 GB/s", "64 GB/s", "128 GB/s"]),
        "interconnect.topology": of.choice(["crossbar", "ring"]),
        "interconnect.shape": [cores],
        "interconnect.link_bandwidth": of.choice(["64 GB/s", "256 GB/s", "512 GB/s"]),
        "interconnect.memory_ports": [[node] for node in range(0, cores, of.choice([1, 2, cores]))],
        "dram.device": of.choice(["lpddr5_6400", "ddr4_3200", "ddr5_4800", "gddr6"]),
        "dram.channels": of.choice([2, 4, 8, 16]),
        "dram.capacity": "24 GiB",
    }
    return load_chip("lepton_s", changes)


def times_s(model: str, chip: Chip) -> dict[str, float]:
    """Simulated latency by mode."""
    graph = default_passes(load_model(model, dtype="int8"))
    memo: SearchMemo = {}
    found = {}
    for mode in ("auto", "data", "channel", "reduction"):
        try:
            program = map_graph(graph, chip, partition=mode, memo=memo)
        except DoesNotFit:
            continue
        found[mode] = run(program, "compiled").latency_ps * 1e-12
    return found


def against_best(model: str, chip: Chip) -> float:
    found = times_s(model, chip)
    return found["auto"] / min(found.values())


@pytest.mark.parametrize(("model", "seed"), [("bert_base", 9), ("bert_base", 12)])
def test_auto_is_no_slower_on_an_odd_chip(model: str, seed: int) -> None:
    """Chosen operator by operator, these come out 27 and 16 % slower than the best strategy."""
    assert against_best(model, odd_chip(seed)) <= 1.01


@pytest.mark.nightly
@pytest.mark.parametrize("model", MODELS)
def test_auto_is_no_slower_on_presets_and_twenty_odd_chips(model: str) -> None:
    chips = [*map(load_chip, PRESETS), *map(odd_chip, range(20))]
    ratios = [against_best(model, chip) for chip in chips]
    assert max(ratios) <= 1.04
    assert sum(ratios) / len(ratios) <= 1.002
