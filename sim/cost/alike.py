"""Designs that differ only in speeds and in the size of the scratchpad, as trees of neighbours: they have the same
tilings to choose from, and what no chip between the best and the worst of a branch would choose none of them does."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sim.cost import kernel
from sim.jit import jit

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

LESS_IS_BETTER = (
    kernel.HEAD_S, kernel.SEND_S, kernel.TILE_CYCLES, kernel.PERIOD_S, kernel.LANE_PART, kernel.FEED_CYCLES,
    kernel.SUM_CYCLES, kernel.CHANNEL_S, kernel.CORE_S, kernel.WIRE_S, kernel.PORT_S, kernel.PEAK_S, kernel.PART_S,
    kernel.ISSUE_S, kernel.EACH_PORT_S, kernel.LINK_S,
)  # fmt: skip
MORE_IS_BETTER = (
    kernel.CLOCK_HZ, kernel.LANES, kernel.SRAM_BYTES, kernel.FEED_BW, kernel.ACCUMULATOR_BW, kernel.CHANNELS,
    kernel.CHANNEL_BW, kernel.OUTSTANDING, kernel.DRAM_BW, kernel.PORTS_BW, kernel.HOP_BW,
    kernel.EACH_PORT_BW,
)  # fmt: skip
"""Columns of the hardware that may differ among designs that are alike: with a better one no tiling is slower."""

# Handed to what is compiled: machine code on disk would keep columns that are numbered otherwise by now.
_LESS, _MORE = np.array(LESS_IS_BETTER), np.array(MORE_IS_BETTER)

FEWEST = 4
"""Designs that a search for all of them together is worth it for."""

LEAF = 24
"""Designs that are no longer divided."""

BEST, WORST = range(2)
NODE_FIRST, NODE_STOP, LEFT, RIGHT = range(4)


class Alike(NamedTuple):
    """Designs in trees. `order` [designs] has those of every node side by side; `nodes` [nodes, 4] first and one past
    the last of them, the numbers of its two halves (-1: it is not divided); `roots` [trees]; `hardware` [nodes, 2,
    HARDWARE_COLUMNS] a chip as good as the best of them in every column, and one as bad as the worst; `limits`
    [designs, kinds, 2] bytes of scratchpad that buffers may take, preferred and at all, `node_limits` [nodes, 2, 2] of
    those two chips; `same` [designs] a number, equal among designs that are alike."""

    order: Int64
    nodes: Int64
    roots: Int64
    hardware: Float64
    limits: Float64
    node_limits: Float64
    same: Int64


def alike(hardware: Float64, others: tuple[npt.NDArray[Any], ...], preferred: float) -> Alike:
    """Trees of the designs of `hardware` [designs, kinds, HARDWARE_COLUMNS] with one kind of cores; `others` are arrays
    [designs, ...] that designs which are alike have equal. Buffers keep to the share `preferred` of the scratchpad
    where they can."""
    count = len(hardware)
    size = hardware[:, :, kernel.SRAM_BYTES]
    granule = np.maximum(1.0, np.floor(size / 32))
    limits = np.stack([np.floor(np.floor(size * share) / granule) * granule for share in (preferred, 1.0)], axis=2)
    free = np.concatenate([_LESS, _MORE])
    fixed = hardware.copy()
    fixed[:, :, free] = fixed[:, :, free] > 0.0
    key = np.concatenate([fixed.reshape(count, -1), *(other.reshape(count, -1) for other in others)], axis=1)
    numbers: dict[bytes, int] = {}
    same = np.array([numbers.setdefault(row.tobytes(), len(numbers)) for row in key], np.int64)
    order = np.argsort(same, kind="stable")
    sizes = np.bincount(same, minlength=len(numbers))
    if hardware.shape[1] > 1:
        sizes[:] = 0
    stops = np.cumsum(np.bincount(same, minlength=len(numbers)))
    spans = np.stack([stops - sizes, stops], axis=1)[sizes >= FEWEST]
    nodes = np.full((2 * count + 1, 4), -1, np.int64)
    made = _grow(hardware, limits, order, spans, nodes, _LESS)
    roots = np.arange(len(spans))
    node_limits = np.empty((made, 2, 2))
    bounds = np.empty((made, 2, hardware.shape[2]))
    _bound(hardware, limits, order, nodes[:made], _LESS, _MORE, bounds, node_limits)
    return Alike(order, nodes[:made].copy(), roots, bounds, limits, node_limits, same)


@jit
def _grow(hardware: Any, limits: Any, order: Any, spans: Any, nodes: Any, less: Any) -> int:
    """Divide the designs of every span in two by the column (of `less`) in which they differ most, and so on; sorts
    `order`, fills in `nodes` and returns how many they are."""
    made, node = len(spans), 0
    nodes[:made, NODE_FIRST], nodes[:made, NODE_STOP] = spans[:, 0], spans[:, 1]
    while node < made:
        first, stop = nodes[node, NODE_FIRST], nodes[node, NODE_STOP]
        if stop - first > LEAF:
            mine = order[first:stop].copy()
            values = _most_different(hardware, limits, mine, less)
            rank = np.argsort(values, kind="mergesort")
            order[first:stop] = mine[rank]
            middle = first + _between(values[rank], len(mine) // 2)
            nodes[node, LEFT], nodes[node, RIGHT] = made, made + 1
            nodes[made, NODE_FIRST], nodes[made, NODE_STOP] = first, middle
            nodes[made + 1, NODE_FIRST], nodes[made + 1, NODE_STOP] = middle, stop
            made += 2
        node += 1
    return made


@jit
def _most_different(hardware: Any, limits: Any, designs: Any, less: Any) -> Any:
    """What of some designs differs by the largest factor: the scratchpad's limits or a column of the hardware."""
    most, found, values = 0.0, limits[designs[0], 0, 0] * np.zeros(len(designs)), np.empty(len(designs))
    for column in range(-1, len(less)):
        low, high = np.inf, 0.0
        for place in range(len(designs)):
            design = designs[place]
            values[place] = limits[design, 0, 0] if column < 0 else hardware[design, 0, less[column]]
            low, high = min(low, values[place]), max(high, values[place])
        if low > 0.0 and high > most * low:
            most, found[:] = high / low, values
    return found


