"""Decide how every operator is mapped: cores, tiling, and which results stay in the scratchpads.

Operators are planned in order. A result stays where it was computed if every core of its reader needs only what
that same core holds (same partition, no halo) and the bytes fit beside the buffers of all operators in between;
otherwise it goes through DRAM.
"""

from __future__ import annotations

import math
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from sim.cost.estimate import Site
from sim.cost.kernel import PREFERRED_SHARE
from sim.errors import DoesNotFit
from sim.graph.graph import Graph
from sim.graph.nest import Nest
from sim.graph.op import Op
from sim.hw.chip import Chip
from sim.hw.core import CoreKind
from sim.mapping.allocate import Layout
from sim.mapping.beside_host import at_hand, bring_inputs, half_at_hand, keep_for_host
from sim.mapping.caching import Blocks, blocks_of, plan_caching, taking_turns
from sim.mapping.cut_levels import least_cut_s, parts_are_disjoint
from sim.mapping.deal import deal_search, waves
from sim.mapping.deal_vector import deal_vector, deals_vector, left_in_cache, share_left
from sim.mapping.exchange import check_links, with_exchange
from sim.mapping.fabric import Fabric
from sim.mapping.grid import granules
from sim.mapping.layout import dram_layout, scratchpad_layouts
from sim.mapping.least_time import least_from
from sim.mapping.memo import Recent
from sim.mapping.partition import Assignment
from sim.mapping.placement import placed
from sim.mapping.residency import KEPT_SHARE, Kept, Residency, add_in_place, result_boxes
from sim.mapping.row_tiles import row_search
from sim.mapping.search import Limits, Tiling, cut_quanta, estimate_of, search
from sim.mapping.segments import Segments, one_segment
from sim.mapping.sites import check_attention, check_dtypes, site_of, usable_units, working_bytes
from sim.mapping.splits import Local, Splits, shape_of, splits_of
from sim.mapping.staying import with_staying
from sim.mapping.step import KeptResult, Plan, Step, closed_form_s, step_seconds

SearchMemo = MutableMapping[object, tuple[Tiling, tuple[bool, ...]]]
"""Searches done so far, by everything they depend on: the tiling and which operands are read in place."""

KEPT_SECONDS: Recent[object, float] = Recent(1 << 13)
"""Estimates of steps whose results stay in the scratchpads, by everything they depend on."""

PLACEMENT_ATTEMPTS = 64
"""Plans tried, each with fewer results kept, when fragmentation leaves no hole for a buffer that would fit by size."""


ROUNDING = 1e-9  # more than it takes from the sum of a million times, each 2^-53 of it at most


class Slower(Exception):
    """A plan is not worth finishing: it is slower than the limit."""


def make_plan(
    graph: Graph,
    chip: Chip,
    fabric: Fabric,
    assignment: Assignment,
    *,
    dataflow: str | None = None,
    segments: Segments | None = None,
    inputs: int = 1,
    memo: SearchMemo | None = None,
    limit_s: float = math.inf,
) -> Plan:
    """Map every operator that is not a repeat. `segments` are parts between barriers (results are not kept
    across); default: one. `memo` carries tile searches over from earlier runs.

    Raises DoesNotFit (a tile, a tensor or the weights), InputError (a dtype the chip cannot compute), Slower (the
    closed form of the whole is above `limit_s`, and that was clear before the end).
    """
    segments = segments or one_segment(graph)
    check_dtypes(graph, chip)
    check_links(graph, chip)
    check_attention(graph, chip)
    memo = {} if memo is None else memo
    planner = partial(_Planner, graph, chip, fabric, assignment, dataflow, segments, memo, limit_s=limit_s)
    plan, crowded = _with_room(planner, inputs, largest=True)
    if crowded:
        with suppress(Slower, DoesNotFit):
            other, _ = _with_room(planner, inputs, largest=False)
            plan = min(plan, other, key=lambda one: closed_form_s(one.steps, segments))
    return plan


