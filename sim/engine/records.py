"""The working tables of the compiled engine: columns of tasks as the program has them, one record per queue, link,
route and flow.

What is used together lies together in memory. Tuples of tables are passed where there would be ten arguments; what
they are passed to is compiled without the counting of references (`jit_bare`), as that would take longer than the work.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from sim.program import PAYLOAD_WEIGHT, Program, Segment

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt32 = npt.NDArray[np.uint32]
"""Of indices: where they cannot be negative, Numba need not count from the end of an array."""

Records = npt.NDArray[np.void]

T = TypeVar("T", bound=np.generic)

NONE = -1
BACKGROUND = -2
UNKNOWN = -1
FOREVER = np.iinfo(np.int64).max


def _record(**fields: type[np.generic]) -> np.dtype[np.void]:
    return np.dtype((np.record, np.dtype(list(fields.items()), align=True)))


Record: TypeAlias = Any
"""One row of such a table: what is written to it is written there."""


class Tasks(NamedTuple):
    """One entry per task, but for `pidx`. The first nine are the program's and only read."""

    hold: Int64
    dur: Int64
    nbytes: Int64
    release: Int64
    queue: Int32
    route: Int32
    pptr: Int32  # tasks + 1
    pidx: Int32
    probe: Int32  # row of the probes, NONE for a task that does not look into the cache
    start: Int64
    finish: Int64
    following: Int32  # the next task of the same queue
    waiting: Int32  # the first queue that waits for the finish; that queue's `waiting` is the next one


QUEUE = _record(
    ready=np.int64,  # release of the head, and latest finish of the predecessors looked at so far
    free=np.int64,  # earliest issue that the queue itself allows
    finish=np.int64,  # latest finish of a compute queue
    outstanding=np.int32,  # 0 for a compute queue
    flying=np.int32,  # transfers issued and not finished
    head=np.int32,  # first task not issued yet
    row=np.int32,  # first predecessor of the head not looked at yet
    waiting=np.int32,
)
PROBE = _record(
    address=np.int64,
    run_bytes=np.int64,
    hit_dur=np.int64,
    task=np.int32,
    hit_route=np.int32,
    rest_route=np.int32,
    open=np.int32,  # flows that the task still waits for
    policy=np.int8,
    write=np.bool_,
)


class Looks(NamedTuple):
    """All looks into the cache: one entry per probe, and the tags."""

    probes: Records
    counts: Int64  # of the region, [probes, levels]
    pitches: Int64
    found: Int64  # [probes, 4]
    order: Int32  # rows, in which they were made
    tags: Int32
    front: Int32  # the first entry of each set of tags


LINK = _record(  # capacity, demand and what is left count 1/256 units per tick, which keeps them exact
    capacity=np.int64,
    demand=np.int64,  # of the flows on the link, were each a little faster than its cap
    weight=np.int64,  # of the flows on the link
    left=np.int64,
    unfrozen=np.int64,  # weight of the unfrozen flows
    begun=np.int32,  # settle that `left` and `unfrozen` are of
    flows=np.int32,
    routes=np.uint32,  # with flows
    crowd=np.int32,  # place in the list of crowded links, NONE if it is none
    place=np.uint32,  # among the shares of the present settle
    touched=np.int32,  # settle that it was last touched for
    taken=np.int32,  # round that last took something of it
)
ROUTE = _record(
    cap=np.int64,  # rate of a flow that has all links for itself
    served=np.int64,  # units that a flow there from the beginning would have got by tick `since`; with the tide: beyond
    since=np.int64,  # what the tide counts
    rate=np.int64,  # of each flow; 0 with the tide, or to be told anew
    hop=np.uint32,
    end=np.uint32,
    flows=np.int32,  # active ones
    first=np.int32,  # the flow that ends first
    place=np.int32,  # in the list of active routes
    touched=np.int32,  # settle that it was last touched for
    frozen=np.int32,  # settle that last gave it a rate
)
HOP = _record(
    weight=np.int64,
    link=np.uint32,
    route=np.uint32,
    place=np.uint32,  # among the members of the link
)
FLOW = _record(
    target=np.int64,  # what `served` of the route is when the flow ends
    task=np.int32,  # BACKGROUND if no task waits for it
    route=np.int32,
    child=np.int32,  # first of those under it in the heap of its route
    sibling=np.int32,
)


class Network(NamedTuple):
    """Links, routes and flows. All flows of a route have the same rate, so that most is known by route."""

    links: Records
    routes: Records
    hops: Records
    members: UInt32  # hops of routes with flows, link by link
    first_member: UInt32  # where those of a link begin
    flows: Records
    active: UInt32  # routes with flows, those with the tide first
    due: Int64  # of active routes: the tick at which their first flow ends; with the tide: what it counts then
    caps: Int64  # of active routes
    crowded: UInt32  # links that may bind
    offers: Int64  # the share of all flows together on each of these
    touched_links: UInt32
    touched_routes: UInt32
    shares: Int64  # what each link of a settle offers its unfrozen flows, FOREVER without any
    taken: UInt32  # links that a round of a settle took something of


MOMENT = _record(tick=np.int64, number=np.int64)
"""Entry of a heap by tick."""

BOARD = _record(  # how many, of
    heads=np.int64,
    lookups=np.int64,
    looked=np.int64,  # probes made
    height=np.int64,  # queues on the stack
    active=np.int64,
    tide=np.int64,  # active routes that go on together
    calm=np.int64,  # settles in succession in which all active routes met on one link
    crowded=np.int64,
    touched_links=np.int64,
    touched_routes=np.int64,
    settles=np.int64,  # begun; the links and routes touched by now are touched for the one after them
    rounds=np.int64,  # of all settles
    taken=np.int64,
    used=np.int64,  # slots that have ever held a flow
    free=np.int64,  # first of the slots that are free again
    count=np.int64,  # units that a flow with the tide from the beginning would have got by tick `since`
    since=np.int64,
    pace=np.int64,  # rate of every flow with the tide
    ebb=np.int64,  # when the first flow with the tide ends
)


