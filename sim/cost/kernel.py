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
    PER_ELEMENT,
    RUN_AXES,
    SIZE,
    SUM_BYTES,
    TAPS,
    TERMS,
    TOUCHES,
    NestTables,
)
from sim.jit import jit

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

# Columns of the hardware, of one kind of cores. Bandwidths in bytes per second; FEED_BW the scratchpad's for compute;
# DATAFLOW an index of systolic.DATAFLOWS; INVERSE_* 1 / efficiency of the DRAM; PORTS_BW of all memory ports in use;
# HOPS from the nearest port to a core on average, TREE_LINKS those of a multicast to all cores, REMOTE_SHARE of cores
# that do not sit on their port.
(
    CORES, CLOCK_HZ, ROWS, COLS, ARRAYS, DATAFLOW, OVERLAP, LANES, SRAM_BYTES, FEED_BW, ACCUMULATOR_BYTES,
    ACCUMULATOR_BW, CHANNELS, CHANNEL_BW, OUTSTANDING, DRAM_BW, BURST_BYTES, INVERSE_SEQUENTIAL, INVERSE_RANDOM,
    HEAD_S, SEND_S, PORTS_BW, HOP_BW, HOPS, TREE_LINKS, REMOTE_SHARE, HAS_ARRAY, ROW_BYTES,
) = range(28)  # fmt: skip
HARDWARE_COLUMNS = 28

# What `tiling_traffic` finds: bytes at every level as sim.cost.traffic.Traffic has them; the vector passes that adding
# the parts of split sums costs (additions, copies), in elements; rows that the DRAM opens; tasks.
(
    DRAM_READ, DRAM_WRITE, SRAM_READ, SRAM_WRITE, ACCUMULATOR_READ, ACCUMULATOR_WRITE, NOC, NOC_INJECTED, ADDS, COPIES,
    DMA, ACTIVATIONS, TASKS,
) = range(13)  # fmt: skip
TRAFFIC = 13

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
def box(t: Any, nest: int, operand: int, tile: Any) -> tuple[float, float]:
    """(elements, bytes in one contiguous run) of an operand's largest box."""
    row = t.operands[nest, operand]
    elements = 1.0
    for axis in range(row[AXES]):
        elements *= extent_of(t, nest, operand, axis, tile)
    if row[PACKED]:
        return elements, max(1.0, np.floor(elements * row[BITS] / 8))
    run = 1.0
    for place in range(row[RUN_AXES]):
        axis = t.run_order[nest, operand, place]
        extent = extent_of(t, nest, operand, axis, tile)
        run *= extent
        if extent != t.axes[nest, operand, axis, SIZE]:
            break
    return elements, max(1.0, np.floor(run * row[BITS] / 8))


@jit
def inverse_efficiency(hw: Any, run_bytes: float) -> float:
    """1 / sim.hw.dram.pattern_efficiency."""
    bursts = run_bytes / hw[BURST_BYTES]
    if bursts < 1.0:
        return float(hw[INVERSE_RANDOM] / bursts)
    return float(hw[INVERSE_SEQUENTIAL] + (hw[INVERSE_RANDOM] - hw[INVERSE_SEQUENTIAL]) / bursts)


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
    hold = max(np.ceil(best * under / over), np.ceil(reads / 8 * hw[CLOCK_HZ] / hw[FEED_BW]))
    return hold, hold + np.ceil(drain * under / over)


