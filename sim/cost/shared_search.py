"""The best tiling of a nest on designs that are alike (sim/cost/alike.py), searched for all of them together.

What a chip as bad as the worst of a branch achieves is a limit for all of its designs; a tiling that takes longer even
on one as good as the best is best on none. So tilings are listed once for a tree (branch.list_cuts), the list becomes
shorter from branch to branch, and each design looks at a short one. Every design is evaluated, and gets the tiling that
a search of its own finds (sim/cost/tile_search.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.cost.alike import BEST, NODE_FIRST, NODE_STOP, WORST, Alike
from sim.cost.branch import (
    CUT,
    EQUAL,
    NOTHING_S,
    ORDER,
    SURELY,
    Search,
    copy_to,
    least_place,
    list_cuts,
    search_cuts,
    takes_place,
)
from sim.cost.floors import WIDTH
from sim.cost.kernel import PORT_S, TRAFFIC_SHARE, WIRE_S, Work
from sim.cost.listed import CUT as OF_CUT
from sim.cost.listed import LEVELS, LIST_ROWS, copy_below, scan_list
from sim.cost.listed import ORDER as OF_ORDER
from sim.cost.scan import scan_role
from sim.jit import jit_bare

ROWS_PER_DESIGN, MOST_ROWS = 24, LIST_ROWS // 2
"""Tilings that a list may have, by the designs that share it: longer ones take longer to make than they spare."""

WARM = 3
"""Trees whose choices are remembered."""

UNKNOWN = -1
"""Of a branch: nothing is listed for it yet."""


@jit_bare
def evaluate_listed(
    t: Any, nest: int, hw: Any, w: Work, limit: float, best: float, row: int, s: Search
) -> float:
    """The cost of one listed tiling, which becomes the best of the search where it is."""
    cut, order = s.lists.tilings[row, OF_CUT], s.lists.tilings[row, OF_ORDER]
    for role in range(4):
        s.at[role] = s.lists.tilings[row, LEVELS + role]
    k = s.at[3]
    cost, found, _ = scan_role(
        t, nest, hw, w, s.levels, s.cuts, cut, s.at, 3, k, k + 1, order, limit, best * (1.0 + EQUAL), s.lines,
        TRAFFIC_SHARE,
    )
    if found >= 0 and takes_place(s, cut, s.at, order, cost, best):
        return min(best, cost)
    return best


@jit_bare
def best_listed(
    t: Any, nest: int, hw: Any, w: Work, limit: float, best: float, start: int, stop: int, s: Search
) -> float:
    """The best of the listed tilings `start` to `stop` on a unit, into `s.best` and `s.found` (CUT -1 where none is
    better than `best`); returns its cost."""
    seconds, tilings = s.lists.seconds, s.lists.tilings
    s.found[CUT] = -1
    if start == stop:
        return best
    scan_list(hw, w, limit, s.lists.columns, start, stop, seconds)
    row = least_place(seconds, start, stop)
    # No pattern is faster than the peak; so where the ports are not slower than that, they limit no first tile, and
    # seconds are the latency.
    exact, least = hw[PORT_S] <= hw[WIRE_S], seconds[row]
    if not exact:
        best = evaluate_listed(t, nest, hw, w, limit, best, row, s)
        seconds[row] = np.inf
    for row in range(start, stop):
        if exact and seconds[row] <= min(best, least) * (1.0 + EQUAL):
            for role in range(4):
                s.at[role] = tilings[row, LEVELS + role]
            if takes_place(s, tilings[row, OF_CUT], s.at, tilings[row, OF_ORDER], seconds[row], best):
                best = min(best, seconds[row])
        elif not exact and seconds[row] * SURELY < best:
            best = evaluate_listed(t, nest, hw, w, limit, best, row, s)
    return best


@jit_bare
def _limit_s(t: Any, nest: int, hw: Any, w: Work, limit: float, start: int, stop: int, s: Search) -> float:
    """What one of the best of the listed tilings achieves."""
    scan_list(hw, w, limit, s.lists.columns, start, stop, s.lists.seconds)
    row = least_place(s.lists.seconds, start, stop)
    s.found[CUT] = -1
    return evaluate_listed(t, nest, hw, w, limit, NOTHING_S, row, s)


@jit_bare
def list_node(
    t: Any, nest: int, w: Work, alike: Alike, node: int, share: int, cuts_first: int, cuts_stop: int, warm: Any,
    s: Search,
) -> int:  # fmt: skip
    """List the tilings that designs of a node may choose, from row 0 on; how many, or UNKNOWN where they are too many.

    `warm` [trees, 6] are what the worst of other trees chose (cut, columns outside?, levels from the first of their
    role): the best of them is a first limit.
    """
    designs = alike.nodes[node, NODE_STOP] - alike.nodes[node, NODE_FIRST]
    worst, best = alike.hardware[node, WORST], alike.hardware[node, BEST]
    least, most = alike.node_limits[node, WORST, share], alike.node_limits[node, BEST, share]
    room, count = min(ROWS_PER_DESIGN * designs, MOST_ROWS), UNKNOWN
    guess_s = _warm_limit_s(t, nest, worst, w, least, cuts_first, cuts_stop, warm, s)
    if guess_s < NOTHING_S:
        count = list_cuts(t, nest, best, w, cuts_first, cuts_stop, most, guess_s * (1.0 + 2.0 * EQUAL), room, s)
    if count == UNKNOWN:
        most_s = search_cuts(t, nest, worst, w, cuts_first, cuts_stop, least, NOTHING_S, s)
        if most_s < guess_s or guess_s == NOTHING_S:
            count = list_cuts(t, nest, best, w, cuts_first, cuts_stop, most, most_s * (1.0 + 2.0 * EQUAL), room, s)
    if count > 0:
        most_s = best_listed(t, nest, worst, w, least, NOTHING_S, 0, count, s)
        if s.found[CUT] >= 0:
            _remember(s, warm)
            scan_list(best, w, most, s.lists.columns, 0, count, s.lists.seconds)
            count = copy_below(s.lists, 0, count, most_s / SURELY, 0)
    return int(count)


@jit_bare
def _warm_limit_s(
    t: Any, nest: int, hw: Any, w: Work, limit: float, cuts_first: int, cuts_stop: int, warm: Any, s: Search
) -> float:
    """What the best of other trees' choices achieves, as far as there are such levels here."""
    best, s.found[CUT] = NOTHING_S, -1
    for row in range(len(warm)):
        cut = warm[row, OF_CUT]
        if not cuts_first <= cut < cuts_stop:
            continue
        for role in range(4):
            last = s.cuts.stop[cut, role] - s.cuts.first[cut, role] - 1
            s.at[role] = s.cuts.first[cut, role] + min(warm[row, LEVELS + role], last)
        k = s.at[3]
        cost, found, _ = scan_role(
            t, nest, hw, w, s.levels, s.cuts, cut, s.at, 3, k, k + 1, warm[row, OF_ORDER], limit, best, s.lines,
            TRAFFIC_SHARE,
        )
        if found >= 0:
            best = cost
    return best


