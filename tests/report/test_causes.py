"""Why tasks start when they do."""

from __future__ import annotations

from programs import ARRAY, LOAD_QUEUE, TO_CORE0, Builder, operator, simulate

from sim.program import Kind
from sim.report.causes import Cause, explain


def _causes(build: Builder) -> list[tuple[str, int]]:
    program, timeline = simulate(build.segment())
    starts = explain(program, program.segments[0], timeline.segments[0])
    return [(Cause(c).name, b) for c, b in zip(starts.cause.tolist(), starts.blocker.tolist(), strict=True)]


def test_a_compute_queue_is_let_go_by_hold_predecessor_or_release() -> None:
    build = Builder([operator()])
    first = build.compute(ARRAY, 100, hold=60)
    build.compute(ARRAY, 100)  # at 60, when the hold is over
    third = build.compute(ARRAY, 10, after=[first])  # at 160, the hold of the second
    build.compute(ARRAY, 10, after=[third], release=500)
    assert _causes(build) == [("RELEASE", -1), ("HOLD", 0), ("HOLD", 1), ("RELEASE", -1)]


def test_a_dma_queue_is_let_go_by_room_order_or_predecessor() -> None:
    build = Builder([operator()])
    first = build.move(Kind.LOAD, LOAD_QUEUE, 100, TO_CORE0)  # two in flight share 1 B/tick: both end at 210
    build.move(Kind.LOAD, LOAD_QUEUE, 100, TO_CORE0)
    build.move(Kind.LOAD, LOAD_QUEUE, 50, TO_CORE0)  # room at 210
    busy = build.compute(ARRAY, 1000)
    build.move(Kind.LOAD, LOAD_QUEUE, 50, TO_CORE0, after=[busy])
    build.move(Kind.LOAD, LOAD_QUEUE, 50, TO_CORE0)  # has room, but may not overtake
    assert first == 0
    causes = _causes(build)
    assert [name for name, _ in causes] == ["RELEASE", "ORDER", "ROOM", "RELEASE", "PREDECESSOR", "ORDER"]
    assert [blocker for _, blocker in causes][1:] == [0, 0, -1, 3, 4]


def test_the_last_of_several_predecessors_is_the_cause() -> None:
    build = Builder([operator()])
    early = build.compute(ARRAY, 5)
    late = build.move(Kind.LOAD, LOAD_QUEUE, 90, TO_CORE0)  # 10 + 90 ticks
    build.compute(ARRAY, 7, after=[late, early])
    assert _causes(build)[2] == ("PREDECESSOR", late)
