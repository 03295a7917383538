"""The compiled engine: the same ticks as the reference engine, up to millions of tasks a second.

Three things make it fast, and none of them changes a tick.

1.  A compute task needs no event. Its start is known as soon as the finish of every predecessor is known,
    even if that lies in the future; so queues run ahead of the clock until they meet a transfer whose end is
    open. A blocked queue waits on the first predecessor without a known finish, or for room in its channel.
2.  A link that cannot bind is left out of the fair share. No flow is ever faster than its cap: its rate if it
    were alone. A link is crowded only if it has two flows or more and they do not all fit at their caps.
3.  The fair share falls apart into the connected components of flows and crowded links. Only components that
    hold a changed flow or link are computed anew; all others keep their rates.

All machine code stands in this one file: Numba renews its cache when the file of a function changes, but not
when a function that it calls changes elsewhere.
"""

from __future__ import annotations

from heapq import heappop, heappush

import numpy as np

from sim.engine import records
from sim.engine.records import FOREVER, NONE, UNKNOWN, Int32, Int64, Records
from sim.errors import InvariantViolation
from sim.jit import jit
from sim.program import MAX_TICKS, Program, Segment
from sim.timeline import SegmentTimeline, Timeline

Heads = list[tuple[int, np.int64]]
"""Heap of (tick, task): when the head of a transfer arrives and its flow begins."""


def run(program: Program) -> Timeline:
    """Start and finish of every task, in ticks; each segment runs from an idle chip at tick 0.

    The program must be valid (`Program.validate`). Raises InvariantViolation where time runs out of 63 bits.
    """
    segments = tuple(_run_segment(program, segment) for segment in program.segments)
    return Timeline("compiled", segments, program.repeats)


def _run_segment(program: Program, segment: Segment) -> SegmentTimeline:
    tasks, queues, links = records.tasks(segment), records.queues(program), records.links(program)
    routes, hops = records.routes(program)
    flows, entries = records.flows(program, segment)
    pidx = np.array(segment.pidx, np.int32)  # a copy, as Numba compiles anew for a read-only array
    _simulate(tasks, pidx, queues, routes, hops, links, flows, entries)
    start, finish = tasks["start"].copy(), tasks["finish"].copy()
    wrong = np.flatnonzero((finish < start) | (finish >= MAX_TICKS))
    if len(wrong):
        raise InvariantViolation(f"segment {segment.name}: task {wrong[0]} ends after 2^62 ticks, or never")
    return SegmentTimeline(start, finish, int(finish.max(initial=0)))


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
) -> None:
    """Fill in the start and the finish of every task."""
    due = np.full(len(flows), FOREVER)  # finish of each active flow
    stack = np.empty(len(queues), np.int32)
    touched_links = np.empty(len(links), np.int32)
    touched_flows = np.empty(len(flows), np.int32)
    free_slots = list(range(len(flows) - 1, -1, -1))
    used = 0  # slots from here on have never held a flow
    heads = [(FOREVER, np.int64(0))]
    _issue(_line_up(tasks, queues, stack), tasks, pidx, queues, stack, heads)
    next_due = FOREVER
    now = heads[0][0]
    while now < FOREVER:
        height = link_count = flow_count = 0
        for slot in range(used if next_due == now else 0):
            if due[slot] == now:
                height = _finish(flows[slot].task, now, tasks, queues, stack, height)
                link_count = _leave(slot, links, flows, entries, touched_links, link_count)
                flows[slot].task = NONE
                due[slot] = FOREVER
                free_slots.append(slot)
        while heads[0][0] == now:
            _, task = heappop(heads)
            slot = free_slots.pop()
            used = max(used, slot + 1)
            _begin(slot, int(task), now, tasks, routes, hops, flows, entries)
            link_count = _join(slot, links, flows, entries, touched_links, link_count)
            touched_flows[flow_count] = slot
            flow_count += 1
        _issue(height, tasks, pidx, queues, stack, heads)
        active = len(flows) - len(free_slots)
        link_count, flow_count = _spread(
            links, flows, entries, touched_links, link_count, touched_flows, flow_count, active, used
        )
        _settle(now, links, flows, entries, touched_links[:link_count], touched_flows[:flow_count], due)
        next_due = FOREVER
        for slot in range(used):
            next_due = min(next_due, due[slot])
        now = min(next_due, heads[0][0])


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
def _issue(height: int, tasks: Records, pidx: Int32, queues: Records, stack: Int32, heads: Heads) -> None:
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
                heappush(heads, (task.start + task.dur, np.int64(queue.head)))
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
def _begin(
    slot: int,
    task: int,
    now: int,
    tasks: Records,
    routes: Records,
    hops: Records,
    flows: Records,
    entries: Records,
) -> None:
    """Make the flow of a transfer."""
    flow, route = flows[slot], routes[tasks[task].route]
    flow.task = task
    flow.remaining = tasks[task].units
    flow.since = now
    flow.rate = 0
    flow.cap = route.cap
    flow.touched = True
    flow.end = flow.entry
    for hop in range(route.hop, route.end):
        entries[flow.end].link = hops[hop].link
        entries[flow.end].weight = hops[hop].weight
        flow.end += 1


