"""Cuts of nests over cores as the tables that the compiled search reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sim.cost import kernel
from sim.cost.designs import Designs
from sim.cost.hardware import port_bandwidth
from sim.cost.nest_tables import NestTables
from sim.cost.wires import PLACED, Wiring, wiring_of
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
    nest is cut; `wires` [cuts, operands, 2] what cuts make of the busiest port and link (sim/cost/wires.py)."""

    splits: Int64
    spans: Int64
    shares: Int64
    share_count: int
    wires: Float64


Known = dict[tuple[Partitions, int, Wiring | None], CutTable]
"""Cuts by what they were asked for: so many cores, on an interconnect (None: one that is no limit)."""

MOST_KNOWN = 128
"""Tables of cuts that a model keeps, some 50 KB each; the oldest go first."""


def joined_cuts(
    nests: Sequence[Nest], tables: NestTables, known: Known, partitions: Partitions, designs: Designs
) -> tuple[CutTable, Int64]:
    """The cuts over the cores of all designs, and the spans [designs, kinds, nests, 2] of each; those of a number of
    cores on an interconnect are made once, into `known`. Cuts over as many cores have the same shares."""
    kinds = max(len(chip.cores) for chip in designs.chips)
    blocks: dict[tuple[int, Wiring | None], int] = {}
    block_of = np.zeros((len(designs.chips), kinds), np.int64)
    limited = _limited(designs)
    for at, chip in enumerate(designs.chips):
        first = 0
        for kind in range(kinds):
            count = chip.cores[kind].count if kind < len(chip.cores) else 0
            cores = tuple(range(first, first + count))
            wiring = wiring_of(chip.interconnect, cores) if limited[at] and count else None
            block_of[at, kind] = blocks.setdefault((count, wiring), len(blocks))
            first += count
    parts = [_known_cuts(nests, tables, known, partitions, *block) for block in blocks]
    shares_from, share_count = {}, 0
    for (count, _), part in zip(blocks, parts, strict=True):
        if count not in shares_from:
            shares_from[count], share_count = share_count, share_count + part.share_count
    rows = np.cumsum([0, *(len(part.splits) for part in parts)])[:-1].tolist()
    joined = CutTable(
        np.concatenate([part.splits for part in parts]),
        np.stack([part.spans + row for part, row in zip(parts, rows, strict=True)]),
        np.concatenate([part.shares + shares_from[count] for (count, _), part in zip(blocks, parts, strict=True)]),
        max(1, share_count),
        np.concatenate([part.wires for part in parts]),
    )
    return joined, joined.spans[block_of[designs.chip_of]]


def _limited(designs: Designs) -> list[bool]:
    """May links or ports of any design with this structure be slower than its memory?"""
    links = designs.column("interconnect", "link_bandwidth_bytes_per_s")
    slower = np.minimum(links, port_bandwidth(designs)) < designs.column("dram", "bandwidth_bytes_per_s")
    return [bool(one) for one in np.bincount(designs.chip_of, slower, len(designs.chips)) > 0]


def _known_cuts(
    nests: Sequence[Nest], tables: NestTables, known: Known, partitions: Partitions, count: int, wiring: Wiring | None
) -> CutTable:
    key = partitions, count, wiring
    found = known.get(key)
    if found is None:
        if wiring is None:
            found = _cut_table(nests, tables, partitions, count)
        else:
            plain = _known_cuts(nests, tables, known, partitions, count, None)
            wires = np.empty_like(plain.wires)
            for nest, (first, stop) in enumerate(plain.spans.tolist()):
                wires[first:stop] = wiring.counted(tables, nest, plain.splits[first:stop])[0][:, PLACED]
            found = replace(plain, wires=wires)
        if len(known) >= MOST_KNOWN:
            known.pop(next(iter(known)), None)
        known[key] = found
    return found


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
    wires = np.zeros((len(table), tables.operands.shape[1], 2))
    return CutTable(table, spans, np.array(shares, np.int64).reshape(-1, 4), len(numbers), wires)


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
