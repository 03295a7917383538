"""The designs of a study by two or three of their metrics, and its Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.errors import Diagnostic, InputError, did_you_mean
from sim.plot.style import BLUE, LIGHT_GREY, VERMILION, axes_or_new, label_of, words_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_LAYERS = (
    ("infeasible", LIGHT_GREY, "x", 12),
    ("dominated", "#9E9E9E", "o", 10),
    ("front", VERMILION, "o", 26),
)


@dataclass(frozen=True, slots=True)
class Limit:
    """A constraint to draw: values on the wrong side of `value` (base unit) are not wanted."""

    metric: str
    comparison: str
    value: float


def plot_pareto(
    table: pd.DataFrame, metrics: Sequence[str], ax: Axes | None = None, limits: Sequence[Limit] = ()
) -> Axes:
    """Designs by two metrics, or three on Axes of projection "3d": what is dominated grey, the front joined by a line
    where it is one of these two alone, infeasible designs as crosses, and shaded where a constraint on one of the
    metrics forbids to be.

    `table` is a study's: the front is the one of its objectives (`on_front`), whichever metrics are shown. Raises
    InputError for an unknown metric, for one without numbers, or where no design has all of them.
    """
    if len(metrics) not in (2, 3):
        raise InputError(f"pareto: found {len(metrics)} metrics; expected 2 or 3")
    done = with_numbers(table, metrics)
    flat = len(metrics) == 2
    if ax is None and not flat:
        from matplotlib import pyplot

        ax = pyplot.figure(figsize=(6.0, 5.0)).add_subplot(projection="3d")
    drawn: Any = axes_or_new(ax, 6.0, 4.2)
    scales = [label_of(metric, float(done[metric].abs().max())) for metric in metrics]
    front = done["on_front"].to_numpy(bool)
    feasible = done["feasible"].to_numpy(bool) | front
    look = {} if flat else {"depthshade": False}
    for (name, colour, marker, size), mask in zip(
        _LAYERS, (~feasible, feasible & ~front, front), strict=True
    ):
        if mask.any():
            places = [done.loc[mask, m] * factor for m, (factor, _) in zip(metrics, scales, strict=True)]
            label = f"{name} ({mask.sum():,})"
            drawn.scatter(*places, s=size, c=colour, marker=marker, label=label, linewidths=0.8, **look)
    for letter, (_, label) in zip("xyz", scales, strict=False):
        getattr(drawn, f"set_{letter}label")(label, fontsize=9)
    if flat:
        best = done[front].sort_values(metrics[0])
        xs, ys = (best[m] * factor for m, (factor, _) in zip(metrics, scales, strict=True))
        if ys.is_monotonic_decreasing or ys.is_monotonic_increasing:
            drawn.plot(xs, ys, color=VERMILION, linewidth=0.9, zorder=1, label="_front")
        _shade(drawn, metrics, [factor for factor, _ in scales], limits)
        drawn.spines[["top", "right"]].set_visible(False)
    else:
        from matplotlib.ticker import MaxNLocator

        drawn.tick_params(labelsize=7)
        for letter in "xyz":
            getattr(drawn, f"{letter}axis").set_major_locator(MaxNLocator(5))  # labels would touch
        drawn.set_box_aspect(None, zoom=0.9)  # the label of the third axis would be cut
    legend_above(drawn)
    drawn.set_title(f"{len(done):,} designs and their front", fontsize=10, pad=22)
    result: Axes = drawn
    return result


def _shade(ax: Any, metrics: Sequence[str], factors: Sequence[float], limits: Sequence[Limit]) -> None:
    """The sides that constraints forbid. Limits far outside what is shown do not stretch the axes."""
    for axis, metric, factor in zip("xy", metrics, factors, strict=True):
        low, high = getattr(ax, f"get_{axis}lim")()
        for limit in limits:
            at = limit.value * factor
            upper = limit.comparison.startswith("<")
            if limit.metric != metric or (at > high if upper else at < low):
                continue
            span = ax.axvspan if axis == "x" else ax.axhspan
            span(*((at, high) if upper else (low, at)), color=BLUE, alpha=0.08, zorder=0, label="_forbidden")
            line = ax.axvline if axis == "x" else ax.axhline
            line(at, color=BLUE, linewidth=0.9, linestyle="--", label=f"limit of {words_of(metric)}")
        getattr(ax, f"set_{axis}lim")(low, high)


def legend_above(ax: Any, columns: int = 4) -> None:
    """A legend above the Axes, where it covers no point."""
    ax.legend(
        fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns, frameon=False, columnspacing=1.2
    )


def with_numbers(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The rows that were evaluated and have a number in every one of `columns`.

    Raises InputError for an unknown column, for one without numbers, or where no row is left.
    """
    import pandas as pd

    if not (table["status"] == "ok").any():
        raise InputError(f"no design of this study has numbers, of {len(table):,}")
    for name in columns:
        require(name, table)
    numbers = {name: pd.to_numeric(table[name], errors="coerce").astype(float) for name in columns}
    found: pd.DataFrame = table.assign(**numbers)
    for name, values in numbers.items():
        if not np.isfinite(values).any():
            raise InputError(f"{name} has no numbers in this study")
    found = found.loc[np.isfinite(found[list(columns)].to_numpy()).all(axis=1)]
    if found.empty:
        raise InputError(f"no design of this study has {' and '.join(columns)}")
    return found


def require(name: str, columns: Mapping[str, object] | pd.DataFrame, what: str = "column") -> None:
    """Raises InputError, with the nearest name, where `name` is none of the columns."""
    if name not in columns:
        names = [str(column) for column in columns]
        hint = did_you_mean(name, names) or f"columns: {', '.join(names)}"
        raise InputError(Diagnostic(f"unknown {what} '{name}'", hint=hint))
