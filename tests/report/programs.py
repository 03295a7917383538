"""Small programs built by hand, on a chip of two cores whose numbers are easy to compute with.

One tick is 1 ps and 1 TB/s is one byte per tick: every expected number in these tests is mental arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sim.engine.reference import run
from sim.hw.chip import Chip, chip_from_dict
from sim.program import BYTE_UNITS, Kind, Link, OpRow, Program, Queue, Segment
from sim.timeline import Timeline

QUEUES = (
    Queue("core0.array", "array", 0),
    Queue("core0.vector", "vector", 0),
    Queue("core0.load", "load", 0, 2),
    Queue("core0.store", "store", 0, 2),
    Queue("core1.array", "array", 1),
    Queue("core1.vector", "vector", 1),
    Queue("core1.load", "load", 1, 2),
    Queue("core0.send", "send", 0, 1),
)
ARRAY, VECTOR, LOAD_QUEUE, STORE_QUEUE, ARRAY1, VECTOR1, LOAD_QUEUE1, SEND_QUEUE = range(len(QUEUES))

LINKS = (
    Link("dram", "dram", BYTE_UNITS),  # 1 byte per tick
    Link("port", "port", 4 * BYTE_UNITS),
    Link("link[0->1]", "noc", 2 * BYTE_UNITS),
    Link("core0.dma", "dma", 2 * BYTE_UNITS),
    Link("core1.dma", "dma", 2 * BYTE_UNITS),
)
DRAM, PORT, NOC, DMA0, DMA1 = range(len(LINKS))

ROUTES: tuple[tuple[tuple[int, int], ...], ...] = (
    ((DRAM, 256), (PORT, 256), (DMA0, 256)),
    ((DRAM, 256), (PORT, 256), (NOC, 256), (DMA1, 256)),
    ((DMA0, 256), (NOC, 256), (DMA1, 256)),
    ((DRAM, 512), (PORT, 256), (DMA0, 256)),  # half the DRAM's efficiency
    ((DRAM, 256), (PORT, 256), (NOC, 256), (DMA0, 256), (DMA1, 256)),
)
HOPS = (0, 1, 1, 0, 1)
TO_CORE0, TO_CORE1, ACROSS, SLOW_PATTERN, MULTICAST = range(len(ROUTES))


@dataclass
class Builder:
    """Adds tasks one by one and returns their ids."""

    ops: Sequence[OpRow]
    name: str = "only"
    rows: list[tuple[Any, ...]] = field(default_factory=list)

    def compute(
        self,
        queue: int,
        dur: int,
        *,
        hold: int | None = None,
        after: Sequence[int] = (),
        op: int = 0,
        release: int = 0,
    ) -> int:
        kind = Kind.MATMUL if QUEUES[queue].unit == "array" else Kind.VECTOR
        return self._add(kind, queue, dur if hold is None else hold, dur, 0, -1, after, op, release)

    def move(
        self,
        kind: Kind,
        queue: int,
        nbytes: int,
        route: int,
        *,
        latency: int = 10,
        after: Sequence[int] = (),
        op: int = 0,
        release: int = 0,
    ) -> int:
        return self._add(kind, queue, 1, latency, nbytes, route, after, op, release)

    def _add(self, *row: Any) -> int:
        self.rows.append(row)
        return len(self.rows) - 1

    def segment(self) -> Segment:
        kind, queue, hold, dur, nbytes, route, after, op, release = zip(*self.rows, strict=True)
        return Segment(
            name=self.name,
            kind=np.array(kind, np.int8),
            queue=np.array(queue, np.int32),
            hold=np.array(hold, np.int64),
            dur=np.array(dur, np.int64),
            nbytes=np.array(nbytes, np.int64),
            route=np.array(route, np.int32),
            release=np.array(release, np.int64),
            pptr=np.cumsum([0, *map(len, after)]).astype(np.int32),
            pidx=np.array([p for row in after for p in row], np.int32),
            op=np.array(op, np.int32),
            ops=tuple(self.ops),
        )


def program_of(
    *segments: Segment, repeats: Sequence[int] = (), facts: Mapping[str, Any] | None = None
) -> Program:
    """A validated program on the hand-made queues, links and routes."""
    entries = [entry for route in ROUTES for entry in route]
    program = Program(
        name="by hand",
        segments=segments,
        repeats=tuple(repeats) or (1,) * len(segments),
        queues=QUEUES,
        links=LINKS,
        route_ptr=np.cumsum([0, *map(len, ROUTES)]).astype(np.int32),
        route_link=np.array([link for link, _ in entries], np.int32),
        route_weight=np.array([weight for _, weight in entries], np.int32),
        route_hops=np.array(HOPS, np.int32),
        facts=facts or {},
    )
    program.validate()
    return program


def simulate(*segments: Segment, repeats: Sequence[int] = ()) -> tuple[Program, Timeline]:
    """The program and what the reference engine makes of it."""
    program = program_of(*segments, repeats=repeats)
    return program, run(program)


def operator(name: str = "op", macs: int = 0, unit: str = "array", **fields: Any) -> OpRow:
    """An int8 operator; further fields as in OpRow, `mapping` merged with the unit."""
    mapping = {"unit": unit, "cores": 1, "utilization": 0.5, **fields.pop("mapping", {})}
    kind = fields.pop("kind", "matmul" if unit == "array" else "elementwise")
    return OpRow(name, kind, "int8", "int32", macs, mapping=mapping, **fields)


def small_chip() -> Chip:
    """Two cores of one 2 x 2 array each at 1 GHz: 8 int8 MACs per ns, 1 MAC per 125 ticks of peak."""
    return chip_from_dict(
        {
            "version": 1,
            "name": "pair",
            "technology": "n7",
            "clock": "1 GHz",
            "cores": [
                {
                    "name": "tensor",
                    "count": 2,
                    "array": {"rows": 2, "cols": 2, "rates": {"int8": 1}},
                    "accumulator": {"size": "16 KiB", "bandwidth": "1 TB/s"},
                    "vector": {"lanes": 4},
                    "sram": {"size": "64 KiB", "banks": 8, "bandwidth": "1 TB/s"},
                    "dma": {"channels": 1, "outstanding": 2, "setup_latency": "10 ps", "bandwidth": "2 TB/s"},
                }
            ],
            "interconnect": {
                "topology": "mesh",
                "shape": [1, 2],
                "link_bandwidth": "2 TB/s",
                "hop_latency": "1 ps",
            },
            "dram": {"device": "hbm3", "stacks": 1, "capacity": "1 GiB"},
        }
    )
