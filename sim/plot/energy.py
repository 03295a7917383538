"""Where the energy went: stacked bars by component, of the operators of one run or of several runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sim.errors import InputError
from sim.plot.style import (
    COMPONENT_COLOURS,
    GREY,
    GROUP_WORDS,
    axes_or_new,
    by_group,
    readable_unit,
    shortened,
)
from sim.report.report import Report
from sim.units import format_quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TOP = 12
"""Operators with a bar of their own, most energy first; a line says what all the others take."""
_COLUMN, _END = "energy_", "_j"
_OPTIONS = (
    "batch",
    "dtype",
    "inputs",
    "partition",
    "dataflow",
    "phase",
    "seq",
    "kv",
    "new_tokens",
    "fidelity",
)


def plot_energy(report: Report | Sequence[Report], ax: Axes | None = None) -> Axes:
    """Energy by component, a horizontal bar for each of the operators that take most of it; of several reports, one bar
    per run and of one item (inference, token). Raises InputError where there is no energy to show."""
    reports = [report] if isinstance(report, Report) else list(report)
    bars = _operator_bars(reports[0]) if len(reports) == 1 else _run_bars(reports)
    totals = [sum(parts.values()) for _, parts in bars]
    if not sum(totals):
        raise InputError("no energy to draw: every component is 0")
    ax = axes_or_new(ax, 7.0, 1.2 + 0.24 * len(bars))
    factor, unit = readable_unit(max(totals), "energy")
    _draw(ax, bars, factor)
    ax.set_yticks(range(len(bars)), [shortened(name, 30) for name, _ in bars], fontsize=8)
    ax.invert_yaxis()
    ax.set_xlabel(f"energy ({unit})")
    for row, total in enumerate(totals):
        text = format_quantity(total, "energy")
        ax.annotate(text, (total * factor, row), (3, 0), textcoords="offset points", va="center", fontsize=7)
    ax.set_xlim(0, 1.12 * max(totals) * factor)
    first = reports[0]
    whose = f"{first['workload']} on {first['chip']}" if len(reports) == 1 else f"{len(reports)} runs"
    ax.set_title(f"{whose}: energy by component", fontsize=10)
    rest = len(first.tables["ops"]["name"]) - len(bars)
    if len(reports) == 1 and rest > 0:
        left = format_quantity(float(first["energy_j"] or 0) - sum(totals), "energy")
        text = f"{rest} other operators: {left}"
        ax.text(0.98, 0.03, text, transform=ax.transAxes, ha="right", fontsize=7, color=GREY)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return ax


def _draw(ax: Axes, bars: Sequence[tuple[str, Mapping[str, float]]], factor: float) -> None:
    left = np.zeros(len(bars))
    for component in bars[0][1]:
        values = np.array([parts.get(component, 0.0) for _, parts in bars]) * factor
        if values.any():
            colour, label = COMPONENT_COLOURS[component], GROUP_WORDS[component]
            ax.barh(range(len(bars)), values, 0.72, left, color=colour, label=label)
            left += values


def _operator_bars(report: Report) -> list[tuple[str, dict[str, float]]]:
    ops = report.tables["ops"]
    columns = {
        name[len(_COLUMN) : -len(_END)]: np.array(values, np.float64)
        for name, values in ops.items()
        if name.startswith(_COLUMN) and name.endswith(_END) and len(name) > len(_COLUMN + _END)
    }
    order = np.argsort(-np.array(ops["energy_j"], np.float64), kind="stable")
    bars = [
        (str(ops["name"][row]), by_group({name: float(values[row]) for name, values in columns.items()}))
        for row in order[:TOP].tolist()
    ]
    return bars


def _run_bars(reports: Sequence[Report]) -> list[tuple[str, dict[str, float]]]:
    """One bar per run, of one item (inference, token): runs of different numbers of items stay comparable."""
    bars = []
    for report in reports:
        energy = report.tables["energy"]
        items = float(report["energy_j"] or 0) / float(report["energy_per_input_j"] or 1)
        parts = zip(energy["component"], energy["energy_j"], strict=True)
        bars.append((run_name(report, reports), by_group({name: amount / items for name, amount in parts})))
    return bars


def run_name(report: Report, among: Sequence[Report]) -> str:
    """What tells a run from the others: its chip where all run one model, its model where all use one chip, or
    both; then options in which they differ."""
    workloads, chips = ({str(one[key]) for one in among} for key in ("workload", "chip"))
    parts = [str(report["chip"])] if len(chips) > 1 or len(workloads) == 1 else []
    if len(workloads) > 1:
        parts.insert(0, str(report["workload"]))
    options = [one.manifest["options"] for one in among]
    own = report.manifest["options"]
    parts += [f"{key} {own.get(key)}" for key in _OPTIONS if len({str(o.get(key)) for o in options}) > 1]
    return ", ".join(parts)
