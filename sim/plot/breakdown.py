"""Where the time and the energy of a run went, as two stacked bars."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from sim.errors import InputError
from sim.plot.style import (
    BLUE,
    COMPONENT_COLOURS,
    COMPONENT_GROUPS,
    GREY,
    ORANGE,
    SKY,
    UNIT_COLOURS,
    VERMILION,
    axes_or_new,
    text_on,
)
from sim.report.report import Report
from sim.report.words import ENERGY_WORDS, critical_steps
from sim.units import PS_PER_S, format_quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LEAST_SHARE = 0.045
"""A smaller part of a bar joins "everything else": its name would not fit."""
CAUSE_COLOURS: Mapping[str, str] = {
    "compute": BLUE,
    "bandwidth": ORANGE,
    "contention": VERMILION,
    "latency": SKY,
    "release": GREY,
}
_REST = "#EFEFEF"
"""Of everything else: the colour of no component."""
Part = tuple[str, float, str]
"""Name, amount (s or J) and colour."""


def plot_time_energy(report: Report, ax: Axes | None = None) -> Axes:
    """The critical path by cause and the energy by component: two bars of 100 %, parts in falling order.

    Blue (arrays) and green (vector units) compute; the other colours of the upper bar are the bandwidth and
    latency of transfers and the sharing of links. Components have the colours of their groups in every figure. Raises
    InputError for a closed form, which has no critical path.
    """
    if not report.overlap_ps:
        raise InputError("a closed form has no critical path to draw; simulate with fidelity event")
    ax = axes_or_new(ax, 7.0, 3.6)
    time = [
        (f"{what} {cause}", duration / PS_PER_S, step_colour(what, cause))
        for what, cause, duration in critical_steps(report.tables["critical_path"])
    ]
    energy = report.tables["energy"]
    parts = zip(energy["component"], energy["energy_j"], strict=True)
    joules = [
        (ENERGY_WORDS[name], amount, COMPONENT_COLOURS[COMPONENT_GROUPS[name]]) for name, amount in parts
    ]
    _bar(ax, 1.3, time, f"time\n{format_quantity(_sum(time), 'time')}")
    _bar(ax, 0.0, joules, f"energy\n{format_quantity(_sum(joules), 'energy')}")
    ax.set(xlim=(0, 100), ylim=(-0.3, 2.3), xlabel="share (%)", yticks=[])
    ax.set_title(f"{report['workload']} on {report['chip']}: where time and energy went", fontsize=10)
    ax.spines[["top", "left", "right"]].set_visible(False)
    return ax


def step_colour(what: str, cause: str) -> str:
    """Colour of a part of the critical path: computing has that of its unit, moving that of its cause, launches have
    their own."""
    if cause == "launch":
        return UNIT_COLOURS["dispatch"]
    return UNIT_COLOURS[what] if cause == "compute" and what in UNIT_COLOURS else CAUSE_COLOURS[cause]


def _bar(ax: Axes, y: float, parts: Iterable[Part], name: str) -> None:
    """One stacked bar, the share in every part and its name aslant above it."""
    parts = list(parts)
    total, left = _sum(parts), 0.0
    for label, amount, colour in _merged(parts, LEAST_SHARE * total):
        share = 100 * amount / total
        ax.barh(y, share, 0.42, left, color=colour, edgecolor="white", label=f"_{label}")
        middle = left + share / 2
        ax.text(middle, y, f"{share:.0f}", ha="center", va="center", fontsize=8, color=text_on(colour))
        ax.text(middle, y + 0.24, label, rotation=40, rotation_mode="anchor", fontsize=8)
        left += share
    ax.text(-1.5, y, name, ha="right", va="center", fontsize=9)


def _merged(parts: Iterable[Part], least: float) -> list[Part]:
    """Parts of at least `least`, largest first, then the others together."""
    falling = sorted(parts, key=lambda part: -part[1])
    large = [part for part in falling if part[1] >= least]
    rest = _sum(falling[len(large) :])
    return [*large, ("everything else", rest, _REST)] if rest else large


def _sum(parts: Iterable[Part]) -> float:
    return sum(amount for _, amount, _ in parts)
