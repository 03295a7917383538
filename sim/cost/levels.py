"""Levels: the ways to cut the loops of one role, with what each does to every operand.

A tiling is one level per role (repeats, rows, columns, sum). What an operand's tile holds, how much of it is
contiguous and how often it is loaded are products over the roles, so the cost of a tiling follows from four rows of
one table, which all designs share. `level_cost` is `kernel.tiling_cost` by other means, several times as fast.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.cost.kernel import (
    ACCUMULATOR_BYTES,
    CHANNEL_BW,
    CHANNELS,
    CLOCK_HZ,
    DRAM_BW,
    HEAD_S,
    HOP_BW,
    OUTSTANDING,
    PORTS_BW,
    SEND_S,
    array_cycles,
    chains_s,
    extent_of,
    largest_part,
    parts_of,
    pattern_cost,
    vector_cycles,
)
from sim.cost.nest_tables import (
    AXES,
    BITS,
    CONTRACTION,
    DIMS,
    OPERANDS,
    PACKED,
    RUN_AXES,
    SIZE,
    SUM_BYTES,
    TAPS,
    TERMS,
    TOUCHES,
)
from sim.jit import jit

# Columns of a level: tiles per core, indices of a tile; then of every operand its elements and contiguous elements
# within the role, is all of the role contiguous?, fills (0: the role does not move it).
TILES, INDICES, FIRST = range(3)
ELEMENTS, RUN, WHOLE, FILLS, PITCH, FIRST_PITCH = range(6)
PER_OPERAND = 6

MISFIT_S = 1e30
"""Cost of what does not fit, times one plus the shares of the memories that it lacks."""


@jit
def size_below(size: int) -> int:
    """The largest of 1, 2, 3, 4, 6, 8, 12, ... that is less than `size` (at least 2)."""
    power = 1
    while power * 2 < size:
        power *= 2
    return power * 3 // 2 if power > 1 and power * 3 // 2 < size else power


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
def fill_level(t: Any, nest: int, role: int, steps: Any, tile: Any, level: Any) -> None:
    """One row of the table: a role cut into `steps` tiles of size `tile`."""
    tiles, indices = 1.0, 1.0
    for dim in range(t.nests[nest, DIMS]):
        if t.role[nest, dim] == role:
            tiles *= steps[dim]
            indices *= tile[dim]
    level[TILES] = tiles
    level[INDICES] = indices * t.nests[nest, TAPS] if role == 3 else indices
    for operand in range(t.nests[nest, OPERANDS] + 1):
        column = FIRST + PER_OPERAND * operand
        _fill_box(t, nest, operand, role, tile, level, column)
        touches, fills, active = t.operands[nest, operand, TOUCHES], 1.0, False
        for back in range(t.nests[nest, DIMS]):
            dim = t.nests[nest, DIMS] - 1 - back
            if t.role[nest, dim] == role and steps[dim] > 1:
                active = active or (touches >> dim) & 1 == 1
                if active:
                    fills *= steps[dim]
        level[column + FILLS] = fills if active else 0.0


@jit
def _fill_box(t: Any, nest: int, operand: int, role: int, tile: Any, level: Any, column: int) -> None:
    """What an operand's box has of a role: elements, those in one run, whether it has all; bytes between the runs that
    the role itself leaves, and between any two indices of it (0: one index)."""
    row = t.operands[nest, operand]
    elements, run, whole, stride, pitch, first_pitch = 1.0, 1.0, True, 1, 0, 0
    for place in range(row[AXES]):
        axis = t.run_order[nest, operand, place]
        size = t.axes[nest, operand, axis, SIZE]
        mine, extent, full = role_extent(t, nest, operand, axis, role, tile)
        if mine:
            elements *= extent
            if extent > 1 and first_pitch == 0:
                first_pitch = stride * row[BITS] // 8
            if whole and place < row[RUN_AXES]:
                run *= extent
            elif not whole and pitch == 0 and extent > 1:
                pitch = stride * row[BITS] // 8
            whole = whole and full
        stride *= size
    level[column + ELEMENTS], level[column + RUN], level[column + WHOLE] = (
        elements,
        run,
        1.0 if whole else 0.0,
    )
    level[column + PITCH], level[column + FIRST_PITCH] = pitch, first_pitch


@jit
def role_extent(t: Any, nest: int, operand: int, axis: int, role: int, tile: Any) -> tuple[bool, float, bool]:
    """(has the role to do with a tensor axis?, elements that it contributes, all there are?)"""
    size = t.axes[nest, operand, axis, SIZE]
    if t.axes[nest, operand, axis, TERMS] == 0:
        return t.home[nest, operand, axis] == role, float(size), True
    indices, found, others, full = 1.0, False, False, True
    for term in range(t.axes[nest, operand, axis, TERMS]):
        dim = t.terms[nest, operand, axis, term, 0]
        if t.role[nest, dim] == role:
            found = True
            indices *= tile[dim]
            full = full and tile[dim] == t.extent[nest, dim]
        else:
            others = True
    if found and not others:
        extent = extent_of(t, nest, operand, axis, tile)
        return True, extent, extent == size
    # Loops of two roles share an axis only as outer and inner index of it.
    return found, indices, full


@jit
def fill_levels(
    t: Any,
    nest: int,
    role: int,
    splits: Any,
    quantum: int,
    vector: bool,
    levels: Any,
    steps_of: Any,
    row: int,
) -> int:
    """All levels of a role, from whole to single indices, into rows `row`, ...; the next free row.

    An inner loop is cut only where the outer ones are cut down to single indices, so that tiles stay contiguous in
    memory; the vector unit does not cut sums.
    """
    width = t.extent.shape[1]
    steps, tile = np.ones(width, np.int64), np.ones(width, np.int64)
    for dim in range(t.nests[nest, DIMS]):
        tile[dim] = largest_part(t.extent[nest, dim], splits[dim], quantum)
    while True:
        fill_level(t, nest, role, steps, tile, levels[row])
        steps_of[row] = steps
        row += 1
        changed = False
        for dim in range(t.nests[nest, DIMS]):
            if t.role[nest, dim] == role and not changed and not (vector and role == 3):
                new = finer(t.extent[nest, dim], splits[dim], steps[dim], quantum)
                if new != steps[dim]:
                    steps[dim] = new
                    tile[dim] = largest_part(t.extent[nest, dim], splits[dim] * new, quantum)
                    changed = True
        if not changed:
            return row


@jit
def level_run(
    t: Any, nest: int, operand: int, levels: Any, g: int, m: int, n: int, k: int
) -> tuple[float, int]:
    """Bytes of an operand's contiguous runs and their pitch (0: there is one run); see `kernel.box`."""
    c = FIRST + PER_OPERAND * operand
    bits, pitch = t.operands[nest, operand, BITS], 0
    if t.operands[nest, operand, PACKED]:
        run = levels[g, c] * levels[m, c] * levels[n, c] * levels[k, c]
        return max(1.0, np.floor(run * bits * 0.125)), pitch
    run, whole = 1.0, True
    for place in range(4):
        role = t.chain[nest, operand, place]
        if role < 0 or pitch > 0:
            break
        row = g if role == 0 else m if role == 1 else n if role == 2 else k
        if whole:
            run *= levels[row, c + RUN]
            if levels[row, c + WHOLE] == 0:
                whole, pitch = False, int(levels[row, c + PITCH])
        else:
            pitch = int(levels[row, c + FIRST_PITCH])
    return max(1.0, np.floor(run * bits * 0.125)), pitch


