"""Products and drains of all tiles in one call: against the NumPy laws of one tile, and sums tile by tile."""

from __future__ import annotations

import numpy as np
import pytest

from sim.cost.actions import array_actions
from sim.cost.element_passes import drain_passes
from sim.cost.estimate import feeding
from sim.cost.products import drain_ticks, known_drain, tile_products
from sim.cost.work import GemmShape, array_cycles, vector_tile_cycles
from sim.errors import InvariantViolation
from sim.graph.builder import GraphBuilder
from sim.graph.nest import Nest
from sim.hw.chip import load_chip
from sim.hw.core import CoreKind
from sim.mapping.loops import Loops
from sim.mapping.search import Tiling
from sim.program import ticks


def conv() -> Nest:
    b = GraphBuilder("conv", "int8")
    return b.build([b.relu(b.conv(b.input("x", (2, 12, 11, 9)), 20, 3, 1, padding=1, groups=2))]).nests[0][0]


def matmul() -> Nest:
    b = GraphBuilder("matmul", "int8")
    return b.build([b.linear(b.input("x", (37, 90)), 53)]).nests[0][0]


KINDS = {
    "plain": load_chip("lepton_m").cores[0],
    "four arrays": load_chip("lepton_m", {"core.array.count": 4, "core.array.rows": 12, "clock": "940 MHz"}).cores[0],
    "banks": load_chip("lepton_m", {"core.sram.padded_rows": False, "core.sram.bandwidth": "40 GB/s"}).cores[0],
    "slow sums": load_chip("lepton_m", {"core.accumulator.bandwidth": "11 GB/s"}).cores[0],
    "calibrated": load_chip(
        "lepton_m", {"calibration.array_efficiency": 0.7, "calibration.tile_overhead": "30 ns"}
    ).cores[0],
}


def cut(nest: Nest, dataflow: str) -> Loops:
    splits = tuple(2 if dim.extent >= 30 else 1 for dim in nest.dims)
    steps = tuple(2 if dim.extent >= 9 else 1 for dim in nest.dims)
    sums = nest.role("k")
    order = (*(dim for dim in range(len(nest.dims)) if dim not in sums), *sums)
    tiling = Tiling(splits, steps, (1,) * len(nest.dims), order, "array", dataflow, 0.0, 0.0, 0, 0)
    return Loops(nest, tiling, np.arange(tiling.cores))


@pytest.mark.parametrize("dataflow", ["weight_stationary", "output_stationary", "input_stationary"])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("nest", [conv(), matmul()], ids=["conv", "matmul"])
def test_products_are_those_of_every_tile_by_itself(nest: Nest, kind: CoreKind, dataflow: str) -> None:
    loops = cut(nest, dataflow)
    found = tile_products(nest, loops.ranges, kind, dataflow)
    hold, dur = array_cycles(loops.gemm, kind, "int8", dataflow, *feeding(nest, kind, loops.tile, dataflow))
    assert found.hold.tolist() == ticks(hold, kind.clock_hz).tolist()
    assert found.dur.tolist() == ticks(dur, kind.clock_hz).tolist()
    assert kind.array is not None
    rows, cols = kind.array.rows, kind.array.cols
    sums = [int(hold.sum()), 0, 0, 0, 0, 0, 0]
    for core in range(len(loops.cores)):
        macs = 0
        for at in range(loops.iterations):
            gemm = loops.gemm
            count, m, n, k = (int(side[core, at]) for side in (gemm.count, gemm.m, gemm.n, gemm.k))
            macs += count * m * n * k
            # What stays in place is read once, what moves once for every part of that.
            left, right, chain = -(-n // cols), 1, -(-k // rows)
            if dataflow == "input_stationary":
                left, right = 1, -(-m // cols)
            elif dataflow == "output_stationary":
                right, chain = -(-m // rows), 1
            more = (count * m * k * left, count * k * n * right, count * m * n * (chain - 1), count * m * n * chain)
            for column, value in enumerate((*more, count * k * (m + n), count * k * n)):
                sums[1 + column] += value
        assert found.macs[core] == macs
    assert found.sums.tolist() == sums
    counts = array_actions(nest, int(found.macs.sum()), found.sums, nest.out.tensor.elements, kind, 1)
    assert counts["macs"] == nest.macs
    assert counts["array_cycles"] == hold.sum()


def test_dealt_tiles_are_whole_ones_and_slower() -> None:
    """Whatever lies beyond the border, a tile of 64 x 48 is computed; multiply-accumulates are those of the result."""
    nest, kind = matmul(), KINDS["plain"]
    loops = cut(nest, "weight_stationary")
    found = tile_products(nest, loops.ranges, kind, "weight_stationary", sides=(64, 48), slowed=1.25)
    gemm = loops.gemm
    whole = GemmShape(gemm.count, np.full_like(gemm.m, 64), np.full_like(gemm.n, 48), gemm.k)
    hold, _ = array_cycles(whole, kind, "int8", "weight_stationary", (8, 8))
    assert found.hold.tolist() == ticks(np.ceil(hold * 1.25).astype(np.int64), kind.clock_hz).tolist()
    assert int(found.macs.sum()) == nest.macs
    assert found.sums[6] == 48 * int(gemm.k.sum())


def test_tiles_without_size_and_beyond_the_range_are_refused() -> None:
    nest, kind = matmul(), KINDS["plain"]
    low, high = cut(nest, "weight_stationary").ranges
    with pytest.raises(ValueError, match="at least 1"):
        tile_products(nest, (low, low), kind, "weight_stationary")
    with pytest.raises(ValueError, match="beyond the range"):
        tile_products(nest, (low, high + (1 << 60)), kind, "weight_stationary")
    with pytest.raises(InvariantViolation, match="exceed the range of a tick"):
        tile_products(nest, (low, high), kind, "weight_stationary", slowed=1e15)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_drains_are_those_of_the_vector_unit(kind: CoreKind) -> None:
    """Of residual, bias and activation over int8 results: so many elements, their sums of 4 bytes and results of 1."""
    rng = np.random.default_rng(7)
    for nest in (conv(), matmul()):
        rank = len(nest.out.axes)
        start = rng.integers(0, 50, (3, 40, rank))
        stop = start + rng.integers(1, 40, start.shape)
        elements = (stop - start).prod(axis=-1)
        wanted = vector_tile_cycles(elements, drain_passes(nest, kind), kind, elements, 4 * elements)
        found, total = drain_ticks(nest, (start.reshape(-1), stop.reshape(-1)), start.shape, kind)
        assert found.tolist() == ticks(wanted, kind.clock_hz).tolist()
        assert total == int(elements.sum())
        doubled, _ = drain_ticks(
            nest, (start.reshape(-1), stop.reshape(-1)), start.shape, kind, lanes=2 * elements.reshape(-1)
        )
        twice = vector_tile_cycles(2 * elements, drain_passes(nest, kind), kind, elements, 4 * elements)
        assert doubled.tolist() == ticks(twice, kind.clock_hz).tolist()


def test_a_drain_is_known_by_its_vector_unit() -> None:
    """Equal units share an entry, another number of passes for its functions has its own."""
    nest = conv()
    same, other = (  # the bias is an addition
        load_chip("lepton_m", {"core.array.rows": rows, "core.vector.functions.add": passes}).cores[0]
        for rows, passes in ((64, 1), (64, 5))
    )
    plain = known_drain(nest, KINDS["plain"])
    assert known_drain(nest, KINDS["four arrays"])[0] is plain[0]
    assert known_drain(nest, other)[1] > known_drain(nest, same)[1]
