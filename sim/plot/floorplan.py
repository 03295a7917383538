"""The die as a picture: rectangles as large as the components, in a square as large as the die.

A map of areas, not a layout: where things really lie is not modelled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sim.errors import InputError
from sim.plot.style import BLUE, GREEN, LIGHT_GREY, ORANGE, SKY, axes_or_new
from sim.report.words import AREA_WORDS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_COLOURS = {
    **dict.fromkeys(("arrays", "vector"), BLUE),
    **dict.fromkeys(("accumulators", "sram", "cache"), GREEN),
    **dict.fromkeys(("interconnect", "dma", "host_phy", "link_phy"), SKY),
    "dram_phy": ORANGE,
    "other": LIGHT_GREY,
}
LEAST_POINTS = 4.5
"""A rectangle that would need smaller letters has no name."""

Rectangle = tuple[float, float, float, float]
"""x, y, width, height."""


def plot_floorplan(area: pd.DataFrame, ax: Axes | None = None, *, title: str = "") -> Axes:
    """Components of a die by area, largest first from the lower left. `area` is `Report.area` or has its columns
    `component` and `area_mm2`. Raises InputError where there is nothing to draw."""
    rows = [(name, mm2) for name, mm2 in zip(area["component"], area["area_mm2"], strict=True) if mm2 > 0]
    if not rows:
        raise InputError("no component has an area to draw")
    rows.sort(key=lambda row: -row[1])
    ax = axes_or_new(ax, 4.6, 4.6)
    total = sum(mm2 for _, mm2 in rows)
    side = math.sqrt(total)
    figure = ax.get_figure(root=True)
    assert figure is not None
    box = ax.get_position()
    width_inches, height_inches = figure.get_size_inches()
    points_per_mm = 72 * min(box.width * width_inches, box.height * height_inches) / side
    for (name, mm2), (x, y, width, height) in zip(rows, tiled([mm2 for _, mm2 in rows], side), strict=True):
        colour = _COLOURS.get(name, LIGHT_GREY)
        ax.bar(
            x,
            height,
            width,
            y,
            align="edge",
            color=colour,
            edgecolor="white",
            linewidth=1.2,
            label=f"_{name}",
        )
        lines = [*AREA_WORDS.get(name, name).split(), f"{mm2:.3g} mm2"]
        size = _font_points(lines, width, height, points_per_mm)
        if size >= LEAST_POINTS:
            ax.text(
                *(x + width / 2, y + height / 2, "\n".join(lines)),
                ha="center",
                va="center",
                fontsize=size,
                color="white" if colour == BLUE else "black",
            )
    ax.set(xlim=(0, side), ylim=(0, side), xlabel="width (mm)", ylabel="height (mm)", aspect="equal")
    ax.set_title(f"{title or 'die'}: {total:.0f} mm2", fontsize=10)
    return ax


def _font_points(lines: Sequence[str], width_mm: float, height_mm: float, points_per_mm: float) -> float:
    """Size at which the lines fit into their rectangle: a letter is about 0.6 as wide as its line is high."""
    longest = max(len(line) for line in lines)
    return min(9.0, points_per_mm * min(width_mm / (0.6 * longest), height_mm / (1.25 * len(lines))))


def tiled(areas: Sequence[float], side: float) -> list[Rectangle]:
    """Rectangles of these areas (falling) that fill a square, as near to squares as a row at a time can be.

    Bruls, Huizing and van Wijk, "Squarified treemaps", 2000: a row takes areas for as long as its worst aspect ratio
    gets better, then the rest of the square is filled in the same way.
    """
    found: list[Rectangle] = []
    x, y, width, height = 0.0, 0.0, side, side
    start = 0
    while start < len(areas):
        short = min(width, height)
        stop = start + 1
        while stop < len(areas) and _worst(areas[start : stop + 1], short) <= _worst(
            areas[start:stop], short
        ):
            stop += 1
        thickness = sum(areas[start:stop]) / short
        along = 0.0
        for area in areas[start:stop]:
            length = area / thickness
            upright = (x, y + along, thickness, length)
            found.append(upright if width >= height else (x + along, y, length, thickness))
            along += length
        if width >= height:
            x, width = x + thickness, width - thickness
        else:
            y, height = y + thickness, height - thickness
        start = stop
    return found


def _worst(areas: Sequence[float], length: float) -> float:
    """The most elongated rectangle of a row along an edge of this length."""
    thickness = sum(areas) / length
    return max(max(area / thickness**2, thickness**2 / area) for area in areas)
