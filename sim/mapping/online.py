"""The tasks of an attention: for every block of keys its scores, their shares, its values, and the running result.

On the array the scores of the next block come before the values of this one, so that the lanes have work while it
multiplies and the other way round; on the lanes the shares of the next block before the result of this one. Blocks of
scores, of shares and of values have two slots each; the running result has one, as only the lanes touch it, in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sim.cost.estimate import BUFFER_SLOTS
from sim.cost.online import OnlineProducts, online_bytes, online_cycles, online_products
from sim.graph.attention import VALUES
from sim.graph.nest import Nest
from sim.graph.places import listed
from sim.mapping.grid import largest_part
from sim.mapping.table import COMPUTE, DRAIN
from sim.program import PARTIAL, Kind, Space

if TYPE_CHECKING:
    from sim.mapping.accesses import AccessLog
    from sim.mapping.emit import Emitter
    from sim.mapping.skeleton import Builder
    from sim.mapping.step import Step
    from sim.mapping.template import Template

Int64 = npt.NDArray[np.int64]

SCORES, SHARES, SUMS = range(COMPUTE, COMPUTE + 3)
"""Phases of an iteration: scores and shares of the next block, values of this one."""


@dataclass(frozen=True, slots=True)
class Online:
    """Tasks [cores, iterations] of an attention beside the values (`main` of the template): `scores` and `shares` of
    every block, and what adds its values to the running result or, at the last block, makes the result (`merges`)."""

    scores: Int64
    shares: Int64
    merges: Int64

    def placed(self, place: Int64) -> Online:
        """The same tasks under other numbers."""
        return Online(place[self.scores], place[self.shares], place[self.merges])

    def readers(self, number: int) -> Int64 | None:
        """Tasks that read operand number `number` of the nest; None for the values."""
        return self.scores if number < VALUES else None if number == VALUES else self.shares


def add_online(step: Builder) -> tuple[Online, Int64, Int64]:
    """Add the tasks of an attention to a skeleton: (those beside the values, values [cores, iterations], last ones of
    every result [cores, tiles])."""
    loops, batch = step.loops, step.batch
    every, everyone = np.arange(loops.iterations), np.arange(len(loops.cores))
    shape, array = (len(everyone), len(every)), step.queue("array")[:, None]
    scores = batch.add("scores", Kind.MATMUL, SCORES, shape, iteration=every - 1, queue=array)
    shares = step.vector("shares", SHARES, every - 1, everyone)
    values = batch.add("main", Kind.MATMUL, SUMS, shape, iteration=every, queue=array)
    last = loops.result_last
    between = np.setdiff1d(every, last)
    merges = np.empty(shape, np.int64)
    merges[:, between] = step.vector("merge", DRAIN, between, everyone)
    merges[:, last] = drain = step.vector("drain", DRAIN, last, everyone)
    for task, before in ((shares, scores), (values, shares), (merges, values)):
        batch.edge(task, before)
    # The numbers of every row go from block to block, as does the running result.
    batch.edge(shares[:, 1:], shares[:, :-1])
    names, here = ["shares", "rows"], step.step.tiling.deal is not None
    if here:
        # The sums are scaled by what the next scores say, before the next values are added to them.
        batch.edge(merges[:, between], shares[:, between + 1])
        batch.edge(values[:, 1:], merges[:, :-1])
        # Shares lie where the scores were.
        batch.edge(scores[:, BUFFER_SLOTS:], values[:, :-BUFFER_SLOTS])
        batch.edge(shares[:, BUFFER_SLOTS:], merges[:, :-BUFFER_SLOTS])
        names = ["rows"]
    else:
        # A slot of shares is written again when the values of its block have been added. By then its scores have been
        # read, and the values of the block after next, which wait for those shares, find their slot empty.
        batch.edge(shares[:, BUFFER_SLOTS:], merges[:, :-BUFFER_SLOTS])
        batch.edge(merges[:, 1:], merges[:, :-1])
    for name in names:
        step.claim(name, everyone, shares[:, :BUFFER_SLOTS], everyone[:, None])
        step.users[name] = drain[:, -1:]
    if loops.sum_steps > 1 and not here:
        step.claim("running", everyone, merges[:, 0], everyone)
        step.users["running"] = drain[:, -1:]
    return Online(scores, shares, merges), values, drain


def needed_at(nest: Nest, number: int, first: Int64) -> Int64:
    """Iteration before whose tasks the fills of an operand are issued: scores and shares are made one ahead."""
    return first if number == VALUES or nest.operands[number].part == "epilogue" else first - 1


def emit_online(emitter: Emitter) -> OnlineProducts:
    """The durations of an attention's tasks; what they amount to."""
    nest, loops, kind = emitter.step.nest, emitter.loops, emitter.kind
    deal, dataflow = emitter.step.tiling.deal, emitter.step.tiling.dataflow
    sides, slowed = ((0, 0), 1.0) if deal is None else ((deal.rows, deal.columns), deal.slowed)
    products = online_products(nest, loops.ranges, kind, dataflow, loops.result_last, sides=sides, slowed=slowed)
    emitter.set("scores", products.scores.hold, products.scores.dur)
    emitter.set("main", products.values.hold, products.values.dur)
    cycles = online_cycles(nest, kind, loops.tile, loops.sum_steps)
    last = loops.result_last
    between = np.setdiff1d(np.arange(loops.iterations), last)
    emitter.vector("shares", cycles.softmax)
    emitter.vector("merge", cycles.merge[:, between])
    emitter.vector("drain", (cycles.last if deal is not None else cycles.merge + cycles.last)[:, last])
    return products


