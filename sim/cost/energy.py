"""Energy of every operator: action counts and bytes times the energy of one action, and power that flows all the
time.

Everything is linear: `action_energies` gives the coefficients of a chip and a kind of core, `idle_power_w` the watts
that flow whatever happens, and `operator_energy` multiplies them with what an operator does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import ArrayLike

from sim.cost.traffic import Traffic
from sim.cost.transfers import Float64
from sim.errors import InputError
from sim.graph.tensor import DTYPE_BITS
from sim.hw.area import (
    REGISTER_FILES,
    REGISTERS_PER_ACCUMULATOR,
    chip_area,
    control_area_mm2,
    core_area,
    hop_length_mm,
    logic_area_mm2,
    memory_bytes,
    memory_reach_mm,
)
from sim.hw.chip import Chip, Host
from sim.hw.core import CoreKind
from sim.hw.dram import refresh_power_w
from sim.hw.links import Links
from sim.hw.row_stationary import WORD_BYTES
from sim.hw.technology import REFERENCE_BITS, Technology
from sim.hw.vector import FUNCTIONS
from sim.program import Kind, OpRow, Program, Segment
from sim.units import PS_PER_S

IDLE = ("leakage", "clock", "dram_refresh", "dram_standby")
"""Components that take power for as long as the run lasts; `clock` takes more where units work."""

COMPONENTS = (
    *("mac", "registers", "accumulator", "vector", "control", "sram", "cache", "dma", "noc"),
    *("dram_activate", "dram_read", "dram_write", "dram_io", "host", "chip_links"),
    *IDLE,
)
"""Where energy goes: multiply-accumulates; pipeline registers inside the arrays; partial sums (on a GPU the register
files, by matrix instructions); vector passes (on a GPU with the registers that they read and write);
instructions and descriptors; scratchpads; cache; DMA buffers; interconnect; the DRAM's rows opened, reads, writes and
interface; host link; links to other chips; leakage; clocks; the DRAM's refresh and standby."""

ON_DRAM = ("dram_activate", "dram_read", "dram_write", "dram_refresh", "dram_standby")
"""Components that heat the DRAM and not the chip."""

TASK_INSTRUCTIONS = 16
"""Estimate: instructions of a sequencer that set up one transfer or one tile (addresses, strides, waits)."""

CACHE_BANK_BYTES = 512 << 10
"""Estimate: a slice of a large cache is built of banks of this size."""

NARROWEST_BANK_BITS = 32
"""A word of the banks of GPUs, the narrowest that any of our chips is known to have."""

_VECTOR_PREFIX = "vector_"

REGISTER_BANKS = 2
"""Of a register file of a GPU (sim/hw/area.py)."""

REGISTER_BYTES = 4
"""A thread's register: it holds an element of whatever type the lanes compute in."""

REGISTERS_READ = {"add": 2, "mul": 2, "compare": 2, "multiply_add": 3, "move": 1}
"""Operands that a thread's instruction fetches, by the class of its function; it writes one register."""

COMPUTED_AS = {"bool": "int8", "int64": "int32"}
"""Masks take a byte, and indices never need more than 32 bits."""


@dataclass(frozen=True, slots=True)
class ActionEnergies:
    """Joules of one action on a chip, as seen from one kind of core.

    Memories include the wires between their banks and their users. `array_clock_w` and `vector_clock_w` flow in
    one core's arrays and vector unit while they are held, on top of `idle_power_w`. `pe_*` are the scratchpads of
    row-stationary PEs. `awake_clock_w` flows in a GPU's core as long as it has blocks of threads, which wait for loads
    more often than not: its schedulers and load units look for one that may go on. `pipeline_*` is a register of an
    array, whose clock is in `array_clock_w` or idle power.
    """

    sram_read_j_per_byte: float
    sram_write_j_per_byte: float
    accumulator_read_j_per_byte: float
    accumulator_write_j_per_byte: float
    cache_read_j_per_byte: float
    cache_write_j_per_byte: float
    register_j_per_byte: float
    pipeline_j_per_byte: float
    instruction_j: float
    noc_j_per_byte_hop: float
    dram_activation_j: float
    dram_read_j_per_byte: float
    dram_write_j_per_byte: float
    dram_io_j_per_byte: float
    host_j_per_byte: float | None
    pe_input_j_per_byte: float
    pe_filter_j_per_byte: float
    pe_sum_j_per_byte: float
    pe_transfer_j_per_byte: float
    array_clock_w: float
    vector_clock_w: float
    awake_clock_w: float


