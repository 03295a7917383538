"""One line of tilings of a nest: the levels of one role (sim/cost/levels.py) while the others are held."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sim.cost.kernel import (
    ACCUMULATOR_BYTES,
    ALIGNMENT,
    CHANNEL_S,
    CORE_S,
    EACH_PORT_S,
    HEAD_S,
    ISSUE_S,
    LINK_S,
    PEAK_S,
    PORT_S,
    SEND_S,
    SLOTS,
    WIRE_S,
    Tiles,
    Work,
    chains_s,
    held,
    pattern_cost,
)
from sim.cost.levels import (
    ELEMENTS,
    FILLS,
    FIRST,
    FIRST_PITCH,
    INDICES,
    PER_OPERAND,
    PITCH,
    RUN,
    TILES,
    WHOLE,
)
from sim.cost.nest_tables import BITS, DIMS, NESTED, OPERANDS, PACKED
from sim.cost.wires import LINK, PORT
from sim.jit import jit_bare

MISFIT_S = 1e30
"""Cost of what does not fit, times one plus the shares of the memories that it lacks."""


@jit_bare
def level_run(t: Any, nest: int, operand: int, levels: Any, at: Any) -> tuple[float, int]:
    """Bytes of an operand's contiguous runs and their pitch (0: there is one run); see `kernel.box`."""
    c = FIRST + PER_OPERAND * operand
    bits, pitch = t.operands[nest, operand, BITS], 0
    if t.operands[nest, operand, PACKED]:
        run = levels[at[0], c] * levels[at[1], c] * levels[at[2], c] * levels[at[3], c]
        return max(1.0, np.floor(run * bits * 0.125)), pitch
    run, whole = 1.0, True
    for place in range(4):
        role = t.chain[nest, operand, place]
        if role < 0 or pitch > 0:
            break
        row = at[role]
        if whole:
            run *= levels[row, c + RUN]
            if levels[row, c + WHOLE] == 0:
                whole, pitch = False, int(levels[row, c + PITCH])
        else:
            pitch = int(levels[row, c + FIRST_PITCH])
    return max(1.0, np.floor(run * bits * 0.125)), pitch


class CoreCuts(NamedTuple):
    """CoreCuts over cores: `splits` [cuts, dims]; rows of the levels of every role (`first`, one past the `last` [cuts,
    4]); cores, cores that share a sum; groups of cores that need different boxes of every operand (0: every core
    has its own in the scratchpad), cores that own results last [cuts, operands]; how often the busiest port and link
    carry what one core moves of them, `wires` [cuts, operands, 2] (sim/cost/wires.py)."""

    splits: Any
    first: Any
    stop: Any
    used: Any
    summed: Any
    apart: Any
    wires: Any


class Lines(NamedTuple):
    """Scratch of a scan: `fixed` [operands, 4] what the other roles make of every operand, `moved` [operands, 2] bytes
    of all loads and of one tile of all cores, `trial` and `start` [4] levels under trial, `rings` [operands, 4] what
    the other roles make of operands that stay (sim/cost/stay_scan.py)."""

    fixed: Any
    moved: Any
    trial: Any
    start: Any
    rings: Any


class Moved(NamedTuple):
    """What a tiling moves: bytes of scratchpad; transfers; bytes of a core and of the DRAM; of all operands' tiles, of
    the largest, of those of all cores; fills and bytes of buffers that are filled more than once, at most; bytes of a
    result tile; bytes through the busiest port and over the busiest link."""

    sram: float
    transfers: float
    core: float
    dram: float
    read: float
    fresh: float
    largest: float
    shared: float
    most_loads: float
    channel: float
    out: float
    ported: float
    linked: float


BYTES, INSIDE, OUTSIDE, IDLE = range(4)


