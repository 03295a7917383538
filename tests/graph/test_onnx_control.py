"""Branches, loops and scans, written out, against ONNX Runtime; and what of them depends on the numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import build, compare, load

from sim.errors import InputError

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(5)
NODE = helper.make_node
FLOAT = TensorProto.FLOAT


def f(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


def value(name: str, kind: int = FLOAT, shape: tuple[int, ...] | None = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def branch(name: str, op_type: str, *inputs: str) -> onnx.GraphProto:
    return helper.make_graph([NODE(op_type, list(inputs), [f"{name}.y"])], name, [], [value(f"{name}.y")])


@pytest.mark.parametrize("rank", [2, 3])
def test_a_branch_by_the_shape_of_the_input(rank: int, tmp_path: Path) -> None:
    """As exporters write `if x.dim() == 3`; the branches read what lies outside."""
    nodes = [
        NODE("Relu", ["x"], ["r"]),
        NODE("Shape", ["x"], ["extents"]),
        NODE("Size", ["extents"], ["rank"]),
        NODE("Equal", ["rank", "three"], ["deep"]),
        NODE("If", ["deep"], ["y"], then_branch=branch("t", "Neg", "r"), else_branch=branch("e", "Abs", "r")),
    ]
    feeds = {"x": f(*(2, 3, 4)[:rank])}
    graph = compare(build(nodes, feeds, ["y"], {"three": np.array(3)}), feeds, tmp_path)
    assert [op["function"] for op in graph.ops] == ["relu", "neg" if rank == 3 else "abs"]


def loop_body(condition: onnx.NodeProto) -> onnx.GraphProto:
    """h = tanh(h w) and what it was doubled; the step's number scales."""
    nodes = [
        NODE("MatMul", ["h", "w"], ["product"], name="product"),
        NODE("Tanh", ["product"], ["next"]),
        NODE("Cast", ["step"], ["number"], to=FLOAT),
        NODE("Mul", ["h", "number"], ["seen"]),
        condition,
    ]
    inputs = [value("step", TensorProto.INT64, ()), value("going", TensorProto.BOOL, ()), value("h", shape=(2, 4))]
    outputs = [value("still", TensorProto.BOOL, ()), value("next", shape=(2, 4)), value("seen", shape=(2, 4))]
    return helper.make_graph(nodes, "body", inputs, outputs)


def test_a_loop_of_a_known_length(tmp_path: Path) -> None:
    body = loop_body(NODE("Identity", ["going"], ["still"]))
    nodes = [NODE("Loop", ["count", "true", "x"], ["last", "all"], body=body, name="loop")]
    feeds, constants = {"x": f(2, 4)}, {"count": np.array(3), "true": np.array(True), "w": f(4, 4)}
    graph = compare(build(nodes, feeds, ["last", "all"], constants), feeds, tmp_path)
    assert graph.macs == 3 * 2 * 4 * 4
    assert sum(tensor.shape == (4, 4) for tensor in graph.tensors.values()) == 1  # one weight, read by every step


def test_a_loop_that_ends_early_by_a_known_condition(tmp_path: Path) -> None:
    body = loop_body(NODE("Less", ["step", "one"], ["still"]))
    nodes = [NODE("Loop", ["count", "true", "x"], ["last", "all"], body=body)]
    constants = {"count": np.array(9), "true": np.array(True), "w": f(4, 4), "one": np.array(1)}
    feeds = {"x": f(2, 4)}
    graph = compare(build(nodes, feeds, ["last", "all"], constants), feeds, tmp_path)
    assert graph.macs == 2 * 2 * 4 * 4


@pytest.mark.parametrize("reverse", [0, 1])
def test_a_scan(reverse: int, tmp_path: Path) -> None:
    body = helper.make_graph(
        [NODE("Add", ["h", "part"], ["next"]), NODE("Mul", ["next", "part"], ["made"])],
        "body",
        [value("h", shape=(3,)), value("part", shape=(3,))],
        [value("next", shape=(3,)), value("made", shape=(3,))],
    )
    directions = {"scan_input_directions": [reverse], "scan_output_directions": [reverse]}
    node = NODE("Scan", ["h0", "x"], ["last", "all"], body=body, num_scan_inputs=1, scan_input_axes=[1], **directions)
    feeds = {"h0": f(3), "x": f(3, 5)}
    graph = compare(build([node], feeds, ["last", "all"]), feeds, tmp_path)
    assert sum(op.attributes.get("function") == "add" for op in graph.ops) == 5


@pytest.mark.parametrize(
    ("node", "text"),
    [
        (
            NODE("If", ["c"], ["y"], then_branch=branch("t", "Neg", "x"), else_branch=branch("e", "Abs", "x")),
            "a condition that the model computes",
        ),
        (
            NODE("If", ["true"], ["y"], then_branch=branch("t", "Magic", "x"), else_branch=branch("e", "Abs", "x")),
            r"inside: t.y \(Magic\): unsupported operator",
        ),
        (
            NODE("Loop", ["many", "true", "x"], ["y", "all"], body=loop_body(NODE("Identity", ["going"], ["still"]))),
            "100000 steps; at most 4096",
        ),
        (
            NODE("Loop", ["two", "true", "x"], ["y", "all"], body=loop_body(NODE("Not", ["c"], ["still"]))),
            "a loop that ends when the model computes it to",
        ),
        (
            NODE("Loop", ["", "true", "x"], ["y", "all"], body=loop_body(NODE("Identity", ["going"], ["still"]))),
            "a loop that has not ended after 4096 steps",
        ),
        (
            NODE("If", ["true"], ["y"], then_branch=branch("t", "Neg", "lost"), else_branch=branch("e", "Abs", "x")),
            "'lost' is produced by no node|'lost' is missing",
        ),
    ],
)
def test_refusals(node: onnx.NodeProto, text: str, tmp_path: Path) -> None:
    feeds = {"x": f(2, 4), "c": np.array(True)}
    constants = {"true": np.array(True), "many": np.array(100_000), "two": np.array(2), "w": f(4, 4)}
    with pytest.raises(InputError, match=text):
        load(build([node], feeds, ["y"], constants), tmp_path)


