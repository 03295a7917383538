"""The ways that transfers take through a chip: which links they cross and how long their heads travel.

A way and the weight of the DRAM, which depends on what is moved, make a route of a program (sim/mapping/fabric.py).
Chips that differ in speeds and sizes have the same ways: they are worked out once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from sim.hw.chip import Chip
from sim.hw.links import exchanged_share
from sim.hw.noc import Network
from sim.mapping.memo import Recent
from sim.program import MAX_ROUTE_WEIGHT, PAYLOAD_WEIGHT, Int32, Int64

Level = Literal["dram", "cache", "fill"]
"""Where the bytes of a transfer lie: in DRAM, in the cache, or in DRAM and on their way through the cache."""

WEIGHT_BITS = MAX_ROUTE_WEIGHT.bit_length()
"""Bits of a route's number (`Ways.route`) that have the weight of the DRAM."""


class Course(NamedTuple):
    """Links in order, the hops they count as, and their weights: 0 for the DRAM's, which depends on what is moved."""

    links: tuple[int, ...]
    weights: tuple[int, ...]
    hops: int


@dataclass(eq=False)
class Ways:
    """The ways of all chips with the wiring of `chip`, numbered as they are asked for.

    `latency_ps` (set-up, hops, far end) and `route` of every way: number of its course << WEIGHT_BITS; `weighted` says
    whether the DRAM's weight is to be added to that. `courses` are distinct in links and weights.
    """

    chip: Chip
    network: Network = field(init=False)
    dma_links: dict[tuple[int, int], int] = field(init=False)
    latency_ps: list[int] = field(default_factory=list)
    route: list[int] = field(default_factory=list)
    weighted: list[bool] = field(default_factory=list)
    courses: list[Course] = field(default_factory=list)
    _numbers: dict[tuple[object, ...], int] = field(default_factory=dict)
    _course_numbers: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = field(default_factory=dict)
    _tables: dict[tuple[object, ...], Int64] = field(default_factory=dict)
    _columns: tuple[Int64, Int64, npt.NDArray[np.bool_]] | None = None

    def __post_init__(self) -> None:
        self.network = self.chip.network()
        first, self.dma_links = len(self.network.links), {}
        for core in range(self.chip.core_count):
            for channel in range(self.chip.kind_of_core(core).dma.channels):
                self.dma_links[core, channel] = first + len(self.dma_links)

    def number(self, *asked: Any) -> int:
        """The way that the method named by the first item gives for the others."""
        found = self._numbers.get(asked)
        if found is None:
            ways: Mapping[str, Callable[..., int]] = {
                "load": self._load, "store": self._store, "multicast": self._multicast, "send": self._send,
                "write_back": self._write_back, "exchange": self._exchange, "host": self._host,
                "host_core": self._host_core,
            }  # fmt: skip
            found = self._numbers[asked] = ways[asked[0]](*asked[1:])
        return found

    def table(self, way: str, ends: Int64, channels: int, level: Level, chips: int = 1) -> Int64:
        """Ways [ends, channels] of the transfers of cores `ends` [ends, 1] or groups of cores [ends, sharers]."""
        key = way, level, channels, chips, ends.shape, ends.tobytes()
        found = self._tables.get(key)
        if found is None:
            asked: Sequence[object] = ends[:, 0].tolist()
            if way == "multicast":
                asked = list(map(tuple, ends.tolist()))
            elif way == "exchange":
                asked = [(core, chips) for core in ends[:, 0].tolist()]
            rows = [[self.number(way, end, channel, level) for channel in range(channels)] for end in asked]
            found = self._tables[key] = np.array(rows, np.int64)
        return found

    @property
    def columns(self) -> tuple[Int64, Int64, npt.NDArray[np.bool_]]:
        """(`latency_ps`, `route`, `weighted`) of all ways so far, as compiled code reads them."""
        if self._columns is None or len(self._columns[0]) < len(self.latency_ps):
            latency, route = (np.array(values, np.int64) for values in (self.latency_ps, self.route))
            self._columns = latency, route, np.array(self.weighted, np.bool_)
        return self._columns

    def course_tables(self) -> tuple[Int64, Int32, Int32, Int32]:
        """(pointers, links, weights, hops) of all courses so far, as compressed rows."""
        first = np.cumsum([0, *(len(course.links) for course in self.courses)])
        links = np.array([link for course in self.courses for link in course.links], np.int32)
        weights = np.array([weight for course in self.courses for weight in course.weights], np.int32)
        return first, links, weights, np.array([course.hops for course in self.courses], np.int32)

    def _load(self, core: int, channel: int, level: Level) -> int:
        """Memory to a core's scratchpad through its nearest memory port."""
        route = self.network.memory_read_route(self._node(core))
        links = (*self._memory(level), *route.links, self.dma_links[core, channel])
        return self._add(links, route.crossed, self._setup(core) + self._access_ps(level), route.hops)

    def _store(self, core: int, channel: int, level: Level) -> int:
        """A core's scratchpad to memory. Writes are posted: they do not wait for the device."""
        route = self.network.memory_write_route(self._node(core))
        links = (*self._memory(level), self.dma_links[core, channel], *route.links)
        return self._add(links, route.crossed, self._setup(core), route.hops)

    def _exchange(self, end: tuple[int, int], channel: int, level: Level) -> int:
        """A load by a core that exchanges what it loads with other chips; `end` is the core and how many chips there
        are. The links join where the memory does.

        Per byte, f = 2 (n - 1)/n go to other chips and as many come from them. The links work in both directions at
        once, and so does the interconnect, which brings the core its own byte too; the DMA channel has one bandwidth
        for both. The latency is that of a load: the first of all waits for the others besides (sim.hw.links).
        """
        core, chips = end
        route = self.network.memory_read_route(self._node(core))
        share = round(PAYLOAD_WEIGHT * exchanged_share(chips))
        dma, exchange, (port, *inner) = self.dma_links[core, channel], self._end("chip_links"), route.links
        heavier = {exchange: share, dma: PAYLOAD_WEIGHT + 2 * share}
        heavier |= dict.fromkeys(inner, PAYLOAD_WEIGHT + share)
        links = (*self._memory(level), port, *inner, dma, exchange)
        return self._add(links, route.crossed, self._setup(core) + self._access_ps(level), route.hops, heavier=heavier)

    def _write_back(self) -> int:
        """Between the cache and the DRAM behind it: lines evicted, and the rest of lines filled for a part."""
        return self._add(self._memory("fill"), 0, 0)

    def multicast_port(self, cores: Sequence[int]) -> int:
        """Memory port that serves a group of cores: the nearest of its first."""
        return self.network.nearest_port(self._node(cores[0]))

    def _multicast(self, cores: tuple[int, ...], channel: int, level: Level) -> int:
        """Memory to several scratchpads: read once, every link of the tree crossed once."""
        start, link = self.network.port_ends[self.multicast_port(cores)]
        nodes = [self._node(core) for core in cores]
        tree = self.network.multicast_tree(start, nodes)
        receivers = tuple(
            self.dma_links[core, channel % self.chip.kind_of_core(core).dma.channels] for core in cores
        )
        links = (*self._memory(level), link, *tree, *receivers)
        crossed = 1 if self.chip.interconnect.topology == "crossbar" else len(tree)
        farthest = max(self.network.route(start, node).hops for node in nodes)
        return self._add(links, crossed, self._setup(cores[0]) + self._access_ps(level), farthest)

    def _send(self, source: int, destination: int, channel: int) -> int:
        """Scratchpad to scratchpad over the interconnect."""
        route = self.network.route(self._node(source), self._node(destination))
        channels = self.chip.kind_of_core(destination).dma.channels
        ends = self.dma_links[source, channel], self.dma_links[destination, channel % channels]
        return self._add((ends[0], *route.links, ends[1]), route.hops, self._setup(source))

    def _host(self, inward: bool, level: Level) -> int:
        """Host to memory or back, through the host's node and its nearest memory port."""
        assert self.chip.host is not None
        node = self.chip.interconnect.host_port
        route = self.network.memory_write_route(node) if inward else self.network.memory_read_route(node)
        links = (*self._memory(level), self._end("host"), *route.links)
        return self._add(links, route.crossed, self.chip.host.latency_ps, route.hops)

    def _host_core(self, core: int, inward: bool) -> int:
        """Host to a core's scratchpad or back, by its last DMA channel."""
        assert self.chip.host is not None
        ends = self.chip.interconnect.host_port, self._node(core)
        route = self.network.route(*(ends if inward else ends[::-1]))
        channel = self.dma_links[core, self.chip.kind_of_core(core).dma.channels - 1]
        links = (self._end("host"), *route.links, channel)
        return self._add(links, route.crossed, self.chip.host.latency_ps, route.hops)

    def _node(self, core: int) -> int:
        return self.chip.core_nodes[core]

    def _end(self, name: str) -> int:
        return self.network.link_id(name)

    def _memory(self, level: Level) -> tuple[int, ...]:
        """Links of the memory side of a route; the DRAM's, which has the weight, is the first."""
        names = {"dram": ("dram",), "cache": ("cache",), "fill": ("dram", "cache")}[level]
        return tuple(self._end(name) for name in names)

    def _access_ps(self, level: Level) -> int:
        """Latency of a read: of the cache, of the DRAM, or of both where the cache was looked into first."""
        cache_ps = self.chip.cache.latency_ps if self.chip.cache is not None and level != "dram" else 0
        return cache_ps + (0 if level == "cache" else self.chip.dram.latency_ps)

    def _setup(self, core: int) -> int:
        return self.chip.kind_of_core(core).dma.setup_latency_ps

    def _add(
        self,
        links: tuple[int, ...],
        hops: int,
        latency_ps: int,
        latency_hops: int | None = None,
        *,
        heavier: Mapping[int, int] | None = None,
    ) -> int:
        """The first link carries the DRAM's weight if it is the DRAM's, all others plain payload or what `heavier`
        says."""
        weighted = links[0] == self._end("dram")
        others = {} if heavier is None else heavier
        first = 0 if weighted else PAYLOAD_WEIGHT
        weights = (first, *(others.get(link, PAYLOAD_WEIGHT) for link in links[1:]))
        course = self._course_numbers.setdefault((links, weights), len(self.courses))
        if course == len(self.courses):
            self.courses.append(Course(links, weights, hops))
        travelled = hops if latency_hops is None else latency_hops
        self.latency_ps.append(max(1, latency_ps + travelled * self.chip.interconnect.hop_latency_ps))
        self.route.append(course << WEIGHT_BITS)
        self.weighted.append(weighted)
        return len(self.route) - 1


WAYS: Recent[object, Ways] = Recent(32)
"""Ways of this process, by everything they depend on."""


def ways_of(chip: Chip) -> Ways:
    """The ways of a chip; the same object for chips of the same wiring and latencies."""
    net, links = chip.interconnect, chip.network().links
    cores = tuple((kind.count, kind.dma.channels, kind.dma.setup_latency_ps) for kind in chip.cores)
    wiring = links, net.topology, net.shape, net.memory_ports, net.host_port, chip.core_nodes, cores
    cache_ps = None if chip.cache is None else chip.cache.latency_ps
    host_ps = None if chip.host is None else chip.host.latency_ps
    key = wiring, net.hop_latency_ps, chip.dram.latency_ps, cache_ps, host_ps
    found = WAYS.get(key)
    if found is None:
        found = WAYS[key] = Ways(chip)
    return found
