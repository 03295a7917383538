"""A sum that is split over cores: each makes a part, and a binary tree adds the parts up on the owner.

In round r, the core at place p + 2^r of the sum sends its part to the one at p, which adds it to its own. A core's
first addition takes its own sums out of the accumulator; a core that only sends copies them out first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sim.cost.estimate import BUFFER_SLOTS
from sim.cost.work import vector_tile_cycles
from sim.mapping.template import Round
from sim.program import Kind

if TYPE_CHECKING:
    from sim.mapping.emit import Emitter
    from sim.mapping.skeleton import Builder

Int64 = npt.NDArray[np.int64]

FIRST_PHASE = 2
"""Phase of the first round within an iteration; each round takes two."""


class SplitSum:
    """Adds the rounds of one step to a skeleton, round r as the groups copy{r} (where there are leaves), send{r} and
    add{r}."""

    def __init__(self, step: Builder) -> None:
        self.step, self.loops, self.batch = step, step.loops, step.batch
        self.rounds: list[Round] = []

    def add(self, empties: Int64, final: Int64) -> None:
        """Add up the parts before the owners' `final` tasks [owners, tiles]. Fills `empties` [cores, tiles] with the
        task that takes each core's sums out of its accumulator."""
        ready = np.full(empties.shape, -1, np.int64)  # task that completes each core's part so far
        taken: dict[int, Int64] = {}  # tasks that read each core's part last
        while 2 ** len(self.rounds) <= int(self.loops.sum_place.max()):
            found = self._round(len(self.rounds), ready, empties)
            taken.update(zip(found.senders.tolist(), found.sends, strict=True))
            self.rounds.append(found)
        self.batch.edge(final, ready[self.loops.owners])
        taken.update(zip(self.loops.owners.tolist(), final, strict=True))
        self._message_buffers()
        self._part_buffers(taken, empties)

    def _round(self, number: int, ready: Int64, empties: Int64) -> Round:
        distance, phase, last = 2**number, FIRST_PHASE + 2 * number, self.loops.result_last
        senders = np.flatnonzero(self.loops.sum_place % (2 * distance) == distance)
        receivers = self.loops.partners(senders, distance)
        leaves = senders[ready[senders, 0] < 0]
        copies = None
        if len(leaves):
            copies = ready[leaves] = empties[leaves] = self.step.vector(f"copy{number}", phase, last, leaves)
        queue = self.step.queue("send", send_channel(number, self.step.kind.dma.channels))[senders][:, None]
        shape = len(senders), len(last)
        sends = self.batch.add(f"send{number}", Kind.SEND, phase, shape, iteration=last, queue=queue)
        self.batch.edge(sends, ready[senders])
        adds = self.step.vector(f"add{number}", phase + 1, last, receivers)
        self.batch.edge(adds, sends)
        fresh = ready[receivers, 0] < 0
        self.batch.edge(adds[~fresh], ready[receivers[~fresh]])
        empties[receivers[fresh]] = adds[fresh]
        ready[receivers] = adds
        return Round(senders, receivers, leaves, copies, sends, adds, fresh)

    def _message_buffers(self) -> None:
        """A send waits for a free message slot at its receiver."""
        users = self.step.main[:, -1:].copy()
        receivers = np.unique(np.concatenate([r.receivers for r in self.rounds]))
        first: list[Int64] = []
        for receiver in receivers.tolist():
            mine = [
                (r, int(np.flatnonzero(r.receivers == receiver)[0]))
                for r in self.rounds
                if receiver in r.receivers
            ]
            sends = np.stack([r.sends[row] for r, row in mine], axis=1).reshape(-1)
            adds = np.stack([r.adds[row] for r, row in mine], axis=1).reshape(-1)
            self.batch.edge(sends[BUFFER_SLOTS:], adds[:-BUFFER_SLOTS])
            first.append(sends[:BUFFER_SLOTS])
            users[receiver] = adds[-1]
        of = np.repeat(receivers, [len(sends) for sends in first])
        self.step.claim("message", receivers, np.concatenate(first), of)
        self.step.users["message"] = users

    def _part_buffers(self, taken: dict[int, Int64], empties: Int64) -> None:
        """A core's part is written again when the one before was sent on or, on the owner, drained."""
        users = self.step.main[:, -1:].copy()
        for position, readers in taken.items():
            self.batch.edge(empties[position, 1:], readers[:-1])
            users[position] = readers[-1]
        self.step.users["part"] = users
        everyone = np.arange(len(empties), dtype=np.int64)
        self.step.claim("part", everyone, empties[:, 0], everyone)


def send_channel(number: int, channels: int) -> int:
    """DMA channel of the sends of round `number`: the rounds take them in turn."""
    return (FIRST_PHASE // 2 + number) % channels


def emit_rounds(step: Emitter, elements: Int64, sums: Int64) -> None:
    """Durations, bytes and ways of the rounds: `elements` and `sums` (bytes) of every result tile, [cores, tiles]."""

    def one_pass(name: str, function: str, operands: int, positions: Int64) -> None:
        """One pass over the sums of the cores at `positions`, reading `operands` parts."""
        moved = sums[positions]
        step.vector(name, vector_tile_cycles(elements[positions], {function: 1.0}, step.kind, operands * moved, moved))

    cores = step.loops.cores
    for number, found in enumerate(step.skeleton.rounds):
        if len(found.leaves):
            one_pass(f"copy{number}", "copy", 1, found.leaves)
        channel = send_channel(number, step.kind.dma.channels)
        ends = zip(cores[found.senders].tolist(), cores[found.receivers].tolist(), strict=True)
        path, latency = np.array([step.send(*pair, channel) for pair in ends], np.int64).T
        step.set(f"send{number}", 1, latency[:, None], sums[found.senders], path[:, None])
        one_pass(f"add{number}", "add", 2, found.receivers)
