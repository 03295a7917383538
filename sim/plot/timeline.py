"""Who worked when: a Gantt chart of the queues of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.errors import InputError
from sim.plot.style import UNIT_COLOURS, UNIT_WORDS, axes_or_new, readable_unit, shortened, text_on
from sim.report.report import Report
from sim.units import PS_PER_S

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MOST_ROWS = 26
"""Rows of one chart. Where there are more, the first cores stand for the others and the title says so."""
_ORDER = ("host", "port", "array", "vector", "load", "store", "send", "sync")
_CHARACTER = 0.0105
"""Width of a character of an operator's name, as a share of the axes."""


def plot_timeline(report: Report, ax: Axes | None = None) -> Axes:
    """Stretches in which an operator had a queue, a row per core and unit (DMA channels of a core together), two shades
    taking turns by operator. Names stand where they fit. Drawn from `report.timeline`.

    Raises InputError for a closed form, which has no timeline.
    """
    spans = report.timeline
    if spans.empty:
        raise InputError("a closed form has no timeline; simulate with fidelity event")
    spans = spans[spans["unit"] != "sync"].assign(order=lambda t: t["unit"].map(_ORDER.index))
    rows = spans[["core", "order", "unit"]].drop_duplicates().sort_values(["core", "order"])
    shown = _shown_cores(rows)
    rows = rows[rows["core"].isin(shown)].reset_index(drop=True)
    ax = axes_or_new(ax, 7.0, 1.0 + 0.2 * len(rows))
    factor, unit = readable_unit(report.elapsed_s, "time")
    for number, (core, order, kind) in enumerate(rows.itertuples(index=False)):
        mine = spans[(spans["core"] == core) & (spans["order"] == order)]
        _draw_row(ax, number, str(kind), mine, factor / PS_PER_S, report.elapsed_s * factor)
    names = [_row_name(core, str(kind)) for core, _, kind in rows.itertuples(index=False)]
    ax.set_yticks(range(len(rows)), names, fontsize=7)
    ax.set(xlim=(0, report.elapsed_s * factor), ylim=(len(rows) - 0.4, -0.6), xlabel=f"time ({unit})")
    cores = spans.loc[spans["core"] >= 0, "core"].nunique()
    of = f", {len(shown) - (-1 in shown)} of {cores} cores" if len(shown) - (-1 in shown) < cores else ""
    ax.set_title(f"{report['workload']} on {report['chip']}: timeline{of}", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _shown_cores(rows: pd.DataFrame) -> list[int]:
    """As many cores as fit, at least one; -1 is what belongs to no core."""
    shown: list[int] = []
    height = 0
    for core, count in rows.groupby("core").size().items():
        if len(shown) > 1 and height + count > MOST_ROWS:
            break
        shown.append(int(str(core)))
        height += int(count)
    return shown


def _row_name(core: int, unit: str) -> str:
    return f"core {core} {UNIT_WORDS[unit].rstrip('s')}" if core >= 0 else UNIT_WORDS[unit]


def _draw_row(ax: Axes, number: int, unit: str, spans: pd.DataFrame, per_ps: float, width: float) -> None:
    """The stretches of one row; operators take turns in two shades."""
    colour = UNIT_COLOURS[unit]
    turn = {op: index % 2 for index, op in enumerate(spans["op"].drop_duplicates())}
    for shade, alpha in enumerate((0.95, 0.55)):
        mine = spans[spans["op"].map(turn) == shade]
        bars = list(zip(mine["start_ps"] * per_ps, (mine["end_ps"] - mine["start_ps"]) * per_ps, strict=True))
        ax.broken_barh(
            bars, (number - 0.4, 0.8), facecolor=colour, alpha=alpha, linewidth=0, label=f"_{number}"
        )
    if unit not in ("array", "vector"):
        return
    for op, start_ps, end_ps in spans[["op", "start_ps", "end_ps"]].itertuples(index=False):
        room = int((end_ps - start_ps) * per_ps / width / _CHARACTER) - 1
        if room >= min(len(op), 6):
            middle = (start_ps + end_ps) / 2 * per_ps
            black = text_on(colour) if turn[op] == 0 else "black"
            ax.text(middle, number, shortened(op, room), ha="center", va="center", fontsize=5.5, color=black)
