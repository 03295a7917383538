"""The cycles of tiles on an array, compiled: the integers of sim/hw/systolic.py and what stands around the array.

Called by sim.cost.work.array_cycles, which says what they are. `law` and `rates` are the array by the columns below.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.cost.nest_tables import DIMS, TAPS
from sim.jit import jit_bare

# Columns of `law` [15], integers: dataflow by its place in systolic.DATAFLOWS; rows and columns of one array, rows that
# share an adder, overlapping folds?, arrays; rate of the format as a fraction; operand bits; passes that unpack an
# operand (0: none) and lanes for it; cycles to start a tile, depth of a started piece of the sum (0: the whole), cycles
# from the last operands to the results (-1: those of the wavefront).
(
    DATAFLOW, ROWS, COLS, ADDERS, OVERLAP, ARRAYS, OVER, UNDER, LEFT_BITS, RIGHT_BITS, UNPACK, LANES, START, DEPTH,
    LATENCY,
) = range(15)  # fmt: skip
# Columns of `rates` [6]: achieved parts of the array's and the vector unit's rate, clock, scratchpad bandwidth; of an
# element of the right operand cycles of a lane that unpack it (0: none), and bits read for that.
ARRAY_SHARE, VECTOR_SHARE, CLOCK_HZ, FEED_BYTES_PER_S, UNPACK_RIGHT, SCALE_BITS = range(6)

MOST_CYCLES = 2.0**62

WEIGHTS, RESULTS, INPUTS = range(3)
"""What stays in place, by the dataflow's place in systolic.DATAFLOWS."""


