"""Every candidate of the mapper's tile search, compiled: what cannot win is recognised by a floor, never by a guess.

A candidate is a family (a cut over cores), one level per role (repeats, rows, columns, sum; see sim/cost/levels.py) and
an order of rows and columns. Its latency is `levels.level_cost`, the closed form of the bound of many designs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.cost.kernel import (
    CHANNEL_BW,
    CHANNELS,
    CLOCK_HZ,
    COSTS,
    DRAM_BW,
    HEAD_S,
    OUTSTANDING,
    PORTS_BW,
    SLOTS,
    TRANSFERS,
    array_cycles,
    groups,
    largest_part,
    tiling_cost,
    vector_cycles,
)
from sim.cost.levels import (
    ELEMENTS,
    FILLS,
    FIRST,
    INDICES,
    MISFIT_S,
    PER_OPERAND,
    TILES,
    fill_level,
    level_cost,
)
from sim.cost.nest_tables import BITS, DIMS, OPERANDS
from sim.cost.tile_search import NOTHING_S, crossed, line_search
from sim.jit import jit

STARTS = 3
"""Families whose best tiling is looked for by line search first: a good first guess spares most of the others."""

# Columns of a candidate close to the best: seconds, bytes between chip and DRAM, family, levels, columns outside?
SECONDS, BYTES, FAMILY, LEVELS, ORDER = 0, 1, 2, 3, 7
CLOSE = 8


@jit
def fill_cuts(t: Any, role: Any, splits: Any, steps: Any, even: Any, quanta: Any, levels: Any) -> None:
    """Levels [rows] of the first nest: row i cuts the loops of `role[i]` into `splits[i]` parts over cores and
    `steps[i]` [dims] tiles each, at multiples of `quanta` [dims] or, where `even[i]`, wherever they are even."""
    tile = np.ones(len(quanta), np.int64)
    for row in range(len(role)):
        for dim in range(t.nests[0, DIMS]):
            if t.role[0, dim] == role[row]:
                quantum = 1 if even[row] else quanta[dim]
                tile[dim] = largest_part(t.extent[0, dim], splits[row, dim] * steps[row, dim], quantum)
        fill_level(t, 0, role[row], steps[row], tile, levels[row])


@jit
def floor_s(
    t: Any, hw: Any, over: float, under: float, body: float, levels: Any, g: int, m: int, n: int, k: int,
    columns_first: int, vector: bool, used: float, summed: float, apart: Any,
) -> float:  # fmt: skip
    """Seconds that no tiling can beat that cuts further what is a role as a whole here, evenly: its loads, its bytes at
    the DRAM's peak and its computing only grow with the number of tiles."""
    operands = t.nests[0, OPERANDS]
    inner, outer = (m, n) if columns_first else (n, m)
    out_tiles = levels[g, TILES] * levels[m, TILES] * levels[n, TILES]
    transfers, core, dram, read, elements, size, most = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for operand in range(operands + 1):
        c = FIRST + PER_OPERAND * operand
        elements = levels[g, c] * levels[m, c] * levels[n, c] * levels[k, c]
        size = np.ceil(elements * t.operands[0, operand, BITS] * 0.125)
        loads, different = out_tiles, used / summed
        if operand < operands:
            read += size
            loads, different = 1.0, apart[operand]
            if different == 0.0:
                continue
            for place in range(4):
                row = k if place == 0 else inner if place == 1 else outer if place == 2 else g
                if loads > 1.0:
                    loads *= levels[row, TILES]
                elif levels[row, c + FILLS] > 0:
                    loads = levels[row, c + FILLS]
            if loads > 1.0:
                most = max(most, loads)
        transfers += loads * different
        core += loads * size
        dram += loads * different * size
    if vector:
        hold = vector_cycles(hw, elements, body, read + size, 0.0)
    else:
        hold, _ = array_cycles(
            hw, levels[g, INDICES], levels[m, INDICES], levels[n, INDICES], levels[k, INDICES], over, under,
            t.operands[0, 0, BITS], t.operands[0, 1, BITS],
        )  # fmt: skip
    compute_s = out_tiles * levels[k, TILES] * hold / hw[CLOCK_HZ]
    moved_s = max(core / (hw[CHANNEL_BW] * hw[CHANNELS]), dram / min(hw[DRAM_BW], hw[PORTS_BW]))
    issue_s = transfers / used * hw[HEAD_S] / (hw[OUTSTANDING] * hw[CHANNELS])
    waiting_s = (compute_s + most * hw[HEAD_S] + moved_s) / SLOTS if most > 1.0 else 0.0
    return float(hw[HEAD_S] + max(compute_s, moved_s, issue_s, waiting_s))


