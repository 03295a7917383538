"""One mapped loop nest as a template: the tasks of its skeleton, how long they take and what they move whereto."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sim.cost.banks import weighted_read_bytes
from sim.cost.coding import codable, coded_bytes
from sim.cost.compiled import tables_of
from sim.cost.element_passes import body_passes
from sim.cost.estimate import lane_elements
from sim.cost.online import OnlineProducts
from sim.cost.products import Products, drain_ticks, tile_products
from sim.cost.row_stationary import row_cycles
from sim.cost.work import accumulator_bytes, epilogue_instructions, vector_tile_cycles
from sim.hw.chip import Chip
from sim.hw.core import CoreKind
from sim.mapping.describe import step_work
from sim.mapping.fabric import Fabric
from sim.mapping.loops import Loops
from sim.mapping.moving import Group, Moving, moving_of
from sim.mapping.online import emit_online
from sim.mapping.regions import Regions
from sim.mapping.row_tiles import row_tiles
from sim.mapping.search import VectorKernel
from sim.mapping.skeleton import Skeleton, skeleton_of
from sim.mapping.split_sum import emit_rounds
from sim.mapping.step import Step
from sim.mapping.template import Lookups, Read, Template
from sim.mapping.weights import dram_law
from sim.program import RESULT, Policy, ticks

Int64 = npt.NDArray[np.int64]
HOLD, DUR, NBYTES, PATH = range(4)
"""Columns of the tasks under construction."""


@dataclass
class Emitter:
    """Emits the tasks of one step, whose loops these are, under the names of `Template`.

    `policies` says how the transfers of operands (RESULT: of the result) treat the cache; those of others need not look
    into it. `columns` [4, tasks] are in the order in which the skeleton added its tasks; `start` and `stop` those of
    all boxes, flat. `routes` are numbers of the routes of sends (sim/mapping/ways.py), `row_activations` the DRAM rows
    that all transfers open; `more_*_bytes` what scratchpads read and write beyond what moves, for it moves coded.
    """

    chip: Chip
    fabric: Fabric
    step: Step
    kind: CoreKind
    loops: Loops
    policies: Mapping[int, Policy] = field(default_factory=dict)
    routes: list[int] = field(default_factory=list)
    products: Products | OnlineProducts | None = None
    row_activations: float = 0.0
    more_read_bytes: int = 0
    more_written_bytes: int = 0
    skeleton: Skeleton = field(init=False)
    moving: Moving = field(init=False)
    columns: Int64 = field(init=False)
    start: Int64 = field(init=False)
    stop: Int64 = field(init=False)

    def run(self) -> Template:
        ways = self.fabric.ways
        self.skeleton = skeleton_of(self.step, self.kind, self.fabric, self.loops)
        self.moving = moving_of(self.step, self.skeleton, self.loops, self.chip, ways, self.policies)
        self.owners = self.skeleton.owners
        self.columns = np.empty((4, len(self.skeleton.order)), np.int64)
        nbytes, where = self._boxes()
        if self.skeleton.online is not None:
            self.products = found = emit_online(self)
            results = found.results
        elif self.step.tiling.unit == "array":
            self._matrix_products()
            results = self._drains()
        else:
            results = self._vector_passes()
        paths, lookups = self._moves(nbytes, where)
        return self._template(paths, lookups, results)

    def _template(self, paths: Int64, lookups: tuple[Lookups, ...], results: int) -> Template:
        """Everything emitted, in program order; `results` are the elements that the step makes."""
        frame, moving = self.skeleton, self.moving
        hold, dur, nbytes, path = self.columns[:, frame.order]
        return Template(
            loops=self.loops,
            owners=frame.owners,
            columns=(frame.kind, frame.queue, hold, dur, nbytes),
            path=path,
            paths=paths,
            edges=frame.edges,
            main=frame.main,
            drain=frame.drain,
            stores=frame.stores,
            first_stores=frame.first_stores,
            starts=frame.starts,
            empties=frame.empties,
            halves=frame.halves,
            ports=frame.ports,
            reads=tuple(
                Read(operand, fetch.tasks, *self.boxes(group), fetch.positions if fetch.resident else None)
                for operand, group, fetch in moving.reads
            ),
            loads={fetch.operand: (fetch.tasks, fetch.fills) for fetch in frame.fetches if not fetch.resident},
            rounds=frame.rounds,
            results=self.boxes(moving.groups[-1]),
            work=step_work(self.step, self.loops, self.kind, self.products, results, self._more_counts()),
            lookups=lookups,
            online=frame.online,
        )

    def _more_counts(self) -> dict[str, float]:
        """What only the tasks tell."""
        return {
            "dram_row_activations": self.row_activations,
            "sram_read_bytes": float(self.more_read_bytes),
            "sram_write_bytes": float(self.more_written_bytes),
        }

    def send(self, source: int, destination: int, channel: int) -> tuple[int, int]:
        """(row among the step's paths, latency in ticks) of a transfer between two cores."""
        ways = self.fabric.ways
        way = ways.number("send", source, destination, channel)
        self.routes.append(ways.route[way])
        return len(self.routes) - 1, ways.latency_ps[way]

    def set(
        self, name: str, hold: Int64 | int, dur: Int64 | int, nbytes: Int64 | int = 0, path: Int64 | int = -1
    ) -> None:
        """The columns of the tasks that the skeleton added under a name; each broadcasts to their shape."""
        first, shape = self.skeleton.groups[name]
        columns = self.columns[:, first : first + math.prod(shape)].reshape(4, *shape)
        columns[HOLD], columns[DUR], columns[NBYTES], columns[PATH] = hold, dur, nbytes, path

    def boxes(self, group: Group) -> tuple[Int64, Int64]:
        """Start and stop [ends, tasks, rank] of a group's boxes."""
        return self.start[group.boxes].reshape(group.shape), self.stop[group.boxes].reshape(group.shape)

    # ---- compute --------------------------------------------------------------------------------------------

    def _matrix_products(self) -> None:
        nest, tiling = self.step.nest, self.step.tiling
        if tiling.rows is not None:
            held = ticks(row_cycles(tiling.rows.mapping, row_tiles(nest, self.loops), self.kind), self.kind.clock_hz)
            self.set("main", held, held)
            return
        deal = tiling.deal
        sides, slowed = ((0, 0), 1.0) if deal is None else ((deal.rows, deal.columns), deal.slowed)
        self.products = tile_products(
            nest, self.loops.ranges, self.kind, tiling.dataflow, sides=sides, slowed=slowed
        )
        self.set("main", self.products.hold, self.products.dur)

    def _vector_passes(self) -> int:
        """Returns the elements of all results."""
        nest, loops = self.step.nest, self.loops
        start, stop = loops.boxes(nest.out, slice(None), np.arange(loops.iterations))
        elements = self._lane_elements(stop - start)
        moved = nest.out.tile_bytes(loops.tile) + weighted_read_bytes(nest, self.kind, loops.tile)
        dealt = self.step.tiling.deal.vector if self.step.tiling.deal is not None else None
        kernel = dealt if dealt is not None else VectorKernel(0.0)
        passes = body_passes(nest, self.kind)
        cycles = vector_tile_cycles(elements, passes, self.kind, moved, instructions=kernel.instructions)
        self.vector("main", cycles, kernel)
        start, stop = self.boxes(self.moving.groups[-1])
        return int((stop - start).prod(axis=-1).sum())

    def vector(self, name: str, cycles: Int64, kernel: VectorKernel | None = None) -> None:
        """Vector tasks of so many cycles; those of a dealt kernel wait besides."""
        duration = ticks(cycles, self.kind.clock_hz)
        if kernel is not None:
            duration = np.maximum(duration + kernel.waiting_ps, kernel.floor_ps)
        self.set(name, duration, duration)

    def _drains(self) -> int:
        """What empties the accumulators: the parts of split sums, then bias and fused operators on the owner. Returns
        the elements of all results."""
        nest, group = self.step.nest, self.moving.groups[-1]
        start, stop = self.start[group.boxes], self.stop[group.boxes]
        lanes = None
        if self.kind.vector.register_shape:
            lanes = self._lane_elements((stop - start).reshape(group.shape)).reshape(-1)
        more = epilogue_instructions(self.kind) if self.step.tiling.deal is not None else 0.0
        parted = bool(self.skeleton.rounds) and self.step.tiling.deal is None
        found, results = drain_ticks(
            nest, (start, stop), group.shape, self.kind, lanes=lanes, instructions=more, parted=parted
        )
        self.set("drain", found, found)
        if self.skeleton.rounds:
            start, stop = self.loops.results
            elements = (stop - start).prod(axis=-1)
            emit_rounds(self, elements, elements * accumulator_bytes(nest.operands[0].tensor.dtype))
        return results

    def _lane_elements(self, extents: Int64) -> Int64:
        """Elements that the lanes handle for boxes of the result with these extents [..., rank]."""
        axes = [extents[..., axis] for axis in range(extents.shape[-1])]
        return lane_elements(self.step.nest.out, axes, self.kind)

    # ---- operands and results -------------------------------------------------------------------------------

    def _boxes(self) -> tuple[Int64, Regions]:
        """Find all boxes in `start` and `stop`; the bytes of each that moves, and where it lies if that is asked for:
        all flat, group by group."""
        from sim.cost.moves import fill_boxes

        moving, last = self.moving, self.moving.groups[-1]
        self.start, self.stop = np.empty((2, last.boxes.stop), np.int64)
        nbytes, offset, run = np.empty((3, last.places.stop), np.int64)
        count, pitch = np.empty((2, last.levels.stop), np.int64)
        fill_boxes(
            tables_of(self.step.nest), *self.loops.ranges, moving.table, moving.ends, moving.tasks, moving.packed,
            self.start, self.stop, nbytes, offset, run, count, pitch,
        )  # fmt: skip
        if self.kind.dma.run_length_coding:
            for group in moving.groups:
                self._code(group, nbytes)
        return nbytes, Regions(offset, run, count, pitch)

    def _moves(self, nbytes: Int64, where: Regions) -> tuple[Int64, tuple[Lookups, ...]]:
        """Loads and stores: (numbers of the routes of all paths, what looks into the cache)."""
        from sim.cost.moves import fill_moves

        moving, ways = self.moving, self.fabric.ways
        tasks, sends = moving.groups[-1].places.stop, len(self.routes)
        opened, looked, found = np.empty(tasks), np.empty((3, tasks), np.int64), np.empty(sends + 3 * tasks, np.int64)
        found[:sends] = self.routes
        rest = ways.number("write_back") if self.policies else -1
        paths = fill_moves(
            tables_of(self.step.nest), *dram_law(self.chip), moving.table, self.start, self.stop, nbytes,
            self.kind.dma.channels, moving.ways, *ways.columns, rest, self.columns, opened, found, sends, looked,
        )  # fmt: skip
        lookups = []
        for group in moving.groups:
            if group.name:
                self.row_activations += float(np.add.reduce(opened[group.places]))
            if group.looks:
                lookups.append(self._look_up(group, where, looked))
        return found[:paths], tuple(lookups)

    def _look_up(self, group: Group, where: Regions, looked: Int64) -> Lookups:
        """The transfers of a group that look into the cache, with the ways of what is there and of lines that come and
        go."""
        first, shape = self.skeleton.groups[group.name]
        tasks = self.skeleton.place[first : first + math.prod(shape)]
        many = len(tasks)
        levels = (part[group.levels].reshape(many, -1) for part in (where.count, where.pitch_bytes))
        region = Regions(where.offset_bytes[group.places], where.run_bytes[group.places], *levels)
        return Lookups(group.operand, self.policies[group.operand], tasks, region, *looked[:, group.places])

    def _code(self, group: Group, nbytes: Int64) -> None:
        """The bytes of a group's boxes on their way, where they move coded. What the scratchpads take or give beyond
        them is counted by itself."""
        nest, stored = self.step.nest, group.operand == RESULT
        operand = nest.out if stored else nest.operands[group.operand]
        if not group.name or group.looks or not codable(operand):
            return
        start, stop = self.boxes(group)
        moved = coded_bytes(operand, stop - start).reshape(-1)
        saved = int((nbytes[group.places] - moved).sum())
        nbytes[group.places] = moved
        if stored:
            self.more_read_bytes += saved
        else:
            fetch = next(fetch for fetch in self.skeleton.fetches if fetch.operand == group.operand)
            self.more_written_bytes += saved * fetch.fills.members.shape[1]
