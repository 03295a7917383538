"""Operators that nobody needs."""

from __future__ import annotations

from sim.graph.graph import Graph


def remove_dead(graph: Graph) -> Graph:
    """Drop operators from which no output can be reached. Writing a state counts as an output."""
    needed = set(graph.outputs)
    kept = []
    for op in reversed(graph.ops):
        if op.kind == "cache_update" or op.result in needed:
            needed.update(op.operands)
            kept.append(op)
    return graph if len(kept) == len(graph.ops) else graph.with_ops(reversed(kept))
