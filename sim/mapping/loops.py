"""The loops of one mapped nest, unrolled as arrays over (core, iteration)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from sim.cost.fills import tile_gemm
from sim.cost.work import GemmShape
from sim.graph.nest import Nest, Operand
from sim.mapping.search import Tiling

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Fills:
    """The fills of one operand's buffer: by groups of cores that need the same tiles at the same iterations.

    `first` [fills] is the iteration that needs each fill first; `group` [cores] the group of each core;
    `members` [groups, sharers] the positions of the cores of each group. `needed` [iterations] is the fill that each
    iteration reads, of an operand that stays; of another, that is the latest.
    """

    first: Int64
    group: Int64
    members: Int64
    needed: Int64 | None = None

    @property
    def before_next(self) -> Int64:
        """Iteration before the one that needs the next fill: the last to use this one, where operands do not stay."""
        return self.first[1:] - 1

    @property
    def last(self) -> Int64:
        """Last iteration that reads each fill of an operand that stays."""
        assert self.needed is not None
        found = np.empty(len(self.first), np.int64)
        found[self.needed] = np.arange(len(self.needed))  # of equal places the last assignment holds
        return found

    def read_at(self, iterations: Int64) -> Int64:
        """The fill that each of these iterations reads."""
        if self.needed is not None:
            return self.needed[iterations]
        return np.searchsorted(self.first, iterations, side="right") - 1


def operand_number(nest: Nest, operand: Operand) -> int:
    """Which operand of a nest this is, or which of them has such axes (a template's nest stands for all that differ by
    name only); the result is the last."""
    every = (*nest.operands, nest.out)
    for number, one in enumerate(every):
        if one is operand:
            return number
    return next(n for n, one in enumerate(every) if (one.part, one.axes) == (operand.part, operand.axes))


@lru_cache(maxsize=1 << 12)
def _grid(cores: int, splits: tuple[int, ...]) -> tuple[Int64, ...]:
    return tuple(np.unravel_index(np.arange(cores), splits))


@dataclass(frozen=True)
class Loops:
    """Index ranges of every dimension at every iteration of every core."""

    nest: Nest
    tiling: Tiling
    cores: Int64

    @cached_property
    def grid(self) -> tuple[Int64, ...]:
        """Place of each core along every dimension that is split over cores."""
        return _grid(len(self.cores), self.tiling.splits)

    @cached_property
    def sum_place(self) -> Int64:
        """Place of each core among those that share its sum; 0 where the sum is not split."""
        place = np.zeros(len(self.cores), np.int64)
        for dim in self.nest.role("k"):
            place = place * self.tiling.splits[dim] + self.grid[dim]
        return place

    @cached_property
    def owners(self) -> Int64:
        """Positions of the cores that finish results: the first of each group that shares a sum."""
        return np.flatnonzero(self.sum_place == 0)

    @cached_property
    def iterations(self) -> int:
        return math.prod(self.tiling.steps)

    @cached_property
    def index(self) -> tuple[Int64, ...]:
        """Tile index of every dimension at each iteration, within the core's share."""
        found: list[Int64] = [np.zeros(self.iterations, np.int64)] * len(self.nest.dims)
        count, stride = np.arange(self.iterations, dtype=np.int64), 1
        for dim in reversed(self.tiling.order):
            found[dim] = count // stride % self.tiling.steps[dim]
            stride *= self.tiling.steps[dim]
        return tuple(found)

    @cached_property
    def _cut(self) -> Int64:
        """Parts over cores, tiles of a core, granule of every dimension, and the order of the loops: [4, dims]."""
        tiling = self.tiling
        return np.array((tiling.splits, tiling.steps, tiling.quanta, tiling.order), np.int64)

    @cached_property
    def _ranges(self) -> tuple[Int64, Int64]:
        from sim.cost.boxes import fill_tile_ranges
        from sim.cost.compiled import tables_of

        shape = len(self.nest.dims), len(self.cores), self.iterations
        low, high = np.empty(shape, np.int64), np.empty(shape, np.int64)
        splits, steps, quanta, order = self._cut
        fill_tile_ranges(tables_of(self.nest), splits, steps, quanta, order, self.iterations, low, high)
        return low, high

    @property
    def ranges(self) -> tuple[Int64, Int64]:
        """`low` and `high`."""
        return self._ranges

    @property
    def low(self) -> Int64:
        """First index of every dimension, [dims, cores, iterations]."""
        return self._ranges[0]

    @property
    def high(self) -> Int64:
        """One past the last index, [dims, cores, iterations]."""
        return self._ranges[1]

    @cached_property
    def sum_steps(self) -> int:
        """Iterations that accumulate into one result tile; the loops over them are innermost."""
        return math.prod(self.tiling.steps[dim] for dim in self.nest.role("k"))

    @cached_property
    def result_last(self) -> Int64:
        """Iteration that completes each result tile."""
        return np.arange(self.sum_steps - 1, self.iterations, self.sum_steps, dtype=np.int64)

    @cached_property
    def gemm(self) -> GemmShape:
        """Tile shapes as GEMMs, [cores, iterations] each."""
        return tile_gemm(self.nest, self.tile)

    @cached_property
    def tile(self) -> tuple[Int64, ...]:
        """Size of every dimension, [cores, iterations]."""
        return tuple(self.high - self.low)

    def partners(self, senders: Int64, distance: int) -> Int64:
        """Positions of the cores `distance` places before each sender along the sum."""
        dims, splits = self.nest.role("k"), self.tiling.splits
        grid = [place[senders] for place in self.grid]
        place = self.sum_place[senders] - distance
        for dim, index in zip(dims, np.unravel_index(place, [splits[dim] for dim in dims]), strict=True):
            grid[dim] = index
        return np.ravel_multi_index(grid, splits).astype(np.int64)

    def boxes(self, operand: Operand, positions: Int64 | slice, iterations: Int64) -> tuple[Int64, Int64]:
        """Start and stop [positions, iterations, rank] of what an operand touches."""
        from sim.cost.boxes import fill_tile_boxes
        from sim.cost.compiled import tables_of

        number = operand_number(self.nest, operand)
        which = np.ascontiguousarray(self._everyone[positions] if isinstance(positions, slice) else positions)
        shape = len(which), len(iterations), len(operand.axes)
        start, stop = np.empty(shape, np.int64), np.empty(shape, np.int64)
        fill_tile_boxes(
            tables_of(self.nest), number, *self._ranges, which, iterations, start.reshape(-1), stop.reshape(-1)
        )
        return start, stop

    @cached_property
    def results(self) -> tuple[Int64, Int64]:
        """Start and stop [cores, result tiles, rank] of the result's tiles."""
        return self.boxes(self.nest.out, self._everyone, self.result_last)

    @cached_property
    def _everyone(self) -> Int64:
        return np.arange(len(self.cores), dtype=np.int64)

    def fills(self, operand: Operand, positions: Int64) -> Fills:
        """When the cores at `positions` need another tile of the operand, and which of them need the same."""
        from sim.cost.compiled import tables_of
        from sim.cost.moves import fill_sharing
        from sim.cost.nest_tables import TOUCHES

        number = operand_number(self.nest, operand)
        touches = int(tables_of(self.nest).operands[0, number, TOUCHES])
        first, group = np.empty(self.iterations, np.int64), np.empty(len(positions), np.int64)
        members = np.empty(len(positions), np.int64)
        splits, steps, _, order = self._cut
        fills, groups = fill_sharing(splits, steps, order, touches, positions, self.iterations, first, group, members)
        sharing = members.reshape(groups, -1)
        if not self.tiling.stays(number):
            return Fills(first[:fills], group, sharing)
        needed = self._box_number(operand.dims)
        # A box is loaded for the first iteration that needs it: where no loop that leaves the box alone has turned.
        return Fills(np.unique(needed, return_index=True)[1], group, sharing, needed)

    def _box_number(self, dims: frozenset[int]) -> Int64:
        """Which box of an operand of these dimensions each iteration needs, in the order of their first use."""
        number = np.zeros(self.iterations, np.int64)
        for dim in self.tiling.order:
            if dim in dims:
                number = number * self.tiling.steps[dim] + self.index[dim]
        return number
