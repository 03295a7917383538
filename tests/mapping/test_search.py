"""The tile search: its vectorised estimate, its constraints, and how far its choice is from the best there is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from operator_graphs import GRAPHS, chip

import sim
from sim.cost.estimate import Cuts, Estimate, Site, estimate
from sim.errors import DoesNotFit
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.graph.nest import Nest, channels_last, nests
from sim.hw.chip import Chip, load_chip
from sim.mapping.buffers import buffers
from sim.mapping.fabric import Fabric
from sim.mapping.grid import largest_part
from sim.mapping.partition import Assignment
from sim.mapping.plan import make_plan
from sim.mapping.search import ALL_ROLES, SLACK, Limits, Tiling, cut_quanta, search, split_candidates
from sim.mapping.sites import make_site, usable_units
from sim.mapping.splits import local_of


def graph_nests(graph: Graph) -> list[Nest]:
    last = channels_last(graph)
    return [nest for op in graph.ops for nest in nests(op, graph.tensors, last)]


def gemm_nest(m: int, n: int, k: int, dtype: str = "int8") -> Nest:
    b = GraphBuilder("gemm", dtype)
    return graph_nests(b.build([b.linear(b.input("x", (m, k)), n, bias=False)]))[0]


def site_of(on: Chip, cores: int | None = None) -> Site:
    used = tuple(range(cores or on.core_count))
    return make_site(on, Fabric(on), on.cores[0], used)


def limits(nest: Nest, site: Site, share: float = 0.5) -> Limits:
    size = site.kind.sram.size_bytes
    return Limits(int(size * share), size, usable_units(nest, site.kind))


def find(nest: Nest, site: Site, share: float = 0.5) -> Tiling:
    """The search with every partition and nothing resident."""
    local = {split: (False,) * len(nest.operands) for split in split_candidates(nest, site.cores, ALL_ROLES)}
    return search(nest, site, limits(nest, site, share), "weight_stationary", local_of(nest, local))


def evaluate(
    nest: Nest, site: Site, unit: str, rows: list[tuple[tuple[int, ...], tuple[int, ...], bool]], stay: int = -1
) -> Estimate:
    """The estimate of (splits, steps, columns first) candidates, cut at the unit's quanta; an operand may stay."""
    quanta = cut_quanta(nest, site, unit, "weight_stationary")
    splits, steps = (np.array([row[place] for row in rows], np.int64) for place in (0, 1))
    tile = tuple(
        largest_part(dim.extent, splits[:, i] * steps[:, i], quanta[i]) for i, dim in enumerate(nest.dims)
    )
    resident = np.zeros((len(rows), len(nest.operands)), np.bool_)
    cuts = Cuts(splits, steps, np.array([row[2] for row in rows]), tile)
    staying = [index == stay for index in range(len(nest.operands))]
    return estimate(
        nest, site, cuts, unit=unit, dataflow="weight_stationary", resident=resident, staying=staying
    )