@jit_bare
def hold_roles(t: Any, nest: int, levels: Any, at: Any, columns_first: int, role: int, fixed: Any) -> None:
    """What all roles but one make of every operand: bytes of its box; fills of the roles inside (1: none), tiles of
    those outside, fills where neither the role nor any inside moves the box."""
    for operand in range(t.nests[nest, OPERANDS] + 1):
        c, inside, outside, idle, inner = FIRST + PER_OPERAND * operand, 1.0, 1.0, 1.0, True
        size = t.operands[nest, operand, BITS] * 0.125
        for place in range(4):
            # From the innermost: the sum, the inner of columns and rows, the outer one, repeats.
            other = 3 if place == 0 else 0 if place == 3 else 1 if (place == 1) == (columns_first == 1) else 2
            if other == role:
                inner = False
                continue
            row = at[other]
            size *= levels[row, c + ELEMENTS]
            if inner:
                inside *= levels[row, TILES] if inside > 1.0 else max(levels[row, c + FILLS], 1.0)
            else:
                outside *= levels[row, TILES]
                idle *= levels[row, TILES] if idle > 1.0 else max(levels[row, c + FILLS], 1.0)
        fixed[operand, BYTES], fixed[operand, INSIDE] = size, inside
        fixed[operand, OUTSIDE], fixed[operand, IDLE] = outside, idle


@jit_bare
def moved_by(
    operands: int, levels: Any, row: int, out_tiles: float, cuts: CoreCuts, cut: int, lines: Lines
) -> Moved:
    """What a level of the role scanned moves; every operand's share into `lines.moved`."""
    fixed, moved, tiles = lines.fixed, lines.moved, levels[row, TILES]
    sram, transfers, core, read, fresh, largest, shared = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    dram, most_loads, channel, size, ported, linked = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for operand in range(operands + 1):
        c = FIRST + PER_OPERAND * operand
        size = np.ceil(fixed[operand, BYTES] * levels[row, c])
        loads, apart = out_tiles, cuts.apart[cut, operand]
        if operand < operands:
            read += size
            if apart == 0.0:
                moved[operand, 0], moved[operand, 1] = 0.0, 0.0
                continue
            if fixed[operand, INSIDE] > 1.0:
                loads = fixed[operand, INSIDE] * tiles * fixed[operand, OUTSIDE]
            elif levels[row, c + FILLS] > 0.0:
                loads = levels[row, c + FILLS] * fixed[operand, OUTSIDE]
            else:
                loads = fixed[operand, IDLE]
            fresh += size
            largest = max(largest, size)
            shared += apart * size
            if loads > 1.0:
                most_loads, channel = max(most_loads, loads), max(channel, loads * size)
        sram += (SLOTS if loads > 1.0 else 1.0) * np.ceil(size * (1.0 / ALIGNMENT)) * ALIGNMENT
        transfers += loads * apart
        core += loads * size
        dram += loads * apart * size
        ported += loads * size * cuts.wires[cut, operand, PORT]
        linked += loads * size * cuts.wires[cut, operand, LINK]
        moved[operand, 0], moved[operand, 1] = loads * apart * size, apart * size
    return Moved(
        sram, transfers, core, dram, read, fresh, largest, shared, most_loads, channel, size, ported, linked
    )  # fmt: skip


@jit_bare
def by_patterns(
    t: Any, nest: int, hw: Any, levels: Any, at: Any, moved: Any
) -> tuple[float, float, float]:
    """Seconds of the DRAM, of the first tiles in and of the last tile out on what all cores share, with the DRAM's
    efficiency of every operand's pattern."""
    operands, dram_s, shared_s, one_s = t.nests[nest, OPERANDS], 0.0, 0.0, 0.0
    for operand in range(operands + 1):
        if moved[operand, 0] == 0.0:
            continue
        run_bytes, pitch = level_run(t, nest, operand, levels, at)
        inverse = pattern_cost(t, nest, operand, hw, run_bytes, pitch, operand == operands)
        dram_s += moved[operand, 0] * inverse * hw[WIRE_S]
        shared_s += one_s
        one_s = moved[operand, 1] * max(inverse * hw[WIRE_S], hw[PORT_S])
    return dram_s, shared_s, one_s