@jit
def _crowded(link: int, links: Records) -> bool:
    """Whether the link may bind. If it is not crowded its share stays above the rate of every flow on it."""
    return bool(links[link].flows > 1 and links[link].demand > links[link].capacity)


@jit
def _touch(link: int, links: Records, touched_links: Int32, count: int) -> int:
    """Add a crowded link to the touched ones; how many those are."""
    if links[link].touched or not _crowded(link, links):
        return count
    links[link].touched = True
    touched_links[count] = link
    return count + 1


@jit
def _join(
    slot: int, links: Records, flows: Records, entries: Records, touched_links: Int32, count: int
) -> int:
    """Put a flow on its links; how many links are touched."""
    for number in range(flows[slot].entry, flows[slot].end):
        entry = entries[number]
        link = links[entry.link]
        link.flows += 1
        link.weight += entry.weight
        link.demand += entry.weight * (flows[slot].cap + 1)
        entry.before, entry.after = NONE, link.first
        if link.first != NONE:
            entries[link.first].before = number
        link.first = number
        link.offer = max(1, link.capacity // link.weight)
        count = _touch(entry.link, links, touched_links, count)
    return count


@jit
def _leave(
    slot: int, links: Records, flows: Records, entries: Records, touched_links: Int32, count: int
) -> int:
    """Take a flow off its links; how many links are touched."""
    for number in range(flows[slot].entry, flows[slot].end):
        entry = entries[number]
        link = links[entry.link]
        count = _touch(entry.link, links, touched_links, count)
        link.flows -= 1
        link.weight -= entry.weight
        link.demand -= entry.weight * (flows[slot].cap + 1)
        if entry.after != NONE:
            entries[entry.after].before = entry.before
        if entry.before != NONE:
            entries[entry.before].after = entry.after
        else:
            link.first = entry.after
        if link.weight > 0:
            link.offer = max(1, link.capacity // link.weight)
    return count


@jit
def _spread(
    links: Records,
    flows: Records,
    entries: Records,
    touched_links: Int32,
    link_count: int,
    touched_flows: Int32,
    flow_count: int,
    active: int,
    used: int,
) -> tuple[int, int]:
    """Touch whatever hangs together with the touched links by flows and crowded links; both counts.

    Where most of the active flows meet on one touched link, all are touched: more than needed, but faster.
    """
    seen = 0
    while seen < link_count:
        link = links[touched_links[seen]]
        seen += 1
        if 2 * link.flows > active:
            return _touch_all(links, flows, touched_links, link_count, touched_flows, flow_count, used)
        number = link.first
        while number != NONE:
            flow = flows[entries[number].flow]
            if not flow.touched:
                flow.touched = True
                touched_flows[flow_count] = entries[number].flow
                flow_count += 1
                for hop in range(flow.entry, flow.end):
                    link_count = _touch(entries[hop].link, links, touched_links, link_count)
            number = entries[number].after
    return link_count, flow_count


@jit
def _touch_all(
    links: Records,
    flows: Records,
    touched_links: Int32,
    link_count: int,
    touched_flows: Int32,
    flow_count: int,
    used: int,
) -> tuple[int, int]:
    """Touch every crowded link and every active flow; both counts."""
    for link in range(len(links)):
        link_count = _touch(link, links, touched_links, link_count)
    for slot in range(used):
        if flows[slot].task != NONE and not flows[slot].touched:
            flows[slot].touched = True
            touched_flows[flow_count] = slot
            flow_count += 1
    return link_count, flow_count


@jit
def _settle(
    now: int,
    links: Records,
    flows: Records,
    entries: Records,
    touched_links: Int32,
    touched_flows: Int32,
    due: Int64,
) -> None:
    """Give the touched flows their fair rates, and touch nothing any more."""
    for number in touched_links:
        link = links[number]
        link.left = link.capacity
        link.unfrozen = link.weight if _crowded(number, links) else 0
        link.share = link.offer if link.unfrozen > 0 else FOREVER
    unfrozen = touched_flows
    while len(unfrozen) > 0:
        rate = _lowest(links, flows, touched_links, unfrozen)
        kept = _freeze(rate, links, flows, entries, touched_links, unfrozen, len(touched_flows))
        for slot in unfrozen[kept:]:
            if kept > 0:
                _take(slot, rate, links, flows, entries)
            if flows[slot].rate != rate:
                due[slot] = _change_rate(slot, rate, now, flows)
        if kept > 0:
            for number in touched_links:
                link = links[number]
                link.share = max(1, link.left // link.unfrozen) if link.unfrozen > 0 else FOREVER
        unfrozen = unfrozen[:kept]
    for number in touched_links:
        links[number].share = FOREVER
        links[number].touched = False


@jit
def _lowest(links: Records, flows: Records, touched_links: Int32, unfrozen: Int32) -> int:
    """The lowest of the shares of the touched links and the caps of the unfrozen flows."""
    lowest = FOREVER
    for number in touched_links:
        lowest = min(lowest, links[number].share)
    for slot in unfrozen:
        lowest = min(lowest, flows[slot].cap)
    return lowest


@jit
def _freeze(
    rate: int,
    links: Records,
    flows: Records,
    entries: Records,
    touched_links: Int32,
    unfrozen: Int32,
    flow_count: int,
) -> int:
    """Move the flows that the rate binds to the back of `unfrozen`; how many stay in front.

    `flow_count`: touched flows, frozen or not; a link that has as many binds all of them.
    """
    for number in touched_links:
        if links[number].share == rate:
            if links[number].flows == flow_count:
                for slot in unfrozen:
                    flows[slot].touched = False
                return 0
            place = links[number].first
            while place != NONE:
                flows[entries[place].flow].touched = False
                place = entries[place].after
    kept, end = 0, len(unfrozen)
    while kept < end:
        slot = unfrozen[kept]
        if flows[slot].touched and flows[slot].cap > rate:
            kept += 1
        else:
            flows[slot].touched = False
            end -= 1
            unfrozen[kept], unfrozen[end] = unfrozen[end], slot
    return kept


@jit
def _take(slot: int, rate: int, links: Records, flows: Records, entries: Records) -> None:
    """Take the rate of a frozen flow from the crowded links of its route."""
    for number in range(flows[slot].entry, flows[slot].end):
        entry = entries[number]
        link = links[entry.link]
        if link.share != FOREVER:
            link.left = max(0, link.left - entry.weight * rate)
            link.unfrozen -= entry.weight


@jit
def _change_rate(slot: int, rate: int, now: int, flows: Records) -> int:
    """Go on at another rate; the new finish."""
    flow = flows[slot]
    flow.remaining -= flow.rate * (now - flow.since)
    flow.since = now
    flow.rate = rate
    finish: int = now + max(1, (flow.remaining + rate - 1) // rate)
    return finish
