"""The contract between mapping and engines: tasks, queues, links and routes, as a structure of arrays.

A `Segment` is a run of tasks that starts and ends with the whole chip idle (a barrier); a `Program` is a list
of segments, each with the number of times it runs. The engine sees nothing of the graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cache
from math import gcd
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.errors import InvariantViolation

Int8 = npt.NDArray[np.int8]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

BYTE_UNITS = 1 << 24
"""Link units per byte; 1 TB/s is exactly 2^24 units per tick of 1 ps."""

PAYLOAD_WEIGHT = 256
"""Route weight of plain payload; a DRAM entry carries 256 / efficiency of its access pattern."""

MIN_LINK_CAPACITY = 1 << 10
MAX_LINK_CAPACITY = 1 << 40
MAX_ROUTE_WEIGHT = 1 << 16
MAX_TASK_BYTES = 1 << 38
MAX_TAG = 1 << 29
"""Highest address in DRAM, in cache sizes of one way (see sim/hw/tags.py)."""

MAX_TICKS = 1 << 62
"""No time may reach this (53 days); so the sum of a time and a duration still fits an int64."""


class Kind(IntEnum):
    """What a task is."""

    LOAD = 0
    STORE = 1
    MATMUL = 2
    VECTOR = 3
    SEND = 4
    BARRIER = 5


@dataclass(frozen=True, slots=True)
class Queue:
    """One serial resource. A compute queue (`outstanding` 0) starts a task when the previous one's hold is
    over; a DMA queue keeps at most `outstanding` transfers in flight.

    `unit` is array, vector, load, store, send, port, host or sync; `core` is -1 where the queue has none.
    """

    name: str
    unit: str
    core: int
    outstanding: int = 0


@dataclass(frozen=True, slots=True)
class Link:
    """A shared capacity. `kind` is dram, port, noc, dma, cache, host or chip_links; `capacity` in units per tick."""

    name: str
    kind: str
    capacity: int


@dataclass(frozen=True, slots=True)
class OpRow:
    """What the tasks of one operator have in common: for reports, energy and checks.

    `counts` are action counts of the operator over the whole segment (see sim/cost/actions.py);
    `mapping` says in words and numbers how it was mapped.
    """

    name: str
    kind: str
    dtype: str
    accumulator_dtype: str
    macs: int
    counts: Mapping[str, float] = field(default_factory=dict)
    mapping: Mapping[str, Any] = field(default_factory=dict)
    input_index: int = 0


@dataclass(frozen=True, slots=True)
class Segment:
    """Tasks in table order; arrays of one entry per task unless said.

    kind int8 · queue int32 · hold, dur, nbytes, release int64 (ticks, ticks, bytes, ticks) · route int32 (row
    of the program's routes, -1 none) · op int32 (row of `ops`) · pptr int32 (tasks + 1), pidx int32:
    predecessors as compressed rows, every predecessor smaller than its task.
    """

    name: str
    kind: Int8
    queue: Int32
    hold: Int64
    dur: Int64
    nbytes: Int64
    route: Int32
    release: Int64
    pptr: Int32
    pidx: Int32
    op: Int32
    ops: tuple[OpRow, ...]
    functional: Functional | None = None
    probes: Probes | None = None

    @property
    def tasks(self) -> int:
        return len(self.kind)

    @property
    def size_bytes(self) -> int:
        """Memory of the timing columns."""
        columns = (self.kind, self.queue, self.hold, self.dur, self.nbytes, self.route, self.release)
        return sum(c.nbytes for c in (*columns, self.pptr, self.pidx, self.op))


class Space(IntEnum):
    """Which memory an access goes to. KEPT is the scratchpad too: a result that lies there box by box, where a slot
    of SCRATCHPAD holds one box at a time."""

    DRAM = 0
    SCRATCHPAD = 1
    ACCUMULATOR = 2
    KEPT = 3


RESULT, PARTIAL = -1, -2
"""Operand numbers of a finished result and of a sum (or a part of one) on its way there."""


@dataclass(frozen=True, slots=True)
class Functional:
    """What every task reads and writes, for the functional executor and the happens-before check; built only when
    asked for.

    Accesses of task t are rows `aptr[t]:aptr[t + 1]` of the other columns: `write`, `operand` (of the loop nest;
    RESULT and PARTIAL for what it makes), `tensor` (row of `tensors`) with the box `start`/`stop` [accesses, max rank]
    (padded with 0 and 1), and where: `space`, `core` (-1 DRAM), `address_bytes`, `size_bytes`. `semantics[op]` is
    the operator and loop nest of a row of `ops`, opaque to this module (None for rows without tasks to compute).
    `roots` names the tensor whose memory each tensor is: itself, unless it is a view or an update in place.
    """

    tensors: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    roots: tuple[str, ...]
    semantics: tuple[Any, ...]
    aptr: Int64
    write: npt.NDArray[np.bool_]
    operand: Int8
    tensor: Int32
    start: Int64
    stop: Int64
    space: Int8
    core: Int32
    address_bytes: Int64
    size_bytes: Int64


class Policy(IntEnum):
    """What a transfer does with lines of DRAM that the cache does not hold (see sim/hw/tags.py)."""

    CACHE = 0
    BYPASS = 1
    PIN = 2


@dataclass(frozen=True, slots=True)
class TagStore:
    """The shape of the chip's cache; `line_bytes` may be several lines of the chip's taken together. `warm` are regions
    (address, bytes) that it holds when a pass begins, as if they had just been read in this order."""

    sets: int
    ways: int
    line_bytes: int
    hashed: bool = False
    warm: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Probes:
    """The transfers of a segment that look into the cache when they issue; one entry per transfer unless said.

    task int32, ascending · write bool · policy int8 (Policy) · tensor int32 (row of `tensors`) · address int64 ·
    run_bytes int64 · count, pitch int64 [probes, levels]: the region of DRAM is `run_bytes` at `address`, repeated
    `count` times at `pitch` bytes for each level, the last innermost; its bytes are the task's. hit_route int32,
    hit_dur int64: the way of what hits and its head latency; `route` and `dur` of the task are those of what misses.
    rest_route int32: the way between cache and DRAM of evicted lines and of the rest of lines filled for a part.
    `shift` int64 [repeats, tensors]: bytes to add to the addresses of a tensor in each repeat of the segment in a
    pass, as other layers have other weights.
    """

    task: Int32
    write: npt.NDArray[np.bool_]
    policy: Int8
    tensor: Int32
    address: Int64
    run_bytes: Int64
    count: Int64
    pitch: Int64
    hit_route: Int32
    hit_dur: Int64
    rest_route: Int32
    tensors: tuple[str, ...]
    shift: Int64

    def addresses(self, repeat: int) -> Int64:
        """Addresses in one repeat of the segment."""
        moved: Int64 = self.address + self.shift[repeat, self.tensor]
        return moved

    @property
    def size_bytes(self) -> int:
        """Memory of the columns."""
        columns = (self.task, self.write, self.policy, self.tensor, self.address, self.run_bytes, self.count)
        return sum(c.nbytes for c in (*columns, self.pitch, self.hit_route, self.hit_dur, self.rest_route))


@dataclass(frozen=True, slots=True)
class Program:
    """Segments with their repeats, and the queues, links and routes they share.

    `passes` lists (segments, times): so many segments, one after another, make a pass that runs so many times and
    begins with an empty cache, but for its `warm` regions; `repeats` counts all passes. Default: one pass of all.
    Of equal repeats that a cache tells apart at most `sampled` are run, unless it is 0 (sim/cost/repeats.py).
    Routes are compressed rows: route r crosses links `route_link[route_ptr[r]:route_ptr[r + 1]]` with the integer
    weights beside them; `route_hops` counts the on-chip links of each.
    """

    name: str
    segments: tuple[Segment, ...]
    repeats: tuple[int, ...]
    queues: tuple[Queue, ...]
    links: tuple[Link, ...]
    route_ptr: Int32
    route_link: Int32
    route_weight: Int32
    route_hops: Int32
    facts: Mapping[str, Any] = field(default_factory=dict)
    cache: TagStore | None = None
    passes: tuple[tuple[int, int], ...] = ()
    sampled: int = 0

    def __repr__(self) -> str:
        """One line: the tasks are arrays in `segments`."""
        counts = f"{len(self.segments)} segments, {self.tasks:,} tasks with repeats"
        return f"<Program {self.name}: {counts}, {len(self.queues)} queues, {len(self.links)} links>"

    @property
    def tasks(self) -> int:
        """Tasks with every repeat counted."""
        return sum(s.tasks * n for s, n in zip(self.segments, self.repeats, strict=True))

    @property
    def capacity(self) -> Int64:
        """Units per tick of every link."""
        return np.array([link.capacity for link in self.links], np.int64)

    @property
    def outstanding(self) -> Int32:
        """Per queue: 0 for a compute queue, else how many transfers may be in flight."""
        return np.array([queue.outstanding for queue in self.queues], np.int32)

    def validate(self) -> None:
        """Refuse a program no engine may be given.

        Raises InvariantViolation naming the first offending task. One vectorised pass per rule.
        """
        _validate_routes(self)
        repeats = repeats_in_pass(self)
        for segment, count in zip(self.segments, repeats, strict=True):
            _validate(self, segment)
            if segment.probes is not None:
                _validate_probes(self, segment, segment.probes, count)


def repeats_in_pass(program: Program) -> tuple[int, ...]:
    """How often each segment runs in one pass. Raises InvariantViolation where passes and repeats disagree."""
    passes = program.passes or ((len(program.segments), 1),)
    times = [count for size, count in passes for _ in range(size)]
    if len(times) != len(program.repeats) or any(n % t for n, t in zip(program.repeats, times, strict=True)):
        raise InvariantViolation(f"{program.name}: its passes are not made of its segments and their repeats")
    return tuple(n // t for n, t in zip(program.repeats, times, strict=True))


def ticks(cycles: npt.ArrayLike, clock_hz: int) -> Int64:
    """Cycles as ticks of 1 ps, rounded up once, at least 1: -(-cycles * p // q) with p/q = 1e12 / clock_hz.

    940 MHz: p/q = 50000/47, so 47 cycles are 50,000 ticks and one cycle is 1,064.
    """
    p, q = tick_fraction(clock_hz)
    counts = np.asarray(cycles, np.int64)
    if counts.size:
        check_ticks(int(counts.max()), clock_hz)
    return np.maximum(1, -(-counts * p // q))


@cache
def tick_fraction(clock_hz: int) -> tuple[int, int]:
    """Ticks of a cycle as a reduced fraction."""
    common = gcd(10**12, clock_hz)
    return 10**12 // common, clock_hz // common


def check_ticks(cycles: int, clock_hz: int) -> None:
    """Refuse what no tick can hold. Raises InvariantViolation."""
    if cycles > (2**63 - 1) // tick_fraction(clock_hz)[0]:
        raise InvariantViolation(f"{cycles} cycles at {clock_hz} Hz exceed the range of a tick")


def link_capacity(bandwidth_bytes_per_s: float) -> int:
    """Units per tick of a link: floor(bytes_per_s x 2^24 / 1e12)."""
    return int(int(bandwidth_bytes_per_s) * BYTE_UNITS // 10**12)


def _validate_routes(program: Program) -> None:
    ptr, link, weight = program.route_ptr, program.route_link, program.route_weight

    def refuse(bad: npt.NDArray[np.bool_], part: str, what: str) -> None:
        if bad.any():
            raise InvariantViolation(f"{program.name}: {part} {int(np.flatnonzero(bad)[0])} {what}")

    if not (ptr[0] == 0 and ptr[-1] == len(link) == len(weight)):
        raise InvariantViolation(f"{program.name}: rows of routes do not match the number of hops")
    capacity = program.capacity
    low, high = MIN_LINK_CAPACITY, MAX_LINK_CAPACITY
    refuse((capacity < low) | (capacity > high), "link", f"carries not {low} to {high} units per tick")
    refuse(np.diff(ptr) < 1, "route", "crosses no link")
    refuse((link < 0) | (link >= len(capacity)), "hop", "crosses a link that does not exist")
    refuse((weight < PAYLOAD_WEIGHT) | (weight > MAX_ROUTE_WEIGHT), "hop", "has a weight out of range")
    crossing = np.sort(np.repeat(np.arange(len(ptr) - 1), np.diff(ptr)) * len(capacity) + link)
    if (crossing[1:] == crossing[:-1]).any():
        twice = int(crossing[:-1][crossing[1:] == crossing[:-1]][0]) // len(capacity)
        raise InvariantViolation(f"{program.name}: route {twice} crosses a link twice")


def _validate(program: Program, segment: Segment) -> None:
    n, where = segment.tasks, f"segment {segment.name}"

    def refuse(bad: npt.NDArray[np.bool_], what: str) -> None:
        if bad.any():
            raise InvariantViolation(f"{where}: task {int(np.flatnonzero(bad)[0])} {what}")

    if not (len(segment.pptr) == n + 1 and segment.pptr[0] == 0 and segment.pptr[-1] == len(segment.pidx)):
        raise InvariantViolation(f"{where}: predecessor rows do not match the number of tasks")
    owner = np.repeat(np.arange(n, dtype=np.int32), np.diff(segment.pptr))
    late = np.zeros(n, np.bool_)
    late[owner[(segment.pidx >= owner) | (segment.pidx < 0)]] = True
    refuse(late, "waits for a task that is not earlier in the table")
    refuse((segment.queue < 0) | (segment.queue >= len(program.queues)), "names a queue that does not exist")
    refuse(segment.dur < 1, "takes less than one tick")
    held = (segment.hold >= 1) & (segment.hold <= segment.dur)
    refuse(~held, "holds its queue longer than it runs, or not at all")
    refuse(segment.dur >= MAX_TICKS, "takes longer than the range of time")
    refuse((segment.release < 0) | (segment.release >= MAX_TICKS), "is released before the start or never")
    refuse((segment.nbytes < 0) | (segment.nbytes >= MAX_TASK_BYTES), "moves a byte count out of range")
    routes = len(program.route_ptr) - 1
    refuse((segment.route < -1) | (segment.route >= routes), "names a route that does not exist")
    moves = (segment.kind == Kind.LOAD) | (segment.kind == Kind.STORE) | (segment.kind == Kind.SEND)
    refuse(moves != (segment.route >= 0), "is a transfer without a route, or has a route without being one")
    refuse(moves & (segment.nbytes < 1), "is a transfer of nothing")
    dma = program.outstanding[segment.queue] > 0
    refuse(moves != dma, "is a transfer on a compute queue, or computes on a DMA queue")


def _validate_probes(program: Program, segment: Segment, probes: Probes, repeats: int) -> None:
    n, where = len(probes.task), f"segment {segment.name}"
    cache, count, routes = program.cache, probes.count, len(program.route_ptr) - 1

    def refuse(bad: npt.NDArray[np.bool_] | np.bool_, what: str) -> None:
        if bad.any():
            raise InvariantViolation(f"{where}: probe {int(np.flatnonzero(bad)[0])} {what}")

    if cache is None or min(cache.sets, cache.ways, cache.line_bytes) < 1:
        raise InvariantViolation(f"{where}: probes a cache that does not exist")
    if count.ndim != 2 or probes.shift.shape != (repeats, len(probes.tensors)):
        raise InvariantViolation(f"{where}: its probes have levels or shifts of another shape")
    columns = (probes.write, probes.policy, probes.tensor, probes.address, probes.run_bytes, count)
    others = (probes.hit_route, probes.hit_dur, probes.rest_route)
    if any(len(c) != n for c in (*columns, *others)) or probes.pitch.shape != count.shape:
        raise InvariantViolation(f"{where}: columns of its probes differ in length")
    refuse((probes.task < 0) | (probes.task >= segment.tasks), "belongs to a task that does not exist")
    refuse(np.diff(probes.task, prepend=-1) <= 0, "does not follow in order of tasks")
    refuse(segment.route[probes.task] < 0, "belongs to a task that moves nothing")
    refuse((probes.policy < 0) | (probes.policy > max(Policy)), "has an unknown policy")
    refuse((probes.tensor < 0) | (probes.tensor >= len(probes.tensors)), "names a tensor that does not exist")
    refuse((probes.run_bytes < 1) | (count < 1).any(axis=1), "is of an empty region")
    refuse((probes.pitch < 0).any(axis=1), "has a negative pitch")
    size = probes.run_bytes * count.prod(axis=1)
    refuse(size != segment.nbytes[probes.task], "is not of as many bytes as its task moves")
    lines = count.prod(axis=1) * (probes.run_bytes // cache.line_bytes + 2)
    refuse(
        lines * cache.line_bytes >= MAX_TASK_BYTES // 2, "touches lines of more bytes than a task may move"
    )
    reach = probes.address + ((count - 1) * probes.pitch).sum(axis=1) + probes.run_bytes
    limit = MAX_TAG * cache.sets * cache.line_bytes
    for repeat in range(repeats):
        moved = probes.shift[repeat, probes.tensor]
        refuse((probes.address + moved < 0) | (reach + moved > limit), "is of an address out of range")
    for route in (probes.hit_route, probes.rest_route):
        refuse((route < 0) | (route >= routes), "names a route that does not exist")
    refuse((probes.hit_dur < 1) | (probes.hit_dur >= MAX_TICKS), "has a head latency out of range")
