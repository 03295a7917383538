"""Study: what a sweep found, as a table with its front. Read from a store; never computes a design."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.errors import InputError
from sim.explore.metrics import Constraint, Objective
from sim.explore.pareto import Bools, Float64, ideal_and_nadir, non_dominated, normalised_hypervolume
from sim.explore.results import Result, Results
from sim.explore.space import Point, Space
from sim.explore.store import StudyPoint
from sim.explore.values import plain
from sim.garbage import no_collections

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

BASELINE = "random"
"""The sampler whose points are the baseline of a guided one."""

CONFIRM = "confirm"
"""The sampler of the points that a screening confirms with events."""


@dataclass(frozen=True, slots=True)
class Row:
    """A point at one fidelity: the mix of its workloads. `violation` 0 holds all constraints; without metrics it is
    infinite. `samplers` asked for it, at their `numbers`."""

    point: Point
    fidelity: str
    status: str
    error: str
    wall_s: float
    metrics: Mapping[str, Any] = field(repr=False)
    violation: float
    keys: tuple[bytes, ...]
    samplers: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """The result of a sweep. `plan` says how it was made (sampler, seed, budget, fidelity)."""

    space: Space
    plan: Mapping[str, Any]
    points: tuple[StudyPoint, ...] = field(repr=False)
    results: Mapping[bytes, Result] = field(repr=False)

    def __repr__(self) -> str:
        """One line; the numbers are in `front`, `designs` and `table`."""
        designs = len({row.point for row in self.rows})
        front = int(self.on_front.sum())
        return f"<Study {self.name}: {designs:,} designs, front of {front:,}; see .front, .designs and .table>"

    @property
    def name(self) -> str:
        """Of the space."""
        return self.space.name

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """In the order that breaks ties."""
        return self.space.objectives

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        """They hold for every workload."""
        return self.space.constraints

    @property
    def columns(self) -> dict[str, tuple[str, str | None]]:
        """Of every parameter: its column in `table` and its dimension (None: a count, word or list)."""
        return self.space.columns

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """One per point and fidelity, in the order in which they were asked for."""
        with no_collections():
            return self._mixed()

    def _mixed(self) -> tuple[Row, ...]:
        samplers: dict[tuple[Point, str], list[str]] = {}
        first: dict[tuple[Point, str], StudyPoint] = {}
        for asked in self.points:
            at = (asked.point, asked.fidelity)
            samplers.setdefault(at, []).append(asked.sampler)
            first.setdefault(at, asked)
        return tuple(
            mix(self.space, asked, self.results, tuple(samplers[at]))
            for at, asked in first.items()
            if all(key in self.results for key in asked.keys)
        )

    @cached_property
    def losses(self) -> Float64:
        """Of every row, what is to be minimised [rows, objectives]; infinite where it is not feasible."""
        return np.array([losses_of(self.space, row) for row in self.rows]).reshape(-1, len(self.objectives))

    @cached_property
    def on_front(self) -> Bools:
        """Of every row: feasible, beaten by no other of the front's fidelity. Where designs were confirmed with
        events, only those count."""
        losses = self.losses.copy()
        if any(row.fidelity == "event" for row in self.rows):
            losses[[row.fidelity != "event" for row in self.rows]] = np.inf
        feasible = np.isfinite(losses).all(axis=1)
        found = np.zeros(len(losses), np.bool_)
        found[feasible] = non_dominated(losses[feasible])
        return found

    @property
    def front(self) -> pd.DataFrame:
        """The rows of the front, by the objectives in their order; ties by the order of the points."""
        return self.table.iloc[self.front_order()].reset_index(drop=True)

    def front_order(self) -> list[int]:
        """Numbers of the rows of the front, best first objective first; ties by the next, then by the point."""
        found = np.flatnonzero(self.on_front)
        return sorted(found.tolist(), key=lambda at: (tuple(self.losses[at]), self.rows[at].point))

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row per point and fidelity: parameters, metrics with units in their names, `status`, `error`,
        `fidelity`, `sampler`, `feasible`, `on_front`, `wall_s`, `key`."""
        import pandas as pd

        names = list(dict.fromkeys(name for row in self.rows for name in row.metrics))
        data: dict[str, list[Any]] = {column: [] for column, _ in self.columns.values()}
        values = [self.space.parameters(row.point) for row in self.rows]
        for path, (column, dimension) in self.columns.items():
            shown = {value: plain(value, dimension) for value in {each[path] for each in values}}
            data[column] = [shown[each[path]] for each in values]
        for name in names:
            data[name] = [row.metrics.get(name) for row in self.rows]
        data["status"] = [row.status for row in self.rows]
        data["error"] = [row.error for row in self.rows]
        data["fidelity"] = [row.fidelity for row in self.rows]
        data["sampler"] = [" ".join(row.samplers) for row in self.rows]
        data["feasible"] = [row.violation == 0 for row in self.rows]
        data["on_front"] = self.on_front.tolist()
        data["wall_s"] = [row.wall_s for row in self.rows]
        data["key"] = [" ".join(key.hex() for key in row.keys) for row in self.rows]
        return pd.DataFrame(data)

    @property
    def designs(self) -> pd.DataFrame:
        """The rows of `table` with every design once: by events where it was simulated, else by the bound."""
        events = {row.point for row in self.rows if row.fidelity == "event"}
        kept = [row.fidelity == "event" or row.point not in events for row in self.rows]
        return self.table[kept].reset_index(drop=True)

    def hypervolumes(self, checkpoints: int = 20) -> pd.DataFrame:
        """Share of the box of the best and worst that was dominated after so many `evaluations`, by sampler: how fast
        a guided sampler is beside random search. Columns evaluations, sampler, hypervolume."""
        import pandas as pd

        of = {(row.point, row.fidelity): losses for row, losses in zip(self.rows, self.losses, strict=True)}
        seen = np.array([CONFIRM not in row.samplers for row in self.rows], np.bool_)
        feasible = self.losses[seen & np.isfinite(self.losses).all(axis=1)]
        found: list[tuple[int, str, float]] = []
        for sampler in dict.fromkeys(point.sampler for point in self.points if point.sampler != CONFIRM):
            asked = [p for p in self.points if p.sampler == sampler]
            losses = np.array([of[p.point, p.fidelity] for p in asked if (p.point, p.fidelity) in of])
            for end in sorted(
                {round(len(losses) * step / checkpoints) for step in range(1, checkpoints + 1)} - {0}
            ):
                good = losses[:end][np.isfinite(losses[:end]).all(axis=1)]
                share = normalised_hypervolume(good, *ideal_and_nadir(feasible)) if len(good) else 0.0
                found.append((end, sampler, share))
        return pd.DataFrame(found, columns=["evaluations", "sampler", "hypervolume"])

    def export(self, path: str | Path) -> None:
        """Write `table` as .csv or .parquet, whole or not at all. Raises InputError."""
        from sim.explore.export import export_table

        export_table(self.table, path)


