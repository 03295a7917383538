"""Result tiles dealt to cores in waves: how a GPU runs a contraction.

The tile is one of a menu (the shapes a kernel library has), every tile costs as much as a full one, and the tiles of
the whole result are handed out in order, one to each core: with 109 tiles on 108 cores a second wave begins for one
tile. That is wave quantisation; nothing else models it.

One mapped contraction becomes one or two steps: the full waves, and the last one, which fewer cores take part in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from sim.cost.element_passes import drain_passes
from sim.cost.estimate import BUFFER_SLOTS, Site, aligned, feeding
from sim.cost.fills import loop_order
from sim.cost.work import (
    GemmShape,
    accumulator_bytes,
    array_cycles,
    drained_bytes,
    epilogue_instructions,
    vector_tile_cycles,
)
from sim.errors import DoesNotFit
from sim.graph.nest import Nest, Operand
from sim.hw.cache import Cache
from sim.hw.core import Dispatch
from sim.mapping.deal_attention import deal_attention
from sim.mapping.deal_menu import menu_of
from sim.mapping.loops import Fills, Loops
from sim.mapping.search import Deal, Limits, Tiling
from sim.mapping.split_sum import adding_launch_ps, read_again_ps
from sim.mapping.step import Step
from sim.units import PS_PER_S

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

SLACK = 1.01
"""Among candidates within 1 % of the fastest, the one with the fewest transfers wins: it simulates faster."""


class DealtLoops(Loops):
    """The loops of a dealt nest. Cores that share sums lie `deal.cores` places apart."""

    @property
    def deal(self) -> Deal:
        assert self.tiling.deal is not None
        return self.tiling.deal

    @cached_property
    def grid(self) -> tuple[Int64, ...]:
        place = np.arange(len(self.cores)) // self.deal.cores
        return tuple(np.unravel_index(place, self.tiling.splits))

    @cached_property
    def iterations(self) -> int:
        return self.deal.waves * self.sum_steps

    @cached_property
    def index(self) -> tuple[Int64, ...]:
        """Tile index along the sums at each iteration; 0 for the dimensions whose tiles are dealt."""
        found: list[Int64] = [np.zeros(self.iterations, np.int64)] * len(self.nest.dims)
        count, stride, sums = np.arange(self.iterations, dtype=np.int64), 1, self.nest.role("k")
        for dim in reversed([dim for dim in self.tiling.order if dim in sums]):
            found[dim] = count // stride % self.tiling.steps[dim]
            stride *= self.tiling.steps[dim]
        return tuple(found)

    @cached_property
    def _ranges(self) -> tuple[Int64, Int64]:
        deal = self.deal
        wave = np.arange(self.iterations) // self.sum_steps
        place = np.arange(len(self.cores)) % deal.cores
        number = deal.first + wave[None, :] * deal.cores + place[:, None]
        tiles = self._numbered(number)
        low, high = [], []
        for dim, cut in enumerate(self.tiling.cuts(self.nest)):
            if dim in tiles:
                tile = tiles[dim]
            else:
                tile = self.grid[dim][:, None] * self.tiling.steps[dim] + self.index[dim][None, :]
            low.append(cut[tile])
            high.append(cut[tile + 1])
        shape = len(self.cores), self.iterations
        both = (np.array([np.broadcast_to(part, shape) for part in parts], np.int64) for parts in (low, high))
        return next(both), next(both)

    def _numbered(self, number: Int64) -> dict[int, Int64]:
        """Tile index of every dealt dimension: repeats outermost, then bands of `group` tiles of the outer loops, in
        which the outer ones run fastest."""
        repeats, rows, columns = (self.nest.role(role) for role in ("g", "m", "n"))
        place_of = self.tiling.order.index
        columns_first = bool(rows and columns) and place_of(columns[0]) < place_of(rows[0])
        outer, inner = (columns, rows) if columns_first else (rows, columns)
        sizes = [[self.tiling.steps[dim] for dim in dims] for dims in (repeats, outer, inner)]
        _, outside, inside = (math.prod(size) for size in sizes)
        again, place = np.divmod(number, outside * inside)
        band, within = np.divmod(place, self.deal.group * inside)
        width = np.minimum(self.deal.group, outside - band * self.deal.group)
        flat = (again, band * self.deal.group + within % width, within // width)
        found: dict[int, Int64] = {}
        for dims, size, index in zip((repeats, outer, inner), sizes, flat, strict=True):
            found |= dict(zip(dims, np.unravel_index(index, size) if size else (), strict=True))
        return found

    def partners(self, senders: Int64, distance: int) -> Int64:
        return senders - distance * self.deal.cores

    def fills(self, operand: Operand, positions: Int64) -> Fills:
        """Every core loads for itself: a new tile with every wave, and with every step of the sum it follows."""
        changed = np.zeros(self.iterations, np.bool_)
        changed[:: self.sum_steps] = True
        for dim in self.nest.role("k"):
            if dim in operand.dims:
                changed[1:] |= self.index[dim][1:] != self.index[dim][:-1]
        return Fills(np.flatnonzero(changed), np.arange(len(positions)), positions[:, None])


def loops_of(step: Step) -> Loops:
    """The loops of a mapped nest, dealt or not."""
    kind = Loops if step.tiling.deal is None else DealtLoops
    return kind(step.nest, step.tiling, np.array(step.cores, np.int64))


def waves(step: Step) -> tuple[Step, ...]:
    """A dealt step as the steps to emit: its full waves, and the last one where it is not full."""
    deal = step.tiling.deal
    if deal is None:
        return (step,)
    sums = step.nest.role("k")
    parts = math.prod(step.tiling.splits)
    tiles = math.prod(s for dim, s in enumerate(step.tiling.steps) if dim not in sums)
    full, rest = divmod(tiles, deal.cores)
    # The last tile of a core takes turns with those before it that make up a full set of slots with it, or is alone.
    last = deal.lone_stages * (1 + full % (deal.stages // deal.lone_stages))
    found = []
    for first, count, cores in ((0, full, deal.cores), (full * deal.cores, 1, rest)):
        if count and cores:
            share = count / (full + (rest > 0))
            tiling = replace(
                step.tiling,
                deal=replace(
                    deal, first=first, cores=cores, waves=count, stages=last if first else deal.stages,
                    adds=deal.adds and (first > 0 or not full or not rest),
                ),
                latency_s=step.tiling.latency_s * share,
                dram_bytes=step.tiling.dram_bytes * share,
            )
            # Cores that share sums lie one full deal apart.
            owners = [step.cores[part * deal.cores : part * deal.cores + cores] for part in range(parts)]
            found.append(replace(step, tiling=tiling, cores=tuple(c for group in owners for c in group)))
    return tuple(found)


def deal_search(
    nest: Nest, site: Site, limits: Limits, dataflow: str, dispatch: Dispatch, cache: Cache | None
) -> Tiling:
    """The menu's tile, split of the sum and order of dealing with the least estimated latency.

    Raises DoesNotFit when no tile of the menu fits the scratchpad and the accumulator.
    """
    if nest.kind == "attention":
        return deal_attention(nest, site, limits, dataflow, dispatch, cache)
    for tiles in (_preferred(nest, dispatch), dispatch.tiles):
        cost = _Costs(nest, site, dataflow, dispatch, tiles, cache)
        accumulator = site.kind.accumulator
        fits = cost.sram_bytes <= limits.sram_bytes
        if accumulator is not None:
            fits &= cost.accumulator_bytes <= accumulator.size_bytes
        if fits.any():
            break
        # Where the input of a strided convolution is four times its result, a tile that is preferred may be too large.
    else:
        raise _too_large(nest, site, limits, cost)
    latency = np.where(fits, cost.latency_s + cost.launch_s, np.inf)
    close = np.flatnonzero(latency <= latency.min() * SLACK)
    return cost.tiling(int(close[np.argmin(cost.transfers[close])]))


def _too_large(nest: Nest, site: Site, limits: Limits, cost: _Costs) -> DoesNotFit:
    """The memory that no tile of the menu fits, and what the smallest there needs of it."""
    memory, sizes, available = "scratchpad", cost.sram_bytes, limits.sram_bytes
    accumulator = site.kind.accumulator
    if accumulator is not None and (sizes <= available).any():
        sizes = np.where(sizes <= available, cost.accumulator_bytes, cost.accumulator_bytes.max())
        memory, available = "accumulator", accumulator.size_bytes
    return DoesNotFit(
        f"the smallest tile of the menu for operator {nest.name} ({nest.kind})",
        int(sizes.min()),
        available,
        f"{memory} of a {site.kind.name} core",
        ("a smaller tile in dispatch.tiles", f"a larger {'sram' if memory == 'scratchpad' else memory}.size"),
    )


class _Costs:
    """Closed form of every candidate: one row per (tile of the menu, parts of the sum, steps of it, order)."""

    def __init__(
        self, nest: Nest, site: Site, dataflow: str, dispatch: Dispatch, tiles: Sequence[tuple[int, int]],
        cache: Cache | None,
    ) -> None:  # fmt: skip
        self.nest, self.site, self.dataflow, self.cache = nest, site, dataflow, cache
        self.sums, self.menu = nest.role("k"), menu_of(nest, dispatch, tiles, site.cores)
        menu = self.menu
        self.rows, self.columns, self.parts, self.sum_steps = menu.rows, menu.columns, menu.parts, menu.sum_steps
        self.columns_first, self.group, self.tile, self.tiles = menu.columns_first, menu.group, menu.tile, menu.tiles
        self.cores = np.minimum(self.tiles, site.cores // self.parts)
        self.waves = -(-self.tiles // self.cores)
        # Tiles that a core works on by turns hide each other's round trips; one alone has its own slots only.
        self.lone_stages = min(dispatch.lone_stages or dispatch.stages, dispatch.stages)
        self.stages = np.where(self.waves > 1, dispatch.stages, self.lone_stages)
        self._evaluate()

    def _evaluate(self) -> None:
        nest, site, kind, tile = self.nest, self.site, self.site.kind, self.tile
        dtype = nest.operands[0].tensor.dtype
        one = np.ones_like(self.rows)
        depth = np.prod([tile[dim] for dim in self.sums], axis=0) * nest.taps
        shape = GemmShape(one, self.rows, self.columns, depth)
        fast = array_cycles(shape, kind, dtype, self.dataflow, *feeding(nest, kind, tile, self.dataflow))
        self.slowed = kind.calibration.slowed(self._working(fast[0]))
        hold, dur = (cycles * self.slowed for cycles in fast)
        elements = self.rows * self.columns
        *operand_bytes, out_bytes = self.menu.operand_bytes
        self.accumulator_bytes = elements * accumulator_bytes(dtype)
        instructions = epilogue_instructions(kind)
        moved = drained_bytes(nest, out_bytes)
        drain = vector_tile_cycles(
            elements, drain_passes(nest, kind), kind, moved, self.accumulator_bytes, instructions=instructions
        )
        hold_s, drain_s = hold / kind.clock_hz, drain / kind.clock_hz
        late = sum((b for b, o in zip(operand_bytes, nest.operands, strict=True) if o.part == "epilogue"), 0 * one)
        fed = sum(operand_bytes, -late)
        size = kind.accumulator.size_bytes if kind.accumulator is not None else 0
        doubled = (BUFFER_SLOTS * self.accumulator_bytes <= size) & (self.waves > 1)

        busy = self.cores * self.parts
        lane = kind.dma.bandwidth_bytes_per_s * kind.dma.channels
        rate = np.minimum(lane, self._shared_bandwidth() / busy)
        step_s = np.maximum(hold_s, fed / rate)
        # Loads are issued as slots come free; a round trip shows where the slots in flight do not hide it.
        step_s = np.maximum(step_s, (site.head_latency_s + fed / lane + dur / kind.clock_hz) / self.stages)
        tail_s = drain_s + (late + out_bytes) / rate
        wave_s = self.sum_steps * step_s
        wave_s = np.where(doubled, np.maximum(wave_s, tail_s), wave_s + drain_s)
        once_s = 2 * site.head_latency_s + fed / rate + tail_s + (dur - hold) / kind.clock_hz
        first = self._first_waves()
        cold, later = self._dram_bytes(first / self.waves)
        self.dram_bytes = cold + later
        peak = site.dram.bandwidth_bytes_per_s
        rest = self.waves - first
        on_chip_s = np.maximum(first * wave_s, cold / peak) + np.maximum(rest * wave_s, later / peak)
        # The cores of the last wave are alone with the DRAM, each no faster than its lanes.
        full, alone = divmod(self.tiles, self.cores)
        last_s = self.sum_steps * np.maximum(hold_s, fed / lane)
        before_s = np.maximum(full * wave_s, (cold + later) * (1 - alone / self.tiles) / peak)
        on_chip_s = np.where(alone > 0, np.maximum(on_chip_s, before_s + last_s), on_chip_s)
        self.latency_s = on_chip_s + once_s + self._sum_s(drain_s)
        self.launch_s = np.where(self.parts > 1, adding_launch_ps(kind.calibration), 0) / PS_PER_S
        self.transfers = self.waves * busy * (self.sum_steps * len(nest.inputs) + len(nest.epilogue) + 1)
        slots = np.where(self.sum_steps * self.waves > 1, self.stages, 1)
        messages = (1 + BUFFER_SLOTS) * aligned(self.accumulator_bytes)
        sram_bytes = np.asarray(aligned(out_bytes) + np.where(self.parts > 1, messages, 0), np.int64)
        for size_bytes in operand_bytes:
            sram_bytes = np.asarray(sram_bytes + slots * aligned(size_bytes), np.int64)
        self.sram_bytes = sram_bytes

    def _working(self, hold: Int64) -> Float64:
        """Share of the peak of all arrays that the products would use, were the busiest array never to wait; of its
        steps, of `hold` cycles each, not all are as long as the longest."""
        first, kind = self.sums[0], self.site.kind
        longest = self.parts * self.sum_steps * self.tile[first]
        busy = self.waves * self.sum_steps * hold * (self.nest.dims[first].extent / longest)
        peak = self.site.cores * kind.peak_macs_per_s(self.nest.operands[0].tensor.dtype)
        return np.asarray(self.nest.macs * kind.clock_hz / (peak * busy), np.float64)

    def _shared_bandwidth(self) -> float:
        """Of what all cores load from together: the cache, or the DRAM where there is none."""
        if self.cache is not None:
            return self.cache.bandwidth_bytes_per_s * self.site.kind.calibration.cache_efficiency
        return float(self.site.dram.bandwidth_bytes_per_s)

    def _dram_bytes(self, share: Float64) -> tuple[Float64, Float64]:
        """Bytes between the chip and its DRAM in the `share` of waves that meet the inner operand for the first time,
        and in those after; weighted by the efficiency of their runs."""
        cold, later = np.zeros((2, len(self.rows)))
        whole = self.site.kind.calibration.dram_efficiency
        *loading, storing = (pattern * whole for pattern in self.menu.efficiencies(self.site.dram))
        *operand_bytes, out_bytes = self.menu.operand_bytes
        for operand, size_bytes, efficiency in zip(self.nest.operands, operand_bytes, loading, strict=True):
            if self.cache is None:
                many = self.waves * self.cores * self.parts
                many = many * (1 if operand.part == "epilogue" else self.sum_steps)
                spread, once = np.asarray(many * size_bytes, np.float64), np.zeros(len(self.rows))
            else:
                spread, once = self._through_cache(operand, self.cache.size_bytes)
            cold += (once + share * spread) / efficiency
            later += (1 - share) * spread / efficiency
        stored = self.tiles * out_bytes / storing
        return cold + share * stored, later + (1 - share) * stored

    def _through_cache(self, operand: Operand, cache_bytes: int) -> tuple[Float64, Float64]:
        """Bytes of an operand that come from DRAM little by little, and those that come with the first turn of the
        inner loops: all of what follows these alone, if half the cache holds it; else it comes with every turn."""
        size = operand.size_bytes
        spread, once = np.full(len(self.rows), float(size)), np.zeros(len(self.rows))
        for order, inner, outer in ((0, "n", "m"), (1, "m", "n")):
            if not (self._follows(operand, inner) and not self._follows(operand, outer)):
                continue
            here = self.columns_first == order
            if size <= cache_bytes // 2:
                once = np.where(here, size, once)
                spread = np.where(here, 0.0, spread)
            else:
                together = np.maximum(self.group, self.cores // self.menu.tiles_of[inner])
                turns = -(-self.menu.tiles_of[outer] // together)
                spread = np.where(here, float(size) * turns, spread)
        return spread, once

    def _first_waves(self) -> Int64:
        """Waves until every tile of the inner loops has come up once."""
        rows, columns = self.menu.tiles_of["m"], self.menu.tiles_of["n"]
        outer, inner = np.where(self.columns_first == 1, [columns, rows], [rows, columns])
        found = np.minimum(self.waves, -(-inner * np.minimum(self.group, outer) // self.cores))
        return np.asarray(found, np.int64)

    def _follows(self, operand: Operand, role: str) -> bool:
        return any(self.nest.dims[dim].role == role for dim in operand.dims)

    def _sum_s(self, drain_s: Float64) -> Float64:
        """Adding up the parts of split sums, as a binary tree; the launch for it aside."""
        link = min(self.site.hop_bandwidth_bytes_per_s, self.site.kind.dma.bandwidth_bytes_per_s)
        one = self.accumulator_bytes / link + self.site.send_latency_s + drain_s
        rounds = np.ceil(np.log2(self.parts)) * self.waves * one
        return np.asarray(rounds + np.where(self.parts > 1, read_again_ps(self.cache) / PS_PER_S, 0.0))

    def tiling(self, index: int) -> Tiling:
        """The candidate as a tiling of the whole result, every wave of it."""
        nest, dims = self.nest, range(len(self.nest.dims))
        first = self.sums[0]
        tile = [int(self.tile[dim][index]) for dim in dims]
        splits = [int(self.parts[index]) if dim == first else 1 for dim in dims]
        steps = [
            int(self.sum_steps[index]) if dim == first else -(-nest.dims[dim].extent // tile[dim])
            for dim in dims
        ]
        quanta = [self.menu.depth if dim == first else 1 if dim in self.sums else tile[dim] for dim in dims]
        cores, sides = int(self.cores[index]), (int(self.rows[index]), int(self.columns[index]))
        return Tiling(
            tuple(splits),
            tuple(steps),
            tuple(quanta),
            loop_order(nest, bool(self.columns_first[index])),
            "array",
            self.dataflow,
            float(self.latency_s[index]),
            float(self.dram_bytes[index]),
            int(self.sram_bytes[index]),
            int(self.accumulator_bytes[index]),
            Deal(
                *(0, cores, int(self.waves[index]), *sides),
                stages=int(self.stages[index]),
                group=int(self.group[index]),
                lone_stages=self.lone_stages,
                slowed=float(self.slowed[index]),
                adds=bool(self.parts[index] > 1),
            ),
        )


def _preferred(nest: Nest, dispatch: Dispatch) -> Sequence[tuple[int, int]]:
    """Tiles that the library would try for a result of this shape."""
    rows, columns = (math.prod(nest.dims[dim].extent for dim in nest.role(role)) for role in ("m", "n"))
    if dispatch.choice == "fastest":
        return [(m, n) for m, n in dispatch.tiles if m >= min(dispatch.least_rows, rows)] or dispatch.tiles
    full = [(m, n) for m, n in dispatch.tiles if m < 2 * rows and n < 2 * columns]
    largest = max((m * n for m, n in full), default=0)
    return [(m, n) for m, n in full if m * n == largest] or [min(dispatch.tiles, key=math.prod)]
