"""One run of a segment as all checks and tables read it: what several of them need is worked out once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from sim.cost.traffic import Traffic, operator_traffic
from sim.cost.transfers import LinkWork, Routes, by_slower_way, link_work, sums
from sim.program import Int64, Program, Segment
from sim.report.causes import previous_in_queue
from sim.timeline import Probed


@dataclass(frozen=True)
class Ran:
    """A segment of a program whose probes found this (None: nothing looks into a cache, or nothing was there)."""

    program: Program
    segment: Segment
    routes: Routes
    probed: Probed | None

    @cached_property
    def _bytes(self) -> tuple[LinkWork, Traffic]:
        """Both from the sums of what moved."""
        moves = sums(self.segment, len(self.routes.rate), self.probed)
        links = link_work(self.program, self.segment, self.probed, moves)
        return links, operator_traffic(self.program, self.segment, self.routes, self.probed, moves)

    @property
    def links(self) -> LinkWork:
        """Bytes over every link by operator."""
        return self._bytes[0]

    @property
    def traffic(self) -> Traffic:
        """Bytes at every level of the memory system by operator."""
        return self._bytes[1]

    @cached_property
    def slower(self) -> Segment:
        """Transfers by the way that explains their duration."""
        return by_slower_way(self.segment, self.probed, self.routes)

    @cached_property
    def previous(self) -> Int64:
        """The task before each task in its queue, -1 for the first."""
        return previous_in_queue(self.segment)