def action_energies(chip: Chip, kind: CoreKind, technology: Technology) -> ActionEnergies:
    """The coefficients of a chip's actions; those of arithmetic are `technology.mac_energy_j` and `vector_energy_j`.

    A memory is charged by its bank: the scratchpad has `banks`, each as wide as its share of the bandwidth, but no
    narrower than 32 bit (where 27 banks share 16 B a cycle, a few of them are read, and not 5 bit of each); the
    accumulator one bank per array column. From bank to user a byte travels half the side of the whole memory. On a GPU
    the accumulator stands for the register files (`_accumulators`). Where parameters are arrays, one entry per design,
    so are the coefficients.
    """
    sram, area = kind.sram, core_area(kind, technology)
    bits = np.maximum(8 * sram.bandwidth_bytes_per_s / (sram.banks * kind.clock_hz), NARROWEST_BANK_BITS)
    wire = technology.wire_energy_j_per_byte(memory_reach_mm(area["sram"]))

    def read(bank_bytes: float, width_bits: ArrayLike = REFERENCE_BITS) -> float:
        return cast(float, technology.sram_read_energy_j_per_byte(bank_bytes, width_bits)[()])

    def write(bank_bytes: float, width_bits: ArrayLike = REFERENCE_BITS) -> float:
        return cast(float, technology.sram_write_energy_j_per_byte(bank_bytes, width_bits)[()])

    cache_read_j, cache_write_j = _cache_j_per_byte(chip, technology)
    control_mm2 = control_area_mm2(kind, technology)
    gated_w = chip.clock_gating * technology.clock_w(1.0, kind.clock_hz)
    accumulator_bank, accumulator_bits, accumulator_wire = _accumulators(kind, technology)
    return ActionEnergies(
        sram_read_j_per_byte=read(sram.bank_bytes, bits) + wire,
        sram_write_j_per_byte=write(sram.bank_bytes, bits) + wire,
        accumulator_read_j_per_byte=read(accumulator_bank, accumulator_bits) + accumulator_wire,
        accumulator_write_j_per_byte=write(accumulator_bank, accumulator_bits) + accumulator_wire,
        cache_read_j_per_byte=cache_read_j,
        cache_write_j_per_byte=cache_write_j,
        register_j_per_byte=technology.register_energy_j_per_byte(),
        pipeline_j_per_byte=technology.pipeline_energy_j_per_byte(),
        instruction_j=technology.instruction.value,
        noc_j_per_byte_hop=technology.noc_energy_j_per_byte_hop(hop_length_mm(chip, technology)),
        dram_activation_j=chip.dram.activation_energy_j,
        dram_read_j_per_byte=chip.dram.read_energy_j_per_byte,
        dram_write_j_per_byte=chip.dram.write_energy_j_per_byte,
        dram_io_j_per_byte=chip.dram.io_energy_j_per_byte,
        host_j_per_byte=None if chip.host is None else chip.host.energy_j_per_byte,
        **_pe_energies(kind, technology),
        array_clock_w=gated_w * area["arrays"],
        vector_clock_w=gated_w * (area["vector"] - control_mm2),
        awake_clock_w=awake_clock_w(chip, kind, technology),
    )


