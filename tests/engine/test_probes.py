"""The cache in time, by hand; and what no engine may be given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from random_programs import TERABYTE_PER_S, Task, build_program, cached_program

from sim.engine import compiled, reference
from sim.errors import InvariantViolation
from sim.jit import callee_files
from sim.program import Kind, Policy, Probes, Program, TagStore
from sim.timeline import Timeline

Run = Callable[[Program], Timeline]
DRAM, CACHE, CORE = range(3)
"""Links: the DRAM at half a TB/s (2 ticks a byte), cache and core at 1 TB/s."""
MISS_ROUTE, HIT_ROUTE, REST_ROUTE = range(3)
ROUTES = [[(DRAM, 256), (CORE, 256)], [(CACHE, 256), (CORE, 256)], [(DRAM, 256)]]
HIT_TICKS = 10
MISS_TICKS = 100


@pytest.fixture(params=[compiled.run, reference.run], ids=["compiled", "reference"])
def run(request: pytest.FixtureRequest) -> Run:
    chosen: Run = request.param
    return chosen


@dataclass(frozen=True)
class Access:
    """A LOAD of `size` bytes at `address` through queue `queue`."""

    address: int
    size: int
    write: bool = False
    after: tuple[int, ...] = ()
    queue: int = 0
    policy: Policy = Policy.CACHE


def cached(
    accesses: Sequence[Access], *, ways: int = 2, sets: int = 1, shift: Sequence[int] = (0,), passes: int = 1
) -> Program:
    """Accesses through a cache of 64 B lines, one queue with room for 4 each."""
    tasks = [Task(Kind.LOAD, a.queue, MISS_TICKS, 1, a.size, MISS_ROUTE, after=a.after) for a in accesses]
    queues = 1 + max(a.queue for a in accesses)
    capacities = [TERABYTE_PER_S // 2, TERABYTE_PER_S, TERABYTE_PER_S]
    program = build_program([tasks], [4] * queues, capacities, ROUTES)
    n = len(accesses)
    probes = Probes(
        task=np.arange(n, dtype=np.int32),
        write=np.array([a.write for a in accesses]),
        policy=np.array([a.policy for a in accesses], np.int8),
        tensor=np.zeros(n, np.int32),
        address=np.array([a.address for a in accesses], np.int64),
        run_bytes=np.array([a.size for a in accesses], np.int64),
        count=np.ones((n, 1), np.int64),
        pitch=np.zeros((n, 1), np.int64),
        hit_route=np.full(n, HIT_ROUTE, np.int32),
        hit_dur=np.full(n, HIT_TICKS, np.int64),
        rest_route=np.full(n, REST_ROUTE, np.int32),
        tensors=("x",),
        shift=np.array(shift, np.int64)[:, None],
    )
    found = replace(
        program,
        segments=(replace(program.segments[0], probes=probes),),
        repeats=(len(shift) * passes,),
        cache=TagStore(sets, ways, 64),
        passes=((1, passes),),
    )
    found.validate()
    return found


def finishes(timeline: Timeline) -> list[list[int]]:
    return [times.finish.tolist() for times in timeline.segments]


def test_a_miss_goes_to_the_dram_and_a_hit_does_not(run: Run) -> None:
    """64 B take 100 + 128 ticks from DRAM, then 10 + 64 from the cache."""
    timeline = run(cached([Access(0, 64), Access(0, 64, after=(0,))]))
    assert finishes(timeline) == [[228, 228 + 74]]


def test_what_a_pass_finds_in_the_cache_was_left_there_last(run: Run) -> None:
    """Three lines were read, two fit: the first of them is gone, and nothing of them is written back. Every pass finds
    the cache so."""
    access = [Access(128, 64), Access(0, 64, after=(0,)), Access(64, 64, after=(1,))]
    program = cached(access, ways=2, passes=2)
    assert program.cache is not None
    warm = replace(program, cache=replace(program.cache, warm=((0, 64), (64, 128))))
    # Line 2 hits; line 0 misses and takes the place of line 1, which misses then.
    assert finishes(run(warm)) == [[74, 74 + 228, 74 + 2 * 228]] * len(run(warm).segments)
    probed = run(warm).segments[0].probed
    assert probed is not None
    assert (probed.hit.tolist(), probed.evicted.tolist()) == ([64, 0, 0], [0, 0, 0])


def test_a_transfer_ends_with_the_last_of_its_two_flows(run: Run) -> None:
    """Line 0 is there, line 1 is not: 64 B come by tick 74, 64 B by tick 228."""
    timeline = run(cached([Access(0, 64), Access(0, 128, after=(0,))]))
    assert finishes(timeline) == [[228, 228 + 228]]


def test_the_slower_flow_may_be_the_one_that_hits(run: Run) -> None:
    """7 lines hit (10 + 448 ticks), a part of 1 B of one line misses (100 + 2 ticks and a share of the core's link)."""
    timeline = run(cached([Access(0, 448), Access(0, 449, after=(0,))], ways=8))
    start = 100 + 2 * 448
    # 448 B at 1 B a tick until tick 100; then half a byte a tick each for 2 ticks.
    assert finishes(timeline) == [[start, start + 10 + 90 + 2 + 357]]


def test_the_rest_of_a_line_comes_in_the_background(run: Run) -> None:
    """16 B of a line of 64: 16 B and 48 B share the DRAM until tick 100 + 64, and the 48 B end at 100 + 128."""
    (times,) = run(cached([Access(16, 16)])).segments
    assert (times.finish.tolist(), times.drained, times.tail) == ([164], 228, 0)


def test_a_write_back_delays_others_but_not_its_own_task(run: Run) -> None:
    """One way: the second access throws out the line that the first has written. Its 64 B share the DRAM with the
    write-back; a run that follows waits for both."""
    first, second = Access(0, 64, True), Access(64, 64, after=(0,))
    timeline = run(cached([first, second], ways=1))
    assert finishes(timeline) == [[228, 228 + 100 + 256]]
    assert timeline.segments[0].probed is not None
    assert timeline.segments[0].probed.evicted.tolist() == [0, 64]


def test_what_follows_a_segment_waits_for_its_write_backs(run: Run) -> None:
    """Lines 0 and 8 written in a cache of one line of 64 B, 8 B of each: the rest of line 8 and the whole of line 0
    (56 + 64 B) are still under way when the 8 B have come."""
    program = cached([Access(0, 8, True), Access(512, 8, True, after=(0,))], ways=1, shift=(0, 0))
    timeline = run(program)
    first, last = timeline.segments[0], timeline.segments[-1]
    assert first.tail == first.drained - first.end > 0
    assert last.tail == 0
    assert timeline.latency_ps == first.drained + last.end
    assert timeline.drained_ps == timeline.latency_ps + last.drained - last.end


def test_probes_of_one_instant_are_made_in_ascending_order_of_tasks(run: Run) -> None:
    """Tasks 1 (queue 1) and 2 (queue 0) issue at the end of task 0: task 1 throws out what task 2 is looking for."""
    accesses = [Access(0, 64), Access(64, 64, after=(0,), queue=1), Access(0, 64, after=(0,))]
    probed = run(cached(accesses, ways=1)).segments[0].probed
    assert probed is not None
    assert probed.hit.tolist() == [0, 0, 0]
    swapped = [accesses[0], accesses[2], accesses[1]]
    probed = run(cached(swapped, ways=1)).segments[0].probed
    assert probed is not None
    assert probed.hit.tolist() == [0, 64, 0]


def test_repeats_find_what_the_one_before_left(run: Run) -> None:
    """The first repeat misses, the three others hit; other addresses miss each time."""
    same = run(cached([Access(0, 64)], shift=(0, 0, 0, 0)))
    assert (same.repeats, same.segment_of) == ((1, 3), (0, 0))
    assert finishes(same) == [[228], [74]]
    other = run(cached([Access(0, 64)], shift=(0, 64, 128, 192)))
    assert (other.repeats, finishes(other)) == ((4,), [[228]])


def test_every_pass_begins_with_an_empty_cache(run: Run) -> None:
    timeline = run(cached([Access(0, 64)], shift=(0, 0), passes=3))
    assert (timeline.repeats, finishes(timeline)) == ((3, 3), [[228], [74]])
    assert timeline.latency_ps == 3 * (228 + 74)


def test_unrolled_repeats_take_as_long(run: Run) -> None:
    """One segment of three repeats, and three segments of one with the addresses of each repeat."""
    accesses = [Access(0, 200, True), Access(300, 100, after=(0,)), Access(64, 64, after=(1,))]
    rolled = cached(accesses, sets=2, shift=(0, 96, 200))
    probes = rolled.segments[0].probes
    assert probes is not None
    segments = tuple(
        replace(rolled.segments[0], probes=replace(probes, shift=probes.shift[i : i + 1])) for i in range(3)
    )
    unrolled = replace(rolled, segments=segments, repeats=(1, 1, 1), passes=())
    assert finishes(run(rolled)) == finishes(run(unrolled))
    assert run(rolled).latency_ps == run(unrolled).latency_ps


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"task": np.array([1, 0], np.int32)}, "probe 1 does not follow in order of tasks"),
        ({"task": np.array([0, 2], np.int32)}, "probe 1 belongs to a task that does not exist"),
        ({"policy": np.array([0, 3], np.int8)}, "probe 1 has an unknown policy"),
        ({"tensor": np.array([0, 1], np.int32)}, "probe 1 names a tensor that does not exist"),
        ({"run_bytes": np.array([64, 0])}, "probe 1 is of an empty region"),
        ({"run_bytes": np.array([64, 63])}, "probe 1 is not of as many bytes as its task moves"),
        ({"address": np.array([0, -1])}, "probe 1 is of an address out of range"),
        ({"address": np.array([0, 1 << 35])}, "probe 1 is of an address out of range"),
        ({"hit_route": np.array([0, 3], np.int32)}, "probe 1 names a route that does not exist"),
        ({"rest_route": np.array([-1, 0], np.int32)}, "probe 0 names a route that does not exist"),
        ({"hit_dur": np.array([0, 1])}, "probe 0 has a head latency out of range"),
        ({"pitch": np.array([[0], [-64]])}, "probe 1 has a negative pitch"),
        ({"shift": np.zeros((2, 1), np.int64)}, "levels or shifts of another shape"),
        ({"write": np.array([True])}, "columns of its probes differ in length"),
    ],
)
def test_probes_that_no_engine_can_make_are_refused(changes: dict[str, Any], complaint: str) -> None:
    program = cached([Access(0, 64), Access(64, 64)])
    probes = program.segments[0].probes
    assert probes is not None
    bad = replace(program.segments[0], probes=replace(probes, **changes))
    with pytest.raises(InvariantViolation, match=complaint):
        replace(program, segments=(bad,)).validate()


