"""A study in a few rows: its front, the disagreement of a screening, the baseline of a guided sampler."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any

from sim.explore.metrics import show_metric, worst_violation
from sim.explore.screening import disagreement
from sim.explore.space import Point
from sim.explore.study import Study
from sim.explore.values import plain

Rows = list[dict[str, Any]]

CHECKPOINTS = 5
_NUMBER = re.compile(r"\d[\d,.]*")


def study_title(study: Study) -> str:
    """What was evaluated, and how the front is ordered."""
    chip = study.space.chip_data.get("name", "")
    models = ", ".join(workload.name for workload in study.space.workloads)
    shown = "event" if any(row.fidelity == "event" for row in study.rows) else "bound"
    rows = [row for row in study.rows if row.fidelity == shown]
    without = sum(row.status != "ok" for row in rows)
    beyond = sum(row.status == "ok" and row.violation > 0 for row in rows)
    unknown = [
        objective.metric
        for objective in study.objectives
        if any(row.status == "ok" and row.metrics.get(objective.metric) is None for row in rows)
    ]
    lacking = f"; not modelled for all of them: {', '.join(unknown)}" if unknown else ""
    order = ", then ".join(str(objective) for objective in study.objectives)
    fidelity = "screen" if study.plan["fidelity"] == "screen" else rows[0].fidelity if rows else "event"
    method = "closed form" if fidelity == "bound" else fidelity
    return (
        f"{study.name}: {models} on {chip}, {study.plan['sampler']}, {method}: {len(rows):,} points"
        f"{' with events' if fidelity == 'screen' else ''}, {without:,} without numbers, "
        f"{beyond:,} beyond a constraint{lacking}\nfront of {int(study.on_front.sum()):,}, by {order}"
    )


def unheld(study: Study) -> list[str]:
    """Where no design holds all constraints, what to do about it: a line for each of them that some design does not
    hold, with the nearest value. Nothing where there is a front, or no design has numbers."""
    rows = [row for row in study.rows if row.status == "ok"]
    if not rows or study.on_front.any():
        return []
    names = [workload.name for workload in study.space.workloads]
    found = []
    for constraint in study.constraints:
        beyond = [worst_violation(constraint, row.metrics, names) for row in rows]
        held = sum(each == 0 for each in beyond)
        if held < len(rows):
            nearest = constraint.at_violation(min(each for each in beyond if each > 0))
            value = "no value" if math.isinf(nearest) else show_metric(constraint.metric, nearest)
            found.append(f"{constraint.text}: {held:,} of {len(rows):,} hold it; the nearest that does not has {value}")
    return found


def front_rows(study: Study, readable: bool) -> Rows:
    """Parameters, objectives and constrained columns of the front; with units in the cells if `readable`, else plain
    numbers in base units under the names of the table."""
    metrics = list(
        dict.fromkeys([o.metric for o in study.objectives] + [c.metric for c in study.constraints])
    )
    found: Rows = []
    for at in study.front_order():
        row = study.rows[at]
        cells = _parameters(study, row.point, readable)
        for metric in metrics:
            value = row.metrics.get(metric)
            shown = readable and isinstance(value, int | float)
            cells[_heading(metric) if readable else metric] = show_metric(metric, value) if shown else value  # type: ignore[arg-type]
        found.append(cells)
    return found


def disagreement_rows(study: Study) -> Rows:
    """One row per objective of a screening; none for other studies."""
    screened = disagreement(study) if study.plan["fidelity"] == "screen" else None
    if screened is None:
        return []
    return [
        {
            "objective": one.metric,
            "designs": one.designs,
            "median_ratio": one.median_ratio,
            "least": one.least_ratio,
            "greatest": one.greatest_ratio,
            "rank_correlation": one.rank_correlation,
            "closed_form_front": screened.bound_front,
            "still_on_front": screened.kept,
            "new_on_front": screened.joined,
        }
        for one in screened.objectives
    ]


def baseline_rows(study: Study) -> Rows:
    """Hypervolume after so many evaluations of a guided sampler and of random search; none for other studies."""
    from sim.explore.samplers import GUIDED

    if study.plan["sampler"] not in GUIDED:
        return []
    table = study.hypervolumes(CHECKPOINTS)
    wide: dict[int, dict[str, Any]] = {}
    for evaluations, sampler, share in table.itertuples(index=False):
        wide.setdefault(int(evaluations), {"evaluations": int(evaluations)})[str(sampler)] = float(share)
    names = list(dict.fromkeys(table["sampler"]))
    return [
        {"evaluations": at, **{name: row.get(name) for name in names}} for at, row in sorted(wide.items())
    ]


def without_numbers(study: Study, most: int = 5) -> list[tuple[int, str]]:
    """How many points have no numbers, by reason: the most frequent reasons, each in the words of its first point.
    Reasons that differ in numbers alone are one."""
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for row in study.rows:
        if row.status != "ok":
            kind = _NUMBER.sub("0", row.error)
            first.setdefault(kind, row.error)
            counts[kind] += 1
    return [(count, first[kind]) for kind, count in counts.most_common(most)]


def _parameters(study: Study, point: Point, readable: bool) -> dict[str, Any]:
    values = study.space.parameters(point)
    if readable:
        return {path: plain(value, None) for path, value in values.items()}
    return {column: plain(values[path], dimension) for path, (column, dimension) in study.columns.items()}


def _heading(metric: str) -> str:
    """A column whose cells have units needs none in its name."""
    for end in ("_s", "_j", "_w", "_mm2", "_usd", "_bytes"):
        if metric.endswith(end) and not metric.endswith("_per_s"):
            return metric.removesuffix(end)
    return metric
