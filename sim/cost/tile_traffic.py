"""Bytes, rows and tasks of one tiling of one nest, compiled: what sim.cost.traffic and sim.cost.actions count in a
program."""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.cost.kernel import (
    BURST_BYTES,
    COLS,
    CORES,
    DATAFLOW,
    EPILOGUE,
    HOPS,
    REMOTE_SHARE,
    ROW_BYTES,
    ROWS,
    TREE_LINKS,
    scale_bits,
)
from sim.cost.nest_tables import (
    AXES,
    BITS,
    DENOMINATOR,
    DEPTH,
    DIMS,
    HIGH,
    LOW,
    OPERANDS,
    PACKED,
    PART,
    PER_ELEMENT,
    RUN_AXES,
    SIZE,
    SUM_BYTES,
    TAPS,
    TERMS,
    WIDTH,
)
from sim.cost.online_kernel import RUNNING_BYTES
from sim.cost.tiles import box, extent_of, fill_count, groups, kept_tiles, parts_of
from sim.graph.attention import MASKS, VALUES
from sim.graph.attention import ROW_BYTES as RECORD_BYTES
from sim.jit import jit, jit_bare

# What `tiling_traffic` finds: bytes at every level as sim.cost.traffic.Traffic has them; the vector passes that adding
# the parts of split sums costs (additions, copies), in elements; rows that the DRAM opens; tasks; elements of the right
# operand that arrays take, each as often as a tile needs it; of an attention sums of values that are added to running
# results, and rows of blocks of keys.
(
    DRAM_READ, DRAM_WRITE, SRAM_READ, SRAM_WRITE, ACCUMULATOR_READ, ACCUMULATOR_WRITE, NOC, NOC_INJECTED, ADDS, COPIES,
    DMA, ACTIVATIONS, TASKS, UNPACKED, MERGED, ROW_BLOCKS,
) = range(16)  # fmt: skip
TRAFFIC = 16


@jit_bare
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


@jit_bare
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


@jit_bare
def span_bytes(t: Any, nest: int, operand: int, tile: Any) -> float:
    """Bytes from the first to the last element of an operand's largest box; see sim.graph.nest.Operand.span_bytes."""
    row = t.operands[nest, operand]
    span, stride = 1.0, 1.0
    for place in range(row[AXES]):
        axis = t.run_order[nest, operand, place]
        size = float(t.axes[nest, operand, axis, SIZE])
        # Rows of a gathered operand may lie anywhere in it.
        extent = size if row[RUN_AXES] < row[AXES] else extent_of(t, nest, operand, axis, tile)
        span += (extent - 1.0) * stride
        stride *= size
    return float(np.ceil(span * row[BITS] / 8))


@jit_bare
def opened_rows(t: Any, nest: int, operand: int, hw: Any, transfers: float, size: float, tile: Any) -> float:
    """Rows of the DRAM that transfers of `size` bytes of an operand open; see sim.hw.dram.row_activations."""
    _, run, _ = box(t, nest, operand, tile)
    rows = max(1.0, size / run) * (1.0 + max(0.0, run - hw[BURST_BYTES]) / hw[ROW_BYTES])
    if not t.operands[nest, operand, PACKED]:
        span = span_bytes(t, nest, operand, tile)
        rows = min(rows, 1.0 + max(0.0, span - hw[BURST_BYTES]) / hw[ROW_BYTES])
    return float(transfers * rows)


