"""Every law, broken once: a report must never be made of a run that breaks one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from programs import (
    ARRAY,
    LOAD_QUEUE,
    LOAD_QUEUE1,
    STORE_QUEUE,
    TO_CORE0,
    TO_CORE1,
    Builder,
    operator,
    small_chip,
)
from programs import simulate as simulate_by_hand

from sim.errors import InvariantViolation
from sim.graph.graph import Graph
from sim.graph.op import Op
from sim.graph.tensor import Tensor
from sim.program import Kind, Program
from sim.report.invariants import _check_queues, check, check_energy
from sim.timeline import SegmentTimeline, Timeline

FIRST, SECOND, THIRD, OTHER, COMPUTE, NEXT, STORE = range(7)


def _run(macs: int = 8) -> tuple[Program, Timeline]:
    build = Builder([operator(macs=macs)])
    for _ in range(3):
        build.move(Kind.LOAD, LOAD_QUEUE, 400, TO_CORE0)
    build.move(Kind.LOAD, LOAD_QUEUE1, 400, TO_CORE1)
    build.compute(ARRAY, 300, hold=200, after=[FIRST, THIRD], release=50)
    build.compute(ARRAY, 250, hold=200)
    build.move(Kind.STORE, STORE_QUEUE, 100, TO_CORE0, after=[NEXT])
    return simulate_by_hand(build.segment())


def _moved(timeline: Timeline, task: int, start: int = 0, finish: int = 0) -> Timeline:
    """The timeline with one task started and finished earlier or later by so many ticks."""
    times = timeline.segments[0]
    starts, finishes = times.start.copy(), times.finish.copy()
    starts[task] += start
    finishes[task] += finish
    return replace(timeline, segments=(replace(times, start=starts, finish=finishes),))


def test_an_honest_run_passes() -> None:
    program, timeline = _run()
    (starts,) = check(program, timeline, small_chip())
    assert starts.blocker[COMPUTE] == THIRD


@pytest.mark.parametrize(
    ("task", "start", "finish", "law"),
    [
        (COMPUTE, -1, -1, "before a predecessor has finished"),
        (NEXT, -1, -1, "before its queue has room"),
        (THIRD, -1, 0, "before its queue has room"),
        (STORE, 1, 1, "later than anything it waits for"),
        (SECOND, 1, 0, "later than anything it waits for"),
        (NEXT, 0, -1, "at least its duration"),
        (NEXT, 0, 1, "finishes in order, without delay"),
        (STORE, 0, -1, "not faster than alone"),
    ],
)
def test_a_task_at_a_wrong_time_is_named(task: int, start: int, finish: int, law: str) -> None:
    program, timeline = _run()
    with pytest.raises(InvariantViolation, match=law) as caught:
        check(program, _moved(timeline, task, start, finish), small_chip())
    assert caught.value.task == task


def test_a_start_before_the_release_is_named() -> None:
    program, timeline = _run()
    segment = program.segments[0]
    late = segment.release.copy()
    late[FIRST] = 1
    broken = replace(program, segments=(replace(segment, release=late),))
    with pytest.raises(InvariantViolation, match="before its release") as caught:
        check(broken, timeline, small_chip())
    assert caught.value.task == FIRST


def test_a_link_cannot_carry_more_than_its_capacity() -> None:
    # Four transfers, each as fast as alone: impossible over one DRAM, and no other law sees it.
    program, timeline = _run()
    times = timeline.segments[0]
    start, finish = times.start.copy(), times.finish.copy()
    finish[[FIRST, SECOND, OTHER]] = 10 + 400
    start[THIRD], finish[THIRD] = 410, 820
    start[COMPUTE], finish[COMPUTE] = 820, 1120
    start[NEXT], finish[NEXT] = 1020, 1270
    start[STORE], finish[STORE] = 1270, 1380
    broken = replace(timeline, segments=(replace(times, start=start, finish=finish),))
    with pytest.raises(InvariantViolation, match="link dram carries its work in time"):
        check(program, broken, small_chip())


@pytest.mark.parametrize(
    ("spoil", "law"),
    [
        (lambda p: replace(p, repeats=(2,)), "other segments"),
        (lambda p: replace(p, route_link=np.zeros_like(p.route_link)), "crosses a link twice"),
    ],
)
def test_a_program_that_is_not_the_timelines_is_refused(
    spoil: Callable[[Program], Program], law: str
) -> None:
    program, timeline = _run()
    with pytest.raises(InvariantViolation, match=law):
        check(spoil(program), timeline, small_chip())


def test_what_tasks_move_is_what_the_drams_links_carry() -> None:
    program, timeline = _run()
    twice = tuple(replace(link, kind="dram") if link.kind == "port" else link for link in program.links)
    with pytest.raises(InvariantViolation, match="operator op: DRAM traffic = loads"):
        check(replace(program, links=twice), timeline, small_chip())


def test_no_queue_is_busy_for_longer_than_the_run() -> None:
    build = Builder([operator()])
    for _ in range(2):
        build.compute(ARRAY, 200)
    for _ in range(3):
        build.move(Kind.LOAD, LOAD_QUEUE, 1, TO_CORE0)
    program, _ = simulate_by_hand(build.segment())

    def times(compute: int, transfer: int) -> SegmentTimeline:
        return SegmentTimeline(np.zeros(5, np.int64), np.array([compute] * 2 + [transfer] * 3), 0)

    _check_queues(program, program.segments[0], times(400, 100))
    with pytest.raises(InvariantViolation, match=r"queue core0\.array is busy"):
        _check_queues(program, program.segments[0], times(399, 100))
    # Three transfers of 400 ticks with room for two at once cannot be over in less than 600.
    with pytest.raises(InvariantViolation, match=r"queue core0\.load is busy"):
        _check_queues(program, program.segments[0], times(400, 400))


def test_tasks_need_an_operator_and_a_time() -> None:
    program, timeline = _run()
    segment, times = program.segments[0], timeline.segments[0]
    orphan = replace(program, segments=(replace(segment, op=np.full_like(segment.op, 1)),))
    with pytest.raises(InvariantViolation, match="belongs to an operator"):
        check(orphan, timeline, small_chip())
    short = replace(timeline, segments=(replace(times, start=times.start[:-1]),))
    with pytest.raises(InvariantViolation, match="other tasks than the program"):
        check(program, short, small_chip())


def _gemm(m: int, k: int, n: int) -> Graph:
    tensors = {
        "a": Tensor("a", (m, k), "int8", "input"),
        "b": Tensor("b", (k, n), "int8", "weight"),
        "c": Tensor("c", (m, n), "int8"),
    }
    attributes = {"transpose_a": False, "transpose_b": False}
    return Graph("gemm", tensors, (Op("mm", "matmul", ("a", "b"), "c", attributes),), ("a",), ("c",))


def test_the_program_does_the_macs_of_the_graph() -> None:
    program, timeline = _run(macs=8)
    check(program, timeline, small_chip(), _gemm(2, 2, 2))
    with pytest.raises(InvariantViolation, match="MACs of the program = MACs of the graph"):
        check(program, timeline, small_chip(), _gemm(2, 2, 3))


def test_two_inputs_are_twice_the_macs() -> None:
    build = Builder([operator(macs=8), operator(macs=8, input_index=1)])
    build.compute(ARRAY, 1000)
    build.compute(ARRAY, 1000, op=1)
    program, timeline = simulate_by_hand(build.segment())
    check(program, timeline, small_chip(), _gemm(2, 2, 2))


def test_no_run_beats_the_peak_of_the_arrays() -> None:
    # 8 MACs per ns on the chip: a run that ends at T ps can have done T / 125 of them.
    _, timeline = _run()
    most = timeline.latency_ps // 125
    program, timeline = _run(macs=most)
    check(program, timeline, small_chip())
    program, timeline = _run(macs=most + 1)
    with pytest.raises(InvariantViolation, match="latency >= MACs / peak"):
        check(program, timeline, small_chip())


def test_energy_adds_up_and_is_not_negative() -> None:
    check_energy({"mac": 1.0, "dram": 2.0}, [1.5, 1.5], 3.0)
    with pytest.raises(InvariantViolation, match="energies of the components"):
        check_energy({"mac": 1.0, "dram": 2.1}, [1.5, 1.5], 3.0)
    with pytest.raises(InvariantViolation, match="energies of the operators"):
        check_energy({"mac": 1.0, "dram": 2.0}, [1.5], 3.0)
    with pytest.raises(InvariantViolation, match="energy of component dram"):
        check_energy({"mac": 1.0, "dram": float("nan")}, [1.0], 1.0)