@jit
def least_sram(t: Any, levels: Any, g: int, m: int, n: int, k: int, apart: Any) -> float:
    """Scratchpad bytes of one tile of everything."""
    total = 0.0
    for operand in range(t.nests[0, OPERANDS] + 1):
        c = FIRST + PER_OPERAND * operand + ELEMENTS
        if operand == t.nests[0, OPERANDS] or apart[operand] > 0.0:
            total += levels[g, c] * levels[m, c] * levels[n, c] * levels[k, c] * t.operands[0, operand, BITS] * 0.125
    return total


@jit
def search_cuts(
    t: Any, hw: Any, over: float, under: float, body: float, drain: float, vector: bool, limit: float, slack: float,
    splits: Any, resident: Any, first: Any, stop: Any, levels: Any, steps_of: Any, quanta: Any, winner: Any,
    found_steps: Any,
) -> bool:  # fmt: skip
    """The best candidate of the first nest that fits `limit` bytes of scratchpad: of those within `slack` (1.01: 1 %)
    of the least latency that with the least DRAM traffic, then with the fewest transfers.

    `splits` [families, dims] parts over cores, `resident` [families] bit masks of operands that every core has;
    `first`, `stop` [families, 4] a family's rows of `levels`, by role; in row `stop` stands the role as a whole, cut
    evenly over cores (parts of whole granules may be larger than several tiles of less); `steps_of` [rows, dims] tiles
    per core. False where nothing fits; else `winner` [COSTS] as in `kernel.tiling_cost`, and
    `found_steps` [2 + dims] family, columns outside?, tiles per core.
    """
    count, operands = len(splits), t.nests[0, OPERANDS]
    used, summed, apart, floors = np.ones(count), np.ones(count), np.zeros((count, operands)), np.empty(count)
    for row in range(count):
        for dim in range(t.nests[0, DIMS]):
            used[row] *= splits[row, dim]
            if t.role[0, dim] == 3:
                summed[row] *= splits[row, dim]
        for operand in range(operands):
            if not (resident[row] >> operand) & 1:
                apart[row, operand] = groups(t, 0, operand, splits[row])
        floors[row] = floor_s(
            t, hw, over, under, body, levels, stop[row, 0], stop[row, 1], stop[row, 2], stop[row, 3], 0, vector,
            used[row], summed[row], apart[row],
        )  # fmt: skip
    best, order = NOTHING_S, np.argsort(floors)
    nested = t.nested[0, : t.nests[0, DIMS]].max() >= 0
    at, found = np.empty(4, np.int64), np.empty(3 + 2 * operands)
    for row in order[:STARTS]:
        if floors[row] < best:
            at[:] = first[row]
            cost, _ = line_search(
                t, 0, hw, over, under, body, drain, splits[row], first[row], stop[row], vector, used[row], summed[row],
                apart[row], limit, levels, steps_of, nested, at, found,
            )  # fmt: skip
            best = min(best, cost)
    close, near = np.empty((256, CLOSE)), 0
    for row in order:
        if floors[row] > best * slack:
            break
        best, close, near = _walk(
            t, hw, over, under, body, drain, vector, limit, slack, row, splits[row], first[row], stop[row], levels,
            steps_of, nested, used[row], summed[row], apart[row], best, close, near,
        )  # fmt: skip
    if best >= NOTHING_S:
        return False
    _choose(
        t, hw, over, under, body, drain, vector, splits, resident, steps_of, quanta, close[:near], best * slack, winner,
        found_steps,
    )  # fmt: skip
    return True


