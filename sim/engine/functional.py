"""The third reader of a Program: it computes.

Tasks run in Timeline order on real numbers in modelled memories: a load copies a box of a tensor from DRAM into a
scratchpad slot, a matrix product adds the product of two slots to a part of the accumulator, a vector task turns
sums or slots into a result, a store copies it back. Operands are read when a task starts; when it finishes, the
slots it read must not have been written meanwhile. A missing load, a wrong tile or a slot overwritten too early
gives a wrong number or an error, never a silent pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.engine.online import online_task
from sim.errors import InvariantViolation
from sim.graph.graph import Graph
from sim.graph.nest import Nest
from sim.graph.op import Op
from sim.graph.tensor import Tensor
from sim.graph.tile import drain_result, tile_result
from sim.program import PARTIAL, Functional, Kind, Program, Segment, Space
from sim.timeline import SegmentTimeline, Timeline

Array = npt.NDArray[Any]
Box = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Access:
    """One row of the functional columns."""

    write: bool
    operand: int
    tensor: str
    root: str
    shape: tuple[int, ...]
    box: Box
    space: Space
    core: int
    address: int

    @property
    def slot(self) -> tuple[int, int, int]:
        """What names the slot: a kept result and a slot never share an address while both are live."""
        return self.space, self.core, self.address


@dataclass
class _Slot:
    """A slot of a scratchpad or accumulator: its box and numbers, how often it was written, writes under way, and
    (accumulators) whether its sums have been taken."""

    access: Access | None = None
    value: Array | None = None
    version: int = 0
    writing: int = 0
    taken: bool = True


@dataclass
class _Kept:
    """A result that lies in a scratchpad box by box: numbers and validity of the whole tensor, row-major."""

    value: Array
    valid: npt.NDArray[np.bool_]


@dataclass
class _Memory:
    """All memories of the chip. DRAM holds whole tensors, with a mask of what has been written."""

    dtype: npt.DTypeLike
    dram: dict[str, _Kept] = field(default_factory=dict)
    slots: dict[tuple[int, int, int], _Slot] = field(default_factory=dict)
    kept: dict[tuple[int, int, int, str], _Kept] = field(default_factory=dict)

    def board(self, access: Access) -> _Kept:
        """Where a tensor lies in DRAM, or a kept result in a scratchpad; empty at first."""
        if access.space == Space.DRAM:
            table: dict[Any, _Kept] = self.dram
            key: Any = access.root
        else:
            table, key = self.kept, (*access.slot, access.root)
        if key not in table:
            size = int(np.prod(access.shape, dtype=np.int64))
            table[key] = _Kept(np.zeros(size, self.dtype), np.zeros(size, np.bool_))
        return table[key]


def run(program: Program, timeline: Timeline, graph: Graph, values: Mapping[str, Array]) -> dict[str, Array]:
    """The numbers a program computes: the outputs of the graph, and its states as they are at the end.

    `values` gives every input, weight and state. Raises InvariantViolation naming the task that reads what was
    never written, or whose operand is overwritten while it reads.
    """
    floating = any(np.issubdtype(v.dtype, np.floating) for v in values.values())
    memory = _Memory(np.float64 if floating else np.int64)
    for name, value in values.items():
        flat = np.asarray(value).reshape(-1).astype(_wide(value.dtype))
        memory.dram[name] = _Kept(flat, np.ones(flat.size, np.bool_))
    for segment, times in zip(program.segments, timeline.segments, strict=True):
        if segment.functional is None:
            raise InvariantViolation(f"segment {segment.name} was lowered without functional columns")
        _Executor(segment, segment.functional, times, graph, memory).run()
        memory.slots.clear()
        memory.kept.clear()
    states = [op.output for op in graph.ops if op.kind == "cache_update"]
    names = dict.fromkeys([*graph.outputs, *states])
    return {name: _output(memory, program, graph, name) for name in names}


def _wide(dtype: np.dtype[Any]) -> npt.DTypeLike:
    """The number format that values of this one are computed in."""
    if dtype == np.bool_:
        return dtype
    return np.int64 if np.issubdtype(dtype, np.integer) else np.float64


def _output(memory: _Memory, program: Program, graph: Graph, name: str) -> Array:
    root = name
    for segment in program.segments:
        columns = segment.functional
        if columns is not None and name in columns.tensors:
            root = columns.roots[columns.tensors.index(name)]
    found = memory.dram.get(root)
    if found is None or not found.valid.all():
        raise InvariantViolation(f"output {name} was not written completely")
    return found.value.reshape(graph.tensors[name].shape)


@dataclass
class _Executor:
    segment: Segment
    columns: Functional
    times: SegmentTimeline
    graph: Graph
    memory: _Memory

    def run(self) -> None:
        pending: dict[int, tuple[list[Access], list[Array], list[tuple[Access, int]]]] = {}
        for task, starts in self._events():
            if starts:
                accesses = self._accesses(task)
                pending[task] = accesses, *self._start(task, accesses)
            else:
                self._finish(task, *pending.pop(task))

    def _events(self) -> Iterator[tuple[int, bool]]:
        """(task, starts?) in time; at one instant, finishes come before starts."""
        n = self.segment.tasks
        time = np.concatenate([self.times.finish, self.times.start])
        starts = np.repeat([False, True], n)
        task = np.tile(np.arange(n), 2)
        for row in np.lexsort((task, starts, time)).tolist():
            yield int(task[row]), bool(starts[row])

    def _accesses(self, task: int) -> list[Access]:
        c = self.columns
        found = []
        for row in range(int(c.aptr[task]), int(c.aptr[task + 1])):
            number, operand = int(c.tensor[row]), int(c.operand[row])
            # The box of a gathered operand is in the shape of the result.
            meaning = c.semantics[int(self.segment.op[task])] if operand >= 0 else None
            rank = len(meaning[1].operands[operand].axes) if meaning else len(c.shapes[number])
            box = tuple(c.start[row, :rank].tolist()), tuple(c.stop[row, :rank].tolist())
            found.append(
                Access(
                    bool(c.write[row]),
                    operand,
                    c.tensors[number],
                    c.roots[number],
                    c.shapes[number],
                    box,
                    Space(int(c.space[row])),
                    int(c.core[row]),
                    int(c.address_bytes[row]),
                )
            )
        return found

    # ---- start ----------------------------------------------------------------------------------------------

    def _start(self, task: int, accesses: list[Access]) -> tuple[list[Array], list[tuple[Access, int]]]:
        """Read the operands and compute; announce the writes. Returns what to write and the versions read."""
        versions = []
        values = {}
        for access in accesses:
            if not access.write:
                values[access] = self._read(task, access)
                if access.space in (Space.SCRATCHPAD, Space.ACCUMULATOR):
                    versions.append((access, self.memory.slots[access.slot].version))
        outcome = self._compute(task, accesses, values)
        for access in accesses:
            if access.write and access.space in (Space.SCRATCHPAD, Space.ACCUMULATOR):
                slot = self.memory.slots.setdefault(access.slot, _Slot())
                own = any(access.slot == other.slot for other, _ in versions)
                slot.version += 0 if own else 1
                slot.writing += 1
        return outcome, versions

    def _read(self, task: int, access: Access) -> Array:
        if access.space in (Space.DRAM, Space.KEPT):
            return self._read_board(task, access)
        slot = self.memory.slots.get(access.slot)
        if slot is None or slot.access is None or slot.value is None:
            raise self._wrong(task, access, "reads a slot that nothing was written to")
        if slot.writing:
            raise self._wrong(task, access, "reads a slot while it is being written")
        if (slot.access.tensor, slot.access.box) != (access.tensor, access.box):
            held = f"{slot.access.tensor} {slot.access.box}"
            raise self._wrong(task, access, f"expects {access.box} and finds {held}")
        if access.space == Space.ACCUMULATOR:
            slot.taken = True
        return slot.value

    def _read_board(self, task: int, access: Access) -> Array:
        operand = self._operand(task, access)
        if operand is not None and operand.gathered and access.space == Space.DRAM:
            return self._gather(task, access)
        board = self.memory.board(access)
        where = tuple(slice(a, b) for a, b in zip(*access.box, strict=True))
        if not board.valid.reshape(access.shape)[where].all():
            raise self._wrong(task, access, "reads what has not been written")
        return board.value.reshape(access.shape)[where].copy()

    def _operand(self, task: int, access: Access) -> Any:
        meaning = self.columns.semantics[int(self.segment.op[task])]
        return None if meaning is None or access.operand < 0 else meaning[1].operands[access.operand]

    def _gather(self, task: int, access: Access) -> Array:
        """Rows that the indices in DRAM point at; the box is in the shape of the result."""
        op, nest = self.columns.semantics[int(self.segment.op[task])]
        data, indices = (self._whole(operand.tensor) for operand in nest.inputs)
        table, index = (o.tensor.shape for o in nest.inputs)
        where = [slice(a, b) for a, b in zip(*access.box, strict=True)]
        axis = op["axis"]
        before, picked, behind = where[:axis], where[axis : axis + len(index)], where[axis + len(index) :]
        # Which rows its indices name is known only now: any of them.
        if not (indices.valid.reshape(index)[tuple(picked)].all() and data.valid.all()):
            raise self._wrong(task, access, "gathers rows or indices that have not been written")
        rows = indices.value.reshape(index)[tuple(picked)].astype(np.int64)
        part = data.value.reshape(table)[(*before, slice(None), *behind)]
        return np.asarray(np.take(part, rows, axis=axis, mode="wrap"))

    def _whole(self, tensor: Tensor) -> _Kept:
        """A tensor as far as it has been written to DRAM."""
        nothing = _Kept(np.zeros(tensor.elements, self.memory.dtype), np.zeros(tensor.elements, np.bool_))
        return self.memory.dram.get(self._root(tensor.name), nothing)

    def _root(self, name: str) -> str:
        return self.columns.roots[self.columns.tensors.index(name)] if name in self.columns.tensors else name

    # ---- compute --------------------------------------------------------------------------------------------

    def _compute(self, task: int, accesses: list[Access], values: dict[Access, Array]) -> list[Array]:
        """The value of every write, in the order of the accesses."""
        kind = Kind(int(self.segment.kind[task]))
        writes = [access for access in accesses if access.write]
        if kind in (Kind.LOAD, Kind.STORE, Kind.SEND):
            if not values or not writes:
                return self._with_host(writes, values)
            moved = next(iter(values.values()))
            return [moved for _ in writes]
        if kind == Kind.BARRIER:
            return []
        op, nest = self.columns.semantics[int(self.segment.op[task])]
        if nest.kind == "attention":
            inside = {a.tensor.removeprefix(nest.out.tensor.name): v for a, v in values.items() if a.operand == PARTIAL}
            read = {a.operand: v for a, v in values.items() if a.operand >= 0}
            return online_task(op, nest, [(a.tensor, a.operand == PARTIAL, a.box[0]) for a in writes], read, inside)
        sums = [values[a] for a in accesses if not a.write and a.operand == PARTIAL]
        operands = {a.operand: (a.box, values[a]) for a in accesses if not a.write and a.operand >= 0}
        (out,) = writes
        if kind == Kind.MATMUL:
            return [self._body(op, nest, out, operands)]
        if out.operand == PARTIAL:
            return [np.sum(sums, axis=0, dtype=sums[0].dtype)]
        result = sums[0] if sums else self._body(op, nest, out, operands)
        late = [i for i, o in enumerate(nest.operands) if o.part == "epilogue"]
        return [drain_result(op, result, [operands[i][1] for i in late])]

    def _with_host(self, writes: list[Access], values: dict[Access, Array]) -> list[Array]:
        """What a transfer from the host writes to a scratchpad: the input, which lies among the DRAM's tensors from the
        beginning. There a result that the host takes from a scratchpad is put as well."""
        for access, value in values.items():
            if access.space == Space.KEPT:
                self.memory.dram[access.root] = _Kept(value.reshape(-1), np.ones(value.size, np.bool_))
        given = [self.memory.dram[access.root].value for access in writes if access.space == Space.KEPT]
        return [value.reshape(access.shape) for value, access in zip(given, writes, strict=False)]

    def _body(self, op: Op, nest: Nest, out: Access, operands: dict[int, tuple[Box, Array]]) -> Array:
        main = [i for i, o in enumerate(nest.operands) if o.part != "epilogue"]
        boxes = [operands[i][0] for i in main]
        return tile_result(op, nest, out.box, boxes, [operands[i][1] for i in main])

    # ---- finish ---------------------------------------------------------------------------------------------

    def _finish(
        self, task: int, accesses: list[Access], outcome: list[Array], versions: list[tuple[Access, int]]
    ) -> None:
        for access, version in versions:
            if self.memory.slots[access.slot].version != version:
                raise self._wrong(task, access, "has its operand overwritten while it works")
        writes = [access for access in accesses if access.write]
        if len(outcome) < len(writes):
            # A transfer from the host: the input is in place already.
            return
        for access, value in zip(writes, outcome, strict=True):
            self._write(task, access, value)

    def _write(self, task: int, access: Access, value: Array) -> None:
        if access.space in (Space.DRAM, Space.KEPT):
            board = self.memory.board(access)
            where = tuple(slice(a, b) for a, b in zip(*access.box, strict=True))
            if np.issubdtype(value.dtype, np.floating) and not np.issubdtype(board.value.dtype, np.floating):
                board.value = board.value.astype(np.float64)
            board.value.reshape(access.shape)[where] = value
            board.valid.reshape(access.shape)[where] = True
            return
        slot = self.memory.slots[access.slot]
        accumulates = (
            access.space == Space.ACCUMULATOR
            and not slot.taken
            and slot.access is not None
            and (slot.access.tensor, slot.access.box) == (access.tensor, access.box)
        )
        slot.value = slot.value + value if accumulates else value
        slot.access, slot.taken = access, False
        slot.version += 1
        slot.writing -= 1

    def _wrong(self, task: int, access: Access, what: str) -> InvariantViolation:
        row = self.segment.ops[int(self.segment.op[task])]
        kind = Kind(int(self.segment.kind[task])).name
        where = "DRAM" if access.core < 0 else f"{access.space.name.lower()} of core {access.core}"
        return InvariantViolation(
            f"{kind} of {row.name} {what}",
            task=task,
            detail=f"{access.tensor} at {access.address} in {where}",
        )
