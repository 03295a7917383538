"""Screening: what the bound finds good is confirmed with events, and how far the two disagree is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sim.errors import InputError
from sim.explore.metrics import worst_violation
from sim.explore.pareto import Float64, nearly_on_front, non_dominated
from sim.explore.space import Point, Space
from sim.explore.study import Row, Study

_SAME_AT_BOTH = ("area_mm2", "cost_usd")


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Events over the bound for one objective, over the confirmed designs: the ratio's median and extremes, and
    whether both rank the designs alike (Spearman; None for fewer than three or where all are equal)."""

    metric: str
    designs: int
    median_ratio: float
    least_ratio: float
    greatest_ratio: float
    rank_correlation: float | None


@dataclass(frozen=True, slots=True)
class Screened:
    """How a screening went: designs on the front of the bound, how many of them are on the confirmed front, and how
    many designs of that are not on the bound's."""

    bound_front: int
    kept: int
    joined: int
    objectives: tuple[Disagreement, ...]


def to_confirm(study: Study, slack: float) -> list[Point]:
    """The designs whose bound is on the front, or in its neighbourhood: within the share `slack` of it, or one step
    of a parameter from it and within twice that. Once for the designs that hold the constraints by the bound, and once
    more with those that miss one by no more than the slack: events may find that they hold it."""
    rows = [row for row in study.rows if row.fidelity == "bound" and row.status == "ok"]
    chosen: dict[Point, None] = {}
    for beyond in (0.0, slack):
        held = [
            row
            for row in rows
            if all(worst <= limit for worst, limit in _violations(study.space, row, beyond))
        ]
        known = [(row.point, losses) for row in held for losses in [_losses(study.space, row)] if losses]
        if known:
            points = [point for point, _ in known]
            losses = np.array([values for _, values in known])
            chosen |= dict.fromkeys(points[at] for at in neighbourhood(study.space, points, losses, slack))
    return list(chosen)


def _violations(space: Space, row: Row, slack: float) -> list[tuple[float, float]]:
    """Of every constraint: by how much it is violated, and by how much it may be."""
    names = [workload.name for workload in space.workloads]
    return [
        (worst_violation(c, row.metrics, names), 0.0 if c.metric.endswith(_SAME_AT_BOTH) else slack)
        for c in space.constraints
    ]


def _losses(space: Space, row: Row) -> tuple[float, ...]:
    """Whatever the constraints say; () where an objective has no value."""
    try:
        return space.losses(row.metrics)
    except InputError:
        return ()


def neighbourhood(space: Space, points: Sequence[Point], losses: Float64, slack: float) -> list[int]:
    """Which of `points` to confirm, by number; `losses` [points, objectives] are finite. Area and cost are the same
    at both fidelities and get no slack."""
    shares = np.array([0.0 if o.metric.endswith(_SAME_AT_BOTH) else slack for o in space.objectives])
    best = non_dominated(losses)
    near = best | nearly_on_front(losses, losses[best], shares)
    beside = {other for at in np.flatnonzero(best).tolist() for other in space.neighbours(points[at])}
    stepped = np.array([point in beside for point in points], np.bool_)
    near |= stepped & nearly_on_front(losses, losses[best], 2 * shares)
    return [int(at) for at in np.flatnonzero(near)]


def disagreement(study: Study) -> Screened | None:
    """How the bound and events compare in a screening; None where no design has both."""
    both: dict[Point, dict[str, int]] = {}
    for at, row in enumerate(study.rows):
        if row.status == "ok":
            both.setdefault(row.point, {})[row.fidelity] = at
    pairs = [found for found in both.values() if len(found) == 2]
    if not pairs:
        return None
    bound_rows = [at for at, row in enumerate(study.rows) if row.fidelity == "bound"]
    losses = study.losses[bound_rows]
    finite = np.isfinite(losses).all(axis=1)
    front = np.zeros(len(losses), np.bool_)
    front[finite] = non_dominated(losses[finite])
    on_bound = {study.rows[at].point for at, on in zip(bound_rows, front, strict=True) if on}
    on_event = {study.rows[at].point for at in np.flatnonzero(study.on_front)}
    return Screened(
        bound_front=len(on_bound),
        kept=len(on_bound & on_event),
        joined=len(on_event - on_bound),
        objectives=tuple(
            _compared(objective.metric, study, pairs)
            for objective in study.objectives
            if not objective.metric.endswith(_SAME_AT_BOTH)
        ),
    )


def _compared(metric: str, study: Study, pairs: Sequence[dict[str, int]]) -> Disagreement:
    bound, event = (
        np.array([float(study.rows[pair[fidelity]].metrics[metric]) for pair in pairs])
        for fidelity in ("bound", "event")
    )
    ratios = event / bound
    return Disagreement(
        metric,
        len(pairs),
        float(np.median(ratios)),
        float(ratios.min()),
        float(ratios.max()),
        spearman(bound, event),
    )


def spearman(first: Float64, second: Float64) -> float | None:
    """Rank correlation of two columns, ties at their mean rank; None for fewer than three or a constant column."""
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])


def _ranks(values: Float64) -> Float64:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    means: Float64 = (ends - counts + ends - 1) / 2
    return means[inverse]
