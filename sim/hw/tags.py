"""The tags of a cache: which lines it holds, in machine code.

A set is `ways` entries of one array, the one used last first. An entry is tag x 4 + pinned x 2 + dirty, with the tag
line number // sets (below 2^29); EMPTY entries lie behind all others. So 16 ways lie in one line of the host's own
cache, and a look-up touches little else.
"""

from __future__ import annotations

from math import gcd

import numpy as np
import numpy.typing as npt

from sim.jit import jit, jit_inline

Int8 = npt.NDArray[np.int8]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

EMPTY = -1
DIRTY, PINNED = 1, 2
ALLOCATE, BYPASS, PIN = 0, 1, 2
"""What a probe does with a line that is not there: put it in, leave it out, or put it in for good."""

HIT, MISS, REST, EVICTED = range(4)
"""Columns of what a probe yields, in bytes: asked for and found; asked for and not found; the rest of lines that
were put in for less than a whole line; dirty lines that had to go."""


def empty_tags(sets: int, ways: int) -> Int32:
    """Tags of a cache that holds nothing, [sets, ways]."""
    return np.full((sets, ways), EMPTY, np.int32)


def skew_of(sets: int, hashed: bool) -> int:
    """By how many sets the lines of one tag lie after those of the tag before: 0, or hashed the golden section, so that
    a power-of-two pitch goes round all sets instead of coming back to a few."""
    return int(sets * 0.6180339887498949) | 1 if hashed else 0


def coarse_line(sets: int, line_bytes: int, common_bytes: int) -> tuple[int, int]:
    """(sets, line bytes) of a smaller tag store that behaves the same where every address, run and pitch is a
    multiple of `common_bytes`.

    Then k lines in a row always come and go together, in k sets that all see the same; one set stands for them.
    65,536 sets of 128 B lines and multiples of 4 KiB: 2,048 sets of 4 KiB lines.
    """
    together = gcd(sets, common_bytes // line_bytes) if common_bytes % line_bytes == 0 else 1
    return sets // together, line_bytes * together


@jit_inline
def probe(
    tags: Int32,
    line_bytes: int,
    skew: int,
    address: int,
    run_bytes: int,
    count: Int64,
    pitch: Int64,
    write: bool,
    policy: int,
    found: Int64,
) -> None:
    """Look up a region and update the tags; `found` (HIT, MISS, REST, EVICTED) receives the bytes.

    The region is `run_bytes` at `address`, repeated `count[i]` times at `pitch[i]` bytes for each level i, the last
    level innermost. Line by line in that order: one that is there becomes the most recently used; else ALLOCATE and
    PIN put it in place of the least recently used line that is not pinned. A write makes its line dirty. A line that
    is put in for a part of it is filled with the rest. At most ways - 1 lines of a set are pinned. Line number n lies
    in set (n + n // sets x skew) % sets.
    """
    for part in range(4):
        found[part] = 0
    sets, inner = np.uint64(len(tags)), len(count) - 1
    size = np.uint64(line_bytes)
    outer = 1
    for level in range(inner):
        outer *= count[level]
    for row in range(outer):
        begin, left = address, row
        for level in range(inner - 1, -1, -1):
            begin += left % count[level] * pitch[level]
            left //= count[level]
        for _ in range(count[inner]):
            # Unsigned, as dividing those is faster.
            first = np.uint64(begin) // size
            tag = np.int32(first // sets)
            number = np.int64(first - np.uint64(tag) * sets)
            start = begin - np.int64(first) * line_bytes
            _probe_run(tags, line_bytes, skew, tag, number, start, start + run_bytes, write, policy, found)  # type: ignore[arg-type]
            begin += pitch[inner]


@jit_inline
def _probe_run(
    tags: Int32,
    line_bytes: int,
    skew: int,
    tag: int,
    number: int,
    start: int,
    stop: int,
    write: bool,
    policy: int,
    found: Int64,
) -> None:
    """A run from byte `start` of the line of `tag` in set `number` to byte `stop` from the beginning of that line."""
    sets, ways = tags.shape
    place_of_tag = tag * skew % sets
    while stop > 0:
        asked = min(stop, line_bytes) - start
        at = number + place_of_tag
        lines = tags[at if at < sets else at - sets]
        entry, wanted = lines[0], np.int32(tag << 2)
        last = lines[ways - 1]
        if entry & ~3 == wanted and policy != PIN:
            found[HIT] += asked
        elif policy == ALLOCATE and (last == EMPTY or not last & PINNED):
            # One pass moves every entry one place back until the line is found, or the last entry falls out.
            place = 1
            while place < ways:
                entry, lines[place] = lines[place], entry
                if entry & ~3 == wanted:
                    break
                place += 1
            if place < ways:
                found[HIT] += asked
            else:
                found[MISS] += asked
                found[REST] += line_bytes - asked
                if entry != EMPTY and entry & DIRTY:
                    found[EVICTED] += line_bytes
                entry = wanted
        else:
            entry = _probe_line(lines, wanted, asked, line_bytes, policy, found)
        if entry != EMPTY:
            lines[0] = entry | DIRTY if write else entry
        start, stop = 0, stop - line_bytes
        number += 1
        if number == sets:
            number, tag = 0, tag + 1
            place_of_tag = tag * skew % sets


@jit_inline
def _probe_line(
    lines: Int32, wanted: np.int32, asked: int, line_bytes: int, policy: int, found: Int64
) -> np.int32:
    """Any policy: make room in front and return the entry that belongs there, EMPTY if nothing changes."""
    place = 0
    while place < len(lines) and lines[place] & ~3 != wanted:
        place += 1
    entry = wanted
    if place < len(lines):
        found[HIT] += asked
        entry = lines[place]
    else:
        found[MISS] += asked
        place = -1 if policy == BYPASS else _victim(lines)
        if place < 0:
            return np.int32(EMPTY)
        found[REST] += line_bytes - asked
        if lines[place] != EMPTY and lines[place] & DIRTY:
            found[EVICTED] += line_bytes
    if policy == PIN and not entry & PINNED and _pinned(lines) < len(lines) - 1:
        entry |= PINNED
    for at in range(place, 0, -1):
        lines[at] = lines[at - 1]
    return entry


@jit_inline
def _victim(lines: Int32) -> int:
    """Place of the line to go: the last that is not pinned; -1 if all are."""
    for place in range(len(lines) - 1, -1, -1):
        if lines[place] == EMPTY or not lines[place] & PINNED:
            return place
    return -1


@jit_inline
def _pinned(lines: Int32) -> int:
    """Pinned lines of a set."""
    total = 0
    for entry in lines:
        if entry != EMPTY and entry & PINNED:
            total += 1
    return total


@jit
def probe_all(
    tags: Int32,
    line_bytes: int,
    skew: int,
    order: Int64,
    address: Int64,
    run_bytes: Int64,
    count: Int64,
    pitch: Int64,
    write: npt.NDArray[np.bool_],
    policy: Int8,
    found: Int64,
    expected: Int64,
) -> bool:
    """The probes of a table, in `order`; row i of `found` [probes, 4] receives what probe i yields.

    Stops at the first that yields something else than its row of `expected`, unless that is empty; whether none did.
    """
    for row in order:
        probe(
            tags,
            line_bytes,
            skew,
            address[row],
            run_bytes[row],
            count[row],
            pitch[row],
            write[row],
            policy[row],
            found[row],
        )
        if len(expected) > 0:
            for part in range(4):
                if found[row, part] != expected[row, part]:
                    return False
    return True