def _cache_j_per_byte(chip: Chip, technology: Technology) -> tuple[float, float]:
    """J per byte read from the cache, and written: a bank as wide as a line, the wire to it, and the tags of the line's
    set, of which every access reads those of all ways. 0 without a cache.

    A100, 128 B lines in 16 ways: 464 bit of tags, of a bank of 15 KiB, are 0.03 pJ/bit beside 0.45.
    """
    cache = chip.cache
    if cache is None:
        return 0.0, 0.0
    line, bits = cache.line_bytes, cache.tag_bits
    wire = technology.wire_energy_j_per_byte(memory_reach_mm(chip_area(chip, technology)["cache"]))
    tag_bank_bytes = CACHE_BANK_BYTES / line * bits / 8
    tag = technology.sram_read_energy_j_per_byte(tag_bank_bytes, cache.ways * bits) * cache.ways * bits / 8 / line
    read = technology.sram_read_energy_j_per_byte(CACHE_BANK_BYTES, 8 * line)
    written = technology.sram_write_energy_j_per_byte(CACHE_BANK_BYTES, 8 * line)
    return cast(float, (read + tag + wire)[()]), cast(float, (written + tag + wire)[()])


def idle_power_w(chip: Chip, technology: Technology) -> dict[str, float]:
    """Watts by component (IDLE) of a chip that has its clocks on and nothing to do.

    Leakage of logic by area and of memories by capacity; the clock of all logic less what gating saves; the DRAM's
    refresh and standby.
    """
    logic_mm2 = logic_area_mm2(chip, technology)
    ungated = 1.0 - chip.clock_gating
    return {
        "leakage": technology.leakage_w(logic_mm2, memory_bytes(chip)),
        "clock": ungated * technology.clock_w(logic_mm2, chip.clock_hz),
        "dram_refresh": refresh_power_w(chip.dram),
        "dram_standby": chip.dram.channels * chip.dram.standby_power_w,
    }


def operator_energy(
    program: Program,
    segment: Segment,
    traffic: Traffic,
    chip: Chip,
    technology: Technology,
    elapsed_s: Float64,
) -> dict[str, Float64]:
    """Joules by component (COMPONENTS) and operator in one run of the segment.

    `elapsed_s` is the operator's share of the run: it pays the idle power for it. Raises InputError where something
    has no energy: nothing is free for want of a number.
    """
    kinds = _kinds(program, segment, chip)
    different = {kind.name: kind for kind in kinds}
    by_kind = {name: action_energies(chip, kind, technology) for name, kind in different.items()}
    each = [by_kind[kind.name] for kind in kinds]
    idle_w = idle_power_w(chip, technology)

    def rate(name: str) -> Float64:
        return np.array([getattr(energies, name) for energies in each], np.float64)

    vector = [_vector(op, kind, technology, own) for op, kind, own in zip(segment.ops, kinds, each, strict=True)]
    instructions = _floats(count for _, count in vector) + TASK_INSTRUCTIONS * _tasks(segment)
    moved = traffic.dram_read_bytes + traffic.dram_write_bytes
    busy_j = rate("array_clock_w") * held_s(program, segment, "array")
    busy_j += rate("vector_clock_w") * held_s(program, segment, "vector")
    busy_j += awake_j(program, segment, chip, technology, elapsed_s)
    return {
        "mac": _floats(_mac_j(op, technology) for op in segment.ops),
        "registers": _floats(_registers_j(op, own) for op, own in zip(segment.ops, each, strict=True)),
        "accumulator": traffic.accumulator_read_bytes * rate("accumulator_read_j_per_byte")
        + traffic.accumulator_write_bytes * rate("accumulator_write_j_per_byte"),
        "vector": _floats(joules for joules, _ in vector),
        "control": instructions * rate("instruction_j"),
        "sram": traffic.sram_read_bytes * rate("sram_read_j_per_byte")
        + traffic.sram_write_bytes * rate("sram_write_j_per_byte"),
        "cache": traffic.cache_read_bytes * rate("cache_read_j_per_byte")
        + traffic.cache_write_bytes * rate("cache_write_j_per_byte"),
        # Every byte is written to a buffer of the engine and read from it.
        "dma": 2 * traffic.dma_bytes * rate("register_j_per_byte"),
        "noc": traffic.noc_bytes * rate("noc_j_per_byte_hop"),
        "dram_activate": row_activations_of(segment, traffic, chip) * rate("dram_activation_j"),
        "dram_read": traffic.dram_read_bytes * rate("dram_read_j_per_byte"),
        "dram_write": traffic.dram_write_bytes * rate("dram_write_j_per_byte"),
        "dram_io": moved * rate("dram_io_j_per_byte"),
        "host": _linked(traffic.host_bytes, chip.host, f"a host link that chip '{chip.name}' does not have"),
        # Each chip pays both ends for what it sends, and nothing for what it receives.
        "chip_links": _linked(
            traffic.chip_links_bytes, chip.links, f"links to other chips that chip '{chip.name}' does not have"
        ),
        **{name: idle_w[name] * elapsed_s for name in IDLE},
        "clock": idle_w["clock"] * elapsed_s + busy_j,
    }


