"""Interconnect on the chip: crossbar, ring, mesh or torus, as links that flows share.

Nodes are numbered row-major over `shape`. Routes are dimension-ordered, last coordinate first (XY); a ring or
torus goes the shorter way round, and the way of rising coordinates when both are equal.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise, product
from typing import Annotated, Literal

from pydantic import BeforeValidator

from sim.config import Field, Part, Unit
from sim.errors import FieldError, InputError, KeyPath
from sim.units import FASTEST_LINK, SLOWEST_LINK

MAX_NODES = 4096
Coordinate = tuple[int, ...]


def _as_coordinate(value: object) -> object:
    """A ring or crossbar node may be written as 3 instead of [3]."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value,)
    return tuple(value) if isinstance(value, list) else value


CoordinateInput = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...],
    BeforeValidator(_as_coordinate, json_schema_input_type=int | list[int]),
]


@dataclass(frozen=True, slots=True)
class Interconnect(Part):
    """The network that joins the cores, the memory ports and the host. Raises FieldError on ports that repeat
    or lie outside, or a shape that does not suit the topology."""

    topology: Annotated[
        Literal["crossbar", "ring", "mesh", "torus"], Field(description="how nodes are joined")
    ]
    shape: Annotated[
        tuple[Annotated[int, Field(ge=1)], ...],
        Field(min_length=1, max_length=2, description="[rows, cols] of a mesh or torus, [nodes] of others"),
    ]
    link_bandwidth_bytes_per_s: Annotated[
        int,
        Unit("bandwidth"),
        Field(alias="link_bandwidth", ge=SLOWEST_LINK, le=FASTEST_LINK,
              description="of one link, one direction")
    ]
    hop_latency_ps: Annotated[
        int, Unit("time_ps"), Field(alias="hop_latency", ge=0, description="of one router and link")
    ]
    memory_port_coordinates: Annotated[
        tuple[CoordinateInput, ...] | None,
        Field(
            alias="memory_ports",
            min_length=1,
            description="nodes where memory joins; default: first row of a mesh or torus, else every node",
        ),
    ] = None
    memory_port_bandwidth_bytes_per_s: Annotated[
        int | None,
        Unit("bandwidth"),
        Field(alias="memory_port_bandwidth", ge=SLOWEST_LINK, le=FASTEST_LINK,
              description="of one port; default: link_bandwidth"),
    ] = None
    host_port_coordinate: Annotated[
        CoordinateInput | None,
        Field(alias="host_port", description="where the host joins; default: first node"),
    ] = None

    def __post_init__(self) -> None:
        complaints: list[tuple[KeyPath, str]] = []
        wanted = 2 if self.topology in ("mesh", "torus") else 1
        if len(self.shape) != wanted:
            kind = "[rows, cols]" if wanted == 2 else "[nodes]"
            message = f"found {list(self.shape)}; a {self.topology} has the shape {kind}"
            complaints.append((("shape",), message))
        elif self.node_count > MAX_NODES:
            complaints.append((("shape",), f"{self.node_count} nodes; at most {MAX_NODES} are allowed"))
        else:
            complaints += self._port_complaints()
        if complaints:
            raise FieldError(complaints)

    def _port_complaints(self) -> Iterator[tuple[KeyPath, str]]:
        seen: set[Coordinate] = set()
        for i, port in enumerate(self.memory_port_coordinates or ()):
            if not self._inside(port):
                yield ("memory_ports", i), f"found {list(port)}; outside the shape {list(self.shape)}"
            elif port in seen:
                yield ("memory_ports", i), f"found {list(port)} a second time"
            seen.add(port)
        if self.host_port_coordinate is not None and not self._inside(self.host_port_coordinate):
            found = list(self.host_port_coordinate)
            yield ("host_port",), f"found {found}; outside the shape {list(self.shape)}"

    def _inside(self, at: Coordinate) -> bool:
        return len(at) == len(self.shape) and all(0 <= x < n for x, n in zip(at, self.shape, strict=True))

    @property
    def node_count(self) -> int:
        """Number of nodes."""
        return math.prod(self.shape)

    @property
    def memory_ports(self) -> tuple[int, ...]:
        """Nodes of the memory ports. Default: the first row of a mesh or torus, every node of the others."""
        if self.memory_port_coordinates is None:
            return tuple(range(self.shape[-1]))
        return tuple(self.node_id(port) for port in self.memory_port_coordinates)

    @property
    def host_port(self) -> int:
        """Node id where the host joins."""
        return 0 if self.host_port_coordinate is None else self.node_id(self.host_port_coordinate)

    @property
    def port_bandwidth_bytes_per_s(self) -> int:
        """Bandwidth of one memory port."""
        return self.memory_port_bandwidth_bytes_per_s or self.link_bandwidth_bytes_per_s

    def node_id(self, at: Coordinate) -> int:
        """Row-major number of a coordinate."""
        return at[0] if len(at) == 1 else at[0] * self.shape[1] + at[1]

    def coordinate(self, node: int) -> Coordinate:
        """Coordinate of a node number."""
        return (node,) if len(self.shape) == 1 else divmod(node, self.shape[1])


