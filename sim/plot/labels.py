"""Names of points, placed so that none covers another or what is already written in the figure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, cast

from sim.plot.style import GREY

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

PLACES = tuple(
    (x, y)
    for distance in (32, 48, 64)
    for x, y in ((10, -distance), (-10, -distance), (10, distance - 6), (-10, distance - 6))
)
"""Offsets of a name from its point in points of 1/72 inch, tried in this order."""
_GAP = 2.0
"""Pixels between two names at the least."""


def lay_out(ax: Axes) -> None:
    """Let the layout of the whole figure take effect: before it, places in pixels mean nothing."""
    cast("Figure", ax.get_figure(root=True)).draw_without_rendering()


def name_points(
    ax: Axes,
    points: Iterable[tuple[str, float, float]],
    most: int,
    written: Sequence[Artist] = (),
    lines: Sequence[Line2D] = (),
    size: float = 8,
) -> list[Annotation]:
    """Name at most `most` of the points (name, x, y), the first ones first, at the first place where the name stands
    inside the Axes and clear of `written`, of `lines` and of the names before. A point without such a place stays
    without.

    The figure must be complete but for the names, and laid out.
    """
    taken = [artist.get_window_extent() for artist in written]
    paths = [line.get_transform().transform_path(line.get_path()) for line in lines]
    inside = ax.get_window_extent()
    found: list[Annotation] = []
    for name, x, y in points:
        if len(found) == most:
            break
        for shift in PLACES:
            text = _annotation(ax, name, (x, y), shift, size)
            box = text.get_window_extent().padded(_GAP)
            crossed = any(path.intersects_bbox(box, filled=False) for path in paths)
            if _within(box, inside) and not crossed and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                found.append(text)
                break
            text.remove()
    return found


def _annotation(
    ax: Axes, name: str, place: tuple[float, float], shift: tuple[int, int], size: float
) -> Annotation:
    line = {"arrowstyle": "-", "color": GREY, "linewidth": 0.7}
    align = "left" if shift[0] > 0 else "right"
    text = ax.annotate(name, place, shift, textcoords="offset points", fontsize=size, ha=align, arrowprops=line)
    text.set_in_layout(False)  # the layout stays the one that the places were chosen in
    return text


def _within(box: Bbox, frame: Bbox) -> bool:
    return bool(box.x0 >= frame.x0 and box.x1 <= frame.x1 and box.y0 >= frame.y0 and box.y1 <= frame.y1)
