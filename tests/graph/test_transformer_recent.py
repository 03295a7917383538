"""Recent model types: sizes as published, factors, layers without positions and squares against plain NumPy."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from model_cards import BERT_SIZES

from sim.errors import InputError
from sim.graph.evaluate import evaluate, random_values
from sim.graph.graph import Graph
from sim.graph.transformer import transformer_graph
from sim.graph.transformer_config import TransformerConfig
from sim.pipeline import simulate, verify_values

Array = np.ndarray[Any, Any]


def sizes(kind: str, hidden: int, layers: int, heads: int, kv_heads: int, ffn: int, vocabulary: int) -> dict[str, Any]:
    return {
        **{"model_type": kind, "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads},
        **{"num_key_value_heads": kv_heads, "intermediate_size": ffn, "vocab_size": vocabulary},
        **{"max_position_embeddings": 4096},
    }


def pair(kind: str, width: int, layers: int, ffn: int, vocabulary: int) -> dict[str, Any]:
    side = {"layers": layers, "ffn_dim": ffn, "attention_heads": width // 64}
    both = {f"{name}_{key}": size for name in ("encoder", "decoder") for key, size in side.items()}
    return {"model_type": kind, "d_model": width, "vocab_size": vocabulary, "max_position_embeddings": 1024, **both}


TIED = {"tie_word_embeddings": True}
WIDE = {"head_dim": 128}
CARDS: dict[str, tuple[dict[str, Any], float]] = {
    # Millions of parameters, as many digits as the model's page gives.
    "SmolLM3-3B": (sizes("smollm3", 2048, 36, 16, 4, 11008, 128256), 3075.1),
    "granite-3.0-8b-base": (sizes("granite", 4096, 40, 32, 8, 12800, 49155) | TIED, 8170),
    "granite-3.0-3b-a800m-base": (
        sizes("granitemoe", 1536, 32, 24, 8, 512, 49155) | TIED | {"num_local_experts": 40, "num_experts_per_tok": 8},
        3300,
    ),
    "MiniCPM-2B": (sizes("minicpm", 2304, 40, 36, 36, 5760, 122753), 2725),
    "c4ai-command-r7b-12-2024": (sizes("cohere2", 4096, 32, 32, 8, 14336, 256000), 8030),
    "Olmo-3-1025-7B": (sizes("olmo3", 4096, 32, 32, 32, 11008, 100278), 7298),
    "EXAONE-4.0-32B": (sizes("exaone4", 5120, 64, 40, 8, 27392, 102400) | WIDE, 32003),
    "EXAONE-3.5-7.8B": (sizes("exaone", 4096, 0, 32, 8, 14336, 102400) | {"num_layers": 32}, 7818),
    "glm-4-9b-hf": (sizes("glm", 4096, 40, 32, 2, 13696, 151552) | {"attention_bias": True}, 9400),
    "GLM-4-9B-0414": (sizes("glm4", 4096, 40, 32, 2, 13696, 151552), 9400),
    "GLM-4.5-Air": (sizes("glm4_moe", 4096, 46, 96, 8, 10944, 151552) | {"attention_bias": True}, 106850),
    "ERNIE-4.5-0.3B": (sizes("ernie4_5", 1024, 18, 16, 2, 3072, 103424), 361),
    "ERNIE-4.5-21B-A3B": (sizes("ernie4_5_moe", 2560, 28, 20, 4, 12288, 103424), 21825),
    "Minitron-4B-Base": (sizes("nemotron", 3072, 32, 24, 8, 9216, 256000) | WIDE, 4190),
    "AFM-4.5B": (sizes("arcee", 2560, 36, 20, 4, 18432, 128004), 4620),
    "helium-1-preview-2b": (sizes("helium", 2560, 24, 20, 20, 7040, 48000), 2173),
    "Hunyuan-7B": (sizes("hunyuan_v1_dense", 4096, 32, 32, 8, 14336, 128167) | TIED, 7505),
    "Seed-OSS-36B": (sizes("seed_oss", 5120, 64, 80, 8, 27648, 155136), 36151),
    "Qwen2-VL-2B, its language model": (sizes("qwen2_vl", 1536, 28, 12, 2, 8960, 151936) | TIED, 1543.7),
    "xlm-roberta-base": (
        {"model_type": "xlm-roberta", "vocab_size": 250002, "max_position_embeddings": 514, **BERT_SIZES},
        278.04,
    ),
    "mt5-base": (
        {"model_type": "mt5", "d_model": 768, "num_layers": 12, "num_heads": 12, "d_ff": 2048, "d_kv": 64}
        | {"vocab_size": 250112},
        582.4,
    ),
    "mbart-large-50": (pair("mbart", 1024, 12, 4096, 250054), 610.88),
    "nllb-200-distilled-600M": (pair("m2m_100", 1024, 12, 4096, 256206), 615.07),
    "pegasus-large": (pair("pegasus", 1024, 16, 4096, 96103), 568.7),
    # Without the row that stands for masked patches.
    "dinov2-base": (
        {"model_type": "dinov2", "patch_size": 14, "image_size": 518}
        | {key: BERT_SIZES[key] for key in BERT_SIZES if key != "intermediate_size"},
        86.58,
    ),
}
TINY = sizes("llama", 24, 4, 4, 2, 20, 30) | {"head_dim": 8}


def graph_of(data: dict[str, Any], **lengths: Any) -> Graph:
    return transformer_graph(TransformerConfig.from_hf(data, "model"), dtype="bf16", **lengths)


def computed_of(graph: Graph, seed: int) -> tuple[dict[str, Array], dict[str, Array]]:
    values = {**graph.values, **random_values(graph, seed)}
    return values, evaluate(graph, values)


@pytest.mark.parametrize("card", CARDS)
def test_parameters_are_those_of_the_page(card: str) -> None:
    data, millions = CARDS[card]
    graph = graph_of(data, **({} if data["model_type"] == "dinov2" else {"seq": 16}))
    learned = [t for name, t in graph.tensors.items() if t.role == "weight" and name not in graph.values]
    digits = len(re.sub(r"\D", "", str(millions)).rstrip("0"))
    assert sum(t.elements for t in learned) / 1e6 == pytest.approx(millions, rel=0.6 * 10.0 ** (1 - digits))


def test_factors_of_granite_in_plain_numpy() -> None:
    """Embeddings, scores, what sublayers make, logits (divided)."""
    factors = {"embedding_multiplier": 12.0, "attention_multiplier": 0.25, "residual_multiplier": 0.5}
    factors["logits_scaling"] = 8.0
    graph = graph_of(TINY | {"model_type": "granite", **factors}, phase="prefill", seq=3)
    values, found = computed_of(graph, 5)
    embedded = 12 * values["embedding.weight"][values["tokens"][0]]
    q, k = found["0.attention.q.rope"], found["0.attention.k.rope"]
    expected = 0.25 * np.einsum("bhsd,btd->bhst", q[:, :2], k[:, 0])
    np.testing.assert_allclose(found["0.attention.scaled"][:, 0], expected, rtol=1e-9)
    made = found["0.attention.output"]
    np.testing.assert_allclose(found["0.attention_add"], embedded + 0.5 * made, rtol=1e-9)
    np.testing.assert_allclose(found["logits"], found["logits.raw"] / 8, rtol=1e-9)
    plain = graph_of(TINY | {"model_type": "granite"}, phase="prefill", seq=3)
    assert len(graph.ops) == len(plain.ops) + 1 + 2 * 4 + 1


def test_depth_and_base_of_minicpm() -> None:
    config = TransformerConfig.from_hf(TINY | {"model_type": "minicpm", "scale_depth": 1.4, "dim_model_base": 6})
    assert (config.residual_scale, config.logit_scale) == (0.7, 0.25)
    assert not config.scaled_embedding


def test_keys_that_say_more_than_one_thing() -> None:
    """The learned table of XLM-RoBERTa counts two rows before position 0; GLM-4.5 scales its gates unless told; a list
    of the layers with positions may say what their interval says."""
    assert TransformerConfig.from_hf(CARDS["xlm-roberta-base"][0]).max_positions == 512
    for said, scaled in (({}, True), ({"norm_topk_prob": False}, False)):
        config = TransformerConfig.from_hf(TINY | {"model_type": "glm4_moe"} | said)
        assert config.scaled_gates == scaled
    listed = {"model_type": "smollm3", "no_rope_layers": [1, 1, 1, 0]}
    assert TransformerConfig.from_hf(TINY | listed).unrotated_step == 4


def rotated(graph: Graph) -> set[int]:
    return {int(op.name.partition(".")[0]) for op in graph.ops if op.kind == "rope"}


def test_layers_without_positions() -> None:
    """Every fourth of SmolLM3; those of Command R7B and EXAONE 4 that have no window, unless none has."""
    for kind, more in (("smollm3", {}), ("cohere2", {}), ("exaone4", {"sliding_window": 8})):
        assert rotated(graph_of(TINY | {"model_type": kind} | more, seq=4)) == {0, 1, 2}
    assert rotated(graph_of(TINY | {"model_type": "exaone4"}, seq=4)) == {0, 1, 2, 3}
    assert rotated(graph_of(TINY | {"model_type": "smollm3", "no_rope_layer_interval": 2}, seq=4)) == {0, 2}
    pattern = {"model_type": "exaone4", "sliding_window": 8, "sliding_window_pattern": "LG"}
    assert rotated(graph_of(TINY | pattern, seq=4)) == {0, 2}


def test_the_square_of_relu_and_norms_behind() -> None:
    graph = graph_of(TINY | {"model_type": "arcee"}, phase="decode", kv=3)
    values, found = computed_of(graph, 6)
    x = found["0.ffn_norm"]
    middle = np.maximum(x @ values["0.ffn.up.weight"], 0) ** 2
    np.testing.assert_allclose(found["0.ffn.down"], middle @ values["0.ffn.down.weight"], rtol=1e-9)
    graph = graph_of(TINY | {"model_type": "glm4"}, phase="decode", kv=3)
    values, found = computed_of(graph, 7)
    made = found["0.attention.output"]
    normed = made / np.sqrt(np.square(made).mean(axis=-1, keepdims=True) + 1e-6) * values["0.attention_after.scale"]
    before = values["embedding.weight"][values["tokens"][0]]
    np.testing.assert_allclose(found["0.attention_add"], before + normed, rtol=1e-6)


def test_what_layers_of_dinov2_make_is_scaled_by_channel() -> None:
    data = {"model_type": "dinov2", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    graph = graph_of(data | {"image_size": 8, "patch_size": 4, "mlp_ratio": 2})
    values, found = computed_of(graph, 8)
    assert values["0.ffn.up.weight"].shape == (8, 16)
    expected = found["0.attention_add"] + found["0.ffn.down"] * values["0.ffn_scaled.weight"]
    np.testing.assert_allclose(found["0.ffn_add"], expected, rtol=1e-9)


@pytest.mark.parametrize("kind", ["granitemoe", "cohere2", "exaone4", "glm4_moe", "ernie4_5_moe", "nemotron"])
def test_they_run_and_compute_what_they_should(kind: str) -> None:
    experts = {"num_local_experts": 3, "n_routed_experts": 3, "moe_num_experts": 3}
    experts |= {"num_experts_per_tok": 2, "moe_k": 2}
    graph = graph_of(TINY | experts | {"model_type": kind, "moe_intermediate_size": 12}, phase="prefill", seq=5)
    assert verify_values(graph, "lepton_s").passed
    assert simulate(graph, "lepton_s")["macs"] == graph.macs


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model_type": "swin"}, "unknown model_type 'swin'; name a supported type .* or export the model as ONNX"),
        ({"model_type": "olmo2", "hidden_size": 3, "head_dim": None}, "hidden size 3 leaves 4 heads nothing each"),
        ({"model_type": "glm4", "partial_rotary_factor": 1.5}, "rotary embedding of 12 of the 8 dimensions of a head"),
        ({"model_type": ["llama"]}, r"unknown model_type '\['llama'\]'"),
        ({"model_type": "smollm3", "no_rope_layers": [1, 0, 1, 0]}, "no_rope_layers: only the layers"),
        ({"model_type": "minicpm", "scale_depth": "deep"}, "scale_depth: found 'deep'; expected a positive number"),
        ({"model_type": "exaone4", "sliding_window_pattern": "GL"}, "sliding_window_pattern: found 'GL'"),
        ({"model_type": "glm4_moe", "n_shared_experts": -1}, "n_shared_experts: found -1; expected a whole number"),
        ({"model_type": "ernie4_5_moe", "moe_layer_end_index": 2}, "moe_layer_end_index: only experts up to"),
        ({"model_type": "dinov2", "image_size": 28, "patch_size": 14, "mlp_ratio": 2.5}, "mlp_ratio: found 2.5"),
        ({"model_type": "llava", "text_config": {"model_type": "phi"}}, "'text_config.hidden_size' is missing; write"),
    ],
)
def test_what_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        TransformerConfig.from_hf(TINY | change, "model")
