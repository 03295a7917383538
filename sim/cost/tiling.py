"""The cost of one tiling of one nest on one chip, compiled: what it amounts to on any chip of a kind, and from that the
closed form on one (sim/cost/kernel.py)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sim.cost.kernel import (
    ACCUMULATOR_NEED,
    ALIGNMENT,
    ARRAY_S,
    CHANNEL_S,
    CORE_S,
    DRAM_BYTES,
    DRAM_S,
    EACH_PORT_S,
    FLOOR_S,
    HEAD_S,
    ISSUE_S,
    LATENCY_S,
    LINK_S,
    PORT_S,
    SEND_S,
    SLOTS,
    SRAM_NEED,
    TRANSFERS,
    VECTOR_S,
    WIRE_S,
    Tiles,
    Work,
    chains_s,
    early_chains_s,
    held,
    make_work,
    pattern_cost,
)
from sim.cost.nest_tables import BITS, DIMS, OPERANDS
from sim.cost.online_kernel import attention_bytes, held_by_attention
from sim.cost.tiles import box, fill_count, groups, kept_tiles, tile_gemm
from sim.cost.wires import LINK, PORT
from sim.jit import jit_bare


class Shape(NamedTuple):
    """Of one tiling, whatever the speeds of the chip: its tiles, the GEMMs that a tile amounts to (so many of m x n x
    k); bytes of scratchpad, transfers, bytes of a core and of the DRAM; of the first tiles all bytes and those of the
    largest; fills and bytes of buffers that are filled more than once; bytes of a result tile, 0 where results stay;
    bytes through the busiest port and over the busiest link. Of what stays: the first part of the tiles, which it is
    loaded in, bytes of a core, of the DRAM and those it would move at its peak in the time, through the busiest port
    and over the busiest link; fills and bytes of the buffer that has most (1 and 0: nothing stays)."""

    x: Tiles
    gemms: float
    m: float
    n: float
    k: float
    sram: float
    transfers: float
    core: float
    dram: float
    fresh: float
    largest: float
    most_loads: float
    channel: float
    out: float
    ported: float
    linked: float
    part: float
    kept_core: float
    kept_dram: float
    kept_wired: float
    kept_ported: float
    kept_linked: float
    kept_loads: float
    kept_channel: float


@jit_bare
def no_shape() -> Shape:
    """Of no tiling: what a variable for shapes holds before the first."""
    x = Tiles(1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0)
    return Shape(
        x, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0,
        0.0,
    )  # fmt: skip


AT_ONCE, PATTERN, MOVED = range(3)
"""Of every operand of a Shape: bytes of one tile of all cores, 1 / efficiency of the DRAM, and bytes of all loads times
that."""


@jit_bare
def tiling_shape(
    t: Any, nest: int, hw: Any, splits: Any, steps: Any, tile: Any, columns_first: int, resident: int, staying: int,
    stored: bool, wires: Any, of_operand: Any,
) -> Shape:  # fmt: skip
    """The shape of one tiling, as `tiling_cost` describes it, and of every operand, the result last, what the DRAM has
    to do with it, into `of_operand` [operands, 3]. Of the chip it depends on what patterns cost the DRAM."""
    operands = t.nests[nest, OPERANDS]
    used, summed, iterations, sum_steps = 1.0, 1.0, 1.0, 1.0
    for dim in range(t.nests[nest, DIMS]):
        used *= splits[dim]
        iterations *= steps[dim]
        if t.role[nest, dim] == 3:
            summed *= splits[dim]
            sum_steps *= steps[dim]
    sram, transfers, core, dram, read, out = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    fresh, largest, most_loads, channel, elements, size = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    ported, linked, part = 0.0, 0.0, 1.0
    kept_core, kept_dram, kept_wired, kept_ported, kept_linked, kept_loads, kept_channel = (
        0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    )  # fmt: skip
    for operand in range(operands + 1):
        elements, run, pitch = box(t, nest, operand, tile)
        size = np.ceil(elements * t.operands[nest, operand, BITS] / 8)
        result = operand == operands
        loads, apart, slots, early = iterations / sum_steps, used / summed, SLOTS, 1.0
        if not result:
            read += size
            loads, apart = fill_count(t, nest, operand, steps, columns_first), groups(t, nest, operand, splits)
            if (staying >> operand) & 1:
                boxes, ring = kept_tiles(t, nest, operand, steps, columns_first)
                loads, slots, early = boxes, max(SLOTS, ring), boxes / loads
        of_operand[operand, AT_ONCE], of_operand[operand, PATTERN], of_operand[operand, MOVED] = 0.0, 0.0, 0.0
        if (result and not stored) or (not result and (resident >> operand) & 1):
            continue
        inverse = pattern_cost(t, nest, operand, hw, run, pitch, result)
        of_operand[operand, AT_ONCE], of_operand[operand, PATTERN] = apart * size, inverse
        of_operand[operand, MOVED] = loads * apart * size * inverse
        if result:
            out = size
        else:
            fresh += size
            largest = max(largest, size)
            if loads > 1:
                most_loads, channel = max(most_loads, loads), max(channel, loads * size)
        sram += (slots if loads > 1 else 1.0) * np.ceil(size / ALIGNMENT) * ALIGNMENT
        transfers += loads * apart
        core += loads * size
        dram += loads * apart * size
        ported += loads * size * wires[operand, PORT]
        linked += loads * size * wires[operand, LINK]
        if early < 1.0:
            part, kept_loads, kept_channel = min(part, early), max(kept_loads, loads), max(kept_channel, loads * size)
            kept_core += loads * size
            kept_dram += loads * apart * size
            kept_wired += loads * apart * size * inverse
            kept_ported += loads * size * wires[operand, PORT]
            kept_linked += loads * size * wires[operand, LINK]
    out_tiles = iterations / sum_steps
    x = Tiles(used, summed, iterations, out_tiles, out_tiles if stored else 0.0, elements, size, read)
    count, m, n, k = tile_gemm(t, nest, tile)
    return Shape(
        x, count, m, n, k, sram, transfers, core, dram, fresh, largest, most_loads, channel, out, ported, linked,
        part, kept_core, kept_dram, kept_wired, kept_ported, kept_linked, kept_loads, kept_channel,
    )  # fmt: skip


@jit_bare
def shape_cost(hw: Any, w: Work, shape: Shape, of_operand: Any, operands: int, found: Any) -> None:
    """Evaluate a shape into `found` [COSTS]; see `tiling_cost`."""
    dram_s, shared_s, out_s, x = 0.0, 0.0, 0.0, shape.x
    for operand in range(operands + 1):
        inverse = of_operand[operand, PATTERN]
        together_s = of_operand[operand, AT_ONCE] * max(inverse * hw[WIRE_S], hw[PORT_S])
        if operand == operands:
            out_s = max(shape.out * hw[CHANNEL_S], together_s)
        else:
            shared_s += together_s
        dram_s += of_operand[operand, MOVED] * hw[WIRE_S]
    inside = 0.0
    if w.attention.depth > 0.0:
        h = held_by_attention(hw, w, x, shape.gemms, shape.m, shape.k)
        inside = attention_bytes(w, shape.gemms, shape.m, shape.k, x.iterations > x.out_tiles)
    else:
        h = held(hw, w, x, shape.gemms, shape.m, shape.n, shape.k)
    moved_s = max(shape.core * hw[CORE_S], dram_s, shape.dram * hw[PORT_S])
    moved_s = max(moved_s, shape.ported * hw[EACH_PORT_S], shape.linked * hw[LINK_S])
    issue_s = shape.transfers / x.used * hw[ISSUE_S]
    first_s = max(shape.largest * hw[CHANNEL_S], shape.fresh * hw[CORE_S], shared_s)
    latency_s = chains_s(hw, x, h, moved_s, issue_s, first_s, out_s, shape.most_loads, shape.channel)
    if shape.part < 1.0:
        part, rest = shape.part, 1.0 - shape.part
        early_s = max(
            (part * shape.core + rest * shape.kept_core) * hw[CORE_S],
            part * dram_s + rest * shape.kept_wired * hw[WIRE_S],
            (part * shape.dram + rest * shape.kept_dram) * hw[PORT_S],
        )
        early_s = max(
            early_s,
            (part * shape.ported + rest * shape.kept_ported) * hw[EACH_PORT_S],
            (part * shape.linked + rest * shape.kept_linked) * hw[LINK_S],
        )
        loads, channel = max(shape.kept_loads, part * shape.most_loads), max(shape.kept_channel, part * shape.channel)
        latency_s = max(latency_s, early_chains_s(hw, x, h, first_s, out_s, part, early_s, loads, channel))
    found[LATENCY_S] = latency_s
    found[DRAM_BYTES], found[TRANSFERS], found[DRAM_S] = shape.dram, shape.transfers, dram_s
    found[SRAM_NEED] = shape.sram + inside + (1.0 + SLOTS) * np.ceil(h.part_bytes / ALIGNMENT) * ALIGNMENT
    found[ACCUMULATOR_NEED], found[VECTOR_S], found[ARRAY_S] = h.accumulator_bytes, h.vector_s, h.array_s
    found[FLOOR_S] = max(h.compute_s, moved_s) + hw[HEAD_S] + hw[SEND_S]


@jit_bare
def tiling_cost(
    t: Any, nest: int, hw: Any, w: Work, splits: Any, steps: Any, tile: Any, columns_first: int, resident: int,
    staying: int, stored: bool, wires: Any, of_operand: Any, found: Any,
) -> None:  # fmt: skip
    """Evaluate one tiling into `found` [COSTS]; `of_operand` [operands, 3] is scratch.

    `splits`, `steps`, `tile` [dims] parts over cores, tiles per core, indices of the largest tile; `resident` a bit
    mask of operands in the scratchpad, `staying` one of those that stay there until the loops come back to them; the
    result goes to the DRAM, or stays in the scratchpads if not `stored`; `wires` [operands, 2] how often the busiest
    port and link carry what one core moves (sim/cost/wires.py).

        latency = head latency + max(computing, moving, issue of all transfers) + tail + reduction over cores
        computing = first tiles in + max(compute, waits for free slots) + drain + last tile out
        moving = busiest of DMA, DRAM, ports and links + the last tile's compute and drain
        tiles for which an operand that stays is loaded take as long as if it did not stay

    term by term as sim.cost.estimate.estimate explains them.
    """
    shape = tiling_shape(t, nest, hw, splits, steps, tile, columns_first, resident, staying, stored, wires, of_operand)
    shape_cost(hw, w, shape, of_operand, t.nests[nest, OPERANDS], found)


@jit_bare
def tiling_costs(
    t: Any, hw: Any, rate_and_cycles: Any, splits: Any, steps: Any, tile: Any, columns_first: Any, vector: bool,
    resident: Any, staying: int, stored: bool, wires: Any, of_operand: Any, found: Any,
) -> None:  # fmt: skip
    """`tiling_cost` of many tilings of the first nest, a row each: `found` [tilings, COSTS]. `rate_and_cycles` are
    over, under, body, drain and unpack of Work."""
    over, under, body, drain, unpack = rate_and_cycles
    w = make_work(t, 0, over, under, body, drain, vector, unpack)
    for row in range(len(splits)):
        order = int(columns_first[row])
        tiling_cost(
            t, 0, hw, w, splits[row], steps[row], tile[row], order, resident[row], staying, stored, wires[row],
            of_operand, found[row],
        )  # fmt: skip
