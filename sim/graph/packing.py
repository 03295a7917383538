"""Weights kept in fewer bits than a model computes in: unpacked again, group by group, for each product.

That is what GPTQ (Frantar et al., 2023) and AWQ (Lin et al., 2024) do to the matrices of a language model's layers,
with 4 bits and a scale per 128 elements; its embedding and its head stay as they are. Scales are symmetric, weights
whose numbers are known are rounded to the nearest.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.errors import Diagnostic, InputError, did_you_mean
from sim.graph.graph import Graph
from sim.graph.op import Op
from sim.graph.tensor import DTYPE_BITS, INDEX_DTYPES, Tensor

FORMATS: dict[str, int] = {"int4": 128, "int8": 0, "fp8": 0}
"""Formats of packed weights, and how many elements of a column share a scale unless told (0: all of them)."""

_MOST_GROUP = 1 << 20


@dataclass(frozen=True, slots=True)
class Packing:
    """A format of FORMATS, and how many elements along the inner axis share a scale (0: a whole column). `scale` is the
    format of the scales, that of the model unless said; `experts` packs the matrices of a mixture's experts alone."""

    dtype: str
    group: int
    scale: str = ""
    experts: bool = False

    def group_of(self, inner: int) -> int:
        """Elements of a column of `inner` that share a scale."""
        return min(self.group or inner, inner)


def parse_packing(text: str) -> Packing:
    """`int4`, or `int4:64` with a group of its own. Raises InputError."""
    name, colon, group = text.partition(":")
    if name not in FORMATS:
        hint = did_you_mean(name, FORMATS) or f"one of {', '.join(FORMATS)}, or int4:64 for groups of 64"
        raise InputError(Diagnostic(f"weights: unknown format '{name[:80]}'", hint=hint))
    if colon and not (re.fullmatch(r"[0-9]{1,8}", group) and 0 < int(group) <= _MOST_GROUP):
        raise InputError(f"weights: found '{text[:80]}'; expected {name}:N with N elements to a group")
    return Packing(name, int(group) if colon else FORMATS[name])


def pack_weights(graph: Graph, how: Packing) -> Graph:
    """The same model with the matrices of weights of its repeated blocks (of all operators where it has none) in fewer
    bits. Raises InputError where there is nothing to pack."""
    packer = _Packer(graph, how)
    ops = [step for op in graph.ops for step in packer.packed(op)]
    if not packer.count:
        reason = f"no operator of '{graph.name}' multiplies with a matrix of weights wider than {how.dtype}"
        raise InputError(f"weights: {reason}")
    idle = tuple(name for old in graph.idle for name in packer.idle(old))
    done = replace(graph, tensors=packer.tensors, values=packer.values, idle=idle)
    return done.with_ops(ops)


class _Packer:
    def __init__(self, graph: Graph, how: Packing) -> None:
        self.graph, self.how = graph, how
        self.tensors, self.values = dict(graph.tensors), dict(graph.values)
        self.blocks = any(op.block >= 0 for op in graph.ops)
        self.count = 0

    def packed(self, op: Op) -> Iterable[Op]:
        """The operator, or what takes its place."""
        if not self._packs(op):
            return (op,)
        self.count += 1
        old = self.tensors[op.inputs[1]]
        inner = 1 if op["transpose_b"] else 0
        group = self.how.group_of(old.shape[inner])
        weight, scale = self._parts(old, inner, group)
        biased = len(op.inputs) > 2
        output = self._add(f"{op.output}.product", self.tensors[op.output]) if biased else op.output
        attributes = {"transpose_b": op["transpose_b"], "group": group}
        inputs = (op.inputs[0], weight, scale)
        product = replace(op, kind="packed_matmul", inputs=inputs, output=output, attributes=attributes)
        if not biased:
            return (product,)
        attributes = {"function": "add", "parameters": ()}
        added = Op(f"{op.name}.bias", "elementwise", (output, op.inputs[2]), op.output, attributes, block=op.block)
        return product, added

    def _packs(self, op: Op) -> bool:
        if op.kind != "matmul" or op["transpose_a"] or op.epilogue or (self.blocks and op.block < 0):
            return False
        if self.how.experts and ".expert" not in op.name:
            return False
        right = self.graph.tensors[op.inputs[1]]
        if right.role != "weight" or len(right.shape) != 2 or right.dtype in INDEX_DTYPES:
            return False
        return len(self.graph.consumers[right.name]) == 1 and DTYPE_BITS[right.dtype] > DTYPE_BITS[self.how.dtype]

    def idle(self, name: str) -> tuple[str, ...]:
        """The weight of a matrix that no token needs, as it is kept."""
        old = self.tensors[name]
        if len(old.shape) != 2 or DTYPE_BITS[old.dtype] <= DTYPE_BITS[self.how.dtype]:
            return (name,)
        return self._parts(old, 0, self.how.group_of(old.shape[0]))

    def _parts(self, old: Tensor, inner: int, group: int) -> tuple[str, str]:
        """Names of the packed weight and of its scales."""
        scales = list(old.shape)
        scales[inner] = -(-old.shape[inner] // group)
        weight = self._add(f"{old.name}.packed", replace(old, dtype=self.how.dtype))
        scale = self._add(f"{old.name}.scale", replace(old, shape=tuple(scales), dtype=self.how.scale or old.dtype))
        if old.name in self.values:
            self.values[weight], self.values[scale] = _rounded(self.values[old.name], inner, group, self.how.dtype)
        return weight, scale

    def _add(self, name: str, like: Tensor) -> str:
        while name in self.tensors:
            name += "'"
        self.tensors[name] = replace(like, name=name)
        return name


def _rounded(
    value: npt.NDArray[Any], inner: int, group: int, dtype: str
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """(whole numbers, scales) of a matrix: the largest of each group is the largest that the format has."""
    most = 448.0 if dtype == "fp8" else 2.0 ** (DTYPE_BITS[dtype] - 1) - 1.0
    starts = np.arange(0, value.shape[inner], group)
    wide = value.astype(np.float64)
    scale = np.maximum.reduceat(np.abs(wide), starts, axis=inner) / most
    scale = np.where(scale == 0.0, 1.0, scale)
    steps = wide / scale.repeat(group, axis=inner).take(np.arange(value.shape[inner]), axis=inner)
    return (steps if dtype == "fp8" else np.rint(steps).astype(np.int64)), scale.astype(np.float32)
