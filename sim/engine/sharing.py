"""Machine code of the network: flows join and leave links, and share them fairly (see sim/engine/compiled.py)."""

from __future__ import annotations

from sim.engine.heaps import meld
from sim.engine.records import FOREVER, NONE, Int32, Network, Record, Records
from sim.jit import jit_bare

MOST_SERVED = 1 << 60
"""Units that are counted on a route before the count begins anew; with the 2^62 of a flow they stay within 63 bits."""


@jit_bare
def _crowded(link: int, links: Records) -> bool:
    """Whether the link may bind. If it is not crowded its share stays above the rate of every flow on it."""
    return bool(links[link].flows > 1 and links[link].demand > links[link].capacity)


@jit_bare
def _touch(link: int, network: Network, board: Record) -> None:
    """Add a crowded link to the touched ones."""
    links = network.links
    if links[link].share == FOREVER and _crowded(link, links):
        links[link].share = 0
        network.touched_links[board.touched_links] = link
        board.touched_links += 1


@jit_bare
def _touch_route(number: int, network: Network, board: Record) -> None:
    """Add a route to the touched ones."""
    if not network.routes[number].touched:
        network.routes[number].touched = True
        network.touched_routes[board.touched_routes] = number
        board.touched_routes += 1


@jit_bare
def bring_up(number: int, now: int, network: Network, board: Record) -> int:
    """Count what the flows of an active route got until now, and have its next end worked out anew; the count."""
    route = network.routes[number]
    route.served += route.rate * (now - route.since)
    route.since = now
    route.rate = 0
    if route.served > MOST_SERVED:
        for slot in range(board.used):
            if network.flows[slot].route == number:
                network.flows[slot].target -= route.served
        route.served = 0
    return int(route.served)


