"""Cycles and action counts of one tile on the array or the vector unit of a core; everything is vectorised."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.graph.nest import Nest
from sim.graph.tensor import DTYPE_BITS
from sim.hw.core import CoreKind
from sim.hw.systolic import DATAFLOWS
from sim.units import PS_PER_S

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

ACCUMULATOR_DTYPE: Mapping[str, str] = {"int4": "int32", "int8": "int32", "int16": "int32", "int32": "int32"}
"""Format of partial sums by operand format; floating-point operands accumulate in fp32."""


def accumulator_dtype(dtype: str) -> str:
    """Format in which sums of products of `dtype` are kept (4 bytes an element)."""
    return ACCUMULATOR_DTYPE.get(dtype, "fp32")


def accumulator_bytes(dtype: str) -> int:
    """Bytes of one partial sum of products of `dtype`."""
    return DTYPE_BITS[accumulator_dtype(dtype)] // 8


@dataclass(frozen=True, slots=True)
class GemmShape:
    """Arrays (broadcast together) of tile sizes: `count` GEMMs of m x k by k x n."""

    count: Int64
    m: Int64
    n: Int64
    k: Int64


def array_cycles(
    shape: GemmShape,
    kind: CoreKind,
    dtype: str,
    dataflow: str,
    operand_bits: tuple[int, int],
    conflicts: tuple[Float64 | float, Float64 | float] = (1.0, 1.0),
    unpack: float = 0.0,
    scales: float = 0.0,
) -> tuple[Int64, Int64]:
    """(hold, dur) in cycles of the core's clock of tiles on its array.

    The law of sim/hw/systolic.py divided by the precision's rate; back-to-back repeats overlap as the law allows,
    several arrays divide each tile in the way that is fastest for it. Never faster than the scratchpad delivers the
    operands with the DMA's share of its bandwidth reserved, each slower by its factor of bank conflicts
    (sim.cost.banks), nor than the lanes unpack the right operand, at `unpack` cycles per element and lane
    (`unpack_cost`); `scales` bits are read with each of its elements (`scale_bits`).
    """
    from sim.cost.tile_cycles import fill_array_cycles

    tiles = np.broadcast(shape.count, shape.m, shape.n, shape.k)
    sizes, factors = np.empty((*tiles.shape, 4), np.int64), np.empty((*tiles.shape, 2))
    sizes[..., 0], sizes[..., 1], sizes[..., 2], sizes[..., 3] = shape.count, shape.m, shape.n, shape.k
    factors[..., 0], factors[..., 1] = conflicts
    found = np.empty((tiles.size, 2), np.int64)
    law, rates = array_law(kind, dtype, dataflow, operand_bits, unpack, scales)
    check_cycles(*fill_array_cycles(sizes.reshape(-1, 4), law, rates, factors.reshape(-1, 2), found))
    hold, dur = np.ascontiguousarray(found.T).reshape(2, *tiles.shape)
    return hold, dur


def check_cycles(least: int, most: float) -> None:
    """Refuse tiles whose least size is below 1, and GEMMs that may take too many cycles. Raises ValueError."""
    from sim.cost.tile_cycles import MOST_CYCLES

    if least < 1:
        raise ValueError(f"sizes of tiles must be at least 1, not {least}")
    if most > MOST_CYCLES:
        raise ValueError(f"a GEMM of up to {most:.3g} cycles is beyond the range of 2**62")


_LAWS: dict[tuple[object, ...], tuple[CoreKind, tuple[Int64, Float64]]] = {}
_MOST_LAWS = 256


def array_law(
    kind: CoreKind, dtype: str, dataflow: str, operand_bits: tuple[int, int], unpack: float, scales: float = 0.0
) -> tuple[Int64, Float64]:
    """The array and what stands around it by the columns of sim/cost/tile_cycles.py, made once."""
    key = id(kind), dtype, dataflow, operand_bits, unpack, scales
    known = _LAWS.get(key)
    if known is None:
        if len(_LAWS) >= _MOST_LAWS:
            _LAWS.clear()
        # The entry keeps the kind alive, and with it its id.
        known = _LAWS[key] = kind, _array_law(kind, dtype, dataflow, operand_bits, unpack, scales)
    return known[1]


def _array_law(
    kind: CoreKind, dtype: str, dataflow: str, operand_bits: tuple[int, int], unpack_right: float, scales: float
) -> tuple[Int64, Float64]:
    """The array and what stands around it by the columns of sim/cost/tile_cycles.py."""
    array = kind.array
    assert array is not None
    rate = array.rate(dtype)
    unpack = kind.vector.conversion(dtype).unpack if dtype in array.converted else 0
    law = (
        DATAFLOWS.index(dataflow), array.rows, array.cols, array.rows_per_adder, array.double_buffered_weights,
        array.count, rate.numerator, rate.denominator, *operand_bits, unpack, kind.vector.lanes,
        tile_overhead_cycles(kind), 0 if kind.dispatch is None else kind.dispatch.depth_of(dtype),
        -1 if array.latency_cycles is None else array.latency_cycles,
    )  # fmt: skip
    efficiency = kind.calibration.array_efficiency, kind.calibration.vector_efficiency
    return np.array(law, np.int64), np.array(
        (*efficiency, kind.clock_hz, compute_bandwidth(kind), unpack_right, scales), np.float64
    )


def unpack_cost(nest: Nest, kind: CoreKind) -> float:
    """Cycles per element and lane by which the vector unit turns packed weights into numbers on their way to the array;
    0 where there are none, or the array's own load path unpacks them (`array.unpacks`)."""
    array = kind.array
    if not nest.unpack or (array is not None and nest.operands[1].tensor.dtype in array.unpacks):
        return 0.0
    return vector_cost(nest.unpack, kind)


