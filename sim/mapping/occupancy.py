"""Who used an address of a memory last: what a new user of it has to wait for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Claim:
    """First uses of a scratchpad buffer: `tasks[i]` waits for the last users of its memory on the core at position
    `of[i]` of the step. The cores at `positions` use the buffer."""

    buffer: str
    positions: Int64
    tasks: Int64
    of: Int64


@dataclass(frozen=True, slots=True)
class Ports:
    """The buffers of a step as compiled code reads them: those that are claimed (`claimed`), and those that are handed
    back (`used`) with their last users, cores of the step by cores of the step.

    `claims` [claimed, 4]: where the tasks and the positions of each begin in `tasks` and `of`, and in `positions`, and
    how many there are; `users` are flat, `uses` [used, 3] says which claim each buffer is of, where its users begin and
    how many there are of a core.
    """

    claimed: tuple[str, ...]
    claims: Int64
    tasks: Int64
    of: Int64
    positions: Int64
    used: tuple[str, ...]
    uses: Int64
    users: Int64


def ports_of(claims: Sequence[Claim], users: Mapping[str, Int64]) -> Ports:
    """The ports of claims and of users [cores, any] by buffer."""
    rows, task, position = [], 0, 0
    for claim in claims:
        rows.append((task, len(claim.tasks), position, len(claim.positions)))
        task, position = task + len(claim.tasks), position + len(claim.positions)
    claimed, uses, begin = tuple(claim.buffer for claim in claims), [], 0
    for name, of in users.items():
        uses.append((claimed.index(name), begin, of.shape[1]))
        begin += of.size
    none = np.zeros(0, np.int64)
    return Ports(
        claimed,
        np.array(rows, np.int64).reshape(-1, 4),
        np.concatenate([none, *(claim.tasks for claim in claims)]),
        np.concatenate([none, *(claim.of for claim in claims)]),
        np.concatenate([none, *(claim.positions for claim in claims)]),
        tuple(users),
        np.array(uses, np.int64).reshape(-1, 3),
        np.concatenate([none, *(of.reshape(-1) for of in users.values())]),
    )


@dataclass
class Pairs:
    """Tasks of the template at hand and earlier ones that they wait for (negative: none), `count` of them."""

    tasks: Int64 = field(default_factory=lambda: np.empty(1 << 10, np.int64))
    before: Int64 = field(default_factory=lambda: np.empty(1 << 10, np.int64))
    count: int = 0

    def room(self, more: int) -> tuple[Int64, Int64]:
        """Both columns from the end on, with room for so many more."""
        if self.count + more > len(self.tasks):
            size = 2 * (self.count + more)
            for name in ("tasks", "before"):
                wider = np.empty(size, np.int64)
                wider[: self.count] = getattr(self, name)[: self.count]
                setattr(self, name, wider)
        return self.tasks[self.count :], self.before[self.count :]

    def add(self, tasks: Int64, before: Int64) -> None:
        """Both broadcast together."""
        shape = np.broadcast(tasks, before).shape
        size = int(np.prod(shape))
        mine, others = self.room(size)
        mine[:size].reshape(shape)[...] = tasks
        others[:size].reshape(shape)[...] = before
        self.count += size


@dataclass
class Occupancy:
    """Who touched each address range of a memory last, by core.

    `spans` [count] are ranges: bottom, top, and the first and the number of their columns in `users` [used columns,
    cores]: ids of tasks, -1 for none.
    """

    cores: int
    spans: Int64 = field(default_factory=lambda: np.empty((64, 4), np.int64))
    count: int = 0
    used: int = 0
    users: Int64 = field(init=False)
    _other: Int64 = field(init=False)

    def __post_init__(self) -> None:
        self.users, self._other = np.empty((2, 64, self.cores), np.int64)

    def claim(self, start: int, size: int) -> Int64:
        """Users [cores, any] of everything that overlaps [start, start + size), each once, latest first; the ranges
        pass to the caller."""
        from sim.mapping.waiting import take_users

        self._make_room(self.used + 2 * self._columns, 2 * self.count)
        self.count, end = take_users(self.spans, self.count, self.users, self.used, start, start + size)
        return np.ascontiguousarray(self.users[self.used : end].T)

    def release(self, start: int, size: int, users: Int64) -> None:
        """Record the users [cores, any] of a range that the next claim must wait for."""
        columns = users.shape[1]
        self._make_room(self.used + columns, self.count + 1)
        self.users[self.used : self.used + columns] = users.T
        self.spans[self.count] = start, start + size, self.used, columns
        self.count, self.used = self.count + 1, self.used + columns

    def claim_all(self, ports: Ports, where: Int64, cores: Int64, pairs: Pairs) -> Int64:
        """Claim ranges `where` [claims, 2] (address, size) for the buffers of a step on `cores`, whose tasks wait for
        the users until now in `pairs`. Cores that do not use a buffer leave what they had there to the next claim: the
        columns of these, first and number [claims, 2], which `release_all` takes."""
        from sim.mapping.waiting import claim_buffers

        left, done = np.empty((len(where), 2), np.int64), 0
        while True:
            waiting, before = pairs.room(len(ports.tasks) * len(self.users))
            self.count, self.used, found, done = claim_buffers(
                self.spans, self.count, self.users, self.used, ports.claims, ports.tasks, ports.of, ports.positions,
                where, cores, waiting, before, left, done,
            )  # fmt: skip
            pairs.count += found
            if done == len(where):
                return left
            self._make_room(self.used + 2 * self._columns, 2 * self.count)

    def release_all(self, ports: Ports, where: Int64, cores: Int64, first: int, left: Int64) -> None:
        """Hand back ranges `where` [used, 2] to be claimed after the users of a step whose tasks have ids from `first`
        on, and after what `claim_all` `left`. No other claim of this memory is under way."""
        from sim.mapping.waiting import release_buffers

        columns = len(ports.users) // len(cores) + int(left[:, 1].sum())
        self._make_room(max(self.used, self._columns) + columns, self.count + len(where))
        self.count, self.used = release_buffers(
            self.spans, self.count, self.users, self.used, ports.uses, ports.users, where, cores, first, left,
            self._other,
        )  # fmt: skip
        self.users, self._other = self._other, self.users

    def _make_room(self, columns: int, spans: int) -> None:
        """For so many columns and ranges in all."""
        if spans > len(self.spans):
            self.spans = np.concatenate([self.spans[: self.count], np.empty((2 * spans, 4), np.int64)])
        if columns > len(self.users):
            self.users = np.concatenate([self.users[: self.used], np.empty((2 * columns, self.cores), np.int64)])
            self._other = np.empty_like(self.users)

    @property
    def _columns(self) -> int:
        """Columns of all ranges; pieces of what was one have the same."""
        return int(self.spans[: self.count, 3].sum())
