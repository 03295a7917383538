"""The closed form, compiled: terms of the cost of one tiling of one nest on one chip (sim/cost/tiling.py).

A nest is a row of `NestTables`, a chip a row of hardware columns [HARDWARE_COLUMNS]. Counts are floats inside: whole
numbers below 2**53, for which a division rounded up is exact. Formula of the latency: see `tiling.tiling_cost`; of the
array's cycles: sim/hw/systolic.py; of the DRAM's efficiency: sim/hw/dram.py.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sim.cost.nest_tables import (
    AXES,
    BITS,
    CONTRACTION,
    DIMS,
    OPERANDS,
    PART,
    PARTS,
    PER_ELEMENT,
    RUN_AXES,
    SIZE,
    SUM_BYTES,
    TAPS,
)
from sim.cost.work import PARTS_ADDED
from sim.hw.dram_efficiency import ENDLESS, PITCHES, RUNS
from sim.jit import jit_bare

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

# Columns of the hardware, of one kind of cores. Bandwidths in bytes per second; FEED_BW the scratchpad's for compute;
# DATAFLOW an index of systolic.DATAFLOWS; PORTS_BW of all memory ports in use, EACH_PORT_BW of one, HOP_BW of a link;
# HOPS that bytes cross to a core on average, TREE_LINKS those of a multicast to all cores, REMOTE_SHARE of cores
# that do not sit on their port; *_SHARE what a calibrated chip achieves of its rates, TILE_CYCLES
# what starting a tile costs it, GATHERS whether every pattern of the DRAM runs on; ADDERS rows that share one; RINGS
# whether tiles that are needed again may stay in their slots;
# from PERIOD_S to LINK_S what `derive` makes of the others; from DRAM_COST on the DRAM's cost table
# (sim/hw/dram_efficiency.py), row by row.
(
    CORES, CLOCK_HZ, ROWS, COLS, ARRAYS, DATAFLOW, OVERLAP, LANES, SRAM_BYTES, FEED_BW, ACCUMULATOR_BYTES,
    ACCUMULATOR_BW, CHANNELS, CHANNEL_BW, OUTSTANDING, DRAM_BW, BURST_BYTES, INTERLEAVE_BYTES, DRAM_CHANNELS,
    HEAD_S, SEND_S, PORTS_BW, HOP_BW, HOPS, TREE_LINKS, REMOTE_SHARE, HAS_ARRAY, ROW_BYTES,
    ARRAY_SHARE, VECTOR_SHARE, DRAM_SHARE, TILE_CYCLES, GATHERS, ADDERS, EACH_PORT_BW, RINGS, PERIOD_S, ROW_PART,
    COL_PART, LANE_PART, FEED_CYCLES, SUM_CYCLES, CHANNEL_S, CORE_S, WIRE_S, PORT_S, PEAK_S, PART_S, ISSUE_S, WAVE_ROWS,
    EACH_PORT_S, LINK_S, DRAM_COST,
) = range(53)  # fmt: skip
DRAM_LINES, DRAM_RUNS = len(PITCHES) + 1, len(RUNS) + 1
HARDWARE_COLUMNS = DRAM_COST + 2 * DRAM_LINES * DRAM_RUNS

# What `tiling.tiling_cost` finds: seconds, bytes to and from the DRAM, transfers, bytes of scratchpad and accumulator,
# the least time that any tiling with the same cuts over cores takes, seconds of the DRAM, seconds for which vector
# units and arrays are held, summed over the cores.
LATENCY_S, DRAM_BYTES, TRANSFERS, SRAM_NEED, ACCUMULATOR_NEED, FLOOR_S, DRAM_S, VECTOR_S, ARRAY_S = range(9)
COSTS = 9

UNPACKS, EPILOGUE = PARTS.index("unpack"), PARTS.index("epilogue")

PREFERRED_SHARE = 0.5
"""Share of a scratchpad that buffers keep to where they can, so that the next operator's can be filled meanwhile."""

TRAFFIC_SHARE = 0.01
"""Of the DRAM's time, added to the latency where tilings are compared: of those that are about as fast, one with little
traffic is chosen, and none is more than so much slower than the fastest."""

SLOTS = 2.0
"""Slots of a buffer that is filled more than once (estimate.BUFFER_SLOTS)."""

ALIGNMENT = 64.0
"""Buffers start at multiples of this (estimate.ALIGNMENT_BYTES)."""


