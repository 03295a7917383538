"""The busiest memory port and the busiest on-chip link of a split of an operator over cores.

What a group of cores loads together crosses its memory port once and each link of the tree to its cores once; what the
owner of a result stores goes the way back. So of a split it is counted once how many groups of cores load each operand
over the links that all operands together, loaded once, keep busiest. Seconds are these counts times the bytes that a
tiling moves, over the bandwidth: never more than the busiest link takes, as another one may be busier where operands
are loaded again and again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sim.hw.noc import Interconnect, build_network

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

PORT, LINK = range(2)
"""Of every operand: groups of cores that load it through the busiest memory port, and over the busiest link."""

GIVEN, PLACED = range(2)
"""The cores in the order of a split's grid as they come, and in the best of the orders tried."""

WORTH = 0.99
"""Another order is taken for what it saves of the busiest link's time, not for less than a hundredth."""

CROSSBAR, MESH, ROUND = range(3)
"""Topologies: links to and from one switch; a grid with borders; one without (a ring is a row of it)."""

MOST_WIRINGS, MOST_SPLITS = 64, 1024
"""Kept in memory, and of each: some KB a piece. The oldest go first."""


class Wires(NamedTuple):
    """An interconnect as compiled code walks it: topology and shape; node of every memory port, nearest port of every
    node; nodes of the cores, and the places of the cores ordered along the other axis; seconds of a byte on a port
    where one on a link takes a second."""

    topology: int
    rows: int
    cols: int
    port_node: Any
    port_of: Any
    cores: Any
    across: Any
    port_s: float


@dataclass(frozen=True, eq=False)
class Wiring:
    """Cores on an interconnect, whatever its speed; compared by identity, `wiring_of` makes one of equal ones. `known`
    are the counts of splits by the identity of what stands beside them, which it keeps alive."""

    wires: Wires
    known: dict[int, tuple[object, Float64]] = field(default_factory=dict)

    def counts(self, t: Any, nest: int, splits: Int64, owner: object) -> Float64:
        """`count_groups` of the splits of one nest, made once for an `owner`."""
        found = self.known.get(id(owner))
        if found is None:
            if len(self.known) >= MOST_SPLITS:
                self.known.pop(next(iter(self.known)), None)
            found = self.known[id(owner)] = owner, self.counted(t, nest, splits)[0]
        return found[1]

    def counted(self, t: Any, nest: int, splits: Int64) -> tuple[Float64, Int64]:
        """[splits, GIVEN or PLACED, operands, PORT or LINK] of a nest, and the orders that PLACED is [splits]: see
        `count_groups`."""
        from sim.cost.wire_counts import count_groups

        counts, orders = np.zeros((len(splits), 2, t.operands.shape[1], 2)), np.zeros(len(splits), np.int64)
        count_groups(self.wires, t, nest, splits, counts, orders)
        return counts, orders


_WIRINGS: dict[object, Wiring] = {}


def wiring_of(net: Interconnect, cores: tuple[int, ...]) -> Wiring:
    """Cores, by the numbers of their nodes, on an interconnect."""
    port_s = net.link_bandwidth_bytes_per_s / net.port_bandwidth_bytes_per_s
    key = net.topology, net.shape, net.memory_ports, port_s, cores
    found = _WIRINGS.get(key)
    if found is None:
        if len(_WIRINGS) >= MOST_WIRINGS:
            _WIRINGS.pop(next(iter(_WIRINGS)), None)
        topology = {"crossbar": CROSSBAR, "mesh": MESH}.get(net.topology, ROUND)
        rows, cols = (1, *net.shape)[-2:]
        across = sorted(range(len(cores)), key=lambda place: net.coordinate(cores[place])[::-1])
        of_node, nodes, places = (np.array(v, np.int64) for v in (build_network(net).ports, cores, across))
        ports = np.array(net.memory_ports, np.int64)
        found = _WIRINGS[key] = Wiring(Wires(topology, rows, cols, ports, of_node, nodes, places, port_s))
    return found


def placed_order(cores: tuple[int, ...], net: Interconnect, grid: tuple[int, int], order: int) -> tuple[int, ...]:
    """Cores in one of four orders, as `count_groups` numbers them: as they come or along the other axis of the network
    (from 2 on), in the order of the grid or along its other axis (odd numbers). In the second order of a grid of 2 x 3
    cores 0 to 5 are 0, 2, 4; 1, 3, 5."""
    line = sorted(cores, key=lambda core: net.coordinate(core)[::-1]) if order >= 2 else list(cores)
    if order % 2 == 0:
        return tuple(line)
    first, last = grid
    return tuple(line[place % last * first + place // last] for place in range(first * last))


def may_limit(net: Interconnect, memory_bytes_per_s: float) -> bool:
    """May links or ports be slower than the memory? No link carries anything twice, so others never are."""
    return min(net.link_bandwidth_bytes_per_s, net.port_bandwidth_bytes_per_s) < memory_bytes_per_s
