"""Boxes of operands under one tiling, compiled: where they lie on every core, what buffers they need.

`t` are the tables of one nest (sim/cost/nest_tables.py); as sim.graph.nest.Axis.box and sim.mapping.grid.bounds.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.cost.nest_tables import (
    AXES,
    BITS,
    DENOMINATOR,
    DIMS,
    HIGH,
    LOW,
    OPERANDS,
    SIZE,
    TERMS,
)
from sim.cost.tiles import box, fill_count, largest_part
from sim.jit import jit, jit_bare, jit_inline


@jit_bare
def bound(extent: int, parts: int, quantum: int, place: int) -> int:
    """Cut point number `place` of `extent` in `parts` parts."""
    blocks = -(-extent // quantum)
    if blocks >= parts:
        return int(min(extent, quantum * (place * blocks // parts)))
    return int(place * extent // parts)


@jit
def fill_ranges(t: Any, splits: Any, quanta: Any, position: int, low: Any, high: Any) -> None:
    """Loop ranges [dims] of the core at a position of the grid `splits` (the last loop fastest)."""
    rest = position
    for back in range(t.nests[0, DIMS]):
        dim = t.nests[0, DIMS] - 1 - back
        place = rest % splits[dim]
        rest //= splits[dim]
        low[dim] = bound(t.extent[0, dim], splits[dim], quanta[dim], place)
        high[dim] = bound(t.extent[0, dim], splits[dim], quanta[dim], place + 1)


@jit
def axis_box(t: Any, operand: int, axis: int, low: Any, high: Any) -> tuple[int, int]:
    """First element and one past the last of a tensor axis that loop ranges touch."""
    size = t.axes[0, operand, axis, SIZE]
    if t.axes[0, operand, axis, TERMS] == 0:
        return 0, size
    first, last = t.axes[0, operand, axis, LOW], t.axes[0, operand, axis, HIGH]
    for term in range(t.axes[0, operand, axis, TERMS]):
        dim, factor = t.terms[0, operand, axis, term, 0], t.terms[0, operand, axis, term, 1]
        first += low[dim] * factor
        last += (high[dim] - 1) * factor
    below = t.axes[0, operand, axis, DENOMINATOR]
    start = min(max(first // below, 0), size - 1)
    return start, min(max(last // below + 1, start + 1), size)


@jit
def fill_core_boxes(
    t: Any, operand: int, splits: Any, quanta: Any, cores: Any, start: Any, stop: Any, held: Any
) -> None:
    """The boxes [cores of the chip, rank] of an operand when the nest is split like this over `cores` (in grid
    order); `held` [cores of the chip] says on which there is one."""
    low, high = np.empty(len(splits), np.int64), np.empty(len(splits), np.int64)
    used = 1
    for dim in range(t.nests[0, DIMS]):
        used *= splits[dim]
    for position in range(used):
        fill_ranges(t, splits, quanta, position, low, high)
        held[cores[position]] = True
        for axis in range(t.operands[0, operand, AXES]):
            at = axis_box(t, operand, axis, low, high)
            start[cores[position], axis], stop[cores[position], axis] = at


@jit
def in_place(
    t: Any, operand: int, splits: Any, quanta: Any, cores: Any, same: bool, start: Any, stop: Any, held: Any,
    first: Any, last: Any, whole: Any, masks: Any,
) -> None:  # fmt: skip
    """Set the bit of an operand in `masks` [families] where every core finds its box of it in its own scratchpad, under
    each of the `splits` [families, dims] and whichever of the granules `quanta` [any, dims] the cuts have.

    What lies there: boxes `start`, `stop` [cores, rank] where `held` [cores], of a tensor of the `same` shape; else the
    elements `first` to `last` [cores] in row-major order, if those are `whole` [cores] boxes.
    """
    low, high = np.empty(splits.shape[1], np.int64), np.empty(splits.shape[1], np.int64)
    for row in range(len(splits)):
        used, inside = 1, True
        for dim in range(t.nests[0, DIMS]):
            used *= splits[row, dim]
        for way in range(len(quanta)):
            # Granules of what is not cut over cores change nothing.
            new = way == 0
            for dim in range(t.nests[0, DIMS]):
                new = new or (splits[row, dim] > 1 and quanta[way, dim] != quanta[way - 1, dim])
            for position in range(used if new and inside else 0):
                core = cores[position]
                inside = held[core] and (same or whole[core])
                if not inside:
                    break
                fill_ranges(t, splits[row], quanta[way], position, low, high)
                mine_first, mine_last, stride = 0, 0, 1
                for back in range(t.operands[0, operand, AXES]):
                    axis = t.operands[0, operand, AXES] - 1 - back
                    begin, end = axis_box(t, operand, axis, low, high)
                    if same:
                        inside = inside and begin >= start[core, axis] and end <= stop[core, axis]
                    mine_first += begin * stride
                    mine_last += (end - 1) * stride
                    stride *= t.axes[0, operand, axis, SIZE]
                if not same:
                    inside = mine_first >= first[core] and mine_last < last[core]
                if not inside:
                    break
        if inside:
            masks[row] |= 1 << operand


@jit
def buffer_needs(t: Any, splits: Any, steps: Any, quanta: Any, columns_first: int, found: Any) -> None:
    """`found` [operands + 1, 2], the result last: fills of a buffer (of the result: its tiles), bytes of the largest
    tile. The elements of the result's largest tile stand in `found` [operands + 1, 0]."""
    tile = np.ones(len(steps), np.int64)
    tiles = 1.0
    for dim in range(t.nests[0, DIMS]):
        tile[dim] = largest_part(t.extent[0, dim], splits[dim] * steps[dim], quanta[dim])
        tiles *= 1 if t.role[0, dim] == 3 else steps[dim]
    operands = t.nests[0, OPERANDS]
    for operand in range(operands + 1):
        elements, _, _ = box(t, 0, operand, tile)
        found[operand, 0] = tiles if operand == operands else fill_count(t, 0, operand, steps, columns_first)
        found[operand, 1] = np.ceil(elements * t.operands[0, operand, BITS] / 8)
        found[operands + 1, 0] = elements


