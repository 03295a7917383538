"""The closed form, compiled: one tiling of one nest on one chip, the best tiling, and all nests on all chips.

Everything compiled stands in this one file: Numba notices a change of the file a function is in, not of those it
calls. Counts are floats inside: whole numbers below 2**53, for which a division rounded up is exact.

A nest is a row of `NestTables`, a chip a row of hardware columns [HARDWARE_COLUMNS]. Formula of the latency: see
`tiling_cost`; of the array's cycles: sim/hw/systolic.py; of the DRAM's efficiency: sim/hw/dram.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from sim.cost.nest_tables import (
    AXES,
    BITS,
    CONTRACTION,
    DENOMINATOR,
    DIMS,
    HIGH,
    LOW,
    OPERANDS,
    PACKED,
    RUN_AXES,
    SIZE,
    SUM_BYTES,
    TAPS,
    TERMS,
    TOUCHES,
)
from sim.hw.dram_efficiency import ENDLESS, PITCHES, RUNS
from sim.jit import jit

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

# Columns of the hardware, of one kind of cores. Bandwidths in bytes per second; FEED_BW the scratchpad's for compute;
# DATAFLOW an index of systolic.DATAFLOWS; PORTS_BW of all memory ports in use;
# HOPS from the nearest port to a core on average, TREE_LINKS those of a multicast to all cores, REMOTE_SHARE of cores
# that do not sit on their port; *_SHARE what a calibrated chip achieves of its rates, TILE_CYCLES
# what starting a tile costs it, GATHERS whether every pattern of the DRAM runs on; from DRAM_COST on the DRAM's cost
# table (sim/hw/dram_efficiency.py), row by row.
(
    CORES, CLOCK_HZ, ROWS, COLS, ARRAYS, DATAFLOW, OVERLAP, LANES, SRAM_BYTES, FEED_BW, ACCUMULATOR_BYTES,
    ACCUMULATOR_BW, CHANNELS, CHANNEL_BW, OUTSTANDING, DRAM_BW, BURST_BYTES, INTERLEAVE_BYTES, DRAM_CHANNELS,
    HEAD_S, SEND_S, PORTS_BW, HOP_BW, HOPS, TREE_LINKS, REMOTE_SHARE, HAS_ARRAY, ROW_BYTES,
    ARRAY_SHARE, VECTOR_SHARE, DRAM_SHARE, TILE_CYCLES, GATHERS, DRAM_COST,
) = range(34)  # fmt: skip
DRAM_LINES, DRAM_RUNS = len(PITCHES) + 1, len(RUNS) + 1
HARDWARE_COLUMNS = DRAM_COST + 2 * DRAM_LINES * DRAM_RUNS

# What `tiling_cost` finds: seconds, bytes to and from the DRAM, transfers, bytes of scratchpad and accumulator, the
# least time that any tiling with the same cuts over cores takes, seconds of the DRAM, seconds for which vector
# units and arrays are held, summed over the cores.
LATENCY_S, DRAM_BYTES, TRANSFERS, SRAM_NEED, ACCUMULATOR_NEED, FLOOR_S, DRAM_S, VECTOR_S, ARRAY_S = range(9)
COSTS = 9

SLOTS = 2.0
"""Slots of a buffer that is filled more than once (estimate.BUFFER_SLOTS)."""

ALIGNMENT = 64.0
"""Buffers start at multiples of this (estimate.ALIGNMENT_BYTES)."""


@jit
def parts_of(total: int, size: int) -> int:
    """total / size, rounded up."""
    return -(-total // size)


@jit
def largest_part(extent: int, parts: int, quantum: int) -> int:
    """Indices of the largest of `parts` parts; see sim/mapping/grid.py."""
    blocks = (extent + quantum - 1) // quantum
    if blocks < parts:
        return (extent + parts - 1) // parts
    share = blocks // parts
    last = extent - quantum * (blocks - -(-blocks // parts)) if parts > 1 else extent
    others = quantum * (share + (1 if blocks - share * parts > 1 else 0))
    return min(extent, max(last, others))


@jit
def extent_of(t: Any, nest: int, operand: int, axis: int, tile: Any) -> float:
    """Elements of a tensor axis that a tile touches at most."""
    size, terms = t.axes[nest, operand, axis, SIZE], t.axes[nest, operand, axis, TERMS]
    if terms == 0:
        return float(size)
    reach = t.axes[nest, operand, axis, HIGH] - t.axes[nest, operand, axis, LOW]
    for term in range(terms):
        dim = t.terms[nest, operand, axis, term, 0]
        reach += (tile[dim] - 1) * t.terms[nest, operand, axis, term, 1]
    below = t.axes[nest, operand, axis, DENOMINATOR]
    if below != 1:
        reach = (reach + below - 1) // below
    return float(min(size, reach + 1))


@jit
def box(t: Any, nest: int, operand: int, tile: Any) -> tuple[float, float, int]:
    """(elements, bytes in one contiguous run, pitch of the runs) of an operand's largest box; see
    sim.graph.nest.Operand.run_bytes and pitch_bytes."""
    row = t.operands[nest, operand]
    elements, run, stride, pitch, whole = 1.0, 1.0, 1, 0, True
    for place in range(row[AXES]):
        axis = t.run_order[nest, operand, place]
        extent, size = extent_of(t, nest, operand, axis, tile), t.axes[nest, operand, axis, SIZE]
        elements *= extent
        if whole and place < row[RUN_AXES]:
            run *= extent
        elif not whole and pitch == 0 and extent > 1:
            pitch = stride * row[BITS] // 8
        whole = whole and extent == size
        stride *= size
    if row[PACKED]:
        run, pitch = elements, 0
    return elements, max(1.0, np.floor(run * row[BITS] / 8)), pitch


@jit
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
        step = burst
        for other in (run, pitch):
            while other:
                step, other = other, step % other
        moved = run_bytes + burst - step
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


@jit
def array_cycles(
    hw: Any, count: float, m: float, n: float, k: float, over: float, under: float, left: int, right: int
) -> tuple[float, float]:
    """(hold, dur) of a tile of GEMMs; see sim.cost.work.array_cycles. `over` / `under` is the rate of the format,
    `left` and `right` the bits of the operands."""
    rows, cols, dataflow = hw[ROWS], hw[COLS], hw[DATAFLOW]
    best, drain = np.inf, 0.0
    for way in range(3 if hw[ARRAYS] > 1 else 1):
        repeats = np.ceil(count / hw[ARRAYS]) if way == 0 else count
        mm = np.ceil(m / hw[ARRAYS]) if way == 2 else m
        nn = np.ceil(n / hw[ARRAYS]) if way == 1 else n
        if dataflow == 0.0:
            folds, streamed = np.ceil(k / rows) * np.ceil(nn / cols), mm
        elif dataflow == 1.0:
            folds, streamed = np.ceil(mm / rows) * np.ceil(nn / cols), k
        else:
            folds, streamed = np.ceil(k / rows) * np.ceil(mm / cols), nn
        one = 2.0 * rows + cols + streamed - 2.0
        if hw[OVERLAP] > 0:
            pace = max(streamed, rows)
            held, tail = folds * pace, one - pace
        else:
            held, tail = folds * one, 0.0
        if repeats * held < best:
            best, drain = repeats * held, tail
    reads = count * k * (
        m * left * (1.0 if dataflow == 2.0 else np.ceil(n / cols))
        + n * right * (1.0 if dataflow == 0.0 else np.ceil(m / (cols if dataflow == 2.0 else rows)))
    )  # fmt: skip
    held = np.ceil(best * under / over)
    if hw[ARRAY_SHARE] < 1.0:
        held = np.ceil(held / hw[ARRAY_SHARE])
    hold = max(held, np.ceil(reads / 8 * hw[CLOCK_HZ] / hw[FEED_BW])) + hw[TILE_CYCLES]
    return hold, hold + np.ceil(drain * under / over)


@jit
def vector_cycles(hw: Any, elements: float, cost: float, moved: float, drained: float) -> float:
    """Cycles of the vector unit; see sim.cost.work.vector_tile_cycles. `cost` is cycles per element and lane."""
    busy = np.ceil(np.ceil(elements / hw[LANES]) * cost)
    if hw[VECTOR_SHARE] < 1.0:
        busy = np.ceil(busy / hw[VECTOR_SHARE])
    busy = max(busy, np.ceil(moved * hw[CLOCK_HZ] / hw[FEED_BW]))
    if hw[ACCUMULATOR_BW] > 0:
        busy = max(busy, np.ceil(drained * hw[CLOCK_HZ] / hw[ACCUMULATOR_BW]))
    return float(max(1.0, busy) + hw[TILE_CYCLES])


@jit
def fill_count(t: Any, nest: int, operand: int, steps: Any, columns_first: int) -> float:
    """Fills of an operand's buffer on every core; see sim.cost.estimate.fills."""
    touches = t.operands[nest, operand, TOUCHES]
    total, active = 1.0, False
    for place in range(t.nests[nest, DIMS]):
        dim = t.order[nest, columns_first, place]
        if steps[dim] > 1:
            active = active or (touches >> dim) & 1 == 1
            if active:
                total *= steps[dim]
    return total


