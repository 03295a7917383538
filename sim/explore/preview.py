"""What can be told of a sweep before it starts: its size, and what cannot work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from sim.errors import Diagnostic, InputError, did_you_mean
from sim.explore.metrics import bound_metrics
from sim.explore.space import DENSITY, Point, Space, Workload
from sim.hw.chip import Chip

StudyFidelity = Literal["bound", "event", "screen"]
FIDELITIES = ("bound", "event", "screen")

VARIANT = ("batch", "dtype", "phase", "seq", "kv", "new_tokens", "dims", "weights", "chips")
"""Options that a model is read with; the others are of mapping and running it."""

CHECKED_POINTS = 96
"""Points of a space whose chips are built beforehand, to tell how many cannot be."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What is known of a space before anything is simulated: points, values given twice, and of `checked` points
    spread over it how many are no possible chip or violate a limit on area; `reasons` counts why."""

    size: int
    duplicates: int
    checked: int
    infeasible: int
    reasons: Mapping[str, int]


def preview(space: Space, limit: int = CHECKED_POINTS) -> Preview:
    """Build the chips of up to `limit` points, spread evenly, and load every workload once. Raises InputError where
    all points are impossible, or a workload is at the first and the last point."""
    for workload in space.workloads:
        _check_workload(space, workload)
    count = min(limit, space.size)
    numbers = sorted({round(at * (space.size - 1) / max(1, count - 1)) for at in range(count)})
    reasons: dict[str, int] = {}
    sparse = not _asks_density(space)  # whether some chip makes use of the density of activations, if one is given
    for number in numbers:
        problem, chip = _impossible(space, space.point_at(number))
        sparse = sparse or chip is None or chip.uses_density
        if problem:
            reasons[problem] = reasons.get(problem, 0) + 1
    found = Preview(space.size, space.duplicates, len(numbers), sum(reasons.values()), reasons)
    if found.infeasible == space.size:
        most = max(reasons, key=lambda reason: reasons[reason])
        raise InputError(f"the space is empty: none of its {space.size:,} points is possible; {most}")
    if not sparse:
        hint = "array.row_stationary.zero_gating and dma.run_length_coding do"
        message = "density: no chip of this space makes use of zeros, so it would change nothing"
        raise InputError(Diagnostic(message, hint=hint))
    return found


def _asks_density(space: Space) -> bool:
    return DENSITY in space.paths or any(one.options.get("density") for one in space.workloads)


def check_bound(space: Space, say: Callable[[str], None] | None = None) -> None:
    """Raise InputError for an objective or constraint that the closed form of many designs does not have; `say` as
    `bound_metrics`."""
    asked = [*(o.metric for o in space.objectives), *(c.metric for c in space.constraints)]
    names = [workload.name for workload in space.workloads]
    known = bound_metrics(say)
    for metric in asked:
        prefix, _, last = metric.rpartition(".")
        if (last if prefix in names else metric) not in known:
            lacking = f"{metric}: the closed form of many designs does not have it"
            raise InputError(f"{lacking}; choose --fidelity event, or another metric")


def _impossible(space: Space, point: Point) -> tuple[str, Chip | None]:
    """Why there is no chip at a point, or it is known to be too large or too small; "" where it may do; and the chip
    where there is one."""
    from sim.hw.area import chip_area
    from sim.hw.technology import load_technology

    try:
        chip = space.chip(point)
        limits = [c for c in space.constraints if c.metric == "area_mm2"]
        area_mm2 = sum(chip_area(chip, load_technology(chip.technology)).values()) if limits else 0.0
    except InputError as error:
        one = error.diagnostics[0]
        return (f"{one.path}: {one.message}" if one.path else one.message), None
    return next((f"constraint {c.text}" for c in limits if c.violation(area_mm2) > 0), ""), chip


def _check_workload(space: Space, workload: Workload) -> None:
    from sim.graph.load import load_plan

    problems = []
    for number in sorted({0, space.size - 1}):
        options = space.options(workload, space.point_at(number))
        kept = {k: v for k, v in options.items() if k in VARIANT}
        try:
            load_plan(workload.model, **kept)
        except InputError as error:
            problems.append(error)
        else:
            return
    raise problems[0]


def check_options(
    fidelity: str, slack: float, workers: int | None, scheduler: str | None, timeout_s: float | None
) -> None:
    """Raise InputError for a choice that there is not, or that makes no sense."""
    if fidelity not in FIDELITIES:
        hint = did_you_mean(fidelity, FIDELITIES) or ", ".join(FIDELITIES)
        raise InputError(Diagnostic(f"unknown fidelity '{fidelity}'", hint=hint))
    if not 0 <= slack <= 10:
        raise InputError(
            f"slack: found {slack}; expected a share of the objectives from 0 to 10, such as 0.1"
        )
    if workers is not None and not 1 <= workers <= 1024:
        raise InputError(f"workers: found {workers}; expected 1 to 1024")
    if workers is not None and scheduler is not None:
        raise InputError(
            "workers are processes of this machine, a scheduler has its own; give one of the two"
        )
    if timeout_s is not None and not 0 < timeout_s < float("inf"):
        raise InputError(f"timeout: found {timeout_s}; expected a positive number of seconds for a point")
    if timeout_s is not None and scheduler is not None:
        message = "a timeout ends processes of this machine; those of a Dask cluster cannot be ended from here"
        raise InputError(Diagnostic(message, hint="leave one of the two out"))
