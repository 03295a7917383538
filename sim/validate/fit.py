"""Fits a chip's calibration on half of its measured rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sim.errors import InputError
from sim.hw.calibration import Calibration
from sim.hw.chip import Chip
from sim.units import PS_PER_S
from sim.validate.errors import Statistics, signed_errors, statistics
from sim.validate.measured_set import WITH_HOST, HostCall, board_calibration, set_of
from sim.validate.measurement import Measurement, evenly
from sim.validate.minimise import minimise
from sim.validate.prediction import Compared, predict

Float64 = npt.NDArray[np.float64]

SAMPLE = 30
"""Cases of each family that the fit simulates: errors are told for all rows, but a search over all of them is long."""

FITTED_FOLD = 0
"""The half of the rows that a calibration is fitted on; the other half judges it."""

FEWEST_FOR_AFTER = 4
"""Rows from which both numbers of a host call are fitted; fewer give the first only."""

TIMES = ("launch_overhead_ps", "operand_overhead_ps", "contraction_overhead_ps", "tile_overhead_ps")
EFFICIENCIES = ("array_efficiency", "sustained_efficiency", "vector_efficiency", "dram_efficiency", "cache_efficiency")


@dataclass(frozen=True, slots=True)
class Fit:
    """A fitted calibration, and its errors on all rows of the half it was fitted on and of the other. `calls` are the
    host's calls by family, where the rows were timed on its clock."""

    calibration: Calibration
    calls: Mapping[str, HostCall]
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
    whole: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Fit:
    """Fit `scalars` (names of Calibration's fields) to the least mean absolute error over the families, each family
    counting the same; the others keep the chip's values, or those of the set's board. Host calls are fitted along
    with them where the rows contain any. `whole`: on all rows, for sets so small that a half says too little; then
    nothing is unseen. Raises InputError where there is nothing to fit on, or of several sets."""
    known = [row for row in rows if row.family is not None]
    if len({found.name if (found := set_of(row)) else "" for row in known}) > 1:
        raise InputError("fit: found rows of several sets of measurements; expected one: --timing takes some of them")
    folds = (0, 1) if whole else (FITTED_FOLD,)
    sample = evenly([row for row in known if row.fold in folds], SAMPLE)
    if not sample or not scalars:
        raise InputError("fit: found no rows of the fitted half or no scalars; expected both")
    tried = 0

    def cost(parameters: Float64) -> float:
        nonlocal tried
        tried += 1
        compared = _with_calls(_predict(sample, chip, with_values(start, scalars, parameters), workers), folds)
        errors = np.abs(signed_errors(compared))
        names = np.array([one.row.family for one in compared])
        found = float(np.mean([np.nanmean(errors[names == name]) for name in set(names.tolist())]))
        if progress is not None:
            progress(f"fit: {tried} calibrations tried, mean error {found:.2%}")
        # Beyond an efficiency of 1 the calibration stays at 1: the cost must still point back.
        return found + float(np.maximum(0.0, np.log(overshoot(scalars, parameters))).sum())

    start = board_calibration(set_of(sample[0]), chip.name, chip.calibration)
    best = minimise(cost, start_values(start, scalars), step=0.3, evaluations=evaluations)
    fitted = with_values(start, scalars, best)
    compared = _with_calls(_predict(known, chip, fitted, workers), folds)
    errors = signed_errors(compared)
    seen = np.array([one.row.fold in folds for one in compared])
    calls = {one.row.family or "": one.call for one in compared if one.call is not None}
    return Fit(fitted, calls, statistics(errors[seen]), statistics(errors[~seen]), tried)


def fit_call(measured_s: Float64, device_s: Float64) -> HostCall:
    """The host call of least mean absolute relative error. For one `after` the best `before` is a weighted median; of
    all `after` up to the shortest measurement the best counts where it is half a per cent better than none, and there
    are rows enough to tell.

    Kernels of 1, 2 and 30 us that took 12, 12 and 38 us: before 8 us, after 4 us.
    """
    best, found = np.inf, HostCall(before_ps=0)
    most_s = float(measured_s.min()) if len(measured_s) >= FEWEST_FOR_AFTER else 1e-7
    for after_s in np.arange(0.0, most_s, 1e-7):
        busy_s = np.maximum(device_s, after_s)
        before_s = max(0.0, _weighted_median(measured_s - busy_s, 1.0 / measured_s))
        error = float(np.abs((before_s + busy_s) / measured_s - 1.0).mean())
        if error < best - (0.0 if found.after_ps else 0.005):
            best = error
            found = HostCall(before_ps=round(before_s * 1e7) * 100_000, after_ps=round(after_s * 1e7) * 100_000)
    return found


def _weighted_median(values: Float64, weights: Float64) -> float:
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])


def _predict(rows: Sequence[Measurement], chip: Chip, calibration: Calibration, workers: int) -> list[Compared]:
    """Predictions with this calibration, whatever set the rows are of."""
    return predict(rows, chip.with_calibration(calibration), workers=workers, boards="none")


def _with_calls(compared: Sequence[Compared], folds: Sequence[int]) -> list[Compared]:
    """Rows on the host's clock with the calls that fit those of these folds best."""
    timed: dict[str, list[Compared]] = {}
    for one in compared:
        if one.row.timing == WITH_HOST and one.row.fold in folds and np.isfinite(one.prediction.latency_s):
            timed.setdefault(one.row.family or "", []).append(one)
    calls = {
        name: fit_call(
            np.array([one.row.measured_s for one in mine]), np.array([one.prediction.latency_s for one in mine])
        )
        for name, mine in timed.items()
    }
    return [
        replace(one, call=calls.get(one.row.family or "")) if one.row.timing == WITH_HOST else one for one in compared
    ]


def start_values(calibration: Calibration, scalars: Sequence[str]) -> Float64:
    """Where the search begins: the chip's own scalars, 1 us for a time and 0.7 for an efficiency it does not have."""
    own = [float(getattr(calibration, name)) for name in scalars]
    return np.array(
        [
            (value / PS_PER_S if value else 1e-6) if name in TIMES else (value if value < 1 else 0.7)
            for name, value in zip(scalars, own, strict=True)
        ]
    )


def with_values(calibration: Calibration, scalars: Sequence[str], parameters: Float64) -> Calibration:
    """The calibration with other values of its scalars, seconds or fractions."""
    values: dict[str, int | float] = {}
    for name, value in zip(scalars, parameters.tolist(), strict=True):
        # Three digits: more are not in the measurements, and a chip file should be readable.
        values[name] = round(value * 1e9) * 1000 if name in TIMES else round(min(1.0, value), 3)
    return replace(calibration, **values)  # type: ignore[arg-type]


def overshoot(scalars: Sequence[str], parameters: Float64) -> Float64:
    """How many times each efficiency is that at which it stops, 1; 1 for a time."""
    return np.array(
        [1.0 if name in TIMES else value for name, value in zip(scalars, parameters, strict=True)]
    )
