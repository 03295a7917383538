"""Several studies in one figure: the designs and the front of each, and single runs among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.errors import InputError
from sim.plot.pareto import legend_above, with_numbers
from sim.plot.style import SERIES, axes_or_new, label_of, shortened

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def plot_fronts(
    tables: Mapping[str, pd.DataFrame],
    metrics: Sequence[str],
    runs: Mapping[str, Mapping[str, Any]] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Designs by two metrics, a colour per study: those on its front large, and joined by a line where it is one of
    these two alone, feasible ones small and faint, infeasible ones left out. `runs` are stars: columns by name.

    `tables` are those of studies by the name that the legend gives them. Raises InputError for an unknown metric, for
    one without numbers in a study or a run, for more studies and runs than there are colours, and for fewer than two.
    """
    stars = dict(runs or {})
    count = len(tables) + len(stars)
    if not 2 <= count <= len(SERIES) or not tables:
        raise InputError(
            f"compare: found {len(tables)} studies and {len(stars)} runs; expected 2 to {len(SERIES)} in all"
        )
    if len(metrics) != 2:
        raise InputError(f"compare: found {len(metrics)} metrics; expected 2")
    done = {name: _numbers(name, table, metrics) for name, table in tables.items()}
    values = {name: [_number(name, columns, metric) for metric in metrics] for name, columns in stars.items()}
    ax = axes_or_new(ax, 6.4, 4.4)
    largest = [
        max([float(one[metric].abs().max()) for one in done.values()] + [abs(v[at]) for v in values.values()])
        for at, metric in enumerate(metrics)
    ]
    scales = [label_of(metric, most) for metric, most in zip(metrics, largest, strict=True)]
    factors = [factor for factor, _ in scales]
    for colour, (name, table) in zip(SERIES, done.items(), strict=False):
        _draw_study(ax, name, table, metrics, factors, colour)
    for colour, (name, place) in zip(SERIES[len(done) :], values.items(), strict=False):
        x, y = (value * factor for value, factor in zip(place, factors, strict=True))
        ax.scatter([x], [y], s=110, marker="*", c=colour, edgecolors="black", linewidths=0.5, zorder=4,
                   label=shortened(name, 40))  # fmt: skip
    ax.set_xlabel(scales[0][1], fontsize=9)
    ax.set_ylabel(scales[1][1], fontsize=9)
    whose = f"{len(done)} studies" if len(done) > 1 else next(iter(done))
    ax.set_title(f"fronts of {whose}", fontsize=10, pad=8 + 14 * (-(-count // 2)))
    legend_above(ax, 2)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _draw_study(
    ax: Axes, name: str, table: pd.DataFrame, metrics: Sequence[str], factors: Sequence[float], colour: str
) -> None:
    front = table["on_front"].to_numpy(bool)
    others = table["feasible"].to_numpy(bool) & ~front
    xs, ys = (table[metric].to_numpy(float) * factor for metric, factor in zip(metrics, factors, strict=True))
    ax.scatter(xs[others], ys[others], s=7, c=colour, alpha=0.25, linewidths=0, label="_others", zorder=1)
    label = f"{shortened(name, 40)} (front of {front.sum():,})"
    ax.scatter(xs[front], ys[front], s=26, c=colour, linewidths=0, label=label, zorder=3)
    order = np.argsort(xs[front], kind="stable")
    rises = np.diff(ys[front][order])
    if (rises <= 0).all() or (rises >= 0).all():
        ax.plot(xs[front][order], ys[front][order], color=colour, linewidth=0.9, zorder=2, label="_front")


def _numbers(name: str, table: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    try:
        return with_numbers(table, metrics)
    except InputError as error:
        raise InputError([_of(name, one) for one in error.diagnostics]) from error


def _of(name: str, one: Any) -> Any:
    from dataclasses import replace

    return replace(one, message=f"study '{name}': {one.message}")


def _number(name: str, columns: Mapping[str, Any], metric: str) -> float:
    value = columns.get(metric)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"run {name} has no {metric}")
    return float(value)