@jit
def _between(values: Any, middle: int) -> int:
    """The place nearest to the middle of sorted values where they change; the middle itself where they never do."""
    for away in range(middle):
        for place in (middle - away, middle + away):
            if 0 < place < len(values) and values[place] != values[place - 1]:
                return place
    return middle


@jit
def _bound(
    hardware: Any, limits: Any, order: Any, nodes: Any, less: Any, more: Any, bounds: Any, node_limits: Any
) -> None:
    """The best and the worst of every column of every node."""
    for node in range(len(nodes)):
        for place in range(nodes[node, NODE_FIRST], nodes[node, NODE_STOP]):
            design = order[place]
            row, new = hardware[design, 0], place == nodes[node, NODE_FIRST]
            if new:
                bounds[node, BEST], bounds[node, WORST] = row, row
                node_limits[node, BEST], node_limits[node, WORST] = limits[design, 0], limits[design, 0]
                continue
            for column in less:
                bounds[node, BEST, column] = min(bounds[node, BEST, column], row[column])
                bounds[node, WORST, column] = max(bounds[node, WORST, column], row[column])
            for column in more:
                bounds[node, BEST, column] = max(bounds[node, BEST, column], row[column])
                bounds[node, WORST, column] = min(bounds[node, WORST, column], row[column])
            for share in range(2):
                node_limits[node, BEST, share] = max(node_limits[node, BEST, share], limits[design, 0, share])
                node_limits[node, WORST, share] = min(node_limits[node, WORST, share], limits[design, 0, share])
