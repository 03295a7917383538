"""The space of tilings of one nest, with a floor under each one's latency, so that most need never be evaluated.

A candidate is a partition over cores, one row of cuts per loop role and an order of rows and columns. Written out
there are some 30,000 for a convolution on eight cores; the floor of a candidate follows from a few products of its
row's counts, and a candidate whose floor is above the best latency found cannot win.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from sim.cost.estimate import Cuts, Site
from sim.graph.nest import DimRole, Nest
from sim.mapping.grid import counts, largest_part

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

ROLES: tuple[DimRole, ...] = ("g", "m", "n", "k")

SLACK = 1.01
"""Among candidates within 1 % of the fastest, the one with the least DRAM traffic, then fewest transfers, wins."""

MOST_CUTS = 4096
"""Tiles per core along one dimension, at most."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Candidates as numbers: `family` (the partition), `row` (its cuts, counted over the product of its role tables,
    the last role fastest), `columns_first`, and `floor_s`, below the latency that the estimate would give.

    Order is that of a full enumeration; it breaks ties between equally good candidates.
    """

    nest: Nest
    quanta: tuple[int, ...]
    splits: Int64
    resident: Bool
    tables: tuple[tuple[tuple[int, ...], Int64], ...]
    """Per role: its dimensions, and the cut rows [rows, dims] of all families one after another."""
    first: Int64
    """[families, roles] where each family's rows begin in those tables."""
    length: Int64
    """[families, roles] how many there are."""
    family: Int64
    row: Int64
    columns_first: Bool
    floor_s: Float64

    def cuts(self, which: Int64) -> tuple[Cuts, Bool, Int64]:
        """The candidates `which` written out, their resident operands, and which of them they are: those whose tiles
        would not be contiguous (an inner dimension cut under an outer one that is not) are left out."""
        family, rest = self.family[which], self.row[which]
        steps = np.ones((len(which), len(self.nest.dims)), np.int64)
        for role in range(len(self.tables) - 1, -1, -1):
            dims, table = self.tables[role]
            sizes = self.length[family, role]
            steps[:, dims] = table[self.first[family, role] + rest % sizes]
            rest = rest // sizes
        splits = self.splits[family]
        legal = np.ones(len(which), np.bool_)
        for outer, inner in self.nest.nested:
            single = steps[:, outer] * splits[:, outer] == self.nest.dims[outer].extent
            legal &= single | (steps[:, inner] == 1)
        if not legal.all():
            family, which, steps, splits = family[legal], which[legal], steps[legal], splits[legal]
        tile = tuple(
            largest_part(dim.extent, splits[:, index] * steps[:, index], self.quanta[index])
            for index, dim in enumerate(self.nest.dims)
        )
        return Cuts(splits, steps, self.columns_first[which], tile), self.resident[family], which


