"""Errors by family of operators and regime, with and without calibration and beside the fitted roofline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.report.error_bars import regime
from sim.validate.fitted_roofline import cross_validated_errors
from sim.validate.measured_set import set_of
from sim.validate.measurement import Measurement
from sim.validate.prediction import Compared

Float64 = npt.NDArray[np.float64]

ALL = "all"


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of signed relative errors, in percent: mean and median of their size, the size that 90 % do not exceed, and the
    median with its sign (positive: predicted too slow)."""

    mean_abs_pct: float
    median_abs_pct: float
    p90_abs_pct: float
    median_signed_pct: float


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """Errors of one family in one regime ("all": of the whole family) on one chip, in one set of measurements ("": in
    none, timed on the device). `rows` were compared, `refused` the simulator would not run; `uncalibrated` and
    `roofline` are the same rows by the data sheet, and by the roofline fitted on the other half; `unseen` those that
    the calibration was not fitted on. None: no such rows."""

    chip: str
    measured_set: str
    family: str
    regime: str
    rows: int
    refused: int
    errors: Statistics
    unseen: Statistics | None
    uncalibrated: Statistics | None
    roofline: Statistics | None


def statistics(errors: Float64) -> Statistics | None:
    """Percentages of signed relative errors; NaNs are left out, None where nothing is left.

    [0.1, -0.3] gives mean 20, median 20, p90 28, signed -10.
    """
    left = errors[np.isfinite(errors)] * 100
    if not len(left):
        return None
    size = np.abs(left)
    return Statistics(
        float(size.mean()), float(np.median(size)), float(np.quantile(size, 0.9)), float(np.median(left))
    )


def row_regime(one: Compared) -> str:
    """The regime of a predicted row."""
    p = one.prediction
    return regime(p.bound_by, p.launch_s + one.host_s, one.predicted_s)


def error_table(
    chip: str,
    calibrated: Sequence[Compared],
    uncalibrated: Sequence[Compared] | None = None,
    *,
    seen_fold: int = 0,
) -> list[ErrorRow]:
    """One row per set and family, then one per regime of it where there are several. `uncalibrated` are the same rows
    in the same order, None where the chip carries no calibration; the calibration saw the rows of fold `seen_fold`."""
    table = []
    names = [(_set_name(one), one.row.family or "") for one in calibrated]
    for name in dict.fromkeys(names):
        mine = [index for index, own in enumerate(names) if own == name]
        chosen = [calibrated[index] for index in mine]
        plain = [uncalibrated[index] for index in mine] if uncalibrated is not None else None
        rows: list[Measurement] = [one.row for one in chosen]
        roofline = cross_validated_errors(rows)
        regimes = np.array([ALL if one.prediction.refused else row_regime(one) for one in chosen])
        groups = [ALL, *_names(r for r in regimes if r != ALL)]
        for group in groups if len(groups) > 2 else [ALL]:
            take = np.ones(len(chosen), np.bool_) if group == ALL else regimes == group
            row = _error_row(chip, name, group, chosen, plain, roofline, take, seen_fold)
            if row is not None:
                table.append(row)
    return table


def signed_errors(compared: Sequence[Compared]) -> Float64:
    """Signed relative error of every row; NaN where the simulator refused it."""
    return np.array([one.error for one in compared])


def _error_row(
    chip: str,
    name: tuple[str, str],
    group: str,
    chosen: Sequence[Compared],
    plain: Sequence[Compared] | None,
    roofline: Float64,
    take: npt.NDArray[np.bool_],
    seen_fold: int,
) -> ErrorRow | None:
    errors = signed_errors(chosen)
    found = statistics(errors[take])
    if found is None:
        return None
    unseen = take & np.array([one.row.fold != seen_fold for one in chosen])
    return ErrorRow(
        chip,
        *name,
        group,
        int(np.isfinite(errors[take]).sum()),
        int((~np.isfinite(errors[take])).sum()),
        found,
        statistics(errors[unseen]) if plain is not None else None,
        statistics(signed_errors(plain)[take]) if plain is not None else None,
        statistics(roofline[take]),
    )


def _set_name(one: Compared) -> str:
    found = set_of(one.row)
    return "" if found is None else found.name


def _names(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))
