"""Repeats of a block that take the course of an earlier one, told by the cache alone: by looking everything up in the
same order, or by its state but for names.

Lines go by the order of their last use alone. So if the lines that a repeat may ask for lie where those of an earlier
repeat lay (its own weights for that one's weights), and all others are others in both, then every probe finds what it
found then, and the cache is left as it was left then, names changed. Nothing needs to be looked up again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.hw.tags import EMPTY, PINNED, probe_all
from sim.jit import jit
from sim.program import Probes

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

FLAGS = 3
"""Bits of an entry beside its tag (sim/hw/tags.py)."""


@dataclass(frozen=True, slots=True)
class Made:
    """The probes of a repeat as they were made: rows in `order`, and what was `found` [probes, 4]."""

    order: Int32
    found: Int64


def replayed(tags: Int32, line_bytes: int, skew: int, probes: Probes, repeat: int, before: Made) -> bool:
    """Do the probes find the same as before, made in the order of before? Changes the tags."""
    return probe_all(
        tags,
        line_bytes,
        skew,
        before.order.astype(np.int64),
        probes.addresses(repeat),
        np.array(probes.run_bytes, np.int64),  # copies, as Numba compiles anew for a read-only array
        np.array(probes.count, np.int64),
        np.array(probes.pitch, np.int64),
        np.array(probes.write, np.bool_),
        np.array(probes.policy, np.int8),
        np.empty_like(before.found),
        before.found,
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """The memory that a repeat may ask for, of `tensors` that it asks for at all: from byte `low` to before `high`."""

    tensors: Int64
    low: Int64
    high: Int64

    def moved(self, shift: Int64) -> Asked:
        """The same where each tensor of the program lies so many bytes further on."""
        by = shift[self.tensors]
        return Asked(self.tensors, self.low + by, self.high + by)


def asked_by(probes: Probes) -> Asked:
    """What a segment may ask for where no tensor is shifted."""
    tensors, column = np.unique(probes.tensor, return_inverse=True)
    low, high = np.full(len(tensors), np.iinfo(np.int64).max), np.zeros(len(tensors), np.int64)
    far = (probes.count - 1) * probes.pitch
    np.minimum.at(low, column, probes.address + np.minimum(far, 0).sum(axis=1))
    np.maximum.at(high, column, probes.address + np.maximum(far, 0).sum(axis=1) + probes.run_bytes)
    return Asked(tensors.astype(np.int64), low, high)


@dataclass(frozen=True, slots=True)
class Passage:
    """A repeat that asked for something, and the cache `before` and `after` it (tags, not hashed)."""

    asked: Asked
    before: Int32
    after: Int32

    def again(self, tags: Int32, asked: Asked, line_bytes: int) -> Int32 | None:
        """The tags after another repeat of the segment, which finds `tags`; None where it may take another course."""
        tag_bytes = len(tags) * line_bytes
        moved = asked.low - self.asked.low
        if (moved % tag_bytes).any():
            return None  # other sets
        by = moved // tag_bytes
        then, now = (_ranges(memory, by, line_bytes) for memory in (self.asked, asked))
        after = np.empty_like(tags)
        if then is None or now is None:
            return None
        return after if _rename(tags, self.before, self.after, *then, *now, line_bytes, after) else None


def _ranges(asked: Asked, by: Int64, line_bytes: int) -> tuple[Int64, Int64, Int64] | None:
    """First byte and one past the last of whole lines [ranges], ascending, and by how many tags each moves; None where
    tensors that share lines do not move as one."""
    order = np.argsort(asked.low, kind="stable")
    first = asked.low[order] // line_bytes * line_bytes
    last, by = np.maximum.accumulate(-(-asked.high[order] // line_bytes) * line_bytes), by[order]
    if ((first[1:] < last[:-1]) & (by[1:] != by[:-1])).any():
        return None
    return first, last, by


@jit
def _range_of(line: int, first: Int64, last: Int64) -> int:
    """The last range that begins at or before a byte and holds it; -1 without one."""
    low, high = 0, len(first)
    while low < high:
        middle = (low + high) // 2
        if first[middle] <= line:
            low = middle + 1
        else:
            high = middle
    return low - 1 if low > 0 and line < last[low - 1] else -1


@jit
def _rename(
    tags: Int32,
    before: Int32,
    after: Int32,
    first_then: Int64,
    last_then: Int64,
    by_then: Int64,
    first_now: Int64,
    last_now: Int64,
    by_now: Int64,
    line_bytes: int,
    found: Int32,
) -> bool:
    """Whether `tags` is `before` but for names; if so, `found` becomes `after` with the new names.

    Lines that are not asked for keep their order, and the last of them go first: the one number i of a set after the
    repeat is its number i before.
    """
    sets, ways = tags.shape
    others_now, others_then = np.empty(ways, np.int32), np.empty(ways, np.int32)
    for number in range(sets):
        others = 0
        for way in range(ways):
            mine, old = tags[number, way], before[number, way]
            if mine == EMPTY or old == EMPTY:
                if mine != old:
                    return False
                continue
            # Pinned lines stay when others go, so that the order would not tell which went.
            if (mine ^ old) & FLAGS or mine & PINNED:
                return False
            at = _range_of((np.int64(mine >> 2) * sets + number) * line_bytes, first_now, last_now)
            then = _range_of((np.int64(old >> 2) * sets + number) * line_bytes, first_then, last_then)
            if at >= 0 and then >= 0:
                if (mine >> 2) - by_now[at] != old >> 2:
                    return False
            elif at >= 0 or then >= 0:
                return False
            else:
                others_now[others], others_then[others] = mine, old
                others += 1
        kept = 0
        for way in range(ways):
            old = after[number, way]
            found[number, way] = old
            if old == EMPTY:
                continue
            then = _range_of((np.int64(old >> 2) * sets + number) * line_bytes, first_then, last_then)
            if then >= 0:
                found[number, way] = old + (by_then[then] << 2)
            elif kept < others and others_then[kept] == old:
                found[number, way] = others_now[kept]
                kept += 1
            else:
                return False
    return True