def derive(hardware: Float64) -> None:
    """Fill in the columns PERIOD_S to LINK_S of [..., HARDWARE_COLUMNS]: what the kernel multiplies with where the
    formulas divide. Seconds of a cycle; parts of a row, a column, a lane; cycles of a byte for compute from the
    scratchpad and from the accumulator; seconds of a byte on a channel, all channels of a core, the DRAM, the ports,
    the slower of these two, between cores; seconds of a core from one transfer's issue to the next's; rows of an array
    as a wavefront meets them, several that share an adder as one (sums in place have none to share); seconds of a
    byte on one port and on one link."""

    def column(index: int) -> Float64:
        return np.asarray(hardware[..., index])

    def inverse(values: Float64) -> Float64:
        return np.divide(1.0, values, out=np.zeros_like(values), where=values > 0)

    channel_s, dram_s, port_s = (inverse(column(c)) for c in (CHANNEL_BW, DRAM_BW, PORTS_BW))
    derived = {
        PERIOD_S: inverse(column(CLOCK_HZ)),
        ROW_PART: inverse(column(ROWS)),
        COL_PART: inverse(column(COLS)),
        LANE_PART: inverse(column(LANES)),
        FEED_CYCLES: column(CLOCK_HZ) * inverse(column(FEED_BW)),
        SUM_CYCLES: column(CLOCK_HZ) * inverse(column(ACCUMULATOR_BW)),
        CHANNEL_S: channel_s,
        CORE_S: channel_s * inverse(column(CHANNELS)),
        WIRE_S: dram_s,
        PORT_S: port_s,
        PEAK_S: np.maximum(dram_s, port_s),
        PART_S: np.maximum(channel_s, inverse(column(HOP_BW))),
        ISSUE_S: column(HEAD_S) * inverse(column(OUTSTANDING) * column(CHANNELS)),
        WAVE_ROWS: column(ROWS) / np.where(column(DATAFLOW) == 1.0, 1.0, np.maximum(1.0, column(ADDERS))),
        EACH_PORT_S: inverse(column(EACH_PORT_BW)),
        LINK_S: inverse(column(HOP_BW)),
    }
    for index, values in derived.items():
        hardware[..., index] = values


@jit_bare
def up(value: float) -> float:
    """Rounded up, where a product with a reciprocal is a whole number but for rounding."""
    return float(np.ceil(value * (1.0 - 1e-13)))


@jit_bare
def common_divisor(burst: int, run: int, pitch: int) -> int:
    """The greatest of a burst, a run and a pitch (0: none); of a power of two by the lowest bit set."""
    if burst & (burst - 1) == 0:
        both = run | pitch
        return min(burst, both & -both)
    for other in (run, pitch):
        while other:
            burst, other = other, burst % other
    return burst


@jit_bare
def pattern_cost(
    t: Any, nest: int, operand: int, hw: Any, run_bytes: float, pitch_bytes: int, store: bool
) -> float:
    """1 / efficiency of the DRAM for runs at a pitch (0: no further run); see sim.hw.dram.pattern_efficiency."""
    row = t.operands[nest, operand]
    run, burst = int(run_bytes), int(hw[BURST_BYTES])
    pitch = 0
    if row[RUN_AXES] == row[AXES]:
        pitch = max(run, pitch_bytes)
    shared = min(max(run_bytes / hw[INTERLEAVE_BYTES], 1.0), hw[DRAM_CHANNELS])
    if 0 < pitch <= run or hw[GATHERS] > 0:
        pitch = max(pitch, 1)
        moved, bursts = run_bytes, ENDLESS
    else:
        moved = run_bytes + burst - common_divisor(burst, run, pitch)
        bursts = max(1.0, moved / shared / burst)
    column = 0
    while column < DRAM_RUNS - 2 and RUNS[column + 1] <= bursts:
        column += 1
    left = 1.0 / RUNS[column]
    right = 1.0 / RUNS[column + 1] if column < DRAM_RUNS - 2 else 0.0
    along = (left - 1.0 / bursts) / (left - right)
    line, down = DRAM_LINES - 1, 0.0
    if pitch > 0:
        scale = min(max(np.log2(max((pitch & -pitch) / shared / burst, 1.0)) / 2.0, 0.0), DRAM_LINES - 2.0)
        line = min(int(scale), DRAM_LINES - 3)
        down = scale - line
    at = DRAM_COST + (int(store) * DRAM_LINES + line) * DRAM_RUNS + column
    cost = hw[at] * (1.0 - along) + hw[at + 1] * along
    if down > 0.0:
        lower = hw[at + DRAM_RUNS] * (1.0 - along) + hw[at + DRAM_RUNS + 1] * along
        cost = cost * (1.0 - down) + lower * down
    return float(moved / run_bytes * cost / hw[DRAM_SHARE])


