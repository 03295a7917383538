"""Placement of buffers by liveness, in a scratchpad or in DRAM."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from operator import sub

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


@dataclass(frozen=True, slots=True)
class DramLayout(Layout):
    """A layout that is there for the first of back-to-back inputs. They take turns at `copies` of a tensor, one for
    what is not named."""

    copies: Mapping[str, int]

    def turn_bytes(self, name: str, number: int) -> int:
        """How far behind that of the first input a tensor of input `number` lies."""
        return number % self.copies.get(name, 1) * self.peak_bytes


def place(
    spans: Sequence[Span], capacity_bytes: int, *, alternate: bool = False, base_bytes: int = 0
) -> tuple[Layout, str | None]:
    """First fit above `base_bytes`, long-lived spans first. With `alternate`, spans of a single step are placed
    from the bottom in even steps and from the top in odd ones, so that the next step's buffers can fill while this
    one still works.

    Returns the layout and the name of the first span that found no room (None when all did).
    """
    order = sorted(spans, key=lambda s: (s.last == s.first, s.first, -s.size_bytes, s.name))
    begins: dict[int, list[Span]] = defaultdict(list)
    for span in order:
        begins[span.first].append(span)
    holes = _Holes(base_bytes, capacity_bytes)
    address: dict[str, int] = {}
    ends: list[tuple[int, int, int]] = []  # (last step, address, bytes) of what lives on, those that end first at front
    live = most_live = peak = base_bytes
    for step in sorted(begins):
        while ends and ends[0][0] < step:
            _, spot, size = heappop(ends)
            holes.free(spot, size)
            live -= size
        # Spans that live on know nothing of those of a single step, which come behind them in the order.
        for span in begins[step]:
            size = aligned(span.size_bytes)
            downward = alternate and span.last == step and step % 2 == 1
            found = holes.take(size, downward=downward) if size else base_bytes
            if found is not None:
                address[span.name] = found
            if found is not None and size:
                live += size
                heappush(ends, (span.last, found, size))
                peak = peak if alternate else max(peak, found + size)
        # Something always begins where most is taken.
        most_live = max(most_live, live)
        peak = max(peak, capacity_bytes - holes.widest) if alternate else peak
    placed = {span.name: address[span.name] for span in order if span.name in address}
    failed = next((span.name for span in order if span.name not in address), None)
    return Layout(placed, {span.name: span.size_bytes for span in spans}, max(peak, most_live), most_live), failed


class _Holes:
    """Free memory between two addresses, as holes that do not touch, by rising address."""

    def __init__(self, bottom: int, top: int) -> None:
        self.bottoms, self.tops = ([bottom], [top]) if bottom < top else ([], [])

    @property
    def widest(self) -> int:
        """Bytes of the largest hole."""
        return max(map(sub, self.tops, self.bottoms), default=0)

    def take(self, size: int, *, downward: bool) -> int | None:
        """The lowest (or highest) aligned start of `size` free bytes, which are free no more; None where no hole is so
        large."""
        places = range(len(self.bottoms))
        for at in reversed(places) if downward else places:
            bottom, top = self.bottoms[at], self.tops[at]
            if top - bottom >= size:
                spot = (top - size) // ALIGNMENT_BYTES * ALIGNMENT_BYTES if downward else bottom
                left = [(a, b) for a, b in ((bottom, spot), (spot + size, top)) if a < b]
                self.bottoms[at : at + 1], self.tops[at : at + 1] = [a for a, _ in left], [b for _, b in left]
                return spot
        return None

    def free(self, spot: int, size: int) -> None:
        """Give back what was taken."""
        at = bisect_left(self.bottoms, spot)
        bottom, top = spot, spot + size
        before = at > 0 and self.tops[at - 1] == bottom
        behind = at < len(self.bottoms) and self.bottoms[at] == top
        first, last = at - before, at + behind
        bottom = self.bottoms[first] if before else bottom
        top = self.tops[last - 1] if behind else top
        self.bottoms[first:last], self.tops[first:last] = [bottom], [top]