@jit
def groups(t: Any, nest: int, operand: int, splits: Any) -> float:
    """Groups of cores that need different boxes of an operand."""
    touches = t.operands[nest, operand, TOUCHES]
    total = 1.0
    for dim in range(t.nests[nest, DIMS]):
        if (touches >> dim) & 1:
            total *= splits[dim]
    return total


@jit
def tile_gemm(t: Any, nest: int, tile: Any) -> tuple[float, float, float, float]:
    """(count, m, n, k) of the GEMM that a tile amounts to."""
    count, m, n, k = 1.0, 1.0, 1.0, float(t.nests[nest, TAPS])
    for dim in range(t.nests[nest, DIMS]):
        role = t.role[nest, dim]
        if role == 0:
            count *= tile[dim]
        elif role == 1:
            m *= tile[dim]
        elif role == 2:
            n *= tile[dim]
        else:
            k *= tile[dim]
    return count, m, n, k


@jit
def chains_s(
    hw: Any, compute_s: float, iterations: float, tail_s: float, drain_s: float, moved_s: float, issue_s: float,
    first_s: float, out_s: float, most_loads: float, channel_bytes: float, out_tiles: float, out_bytes: float,
) -> float:  # fmt: skip
    """Seconds without the reduction over cores: see sim.cost.estimate.estimate. Grows with every time given.

    `most_loads` fills of a buffer that is filled more than once, `channel_bytes` of the one that moves most;
    `out_tiles` results stored by a core, 0 where they stay.
    """
    waiting_s, post_s = 0.0, hw[SEND_S] if out_tiles > 0 else 0.0
    if most_loads > 1:
        wires_s = max(moved_s, channel_bytes / hw[CHANNEL_BW])
        waiting_s = (compute_s + most_loads * (hw[HEAD_S] + tail_s) + wires_s) / SLOTS
    if out_tiles > 1:
        waiting_s = max(waiting_s, out_tiles * (drain_s + hw[SEND_S] + out_bytes / hw[CHANNEL_BW]) / SLOTS)
    computing_s = first_s + max(compute_s, waiting_s) + drain_s + post_s + out_s
    moving_s = moved_s + compute_s / iterations + drain_s + post_s
    return float(hw[HEAD_S] + max(computing_s, moving_s, issue_s) + tail_s)


