"""Small spaces for the tests: a point takes some milliseconds."""

from __future__ import annotations

import os
import signal
from dataclasses import fields
from typing import Any

import pandas as pd

from sim.explore.space import Point, Space
from sim.explore.space_file import space_from_dict
from sim.explore.study import Study
from sim.hw.chip import Chip

SMALL: dict[str, Any] = {
    "name": "small",
    "chip": "tiny",
    "workloads": [{"model": "gemm:48x40x32", "dtype": "int8"}],
    "parameters": {
        "core.array.rows": [4, 8, 16],
        "core.array.cols": {"follows": "core.array.rows"},
        "core.sram.size": {"from": "16 KiB", "to": "64 KiB", "factor": 2},
        "clock": ["250 MHz", "500 MHz"],
    },
}
"""18 points."""

MIX = SMALL | {
    "name": "mix",
    "workloads": [
        {"model": "gemm:48x40x32", "name": "wide", "dtype": "int8", "weight": 3.0},
        {"model": "gemm:16x16x256", "name": "deep", "dtype": "int8"},
    ],
}


def space(data: dict[str, Any] = SMALL, **changes: Any) -> Space:
    """A space of the data with some keys changed."""
    return space_from_dict(data | changes)


class PoisonedSpace(Space):
    """A space with one point that kills whichever worker takes it, as a lack of memory would."""

    POISON = (1, 1, 1)

    def chip(self, point: Point) -> Chip:
        import multiprocessing

        if point == self.POISON and multiprocessing.parent_process() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().chip(point)


def poisoned(data: dict[str, Any] = SMALL) -> PoisonedSpace:
    """`data` with the poison in it."""
    one = space(data)
    return PoisonedSpace(**{item.name: getattr(one, item.name) for item in fields(one)})


class StuckSpace(Space):
    """A space with one point that never comes to an end in whichever worker takes it."""

    STUCK = (1, 1, 1)

    def chip(self, point: Point) -> Chip:
        import multiprocessing
        import time

        if point == self.STUCK and multiprocessing.parent_process() is not None:
            time.sleep(1e6)
        return super().chip(point)


def stuck(data: dict[str, Any] = SMALL) -> StuckSpace:
    """`data` with the point that hangs."""
    one = space(data)
    return StuckSpace(**{item.name: getattr(one, item.name) for item in fields(one)})


def numbers(study: Study) -> pd.DataFrame:
    """The table of a study without what two runs differ in, in an order of its own."""
    table = study.table.drop(columns=["wall_s"])
    return table.sort_values(["key", "fidelity"]).reset_index(drop=True)
