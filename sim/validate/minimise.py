"""Nelder and Mead's simplex search, in the logarithms of positive parameters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]


def minimise(
    cost: Callable[[Float64], float], start: Float64, *, step: float = 0.5, evaluations: int = 400
) -> Float64:
    """Positive parameters of least cost found from `start` (Nelder and Mead, "A simplex method for function
    minimization", Computer Journal 1965; reflection 1, expansion 2, contraction and shrinking 1/2).

    `step` is the first simplex's size in the natural logarithm. Deterministic; at most about `evaluations` calls.
    The minimum of (log x - log 2)^2 from 1 is 2.
    """
    size = len(start)
    simplex = np.log(start) + np.vstack([np.zeros(size), step * np.eye(size)])
    values = np.array([cost(np.exp(corner)) for corner in simplex])
    used = size + 1
    while used < evaluations:
        order = np.argsort(values, kind="stable")
        simplex, values = simplex[order], values[order]
        if np.ptp(simplex, axis=0).max() < 1e-5:
            break
        centre = simplex[:-1].mean(axis=0)

        def along(
            factor: float, centre: Float64 = centre, worst: Float64 = simplex[-1]
        ) -> tuple[Float64, float]:
            corner = centre + factor * (centre - worst)
            return corner, cost(np.exp(corner))

        best = along(1.0)
        used += 1
        if best[1] < values[0]:
            best = min(best, along(2.0), key=lambda pair: pair[1])
            used += 1
        elif best[1] >= values[-2]:
            best = along(0.5 if best[1] < values[-1] else -0.5)
            used += 1
        if best[1] < values[-1]:
            simplex[-1], values[-1] = best
        else:
            simplex[1:] = simplex[0] + 0.5 * (simplex[1:] - simplex[0])
            values[1:] = [cost(np.exp(corner)) for corner in simplex[1:]]
            used += size
    return np.asarray(np.exp(simplex[int(values.argmin())]), np.float64)