def every_cut(nest: Nest, site: Site, unit: str) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], bool]]:
    """All partitions over cores and all tiles of a nest without nested dimensions."""
    extents = nest.extents
    summed = set(nest.role("k"))
    for splits in itertools.product(*(range(1, min(e, site.cores) + 1) for e in extents)):
        if math.prod(splits) > site.cores or (unit == "vector" and any(splits[d] > 1 for d in summed)):
            continue
        choices = [
            [1] if unit == "vector" and dim in summed else range(1, extent // part + 1)
            for dim, (extent, part) in enumerate(zip(extents, splits, strict=True))
        ]
        for steps in itertools.product(*choices):
            yield from ((splits, steps, order) for order in (False, True))


@pytest.mark.parametrize("name", ["conv", "conv grouped", "conv_transpose", "matmul", "softmax", "concat"])
def test_the_estimate_of_many_is_that_of_each(name: str) -> None:
    site = site_of(chip("small"))
    rng = np.random.default_rng(5)
    for nest in graph_nests(GRAPHS[name]()):
        splits = list(split_candidates(nest, site.cores, ALL_ROLES))
        for unit in usable_units(nest, site.kind):
            rows = []
            for split in splits if unit == "array" else [(1,) * len(nest.dims)]:
                room = [d.extent // p for d, p in zip(nest.dims, split, strict=True)]
                steps = tuple(int(rng.integers(1, r + 1)) for r in room)
                rows.append((split, steps, bool(rng.integers(2))))
            many = evaluate(nest, site, unit, rows)
            for index, row in enumerate(rows):
                one = evaluate(nest, site, unit, [row])
                for field in ("latency_s", "dram_bytes", "transfers", "sram_bytes", "accumulator_bytes"):
                    assert getattr(one, field)[0] == getattr(many, field)[index], (field, row)


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("on", ["tiny", "small", "ring"])
def test_what_is_chosen_fits_scratchpad_and_accumulator(name: str, on: str) -> None:
    target, graph = chip(on), GRAPHS[name]()
    plan = make_plan(graph, target, Fabric(target), Assignment(target))
    core = target.cores[0]
    assert plan.scratchpads[0].peak_bytes <= core.sram.size_bytes
    for position, step in enumerate(plan.steps):
        kept = sum(
            plan.scratchpads[0].size_bytes[f"kept:{root}"]
            for root, result in plan.kept.items()
            if result.first <= position <= result.last
        )
        assert sum(b.slots * b.size_bytes for b in buffers(step)) + kept <= core.sram.size_bytes
        assert step.tiling.cores <= target.core_count
        if step.tiling.unit == "array":
            sizes = [np.diff(cut) for cut in step.tiling.cuts(step.nest)]
            rows_and_columns = [
                int(s.max()) for s, d in zip(sizes, step.nest.dims, strict=True) if d.role != "k"
            ]
            assert core.accumulator is not None
            assert math.prod(rows_and_columns) * 4 <= core.accumulator.size_bytes


@pytest.mark.parametrize("sizes", [(24, 20, 12), (40, 8, 30), (3, 48, 48), (64, 64, 8)])
@pytest.mark.parametrize("on", ["tiny", "ring"])
def test_close_to_the_best_of_all_tilings(sizes: tuple[int, int, int], on: str) -> None:
    """Against every partition and tile there is, which the search only samples."""
    small = {"core.sram.size": "4 KiB", "core.accumulator.size": "512 B", "core.vector.lanes": 8}
    target = chip(on).replace_many(small)
    site, nest = site_of(target), gemm_nest(*sizes)
    chosen = find(nest, site, share=1.0)
    best = math.inf
    for unit, stay in itertools.product(usable_units(nest, site.kind), (-1, 0, 1)):
        cost = evaluate(nest, site, unit, list(every_cut(nest, site, unit)), stay)
        fits = (cost.sram_bytes <= 4096) & (cost.accumulator_bytes <= 512)
        best = min(best, float(cost.latency_s[fits].min()))
    # The search and this test add up in another order.
    assert best * (1 - 1e-12) <= chosen.latency_s <= best * SLACK * 1.01


@pytest.mark.parametrize("sizes", [(256, 256, 256), (1, 2048, 2048), (1024, 64, 512)])
def test_more_scratchpad_is_never_worse(sizes: tuple[int, int, int]) -> None:
    found = []
    for size in ("32 KiB", "64 KiB", "128 KiB", "1 MiB", "4 MiB"):
        target = chip("lepton_m").replace("core.sram.size", size)
        found.append(find(gemm_nest(*sizes), site_of(target)).latency_s)
    for less, more in itertools.pairwise(found):
        assert more <= less * SLACK


def test_transfer_latency_keeps_the_tiles_of_a_gemv_large() -> None:
    """4096 x 4096 weights through eight scratchpads: the tiles on their way together take the DRAM at least as long
    as one round trip, so that it never idles, and the whole stays within a quarter of the bandwidth's time."""
    nest, site = gemm_nest(1, 4096, 4096), site_of(chip("lepton_m"))
    tiling = find(nest, site)
    assert math.prod(tiling.steps) > 1
    round_of_tiles_s = 4096 * 4096 / math.prod(tiling.steps) / site.dram.bandwidth_bytes_per_s
    assert round_of_tiles_s > 2 * site.head_latency_s
    assert tiling.latency_s < 1.25 * 4096 * 4096 / site.dram.bandwidth_bytes_per_s


def test_every_transfer_pays_its_latency_where_none_overlap() -> None:
    """A sum of three tensors, one transfer in flight at a time: four transfers per tile, one after another."""
    b = GraphBuilder("where", "int8")
    x = [b.input(name, (256, 64)) for name in "xyz"]
    (nest,) = graph_nests(b.build([b.elementwise("where", *x)]))
    one = {"core.dma.channels": 1, "core.dma.outstanding": 1}
    site = replace(site_of(chip("tiny").replace_many(one)), head_latency_s=1e-4)
    cost = evaluate(nest, site, "vector", [((1, 1), (rows, 1), False) for rows in (4, 64)])
    assert cost.transfers.tolist() == [16, 256]
    assert cost.latency_s == pytest.approx((cost.transfers + 1) * 1e-4, rel=0.02)


def test_a_slower_round_trip_makes_larger_tiles() -> None:
    nest, site = gemm_nest(1, 4096, 4096), site_of(chip("lepton_m"))
    tiles = [
        math.prod(find(nest, replace(site, head_latency_s=seconds)).steps) for seconds in (1e-8, 1e-6, 5e-6)
    ]
    assert tiles == sorted(tiles, reverse=True)
    assert tiles[0] > tiles[-1]


def test_no_tile_fits() -> None:
    """A single sum needs 4 bytes of accumulator."""
    target = chip("tiny").replace("core.accumulator.size", "2 B")
    nest, site = gemm_nest(64, 64, 64), site_of(target)
    only_array = replace(limits(nest, site), units=("array",))
    with pytest.raises(DoesNotFit, match="accumulator of a core core") as caught:
        search(nest, site, only_array, "weight_stationary", local_of(nest, {(1, 1, 1): (False, False)}))
    assert (caught.value.needed, caught.value.available) == (4, 2)
    assert caught.value.levers[0] == "a larger accumulator.size"


def test_tiles_of_whole_array_sides_are_among_the_candidates() -> None:
    """4864 columns are 76 array widths of 64: no power of two divides them."""
    report = sim.simulate(
        "gemm:512x4864x896",
        load_chip("tiny").replace_many(
            {
                "core.array.rows": 64,
                "core.array.cols": 64,
                "core.accumulator.size": "256 KiB",
                "core.sram.size": "2 MiB",
                "core.sram.bandwidth": "2 TB/s",
                "core.vector.lanes": 256,
                "core.dma.bandwidth": "200 GB/s",
                "dram.channels": 8,
            }
        ),
        dtype="int8",
    )
    tile = report.ops["tile"][0]
    columns = int(tile.split("column=")[1].split()[0])
    assert columns % 64 == 0
    assert report["latency_s"] <= 1.35 * report["bound_latency_s"]
