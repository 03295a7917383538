"""Sums of dealt tiles: steps as even as a kernel's main loop, parts added by another; what events make of them."""

import math
from dataclasses import replace

import numpy as np
import pytest

from sim.cost.tile_cycles import DEPTH
from sim.cost.work import array_law
from sim.engine import compiled
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.hw.chip import Chip, load_chip
from sim.mapping.fabric import Fabric
from sim.mapping.partition import Assignment
from sim.mapping.plan import make_plan
from sim.mapping.step import Step, closed_form_s
from sim.passes import default_passes
from sim.pipeline import plan, simulate
from sim.program import Int64, Kind, Segment
from sim.validate.planned import launches_s


def product(m: int, n: int, k: int, dtype: str = "fp16") -> Graph:
    builder = GraphBuilder("product", dtype)
    out = builder.matmul(builder.input("a", (m, k)), builder.weight((k, n), "b"), name="matmul")
    return builder.build([out], kernel=True)


def planned(graph: Graph, chip: Chip) -> tuple[float, tuple[Step, ...]]:
    """Seconds of the closed form without launches, and the steps of the plan."""
    graph = default_passes(graph)
    found = make_plan(graph, chip, Fabric(chip), Assignment(chip, names=tuple(op.name for op in graph.ops)))
    return closed_form_s(found.steps, found.segments), found.steps


@pytest.mark.parametrize("shape", [(2, 8192, 14336), (24, 4096, 7168), (64, 8192, 22016), (16, 2560, 8192)])
def test_sums_are_cut_evenly_and_events_take_as_long_as_the_plan(shape: tuple[int, int, int]) -> None:
    """224, 112 and 344 blocks of 64: powers of two cut them into steps of one and of two blocks by turns, with which
    the events of an A100 took 15, 20 and 43 % longer than the plan. The last of them is split."""
    chip = load_chip("a100")
    closed_s, steps = planned(product(*shape), chip)
    for step in steps:
        (k,) = step.nest.role("k")
        assert shape[2] // 64 % (step.tiling.steps[k] * step.tiling.splits[k]) == 0
    report = simulate(product(*shape), chip)
    assert report["latency_s"] == pytest.approx(closed_s + launches_s(steps, chip), rel=0.09)
    assert sum(report.tables["ops"]["launch_s"]) == pytest.approx(launches_s(steps, chip))


def timed(graph: Graph, chip: Chip) -> tuple[Segment, Int64, Int64]:
    """The only segment of a program, and when its tasks start and finish."""
    _, _, program = plan(graph, chip)
    (segment,), (timeline,) = program.segments, compiled.run(program).segments
    return segment, timeline.start, timeline.finish


@pytest.mark.parametrize("shape", [(16, 2560, 8192), (128, 8192, 14336)])
def test_parts_of_a_sum_are_added_by_a_kernel_of_its_own(shape: tuple[int, int, int]) -> None:
    """One wave of 80 parts, and one of 80 behind four of 108: the second launch waits for every product, and no part of
    the last wave leaves its core before it is over."""
    chip = load_chip("a100")
    assert chip.cache is not None
    segment, start, finish = timed(product(*shape), chip)
    (last,) = np.unique(segment.op[segment.kind == Kind.SEND])[-1:]
    launches = np.flatnonzero(segment.kind == Kind.BARRIER)
    assert len(launches) == 2
    first, second = sorted(launches.tolist(), key=lambda task: int(start[task]))
    assert start[second] >= finish[segment.kind == Kind.MATMUL].max()
    sends = (segment.kind == Kind.SEND) & (segment.op == last)
    launch_ps = chip.calibration.launch_overhead_ps
    assert start[sends].min() == finish[second] == start[second] + launch_ps
    assert finish[first] == start[first] + launch_ps + chip.calibration.contraction_overhead_ps
    # The first loads find parts in the cache, which is farther than another core.
    heads = np.unique(segment.dur[sends])
    assert heads.tolist()[-1] == 20_000 + 74_000 + chip.cache.latency_ps


def test_a_whole_sum_is_one_kernel() -> None:
    segment, *_ = timed(product(64, 8192, 2048), load_chip("a100"))
    assert not (segment.kind == Kind.SEND).any()
    assert (segment.kind == Kind.BARRIER).sum() == 1


def test_a_sum_is_left_whole_where_another_launch_takes_longer_than_it_saves() -> None:
    chip = load_chip("a100")
    slow = chip.with_calibration(replace(chip.calibration, launch_overhead_ps=60_000_000))
    parts = [math.prod(planned(product(16, 2560, 8192), one)[1][0].tiling.splits) for one in (chip, slow)]
    assert parts == [2, 1]


@pytest.mark.parametrize(("dtype", "depth"), [("fp16", 64), ("int8", 128), ("tf32", 32)])
def test_main_loops_go_on_by_as_many_bytes_in_every_format(dtype: str, depth: int) -> None:
    """128 B: CUTLASS's kernels for tensor cores take 64 columns of fp16 at a time and 128 of int8."""
    chip, graph = load_chip("a100"), default_passes(product(256, 256, 1920, dtype))
    found = make_plan(graph, chip, Fabric(chip), Assignment(chip, names=tuple(op.name for op in graph.ops)))
    step = found.steps[0]
    (k,) = step.nest.role("k")
    assert step.tiling.quanta[k] == depth
    assert 1920 // depth % (step.tiling.steps[k] * step.tiling.splits[k]) == 0
    law, _ = array_law(chip.cores[0], dtype, "output_stationary", (16, 16), 0)
    assert law[DEPTH] == depth
