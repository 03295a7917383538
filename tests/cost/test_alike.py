"""Designs that are alike are searched together: what each gets is what a search of its own finds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from operator_graphs import GRAPHS
from random_chips import base_chip
from test_kernel import NESTS
from test_tile_search import AUTO

from sim.cost import kernel, nest_work, tile_traffic
from sim.cost.alike import BEST, FEWEST, LEFT, NODE_FIRST, NODE_STOP, RIGHT, WORST, Alike, alike
from sim.cost.bound import Model, compile_model
from sim.cost.branch import CUT, NOTHING_S, ORDER, list_cuts, search_cuts
from sim.cost.core_cuts import granules, joined_cuts
from sim.cost.designs import designs_from, leaves_alike
from sim.cost.hardware import rate_columns, timing_columns
from sim.cost.listed import scan_list
from sim.cost.scan import scan_role
from sim.cost.tile_search import Inputs, best_tilings, fill_unit, new_search, unit_work
from sim.graph.builder import GraphBuilder
from sim.graph.nest import Nest
from sim.hw.chip import Chip

Columns = Mapping[str, Sequence[object]]


def inputs_of(model: Model, columns: Columns, base: Chip | None = None) -> tuple[Inputs, Alike]:
    designs = designs_from(base or base_chip(), columns)
    hardware, rates = timing_columns(designs), rate_columns(designs, model.formats)
    work, work_of = nest_work.work_tables(model.nests, designs)
    cuts, cuts_of = joined_cuts(model.nests, model.tables, model.known_cuts, AUTO, designs)
    given = Inputs(
        hardware, rates, model.format_of, work, work_of, cuts.splits, cuts_of, cuts.wires, cuts.shares,
        cuts.share_count, *granules(hardware),
    )  # fmt: skip
    return given, alike(hardware, (rates, work_of, cuts_of), 0.5)


def searched(model: Model, given: Inputs, groups: Alike) -> tuple[np.ndarray, ...]:
    shape = (len(given.hardware), len(model.nests))
    cost, traffic = np.empty((*shape, kernel.COSTS)), np.zeros((*shape, tile_traffic.TRAFFIC))
    choice = np.zeros((*shape, 4 + 2 * model.tables.extent.shape[1]), np.int64)
    best_tilings(model.tables, given, groups, cost, traffic, choice)
    return cost, traffic, choice


def model_of_all_kinds() -> Model:
    """A convolution with a kernel window, a GEMM with little to compute, pooling, one operator for the vector unit."""
    b = GraphBuilder("kinds", "int8")
    x = b.conv(b.input("x", (1, 12, 14, 14)), 40, 3, padding="same")
    x = b.pool(b.relu(x), "max", 2, 2, 0)
    left = b.matmul(b.input("y", (3, 9, 200)), b.input("z", (3, 200, 130)))
    return compile_model(b.build([x, b.softmax(left)]))


def columns_of(rng: np.random.Generator, count: int, spread: float) -> dict[str, list[object]]:
    """Designs of two kinds, whose speeds and scratchpads differ by a factor `spread` at most; whether ports are slower
    than the DRAM or scratchpads than arrays is drawn for all."""

    def around(options: Sequence[float], unit: str) -> list[object]:
        middle = float(rng.choice(options))
        drawn = middle * rng.choice([1.0, spread**0.3, spread**0.5, spread], count)
        return [f"{value:.0f}{unit}" if unit else int(value) for value in drawn.tolist()]

    dataflow = str(rng.choice(["weight_stationary", "output_stationary", "input_stationary"]))
    return {
        "core.array.rows": [(16, 48)[i] for i in rng.integers(0, 2, count)],
        "core.array.cols": [int(rng.choice([16, 32]))] * count,
        "core.array.dataflow": [dataflow] * count,
        "clock": around([500, 1500], " MHz"),
        "core.sram.size": around([9000, 64000], " B"),
        "core.sram.bandwidth": around([3, 40, 1000], " GB/s"),
        "core.vector.lanes": around([4, 64], ""),
        "core.dma.bandwidth": around([2, 16, 128], " GB/s"),
        "core.dma.outstanding": around([1, 4], ""),
        "core.dma.setup_latency": around([20, 400], " ns"),
        "interconnect.link_bandwidth": around([4, 64, 512], " GB/s"),
    }


@pytest.mark.parametrize(("seed", "spread"), [(3, 1.5), (9, 1.5), (10, 1.5), (6, 3.0), (10, 3.0)])
def test_designs_searched_together_choose_what_each_would_alone(seed: int, spread: float) -> None:
    model = model_of_all_kinds()
    check_together(model, columns_of(np.random.default_rng(seed), 150, spread), len(model.nests))


@pytest.mark.parametrize("seed", [1, 2])
def test_so_do_those_that_unpack_weights(seed: int) -> None:
    model = compile_model(GRAPHS["packed_matmul by columns"]())
    slow = {"core.vector.lanes": [1, 2, 3] * 50, "interconnect.link_bandwidth": ["512 GB/s"] * 150}
    check_together(model, columns_of(np.random.default_rng(seed), 150, 1.5) | slow, len(model.nests))


def check_together(model: Model, columns: Columns, choices: int) -> None:
    """What is found together is what is found alone, at least so many different tilings among them."""
    given, groups = inputs_of(model, columns)
    assert len(groups.roots) == 2
    assert len(groups.nodes) > 8
    together = searched(model, given, groups)
    alone = searched(model, given, groups._replace(roots=groups.roots[:0]))
    assert all(np.array_equal(one, other, equal_nan=True) for one, other in zip(together, alone, strict=True))
    choice = together[2]
    assert len(np.unique(choice.reshape(-1, choice.shape[2]), axis=0)) > choices


def test_branches_hold_their_designs_between_a_best_and_a_worst_chip() -> None:
    given, groups = inputs_of(model_of_all_kinds(), columns_of(np.random.default_rng(4), 60, 3.0))
    hardware, total = given.hardware[:, 0], 0
    assert sorted(groups.order.tolist()) == list(range(60))
    for node, (best, worst) in zip(groups.nodes, groups.hardware, strict=True):
        mine = groups.order[node[NODE_FIRST] : node[NODE_STOP]]
        assert len(set(groups.same[mine].tolist())) == 1
        for column in (kernel.PERIOD_S, kernel.LANE_PART, kernel.CORE_S, kernel.HEAD_S, kernel.FEED_CYCLES):
            assert best[column] == hardware[mine, column].min()
            assert worst[column] == hardware[mine, column].max()
        assert best[kernel.HOP_BW] == hardware[mine, kernel.HOP_BW].max()
        assert np.array_equal(best[kernel.DRAM_COST :], hardware[mine[0], kernel.DRAM_COST :])
        if node[LEFT] >= 0:
            left, right = groups.nodes[node[LEFT]], groups.nodes[node[RIGHT]]
            assert (left[NODE_FIRST], left[NODE_STOP], right[NODE_STOP]) == (
                node[NODE_FIRST],
                right[NODE_FIRST],
                node[NODE_STOP],
            )
        else:
            total += len(mine)
    assert total == 60
    assert np.array_equal(groups.node_limits[:, BEST] >= groups.node_limits[:, WORST], np.ones((len(groups.nodes), 2)))


def test_a_design_with_few_like_it_is_in_no_tree() -> None:
    columns = {"core.array.rows": [16] * (FEWEST - 1) + [32] * FEWEST, "clock": ["1 GHz"] * (2 * FEWEST - 1)}
    _, groups = inputs_of(model_of_all_kinds(), columns)
    spans = groups.nodes[groups.roots, NODE_FIRST], groups.nodes[groups.roots, NODE_STOP]
    assert [groups.order[a:b].tolist() for a, b in zip(*spans, strict=True)] == [
        list(range(FEWEST - 1, 2 * FEWEST - 1))
    ]


@pytest.mark.parametrize("name", ["conv 0", "conv grouped 0", "matmul deep 0", "elementwise 0"])
@pytest.mark.parametrize("link", ["8 GB/s", "512 GB/s"])
def test_a_list_has_every_tiling_below_its_limit(name: str, link: str) -> None:
    nest: Nest = NESTS[name]
    model = Model(None, (nest,), np.ones(1, np.int64), 0, 0, 0)  # type: ignore[arg-type]
    columns = {"core.sram.size": ["64 KiB"] * FEWEST, "interconnect.link_bandwidth": [link] * FEWEST}
    given, groups = inputs_of(model, columns)
    t, hw, limit = model.tables, given.hardware[0, 0], float(groups.limits[0, 0, 0])
    w = unit_work(t, 0, given, 0, 0, not nest.contraction)
    s = new_search(t, given)
    fill_unit(t, 0, given, 0, 0, w.vector, s)
    first, stop = given.partitions_of[0, 0, 0]
    best_s = search_cuts(t, 0, hw, w, first, stop, limit, NOTHING_S, s)
    choice = int(s.found[CUT]), int(s.found[ORDER]), *s.best.tolist()
    most_s = 1.7 * best_s
    count = list_cuts(t, 0, hw, w, first, stop, limit, most_s, 20_000, s)
    assert list_cuts(t, 0, hw, w, first, stop, limit, most_s, count - 1, s) == -1
    assert list_cuts(t, 0, hw, w, first, stop, limit, most_s, count, s) == count > 5
    listed = {tuple(row): place for place, row in enumerate(s.lists.tilings[:count].tolist())}
    scan_list(hw, w, limit, s.lists.columns, 0, count, s.lists.seconds)
    below, equal = 0, []
    for cut in range(first, stop):
        if w.vector and s.cuts.summed[cut] > 1:
            continue
        rows = [range(s.cuts.first[cut, role], s.cuts.stop[cut, role]) for role in range(4)]
        for *at, order in itertools.product(*rows, range(2)):
            s.at[:] = at
            cost, found, _ = scan_role(
                t, 0, hw, w, s.levels, s.cuts, cut, s.at, 3, at[3], at[3] + 1, order, limit, np.inf, s.lines,
                kernel.TRAFFIC_SHARE,
            )
            twice = s.levels[at[1], 0] > 1 and s.levels[at[2], 0] > 1
            if found < 0 or cost > most_s or (order == 1 and not twice):
                continue
            below += 1
            if cost <= best_s * (1 + 1e-12):
                equal.append((cut, order, *at))
            seconds = s.lists.seconds[listed[(cut, order, *at)]]
            assert seconds <= cost * (1 + 1e-12)
            assert seconds >= cost * (0.9 if link == "8 GB/s" else 1 - 1e-12)
    assert below > 5
    # Of equal ones the first.
    assert choice == min(equal)
    assert len(equal) > 1 or name != "conv grouped 0"


CHANGES: dict[str, tuple[object, object]] = {
    "clock": ("1 GHz", "1.5 GHz"),
    "core.vector.lanes": (16, 128),
    "core.sram.size": ("64 KiB", "1 MiB"),
    "core.sram.bandwidth": ("200 GB/s", "900 GB/s"),
    "core.accumulator.bandwidth": ("100 GB/s", "900 GB/s"),
    "core.dma.bandwidth": ("8 GB/s", "90 GB/s"),
    "core.dma.channels": (1, 4),
    "core.dma.outstanding": (1, 4),
    "core.dma.setup_latency": ("20 ns", "400 ns"),
    "interconnect.link_bandwidth": ("32 GB/s", "90 GB/s"),
    "interconnect.hop_latency": ("1 ns", "30 ns"),
    "host.latency": ("1 us", "2 us"),
    "core.array.rows": (16, 32),
    "core.array.cols": (16, 32),
    "core.array.count": (1, 2),
    "core.array.dataflow": ("weight_stationary", "output_stationary"),
    "core.array.double_buffered_weights": (True, False),
    "core.accumulator.size": ("64 KiB", "1 MiB"),
    "core.count": (4, 8),
    "dram.channels": (8, 16),
}


@pytest.mark.parametrize("path", CHANGES)
def test_which_parameters_leave_designs_alike(path: str) -> None:
    first, second = CHANGES[path]
    _, groups = inputs_of(model_of_all_kinds(), {path: [first] * FEWEST + [second] * FEWEST})
    together = len(groups.roots) == 1
    assert together == (list(CHANGES).index(path) < list(CHANGES).index("core.array.rows"))
    assert leaves_alike(base_chip(), path) == together
