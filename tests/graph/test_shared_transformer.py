"""Transformers that several chips share: all of them computed in step come to what one chip computes, and each has its
share of the work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from model_cards import CLIP_B32, GPT2, LLAMA2_7B, LLAMA3_8B, MAMBA_130M, MIXTRAL_8X7B

from sim.errors import InputError
from sim.graph.evaluate import evaluate, evaluate_op, random_values
from sim.graph.graph import Graph
from sim.graph.load import load_model, load_plan
from sim.graph.transformer import transformer_graph
from sim.graph.transformer_config import TransformerConfig

Array = npt.NDArray[Any]

LLAMA = {
    "model_type": "llama", "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 8,
    "num_key_value_heads": 4, "intermediate_size": 20, "vocab_size": 34, "max_position_embeddings": 64, "head_dim": 6,
    "attention_bias": True,
    "mlp_bias": True,
}  # fmt: skip
TINY = {
    "grouped heads, all biases": (LLAMA, {"phase": "prefill", "seq": 5}),
    "decode": (LLAMA, {"phase": "decode", "kv": 7}),
    "tied, learned positions": (
        {"model_type": "gpt2", "n_embd": 24, "n_layer": 2, "n_head": 4, "vocab_size": 36, "n_positions": 16},
        {"phase": "prefill", "seq": 4},
    ),
    "branches side by side": (
        {
            "model_type": "phi", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
            "intermediate_size": 40, "vocab_size": 40, "max_position_embeddings": 32,
        },
        {"phase": "prefill", "seq": 3},
    ),
    "windows, caps, norms after": (
        {
            "model_type": "gemma2", "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 4, "head_dim": 6, "intermediate_size": 32, "vocab_size": 40,
            "max_position_embeddings": 64, "sliding_window": 4, "query_pre_attn_scalar": 6,
        },
        {"phase": "decode", "kv": 9},
    ),
    "encoder with a pooler": (
        {
            "model_type": "bert", "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
            "intermediate_size": 32, "vocab_size": 40, "max_position_embeddings": 16,
        },
        {"phase": "encode", "seq": 6},
    ),
    "experts": (
        {
            "model_type": "mixtral", "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 4, "intermediate_size": 20, "vocab_size": 36, "max_position_embeddings": 32,
            "num_local_experts": 4, "num_experts_per_tok": 2,
        },
        {"phase": "prefill", "seq": 3},
    ),
    "experts with biases, sinks": (
        {
            "model_type": "gpt_oss", "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 8,
            "num_key_value_heads": 4, "head_dim": 6, "intermediate_size": 20, "vocab_size": 36,
            "max_position_embeddings": 32, "num_local_experts": 3, "num_experts_per_tok": 2, "sliding_window": 4,
        },
        {"phase": "prefill", "seq": 6},
    ),
    "latent attention, a network beside the experts": (
        {
            "model_type": "deepseek_v3", "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
            "intermediate_size": 20, "moe_intermediate_size": 12, "vocab_size": 36, "max_position_embeddings": 32,
            "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "first_k_dense_replace": 1,
            "kv_lora_rank": 10, "q_lora_rank": 14, "qk_nope_head_dim": 5, "qk_rope_head_dim": 4, "v_head_dim": 7,
        },
        {"phase": "decode", "kv": 5},
    ),
    "encoder and decoder": (
        {
            "model_type": "bart", "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 8,
            "decoder_attention_heads": 4, "encoder_ffn_dim": 24, "decoder_ffn_dim": 20, "vocab_size": 36,
            "max_position_embeddings": 16,
        },
        {"phase": "prefill", "seq": 5},
    ),
    "image": (
        {
            "model_type": "vit", "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
            "intermediate_size": 24, "image_size": 8, "patch_size": 4, "num_labels": 7,
        },
        {"phase": "encode"},
    ),
}  # fmt: skip


def graph_of(data: dict[str, Any], chips: int, **lengths: Any) -> Graph:
    config = TransformerConfig.from_hf(data, "model").shared_by(chips)
    return transformer_graph(config, dtype="fp32", batch=2, **lengths)


def share(whole: Array, shape: Sequence[int], chip: int) -> Array:
    """What chip number `chip` has of a tensor: all, or its part of the axis that is shorter, padded on the last one."""
    for axis, (size, extent) in enumerate(zip(whole.shape, shape, strict=True)):
        if size != extent:
            mine = whole.take(range(chip * extent, min(size, (chip + 1) * extent)), axis)
            short = extent - mine.shape[axis]
            return np.pad(mine, [(0, short if at == axis else 0) for at in range(mine.ndim)])
    return whole


def in_step(graph: Graph, chips: int, values: dict[str, Array]) -> list[dict[str, Array]]:
    """Every chip's tensors, operator by operator on all chips; sums are those of what the chips really have."""
    known = [
        {name: share(value, graph.tensors[name].shape, chip) for name, value in values.items() if name in graph.tensors}
        for chip in range(chips)
    ]
    for name in (name for name in known[0] if ".expert" in name and name.endswith(".down.bias")):
        for mine in known:
            mine[name] = mine[name] / chips
    table = graph.tensors["embedding.weight"].shape[0] if "embedding.weight" in graph.tensors else 0
    for op in graph.ops:
        inputs = [[mine[name] for name in op.inputs] for mine in known]
        if op.kind == "all_reduce":
            assert op["chips"] == chips
            results = [sum(x for (x,) in inputs)] * chips
        elif op.name.endswith("embedding") and op.kind == "gather" and op.inputs[0] == "embedding.weight":
            results = []
            for chip, (rows, ids) in enumerate(inputs):
                here = (ids // table == chip)[..., None]
                results.append(np.where(here, rows[ids % table], 0.0))
        else:
            results = [evaluate_op(op, each) for each in inputs]
        for mine, result in zip(known, results, strict=True):
            mine[op.result] = result
    return known


def learned(graph: Graph) -> int:
    """Elements of the weights, without constants that the graph brings along."""
    weights = (t for name, t in graph.tensors.items() if t.role == "weight" and name not in graph.values)
    return sum(t.elements for t in weights)


@pytest.mark.parametrize("chips", [2, 4])
@pytest.mark.parametrize("name", TINY)
def test_chips_in_step_compute_what_one_computes(name: str, chips: int) -> None:
    data, lengths = TINY[name]
    whole, part = graph_of(data, 1, **lengths), graph_of(data, chips, **lengths)
    values = {**whole.values, **random_values(whole, 5)}
    expected, found = evaluate(whole, values), in_step(part, chips, values)
    for output in whole.outputs:
        split = part.tensors[output].shape != whole.tensors[output].shape
        joined = np.concatenate([mine[output] for mine in found], -1) if split else found[0][output]
        np.testing.assert_allclose(joined[..., : expected[output].shape[-1]], expected[output], rtol=1e-9, atol=1e-9)
        assert split == (output == "logits")


@pytest.mark.parametrize("data", [LLAMA2_7B, LLAMA3_8B])
@pytest.mark.parametrize("chips", [2, 8])
def test_each_chip_has_its_share(data: dict[str, Any], chips: int) -> None:
    """1/n of products, matrices and key-value caches; norms and rotary tables are whole; 2 sums a layer of tokens x
    hidden elements, and one behind the embedding."""
    layers, hidden, tokens = data["num_hidden_layers"], data["hidden_size"], 64
    whole, part = (graph_of(data, n, phase="prefill", seq=tokens) for n in (1, chips))
    assert part.macs * chips == whole.macs
    norms = (2 * layers + 1) * hidden
    assert (learned(part) - norms) * chips == learned(whole) - norms
    sums = [part.tensors[op.output] for op in part.ops if op.kind == "all_reduce"]
    assert [t.elements for t in sums] == [2 * tokens * hidden] * (2 * layers + 1)
    caches = [sum(t.elements for t in graph.tensors.values() if t.role == "state") for graph in (whole, part)]
    assert caches[0] == chips * caches[1] > 0
    assert (whole.chips, part.chips) == (1, chips)
    assert (whole.items, whole.unit) == (part.items, part.unit)


def test_a_vocabulary_is_padded() -> None:
    """50,257 rows over 4 chips: 12,565 each, as Megatron-LM does it."""
    part = graph_of(GPT2, 4, phase="decode", kv=4)
    assert part.tensors["embedding.weight"].shape[0] == 12565
    assert part.tensors[part.outputs[0]].shape == (2, 12565)


def test_text_generation_is_shared_in_all_its_passes() -> None:
    plan = load_plan("llama2_7b", phase="generate", seq=32, new_tokens=5, chips=4)
    assert {graph.chips for graph, _ in plan} == {4}
    assert len(plan) == 5


@pytest.mark.parametrize(
    ("data", "chips", "expected"),
    [
        (LLAMA3_8B, 16, "8 key-value heads do not divide among 16"),
        (GPT2, 5, "12 query heads do not divide among 5"),
        (MIXTRAL_8X7B | {"model_type": "qwen2_moe", "moe_intermediate_size": 6}, 4, "6 columns of an expert do not"),
        (LLAMA2_7B | {"model_type": "olmo2"}, 2, "olmo2 is one that norms all heads together, which is not shared"),
        (CLIP_B32, 2, "clip is two models, which is not shared"),
        (MAMBA_130M, 1 << 4, "mamba is a state space, which is not shared"),
    ],
)
def test_what_cannot_be_shared(data: dict[str, Any], chips: int, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        TransformerConfig.from_hf(data, "model").shared_by(chips)


@pytest.mark.parametrize(
    ("model", "chips", "expected"),
    [
        ("gemm:8x8x8", 2, "chips: does not apply to a GEMM"),
        ("resnet50", 2, "chips: does not apply to resnet50, which is no transformer"),
        ("llama2_7b", 0, "chips must be positive, found 0"),
        ("llama2_7b", 5000, "chips must be at most 4,096, found 5000"),
        ("transformer_mt", 3, "8 heads of the encoder do not divide among 3"),
    ],
)
def test_models_and_numbers_that_are_refused(model: str, chips: int, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        load_model(model, chips=chips)
