"""What all figures share: colours that colour-blind readers can tell apart, and the Axes to draw on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito, "Color Universal Design", 2008. In figures: blue computes, orange moves data.
BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
VERMILION, SKY, GREY, LIGHT_GREY = "#D55E00", "#56B4E9", "#777777", "#BBBBBB"


def axes_or_new(ax: Axes | None, width_inches: float, height_inches: float) -> Axes:
    """`ax`, or the only Axes of a new figure. The figure is pyplot's, so that a notebook shows it."""
    if ax is not None:
        return ax
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(width_inches, height_inches), layout="constrained")[1]
