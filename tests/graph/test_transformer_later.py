"""Windows, latent attention, shared and grouped experts: counts in closed form, numbers against plain NumPy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from model_cards import DEEPSEEK_V3, GEMMA2_2B, GEMMA3_1B
from published_sizes import CARDS

from sim.errors import InputError
from sim.graph.evaluate import evaluate, random_values
from sim.graph.graph import Graph
from sim.graph.transformer import transformer_graph
from sim.graph.transformer_config import TransformerConfig
from sim.graph.transformer_positions import slopes
from sim.pipeline import simulate, verify_values


def graph_of(data: dict[str, Any], **lengths: Any) -> Graph:
    return transformer_graph(TransformerConfig.from_hf(data, "model"), dtype="bf16", **lengths)


def test_a_window_bounds_the_cache_and_what_is_read_of_it() -> None:
    """Mistral reads 4,096 of 10,001 tokens in every layer; gemma-2 in every other one, gemma-3 in five of six."""
    mistral = CARDS["Mistral-7B-v0.1"][0]
    for data, layers, window, kv_heads, width, whole in (
        (mistral, 32, 4096, 8, 128, 0),
        (GEMMA2_2B, 26, 4096, 4, 256, 13),
        (GEMMA3_1B, 26, 512, 1, 256, 4),
    ):
        graph = graph_of(data, phase="decode", kv=10_000)
        caches = [t.shape for t in graph.tensors.values() if t.role == "state"]
        assert caches.count((1, kv_heads, 10_001, width)) == 2 * whole
        assert caches.count((1, kv_heads, window, width)) == 2 * (layers - whole)
        pairs = whole * 10_001 + (layers - whole) * window
        short = graph_of(data, phase="decode", kv=0)
        assert graph.macs - short.macs == 2 * data["num_attention_heads"] * width * (pairs - layers)


def test_decode_of_deepseek_v3() -> None:
    """37 G of 671 G parameters for a token; 576 numbers of every token in the cache, each layer's read by scores and
    values."""
    context = 1000
    graph = graph_of(DEEPSEEK_V3, phase="decode", kv=context)
    caches = [t for t in graph.tensors.values() if t.role == "state"]
    assert sum(t.elements for t in caches) == 61 * (context + 1) * (512 + 64)
    attention = 7168 * 1536 + 1536 * 128 * 192 + 7168 * 576 + 128 * 128 * 512 + 128 * 512 * 128 + 128 * 128 * 7168
    expert = 3 * 7168 * 2048
    per_layer = 61 * attention + 3 * 3 * 7168 * 18432 + 58 * (7168 * 256 + 9 * expert)
    assert per_layer + 7168 * 129280 == pytest.approx(37e9, rel=0.02)  # published: 37 B activated
    by_token = 61 * 128 * (context + 1) * (512 + 64 + 512)
    assert graph.macs == per_layer + 7168 * 129280 + by_token
    assert len(graph.idle) == 58 * (256 - 8) * 3


def test_a_latent_prefill_makes_keys_of_all_heads() -> None:
    """Per pair of tokens 192 + 128 MACs a head, as with ordinary heads, and 2 x 128 x 512 a token and head to make
    them."""
    dense = DEEPSEEK_V3 | {"num_hidden_layers": 1, "first_k_dense_replace": 1}
    short, long = (graph_of(dense, seq=seq).macs for seq in (64, 128))
    attention = 7168 * 1536 + 1536 * 128 * 192 + 7168 * 576 + 2 * 128 * 128 * 512 + 128 * 128 * 7168
    assert long - short == 64 * (attention + 3 * 7168 * 18432) + (128**2 - 64**2) * 128 * (192 + 128)


def test_experts_of_the_best_groups_in_plain_numpy() -> None:
    """8 experts in 4 groups, of which 2: 3 experts by sigmoid and bias, shares without the bias that add up to 2.5; and
    a network for all."""
    data = DEEPSEEK_V3 | {
        **{"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "moe_intermediate_size": 6},
        **{"n_routed_experts": 8, "num_experts_per_tok": 3, "n_group": 4, "topk_group": 2, "vocab_size": 11},
        **{"kv_lora_rank": 4, "q_lora_rank": 4, "qk_nope_head_dim": 4, "qk_rope_head_dim": 2, "v_head_dim": 4},
        **{"first_k_dense_replace": 0},
    }
    graph = graph_of(data, phase="prefill", seq=5)
    values = {**graph.values, **random_values(graph, 4)}
    computed = evaluate(graph, values)
    x = computed["0.ffn_norm"]
    shares = 1 / (1 + np.exp(-(x @ values["0.ffn.router.weight"])))
    expected = np.zeros_like(x)

    def network(row: Any, part: str) -> Any:
        up, gate, down = (values[f"{part}.{name}.weight"] for name in ("up", "gate", "down"))
        opened = row @ gate
        return ((row @ up) * opened / (1 + np.exp(-opened))) @ down

    for token, row in enumerate(x):
        rated = (shares[token] + values["0.ffn.router.bias"]).reshape(4, 2)
        best = np.argsort(rated.sum(axis=1))[::-1][:2]
        left = [2 * group + place for group in best for place in range(2)]
        chosen = sorted(left, key=lambda expert: -rated[expert // 2, expert % 2])[:3]
        total = shares[token][chosen].sum()
        for place, expert in enumerate(chosen):
            part = f"0.ffn.expert{(3 * token + place) % 8}"
            expected[token] += 2.5 * shares[token][expert] / total * network(row, part)
        expected[token] += network(row, "0.ffn.shared")
    np.testing.assert_allclose(computed["0.ffn.all"], expected, rtol=1e-9)


def test_the_language_part_of_a_model_for_images_too() -> None:
    inner = {key: value for key, value in GEMMA3_1B.items() if key not in ("vocab_size", "num_attention_heads")}
    config = TransformerConfig.from_hf({"model_type": "gemma3", "torch_dtype": "bfloat16", "text_config": inner})
    assert (config.model_type, config.heads, config.vocabulary, config.dtype) == ("gemma3_text", 8, 262208, "bf16")


def test_a_pattern_of_layers_as_a_list() -> None:
    kinds = (["sliding_attention"] * 5 + ["full_attention"]) * 4 + ["sliding_attention"] * 2
    plain = {key: value for key, value in GEMMA3_1B.items() if key != "sliding_window_pattern"}
    config = TransformerConfig.from_hf(plain | {"layer_types": kinds})
    assert [config.window_of(layer) for layer in (0, 4, 5, 11, 25)] == [512, 512, None, None, 512]


SMALL = {
    **{"model_type": "deepseek_v2", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
    **{"intermediate_size": 96, "moe_intermediate_size": 32, "vocab_size": 50, "max_position_embeddings": 64},
    **{"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1},
    **{"kv_lora_rank": 32, "q_lora_rank": None, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16},
}


@pytest.mark.parametrize("lengths", [{"phase": "prefill", "seq": 12}, {"phase": "decode", "kv": 20}])
def test_a_small_deepseek_tile_by_tile(lengths: dict[str, Any]) -> None:
    graph = graph_of(SMALL, **lengths)
    assert verify_values(graph, "lepton_s").outputs
    assert simulate(graph, "lepton_s")["macs"] == graph.macs


def test_latent_attention_head_by_head() -> None:
    """Keys of 16 + 8 numbers, the latter rotated and one for all heads, in plain NumPy as the paper has them."""
    graph = graph_of(SMALL | {"num_hidden_layers": 1, "q_lora_rank": 20}, phase="prefill", seq=5)
    values = {**graph.values, **random_values(graph, 3)}
    values["causal_mask"] = np.where(np.tri(5) > 0, 0.0, -1e30)
    computed = evaluate(graph, values)
    name = "0.attention"

    def weight(part: str) -> Any:
        return values[f"{name}.{part}"]

    def normed(row: Any, part: str) -> Any:
        return row / np.sqrt((row**2).mean(axis=-1, keepdims=True) + 1e-6) * weight(f"{part}.scale")

    def turned(row: Any) -> Any:
        angle = np.arange(5)[:, None] * 10000.0 ** (-np.arange(4) / 4)
        left, right = row[:, :4], row[:, 4:]
        return np.hstack([left * np.cos(angle) - right * np.sin(angle), right * np.cos(angle) + left * np.sin(angle)])

    x = computed[f"{name}_norm"]
    queries = normed(x @ weight("q_down.weight"), "q_norm") @ weight("q.weight")
    kept = x @ weight("kv.weight")
    vectors, key = normed(kept[:, :32], "vector"), turned(kept[:, 32:])
    heads = []
    for head in range(4):
        query = queries[:, 24 * head : 24 * (head + 1)]
        scores = query[:, :16] @ (vectors @ weight("to_key.weight")[head].T).T + turned(query[:, 16:]) @ key.T
        shares = np.exp(scores / np.sqrt(24) + values["causal_mask"])
        heads.append(shares / shares.sum(axis=1, keepdims=True) @ (vectors @ weight("to_value.weight")[head]))
    expected = np.hstack(heads) @ weight("output.weight")
    np.testing.assert_allclose(computed[f"{name}.output"], expected, rtol=1e-6, atol=1e-7)


def test_slopes_are_those_of_the_paper() -> None:
    """Twelve heads: 1/2 to 1/256, and of sixteen heads the first, third, fifth and seventh."""
    found = slopes(12, 3)
    assert found.shape == (12, 1, 3)
    wanted = [2.0**-i for i in range(1, 9)] + [2.0**-0.5, 2.0**-1.5, 2.0**-2.5, 2.0**-3.5]
    np.testing.assert_allclose(found[:, 0], np.outer(wanted, [-2, -1, 0]), rtol=1e-6)


@pytest.mark.parametrize("lengths", [{"phase": "prefill", "seq": 6}, {"phase": "decode", "kv": 9}])
@pytest.mark.parametrize("name", ["bloom-560m", "mpt-7b", "gpt-j-6b", "starcoder", "stablelm-3b-4e1t", "internlm2-7b"])
def test_small_ones_of_further_families_tile_by_tile(name: str, lengths: dict[str, Any]) -> None:
    small: dict[str, Any] = {"hidden": 32, "layers": 2, "heads": 4, "ffn": 48, "vocabulary": 40, "max_positions": 16}
    config = replace(TransformerConfig.from_hf(CARDS[name][0], name), **small, head_dim=8, kv_heads=4)
    assert verify_values(transformer_graph(config, dtype="bf16", **lengths), "lepton_s").passed


def test_what_the_further_families_do_not_have_is_said() -> None:
    with pytest.raises(InputError, match=r"attn_config\.alibi: found False; only True is supported"):
        TransformerConfig.from_hf(CARDS["mpt-7b"][0] | {"attn_config": {"alibi": False}}, "mpt")
    with pytest.raises(InputError, match="rotary_dim: found 999; expected a whole number up to the 256 of a head"):
        TransformerConfig.from_hf(CARDS["gpt-j-6b"][0] | {"rotary_dim": 999}, "gptj")
