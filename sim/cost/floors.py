"""Floors: seconds that no tiling can beat which has one of many levels of a role, eight levels at a time.

A tiling is one level per role. Where some roles are open, whatever they will be, every byte is loaded at least as often
as they load it least, and every tile is at least as small as they make it: so each term of the closed form
(tiling.tiling_cost) has a least value, and they make a floor of all tilings that this part can become. With no role
open it is the closed form but for the DRAM's patterns (none is faster than the peak) and what rounding up adds.

One role's levels lie side by side (LANE_COLUMNS), with nothing between them that branches, so that the machine takes
several at once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sim.cost.kernel import SLOTS
from sim.jit import jit_bare, jit_inline

SEEN = 4
"""Operands that a floor counts; it is lower, but a floor, where a nest has more."""

ALL = 15
"""All roles, as a bit mask."""

WIDTH = 8
"""Levels are taken so many at a time: tables and results are longer by as much."""

# Columns of the lanes: tiles, indices, then of every operand seen and of the result its elements and fills.
LANE_TILES, LANE_INDICES, LANE_FIRST = range(3)
LANE_COLUMNS = LANE_FIRST + 2 * (SEEN + 1)


LEVEL_ROWS = 60_000
"""Rows of the table of levels, and how far apart the columns of lanes are: a constant, so that the compiler knows them
apart."""

_INDICES = np.uint64(LANE_INDICES * LEVEL_ROWS)
_A, _A_FILLS, _B, _B_FILLS, _C, _C_FILLS, _D, _D_FILLS, _MADE = (
    np.uint64((LANE_FIRST + column) * LEVEL_ROWS) for column in range(9)
)


class Unit(NamedTuple):
    """A unit of a chip as floors need it. Of an array: parts of a side per index, which dataflow (1 for that one), the
    least pace of a fold and what it lasts longer; cycles of a fold's index, of operands' elements, of a byte of results
    and of the last ones, of a tile and of its drain, those that a byte of results takes more where its sum is split;
    tail of a tile. Bytes of sums per byte of results, 1 on the vector unit, bytes of the memories, seconds as in the
    hardware's columns."""

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
    parted: float
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


class Rest(NamedTuple):
    """Of all roles but the one in question: tiles, tiles of results, indices by role (1 for the one in question); which
    role that is (1), does it make results, is no role open?"""

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


PER_BOX = 8
"""Fields of a Box."""

# Where a call's scalars stand in the memory of a search: the boxes of the operands seen and the result, the Rest, the
# Cut, the Unit. Handed over one by one they would take longer than eight floors.
REST = PER_BOX * (SEEN + 1)
CUT_AT, UNIT_AT = REST + 12, REST + 15
SCALARS = UNIT_AT + 29


class Cut(NamedTuple):
    """A cut over cores: steps of a sum over cores, 1 if there is one, seconds of a core between two transfers."""

    sum_steps: float
    split: float
    issue_s: float


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


@jit_inline
def _held_box(held: Any, seen: int) -> Box:
    b = PER_BOX * seen
    return Box(
        held[b], held[b + 1], held[b + 2], held[b + 3], held[b + 4], held[b + 5], held[b + 6], held[b + 7]
    )  # fmt: skip


@jit_inline
def _held_rest(held: Any) -> Rest:
    b = REST
    return Rest(
        held[b], held[b + 1], held[b + 2], held[b + 3], held[b + 4], held[b + 5], held[b + 6], held[b + 7],
        held[b + 8], held[b + 9], held[b + 10], held[b + 11],
    )  # fmt: skip


@jit_inline
def _held_unit(held: Any) -> Unit:
    b = UNIT_AT
    return Unit(
        held[b], held[b + 1], held[b + 2], held[b + 3], held[b + 4], held[b + 5], held[b + 6], held[b + 7],
        held[b + 8], held[b + 9], held[b + 10], held[b + 11], held[b + 12], held[b + 13], held[b + 14], held[b + 15],
        held[b + 16], held[b + 17], held[b + 18], held[b + 19], held[b + 20], held[b + 21], held[b + 22],
        held[b + 23], held[b + 24], held[b + 25], held[b + 26], held[b + 27], held[b + 28],
    )  # fmt: skip


@jit_bare
def floors_of(lanes: Any, start: int, stop: int, held: Any, found: Any, into: int) -> None:
    """Floors in seconds of the levels `start` to `stop` of the role in question, from `found[into]` on; infinite where
    nothing fits. So many more as make a multiple of WIDTH are computed, and mean nothing. `held` [SCALARS] is what
    hold_unit, hold_cut and hold_others (or hold_open) made."""
    u, x = _held_unit(held), _held_rest(held)
    cut = Cut(held[CUT_AT], held[CUT_AT + 1], held[CUT_AT + 2])
    a, b, c, d = _held_box(held, 0), _held_box(held, 1), _held_box(held, 2), _held_box(held, 3)
    result = _held_box(held, SEEN)
    count = (stop - start + WIDTH - 1) // WIDTH * WIDTH
    # Without a sign an index is not looked at whether it counts from the end.
    first, put = np.uint64(start), np.uint64(into)
    for place in range(count):
        at = first + np.uint64(place)
        tiles, more = lanes[at], lanes[at + _INDICES] - 1.0
        hold = _hold_cycles(
            u, x.g + x.is_g * more, x.m + x.is_m * more, x.n + x.is_n * more, x.k + x.is_k * more
        )
        results = x.results * (1.0 + x.makes * (tiles - 1.0))
        of_a = _loaded(a, lanes[at + _A], lanes[at + _A_FILLS], tiles)
        of_b = _loaded(b, lanes[at + _B], lanes[at + _B_FILLS], tiles)
        of_c = _loaded(c, lanes[at + _C], lanes[at + _C_FILLS], tiles)
        of_d = _loaded(d, lanes[at + _D], lanes[at + _D_FILLS], tiles)
        made = lanes[at + _MADE]
        stored = Loads(results, result.every * made * results, result.tile * made, result.apart)
        floor = floor_s(u, cut, of_a, of_b, of_c, of_d, stored, x.tiles * tiles, hold, x.closed)
        found[put + np.uint64(place)] = floor


@jit_inline
def floor_s(
    u: Unit, cut: Cut, a: Loads, b: Loads, c: Loads, d: Loads, result: Loads, tiles: float, hold: float, closed: float
) -> float:
    """The closed form of one level (tiling.tiling_cost, term by term): four operands and the result, `tiles` of `hold`
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

    more = cut.split * u.parted
    drains = result.every * (u.drain + more) + stores * u.tile
    busy = tiles * hold
    turns = busy + (stores - 1.0) * (drains / stores + u.tail)
    both = max(busy, drains if stores + u.on_vector > 1.0 else 0.0)
    several = 1.0 if stores > 1.0 else 0.0
    compute_s = (turns if several * SLOTS * sums > u.accumulator else both) * u.cycle_s
    tail_s, drain_s = u.tail * u.cycle_s, (result.tile * (u.last_drain + more) + u.last_tile) * u.cycle_s

    dram_s = max(loaded * u.load_s + stored * u.store_s, (loaded + stored) * u.port_s)
    moved_s = max(core * u.core_s, dram_s)
    loading_s = (compute_s + most * (u.head_s + tail_s) + max(moved_s, channel * u.channel_s)) / SLOTS
    drains_s = (result.every * (u.last_drain + more) + stores * u.last_tile) * u.cycle_s
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
