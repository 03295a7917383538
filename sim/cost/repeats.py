"""Runs of a program's segments, repeats and passes included: what changes from one repeat to the next is the cache.

Without a cache every repeat of a segment is the same, and one is run. With one, each repeat finds what the one before
left there, and equal results in a row are counted, not listed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from sim.program import Program, repeats_in_pass
from sim.timeline import SegmentTimeline, Timeline

T = TypeVar("T")
Run = tuple[int, int, T]
"""(segment of the program, how often in a row, result)."""


def run_all(
    program: Program,
    begin_pass: Callable[[], None],
    run: Callable[[int, int, T | None], T],
    same: Callable[[T, T], bool],
) -> list[Run[T]]:
    """`run(segment, repeat, result of the repeat before)` for all segments in order; `begin_pass` empties the cache.

    A pass that is made several times is run once, as it begins with an empty cache each time.
    """
    found: list[Run[T]] = []
    repeats, first = repeats_in_pass(program), 0
    for size, times in program.passes or ((len(program.segments), 1),):
        begin_pass()
        for number in range(first, first + size):
            before = run(number, 0, None)
            count = 1
            if program.segments[number].probes is None:
                count = repeats[number]
            else:
                for repeat in range(1, repeats[number]):
                    now = run(number, repeat, before)
                    if same(before, now):
                        count += 1
                    else:
                        found.append((number, count * times, before))
                        before, count = now, 1
            found.append((number, count * times, before))
        first += size
    return found


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
    segments = tuple(program.segments[number] for number in segment_of)
    return replace(program, segments=segments, repeats=tuple(repeats), passes=())