@jit_bare
def _array_traffic(
    t: Any,
    nest: int,
    hw: Any,
    splits: Any,
    steps: Any,
    size: Any,
    cuts: Any,
    results: float,
    summed: float,
    found: Any,
) -> None:
    """Add what the arrays read of operands and move in accumulators; `size` and `cuts`: indices and tiles by role."""
    products = size[0] * size[1] * size[2] * size[3] * t.nests[nest, TAPS]
    dataflow, rows, cols = hw[DATAFLOW], hw[ROWS], hw[COLS]
    left = products / size[2] * (cuts[2] if dataflow == 2.0 else folds(t, nest, 2, cols, splits, steps))
    right = products / size[1]
    found[UNPACKED] = right * cuts[1]
    found[SRAM_READ] += found[UNPACKED] * scale_bits(t, nest) / 8
    if dataflow == 0.0:
        right *= cuts[1]
    else:
        right *= folds(t, nest, 1, cols if dataflow == 2.0 else rows, splits, steps)
    found[SRAM_READ] += (left * t.operands[nest, 0, BITS] + right * t.operands[nest, 1, BITS]) / 8
    chains = cuts[3] if dataflow == 1.0 else folds(t, nest, 3, rows, splits, steps)
    one = t.nests[nest, SUM_BYTES]
    found[ACCUMULATOR_READ] = results * (chains - cuts[3] + summed) * one
    found[ACCUMULATOR_WRITE] = results * chains * one


