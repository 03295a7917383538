"""Lists of tilings of one nest, side by side with what of their cost no chip of a kind changes (arrays, cores, DRAM
device): so many chips evaluate a list, eight tilings at a time, without looking at levels again.

Seconds of a listed tiling are its latency (tiling.tiling_cost) term by term, with all that rounding up adds; only of
the first tiles the DRAM's patterns and the ports are not taken operand by operand. So they are a floor, and the latency
itself where no port is slower than the DRAM.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sim.cost.kernel import (
    ACCUMULATOR_BYTES,
    CHANNEL_S,
    CORE_S,
    EACH_PORT_S,
    FEED_CYCLES,
    HEAD_S,
    HOP_BW,
    ISSUE_S,
    LANE_PART,
    LINK_S,
    PART_S,
    PERIOD_S,
    PORT_S,
    SEND_S,
    SLOTS,
    SUM_CYCLES,
    TILE_CYCLES,
    TRAFFIC_SHARE,
    VECTOR_SHARE,
    WIRE_S,
    Tiles,
    Work,
    array_work,
    pattern_cost,
    up,
)
from sim.cost.levels import FIRST, INDICES, PER_OPERAND, TILES
from sim.cost.nest_tables import BITS, OPERANDS
from sim.cost.scan import BYTES, CoreCuts, Lines, lack, level_run, moved_by
from sim.cost.work import PARTS_ADDED
from sim.jit import jit_bare

LIST_ROWS = 32_768
"""Rows of the lists, and how far apart their columns are: a constant, as floors.LEVEL_ROWS."""

# Columns: bytes of scratchpad; transfers of a core; bytes of a core, of the DRAM, and those that it would move at its
# peak in the time; of the first tiles the largest, all of a core, all of the DRAM and those at its peak; loads and
# bytes of buffers that are filled more than once; bytes of a result tile, of those of all cores and those at the peak;
# tiles and result tiles of a core; cycles that a tile holds the arrays, bytes that it has them read, cycles to its last
# result; elements of a result tile, bytes that the vector unit moves for it; steps of a sum over cores; elements of the
# right operand that a tile has the arrays take; bytes through the busiest port and over the busiest link.
(
    SRAM, ISSUED, CORE, MOVED, WIRED, LARGEST, FRESH, SHARED, SHARED_WIRED, MOST, CHANNEL, OUT, OUT_SHARED, OUT_WIRED,
    ALL_TILES, OUT_TILES, HOLD, READ, TAIL, ELEMENTS, LANED, SUM_STEPS,
    RIGHT, PORTED, LINKED,
) = range(25)  # fmt: skip
LIST_COLUMNS = 25

CUT, ORDER, LEVELS = range(3)
"""Columns of `Lists.tilings`; from LEVELS on a row of levels for every role."""


class Lists(NamedTuple):
    """Memory of lists: `columns` [LIST_COLUMNS x LIST_ROWS], `tilings` [LIST_ROWS, 6] cut, columns outside?, rows of
    the levels; `filled` [2] rows so far (one more than there is room for: too many) and the room, 0 while nothing is
    listed; `seconds` [LIST_ROWS] of a scan."""

    columns: Any
    tilings: Any
    filled: Any
    seconds: Any


FILLED, ROOM = range(2)


@jit_bare
def list_tiling(
    t: Any, nest: int, hw: Any, w: Work, levels: Any, cuts: CoreCuts, cut: int, at: Any, columns_first: int,
    limit: float, lines: Lines, lists: Lists,
) -> None:  # fmt: skip
    """Add a tiling, where it fits `limit` bytes of scratchpad and the accumulator; `lines.fixed` is what
    scan.hold_roles makes of all roles but the sum."""
    operands, g, m, n, k = t.nests[nest, OPERANDS], at[0], at[1], at[2], at[3]
    out_tiles = levels[g, TILES] * levels[m, TILES] * levels[n, TILES]
    moved = moved_by(operands, levels, k, out_tiles, cuts, cut, lines)
    elements = lines.fixed[operands, BYTES] * 8.0 / t.operands[nest, operands, BITS]
    elements *= levels[k, FIRST + PER_OPERAND * operands]
    x = Tiles(
        cuts.used[cut], cuts.summed[cut], out_tiles * levels[k, TILES], out_tiles, out_tiles, elements, moved.out,
        moved.read,
    )  # fmt: skip
    if lack(hw, w, x, moved.sram, limit) > 0.0:
        return
    row = lists.filled[FILLED]
    lists.filled[FILLED] = row + 1
    if row >= lists.filled[ROOM]:
        return
    split, to = x.summed > 1.0 and w.sum_bytes > 0.0, lists.columns
    sram = moved.sram + (1.0 + SLOTS) * np.ceil(elements * w.sum_bytes / 64.0) * 64.0 if split else moved.sram
    held, tail, read, laned, right = 0.0, 0.0, 0.0, moved.out, 0.0
    if w.vector:
        laned += moved.read
    else:
        held, tail, read = array_work(
            hw, levels[g, INDICES], levels[m, INDICES], levels[n, INDICES], levels[k, INDICES], w.slow, w.left_bits,
            w.right_bits, w.scales,
        )  # fmt: skip
        right = levels[g, INDICES] * levels[n, INDICES] * levels[k, INDICES]
        laned = laned * (1.0 + w.late) + (elements * w.sum_bytes if split else 0.0)
    _put(to, row, SRAM, sram)
    _put(to, row, ISSUED, moved.transfers / x.used)
    _put(to, row, CORE, moved.core)
    _put(to, row, MOVED, moved.dram)
    _put(to, row, LARGEST, moved.largest)
    _put(to, row, FRESH, moved.fresh)
    _put(to, row, SHARED, moved.shared)
    _put(to, row, MOST, moved.most_loads)
    _put(to, row, CHANNEL, moved.channel)
    _put(to, row, OUT, moved.out)
    _put(to, row, OUT_SHARED, lines.moved[operands, 1])
    _put(to, row, ALL_TILES, x.iterations)
    _put(to, row, OUT_TILES, out_tiles)
    _put(to, row, HOLD, held)
    _put(to, row, READ, read * 0.125)
    _put(to, row, TAIL, tail)
    _put(to, row, ELEMENTS, elements)
    _put(to, row, LANED, laned)
    _put(to, row, SUM_STEPS, np.ceil(np.log2(x.summed)) if x.summed > 1.0 and not w.vector else 0.0)
    _put(to, row, RIGHT, right)
    _put(to, row, PORTED, moved.ported)
    _put(to, row, LINKED, moved.linked)
    _put_wired(t, nest, hw, levels, at, lines.moved, to, row)
    lists.tilings[row, CUT], lists.tilings[row, ORDER] = cut, columns_first
    for role in range(4):
        lists.tilings[row, LEVELS + role] = at[role]


@jit_bare
def _put(columns: Any, row: int, column: int, value: float) -> None:
    columns[column * LIST_ROWS + row] = value


@jit_bare
def _put_wired(t: Any, nest: int, hw: Any, levels: Any, at: Any, moved: Any, columns: Any, row: int) -> None:
    """Bytes as many as the DRAM would move at its peak in the time that it takes with their patterns."""
    operands, wired, shared, out = t.nests[nest, OPERANDS], 0.0, 0.0, 0.0
    for operand in range(operands + 1):
        if moved[operand, 0] > 0.0:
            run_bytes, pitch = level_run(t, nest, operand, levels, at)
            inverse = pattern_cost(t, nest, operand, hw, run_bytes, pitch, operand == operands)
            wired += moved[operand, 0] * inverse
            if operand < operands:
                shared += moved[operand, 1] * inverse
            else:
                out = moved[operand, 1] * inverse
    _put(columns, row, WIRED, wired)
    _put(columns, row, SHARED_WIRED, shared)
    _put(columns, row, OUT_WIRED, out)


_ISSUED, _CORE, _MOVED, _WIRED, _LARGEST, _FRESH, _SHARED, _SHARED_WIRED, _MOST, _CHANNEL, _OUT = (
    np.uint64(column * LIST_ROWS)
    for column in (
        ISSUED, CORE, MOVED, WIRED, LARGEST, FRESH, SHARED, SHARED_WIRED, MOST, CHANNEL, OUT,
    )
)  # fmt: skip
_OUT_SHARED, _OUT_WIRED, _ALL_TILES, _OUT_TILES, _HOLD, _READ, _TAIL, _ELEMENTS, _LANED, _SUM_STEPS, _RIGHT = (
    np.uint64(column * LIST_ROWS)
    for column in (OUT_SHARED, OUT_WIRED, ALL_TILES, OUT_TILES, HOLD, READ, TAIL, ELEMENTS, LANED, SUM_STEPS, RIGHT)
)
_PORTED, _LINKED = (np.uint64(column * LIST_ROWS) for column in (PORTED, LINKED))


@jit_bare
def scan_list(hw: Any, w: Work, limit: float, columns: Any, start: int, stop: int, seconds: Any) -> None:
    """Seconds of the tilings `start` to `stop` on one unit, into the same rows of `seconds`; infinite where `limit`
    bytes of scratchpad do not do. See kernel.held and kernel.chains_s for the terms."""
    array, cycle_s, feed, tile = 0.0 if w.vector else 1.0, hw[PERIOD_S], hw[FEED_CYCLES], hw[TILE_CYCLES]
    lane, body, share = hw[LANE_PART], w.body if w.vector else w.drain, 1.0 / hw[VECTOR_SHARE]
    one_sum = array * w.sum_bytes
    sum_cycles, sum_slots, accumulator = one_sum * hw[SUM_CYCLES], one_sum * SLOTS, hw[ACCUMULATOR_BYTES]
    hop_s = 1.0 / hw[HOP_BW] if hw[HOP_BW] > 0 else 0.0
    part_s, issue_s, core_s, wire_s, port_s = hw[PART_S], hw[ISSUE_S], hw[CORE_S], hw[WIRE_S], hw[PORT_S]
    channel_s, head_s, send_s, each_s, link_s = hw[CHANNEL_S], hw[HEAD_S], hw[SEND_S], hw[EACH_PORT_S], hw[LINK_S]
    for place in range(start, stop):
        at = np.uint64(place)
        elements, tiles, stores = columns[at + _ELEMENTS], columns[at + _ALL_TILES], columns[at + _OUT_TILES]
        busy = np.ceil(np.ceil(up(elements * lane) * body) * share * (1.0 - 1e-13))
        steps = columns[at + _SUM_STEPS]
        sums = 0.0 if steps > 0.0 else elements * sum_cycles
        busy = max(max(1.0, busy), max(up(columns[at + _LANED] * feed), up(sums))) + tile
        unpacked = np.ceil(np.ceil(up(columns[at + _RIGHT] * lane) * w.unpack) * share * (1.0 - 1e-13))
        hold = max(max(columns[at + _HOLD], unpacked), up(columns[at + _READ] * feed)) + tile
        hold = array * hold + (1.0 - array) * busy
        drained, tail = array * busy, columns[at + _TAIL]
        busy, drains = tiles * hold, stores * drained
        turns = busy + drains - drained + (stores - 1.0) * tail
        both = max(busy, drains) if stores > 1.0 else turns
        compute_s = (both if elements * sum_slots <= accumulator else turns) * cycle_s
        tail_s, drain_s, part = tail * cycle_s, drained * cycle_s, elements * one_sum
        add_s = max(drained, up(PARTS_ADDED * part * feed) + tile) * cycle_s
        reduce_s = steps * (stores * part * hop_s + send_s + part * part_s + add_s)
        dram_s = columns[at + _WIRED] * wire_s
        moved_s = max(columns[at + _CORE] * core_s, max(dram_s, columns[at + _MOVED] * port_s))
        moved_s = max(moved_s, max(columns[at + _PORTED] * each_s, columns[at + _LINKED] * link_s))
        shared_s = max(columns[at + _SHARED_WIRED] * wire_s, columns[at + _SHARED] * port_s)
        first_s = max(columns[at + _LARGEST] * channel_s, max(columns[at + _FRESH] * core_s, shared_s))
        out, most = columns[at + _OUT], columns[at + _MOST]
        out_s = max(columns[at + _OUT_WIRED] * wire_s, columns[at + _OUT_SHARED] * port_s)
        out_s = max(out * channel_s, out_s)
        wires_s = max(moved_s, columns[at + _CHANNEL] * channel_s)
        loading_s = (compute_s + most * (head_s + tail_s) + wires_s) / SLOTS
        storing_s = stores * (drain_s + send_s + out * channel_s) / SLOTS
        waiting_s = max(loading_s if most > 1.0 else 0.0, storing_s if stores > 1.0 else 0.0)
        least_s = first_s + max(compute_s, waiting_s) + out_s
        least_s = max(least_s, moved_s + compute_s / tiles) + drain_s + send_s
        least_s = head_s + max(least_s, columns[at + _ISSUED] * issue_s) + tail_s + reduce_s + TRAFFIC_SHARE * dram_s
        seconds[at] = least_s if columns[at] <= limit else np.inf


@jit_bare
def copy_below(lists: Lists, start: int, stop: int, most_s: float, to: int) -> int:
    """Copy the tilings of `start` to `stop` whose `seconds` are at most `most_s` to the rows from `to` on; one past the
    last of them."""
    for row in range(start, stop):
        if lists.seconds[row] <= most_s:
            for column in range(LIST_COLUMNS):
                lists.columns[column * LIST_ROWS + to] = lists.columns[column * LIST_ROWS + row]
            for place in range(6):
                lists.tilings[to, place] = lists.tilings[row, place]
            to += 1
    return to
