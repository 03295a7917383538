"""The closed form: how long a program takes by the planner's estimates alone, without a timeline.

Operators follow one another, each alone on the chip: no contention between operators, no stalls, no overlap of one
operator with the next. Launches follow one another beside them or between them, as in the program: an operator waits
for its own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sim.cost.transfers import Float64, Routes, is_transfer, ticks_alone
from sim.program import Int64, Program, Segment
from sim.report.roofline import Bound, Floors, launch_ticks
from sim.report.stalls import is_compute
from sim.units import PS_PER_S


def operator_ticks(program: Program, segment: Segment, floors: Floors, routes: Routes) -> Int64:
    """Ticks of every operator (rows of `segment.ops`) in one run of the segment, rounded up: from the end of the one
    before, or its launch if that ends later, to its own end.

    The estimate that its tiling was chosen by (`estimate_s`, see sim/cost/estimate.py); of an operator that has none
    (a host transfer), its transfers one after another. Never less than its work on any one resource, nor than its
    busiest unit is held, nor all of them than their launches: so no sum of them is below the bound, and no unit is busy
    for longer than the run.
    """
    alone = np.where(is_transfer(segment), segment.dur + ticks_alone(segment, routes), 0)
    transfers = np.bincount(segment.op, weights=alone, minlength=len(segment.ops))
    planned = [op.mapping.get("estimate_s") for op in segment.ops]
    estimate = [t if s is None else s * PS_PER_S for s, t in zip(planned, transfers, strict=True)]
    working = [kind != "dispatch" for kind in floors.kind]
    floor_s = floors.seconds[:, working].max(axis=1)
    slowest = np.maximum.reduce([estimate, floor_s * PS_PER_S, _held_ticks(program, segment)])
    launches, taken = launch_ticks(program, segment), np.ceil(slowest).astype(np.int64)
    if launched_in_turn(program, segment):
        return np.asarray(np.ceil(launches).astype(np.int64) + taken)
    return after_launches(launches, taken)


def launched_in_turn(program: Program, segment: Segment) -> bool:
    """Does a launch wait for the operator before (kernels of one stream)?"""
    dispatch = np.array([queue.unit == "dispatch" for queue in program.queues], np.bool_)[segment.queue]
    return bool(np.diff(segment.pptr)[dispatch].any())


def after_launches(launches: Float64, taken: Int64) -> Int64:
    """Ticks by which every operator ends later than the one before, if it takes `taken` and waits for its launch: that
    is no sooner than all up to it are launched, and those from any one on that waited done one after another."""
    launched, done = np.cumsum(np.ceil(launches).astype(np.int64)), np.cumsum(taken)
    ends = done + np.maximum.accumulate(launched - (done - taken))
    return np.diff(ends, prepend=0)


def input_ends(program: Program, ticks: Sequence[Int64], bound: Bound) -> tuple[int, ...]:
    """Ticks at which the back-to-back inputs finish, ascending; `ticks` as from `operator_ticks`, by segment.

    A core works on one input at a time, so inputs follow each other at the pace of the busiest core: all of an
    input's operators where they share the cores, the slowest stage of a pipeline. Nor can they come faster than
    `bound`, of the last input: it finds in the cache what an earlier one has left there.
    """
    latency = 0
    last = max(op.input_index for segment in program.segments for op in segment.ops)
    on_core = np.zeros(1 + max(queue.core for queue in program.queues))
    for segment, mine, repeats in zip(program.segments, ticks, program.repeats, strict=True):
        of_input = np.array([op.input_index for op in segment.ops], np.int64)
        latency += int(mine[of_input == 0].sum()) * repeats
        core, op = _cores_of_operators(program, segment)
        np.add.at(on_core, core, np.where(of_input == last, mine, 0)[op] * repeats)
    interval = max(int(on_core.max()), int(np.ceil(bound.seconds * PS_PER_S)))
    return tuple(latency + index * interval for index in range(last + 1))


def _held_ticks(program: Program, segment: Segment) -> Float64:
    """Ticks that each operator holds the array or vector unit it works longest on."""
    compute = is_compute(program)[segment.queue]
    cells = segment.op[compute].astype(np.int64) * len(program.queues) + segment.queue[compute]
    size = len(segment.ops) * len(program.queues)
    held = np.bincount(cells, weights=segment.hold[compute], minlength=size)
    return np.asarray(held.reshape(len(segment.ops), -1).max(axis=1), np.float64)


def _cores_of_operators(program: Program, segment: Segment) -> tuple[Int64, Int64]:
    """Every (core, operator) such that a unit of the core computes for the operator."""
    core = np.array([queue.core for queue in program.queues], np.int64)[segment.queue]
    compute = is_compute(program)[segment.queue]
    cells = np.bincount((core * len(segment.ops) + segment.op)[compute])
    found = np.divmod(np.flatnonzero(cells), max(1, len(segment.ops)))
    return found[0], found[1]
