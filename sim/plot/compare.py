"""Runs side by side: chips on one model, models on one chip, or one run before and after a change."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sim.errors import InputError
from sim.plot.energy import run_name
from sim.plot.style import GREY, SERIES, axes_or_new, label_of, words_of
from sim.report.report import Report
from sim.units import dimension_of_column, format_quantity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

METRICS = (
    "latency_s", "throughput_per_s", "energy_per_input_j", "power_w", "area_mm2", "array_utilization",
    "tops_per_w", "dram_read_bytes",
)  # fmt: skip


_WIDE = 2**10
"""Ratios that span more are shown by powers of ten."""
_TICKS = 7
_LINE, _MARK = 80, 8
"""Characters of a line of the legend, and what its mark and the space around it take of them."""


def plot_compare(reports: Sequence[Report], ax: Axes | None = None, metrics: Sequence[str] = METRICS) -> Axes:
    """Every metric of every run as a ratio to the first run's, on a logarithmic axis, its own value beside it.

    A metric that the first run does not have (or that is 0) is left out. Raises InputError for fewer than two
    runs or more than there are colours, and where no metric is left.
    """
    if not 2 <= len(reports) <= len(SERIES):
        raise InputError(
            f"compare: found {len(reports)} run{'s' * (len(reports) != 1)}; expected 2 to {len(SERIES)}"
        )
    shown = [metric for metric in metrics if all(_number(report, metric) for report in reports)]
    if not shown:
        raise InputError(f"compare: no run has a value of {', '.join(metrics)}")
    ax = axes_or_new(ax, 7.0, 1.1 + (0.17 * len(reports) + 0.12) * len(shown))
    step = 0.8 / len(reports)
    for series, report in enumerate(reports):
        places = [row + step * (series - (len(reports) - 1) / 2) for row in range(len(shown))]
        ratios = [_number(report, metric) / _number(reports[0], metric) for metric in shown]
        label = run_name(report, reports) or f"run {series + 1}"
        ax.hlines(places, 1.0, ratios, color=SERIES[series], linewidth=1.5)
        ax.plot(ratios, places, "o", color=SERIES[series], markersize=5, label=label)
        for metric, ratio, place in zip(shown, ratios, places, strict=True):
            side, align = ((6, "left"), (-6, "right"))[ratio < 1]
            text = _value(_number(report, metric), metric)
            ax.annotate(
                text, (ratio, place), (side, 0), textcoords="offset points", ha=align, va="center", fontsize=7
            )
    _finish(ax, reports, shown)
    return ax


def _finish(ax: Axes, reports: Sequence[Report], shown: Sequence[str]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

    ratios = [_number(report, m) / _number(reports[0], m) for report in reports for m in shown]
    base = 2 if max(ratios) / min(ratios) < _WIDE else 10
    ax.set_xscale("log", base=base)
    room = max(1.5, (max(ratios) / min(ratios)) ** 0.28)  # for the values beside the points
    limits = (min(ratios) / room, max(ratios) * room)
    ax.set_xlim(limits)
    first, last = (math.log(limit, base) for limit in limits)
    step = math.ceil((last - first) / _TICKS)
    powers = range(math.ceil(first / step) * step, math.floor(last) + 1, step)  # 1 among them
    ax.xaxis.set_major_locator(FixedLocator([float(base) ** power for power in powers]))
    ax.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:,.0f}×" if value >= 1 else f"1/{1 / value:,.0f}×")
    )
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.axvline(1.0, color=GREY, linewidth=0.8, zorder=0)
    ax.set_yticks(
        range(len(shown)), [words_of(metric) if dimension_of_column(metric) else _plain(metric) for metric in shown]
    )
    ax.tick_params(axis="y", labelsize=8)
    ax.set_ylim(len(shown) - 0.5, -0.5)
    for row in range(1, len(shown)):
        ax.axhline(row - 0.5, color="#EEEEEE", linewidth=0.8, zorder=0)
    ax.set_xlabel(f"ratio to {run_name(reports[0], reports) or 'the first run'}")
    workloads, chips = ({str(one[key]) for one in reports} for key in ("workload", "chip"))
    both = [f"{' and '.join(names)}" for names in (workloads, chips) if len(names) == 1]
    longest = max(len(run_name(one, reports)) for one in reports)
    columns = max(1, min(len(reports), _LINE // (longest + _MARK)))
    rows = -(-len(reports) // columns)
    ax.set_title(f"comparison{' of ' + ' on '.join(both) if both else ''}", fontsize=10, pad=8 + 13 * rows)
    ax.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns, frameon=False)
    ax.spines[["top", "right", "left"]].set_visible(False)


def _plain(metric: str) -> str:
    return label_of(metric, 1.0)[1].partition(" (")[0]


def _number(report: Report, metric: str) -> float:
    """A positive number, or 0 where there is none."""
    if metric not in report.values:
        from sim.errors import Diagnostic, did_you_mean

        raise InputError(Diagnostic(f"unknown metric '{metric}'", hint=did_you_mean(metric, report.values)))
    value = report.values[metric]
    return float(value) if isinstance(value, int | float) and value > 0 else 0.0


def _value(value: float, metric: str) -> str:
    dimension = dimension_of_column(metric)
    if dimension is not None:
        return format_quantity(value, dimension)
    factor, label = label_of(metric, value)
    unit = label.partition("(")[2].rstrip(")")
    shown = value * factor
    return f"{shown:,.0f} {unit}".rstrip() if shown >= 1000 else f"{shown:.3g} {unit}".rstrip()
