"""What an operator takes at least: by hand, and never above what any plan estimates."""

from __future__ import annotations

import itertools
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from operator_graphs import GRAPHS, chip

from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.graph.load import load_model
from sim.hw.chip import Chip, load_chip
from sim.mapping import plan as planning
from sim.mapping.cut_levels import least_cut_s, parts_are_disjoint
from sim.mapping.fabric import Fabric
from sim.mapping.least_time import least_from, least_seconds
from sim.mapping.mapper import map_graph
from sim.mapping.partition import Assignment
from sim.mapping.plan import Slower, make_plan
from sim.mapping.residency import core_boxes
from sim.mapping.search import ALL_ROLES, split_candidates
from sim.mapping.segments import one_segment
from sim.mapping.sites import site_of, usable_units
from sim.mapping.step import closed_form_s
from sim.passes import default_passes


def test_products_at_the_peak_or_weights_at_the_bandwidth() -> None:
    """lepton_m multiplies 8 x 128 x 128 pairs a cycle at 1.2 GHz in int8, 157.3 T/s, and its DRAM moves 819.2 GB/s:
    4096 rows times 1024 x 1024 take 4.295e9 products, 27.3 us; one row reads 1 MiB of weights, 1.28 us."""
    b = GraphBuilder("products", "int8")
    many = b.linear(b.input("x", (4096, 1024)), 1024, bias=False)
    one = b.linear(b.input("y", (1, 1024)), 1024, bias=False)
    graph, on = b.build([many, one]), load_chip("lepton_m")
    first, second = (nests[0] for nests in graph.nests)
    products_s, weights_s = 4096 * 1024**2 / (8 * 128 * 128 * 1.2e9), 1024**2 / 819.2e9
    assert on.dram.bandwidth_bytes_per_s == 819.2e9
    assert least_seconds(first, on) == pytest.approx(products_s)
    assert least_seconds(second, on) == pytest.approx(weights_s)
    found = least_from(graph.nests, on, [3, 1])
    assert found == pytest.approx([3 * products_s + weights_s, weights_s, 0.0])


@pytest.mark.parametrize("name", ["lepton_m", "lepton_s", "small", "ring", "tpu_v4", "a100", "gemmini_16"])
def test_no_plan_is_faster(name: str) -> None:
    on = chip(name) if name in ("small", "ring") else load_chip(name)
    dtype = "fp16" if name == "a100" else "int8"
    graphs = [default_passes(load_model(model, dtype=dtype)) for model in ("lenet5", "conv3x3", "transformer_mt")]
    graphs += [GRAPHS[one]() for one in ("conv grouped", "gather")] if dtype == "int8" else []
    for graph in graphs:
        for mode in ("auto", "data", "channel"):
            plan = make_plan(graph, on, Fabric(on), Assignment(on, mode))
            spent_s = dict.fromkeys(range(len(graph.ops)), 0.0)
            for step in plan.steps:
                spent_s[step.op] += step.tiling.latency_s
            for number, nests in enumerate(graph.nests):
                if spent_s[number]:
                    least_s = sum(least_seconds(nest, on) for nest in nests)
                    assert 0 < least_s <= spent_s[number] or not nests[0].macs, (graph.name, number, mode)


def test_a_plan_is_given_up_only_if_it_is_slower() -> None:
    graph, on = default_passes(load_model("lenet5", dtype="int8")), load_chip("lepton_s")
    segments = one_segment(graph)
    for mode in ("data", "channel"):
        whole = make_plan(graph, on, Fabric(on), Assignment(on, mode))
        whole_s = closed_form_s(whole.steps, segments)
        again = make_plan(graph, on, Fabric(on), Assignment(on, mode), limit_s=whole_s * (1 + 1e-9))
        assert again.steps == whole.steps
        with pytest.raises(Slower):
            make_plan(graph, on, Fabric(on), Assignment(on, mode), limit_s=whole_s * 0.5)
    assert map_graph(graph, on).tasks > 0


