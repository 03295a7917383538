"""How much longer a tile's operands take to read from the scratchpad's banks because of how they lie there.

A box lies packed, its axes in the operand's order in memory. The lanes of a read run along one loop of the nest: the
rows or columns of the array that the operand feeds, or the fastest axis of a vector operator's result. The taps of a
kernel window are read one after another. Weights are packed in the order in which they are read.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sim.graph.nest import DimRole, Nest, Operand
from sim.graph.tensor import DTYPE_BITS
from sim.hw.core import CoreKind
from sim.hw.sram import conflict_factor

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

FED_ALONG: dict[str, tuple[DimRole, DimRole]] = {
    "weight_stationary": ("k", "n"),
    "input_stationary": ("m", "k"),
    "output_stationary": ("m", "n"),
}
"""Loops along which the array reads a vector of its left and right operand in a cycle: the moving one along the sum,
the one that is shifted in along the columns; with results in place both along the result."""


def array_conflicts(
    nest: Nest, kind: CoreKind, tile: Sequence[Int64], dataflow: str
) -> tuple[Float64 | float, Float64 | float]:
    """Factors on the time to read the left and right operand of a contraction's tiles; 1.0 where rows are padded, and
    for a dataflow that does not take vectors of operands from the scratchpad in step."""
    array = kind.array
    if kind.sram.padded_rows or array is None or dataflow not in FED_ALONG:
        return 1.0, 1.0
    factors = []
    for operand, role in zip(nest.operands[:2], FED_ALONG[dataflow], strict=True):
        along = array.rows if role == "k" or (dataflow == "output_stationary" and role == "m") else array.cols
        factors.append(_factor(operand, kind, tile, nest.role(role), along))
    return factors[0], factors[1]


def weighted_read_bytes(nest: Nest, kind: CoreKind, tile: Sequence[Int64]) -> Int64 | Float64:
    """Scratchpad bytes that a vector tile reads, each operand's times its conflict factor; so many bytes could be read
    side by side in the same time."""
    fastest = nest.out.axes[nest.out.memory_order()[-1]] if nest.out.axes else None
    along = tuple(dim for dim, _ in fastest.terms) if fastest is not None else ()
    sizes = [operand.tile_bytes(tile) for operand in nest.operands]
    if kind.sram.padded_rows:
        return np.asarray(sum(sizes, start=np.zeros_like(tile[0])), np.int64)
    total = np.zeros(np.shape(tile[0]), np.float64)
    for operand, size in zip(nest.operands, sizes, strict=True):
        total = total + size * _factor(operand, kind, tile, along, kind.vector.lanes)
    return total


def _factor(
    operand: Operand, kind: CoreKind, tile: Sequence[Int64], along: Sequence[int], lanes: int
) -> Float64 | float:
    """Conflict factor of reads along the innermost of some loops. Elements of one word come together; steps between
    elements are counted in whole words. A gathered row is copied to where it is read."""
    if not along or operand.gathered or operand.tensor.role == "weight":
        return 1.0
    step = _step_elements(operand, tile, along[-1]) * DTYPE_BITS[operand.tensor.dtype] / 8
    words = np.floor(step / kind.sram.word_bytes(kind.clock_hz)).astype(np.int64)
    return conflict_factor(words, np.minimum(lanes, tile[along[-1]]), kind.sram.banks)


def _step_elements(operand: Operand, tile: Sequence[Int64], dim: int) -> Int64:
    """Elements in a packed box from what one index of a loop reads to what the next one does; 0 where it reads the
    same."""
    stride: Int64 = np.ones_like(tile[0])
    step: Int64 = np.zeros_like(tile[0])
    for axis in (operand.axes[place] for place in reversed(operand.memory_order())):
        factor = sum(factor for at, factor in axis.terms if at == dim)
        step = step + stride * factor // axis.denominator
        stride = stride * axis.extent(tile)
    return step
