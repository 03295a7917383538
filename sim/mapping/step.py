"""What planning yields: mapped loop nests and where everything lies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sim.graph.graph import Graph
from sim.graph.nest import Nest
from sim.mapping.allocate import DramLayout, Layout
from sim.mapping.memo import Hashed
from sim.mapping.search import Tiling
from sim.mapping.segments import Segments

if TYPE_CHECKING:
    from sim.mapping.caching import Caching


@dataclass(frozen=True, slots=True)
class Step:
    """One loop nest, mapped. `cores` lists the chip's cores in the order of the tiling's grid; `resident` says
    which operands are read where their producer left them; `keep` and `store` what becomes of the result;
    `available` how many cores the operator might have used; `signature` is the nest without names."""

    op: int
    nest: Nest
    tiling: Tiling
    kind: int
    cores: tuple[int, ...]
    resident: tuple[bool, ...]
    available: int
    signature: Hashed[tuple[object, ...]] = field(repr=False)
    keep: bool = False
    store: bool = True


@dataclass(frozen=True, slots=True)
class KeptResult:
    """A result that stays in the scratchpads of the cores of `kind`, from step `first` to step `last`."""

    kind: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The mapping as a value: steps in program order, the results kept in scratchpads, the scratchpad layout of
    each core kind, the DRAM layout with the last step that reads each result from there, and for every tensor
    that is a view or an update in place the tensor whose memory it is (`roots`); what goes through the cache, if the
    chip has one; `to_host`, results that the host takes from the scratchpad."""

    graph: Graph
    steps: tuple[Step, ...]
    roots: Mapping[str, str]
    kept: Mapping[str, KeptResult]
    scratchpads: tuple[Layout, ...]
    dram: DramLayout
    last_read: Mapping[str, int]
    segments: Segments
    caching: Caching | None = None
    to_host: frozenset[str] = frozenset()

    def root(self, name: str) -> str:
        """The tensor whose memory `name` is."""
        return self.roots.get(name, name)

    def dram_address(self, root: str, number: int) -> int:
        """Where a tensor of input `number` lies."""
        where = self.caching.address(root) if self.caching is not None else self.dram.address_bytes[root]
        return where + self.dram.turn_bytes(root, number)


def closed_form_s(steps: Sequence[Step], segments: Segments) -> float:
    """Seconds of all steps one after another by the closed form, repeats counted."""
    return math.fsum(step_seconds(steps, segments))


def step_seconds(steps: Sequence[Step], segments: Segments) -> list[float]:
    """Seconds of every step by the closed form, repeats counted."""
    return [step.tiling.latency_s * segments.repeats[segments.of_op[step.op]] for step in steps]
