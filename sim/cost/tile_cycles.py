"""The cycles of tiles on an array, compiled: the integers of sim/hw/systolic.py and what stands around the array.

Called by sim.cost.work.array_cycles, which says what they are. `law` and `rates` are the array by the columns below.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.jit import jit

# Columns of `law` [15], integers: dataflow by its place in systolic.DATAFLOWS; rows and columns of one array, rows that
# share an adder, overlapping folds?, arrays; rate of the format as a fraction; operand bits; passes that unpack an
# operand (0: none) and lanes for it; cycles to start a tile, depth of a started piece of the sum (0: the whole), cycles
# from the last operands to the results (-1: those of the wavefront).
(
    DATAFLOW, ROWS, COLS, ADDERS, OVERLAP, ARRAYS, OVER, UNDER, LEFT_BITS, RIGHT_BITS, UNPACK, LANES, START, DEPTH,
    LATENCY,
) = range(15)  # fmt: skip
# Columns of `rates` [5]: achieved parts of the array's and the vector unit's rate, clock, scratchpad bandwidth, cycles
# of a lane that unpack an element of the right operand (0: none).
ARRAY_SHARE, VECTOR_SHARE, CLOCK_HZ, FEED_BYTES_PER_S, UNPACK_RIGHT = range(5)

MOST_CYCLES = 2.0**62

WEIGHTS, RESULTS, INPUTS = range(3)
"""What stays in place, by the dataflow's place in systolic.DATAFLOWS."""


@jit
def parts(total: int, size: int) -> int:
    """total / size, rounded up."""
    return -(-total // size)


@jit
def achieved(cycles: int, efficiency: float) -> int:
    """Cycles at the achieved part of a unit's rate."""
    return cycles if efficiency == 1.0 else int(np.ceil(cycles / efficiency))


@jit
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


@jit
def read_elements(law: Any, count: int, m: int, n: int, k: int) -> tuple[int, int]:
    """Elements of the left and right operand read from the scratchpad."""
    left, right = count * m * k, count * k * n
    if law[DATAFLOW] == INPUTS:
        return left, right * parts(m, law[COLS])
    left *= parts(n, law[COLS])
    return left, right if law[DATAFLOW] == WEIGHTS else right * parts(m, law[ROWS])


@jit
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
        best, drain = 0, 0
        for way in range(3 if law[ARRAYS] > 1 else 1):
            # Several arrays share the repeats, the columns or the rows.
            repeats = parts(count, law[ARRAYS]) if way == 0 else count
            nn = parts(n, law[ARRAYS]) if way == 1 else n
            mm = parts(m, law[ARRAYS]) if way == 2 else m
            one, held, bound = folded(law, mm, nn, k)
            most = max(most, bound)
            if most > MOST_CYCLES:
                return least, most
            if way == 0 or repeats * held < best:
                best, drain = repeats * held, one - held
        hold = achieved(parts(best * law[UNDER], law[OVER]), rates[ARRAY_SHARE])
        left, right = read_elements(law, count, m, n, k)
        read_bytes = (left * law[LEFT_BITS] * conflicts[at, 0] + right * law[RIGHT_BITS] * conflicts[at, 1]) / 8
        hold = max(hold, int(np.ceil(read_bytes * rates[CLOCK_HZ] / rates[FEED_BYTES_PER_S])))
        if law[UNPACK]:
            unpacked = parts(count * k * (m + n), law[LANES]) * law[UNPACK]
            hold = max(hold, achieved(unpacked, rates[VECTOR_SHARE]))
        if rates[UNPACK_RIGHT]:
            unpacked = int(np.ceil(parts(count * k * n, law[LANES]) * rates[UNPACK_RIGHT]))
            hold = max(hold, achieved(unpacked, rates[VECTOR_SHARE]))
        hold += (parts(k, law[DEPTH]) if law[DEPTH] else 1) * law[START]
        found[at, 0] = hold
        found[at, 1] = hold + (law[LATENCY] if law[LATENCY] >= 0 else parts(drain * law[UNDER], law[OVER]))
    return least, most
