"""The tiles that a kernel library may take for a contraction: what no speed of a chip changes of them.

Sweeps ask for the same contraction on chip after chip, so the candidates are kept.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from sim.graph.nest import Nest, Operand
from sim.hw.core import Dispatch
from sim.hw.dram import Dram, pattern_efficiency
from sim.mapping.grid import largest_part
from sim.mapping.memo import Recent
from sim.mapping.splits import shape_of

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

SUM_PARTS = (1, 2, 3, 4, 6, 8)
"""Ways to split a sum over cores that are tried, as kernel libraries do where tiles are few."""

MOST_STEPS = 4096
"""Of a sum in a tile."""

GROUPS = (1, 8)
"""Widths of the bands that tiles are numbered in: a row of tiles, or about as wide as a wave is long."""

MOST_BOXES = 2
"""Ways to lay the rows of a tile over images that are tried, beside the plain one."""

MENU_BYTES = 1 << 25
"""Candidates are kept up to so many bytes; those of a large contraction take 100 KB."""


@dataclass(frozen=True, eq=False)
class Menu:
    """Candidates for a nest, one row per (tile of a library, parts of the sum, steps of it, order, band).

    `rows` and `columns` are a tile's, `tile` its sides by dimension with the longest step of the sum; `tiles` is how
    many a result has.
    """

    nest: Nest
    depth: int
    rows: Int64
    columns: Int64
    parts: Int64
    sum_steps: Int64
    columns_first: Int64
    group: Int64
    tile: tuple[Int64, ...]
    tiles: Int64
    _efficiencies: dict[object, tuple[Float64, ...]] = field(default_factory=dict)

    @cached_property
    def operand_bytes(self) -> tuple[Int64, ...]:
        """Bytes of every operand's tile, of the result's at last."""
        return tuple(operand.tile_bytes(self.tile) for operand in (*self.nest.operands, self.nest.out))

    @cached_property
    def tiles_of(self) -> dict[str, Int64]:
        """Tiles along the dimensions of each role of a result."""
        dims = self.nest.dims
        return {
            role: np.asarray(np.prod([-(-dims[d].extent // self.tile[d]) for d in self.nest.role(role)], 0, initial=1))
            for role in ("m", "n")
        }

    def efficiencies(self, dram: Dram) -> tuple[Float64, ...]:
        """Share of the DRAM's peak at which every operand's tile is loaded; at last, at which the result's is
        stored."""
        key = dram.channel_setup, dram.gathers, dram.interleave_bytes, dram.channels, dram.burst_bytes
        found = self._efficiencies.get(key)
        if found is None:
            nest = self.nest
            loads = [self._efficiency(dram, operand, store=False) for operand in nest.operands]
            found = self._efficiencies[key] = (*loads, self._efficiency(dram, nest.out, store=True))
        return found

    def _efficiency(self, dram: Dram, operand: Operand, *, store: bool) -> Float64:
        extents = np.empty((len(self.rows), len(operand.axes)), np.int64)
        for index, axis in enumerate(operand.axes):
            extents[:, index] = axis.extent(self.tile)
        return pattern_efficiency(dram, operand.run_bytes(extents), operand.pitch_bytes(extents), store=store)

    @property
    def size_bytes(self) -> int:
        """About what it takes with everything that is worked out later."""
        return self.rows.nbytes * (8 + len(self.tile) + 4 * (1 + len(self.nest.operands)))


_MENUS: Recent[object, Menu] = Recent(MENU_BYTES, lambda menu: menu.size_bytes)


def menu_of(nest: Nest, dispatch: Dispatch, tiles: Sequence[tuple[int, int]], cores: int) -> Menu:
    """The candidates of some tiles (rows, columns) for a nest on so many cores."""
    most_parts = min(cores, SUM_PARTS[-1]) if dispatch.split_sums else 1
    # The window of a convolution multiplies what a step of the sum holds.
    depth = max(1, dispatch.depth_of(nest.operands[0].tensor.dtype) // nest.taps)
    key = shape_of(nest), tuple(map(tuple, tiles)), depth, most_parts
    found = _MENUS.get(key)
    if found is None:
        found = _MENUS[key] = _enumerate(nest, tiles, depth, most_parts)
    return found


def _enumerate(nest: Nest, tiles: Sequence[tuple[int, int]], depth: int, most_parts: int) -> Menu:
    sums = nest.role("k")
    outer = nest.dims[sums[0]].extent
    blocks = -(-outer // depth)
    parts = [p for p in SUM_PARTS if p <= min(blocks, most_parts)]
    found = []
    for m, n in tiles:
        boxes = row_boxes(nest, tile_sides(nest, m, n), m)
        for p in parts:
            steps = _even_counts(max(1, blocks // p))
            found += [(m, n, p, s, o, g, *box) for box in boxes for s in steps for o in (0, 1) for g in GROUPS]
    # Columns that lie side by side.
    rows, columns, of_sum, steps_of_sum, order, group, *sides = np.ascontiguousarray(np.array(found, np.int64).T)
    tile = [*sides]
    tile[sums[0]] = largest_part(outer, of_sum * steps_of_sum, depth)
    dealt = [dim for dim in range(len(nest.dims)) if dim not in sums]
    every = np.asarray(np.prod([-(-nest.dims[d].extent // tile[d]) for d in dealt], axis=0), np.int64)
    return Menu(nest, depth, rows, columns, of_sum, steps_of_sum, order, group, tuple(tile), every)


def row_boxes(nest: Nest, sides: Sequence[int], rows: int) -> list[list[int]]:
    """Sides of tiles of at most this many rows: `sides`, and where the rows of a result have several dimensions, boxes
    that leave fewer of a tile's rows empty.

    The kernel of a convolution numbers the pixels of all images and takes as many in a row as its tile is high; a tile
    here is a box. Rows of 14 pixels fill 126 of 128, and the last tile of an image of 14 of them 70: 2 x 2 pixels of 32
    images fill all. Of boxes that make as few tiles, or fewer, only those are tried that read less in all, as pixels at
    the rim of a box are read by its neighbours too (where the window is larger than a step), or for nothing (where it
    is smaller).
    """
    mine = nest.role("m")
    if len(mine) < 2:
        return [list(sides)]
    left = nest.operands[0]
    grid = np.empty((0, 1), np.int64)
    for dim in mine:
        more = _sides_of(nest.dims[dim].extent, rows)
        grid = np.vstack([np.repeat(grid, len(more), axis=1), np.tile(more, grid.shape[1])])
        grid = grid[:, grid.prod(axis=0) <= rows]
    tile = [np.full(grid.shape[1], side, np.int64) for side in sides]
    for dim, side in zip(mine, grid, strict=True):
        tile[dim] = side
    extents = np.array([nest.dims[dim].extent for dim in mine], np.int64)
    count = (-(-extents[:, None] // grid)).prod(axis=0)
    read = count * left.tile_bytes(tile)
    first = math.prod(-(-nest.dims[dim].extent // sides[dim]) for dim in mine)
    found, least = [list(sides)], math.inf
    for at in np.lexsort((read, count)).tolist():
        if count[at] >= first or len(found) > MOST_BOXES:
            break
        if read[at] < least:
            least = read[at]
            found.append([int(side[at]) for side in tile])
    return found


def _sides_of(extent: int, most: int) -> Int64:
    """Sizes up to `most` that cut an extent into different numbers of parts, each the least that does."""
    parts = np.arange(1, extent + 1, dtype=np.int64)
    sides = np.unique(-(-extent // parts))
    return sides[sides <= most]


def _even_counts(blocks: int) -> list[int]:
    """Numbers of steps that cut a sum of so many blocks evenly, as the main loop of a kernel goes on by one depth.

    Steps of one and of two blocks by turns, which powers of two made of 224 blocks, kept half the bytes in flight half
    of the time: products of few rows came out up to 40 % slower than by the estimate.
    """
    return [steps for steps in range(1, min(blocks, MOST_STEPS) + 1) if blocks % steps == 0]


def tile_sides(nest: Nest, rows: int, columns: int) -> list[int]:
    """Size along every dimension of a tile with at most this many rows and columns, innermost dimensions first;
    one repeat (group, head); the whole sum."""
    left = {"m": rows, "n": columns, "g": 1}
    sides = [dim.extent for dim in nest.dims]
    for index in reversed(range(len(nest.dims))):
        role = nest.dims[index].role
        if role != "k":
            sides[index] = min(sides[index], left[role])
            # A dimension that is cut leaves single indices of those outside.
            left[role] = left[role] // sides[index] if sides[index] == nest.dims[index].extent else 1
    return sides
