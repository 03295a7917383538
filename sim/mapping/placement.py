"""Which core of an operator works on which part of it.

A memory port feeds a column of a mesh through one link after another, and what several cores load together goes along
the ports' row first. Cores that share much had better lie behind one port. The order of the cores in the grid of a
tiling is free, and the closed form takes links to be no limit; so where the busiest link would take longer than the
whole operator is estimated to, other orders are tried.
"""

from __future__ import annotations

import itertools
import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from sim.graph.nest import Nest
from sim.graph.tensor import DTYPE_BITS
from sim.hw.noc import Interconnect, build_network
from sim.mapping.search import Tiling

Float64 = npt.NDArray[np.float64]

WORTH = 0.99
"""An order is taken for what it saves of the busiest link's time, not for less than a hundredth."""


def placed(nest: Nest, tiling: Tiling, cores: tuple[int, ...], net: Interconnect) -> tuple[int, ...]:
    """The cores of a tiling in the order of its grid.

    They come in the order given, unless the busiest link then takes longer than `latency_s` to load every operand once
    and another order has it take less. Cores that share sums stay neighbours.
    """
    used = cores[: tiling.cores]
    split = [dim for dim, parts in enumerate(tiling.splits) if parts > 1]
    free = tiling.deal is None and tiling.rows is None and not any(dim in nest.role("k") for dim in split)
    if net.topology == "crossbar" or len(split) < 2 or not free:
        return used
    shape = tuple(tiling.splits[dim] for dim in split)
    loaded: list[tuple[float, tuple[int, ...]]] = []
    for operand in nest.operands:
        own = tuple(axis for axis, dim in enumerate(split) if dim in operand.dims)
        parts = math.prod(shape[axis] for axis in own)
        loaded.append((operand.tensor.elements * DTYPE_BITS[operand.tensor.dtype] / 8 / parts, own))

    def busiest_s(order: tuple[int, ...]) -> float:
        loads = [part * groups_per_link(net, order, shape, own) for part, own in loaded]
        return float(np.sum(loads, axis=0).max())

    best, least_s = used, busiest_s(used)
    if least_s > tiling.latency_s:
        for order in orders(net, used, shape):
            order_s = busiest_s(order)
            if order_s < WORTH * least_s:
                best, least_s = order, order_s
    return best


@lru_cache(maxsize=1 << 12)
def orders(net: Interconnect, cores: tuple[int, ...], shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """The cores as they come and along the other axis of the network, in the order of the grid and with its axes
    permuted: in the second order of a grid of 2 x 3 cores 0 to 5 are 0, 2, 4; 1, 3, 5."""
    across = tuple(sorted(cores, key=lambda core: net.coordinate(core)[::-1]))
    grid = np.arange(math.prod(shape)).reshape(shape)
    found = []
    for numbers, axes in itertools.product((cores, across), itertools.permutations(range(len(shape)))):
        order = np.empty(grid.size, np.int64)
        order[np.transpose(grid, axes).reshape(-1)] = numbers
        found.append(tuple(order.tolist()))
    return tuple(dict.fromkeys(found))


@lru_cache(maxsize=1 << 12)
def groups_per_link(
    net: Interconnect, cores: tuple[int, ...], shape: tuple[int, ...], own: tuple[int, ...]
) -> Float64:
    """[links]: how many groups of cores load over each link, over its capacity. Those whose places in the grid `shape`
    differ on the axes `own` load parts of their own; the others share one, by a multicast from the first one's port."""
    network = build_network(net)
    others = tuple(axis for axis in range(len(shape)) if axis not in own)
    grid = np.transpose(np.array(cores).reshape(shape), (*own, *others))
    found = np.zeros(len(network.links))
    for group in grid.reshape(math.prod(shape[axis] for axis in own), -1).tolist():
        end, port = network.port_ends[network.nearest_port(group[0])]
        found[[port, *network.multicast_tree(end, group)]] += 1
    return np.asarray(found / np.array(network.capacity_bytes_per_s), np.float64)
