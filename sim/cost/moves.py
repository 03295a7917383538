"""What moving boxes of an operand takes, compiled: where they lie, how they load the DRAM, which cores share them.

`t` are the tables of one nest (sim/cost/nest_tables.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.cost.kernel import BURST_BYTES, pattern_cost
from sim.cost.nest_tables import AXES, BITS, PACKED, RUN_AXES, SIZE
from sim.jit import jit
from sim.program import MAX_ROUTE_WEIGHT, PAYLOAD_WEIGHT


@jit
def fill_regions(
    order: Any, sizes: Any, bits: int, packed: bool, start: Any, stop: Any, offset: Any, run: Any, count: Any,
    pitch: Any,
) -> None:  # fmt: skip
    """Regions of boxes [boxes, rank] of a tensor whose axes have these `sizes` and lie in memory in this `order`, from
    slowest to fastest; see sim.mapping.regions.regions. `count` and `pitch` [boxes, levels]."""
    rank, levels = len(order), count.shape[1]
    for at in range(len(offset)):
        first, one, stride, together = 0, 1, 1, True
        for back in range(rank):
            place = rank - 1 - back
            axis = order[place]
            extent = stop[at, axis] - start[at, axis]
            if packed:
                # In front of a tile lie the slabs before its own, each as long as the tile is along the slower axes.
                slab = stride
                for slower in range(place):
                    slab *= stop[at, order[slower]] - start[at, order[slower]]
                first += start[at, axis] * slab
                one *= extent
            else:
                first += start[at, axis] * stride
                if place < levels:
                    count[at, place] = 1 if together else extent
                    pitch[at, place] = stride * bits // 8
                if together:
                    one *= extent
                together = together and extent == sizes[axis]
            stride *= sizes[axis]
        if packed:
            count[at, 0], pitch[at, 0] = 1, 0
        offset[at] = first * bits // 8
        run[at] = -(-one * bits // 8)


@jit
def fill_dram_costs(
    t: Any, operand: int, hw: Any, row_bytes: float, efficiency: float, gathered: bool, store: bool, extents: Any,
    nbytes: Any, weight: Any, opened: Any,
) -> None:  # fmt: skip
    """Of boxes [boxes, rank] of an operand, of which `nbytes` [boxes] are moved: the route weight of the DRAM (see
    sim.mapping.weights) and the rows that they open on average (see sim.hw.dram.row_activations)."""
    row = t.operands[0, operand]
    for at in range(len(extents)):
        elements, one, stride, pitch, last, whole = 1, 1, 1, 0, 0, True
        for place in range(row[AXES]):
            axis = t.run_order[0, operand, place]
            extent, size = extents[at, axis], t.axes[0, operand, axis, SIZE]
            elements *= extent
            if whole and place < row[RUN_AXES]:
                one *= extent
            elif not whole and pitch == 0 and extent > 1:
                pitch = stride * row[BITS] // 8
            whole = whole and extent == size
            last += (min(extent, size) - 1) * stride
            stride *= size
        if row[PACKED]:
            one, pitch = elements, 0
        run = max(1, one * row[BITS] // 8)
        span = run if row[PACKED] else max(1, (stride if gathered else last + 1) * row[BITS] // 8)
        cost = pattern_cost(t, 0, operand, hw, float(run), pitch, store)
        heavy = PAYLOAD_WEIGHT * 2.0 ** (np.round(np.log2(cost) * 32) / 32) / efficiency
        weight[at] = int(min(max(np.round(heavy), PAYLOAD_WEIGHT), MAX_ROUTE_WEIGHT))
        runs = max(nbytes[at] / float(run), 1.0)
        touched = 1.0 + max(run - hw[BURST_BYTES], 0.0) / row_bytes
        opened[at] = min(runs * touched, 1.0 + max(span - hw[BURST_BYTES], 0.0) / row_bytes)


@jit
def fill_sharing(
    splits: Any, steps: Any, order: Any, touches: int, positions: Any, iterations: int, first: Any, group: Any,
    members: Any,
) -> tuple[int, int]:  # fmt: skip
    """When the cores at `positions` of the grid `splits` need another tile of an operand that the loops `touches` (bit
    mask) move, and which of them need the same: the numbers of fills and of groups, (fills, groups).

    Loops run over `steps` tiles in `order`, from outermost to innermost. `first` [fills] iterations, `group`
    [positions], `members` [groups x sharers] positions, group by group.
    """
    dims = len(splits)
    inside, tiles = np.ones(dims, np.int64), 1
    for back in range(dims):
        inside[order[dims - 1 - back]] = tiles
        tiles *= steps[order[dims - 1 - back]]
    fills = 0
    for iteration in range(iterations):
        changed = iteration == 0
        for dim in range(dims):
            if (touches >> dim) & 1 and not changed:
                before = (iteration - 1) // inside[dim] % steps[dim]
                changed = iteration // inside[dim] % steps[dim] != before
        if changed:
            first[fills] = iteration
            fills += 1
    outside, cores = np.ones(dims, np.int64), 1
    for back in range(dims):
        outside[dims - 1 - back] = cores
        cores *= splits[dims - 1 - back]
    key, sharers = np.empty(len(positions), np.int64), np.zeros(cores, np.int64)
    for at in range(len(positions)):
        place = 0
        for dim in range(dims):
            if (touches >> dim) & 1:
                place = place * splits[dim] + positions[at] // outside[dim] % splits[dim]
        key[at] = place
        sharers[place] += 1
    groups, filled = 0, 0
    begin, number = np.empty(cores, np.int64), np.empty(cores, np.int64)
    for place in range(cores):
        begin[place], number[place] = filled, groups
        filled += sharers[place]
        groups += sharers[place] > 0
    for at in range(len(positions)):
        group[at] = number[key[at]]
        members[begin[key[at]]] = positions[at]
        begin[key[at]] += 1
    return fills, groups


@jit
def number_transfers(weight: Any, channel: Any, which: Any, asked: Any) -> int:
    """How many different transfers there are among [ends, tasks] with these DRAM weights on these channels [tasks]:
    `which` [ends, tasks] says which of them each is, `asked` [any, 3] their ends, channels and weights, in order of
    ends, weights, channels."""
    count = 0
    for end in range(weight.shape[0]):
        begin = count
        for task in range(weight.shape[1]):
            at = count
            while at > begin and (asked[at - 1, 2], asked[at - 1, 1]) > (weight[end, task], channel[task]):
                at -= 1
            if at > begin and asked[at - 1, 2] == weight[end, task] and asked[at - 1, 1] == channel[task]:
                continue
            for later in range(count, at, -1):
                asked[later] = asked[later - 1]
            asked[at, 0], asked[at, 1], asked[at, 2] = end, channel[task], weight[end, task]
            count += 1
        for task in range(weight.shape[1]):
            for at in range(begin, count):
                if asked[at, 2] == weight[end, task] and asked[at, 1] == channel[task]:
                    which[end, task] = at
    return count
