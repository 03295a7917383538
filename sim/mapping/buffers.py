"""The scratchpad buffers of one mapped loop nest: how many slots of how many bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.cost.estimate import BUFFER_SLOTS, aligned
from sim.cost.work import accumulator_bytes
from sim.graph.nest import Nest, Operand
from sim.mapping.deal_vector import staged_bytes
from sim.mapping.grid import largest_part
from sim.mapping.memo import Recent
from sim.mapping.online import scratchpad_buffers
from sim.mapping.search import Deal, RowTiling, Tiling
from sim.mapping.step import Step

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Buffer:
    """`name` is in0, in1, ... for operands, out, part (a partial sum of this core), message (of another),
    shares and running (of an attention)."""

    name: str
    slots: int
    size_bytes: int


def tile_sizes(nest: Nest, tiling: Tiling) -> tuple[Int64, ...]:
    """Largest tile of every dimension, as arrays of one element."""
    return tuple(
        np.atleast_1d(largest_part(dim.extent, np.array([parts * steps]), quantum))
        for dim, parts, steps, quantum in zip(
            nest.dims, tiling.splits, tiling.steps, tiling.quanta, strict=True
        )
    )


BUFFERS: Recent[object, tuple[Buffer, ...]] = Recent(1 << 14)


def buffers(step: Step) -> tuple[Buffer, ...]:
    """Every buffer of the step; operands read in place and kept results need none."""
    key = (step.signature, step.tiling, step.resident, step.keep)
    found = BUFFERS.get(key)
    if found is None:
        found = BUFFERS[key] = _buffers(step)
    return found


def _buffers(step: Step) -> tuple[Buffer, ...]:
    nest, tiling = step.nest, step.tiling
    if tiling.rows is not None:
        return _row_buffers(nest, tiling, tiling.rows)
    from sim.cost.boxes import buffer_needs
    from sim.cost.compiled import tables_of

    needs = np.zeros((len(nest.operands) + 2, 2))
    splits, steps, quanta = np.array([tiling.splits, tiling.steps, tiling.quanta], np.int64)
    buffer_needs(
        tables_of(nest), splits, steps, quanta, int(is_columns_first(nest, tiling.order)), needs
    )
    *needed, (elements, _) = [(int(count), int(size)) for count, size in needs.tolist()]
    slots = out_slots = tiling.slots
    kernel, refilled = None, False
    if tiling.deal is not None:
        kernel = tiling.deal.vector
        # A block loads all that it reads, what the one before it on the core has read too.
        refilled = kernel is None
        # Steps are of the whole result: a core that has one tile, and its sum in one piece, fills no slot again.
        slots = tiling.deal.stages if _turns(nest, tiling, tiling.deal) > 1 else 1
        out_slots = 1 if tiling.unit == "array" else slots
    found = []
    for index, here in enumerate(step.resident):
        if not here:
            fills, size = needed[index]
            size = staged_bytes(nest.operands[index], size, kernel)
            mine = max(slots, ring_of(nest.operands[index], tiling)) if tiling.stays(index) else slots
            found.append(Buffer(f"in{index}", mine if fills > 1 or refilled else 1, size))
    if not step.keep:
        tiles, size = needed[-1]
        found.append(Buffer("out", out_slots if tiles > 1 else 1, staged_bytes(nest.out, size, kernel)))
    if nest.kind == "attention":
        found += [Buffer(*more) for more in scratchpad_buffers(step)]
    if any(tiling.splits[dim] > 1 for dim in nest.role("k")):
        part = aligned(elements * accumulator_bytes(nest.operands[0].tensor.dtype))
        found += [Buffer("part", 1, part), Buffer("message", BUFFER_SLOTS, part)]
    return tuple(found)


def boxes_of(operand: Operand, tiling: Tiling) -> int:
    """Different tiles of an operand that a core needs."""
    return math.prod(tiling.steps[dim] for dim in operand.dims)


def ring_of(operand: Operand, tiling: Tiling) -> int:
    """Tiles of an operand that a core needs again: those that turn inside of the outermost loop that moves others but
    not these. With as many slots each is loaded once; 1 where the loops never come back to a tile."""
    ring, outside = 1, False
    for dim in tiling.order:
        if dim not in operand.dims:
            outside = outside or tiling.steps[dim] > 1
        elif outside:
            ring *= tiling.steps[dim]
    return ring


def _turns(nest: Nest, tiling: Tiling, deal: Deal) -> int:
    """How often the busiest core fills the buffers of a dealt kernel, all its waves together."""
    sums = nest.role("k")
    tiles = math.prod(steps for dim, steps in enumerate(tiling.steps) if dim not in sums)
    return -(-tiles // deal.cores) * math.prod(tiling.steps[dim] for dim in sums)


def _row_buffers(nest: Nest, tiling: Tiling, rows: RowTiling) -> tuple[Buffer, ...]:
    """Of a row-stationary array: inputs, filters on their way to the PEs, one result, in which the sums grow, and one
    tile of whatever is added to it. A second set of banks for inputs takes its room, but is not filled while the array
    works (see `sim/mapping/row_tiles.py`)."""
    tile = tile_sizes(nest, tiling)
    found = []
    for index, operand in enumerate(nest.operands):
        size = int(aligned(operand.tile_bytes(tile))[0])
        if operand.part == "right":
            found.append(Buffer(f"in{index}", BUFFER_SLOTS, min(size, rows.staging_bytes)))
        else:
            sets = rows.mapping.input_slots if operand.part == "left" else 1
            found.append(Buffer(f"in{index}", 1, sets * size))
    return (*found, Buffer("out", 1, int(aligned(nest.out.tile_bytes(tile))[0])))


def is_columns_first(nest: Nest, order: Sequence[int]) -> bool:
    """Do the column loops stand outside the row loops?"""
    rows, columns = nest.role("m"), nest.role("n")
    return bool(rows and columns) and list(order).index(columns[0]) < list(order).index(rows[0])
