"""The honest competitor: a roofline of three parameters, fitted on the same rows.

time = launch + max(flops / peak, bytes / bandwidth), per chip and family of operators. It knows nothing of the machine;
a simulator that is not better than it adds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.validate.measurement import Measurement
from sim.validate.minimise import minimise
from sim.validate.operator_graph import work

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FittedRoofline:
    """Three fitted parameters; `rate` is infinite where no row is limited by it."""

    launch_s: float
    flops_per_s: float
    bytes_per_s: float

    def seconds(self, rows: Sequence[Measurement]) -> Float64:
        """Predicted time of every row."""
        flops, nbytes, _ = _columns(rows)
        return np.asarray(
            self.launch_s + np.maximum(flops / self.flops_per_s, nbytes / self.bytes_per_s), np.float64
        )


def fit_roofline(rows: Sequence[Measurement]) -> FittedRoofline:
    """Least mean absolute relative error over the rows. Raises ValueError without rows."""
    if not rows:
        raise ValueError("a roofline cannot be fitted to no rows")
    flops, nbytes, measured = _columns(rows)

    def cost(parameters: Float64) -> float:
        launch, peak, bandwidth = parameters
        return float(np.abs((launch + np.maximum(flops / peak, nbytes / bandwidth)) / measured - 1).mean())

    # Two places to start: every row limited by both resources, and by one of them more than by the other.
    starts = [
        np.array([measured.min(), (flops / measured).max() * up, (nbytes / measured).max() * down])
        for up, down in ((1.0, 1.0), (2.0, 0.5), (0.5, 2.0))
    ]
    best = min((minimise(cost, minimise(cost, start)) for start in starts), key=cost)
    return FittedRoofline(*map(float, best))


def cross_validated_errors(rows: Sequence[Measurement]) -> Float64:
    """Signed relative error of every row under the roofline fitted on the other half (`Measurement.fold`)."""
    errors = np.full(len(rows), np.nan)
    for fold in (0, 1):
        mine = [index for index, row in enumerate(rows) if row.fold == fold]
        others = [row for row in rows if row.fold != fold]
        if mine and others:
            chosen = [rows[index] for index in mine]
            _, _, measured = _columns(chosen)
            errors[mine] = fit_roofline(others).seconds(chosen) / measured - 1
    return errors


def _columns(rows: Sequence[Measurement]) -> tuple[Float64, Float64, Float64]:
    amounts = [work(row) for row in rows]
    flops = np.array([amount.flops for amount in amounts])
    nbytes = np.array([amount.nbytes for amount in amounts])
    return flops, nbytes, np.array([row.measured_s for row in rows])
