"""What resources, causes and components are called in tables and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

RESOURCE_WORDS = {
    "array": "the arrays at their peak",
    "vector": "the vector units",
    "dram": "DRAM bandwidth",
    "port": "a memory port",
    "noc": "an on-chip link",
    "dma": "a DMA channel",
    "cache": "the cache",
    "host": "the host link",
    "chip_links": "the links to other chips",
    "dispatch": "kernel launches",
}
STALL_WORDS = {
    "busy": "busy",
    "dram": "waits for DRAM data",
    "interconnect": "waits for DMA or on-chip links",
    "host": "waits for the host",
    "chip_links": "waits for other chips",
    "transfer_latency": "waits for a transfer to begin",
    "dependency": "waits for another unit",
    "release": "waits for its release",
    "fill_drain": "start and end of the run",
    "no_work": "has no work (left)",
}
OVERLAP_WORDS = {
    "compute": "compute alone",
    "overlapped": "compute with transfers behind it",
    "exposed_transfer": "exposed transfers",
    "idle": "nothing under way",
}
ENERGY_WORDS = {
    "mac": "multiply-accumulates",
    "registers": "array registers",
    "accumulator": "accumulators",
    "vector": "vector units",
    "control": "instructions",
    "sram": "scratchpads",
    "cache": "cache",
    "dma": "DMA buffers",
    "noc": "interconnect",
    "dram_activate": "DRAM rows opened",
    "dram_read": "DRAM reads",
    "dram_write": "DRAM writes",
    "dram_io": "DRAM interface",
    "host": "host link",
    "chip_links": "links to other chips",
    "leakage": "leakage",
    "clock": "clocks",
    "dram_refresh": "DRAM refresh",
    "dram_standby": "DRAM standby",
}
AREA_WORDS = {
    "arrays": "arrays",
    "accumulators": "accumulators",
    "vector": "vector units",
    "sram": "scratchpads",
    "dma": "DMA engines",
    "interconnect": "interconnect",
    "cache": "cache",
    "dram_phy": "DRAM interface",
    "host_phy": "host link",
    "link_phy": "links to other chips",
    "other": "pads, clocks, empty",
}
COST_WORDS = {
    "die": "die",
    "dram": "DRAM",
    "package": "package",
    "test": "test",
    "assembly_loss": "lost at assembly",
}
LATENCY_WORDS = {
    "load": "load",
    "store": "store",
    "send": "send",
    "port": "multicast",
    "host": "host transfer",
}
LINK_WORDS = {
    "dram": "DRAM",
    "port": "memory port",
    "noc": "on-chip link",
    "dma": "DMA",
    "cache": "cache",
    "host": "host link",
    "chip_links": "links to other chips",
}
MEMORY_WORDS = {"scratchpad": "fullest scratchpad", "dram": "DRAM"}


_LAUNCH = ("kernel", "launch")
"""What a path through the queue that hands out kernels is called: nothing is computed there."""


def critical_steps(path: Mapping[str, Sequence[Any]]) -> list[tuple[str, str, int]]:
    """The critical path by what it was spent on: (kind of resource, cause, picoseconds), longest first."""
    total: dict[tuple[str, str], int] = {}
    for kind, cause, duration in zip(path["kind"], path["cause"], path["duration_ps"], strict=True):
        words = (LATENCY_WORDS if cause == "latency" else LINK_WORDS).get(kind, kind)
        step = _LAUNCH if (kind, cause) == ("dispatch", "compute") else (words, cause)
        total[step] = total.get(step, 0) + duration
    return sorted(((words, cause, t) for (words, cause), t in total.items()), key=lambda step: -step[2])
