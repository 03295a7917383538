"""Reductions to a few numbers are made in two steps, as compilers and libraries make them.

One lane reduces what becomes one number, so a sum of a whole tensor would leave all lanes but one idle. First every one
of many parts is reduced, by lanes side by side and on all cores, then what they found (as CUB's device-wide reduction,
which the libraries of GPUs use, does in two passes).
"""

from __future__ import annotations

import math
from dataclasses import replace

from sim.graph.graph import Graph
from sim.graph.op import Op
from sim.graph.tensor import Tensor

FEW_RESULTS = 64
"""A reduction to as many numbers or more has work for lanes."""

LEAST_WINDOW = 256
"""Elements of a number from which on a second operator costs less than it saves."""

MOST_PARTS = 1024
"""Parts of all numbers together: lanes of several cores."""

_SPLIT = frozenset({"sum", "mean", "max", "min", "prod"})


def split_reductions(graph: Graph) -> Graph:
    """Reductions of whole tensors, and along an axis of a matrix, to fewer than FEW_RESULTS numbers of LEAST_WINDOW
    elements or more each, in two steps of equal parts; a mean is the mean of means. Those whose length has no divisor
    are left."""
    tensors = dict(graph.tensors)
    ops = [step for op in graph.ops for step in _steps(op, tensors)]
    return graph if len(ops) == len(graph.ops) else replace(graph, tensors=tensors).with_ops(ops)


def _steps(op: Op, tensors: dict[str, Tensor]) -> tuple[Op, ...]:
    """The operator, or what takes its place; adds the tensors between."""
    if op.kind != "reduce" or op["function"] not in _SPLIT or op.epilogue:
        return (op,)
    x, out = tensors[op.inputs[0]], tensors[op.output]
    whole = len(op["axes"]) == len(x.shape)
    if not (whole or len(x.shape) == 2) or out.elements >= FEW_RESULTS or x.elements // out.elements < LEAST_WINDOW:
        return (op,)
    shape, axis = ((x.elements,), 0) if whole else (x.shape, op["axes"][0])
    parts = _parts(shape[axis], MOST_PARTS // out.elements)
    if parts == 1:
        return (op,)
    cut = (*shape[:axis], parts, shape[axis] // parts, *shape[axis + 1 :])
    # The rank that the result has with its axes kept.
    between = (parts, *(1,) * (len(x.shape) - 1)) if whole else (*shape[:axis], parts, *shape[axis + 1 :])
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
    if whole and not op["keepdims"] and len(between) > 1:
        # All other axes are 1 by now, and go too.
        second["axes"] = tuple(range(len(between)))
    return (*steps, replace(op, inputs=(names[-1],), attributes=second))


def _parts(length: int, most: int) -> int:
    """The largest divisor of a length that is at most `most` and leaves two elements or more."""
    return max(part for part in range(1, max(1, min(most, math.isqrt(length))) + 1) if length % part == 0)


def _add(name: str, like: Tensor, shape: tuple[int, ...], tensors: dict[str, Tensor]) -> str:
    while name in tensors:
        name += "'"
    tensors[name] = replace(like, name=name, shape=shape)
    return name
