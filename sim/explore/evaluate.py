"""A point to numbers: the one place where a sweep simulates. What goes wrong is a result like any other."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sim.errors import DoesNotFit, InputError
from sim.explore.space import Point, Space

Fidelity = Literal["bound", "event"]
Status = Literal["ok", "infeasible", "failed"]

_NOT_STORED = ("workload", "chip", "engine", "fidelity", "wall_s")
"""Of a report's summary: said by the row itself."""

_TOGETHER = ("auto", "data", "channel", "reduction")
"""Partitions that the bound of many designs knows."""


@dataclass(frozen=True, slots=True)
class Result:
    """Of one evaluation. `ok` has metrics; `infeasible` is a design that cannot be or does not hold the model,
    `failed` anything else that went wrong, both with `error`. `wall_s` is what it took."""

    status: Status
    metrics: Mapping[str, Any]
    error: str
    wall_s: float


def evaluate(space: Space, workload: int, fidelity: Fidelity, points: Sequence[Point]) -> list[Result]:
    """Workload number `workload` of the space on the chips of `points`, in their order. Bounds are computed together,
    events one after another."""
    if fidelity == "event":
        return [_simulated(space, workload, fidelity, point) for point in points]
    asked = space.workloads[workload]
    groups: dict[str, list[int]] = {}
    for at, point in enumerate(points):
        groups.setdefault(repr(space.options(asked, point)), []).append(at)
    found: dict[int, Result] = {}
    for numbers in groups.values():
        results = _bounds(space, workload, [points[at] for at in numbers])
        found.update(zip(numbers, results, strict=True))
    return [found[at] for at in range(len(points))]


def _bounds(space: Space, workload: int, points: Sequence[Point]) -> list[Result]:
    """Of points with the same options, in one call; where one of them is no possible chip, in two halves. What the
    bound of many designs does not know is evaluated one by one."""
    from sim.pipeline import bound

    asked = space.workloads[workload]
    options = space.options(asked, points[0])
    if options.get("partition", "auto") not in _TOGETHER or options.get("density") is not None:
        return [_simulated(space, workload, "bound", point) for point in points]
    began = time.perf_counter()
    changes = [space.overrides(point) for point in points]
    columns = {path: [change[path] for change in changes] for path in changes[0]}
    try:
        table = bound(asked.model, space.base, columns, **options)
    except Exception as error:
        if len(points) == 1:
            return [_gone_wrong(error, time.perf_counter() - began)]
        half = len(points) // 2
        return _bounds(space, workload, points[:half]) + _bounds(space, workload, points[half:])
    each_s = (time.perf_counter() - began) / len(points)
    names = [name for name in table.columns if name not in (*_NOT_STORED, *columns, "error")]
    cells = zip(*(_cells(table[name].tolist()) for name in names), strict=True)
    return [
        Result("infeasible", {}, error, each_s)
        if error
        else Result("ok", dict(zip(names, row, strict=True)), "", each_s)
        for error, row in zip(table["error"].tolist(), cells, strict=True)
    ]


def _cells(values: list[Any]) -> list[Any]:
    """What is not a number is not known."""
    return [None if value != value else value for value in values]


def _simulated(space: Space, workload: int, fidelity: Fidelity, point: Point) -> Result:
    from sim.pipeline import simulate

    began = time.perf_counter()
    asked = space.workloads[workload]
    try:
        chip, options = space.chip(point), space.options(asked, point)
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
