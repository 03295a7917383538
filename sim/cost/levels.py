"""Levels: the ways to cut the loops of one role, with what each does to every operand.

A tiling is one level per role (repeats, rows, columns, sum). What an operand's tile holds, how much of it is
contiguous and how often it is loaded are products over the roles, so the cost of a tiling follows from four rows of
one table, which all designs share; `scan.scan_role` goes through one role's while the others stay.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.cost.nest_tables import (
    AXES,
    BITS,
    DIMS,
    OPERANDS,
    RUN_AXES,
    SIZE,
    TAPS,
    TERMS,
    TOUCHES,
)
from sim.cost.tiles import extent_of, largest_part, parts_of
from sim.jit import jit, jit_bare, jit_inline

# Columns of a level: tiles per core, indices of a tile; then of every operand its elements and contiguous elements
# within the role, is all of the role contiguous?, fills (0: the role does not move it), pitches, different tiles, and
# those inside of the outermost loop that turns without moving it (0: there is none); then the tiles per core of every
# loop.
TILES, INDICES, FIRST = range(3)
ELEMENTS, RUN, WHOLE, FILLS, PITCH, FIRST_PITCH, BOXES, RING = range(8)
PER_OPERAND = 8

@jit_bare
def size_below(size: int) -> int:
    """The largest of 1, 2, 3, 4, 6, 8, 12, ... that is less than `size` (at least 2)."""
    power = 1
    while power * 2 < size:
        power *= 2
    return power * 3 // 2 if power > 1 and power * 3 // 2 < size else power


@jit_bare
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


@jit_bare
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
        touches, fills, active, boxes, ring = t.operands[nest, operand, TOUCHES], 1.0, False, 1.0, 0.0
        for back in range(t.nests[nest, DIMS]):
            dim = t.nests[nest, DIMS] - 1 - back
            if t.role[nest, dim] == role and steps[dim] > 1:
                active = active or (touches >> dim) & 1 == 1
                if active:
                    fills *= steps[dim]
                if (touches >> dim) & 1:
                    boxes *= steps[dim]
                else:
                    ring = boxes
        level[column + FILLS] = fills if active else 0.0
        level[column + BOXES], level[column + RING] = boxes, ring


@jit_inline
def _fill_box(t: Any, nest: int, operand: int, role: int, tile: Any, level: Any, column: int) -> None:
    """What an operand's box has of a role: elements, those in one run, whether it has all; bytes between the runs that
    the role itself leaves, and between any two indices of it (0: one index)."""
    row = t.operands[nest, operand]
    elements, run, whole, stride, pitch, first_pitch = 1.0, 1.0, True, 1, 0, 0
    for place in range(row[AXES]):
        axis = t.run_order[nest, operand, place]
        if (t.of_roles[nest, operand, axis] >> role) & 1:
            _, extent, full = role_extent(t, nest, operand, axis, role, tile)
            elements *= extent
            if extent > 1 and first_pitch == 0:
                first_pitch = stride * row[BITS] // 8
            if whole and place < row[RUN_AXES]:
                run *= extent
            elif not whole and pitch == 0 and extent > 1:
                pitch = stride * row[BITS] // 8
            whole = whole and full
        stride *= t.axes[nest, operand, axis, SIZE]
    level[column + ELEMENTS], level[column + RUN], level[column + WHOLE] = (
        elements,
        run,
        1.0 if whole else 0.0,
    )
    level[column + PITCH], level[column + FIRST_PITCH] = pitch, first_pitch


@jit_inline
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
        levels[row, levels.shape[1] - width :] = steps
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
