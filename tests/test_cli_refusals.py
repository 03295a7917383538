"""Bad input on the command line: exit codes 1 and 2, and messages that say where, what, and what else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import Lepton, assert_refused


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["simulat"], ["simulat"]),
        (["simulate", "lenet5"], ["--chip"]),
        (["simulate", "lenet5", "--chip", "tiny", "--batch", "0"], ["--batch"]),
        (["simulate", "lenet5", "--chip", "tiny", "--format", "xml"], ["--format", "xml"]),
        (["simulate", "lenet5", "--chip", "tiny", "--dim", "batch"], ["--dim batch", "NAME=N"]),
        (["simulate", "lenet5", "--chip", "tiny", "--dim", "batch=-1"], ["batch=-1", "positive"]),
        (["simulate", "lenet5", "--chip", "tiny", "--dim", "n=1", "--dim", "n=2"], ["twice"]),
        (["simulate", "lenet5", "--chip", "tinny"], ["tinny", "did you mean 'tiny'", "lepton_m"]),
        (["simulate", "lenet6", "--chip", "tiny"], ["lenet6", "lenet5"]),
        (["simulate", "absent.onnx", "--chip", "tiny"], ["absent.onnx"]),
        (["simulate", "gemm:8x0x8", "--chip", "tiny"], ["gemm:8x0x8"]),
        (["simulate", "gemm:8x8", "--chip", "tiny"], ["gemm:8x8"]),
        (["simulate", "lenet5", "--chip", "tiny", "--dtype", "int9"], ["int9"]),
        (["simulate", "lenet5", "--chip", "tiny", "--kv", "128"], ["kv"]),
        (["simulate", "lenet5", "--chip", "tiny", "--dim", "batch=2"], ["dim"]),
        (["simulate", "lenet5", "--chip", "tiny", "--partition", "absent.yaml"], ["absent.yaml"]),
        (["simulate", "lenet5", "--chip", "tiny", "--set", "core.array.rows"], ["PATH=VALUE"]),
        (["simulate", "lenet5", "--chip", "tiny", "--set", "core.array.row=8"], ["did you mean 'rows'"]),
        (["simulate", "lenet5", "--chip", "tiny", "--set", "core.sram.size=1024"], ["bare number", "KiB"]),
        (["simulate", "lenet5", "--chip", "tiny", "--fidelity", "bound", "--engine", "compiled"], ["bound"]),
        (["check", "lepton_n"], ["lepton_n", "did you mean 'lepton_", "lepton_m"]),
        (["check", "tiny", "--batch", "2"], ["--batch", "--chip"]),
        (["check", "tiny", "--values"], ["--values", "--chip"]),
        (["check", "cnn.onnx"], ["'cnn.onnx' is a model", "add --chip CHIP"]),
        (["check", "lenet5"], ["'lenet5' is a model", "add --chip CHIP"]),
        (["simulate", "lenet5", "--chip", "nets/cnn.onnx"], ["is a model file, not a chip", "list chips"]),
        (["simulate", "gemm:1x1x1", "--chip", "tiny", "--batch", "9" * 20], ["batch must be at most"]),
        (["simulate", "lenet5", "--chip", "tiny", "--dim", "n=" + "9" * 5000], ["NAME=N"]),
        (["show", "chip", "absent.yaml"], ["absent.yaml"]),
        (["simulate", "lenet5", "--chip", "eyeriss_v1", "--density", "nan"], ["--density nan", "expected a share"]),
        (["simulate", "", "--chip", "tiny"], ["MODEL is empty"]),
        (["simulate", "lenet5", "--chip", " "], ["name of the chip is empty"]),
        (["simulate", "net.pt", "--chip", "tiny"], ["files of this kind are not read", "torch.onnx.export"]),
        (["show", "model", "nets/net.SAFETENSORS"], ["files of this kind are not read", "config.json"]),
        (["simulate", "meta-llama/Llama-2-7b-hf", "--chip", "tiny"], ["no such file", "download its config.json"]),
        (["simulate", "lenet5", "--chip", "tiny", "--dtype", "int8", "--out", "a" * 300], ["File name too long"]),
        (["simulate", "lenet5", "--chip", "tiny", "--weights", "int4:"], ["weights", "int4:N"]),
        (["show", "dram", "hbm33"], ["error: unknown DRAM device 'hbm33'", "did you mean 'hbm3'"]),
        (["check", "lenet5", "--chip", "tiny", "--sample-layers", "4"], ["--sample-layers", "simulates none"]),
        (["show", "program", "lenet5", "--chip", "tiny", "--sample-layers", "4"], ["--sample-layers", "none"]),
        (["show", "partition", "lenet5", "--chip", "tiny", "--sample-layers", "4"], ["--sample-layers", "none"]),
        (["show", "technology", "n9"], ["n9", "n7"]),
        (["show", "model", "lenet6"], ["lenet6", "lenet5"]),
    ],
)  # fmt: skip
def test_bad_input(lepton: Lepton, arguments: list[str], words: list[str]) -> None:
    assert_refused(lepton(*arguments), 2, *words)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("name: mine", "name:\tmine\n\tmine", ["indent with spaces, not tabs"]),
        ("clock:", "clok:", ["unknown key 'clok'", "did you mean 'clock'"]),
        ("technology: n7\n", "", ["technology"]),
        ('"1 GHz"', "1", ["clock", "bare number", "MHz"]),
        ('"1 GHz"', '"-1 GHz"', ["clock", "-1 GHz"]),
        ('"1 GHz"', '"0 GHz"', ["clock"]),
        ("rows: 8", "rows: 0", ["cores[0].array.rows"]),
        ("rows: 8", "rows: -8", ["cores[0].array.rows"]),
        ("rows: 8", "rows: eight", ["cores[0].array.rows"]),
        ("version: 1", "version: 99", ["version"]),
        ("name: mine", "name: mine\nname: mine", ["name"]),
        ("device: ddr4_3200", "device: ddr44", ["ddr44"]),
    ],
)
def test_bad_chip_file(lepton: Lepton, tmp_path: Path, old: str, new: str, words: list[str]) -> None:
    assert CHIP.count(old) == 1
    file = tmp_path / "mine.yaml"
    file.write_text(CHIP.replace(old, new), encoding="utf-8")
    for command in (["check", file], ["simulate", "lenet5", "--chip", file, "--out", "run"]):
        assert_refused(lepton(*command), 2, "mine.yaml", *words)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


CHIP = """\
version: 1
name: mine
technology: n7
clock: "1 GHz"
cores:
  - name: tensor
    count: 1
    array: {rows: 8, cols: 8, rates: {int8: 1, bf16: 1, fp32: 0.25}}
    accumulator: {size: 16 KiB, bandwidth: 64 GB/s}
    vector: {lanes: 8}
    sram: {size: 64 KiB, banks: 4, bandwidth: 64 GB/s}
    dma: {channels: 2, outstanding: 2, setup_latency: 50 ns, bandwidth: 16 GB/s}
