"""What the tiles of a mapped nest take: its products on arrays and what empties accumulators, in one compiled call
each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.cost.banks import array_conflicts
from sim.cost.compiled import tables_of
from sim.cost.element_passes import drain_passes
from sim.cost.estimate import operand_bits
from sim.cost.work import (
    accumulator_bytes,
    array_law,
    check_cycles,
    compute_bandwidth,
    scale_bits,
    tile_overhead_cycles,
    unpack_cost,
    vector_cost,
)
from sim.graph.nest import Nest
from sim.graph.tensor import DTYPE_BITS
from sim.hw.core import CoreKind
from sim.hw.vector import VectorUnit
from sim.program import check_ticks, tick_fraction

Int64 = npt.NDArray[np.int64]

_AS_PADDED = np.ones((1, 2))


@dataclass(frozen=True, slots=True)
class Products:
    """Ticks that the products of every tile hold the array, and those until their results [cores, iterations];
    multiply-accumulates by core; all tiles together by the columns of sim/cost/tile_cycles.py (HELD, LEFT, ...)."""

    hold: Int64
    dur: Int64
    macs: Int64
    sums: Int64


def tile_products(
    nest: Nest,
    ranges: tuple[Int64, Int64],
    kind: CoreKind,
    dataflow: str,
    *,
    sides: tuple[int, int] = (0, 0),
    slowed: float = 1.0,
) -> Products:
    """The products of a contraction's tiles, whose loops go from `ranges[0]` to `ranges[1]` [dims, cores, iterations];
    see sim.cost.work.array_cycles. Where tiles are dealt, each is computed as one of `sides` rows and columns and takes
    `slowed` times as long.

    Raises ValueError as `array_cycles`, InvariantViolation for what no tick can hold.
    """
    from sim.cost.tile_cycles import fill_products

    low, high = ranges
    dtype = nest.operands[0].tensor.dtype
    law, rates = array_law(kind, dtype, dataflow, operand_bits(nest), unpack_cost(nest, kind), scale_bits(nest))
    conflicts = _AS_PADDED
    if not kind.sram.padded_rows:
        conflicts = np.empty((*low.shape[1:], 2))
        conflicts[..., 0], conflicts[..., 1] = array_conflicts(nest, kind, tuple(high - low), dataflow)
        conflicts = conflicts.reshape(-1, 2)
    hold, dur = np.empty((2, *low.shape[1:]), np.int64)
    macs, sums = np.zeros(low.shape[1], np.int64), np.zeros(7, np.int64)
    least, most, longest = fill_products(
        tables_of(nest), low, high, law, rates, conflicts, *sides, slowed, *tick_fraction(kind.clock_hz),
        hold.reshape(-1), dur.reshape(-1), macs, sums,
    )  # fmt: skip
    check_cycles(least, most)
    check_ticks(longest, kind.clock_hz)
    return Products(hold, dur, macs, sums)


def drain_ticks(
    nest: Nest,
    boxes: tuple[Int64, Int64],
    shape: tuple[int, int, int],
    kind: CoreKind,
    *,
    lanes: Int64 | None = None,
    instructions: float = 0.0,
    parted: bool = False,
) -> tuple[Int64, int]:
    """(ticks [cores, tiles], elements of all) of taking results out of the accumulator: `boxes` are start and stop,
    flat, of this `shape` (cores, tiles, rank).

    `lanes` [cores x tiles] are the elements that the lanes handle, where these are not those of the box; `instructions`
    as in sim.cost.work.vector_tile_cycles. Of a split sum (`parted`) the last part lies in the scratchpad. Raises
    InvariantViolation for what no tick can hold.
    """
    from sim.cost.tile_cycles import fill_drains

    moved_bits = DTYPE_BITS[nest.out.tensor.dtype] + nest.drain_bits
    one = accumulator_bytes(nest.operands[0].tensor.dtype)
    if parted:
        moved_bits, one = moved_bits + 8 * one, 0

    start, stop = boxes
    found = np.empty(shape[:2], np.int64)
    sums = 0 if kind.accumulator is None else kind.accumulator.bandwidth_bytes_per_s
    unit = (
        known_drain(nest, kind)[1], kind.vector.lanes, instructions if kind.dispatch is not None else 0.0,
        1 if kind.dispatch is None else kind.dispatch.issue, kind.calibration.vector_efficiency, kind.clock_hz,
        compute_bandwidth(kind), sums, tile_overhead_cycles(kind),
    )  # fmt: skip
    total, longest = fill_drains(
        start, stop, shape[2], _NONE if lanes is None else lanes, np.array(unit, np.float64),
        moved_bits, one, *tick_fraction(kind.clock_hz), found.reshape(-1),
    )  # fmt: skip
    check_ticks(longest, kind.clock_hz)
    return found, total


_NONE = np.zeros(0, np.int64)

_DRAINS: dict[tuple[int, VectorUnit], tuple[Nest, Mapping[str, float], float]] = {}
_MOST_DRAINS = 4096


def known_drain(nest: Nest, kind: CoreKind) -> tuple[Mapping[str, float], float]:
    """What is applied to a result on the way out, as passes and as cycles of a lane; made once for a vector unit, which
    alone decides."""
    known = _DRAINS.get((id(nest), kind.vector))
    if known is None:
        if len(_DRAINS) >= _MOST_DRAINS:
            _DRAINS.clear()
        passes = drain_passes(nest, kind)
        # The entry keeps the nest alive, and with it its id.
        known = _DRAINS[id(nest), kind.vector] = nest, passes, vector_cost(passes, kind)
    return known[1:]
