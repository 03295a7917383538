"""Weights packed by an option: which matrices, in how many bytes, with which numbers; what config.json says itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sim.errors import InputError
from sim.graph.builder import GraphBuilder
from sim.graph.evaluate import evaluate, random_values
from sim.graph.load import load_model
from sim.graph.packing import Packing, pack_weights, parse_packing

LLAMA = {
    "model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "intermediate_size": 96, "vocab_size": 50, "max_position_embeddings": 64,
    "torch_dtype": "float16",
}  # fmt: skip
# Of a layer: queries, keys, values, output; gate, up, down.
MATRICES = [(64, 64), (64, 32), (64, 32), (64, 64), (64, 96), (64, 96), (96, 64)]


def config(folder: Path, **changes: Any) -> str:
    (folder / "config.json").write_text(json.dumps(LLAMA | changes))
    return str(folder)


def layer_bytes(bits: int, group: int) -> int:
    """Bytes of a layer's matrices, with scales of 16 bits for every `group` (0: all) of a column."""
    return sum(k * n * bits // 8 + -(-k // (group or k)) * n * 2 for k, n in MATRICES)


@pytest.mark.parametrize(
    ("text", "bits", "group"), [("int4", 4, 128), ("int4:32", 4, 32), ("int8", 8, 0), ("fp8", 8, 0)]
)
def test_bytes_of_a_model(tmp_path: Path, text: str, bits: int, group: int) -> None:
    plain = load_model(config(tmp_path), phase="decode", kv=8)
    packed = load_model(config(tmp_path), phase="decode", kv=8, weights=text)
    before = sum(2 * k * n for k, n in MATRICES)
    assert plain.weight_bytes - packed.weight_bytes == 2 * (before - layer_bytes(bits, group))
    assert packed.macs == plain.macs
    kinds = [op.kind for op in packed.ops if op.kind.endswith("matmul") and op.block >= 0]
    assert kinds.count("packed_matmul") == 2 * len(MATRICES)
    head = packed.ops[-1]
    assert (head.kind, packed.tensors[head.inputs[1]].dtype) == ("matmul", "fp16")


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 32}, Packing("int4", 32)),
        ({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}, Packing("int4", 128)),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, Packing("int8", 0)),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, Packing("fp8", 128)),
    ],
)
def test_a_checkpoint_says_how_it_is_packed(tmp_path: Path, block: dict[str, Any], expected: Packing) -> None:
    said = load_model(config(tmp_path, quantization_config=block), phase="decode", kv=8)
    asked = load_model(config(tmp_path), phase="decode", kv=8, weights=f"{expected.dtype}:{expected.group or 10**6}")
    assert said.weight_bytes == asked.weight_bytes
    # What is asked for comes first.
    other = load_model(config(tmp_path, quantization_config=block), phase="decode", kv=8, weights="int4:8")
    assert other.weight_bytes == load_model(config(tmp_path), phase="decode", kv=8, weights="int4:8").weight_bytes


@pytest.mark.parametrize(
    ("changes", "options", "text"),
    [
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, {}, "quant_method 'bitsandbytes' is not supported"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 3}}, {}, "3 bits in groups of -1 are not supported"),
        ({"quantization_config": "gptq"}, {}, "quantization_config: found 'gptq'; expected an object"),
        ({}, {"weights": "int5"}, "unknown format 'int5'; did you mean 'int[48]'"),
        ({}, {"weights": "int4:"}, "expected int4:N"),
        ({}, {"weights": "int4:0"}, "expected int4:N"),
        ({}, {"weights": "int8", "dtype": "int8"}, "no operator of .* with a matrix of weights wider than int8"),
    ],
)  # fmt: skip
def test_refusals(tmp_path: Path, changes: dict[str, Any], options: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        load_model(config(tmp_path, **changes), phase="decode", kv=8, **options)


@pytest.mark.parametrize("text", ["int4:16", "int8"])
def test_numbers_are_the_nearest_that_there_are(text: str) -> None:
    """Of every group at most half a step off, where a step is the largest of them over 7 (127)."""
    rng, b = np.random.default_rng(1), GraphBuilder("one", "fp32")
    value = rng.normal(size=(50, 6))
    x = b.input("x", (3, 50))
    y = b.matmul(x, b.weight((50, 6), "w", value=value), bias=b.weight((6,), "bias", value=rng.normal(size=6)))
    plain = b.build([y])
    packed = pack_weights(plain, parse_packing(text))
    how = parse_packing(text)
    group, most = how.group_of(50), {"int4": 7, "int8": 127}[how.dtype]
    product = packed.ops[0]
    steps, scale = (packed.values[name] for name in product.inputs[1:3])
    assert steps.dtype == np.int64
    for row in range(0, 50, group):
        part = slice(row, row + group)
        largest = np.abs(value[part]).max(axis=0)
        np.testing.assert_allclose(scale[row // group], largest / most, rtol=1e-6)
        assert (np.abs(steps[part] * scale[row // group] - value[part]) <= 0.5001 * scale[row // group]).all()
        assert (np.abs(steps[part]).max(axis=0) == most).all()
    feeds = {name: value for name, value in random_values(plain, 2).items() if name == "x"}
    near = evaluate(packed, feeds)[packed.outputs[0]]
    spread = np.abs(feeds["x"]).sum(axis=1, keepdims=True) * scale.max() / 2
    assert (np.abs(near - evaluate(plain, feeds)[plain.outputs[0]]) <= spread * 1.001).all()


def test_a_weight_with_other_readers_stays() -> None:
    b = GraphBuilder("tied", "fp32")
    table = b.weight((8, 4), "table")
    rows = b.add_op("gather", [table, b.input("i", (3,), "int32")], {"axis": 0})
    y = b.matmul(b.linear(rows, 4, name="own"), table, transpose_b=True, name="head")
    packed = pack_weights(b.build([y]), parse_packing("int8"))
    assert [op.kind for op in packed.ops] == ["gather", "packed_matmul", "elementwise", "matmul"]


def test_another_format_of_the_model_leaves_packed_weights() -> None:
    b = GraphBuilder("one", "fp32")
    graph = pack_weights(b.build([b.linear(b.input("x", (3, 8)), 4, bias=False)]), parse_packing("int4"))
    inputs = graph.ops[0].inputs
    assert [graph.with_dtype("bf16").tensors[name].dtype for name in inputs] == ["bf16", "int4", "bf16"]


def test_experts_that_no_token_needs_are_packed_too(tmp_path: Path) -> None:
    changes = {"model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2}
    plain = load_model(config(tmp_path, **changes), phase="decode", kv=8)
    packed = load_model(config(tmp_path, **changes), phase="decode", kv=8, weights="int8")
    matrices = [*MATRICES[:4], (64, 8), *8 * MATRICES[4:]]
    saved = sum(k * n - 2 * n for k, n in matrices)
    assert plain.weight_bytes - packed.weight_bytes == 2 * saved
