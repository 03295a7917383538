"""Products of dequantised tensors become products of the integers themselves, as every runtime for quantised models
computes them: (x - zx) sx times (w - zw) sw is (x - zx)(w - zw) times sx sw.

ONNX files say QuantizeLinear and DequantizeLinear around each operator and leave this to whoever runs them. Formulas:
Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, 2018.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.graph.graph import Graph
from sim.graph.op import BIASED, Op
from sim.graph.tensor import DTYPE_BITS, Tensor
from sim.passes.packed import packed_parts

Array = npt.NDArray[Any]

_MOVING = frozenset({"reshape", "transpose", "slice", "concat", "gather"})
"""Kinds that move elements of their first inputs and make no new ones (a pool takes the largest: as good)."""


def multiply_integers(graph: Graph) -> Graph:
    """Contractions of two dequantised operands run on their integers, their results are scaled; what only moves
    elements between a dequantisation and the quantisation that undoes it moves the integers.

    A zero point of an activation is subtracted where it is quantised, where all who read it agree on it, else by an
    operator of its own (which the next passes fuse where they can); one of a constant weight at once. Matrices of
    weights that are dequantised for a product with numbers stay packed (kind packed_matmul). Dequantisations that
    nobody reads any more are left to `remove_dead`.
    """
    if not any(op.attributes.get("function") in ("dequantize", "cast") for op in graph.ops):
        return graph
    return _Rewriter(_centred(_moved(graph))).run()


def _is(op: Op | None, function: str) -> bool:
    return op is not None and op.kind == "elementwise" and op["function"] == function and not op.epilogue


def _moved(graph: Graph) -> Graph:
    """quantise(move(dequantise(x))) with one scale and zero point is move(x)."""
    made = {op.output: op for op in graph.ops}
    replaced: dict[str, Op | None] = {}
    for op in graph.ops:
        mover = made.get(op.inputs[0]) if _is(op, "quantize") else None
        if mover is None or not _moves(mover) or mover.output in graph.outputs:
            continue
        if len(graph.consumers[mover.output]) > 1:
            continue
        moving = mover.inputs if mover.kind == "concat" else mover.inputs[:1]
        sources = [made.get(name) for name in moving]
        if not all(_is(source, "dequantize") for source in sources):
            continue
        known = {source["parameters"][:2] for source in sources if source is not None}
        if known != {op["parameters"][:2]}:
            continue
        inputs = [source.inputs[0] for source in sources if source is not None]
        replaced[op.output] = replace(mover, inputs=(*inputs, *mover.inputs[len(inputs) :]), output=op.output)
        replaced[mover.output] = None
    if not replaced:
        return graph
    ops = [replaced.get(op.output, op) for op in graph.ops]
    return graph.with_ops(op for op in ops if op is not None)


def _moves(op: Op) -> bool:
    return not op.epilogue and (op.kind in _MOVING or (op.kind == "pool" and op["function"] == "max"))


def _centred(graph: Graph) -> Graph:
    """Zero points that a quantisation and all its readers agree on become 0: the integers are kept less them."""
    changed: dict[str, Op] = {}
    for op in graph.ops:
        readers = [graph.ops[index] for index in graph.consumers.get(op.output, ())]
        if not _is(op, "quantize") or op.output in graph.outputs or not readers:
            continue
        scale, zero, low, high = op["parameters"]
        if zero == 0 or not all(_is(reader, "dequantize") and reader["parameters"][1] == zero for reader in readers):
            continue
        changed[op.output] = _with_parameters(op, (scale, 0.0, low - zero, high - zero))
        for reader in readers:
            changed[reader.output] = _with_parameters(reader, (reader["parameters"][0], 0.0))
    return graph.with_ops(changed.get(op.output, op) for op in graph.ops) if changed else graph


def _with_parameters(op: Op, parameters: tuple[float, ...]) -> Op:
    return replace(op, attributes={**op.attributes, "parameters": parameters})


@dataclass(frozen=True, slots=True)
class _Integers:
    """A dequantised tensor: (integers - zero) * scale; both broadcast to it. `block` elements along an axis share them
    (axis, elements)."""

    name: str
    scale: Array
    zero: Array
    block: tuple[int, int] | None = None


class _Rewriter:
    """The operators so far, and tensors and values that came with them."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.made = {op.output: op for op in graph.ops}
        self.tensors, self.values = dict(graph.tensors), dict(graph.values)
        self.ops: list[Op] = []
        self.centred: dict[tuple[str, float], str] = {}

    def run(self) -> Graph:
        for op in self.graph.ops:
            if op.kind not in BIASED or op.epilogue or not (self._rewritten(op) or self._packed(op)):
                self.ops.append(op)
        return replace(self.graph, tensors=self.tensors, values=self.values).with_ops(self.ops)

    def _rewritten(self, op: Op) -> bool:
        left, right = (self._integers(name) for name in op.inputs[:2])
        if left is None or right is None:
            return False
        factor = self._result_scale(op, left, right)
        if factor is None:
            return False
        names = [self._whole(op, each) for each in (left, right)]
        result = self.graph.tensors[op.output]
        steps: list[tuple[str, tuple[str, ...]]] = [("mul", (self._constant(op, "scale", factor, result.dtype),))]
        if len(op.inputs) > 2:
            steps.append(("add", (self._bias(op),)))
        current = self._add(op.name, op.output, "integers", "int32")
        self.ops.append(replace(op, inputs=tuple(names), output=current))
        for number, (function, extras) in enumerate(steps):
            last = number == len(steps) - 1
            output = op.output if last else self._add(op.name, op.output, "scaled", result.dtype)
            attributes = {"function": function, "parameters": ()}
            self.ops.append(
                Op(f"{op.name}.{function}", "elementwise", (current, *extras), output, attributes, block=op.block)
            )
            current = output
        return True

    def _packed(self, op: Op) -> bool:
        """A product of numbers with a matrix of dequantised weights: these stay packed."""
        found = self._integers(op.inputs[1]) if op.kind == "matmul" and not op["transpose_a"] else None
        if found is None or self._value(found.name) is None:
            return False
        weight, wide = self.tensors[found.name], self.tensors[op.inputs[1]].dtype
        parts = packed_parts(weight.shape, 1 if op["transpose_b"] else 0, found.scale, found.zero, found.block)
        if parts is None or DTYPE_BITS[weight.dtype] >= DTYPE_BITS[wide]:
            return False
        scale = self._constant(op, "scale", parts.scale, wide)
        zero = [] if parts.zero is None else [self._constant(op, "zero", parts.zero, weight.dtype)]
        output = op.output if len(op.inputs) < 3 else self._add(op.name, op.output, "product", wide)
        attributes = {"transpose_b": op["transpose_b"], "group": parts.group}
        inputs = (op.inputs[0], found.name, scale, *zero)
        self.ops.append(replace(op, kind="packed_matmul", inputs=inputs, output=output, attributes=attributes))
        if output != op.output:
            attributes = {"function": "add", "parameters": ()}
            operands = (output, op.inputs[2])
            self.ops.append(Op(f"{op.name}.add", "elementwise", operands, op.output, attributes, block=op.block))
        return True

    def _integers(self, name: str) -> _Integers | None:
        """What `name` is dequantised from, where it is: by one scale, or a constant by one per channel."""
        op = self.made.get(name)
        if op is None or op.epilogue:
            return None
        if _is(op, "dequantize"):
            scale, zero = (np.asarray(number) for number in op["parameters"][:2])
            return self._if_small(_Integers(op.inputs[0], scale, zero))
        if op.kind == "transpose":
            return self._turned(op)
        if not _is(op, "mul") or self._value(op.inputs[1]) is None:
            return None
        source, zero = self.made.get(op.inputs[0]), np.asarray(0.0)
        if source is not None and _is(source, "sub"):
            found = self._value(source.inputs[1])
            if found is None:
                return None
            source, zero = self.made.get(source.inputs[0]), found
        if source is None or not _is(source, "cast"):
            return None
        scale_value = self._value(op.inputs[1])
        assert scale_value is not None
        return self._if_small(_Integers(source.inputs[0], scale_value, zero, op.attributes.get("block")))

    def _turned(self, op: Op) -> _Integers | None:
        """A transposed constant: the integers are transposed now."""
        before = self._integers(op.inputs[0])
        value = None if before is None else self._value(before.name)
        if before is None or value is None:
            return None
        perm = op["perm"]

        def turn(part: Array) -> Array:
            aligned = part.reshape((1,) * (value.ndim - part.ndim) + part.shape)
            return part if part.ndim == 0 else aligned.transpose(perm)

        name = self._unique(f"{op.output}.integers")
        turned = value.transpose(perm)
        self.tensors[name] = Tensor(name, turned.shape, self.tensors[before.name].dtype, "weight")
        self.values[name] = turned
        block = None if before.block is None else (perm.index(before.block[0]), before.block[1])
        return _Integers(name, turn(before.scale), turn(before.zero), block)

    def _if_small(self, found: _Integers) -> _Integers | None:
        """Only of formats that products are made of."""
        return found if self.tensors[found.name].dtype in ("int4", "int8", "int16") else None

    def _value(self, name: str) -> Array | None:
        return self.values.get(name) if self.tensors[name].role == "weight" else None

    def _result_scale(self, op: Op, left: _Integers, right: _Integers) -> Array | None:
        """The factor of the result, of one element or one per channel; None where the scales do not leave the sum."""
        if left.scale.size != 1 or left.zero.size != 1:
            return None
        scale = right.scale
        if scale.size > 1:
            rank, axis = len(self.tensors[right.name].shape), _channel_axis(op, self.tensors[right.name])
            aligned = (1,) * (rank - scale.ndim) + scale.shape
            if axis is None or any(extent > 1 for place, extent in enumerate(aligned) if place != axis):
                return None
            result = len(self.tensors[op.output].shape)
            place = result - 1 if op.kind == "matmul" else 1
            scale = scale.reshape(-1, *(1,) * (result - 1 - place))
        return np.asarray(scale.astype(np.float64) * float(left.scale.reshape(-1)[0]), np.float32)

    def _whole(self, op: Op, found: _Integers) -> str:
        """The integers less their zero point."""
        if not found.zero.any():
            return found.name
        old = self.tensors[found.name]
        value = self._value(found.name)
        if value is not None:
            name = self._unique(f"{found.name}.centred")
            self.tensors[name] = replace(old, name=name)
            self.values[name] = value.astype(np.int64) - found.zero.astype(np.int64)
            return name
        key = found.name, float(found.zero.reshape(-1)[0])
        if key not in self.centred:
            zero = self._constant(op, "zero", np.asarray(found.zero.reshape(()), np.int64), old.dtype)
            output = self._unique(f"{found.name}.centred")
            self.tensors[output] = replace(old, name=output, role="activation")
            attributes = {"function": "sub", "parameters": ()}
            self.ops.append(Op(output, "elementwise", (found.name, zero), output, attributes, block=op.block))
            self.centred[key] = output
        return self.centred[key]

    def _bias(self, op: Op) -> str:
        """The bias, shaped so that it broadcasts over the result."""
        name, rank = op.inputs[2], len(self.tensors[op.output].shape)
        if op.kind == "matmul" or rank == 2:
            return name
        old = self.tensors[name]
        output = self._unique(f"{op.name}.bias")
        shape = (*old.shape, *(1,) * (rank - 2))
        self.tensors[output] = replace(old, name=output, shape=shape, role="activation")
        self.ops.append(Op(output, "reshape", (name,), output, {"shape": shape}, block=op.block))
        return output

    def _constant(self, op: Op, part: str, value: Array, dtype: str) -> str:
        name = self._unique(f"{op.name}.{part}")
        self.tensors[name] = Tensor(name, value.shape, dtype, "weight")
        self.values[name] = value
        return name

    def _add(self, stem: str, like: str, part: str, dtype: str) -> str:
        name = self._unique(f"{stem}.{part}")
        self.tensors[name] = replace(self.tensors[like], name=name, dtype=dtype)
        return name

    def _unique(self, name: str) -> str:
        while name in self.tensors:
            name += "'"
        return name


def _channel_axis(op: Op, weight: Tensor) -> int | None:
    """The weight's axis that is the result's channels, None where groups share it."""
    if op.kind == "conv":
        return 0
    if op.kind == "matmul":
        return len(weight.shape) - (2 if op["transpose_b"] else 1)
    return 1 if op["groups"] == 1 else None
