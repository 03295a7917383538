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
    tables, rank = tables_of(nest), len(nest.dims)
    spans = np.empty((len(splits), 2, len(ROLES)), np.int64)
    parts: list[Int64] = []
    of_role: list[tuple[int, tuple[int, ...], int]] = []
    rows = 0
    for place, role in enumerate(ROLES):
        dims = nest.role(role)
        fine = tuple(quanta[dim] for dim in dims)
        seen: dict[tuple[int, ...], tuple[int, int]] = {}
        for family, split in enumerate(splits):
            mine = tuple(split[dim] for dim in dims)
            if mine not in seen:
                steps = _steps(nest, dims, mine, fine, rank, coarse, whole=not dims or (vector and role == "k"))
                parts.append(steps)
                of_role.append((place, split, len(steps)))
                seen[mine] = rows, rows + len(steps) - 1
                rows += len(steps)
            spans[family, :, place] = seen[mine]
    steps = np.concatenate(parts)
    counts = np.array([count for *_, count in of_role])
    roles = np.repeat(np.array([role for role, *_ in of_role], np.int64), counts)
    over_cores = np.repeat(np.array([split for _, split, _ in of_role], np.int64), counts, axis=0)
    levels = np.empty((rows, FIRST + PER_OPERAND * (1 + tables.nests[0, OPERANDS]) + rank))
    granules = np.array(quanta, np.int64)
    even = np.zeros(rows, np.bool_)
    even[np.cumsum(counts) - 1] = True
    fill_cuts(tables, roles, over_cores, steps, even, granules, levels)
    first, stop = np.ascontiguousarray(spans[:, 0]), np.ascontiguousarray(spans[:, 1])
    found = Families(nest, tables, granules, np.array(splits, np.int64), first, stop, levels)
    _FAMILIES[key] = found
    return found


def _steps(
    nest: Nest,
    dims: tuple[int, ...],
    split: tuple[int, ...],
    quanta: tuple[int, ...],
    rank: int,
    coarse: bool,
    whole: bool,
) -> Int64:
    """Tiles per core [rows, dims of the nest] of every way to cut the loops of a role; in the last row the whole."""
    if whole:
        return np.ones((2, rank), np.int64)
    chunks = tuple(nest.dims[dim].extent // parts for dim, parts in zip(dims, split, strict=True))
    table = cut_table(chunks, quanta, coarse)
    found = np.ones((len(table) + 1, rank), np.int64)
    found[:-1, dims] = table
    return found
