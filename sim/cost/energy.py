"""Energy of every operator: action counts and bytes times the energy of one action at the chip's process
node."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from sim.cost.traffic import Traffic
from sim.cost.transfers import Float64
from sim.errors import InputError
from sim.graph.tensor import DTYPE_BITS
from sim.hw.area import hop_length_mm
from sim.hw.chip import Chip
from sim.hw.core import CoreKind
from sim.hw.technology import Technology
from sim.hw.vector import FUNCTIONS
from sim.program import OpRow, Program, Segment

COMPONENTS = ("mac", "registers", "accumulator", "vector", "sram", "noc", "dram", "host", "static")
"""Where energy goes: multiply-accumulates; pipeline registers inside the arrays; partial sums; vector passes;
scratchpads; interconnect; DRAM device and interface; host link; leakage and idle clocks."""

_VECTOR_PREFIX = "vector_"

_COMPUTED_AS = {"bool": "int8", "int64": "int32"}
"""Masks take a byte, and indices never need more than 32 bits."""


def operator_energy(
    program: Program,
    segment: Segment,
    traffic: Traffic,
    chip: Chip,
    technology: Technology,
    static_j: Float64,
) -> dict[str, Float64]:
    """Joules by component (COMPONENTS) and operator in one run of the segment.

    `static_j` is the operator's share of idle power x time. A memory is charged by its bank: the scratchpad
    has `banks`, the accumulator one bank per array column. Raises InputError where something has no energy:
    nothing is free for want of a number.
    """
    kinds = _kinds(program, segment, chip)
    ops = list(zip(segment.ops, kinds, strict=True))
    return {
        "mac": _floats(_array_macs(op) * technology.mac_energy_j(op.dtype) for op in segment.ops),
        "registers": _floats(
            _register_bytes(op) * technology.register_energy_j_per_byte() for op in segment.ops
        ),
        "accumulator": _memory(
            technology,
            [_accumulator_bank_bytes(kind) for kind in kinds],
            traffic.accumulator_read_bytes,
            traffic.accumulator_write_bytes,
        ),
        "vector": _floats(_vector_j(op, kind, technology) for op, kind in ops),
        "sram": _memory(
            technology,
            [kind.sram.bank_bytes for kind in kinds],
            traffic.sram_read_bytes,
            traffic.sram_write_bytes,
        ),
        "noc": traffic.noc_bytes * technology.noc_energy_j_per_byte_hop(hop_length_mm(chip, technology)),
        "dram": traffic.dram_read_bytes * chip.dram.read_energy_j_per_byte
        + traffic.dram_write_bytes * chip.dram.write_energy_j_per_byte,
        "host": _host(traffic, chip),
        "static": static_j,
    }


def _floats(values: Iterable[float]) -> Float64:
    return np.array(list(values), np.float64)


def _array_macs(op: OpRow) -> float:
    """MACs on an array; the vector unit's are counted as its passes."""
    return 0.0 if op.mapping.get("unit") == "vector" else float(op.counts.get("macs", op.macs))


def _register_bytes(op: OpRow) -> float:
    """Bytes in and out of PE registers: each MAC passes on one operand and one partial sum (written, then
    read).

    The stationary operand is not charged: it is written once per fold. Systolic arrays as in Kung, "Why
    systolic architectures?", IEEE Computer 1982.
    """
    moved_bits = DTYPE_BITS[op.dtype] + DTYPE_BITS[op.accumulator_dtype] if _array_macs(op) else 0
    return 2 * _array_macs(op) * moved_bits / 8


def _vector_j(op: OpRow, kind: CoreKind, technology: Technology) -> float:
    """Passes of every element function times the energy of one pass of its class, in the operator's format;
    behind an array, in that of the sums."""
    dtype = op.accumulator_dtype if op.mapping.get("unit") == "array" else op.dtype
    dtype = _COMPUTED_AS.get(dtype, dtype)
    total = 0.0
    for name, elements in op.counts.items():
        if name.startswith(_VECTOR_PREFIX):
            function = name.removeprefix(_VECTOR_PREFIX)
            passes = kind.vector.passes_of(function)
            total += elements * passes * technology.vector_energy_j(FUNCTIONS[function].kind, dtype)
    return total


def _memory(technology: Technology, bank_bytes: list[int], reads: Float64, writes: Float64) -> Float64:
    banks = np.array(bank_bytes, np.float64)
    read_j = technology.sram_read_energy_j_per_byte(banks)
    return reads * read_j + writes * technology.sram_write_energy_j_per_byte(banks)


def _accumulator_bank_bytes(kind: CoreKind) -> int:
    """One bank per column of every array; a core without accumulator keeps its sums in the scratchpad."""
    if kind.accumulator is None or kind.array is None:
        return kind.sram.bank_bytes
    return max(1, kind.accumulator.size_bytes // (kind.array.cols * kind.array.count))


def _host(traffic: Traffic, chip: Chip) -> Float64:
    if chip.host is not None:
        return traffic.host_bytes * chip.host.energy_j_per_byte
    if traffic.host_bytes.any():
        raise InputError(f"bytes cross a host link that chip '{chip.name}' does not have")
    return np.zeros_like(traffic.host_bytes)


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