def _with_room(planner_of: Callable[..., _Planner], inputs: int, *, largest: bool) -> tuple[Plan, bool]:
    """A plan whose results that stay and buffers find room, and whether too many results had to stay at first. Of those
    that are in the way of a buffer for which the holes are too small, the largest or the smallest is sent through
    DRAM."""
    banned: frozenset[str] = frozenset()
    crowded = False
    for _ in range(PLACEMENT_ATTEMPTS):
        planner = planner_of(banned=banned)
        planner.run()
        given = {planner.root(name) for name in planner.graph.outputs}
        if mixed := half_at_hand(planner.graph, planner.residency, planner.from_dram | given):
            banned |= mixed
            continue
        steps = planner.decided()
        layouts, crowding = scratchpad_layouts(planner.chip, steps, planner.residency, largest=largest)
        if crowding is None:
            return _laid_out(planner, steps, layouts, inputs), crowded
        if not crowding:
            break
        banned |= {*crowding}
        crowded = True
    raise DoesNotFit(
        "one operator with its buffers",
        planner.streaming_peak,
        min(kind.sram.size_bytes for kind in planner.chip.cores),
        "the scratchpad of a core, beside the results kept there",
        ("a larger sram.size", "another --partition", "a smaller model input"),
    )


def _laid_out(planner: _Planner, steps: tuple[Step, ...], layouts: Sequence[Layout], inputs: int) -> Plan:
    """The plan of steps whose results that stay have found room: with the operands that stay as well where there is
    room for them, and a place in DRAM for everything else."""
    graph, chip, segments, residency = planner.graph, planner.chip, planner.segments, planner.residency
    roomier = with_staying(chip, planner.fabric, steps, residency)
    if roomier != steps:
        laid, crowded = scratchpad_layouts(chip, roomier, residency, largest=True)
        steps, layouts = (roomier, laid) if crowded is None else (steps, layouts)
    kept = {
        root: KeptResult(result.kind, result.made, result.until)
        for root, result in residency.results.items()
        if result.until >= 0
    }
    blocks, starts = blocks_of(graph, segments, planner.roots) if chip.cache else (Blocks(), frozenset())
    dram, last_read = dram_layout(
        graph,
        chip,
        steps,
        planner.roots,
        inputs=inputs,
        stage_of={op: number for number, stage in enumerate(planner.assignment.stages) for op in stage.ops},
        together=taking_turns(blocks, segments, steps, planner.roots),
        block_starts=starts,
    )
    caching = plan_caching(graph, chip, steps, planner.roots, dram, blocks)
    return Plan(
        graph, steps, planner.roots, kept, tuple(layouts), dram, last_read, segments, caching, planner.to_host
    )


