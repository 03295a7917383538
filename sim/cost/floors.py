"""Floors: seconds that no tiling can beat which has one of many levels of a role, eight levels at a time.

A tiling is one level per role. Where some roles are open, whatever they will be, every byte is loaded at least as often
as they load it least, and every tile is at least as small as they make it: so each term of the closed form
(kernel.tiling_cost) has a least value, and they make a floor of all tilings that this part can become. With no role
open it is the closed form but for the DRAM's patterns (none is faster than the peak) and what rounding up adds.

One role's levels lie side by side (LANE_COLUMNS), with nothing between them that branches, so that the machine takes
several at once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

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
    ROWS,
    SEND_S,
    SLOTS,
    SUM_CYCLES,
    TILE_CYCLES,
    VECTOR_SHARE,
    WIRE_S,
    Work,
)
from sim.cost.levels import ELEMENTS, FILLS, FIRST, INDICES, PER_OPERAND, TILES, CoreCuts
from sim.cost.nest_tables import BITS, OPERANDS
from sim.jit import jit_bare, jit_inline

SEEN = 4
"""Operands that a floor counts; it is lower, but a floor, where a nest has more."""

WIDTH = 8
"""Levels are taken so many at a time: tables and results are longer by as much."""

# Columns of the lanes: tiles, indices, then of every operand seen and of the result its elements and fills.
LANE_TILES, LANE_INDICES, LANE_FIRST = range(3)
LANE_COLUMNS = LANE_FIRST + 2 * (SEEN + 1)


class Unit(NamedTuple):
    """A unit of a chip as floors need it. Of an array: parts of a side per index, which dataflow (1 for that one), the
    least pace of a fold and what it lasts longer; cycles of a fold's index, of operands' elements, of a byte of results
    and of the last ones, of a tile and of its drain; tail of a tile. Bytes of sums per byte of results, 1 on the vector
    unit, bytes of the memories, seconds as in the hardware's columns."""

    per_row: float
    per_col: float
    stays: float
    moves: float
    pace: float
    longer: float
    slow: float
    left: float
    right: float
    drain: float
    last_drain: float
    tile: float
    last_tile: float
    tail: float
    sums: float
    on_vector: float
    sram: float
    accumulator: float
    cycle_s: float
    core_s: float
    load_s: float
    store_s: float
    port_s: float
    channel_s: float
    head_s: float
    send_s: float
    hop_s: float
    part_s: float


class Box(NamedTuple):
    """What the other roles make of an operand: bytes of all tiles and of one, fills of the roles inside the one in
    question (1: none), tiles of those outside, fills where it does not move the box, groups of cores; loads per tile
    and per fill of the role in question, one of them 0."""

    every: float
    tile: float
    inside: float
    outside: float
    idle: float
    apart: float
    by_tiles: float
    by_fills: float


class Loads(NamedTuple):
    """Of an operand under one level: loads of a core, bytes of them all and of one tile, groups of cores."""

    loads: float
    every: float
    tile: float
    apart: float


class Others(NamedTuple):
    """All roles but the one in question: what they make of every operand and the result; tiles, tiles of results,
    indices by role (1 for the one in question); which role that is (1), does it make results, is no role open?"""

    a: Box
    b: Box
    c: Box
    d: Box
    result: Box
    tiles: float
    results: float
    g: float
    m: float
    n: float
    k: float
    is_g: float
    is_m: float
    is_n: float
    is_k: float
    makes: float
    closed: float


class Cut(NamedTuple):
    """A cut over cores: steps of a sum over cores, 1 if there is one, seconds of a core between two transfers."""

    sum_steps: float
    split: float
    issue_s: float


@jit_bare
def _least_cost(hw: Any, store: int) -> float:
    """1 / efficiency of the DRAM for its best pattern: runs without end."""
    least, place = np.inf, DRAM_COST + (store * DRAM_LINES + 1) * DRAM_RUNS - 1
    for line in range(DRAM_LINES):
        least = min(least, hw[place + line * DRAM_RUNS])
    return float(least / hw[DRAM_SHARE])


