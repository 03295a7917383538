"""Sums of what the transfers of a segment moved, compiled: see `sums` in sim/cost/transfers.py."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sim.jit import jit, jit_inline
from sim.program import Kind

LOAD, STORE = int(Kind.LOAD), int(Kind.STORE)
KINDS = max(int(kind) for kind in Kind) + 1


class Tables(NamedTuple):
    """Columns of tasks and of probes; empty columns of probes where nothing looks into a cache."""

    op: Any
    kind: Any
    route: Any
    nbytes: Any
    probed: Any  # tasks that probe, ascending
    hit_route: Any
    rest_route: Any
    hit: Any  # bytes found
    miss: Any
    rest: Any
    evicted: Any


@jit_inline
def _add(of: Any, keys: Any, count: int, key: int, nbytes: int) -> int:
    """Add bytes to a key; how many keys there are then."""
    if nbytes > 0:
        if of[key] == 0:
            keys[count] = key
            count += 1
        of[key] += nbytes
    return count


@jit
def sum_moves(c: Any, routes: int) -> tuple[Any, Any, Any]:
    """(operator, key, bytes) of what tasks of one operator in a row moved of one kind, over one route, in the
    background or not: key (2 x kind + background) x `routes` + route.

    A table for one operator is small. It is emptied where the next begins, so that an operator may come several times.
    """
    of = np.zeros(2 * KINDS * routes, np.int64)
    keys = np.empty(len(of), np.int64)
    op, key, nbytes = np.empty(1024, np.int64), np.empty(1024, np.int64), np.empty(1024, np.int64)
    count, found, row = 0, 0, 0
    tasks = len(c.op)
    for task in range(tasks + 1):
        if task == tasks or (task > 0 and c.op[task] != c.op[task - 1]):
            if found + count > len(op):
                more = np.empty(2 * len(op) + count, np.int64)
                op, key, nbytes = np.append(op, more), np.append(key, more), np.append(nbytes, more)
            for place in range(count):
                op[found], key[found], nbytes[found] = c.op[task - 1], keys[place], of[keys[place]]
                of[keys[place]] = 0
                found += 1
            count = 0
        if task == tasks:
            break
        if c.route[task] < 0:
            continue
        way = 2 * c.kind[task] * routes
        if row < len(c.probed) and c.probed[row] == task:
            rest = c.rest_route[row] + routes
            count = _add(of, keys, count, way + c.hit_route[row], c.hit[row])
            count = _add(of, keys, count, way + c.route[task], c.miss[row])
            count = _add(of, keys, count, 2 * LOAD * routes + rest, c.rest[row])
            count = _add(of, keys, count, 2 * STORE * routes + rest, c.evicted[row])
            row += 1
        else:
            count = _add(of, keys, count, way + c.route[task], c.nbytes[task])
    return op[:found], key[:found], nbytes[:found]
