"""Programs small enough to time by hand; both engines must give these ticks.

A link of 1 TB/s carries one byte per tick, so that every number below can be checked in the head.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from random_programs import TERABYTE_PER_S, Task, build_program

from sim import engine
from sim.engine import reference
from sim.errors import InvariantViolation
from sim.program import MAX_TICKS, Kind, Program
from sim.timeline import Timeline

Run = Callable[[Program], Timeline]
LATENCY = 100
PLAIN = 256


@pytest.fixture(params=["reference", "compiled"])
def run(request: pytest.FixtureRequest) -> Run:
    return lambda program: engine.run(program, request.param)


def load(queue: int, nbytes: int, route: int = 0, **rest: object) -> Task:
    return Task(Kind.LOAD, queue, LATENCY, 0, nbytes, route, **rest)  # type: ignore[arg-type]


def times(run: Run, program: Program) -> list[tuple[int, int]]:
    (segment,) = run(program).segments
    return list(zip(segment.start.tolist(), segment.finish.tolist(), strict=True))


@pytest.mark.parametrize(
    ("capacity", "finish"),
    [
        (TERABYTE_PER_S, LATENCY + 1000),
        (TERABYTE_PER_S * 3 // 4, LATENCY + 1334),  # 1000 / 0.75 = 1333.3, rounded up
        (TERABYTE_PER_S - 1, LATENCY + 1001),  # one unit less per tick leaves 1000 units
        (1 << 30, LATENCY + 16),  # 1000 / 64 = 15.6
        (1 << 40, LATENCY + 1),  # never less than a tick
        (1 << 10, LATENCY + 1000 * 2**14),
    ],
)
def test_a_transfer_takes_its_latency_and_then_bytes_over_capacity(
    run: Run, capacity: int, finish: int
) -> None:
    program = build_program([[load(0, 1000)]], [1], [capacity], [[(0, PLAIN)]])
    assert times(run, program) == [(0, finish)]


def test_the_slowest_link_of_a_route_decides(run: Run) -> None:
    capacities = [TERABYTE_PER_S, TERABYTE_PER_S // 4, TERABYTE_PER_S]
    program = build_program([[load(0, 1000)]], [1], capacities, [[(0, PLAIN), (1, PLAIN), (2, PLAIN)]])
    assert times(run, program) == [(0, LATENCY + 4000)]


def test_two_flows_share_and_the_longer_one_gets_the_whole_link_afterwards(run: Run) -> None:
    program = build_program([[load(0, 500), load(1, 1000)]], [1, 1], [TERABYTE_PER_S], [[(0, PLAIN)]])
    assert times(run, program) == [(0, LATENCY + 1000), (0, LATENCY + 1500)]


def test_a_flow_that_joins_later_slows_the_first(run: Run) -> None:
    tasks = [load(0, 1000), load(1, 1000, release=400)]
    program = build_program([tasks], [1, 1], [TERABYTE_PER_S], [[(0, PLAIN)]])
    # 400 bytes alone, then 600 each at half speed, then the 400 that the second has left
    assert times(run, program) == [(0, LATENCY + 1600), (400, LATENCY + 2000)]


def test_a_weight_costs_time_on_its_own_link_only(run: Run) -> None:
    half_efficient = [[(0, 2 * PLAIN), (1, PLAIN)], [(1, PLAIN)]]
    tasks = [load(0, 1000, route=0), load(1, 1000, route=1)]
    program = build_program([tasks], [1, 1], [TERABYTE_PER_S, TERABYTE_PER_S * 3 // 2], half_efficient)
    # 0.5 bytes per tick through the DRAM; that leaves a whole byte per tick of link 1 to the other flow
    assert times(run, program) == [(0, LATENCY + 2000), (0, LATENCY + 1000)]


def test_flows_of_different_weight_get_equal_rates(run: Run) -> None:
    tasks = [load(0, 1000, route=0), load(1, 1000, route=1)]
    program = build_program([tasks], [1, 1], [TERABYTE_PER_S], [[(0, PLAIN)], [(0, 3 * PLAIN)]])
    assert times(run, program) == [(0, LATENCY + 4000), (0, LATENCY + 4000)]


def test_max_min_of_three_flows_on_two_links(run: Run) -> None:
    """One long flow over both links, one short flow on each; 1 and 2 bytes per tick."""
    routes = [[(0, PLAIN), (1, PLAIN)], [(0, PLAIN)], [(1, PLAIN)]]
    capacities = [TERABYTE_PER_S, 2 * TERABYTE_PER_S]
    half = TERABYTE_PER_S // 2
    assert reference.max_min_rates([tuple(route) for route in routes], capacities) == [half, half, 3 * half]
    tasks = [load(0, 500, 0), load(1, 1000, 1), load(2, 1500, 2)]
    program = build_program([tasks], [1, 1, 1], capacities, routes)
    # the second has 500 left when the other two are through
    assert times(run, program) == [(0, LATENCY + 1000), (0, LATENCY + 1500), (0, LATENCY + 1000)]


def test_a_link_that_is_full_but_for_rounding_binds(run: Run) -> None:
    """Links of 2^20 and 2^20 + 1 units per tick lead into one of 2^21 + 1: half of that, rounded down, is 2^20."""
    routes = [[(0, PLAIN), (2, PLAIN)], [(1, PLAIN), (2, PLAIN)]]
    capacities = [1 << 20, (1 << 20) + 1, (2 << 20) + 1]
    assert reference.max_min_rates([tuple(route) for route in routes], capacities) == [1 << 20, 1 << 20]
    program = build_program([[load(0, 10**7, 0), load(1, 10**7, 1)]], [1, 1], capacities, routes)
    assert times(run, program) == [(0, LATENCY + 16 * 10**7)] * 2


def test_no_flow_stands_still(run: Run) -> None:
    """Five flows at 1/256 efficiency would each get 0.8 units per tick; the least rate is one unit per tick."""
    tasks = [load(queue, 1) for queue in range(5)]
    program = build_program([tasks], [1] * 5, [1 << 10], [[(0, 256 * PLAIN)]])
    assert times(run, program) == [(0, LATENCY + 2**24)] * 5


@pytest.mark.parametrize(("weight", "rate"), [(256, 1705), (257, 1699)])
def test_what_a_weighted_flow_leaves_is_counted_in_fractions_of_a_unit(weight: int, rate: int) -> None:
    """Link 1 binds the first flow at 341 units per tick, which takes 342.33 of link 0 and leaves 1705.67.

    Were 342 taken, the first case would give 1706; were 343 taken, the second would give 1698.
    """
    routes = [((0, 257), (1, 768)), ((0, weight),)]
    assert reference.max_min_rates(routes, [2048, 1024]) == [341, rate]


def test_a_multicast_moves_at_the_rate_of_its_slowest_branch(run: Run) -> None:
    tree = [(0, PLAIN), (1, PLAIN), (2, PLAIN)]
    tasks = [Task(Kind.SEND, 0, LATENCY, 0, 1000, 0), load(1, 500, route=1)]
    program = build_program([tasks], [1, 1], [TERABYTE_PER_S] * 3, [tree, [(2, PLAIN)]])
    assert times(run, program) == [(0, LATENCY + 1500), (0, LATENCY + 1000)]


def test_a_compute_queue_overlaps_what_exceeds_the_hold(run: Run) -> None:
    tasks = [Task(Kind.MATMUL, 0, 30, 10) for _ in range(3)]
    assert times(run, build_program([tasks], [0], [], [])) == [(0, 30), (10, 40), (20, 50)]


def test_a_compute_queue_completes_in_order(run: Run) -> None:
    tasks = [Task(Kind.MATMUL, 0, 100, 10), Task(Kind.VECTOR, 0, 20, 20), Task(Kind.VECTOR, 0, 90, 1)]
    assert times(run, build_program([tasks], [0], [], [])) == [(0, 100), (10, 100), (30, 120)]


@pytest.mark.parametrize(("outstanding", "starts"), [(1, [0, 200, 400]), (2, [0, 0, 200]), (3, [0, 0, 0])])
def test_a_dma_queue_keeps_so_many_in_flight(run: Run, outstanding: int, starts: list[int]) -> None:
    tasks = [load(0, 100, route) for route in range(3)]
    program = build_program([tasks], [outstanding], [TERABYTE_PER_S] * 3, [[(i, PLAIN)] for i in range(3)])
    assert [start for start, _ in times(run, program)] == starts


def test_a_dma_queue_may_complete_out_of_order(run: Run) -> None:
    tasks = [load(0, 5000, 0), load(0, 10, 1), load(0, 10, 1)]
    program = build_program([tasks], [2], [TERABYTE_PER_S] * 2, [[(0, PLAIN)], [(1, PLAIN)]])
    assert times(run, program) == [(0, 5100), (0, 110), (110, 220)]


def test_the_head_of_a_queue_blocks_what_is_behind_it(run: Run) -> None:
    tasks = [Task(Kind.MATMUL, 1, 700), load(0, 10, after=(0,)), load(0, 10)]
    program = build_program([tasks], [2, 0], [TERABYTE_PER_S * 2], [[(0, PLAIN)]])
    assert times(run, program) == [(0, 700), (700, 810), (700, 810)]


def test_a_release_delays_a_task_and_its_queue(run: Run) -> None:
    tasks = [Task(Kind.VECTOR, 0, 5), Task(Kind.VECTOR, 0, 5, release=500), Task(Kind.VECTOR, 0, 5)]
    assert times(run, build_program([tasks], [0], [], [])) == [(0, 5), (500, 505), (505, 510)]


def test_a_barrier_waits_for_all_and_holds_all(run: Run) -> None:
    tasks = [
        load(0, 1000),
        Task(Kind.MATMUL, 1, 250),
        Task(Kind.BARRIER, 2, 1, after=(0, 1)),
        load(0, 100, after=(2,)),
        Task(Kind.MATMUL, 1, 250, after=(2,)),
    ]
    program = build_program([tasks], [2, 0, 0], [TERABYTE_PER_S], [[(0, PLAIN)]])
    assert times(run, program) == [(0, 1100), (0, 250), (1100, 1101), (1101, 1301), (1101, 1351)]


def test_a_tile_with_double_buffering(run: Run) -> None:
    """Three loads of 200 ticks, three matmuls of 300; the third load waits for the buffer of the first matmul."""
    tasks = [
        load(0, 100),
        Task(Kind.MATMUL, 1, 300, after=(0,)),
        load(0, 100),
        Task(Kind.MATMUL, 1, 300, after=(2,)),
        load(0, 100, after=(1,)),
        Task(Kind.MATMUL, 1, 300, after=(4,)),
    ]
    program = build_program([tasks], [1, 0], [TERABYTE_PER_S], [[(0, PLAIN)]])
    assert times(run, program) == [(0, 200), (200, 500), (200, 400), (500, 800), (500, 700), (800, 1100)]


def test_every_segment_starts_at_zero_and_counts_with_its_repeats(run: Run) -> None:
    first, second = [Task(Kind.VECTOR, 0, 7)], [load(1, 50), Task(Kind.VECTOR, 0, 3, after=(0,))]
    program = build_program([first, second, []], [0, 1], [TERABYTE_PER_S], [[(0, PLAIN)]], (2, 3, 5))
    timeline = run(program)
    assert [segment.end for segment in timeline.segments] == [7, 153, 0]
    assert [segment.drained for segment in timeline.segments] == [7, 153, 0]
    assert timeline.latency_ps == 2 * 7 + 3 * 153


def test_time_out_of_range_is_an_error() -> None:
    tasks = [Task(Kind.VECTOR, 0, MAX_TICKS - 1) for _ in range(3)]
    with pytest.raises(InvariantViolation, match="task 1 ends after 2\\^62 ticks"):
        engine.run(build_program([tasks], [0], [], []))


def test_the_columns_of_a_program_stay_as_they_were(run: Run) -> None:
    program = build_program([[load(0, 10), load(0, 10)]], [1], [TERABYTE_PER_S], [[(0, PLAIN)]])
    (segment,) = program.segments
    for column in (segment.queue, segment.pptr, segment.pidx, segment.dur, program.route_ptr):
        column.flags.writeable = False
    assert times(run, program) == [(0, 110), (110, 220)]
    assert np.array_equal(segment.dur, [LATENCY, LATENCY])
