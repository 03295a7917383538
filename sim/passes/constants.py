"""Operators on weights alone are computed once, when the model is compiled, and become weights."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.graph.evaluate import apply_epilogue, evaluate_op
from sim.graph.graph import Graph
from sim.graph.op import Op
from sim.graph.tensor import Tensor

_REARRANGING = frozenset({"reshape", "transpose", "slice"})
"""Kinds whose result is a weight of the same numbers, known or not."""

_SMALL_ELEMENTS = 1 << 16


def fold_constants(graph: Graph) -> Graph:
    """Turn results of weights into weights.

    Needs the numbers of all operands, except where an operator only rearranges or casts them. An operator whose
    result is larger than all it reads (a broadcast, a lookup that repeats rows) is left to run, unless small:
    keeping the result would cost more memory traffic than it saves.
    """
    tensors, values = dict(graph.tensors), dict(graph.values)
    kept = []
    for op in graph.ops:
        if not _foldable(op, tensors, values):
            kept.append(op)
            continue
        tensors[op.result] = replace(tensors[op.result], role="weight")
        if all(name in values for name in op.operands):
            values[op.result] = _fold(op, values)
    if len(kept) == len(graph.ops):
        return graph
    return replace(graph, tensors=tensors, values=values, ops=tuple(kept)).with_ops(kept)


def _foldable(op: Op, tensors: dict[str, Tensor], values: dict[str, npt.NDArray[Any]]) -> bool:
    if any(tensors[name].role != "weight" for name in op.operands):
        return False
    rearranges = op.kind in _REARRANGING or op.attributes.get("function") == "cast"
    if not (rearranges and not op.epilogue) and any(name not in values for name in op.operands):
        return False
    limit = max(_SMALL_ELEMENTS, sum(tensors[name].elements for name in op.operands))
    return math.prod(tensors[op.result].shape) <= limit


def _fold(op: Op, values: dict[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Computed in double precision, kept in the precision of the first operand that has one."""
    operands = [values[name] for name in op.operands]
    if op.kind in _REARRANGING:
        return evaluate_op(op, operands)
    floating = [value.dtype for value in operands if np.issubdtype(value.dtype, np.floating)]
    wide = [value.astype(np.float64) if value.dtype in floating else value for value in operands]
    count = len(op.inputs)
    result = apply_epilogue(op, evaluate_op(op, wide[:count]), wide[count:])
    return result.astype(floating[0]) if floating and result.dtype == np.float64 else result
