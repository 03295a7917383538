"""Which tasks a mapped loop nest has, in what order, and who waits for whom: all that does not depend on how large
tiles are, how long they take and where they lie.

What orders the tasks: a tile is computed when its loads have finished; a buffer slot is filled again when the last
compute that used it has finished; a sum is started when the accumulator half it needs has been emptied; a result
slot is written again when its store has finished. What earlier steps have to do with it is left to the ports of the
template.

Designs whose arrays, scratchpads or bandwidths differ mostly cut a layer into as many tiles, in the same order: they
share one skeleton.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sim.graph.nest import Operand
from sim.hw.core import CoreKind
from sim.mapping.buffers import buffers
from sim.mapping.fabric import Fabric
from sim.mapping.loops import Fills, Loops, operand_number
from sim.mapping.memo import Recent
from sim.mapping.occupancy import Claim, Ports, ports_of
from sim.mapping.online import Online, add_online, needed_at
from sim.mapping.split_sum import SplitSum
from sim.mapping.step import Step
from sim.mapping.table import COMPUTE, DRAIN, LOAD, STORE, Batch, together
from sim.mapping.template import Round
from sim.program import Kind

if TYPE_CHECKING:
    from sim.mapping.moving import Moving

Int64 = npt.NDArray[np.int64]

SKELETON_BYTES = 64 << 20
"""Memory that remembered skeletons may take."""

MOST_MOVING = 4
"""Ways through a chip for which a skeleton remembers what moves where."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """How operand number `operand` comes to the cores at `positions`: `tasks` are its loads [groups, fills], or, where
    it is `resident`, the tasks [positions, fills] that read it in place."""

    operand: int
    positions: Int64
    fills: Fills
    tasks: Int64
    resident: bool


@dataclass(frozen=True, slots=True)
class Skeleton:
    """Tasks in program order, numbered from 0, by the names of `Template`, and the columns that are known: `kind` and
    `queue`. `order` is the place among all that were added of every task, `place` the other way round; `groups` says
    where those added under one name begin there, and their shape: main, drain, load0, ..., store; copy0, send0, add0,
    ... and launch of a split sum; scores, shares, merge of an attention. `moving` is what sim/mapping/moving.py made
    of it."""

    owners: Int64
    kind: Int64
    queue: Int64
    order: Int64
    place: Int64
    groups: Mapping[str, tuple[int, tuple[int, ...]]]
    edges: tuple[Int64, Int64]
    main: Int64
    drain: Int64
    stores: Int64 | None
    first_stores: Int64 | None
    starts: Int64 | None
    empties: Int64 | None
    halves: int
    ports: Ports
    fetches: tuple[Fetch, ...]
    rounds: tuple[Round, ...]
    online: Online | None
    moving: Recent[object, Moving] = field(default_factory=partial(Recent, MOST_MOVING), repr=False, compare=False)

    @property
    def size_bytes(self) -> int:
        """Memory of the columns and edges; the rest is small beside them."""
        return 8 * (7 * len(self.order) + 2 * len(self.edges[0]))


SKELETONS: Recent[object, Skeleton] = Recent(SKELETON_BYTES, lambda skeleton: skeleton.size_bytes)
"""Skeletons of this process, by everything they depend on."""


def skeleton_of(step: Step, kind: CoreKind, fabric: Fabric, loops: Loops) -> Skeleton:
    """The skeleton of a step whose loops these are, from memory if an equal one was made before."""
    tiling = step.tiling
    turned = tiling.splits, tiling.steps, tiling.order, tiling.staying
    cut = *turned, tiling.unit, tiling.slots, tiling.deal, tiling.rows is None
    fate = step.cores, step.resident, step.keep, step.store
    slots = tuple((buffer.name, buffer.slots) for buffer in buffers(step))
    halves = accumulator_halves(step, kind)
    key = fabric.queueing, step.signature, cut, fate, slots, halves
    found = SKELETONS.get(key)
    if found is None:
        found = SKELETONS[key] = Builder(step, kind, fabric, loops, dict(slots), halves).run()
    return found


def accumulator_halves(step: Step, kind: CoreKind) -> int:
    """Parts in which the accumulator is used in turn: 1 where two result tiles do not fit; 0 on the vector unit."""
    tiling, size = step.tiling, kind.accumulator.size_bytes if kind.accumulator is not None else 0
    if tiling.unit != "array":
        return 0
    if step.nest.kind == "attention":
        return 1  # which has slots of its own in the whole of it
    return 2 if tiling.accumulator_bytes * 2 <= size and tiling.slots > 1 else 1


@dataclass
class Builder:
    """Adds the tasks of one step; ids are those of the batch until the end."""

    step: Step
    kind: CoreKind
    fabric: Fabric
    loops: Loops
    slots: Mapping[str, int]
    halves: int
    batch: Batch = field(default_factory=Batch)
    claims: list[Claim] = field(default_factory=list)
    fetches: list[Fetch] = field(default_factory=list)
    users: dict[str, Int64] = field(default_factory=dict)
    stores: Int64 | None = None
    first_stores: Int64 | None = None
    starts: Int64 | None = None
    empties: Int64 | None = None
    rounds: list[Round] = field(default_factory=list)
    online: Online | None = None

    def run(self) -> Skeleton:
        self.owners = self.loops.owners
        everyone = np.arange(len(self.loops.cores), dtype=np.int64)
        shape = len(everyone), self.loops.iterations
        if self.step.nest.kind == "attention":
            self.online, self.main, self.drain = add_online(self)
            self.starts, self.empties = self.online.scores[:, :1], np.repeat(self.drain[:, -1:], 2, axis=1)
        elif self.step.tiling.unit == "array":
            queue = self.queue("array")[:, None]
            iterations = np.arange(self.loops.iterations)
            self.main = self.batch.add("main", Kind.MATMUL, COMPUTE, shape, iteration=iterations, queue=queue)
            self.drain = self._drains()
        else:
            self.main = self.drain = self.vector("main", DRAIN, np.arange(self.loops.iterations), everyone)
        operands = list(enumerate(self.step.nest.operands))
        if self.step.tiling.rows is not None:
            # Filters have two slots and need not wait behind inputs, which have one.
            operands.sort(key=lambda pair: pair[1].part != "right")
        for index, operand in operands:
            late = operand.part == "epilogue"
            positions = self.owners if late else everyone
            fills = self.loops.fills(operand, positions)
            if self.step.resident[index]:
                tasks = self._consumers(operand)[positions][:, fills.first]
                self.fetches.append(Fetch(index, positions, fills, tasks, True))
            else:
                self._load(index, operand, positions, fills)
        self._results()
        return self._in_order()

    def _in_order(self) -> Skeleton:
        """Everything added, renumbered into program order."""
        place, order, (kind, queue), edges = self.batch.ordered()

        def moved(ids: Int64 | None) -> Int64 | None:
            return None if ids is None else place[ids]

        return Skeleton(
            owners=self.owners,
            kind=kind,
            queue=queue,
            order=order,
            place=place,
            groups=self.batch.groups,
            edges=edges,
            main=place[self.main],
            drain=place[self.drain],
            stores=moved(self.stores),
            first_stores=moved(self.first_stores),
            starts=moved(self.starts),
            empties=moved(self.empties),
            halves=self.halves,
            ports=ports_of(
                [replace(claim, tasks=place[claim.tasks]) for claim in self.claims],
                {name: place[tasks] for name, tasks in self.users.items()},
            ),
            fetches=tuple(replace(fetch, tasks=place[fetch.tasks]) for fetch in self.fetches),
            rounds=tuple(
                replace(r, copies=moved(r.copies), sends=place[r.sends], adds=place[r.adds])
                for r in self.rounds
            ),
            online=None if self.online is None else self.online.placed(place),
        )

    def claim(self, buffer: str, positions: Int64, tasks: Int64, of: Int64) -> None:
        """`tasks` wait for whoever used the buffer's memory before on the cores at `of`, broadcast together."""
        self.claims.append(Claim(buffer, positions, *together(tasks, of)))

    # ---- compute --------------------------------------------------------------------------------------------

    def queue(self, unit: str, channel: int = 0) -> Int64:
        """Queue of every core of the step."""
        return np.array([self.fabric.queue(unit, int(core), channel) for core in self.loops.cores], np.int64)

    def vector(self, name: str, phase: int, iteration: Int64, positions: Int64) -> Int64:
        """Vector tasks of the cores at `positions`, one for each `iteration`."""
        shape = len(positions), len(iteration)
        queue = self.queue("vector")[positions][:, None]
        return self.batch.add(name, Kind.VECTOR, phase, shape, iteration=iteration, queue=queue)

    def _drains(self) -> Int64:
        """Empty the accumulator after the last product of each result tile: add up parts of other cores if the
        sum was split, then apply bias and fused operators on the owner."""
        loops, owners = self.loops, self.owners
        last = loops.result_last
        final = self.vector("drain", DRAIN, last, owners)
        empties = np.empty((len(loops.cores), len(last)), np.int64)
        empties[owners] = final
        if len(owners) < len(loops.cores):
            split = SplitSum(self)
            split.add(empties, final)
            self.rounds = split.rounds
        self.batch.edge(empties, self.main[:, last])
        self._reuse_accumulator(empties)
        drain = empties.copy()
        drain[owners] = final
        return drain

    def _reuse_accumulator(self, empties: Int64) -> None:
        """The first product of a result tile waits until its half of the accumulator is empty (the whole of it
        when two tiles do not fit)."""
        halves = self.halves
        self.empties = np.repeat(empties[:, -1:], 2, axis=1) if halves == 1 else empties[:, -2:]
        starts = self.main[:, self.loops.result_last - (self.loops.sum_steps - 1)]
        self.batch.edge(starts[:, halves:], empties[:, : starts.shape[1] - halves])
        self.starts = starts[:, :halves]

    # ---- operands -------------------------------------------------------------------------------------------

    def _consumers(self, operand: Operand) -> Int64:
        """Tasks [cores, iterations] that read an operand: the main computation, or the drain of its tile."""
        if operand.part != "epilogue" or self.step.tiling.unit == "vector":
            if self.online is None:
                return self.main
            readers = self.online.readers(operand_number(self.step.nest, operand))
            return self.main if readers is None else readers
        return np.repeat(self.drain, self.loops.sum_steps, axis=1)

    def _load(self, index: int, operand: Operand, positions: Int64, fills: Fills) -> None:
        name, shape = f"in{index}", (len(fills.members), len(fills.first))
        ahead_of = fills.first if self.online is None else needed_at(self.step.nest, index, fills.first)
        tasks = self.batch.add(
            f"load{index}", Kind.LOAD, LOAD, shape, iteration=ahead_of, queue=self._load_queues(index, fills)
        )
        self.fetches.append(Fetch(index, positions, fills, tasks, False))
        consumers = self._consumers(operand)
        if self.step.nest.chips > 1:
            # The others have begun when the first piece is there: nothing before it can be.
            self.batch.edge(tasks[:, 1:], tasks[:, :1])
        slots, tiling = self.slots[name], self.step.tiling
        stays = tiling.stays(index)
        # With room for many tiles, loads still run no further ahead: they would slow those that are waited for.
        ahead = tiling.slots if stays else slots
        every = consumers[fills.members]  # [groups, sharers, iterations]
        self.batch.edge(every[..., fills.first], tasks[:, None])
        if tasks.shape[1] > ahead:
            self.batch.edge(tasks[:, None, ahead:], every[..., fills.before_next[: tasks.shape[1] - ahead]])
        if stays and tasks.shape[1] > slots:
            self.batch.edge(tasks[:, None, slots:], every[..., fills.last[: tasks.shape[1] - slots]])
        self.claim(name, positions, tasks[:, :slots, None], fills.members[:, None, :])
        among = np.zeros((len(self.loops.cores), 1), np.bool_)
        among[positions] = True
        self.users[name] = np.where(among, consumers[:, -1:], self.main[:, -1:])

    def _load_queues(self, index: int, fills: Fills) -> Int64:
        """Queue of every load [groups, fills]: the DMA channels in turn; tiles that several cores need come as
        multicasts from a memory port."""
        groups = self.loops.cores[fills.members].tolist()
        if fills.members.shape[1] > 1:
            ports = [self.fabric.queue("port", cores[0]) for cores in groups]
            return np.array(ports, np.int64)[:, None]
        channel = (np.arange(len(fills.first)) + index) % self.kind.dma.channels
        return self._queues("load", [core for core, in groups], channel)

    def _queues(self, unit: str, cores: list[int], channel: Int64) -> Int64:
        """DMA queues [cores, tasks] for these channels [tasks]."""
        turns = range(self.kind.dma.channels)
        return np.array([[self.fabric.queue(unit, core, turn) for turn in turns] for core in cores])[:, channel]

    # ---- results --------------------------------------------------------------------------------------------

    def _results(self) -> None:
        step = self.step
        drains = self.drain[self.owners]
        if step.keep:
            self.claim("kept", self.owners, drains[:, 0], self.owners)
        else:
            # The sums of a row-stationary array grow where the result will lie.
            first = drains if step.tiling.rows is None else self.main[self.owners][:, :1]
            self.claim("out", self.owners, first[:, : self.slots["out"]], self.owners[:, None])
            self.users["out"] = self.drain[:, -1:]
        if step.store:
            self._store(drains)

    def _store(self, drains: Int64) -> None:
        loops, channels = self.loops, self.kind.dma.channels
        queue = self._queues("store", loops.cores[self.owners].tolist(), np.arange(drains.shape[1]) % channels)
        stores = self.batch.add("store", Kind.STORE, STORE, drains.shape, iteration=loops.result_last, queue=queue)
        self.batch.edge(stores, drains)
        if not self.step.keep:
            slots = self.slots["out"]
            self.batch.edge(drains[:, slots:], stores[:, : stores.shape[1] - slots])
            if self.step.tiling.rows is not None:
                starts = self.main[self.owners][:, loops.result_last - (loops.sum_steps - 1)]
                self.batch.edge(starts[:, 1:], stores[:, :-1])
            last = np.full((len(loops.cores), min(slots, stores.shape[1])), -1, np.int64)
            last[:] = self.drain[:, -1:]
            last[self.owners] = stores[:, -slots:]
            self.users["out"] = last
        self.first_stores = stores[:, :channels]
        self.stores = stores