def scratchpad_buffers(step: Step) -> list[tuple[str, int, int]]:
    """(name, slots, bytes) of what an attention has in the scratchpad beside operands and result."""
    found = online_bytes(step.nest, _tile(step), _key_steps(step), step.tiling.deal is not None)
    sizes = (
        ("shares", BUFFER_SLOTS, found.shares), ("rows", BUFFER_SLOTS, found.rows), ("running", 1, found.running)
    )  # fmt: skip
    return [(name, slots, int(size[0])) for name, slots, size in sizes if int(size[0])]


def _tile(step: Step) -> tuple[Int64, ...]:
    tiling = step.tiling
    cuts = zip(step.nest.dims, tiling.splits, tiling.steps, tiling.quanta, strict=True)
    return tuple(np.atleast_1d(largest_part(dim.extent, np.array([p * s]), quantum)) for dim, p, s, quantum in cuts)


def _key_steps(step: Step) -> Int64:
    return np.array([step.tiling.steps[step.nest.role("k")[0]]])


@dataclass
class OnlineRecorder:
    """Logs what the tasks of an attention read and write beside operands and result. Scores, shares and running
    results are tensors of the log alone: no memory keeps them."""

    log: AccessLog
    step: Step
    template: Template
    final: Int64
    cores: Int64
    base: dict[str, tuple[int, int]]

    def __post_init__(self) -> None:
        self.in_place = self.step.tiling.deal is not None

    def run(self) -> None:
        loops, online = self.template.loops, self.template.online
        assert online is not None
        nest, name = self.step.nest, self.step.nest.out.tensor.name
        every = np.arange(loops.iterations)
        low, high = loops.ranges
        scored, made = (loops.boxes(one, slice(None), every) for one in (nest.operands[0], nest.out))
        keys = nest.role("k")[0]
        order = list(listed(nest.places, 0, range(made[0].shape[-1])))
        scored = scored[0][..., order], scored[1][..., order]
        for box, side in zip(scored, (low, high), strict=True):
            box[..., -1] = side[keys]
        shape = (*listed(nest.places, 0, nest.operands[0].tensor.shape)[:-1], nest.dims[keys].extent)
        for what, of in (("scores", shape), ("shares", shape), ("rows", shape), ("running", nest.out.tensor.shape)):
            self.log.inside[f"{name}.{what}"] = of
        slot, many = every % BUFFER_SLOTS, loops.sum_steps
        goes_on = np.flatnonzero(every % many > 0)
        self._add(online.scores, True, "scores", scored, slot)
        self._add(online.shares, False, "scores", scored, slot)
        for what in ("shares", "rows"):
            self._add(online.shares, True, what, scored, slot)
        self._add(online.shares[:, goes_on], False, "rows", _at(scored, goes_on - 1), slot[goes_on - 1])
        self._add(self.template.main, False, "shares", scored, slot)
        self._add(self.template.main, True, "", made, 0 * slot if self.in_place else slot)
        self._merges(online.merges, scored, made, slot)

    def _merges(self, merges: Int64, scored: tuple[Int64, Int64], made: tuple[Int64, Int64], slot: Int64) -> None:
        """What adds up values: in a running result of its own, or where they are."""
        many = self.template.loops.sum_steps
        every, none = np.arange(merges.shape[1]), np.zeros_like(slot)
        last, before = every % many == many - 1, np.flatnonzero(every % many < many - 1)
        if self.in_place:
            # By the factor of the next block; at last by the total of this one.
            told = np.where(last, every, every + 1)
            self._add(merges, False, "", made, none)
            self._add(merges[:, before], True, "", _at(made, before), none[before])
            self._add(merges, False, "rows", _at(scored, np.minimum(told, len(every) - 1)), slot[told % BUFFER_SLOTS])
            return
        self._add(merges, False, "", made, slot)
        self._add(merges, False, "rows", scored, slot)
        goes_on = np.flatnonzero(every % many > 0)
        if many > 1:
            self._add(merges[:, goes_on], False, "running", _at(made, goes_on), none[goes_on])
            self._add(merges[:, before], True, "running", _at(made, before), none[before])

    def _add(self, tasks: Int64, write: bool, what: str, boxes: tuple[Int64, Int64], slot: Int64) -> None:
        """Accesses to the slots of `what`; "" for sums of values, which are parts of the result."""
        result = self.step.nest.out.tensor.name
        in_accumulator = what in ("scores", "") or (what == "shares" and self.in_place)
        space = Space.ACCUMULATOR if in_accumulator else Space.SCRATCHPAD
        begin, size = self.base["scores" if in_accumulator and what else what or "values"]
        name = f"{result}.{what}" if what else result
        where = (space, self.cores[:, None], begin + slot * size, size)
        self.log.add(self.final[tasks], write, PARTIAL, name, boxes, *where)


def _at(boxes: tuple[Int64, Int64], iterations: Int64) -> tuple[Int64, Int64]:
    return boxes[0][:, iterations], boxes[1][:, iterations]


def accumulator_places(step: Step) -> dict[str, tuple[int, int]]:
    """Where the slots of scores and of values begin in the accumulator, and the bytes of one."""
    found = online_bytes(step.nest, _tile(step), _key_steps(step), step.tiling.deal is not None)
    scores, values = int(found.scores[0]), int(found.values[0])
    return {"scores": (0, scores), "values": (BUFFER_SLOTS * scores, values)}
