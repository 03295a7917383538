"""What an operator takes at least: by hand, and never above what any plan estimates."""

from __future__ import annotations

import pytest
from operator_graphs import GRAPHS, chip

from sim.graph.builder import GraphBuilder
from sim.graph.load import load_model
from sim.hw.chip import load_chip
from sim.mapping.fabric import Fabric
from sim.mapping.least_time import least_from, least_seconds
from sim.mapping.mapper import map_graph
from sim.mapping.partition import Assignment
from sim.mapping.plan import Slower, closed_form_s, make_plan
from sim.mapping.segments import one_segment
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
