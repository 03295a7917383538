"""Plan -> Program: steps in order, each a template in its surroundings (edges.py), between transfers with the host.

Repeated blocks (transformer layers) become segments between barriers, lowered once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt

from sim.errors import DoesNotFit
from sim.hw.chip import Chip
from sim.mapping.accesses import AccessLog, record_step
from sim.mapping.deal import loops_of
from sim.mapping.deal_vector import left_in_cache
from sim.mapping.describe import describe_step, host_row, view_row
from sim.mapping.edges import Edges, Readers
from sim.mapping.emit import Emitter
from sim.mapping.fabric import Fabric
from sim.mapping.probing import ProbeLog
from sim.mapping.regions import Regions
from sim.mapping.step import Plan, Step
from sim.mapping.table import Table
from sim.mapping.template import TEMPLATES, Template
from sim.mapping.written import Written
from sim.program import PAYLOAD_WEIGHT, RESULT, Kind, OpRow, Policy, Program, Segment, Space, TagStore

Int64 = npt.NDArray[np.int64]

MAX_TASKS = 20_000_000
"""Above this many tasks a program is refused before it is built (it would need 1.5 GB)."""


@dataclass
class Lowering:
    """State while the steps of one segment are lowered in order; what surrounds the template of every step."""

    plan: Plan
    chip: Chip
    fabric: Fabric
    table: Table = field(default_factory=Table)
    rows: list[OpRow] = field(default_factory=list)
    log: AccessLog | None = None
    kernel: list[Int64] = field(default_factory=list)
    """What ends the kernel under way, where operators are kernels (`_launch`)."""
    probed: ProbeLog = field(init=False)
    edges: Edges = field(init=False)

    def __post_init__(self) -> None:
        self.probed = ProbeLog(self.plan)
        # Not a method of this object: what refers to itself is only freed by a collection of garbage.
        self.edges = Edges(self.plan, self.chip, partial(_barrier, self.table, self.fabric, self.rows))
        self.half = np.zeros(self.chip.core_count, np.int64)

    def _launch(self, step: Step) -> Int64 | None:
        """A serial task of the calibrated launch overhead, or None where a launch takes no time. Launches follow one
        another, beside the work before; where tiles are dealt, operators are kernels of one stream, each launched
        when the one before has ended. The last wave of a dealt nest belongs to the launch of those before it."""
        overhead_ps = self.chip.calibration.launch_ps(
            1 + len(step.nest.operands), contraction=step.nest.contraction
        )
        kernels = self.chip.cores[step.kind].dispatch is not None
        if not (overhead_ps or kernels) or (step.tiling.deal is not None and step.tiling.deal.first):
            return None
        queue, held_ps = self.fabric.queue("dispatch"), max(1, overhead_ps)
        launch = self.table.add(Kind.BARRIER, queue, held_ps, held_ps, 0, -1, len(self.rows))
        if kernels:
            for tasks in self.kernel:
                self.table.after(launch, tasks)
            self.kernel.clear()
        return launch

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
            self.edges.number = number
            if self.log is not None:
                self.log.number = number
            if from_host and host:
                self._inputs_from_host(number)
            for index, op in enumerate(graph.ops):
                if self.plan.segments.of_op[index] == segment and op.view:
                    # A row of its own: a view must be seen to cost nothing.
                    self.rows.append(view_row(graph, op, number))
                for position, step in steps_of.get(index, ()):
                    self._step(position, step, number)
            if to_host and host:
                self._outputs_to_host(number)
            for name in graph.inputs if from_host and host else ():
                if name not in self.plan.kept:
                    self.edges.release_dram(name)

    def _step(self, position: int, step: Step, number: int) -> None:
        self.edges.position = position
        template = self._template(step)
        final = self._place(step, template)
        kind = self.chip.cores[step.kind]
        self.rows.append(describe_step(self.plan.graph, step, template.work, kind, number))
        if self.log is not None:
            self.log.semantics += [None] * (len(self.rows) - 1 - len(self.log.semantics))
            self.log.semantics.append((self.plan.graph.ops[step.op], step.nest))
            record_step(self.log, step, template, kind, final, position, self.half)
        if template.halves == 2:
            cores = template.loops.cores
            self.half[cores] = (self.half[cores] + template.drain.shape[1]) % 2
        self.edges.use(step, template, final)

    def _template(self, step: Step) -> Template:
        """The step's tasks, from memory if an equal step was emitted before. What an emitter reads of a chip, a nest
        and a step is in the key, but for names."""
        fate = step.kind, step.cores, step.resident, step.keep, step.store
        policies = self._policies(step)
        on = self.fabric.key, self.fabric.ways
        key = (*on, step.signature, step.nest.macs, step.tiling, fate, tuple(policies.items()))
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
        self.edges.of(step, template)
        launch = self._launch(step)
        routes = template.route_rows(self.fabric)
        final = self.table.add(*template.columns, routes[template.path], len(self.rows))
        self.probed.step(step, template, final, routes, self.edges.number)
        if launch is not None:
            # What follows in a queue waits for its first task.
            first = np.unique(template.columns[1], return_index=True)[1]
            self.table.after(final[first], launch)
        if self.chip.cores[step.kind].dispatch is not None:
            self.kernel.append(final[template.ends])
        found, begin = self.edges.waiting, final[0]
        self.table.edges.append((template.edges[0] + begin, template.edges[1] + begin))
        self.table.edges.append((found.tasks[: found.count] + begin, found.before[: found.count].copy()))
        return final

    # ---- host -----------------------------------------------------------------------------------------------

    def _inputs_from_host(self, number: int) -> None:
        """Inputs come over the host link into DRAM before they are loaded, or into the scratchpad."""
        for name in self.plan.graph.inputs:
            if name in self.plan.kept:
                self._input_in_place(name, number)
                continue
            tensor = self.plan.graph.tensors[name]
            final = self._host_transfer(Kind.LOAD, 0, tensor.size_bytes)
            self._host_lookup(final, name, True)
            users = self.edges.dram.claim(*self.edges.in_dram(name))
            self.table.after(final, np.unique(users[users >= 0]))
            self.edges.unread[name], self.edges.readers[name] = final, []
            self.rows.append(host_row(self.plan.graph, name, "in", number))
            whole = np.array([tensor.shape], np.int64)
            if self.log is not None:
                self.log.dram_access(final, True, -1, name, (np.zeros_like(whole), whole))
            none = np.full(1, -1, np.int64)
            self.edges.written[name] = Written(tensor.shape, np.zeros_like(whole), whole, none, none, final)

    def _input_in_place(self, name: str, number: int) -> None:
        """The transfer waits for whatever used its place in the scratchpad; the steps that read it wait for it as for a
        step that made it."""
        tensor, path = self.plan.graph.tensors[name], self.fabric.host_core(0, True)
        queue = self.fabric.queue("host", 0)
        final = self.table.add(Kind.LOAD, queue, 1, path.latency_ps, tensor.size_bytes, path.row, len(self.rows))
        users = self.edges.claim_kept(name)
        self.table.after(final, np.unique(users[users >= 0]))
        self.rows.append(host_row(self.plan.graph, name, "in", number))
        whole = np.array([tensor.shape], np.int64)
        self._log_kept(final, True, name, whole)
        self.edges.readers[name] = []
        core, none = np.zeros(1, np.int64), np.full(1, -1, np.int64)
        self.edges.written[name] = Written(tensor.shape, np.zeros_like(whole), whole, core, final.reshape(1), none)

    def _output_in_place(self, name: str, number: int) -> None:
        """The transfer waits for everything that wrote the result; what takes its place waits for the transfer."""
        tensor, path = self.plan.graph.tensors[name], self.fabric.host_core(0, False)
        queue, root = self.fabric.queue("host", 1), self.plan.root(name)
        final = self.table.add(Kind.STORE, queue, 1, path.latency_ps, tensor.size_bytes, path.row, len(self.rows))
        self.table.after(final, self.edges.written[root].vector)
        self.rows.append(host_row(self.plan.graph, name, "out", number))
        self._log_kept(final, False, name, np.array([tensor.shape], np.int64))
        self.edges.release_kept(root, final)

    def _log_kept(self, task: Int64, write: bool, name: str, whole: Int64) -> None:
        """The transfer's access to what lies in the scratchpad of the only core."""
        if self.log is not None:
            address, size = self.edges.in_scratchpad(self.plan.root(name))
            boxes = np.zeros_like(whole), whole
            self.log.add(task, write, -1, name, boxes, Space.KEPT, 0, address, size)

    def _outputs_to_host(self, number: int) -> None:
        """Outputs go over the host link when they are stored, or when they are made."""
        for name in self.plan.graph.outputs:
            root = self.plan.root(name)
            if root in self.plan.to_host:
                self._output_in_place(name, number)
                continue
            final = self._host_transfer(Kind.STORE, 1, self.plan.graph.tensors[name].size_bytes)
            self._host_lookup(final, name, False)
            # What an earlier segment or a repeat of one wrote is there.
            if root in self.edges.written:
                self.table.after(final, self.edges.written[root].store)
            self.rows.append(host_row(self.plan.graph, name, "out", number))
            if self.log is not None:
                whole = np.array([self.plan.graph.tensors[name].shape], np.int64)
                self.log.dram_access(final, False, -1, name, (np.zeros_like(whole), whole))
            self.edges.readers.setdefault(root, []).append(Readers(np.zeros(1, np.int64), final))
            self.edges.unread.pop(root, None)
            if root in self.plan.last_read:
                self.edges.release_dram(root)

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
        self.probed.add(task, name, write, Policy.BYPASS, where, ways, self.edges.number)

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


