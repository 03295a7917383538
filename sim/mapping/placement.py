"""Which core of an operator works on which part of it.

A memory port feeds a column of a mesh through one link after another, and what several cores load together goes along
the ports' row first. Cores that share much had better lie behind one port. The order of the cores in the grid of a
tiling is free, and the closed form counts on the best of a few (sim/cost/wires.py); it is taken where with the cores as
they come the busiest link would take longer than the whole operator is estimated to.
"""

from __future__ import annotations

import math

import numpy as np

from sim.cost.wires import GIVEN, LINK, PORT, placed_order, wiring_of
from sim.graph.nest import Nest
from sim.graph.tensor import DTYPE_BITS
from sim.hw.noc import Interconnect
from sim.mapping.search import Tiling


def placed(nest: Nest, tiling: Tiling, cores: tuple[int, ...], net: Interconnect) -> tuple[int, ...]:
    """The cores of a tiling in the order of its grid.

    They come in the order given, unless the busiest link then takes longer than `latency_s` to move what the tiling
    does and another order has it take less. Cores that share sums stay neighbours.
    """
    used = cores[: tiling.cores]
    split = [dim for dim, parts in enumerate(tiling.splits) if parts > 1]
    free = tiling.deal is None and tiling.rows is None and not any(dim in nest.role("k") for dim in split)
    if net.topology == "crossbar" or len(split) != 2 or not free:
        return used
    if tiling.dram_bytes / min(net.link_bandwidth_bytes_per_s, net.port_bandwidth_bytes_per_s) <= tiling.latency_s:
        return used  # no link carries more
    from sim.cost.compiled import tables_of

    counted, orders = wiring_of(net, cores).counted(tables_of(nest), 0, np.array([tiling.splits], np.int64))
    operands = (*nest.operands, nest.out)
    groups = [math.prod(tiling.splits[dim] for dim in operand.dims) for operand in operands]
    whole = [operand.elements * DTYPE_BITS[operand.tensor.dtype] / 8 for operand in operands]
    once = [size / count for size, count in zip(whole, groups, strict=True)]
    # As often as all of them on average.
    moved = [part * tiling.dram_bytes / sum(whole) for part in once]
    port, link = (float(np.dot(moved, counted[0, GIVEN, :, which])) for which in (PORT, LINK))
    given_s = max(port / net.port_bandwidth_bytes_per_s, link / net.link_bandwidth_bytes_per_s)
    if given_s <= tiling.latency_s:
        return used
    return placed_order(used, net, (tiling.splits[split[0]], tiling.splits[split[1]]), int(orders[0]))
