"""The tile search by compiled code: the candidates as the rows that sim/cost/cut_search.py walks, and its winner."""

from __future__ import annotations

from dataclasses import dataclass

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
    `stop` [families, roles] of `levels` (sim/cost/levels.py); row `stop` is the role as a whole, cut evenly. `nest` is
    kept for its identity."""

    nest: Nest
    tables: NestTables
    quanta: Int64
    splits: Int64
    first: Int64
    stop: Int64
    levels: Float64


_FAMILIES: Recent[object, Families] = Recent(LEVEL_BYTES, lambda found: found.levels.nbytes)


def best_cut(
    nest: Nest, site: Site, local: Local, quanta: tuple[int, ...], unit: str, dataflow: str, limit: int, coarse: bool
) -> tuple[Cuts, Estimate, int] | None:  # fmt: skip
    """The best tiling of a nest (row 0 of what is returned) under the partitions over cores that are the keys of
    `local`; None where none fits `limit` bytes of scratchpad. The candidates and the choice among them are those of
    candidates.py and search.py; for cores of which the kernel has the law (`hardware.lacking_law`)."""
    from sim.cost.compiled import columns_of, unit_costs
    from sim.cost.cut_search import search_cuts
    from sim.cost.kernel import ACCUMULATOR_NEED, COSTS, DRAM_BYTES, LATENCY_S, SRAM_NEED, TRANSFERS

    vector = unit == "vector"
    sums = nest.role("k")
    splits = tuple(split for split in local if not (vector and any(split[dim] > 1 for dim in sums)))
    found = _families(nest, splits, quanta, coarse, vector)
    masks = np.array([sum(1 << at for at, here in enumerate(local[split]) if here) for split in splits], np.int64)
    winner, at = np.empty(COSTS), np.empty(2 + len(nest.dims), np.int64)
    if not search_cuts(
        found.tables, columns_of(site, dataflow), np.array(unit_costs(nest, site.kind, unit)), vector, float(limit),
        SLACK, found.splits, masks, found.first, found.stop, found.levels, found.quanta, winner, at,
    ):  # fmt: skip
        return None
    cuts = Cuts(found.splits[at[:1]], at[None, 2:], at[1:2] > 0, ())
    counts = [winner[[column]].astype(np.int64) for column in (TRANSFERS, SRAM_NEED, ACCUMULATOR_NEED)]
    return cuts, Estimate(winner[[LATENCY_S]], winner[[DRAM_BYTES]], *counts), 0


def _families(
    nest: Nest, splits: tuple[tuple[int, ...], ...], quanta: tuple[int, ...], coarse: bool, vector: bool
) -> Families:
    """As candidates.candidates: within a role, an inner dimension is cut only where the outer ones are cut down to
    single indices, so that tiles stay contiguous in memory."""
    from sim.cost.compiled import tables_of
    from sim.cost.cut_search import fill_cuts
    from sim.cost.levels import FIRST, PER_OPERAND

    key = id(nest), splits, quanta, coarse, vector
    known = _FAMILIES.get(key)
    if known is not None:
        return known
    tables, shares = tables_of(nest), _shares(nest, splits, vector)
    cuts = [
        None if share.whole else cut_table(share.chunks, tuple(quanta[dim] for dim in share.dims), coarse)
        for share in shares.different
    ]
    counts = np.array([2 if cut is None else 1 + len(cut) for cut in cuts], np.int64)
    stops = np.cumsum(counts)
    rows, rank = int(stops[-1]), len(nest.dims)
    # In the last row of every share stands the role as a whole.
    steps, even = np.ones((rows, rank), np.int64), np.zeros(rows, np.bool_)
    even[stops - 1] = True
    for share, cut, stop in zip(shares.different, cuts, stops.tolist(), strict=True):
        if cut is not None:
            for column, dim in enumerate(share.dims):
                steps[stop - 1 - len(cut) : stop - 1, dim] = cut[:, column]
    roles, over_cores = np.repeat(shares.role, counts), np.repeat(shares.splits, counts, axis=0)
    levels = np.empty((rows, FIRST + PER_OPERAND * (1 + tables.nests[0, OPERANDS]) + rank))
    granules = np.array(quanta, np.int64)
    fill_cuts(tables, roles, over_cores, steps, even, granules, np.ones_like(granules), levels)
    first, stop = (stops - counts)[shares.of_family], (stops - 1)[shares.of_family]
    found = Families(nest, tables, granules, shares.families, first, stop, levels)
    _FAMILIES[key] = found
    return found


@dataclass(frozen=True, slots=True)
class _Share:
    """The loops `dims` of one role, cut over cores into `chunks` each; cut into tiles, or kept `whole`."""

    dims: tuple[int, ...]
    chunks: tuple[int, ...]
    whole: bool


@dataclass(frozen=True, slots=True)
class _Shares:
    """What partitions `families` [families, dims] make of the roles: the `different` shares, of which `of_family`
    [families, roles] says which one each is, with the `role` [shares] and a partition [shares, dims] of each. `nest` is
    kept for its identity."""

    nest: Nest
    families: Int64
    different: tuple[_Share, ...]
    of_family: Int64
    role: Int64
    splits: Int64


_SHARES: Recent[object, _Shares] = Recent(1 << 12)


def _shares(nest: Nest, splits: tuple[tuple[int, ...], ...], vector: bool) -> _Shares:
    """The shares of all roles: they do not depend on the granules of the cuts."""
    key = id(nest), splits, vector
    known = _SHARES.get(key)
    if known is not None:
        return known
    found: list[_Share] = []
    role_and_split: list[tuple[int, tuple[int, ...]]] = []
    of_family = np.empty((len(splits), len(ROLES)), np.int64)
    for place, role in enumerate(ROLES):
        dims = nest.role(role)
        seen: dict[tuple[int, ...], int] = {}
        for family, split in enumerate(splits):
            mine = tuple(split[dim] for dim in dims)
            if mine not in seen:
                seen[mine] = len(found)
                chunks = tuple(nest.dims[dim].extent // parts for dim, parts in zip(dims, mine, strict=True))
                found.append(_Share(dims, chunks, whole=not dims or (vector and role == "k")))
                role_and_split.append((place, split))
            of_family[family, place] = seen[mine]
    roles, of_share = (np.array(column, np.int64) for column in zip(*role_and_split, strict=True))
    shares = _Shares(nest, np.array(splits, np.int64), tuple(found), of_family, roles, of_share)
    _SHARES[key] = shares
    return shares
