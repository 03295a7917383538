"""Warnings about a chip that is valid but lopsided: one part cannot feed another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sim.hw.core import DTYPE_BITS, Array, CoreKind
from sim.units import format_quantity

if TYPE_CHECKING:
    from sim.hw.chip import Chip

ACCUMULATOR_BYTES = 4  # int32 or fp32 partial sums


def check_chip(chip: Chip) -> list[str]:
    """One sentence per imbalance, with both numbers; [] for a balanced chip."""
    return [*_memory_warnings(chip), *(text for kind in chip.cores for text in _core_warnings(kind))]


def streamed_bytes_per_s(array: Array, clock_hz: int) -> float:
    """What the arrays of a core take from the scratchpad in steady state, for the hungriest dtype.

    `rows` operands a cycle and array when weights or inputs stay, `rows + cols` when outputs stay.
    """
    edge = array.rows + (array.cols if array.dataflow == "output_stationary" else 0)
    operand_bytes = max(DTYPE_BITS[dtype] / 8 * min(rate, 1.0) for dtype, rate in array.rates.items())
    return array.count * edge * operand_bytes * clock_hz


def partial_sum_bytes_per_s(array: Array, clock_hz: int) -> float:
    """What the arrays and the accumulator exchange: a partial sum per column and cycle, read and written."""
    return 2.0 * ACCUMULATOR_BYTES * array.cols * array.count * clock_hz


def _memory_warnings(chip: Chip) -> Iterator[str]:
    net, dram = chip.interconnect, chip.dram.bandwidth_bytes_per_s
    ports = len(net.memory_ports) * net.port_bandwidth_bytes_per_s
    if ports < dram:
        yield f"the memory ports carry {_rate(ports)} together, less than the {_rate(dram)} of the DRAM"
    if chip.cache is not None and chip.cache.bandwidth_bytes_per_s < dram:
        cache = chip.cache.bandwidth_bytes_per_s
        yield f"the cache ({_rate(cache)}) is slower than the DRAM behind it ({_rate(dram)})"
    if chip.cache is not None and not chip.cache.hashed and any(kind.dispatch for kind in chip.cores):
        yield "the cache is not hashed: rows a power of two apart share few of its sets, unlike a GPU's (cache.hashed)"
    pull = sum(kind.count * kind.dma.channels * kind.dma.bandwidth_bytes_per_s for kind in chip.cores)
    if pull < dram:
        yield f"all DMA channels together ({_rate(pull)}) cannot use the {_rate(dram)} of the DRAM"
    unused = net.node_count - chip.core_count
    if unused > 0 and net.topology != "crossbar":
        yield f"{unused} of {net.node_count} nodes of the {net.topology} hold no core"


def _core_warnings(kind: CoreKind) -> Iterator[str]:
    dma, sram = kind.dma, kind.sram.bandwidth_bytes_per_s
    if dma.channels < 2:
        yield f"core '{kind.name}' has one DMA channel: loads wait behind stores"
    if dma.channels * dma.bandwidth_bytes_per_s > sram:
        moved = _rate(dma.channels * dma.bandwidth_bytes_per_s)
        yield f"the DMA of core '{kind.name}' moves {moved}, more than its SRAM takes ({_rate(sram)})"
    if kind.array is None or kind.array.row_stationary is not None:
        # Row-stationary arrays reuse in the PEs what they stream, as far as the layer allows.
        return
    need = streamed_bytes_per_s(kind.array, kind.clock_hz)
    if need > sram:
        yield f"the arrays of core '{kind.name}' stream {_rate(need)}; its SRAM gives {_rate(sram)}"
    if kind.accumulator is None:
        yield f"core '{kind.name}' has no accumulator: partial sums go through its SRAM"
        return
    have, sums = kind.accumulator.bandwidth_bytes_per_s, partial_sum_bytes_per_s(kind.array, kind.clock_hz)
    if 2 * have < sums:
        yield f"the accumulator of core '{kind.name}' ({_rate(have)}) is far below its sums ({_rate(sums)})"


def _rate(value: float) -> str:
    return format_quantity(value, "bandwidth")
