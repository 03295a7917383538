"""Runs of a program's segments, repeats and passes included: what changes from one repeat to the next is the cache.

Without a cache every repeat of a segment is the same, and one is run. With one, each repeat finds what the one before
left there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from sim.program import Program, Segment, repeats_in_pass
from sim.timeline import Probed, SegmentTimeline, Timeline

T = TypeVar("T")
Run = tuple[int, int, T]
"""(segment of the program, how often, result)."""


def run_all(
    program: Program,
    begin_pass: Callable[[], None],
    run: Callable[[int, int, Sequence[T]], T],
    same: Callable[[T, T], bool],
) -> list[Run[T]]:
    """`run(segment, repeat, different results of earlier repeats)` for all segments in order; `begin_pass` empties
    the cache. Repeats of a segment with the same result are counted together, as the chip is idle between them.

    A pass that is made several times is run once, as it begins with an empty cache each time. Of repeats only a
    `sample` is run where the program says so.
    """
    found: list[Run[T]] = []
    repeats, first = repeats_in_pass(program), 0
    for size, times in program.passes or ((len(program.segments), 1),):
        begin_pass()
        for number in range(first, first + size):
            results: list[T] = []
            counts: list[int] = []
            many = repeats[number] if program.segments[number].probes is not None else 1
            for repeat, stands_for in sample(many, program.sampled):
                now = run(number, repeat, results)
                place = next((at for at, before in enumerate(results) if same(before, now)), len(results))
                if place == len(results):
                    results.append(now)
                    counts.append(0)
                counts[place] += times * (repeats[number] // many) * stands_for
            found += [(number, count, result) for count, result in zip(counts, results, strict=True)]
        first += size
    return found


def sample(many: int, most: int) -> list[tuple[int, int]]:
    """(repeat, for how many it counts) of the repeats to run: all, or the first and the last ones, at most `most` (at
    least 3) together. The very last, which finds the cache as full as any, counts for those left out as well.

    Repeats take turns at two places for what they hand on, so an odd number of steps leads over what is left out: the
    first of the last ones finds its input where the repeat before it would have left it. 32 and 4: 0, 1, 30 and 31 (for
    29); 33 and 4: three of them, 0, 31 and 32 (for 31).
    """
    if not most or many <= most:
        return [(repeat, 1) for repeat in range(many)]
    run = most - (many - most) % 2
    first = [(repeat, 1) for repeat in range(run // 2)]
    return [*first, *((repeat, 1) for repeat in range(many - run + len(first), many - 1)), (many - 1, 1 + many - run)]


def sampled_repeats(program: Program, timeline: Timeline) -> list[dict[str, Any]]:
    """Of segments whose repeats were not all run: the name, how many there are in a pass and how many were `run`, and
    of these the least and the most picoseconds, and bytes between the cache and the DRAM."""
    found = []
    for number, many in enumerate(repeats_in_pass(program)):
        chosen = sample(many if program.segments[number].probes is not None else 1, program.sampled)
        if any(stands_for > 1 for _, stands_for in chosen):
            runs = [t for t, of in zip(timeline.segments, timeline.segment_of, strict=True) if of == number]
            ends, moved = [t.end for t in runs], [_moved_bytes(t.probed) for t in runs if t.probed is not None]
            told = {"least_ps": min(ends), "most_ps": max(ends), "least_bytes": min(moved), "most_bytes": max(moved)}
            found.append({"name": program.segments[number].name, "repeats": many, "run": len(chosen), **told})
    return found


def _moved_bytes(probed: Probed) -> int:
    return int(probed.miss.sum() + probed.rest.sum() + probed.evicted.sum())


def same_course(a: SegmentTimeline, b: SegmentTimeline) -> bool:
    """Did two repeats of a segment take the same course?"""
    if a is b or a.probed is None or b.probed is None:
        return a is b
    columns = [(getattr(a.probed, name), getattr(b.probed, name)) for name in Probed.__slots__]
    columns += [(a.start, b.start), (a.finish, b.finish)]
    return a.drained == b.drained and all(np.array_equal(one, other) for one, other in columns)


def as_timeline(engine: str, runs: Sequence[Run[SegmentTimeline]]) -> Timeline:
    """Runs one after another. Each but the very last ends when its write-backs do: between segments the whole chip
    is idle."""
    waiting = [(number, count, replace(t, tail=t.drained - t.end)) for number, count, t in runs]
    if waiting and waiting[-1][2].tail:
        number, count, times = waiting.pop()
        waiting += [(number, count - 1, times)] if count > 1 else []
        waiting.append((number, 1, replace(times, tail=0)))
    return Timeline(
        engine,
        tuple(times for _, _, times in waiting),
        tuple(count for _, count, _ in waiting),
        tuple(number for number, _, _ in waiting),
    )


def unfold(program: Program, segment_of: Sequence[int], repeats: Sequence[int]) -> Program:
    """The program with one segment per run, so that a table of segments fits a table of runs."""
    if tuple(segment_of) == tuple(range(len(program.segments))) and tuple(repeats) == program.repeats:
        return program
    segments = tuple(_named(program, segment_of, place) for place in range(len(segment_of)))
    return replace(program, segments=segments, repeats=tuple(repeats), passes=())


def _named(program: Program, segment_of: Sequence[int], place: int) -> Segment:
    """The segment of a run; of several runs of a segment, each with a name of its own."""
    number = segment_of[place]
    segment, before = program.segments[number], sum(1 for other in segment_of[:place] if other == number)
    several = sum(1 for other in segment_of if other == number) > 1
    return replace(segment, name=f"{segment.name}, variant {before + 1}") if several else segment
