"""The whole way of a validation: rows of a chip, simulated with and without its calibration, and their errors."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.errors import InputError, did_you_mean
from sim.hw.calibration import UNCALIBRATED
from sim.hw.chip import Chip, list_chips, load_chip
from sim.pipeline import Fidelity
from sim.report.error_bars import Interval
from sim.validate.errors import ErrorRow, Statistics, error_table, row_regime
from sim.validate.fit import FITTED_FOLD
from sim.validate.intervals import Coverage, coverage, make_intervals
from sim.validate.measured_set import board_calibration, set_of
from sim.validate.measurement import Measurement, chip_key, evenly, load_measurements, of_chip
from sim.validate.prediction import Compared, predict

if TYPE_CHECKING:
    import pandas as pd

_PARTS = ("errors", "unseen", "uncalibrated", "roofline")


@dataclass(frozen=True)
class Validation:
    """One chip against its measurements. `left_out` counts the rows of operators that are not compared."""

    chip: Chip
    compared: tuple[Compared, ...]
    errors: tuple[ErrorRow, ...]
    left_out: dict[str, int]
    coverage: Coverage | None

    @property
    def intervals(self) -> list[Interval]:
        """The chip's error bars, as hw_configs/error_bars/ holds them."""
        return make_intervals(self.chip, self.compared)

    @property
    def points(self) -> pd.DataFrame:
        """One row per measurement: family, regime, measured_s, predicted_s, error; without those that were refused."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "chip": self.chip.name,
                    "family": one.row.family,
                    "regime": row_regime(one),
                    "measured_s": one.row.measured_s,
                    "predicted_s": one.predicted_s,
                    "error": one.error,
                }
                for one in self.compared
                if not one.prediction.refused
            ],
            columns=["chip", "family", "regime", "measured_s", "predicted_s", "error"],
        )


def validate(
    chip: str | Chip,
    data: str | Path | None = None,
    *,
    fidelity: Fidelity = "event",
    timing: str | None = None,
    most_macs: float = math.inf,
    sample: int | None = None,
    workers: int = 1,
    progress: Callable[[str], None] | None = None,
    events_to: float = math.inf,
) -> Validation:
    """Compare a chip with the rows measured on it, in the folder `data` or those that come with the package; with
    `timing`, only rows whose timing begins so; of at most `most_macs` multiply-accumulates; with `sample`, so many of
    each family; products of more than `events_to` by the closed form. Raises InputError where there are none."""
    on = load_chip(chip) if isinstance(chip, str) else chip
    rows = measured_rows(on.name, data, timing, most_macs)
    rows = rows if sample is None else evenly(rows, sample)
    left_out = Counter(row.op for row in rows if row.family is None)
    some = partial(predict, fidelity=fidelity, workers=workers, progress=progress, events_to=events_to)
    calibrated = some(rows, on)
    plain = None
    if any(board_calibration(set_of(row), on.name, on.calibration) != UNCALIBRATED for row in rows):
        data_sheet = on.with_calibration(UNCALIBRATED)
        plain = some(rows, data_sheet, boards="calls")
    table = error_table(on.name, calibrated, plain, seen_fold=FITTED_FOLD)
    return Validation(on, tuple(calibrated), tuple(table), dict(left_out), coverage(on, calibrated))


def measured_rows(
    chip: str, data: str | Path | None, timing: str | None = None, most_macs: float = math.inf
) -> list[Measurement]:
    """Rows measured on a chip, without products of more than `most_macs`. Raises InputError that names the chips (or
    timings) there are."""
    rows = load_measurements(data)
    mine = of_chip(rows, chip)
    if not mine:
        measured = sorted({row.chip for row in rows})
        hint = did_you_mean(chip, measured) or f"measured: {', '.join(measured)}"
        raise InputError(f"no measurements of chip '{chip}'; {hint}; --data FOLDER names others")
    chosen = [row for row in mine if row.timing.startswith(timing or "")]
    if not chosen:
        known = sorted({row.timing for row in mine})
        hint = did_you_mean(timing or "", known) or f"timed: {', '.join(known)}"
        raise InputError(f"no measurements of '{chip}' timed '{timing}'; {hint}")
    small = [row for row in chosen if row.family != "matmul" or math.prod(row.shape) <= most_macs]
    if not small:
        raise InputError(f"every measurement of '{chip}' has more than {most_macs:g} multiply-accumulates")
    return small


def measured_chips(data: str | Path | None) -> list[str]:
    """Chips of the package that have measurements, by name."""
    measured = {chip_key(row.chip) for row in load_measurements(data)}
    return [name for name in list_chips() if chip_key(name) in measured]


def error_rows(table: Sequence[ErrorRow]) -> list[dict[str, Any]]:
    """The table flat: one key per number, `unseen_mean_abs_pct` for the mean of the unseen half; None: no such."""
    rows = []
    for row in table:
        flat: dict[str, Any] = {
            "chip": row.chip,
            "set": row.measured_set,
            "family": row.family,
            "regime": row.regime,
            "rows": row.rows,
        }
        flat["refused"] = row.refused
        for part in _PARTS:
            found: Statistics | None = getattr(row, part)
            prefix = "" if part == "errors" else f"{part}_"
            for name in Statistics.__slots__:
                flat[prefix + name] = None if found is None else round(float(getattr(found, name)), 3)
        rows.append(flat)
    return rows


def rows_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Rows with the same keys as CSV."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows(row.values() for row in rows)
    return text.getvalue()
