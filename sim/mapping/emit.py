"""One mapped loop nest as a batch of tasks, built as arrays over (core, iteration).

What orders them: a tile is computed when its loads have finished; a buffer slot is filled again when the last
compute that used it has finished; a sum is started when the accumulator half it needs has been emptied; a result
slot is written again when its store has finished. Edges to earlier steps come from the `Surroundings`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sim.cost.estimate import body_passes, operand_bits
from sim.cost.work import accumulator_bytes, array_cycles, vector_tile_cycles
from sim.graph.nest import Nest, Operand
from sim.graph.tensor import DTYPE_BITS
from sim.hw.chip import Chip
from sim.hw.core import CoreKind
from sim.hw.dram import pattern_efficiency, row_activations
from sim.mapping.buffers import buffers
from sim.mapping.fabric import Fabric, Path
from sim.mapping.loops import Fills, Loops
from sim.mapping.split_sum import Round, SplitSum
from sim.mapping.step import Step
from sim.mapping.table import Batch
from sim.program import PAYLOAD_WEIGHT, Kind, ticks

Int64 = npt.NDArray[np.int64]

LOAD, COMPUTE, DRAIN, STORE = 0, 1, 60, 61
"""Order of the phases of an iteration; the rounds of a split sum lie between COMPUTE and DRAIN."""


class Surroundings(Protocol):
    """What a step needs to know of the steps before it. Task ids are final; [cores of the chip, any], -1 none."""

    def claim(self, step: Step, buffer: str, cores: Int64) -> Int64:
        """Tasks [these cores, any] that must finish before the cores write to the buffer. Cores that do not use
        it leave what they had there to the next claim."""
        ...

    def emptied(self) -> Int64:
        """The last two tasks [cores, 2] that emptied each core's accumulator."""
        ...

    def after_stores(self, batch: Batch, operand: Operand, tasks: Int64, start: Int64, stop: Int64) -> None:
        """Make loads of these boxes wait for what wrote them to DRAM."""
        ...

    def after_vectors(
        self, batch: Batch, operand: Operand, cores: Int64, tasks: Int64, start: Int64, stop: Int64
    ) -> None:
        """Make computation on these boxes wait for what wrote them in the same core's scratchpad."""
        ...

    def before_dram_write(self, batch: Batch, step: Step, first_stores: Int64) -> None:
        """Make the first stores wait for the last readers of the DRAM they overwrite."""
        ...


