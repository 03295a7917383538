"""Task tables under construction: batches of tasks with edges, sorted into program order and concatenated."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sim.program import Int64, Kind

Ids = npt.NDArray[np.int64]
Values = npt.ArrayLike

LOAD, COMPUTE, DRAIN, STORE = 0, 1, 60, 61
"""Order of the phases of an iteration; the rounds of a split sum, and the products of an attention, lie between LOAD
and DRAIN."""


@dataclass
class Batch:
    """The tasks of one loop nest. Ids handed out here are in order of adding; `positions` turns them into program
    order, which is by (iteration, phase, order of adding), so that loads of an iteration come before its compute and
    its stores after."""

    columns: list[Int64] = field(default_factory=list)
    size: int = 0
    edges: list[tuple[Ids, Ids]] = field(default_factory=list)
    groups: dict[str, tuple[int, tuple[int, ...]]] = field(default_factory=dict)

    def add(
        self, name: str, kind: Kind, phase: int, shape: tuple[int, ...], *, iteration: Values, queue: Values
    ) -> Ids:
        """Add an array of tasks under a name of their own (`groups`: where they begin, their shape); every column
        broadcasts to `shape`. Returns their ids in that shape."""
        ids = np.arange(self.size, self.size + math.prod(shape), dtype=np.int64).reshape(shape)
        self.groups[name] = self.size, shape
        self.size += ids.size
        columns = np.empty((4, *shape), np.int64)
        for column, values in zip(columns, (phase, iteration, int(kind), queue), strict=True):
            column[...] = values
        self.columns.append(columns.reshape(4, -1))
        return ids

    def edge(self, task: Ids, waits_for: Ids) -> None:
        """`task` waits for `waits_for`, broadcast together."""
        self.edges.append(together(task, waits_for))

    def ordered(self) -> tuple[Ids, Ids, tuple[Int64, Int64], tuple[Ids, Ids]]:
        """(place in program order of every id, id at every place, columns kind and queue in that order, edges in that
        order without duplicates)."""
        phase, iteration, kind, queue = np.concatenate(self.columns, axis=1)
        order = np.lexsort((phase, iteration))
        place = np.empty(self.size, np.int64)
        place[order] = np.arange(self.size)
        task, before = (np.concatenate([edge[end] for edge in self.edges] or [place[:0]]) for end in (0, 1))
        edges = np.divmod(distinct_keys(place[task] * self.size + place[before]), self.size)
        return place, order, (kind[order], queue[order]), edges


@dataclass
class Table:
    """All tasks of a segment so far, in final order."""

    size: int = 0
    columns: list[Int64] = field(default_factory=list)
    edges: list[tuple[Ids, Ids]] = field(default_factory=list)

    def add(
        self,
        kind: Values,
        queue: Values,
        hold: Values,
        dur: Values,
        nbytes: Values,
        route: Values,
        op: int,
    ) -> Ids:
        """Append tasks in program order; columns broadcast. Returns their final ids."""
        given = (kind, queue, hold, dur, nbytes, route, op)
        columns = np.empty((len(given), max(map(np.size, given))), np.int64)
        for column, values in zip(columns, given, strict=True):
            column[:] = values
        first, self.size = self.size, self.size + columns.shape[1]
        self.columns.append(columns)
        return np.arange(first, self.size, dtype=np.int64)

    def after(self, task: Ids, waits_for: Ids) -> None:
        """`task` waits for `waits_for`, broadcast together; negative ones are none."""
        self.edges.append(together(task, waits_for))

    def arrays(self) -> tuple[list[Int64], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """(kind, queue, hold, dur, nbytes, route, op) and the predecessors as compressed rows, duplicates gone."""
        if not self.size:
            return [np.zeros(0, np.int64)] * 7, np.zeros(1, np.int32), np.zeros(0, np.int32)
        columns = list(np.concatenate(self.columns, axis=1))
        if not self.edges:
            return columns, np.zeros(self.size + 1, np.int32), np.zeros(0, np.int32)
        task = np.concatenate([e[0] for e in self.edges])
        before = np.concatenate([e[1] for e in self.edges])
        some = before >= 0
        keys = distinct_keys(task[some] * self.size + before[some])
        task, before = keys // self.size, keys % self.size
        pointers = np.searchsorted(task, np.arange(self.size + 1)).astype(np.int32)
        return columns, pointers, before.astype(np.int32)


def together(one: Ids, other: Ids) -> tuple[Ids, Ids]:
    """Both broadcast to one shape and flat; np.broadcast_arrays takes three times as long on small arrays."""
    if one.shape == other.shape:
        return one.reshape(-1), other.reshape(-1)
    pair = np.empty((2, *np.broadcast(one, other).shape), np.int64)
    pair[0], pair[1] = one, other
    first, second = pair.reshape(2, -1)
    return first, second


def distinct_keys(keys: Int64) -> Int64:
    """The keys in order, each once. np.unique sorts by hash first, which takes 30 times as long on millions of keys."""
    keys = np.sort(keys)
    return keys[np.append(True, keys[1:] != keys[:-1])] if keys.size else keys


def without(keys: Int64, gone: Int64) -> Int64:
    """The keys that are not among others; np.setdiff1d takes ten times as long on few."""
    if not gone.size:
        return keys
    gone = np.sort(gone)
    place = np.minimum(np.searchsorted(gone, keys), len(gone) - 1)
    left: Int64 = keys[gone[place] != keys]
    return left