@jit_bare
def array_work(
    hw: Any, count: float, m: float, n: float, k: float, slow: float, left: int, right: int, scales: float
) -> tuple[float, float, float]:
    """(cycles for which a tile of GEMMs holds the arrays, cycles from there to its last result, bits that they read of
    both operands); see sim.cost.work.array_cycles. `slow` is 1 / rate of the format, `left` and `right` the bits of
    the operands, `scales` those that are read with an element of the right one."""
    rows, dataflow, row, col = hw[WAVE_ROWS], hw[DATAFLOW], hw[ROW_PART], hw[COL_PART]
    best, drain = np.inf, 0.0
    for way in range(3 if hw[ARRAYS] > 1 else 1):
        repeats = np.ceil(count / hw[ARRAYS]) if way == 0 else count
        mm = np.ceil(m / hw[ARRAYS]) if way == 2 else m
        nn = np.ceil(n / hw[ARRAYS]) if way == 1 else n
        if dataflow == 0.0:
            folds, streamed = up(k * row) * up(nn * col), mm
        elif dataflow == 1.0:
            folds, streamed = up(mm * row) * up(nn * col), k
        else:
            folds, streamed = up(k * row) * up(mm * col), nn
        one = 2.0 * rows + hw[COLS] + streamed - 2.0
        if hw[OVERLAP] > 0:
            pace = max(streamed, rows)
            held, tail = folds * pace, one - pace
        else:
            held, tail = folds * one, 0.0
        if repeats * held < best:
            best, drain = repeats * held, tail
    reads = count * k * (
        m * left * (1.0 if dataflow == 2.0 else up(n * col))
        + n * right * (1.0 if dataflow == 0.0 else up(m * (col if dataflow == 2.0 else row)))
        + n * scales
    )  # fmt: skip
    held = up(best * slow)
    if hw[ARRAY_SHARE] < 1.0:
        held = np.ceil(held / hw[ARRAY_SHARE])
    return held, up(drain * slow), reads


@jit_bare
def array_cycles(
    hw: Any, count: float, m: float, n: float, k: float, slow: float, left: int, right: int, unpack: float,
    scales: float,
) -> tuple[float, float]:  # fmt: skip
    """(hold, dur) of a tile of GEMMs: its operands may take longer to read, or the right one to unpack at `unpack`
    cycles of a lane per element, than its products to make."""
    held, tail, reads = array_work(hw, count, m, n, k, slow, left, right, scales)
    if unpack > 0.0:
        held = max(held, np.ceil(np.ceil(up(count * k * n * hw[LANE_PART]) * unpack) / hw[VECTOR_SHARE]))
    hold = max(held, up(reads * 0.125 * hw[FEED_CYCLES])) + hw[TILE_CYCLES]
    return hold, hold + tail


@jit_bare
def vector_cycles(hw: Any, elements: float, cost: float, moved: float, drained: float) -> float:
    """Cycles of the vector unit; see sim.cost.work.vector_tile_cycles. `cost` is cycles per element and lane."""
    busy = np.ceil(up(elements * hw[LANE_PART]) * cost)
    if hw[VECTOR_SHARE] < 1.0:
        busy = np.ceil(busy / hw[VECTOR_SHARE])
    busy = max(busy, up(moved * hw[FEED_CYCLES]), up(drained * hw[SUM_CYCLES]))
    return float(max(1.0, busy) + hw[TILE_CYCLES])


class Attention(NamedTuple):
    """Of an attention, what does not depend on its tiling: `depth` and `width` of its heads (0: it is none), bits of
    the values, and cycles of a lane: of a score until it is a share, of a row and block of keys, of a sum of values
    that is added to the running result, of a finished row; scratchpad bytes of masks that are read per byte of
    shares."""

    depth: float
    width: float
    value_bits: int
    share: float
    row: float
    merge: float
    last: float
    masks: float


