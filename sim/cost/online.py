"""What the tiles of an attention take: two products on the arrays, and between and behind them the lanes.

Of every block of keys: the scores (array), their exponentials (lanes), the sum of values (array), and what was summed
up before scaled and added (lanes); of every finished block of queries the division. The array makes the scores of the
next block while the lanes work on this one, so a block takes what the busier of the two takes, or half of the way
through both of them where each waits for the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.cost.actions import array_actions, epilogue_bytes
from sim.cost.element_passes import drain_passes
from sim.cost.estimate import BUFFER_SLOTS, aligned, feeding, lane_elements, operand_bits
from sim.cost.fills import tile_gemm
from sim.cost.products import Products, tile_products
from sim.cost.work import (
    accumulator_bytes,
    array_cycles,
    drained_bytes,
    epilogue_instructions,
    tile_overhead_cycles,
    vector_tile_cycles,
)
from sim.graph.attention import LAST_PASSES, ROW_BYTES, ROW_PASSES, parts_of, ranges_with_whole, with_whole
from sim.graph.nest import Nest, Operand
from sim.graph.tensor import DTYPE_BITS
from sim.hw.core import CoreKind

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class OnlineCycles:
    """Cycles of the lanes for every tile: `softmax` turns scores into shares, `merge` adds values to the running
    result, `last` finishes it."""

    softmax: Int64
    merge: Int64
    last: Int64


@dataclass(frozen=True, slots=True)
class OnlineProducts:
    """Both products of all tiles, and what the lanes work on: `scored` scores, `merged` elements of running results,
    `rows` rows of blocks of keys, `results` elements in `last_rows` rows."""

    scores: Products
    values: Products
    scored: int
    merged: int
    rows: int
    results: int
    last_rows: int

    @property
    def macs(self) -> Int64:
        """Multiply-accumulates by core."""
        return self.scores.macs + self.values.macs


@dataclass(frozen=True, slots=True)
class OnlineBytes:
    """Memory of a core for tiles of these sizes: slots of `shares`, of numbers of their `rows` and of the `running`
    result in the scratchpad (without the last where all keys come at once), of `scores` and `values` in the
    accumulator. Threads (cores that tiles are dealt to) make shares in the registers of their scores, and add up values
    in those of the result: both need no scratchpad, and values one slot (`value_slots`)."""

    shares: Int64
    rows: Int64
    running: Int64
    scores: Int64
    values: Int64
    value_slots: int


def in_place(kind: CoreKind) -> bool:
    """Do shares and running results lie where scores and values are made?"""
    return kind.dispatch is not None


def online_bytes(nest: Nest, tile: Sequence[Int64], key_steps: Int64, here: bool) -> OnlineBytes:
    """Bytes for tiles of these sizes [any], of which `key_steps` make one result; `here` as `in_place` says of the
    core."""
    parts = parts_of(nest)
    scored, results = _elements(parts.scores.out, tile), _elements(nest.out, tile)
    one = accumulator_bytes(nest.operands[0].tensor.dtype)
    shares = -(-scored * DTYPE_BITS[parts.scores.out.tensor.dtype] // 8)
    running = np.where(key_steps > 1, aligned(-(-results * DTYPE_BITS[parts.values.out.tensor.dtype] // 8)), 0)
    none = np.zeros_like(scored)
    return OnlineBytes(
        none if here else aligned(shares), aligned(ROW_BYTES * _rows(nest, tile)), none if here else running,
        aligned(scored * one), aligned(results * one), 1 if here else BUFFER_SLOTS,
    )  # fmt: skip


def scratchpad_bytes(found: OnlineBytes) -> Int64:
    """Scratchpad that a core needs beside operands and results."""
    return BUFFER_SLOTS * (found.shares + found.rows) + found.running


def accumulator_need(found: OnlineBytes) -> Int64:
    """Accumulator that a core needs: two blocks of scores, and the slots of values."""
    return BUFFER_SLOTS * found.scores + found.value_slots * found.values


def online_cycles(nest: Nest, kind: CoreKind, tile: Sequence[Int64], key_steps: Int64 | int) -> OnlineCycles:
    """Cycles of the lanes for tiles of these sizes [any]."""
    parts, here = parts_of(nest), in_place(kind)
    one = accumulator_bytes(nest.operands[0].tensor.dtype)
    scored, summed = _elements(parts.scores.out, tile), _elements(nest.out, tile)
    rows = _rows(nest, tile) * _row_lanes(kind)
    scores, values = (with_whole(tile, extent) for extent in (parts.depth, parts.width))
    none = np.zeros_like(scored)
    shares = _lanes(parts.scores.out, scores, kind), drain_passes(parts.scores, kind)
    written = parts.scores.out.tile_bytes(scores)
    # Masks and shares, these but where they stay, and the numbers of every row.
    moved = drained_bytes(parts.scores, written) - (written if here else 0) + ROW_BYTES * _rows(nest, tile)
    softmax = _cycles(kind, [shares, (rows, row_passes(kind))], moved, scored * one + (written if here else 0))
    sums = _lanes(parts.values.out, values, kind), SCALED if here else drain_passes(parts.values, kind)
    running, several = parts.values.out.tile_bytes(values), np.asarray(key_steps) > 1
    moved = drained_bytes(parts.values, running)
    merge = _cycles(kind, [sums], none if here else moved, summed * one * (2 if here else 1))
    # By rows of heads, wherever the transfer puts them.
    done = _lanes(parts.values.out, values, kind), drain_passes(nest, kind)
    moved = drained_bytes(nest, nest.out.tile_bytes(tile))
    # Of several blocks of keys the sums are the running result.
    apart = several & (not here)
    issued = np.asarray(epilogue_instructions(kind) * summed)
    moved, sums_bytes = moved + np.where(apart, running, 0), np.where(apart, 0, summed * one)
    last = _cycles(kind, [done, (rows, LAST_PASSES)], moved, sums_bytes, issued)
    return OnlineCycles(softmax, np.asarray(np.where(several, merge, 0), np.int64), last)


SCALED: Mapping[str, float] = {"mul": 1.0}
"""Passes on sums of values that are scaled where they are."""


def padded_products(
    nest: Nest, kind: CoreKind, tile: Sequence[Int64], dataflow: str, rows: int
) -> tuple[tuple[float, float], tuple[float, float]]:
    """(hold, dur) in cycles of the scores and of the values of a dealt tile, each of all `rows` of the menu."""
    parts, dtype, found = parts_of(nest), nest.operands[0].tensor.dtype, []
    for part, extent in ((parts.scores, parts.depth), (parts.values, parts.width)):
        mine = with_whole(tile, extent)
        shape = replace(tile_gemm(part, mine), count=np.ones_like(tile[0]), m=np.full_like(tile[0], rows))
        hold, dur = array_cycles(shape, kind, dtype, dataflow, *feeding(part, kind, mine, dataflow))
        found.append((float(hold[0]), float(dur[0])))
    return found[0], found[1]


def row_passes(kind: CoreKind) -> Mapping[str, float]:
    """Passes of a row and block of keys; on a unit with registers of two sides its largest score and the sum of its
    exponentials are found by halves (sim.cost.element_passes.across_lanes)."""
    if not kind.vector.register_shape:
        return ROW_PASSES
    halves = 2.0 * math.ceil(math.log2(kind.vector.register_shape[1]))
    return {**ROW_PASSES, "add": ROW_PASSES["add"] + halves}


def online_time(
    nest: Nest, kind: CoreKind, tile: Sequence[Int64], dataflow: str, steps: Int64
) -> tuple[Float64, Float64, Float64, Float64, Int64]:
    """As sim.cost.estimate._compute_time, of candidates with `steps` [candidates, dims]: seconds of all tiles of a
    core, in which keys and values cannot be replaced, from a tile's end of hold to its result, of the last tile's way
    behind what others show of it; accumulator bytes."""
    parts, dtype = parts_of(nest), nest.operands[0].tensor.dtype
    iterations, key_steps = steps.prod(axis=1), steps[:, nest.role("k")[0]]
    lanes, out_tiles = online_cycles(nest, kind, tile, key_steps), iterations // key_steps
    products = []
    for part, extent in ((parts.scores, parts.depth), (parts.values, parts.width)):
        mine = with_whole(tile, extent)
        products.append(
            array_cycles(tile_gemm(part, mine), kind, dtype, dataflow, *feeding(part, kind, mine, dataflow))
        )
    (hold_s, dur_s), (hold_v, dur_v) = products
    array = iterations * (hold_s + hold_v)
    vector = iterations * (lanes.softmax + lanes.merge) + out_tiles * lanes.last
    # The next block but one begins when this one's shares are used up, or its values are merged.
    waits = lanes.softmax + np.maximum(hold_v + dur_s, dur_v + lanes.merge)
    total = np.maximum(np.maximum(array, vector), iterations * waits / 2)
    # Of the last block all of its way shows.
    through = dur_s + lanes.softmax + dur_v + lanes.merge + lanes.last - total / iterations
    need = accumulator_need(online_bytes(nest, tile, key_steps, in_place(kind)))
    clock = kind.clock_hz
    # While the last block that reads them is on its way, the next keys arrive.
    fills = np.where(key_steps > 1, iterations, steps[:, nest.role("g")].prod(axis=1))
    held = np.maximum(iterations * np.maximum(hold_s, hold_v), total * (1 - fills / iterations))
    return total / clock, held / clock, (dur_s - hold_s) / clock, np.maximum(through, 0) / clock, need


def online_products(
    nest: Nest, ranges: tuple[Int64, Int64], kind: CoreKind, dataflow: str, last: Int64, *,
    sides: tuple[int, int] = (0, 0), slowed: float = 1.0,
) -> OnlineProducts:  # fmt: skip
    """The products of all tiles, whose loops go from `ranges[0]` to `ranges[1]` [dims, cores, iterations]; those at
    `last` finish a result. Dealt tiles are computed as those of `sides` queries and keys, and take `slowed` times as
    long."""
    parts = parts_of(nest)
    wide = (sides[0], parts.width) if sides[0] else sides
    scores, values = (
        tile_products(part, ranges_with_whole(ranges, extent), kind, dataflow, sides=padded, slowed=slowed)
        for part, extent, padded in ((parts.scores, parts.depth, sides), (parts.values, parts.width, wide))
    )
    tile = tuple(ranges[1] - ranges[0])
    rows, results = _rows(nest, tile), _elements(nest.out, tile)
    merged = int(results.sum()) if len(last) < results.shape[1] else 0
    if in_place(kind):
        merged -= int(results[:, last].sum()) if merged else 0
    scored = int(_elements(parts.scores.out, tile).sum())
    return OnlineProducts(
        scores, values, scored, merged, int(rows.sum()), int(results[:, last].sum()), int(rows[:, last].sum())
    )


def online_actions(nest: Nest, kind: CoreKind, products: OnlineProducts) -> dict[str, float]:
    """Counts of all tiles: those of both products, whose results the lanes take out of the accumulators, and what
    they do to rows and finished results."""
    parts, one = parts_of(nest), accumulator_bytes(nest.operands[0].tensor.dtype)
    found = array_actions(
        parts.scores, int(products.scores.macs.sum()), products.scores.sums, products.scored, kind, 1
    )
    here = in_place(kind)
    values = array_actions(
        parts.values, int(products.values.macs.sum()), products.values.sums, 0 if here else products.merged, kind, 1
    )
    results, running = products.results, DTYPE_BITS[parts.values.out.tensor.dtype] / 8
    last = {
        # A running result is read once more; where all keys come at once the sums are taken as they are.
        "sram_read_bytes": (running * results if products.merged else 0.0) + epilogue_bytes(nest, results),
        "accumulator_read_bytes": 0.0 if products.merged else float(one * results),
        "sram_write_bytes": results * DTYPE_BITS[nest.out.tensor.dtype] / 8 + ROW_BYTES * products.rows,
    }
    lanes = _row_lanes(kind)
    passes = [
        (drain_passes(nest, kind), results),
        (row_passes(kind), products.rows * lanes),
        (LAST_PASSES, products.last_rows * lanes),
    ]
    for names, many in passes:
        for name, count in names.items():
            last[f"vector_{name}"] = last.get(f"vector_{name}", 0.0) + count * many
    if here:
        # Shares replace scores, which the second product reads in place; sums are scaled where they are.
        shares = float(products.values.sums[1] * operand_bits(parts.values)[0]) / 8
        last["accumulator_write_bytes"] = found.pop("sram_write_bytes") + float(one * products.merged)
        last["accumulator_read_bytes"] = float(one * (products.merged + results))
        last["sram_read_bytes"] -= shares + (running * results if products.merged else 0.0)
        if kind.dispatch is not None and kind.dispatch.instruction and kind.dispatch.operands == "registers":
            # Operands are brought to the registers, and read there, as array_actions has it: shares are there.
            last["accumulator_write_bytes"] -= shares
        else:
            last["accumulator_read_bytes"] += shares
        last["vector_mul"] = last.get("vector_mul", 0.0) + products.merged
    for more in (values, last):
        for name, count in more.items():
            found[name] = found.get(name, 0.0) + count
    return found


def _elements(operand: Operand, tile: Sequence[Int64]) -> Int64:
    total: Int64 = np.ones_like(tile[0])
    for axis in operand.axes:
        total = total * (axis.extent(tile) if all(dim < len(tile) for dim, _ in axis.terms) else axis.size)
    return total


def _rows(nest: Nest, tile: Sequence[Int64]) -> Int64:
    """Rows of scores: all loops but that over keys."""
    total: Int64 = np.ones_like(tile[0])
    for dim in (*nest.role("g"), *nest.role("m")):
        total = total * tile[dim]
    return total


def _row_lanes(kind: CoreKind) -> int:
    """Lanes that a number of every row takes: a row of a register, where the unit has some."""
    return kind.vector.register_shape[1] if kind.vector.register_shape else 1


def _lanes(operand: Operand, tile: Sequence[Int64], kind: CoreKind) -> Int64:
    extents = [np.broadcast_to(np.asarray(axis.extent(tile), np.int64), tile[0].shape) for axis in operand.axes]
    return lane_elements(operand, extents, kind)


def _cycles(
    kind: CoreKind,
    works: Sequence[tuple[Int64, Mapping[str, float]]],
    moved_bytes: Int64 | Float64,
    sum_bytes: Int64,
    instructions: npt.NDArray[Any] | int = 0,
) -> Int64:
    """One task of the lanes that does several works and issues `instructions` besides, never faster than the memories
    deliver."""
    start = tile_overhead_cycles(kind)
    busy = sum((vector_tile_cycles(many, passes, kind) - start for many, passes in works), start=np.int64(0))
    if kind.dispatch is not None:
        busy = busy + np.ceil(np.asarray(instructions) / kind.dispatch.issue).astype(np.int64)
    fed = vector_tile_cycles(np.zeros_like(moved_bytes), {}, kind, moved_bytes, sum_bytes) - start
    return np.asarray(np.maximum(busy, fed) + start, np.int64)
