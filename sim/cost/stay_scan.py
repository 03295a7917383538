"""Tilings of which one operand stays in the scratchpads until the loops come back to it.

Its buffer is a ring of as many slots as it has tiles that are needed again, so each is loaded once, in the first pass
of the loops that come back. Beside the same tiling without (sim/cost/scan.py) only loads go down and room goes up.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.cost.kernel import (
    ALIGNMENT,
    CHANNEL_S,
    CORE_S,
    EACH_PORT_S,
    HEAD_S,
    ISSUE_S,
    LINK_S,
    PEAK_S,
    PORT_S,
    SLOTS,
    WIRE_S,
    Tiles,
    Work,
    chains_s,
    early_chains_s,
    held,
    pattern_cost,
)
from sim.cost.levels import BOXES, FIRST, INDICES, PER_OPERAND, RING, TILES
from sim.cost.nest_tables import BITS, OPERANDS
from sim.cost.scan import BYTES, MISFIT_S, CoreCuts, Lines, by_patterns, lack, level_run, moved_by
from sim.cost.wires import LINK, PORT
from sim.jit import jit_bare

BOXES_INSIDE, RING_INSIDE, BOXES_OUTSIDE, RING_OUTSIDE = range(4)


@jit_bare
def hold_rings(t: Any, nest: int, levels: Any, at: Any, columns_first: int, role: int, rings: Any) -> None:
    """What all roles but one make of operands that stay, into `rings` [operands, 4]: different tiles of the roles
    inside, and those of them inside of the outermost loop that turns without moving the box (0: there is none); both of
    the roles outside."""
    for operand in range(t.nests[nest, OPERANDS]):
        c, boxes, ring = FIRST + PER_OPERAND * operand, 1.0, 0.0
        for place in range(4):
            # From the innermost, as scan.hold_roles.
            other = 3 if place == 0 else 0 if place == 3 else 1 if (place == 1) == (columns_first == 1) else 2
            if other == role:
                rings[operand, BOXES_INSIDE], rings[operand, RING_INSIDE] = boxes, ring
                boxes, ring = 1.0, 0.0
                continue
            row = at[other]
            if levels[row, c + RING] > 0.0:
                ring = boxes * levels[row, c + RING]
            boxes *= levels[row, c + BOXES]
        rings[operand, BOXES_OUTSIDE], rings[operand, RING_OUTSIDE] = boxes, ring


@jit_bare
def ring_of(rings: Any, levels: Any, row: int, operand: int) -> float:
    """Tiles of an operand that a core needs again, under a level of the role scanned (at most 1: none)."""
    c, inside = FIRST + PER_OPERAND * operand, rings[operand, BOXES_INSIDE]
    if rings[operand, RING_OUTSIDE] > 0.0:
        return float(rings[operand, RING_OUTSIDE] * levels[row, c + BOXES] * inside)
    if levels[row, c + RING] > 0.0:
        return float(levels[row, c + RING] * inside)
    return float(rings[operand, RING_INSIDE])


@jit_bare
def kept_cost(
    t: Any, nest: int, hw: Any, w: Work, levels: Any, cuts: CoreCuts, cut: int, at: Any, row: int, limit: float,
    best: float, lines: Lines, share: float, stay: int,
) -> float:  # fmt: skip
    """Latency, and the `share` of the DRAM's time, of the tiling `at` where operand number `stay` stays; MISFIT_S where
    it does not fit, infinite where the loops do not come back to it and where the cost is not below `best`.

    `row` is the level of the role that `lines.fixed` and `lines.rings` leave out (scan.hold_roles, hold_rings).
    """
    operands, apart, ring = t.nests[nest, OPERANDS], cuts.apart[cut, stay], ring_of(lines.rings, levels, row, stay)
    if ring <= 1.0 or apart == 0.0:
        return np.inf
    out_tiles = levels[at[0], TILES] * levels[at[1], TILES] * levels[at[2], TILES]
    moved, c = lines.moved, FIRST + PER_OPERAND * stay
    m = moved_by(operands, levels, row, out_tiles, cuts, cut, lines)
    elements = lines.fixed[operands, BYTES] * 8.0 / t.operands[nest, operands, BITS]
    x = Tiles(
        cuts.used[cut], cuts.summed[cut], out_tiles * levels[at[3], TILES], out_tiles, out_tiles,
        elements * levels[row, FIRST + PER_OPERAND * operands], m.out, m.read,
    )  # fmt: skip
    size, loads = moved[stay, 1] / apart, moved[stay, 0] / moved[stay, 1]
    more = max(0.0, ring - SLOTS) * np.ceil(size * (1.0 / ALIGNMENT)) * ALIGNMENT
    if lack(hw, w, x, m.sram + more, limit) > 0.0:
        return MISFIT_S
    boxes = lines.rings[stay, BOXES_INSIDE] * levels[row, c + BOXES] * lines.rings[stay, BOXES_OUTSIDE]
    less, issued_s = loads - boxes, (m.transfers - (loads - boxes) * apart) * hw[ISSUE_S] / cuts.used[cut]
    core, dram = m.core - less * size, m.dram - less * apart * size
    ported = m.ported - less * size * cuts.wires[cut, stay, PORT]
    linked = m.linked - less * size * cuts.wires[cut, stay, LINK]
    # No pattern is faster than the peak.
    moved_s = max(core * hw[CORE_S], dram * hw[PEAK_S])
    moved_s = max(moved_s, max(ported * hw[EACH_PORT_S], linked * hw[LINK_S]))
    if hw[HEAD_S] + max(moved_s, issued_s) >= best:
        return np.inf
    moved[stay, 0] = boxes * apart * size
    most, channel = 0.0, 0.0
    for operand in range(operands):
        if moved[operand, 0] > moved[operand, 1]:
            most = max(most, moved[operand, 0] / moved[operand, 1])
            channel = max(channel, moved[operand, 0] / cuts.apart[cut, operand])
    first_s = max(m.largest * hw[CHANNEL_S], m.fresh * hw[CORE_S], m.shared * hw[PEAK_S])
    out_s = max(m.out * hw[CHANNEL_S], moved[operands, 1] * hw[PEAK_S])
    h = held(
        hw, w, x, levels[at[0], INDICES], levels[at[1], INDICES], levels[at[2], INDICES], levels[at[3], INDICES]
    )
    if chains_s(hw, x, h, moved_s, issued_s, first_s, out_s, most, channel) >= best:
        return np.inf
    dram_s, shared_s, last_s = by_patterns(t, nest, hw, levels, at, moved)
    moved_s, first_s, out_s = max(moved_s, dram_s), max(first_s, shared_s), max(out_s, last_s)
    cost = chains_s(hw, x, h, moved_s, issued_s, first_s, out_s, most, channel)
    # Its loads fall in the first part of the tiles, beside as large a part of all else.
    run_bytes, pitch = level_run(t, nest, stay, levels, at)
    kept_s = moved[stay, 0] * pattern_cost(t, nest, stay, hw, run_bytes, pitch, False) * hw[WIRE_S]
    part, bytes_here = boxes / loads, boxes * size
    rest = 1.0 - part
    early_s = max(
        (part * core + rest * bytes_here) * hw[CORE_S],
        part * dram_s + rest * kept_s,
        (part * dram + rest * moved[stay, 0]) * hw[PORT_S],
    )
    early_s = max(
        early_s,
        (part * ported + rest * bytes_here * cuts.wires[cut, stay, PORT]) * hw[EACH_PORT_S],
        (part * linked + rest * bytes_here * cuts.wires[cut, stay, LINK]) * hw[LINK_S],
    )
    most, channel = max(boxes, part * most), max(bytes_here, part * channel)
    cost = max(cost, early_chains_s(hw, x, h, first_s, out_s, part, early_s, most, channel)) + share * dram_s
    return float(cost if cost < best else np.inf)