def awake_j(
    program: Program, segment: Segment, chip: Chip, technology: Technology, elapsed_s: Float64
) -> Float64:
    """Joules by operator of the clocks of GPU cores that have threads, working or waiting: part of its "clock", from
    the end of its launch on the cores that take part. 0 of other chips."""
    gated_w = {kind.name: awake_clock_w(chip, kind, technology) for kind in chip.cores}
    if not any(gated_w.values()):
        return np.zeros(len(segment.ops))
    watts = [gated_w[kind.name] for kind in _kinds(program, segment, chip)]
    cores = [float(op.mapping.get("cores", 0)) for op in segment.ops]
    at_work_s = np.maximum(0.0, elapsed_s - held_s(program, segment, "dispatch"))
    return np.asarray(_floats(watts) * _floats(cores) * at_work_s)


def awake_clock_w(chip: Chip, kind: CoreKind, technology: Technology) -> float:
    """Watts of the clock of what issues instructions in one core of a GPU, beyond those that flow anyhow."""
    return chip.clock_gating * technology.clock_w(control_area_mm2(kind, technology), kind.clock_hz)


def held_s(program: Program, segment: Segment, unit: str) -> Float64:
    """Seconds by operator for which the units of this sort are held, summed over the cores."""
    of_unit = np.array([queue.unit == unit for queue in program.queues], np.bool_)[segment.queue]
    ticks = np.bincount(segment.op[of_unit], weights=segment.hold[of_unit], minlength=len(segment.ops))
    return np.asarray(ticks / PS_PER_S, np.float64)


def row_activations_of(segment: Segment, traffic: Traffic, chip: Chip) -> Float64:
    """DRAM rows opened by operator: as its tasks' patterns have it (see sim/hw/dram.py); of an operator that has no
    pattern (a host transfer) one row after another. What the cache keeps from the DRAM opens none, and write-backs as
    many as the transfers that cause them."""
    moved = traffic.dram_read_bytes + traffic.dram_write_bytes
    counted = [op.counts.get("dram_row_activations") for op in segment.ops]
    sequential = moved / chip.dram.row_bytes
    share = np.ones(len(moved))
    if segment.probes is not None:
        planned = np.bincount(segment.op, weights=segment.nbytes, minlength=len(moved))
        share = np.divide(moved, planned, out=share, where=planned > 0)
    pairs = zip(counted, share.tolist(), sequential.tolist(), strict=True)
    return _floats(whole if count is None else count * part for count, part, whole in pairs)


def chip_power_w(power_w: Mapping[str, float], interface_share: float) -> float:
    """Watts of the package without its DRAM, from watts by component, with this share of the interface
    (`chip_share_of_interface`)."""
    others = sum(w for name, w in power_w.items() if name not in ON_DRAM)
    return others - power_w["dram_io"] * (1.0 - interface_share)