class Work(NamedTuple):
    """What does not depend on the tiling: `slow` 1 / rate of the array at the operands' format, `body` and `drain`
    cycles per element and lane of the whole nest on the vector unit and of what is applied on the way out, bits of
    the operands on the array, bytes of a partial sum (0: no contraction), cycles of a lane that unpack an element of
    the right operand for the array, bits read for that, scratchpad bytes that the drain reads per byte of results."""

    vector: bool
    slow: float
    body: float
    drain: float
    left_bits: int
    right_bits: int
    sum_bytes: float
    unpack: float
    scales: float
    late: float
    attention: Attention


class Tiles(NamedTuple):
    """Of one tiling: cores, cores that share a sum, tiles of a core, results that it stores (`out_tiles`, 0 `stores`
    where they stay), elements and bytes of a result tile, bytes of all operands of a tile."""

    used: float
    summed: float
    iterations: float
    out_tiles: float
    stores: float
    elements: float
    out_bytes: float
    read_bytes: float


class Held(NamedTuple):
    """For how long a tiling holds the units of a core: `compute_s` with its waits for the accumulator, `tail_s` from
    the end of a hold to the result, `drain_s` of the last result, `reduce_s` of the sum over cores; unit times summed
    over the cores; bytes of the accumulator and of one part of a split sum."""

    compute_s: float
    tail_s: float
    drain_s: float
    reduce_s: float
    vector_s: float
    array_s: float
    accumulator_bytes: float
    part_bytes: float


@jit_bare
def make_work(
    t: Any, nest: int, over: float, under: float, body: float, drain: float, vector: bool, unpack: float = 0.0
) -> Work:
    """The work of a nest on a unit, which is no attention; see Work."""
    left, right = t.operands[nest, 0, BITS], t.operands[nest, min(1, t.nests[nest, OPERANDS]), BITS]
    sum_bytes = float(t.nests[nest, SUM_BYTES]) if t.nests[nest, CONTRACTION] else 0.0
    late = late_bits(t, nest, 0, True) / t.operands[nest, t.nests[nest, OPERANDS], BITS]
    none = Attention(0.0, 0.0, 0, 0.0, 0.0, 0.0, 0.0, 0.0)
    return Work(vector, under / over, body, drain, left, right, sum_bytes, unpack, scale_bits(t, nest), late, none)


@jit_bare
def scale_bits(t: Any, nest: int) -> float:
    """Bits of scales and zero points per element of a packed right operand; see sim.cost.work.scale_bits."""
    total = 0.0
    for operand in range(2, t.nests[nest, OPERANDS]):
        if t.operands[nest, operand, PART] == UNPACKS:
            bits = float(t.operands[nest, operand, BITS])
            for axis in range(2):
                bits *= t.axes[nest, operand, axis, SIZE] / t.axes[nest, 1, axis, SIZE]
            total += bits
    return total


@jit_bare
def late_bits(t: Any, nest: int, first: int, behind: bool) -> float:
    """Bits that a drain reads for each element that it makes, of the operands from number `first` on: of the result, or
    if not `behind` of an attention's scores."""
    total = 0.0
    for operand in range(first, t.nests[nest, OPERANDS]):
        if behind == (t.operands[nest, operand, PART] == EPILOGUE):
            total += t.operands[nest, operand, PER_ELEMENT] * t.operands[nest, operand, BITS]
    return total


@jit_bare
def held(hw: Any, w: Work, x: Tiles, count: float, m: float, n: float, k: float) -> Held:
    """Times of tiles that are `count` GEMMs of m x k by k x n; see sim.cost.estimate."""
    part, reduce_s, cycle_s = 0.0, 0.0, hw[PERIOD_S]
    if w.vector:
        compute_s = x.iterations * vector_cycles(hw, x.elements, w.body, x.read_bytes + x.out_bytes, 0.0) * cycle_s
        return Held(compute_s, 0.0, 0.0, 0.0, compute_s * x.used, 0.0, 0.0, 0.0)
    hold, dur = array_cycles(hw, count, m, n, k, w.slow, w.left_bits, w.right_bits, w.unpack, w.scales)
    accumulator = x.elements * w.sum_bytes
    # The last part of a split sum is in the scratchpad.
    here = accumulator if x.summed > 1.0 else 0.0
    drained = vector_cycles(hw, x.elements, w.drain, x.out_bytes * (1.0 + w.late) + here, accumulator - here)
    busy, drains = x.iterations * hold, x.out_tiles * drained
    if accumulator * SLOTS <= hw[ACCUMULATOR_BYTES] and x.out_tiles > 1:
        total = max(busy, drains)
    else:
        total = busy + drains - drained + (x.out_tiles - 1.0) * (dur - hold)
    drain_s = drained * cycle_s
    if x.summed > 1.0:
        part = accumulator
        moving_s = x.out_tiles * part / hw[HOP_BW] + hw[SEND_S] + part * hw[PART_S]
        add_s = max(drained, up(PARTS_ADDED * part * hw[FEED_CYCLES]) + hw[TILE_CYCLES]) * cycle_s
        reduce_s = np.ceil(np.log2(x.summed)) * (moving_s + add_s)
    return Held(
        total * cycle_s, (dur - hold) * cycle_s, drain_s, reduce_s, x.out_tiles * drain_s * x.used / x.summed,
        busy * x.used * cycle_s, accumulator, part,
    )  # fmt: skip


