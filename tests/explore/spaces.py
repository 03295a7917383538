"""Small spaces for the tests: a point takes some milliseconds."""

from __future__ import annotations

from typing import Any

from sim.explore.space import Space
from sim.explore.space_file import space_from_dict

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
