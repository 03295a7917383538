"""What the tasks of a step read and write, and where: the functional columns of a program."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.graph.nest import Operand
from sim.hw.core import CoreKind
from sim.mapping.allocate import Layout
from sim.mapping.buffers import buffers
from sim.mapping.loops import Fills
from sim.mapping.moving import load_reads
from sim.mapping.online import OnlineRecorder, accumulator_places
from sim.mapping.step import Plan, Step
from sim.mapping.template import Template
from sim.program import PARTIAL, RESULT, Functional, Space

Int64 = npt.NDArray[np.int64]


@dataclass
class AccessLog:
    """Accesses as they are found, over all steps of a segment, of input `number` at present."""

    plan: Plan
    number: int = 0
    names: dict[str, int] = field(default_factory=dict)
    rows: list[tuple[Int64, ...]] = field(default_factory=list)
    boxes: list[tuple[Int64, Int64]] = field(default_factory=list)
    semantics: list[Any] = field(default_factory=list)
    inside: dict[str, tuple[int, ...]] = field(default_factory=dict)  # shapes of what no memory keeps

    def add(
        self,
        tasks: Int64,
        write: bool,
        operand: int,
        tensor: str,
        boxes: tuple[Int64, Int64],
        space: Space,
        core: npt.ArrayLike,
        address: npt.ArrayLike,
        size: int,
    ) -> None:
        """One access of every task of an array (final ids); columns broadcast to its shape, boxes to shape + rank."""
        start, stop = boxes
        number = self.names.setdefault(tensor, len(self.names))
        constant = (int(write), operand, number, int(space))
        columns = [tasks, *(np.full(tasks.shape, value, np.int64) for value in constant)]
        columns += [np.broadcast_to(np.asarray(v, np.int64), tasks.shape) for v in (core, address, size)]
        self.rows.append(tuple(np.ascontiguousarray(c).reshape(-1) for c in columns))
        shape = (*tasks.shape, start.shape[-1])
        self.boxes.append(
            tuple(np.broadcast_to(b, shape).reshape(tasks.size, shape[-1]) for b in (start, stop))  # type: ignore[arg-type]
        )

    def dram_access(
        self, tasks: Int64, write: bool, operand: int, tensor: str, boxes: tuple[Int64, Int64]
    ) -> None:
        """An access to where the tensor lies in DRAM."""
        root = self.plan.root(tensor)
        layout = self.plan.dram
        where = (Space.DRAM, -1, self.plan.dram_address(root, self.number), layout.size_bytes[root])
        self.add(tasks, write, operand, tensor, boxes, *where)

    def columns(self, tasks: int, ops: int) -> Functional:
        """Everything logged, by task, writes first."""
        self.semantics += [None] * (ops - len(self.semantics))
        for name in self.plan.graph.outputs:  # where nothing touches them by that name, as views: whose memory it is
            self.names.setdefault(name, len(self.names))
        joined = (
            [np.concatenate(c) for c in zip(*self.rows, strict=True)]
            if self.rows
            else [np.zeros(0, np.int64)] * 8
        )
        task, write, operand, tensor, space, core, address, size = joined
        rank = max((box[0].shape[1] for box in self.boxes), default=0)
        start = np.zeros((len(task), rank), np.int64)
        stop = np.ones((len(task), rank), np.int64)
        at = 0
        for low, high in self.boxes:
            start[at : at + len(low), : low.shape[1]] = low
            stop[at : at + len(low), : low.shape[1]] = high
            at += len(low)
        order = np.lexsort((-write, task))
        return Functional(
            tuple(self.names),
            tuple(self.inside.get(name) or self.plan.graph.tensors[name].shape for name in self.names),
            tuple(self.plan.root(name) for name in self.names),
            tuple(self.semantics),
            np.searchsorted(task[order], np.arange(tasks + 1)).astype(np.int64),
            write[order].astype(np.bool_),
            operand[order].astype(np.int8),
            tensor[order].astype(np.int32),
            start[order],
            stop[order],
            space[order].astype(np.int8),
            core[order].astype(np.int32),
            address[order],
            size[order],
        )


def record_step(
    log: AccessLog, step: Step, template: Template, kind: CoreKind, final: Int64, position: int, half: Int64
) -> None:
    """Log every access of one step's tasks, whose final ids are `final`. `half` [cores of the chip] is the half of
    the accumulator that each core uses next."""
    _StepRecorder(log, step, template, kind, final, position, half[template.loops.cores]).run()


@dataclass
class _StepRecorder:
    log: AccessLog
    step: Step
    template: Template
    kind: CoreKind
    final: Int64
    position: int
    half: Int64

    def __post_init__(self) -> None:
        self.layout: Layout = self.log.plan.scratchpads[self.step.kind]
        self.slots = {buffer.name: buffer for buffer in buffers(self.step)}
        self.cores = self.template.loops.cores
        self.result = self.step.nest.out.tensor.name

    def run(self) -> None:
        template, loops, nest = self.template, self.template.loops, self.step.nest
        everyone = np.arange(len(self.cores))
        for index, operand in enumerate(nest.operands):
            positions = template.owners if operand.part == "epilogue" else everyone
            fills = loops.fills(operand, positions)
            if index in template.loads:
                self._loads(index, operand, *template.loads[index])
            self._reads(index, operand, positions, fills)
        last = loops.result_last
        out_boxes = loops.boxes(nest.out, slice(None), last)
        if template.online is not None:
            places = accumulator_places(self.step)
            for name in ("shares", "rows", "running"):
                if name in self.slots:
                    places[name] = int(self._slot(name, np.zeros(1, np.int64))[0]), self.slots[name].size_bytes
            OnlineRecorder(self.log, self.step, template, self.final, self.cores, places).run()
        elif self.step.tiling.unit == "array":
            self._sums(out_boxes)
        self._results(out_boxes)

    # ---- operands -------------------------------------------------------------------------------------------

    def _loads(self, index: int, operand: Operand, tasks: Int64, fills: Fills) -> None:
        loops, name = self.template.loops, operand.tensor.name
        boxes = loops.boxes(operand, fills.members[:, 0], fills.first)
        final = self.final[tasks]
        nest = self.step.nest
        for number in load_reads(nest, index):
            read = nest.operands[number]
            where = loops.boxes(read, fills.members[:, 0], fills.first)
            self.log.dram_access(final, False, number, read.tensor.name, where)
        address = self._slot(f"in{index}", np.arange(len(fills.first)))
        for sharer in range(fills.members.shape[1]):
            core = self.cores[fills.members[:, sharer]][:, None]
            size = self.slots[f"in{index}"].size_bytes
            self.log.add(final, True, index, name, boxes, Space.SCRATCHPAD, core, address, size)

    def _reads(self, index: int, operand: Operand, positions: Int64, fills: Fills) -> None:
        """Reads by the computing tasks: at every iteration, or every drain for the epilogue."""
        template, loops, name = self.template, self.template.loops, operand.tensor.name
        late = operand.part == "epilogue" and self.step.tiling.unit == "array"
        iterations = loops.result_last if late else np.arange(loops.iterations)
        readers = None if template.online is None else template.online.readers(index)
        main = template.main if readers is None else readers
        tasks = self.final[(template.drain if late else main)[positions]]
        boxes = loops.boxes(operand, positions, iterations)
        core = self.cores[positions][:, None]
        if self.step.resident[index]:
            where = self._kept(self.log.plan.root(name))
            self.log.add(tasks, False, index, name, boxes, Space.KEPT, core, *where)
            return
        address = self._slot(f"in{index}", fills.read_at(iterations))
        self.log.add(
            tasks,
            False,
            index,
            name,
            boxes,
            Space.SCRATCHPAD,
            core,
            address,
            self.slots[f"in{index}"].size_bytes,
        )

    def _slot(self, buffer: str, ordinal: Int64) -> Int64:
        found = self.slots[buffer]
        return (
            self.layout.address_bytes[f"{self.position}:{buffer}"] + ordinal % found.slots * found.size_bytes
        )

    def _kept(self, root: str) -> tuple[int, int]:
        key = f"kept:{root}"
        return self.layout.address_bytes[key], self.layout.size_bytes[key]

    # ---- sums and results -----------------------------------------------------------------------------------

    def _sums(self, out_boxes: tuple[Int64, Int64]) -> None:
        """Products accumulate into a half of the accumulator (or all of it); drains, additions and copies read it."""
        template, loops = self.template, self.template.loops
        tile = np.arange(loops.iterations) // loops.sum_steps
        boxes = (out_boxes[0][:, tile], out_boxes[1][:, tile])
        address, size = self._halves(tile, slice(None))
        core = self.cores[:, None]
        self.log.add(
            self.final[template.main],
            True,
            PARTIAL,
            self.result,
            boxes,
            Space.ACCUMULATOR,
            core,
            address,
            size,
        )
        if not template.rounds:
            self._accumulator_read(template.drain, slice(None), out_boxes)
            return
        for ordinal, r in enumerate(template.rounds):
            self._round(ordinal, r, out_boxes)
        owners = template.owners
        self._part(self.final[template.drain[owners]], False, owners, out_boxes)

    def _halves(self, tile: Int64, positions: Int64 | slice) -> tuple[Int64, int]:
        """Where in the accumulator each tile's sums lie [positions, tiles], and the size of a part of it."""
        template = self.template
        accumulator = self.kind.accumulator
        # Without one the sums lie in the array itself.
        whole = accumulator.size_bytes if accumulator is not None else 1 << 40
        if template.halves == 1:
            return np.zeros((len(self.half[positions]), len(tile)), np.int64), whole
        half = whole // 2
        return (tile[None, :] + self.half[positions][:, None]) % 2 * half, half

    def _accumulator_read(
        self, tasks: Int64, positions: Int64 | slice, out_boxes: tuple[Int64, Int64]
    ) -> None:
        address, size = self._halves(np.arange(tasks.shape[1]), positions)
        boxes = (out_boxes[0][positions], out_boxes[1][positions])
        core = self.cores[positions][:, None]
        where = (Space.ACCUMULATOR, core, address, size)
        self.log.add(self.final[tasks], False, PARTIAL, self.result, boxes, *where)

    def _round(self, ordinal: int, r: Any, out_boxes: tuple[Int64, Int64]) -> None:
        tiles = np.arange(r.sends.shape[1])
        if r.copies is not None:
            self._accumulator_read(r.copies, r.leaves, out_boxes)
            self._part(self.final[r.copies], True, r.leaves, out_boxes)
        sends, adds = self.final[r.sends], self.final[r.adds]
        self._part(sends, False, r.senders, out_boxes)
        for row, receiver in enumerate(r.receivers.tolist()):
            rounds = [k for k, other in enumerate(self.template.rounds) if receiver in other.receivers]
            number = tiles * len(rounds) + rounds.index(ordinal)
            address = self._slot("message", number)
            size = self.slots["message"].size_bytes
            boxes = (out_boxes[0][receiver], out_boxes[1][receiver])
            where = (Space.SCRATCHPAD, int(self.cores[receiver]), address, size)
            self.log.add(sends[row], True, PARTIAL, self.result, boxes, *where)
            self.log.add(adds[row], False, PARTIAL, self.result, boxes, *where)
        fresh = np.flatnonzero(r.fresh)
        if len(fresh):
            self._accumulator_read(r.adds[fresh], r.receivers[fresh], out_boxes)
        again = np.flatnonzero(~r.fresh)
        if len(again):
            self._part(adds[again], False, r.receivers[again], out_boxes)
        self._part(adds, True, r.receivers, out_boxes)

    def _part(self, tasks: Int64, write: bool, positions: Int64, out_boxes: tuple[Int64, Int64]) -> None:
        boxes = (out_boxes[0][positions], out_boxes[1][positions])
        core = self.cores[positions][:, None]
        address = self._slot("part", np.zeros(tasks.shape[1], np.int64))
        size = self.slots["part"].size_bytes
        self.log.add(tasks, write, PARTIAL, self.result, boxes, Space.SCRATCHPAD, core, address, size)

    def _results(self, out_boxes: tuple[Int64, Int64]) -> None:
        template, owners = self.template, self.template.owners
        boxes = (out_boxes[0][owners], out_boxes[1][owners])
        tasks = self.final[template.drain[owners]]
        core = self.cores[owners][:, None]
        address: Int64 | int
        if self.step.keep:
            space = Space.KEPT
            address, size = self._kept(self.log.plan.root(self.result))
        else:
            space = Space.SCRATCHPAD
            address, size = self._slot("out", np.arange(tasks.shape[1])), self.slots["out"].size_bytes
        where = (space, core, address, size)
        self.log.add(tasks, True, RESULT, self.result, boxes, *where)
        if template.stores is not None:
            stores = self.final[template.stores]
            self.log.add(stores, False, RESULT, self.result, boxes, *where)
            self.log.dram_access(stores, True, RESULT, self.result, boxes)