dram: {device: ddr4_3200, channels: 1, capacity: 1 GiB}
"""


def test_good_chip_file(lepton: Lepton, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(CHIP, encoding="utf-8")
    result = lepton("check", "mine.yaml")
    assert (result.code, result.out.splitlines()[0]) == (0, "mine.yaml: ok")


def test_child_that_misspells_its_parents_core_kind(lepton: Lepton, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(CHIP, encoding="utf-8")
    child = "version: 1\nextends: base.yaml\ncores:\n  - {name: NAME, sram: {size: 128 KiB}}\n"
    (tmp_path / "mine.yaml").write_text(child.replace("NAME", "tensr"), encoding="utf-8")
    result = lepton("check", "mine.yaml")
    assert_refused(result, 2, "required key 'count' is missing")
    first = "mine.yaml:4:5: error: cores[1]: the parent has no core kind 'tensr'; did you mean 'tensor'?"
    assert result.err.splitlines()[0] == first
    (tmp_path / "mine.yaml").write_text(child.replace("NAME", "scalar"), encoding="utf-8")
    assert "the parent has no" not in lepton("check", "mine.yaml").err


def test_all_mistakes_are_named_at_once(lepton: Lepton, tmp_path: Path) -> None:
    text = CHIP.replace("lanes: 8", "lanez: 8").replace("rows: 8", "rows: 0").replace('"1 GHz"', "1")
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    result = lepton("check", "mine.yaml")
    assert_refused(result, 2, "mine.yaml:4:1: error: clock", "array.rows", "lanez")


@pytest.mark.parametrize(
    "arguments",
    [
        ["gemm:65536x65536x65536", "--chip", "tiny", "--dtype", "int8"],
        ["llama2_7b", "--chip", "lepton_m", "--phase", "decode", "--kv", "4096", "--batch", "64"],
        ["lenet5", "--chip", "tiny", "--dtype", "int8", "--set", "core.sram.size=16 B"],
        ["lenet5", "--chip", "tiny", "--dtype", "int8", "--set", "dram.capacity=1 KiB"],
    ],
)
def test_what_does_not_fit(lepton: Lepton, tmp_path: Path, arguments: list[str]) -> None:
    for command in (["simulate", *arguments, "--out", "run"], ["check", *arguments]):
        result = lepton(*command)
        assert_refused(result, 1, "does not fit", "needed", "available", "may help")
    assert list(tmp_path.iterdir()) == []


def _light_bytes() -> bytes:
    from sim.graph.onnx import light_model_path

    return light_model_path("squeezenet").read_bytes()


def _onnx(nodes: list[tuple[str, list[str], list[str]]], external: bool = False) -> bytes:
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4], [1.0, 2.0, 3.0, 4.0])
    if external:
        weight.ClearField("float_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value="absent.bin")
    made = [helper.make_node(kind, a, b, name=f"{kind}_{i}") for i, (kind, a, b) in enumerate(nodes)]
    ends = [value("x", TensorProto.FLOAT, [4])], [value("y", TensorProto.FLOAT, [4])]
    model = helper.make_model(helper.make_graph(made, "bad", *ends, [weight]))
    content: bytes = model.SerializeToString()
    return content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda: _light_bytes()[:500], []),
        (lambda: b"\x89PNG\r\n" + _light_bytes(), []),
        (lambda: b"", []),
        (lambda: _onnx([]), []),
        (lambda: _onnx([("Add", ["x", "w"], ["y"])], external=True), ["absent.bin"]),
        (lambda: _onnx([("Add", ["x", "b"], ["a"]), ("Add", ["a", "w"], ["b"]), ("Relu", ["b"], ["y"])]), []),
        (lambda: _onnx([("Det", ["x"], ["a"]), ("Bernoulli", ["a"], ["y"])]), ["Det_0", "Bernoulli_1"]),
    ],
    ids=["truncated", "wrong magic", "no bytes", "empty graph", "external data", "cycle", "unsupported"],
)  # fmt: skip
def test_bad_onnx(lepton: Lepton, tmp_path: Path, content: Callable[[], bytes], words: list[str]) -> None:
    (tmp_path / "bad.onnx").write_bytes(content())
    result = lepton("simulate", "bad.onnx", "--chip", "tiny", "--out", "run")
    assert_refused(result, 2, "bad.onnx", *words)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.onnx"]


def test_output_folder_that_cannot_be_written(lepton: Lepton, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    assert_refused(
        lepton("simulate", "lenet5", "--chip", "tiny", "--dtype", "int8", "--out", "file/run"), 2, "file/run"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_die_larger_than_a_wafer(lepton: Lepton) -> None:
    found = lepton("show", "cost", "lepton_m", "--set", "cache.size=64 GiB")
    words = ("the die of 'lepton_m' does not fit in the square in a wafer", "available: 45,000 mm2", "less memory")
    assert_refused(found, 1, *words)


LLAMA = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 8, "intermediate_size": 64,
    "vocab_size": 10, "max_position_embeddings": 10,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_size": 2**40}, ["1,099,511,627,776 hidden dimensions exceed"]),
        ({"hidden_size": 2**23, "num_attention_heads": 1}, ["8,388,608 dimensions of a head exceed the 65,536"]),
        ({"num_hidden_layers": 10**9}, ["1,000,000,000 layers exceed the 4,096"]),
        ({"model_type": "mixtral", "num_local_experts": 10**7}, ["10,000,000 experts exceed the 8,192"]),
    ],
)
def test_a_config_of_impossible_sizes(
    lepton: Lepton, tmp_path: Path, changes: dict[str, object], words: list[str]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA | changes))
    assert_refused(lepton("simulate", tmp_path, "--chip", "tiny", "--seq", "4"), 2, *words)


def test_a_range_as_the_command_line_has_it(lepton: Lepton, tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(
        "version: 1\nname: s\nchip: tiny\nparameters: {core.array.rows: 8..64*2}\nworkloads: [{model: lenet5}]\n"
    )
    result = lepton("sweep", space)
    assert_refused(result, 2, "space.yaml:4:", "{from: 8, to: 64, step: 8}")
