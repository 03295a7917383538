"""Lowered programs compute the right numbers: every kind of operator, chip, partition and dataflow, tile by tile."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from mapped import (
    CHIPS,
    DATAFLOWS,
    PARTITIONS,
    Array,
    assert_equal,
    check,
    computed,
    expected,
    given_values,
    mapped,
)
from onnx import helper
from onnx_models import build, compare
from random_graphs import random_graph
from random_operators import BUILDERS, random_operator
from small_models import MODELS

from sim.engine import functional, run
from sim.errors import InvariantViolation
from sim.graph.builder import GraphBuilder
from sim.graph.op import KINDS
from sim.hw.chip import chip_from_dict
from sim.mapping.mapper import map_graph
from sim.passes import default_passes
from sim.program import Kind, Program, Space

OPERATOR_SEEDS = range(6)
GRAPHS = 40
GRAPH_BLOCK = 10


def drawn(seed: int) -> tuple[str, str, str]:
    """Chip, partition and dataflow of a seed, so that consecutive seeds go through all of them."""
    return CHIPS[seed % 4], PARTITIONS[seed % 5], DATAFLOWS[seed % 3]


def test_every_kind_is_here() -> None:
    assert set(BUILDERS) == set(KINDS) - {"reshape"}


@pytest.mark.parametrize("kind", BUILDERS)
def test_random_operators(kind: str) -> None:
    for seed in OPERATOR_SEEDS:
        for dtype in ("int8", "fp32"):
            chip, partition, dataflow = drawn(seed + 7 * (dtype == "int8"))
            graph = default_passes(random_operator(kind, seed, dtype))
            check(graph, chip, seed, partition=partition, dataflow=dataflow)


@pytest.mark.parametrize("first", range(0, GRAPHS, GRAPH_BLOCK))
def test_random_graphs(first: int) -> None:
    """With operators that nobody reads, and views, as well as without them."""
    for seed in range(first, first + GRAPH_BLOCK):
        chip, partition, dataflow = drawn(seed)
        graph = random_graph(seed) if seed % 2 else default_passes(random_graph(seed))
        check(graph, chip, seed, partition=partition, dataflow=dataflow)


@pytest.mark.parametrize("partition", PARTITIONS)
@pytest.mark.parametrize("model", MODELS)
def test_small_models(model: str, partition: str) -> None:
    graph = default_passes(MODELS[model]())
    for number, chip in enumerate(CHIPS):
        check(graph, chip, number, partition=partition, dataflow=DATAFLOWS[number % 3])


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_unfused_convolutions_on_every_chip_and_dataflow(chip: str, dataflow: str) -> None:
    for model in ("residual", "grouped"):
        check(MODELS[model](), chip, 1, dataflow=dataflow)


@pytest.mark.parametrize("partition", PARTITIONS)
def test_inputs_that_overlap(partition: str) -> None:
    """The third input uses again the memory of the first, while the second is under way."""
    for chip, model in itertools.product(("one core", "crossbar of 4"), ("grouped", "llama decode")):
        check(default_passes(MODELS[model]()), chip, 2, partition=partition, inputs=3)


def test_rows_are_gathered_while_indices_of_other_cores_are_still_written() -> None:
    """Each core's indices are its own: its gather waits for these alone."""
    core = {
        "name": "core",
        "count": 3,
        "vector": {"lanes": 1024},
        "sram": {"size": "2 KiB", "banks": 8, "bandwidth": "8 GB/s"},
        "dma": {"channels": 1, "outstanding": 8, "setup_latency": "0 ns", "bandwidth": "32 GB/s"},
    }
    chip = chip_from_dict(
        {
            "version": 1,
            "name": "row",
            "technology": "n16",
            "clock": "700 MHz",
            "cores": [core],
            "interconnect": {
                "topology": "mesh", "shape": [3, 1], "hop_latency": "2 ns", "link_bandwidth": "64 GB/s"
            },
            "dram": {"device": "hbm2e", "capacity": "8 GiB", "stacks": 2},
        }
    )  # fmt: skip
    graph = MODELS["gathered"]()
    program = map_graph(graph, chip, partition="reduction", functional=True)
    values = given_values(graph)
    timeline = run(program)
    segment, ops = program.segments[0], [op.name for op in program.segments[0].ops]
    written = (segment.kind == Kind.STORE) & (segment.op == ops.index("transpose"))
    gathering = (segment.kind == Kind.LOAD) & (segment.op == ops.index("gather"))
    times = timeline.segments[0]
    assert times.start[gathering].min() < times.finish[written].max()
    assert_equal(functional.run(program, timeline, graph, values), expected(graph, values))


def test_a_product_by_hand() -> None:
    """[1 2 3 4 5] times a 5 x 2 matrix, plus bias, rectified."""
    builder = GraphBuilder("by_hand", "int8")
    builder.relu(builder.linear(builder.input("x", (1, 5)), 2, name="y"))
    graph = default_passes(builder.build(["relu"]))
    weight, bias = (op for op in graph.ops[0].inputs[1:])
    values: dict[str, Array] = {
        "x": np.array([[1, 2, 3, 4, 5]]),
        weight: np.array([[1, -1], [1, -1], [0, 0], [0, 0], [2, 3]]),
        bias: np.array([-20, 10]),
    }
    program = mapped(graph, "one core")
    assert computed(graph, program, values)["relu"].tolist() == [[0, 22]]


