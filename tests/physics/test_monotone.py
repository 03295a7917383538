"""More of a resource is never slower: in the tile search's estimate, in the closed form, in the simulated time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.graph.nest import channels_last, nests
from sim.hw.chip import Chip, load_chip
from sim.mapping.fabric import Fabric
from sim.mapping.search import ALL_ROLES, SLACK, Limits, search, split_candidates
from sim.mapping.sites import make_site, usable_units
from sim.mapping.splits import local_of
from sim.pipeline import simulate


@dataclass(frozen=True)
class Sweep:
    """A chip with more and more of something, and how much slower the simulated time may get on the way. The search
    prefers less traffic among tilings within 1 %; and it does not see what transfers of several operators do to
    each other."""

    chip: str
    steps: Sequence[Mapping[str, Any]]
    tolerance: float = 1.03


def sweep(chip: str, path: str, values: Sequence[Any], tolerance: float = 1.03) -> Sweep:
    return Sweep(chip, [{path: value} for value in values], tolerance)


def cores(count: int, rows: int, columns: int) -> Mapping[str, Any]:
    return {
        "core.count": count,
        "interconnect.shape": [rows, columns],
        "interconnect.memory_ports": [[0, column] for column in range(columns)],
    }


SWEEPS: Mapping[str, Sweep] = {
    "DRAM channels": sweep("lepton_s", "dram.channels", [1, 2, 4, 8]),
    "DRAM bandwidth": sweep("lepton_m", "dram.bandwidth", ["100 GB/s", "200 GB/s", "400 GB/s", "800 GB/s"]),
    "link bandwidth": sweep(
        "lepton_m", "interconnect.link_bandwidth", ["64 GB/s", "128 GB/s", "256 GB/s", "512 GB/s"]
    ),
    "DMA bandwidth": sweep("lepton_m", "core.dma.bandwidth", ["32 GB/s", "64 GB/s", "128 GB/s", "256 GB/s"]),
    "scratchpad": sweep("lepton_m", "core.sram.size", ["256 KiB", "512 KiB", "1 MiB", "2 MiB", "4 MiB"]),
    "small scratchpad": sweep("lepton_s", "core.sram.size", ["128 KiB", "256 KiB", "512 KiB", "1 MiB"]),
    "cores": Sweep("lepton_m", [cores(1, 1, 1), cores(2, 1, 2), cores(4, 1, 4), cores(8, 2, 4)]),
}
WORKLOADS = ("resnet18", "gemm_1024", "gemv_4096", "softmax_4096", "mobilenet_v2")


@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize("name", SWEEPS)
def test_a_larger_resource_never_slows_a_model_down(name: str, workload: str) -> None:
    """Invariants of every run (latency at least every resource's work over its capacity) are checked on the way."""
    s = SWEEPS[name]
    reports = [simulate(workload, s.chip, dtype="int8", overrides=step) for step in s.steps]
    simulated = [float(report["latency_s"]) for report in reports]  # type: ignore[arg-type]
    closed = [float(report.facts["closed_form_latency_s"]) for report in reports]
    for times, slack in ((simulated, s.tolerance), (closed, SLACK)):
        for index, seconds in enumerate(times[1:], start=1):
            assert seconds <= min(times[:index]) * slack, times


def test_a_bound_resource_pays_back_in_full() -> None:
    """A matrix times a vector is bound by the DRAM: twice the bandwidth, half the time, as far as it goes."""
    s = SWEEPS["DRAM bandwidth"]
    times = [
        float(simulate("gemv_4096", s.chip, dtype="int8", overrides=step)["latency_s"])  # type: ignore[arg-type]
        for step in s.steps
    ]
    for slow, fast in itertools.pairwise(times):
        assert 1.8 < slow / fast < 2.05


def layers() -> Graph:
    b = GraphBuilder("layers", "int8")
    x = b.conv(b.input("x", (1, 32, 28, 28)), 64, 3, padding=1)
    x = b.softmax(b.linear(b.reshape(x, (64, 784)), 512))
    return b.build([x])


WITHIN_A_CORE: Mapping[str, Sweep] = {
    "scratchpad bandwidth": sweep("lepton_m", "core.sram.bandwidth", ["300 GB/s", "600 GB/s", "1200 GB/s"]),
    "accumulator": sweep("lepton_m", "core.accumulator.size", ["64 KiB", "256 KiB", "1 MiB"]),
    "accumulator bandwidth": sweep("lepton_m", "core.accumulator.bandwidth", ["130 GB/s", "1300 GB/s"]),
    "lanes": sweep("lepton_m", "core.vector.lanes", [32, 64, 128, 256]),
    "transfers in flight": sweep("lepton_m", "core.dma.outstanding", [1, 2, 4, 8]),
}


@pytest.mark.parametrize("workload", ["gemm_1024", "softmax_4096"])
@pytest.mark.parametrize("name", WITHIN_A_CORE)
def test_a_larger_part_of_a_core_never_slows_a_kernel_down(name: str, workload: str) -> None:
    s = WITHIN_A_CORE[name]
    reports = [simulate(workload, s.chip, dtype="int8", overrides=step) for step in s.steps]
    times = [float(report["latency_s"]) for report in reports]  # type: ignore[arg-type]
    for index, seconds in enumerate(times[1:], start=1):
        assert seconds <= min(times[:index]) * s.tolerance, times


ALL_SWEEPS = {**SWEEPS, **WITHIN_A_CORE}


def searched(s: Sweep, preferred: int) -> Iterator[tuple[str, list[float]]]:
    """Seconds that the tile search finds for each layer on the chips of a sweep; it prefers tilings that fill
    1 / `preferred` of the scratchpad."""
    graph = layers()
    last = channels_last(graph)
    for nest in (found for op in graph.ops for found in nests(op, graph.tensors, last)):
        times = []
        for step in s.steps:
            target: Chip = load_chip(s.chip, step)
            core = target.cores[0]
            site = make_site(target, Fabric(target), core, tuple(range(target.core_count)))
            size = core.sram.size_bytes
            limits = Limits(size // preferred, size, usable_units(nest, core))
            local = {
                split: (False,) * len(nest.operands) for split in split_candidates(nest, site.cores, ALL_ROLES)
            }
            times.append(search(nest, site, limits, "weight_stationary", local_of(nest, local)).latency_s)
        yield nest.name, times


@pytest.mark.parametrize("name", ALL_SWEEPS)
def test_the_search_finds_nothing_slower_with_more(name: str) -> None:
    for nest, times in searched(ALL_SWEEPS[name], preferred=2):
        for less, more in itertools.pairwise(times):
            assert more <= less * SLACK, (nest, times)


@pytest.mark.parametrize("name", ALL_SWEEPS)
def test_the_optimum_is_never_slower_with_more(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly: the search takes the very fastest here, without its preference for less traffic among close ones."""
    monkeypatch.setattr("sim.mapping.cut_levels.SLACK", 1.0)
    for nest, times in searched(ALL_SWEEPS[name], preferred=1):
        for less, more in itertools.pairwise(times):
            assert more <= less * (1 + 1e-9), (nest, times)
