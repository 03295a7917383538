"""Products of dequantised tensors on their integers: what changes, what must not, and when nothing does."""

from __future__ import annotations

import numpy as np
import pytest

import sim
from sim.graph.builder import GraphBuilder
from sim.graph.evaluate import evaluate, random_values
from sim.graph.graph import Graph
from sim.passes import default_passes, multiply_integers, remove_dead

RNG = np.random.default_rng(11)


def quantize(builder: GraphBuilder, x: str, scale: float, zero: float) -> str:
    attributes = {"function": "quantize", "parameters": (scale, zero, -128.0, 127.0)}
    return builder.add_op("elementwise", [x], attributes, dtype="int8")


def dequantize(builder: GraphBuilder, x: str, scale: float, zero: float) -> str:
    attributes = {"function": "dequantize", "parameters": (scale, zero)}
    return builder.add_op("elementwise", [x], attributes, dtype="fp32")


def weight(builder: GraphBuilder, name: str, *shape: int) -> str:
    return builder.weight(shape, name, "int8", RNG.integers(-100, 100, shape).astype(np.int8))


def network(zero: float, pooled: bool = True) -> Graph:
    """Two convolutions, the second around a maximum pool and beside a sum, as an exporter writes them."""
    builder = GraphBuilder("qdq", "fp32")
    x = quantize(builder, builder.input("x", (1, 3, 12, 12)), 0.02, zero)
    w = dequantize(builder, weight(builder, "w", 8, 3, 3, 3), 0.01, 0.0)
    bias = builder.weight((8,), "bias", "fp32", RNG.normal(size=8).astype(np.float32))
    window = dict.fromkeys(("stride", "dilation", "pad_begin", "pad_end"), (1, 1)) | {"kernel": (3, 3), "groups": 1}
    y = builder.add_op("conv", [dequantize(builder, x, 0.02, zero), w, bias], window, "first")
    y = quantize(builder, builder.relu(y), 0.05, zero)
    if pooled:
        y = quantize(builder, builder.pool(dequantize(builder, y, 0.05, zero), "max", 2), 0.05, zero)
    v = dequantize(builder, weight(builder, "v", 8, 8, 3, 3), 0.01, 0.0)
    z = builder.add_op("conv", [dequantize(builder, y, 0.05, zero), v], window, "second")
    return builder.build([builder.add(z, dequantize(builder, y, 0.05, zero))])


@pytest.mark.parametrize("zero", [0.0, -128.0, 5.0])
def test_same_numbers_by_integers(zero: float) -> None:
    graph = network(zero)
    done = remove_dead(multiply_integers(graph))
    values = random_values(graph, 1)
    (name,) = graph.outputs
    np.testing.assert_allclose(evaluate(done, values)[name], evaluate(graph, values)[name], rtol=1e-6, atol=1e-6)
    for op in done.ops:
        if op.kind == "conv":
            assert [done.tensors[each].dtype for each in (*op.inputs, op.output)] == ["int8", "int8", "int32"]
    assert done.macs == graph.macs
    # the pool moves integers, and zero points cost nothing where all agree on them
    (pool,) = (op for op in done.ops if op.kind == "pool")
    assert done.tensors[pool.inputs[0]].dtype == done.tensors[pool.output].dtype == "int8"


def test_zero_points_cost_a_pass_where_readers_disagree_only() -> None:
    def subtractions(graph: Graph) -> int:
        return sum(op.attributes.get("function") == "sub" for op in remove_dead(multiply_integers(graph)).ops)

    assert subtractions(network(-128.0, pooled=False)) == 0
    assert subtractions(network(-128.0)) == 1  # one after the pool: it is not the pool that quantises
    assert subtractions(network(0.0)) == 0


def test_a_quantised_model_runs_on_the_integer_array() -> None:
    """Four times the rate and a quarter of the weights of fp32, on a chip whose rates say so."""
    graph = network(0.0)
    whole = default_passes(graph)
    assert whole.weight_bytes - 4 * (8 + 2) == 8 * 3 * 9 + 8 * 8 * 9  # bias and two scales are fp32
    report = sim.simulate(graph, "lepton_m")
    convolutions = report.ops[report.ops.macs > 0]
    assert set(convolutions.dtype) == {"int8"}


def test_scales_that_do_not_leave_the_sum_are_left_alone() -> None:
    """One scale per row of a matrix that is summed over its rows."""
    builder = GraphBuilder("rows", "fp32")
    x = dequantize(builder, quantize(builder, builder.input("x", (4, 6)), 0.1, 0.0), 0.1, 0.0)
    w = weight(builder, "w", 6, 5)
    cast = builder.add_op("elementwise", [w], {"function": "cast", "parameters": ()}, dtype="fp32")
    rows = builder.weight((6, 1), "rows", "fp32", np.ones((6, 1), np.float32))
    graph = builder.build([builder.matmul(x, builder.mul(cast, rows), name="product")])
    done = multiply_integers(graph)
    (product,) = (op for op in done.ops if op.kind == "matmul")
    assert [done.tensors[name].dtype for name in product.inputs] == ["fp32", "fp32"]
    columns = builder.weight((5,), "columns", "fp32", np.linspace(1, 2, 5, dtype=np.float32))
    graph = builder.build([builder.matmul(x, builder.mul(cast, columns), name="scaled")])
    done = multiply_integers(graph)
    scaled = next(op for op in done.ops if op.name == "scaled")
    assert [done.tensors[name].dtype for name in scaled.inputs] == ["int8", "int8"]
    values = random_values(graph, 2)
    (name,) = graph.outputs
    np.testing.assert_allclose(evaluate(done, values)[name], evaluate(graph, values)[name], rtol=1e-6)


def test_a_graph_without_dequantisations_is_untouched() -> None:
    builder = GraphBuilder("plain", "fp32")
    graph = builder.build([builder.linear(builder.input("x", (4, 6)), 5)])
    assert multiply_integers(graph) is graph