class Agenda(NamedTuple):
    """What comes next."""

    heads: Records
    """Heap of (tick, flow): when the head of a flow arrives and the flow begins. A flow's number is that of its task,
    or the number of tasks + PARTS x row of the probe + HIT, MISS or REST."""
    lookups: Records
    """Heap of (tick, task): who looks into the cache when."""
    stack: Int32
    """Queues to look at."""


def _column(values: npt.NDArray[T]) -> npt.NDArray[T]:
    """A column to read. All of them are read-only, as Numba would compile anew where some are."""
    column = np.ascontiguousarray(values).view()
    column.flags.writeable = False
    return column


def tasks(segment: Segment) -> Tasks:
    """The columns of the segment, with nothing started."""
    n = segment.tasks
    probe = np.full(n, NONE, np.int32)
    if segment.probes is not None:
        probe[segment.probes.task] = np.arange(len(segment.probes.task))
    return Tasks(
        hold=_column(segment.hold),
        dur=_column(segment.dur),
        nbytes=_column(segment.nbytes),
        release=_column(segment.release),
        queue=_column(segment.queue),
        route=_column(segment.route),
        pptr=_column(segment.pptr),
        pidx=_column(segment.pidx),
        probe=_column(probe),
        start=np.zeros(n, np.int64),
        finish=np.full(n, UNKNOWN, np.int64),
        following=np.empty(n, np.int32),
        waiting=np.full(n, NONE, np.int32),
    )


def looks(segment: Segment, repeat: int, tags: Int32) -> Looks:
    """The probes of one repeat."""
    found = segment.probes
    if found is None:
        nothing = np.zeros((0, 1), np.int64)
        unmade, found_nothing = np.zeros(0, np.int32), np.zeros((0, 4), np.int64)
        return Looks(np.zeros(0, PROBE), nothing, nothing, found_nothing, unmade, tags, tags[:, 0].copy())
    table = np.zeros(len(found.task), PROBE)
    for name in ("task", "run_bytes", "hit_dur", "hit_route", "rest_route", "policy", "write"):
        table[name] = getattr(found, name)
    table["address"] = found.addresses(repeat)
    count, pitch = np.array(found.count, np.int64), np.array(found.pitch, np.int64)
    order = np.empty(len(table), np.int32)
    return Looks(table, count, pitch, np.zeros((len(table), 4), np.int64), order, tags, tags[:, 0].copy())


def queues(program: Program) -> Records:
    """Empty queues; the engine lines the tasks up."""
    table = np.zeros(len(program.queues), QUEUE)
    table["outstanding"] = program.outstanding
    table["head"] = NONE
    return table


def network(program: Program, flows: int) -> Network:
    """Links and routes without a flow, and slots for as many flows as may be active at one time. Memory that is never
    used is never taken."""
    links = np.zeros(len(program.links), LINK)
    links["capacity"] = PAYLOAD_WEIGHT * program.capacity
    links["crowd"] = NONE
    routes, hops = np.zeros(len(program.route_ptr) - 1, ROUTE), np.zeros(len(program.route_link), HOP)
    hops["link"], hops["weight"] = program.route_link, program.route_weight
    routes["hop"], routes["end"] = program.route_ptr[:-1], program.route_ptr[1:]
    hops["route"] = np.repeat(np.arange(len(routes)), np.diff(program.route_ptr))
    routes["first"] = NONE
    if len(routes):
        alone = PAYLOAD_WEIGHT * program.capacity[hops["link"]] // hops["weight"]
        routes["cap"] = np.minimum.reduceat(np.maximum(1, alone), program.route_ptr[:-1])
    of_link = np.bincount(hops["link"], minlength=len(links))
    return Network(
        links=links,
        routes=routes,
        hops=hops,
        members=np.empty(len(hops), np.uint32),
        first_member=(np.cumsum(of_link) - of_link).astype(np.uint32),
        flows=np.zeros(flows, FLOW),
        active=np.empty(len(routes), np.uint32),
        due=np.empty(len(routes), np.int64),
        caps=np.empty(len(routes), np.int64),
        crowded=np.empty(len(links), np.uint32),
        offers=np.empty(len(links), np.int64),
        touched_links=np.empty(len(links), np.uint32),
        touched_routes=np.empty(len(routes), np.uint32),
        shares=np.empty(len(links), np.int64),
        taken=np.empty(len(links), np.uint32),
    )


def agenda(program: Program, flows: int) -> Agenda:
    """Nothing to come."""
    heads, lookups = np.zeros(flows + 1, MOMENT), np.zeros(int(program.outstanding.sum()) + 1, MOMENT)
    heads["tick"][0] = lookups["tick"][0] = FOREVER
    return Agenda(heads, lookups, np.empty(len(program.queues), np.int32))


def most_flows(program: Program, segment: Segment) -> int:
    """How many flows may be active, or about to be, at one time. Nothing bounds how many write-backs are under way at
    one time, so each probe may have its own."""
    flows = max(1, min(int(program.outstanding.sum()), int((segment.route >= 0).sum())))
    return flows if segment.probes is None else 2 * flows + len(segment.probes.task)


def board() -> Records:
    """Nothing counted."""
    table = np.zeros(1, BOARD)
    table["free"] = NONE
    table["settles"] = table["rounds"] = 1
    table["ebb"] = FOREVER
    return table