@jit_bare
def _key_folds(extent: int, cuts: int, quantum: int, side: float) -> float:
    """Array sides of `side` that all tiles along the keys take together, cut at multiples of `quantum` where there are
    enough of them; see sim.mapping.grid.bounds."""
    blocks, found, before = parts_of(extent, quantum), 0.0, 0
    for cut in range(1, cuts + 1):
        end = min(extent, quantum * (cut * blocks // cuts)) if blocks >= cuts else cut * extent // cuts
        found += np.ceil((end - before) / side)
        before = end
    return found


@jit_bare
def _attention_traffic(
    t: Any, nest: int, hw: Any, splits: Any, steps: Any, size: Any, cuts: Any, results: float, found: Any
) -> None:
    """Add what the arrays read of operands and shares, and the lanes of masks, shares and running results, and move in
    accumulators; see sim.cost.online.online_actions. `size` and `cuts` as in `_array_traffic`."""
    dataflow, rows, cols = hw[DATAFLOW], hw[ROWS], hw[COLS]
    depth, width, one = t.nests[nest, DEPTH], t.nests[nest, WIDTH], t.nests[nest, SUM_BYTES]
    scored, blocks = size[0] * size[1] * size[3], int(cuts[3])
    # Keys are the sum of the nest, so its cuts are at rows of the array where it has a sum along them.
    keys, quantum = t.extent[nest, t.nests[nest, DIMS] - 1], 1 if dataflow == 1.0 else int(rows)
    by_columns, by_rows = _key_folds(keys, blocks, quantum, cols), _key_folds(keys, blocks, quantum, rows)
    # Of both products how often the array takes every operand.
    turns = cuts[1] if dataflow == 0.0 else folds(t, nest, 1, cols if dataflow == 2.0 else rows, splits, steps)
    queries = scored * depth / size[3] * (cuts[3] if dataflow == 2.0 else by_columns)
    shares = scored * (1.0 if dataflow == 2.0 else np.ceil(width / cols))
    of_keys, of_values = scored / size[1] * depth * turns, scored / size[1] * width * turns
    share_bits, outs = t.operands[nest, VALUES, BITS], t.nests[nest, OPERANDS]
    found[SRAM_READ] += (queries * t.operands[nest, 0, BITS] + of_keys * t.operands[nest, 1, BITS]) / 8
    found[SRAM_READ] += (shares + of_values) * share_bits / 8
    # Sums that one block of keys makes are taken as they are, those of several are added to running results.
    found[MERGED] = results * cuts[3] if cuts[3] > 1.0 else 0.0
    found[ROW_BLOCKS] = scored / size[3] * cuts[3]
    found[SRAM_WRITE] += scored * share_bits / 8 + RECORD_BYTES * found[ROW_BLOCKS] + found[MERGED] * RUNNING_BYTES
    found[SRAM_READ] += (found[MERGED] + (results if cuts[3] > 1.0 else 0.0)) * RUNNING_BYTES
    chains = scored * (1.0 if dataflow == 1.0 else np.ceil(depth / rows))
    chains += results * (cuts[3] if dataflow == 1.0 else by_rows)
    # Every sum is written as often as it is read: between the chains, and when the lanes take it.
    found[ACCUMULATOR_READ], found[ACCUMULATOR_WRITE] = chains * one, chains * one
    for operand in range(MASKS, outs):
        row = t.operands[nest, operand]
        if row[PART] != EPILOGUE and row[PER_ELEMENT]:
            found[SRAM_READ] += scored * row[BITS] / 8


@jit_bare
def _sum_traffic(hw: Any, summed: float, results: float, stores: float, one: int, found: Any) -> None:
    """What adding up `summed` parts of the results moves, sums of `one` bytes each."""
    found[ADDS] = results * (summed - 1.0)
    found[COPIES] = results * np.floor((summed + 1.0) / 2.0)
    sent = results * (summed - 1.0) * one
    found[SRAM_READ] += sent + (found[ADDS] + found[COPIES]) * one
    found[SRAM_WRITE] += sent + (found[ADDS] + found[COPIES]) * one
    found[DMA] += 2.0 * sent
    found[TASKS] += stores * ((summed - 1.0) * 2.0 + np.floor((summed + 1.0) / 2.0))
    found[NOC] += sent * max(1.0, hw[HOPS])
    found[NOC_INJECTED] += sent


@jit
def tiling_traffic(
    t: Any, nest: int, hw: Any, splits: Any, steps: Any, tile: Any, columns_first: int, staying: int, vector: bool,
    found: Any,
) -> None:  # fmt: skip
    """Bytes that one tiling moves, into `found` [TRAFFIC]; operands come from the DRAM, those of the bit mask `staying`
    once; results go there.

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
        # Those that finish sums apply what is applied on the way out.
        receivers = used / apart / (summed if t.operands[nest, operand, PART] == EPILOGUE else 1.0)
        fills = fill_count(t, nest, operand, steps, columns_first)
        if (staying >> operand) & 1:
            fills, _ = kept_tiles(t, nest, operand, steps, columns_first)
        transfers = apart * fills
        moved = mean * transfers
        found[ACTIVATIONS] += opened_rows(t, nest, operand, hw, transfers, mean, tile)
        found[TASKS] += transfers
        found[DMA] += moved * receivers
        found[DRAM_READ] += moved
        found[SRAM_WRITE] += moved * receivers
        found[NOC] += moved * (hw[HOPS] + link * (receivers - 1.0))
        found[NOC_INJECTED] += moved * (hw[REMOTE_SHARE] if receivers == 1.0 else min(1.0, hw[TREE_LINKS]))
        if vector:
            found[SRAM_READ] += tiles * mean
        elif t.operands[nest, operand, PART] == EPILOGUE and t.operands[nest, operand, PER_ELEMENT]:
            found[SRAM_READ] += results * t.operands[nest, operand, BITS] / 8
    stores = tiles / cuts[3]
    found[ACTIVATIONS] += opened_rows(t, nest, operands, hw, stores, out_bytes / stores, tile)
    attention = t.nests[nest, DEPTH] > 0
    # Of every tile of an attention scores, shares, values and what adds them up.
    found[TASKS] += stores + (4.0 * tiles if attention else tiles + (0.0 if vector else stores))
    found[DMA] += out_bytes
    found[DRAM_WRITE] = out_bytes
    found[SRAM_READ] += out_bytes
    found[SRAM_WRITE] += out_bytes
    found[NOC] += out_bytes * hw[HOPS]
    found[NOC_INJECTED] += out_bytes * hw[REMOTE_SHARE]
    if vector:
        return
    if attention:
        _attention_traffic(t, nest, hw, splits, steps, size, cuts, results, found)
        return
    _array_traffic(t, nest, hw, splits, steps, size, cuts, results, summed, found)
    if summed > 1:
        _sum_traffic(hw, summed, results, stores, t.nests[nest, SUM_BYTES], found)
