"""When tasks spend the energy of their operators, compiled: see sim/report/power.py.

By the task: kind, queue's hold, bytes, row of the routes (-1: none). By the route: what it crosses.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sim.jit import jit, jit_bare, jit_inline
from sim.program import Int8, Int32, Int64, Kind

# By what tasks share the energy of their operator: cycles of products, of the vector unit, of both; tasks; bytes moved,
# by the DMA engines they pass (of the scratchpad: without those exchanged with other chips), by hops, over the host
# link, to other chips, to and from DRAM, out of it, into it.
(
    PRODUCTS, PASSES, HELD, TASKS, BYTES, DMA, ENGINES, HOPS, HOST, EXCHANGED, DRAM, DRAM_READ, DRAM_WRITE,
) = range(13)  # fmt: skip
NO_SHARE = -1

MATMUL, VECTOR, LOAD, SEND, BARRIER = (
    int(kind) for kind in (Kind.MATMUL, Kind.VECTOR, Kind.LOAD, Kind.SEND, Kind.BARRIER)
)


class Columns(NamedTuple):
    """Of tasks: `kind`, `op`, `hold`, `dur`, `nbytes`, `route`. Of routes: links crossed of DMA engines, DRAM and host,
    hops, bytes exchanged with other chips per byte."""

    kind: Int8
    op: Int32
    hold: Int64
    dur: Int64
    nbytes: Int64
    route: Int32
    engines: Int64
    on_dram: Int64
    on_host: Int64
    hops: Int64
    exchanged: Any


@jit_inline
def share_of(c: Any, task: int, by: int) -> float:
    """The weight of a task among those of its operator."""
    if by == PRODUCTS:
        return float(c.hold[task]) if c.kind[task] == MATMUL else 0.0
    if by == PASSES:
        return float(c.hold[task]) if c.kind[task] == VECTOR else 0.0
    if by == HELD:
        return float(c.hold[task]) if c.kind[task] == MATMUL or c.kind[task] == VECTOR else 0.0
    if by == TASKS:
        return 0.0 if c.kind[task] == BARRIER else 1.0
    moved, route = float(c.nbytes[task]), c.route[task]
    if by == BYTES or route < 0:
        return moved if by == BYTES else 0.0
    if by == ENGINES:
        return float(c.engines[route] * moved)
    if by == DMA:
        return float(c.engines[route] * moved + 2 * (moved * c.exchanged[route]))
    if by == HOPS:
        return float(c.hops[route] * moved * (1 + 2 * c.exchanged[route]))
    if by == HOST:
        return moved if c.on_host[route] > 0 else 0.0
    if by == EXCHANGED:
        return float(moved * c.exchanged[route])
    if c.on_dram[route] == 0:
        return 0.0
    if by == DRAM:
        return moved
    sent = c.kind[task] == SEND
    reads = not sent and (c.kind[task] == LOAD) != (c.on_host[route] > 0)
    return moved if (reads if by == DRAM_READ else not sent and not reads) else 0.0


@jit_bare
def divide(c: Any, joules: Any, by: int, more: bool, total: Any, bare: Any, found: Any) -> None:
    """The joules of every operator among its tasks, in `found` [tasks] (or `more` of them there): by their shares, or,
    where no task of an operator that has joules has a share, by their durations. `total` and `bare` [operators] are for
    sums, and for which operators these are."""
    lost = False
    for op in range(len(joules)):
        total[op] = 0.0
    for task in range(len(found)):
        total[c.op[task]] += share_of(c, task, by)
    for op in range(len(joules)):
        bare[op] = total[op] == 0 and joules[op] > 0
        lost = lost or bare[op]
    if lost:
        for task in range(len(found)):
            if bare[c.op[task]]:
                total[c.op[task]] += c.dur[task]
    for task in range(len(found)):
        of = c.op[task]
        share = float(c.dur[task]) if bare[of] else share_of(c, task, by)
        part = joules[of] * share / (total[of] if total[of] != 0 else 1.0)
        found[task] = found[task] + part if more else part


@jit
def fill_done(amount: Any, span: Any, order: Any, times: Any, at: Any, done: Any, found: Any) -> None:
    """Of pieces of work, each of which does its `amount` [pieces] evenly in `span` ticks: what is done by each instant
    `at`, in `found`; see sim/report/ramps.py. `times` [2 x pieces] are beginnings and ends in rising order, `order`
    says of which (ends behind all beginnings); `done` [2 x pieces] is for what is done by these."""
    pieces, slope, sofar = len(amount), 0.0, 0.0
    for place in range(len(order)):
        if place:
            sofar += slope * (times[place] - times[place - 1])
        done[place] = sofar
        which = order[place]
        slope += amount[which] / span[which] if which < pieces else -(amount[which - pieces] / span[which - pieces])
    for one in range(len(at)):
        place = np.searchsorted(times, at[one], side="right") - 1
        if place < 0:
            found[one] = done[0]
        elif place == len(times) - 1 or times[place] == at[one]:
            found[one] = done[place]
        else:
            rise = (done[place + 1] - done[place]) / (times[place + 1] - times[place])
            found[one] = rise * (at[one] - times[place]) + done[place]
