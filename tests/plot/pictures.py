"""What a reader cannot read in a figure: texts that lie on each other or beyond its edge."""

from __future__ import annotations

import itertools

from matplotlib.axes import Axes
from matplotlib.text import Text


def covered(ax: Axes, gap: float = -1.0) -> list[tuple[str, ...]]:
    """Pairs of texts whose boxes overlap by more than a pixel, and single ones that are cut by the figure's edge.
    Turned texts are left out of the pairs: their boxes cover corners without ink."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    figure.canvas.draw()
    found: list[tuple[str, ...]] = []
    texts = [
        text
        for text in figure.findobj(Text)
        if isinstance(text, Text) and text.get_visible() and text.get_text().strip() and _shown(text, ax)
    ]
    boxes = [(text, text.get_window_extent()) for text in texts]
    edge = figure.bbox
    for text, box in boxes:
        if box.x0 < edge.x0 - 1 or box.x1 > edge.x1 + 1 or box.y0 < edge.y0 - 1 or box.y1 > edge.y1 + 1:
            found.append((text.get_text(),))
    level = [(text, box) for text, box in boxes if text.get_rotation() in (0.0, 90.0)]
    for (one, first), (other, second) in itertools.combinations(level, 2):
        if first.padded(gap).overlaps(second.padded(gap)):
            found.append((one.get_text(), other.get_text()))
    return found


def _shown(text: Text, ax: Axes) -> bool:
    """Ticks beyond the limits have labels that are never drawn."""
    figure = ax.get_figure(root=True)
    assert figure is not None
    for axes in figure.axes:
        for axis in filter(None, (axes.xaxis, axes.yaxis, getattr(axes, "zaxis", None))):
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                if text in (tick.label1, tick.label2):
                    low, high = sorted(axis.get_view_interval())
                    return bool(low <= tick.get_loc() <= high)
    return True
