"""One metric of a study over two of its parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sim.errors import InputError
from sim.plot.pareto import require, with_numbers
from sim.plot.style import axes_or_new, label_of, parameter_name, text_on, value_text, words_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_MOST_TEXTS = 160
"""Cells of a larger map stay without their values."""


def plot_heatmap(
    table: pd.DataFrame, x: str, y: str, metric: str, ax: Axes | None = None, *, best: str = "min"
) -> Axes:
    """The best value of `metric` ("min" or "max") at every pair of values of two parameters, whatever the others are,
    of designs that hold the study's constraints. Cells without such a design stay white. Raises InputError for an
    unknown column, where `x` is `y`, or without values."""
    require(x, table, "parameter")
    require(y, table, "parameter")
    if x == y:
        raise InputError(f"heatmap: found {x} twice; expected two parameters")
    done = with_numbers(table, [metric])
    # Tables of one's own need say nothing of constraints.
    feasible = done["feasible"].to_numpy(bool) if "feasible" in done else np.ones(len(done), np.bool_)
    within = bool(feasible.any() and not feasible.all())
    places = [sorted(done[name].unique().tolist()) for name in (y, x)]
    done = done[feasible] if within else done
    cells: Any = done.groupby([y, x], sort=True)[metric].agg(best).unstack(x).reindex(places[0], columns=places[1])
    factor, label = label_of(metric, float(done[metric].abs().max()))
    values = cells.to_numpy(float)
    ax = axes_or_new(ax, max(4.0, 1.8 + 0.62 * values.shape[1]), max(3.0, 1.4 + 0.42 * values.shape[0]))
    image = ax.imshow(values * factor, cmap="cividis", aspect="auto", origin="lower")
    if values.size <= _MOST_TEXTS:
        _write(ax, values, factor, metric, image)
    ax.set_xticks(range(values.shape[1]), [value_text(x, v) for v in cells.columns], fontsize=8)
    ax.set_yticks(range(values.shape[0]), [value_text(y, v) for v in cells.index], fontsize=8)
    ax.set(xlabel=parameter_name(x), ylabel=parameter_name(y))
    figure = ax.get_figure()
    assert figure is not None
    figure.colorbar(image, ax=ax, label=label)
    several = len(done) > np.isfinite(values).sum()
    words = f"{'lowest' if best == 'min' else 'highest'} {words_of(metric)}" if several else words_of(metric)
    ax.set_title(f"{words} within the constraints" if within else words, fontsize=10)
    return ax


def _write(ax: Axes, values: Any, factor: float, metric: str, image: Any) -> None:
    from matplotlib.colors import to_hex

    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = text_on(to_hex(image.cmap(image.norm(value * factor))))
            ax.text(
                column, row, value_text(metric, value), ha="center", va="center", fontsize=7, color=colour
            )

