"""Machine code of the network: flows join and leave links, and share them fairly (see sim/engine/compiled.py)."""

from __future__ import annotations

from sim.engine.heaps import meld
from sim.engine.records import FOREVER, NONE, Int64, Network, Record, Records, UInt32
from sim.jit import jit_inline

TIDE, CALM = 4, 4
"""Routes from which on those that meet on one link go on together, and settles in succession in which all did."""

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
            link.crowd = link.place = board.crowded
            network.crowded[board.crowded] = number
            board.crowded += 1
        network.offers[link.crowd] = max(1, link.capacity // link.weight)
    elif link.crowd != NONE:
        board.crowded -= 1
        last = network.crowded[board.crowded]
        network.crowded[link.crowd], network.offers[link.crowd] = last, network.offers[board.crowded]
        network.links[last].crowd = network.links[last].place = link.crowd
        link.crowd = NONE


@jit_inline
def count_on(now: int, network: Network, board: Record) -> None:
    """Count what the flows with the tide got until now."""
    if board.tide > 0:
        board.count += board.pace * (now - board.since)
    board.since = now
    if board.count > MOST_SERVED:
        for place in range(board.tide):
            network.due[place] -= board.count
            network.routes[network.active[place]].served += board.count
        board.count = 0


@jit_inline
def bring_up(number: int, now: int, network: Network, board: Record) -> int:
    """Count what the flows of an active route got until now, and have its next end worked out anew, unless it goes with
    the tide; the count."""
    route, beyond = network.routes[number], 0
    if route.place < board.tide:
        count_on(now, network, board)
        beyond = board.count
    else:
        route.served += route.rate * (now - route.since)
        route.since = now
        route.rate = 0
    served = beyond + route.served
    if served > MOST_SERVED:
        for slot in range(board.used):
            if network.flows[slot].route == number:
                network.flows[slot].target -= served
        route.served, served = -beyond, 0
    return int(served)


@jit_inline
def join(number: int, slot: int, units: int, now: int, network: Network, board: Record) -> None:
    """Put the flow of a slot on the links of its route."""
    route, flow = network.routes[number], network.flows[slot]
    flow.route, flow.child, flow.sibling = number, NONE, NONE
    if route.flows == 0:
        route.served, route.since = 0, now
        flow.target = units
        route.first, route.place = slot, board.active
        network.active[board.active], network.caps[board.active] = number, route.cap
        board.active += 1
    else:
        flow.target = bring_up(number, now, network, board) + units
        route.first = meld(route.first, slot, network.flows)
        _aim(route, network, board)
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
        _tell_crowded(hop.link, network, board)
        _touch(hop.link, network, board)
    _touch_route(number, network, board)


@jit_inline
def leave(number: int, ended: int, network: Network, board: Record) -> None:
    """Take so many flows, which are out of its heap already, off the links of their route."""
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
        if route.flows == 0:
            link.routes -= 1
            first = network.first_member[hop.link]
            last = network.members[first + link.routes]
            network.members[first + hop.place] = last
            hops[last].place = hop.place
    if route.flows > 0:
        _aim(route, network, board)
        _touch_route(number, network, board)
    else:
        if route.place < board.tide:
            board.tide -= 1
            _swap(route.place, board.tide, network)
        board.active -= 1
        _swap(route.place, board.active, network)


@jit_inline
def _swap(one: int, other: int, network: Network) -> None:
    """Two active routes change places."""
    active, due, caps = network.active, network.due, network.caps
    active[one], active[other] = active[other], active[one]
    due[one], due[other] = due[other], due[one]
    caps[one], caps[other] = caps[other], caps[one]
    network.routes[active[one]].place, network.routes[active[other]].place = one, other


@jit_inline
def _aim(route: Record, network: Network, board: Record) -> None:
    """Tell what the tide counts when the first flow of a route with it ends."""
    if route.place < board.tide:
        network.due[route.place] = network.flows[route.first].target - route.served


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
    links, shares, cap = network.links, network.shares, FOREVER  # cap: at most that of any unfrozen route
    count_on(now, network, board)
    if _spread(network, board):
        for at in range(board.crowded):
            shares[at] = network.offers[at]
        for place in range(board.active):
            cap = min(cap, network.caps[place])
        _share(now, cap, network.crowded, board.crowded, network.active, board.active, network, board)
    else:
        for at in range(board.touched_links):
            link = links[network.touched_links[at]]
            link.place = at
            shares[at] = network.offers[link.crowd] if link.crowd != NONE else FOREVER
        for at in range(board.touched_routes):
            cap = min(cap, network.routes[network.touched_routes[at]].cap)
        some, routes = network.touched_links, network.touched_routes
        _share(now, cap, some, board.touched_links, routes, board.touched_routes, network, board)
        for at in range(board.touched_links):
            link = links[some[at]]
            link.place = max(0, link.crowd)
    board.touched_links = board.touched_routes = 0
    board.settles += 1
    board.ebb = _first_with_tide(now, network.due, board)


@jit_inline
def _first_with_tide(now: int, due: Int64, board: Record) -> int:
    """When the first flow with the tide ends."""
    first = FOREVER
    for place in range(board.tide):
        first = min(first, due[place])
    return now + (first - board.count + board.pace - 1) // board.pace if board.tide > 0 else FOREVER


@jit_inline
def _share(
    now: int,
    cap: int,
    some_links: UInt32,
    link_count: int,
    some_routes: UInt32,
    route_count: int,
    network: Network,
    board: Record,
) -> None:
    """Share links, by their place in `shares`, among routes that cross no other crowded ones."""
    links, routes, members, shares = network.links, network.routes, network.members, network.shares
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
                    board.calm += route_count == board.active
                    if route_count == board.active and route_count >= TIDE and board.calm >= CALM:
                        _go_with_tide(rate, now, network, board)
                    else:
                        for place in range(route_count - 1, -1, -1):
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
            for at in range(route_count - 1, -1, -1):  # one that leaves the tide changes places with one behind it
                route = some_routes[at]
                if routes[route].cap == rate and routes[route].frozen != board.settles:
                    _freeze(route, rate, now, network, board)
                    _take(route, rate, network, board)
                    unfrozen -= 1
        _offer_what_is_left(network, board)
    if route_count == board.active:
        board.calm = 0


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
            if link.begun != board.settles:
                link.begun, link.left, link.unfrozen = board.settles, link.capacity, link.weight
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
    """Have the flows of a route go on at this rate, without the tide."""
    route = network.routes[number]
    route.frozen = board.settles
    if route.place < board.tide:
        board.tide -= 1
        _swap(route.place, board.tide, network)
        route.served += board.count
        route.since = now
    if route.rate != rate:
        served = bring_up(number, now, network, board)
        left = network.flows[route.first].target - served
        route.rate = rate
        network.due[route.place] = now + (left + rate - 1) // rate


@jit_inline
def _go_with_tide(rate: int, now: int, network: Network, board: Record) -> None:
    """Have the flows of all unfrozen routes go on together at this rate: what each of them gets is counted once for all
    of them, so that another rate changes nothing but the rate."""
    board.pace = rate
    for place in range(board.tide, board.active):
        number = network.active[place]
        route = network.routes[number]
        if route.frozen != board.settles:
            route.served = bring_up(number, now, network, board) - board.count
            _swap(place, board.tide, network)
            board.tide += 1
            _aim(route, network, board)
