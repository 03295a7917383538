"""Area of a chip by component: multiply what there is by what one of it takes.

PEs, memory macros and logic come from the technology; PHYs do not shrink with the node and come from the DRAM
device and from LLMCompass, as do the transistor counts (PrincetonUniversity/LLMCompass, cost_model.py).

Nothing but arithmetic on the parameters: where they are arrays, one entry per design (sim/cost/designs.py), so is the
area.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.hw.core import Array, CoreKind
from sim.hw.technology import Technology

if TYPE_CHECKING:
    from sim.hw.chip import Chip

AREA_COMPONENTS = (
    *("arrays", "accumulators", "vector", "sram", "dma", "interconnect", "cache"),
    *("dram_phy", "host_phy", "link_phy", "other"),
)
"""What a die consists of; `other` is what no model of components sees."""

IN_CORES = AREA_COMPONENTS[:5]
MEMORIES = ("accumulators", "sram", "cache")

# LLMCompass cost_model.py: control of a vector lane (on a GPU, of every thread that is issued an instruction in a
# cycle: 4 x 32 in an A100's core, whose fp32 lanes are 64) and its fp32 unit; switch of a core; a PCIe 5 lane.
CONTROL_TRANSISTORS, FP32_TRANSISTORS = 996_200, 134_069
LANE_TRANSISTORS = CONTROL_TRANSISTORS + FP32_TRANSISTORS
ROUTER_TRANSISTORS = 44_300_000
HOST_LANE_TRANSISTORS = 5_372_100
HOST_LANE_PHY_MM2 = 0.64
HOST_LANE_BYTES_PER_S = 4_000_000_000  # PCIe 5, one direction, rounded up

# LLMCompass cost_model.py, mean of NVLink 3 (1.888 mm2, 74.6 M transistors) and 4 (0.965 mm2, 86.6 M), 25 GB/s each.
LINK_PHY_MM2_PER_GB_PER_S = 0.057
LINK_TRANSISTORS_PER_GB_PER_S = 3_225_000

# Estimate: a DMA channel is about as much logic as four vector lanes (address generators, queues, buffers).
DMA_CHANNEL_TRANSISTORS = 4 * LANE_TRANSISTORS

# Wiring of a memory's port, which does not shrink with the node: VMEM of TPU v4i, 51 mm2 for 16 MiB (weak) less its
# macros, at 4096 B a cycle. A smaller memory has shorter wires, in proportion to its side (VMEM's is 3.74 mm); those of
# larger ones are not longer: CMEM of 128 MiB has hardly any.
PORT_MM2_PER_BYTE_PER_CYCLE = 0.0090
PORT_SPAN_MM = 3.74

# Registers of a GPU core: twice what its accumulator takes of them in all our chip files; four files, each with two
# banks of 64 bit that give two operands a lane and cycle (Jia et al., Dissecting the NVIDIA Volta GPU Architecture via
# Microbenchmarking, 2018, of Volta).
REGISTERS_PER_ACCUMULATOR = 2
REGISTER_FILES = 4
REGISTER_BYTES_PER_LANE = 8

# Pads, clocks, power, test, empty area: 21 % of the die of TPU v1 (Jouppi 2017, what its floorplan leaves), 5 % of
# GA100 and 1 % of MI210 (die photos in LLMCompass, whose components hold more than they are counted for here).
OTHER_SHARE = 0.19


def chip_area(chip: Chip, technology: Technology) -> dict[str, float]:
    """mm2 by component (AREA_COMPONENTS); their sum is the die. Spare cores are on it.

    Six dies of 28 to 7 nm come out within 6 % (tests/against/test_die_area.py).
    """
    cores = [core_area(kind, technology) for kind in chip.cores]
    area = {
        part: sum(
            (kind.count + kind.spare) * core[part] for kind, core in zip(chip.cores, cores, strict=True)
        )
        for part in IN_CORES
    }
    nodes = chip.interconnect.node_count + sum(kind.spare for kind in chip.cores)
    # A core that sits on its memory has no switch.
    area["interconnect"] = technology.logic_area_mm2(nodes * ROUTER_TRANSISTORS) if nodes > 1 else 0.0
    area["cache"] = 0.0
    if chip.cache is not None:
        width = chip.cache.bandwidth_bytes_per_s / chip.clock_hz
        area["cache"] = memory_area_mm2(chip.cache.size_bytes, width, technology)
    controller_mm2 = technology.logic_area_mm2(chip.dram.controller_transistors)
    area["dram_phy"] = chip.dram.channels * (chip.dram.phy_area_mm2 + controller_mm2)
    lanes = -(-chip.host.bandwidth_bytes_per_s // HOST_LANE_BYTES_PER_S) if chip.host else 0
    area["host_phy"] = lanes * (HOST_LANE_PHY_MM2 + technology.logic_area_mm2(HOST_LANE_TRANSISTORS))
    linked = chip.links.count * chip.links.bandwidth_bytes_per_s / 1e9 if chip.links else 0.0
    link_mm2 = LINK_PHY_MM2_PER_GB_PER_S + technology.logic_area_mm2(LINK_TRANSISTORS_PER_GB_PER_S)
    area["link_phy"] = linked * link_mm2
    area["other"] = sum(area.values()) * OTHER_SHARE / (1.0 - OTHER_SHARE)
    return area


def memory_area_mm2(size_bytes: int, bytes_per_cycle: float, technology: Technology) -> float:
    """A memory that serves the whole of a core or chip: its macros, and the wiring of its port by its width.

    CMEM of TPU v4i, 128 MiB at 7 nm and 2571 B a cycle: 112 + 23 mm2 (die photo: 112 in all).
    """
    macros_mm2 = technology.sram_area_mm2(size_bytes)
    span = _root(macros_mm2) / PORT_SPAN_MM
    at_most_whole = (span + 1.0 - abs(span - 1.0)) / 2
    return macros_mm2 + bytes_per_cycle * PORT_MM2_PER_BYTE_PER_CYCLE * at_most_whole


def registers_area_mm2(kind: CoreKind, technology: Technology) -> float:
    """Where a core keeps its sums: an accumulator, each of whose columns has its own bank, so that no port crosses it;
    on a GPU its register files, whose lanes read two operands a cycle."""
    if kind.accumulator is None:
        return 0.0
    if kind.dispatch is None:
        return technology.sram_area_mm2(kind.accumulator.size_bytes)
    size = REGISTERS_PER_ACCUMULATOR * kind.accumulator.size_bytes // REGISTER_FILES
    width = REGISTER_BYTES_PER_LANE * kind.vector.lanes / REGISTER_FILES
    return REGISTER_FILES * memory_area_mm2(size, width, technology)


def hop_length_mm(chip: Chip, technology: Technology) -> float:
    """Wire of one hop: the side of a square as large as one node's share of the cores and the cache. On a crossbar,
    which lies across the middle, three quarters of the side of them all: from anywhere in a square to its middle it is
    a quarter of the side in either direction, and along the crossbar to what it leads to another quarter."""
    area = chip_area(chip, technology)
    tiles_mm2 = sum(area[part] for part in (*IN_CORES, "interconnect", "cache"))
    if chip.interconnect.topology == "crossbar" and chip.interconnect.node_count > 1:
        return _root(tiles_mm2) * 0.75
    return _root(tiles_mm2 / chip.interconnect.node_count)


def memory_reach_mm(memory_mm2: float) -> float:
    """Wire between a bank and the edge of a square memory, on average: half its side."""
    return _root(memory_mm2) / 2


def memory_bytes(chip: Chip) -> int:
    """Capacity of all memories on the die, those of spare cores not counted: they are switched off."""
    total = chip.cache.size_bytes if chip.cache else 0
    for kind in chip.cores:
        sums = kind.accumulator.size_bytes if kind.accumulator else 0
        total += kind.count * (kind.sram.size_bytes + sums)
    return total


def logic_area_mm2(chip: Chip, technology: Technology) -> float:
    """Area that leaks and is clocked like logic: all but memories and spare cores."""
    area = chip_area(chip, technology)
    spare = sum(kind.spare * sum(core_area(kind, technology).values()) for kind in chip.cores)
    spare_memory = sum(
        kind.spare * sum(core_area(kind, technology)[part] for part in ("accumulators", "sram"))
        for kind in chip.cores
    )
    return sum(area.values()) - sum(area[part] for part in MEMORIES) - (spare - spare_memory)


def pe_area_mm2(array: Array, technology: Technology) -> float:
    """One PE; a row-stationary one with its scratchpads."""
    held = array.row_stationary.pe_bytes if array.row_stationary else 0
    return technology.pe_area_mm2(array.rates) + technology.sram_area_mm2(held)


def core_area(kind: CoreKind, technology: Technology) -> dict[str, float]:
    """mm2 of one core of a kind by component (IN_CORES)."""
    array, lanes = kind.array, kind.vector.lanes
    controlled = lanes if kind.dispatch is None else max(lanes, kind.dispatch.issue)
    width = kind.sram.bandwidth_bytes_per_s / kind.clock_hz
    return {
        "arrays": array.pe_count * pe_area_mm2(array, technology) if array else 0.0,
        "accumulators": registers_area_mm2(kind, technology),
        "vector": technology.logic_area_mm2(lanes * FP32_TRANSISTORS + controlled * CONTROL_TRANSISTORS),
        "sram": memory_area_mm2(kind.sram.size_bytes, width, technology),
        "dma": technology.logic_area_mm2(kind.dma.channels * DMA_CHANNEL_TRANSISTORS),
    }


def control_area_mm2(kind: CoreKind, technology: Technology) -> float:
    """Of the vector unit of one GPU core: what issues instructions to its threads. 0 for other cores, whose lanes have
    their control to themselves."""
    if kind.dispatch is None:
        return 0.0
    return technology.logic_area_mm2(kind.dispatch.issue * CONTROL_TRANSISTORS)


def _root(value: float) -> float:
    """Square root of a number, or of every entry of an array."""
    found: float = value**0.5
    return found
