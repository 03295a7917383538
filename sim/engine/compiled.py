"""The compiled engine: the same ticks as the reference engine, up to millions of tasks a second.

Three things make it fast, and none of them changes a tick.

1.  A compute task needs no event. Its start is known as soon as the finish of every predecessor is known,
    even if that lies in the future; so queues run ahead of the clock until they meet a transfer whose end is
    open. A blocked queue waits on the first predecessor without a known finish, or for room in its channel.
2.  A link that cannot bind is left out of the fair share. No flow is ever faster than its cap: its rate if it
    were alone. A link is crowded only if it has two flows or more and they do not all fit at their caps.
3.  The fair share falls apart into the connected components of flows and crowded links. Only components that
    hold a changed flow or link are computed anew; all others keep their rates.

The fair share is in sim/engine/sharing.py, the tags of the cache in sim/hw/tags.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush

import numpy as np

from sim.cost.repeats import as_timeline, run_all, same_course
from sim.engine import records
from sim.engine.records import BACKGROUND, FOREVER, NONE, UNKNOWN, Int32, Int64, Records
from sim.engine.renaming import Asked, Passage, asked_by, replayed
from sim.engine.sharing import join, leave, settle, spread
from sim.errors import InvariantViolation
from sim.hw import tags as tag_store
from sim.hw.tags import EVICTED, HIT, MISS, REST, empty_tags, probe
from sim.jit import jit
from sim.program import BYTE_UNITS, MAX_TICKS, Probes, Program, Segment
from sim.timeline import Probed, SegmentTimeline, Timeline

Heads = list[tuple[int, np.int64]]
"""Heap of (tick, flow): when the head of a flow arrives and the flow begins. A flow's number is that of its task, or
the number of tasks + PARTS x row of the probe + HIT, MISS or REST."""

Lookups = list[tuple[int, np.int64]]
"""Heap of (tick, task): who looks into the cache when."""

PARTS = 3


def run(program: Program) -> Timeline:
    """Start and finish of every task, in ticks; each segment runs from an idle chip at tick 0, with what the segment
    before left in the cache.

    The program must be valid (`Program.validate`). Raises InvariantViolation where time runs out of 63 bits.
    """
    machine = Machine(program)
    return as_timeline("compiled", run_all(program, machine.begin_pass, machine.run, same_course))


_Before = tuple[SegmentTimeline, Passage]
"""An earlier repeat, and what it made of the cache."""


class Machine:
    """The chip from segment to segment: its tags."""

    def __init__(self, program: Program) -> None:
        self.program = program
        cache = program.cache
        self.line_bytes, self.shape, self.skew = 1, (1, 1), 0
        self.recent: list[_Before] = []
        if cache is not None:
            self.skew = tag_store.skew_of(cache.sets, cache.hashed)
            # Lines taken together do not move together where their sets are hashed.
            common = cache.line_bytes if cache.hashed else _common_bytes(program)
            sets, self.line_bytes = tag_store.coarse_line(cache.sets, cache.line_bytes, common)
            self.shape = (sets, cache.ways)

    def begin_pass(self) -> None:
        self.tags = empty_tags(*self.shape)

    def run(self, number: int, repeat: int, earlier: Sequence[SegmentTimeline]) -> SegmentTimeline:
        """One repeat of a segment.

        The cache is all that is left of the repeats before. If the probes find the same as in one of them when they
        are made in the order of that one, then this is what happens: the first probe takes place at the same tick
        and finds the same, so that the second takes place at the same tick, and so on. Then nothing needs to be
        simulated again. Tried are the last repeat but one, as blocks take turns at two places in memory, and the
        last; first whether the cache is what it was before one of them but for names (sim/engine/renaming.py).
        """
        segment = self.program.segments[number]
        if not earlier:
            self.recent = []
        if segment.probes is None:
            return _run_segment(self.program, segment, repeat, self.tags, self.line_bytes, self.skew)
        asked, at_first = asked_by(segment.probes, repeat), self.tags.copy()
        found = self._known(segment.probes, repeat, asked)
        if found is None:
            found = _run_segment(self.program, segment, repeat, self.tags, self.line_bytes, self.skew)
        self.recent = [*self.recent[-1:], (found, Passage(asked, at_first, self.tags.copy()))]
        return found

    def _known(self, probes: Probes, repeat: int, asked: Asked) -> SegmentTimeline | None:
        """The earlier repeat whose course this one takes; the tags are as after it then."""
        for before, passage in () if self.skew else self.recent:
            after = passage.again(self.tags, asked, self.line_bytes)
            if after is not None:
                self.tags = after
                return before
        for before, _ in self.recent:
            tags = self.tags.copy()
            if replayed(tags, self.line_bytes, self.skew, probes, repeat, before):
                self.tags = tags
                return before
        return None


def _common_bytes(program: Program) -> int:
    """What every address, run and pitch that is probed is a multiple of."""
    common = 0
    for probes in (segment.probes for segment in program.segments if segment.probes is not None):
        pitches = np.where(probes.count > 1, probes.pitch, 0)
        for column in (probes.address, probes.run_bytes, pitches, probes.shift):
            common = int(np.gcd(common, np.gcd.reduce(column, axis=None)))
    return common


def _run_segment(
    program: Program, segment: Segment, repeat: int, tags: Int32, line_bytes: int, skew: int
) -> SegmentTimeline:
    tasks, queues, links = records.tasks(segment), records.queues(program), records.links(program)
    routes, hops = records.routes(program)
    flows, entries = records.flows(program, segment)
    probes, count, pitch = records.probes(segment, repeat)
    found = np.zeros((len(probes), 4), np.int64)
    pidx = np.array(segment.pidx, np.int32)  # a copy, as Numba compiles anew for a read-only array
    drained = _simulate(
        tasks,
        pidx,
        queues,
        routes,
        hops,
        links,
        flows,
        entries,
        probes,
        count,
        pitch,
        tags,
        line_bytes,
        skew,
        found,
    )
    start, finish = tasks["start"].copy(), tasks["finish"].copy()
    wrong = np.flatnonzero((finish < start) | (finish >= MAX_TICKS))
    if len(wrong):
        raise InvariantViolation(f"segment {segment.name}: task {wrong[0]} ends after 2^62 ticks, or never")
    probed = None if segment.probes is None else Probed(*(found[:, part].copy() for part in range(4)))
    return SegmentTimeline(start, finish, max(int(finish.max(initial=0)), drained), probed)


@jit
def _simulate(
    tasks: Records,
    pidx: Int32,
    queues: Records,
    routes: Records,
    hops: Records,
    links: Records,
    flows: Records,
    entries: Records,
    probes: Records,
    count: Int64,
    pitch: Int64,
    tags: Int32,
    line_bytes: int,
    skew: int,
    found: Int64,
) -> int:
    """Fill in the start and the finish of every task, and what every probe finds; the tick at which the last flow
    ends."""
    due = np.empty(len(flows), np.int64)  # finish of each active flow
    stack = np.empty(len(queues), np.int32)
    touched_links = np.empty(len(links), np.int32)
    touched_flows = np.empty(len(flows), np.int32)
    free_slots = [0 for _ in range(0)]
    used = 0  # slots from here on have never held a flow
    heads = [(FOREVER, np.int64(0))]
    lookups = [(FOREVER, np.int64(0))]
    _issue(_line_up(tasks, queues, stack), tasks, pidx, queues, stack, heads, lookups)
    drained = 0
    next_due = FOREVER
    now = min(heads[0][0], lookups[0][0])
    while now < FOREVER:
        height = link_count = flow_count = 0
        changed = False
        for slot in range(used if next_due == now else 0):
            if due[slot] == now:
                height = _end(slot, now, tasks, queues, probes, flows, stack, height)
                link_count = leave(slot, links, flows, entries, touched_links, link_count)
                flows[slot].task = NONE
                due[slot] = FOREVER
                free_slots.append(slot)
                drained = now
                changed = True
        while heads[0][0] == now:
            _, number = heappop(heads)
            if len(free_slots) > 0:
                slot = free_slots.pop()
            else:
                slot = used
                used += 1
                due[slot] = FOREVER
            _begin(slot, int(number), now, tasks, probes, found, routes, hops, flows, entries)
            link_count = join(slot, links, flows, entries, touched_links, link_count)
            touched_flows[flow_count] = slot
            flow_count += 1
            changed = True
        _issue(height, tasks, pidx, queues, stack, heads, lookups)
        while lookups[0][0] == now:
            _, number = heappop(lookups)
            _look_up(int(number), now, tasks, probes, count, pitch, tags, line_bytes, skew, found, heads)
        if changed:
            active = used - len(free_slots)
            link_count, flow_count = spread(
                links, flows, entries, touched_links, link_count, touched_flows, flow_count, active, used
            )
            settle(now, links, flows, entries, touched_links[:link_count], touched_flows[:flow_count], due)
            next_due = _earliest(due, used)
        now = min(next_due, heads[0][0], lookups[0][0])
    return drained


@jit
def _earliest(due: Int64, used: int) -> int:
    """When the first flow of the slots in use ends."""
    earliest = FOREVER
    for slot in range(used):
        earliest = min(earliest, due[slot])
    return earliest


@jit
def _line_up(tasks: Records, queues: Records, stack: Int32) -> int:
    """Chain the tasks of each queue, and put every queue on the stack; its height."""
    for task in range(len(tasks) - 1, -1, -1):
        queue = tasks[task].queue
        tasks[task].following = queues[queue].head
        queues[queue].head = task
    for queue in range(len(queues)):
        stack[queue] = queue
        _look_at(queues[queue].head, queue, tasks, queues)
    return len(queues)


@jit
def _look_at(task: int, queue: int, tasks: Records, queues: Records) -> None:
    """Make `task` the head of its queue; NONE: the queue is through."""
    queues[queue].head = task
    if task != NONE:
        queues[queue].row = tasks[task].pptr
        queues[queue].ready = tasks[task].release


@jit
def _issue(
    height: int,
    tasks: Records,
    pidx: Int32,
    queues: Records,
    stack: Int32,
    heads: Heads,
    lookups: Lookups,
) -> None:
    """Issue every task whose start is known by now, beginning with the queues on the stack.

    A queue waits for one thing at a time, so that it is never twice on the stack.
    """
    while height > 0:
        height -= 1
        number = stack[height]
        queue = queues[number]
        while queue.head != NONE and _can_issue(number, tasks, pidx, queues):
            task = tasks[queue.head]
            task.start = max(queue.ready, queue.free)
            if queue.outstanding > 0:
                queue.free = task.start
                queue.flying += 1
                if task.probe == NONE:
                    heappush(heads, (task.start + task.dur, np.int64(queue.head)))
                else:
                    heappush(lookups, (task.start, np.int64(queue.head)))
            else:
                queue.free = task.start + task.hold
                queue.finish = max(queue.finish, task.start + task.dur)
                task.finish = queue.finish
                height = _wake(queue.head, tasks, queues, stack, height)
            _look_at(task.following, number, tasks, queues)


@jit
def _can_issue(number: int, tasks: Records, pidx: Int32, queues: Records) -> bool:
    """Whether the start of the head is known; if not, the queue waits for what is missing."""
    queue = queues[number]
    if 0 < queue.outstanding == queue.flying:
        return False  # the next finish on this queue wakes it
    end = tasks[queue.head].pend
    while queue.row < end:
        before = tasks[pidx[queue.row]]
        if before.finish == UNKNOWN:
            queue.waiting = before.waiting
            before.waiting = number
            return False
        queue.ready = max(queue.ready, before.finish)
        queue.row += 1
    return True


@jit
def _wake(task: int, tasks: Records, queues: Records, stack: Int32, height: int) -> int:
    """Put the queues that wait for the task on the stack; its height."""
    queue = tasks[task].waiting
    while queue != NONE:
        stack[height] = queue
        height += 1
        queue = queues[queue].waiting
    return height


@jit
def _finish(task: int, now: int, tasks: Records, queues: Records, stack: Int32, height: int) -> int:
    """End a transfer, and put the queues that this wakes on the stack; its height."""
    tasks[task].finish = now
    number = tasks[task].queue
    queue = queues[number]
    if queue.flying == queue.outstanding and queue.head != NONE:
        queue.free = max(queue.free, now)
        stack[height] = number
        height += 1
    queue.flying -= 1
    return _wake(task, tasks, queues, stack, height)


@jit
def _look_up(
    task: int,
    now: int,
    tasks: Records,
    probes: Records,
    count: Int64,
    pitch: Int64,
    tags: Int32,
    line_bytes: int,
    skew: int,
    found: Int64,
    heads: Heads,
) -> None:
    """Probe the cache for a transfer that issues now, and send the heads of its flows on their way."""
    row = tasks[task].probe
    look, bytes_found = probes[row], found[row]
    probe(
        tags,
        line_bytes,
        skew,
        look.address,
        look.run_bytes,
        count[row],
        pitch[row],
        look.write,
        look.policy,
        bytes_found,
    )
    first = len(tasks) + PARTS * row
    look.open = 0
    if bytes_found[HIT] > 0:
        look.open += 1
        heappush(heads, (now + look.hit_dur, np.int64(first + HIT)))
    if bytes_found[MISS] > 0:
        look.open += 1
        heappush(heads, (now + tasks[task].dur, np.int64(first + MISS)))
    if bytes_found[REST] + bytes_found[EVICTED] > 0:
        heappush(heads, (now + tasks[task].dur, np.int64(first + REST)))


@jit
def _end(
    slot: int,
    now: int,
    tasks: Records,
    queues: Records,
    probes: Records,
    flows: Records,
    stack: Int32,
    height: int,
) -> int:
    """End the transfer of a flow, if this was its last one; the height of the stack of queues that are awake."""
    task = flows[slot].task
    if task == BACKGROUND:
        return height
    row = tasks[task].probe
    if row != NONE:
        probes[row].open -= 1
        if probes[row].open > 0:
            return height
    return _finish(task, now, tasks, queues, stack, height)


@jit
def _begin(
    slot: int,
    number: int,
    now: int,
    tasks: Records,
    probes: Records,
    found: Int64,
    routes: Records,
    hops: Records,
    flows: Records,
    entries: Records,
) -> None:
    """Make the flow of this number."""
    flow = flows[slot]
    if number < len(tasks):
        flow.task = number
        flow.remaining = tasks[number].units
        route = routes[tasks[number].route]
    else:
        row, part = (number - len(tasks)) // PARTS, (number - len(tasks)) % PARTS
        flow.task = probes[row].task
        if part == REST:
            flow.task = BACKGROUND
            flow.remaining = (found[row, REST] + found[row, EVICTED]) * BYTE_UNITS
            route = routes[probes[row].rest_route]
        elif part == HIT:
            flow.remaining = found[row, HIT] * BYTE_UNITS
            route = routes[probes[row].hit_route]
        else:
            flow.remaining = found[row, MISS] * BYTE_UNITS
            route = routes[tasks[probes[row].task].route]
    flow.since = now
    flow.rate = 0
    flow.cap = route.cap
    flow.touched = True
    flow.entry = slot * (len(entries) // len(flows))
    flow.end = flow.entry
    for hop in range(route.hop, route.end):
        entries[flow.end].link = hops[hop].link
        entries[flow.end].weight = hops[hop].weight
        entries[flow.end].flow = slot
        flow.end += 1
