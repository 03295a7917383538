"""What floors are computed from (sim/cost/floors.py): levels side by side, and the scalars that a line of floors has in
common, of a unit, of a cut over cores and of all roles but one."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sim.cost.floors import (
    CUT_AT,
    LANE_FIRST,
    LANE_INDICES,
    LANE_TILES,
    LEVEL_ROWS,
    PER_BOX,
    REST,
    SEEN,
    UNIT_AT,
    Box,
    Unit,
)
from sim.cost.kernel import (
    ACCUMULATOR_BYTES,
    ARRAY_SHARE,
    ARRAYS,
    CHANNEL_S,
    COL_PART,
    COLS,
    CORE_S,
    DATAFLOW,
    DRAM_COST,
    DRAM_LINES,
    DRAM_RUNS,
    DRAM_SHARE,
    FEED_CYCLES,
    HEAD_S,
    HOP_BW,
    ISSUE_S,
    LANE_PART,
    OVERLAP,
    PART_S,
    PERIOD_S,
    PORT_S,
    ROW_PART,
    SEND_S,
    SUM_CYCLES,
    TILE_CYCLES,
    VECTOR_SHARE,
    WAVE_ROWS,
    WIRE_S,
    Work,
)
from sim.cost.levels import ELEMENTS, FILLS, FIRST, INDICES, PER_OPERAND, TILES
from sim.cost.nest_tables import BITS, OPERANDS
from sim.cost.scan import CoreCuts
from sim.jit import jit_bare, jit_inline


@jit_bare
def _least_cost(hw: Any, store: int) -> float:
    """1 / efficiency of the DRAM for its best pattern: runs without end."""
    least, place = np.inf, DRAM_COST + (store * DRAM_LINES + 1) * DRAM_RUNS - 1
    for line in range(DRAM_LINES):
        least = min(least, hw[place + line * DRAM_RUNS])
    return float(least / hw[DRAM_SHARE])


@jit_bare
def hold_unit(t: Any, nest: int, hw: Any, w: Work, limit: float, held: Any) -> None:
    """What floors need of a unit, into `held` [SCALARS]; `limit` bytes of scratchpad."""
    u = _unit_of(t, nest, hw, w, limit)
    for place in range(len(u)):
        held[UNIT_AT + place] = u[place]


@jit_bare
def _unit_of(t: Any, nest: int, hw: Any, w: Work, limit: float) -> Unit:
    array, per_byte = 0.0 if w.vector else 1.0, 8.0 / t.operands[nest, t.nests[nest, OPERANDS], BITS]
    body = (w.body if w.vector else w.drain) * hw[LANE_PART] / hw[VECTOR_SHARE]
    sums = w.sum_bytes * per_byte * array
    port = hw[FEED_CYCLES] * (1.0 + array * w.late)
    drain = max(body * per_byte, max(port, hw[SUM_CYCLES] * sums))
    # The last part of a split sum is in the scratchpad.
    parted = max(body * per_byte, port + hw[FEED_CYCLES] * sums)
    overlap = 1.0 if hw[OVERLAP] > 0 else 0.0
    return Unit(
        hw[ROW_PART] * (1.0 - 1e-13),
        hw[COL_PART] * (1.0 - 1e-13),
        1.0 if hw[DATAFLOW] == 1.0 else 0.0,
        1.0 if hw[DATAFLOW] == 2.0 else 0.0,
        hw[WAVE_ROWS] * overlap,
        (2.0 * hw[WAVE_ROWS] + hw[COLS] - 2.0) * (1.0 - overlap),
        # Several arrays share the folds, the rows or the columns of a tile: at best evenly.
        array * w.slow / (max(1.0, hw[ARRAYS]) * hw[ARRAY_SHARE]),
        array * w.left_bits * 0.125 * hw[FEED_CYCLES],
        array * w.right_bits * 0.125 * hw[FEED_CYCLES],
        drain,
        drain * array,
        hw[TILE_CYCLES],
        hw[TILE_CYCLES] * array,
        (parted - drain) * array,
        array * overlap * (hw[WAVE_ROWS] + hw[COLS] - 1.0) * w.slow,
        sums,
        1.0 - array,
        limit,
        hw[ACCUMULATOR_BYTES] if array > 0.0 and hw[ACCUMULATOR_BYTES] > 0 else np.inf,
        hw[PERIOD_S],
        hw[CORE_S],
        hw[WIRE_S] * _least_cost(hw, 0),
        hw[WIRE_S] * _least_cost(hw, 1),
        hw[PORT_S],
        hw[CHANNEL_S],
        hw[HEAD_S],
        hw[SEND_S],
        1.0 / hw[HOP_BW] if hw[HOP_BW] > 0 else 0.0,
        hw[PART_S],
    )


@jit_bare
def hold_cut(hw: Any, cuts: CoreCuts, cut: int, held: Any) -> None:
    """What all tilings of a cut over cores have in common, into `held` [SCALARS]."""
    summed = cuts.summed[cut]
    held[CUT_AT] = np.ceil(np.log2(summed)) if summed > 1.0 else 0.0
    held[CUT_AT + 1], held[CUT_AT + 2] = one_if(summed > 1.0), hw[ISSUE_S] / cuts.used[cut]


@jit_bare
def fill_lanes(t: Any, nest: int, levels: Any, first: int, stop: int, lanes: Any, least: Any) -> None:
    """Rows `first` to `stop` of the levels side by side in `lanes` [LANE_COLUMNS x LEVEL_ROWS]; into row `first` of
    `least` [rows, 2 * (SEEN + 1)] the least elements that any of them loads and has at once, by operand and result."""
    operands, rows = t.nests[nest, OPERANDS], LEVEL_ROWS
    for place in range(2 * (SEEN + 1)):
        least[first, place] = np.inf
    for row in range(first, stop):
        lanes[LANE_TILES * rows + row] = levels[row, TILES]
        lanes[LANE_INDICES * rows + row] = levels[row, INDICES]
        for seen in range(SEEN + 1):
            elements, fills = 0.0, 0.0
            if seen < operands or seen == SEEN:
                c = FIRST + PER_OPERAND * (operands if seen == SEEN else seen)
                elements, fills = levels[row, c + ELEMENTS], levels[row, c + FILLS]
            lanes[(LANE_FIRST + 2 * seen) * rows + row] = elements
            lanes[(LANE_FIRST + 2 * seen + 1) * rows + row] = fills
            least[first, seen] = min(least[first, seen], elements * max(fills, 1.0))
            least[first, SEEN + 1 + seen] = min(least[first, SEEN + 1 + seen], elements)


class Role(NamedTuple):
    """A role that is not in question: the row of its level, or the first of its levels where it is open; its tiles, 1
    where it is open; inside the role in question? open?"""

    row: int
    tiles: float
    inner: bool
    opened: bool


@jit_inline
def _role(levels: Any, cuts: CoreCuts, cut: int, at: Any, opened: int, role: int, inner: bool) -> Role:
    if (opened >> role) & 1:
        return Role(cuts.first[cut, role], 1.0, inner, True)
    return Role(at[role], levels[at[role], TILES], inner, False)


@jit_inline
def _with(box: Box, one: Role, levels: Any, least: Any, column: int, seen: int) -> Box:
    """A box cut by the next role further out as well."""
    if one.opened:
        every, tile = least[one.row, seen], least[one.row, SEEN + 1 + seen]
        return Box(box.every * every, box.tile * tile, box.inside, box.outside, box.idle, box.apart, 0.0, 0.0)
    elements, fills = levels[one.row, column + ELEMENTS], max(levels[one.row, column + FILLS], 1.0)
    every, tile = box.every * elements, box.tile * elements
    if one.inner:
        inside = box.inside * (one.tiles if box.inside > 1.0 else fills)
        return Box(every, tile, inside, box.outside, box.idle, box.apart, 0.0, 0.0)
    idle = box.idle * (one.tiles if box.idle > 1.0 else fills)
    return Box(every, tile, box.inside, box.outside * one.tiles, idle, box.apart, 0.0, 0.0)


@jit_inline
def _box(t: Any, nest: int, levels: Any, least: Any, x: Role, y: Role, z: Role, apart: float, seen: int) -> Box:
    """What three roles, the innermost first, make of an operand."""
    operands = t.nests[nest, OPERANDS]
    if operands <= seen < SEEN:
        return Box(0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0)
    operand = operands if seen == SEEN else seen
    column, one = FIRST + PER_OPERAND * operand, t.operands[nest, operand, BITS] * 0.125
    box = _with(Box(one, one, 1.0, 1.0, 1.0, apart, 0.0, 0.0), x, levels, least, column, seen)
    box = _with(_with(box, y, levels, least, column, seen), z, levels, least, column, seen)
    # Where roles inside move the box, every tile is a fill.
    again = one_if(box.inside > 1.0)
    by_tiles, by_fills = again * box.inside * box.outside, (1.0 - again) * box.outside
    return Box(box.every, box.tile, box.inside, box.outside, box.idle, box.apart, by_tiles, by_fills)


@jit_inline
def _hold_box(box: Box, held: Any, seen: int) -> None:
    for place in range(PER_BOX):
        held[PER_BOX * seen + place] = box[place]


@jit_inline
def _open_box(t: Any, nest: int, least: Any, x: int, y: int, z: int, apart: float, seen: int) -> Box:
    """What three open roles make of an operand: the least that their levels from rows x, y, z on do."""
    operands = t.nests[nest, OPERANDS]
    if operands <= seen < SEEN:
        return Box(0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0)
    one = t.operands[nest, operands if seen == SEEN else seen, BITS] * 0.125
    tile = SEEN + 1 + seen
    every = least[x, seen] * least[y, seen] * least[z, seen] * one
    return Box(every, least[x, tile] * least[y, tile] * least[z, tile] * one, 1.0, 1.0, 1.0, apart, 0.0, 1.0)


@jit_bare
def hold_open(t: Any, nest: int, levels: Any, least: Any, cuts: CoreCuts, cut: int, role: int, held: Any) -> None:
    """`hold_others` where all other roles are open."""
    first, apart, operands = cuts.first[cut], cuts.apart[cut], t.nests[nest, OPERANDS]
    x, y, z = first[1 if role == 0 else 0], first[2 if role < 2 else 1], first[2 if role == 3 else 3]
    for seen in range(SEEN + 1):
        of = operands if seen == SEEN else min(seen, operands)
        _hold_box(_open_box(t, nest, least, x, y, z, apart[of], seen), held, seen)
    held[REST], held[REST + 1], held[REST + 10], held[REST + 11] = 1.0, 1.0, one_if(role != 3), 0.0
    for other in range(4):
        held[REST + 2 + other] = 1.0 if role == other else levels[first[other], INDICES]
        held[REST + 6 + other] = one_if(role == other)


@jit_bare
def hold_others(
    t: Any, nest: int, levels: Any, least: Any, cuts: CoreCuts, cut: int, at: Any, opened: int, role: int,
    columns_first: int, held: Any,
) -> None:  # fmt: skip
    """What all roles but one make of a tiling, into `held` [SCALARS]: those in the bit mask `opened` as little as they
    can, the others by their levels `at`."""
    # From the innermost: the sum, the inner of columns and rows, the outer one, repeats.
    within, without = (1, 2) if columns_first == 1 else (2, 1)
    one = within if role == 3 else 3
    two = without if role in (3, within) else within
    three = without if role == 0 else 0
    x = _role(levels, cuts, cut, at, opened, one, role != 3)
    y = _role(levels, cuts, cut, at, opened, two, role == 0 or role == without)
    z = _role(levels, cuts, cut, at, opened, three, role == 0)
    apart, operands = cuts.apart[cut], t.nests[nest, OPERANDS]
    for seen in range(SEEN + 1):
        of = operands if seen == SEEN else min(seen, operands)
        _hold_box(_box(t, nest, levels, least, x, y, z, apart[of], seen), held, seen)
    tiles = x.tiles * y.tiles * z.tiles
    held[REST], held[REST + 1] = tiles, tiles if role == 3 else y.tiles * z.tiles
    held[REST + 10], held[REST + 11] = one_if(role != 3), one_if(opened == 0)
    for other in range(4):
        row = cuts.first[cut, other] if (opened >> other) & 1 else at[other]
        held[REST + 2 + other] = 1.0 if role == other else levels[row, INDICES]
        held[REST + 6 + other] = one_if(role == other)


@jit_inline
def one_if(condition: bool) -> float:
    return 1.0 if condition else 0.0