def mix(
    space: Space, asked: StudyPoint, results: Mapping[bytes, Result], samplers: tuple[str, ...] = ()
) -> Row:
    """A point's row from the results of its workloads: the worst status, all errors, the summed time."""
    parts = [results[key] for key in asked.keys]
    if len(parts) == 1:
        only = parts[0]
        status, errors, metrics, wall_s = only.status, [only.error], only.metrics, only.wall_s
    else:
        names = [workload.name for workload in space.workloads]
        status = next((s for s in ("failed", "infeasible") if any(part.status == s for part in parts)), "ok")
        errors = [f"{name}: {part.error}" for name, part in zip(names, parts, strict=True) if part.error]
        metrics = space.combine([part.metrics for part in parts]) if status == "ok" else {}
        wall_s = sum(part.wall_s for part in parts)
    return Row(
        point=asked.point,
        fidelity=asked.fidelity,
        status=status,
        error="\n".join(dict.fromkeys(errors)),
        wall_s=wall_s,
        metrics=metrics,
        violation=space.violation(metrics) if status == "ok" else float("inf"),
        keys=asked.keys,
        samplers=samplers,
    )


def losses_of(space: Space, row: Row) -> Sequence[float]:
    """The row's losses; infinite where it is not feasible or an objective has no value."""
    if row.violation > 0:
        return [float("inf")] * len(space.objectives)
    try:
        return space.losses(row.metrics)
    except InputError:
        return [float("inf")] * len(space.objectives)


def losses_together(space: Space, results: Results) -> Float64:
    """`losses_of` many results [results, objectives] of a space of one workload."""

    def numbers(metric: str) -> Float64:
        return np.array(results.metrics.get(metric, [None] * len(results)), np.float64)

    held = np.array([status == "ok" for status in results.status], np.bool_)
    for constraint in space.constraints:
        held &= constraint.holds(numbers(constraint.metric))
    losses = [objective.loss(numbers(objective.metric)) for objective in space.objectives]
    found = np.stack([np.where(np.isnan(each), np.inf, each) for each in losses], axis=1)
    found[~(held & np.isfinite(found).all(axis=1))] = np.inf
    return found