@jit_bare
def unit_of(t: Any, nest: int, hw: Any, w: Work, limit: float) -> Unit:
    """What floors need of a unit; `limit` bytes of scratchpad."""
    array, per_byte = 0.0 if w.vector else 1.0, 8.0 / t.operands[nest, t.nests[nest, OPERANDS], BITS]
    body = (w.body if w.vector else w.drain) * hw[LANE_PART] / hw[VECTOR_SHARE]
    sums = w.sum_bytes * per_byte * array
    drain = max(body * per_byte, max(hw[FEED_CYCLES], hw[SUM_CYCLES] * sums))
    overlap = 1.0 if hw[OVERLAP] > 0 else 0.0
    return Unit(
        hw[ROW_PART] * (1.0 - 1e-13),
        hw[COL_PART] * (1.0 - 1e-13),
        1.0 if hw[DATAFLOW] == 1.0 else 0.0,
        1.0 if hw[DATAFLOW] == 2.0 else 0.0,
        hw[ROWS] * overlap,
        (2.0 * hw[ROWS] + hw[COLS] - 2.0) * (1.0 - overlap),
        # Several arrays share the folds, the rows or the columns of a tile: at best evenly.
        array * w.slow / (max(1.0, hw[ARRAYS]) * hw[ARRAY_SHARE]),
        array * w.left_bits * 0.125 * hw[FEED_CYCLES],
        array * w.right_bits * 0.125 * hw[FEED_CYCLES],
        drain,
        drain * array,
        hw[TILE_CYCLES],
        hw[TILE_CYCLES] * array,
        array * overlap * (hw[ROWS] + hw[COLS] - 1.0) * w.slow,
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
def cut_of(hw: Any, cuts: CoreCuts, cut: int) -> Cut:
    """What all tilings of a cut over cores have in common."""
    summed = cuts.summed[cut]
    steps = np.ceil(np.log2(summed)) if summed > 1.0 else 0.0
    return Cut(steps, 1.0 if summed > 1.0 else 0.0, hw[ISSUE_S] / cuts.used[cut])


@jit_bare
def fill_lanes(t: Any, nest: int, levels: Any, first: int, stop: int, lanes: Any, least: Any) -> None:
    """Rows `first` to `stop` of the levels side by side in `lanes` [LANE_COLUMNS x rows of levels]; into row `first` of
    `least` [rows, 2 * (SEEN + 1)] the least elements that any of them loads and has at once, by operand and result."""
    operands, rows = t.nests[nest, OPERANDS], len(levels)
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


@jit_bare
def others_of(
    t: Any, nest: int, levels: Any, least: Any, cuts: CoreCuts, cut: int, at: Any, opened: int, role: int,
    columns_first: int,
) -> Others:  # fmt: skip
    """What all roles but one make of a tiling: those in the bit mask `opened` as little as they can, the others by
    their levels `at`."""
    # From the innermost: the sum, the inner of columns and rows, the outer one, repeats.
    within, without = (1, 2) if columns_first == 1 else (2, 1)
    one = within if role == 3 else 3
    two = without if role in (3, within) else within
    three = without if role == 0 else 0
    x = _role(levels, cuts, cut, at, opened, one, role != 3)
    y = _role(levels, cuts, cut, at, opened, two, role == 0 or role == without)
    z = _role(levels, cuts, cut, at, opened, three, role == 0)
    tiles = x.tiles * y.tiles * z.tiles
    apart, operands = cuts.apart[cut], t.nests[nest, OPERANDS]
    xi, yi, zi = levels[x.row, INDICES], levels[y.row, INDICES], levels[z.row, INDICES]
    return Others(
        _box(t, nest, levels, least, x, y, z, apart[0], 0),
        _box(t, nest, levels, least, x, y, z, apart[min(1, operands)], 1),
        _box(t, nest, levels, least, x, y, z, apart[min(2, operands)], 2),
        _box(t, nest, levels, least, x, y, z, apart[min(3, operands)], 3),
        _box(t, nest, levels, least, x, y, z, apart[operands], SEEN),
        tiles,
        tiles if role == 3 else y.tiles * z.tiles,
        1.0 if role == 0 else zi,
        1.0 if role == 1 else (xi if one == 1 else yi if two == 1 else zi),
        1.0 if role == 2 else (xi if one == 2 else yi if two == 2 else zi),
        1.0 if role == 3 else xi,
        one_if(role == 0), one_if(role == 1), one_if(role == 2), one_if(role == 3), one_if(role != 3),
        one_if(opened == 0),
    )  # fmt: skip


@jit_inline
def one_if(condition: bool) -> float:
    return 1.0 if condition else 0.0


@jit_inline
def _loaded(box: Box, elements: float, fills: float, tiles: float) -> Loads:
    moving = box.by_tiles * tiles + box.by_fills * fills
    loads = moving if moving > 0.0 else box.idle
    return Loads(loads, box.every * elements * loads, box.tile * elements, box.apart)


@jit_inline
def _hold_cycles(u: Unit, g: float, m: float, n: float, k: float) -> float:
    """Cycles that an array holds for a tile at the least: folds at their pace, or its operands from the scratchpad."""
    by_rows = np.ceil((k + u.stays * (m - k)) * u.per_row)
    by_cols = np.ceil((n + u.moves * (m - n)) * u.per_col)
    streamed = m + u.stays * (k - m) + u.moves * (n - m)
    pace = max(streamed, u.pace) + u.longer
    left = m * u.left * (1.0 + (1.0 - u.moves) * (by_cols - 1.0))
    right = n * u.right * (1.0 + u.stays * (by_rows - 1.0) + u.moves * (by_cols - 1.0))
    return float(max(g * by_rows * by_cols * pace * u.slow, g * k * (left + right)) + u.tile)


@jit_bare
def floors_of(lanes: Any, start: int, stop: int, u: Unit, cut: Cut, x: Others, found: Any, into: int) -> None:
    """Floors in seconds of the levels `start` to `stop` of the role in question, from `found[into]` on; infinite where
    nothing fits. So many more as make a multiple of WIDTH are computed, and mean nothing."""
    rows, count = len(lanes) // LANE_COLUMNS, (stop - start + WIDTH - 1) // WIDTH * WIDTH
    at, every = start + LANE_FIRST * rows, 2 * rows
    tiles_of, indices_of = lanes[start : start + count], lanes[start + rows : start + rows + count]
    a_size, a_fills = lanes[at : at + count], lanes[at + rows : at + rows + count]
    at += every
    b_size, b_fills = lanes[at : at + count], lanes[at + rows : at + rows + count]
    at += every
    c_size, c_fills = lanes[at : at + count], lanes[at + rows : at + rows + count]
    at += every
    d_size, d_fills = lanes[at : at + count], lanes[at + rows : at + rows + count]
    at += every
    made, out = lanes[at : at + count], found[into : into + count]
    for j in range(count):
        tiles, more = tiles_of[j], indices_of[j] - 1.0
        hold = _hold_cycles(
            u, x.g + x.is_g * more, x.m + x.is_m * more, x.n + x.is_n * more, x.k + x.is_k * more
        )
        results = x.results * (1.0 + x.makes * (tiles - 1.0))
        out[j] = floor_s(
            u, cut, _loaded(x.a, a_size[j], a_fills[j], tiles), _loaded(x.b, b_size[j], b_fills[j], tiles),
            _loaded(x.c, c_size[j], c_fills[j], tiles), _loaded(x.d, d_size[j], d_fills[j], tiles),
            Loads(results, x.result.every * made[j] * results, x.result.tile * made[j], x.result.apart),
            x.tiles * tiles, hold, x.closed,
        )  # fmt: skip


@jit_inline
def floor_s(
    u: Unit, cut: Cut, a: Loads, b: Loads, c: Loads, d: Loads, result: Loads, tiles: float, hold: float, closed: float
) -> float:
    """The closed form of one level (kernel.tiling_cost, term by term): four operands and the result, `tiles` of `hold`
    cycles. Infinite where it does not fit."""
    # Loads over all cores, bytes of a core and of all, bytes of first tiles.
    transfers = a.loads * a.apart + b.loads * b.apart + c.loads * c.apart + d.loads * d.apart
    transfers += result.loads * result.apart
    core = a.every + b.every + c.every + d.every + result.every
    loaded = a.every * a.apart + b.every * b.apart + c.every * c.apart + d.every * d.apart
    stored = result.every * result.apart
    fresh, largest = a.tile + b.tile + c.tile + d.tile, max(max(a.tile, b.tile), max(c.tile, d.tile))
    shared = a.tile * a.apart + b.tile * b.apart + c.tile * c.apart + d.tile * d.apart
    most = max(max(a.loads, b.loads), max(c.loads, d.loads))
    channel = max(max(_again(a), _again(b)), max(_again(c), _again(d)))
    sums, stores = result.tile * u.sums, result.loads
    sram = _slots(a) + _slots(b) + _slots(c) + _slots(d) + _slots(result) + cut.split * (1.0 + SLOTS) * sums

    drains = result.every * u.drain + stores * u.tile
    busy = tiles * hold
    turns = busy + (stores - 1.0) * (drains / stores + u.tail)
    both = max(busy, drains if stores + u.on_vector > 1.0 else 0.0)
    several = 1.0 if stores > 1.0 else 0.0
    compute_s = (turns if several * SLOTS * sums > u.accumulator else both) * u.cycle_s
    tail_s, drain_s = u.tail * u.cycle_s, (result.tile * u.last_drain + u.last_tile) * u.cycle_s

    dram_s = max(loaded * u.load_s + stored * u.store_s, (loaded + stored) * u.port_s)
    moved_s = max(core * u.core_s, dram_s)
    loading_s = (compute_s + most * (u.head_s + tail_s) + max(moved_s, channel * u.channel_s)) / SLOTS
    drains_s = (result.every * u.last_drain + stores * u.last_tile) * u.cycle_s
    storing_s = (drains_s + stores * u.send_s + result.every * u.channel_s) / SLOTS
    waiting_s = max(loading_s if most > 1.0 else 0.0, storing_s * several)
    first_s = max(largest * u.channel_s, max(fresh * u.core_s, shared * max(u.load_s, u.port_s)))
    out_s = max(result.tile * u.channel_s, result.tile * result.apart * max(u.store_s, u.port_s))
    moving_s = moved_s + closed * compute_s / tiles
    least_s = max(first_s + max(compute_s, waiting_s) + out_s, moving_s) + drain_s + u.send_s
    reduce_s = cut.sum_steps * (result.every * u.sums * u.hop_s + u.send_s + sums * u.part_s + drain_s)
    least_s = u.head_s + max(least_s, transfers * cut.issue_s) + tail_s + reduce_s
    least_s = np.inf if sram > u.sram else least_s
    return float(np.inf if sums > u.accumulator else least_s)


@jit_inline
def _again(operand: Loads) -> float:
    """Bytes of an operand that is loaded more than once."""
    return float(operand.every if operand.loads > 1.0 else 0.0)


@jit_inline
def _slots(operand: Loads) -> float:
    """Bytes of an operand's buffer."""
    return float(operand.tile * SLOTS if operand.loads > 1.0 else operand.tile)
