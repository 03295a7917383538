"""The tags of a cache: which lines it holds, in machine code.

A set is `ways` entries of one array, the one used last first. An entry is line number x 4 + pinned x 2 + dirty, so
that a look-up touches one array only; EMPTY entries lie behind all others.
"""

from __future__ import annotations

from math import gcd

import numpy as np
import numpy.typing as npt

from sim.jit import jit

Int8 = npt.NDArray[np.int8]
Int64 = npt.NDArray[np.int64]

EMPTY = -1
DIRTY, PINNED = 1, 2
ALLOCATE, BYPASS, PIN = 0, 1, 2
"""What a probe does with a line that is not there: put it in, leave it out, or put it in for good."""

HIT, MISS, REST, EVICTED = range(4)
"""Columns of what a probe yields, in bytes: asked for and found; asked for and not found; the rest of lines that
were put in for less than a whole line; dirty lines that had to go."""


def empty_tags(sets: int, ways: int) -> Int64:
    """Tags of a cache that holds nothing, [sets, ways]."""
    return np.full((sets, ways), EMPTY, np.int64)


def coarse_line(sets: int, line_bytes: int, common_bytes: int) -> tuple[int, int]:
    """(sets, line bytes) of a smaller tag store that behaves the same where every address, run and pitch is a
    multiple of `common_bytes`.

    Then k lines in a row always come and go together, in k sets that all see the same; one set stands for them.
    65,536 sets of 128 B lines and multiples of 4 KiB: 2,048 sets of 4 KiB lines.
    """
    together = gcd(sets, common_bytes // line_bytes) if common_bytes % line_bytes == 0 else 1
    return sets // together, line_bytes * together


@jit
def probe(
    tags: Int64,
    line_bytes: int,
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
    is put in for a part of it is filled with the rest. At most ways - 1 lines of a set are pinned.
    """
    found[:] = 0
    rows = 1
    for level in range(len(count)):
        rows *= count[level]
    for row in range(rows):
        start, left = address, row
        for level in range(len(count) - 1, -1, -1):
            start += left % count[level] * pitch[level]
            left //= count[level]
        _probe_run(tags, line_bytes, start, start + run_bytes, write, policy, found)


@jit
def _probe_run(
    tags: Int64, line_bytes: int, start: int, stop: int, write: bool, policy: int, found: Int64
) -> None:
    first, last = start // line_bytes, (stop - 1) // line_bytes
    number, sets = first % len(tags), len(tags)
    for line in range(first, last + 1):
        asked = min(stop, (line + 1) * line_bytes) - max(start, line * line_bytes)
        lines = tags[number]
        number = number + 1 if number + 1 < sets else 0
        place = 0
        while place < len(lines) and lines[place] >> 2 != line:
            place += 1
        if place < len(lines):
            found[HIT] += asked
            entry = lines[place]
        else:
            found[MISS] += asked
            place = -1 if policy == BYPASS else _victim(lines)
            if place < 0:
                continue
            found[REST] += line_bytes - asked
            if lines[place] != EMPTY and lines[place] & DIRTY:
                found[EVICTED] += line_bytes
            entry = line << 2
        if write:
            entry |= DIRTY
        if policy == PIN and not entry & PINNED and _pinned(lines) < len(lines) - 1:
            entry |= PINNED
        for at in range(place, 0, -1):
            lines[at] = lines[at - 1]
        lines[0] = entry


@jit
def _victim(lines: Int64) -> int:
    """Place of the line to go: the last that is not pinned; -1 if all are (a cache of one way pins none)."""
    for place in range(len(lines) - 1, -1, -1):
        if lines[place] == EMPTY or not lines[place] & PINNED:
            return place
    return -1


@jit
def _pinned(lines: Int64) -> int:
    """Pinned lines of a set."""
    total = 0
    for entry in lines:
        if entry != EMPTY and entry & PINNED:
            total += 1
    return total


@jit
def probe_all(
    tags: Int64,
    line_bytes: int,
    order: Int64,
    address: Int64,
    run_bytes: Int64,
    count: Int64,
    pitch: Int64,
    write: npt.NDArray[np.bool_],
    policy: Int8,
    found: Int64,
) -> None:
    """The probes of a table, in `order`; row i of `found` [probes, 4] receives what probe i yields."""
    for row in order:
        probe(
            tags,
            line_bytes,
            address[row],
            run_bytes[row],
            count[row],
            pitch[row],
            write[row],
            policy[row],
            found[row],
        )
