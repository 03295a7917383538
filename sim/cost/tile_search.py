"""The best tiling of every nest on every design: cuts over cores by their floors, tiles by line search over levels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sim.cost.kernel import (
    ARRAYS,
    CLOCK_HZ,
    COLS,
    CORES,
    COSTS,
    DATAFLOW,
    HAS_ARRAY,
    LANES,
    ROWS,
    SRAM_BYTES,
    groups,
    largest_part,
    set_quanta,
    tiling_cost,
)
from sim.cost.levels import FIRST, MISFIT_S, PER_OPERAND, TILES, fill_levels, level_cost
from sim.cost.nest_tables import DIMS, OPERANDS, NestTables
from sim.cost.nest_work import BODY_CYCLES, DRAIN_CYCLES
from sim.cost.tile_traffic import TRAFFIC, tiling_traffic
from sim.jit import jit

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

NOTHING_S = 1e29
"""More than any latency, less than the cost of what does not fit."""

FLOOR_MARGIN = 1.005
"""Cuts over cores whose floor is less than this below the best found are not searched: they could win half a per
cent."""

LEVEL_ROWS = 60_000
"""Rows of the table of levels; it is started again when half full, so no nest may need more than half of it."""

NEAR = 4
"""Levels to either side that are tried for two roles at once."""

MOST_TURNS = 8
"""Line searches of one cut over cores, at most."""


@jit
def quantum_of(t: Any, nest: int, role: int, hw: Any, vector: bool) -> int:
    """Granule of the cuts of a role; see sim.mapping.search.cut_quanta."""
    if vector or not t.alone[nest, role]:
        return 1
    columns, rows = (1, 3) if hw[DATAFLOW] == 2.0 else (2, 1 if hw[DATAFLOW] == 1.0 else 3)
    if role == columns:
        return int(hw[COLS]) * (int(hw[ARRAYS]) if columns == 2 else 1)
    return int(hw[ROWS]) if role == rows else 1


@jit
def level_span(
    t: Any, nest: int, role: int, share: int, quantum: int, place: int, vector: bool, splits: Any, levels: Any,
    steps_of: Any, spans: Any, state: Any,
) -> None:  # fmt: skip
    """Make sure that the levels of a role are in the table: rows spans[share, place, 0] to spans[share, place, 1]."""
    if spans[share, place, 0] < 0:
        spans[share, place, 0] = state[0]
        state[0] = fill_levels(t, nest, role, splits, quantum, vector, levels, steps_of, state[0])
        spans[share, place, 1] = state[0]


@jit
def crossed(t: Any, nest: int, splits: Any, steps_of: Any, at: Any) -> bool:
    """Is an inner loop cut whose outer loop is not cut down to single indices?"""
    for dim in range(t.nests[nest, DIMS]):
        outer = t.nested[nest, dim]
        if outer >= 0 and steps_of[at[t.role[nest, dim]], dim] > 1:
            whole = steps_of[at[t.role[nest, outer]], outer] * splits[outer]
            if whole != t.extent[nest, outer]:
                return True
    return False


@jit
def line_search(
    t: Any, nest: int, hw: Any, over: float, under: float, body: float, drain: float, splits: Any, first: Any, stop:
    Any, vector: bool, used: float, summed: float, apart: Any, limit: float, levels: Any, steps_of: Any, nested:
    bool, at: Any, found: Any,
) -> tuple[float, int]:  # fmt: skip
    """The best level of each role, for one cut over cores: from the levels `at`, again and again the one role whose
    best other level helps most. `at` [4] becomes the tiling found; returns its cost and whether the columns are
    outside."""
    order, last = 0, -1
    here = level_cost(
        t, nest, hw, over, under, body, drain, levels, at[0], at[1], at[2], at[3], 0, vector, used, summed, apart,
        limit, np.inf, found,
    )  # fmt: skip
    trial = np.empty(4, np.int64)
    for _ in range(MOST_TURNS):
        best, best_role, best_row, best_order = here, -1, 0, 0
        for role in range(4):
            if role == last:
                continue
            trial[:] = at
            for row in range(first[role], stop[role]):
                trial[role] = row
                if row == at[role] or (nested and crossed(t, nest, splits, steps_of, trial)):
                    continue
                twice = levels[trial[1], TILES] > 1 and levels[trial[2], TILES] > 1
                for columns_first in range(2 if twice else 1):
                    cost = level_cost(
                        t, nest, hw, over, under, body, drain, levels, trial[0], trial[1], trial[2], trial[3],
                        columns_first, vector, used, summed, apart, limit, best, found,
                    )  # fmt: skip
                    if cost < best:
                        best, best_role, best_row, best_order = cost, role, row, columns_first
        if best_role < 0:
            break
        small = best > here * 0.999
        at[best_role], here, order, last = best_row, best, best_order, best_role
        if small:
            break
    return here, order


@jit
def plane_search(
    t: Any, nest: int, hw: Any, over: float, under: float, body: float, drain: float, splits: Any, first: Any,
    stop: Any, vector: bool, used: float, summed: float, apart: Any, limit: float, levels: Any, steps_of: Any,
    nested: bool, at: Any, order: int, here: float, found: Any,
) -> tuple[float, int]:  # fmt: skip
    """Improve the tiling `at` by every pair of near levels of every two roles: what no single role shows."""
    trial, start = np.empty(4, np.int64), at.copy()
    for one in range(3):
        for two in range(one + 1, 4):
            if stop[one] - first[one] < 2 or stop[two] - first[two] < 2:
                continue
            trial[:] = start
            for row in range(max(first[one], start[one] - NEAR), min(stop[one], start[one] + NEAR + 1)):
                for column in range(
                    max(first[two], start[two] - NEAR), min(stop[two], start[two] + NEAR + 1)
                ):
                    trial[one], trial[two] = row, column
                    if nested and crossed(t, nest, splits, steps_of, trial):
                        continue
                    twice = levels[trial[1], TILES] > 1 and levels[trial[2], TILES] > 1
                    for columns_first in range(2 if twice else 1):
                        cost = level_cost(
                            t, nest, hw, over, under, body, drain, levels, trial[0], trial[1], trial[2], trial[3],
                            columns_first, vector, used, summed, apart, limit, here, found,
                        )  # fmt: skip
                        if cost < here:
                            here, order = cost, columns_first
                            at[:] = trial
    return here, order


@jit
def search_nest(
    t: Any, nest: int, hw: Any, over: float, under: float, body: float, drain: float, partitions: Any, shares: Any,
    places: Any, vector: bool, limit: float, levels: Any, steps_of: Any, spans: Any, state: Any, best: float,
    best_splits: Any, best_steps: Any,
) -> tuple[float, int]:  # fmt: skip
    """The best tiling of one nest over the cuts `partitions` [count, dims]: its cost and loop order (-1 where none is
    better than `best`).

    `shares` [count, 4] are the rows of `spans` of what a role is cut into, `places` [4] its column, by granule.
    """
    dims, operands, count = t.nests[nest, DIMS], t.nests[nest, OPERANDS], len(partitions)
    floors, whole_s, found = np.empty(count), np.zeros(count), np.empty(3 + 2 * operands)
    used, summed = np.ones(count), np.ones(count)
    apart = np.ones((count, operands))
    first, stop = np.zeros((count, 4), np.int64), np.zeros((count, 4), np.int64)
    at, other = np.empty(4, np.int64), np.empty(4, np.int64)
    nested = False
    for dim in range(dims):
        nested = nested or t.nested[nest, dim] >= 0
    for row in range(count):
        splits = partitions[row]
        for dim in range(dims):
            used[row] *= splits[dim]
            if t.role[nest, dim] == 3:
                summed[row] *= splits[dim]
        floors[row] = np.inf
        if vector and summed[row] > 1.0:
            continue
        for operand in range(operands):
            apart[row, operand] = groups(t, nest, operand, splits)
        for role in range(4):
            level_span(
                t, nest, role, shares[row, role], quantum_of(t, nest, role, hw, vector), places[role], vector, splits,
                levels, steps_of, spans, state,
            )  # fmt: skip
            first[row, role], stop[row, role] = spans[shares[row, role], places[role]]
        whole_s[row] = level_cost(
            t, nest, hw, over, under, body, drain, levels, first[row, 0], first[row, 1], first[row, 2], first[row,
            3], 0, vector, used[row], summed[row], apart[row], limit, np.inf, found,
        )  # fmt: skip
        floors[row] = found[0]
    best_order, best_row = -1, -1
    best_at = np.empty(4, np.int64)
    for _ in range(count):
        row = int(np.argmin(floors))
        if floors[row] * FLOOR_MARGIN >= best:
            break
        floors[row] = np.inf
        at[:] = first[row]
        cost, order = line_search(
            t, nest, hw, over, under, body, drain, partitions[row], first[row], stop[row], vector, used[row],
            summed[row], apart[row], limit, levels, steps_of, nested, at, found,
        )  # fmt: skip
        if cost < best:
            best, best_order, best_row = cost, order, row
            best_at[:] = at
    if best_order < 0:
        return best, best_order
    row = best_row
    if whole_s[row] >= MISFIT_S:
        # Where memory is short, the way down from whole tiles may end far from the way up from the smallest.
        other[:] = stop[row] - 1
        cost, order = line_search(
            t, nest, hw, over, under, body, drain, partitions[row], first[row], stop[row], vector, used[row],
            summed[row], apart[row], limit, levels, steps_of, nested, other, found,
        )  # fmt: skip
        if cost < best:
            best, best_order = cost, order
            best_at[:] = other
    best, best_order = plane_search(
        t, nest, hw, over, under, body, drain, partitions[row], first[row], stop[row], vector, used[row], summed[row],
        apart[row], limit, levels, steps_of, nested, best_at, best_order, best, found,
    )  # fmt: skip
    for dim in range(dims):
        best_splits[dim] = partitions[row, dim]
        best_steps[dim] = steps_of[best_at[t.role[nest, dim]], dim]
    return best, best_order


@jit
def best_tilings(
    t: NestTables, hardware: Float64, rates: Float64, rate_of: Int64, work: Float64, work_of: Int64,
    partitions: Int64, partitions_of: Int64, shares: Int64, granules: Int64, granule_count: int, share_count: int,
    preferred: float, cost: Float64, traffic: Float64, choice: Int64,
) -> None:  # fmt: skip
    """The best tiling of every nest on every design: `cost` [designs, nests, COSTS], `traffic` [designs, nests,
    TRAFFIC], `choice` [designs, nests, 3 + 2 * dims] (kind of cores or -1 where nothing fits, on the vector unit?,
    columns outside?, splits, steps).

    `hardware` [designs, kinds, HARDWARE_COLUMNS]; `rates` [designs, kinds, formats, 2] numerator (0: the array
    lacks the format) and denominator, `rate_of` [nests] the row of a nest's format, -1 where no array is any use;
    `work` [tables, nests, WORK], `work_of` [designs, kinds] as nest_work.work_tables has them; `partitions` [rows,
    dims], of which `partitions_of` [designs, kinds, nests, 2] are (first, one past the last); `shares` [rows, 4] numbers below `share_count`, one for each distinct way a role of a nest is cut over
    cores; `granules` [designs, kinds, 4] numbers from 1 below `granule_count`, one for each distinct granule of a
    role (0: none). Buffers keep to the share `preferred` of the scratchpad where they can.
    """
    width = t.extent.shape[1]
    levels = np.empty((LEVEL_ROWS, FIRST + PER_OPERAND * t.operands.shape[1]))
    steps_of = np.ones((LEVEL_ROWS, width), np.int64)
    spans = np.full((share_count, 2 * granule_count, 2), -1, np.int64)
    state, places = np.zeros(1, np.int64), np.zeros(4, np.int64)
    splits, steps, tile = np.ones(width, np.int64), np.ones(width, np.int64), np.ones(width, np.int64)
    quanta, found, moved = np.ones(width, np.int64), np.zeros(COSTS), np.zeros(TRAFFIC)
    for design in range(hardware.shape[0]):
        for nest in range(len(t.nests)):
            if state[0] > LEVEL_ROWS // 2:
                state[0] = 0
                spans[:] = -1
            best, kind_found = NOTHING_S, -1
            splits[:], steps[:] = 1, 1
            choice[design, nest, 0] = -1
            cost[design, nest, :] = np.nan
            for kind in range(hardware.shape[1]):
                hw = hardware[design, kind]
                first, stop = partitions_of[design, kind, nest]
                body = work[work_of[design, kind], nest, BODY_CYCLES]
                drain = work[work_of[design, kind], nest, DRAIN_CYCLES]
                over, under = 0.0, 1.0
                if rate_of[nest] >= 0 and hw[HAS_ARRAY] > 0:
                    over, under = rates[design, kind, rate_of[nest]]
                granule = max(1.0, np.floor(hw[SRAM_BYTES] / 32))
                for part in (preferred, 1.0):
                    limit = np.floor(np.floor(hw[SRAM_BYTES] * part) / granule) * granule
                    for vector in (False, True):
                        if (not vector and over == 0.0) or first == stop:
                            continue
                        if vector and over > 0.0 and vector_floor_s(t, nest, hw, body) >= best:
                            continue
                        for role in range(4):
                            alone = t.alone[nest, role] == 1 and not vector
                            places[role] = granules[design, kind, role] if alone else 0
                            if vector:
                                places[role] = granule_count
                        score, order = search_nest(
                            t, nest, hw, over, under, body, drain, partitions[first:stop], shares[first:stop], places,
                            vector, limit, levels, steps_of, spans, state, best, splits, steps,
                        )  # fmt: skip
                        if order >= 0:
                            best, kind_found = score, kind
                            choice[design, nest, 0], choice[design, nest, 1] = kind, vector
                            choice[design, nest, 2] = order
                            choice[design, nest, 3 : 3 + width] = splits
                            choice[design, nest, 3 + width :] = steps
                    if kind_found == kind:
                        break
            if kind_found < 0:
                continue
            hw, vector = hardware[design, kind_found], choice[design, nest, 1] == 1
            body = work[work_of[design, kind_found], nest, BODY_CYCLES]
            drain = work[work_of[design, kind_found], nest, DRAIN_CYCLES]
            over, under = 1.0, 1.0
            if not vector:
                over, under = rates[design, kind_found, rate_of[nest]]
            set_quanta(t, nest, hw, vector, quanta)
            for dim in range(t.nests[nest, DIMS]):
                tile[dim] = largest_part(t.extent[nest, dim], splits[dim] * steps[dim], quanta[dim])
            order = choice[design, nest, 2]
            tiling_cost(t, nest, hw, over, under, body, drain, splits, steps, tile, order, vector, 0, True, found)
            cost[design, nest, :] = found
            tiling_traffic(t, nest, hw, splits, steps, tile, order, vector, moved)
            traffic[design, nest, :] = moved


@jit
def vector_floor_s(t: Any, nest: int, hw: Any, body: float) -> float:
    """Time that the whole nest takes on every lane of every core, at the very least."""
    results = 1.0
    for dim in range(t.nests[nest, DIMS]):
        if t.role[nest, dim] != 3:
            results *= t.extent[nest, dim]
    return float(results * body / (hw[LANES] * hw[CORES] * hw[CLOCK_HZ]))
