"""The compiled cycles of tiles on an array, against the law that is held against RTL, in exact fractions."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from sim.cost.work import GemmShape, array_cycles
from sim.hw.chip import load_chip
from sim.hw.core import CoreKind
from sim.hw.systolic import DATAFLOWS, gemm_cycles, gemm_hold_cycles


def core(**changes: Any) -> CoreKind:
    return load_chip("tiny", {f"core.{path.replace('__', '.')}": value for path, value in changes.items()}).cores[0]


def random_core(rng: random.Random) -> CoreKind:
    adders = rng.choice([1, 1, 2, 4])
    changes: dict[str, Any] = {
        "array__rows": adders * rng.randint(1, 12),
        "array__cols": rng.randint(1, 40),
        "array__rows_per_adder": adders,
        "array__count": rng.choice([1, 1, 2, 3, 4]),
        "array__double_buffered_weights": rng.random() < 0.6,
        "array__rates": {"int8": rng.choice([1, 0.5, 2, 0.75])},
        "vector__lanes": rng.choice([1, 3, 8]),
        "sram__bandwidth": f"{rng.choice([2, 12, 1000])} GB/s",
    }
    if rng.random() < 0.3:
        changes |= {"array__converted": ["int8"], "vector__conversions": {"int8": {"unpack": 2, "pack": 1}}}
    return core(**changes)


def expected(kind: CoreKind, tile: tuple[int, int, int, int], dataflow: str, bits: tuple[int, int]) -> tuple[int, int]:
    """(hold, dur), piece by piece, in integers and fractions."""
    array = kind.array
    assert array is not None
    count, m, n, k = tile
    law: dict[str, Any] = {"cols": array.cols, "dataflow": dataflow, "overlap_folds": array.double_buffered_weights}
    law["rows"] = array.rows if dataflow == "output_stationary" else array.rows // array.rows_per_adder
    deep = k if dataflow == "output_stationary" else -(-k // array.rows_per_adder)
    ways = [(-(-count // array.count), m, n), (count, m, -(-n // array.count)), (count, -(-m // array.count), n)]
    found = []
    for repeats, mm, nn in ways if array.count > 1 else ways[:1]:
        held = gemm_hold_cycles(mm, nn, deep, **law)
        found.append((repeats * held, gemm_cycles(mm, nn, deep, **law) - held))
    held, drain = min(found, key=lambda pair: pair[0])
    rate = array.rate("int8")
    left = count * m * k * (1 if dataflow == "input_stationary" else -(-n // array.cols))
    right = count * k * n
    right *= {"weight_stationary": 1, "input_stationary": -(-m // array.cols)}.get(dataflow, -(-m // array.rows))
    whole = int(kind.sram.bandwidth_bytes_per_s)
    room = max(Fraction(whole - kind.dma.channels * int(kind.dma.bandwidth_bytes_per_s)), Fraction(whole, 4))
    fed = math.ceil(Fraction(left * bits[0] + right * bits[1], 8) * kind.clock_hz / room)
    unpacked = 0
    if "int8" in array.converted:
        unpacked = -(-count * k * (m + n) // kind.vector.lanes) * kind.vector.conversion("int8").unpack
    hold = max(math.ceil(held / rate), fed, unpacked)
    return hold, hold + math.ceil(drain / rate)


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_tiles_take_what_the_law_says(dataflow: str) -> None:
    rng = random.Random(dataflow)
    for _ in range(40):
        kind = random_core(rng)
        tiles = [tuple(rng.randint(1, most) for most in (6, 90, 90, 90)) for _ in range(12)]
        shape = GemmShape(*(np.array(column).reshape(3, 4) for column in zip(*tiles, strict=True)))
        hold, dur = array_cycles(shape, kind, "int8", dataflow, (8, 4))
        assert hold.shape == dur.shape == (3, 4)
        found = list(zip(hold.ravel().tolist(), dur.ravel().tolist(), strict=True))
        assert found == [expected(kind, tile, dataflow, (8, 4)) for tile in tiles]  # type: ignore[arg-type]


def test_sizes_broadcast() -> None:
    kind, one = core(), np.array([1])
    broad = GemmShape(one, np.array([[5], [70]]), np.array([6, 30, 9]), one * 7)
    wide = array_cycles(broad, kind, "int8", DATAFLOWS[0], (8, 8))
    assert wide[0].shape == (2, 3)
    alone = array_cycles(GemmShape(one, one * 70, one * 30, one * 7), kind, "int8", DATAFLOWS[0], (8, 8))
    assert (wide[0][1, 1], wide[1][1, 1]) == (alone[0][0], alone[1][0])


def test_starting_and_achieving_cost_time() -> None:
    """64 x 32 x 16 on 8 x 8: 8 folds of 64 vectors; at 0.7 of the rate, with 10 ns more a tile at 500 MHz."""
    calibration = {"calibration.array_efficiency": 0.7, "calibration.tile_overhead": "10 ns"}
    kind = load_chip("tiny", calibration).cores[0]
    shape = GemmShape(*(np.array([n]) for n in (1, 64, 32, 16)))
    hold, dur = array_cycles(shape, kind, "int8", "weight_stationary", (8, 8))
    assert hold.tolist() == [math.ceil(512 / 0.7) + 5]
    assert (dur - hold).tolist() == [2 * 8 + 8 + 64 - 2 - 64]


@pytest.mark.parametrize("size", [0, -3])
def test_no_tile_is_empty(size: int) -> None:
    one = np.array([1])
    with pytest.raises(ValueError, match="at least 1"):
        array_cycles(GemmShape(one, one, one * size, one), core(), "int8", "weight_stationary", (8, 8))


def test_what_would_wrap_around_is_refused() -> None:
    one, huge = np.array([1]), np.array([1 << 31])
    with pytest.raises(ValueError, match="beyond the range"):
        array_cycles(GemmShape(one, huge, huge, huge), core(), "int8", "weight_stationary", (8, 8))
