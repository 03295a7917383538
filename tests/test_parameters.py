"""No parameter of a chip file is ignored: each, changed alone, moves the number of a report that it is there for."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from sim.errors import InputError
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.graph.packing import pack_weights, parse_packing
from sim.hw.chip import load_chip, parameter_table
from sim.hw.dram_patterns import Pattern, Result
from sim.hw.dram_patterns import simulate as run_pattern
from sim.pipeline import simulate
from sim.report.report import Report

Values = Mapping[str, object]


def mixed(dtype: str) -> Graph:
    b = GraphBuilder("mixed", dtype)
    x = b.pool(b.conv(b.input("x", (2, 24, 20, 20)), 200, 3, padding=1), "max", 2)
    x = b.linear(b.reshape(x, (200, 200)), 384)
    return b.build([b.softmax(b.add(b.linear(x, 384), x))])


def gemm(dtype: str) -> Graph:
    b = GraphBuilder("gemm", dtype)
    return b.build([b.linear(b.input("x", (512, 512)), 512)])


def deep(dtype: str) -> Graph:
    b = GraphBuilder("deep", dtype)
    return b.build([b.linear(b.input("x", (256, 8192)), 512)])


def packed(dtype: str) -> Graph:
    b = GraphBuilder("packed", dtype)
    plain = b.build([b.linear(b.input("x", (1, 4096)), 4096, bias=False)], kernel=True)
    return pack_weights(plain, parse_packing("int4"))


def tall(dtype: str) -> Graph:
    """Of 192 rows: three tiles of 64 or two of 128."""
    b = GraphBuilder("tall", dtype)
    return b.build([b.linear(b.input("x", (192, 4096)), 8192, bias=False)])


def normed(dtype: str) -> Graph:
    b = GraphBuilder("normed", dtype)
    return b.build([b.rms_norm(b.input("x", (1024, 2048)))])


def conv(dtype: str) -> Graph:
    b = GraphBuilder("conv", dtype)
    return b.build([b.relu(b.conv(b.input("x", (1, 16, 28, 28)), 48, 3, padding=1))])


def summed(dtype: str) -> Graph:
    b = GraphBuilder("summed", dtype)
    return b.build([b.all_reduce(b.input("x", (512, 512)), 4)])


def cached(dtype: str) -> Graph:
    """Queries over keys that are kept between runs, read twice."""
    b = GraphBuilder("cached", dtype)
    keys = b.state("keys", (512, 512))
    x = b.matmul(b.input("x", (64, 512)), keys)
    return b.build([b.matmul(x, keys)])


@dataclass(frozen=True)
class Case:
    """How a parameter is seen to act: its new value (None: twice what it was), on a chip with changes, running a
    graph; and the number of the summary that moves ("*": none there, but some in the tables)."""

    value: object = None
    moves: str = "latency_s"
    chip: str = "lepton_m"
    graph: Callable[[str], Graph] = mixed
    dtype: str = "int8"
    before: Values = field(default_factory=dict)
    density: float | None = None


def _eyeriss(value: object, moves: str = "latency_s") -> Case:
    return Case(value, moves, "eyeriss_v1", conv, "int16", density=0.4)


def _dealt(value: object, graph: Callable[[str], Graph] = gemm) -> Case:
    return Case(value, "latency_s", "a100", graph, "fp16")


UNPADDED = {"core.sram.padded_rows": False, "core.array.dataflow": "output_stationary"}
LINKS = {"links.count": 2, "links.bandwidth": "10 GB/s"}
RING = {"interconnect.topology": "ring", "interconnect.shape": [8], "interconnect.memory_ports": [[0]]}
TWO_WAYS = {"cache.size": "128 KiB", "cache.ways": 2, "cache.policy.weights": "cache"}
SMALL_CACHE = {"cache.size": "64 KiB"}
SPECIAL = {"core.vector.special": {"lanes": 16, "results": {"exp": 2}}}
CONVERSIONS = {"int8": {"unpack": 3, "pack": 5}}

CASES: Mapping[str, Case] = {
    "technology": Case("n16", "energy_j"),
    "clock": Case("1 GHz"),
    "core.count": Case(4),
    "core.spare": Case(1, "area_mm2"),
    "core.clock": Case("1 GHz"),
    "core.array.rows": Case(),
    "core.array.cols": Case(),
    "core.array.rates": Case({"int8": 0.5}),
    "core.array.count": Case(),
    "core.array.dataflow": Case("output_stationary"),
    "core.array.double_buffered_weights": Case(False),
    "core.array.row_stationary.input_words": _eyeriss(24),
    "core.array.row_stationary.filter_words": _eyeriss(48),
    "core.array.row_stationary.sum_words": _eyeriss(8),
    "core.array.row_stationary.bank": _eyeriss("1 KiB"),
    "core.array.row_stationary.banks": _eyeriss(4),
    "core.array.row_stationary.longest_row": _eyeriss(14),
    "core.array.row_stationary.zero_gating": _eyeriss(False, "energy_j"),
    "core.array.rows_per_adder": Case(4),
    "core.array.latency": _dealt(400),
    "core.array.converted": Case(["int8"], before={"core.vector.conversions": CONVERSIONS}),
    "core.array.unpacks": Case(
        ["int4"], chip="lepton_s", graph=packed, dtype="bf16", before={"core.array.rates": {"bf16": 8}}
    ),
    "core.accumulator.size": Case("32 KiB"),
    "core.accumulator.bandwidth": Case("100 GB/s"),
    "core.vector.lanes": Case(),
    "core.vector.functions": Case({"exp": 9}),
    "core.vector.special.lanes": Case(8, before=SPECIAL),
    "core.vector.special.results": Case({"exp": 4}, before=SPECIAL),
    "core.vector.conversions": Case(CONVERSIONS),
    "core.vector.register": Case([8, 32]),
    "core.sram.size": Case("128 KiB"),
    "core.sram.bandwidth": Case("200 GB/s"),
    "core.sram.banks": Case(8, graph=gemm, before=UNPADDED),
    "core.sram.padded_rows": Case(True, graph=gemm, before=UNPADDED),
    "core.sram.tile_slots": Case(1),
    "core.sram.keeps_results": Case(False),
    "core.sram.rings": Case(False, chip="gemmini_16", graph=gemm),
    "core.sram.tiles": Case("64 KiB", chip="tpu_v4", graph=deep, dtype="bf16"),
    "core.dma.channels": Case(1),
    "core.dma.bandwidth": Case(),
    "core.dma.setup_latency": Case(),
    "core.dma.outstanding": Case(1),
    "core.dma.run_length_coding": _eyeriss(False),
    "core.dispatch.tiles": _dealt([[32, 32]]),
    "core.dispatch.depth": _dealt(32, deep),
    "core.dispatch.stages": _dealt(1),
    "core.dispatch.lone_stages": _dealt(1),
    "core.dispatch.choice": Case(
        "largest", chip="a100", graph=gemm, dtype="fp16", before={"core.dispatch.tiles": [[128, 128], [128, 64]]}
    ),
    "core.dispatch.least_rows": _dealt(1, tall),
    "core.dispatch.split_sums": _dealt(False, deep),
    "core.dispatch.threads": _dealt(1024, normed),
    "core.dispatch.issue": _dealt(32, normed),
    "core.dispatch.access_instructions": _dealt(40),
    "core.dispatch.l1": _dealt("1 KiB", normed),
    "core.dispatch.block_start": _dealt("1 us", normed),
    "core.dispatch.instruction": Case([16, 8, 64], "energy_j", chip="a100", graph=gemm, dtype="fp16"),
    "core.dispatch.operands": Case("scratchpad", "energy_j", chip="a100", graph=gemm, dtype="fp16"),
    "core.divide": Case("to_fit"),
    "interconnect.topology": Case("crossbar", before=RING),
    "interconnect.shape": Case([4, 2], before={"interconnect.memory_ports": [[0, 0]]}),
    "interconnect.link_bandwidth": Case("40 GB/s"),
    "interconnect.hop_latency": Case(),
    "interconnect.memory_ports": Case([[0, 0]]),
    "interconnect.memory_port_bandwidth": Case("50 GB/s"),
    "interconnect.host_port": Case([1, 3]),
    "cache.size": Case("64 KiB"),
    "cache.ways": Case(1, before={"cache.size": "128 KiB"}),
    "cache.line": Case("512 B", "cache_hit_rate", before=SMALL_CACHE),
    "cache.bandwidth": Case("100 GB/s"),
    "cache.latency": Case(graph=cached),
    "cache.hashed": Case(True, "cache_hit_rate", before=TWO_WAYS),
    "cache.policy.weights": Case("cache", "cache_hit_rate"),
    "cache.policy.inputs": Case("cache", "cache_hit_rate", graph=gemm),
    "cache.policy.states": Case("bypass", "dram_read_bytes", graph=cached),
    "cache.policy.activations": Case("bypass", "cache_hit_rate"),
    "cache.policy.tensors": Case({"linear.weight": "cache"}, "cache_hit_rate", graph=gemm),
    "dram.device": Case("hbm2e"),
    "dram.channels": Case(1, chip="lepton_s"),
    "dram.channel_bandwidth": Case("2 GB/s", chip="lepton_s"),
    "dram.capacity": Case(None, "cost_usd"),
    "dram.controller_latency": Case(),
    "dram.row": Case(None, "energy_j"),
    "dram.burst": Case(None, "energy_j"),
    "dram.activation_energy": Case(None, "energy_j"),
    "dram.read_energy": Case(None, "energy_j"),
    "dram.write_energy": Case(None, "energy_j"),
    "dram.io_energy": Case(None, "energy_j"),
    "dram.receiver_share": Case(0.8, "chip_power_w"),
    "dram.refresh_period": Case(None, "energy_j"),
    "dram.standby_power": Case(None, "energy_j"),
    "dram.phy_area": Case(None, "area_mm2"),
    "dram.controller_transistors": Case(None, "area_mm2"),
    "dram.price": Case(None, "cost_usd"),
    "dram.channels_per_stack": Case(4, "cost_usd"),
    "dram.mapper": Case("bank_row_column"),
    "dram.scheduler": Case("first_ready"),
    "dram.interleave": Case("1 KiB", graph=deep),
    "dram.gathers": Case(True),
    "dram.streams": Case(),
    "dram.latency": Case("300 ns"),
    "dram.bandwidth": Case("300 GB/s"),
    "dram.bandwidth_error": Case([-0.5, 0.5], "dram_error_high"),
    "host.bandwidth": Case(),
    "host.latency": Case(),
    "host.energy": Case(None, "energy_j"),
    "host.into": Case("scratchpad", chip="tpu_v1"),
    "links.count": Case(4, "area_mm2", before=LINKS),
    "links.bandwidth": Case("5 GB/s", graph=summed, before=LINKS),
    "links.latency": Case("5 us", graph=summed, before=LINKS),
    "links.efficiency": Case(0.5, graph=summed, before=LINKS),
    "links.energy": Case("1 pJ/bit", "energy_j", graph=summed, before=LINKS),
    "clock_gating": Case(0.5, "energy_j"),
    "power_limit": Case("1 W", "power_limit_w"),
    "calibration.launch_overhead": Case("1 us"),
    "calibration.operand_overhead": Case("1 us"),
    "calibration.contraction_overhead": Case("1 us"),
    "calibration.tile_overhead": Case("1 us"),
    "calibration.array_efficiency": Case(0.5),
    "calibration.sustained_efficiency": _dealt(0.1),
    "calibration.vector_efficiency": Case(0.5),
    "calibration.dram_efficiency": Case(0.5),
    "calibration.cache_efficiency": Case(0.5),
}
TIMING = {row["path"] for row in parameter_table() if row["path"].startswith("dram.timing.")}
TEXTS = {"name", "core.name", "dram.status", "dram.accuracy", "prices"}  # shown, or the name of a file of numbers
SIMULATED = {"dram.row", "dram.burst", "dram.mapper", "dram.scheduler", "dram.streams"}  # tables made anew: 15 CPU s


def test_every_parameter_has_its_case() -> None:
    assert {row["path"] for row in parameter_table()} == {*CASES, *TIMING, *TEXTS}


@functools.cache
def _report(graph: Callable[[str], Graph], chip: str, dtype: str, density: float | None, changes: str) -> Report:
    more: dict[str, Any] = {} if density is None else {"density": {"": density}}
    return simulate(graph(dtype), chip, partition="data", overrides=json.loads(changes), **more)


def _doubled(path: str, chip: str) -> object:
    data: Any = load_chip(chip).expanded()
    for word in path.split("."):
        data = data["cores"][0] if word == "core" else data[word]
    if not isinstance(data, str):
        return 2 * data
    number, _, unit = data.partition(" ")
    return f"{2 * float(number):g} {unit}"


@pytest.mark.parametrize(
    "path", [pytest.param(path, marks=pytest.mark.nightly if path in SIMULATED else ()) for path in CASES]
)
def test_the_parameter_acts(path: str) -> None:
    case = CASES[path]
    value = _doubled(path, case.chip) if case.value is None else case.value
    reports = [
        _report(case.graph, case.chip, case.dtype, case.density, json.dumps({**case.before, **change}))
        for change in ({}, {path: value})
    ]
    before, after = (report[case.moves] for report in reports)
    assert before != after


PATTERNS = (
    Pattern(streams=4, writing=2, chunk_bytes=4096),
    Pattern(scattered=True, run_bytes=64, write_share=0.4),
    Pattern(run_bytes=64, pitch_bytes=1 << 13),
    Pattern(run_bytes=64, pitch_bytes=1 << 18, writing=1),
)
OWNER = {"CCD_R": "hbm3", "stacked": "hbm3", "WCKPST": "lpddr5_6400", "AAD": "lpddr5_6400", "PPD": "lpddr5_6400"}
DEVICES = ("ddr4_2400", "hbm3", "lpddr5_6400", "ddr5_4800", "gddr6", "hbm2")


@functools.cache
def _results(device: str, changes: str) -> list[Result]:
    """What the patterns take: many in flight, one in flight, and with bank bits above those of the row."""
    d = load_chip("tiny", {"dram.device": device, "dram.channels": 1, **json.loads(changes)}).dram
    how: Any = {"burst_bytes": d.burst_bytes, "row_bytes": d.row_bytes, "scheduler": d.scheduler, "count": 1000}
    ways: list[Any] = [{"mapper": d.mapper}, {"mapper": d.mapper, "outstanding": 1}, {"mapper": "bank_row_column"}]
    return [run_pattern(d.timing, pattern, **how, **way) for way in ways for pattern in PATTERNS]


@pytest.mark.parametrize("path", sorted(TIMING))
def test_the_timing_parameter_acts(path: str) -> None:
    """On one of the devices, alone in a chip file: most standards have symbols that do not bind, or that are theirs
    only."""
    symbol = path.rsplit(".", 1)[-1]
    acts = []
    for device in sorted(DEVICES, key=lambda device: device != OWNER.get(symbol)):
        timing: Any = load_chip("tiny", {"dram.device": device, "dram.channels": 1}).expanded()["dram"]["timing"]
        old = timing[symbol]
        if isinstance(old, str):
            new: object = f"{1.5 * float(old.split()[0]):g} {old.split()[1]}"
        else:
            new = not old if isinstance(old, bool) else 2 * old or 1
        try:
            after = _results(device, json.dumps({path: new}))
        except InputError:  # contradicts another symbol of this device
            continue
        acts.append(after != _results(device, "{}"))
        if acts[-1]:
            break
    assert any(acts)
