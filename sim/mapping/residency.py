"""Which results stay in the scratchpads, where exactly, and whether there is room for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from sim.cost.estimate import aligned
from sim.graph.nest import Nest
from sim.graph.tensor import DTYPE_BITS
from sim.mapping.memo import Recent
from sim.mapping.step import Step

Int64 = npt.NDArray[np.int64]

KEPT_SHARE = 0.5
"""Share of a scratchpad that kept results may fill; the rest is for buffers."""


@dataclass(frozen=True)
class Boxes:
    """Per core of the chip the box of a tensor it touches or holds: `start`, `stop` [cores, rank] in the shape
    `shape`; `held` [cores] says on which cores there is one."""

    shape: tuple[int, ...]
    start: Int64
    stop: Int64
    held: npt.NDArray[np.bool_]

    @cached_property
    def key(self) -> tuple[object, ...]:
        """The boxes as a hashable value."""
        return self.shape, self.start.tobytes(), self.stop.tobytes(), self.held.tobytes()

    @cached_property
    def intervals(self) -> tuple[Int64, Int64, npt.NDArray[np.bool_]]:
        """(first, one past the last, contiguous?) element of each box in row-major order."""
        first, stop = linear_hull(self.start, self.stop, self.shape)
        return first, stop, stop - first == (self.stop - self.start).prod(axis=-1)

    @cached_property
    def most_elements(self) -> int:
        """Elements of the largest box."""
        return int((self.stop - self.start).prod(axis=1)[self.held].max())


_NOWHERE = np.zeros(0, np.int64)
_NO_INTERVALS: tuple[Int64, Int64, npt.NDArray[np.bool_]] = _NOWHERE, _NOWHERE, np.zeros(0, np.bool_)


def linear_hull(start: Int64, stop: Int64, shape: tuple[int, ...]) -> tuple[Int64, Int64]:
    """First element and one past the last, in row-major order, of boxes [..., rank]."""
    strides = (
        np.cumprod([1, *shape[:0:-1]], dtype=np.int64)[::-1][: len(shape)] if shape else np.zeros(0, np.int64)
    )
    first = (start * strides).sum(axis=-1)
    return first, ((stop - 1) * strides).sum(axis=-1) + 1


def core_boxes(
    operand: int,
    nest: Nest,
    splits: tuple[int, ...],
    quanta: tuple[int, ...],
    cores: tuple[int, ...],
    total: int,
) -> Boxes:
    """The box of operand number `operand` (the result is the last) that each core touches when the nest is split like
    this over `cores` (in grid order), which are some of `total`."""
    from sim.cost.boxes import fill_core_boxes
    from sim.cost.compiled import tables_of

    tensor = (*nest.operands, nest.out)[operand].tensor
    rank = len((*nest.operands, nest.out)[operand].axes)
    start, stop = np.zeros((total, rank), np.int64), np.zeros((total, rank), np.int64)
    held = np.zeros(total, np.bool_)
    cut = np.array(splits, np.int64), np.array(quanta, np.int64), _table(cores)
    fill_core_boxes(tables_of(nest), operand, *cut, start, stop, held)
    return Boxes(tensor.shape, start, stop, held)


def add_in_place(
    operand: int,
    nest: Nest,
    splits: Int64,
    quanta: Sequence[tuple[int, ...]],
    cores: tuple[int, ...],
    kept: Boxes,
    masks: Int64,
) -> None:
    """Set the operand's bit in `masks` [partitions] where every core finds its box of the operand inside its box of
    `kept`, whichever of the granules `quanta` the cuts have. Across a reshape, only contiguous boxes of `kept` can
    answer."""
    from sim.cost.boxes import in_place
    from sim.cost.compiled import tables_of

    same = nest.operands[operand].tensor.shape == kept.shape
    intervals = _NO_INTERVALS if same else kept.intervals
    cut = splits, _table(tuple(quanta)), _table(cores)
    in_place(tables_of(nest), operand, *cut, same, kept.start, kept.stop, kept.held, *intervals, masks)


_RESULTS: Recent[object, Boxes] = Recent(1 << 13)


def result_boxes(step: Step, quanta: tuple[int, ...], total: int) -> Boxes:
    """The boxes of a step's result on the cores of a chip (`total` of them), cut over cores at these granules."""
    nest, splits = step.nest, step.tiling.splits
    key = step.signature, nest.out.tensor.shape, splits, quanta, step.cores, total
    found = _RESULTS.get(key)
    if found is None:
        found = _RESULTS[key] = core_boxes(len(nest.operands), nest, splits, quanta, step.cores, total)
    return found


@lru_cache(maxsize=1 << 12)
def _table(rows: tuple[object, ...]) -> Int64:
    """Whole numbers as an array, made once."""
    return np.array(rows, np.int64)


