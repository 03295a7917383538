"""The chip as queues, links and routes: the hardware tables of a program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from sim.cost.estimate import Site
from sim.hw.chip import Chip
from sim.hw.core import CoreKind
from sim.hw.links import exchanged_share
from sim.hw.noc import Network
from sim.mapping.memo import Hashed
from sim.program import PAYLOAD_WEIGHT, Int32, Link, Queue, link_capacity

LINK_KINDS = ("dram", "host", "cache", "port", "chip_links")

Level = Literal["dram", "cache", "fill"]
"""Where the bytes of a transfer lie: in DRAM, in the cache, or in DRAM and on their way through the cache."""


@dataclass(frozen=True, slots=True)
class Path:
    """A route's row in the program and its head latency in ticks (set-up, hops, far end)."""

    row: int
    latency_ps: int


@dataclass
class Fabric:
    """Builds the queue and link tables of a chip and, on demand, its routes (each distinct one once).

    A DMA channel has one link, shared by its load, store and send queues. Multicasts are issued by the memory
    port they start from. `sites` are groups of cores as the estimate sees them (plan.site_of); `key` is the chip where
    keys are looked up, `queueing` what decides which queue a task is in.
    """

    chip: Chip
    network: Network = field(init=False)
    queues: list[Queue] = field(init=False)
    links: list[Link] = field(init=False)
    sites: dict[tuple[int, tuple[int, ...]], Hashed[Site]] = field(init=False)
    key: Hashed[Chip] = field(init=False)
    queueing: Hashed[tuple[object, ...]] = field(init=False)
    _queue_ids: dict[tuple[str, int, int], int] = field(init=False)
    _dma_links: dict[tuple[int, int], int] = field(init=False)
    _rows: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = field(init=False)
    _hops: list[int] = field(init=False)
    _paths: dict[tuple[object, ...], Path] = field(init=False)
    _ends: dict[Level, tuple[int, ...]] = field(init=False)
    _nodes: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.network, self._nodes = self.chip.network(), self.chip.core_nodes
        self._rows, self._hops, self._paths, self._ends = {}, [], {}, {}
        self.sites, self.key = {}, Hashed(self.chip)
        self.links = [
            Link(name, _link_kind(name), link_capacity(bandwidth))
            for name, bandwidth in zip(self.network.links, self.network.capacity_bytes_per_s, strict=True)
        ]
        self._dma_links = {}
        self.queues, self._queue_ids = [], {}
        for core in range(self.chip.core_count):
            self._add_core(core, self.chip.kind_of_core(core))
        dma = self.chip.cores[0].dma
        for port in range(len(self.chip.interconnect.memory_ports)):
            self._add_queue("port", port, 0, f"port{port}.multicast", -1, dma.outstanding * dma.channels)
        if self.chip.host is not None:
            self._add_queue("host", 0, 0, "host.in", -1, dma.outstanding)
            self._add_queue("host", 1, 0, "host.out", -1, dma.outstanding)
        self._add_queue("sync", 0, 0, "sync", -1, 0)
        if self.chip.calibration.launches:
            self._add_queue("dispatch", 0, 0, "dispatch", -1, 0)
        ports = tuple(self.network.nearest_port(node) for node in self._nodes)
        self.queueing = Hashed((tuple(self._queue_ids), ports))

    def _add_core(self, core: int, kind: CoreKind) -> None:
        if kind.array is not None:
            self._add_queue("array", core, 0, f"core{core}.array", core, 0)
        self._add_queue("vector", core, 0, f"core{core}.vector", core, 0)
        for channel in range(kind.dma.channels):
            name = f"core{core}.dma{channel}"
            self._dma_links[core, channel] = len(self.links)
            self.links.append(Link(name, "dma", link_capacity(kind.dma.bandwidth_bytes_per_s)))
            for unit in ("load", "store", "send"):
                self._add_queue(unit, core, channel, f"{name}.{unit}", core, kind.dma.outstanding)

    def _add_queue(self, unit: str, owner: int, channel: int, name: str, core: int, outstanding: int) -> None:
        self._queue_ids[unit, owner, channel] = len(self.queues)
        self.queues.append(Queue(name, unit, core, outstanding))

    def queue(self, unit: str, owner: int = 0, channel: int = 0) -> int:
        """Queue id; `owner` is the core, the memory port, or 0 and 1 for host in and out."""
        return self._queue_ids[unit, owner, channel]

    def node(self, core: int) -> int:
        """Interconnect node of a core."""
        return self._nodes[core]

    def path(self, asked: tuple[Any, ...]) -> Path:
        """What the method named by the first item gives for the others."""
        found = self._paths.get(asked)
        if found is None:
            ways: Mapping[str, Callable[..., Path]] = {
                "load": self.load, "store": self.store, "multicast": self.multicast, "send": self.send,
                "write_back": self.write_back, "exchange": self.exchange,
            }  # fmt: skip
            found = ways[asked[0]](*asked[1:])
        return found

    def load(self, core: int, channel: int, weight: int, level: Level = "dram") -> Path:
        """Memory to a core's scratchpad through its nearest memory port."""
        key = ("load", core, channel, weight, level)
        if key not in self._paths:
            route = self.network.memory_read_route(self.node(core))
            links = (*self._memory(level), *route.links, self._dma_links[core, channel])
            self._paths[key] = self._path(
                links, weight, route.hops, self._setup(core) + self._access_ps(level)
            )
        return self._paths[key]

    def store(self, core: int, channel: int, weight: int, level: Level = "dram") -> Path:
        """A core's scratchpad to memory. Writes are posted: they do not wait for the device."""
        key = ("store", core, channel, weight, level)
        if key not in self._paths:
            route = self.network.memory_write_route(self.node(core))
            links = (*self._memory(level), self._dma_links[core, channel], *route.links)
            self._paths[key] = self._path(links, weight, route.hops, self._setup(core))
        return self._paths[key]

    def exchange(
        self, end: tuple[int, int], channel: int, weight: int, level: Level = "dram"
    ) -> Path:
        """A load by a core that exchanges what it loads with other chips; `end` is the core and how many chips there
        are. The links join where the memory does.

        Per byte, f = 2 (n - 1)/n go to other chips and as many come from them. The links work in both directions at
        once, and so does the interconnect, which brings the core its own byte too; the DMA channel has one bandwidth
        for both. The latency is that of a load: the first of all waits for the others besides (sim.hw.links).
        """
        key = ("exchange", end, channel, weight, level)
        if key not in self._paths:
            core, chips = end
            route = self.network.memory_read_route(self.node(core))
            share = round(PAYLOAD_WEIGHT * exchanged_share(chips))
            dma, exchange, (port, *inner) = self._dma_links[core, channel], self._end("chip_links"), route.links
            heavier = {exchange: share, dma: PAYLOAD_WEIGHT + 2 * share}
            heavier |= dict.fromkeys(inner, PAYLOAD_WEIGHT + share)
            links = (*self._memory(level), port, *inner, dma, exchange)
            latency = self._setup(core) + self._access_ps(level)
            self._paths[key] = self._path(links, weight, route.hops, latency, heavier=heavier)
        return self._paths[key]

    def write_back(self, weight: int) -> Path:
        """Between the cache and the DRAM behind it: lines evicted, and the rest of lines filled for a part."""
        key = ("write_back", weight)
        if key not in self._paths:
            self._paths[key] = self._path(self._memory("fill"), weight, 0, 0)
        return self._paths[key]

    def multicast_port(self, cores: Sequence[int]) -> int:
        """Memory port that serves a group of cores: the nearest of its first."""
        return self.network.nearest_port(self.node(cores[0]))

    def multicast(self, cores: tuple[int, ...], channel: int, weight: int, level: Level = "dram") -> Path:
        """Memory to several scratchpads: read once, every link of the tree crossed once."""
        key = ("multicast", cores, channel, weight, level)
        if key not in self._paths:
            port = self.multicast_port(cores)
            start, link = self.network.port_ends[port]
            nodes = [self.node(core) for core in cores]
            tree = self.network.multicast_tree(start, nodes)
            receivers = tuple(
                self._dma_links[core, channel % self.chip.kind_of_core(core).dma.channels] for core in cores
            )
            links = (*self._memory(level), link, *tree, *receivers)
            crossed = 1 if self.chip.interconnect.topology == "crossbar" else len(tree)
            farthest = max(self.network.route(start, node).hops for node in nodes)
            latency = self._setup(cores[0]) + self._access_ps(level)
            self._paths[key] = self._path(links, weight, crossed, latency, farthest)
        return self._paths[key]

    def send(self, source: int, destination: int, channel: int) -> Path:
        """Scratchpad to scratchpad over the interconnect."""
        key = ("send", source, destination, channel)
        if key not in self._paths:
            route = self.network.route(self.node(source), self.node(destination))
            channels = self.chip.kind_of_core(destination).dma.channels
            links = (
                self._dma_links[source, channel],
                *route.links,
                self._dma_links[destination, channel % channels],
            )
            self._paths[key] = self._path(links, 0, route.hops, self._setup(source))
        return self._paths[key]

    def host(self, inward: bool, level: Level = "dram") -> Path:
        """Host to memory or back, through the host's node and its nearest memory port."""
        key = ("host", inward, level)
        if key not in self._paths:
            assert self.chip.host is not None
            node = self.chip.interconnect.host_port
            route = self.network.memory_write_route(node) if inward else self.network.memory_read_route(node)
            ends = (*self._memory(level), self._end("host"))
            self._paths[key] = self._path(
                (*ends, *route.links), PAYLOAD_WEIGHT, route.hops, self.chip.host.latency_ps
            )
        return self._paths[key]

    def route_tables(self) -> tuple[Int32, Int32, Int32, Int32]:
        """(pointers, links, weights, hops) of all routes asked for so far."""
        rows = list(self._rows)
        pointers = np.cumsum([0, *(len(links) for links, _ in rows)]).astype(np.int32)
        links = np.array([link for row, _ in rows for link in row], np.int32)
        weights = np.array([weight for _, row in rows for weight in row], np.int32)
        return pointers, links, weights, np.array(self._hops, np.int32)

    def _end(self, name: str) -> int:
        return self.network.link_id(name)

    def _memory(self, level: Level) -> tuple[int, ...]:
        """Links of the memory side of a route; the DRAM's, which has the weight, is the first."""
        found = self._ends.get(level)
        if found is None:
            names = {"dram": ("dram",), "cache": ("cache",), "fill": ("dram", "cache")}[level]
            found = self._ends[level] = tuple(self._end(name) for name in names)
        return found

    def _access_ps(self, level: Level) -> int:
        """Latency of a read: of the cache, of the DRAM, or of both where the cache was looked into first."""
        cache_ps = self.chip.cache.latency_ps if self.chip.cache is not None and level != "dram" else 0
        return cache_ps + (0 if level == "cache" else self.chip.dram.latency_ps)

    def _setup(self, core: int) -> int:
        return self.chip.kind_of_core(core).dma.setup_latency_ps

    def _path(
        self,
        links: tuple[int, ...],
        dram_weight: int,
        hops: int,
        latency_ps: int,
        latency_hops: int | None = None,
        *,
        heavier: Mapping[int, int] = MappingProxyType({}),
    ) -> Path:
        """The first link carries `dram_weight` if it is the DRAM's, all others plain payload or what `heavier` says."""
        first = dram_weight if self.links[links[0]].kind == "dram" else PAYLOAD_WEIGHT
        key = (links, (first, *(heavier.get(link, PAYLOAD_WEIGHT) for link in links[1:])))
        if key not in self._rows:
            self._rows[key] = len(self._rows)
            self._hops.append(hops)
        travelled = hops if latency_hops is None else latency_hops
        return Path(self._rows[key], max(1, latency_ps + travelled * self.chip.interconnect.hop_latency_ps))


def _link_kind(name: str) -> str:
    stem = name.split("[")[0]
    return stem if stem in LINK_KINDS else "noc"
