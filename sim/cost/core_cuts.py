"""Cuts of nests over cores as the tables that the compiled search reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.cost import kernel
from sim.cost.nest_tables import NestTables
from sim.graph.nest import Nest
from sim.hw.systolic import DATAFLOWS

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Partitions = Callable[[Nest, int], Sequence[tuple[int, ...]]]
"""The cuts of a nest over so many cores that are to be tried, never empty."""


@dataclass(frozen=True, eq=False)
class CutTable:
    """Cuts of all nests of a model: `splits` [cuts, dims] parts of every loop; a nest's are `spans` [..., nests, 2]
    (first, one past the last). `shares` [cuts, 4] numbers below `share_count`, one for each distinct way a role of a
    nest is cut."""

    splits: Int64
    spans: Int64
    shares: Int64
    share_count: int


def joined_cuts(
    nests: Sequence[Nest],
    tables: NestTables,
    known: dict[tuple[Partitions, int], CutTable],
    partitions: Partitions,
    hardware: Float64,
) -> tuple[CutTable, Int64]:
    """The cuts over as many cores as any of the designs has, and the spans [designs, kinds, nests, 2] of each; those of
    a number of cores are made once, into `known`."""
    cores = hardware[:, :, kernel.CORES].astype(np.int64)
    counts, which = np.unique(cores, return_inverse=True)
    parts = []
    for count in counts.tolist():
        if (partitions, count) not in known:
            known[partitions, count] = _cut_table(nests, tables, partitions, count)
        parts.append(known[partitions, count])
    rows = np.cumsum([0, *(len(part.splits) for part in parts)])
    shares = np.cumsum([0, *(part.share_count for part in parts)])
    spans = np.stack([part.spans + first for part, first in zip(parts, rows.tolist(), strict=False)])
    joined = CutTable(
        np.concatenate([part.splits for part in parts]),
        spans,
        np.concatenate([part.shares + first for part, first in zip(parts, shares.tolist(), strict=False)]),
        max(1, int(shares[-1])),
    )
    return joined, spans[which.reshape(cores.shape)]


def _cut_table(nests: Sequence[Nest], tables: NestTables, partitions: Partitions, cores: int) -> CutTable:
    """The cuts over so many cores; none over no core."""
    width = tables.extent.shape[1]
    splits: list[tuple[int, ...]] = []
    shares: list[list[int]] = []
    spans = np.zeros((len(nests), 2), np.int64)
    numbers: dict[tuple[object, ...], int] = {}
    for index, nest in enumerate(nests):
        spans[index] = len(splits)
        roles = tables.role[index, : len(nest.dims)].tolist()
        for cut in partitions(nest, cores) if cores else ():
            splits.append((*cut, *(1,) * (width - len(cut))))
            by_role = [tuple(p for p, mine in zip(cut, roles, strict=True) if mine == role) for role in range(4)]
            shares.append([numbers.setdefault((index, role, by), len(numbers)) for role, by in enumerate(by_role)])
        spans[index, 1] = len(splits)
    table = np.array(splits, np.int64).reshape(-1, width)
    return CutTable(table, spans, np.array(shares, np.int64).reshape(-1, 4), len(numbers))


def granules(hardware: Float64) -> tuple[Int64, int]:
    """[designs, kinds, 4]: a number for each distinct granule of the cuts of a role, 0 for none, and one more than the
    largest; see sim.mapping.search.cut_quanta."""
    rows, cols = hardware[:, :, kernel.ROWS], hardware[:, :, kernel.COLS]
    dataflow = hardware[:, :, kernel.DATAFLOW]
    sides = np.zeros((*rows.shape, 4))
    moving = dataflow == DATAFLOWS.index("input_stationary")
    staying = dataflow == DATAFLOWS.index("output_stationary")
    sides[:, :, 1] = np.where(moving, cols, np.where(staying, rows, 0))
    sides[:, :, 2] = np.where(moving, 0, cols * hardware[:, :, kernel.ARRAYS])
    sides[:, :, 3] = np.where(staying, 0, rows)
    distinct, which = np.unique(np.concatenate([[0.0], sides.reshape(-1)]), return_inverse=True)
    return which[1:].reshape(sides.shape).astype(np.int64), len(distinct)
