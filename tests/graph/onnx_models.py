"""Small ONNX models of one node or a few, and their comparison with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from sim.graph.evaluate import evaluate
from sim.graph.graph import Graph
from sim.graph.onnx import load_onnx

Array = np.ndarray[Any, Any]
Feeds = Mapping[str, Array]


def build(
    nodes: Sequence[onnx.NodeProto],
    feeds: Feeds,
    outputs: Sequence[str],
    constants: Feeds | None = None,
    opset: int = 17,
    domains: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """A model with an input per feed; outputs without type or shape, which importers must find out."""
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in feeds.items()
    ]
    graph = helper.make_graph(
        list(nodes),
        "test",
        inputs,
        [helper.make_value_info(name, onnx.TypeProto()) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid(name, version) for name, version in {"": opset, **(domains or {})}.items()]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def load(model: onnx.ModelProto, folder: Path) -> Graph:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return load_onnx(path)


def compare(
    model: onnx.ModelProto,
    feeds: Feeds,
    folder: Path,
    untyped: int = TensorProto.FLOAT,
    atol: float = 2e-5,
    *,
    as_written: bool = False,
) -> Graph:
    """Import, evaluate, and expect what ONNX Runtime computes, shape and numbers. Outputs that shape inference finds no
    type for are `untyped`. With `as_written`, it fuses nothing: its product with weights of 8 bits rounds the other
    operand to 8 bits too."""
    graph = load(model, folder)
    found = evaluate(graph, {name: value for name, value in feeds.items() if name in graph.inputs})
    typed = onnx.shape_inference.infer_shapes(model)
    for output in typed.graph.output:
        if not output.type.HasField("tensor_type"):
            output.type.tensor_type.elem_type = untyped
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if as_written:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(typed.SerializeToString(), options, ["CPUExecutionProvider"])
    wanted = session.run(None, dict(feeds))
    assert len(graph.outputs) == len(wanted)
    for name, expected in zip(graph.outputs, wanted, strict=True):
        assert graph.tensors[name].shape == expected.shape
        np.testing.assert_allclose(found[name].astype(np.float64), expected, rtol=2e-4, atol=atol)
    return graph
