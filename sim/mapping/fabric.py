"""The chip as queues, links and routes: the hardware tables of a program."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sim.cost.estimate import Site
from sim.cost.transfers import ranges
from sim.hw.chip import Chip
from sim.hw.core import CoreKind
from sim.hw.noc import Network
from sim.mapping.memo import Hashed
from sim.mapping.ways import WEIGHT_BITS, Level, Ways, ways_of
from sim.program import PAYLOAD_WEIGHT, Int32, Int64, Link, Queue, link_capacity

LINK_KINDS = ("dram", "host", "cache", "port", "chip_links")


@dataclass(frozen=True, slots=True)
class Path:
    """A route's row in the program and its head latency in ticks (set-up, hops, far end)."""

    row: int
    latency_ps: int


@dataclass
class Fabric:
    """Builds the queue and link tables of a chip and, on demand, its routes (each distinct one once).

    A DMA channel has one link, shared by its load, store and send queues (`Ways.dma_links`). Multicasts are issued by
    the memory port they start from. `sites` are groups of cores as the estimate sees them (plan.site_of); `key` is the
    chip where keys are looked up, `queueing` what decides which queue a task is in.
    """

    chip: Chip
    network: Network = field(init=False)
    ways: Ways = field(init=False)
    queues: list[Queue] = field(init=False)
    links: list[Link] = field(init=False)
    sites: dict[tuple[int, tuple[int, ...]], Hashed[Site]] = field(init=False)
    key: Hashed[Chip] = field(init=False)
    queueing: Hashed[tuple[object, ...]] = field(init=False)
    _queue_ids: dict[tuple[str, int, int], int] = field(init=False)
    _rows: dict[int, int] = field(init=False)
    _nodes: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.network, self.ways, self._nodes = self.chip.network(), ways_of(self.chip), self.chip.core_nodes
        self._rows, self.sites, self.key = {}, {}, Hashed(self.chip)
        self.links = [
            Link(name, _link_kind(name), link_capacity(bandwidth))
            for name, bandwidth in zip(self.network.links, self.network.capacity_bytes_per_s, strict=True)
        ]
        self.queues, self._queue_ids = [], {}
        for core in range(self.chip.core_count):
            self._add_core(core, self.chip.kind_of_core(core))
        # What one group of cores waits for must not hold up another, which may be another stage of a pipeline.
        for core in range(self.chip.core_count):
            port, dma = self.ways.multicast_port((core,)), self.chip.kind_of_core(core).dma
            name = f"port{port}.core{core}.multicast"
            self._add_queue("port", core, 0, name, -1, dma.outstanding * dma.channels)
        if self.chip.host is not None:
            dma = self.chip.cores[0].dma
            self._add_queue("host", 0, 0, "host.in", -1, dma.outstanding)
            self._add_queue("host", 1, 0, "host.out", -1, dma.outstanding)
        for core in range(self.chip.core_count):
            self._add_queue("sync", core, 0, f"core{core}.sync", -1, 0)
        if self.chip.calibration.launches or any(kind.dispatch is not None for kind in self.chip.cores):
            self._add_queue("dispatch", 0, 0, "dispatch", -1, 0)
        ports = tuple(self.network.nearest_port(node) for node in self._nodes)
        self.queueing = Hashed((tuple(self._queue_ids), ports))

    def _add_core(self, core: int, kind: CoreKind) -> None:
        if kind.array is not None:
            self._add_queue("array", core, 0, f"core{core}.array", core, 0)
        self._add_queue("vector", core, 0, f"core{core}.vector", core, 0)
        for channel in range(kind.dma.channels):
            name = f"core{core}.dma{channel}"
            self.links.append(Link(name, "dma", link_capacity(kind.dma.bandwidth_bytes_per_s)))
            for unit in ("load", "store", "send"):
                self._add_queue(unit, core, channel, f"{name}.{unit}", core, kind.dma.outstanding)

    def _add_queue(self, unit: str, owner: int, channel: int, name: str, core: int, outstanding: int) -> None:
        self._queue_ids[unit, owner, channel] = len(self.queues)
        self.queues.append(Queue(name, unit, core, outstanding))

    def queue(self, unit: str, owner: int = 0, channel: int = 0) -> int:
        """Queue id; `owner` is the core, of a multicast (`port`) the first that receives it, or 0 and 1 for host in and
        out."""
        return self._queue_ids[unit, owner, channel]

    def node(self, core: int) -> int:
        """Interconnect node of a core."""
        return self._nodes[core]

    def load(self, core: int, channel: int, weight: int, level: Level = "dram") -> Path:
        """Memory to a core's scratchpad through its nearest memory port."""
        return self._path(weight, "load", core, channel, level)

    def write_back(self, weight: int) -> Path:
        """Between the cache and the DRAM behind it: lines evicted, and the rest of lines filled for a part."""
        return self._path(weight, "write_back")

    def host(self, inward: bool, level: Level = "dram") -> Path:
        """Host to memory or back, through the host's node and its nearest memory port."""
        return self._path(PAYLOAD_WEIGHT, "host", inward, level)

    def host_core(self, core: int, inward: bool) -> Path:
        """Host to a core's scratchpad or back."""
        return self._path(PAYLOAD_WEIGHT, "host_core", core, inward)

    def _path(self, weight: int, *asked: object) -> Path:
        way = self.ways.number(*asked)
        route = self.ways.route[way] + (weight if self.ways.weighted[way] else 0)
        return Path(self._rows.setdefault(route, len(self._rows)), self.ways.latency_ps[way])

    def rows(self, routes: Int64) -> Int64:
        """Row in the tables of routes by their numbers (`Ways.route` and weight)."""
        known = self._rows
        return np.array([known.setdefault(route, len(known)) for route in routes.tolist()], np.int64)

    def route_tables(self) -> tuple[Int32, Int32, Int32, Int32]:
        """(pointers, links, weights, hops) of all routes asked for so far."""
        routes = np.fromiter(self._rows, np.int64, len(self._rows))
        course, weight = routes >> WEIGHT_BITS, routes & ((1 << WEIGHT_BITS) - 1)
        first, links, weights, hops = self.ways.course_tables()
        lengths = np.diff(first)[course]
        pointers = np.append(0, np.cumsum(lengths))
        entry = ranges(first[course], lengths)
        found = weights[entry]
        found[pointers[:-1]] += weight
        return pointers.astype(np.int32), links[entry], found, hops[course]


def _link_kind(name: str) -> str:
    stem = name.split("[")[0]
    return stem if stem in LINK_KINDS else "noc"