def scale_bits(nest: Nest) -> float:
    """Bits of scales and zero points per element of a packed right operand."""
    weights = nest.operands[1].tensor.elements
    return sum(o.tensor.elements * DTYPE_BITS[o.tensor.dtype] / weights for o in nest.operands if o.part == "unpack")


def compute_bandwidth(kind: CoreKind) -> float:
    """Scratchpad bytes per second left for compute when every DMA channel runs; at least a quarter of it all."""
    whole = kind.sram.bandwidth_bytes_per_s
    return max(whole - kind.dma.channels * kind.dma.bandwidth_bytes_per_s, whole / 4)


def vector_tile_cycles(
    elements: Int64,
    passes: Mapping[str, float],
    kind: CoreKind,
    moved_bytes: Int64 | Float64 | int = 0,
    accumulator_read_bytes: Int64 | int = 0,
    *,
    instructions: float = 0.0,
) -> Int64:
    """Cycles of the vector unit for `elements` results with `passes` primitive passes each, never faster than the
    scratchpad and the accumulator deliver. `instructions` more per result are issued (on a core with `dispatch`)."""
    cost = vector_cost(passes, kind)
    busy = np.ceil(-(-elements // kind.vector.lanes) * cost).astype(np.int64)
    if instructions and kind.dispatch is not None:
        busy = busy + np.ceil(elements * instructions / kind.dispatch.issue).astype(np.int64)
    busy = _achieved(busy, kind.calibration.vector_efficiency)
    fed = np.ceil(np.asarray(moved_bytes) * kind.clock_hz / compute_bandwidth(kind)).astype(np.int64)
    busy = np.maximum(busy, fed)
    if kind.accumulator is not None:
        drained = np.asarray(accumulator_read_bytes) * kind.clock_hz / kind.accumulator.bandwidth_bytes_per_s
        busy = np.maximum(busy, np.ceil(drained).astype(np.int64))
    return np.asarray(np.maximum(1, busy) + tile_overhead_cycles(kind), np.int64)


def drained_bytes(nest: Nest, out_bytes: Int64) -> Float64:
    """Scratchpad bytes of emptying an accumulator of so many bytes of results: these, and what is read for each."""
    return np.asarray(out_bytes * (1.0 + nest.drain_bits / DTYPE_BITS[nest.out.tensor.dtype]), np.float64)


PARTS_ADDED = 3
"""Parts of a split sum that an addition moves at the scratchpad: it reads a message and a part, and writes a part."""

EPILOGUE_ACCESSES = 3
"""Accesses per sum that leaves a GPU's registers: to the scratchpad and back, so that rows are written whole, and the
result itself."""

VECTOR_ELEMENTS = 4
"""Elements of an access of a GPU's thread, unless it takes one by one: 8 or 16 bytes."""


def epilogue_instructions(kind: CoreKind) -> float:
    """Instructions per result of a dealt tile beside the passes of its drain; 0 on other cores."""
    if kind.dispatch is None:
        return 0.0
    return EPILOGUE_ACCESSES * kind.dispatch.access_instructions / VECTOR_ELEMENTS


def tile_overhead_cycles(kind: CoreKind) -> int:
    """Cycles of the core's clock that starting a tile costs (where tiles are dealt: every step of its sum); 0 on a chip
    that is not calibrated."""
    return -(-kind.calibration.tile_overhead_ps * kind.clock_hz // PS_PER_S)


def _achieved(cycles: Int64, efficiency: float) -> Int64:
    """Cycles at the achieved part of a unit's rate; the same integers where that is all of it."""
    return cycles if efficiency == 1.0 else np.ceil(cycles / efficiency).astype(np.int64)


def vector_cost(passes: Mapping[str, float], kind: CoreKind) -> float:
    """Cycles per element and lane of a mix of primitive passes."""
    return math.fsum(count * kind.vector.passes_of(name) for name, count in passes.items())


def vector_instructions(passes: Mapping[str, float], kind: CoreKind) -> float:
    """Instructions of a thread per element of a mix of primitive passes, one after another: a result of a special
    function is one, however few lanes compute it."""
    return math.fsum(count * kind.vector.instructions_of(name) for name, count in passes.items())