@jit_bare
def fill_tile_ranges(
    t: Any, splits: Any, steps: Any, quanta: Any, order: Any, iterations: int, low: Any, high: Any
) -> None:
    """Loop ranges `low` to `high` [dims, cores, iterations] of every tile: cores in grid order, iterations with the
    loops `order` [dims] from outermost to innermost."""
    dims = len(splits)
    for dim in range(dims):
        parts = splits[dim] * steps[dim]
        outside = 1
        for other in range(dim + 1, dims):
            outside *= splits[other]
        inside = 1
        for back in range(dims):
            other = order[dims - 1 - back]
            if other == dim:
                break
            inside *= steps[other]
        for core in range(low.shape[1]):
            place = core // outside % splits[dim] * steps[dim]
            for iteration in range(iterations):
                at = place + iteration // inside % steps[dim]
                low[dim, core, iteration] = bound(t.extent[0, dim], parts, quanta[dim], at)
                high[dim, core, iteration] = bound(t.extent[0, dim], parts, quanta[dim], at + 1)


@jit_inline
def fill_tile_box(
    t: Any, operand: int, low: Any, high: Any, core: int, iteration: int, start: Any, stop: Any, place: int
) -> int:
    """Elements of the box of an operand under the loop ranges `low` to `high` [dims, cores, iterations] of one tile; as
    `axis_box`, axis by axis from `place` on in `start` and `stop`."""
    elements = 1
    for axis in range(t.operands[0, operand, AXES]):
        size, terms = t.axes[0, operand, axis, SIZE], t.axes[0, operand, axis, TERMS]
        begin, end = 0, size
        if terms > 0:
            first, last = t.axes[0, operand, axis, LOW], t.axes[0, operand, axis, HIGH]
            for term in range(terms):
                dim, factor = t.terms[0, operand, axis, term, 0], t.terms[0, operand, axis, term, 1]
                first += low[dim, core, iteration] * factor
                last += (high[dim, core, iteration] - 1) * factor
            below = t.axes[0, operand, axis, DENOMINATOR]
            begin = min(max(first // below, 0), size - 1)
            end = min(max(last // below + 1, begin + 1), size)
        start[place + axis], stop[place + axis] = begin, end
        elements *= end - begin
    return elements


@jit_bare
def fill_tile_boxes(
    t: Any, operand: int, low: Any, high: Any, positions: Any, iterations: Any, start: Any, stop: Any
) -> None:
    """Boxes [positions, iterations, rank], flat, of an operand, of loop ranges [dims, cores, iterations]."""
    rank, place = t.operands[0, operand, AXES], 0
    for row in range(len(positions)):
        for column in range(len(iterations)):
            fill_tile_box(t, operand, low, high, positions[row], iterations[column], start, stop, place)
            place += rank