@dataclass
class Kept:
    """A result as its producer leaves it: who made it when, and until which step it is kept (none yet: -1)."""

    boxes: Boxes
    kind: int
    segment: int
    made: int
    size_bytes: int
    until: int = -1


class _Room:
    """Bytes taken in every step on the cores of a kind: by kept results, and by buffers too. Sums and largest values of
    whole ranges of steps are NumPy's: results of deep models stay over thousands of steps."""

    def __init__(self) -> None:
        self.held, self.need = np.zeros((2, 64), np.int64)

    def reach(self, step: int) -> None:
        """Have a place for a step."""
        if step >= len(self.held):
            wider = np.zeros((2, 2 * step), np.int64)
            wider[:, : len(self.held)] = self.held, self.need
            self.held, self.need = wider

    def hold(self, first: int, last: int, size_bytes: int) -> None:
        """From step `first` to step `last` so many more bytes of kept results (none where the last is before the
        first)."""
        if first <= last:
            self.reach(last)
            self.held[first : last + 1] += size_bytes
            self.need[first : last + 1] += size_bytes

    def most(self, first: int, last: int) -> int:
        """The most bytes taken in any step from `first` to `last`; 0 where there is none."""
        return int(np.maximum.reduce(self.need[first : last + 1], initial=0)) if first <= last else 0


@dataclass
class Residency:
    """The ledger: results that could stay, those that do, and the room of each step.

    `capacity` is the scratchpad of each core kind; `streaming[step]` (kind, bytes) the buffers of a planned step, told
    by `planned`.
    """

    capacity: tuple[int, ...]
    banned: frozenset[str] = frozenset()
    results: dict[str, Kept] = field(default_factory=dict)
    streaming: list[tuple[int, int]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._rooms = [_Room() for _ in self.capacity]

    def planned(self, kind: int, buffers_bytes: int) -> None:
        """The next step is planned: on cores of a kind, with so many bytes of buffers."""
        room, step = self._rooms[kind], len(self.streaming)
        room.reach(step)
        room.need[step] += buffers_bytes
        self.streaming.append((kind, buffers_bytes))

    def made(self, root: str, boxes: Boxes, dtype: str, kind: int, segment: int) -> None:
        """The step planned last wrote `root`, box by box."""
        if root in self.banned:
            return
        size = aligned(-(-boxes.most_elements * DTYPE_BITS[dtype] // 8))
        self.forget(root)
        self.results[root] = Kept(boxes, kind, segment, len(self.streaming) - 1, size)

    def forget(self, root: str) -> None:
        """The result, if there is one, stays nowhere."""
        kept = self.results.pop(root, None)
        if kept is not None:
            self.hold(kept.kind, kept.made, kept.until, -kept.size_bytes)

    def held_bytes(self, step: int, kind: int) -> int:
        """Bytes of results kept over a step on cores of a kind."""
        held = self._rooms[kind].held
        return int(held[step]) if step < len(held) else 0

    def hold(self, kind: int, first: int, last: int, size_bytes: int) -> None:
        """So many more bytes of results are kept on cores of a kind, from one step to another."""
        self._rooms[kind].hold(first, last, size_bytes)

    def candidate(self, root: str, kind: int, segment: int) -> Kept | None:
        """The result, if the step to be planned next may read it in place as far as room goes."""
        kept = self.results.get(root)
        if kept is None or kept.kind != kind or kept.segment != segment:
            return None
        now, capacity = len(self.streaming), self.capacity[kind]
        own = kept.size_bytes if kept.until >= now else 0
        if self.held_bytes(now, kind) - own + kept.size_bytes > capacity * KEPT_SHARE:
            return None
        before = self._rooms[kind].most(max(kept.made, kept.until + 1), now - 1)
        return None if before + kept.size_bytes > capacity else kept

    def keep_until(self, root: str, last: int) -> bool:
        """Keep a result until a step that is planned already, if there is room for it; is there?"""
        kept = self.results[root]
        most = self._rooms[kept.kind].most(max(kept.made, kept.until + 1), last)
        if most + kept.size_bytes > self.capacity[kept.kind]:
            return False
        self.read_in_place(root, last)
        return True

    def reserve(self, root: str) -> None:
        """Keep the place of a kept result free before it is made, if there is room: who takes it from there need not be
        through when the model runs again."""
        kept = self.results[root]
        if self._rooms[kept.kind].most(0, kept.made - 1) + kept.size_bytes > self.capacity[kept.kind]:
            return
        self.hold(kept.kind, 0, kept.made - 1, kept.size_bytes)
        kept.made = 0

    def read_in_place(self, root: str, step: int) -> None:
        """A step reads the result where it lies: keep it until then."""
        kept = self.results[root]
        if step > kept.until:
            self.hold(kept.kind, max(kept.made, kept.until + 1), step, kept.size_bytes)
            kept.until = step
