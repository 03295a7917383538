"""Machine code of the network: flows join and leave links, and share them fairly (see sim/engine/compiled.py)."""

from __future__ import annotations

from sim.engine.heaps import meld
from sim.engine.records import FOREVER, NONE, Network, Record, Records, UInt32
from sim.jit import jit_inline

MOST_SERVED = 1 << 60
"""Units that are counted on a route before the count begins anew; with the 2^62 of a flow they stay within 63 bits."""


@jit_inline
def _touch(number: int, network: Network, board: Record) -> None:
    """Add a link to the touched ones, if it may bind."""
    link = network.links[number]
    if link.crowd != NONE and link.touched != board.settles:
        link.touched = board.settles
        network.touched_links[board.touched_links] = number
        board.touched_links += 1


@jit_inline
def _touch_route(number: int, network: Network, board: Record) -> None:
    """Add a route to the touched ones."""
    if network.routes[number].touched != board.settles:
        network.routes[number].touched = board.settles
        network.touched_routes[board.touched_routes] = number
        board.touched_routes += 1


@jit_inline
def _tell_crowded(number: int, network: Network, board: Record) -> None:
    """Is the link one of those that may bind? If not, its share stays above the rate of every flow on it."""
    link = network.links[number]
    if link.flows > 1 and link.demand > link.capacity:
        if link.crowd == NONE:
            link.crowd = board.crowded
            network.crowded[board.crowded] = number
            board.crowded += 1
    elif link.crowd != NONE:
        board.crowded -= 1
        last = network.crowded[board.crowded]
        network.crowded[link.crowd] = last
        network.links[last].crowd = link.crowd
        link.crowd = NONE


@jit_inline
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


@jit_inline
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
        _tell_crowded(hop.link, network, board)
        _touch(hop.link, network, board)
    _touch_route(number, network, board)


@jit_inline
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
        _tell_crowded(hop.link, network, board)
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


@jit_inline
def _spread(network: Network, board: Record) -> bool:
    """Touch whatever hangs together with the touched links by routes and crowded links.

    Where most of the active routes meet on one touched link, all are taken for touched: more than needed, but faster;
    whether it is so.
    """
    links, checked, seen = network.links, 0, 0
    while seen < board.touched_links:
        while checked < board.touched_links:
            if 2 * links[network.touched_links[checked]].routes > board.active:
                return True
            checked += 1
        number = network.touched_links[seen]
        seen += 1
        first = network.first_member[number]
        for place in range(first, first + links[number].routes):
            route_number = network.hops[network.members[place]].route
            route = network.routes[route_number]
            if route.touched != board.settles:
                _touch_route(route_number, network, board)
                for hop in range(route.hop, route.end):
                    _touch(network.hops[hop].link, network, board)
    return False


@jit_inline
def settle(now: int, network: Network, board: Record) -> None:
    """Give the flows of all routes that may be affected by what was touched their fair rates; then nothing is."""
    if _spread(network, board):
        _share(now, network.crowded, board.crowded, network.active, board.active, network, board)
    else:
        links, routes = network.touched_links, network.touched_routes
        _share(now, links, board.touched_links, routes, board.touched_routes, network, board)
    board.touched_links = board.touched_routes = 0
    board.settles += 1


@jit_inline
def _share(
    now: int,
    some_links: UInt32,
    link_count: int,
    some_routes: UInt32,
    route_count: int,
    network: Network,
    board: Record,
) -> None:
    """Share links among routes that cross no other crowded ones."""
    links, routes, members, shares = network.links, network.routes, network.members, network.shares
    cap = FOREVER  # at most that of any unfrozen route
    for at in range(route_count):
        cap = min(cap, routes[some_routes[at]].cap)
    for at in range(link_count):
        link = links[some_links[at]]
        link.left, link.unfrozen, link.place = link.capacity, link.weight, at
        shares[at] = link.offer if link.crowd != NONE else FOREVER
    unfrozen = route_count
    while unfrozen > 0:
        rate = FOREVER
        for at in range(link_count):
            rate = min(rate, shares[at])
        if cap <= rate:
            cap = _lowest_cap(some_routes, route_count, routes, board)
            rate = min(rate, cap)
        for at in range(link_count):
            if shares[at] == rate:
                number = some_links[at]
                if links[number].routes == route_count:
                    for place in range(route_count):
                        if routes[some_routes[place]].frozen != board.settles:
                            _freeze(some_routes[place], rate, now, network, board)
                    board.taken = 0
                    board.rounds += 1
                    return
                first = network.first_member[number]
                for place in range(first, first + links[number].routes):
                    route = network.hops[members[place]].route
                    if routes[route].frozen != board.settles:
                        _freeze(route, rate, now, network, board)
                        _take(route, rate, network, board)
                        unfrozen -= 1
        if cap == rate:
            for at in range(route_count):
                route = some_routes[at]
                if routes[route].cap == rate and routes[route].frozen != board.settles:
                    _freeze(route, rate, now, network, board)
                    _take(route, rate, network, board)
                    unfrozen -= 1
        _offer_what_is_left(network, board)


@jit_inline
def _lowest_cap(some_routes: UInt32, route_count: int, routes: Records, board: Record) -> int:
    """The lowest cap of the unfrozen routes."""
    lowest = FOREVER
    for at in range(route_count):
        route = routes[some_routes[at]]
        if route.frozen != board.settles:
            lowest = min(lowest, route.cap)
    return lowest


@jit_inline
def _take(number: int, rate: int, network: Network, board: Record) -> None:
    """Take the rate of the flows of a frozen route from its crowded links."""
    route = network.routes[number]
    for place in range(route.hop, route.end):
        hop = network.hops[place]
        link = network.links[hop.link]
        if link.crowd != NONE:
            weight = hop.weight * route.flows
            link.left = max(0, link.left - weight * rate)
            link.unfrozen -= weight
            if link.taken != board.rounds:
                link.taken = board.rounds
                network.taken[board.taken] = hop.link
                board.taken += 1


@jit_inline
def _offer_what_is_left(network: Network, board: Record) -> None:
    """End a round: the links of which something was taken have other shares."""
    for at in range(board.taken):
        link = network.links[network.taken[at]]
        network.shares[link.place] = max(1, link.left // link.unfrozen) if link.unfrozen > 0 else FOREVER
    board.taken = 0
    board.rounds += 1


@jit_inline
def _freeze(number: int, rate: int, now: int, network: Network, board: Record) -> None:
    """Have the flows of a route go on at this rate."""
    route = network.routes[number]
    route.frozen = board.settles
    if route.rate != rate:
        served = bring_up(number, now, network, board)
        left = network.flows[route.first].target - served
        route.rate = rate
        network.due[route.place] = now + (left + rate - 1) // rate