def test_probes_without_a_cache_and_passes_without_segments_are_refused() -> None:
    program = cached([Access(0, 64)])
    with pytest.raises(InvariantViolation, match="probes a cache that does not exist"):
        replace(program, cache=None).validate()
    with pytest.raises(InvariantViolation, match="passes are not made of its segments"):
        replace(program, passes=((2, 1),)).validate()
    with pytest.raises(InvariantViolation, match="passes are not made of its segments"):
        replace(program, passes=((1, 2),)).validate()


def test_machine_code_is_renewed_when_that_of_the_tags_changes() -> None:
    files = [file.rsplit("/", 1)[-1] for file in callee_files(compiled._simulate.py_func)]  # type: ignore[attr-defined]
    assert files == ["heaps.py", "issuing.py", "sharing.py", "tags.py"]
    stamp = compiled._simulate._cache._cache_file._source_stamp  # type: ignore[attr-defined]
    assert len(stamp) == 1 + (1 + len(files)) + len(files)  # its own, the numbers of all modules, the other files


def test_probes_are_remembered_in_the_order_in_which_they_were_made() -> None:
    """By the tick at which they issue, those of one instant by task: a later repeat asks in this order."""
    out_of_line = 0
    for seed in range(40):
        program = cached_program(seed)
        machine = compiled.Machine(program)
        machine.begin_pass()
        segment = program.segments[0]
        assert segment.probes is not None
        tables = machine.tags, machine.line_bytes, machine.skew
        times, made = compiled._run_segment(program, segment, 0, *tables)
        task = segment.probes.task
        assert made.order.tolist() == np.lexsort((task, times.start[task])).tolist()
        out_of_line += bool((np.diff(made.order) < 0).any())
    assert out_of_line > 10
