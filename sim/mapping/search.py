"""Tile search: every sensible way to cut one loop nest over cores and into tiles, evaluated at once in NumPy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from sim.cost.estimate import Cuts, Estimate, Site, estimate, loop_order
from sim.errors import DoesNotFit
from sim.graph.nest import DimRole, Nest
from sim.mapping.grid import bounds, counts, largest_part

Int64 = npt.NDArray[np.int64]

ROLES: tuple[DimRole, ...] = ("g", "m", "n", "k")
ALL_ROLES = frozenset(ROLES)
MAX_SPLITS = 28
"""Partitions over cores tried per nest, those that use most cores first."""

MAX_REDUCTION_CORES = 8
"""Cores that share one sum: beyond, moving the parts costs more than it saves."""

SLACK = 1.02
"""Among candidates within 2 % of the fastest, the one with the least DRAM traffic, then fewest transfers, wins."""


@dataclass(frozen=True, slots=True)
class Tiling:
    """How one nest is cut. `splits` and `steps` are parts over cores and tiles per core of every dimension;
    `quanta` the granule of the cuts; `order` the loops from outermost to innermost."""

    splits: tuple[int, ...]
    steps: tuple[int, ...]
    quanta: tuple[int, ...]
    order: tuple[int, ...]
    unit: str
    dataflow: str
    latency_s: float
    dram_bytes: float
    sram_bytes: int
    accumulator_bytes: int

    @property
    def cores(self) -> int:
        """Cores that have work."""
        return int(np.prod(self.splits, dtype=np.int64))

    def cuts(self, nest: Nest) -> tuple[Int64, ...]:
        """Cut points of every dimension over all cores."""
        return tuple(
            bounds(dim.extent, parts * steps, quantum)
            for dim, parts, steps, quantum in zip(
                nest.dims, self.splits, self.steps, self.quanta, strict=True
            )
        )


@dataclass(frozen=True, slots=True)
class Limits:
    """What the search may use: scratchpad bytes preferred (leaves room to prefetch the next operator) and at most;
    units to try."""

    preferred_sram_bytes: int
    sram_bytes: int
    units: tuple[str, ...]


def search(
    nest: Nest,
    site: Site,
    limits: Limits,
    dataflow: str,
    local: Mapping[tuple[int, ...], tuple[bool, ...]],
) -> Tiling:
    """The tiling with the least estimated latency among the partitions over cores that are the keys of `local`;
    its values say which operands every core finds in its own scratchpad under that partition.

    Raises DoesNotFit when no tile fits, with the smallest need found.
    """
    best: Tiling | None = None
    smallest: tuple[int, int] | None = None
    # Vector units do not share sums.
    shared = all(any(split[dim] > 1 for dim in nest.role("k")) for split in local)
    units = tuple(unit for unit in limits.units if not (shared and unit == "vector"))
    for limit in sorted({limits.preferred_sram_bytes, limits.sram_bytes}):
        for coarse in (True, False):
            for unit in units:
                if best is not None and unit == "vector" and vector_floor_s(nest, site) >= best.latency_s:
                    continue
                quanta = cut_quanta(nest, site, unit, dataflow)
                cuts, resident = _candidates(nest, local, quanta, unit, coarse)
                cost = estimate(nest, site, cuts, unit=unit, dataflow=dataflow, resident=resident)
                chosen, needed = _choose(cost, site, limit)
                smallest = min(smallest, needed) if smallest else needed
                if chosen is None:
                    continue
                found = _tiling(nest, cuts, quanta, unit, dataflow, cost, chosen)
                if best is None or found.latency_s < best.latency_s:
                    best = found
            if best is not None:
                return best
    assert smallest is not None
    raise _does_not_fit(nest, site, limits, smallest)


def vector_floor_s(nest: Nest, site: Site) -> float:
    """Time the multiply-adds of a contraction take on every lane of the site, at the very least."""
    unit = site.kind.vector
    passes = nest.macs * unit.passes_of("multiply_add")
    return passes / (unit.lanes * site.cores * site.kind.clock_hz)


def split_candidates(nest: Nest, site: Site, roles: frozenset[str]) -> tuple[tuple[int, ...], ...]:
    """Partitions of the nest over the site's cores, at most two dimensions split, those using most cores first."""
    limits = []
    for dim in nest.dims:
        allowed = dim.role in roles and (dim.role != "k" or nest.contraction)
        most = MAX_REDUCTION_CORES if dim.role == "k" else site.cores
        limits.append(min(dim.extent, site.cores, most) if allowed else 1)
    return _splits(tuple(limits), site.cores, nest.extents, nest.nested)


