"""Every candidate of the mapper's tile search, compiled: what cannot win is recognised by a floor, never by a guess.

A candidate is a family (a cut over cores), one level per role (repeats, rows, columns, sum; see sim/cost/levels.py) and
an order of rows and columns. Its latency is `levels.scan_role`, the closed form of the bound of many designs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.cost.branch import CUT, NOTHING_S, Search, copy_to, new_memory
from sim.cost.cut_table import Shares, share_levels
from sim.cost.kernel import (
    CHANNELS,
    COLS,
    CORE_S,
    COSTS,
    EACH_PORT_S,
    HEAD_S,
    ISSUE_S,
    LINK_S,
    OUTSTANDING,
    OVERLAP,
    PEAK_S,
    PERIOD_S,
    RINGS,
    SEND_S,
    SLOTS,
    TRANSFERS,
    WAVE_ROWS,
    Work,
    array_cycles,
    make_work,
    up,
    vector_cycles,
)
from sim.cost.levels import BOXES, ELEMENTS, FILLS, FIRST, INDICES, PER_OPERAND, RING, TILES
from sim.cost.nest_tables import BITS, DIMS, NESTED, OPERANDS, STAYS
from sim.cost.scan import MISFIT_S, crossed, scan_role
from sim.cost.stay_scan import hold_rings, kept_cost
from sim.cost.tiles import groups, largest_part
from sim.cost.tiling import tiling_cost
from sim.cost.wires import GIVEN, LINK, PLACED, PORT
from sim.jit import jit, jit_bare, jit_inline

STARTS = 1
"""Families whose best tiling is looked for by line search first: a good first guess spares most of the others."""

# Columns of a candidate close to the best: seconds, bytes between chip and DRAM, family, levels, columns outside?,
# operand that stays (-1: none).
SECONDS, BYTES, FAMILY, LEVELS, ORDER, STAY = 0, 1, 2, 3, 7, 8
CLOSE = 9


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
                    columns_first, limit, better, s.lines, 0.0,
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
        s.found[0], s.found[CUT] = order, cut
        copy_to(s.best, at)
    return best


@jit_inline
def floor_s(
    t: Any, hw: Any, w: Work, s: Search, family: int, at: Any, columns_first: int, room: float
) -> float:
    """Seconds that no tiling can beat that cuts further what is a role as a whole here, evenly: its loads, its bytes at
    the DRAM's peak and its computing only grow with the number of tiles. An operand is loaded once where what a core
    needs of it again is at most `room` bytes; these do not grow less where the sum alone is cut further."""
    levels, used, apart = s.levels, s.cuts.used[family], s.cuts.apart[family]
    g, m, n, k = at[0], at[1], at[2], at[3]
    operands = t.nests[0, OPERANDS]
    inner, outer = (m, n) if columns_first else (n, m)
    out_tiles = levels[g, TILES] * levels[m, TILES] * levels[n, TILES]
    transfers, core, dram, read, elements, size, most = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    ported, linked, wires = 0.0, 0.0, s.cuts.wires[family]
    for operand in range(operands + 1):
        c = FIRST + PER_OPERAND * operand
        elements = levels[g, c] * levels[m, c] * levels[n, c] * levels[k, c]
        size = np.ceil(elements * t.operands[0, operand, BITS] * 0.125)
        loads, different = out_tiles, apart[operand]
        if operand < operands:
            read += size
            loads = 1.0
        if different == 0.0:
            continue
        if operand < operands:
            boxes, ring = 1.0, 0.0
            for place in range(4):
                row = k if place == 0 else inner if place == 1 else outer if place == 2 else g
                if loads > 1.0:
                    loads *= levels[row, TILES]
                elif levels[row, c + FILLS] > 0:
                    loads = levels[row, c + FILLS]
                if levels[row, c + RING] > 0.0:
                    ring = boxes * levels[row, c + RING]
                boxes *= levels[row, c + BOXES]
            if hw[RINGS] * t.operands[0, operand, STAYS] > 0 and ring * size <= room:
                loads = min(loads, boxes)
            if loads > 1.0:
                most = max(most, loads)
        transfers += loads * different
        core += loads * size
        dram += loads * different * size
        ported += loads * size * wires[operand, PORT]
        linked += loads * size * wires[operand, LINK]
    tail_s, post_s = 0.0, hw[SEND_S] if apart[operands] > 0.0 else 0.0
    if w.vector:
        hold = vector_cycles(hw, elements, w.body, read + size, 0.0)
    else:
        if hw[OVERLAP] > 0.0:
            # One result leaves as the next tile begins, after a way through the array.
            tail_s = up((hw[WAVE_ROWS] + hw[COLS] - 1.0) * w.slow) * hw[PERIOD_S]
        hold, _ = array_cycles(
            hw, levels[g, INDICES], levels[m, INDICES], levels[n, INDICES], levels[k, INDICES], w.slow, w.left_bits,
            w.right_bits, w.unpack, w.scales,
        )  # fmt: skip
    compute_s = out_tiles * levels[k, TILES] * hold * hw[PERIOD_S]
    moved_s = max(max(core * hw[CORE_S], dram * hw[PEAK_S]), max(ported * hw[EACH_PORT_S], linked * hw[LINK_S]))
    issue_s = transfers / used * hw[ISSUE_S]
    waiting_s = (compute_s + most * hw[HEAD_S] + moved_s) / SLOTS if most > 1.0 else 0.0
    return float(hw[HEAD_S] + max(max(compute_s, moved_s, waiting_s) + post_s, issue_s) + tail_s)


@jit_inline
def least_sram(t: Any, levels: Any, at: Any, k: int, apart: Any) -> float:
    """Scratchpad bytes of one tile of everything, the sum at level `k`."""
    total = 0.0
    for operand in range(t.nests[0, OPERANDS] + 1):
        c = FIRST + PER_OPERAND * operand + ELEMENTS
        if apart[operand] > 0.0:
            elements = levels[at[0], c] * levels[at[1], c] * levels[at[2], c] * levels[k, c]
            total += elements * t.operands[0, operand, BITS] * 0.125
    return total


@jit
def search_cuts(
    t: Any, hw: Any, rate_and_cycles: Any, vector: bool, limit: float, slack: float, coarse: bool, most: int,
    shares: Shares, single: Any, single_begin: Any, resident: Any, wires: Any, quanta: Any, winner: Any,
    found_steps: Any,
) -> bool:  # fmt: skip
    """The best candidate of the first nest that fits `limit` bytes of scratchpad: of those within `slack` (1.01: 1 %)
    of the least latency that with the least DRAM traffic, then with the fewest transfers.

    `rate_and_cycles` are over, under, body, drain and unpack of `kernel.make_work`; `shares` the partitions over cores
    (families), `resident` [families] bit masks of operands that every core has, `wires` [families,
    2, operands, 2] what they make of the busiest port and link (Wiring.counts); `quanta` [dims], `coarse`, `most` and
    `single` say how their shares are cut (`cut_table.share_levels`, where a role as a whole is cut evenly over cores:
    parts of whole granules may be larger than several tiles of less). False where nothing fits; else `winner` [2,
    COSTS] as in `tiling.tiling_cost`, where the result is stored and where it stays, and `found_steps` [3 + dims]
    family, columns outside?, bit mask of operands that stay, tiles per core.
    """
    levels, begin = share_levels(t, shares, quanta, coarse, most, single, single_begin)
    over, under, body, drain, unpack = rate_and_cycles
    w = make_work(t, 0, over, under, body, drain, vector, unpack)
    s = _families(t, shares, levels, begin)
    for row in range(len(resident)):
        # What lies in the scratchpads was looked for in the order given.
        s.cuts.wires[row] = wires[row, GIVEN if resident[row] else PLACED]
    first, stop = s.cuts.first, s.cuts.stop
    for row in range(len(resident)):
        for operand in range(t.nests[0, OPERANDS]):
            if (resident[row] >> operand) & 1:
                s.cuts.apart[row, operand] = 0.0
        s.floors[row] = floor_s(t, hw, w, s, row, stop[row], 0, np.inf)
    best, order = NOTHING_S, np.argsort(s.floors)
    for row in order[:STARTS]:
        if s.floors[row] < best:
            copy_to(s.at, first[row])
            best = min(best, line_search(t, 0, hw, w, s, row, limit, best))
    close, near = np.empty((256, CLOSE)), 0
    for row in order:
        if s.floors[row] > best * slack:
            break
        pair = 0
        while pair >= 0:
            best, near, pair = _walk(t, hw, w, limit, slack, row, s, best, close, near, pair)
            if pair >= 0:
                room = 2 * (1 + t.nests[0, OPERANDS]) * (stop[row, 3] - first[row, 3])
                close, near = _thinned(close[:near], best * slack, room)
    if near == 0:
        return False
    _choose(t, hw, w, s, resident, quanta, close[:near], best * slack, winner, found_steps)
    return True


@jit
def _families(t: Any, shares: Shares, levels: Any, begin: Any) -> Search:
    """Memory for a search over partitions whose shares have the levels `begin` [shares + 1] and on; nothing is
    resident, and no link a limit."""
    operands, families = t.nests[0, OPERANDS], len(shares.splits)
    wires = np.zeros((families, t.operands.shape[1], 2))
    s = new_memory(t, shares.splits, wires, levels, np.full((1, 1, 2), -1, np.int64), False)
    for row in range(families):
        used, summed = 1.0, 1.0
        for role in range(4):
            share = shares.of_family[row, role]
            s.cuts.first[row, role], s.cuts.stop[row, role] = begin[share], begin[share + 1] - 1
        for dim in range(t.nests[0, DIMS]):
            used *= shares.splits[row, dim]
            if t.role[0, dim] == 3:
                summed *= shares.splits[row, dim]
        s.cuts.used[row], s.cuts.summed[row], s.cuts.apart[row, operands] = used, summed, used / summed
        for operand in range(operands):
            s.cuts.apart[row, operand] = groups(t, 0, operand, shares.splits[row])
    return s


@jit
def least_seconds(
    t: Any, hw: Any, rate_and_cycles: Any, vector: bool, shares: Shares, single: Any, single_begin: Any, maybe: int,
    disjoint: bool, head_s: float,
) -> float:  # fmt: skip
    """Seconds that no tiling of the first nest beats under these partitions, whatever is resident or stays: operands of
    the bit mask `maybe` may be in every core's scratchpad; where parts of results are `disjoint`, only if no two cores
    need the same box of them. No core's way to the memory is shorter than `head_s`: fewer of them may be nearer to it
    than all on average. `single` and `single_begin` as in `search_cuts`.
    """
    over, under, body, drain, unpack = rate_and_cycles
    w = make_work(t, 0, over, under, body, drain, vector, unpack)
    hw, operands, least = hw.copy(), t.nests[0, OPERANDS], np.inf
    hw[HEAD_S], hw[ISSUE_S] = head_s, head_s / (hw[OUTSTANDING] * hw[CHANNELS])
    s = _families(t, shares, single, single_begin)
    for row in range(len(shares.splits)):
        s.cuts.apart[row, operands] = 0.0
        for operand in range(operands):
            alike = disjoint and s.cuts.apart[row, operand] < s.cuts.used[row]
            if (maybe >> operand) & 1 and not alike:
                s.cuts.apart[row, operand] = 0.0
        least = min(least, floor_s(t, hw, w, s, row, s.cuts.stop[row], 0, np.inf))
    return float(least)


@jit_bare
def _walk(
    t: Any, hw: Any, w: Work, limit: float, slack: float, family: int, s: Search, best: float, close: Any, near: int,
    pair: int,
) -> tuple[float, int, int]:  # fmt: skip
    """The candidates of one family from number `pair` of its levels of repeats, rows and columns: the least latency so
    far, what comes close to it (so many of `close`), and the number for which `close` lacks room (-1: none)."""
    cuts, levels, at, operands = s.cuts, s.levels, s.at, t.nests[0, OPERANDS]
    first, stop, moved = cuts.first[family], cuts.stop[family], s.lines.moved
    columns = stop[2] - first[2]
    last = (stop[1] - first[1]) * columns * (stop[0] - first[0])
    while pair < last:
        if near + 2 * (1 + operands) * (stop[3] - first[3]) > len(close):
            return best, near, pair
        rest = pair // columns
        at[1], at[0] = first[1] + rest % (stop[1] - first[1]), first[0] + rest // (stop[1] - first[1])
        if pair % columns == 0:
            # With these rows, whatever the columns and the sum.
            at[2], at[3] = stop[2], stop[3]
            if floor_s(t, hw, w, s, family, at, 0, np.inf) > best * slack * (1 + 1e-12):
                pair += columns
                continue
        at[2] = first[2] + pair % columns
        pair += 1
        if least_sram(t, levels, at, stop[3] - 1, cuts.apart[family]) > limit:
            continue
        twice = levels[at[1], TILES] > 1 and levels[at[2], TILES] > 1
        for order in range(2 if twice else 1):
            at[3] = stop[3]
            if floor_s(t, hw, w, s, family, at, order, limit) > best * slack:
                continue
            hold_rings(t, 0, levels, at, order, 3, s.lines.rings)
            for k in range(first[3], stop[3]):
                at[3] = k
                if t.nests[0, NESTED] and crossed(t, 0, cuts.splits[family], levels, at):
                    continue
                cutoff = best * slack * (1 + 1e-12)
                if floor_s(t, hw, w, s, family, at, order, limit) > cutoff:
                    continue
                cost, row, _ = scan_role(
                    t, 0, hw, w, levels, cuts, family, at, 3, k, k + 1, order, limit, cutoff, s.lines, 0.0
                )
                if row >= 0 and cost <= best * slack and cost < MISFIT_S:
                    best = min(best, cost)
                    _note(close[near], cost, operands, family, order, at, -1, moved)
                    near += 1
                for stay in range(operands if hw[RINGS] > 0.0 else 0):
                    if t.operands[0, stay, STAYS] == 0:
                        continue
                    cost = kept_cost(t, 0, hw, w, levels, cuts, family, at, k, limit, cutoff, s.lines, 0.0, stay)
                    if cost <= best * slack:
                        best = min(best, cost)
                        _note(close[near], cost, operands, family, order, at, stay, moved)
                        near += 1
    return best, near, -1


@jit_inline
def _note(
    close: Any, cost: float, operands: int, family: int, order: int, at: Any, stay: int, moved: Any
) -> None:
    """A candidate as a row of those close to the best."""
    close[SECONDS], close[BYTES] = cost, 0.0
    for operand in range(operands + 1):
        close[BYTES] += moved[operand, 0]
    close[FAMILY], close[ORDER], close[STAY] = family, order, stay
    for role in range(4):
        close[LEVELS + role] = at[role]


@jit
def _thinned(close: Any, most_s: float, room: int) -> tuple[Any, int]:
    """Without the candidates that are too slow by now, and with room for so many more at least."""
    left = close[close[:, SECONDS] <= most_s]
    wider = np.empty((len(left) + max(len(left), room, 256), CLOSE))
    wider[: len(left)] = left
    return wider, len(left)


@jit
def _choose(
    t: Any, hw: Any, w: Work, s: Search, resident: Any, quanta: Any, close: Any, most_s: float, winner: Any,
    found_steps: Any,
) -> None:  # fmt: skip
    """The least DRAM traffic among the candidates within `most_s`, then fewest transfers, then the first of a full
    enumeration (the other order of rows and columns last)."""
    dims, least, splits, width = t.nests[0, DIMS], np.inf, s.cuts.splits, len(quanta)
    for row in range(len(close)):
        if close[row, SECONDS] <= most_s:
            least = min(least, close[row, BYTES])
    found, steps, tile = np.empty(COSTS), np.ones(len(quanta), np.int64), np.ones(len(quanta), np.int64)
    best = np.full(7, np.inf)
    mine, parts = np.empty(7), np.empty((t.operands.shape[1], 3))
    for row in range(len(close)):
        if close[row, SECONDS] > most_s or close[row, BYTES] > least:
            continue
        family, order, stay = int(close[row, FAMILY]), int(close[row, ORDER]), int(close[row, STAY])
        staying = 0 if stay < 0 else 1 << stay
        for dim in range(dims):
            level = s.levels[int(close[row, LEVELS + t.role[0, dim]])]
            steps[dim] = int(level[len(level) - width + dim])
            tile[dim] = largest_part(t.extent[0, dim], splits[family, dim] * steps[dim], quanta[dim])
        wires = s.cuts.wires[family]
        tiling_cost(
            t, 0, hw, w, splits[family], steps, tile, order, resident[family], staying, True, wires, parts,
            found,
        )  # fmt: skip
        mine[0], mine[1], mine[2] = found[TRANSFERS], order, family
        mine[3:] = close[row, LEVELS:ORDER]
        for place in range(7):
            if mine[place] != best[place]:
                if mine[place] < best[place]:
                    best[:] = mine
                    winner[0] = found
                    tiling_cost(
                        t, 0, hw, w, splits[family], steps, tile, order, resident[family], staying, False, wires,
                        parts, winner[1],
                    )  # fmt: skip
                    found_steps[0], found_steps[1], found_steps[2] = family, order, staying
                    found_steps[3 : 3 + dims] = steps[:dims]
                break
