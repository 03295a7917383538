"""Parallel coordinates of a study: every design a line through its parameters and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sim.errors import InputError
from sim.plot.pareto import legend_above, require
from sim.plot.style import BLUE, LIGHT_GREY, VERMILION, axes_or_new, label_of, parameter_name, value_text
from sim.units import dimension_of_column

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_FEW = 6
"""A column of at most so many values has a tick for each."""


def plot_parallel(table: pd.DataFrame, columns: Sequence[str], ax: Axes | None = None) -> Axes:
    """Designs as lines through `columns`, each scaled to its own range with its ends named: infeasible grey, feasible
    blue, the front on top. Words are numbered in their order. Raises InputError for fewer than two columns, for an
    unknown one, or where nothing was evaluated."""
    from matplotlib.collections import LineCollection

    if len(columns) < 2:
        raise InputError(
            f"parallel: found {len(columns)} column{'s' * (len(columns) != 1)}; expected 2 or more"
        )
    done = table[table["status"] == "ok"]
    if done.empty:
        raise InputError(f"no design of this study has numbers, of {len(table):,}")
    for name in columns:
        require(name, table)
    ax = axes_or_new(ax, 1.0 + 1.05 * len(columns), 3.8)
    places = np.column_stack([_scaled(ax, number, name, done[name]) for number, name in enumerate(columns)])
    front = done["on_front"].to_numpy(bool)
    feasible = done["feasible"].to_numpy(bool)
    across = np.arange(len(columns), dtype=np.float64)
    for mask, colour, label, width, alpha in (
        (~feasible & ~front, LIGHT_GREY, "infeasible", 0.5, 0.3),
        (feasible & ~front, BLUE, "dominated", 0.5, 0.25),
        (front, VERMILION, "front", 1.1, 0.9),
    ):
        if mask.any():
            lines = [np.column_stack([across, row]) for row in places[mask]]
            text = f"{label} ({mask.sum():,})"
            ax.add_collection(LineCollection(lines, colors=colour, linewidths=width, alpha=alpha, label=text))
    for x in range(len(columns)):
        ax.axvline(x, color="black", linewidth=0.8)
    names = [_title(name, done[name]) for name in columns]
    ax.set_xticks(range(len(columns)), names, fontsize=7, rotation=22, ha="right")
    ax.set(xlim=(-0.25, len(columns) - 0.35), ylim=(-0.04, 1.04), yticks=[])
    ax.spines[["top", "right", "left", "bottom"]].set_visible(False)
    ax.set_title("", fontsize=10, pad=24)
    legend_above(ax)
    return ax


def _scaled(ax: Axes, x: int, name: str, column: pd.Series[Any]) -> npt.NDArray[np.float64]:
    """Values from 0 to 1, and the names of their ends (or of all, where they are few) beside the axis."""
    values = column.tolist()
    if all(isinstance(v, int | float) for v in values):
        known = sorted({float(v) for v in values if np.isfinite(v)})
        low, high = (known[0], known[-1]) if known else (0.0, 1.0)
        texts = [(v, value_text(name, v)) for v in (known if len(known) <= _FEW else [low, high])]
        found = np.array(values, np.float64)
    else:
        words = sorted(set(map(str, values)))
        low, high = 0.0, float(len(words) - 1)
        texts = [(float(number), word) for number, word in enumerate(words)]
        found = np.array([words.index(str(v)) for v in values], np.float64)
    width = high - low or 1.0
    shift = 0.5 if high == low else 0.0
    for value, text in texts:
        place = (x, (value - low) / width + shift)
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5}
        ax.annotate(text, place, (3, 0), textcoords="offset points", fontsize=6.5, va="center", bbox=box)
    return np.nan_to_num((found - low) / width + shift)


def _title(name: str, column: pd.Series[Any]) -> str:
    """The name; the unit stands beside the values where they have one of their own."""
    return parameter_name(name) if dimension_of_column(name) is not None else label_of(name, 1.0)[1]
