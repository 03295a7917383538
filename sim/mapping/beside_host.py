"""Inputs and results that pass between the host and the scratchpad of a chip's only core (`host.into: scratchpad`).

An input is like a result that was there before the first step; a result that the host takes is like one that is read
after the last. Both stay where there is room for them until then, and go through the DRAM otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np

from sim.cost.estimate import aligned
from sim.graph.graph import Graph
from sim.hw.chip import Chip
from sim.mapping.residency import Boxes, Kept, Residency
from sim.mapping.segments import Segments


def at_hand(graph: Graph, chip: Chip, segments: Segments) -> bool:
    """Do the model's inputs come into the scratchpad? Not those of a kernel, which lie in DRAM, nor of a model with
    repeated blocks: nothing stays from one to the next."""
    beside = chip.host is not None and chip.host.into == "scratchpad" and chip.cores[0].sram.keeps_results
    return beside and not graph.kernel and len(segments.names) == 1


def bring_inputs(graph: Graph, residency: Residency) -> None:
    """Enter the inputs as results that the first step finds."""
    for name in graph.inputs:
        tensor = graph.tensors[name]
        if name not in residency.banned:
            whole = np.array([tensor.shape], np.int64)
            boxes = Boxes(tensor.shape, np.zeros_like(whole), whole, np.ones(1, np.bool_))
            residency.results[name] = Kept(boxes, 0, 0, 0, aligned(tensor.size_bytes))


def half_at_hand(graph: Graph, residency: Residency, elsewhere: Collection[str]) -> frozenset[str]:
    """Inputs that some steps read in place and others, or the host, from the DRAM (`elsewhere`): they come there."""
    kept = (name for name in graph.inputs if name in residency.results and residency.results[name].until >= 0)
    return frozenset(name for name in kept if name in elsewhere)


def keep_for_host(
    graph: Graph, residency: Residency, root: Callable[[str], str], from_dram: Collection[str]
) -> frozenset[str]:
    """Let inputs and results stay until the end, where there is room: the next input of the model then comes while this
    one is worked on. Returns the results that the host finds in the scratchpad."""
    last = len(residency.streaming) - 1
    for name in graph.inputs:
        if name in residency.results and residency.results[name].until >= 0:
            residency.keep_until(name, last)
    found = set()
    for name in {root(output) for output in graph.outputs} - set(graph.inputs):
        if name in residency.results and name not in from_dram and residency.keep_until(name, last):
            residency.reserve(name)
            found.add(name)
    return frozenset(found)
