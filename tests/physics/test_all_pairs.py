"""Every workload on every preset chip that it fits: laws hold, nothing beats the hardware, runs repeat exactly.

The laws of sim/report/invariants.py are checked inside every run. The full product is nightly.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from sim.errors import DoesNotFit
from sim.graph.load import load_plan
from sim.hw.chip import load_chip
from sim.passes import default_passes
from sim.pipeline import plan, simulate
from sim.report.report import Report

ROOT = Path(__file__).parents[2]
CHIPS = sorted(path.stem for path in (ROOT / "hw_configs").glob("*.yaml"))
WORKLOADS = sorted(path.stem for path in (ROOT / "workloads").rglob("*.yaml"))
LENGTHS: dict[str, dict[str, Any]] = {
    "llama2_7b": {"phase": "decode", "kv": 128},
    "gpt2": {"phase": "prefill", "seq": 64},
}
CI_WORKLOADS = (
    "mnist_mlp",
    "lenet5",
    "alexnet",
    "resnet18",
    "mobilenet_v2",
    "bert_base",
    "transformer_mt",
    "gpt2",
    "dlrm",
    "gemm_1024",
    "gemv_4096",
    "conv3x3",
    "depthwise3x3",
    "softmax_4096",
    "layer_norm_4096",
)
FORMATS = {"eyeriss_v1": "int16"}
"""What the arrays of a chip compute that do not compute int8."""

# One chip that deals tiles stands for the others, but for kernels; and the convolutions for a chip built for them.
NIGHTLY_CHIPS = {"h100", "a40", "mi210"}
KERNELS = {*CI_WORKLOADS[-6:], "mnist_mlp", "lenet5"}
ROW_STATIONARY = {("eyeriss_v1", w) for w in ("lenet5", "alexnet", "conv3x3", "depthwise3x3", "gemv_4096")}
CI = {
    (w, c)
    for w, c in itertools.product(CI_WORKLOADS, CHIPS)
    if (c not in NIGHTLY_CHIPS or w in KERNELS) and (c != "eyeriss_v1" or (c, w) in ROW_STATIONARY)
} - {
    ("gpt2", "tiny"),
    ("bert_base", "tiny"),
    ("gpt2", "gemmini_16"),
}
CI_PHASES = {"a100": {"llama2_7b", "gpt2", "mobilenet_v2"}, "mi210": {"llama2_7b"}, "tpu_v4": {"llama2_7b"}}
SMALL_MEMORIES = ("gemmini_16", "nvdla_large", "tiny", "eyeriss_v1")
TOO_LARGE = {("llama2_7b", chip) for chip in SMALL_MEMORIES} | {("dlrm", "eyeriss_v1")}
PAIRS = [
    pytest.param(workload, chip, marks=() if (workload, chip) in CI else pytest.mark.nightly)
    for workload, chip in itertools.product(WORKLOADS, CHIPS)
    if (workload, chip) not in TOO_LARGE
]


def run(workload: str, chip: str) -> Report:
    """In int8, which almost every array computes."""
    return simulate(workload, chip, dtype=FORMATS.get(chip, "int8"), **LENGTHS.get(workload, {}))


def repeatable(report: Report) -> dict[str, Any]:
    return {key: value for key, value in report.values.items() if key != "wall_s"}


def test_the_presets_are_all_here() -> None:
    assert {"tiny", "lepton_s", "lepton_m", "lepton_l", "tpu_v1", "tpu_v4", "gemmini_16"} <= set(CHIPS)
    assert set(CI_WORKLOADS) | {"llama2_7b", "resnet50", "unet", "lstm"} <= set(WORKLOADS)


@pytest.mark.parametrize(("workload", "chip"), sorted(TOO_LARGE))
def test_what_does_not_fit_into_the_dram_is_refused(workload: str, chip: str) -> None:
    with pytest.raises(DoesNotFit, match="GiB weights") as caught:
        run(workload, chip)
    assert caught.value.needed > caught.value.available == load_chip(chip).dram.capacity_bytes


@pytest.mark.parametrize(("workload", "chip"), PAIRS)
def test_simulates_within_the_limits_of_the_hardware(workload: str, chip: str) -> None:
    target = load_chip(chip)
    report = run(workload, chip)
    v: dict[str, Any] = dict(report.values)
    dtype = FORMATS.get(chip, "int8")
    ((graph, _),) = load_plan(workload, dtype=dtype, **LENGTHS.get(workload, {}))
    assert v["macs"] == graph.macs
    rates = [(core.count, core.array, core.clock_hz) for core in target.cores if core.array is not None]
    peak = sum(count * a.count * a.rows * a.cols * float(a.rates[dtype]) * clock for count, a, clock in rates)
    vector = sum(core.count * core.vector.lanes * core.clock_hz for core in target.cores)
    assert v["latency_s"] >= v["macs"] / (peak + vector)
    traffic = v["dram_read_bytes"] + v["dram_write_bytes"]
    assert v["latency_s"] >= traffic / target.dram.bandwidth_bytes_per_s
    # Every weight is read at least once, except the rows of tables that nobody looks up or that are cut off; those of
    # batch norms have become part of the convolutions'.
    ready = default_passes(graph)
    looked_up = {op.inputs[0] for op in ready.ops if op.kind in ("gather", "slice")}
    read = {name for op in ready.ops for name in op.operands} - looked_up
    weights = sum(t.size_bytes for t in ready.tensors.values() if t.role == "weight" and t.name in read)
    assert v["dram_read_bytes"] >= weights
    # Results may stay in a cache.
    written = v["dram_write_bytes"] + v["cache_write_bytes"]
    assert written >= sum(graph.tensors[name].size_bytes for name in graph.outputs)
    assert 0 <= v["array_utilization"] <= 1
    assert v["bound_latency_s"] <= v["latency_s"]
    assert v["throughput_per_s"] == pytest.approx(graph.items / v["latency_s"])
    assert v["energy_j"] > 0
    assert repeatable(run(workload, chip)) == repeatable(report)


OTHER_RUNS: list[tuple[str, dict[str, Any]]] = [
    ("llama2_7b", {"phase": "prefill", "seq": 128}),
    ("llama2_7b", {"phase": "decode", "kv": 512, "batch": 4}),
    ("gpt2", {"phase": "prefill", "seq": 128}),
    ("gpt2", {"phase": "decode", "kv": 100, "batch": 8}),
    ("bert_base", {"batch": 4}),
    ("unet", {"batch": 2}),
    ("mobilenet_v2", {"batch": 8}),
    ("dlrm", {"batch": 64}),
]
"""What people ask of a workload beside its usual size."""


@pytest.mark.parametrize(
    ("chip", "workload", "options"),
    [
        pytest.param(chip, workload, options, marks=() if workload in CI_PHASES.get(chip, ()) else pytest.mark.nightly)
        for chip, (workload, options) in itertools.product(CHIPS, OTHER_RUNS)
        if (workload, chip) not in TOO_LARGE
    ],
)
def test_other_phases_and_batches_fit_too(chip: str, workload: str, options: dict[str, Any]) -> None:
    """No tile that the mapper chooses by a rule may be larger than what it is chosen for."""
    _, _, program = plan(workload, chip, dtype=FORMATS.get(chip, "int8"), **options)
    assert program.tasks > 0