@jit
def tiling_cost(
    t: Any,
    nest: int,
    hw: Any,
    over: float,
    under: float,
    body: float,
    drain: float,
    splits: Any,
    steps: Any,
    tile: Any,
    columns_first: int,
    vector: bool,
    resident: int,
    stored: bool,
    found: Any,
) -> None:
    """Evaluate one tiling into `found` [COSTS].

    `over` / `under` is the array's rate at the operands' format, `body` and `drain` cycles per element and lane of the
    whole nest on the vector unit and of what is applied on the way out; `splits`, `steps`, `tile` [dims] parts over
    cores, tiles per core, indices of the largest tile; `resident` a bit mask of operands in the scratchpad; the result
    goes to the DRAM, or stays in the scratchpads if not `stored`.

        latency = head latency + max(computing, moving, issue of all transfers) + tail + reduction over cores
        computing = first tiles in + max(compute, waits for free slots) + drain + last tile out
        moving = busiest of DMA, DRAM and ports + the last tile's compute and drain

    term by term as sim.cost.estimate.estimate explains them.
    """
    operands = t.nests[nest, OPERANDS]
    used, summed, iterations, sum_steps = 1.0, 1.0, 1.0, 1.0
    for dim in range(t.nests[nest, DIMS]):
        used *= splits[dim]
        iterations *= steps[dim]
        if t.role[nest, dim] == 3:
            summed *= splits[dim]
            sum_steps *= steps[dim]
    out_tiles = iterations / sum_steps
    elements, out_run, out_pitch = box(t, nest, operands, tile)
    out_bytes = np.ceil(elements * t.operands[nest, operands, BITS] / 8)

    core_bw = hw[CHANNEL_BW] * hw[CHANNELS]
    sram, transfers, core_bytes, dram_bytes, dram_s, read = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    first_bytes, first_largest, first_shared_s, most_loads, channel_bytes = 0.0, 0.0, 0.0, 0.0, 0.0
    for operand in range(operands):
        inside, run, pitch = box(t, nest, operand, tile)
        size = np.ceil(inside * t.operands[nest, operand, BITS] / 8)
        read += size
        if (resident >> operand) & 1:
            continue
        loads = fill_count(t, nest, operand, steps, columns_first)
        apart = groups(t, nest, operand, splits)
        inverse = pattern_cost(t, nest, operand, hw, run, pitch, False)
        first_bytes += size
        first_largest = max(first_largest, size)
        first_shared_s += apart * size * max(inverse / hw[DRAM_BW], 1.0 / hw[PORTS_BW])
        if loads > 1:
            most_loads, channel_bytes = max(most_loads, loads), max(channel_bytes, loads * size)
        sram += (SLOTS if loads > 1 else 1.0) * np.ceil(size / ALIGNMENT) * ALIGNMENT
        transfers += loads * apart
        core_bytes += loads * size
        dram_bytes += loads * apart * size
        dram_s += loads * apart * size * inverse
    owners, stores, out_s = used / summed, 0.0, 0.0
    if stored:
        stores = out_tiles
        sram += (SLOTS if stores > 1 else 1.0) * np.ceil(out_bytes / ALIGNMENT) * ALIGNMENT
        transfers += stores * owners
        core_bytes += stores * out_bytes
        dram_bytes += stores * owners * out_bytes
        inverse = pattern_cost(t, nest, operands, hw, out_run, out_pitch, True)
        dram_s += stores * owners * out_bytes * inverse
        together_s = owners * out_bytes * max(inverse / hw[DRAM_BW], 1.0 / hw[PORTS_BW])
        out_s = max(out_bytes / hw[CHANNEL_BW], together_s)
    dram_s /= hw[DRAM_BW]

    accumulator, drain_s, tail_s = 0.0, 0.0, 0.0
    if vector:
        compute_s = iterations * vector_cycles(hw, elements, body, read + out_bytes, 0.0) / hw[CLOCK_HZ]
        found[VECTOR_S], found[ARRAY_S] = compute_s * used, 0.0
    else:
        count, m, n, k = tile_gemm(t, nest, tile)
        left, right = t.operands[nest, 0, BITS], t.operands[nest, 1, BITS]
        hold, dur = array_cycles(hw, count, m, n, k, over, under, left, right)
        accumulator = elements * t.nests[nest, SUM_BYTES]
        drained = vector_cycles(hw, elements, drain, out_bytes, accumulator)
        busy, drains = iterations * hold, out_tiles * drained
        if accumulator * SLOTS <= hw[ACCUMULATOR_BYTES] and out_tiles > 1:
            total = max(busy, drains)
        else:
            total = busy + drains - drained + (out_tiles - 1.0) * (dur - hold)
        compute_s, tail_s = total / hw[CLOCK_HZ], (dur - hold) / hw[CLOCK_HZ]
        drain_s = drained / hw[CLOCK_HZ]
        found[VECTOR_S], found[ARRAY_S] = out_tiles * drain_s * owners, busy * used / hw[CLOCK_HZ]
    reduce_s = 0.0
    if summed > 1 and t.nests[nest, CONTRACTION]:
        part = elements * t.nests[nest, SUM_BYTES]
        send_s = hw[SEND_S] + part / min(hw[HOP_BW], hw[CHANNEL_BW])
        reduce_s = np.ceil(np.log2(summed)) * (out_tiles * part / hw[HOP_BW] + send_s + drain_s)
        sram += (1.0 + SLOTS) * np.ceil(part / ALIGNMENT) * ALIGNMENT

    moved_s = max(core_bytes / core_bw, dram_s, dram_bytes / hw[PORTS_BW])
    issue_s = transfers / used * hw[HEAD_S] / (hw[OUTSTANDING] * hw[CHANNELS])
    first_s = max(first_largest / hw[CHANNEL_BW], first_bytes / core_bw, first_shared_s)
    found[LATENCY_S] = reduce_s + chains_s(
        hw, compute_s, iterations, tail_s, drain_s, moved_s, issue_s, first_s, out_s, most_loads, channel_bytes,
        stores, out_bytes,
    )  # fmt: skip
    found[DRAM_BYTES] = dram_bytes
    found[TRANSFERS] = transfers
    found[SRAM_NEED] = sram
    found[ACCUMULATOR_NEED] = accumulator
    found[DRAM_S] = dram_s
    found[FLOOR_S] = max(compute_s, moved_s) + hw[HEAD_S] + hw[SEND_S]


@jit
def tiling_costs(
    t: Any, hw: Any, over: float, under: float, body: float, drain: float, splits: Any, steps: Any, tile: Any,
    columns_first: Any, vector: bool, resident: Any, stored: bool, found: Any,
) -> None:  # fmt: skip
    """`tiling_cost` of many tilings of the first nest, a row each: `found` [tilings, COSTS]."""
    for row in range(len(splits)):
        tiling_cost(
            t, 0, hw, over, under, body, drain, splits[row], steps[row], tile[row], int(columns_first[row]), vector,
            resident[row], stored, found[row],
        )  # fmt: skip


@jit
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
