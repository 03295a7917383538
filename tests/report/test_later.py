"""What a report makes when it is looked at, and what it must not leave until then."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from sim import simulate
from sim.report import tables
from sim.report.later import Later


def save_product(file: Path, columns: int) -> bytes:
    """A 8 x 16 by 16 x columns product as an ONNX file."""
    shapes = {"a": [8, 16], "b": [16, columns], "y": [8, columns]}
    a, b, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items())
    graph = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["y"])], "product", [a, b], [y])
    onnx.save(helper.make_model(graph), str(file))
    return file.read_bytes()


def test_a_later_mapping_is_made_once_when_it_is_looked_at() -> None:
    made = []

    def make() -> Mapping[str, int]:
        made.append(1)
        return {"a": 1, "b": 2}

    found = Later(make)
    assert not made
    assert (found["b"], len(found), list(found), dict(found)) == (2, 2, ["a", "b"], {"a": 1, "b": 2})
    assert found == {"a": 1, "b": 2}
    assert "c" not in found
    assert made == [1]
    with pytest.raises(KeyError):
        found["c"]


def test_a_summary_takes_no_table_of_stalls(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(run: object) -> None:
        raise RuntimeError("asked for")

    monkeypatch.setattr(tables, "stalls", fails)
    report = simulate("gemm:32x32x32", "tiny", dtype="int8")
    assert report["latency_s"]
    assert report.to_json()["energy_j"] == report["energy_j"]
    with pytest.raises(RuntimeError, match="asked for"):
        report.tables["ops"]


def test_the_manifest_says_what_the_model_was_even_if_its_file_is_another_now(tmp_path: Path) -> None:
    file = tmp_path / "product.onnx"
    first = save_product(file, 8)
    report = simulate(str(file), "tiny")
    save_product(file, 24)
    assert report.manifest["input_hashes"]["model_file"] == hashlib.sha256(first).hexdigest()
    other = simulate(str(file), "tiny")
    file.unlink()
    hashes = other.manifest["input_hashes"]
    assert hashes["model_file"] != report.manifest["input_hashes"]["model_file"]
    assert hashes["graph"] != report.manifest["input_hashes"]["graph"]
