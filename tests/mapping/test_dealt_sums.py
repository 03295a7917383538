"""Steps of the sums of dealt tiles: as a kernel's main loop, even; and what events make of them."""

import pytest

from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.hw.chip import load_chip
from sim.mapping.fabric import Fabric
from sim.mapping.partition import Assignment
from sim.mapping.plan import make_plan
from sim.mapping.step import closed_form_s
from sim.passes import default_passes
from sim.pipeline import simulate
from sim.units import PS_PER_S


def product(m: int, n: int, k: int) -> Graph:
    builder = GraphBuilder("product", "fp16")
    out = builder.matmul(builder.input("a", (m, k)), builder.weight((k, n), "b"), name="matmul")
    return builder.build([out], kernel=True)


@pytest.mark.parametrize("shape", [(2, 8192, 14336), (24, 4096, 7168), (64, 8192, 22016)])
def test_sums_are_cut_evenly_and_events_take_as_long_as_the_plan(shape: tuple[int, int, int]) -> None:
    """224, 112 and 344 blocks of 64: powers of two cut them into steps of one and of two blocks by turns, with which
    the events of an A100 took 15, 20 and 43 % longer than the plan."""
    chip, graph = load_chip("a100"), default_passes(product(*shape))
    plan = make_plan(graph, chip, Fabric(chip), Assignment(chip, names=tuple(op.name for op in graph.ops)))
    for step in plan.steps:
        (k,) = step.nest.role("k")
        assert shape[2] // 64 % (step.tiling.steps[k] * step.tiling.splits[k]) == 0
    report = simulate(product(*shape), chip)
    (op, *_) = plan.steps
    launch_s = chip.calibration.launch_ps(1 + len(op.nest.operands), contraction=True) / PS_PER_S
    assert report["latency_s"] == pytest.approx(closed_form_s(plan.steps, plan.segments) + launch_s, rel=0.09)
