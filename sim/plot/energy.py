"""Where the energy went: stacked bars by component, of the operators of one run or of several runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from sim.errors import InputError
from sim.plot.style import (
    COMPONENT_COLOURS,
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
"""Operators with a bar of their own, most energy first; the axis says what all the others take."""
_LEAST_INCHES = 2.4
"""Height of a figure of few bars: its legend needs that."""
_LONGEST = 30
"""Characters of a line of a bar's name."""
_LAYER = re.compile(r"^((?:encoder|decoder|text|image)\.)?\d+\.")
"""How the name of an operator of a transformer's layer begins."""
_COLUMN, _END = "energy_", "_j"
_OPTIONS = {
    "batch": None,
    "dtype": None,
    "weights": None,
    "inputs": 1,
    "partition": "auto",
    "dataflow": None,
    "phase": None,
    "seq": None,
    "kv": None,
    "new_tokens": None,
    "fidelity": "event",
}
"""Options that tell runs apart, with what they are where nothing was asked for."""


def plot_energy(report: Report | Sequence[Report], ax: Axes | None = None) -> Axes:
    """Energy by component, a horizontal bar for each of the operators that take most of it (one that runs several
    times, as in every decode step, has one bar, and so have those of a transformer that do the same in every layer); of
    several reports, one bar per run and of one item (inference,
    token). Raises InputError where there is no energy to show."""
    reports = [report] if isinstance(report, Report) else list(report)
    bars, rest = _operator_bars(reports[0]) if len(reports) == 1 else (_run_bars(reports), 0)
    totals = [sum(parts.values()) for _, parts in bars]
    if not sum(totals):
        raise InputError("no energy to draw: every component is 0")
    ax = axes_or_new(ax, 7.0, max(_LEAST_INCHES, 1.2 + 0.24 * len(bars)))
    factor, unit = readable_unit(max(totals), "energy")
    _draw(ax, bars, factor)
    ax.set_yticks(range(len(bars)), [_folded(name) for name, _ in bars], fontsize=8)
    ax.invert_yaxis()
    first = reports[0]
    left = format_quantity(float(first["energy_j"] or 0) - sum(totals), "energy")
    others = f"; {rest} other operators: {left}" if rest > 0 else ""
    ax.set_xlabel(f"energy ({unit}){others}")
    for row, total in enumerate(totals):
        text = format_quantity(total, "energy")
        ax.annotate(text, (total * factor, row), (3, 0), textcoords="offset points", va="center", fontsize=7)
    ax.set_xlim(0, 1.12 * max(totals) * factor)
    whose = f"{first['workload']} on {first['chip']}" if len(reports) == 1 else f"{len(reports)} runs"
    ax.set_title(f"{whose}: energy by component", fontsize=10)
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


def _operator_bars(report: Report) -> tuple[list[tuple[str, dict[str, float]]], int]:
    """The bars, and how many operators are in none of them."""
    ops = report.tables["ops"]
    columns = {
        name[len(_COLUMN) : -len(_END)]: np.array(values, np.float64)
        for name, values in ops.items()
        if name.startswith(_COLUMN) and name.endswith(_END) and len(name) > len(_COLUMN + _END)
    }
    stems = [_LAYER.sub(r"\1", str(name)) for name in ops["name"]]
    names, owner = np.unique(np.array(stems, np.str_), return_inverse=True)
    members: list[set[str]] = [set() for _ in names]
    for row, name in zip(owner.tolist(), ops["name"], strict=True):
        members[row].add(str(name))
    total = np.bincount(owner, np.array(ops["energy_j"], np.float64))
    summed = {name: np.bincount(owner, values) for name, values in columns.items()}
    order = np.argsort(-total, kind="stable")[:TOP]
    bars = []
    for row in order.tolist():
        several = len(members[row]) > 1
        label = f"{names[row]}, {len(members[row])} layers" if several else next(iter(members[row]))
        bars.append((label, by_group({name: float(values[row]) for name, values in summed.items()})))
    return bars, sum(map(len, members)) - sum(len(members[row]) for row in order.tolist())


def _folded(name: str) -> str:
    """A long name in two lines, broken at a comma where it has one."""
    head, comma, tail = name.partition(", ")
    if len(name) <= _LONGEST or not comma:
        return shortened(name, _LONGEST)
    return f"{shortened(head, _LONGEST)},\n{shortened(tail, _LONGEST)}"


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
    both; then options in which they differ, without those that were left as they are by default."""
    workloads, chips = ({str(one[key]) for one in among} for key in ("workload", "chip"))
    parts = [str(report["chip"])] if len(chips) > 1 or len(workloads) == 1 else []
    if len(workloads) > 1:
        parts.insert(0, str(report["workload"]))
    options = [one.manifest["options"] for one in among]
    own = report.manifest["options"]
    differing = [key for key in _OPTIONS if len({str(o.get(key)) for o in options}) > 1]
    parts += [f"{key} {own.get(key)}" for key in differing if own.get(key) not in (None, _OPTIONS[key])]
    return ", ".join(parts)
