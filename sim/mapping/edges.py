"""Who waits for whom: the edges between the tasks of a step and those of the steps before it.

They are of three kinds: a tile is read after everything that wrote part of it; a buffer is filled after the last use of
whatever lay at its address before; a store into reused DRAM waits for the last readers of what lay there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sim.graph.nest import Operand
from sim.hw.chip import Chip
from sim.mapping.occupancy import Occupancy, Pairs
from sim.mapping.step import Plan, Step
from sim.mapping.table import distinct_keys, without
from sim.mapping.template import Read, Template
from sim.mapping.written import Written

Int64 = npt.NDArray[np.int64]

DENSE_EDGES = 8
"""Edges per task above which a group of tasks waits for another group through one barrier task."""

DENSE_PAIRS = 20_000_000
"""Pairs of tiles above which who overlaps whom is not worked out: all loads wait for all stores."""


@dataclass(frozen=True, slots=True)
class Readers:
    """The last tasks of a step that read a tensor, one on each of these cores."""

    cores: Int64
    tasks: Int64


@dataclass
class Edges:
    """Who wrote, read and used what last, over the steps of one segment. `barrier` makes a task of a core that waits
    for many.

    `position` is that of the step at hand, `number` that of its input; `waiting` collects pairs of tasks of its
    template and earlier tasks they wait for.
    """

    plan: Plan
    chip: Chip
    barrier: Callable[[int, Int64], Int64]
    written: dict[str, Written] = field(default_factory=dict)
    readers: dict[str, list[Readers]] = field(default_factory=dict)
    unread: dict[str, Int64] = field(default_factory=dict)  # stores of a result that no load waits for yet
    waiting: Pairs = field(default_factory=Pairs)
    position: int = 0
    number: int = 0

    def __post_init__(self) -> None:
        cores = self.cores = self.chip.core_count
        self.left = np.empty((0, 2), np.int64)  # of the step's claims, see Occupancy.claim_all
        self.inherited: dict[str, Int64] = {}  # users before results that are kept, by core
        self.scratchpads = [Occupancy(cores) for _ in self.chip.cores]
        self.dram = Occupancy(1)  # whose core a user is does not matter there
        self.sums = np.full((cores, 2), -1, np.int64)
        self.overwritten = np.zeros(0, np.int64)
        self.last_kept, self.last_read = _by_step(self.plan)
        self.nests = Counter(step.op for step in self.plan.steps)

    # ---- before a step --------------------------------------------------------------------------------------

    def of(self, step: Step, template: Template) -> None:
        """Find in `waiting` what the template's tasks wait for."""
        self.waiting.count = 0
        self._after_sums(template)
        self._claim(step, template)
        for read in template.reads:
            operand = step.nest.operands[read.operand]
            if read.positions is None:
                self._after_stores(operand, read)
            else:
                self._after_vectors(step, operand, read)
        if template.first_stores is not None:
            self._before_dram_write(step, template.first_stores)

    def _claim(self, step: Step, template: Template) -> None:
        """First users of buffers wait for the last users of their memory."""
        ports, scratchpad = template.ports, self.scratchpads[step.kind]
        where = self._places(step, ports.claimed)
        self.left = scratchpad.claim_all(ports, where, template.loops.cores, self.waiting)
        if step.keep:
            first, columns = self.left[ports.claimed.index("kept")].tolist()
            root = self.plan.root(step.nest.out.tensor.name)
            self.inherited[root] = scratchpad.users[first : first + columns].T.copy()

    def _places(self, step: Step, buffers: Sequence[str]) -> Int64:
        """Address and size of buffers of the step at hand."""
        layout, root = self.plan.scratchpads[step.kind], self.plan.root(step.nest.out.tensor.name)
        keys = [f"kept:{root}" if name == "kept" else f"{self.position}:{name}" for name in buffers]
        found = [(layout.address_bytes[key], layout.size_bytes[key]) for key in keys]
        return np.array(found, np.int64).reshape(-1, 2)

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
            self._after(tasks, self._joint(written.store))
            self.unread.pop(root, None)
            return
        shape = operand.tensor.shape
        flat = tasks.size, len(shape)
        if operand.gathered:
            # What a gather reads depends on data: it may be any of it.
            start, stop = np.zeros(flat, np.int64), np.full(flat, shape, np.int64)
        else:
            start, stop = read.start.reshape(flat), read.stop.reshape(flat)
        most = DENSE_EDGES * (tasks.size + len(written.store))
        waiting, before = self.waiting.room(most)
        met = np.zeros(len(written.store), np.bool_)
        boxes = written.boxes(start, stop, shape)
        count = find_stores(tasks.reshape(-1), *boxes, written.store, met, waiting[:most], before[:most])
        if root in self.unread:
            self.unread[root] = without(self.unread[root], written.store[met])
        if count > most:
            self._after(tasks, self._joint(written.store))
        else:
            self.waiting.count += count

    def _after_vectors(self, step: Step, operand: Operand, read: Read) -> None:
        """Computation on boxes waits for what wrote them in the same core's scratchpad."""
        from sim.mapping.waiting import find_writers

        assert read.positions is not None
        written = self.written[self.plan.root(operand.tensor.name)]
        cores = np.array(step.cores, np.int64)[read.positions]
        flat = (read.tasks.size, read.start.shape[-1])
        boxes = written.boxes(read.start.reshape(flat), read.stop.reshape(flat), operand.tensor.shape)
        waiting, before = self.waiting.room(read.tasks.size)
        of_task = np.repeat(cores, read.tasks.shape[1])
        tasks = read.tasks.reshape(-1)
        self.waiting.count += find_writers(
            tasks, of_task, *boxes, written.core, written.vector, waiting, before
        )

    def _before_dram_write(self, step: Step, first_stores: Int64) -> None:
        """The first stores wait for the last readers of the DRAM they overwrite."""
        root = self.plan.root(step.nest.out.tensor.name)
        if root in self.plan.last_read:
            users = self.dram.claim(*self.in_dram(root))
            # The first loop nest of an operator claims the memory for all of them.
            more = self.overwritten if self._same_op(step) else self.overwritten[:0]
            waits_for = distinct_keys(np.concatenate([users.reshape(-1), more]))
            self.overwritten = waits_for = waits_for[waits_for >= 0]
        else:
            # A state, updated in place: after everything that read or wrote it.
            before = [readers.tasks.reshape(-1) for readers in self.readers.pop(root, [])]
            before += [self.written[root].store] if root in self.written else []
            waits_for = distinct_keys(np.concatenate([np.zeros(0, np.int64), *before]))
            waits_for = waits_for[waits_for >= 0]
        # Every loop nest of an operator (a concatenation has thousands) overwrites the same.
        nests = self.nests[step.op]
        if waits_for.size * nests > DENSE_EDGES * (waits_for.size + nests):
            self.overwritten = waits_for = self._joint(waits_for)
        if waits_for.size * first_stores.size > DENSE_EDGES * (waits_for.size + first_stores.size):
            self._after(first_stores, self._joint(waits_for))
        elif waits_for.size:
            self._after(first_stores.reshape(-1, 1), waits_for[None, :])

    def _joint(self, tasks: Int64) -> Int64:
        """One task that waits for many earlier ones."""
        return self.barrier(self.plan.steps[self.position].cores[0], tasks)

    def _after(self, tasks: Int64, waits_for: Int64) -> None:
        """Tasks of the template at hand, not yet in the table, wait for earlier ones (negative: none)."""
        self.waiting.add(tasks, waits_for)

    # ---- after a step ---------------------------------------------------------------------------------------

    def use(self, step: Step, template: Template, final: Int64) -> None:
        """Remember what the step's tasks, whose final ids are `final`, used, read and wrote; hand back what is free."""
        ports, cores = template.ports, template.loops.cores
        where = self._places(step, ports.used)
        self.scratchpads[step.kind].release_all(ports, where, cores, int(final[0]), self.left)
        if template.empties is not None:
            self.sums[cores] = np.concatenate([self.sums[cores], final[template.empties]], axis=1)[:, -2:]
        early, late = (Readers(cores, final[tasks[:, -1]]) for tasks in (template.main, template.drain))
        for operand in step.nest.operands:
            last = operand.part == "epilogue" or step.tiling.unit == "vector"
            self.readers.setdefault(self.plan.root(operand.tensor.name), []).append(late if last else early)
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
        for root in self.last_kept.get(self.position, ()):
            kept, writers = self.plan.kept[root], self.written[root]
            layout = self.plan.scratchpads[kept.kind]
            # Stores of a core may finish in any order: all of them count.
            stores = _by_core(writers.core, writers.store, self.cores)
            readers = np.full((self.cores, len(self.readers[root])), -1, np.int64)
            for column, one in enumerate(self.readers[root]):
                readers[one.cores, column] = one.tasks
            key, users = f"kept:{root}", np.concatenate([readers, stores, self.inherited.pop(root)], axis=1)
            self.scratchpads[kept.kind].release(layout.address_bytes[key], layout.size_bytes[key], users)
        for root in self.last_read.get(self.position, ()):
            self.release_dram(root)

    def release_dram(self, root: str) -> None:
        """Who overwrites a result in DRAM waits for its readers, and for stores that no reader waited for."""
        unread = self.unread.pop(root, np.zeros(0, np.int64))
        users = np.concatenate([unread, *(readers.tasks for readers in self.readers.get(root, []))])
        self.dram.release(*self.in_dram(root), users[None, :])

    def claim_kept(self, root: str) -> Int64:
        """Users [cores, any] of the place that what comes from the host takes in a scratchpad."""
        self.inherited[root] = np.empty((self.cores, 0), np.int64)
        return self.scratchpads[self.plan.kept[root].kind].claim(*self.in_scratchpad(root))

    def release_kept(self, root: str, reader: Int64) -> None:
        """One more task of the first core reads a result that was handed back when the last step had."""
        self.scratchpads[self.plan.kept[root].kind].release(*self.in_scratchpad(root), reader.reshape(1, -1))

    def in_scratchpad(self, root: str) -> tuple[int, int]:
        """Address and size of a tensor that stays there."""
        layout, key = self.plan.scratchpads[self.plan.kept[root].kind], f"kept:{root}"
        return layout.address_bytes[key], layout.size_bytes[key]

    def in_dram(self, root: str) -> tuple[int, int]:
        """Address and size of a tensor of the input at hand."""
        layout = self.plan.dram
        return layout.address_bytes[root] + layout.turn_bytes(root, self.number), layout.size_bytes[root]


def _by_core(core: Int64, tasks: Int64, cores: int) -> Int64:
    """Tasks [cores, most of a core] of each core, in order; -1 behind those of cores that have fewer."""
    order = np.argsort(core, kind="stable")
    mine, many = core[order], np.bincount(core, minlength=cores)
    place = np.arange(len(core)) - (np.cumsum(many) - many)[mine]
    found = np.full((cores, many.max(initial=0)), -1, np.int64)
    found[mine, place] = tasks[order]
    return found


def _by_step(plan: Plan) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    """Results by the last step that reads them: those kept in scratchpads, and those in DRAM."""
    kept: dict[int, list[str]] = {}
    read: dict[int, list[str]] = {}
    for root, result in plan.kept.items():
        kept.setdefault(result.last, []).append(root)
    for root, last in plan.last_read.items():
        read.setdefault(last, []).append(root)
    return kept, read
