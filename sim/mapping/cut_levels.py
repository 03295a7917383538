"""The tile search by compiled code: the candidates as the rows that sim/cost/cut_search.py walks, and its winner."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sim.cost.estimate import Cuts, Estimate, Site
from sim.cost.nest_tables import OPERANDS, NestTables
from sim.graph.nest import Nest
from sim.mapping.candidates import ROLES, SLACK, Local, cut_table
from sim.mapping.memo import Recent

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

LEVEL_BYTES = 64 << 20
"""Memory that remembered levels may take."""


@dataclass(frozen=True, slots=True)
class Families:
    """All ways to cut a nest: `splits` [families, dims] over cores, and by family and role the rows `first` to
    `stop` [families, roles] of `levels` (sim/cost/levels.py); row `stop` is the role as a whole, cut evenly."""

    tables: NestTables
    quanta: Int64
    splits: Int64
    first: Int64
    stop: Int64
    levels: Float64


@dataclass(frozen=True, slots=True)
class _Levels:
    """Rows of `levels` (`first`, of which `stop` is the last) by role and chunks of shares seen so far. `nest` is kept
    for its identity."""

    nest: Nest
    rows: dict[_Share, tuple[int, int]]
    levels: Float64


_LEVELS: Recent[object, _Levels] = Recent(LEVEL_BYTES, lambda found: found.levels.nbytes)


def best_cut(
    nest: Nest, site: Site, local: Local, quanta: tuple[int, ...], unit: str, dataflow: str, limit: int, coarse: bool
) -> tuple[Cuts, Estimate, int, float | None] | None:  # fmt: skip
    """The best tiling of a nest (row 0 of what is returned), and its seconds where the result stays in the
    scratchpads, under the partitions over cores that are the keys of `local`; None where none fits `limit` bytes of
    scratchpad. The candidates and the choice among them are those of candidates.py and search.py; for cores of which
    the kernel has the law (`hardware.lacking_law`)."""
    from sim.cost.compiled import columns_of, unit_costs
    from sim.cost.cut_search import search_cuts
    from sim.cost.kernel import ACCUMULATOR_NEED, COSTS, DRAM_BYTES, LATENCY_S, SRAM_NEED, TRANSFERS

    vector = unit == "vector"
    sums = nest.role("k")
    splits = tuple(split for split in local if not (vector and any(split[dim] > 1 for dim in sums)))
    found = _families(nest, splits, quanta, coarse, vector)
    masks = np.array([sum(1 << at for at, here in enumerate(local[split]) if here) for split in splits], np.int64)
    costs, at = np.empty((2, COSTS)), np.empty(2 + len(nest.dims), np.int64)
    if not search_cuts(
        found.tables, columns_of(site, dataflow), np.array(unit_costs(nest, site.kind, unit)), vector, float(limit),
        SLACK, found.splits, masks, found.first, found.stop, found.levels, found.quanta, costs, at,
    ):  # fmt: skip
        return None
    cuts = Cuts(found.splits[at[:1]], at[None, 2:], at[1:2] > 0, ())
    counts = [costs[:1, column].astype(np.int64) for column in (TRANSFERS, SRAM_NEED, ACCUMULATOR_NEED)]
    return cuts, Estimate(costs[:1, LATENCY_S], costs[:1, DRAM_BYTES], *counts), 0, float(costs[1, LATENCY_S])


def _families(
    nest: Nest, splits: tuple[tuple[int, ...], ...], quanta: tuple[int, ...], coarse: bool, vector: bool
) -> Families:
    """As candidates.candidates: within a role, an inner dimension is cut only where the outer ones are cut down to
    single indices, so that tiles stay contiguous in memory."""
    from sim.cost.compiled import tables_of

    shares = _shares(nest, splits, vector)
    key = id(nest), quanta, coarse, vector
    known = _LEVELS.get(key)
    new = [share for share in shares.different if known is None or share not in known.rows]
    if new or known is None:
        known = _LEVELS[key] = _with_levels(known, nest, new, quanta, coarse)
    rows = np.array([known.rows[share] for share in shares.different], np.int64)[shares.of_family]
    first, stop = np.ascontiguousarray(rows[..., 0]), np.ascontiguousarray(rows[..., 1])
    return Families(tables_of(nest), np.array(quanta, np.int64), shares.families, first, stop, known.levels)


def _with_levels(
    known: _Levels | None, nest: Nest, shares: Sequence[_Share], quanta: tuple[int, ...], coarse: bool
) -> _Levels:
    """The levels known so far and those of more shares: of each its ways to be cut into tiles, and the role as a
    whole."""
    from sim.cost.compiled import tables_of
    from sim.cost.cut_search import fill_cuts
    from sim.cost.levels import FIRST, PER_OPERAND

    cuts = [
        None if share.whole else cut_table(share.chunks, tuple(quanta[dim] for dim in share.dims), coarse)
        for share in shares
    ]
    counts = np.array([2 if cut is None else 1 + len(cut) for cut in cuts], np.int64)
    stops = np.cumsum(counts)
    count, rank, tables = int(stops[-1]), len(nest.dims), tables_of(nest)
    steps, even = np.ones((count, rank), np.int64), np.zeros(count, np.bool_)
    even[stops - 1] = True
    for share, cut, stop in zip(shares, cuts, stops.tolist(), strict=True):
        if cut is not None:
            for column, dim in enumerate(share.dims):
                steps[stop - 1 - len(cut) : stop - 1, dim] = cut[:, column]
    roles = np.repeat(np.array([share.role for share in shares], np.int64), counts)
    over_cores = np.repeat(np.array([share.split for share in shares], np.int64), counts, axis=0)
    levels = np.empty((count, FIRST + PER_OPERAND * (1 + tables.nests[0, OPERANDS]) + rank))
    granules = np.array(quanta, np.int64)
    fill_cuts(tables, roles, over_cores, steps, even, granules, np.ones_like(granules), levels)
    stops += 0 if known is None else len(known.levels)
    ends: Iterable[tuple[int, int]] = zip((stops - counts).tolist(), (stops - 1).tolist(), strict=True)
    rows = dict(zip(shares, ends, strict=True))
    if known is not None:
        rows, levels = known.rows | rows, np.concatenate([known.levels, levels])
    return _Levels(nest, rows, levels)


@dataclass(frozen=True, slots=True)
class _Share:
    """The loops `dims` of one role, cut over cores into `chunks` each; cut into tiles, or kept `whole`. `split` is one
    of the partitions that do so."""

    role: int
    dims: tuple[int, ...]
    chunks: tuple[int, ...]
    parts: tuple[int, ...]
    whole: bool
    split: tuple[int, ...] = field(compare=False)


@dataclass(frozen=True, slots=True)
class _Shares:
    """What partitions `families` [families, dims] make of the roles: the `different` shares, of which `of_family`
    [families, roles] says which one each is. `nest` is kept for its identity."""

    nest: Nest
    families: Int64
    different: tuple[_Share, ...]
    of_family: Int64


_SHARES: Recent[object, _Shares] = Recent(1 << 12)


def _shares(nest: Nest, splits: tuple[tuple[int, ...], ...], vector: bool) -> _Shares:
    """The shares of all roles: they do not depend on the granules of the cuts."""
    key = id(nest), splits, vector
    known = _SHARES.get(key)
    if known is not None:
        return known
    found: dict[tuple[int, tuple[int, ...]], _Share] = {}
    for place, role in enumerate(ROLES):
        dims = nest.role(role)
        for split in splits:
            parts = tuple(split[dim] for dim in dims)
            if (place, parts) not in found:
                chunks = tuple(nest.dims[dim].extent // part for dim, part in zip(dims, parts, strict=True))
                whole = not dims or (vector and role == "k")
                found[place, parts] = _Share(place, dims, chunks, parts, whole, split)
    number = {key: at for at, key in enumerate(found)}
    of_role = [nest.role(role) for role in ROLES]
    of_family = [
        [number[place, tuple(split[dim] for dim in dims)] for place, dims in enumerate(of_role)] for split in splits
    ]
    shares = _Shares(nest, np.array(splits, np.int64), tuple(found.values()), np.array(of_family, np.int64))
    _SHARES[key] = shares
    return shares
