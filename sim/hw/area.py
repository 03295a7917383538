"""Area of a chip by component: multiply what there is by what one of it takes.

PEs, memory macros and logic come from the technology; PHYs do not shrink with the node and come from the DRAM
device and from LLMCompass, as do the transistor counts (PrincetonUniversity/LLMCompass, cost_model.py).

Nothing but arithmetic on the parameters: where they are arrays, one entry per design (sim/cost/designs.py), so is the
area.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.hw.core import Array, CoreKind
from sim.hw.technology import LARGEST_MACRO_BYTES, REGISTER_BIT_TRANSISTORS, Technology
from sim.hw.vector import FUNCTIONS

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
# cycle: 4 x 32 in an A100's core, whose fp32 lanes are 64) and its fp32 unit; an integer unit with multiplier; what a
# core of a GPU has of the crossbar; a PCIe 5 lane.
CONTROL_TRANSISTORS, FP32_TRANSISTORS = 996_200, 134_069
INT32_TRANSISTORS = 177_690
CROSSBAR_TRANSISTORS = 44_300_000
HOST_LANE_TRANSISTORS = 5_372_100
HOST_LANE_PHY_MM2 = 0.64
HOST_LANE_BYTES_PER_S = 4_000_000_000  # PCIe 5, one direction, rounded up

# LLMCompass cost_model.py, mean of NVLink 3 (1.888 mm2, 74.6 M transistors) and 4 (0.965 mm2, 86.6 M), 25 GB/s each.
LINK_PHY_MM2_PER_GB_PER_S = 0.057
LINK_TRANSISTORS_PER_GB_PER_S = 3_225_000

# Estimate: a DMA channel computes two addresses at either end (descriptors of two dimensions). On a GPU threads load
# and store, 32 at a time (load and store units of an SM, NVIDIA's white papers of Volta to Hopper), each to an address.
DMA_CHANNEL_TRANSISTORS = 4 * INT32_TRANSISTORS
LOAD_TRANSISTORS = 32 * INT32_TRANSISTORS

# Lanes of a chip whose arrays compute integers alone have no instructions of their own: they scale, shift and clip what
# leaves an array, in two stages with an adder and a multiplier each (NVDLA's single-point processor).
INTEGER_LANE_TRANSISTORS = 2 * INT32_TRANSISTORS

# A byte to one of four: Aladdin's crossbar, 569.5 um2 for 32 bit at 40 nm, where logic has 7.7 transistors a um2.
SWITCH_BYTE_TRANSISTORS = 569.5 / 4 * 7.7
# Estimate: flits that a router holds for a neighbour, four on each of two virtual channels.
ROUTER_FLITS = 8

# Wires between the banks of a memory and its edge, over macros: their number goes with the banks, their length with the
# side. CMEM of TPU v4i: 128 MiB on 112 mm2, of which macros are 47. (TPU v1's buffer and accumulators at 28 nm, of 37 %
# of its die, would give 0.13, too.)
BANK_WIRES_PER_MM = 0.13
# Larger memories are several, each with an edge of its own.
LONGEST_BANK_WIRES_MM = 10.6

# Wiring of a memory's port, which does not shrink with the node: VMEM of TPU v4i, 51 mm2 for 16 MiB (weak) less its
# banks, at 4096 B a cycle. A smaller memory has shorter wires, in proportion to its side (VMEM's is 2.84 mm); those of
# larger ones are not longer: CMEM of 128 MiB has hardly any.
PORT_MM2_PER_BYTE_PER_CYCLE = 0.0105
PORT_SPAN_MM = 2.84

# Sums of an array are read and written in every cycle: cells of eight transistors, by transistors of six.
TWO_PORT_CELL = 8 / 6

# Registers of a GPU core: twice what its accumulator takes of them in all our chip files; four files, each with two
# banks of 64 bit that give two operands a lane and cycle (Jia et al., Dissecting the NVIDIA Volta GPU Architecture via
# Microbenchmarking, 2018, of Volta).
REGISTERS_PER_ACCUMULATOR = 2
REGISTER_FILES = 4
REGISTER_BANKS = 2
REGISTER_BYTES_PER_LANE = 8

# Pads, clocks, power, test, empty area: 21 % of the die of TPU v1 (Jouppi 2017, what its floorplan leaves), 5 % of
# GA100 and 1 % of MI210 (die photos in LLMCompass, whose components hold more than they are counted for here).
OTHER_SHARE = 0.19


def chip_area(chip: Chip, technology: Technology) -> dict[str, float]:
    """mm2 by component (AREA_COMPONENTS); their sum is the die. Spare cores are on it.

    Six dies of 28 to 7 nm come out within 9 %, 4 on average (tests/against/test_die_area.py).
    """
    cores = [core_area(kind, technology) for kind in chip.cores]
    area = {
        part: sum(
            (kind.count + kind.spare) * core[part] for kind, core in zip(chip.cores, cores, strict=True)
        )
        for part in IN_CORES
    }
    nodes = chip.interconnect.node_count + sum(kind.spare for kind in chip.cores)
    area["interconnect"] = technology.logic_area_mm2(nodes * switch_transistors(chip))
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


def switch_transistors(chip: Chip) -> float:
    """What one node has of the network: on a crossbar as much as a core of a GPU; else a router, which sends what comes
    in to any of its other sides, and holds it until there is room. None where a core sits on its memory."""
    network = chip.interconnect
    if network.node_count <= 1:
        return 0.0
    if network.topology == "crossbar":
        return CROSSBAR_TRANSISTORS
    sides = 3 if network.topology == "ring" else 5
    width = network.link_bandwidth_bytes_per_s / chip.clock_hz
    each = SWITCH_BYTE_TRANSISTORS * (sides - 1) / 4 + 8 * ROUTER_FLITS * REGISTER_BIT_TRANSISTORS
    return sides * width * each


def memory_area_mm2(
    size_bytes: int, bytes_per_cycle: float, technology: Technology, bank_bytes: int = LARGEST_MACRO_BYTES
) -> float:
    """A memory that serves the whole of a core or chip: its macros, one a bank or several, the wires that join them,
    and the wiring of its port by its width.

    CMEM of TPU v4i, 128 MiB at 7 nm and 2571 B a cycle: 112 + 27 mm2 (die photo: 112 in all).
    """
    banks_mm2 = joined_area_mm2(technology.sram_area_mm2(size_bytes, bank_bytes))
    return banks_mm2 + port_area_mm2(banks_mm2, bytes_per_cycle)


def port_area_mm2(banks_mm2: float, bytes_per_cycle: float) -> float:
    """Wiring between the banks of a memory and its one user."""
    return bytes_per_cycle * PORT_MM2_PER_BYTE_PER_CYCLE * _smaller(_root(banks_mm2) / PORT_SPAN_MM, 1.0)


def joined_area_mm2(macros_mm2: float) -> float:
    """Macros with the wires between them and the edge: A = macros x (1 + wires per mm x side), side = sqrt(A)."""
    wires = macros_mm2 * BANK_WIRES_PER_MM
    side_mm = (wires + _root(wires * wires + 4 * macros_mm2)) / 2
    return macros_mm2 + wires * _smaller(side_mm, LONGEST_BANK_WIRES_MM)


def registers_area_mm2(kind: CoreKind, technology: Technology) -> float:
    """Where a core keeps its sums: an accumulator, each of whose columns has its own bank, so that no port crosses it;
    on a GPU its register files, whose lanes read two operands a cycle."""
    if kind.accumulator is None:
        return 0.0
    size = kind.accumulator.size_bytes
    if kind.dispatch is None:
        columns = kind.array.cols * kind.array.count if kind.array else 1
        return joined_area_mm2(TWO_PORT_CELL * technology.sram_area_mm2(size, size / columns))
    file = REGISTERS_PER_ACCUMULATOR * size // REGISTER_FILES
    width = REGISTER_BYTES_PER_LANE * kind.vector.lanes / REGISTER_FILES
    banks_mm2 = joined_area_mm2(technology.sram_area_mm2(file, file // REGISTER_BANKS))
    return REGISTER_FILES * (banks_mm2 + port_area_mm2(banks_mm2, width))


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
    return technology.pe_area_mm2(array.rates) + technology.sram_area_mm2(held, held)


def core_area(kind: CoreKind, technology: Technology) -> dict[str, float]:
    """mm2 of one core of a kind by component (IN_CORES)."""
    array = kind.array
    width = kind.sram.bandwidth_bytes_per_s / kind.clock_hz
    return {
        "arrays": array.pe_count * pe_area_mm2(array, technology) if array else 0.0,
        "accumulators": registers_area_mm2(kind, technology),
        "vector": technology.logic_area_mm2(vector_transistors(kind)),
        "sram": memory_area_mm2(kind.sram.size_bytes, width, technology, kind.sram.bank_bytes),
        "dma": technology.logic_area_mm2(
            kind.dma.channels * DMA_CHANNEL_TRANSISTORS if kind.dispatch is None else LOAD_TRANSISTORS
        ),
    }


def vector_transistors(kind: CoreKind) -> float:
    """Lanes of one core with what issues their instructions: on a GPU one for each thread, elsewhere for each lane, and
    none where arrays compute integers alone (INTEGER_LANE_TRANSISTORS), where a function that is said to take one pass
    has a table and a multiplier, about an fp32 unit (an estimate)."""
    lanes = kind.vector.lanes
    if kind.dispatch is not None:
        return lanes * FP32_TRANSISTORS + max(lanes, kind.dispatch.issue) * CONTROL_TRANSISTORS
    if kind.array is not None and all(dtype.startswith("int") for dtype in kind.array.rates):
        longer = (name for name, function in FUNCTIONS.items() if function.passes > 1)
        in_hardware = sum(kind.vector.passes_of(name) == 1 for name in longer)
        return lanes * (INTEGER_LANE_TRANSISTORS + in_hardware * FP32_TRANSISTORS)
    return lanes * (FP32_TRANSISTORS + CONTROL_TRANSISTORS)


def control_area_mm2(kind: CoreKind, technology: Technology) -> float:
    """Of the vector unit of one GPU core: what issues instructions to its threads. 0 for other cores, whose lanes have
    their control to themselves."""
    if kind.dispatch is None:
        return 0.0
    return technology.logic_area_mm2(kind.dispatch.issue * CONTROL_TRANSISTORS)


def _smaller(value: float, limit: float) -> float:
    """min of numbers, or of every entry of an array."""
    return (value + limit - abs(value - limit)) / 2


def _root(value: float) -> float:
    """Square root of a number, or of every entry of an array."""
    found: float = value**0.5
    return found
