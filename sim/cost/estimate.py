"""Closed-form latency, traffic and footprint of a nest under many tilings at once.

The estimate is what the tile search minimises: the chain of computing, with the first tiles in and the last out that
no overlap hides, or the chain of moving everything over the busiest wire, whichever is longer, and the latency of every
transfer as far as the buffers in flight leave it exposed. A cost without the last term picks tiny tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt

from sim.cost.banks import array_conflicts, weighted_read_bytes
from sim.cost.element_passes import body_passes, box_extents, drain_passes
from sim.cost.fills import fills, result_elements, ring, tile_gemm
from sim.cost.wires import GIVEN, LINK, PLACED, PORT, Wiring
from sim.cost.work import (
    PARTS_ADDED,
    accumulator_bytes,
    array_cycles,
    compute_bandwidth,
    drained_bytes,
    scale_bits,
    tile_overhead_cycles,
    unpack_cost,
    vector_tile_cycles,
)
from sim.graph.nest import Nest, Operand
from sim.hw.core import CoreKind
from sim.hw.dram import Dram, pattern_efficiency

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Values = Int64 | Float64

BUFFER_SLOTS = 2
"""Slots of a buffer that is filled more than once: one in use, one in flight (double buffering)."""

ALIGNMENT_BYTES = 64
"""Buffers start at multiples of this: a line of every memory modelled."""

SECTOR_BYTES = 32
"""What a GPU reads its caches by (Jia et al., Dissecting the NVIDIA Volta GPU via Microbenchmarking, 2018)."""


@dataclass(frozen=True, slots=True)
class Site:
    """The cores an operator may use and what they share, as the estimate sees them.

    `head_latency_s` is set-up, hops and DRAM latency of an average transfer; `port_bandwidth_bytes_per_s` the sum
    over the memory ports these cores use; `hop_bandwidth_bytes_per_s` one on-chip link. `least_head_latency_s` is that
    of the core nearest to the memory (0: not known). `wiring` tells what a split makes of the busiest port (of
    `each_port_bandwidth_bytes_per_s`) and link; None where they are no limit.
    """

    kind: CoreKind
    cores: int
    dram: Dram
    head_latency_s: float
    send_latency_s: float
    port_bandwidth_bytes_per_s: float
    hop_bandwidth_bytes_per_s: float
    least_head_latency_s: float = 0.0
    each_port_bandwidth_bytes_per_s: float = 0.0
    wiring: Wiring | None = None


@dataclass(frozen=True, slots=True)
class Cuts:
    """Candidate tilings as arrays: `splits` and `steps` [candidates, dims] (parts over cores, tiles per core),
    `columns_first` [candidates] (the `n` loops outside the `m` loops), `tile` [dims][candidates] sizes."""

    splits: Int64
    steps: Int64
    columns_first: Bool
    tile: tuple[Int64, ...]


@dataclass(frozen=True, slots=True)
class Estimate:
    """Per candidate: seconds, bytes between the chip and its DRAM, transfers, scratchpad and accumulator need."""

    latency_s: Float64
    dram_bytes: Float64
    transfers: Int64
    sram_bytes: Int64
    accumulator_bytes: Int64


@overload
def aligned(size_bytes: int) -> int: ...
@overload
def aligned(size_bytes: Int64) -> Int64: ...
def aligned(size_bytes: int | Int64) -> int | Int64:
    """Rounded up to the alignment of buffers."""
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def estimate(
    nest: Nest, site: Site, cuts: Cuts, *, unit: str, dataflow: str, resident: Bool, stored: bool = True,
    staying: Sequence[bool] = (),
) -> Estimate:  # fmt: skip
    """Evaluate all candidates. `resident` [candidates, operands] marks operands that every core that needs them
    already has in its scratchpad; the result goes to DRAM, or stays in the scratchpads if not `stored`. Operands that
    are `staying` are loaded once, into room for those of their tiles that a core needs again.

        latency = head latency + max(computing, moving, issue of all transfers) + tail + reduction over cores
        computing = first tiles in + max(compute, waits for free slots) + drain + last tile out
        moving = busiest of DMA, DRAM, ports and links + the last tile's compute and drain
        tiles for which operands that stay are loaded take as long as if they did not stay

    The tail is the array's, from the end of a hold to the result."""
    kind, steps, tile = site.kind, cuts.steps, cuts.tile
    sums = nest.role("k")
    used = cuts.splits.prod(axis=1)
    summed = cuts.splits[:, sums].prod(axis=1) if sums else np.ones_like(used)
    iterations = steps.prod(axis=1)
    out_tiles = iterations // (steps[:, sums].prod(axis=1) if sums else 1)
    elements = result_elements(nest, tile)
    out_bytes = nest.out.tile_bytes(tile)
    inside = np.zeros_like(used)
    if nest.kind == "attention":
        from sim.cost.online import online_bytes, online_time, scratchpad_bytes

        compute_s, busy_s, tail_s, drain_s, accumulator = online_time(nest, kind, tile, dataflow, steps)
        inside = scratchpad_bytes(online_bytes(nest, tile, iterations // out_tiles, here=False))
    else:
        compute_s, busy_s, tail_s, drain_s, accumulator = _compute_time(
            nest, kind, tile, unit, dataflow, iterations, out_tiles, elements, out_bytes, summed > 1
        )
    moved = _Movement(site, used, site_wires(nest, site, cuts.splits, resident), staying)
    one_slot = np.ones_like(used)
    for index, operand in enumerate(nest.operands):
        dims = sorted(operand.dims)
        often, slots = fills(nest, operand, steps, cuts.columns_first), one_slot
        early = np.ones(len(steps))
        if moved.stays(index):
            boxes, slots = steps[:, dims].prod(axis=1), ring(nest, operand, steps, cuts.columns_first)
            often, early = boxes, np.where(resident[:, index], 1.0, boxes / often)
        loads = np.where(resident[:, index], 0, often)
        distinct = cuts.splits[:, dims].prod(axis=1)
        moved.load(index, operand, tile, loads, distinct, slots, early)
    loading_s = moved.wires_s()
    if stored:
        moved.store(nest.out, tile, out_tiles, used // summed)
    reduce_s, reduce_bytes = _reduction(site, nest, summed, elements, out_tiles, drain_s)
    post_s = site.send_latency_s if stored else 0.0
    out_s = moved.last_s if stored else 0.0
    if kind.sram.tile_slots > 1:
        waiting_s = moved.waiting_s(compute_s, tail_s, out_tiles * drain_s)
    else:
        waiting_s = moved.turns_s(busy_s, tail_s, drain_s, loading_s)
    pace_s = np.maximum(compute_s, waiting_s)
    computing_s = moved.first_s() + pace_s + drain_s + post_s + out_s
    moving_s = moved.wires_s() + compute_s / iterations + drain_s + post_s
    early_s = np.where(moved.part < 1, moved.early_s() + (1 - moved.part) * compute_s + drain_s + post_s, 0.0)
    busiest_s = np.maximum.reduce([computing_s, moving_s, early_s, moved.issue_s()])
    latency = site.head_latency_s + busiest_s + tail_s + reduce_s
    held = moved.sram_bytes + reduce_bytes + inside
    return Estimate(latency, moved.dram_bytes, moved.transfers, held, accumulator)


# What tiles move: bytes of a core and of the DRAM, the DRAM's seconds, bytes through the busiest port and link.
CORE, DRAM, WIRE_S, PORTED, LINKED = range(5)


class _Movement:
    """Sums over the operands of a nest, per candidate: buffers, transfers, bytes of the busiest core and of the
    DRAM, those of the first tiles, and the most fills of a buffer that is filled more than once."""

    def __init__(self, site: Site, used: Int64, wires: Float64, staying: Sequence[bool]) -> None:
        self.site, self.used, self.wires, self.staying = site, used, wires, staying
        self.moved, self.kept = np.zeros((2, 5, len(used)))  # by the columns CORE to LINKED; of what stays
        self.part = np.ones(len(used))  # of the tiles: the first, which what stays is loaded in
        self.sram_bytes = np.zeros_like(used)
        self.transfers = np.zeros_like(used)
        self.loads = np.zeros_like(used)
        self.busiest_channel, self.kept_loads, self.kept_channel = np.zeros((3, len(used)))
        self.first_bytes, self.first_largest, self.first_shared_s, self.last_s = np.zeros((4, len(used)))
        self.stores, self.stored = np.zeros_like(used), np.zeros_like(used)

    def stays(self, index: int) -> bool:
        """Is there room for all tiles of operand number `index`?"""
        return any(self.staying[index : index + 1])

    @property
    def dram_bytes(self) -> Float64:
        """Bytes between the chip and its DRAM."""
        return np.asarray(self.moved[DRAM])

    def load(
        self, index: int, operand: Operand, tile: Sequence[Int64], loads: Int64, distinct: Int64, slots: Int64,
        early: Float64,
    ) -> None:  # fmt: skip
        """`loads` fills of the operand's buffer, of at least so many `slots`, on every core, all of them in the first
        part of the tiles `early`; `distinct` groups of cores need different tiles."""
        before = self.moved.copy() if self.stays(index) else self.moved
        size = operand.tile_bytes(tile)
        first = np.where(loads > 0, size, 0)
        self.first_bytes += first
        self.first_largest = np.maximum(self.first_largest, first)
        many = loads > 1
        self.loads = np.maximum(self.loads, np.where(many, loads, 0))
        self.busiest_channel = np.maximum(self.busiest_channel, np.where(many, loads * size, 0))
        self.first_shared_s += np.where(loads > 0, self._move(index, operand, tile, size, loads, distinct, slots), 0.0)
        if self.stays(index):
            self.kept += np.where(early < 1, self.moved - before, 0.0)
            self.part = np.minimum(self.part, early)
            self.kept_loads = np.maximum(self.kept_loads, np.where(early < 1, loads, 0))
            self.kept_channel = np.maximum(self.kept_channel, np.where(early < 1, loads * size, 0))

    def store(self, out: Operand, tile: Sequence[Int64], tiles: Int64, owners: Int64) -> None:
        """`tiles` results of each of the `owners` (cores that finish sums)."""
        self.stores = tiles
        size = out.tile_bytes(tile)
        self.stored = tiles * size
        shared_s = self._move(-1, out, tile, size, tiles, owners, np.ones_like(tiles), store=True)
        self.last_s = self._together_s(size, size, shared_s)

    def first_s(self) -> Float64:
        """Time of the first tile of every operand."""
        return self._together_s(self.first_largest, self.first_bytes, self.first_shared_s)

    def _together_s(self, largest: Values, of_core: Values, shared_s: Float64) -> Float64:
        """Time of tiles that all cores move at once: bytes of the largest (it has one channel) and of all tiles of a
        core, time of all on what the cores share."""
        alone_s = np.maximum(largest / self._channel, of_core / self._core_bandwidth)
        return np.asarray(np.maximum(alone_s, shared_s))

    def issue_s(self) -> Float64:
        """Time to issue all transfers of a core, as many in flight as its DMA allows."""
        dma = self.site.kind.dma
        in_flight = dma.outstanding * dma.channels
        return np.asarray(self.transfers / self.used * self.site.head_latency_s / in_flight)

    def wires_s(self) -> Float64:
        """Time of the busiest of DMA, DRAM, memory ports and links."""
        return self._busiest_s(self.moved)

    def early_s(self) -> Float64:
        """Time of the busiest of them for all that stays and as large a part of the rest as it is loaded in."""
        return self._busiest_s(self.part * self.moved + (1 - self.part) * self.kept)

    def _busiest_s(self, moved: Float64) -> Float64:
        site, each_s = self.site, np.zeros(moved.shape[1])
        if site.wiring:
            each_s = moved[PORTED] / site.each_port_bandwidth_bytes_per_s
        port_s, link_s = moved[DRAM] / site.port_bandwidth_bytes_per_s, moved[LINKED] / site.hop_bandwidth_bytes_per_s
        own_s = moved[CORE] / self._core_bandwidth
        return np.asarray(np.maximum.reduce([own_s, moved[WIRE_S], port_s, each_s, link_s]))

    def waiting_s(self, compute_s: Float64, tail_s: Float64, drains_s: Float64) -> Float64:
        """The longest wait for one of two slots: half of every round trip shows.

        A slot is filled again when its tile is used up, `tail_s` after the array was free for the next one. All cores
        fill at the same time, loads and stores on the same links: the wires' part of the trips is that of everything
        moved. A result's slot is written again when its store, which waits for nobody, is through.
        """
        site = self.site
        wires_s = np.maximum(self.wires_s(), self.busiest_channel / self._channel)
        filling_s = compute_s + self.loads * (site.head_latency_s + tail_s) + wires_s
        emptying_s = drains_s + self.stores * site.send_latency_s + self.stored / self._channel
        trips_s = np.maximum(filling_s * (self.loads > 1), emptying_s * (self.stores > 1))
        # What stays is loaded for the first tiles: those wait as if it did not stay, the others only for the unit.
        loads = np.maximum(self.kept_loads, self.part * self.loads)
        channel_s = np.maximum(self.kept_channel, self.part * self.busiest_channel) / self._channel
        early_s = self.part * compute_s + loads * (site.head_latency_s + tail_s)
        early_s += np.maximum(self.early_s(), channel_s)
        early_s = (1 - self.part) * compute_s + early_s / BUFFER_SLOTS
        return np.maximum(trips_s / BUFFER_SLOTS, np.where(self.part < 1, early_s, 0.0))

    def turns_s(self, busy_s: Float64, tail_s: Float64, drain_s: Float64, loading_s: Float64) -> Float64:
        """The longest wait for the only slot, trips of the first loads and the last store left out.

        Loads and the array (`busy_s`) take turns, and so do drains and stores, each pair beside the other: a tile is
        loaded while the one before is drained, and stored while the next is computed. What loads last longer than
        drains they share the wires with stores.
        """
        site = self.site
        trips = self.loads - 1
        storing_s = self.wires_s() - loading_s
        beside_s = np.minimum(np.maximum(loading_s - self.stores * drain_s, 0.0), storing_s)
        filling_s = busy_s + trips * (site.head_latency_s + tail_s) + loading_s + beside_s - self.first_s()
        store_s = drain_s + site.send_latency_s + self.stored / np.maximum(self.stores, 1) / self._channel
        emptying_s = busy_s / np.maximum(self.stores, 1) + (self.stores - 1) * store_s
        return np.maximum(filling_s * (self.loads > 1), emptying_s * (self.stores > 1))

    @property
    def _channel(self) -> int:
        return self.site.kind.dma.bandwidth_bytes_per_s

    @property
    def _core_bandwidth(self) -> int:
        return self._channel * self.site.kind.dma.channels

    def _move(
        self,
        index: int,
        operand: Operand,
        tile: Sequence[Int64],
        size: Int64,
        count: Int64,
        distinct: Int64,
        slots: Int64,
        *,
        store: bool = False,
    ) -> Float64:
        """`count` tiles per core; cores that need the same tile share one access to the DRAM. Returns the time of one
        tile of every core on the busier of DRAM and ports."""
        accesses = count * distinct
        from_dram = (accesses * size).astype(np.float64)
        turns = np.where(count > 1, self.site.kind.sram.tile_slots, np.minimum(count, 1))
        self.sram_bytes += np.where(count > 0, np.maximum(turns, slots), 0) * aligned(size)
        self.transfers += accesses
        self.moved[CORE] += count * size
        self.moved[DRAM] += from_dram
        self.moved[PORTED] += count * size * self.wires[:, index, PORT]
        self.moved[LINKED] += count * size * self.wires[:, index, LINK]
        efficiency = _efficiency(self.site, operand, tile, store=store)
        self.moved[WIRE_S] += from_dram / (self.site.dram.bandwidth_bytes_per_s * efficiency)
        slower = np.minimum(
            self.site.dram.bandwidth_bytes_per_s * efficiency, self.site.port_bandwidth_bytes_per_s
        )
        return np.asarray(distinct * size / slower)


def _compute_time(
    nest: Nest,
    kind: CoreKind,
    tile: Sequence[Int64],
    unit: str,
    dataflow: str,
    iterations: Int64,
    out_tiles: Int64,
    elements: Int64,
    out_bytes: Int64,
    parted: Bool,
) -> tuple[Float64, Float64, Float64, Float64, Int64]:
    """(seconds that all tiles take on a core, of which they hold the unit itself, seconds from a tile's end of hold to
    its result, seconds of the last result's drain, accumulator bytes)."""
    if unit == "vector":
        moved = weighted_read_bytes(nest, kind, tile) + out_bytes
        lanes = lane_elements(nest.out, box_extents(nest.out, tile), kind)
        cycles = vector_tile_cycles(lanes, body_passes(nest, kind), kind, moved)
        none = np.zeros(len(iterations))
        busy_s = iterations * cycles / kind.clock_hz
        return busy_s, busy_s, none, none, np.zeros_like(iterations)
    dtype = nest.operands[0].tensor.dtype
    hold, dur = array_cycles(tile_gemm(nest, tile), kind, dtype, dataflow, *feeding(nest, kind, tile, dataflow))
    need = elements * accumulator_bytes(dtype)
    lanes = lane_elements(nest.out, box_extents(nest.out, tile), kind)
    # The last part of a split sum is in the scratchpad.
    moved = drained_bytes(nest, out_bytes) + np.where(parted, need, 0)
    drain = vector_tile_cycles(lanes, drain_passes(nest, kind), kind, moved, np.where(parted, 0, need))
    size = kind.accumulator.size_bytes if kind.accumulator is not None else 0
    doubled = (need * BUFFER_SLOTS <= size) & (out_tiles > 1) & (kind.sram.tile_slots > 1)
    busy, drains = iterations * hold, out_tiles * drain
    tail = dur - hold
    # One accumulator for all: the next tile starts when the last result is out, fill and drain of the array shown.
    total = np.where(doubled, np.maximum(busy, drains), busy + drains - drain + (out_tiles - 1) * tail)
    return total / kind.clock_hz, busy / kind.clock_hz, tail / kind.clock_hz, drain / kind.clock_hz, need


def lane_elements(operand: Operand, extents: Sequence[Int64], kind: CoreKind) -> Int64:
    """Elements that the lanes handle for boxes of these extents (by axis), whole registers where the unit has some."""
    return kind.vector.register_elements([extents[axis] for axis in operand.memory_order()])


def feeding(
    nest: Nest, kind: CoreKind, tile: Sequence[Int64], dataflow: str
) -> tuple[tuple[int, int], tuple[Float64 | float, Float64 | float], float, float]:
    """How the operands of a contraction's tiles reach the array, as `array_cycles` takes it: their bits, factors of
    bank conflicts, cycles to unpack a weight and bits read for that."""
    return operand_bits(nest), array_conflicts(nest, kind, tile, dataflow), unpack_cost(nest, kind), scale_bits(nest)


def operand_bits(nest: Nest) -> tuple[int, int]:
    """Storage bits of the left and right operand of a contraction."""
    from sim.graph.tensor import DTYPE_BITS

    left, right = nest.operands[0].tensor.dtype, nest.operands[1].tensor.dtype
    return DTYPE_BITS[left], DTYPE_BITS[right]


def site_wires(nest: Nest, site: Site, splits: Int64, resident: Bool) -> Float64:
    """[candidates, operands, 2]: how often the busiest port and link carry what one core moves (sim/cost/wires.py)."""
    from sim.cost.nest_tables import nest_tables

    if site.wiring is None:
        return np.zeros((len(splits), len(nest.operands) + 1, 2))
    distinct, which = np.unique(splits, axis=0, return_inverse=True)
    counts, _ = site.wiring.counted(nest_tables([nest]), 0, distinct)
    # What lies in the scratchpads was looked for in the order given.
    order = np.where(resident.any(axis=1), GIVEN, PLACED)
    return np.asarray(counts[which.reshape(-1), order], np.float64)


def _efficiency(site: Site, operand: Operand, tile: Sequence[Int64], *, store: bool) -> Float64:
    """DRAM efficiency of the operand's access pattern under each tile."""
    extents = np.empty((*tile[0].shape, len(operand.axes)), np.int64)
    for index, axis in enumerate(operand.axes):
        extents[..., index] = axis.extent(tile)
    run, pitch = operand.run_bytes(extents), operand.pitch_bytes(extents)
    pattern = np.asarray(pattern_efficiency(site.dram, run, pitch, store=store), np.float64)
    if site.kind.dispatch is not None:
        # Threads side by side read whole sectors, so that tiles had better have whole ones of every row.
        pattern = pattern * run / (-(-run // SECTOR_BYTES) * SECTOR_BYTES)
    return pattern * site.kind.calibration.dram_efficiency


def _reduction(
    site: Site, nest: Nest, summed: Int64, elements: Int64, out_tiles: Int64, drain_s: Float64
) -> tuple[Float64, Int64]:
    """Seconds and scratchpad bytes of adding the parts of a sum that is split over cores, as a binary tree."""
    if not nest.contraction or int(summed.max(initial=1)) == 1:
        return np.zeros(len(summed)), np.zeros_like(summed)
    part = elements * accumulator_bytes(nest.operands[0].tensor.dtype)
    rounds = np.ceil(np.log2(summed))
    clock = site.kind.clock_hz
    port = np.ceil(PARTS_ADDED * part * clock / compute_bandwidth(site.kind)) + tile_overhead_cycles(site.kind)
    add_s = np.maximum(drain_s, port / clock)
    send_s = site.send_latency_s + part / min(
        site.hop_bandwidth_bytes_per_s, site.kind.dma.bandwidth_bytes_per_s
    )
    slots = np.where(summed > 1, 1 + BUFFER_SLOTS, 0)
    return rounds * (out_tiles * part / site.hop_bandwidth_bytes_per_s + send_s + add_s), slots * aligned(
        part
    )
