"""An attention takes over the copies that only turn its operands or its result.

Projections write [batch, tokens, heads, width], products want [batch, heads, tokens, width]: stored scores need a copy
of queries, keys, values and result each. A kernel reads the rows of a head where they lie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sim.graph.graph import Graph
from sim.graph.op import Op
from sim.graph.places import RESULT, laid
from sim.graph.tensor import Tensor

Perm = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Folded:
    """An attention without copies: the operators that take the place of it and of `gone` (views among them), in order,
    and tensors that have another shape now."""

    ops: tuple[Op, ...]
    gone: tuple[Op, ...]
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class _Copy:
    """A transposition, and the reshape between it and the attention, if there is one; `axes` says which axis of what
    the transposition reads (of a result: writes) every axis of the operand (result) is."""

    copy: Op
    view: Op | None
    axes: Perm

    @property
    def ops(self) -> dict[str, Op]:
        return {op.name: op for op in (self.copy, self.view) if op is not None}


def fold_copies(graph: Graph, fused: Op) -> Folded:
    """`fused`, an attention that is not in the graph yet and ends where the graph's operator of the same name does,
    reads and writes around the transpositions that nobody else needs: of the same block, not of a state (which may be
    written in between), and such that the rows of a head stay rows."""
    rank = len(graph.tensors[fused.inputs[0]].shape)
    places, inputs = [tuple(range(rank))] * (RESULT + 1), list(fused.inputs)
    flat: bool = fused["transpose_b"]
    gone: dict[str, Op] = {}
    views: dict[str, Op] = {}
    tensors: dict[str, Tensor] = {}
    for number, name in enumerate(fused.inputs[:RESULT]):
        found = None if name in fused.operands[RESULT:] else _before(graph, name, fused.block)
        turned = found is not None and number == 1 and found.axes[-2] == rank - 1
        if found is None or not (turned or found.axes[-1] == rank - 1):
            continue
        # Keys that a copy makes columns are rows where they come from.
        flat, places[number] = flat != turned, _swapped(found.axes) if turned else found.axes
        gone |= found.ops
        inputs[number] = found.copy.inputs[0]
        if found.view is not None:
            shape = laid((found.axes,), 0, graph.tensors[name].shape)
            tensors[name], inputs[number] = replace(graph.tensors[name], shape=shape), name
            views[name] = replace(found.view, inputs=found.copy.inputs, attributes={"shape": shape})
    whole, ends = replace(fused, inputs=tuple(inputs)), list[Op]()
    behind = None if fused.epilogue else _behind(graph, fused.output, fused.block)
    if behind is not None and behind.axes[-1] == rank - 1:
        places[RESULT], copy = behind.axes, behind.copy
        gone |= behind.ops
        if behind.view is None:
            whole = replace(whole, output=copy.output)
        else:
            made = graph.tensors[fused.output]
            tensors[made.name] = replace(made, shape=laid((behind.axes,), 0, made.shape))
            joined = {"shape": graph.tensors[copy.output].shape}
            ends.append(replace(copy, kind="reshape", inputs=(made.name,), attributes=joined))
    if not gone:
        return Folded((fused,), (), {})
    whole = replace(whole, attributes={**fused.attributes, "transpose_b": flat, "places": tuple(places)})
    return Folded((*views.values(), whole, *ends), tuple(gone.values()), tensors)


def _swapped(axes: Perm) -> Perm:
    return (*axes[:-2], axes[-1], axes[-2])


def _before(graph: Graph, name: str, block: int) -> _Copy | None:
    """The copy that makes an operand."""
    op = only_writer(graph, name)
    view = None
    if op is not None and op.kind == "reshape" and op.block == block:
        view, op = op, only_writer(graph, op.inputs[0])
    if op is None or (op.kind, op.block) != ("transpose", block) or op.epilogue:
        return None
    if graph.tensors[viewed(graph, op.inputs[0])].role == "state":
        return None
    if view is None:
        return _Copy(op, None, tuple(op["perm"]))
    groups = split_axes(graph.tensors[name].shape, graph.tensors[op.output].shape)
    if groups is None:
        return None
    # Axes of the view of what the copy reads: as many for each of its axes.
    order = [axis for at in sorted(range(len(groups)), key=op["perm"].__getitem__) for axis in groups[at]]
    return _Copy(op, view, tuple(order.index(axis) for axis in range(len(order))))


def _behind(graph: Graph, name: str, block: int) -> _Copy | None:
    """The copy that a result goes through."""
    op = _only_reader(graph, name)
    view = None
    if op is not None and op.kind == "reshape" and op.block == block:
        view, op = op, _only_reader(graph, op.output)
    if op is None or (op.kind, op.block) != ("transpose", block) or op.epilogue:
        return None
    if view is None:
        return _Copy(op, None, tuple(op["perm"].index(axis) for axis in range(len(op["perm"]))))
    groups = split_axes(graph.tensors[name].shape, graph.tensors[view.output].shape)
    if groups is None:
        return None
    order = [axis for at in op["perm"] for axis in groups[at]]
    return _Copy(op, view, tuple(order.index(axis) for axis in range(len(order))))


def split_axes(fine: Sequence[int], coarse: Sequence[int]) -> list[list[int]] | None:
    """Neighbouring axes of the finer shape that make each axis of the coarser; None where they do not.

    (1, 4, 2, 9, 8) and (1, 8, 9, 8): [[0], [1, 2], [3], [4]].
    """
    found: list[list[int]] = []
    at = 0
    for size in coarse:
        group: list[int] = []
        many = 1
        while at < len(fine) and (many < size or not group):
            group.append(at)
            many *= fine[at]
            at += 1
        if many != size:
            return None
        found.append(group)
    return found if at == len(fine) else None


def viewed(graph: Graph, name: str) -> str:
    """The tensor that one is a view of: itself, unless a view makes it."""
    while name in graph.producers and graph.ops[graph.producers[name]].view:
        name = graph.ops[graph.producers[name]].inputs[0]
    return name


def only_writer(graph: Graph, name: str) -> Op | None:
    """The operator that makes a tensor which one operator alone reads."""
    if name not in graph.producers or name in graph.outputs or len(graph.consumers[name]) != 1:
        return None
    return graph.ops[graph.producers[name]]


def _only_reader(graph: Graph, name: str) -> Op | None:
    """The only operator that reads a tensor, if as its first input."""
    readers = graph.consumers.get(name, ())
    if len(readers) != 1 or name in graph.outputs or graph.ops[readers[0]].inputs[0] != name:
        return None
    return graph.ops[readers[0]]
