"""Who worked when: a Gantt chart of the queues of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sim.errors import InputError
from sim.plot.style import UNIT_COLOURS, UNIT_WORDS, axes_or_new, readable_unit, shortened, text_on
from sim.report.report import Report
from sim.units import PS_PER_S

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MOST_ROWS = 26
"""Rows of one chart. Where there are more, the first cores stand for the others and the title says so."""
_ORDER = ("host", "port", "dispatch", "array", "vector", "load", "store", "send", "sync")
_CHARACTER = 0.0105
"""Width of a character of an operator's name, as a share of the axes."""
_FEWEST = 12
"""A name is not shortened to fewer characters: nobody could tell it from others."""
_HEIGHT, _THINNEST = 0.8, 0.06
"""Of a row that is busy all the time, and of the least that is drawn."""


def plot_timeline(report: Report, ax: Axes | None = None) -> Axes:
    """Stretches in which an operator had a queue, a row per core and unit (DMA channels of a core together), two shades
    taking turns by operator. The height is the share of the stretch in which the queue was busy: where many short
    tasks stand for one stretch, it is not full. Names stand where they fit, of operators that have most of it.
    Drawn from `report.timeline`.

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
    ax.set(xlim=(0, report.elapsed_s * factor), ylim=(len(rows) - 0.4, -0.6))
    ax.set_xlabel(f"time ({unit}); shades: operators in turn, height: share of the time that is busy")
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
    from matplotlib.collections import PolyCollection

    colour = UNIT_COLOURS[unit]
    turn = {op: index % 2 for index, op in enumerate(spans["op"].drop_duplicates())}
    held = spans["held_ps"] if "held_ps" in spans else spans["busy_ps"]  # folders of before have none
    share = (held / (spans["end_ps"] - spans["start_ps"])).clip(_THINNEST, 1.0)
    for shade, alpha in enumerate((0.95, 0.55)):
        mine = (spans["op"].map(turn) == shade).to_numpy()
        left, right = (spans.loc[mine, name].to_numpy(float) * per_ps for name in ("start_ps", "end_ps"))
        floor = np.full(len(left), number + _HEIGHT / 2)
        top = floor - _HEIGHT * share[mine].to_numpy()
        corners = np.stack([left, floor, left, top, right, top, right, floor], axis=1).reshape(-1, 4, 2)
        bars = PolyCollection(corners, facecolor=colour, alpha=alpha, linewidth=0, label=f"_{number}")  # type: ignore[arg-type]
        ax.add_collection(bars, autolim=False)
    if unit not in ("array", "vector"):
        return
    most = (2 * spans["busy_ps"] >= held) & (share > 0.5)
    for op, start_ps, end_ps in spans.loc[most, ["op", "start_ps", "end_ps"]].itertuples(index=False):
        room = int((end_ps - start_ps) * per_ps / width / _CHARACTER) - 1
        if room >= min(len(op), _FEWEST):
            middle = (start_ps + end_ps) / 2 * per_ps
            black = text_on(colour) if turn[op] == 0 else "black"
            ax.text(middle, number, shortened(op, room), ha="center", va="center", fontsize=5.5, color=black)