@dataclass
class Emitter:
    """Emits the tasks of one step. After `run`, as local ids and over positions in `step.cores`, not chip cores:

    `main` [cores, iterations] and `drain` [cores, result tiles], the computing tasks; `stores` [owners, result
    tiles] or None; `empties` [cores, 1 or 2], the last that emptied the accumulator (used as `halves` parts in
    turn); `users`, the last tasks [cores, any] that touch each buffer; `loads`, the tasks [groups, fills] of every
    operand not read in place; `rounds`, those of a split sum; `row_activations`, the DRAM rows that they all open.
    """

    chip: Chip
    fabric: Fabric
    around: Surroundings
    step: Step
    kind: CoreKind
    loops: Loops
    batch: Batch = field(default_factory=Batch)
    users: dict[str, Int64] = field(default_factory=dict)
    stores: Int64 | None = None
    empties: Int64 | None = None
    halves: int = 0
    loads: dict[int, tuple[Int64, Fills]] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)
    row_activations: float = 0.0

    def run(self) -> None:
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
                self._read_in_place(operand, positions, fills)
            else:
                self._load(index, operand, positions, fills)
        self._results()

    # ---- compute --------------------------------------------------------------------------------------------

    def queue(self, unit: str, channel: int = 0) -> Int64:
        """Queue of every core of the step."""
        return np.array([self.fabric.queue(unit, int(core), channel) for core in self.loops.cores], np.int64)

    def _matrix_products(self) -> Int64:
        nest, loops = self.step.nest, self.loops
        dtype = nest.operands[0].tensor.dtype
        hold, dur = array_cycles(loops.issued, self.kind, dtype, self.step.tiling.dataflow, operand_bits(nest))
        held = ticks(hold, self.kind.clock_hz)
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
        elements = (stop - start).prod(axis=-1)
        tile = [high - low for low, high in zip(loops.low, loops.high, strict=True)]
        moved = nest.out.tile_bytes(tile) + sum(o.tile_bytes(tile) for o in nest.operands)
        cycles = vector_tile_cycles(elements, body_passes(nest), self.kind, moved)
        return self.vector(cycles, DRAIN, np.arange(loops.iterations), slice(None))

    def vector(self, cycles: Int64, phase: int, iteration: Int64, positions: Int64 | slice) -> Int64:
        """Vector tasks of the cores at `positions`."""
        duration = ticks(cycles, self.kind.clock_hz)
        queue = self.queue("vector")[positions][:, None]
        return self.batch.add(
            Kind.VECTOR, phase, duration.shape, iteration=iteration, queue=queue, hold=duration, dur=duration
        )

    def _drains(self) -> Int64:
        """Empty the accumulator after the last product of each result tile: add up parts of other cores if the
        sum was split, then apply bias and fused operators on the owner."""
        nest, loops = self.step.nest, self.loops
        last = loops.result_last
        start, stop = loops.boxes(nest.out, slice(None), last)
        elements = (stop - start).prod(axis=-1)
        sums = elements * accumulator_bytes(nest.operands[0].tensor.dtype)
        out_bytes = elements * DTYPE_BITS[nest.out.tensor.dtype] // 8
        owners = self.owners
        cycles = vector_tile_cycles(elements[owners], nest.drain, self.kind, out_bytes[owners], sums[owners])
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
        halves = 2 if tiling.accumulator_bytes * 2 <= size else 1
        self.halves = halves
        self.empties = np.repeat(empties[:, -1:], 2, axis=1) if halves == 1 else empties[:, -2:]
        before = self.around.emptied()[loops.cores]
        starts = self.main[:, first]
        self.batch.edge(starts[:, halves:], empties[:, : starts.shape[1] - halves])
        for tile in range(min(halves, starts.shape[1])):
            self.batch.after(
                starts[:, tile : tile + 1], before[:, tile : tile + 1] if halves == 2 else before
            )

    # ---- operands -------------------------------------------------------------------------------------------

    def _consumers(self, operand: Operand) -> Int64:
        """Tasks [cores, iterations] that read an operand: the main computation, or the drain of its tile."""
        if operand.part != "epilogue" or self.step.tiling.unit == "vector":
            return self.main
        return np.repeat(self.drain, self.loops.sum_steps, axis=1)

    def _read_in_place(self, operand: Operand, positions: Int64, fills: Fills) -> None:
        start, stop = self.loops.boxes(operand, positions, fills.first)
        tasks = self._consumers(operand)[positions][:, fills.first]
        self.around.after_vectors(self.batch, operand, self.loops.cores[positions], tasks, start, stop)

    def _load(self, index: int, operand: Operand, positions: Int64, fills: Fills) -> None:
        name = f"in{index}"
        leaders = fills.members[:, 0]
        start, stop = self.loops.boxes(operand, leaders, fills.first)
        nbytes = np.maximum(1, -(-(stop - start).prod(axis=-1) * DTYPE_BITS[operand.tensor.dtype] // 8))
        queue, route, latency = self._load_paths(index, operand, fills, stop - start)
        self._open_rows(operand, stop - start, nbytes)
        tasks = self.batch.add(
            Kind.LOAD,
            LOAD,
            nbytes.shape,
            iteration=fills.first,
            queue=queue,
            hold=1,
            dur=latency,
            nbytes=nbytes,
            route=route,
        )
        self.loads[index] = (tasks, fills)
        consumers = self._consumers(operand)
        slots = self.slots[name]
        mine = self.around.claim(self.step, name, self.loops.cores[positions])
        claims = np.full((len(self.loops.cores), mine.shape[1]), -1, np.int64)
        claims[positions] = mine
        for sharer in range(fills.members.shape[1]):
            members = fills.members[:, sharer]
            self.batch.edge(consumers[members][:, fills.first], tasks)
            if tasks.shape[1] > slots:
                done = consumers[members][:, fills.last_use[: tasks.shape[1] - slots]]
                self.batch.edge(tasks[:, slots:], done)
            for slot in range(min(slots, tasks.shape[1])):
                self.batch.after(tasks[:, slot : slot + 1], claims[members])
        for number in load_reads(self.step.nest, index):
            read = self.step.nest.operands[number]
            boxes = self.loops.boxes(read, leaders, fills.first)
            self.around.after_stores(self.batch, read, tasks, *boxes)
        self.users[name] = np.where(
            np.isin(np.arange(len(self.loops.cores)), positions)[:, None],
            consumers[:, -1:],
            self.main[:, -1:],
        )

    def _load_paths(
        self, index: int, operand: Operand, fills: Fills, extents: Int64
    ) -> tuple[Int64, Int64, Int64]:
        """(queue, route, latency) of every load [groups, fills]; loads take the DMA channels in turn, tiles that
        several cores need come as multicasts from a memory port."""
        weight = dram_weight(self.chip, operand, extents)
        channels = self.kind.dma.channels
        channel = np.broadcast_to((np.arange(weight.shape[1]) + index) % channels, weight.shape)
        queue, route, latency = (np.empty(weight.shape, np.int64) for _ in range(3))
        shared = fills.members.shape[1] > 1
        for group, members in enumerate(fills.members):
            cores = tuple(int(core) for core in self.loops.cores[members])
            for turn, heavy in {(int(c), int(w)) for c, w in zip(channel[group], weight[group], strict=True)}:
                where = (channel[group] == turn) & (weight[group] == heavy)
                path: Path
                if shared:
                    path = self.fabric.multicast(cores, turn, heavy)
                    queue[group, where] = self.fabric.queue("port", self.fabric.multicast_port(cores))
                else:
                    path = self.fabric.load(cores[0], turn, heavy)
                    queue[group, where] = self.fabric.queue("load", cores[0], turn)
                route[group, where], latency[group, where] = path.row, path.latency_ps
        return queue, route, latency

    # ---- results --------------------------------------------------------------------------------------------

    def _results(self) -> None:
        loops, step = self.loops, self.step
        cores = loops.cores[self.owners]
        drains = self.drain[self.owners]
        if step.keep:
            self.batch.after(drains[:, :1], self.around.claim(step, "kept", cores))
        else:
            slots = self.slots["out"]
            claims = self.around.claim(step, "out", cores)
            for slot in range(min(slots, drains.shape[1])):
                self.batch.after(drains[:, slot : slot + 1], claims)
            self.users["out"] = self.drain[:, -1:]
        if step.store:
            self._store(drains)

    def _store(self, drains: Int64) -> None:
        loops, nest = self.loops, self.step.nest
        start, stop = loops.boxes(nest.out, self.owners, loops.result_last)
        weight = dram_weight(self.chip, nest.out, stop - start)
        nbytes = np.maximum(1, -(-(stop - start).prod(axis=-1) * DTYPE_BITS[nest.out.tensor.dtype] // 8))
        self._open_rows(nest.out, stop - start, nbytes)
        channels = self.kind.dma.channels
        channel = np.arange(weight.shape[1]) % channels
        queue, route, latency = (np.empty(weight.shape, np.int64) for _ in range(3))
        for row, core in enumerate(loops.cores[self.owners].tolist()):
            for turn, heavy in {(int(c), int(w)) for c, w in zip(channel, weight[row], strict=True)}:
                where = (channel == turn) & (weight[row] == heavy)
                path = self.fabric.store(core, turn, heavy)
                queue[row, where] = self.fabric.queue("store", core, turn)
                route[row, where], latency[row, where] = path.row, path.latency_ps
        stores = self.batch.add(
            Kind.STORE,
            STORE,
            nbytes.shape,
            iteration=loops.result_last,
            queue=queue,
            hold=1,
            dur=latency,
            nbytes=nbytes,
            route=route,
        )
        self.batch.edge(stores, drains)
        if not self.step.keep:
            slots = self.slots["out"]
            self.batch.edge(drains[:, slots:], stores[:, : stores.shape[1] - slots])
            last = np.full((len(loops.cores), min(slots, stores.shape[1])), -1, np.int64)
            last[:] = self.drain[:, -1:]
            last[self.owners] = stores[:, -slots:]
            self.users["out"] = last
        self.around.before_dram_write(self.batch, self.step, stores[:, :channels])
        self.stores = stores

    def _open_rows(self, operand: Operand, extents: Int64, nbytes: Int64) -> None:
        """Count the DRAM rows that boxes with these extents open."""
        self.row_activations += float(
            row_activations(self.chip.dram, operand.run_bytes(extents), nbytes).sum()
        )


def load_reads(nest: Nest, index: int) -> tuple[int, ...]:
    """Operands that a load of operand `index` reads from DRAM: itself, and the indices that say where its rows lie."""
    return tuple(range(len(nest.inputs))) if nest.operands[index].gathered else (index,)


def dram_weight(chip: Chip, operand: Operand, extents: Int64) -> Int64:
    """Route weight of the DRAM for boxes with these extents: 256 / efficiency of their runs, in steps of an eighth
    of an octave so that few distinct routes arise."""
    efficiency = pattern_efficiency(chip.dram, operand.run_bytes(extents))
    steps = np.round(-np.log2(efficiency) * 8)
    return np.maximum(PAYLOAD_WEIGHT, np.round(PAYLOAD_WEIGHT * 2.0 ** (steps / 8))).astype(np.int64)