@jit
def level_cost(
    t: Any, nest: int, hw: Any, over: float, under: float, body: float, drain: float, levels: Any, g: int, m: int,
    n: int, k: int, columns_first: int, vector: bool, used: float, summed: float, apart: Any, limit: float, cutoff:
    float, found: Any,
) -> float:  # fmt: skip
    """Latency of a tiling given as one level per role, or a number beyond MISFIT_S that grows with what it lacks;
    infinity as soon as it cannot be less than `cutoff`. `found[0]` is what no tiling with these cuts over cores can
    beat.

    `used`, `summed`, `apart` [operands]: cores, cores that share a sum, groups of cores that need different boxes (0:
    every core has its own in the scratchpad).
    """
    operands = t.nests[nest, OPERANDS]
    inner, outer = (m, n) if columns_first else (n, m)
    out_tiles = levels[g, TILES] * levels[m, TILES] * levels[n, TILES]
    channel_bw, head_s = hw[CHANNEL_BW], hw[HEAD_S]
    sram, transfers, core, dram, read, fresh = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    most_loads, channel_bytes, largest, shared, elements, size = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for operand in range(operands + 1):
        c = FIRST + PER_OPERAND * operand
        elements = levels[g, c] * levels[m, c] * levels[n, c] * levels[k, c]
        size = np.ceil(elements * t.operands[nest, operand, BITS] * 0.125)
        if operand == operands:
            loads, groups = out_tiles, used / summed
        else:
            read += size
            loads, groups = 1.0, apart[operand]
            if groups == 0.0:
                found[1 + operand], found[2 + operands + operand] = 0.0, 0.0
                continue
            fresh += size
            for place in range(4):
                row = k if place == 0 else inner if place == 1 else outer if place == 2 else g
                if loads > 1.0:
                    loads *= levels[row, TILES]
                elif levels[row, c + FILLS] > 0:
                    loads = levels[row, c + FILLS]
            largest = max(largest, size)
            shared += groups * size
            if loads > 1.0:
                most_loads, channel_bytes = max(most_loads, loads), max(channel_bytes, loads * size)
        sram += (2.0 if loads > 1.0 else 1.0) * np.ceil(size * 0.015625) * 64.0
        transfers += loads * groups
        core += loads * size
        dram += loads * groups * size
        found[1 + operand], found[2 + operands + operand] = loads * groups * size, groups * size
    accumulator, part = 0.0, 0.0
    if not vector:
        accumulator = elements * t.nests[nest, SUM_BYTES]
    if summed > 1.0 and t.nests[nest, CONTRACTION]:
        part = elements * t.nests[nest, SUM_BYTES]
        sram += 3.0 * np.ceil(part * 0.015625) * 64.0
    lacking = max(0.0, sram / limit - 1.0)
    if hw[ACCUMULATOR_BYTES] > 0:
        lacking += max(0.0, accumulator / hw[ACCUMULATOR_BYTES] - 1.0)
    whole = cutoff == np.inf
    if lacking > 0.0 and not whole:
        return float(MISFIT_S * (1.0 + lacking))
    core_bw = channel_bw * hw[CHANNELS]
    # No pattern is faster than the peak.
    moved_s = max(core / core_bw, dram / hw[DRAM_BW], dram / hw[PORTS_BW])
    issue_s = transfers / used * head_s / (hw[OUTSTANDING] * hw[CHANNELS])
    peak = min(hw[DRAM_BW], hw[PORTS_BW])
    first_s = max(largest / channel_bw, fresh / core_bw, shared / peak)
    out_s = max(size / channel_bw, found[2 + 2 * operands] / peak)
    iterations = out_tiles * levels[k, TILES]
    least_s = chains_s(
        hw,
        0.0,
        iterations,
        0.0,
        0.0,
        moved_s,
        issue_s,
        first_s,
        out_s,
        most_loads,
        channel_bytes,
        out_tiles,
        size,
    )
    if least_s >= cutoff:
        return np.inf
    tail_s, drain_s, reduce_s = 0.0, 0.0, 0.0
    if vector:
        cycles = vector_cycles(hw, elements, body, read + size, 0.0)
        compute_s = iterations * cycles / hw[CLOCK_HZ]
    else:
        hold, dur = array_cycles(
            hw, levels[g, INDICES], levels[m, INDICES], levels[n, INDICES], levels[k, INDICES], over, under,
            t.operands[nest, 0, BITS], t.operands[nest, 1, BITS],
        )  # fmt: skip
        drained = vector_cycles(hw, elements, drain, size, accumulator)
        busy, drains = iterations * hold, out_tiles * drained
        if accumulator * 2.0 <= hw[ACCUMULATOR_BYTES] and out_tiles > 1:
            total = max(busy, drains)
        else:
            total = busy + drains - drained + (out_tiles - 1.0) * (dur - hold)
        compute_s, tail_s, drain_s = (
            total / hw[CLOCK_HZ],
            (dur - hold) / hw[CLOCK_HZ],
            drained / hw[CLOCK_HZ],
        )
        if part > 0.0:
            send_s = hw[SEND_S] + part / min(hw[HOP_BW], channel_bw)
            reduce_s = np.ceil(np.log2(summed)) * (out_tiles * part / hw[HOP_BW] + send_s + drain_s)
    least_s = reduce_s + chains_s(
        hw, compute_s, iterations, tail_s, drain_s, moved_s, issue_s, first_s, out_s, most_loads, channel_bytes,
        out_tiles, size,
    )  # fmt: skip
    if least_s >= cutoff:
        return np.inf
    dram_work, shared_s = 0.0, 0.0
    for operand in range(operands + 1):
        if found[1 + operand] == 0.0:
            continue
        run_bytes, pitch = level_run(t, nest, operand, levels, g, m, n, k)
        inverse = pattern_cost(t, nest, operand, hw, run_bytes, pitch, operand == operands)
        dram_work += found[1 + operand] * inverse
        one_s = found[2 + operands + operand] * max(inverse / hw[DRAM_BW], 1.0 / hw[PORTS_BW])
        if operand == operands:
            out_s = max(out_s, one_s)
        else:
            shared_s += one_s
    moved_s, first_s = max(moved_s, dram_work / hw[DRAM_BW]), max(first_s, shared_s)
    found[0] = max(compute_s, moved_s) + head_s + hw[SEND_S]
    if lacking > 0.0:
        return float(MISFIT_S * (1.0 + lacking))
    return reduce_s + chains_s(
        hw, compute_s, iterations, tail_s, drain_s, moved_s, issue_s, first_s, out_s, most_loads, channel_bytes,
        out_tiles, size,
    )  # fmt: skip
