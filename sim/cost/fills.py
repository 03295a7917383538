"""How often the loops of a nest load the tiles of an operand, and what a tile amounts to, for many tilings at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sim.cost.work import GemmShape
from sim.graph.nest import Nest, Operand

Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]


def loop_order(nest: Nest, columns_first: bool) -> tuple[int, ...]:
    """Loops from outermost to innermost: repeats, then rows and columns in the order asked for, then the sum."""
    rows, columns = nest.role("m"), nest.role("n")
    middle = columns + rows if columns_first else rows + columns
    return nest.role("g") + middle + nest.role("k")


def fills(nest: Nest, operand: Operand, steps: Int64, columns_first: Bool) -> Int64:
    """How often each core fills a buffer of this operand: once per pass of the loops down to the innermost one
    that changes what the operand touches."""
    totals = []
    for order in (loop_order(nest, False), loop_order(nest, True)):
        total: Int64 = np.ones(len(steps), np.int64)
        active = np.zeros(len(steps), np.bool_)
        for dim in reversed(order):
            if dim in operand.dims:
                active |= steps[:, dim] > 1
            total = np.where(active, total * steps[:, dim], total)
        totals.append(total)
    return np.where(columns_first, totals[1], totals[0])


def ring(nest: Nest, operand: Operand, steps: Int64, columns_first: Bool) -> Int64:
    """Tiles of an operand that a core needs again: those that turn inside of the outermost loop that moves others but
    not these. In a buffer of as many slots each is loaded once; 1 where the loops never come back to a tile."""
    found = []
    for order in (loop_order(nest, False), loop_order(nest, True)):
        total, outside = np.ones(len(steps), np.int64), np.zeros(len(steps), np.bool_)
        for dim in order:
            if dim in operand.dims:
                total = np.where(outside, total * steps[:, dim], total)
            else:
                outside |= steps[:, dim] > 1
        found.append(total)
    return np.where(columns_first, found[1], found[0])


def tile_gemm(nest: Nest, tile: Sequence[Int64]) -> GemmShape:
    """The GEMM that a tile of a contraction amounts to; the kernel window multiplies the reduction."""
    one = np.ones_like(tile[0])

    def product(role: tuple[int, ...]) -> Int64:
        total = one
        for dim in role:
            total = total * tile[dim]
        return total

    return GemmShape(
        product(nest.role("g")),
        product(nest.role("m")),
        product(nest.role("n")),
        product(nest.role("k")) * nest.taps,
    )


def result_elements(nest: Nest, tile: Sequence[Int64]) -> Int64:
    """Elements of the largest result tile."""
    total: Int64 = np.ones_like(tile[0])
    for axis in nest.out.axes:
        total = total * axis.extent(tile)
    return total
