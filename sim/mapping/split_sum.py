"""A sum that is split over cores: each makes a part, and a binary tree adds the parts up on the owner.

In round r, the core at place p + 2^r of the sum sends its part to the one at p, which adds it to its own. A core's
first addition takes its own sums out of the accumulator; a core that only sends copies them out first.

Where tiles are dealt, cores share nothing but memory and begin and end with a kernel: another kernel adds the parts up,
launched when all of them are there, and its first loads look for them in the cache. Here it adds those of the last
wave; those of earlier ones are added on the way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sim.cost.estimate import BUFFER_SLOTS
from sim.cost.work import PARTS_ADDED, vector_tile_cycles
from sim.hw.cache import Cache
from sim.hw.calibration import Calibration
from sim.mapping.table import COMPUTE
from sim.mapping.template import Round
from sim.program import Kind

if TYPE_CHECKING:
    from sim.mapping.emit import Emitter
    from sim.mapping.skeleton import Builder

Int64 = npt.NDArray[np.int64]

PARTS_AND_SUM = 2
"""Tensors of the kernel that adds up parts."""

FIRST_PHASE = COMPUTE + 1
"""Phase of the first round within an iteration; each round takes two."""


class SplitSum:
    """Adds the rounds of one step to a skeleton, round r as the groups copy{r} (where there are leaves), send{r} and
    add{r}."""

    def __init__(self, step: Builder) -> None:
        self.step, self.loops, self.batch = step, step.loops, step.batch
        self.rounds: list[Round] = []
        deal = step.step.tiling.deal
        self.adds = deal is not None and deal.adds
        self.launch: Int64 | None = None

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
        if self.adds and self.launch is None:
            self.launch = self._launch(copies)
        queue = self.step.queue("send", send_channel(number, self.step.kind.dma.channels))[senders][:, None]
        shape = len(senders), len(last)
        sends = self.batch.add(f"send{number}", Kind.SEND, phase, shape, iteration=last, queue=queue)
        self.batch.edge(sends, ready[senders])
        if self.launch is not None:
            self.batch.edge(sends[:, -1], self.launch)
        adds = self.step.vector(f"add{number}", phase + 1, last, receivers)
        self.batch.edge(adds, sends)
        fresh = ready[receivers, 0] < 0
        self.batch.edge(adds[~fresh], ready[receivers[~fresh]])
        empties[receivers[fresh]] = adds[fresh]
        ready[receivers] = adds
        return Round(senders, receivers, leaves, copies, sends, adds, fresh)

    def _launch(self, copies: Int64 | None) -> Int64:
        """The launch of the kernel that adds: when every sum is there, and the first parts are where they are read."""
        last, queue = self.loops.result_last[-1:], self.step.fabric.queue("dispatch")
        launch = self.batch.add("launch", Kind.BARRIER, FIRST_PHASE, (1,), iteration=last, queue=queue)
        self.batch.edge(launch, self.step.main[:, last[0]])
        if copies is not None:
            self.batch.edge(launch, copies[:, -1])
        return launch

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


def adding_launch_ps(calibration: Calibration) -> int:
    """Launch of the kernel that adds up the parts of dealt tiles; at least a tick, as of every kernel."""
    return max(1, calibration.launch_ps(PARTS_AND_SUM, contraction=False))


def read_again_ps(cache: Cache | None) -> int:
    """What a first load takes longer than a send from core to core: it finds its part in the cache, if there is one."""
    return cache.latency_ps if cache is not None else 0


def emit_rounds(step: Emitter, elements: Int64, sums: Int64) -> None:
    """Durations, bytes and ways of the rounds: `elements` and `sums` (bytes) of every result tile, [cores, tiles]."""

    def one_pass(name: str, function: str, positions: Int64, moved: Int64, fresh: npt.NDArray[np.bool_]) -> None:
        """One pass over the sums of the cores at `positions`, whose scratchpads move `moved` parts [positions] for it;
        `fresh` ones still have their own in the accumulator."""
        part, passes = sums[positions], {function: 1.0}
        taken = np.where(fresh, 1, 0)[:, None] * part
        step.vector(name, vector_tile_cycles(elements[positions], passes, step.kind, moved[:, None] * part, taken))

    dealt = step.step.tiling.deal is not None
    cores = step.loops.cores
    later_ps = np.zeros(sums.shape[1], np.int64)  # of the first sends, by tile
    if "launch" in step.skeleton.groups:
        launch_ps = adding_launch_ps(step.kind.calibration)
        step.set("launch", launch_ps, launch_ps)
        later_ps[-1] = read_again_ps(step.chip.cache)
    for number, found in enumerate(step.skeleton.rounds):
        if len(found.leaves):
            every = np.ones(len(found.leaves), np.int64)
            one_pass(f"copy{number}", "copy", found.leaves, every, every > 0)
        channel = send_channel(number, step.kind.dma.channels)
        ends = zip(cores[found.senders].tolist(), cores[found.receivers].tolist(), strict=True)
        path, latency = np.array([step.send(*pair, channel) for pair in ends], np.int64).T
        head_ps = latency[:, None] + (later_ps if number == 0 else 0)
        step.set(f"send{number}", 1, head_ps, sums[found.senders], path[:, None])
        # A GPU's threads keep their sums in registers from one addition to the next.
        fresh = found.fresh | dealt
        one_pass(f"add{number}", "add", found.receivers, np.where(fresh, PARTS_ADDED - 1, PARTS_ADDED), fresh)