def candidates(
    nest: Nest,
    site: Site,
    local: Mapping[tuple[int, ...], tuple[bool, ...]],
    quanta: tuple[int, ...],
    unit: str,
    coarse: bool,
) -> Candidates:
    """All tilings under the partitions that are the keys of `local`; its values say which operands are resident.

    Within a role, an inner dimension is cut only where the outer ones are cut down to single indices, so that tiles
    stay contiguous in memory. Where cuts have a granule, tiles of a few whole granules are always among them.
    """
    sums = nest.role("k")
    found = [s for s in local if unit != "vector" or all(s[dim] == 1 for dim in sums)]
    used = [(dims, place) for place, role in enumerate(ROLES) if (dims := nest.role(role))]
    tables: list[list[Int64]] = [[] for _ in used]
    parts: list[tuple[Float64, Bool]] = []
    for split in found:
        mine = []
        for at, (dims, place) in enumerate(used):
            chunks = tuple(nest.dims[dim].extent // split[dim] for dim in dims)
            fine = tuple(quanta[dim] for dim in dims)
            whole = ROLES[place] == "k" and unit == "vector"
            mine.append(np.ones((1, len(dims)), np.int64) if whole else cut_table(chunks, fine, coarse))
            tables[at].append(mine[-1])
        parts.append(_floor(nest, site, split, local[split], used, mine, unit))
    length = np.array([[len(table) for table in role] for role in tables], np.int64).T
    first = np.cumsum(length, axis=0) - length
    floor_s = np.concatenate([floor for floor, _ in parts])
    both = np.flatnonzero(np.concatenate([either for _, either in parts]))
    family = np.repeat(np.arange(len(found)), [len(floor) for floor, _ in parts])
    row = np.concatenate([np.arange(len(floor)) for floor, _ in parts])
    order = np.zeros(len(row) + len(both), np.bool_)
    order[len(row) :] = True
    return Candidates(
        nest,
        quanta,
        np.array(found, np.int64),
        np.array([local[split] for split in found], np.bool_).reshape(len(found), len(nest.operands)),
        tuple((dims, np.concatenate(role)) for (dims, _), role in zip(used, tables, strict=True)),
        first,
        length,
        np.concatenate([family, family[both]]),
        np.concatenate([row, row[both]]),
        order,
        np.concatenate([floor_s, floor_s[both]]),
    )


def _floor(
    nest: Nest,
    site: Site,
    split: tuple[int, ...],
    resident: tuple[bool, ...],
    used: list[tuple[tuple[int, ...], int]],
    tables: list[Int64],
    unit: str,
) -> tuple[Float64, Bool]:
    """Per row of one partition: seconds below its estimate, and whether the order of rows and columns matters.

    Two of the terms whose largest the estimate takes, from below, and the round trips of the first and last tiles:
    a buffer is filled at least once per index of the loops that its operand depends on; every tile of products holds
    the array for as many cycles as it has rows.
    """
    rank = len(used)

    def product(chosen: frozenset[int] | set[int]) -> Int64:
        """Tiles along the chosen dimensions, [rows of role 0, rows of role 1, ...] where they vary."""
        total: Int64 = np.ones((1,) * rank, np.int64)
        for at, ((dims, _), table) in enumerate(zip(used, tables, strict=True)):
            columns = [place for place, dim in enumerate(dims) if dim in chosen]
            if columns:
                shape = [1] * rank
                shape[at] = len(table)
                total = total * table[:, columns].prod(axis=1).reshape(shape)
        return total

    cores, sums = math.prod(split), set(nest.role("k"))
    everything = product(set(range(len(nest.dims))))
    results = product(set(range(len(nest.dims))) - sums)
    owners = cores // math.prod(split[dim] for dim in sums)
    transfers = results * (owners / cores)
    for operand, here in zip(nest.operands, resident, strict=True):
        if not here:
            sharing = math.prod(split[dim] for dim in operand.dims) / cores
            transfers = transfers + product(operand.dims) * sharing
    dma, array = site.kind.dma, site.kind.array
    busiest_s = transfers * (site.head_latency_s / (dma.outstanding * dma.channels))
    if unit == "array" and array is not None:
        rate = array.rate(nest.operands[0].tensor.dtype)
        rows = array.rows // array.rows_per_adder
        busiest_s = np.maximum(busiest_s, everything * (rows / float(rate) / site.kind.clock_hz))
    either = (product(set(nest.role("m"))) > 1) & (product(set(nest.role("n"))) > 1)
    shape = tuple(len(table) for table in tables)
    floor_s = np.broadcast_to(busiest_s + site.head_latency_s, shape).reshape(-1)
    return floor_s, np.broadcast_to(either, shape).reshape(-1)


def _whole_granules(extent: int, quantum: int) -> set[int]:
    """Numbers of parts that give tiles of 1, 2, 3, 4, 6, ... granules."""
    blocks = -(-extent // quantum)
    return {-(-blocks // size) for size in counts(blocks, MOST_CUTS)} if quantum > 1 else set()


@lru_cache(maxsize=4096)
def cut_table(chunks: tuple[int, ...], quanta: tuple[int, ...], coarse: bool) -> Int64:
    """Cuts [rows, dims] of nested dimensions with these indices per core, outermost first (read-only)."""
    found = [(1,) * len(chunks)]
    for position, extent in enumerate(chunks):
        innermost = position == len(chunks) - 1
        inside = (1,) * (len(chunks) - position - 1)
        found += [
            (*chunks[:position], parts, *inside)
            for parts in sorted({*counts(extent, MOST_CUTS), *_whole_granules(extent, quanta[position])})
            if parts > 1 and not (coarse and innermost and extent > 16 and extent // parts < 4)
        ]
    table = np.array(found, np.int64)
    table.flags.writeable = False
    return table
