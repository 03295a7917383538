"""The best tiling of every nest on every design: cuts over cores by their floors, tiles by line search over levels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sim.cost.kernel import (
    ARRAYS,
    CLOCK_HZ,
    COLS,
    CORES,
    DATAFLOW,
    LANES,
    ROWS,
    SRAM_BYTES,
    Work,
    make_work,
    set_quanta,
    tiling_cost,
)
from sim.cost.levels import FIRST, MISFIT_S, PER_OPERAND, TILES, CoreCuts, Lines, fill_levels, scan_role
from sim.cost.nest_tables import DIMS, OPERANDS, NestTables
from sim.cost.nest_work import BODY_CYCLES, DRAIN_CYCLES
from sim.cost.tile_traffic import tiling_traffic
from sim.cost.tiles import groups, largest_part
from sim.jit import jit, jit_bare

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

NOTHING_S = 1e29
"""More than any latency, less than the cost of what does not fit."""

FLOOR_MARGIN = 1.005
"""CoreCuts over cores whose floor is less than this below the best found are not searched: they could win half a per
cent."""

LEVEL_ROWS = 60_000
"""Rows of the table of levels; it is started again when half full, so no nest may need more than half of it."""

NEAR = 6
"""Levels to either side that are tried for two roles at once."""


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
    """Memory of a search: the table of levels and its next free row; `spans` [shares, granules, 2] which of its rows
    hold which share of a role; cuts over cores, their floors and whether whole tiles fit; tilings as one level per
    role (`at` the one looked at, `best`); loop order and cut of the best; scratch of a scan."""

    levels: Any
    next_row: Any
    spans: Any
    cuts: CoreCuts
    floors: Any
    misfits: Any
    at: Any
    best: Any
    found: Any
    lines: Lines


ORDER, CUT = range(2)


@jit_bare
def copy_to(to: Any, values: Any) -> None:
    """Assign all of an array (jit_bare has no slices)."""
    for place in range(len(to)):
        to[place] = values[place]


@jit_bare
def line_search(
    t: Any, nest: int, hw: Any, w: Work, s: Search, cut: int, limit: float, best: float
) -> float:
    """From the levels `at` of one cut over cores, again and again the one role whose best other level helps most. Where
    the tiling is better than `best`, it becomes the best of the search; returns the best."""
    here, order, last, at, cuts = np.inf, 0, -1, s.at, s.cuts
    while True:
        better, better_role, better_row, better_order = here, -1, 0, 0
        for role in range(4):
            if role == last or (cuts.stop[cut, role] - cuts.first[cut, role] < 2 and better < np.inf):
                continue
            other = s.levels[at[1], TILES] if role != 1 else s.levels[at[2], TILES]
            for columns_first in range(2 if other > 1 else 1):
                cost, row, _ = scan_role(
                    t, nest, hw, w, s.levels, cuts, cut, at, role, cuts.first[cut, role], cuts.stop[cut, role],
                    columns_first, limit, better, s.lines,
                )  # fmt: skip
                if row >= 0:
                    better, better_role, better_row, better_order = cost, role, row, columns_first
        if better_role < 0:
            break
        small = better > here * 0.999
        at[better_role], here, order, last = better_row, better, better_order, better_role
        if small:
            break
    if here < best:
        best = here
        s.found[ORDER], s.found[CUT] = order, cut
        copy_to(s.best, at)
    return best


@jit_bare
def plane_search(t: Any, nest: int, hw: Any, w: Work, s: Search, limit: float, best: float) -> float:
    """Improve the best tiling by every pair of near levels of every two roles: what no single role shows."""
    cut, cuts, start, at = s.found[CUT], s.cuts, s.lines.start, s.at
    copy_to(start, s.best)
    for one in range(3):
        for two in range(one + 1, 4):
            if cuts.stop[cut, one] - cuts.first[cut, one] < 2 or cuts.stop[cut, two] - cuts.first[cut, two] < 2:
                continue
            copy_to(at, start)
            low = max(cuts.first[cut, two], start[two] - NEAR)
            high = min(cuts.stop[cut, two], start[two] + NEAR + 1)
            for row in range(
                max(cuts.first[cut, one], start[one] - NEAR), min(cuts.stop[cut, one], start[one] + NEAR + 1)
            ):
                at[one] = row
                twice = s.levels[at[1], TILES] > 1 and (two == 2 or s.levels[at[2], TILES] > 1)
                for columns_first in range(2 if twice else 1):
                    cost, found, _ = scan_role(
                        t, nest, hw, w, s.levels, cuts, cut, at, two, low, high, columns_first, limit, best, s.lines
                    )
                    if found >= 0:
                        best = cost
                        s.found[ORDER] = columns_first
                        copy_to(s.best, at)
                        s.best[two] = found
    return best


@jit
def fill_cuts(t: Any, nest: int, hw: Any, vector: bool, shares: Any, places: Any, s: Search) -> None:
    """Everything of the cuts over cores but `splits`, their levels in the table: `shares` [cuts, 4] the rows of
    `spans` of what each role is cut into, `places` [4] its column, by granule."""
    cuts, operands = s.cuts, t.nests[nest, OPERANDS]
    for cut in range(len(shares)):
        used, summed = 1.0, 1.0
        for dim in range(t.nests[nest, DIMS]):
            used *= cuts.splits[cut, dim]
            if t.role[nest, dim] == 3:
                summed *= cuts.splits[cut, dim]
        cuts.used[cut], cuts.summed[cut], cuts.apart[cut, operands] = used, summed, used / summed
        for operand in range(operands):
            cuts.apart[cut, operand] = groups(t, nest, operand, cuts.splits[cut])
        for role in range(4):
            share, place = shares[cut, role], places[role]
            if s.spans[share, place, 0] < 0:
                first = s.next_row[0]
                quantum = quantum_of(t, nest, role, hw, vector)
                stop = fill_levels(t, nest, role, cuts.splits[cut], quantum, vector, s.levels, first)
                s.spans[share, place, 0], s.spans[share, place, 1], s.next_row[0] = first, stop, stop
            cuts.first[cut, role], cuts.stop[cut, role] = s.spans[share, place, 0], s.spans[share, place, 1]


@jit_bare
def search_cuts(t: Any, nest: int, hw: Any, w: Work, count: int, limit: float, best: float, s: Search) -> float:
    """The best tiling over the first `count` cuts, into `s.best` and `s.found` (CUT -1 where none is better than
    `best`); returns its cost."""
    cuts, floors, at = s.cuts, s.floors, s.at
    for cut in range(count):
        floors[cut] = np.inf
        if w.vector and cuts.summed[cut] > 1.0:
            continue
        copy_to(at, cuts.first[cut])
        whole_s, _, floors[cut] = scan_role(
            t, nest, hw, w, s.levels, cuts, cut, at, 3, at[3], at[3] + 1, 0, limit, np.inf, s.lines
        )
        s.misfits[cut] = whole_s >= MISFIT_S
    s.found[CUT] = -1
    for _ in range(count):
        cut = 0
        for other in range(1, count):
            if floors[other] < floors[cut]:
                cut = other
        if floors[cut] * FLOOR_MARGIN >= best:
            break
        floors[cut] = np.inf
        copy_to(at, cuts.first[cut])
        best = line_search(t, nest, hw, w, s, cut, limit, best)
        if s.misfits[cut]:
            copy_to(at, cuts.first[cut])
            at[3] = cuts.stop[cut, 3] - 1
            best = line_search(t, nest, hw, w, s, cut, limit, best)
    if s.found[CUT] >= 0:
        best = plane_search(t, nest, hw, w, s, limit, best)
    return best


class Inputs(NamedTuple):
    """What the search reads of the designs.

    `hardware` [designs, kinds, HARDWARE_COLUMNS]; `rates` [designs, kinds, formats, 2] numerator (0: the array lacks
    the format) and denominator, `rate_of` [nests] the row of a nest's format, -1 where no array is any use; `work`
    [tables, nests, WORK] and `work_of` [designs, kinds] as nest_work.work_tables has them; `partitions` [rows, dims],
    of which `partitions_of` [designs, kinds, nests, 2] are (first, one past the last); `shares` [rows, 4] numbers
    below `share_count`, one for each distinct way a role of a nest is cut over cores; `granules` [designs, kinds, 4]
    numbers from 1 below `granule_count`, one for each distinct granule of a role (0: none).
    """

    hardware: Any
    rates: Any
    rate_of: Any
    work: Any
    work_of: Any
    partitions: Any
    partitions_of: Any
    shares: Any
    share_count: int
    granules: Any
    granule_count: int


@jit
def best_tilings(
    t: NestTables, given: Inputs, preferred: float, cost: Float64, traffic: Float64, choice: Int64
) -> None:
    """The best tiling of every nest on every design: `cost` [designs, nests, COSTS], `traffic` [designs, nests,
    TRAFFIC], `choice` [designs, nests, 3 + 2 * dims] (kind of cores or -1 where nothing fits, on the vector unit?,
    columns outside?, splits, steps). Buffers keep to the share `preferred` of the scratchpad where they can.

    A nest is searched for all designs before the next: they share its table of levels.
    """
    s = new_search(t, given)
    for nest in range(len(t.nests)):
        for design in range(len(given.hardware)):
            if s.next_row[0] > LEVEL_ROWS // 2:
                s.next_row[0] = 0
                s.spans[:] = -1
            mine = choice[design, nest]
            mine[:], mine[0] = 1, -1
            cost[design, nest, :] = np.nan
            best = NOTHING_S
            for kind in range(given.hardware.shape[1]):
                best = search_kind(t, nest, given, design, kind, preferred, best, mine, s)
            if mine[0] >= 0:
                cost_choice(t, nest, given, design, mine, cost[design, nest], traffic[design, nest])


@jit
def search_kind(
    t: Any, nest: int, given: Inputs, design: int, kind: int, preferred: float, best: float, choice: Any, s: Search
) -> float:
    """The best tiling of a nest on one kind of cores of a design, into `choice` where it is better than `best`; returns
    the better."""
    hw, width = given.hardware[design, kind], t.extent.shape[1]
    first, stop = given.partitions_of[design, kind, nest]
    granule, places = max(1.0, np.floor(hw[SRAM_BYTES] / 32)), np.zeros(4, np.int64)
    for part in (preferred, 1.0):
        limit = np.floor(np.floor(hw[SRAM_BYTES] * part) / granule) * granule
        for vector in (False, True):
            w = unit_work(t, nest, given, design, kind, vector)
            if first == stop or (not vector and w.slow == 0.0):
                continue
            if vector and w.slow > 0.0 and vector_floor_s(t, nest, hw, w.body) >= best:
                continue
            for role in range(4):
                places[role] = given.granules[design, kind, role] if t.alone[nest, role] == 1 else 0
                if vector:
                    places[role] = given.granule_count
            s.cuts.splits[: stop - first] = given.partitions[first:stop]
            fill_cuts(t, nest, hw, vector, given.shares[first:stop], places, s)
            best = search_cuts(t, nest, hw, w, stop - first, limit, best, s)
            if s.found[CUT] < 0:
                continue
            choice[0], choice[1], choice[2] = kind, vector, s.found[ORDER]
            for dim in range(t.nests[nest, DIMS]):
                row = s.best[t.role[nest, dim]]
                choice[3 + dim] = s.cuts.splits[s.found[CUT], dim]
                choice[3 + width + dim] = int(s.levels[row, s.levels.shape[1] - width + dim])
        if choice[0] == kind:
            break
    return best


@jit_bare
def unit_work(t: Any, nest: int, given: Inputs, design: int, kind: int, vector: bool) -> Work:
    """The work of a nest on a unit of a kind of cores; `slow` is 0 where the array is no use."""
    own, dtype, over, under = given.work[given.work_of[design, kind], nest], given.rate_of[nest], 1.0, 0.0
    if dtype >= 0 and given.rates[design, kind, dtype, 0] > 0:
        over, under = given.rates[design, kind, dtype, 0], given.rates[design, kind, dtype, 1]
    return make_work(t, nest, over, under, own[BODY_CYCLES], own[DRAIN_CYCLES], vector)


@jit
def cost_choice(t: Any, nest: int, given: Inputs, design: int, choice: Any, cost: Any, traffic: Any) -> None:
    """All costs and the traffic of a choice."""
    width, kind, vector = t.extent.shape[1], choice[0], choice[1] == 1
    hw, splits, steps = given.hardware[design, kind], choice[3 : 3 + width], choice[3 + width :]
    quanta, tile = np.ones(width, np.int64), np.ones(width, np.int64)
    set_quanta(t, nest, hw, vector, quanta)
    for dim in range(t.nests[nest, DIMS]):
        tile[dim] = largest_part(t.extent[nest, dim], splits[dim] * steps[dim], quanta[dim])
    w = unit_work(t, nest, given, design, kind, vector)
    tiling_cost(t, nest, hw, w, splits, steps, tile, choice[2], 0, True, cost)
    tiling_traffic(t, nest, hw, splits, steps, tile, choice[2], vector, traffic)


@jit
def new_search(t: Any, given: Inputs) -> Search:
    """Memory for a search over the cuts of these inputs."""
    most = max(1, (given.partitions_of[..., 1] - given.partitions_of[..., 0]).max())
    levels = np.empty((LEVEL_ROWS, FIRST + PER_OPERAND * t.operands.shape[1] + t.extent.shape[1]))
    return new_memory(t, most, levels, np.full((given.share_count, given.granule_count + 1, 2), -1, np.int64))


@jit
def new_memory(t: Any, most: int, levels: Any, spans: Any) -> Search:
    """Memory for a search over so many cuts at most."""
    width, operands = t.extent.shape[1], t.operands.shape[1]
    first, stop = np.zeros((most, 4), np.int64), np.zeros((most, 4), np.int64)
    splits = np.ones((most, width), np.int64)
    cuts = CoreCuts(splits, first, stop, np.ones(most), np.ones(most), np.ones((most, operands)))
    trial, start = np.empty(4, np.int64), np.empty(4, np.int64)
    lines = Lines(np.empty((operands, 4)), np.empty((operands, 2)), trial, start)
    return Search(
        levels, np.zeros(1, np.int64), spans, cuts, np.empty(most), np.zeros(most, np.bool_), np.empty(4, np.int64),
        np.empty(4, np.int64), np.zeros(2, np.int64), lines,
    )  # fmt: skip


@jit_bare
def vector_floor_s(t: Any, nest: int, hw: Any, body: float) -> float:
    """Time that the whole nest takes on every lane of every core, at the very least."""
    results = 1.0
    for dim in range(t.nests[nest, DIMS]):
        if t.role[nest, dim] != 3:
            results *= t.extent[nest, dim]
    return float(results * body / (hw[LANES] * hw[CORES] * hw[CLOCK_HZ]))
