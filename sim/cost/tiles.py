"""What a tile of a nest touches, compiled: boxes of operands, their runs in memory, fills, parts of loops."""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.cost.nest_tables import (
    AXES,
    BITS,
    DENOMINATOR,
    DIMS,
    HIGH,
    LOW,
    PACKED,
    RUN_AXES,
    SIZE,
    TAPS,
    TERMS,
    TOUCHES,
)
from sim.jit import jit_bare


@jit_bare
def parts_of(total: int, size: int) -> int:
    """total / size, rounded up."""
    return -(-total // size)


@jit_bare
def largest_part(extent: int, parts: int, quantum: int) -> int:
    """Indices of the largest of `parts` parts; see sim/mapping/grid.py."""
    blocks = (extent + quantum - 1) // quantum
    if blocks < parts:
        return (extent + parts - 1) // parts
    share = blocks // parts
    last = extent - quantum * (blocks - -(-blocks // parts)) if parts > 1 else extent
    others = quantum * (share + (1 if blocks - share * parts > 1 else 0))
    return min(extent, max(last, others))


@jit_bare
def extent_of(t: Any, nest: int, operand: int, axis: int, tile: Any) -> float:
    """Elements of a tensor axis that a tile touches at most."""
    size, terms = t.axes[nest, operand, axis, SIZE], t.axes[nest, operand, axis, TERMS]
    if terms == 0:
        return float(size)
    reach = t.axes[nest, operand, axis, HIGH] - t.axes[nest, operand, axis, LOW]
    for term in range(terms):
        dim = t.terms[nest, operand, axis, term, 0]
        reach += (tile[dim] - 1) * t.terms[nest, operand, axis, term, 1]
    below = t.axes[nest, operand, axis, DENOMINATOR]
    if below != 1:
        reach = (reach + below - 1) // below
    return float(min(size, reach + 1))


@jit_bare
def box(t: Any, nest: int, operand: int, tile: Any) -> tuple[float, float, int]:
    """(elements, bytes in one contiguous run, pitch of the runs) of an operand's largest box; see
    sim.graph.nest.Operand.run_bytes and pitch_bytes."""
    row = t.operands[nest, operand]
    elements, run, stride, pitch, whole = 1.0, 1.0, 1, 0, True
    for place in range(row[AXES]):
        axis = t.run_order[nest, operand, place]
        extent, size = extent_of(t, nest, operand, axis, tile), t.axes[nest, operand, axis, SIZE]
        elements *= extent
        if whole and place < row[RUN_AXES]:
            run *= extent
        elif not whole and pitch == 0 and extent > 1:
            pitch = stride * row[BITS] // 8
        whole = whole and extent == size
        stride *= size
    if row[PACKED]:
        run, pitch = elements, 0
    return elements, max(1.0, np.floor(run * row[BITS] / 8)), pitch


@jit_bare
def fill_count(t: Any, nest: int, operand: int, steps: Any, columns_first: int) -> float:
    """Fills of an operand's buffer on every core; see sim.cost.estimate.fills."""
    touches = t.operands[nest, operand, TOUCHES]
    total, active = 1.0, False
    for place in range(t.nests[nest, DIMS]):
        dim = t.order[nest, columns_first, place]
        if steps[dim] > 1:
            active = active or (touches >> dim) & 1 == 1
            if active:
                total *= steps[dim]
    return total


@jit_bare
def kept_tiles(t: Any, nest: int, operand: int, steps: Any, columns_first: int) -> tuple[float, float]:
    """(different tiles of an operand on every core, those that it needs again); see sim.cost.estimate.ring."""
    touches = t.operands[nest, operand, TOUCHES]
    boxes, ring = 1.0, 1.0
    for place in range(t.nests[nest, DIMS]):
        dim = t.order[nest, columns_first, place]
        if (touches >> dim) & 1:
            boxes *= steps[dim]
        elif steps[dim] > 1:
            ring = boxes
    return boxes, ring


@jit_bare
def groups(t: Any, nest: int, operand: int, splits: Any) -> float:
    """Groups of cores that need different boxes of an operand."""
    touches = t.operands[nest, operand, TOUCHES]
    total = 1.0
    for dim in range(t.nests[nest, DIMS]):
        if (touches >> dim) & 1:
            total *= splits[dim]
    return total


@jit_bare
def tile_gemm(t: Any, nest: int, tile: Any) -> tuple[float, float, float, float]:
    """(count, m, n, k) of the GEMM that a tile amounts to."""
    count, m, n, k = 1.0, 1.0, 1.0, float(t.nests[nest, TAPS])
    for dim in range(t.nests[nest, DIMS]):
        role = t.role[nest, dim]
        if role == 0:
            count *= tile[dim]
        elif role == 1:
            m *= tile[dim]
        elif role == 2:
            n *= tile[dim]
        else:
            k *= tile[dim]
    return count, m, n, k
