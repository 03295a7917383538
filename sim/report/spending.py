"""When tasks spend the energy of their operators, compiled: see sim/report/power.py.

By the task: kind, queue's hold, bytes, row of the routes (-1: none). By the route: what it crosses.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sim.jit import jit_bare, jit_inline
from sim.program import Int8, Int32, Int64, Kind

# By what tasks share the energy of their operator: cycles of products, of the vector unit, of both; tasks; bytes moved,
# by the DMA engines they pass (of the scratchpad: without those exchanged with other chips), by hops, over the host
# link, to other chips, to and from DRAM, out of it, into it; ticks from start to finish.
(
    PRODUCTS, PASSES, HELD, TASKS, BYTES, DMA, ENGINES, HOPS, HOST, EXCHANGED, DRAM, DRAM_READ, DRAM_WRITE, DURATION,
) = range(14)  # fmt: skip
SHARES = DURATION + 1

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
def fill_shares(c: Any, task: int, share: Any) -> None:
    """The weights [SHARES] of a task among those of its operator."""
    for by in range(SHARES):
        share[by] = 0.0
    kind, moved, route = c.kind[task], float(c.nbytes[task]), c.route[task]
    share[DURATION], share[BYTES] = c.dur[task], moved
    share[TASKS] = 0.0 if kind == BARRIER else 1.0
    if kind in (MATMUL, VECTOR):
        share[HELD] = share[PRODUCTS if kind == MATMUL else PASSES] = c.hold[task]
    if route < 0:
        return
    host, exchanged = c.on_host[route] > 0, moved * c.exchanged[route]
    share[ENGINES], share[EXCHANGED] = c.engines[route] * moved, exchanged
    share[DMA], share[HOPS] = share[ENGINES] + 2 * exchanged, c.hops[route] * (moved + 2 * exchanged)
    if host:
        share[HOST] = moved
    if c.on_dram[route] > 0:
        share[DRAM] = moved
        if kind != SEND:
            share[DRAM_READ if (kind == LOAD) != host else DRAM_WRITE] = moved


@jit_bare
def fill_totals(c: Any, share: Any, total: Any) -> None:
    """Add up the weights of all tasks by operator, in `total` [operators, SHARES]; `share` is one row of it."""
    for task in range(len(c.op)):
        fill_shares(c, task, share)
        of = total[c.op[task]]
        for by in range(SHARES):
            of[by] += share[by]


def joules_per_share(total: Any, joules: Any, by: int) -> tuple[Any, Any]:
    """By what the tasks of every operator share its `joules` [operators], and joules for each unit of that: by `by`,
    or, where an operator has joules and none of its tasks a share, by their durations."""
    by_of = np.where((total[:, by] == 0) & (joules > 0), DURATION, by)
    units = np.take_along_axis(total, by_of[:, None], axis=1)[:, 0]
    return by_of, joules / np.where(units > 0, units, 1.0)


@jit_bare
def fill_spent(
    c: Any, start: Any, finish: Any, by_of: Any, each: Any, component: Any, at: Any, share: Any, some: Any, ended: Any,
    under_way: Any,
) -> None:  # fmt: skip
    """Spread what every task spends evenly: of a transfer between its first byte and its finish, of others while they
    hold their queue, but over one tick at least.

    What tasks spend comes in columns `by_of` and `each` [operators, columns] (`joules_per_share`), which add up to
    components, `component` [columns]. `under_way` [instants, components] receives what tasks that have begun by an
    instant of `at` (ascending) and not ended have spent by then; `ended` [instants + 1, components] what those spend
    that end by this instant and not by the one before. `share` [SHARES] and `some` [components] are for one task.
    """
    for task in range(len(c.op)):
        fill_shares(c, task, share)
        op = c.op[task]
        for part in range(len(some)):
            some[part] = 0.0
        for column in range(len(component)):
            some[component[column]] += each[op, column] * share[by_of[op, column]]
        begin, end = start[task], start[task] + c.hold[task]
        if c.route[task] >= 0:
            begin, end = min(begin + c.dur[task], finish[task] - 1), finish[task]
        end = max(end, begin + 1)
        place, beyond = 0, len(at)  # the first instant after the beginning
        while place < beyond:
            middle = (place + beyond) >> 1
            if at[middle] > begin:
                beyond = middle
            else:
                place = middle + 1
        while place < len(at) and at[place] < end:
            done = (at[place] - begin) / (end - begin)
            for part in range(len(some)):
                under_way[place, part] += some[part] * done
            place += 1
        for part in range(len(some)):
            ended[place, part] += some[part]
