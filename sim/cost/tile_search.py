"""The best tiling of every nest on every design: on every kind of cores, array and vector unit, by branch and bound
(sim/cost/branch.py)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sim.cost.alike import LEFT, NODE_FIRST, NODE_STOP, RIGHT, Alike
from sim.cost.branch import CUT, NOTHING_S, ORDER, Search, fill_cuts, new_memory, search_cuts
from sim.cost.floors import LEVEL_ROWS
from sim.cost.kernel import (
    CLOCK_HZ,
    CORES,
    LANES,
    RINGS,
    TRAFFIC_SHARE,
    Attention,
    Work,
    late_bits,
    make_work,
    set_quanta,
)
from sim.cost.levels import FIRST, PER_OPERAND
from sim.cost.nest_tables import BITS, DEPTH, DIMS, OPERANDS, STAYS, WIDTH, NestTables
from sim.cost.nest_work import (
    BODY_CYCLES,
    DRAIN_CYCLES,
    LAST_CYCLES,
    MERGE_CYCLES,
    ROW_CYCLES,
    SHARE_CYCLES,
    UNPACK_CYCLES,
)
from sim.cost.online_search import search_attention
from sim.cost.shared_search import UNKNOWN, WARM, behind, best_listed, list_node, narrow_node
from sim.cost.stay_search import again_bytes, best_staying, may_gain
from sim.cost.tile_traffic import tiling_traffic
from sim.cost.tiles import largest_part
from sim.cost.tiling import Shape, no_shape, shape_cost, tiling_shape
from sim.graph.attention import MASKS, VALUES
from sim.jit import jit, jit_bare

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


class Inputs(NamedTuple):
    """What the search reads of the designs.

    `hardware` [designs, kinds, HARDWARE_COLUMNS]; `rates` [designs, kinds, formats, 2] numerator (0: the array lacks
    the format) and denominator, `rate_of` [nests] the row of a nest's format, -1 where no array is any use; `work`
    [tables, nests, WORK] and `work_of` [designs, kinds] as nest_work.work_tables has them; `partitions` [rows, dims],
    of which `partitions_of` [designs, kinds, nests, 2] are (first, one past the last), and `wires` [rows, operands,
    2] what they make of the busiest port and link; `shares` [rows, 4] numbers
    below `share_count`, one for each distinct way a role of a nest is cut over cores; `granules` [designs, kinds, 4]
    numbers from 1 below `granule_count`, one for each distinct granule of a role (0: none).
    """

    hardware: Any
    rates: Any
    rate_of: Any
    work: Any
    work_of: Any
    partitions: Any
    partitions_of: Any
    wires: Any
    shares: Any
    share_count: int
    granules: Any
    granule_count: int


@jit
def best_tilings(
    t: NestTables, given: Inputs, alike: Alike, cost: Float64, traffic: Float64, choice: Int64
) -> None:
    """The best tiling of every nest on every design: `cost` [designs, nests, COSTS], `traffic` [designs, nests,
    TRAFFIC], `choice` [designs, nests, 4 + 2 * dims] (kind of cores or -1 where nothing fits, on the vector unit?,
    columns outside?, splits, steps, bit mask of operands that stay). Buffers keep to the preferred share of the
    scratchpad where they can.

    A nest is searched for all designs before the next: they share its table of levels. Those that are alike are
    searched together.
    """
    s, stack, best = new_search(t, given), np.empty((128, 3), np.int64), np.empty(len(given.hardware))
    warm = np.empty((2, WARM, 6), np.int64)
    for nest in range(len(t.nests)):
        warm[:] = -1
        choice[:, nest], choice[:, nest, 0], choice[:, nest, choice.shape[2] - 1] = 1, -1, 0
        cost[:, nest], best[:] = np.nan, NOTHING_S
        attention = t.nests[nest, DEPTH] > 0
        for root in alike.roots[: 0 if attention else len(alike.roots)]:
            make_room(s)
            search_tree(t, nest, given, alike, root, choice, best, stack, warm, s)
        for place in range(len(given.hardware)):
            design = alike.order[place]
            mine = choice[design, nest]
            for kind in range(given.hardware.shape[1]):
                if best[design] == NOTHING_S or kind > 0:
                    make_room(s)
                    best[design] = search_kind(t, nest, given, alike, design, kind, best[design], mine, s)
        stay_choices(t, nest, given, alike, best, choice, s)
        cost_choices(t, nest, given, alike, choice, cost, traffic)


@jit
def make_room(s: Search) -> None:
    """Begin the table of levels again when it is half full, so no nest may need more than half of it."""
    if s.next_row[0] > LEVEL_ROWS // 2:
        s.next_row[0] = 0
        s.spans[:] = -1


@jit
def search_tree(
    t: Any, nest: int, given: Inputs, alike: Alike, root: int, choice: Any, best: Any, stack: Any, warm: Any, s: Search
) -> None:
    """The best tilings of a nest on designs that are alike, within the preferred share of the scratchpad: rows of
    `choice` [designs, nests, ...] and of `best` [designs], which stay as they are where nothing fits."""
    first, stop = alike.nodes[root, NODE_FIRST], alike.nodes[root, NODE_STOP]
    w = unit_work(t, nest, given, alike.order[first], 0, False)
    if w.slow > 0.0:
        search_unit_tree(t, nest, given, alike, root, w, choice, best, stack, warm, s)
    w = unit_work(t, nest, given, alike.order[first], 0, True)
    for place in range(first, stop):
        design = alike.order[place]
        if vector_floor_s(t, nest, given.hardware[design, 0], w.body) < best[design]:
            search_unit_tree(t, nest, given, alike, root, w, choice, best, stack, warm, s)
            break


@jit
def search_unit_tree(
    t: Any, nest: int, given: Inputs, alike: Alike, root: int, w: Work, choice: Any, best: Any, stack: Any, warm: Any,
    s: Search,
) -> None:  # fmt: skip
    """`search_tree` on the arrays or the vector units."""
    design = alike.order[alike.nodes[root, NODE_FIRST]]
    cuts = given.partitions_of[design, 0, nest]
    if cuts[0] == cuts[1]:
        return
    fill_unit(t, nest, given, design, 0, w.vector, s)
    stack[0, 0], stack[0, 1], stack[0, 2], waiting = root, UNKNOWN, UNKNOWN, 1
    while waiting > 0:
        waiting -= 1
        node, start, stop = stack[waiting]
        if start == UNKNOWN:
            stop = list_node(t, nest, w, alike, node, 0, cuts[0], cuts[1], warm[int(w.vector)], s)
            start = UNKNOWN if stop == UNKNOWN else 0
        else:
            end = narrow_node(t, nest, w, alike, node, 0, start, stop, s)
            if end > behind(stop):
                start, stop = behind(stop), end
        if alike.nodes[node, LEFT] >= 0:
            for side in (RIGHT, LEFT):
                stack[waiting, 0], stack[waiting, 1], stack[waiting, 2] = alike.nodes[node, side], start, stop
                waiting += 1
            continue
        for place in range(alike.nodes[node, NODE_FIRST], alike.nodes[node, NODE_STOP]):
            design = alike.order[place]
            hw, limit, mine = given.hardware[design, 0], alike.limits[design, 0, 0], choice[design, nest]
            if start == UNKNOWN:
                best[design] = search_unit(t, nest, given, design, 0, w.vector, limit, best[design], mine, s)
            elif not w.vector or vector_floor_s(t, nest, hw, w.body) < best[design]:
                best[design] = best_listed(t, nest, hw, w, limit, best[design], start, stop, s)
                if s.found[CUT] >= 0:
                    write_choice(t, nest, 0, w.vector, s, mine)


@jit
def search_kind(
    t: Any, nest: int, given: Inputs, alike: Alike, design: int, kind: int, best: float, choice: Any, s: Search
) -> float:
    """The best tiling of a nest on one kind of cores of a design, into `choice` where it is better than `best`; returns
    the better."""
    for share in range(2):
        for vector in (False, True):
            limit = alike.limits[design, kind, share]
            best = search_unit(t, nest, given, design, kind, vector, limit, best, choice, s)
        if choice[0] == kind:
            break
    return best


@jit
def search_unit(
    t: Any, nest: int, given: Inputs, design: int, kind: int, vector: bool, limit: float, best: float, choice: Any,
    s: Search,
) -> float:  # fmt: skip
    """The best tiling of a nest on the arrays or the vector units of one kind of cores, as `search_kind`."""
    hw = given.hardware[design, kind]
    first, stop = given.partitions_of[design, kind, nest]
    w = unit_work(t, nest, given, design, kind, vector)
    if first == stop or (not vector and w.slow == 0.0):
        return best
    if vector and w.slow > 0.0 and vector_floor_s(t, nest, hw, w.body) >= best:
        return best
    attention = t.nests[nest, DEPTH] > 0
    if attention and vector:
        return best
    fill_unit(t, nest, given, design, kind, vector, s)
    if attention:
        best = search_attention(t, nest, hw, w, first, stop, limit, best, s)
    else:
        best = search_cuts(t, nest, hw, w, first, stop, limit, best, s)
    if s.found[CUT] >= 0:
        write_choice(t, nest, kind, vector, s, choice)
    return best


@jit
def fill_unit(t: Any, nest: int, given: Inputs, design: int, kind: int, vector: bool, s: Search) -> None:
    """The levels of all cuts of a nest over the cores of a kind."""
    first, stop = given.partitions_of[design, kind, nest]
    fill_some(t, nest, given, design, kind, vector, first, stop, s)


@jit
def fill_some(
    t: Any, nest: int, given: Inputs, design: int, kind: int, vector: bool, first: int, stop: int, s: Search
) -> None:
    """The levels of the cuts `first` to `stop`."""
    places = np.zeros(4, np.int64)
    for role in range(4):
        places[role] = given.granules[design, kind, role] if t.alone[nest, role] == 1 else 0
        if vector:
            places[role] = given.granule_count
    fill_cuts(t, nest, given.hardware[design, kind], vector, given.shares, places, first, stop, s)


@jit
def write_choice(t: Any, nest: int, kind: int, vector: bool, s: Search, choice: Any) -> None:
    """The best of a search as a row of `choice`."""
    width = t.extent.shape[1]
    choice[0], choice[1], choice[2] = kind, vector, s.found[ORDER]
    for dim in range(t.nests[nest, DIMS]):
        row = s.best[t.role[nest, dim]]
        choice[3 + dim] = s.cuts.splits[s.found[CUT], dim]
        choice[3 + width + dim] = int(s.levels[row, s.levels.shape[1] - width + dim])


@jit_bare
def unit_work(t: Any, nest: int, given: Inputs, design: int, kind: int, vector: bool) -> Work:
    """The work of a nest on a unit of a kind of cores; `slow` is 0 where the array is no use."""
    own, dtype, over, under = given.work[given.work_of[design, kind], nest], given.rate_of[nest], 1.0, 0.0
    if dtype >= 0 and given.rates[design, kind, dtype, 0] > 0:
        over, under = given.rates[design, kind, dtype, 0], given.rates[design, kind, dtype, 1]
    w = make_work(t, nest, over, under, own[BODY_CYCLES], own[DRAIN_CYCLES], vector, own[UNPACK_CYCLES])
    bits = t.operands[nest, min(VALUES, t.operands.shape[1] - 1), BITS]
    a = Attention(
        float(t.nests[nest, DEPTH]), float(t.nests[nest, WIDTH]), bits, own[SHARE_CYCLES], own[ROW_CYCLES],
        own[MERGE_CYCLES], own[LAST_CYCLES], late_bits(t, nest, MASKS, False) / bits,
    )  # fmt: skip
    return Work(
        w.vector, w.slow, w.body, w.drain, w.left_bits, w.right_bits, w.sum_bytes, w.unpack, w.scales, w.late, a
    )


@jit
def stay_choices(t: Any, nest: int, given: Inputs, alike: Alike, best: Any, choice: Any, s: Search) -> None:
    """Choices with an operand that stays, in the preferred share of the scratchpad, where they are better than those
    without, which cost `best` [designs]."""
    width, found = t.extent.shape[1], False
    for operand in range(t.nests[nest, OPERANDS]):
        found = found or t.operands[nest, operand, STAYS] > 0
    if not found:
        return
    plain, same, again = np.full(choice.shape[2], -1, np.int64), -1, (0.0, 0.0)
    for design in alike.order:
        mine = choice[design, nest]
        if mine[0] < 0:
            continue
        kind, vector, hw = mine[0], mine[1] == 1, given.hardware[design, mine[0]]
        if same != alike.same[design] or not equal(plain, mine):
            plain[:], same = mine, alike.same[design]
            splits, steps = plain[3 : 3 + width], plain[3 + width : 3 + 2 * width]
            again = again_bytes(t, nest, hw, splits, steps, tile_of(t, nest, hw, plain), plain[2])
        if hw[RINGS] == 0.0 or not may_gain(hw, again, best[design]):
            continue
        cut = cut_of(t, nest, given, design, mine)
        make_room(s)
        fill_some(t, nest, given, design, kind, vector, cut, cut + 1, s)
        find_levels(t, nest, s, cut, mine)
        w, limit = unit_work(t, nest, given, design, kind, vector), alike.limits[design, kind, 0]
        best[design], order, stay = best_staying(t, nest, hw, w, s, cut, limit, TRAFFIC_SHARE, best[design])
        if stay >= 0:
            s.found[CUT], s.found[ORDER] = cut, order
            write_choice(t, nest, kind, vector, s, mine)
            mine[3 + 2 * width] = 1 << stay


@jit_bare
def find_levels(t: Any, nest: int, s: Search, cut: int, choice: Any) -> None:
    """The levels of a choice of a cut, into `s.best`."""
    width = t.extent.shape[1]
    for role in range(4):
        for row in range(s.cuts.first[cut, role], s.cuts.stop[cut, role]):
            same = True
            for dim in range(t.nests[nest, DIMS]):
                mine = t.role[nest, dim] == role
                level = s.levels[row, s.levels.shape[1] - width + dim]
                same = same and (not mine or level == choice[3 + width + dim])
            if same:
                s.best[role] = row
                break


@jit
def cost_choices(
    t: Any, nest: int, given: Inputs, alike: Alike, choice: Any, cost: Any, traffic: Any
) -> None:
    """All costs and the traffic of the choices of a nest; where designs that are alike choose the same one after
    another, its shape and traffic are worked out once."""
    of_operand, shape, operands = np.empty((t.operands.shape[1], 3)), no_shape(), t.nests[nest, OPERANDS]
    before = -1
    for design in alike.order:
        mine = choice[design, nest]
        if mine[0] < 0:
            continue
        kind, vector = mine[0], mine[1] == 1
        hw, w = given.hardware[design, kind], unit_work(t, nest, given, design, kind, vector)
        if before >= 0 and alike.same[before] == alike.same[design] and equal(choice[before, nest], mine):
            traffic[design, nest] = traffic[before, nest]
        else:
            wires = given.wires[cut_of(t, nest, given, design, mine)]
            shape = choice_shape(t, nest, hw, mine, wires, of_operand, traffic[design, nest])
        shape_cost(hw, w, shape, of_operand, operands, cost[design, nest])
        before = design


@jit_bare
def equal(one: Any, other: Any) -> bool:
    """Are two rows the same?"""
    same = True
    for place in range(len(one)):
        same = same and one[place] == other[place]
    return same


@jit_bare
def cut_of(t: Any, nest: int, given: Inputs, design: int, choice: Any) -> int:
    """The row of the partitions that a choice has."""
    first, stop = given.partitions_of[design, choice[0], nest]
    for row in range(first, stop):
        same = True
        for dim in range(t.nests[nest, DIMS]):
            same = same and given.partitions[row, dim] == choice[3 + dim]
        if same:
            return int(row)
    return int(first)


@jit
def choice_shape(t: Any, nest: int, hw: Any, choice: Any, wires: Any, of_operand: Any, traffic: Any) -> Shape:
    """The shape of a choice, with what `tiling.tiling_shape` finds of every operand; fills in its traffic."""
    width, vector, tile = t.extent.shape[1], choice[1] == 1, tile_of(t, nest, hw, choice)
    splits, steps, staying = choice[3 : 3 + width], choice[3 + width : 3 + 2 * width], choice[3 + 2 * width]
    tiling_traffic(t, nest, hw, splits, steps, tile, choice[2], staying, vector, traffic)
    return tiling_shape(t, nest, hw, splits, steps, tile, choice[2], 0, staying, True, wires, of_operand)


@jit
def tile_of(t: Any, nest: int, hw: Any, choice: Any) -> Any:
    """The largest tile of a choice, by dimension."""
    width = t.extent.shape[1]
    quanta, tile = np.ones(width, np.int64), np.ones(width, np.int64)
    set_quanta(t, nest, hw, choice[1] == 1, quanta)
    for dim in range(t.nests[nest, DIMS]):
        tile[dim] = largest_part(t.extent[nest, dim], choice[3 + dim] * choice[3 + width + dim], quanta[dim])
    return tile


@jit
def new_search(t: Any, given: Inputs) -> Search:
    """Memory for a search over the cuts of these inputs."""
    levels = np.empty((LEVEL_ROWS, FIRST + PER_OPERAND * t.operands.shape[1] + t.extent.shape[1]))
    spans = np.full((given.share_count, given.granule_count + 1, 2), -1, np.int64)
    return new_memory(t, given.partitions, given.wires, levels, spans, True)


@jit_bare
def vector_floor_s(t: Any, nest: int, hw: Any, body: float) -> float:
    """Time that the whole nest takes on every lane of every core, at the very least."""
    results = 1.0
    for dim in range(t.nests[nest, DIMS]):
        if t.role[nest, dim] != 3:
            results *= t.extent[nest, dim]
    return float(results * body / (hw[LANES] * hw[CORES] * hw[CLOCK_HZ]))
