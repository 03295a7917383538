"""Machine code of the network: flows join and leave links, and share them fairly (see sim/engine/compiled.py)."""

from __future__ import annotations

from sim.engine.records import FOREVER, NONE, Int32, Int64, Records
from sim.jit import jit


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
def join(
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
def leave(
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
def spread(
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
def settle(
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
