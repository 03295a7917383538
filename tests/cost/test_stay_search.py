"""An operand that stays: what a tiling costs with one, and what the search of many designs makes of it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from test_kernel import CHIPS, NESTS
from test_level_floors import memory_of, works_of
from test_tile_search import AUTO, random_nest_graph, random_small_chip, tables_of_levels, without_staying

from sim.cost import kernel, tile_traffic, tiles
from sim.cost.bound import Bounds, compile_model, evaluate
from sim.cost.designs import designs_of
from sim.cost.hardware import timing_columns
from sim.cost.nest_tables import STAYS, nest_tables
from sim.cost.scan import MISFIT_S, Lines, crossed, hold_roles
from sim.cost.stay_scan import hold_rings, kept_cost
from sim.cost.tiling import tiling_cost
from sim.graph.builder import GraphBuilder
from sim.graph.nest import Nest
from sim.hw.chip import Chip, load_chip
from sim.mapping.search import ALL_ROLES, split_candidates


@pytest.mark.parametrize("name", NESTS)
def test_levels_cost_what_their_tiling_costs_with_what_stays(name: str) -> None:
    """Whichever role is scanned and whatever the order; and only what the loops come back to can stay."""
    nest, rng = NESTS[name], np.random.default_rng(len(name))
    t = nest_tables([nest])
    width, operands = t.extent.shape[1], t.operands.shape[1]
    found, at, parts = np.zeros(kernel.COSTS), np.zeros(4, np.int64), np.empty((operands, 3))
    memory = (np.empty((operands, size)) for size in (4, 2, 4))
    fixed, moved, rings = memory
    lines, seen = Lines(fixed, moved, at.copy(), at.copy(), rings), set()
    for chip, _ in itertools.product(CHIPS, range(3)):
        hw = timing_columns(designs_of([chip]))[0, 0]
        splits_list = split_candidates(nest, chip.core_count, ALL_ROLES)
        for work in works_of(nest, chip, t):
            splits = np.array(splits_list[rng.integers(len(splits_list))], np.int64)
            if work.vector and any(splits[dim] > 1 for dim in nest.role("k")):
                continue
            levels, cuts = tables_of_levels(nest, splits, hw, work.vector)
            quanta = np.ones(width, np.int64)
            kernel.set_quanta(t, 0, hw, work.vector, quanta)
            for _ in range(20):
                at[:] = rng.integers(cuts.first[0], cuts.stop[0])
                steps = np.array([levels[at[t.role[0, dim]], dim - width] for dim in range(width)], np.int64)
                if crossed(t, 0, splits, levels, at):
                    continue  # no tiling
                order, role, stay = int(rng.integers(2)), int(rng.integers(4)), int(rng.integers(operands - 1))
                limit = float(rng.choice([2e4, 1e6]))
                hold_roles(t, 0, levels, at, order, role, lines.fixed)
                hold_rings(t, 0, levels, at, order, role, lines.rings)
                ask = t, 0, hw, work, levels, cuts, 0, at, at[role], limit
                cost = kept_cost(*ask, np.inf, lines, 0.25, stay)
                _, ring = tiles.kept_tiles(t, 0, stay, steps, order)
                if ring == 1:
                    assert cost == np.inf
                    continue
                sizes = zip(nest.dims, splits, steps, quanta, strict=True)
                tile = np.array([tiles.largest_part(d.extent, int(p * n), int(q)) for d, p, n, q in sizes])
                where = splits, steps, tile, order, 0, 1 << stay, True, cuts.wires[0]
                tiling_cost(t, 0, hw, work, *where, parts, found)
                fits = found[kernel.SRAM_NEED] <= limit
                fits &= found[kernel.ACCUMULATOR_NEED] <= hw[kernel.ACCUMULATOR_BYTES]
                expected = found[kernel.LATENCY_S] + 0.25 * found[kernel.DRAM_S] if fits else MISFIT_S
                assert cost == pytest.approx(expected, rel=1e-9), (chip.name, work, splits, steps, stay)
                assert not fits or kept_cost(*ask, cost * (1 - 1e-9), lines, 0.25, stay) == np.inf
                seen.add(bool(fits))
    assert seen == {True, False} or not name.startswith(("conv 0", "matmul deep", "packed_matmul"))


def objective(bounds: Bounds) -> np.ndarray:
    """What the search compares, of every nest of one design."""
    return np.asarray(bounds.cost[0, :, kernel.LATENCY_S] + kernel.TRAFFIC_SHARE * bounds.cost[0, :, kernel.DRAM_S])


def least_with_staying(nest: Nest, chip: Chip) -> float:
    """Least of what the search compares, over all levels of all cuts over cores, each with each operand that can stay,
    within half the scratchpad."""
    hw, best = timing_columns(designs_of([chip]))[0, 0], np.inf
    granule = max(1.0, hw[kernel.SRAM_BYTES] // 32)
    limit = hw[kernel.SRAM_BYTES] * 0.5 // granule * granule
    for work in works_of(nest, chip, nest_tables([nest])):
        for cut in split_candidates(nest, chip.core_count, ALL_ROLES):
            if work.vector and any(cut[dim] > 1 for dim in nest.role("k")):
                continue
            t, s = memory_of(nest, np.array(cut, np.int64), hw, work.vector)
            rows = [range(s.cuts.first[0, role], s.cuts.stop[0, role]) for role in range(3)]
            for *at, order in itertools.product(*rows, range(2)):
                s.at[:3] = at
                hold_roles(t, 0, s.levels, s.at, order, 3, s.lines.fixed)
                hold_rings(t, 0, s.levels, s.at, order, 3, s.lines.rings)
                for row in range(s.cuts.first[0, 3], s.cuts.stop[0, 3]):
                    s.at[3] = row
                    for stay in range(len(nest.operands)):
                        best = min(
                            best,
                            kept_cost(
                                t, 0, hw, work, s.levels, s.cuts, 0, s.at, row, limit, np.inf, s.lines,
                                kernel.TRAFFIC_SHARE, stay,
                            ),
                        )  # fmt: skip
    return best


def test_what_stays_helps_and_never_harms() -> None:
    """Beside the choice without: no nest costs more, none less than the best of all tilings with an operand that stays,
    and less is read."""
    rng, costs, reads = np.random.default_rng(6), [], []
    while len(costs) < 60:
        graph, chip = random_nest_graph(rng), random_small_chip(rng)
        now, before = (
            evaluate(model, designs_of([chip]), AUTO)
            for model in (compile_model(graph), without_staying(compile_model(graph)))
        )
        for row, nest in enumerate(now.model.nests):
            if np.isnan(objective(before)[row]):
                continue
            least = min(least_with_staying(nest, chip), objective(before)[row])
            costs.append((objective(before)[row], objective(now)[row], least))
            reads.append([bounds.traffic[0, row, tile_traffic.DRAM_READ] for bounds in (before, now)])
            if now.choice[0, row, -1]:
                assert objective(now)[row] < objective(before)[row]
            else:
                assert np.array_equal(now.choice[0, row], before.choice[0, row])
    without, mine, least = np.array(costs).T
    assert (mine <= without).all()
    assert (mine >= least * (1 - 1e-9)).all()
    before, after = np.sum(reads, axis=0)
    assert after < 0.95 * before
    assert np.mean(mine < without) > 0.05


@pytest.mark.parametrize(
    ("chip", "size", "without", "now"),
    [("gemmini_16", 512, 16, 9), ("lepton_s", 2048, 24, 9), ("lepton_m", 2048, 6, 3)],
)
def test_a_sweep_reads_less_of_products(chip: str, size: int, without: int, now: int) -> None:
    """In multiples of one of the matrices, which are squares."""
    b = GraphBuilder("product", "int8")
    graph = b.build([b.linear(b.input("x", (size, size)), size, bias=False)])
    models = without_staying(compile_model(graph)), compile_model(graph)
    one = designs_of([load_chip(chip).replace_many({"clock": "1 GHz"})])
    reads = [evaluate(model, one, AUTO).traffic[0, 0, tile_traffic.DRAM_READ] for model in models]
    assert reads == [without * size * size, now * size * size]


def test_what_may_not_stay_does_not() -> None:
    tables = nest_tables(list(NESTS.values()))
    for row, nest in enumerate(NESTS.values()):
        may = tables.operands[row, : len(nest.operands), STAYS]
        assert set(may.tolist()) == {int(nest.kind != "attention" and not any(o.gathered for o in nest.operands))}
        assert tables.operands[row, len(nest.operands), STAYS] == 0
