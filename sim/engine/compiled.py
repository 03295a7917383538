"""The compiled engine: the same ticks as the reference engine, up to millions of tasks a second.

Five things make it fast, and none of them changes a tick.

1.  A compute task needs no event. Its start is known as soon as the finish of every predecessor is known,
    even if that lies in the future; so queues run ahead of the clock until they meet a transfer whose end is
    open. A blocked queue waits on the first predecessor without a known finish, or for room in its channel.
2.  All flows of a route have one rate. Rates are shared among routes, and a route counts what each of its flows
    gets; a flow is over when that count has grown by its size. So a thousand write-backs cost no more than one.
3.  A link that cannot bind is left out of the fair share. No flow is ever faster than its cap: its rate if it
    were alone. A link is crowded only if it has two flows or more and they do not all fit at their caps.
4.  The fair share falls apart into the connected components of routes with flows and crowded links. Only components
    that hold a changed route or link are computed anew; all others keep their rates.
5.  Where all routes meet on one link, those that no other link holds back go with the tide: at one rate, so that
    one count tells what each of their flows got, and a new rate is one number, not one for each route.

The queues are in sim/engine/issuing.py, the fair share in sim/engine/sharing.py, the tags of the cache in
sim/hw/tags.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sim.cost.repeats import as_timeline, run_all, same_course
from sim.engine import records
from sim.engine.heaps import pop, push, without_first
from sim.engine.issuing import finish, issue, line_up
from sim.engine.records import (
    BACKGROUND,
    FOREVER,
    NONE,
    Agenda,
    Int32,
    Int64,
    Looks,
    Network,
    Record,
    Records,
    Tasks,
)
from sim.engine.renaming import Asked, Made, Passage, asked_by, replayed
from sim.engine.sharing import bring_up, count_on, join, leave, settle
from sim.errors import InvariantViolation
from sim.hw import tags as tag_store
from sim.hw.tags import EVICTED, HIT, MISS, REST, first_tags, probe
from sim.jit import jit_bare, jit_inline
from sim.program import BYTE_UNITS, MAX_TICKS, Probes, Program, Segment
from sim.timeline import Probed, SegmentTimeline, Timeline

PARTS = 3


def run(program: Program) -> Timeline:
    """Start and finish of every task, in ticks; each segment runs from an idle chip at tick 0, with what the segment
    before left in the cache.

    The program must be valid (`Program.validate`). Raises InvariantViolation where time runs out of 63 bits.
    """
    machine = Machine(program)
    return as_timeline("compiled", run_all(program, machine.begin_pass, machine.run, same_course))


_Before = tuple[SegmentTimeline, Made, Passage | None]
"""An earlier repeat, the probes that it made, and what these made of the cache (where sets are not hashed)."""


class Machine:
    """The chip from segment to segment: its tags."""

    def __init__(self, program: Program) -> None:
        self.program = program
        cache = program.cache
        self.line_bytes, self.shape, self.skew = 1, (1, 1), 0
        self.recent: list[_Before] = []
        self.asked: Asked | None = None
        if cache is not None:
            self.skew = tag_store.skew_of(cache.sets, cache.hashed)
            # Lines taken together do not move together where their sets are hashed.
            common = cache.line_bytes if cache.hashed else _common_bytes(program)
            sets, self.line_bytes = tag_store.coarse_line(cache.sets, cache.line_bytes, common)
            self.shape = (sets, cache.ways)

    def begin_pass(self) -> None:
        warm = self.program.cache.warm if self.program.cache is not None else ()
        self.tags = first_tags(*self.shape, self.line_bytes, self.skew, warm)

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
            return _run_segment(self.program, segment, repeat, self.tags, self.line_bytes, self.skew)[0]
        if not earlier:
            self.asked = None if self.skew else asked_by(segment.probes)
        asked = None if self.asked is None else self.asked.moved(segment.probes.shift[repeat])
        at_first = self.tags.copy()
        found, made = self._known(segment.probes, repeat, asked) or _run_segment(
            self.program, segment, repeat, self.tags, self.line_bytes, self.skew
        )
        passage = None if asked is None else Passage(asked, at_first, self.tags.copy())
        self.recent = [*self.recent[-1:], (found, made, passage)]
        return found

    def _known(self, probes: Probes, repeat: int, asked: Asked | None) -> tuple[SegmentTimeline, Made] | None:
        """The earlier repeat whose course this one takes; the tags are as after it then."""
        for before, made, passage in self.recent:
            after = None if passage is None or asked is None else passage.again(self.tags, asked, self.line_bytes)
            if after is not None:
                self.tags = after
                return before, made
        for before, made, _ in self.recent:
            tags = self.tags.copy()
            if replayed(tags, self.line_bytes, self.skew, probes, repeat, made):
                self.tags = tags
                return before, made
        return None


def _common_bytes(program: Program) -> int:
    """What every address, run and pitch that is probed is a multiple of."""
    warm = program.cache.warm if program.cache is not None else ()
    common = int(np.gcd.reduce(np.array(warm, np.int64), axis=None, initial=0))
    for probes in (segment.probes for segment in program.segments if segment.probes is not None):
        pitches = np.where(probes.count > 1, probes.pitch, 0)
        for column in (probes.address, probes.run_bytes, pitches, probes.shift):
            common = int(np.gcd(common, np.gcd.reduce(column, axis=None)))
    return common


def _run_segment(
    program: Program, segment: Segment, repeat: int, tags: Int32, line_bytes: int, skew: int
) -> tuple[SegmentTimeline, Made]:
    flows = records.most_flows(program, segment)
    tasks, looks = records.tasks(segment), records.looks(segment, repeat, tags)
    drained = _simulate(
        tasks,
        records.queues(program),
        records.network(program, flows),
        records.agenda(program, flows),
        looks,
        line_bytes,
        skew,
        records.board(),
    )
    wrong = np.flatnonzero((tasks.finish < tasks.start) | (tasks.finish >= MAX_TICKS))
    if len(wrong):
        raise InvariantViolation(f"segment {segment.name}: task {wrong[0]} ends after 2^62 ticks, or never")
    probed = None if segment.probes is None else Probed(*(looks.found[:, part].copy() for part in range(4)))
    drained = max(int(tasks.finish.max(initial=0)), drained)
    return SegmentTimeline(tasks.start, tasks.finish, drained, probed), Made(looks.order, looks.found)


@jit_bare
def _simulate(
    tasks: Tasks,
    queues: Records,
    network: Network,
    agenda: Agenda,
    looks: Looks,
    line_bytes: int,
    skew: int,
    boards: Records,
) -> int:
    """Fill in the start and the finish of every task, and what every probe finds; the tick at which the last flow
    ends."""
    board = boards[0]
    heads, lookups = agenda.heads, agenda.lookups
    board.height = line_up(tasks, queues, agenda.stack)
    issue(tasks, queues, agenda, board)
    drained = 0
    next_due = FOREVER
    now = min(heads[0].tick, lookups[0].tick)
    while now < FOREVER:
        changed = heads[0].tick == now
        if next_due == now:
            _end_flows(now, tasks, queues, network, agenda, looks, board)
            drained = now
            changed = True
        while heads[0].tick == now:
            number = heads[0].number
            board.heads = pop(heads, board.heads)
            _begin(number, now, tasks, network, looks, board)
        issue(tasks, queues, agenda, board)
        while lookups[0].tick == now:
            number = lookups[0].number
            board.lookups = pop(lookups, board.lookups)
            _look_up(number, now, tasks, agenda, looks, line_bytes, skew, board)
        if changed:
            settle(now, network, board)
            next_due = _earliest(network.due, board)
        now = min(next_due, heads[0].tick, lookups[0].tick)
    return drained


@jit_inline
def _earliest(due: Int64, board: Record) -> int:
    """When the first of all flows ends."""
    earliest = int(board.ebb)
    for place in range(board.tide, board.active):
        earliest = min(earliest, due[place])
    return earliest


@jit_inline
def _look_up(
    task: int, now: int, tasks: Tasks, agenda: Agenda, looks: Looks, line_bytes: int, skew: int, board: Record
) -> None:
    """Probe the cache for a transfer that issues now, and send the heads of its flows on their way."""
    row = int(tasks.probe[task])
    look, found = looks.probes[row], looks.found[row]
    looks.order[board.looked] = row
    board.looked += 1
    probe(
        looks.tags,
        looks.front,
        line_bytes,
        skew,
        look.address,
        look.run_bytes,
        looks.counts[row],
        looks.pitches[row],
        look.write,
        look.policy,
        found,
    )
    first, miss = len(tasks.start) + PARTS * row, now + tasks.dur[task]
    look.open = 0
    if found[HIT] > 0:
        look.open += 1
        board.heads = push(agenda.heads, board.heads, now + look.hit_dur, first + HIT)
    if found[MISS] > 0:
        look.open += 1
        board.heads = push(agenda.heads, board.heads, miss, first + MISS)
    if found[REST] + found[EVICTED] > 0:
        board.heads = push(agenda.heads, board.heads, miss, first + REST)


@jit_inline
def _begin(number: int, now: int, tasks: Tasks, network: Network, looks: Looks, board: Record) -> None:
    """Make the flow of this number."""
    task = number
    if number < len(tasks.start):
        route, size_bytes = tasks.route[task], tasks.nbytes[task]
    else:
        row, part = (number - len(tasks.start)) // PARTS, (number - len(tasks.start)) % PARTS
        look, found = looks.probes[row], looks.found[row]
        task = look.task
        if part == HIT:
            route, size_bytes = look.hit_route, found[HIT]
        elif part == MISS:
            route, size_bytes = tasks.route[task], found[MISS]
        else:
            task = BACKGROUND
            route, size_bytes = look.rest_route, found[REST] + found[EVICTED]
    flow = board.free
    if flow == NONE:
        flow = board.used
        board.used += 1
    else:
        board.free = network.flows[flow].sibling
    network.flows[flow].task = task
    join(route, flow, size_bytes * BYTE_UNITS, now, network, board)


@jit_inline
def _end_flows(
    now: int, tasks: Tasks, queues: Records, network: Network, agenda: Agenda, looks: Looks, board: Record
) -> None:
    """End all flows that are due, and the transfers of which these were the last."""
    flows, due = network.flows, network.due
    place = 0 if board.ebb == now else int(board.tide)
    count_on(now, network, board)
    while place < board.active:
        if due[place] > (board.count if place < board.tide else now):
            place += 1
            continue
        number = int(network.active[place])
        route, served, ended = network.routes[number], bring_up(number, now, network, board), 0
        flow = route.first
        while flow != NONE and flows[flow].target <= served:
            _end(flows[flow].task, now, tasks, queues, agenda.stack, looks, board)
            route.first = without_first(flow, flows)
            flows[flow].sibling = board.free
            board.free = flow
            flow = route.first
            ended += 1
        leave(number, ended, network, board)
        if route.flows > 0:
            place += 1


@jit_inline
def _end(
    task: int, now: int, tasks: Tasks, queues: Records, stack: Int32, looks: Looks, board: Record
) -> None:
    """End a flow, and its transfer if this was its last one."""
    if task == BACKGROUND:
        return
    row = int(tasks.probe[task])
    if row != NONE:
        looks.probes[row].open -= 1
        if looks.probes[row].open > 0:
            return
    finish(task, now, tasks, queues, stack, board)
