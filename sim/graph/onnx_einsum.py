"""Einsum of any number of operands: sums, products and transposes, two operands at a time from the left.

Semantics: onnx.ai/onnx/operators/onnx__Einsum.html, which are those of NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sim.graph.onnx_arrays import regroup
from sim.graph.onnx_node import Handler, Importer, Node, Unsupported


@dataclass(frozen=True, slots=True)
class _Term:
    """A tensor and the label of each of its axes, all different."""

    tensor: str
    labels: tuple[str, ...]


def _einsum(model: Importer, node: Node) -> list[str]:
    equation = node.attributes["equation"].replace(" ", "")
    tensors = model.tensors(node)
    ranks = [len(model.shape(name)) for name in tensors]
    operands, result = _labels(equation, ranks)
    terms = [_Term(*pair) for pair in zip(tensors, operands, strict=True)]
    for index, term in enumerate(terms):
        elsewhere = {*result, *(label for other in terms[:index] + terms[index + 1 :] for label in other.labels)}
        terms[index] = _summed(model, node, term, elsewhere)
    while len(terms) > 1:
        left, right, *rest = terms
        kept = {*result, *(label for term in rest for label in term.labels)}
        wanted = tuple(label for label in dict.fromkeys(left.labels + right.labels) if label in kept)
        wanted = wanted if rest else result
        terms = [_Term(_product(model, node, left, right, wanted), wanted), *rest]
    (last,) = terms
    perm = tuple(last.labels.index(label) for label in result)
    if perm == tuple(range(len(perm))):
        return [last.tensor]
    return [model.op("transpose", [last.tensor], {"perm": perm}, node)]


def _labels(equation: str, ranks: Sequence[int]) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """Labels of the operands and of the result. Axes that an ellipsis stands for are called ...0, ...1, from the
    right; without an arrow the result has what occurs once, in order."""
    terms, arrow, result = equation.partition("->")
    parts = terms.split(",")
    if len(parts) != len(ranks):
        raise ValueError(f"equation {equation!r} has {len(parts)} operands; the node has {len(ranks)}")
    operands = []
    for part, rank in zip(parts, ranks, strict=True):
        hidden = rank - len(part.replace("...", ""))
        labels = _spread(part, hidden)
        if len(labels) != rank:
            raise ValueError(f"equation {equation!r}: {part!r} does not fit a tensor of rank {rank}")
        if len(set(labels)) != len(labels) or not all(len(label) > 1 or label.isalpha() for label in labels):
            raise Unsupported(f"equation = {equation!r}, which takes a diagonal")
        operands.append(labels)
    every = [label for labels in operands for label in labels]
    dots = sorted({label for label in every if len(label) > 1}, key=lambda label: -int(label[3:]))
    if not arrow:
        once = sorted(label for label in set(every) if every.count(label) == 1 and len(label) == 1)
        return operands, (*dots, *once)
    found = _spread(result, len(dots))
    if not set(found) <= set(every) or len(set(found)) != len(found):
        raise ValueError(f"equation {equation!r}: the result has labels that no operand has, or one twice")
    return operands, found


def _spread(part: str, hidden: int) -> tuple[str, ...]:
    before, dots, behind = part.partition("...")
    return (*before, *(f"...{place}" for place in reversed(range(hidden if dots else 0))), *behind)


def _summed(model: Importer, node: Node, term: _Term, kept: set[str]) -> _Term:
    """Without the axes that nothing else has."""
    axes = tuple(axis for axis, label in enumerate(term.labels) if label not in kept)
    if not axes:
        return term
    attributes = {"function": "sum", "axes": axes, "keepdims": False}
    labels = tuple(label for label in term.labels if label in kept)
    return _Term(model.op("reduce", [term.tensor], attributes, node), labels)


def _product(model: Importer, node: Node, left: _Term, right: _Term, result: tuple[str, ...]) -> str:
    """Of two terms: a matrix product where something is summed over, else element by element."""
    extent: dict[str, int] = {}
    for term in (left, right):
        for label, size in zip(term.labels, model.shape(term.tensor), strict=True):
            if extent.setdefault(label, size) != size:
                raise ValueError(f"label {label} is {extent[label]} and {size} long")
    batch = [label for label in left.labels if label in right.labels and label in result]
    inner = [label for label in left.labels if label in right.labels and label not in result]
    rows = [label for label in left.labels if label not in right.labels]
    columns = [label for label in right.labels if label not in left.labels]

    def matrix(term: _Term, order: list[str], shape: Sequence[int]) -> str:
        perm = tuple(term.labels.index(label) for label in order)
        return regroup(model, node, term.tensor, model.shape(term.tensor), perm, tuple(shape))[0]

    def sizes(labels: Sequence[str]) -> list[int]:
        return [extent[label] for label in labels]

    if inner:
        shape = [*sizes(batch), math.prod(sizes(rows)), math.prod(sizes(inner))]
        a = matrix(left, batch + rows + inner, shape)
        shape = [*sizes(batch), math.prod(sizes(inner)), math.prod(sizes(columns))]
        b = matrix(right, batch + inner + columns, shape)
        product = model.op("matmul", [a, b], {"transpose_a": False, "transpose_b": False}, node)
    else:
        a = matrix(left, batch + rows, [*sizes(batch), *sizes(rows), *(1 for _ in columns)])
        b = matrix(right, batch + columns, [*sizes(batch), *(1 for _ in rows), *sizes(columns)])
        product = model.function(node, "mul", a, b)
    order = batch + rows + columns
    perm = tuple(order.index(label) for label in result)
    return regroup(model, node, product, tuple(sizes(order)), perm, tuple(sizes(result)))[0]


EINSUM: Mapping[str, Handler] = {"Einsum": _einsum}
