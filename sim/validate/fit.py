"""Fits a chip's calibration on half of its measured rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sim.errors import InputError
from sim.hw.calibration import Calibration
from sim.hw.chip import Chip
from sim.units import PS_PER_S
from sim.validate.errors import Statistics, signed_errors, statistics
from sim.validate.measurement import Measurement
from sim.validate.minimise import minimise
from sim.validate.prediction import predict

Float64 = npt.NDArray[np.float64]

SAMPLE = 30
"""Cases of each family that the fit simulates: errors are told for all rows, but a search over all of them is long."""

FITTED_FOLD = 0
"""The half of the rows that a calibration is fitted on; the other half judges it."""

TIMES = ("launch_overhead_ps", "operand_overhead_ps", "tile_overhead_ps")
EFFICIENCIES = ("array_efficiency", "vector_efficiency", "dram_efficiency", "cache_efficiency")


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted calibration, and its errors on all rows of the half it was fitted on and of the other."""

    calibration: Calibration
    seen: Statistics | None
    unseen: Statistics | None
    evaluations: int


def fit_calibration(
    rows: Sequence[Measurement],
    chip: Chip,
    scalars: Sequence[str],
    *,
    workers: int = 1,
    evaluations: int = 60,
    progress: Callable[[str], None] | None = None,
) -> Fit:
    """Fit `scalars` (names of Calibration's fields) to the least mean absolute error over the families, each family
    counting the same; the others keep the chip's values. Raises InputError where there is nothing to fit on."""
    known = [row for row in rows if row.family is not None]
    sample = _sample([row for row in known if row.fold == FITTED_FOLD])
    if not sample or not scalars:
        raise InputError("fit: found no rows of the fitted half or no scalars; expected both")
    tried = 0

    def cost(parameters: Float64) -> float:
        nonlocal tried
        tried += 1
        on = chip.with_calibration(_with(chip.calibration, scalars, parameters))
        compared = predict(sample, on, workers=workers)
        errors = np.abs(signed_errors(compared))
        names = np.array([one.row.family for one in compared])
        found = float(np.mean([np.nanmean(errors[names == name]) for name in set(names.tolist())]))
        if progress is not None:
            progress(f"fit: {tried} calibrations tried, mean error {found:.2%}")
        # Beyond an efficiency of 1 the calibration stays at 1: the cost must still point back.
        return found + float(np.maximum(0.0, np.log(_overshoot(scalars, parameters))).sum())

    best = minimise(cost, _start(chip.calibration, scalars), step=0.3, evaluations=evaluations)
    fitted = _with(chip.calibration, scalars, best)
    compared = predict(known, chip.with_calibration(fitted), workers=workers)
    errors = signed_errors(compared)
    seen = np.array([one.row.fold == FITTED_FOLD for one in compared])
    return Fit(fitted, statistics(errors[seen]), statistics(errors[~seen]), tried)


def _sample(rows: Sequence[Measurement]) -> list[Measurement]:
    """Up to SAMPLE cases of each family, evenly over the measured times."""
    chosen: list[Measurement] = []
    for name in dict.fromkeys(row.family for row in rows):
        mine = sorted(
            {row.case: row for row in rows if row.family == name}.values(), key=lambda r: r.measured_s
        )
        take = np.unique(np.linspace(0, len(mine) - 1, min(SAMPLE, len(mine))).astype(int))
        chosen += [mine[index] for index in take.tolist()]
    return chosen


def _start(calibration: Calibration, scalars: Sequence[str]) -> Float64:
    """Where the search begins: the chip's own scalars, 1 us for a time and 0.7 for an efficiency it does not have."""
    own = [float(getattr(calibration, name)) for name in scalars]
    return np.array(
        [
            (value / PS_PER_S if value else 1e-6) if name in TIMES else (value if value < 1 else 0.7)
            for name, value in zip(scalars, own, strict=True)
        ]
    )


def _with(calibration: Calibration, scalars: Sequence[str], parameters: Float64) -> Calibration:
    values: dict[str, int | float] = {}
    for name, value in zip(scalars, parameters.tolist(), strict=True):
        # Three digits: more are not in the measurements, and a chip file should be readable.
        values[name] = round(value * 1e9) * 1000 if name in TIMES else round(min(1.0, value), 3)
    return replace(calibration, **values)  # type: ignore[arg-type]


def _overshoot(scalars: Sequence[str], parameters: Float64) -> Float64:
    return np.array(
        [1.0 if name in TIMES else value for name, value in zip(scalars, parameters, strict=True)]
    )
