"""What moving boxes of an operand takes, compiled: where they lie, how they load the DRAM, which cores share them.

`t` are the tables of one nest (sim/cost/nest_tables.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.cost.boxes import fill_tile_box
from sim.cost.kernel import BURST_BYTES, pattern_cost
from sim.cost.nest_tables import AXES, BITS, PACKED, RUN_AXES, SIZE
from sim.jit import jit, jit_bare, jit_inline
from sim.program import MAX_ROUTE_WEIGHT, PAYLOAD_WEIGHT

# Columns of a group of boxes that move together, [groups, 17]: operand of the nest (the result is the last); do they
# move, as stores?, is the operand gathered, are their regions asked for?; first task among those of the template;
# boxes as `ends` x `tasks`; where the cores of the ends and the iterations of the tasks begin; what is added to the
# number of a task for its channel; where its boxes, its tasks, its levels of regions begin, and how many levels; where
# its ways and, of what looks into the cache, those of hits begin; what the first task of every end waits for besides.
(
    OPERAND, MOVES, STORE, GATHERED, REGION, TASK, ENDS, TASKS, FIRST_END, FIRST_TASK, SHIFT, BOX, PLACE, LEVEL, LEVELS,
    WAY, HIT_WAY, WAIT_PS,
) = range(18)  # fmt: skip
GROUP = 18

# Columns of the tasks of a template under construction.
HOLD, DUR, NBYTES, PATH = range(4)


@jit_inline
def fill_region(
    order: Any, sizes: Any, rank: int, bits: int, packed: bool, start: Any, stop: Any, box: int, count: Any, pitch: Any,
    level: int, levels: int,
) -> tuple[int, int]:  # fmt: skip
    """(offset, bytes of a run) of the region of a box of a tensor of this `rank`, whose axes have these `sizes` and lie
    in memory in this `order`, from fastest to slowest; see sim.mapping.regions. The box stands in `start` and `stop`
    from `box` on, its levels go to `count` and `pitch` from `level` on."""
    first, one, stride, together = 0, 1, 1, True
    for back in range(rank):
        axis = order[back]
        begin = start[box + axis]
        extent = stop[box + axis] - begin
        if packed:
            # In front of a tile lie the slabs before its own, each as long as the tile is along the slower axes.
            slab = stride
            for slower in range(back + 1, rank):
                slab *= stop[box + order[slower]] - start[box + order[slower]]
            first += begin * slab
            one *= extent
        else:
            first += begin * stride
            if rank - 1 - back < levels:
                count[level + rank - 1 - back] = 1 if together else extent
                pitch[level + rank - 1 - back] = stride * bits // 8
            if together:
                one *= extent
            together = together and extent == sizes[axis]
        stride *= sizes[axis]
    if packed:
        count[level], pitch[level] = 1, 0
    return first * bits // 8, -(-one * bits // 8)


@jit_bare
def fill_boxes(
    t: Any, low: Any, high: Any, groups: Any, ends: Any, tasks: Any, packed: Any, start: Any, stop: Any, nbytes: Any,
    offset: Any, run: Any, count: Any, pitch: Any,
) -> None:  # fmt: skip
    """The boxes of all groups, of loop ranges `low` to `high` [dims, cores, iterations], and what of them moves: bytes,
    and the regions that are asked for. `packed` [operands]: do its boxes lie in memory one by one?"""
    for group in range(len(groups)):
        operand, levels = groups[group, OPERAND], groups[group, LEVELS]
        rank, bits = t.operands[0, operand, AXES], t.operands[0, operand, BITS]
        box, place, level = groups[group, BOX], groups[group, PLACE], groups[group, LEVEL]
        order, sizes, dense = t.run_order[0, operand], t.axes[0, operand, :, SIZE], packed[operand] > 0
        for end in range(groups[group, ENDS]):
            core = ends[groups[group, FIRST_END] + end]
            for task in range(groups[group, TASKS]):
                elements = fill_tile_box(
                    t, operand, low, high, core, tasks[groups[group, FIRST_TASK] + task], start, stop, box
                )
                if groups[group, REGION]:
                    offset[place], run[place] = fill_region(
                        order, sizes, rank, bits, dense, start, stop, box, count, pitch, level, levels
                    )
                    nbytes[place] = run[place]
                    for outer in range(levels):
                        nbytes[place] *= count[level + outer]
                elif groups[group, MOVES]:
                    nbytes[place] = max(1, -(-elements * bits // 8))
                box, place, level = box + rank, place + 1, level + levels


@jit_bare
def dram_cost(
    t: Any, operand: int, hw: Any, row_bytes: float, efficiency: float, gathered: bool, store: bool, start: Any,
    stop: Any, box: int, nbytes: int,
) -> tuple[int, float]:  # fmt: skip
    """(route weight of the DRAM, rows opened on average) of the box that stands in `start` and `stop` from `box` on, of
    which `nbytes` are moved.

    The weight is 256 / efficiency of its runs, in steps of a 32nd of an octave (2 %) so that few distinct routes
    arise. What is below 1/256 counts as that: single bytes that all fall into one bank. The least of all workloads,
    transposes and slices of columns tried is 1/68. Rows: sim.hw.dram.row_activations."""
    row = t.operands[0, operand]
    elements, one, stride, pitch, last, whole = 1, 1, 1, 0, 0, True
    for place in range(row[AXES]):
        axis = t.run_order[0, operand, place]
        extent, size = stop[box + axis] - start[box + axis], t.axes[0, operand, axis, SIZE]
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
    runs = max(nbytes / float(run), 1.0)
    touched = 1.0 + max(run - hw[BURST_BYTES], 0.0) / row_bytes
    opened = min(runs * touched, 1.0 + max(span - hw[BURST_BYTES], 0.0) / row_bytes)
    return int(min(max(np.round(heavy), PAYLOAD_WEIGHT), MAX_ROUTE_WEIGHT)), opened


@jit_inline
def route_of(routes: Any, weighted: Any, way: int, weight: int) -> int:
    """The number of a way's route where the DRAM has this weight (sim/mapping/ways.py)."""
    return int(routes[way] + weight) if weighted[way] else int(routes[way])


