"""The two engines agree to the tick: start and finish of every task of every random program."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from random_programs import cached_program, random_program, relabelled

from sim.engine import compiled, records, reference
from sim.program import Program
from sim.timeline import Probed, Timeline

BLOCK = 100
CI_PROGRAMS = 2_500
NIGHTLY_PROGRAMS = 50_000
LARGE_PROGRAMS = 40
HUB_PROGRAMS = range(700, 1100)
CACHED_PROGRAMS = 800
HUB_CACHED_PROGRAMS = range(3000, 3040)


def assert_same(a: Timeline, b: Timeline, what: str) -> None:
    assert a.segment_of == b.segment_of, what
    assert a.repeats == b.repeats, what
    for number, (one, other) in enumerate(zip(a.segments, b.segments, strict=True)):
        wrong = np.flatnonzero((one.start != other.start) | (one.finish != other.finish))
        assert wrong.size == 0, f"{what}, segment {number}, tasks {wrong.tolist()}"
        assert (one.drained, one.tail) == (other.drained, other.tail), what
        assert (one.probed is None) == (other.probed is None)
        if one.probed is not None and other.probed is not None:
            for name in Probed.__slots__:
                assert np.array_equal(getattr(one.probed, name), getattr(other.probed, name)), (
                    f"{what}: {name}"
                )


def check(seeds: range, large: bool = False, hub: bool = False) -> None:
    for seed in seeds:
        program = random_program(seed, large, hub)
        assert_same(compiled.run(program), reference.run(program), f"seed {seed}")


@pytest.mark.parametrize("first", range(0, CI_PROGRAMS, BLOCK))
def test_random_programs(first: int) -> None:
    check(range(first, first + BLOCK))


@pytest.mark.parametrize("first", range(0, LARGE_PROGRAMS, 10))
def test_large_random_programs(first: int) -> None:
    check(range(first, first + 10), large=True)


@pytest.mark.parametrize("first", HUB_PROGRAMS[::BLOCK])
def test_random_programs_that_all_cross_one_link(first: int) -> None:
    """As the flows of a chip cross its DRAM: that link binds all at once, or in the same round as others."""
    check(range(first, first + BLOCK), large=True, hub=True)


@pytest.mark.nightly
@pytest.mark.parametrize("first", range(HUB_PROGRAMS.stop, 20_000, 9 * BLOCK))
def test_many_random_programs_that_all_cross_one_link(first: int) -> None:
    check(range(first, first + 9 * BLOCK), large=True, hub=True)


def check_cached(seeds: range, large: bool = False, hub: bool = False) -> None:
    for seed in seeds:
        program = cached_program(seed, large, hub)
        assert_same(compiled.run(program), reference.run(program), f"cached, seed {seed}")


@pytest.mark.parametrize("first", range(0, CACHED_PROGRAMS, BLOCK))
def test_random_programs_with_a_cache(first: int) -> None:
    check_cached(range(first, first + BLOCK))


@pytest.mark.parametrize("first", HUB_CACHED_PROGRAMS[::10])
def test_random_programs_with_a_cache_that_all_cross_one_link(first: int) -> None:
    check_cached(range(first, first + 10), large=True, hub=True)


@pytest.mark.nightly
@pytest.mark.parametrize("first", range(HUB_CACHED_PROGRAMS.stop, HUB_CACHED_PROGRAMS.stop + 3000, BLOCK))
def test_many_random_programs_with_a_cache_that_all_cross_one_link(first: int) -> None:
    check_cached(range(first, first + BLOCK), large=True, hub=True)


@pytest.mark.nightly
@pytest.mark.parametrize("first", range(CACHED_PROGRAMS, CACHED_PROGRAMS + 20_000, 10 * BLOCK))
def test_many_random_programs_with_a_cache(first: int) -> None:
    check_cached(range(first, first + 10 * BLOCK))


@pytest.mark.nightly
@pytest.mark.parametrize("first", range(CI_PROGRAMS, CI_PROGRAMS + NIGHTLY_PROGRAMS, 10 * BLOCK))
def test_many_random_programs(first: int) -> None:
    check(range(first, first + 10 * BLOCK))


@pytest.mark.nightly
@pytest.mark.parametrize("first", range(LARGE_PROGRAMS, LARGE_PROGRAMS + 1000, 50))
def test_many_large_random_programs(first: int) -> None:
    check(range(first, first + 50), large=True)


@pytest.mark.parametrize("first", range(0, 300, BLOCK))
def test_the_order_of_links_queues_flows_and_tasks_does_not_matter(first: int) -> None:
    for seed in range(first, first + BLOCK):
        program = random_program(seed)
        other, places = relabelled(program, seed)
        for run in (compiled.run, reference.run):
            pairs = zip(run(program).segments, run(other).segments, places, strict=True)
            for one, two, place in pairs:
                assert np.array_equal(one.start, two.start[place]), f"seed {seed}"
                assert np.array_equal(one.finish, two.finish[place]), f"seed {seed}"


def test_the_random_programs_are_awkward_enough() -> None:
    """They hold what the engines could get wrong, and in numbers: the suite above does not pass for want of it."""
    programs = [random_program(seed) for seed in range(300)]
    segments = [segment for program in programs for segment in program.segments]
    overlaps = sum(bool((segment.hold < segment.dur).any()) for segment in segments)
    released = sum(bool(segment.release.any()) for segment in segments)
    weighted = sum(bool((program.route_weight > 256).any()) for program in programs)
    timelines = [compiled.run(program) for program in programs]
    ends = [part.finish for timeline in timelines for part in timeline.segments]
    ties = sum(len(np.unique(finish)) < len(finish) for finish in ends)
    shared = sum(
        _transfers_overlap(program, timeline) for program, timeline in zip(programs, timelines, strict=True)
    )
    assert min(overlaps, released, weighted, ties, shared) > 100


@pytest.mark.parametrize("make", [random_program, cached_program])
def test_in_programs_that_all_cross_one_link_routes_go_with_the_tide(
    make: Callable[[int, bool, bool], Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    boards = []
    fresh = records.board
    monkeypatch.setattr(records, "board", lambda: boards.append(fresh()) or boards[-1])
    for seed in range(700, 740):
        compiled.run(make(seed, True, True))
    assert sum(int(board["count"][0]) > 0 for board in boards) > 20


def test_the_random_programs_with_a_cache_are_awkward_enough() -> None:
    programs = [cached_program(seed) for seed in range(200)]
    timelines = [compiled.run(program) for program in programs]
    runs = [(part.probed, part) for timeline in timelines for part in timeline.segments]
    probed = [found for found, _ in runs if found is not None and len(found.hit)]
    for name in Probed.__slots__:
        assert sum(bool(getattr(found, name).any()) for found in probed) > 60, name
    both = sum(bool(((found.hit > 0) & (found.miss > 0)).any()) for found in probed)
    waited = sum(part.tail > 0 for _, part in runs)
    merged = sum(
        len(t.segments) < sum(p.repeats)
        for p, t in zip(programs, timelines, strict=True)
        if max(p.repeats) > 1
    )
    changing = sum(len(t.segments) > len(p.segments) for p, t in zip(programs, timelines, strict=True))
    coarse = sum(compiled.Machine(p).line_bytes > p.cache.line_bytes for p in programs if p.cache is not None)
    together = sum(_probes_at_once(p, t) for p, t in zip(programs, timelines, strict=True))
    assert min(both, waited, merged, changing, coarse, together) > 30


def _probes_at_once(program: Program, timeline: Timeline) -> bool:
    """Whether at some instant several transfers look into the cache."""
    probes = program.segments[0].probes
    starts = timeline.segments[0].start[probes.task] if probes is not None else np.zeros(0)
    return len(np.unique(starts)) < len(starts)


def _transfers_overlap(program: Program, timeline: Timeline) -> bool:
    """Whether at some time two transfers were in flight."""
    segment, part = program.segments[0], timeline.segments[0]
    moves = segment.route >= 0
    order = np.argsort(part.start[moves])
    start, finish = part.start[moves][order], part.finish[moves][order]
    return bool((start[1:] < np.maximum.accumulate(finish)[:-1]).any())
