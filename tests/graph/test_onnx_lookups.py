"""What looking up, selecting and scattering cost, and what of it depends on the numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from onnx_models import build, load

from sim.errors import InputError
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph, op_passes

IDS = np.array([[3, 1, 2]])


def selection(length: int, k: int, places: bool) -> dict[str, float]:
    builder = GraphBuilder("topk", "fp32")
    attributes = {"axis": 1, "k": k, "largest": True, "indices": places}
    builder.add_op("topk", [builder.input("x", (4, length))], attributes)
    return dict(op_passes(builder.ops[0], builder.tensors))


@pytest.mark.parametrize(
    ("length", "k", "per_row"),
    [
        (8, 1, 7),  # a maximum
        (8, 2, 8 + 6 * 2),  # runs of 2, then 6 elements drop out, each compared and sorted in
        (8, 8, 8 * 6),  # a bitonic sort: 3 x 4 / 2 stages
        (1000, 4, 1000 * 3 + 996 * 3),
        (1, 1, 1),
    ],
)
def test_comparisons_of_a_selection(length: int, k: int, per_row: float) -> None:
    compared = pytest.approx(per_row / k)
    assert selection(length, k, places=False) == {"compare": compared}
    assert selection(length, k, places=True) == {"compare": compared, "select": compared}


def test_a_scan_adds_twice_and_a_scatter_writes_its_updates() -> None:
    builder = GraphBuilder("scan", "fp32")
    x = builder.input("x", (8, 4))
    builder.add_op("scan", [x], {"axis": 1, "function": "sum", "exclusive": False, "reverse": False})
    rows = builder.input("rows", (2,), "int64")
    builder.add_op("scatter", [x, rows, builder.input("new", (2, 4))], {"reduction": "add"})
    scan, scatter = (dict(op_passes(op, builder.tensors)) for op in builder.ops)
    assert scan == {"add": 2.0}
    assert scatter == {"copy": 1.0, "add": 0.25}  # 2 rows of 8


def topk(outputs: tuple[str, str], folder: Path, wanted: list[str]) -> Graph:
    node = helper.make_node("TopK", ["x", "k"], list(outputs), name="top")
    feeds = {"x": np.zeros((4, 16), np.float32)}
    return load(build([node], feeds, wanted, {"k": np.array([2])}), folder)


def test_one_selection_for_values_and_places(tmp_path: Path) -> None:
    """The values are looked up at the places; an output that nobody reads costs nothing."""
    both = topk(("v", "p"), tmp_path, ["v", "p"])
    assert [op.kind for op in both.ops].count("topk") == 1
    assert both.ops[-1].kind == "gather"
    for outputs, wanted in ((("v", "p"), "v"), (("v", "p"), "p"), (("", "p"), "p"), (("v", ""), "v")):
        (only,) = topk(outputs, tmp_path, [wanted]).ops
        assert only["indices"] == (wanted == "p")


@pytest.mark.parametrize(
    ("node", "text"),
    [
        (helper.make_node("NonZero", ["x"], ["y"], name="n"), "NonZero of a tensor that the model computes: how much"),
        (helper.make_node("Unique", ["x"], ["y"], name="n"), "Unique of a tensor that the model computes"),
        (helper.make_node("TopK", ["x", "i"], ["y", ""], name="n"), "input i is computed by the model; a constant"),
        (helper.make_node("GatherElements", ["x", "i"], ["y"], name="n"), r"indices \(3,\) do not fit data \(3, 4\)"),
        (helper.make_node("GatherND", ["x", "d"], ["y"], name="n"), r"indices 0 to 4 leave axes of \(3, 4\)"),
        (helper.make_node("ScatterND", ["x", "d", "i"], ["y"], name="n"), "leave axes of"),
        (helper.make_node("TopK", ["x", "k"], ["y", ""], name="n"), "expected k of 1 to 4"),
    ],
)
def test_refusals(node: object, text: str, tmp_path: Path) -> None:
    feeds = {"x": np.zeros((3, 4), np.float32), "i": np.zeros(3, np.int64)}
    constants = {"d": np.array([[0, 4]]), "k": np.array([9])}
    with pytest.raises(InputError, match=text):
        load(build([node], feeds, ["y"], constants), tmp_path)  # type: ignore[list-item]
