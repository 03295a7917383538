"""The tile search by compiled code: the candidates as the rows that sim/cost/cut_search.py walks, and its winner."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from threading import Lock

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
    """Levels of the shares seen so far, by their number: rows `ends[0]` to `ends[1]` [2, shares] of `levels` (-1: not
    seen yet), of which the last is the role as a whole. Who numbers them is kept for its identity."""

    numbered: _Numbered
    ends: Int64
    levels: Float64


_LEVELS: Recent[object, _Levels] = Recent(LEVEL_BYTES, lambda found: found.levels.nbytes)


def best_cut(
    nest: Nest, site: Site, local: Local, quanta: tuple[int, ...], unit: str, dataflow: str, limit: int, coarse: bool
) -> tuple[Cuts, Estimate, int, float | None] | None:  # fmt: skip
    """The best tiling of a nest (row 0 of what is returned), and its seconds where the result stays in the
    scratchpads, under the partitions over cores that are the keys of `local`; None where none fits `limit` bytes of
    scratchpad. The candidates and the choice among them are those of candidates.py and search.py; for cores of which
    the kernel has the law (`hardware.lacking_law`)."""
    from sim.cost.compiled import columns_of, unit_columns
    from sim.cost.cut_search import search_cuts
    from sim.cost.kernel import ACCUMULATOR_NEED, COSTS, DRAM_BYTES, LATENCY_S, SRAM_NEED, TRANSFERS

    vector = unit == "vector"
    sums = nest.role("k") if vector else ()
    splits = tuple(split for split in local if not any(split[dim] > 1 for dim in sums)) if sums else tuple(local)
    found = _families(nest, splits, quanta, coarse, vector)
    masks = np.array([_mask(local[split]) for split in splits], np.int64)
    costs, at = np.empty((2, COSTS)), np.empty(2 + len(nest.dims), np.int64)
    if not search_cuts(
        found.tables, columns_of(site, dataflow), unit_columns(nest, site, unit), vector, float(limit),
        SLACK, found.splits, masks, found.first, found.stop, found.levels, found.quanta, costs, at,
    ):  # fmt: skip
        return None
    cuts = Cuts(found.splits[at[:1]], at[None, 2:], at[1:2] > 0, ())
    counts = [costs[:1, column].astype(np.int64) for column in (TRANSFERS, SRAM_NEED, ACCUMULATOR_NEED)]
    return cuts, Estimate(costs[:1, LATENCY_S], costs[:1, DRAM_BYTES], *counts), 0, float(costs[1, LATENCY_S])


@lru_cache(maxsize=1 << 10)
def _mask(resident: tuple[bool, ...]) -> int:
    """The operands that are resident as a bit mask."""
    return sum(1 << at for at, here in enumerate(resident) if here)


def _families(
    nest: Nest, splits: tuple[tuple[int, ...], ...], quanta: tuple[int, ...], coarse: bool, vector: bool
) -> Families:
    """As candidates.candidates: within a role, an inner dimension is cut only where the outer ones are cut down to
    single indices, so that tiles stay contiguous in memory."""
    from sim.cost.compiled import tables_of

    shares = _shares(nest, splits, vector)
    key = id(shares.numbered), quanta, coarse
    known = _LEVELS.get(key)
    if known is None or known.ends.shape[1] <= shares.most or known.ends[0, shares.different].min() < 0:
        known = _LEVELS[key] = _with_levels(known, shares, quanta, coarse)
    first, stop = known.ends[0][shares.of_family], known.ends[1][shares.of_family]
    return Families(tables_of(nest), np.array(quanta, np.int64), shares.families, first, stop, known.levels)


def _with_levels(known: _Levels | None, shares: _Shares, quanta: tuple[int, ...], coarse: bool) -> _Levels:
    """The levels known so far and those of more shares: of each its ways to be cut into tiles, and the role as a
    whole."""
    from sim.cost.compiled import tables_of
    from sim.cost.cut_search import fill_cuts
    from sim.cost.levels import FIRST, PER_OPERAND

    nest, begin = shares.numbered.nest, 0 if known is None else len(known.levels)
    ends = np.full((2, 1 + max(shares.most, 0 if known is None else known.ends.shape[1] - 1)), -1, np.int64)
    if known is not None:
        ends[:, : known.ends.shape[1]] = known.ends
    new = [share for share in shares.shares if ends[0, share.number] < 0]
    cuts = [_steps(share, tuple([quanta[dim] for dim in share.dims]), coarse) for share in new]
    steps, tables = np.concatenate(cuts), tables_of(nest)
    counts = np.array([len(cut) for cut in cuts], np.int64)
    stops = counts.cumsum()
    roles = np.array([share.role for share in new], np.int64)
    over_cores = np.array([share.split for share in new], np.int64)
    levels = np.empty((len(steps), FIRST + PER_OPERAND * (1 + tables.nests[0, OPERANDS]) + len(nest.dims)))
    granules = np.array(quanta, np.int64)
    fill_cuts(tables, roles, over_cores, stops, steps, granules, np.ones_like(granules), levels)
    numbers = [share.number for share in new]
    ends[0, numbers], ends[1, numbers] = begin + stops - counts, begin + stops - 1
    return _Levels(shares.numbered, ends, levels if known is None else np.concatenate([known.levels, levels]))


@lru_cache(maxsize=1 << 14)
def _steps(share: _Share, quanta: tuple[int, ...], coarse: bool) -> Int64:
    """The ways to cut a share into tiles, [ways + 1, loops of the nest], at these granules of its own loops, and last
    the share as a whole (read-only)."""
    cut = None if share.whole else cut_table(share.chunks, quanta, coarse)
    found = np.ones((2 if cut is None else 1 + len(cut), len(share.split)), np.int64)
    if cut is not None:
        found[:-1, share.dims] = cut
    found.flags.writeable = False
    return found


@dataclass(frozen=True, slots=True)
class _Share:
    """The loops `dims` of one role, cut over cores into `chunks` each; cut into tiles, or kept `whole`. `split` is one
    of the partitions that do so, `number` its place among all of the nest."""

    number: int
    role: int
    dims: tuple[int, ...]
    chunks: tuple[int, ...]
    whole: bool
    split: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Numbered:
    """All shares of a nest on a unit so far, by role and parts over cores, in the order in which they were numbered."""

    nest: Nest
    vector: bool
    shares: dict[tuple[int, tuple[int, ...]], _Share] = field(default_factory=dict)

    def share(self, place: int, split: tuple[int, ...]) -> _Share:
        """What a partition makes of one role; a new one gets the next number."""
        nest = self.nest
        dims = nest.role(ROLES[place])
        parts = tuple(split[dim] for dim in dims)
        known = self.shares.get((place, parts))
        if known is None:
            chunks = tuple(nest.dims[dim].extent // part for dim, part in zip(dims, parts, strict=True))
            whole = not dims or (self.vector and ROLES[place] == "k")
            known = self.shares[place, parts] = _Share(len(self.shares), place, dims, chunks, whole, split)
        return known


@dataclass(frozen=True, slots=True)
class _Shares:
    """What partitions `families` [families, dims] make of the roles: the `shares` that occur, and of which number the
    one of each family and role is (`of_family` [families, roles]); the `different` numbers, and the greatest of them,
    `most`."""

    numbered: _Numbered
    families: Int64
    shares: tuple[_Share, ...]
    of_family: Int64
    different: Int64
    most: int


_SHARES: Recent[object, _Shares] = Recent(1 << 12)

_NUMBERED: Recent[object, _Numbered] = Recent(1 << 12)
_NUMBERING = Lock()


def _shares(nest: Nest, splits: tuple[tuple[int, ...], ...], vector: bool) -> _Shares:
    """The shares of all roles: they do not depend on the granules of the cuts."""
    key = id(nest), splits, vector
    known = _SHARES.get(key)
    if known is None:
        with _NUMBERING:
            # Keys have ids of nests that their values keep alive.
            numbered = _NUMBERED.setdefault((id(nest), vector), _Numbered(nest, vector))
            found = [[numbered.share(place, split) for place in range(len(ROLES))] for split in splits]
        different = {share.number: share for family in found for share in family}
        of_family = np.array([[share.number for share in family] for family in found], np.int64)
        families, numbers = np.array(splits, np.int64), np.array(list(different), np.int64)
        shares = tuple(different.values())
        known = _SHARES[key] = _Shares(numbered, families, shares, of_family, numbers, max(different))
    return known
