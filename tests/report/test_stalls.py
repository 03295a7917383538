"""Where the time of a unit goes, by closed form, and that it all adds up."""

from __future__ import annotations

import numpy as np
import pytest
from programs import (
    ACROSS,
    ARRAY,
    ARRAY1,
    LOAD_QUEUE,
    LOAD_QUEUE1,
    SEND_QUEUE,
    STORE_QUEUE,
    TO_CORE0,
    TO_CORE1,
    VECTOR,
    Builder,
    operator,
    simulate,
)

from sim.program import Kind
from sim.report.causes import explain
from sim.report.contention import limiting_links
from sim.report.stalls import STALLS, compute_queues, operator_time, queue_stalls, segment_overlap


def _stalls(build: Builder) -> dict[int, dict[str, int]]:
    """Ticks by cause of every compute queue, without the zeros."""
    program, timeline = simulate(build.segment())
    segment, times = program.segments[0], timeline.segments[0]
    starts = explain(program, segment, times)
    table = queue_stalls(program, segment, times, starts, limiting_links(program, segment, times))
    assert (table.sum(axis=1) == times.end).all()
    rows = (dict(zip(STALLS, row, strict=True)) for row in table.tolist())
    named = zip(compute_queues(program).tolist(), rows, strict=True)
    return {queue: {name: ticks for name, ticks in row.items() if ticks} for queue, row in named}


def test_waiting_for_a_load_is_latency_and_dram() -> None:
    build = Builder([operator()])
    first = build.compute(ARRAY, 10)
    load = build.move(Kind.LOAD, LOAD_QUEUE, 100, TO_CORE0, after=[first])
    build.compute(ARRAY, 30, after=[load])
    assert _stalls(build)[ARRAY] == {"busy": 40, "transfer_latency": 10, "dram": 100}


def test_only_the_exposed_end_of_a_transfer_counts() -> None:
    build = Builder([operator()])
    load = build.move(Kind.LOAD, LOAD_QUEUE, 100, TO_CORE0)
    build.compute(ARRAY, 50)
    build.compute(ARRAY, 30, after=[load])
    assert _stalls(build)[ARRAY] == {"busy": 80, "dram": 60}


def test_a_gap_is_followed_through_a_chain_of_causes() -> None:
    build = Builder([operator()])
    first = build.compute(ARRAY, 10)
    other = build.compute(ARRAY1, 50, after=[first])
    sent = build.move(Kind.SEND, SEND_QUEUE, 40, ACROSS, latency=6, after=[other])
    build.compute(ARRAY, 5, after=[sent])
    found = _stalls(build)
    assert found[ARRAY] == {"busy": 15, "dependency": 50, "transfer_latency": 6, "interconnect": 20}
    # The other core waited for the first, and had nothing to do at the end.
    assert found[ARRAY1] == {"busy": 50, "dependency": 10, "no_work": 31}


def test_a_transfer_that_meets_others_on_the_dram_waits_for_the_dram() -> None:
    build = Builder([operator()])
    first = build.compute(ARRAY, 10)
    build.move(Kind.LOAD, LOAD_QUEUE1, 1000, TO_CORE1)
    load = build.move(Kind.LOAD, LOAD_QUEUE, 100, TO_CORE0, after=[first])
    build.compute(ARRAY, 5, after=[load])
    # 10 to 20 latency, then half of the DRAM's byte per tick: 200 ticks.
    found = _stalls(build)
    assert found[ARRAY] == {"busy": 15, "transfer_latency": 10, "dram": 200, "fill_drain": 1010 + 100 - 225}


def test_before_the_first_and_after_the_last_compute_is_fill_and_drain() -> None:
    build = Builder([operator()])
    load = build.move(Kind.LOAD, LOAD_QUEUE, 90, TO_CORE0)
    compute = build.compute(ARRAY, 25, after=[load])
    build.move(Kind.STORE, STORE_QUEUE, 15, TO_CORE0, after=[compute])
    found = _stalls(build)
    assert found[ARRAY] == {"busy": 25, "fill_drain": 100 + 25}
    assert found[VECTOR] == {"no_work": 25, "fill_drain": 125}


def test_a_release_is_a_stall_of_its_own() -> None:
    build = Builder([operator()])
    build.compute(ARRAY, 10)
    build.compute(ARRAY, 10, release=70)
    assert _stalls(build)[ARRAY] == {"busy": 20, "release": 60}


def test_compute_exposed_and_overlapped_transfers_divide_the_run() -> None:
    build = Builder([operator("a"), operator("b")])
    load = build.move(Kind.LOAD, LOAD_QUEUE, 90, TO_CORE0)  # 0-100
    build.compute(ARRAY, 60, after=[load])  # 100-160
    build.move(Kind.LOAD, LOAD_QUEUE, 20, TO_CORE0, after=[load], op=1)  # 100-130
    build.compute(VECTOR, 5, release=200, op=1)  # 200-205
    program, timeline = simulate(build.segment())
    segment, times = program.segments[0], timeline.segments[0]
    overlap = segment_overlap(segment, times)
    assert (overlap.compute, overlap.overlapped, overlap.exposed_transfer, overlap.idle) == (35, 30, 100, 40)
    time = operator_time(segment, times)
    assert time.active.tolist() == [160, 35]
    assert time.compute.tolist() == [60, 5]
    assert time.transfer.tolist() == [100, 30]
    assert time.exposed_transfer.tolist() == [100, 0]


def _covered(intervals: list[tuple[int, int]]) -> set[int]:
    return {tick for start, finish in intervals for tick in range(start, finish)}


@pytest.mark.parametrize("seed", range(12))
def test_overlap_and_operator_times_equal_a_count_of_every_tick(seed: int) -> None:
    rng = np.random.default_rng(seed)
    build = Builder([operator(str(i)) for i in range(3)])
    for task in range(30):
        after = [int(rng.integers(task))] if task and rng.random() < 0.5 else []
        op = int(rng.integers(3))
        if rng.random() < 0.5:
            queue = (ARRAY, VECTOR, ARRAY1)[int(rng.integers(3))]
            build.compute(queue, int(rng.integers(1, 60)), hold=1, after=after, op=op)
        else:
            queue, route = ((LOAD_QUEUE, TO_CORE0), (LOAD_QUEUE1, TO_CORE1))[int(rng.integers(2))]
            build.move(Kind.LOAD, queue, int(rng.integers(1, 80)), route, after=after, op=op)
    program, timeline = simulate(build.segment())
    segment, times = program.segments[0], timeline.segments[0]
    spans = list(zip(times.start.tolist(), times.finish.tolist(), strict=True))
    moves = (segment.route >= 0).tolist()
    compute = _covered([span for span, m in zip(spans, moves, strict=True) if not m])
    transfer = _covered([span for span, m in zip(spans, moves, strict=True) if m])
    overlap, time = segment_overlap(segment, times), operator_time(segment, times)
    assert overlap.compute == len(compute - transfer)
    assert overlap.overlapped == len(compute & transfer)
    assert overlap.exposed_transfer == len(transfer - compute)
    assert overlap.idle == times.end - len(compute | transfer)
    for op in range(3):
        mine = [(span, m) for span, m, o in zip(spans, moves, segment.op.tolist(), strict=True) if o == op]
        moved = _covered([span for span, m in mine if m])
        assert time.active[op] == len(_covered([span for span, _ in mine]))
        assert time.transfer[op] == len(moved)
        assert time.exposed_transfer[op] == len(moved - compute)
    _stalls(build)
