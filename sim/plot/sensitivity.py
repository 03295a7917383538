"""What one more step of every parameter buys: a tornado."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sim.errors import InputError
from sim.plot.style import BLUE, GREY, ORANGE, axes_or_new, parameter_name, value_text, words_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


def plot_sensitivity(steps: pd.DataFrame, metric: str, ax: Axes | None = None) -> Axes:
    """Change of `metric` per step up of each parameter, all else equal: a bar to the median, whiskers from the least to
    the most (all three are written beside them), largest first; lower orange and higher blue.

    `steps` is from sim.explore.sensitivity.steps: parameter, first, last, values, median, low, high (shares of
    the value before). Raises InputError where it has no rows.
    """
    if steps.empty:
        raise InputError("no two designs of this study differ in one parameter alone; sample a grid")
    steps = steps.iloc[np.argsort(-steps["median"].abs().to_numpy(), kind="stable")]
    ax = axes_or_new(ax, 7.0, 1.2 + 0.36 * len(steps))
    median, low, high = (100 * steps[name].to_numpy(float) for name in ("median", "low", "high"))
    rows = np.arange(len(steps))
    ax.barh(rows, median, 0.62, color=[ORANGE if value < 0 else BLUE for value in median], label="_median")
    ax.errorbar(
        median,
        rows,
        xerr=[median - low, high - median],
        fmt="none",
        ecolor=GREY,
        elinewidth=1,
        capsize=3,
        label="_range",
    )
    ax.axvline(0, color="black", linewidth=0.8)
    names = [f"{parameter_name(str(row.parameter))}\n{_ladder(row)}" for row in steps.itertuples()]
    ax.set_yticks(rows, names, fontsize=7.5)
    ax.invert_yaxis()
    span = max(float(high.max()), 0.0) - min(float(low.min()), 0.0) or 1.0
    ax.set_xlim(min(float(low.min()), 0.0) - 0.05 * span, max(float(high.max()), 0.0) + 0.05 * span)
    for row, (value, most, least) in enumerate(zip(median, high, low, strict=True)):
        text = f"{_percent(value)} %\n({_percent(least)} to {_percent(most)})"
        place = (1.01, row)
        ax.text(*place, text, transform=ax.get_yaxis_transform(), va="center", fontsize=7, clip_on=False)
    ax.set_xlabel(f"change of {words_of(metric)} per step (%; bar: median, whiskers: range)")
    ax.set_title(f"what one more step of each parameter does to {words_of(metric)}", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _percent(value: float) -> str:
    return f"{value:+.3g}" if abs(value) >= 0.005 else "0"


def _ladder(row: Any) -> str:
    first, last = value_text(row.parameter, row.first), value_text(row.parameter, row.last)
    return f"{first} to {last}" if row.values == 2 else f"{row.values - 1} steps, {first} to {last}"
