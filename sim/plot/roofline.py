"""The roofline of a run: every operator between the roofs of the DRAM and of the arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from sim.hw.chip import Chip, chip_from_dict
from sim.plot.labels import lay_out, name_points
from sim.plot.style import BLUE, GREEN, GREY, ORANGE, PURPLE, axes_or_new, rate_text
from sim.report.report import Report
from sim.report.roofline import peak_macs_per_s

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.text import Annotation

LARGEST_POINT = 150.0
"""Area of the point of the longest operator, in square points; the others in proportion to their time."""
SMALLEST_POINT = 7.0
"""But no smaller than this, which can be seen."""
NAMED = 3
"""At most so many operators are named in the figure, longest first."""
APART = 3.0
"""An operator within this factor, on both axes, of one that is named stays without a name: the two would overlap."""
_NAME_AND_PLACE = ("name", "macs_per_dram_byte", "achieved_macs_per_s")
_GROUPS = {
    "array": ("arrays", "o", BLUE),
    "dram": ("DRAM bandwidth", "s", ORANGE),
    "vector": ("vector units", "^", GREEN),
}
_OTHERS = ("cache, DMA or on-chip link", "D", PURPLE)


@dataclass(frozen=True, slots=True)
class _Roofs:
    """DRAM bytes per second, and MACs per second of all arrays by number format, highest first."""

    bytes_per_s: float
    macs_per_s: dict[str, float]

    @property
    def ridge(self) -> float:
        """MACs per byte where the highest roofs meet."""
        return max(self.macs_per_s.values()) / self.bytes_per_s


def plot_roofline(report: Report, ax: Axes | None = None) -> Axes:
    """Operators by MACs per DRAM byte and MACs per second while active, on logarithmic axes (Williams et al.,
    "Roofline", CACM 2009).

    Roofs: the peak bandwidth of the DRAM and the peak of all arrays at each number format that the run uses.
    Areas of points are proportional to the operators' time on the critical path; colour and shape say which
    resource sets the operator's bound. An operator without MACs or DRAM traffic has no place on these axes:
    a line says how much of the time is shown. One point is one row of `report.ops`.
    """
    ax = axes_or_new(ax, 6.0, 4.2)
    ops = report.ops
    total_s = ops["time_s"].sum()
    ops = ops[(ops["macs"] > 0) & (ops["macs_per_dram_byte"] > 0)]
    roofs = _roofs(chip_from_dict(report.manifest["configuration"]), ops)
    _draw_points(ax, ops)
    ax.set(xscale="log", yscale="log")
    _limit(ax, ops, roofs)
    *arrays, dram = _draw_roofs(ax, roofs)
    ax.set_xlabel("arithmetic intensity (MAC per DRAM byte)")
    ax.set_ylabel("MAC/s while the operator is active")
    ax.set_title(f"{report['workload']} on {report['chip']}: distance from the roofs", fontsize=10, pad=22)
    shown = (
        f"{len(ops)} operators with MACs, {ops['time_s'].sum() / total_s:.0%} of the time\n"
        "colour: what bounds it, area: its time"
    )
    note = ax.text(0.98, 0.03, shown, transform=ax.transAxes, ha="right", fontsize=8, color=GREY)
    # Above the Axes, where it covers no point and no roof.
    legend = ax.legend(
        fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, frameon=False, columnspacing=1.2
    )
    for handle in legend.legend_handles:
        cast("PathCollection", handle).set_sizes([40.0])
    ax.grid(which="major", color="#EEEEEE")
    ax.set_axisbelow(True)
    lay_out(ax)
    _turn(ax, dram, roofs)
    name_points(ax, _longest(ops), NAMED, [*arrays, dram, note], ax.lines)
    return ax


def _roofs(chip: Chip, ops: pd.DataFrame) -> _Roofs:
    peaks = {dtype: peak_macs_per_s(chip, dtype) for dtype in ops["dtype"].unique()}
    able = {dtype: peak for dtype, peak in peaks.items() if peak}
    highest_first = dict(sorted(able.items(), key=lambda item: -item[1]))
    return _Roofs(float(chip.dram.bandwidth_bytes_per_s), highest_first)


def _draw_points(ax: Axes, ops: pd.DataFrame) -> None:
    """One collection per resource that bounds operators, in a fixed order, labelled for the legend."""
    largest_s = ops["time_s"].max()
    known = ops["bound_by"].where(ops["bound_by"].isin(list(_GROUPS)), "")
    for kind, (label, marker, colour) in {**_GROUPS, "": _OTHERS}.items():
        group: Any = ops[known == kind]
        if len(group):
            ax.scatter(
                group["macs_per_dram_byte"],
                group["achieved_macs_per_s"],
                s=np.maximum(SMALLEST_POINT, LARGEST_POINT * group["time_s"] / largest_s),
                marker=marker,
                color=colour,
                edgecolors="white",
                linewidths=0.6,
                alpha=0.8,
                label=label,
                zorder=3,
            )


def _limit(ax: Axes, ops: pd.DataFrame, roofs: _Roofs) -> None:
    """Room for all points, the ridge, and the names above the highest roof."""
    intensity, speed = ops["macs_per_dram_byte"], ops["achieved_macs_per_s"]
    ax.set_xlim(min(intensity.min(), roofs.ridge) / 2, max(intensity.max(), roofs.ridge) * 3)
    ax.set_ylim(speed.min() / 6, max(roofs.macs_per_s.values()) * 4)


def _draw_roofs(ax: Axes, roofs: _Roofs) -> list[Annotation]:
    """The lines; their names, that of the DRAM last and still level."""
    left, right = ax.get_xlim()
    found = []
    for dtype, peak in roofs.macs_per_s.items():
        ridge = peak / roofs.bytes_per_s
        ax.plot([max(left, ridge), right], [peak, peak], color="black", linewidth=1.2, label="_arrays")
        text = f"arrays, {dtype}: {rate_text(peak, 'MAC/s')}"
        found.append(
            ax.annotate(text, (right, peak), (-4, 3), textcoords="offset points", ha="right", fontsize=8)
        )
    diagonal = np.array([left, roofs.ridge])
    ax.plot(diagonal, diagonal * roofs.bytes_per_s, color="black", linewidth=1.2, label="_dram")
    middle = float(np.sqrt(diagonal[0] * diagonal[1]))
    text = f"DRAM: {rate_text(roofs.bytes_per_s, 'B/s')}"
    place = (middle, middle * roofs.bytes_per_s)
    name = ax.annotate(text, place, (-3, 3), textcoords="offset points", ha="center", fontsize=8)
    name.set_rotation_mode("anchor")
    return [*found, name]


def _turn(ax: Axes, name: Annotation, roofs: _Roofs) -> None:
    """Turn the name of the DRAM's roof along it, once it is known how steep it is drawn."""
    low = ax.get_xlim()[0]
    ends = ax.transData.transform([(x, x * roofs.bytes_per_s) for x in (low, roofs.ridge)])
    across, up = ends[1] - ends[0]
    angle = float(np.degrees(np.arctan2(up, across)))
    name.set_rotation(angle)
    # Four points from the line, at a right angle to it.
    name.xyann = (-4 * float(np.sin(np.radians(angle))), 4 * float(np.cos(np.radians(angle))))


def _longest(ops: pd.DataFrame) -> list[tuple[str, float, float]]:
    """Name and place of operators, longest first, without those that lie near one before them."""
    found: list[tuple[str, float, float]] = []
    for name, *place in ops.nlargest(len(ops), "time_s")[list(_NAME_AND_PLACE)].itertuples(index=False):
        x, y = map(float, place)
        if not any(_near(x, other_x) and _near(y, other_y) for _, other_x, other_y in found):
            found.append((str(name), x, y))
    return found


def _near(a: float, b: float) -> bool:
    return 1 / APART < a / b < APART
