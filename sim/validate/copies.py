"""Copies from the DRAM to a scratchpad, as a profiler sees them: the loads of an operator, without what follows.

No operator of a model does this alone. An element function of the same tensor is lowered, and the engine is given its
launch and its loads: the tiles, DMA queues and DRAM patterns are those of any operator, and a load waits for no slot.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sim.graph.graph import Graph
from sim.hw.chip import Chip
from sim.mapping.mapper import map_graph
from sim.program import Kind, Program, Segment
from sim.units import PS_PER_S

COPY_TENSORS = 2
"""A copy reads one tensor and writes one: what its launch is told."""


def copy_s(graph: Graph, chip: Chip) -> float:
    """Seconds from the launch of the graph's operator until its last load has arrived."""
    from sim.engine import run

    program = map_graph(graph, chip)
    timeline = run(loads_only(program), "compiled")
    return float(timeline.latency_ps) / PS_PER_S


def loads_only(program: Program) -> Program:
    """The program's launches and loads; what these waited for besides is gone."""
    return replace(program, segments=tuple(_loads(segment, program) for segment in program.segments))


def _loads(segment: Segment, program: Program) -> Segment:
    dispatched = np.array([queue.unit == "dispatch" for queue in program.queues], np.bool_)
    kept = (segment.kind == Kind.LOAD) | dispatched[segment.queue]
    number = np.cumsum(kept) - 1
    owner = np.repeat(np.arange(segment.tasks), np.diff(segment.pptr))
    edges = kept[owner] & kept[segment.pidx]
    counts = np.bincount(number[owner[edges]], minlength=int(kept.sum()))
    names = ("kind", "queue", "hold", "dur", "nbytes", "route", "release", "op")
    columns = {name: getattr(segment, name)[kept] for name in names}
    return replace(
        segment,
        **columns,
        pptr=np.concatenate([[0], np.cumsum(counts)]).astype(np.int32),
        pidx=number[segment.pidx[edges]].astype(np.int32),
        probes=None,
    )
