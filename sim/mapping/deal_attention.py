"""Attention dealt to the cores of a GPU in blocks of queries, as its fused kernels are (Dao, FlashAttention-2, 2023).

A block of threads keeps its queries, and the sums of values in registers: they are scaled there when a larger score has
come, before the values of the next keys are added. Scores become shares where they are.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import numpy.typing as npt

from sim.cost.estimate import Site, aligned
from sim.cost.fills import loop_order
from sim.cost.online import accumulator_need, online_bytes, online_cycles, padded_products, scratchpad_bytes
from sim.errors import DoesNotFit
from sim.graph.attention import VALUES
from sim.graph.nest import Nest
from sim.hw.cache import Cache
from sim.hw.core import Dispatch
from sim.mapping.deal_menu import tile_sides
from sim.mapping.search import Deal, Limits, Tiling

Int64 = npt.NDArray[np.int64]

KEY_BLOCKS = (32, 64, 128, 256)
"""Keys that come by at a time: those of public kernels, and half the least of them."""


def deal_attention(
    nest: Nest, site: Site, limits: Limits, dataflow: str, dispatch: Dispatch, cache: Cache | None
) -> Tiling:
    """The rows of the menu and the keys at a time with the least estimated latency.

    Raises DoesNotFit where no block fits the scratchpad and the accumulator.
    """
    accumulator = site.kind.accumulator
    assert accumulator is not None
    keys = nest.dims[nest.role("k")[0]].extent
    rows = sorted({m for m, _ in dispatch.tiles})
    depth = dispatch.depth_of(nest.operands[VALUES].tensor.dtype)
    blocks = sorted({min(keys, block) for block in (depth, *KEY_BLOCKS)})
    stages = sorted({1, 2, dispatch.stages})
    found, needs = [], []
    for m, block, slots in itertools.product(rows, blocks, stages):
        tiling = _tiling(nest, site, dataflow, m, block, slots, cache)
        needs.append((tiling.sram_bytes, tiling.accumulator_bytes))
        if tiling.sram_bytes <= limits.sram_bytes and tiling.accumulator_bytes <= accumulator.size_bytes:
            found.append(tiling)
    if found:
        return min(found, key=lambda tiling: (tiling.latency_s, tiling.dram_bytes))
    sram, sums = min(one for one, _ in needs), min(one for _, one in needs)
    memory, needed, available = "scratchpad", sram, limits.sram_bytes
    if sram <= available:
        memory, needed, available = "accumulator", sums, accumulator.size_bytes
    raise DoesNotFit(
        f"the smallest tile of the menu for operator {nest.name} ({nest.kind})", needed, available,
        f"{memory} of a {site.kind.name} core", (f"a larger {'sram' if memory == 'scratchpad' else memory}.size",),
    )  # fmt: skip


def _tiling(
    nest: Nest, site: Site, dataflow: str, rows: int, block: int, stages: int, cache: Cache | None
) -> Tiling:
    """One candidate, with its estimate: waves of blocks of queries, each a walk over all keys."""
    kind, key = site.kind, nest.role("k")[0]
    sides = tile_sides(nest, rows, 1)
    sides[key] = block
    steps = [-(-dim.extent // side) for dim, side in zip(nest.dims, sides, strict=True)]
    tile = tuple(np.array([side], np.int64) for side in sides)
    tiles, walk = math.prod(steps) // steps[key], steps[key]
    cores = min(tiles, site.cores)
    waves = -(-tiles // cores)
    (hold_s, dur_s), (hold_v, dur_v) = padded_products(nest, kind, tile, dataflow, rows)
    busy_s = waves * walk * (hold_s + hold_v) / kind.clock_hz
    slowed = float(kind.calibration.slowed(np.array(_peak_s(nest, site) / busy_s)))
    hold_s, dur_s, hold_v, dur_v = (cycles * slowed for cycles in (hold_s, dur_s, hold_v, dur_v))
    lanes = online_cycles(nest, kind, tile, np.array([walk]))
    softmax, merge, last = (int(part[0]) for part in (lanes.softmax, lanes.merge, lanes.last))
    period = max(hold_s + dur_v, softmax + merge, dur_v + merge, (dur_v + dur_s + softmax + merge) / 2)
    fed = sum(int(o.tile_bytes(tile)[0]) for o in nest.inputs[1:])
    lane = kind.dma.bandwidth_bytes_per_s * kind.dma.channels
    shared = site.dram.bandwidth_bytes_per_s * kind.calibration.dram_efficiency
    if cache is not None:
        shared = cache.bandwidth_bytes_per_s * kind.calibration.cache_efficiency
    rate = min(lane, shared / cores)
    moved = _dram_bytes(nest, tiles, walk, tile, cache)
    dram_s = moved / (site.dram.bandwidth_bytes_per_s * kind.calibration.dram_efficiency)
    # All cores fill at the same time: what none of them has found in the cache they wait for together.
    fill_s = max(fed / rate, dram_s / (waves * walk))
    trip_s = site.head_latency_s + fill_s + dur_s / kind.clock_hz
    step_s = max(period / kind.clock_hz, fill_s, trip_s / stages)
    first = sum(int(nest.operands[at].tile_bytes(tile)[0]) for at in (0, 1))
    out = int(nest.out.tile_bytes(tile)[0]) + sum(int(o.tile_bytes(tile)[0]) for o in nest.epilogue)
    once_s = 2 * site.head_latency_s + (first + out) / rate + (dur_s + softmax + dur_v) / kind.clock_hz
    latency_s = max(waves * (walk * step_s + last / kind.clock_hz), dram_s) + once_s
    found = online_bytes(nest, tile, np.array([walk]), here=True)
    slots = stages if walk * waves > 1 else 1
    sram = int(scratchpad_bytes(found)[0]) + int(aligned(nest.out.tile_bytes(tile))[0])
    sram += sum(slots * int(aligned(o.tile_bytes(tile))[0]) for o in nest.operands)
    quanta = [block if dim == key else side for dim, side in enumerate(sides)]
    return Tiling(
        (1,) * len(steps), tuple(steps), tuple(quanta), loop_order(nest, False), "array", dataflow, latency_s, moved,
        sram, int(accumulator_need(found)[0]),
        Deal(0, cores, waves, rows, block, stages=stages, group=1, lone_stages=stages, slowed=slowed),
    )  # fmt: skip


def _peak_s(nest: Nest, site: Site) -> float:
    """All products at the peak of all arrays."""
    return nest.macs / (site.cores * site.kind.peak_macs_per_s(nest.operands[0].tensor.dtype))


def _dram_bytes(nest: Nest, tiles: int, walk: int, tile: tuple[Int64, ...], cache: Cache | None) -> float:
    """What comes from the DRAM: every operand once through a cache that holds the keys and values of a head, which the
    blocks side by side read together; else again for every block."""
    total = float(nest.out.tensor.size_bytes)
    for operand in nest.operands:
        again = tiles * (walk if operand in nest.inputs[1:] else 1) * int(operand.tile_bytes(tile)[0])
        total += min(again, operand.size_bytes) if cache is not None else again
    return total
