"""Placement of buffers by liveness, in a scratchpad or in DRAM."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sim.cost.estimate import ALIGNMENT_BYTES, aligned


@dataclass(frozen=True, slots=True)
class Span:
    """A buffer that is live from step `first` to step `last`, both included."""

    name: str
    size_bytes: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Where every span was placed, and how well: `peak_bytes` is the highest address used, `live_bytes` the most
    bytes live at once; fragmentation is the part of the peak that liveness does not explain."""

    address_bytes: dict[str, int]
    size_bytes: dict[str, int]
    peak_bytes: int
    live_bytes: int

    @property
    def fragmentation(self) -> float:
        return 1.0 - self.live_bytes / self.peak_bytes if self.peak_bytes else 0.0


def place(
    spans: Sequence[Span], capacity_bytes: int, *, alternate: bool = False, base_bytes: int = 0
) -> tuple[Layout, str | None]:
    """First fit above `base_bytes`, long-lived spans first. With `alternate`, spans of a single step are placed
    from the bottom in even steps and from the top in odd ones, so that the next step's buffers can fill while this
    one still works.

    Returns the layout and the name of the first span that found no room (None when all did).
    """
    by_step: dict[int, list[tuple[int, int]]] = defaultdict(list)
    address: dict[str, int] = {}
    order = sorted(spans, key=lambda s: (s.last == s.first, s.first, -s.size_bytes, s.name))
    failed: str | None = None
    for span in order:
        # Those before it in the order began no later, or live for a single step: what it meets at all, it meets first.
        taken = sorted(by_step[span.first])
        size = aligned(span.size_bytes)
        downward = alternate and span.first == span.last and span.first % 2 == 1
        spot = _gap(taken, size, base_bytes, capacity_bytes, downward)
        if spot is None:
            failed = failed or span.name
            continue
        address[span.name] = spot
        for step in range(span.first, span.last + 1):
            by_step[step].append((spot, spot + size))
    peak, live = _peaks(by_step, base_bytes, capacity_bytes, alternate)
    return Layout(address, {span.name: span.size_bytes for span in spans}, peak, live), failed


def _peaks(
    by_step: Mapping[int, Sequence[tuple[int, int]]], base: int, capacity: int, alternate: bool
) -> tuple[int, int]:
    """(peak, live) bytes of the intervals taken in every step. Where spans are placed from both ends, the peak of a
    step is what lies outside its widest hole."""
    live = max((sum(top - bottom for bottom, top in pairs) for pairs in by_step.values()), default=0) + base
    if alternate:
        peak = max((_reach(pairs, capacity) for pairs in by_step.values()), default=0)
    else:
        peak = max((top for pairs in by_step.values() for _, top in pairs), default=base)
    return max(peak, live), live


def _reach(pairs: Iterable[tuple[int, int]], capacity: int) -> int:
    """Capacity less the widest hole left."""
    widest, at = 0, 0
    for bottom, top in sorted(pairs):
        widest, at = max(widest, bottom - at), max(at, top)
    return capacity - max(widest, capacity - at)


def _gap(taken: Sequence[tuple[int, int]], size: int, base: int, capacity: int, downward: bool) -> int | None:
    """Lowest (or highest) start of a hole of `size` bytes between the sorted, possibly touching intervals."""
    holes, at = [], base
    for bottom, top in taken:
        if bottom - at >= size:
            holes.append((at, bottom))
        at = max(at, top)
    if capacity - at >= size:
        holes.append((at, capacity))
    if not holes:
        return None
    return (holes[-1][1] - size) // ALIGNMENT_BYTES * ALIGNMENT_BYTES if downward else holes[0][0]