def _barrier(table: Table, fabric: Fabric, rows: list[OpRow], core: int, tasks: Int64) -> Int64:
    """One task that waits for many, so that many more of a step that begins with `core` can wait for it. A queue of
    every core has its own: stages of a pipeline must not wait for each other's."""
    joint = table.add(Kind.BARRIER, fabric.queue("sync", core), 1, 1, 0, -1, len(rows))
    table.after(joint, tasks)
    return joint


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
            (
                *("fewer --inputs",) * (inputs > 1), "a larger sram.size (larger tiles)", "a smaller model input",
                "a sweep of fidelity bound (sim.bound): its closed form makes no tasks, that of one run does",
            ),
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
        cache=_tag_store(plan, chip),
    )
    program.validate()
    return program


def _tag_store(plan: Plan, chip: Chip) -> TagStore | None:
    cache, caching = chip.cache, plan.caching
    if cache is None or caching is None:
        return None
    there = left_in_cache(plan.graph, chip)
    warm = [name for name in there if caching.policy.get(plan.root(name), Policy.BYPASS) != Policy.BYPASS]
    regions = [(plan.dram_address(plan.root(name), 0), plan.graph.tensors[name].size_bytes) for name in warm]
    return TagStore(cache.sets, cache.ways, cache.line_bytes, cache.hashed, tuple(regions))


def count_tasks(plan: Plan) -> int:
    """An upper bound of the tasks of one input, from loop counts alone."""
    total = 0
    for step in plan.steps:
        total += loops_of(step).iterations * step.tiling.cores * (2 + len(step.nest.operands) + 2)
    return total
