"""One mapped loop nest as a batch of tasks, built as arrays over (core, iteration).

What orders them: a tile is computed when its loads have finished; a buffer slot is filled again when the last
compute that used it has finished; a sum is started when the accumulator half it needs has been emptied; a result
slot is written again when its store has finished. What earlier steps have to do with it is left to the ports of the
template.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from sim.cost.banks import array_conflicts, weighted_read_bytes
from sim.cost.coding import codable, coded_bytes
from sim.cost.estimate import body_passes, drain_passes, lane_elements, operand_bits
from sim.cost.row_stationary import row_cycles
from sim.cost.work import accumulator_bytes, array_cycles, epilogue_instructions, vector_tile_cycles
from sim.graph.nest import Nest, Operand
from sim.graph.tensor import DTYPE_BITS
from sim.hw.chip import Chip
from sim.hw.core import CoreKind
from sim.mapping.buffers import buffers
from sim.mapping.describe import step_work
from sim.mapping.fabric import Fabric, Level
from sim.mapping.loops import Fills, Loops
from sim.mapping.regions import Regions, regions
from sim.mapping.row_tiles import row_tiles
from sim.mapping.search import VectorKernel
from sim.mapping.split_sum import SplitSum
from sim.mapping.step import Step
from sim.mapping.table import Batch, together
from sim.mapping.template import Claim, Lookups, Read, Round, Template
from sim.mapping.weights import dram_costs
from sim.program import RESULT, Kind, Policy, ticks

Int64 = npt.NDArray[np.int64]
LOAD, COMPUTE, DRAIN, STORE = 0, 1, 60, 61
"""Order of the phases of an iteration; the rounds of a split sum lie between COMPUTE and DRAIN."""


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
    """Emits the tasks of one step, under the names of `Template`; ids are those of the batch until the end.

    `policies` says how the transfers of operands (RESULT: of the result) treat the cache; those of others need not look
    into it. `hold_cycles` are those of every product, `row_activations` the DRAM rows that all transfers open;
    `more_*_bytes` what scratchpads read and write beyond what moves, for it moves coded.
    """

    chip: Chip
    fabric: Fabric
    step: Step
    kind: CoreKind
    loops: Loops
    policies: Mapping[int, Policy] = field(default_factory=dict)
    batch: Batch = field(default_factory=Batch)
    paths: dict[tuple[object, ...], int] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    users: dict[str, Int64] = field(default_factory=dict)
    stores: Int64 | None = None
    first_stores: Int64 | None = None
    starts: Int64 | None = None
    empties: Int64 | None = None
    halves: int = 0
    loads: dict[int, tuple[Int64, Fills]] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)
    hold_cycles: Int64 | None = None
    row_activations: float = 0.0
    more_read_bytes: int = 0
    more_written_bytes: int = 0
    lookups: list[Lookups] = field(default_factory=list)

    def run(self) -> Template:
        self.slots = {buffer.name: buffer.slots for buffer in buffers(self.step)}
        self.owners = self.loops.owners
        everyone = np.arange(len(self.loops.cores), dtype=np.int64)
        if self.step.tiling.unit == "array":
            self.main = self._matrix_products()
            self.drain = self._drains()
        else:
            self.main = self.drain = self._vector_passes()
        for index, operand in enumerate(self.step.nest.operands):
            late = operand.part == "epilogue"
            positions = self.owners if late else everyone
            fills = self.loops.fills(operand, positions)
            if self.step.resident[index]:
                self._read_in_place(index, operand, positions, fills)
            else:
                self._load(index, operand, positions, fills)
        self._results()
        return self._template()

    def _template(self) -> Template:
        """Everything emitted, renumbered into program order."""
        place, (*columns, path), edges = self.batch.ordered()
        kind, queue, hold, dur, nbytes = columns

        def moved(ids: Int64 | None) -> Int64 | None:
            return None if ids is None else place[ids]

        return Template(
            loops=self.loops,
            owners=self.owners,
            columns=(kind, queue, hold, dur, nbytes),
            path=path,
            paths=tuple(self.paths),
            edges=edges,
            main=place[self.main],
            drain=place[self.drain],
            stores=moved(self.stores),
            first_stores=moved(self.first_stores),
            starts=moved(self.starts),
            empties=moved(self.empties),
            halves=self.halves,
            claims=tuple(Claim(c.buffer, c.positions, place[c.tasks], c.of) for c in self.claims),
            reads=tuple(Read(r.operand, place[r.tasks], r.start, r.stop, r.positions) for r in self.reads),
            users={name: place[tasks] for name, tasks in self.users.items()},
            loads={index: (place[tasks], fills) for index, (tasks, fills) in self.loads.items()},
            rounds=tuple(
                replace(r, copies=moved(r.copies), sends=place[r.sends], adds=place[r.adds])
                for r in self.rounds
            ),
            results=(self.loops.results[0][self.owners], self.loops.results[1][self.owners]),
            work=step_work(self.step, self.loops, self.kind, self.hold_cycles, self._more_counts()),
            lookups=tuple(replace(found, tasks=place[found.tasks]) for found in self.lookups),
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
        return self.paths.setdefault(asked, len(self.paths)), self.fabric.path(asked).latency_ps

    def claim(self, buffer: str, positions: Int64, tasks: Int64, of: Int64) -> None:
        """`tasks` wait for whoever used the buffer's memory before on the cores at `of`, broadcast together."""
        self.claims.append(Claim(buffer, positions, *together(tasks, of)))

    # ---- compute --------------------------------------------------------------------------------------------

    def queue(self, unit: str, channel: int = 0) -> Int64:
        """Queue of every core of the step."""
        return np.array([self.fabric.queue(unit, int(core), channel) for core in self.loops.cores], np.int64)

    def _matrix_products(self) -> Int64:
        nest, loops = self.step.nest, self.loops
        dtype = nest.operands[0].tensor.dtype
        if self.step.tiling.rows is not None:
            hold = dur = row_cycles(self.step.tiling.rows.mapping, row_tiles(nest, loops), self.kind)
        else:
            dataflow = self.step.tiling.dataflow
            conflicts = array_conflicts(nest, self.kind, loops.tile, dataflow)
            hold, dur = array_cycles(loops.issued, self.kind, dtype, dataflow, operand_bits(nest), conflicts)
        self.hold_cycles, held = hold, ticks(hold, self.kind.clock_hz)
        return self.batch.add(
            Kind.MATMUL,
            COMPUTE,
            hold.shape,
            iteration=np.arange(loops.iterations),
            queue=self.queue("array")[:, None],
            hold=held,
            dur=np.maximum(held, ticks(dur, self.kind.clock_hz)),
        )

    def _vector_passes(self) -> Int64:
        nest, loops = self.step.nest, self.loops
        start, stop = loops.boxes(nest.out, slice(None), np.arange(loops.iterations))
        elements = lane_elements(nest.out, list(np.moveaxis(stop - start, -1, 0)), self.kind)
        moved = nest.out.tile_bytes(loops.tile) + weighted_read_bytes(nest, self.kind, loops.tile)
        dealt = self.step.tiling.deal.vector if self.step.tiling.deal is not None else None
        kernel = dealt if dealt is not None else VectorKernel(0.0)
        passes = body_passes(nest, self.kind)
        cycles = vector_tile_cycles(elements, passes, self.kind, moved, instructions=kernel.instructions)
        return self.vector(cycles, DRAIN, np.arange(loops.iterations), slice(None), kernel)

    def vector(
        self,
        cycles: Int64,
        phase: int,
        iteration: Int64,
        positions: Int64 | slice,
        kernel: VectorKernel | None = None,
    ) -> Int64:
        """Vector tasks of the cores at `positions`, of so many cycles; those of a dealt kernel wait besides."""
        duration = ticks(cycles, self.kind.clock_hz)
        if kernel is not None:
            duration = np.maximum(duration + kernel.waiting_ps, kernel.floor_ps)
        queue = self.queue("vector")[positions][:, None]
        return self.batch.add(
            Kind.VECTOR, phase, duration.shape, iteration=iteration, queue=queue, hold=duration, dur=duration
        )

    def _drains(self) -> Int64:
        """Empty the accumulator after the last product of each result tile: add up parts of other cores if the
        sum was split, then apply bias and fused operators on the owner."""
        nest, loops = self.step.nest, self.loops
        last = loops.result_last
        start, stop = loops.results
        elements = (stop - start).prod(axis=-1)
        sums = elements * accumulator_bytes(nest.operands[0].tensor.dtype)
        out_bytes = elements * DTYPE_BITS[nest.out.tensor.dtype] // 8
        owners = self.owners
        lanes = lane_elements(nest.out, list(np.moveaxis(stop - start, -1, 0)), self.kind)
        passes = drain_passes(nest, self.kind)
        more = epilogue_instructions(self.kind) if self.step.tiling.deal is not None else 0.0
        cycles = vector_tile_cycles(
            lanes[owners], passes, self.kind, out_bytes[owners], sums[owners], instructions=more
        )
        final = self.vector(cycles, DRAIN, last, owners)
        empties = np.empty((len(loops.cores), len(last)), np.int64)
        empties[owners] = final
        if len(owners) < len(loops.cores):
            split = SplitSum(self, elements, sums)
            split.emit(empties, final)
            self.rounds = split.rounds
        self.batch.edge(empties, self.main[:, last])
        self._reuse_accumulator(empties)
        drain = empties.copy()
        drain[owners] = final
        return drain

    def _reuse_accumulator(self, empties: Int64) -> None:
        """The first product of a result tile waits until its half of the accumulator is empty (the whole of it
        when two tiles do not fit)."""
        loops, tiling = self.loops, self.step.tiling
        first = loops.result_last - (loops.sum_steps - 1)
        accumulator = self.kind.accumulator
        size = accumulator.size_bytes if accumulator is not None else 0
        halves = 2 if tiling.accumulator_bytes * 2 <= size and tiling.slots > 1 else 1
        self.halves = halves
        self.empties = np.repeat(empties[:, -1:], 2, axis=1) if halves == 1 else empties[:, -2:]
        starts = self.main[:, first]
        self.batch.edge(starts[:, halves:], empties[:, : starts.shape[1] - halves])
        self.starts = starts[:, :halves]

    # ---- operands -------------------------------------------------------------------------------------------

    def _consumers(self, operand: Operand) -> Int64:
        """Tasks [cores, iterations] that read an operand: the main computation, or the drain of its tile."""
        if operand.part != "epilogue" or self.step.tiling.unit == "vector":
            return self.main
        return np.repeat(self.drain, self.loops.sum_steps, axis=1)

    def _read_in_place(self, index: int, operand: Operand, positions: Int64, fills: Fills) -> None:
        boxes = self.loops.boxes(operand, positions, fills.first)
        tasks = self._consumers(operand)[positions][:, fills.first]
        self.reads.append(Read(index, tasks, *boxes, positions))

    def _load(self, index: int, operand: Operand, positions: Int64, fills: Fills) -> None:
        name = f"in{index}"
        leaders = fills.members[:, 0]
        start, stop = self.loops.boxes(operand, leaders, fills.first)
        extents = stop - start
        where = regions(operand, start, stop) if index in self.policies else None
        nbytes = self._transferred(operand, extents, fills) if where is None else where.size_bytes
        weight, opened = dram_costs(self.chip, self.step.nest, operand, extents, nbytes)
        self.row_activations += opened
        queue, transfers = self._load_paths(index, fills, weight)
        path, latency = transfers.at(self._missing(index, "fill"))
        tasks = self.batch.add(
            Kind.LOAD,
            LOAD,
            nbytes.shape,
            iteration=fills.first,
            queue=queue,
            hold=1,
            dur=latency,
            nbytes=nbytes,
            path=path,
        )
        if where is not None:
            self._look_up(index, tasks, where, transfers)
        self.loads[index] = (tasks, fills)
        consumers = self._consumers(operand)
        slots = self.slots[name]
        every = consumers[fills.members]  # [groups, sharers, iterations]
        self.batch.edge(every[..., fills.first], tasks[:, None])
        if tasks.shape[1] > slots:
            self.batch.edge(tasks[:, None, slots:], every[..., fills.last_use[: tasks.shape[1] - slots]])
        self.claim(name, positions, tasks[:, :slots, None], fills.members[:, None, :])
        for number in load_reads(self.step.nest, index):
            boxes = start, stop
            if number != index:
                boxes = self.loops.boxes(self.step.nest.operands[number], leaders, fills.first)
            self.reads.append(Read(number, tasks, *boxes))
        self.users[name] = np.where(
            self._among(positions)[:, None],
            consumers[:, -1:],
            self.main[:, -1:],
        )

    def _among(self, positions: Int64) -> npt.NDArray[np.bool_]:
        """Of every core: is its position one of these?"""
        found = np.zeros(len(self.loops.cores), np.bool_)
        found[positions] = True
        return found

    def _load_paths(self, index: int, fills: Fills, weight: Int64) -> tuple[Int64, Transfers]:
        """Queue of every load [groups, fills], whose bytes weigh so much in the DRAM, and the loads themselves; they
        take the DMA channels in turn, tiles that several cores need come as multicasts from a memory port."""
        channel = (np.arange(weight.shape[1]) + index) % self.kind.dma.channels
        groups = list(map(tuple, self.loops.cores[fills.members].tolist()))
        if fills.members.shape[1] > 1:
            ports = [self.fabric.queue("port", self.fabric.multicast_port(cores)) for cores in groups]
            queue = np.array(ports, np.int64)[:, None]
            return queue, self._transfers("multicast", groups, channel, weight)
        alone = [core for core, in groups]
        return self._queues("load", alone, channel), self._transfers("load", alone, channel, weight)

    def _missing(self, operand: int, through: Level) -> Level:
        """Where the bytes of a transfer go that the cache does not have: `through` it, if they are let in."""
        return "dram" if self.policies.get(operand, Policy.BYPASS) == Policy.BYPASS else through

    def _look_up(self, operand: int, tasks: Int64, where: Regions, transfers: Transfers) -> None:
        """Note that transfers look into the cache, and the ways of what is there and of lines that come and go."""
        hit_path, hit_dur = transfers.at("cache")
        rest = {heavy: self.ask("write_back", heavy)[0] for heavy in sorted(set(transfers.weights))}
        rest_path = np.array([rest[heavy] for heavy in transfers.weights], np.int64)[transfers.which]
        self.lookups.append(
            Lookups(operand, self.policies[operand], tasks, where, hit_path, hit_dur, rest_path)
        )

    def _queues(self, unit: str, cores: Sequence[int], channel: Int64) -> Int64:
        """DMA queues [cores, tasks] for these channels [tasks]."""
        turns = range(self.kind.dma.channels)
        return np.array([[self.fabric.queue(unit, core, turn) for turn in turns] for core in cores])[
            :, channel
        ]

    def _transfers(self, way: str, ends: Sequence[object], channel: Int64, weight: Int64) -> Transfers:
        """Transfers [ends, tasks] on these channels [tasks] with these DRAM weights [ends, tasks]."""
        from sim.cost.moves import number_transfers

        which, asked = np.empty(weight.shape, np.int64), np.empty((weight.size, 3), np.int64)
        count = number_transfers(weight, channel, which, asked)
        return Transfers(self.ask, way, [(ends[row], *rest) for row, *rest in asked[:count].tolist()], which)

    # ---- results --------------------------------------------------------------------------------------------

    def _results(self) -> None:
        step = self.step
        drains = self.drain[self.owners]
        if step.keep:
            self.claim("kept", self.owners, drains[:, 0], self.owners)
        else:
            # The sums of a row-stationary array grow where the result will lie.
            first = drains if step.tiling.rows is None else self.main[self.owners][:, :1]
            self.claim("out", self.owners, first[:, : self.slots["out"]], self.owners[:, None])
            self.users["out"] = self.drain[:, -1:]
        if step.store:
            self._store(drains)

    def _store(self, drains: Int64) -> None:
        loops, nest = self.loops, self.step.nest
        start, stop = (boxes[self.owners] for boxes in loops.results)
        extents = stop - start
        where = regions(nest.out, start, stop) if RESULT in self.policies else None
        nbytes = self._transferred(nest.out, extents) if where is None else where.size_bytes
        weight, opened = dram_costs(self.chip, nest, nest.out, extents, nbytes, store=True)
        self.row_activations += opened
        channel = np.arange(weight.shape[1]) % self.kind.dma.channels
        cores = loops.cores[self.owners].tolist()
        transfers = self._transfers("store", cores, channel, weight)
        # What is written goes into the cache, whether its line was there or not.
        path, latency = transfers.at(self._missing(RESULT, "cache"))
        stores = self.batch.add(
            Kind.STORE,
            STORE,
            nbytes.shape,
            iteration=loops.result_last,
            queue=self._queues("store", cores, channel),
            hold=1,
            dur=latency,
            nbytes=nbytes,
            path=path,
        )
        if where is not None:
            self._look_up(RESULT, stores, where, transfers)
        self.batch.edge(stores, drains)
        if not self.step.keep:
            slots = self.slots["out"]
            self.batch.edge(drains[:, slots:], stores[:, : stores.shape[1] - slots])
            if self.step.tiling.rows is not None:
                starts = self.main[self.owners][:, loops.result_last - (loops.sum_steps - 1)]
                self.batch.edge(starts[:, 1:], stores[:, :-1])
            last = np.full((len(loops.cores), min(slots, stores.shape[1])), -1, np.int64)
            last[:] = self.drain[:, -1:]
            last[self.owners] = stores[:, -slots:]
            self.users["out"] = last
        self.first_stores = stores[:, : self.kind.dma.channels]
        self.stores = stores

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
