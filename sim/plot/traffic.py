"""Bytes moved at every level of the memory system."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.plot.style import BLUE, ORANGE, axes_or_new, readable_unit
from sim.report.report import Report
from sim.units import format_quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEVELS = (
    ("host link", ("host_bytes",), ()),
    ("other chips", ("chip_links_bytes",), ()),
    ("DRAM", ("dram_read_bytes",), ("dram_write_bytes",)),
    ("cache", ("cache_read_bytes",), ("cache_write_bytes",)),
    ("on-chip network\n(bytes × hops)", ("noc_bytes",), ()),
    ("scratchpads", ("sram_read_bytes",), ("sram_write_bytes",)),
    ("accumulators", ("accumulator_read_bytes",), ("accumulator_write_bytes",)),
)
"""Name, columns of `report.ops` that are read (or move only one way), columns that are written; farthest first."""


def plot_traffic(report: Report, ax: Axes | None = None) -> Axes:
    """Bytes read and written at every level that moves any, farthest from the arrays first, each with its size."""
    ops = report.ops
    rows: list[tuple[str, float, float, bool]] = []
    for name, read, written in LEVELS:
        inward, outward = (
            float(sum(ops[c].sum() for c in columns if c in ops)) for columns in (read, written)
        )
        if inward or outward:
            rows.append((name, inward, outward, bool(written)))
    ax = axes_or_new(ax, 7.0, 1.1 + 0.45 * len(rows))
    largest = max((max(inward, outward) for _, inward, outward, _ in rows), default=0.0)
    factor, unit = readable_unit(largest, "size")
    for row, (_, inward, outward, both) in enumerate(rows):
        shift = 0.19 if both else 0.0
        places = ((row - shift, inward, BLUE), (row + shift, outward, ORANGE))
        for y, amount, colour in places[: 1 + both]:
            ax.barh(y, amount * factor, 0.36, color=colour)
            text = format_quantity(amount, "size")
            ax.annotate(
                text, (amount * factor, y), (3, 0), textcoords="offset points", va="center", fontsize=7
            )
    ax.barh([0], [0], color=BLUE, label="read, or moved")
    ax.barh([0], [0], color=ORANGE, label="written")
    ax.set_yticks(range(len(rows)), [name for name, *_ in rows], fontsize=8)
    ax.invert_yaxis()
    ax.set_xlim(0, 1.15 * largest * factor if largest else 1)
    ax.set_xlabel(f"traffic of the whole run ({unit})")
    ax.set_title(f"{report['workload']} on {report['chip']}: memory traffic by level", fontsize=10)
    ax.legend(fontsize=8, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    return ax