@jit_bare
def _remember(s: Search, warm: Any) -> None:
    """Put the best of a search before the others of `warm`, and leave out the last."""
    for back in range(len(warm) - 1):
        copy_to(warm[len(warm) - 1 - back], warm[len(warm) - 2 - back])
    warm[0, OF_CUT], warm[0, OF_ORDER] = s.found[CUT], s.found[ORDER]
    for role in range(4):
        warm[0, LEVELS + role] = s.best[role] - s.cuts.first[s.found[CUT], role]


@jit_bare
def behind(stop: int) -> int:
    """The row at which what follows a list begins."""
    return (stop + WIDTH - 1) // WIDTH * WIDTH


@jit_bare
def narrow_node(
    t: Any, nest: int, w: Work, alike: Alike, node: int, share: int, start: int, stop: int, s: Search
) -> int:
    """Copy those of the listed tilings `start` to `stop` that designs of a node may choose, from row `behind(stop)` on;
    where the copies end (where they begin: there was nothing to leave out, or no room)."""
    to = behind(stop)
    if start == stop or to + stop - start > LIST_ROWS:
        return to
    most_s = _limit_s(t, nest, alike.hardware[node, WORST], w, alike.node_limits[node, WORST, share], start, stop, s)
    scan_list(
        alike.hardware[node, BEST], w, alike.node_limits[node, BEST, share], s.lists.columns, start, stop,
        s.lists.seconds,
    )  # fmt: skip
    return int(copy_below(s.lists, start, stop, most_s / SURELY, to))