@dataclass(frozen=True, slots=True)
class Route:
    """The links that a message crosses, in order, and the hops it pays latency and energy for. Memory lies behind a
    crossbar, not at its nodes: bytes cross it even where a port has no latency of its own."""

    links: tuple[int, ...]
    hops: int
    crossed: int


@dataclass(frozen=True, slots=True)
class Network:
    """The interconnect as numbered links with capacities. Shared ends (DRAM, cache, host) are links too."""

    interconnect: Interconnect
    links: tuple[str, ...]
    capacity_bytes_per_s: tuple[int, ...]
    ids: dict[str, int] = field(repr=False, hash=False, compare=False)
    ports: tuple[int, ...] = field(repr=False)  # memory port (index into memory_ports) of each node
    port_ends: tuple[tuple[int, int], ...] = field(repr=False)  # node and link of each memory port
    _routes: dict[tuple[int, int], Route] = field(default_factory=dict, repr=False, hash=False, compare=False)

    def link_id(self, name: str) -> int:
        """Number of a link. Raises InputError on an unknown name."""
        if name not in self.ids:
            raise InputError(f"the chip has no link '{name}'")
        return self.ids[name]

    def route(self, source: int, destination: int) -> Route:
        """From node to node; no links and no hops within a node. A crossbar is one hop over two links."""
        found = self._routes.get((source, destination))
        if found is None:
            found = self._routes[source, destination] = self._walked(source, destination)
        return found

    def _walked(self, source: int, destination: int) -> Route:
        if source == destination:
            return Route((), 0, 0)
        net = self.interconnect
        if net.topology == "crossbar":
            names = (_name("inject", net, source), _name("eject", net, destination))
            return Route(tuple(self.ids[name] for name in names), 1, 1)
        path = list(_walk(net, source, destination))
        links = tuple(self.ids[_link_name(net, a, b)] for a, b in pairwise(path))
        return Route(links, len(links), len(links))

    def multicast_tree(self, source: int, destinations: Iterable[int]) -> tuple[int, ...]:
        """Links of the union of the routes to all destinations, ascending: each is crossed once."""
        return tuple(sorted({link for node in destinations for link in self.route(source, node).links}))

    def nearest_port(self, node: int) -> int:
        """Memory port (index into `memory_ports`) with the fewest hops; ties are spread evenly over ports."""
        return self.ports[node]

    def memory_read_route(self, node: int, port: int | None = None) -> Route:
        """From a memory port (default: the nearest) to a node: the port's link, then the network."""
        port = self.nearest_port(node) if port is None else port
        end, link = self.port_ends[port]
        inner = self.route(end, node)
        return Route((link, *inner.links), inner.hops, self._crossed(inner))

    def memory_write_route(self, node: int, port: int | None = None) -> Route:
        """From a node to a memory port (default: the nearest): the network, then the port's link."""
        port = self.nearest_port(node) if port is None else port
        end, link = self.port_ends[port]
        inner = self.route(node, end)
        return Route((*inner.links, link), inner.hops, self._crossed(inner))

    def _crossed(self, inner: Route) -> int:
        """Hops that bytes between memory and a node are charged for, the way from the port being `inner`."""
        net = self.interconnect
        return max(inner.hops, int(net.topology == "crossbar" and net.node_count > 1))


