"""Floors of the search against the closed form that they are to lie below, and its choice against all levels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from test_kernel import CHIPS, NESTS
from test_tile_search import AUTO, random_nest_graph, random_small_chip, tables_of_levels, without_staying

from sim.cost import kernel
from sim.cost.bound import compile_model, evaluate
from sim.cost.branch import Search, line_floors, new_memory
from sim.cost.designs import designs_of
from sim.cost.element_passes import body_passes
from sim.cost.floor_inputs import fill_lanes, hold_cut, hold_unit
from sim.cost.hardware import timing_columns
from sim.cost.nest_tables import NestTables, nest_tables
from sim.cost.scan import MISFIT_S, scan_role
from sim.cost.work import vector_cost
from sim.graph.nest import Nest
from sim.hw.chip import Chip
from sim.mapping.search import ALL_ROLES, split_candidates
from sim.mapping.sites import usable_units


def memory_of(nest: Nest, splits: np.ndarray, hw: np.ndarray, vector: bool) -> tuple[NestTables, Search]:
    """A search's memory with one cut over cores and its levels."""
    t = nest_tables([nest])
    levels, cuts = tables_of_levels(nest, splits, hw, vector)
    wires = np.zeros((1, t.operands.shape[1], 2))
    s = new_memory(t, splits[None], wires, levels, np.full((1, 1, 2), -1, np.int64), True)
    for mine, theirs in zip(s.cuts[1:], cuts[1:], strict=True):
        mine[:] = theirs
    for role in range(4):
        fill_lanes(t, 0, levels, int(cuts.first[0, role]), int(cuts.stop[0, role]), s.lanes, s.least)
    return t, s


def works_of(nest: Nest, chip: Chip, t: NestTables) -> list[kernel.Work]:
    """The work of the nest on every unit that can do it."""
    kind = chip.cores[0]
    assert kind.array is not None
    rate = kind.array.rate("int8")
    cycles = vector_cost(body_passes(nest, kind), kind), vector_cost(nest.drain, kind)
    ratio = float(rate.numerator), float(rate.denominator)
    return [kernel.make_work(t, 0, *ratio, *cycles, unit == "vector") for unit in usable_units(nest, kind)]


@pytest.mark.parametrize("name", NESTS)
def test_no_tiling_is_below_any_floor_of_it(name: str) -> None:
    """Whichever roles are open, on whatever unit: the floor of a level lies below the tilings that have it."""
    nest, rng, found, tight = NESTS[name], np.random.default_rng(len(name)), np.empty(2000), 0.0
    for chip in CHIPS:
        hw = timing_columns(designs_of([chip]))[0, 0]
        options = split_candidates(nest, chip.core_count, ALL_ROLES)
        for work in works_of(nest, chip, nest_tables([nest])):
            splits = np.array(options[rng.integers(len(options))], np.int64)
            if work.vector and any(splits[dim] > 1 for dim in nest.role("k")):
                continue
            t, s = memory_of(nest, splits, hw, work.vector)
            limit = float(rng.choice([1e6, 1e9]))
            hold_unit(t, 0, hw, work, limit, s.held)
            hold_cut(hw, s.cuts, 0, s.held)
            first, stop = s.cuts[1:3]
            for _ in range(15):
                s.at[:] = rng.integers(first[0], stop[0])
                order, role = int(rng.integers(2)), int(rng.integers(4))
                row, span = int(s.at[role]), (int(first[0, role]), int(stop[0, role]))
                cost, legal, _ = scan_role(
                    t, 0, hw, work, s.levels, s.cuts, 0, s.at, role, row, row + 1, order, limit, np.inf, s.lines, 0.0
                )
                if legal < 0 or cost >= MISFIT_S:
                    continue
                for opened in range(16):
                    if not (opened >> role) & 1:
                        line_floors(t, 0, s, 0, opened, role, *span, order, found, 0)
                        assert found[row - span[0]] <= cost * (1 + 1e-9), (chip.name, work, opened, role)
                        tight = max(tight, found[row - span[0]] / cost if opened == 0 else 0.0)
    assert tight > 0.9  # a floor of nothing would be none


def best_of_levels(nest: Nest, chip: Chip) -> float:
    """Least of what the search compares, over all levels of all cuts over cores, each evaluated; within half the
    scratchpad if possible."""
    hw, best = timing_columns(designs_of([chip]))[0, 0], np.inf
    granule = max(1.0, hw[kernel.SRAM_BYTES] // 32)
    for share in (0.5, 1.0):
        limit = hw[kernel.SRAM_BYTES] * share // granule * granule
        for work in works_of(nest, chip, nest_tables([nest])):
            for cut in split_candidates(nest, chip.core_count, ALL_ROLES):
                if work.vector and any(cut[dim] > 1 for dim in nest.role("k")):
                    continue
                t, s = memory_of(nest, np.array(cut, np.int64), hw, work.vector)
                rows = [range(s.cuts.first[0, role], s.cuts.stop[0, role]) for role in range(3)]
                span = int(s.cuts.first[0, 3]), int(s.cuts.stop[0, 3])
                for *at, order in itertools.product(*rows, range(2)):
                    s.at[:3] = at
                    cost, _, _ = scan_role(
                        t, 0, hw, work, s.levels, s.cuts, 0, s.at, 3, *span, order, limit, np.inf, s.lines,
                        kernel.TRAFFIC_SHARE,
                    )
                    best = min(best, cost)
        if best < MISFIT_S:
            break
    return best


@pytest.mark.parametrize("seed", [3, 4])
def test_the_choice_is_the_best_of_all_levels(seed: int) -> None:
    """Where nothing may stay in a scratchpad; see test_stay_search.py for what does."""
    rng, compared = np.random.default_rng(seed), 0
    while compared < 30:
        model, chip = without_staying(compile_model(random_nest_graph(rng))), random_small_chip(rng)
        costs = evaluate(model, designs_of([chip]), AUTO).cost[0]
        mine = costs[:, kernel.LATENCY_S] + kernel.TRAFFIC_SHARE * costs[:, kernel.DRAM_S]
        for nest, seconds in zip(model.nests, mine.tolist(), strict=True):
            best = best_of_levels(nest, chip)
            if best < MISFIT_S:
                assert seconds == pytest.approx(best, rel=1e-9)
                compared += 1
            else:
                assert np.isnan(seconds)
