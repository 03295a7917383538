"""Who waits for whom: the edges between the tasks of a step and those of the steps before it.

They are of three kinds: a tile is read after everything that wrote part of it; a buffer is filled after the last use of
whatever lay at its address before; a store into reused DRAM waits for the last readers of what lay there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sim.graph.nest import Operand
from sim.hw.chip import Chip
from sim.mapping.allocate import Occupancy
from sim.mapping.step import Plan, Step
from sim.mapping.table import distinct_keys, together, without
from sim.mapping.template import Claim, Read, Template
from sim.mapping.written import Written

Int64 = npt.NDArray[np.int64]

DENSE_EDGES = 8
"""Edges per task above which a group of tasks waits for another group through one barrier task."""

DENSE_PAIRS = 20_000_000
"""Pairs of tiles above which who overlaps whom is not worked out: all loads wait for all stores."""


@dataclass
class Edges:
    """Who wrote, read and used what last, over the steps of one segment. `barrier` makes a task that waits for many.

    `position` is that of the step at hand, `parity` which of two copies of the DRAM its input uses; `waiting` collects
    pairs of (tasks of its template, earlier tasks they wait for; negative: none), each as long as the other.
    """

    plan: Plan
    chip: Chip
    barrier: Callable[[Int64], Int64]
    written: dict[str, Written] = field(default_factory=dict)
    readers: dict[str, list[Int64]] = field(default_factory=dict)
    unread: dict[str, Int64] = field(default_factory=dict)  # stores of a result that no load waits for yet
    waiting: list[tuple[Int64, Int64]] = field(default_factory=list)
    position: int = 0
    parity: int = 0

    def __post_init__(self) -> None:
        cores = self.cores = self.chip.core_count
        self.inherited: dict[str, Int64] = {}
        self.scratchpads = [Occupancy(cores) for _ in self.chip.cores]
        # Two copies of every result in DRAM, so that an input does not overwrite what the one before still reads.
        self.drams = [Occupancy(cores), Occupancy(cores)]
        self.sums = np.full((cores, 2), -1, np.int64)
        self.overwritten = np.zeros(0, np.int64)

    # ---- before a step --------------------------------------------------------------------------------------

    def of(self, step: Step, template: Template) -> None:
        """Find in `waiting` what the template's tasks wait for."""
        self.waiting = []
        self._after_sums(template)
        for claim in template.claims:
            self._claim(step, template.loops.cores, claim)
        for read in template.reads:
            operand = step.nest.operands[read.operand]
            if read.positions is None:
                self._after_stores(operand, read)
            else:
                self._after_vectors(step, operand, read)
        if template.first_stores is not None:
            self._before_dram_write(step, template.first_stores)

    def _claim(self, step: Step, cores: Int64, claim: Claim) -> None:
        """First users of a buffer wait for the last users of its memory. Cores that do not use it leave what they
        had there to the next claim."""
        from sim.mapping.waiting import take_over

        root = self.plan.root(step.nest.out.tensor.name)
        key = f"kept:{root}" if claim.buffer == "kept" else f"{self.position}:{claim.buffer}"
        layout = self.plan.scratchpads[step.kind]
        users = self.scratchpads[step.kind].claim(layout.address_bytes[key], layout.size_bytes[key])
        waiting, before = np.empty((2, len(claim.tasks) * users.shape[1]), np.int64)
        left = np.empty(users.shape, np.int64)
        count, columns = take_over(users, cores, claim.tasks, claim.of, claim.positions, waiting, before, left)
        self.waiting.append((waiting[:count], before[:count]))
        self.inherited[key] = left[:, :columns]

    def _after_sums(self, template: Template) -> None:
        """First products wait until the steps before have emptied the accumulators."""
        if template.starts is None:
            return
        before = self.sums[template.loops.cores]
        for part in range(template.starts.shape[1]):
            mine = before[:, part : part + 1] if template.halves == 2 else before
            self._after(template.starts[:, part : part + 1], mine)

    def _after_stores(self, operand: Operand, read: Read) -> None:
        """Loads of boxes wait for what wrote them to DRAM."""
        from sim.mapping.waiting import find_stores

        root = self.plan.root(operand.tensor.name)
        written, tasks = self.written.get(root), read.tasks
        if written is None:
            return
        if tasks.size * len(written.store) > DENSE_PAIRS:
            self._after(tasks, self.barrier(written.store))
            self.unread.pop(root, None)
            return
        shape = operand.tensor.shape
        start, stop = np.zeros((2, tasks.size, len(shape)), np.int64)
        # What a gather reads depends on data: it may be any of it.
        start[:] = 0 if operand.gathered else read.start.reshape(start.shape)
        stop[:] = shape if operand.gathered else read.stop.reshape(stop.shape)
        most = DENSE_EDGES * (tasks.size + len(written.store))
        waiting, before = np.empty((2, most), np.int64)
        met = np.zeros(len(written.store), np.bool_)
        boxes = written.boxes(start, stop, shape)
        count = find_stores(tasks.reshape(-1), *boxes, written.store, met, waiting, before)
        if root in self.unread:
            self.unread[root] = without(self.unread[root], written.store[met])
        if count > most:
            self._after(tasks, self.barrier(written.store))
        else:
            self.waiting.append((waiting[:count], before[:count]))

    def _after_vectors(self, step: Step, operand: Operand, read: Read) -> None:
        """Computation on boxes waits for what wrote them in the same core's scratchpad."""
        from sim.mapping.waiting import find_writers

        assert read.positions is not None
        written = self.written[self.plan.root(operand.tensor.name)]
        cores = np.array(step.cores, np.int64)[read.positions]
        flat = (read.tasks.size, read.start.shape[-1])
        boxes = written.boxes(read.start.reshape(flat), read.stop.reshape(flat), operand.tensor.shape)
        waiting, before = np.empty((2, read.tasks.size), np.int64)
        of_task = np.repeat(cores, read.tasks.shape[1])
        tasks = read.tasks.reshape(-1)
        count = find_writers(tasks, of_task, *boxes, written.core, written.vector, waiting, before)
        self.waiting.append((waiting[:count], before[:count]))

    def _before_dram_write(self, step: Step, first_stores: Int64) -> None:
        """The first stores wait for the last readers of the DRAM they overwrite."""
        root = self.plan.root(step.nest.out.tensor.name)
        if root in self.plan.last_read:
            users = self.drams[self.parity].claim(*self.in_dram(root))
            # The first loop nest of an operator claims the memory for all of them.
            more = self.overwritten if self._same_op(step) else self.overwritten[:0]
            waits_for = distinct_keys(np.concatenate([users.reshape(-1), more]))
            self.overwritten = waits_for = waits_for[waits_for >= 0]
        else:
            # A state, updated in place: after everything that read or wrote it.
            before = [users.reshape(-1) for users in self.readers.pop(root, [])]
            before += [self.written[root].store] if root in self.written else []
            waits_for = distinct_keys(np.concatenate([np.zeros(0, np.int64), *before]))
            waits_for = waits_for[waits_for >= 0]
        if waits_for.size * first_stores.size > DENSE_EDGES * (waits_for.size + first_stores.size):
            self._after(first_stores, self.barrier(waits_for))
        elif waits_for.size:
            self._after(first_stores.reshape(-1, 1), waits_for[None, :])

    def _after(self, tasks: Int64, waits_for: Int64) -> None:
        """Tasks of the template at hand, not yet in the table, wait for earlier ones (negative: none)."""
        self.waiting.append(together(tasks, waits_for))

    # ---- after a step ---------------------------------------------------------------------------------------

    def use(self, step: Step, template: Template, final: Int64) -> None:
        """Remember what the step's tasks, whose final ids are `final`, used, read and wrote; hand back what is free."""
        layout, cores = self.plan.scratchpads[step.kind], template.loops.cores
        for name, users in template.users.items():
            key = f"{self.position}:{name}"
            where = layout.address_bytes[key], layout.size_bytes[key]
            mine = np.concatenate([self._per_core(cores, final[users]), self.inherited.pop(key)], axis=1)
            self.scratchpads[step.kind].release(*where, mine)
        if template.empties is not None:
            self.sums[cores] = np.concatenate([self.sums[cores], final[template.empties]], axis=1)[:, -2:]
        for operand in step.nest.operands:
            late = operand.part == "epilogue" or step.tiling.unit == "vector"
            users = final[template.drain[:, -1:] if late else template.main[:, -1:]]
            self.readers.setdefault(self.plan.root(operand.tensor.name), []).append(
                self._per_core(cores, users)
            )
        self._remember_result(step, template, final)
        self._expire()

    def _remember_result(self, step: Step, template: Template, final: Int64) -> None:
        nest, owners = step.nest, template.owners
        start, stop = template.results
        tiles, rank = start.shape[0] * start.shape[1], start.shape[2]
        stores = template.stores
        new = Written(
            nest.out.tensor.shape,
            start.reshape(tiles, rank),
            stop.reshape(tiles, rank),
            np.repeat(template.loops.cores[owners], start.shape[1]),
            final[template.drain[owners]].reshape(-1),
            final[stores].reshape(-1) if stores is not None else np.full(tiles, -1, np.int64),
        )
        root = self.plan.root(nest.out.tensor.name)
        old = self.written.get(root)
        op = self.plan.graph.ops[step.op]
        if old is not None and (op.kind == "cache_update" or self._same_op(step)):
            new = old.joined(new)
        else:
            self.readers[root] = []
        self.written[root] = new
        self.unread[root] = new.store[new.store >= 0]

    def _same_op(self, step: Step) -> bool:
        """Did the step before belong to the same operator (a concatenation has several loop nests)?"""
        before = self.plan.steps[self.position - 1] if self.position else None
        return before is not None and before.op == step.op

    def _expire(self) -> None:
        """Hand back the memory of results whose last reader has been lowered."""
        for root, kept in self.plan.kept.items():
            if kept.last == self.position:
                layout, writers = self.plan.scratchpads[kept.kind], self.written[root]
                # Stores of a core may finish in any order: all of them count.
                stores = np.full((self.cores, len(writers.store)), -1, np.int64)
                stores[writers.core, np.arange(len(writers.store))] = writers.store
                key = f"kept:{root}"
                users = np.concatenate([*self.readers[root], stores, self.inherited.pop(key)], axis=1)
                self.scratchpads[kept.kind].release(layout.address_bytes[key], layout.size_bytes[key], users)
        for root, last in self.plan.last_read.items():
            if last == self.position:
                self.release_dram(root)

    def release_dram(self, root: str) -> None:
        """Who overwrites a result in DRAM waits for its readers, and for stores that no reader waited for."""
        unread = self.unread.pop(root, np.zeros(0, np.int64))
        alone = np.full((self.cores, len(unread)), -1, np.int64)
        alone[0] = unread
        users = np.concatenate([*self.readers.get(root, []), alone], axis=1)
        self.drams[self.parity].release(*self.in_dram(root), users)

    def in_dram(self, root: str) -> tuple[int, int]:
        """Address and size of a tensor."""
        return self.plan.dram.address_bytes[root], self.plan.dram.size_bytes[root]

    def _per_core(self, cores: Int64, users: Int64) -> Int64:
        """Rows of these cores as rows of all cores of the chip."""
        found = np.full((self.cores, users.shape[1]), -1, np.int64)
        found[cores] = users
        return found
