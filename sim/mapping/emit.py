"""One mapped loop nest as a template: the tasks of its skeleton, how long they take and what they move whereto."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sim.cost.banks import weighted_read_bytes
from sim.cost.coding import codable, coded_bytes
from sim.cost.estimate import body_passes, drain_passes, feeding, lane_elements
from sim.cost.row_stationary import row_cycles
from sim.cost.work import accumulator_bytes, array_cycles, epilogue_instructions, vector_tile_cycles
from sim.graph.nest import Nest, Operand
from sim.graph.tensor import DTYPE_BITS
from sim.hw.chip import Chip
from sim.hw.core import CoreKind
from sim.mapping.describe import step_work
from sim.mapping.fabric import Fabric, Level
from sim.mapping.loops import Fills, Loops
from sim.mapping.regions import Regions, regions
from sim.mapping.row_tiles import row_tiles
from sim.mapping.search import VectorKernel
from sim.mapping.skeleton import Fetch, Skeleton, skeleton_of
from sim.mapping.split_sum import emit_rounds
from sim.mapping.step import Step
from sim.mapping.template import Lookups, Read, Template
from sim.mapping.weights import dram_costs
from sim.program import RESULT, Policy, ticks

Int64 = npt.NDArray[np.int64]
HOLD, DUR, NBYTES, PATH = range(4)
"""Columns of the tasks under construction."""

@dataclass(frozen=True, slots=True)
class Transfers:
    """Transfers [ends, tasks] that go one `way`: `which` of the different ones each is; of these the end, the channel
    and the DRAM weight. `ask` as `Emitter.ask`."""

    ask: Callable[..., tuple[int, int]]
    way: str
    different: Sequence[tuple[object, int, int]]
    which: Int64

    @property
    def weights(self) -> list[int]:
        """DRAM weight of the different ones."""
        return [weight for *_, weight in self.different]

    def at(self, level: Level) -> tuple[Int64, Int64]:
        """(path, latency) [ends, tasks] where the bytes lie at this level of memory."""
        found = [self.ask(self.way, *transfer, level) for transfer in self.different]
        path, latency = np.array(found, np.int64).T
        return path[self.which], latency[self.which]


@dataclass
class Emitter:
    """Emits the tasks of one step, whose loops these are, under the names of `Template`.

    `policies` says how the transfers of operands (RESULT: of the result) treat the cache; those of others need not look
    into it. `columns` [4, tasks] are in the order in which the skeleton added its tasks. `hold_cycles` are those of
    every product, `row_activations` the DRAM rows that all transfers open; `more_*_bytes` what scratchpads read and
    write beyond what moves, for it moves coded.
    """

    chip: Chip
    fabric: Fabric
    step: Step
    kind: CoreKind
    loops: Loops
    policies: Mapping[int, Policy] = field(default_factory=dict)
    paths: dict[tuple[object, ...], tuple[int, int]] = field(default_factory=dict)
    reads: list[Read] = field(default_factory=list)
    lookups: list[Lookups] = field(default_factory=list)
    hold_cycles: Int64 | None = None
    row_activations: float = 0.0
    more_read_bytes: int = 0
    more_written_bytes: int = 0
    skeleton: Skeleton = field(init=False)
    columns: Int64 = field(init=False)

    def run(self) -> Template:
        self.skeleton = skeleton_of(self.step, self.kind, self.fabric, self.loops)
        self.owners = self.skeleton.owners
        self.columns = np.empty((4, len(self.skeleton.order)), np.int64)
        if self.step.tiling.unit == "array":
            self._matrix_products()
            self._drains()
        else:
            self._vector_passes()
        for fetch in self.skeleton.fetches:
            operand = self.step.nest.operands[fetch.operand]
            if fetch.resident:
                boxes = self.loops.boxes(operand, fetch.positions, fetch.fills.first)
                self.reads.append(Read(fetch.operand, fetch.tasks, *boxes, fetch.positions))
            else:
                self._load(fetch, operand)
        if self.step.store:
            self._store()
        return self._template()

    def _template(self) -> Template:
        """Everything emitted, in program order."""
        frame, results = self.skeleton, self.loops.results
        hold, dur, nbytes, path = self.columns[:, frame.order]
        return Template(
            loops=self.loops,
            owners=frame.owners,
            columns=(frame.kind, frame.queue, hold, dur, nbytes),
            path=path,
            paths=tuple(self.paths),
            edges=frame.edges,
            main=frame.main,
            drain=frame.drain,
            stores=frame.stores,
            first_stores=frame.first_stores,
            starts=frame.starts,
            empties=frame.empties,
            halves=frame.halves,
            claims=frame.claims,
            reads=tuple(self.reads),
            users=frame.users,
            loads={fetch.operand: (fetch.tasks, fetch.fills) for fetch in frame.fetches if not fetch.resident},
            rounds=frame.rounds,
            results=(results[0][self.owners], results[1][self.owners]),
            work=step_work(self.step, self.loops, self.kind, self.hold_cycles, self._more_counts()),
            lookups=tuple(self.lookups),
        )

    def _more_counts(self) -> dict[str, float]:
        """What only the tasks tell."""
        return {
            "dram_row_activations": self.row_activations,
            "sram_read_bytes": float(self.more_read_bytes),
            "sram_write_bytes": float(self.more_written_bytes),
        }

    def ask(self, *asked: object) -> tuple[int, int]:
        """(row among the step's paths, latency in ticks) of a path of the fabric."""
        found = self.paths.get(asked)
        if found is None:
            found = self.paths[asked] = len(self.paths), self.fabric.path(asked).latency_ps
        return found

    def set(self, name: str, hold: Int64 | int, dur: Int64, nbytes: Int64 | int = 0, path: Int64 | int = -1) -> None:
        """The columns of the tasks that the skeleton added under a name; each broadcasts to their shape."""
        first, shape = self.skeleton.groups[name]
        columns = self.columns[:, first : first + math.prod(shape)].reshape(4, *shape)
        columns[HOLD], columns[DUR], columns[NBYTES], columns[PATH] = hold, dur, nbytes, path

    # ---- compute --------------------------------------------------------------------------------------------

    def _matrix_products(self) -> None:
        nest, loops = self.step.nest, self.loops
        dtype = nest.operands[0].tensor.dtype
        if self.step.tiling.rows is not None:
            hold = dur = row_cycles(self.step.tiling.rows.mapping, row_tiles(nest, loops), self.kind)
        else:
            dataflow = self.step.tiling.dataflow
            how = feeding(nest, self.kind, loops.tile, dataflow)
            hold, dur = array_cycles(loops.issued, self.kind, dtype, dataflow, *how)
            if self.step.tiling.deal is not None:
                slowed = self.step.tiling.deal.slowed
                hold, dur = (np.ceil(cycles * slowed).astype(np.int64) for cycles in (hold, dur))
        self.hold_cycles, held = hold, ticks(hold, self.kind.clock_hz)
        self.set("main", held, np.maximum(held, ticks(dur, self.kind.clock_hz)))

    def _vector_passes(self) -> None:
        nest, loops = self.step.nest, self.loops
        start, stop = loops.boxes(nest.out, slice(None), np.arange(loops.iterations))
        elements = self._lane_elements(stop - start)
        moved = nest.out.tile_bytes(loops.tile) + weighted_read_bytes(nest, self.kind, loops.tile)
        dealt = self.step.tiling.deal.vector if self.step.tiling.deal is not None else None
        kernel = dealt if dealt is not None else VectorKernel(0.0)
        passes = body_passes(nest, self.kind)
        cycles = vector_tile_cycles(elements, passes, self.kind, moved, instructions=kernel.instructions)
        self.vector("main", cycles, kernel)

    def vector(self, name: str, cycles: Int64, kernel: VectorKernel | None = None) -> None:
        """Vector tasks of so many cycles; those of a dealt kernel wait besides."""
        duration = ticks(cycles, self.kind.clock_hz)
        if kernel is not None:
            duration = np.maximum(duration + kernel.waiting_ps, kernel.floor_ps)
        self.set(name, duration, duration)

    def _drains(self) -> None:
        """What empties the accumulators: the parts of split sums, then bias and fused operators on the owner."""
        nest, owners = self.step.nest, self.owners
        start, stop = self.loops.results
        extents = stop - start
        elements = extents.prod(axis=-1)
        sums = elements * accumulator_bytes(nest.operands[0].tensor.dtype)
        out_bytes = elements * DTYPE_BITS[nest.out.tensor.dtype] // 8
        lanes = self._lane_elements(extents) if self.kind.vector.register_shape else elements
        passes = drain_passes(nest, self.kind)
        more = epilogue_instructions(self.kind) if self.step.tiling.deal is not None else 0.0
        cycles = vector_tile_cycles(
            lanes[owners], passes, self.kind, out_bytes[owners], sums[owners], instructions=more
        )
        self.vector("drain", cycles)
        emit_rounds(self, elements, sums)

    def _lane_elements(self, extents: Int64) -> Int64:
        """Elements that the lanes handle for boxes of the result with these extents [..., rank]."""
        axes = [extents[..., axis] for axis in range(extents.shape[-1])]
        return lane_elements(self.step.nest.out, axes, self.kind)

    # ---- operands and results -------------------------------------------------------------------------------

    def _load(self, fetch: Fetch, operand: Operand) -> None:
        index, fills = fetch.operand, fetch.fills
        leaders = fills.members[:, 0]
        start, stop = self.loops.boxes(operand, leaders, fills.first)
        channel = (np.arange(len(fills.first)) + index) % self.kind.dma.channels
        way: str
        ends: Sequence[object]
        way, ends = "load", self.loops.cores[leaders].tolist()
        if self.step.nest.chips > 1:
            way, ends = "exchange", [(core, self.step.nest.chips) for core in ends]
        if fills.members.shape[1] > 1:
            way, ends = "multicast", list(map(tuple, self.loops.cores[fills.members].tolist()))
        self._transfer(f"load{index}", index, fetch.tasks, operand, (start, stop), (way, ends, channel), fills)
        for number in load_reads(self.step.nest, index):
            boxes = start, stop
            if number != index:
                boxes = self.loops.boxes(self.step.nest.operands[number], leaders, fills.first)
            self.reads.append(Read(number, fetch.tasks, *boxes))

    def _store(self) -> None:
        assert self.skeleton.stores is not None
        start, stop = (boxes[self.owners] for boxes in self.loops.results)
        channel = np.arange(start.shape[1]) % self.kind.dma.channels
        ends = self.loops.cores[self.owners].tolist()
        stores, out = self.skeleton.stores, self.step.nest.out
        self._transfer("store", RESULT, stores, out, (start, stop), ("store", ends, channel))

    def _transfer(
        self,
        name: str,
        number: int,
        tasks: Int64,
        operand: Operand,
        boxes: tuple[Int64, Int64],
        ways: tuple[str, Sequence[object], Int64],
        fills: Fills | None = None,
    ) -> None:
        """Loads of operand `number` (RESULT: stores of the result), which move `boxes` [ends, tasks, rank]; `ways` are
        the kind of path, its ends and the channel of every task."""
        extents = boxes[1] - boxes[0]
        where = regions(operand, *boxes) if number in self.policies else None
        nbytes = self._transferred(operand, extents, fills) if where is None else where.size_bytes
        weight, opened = dram_costs(self.chip, self.step.nest, operand, extents, nbytes, store=number == RESULT)
        self.row_activations += opened
        transfers = self._transfers(*ways, weight)
        # What is written goes into the cache, whether its line was there or not.
        through: Level = "cache" if number == RESULT else "fill"
        past = self.policies.get(number, Policy.BYPASS) == Policy.BYPASS
        path, latency = transfers.at("dram" if past else through)
        waiting = self._other_chips_ps(number, latency.shape)
        self.set(name, 1, latency + waiting, nbytes, path)
        if where is not None:
            self._look_up(number, tasks, where, transfers, waiting)

    def _other_chips_ps(self, number: int, shape: tuple[int, ...]) -> Int64:
        """What the first loads of an operand that is exchanged with other chips wait for them [ends, tasks]. The last
        wave of a dealt nest goes on with what those before it began."""
        waiting, deal, chips = np.zeros(shape, np.int64), self.step.tiling.deal, self.step.nest.chips
        if chips > 1 and number != RESULT and (deal is None or not deal.first):
            assert self.chip.links is not None
            waiting[:, 0] = self.chip.links.ring_latency_ps(chips)
        return waiting

    def _transfers(self, way: str, ends: Sequence[object], channel: Int64, weight: Int64) -> Transfers:
        """Transfers [ends, tasks] on these channels [tasks] with these DRAM weights [ends, tasks]."""
        from sim.cost.moves import number_transfers

        which, asked = np.empty(weight.shape, np.int64), np.empty((weight.size, 3), np.int64)
        count = number_transfers(weight, channel, which, asked)
        return Transfers(self.ask, way, [(ends[row], *rest) for row, *rest in asked[:count].tolist()], which)

    def _look_up(
        self, operand: int, tasks: Int64, where: Regions, transfers: Transfers, waiting: Int64
    ) -> None:
        """Note that transfers look into the cache, and the ways of what is there and of lines that come and go."""
        hit_path, hit_dur = transfers.at("cache")
        rest = {heavy: self.ask("write_back", heavy)[0] for heavy in sorted(set(transfers.weights))}
        rest_path = np.array([rest[heavy] for heavy in transfers.weights], np.int64)[transfers.which]
        policy = self.policies[operand]
        self.lookups.append(
            Lookups(operand, policy, tasks, where, hit_path, hit_dur + waiting, rest_path)
        )

    def _transferred(self, operand: Operand, extents: Int64, fills: Fills | None = None) -> Int64:
        """Bytes of boxes on their way, loaded for `fills` or stored. Where they are coded, what the scratchpads take or
        give beyond them is counted by itself."""
        whole = _bytes(operand, extents)
        if not self.kind.dma.run_length_coding or not codable(operand):
            return whole
        moved = coded_bytes(operand, extents)
        saved = int((whole - moved).sum())
        if fills is None:
            self.more_read_bytes += saved
        else:
            self.more_written_bytes += saved * fills.members.shape[1]
        return moved


def _bytes(operand: Operand, extents: Int64) -> Int64:
    """Bytes of boxes with these extents [..., rank], at least 1."""
    bits = DTYPE_BITS[operand.tensor.dtype]
    return np.asarray(np.maximum(1, -(-extents.prod(axis=-1) * bits // 8)), np.int64)


def load_reads(nest: Nest, index: int) -> tuple[int, ...]:
    """Operands that a load of operand `index` reads from DRAM: itself, and the indices that say where its rows lie."""
    return tuple(range(len(nest.inputs))) if nest.operands[index].gathered else (index,)