def test_nodes_out_of_order_with_a_name_read_from_inside(tmp_path: Path) -> None:
    nodes = [
        NODE("If", ["true"], ["y"], then_branch=branch("t", "Neg", "r"), else_branch=branch("e", "Abs", "r")),
        NODE("Relu", ["x"], ["r"]),
    ]
    graph = load(build(nodes, {"x": f(2, 4)}, ["y"], {"true": np.array(True)}), tmp_path)
    assert [op["function"] for op in graph.ops] == ["relu", "neg"]


def test_sizes_that_do_not_fit_each_other_are_named(tmp_path: Path) -> None:
    """Exporters give the batch of every input a name of its own."""
    model = build([NODE("Add", ["a", "b"], ["y"])], {"a": f(1, 3), "b": f(1, 3)}, ["y"])
    for item, symbol in zip(model.graph.input, ("s10", "s86"), strict=True):
        item.type.tensor_type.shape.dim[0].dim_param = symbol
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    from sim.graph.onnx import load_onnx

    with pytest.raises(InputError, match=r"do the sizes fit each other\? s10=2, s86=4"):
        load_onnx(path, {"s10": 2, "s86": 4})
    with pytest.raises(InputError, match=r"dimension s86 has no number; .*--dim s86=N.*; b is \[s86, 3\]"):
        load_onnx(path, {"s10": 2})
    assert load_onnx(path, {"s10": 2, "s86": 2}).items == 2


def test_an_empty_input_is_called_empty(tmp_path: Path) -> None:
    model = build([NODE("Relu", ["x"], ["y"])], {"x": f(2, 0)}, ["y"])
    with pytest.raises(InputError, match=r"dimension x.1 is 0, and an empty input computes nothing; .*--dim x.1=N"):
        load(model, tmp_path)



def test_a_sequence_that_a_loop_fills(tmp_path: Path) -> None:
    """As PyTorch exports bags of embeddings: a loop without trip count whose condition is known, a sum per step."""
    nodes = [
        NODE("Unsqueeze", ["step", "zero"], ["first"]),
        NODE("Add", ["first", "one"], ["last"]),
        NODE("Slice", ["x", "first", "last"], ["row"]),
        NODE("ReduceSum", ["row", "one"], ["total"], keepdims=0),
        NODE("SequenceInsert", ["bags", "total"], ["more"]),
        NODE("Less", ["step", "two"], ["still"]),
    ]
    boolean, number = (TensorProto.BOOL, ()), (TensorProto.INT64, ())
    bags = helper.make_tensor_sequence_value_info("bags", FLOAT, None)
    more = helper.make_tensor_sequence_value_info("more", FLOAT, None)
    body = helper.make_graph(
        nodes, "body", [value("step", *number), value("going", *boolean), bags], [value("still", *boolean), more]
    )
    outer = [
        NODE("SequenceEmpty", [], ["none"]),
        NODE("Loop", ["", "true", "none"], ["all"], body=body),
        NODE("ConcatFromSequence", ["all"], ["y"], axis=0),
    ]
    constants = {"true": np.array(True), "zero": np.array([0]), "one": np.array([1]), "two": np.array(2)}
    feeds = {"x": f(3, 4)}
    graph = compare(build(outer, feeds, ["y"], constants), feeds, tmp_path)
    assert [op.kind for op in graph.ops].count("reduce") == 3


def test_sequences(tmp_path: Path) -> None:
    nodes = [
        NODE("SplitToSequence", ["x", "sizes"], ["parts"], axis=1),
        NODE("SequenceAt", ["parts", "last"], ["tail"]),
        NODE("SequenceErase", ["parts", "zero"], ["rest"]),
        NODE("SequenceInsert", ["rest", "tail", "zero"], ["turned"]),
        NODE("ConcatFromSequence", ["turned"], ["y"], axis=1),
        NODE("SequenceConstruct", ["y", "y"], ["twice"]),
        NODE("ConcatFromSequence", ["twice"], ["z"], axis=0, new_axis=1),
        NODE("SequenceLength", ["turned"], ["count"]),
        NODE("Cast", ["count"], ["wide"], to=FLOAT),
        NODE("Mul", ["x", "wide"], ["w"]),
    ]
    feeds = {"x": f(2, 6)}
    constants = {"sizes": np.array([1, 2, 3]), "last": np.array(-1), "zero": np.array(0)}
    compare(build(nodes, feeds, ["y", "z", "w"], constants), feeds, tmp_path)


def test_a_sequence_as_an_output(tmp_path: Path) -> None:
    model = build([NODE("SplitToSequence", ["x"], ["parts"])], {"x": f(2, 6)}, ["parts"])
    with pytest.raises(InputError, match="output 'parts' is a sequence, not a tensor"):
        load(model, tmp_path)
