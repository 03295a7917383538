"""Task tables under construction: batches of tasks with edges, sorted into program order and concatenated."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sim.program import Int64, Kind

Ids = npt.NDArray[np.int64]
Values = npt.ArrayLike


@dataclass
class Batch:
    """The tasks of one loop nest. Ids handed out here are local; `Table.flush` turns them into final ones.

    Program order is by (iteration, phase, order of adding), so that loads of an iteration come before its compute
    and its stores after.
    """

    columns: list[tuple[Int64, ...]] = field(default_factory=list)
    size: int = 0
    local_edges: list[tuple[Ids, Ids]] = field(default_factory=list)
    outer_edges: list[tuple[Ids, Ids]] = field(default_factory=list)

    def add(
        self,
        kind: Kind,
        phase: int,
        shape: tuple[int, ...],
        *,
        iteration: Values,
        queue: Values,
        hold: Values,
        dur: Values,
        nbytes: Values = 0,
        route: Values = -1,
    ) -> Ids:
        """Add an array of tasks; every column broadcasts to `shape`. Returns their local ids in that shape."""
        ids = np.arange(self.size, self.size + int(np.prod(shape)), dtype=np.int64).reshape(shape)
        self.size += ids.size
        given = (int(kind), phase, iteration, queue, hold, dur, nbytes, route)
        self.columns.append(
            tuple(np.broadcast_to(np.asarray(values, np.int64), shape).reshape(-1) for values in given)
        )
        return ids

    def edge(self, task: Ids, waits_for: Ids) -> None:
        """`task` waits for `waits_for`, both local, broadcast together."""
        pair = np.broadcast_arrays(task, waits_for)
        self.local_edges.append((pair[0].reshape(-1), pair[1].reshape(-1)))

    def after(self, task: Ids, waits_for: Ids) -> None:
        """`task` (local) waits for `waits_for` (final ids of earlier batches; negative ones are none)."""
        pair = np.broadcast_arrays(task, waits_for)
        some = pair[1].reshape(-1) >= 0
        if some.any():
            self.outer_edges.append((pair[0].reshape(-1)[some], pair[1].reshape(-1)[some]))


@dataclass
class Table:
    """All tasks of a segment so far, in final order."""

    size: int = 0
    columns: list[tuple[Int64, ...]] = field(default_factory=list)
    edges: list[tuple[Ids, Ids]] = field(default_factory=list)

    def flush(self, batch: Batch, op: int) -> Ids:
        """Append a batch; returns the final id of every local id."""
        if not batch.size:
            return np.zeros(0, np.int64)
        kind, phase, iteration, queue, hold, dur, nbytes, route = (
            np.concatenate(parts) for parts in zip(*batch.columns, strict=True)
        )
        order = np.lexsort((phase, iteration))
        final = np.empty(batch.size, np.int64)
        final[order] = np.arange(self.size, self.size + batch.size)
        ops = np.full(batch.size, op, np.int64)
        self.columns.append(tuple(c[order] for c in (kind, queue, hold, dur, nbytes, route, ops)))
        self.edges += [(final[task], final[before]) for task, before in batch.local_edges]
        self.edges += [(final[task], before) for task, before in batch.outer_edges]
        self.size += batch.size
        return final

    def arrays(self) -> tuple[list[Int64], npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """(kind, queue, hold, dur, nbytes, route, op) and the predecessors as compressed rows, duplicates gone."""
        if not self.size:
            return [np.zeros(0, np.int64)] * 7, np.zeros(1, np.int32), np.zeros(0, np.int32)
        columns = [np.concatenate(parts) for parts in zip(*self.columns, strict=True)]
        if not self.edges:
            return columns, np.zeros(self.size + 1, np.int32), np.zeros(0, np.int32)
        task = np.concatenate([e[0] for e in self.edges])
        before = np.concatenate([e[1] for e in self.edges])
        keys = np.unique(task * self.size + before)
        task, before = keys // self.size, keys % self.size
        pointers = np.searchsorted(task, np.arange(self.size + 1)).astype(np.int32)
        return columns, pointers, before.astype(np.int32)
