"""Plan -> Program: steps in order, with the edges between them.

Edges between steps are of three kinds: a tile is read after everything that wrote part of it; a buffer is filled
after the last use of whatever lay at its address before; a store into reused DRAM waits for the last readers of
what lay there. Repeated blocks (transformer layers) become segments between barriers, lowered once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sim.errors import DoesNotFit
from sim.graph.nest import Operand
from sim.hw.chip import Chip
from sim.mapping.accesses import AccessLog, record_step
from sim.mapping.allocate import Occupancy
from sim.mapping.deal import loops_of
from sim.mapping.describe import describe_step, host_row, view_row
from sim.mapping.emit import Emitter
from sim.mapping.fabric import Fabric
from sim.mapping.probing import ProbeLog
from sim.mapping.regions import Regions
from sim.mapping.step import Plan, Step
from sim.mapping.table import Table
from sim.mapping.template import TEMPLATES, Claim, Read, Template
from sim.mapping.written import Written
from sim.program import PAYLOAD_WEIGHT, RESULT, Kind, OpRow, Policy, Program, Segment, TagStore

Int64 = npt.NDArray[np.int64]

MAX_TASKS = 20_000_000
"""Above this many tasks a program is refused before it is built (it would need 1.5 GB)."""

DENSE_EDGES = 8
"""Edges per task above which a group of tasks waits for another group through one barrier task."""


DENSE_PAIRS = 20_000_000
"""Pairs of tiles above which who overlaps whom is not worked out: all loads wait for all stores."""


@dataclass
class Lowering:
    """State while the steps of one segment are lowered in order; what surrounds the template of every step."""

    plan: Plan
    chip: Chip
    fabric: Fabric
    table: Table = field(default_factory=Table)
    rows: list[OpRow] = field(default_factory=list)
    written: dict[str, Written] = field(default_factory=dict)
    readers: dict[str, list[Int64]] = field(default_factory=dict)
    unread: dict[str, Int64] = field(default_factory=dict)  # stores of a result that no load waits for yet
    log: AccessLog | None = None
    probed: ProbeLog = field(init=False)
    position: int = 0
    parity: int = 0

    def __post_init__(self) -> None:
        cores = self.chip.core_count
        self.probed = ProbeLog(self.plan)
        self.half = np.zeros(cores, np.int64)
        self.inherited: dict[str, Int64] = {}
        self.scratchpads = [Occupancy(cores) for _ in self.chip.cores]
        # Two copies of every result in DRAM, so that an input does not overwrite what the one before still reads.
        self.drams = [Occupancy(cores), Occupancy(cores)]
        self.sums = np.full((cores, 2), -1, np.int64)
        self.overwritten = np.zeros(0, np.int64)
        self.waiting: list[tuple[Int64, Int64]] = []

    # ---- the edges between a template and the steps before it -------------------------------------------------

    def _claim(self, step: Step, claim: Claim) -> None:
        """First users of a buffer wait for the last users of its memory. Cores that do not use it leave what they
        had there to the next claim."""
        root = self.plan.root(step.nest.out.tensor.name)
        key = f"kept:{root}" if claim.buffer == "kept" else f"{self.position}:{claim.buffer}"
        layout = self.plan.scratchpads[step.kind]
        users = self.scratchpads[step.kind].claim(layout.address_bytes[key], layout.size_bytes[key])
        cores = np.array(step.cores, np.int64)
        task, user = np.nonzero(users[cores[claim.of]] >= 0)
        self._after(claim.tasks[task], users[cores[claim.of[task]], user])
        users[cores[claim.positions]] = -1
        self.inherited[key] = users[:, (users >= 0).any(axis=0)]

    def _accumulate(self, template: Template) -> None:
        """First products wait until the steps before have emptied the accumulators."""
        if template.starts is None:
            return
        before = self.sums[template.loops.cores]
        for part in range(template.starts.shape[1]):
            mine = before[:, part : part + 1] if template.halves == 2 else before
            self._after(template.starts[:, part : part + 1], mine)

    def _after_stores(self, operand: Operand, read: Read) -> None:
        """Loads of boxes wait for what wrote them to DRAM."""
        root = self.plan.root(operand.tensor.name)
        written, tasks = self.written.get(root), read.tasks
        if written is None:
            return
        if tasks.size * len(written.store) > DENSE_PAIRS:
            self._after(tasks, self._barrier(written.store))
            self.unread.pop(root, None)
            return
        if operand.gathered:
            needed = np.ones((tasks.size, len(written.store)), np.bool_)
        else:
            flat = (tasks.size, read.start.shape[-1])
            needed = written.overlaps(read.start.reshape(flat), read.stop.reshape(flat), operand.tensor.shape)
        load, writer = np.nonzero(needed & (written.store >= 0)[None, :])
        if root in self.unread:
            self.unread[root] = np.setdiff1d(self.unread[root], written.store[writer])
        if len(load) > DENSE_EDGES * (tasks.size + len(written.store)):
            self._after(tasks, self._barrier(written.store))
        else:
            self._after(tasks.reshape(-1)[load], written.store[writer])

    def _after_vectors(self, step: Step, operand: Operand, read: Read) -> None:
        """Computation on boxes waits for what wrote them in the same core's scratchpad."""
        assert read.positions is not None
        written = self.written[self.plan.root(operand.tensor.name)]
        for row, position in enumerate(read.positions.tolist()):
            mine = np.flatnonzero(written.core == step.cores[position])
            part = Written(written.shape, written.start[mine], written.stop[mine], *(mine,) * 3)
            meets = part.overlaps(read.start[row], read.stop[row], operand.tensor.shape)
            # The vector queue works in order: the last writer stands for all.
            last = np.where(meets, np.arange(len(mine))[None, :], -1).max(axis=1)
            found = last >= 0
            self._after(read.tasks[row, found], written.vector[mine[last[found]]])

    def _before_dram_write(self, step: Step, first_stores: Int64) -> None:
        """The first stores wait for the last readers of the DRAM they overwrite."""
        root = self.plan.root(step.nest.out.tensor.name)
        if root in self.plan.last_read:
            users = self.drams[self.parity].claim(*self._in_dram(root))
            # The first loop nest of an operator claims the memory for all of them.
            waits_for = np.union1d(users, self.overwritten) if self._same_op(step) else np.unique(users)
            self.overwritten = waits_for = waits_for[waits_for >= 0]
        else:
            # A state, updated in place: after everything that read or wrote it.
            before = [users.reshape(-1) for users in self.readers.pop(root, [])]
            before += [self.written[root].store] if root in self.written else []
            waits_for = np.unique(np.concatenate([np.zeros(0, np.int64), *before]))
            waits_for = waits_for[waits_for >= 0]
        if waits_for.size * first_stores.size > DENSE_EDGES * (waits_for.size + first_stores.size):
            self._after(first_stores, self._barrier(waits_for))
        elif waits_for.size:
            self._after(first_stores.reshape(-1, 1), waits_for[None, :])

    def _after(self, tasks: Int64, waits_for: Int64) -> None:
        """Tasks of the template at hand, not yet in the table, wait for earlier ones (negative: none)."""
        self.waiting.append((tasks, waits_for))

    def _barrier(self, tasks: Int64) -> Int64:
        """One task that waits for many, so that many more can wait for it."""
        joint = self.table.add(Kind.BARRIER, self.fabric.queue("sync"), 1, 1, 0, -1, len(self.rows))
        self.table.after(joint, tasks)
        return joint

    def _launch(self, step: Step) -> Int64 | None:
        """A serial task of the calibrated launch overhead; launches follow one another, beside the work before. None
        where a launch takes no time. The last wave of a dealt nest belongs to the launch of those before it."""
        overhead_ps = self.chip.calibration.launch_ps(1 + len(step.nest.operands))
        if not overhead_ps or (step.tiling.deal is not None and step.tiling.deal.first):
            return None
        queue = self.fabric.queue("dispatch")
        return self.table.add(Kind.BARRIER, queue, overhead_ps, overhead_ps, 0, -1, len(self.rows))

    # ---- steps ----------------------------------------------------------------------------------------------

    def run(
        self, segment: int, steps: Sequence[tuple[int, Step]], inputs: int, *, from_host: bool, to_host: bool
    ) -> None:
        """Lower the steps of a segment once per input."""
        graph = self.plan.graph
        host = self.chip.host is not None and not graph.kernel
        steps_of: dict[int, list[tuple[int, Step]]] = {}
        for position, step in steps:
            steps_of.setdefault(step.op, []).append((position, step))
        for number in range(inputs):
            self.parity = number % 2
            if self.log is not None:
                self.log.copy = self.parity
            if from_host and host:
                self._inputs_from_host(number)
            for index, op in enumerate(graph.ops):
                if self.plan.segments.of_op[index] == segment and op.kind == "reshape":
                    # A row of its own: a view must be seen to cost nothing.
                    self.rows.append(view_row(graph, op, number))
                for position, step in steps_of.get(index, ()):
                    self._step(position, step, number)
            if to_host and host:
                self._outputs_to_host(number)
            for name in graph.inputs if from_host and host else ():
                self._release_dram(name)

    def _step(self, position: int, step: Step, number: int) -> None:
        self.position = position
        template = self._template(step)
        final = self._place(step, template)
        kind = self.chip.cores[step.kind]
        self.rows.append(describe_step(self.plan.graph, step, template.work, kind, number))
        layout = self.plan.scratchpads[step.kind]
        for name, users in template.users.items():
            key = f"{position}:{name}"
            where = layout.address_bytes[key], layout.size_bytes[key]
            mine = np.concatenate([self._per_core(step, final[users]), self.inherited.pop(key)], axis=1)
            self.scratchpads[step.kind].release(*where, mine)
        if self.log is not None:
            self.log.semantics += [None] * (len(self.rows) - 1 - len(self.log.semantics))
            self.log.semantics.append((self.plan.graph.ops[step.op], step.nest))
            record_step(self.log, step, template, kind, final, position, self.half)
        cores = template.loops.cores
        if template.halves == 2:
            self.half[cores] = (self.half[cores] + template.drain.shape[1]) % 2
        if template.empties is not None:
            self.sums[cores] = np.concatenate([self.sums[cores], final[template.empties]], axis=1)[:, -2:]
        for operand in step.nest.operands:
            late = operand.part == "epilogue" or step.tiling.unit == "vector"
            users = final[template.drain[:, -1:] if late else template.main[:, -1:]]
            self.readers.setdefault(self.plan.root(operand.tensor.name), []).append(
                self._per_core(step, users)
            )
        self._remember_result(step, template, final)
        self._expire(position)

    def _template(self, step: Step) -> Template:
        """The step's tasks, from memory if an equal step was emitted before. What an emitter reads of a chip, a nest
        and a step is in the key, but for names."""
        fate = step.kind, step.cores, step.resident, step.keep, step.store
        policies = self._policies(step)
        key = (self.fabric.key, step.signature, step.nest.macs, step.tiling, fate, tuple(policies.items()))
        found = TEMPLATES.get(key)
        if found is None:
            kind = self.chip.cores[step.kind]
            found = Emitter(self.chip, self.fabric, step, kind, loops_of(step), policies).run()
            TEMPLATES[key] = found
        return found

    def _policies(self, step: Step) -> dict[int, Policy]:
        """How the transfers of operands (RESULT: of the result) treat the cache, of those that look into it."""
        if self.plan.caching is None:
            return {}
        operands = {RESULT: step.nest.out, **dict(enumerate(step.nest.operands))}
        found = {n: self.plan.caching.policy.get(self.plan.root(o.tensor.name)) for n, o in operands.items()}
        return {n: p for n, p in found.items() if p is not None and not operands[n].gathered}

    def _place(self, step: Step, template: Template) -> Int64:
        """Set a template into its surroundings and append it to the table: the final id of every task."""
        self.waiting = []
        self._accumulate(template)
        for claim in template.claims:
            self._claim(step, claim)
        for read in template.reads:
            operand = step.nest.operands[read.operand]
            if read.positions is None:
                self._after_stores(operand, read)
            else:
                self._after_vectors(step, operand, read)
        if template.first_stores is not None:
            self._before_dram_write(step, template.first_stores)
        launch = self._launch(step)
        routes = template.route_rows(self.fabric)
        final = self.table.add(*template.columns, routes[template.path], len(self.rows))
        self.probed.step(step, template, final, routes, self.parity)
        if launch is not None:
            # What follows in a queue waits for its first task.
            first = np.unique(template.columns[1], return_index=True)[1]
            self.table.after(final[first], launch)
        self.table.edges.append((final[template.edges[0]], final[template.edges[1]]))
        for tasks, before in self.waiting:
            self.table.after(final[tasks], before)
        return final

    def _per_core(self, step: Step, users: Int64) -> Int64:
        """Rows of positions in the step's cores as rows of chip cores."""
        found = np.full((self.chip.core_count, users.shape[1]), -1, np.int64)
        found[list(step.cores)] = users
        return found

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

    def _expire(self, position: int) -> None:
        """Hand back the memory of results whose last reader has been lowered."""
        for root, kept in self.plan.kept.items():
            if kept.last == position:
                layout, writers = self.plan.scratchpads[kept.kind], self.written[root]
                # Stores of a core may finish in any order: all of them count.
                stores = np.full((self.chip.core_count, len(writers.store)), -1, np.int64)
                stores[writers.core, np.arange(len(writers.store))] = writers.store
                key = f"kept:{root}"
                users = np.concatenate([*self.readers[root], stores, self.inherited.pop(key)], axis=1)
                self.scratchpads[kept.kind].release(layout.address_bytes[key], layout.size_bytes[key], users)
        for root, last in self.plan.last_read.items():
            if last == position:
                self._release_dram(root)

    def _release_dram(self, root: str) -> None:
        """Who overwrites a result in DRAM waits for its readers, and for stores that no reader waited for."""
        unread = self.unread.pop(root, np.zeros(0, np.int64))
        alone = np.full((self.chip.core_count, len(unread)), -1, np.int64)
        alone[0] = unread
        users = np.concatenate([*self.readers.get(root, []), alone], axis=1)
        self.drams[self.parity].release(*self._in_dram(root), users)

    def _in_dram(self, root: str) -> tuple[int, int]:
        """Address and size of a tensor."""
        return self.plan.dram.address_bytes[root], self.plan.dram.size_bytes[root]

    # ---- host -----------------------------------------------------------------------------------------------

    def _inputs_from_host(self, number: int) -> None:
        """Inputs come over the host link into DRAM before they are loaded."""
        for name in self.plan.graph.inputs:
            tensor = self.plan.graph.tensors[name]
            final = self._host_transfer(Kind.LOAD, 0, tensor.size_bytes)
            self._host_lookup(final, name, True)
            users = self.drams[self.parity].claim(*self._in_dram(name))
            self.table.after(final, np.unique(users[users >= 0]))
            self.unread[name], self.readers[name] = final, []
            self.rows.append(host_row(self.plan.graph, name, "in", number))
            whole = np.array([tensor.shape], np.int64)
            if self.log is not None:
                self.log.dram_access(final, True, -1, name, (np.zeros_like(whole), whole))
            none = np.full(1, -1, np.int64)
            self.written[name] = Written(tensor.shape, np.zeros_like(whole), whole, none, none, final)

    def _outputs_to_host(self, number: int) -> None:
        """Outputs go over the host link when they are stored."""
        for name in self.plan.graph.outputs:
            root = self.plan.root(name)
            final = self._host_transfer(Kind.STORE, 1, self.plan.graph.tensors[name].size_bytes)
            self._host_lookup(final, name, False)
            # What an earlier segment or a repeat of one wrote is there.
            if root in self.written:
                self.table.after(final, self.written[root].store)
            self.rows.append(host_row(self.plan.graph, name, "out", number))
            if self.log is not None:
                whole = np.array([self.plan.graph.tensors[name].shape], np.int64)
                self.log.dram_access(final, False, -1, name, (np.zeros_like(whole), whole))
            users = np.full((self.chip.core_count, 1), -1, np.int64)
            users[0] = final[0]
            self.readers.setdefault(root, []).append(users)
            self.unread.pop(root, None)
            if root in self.plan.last_read:
                self._release_dram(root)

    def _host_transfer(self, kind: Kind, direction: int, nbytes: int) -> Int64:
        path = self.fabric.host(inward=direction == 0)
        queue = self.fabric.queue("host", direction)
        return self.table.add(kind, queue, 1, path.latency_ps, nbytes, path.row, len(self.rows))

    def _host_lookup(self, task: Int64, name: str, write: bool) -> None:
        """A transfer with the host looks for lines that were left in the cache, but brings none there."""
        caching, root = self.plan.caching, self.plan.root(name)
        if caching is None or caching.blocks.first_of.get(root, (root, 0))[0] not in caching.policy:
            return
        one = np.ones((1, 1), np.int64)
        size = np.array([self.plan.graph.tensors[name].size_bytes], np.int64)
        where = Regions(np.zeros(1, np.int64), size, one, 0 * one)
        hit = self.fabric.host(write, "cache")
        ways = (hit.row, hit.latency_ps, self.fabric.write_back(PAYLOAD_WEIGHT).row)
        self.probed.add(task, name, write, Policy.BYPASS, where, ways, self.parity)

    def segment(self, name: str, number: int, repeats: int) -> Segment:
        """Everything lowered so far as segment `number`, which runs so often."""
        (kind, queue, hold, dur, nbytes, route, op), pointers, before = self.table.arrays()
        return Segment(
            name,
            kind.astype(np.int8),
            queue.astype(np.int32),
            hold,
            dur,
            nbytes,
            route.astype(np.int32),
            np.zeros(len(kind), np.int64),
            pointers,
            before,
            op.astype(np.int32),
            tuple(self.rows),
            self.log.columns(len(kind), len(self.rows)) if self.log is not None else None,
            self.probed.probes(number, repeats),
        )


