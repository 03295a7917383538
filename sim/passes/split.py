"""Reductions to a few numbers are made in two steps, as compilers and libraries make them.

One lane reduces what becomes one number, so a sum of a whole tensor would leave all lanes but one idle. First every one
of many parts is reduced, by lanes side by side and on all cores, then what they found (as CUB's device-wide reduction,
which the libraries of GPUs use, does in two passes).
"""

from __future__ import annotations

import math
from dataclasses import replace

from sim.graph.graph import Graph
from sim.graph.nest import channels_last
from sim.graph.op import Op
from sim.graph.tensor import Tensor

FEW_RESULTS = 64
"""A reduction to as many numbers or more has work for lanes."""

LEAST_WINDOW = 256
"""Elements of a number from which on a second operator costs less than it saves."""

MOST_PARTS = 1024
"""Parts of all numbers together: lanes of several cores."""

LONG_PART = 1 << 14
"""Elements of a part, which stays whole, from which on there are more parts: they shall fit into scratchpads."""

_SPLIT = frozenset({"sum", "mean", "max", "min", "prod"})


def split_reductions(graph: Graph) -> Graph:
    """Reductions of whole tensors, and along axes that follow each other, to fewer than FEW_RESULTS numbers of
    LEAST_WINDOW elements or more each, in two steps of equal parts; a mean is the mean of means. Those whose length has
    no divisor are left, and those along some axes of a tensor that is kept channels-last: they do not follow each other
    in memory."""
    tensors = dict(graph.tensors)
    few = any(_splits(op, tensors) for op in graph.ops)
    last = channels_last(graph) if few else frozenset()
    ops = [step for op in graph.ops for step in _steps(op, tensors, last)]
    return graph if len(ops) == len(graph.ops) else replace(graph, tensors=tensors).with_ops(ops)


def _splits(op: Op, tensors: dict[str, Tensor]) -> bool:
    """Is it a reduction along axes that follow each other, of many elements to few numbers?"""
    if op.kind != "reduce" or op["function"] not in _SPLIT or op.epilogue:
        return False
    if op["axes"] != tuple(range(op["axes"][0], op["axes"][-1] + 1)):
        return False
    many, few = tensors[op.inputs[0]].elements, tensors[op.output].elements
    return few < FEW_RESULTS and many // few >= LEAST_WINDOW


def _steps(op: Op, tensors: dict[str, Tensor], last: frozenset[str]) -> tuple[Op, ...]:
    """The operator, or what takes its place; adds the tensors between."""
    if not _splits(op, tensors):
        return (op,)
    x, out = tensors[op.inputs[0]], tensors[op.output]
    axis, several = op["axes"][0], len(op["axes"])
    if x.name in last and several < len(x.shape):
        return (op,)
    before, after = x.shape[:axis], x.shape[axis + several :]
    length = x.elements // math.prod((*before, *after))
    parts = _parts(length, max(MOST_PARTS // out.elements, length // LONG_PART))
    if parts == 1:
        return (op,)
    cut = (*before, parts, length // parts, *after)
    # The rank that the result has with its axes kept.
    between = (*before, parts, *(1,) * (several - 1), *after)
    names = [_add(f"{op.output}.{part}", replace(x, role="activation"), wide, tensors) for part, wide in (
        ("parts", cut), ("partial", (*cut[: axis + 1], *cut[axis + 2 :])),
    )]  # fmt: skip
    first = {"function": op["function"], "axes": (axis + 1,), "keepdims": False}
    steps = [
        Op(names[0], "reshape", op.inputs, names[0], {"shape": cut}, block=op.block),
        Op(names[1], "reduce", (names[0],), names[1], first, block=op.block),
    ]
    if tensors[names[1]].shape != between:
        names.append(_add(f"{op.output}.partials", tensors[names[1]], between, tensors))
        steps.append(Op(names[2], "reshape", (names[1],), names[2], {"shape": between}, block=op.block))
    second = {**op.attributes, "axes": (axis,)}
    if not op["keepdims"]:
        # The other axes are 1 by now, and go too.
        second["axes"] = op["axes"]
    return (*steps, replace(op, inputs=(names[-1],), attributes=second))


def _parts(length: int, most: int) -> int:
    """The largest divisor of a length that is at most `most` and leaves two elements or more."""
    return max(part for part in range(1, max(1, min(most, math.isqrt(length))) + 1) if length % part == 0)


def _add(name: str, like: Tensor, shape: tuple[int, ...], tensors: dict[str, Tensor]) -> str:
    while name in tensors:
        name += "'"
    tensors[name] = replace(like, name=name, shape=shape)
    return name
