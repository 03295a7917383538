"""What moving boxes takes, compiled: against NumPy's operands and DRAM law, and against brute force."""

from __future__ import annotations

import random

import numpy as np
import numpy.typing as npt
import pytest

from sim.cost.compiled import tables_of
from sim.cost.moves import dram_cost, number_transfers
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.graph.nest import Nest, Operand
from sim.hw.chip import Chip, load_chip
from sim.hw.dram import pattern_efficiency, row_activations
from sim.mapping.loops import Loops
from sim.mapping.search import Tiling
from sim.mapping.weights import dram_law

Int64 = npt.NDArray[np.int64]


def models() -> dict[str, Graph]:
    b = GraphBuilder("conv", "int8")
    x = b.conv(b.input("x", (2, 24, 20, 18)), 40, 3, 2, padding=1, groups=2)
    conv = b.build([b.transpose(b.relu(x), (0, 2, 1, 3))])
    b = GraphBuilder("gather", "int4")
    table = b.linear(b.input("x", (50, 64)), 96)
    return {"conv": conv, "gather": b.build([b.gather(table, b.input("at", (9,), "int32"), 0)])}


def every_nest() -> list[Nest]:
    return [nest for graph in models().values() for nests in graph.nests for nest in nests]


CHIPS = {
    "tiny": load_chip("tiny"),
    "lepton_m": load_chip("lepton_m"),
    "calibrated": load_chip("lepton_m", {"calibration.dram_efficiency": 0.83, "dram.interleave": "64 B"}),
}


def dram_costs(
    chip: Chip, nest: Nest, operand: Operand, extents: Int64, nbytes: Int64, *, store: bool = False
) -> tuple[Int64, float]:
    """Weights and opened rows, summed up, of boxes [..., rank] one after another."""
    number = (*nest.operands, nest.out).index(operand)
    asked = tables_of(nest), number, *dram_law(chip), operand.gathered, store
    none = np.zeros(extents.shape[-1], np.int64)
    found = [dram_cost(*asked, none, extents[at], 0, int(nbytes[at])) for at in np.ndindex(nbytes.shape)]
    weight = np.array([one for one, _ in found], np.int64).reshape(nbytes.shape)
    return weight, sum(rows for _, rows in found)


@pytest.mark.parametrize("chip", CHIPS.values(), ids=CHIPS)
def test_weights_and_rows_are_those_of_the_dram_law(chip: Chip) -> None:
    rng = np.random.default_rng(5)
    operands: list[tuple[Nest, Operand]] = [(n, o) for n in every_nest() for o in (*n.operands, n.out)]
    assert any(o.gathered for _, o in operands)
    assert any(o.channels_last for _, o in operands)
    for nest, operand in operands:
        sizes = np.array([axis.size for axis in operand.axes], np.int64)
        extents = np.where(rng.random((4, 5, len(sizes))) < 0.5, sizes, rng.integers(1, sizes + 1, (4, 5, len(sizes))))
        nbytes = rng.integers(1, 100_000, (4, 5))
        store = operand is nest.out
        weight, opened = dram_costs(chip, nest, operand, extents, nbytes, store=store)
        run, pitch = operand.run_bytes(extents), operand.pitch_bytes(extents)
        efficiency = pattern_efficiency(chip.dram, run, pitch, store=store) * chip.calibration.dram_efficiency
        # In steps of a 32nd of an octave, and never below a byte of payload.
        assert np.all(np.abs(np.log2(np.maximum(256, weight) * np.minimum(efficiency, 1) / 256)) < 1 / 64 + 3e-3)
        rows = row_activations(chip.dram, run, nbytes, operand.span_bytes(extents))
        assert opened == pytest.approx(float(rows.sum()), rel=1e-12)


def test_steps_of_the_weight() -> None:
    """Efficiencies of 1 and of 0.83 with one long run of weights: 256 / efficiency."""
    b = GraphBuilder("gemm", "int8")
    graph = b.build([b.linear(b.input("x", (64, 4096)), 4096)])
    nest = graph.nests[0][0]
    whole = np.array([[4096, 4096]])
    found = {}
    for name in ("lepton_m", "calibrated"):
        weight, _ = dram_costs(CHIPS[name], nest, nest.operands[1], whole, np.array([1 << 24]))
        found[name] = int(weight[0])
    assert found["calibrated"] == pytest.approx(found["lepton_m"] / 0.83, abs=0.51)


def tilings(nest: Nest, rng: random.Random, count: int) -> list[Tiling]:
    found = []
    for _ in range(count):
        splits = tuple(rng.choice([1, 1, 2, 3]) if dim.extent >= 9 else 1 for dim in nest.dims)
        steps = tuple(rng.choice([1, 1, 2, 3]) if dim.extent >= 9 else 1 for dim in nest.dims)
        order = rng.sample(range(len(nest.dims)), len(nest.dims))
        sums = nest.role("k")
        order = [dim for dim in order if dim not in sums] + [dim for dim in order if dim in sums]
        ones = (1,) * len(nest.dims)
        found.append(Tiling(splits, steps, ones, tuple(order), "array", "weight_stationary", 0.0, 0.0, 0, 0))
    return found


def test_cores_that_need_the_same_form_groups() -> None:
    """By the loop ranges themselves: those that move the operand change where a fill begins and between groups only."""
    rng = random.Random(3)
    for nest in every_nest():
        for tiling in tilings(nest, rng, 6):
            loops = Loops(nest, tiling, np.arange(tiling.cores))
            everyone = np.arange(tiling.cores)
            for operand in nest.operands:
                positions = rng.choice([everyone, loops.owners])
                fills = loops.fills(operand, positions)
                dims = sorted(operand.dims)
                ranges = loops.low[dims]
                moved = (ranges[:, :, 1:] != ranges[:, :, :-1]).any(axis=(0, 1))
                assert fills.first.tolist() == [0, *(1 + np.flatnonzero(moved)).tolist()]
                needs = [ranges[:, core].tobytes() for core in positions]
                assert len(set(needs)) == len(fills.members)
                assert sorted(fills.members.ravel().tolist()) == positions.tolist()
                for number, members in enumerate(fills.members):
                    assert len({ranges[:, core].tobytes() for core in members}) == 1
                    assert members.tolist() == [p for p, g in zip(positions, fills.group, strict=True) if g == number]


def test_different_transfers_are_numbered_by_end_weight_and_channel() -> None:
    rng = np.random.default_rng(1)
    for ends, tasks in ((1, 1), (3, 40), (8, 7)):
        weight, channel = rng.integers(256, 261, (ends, tasks)), rng.integers(0, 3, tasks)
        which, asked = np.full((ends, tasks), -1), np.empty((ends * tasks, 3), np.int64)
        count = number_transfers(weight, channel, which, asked)
        wanted = sorted({(e, int(weight[e, t]), int(channel[t])) for e in range(ends) for t in range(tasks)})
        assert [(e, w, c) for e, c, w in asked[:count].tolist()] == wanted
        for e, t in np.ndindex(ends, tasks):
            assert asked[which[e, t]].tolist() == [e, channel[t], weight[e, t]]
