"""The working tables of the compiled engine: one record per task, queue, link, flow.

What is used together lies together in memory, and one array is passed where there would be ten columns.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sim.program import BYTE_UNITS, PAYLOAD_WEIGHT, Program, Segment

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
Records = npt.NDArray[np.void]

NONE = -1
BACKGROUND = -2
UNKNOWN = -1
FOREVER = np.iinfo(np.int64).max


def _record(**fields: type[np.generic]) -> np.dtype[np.void]:
    return np.dtype((np.record, np.dtype(list(fields.items()), align=True)))


TASK = _record(
    hold=np.int64,
    dur=np.int64,
    units=np.int64,  # payload in link units
    release=np.int64,
    start=np.int64,
    finish=np.int64,
    queue=np.int32,
    route=np.int32,
    pptr=np.int32,
    pend=np.int32,
    following=np.int32,  # the next task of the same queue
    waiting=np.int32,  # the first queue that waits for the finish; that queue's `waiting` is the next one
    probe=np.int32,  # row of the probes, NONE for a task that does not look into the cache
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
LINK = _record(  # capacity, demand and what is left count 1/256 units per tick, which keeps them exact
    capacity=np.int64,
    demand=np.int64,  # of the flows on the link, were each a little faster than its cap
    weight=np.int64,  # of the flows on the link
    offer=np.int64,  # the share of all those flows together
    left=np.int64,
    unfrozen=np.int64,  # weight of the unfrozen flows
    share=np.int64,  # FOREVER unless the link takes part in the present settle
    flows=np.int32,
    first=np.int32,  # head of the list of entries
    touched=np.bool_,
)
FLOW = _record(
    remaining=np.int64,  # units, at tick `since`
    since=np.int64,
    rate=np.int64,
    cap=np.int64,
    entry=np.int32,
    end=np.int32,
    task=np.int32,  # NONE in a free slot, BACKGROUND if no task waits for it
    touched=np.bool_,
)
ENTRY = _record(  # a flow on one link of its route
    weight=np.int64,
    link=np.int32,
    flow=np.int32,
    after=np.int32,  # neighbours in the list of the link
    before=np.int32,
)
ROUTE = _record(cap=np.int64, hop=np.int32, end=np.int32)
HOP = _record(weight=np.int64, link=np.int32)


def tasks(segment: Segment) -> Records:
    """The columns of the segment, with nothing started."""
    table = np.zeros(segment.tasks, TASK)
    for name in ("hold", "dur", "release", "queue", "route"):
        table[name] = getattr(segment, name)
    table["units"] = segment.nbytes * BYTE_UNITS
    table["pptr"], table["pend"] = segment.pptr[:-1], segment.pptr[1:]
    table["finish"] = UNKNOWN
    table["following"] = table["waiting"] = table["probe"] = NONE
    if segment.probes is not None:
        table["probe"][segment.probes.task] = np.arange(len(segment.probes.task))
    return table


def probes(segment: Segment, repeat: int) -> tuple[Records, Int64, Int64]:
    """The probes of one repeat, and the counts and pitches of their regions [probes, levels]."""
    found = segment.probes
    if found is None:
        return np.zeros(0, PROBE), np.ones((0, 1), np.int64), np.zeros((0, 1), np.int64)
    table = np.zeros(len(found.task), PROBE)
    for name in ("task", "run_bytes", "hit_dur", "hit_route", "rest_route", "policy", "write"):
        table[name] = getattr(found, name)
    table["address"] = found.addresses(repeat)
    return table, np.array(found.count, np.int64), np.array(found.pitch, np.int64)


def queues(program: Program) -> Records:
    """Empty queues; the engine lines the tasks up."""
    table = np.zeros(len(program.queues), QUEUE)
    table["outstanding"] = program.outstanding
    table["head"] = NONE
    return table


def links(program: Program) -> Records:
    """Links without a flow."""
    table = np.zeros(len(program.links), LINK)
    table["capacity"] = PAYLOAD_WEIGHT * program.capacity
    table["share"] = FOREVER
    table["first"] = NONE
    return table


def flows(program: Program, segment: Segment) -> tuple[Records, Records]:
    """A slot for every flow that may be active at one time, and the entries of the slots.

    Nothing bounds how many write-backs are under way at one time, so each probe has a slot for its own. They are
    left untouched here: memory that is never used is never taken.
    """
    slots = max(1, min(int(program.outstanding.sum()), int((segment.route >= 0).sum())))
    if segment.probes is not None:
        slots = 2 * slots + len(segment.probes.task)
    longest = int(np.diff(program.route_ptr).max(initial=1))
    return np.zeros(slots, FLOW), np.zeros(slots * longest, ENTRY)


def routes(program: Program) -> tuple[Records, Records]:
    """Routes and their hops. The cap of a route is the rate of a flow that has all its links for itself."""
    table, hops = np.zeros(len(program.route_ptr) - 1, ROUTE), np.zeros(len(program.route_link), HOP)
    hops["link"], hops["weight"] = program.route_link, program.route_weight
    table["hop"], table["end"] = program.route_ptr[:-1], program.route_ptr[1:]
    if len(table):
        alone = PAYLOAD_WEIGHT * program.capacity[hops["link"]] // hops["weight"]
        table["cap"] = np.minimum.reduceat(np.maximum(1, alone), program.route_ptr[:-1])
    return table, hops
