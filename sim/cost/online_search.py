"""The best tiling of an attention, by the closed form of all levels of heads, queries and keys that may win: it has no
columns, and its keys are not cut over cores."""

from __future__ import annotations

from typing import Any

from sim.cost.branch import CUT, EQUAL, SURELY, Search, copy_to, takes_place
from sim.cost.kernel import (
    ACCUMULATOR_BYTES,
    ARRAYS,
    CHANNEL_S,
    COLS,
    CORE_S,
    EACH_PORT_S,
    HEAD_S,
    ISSUE_S,
    LANE_PART,
    LINK_S,
    PEAK_S,
    PERIOD_S,
    ROWS,
    TRAFFIC_SHARE,
    WAVE_ROWS,
    Tiles,
    Work,
    chains_s,
)
from sim.cost.levels import INDICES, TILES
from sim.cost.nest_tables import DIMS, OPERANDS
from sim.cost.online_kernel import attention_bytes, attention_sums, held_by_attention
from sim.cost.scan import by_patterns, hold_roles, moved_by
from sim.jit import jit_bare

HEADS, QUERIES, COLUMNS, KEYS = range(4)


@jit_bare
def search_attention(
    t: Any, nest: int, hw: Any, w: Work, first: int, stop: int, limit: float, best: float, s: Search
) -> float:
    """The best tiling of the cuts `first` to `stop`, into `s.best` and `s.found` (CUT -1 where none is better than
    `best`); returns its cost. That of the design before, which is seldom far from it, is the first limit."""
    s.found[CUT], near = -1, s.near
    if hw[ACCUMULATOR_BYTES] == 0.0:
        return best
    cut, known = near[0], first <= near[0] < stop
    for role in range(4):
        known = known and s.cuts.first[cut, role] <= near[1 + role] < s.cuts.stop[cut, role]
    if known:
        for role in range(4):
            s.at[role] = near[1 + role]
        best = _try_keys(t, nest, hw, w, s, cut, near[4], near[4] + 1, limit, best)
    for cut in range(first, stop):
        if hw[HEAD_S] + least_s(t, nest, hw, w, s.cuts.used[cut]) < best:
            best = _search_cut(t, nest, hw, w, s, cut, limit, best)
    if s.found[CUT] >= 0:
        near[0] = s.found[CUT]
        for role in range(4):
            near[1 + role] = s.best[role]
    return best


@jit_bare
def _search_cut(t: Any, nest: int, hw: Any, w: Work, s: Search, cut: int, limit: float, best: float) -> float:
    """Every tiling of a cut that may win."""
    at, levels, cuts = s.at, s.levels, s.cuts
    block_s, keys = least_block_s(hw, w), (cuts.first[cut, KEYS], cuts.stop[cut, KEYS])
    at[COLUMNS] = cuts.first[cut, COLUMNS]
    for heads in range(cuts.first[cut, HEADS], cuts.stop[cut, HEADS]):
        for queries in range(cuts.first[cut, QUERIES], cuts.stop[cut, QUERIES]):
            if levels[heads, TILES] * levels[queries, TILES] * block_s >= best:
                break  # finer levels only have more tiles
            at[HEADS], at[QUERIES] = heads, queries
            best = _try_keys(t, nest, hw, w, s, cut, keys[0], keys[1], limit, best)
    return best


@jit_bare
def _try_keys(
    t: Any, nest: int, hw: Any, w: Work, s: Search, cut: int, start: int, stop: int, limit: float, best: float
) -> float:
    """The cheapest of some levels of the keys, the others being `s.at`; where it is better than `best`, it becomes the
    best of the search."""
    cost, found = _scan_keys(t, nest, hw, w, s, cut, start, stop, limit, best * (1.0 + EQUAL))
    if found < 0:
        return best
    s.at[KEYS] = found
    return min(best, cost) if takes_place(s, cut, s.at, 0, cost, best) else best


@jit_bare
def least_s(t: Any, nest: int, hw: Any, w: Work, cores: float) -> float:
    """Seconds that no tiling over so many cores beats: all products on the arrays at their peak, all shares on the
    lanes."""
    scores = 1.0
    for dim in range(t.nests[nest, DIMS]):
        scores *= t.extent[nest, dim]
    of_array = (w.attention.depth + w.attention.width) * w.slow / (hw[ROWS] * hw[COLS] * hw[ARRAYS])
    return float(scores / cores * max(of_array, w.attention.share * hw[LANE_PART]) * hw[PERIOD_S] * SURELY)


@jit_bare
def least_block_s(hw: Any, w: Work) -> float:
    """Seconds that no block of keys takes less than: half of the way through one fold of both products."""
    return float((3.0 * hw[WAVE_ROWS] + hw[COLS] - 1.0) * w.slow * hw[PERIOD_S] / 2.0 * SURELY)


@jit_bare
def _scan_keys(
    t: Any, nest: int, hw: Any, w: Work, s: Search, cut: int, start: int, stop: int, limit: float, best: float
) -> tuple[float, int]:
    """As scan.scan_role of the keys: (latency and a share of the DRAM's time; level, -1 where none is below
    `best`)."""
    operands, levels, cuts, lines, at = t.nests[nest, OPERANDS], s.levels, s.cuts, s.lines, s.lines.trial
    copy_to(at, s.at)
    hold_roles(t, nest, levels, at, 0, KEYS, lines.fixed)
    found, issue_s, block_s, used = -1, hw[ISSUE_S] / cuts.used[cut], least_block_s(hw, w), cuts.used[cut]
    count, rows = levels[at[HEADS], INDICES], levels[at[QUERIES], INDICES]
    out_tiles = levels[at[HEADS], TILES] * levels[at[QUERIES], TILES]
    for row in range(start, stop):
        at[KEYS], keys, steps = row, levels[row, INDICES], levels[row, TILES]
        if out_tiles * steps * block_s >= best:
            break  # finer levels only have more blocks
        if attention_sums(w, count, rows, keys) > hw[ACCUMULATOR_BYTES]:
            continue
        m = moved_by(operands, levels, row, out_tiles, cuts, cut, lines)
        if m.sram + attention_bytes(w, count, rows, keys, steps > 1.0) > limit:
            continue
        if hw[HEAD_S] + m.transfers * issue_s >= best:
            break
        # No pattern is faster than the peak.
        moved_s = max(m.core * hw[CORE_S], m.dram * hw[PEAK_S])
        moved_s = max(moved_s, max(m.ported * hw[EACH_PORT_S], m.linked * hw[LINK_S]))
        if hw[HEAD_S] + moved_s >= best:
            continue
        x = Tiles(used, 1.0, out_tiles * steps, out_tiles, out_tiles, 0.0, m.out, m.read)
        h = held_by_attention(hw, w, x, count, rows, keys)
        if hw[HEAD_S] + h.compute_s >= best:
            continue
        dram_s, shared_s, last_s = by_patterns(t, nest, hw, levels, at, lines.moved)
        first_s = max(max(m.largest * hw[CHANNEL_S], m.fresh * hw[CORE_S]), shared_s)
        out_s, moved_s = max(m.out * hw[CHANNEL_S], last_s), max(moved_s, dram_s)
        cost = chains_s(hw, x, h, moved_s, m.transfers * issue_s, first_s, out_s, m.most_loads, m.channel)
        cost += TRAFFIC_SHARE * dram_s
        if cost < best:
            best, found = cost, row
    return best, found
