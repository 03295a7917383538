"""Graph to Graph: what any compiler does to a model before it is mapped. Every pass keeps its meaning."""

from __future__ import annotations

from sim.graph.graph import Graph
from sim.passes.constants import fold_constants
from sim.passes.dead import remove_dead
from sim.passes.fold import fold_channel_scales
from sim.passes.fuse import fuse_epilogues
from sim.passes.quantized import multiply_integers
from sim.passes.split import split_reductions

__all__ = [
    "default_passes",
    "fold_channel_scales",
    "fold_constants",
    "fuse_epilogues",
    "multiply_integers",
    "remove_dead",
    "split_reductions",
]


def default_passes(graph: Graph) -> Graph:
    """The passes of every simulation, in the order in which each helps the next.

    Dead operators go first, so that they do not count as consumers and block a fusion; products of integers before
    constants are folded, which would turn the integers into floating-point weights; reductions are split before what
    follows is fused into their second step.
    """
    passes = (
        remove_dead, multiply_integers, remove_dead, fold_constants, fold_channel_scales, split_reductions,
        fuse_epilogues,
    )  # fmt: skip
    for run in passes:
        graph = run(graph)
    return graph
