"""Operators of a GPU are kernels of one stream: none begins before the one before it has ended."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from sim.engine import compiled
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.hw.calibration import UNCALIBRATED
from sim.hw.chip import Chip, load_chip
from sim.pipeline import plan
from sim.program import Kind


def two_ways(rows: int = 300) -> Graph:
    """Two products that need nothing of each other, and the softmax of the first."""
    builder = GraphBuilder("two_ways", "fp16")
    x = builder.input("x", (rows, 256))
    left, right = (builder.linear(x, 256, bias=False, name=name) for name in ("left", "right"))
    return builder.build([builder.softmax(left, name="softmax"), right], kernel=True)


def stretches(graph: Graph, chip: Chip) -> list[tuple[str, int, int, int]]:
    """Of every operator in order: its name, when its launch begins, and first and last tick of its other tasks."""
    _, _, program = plan(graph, chip)
    (segment,) = program.segments
    (timeline,) = compiled.run(program).segments
    start, finish = timeline.start, timeline.finish
    names = [op.name for op in segment.ops]
    found = []
    for name in dict.fromkeys(names):
        mine = np.isin(segment.op, [row for row, its in enumerate(names) if its == name])
        launch, work = mine & (segment.kind == Kind.BARRIER), mine & (segment.kind != Kind.BARRIER)
        found.append((name, int(start[launch].min()), int(start[work].min()), int(finish[work].max())))
    return found


@pytest.mark.parametrize("chip", ["a100", "mi210"])
def test_a_kernel_is_launched_when_the_one_before_has_ended(chip: str) -> None:
    gpu = load_chip(chip)
    kernels = stretches(two_ways(), gpu)
    assert [name for name, *_ in kernels] == ["left", "right", "softmax"]
    overhead_ps = gpu.calibration.launch_ps(3, contraction=False)
    for before, after in pairwise(kernels):
        assert after[1] >= before[3]
        assert after[2] >= before[3] + overhead_ps


def test_nor_do_kernels_without_a_launch_overlap() -> None:
    kernels = stretches(two_ways(), load_chip("a100").with_calibration(UNCALIBRATED))
    for before, after in pairwise(kernels):
        assert after[2] > before[3]


def test_a_launch_waits_for_the_kernel_before_alone() -> None:
    """Which waited for the one before it: edges grow with the tasks, not with their square."""
    _, _, program = plan(two_ways(), "a100")
    (segment,) = program.segments
    names = np.array([op.name for op in segment.ops])[segment.op]
    launches = np.flatnonzero(np.array([queue.unit == "dispatch" for queue in program.queues])[segment.queue])
    before = [set(names[segment.pidx[segment.pptr[task] : segment.pptr[task + 1]]]) for task in launches]
    assert before == [set(), {"left"}, {"right"}]
