"""Tilings of many designs with an operand that stays: what the best without one (sim/cost/branch.py) loads again and
again is loaded less often by tiles that leave room for it.

To look at all tilings with each operand that can stay, as the mapper does for one chip (sim/cost/cut_search.py), took a
third of a sweep's speed and more. Here only those are looked at that promise most, where the best without loads much
again and in its cut over cores: its own tiles with any part of the sum; where no operand can stay with those, the
largest along the loops that move it, with the largest along the others that leave room; then neighbours of the best
along every role.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.cost.branch import Search, copy_to
from sim.cost.kernel import ACCUMULATOR_BYTES, CORE_S, WIRE_S, Work, pattern_cost
from sim.cost.levels import BOXES, FIRST, PER_OPERAND, RING
from sim.cost.nest_tables import BITS, DIMS, NESTED, OPERANDS, STAYS, TOUCHES
from sim.cost.scan import MISFIT_S, CoreCuts, crossed, hold_roles
from sim.cost.stay_scan import hold_rings, kept_cost, ring_of
from sim.cost.tiles import box, fill_count, groups, kept_tiles
from sim.jit import jit_bare

LEAST_GAIN = 0.01
"""Nothing is looked for where what is loaded again takes a smaller part of the time: the mapper takes tilings to be as
fast within as much."""


@jit_bare
def again_bytes(
    t: Any, nest: int, hw: Any, splits: Any, steps: Any, tile: Any, columns_first: int
) -> tuple[float, float]:
    """What a tiling loads again of operands that may stay: bytes as many as the DRAM would move at its peak in the time
    that it takes, and bytes of a core."""
    wired, core = 0.0, 0.0
    for operand in range(t.nests[nest, OPERANDS]):
        if t.operands[nest, operand, STAYS] == 0:
            continue
        fills = fill_count(t, nest, operand, steps, columns_first)
        boxes, _ = kept_tiles(t, nest, operand, steps, columns_first)
        if fills > boxes:
            elements, run, pitch = box(t, nest, operand, tile)
            size = (fills - boxes) * np.ceil(elements * t.operands[nest, operand, BITS] / 8)
            core += size
            inverse = pattern_cost(t, nest, operand, hw, run, pitch, False)
            wired += size * groups(t, nest, operand, splits) * inverse
    return wired, core


@jit_bare
def may_gain(hw: Any, again: tuple[float, float], best: float) -> bool:
    """Is what is loaded again a part of the time `best` that is worth a search?"""
    return bool(max(again[0] * hw[WIRE_S], again[1] * hw[CORE_S]) > LEAST_GAIN * best)


@jit_bare
def best_staying(
    t: Any, nest: int, hw: Any, w: Work, s: Search, cut: int, limit: float, share: float, best: float
) -> tuple[float, int, int]:
    """From the levels `s.best` of a cut: (latency and the `share` of the DRAM's time, columns outside?, operand that
    stays) of a tiling that is better than `best`, its levels in `s.best`; the operand -1 where none is found."""
    order, stay = 0, -1
    copy_to(s.lines.start, s.best)
    # The same tiles where there is room; else others.
    for others in range(2):
        for operand in range(t.nests[nest, OPERANDS]):
            role = _own_role(t, nest, operand)
            if role < 0 or t.operands[nest, operand, STAYS] == 0 or s.cuts.apart[cut, operand] == 0.0:
                continue
            for columns_first in range(2):
                copy_to(s.at, s.lines.start)
                kept = _room(t, nest, s.levels, s.cuts, cut, s.at, columns_first, operand)[1]
                inside, here = (role == 1) == (columns_first == 1), best
                if others == 0 and kept <= limit:
                    here = _along(t, nest, hw, w, s, cut, 3, columns_first, operand, limit, share, best)
                elif others == 1 and not (inside and kept > limit):  # inside, all of it stays whatever the tiles
                    here = _largest(t, nest, hw, w, s, cut, role, columns_first, operand, limit, share, best)
                if here < best:
                    best, order, stay = here, columns_first, operand
        if stay >= 0:
            break
    if stay >= 0:
        for role in range(1, 4):
            copy_to(s.at, s.best)
            best = _along(t, nest, hw, w, s, cut, role, order, stay, limit, share, best)
    return best, order, stay


@jit_bare
def _own_role(t: Any, nest: int, operand: int) -> int:
    """Rows or columns, whichever move an operand and the other does not: the larger its tiles along them, the less is
    loaded of others. -1: both or none do."""
    moved = 0
    for dim in range(t.nests[nest, DIMS]):
        if (t.operands[nest, operand, TOUCHES] >> dim) & 1:
            moved |= 1 << t.role[nest, dim]
    rows, columns = (moved >> 1) & 1, (moved >> 2) & 1
    return -1 if rows == columns else 1 if rows == 1 else 2


@jit_bare
def _largest(
    t: Any, nest: int, hw: Any, w: Work, s: Search, cut: int, role: int, columns_first: int, stay: int, limit: float,
    share: float, best: float,
) -> float:  # fmt: skip
    """The largest tile along `role` that has room, with the largest along the other of rows and columns and then along
    the sum: smaller ones load more."""
    at, other, cuts = s.at, 3 - role, s.cuts
    for row in range(cuts.first[cut, role], cuts.stop[cut, role]):
        at[role], at[other], at[3] = row, s.lines.start[other], cuts.stop[cut, 3] - 1
        if _room(t, nest, s.levels, cuts, cut, at, columns_first, stay)[1] > limit:
            continue
        for across in range(s.lines.start[other], cuts.stop[cut, other]):
            at[other], at[3] = across, cuts.stop[cut, 3] - 1
            if not w.vector and _result(t, nest, s.levels, at) * w.sum_bytes > hw[ACCUMULATOR_BYTES] > 0.0:
                continue
            if _room(t, nest, s.levels, cuts, cut, at, columns_first, stay)[0] > limit:
                continue
            fits, best = _deepest(t, nest, hw, w, s, cut, columns_first, stay, limit, share, best)
            if fits:
                return best
    return best


@jit_bare
def _result(t: Any, nest: int, levels: Any, at: Any) -> float:
    """Elements of a tile of the result."""
    c = FIRST + PER_OPERAND * t.nests[nest, OPERANDS]
    return float(levels[at[0], c] * levels[at[1], c] * levels[at[2], c] * levels[at[3], c])


@jit_bare
def _room(
    t: Any, nest: int, levels: Any, cuts: CoreCuts, cut: int, at: Any, columns_first: int, stay: int
) -> tuple[float, float]:
    """Bytes of scratchpad that a tiling needs at least, with one slot of what does not stay, and those of what does."""
    room, kept = 0.0, 0.0
    for operand in range(t.nests[nest, OPERANDS] + 1):
        if cuts.apart[cut, operand] == 0.0:
            continue
        c, boxes, ring = FIRST + PER_OPERAND * operand, 1.0, 0.0
        size = t.operands[nest, operand, BITS] * 0.125
        for place in range(4):
            # From the innermost, as scan.hold_roles.
            role = 3 if place == 0 else 0 if place == 3 else 1 if (place == 1) == (columns_first == 1) else 2
            row = at[role]
            size *= levels[row, c]
            if levels[row, c + RING] > 0.0:
                ring = boxes * levels[row, c + RING]
            boxes *= levels[row, c + BOXES]
        if operand == stay:
            kept = size * max(1.0, ring)
            size = kept
        room += size
    return room, kept


@jit_bare
def _deepest(
    t: Any, nest: int, hw: Any, w: Work, s: Search, cut: int, columns_first: int, stay: int, limit: float, share: float,
    best: float,
) -> tuple[bool, float]:  # fmt: skip
    """Is there room for some part of the sum, and the best with the largest such part."""
    at, lines, levels, cuts = s.at, s.lines, s.levels, s.cuts
    hold_roles(t, nest, levels, at, columns_first, 3, lines.fixed)
    hold_rings(t, nest, levels, at, columns_first, 3, lines.rings)
    for row in range(cuts.first[cut, 3], cuts.stop[cut, 3]):
        at[3] = row
        if ring_of(lines.rings, levels, row, stay) <= 1.0:
            continue
        if _room(t, nest, levels, cuts, cut, at, columns_first, stay)[0] > limit:
            continue
        if t.nests[nest, NESTED] and crossed(t, nest, cuts.splits[cut], levels, at):
            continue
        cost = kept_cost(t, nest, hw, w, levels, cuts, cut, at, row, limit, best, lines, share, stay)
        if cost < best:
            best = cost
            copy_to(s.best, at)
        if cost != MISFIT_S:
            return True, best
    return False, best


@jit_bare
def _along(
    t: Any, nest: int, hw: Any, w: Work, s: Search, cut: int, role: int, columns_first: int, stay: int, limit: float,
    share: float, best: float,
) -> float:  # fmt: skip
    """The best of all levels of a role, the others being `s.at`."""
    at = s.at
    hold_roles(t, nest, s.levels, at, columns_first, role, s.lines.fixed)
    hold_rings(t, nest, s.levels, at, columns_first, role, s.lines.rings)
    for row in range(s.cuts.first[cut, role], s.cuts.stop[cut, role]):
        at[role] = row
        if t.nests[nest, NESTED] and crossed(t, nest, s.cuts.splits[cut], s.levels, at):
            continue
        cost = kept_cost(t, nest, hw, w, s.levels, s.cuts, cut, at, row, limit, best, s.lines, share, stay)
        if cost < best:
            best = cost
            copy_to(s.best, at)
    return best