@lru_cache(maxsize=256)
def build_network(interconnect: Interconnect, shared_ends: tuple[tuple[str, int], ...] = ()) -> Network:
    """Number the links: the network's, the memory ports, then `shared_ends` (name, bytes per second)."""
    named = dict.fromkeys(_link_names(interconnect), interconnect.link_bandwidth_bytes_per_s)
    for node in interconnect.memory_ports:
        named[_name("port", interconnect, node)] = interconnect.port_bandwidth_bytes_per_s
    named |= dict(shared_ends)
    ids = {name: i for i, name in enumerate(named)}
    ends = tuple((node, ids[_name("port", interconnect, node)]) for node in interconnect.memory_ports)
    return Network(interconnect, tuple(named), tuple(named.values()), ids, _nearest_ports(interconnect), ends)


def hop_count(interconnect: Interconnect, source: int, destination: int) -> int:
    """Hops between two nodes: Manhattan distance, the shorter way round where there is one."""
    if interconnect.topology == "crossbar":
        return int(source != destination)
    a, b = interconnect.coordinate(source), interconnect.coordinate(destination)
    steps = (_steps(x, y, n, interconnect.topology) for x, y, n in zip(a, b, interconnect.shape, strict=True))
    return sum(map(abs, steps))


def _nearest_ports(net: Interconnect) -> tuple[int, ...]:
    """Node by node: of the ports with fewest hops the one given out least so far, then the first."""
    given = [0] * len(net.memory_ports)
    chosen = []
    for node in range(net.node_count):
        hops = [hop_count(net, node, port) for port in net.memory_ports]
        best = min(range(len(hops)), key=lambda i: (hops[i], given[i], i))
        given[best] += 1
        chosen.append(best)
    return tuple(chosen)


def _link_names(net: Interconnect) -> Iterator[str]:
    if net.topology == "crossbar":
        for node in range(net.node_count):
            yield _name("inject", net, node)
            yield _name("eject", net, node)
        return
    for at in product(*map(range, net.shape)):
        for axis, size in enumerate(net.shape):
            for step in (1, -1):
                to = at[axis] + step
                if net.topology != "mesh":
                    to %= size
                if 0 <= to < size and to != at[axis]:
                    neighbour = (*at[:axis], to, *at[axis + 1 :])
                    yield _link_name(net, net.node_id(at), net.node_id(neighbour))


def _walk(net: Interconnect, source: int, destination: int) -> Iterator[int]:
    """Nodes of the dimension-ordered route, last axis first, both ends included."""
    at, goal = list(net.coordinate(source)), net.coordinate(destination)
    yield source
    for axis in reversed(range(len(at))):
        size = net.shape[axis]
        steps = _steps(at[axis], goal[axis], size, net.topology)
        for _ in range(abs(steps)):
            at[axis] = (at[axis] + (1 if steps > 0 else -1)) % size
            yield net.node_id(tuple(at))


def _steps(start: int, goal: int, size: int, topology: str) -> int:
    """Signed steps along one axis."""
    if topology == "mesh":
        return goal - start
    forward = (goal - start) % size
    return forward if 2 * forward <= size else forward - size


def _name(kind: str, net: Interconnect, node: int) -> str:
    return f"{kind}[{','.join(map(str, net.coordinate(node)))}]"


def _link_name(net: Interconnect, source: int, destination: int) -> str:
    ends = (",".join(map(str, net.coordinate(node))) for node in (source, destination))
    return f"link[{'->'.join(ends)}]"