@jit_bare
def join(number: int, slot: int, units: int, now: int, network: Network, board: Record) -> None:
    """Put the flow of a slot on the links of its route."""
    route, flow = network.routes[number], network.flows[slot]
    flow.route, flow.child, flow.sibling = number, NONE, NONE
    if route.flows == 0:
        route.served, route.since = 0, now
        flow.target = units
        route.first, route.place = slot, board.active
        network.active[board.active] = number
        board.active += 1
    else:
        flow.target = bring_up(number, now, network, board) + units
        route.first = meld(route.first, slot, network.flows)
    route.flows += 1
    for place in range(route.hop, route.end):
        hop = network.hops[place]
        link = network.links[hop.link]
        if route.flows == 1:
            hop.place = link.routes
            network.members[network.first_member[hop.link] + link.routes] = place
            link.routes += 1
        link.flows += 1
        link.weight += hop.weight
        link.demand += hop.weight * (route.cap + 1)
        link.offer = max(1, link.capacity // link.weight)
        _touch(hop.link, network, board)
    _touch_route(number, network, board)


@jit_bare
def leave(number: int, ended: int, network: Network, board: Record) -> None:
    """Take so many flows off the links of their route."""
    route, hops = network.routes[number], network.hops
    route.flows -= ended
    for place in range(route.hop, route.end):
        hop = hops[place]
        link = network.links[hop.link]
        _touch(hop.link, network, board)
        link.flows -= ended
        link.weight -= ended * hop.weight
        link.demand -= ended * hop.weight * (route.cap + 1)
        if link.weight > 0:
            link.offer = max(1, link.capacity // link.weight)
        if route.flows == 0:
            link.routes -= 1
            first = network.first_member[hop.link]
            last = network.members[first + link.routes]
            network.members[first + hop.place] = last
            hops[last].place = hop.place
    if route.flows > 0:
        _touch_route(number, network, board)
    else:
        board.active -= 1
        last = network.active[board.active]
        network.active[route.place], network.due[route.place] = last, network.due[board.active]
        network.routes[last].place = route.place


@jit_bare
def spread(network: Network, board: Record) -> None:
    """Touch whatever hangs together with the touched links by routes and crowded links.

    Where most of the active routes meet on one touched link, all are touched: more than needed, but faster.
    """
    seen = 0
    while seen < board.touched_links:
        number = network.touched_links[seen]
        link = network.links[number]
        seen += 1
        if 2 * link.routes > board.active:
            for other in range(len(network.links)):
                _touch(other, network, board)
            for place in range(board.active):
                _touch_route(network.active[place], network, board)
            return
        first = network.first_member[number]
        for place in range(first, first + link.routes):
            route_number = network.hops[network.members[place]].route
            route = network.routes[route_number]
            if not route.touched:
                _touch_route(route_number, network, board)
                for hop in range(route.hop, route.end):
                    _touch(network.hops[hop].link, network, board)


@jit_bare
def settle(now: int, network: Network, board: Record) -> None:
    """Give the flows of the touched routes their fair rates, and touch nothing any more."""
    links, routes = network.links, network.routes
    touched = network.touched_links[: board.touched_links]
    for number in touched:
        link = links[number]
        link.left = link.capacity
        link.unfrozen = link.weight if _crowded(number, links) else 0
        link.share = link.offer if link.unfrozen > 0 else FOREVER
    unfrozen = network.touched_routes[: board.touched_routes]
    while len(unfrozen) > 0:
        rate = _lowest(links, routes, touched, unfrozen)
        kept = _freeze(rate, network, touched, unfrozen, board.touched_routes)
        for number in unfrozen[kept:]:
            if kept > 0:
                _take(number, rate, network)
            if routes[number].rate != rate:
                _change_rate(number, rate, now, network, board)
        if kept > 0:
            for number in touched:
                link = links[number]
                link.share = max(1, link.left // link.unfrozen) if link.unfrozen > 0 else FOREVER
        unfrozen = unfrozen[:kept]
    for number in touched:
        links[number].share = FOREVER
    board.touched_links = board.touched_routes = 0


@jit_bare
def _lowest(links: Records, routes: Records, touched: Int32, unfrozen: Int32) -> int:
    """The lowest of the shares of the touched links and the caps of the unfrozen routes."""
    lowest = FOREVER
    for number in touched:
        lowest = min(lowest, links[number].share)
    for number in unfrozen:
        lowest = min(lowest, routes[number].cap)
    return lowest


@jit_bare
def _freeze(rate: int, network: Network, touched: Int32, unfrozen: Int32, all_routes: int) -> int:
    """Move the routes that the rate binds to the back of `unfrozen`; how many stay in front.

    `all_routes`: touched ones, frozen or not; a link that has as many binds all of them.
    """
    routes = network.routes
    for number in touched:
        link = network.links[number]
        if link.share == rate:
            if link.routes == all_routes:
                for route in unfrozen:
                    routes[route].touched = False
                return 0
            first = network.first_member[number]
            for place in range(first, first + link.routes):
                routes[network.hops[network.members[place]].route].touched = False
    kept, end = 0, len(unfrozen)
    while kept < end:
        route = unfrozen[kept]
        if routes[route].touched and routes[route].cap > rate:
            kept += 1
        else:
            routes[route].touched = False
            end -= 1
            unfrozen[kept], unfrozen[end] = unfrozen[end], route
    return kept


@jit_bare
def _take(number: int, rate: int, network: Network) -> None:
    """Take the rate of the flows of a frozen route from its crowded links."""
    route = network.routes[number]
    for place in range(route.hop, route.end):
        hop = network.hops[place]
        link = network.links[hop.link]
        if link.share != FOREVER:
            weight = hop.weight * route.flows
            link.left = max(0, link.left - weight * rate)
            link.unfrozen -= weight


@jit_bare
def _change_rate(number: int, rate: int, now: int, network: Network, board: Record) -> None:
    """Have the flows of a route go on at another rate."""
    route = network.routes[number]
    served = bring_up(number, now, network, board)
    left = network.flows[route.first].target - served
    route.rate = rate
    network.due[route.place] = now + (left + rate - 1) // rate
