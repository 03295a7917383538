"""The best tiling of every nest on every design: on every kind of cores, array and vector unit, by branch and bound
(sim/cost/branch.py)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sim.cost.branch import CUT, NOTHING_S, ORDER, Search, fill_cuts, new_memory, search_cuts
from sim.cost.floors import LEVEL_ROWS
from sim.cost.kernel import (
    CLOCK_HZ,
    CORES,
    LANES,
    SRAM_BYTES,
    Work,
    make_work,
    set_quanta,
    tiling_cost,
)
from sim.cost.levels import FIRST, PER_OPERAND
from sim.cost.nest_tables import DIMS, NestTables
from sim.cost.nest_work import BODY_CYCLES, DRAIN_CYCLES, UNPACK_CYCLES
from sim.cost.tile_traffic import tiling_traffic
from sim.cost.tiles import largest_part
from sim.jit import jit, jit_bare

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


class Inputs(NamedTuple):
    """What the search reads of the designs.

    `hardware` [designs, kinds, HARDWARE_COLUMNS]; `rates` [designs, kinds, formats, 2] numerator (0: the array lacks
    the format) and denominator, `rate_of` [nests] the row of a nest's format, -1 where no array is any use; `work`
    [tables, nests, WORK] and `work_of` [designs, kinds] as nest_work.work_tables has them; `partitions` [rows, dims],
    of which `partitions_of` [designs, kinds, nests, 2] are (first, one past the last); `shares` [rows, 4] numbers
    below `share_count`, one for each distinct way a role of a nest is cut over cores; `granules` [designs, kinds, 4]
    numbers from 1 below `granule_count`, one for each distinct granule of a role (0: none).
    """

    hardware: Any
    rates: Any
    rate_of: Any
    work: Any
    work_of: Any
    partitions: Any
    partitions_of: Any
    shares: Any
    share_count: int
    granules: Any
    granule_count: int


@jit
def best_tilings(
    t: NestTables, given: Inputs, preferred: float, cost: Float64, traffic: Float64, choice: Int64
) -> None:
    """The best tiling of every nest on every design: `cost` [designs, nests, COSTS], `traffic` [designs, nests,
    TRAFFIC], `choice` [designs, nests, 3 + 2 * dims] (kind of cores or -1 where nothing fits, on the vector unit?,
    columns outside?, splits, steps). Buffers keep to the share `preferred` of the scratchpad where they can.

    A nest is searched for all designs before the next: they share its table of levels.
    """
    s = new_search(t, given)
    for nest in range(len(t.nests)):
        for design in range(len(given.hardware)):
            # Started again when half full, so no nest may need more than half of it.
            if s.next_row[0] > LEVEL_ROWS // 2:
                s.next_row[0] = 0
                s.spans[:] = -1
            mine = choice[design, nest]
            mine[:], mine[0] = 1, -1
            cost[design, nest, :] = np.nan
            best = NOTHING_S
            for kind in range(given.hardware.shape[1]):
                best = search_kind(t, nest, given, design, kind, preferred, best, mine, s)
            if mine[0] >= 0:
                cost_choice(t, nest, given, design, mine, cost[design, nest], traffic[design, nest])


@jit
def search_kind(
    t: Any, nest: int, given: Inputs, design: int, kind: int, preferred: float, best: float, choice: Any, s: Search
) -> float:
    """The best tiling of a nest on one kind of cores of a design, into `choice` where it is better than `best`; returns
    the better."""
    hw, width = given.hardware[design, kind], t.extent.shape[1]
    first, stop = given.partitions_of[design, kind, nest]
    granule, places = max(1.0, np.floor(hw[SRAM_BYTES] / 32)), np.zeros(4, np.int64)
    for part in (preferred, 1.0):
        limit = np.floor(np.floor(hw[SRAM_BYTES] * part) / granule) * granule
        for vector in (False, True):
            w = unit_work(t, nest, given, design, kind, vector)
            if first == stop or (not vector and w.slow == 0.0):
                continue
            if vector and w.slow > 0.0 and vector_floor_s(t, nest, hw, w.body) >= best:
                continue
            for role in range(4):
                places[role] = given.granules[design, kind, role] if t.alone[nest, role] == 1 else 0
                if vector:
                    places[role] = given.granule_count
            fill_cuts(t, nest, hw, vector, given.shares, places, first, stop, s)
            best = search_cuts(t, nest, hw, w, first, stop, limit, best, s)
            if s.found[CUT] < 0:
                continue
            choice[0], choice[1], choice[2] = kind, vector, s.found[ORDER]
            for dim in range(t.nests[nest, DIMS]):
                row = s.best[t.role[nest, dim]]
                choice[3 + dim] = s.cuts.splits[s.found[CUT], dim]
                choice[3 + width + dim] = int(s.levels[row, s.levels.shape[1] - width + dim])
        if choice[0] == kind:
            break
    return best


@jit_bare
def unit_work(t: Any, nest: int, given: Inputs, design: int, kind: int, vector: bool) -> Work:
    """The work of a nest on a unit of a kind of cores; `slow` is 0 where the array is no use."""
    own, dtype, over, under = given.work[given.work_of[design, kind], nest], given.rate_of[nest], 1.0, 0.0
    if dtype >= 0 and given.rates[design, kind, dtype, 0] > 0:
        over, under = given.rates[design, kind, dtype, 0], given.rates[design, kind, dtype, 1]
    return make_work(t, nest, over, under, own[BODY_CYCLES], own[DRAIN_CYCLES], vector, own[UNPACK_CYCLES])


@jit
def cost_choice(t: Any, nest: int, given: Inputs, design: int, choice: Any, cost: Any, traffic: Any) -> None:
    """All costs and the traffic of a choice."""
    width, kind, vector = t.extent.shape[1], choice[0], choice[1] == 1
    hw, splits, steps = given.hardware[design, kind], choice[3 : 3 + width], choice[3 + width :]
    quanta, tile = np.ones(width, np.int64), np.ones(width, np.int64)
    set_quanta(t, nest, hw, vector, quanta)
    for dim in range(t.nests[nest, DIMS]):
        tile[dim] = largest_part(t.extent[nest, dim], splits[dim] * steps[dim], quanta[dim])
    w = unit_work(t, nest, given, design, kind, vector)
    tiling_cost(t, nest, hw, w, splits, steps, tile, choice[2], 0, True, cost)
    tiling_traffic(t, nest, hw, splits, steps, tile, choice[2], vector, traffic)


@jit
def new_search(t: Any, given: Inputs) -> Search:
    """Memory for a search over the cuts of these inputs."""
    levels = np.empty((LEVEL_ROWS, FIRST + PER_OPERAND * t.operands.shape[1] + t.extent.shape[1]))
    spans = np.full((given.share_count, given.granule_count + 1, 2), -1, np.int64)
    return new_memory(t, given.partitions, levels, spans, True)


@jit_bare
def vector_floor_s(t: Any, nest: int, hw: Any, body: float) -> float:
    """Time that the whole nest takes on every lane of every core, at the very least."""
    results = 1.0
    for dim in range(t.nests[nest, DIMS]):
        if t.role[nest, dim] != 3:
            results *= t.extent[nest, dim]
    return float(results * body / (hw[LANES] * hw[CORES] * hw[CLOCK_HZ]))
