"""Products of one left operand become one product, their weights side by side: queries, keys and values of a layer.

That is what inference libraries do with the projections of a transformer (FasterTransformer, TensorRT, vLLM's
QKVParallelLinear): one kernel instead of three, whose tiles fill the chip together. The result is not cut up again: who
reads one of the products reads its columns where they lie (a slice in place, sim/graph/op.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.graph.graph import Graph
from sim.graph.nest import channels_last
from sim.graph.op import Op
from sim.graph.tensor import Tensor
from sim.passes.attention_copies import split_axes, viewed

_READERS = frozenset(
    {
        *("matmul", "packed_matmul", "attention", "elementwise", "softmax", "layer_norm", "rms_norm", "rope"),
        *("transpose", "concat", "slice", "cache_update", "reduce"),
    }
)
"""Kinds that may read columns of a wider tensor."""

Faster = Callable[[Graph, Graph], bool]
_JOINED: dict[tuple[int, frozenset[str], bool], tuple[Graph, Graph]] = {}
_MOST_JOINED = 64
_MATRIX = 2


@dataclass(frozen=True, slots=True)
class Joined:
    """Products that are one: `product` takes their place, `views` (reshapes of its result, then slices of those) make
    what others read of them. `sides` lists, by the name of a constant of `product`, those that it is made of, and the
    axis along which they lie side by side; `tensors` are the new ones. `gone` are the names of the products and of the
    views that were made of their results."""

    products: tuple[Op, ...]
    product: Op
    views: tuple[Op, ...]
    tensors: dict[str, Tensor]
    sides: dict[str, tuple[tuple[str, ...], int]]
    gone: frozenset[str]


def side_by_side(
    graph: Graph, faster: Faster = lambda one, several: True, *, values: bool = False
) -> Graph:
    """The graph with its products of one left operand joined where `faster`(alone as one product, alone as several)
    says so; the same object for the same choice. Joined are products of one repeated block with a matrix of constants
    that nobody else reads, of the same formats, with the same element functions behind them, whose results are read
    by operators that can read columns where they lie. With `values` numbers of weights are joined too, as far as they
    are known."""
    found = [one for one in _joinable(graph) if faster(*_alone(graph, one))]
    if not found:
        return graph
    key = id(graph), frozenset(one.product.name for one in found), values
    known = _JOINED.get(key)
    if known is None:
        if len(_JOINED) >= _MOST_JOINED:
            _JOINED.clear()
        # The entry keeps the graph alive, and with it its id.
        known = _JOINED[key] = graph, _with(graph, found, values)
    return known[1]


def _joinable(graph: Graph) -> Iterator[Joined]:
    """Products that can be one; where not all of a left operand can, those of one width."""
    last = channels_last(graph)
    alike: dict[object, list[Op]] = {}
    for op in graph.ops:
        key = _kind_of(graph, op)
        if key is not None:
            alike.setdefault(key, []).append(op)
    for products in alike.values():
        one = _join(graph, products, last)
        if one is not None:
            yield one
            continue
        for width in sorted({_width(graph, op) for op in products}):
            one = _join(graph, [op for op in products if _width(graph, op) == width], last)
            if one is not None:
                yield one


def _width(graph: Graph, op: Op) -> int:
    return graph.tensors[op.output].shape[-1]


def _kind_of(graph: Graph, op: Op) -> object | None:
    """What products have in common that can lie side by side; None for what cannot."""
    if op.kind not in ("matmul", "packed_matmul") or op.attributes.get("transpose_a", False):
        return None
    tensors, width = graph.tensors, _width(graph, op)
    constants = [tensors[name] for name in op.inputs[1:]]
    if any(tensor.role != "weight" or len(graph.consumers[tensor.name]) > 1 for tensor in constants):
        return None
    if len(constants[0].shape) != _MATRIX or tensors[viewed(graph, op.inputs[0])].role == "state":
        return None
    steps = []
    for step in op.epilogue:
        extra = [tensors[name] for name in step.inputs[1:]]
        of_columns = [tensor.shape[-1:] == (width,) and tensor.elements == width for tensor in extra]
        if any(t.role != "weight" or not (of or t.elements == 1) for t, of in zip(extra, of_columns, strict=True)):
            return None
        told = ((t.dtype, t.shape[:-1]) if of else t.name for t, of in zip(extra, of_columns, strict=True))
        steps.append((step.kind, tuple(sorted(step.attributes.items())), tuple(told)))
    formats = tuple((tensor.dtype, len(tensor.shape)) for tensor in constants)
    results = tuple((tensors[name].dtype, tensors[name].density) for name in (op.output, op.result))
    attributes = tuple(sorted(op.attributes.items()))
    return op.kind, op.inputs[0], op.block, attributes, formats, tuple(steps), results


def _join(graph: Graph, products: Sequence[Op], last: frozenset[str]) -> Joined | None:
    """Those products as one, if whoever reads them can read columns of it."""
    if len(products) == 1:
        return None
    widths = [_width(graph, op) for op in products]
    starts = list(accumulate(widths, initial=0))
    whole = starts.pop()
    builder = _Builder(graph, products, whole)
    product = builder.product()
    views: dict[tuple[int, ...], Op] = {}
    parts: list[Op] = []
    gone = {op.name for op in products}
    for op, start, width in zip(products, starts, widths, strict=True):
        read = _read_as(graph, op)
        if read is None:
            return None
        gone |= read[1]
        for name in read[0]:
            shape = graph.tensors[name].shape
            at = _cut_axis(graph, name, width, math.gcd(start, whole))
            if at is None or name in last:
                return None
            inner = math.prod(shape[at + 1 :])
            wide = (*shape[:at], whole // inner, *shape[at + 1 :])
            source = product.result
            if wide != builder.tensors[source].shape:
                if wide not in views:
                    views[wide] = builder.view(product, wide)
                source = views[wide].output
            begin = tuple(start // inner if axis == at else 0 for axis in range(len(shape)))
            how = {"starts": begin, "steps": (1,) * len(shape), "counts": shape, "in_place": True}
            parts.append(Op(name, "slice", (source,), name, how, block=op.block))
    return Joined(
        tuple(products), product, (*views.values(), *parts), builder.tensors, builder.sides, frozenset(gone)
    )


def _read_as(graph: Graph, op: Op) -> tuple[list[str], set[str]] | None:
    """(names under which a product is read, names of the reshapes between); None where it has to be a tensor."""
    found, between, left = [], set[str](), [op.result]
    while left:
        name = left.pop()
        if name in graph.outputs:
            return None
        readers = [graph.ops[at] for at in graph.consumers.get(name, ())]
        if any(one.block != op.block or (one.kind == "slice" and one.view) for one in readers):
            return None
        again = [one for one in readers if one.kind == "reshape"]
        between |= {one.name for one in again}
        left += [one.output for one in again]
        if len(again) < len(readers):
            found.append(name)
    return (found, between) if found else None


def _cut_axis(graph: Graph, name: str, width: int, places: int) -> int | None:
    """The axis of a tensor that is longer if it is a part of something wider: the outermost of those that `width`
    columns have become, or one of length 1 before it. Parts begin and the whole ends at multiples of `places` columns.
    None where there is none, as where rows and columns are mixed, or where not all that read the tensor can read it."""
    shape = graph.tensors[name].shape
    axes = split_axes(shape, (math.prod(shape) // width, width))
    for axis in axes[1] if axes is not None else ():
        if places % math.prod(shape[axis + 1 :]) == 0 and _reads(graph, name, axis):
            return axis
        if shape[axis] > 1:
            break
    return None


def _reads(graph: Graph, name: str, at: int) -> bool:
    """Do all that read a tensor, none of them at its drain, say by a loop which index of axis `at` they read?"""
    for number in graph.consumers[name]:
        reader = graph.ops[number]
        if reader.kind not in _READERS or any(name in step.inputs[1:] for step in reader.epilogue):
            return False
        for nest in graph.nests[number]:
            for operand in nest.operands:
                if operand.tensor.name == name:
                    axis = operand.axes[at]
                    if not axis.terms or axis.low or axis.high or axis.denominator != 1:
                        return False
    return True


class _Builder:
    """Makes the product of several; collects its tensors."""

    def __init__(self, graph: Graph, products: Sequence[Op], whole: int) -> None:
        self.graph, self.products, self.whole = graph, products, whole
        self.tensors: dict[str, Tensor] = {}
        self.sides: dict[str, tuple[tuple[str, ...], int]] = {}

    def product(self) -> Op:
        first = self.products[0]
        constants = [
            self._beside([op.inputs[at] for op in self.products], self._axis(first, at))
            for at in range(1, len(first.inputs))
        ]
        output = self._result([op.output for op in self.products])
        steps, running = [], output
        for at, step in enumerate(first.epilogue):
            extra = [
                self._constant([op.epilogue[at].inputs[number] for op in self.products])
                for number in range(1, len(step.inputs))
            ]
            named = self._result([op.epilogue[at].output for op in self.products])
            steps.append(
                replace(step, name=_joined_name([op.epilogue[at].name for op in self.products]),
                        inputs=(running, *extra), output=named)
            )
            running = named
        name = _joined_name([op.name for op in self.products])
        return replace(first, name=name, inputs=(first.inputs[0], *constants), output=output, epilogue=tuple(steps))

    def _axis(self, op: Op, at: int) -> int:
        """Axis of the columns of input `at`."""
        if len(self.graph.tensors[op.inputs[at]].shape) == 1:
            return 0
        return 0 if op["transpose_b"] else 1

    def view(self, product: Op, shape: tuple[int, ...]) -> Op:
        like = self.tensors[product.result]
        name = self._add(f"{product.result}.as_{'x'.join(map(str, shape))}", replace(like, shape=shape))
        return Op(name, "reshape", (product.result,), name, {"shape": shape}, block=product.block)

    def _constant(self, names: list[str]) -> str:
        """What lies side by side, or the one number that all have in common."""
        tensor = self.graph.tensors[names[0]]
        return names[0] if len(set(names)) == 1 and tensor.elements == 1 else self._beside(names, len(tensor.shape) - 1)

    def _beside(self, names: list[str], axis: int) -> str:
        first = self.graph.tensors[names[0]]
        shape = (*first.shape[:axis], self.whole, *first.shape[axis + 1 :])
        name = self._add(_joined_name(names), replace(first, shape=shape))
        self.sides[name] = tuple(names), axis
        return name

    def _result(self, names: list[str]) -> str:
        first = self.graph.tensors[names[0]]
        return self._add(_joined_name(names), replace(first, shape=(*first.shape[:-1], self.whole)))

    def _add(self, name: str, tensor: Tensor) -> str:
        while name in self.graph.tensors or name in self.tensors:
            name += "'"
        self.tensors[name] = replace(tensor, name=name)
        return name


def _joined_name(names: Sequence[str]) -> str:
    """Names with what they begin with, as far as a dot, said once: layer0.q+k+v."""
    parts = [name.split(".") for name in names]
    alike = 0
    while all(len(part) > alike + 1 and part[alike] == parts[0][alike] for part in parts):
        alike += 1
    rest = "+".join(".".join(part[alike:]) for part in parts)
    return ".".join([*parts[0][:alike], rest])


def _alone(graph: Graph, one: Joined) -> tuple[Graph, Graph]:
    """The products by themselves, as one and as several."""
    return _kernels(graph, one, [one.product]), _kernels(graph, one, one.products)


def _kernels(graph: Graph, one: Joined, ops: Iterable[Op]) -> Graph:
    ops = [replace(op, block=-1) for op in ops]
    known = {**graph.tensors, **one.tensors}
    names = {name for op in ops for name in (*op.operands, op.output, op.result)}
    names |= {step.output for op in ops for step in op.epilogue}
    left = ops[0].inputs[0]
    tensors = {name: known[name] for name in known if name in names}
    tensors[left] = replace(tensors[left], role="input")
    return Graph("products", tensors, tuple(ops), (left,), tuple(op.result for op in ops), kernel=True)


def _with(graph: Graph, found: Sequence[Joined], values: bool) -> Graph:
    starts = {one.products[0].name: one for one in found}
    gone = {name for one in found for name in one.gone}
    ops: list[Op] = []
    for op in graph.ops:
        if op.name in starts:
            one = starts[op.name]
            ops += [one.product, *one.views]
        elif op.name not in gone:
            ops.append(op)
    tensors = {**graph.tensors, **{name: tensor for one in found for name, tensor in one.tensors.items()}}
    numbers: dict[str, npt.NDArray[Any]] = dict(graph.values)
    for one in found:
        for name, (sides, axis) in one.sides.items():
            if values and all(side in graph.values for side in sides):
                numbers[name] = np.concatenate([graph.values[side] for side in sides], axis=axis)
    return replace(graph, tensors=tensors, values=numbers).with_ops(ops)