@lru_cache(maxsize=1 << 12)
def _splits(
    limits: tuple[int, ...], cores: int, extents: tuple[int, ...], nested: tuple[tuple[int, int], ...]
) -> tuple[tuple[int, ...], ...]:
    """Splits with at most `limits` parts per dimension; an inner dimension of a nested pair only where the outer one
    is split down to single indices."""
    options = [sorted({p for p in (*_divisors(cores), limit) if 1 < p <= limit}) for limit in limits]
    one = (1,) * len(limits)
    found = {one}
    for index, sizes in enumerate(options):
        found |= {(*one[:index], p, *one[index + 1 :]) for p in sizes}
    for a, b in itertools.combinations(range(len(limits)), 2):
        for p, q in itertools.product(options[a], options[b]):
            if p * q <= cores:
                found.add(tuple(p if i == a else q if i == b else 1 for i in range(len(limits))))
    legal = [s for s in found if all(s[inner] == 1 or s[outer] == extents[outer] for outer, inner in nested)]
    legal.sort(key=lambda split: (-math.prod(split), -max(split), split))
    most = math.prod(legal[0])
    # Fewer cores only pay where the work is too small for all of them: keep a few to find out.
    wide = [split for split in legal if math.prod(split) * 2 > most][: MAX_SPLITS - 4]
    narrow = [split for split in legal if split not in wide][:3]
    alone = [] if one in wide or one in narrow else [one]
    return (*wide, *narrow, *alone)


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


def cut_quanta(nest: Nest, site: Site, unit: str, dataflow: str) -> tuple[int, ...]:
    """Cuts at multiples of the array's sides, so that no fold is split between tiles; 1 elsewhere."""
    array = site.kind.array
    if unit != "array" or array is None:
        return (1,) * len(nest.dims)
    columns = {"weight_stationary": "n", "output_stationary": "n", "input_stationary": "m"}[dataflow]
    rows = {"weight_stationary": "k", "output_stationary": "m", "input_stationary": "k"}[dataflow]
    side = {columns: array.cols * (array.count if columns == "n" else 1), rows: array.rows}
    found = []
    for dim in nest.dims:
        alone = len(nest.role(dim.role)) == 1 and not (dim.role == "k" and nest.taps > 1)
        found.append(side.get(dim.role, 1) if alone else 1)
    return tuple(found)


def _candidates(
    nest: Nest,
    local: Mapping[tuple[int, ...], tuple[bool, ...]],
    quanta: tuple[int, ...],
    unit: str,
    coarse: bool,
) -> tuple[Cuts, npt.NDArray[np.bool_]]:
    rows: list[Int64] = []
    split_rows: list[Int64] = []
    resident_rows: list[npt.NDArray[np.bool_]] = []
    for split, here in local.items():
        if unit == "vector" and any(split[dim] > 1 for dim in nest.role("k")):
            continue
        steps = _step_candidates(nest, split, quanta, unit, coarse)
        rows.append(steps)
        split_rows.append(np.broadcast_to(np.array(split, np.int64), steps.shape))
        resident_rows.append(np.broadcast_to(np.array(here, np.bool_), (len(steps), len(nest.operands))))
    steps = np.concatenate(rows)
    chosen = np.concatenate(split_rows)
    resident = np.concatenate(resident_rows)
    # Both loop orders only where they differ: more than one tile in rows and in columns.
    rows_cut = steps[:, nest.role("m")].prod(axis=1) > 1
    columns_cut = (
        steps[:, nest.role("n")].prod(axis=1) > 1 if nest.role("n") else np.zeros(len(steps), np.bool_)
    )
    both = np.flatnonzero(rows_cut & columns_cut)
    columns_first = np.concatenate([np.zeros(len(steps), np.bool_), np.ones(len(both), np.bool_)])
    steps, chosen = np.concatenate([steps, steps[both]]), np.concatenate([chosen, chosen[both]])
    resident = np.concatenate([resident, resident[both]])
    tile = tuple(
        largest_part(dim.extent, chosen[:, index] * steps[:, index], quanta[index])
        for index, dim in enumerate(nest.dims)
    )
    return Cuts(chosen, steps, columns_first, tile), resident


