"""Which boxes of a step move where, as one table for compiled code: all of it that a skeleton decides.

A group are the loads of one operand, its boxes that are read in place, or the results of a step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sim.graph.nest import Nest
from sim.hw.chip import Chip
from sim.mapping.loops import Loops
from sim.mapping.skeleton import Fetch, Skeleton
from sim.mapping.step import Step
from sim.mapping.ways import Level, Ways
from sim.program import RESULT, Int64, Policy


@dataclass(frozen=True, slots=True)
class Group:
    """Boxes [ends, tasks] of `operand` (RESULT: of the result), whose coordinates and whose tasks stand at these places
    among those of all groups, as do the levels of their regions. `name` is that of the skeleton's tasks that move
    them, "" where none do; `looks` says whether these look into the cache."""

    operand: int
    name: str
    shape: tuple[int, int, int]
    boxes: slice
    places: slice
    levels: slice
    looks: bool


@dataclass(frozen=True, slots=True)
class Moving:
    """The groups, as objects and as rows of `table` with the columns of sim/cost/moves.py; `ends` and `tasks` are the
    positions of cores and the iterations of all groups, `ways` those of every end and channel; `packed` [operands].
    `reads` lists (operand, its group, the fetch) of everything that is read. The last group are the results."""

    groups: tuple[Group, ...]
    table: Int64
    ends: Int64
    tasks: Int64
    ways: Int64
    packed: Int64
    reads: tuple[tuple[int, Group, Fetch], ...]


def moving_of(
    step: Step, skeleton: Skeleton, loops: Loops, chip: Chip, ways: Ways, policies: Mapping[int, Policy]
) -> Moving:
    """The groups of a step on a skeleton, made once for all templates that agree in the rest. `policies` says how
    transfers treat the cache, of those that look into it."""
    deal, chips = step.tiling.deal, step.nest.chips
    # The last wave of a dealt nest goes on with what those before it began.
    waits = chips > 1 and chip.links is not None and (deal is None or not deal.first)
    wait_ps = chip.links.ring_latency_ps(chips) if waits and chip.links is not None else 0
    key = ways, tuple(policies.items()), wait_ps
    found = skeleton.moving.get(key)
    if found is None:
        channels = chip.cores[step.kind].dma.channels
        found = skeleton.moving[key] = _Builder(step, skeleton, loops, ways, policies, wait_ps, channels).run()
    return found


class _Builder:
    def __init__(
        self,
        step: Step,
        skeleton: Skeleton,
        loops: Loops,
        ways: Ways,
        policies: Mapping[int, Policy],
        wait_ps: int,
        channels: int,
    ) -> None:
        self.step, self.skeleton, self.loops, self.ways = step, skeleton, loops, ways
        self.policies, self.wait_ps, self.channels = policies, wait_ps, channels
        self.groups: list[Group] = []
        self.rows: list[Sequence[int]] = []
        self.ends: list[Int64] = []
        self.tasks: list[Int64] = []
        self.tables: list[Int64] = []
        # Ends, tasks, ways, coordinates of boxes, boxes, levels of regions so far.
        self.used = [0] * 6

    def run(self) -> Moving:
        nest, reads = self.step.nest, []
        for fetch in self.skeleton.fetches:
            if fetch.resident:
                reads.append((fetch.operand, self._add(fetch.operand, fetch.positions, fetch.fills.first), fetch))
                continue
            leaders, first = fetch.fills.members[:, 0], fetch.fills.first
            loaded = self._add(fetch.operand, leaders, first, f"load{fetch.operand}", self.wait_ps, fetch)
            for number in load_reads(nest, fetch.operand):
                group = loaded if number == fetch.operand else self._add(number, leaders, first)
                reads.append((number, group, fetch))
        self._add(RESULT, self.skeleton.owners, self.loops.result_last, "store" if self.step.store else "")
        return Moving(
            tuple(self.groups),
            np.array(self.rows, np.int64),
            np.concatenate(self.ends),
            np.concatenate(self.tasks),
            np.concatenate([table.reshape(-1) for table in self.tables]) if self.tables else np.zeros(0, np.int64),
            np.array([o.tensor.role == "weight" for o in (*nest.operands, nest.out)], np.int64),
            tuple(reads),
        )

    def _add(
        self, operand: int, ends: Int64, tasks: Int64, name: str = "", wait_ps: int = 0, fetch: Fetch | None = None
    ) -> Group:
        """The boxes of an operand at the cores of `ends` and the iterations of `tasks`."""
        nest = self.step.nest
        one = nest.out if operand == RESULT else nest.operands[operand]
        rank, boxes, looks = len(one.axes), len(ends) * len(tasks), bool(name) and operand in self.policies
        # The fastest axis is always part of the run.
        levels = (1 if one.tensor.role == "weight" else min(rank, max(1, rank - 1))) if looks else 0
        way = hit_way = 0
        if name:
            through: Level = "cache" if operand == RESULT else "fill"
            past = self.policies.get(operand, Policy.BYPASS) == Policy.BYPASS
            way = self._table(ends, fetch, "dram" if past else through)
            hit_way = self._table(ends, fetch, "cache") if looks else 0
        first_end, first_task, _, box, place, level = self.used
        self.rows.append((
            operand if operand != RESULT else len(nest.operands), bool(name), operand == RESULT, one.gathered, looks,
            self.skeleton.groups[name][0] if name else 0, len(ends), len(tasks), first_end, first_task,
            max(operand, 0), box, place, level, levels, way, hit_way, wait_ps,
        ))  # fmt: skip
        group = Group(
            operand,
            name,
            (len(ends), len(tasks), rank),
            slice(box, box + boxes * rank),
            slice(place, place + boxes),
            slice(level, level + boxes * levels),
            looks,
        )
        self.groups.append(group)
        self.ends.append(ends)
        self.tasks.append(tasks)
        self.used[0] += len(ends)
        self.used[1] += len(tasks)
        self.used[3:] = group.boxes.stop, group.places.stop, group.levels.stop
        return group

    def _table(self, ends: Int64, fetch: Fetch | None, level: Level) -> int:
        """Where the ways of a group begin: those of all its ends and channels, at a level of memory."""
        cores, chips = self.loops.cores, self.step.nest.chips
        if fetch is None:
            table = self.ways.table("store", cores[ends][:, None], self.channels, level)
        elif fetch.fills.members.shape[1] > 1:
            table = self.ways.table("multicast", cores[fetch.fills.members], self.channels, level)
        else:
            way = "exchange" if chips > 1 else "load"
            table = self.ways.table(way, cores[fetch.fills.members], self.channels, level, chips)
        self.tables.append(table)
        self.used[2] += table.size
        return self.used[2] - table.size


def load_reads(nest: Nest, index: int) -> tuple[int, ...]:
    """Operands that a load of operand `index` reads from DRAM: itself, and the indices that say where its rows lie."""
    return tuple(range(len(nest.inputs))) if nest.operands[index].gathered else (index,)
