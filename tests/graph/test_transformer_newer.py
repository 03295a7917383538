"""Sinks, chunks, sound, pairs of text and image, state spaces: numbers against plain NumPy, counts in closed form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from masks import window_mask
from model_cards import CLIP_B32, DBRX, GPT_OSS_20B, LLAMA4_SCOUT, MAMBA_130M, WHISPER_TINY
from published_sizes import CARDS

from sim.errors import InputError
from sim.graph.evaluate import evaluate, random_values
from sim.graph.graph import Graph
from sim.graph.load import load_model, load_plan
from sim.graph.transformer import transformer_graph
from sim.graph.transformer_config import TransformerConfig
from sim.pipeline import simulate, verify_values

Array = np.ndarray[Any, Any]

TINY: dict[str, Any] = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6,
    "intermediate_size": 20, "vocab_size": 30, "max_position_embeddings": 64,
}  # fmt: skip
GPT_OSS = TINY | {"model_type": "gpt_oss", "sliding_window": 4, "num_local_experts": 3, "num_experts_per_tok": 2}
LLAMA4 = TINY | {
    **{"model_type": "llama4_text", "intermediate_size_mlp": 28, "attention_chunk_size": 4, "num_hidden_layers": 4},
    **{"num_local_experts": 3, "interleave_moe_layer_step": 2},
}
SMALL_DBRX: dict[str, Any] = {
    **{"model_type": "dbrx", "d_model": 24, "n_layers": 1, "n_heads": 4, "vocab_size": 30},
    "attn_config": {"clip_qkv": 0.25, "kv_n_heads": 2},
    "ffn_config": {"ffn_hidden_size": 20, "moe_num_experts": 4, "moe_top_k": 2},
}
WHISPER = WHISPER_TINY | {
    **{"d_model": 24, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "vocab_size": 30},
    **{"decoder_attention_heads": 4, "encoder_ffn_dim": 20, "decoder_ffn_dim": 28, "num_mel_bins": 5},
    **{"max_source_positions": 9, "max_target_positions": 12},
}
CLIP: dict[str, Any] = {
    "model_type": "clip",
    "projection_dim": 10,
    "text_config": {
        **{"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 20},
        **{"vocab_size": 30, "max_position_embeddings": 7},
    },
    "vision_config": {
        **{"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 28},
        **{"image_size": 8, "patch_size": 4},
    },
}
MAMBA = {"model_type": "mamba", "hidden_size": 12, "num_hidden_layers": 1, "state_size": 3, "vocab_size": 30}


def graph_of(data: dict[str, Any], **lengths: Any) -> Graph:
    return transformer_graph(TransformerConfig.from_hf(data, "model"), dtype="bf16", **lengths)


def computed_of(graph: Graph, seed: int, **given: Array) -> tuple[dict[str, Array], dict[str, Array]]:
    values = {**graph.values, **random_values(graph, seed), **given}
    return values, evaluate(graph, values)


def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def test_sinks_and_cut_gates_of_gpt_oss_in_plain_numpy() -> None:
    """The sink's exponential is in the sum alone; (up + 1) * gate * sigmoid(1.702 gate) with both cut off; the best two
    of three logits, biases included, and a softmax over these."""
    graph = graph_of(GPT_OSS | {"num_hidden_layers": 1, "swiglu_limit": 0.25}, phase="decode", kv=2)
    values, found = computed_of(graph, 3)
    shares = found["0.attention.softmax"]
    scores = found["0.attention.scaled"]
    for head in range(4):
        row, sink = scores[0, head // 2, head % 2], values["0.attention.sinks"][head]
        expected = np.exp(row) / (np.exp(row).sum() + np.exp(sink))
        np.testing.assert_allclose(shares[0, head // 2, head % 2], expected, rtol=1e-9)
    x = found["0.ffn_norm"][0]
    logits = x @ values["0.ffn.router.weight"] + values["0.ffn.router.bias"]
    best = np.argsort(-logits)[:2]
    weights = np.exp(logits[best]) / np.exp(logits[best]).sum()
    total = np.zeros(24)
    for place, share in enumerate(weights):
        part = f"0.ffn.expert{place}"  # one token: its choices go to the first experts
        up, gate = (x @ values[f"{part}.{name}.weight"] + values[f"{part}.{name}.bias"] for name in ("up", "gate"))
        up, gate = np.clip(up, -0.25, 0.25), np.minimum(gate, 0.25)
        middle = (up + 1) * gate / (1 + np.exp(-1.702 * gate))
        total += share * (middle @ values[f"{part}.down.weight"] + values[f"{part}.down.bias"])
    np.testing.assert_allclose(found["0.ffn.sum"][0], total, rtol=1e-9)


def test_experts_of_llama4_weigh_what_they_are_given() -> None:
    """One of three by the best logit, its input times the sigmoid of it, and a network that all tokens go to. Every
    other layer has one network of another width."""
    graph = graph_of(LLAMA4, phase="prefill", seq=5)
    values, found = computed_of(graph, 4)
    assert values["0.ffn.up.weight"].shape == (24, 28)
    x = found["1.ffn_norm"]
    logits = x @ values["1.ffn.router.weight"]

    def network(row: Array, part: str) -> Array:
        up, gate, down = (values[f"{part}.{name}.weight"] for name in ("up", "gate", "down"))
        return (row @ up * silu(row @ gate)) @ down

    for token, row in enumerate(x):
        share = 1 / (1 + np.exp(-logits[token].max()))
        expected = network(share * row, f"1.ffn.expert{token % 3}") + network(row, "1.ffn.shared")
        np.testing.assert_allclose(found["1.ffn.all"][token], expected, rtol=1e-9)


def test_layers_of_llama4_that_see_all_tokens_have_no_positions() -> None:
    """Three of four turn queries and keys, of length 1 then; the fourth multiplies its queries by 1 + 0.1 log(1 + what
    8,192 tokens go into its place)."""
    graph = graph_of(LLAMA4, phase="decode", kv=3 * 8192 + 5)
    turned = {op.name for op in graph.ops if op.kind == "rope"}
    assert turned == {f"{layer}.attention.{part}.rope" for layer in (0, 1, 2) for part in "qk"}
    assert graph.values["temperature"] == pytest.approx(1 + 0.1 * np.log(1 + 3))
    _, found = computed_of(graph, 1)
    for layer in (0, 1, 2):
        square = np.square(found[f"{layer}.attention.q.norm"]).mean(axis=-1)
        np.testing.assert_allclose(square, 1.0, rtol=1e-3)
    caches = [t.shape[2] for t in graph.tensors.values() if t.role == "state"]
    assert caches == [2] * 6 + [3 * 8192 + 6] * 2  # 24,581 is the second of its chunk of 4


def test_a_long_prefill_computes_what_a_window_reaches() -> None:
    """gpt-oss-20b, 8,192 tokens: 12 layers in blocks of 128 that meet 256 keys each, 12 with all keys. Mistral: blocks
    of 1,024 with 5,120 keys, of which 5,000 tokens would take more than all pairs of theirs. Llama 4 Scout, 16,384
    tokens: 36 layers in two chunks."""
    mistral = CARDS["Mistral-7B-v0.1"][0] | {"head_dim": 128}
    for data, seq, pairs in (
        (GPT_OSS_20B, 8192, 12 * 8192 * (256 + 8192)),
        (mistral, 5000, 32 * 5000**2),
        (mistral, 16384, 32 * 16384 * 5120),
        (LLAMA4_SCOUT, 16384, 36 * 16384 * 8192 + 12 * 16384**2),
    ):
        graph = graph_of(data, phase="prefill", seq=seq)
        found = sum(
            graph.tensors[op.output].elements * graph.tensors[op.inputs[0]].shape[-1]
            for op in graph.ops
            if op.name.endswith(".scores")
        )
        assert found == pairs * data["num_attention_heads"] * data["head_dim"]


@pytest.mark.parametrize(
    ("kind", "window", "kv", "seq"),
    [
        ("gemma2", 256, 0, 520),
        ("gemma2", 256, 100, 700),
        ("gemma2", 256, 300, 500),
        ("gemma2", 7, 30, 5),
        ("llama4_text", 40, 0, 130),
        ("llama4_text", 40, 65, 130),
        ("llama4_text", 40, 45, 30),
    ],
)
def test_blocks_attend_to_what_the_window_holds(kind: str, window: int, kv: int, seq: int) -> None:
    """Query by query, with no block in sight: the keys of its chunk or window up to itself."""
    data = TINY | {"model_type": kind, "num_hidden_layers": 1, "num_local_experts": 1, "head_dim": 6}
    data |= {"attention_chunk_size" if kind == "llama4_text" else "sliding_window": window}
    graph = graph_of(data, phase="prefill", seq=seq, kv=kv)
    mask = window_mask(graph, data, kv)
    _, found = computed_of(graph, 8, window_mask=mask)
    q, k, v = found["0.attention.q.rope"][0], found["0.attention.k.cache"][0], found["0.attention.v.cache"][0]
    assert k.shape == (2, kv + seq, 6)
    context = np.zeros((seq, 4, 6))
    for token in range(seq):
        place = kv + token
        first = place // window * window if kind == "llama4_text" else max(0, place - window + 1)
        for head in range(4):
            scores = k[head // 2, first : place + 1] @ q[head, token] / np.sqrt(6)
            scores = scores if kind == "llama4_text" else 50.0 * np.tanh(scores / 50.0)
            shares = np.exp(scores) / np.exp(scores).sum()
            context[token, head] = shares @ v[head // 2, first : place + 1]
    np.testing.assert_allclose(found["0.attention.joined"].reshape(seq, 4, 6), context, rtol=1e-5, atol=1e-6)


def test_queries_keys_and_values_of_dbrx_are_cut_off() -> None:
    graph = graph_of(SMALL_DBRX, phase="prefill", seq=5)
    _, found = computed_of(graph, 2)
    for part in "qkv":
        assert np.abs(found[f"0.attention.{part}"]).max() > 0.25
        np.testing.assert_array_equal(
            found[f"0.attention.{part}.clipped"], np.clip(found[f"0.attention.{part}"], -0.25, 0.25)
        )


def test_whisper_hears_in_plain_numpy() -> None:
    """Two convolutions of three frames, the second of every other frame, each through GELU; keys without a bias."""
    graph = graph_of(WHISPER, phase="prefill")
    values, found = computed_of(graph, 5)
    assert graph.tensors["sound"].shape == (1, 5, 18)
    x = values["sound"][0].T
    for index, stride in ((1, 1), (2, 2)):
        weight, bias = (values[f"encoder.hear{index}.{part}"] for part in ("weight", "bias"))
        padded = np.vstack([np.zeros_like(x[:1]), x, np.zeros_like(x[:1])])
        frames = [padded[at : at + 3] for at in range(0, len(x), stride)]
        x = np.array([np.einsum("tc,oct->o", frame, weight) + bias for frame in frames])
        expected = found[f"encoder.hear{index}.gelu"][0].T
        before = found[f"encoder.hear{index}"][0].T
        np.testing.assert_allclose(x, before, rtol=1e-9, atol=1e-12)
        x = expected
    np.testing.assert_allclose(found["encoder.positions"][0], x + values["encoder.positions.weight"], rtol=1e-9)
    biases = {name for name in graph.tensors if name.startswith("decoder.0.") and name.endswith(".bias")}
    assert {f"decoder.0.{part}.{of}.bias" for part in ("attention", "cross") for of in ("q", "v", "output")} <= biases
    assert not {f"decoder.0.{part}.k.bias" for part in ("attention", "cross")} & biases


def test_whisper_hears_thirty_seconds_unless_told(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(WHISPER_TINY))
    assert load_model(str(tmp_path), phase="prefill").items == 1500
    assert load_model(str(tmp_path), phase="prefill", seq=100).items == 100
    assert [count for _, count in load_plan(str(tmp_path), phase="generate", new_tokens=9)] == [1, 2, 2, 2, 2]
    with pytest.raises(InputError, match="1501 positions of sound exceed the 1500 of the model"):
        load_model(str(tmp_path), phase="prefill", seq=1501)
    with pytest.raises(InputError, match="449 positions exceed the 448"):
        load_model(str(tmp_path), phase="decode", kv=448)


def test_macs_of_whisper() -> None:
    """The encoder of whisper-tiny over 30 s of sound, and one decoder token."""
    width, ffn, source = 384, 1536, 1500
    hear = 3000 * 3 * 80 * width + source * 3 * width**2
    encoder = source * (4 * width**2 + 2 * width * ffn) + 2 * source**2 * width
    decoder = 6 * width**2 + 2 * width + 2 * width * ffn + source * 2 * width**2 + 2 * source * width
    assert graph_of(WHISPER_TINY, phase="prefill").macs == hear + 4 * (encoder + decoder) + width * 51865


def test_clip_compares_vectors_of_length_one() -> None:
    """What the end token of each text has become, beside the class token of each image; quick GELU in between."""
    graph = graph_of(CLIP, batch=3)
    values, found = computed_of(graph, 6, ends=np.array([2, 9, 20]))
    assert graph.tensors["text.tokens"].shape == (3, 7)
    words = found["text.norm"][[2, 9, 20]] @ values["text.projection.weight"]
    images = found["image.norm"] @ values["image.projection.weight"]
    cosines = [[w @ i / np.linalg.norm(w) / np.linalg.norm(i) for i in images] for w in words]
    np.testing.assert_allclose(found["logits"], np.exp(values["logit_scale"]) * cosines, rtol=1e-9)
    up = found["image.0.ffn.up"]
    np.testing.assert_allclose(found["image.0.ffn.quick_gelu"], up / (1 + np.exp(-1.702 * up)), rtol=1e-9)
    assert graph.tensors["causal_mask"].shape == (7, 7)
    assert sorted({op.block for op in graph.ops}) == [-1, 0, 1]
    with pytest.raises(InputError, match="78 positions exceed the 77"):
        graph_of(CLIP_B32, seq=78)


def test_mamba_goes_on_step_by_step_in_plain_numpy() -> None:
    """Four tokens, each a step with the states that the one before left, against the recurrence along the sequence:
    h_t = exp(dt A) h_(t-1) + dt B_t x_t, y_t = C_t h_t + D x_t, behind a causal convolution over four tokens."""
    graph = graph_of(MAMBA, phase="decode")
    values = {**graph.values, **random_values(graph, 7)}
    states = {name: np.zeros(t.shape) for name, t in graph.tensors.items() if t.role == "state"}
    tokens, name = [3, 11, 3, 29], "0.state_space"
    outputs = []
    for token in tokens:
        found = evaluate(graph, values | states | {"tokens": np.array([[token]])})
        states = {state: found[state] for state in states}
        outputs.append(found["logits"][0])

    def rms(x: Array, scale: Array) -> Array:
        return x / np.sqrt(np.square(x).mean(axis=-1, keepdims=True) + 1e-5) * scale

    embedded = values["embedding.weight"][tokens]
    both = rms(embedded, values["0.norm.scale"]) @ values[f"{name}.in.weight"]
    x, gate = both[:, :24], both[:, 24:]
    padded, taps_bias = np.vstack([np.zeros((3, 24)), x]), values[f"{name}.taps_bias"]
    x = silu(np.array([(padded[t : t + 4] * values[f"{name}.taps"]).sum(axis=0) for t in range(4)]) + taps_bias)
    said = x @ values[f"{name}.said.weight"]
    dt = np.log1p(np.exp(said[:, :1] @ values[f"{name}.time.weight"] + values[f"{name}.time.bias"]))
    h, y = np.zeros((24, 3)), np.zeros((4, 24))
    for t in range(4):
        h = np.exp(dt[t][:, None] * values[f"{name}.a"]) * h + np.outer(dt[t] * x[t], said[t, 1:4])
        y[t] = h @ said[t, 4:] + values[f"{name}.d"] * x[t]
    out = embedded + (y * silu(gate)) @ values[f"{name}.out.weight"]
    expected = rms(out, values["norm.scale"]) @ values["embedding.weight"].T
    np.testing.assert_allclose(outputs, expected, rtol=1e-6, atol=1e-9)


def test_mamba_reads_its_weights_and_states_once() -> None:
    """130 M parameters and, for every sequence, 16 + 3 numbers a channel and layer, whatever was said before."""
    graph = graph_of(MAMBA_130M, phase="decode", batch=4)
    states = sum(t.elements for t in graph.tensors.values() if t.role == "state")
    assert states == 4 * 24 * 1536 * (16 + 3)
    per_layer = 768 * 3072 + 1536 * (48 + 32) + 48 * 1536 + 1536 * 16 + 1536 * 768
    assert graph.macs == 4 * (24 * per_layer + 768 * 50280)
    with pytest.raises(InputError, match=r"mamba has no phase 'prefill'.*the scan over a prompt is not modelled"):
        graph_of(MAMBA_130M, phase="prefill", seq=8)
    with pytest.raises(InputError, match="decode of mamba takes no --kv"):
        graph_of(MAMBA_130M, phase="decode", kv=8)


@pytest.mark.parametrize(
    ("data", "lengths"),
    [
        (GPT_OSS, {"phase": "prefill", "seq": 7}),
        (GPT_OSS, {"phase": "prefill", "seq": 3, "kv": 6}),
        (GPT_OSS, {"phase": "decode", "kv": 9}),
        (LLAMA4, {"phase": "prefill", "seq": 7, "kv": 3}),
        (SMALL_DBRX, {"phase": "prefill", "seq": 4}),
        (WHISPER, {"phase": "prefill"}),
        (WHISPER, {"phase": "decode", "kv": 3}),
        (CLIP, {"batch": 2}),
        (MAMBA, {"phase": "decode", "batch": 2}),
    ],
)
def test_small_ones_tile_by_tile(data: dict[str, Any], lengths: dict[str, Any]) -> None:
    graph = graph_of(data, **lengths)
    assert verify_values(graph, "lepton_s").passed
    assert simulate(graph, "lepton_s")["macs"] == graph.macs


def test_bytes_of_gpt_oss_as_it_is_published(tmp_path: Path) -> None:
    """Experts in 4 bits and an exponent of 8 for each 32 (MXFP4): 12.8 GiB of the checkpoint; attention, embeddings and
    router in 16 bits."""
    (tmp_path / "config.json").write_text(json.dumps(GPT_OSS_20B))
    graph = load_model(str(tmp_path), phase="decode", kv=8)
    experts = 24 * 32 * 3 * 2880 * 2880
    rest = 2 * (20_914_757_184 - experts)
    tables = sum(graph.tensors[name].size_bytes for name in graph.values)
    assert graph.weight_bytes == experts * 17 // 32 + rest + tables


@pytest.mark.parametrize(
    ("data", "changes", "expected"),
    [
        (GPT_OSS, {"layer_types": ["full_attention"] * 2}, "layer_types: only a full_attention after every so many"),
        (GPT_OSS, {"hidden_act": "relu"}, "hidden_act: found 'relu'; only 'silu' is supported"),
        (LLAMA4, {"no_rope_layers": [1, 0, 1, 0]}, "no_rope_layers: only the layers that no_rope_layer_interval gives"),
        (LLAMA4, {"moe_layers": [0]}, "moe_layers: only the layers that interleave_moe_layer_step gives"),
        (DBRX, {"ffn_config": {"moe_normalize_expert_weights": 2}}, "moe_normalize_expert_weights: found 2; only 1"),
        (DBRX, {"attn_config": {"kv_n_heads": "8"}}, "attn_config.kv_n_heads: found '8'; expected a positive integer"),
        (WHISPER, {"num_mel_bins": None}, "required key 'num_mel_bins' is missing"),
        (CLIP, {"vision_config": 3}, "vision_config: found 3; expected an object"),
        (CLIP, {"vision_config": {"patch_size": 5}}, "an image of 224 does not divide into patches of 5"),
        (MAMBA, {"time_step_rank": 0}, "time_step_rank: found 0; expected a positive integer"),
        (MAMBA, {"use_bias": 1}, "use_bias: found 1; expected true or false"),
    ],
)
def test_what_they_do_not_have_is_said(data: dict[str, Any], changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError) as caught:
        TransformerConfig.from_hf(data | changes, "model")
    assert expected in str(caught.value)
