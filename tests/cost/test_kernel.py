"""The compiled closed form against the NumPy one."""

from __future__ import annotations

import itertools
from typing import get_args

import numpy as np
import pytest
from operator_graphs import GRAPHS
from random_chips import random_chips

from sim.cost import kernel, tiles
from sim.cost.compiled import compiled_estimate
from sim.cost.designs import designs_of
from sim.cost.estimate import Cuts, estimate
from sim.cost.hardware import site_columns, timing_columns
from sim.errors import InputError
from sim.graph.nest import Nest, channels_last, nests
from sim.hw.chip import Chip, load_chip
from sim.hw.core import Dataflow
from sim.hw.systolic import DATAFLOWS
from sim.mapping.fabric import Fabric
from sim.mapping.grid import largest_part
from sim.mapping.search import ALL_ROLES, cut_quanta, split_candidates
from sim.mapping.sites import make_site, usable_units

CALIBRATION = {
    "calibration.tile_overhead": "70 ns",
    "calibration.array_efficiency": 0.83,
    "calibration.vector_efficiency": 0.71,
    "calibration.dram_efficiency": 0.9,
    "dram.gathers": True,
}
ADDERS = {
    "core.array.dataflow": "weight_stationary",
    "core.array.rows": 48,
    "core.array.cols": 16,
    "core.array.rows_per_adder": 16,
}
CHIPS = [
    *random_chips(7, seed=5),
    random_chips(1, seed=6)[0].replace_many(CALIBRATION),
    random_chips(1, seed=7)[0].replace_many(ADDERS),
]
LATENCY_COLUMNS = sorted(
    set(range(kernel.HARDWARE_COLUMNS))
    - {kernel.ROW_BYTES, kernel.HOPS, kernel.TREE_LINKS, kernel.REMOTE_SHARE}
)
"""What latency depends on."""
NESTS = {
    f"{name} {index}": nest
    for name, make in GRAPHS.items()
    for graph in [make()]
    for index, nest in enumerate(
        found
        for op in graph.ops
        for found in nests(op, graph.tensors, channels_last(graph))
        if op.kind == name.split()[0] or op.kind == "cache_update"
    )
}


def random_cuts(nest: Nest, chip: Chip, quanta: tuple[int, ...], unit: str, seed: int) -> Cuts:
    """Forty legal ways to cut a nest."""
    rng = np.random.default_rng(seed)
    options = split_candidates(nest, chip.core_count, ALL_ROLES)
    summed = nest.role("k")
    splits, steps = [], []
    while len(splits) < 40:
        split = options[rng.integers(len(options))]
        step = [
            int(rng.integers(1, max(1, d.extent // s) + 1)) for d, s in zip(nest.dims, split, strict=True)
        ]
        if unit == "vector":
            split = tuple(1 if dim in summed else s for dim, s in enumerate(split))
            step = [1 if dim in summed else s for dim, s in enumerate(step)]
        splits.append(split)
        steps.append(step)
    parts, tiles = np.array(splits, np.int64), np.array(steps, np.int64)
    tile = tuple(
        largest_part(dim.extent, parts[:, i] * tiles[:, i], quanta[i]) for i, dim in enumerate(nest.dims)
    )
    return Cuts(parts, tiles, rng.random(40) < 0.5, tile)


@pytest.mark.parametrize("name", NESTS)
def test_any_tiling_costs_what_the_numpy_estimate_says(name: str) -> None:
    nest, rng = NESTS[name], np.random.default_rng(len(name))
    for chip in CHIPS:
        kind = chip.cores[0]
        assert kind.array is not None
        site = make_site(chip, Fabric(chip), kind, tuple(range(chip.core_count)))
        assert site_columns(site, kind.array.dataflow)[LATENCY_COLUMNS] == pytest.approx(
            timing_columns(designs_of([chip]))[0, 0, LATENCY_COLUMNS], rel=1e-12
        )
        for unit, stored in itertools.product(usable_units(nest, kind), (True, False)):
            quanta = cut_quanta(nest, site, unit, kind.array.dataflow)
            cuts = random_cuts(nest, chip, quanta, unit, int(rng.integers(1000)))
            resident = rng.random((40, len(nest.operands))) < 0.3
            stays = tuple((rng.random(len(nest.operands)) < 0.4).tolist())
            dataflow = kind.array.dataflow
            said, mine = (
                how(nest, site, cuts, unit=unit, dataflow=dataflow, resident=resident, stored=stored, staying=stays)
                for how in (estimate, compiled_estimate)
            )
            at = (name, chip.name, unit, stored)
            assert mine.latency_s == pytest.approx(said.latency_s, rel=1e-12), at
            for count in ("dram_bytes", "transfers", "sram_bytes", "accumulator_bytes"):
                assert np.array_equal(getattr(mine, count), getattr(said, count)), (at, count)


def test_lanes_that_are_slow_to_unpack_are_so_in_both() -> None:
    """One lane and three passes a weight: nothing else counts."""
    nest = NESTS["packed_matmul 0"]
    chip = load_chip("tiny", {"core.vector.lanes": 1, "core.vector.functions": {"convert": 3}})
    site = make_site(chip, Fabric(chip), chip.cores[0], (0,))
    cuts = random_cuts(nest, chip, cut_quanta(nest, site, "array", "weight_stationary"), "array", 3)
    resident = np.zeros((40, len(nest.operands)), bool)
    said, mine = (
        how(nest, site, cuts, unit="array", dataflow="weight_stationary", resident=resident)
        for how in (estimate, compiled_estimate)
    )
    assert mine.latency_s == pytest.approx(said.latency_s, rel=1e-12)
    # 24 rows of 200 x 40 weights, each converted and scaled once or more.
    assert (said.latency_s > 200 * 40 * 4 / chip.clock_hz).all()


@pytest.mark.parametrize("quantum", [1, 8, 48])
def test_largest_parts_are_those_of_the_grid(quantum: int) -> None:
    parts = np.arange(1, 200, dtype=np.int64)
    for extent in (199, 200, 384, 1000):
        expected = largest_part(extent, parts, quantum)
        assert [tiles.largest_part(extent, int(p), quantum) for p in parts] == expected.tolist()


def test_the_kernel_has_the_law_of_every_dataflow() -> None:
    """But row_stationary, which is no systolic array: such chips, and those that deal tiles, are refused in words."""
    assert (*DATAFLOWS, "row_stationary") == get_args(Dataflow)
    for chip in ("eyeriss_v1", "a100", "tpu_v4"):
        with pytest.raises(InputError, match=f"no law for .* of chip '{chip}'"):
            timing_columns(designs_of([load_chip(chip)]))
    packed = load_chip("tiny", {"core.sram.padded_rows": False})
    with pytest.raises(InputError, match="no law for bank conflicts"):
        timing_columns(designs_of([packed]))
