"""A chip drawn in text: the nodes of the interconnect with their cores, and the inside of a core."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from typing import TYPE_CHECKING

from sim.hw.core import CoreKind, Dtype
from sim.units import format_quantity

if TYPE_CHECKING:
    from sim.hw.chip import Chip

MAX_WIDTH = 148  # of the nodes drawn side by side; a wider network is wrapped row by row


def drawing(chip: Chip) -> str:
    """The chip as lines of text, at most about 100 columns wide."""
    parts = [_outside(chip), *_network(chip)]
    for kind in chip.cores:
        parts += ["", *_core_box(kind)]
    return "\n".join(parts)


def _outside(chip: Chip) -> str:
    dram, net = chip.dram, chip.interconnect
    total = f"{_size(dram.capacity_bytes)}, {_rate(dram.bandwidth_bytes_per_s)}"
    lines = [f"{chip.name}: {chip.technology}, {format_quantity(chip.clock_hz, 'frequency')}", ""]
    lines.append(f"  DRAM   {dram.device} on {dram.channels} channel{'s' * (dram.channels > 1)}, {total}")
    if chip.cache is not None:
        cache = chip.cache
        text = f"{_size(cache.size_bytes)}, {cache.ways} ways, {_rate(cache.bandwidth_bytes_per_s)}"
        lines.append(f"  cache  {text}, sliced over the memory ports")
    if chip.host is not None:
        latency = format_quantity(chip.host.latency_ps, "time_ps")
        lines.append(f"  host   {_rate(chip.host.bandwidth_bytes_per_s)}, {latency}")
    ports = f"{len(net.memory_ports)} memory ports of {_rate(net.port_bandwidth_bytes_per_s)}"
    hop = format_quantity(net.hop_latency_ps, "time_ps")
    links = f"links of {_rate(net.link_bandwidth_bytes_per_s)}, {hop} a hop; {ports}"
    if net.node_count > 1:
        lines.append(f"  {net.topology} {' x '.join(map(str, net.shape))}: {links}")
    lines.append("")
    return "\n".join(lines)


def _network(chip: Chip) -> list[str]:
    """Rows of boxes: the core's number and kind, M where memory joins, H where the host does."""
    net = chip.interconnect
    width = max(len(_label(chip, node)) for node in range(net.node_count)) + 2
    columns = net.shape[-1] if len(net.shape) == 2 else min(net.shape[0], MAX_WIDTH // (width + 5))
    rows = [range(i, min(i + columns, net.node_count)) for i in range(0, net.node_count, columns)]
    joint = " " if net.topology == "crossbar" else "-"
    lines: list[str] = []
    for number, row in enumerate(rows):
        edge = "   ".join("+" + "-" * width + "+" for _ in row)
        body = (joint * 3).join("|" + _label(chip, node).center(width) + "|" for node in row)
        lines += [f"  {edge}", f"  {body}", f"  {edge}"]
        if number + 1 < len(rows) and len(net.shape) == 2:
            lines.append("  " + "   ".join("|".center(width + 2) for _ in row).rstrip())
    lines.append(f"  {_legend(chip)}")
    return lines


def _label(chip: Chip, node: int) -> str:
    net = chip.interconnect
    core = f"{chip.kind_of_core(node).name} {node}" if node < chip.core_count else "-"
    marks = ("M" if node in net.memory_ports else "") + ("H" if chip.host and node == net.host_port else "")
    return f"{core} {marks}".strip()


def _legend(chip: Chip) -> str:
    ways = {"ring": "the ends are joined", "torus": "opposite edges are joined", "crossbar": "all are joined"}
    extra = ways.get(chip.interconnect.topology)
    host = "; H: host" if chip.host else ""
    return f"M: memory port{host}" + (f"; {extra}" if extra and chip.interconnect.node_count > 1 else "")


def _core_box(kind: CoreKind) -> list[str]:
    """The inside of a core, from the network to the array."""
    dma, sram, vector = kind.dma, kind.sram, kind.vector
    rows = [
        ("DMA", f"{dma.channels} x {_rate(dma.bandwidth_bytes_per_s)}, {dma.outstanding} outstanding"),
        ("SRAM", f"{_size(sram.size_bytes)}, {sram.banks} banks, {_rate(sram.bandwidth_bytes_per_s)}"),
        ("vector", f"{vector.lanes} lanes"),
    ]
    if kind.array is not None:
        array = kind.array
        rows.append(("array", f"{array.count} x {array.rows} x {array.cols} PEs, {array.dataflow}"))
        rows.append(("", f"MACs per PE and cycle: {_rates_text(array.rates)}"))
    if kind.accumulator is not None:
        store = kind.accumulator
        rows.append(("sums", f"{_size(store.size_bytes)}, {_rate(store.bandwidth_bytes_per_s)}"))
    body = [f"{name:<7}{text}" for name, text in rows]
    title = f" {kind.count} x {kind.name}, {format_quantity(kind.clock_hz, 'frequency')} "
    width = max(len(title) + 2, *(len(line) + 2 for line in body))
    top = "  +" + title.center(width, "-") + "+"
    return [top, *(f"  | {line.ljust(width - 2)} |" for line in body), "  +" + "-" * width + "+"]


def _rates_text(rates: Mapping[Dtype, float]) -> str:
    """{"int8": 1, "bf16": 1, "fp32": 0.25} as "bf16 int8 x1, fp32 x0.25"."""
    pairs = sorted(rates.items(), key=lambda item: (-item[1], item[0]))
    groups = groupby(pairs, key=lambda item: item[1])
    return ", ".join(f"{' '.join(dtype for dtype, _ in same)} x{rate:g}" for rate, same in groups)


def _rate(value: float) -> str:
    return format_quantity(value, "bandwidth")


def _size(value: int) -> str:
    return format_quantity(value, "size")