def _tasks(segment: Segment) -> Float64:
    """Tasks that a sequencer sets up: transfers and computation, by operator."""
    return np.bincount(segment.op[segment.kind != Kind.BARRIER], minlength=len(segment.ops)).astype(
        np.float64
    )


def _floats(values: Iterable[float]) -> Float64:
    return np.array(list(values), np.float64)


def _array_macs(op: OpRow) -> float:
    """MACs on an array; the vector unit's are counted as its passes."""
    return 0.0 if op.mapping.get("unit") == "vector" else float(op.counts.get("macs", op.macs))


def _switched_macs(op: OpRow) -> float:
    """MACs on an array that take energy: all but those gated for a zero."""
    return float(op.counts.get("switched_macs", _array_macs(op)))


def _mac_j(op: OpRow, technology: Technology) -> float:
    """Joules of an operator's MACs on an array. Without any, its format (of an index, say) may be none of arrays."""
    macs = _switched_macs(op)
    return macs * technology.mac_energy_j(COMPUTED_AS.get(op.dtype, op.dtype)) if macs else 0.0


def _pe_energies(kind: CoreKind, technology: Technology) -> dict[str, float]:
    """Scratchpads of a row-stationary PE, memories of 16-bit words (sums: as many reads as writes), and the way of a
    word to a PE: out of a register, over buses that cross half of the array, into a register. 0 for other arrays, which
    have none. At 65 nm a transfer is 1.9 multiply-accumulates (Chen et al., ISCA 2016: 2)."""
    names = ("pe_input", "pe_filter", "pe_sum", "pe_transfer")
    rows = kind.array.row_stationary if kind.array is not None else None
    if rows is None or kind.array is None:
        return {f"{name}_j_per_byte": 0.0 for name in names}
    width = 8 * WORD_BYTES

    def read(words: int) -> float:
        return float(technology.sram_read_energy_j_per_byte(words * WORD_BYTES, width))

    sums = read(rows.sum_words) * (1 + technology.sram_write_over_read.value) / 2
    across_mm = memory_reach_mm(core_area(kind, technology)["arrays"])
    passed = 2 * technology.register_energy_j_per_byte() + technology.wire_energy_j_per_byte(across_mm)
    values = (read(rows.input_words), read(rows.filter_words), sums, passed)
    return {f"{name}_j_per_byte": value for name, value in zip(names, values, strict=True)}


def _registers_j(op: OpRow, energies: ActionEnergies) -> float:
    """Pipeline registers of a systolic array; scratchpads and links of row-stationary PEs."""
    if "pe_sum_bytes" not in op.counts:
        return _register_bytes(op) * energies.pipeline_j_per_byte
    return (
        op.counts["pe_input_bytes"] * energies.pe_input_j_per_byte
        + op.counts["pe_filter_bytes"] * energies.pe_filter_j_per_byte
        + op.counts["pe_sum_bytes"] * energies.pe_sum_j_per_byte
        + op.counts["pe_transfer_bytes"] * energies.pe_transfer_j_per_byte
    )


def _register_bytes(op: OpRow) -> float:
    """Bytes into PE registers: each MAC passes on one operand and one partial sum.

    The energy is that of the new value; the register's clock belongs to the array's clock, which runs while the array
    is held, and what it drives to the arithmetic. The stationary operand is not charged: it is written once per fold.
    Systolic arrays as in Kung, "Why systolic architectures?", IEEE Computer 1982.
    """
    moved_bits = DTYPE_BITS[op.dtype] + DTYPE_BITS[op.accumulator_dtype] if _array_macs(op) else 0
    return _array_macs(op) * moved_bits / 8