def lower(plan: Plan, chip: Chip, fabric: Fabric, *, inputs: int = 1, functional: bool = False) -> Program:
    """The program of `inputs` back-to-back inputs, with the columns of the functional executor if asked for.

    Raises DoesNotFit if it would have too many tasks.
    """
    bound = count_tasks(plan) * inputs
    if bound > MAX_TASKS:
        raise DoesNotFit(
            f"the program of '{plan.graph.name}'",
            bound,
            MAX_TASKS,
            "the task table",
            ("fewer --inputs", "a larger sram.size (larger tiles)", "a smaller model input"),
            unit="tasks",
        )
    found = []
    parts = list(zip(plan.segments.names, plan.segments.repeats, strict=True))
    if parts[-1][1] > 1 and chip.host is not None and not plan.graph.kernel:
        # The outputs of a repeated block leave after its last repeat, once.
        parts.append(("outputs", 1))
    for number, (name, repeats) in enumerate(parts):
        steps = [(at, step) for at, step in enumerate(plan.steps) if plan.segments.of_op[step.op] == number]
        lowering = Lowering(plan, chip, fabric, log=AccessLog(plan) if functional else None)
        lowering.run(number, steps, inputs, from_host=number == 0, to_host=number == len(parts) - 1)
        found.append(lowering.segment(name, number, repeats))
    pointers, links, weights, hops = fabric.route_tables()
    program = Program(
        plan.graph.name,
        tuple(found),
        tuple(repeats for _, repeats in parts),
        tuple(fabric.queues),
        tuple(fabric.links),
        pointers,
        links,
        weights,
        hops,
        cache=_tag_store(chip),
    )
    program.validate()
    return program


def _tag_store(chip: Chip) -> TagStore | None:
    cache = chip.cache
    return None if cache is None else TagStore(cache.sets, cache.ways, cache.line_bytes, cache.hashed)


def count_tasks(plan: Plan) -> int:
    """An upper bound of the tasks of one input, from loop counts alone."""
    total = 0
    for step in plan.steps:
        total += loops_of(step).iterations * step.tiling.cores * (2 + len(step.nest.operands) + 2)
    return total
