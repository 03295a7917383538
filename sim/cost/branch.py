"""The best tiling of a nest on a unit, by branch and bound over levels: what is passed over has a floor that says that
it cannot win (sim/cost/floors.py), so the choice is the best of all levels of all cuts over cores.

Of every cut over cores, floors of every level of every role with the other roles open; of the most promising cuts the
best single lines, for a first limit; then, cut by cut, pairs of levels of rows and columns with the sum open, and at
last the closed form (levels.scan_role) of what is left.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sim.cost.floor_inputs import fill_lanes, hold_cut, hold_open, hold_others, hold_unit
from sim.cost.floors import ALL, LANE_COLUMNS, LEVEL_ROWS, SCALARS, SEEN, WIDTH, floors_of
from sim.cost.kernel import ARRAYS, COLS, DATAFLOW, ROWS, TRAFFIC_SHARE, Work
from sim.cost.levels import TILES, fill_levels
from sim.cost.listed import FILLED, LIST_COLUMNS, LIST_ROWS, ROOM, Lists, list_tiling
from sim.cost.nest_tables import DIMS, NESTED, OPERANDS
from sim.cost.scan import CoreCuts, Lines, crossed, hold_roles, scan_role
from sim.cost.tiles import groups
from sim.jit import jit, jit_bare

NOTHING_S = 1e29
"""More than any latency, less than the cost of what does not fit."""

SURELY = 1.0 - 1e-9
"""A floor times this is below the latency whatever the rounding."""

EQUAL = 1e-12
"""Latencies that differ by less than this share are equal: rounding alone tells them apart."""


@jit_bare
def quantum_of(t: Any, nest: int, role: int, hw: Any, vector: bool) -> int:
    """Granule of the cuts of a role; see sim.mapping.search.cut_quanta."""
    if vector or not t.alone[nest, role]:
        return 1
    columns, rows = (1, 3) if hw[DATAFLOW] == 2.0 else (2, 1 if hw[DATAFLOW] == 1.0 else 3)
    if role == columns:
        return int(hw[COLS]) * (int(hw[ARRAYS]) if columns == 2 else 1)
    return int(hw[ROWS]) if role == rows else 1


class Search(NamedTuple):
    """Memory of a search: the table of levels and its next free row, the same side by side for floors (`lanes`,
    `least`; see floors.fill_lanes); `spans` [shares, granules, 2] which of its rows hold which share of a role; cuts
    over cores; `floors` of the cuts and of those `left`, and of every level of every role of a cut (`floor_of`, from
    `floor_at` [cuts, 4] on, -1 where they are not known); floors of lines of rows or columns and of sums; tilings as
    one level per role (`at` the one looked at, `best`); loop order, cut and place of the best; scratch of a scan; lists
    of tilings, to which those that are explored are added where there is room for some; `near` [5] cut and
    levels of the attention found last."""

    levels: Any
    next_row: Any
    lanes: Any
    least: Any
    held: Any
    spans: Any
    cuts: CoreCuts
    floors: Any
    left: Any
    floor_at: Any
    floor_of: Any
    by_inner: Any
    by_sums: Any
    at: Any
    best: Any
    found: Any
    lines: Lines
    lists: Lists
    near: Any


ORDER, CUT, PLACE = range(3)

GUESSES = 1
"""Cuts of which the best lines are tried before anything is explored: more cost as much as they spare."""


@jit_bare
def copy_to(to: Any, values: Any) -> None:
    """Assign all of an array (jit_bare has no slices)."""
    for place in range(len(to)):
        to[place] = values[place]


@jit
def fill_cuts(
    t: Any, nest: int, hw: Any, vector: bool, shares: Any, places: Any, first: int, stop: int, s: Search
) -> None:
    """The cuts over cores `first` to `stop`, their levels in the table: `shares` [cuts, 4] the rows of `spans` of what
    each role is cut into, `places` [4] its column, by granule."""
    cuts, operands = s.cuts, t.nests[nest, OPERANDS]
    for cut in range(first, stop):
        if cuts.used[cut] == 0.0:
            _fill_cut(t, nest, cuts, cut, operands)
        for role in range(4):
            share, place = shares[cut, role], places[role]
            if s.spans[share, place, 0] < 0:
                row = s.next_row[0]
                quantum = quantum_of(t, nest, role, hw, vector)
                end = fill_levels(t, nest, role, cuts.splits[cut], quantum, vector, s.levels, row)
                fill_lanes(t, nest, s.levels, row, end, s.lanes, s.least)
                s.spans[share, place, 0], s.spans[share, place, 1], s.next_row[0] = row, end, end
            cuts.first[cut, role], cuts.stop[cut, role] = s.spans[share, place, 0], s.spans[share, place, 1]


@jit_bare
def _fill_cut(t: Any, nest: int, cuts: CoreCuts, cut: int, operands: int) -> None:
    """What of a cut no chip changes."""
    used, summed = 1.0, 1.0
    for dim in range(t.nests[nest, DIMS]):
        used *= cuts.splits[cut, dim]
        if t.role[nest, dim] == 3:
            summed *= cuts.splits[cut, dim]
    cuts.used[cut], cuts.summed[cut], cuts.apart[cut, operands] = used, summed, used / summed
    for operand in range(operands):
        cuts.apart[cut, operand] = groups(t, nest, operand, cuts.splits[cut])


@jit_bare
def line_floors(
    t: Any, nest: int, s: Search, cut: int, opened: int, role: int, start: int, stop: int, columns_first: int,
    found: Any, into: int,
) -> None:  # fmt: skip
    """Floors of the levels `start` to `stop` of a role, from `found[into]` on, the roles in the bit mask `opened`
    whatever they are and the others `s.at`."""
    if opened | 1 << role == ALL:
        hold_open(t, nest, s.levels, s.least, s.cuts, cut, role, s.held)
    else:
        hold_others(t, nest, s.levels, s.least, s.cuts, cut, s.at, opened, role, columns_first, s.held)
    floors_of(s.lanes, start, stop, s.held, found, into)


@jit_bare
def least_place(floors: Any, first: int, stop: int) -> int:
    """Where the least of some floors stands."""
    place = first
    for other in range(first + 1, stop):
        if floors[other] < floors[place]:
            place = other
    return place


@jit_bare
def try_level(
    t: Any, nest: int, hw: Any, w: Work, s: Search, cut: int, role: int, row: int, columns_first: int, limit: float,
    best: float,
) -> float:  # fmt: skip
    """Evaluate the tiling `s.at` with another level of one role; where it is better, it becomes the best of the
    search."""
    cost, found, _ = scan_role(
        t, nest, hw, w, s.levels, s.cuts, cut, s.at, role, row, row + 1, columns_first, limit, best * (1.0 + EQUAL),
        s.lines, TRAFFIC_SHARE,
    )  # fmt: skip
    if found < 0:
        return best
    left = s.at[role]
    s.at[role] = row
    better = takes_place(s, cut, s.at, columns_first, cost, best)
    s.at[role] = left
    return min(best, cost) if better else best


@jit_bare
def takes_place(s: Search, cut: int, at: Any, columns_first: int, cost: float, best: float) -> bool:
    """Make a tiling the best of the search, where it is better than that or, as good, comes before it in the order of
    cuts, loop orders and levels: so the choice does not depend on what is looked at first."""
    place = 2 * cut + columns_first
    for role in range(4):
        place = place * 1024 + at[role] - s.cuts.first[cut, role]
    if cost > best * (1.0 - EQUAL) and (s.found[CUT] < 0 or place > s.found[PLACE]):
        return False
    copy_to(s.best, at)
    s.found[ORDER], s.found[CUT], s.found[PLACE] = columns_first, cut, place
    return True


@jit_bare
def try_lines(
    t: Any, nest: int, hw: Any, w: Work, s: Search, cut: int, limit: float, best: float
) -> float:
    """Evaluate the most promising level of every role, the others whole: a good first limit."""
    for back in range(3):
        role = 3 - back
        start, stop = s.cuts.first[cut, role], s.cuts.stop[cut, role]
        if stop - start < 2 and role != 3:
            continue
        copy_to(s.at, s.cuts.first[cut])
        line_floors(t, nest, s, cut, 0, role, start, stop, 0, s.by_sums, 0)
        place = least_place(s.by_sums, 0, stop - start)
        if s.by_sums[place] < best:
            best = try_level(t, nest, hw, w, s, cut, role, start + place, 0, limit, best)
    return best


@jit_bare
def bound_role(t: Any, nest: int, s: Search, cut: int, role: int, free: int) -> int:
    """Floors of every level of a role of a cut, from `free` on in the table of floors, and with them a better one of
    the cut. Returns the next free place."""
    start, stop = s.cuts.first[cut, role], s.cuts.stop[cut, role]
    s.floor_at[cut, role] = free
    line_floors(t, nest, s, cut, ALL - (1 << role), role, start, stop, 0, s.floor_of, free)
    s.floors[cut] = max(s.floors[cut], s.floor_of[least_place(s.floor_of, free, free + stop - start)])
    return int(free + stop - start + WIDTH)


@jit_bare
def may_win(s: Search, cut: int, role: int, row: int, best: float) -> bool:
    """May a level be part of a tiling that is better than `best`?"""
    at = s.floor_at[cut, role]
    return bool(at < 0 or s.floor_of[at + row - s.cuts.first[cut, role]] * SURELY < best)


@jit_bare
def narrowed(s: Search, cut: int, role: int, best: float) -> tuple[int, int]:
    """From the first to past the last level of a role that may win."""
    start, stop = s.cuts.first[cut, role], s.cuts.stop[cut, role]
    while start < stop and not may_win(s, cut, role, start, best):
        start += 1
    while start < stop and not may_win(s, cut, role, stop - 1, best):
        stop -= 1
    return start, stop


@jit_bare
def explore_cut(
    t: Any, nest: int, hw: Any, w: Work, s: Search, cut: int, limit: float, best: float
) -> float:
    """Every tiling of a cut that may win: of rows and columns that with fewer levels left outermost, the other by its
    floors, then sums."""
    at, levels = s.at, s.levels
    hold_cut(hw, s.cuts, cut, s.held)
    rows, columns = narrowed(s, cut, 1, best), narrowed(s, cut, 2, best)
    outer, inner, span = 1, 2, columns
    if columns[1] - columns[0] < rows[1] - rows[0]:
        outer, inner, span = 2, 1, rows
    first, stop = span
    for g in range(s.cuts.first[cut, 0], s.cuts.stop[cut, 0]):
        for row in range(s.cuts.first[cut, outer], s.cuts.stop[cut, outer]):
            if not (may_win(s, cut, 0, g, best) and may_win(s, cut, outer, row, best)):
                continue
            for order in range(2 if levels[row, TILES] > 1.0 else 1):
                at[0], at[outer] = g, row
                if stop - first > 1:
                    line_floors(t, nest, s, cut, 1 << 3, inner, first, stop, order, s.by_inner, 0)
                else:
                    s.by_inner[0] = 0.0
                for other in range(first, stop):
                    if s.by_inner[other - first] * SURELY >= best or not may_win(s, cut, inner, other, best):
                        continue
                    if order == 0 or levels[other, TILES] > 1.0:
                        at[inner] = other
                        best = explore_sums(t, nest, hw, w, s, cut, order, limit, best)
    return best


@jit_bare
def explore_sums(
    t: Any, nest: int, hw: Any, w: Work, s: Search, cut: int, columns_first: int, limit: float,
    best: float,
) -> float:  # fmt: skip
    """Every level of the sum that may win with the other roles' `s.at`, the most promising first; or all of them into
    the list, as long as there is room."""
    first, stop = narrowed(s, cut, 3, best)
    floors, count = s.by_sums, stop - first
    if count == 0:
        return best
    line_floors(t, nest, s, cut, 0, 3, first, stop, columns_first, floors, 0)
    if s.lists.filled[ROOM] > 0:
        hold_roles(t, nest, s.levels, s.at, columns_first, 3, s.lines.fixed)
        for place in range(count):
            s.at[3] = first + place
            if floors[place] * SURELY < best and not _crosses(t, nest, s, cut):
                list_tiling(
                    t, nest, hw, w, s.levels, s.cuts, cut, s.at, columns_first, limit, s.lines, s.lists
                )
        # Nothing more is explored where there is no room.
        return best if s.lists.filled[FILLED] <= s.lists.filled[ROOM] else 0.0
    place = least_place(floors, 0, count)
    while floors[place] * SURELY < best:
        floors[place] = np.inf
        best = try_level(t, nest, hw, w, s, cut, 3, first + place, columns_first, limit, best)
        place = least_place(floors, 0, count)
    return best


@jit_bare
def _crosses(t: Any, nest: int, s: Search, cut: int) -> bool:
    """Are the levels `s.at` no tiling?"""
    return bool(t.nests[nest, NESTED] and crossed(t, nest, s.cuts.splits[cut], s.levels, s.at))


@jit_bare
def search_cuts(
    t: Any, nest: int, hw: Any, w: Work, first: int, stop: int, limit: float, best: float, s: Search
) -> float:
    """The best tiling of the cuts `first` to `stop`, into `s.best` and `s.found` (CUT -1 where none is better than
    `best`); returns its cost. Nothing is passed over that could be better."""
    s.found[CUT], s.lists.filled[ROOM] = -1, 0
    best = bound_cuts(t, nest, hw, w, first, stop, limit, best, GUESSES, s)
    return explore_cuts(t, nest, hw, w, first, stop, limit, best, s)


@jit_bare
def list_cuts(
    t: Any, nest: int, hw: Any, w: Work, first: int, stop: int, limit: float, most_s: float, room: int, s: Search
) -> int:
    """Every tiling of the cuts `first` to `stop` with a floor below `most_s`, into `s.lists`; how many, or -1 where
    they are more than `room`."""
    s.lists.filled[FILLED], s.lists.filled[ROOM] = 0, room
    bound_cuts(t, nest, hw, w, first, stop, limit, most_s, 0, s)
    explore_cuts(t, nest, hw, w, first, stop, limit, most_s, s)
    s.lists.filled[ROOM] = 0
    return int(s.lists.filled[FILLED]) if s.lists.filled[FILLED] <= room else -1


@jit_bare
def bound_cuts(
    t: Any, nest: int, hw: Any, w: Work, first: int, stop: int, limit: float, best: float, guesses: int, s: Search
) -> float:
    """Floors of all cuts, and of the levels of those that may win, the most promising first; with so many guesses, a
    tiling better than `best`."""
    free, cuts, floors = 0, s.cuts, s.floors
    hold_unit(t, nest, hw, w, limit, s.held)
    for cut in range(first, stop):
        floors[cut], s.left[cut] = 0.0, np.inf
        for role in range(4):
            s.floor_at[cut, role] = -1
        if not (w.vector and cuts.summed[cut] > 1.0):
            hold_cut(hw, cuts, cut, s.held)
            free = bound_role(t, nest, s, cut, 3, free)
            s.left[cut] = floors[cut]
    tried = 0
    while True:
        cut = least_place(s.left, first, stop)
        if s.left[cut] * SURELY >= best:
            return best
        s.left[cut] = np.inf
        hold_cut(hw, cuts, cut, s.held)
        for role in range(3):
            if cuts.stop[cut, role] - cuts.first[cut, role] > 1 and floors[cut] * SURELY < best:
                free = bound_role(t, nest, s, cut, role, free)
        if guesses > 0 and floors[cut] * SURELY < best and (tried < guesses or best >= NOTHING_S):
            best = try_lines(t, nest, hw, w, s, cut, limit, best)
            tried += 1


@jit_bare
def explore_cuts(
    t: Any, nest: int, hw: Any, w: Work, first: int, stop: int, limit: float, best: float, s: Search
) -> float:
    """All that may win of the cuts whose floors are known, the most promising first."""
    for cut in range(first, stop):
        s.left[cut] = np.inf if s.floors[cut] == 0.0 else s.floors[cut]
    while True:
        cut = least_place(s.left, first, stop)
        if s.left[cut] * SURELY >= best:
            return best
        s.left[cut] = np.inf
        best = explore_cut(t, nest, hw, w, s, cut, limit, best)


@jit
def new_memory(t: Any, splits: Any, wires: Any, levels: Any, spans: Any, by_floors: bool) -> Search:
    """Memory for a search over these cuts, `wires` [cuts, operands, 2] being theirs, by floors or only by the closed
    form."""
    rows, listed = LEVEL_ROWS if by_floors else 0, LIST_ROWS if by_floors else 0
    cuts, operands = len(splits), t.operands.shape[1]
    first, stop = np.zeros((cuts, 4), np.int64), np.zeros((cuts, 4), np.int64)
    made = CoreCuts(splits, first, stop, np.zeros(cuts), np.ones(cuts), np.ones((cuts, operands)), wires)
    trial, start = np.empty(4, np.int64), np.empty(4, np.int64)
    lines = Lines(np.empty((operands, 4)), np.empty((operands, 2)), trial, start, np.empty((operands, 4)))
    lanes, least = np.zeros(LANE_COLUMNS * rows + WIDTH), np.empty((rows, 2 * (SEEN + 1)))
    floor_of, by_inner, by_sums = np.empty(rows + WIDTH), np.empty(rows + WIDTH), np.empty(rows + WIDTH)
    lists = Lists(
        np.empty(LIST_COLUMNS * listed + WIDTH), np.empty((listed, 6), np.int64), np.zeros(2, np.int64),
        np.empty(listed),
    )  # fmt: skip
    return Search(
        levels, np.zeros(1, np.int64), lanes, least, np.zeros(SCALARS), spans, made, np.empty(cuts), np.empty(cuts),
        np.full((cuts, 4), -1, np.int64), floor_of, by_inner, by_sums, np.empty(4, np.int64), np.empty(4, np.int64),
        np.zeros(3, np.int64), lines, lists, np.full(5, -1, np.int64),
    )  # fmt: skip
