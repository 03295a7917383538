"""Naming a model: every way in, and every option that does not fit refused by name."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from model_cards import GPT2

from sim.errors import InputError, LeptonError
from sim.graph.load import DEFAULT_DTYPE, list_models, load_model, load_plan


def complaint(spec: str, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        load_model(spec, **options)
    return str(caught.value)


def test_gemm() -> None:
    graph = load_model("gemm:512x768x1024", dtype="int8")
    assert graph.tensors["gemm"].shape == (512, 768)
    assert graph.macs == 512 * 768 * 1024
    assert graph.weight_bytes == 768 * 1024
    batched = load_model("gemm:8x512x768x64")
    assert batched.tensors["b"].shape == (8, 64, 768)
    assert {tensor.dtype for tensor in batched.tensors.values()} == {DEFAULT_DTYPE}


@pytest.mark.parametrize("spec", ["gemm:1x2", "gemm:1x2x0", "gemm:axbxc", "gemm:", "gemm:1x2x3x4x5"])
def test_bad_gemm(spec: str) -> None:
    assert "expected gemm:MxNxK" in complaint(spec)


def test_the_largest_tensor() -> None:
    assert load_model("gemm:16777216x16777216x1").macs == 2**48


def test_options_reach_the_graph() -> None:
    graph = load_model("resnet50", batch=8, dtype="int8")
    assert graph.items == 8
    assert graph.tensors["image"].shape == (8, 3, 224, 224)
    assert graph.tensors["fc.weight"].dtype == "int8"
    decode = load_model("llama2_7b", phase="decode", kv=2047, batch=3)
    assert decode.tensors["0.attention.k.cache"].shape == (3, 32, 2048, 128)
    assert decode.items == 3
    assert load_model("llama2_7b", phase="decode").tensors["0.attention.k.cache"].shape[2] == 1025
    assert load_model("bert_base", seq=384, batch=2).items == 768


def test_generate_is_a_plan() -> None:
    plan = load_plan("gpt2", phase="generate", seq=10, new_tokens=5)
    assert [(graph.items, count) for graph, count in plan] == [(10, 1), (1, 1), (1, 1), (1, 1), (1, 1)]
    caches = [graph.tensors["0.attention.k.cache"].shape[2] for graph, _ in plan]
    assert caches == [10, 11, 12, 13, 14]
    assert "load_plan" in complaint("gpt2", phase="generate")
    assert [count for _, count in load_plan("resnet50")] == [1]


@pytest.mark.parametrize(
    ("spec", "options", "expected"),
    [
        ("resnet5", {}, "unknown model 'resnet5'; did you mean 'resnet50'?; known: alexnet,"),
        ("resnet50", {"kv": 3, "seq": 5}, "seq, kv: do not apply to resnet50"),
        ("resnet50", {"dims": {"N": 1}}, "dims: does not apply to resnet50"),
        ("gemm:1x2x3", {"phase": "decode"}, "phase: does not apply to a GEMM"),
        ("gpt2", {"phase": "decode", "seq": 4}, "decode of gpt2 takes no --seq; it takes --kv"),
        ("gpt2", {"phase": "encode"}, "no phase 'encode'; it has: prefill, decode, generate"),
        ("gpt2", {"new_tokens": 2}, "prefill of gpt2 takes no --new-tokens"),
        ("gpt2", {"phase": "generate", "kv": 1}, "generate of gpt2 takes no --kv"),
        ("gpt2", {"seq": 0}, "--seq is too small: 0"),
        ("bert_base", {"kv": 1}, "encode of bert takes no --kv"),
        ("bert_base", {"phase": "generate", "new_tokens": 1}, "no phase 'generate'; it has: encode"),
        ("resnet50", {"batch": 0}, "batch must be positive, found 0"),
        ("resnet50", {"batch": 2**31}, "batch must be at most 2,147,483,647, found 2147483648"),
        ("gpt2", {"seq": 10**20}, "seq must be at most 4,194,304, found 100000000000000000000"),
        ("gpt2", {"kv": 2**22 + 1}, "kv must be at most 4,194,304, found 4194305"),
        ("gpt2", {"new_tokens": 2**22 + 1}, "new_tokens must be at most 4,194,304"),
        ("gemm:16777217x16777216x1", {}, "tensor gemm [16777217x16777216] has more than 2^48 elements"),
        ("resnet50", {"dtype": "int9"}, "unknown dtype 'int9'; did you mean 'int8'?"),
        ("missing/model.onnx", {}, "missing/model.onnx: error: no such file"),
        ("missing.yaml", {}, "missing.yaml: error: no such file"),
    ],
)
def test_refusals(spec: str, options: dict[str, Any], expected: str) -> None:
    assert expected in complaint(spec, **options)


def test_hugging_face_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(GPT2))
    for spec in (tmp_path, tmp_path / "config.json"):
        graph = load_model(str(spec), seq=4)
        assert (graph.name, graph.items) == (tmp_path.name, 4)
    assert "prefill needs --seq" in complaint(str(tmp_path))
    assert "decode needs --kv" in complaint(str(tmp_path), phase="decode")
    both = complaint(str(tmp_path), phase="generate")
    assert "needs --new-tokens" in both
    assert "needs --seq" in both


def test_other_files(tmp_path: Path) -> None:
    path = tmp_path / "net.csv"
    path.write_text("fc, 2, 3, 4\n")
    assert load_model(str(path), batch=5).macs == 5 * 24
    assert "kv: does not apply to a SCALE-Sim topology" in complaint(str(path), kv=1)
    (tmp_path / "net.bin").write_text("")
    assert "unknown kind of model file '.bin'" in complaint(str(tmp_path / "net.bin"))


WORKLOAD = "version: 1\nname: mine\nfamily: {family}\nparameters: {parameters}\n"


@pytest.mark.parametrize(
    ("family", "parameters", "expected"),
    [
        ("resnt", "{}", "w.yaml:3:1: error: family: unknown family 'resnt'; did you mean 'resnet'?"),
        (
            "resnet",
            "{dept: 18}",
            "w.yaml:4:14: error: parameters.dept: unknown parameter 'dept' of resnet; did you mean 'depth'?",
        ),
        ("resnet", "{depth: deep}", "parameters.depth: found 'deep'; expected a positive integer"),
        ("resnet", "{depth: -50}", "found -50; expected a positive integer"),
        ("resnet", "{depth: 17}", "parameters: depth must be one of [18, 34, 50, 101, 152], found 17"),
        ("mlp", "{widths: [4, x]}", "expected a list of positive integers"),
        ("transformer", "{model_type: bertha}", "unknown model_type 'bertha'; did you mean 'bert'?"),
        ("transformer", "{model_type: bert, hiden_size: 4}", "did you mean 'hidden_size'?"),
        ("transformer", "{model_type: gpt2}", "required key 'n_embd' is missing"),
    ],
)
def test_bad_workloads(tmp_path: Path, family: str, parameters: str, expected: str) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(WORKLOAD.format(family=family, parameters=parameters))
    assert expected in complaint(str(path))


def test_a_workload_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(
        WORKLOAD.format(family="mlp", parameters="{widths: [4, 6, 2]}") + "dtype: int8\nbatch: 3\n"
    )
    graph = load_model(str(path))
    assert (graph.name, graph.macs, graph.items) == ("mine", 3 * (4 * 6 + 6 * 2), 3)
    assert graph.tensors["fc1.weight"].dtype == "int8"
    path.write_text(path.read_text() + "sequence: 4\n")
    assert "unknown key 'sequence'" in complaint(str(path))


def test_llama_is_built_without_its_weights() -> None:
    """They would be 13 GB; its graph takes some megabytes, while it is built as well."""
    load_model("llama2_7b")
    tracemalloc.start()
    graph = load_model("llama2_7b", seq=2048)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 32 * 2**20
    assert sum(value.nbytes for value in graph.values.values()) < 2 * 2**20


def test_the_list_has_figures_and_domains() -> None:
    rows = {row.name: row for row in list_models()}
    assert rows["resnet50"].macs == 4_089_000_000
    assert rows["resnet50"].parameters == 25_557_032
    assert (rows["gpt2"].family, rows["gpt2"].domain) == ("transformer", "language")


@given(st.text(max_size=30))
@example("\0.yaml")
@example("a\0/b.onnx")
@example("x" * 5000 + ".onnx")
@example("y" * 5000 + ".yaml")
@example("gemm:" + "9" * 5000 + "x1x1")
@example(".")
def test_any_name_raises_nothing_but_errors_of_ours(spec: str) -> None:
    with pytest.raises(LeptonError):
        load_model(spec)