def _vector(op: OpRow, kind: CoreKind, technology: Technology, own: ActionEnergies) -> tuple[float, float]:
    """Joules of the passes of every element function, in the operator's format (behind an array, in that of the
    sums), and the instructions they take: one for a pass of all lanes.

    On a GPU every pass, and every instruction that is there for an access, fetches its operands from the registers and
    writes its result there. At 45 nm that is 30 pJ for a multiply-add, and 2 for its share of the instruction; Dally
    (Trends in Deep Learning Hardware, 2023) has 30 for fetch, decode and operands.
    """
    dtype = op.accumulator_dtype if op.mapping.get("unit") == "array" else op.dtype
    dtype = COMPUTED_AS.get(dtype, dtype)
    joules = passes = 0.0
    if kind.dispatch is not None:
        passes = op.counts.get("access_instructions", 0.0)
        joules = passes * (technology.vector_energy_j("add", "int32") + operand_fetch_j("add", own))
    for name, elements in op.counts.items():
        if name.startswith(_VECTOR_PREFIX):
            function = name.removeprefix(_VECTOR_PREFIX)
            count = elements * kind.vector.passes_of(function)
            passes += count
            joules += count * technology.vector_energy_j(FUNCTIONS[function].kind, dtype)
            if kind.dispatch is not None:
                joules += count * operand_fetch_j(FUNCTIONS[function].kind, own)
    return joules, passes / kind.vector.lanes


def operand_fetch_j(function_class: str, own: ActionEnergies) -> float:
    """Joules of the registers that a thread of a GPU reads and writes for one pass of a function of this class."""
    read = REGISTERS_READ[function_class] * own.accumulator_read_j_per_byte
    return REGISTER_BYTES * (read + own.accumulator_write_j_per_byte)


def _accumulators(kind: CoreKind, technology: Technology) -> tuple[int, ArrayLike, float]:
    """(bytes of a bank, bits of an access, J per byte of wire) of where a core keeps its sums. On a GPU these are its
    register files, of which each gives an operand of all threads that it is issued an instruction for."""
    if kind.dispatch is None or kind.accumulator is None:
        return _accumulator_bank_bytes(kind), REFERENCE_BITS, 0.0
    file_bytes = REGISTERS_PER_ACCUMULATOR * kind.accumulator.size_bytes // REGISTER_FILES
    reach_mm = memory_reach_mm(core_area(kind, technology)["accumulators"] / REGISTER_FILES)
    bits = 8 * REGISTER_BYTES * kind.dispatch.issue // REGISTER_FILES
    return max(1, file_bytes // REGISTER_BANKS), bits, technology.wire_energy_j_per_byte(reach_mm)


def _accumulator_bank_bytes(kind: CoreKind) -> int:
    """One bank per column of every array; a core without accumulator keeps its sums in the scratchpad."""
    if kind.accumulator is None or kind.array is None:
        return kind.sram.bank_bytes
    banks = kind.array.cols * kind.array.count
    return cast(int, np.maximum(1, kind.accumulator.size_bytes // banks))


def _linked(sent_bytes: Float64, link: Host | Links | None, missing: str) -> Float64:
    """Joules of what crosses a link off the chip; raises InputError, which names it as `missing`, without one."""
    if link is not None:
        return sent_bytes * link.energy_j_per_byte
    if sent_bytes.any():
        raise InputError(f"bytes cross {missing}")
    return np.zeros_like(sent_bytes)


def _kinds(program: Program, segment: Segment, chip: Chip) -> list[CoreKind]:
    """The kind of core that most tasks of each operator run on; the first kind for an operator without
    tasks."""
    core = np.array([queue.core for queue in program.queues], np.int64)[segment.queue]
    first_core = np.cumsum([0, *(kind.count for kind in chip.cores)])
    on_core = core >= 0
    kind = np.searchsorted(first_core, core[on_core], side="right") - 1
    cells = segment.op[on_core].astype(np.int64) * len(chip.cores) + kind
    tasks = np.bincount(cells, minlength=len(segment.ops) * len(chip.cores)).reshape(-1, len(chip.cores))
    return [chip.cores[i] for i in tasks.argmax(axis=1)]