@dataclass
class _Planner:
    graph: Graph
    chip: Chip
    fabric: Fabric
    assignment: Assignment
    dataflow: str | None
    segments: Segments
    memo: SearchMemo
    limit_s: float
    banned: frozenset[str]

    def __post_init__(self) -> None:
        self.residency = Residency(tuple(kind.sram.size_bytes for kind in self.chip.cores), self.banned)
        self.steps: list[Step] = []
        self.roots: dict[str, str] = {}
        self.warm, self.left = left_in_cache(self.graph, self.chip), share_left(self.graph, self.chip)
        self.from_dram: set[str] = set()
        self.spent_s: list[float] = []
        self.about_s = 0.0
        self.kept_s: list[float] = []
        self.look_again_s = self.limit_s
        self.floors_s: dict[tuple[int, Splits], float] = {}  # partitions are those of one shape of nests
        self.to_host: frozenset[str] = frozenset()  # results that it finds in the scratchpad
        self.beside_host = at_hand(self.graph, self.chip, self.segments)
        if self.beside_host:
            bring_inputs(self.graph, self.residency)

    @property
    def streaming_peak(self) -> int:
        return max((size for _, size in self.residency.streaming), default=0)

    def root(self, name: str) -> str:
        return self.roots.get(name, name)

    def run(self) -> None:
        # Row-stationary PEs read rows of one channel: planes in memory.
        planar = any(kind.array is not None and kind.array.row_stationary for kind in self.chip.cores)
        every = self.graph.planar_nests if planar else self.graph.nests
        repeats = [self.segments.repeats[part] if part >= 0 else 0 for part in self.segments.of_op]
        left_s = [0.0] * (1 + len(every))
        if self.limit_s < math.inf:
            left_s = least_from(every, self.chip, repeats, self._floor_s)
            self._give_up_if_slower(left_s[0])
        for index, op in enumerate(self.graph.ops):
            if op.view or op.kind == "cache_update":
                self.roots[op.output] = self.root(op.inputs[0])
            if self.segments.of_op[index] < 0:
                self.from_dram |= {self.root(name) for name in op.operands}
                continue
            found = every[index]
            for nest in found:
                self._plan(index, op, nest)
            if len(found) > 1 or op.kind == "cache_update":
                # Several loop nests wrote it, or part of it is older: no core holds a single box.
                self.residency.forget(self.root(op.result))
            self._give_up_if_slower(left_s[index + 1])
        if self.beside_host:
            self.to_host = keep_for_host(self.graph, self.residency, self.root, self.from_dram)

    def _floor_s(self, index: int, nest: Nest) -> float:
        """Seconds that no estimate of a nest of an operator is below, wherever it is mapped and what it reads lies."""
        found = []
        for number, cores in self.assignment.sites(index):
            kind, site = self.chip.cores[number], site_of(self.chip, self.fabric, number, cores).value
            splits = self.assignment.splits(index, nest, site)
            least_s = self.floors_s.get((number, splits))
            if least_s is None:
                units, disjoint = usable_units(nest, kind), parts_are_disjoint(self.graph)
                least_s = least_cut_s(nest, site, splits, units, self.dataflow_of(kind), disjoint)
                self.floors_s[number, splits] = least_s
            found.append(least_s)
        return min(found)

    def dataflow_of(self, kind: CoreKind) -> str:
        """What the arrays of a kind of cores run; anything where there are none."""
        return self.dataflow or (kind.array.dataflow if kind.array is not None else "weight_stationary")

    def _give_up_if_slower(self, left_s: float) -> None:
        """Raises Slower once the steps so far, however many of their results may stay, and what those to come take at
        least (`left_s`) are above the limit."""
        new = step_seconds(self.steps[len(self.spent_s) :], self.segments)
        self.spent_s += new
        self.about_s += sum(new)
        if self.about_s + left_s < (1 - ROUNDING) * self.look_again_s:
            return  # a sum of all that is exact, for every operator of a deep model, would take longer than its plan
        spent_s = math.fsum(self.spent_s) + left_s
        if spent_s > self.look_again_s:
            if self._least_s() + left_s > self.limit_s:
                raise Slower
            self.look_again_s = 1.02 * spent_s

    def _least_s(self) -> float:
        """Closed form of the steps so far if every result of theirs stayed."""
        self.kept_s += [
            self._kept_s(step) * self.segments.repeats[self.segments.of_op[step.op]]
            for step in self.steps[len(self.kept_s) :]
        ]
        return math.fsum(self.kept_s)

    def decided(self) -> tuple[Step, ...]:
        """The steps with the fate of their results: kept if someone reads them in place, stored if anyone does
        not (or the user gets them, or nobody reads them at all)."""
        outputs = {self.root(name) for name in self.graph.outputs} - self.to_host
        found = []
        for step in self.steps:
            root = self.root(step.nest.out.tensor.name)
            kept = self.residency.results.get(root)
            keep = kept is not None and kept.until >= 0
            store = not keep or root in outputs or root in self.from_dram
            tiling = step.tiling if store else self._kept_tiling(step)
            found.append(replace(step, tiling=tiling, keep=keep, store=store))
        return tuple(found)

    def _kept_tiling(self, step: Step) -> Tiling:
        """The tiling with the estimate of a result that stays."""
        kept_s = self._kept_s(step)
        return step.tiling if kept_s == step.tiling.latency_s else replace(step.tiling, latency_s=kept_s)

    def _kept_s(self, step: Step) -> float:
        """Closed form of a step whose result stays; dealt tiles and rows have estimates of their own."""
        tiling = step.tiling
        if tiling.deal is not None or tiling.rows is not None:
            return tiling.latency_s
        if tiling.kept_s is not None and len(step.cores) == step.available:
            return tiling.kept_s
        site = site_of(self.chip, self.fabric, step.kind, step.cores)
        key = (step.signature, site, tiling, step.resident)
        found_s = KEPT_SECONDS.get(key)
        if found_s is None:
            found_s = float(estimate_of(step.nest, site.value, tiling, step.resident, stored=False).latency_s[0])
            KEPT_SECONDS[key] = found_s
        return with_exchange(step.nest, self.chip, replace(tiling, latency_s=found_s)).latency_s

    def _plan(self, index: int, op: Op, nest: Nest) -> None:
        best: Step | None = None
        failure: DoesNotFit | None = None
        for kind, cores in self.assignment.sites(index):
            try:
                step = self._best_at(index, nest, kind, cores)
            except DoesNotFit as error:
                failure = failure or error
                continue
            if best is None or step.tiling.latency_s < best.tiling.latency_s:
                best = step
        if best is None:
            assert failure is not None
            raise failure
        position = len(self.steps)
        for step in waves(best):
            self.steps.append(step)
            self.residency.planned(step.kind, step.tiling.sram_bytes)
        for operand, here in zip(nest.operands, best.resident, strict=True):
            root = self.root(operand.tensor.name)
            if here:
                self.residency.read_in_place(root, position)
            else:
                self.from_dram.add(root)
        on = self.chip.cores[best.kind]
        if (
            on.dispatch is not None
            or not on.sram.keeps_results
            or (on.array is not None and on.array.row_stationary is not None)
        ):
            return  # nothing stays: a kernel of its own, or a buffer that the next operator needs whole
        if not any(best.tiling.splits[dim] > 1 for dim in nest.role("k")):
            # Cores are cut like the tiles, of which there may be more than whole granules.
            tiling, splits = best.tiling, best.tiling.splits
            parts = [cores * steps for cores, steps in zip(splits, tiling.steps, strict=True)]
            fine = granules(nest.extents, parts, tiling.quanta)
            boxes = result_boxes(best, fine, self.chip.core_count)
            result = self.root(nest.out.tensor.name)
            self.residency.made(result, boxes, nest.out.tensor.dtype, best.kind, self.segments.of_op[index])

    def _best_at(self, index: int, nest: Nest, kind_index: int, cores: tuple[int, ...]) -> Step:
        """The nest on the cores of one kind. Raises DoesNotFit."""
        candidates = self._candidates(index, nest, kind_index)
        orders = [cores, *(order for kept in candidates if kept and (order := self._order(kept, cores)) != cores)]
        try:
            found = [self._search(index, nest, kind_index, order, candidates) for order in dict.fromkeys(orders)]
        except DoesNotFit:
            if not any(candidates):
                raise
            # Kept operands leave too little room: load them instead.
            return self._search(index, nest, kind_index, cores, [None] * len(candidates))
        return min(found, key=lambda step: step.tiling.latency_s)

    def _order(self, kept: Kept, cores: tuple[int, ...]) -> tuple[int, ...]:
        """These cores in the order in which a kept operand was made, those that made none of it last."""
        if kept.made >= len(self.steps):
            return cores  # an input, of the only core
        made = self.steps[kept.made].cores
        if made == cores[: len(made)] or not set(made) <= set(cores):
            return cores
        return (*made, *(core for core in cores if core not in made))

    def _candidates(self, index: int, nest: Nest, kind_index: int) -> list[Kept | None]:
        """Operands that may be read where their producer left them, as far as their share of the scratchpad
        goes."""
        if nest.chips > 1:
            return [None] * len(nest.operands)  # on its way to other chips all of it leaves the scratchpads
        room = self.chip.cores[kind_index].sram.size_bytes * KEPT_SHARE
        found: list[Kept | None] = []
        counted: set[str] = set()
        # The DMA engine reads the indices of a gather, and finds them in DRAM.
        by_dma = nest.inputs if any(operand.gathered for operand in nest.operands) else ()
        for operand in nest.operands:
            root = self.root(operand.tensor.name)
            kept = self.residency.candidate(root, kind_index, self.segments.of_op[index])
            if kept is None or operand in by_dma or (root not in counted and kept.size_bytes > room):
                found.append(None)
                continue
            room -= 0 if root in counted else kept.size_bytes
            counted.add(root)
            found.append(kept)
        return found

    def _search(
        self,
        index: int,
        nest: Nest,
        kind_index: int,
        cores: tuple[int, ...],
        candidates: list[Kept | None],
    ) -> Step:
        kind = self.chip.cores[kind_index]
        units = usable_units(nest, kind)
        dataflow = self.dataflow_of(kind)
        known_site = site_of(self.chip, self.fabric, kind_index, cores)
        site = known_site.value
        splits = self.assignment.splits(index, nest, site)
        if kind.divide == "to_fit" and working_bytes(nest, kind) <= kind.sram.size_bytes:
            alone = [split for split in splits.each if max(split) == 1]
            splits = splits_of(nest, alone) if alone else splits
        dealt = kind.dispatch is not None and ("array" in units or deals_vector(nest))
        sizes = {
            self.root(o.tensor.name): kept.size_bytes
            for o, kept in zip(nest.operands, candidates, strict=True)
            if kept
        }
        free = kind.sram.size_bytes - sum(sizes.values())
        granule = max(1, kind.sram.size_bytes // 32)
        preferred = min(int(free * PREFERRED_SHARE), kind.sram.tiles_bytes or free)
        limits = Limits(preferred // granule * granule, free // granule * granule, units)
        held_where = tuple(kept.boxes.key if kept else None for kept in candidates)
        shape = shape_of(nest)
        cache = self.chip.cache if kind.dispatch is not None else None
        near = None if cache is None else (cache.size_bytes, cache.bandwidth_bytes_per_s)
        warm = tuple(operand.tensor.name in self.warm for operand in nest.operands)
        of = None if dealt else splits  # no partition says which cores tiles are dealt to
        key = (shape, known_site, cores, limits, dataflow, of, held_where, near, warm, self.left)
        known = self.memo.get(key)
        none = (False,) * len(nest.operands)
        if known is None and dealt:
            known = self.memo[key] = self._dealt(nest, site, limits, dataflow, warm), none
        elif known is None and dataflow == "row_stationary" and "array" in units:
            known = self.memo[key] = row_search(nest, site, splits.each), none
        elif known is None:
            local = self._local(nest, splits, site, units, dataflow, cores, candidates)
            tiling = search(nest, site, limits, dataflow, local)
            known = self.memo[key] = tiling, local.resident(tiling.splits, len(nest.operands))
        tiling, resident = with_exchange(nest, self.chip, known[0]), known[1]
        # What lies in the scratchpads was looked for in this order.
        net = self.chip.interconnect
        used = cores[: tiling.cores] if any(resident) else placed(nest, tiling, cores, net)
        return Step(index, nest, tiling, kind_index, used, resident, len(cores), shape)

    def _dealt(self, nest: Nest, site: Site, limits: Limits, dataflow: str, warm: tuple[bool, ...]) -> Tiling:
        dispatch, cache = site.kind.dispatch, self.chip.cache
        assert dispatch is not None
        if "array" in limits.units:
            return deal_search(nest, site, limits, dataflow, dispatch, cache)
        return deal_vector(nest, site, limits, dispatch, cache, warm, self.left)

    def _local(
        self,
        nest: Nest,
        splits: Splits,
        site: Site,
        units: tuple[str, ...],
        dataflow: str,
        cores: tuple[int, ...],
        candidates: list[Kept | None],
    ) -> Local:
        """By partition: which operands every core would find in its own scratchpad, wherever the cuts may fall."""
        masks = np.zeros(len(splits.table), np.int64)
        if any(candidates):
            quanta = sorted({cut_quanta(nest, site, unit, dataflow) for unit in units} | {(1,) * len(nest.dims)})
            for index, kept in enumerate(candidates):
                if kept is not None:
                    add_in_place(index, nest, splits.table, quanta, cores, kept.boxes, masks)
        return Local(splits, masks)
