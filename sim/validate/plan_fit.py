"""Fits a calibration on many more rows than could be simulated: by the planner's closed form, put right by events.

The closed form that chooses tiles takes milliseconds a row where events take seconds on a chip of a hundred cores. What
it leaves out (cores that get in each other's way) is a ratio per row, taken from one simulation of each.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from sim.errors import InputError
from sim.hw.chip import Chip
from sim.mapping.fabric import Fabric
from sim.validate.errors import signed_errors, statistics
from sim.validate.fit import FITTED_FOLD, SAMPLE, Fit, overshoot, start_values, with_values
from sim.validate.measured_set import WITH_HOST
from sim.validate.measurement import Measurement, evenly
from sim.validate.minimise import minimise
from sim.validate.planned import planned_s
from sim.validate.prediction import predict

Float64 = npt.NDArray[np.float64]

PLANNED = 240
"""Cases of each family that a calibration is fitted on."""


def fit_by_plan(
    rows: Sequence[Measurement],
    chip: Chip,
    scalars: Sequence[str],
    *,
    workers: int = 1,
    evaluations: int = 100,
    progress: Callable[[str], None] | None = None,
    events_to: float = math.inf,
) -> Fit:
    """Fit `scalars` (names of Calibration's fields) to the least mean absolute error over up to PLANNED rows of each
    family of the seen half, every row counting the same. The statistics are those of events, of a sample of each half.
    Products of more than `events_to` multiply-accumulates are not simulated: their ratio is 1.

    Raises InputError where there is nothing to fit on, or rows on the host's clock.
    """
    known = [row for row in rows if row.family is not None]
    if any(row.timing == WITH_HOST for row in known):
        raise InputError("fit: rows on the host's clock have calls to fit too; --timing takes others")
    seen, others = ([row for row in known if (row.fold == FITTED_FOLD) == mine] for mine in (True, False))
    chosen = evenly(seen, PLANNED)
    if not chosen or not scalars:
        raise InputError("fit: found no rows of the fitted half or no scalars; expected both")
    measured = np.array([row.measured_s for row in chosen])
    tried = 0

    def plan(on: Chip) -> Float64:
        fabric = Fabric(on)
        return np.array([planned_s(row, on, fabric) for row in chosen])

    simulated = partial(predict, workers=workers, events_to=events_to)
    factor = np.array([one.prediction.latency_s for one in simulated(chosen, chip)]) / plan(chip)

    def cost(parameters: Float64) -> float:
        nonlocal tried
        tried += 1
        planned = plan(chip.with_calibration(with_values(chip.calibration, scalars, parameters)))
        found = float(np.nanmean(np.abs(planned * factor / measured - 1)))
        if progress is not None:
            progress(f"fit: {tried} calibrations tried, mean error {found:.2%}")
        return found + float(np.maximum(0.0, np.log(overshoot(scalars, parameters))).sum())

    best = minimise(cost, start_values(chip.calibration, scalars), step=0.15, evaluations=evaluations)
    fitted = with_values(chip.calibration, scalars, best)
    on = chip.with_calibration(fitted)
    mine, theirs = (
        statistics(signed_errors(simulated(evenly(half, SAMPLE), on))) for half in (seen, others)
    )
    return Fit(fitted, {}, mine, theirs, tried)
