"""Transformers: counts against closed forms and model cards, numbers against plain NumPy."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from masks import causal_mask, masks
from model_cards import (
    BART_BASE,
    DEEPSEEK_V3,
    GEMMA3_1B,
    GPT2,
    LLAMA2_7B,
    LLAMA3_8B,
    MIXTRAL_8X7B,
    QWEN3_30B_A3B,
    T5_SMALL,
    WHISPER_TINY,
)
from published_sizes import CARDS, shortest

from sim.errors import DoesNotFit, InputError
from sim.graph.evaluate import evaluate, random_values
from sim.graph.graph import Graph
from sim.graph.transformer import generate_plan, transformer_graph
from sim.graph.transformer_config import TransformerConfig, load_hf_config
from sim.graph.transformer_positions import relative_indices
from sim.passes import default_passes
from sim.pipeline import plan


def graph_of(data: dict[str, Any], **lengths: Any) -> Graph:
    return transformer_graph(TransformerConfig.from_hf(data, "model"), dtype="bf16", **lengths)


def learned(graph: Graph) -> int:
    """Elements of the weights, without constants that the graph brings along."""
    weights = (t for name, t in graph.tensors.items() if t.role == "weight" and name not in graph.values)
    return sum(t.elements for t in weights)


@pytest.mark.parametrize("card", CARDS)
def test_parameters_are_those_of_the_model_card(card: str) -> None:
    data, parameters = CARDS[card]
    assert learned(graph_of(data, **shortest(data))) == parameters


def test_prefill_macs_of_llama2_7b() -> None:
    """Per token and layer 4 E^2 + 3 E F, per pair of tokens 2 E; logits of the last token only."""
    seq, batch = 384, 2
    per_token = 4 * 4096**2 + 3 * 4096 * 11008
    expected = batch * (32 * (seq * per_token + 2 * seq * seq * 4096) + 4096 * 32000)
    graph = graph_of(LLAMA2_7B, seq=seq, batch=batch)
    assert graph.macs == expected
    assert (graph.unit, graph.items) == ("tokens", 768)


def test_decode_macs_of_a_grouped_query_model() -> None:
    """Keys and values are projected to 8 heads of 128, but all 32 query heads attend: Llama-3-8B."""
    context = 1000
    per_token = 2 * 4096**2 + 2 * 4096 * 1024 + 3 * 4096 * 14336
    expected = 32 * (per_token + 2 * (context + 1) * 4096) + 4096 * 128256
    graph = graph_of(LLAMA3_8B, phase="decode", kv=context)
    assert graph.macs == expected
    assert (graph.unit, graph.items) == ("tokens", 1)


def test_decode_macs_of_gpt2() -> None:
    expected = 12 * (12 * 768**2 + 2 * 101 * 768) + 768 * 50257
    assert graph_of(GPT2, phase="decode", kv=100).macs == expected


def test_a_decode_step_is_the_difference_of_two_prefills() -> None:
    """The last token of a prefill of T + 1 costs a decode step, plus the future that the mask throws away."""
    context = 50
    longer, shorter = (graph_of(GPT2, seq=tokens).macs for tokens in (context + 1, context))
    head, masked = 768 * 50257, 12 * 2 * context * 768
    assert longer - shorter == graph_of(GPT2, phase="decode", kv=context).macs - head + masked


def test_cross_attention_macs_of_bart() -> None:
    """Prefill: encoder, keys and values of the source for each decoder layer, and one decoder token."""
    source, width, ffn = 40, 768, 3072
    attention = 4 * width**2
    encoder = source * (attention + 2 * width * ffn) + 2 * source**2 * width
    stored = source * 2 * width**2
    step = attention + 2 * width + 2 * width**2 + 2 * source * width + 2 * width * ffn
    logits = width * 50265
    prefill = graph_of(BART_BASE, seq=source)
    decode = graph_of(BART_BASE, phase="decode", seq=source, kv=7)
    assert prefill.macs == 6 * (encoder + stored + step) + logits
    assert decode.macs == 6 * (step + 2 * 7 * width) + logits


def test_cache_bytes_and_traffic() -> None:
    """Two caches of 8 heads x 128 x 2 bytes per token and layer; a step writes one row of each."""
    graph = graph_of(LLAMA3_8B, phase="decode", kv=1023, batch=4)
    states = [tensor for tensor in graph.tensors.values() if tensor.role == "state"]
    assert len(states) == 64
    assert sum(tensor.size_bytes for tensor in states) == 4 * 1024 * 32 * 2 * 8 * 128 * 2
    updates = [op for op in graph.ops if op.kind == "cache_update"]
    assert {graph.tensors[op.inputs[1]].shape for op in updates} == {(4, 8, 1, 128)}
    assert {op["position"] for op in updates} == {1023}


def test_keys_are_shared_not_copied_in_a_group() -> None:
    """Scores read keys with one head per group: the query heads are rows (decode) or a broadcast axis."""
    for graph, expected in (
        (graph_of(LLAMA3_8B, phase="decode", kv=99), [(1, 8, 4, 128), (1, 8, 100, 128)]),
        (graph_of(LLAMA3_8B, seq=16), [(1, 8, 4, 16, 128), (1, 8, 1, 16, 128)]),
    ):
        scores = next(op for op in graph.ops if op.name.endswith(".scores"))
        assert [graph.tensors[name].shape for name in scores.inputs] == expected


def test_blocks_are_the_layers_and_alike() -> None:
    graph = graph_of(LLAMA3_8B, phase="decode", kv=99)
    blocks = [[(op.kind, dict(op.attributes)) for op in graph.ops if op.block == i] for i in range(32)]
    assert all(block == blocks[0] for block in blocks)
    assert len(blocks[0]) == 26
    order = [op.block for op in graph.ops if op.block >= 0]
    assert order == sorted(order)


TINY = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 20,
    "vocab_size": 30,
    "max_position_embeddings": 16,
}
DECODERS = {
    "grouped": TINY | {"model_type": "llama", "num_key_value_heads": 2, "attention_bias": True},
    "norms on heads": TINY | {"model_type": "qwen3", "num_key_value_heads": 1, "head_dim": 8},
    "scaled embedding": TINY | {"model_type": "gemma", "num_key_value_heads": 2, "head_dim": 10},
    "parallel, partly rotated": TINY
    | {"model_type": "phi", "num_attention_heads": 3, "partial_rotary_factor": 0.5},
    "parallel, two norms": TINY | {"model_type": "gpt_neox", "num_attention_heads": 3, "rotary_pct": 0.25},
    "learned positions": {
        "model_type": "gpt2",
        "n_embd": 24,
        "n_layer": 2,
        "n_head": 4,
        "vocab_size": 30,
        "n_positions": 16,
    },
    "norms before and after, scores capped": TINY
    | {"model_type": "gemma2", "num_key_value_heads": 2, "head_dim": 6, "attn_logit_softcapping": 2.0},
    "windows": TINY
    | {"model_type": "gemma2", "num_key_value_heads": 2, "head_dim": 6, "sliding_window": 3, "num_hidden_layers": 4},
    "norms of all heads, after": TINY | {"model_type": "olmo2"},
    "ungated, in a window": TINY | {"model_type": "starcoder2", "num_key_value_heads": 2, "sliding_window": 2},
    "parallel, no biases": TINY | {"model_type": "cohere", "num_key_value_heads": 2},
    "one key-value head": TINY | {"model_type": "falcon", "alibi": False, "bias": False},
    "latent": TINY
    | {
        "model_type": "deepseek_v3",
        "first_k_dense_replace": 2,
        "kv_lora_rank": 10,
        "q_lora_rank": 14,
        "qk_nope_head_dim": 5,
        "qk_rope_head_dim": 4,
        "v_head_dim": 7,
    },
    "shifted positions": TINY | {"model_type": "opt", "ffn_dim": 20},
    "windows that end in the middle": TINY
    | {"model_type": "gemma2", "num_key_value_heads": 2, "head_dim": 6, "sliding_window": 4, "num_hidden_layers": 4},
    # All tokens go to the one expert, in whatever pass they come.
    "sinks": TINY
    | {
        **{"model_type": "gpt_oss", "num_key_value_heads": 2, "head_dim": 6, "sliding_window": 2},
        **{"num_local_experts": 1, "num_experts_per_tok": 1, "num_hidden_layers": 4},
    },
    "chunks": TINY
    | {
        **{"model_type": "llama4_text", "num_key_value_heads": 2, "head_dim": 6, "attention_chunk_size": 4},
        **{"num_local_experts": 1, "intermediate_size_mlp": 20, "interleave_moe_layer_step": 2, "floor_scale": 3},
        **{"num_hidden_layers": 4},
    },
    "clipped": {
        **{"model_type": "dbrx", "d_model": 24, "n_layers": 2, "n_heads": 4, "vocab_size": 30},
        "attn_config": {"clip_qkv": 0.5, "kv_n_heads": 2},
        "ffn_config": {"ffn_hidden_size": 20, "moe_num_experts": 1, "moe_top_k": 1},
    },
}


def rolled(cache: np.ndarray[Any, Any], length: int, chunk: int = 0) -> np.ndarray[Any, Any]:
    """What a prefill kept [.., tokens, D], as a decode step of `length` has it: new ones in the place of old ones, of
    chunks the last alone."""
    tokens = cache.shape[2]
    found = np.full((*cache.shape[:2], length, cache.shape[3]), math.nan)
    first = max(0, tokens - length)
    if chunk and length <= chunk:
        first = tokens // chunk * chunk
    for token in range(first, tokens):
        found[:, :, token % (chunk or length) if length < tokens else token] = cache[:, :, token]
    return found


@pytest.mark.parametrize("model", DECODERS)
def test_decode_with_a_cache_equals_the_last_position_of_a_prefill(model: str) -> None:
    seq = 6
    full = graph_of(DECODERS[model], seq=seq, batch=2)
    short = graph_of(DECODERS[model], seq=seq - 1, batch=2)
    step = graph_of(DECODERS[model], phase="decode", kv=seq - 1, batch=2)
    weights = random_values(full, seed=1)
    tokens = np.random.default_rng(2).integers(0, 30, (2, seq))
    data = DECODERS[model]
    expected = evaluate(full, weights | {"tokens": tokens} | masks(full, data))["logits"]
    before = evaluate(
        short,
        weights
        | {name: value[:, :, :-1] for name, value in weights.items() if full.tensors[name].role == "state"}
        | {"tokens": tokens[:, :-1]}
        | masks(short, data),
    )
    caches = {
        name: rolled(before[name], tensor.shape[2], data.get("attention_chunk_size", 0))
        for name, tensor in step.tensors.items()
        if tensor.role == "state"
    }
    found = evaluate(step, weights | caches | {"tokens": tokens[:, -1:]})["logits"]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("cut", [2, 4, 5])
@pytest.mark.parametrize("model", ["grouped", "windows", "windows that end in the middle", "sinks", "chunks"])
def test_prefill_in_two_parts_equals_one(model: str, cut: int) -> None:
    data = DECODERS[model]
    whole, first, second = (graph_of(data, seq=s, kv=kv) for s, kv in ((7, 0), (cut, 0), (7 - cut, cut)))
    weights = random_values(whole, seed=3)
    tokens = weights["tokens"]
    plain = {name: value for name, value in weights.items() if whole.tensors[name].role != "state"}
    zeros = {name: np.zeros(t.shape) for name, t in first.tensors.items() if t.role == "state"}
    before = evaluate(first, plain | zeros | {"tokens": tokens[:, :cut]} | masks(first, data))
    caches = {name: np.pad(before[name], ((0, 0), (0, 0), (0, 7 - cut), (0, 0))) for name in zeros}
    found = evaluate(second, plain | caches | {"tokens": tokens[:, cut:]} | masks(second, data, cut))
    expected = evaluate(whole, weights | masks(whole, data))
    np.testing.assert_allclose(found["logits"], expected["logits"], rtol=1e-9)


def test_llama_equals_a_plain_numpy_llama() -> None:
    """Written out head by head and token by token, as in Touvron et al. 2023, with grouped queries."""
    data = TINY | {"model_type": "llama", "num_key_value_heads": 2, "rms_norm_eps": 1e-6}
    graph = graph_of(data, seq=5)
    values = random_values(graph, seed=4) | {"causal_mask": causal_mask(graph)}
    found = evaluate(graph, values)["logits"][0]
    x = values["embedding.weight"][values["tokens"][0]]
    for layer in range(2):
        y = rms_norm(x, values[f"{layer}.attention_norm.scale"])
        q, k, v = (y @ values[f"{layer}.attention.{part}.weight"] for part in "qkv")
        context = np.zeros((5, 24))
        for head in range(4):
            mine, shared = slice(6 * head, 6 * head + 6), slice(6 * (head // 2), 6 * (head // 2) + 6)
            for token in range(5):
                query = rotate(q[token, mine], token)
                scores = [query @ rotate(k[past, shared], past) / math.sqrt(6) for past in range(token + 1)]
                weight = np.exp(scores) / np.sum(np.exp(scores))
                context[token, mine] = weight @ v[: token + 1, shared]
        x = x + context @ values[f"{layer}.attention.output.weight"]
        y = rms_norm(x, values[f"{layer}.ffn_norm.scale"])
        gate = y @ values[f"{layer}.ffn.gate.weight"]
        hidden = gate / (1 + np.exp(-gate)) * (y @ values[f"{layer}.ffn.up.weight"])
        x = x + hidden @ values[f"{layer}.ffn.down.weight"]
    expected = rms_norm(x[-1], values["norm.scale"]) @ values["logits.weight"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)  # the rotary tables are single precision


def rms_norm(x: np.ndarray[Any, Any], scale: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 1e-6) * scale


def rotate(x: np.ndarray[Any, Any], position: int) -> np.ndarray[Any, Any]:
    """Dimensions i and i + D/2 turn as a pair by position * 10000^(-2i/D)."""
    half = len(x) // 2
    angle = position * 10000.0 ** (-2 * np.arange(half) / len(x))
    a, b = x[:half], x[half:]
    return np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)])


@pytest.mark.parametrize("data", [BART_BASE, T5_SMALL, WHISPER_TINY], ids=["bart", "t5", "whisper"])
def test_the_first_decode_step_repeats_the_start_token_of_the_prefill(data: dict[str, Any]) -> None:
    """Same weights, cross-attention states taken from the prefill: the same logits."""
    small = dict(data, d_model=16, vocab_size=20)
    small |= (
        {"num_layers": 2, "num_heads": 2, "d_ff": 24, "d_kv": 8}
        if data is T5_SMALL
        else {key: 2 for key in data if key.endswith(("_layers", "_heads"))}
    )
    prefill = graph_of(small, seq=5, batch=2)
    step = graph_of(small, phase="decode", seq=5, kv=0, batch=2)
    values = random_values(prefill, seed=5)
    first = evaluate(prefill, values)
    caches = {name: first[name] for name, tensor in step.tensors.items() if tensor.role == "state"}
    np.testing.assert_allclose(evaluate(step, values | caches)["logits"], first["logits"], rtol=1e-9)


def test_t5_rescales_the_state_where_it_shares_the_embedding() -> None:
    """modeling_t5.py: sequence_output * d_model^-0.5 if the embeddings are tied, and only then."""
    graph = graph_of(T5_SMALL | {"num_layers": 1, "vocab_size": 40}, seq=3)
    values = random_values(graph, seed=6)
    computed = evaluate(graph, values)
    expected = computed["decoder.norm"] @ values["embedding.weight"].T / math.sqrt(512)
    np.testing.assert_allclose(computed["logits"], expected, rtol=1e-6)
    apart = graph_of(T5_SMALL | {"num_layers": 1, "vocab_size": 40, "tie_word_embeddings": False}, seq=3)
    assert "decoder.norm.scaled" not in apart.tensors


@pytest.mark.parametrize(("model", "row"), [("shifted positions", 2), ("learned positions", 0)])
def test_position_zero_of_a_learned_table(model: str, row: int) -> None:
    """OPT keeps two rows before that of position 0; a decode step after five tokens reads the next one."""
    prefill, step = graph_of(DECODERS[model], seq=4), graph_of(DECODERS[model], phase="decode", kv=5)
    assert prefill.tensors["positions.weight"].shape == (16 + row, 24)
    starts = [
        next(op for op in graph.ops if op.name == "positions.rows")["starts"][0] for graph in (prefill, step)
    ]
    assert starts == [row, row + 5]


def test_relative_buckets() -> None:
    """Both directions: 16 buckets each, exact to distance 7; decoder: 32, exact to 15 (modeling_t5.py)."""
    both = relative_indices(0, 300, 32, 128, bidirectional=True)
    assert both[10, [10, 9, 3, 2, 11, 17]].tolist() == [0, 1, 7, 8, 17, 23]
    assert both[299, 0] == 15
    assert both[0, 299] == 31
    back = relative_indices(299, 1, 32, 128, bidirectional=False)
    assert back.shape == (1, 300)
    assert back[0, [299, 298, 284, 283, 267, 0]].tolist() == [0, 1, 15, 16, 21, 31]


def test_generate_plan_covers_every_step_at_its_mean_context() -> None:
    config = TransformerConfig.from_hf(LLAMA2_7B, "llama2_7b")
    plan = generate_plan(config, seq=100, new_tokens=30, dtype="fp16")
    assert [count for _, count in plan] == [1, 7, 7, 7, 8]
    assert plan[0][0].items == 100
    steps = [transformer_graph(config, phase="decode", kv=100 + i, dtype="fp16").macs for i in range(29)]
    sampled = sum(graph.macs * count for graph, count in plan[1:])
    half_token = 29 * 32 * 2 * 4096 // 2
    assert abs(sampled - sum(steps)) <= half_token


def test_positions_beyond_a_learned_table_are_refused() -> None:
    assert graph_of(GPT2, seq=1024).items == 1024
    with pytest.raises(InputError, match="1025 positions exceed the 1024"):
        graph_of(GPT2, seq=1025)
    with pytest.raises(InputError, match="1025 positions"):
        graph_of(GPT2, phase="decode", kv=1024)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model_type": "llamo"}, "unknown model_type 'llamo'; did you mean 'llama'?"),
        ({"model_type": "deepseek_v3"}, "kv_lora_rank: found None; expected a positive integer"),
        ({"model_type": "mamba2"}, "unknown model_type 'mamba2'; did you mean 'mamba'?"),
        (DEEPSEEK_V3 | {"qk_rope_head_dim": 63}, "rotary embedding needs an even number"),
        (DEEPSEEK_V3 | {"n_shared_experts": -1}, "n_shared_experts: found -1; expected a whole number"),
        (DEEPSEEK_V3 | {"n_group": 7}, "256 experts do not divide into 7 groups"),
        (DEEPSEEK_V3 | {"topk_group": 9}, "256 experts do not divide into 8 groups"),
        (GEMMA3_1B | {"layer_types": ["full_attention"] * 26}, "layer_types: only a full_attention after every"),
        ({"hidden_size": None, "vocab_size": None}, "'vocab_size' is missing"),
        ({"hidden_size": None, "vocab_size": None}, "'hidden_size' is missing"),
        ({"hidden_size": "4096"}, "hidden_size: found '4096'; expected a positive integer"),
        ({"num_hidden_layers": True}, "num_hidden_layers: found True"),
        ({"num_key_value_heads": 5}, "32 query heads do not divide among 5"),
        ({"hidden_act": "mish"}, "activation 'mish' is not supported"),
        ({"torch_dtype": "int3"}, "torch_dtype 'int3'"),
        ({"model_type": "qwen2", "use_sliding_window": True}, "use_sliding_window: found True"),
    ],
)
def test_bad_configurations_are_named(changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError) as caught:
        TransformerConfig.from_hf(LLAMA2_7B | changes)
    assert expected in str(caught.value)


def test_reading_config_json(tmp_path: Path) -> None:
    folder = tmp_path / "my-llama"
    folder.mkdir()
    path = folder / "config.json"
    path.write_text(json.dumps(LLAMA2_7B))
    config = load_hf_config(path)
    assert (config.name, config.kv_heads, config.head_dim, config.dtype) == ("my-llama", 32, 128, "fp16")
    path.write_text('{"model_type": "llama",\n  nonsense}')
    with pytest.raises(InputError, match=r"config\.json:2:3: error: not valid JSON"):
        load_hf_config(path)
    path.write_text("[1]")
    with pytest.raises(InputError, match="expected a JSON object"):
        load_hf_config(path)


def test_decode_of_mixtral_reads_two_experts_and_keeps_eight() -> None:
    """One token: 12.7 G MACs of 46.7 G parameters. The weights of the six other experts stay in memory."""
    graph = graph_of(MIXTRAL_8X7B, phase="decode", kv=1000)
    attention = 2 * 4096**2 + 2 * 4096 * 1024 + 2 * 1001 * 4096
    assert graph.macs == 32 * (attention + 4096 * 8 + 2 * 3 * 4096 * 14336) + 4096 * 32000
    assert graph.weight_bytes == pytest.approx(2 * 46_702_792_704, rel=1e-4)  # and tables of angles
    read = {name for op in graph.ops for name in op.operands}
    assert len(graph.idle) == 32 * 6 * 3
    assert not read.intersection(graph.idle)
    compiled = default_passes(graph)
    assert compiled.idle == graph.idle
    assert compiled.weight_bytes == graph.weight_bytes
    with pytest.raises(DoesNotFit, match=r"86\.99 GiB weights"):
        plan(graph, "lepton_m")


@pytest.mark.parametrize(("tokens", "rows"), [(1, [1] * 8), (16, [1] * 128), (40, [3] * 64 + [2] * 64)])
def test_experts_are_chosen_equally_often(tokens: int, rows: list[int]) -> None:
    """8 choices a token, 128 experts: 40 tokens make 320 choices, 3 for half of the experts and 2 for the others."""
    graph = graph_of(QWEN3_30B_A3B | {"num_hidden_layers": 1}, phase="prefill", seq=tokens)
    ups = [op for op in graph.ops if op.name.endswith(".up")]
    assert [graph.tensors[op.inputs[0]].shape[0] for op in ups] == rows


@pytest.mark.parametrize("scaled", [True, False])
def test_a_mixture_in_plain_numpy(scaled: bool) -> None:
    """Every choice weighs what its expert makes of the token by the share that the router gave it."""
    data = {
        **{"model_type": "qwen3_moe", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2},
        **{"moe_intermediate_size": 6, "vocab_size": 11, "max_position_embeddings": 32, "norm_topk_prob": scaled},
        **{"num_experts": 4, "num_experts_per_tok": 3},
    }
    graph = graph_of(data, phase="prefill", seq=5)
    values = {**graph.values, **random_values(graph, 4)}
    computed = evaluate(graph, values)
    x = computed["0.ffn_norm"]
    logits = x @ values["0.ffn.router.weight"]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = np.zeros_like(x)
    for token, row in enumerate(x):
        best = np.sort(shares[token])[::-1][:3]
        for place, share in enumerate(best / best.sum() if scaled else best):
            part = f"0.ffn.expert{(3 * token + place) % 4}"
            up, gate, down = (values[f"{part}.{name}.weight"] for name in ("up", "gate", "down"))
            opened = row @ gate
            expected[token] += share * ((row @ up) * opened / (1 + np.exp(-opened))) @ down
    np.testing.assert_allclose(computed["0.ffn.sum"], expected, rtol=1e-9)


def test_more_experts_per_token_than_experts() -> None:
    with pytest.raises(InputError, match="9 experts per token exceed the 8 of a layer"):
        graph_of(MIXTRAL_8X7B | {"num_experts_per_tok": 9}, phase="decode", kv=1)