@jit
def vector_cycles(hw: Any, elements: float, cost: float, moved: float, drained: float) -> float:
    """Cycles of the vector unit; see sim.cost.work.vector_tile_cycles. `cost` is cycles per element and lane."""
    busy = np.ceil(np.ceil(elements / hw[LANES]) * cost)
    busy = max(busy, np.ceil(moved * hw[CLOCK_HZ] / hw[FEED_BW]))
    if hw[ACCUMULATOR_BW] > 0:
        busy = max(busy, np.ceil(drained * hw[CLOCK_HZ] / hw[ACCUMULATOR_BW]))
    return float(max(1.0, busy))


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
    found: Any,
) -> None:
    """Evaluate one tiling into `found` [COSTS].

    `over` / `under` is the array's rate at the operands' format, `body` and `drain` cycles per element and lane of the
    whole nest on the vector unit and of what is applied on the way out; `splits`, `steps`, `tile` [dims] parts over
    cores, tiles per core, indices of the largest tile; `resident` a bit mask of operands found in the scratchpad.

        latency = max(compute, DMA, DRAM, ports, issue of transfers, longest wait for a free slot)
                  + head latency + first tiles in + last tile out + reduction over cores
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
    elements, out_run = box(t, nest, operands, tile)
    out_bytes = np.ceil(elements * t.operands[nest, operands, BITS] / 8)

    core_bw = hw[CHANNEL_BW] * hw[CHANNELS]
    first_bw = min(core_bw, hw[DRAM_BW] / used)
    sram, transfers, core_bytes, dram_bytes, dram_s, first_s = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    read, waiting_s = 0.0, 0.0
    for operand in range(operands):
        inside, run = box(t, nest, operand, tile)
        size = np.ceil(inside * t.operands[nest, operand, BITS] / 8)
        read += size
        if (resident >> operand) & 1:
            continue
        loads = fill_count(t, nest, operand, steps, columns_first)
        apart = groups(t, nest, operand, splits)
        inverse = inverse_efficiency(hw, run)
        first_s += size / first_bw
        if loads > 1:
            waiting_s = max(waiting_s, loads * (hw[HEAD_S] + size / hw[CHANNEL_BW]))
        sram += (SLOTS if loads > 1 else 1.0) * np.ceil(size / ALIGNMENT) * ALIGNMENT
        transfers += loads * apart
        core_bytes += loads * size
        dram_bytes += loads * apart * size
        dram_s += loads * apart * size * inverse
    owners = used / summed
    sram += (SLOTS if out_tiles > 1 else 1.0) * np.ceil(out_bytes / ALIGNMENT) * ALIGNMENT
    transfers += out_tiles * owners
    core_bytes += out_tiles * out_bytes
    dram_bytes += out_tiles * owners * out_bytes
    dram_s = (dram_s + out_tiles * owners * out_bytes * inverse_efficiency(hw, out_run)) / hw[DRAM_BW]

    accumulator, drain_s = 0.0, 0.0
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
            total = busy + drains - drained
        compute_s = (total + dur - hold) / hw[CLOCK_HZ]
        drain_s = drained / hw[CLOCK_HZ]
        found[VECTOR_S], found[ARRAY_S] = out_tiles * drain_s * owners, busy * used / hw[CLOCK_HZ]
    if waiting_s > 0:
        waiting_s = (compute_s + waiting_s) / SLOTS

    reduce_s = 0.0
    if summed > 1 and t.nests[nest, CONTRACTION]:
        part = elements * t.nests[nest, SUM_BYTES]
        send_s = hw[SEND_S] + part / min(hw[HOP_BW], hw[CHANNEL_BW])
        reduce_s = np.ceil(np.log2(summed)) * (out_tiles * part / hw[HOP_BW] + send_s + drain_s)
        sram += (1.0 + SLOTS) * np.ceil(part / ALIGNMENT) * ALIGNMENT

    moved_s = max(core_bytes / core_bw, dram_s, dram_bytes / hw[PORTS_BW])
    issue_s = transfers / used * hw[HEAD_S] / (hw[OUTSTANDING] * hw[CHANNELS])
    last_s = drain_s + hw[HEAD_S] + out_bytes / hw[CHANNEL_BW]
    found[LATENCY_S] = max(compute_s, moved_s, issue_s, waiting_s) + hw[HEAD_S] + first_s + last_s + reduce_s
    found[DRAM_BYTES] = dram_bytes
    found[TRANSFERS] = transfers
    found[SRAM_NEED] = sram
    found[ACCUMULATOR_NEED] = accumulator
    found[DRAM_S] = dram_s
    found[FLOOR_S] = max(compute_s, moved_s) + 2.0 * hw[HEAD_S]


@jit
def size_below(size: int) -> int:
    """The largest of 1, 2, 3, 4, 6, 8, 12, ... that is less than `size` (at least 2)."""
    power = 1
    while power * 2 < size:
        power *= 2
    return power * 3 // 2 if power > 1 and power * 3 // 2 < size else power


@jit
def size_above(size: int) -> int:
    """The smallest of 1, 2, 3, 4, 6, 8, 12, ... that is more than `size`."""
    power = 1
    while power <= size:
        power *= 2
    return power // 4 * 3 if power >= 4 and power // 4 * 3 > size else power


@jit
def finer(extent: int, split: int, steps: int, quantum: int) -> int:
    """The next larger number of tiles per core worth trying; the same number where there is none.

    Tiles hold 1, 2, 3, 4, 6, 8, 12, ... granules, evened out over the core's share; below one granule, as many
    indices.
    """
    most = max(1, extent // split)
    if steps >= most:
        return steps
    blocks = parts_of(parts_of(extent, quantum), split)
    if steps < blocks:
        return int(min(most, -(-blocks // size_below(-(-blocks // steps)))))
    tile = min(largest_part(extent, split * steps, quantum), quantum)
    if tile < 2:
        return most
    return int(min(most, max(steps + 1, parts_of(parts_of(extent, split), size_below(tile)))))


@jit
def coarser(extent: int, split: int, steps: int, quantum: int) -> int:
    """The next smaller number of tiles per core worth trying; 1 stays 1."""
    blocks = parts_of(parts_of(extent, quantum), split)
    if steps > blocks:
        size = size_above(largest_part(extent, split * steps, quantum))
        found = parts_of(parts_of(extent, split), size)
        return int(blocks if size >= quantum or found >= steps else max(blocks, found))
    size = -(-blocks // steps)
    found = steps
    while found >= steps and found > 1:
        size = size_above(size)
        found = -(-blocks // size)
    return int(found)


@jit
def recut(
    t: Any, nest: int, role: int, splits: Any, steps: Any, quanta: Any, tile: Any, inwards: bool
) -> int:
    """Cut a role one step finer (`inwards`) or coarser; the loop that changed, or -1 where nothing can.

    An inner loop is cut only where the outer ones of its role are cut down to single indices, so that tiles stay
    contiguous in memory.
    """
    dims = t.nests[nest, DIMS]
    for place in range(dims):
        dim = place if inwards else dims - 1 - place
        if t.role[nest, dim] != role:
            continue
        extent = t.extent[nest, dim]
        if inwards:
            outer = t.nested[nest, dim]
            if outer >= 0 and steps[outer] * splits[outer] != t.extent[nest, outer]:
                continue
            new = finer(extent, splits[dim], steps[dim], quanta[dim])
        else:
            new = coarser(extent, splits[dim], steps[dim], quanta[dim])
        if new != steps[dim]:
            steps[dim] = new
            tile[dim] = largest_part(extent, splits[dim] * new, quanta[dim])
            return dim
    return -1


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


@jit
def penalised(found: Any, hw: Any, limit: float) -> float:
    """Latency of a tiling that fits; of one that does not, a huge number that falls with what it lacks."""
    over = max(0.0, found[SRAM_NEED] / limit - 1.0)
    if hw[ACCUMULATOR_BYTES] > 0:
        over += max(0.0, found[ACCUMULATOR_NEED] / hw[ACCUMULATOR_BYTES] - 1.0)
    return float(found[LATENCY_S] if over == 0.0 else 1e30 * (1.0 + over))


@jit
def descend(
    t: Any, nest: int, hw: Any, over: float, under: float, body: float, drain: float, splits: Any, steps: Any,
    tile: Any, quanta: Any, vector: bool, limit: float, start: int, found: Any,
) -> tuple[float, int]:  # fmt: skip
    """Cut finer and coarser, role by role, as long as that helps; (penalised latency, columns first?)."""
    order = 0
    tiling_cost(t, nest, hw, over, under, body, drain, splits, steps, tile, order, vector, 0, found)
    best = penalised(found, hw, limit)
    improved = True
    while improved:
        improved = False
        for turn in range(4):
            role = (1, 2, 3, 0)[turn] if start == 0 else (2, 1, 3, 0)[turn]
            if vector and role == 3:
                continue
            for inwards in (True, False):
                while True:
                    dim = -1
                    for place in range(t.nests[nest, DIMS]):
                        quanta[t.extent.shape[1] + place] = steps[place]
                    dim = recut(t, nest, role, splits, steps, quanta, tile, inwards)
                    if dim < 0:
                        break
                    tiling_cost(
                        t, nest, hw, over, under, body, drain, splits, steps, tile, order, vector, 0, found
                    )
                    score = penalised(found, hw, limit)
                    if score >= best:
                        steps[dim] = quanta[t.extent.shape[1] + dim]
                        tile[dim] = largest_part(t.extent[nest, dim], splits[dim] * steps[dim], quanta[dim])
                        break
                    best, improved = score, True
        tiling_cost(t, nest, hw, over, under, body, drain, splits, steps, tile, 1 - order, vector, 0, found)
        score = penalised(found, hw, limit)
        if score < best:
            best, order, improved = score, 1 - order, True
    return best, order


@jit
def search_nest(
    t: Any, nest: int, hw: Any, over: float, under: float, body: float, drain: float, partitions: Any,
    vector: bool, limit: float, found: Any, best_splits: Any, best_steps: Any, best: float,
) -> tuple[float, int]:  # fmt: skip
    """The best tiling of one nest over the cuts `partitions` [count, dims]; better than `best` or nothing changes."""
    dims = t.nests[nest, DIMS]
    width = t.extent.shape[1]
    steps, tile = np.ones(width, np.int64), np.ones(width, np.int64)
    quanta = np.ones(2 * width, np.int64)
    floors = np.empty(len(partitions))
    best_order = -1
    set_quanta(t, nest, hw, vector, quanta)
    for row in range(len(partitions)):
        splits = partitions[row]
        for dim in range(dims):
            steps[dim] = 1
            tile[dim] = largest_part(t.extent[nest, dim], splits[dim], quanta[dim])
        tiling_cost(t, nest, hw, over, under, body, drain, splits, steps, tile, 0, vector, 0, found)
        floors[row] = found[FLOOR_S]
        if vector:
            for dim in range(dims):
                if t.role[nest, dim] == 3 and splits[dim] > 1:
                    floors[row] = np.inf
    for row in np.argsort(floors):
        if floors[row] >= best:
            break
        splits = partitions[row]
        for start in range(3):
            if start == 2 and best < 1e29:
                break
            for dim in range(dims):
                steps[dim] = 1
                # The last resort starts from the smallest tiles there are.
                if start == 2 and not (vector and t.role[nest, dim] == 3):
                    steps[dim] = max(1, t.extent[nest, dim] // splits[dim])
                tile[dim] = largest_part(t.extent[nest, dim], splits[dim] * steps[dim], quanta[dim])
            score, order = descend(
                t,
                nest,
                hw,
                over,
                under,
                body,
                drain,
                splits,
                steps,
                tile,
                quanta,
                vector,
                limit,
                start,
                found,
            )
            if score < best:
                best, best_order = score, order
                for dim in range(dims):
                    best_splits[dim], best_steps[dim] = splits[dim], steps[dim]
    return best, best_order


@jit
def mean_box(t: Any, nest: int, operand: int, splits: Any, steps: Any) -> float:
    """Bytes of an operand's box, averaged over all tiles of the nest.

    Exact where every axis follows one loop and no tile lies in the padding as a whole.
    """
    elements = 1.0
    row = t.operands[nest, operand]
    for axis in range(row[AXES]):
        a = t.axes[nest, operand, axis]
        if a[TERMS] == 0:
            elements *= a[SIZE]
            continue
        reach, parts, last = float(a[HIGH] - a[LOW]), 1.0, float(a[HIGH])
        for term in range(a[TERMS]):
            dim, factor = t.terms[nest, operand, axis, term, 0], t.terms[nest, operand, axis, term, 1]
            cuts = splits[dim] * steps[dim]
            parts *= cuts
            last += (t.extent[nest, dim] - 1) * factor
            reach += (t.extent[nest, dim] / cuts - 1.0) * factor
        # What the first tile has in the padding before the tensor, and the last tile after it.
        clipped = max(0.0, -float(a[LOW])) + max(0.0, last - a[DENOMINATOR] * (a[SIZE] - 1))
        elements *= min(float(a[SIZE]), (reach - clipped / parts) / a[DENOMINATOR] + 1.0)
    return float(elements * row[BITS] / 8)


@jit
def folds(t: Any, nest: int, role: int, side: float, splits: Any, steps: Any) -> float:
    """Array sides of `side` that all tiles along a role take together; tiles are cut at whole sides where they can
    be."""
    loops, last, cuts, whole = 0, 0, 1, 1.0
    for dim in range(t.nests[nest, DIMS]):
        if t.role[nest, dim] == role:
            loops, last = loops + 1, dim
            cuts *= splits[dim] * steps[dim]
            whole *= t.extent[nest, dim]
    if role == 3:
        whole *= t.nests[nest, TAPS]
    if loops == 1 and whole == t.extent[nest, last] and cuts * side <= whole + side - 1:
        return float(np.ceil(whole / side))
    return float(cuts * np.ceil(whole / cuts / side))


@jit
def opened_rows(hw: Any, transfers: float, size: float, run: float) -> float:
    """Rows of the DRAM that transfers of `size` bytes in runs of `run` open; see sim.hw.dram.row_activations."""
    return float(transfers * max(1.0, size / run) * (1.0 + max(0.0, run - hw[BURST_BYTES]) / hw[ROW_BYTES]))


@jit
def tiling_traffic(
    t: Any,
    nest: int,
    hw: Any,
    splits: Any,
    steps: Any,
    tile: Any,
    columns_first: int,
    vector: bool,
    found: Any,
) -> None:
    """Bytes that one tiling moves, into `found` [TRAFFIC]; operands come from the DRAM, results go there.

    DMA: sim.cost.traffic.operator_traffic; compute: sim.cost.actions. A multicast to c of n cores crosses a share
    (c - 1) / (n - 1) of the links that the tree to all n adds to a single route.
    """
    dims, operands = t.nests[nest, DIMS], t.nests[nest, OPERANDS]
    size, cuts = np.ones(4), np.ones(4)  # by role: indices, tiles
    used, summed = 1.0, 1.0
    for dim in range(dims):
        role = t.role[nest, dim]
        size[role] *= t.extent[nest, dim]
        cuts[role] *= splits[dim] * steps[dim]
        used *= splits[dim]
        if role == 3:
            summed *= splits[dim]
    tiles = cuts[0] * cuts[1] * cuts[2] * cuts[3]
    found[:] = 0.0
    out_bytes = mean_box(t, nest, operands, splits, steps) * tiles / cuts[3]
    results = out_bytes * 8 / t.operands[nest, operands, BITS]
    link = (hw[TREE_LINKS] - hw[HOPS]) / max(1.0, hw[CORES] - 1.0)
    for operand in range(operands):
        mean = mean_box(t, nest, operand, splits, steps)
        apart = groups(t, nest, operand, splits)
        receivers = used / apart
        transfers = apart * fill_count(t, nest, operand, steps, columns_first)
        moved = mean * transfers
        _, run = box(t, nest, operand, tile)
        found[ACTIVATIONS] += opened_rows(hw, transfers, mean, run)
        found[TASKS] += transfers
        found[DMA] += moved * receivers
        found[DRAM_READ] += moved
        found[SRAM_WRITE] += moved * receivers
        found[NOC] += moved * (hw[HOPS] + link * (receivers - 1.0))
        found[NOC_INJECTED] += moved * (hw[REMOTE_SHARE] if receivers == 1.0 else min(1.0, hw[TREE_LINKS]))
        if vector:
            found[SRAM_READ] += tiles * mean
        elif t.operands[nest, operand, PER_ELEMENT]:
            found[SRAM_READ] += results * t.operands[nest, operand, BITS] / 8
    _, run = box(t, nest, operands, tile)
    stores = tiles / cuts[3]
    found[ACTIVATIONS] += opened_rows(hw, stores, out_bytes / stores, run)
    found[TASKS] += stores + tiles + (0.0 if vector else stores)
    found[DMA] += out_bytes
    found[DRAM_WRITE] = out_bytes
    found[SRAM_READ] += out_bytes
    found[SRAM_WRITE] += out_bytes
    found[NOC] += out_bytes * hw[HOPS]
    found[NOC_INJECTED] += out_bytes * hw[REMOTE_SHARE]
    if vector:
        return
    products = size[0] * size[1] * size[2] * size[3] * t.nests[nest, TAPS]
    dataflow, rows, cols = hw[DATAFLOW], hw[ROWS], hw[COLS]
    left = products / size[2] * (cuts[2] if dataflow == 2.0 else folds(t, nest, 2, cols, splits, steps))
    right = products / size[1]
    if dataflow == 0.0:
        right *= cuts[1]
    else:
        right *= folds(t, nest, 1, cols if dataflow == 2.0 else rows, splits, steps)
    found[SRAM_READ] += (left * t.operands[nest, 0, BITS] + right * t.operands[nest, 1, BITS]) / 8
    chains = cuts[3] if dataflow == 1.0 else folds(t, nest, 3, rows, splits, steps)
    one = t.nests[nest, SUM_BYTES]
    found[ACCUMULATOR_READ] = results * (chains - cuts[3] + summed) * one
    found[ACCUMULATOR_WRITE] = results * chains * one
    if summed > 1:
        found[ADDS] = results * (summed - 1.0)
        found[COPIES] = results * np.floor((summed + 1.0) / 2.0)
        sent = results * (summed - 1.0) * one
        found[SRAM_READ] += sent + (found[ADDS] + found[COPIES]) * one
        found[SRAM_WRITE] += sent + (found[ADDS] + found[COPIES]) * one
        found[DMA] += 2.0 * sent
        found[TASKS] += stores * (summed - 1.0) * 2.0
        found[NOC] += sent * max(1.0, hw[HOPS])
        found[NOC_INJECTED] += sent


@jit
def best_tilings(
    t: NestTables, hardware: Float64, rates: Float64, rate_of: Int64, costs: Float64, costs_of: Int64,
    partitions: Int64, partitions_of: Int64, preferred: float, cost: Float64, traffic: Float64, choice: Int64,
) -> None:  # fmt: skip
    """The best tiling of every nest on every design: `cost` [designs, nests, COSTS], `traffic` [designs, nests,
    TRAFFIC], `choice` [designs, nests, 3 + 2 * dims] (kind of cores or -1 where nothing fits, on the vector unit?,
    columns outside?, splits, steps).

    `hardware` [designs, kinds, HARDWARE_COLUMNS]; `rates` [designs, kinds, formats, 2] numerator (0: the array
    lacks the format) and denominator, `rate_of` [nests] the row of a nest's format, -1 where no array is any use;
    `costs` [tables, nests, 2] cycles per element and lane of the whole body and of the drain, `costs_of` [designs,
    kinds]; `partitions` [rows, dims], of which `partitions_of` [designs, kinds, nests, 2] are (first, one past the
    last). Buffers keep to the share `preferred` of the scratchpad where they can.
    """
    width = t.extent.shape[1]
    found, moved = np.zeros(COSTS), np.zeros(TRAFFIC)
    splits, steps = np.ones(width, np.int64), np.ones(width, np.int64)
    tile = np.ones(width, np.int64)
    quanta = np.ones(2 * width, np.int64)
    for design in range(hardware.shape[0]):
        for nest in range(len(t.nests)):
            best = 1e29
            splits[:], steps[:] = 1, 1
            choice[design, nest, 0] = -1
            cost[design, nest, :] = np.nan
            for kind in range(hardware.shape[1]):
                hw = hardware[design, kind]
                first, stop = partitions_of[design, kind, nest]
                body, drain = costs[costs_of[design, kind], nest]
                over, under = 0.0, 1.0
                if rate_of[nest] >= 0 and hw[HAS_ARRAY] > 0:
                    over, under = rates[design, kind, rate_of[nest]]
                for share in (preferred, 1.0):
                    limit = np.floor(
                        np.floor(hw[SRAM_BYTES] * share) / max(1.0, np.floor(hw[SRAM_BYTES] / 32))
                    ) * max(1.0, np.floor(hw[SRAM_BYTES] / 32))
                    for vector in (False, True):
                        if not vector and over == 0.0:
                            continue
                        score, order = search_nest(
                            t, nest, hw, over, under, body, drain, partitions[first:stop], vector, limit, found,
                            splits, steps, best,
                        )  # fmt: skip
                        if order >= 0:
                            best = score
                            choice[design, nest, 0], choice[design, nest, 1] = kind, vector
                            choice[design, nest, 2] = order
                            choice[design, nest, 3 : 3 + width] = splits
                            choice[design, nest, 3 + width :] = steps
                    if choice[design, nest, 0] == kind:
                        break
            kind = choice[design, nest, 0]
            if kind < 0:
                continue
            hw, vector = hardware[design, kind], choice[design, nest, 1] == 1
            body, drain = costs[costs_of[design, kind], nest]
            over, under = 1.0, 1.0
            if not vector:
                over, under = rates[design, kind, rate_of[nest]]
            splits[:], steps[:] = choice[design, nest, 3 : 3 + width], choice[design, nest, 3 + width :]
            set_quanta(t, nest, hw, vector, quanta)
            for dim in range(t.nests[nest, DIMS]):
                tile[dim] = largest_part(t.extent[nest, dim], splits[dim] * steps[dim], quanta[dim])
            order = choice[design, nest, 2]
            tiling_cost(t, nest, hw, over, under, body, drain, splits, steps, tile, order, vector, 0, found)
            cost[design, nest, :] = found
            tiling_traffic(t, nest, hw, splits, steps, tile, order, vector, moved)
            traffic[design, nest, :] = moved
