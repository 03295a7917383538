"""The critical path's pieces, one by one, and their sum."""

from __future__ import annotations

import numpy as np
import pytest
from programs import (
    ACROSS,
    ARRAY,
    ARRAY1,
    DMA0,
    DRAM,
    LOAD_QUEUE,
    LOAD_QUEUE1,
    QUEUES,
    SEND_QUEUE,
    STORE_QUEUE,
    TO_CORE0,
    TO_CORE1,
    VECTOR,
    Builder,
    operator,
    simulate,
)

from sim.cost.transfers import program_routes
from sim.program import Kind
from sim.report.causes import explain
from sim.report.contention import limiting_links
from sim.report.critical_path import CAUSES, critical_path


def _pieces(build: Builder) -> tuple[list[tuple[int, int, str, int]], int]:
    """(task, resource, cause, ticks) of every piece, and the end of the run."""
    program, timeline = simulate(build.segment())
    segment, times = program.segments[0], timeline.segments[0]
    starts, limiting = explain(program, segment, times), limiting_links(program, segment, times)
    found = critical_path(program, segment, times, starts, program_routes(program), limiting)
    columns = (found.task, found.resource, found.cause, found.duration)
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [(task, resource, CAUSES[cause], ticks) for task, resource, cause, ticks in rows], times.end


def _link(number: int) -> int:
    return len(QUEUES) + number


def test_load_compute_store_is_six_pieces() -> None:
    build = Builder([operator()])
    load = build.move(Kind.LOAD, LOAD_QUEUE, 100, TO_CORE0)
    compute = build.compute(ARRAY, 40, after=[load])
    build.move(Kind.STORE, STORE_QUEUE, 30, TO_CORE0, latency=5, after=[compute])
    pieces, end = _pieces(build)
    assert pieces == [
        (0, LOAD_QUEUE, "latency", 10),
        (0, _link(DRAM), "bandwidth", 100),
        (1, ARRAY, "compute", 40),
        (2, STORE_QUEUE, "latency", 5),
        (2, _link(DRAM), "bandwidth", 30),
    ]
    assert end == 185


def test_sharing_a_link_is_contention_and_not_bandwidth() -> None:
    build = Builder([operator()])
    build.move(Kind.LOAD, LOAD_QUEUE, 100, TO_CORE0)
    build.move(Kind.LOAD, LOAD_QUEUE1, 100, TO_CORE1)
    pieces, end = _pieces(build)
    # Both at half of 1 B/tick from 10 on: 200 ticks, of which 100 are the other's.
    assert end == 210
    assert [piece[2:] for piece in pieces] == [("latency", 10), ("bandwidth", 100), ("contention", 100)]


def test_only_the_held_part_of_an_overlapped_task_is_on_the_path() -> None:
    build = Builder([operator()])
    build.compute(ARRAY, 100, hold=60)
    build.compute(ARRAY, 100, hold=60)
    last = build.compute(ARRAY, 100, hold=60)
    build.compute(VECTOR, 7, after=[last])
    pieces, end = _pieces(build)
    assert end == 60 + 60 + 100 + 7
    assert [piece[3] for piece in pieces] == [60, 60, 100, 7]


def test_a_send_is_limited_by_its_slowest_link_and_a_release_is_waited_for() -> None:
    build = Builder([operator()])
    first = build.compute(ARRAY, 20, release=1000)
    sent = build.move(Kind.SEND, SEND_QUEUE, 200, ACROSS, latency=4, after=[first])
    build.compute(ARRAY1, 3, after=[sent])
    pieces, end = _pieces(build)
    assert end == 1000 + 20 + 4 + 100 + 3
    # All three links of the route carry 2 B/tick; the first of them is named.
    assert pieces == [
        (0, ARRAY, "release", 1000),
        (0, ARRAY, "compute", 20),
        (1, SEND_QUEUE, "latency", 4),
        (1, _link(DMA0), "bandwidth", 100),
        (2, ARRAY1, "compute", 3),
    ]


@pytest.mark.parametrize("seed", range(20))
def test_the_pieces_add_up_to_the_latency_to_the_tick(seed: int) -> None:
    rng = np.random.default_rng(seed)
    build = Builder([operator()])
    queues = [(ARRAY, None), (VECTOR, None), (ARRAY1, None), (LOAD_QUEUE, TO_CORE0), (LOAD_QUEUE1, TO_CORE1)]
    for task in range(60):
        queue, route = queues[int(rng.integers(len(queues)))]
        after = sorted(set(rng.integers(0, task, size=2).tolist())) if task and rng.random() < 0.7 else []
        if route is None:
            dur = int(rng.integers(2, 300))
            build.compute(queue, dur, hold=int(rng.integers(1, dur)), after=after)
        else:
            build.move(Kind.LOAD, queue, int(rng.integers(1, 400)), route, after=after)
    pieces, end = _pieces(build)
    assert sum(piece[3] for piece in pieces) == end
    assert min(piece[3] for piece in pieces) > 0
