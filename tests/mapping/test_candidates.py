"""Candidates that the search leaves out could not have won: against evaluating every one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from operator_graphs import CHIPS, GRAPHS, chip

from sim.cost.estimate import Cuts, Site, estimate
from sim.cost.fills import loop_order
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.graph.nest import Nest, channels_last, nests
from sim.hw.chip import load_chip
from sim.mapping import search as searching
from sim.mapping.candidates import candidates
from sim.mapping.fabric import Fabric
from sim.mapping.search import ALL_ROLES, SLACK, Limits, Tiling, cut_quanta, search, split_candidates
from sim.mapping.sites import make_site, usable_units
from sim.mapping.splits import local_of


def _conv(batch: int, channels: int, size: int, filters: int, kernel: int, stride: int) -> Graph:
    b = GraphBuilder("conv", "int8")
    x = b.input("x", (batch, channels, size, size))
    return b.build([b.conv(x, filters, kernel, stride, padding="same" if stride == 1 else 0)])


def _gemm(m: int, k: int, n: int) -> Graph:
    b = GraphBuilder("gemm", "int8")
    return b.build([b.linear(b.input("x", (m, k)), n)])


CASES: list[tuple[str, Callable[[], Graph]]] = [
    *((on, GRAPHS[name]) for on in ("small", "ring") for name in ("conv grouped", "matmul", "conv_transpose")),
    ("small", GRAPHS["concat"]),
    ("tiny", GRAPHS["resize"]),
    ("lepton_m", lambda: _conv(1, 64, 56, 64, 3, 1)),
    ("nvdla_large", lambda: _gemm(196, 512, 256)),
    ("lepton_m", lambda: _conv(2, 256, 14, 512, 1, 2)),
    ("lepton_m", lambda: _gemm(1, 4096, 4096)),
    # 344 columns a core in even cuts, up to 384 in cuts at whole array sides: coarse tiles are not the least.
    ("lepton_l", lambda: _gemm(1, 4096, 11008)),
    ("lepton_s", lambda: _gemm(128, 768, 3072)),
    ("lepton_s", lambda: _conv(1, 16, 30, 30, 5, 1)),
    # Tiles of single rows skip the input's rows between the strides, which one large tile loads.
    ("tiny", lambda: _conv(1, 64, 32, 8, 1, 4)),
]  # fmt: skip


def _sites(on: str) -> list[Site]:
    """The chip's own, and one whose transfers take ten times as long: another term of the estimate is the largest."""
    target = chip(on) if on in CHIPS else load_chip(on)
    site = make_site(target, Fabric(target), target.cores[0], tuple(range(target.core_count)))
    return [site, replace(site, head_latency_s=site.head_latency_s * 10)]


def _resident(nest: Nest, split: tuple[int, ...]) -> tuple[bool, ...]:
    """Every second operand, under every second partition: the floor must not count their loads."""
    return tuple((index + sum(split)) % 2 == 0 for index in range(len(nest.operands)))


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(("on", "build"), CASES)
def test_the_search_finds_what_evaluating_everything_finds(
    on: str, build: Callable[[], Graph], compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not compiled:
        # As for a chip that the kernel has no law for. Small batches: the floors decide about almost everything.
        monkeypatch.setattr(searching, "lacking_law", lambda *_: "anything")
        monkeypatch.setattr(searching, "FIRST_BATCH", 16)
    graph = build()
    last = channels_last(graph)
    for nest in [found for op in graph.ops for found in nests(op, graph.tensors, last)]:
        for site in _sites(on):
            local = {split: _resident(nest, split) for split in split_candidates(nest, site.cores, ALL_ROLES)}
            size = site.kind.sram.size_bytes
            for unit in usable_units(nest, site.kind):
                for dataflow in ("weight_stationary", "output_stationary"):
                    chosen = search(nest, site, Limits(size // 2, size, (unit,)), dataflow, local_of(nest, local))
                    assert (chosen.splits, chosen.steps, chosen.order, chosen.staying) == _best_of_all(
                        nest, site, local, unit, dataflow, size // 2
                    )
                    if compiled:
                        kept_s = _kept_s(nest, site, chosen, local[chosen.splits])
                        assert chosen.kept_s == pytest.approx(kept_s, rel=1e-12)


def _kept_s(nest: Nest, site: Site, tiling: Tiling, resident: tuple[bool, ...]) -> float:
    """The estimate of a tiling whose result stays."""
    columns_first = np.array([tiling.order != loop_order(nest, False)])
    tile = tuple(np.array([size]) for size in tiling.tile(nest))
    cuts = Cuts(np.array([tiling.splits]), np.array([tiling.steps]), columns_first, tile)
    how = {"unit": tiling.unit, "dataflow": tiling.dataflow, "resident": np.array([resident])}
    return float(estimate(nest, site, cuts, **how, staying=tiling.staying, stored=False).latency_s[0])


def _best_of_all(
    nest: Nest,
    site: Site,
    local: dict[tuple[int, ...], tuple[bool, ...]],
    unit: str,
    dataflow: str,
    limit: int,
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[bool, ...]]:
    """The least DRAM traffic, then the fewest transfers, among the coarse candidates within the slack of the
    fastest, each without and, where there are rings, with every operand that can stay. Checks the floor of every
    candidate."""
    space = candidates(nest, site, local, cut_quanta(nest, site, unit, dataflow), unit, coarse=True)
    cuts, resident, which = space.cuts(np.arange(len(space.floor_s)))
    how = {"unit": unit, "dataflow": dataflow, "resident": resident}
    accumulator, every = site.kind.accumulator, range(len(nest.operands))
    close, found = [], []
    for stay in (-1, *every) if site.kind.sram.rings else (-1,):
        cost = estimate(nest, site, cuts, **how, staying=[index == stay for index in every])
        assert (space.floor_s[which] <= cost.latency_s * (1 + 1e-12)).all()
        fits = cost.sram_bytes <= limit
        if accumulator is not None:
            fits &= cost.accumulator_bytes <= accumulator.size_bytes
        found.append((stay, cost, fits))
    best_s = min(cost.latency_s[fits].min(initial=np.inf) for _, cost, fits in found)
    for stay, cost, fits in found:
        near = np.flatnonzero(fits & (cost.latency_s <= best_s * SLACK)).tolist()
        close += [(cost.dram_bytes[i], cost.transfers[i], which[i], stay, i) for i in near]
    *_, stay, at = min(close)
    order = loop_order(nest, bool(cuts.columns_first[at]))
    staying = tuple(index == stay for index in every if stay >= 0)
    return tuple(cuts.splits[at].tolist()), tuple(cuts.steps[at].tolist()), order, staying
