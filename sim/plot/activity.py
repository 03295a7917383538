"""Utilisation and power over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sim.errors import InputError
from sim.plot.style import (
    COMPONENT_COLOURS,
    GREY,
    GROUP_WORDS,
    UNIT_COLOURS,
    UNIT_WORDS,
    VERMILION,
    axes_or_new,
    by_group,
    readable_unit,
)
from sim.report.report import Report

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_SUFFIX = "_utilization"
_ORDER = ("array", "vector", "dram", "cache", "port", "noc", "dma", "host", "chip_links")


def plot_utilization(report: Report, ax: Axes | None = None) -> Axes:
    """How busy arrays, vector units and every kind of link were, each as a strip from 0 to 100 % over time, with its
    mean. Drawn from `report.activity`; kinds without work are left out.

    Raises InputError for a closed form, which has no times.
    """
    activity = event_activity(report)
    kinds = [kind for kind in _ORDER if activity.get(f"{kind}{_SUFFIX}", np.zeros(1)).max() > 0]
    ax = axes_or_new(ax, 7.0, 0.9 + 0.42 * len(kinds))
    factor, unit = readable_unit(report.elapsed_s, "time")
    edges = np.append(activity["start_s"], activity["end_s"].iloc[-1]) * factor
    for row, kind in enumerate(kinds):
        share = activity[f"{kind}{_SUFFIX}"].to_numpy()
        floor = float(len(kinds) - 1 - row)
        ax.stairs(
            floor + 0.85 * share, edges, baseline=floor, fill=True, color=UNIT_COLOURS[kind], label=f"_{kind}"
        )
        for height in (floor, floor + 0.85):
            ax.axhline(height, color="#DDDDDD", linewidth=0.5, zorder=0)
        text = f"mean {share.mean():.0%}"
        ax.text(
            1.01, floor + 0.4, text, transform=ax.get_yaxis_transform(), va="center", fontsize=7, color=GREY
        )
    middles = [len(kinds) - 1 - row + 0.42 for row in range(len(kinds))]
    ax.set_yticks(middles, [UNIT_WORDS[kind] for kind in kinds], fontsize=8)
    ax.set(xlim=(0, edges[-1]), ylim=(-0.1, len(kinds)), xlabel=f"time ({unit})")
    ax.set_ylabel("utilisation, each 0 to 100 %", fontsize=8)
    ax.set_title(f"{report['workload']} on {report['chip']}: utilisation over time", fontsize=10)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    return ax


def event_activity(report: Report) -> pd.DataFrame:
    """`report.activity`; raises InputError for a closed form, which has none."""
    activity = report.activity
    if activity.empty:
        raise InputError("a closed form has no times; simulate with fidelity event")
    return activity


def plot_power(report: Report, ax: Axes | None = None) -> Axes:
    """Power by group of components over time, stacked, with the average, and the chip's power limit where it has one.
    Drawn from `report.power`; in a closed form every operator spends its energy evenly."""
    table = report.tables["power"]
    groups = by_group(
        {name[:-2]: np.array(v) for name, v in table.items() if name.endswith("_w") and name != "total_w"}
    )
    ax = axes_or_new(ax, 7.0, 3.4)
    factor, unit = readable_unit(report.elapsed_s, "time")
    watts, watt_unit = readable_unit(max(table["total_w"]), "power")
    edges = np.append(table["start_s"], table["end_s"][-1]) * factor
    floor = np.zeros(len(table["start_s"]))
    for group in reversed(groups):
        top = floor + groups[group] * watts
        if groups[group].any():
            ax.stairs(
                top,
                edges,
                baseline=floor,
                fill=True,
                color=COMPONENT_COLOURS[group],
                label=GROUP_WORDS[group],
            )
        floor = top
    average = float(report["power_w"] or 0) * watts
    ax.axhline(
        average, color="black", linewidth=1, linestyle="--", label=f"average, {average:.3g} {watt_unit}"
    )
    limit = report.values.get("power_limit_w")
    if isinstance(limit, int | float):
        text = f"limit of the chip, {limit * watts:.3g} {watt_unit}"
        ax.axhline(limit * watts, color=VERMILION, linewidth=1.2, label=text)
    ax.set(xlim=(0, edges[-1]), ylim=(0, None), xlabel=f"time ({unit})", ylabel=f"power ({watt_unit})")
    ax.set_title(f"{report['workload']} on {report['chip']}: power over time", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(
        handles[::-1], labels[::-1], fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False
    )
    return ax
