"""Programs with one mistake in them, such as a lowering could make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from sim.program import PARTIAL, RESULT, Functional, Kind, Program, Segment, Space

Corruption = Callable[[Segment, Functional], Functional]
Mask = npt.NDArray[np.bool_]


def without_edges(program: Program, before: Kind, after: Kind, *, other_op: bool | None = None) -> Program:
    """No task of kind `after` waits for one of kind `before`, directly or through a barrier task; of the same
    operator only, or of another one only, if `other_op` says so."""
    return replace(program, segments=tuple(_cut(s, before, after, other_op) for s in program.segments))


def _cut(segment: Segment, before: Kind, after: Kind, other_op: bool | None) -> Segment:
    waits = np.repeat(np.arange(segment.tasks), np.diff(segment.pptr))
    first, second = segment.kind[segment.pidx], segment.kind[waits]
    drop = (first == before) & (second == after)
    if other_op is not None:
        drop &= (segment.op[segment.pidx] != segment.op[waits]) == other_op
    assert drop.any(), f"no {after.name} waits for a {before.name}"
    kept = np.concatenate([[0], np.cumsum(~drop)])
    return replace(segment, pidx=segment.pidx[~drop], pptr=kept[segment.pptr].astype(np.int32))


def corrupted(program: Program, corruption: Corruption) -> Program:
    """The program with the functional columns of its first segment changed. Tasks left without an access do
    nothing."""
    first, *others = program.segments
    assert first.functional is not None
    columns = corruption(first, first.functional)
    kind = np.where((np.diff(columns.aptr) == 0) & (first.route < 0), np.int8(Kind.BARRIER), first.kind)
    return replace(program, segments=(replace(first, functional=columns, kind=kind), *others))


def task_of(columns: Functional) -> npt.NDArray[np.int64]:
    """The task of every access."""
    return np.repeat(np.arange(len(columns.aptr) - 1), np.diff(columns.aptr))


def without_rows(columns: Functional, drop: Mask) -> Functional:
    """Without some accesses."""
    kept = np.concatenate([[0], np.cumsum(~drop)])
    names = ("write", "operand", "tensor", "start", "stop", "space", "core", "address_bytes", "size_bytes")
    rows = {name: getattr(columns, name)[~drop] for name in names}
    return replace(columns, aptr=kept[columns.aptr].astype(np.int64), **rows)


def of_kind(segment: Segment, columns: Functional, kind: Kind) -> Mask:
    return np.asarray(segment.kind[task_of(columns)] == kind)


def _pick(mask: Mask, number: int = 3) -> int:
    """One of the accesses of a mask, not the first."""
    rows = np.flatnonzero(mask)
    assert len(rows), "the program has nothing to corrupt in this way"
    return int(rows[min(number, len(rows) - 1)])


def _all_of(columns: Functional, row: int) -> Mask:
    """Every access of the task of one."""
    task = task_of(columns)
    return np.asarray(task == task[row])


def _moved(segment: Segment, columns: Functional, accesses: Mask) -> Functional:
    """With one of the accesses moved to another slot of its buffer."""
    address = columns.address_bytes.copy()
    buffer = np.column_stack([segment.op[task_of(columns)], columns.operand, columns.core])
    for row in np.flatnonzero(accesses).tolist():
        others = address[accesses & (buffer == buffer[row]).all(axis=1) & (address != address[row])]
        if len(others):
            address[row] = others[0]
            return replace(columns, address_bytes=address)
    raise AssertionError("the program has no buffer of several slots")


def shifted_load(segment: Segment, columns: Functional) -> Functional:
    """A load brings the box beside the one it says it brings."""
    reads = of_kind(segment, columns, Kind.LOAD) & (columns.space == Space.DRAM) & ~columns.write
    room = np.array([shape[-1] if shape else 0 for shape in columns.shapes])[columns.tensor]
    last = np.array([len(shape) - 1 for shape in columns.shapes])[columns.tensor]
    stop = columns.stop[np.arange(len(last)), last]
    row = _pick(reads & (stop < room))
    start, stop = columns.start.copy(), columns.stop.copy()
    start[row, last[row]] += 1
    stop[row, last[row]] += 1
    return replace(columns, start=start, stop=stop)


def shrunk_halo(segment: Segment, columns: Functional) -> Functional:
    """A load of an activation leaves out the last row of its box, and so does everyone who uses it."""
    task = task_of(columns)
    inputs = np.array([len(shape) == 4 and shape[2] > 3 for shape in columns.shapes])[columns.tensor]
    loads = of_kind(segment, columns, Kind.LOAD) & columns.write & inputs
    row = _pick(loads & (columns.stop[:, 2] - columns.start[:, 2] > 2))
    same = (columns.tensor == columns.tensor[row]) & (columns.operand == columns.operand[row])
    same &= segment.op[task] == segment.op[task[row]]
    same &= ((columns.start == columns.start[row]) & (columns.stop == columns.stop[row])).all(axis=1)
    stop = columns.stop.copy()
    stop[same, 2] -= 1
    return replace(columns, stop=stop)


def swapped_slots(segment: Segment, columns: Functional) -> Functional:
    """A load fills the other slot of its buffer."""
    writes = of_kind(segment, columns, Kind.LOAD) & columns.write & (columns.space == Space.SCRATCHPAD)
    return _moved(segment, columns, writes)


def shortened_sum(segment: Segment, columns: Functional) -> Functional:
    """One product of a sum is left out."""
    products = np.flatnonzero(of_kind(segment, columns, Kind.MATMUL) & columns.write)
    what = np.column_stack([columns.start, columns.stop, columns.tensor])[products]
    _, first = np.unique(what, axis=0, return_index=True)
    again = np.zeros(len(columns.write), np.bool_)
    again[np.delete(products, first)] = True
    return without_rows(columns, _all_of(columns, _pick(again)))


def operand_from_another_slot(segment: Segment, columns: Functional) -> Functional:
    """A product reads the slot that is being filled for a later one."""
    reads = of_kind(segment, columns, Kind.MATMUL) & (columns.space == Space.SCRATCHPAD) & ~columns.write
    return _moved(segment, columns, reads)


def skipped_store(segment: Segment, columns: Functional) -> Functional:
    """A tile of a result never gets to DRAM."""
    stores = of_kind(segment, columns, Kind.STORE) & columns.write
    return without_rows(columns, _all_of(columns, _pick(stores)))


def store_to_another_place(segment: Segment, columns: Functional) -> Functional:
    """A store puts its tile where the one before put its own."""
    rows = np.flatnonzero(of_kind(segment, columns, Kind.STORE) & columns.write)
    extents = columns.stop - columns.start
    row = next(
        int(r)
        for r, before in zip(rows[1:], rows[:-1], strict=True)
        if columns.tensor[r] == columns.tensor[before] and (extents[r] == extents[before]).all()
    )
    before = int(rows[np.flatnonzero(rows == row)[0] - 1])
    start, stop = columns.start.copy(), columns.stop.copy()
    start[row], stop[row] = start[before], stop[before]
    return replace(columns, start=start, stop=stop)


def skipped_load(segment: Segment, columns: Functional) -> Functional:
    """A tile is never loaded."""
    loads = of_kind(segment, columns, Kind.LOAD) & columns.write & (columns.space == Space.SCRATCHPAD)
    return without_rows(columns, _all_of(columns, _pick(loads, 7)))


def skipped_message(segment: Segment, columns: Functional) -> Functional:
    """A part of a sum never gets to its owner."""
    sends = of_kind(segment, columns, Kind.SEND) & columns.write
    return without_rows(columns, _all_of(columns, _pick(sends)))


def forgotten_part(segment: Segment, columns: Functional) -> Functional:
    """An addition leaves out the part that came from another core."""
    adds = of_kind(segment, columns, Kind.VECTOR) & (columns.operand == PARTIAL) & ~columns.write
    messages = adds & (columns.space == Space.SCRATCHPAD)
    count = np.bincount(task_of(columns)[adds], minlength=segment.tasks)
    drop = np.zeros(len(adds), np.bool_)
    drop[_pick(messages & (count[task_of(columns)] == 2))] = True
    return without_rows(columns, drop)


def message_to_another_core(segment: Segment, columns: Functional) -> Functional:
    """A part of a sum goes to a core that does not wait for it."""
    row = _pick(of_kind(segment, columns, Kind.SEND) & columns.write)
    core = columns.core.copy()
    core[row] = (core[row] + 1) % (int(core.max()) + 1)
    return replace(columns, core=core)


def result_in_the_other_slot(segment: Segment, columns: Functional) -> Functional:
    """A drain puts its result where the tile before put its own."""
    drains = of_kind(segment, columns, Kind.VECTOR) & columns.write & (columns.operand == RESULT)
    return _moved(segment, columns, drains & (columns.space == Space.SCRATCHPAD))


def half_of_the_accumulator(segment: Segment, columns: Functional) -> Functional:
    """All sums lie in the same half of the accumulator, on the assumption that it is empty."""
    address = np.where(columns.space == Space.ACCUMULATOR, 0, columns.address_bytes)
    return replace(columns, address_bytes=address)


def kept_result_overlapped(segment: Segment, columns: Functional) -> Functional:
    """Buffers were placed as if results that stay in the scratchpad needed no room."""
    kept = columns.space == Space.KEPT
    low = int(columns.address_bytes[columns.space == Space.SCRATCHPAD].min())
    return replace(columns, address_bytes=np.where(kept, low, columns.address_bytes))


def kept_on_another_core(segment: Segment, columns: Functional) -> Functional:
    """A core reads in place what another core holds."""
    row = _pick((columns.space == Space.KEPT) & ~columns.write & of_kind(segment, columns, Kind.VECTOR))
    core = columns.core.copy()
    core[row] = (core[row] + 1) % (int(core.max()) + 1)
    return replace(columns, core=core)


def dram_reused_too_early(segment: Segment, columns: Functional) -> Functional:
    """All results lie at the same place in DRAM."""
    results = np.isin(columns.tensor, np.unique(columns.tensor[columns.write & (columns.space == Space.DRAM)]))
    where = results & (columns.space == Space.DRAM)
    address = np.where(where, int(columns.address_bytes[where].min()), columns.address_bytes)
    return replace(columns, address_bytes=address)
