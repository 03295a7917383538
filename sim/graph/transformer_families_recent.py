"""Model types of Hugging Face, the most recent ones: factors on embeddings, residuals and scores, layers without
positions at intervals, and more of what was there.

Data as in sim/graph/transformer_families.py, and what takes more than one key to tell. Keys, defaults and structure are
those of the transformers library (configuration_*.py and modeling_*.py of each model, version 4.x).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sim.graph.transformer_families import BERT_KEYS, FAMILIES, LLAMA_OPTIONS, LLAMA_TRAITS, Family
from sim.graph.transformer_families_later import LATER, window_pattern

_BIASES = ("qkv_bias", "output_bias", "ffn_bias")
_ATTENTION_BIASES: dict[str, tuple[str, Any]] = dict.fromkeys(("qkv_bias", "output_bias"), ("attention_bias", False))
_ALL_BIASES: dict[str, tuple[str, Any]] = {**_ATTENTION_BIASES, "ffn_bias": ("mlp_bias", False)}
_SEQ2SEQ = FAMILIES["bart"]
_GRANITE_OPTIONS: dict[str, tuple[str, Any]] = {
    **LLAMA_OPTIONS,
    "embedding_scale": ("embedding_multiplier", 1.0),
    "residual_scale": ("residual_multiplier", 1.0),
    "score_scale": ("attention_multiplier", 1.0),
    "logit_scale": ("logits_scaling", 1.0),
    **_ATTENTION_BIASES,
}
_GLM_OPTIONS: dict[str, tuple[str, Any]] = {
    **LLAMA_OPTIONS,
    "head_dim": ("head_dim", 128),
    "rotary_fraction": ("partial_rotary_factor", 0.5),
    "qkv_bias": ("attention_bias", False),
}
_ERNIE_OPTIONS: dict[str, tuple[str, Any]] = {
    **LLAMA_OPTIONS,
    "rope_theta": ("rope_theta", 500000.0),
    "epsilon": ("rms_norm_eps", 1e-5),
    "tied": ("tie_word_embeddings", True),
    **dict.fromkeys(_BIASES, ("use_bias", False)),
}
_QWEN2_VL = Family(
    BERT_KEYS,
    LLAMA_OPTIONS,
    {**LLAMA_TRAITS, "qkv_bias": True},
    {"use_sliding_window": (False,)},
)

RECENT: Mapping[str, Family] = MappingProxyType(
    {
        "granite": Family(BERT_KEYS, {**_GRANITE_OPTIONS, "ffn_bias": ("mlp_bias", False)}, LLAMA_TRAITS),
        "granitemoe": Family(
            BERT_KEYS,
            {
                **_GRANITE_OPTIONS,
                "experts": ("num_local_experts", 8),
                "experts_per_token": ("num_experts_per_tok", 2),
            },
            LLAMA_TRAITS,
        ),
        "minicpm": Family(
            BERT_KEYS,
            {**LLAMA_OPTIONS, "tied": ("tie_word_embeddings", True), "embedding_scale": ("scale_emb", 1.0)},
            LLAMA_TRAITS,
            {"attention_bias": (False,)},
            ("scale_depth", "dim_model_base"),
        ),
        "smollm3": Family(
            BERT_KEYS,
            {
                **LLAMA_OPTIONS,
                "tied": ("tie_word_embeddings", True),
                "unrotated_step": ("no_rope_layer_interval", 4),
                **_ALL_BIASES,
            },
            LLAMA_TRAITS,
            {"use_sliding_window": (False,)},
            ("no_rope_layers",),
        ),
        "cohere2": Family(
            BERT_KEYS,
            {
                **LATER["cohere"].optional,
                "head_dim": ("head_dim", 128),
                "window": ("sliding_window", 4096),
                "window_pattern": ("sliding_window_pattern", 4),
            },
            {**LATER["cohere"].traits, "windows_rotate": True},
            {"attention_bias": (False,)},
            ("layer_types",),
        ),
        "olmo3": Family(
            BERT_KEYS,
            {**LATER["olmo2"].optional, "window": ("sliding_window", 4096)},
            {**LATER["olmo2"].traits, "window_pattern": 4},
            {"attention_bias": (False,)},
            ("layer_types",),
        ),
        "exaone4": Family(
            BERT_KEYS,
            {
                **LLAMA_OPTIONS,
                "epsilon": ("rms_norm_eps", 1e-5),
                "window": ("sliding_window", None),
                "head_dim": ("head_dim", 0),
            },
            {**LLAMA_TRAITS, "qk_norm": True, "norm_first": False, "norm_after": True, "window_pattern": 4},
            {},
            ("layer_types", "sliding_window_pattern"),
        ),
        "exaone": Family(
            {**BERT_KEYS, "layers": "num_layers"},
            {
                **LLAMA_OPTIONS,
                "activation": ("activation_function", "silu"),
                "epsilon": ("layer_norm_epsilon", 1e-5),
            },
            LLAMA_TRAITS,
        ),
        "glm": Family(BERT_KEYS, _GLM_OPTIONS, LLAMA_TRAITS),
        "glm4": Family(BERT_KEYS, _GLM_OPTIONS, {**LLAMA_TRAITS, "norm_after": True}),
        "glm4_moe": Family(
            BERT_KEYS,
            {
                **_GLM_OPTIONS,
                "qk_norm": ("use_qk_norm", False),
                "experts": ("n_routed_experts", 128),
                "experts_per_token": ("num_experts_per_tok", 8),
                "expert_ffn": ("moe_intermediate_size", 1408),
                "expert_groups": ("n_group", 1),
                "groups_per_token": ("topk_group", 1),
                "gate_scale": ("routed_scaling_factor", 1.0),
                "scaled_gates": ("norm_topk_prob", True),
            },
            {**LLAMA_TRAITS, "router": "sigmoid", "router_bias": True},
            {},
            ("n_shared_experts", "first_k_dense_replace"),
        ),
        "ernie4_5": Family(BERT_KEYS, {**_ERNIE_OPTIONS, "head_dim": ("head_dim", 128)}, LLAMA_TRAITS),
        "ernie4_5_moe": Family(
            BERT_KEYS,
            {
                **_ERNIE_OPTIONS,
                "experts": ("moe_num_experts", 64),
                "experts_per_token": ("moe_k", 6),
                "expert_ffn": ("moe_intermediate_size", 1536),
            },
            {**LLAMA_TRAITS, "router_bias": True},
            {"moe_layer_interval": (1,)},
            ("moe_num_shared_experts", "moe_layer_start_index", "moe_layer_end_index"),
        ),
        "nemotron": Family(
            BERT_KEYS,
            {
                **LLAMA_OPTIONS,
                "activation": ("hidden_act", "relu2"),
                "epsilon": ("norm_eps", 1e-5),
                "rotary_fraction": ("partial_rotary_factor", 0.5),
                **_ALL_BIASES,
            },
            {**LLAMA_TRAITS, "norm": "layer_norm", "gated": False},
        ),
        "arcee": Family(
            BERT_KEYS,
            {
                **LLAMA_OPTIONS,
                "activation": ("hidden_act", "relu2"),
                "epsilon": ("rms_norm_eps", 1e-5),
                **_ALL_BIASES,
            },
            {**LLAMA_TRAITS, "gated": False},
        ),
        "helium": Family(
            BERT_KEYS,
            {**LLAMA_OPTIONS, "head_dim": ("head_dim", 128), "qkv_bias": ("attention_bias", False)},
            LLAMA_TRAITS,
            {"mlp_bias": (False,)},
        ),
        "hunyuan_v1_dense": Family(
            BERT_KEYS,
            {
                **LLAMA_OPTIONS,
                **_ATTENTION_BIASES,
            },
            {**LLAMA_TRAITS, "qk_norm": True},
        ),
        "seed_oss": Family(
            BERT_KEYS,
            {
                **LLAMA_OPTIONS,
                "head_dim": ("head_dim", 128),
                "qkv_bias": ("attention_bias", True),
                "output_bias": ("attention_out_bias", False),
                "ffn_bias": ("mlp_bias", False),
            },
            LLAMA_TRAITS,
        ),
        # The language models: an image is so many tokens of theirs, and its encoder a model of its own.
        "qwen2_vl_text": _QWEN2_VL,
        "qwen2_5_vl_text": _QWEN2_VL,
        "qwen3_vl_text": Family(
            BERT_KEYS, FAMILIES["qwen3"].optional, FAMILIES["qwen3"].traits, {"attention_bias": (False,)}
        ),
        "xlm-roberta": FAMILIES["roberta"],
        "camembert": FAMILIES["roberta"],
        "mt5": Family(
            FAMILIES["t5"].required,
            {
                **FAMILIES["t5"].optional,
                "activation": ("feed_forward_proj", "gated-gelu"),
                "tied": ("tie_word_embeddings", False),
            },
            FAMILIES["t5"].traits,
        ),
        "mbart": Family(_SEQ2SEQ.required, _SEQ2SEQ.optional, {**_SEQ2SEQ.traits, "norm_first": True}),
        **dict.fromkeys(
            ("m2m_100", "pegasus"),
            Family(
                _SEQ2SEQ.required,
                {**_SEQ2SEQ.optional, "activation": ("activation_function", "relu")},
                {**_SEQ2SEQ.traits, "norm_first": True, "embedding_norm": False, "positions": "sinusoidal"},
            ),
        ),
        "dinov2": Family(
            {key: BERT_KEYS[key] for key in ("hidden", "layers", "heads")},
            {
                **{key: value for key, value in FAMILIES["vit"].optional.items() if key != "classes"},
                "image": ("image_size", 224),
                "patch": ("patch_size", 16),
                "epsilon": ("layer_norm_eps", 1e-6),
            },
            {**FAMILIES["vit"].traits, "layer_scale": True, "ffn": 0},
            {"use_swiglu_ffn": (False,)},
            ("mlp_ratio",),
        ),
    }
)


def settle_recent(values: dict[str, Any], data: Mapping[str, Any]) -> list[str]:
    """Settle, in place, what several keys of these model types tell together; returns complaints."""
    kind = data["model_type"]
    if kind in ("granite", "granitemoe", "minicpm"):
        return _factors(values, data)
    if kind in ("xlm-roberta", "camembert"):
        # The learned table counts the rows before position 0.
        values["max_positions"] -= values["position_offset"]
    if kind in ("cohere2", "olmo3", "exaone4") and isinstance(data.get("layer_types"), list):
        complaints = window_pattern(values, data["layer_types"]) if values["window"] else []
    else:
        complaints = _interval(values, data) if kind == "exaone4" else []
    values |= {"windows_rotate": True} if kind == "exaone4" and values["window"] else {}
    if kind == "smollm3":
        complaints += _without_positions(values, data)
    if kind == "glm4_moe":
        complaints += _shared(values, data, "n_shared_experts", 1, "first_k_dense_replace", 1)
        values["gate_scale"] = float(values["gate_scale"])
    if kind == "ernie4_5_moe":
        complaints += _shared(values, data, "moe_num_shared_experts", 2, "moe_layer_start_index", 1)
        if data.get("moe_layer_end_index") not in (None, -1, values["layers"] - 1):
            complaints.append("moe_layer_end_index: only experts up to the last layer are supported")
    if kind == "dinov2":
        ratio = data.get("mlp_ratio", 4)
        if isinstance(ratio, bool) or not isinstance(ratio, int) or not 0 < ratio <= 64:
            return [*complaints, f"mlp_ratio: found {ratio!r}; expected a whole number from 1 to 64"]
        values["ffn"] = ratio * values["hidden"]
    return complaints


def _factors(values: dict[str, Any], data: Mapping[str, Any]) -> list[str]:
    """What embeddings, residuals, scores and logits are multiplied with. MiniCPM tells them by its depth and the width
    of a smaller model (Hu et al., MiniCPM, 2024, table 7)."""
    if data["model_type"] == "minicpm":
        depth, base = data.get("scale_depth", 1.0), data.get("dim_model_base", values["hidden"])
        wrong = [
            f"{key}: found {found!r}; expected a positive number"
            for key, found in (("scale_depth", depth), ("dim_model_base", base))
            if isinstance(found, bool) or not isinstance(found, int | float) or found <= 0
        ]
        if wrong:
            return wrong
        values["residual_scale"] = depth / values["layers"] ** 0.5
        values["logit_scale"] = base / values["hidden"]
    else:
        values["logit_scale"] = 1.0 / values["logit_scale"]
    values["scaled_embedding"] = values["embedding_scale"] != 1.0
    return []


def _interval(values: dict[str, Any], data: Mapping[str, Any]) -> list[str]:
    """`sliding_window_pattern` of EXAONE 4: a number, or LLLG for three layers with a window and one without."""
    found = data.get("sliding_window_pattern", 4)
    if isinstance(found, str) and found.endswith("G") and set(found[:-1]) == {"L"}:
        found = len(found)
    if isinstance(found, bool) or not isinstance(found, int) or found < 2:
        return [f"sliding_window_pattern: found {found!r}; expected a whole number above 1, or such as 'LLLG'"]
    values["window_pattern"] = found
    return []


def _without_positions(values: dict[str, Any], data: Mapping[str, Any]) -> list[str]:
    step = values["unrotated_step"]
    regular = [int((layer + 1) % step != 0) for layer in range(values["layers"])]
    if data.get("no_rope_layers") and data["no_rope_layers"] != regular:
        return ["no_rope_layers: only the layers that no_rope_layer_interval gives are supported"]
    return []


def _shared(
    values: dict[str, Any], data: Mapping[str, Any], shared: str, usual_shared: int, dense: str, usual_dense: int
) -> list[str]:
    """Experts that all tokens go to, as one network, and the first layers that have one network instead."""
    counts = {key: data.get(key, usual) for key, usual in ((shared, usual_shared), (dense, usual_dense))}
    wrong = [
        f"{key}: found {count!r}; expected a whole number"
        for key, count in counts.items()
        if isinstance(count, bool) or not isinstance(count, int) or count < 0
    ]
    if not wrong:
        values["shared_ffn"] = counts[shared] * values["expert_ffn"]
        values["dense_layers"] = counts[dense]
    return wrong
