"""Does the program itself order every pair of conflicting accesses? A static happens-before check.

An engine run shows one timing; here no timing is assumed. Task u is known to have finished when task t starts if
a chain of these leads from u to t: u is a predecessor of t; a task started before t in t's queue knew it; u is in a
compute queue (which completes in order) behind which a later task is known to have finished. Every write to a
memory must know all earlier accesses that it overlaps, every read all earlier writes. A missing edge shows up as a
race even if today's durations hide it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sim.errors import InputError, InvariantViolation
from sim.program import Functional, Kind, Program, Segment, Space

MAX_TASKS = 60_000
"""Tasks of a segment up to which the check is offered: its memory grows with their square (450 MB here)."""


@dataclass(frozen=True, slots=True)
class Race:
    """Two accesses that nothing orders: `task` comes later in the table, `other` is not known to have finished."""

    segment: str
    kind: str
    task: int
    other: int
    space: str
    core: int
    address_bytes: int
    tensor: str

    def __str__(self) -> str:
        where = self.space if self.core < 0 else f"{self.space} of core {self.core}"
        return (
            f"{self.segment}: {self.kind}: task {self.task} does not wait for task {self.other} "
            f"({where}, address {self.address_bytes}, {self.tensor})"
        )


@dataclass(frozen=True, slots=True)
class _Access:
    """The box is that of a tensor of this `shape` and `root`; `slot`: it has the range of addresses to itself."""

    task: int
    write: bool
    root: str
    shape: tuple[int, ...]
    start: tuple[int, ...]
    stop: tuple[int, ...]
    low: int
    high: int
    slot: bool

    def conflicts(self, other: _Access) -> bool:
        """Do the two touch the same bytes? Boxes of one tensor may lie side by side in a range that is no slot."""
        if self.high <= other.low or other.high <= self.low:
            return False
        if self.root != other.root or self.slot or other.slot:
            return True
        if self.shape != other.shape:
            (a, b), (c, d) = self.hull(), other.hull()
            return a < d and c < b
        return all(
            a < d and c < b for a, b, c, d in zip(self.start, self.stop, other.start, other.stop, strict=True)
        )

    def covers(self, other: _Access) -> bool:
        """Once this write is done, is nothing of the other access left to wait for?"""
        if not (self.low <= other.low and other.high <= self.high):
            return False
        if self.slot:
            return True
        if self.root != other.root or self.shape != other.shape:
            return False
        return all(
            a <= c and d <= b
            for a, b, c, d in zip(self.start, self.stop, other.start, other.stop, strict=True)
        )

    def hull(self) -> tuple[int, int]:
        """First element and one past the last in row-major order: how boxes compare across a reshape."""
        first = last = 0
        for size, start, stop in zip(self.shape, self.start, self.stop, strict=False):
            first, last = first * size + start, last * size + stop - 1
        return first, last + 1


def find_races(program: Program) -> list[Race]:
    """All races of a program that was lowered with functional columns.

    Raises InputError when it is too large to check.
    """
    found: list[Race] = []
    for segment in program.segments:
        if segment.functional is None:
            raise InvariantViolation(f"segment {segment.name} was lowered without functional columns")
        if segment.tasks > MAX_TASKS:
            raise InputError(
                f"segment {segment.name} has {segment.tasks:,} tasks; "
                f"the ordering of at most {MAX_TASKS:,} can be checked"
            )
        found += _segment_races(segment, segment.functional, finished_before(program, segment))
    return found


def finished_before(program: Program, segment: Segment) -> list[int]:
    """For every task, as the bits of an integer, the tasks known to have finished when it starts."""
    compute = [queue.outstanding == 0 for queue in program.queues]
    at_start: list[int] = []
    at_finish: list[int] = []
    last_in_queue: dict[int, int] = {}
    pointers, predecessors = segment.pptr.tolist(), segment.pidx.tolist()
    for task, queue in enumerate(segment.queue.tolist()):
        known = 0
        for before in predecessors[pointers[task] : pointers[task + 1]]:
            known |= at_finish[before]
        previous = last_in_queue.get(queue)
        if previous is not None:
            known |= at_start[previous]
        done = known | 1 << task
        if compute[queue] and previous is not None:
            done |= at_finish[previous]
        at_start.append(known)
        at_finish.append(done)
        last_in_queue[queue] = task
    return at_start


def _segment_races(segment: Segment, columns: Functional, known: list[int]) -> list[Race]:
    found: list[Race] = []
    # By memory, and there by range of addresses: what may still be overtaken.
    live: dict[tuple[Space, int], dict[tuple[int, int], list[_Access]]] = {}
    written = {columns.roots[number] for number in np.unique(columns.tensor[columns.write]).tolist()}
    finished, task = b"", -1
    for space, core, access in _accesses(segment, columns):
        if space == Space.DRAM and access.root not in written:
            continue
        if access.task != task:
            task = access.task
            finished = known[task].to_bytes(segment.tasks // 8 + 1, "little")
        ranges = live.setdefault((Space.SCRATCHPAD if space == Space.KEPT else Space(space), core), {})
        for (low, high), others in ranges.items():
            if low < access.high and access.low < high:
                for other in others:
                    if (access.write or other.write) and other.task != task and access.conflicts(other):
                        done = finished[other.task >> 3] >> (other.task & 7) & 1
                        if not done and not (space == Space.ACCUMULATOR and _accumulate(segment, access, other)):
                            found.append(_race(segment, space, core, access, other))
                if access.write:
                    ranges[low, high] = [o for o in others if o.task == task or not access.covers(o)]
        ranges.setdefault((access.low, access.high), []).append(access)
    return found


def _accumulate(segment: Segment, one: _Access, other: _Access) -> bool:
    """Do both add to the same sums in the accumulator, in the order of their queue? Products that read there, or make
    something else of the place, have to wait as all others do."""
    return bool(
        one.write
        and other.write
        and (one.root, one.start, one.stop) == (other.root, other.start, other.stop)
        and segment.kind[one.task] == segment.kind[other.task] == Kind.MATMUL
        and segment.queue[one.task] == segment.queue[other.task]
    )


def _race(segment: Segment, space: int, core: int, access: _Access, other: _Access) -> Race:
    kind = f"{'write' if access.write else 'read'} after {'write' if other.write else 'read'}"
    where = Space(space).name.lower()
    return Race(segment.name, kind, access.task, other.task, where, core, access.low, access.root)


def _accesses(segment: Segment, columns: Functional) -> Iterator[tuple[int, int, _Access]]:
    """(space, core, access) in program order; a task's reads before its writes."""
    pointers, op = columns.aptr.tolist(), segment.op.tolist()
    # What a gather reads depends on the numbers: it may be any part of the tensor.
    gathered = {
        (row, number)
        for row, meaning in enumerate(columns.semantics)
        for number, operand in enumerate(meaning[1].operands if meaning else ())
        if operand.gathered
    }
    write, tensor = columns.write.tolist(), columns.tensor.tolist()
    space, core = columns.space.tolist(), columns.core.tolist()
    operand = columns.operand.tolist()
    low, size = columns.address_bytes.tolist(), columns.size_bytes.tolist()
    start, stop = [tuple(b) for b in columns.start.tolist()], [tuple(b) for b in columns.stop.tolist()]
    for task in range(len(pointers) - 1):
        for row in reversed(range(pointers[task], pointers[task + 1])):
            root, shape = columns.roots[tensor[row]], columns.shapes[tensor[row]]
            where = low[row], low[row] + size[row], space[row] in (Space.SCRATCHPAD, Space.ACCUMULATOR)
            box = start[row], stop[row]
            if space[row] == Space.DRAM and (op[task], operand[row]) in gathered:
                box = (0,) * len(start[row]), shape + (1,) * (len(start[row]) - len(shape))
            access = _Access(task, write[row], root, shape, *box, *where)
            yield space[row], core[row], access