def _step_candidates(
    nest: Nest, split: tuple[int, ...], quanta: tuple[int, ...], unit: str, coarse: bool
) -> Int64:
    """Tiles per core [candidates, dims]. Within a role, an inner dimension is cut only where the outer ones are
    cut down to single indices, so that tiles stay contiguous in memory. Where cuts have a granule, tiles of a few
    whole granules are always among the candidates."""
    tables: list[Int64] = []
    for role in ROLES:
        dims = nest.role(role)
        if not dims:
            continue
        chunks = [nest.dims[dim].extent // split[dim] for dim in dims]
        cuts = (
            [[1] * len(dims)]
            if role == "k" and unit == "vector"
            else list(_cut_table(tuple(chunks), tuple(quanta[dim] for dim in dims), coarse))
        )
        tables.append(np.array(cuts, np.int64))
    index = np.indices([len(table) for table in tables]).reshape(len(tables), -1)
    steps = np.empty((index.shape[1], len(nest.dims)), np.int64)
    used = [nest.role(role) for role in ROLES if nest.role(role)]
    for table, rows, dims in zip(tables, index, used, strict=True):
        steps[:, dims] = table[rows]
    for outer, inner in nest.nested:
        single = steps[:, outer] * split[outer] == nest.dims[outer].extent
        steps = steps[single | (steps[:, inner] == 1)]
    return steps


def _whole_granules(extent: int, quantum: int) -> set[int]:
    """Numbers of parts that give tiles of 1, 2, 3, 4, 6, ... granules."""
    blocks = -(-extent // quantum)
    return {-(-blocks // size) for size in counts(blocks, 4096)} if quantum > 1 else set()


@lru_cache(maxsize=4096)
def _cut_table(chunks: tuple[int, ...], quanta: tuple[int, ...], coarse: bool) -> tuple[tuple[int, ...], ...]:
    """Cuts of nested dimensions with these indices per core, outermost first."""
    found = [(1,) * len(chunks)]
    for position, extent in enumerate(chunks):
        innermost = position == len(chunks) - 1
        inside = (1,) * (len(chunks) - position - 1)
        found += [
            (*chunks[:position], parts, *inside)
            for parts in sorted({*counts(extent, 4096), *_whole_granules(extent, quanta[position])})
            if parts > 1 and not (coarse and innermost and extent > 16 and extent // parts < 4)
        ]
    return tuple(found)


def _choose(cost: Estimate, site: Site, limit: int) -> tuple[int | None, tuple[int, int]]:
    """Index of the best candidate that fits, and the least (scratchpad, accumulator) bytes any candidate needs."""
    accumulator = site.kind.accumulator
    fits = cost.sram_bytes <= limit
    if accumulator is not None:
        fits &= cost.accumulator_bytes <= accumulator.size_bytes
    least = int(np.argmin(cost.sram_bytes))
    need = (int(cost.sram_bytes[least]), int(cost.accumulator_bytes.min()))
    if not fits.any():
        return None, need
    latency = np.where(fits, cost.latency_s, np.inf)
    close = np.flatnonzero(latency <= latency.min() * SLACK)
    ranked = np.lexsort((cost.transfers[close], cost.dram_bytes[close]))
    return int(close[ranked[0]]), need


def _tiling(
    nest: Nest, cuts: Cuts, quanta: tuple[int, ...], unit: str, dataflow: str, cost: Estimate, index: int
) -> Tiling:
    return Tiling(
        tuple(int(s) for s in cuts.splits[index]),
        tuple(int(s) for s in cuts.steps[index]),
        quanta,
        loop_order(nest, bool(cuts.columns_first[index])),
        unit,
        dataflow,
        float(cost.latency_s[index]),
        float(cost.dram_bytes[index]),
        int(cost.sram_bytes[index]),
        int(cost.accumulator_bytes[index]),
    )


def _does_not_fit(nest: Nest, site: Site, limits: Limits, need: tuple[int, int]) -> DoesNotFit:
    sram, accumulator = need
    if sram > limits.sram_bytes or site.kind.accumulator is None:
        what, needed, available, lever = "scratchpad", sram, limits.sram_bytes, "sram.size"
    else:
        what, needed, available, lever = (
            "accumulator",
            accumulator,
            site.kind.accumulator.size_bytes,
            "accumulator.size",
        )
    return DoesNotFit(
        what=f"the smallest tile of operator {nest.name} ({nest.kind})",
        needed=needed,
        available=available,
        where=f"{what} of a {site.kind.name} core",
        levers=(f"a larger {lever}", "a narrower dtype", "a smaller model input"),
    )
