"""Work that goes on evenly between two instants: how much of it is done by when."""

from __future__ import annotations

import numpy as np

from sim.cost.transfers import Float64
from sim.program import Int64


class Ramps:
    """Pieces of work between `begin` and `end` (ticks), of which each takes at least one tick: so many (`span`).
    `times` are beginnings and ends in rising order, `order` says of which piece (ends behind all beginnings)."""

    def __init__(self, begin: Int64, end: Int64) -> None:
        last = np.maximum(end, begin + 1)
        times = np.concatenate([begin, last])
        self.order = np.argsort(times, kind="stable")
        self.times = times[self.order].astype(np.float64)
        self.span = last - begin

    def until(self, amount: Float64, at: Float64) -> Float64:
        """Work done by each instant `at`, of which every piece does its `amount`: exact, as the sum of straight ramps
        is straight between their ends."""
        if len(amount) == 0:
            return np.zeros(len(at))
        rate = amount / self.span
        slope = np.cumsum(np.concatenate([rate, -rate])[self.order])
        done = np.concatenate([[0.0], np.cumsum(slope[:-1] * np.diff(self.times))])
        return np.asarray(np.interp(at, self.times, done), np.float64)