@jit_bare
def scan_role(
    t: Any, nest: int, hw: Any, w: Work, levels: Any, cuts: CoreCuts, cut: int, at: Any, role: int, start: int,
    stop: int, columns_first: int, limit: float, best: float, lines: Lines, share: float,
) -> tuple[float, int, float]:  # fmt: skip
    """The cheapest of the levels `start` to `stop` of one role, the others' being `at`: (latency and the `share` of
    the DRAM's time; level; floor), the level -1 where none is below `best`. What does not fit `limit` bytes of
    scratchpad or the accumulator costs more than MISFIT_S, and the more the more it lacks; the floor, of the last
    level, is below every tiling of the cut.
    """
    operands, found, floor_s, trial = t.nests[nest, OPERANDS], -1, 0.0, lines.trial
    hold_roles(t, nest, levels, at, columns_first, role, lines.fixed)
    for other in range(4):
        trial[other] = at[other]
    issue_s = hw[ISSUE_S] / cuts.used[cut]
    of_result = lines.fixed[operands, BYTES] * 8.0 / t.operands[nest, operands, BITS]
    for row in range(start, stop):
        trial[role] = row
        if t.nests[nest, NESTED] and crossed(t, nest, cuts.splits[cut], levels, trial):
            continue
        out_tiles = levels[trial[0], TILES] * levels[trial[1], TILES] * levels[trial[2], TILES]
        m = moved_by(operands, levels, row, out_tiles, cuts, cut, lines)
        x = Tiles(
            cuts.used[cut], cuts.summed[cut], out_tiles * levels[trial[3], TILES], out_tiles, out_tiles,
            of_result * levels[row, FIRST + PER_OPERAND * operands], m.out, m.read,
        )  # fmt: skip
        lacking = lack(hw, w, x, m.sram, limit)
        if lacking > 0.0 and best < np.inf:
            if MISFIT_S * (1.0 + lacking) < best:
                best, found = MISFIT_S * (1.0 + lacking), row
            continue
        if hw[HEAD_S] + m.transfers * issue_s >= best:
            break  # finer levels only have more transfers
        # No pattern is faster than the peak.
        moved_s = max(m.core * hw[CORE_S], m.dram * hw[PEAK_S])
        moved_s = max(moved_s, max(m.ported * hw[EACH_PORT_S], m.linked * hw[LINK_S]))
        if hw[HEAD_S] + moved_s >= best:
            continue
        first_s = max(m.largest * hw[CHANNEL_S], m.fresh * hw[CORE_S], m.shared * hw[PEAK_S])
        out_s = max(m.out * hw[CHANNEL_S], lines.moved[operands, 1] * hw[PEAK_S])
        h = held(
            hw, w, x, levels[trial[0], INDICES], levels[trial[1], INDICES], levels[trial[2], INDICES],
            levels[trial[3], INDICES],
        )  # fmt: skip
        if chains_s(hw, x, h, moved_s, m.transfers * issue_s, first_s, out_s, m.most_loads, m.channel) >= best:
            continue
        dram_s, shared_s, last_s = by_patterns(t, nest, hw, levels, trial, lines.moved)
        moved_s, first_s, out_s = max(moved_s, dram_s), max(first_s, shared_s), max(out_s, last_s)
        floor_s = max(h.compute_s, moved_s) + hw[HEAD_S] + hw[SEND_S]
        cost = chains_s(hw, x, h, moved_s, m.transfers * issue_s, first_s, out_s, m.most_loads, m.channel)
        cost += share * dram_s
        if lacking > 0.0:
            cost = MISFIT_S * (1.0 + lacking)
        if cost < best:
            best, found = cost, row
    return best, found, floor_s


@jit_bare
def lack(hw: Any, w: Work, x: Tiles, sram_bytes: float, limit: float) -> float:
    """What a tiling lacks of scratchpad and accumulator, as shares of them; 0 where it fits."""
    sums = x.elements * w.sum_bytes
    if x.summed > 1.0 and w.sum_bytes > 0.0:
        sram_bytes += (1.0 + SLOTS) * np.ceil(sums * (1.0 / ALIGNMENT)) * ALIGNMENT
    lacking = max(0.0, sram_bytes / limit - 1.0)
    if hw[ACCUMULATOR_BYTES] > 0 and not w.vector:
        lacking += max(0.0, sums / hw[ACCUMULATOR_BYTES] - 1.0)
    return lacking


@jit_bare
def crossed(t: Any, nest: int, splits: Any, levels: Any, at: Any) -> bool:
    """Is an inner loop cut whose outer loop is not cut down to single indices?"""
    first_step = levels.shape[1] - t.extent.shape[1]
    for dim in range(t.nests[nest, DIMS]):
        outer = t.nested[nest, dim]
        if outer >= 0 and levels[at[t.role[nest, dim]], first_step + dim] > 1:
            whole = levels[at[t.role[nest, outer]], first_step + outer] * splits[outer]
            if whole != t.extent[nest, outer]:
                return True
    return False
