"""Points to numbers: the one place where a sweep simulates. What goes wrong is a result like any other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sim.errors import DoesNotFit, InputError
from sim.explore.results import Result, Results, Status
from sim.explore.space import Point, Space
from sim.garbage import no_collections

if TYPE_CHECKING:
    import pandas as pd

Fidelity = Literal["bound", "event"]

_NOT_STORED = ("workload", "chip", "engine", "fidelity", "wall_s")
"""Of a report's summary: said by the row itself."""

_TOGETHER = ("auto", "data", "channel", "reduction")
"""Partitions that the bound of many designs knows."""


def evaluate(space: Space, workload: int, fidelity: Fidelity, points: Sequence[Point]) -> Results:
    """Workload number `workload` of the space on the chips of `points`, in their order. Bounds are computed together,
    events one after another."""
    if fidelity == "event":
        with no_collections():
            return Results.of(_simulated(space, workload, fidelity, point) for point in points)
    of_workload = [at for at, axis in enumerate(space.axes) if axis.of_workload]
    groups: dict[tuple[int, ...], list[int]] = {}
    for at, point in enumerate(points):
        groups.setdefault(tuple(point[axis] for axis in of_workload), []).append(at)
    found = [_bounds(space, workload, [points[at] for at in numbers]) for numbers in groups.values()]
    if len(found) == 1:
        return found[0]
    rows = {at: row for numbers, part in zip(groups.values(), found, strict=True)
            for at, row in zip(numbers, part, strict=True)}  # fmt: skip
    return Results.of(rows[at] for at in range(len(points)))


def _bounds(space: Space, workload: int, points: Sequence[Point]) -> Results:
    """Of points with the same options, in one call; where one of them is no possible chip, in two halves. What the
    bound of many designs does not know (cores with dealt tiles among it) is evaluated one by one."""
    from sim.cost.hardware import NoLaw
    from sim.pipeline import bound

    asked = space.workloads[workload]
    options = space.options(asked, points[0])
    options.pop("sample_layers", None)  # nothing is simulated
    if options.get("partition", "auto") not in _TOGETHER or options.get("density") is not None:
        return _one_by_one(space, workload, points)
    began = time.perf_counter()
    columns = space.columns_of(points)
    try:
        table = bound(asked.model, space.base, columns, **options)
    except NoLaw as error:
        alone = range(len(points)) if error.designs is None else error.designs
        together = sorted(set(range(len(points))).difference(alone))
        found = dict(zip(alone, _one_by_one(space, workload, [points[at] for at in alone]), strict=True))
        if together:
            found |= zip(together, _bounds(space, workload, [points[at] for at in together]), strict=True)
        return Results.of(found[at] for at in range(len(points)))
    except Exception as error:
        if len(points) == 1:
            return Results.of([_gone_wrong(error, time.perf_counter() - began)])
        half = len(points) // 2
        return Results.of([*_bounds(space, workload, points[:half]), *_bounds(space, workload, points[half:])])
    errors = table["error"].tolist()
    status: list[Status] = ["infeasible" if error else "ok" for error in errors]
    names = [name for name in table.columns if name not in (*_NOT_STORED, *columns, "error")]
    metrics = {name: _cells(table[name]) for name in names}
    each_s = (time.perf_counter() - began) / len(points)
    return Results(status, errors, [each_s] * len(points), metrics)


def _one_by_one(space: Space, workload: int, points: Sequence[Point]) -> Results:
    """By the closed form of each design's own plan."""
    with no_collections():
        return Results.of(_simulated(space, workload, "bound", point) for point in points)


def _cells(column: pd.Series[Any]) -> list[Any]:
    """What is not a number is not known."""
    values: list[Any] = column.tolist()
    if column.dtype.kind == "f" and not np.isnan(column.to_numpy()).any():
        return values
    return [None if value != value else value for value in values]


def _simulated(space: Space, workload: int, fidelity: Fidelity, point: Point) -> Result:
    from sim.pipeline import simulate

    began = time.perf_counter()
    asked = space.workloads[workload]
    try:
        chip, options = space.chip(point), space.options(asked, point)
        if fidelity == "bound":
            options.pop("sample_layers", None)
        if not chip.uses_density:
            options.pop("density", None)  # of a chip without use of zeros it changes nothing
        report = simulate(asked.model, chip, **options, fidelity=fidelity)
    except Exception as error:
        return _gone_wrong(error, time.perf_counter() - began)
    metrics = {name: value for name, value in report.to_json().items() if name not in _NOT_STORED}
    return Result("ok", metrics, "", time.perf_counter() - began)


def _gone_wrong(error: Exception, wall_s: float) -> Result:
    """A design that cannot be; or a bug in one corner of a space, which must not cost the rest."""
    if isinstance(error, InputError | DoesNotFit):
        return Result("infeasible", {}, str(error), wall_s)
    return Result("failed", {}, f"internal error: {type(error).__name__}: {error}", wall_s)
