"""What tiles of an attention hold, compiled: the law of sim/cost/online.py for cores that tiles are not dealt to, whose
vector units have no registers of two sides."""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.cost.kernel import (
    ALIGNMENT,
    PERIOD_S,
    SLOTS,
    TILE_CYCLES,
    Held,
    Tiles,
    Work,
    array_cycles,
    vector_cycles,
)
from sim.graph.attention import ROW_BYTES, SUM_DTYPE
from sim.graph.tensor import DTYPE_BITS
from sim.jit import jit_bare

RUNNING_BYTES = DTYPE_BITS[SUM_DTYPE] // 8


@jit_bare
def _aligned(size_bytes: float) -> float:
    return float(np.ceil(size_bytes / ALIGNMENT) * ALIGNMENT)


@jit_bare
def attention_bytes(w: Work, count: float, rows: float, keys: float, many: bool) -> float:
    """Scratchpad that tiles of `count` heads x `rows` x `keys` need beside operands and results: two slots of shares
    and of numbers of rows, and running results where `many` blocks of keys make one; see online.scratchpad_bytes."""
    shares = np.ceil(count * rows * keys * w.attention.value_bits / 8)
    found = SLOTS * (_aligned(shares) + _aligned(ROW_BYTES * count * rows))
    if many:
        found += _aligned(count * rows * w.attention.width * RUNNING_BYTES)
    return float(found)


@jit_bare
def attention_sums(w: Work, count: float, rows: float, keys: float) -> float:
    """Accumulator that such tiles need: two slots of scores and of values; see online.accumulator_need."""
    one = count * rows * w.sum_bytes
    return SLOTS * (_aligned(one * keys) + _aligned(one * w.attention.width))


@jit_bare
def _lanes(hw: Any, busy: float, moved: float, sums: float) -> float:
    """Cycles of a task of the lanes that is busy so long, without its start; see online._cycles."""
    fed = vector_cycles(hw, 0.0, 0.0, moved, sums)
    return float(max(busy + hw[TILE_CYCLES], fed))


@jit_bare
def _busy(hw: Any, elements: float, cost: float) -> float:
    return vector_cycles(hw, elements, cost, 0.0, 0.0) - float(hw[TILE_CYCLES])


@jit_bare
def held_by_attention(hw: Any, w: Work, x: Tiles, count: float, rows: float, keys: float) -> Held:
    """Times of the tiles of a core, `count` heads x `rows` x `keys` each. See sim.cost.online.online_time, of which
    these are the numbers."""
    a, cycle_s = w.attention, hw[PERIOD_S]
    hold_s, dur_s = array_cycles(hw, count, rows, keys, a.depth, w.slow, w.left_bits, w.right_bits, 0.0, 0.0)
    hold_v, dur_v = array_cycles(hw, count, rows, a.width, keys, w.slow, a.value_bits, a.value_bits, 0.0, 0.0)
    scored, summed, lines = count * rows * keys, count * rows * a.width, count * rows
    written = np.ceil(scored * a.value_bits / 8)
    busy = _busy(hw, scored, a.share) + _busy(hw, lines, a.row)
    softmax, merge = _lanes(hw, busy, written * (1.0 + a.masks) + ROW_BYTES * lines, scored * w.sum_bytes), 0.0
    sums, running = summed * w.sum_bytes, 0.0
    if x.iterations > x.out_tiles:
        merge = _lanes(hw, _busy(hw, summed, a.merge), 2.0 * RUNNING_BYTES * summed, sums)
        sums, running = 0.0, RUNNING_BYTES * summed
    busy = _busy(hw, summed, w.drain) + _busy(hw, lines, a.last)
    last = _lanes(hw, busy, x.out_bytes * (1.0 + w.late) + running, sums)
    array = x.iterations * (hold_s + hold_v)
    vector = x.iterations * (softmax + merge) + x.out_tiles * last
    waits = softmax + max(hold_v + dur_s, dur_v + merge)
    total = max(array, vector, x.iterations * waits / 2.0)
    through = dur_s + softmax + dur_v + merge + last - total / x.iterations
    return Held(
        total * cycle_s, (dur_s - hold_s) * cycle_s, max(through, 0.0) * cycle_s, 0.0, vector * x.used * cycle_s,
        array * x.used * cycle_s, attention_sums(w, count, rows, keys), 0.0,
    )  # fmt: skip
