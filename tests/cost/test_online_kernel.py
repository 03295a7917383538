"""The bound's law for a fused attention: against the NumPy estimate of one chip, tiling by tile and the best of all."""

from __future__ import annotations

import math

import numpy as np
import pytest
from attentions import ATTENTIONS, causal, kernel, random_attention
from random_chips import base_chip, random_columns
from test_alike import inputs_of
from test_tile_search import AUTO, best_of_all, random_small_chip

from sim.cost import kernel as columns_of
from sim.cost import tile_traffic
from sim.cost.bound import compile_model, evaluate
from sim.cost.designs import designs_from, designs_of
from sim.cost.estimate import Cuts, estimate
from sim.cost.online_search import least_block_s, least_s
from sim.cost.tile_search import cost_choices, unit_work
from sim.mapping.fabric import Fabric
from sim.mapping.grid import largest_part
from sim.mapping.search import cut_quanta
from sim.mapping.sites import make_site

CALIBRATION = {
    "calibration.tile_overhead": "0.07 us", "calibration.array_efficiency": 0.83,
    "calibration.vector_efficiency": 0.71, "calibration.dram_efficiency": 0.9,
}  # fmt: skip


@pytest.mark.parametrize("name", ATTENTIONS)
def test_any_tiling_costs_what_the_numpy_estimate_says(name: str) -> None:
    """Also on arrays that work together, or are calibrated; whether it fits or not."""
    rng, given = np.random.default_rng(len(name)), random_columns(6, seed=len(name))
    changed = [{}, {"core.array.count": 4}, CALIBRATION]
    for more in changed:
        base = base_chip().replace_many(more)
        model, designs = compile_model(ATTENTIONS[name]), designs_from(base, given)
        inputs, groups = inputs_of(model, given, base)
        shape, width = (len(designs), len(model.nests)), model.tables.extent.shape[1]
        cost, traffic = np.empty((*shape, columns_of.COSTS)), np.empty((*shape, tile_traffic.TRAFFIC))
        choice = np.zeros((*shape, 4 + 2 * width), np.int64)
        for row, nest in enumerate(model.nests):
            if nest.kind != "attention":
                continue
            for design in range(len(designs)):
                first, stop = inputs.partitions_of[design, 0, row]
                splits = inputs.partitions[rng.integers(first, stop)]
                most = [max(1, dim.extent // int(part)) for dim, part in zip(nest.dims, splits, strict=False)]
                steps = [int(math.exp(rng.uniform(0, math.log(one + 0.999)))) for one in most]
                choice[design, row] = (0, 0, 0, *splits, *steps, *(1,) * (width - len(steps)), 0)
            cost_choices(model.tables, row, inputs, groups, choice, cost, traffic)
            for design in range(len(designs)):
                chip = designs.chip(design)
                site = make_site(chip, Fabric(chip), chip.cores[0], tuple(range(chip.core_count)))
                splits, steps = (choice[design, row, at : at + len(nest.dims)] for at in (3, 3 + width))
                quanta = cut_quanta(nest, site, "array", chip.cores[0].array.dataflow)
                tile = tuple(
                    np.atleast_1d(largest_part(dim.extent, np.array([p * s]), q))
                    for dim, p, s, q in zip(nest.dims, splits, steps, quanta, strict=True)
                )
                said = estimate(
                    nest, site, Cuts(splits[None], steps[None], np.array([False]), tile), unit="array",
                    dataflow=chip.cores[0].array.dataflow, resident=np.zeros((1, len(nest.operands)), bool),
                )  # fmt: skip
                mine, at = cost[design, row], (name, more, splits, steps)
                assert mine[columns_of.LATENCY_S] == pytest.approx(said.latency_s[0], rel=1e-12), at
                assert mine[columns_of.DRAM_BYTES] == said.dram_bytes[0], at
                assert mine[columns_of.TRANSFERS] == said.transfers[0], at
                assert mine[columns_of.SRAM_NEED] == said.sram_bytes[0], at
                assert mine[columns_of.ACCUMULATOR_NEED] == said.accumulator_bytes[0], at


def test_the_choice_is_close_to_the_best_of_all_tilings() -> None:
    """Nothing of fewer levels that may win is passed over: the best of all numbers of tiles is rarely far from it."""
    rng, ratio = np.random.default_rng(4), []
    while len(ratio) < 40:
        model, chip = compile_model(random_attention(rng)), random_small_chip(rng)
        (nest,), bounds = model.nests, evaluate(model, designs_of([chip]), AUTO)
        mine = float(bounds.cost[0, 0, columns_of.LATENCY_S])
        best = best_of_all(nest, chip)
        assert math.isfinite(best) == math.isfinite(mine)
        if math.isfinite(best):
            assert mine >= best * (1 - 1e-9)
            ratio.append(mine / best)
    assert np.mean(np.array(ratio) > 1.02) <= 0.05
    assert max(ratio) < 1.06


def test_the_choice_does_not_depend_on_the_designs_beside_it() -> None:
    model, given = compile_model(causal(1024, 1024, 4, 32)), random_columns(24, seed=11)
    backwards = {path: values[::-1] for path, values in given.items()}
    one, other = (evaluate(model, designs_from(base_chip(), columns), AUTO) for columns in (given, backwards))
    assert np.array_equal(one.choice, other.choice[::-1])
    assert np.array_equal(one.cost, other.cost[::-1], equal_nan=True)
    assert len({row.tobytes() for row in one.choice.reshape(-1, one.choice.shape[2])}) > 10


def test_what_the_search_passes_over_is_slower() -> None:
    """The floors of cuts and of blocks are below what was chosen on every chip, and near to it on some."""
    model, columns = compile_model(kernel((8,), 1024, 1024, 128)), random_columns(40, seed=9)
    inputs, _ = inputs_of(model, columns)
    bounds = evaluate(model, designs_from(base_chip(), columns), AUTO)
    width, near = model.tables.extent.shape[1], []
    for design in range(40):
        hw, w = inputs.hardware[design, 0], unit_work(model.tables, 0, inputs, design, 0, False)
        choice, seconds = bounds.choice[design, 0], bounds.cost[design, 0, columns_of.LATENCY_S]
        cores, tiles = float(choice[3 : 3 + width].prod()), float(choice[3 + width : 3 + 2 * width].prod())
        floors = least_s(model.tables, 0, hw, w, cores), tiles * least_block_s(hw, w)
        assert max(floors) <= seconds
        near.append([floor / seconds for floor in floors])
    assert (np.max(near, axis=0) > (0.95, 0.25)).all()
