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


@dataclass(frozen=True, slots=True)
class Result:
    """Of one evaluation. `ok` has metrics; `infeasible` is a design that cannot be or does not hold the model,
    `failed` anything else that went wrong, both with `error`. `wall_s` is what it took."""

    status: Status
    metrics: Mapping[str, Any]
    error: str
    wall_s: float


def evaluate(space: Space, workload: int, fidelity: Fidelity, points: Sequence[Point]) -> list[Result]:
    """Workload number `workload` of the space on the chips of `points`, in their order."""
    return [_evaluate(space, workload, fidelity, point) for point in points]


def _evaluate(space: Space, workload: int, fidelity: Fidelity, point: Point) -> Result:
    from sim.pipeline import simulate

    began = time.perf_counter()
    asked = space.workloads[workload]
    status: Status = "ok"
    metrics: dict[str, Any] = {}
    error = ""
    try:
        report = simulate(asked.model, space.chip(point), **space.options(asked, point), fidelity=fidelity)
        metrics = {name: value for name, value in report.to_json().items() if name not in _NOT_STORED}
    except (InputError, DoesNotFit) as found:
        status, error = "infeasible", str(found)
    except Exception as found:  # a bug in one corner of a space must not cost the rest
        status, error = "failed", f"internal error: {type(found).__name__}: {found}"
    return Result(status, metrics, error, time.perf_counter() - began)
