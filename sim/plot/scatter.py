"""Predicted against measured times."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sim.plot.style import BLUE, GREEN, GREY, LIGHT_GREY, ORANGE, PURPLE, SKY, VERMILION, axes_or_new

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

BAND = 0.25
"""Relative error up to which points lie inside the grey band."""

_COLOURS = {
    "matmul": BLUE,
    "norm": ORANGE,
    "softmax": GREEN,
    "unary": PURPLE,
    "binary": VERMILION,
    "copy": SKY,
}
_MARKERS = {"launch": "o", "compute": "^", "memory": "s"}


def plot_predicted_measured(points: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Every row of `points` (family, regime, measured_s, predicted_s) on logarithmic axes in microseconds. Colour is
    the family, shape what limits the operator; the line is a perfect prediction, the band 25 % on either side."""
    ax = axes_or_new(ax, 5.2, 4.6)
    low = 1e6 * float(min(points["measured_s"].min(), points["predicted_s"].min())) * 0.7
    high = 1e6 * float(max(points["measured_s"].max(), points["predicted_s"].max())) * 1.4
    ends = [low, high]
    ax.fill_between(
        ends,
        [end * (1 - BAND) for end in ends],
        [end * (1 + BAND) for end in ends],
        color=LIGHT_GREY,
        alpha=0.4,
        linewidth=0,
        label=f"within {BAND:.0%}",
    )
    ax.plot(ends, ends, color=GREY, linewidth=0.8)
    for (family, regime), group in points.groupby(["family", "regime"], sort=False):
        ax.scatter(
            1e6 * group["measured_s"],
            1e6 * group["predicted_s"],
            s=9,
            marker=_MARKERS.get(str(regime), "D"),
            color=_COLOURS.get(str(family), GREY),
            alpha=0.6,
            linewidths=0,
            label=f"{family}, {regime} ({len(group)})",
        )
    ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    ax.set_xlabel("measured (us)")
    ax.set_ylabel("predicted (us)")
    ax.legend(fontsize=7, loc="upper left", frameon=False, markerscale=1.6)
    return ax
