"""Operators whose operands are exchanged with other chips: what they need of a chip, and what it adds to a tiling."""

from __future__ import annotations

from dataclasses import replace

from sim.errors import Diagnostic, InputError
from sim.graph.graph import Graph
from sim.graph.nest import Nest
from sim.hw.chip import Chip
from sim.hw.links import exchanged_share
from sim.mapping.search import Tiling
from sim.units import PS_PER_S


def check_links(graph: Graph, chip: Chip) -> None:
    """Refuse a model that exchanges data with other chips on a chip without links to them. Raises InputError."""
    found = next((op for op in graph.ops if op.kind == "all_reduce"), None)
    if found is not None and chip.links is None:
        message = f"operator {found.name} adds up over {found['chips']} chips, but chip '{chip.name}' has no links"
        hint = "give the chip file a block like `links: {count: 12, bandwidth: 25 GB/s}`"
        raise InputError(Diagnostic(message, hint=hint))


def with_exchange(nest: Nest, chip: Chip, tiling: Tiling) -> Tiling:
    """The tiling with an estimate that has the links in it, where the nest needs them: as fast as the slower of them
    and everything else, after the first sum has gone round. It does not tell which tiling is best: none changes it."""
    if nest.chips == 1:
        return tiling
    assert chip.links is not None
    sent_bytes = nest.operands[0].size_bytes * exchanged_share(nest.chips)
    moving_s = max(tiling.latency_s, sent_bytes / chip.links.total_bandwidth_bytes_per_s)
    return replace(tiling, latency_s=moving_s + chip.links.ring_latency_ps(nest.chips) / PS_PER_S, kept_s=None)
