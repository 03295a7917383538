"""A measured operator as a graph of one operator, and its work for a roofline."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.graph.tensor import DTYPE_BITS
from sim.hw.links import exchanged_share
from sim.validate.measured_set import in_sequence, timed_as
from sim.validate.measurement import Measurement


@dataclass(frozen=True, slots=True)
class Work:
    """Operations and compulsory bytes of an operator: every operand read once, the result written once; of a sum over
    chips, those that go to others."""

    flops: float
    nbytes: float


def build_graph(row: Measurement) -> Graph:
    """The operator alone, one kernel of several, its operands in DRAM; of a kernel timed in a sequence, what the one
    before wrote may still be in the cache. Raises KeyError for an operator of no family."""
    builder = GraphBuilder(f"{row.op} {'x'.join(map(str, row.shape))}", row.dtype)
    out = _BUILDERS[row.family or ""](builder, row)
    graph = builder.build([out], kernel=True)
    return replace(graph, warm=_written_before(graph, row)) if in_sequence(row) else graph


def _written_before(graph: Graph, row: Measurement) -> tuple[str, ...]:
    """What the kernel before wrote: the first operand, of a gated activation both halves of it."""
    if row.family == "all_reduce":
        return ()
    return graph.inputs if row.op == "silu_mul" else graph.inputs[:1]


def work(row: Measurement) -> Work:
    """Operations (a multiply-accumulate is two; an element of anything else is one) and compulsory bytes."""
    element = DTYPE_BITS[row.dtype] / 8
    if row.family == "matmul":
        *batch, m, n, k = row.shape
        count = math.prod(batch)
        return Work(2.0 * count * m * n * k, element * count * (m * k + k * n + m * n))
    if row.family == "all_reduce":
        chips, elements = row.shape
        return Work(float(elements), element * elements * exchanged_share(chips))
    elements = math.prod(row.shape) * timed_as(row)[1]
    tensors = {"binary": 3, "gated": 3, "copy": 1}.get(row.family or "", 2)
    return Work(float(elements), element * tensors * elements)


def _matmul(builder: GraphBuilder, row: Measurement) -> str:
    *batch, m, n, k = row.shape
    left = builder.input("a", (*batch, m, k))
    right = builder.input("b", (*batch, k, n)) if batch else builder.weight((k, n), "b")
    return builder.matmul(left, right, name=row.op)


def _unary(builder: GraphBuilder, row: Measurement) -> str:
    x = builder.input("x", row.shape)
    if row.op == "parametric_relu":
        return builder.elementwise("prelu", x, builder.weight((1,), "slope"), name=row.op)
    if row.op == "selu":
        # elu with a factor: 1.0507 elu(x, 1.6733) (Klambauer et al. 2017), one operator to a compiler that fuses
        scaled = builder.elementwise("elu", x, parameters=(1.6733,), name="elu")
        return builder.elementwise("mul", scaled, builder.weight((1,), "scale"), name=row.op)
    if row.op == "binary_step":
        return builder.elementwise("max", x, builder.weight((1,), "zero"), name=row.op)
    if row.op == "linear":
        return builder.elementwise("mul", x, builder.weight((1,), "slope"), name=row.op)
    parameters = {"leaky_relu": (0.01,), "elu": (1.0,)}.get(row.op, ())
    return builder.elementwise(timed_as(row)[0], x, parameters=parameters, name=row.op)


def _binary(builder: GraphBuilder, row: Measurement) -> str:
    a, b = builder.input("a", row.shape), builder.input("b", row.shape)
    if row.op == "silu_mul":
        return builder.mul(builder.silu(a), b, name=row.op)
    return builder.elementwise(row.op, a, b, name=row.op)


def _copy(builder: GraphBuilder, row: Measurement) -> str:
    """Some operator that loads the tensor; its loads are the copy (copies.py)."""
    return builder.relu(builder.input("x", row.shape))


def _all_reduce(builder: GraphBuilder, row: Measurement) -> str:
    chips, elements = row.shape
    return builder.all_reduce(builder.input("x", (elements,)), chips, name=row.op)


def _softmax(builder: GraphBuilder, row: Measurement) -> str:
    return builder.softmax(builder.input("x", row.shape), name=row.op)


def _norm(builder: GraphBuilder, row: Measurement) -> str:
    x = builder.input("x", row.shape)
    return builder.rms_norm(x, name=row.op) if row.op == "rmsnorm" else builder.layer_norm(x, name=row.op)


_BUILDERS: Mapping[str, Callable[[GraphBuilder, Measurement], str]] = {
    "matmul": _matmul,
    "unary": _unary,
    "binary": _binary,
    "gated": _binary,
    "softmax": _softmax,
    "norm": _norm,
    "copy": _copy,
    "all_reduce": _all_reduce,
}
