"""What a study asks of its points: report columns, constraints on them, objectives, and a mix of workloads."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from sim.errors import did_you_mean
from sim.units import DIMENSIONS, UnitError, dimension_of_column, format_quantity, parse

Direction = Literal["min", "max"]
Amount = TypeVar("Amount", float, npt.NDArray[np.float64])
Metrics = Mapping[str, Any]
"""Columns of a report's summary by their JSON keys."""

_MORE_IS_BETTER = ("_per_s", "_per_w", "_utilization", "_hit_rate")
_OF_TIME = ("array_utilization", "cache_hit_rate")
_OF_PASSES = ("time_to_first_token_s", "time_per_output_token_s")
_COMPARE = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}
_CONSTRAINT = re.compile(r"\s*([A-Za-z_][\w.:-]*)\s*(<=|>=|<|>)\s*(.+?)\s*")


@dataclass(frozen=True, slots=True)
class Objective:
    """A column to make small or large. Studies list them in the order that breaks ties."""

    metric: str
    direction: Direction = "min"

    def loss(self, value: Amount) -> Amount:
        """The value as something to minimise."""
        return -value if self.direction == "max" else value

    def __str__(self) -> str:
        return f"{self.metric} ({self.direction})"


@dataclass(frozen=True, slots=True)
class Constraint:
    """A limit on a column, in its base unit: power_w <= 75. A value that is missing does not hold it."""

    metric: str
    comparison: Literal["<=", ">=", "<", ">"]
    limit: float
    text: str

    def holds(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Which values have no violation; those that are no number have one."""
        found: npt.NDArray[np.bool_] = _COMPARE[self.comparison](values, self.limit)
        return found

    def violation(self, value: float | None) -> float:
        """How far beyond the limit, as a share of it; 0 where the constraint holds, infinity without a value."""
        if value is None or math.isnan(value):
            return math.inf
        beyond = value - self.limit if self.comparison[0] == "<" else self.limit - value
        if beyond < 0 or (beyond == 0 and len(self.comparison) == 2):
            return 0.0
        return max(beyond / (abs(self.limit) or 1.0), 1e-12)

    def at_violation(self, violation: float) -> float:
        """The value that is so far beyond the limit."""
        beyond = violation * (abs(self.limit) or 1.0)
        return self.limit + (beyond if self.comparison[0] == "<" else -beyond)


@cache
def known_metrics() -> tuple[str, ...]:
    """The numeric columns of a report, as one of a tiny GEMM has them, and those of text generation."""
    from sim.pipeline import simulate

    values = simulate("gemm:8x8x8", "tiny", dtype="int8", fidelity="bound").values
    words = {"engine", *(name for name, value in values.items() if isinstance(value, str))}  # here there is no engine
    return (*(name for name in values if name not in words), *_OF_PASSES)


def bound_metrics(say: Callable[[str], None] | None = None) -> tuple[str, ...]:
    """The columns that the bound of many designs has. Its machine code is on disk afterwards, where several workers
    would make it at once, each for a minute; `say` is told if it has to be made."""
    from sim.pipeline import bound

    return tuple(bound("gemm:8x8x8", "tiny", dtype="int8", progress=say).columns)


def best_direction(metric: str) -> Direction:
    """Which way a column is usually better: throughput, efficiency, utilisation and hit rate up, all else down."""
    return "max" if metric.endswith(_MORE_IS_BETTER) and not metric.endswith("_bytes_per_s") else "min"


def metric_unit(metric: str) -> str:
    """The unit of a column's values: "s", "share" of one, or "" for counts."""
    dimension = dimension_of_column(metric)
    if dimension is not None:
        return DIMENSIONS[dimension].base
    if metric.endswith(("_utilization", "_hit_rate", "_share", "_low", "_high")):
        return "share"
    return {"throughput_per_s": "1/s", "tops_per_w": "TOP/s/W"}.get(metric, "")


def show_metric(metric: str, value: float) -> str:
    """A value with its unit, to be read."""
    dimension = dimension_of_column(metric)
    if dimension is not None:
        return format_quantity(value, dimension)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def check_metric(name: str, workloads: Sequence[str]) -> str:
    """Why `name` is no column ("" where it is one): LATENCY, or of several workloads NAME.LATENCY."""
    prefix, dot, metric = name.rpartition(".")
    if dot and (len(workloads) < 2 or prefix not in workloads):
        hint = did_you_mean(prefix, workloads) or f"workloads: {', '.join(workloads)}"
        only = "; with one workload its columns have no prefix" if len(workloads) == 1 else ""
        return f"'{name}' is of no workload{only}; {hint}"
    known = known_metrics()
    if metric in known:
        return ""
    return f"unknown metric '{metric}'; {did_you_mean(metric, known) or 'known: ' + ', '.join(known)}"


def parse_constraint(text: str) -> Constraint:
    """ "power_w <= 75 W" as a Constraint. Raises ValueError on anything else, and where the unit is missing."""
    match = _CONSTRAINT.fullmatch(text)
    if match is None:
        raise ValueError(f"found '{text}'; expected METRIC <= LIMIT, such as 'power_w <= 75 W'")
    metric, comparison, limit = match.groups()
    if "." not in metric and (problem := check_metric(metric, ())):
        raise ValueError(problem)
    dimension = dimension_of_column(metric)
    try:
        value = float(limit) if dimension is None else float(parse(limit, dimension))
    except UnitError as error:
        raise ValueError(f"limit of {metric}: {error}") from None
    except ValueError:
        raise ValueError(f"limit of {metric}: found '{limit}'; expected a number") from None
    if not math.isfinite(value):
        raise ValueError(f"limit of {metric}: found '{limit}'; expected a number")
    return Constraint(metric, comparison, value, f"{metric} {comparison} {limit}")  # type: ignore[arg-type]


def contradiction(constraints: Iterable[Constraint]) -> tuple[Constraint, Constraint] | None:
    """Two constraints on one column that no value can hold."""
    found = list(constraints)
    for upper in (c for c in found if c.comparison[0] == "<"):
        for lower in (c for c in found if c.comparison[0] == ">" and c.metric == upper.metric):
            touching = len(upper.comparison) == len(lower.comparison) == 2
            if lower.limit > upper.limit or (lower.limit == upper.limit and not touching):
                return upper, lower
    return None


def combine(names: Sequence[str], weights: Sequence[float], parts: Sequence[Metrics]) -> dict[str, Any]:
    """Columns of a mix of workloads, and those of each beside them as NAME.COLUMN. One workload: its own columns.

    `weights` are how often each runs. Times, energies, bytes and counts are the mean of the mix; rates are items of
    the mix per time (harmonic); power is the mix's energy over its time; utilisation and hit rate are weighted by
    time; area and cost are the chip's. Text is kept where all agree. A column that one of them lacks is None.
    """
    if len(parts) == 1:
        return dict(parts[0])
    mixed: dict[str, Any] = {}
    for column in dict.fromkeys(name for part in parts for name in part):
        values = [part.get(column) for part in parts]
        if all(value == values[0] for value in values) or column == "area_mm2":
            mixed[column] = values[0]
        elif all(isinstance(value, int | float) for value in values):
            mixed[column] = _mean(
                column, [float(value) for value in values if value is not None], weights, parts
            )
        else:
            mixed[column] = None
    of_each = {
        f"{name}.{key}": value for name, part in zip(names, parts, strict=True) for key, value in part.items()
    }
    return mixed | of_each


def _mean(
    column: str, values: Sequence[float], weights: Sequence[float], parts: Sequence[Metrics]
) -> float | None:
    times = [
        w * float(part.get("elapsed_s") or part["latency_s"]) for w, part in zip(weights, parts, strict=True)
    ]
    joules = [w * float(part["energy_j"]) for w, part in zip(weights, parts, strict=True)]
    if column == "power_w":
        return sum(joules) / sum(times)
    if column == "tops_per_w":  # operations over energy
        return _weighted(values, joules)
    if column in _OF_TIME:
        return _weighted(values, times)
    if column.endswith("_per_s"):
        return None if min(values) <= 0 else 1.0 / _weighted([1.0 / value for value in values], weights)
    return _weighted(values, weights)


def _weighted(values: Sequence[float], weights: Sequence[float]) -> float:
    return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)


def worst_violation(constraint: Constraint, values: Metrics, workloads: Sequence[str]) -> float:
    """A constraint holds for every workload: the violation of the worst, or of the one it names."""
    if len(workloads) < 2 or "." in constraint.metric:
        return constraint.violation(values.get(constraint.metric))
    return max(constraint.violation(values.get(f"{name}.{constraint.metric}")) for name in workloads)