@jit_bare
def parts(total: int, size: int) -> int:
    """total / size, rounded up."""
    return -(-total // size)


@jit_bare
def achieved(cycles: int, efficiency: float) -> int:
    """Cycles at the achieved part of a unit's rate."""
    return cycles if efficiency == 1.0 else int(np.ceil(cycles / efficiency))


@jit_bare
def folded(law: Any, m: int, n: int, k: int) -> tuple[int, int, float]:
    """(cycles until the last result, cycles until the next may start) of a GEMM as the wavefront meets it, and a float
    that is at least as much: one fold after another."""
    rows, cols = law[ROWS], law[COLS]
    if law[DATAFLOW] == RESULTS:
        across, down, streamed = parts(m, rows), parts(n, cols), k
    else:
        rows //= law[ADDERS]
        depth = parts(k, law[ADDERS])
        if law[DATAFLOW] == WEIGHTS:
            across, down, streamed = parts(depth, rows), parts(n, cols), m
        else:
            across, down, streamed = parts(depth, rows), parts(m, cols), n
    most = 1.0 * across * down * (2.0 * rows + cols + streamed)
    if most > MOST_CYCLES:
        return 0, 0, most
    folds, pace, one = across * down, max(streamed, rows), 2 * rows + cols + streamed - 2
    if law[OVERLAP]:
        return one + (folds - 1) * pace, folds * pace, most
    return folds * one, folds * one, most


@jit_bare
def read_elements(law: Any, count: int, m: int, n: int, k: int) -> tuple[int, int]:
    """Elements of the left and right operand read from the scratchpad."""
    left, right = count * m * k, count * k * n
    if law[DATAFLOW] == INPUTS:
        return left, right * parts(m, law[COLS])
    left *= parts(n, law[COLS])
    return left, right if law[DATAFLOW] == WEIGHTS else right * parts(m, law[ROWS])


@jit_bare
def tile_cycles(
    law: Any, rates: Any, count: int, m: int, n: int, k: int, slower_left: float, slower_right: float
) -> tuple[int, int, float]:
    """(hold, dur, a bound of the cycles of any GEMM) of a tile of `count` GEMMs of m x k by k x n whose operands take
    so many times as long to read; the bound alone is right where it is more than MOST_CYCLES."""
    best, drain, most = 0, 0, 1.0
    for way in range(3 if law[ARRAYS] > 1 else 1):
        # Several arrays share the repeats, the columns or the rows.
        repeats = parts(count, law[ARRAYS]) if way == 0 else count
        nn = parts(n, law[ARRAYS]) if way == 1 else n
        mm = parts(m, law[ARRAYS]) if way == 2 else m
        one, held, bound = folded(law, mm, nn, k)
        most = max(most, bound)
        if most > MOST_CYCLES:
            return 0, 0, most
        if way == 0 or repeats * held < best:
            best, drain = repeats * held, one - held
    hold = achieved(parts(best * law[UNDER], law[OVER]), rates[ARRAY_SHARE])
    left, right = read_elements(law, count, m, n, k)
    read_bytes = (left * law[LEFT_BITS] * slower_left + right * law[RIGHT_BITS] * slower_right) / 8
    read_bytes += count * k * n * rates[SCALE_BITS] / 8
    hold = max(hold, int(np.ceil(read_bytes * rates[CLOCK_HZ] / rates[FEED_BYTES_PER_S])))
    if law[UNPACK]:
        unpacked = parts(count * k * (m + n), law[LANES]) * law[UNPACK]
        hold = max(hold, achieved(unpacked, rates[VECTOR_SHARE]))
    if rates[UNPACK_RIGHT]:
        unpacked = int(np.ceil(parts(count * k * n, law[LANES]) * rates[UNPACK_RIGHT]))
        hold = max(hold, achieved(unpacked, rates[VECTOR_SHARE]))
    hold += (parts(k, law[DEPTH]) if law[DEPTH] else 1) * law[START]
    return hold, hold + (law[LATENCY] if law[LATENCY] >= 0 else parts(drain * law[UNDER], law[OVER])), most


@jit_bare
def fill_array_cycles(sizes: Any, law: Any, rates: Any, conflicts: Any, found: Any) -> tuple[int, float]:
    """`found` [tiles, 2] (hold, dur) of tiles of `sizes` [tiles, 4] (count, m, n, k) whose operands take `conflicts`
    [tiles, 2] times as long to read; returns the least size, and a bound of the cycles of any GEMM. What is smaller
    than 1 or may take more than MOST_CYCLES ends it."""
    least, most = 1, 1.0
    for at in range(len(sizes)):
        count, m, n, k = sizes[at, 0], sizes[at, 1], sizes[at, 2], sizes[at, 3]
        least = min(least, count, m, n, k)
        if least < 1:
            break
        found[at, 0], found[at, 1], bound = tile_cycles(
            law, rates, count, m, n, k, conflicts[at, 0], conflicts[at, 1]
        )
        most = max(most, bound)
        if most > MOST_CYCLES:
            break
    return least, most


# What the products of a nest's tiles amount to, all together: cycles that they hold the array, elements of the left and
# right operand read, sums read and written, elements of both operands and of the right one; see sim.cost.actions.
HELD, LEFT, RIGHT, SUMS_READ, SUMS_WRITTEN, OPERANDS_IN, WEIGHTS_IN = range(7)


@jit_bare
def fill_products(
    t: Any, low: Any, high: Any, law: Any, rates: Any, conflicts: Any, rows: int, columns: int, slowed: float,
    over: int, under: int, hold: Any, dur: Any, macs: Any, sums: Any,
) -> tuple[int, float, int]:  # fmt: skip
    """Ticks `hold` and `dur` [cores x iterations] of the products of all tiles, whose loops go from `low` to `high`
    [dims, cores, iterations], each of `rows` and `columns` where these are not 0; `macs` [cores] of the tiles without
    that, and their `sums` [7]. `conflicts` [1 or tiles, 2] and the first two results: see `fill_array_cycles`; the
    third is the most cycles of any.

    A cycle is over / under ticks; every tile takes `slowed` times as long.
    """
    least, most, longest, at = 1, 1.0, 0, 0
    for core in range(low.shape[1]):
        for iteration in range(low.shape[2]):
            count, m, n, k = 1, 1, 1, t.nests[0, TAPS]
            for dim in range(t.nests[0, DIMS]):
                size = high[dim, core, iteration] - low[dim, core, iteration]
                if t.role[0, dim] == 0:
                    count *= size
                elif t.role[0, dim] == 1:
                    m *= size
                elif t.role[0, dim] == 2:
                    n *= size
                else:
                    k *= size
            macs[core] += count * m * n * k
            if rows:
                m, n = rows, columns
            least = min(least, count, m, n, k)
            row = at if len(conflicts) > 1 else 0
            held, until, bound = tile_cycles(law, rates, count, m, n, k, conflicts[row, 0], conflicts[row, 1])
            most = max(most, bound)
            if least < 1 or most > MOST_CYCLES:
                return least, most, longest
            if slowed != 1.0:
                held, until = int(np.ceil(held * slowed)), int(np.ceil(until * slowed))
            longest = max(longest, held, until)
            hold[at] = max(1, parts(held * over, under))
            dur[at] = max(hold[at], parts(until * over, under))
            left, right = read_elements(law, count, m, n, k)
            folds = 1 if law[DATAFLOW] == RESULTS else parts(k, law[ROWS])
            sums[HELD] += held
            sums[LEFT] += left
            sums[RIGHT] += right
            sums[SUMS_READ] += count * m * n * (folds - 1)
            sums[SUMS_WRITTEN] += count * m * n * folds
            sums[OPERANDS_IN] += count * k * (m + n)
            sums[WEIGHTS_IN] += count * k * n
            at += 1
    return least, most, longest


# Columns of a vector unit at work [9]: cycles of a lane per element, lanes, instructions per element and those issued
# in a cycle, achieved part of its rate, clock, bandwidths of scratchpad and accumulator (0: none), cycles to start.
(
    LANE_CYCLES, UNIT_LANES, INSTRUCTIONS, ISSUED, ACHIEVED, UNIT_HZ, SRAM_BYTES_PER_S, SUM_BYTES_PER_S, UNIT_START,
) = range(9)  # fmt: skip


@jit_bare
def fill_drains(
    start: Any, stop: Any, rank: int, lanes: Any, unit: Any, moved_bits: int, sum_bytes: int, over: int, under: int,
    ticks: Any,
) -> tuple[int, int]:  # fmt: skip
    """`ticks` [boxes] to take the results of boxes, `start` to `stop` with `rank` axes each, out of the accumulator
    through the vector unit; elements in all, and the most cycles of any; see sim.cost.work.vector_tile_cycles.

    `lanes` [boxes or 0] are the elements that its lanes handle where these are not those of the box; a result has the
    scratchpad move `moved_bits`, and the accumulator `sum_bytes`. A cycle is over / under ticks.
    """
    total, longest, clock = 0, 0, int(unit[UNIT_HZ])
    for at in range(len(ticks)):
        elements = 1
        for axis in range(at * rank, (at + 1) * rank):
            elements *= stop[axis] - start[axis]
        total += elements
        handled = lanes[at] if len(lanes) else elements
        busy = int(np.ceil(parts(handled, int(unit[UNIT_LANES])) * unit[LANE_CYCLES]))
        if unit[INSTRUCTIONS]:
            busy += int(np.ceil(handled * unit[INSTRUCTIONS] / unit[ISSUED]))
        busy = achieved(busy, unit[ACHIEVED])
        moved = elements * moved_bits / 8
        busy = max(busy, int(np.ceil(moved * clock / unit[SRAM_BYTES_PER_S])))
        if unit[SUM_BYTES_PER_S]:
            busy = max(busy, int(np.ceil(elements * sum_bytes * clock / unit[SUM_BYTES_PER_S])))
        busy = max(1, busy) + int(unit[UNIT_START])
        longest = max(longest, busy)
        ticks[at] = max(1, parts(busy * over, under))
    return total, longest
