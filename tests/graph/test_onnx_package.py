"""The models that the onnx package brings with inputs and outputs: what they compute, against what is written there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from sim.errors import InputError
from sim.graph.evaluate import evaluate
from sim.graph.onnx import load_onnx

Array = np.ndarray[Any, Any]

DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
STRINGS = (
    *("monday_casesensintive_lower", "monday_casesensintive_nochangecase", "monday_casesensintive_upper"),
    *("monday_empty_output", "monday_insensintive_upper_twodim", "nostopwords_nochangecase"),
)
REFUSED = {
    **dict.fromkeys([f"test_expand_shape_model{n}" for n in (1, 2, 3, 4)], "input shape is computed by the model"),
    **dict.fromkeys(["test_gradient_of_add", "test_gradient_of_add_and_mul"], "preview.training::Gradient"),
    **dict.fromkeys([f"test_sequence_model{n}" for n in (1, 2, 3)], "computes nothing from its inputs"),
    "test_sequence_model8": "dimension n cannot be 0",
    **dict.fromkeys([f"test_strnorm_model_{kind}" for kind in STRINGS], "input holds object"),
}
"""What is no network of tensors: shapes that are inputs, lists whose lengths alone come out, nothing, texts."""


def models() -> Iterator[Any]:
    for folder in sorted(DATA.glob("*/*/")):
        if (folder / "model.onnx").is_file() and folder.parent.name != "node":
            yield pytest.param(folder, id=folder.name)


def told(path: Path) -> Array:
    """A tensor of the package's files."""
    tensor = onnx.TensorProto()
    tensor.ParseFromString(path.read_bytes())
    return numpy_helper.to_array(tensor)


@pytest.mark.parametrize("folder", list(models()))
def test_what_the_package_says_comes_out(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx").graph
    inputs = [item for item in model.input if item.name not in {each.name for each in model.initializer}]
    cases = []
    for case in sorted(folder.glob("test_data_set_*")):
        feeds = {} if "strnorm" in folder.name else {
            item.name: told(case / f"input_{index}.pb") for index, item in enumerate(inputs)
        }  # fmt: skip
        cases.append((case, feeds))
    dims = {
        dim.dim_param: cases[0][1][item.name].shape[axis]
        for item in inputs
        for axis, dim in enumerate(item.type.tensor_type.shape.dim)
        if dim.dim_param
    }
    if folder.name in REFUSED:
        with pytest.raises(InputError, match=REFUSED[folder.name]):
            load_onnx(folder / "model.onnx", dims)
        return
    graph = load_onnx(folder / "model.onnx", dims)
    assert cases
    for case, feeds in cases:
        found = evaluate(graph, {name: value for name, value in feeds.items() if name in graph.inputs})
        for index, name in enumerate(graph.outputs):
            expected = told(case / f"output_{index}.pb")
            assert graph.tensors[name].shape == expected.shape
            np.testing.assert_allclose(found[name].astype(np.float64), expected, rtol=1e-3, atol=1e-6)
