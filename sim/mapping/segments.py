"""Repeated blocks: which operators are lowered once and run several times."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sim.graph.graph import Graph
from sim.graph.op import Op


@dataclass(frozen=True, slots=True)
class Segments:
    """The segment of every operator (-1: a repeat of one already lowered), and how often each segment runs."""

    of_op: tuple[int, ...]
    names: tuple[str, ...]
    repeats: tuple[int, ...]


def one_segment(graph: Graph) -> Segments:
    """Everything in one piece, without barriers."""
    return Segments((0,) * len(graph.ops), (graph.name,), (1,))


def find_segments(graph: Graph, *, unroll: bool = False) -> Segments:
    """Cut at the borders of blocks; consecutive blocks that compute the same on tensors of the same shapes become
    one segment with a count. With `unroll` every block is a segment of its own. Without blocks: one segment."""
    if not any(op.block >= 0 for op in graph.ops):
        return one_segment(graph)
    of_op: list[int] = []
    names: list[str] = []
    repeats: list[int] = []
    before: object = None
    for block, first, last in runs_of_blocks(graph):
        shape = block_signature(graph, first, last) if block >= 0 else None
        if shape is not None and shape == before and not unroll:
            repeats[-1] += 1
            of_op += [-1] * (last - first)
            continue
        of_op += [len(names)] * (last - first)
        names.append(f"block {block}" if block >= 0 else f"part {len(names)}")
        repeats.append(1)
        before = shape
    return Segments(tuple(of_op), tuple(names), tuple(repeats))


def runs_of_blocks(graph: Graph) -> Iterator[tuple[int, int, int]]:
    """(block, first operator, one past the last) of each run of operators of one block."""
    first = 0
    for index in range(1, len(graph.ops) + 1):
        if index == len(graph.ops) or graph.ops[index].block != graph.ops[first].block:
            yield graph.ops[first].block, first, index
            first = index


def block_signature(graph: Graph, first: int, last: int) -> tuple[object, ...]:
    """What a block computes, without names: two blocks with equal signatures take equal time from idle."""
    local: dict[str, tuple[str, int]] = {}

    def source(name: str) -> tuple[object, ...]:
        tensor = graph.tensors[name]
        # The order of first use tells apart two outer tensors of one shape.
        place = local.setdefault(name, ("outer", len(local)))
        return (*place, tensor.shape, tensor.dtype, tensor.role)

    def shape(op: Op) -> tuple[object, ...]:
        inputs = tuple(source(name) for name in op.inputs)
        fused = tuple(shape(step) for step in op.epilogue)
        local[op.output] = ("inner", len(local))
        out = graph.tensors[op.output]
        return (op.kind, tuple(sorted(op.attributes.items())), inputs, fused, out.shape, out.dtype)

    return tuple(shape(op) for op in graph.ops[first:last])