@jit
def fill_moves(
    t: Any, hw: Any, row_bytes: float, efficiency: float, groups: Any, start: Any, stop: Any, nbytes: Any,
    channels: int, ways: Any, latency: Any, routes: Any, weighted: Any, rest_way: int, columns: Any, opened: Any,
    found: Any, paths: int, looked: Any,
) -> int:  # fmt: skip
    """The transfers of all groups that move, in `columns` [4, tasks]: their head latencies, bytes and paths. Numbers of
    the paths' routes go to `found`, in which there are `paths` already; returns how many there are then.

    `ways` [any] are those of every end and channel of a group; `latency`, `routes`, `weighted` are of all ways,
    `rest_way` the one between cache and DRAM. `opened` [tasks of all groups]: rows of the DRAM. `looked` [3, tasks of
    all groups]: of what looks into the cache the path and the latency of a hit, the path of the rest of lines.
    """
    for at in range(len(groups)):
        group = groups[at]
        if not group[MOVES]:
            continue
        ends, tasks, operand = group[ENDS], group[TASKS], group[OPERAND]
        rank, gathered, stored = t.operands[0, operand, AXES], group[GATHERED] > 0, group[STORE] > 0
        weight, which = np.empty((ends, tasks), np.int64), np.empty((ends, tasks), np.int64)
        channel, asked = (np.arange(tasks) + group[SHIFT]) % channels, np.empty((ends * tasks, 3), np.int64)
        for end in range(ends):
            for task in range(tasks):
                place = group[PLACE] + end * tasks + task
                box = group[BOX] + (end * tasks + task) * rank
                weight[end, task], opened[place] = dram_cost(
                    t, operand, hw, row_bytes, efficiency, gathered, stored, start, stop, box, nbytes[place]
                )
        count = number_transfers(weight, channel, which, asked)
        hits, rest = paths + count, paths + 2 * count
        for one in range(count):
            lane = asked[one, 0] * channels + asked[one, 1]
            found[paths + one] = route_of(routes, weighted, ways[group[WAY] + lane], asked[one, 2])
            if group[REGION]:
                found[hits + one] = route_of(routes, weighted, ways[group[HIT_WAY] + lane], asked[one, 2])
        heavy = np.unique(asked[:count, 2]) if group[REGION] else asked[:0, 2]
        for one in range(len(heavy)):
            found[rest + one] = route_of(routes, weighted, rest_way, heavy[one])
        for end in range(ends):
            for task in range(tasks):
                place = end * tasks + task
                lane = end * channels + channel[task]
                wait = group[WAIT_PS] if task == 0 else 0
                row, place = group[TASK] + place, group[PLACE] + place
                columns[HOLD, row], columns[DUR, row] = 1, latency[ways[group[WAY] + lane]] + wait
                columns[NBYTES, row], columns[PATH, row] = nbytes[place], paths + which[end, task]
                if group[REGION]:
                    looked[0, place] = hits + which[end, task]
                    looked[1, place] = latency[ways[group[HIT_WAY] + lane]] + wait
                    looked[2, place] = rest + np.searchsorted(heavy, weight[end, task])
        paths += count + (count if group[REGION] else 0) + len(heavy)
    return paths


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


@jit_bare
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
                for column in range(3):
                    asked[later, column] = asked[later - 1, column]
            asked[at, 0], asked[at, 1], asked[at, 2] = end, channel[task], weight[end, task]
            count += 1
        for task in range(weight.shape[1]):
            for at in range(begin, count):
                if asked[at, 2] == weight[end, task] and asked[at, 1] == channel[task]:
                    which[end, task] = at
    return count