# That the cases above are hard enough.


def accesses(program: Program, space: Space, *, write: bool) -> int:
    """How many accesses to a memory the program has."""
    tables = [segment.functional for segment in program.segments]
    return sum(int(((t.space == space) & (t.write == write)).sum()) for t in tables if t is not None)


def tasks(program: Program, kind: Kind) -> int:
    return sum(int((segment.kind == kind).sum()) for segment in program.segments)


def reuses(program: Program) -> int:
    """Loads that fill a slot of a scratchpad which another load has filled before."""
    slots: list[tuple[int, ...]] = []
    for segment in program.segments:
        table = segment.functional
        assert table is not None
        task = np.repeat(np.arange(segment.tasks), np.diff(table.aptr))
        fills = (segment.kind[task] == Kind.LOAD) & (table.space == Space.SCRATCHPAD) & table.write
        slots += zip(table.core[fills].tolist(), table.address_bytes[fills].tolist(), strict=True)
    return len(slots) - len(set(slots))


def test_the_programs_are_hard_enough() -> None:
    graph = default_passes(MODELS["residual"]())
    split = mapped(graph, "crossbar of 4", partition="reduction")
    assert tasks(split, Kind.SEND) > 300
    whole = mapped(graph, "ring of 2, ganged arrays")
    assert accesses(whole, Space.KEPT, write=False) > 100
    assert reuses(whole) > 200
    assert tasks(whole, Kind.MATMUL) > accesses(whole, Space.ACCUMULATOR, write=False) > 200


# Models from ONNX files.


def convolutional() -> tuple[list[object], dict[str, Array], dict[str, Array]]:
    rng = np.random.default_rng(3)
    feeds = {"x": rng.normal(size=(1, 3, 14, 14)).astype(np.float32)}
    constants = {
        "w1": rng.normal(size=(8, 3, 3, 3)), "s": rng.uniform(0.5, 1.5, 8), "b": rng.normal(size=8),
        "m": rng.normal(size=8), "v": rng.uniform(0.5, 1.5, 8), "w2": rng.normal(size=(8, 1, 3, 3)),
        "w3": rng.normal(size=(10, 8)), "b3": rng.normal(size=10),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c"], strides=[2, 2], pads=[1, 1, 0, 0]),
        helper.make_node("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("Conv", ["r", "w2"], ["d"], group=8, auto_pad="SAME_UPPER"),
        helper.make_node("Add", ["d", "r"], ["sum"]),
        helper.make_node("GlobalAveragePool", ["sum"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["logits"], transB=1),
    ]
    return nodes, feeds, {name: value.astype(np.float32) for name, value in constants.items()}


def self_attention() -> tuple[list[object], dict[str, Array], dict[str, Array]]:
    rng = np.random.default_rng(4)
    feeds = {"x": rng.normal(size=(1, 6, 12)).astype(np.float32)}
    constants = {name: rng.normal(0, 0.3, (12, 12)).astype(np.float32) for name in ("wq", "wk", "wv")}
    constants |= {"scale": np.ones(12, np.float32), "shift": np.zeros(12, np.float32)}
    nodes = [
        helper.make_node("LayerNormalization", ["x", "scale", "shift"], ["n"], axis=-1),
        *(helper.make_node("MatMul", ["n", f"w{name}"], [name]) for name in "qkv"),
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["p"], axis=-1),
        helper.make_node("MatMul", ["p", "v"], ["mixed"]),
        helper.make_node("Add", ["mixed", "x"], ["y"]),
    ]
    return nodes, feeds, constants


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("model", [(convolutional, "logits"), (self_attention, "y")], ids=["conv", "attention"])
def test_onnx_models_against_onnx_runtime(model: tuple, chip: str, tmp_path: Path) -> None:  # type: ignore[type-arg]
    """`compare` holds the imported graph to ONNX Runtime; the program is held to the graph before its passes, which
    fold constants in single precision."""
    make, output = model
    nodes, feeds, constants = make()
    graph = compare(build(nodes, feeds, [output], constants), feeds, tmp_path)
    mine = default_passes(graph)
    found = computed(mine, mapped(mine, chip), {**mine.values, **feeds})
    wanted = expected(graph, {**graph.values, **feeds})
    for name, want in wanted.items():
        np.testing.assert_allclose(found[name], want, rtol=0, atol=1e-6 * np.abs(want).max())


# Refusals.


def test_a_program_without_functional_columns() -> None:
    from mapped import small_chip

    graph = default_passes(MODELS["grouped"]())
    program = map_graph(graph, small_chip("one core"))
    with pytest.raises(InvariantViolation, match="without functional columns"):
        functional.run(program, run(program), graph, given_values(graph))