@jit
def _walk(
    t: Any, hw: Any, over: float, under: float, body: float, drain: float, vector: bool, limit: float, slack: float,
    family: int, splits: Any, first: Any, stop: Any, levels: Any, steps_of: Any, nested: bool, used: float,
    summed: float, apart: Any, best: float, close: Any, near: int,
) -> tuple[float, Any, int]:  # fmt: skip
    """All candidates of one family: the least latency so far, and what comes close to it, so many of `close`."""
    at, found = np.empty(4, np.int64), np.empty(3 + 2 * t.nests[0, OPERANDS])
    columns = stop[2] - first[2]
    for pair in range((stop[1] - first[1]) * columns * (stop[0] - first[0])):
        n, rest = first[2] + pair % columns, pair // columns
        m, g = first[1] + rest % (stop[1] - first[1]), first[0] + rest // (stop[1] - first[1])
        if least_sram(t, levels, g, m, n, stop[3] - 1, apart) > limit:
            continue
        twice = levels[m, TILES] > 1 and levels[n, TILES] > 1
        for order in range(2 if twice else 1):
            least = floor_s(
                t, hw, over, under, body, levels, g, m, n, stop[3], order, vector, used, summed, apart
            )
            if least > best * slack:
                continue
            at[0], at[1], at[2] = g, m, n
            for k in range(first[3], stop[3]):
                at[3] = k
                if nested and crossed(t, 0, splits, steps_of, at):
                    continue
                cost = level_cost(
                    t, 0, hw, over, under, body, drain, levels, g, m, n, k, order, vector, used, summed, apart, limit,
                    best * slack * (1 + 1e-12), found,
                )  # fmt: skip
                if cost > best * slack or cost >= MISFIT_S:
                    continue
                best = min(best, cost)
                if near == len(close):
                    close, near = _thinned(close, best * slack)
                close[near, SECONDS], close[near, BYTES] = cost, found[1 : 2 + t.nests[0, OPERANDS]].sum()
                close[near, FAMILY], close[near, ORDER] = family, order
                close[near, LEVELS:ORDER] = at
                near += 1
    return best, close, near


@jit
def _thinned(close: Any, most_s: float) -> tuple[Any, int]:
    """Without the candidates that are too slow by now, and with room for more."""
    left = close[close[:, SECONDS] <= most_s]
    wider = np.empty((2 * max(len(left), 128), CLOSE))
    wider[: len(left)] = left
    return wider, len(left)


@jit
def _choose(
    t: Any, hw: Any, over: float, under: float, body: float, drain: float, vector: bool, splits: Any, resident: Any,
    steps_of: Any, quanta: Any, close: Any, most_s: float, winner: Any, found_steps: Any,
) -> None:  # fmt: skip
    """The least DRAM traffic among the candidates within `most_s`, then fewest transfers, then the first of a full
    enumeration (the other order of rows and columns last)."""
    dims, least = t.nests[0, DIMS], np.inf
    for row in range(len(close)):
        if close[row, SECONDS] <= most_s:
            least = min(least, close[row, BYTES])
    found, steps, tile = np.empty(COSTS), np.ones(len(quanta), np.int64), np.ones(len(quanta), np.int64)
    best = np.full(7, np.inf)
    mine = np.empty(7)
    for row in range(len(close)):
        if close[row, SECONDS] > most_s or close[row, BYTES] > least:
            continue
        family, order = int(close[row, FAMILY]), int(close[row, ORDER])
        for dim in range(dims):
            steps[dim] = steps_of[int(close[row, LEVELS + t.role[0, dim]]), dim]
            tile[dim] = largest_part(t.extent[0, dim], splits[family, dim] * steps[dim], quanta[dim])
        tiling_cost(
            t, 0, hw, over, under, body, drain, splits[family], steps, tile, order, vector, resident[family], True,
            found,
        )  # fmt: skip
        mine[0], mine[1], mine[2] = found[TRANSFERS], order, family
        mine[3:] = close[row, LEVELS:ORDER]
        for place in range(7):
            if mine[place] != best[place]:
                if mine[place] < best[place]:
                    best[:] = mine
                    winner[:] = found
                    found_steps[0], found_steps[1] = family, order
                    found_steps[2 : 2 + dims] = steps[:dims]
                break