def floors_s(graph: Graph, on: Chip, mode: str) -> dict[tuple[int, str], float]:
    """By operator and nest what no tiling under the partitions of a mode is below."""
    fabric, assignment, found = Fabric(on), Assignment(on, mode), {}
    for op, nests in enumerate(graph.nests):
        for nest in nests:
            (kind, cores), *_ = assignment.sites(op)
            site = site_of(on, fabric, kind, cores).value
            array = on.cores[kind].array
            dataflow = array.dataflow if array is not None else "weight_stationary"
            splits, units = assignment.splits(op, nest, site), usable_units(nest, on.cores[kind])
            found[op, nest.name] = least_cut_s(nest, site, splits, units, dataflow, parts_are_disjoint(graph))
    return found


@pytest.mark.parametrize("name", ["lepton_m", "small", "ring", "gemmini_16", "tpu_v4"])
def test_no_step_is_faster_than_its_partitions_allow(name: str) -> None:
    """Wherever operands were found, results stay and however many of the cores work: of every operator and of models
    in which much stays. What decides is that floors are near: at times above nine tenths."""
    on, near = chip(name) if name in ("small", "ring") else load_chip(name), []
    graphs = [build() for build in GRAPHS.values()]
    graphs += [default_passes(load_model(model, dtype="int8")) for model in ("lenet5", "transformer_mt")]
    for graph in graphs:
        for mode in ("auto", "data", "channel", "reduction"):
            least_s = floors_s(graph, on, mode)
            for step in make_plan(graph, on, Fabric(on), Assignment(on, mode)).steps:
                floor_s = least_s[step.op, step.nest.name]
                assert 0 <= floor_s <= step.tiling.latency_s * (1 + 1e-9), (graph.name, step.nest.name, mode)
                near.append(floor_s / step.tiling.latency_s)
    if name == "tpu_v4":
        assert not any(near)  # the kernel has no law for it
    else:
        assert min(near) > 0
        assert max(near) > 0.9


def test_parts_of_results_are_disjoint_where_it_is_said() -> None:
    """Boxes of a result on the cores of every partition, two by two."""
    for name, build in GRAPHS.items():
        graph = build()
        assert parts_are_disjoint(graph)
        for nest in (nest for nests in graph.nests for nest in nests):
            for split in split_candidates(nest, 6, ALL_ROLES - {"k"}):
                boxes = core_boxes(len(nest.operands), nest, split, (1,) * len(split), tuple(range(6)), 6)
                for one, other in itertools.combinations(boxes.held.nonzero()[0].tolist(), 2):
                    apart = (boxes.stop[one] <= boxes.start[other]) | (boxes.stop[other] <= boxes.start[one])
                    assert apart.any(), (name, nest.name, split)


@pytest.mark.parametrize(
    ("change", "disjoint"),
    [
        ({}, True),
        ({"low": 3, "high": 3}, True),
        ({"high": 1}, False),
        ({"denominator": 2}, False),
        ({"terms": ()}, False),
        ({"terms": ((2, 2),), "high": 1}, True),
        ({"terms": ((2, 4), (3, 1))}, False),
        ({"terms": ((3, 1),)}, False),
    ],
)
def test_results_that_overlap_are_noticed(change: dict[str, Any], disjoint: bool) -> None:
    """A convolution whose columns of the result (loop 2) are made wider, fewer, or to depend on its channels (3)."""
    (nest,) = (nest for nests in GRAPHS["conv"]().nests for nest in nests if nest.contraction)
    at = next(at for at, axis in enumerate(nest.out.axes) if axis.terms == ((2, 1),))
    axes = list(nest.out.axes)
    axes[at] = replace(axes[at], **change)
    graph = SimpleNamespace(nests=((replace(nest, out=replace(nest.out, axes=tuple(axes))),),))
    assert parts_are_disjoint(graph) == disjoint


def test_a_plan_that_cannot_win_is_given_up_before_its_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """On lepton_m, whose cores would each load all weights of ResNet-50, or all of its images."""
    graph, on = default_passes(load_model("resnet50", dtype="int8")), load_chip("lepton_m")
    best = make_plan(graph, on, Fabric(on), Assignment(on, "auto"))
    best_s = closed_form_s(best.steps, best.segments)
    monkeypatch.setattr(planning._Planner, "_plan", lambda *_: pytest.fail("a step was planned"))
    for mode in ("data", "channel"):
        with pytest.raises(Slower):
            make_plan(graph, on, Fabric(on), Assignment(on, mode), limit_s=best_s)
