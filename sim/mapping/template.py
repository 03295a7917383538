"""The tasks of one mapped loop nest by themselves: without names, addresses or what came before.

Lowering sets a template into its surroundings through its ports (first fills, loads, stores, reads in place), so
that equal layers of a network, and the same network again, are emitted once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.mapping.fabric import Fabric
from sim.mapping.loops import Fills, Loops
from sim.mapping.memo import Recent
from sim.mapping.occupancy import Ports
from sim.mapping.online import Online
from sim.mapping.regions import Regions
from sim.program import Policy

Int64 = npt.NDArray[np.int64]

TEMPLATE_BYTES = 128 << 20
"""Memory that remembered templates may take."""


@dataclass(frozen=True, slots=True)
class Read:
    """`tasks` [groups, fills] read boxes [groups, fills, rank] of an operand of the nest: from DRAM, or, with
    `positions` [groups], in the scratchpads of the step's cores at these positions."""

    operand: int
    tasks: Int64
    start: Int64
    stop: Int64
    positions: Int64 | None = None


@dataclass(frozen=True, slots=True)
class Lookups:
    """`tasks` [any] look into the cache for regions of an operand of the nest (RESULT: its result), by their offset in
    the tensor. `hit_path` and `rest_path` are rows of the template's paths: the way of what is there, and the way
    between cache and DRAM; `hit_dur` the head latency of the former."""

    operand: int
    policy: Policy
    tasks: Int64
    where: Regions
    hit_path: Int64
    hit_dur: Int64
    rest_path: Int64


@dataclass(frozen=True, slots=True)
class Round:
    """One round of a split sum: positions of senders, of their receivers and of the leaves among the senders, and
    the tasks, one row per position: copies out of the leaves' accumulators, sends, additions. `fresh` says which
    receivers add to their accumulator rather than to their part so far."""

    senders: Int64
    receivers: Int64
    leaves: Int64
    copies: Int64 | None
    sends: Int64
    adds: Int64
    fresh: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Work:
    """What the tasks do, summed up: action counts, multiply-accumulates by core, the largest tile by dimension."""

    counts: Mapping[str, float]
    core_macs: Mapping[int, int]
    tile: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Template:
    """Tasks are numbered in program order from 0; every array of tasks holds such numbers.

    Columns as in a Segment, but `path` is a row of `paths`, numbers of routes (sim/mapping/ways.py; -1: none).
    `edges` (task, predecessor) are those within. Over positions in the step's cores: `main` [cores, iterations] and
    `drain` [cores, result tiles], the computing tasks; `stores` [owners, result tiles] or None, `first_stores` the
    first of every channel; `starts` [cores, 1 or 2], the first products of each part of the accumulator (used as
    `halves` parts in turn), and `empties`, the last tasks that emptied it, None on the vector unit; `ports`, the
    buffers that the step uses; `loads`, the tasks [groups, fills] of every operand not read in place; `rounds`, those
    of a split sum; `lookups`, the transfers that look into the cache; `online`, the further tasks of an attention, of
    which `main` are the values. `results` are the boxes [owners, result tiles, rank] of the result.
    """

    loops: Loops
    owners: Int64
    columns: tuple[Int64, Int64, Int64, Int64, Int64]
    path: Int64
    paths: Int64
    edges: tuple[Int64, Int64]
    main: Int64
    drain: Int64
    stores: Int64 | None
    first_stores: Int64 | None
    starts: Int64 | None
    empties: Int64 | None
    halves: int
    ports: Ports
    reads: tuple[Read, ...]
    loads: Mapping[int, tuple[Int64, Fills]]
    rounds: tuple[Round, ...]
    results: tuple[Int64, Int64]
    work: Work
    lookups: tuple[Lookups, ...] = ()
    online: Online | None = None

    @property
    def tasks(self) -> int:
        return len(self.path)

    @property
    def ends(self) -> Int64:
        """Tasks behind which nothing of the nest is left to do: every store, or what computes a result that stays."""
        return (self.drain if self.stores is None else self.stores).reshape(-1)

    @property
    def size_bytes(self) -> int:
        """Memory of the columns, edges and boxes; the rest is small beside them."""
        boxes = [array for read in self.reads for array in (read.tasks, read.start, read.stop)]
        computing = (self.main, self.drain, *self.results)
        loops = (*self.loops.low, *self.loops.high)
        looked_up = [a for found in self.lookups for a in (found.where.count, found.where.pitch_bytes)]
        looked_up += [found.where.offset_bytes for found in self.lookups] * 6
        every = (*self.columns, self.path, *self.edges, *boxes, *computing, *loops, *looked_up)
        return sum(a.nbytes for a in every)

    def route_rows(self, fabric: Fabric) -> Int64:
        """Row in the tables of `fabric` of every path; -1 behind them, for tasks without a path."""
        return np.append(fabric.rows(self.paths), -1)


TEMPLATES: Recent[object, Template] = Recent(TEMPLATE_BYTES, lambda template: template.size_bytes)
"""Templates of this process, by everything they depend on."""
