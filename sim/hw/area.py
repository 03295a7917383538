"""Area of a chip by component: multiply what there is by what one of it takes.

PEs, memory macros and logic come from the technology; PHYs do not shrink with the node and come from the DRAM
device and from LLMCompass, as do the transistor counts (PrincetonUniversity/LLMCompass, cost_model.py).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sim.hw.core import CoreKind
from sim.hw.technology import Technology

if TYPE_CHECKING:
    from sim.hw.chip import Chip

# LLMCompass cost_model.py: control of a vector lane and its fp32 unit; switch of a core; a PCIe 5 lane.
LANE_TRANSISTORS = 996_200 + 134_069
ROUTER_TRANSISTORS = 44_300_000
HOST_LANE_TRANSISTORS = 5_372_100
HOST_LANE_PHY_MM2 = 0.64
HOST_LANE_BYTES_PER_S = 4_000_000_000  # PCIe 5, one direction, rounded up

# Estimate: a DMA channel is about as much logic as four vector lanes (address generators, queues, buffers).
DMA_CHANNEL_TRANSISTORS = 4 * LANE_TRANSISTORS


def chip_area(chip: Chip, technology: Technology) -> dict[str, float]:
    """mm2 by component: arrays, accumulators, vector, sram, dma, interconnect, cache, dram_phy, host_phy.

    Their sum is the silicon accounted for; a real die adds pads, clocking and unused area.
    """
    cores = [core_area(kind, technology) for kind in chip.cores]
    area = {
        part: sum(kind.count * core[part] for kind, core in zip(chip.cores, cores, strict=True))
        for part in cores[0]
    }
    area["interconnect"] = chip.interconnect.node_count * technology.logic_area_mm2(ROUTER_TRANSISTORS)
    if chip.interconnect.node_count == 1:
        area["interconnect"] = 0.0  # a core that sits on its memory has no switch
    area["cache"] = technology.sram_area_mm2(chip.cache.size_bytes) if chip.cache else 0.0
    controller_mm2 = technology.logic_area_mm2(chip.dram.controller_transistors)
    area["dram_phy"] = chip.dram.channels * (chip.dram.phy_area_mm2 + controller_mm2)
    lanes = math.ceil(chip.host.bandwidth_bytes_per_s / HOST_LANE_BYTES_PER_S) if chip.host else 0
    area["host_phy"] = lanes * (HOST_LANE_PHY_MM2 + technology.logic_area_mm2(HOST_LANE_TRANSISTORS))
    return area


def hop_length_mm(chip: Chip, technology: Technology) -> float:
    """Wire of one hop: the side of a square as large as one node's share of the cores and the cache; on a crossbar,
    which lies in the middle, half the side of them all."""
    area = chip_area(chip, technology)
    tiles_mm2 = sum(area.values()) - area["dram_phy"] - area["host_phy"]
    if chip.interconnect.topology == "crossbar" and chip.interconnect.node_count > 1:
        return math.sqrt(tiles_mm2) / 2
    return math.sqrt(tiles_mm2 / chip.interconnect.node_count)


def memory_reach_mm(memory_mm2: float) -> float:
    """Wire between a bank and the edge of a square memory, on average: half its side."""
    return math.sqrt(memory_mm2) / 2


def memory_bytes(chip: Chip) -> int:
    """Capacity of all memories on the die."""
    total = chip.cache.size_bytes if chip.cache else 0
    for kind in chip.cores:
        sums = kind.accumulator.size_bytes if kind.accumulator else 0
        total += kind.count * (kind.sram.size_bytes + sums)
    return total


def core_area(kind: CoreKind, technology: Technology) -> dict[str, float]:
    """mm2 of one core of a kind: arrays, accumulators, vector, sram, dma."""
    array, accumulator = kind.array, kind.accumulator
    return {
        "arrays": array.pe_count * technology.pe_area_mm2(array.rates) if array else 0.0,
        "accumulators": technology.sram_area_mm2(accumulator.size_bytes) if accumulator else 0.0,
        "vector": technology.logic_area_mm2(kind.vector.lanes * LANE_TRANSISTORS),
        "sram": technology.sram_area_mm2(kind.sram.size_bytes),
        "dma": technology.logic_area_mm2(kind.dma.channels * DMA_CHANNEL_TRANSISTORS),
    }
