"""The tags of a cache: which lines it holds, in machine code.

A set is `ways` entries of one array, the one used last first. An entry is tag x 4 + pinned x 2 + dirty, with the tag
line number // sets (below 2^29); EMPTY entries lie behind all others. So 16 ways lie in one line of the host's own
cache, and a look-up touches little else. Four of five look-ups of a GPU's matrix products find the line that was used
last in its set; these only read `front`, a copy of the first entries that lie side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

import numpy as np
import numpy.typing as npt

from sim.jit import jit, jit_bare, jit_inline

Int8 = npt.NDArray[np.int8]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

EMPTY = -1
DIRTY, PINNED = 1, 2
ALLOCATE, BYPASS, PIN = 0, 1, 2
"""What a probe does with a line that is not there: put it in, leave it out, or put it in for good."""

AT_ONCE = 16
"""Lines that are looked up together where all were used last in their sets: they fill a vector of the host."""

FOUND, LEFT_OUT, IN, IN_FOR_DIRTY = range(4)
"""What a look for one line comes to: it is there, it stays out, it is put in, and a dirty one had to go for it."""

HIT, MISS, REST, EVICTED = range(4)
"""Columns of what a probe yields, in bytes: asked for and found; asked for and not found; the rest of lines that
were put in for less than a whole line; dirty lines that had to go."""


def empty_tags(sets: int, ways: int) -> Int32:
    """Tags of a cache that holds nothing, [sets, ways]."""
    return np.full((sets, ways), EMPTY, np.int32)


def first_tags(sets: int, ways: int, line_bytes: int, skew: int, warm: Sequence[tuple[int, int]]) -> Int32:
    """Tags of a cache that holds what it can of regions (address, bytes) read one after another, [sets, ways]."""
    tags, many = empty_tags(sets, ways), len(warm)
    if many:
        address, run_bytes = np.array(warm, np.int64).T.copy()
        one = np.ones((many, 1), np.int64)
        reads, policy = np.zeros(many, np.bool_), np.full(many, ALLOCATE, np.int8)
        found, unknown = np.zeros((many, 4), np.int64), np.zeros((0, 4), np.int64)
        order = np.arange(many)
        probe_all(tags, line_bytes, skew, order, address, run_bytes, one, 0 * one, reads, policy, found, unknown)
    return tags


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
    front: Int32,
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
    """Look up a region and update the tags, and their `front`; `found` (HIT, MISS, REST, EVICTED) receives the bytes.

    The region is `run_bytes` at `address`, repeated `count[i]` times at `pitch[i]` bytes for each level i, the last
    level innermost. Line by line in that order: one that is there becomes the most recently used; else ALLOCATE and
    PIN put it in place of the least recently used line that is not pinned. A write makes its line dirty. A line that
    is put in for a part of it is filled with the rest. At most ways - 1 lines of a set are pinned. Line number n lies
    in set (n + n // sets x skew) % sets.
    """
    found[HIT] = found[MISS] = found[REST] = found[EVICTED] = 0
    sets, inner, outer = len(tags), len(count) - 1, 1
    for level in range(inner):
        outer *= count[level]
    skew %= sets
    # Divisions only once per row of runs: from run to run and from line to line everything is counted on.
    pitch_lines = pitch[inner] // line_bytes
    pitch_start, pitch_tag = pitch[inner] - pitch_lines * line_bytes, pitch_lines // sets
    pitch_number, pitch_turn = pitch_lines - pitch_tag * sets, pitch_tag * skew % sets
    for row in range(outer):
        begin, left = address, row
        for level in range(inner - 1, -1, -1):
            begin += left % count[level] * pitch[level]
            left //= count[level]
        line = begin // line_bytes
        start, tag = begin - line * line_bytes, line // sets
        number, turn, runs = line - tag * sets, tag * skew % sets, count[inner]
        while runs > 0:
            some = 1
            if start + run_bytes > line_bytes:
                _look_along(tags, front, line_bytes, skew, start, number, tag, turn, run_bytes, write, policy, found)
            else:
                at = number + turn if number + turn < sets else number + turn - sets
                if pitch_start == 0 and pitch_tag == 0 and runs > 1:
                    # So many runs, each within a line, before the tag or the last set ends.
                    some = min(runs, (sets - 1 - max(at, number)) // max(1, pitch_number) + 1)
                    number += (some - 1) * pitch_number
                _look_at(tags, front, line_bytes, at, pitch_number, some, tag, run_bytes, write, policy, found)
            runs -= some
            start, tag = start + pitch_start, tag + pitch_tag
            number, turn = number + pitch_number, turn + pitch_turn
            if start >= line_bytes:
                start, number = start - line_bytes, number + 1
            if turn >= sets:
                turn -= sets
            if number >= sets:
                number, tag, turn = number - sets, tag + 1, turn + skew
                if turn >= sets:
                    turn -= sets


@jit_inline
def _look_along(
    tags: Int32,
    front: Int32,
    line_bytes: int,
    skew: int,
    start: int,
    number: int,
    tag: int,
    turn: int,
    left: int,
    write: bool,
    policy: int,
    found: Int64,
) -> None:
    """Look up a run of `left` bytes from byte `start` of the line in set `number` + `turn` on, and add up what it
    yields."""
    sets, asked = len(tags), min(left, line_bytes - start)
    while left > 0:
        at = number + turn if number + turn < sets else number + turn - sets
        some = 1
        if asked == line_bytes:
            some = min(left // line_bytes, sets - max(at, number))
        _look_at(tags, front, line_bytes, at, 1, some, tag, asked, write, policy, found)
        left -= some * asked
        asked = min(left, line_bytes)
        number += some
        if number == sets:
            number, tag, turn = 0, tag + 1, turn + skew
            if turn >= sets:
                turn -= sets


@jit_bare
def _look_at(
    tags: Int32,
    front: Int32,
    line_bytes: int,
    number: int,
    step: int,
    many: int,
    tag: int,
    asked: int,
    write: bool,
    policy: int,
    found: Int64,
) -> None:
    """Look up so many lines of a tag, in set `number` and every `step` sets on, `asked` bytes of each, and add up what
    they yield.

    Most lines were used last in their sets, as several cores load the same tile; for those `front` says it all.
    """
    wanted, singly, hits, inside, dirty = np.int32(tag << 2), 0, 0, 0, 0
    done, in_front = 0, True
    while done < many:
        singly -= 1
        at = np.uint32(number + done * step)
        if in_front and singly < 0 and many - done >= AT_ONCE and policy != PIN:
            if _all_in_front(front, at, step, wanted, write):
                hits, done, singly = hits + AT_ONCE, done + AT_ONCE, 0
                continue
            singly = AT_ONCE - 1
        done += 1
        entry = front[at]
        in_front = (entry ^ wanted) & ~3 == 0 and policy != PIN and (not write or entry & DIRTY != 0)
        if in_front:
            hits += 1
            continue
        what = _look(tags, at, wanted, write, policy)
        front[at] = tags[at, 0]
        hits += what == FOUND
        inside += what >= IN
        dirty += what == IN_FOR_DIRTY
    found[HIT] += hits * asked
    found[MISS] += (many - hits) * asked
    found[REST] += inside * (line_bytes - asked)
    found[EVICTED] += dirty * line_bytes


@jit_inline
def _all_in_front(front: Int32, number: np.uint32, step: int, wanted: np.int32, write: bool) -> bool:
    """Were AT_ONCE lines of one tag, every `step` sets, all used last in their sets, so that another look at them
    changes nothing?"""
    other, dirty = np.int32(0), np.int32(DIRTY)
    for place in range(AT_ONCE):
        entry = front[np.uint32(number + place * step)]
        other |= (entry ^ wanted) & np.int32(~3)
        dirty &= entry
    return other == 0 and (not write or dirty != 0)


@jit_inline
def _look(tags: Int32, number: np.uint32, wanted: np.int32, write: bool, policy: int) -> int:
    """Look up a line in a set: FOUND, LEFT_OUT, IN or IN_FOR_DIRTY."""
    lines = tags[number]
    ways = len(lines)
    first, last = lines[0], lines[ways - 1]
    what = FOUND
    if first & ~3 == wanted and policy != PIN:
        if write:
            lines[0] = first | DIRTY
        return what
    if policy != ALLOCATE or (last != EMPTY and last & PINNED):
        return _look_with_care(lines, wanted, write, policy)
    # One pass moves every entry one place back until the line is found, or the last entry falls out.
    place, entry = 1, first
    while place < ways:
        entry, lines[place] = lines[place], entry
        if entry & ~3 == wanted:
            break
        place += 1
    if place == ways:
        what = IN_FOR_DIRTY if entry != EMPTY and entry & DIRTY else IN
        entry = wanted
    lines[0] = entry | DIRTY if write else entry
    return what


@jit_inline
def _look_with_care(lines: Int32, wanted: np.int32, write: bool, policy: int) -> int:
    """The same for any policy and with pinned lines."""
    place, what = 0, FOUND
    while place < len(lines) and lines[place] & ~3 != wanted:
        place += 1
    entry = wanted
    if place < len(lines):
        entry = lines[place]
    else:
        place = -1 if policy == BYPASS else _victim(lines)
        if place < 0:
            return LEFT_OUT
        what = IN_FOR_DIRTY if lines[place] != EMPTY and lines[place] & DIRTY else IN
    if policy == PIN and not entry & PINNED and _pinned(lines) < len(lines) - 1:
        entry |= PINNED
    for at in range(place, 0, -1):
        lines[at] = lines[at - 1]
    lines[0] = entry | DIRTY if write else entry
    return what


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
    front = tags[:, 0].copy()
    for row in order:
        probe(
            tags,
            front,
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