@jit_bare
def chains_s(
    hw: Any, x: Tiles, h: Held, moved_s: float, issue_s: float, first_s: float, out_s: float, most_loads: float,
    channel_bytes: float,
) -> float:  # fmt: skip
    """Latency in seconds: see sim.cost.estimate.estimate. Grows with every time given.

    `moved_s` of the busiest wire, `issue_s` of all transfers, `first_s` and `out_s` of the first tiles in and the last
    one out; `most_loads` fills of a buffer that is filled more than once, `channel_bytes` of the one that moves most.
    """
    waiting_s, post_s = 0.0, hw[SEND_S] if x.stores > 0.0 else 0.0
    if most_loads > 1.0:
        wires_s = max(moved_s, channel_bytes * hw[CHANNEL_S])
        waiting_s = (h.compute_s + most_loads * (hw[HEAD_S] + h.tail_s) + wires_s) / SLOTS
    if x.stores > 1.0:
        emptied_s = x.stores * (h.drain_s + hw[SEND_S] + x.out_bytes * hw[CHANNEL_S])
        waiting_s = max(waiting_s, emptied_s / SLOTS)
    computing_s = first_s + max(h.compute_s, waiting_s) + h.drain_s + post_s + out_s
    moving_s = moved_s + h.compute_s / x.iterations + h.drain_s + post_s
    return float(hw[HEAD_S] + max(computing_s, moving_s, issue_s) + h.tail_s + h.reduce_s)


@jit_bare
def early_chains_s(
    hw: Any, x: Tiles, h: Held, first_s: float, out_s: float, part: float, moved_s: float, loads: float,
    channel_bytes: float,
) -> float:  # fmt: skip
    """What `chains_s` is at least where operands stay, all of whose loads fall in a first `part` of the tiles: those
    take as long as if nothing stayed, the others compute.

    `moved_s` of the busiest wire until then; `loads` and `channel_bytes` of the buffer that has most until then.
    """
    post_s, later_s = hw[SEND_S] if x.stores > 0.0 else 0.0, (1.0 - part) * h.compute_s
    filling_s = part * h.compute_s + loads * (hw[HEAD_S] + h.tail_s) + max(moved_s, channel_bytes * hw[CHANNEL_S])
    computing_s = first_s + later_s + filling_s / SLOTS + out_s
    busiest_s = max(computing_s, moved_s + later_s) + h.drain_s + post_s
    return float(hw[HEAD_S] + busiest_s + h.tail_s + h.reduce_s)


@jit_bare
def set_quanta(t: Any, nest: int, hw: Any, vector: bool, quanta: Any) -> None:
    """Granules of the cuts: array sides where a role is one loop; see sim.mapping.search.cut_quanta."""
    for dim in range(t.nests[nest, DIMS]):
        quanta[dim] = 1
        if vector:
            continue
        role, alone = t.role[nest, dim], 0
        for other in range(t.nests[nest, DIMS]):
            alone += t.role[nest, other] == role
        if alone > 1 or (role == 3 and t.nests[nest, TAPS] > 1):
            continue
        columns, rows = (1, 3) if hw[DATAFLOW] == 2.0 else (2, 1 if hw[DATAFLOW] == 1.0 else 3)
        if role == columns:
            quanta[dim] = int(hw[COLS]) * (int(hw[ARRAYS]) if columns == 2 else 1)
        elif role == rows:
            quanta[dim] = int(hw[ROWS])

