"""More model types of Hugging Face: mixtures with shared experts, latent attention, windows that alternate, slopes.

Data as in sim/graph/transformer_families.py, and what takes more than one key to tell. Keys, defaults and structure are
those of the transformers library (configuration_*.py and modeling_*.py of each model, version 4.x).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from sim.graph.transformer_families import BERT_KEYS, LLAMA_OPTIONS, LLAMA_TRAITS, Family

_EXPERT_OPTIONS: dict[str, tuple[str, Any]] = {
    **LLAMA_OPTIONS,
    "experts_per_token": ("num_experts_per_tok", 8),
    "scaled_gates": ("norm_topk_prob", False),
}
_DEEPSEEK_OPTIONS: dict[str, tuple[str, Any]] = {
    **{key: LLAMA_OPTIONS[key] for key in ("activation", "rope_theta", "epsilon", "tied")},
    "experts": ("n_routed_experts", 0),
    "experts_per_token": ("num_experts_per_tok", 0),
    "expert_ffn": ("moe_intermediate_size", 0),
    "expert_groups": ("n_group", 1),
    "groups_per_token": ("topk_group", 1),
    "gate_scale": ("routed_scaling_factor", 1.0),
    "scaled_gates": ("norm_topk_prob", False),
}
_DEEPSEEK_ONLY = {"moe_layer_freq": (1, None), "attention_bias": (False, None), "rope_interleave": (True, None)}
_DEEPSEEK_MORE = (
    "kv_lora_rank",
    "qk_rope_head_dim",
    "qk_nope_head_dim",
    "v_head_dim",
    "q_lora_rank",
    "n_shared_experts",
    "first_k_dense_replace",
    "topk_method",
)
_LATENT_KEYS = {
    "rank": "kv_lora_rank",
    "rope": "qk_rope_head_dim",
    "nope": "qk_nope_head_dim",
    "value": "v_head_dim",
    "query_rank": "q_lora_rank",
}
_GEMMA_OPTIONS: dict[str, tuple[str, Any]] = {
    **LLAMA_OPTIONS,
    "head_dim": ("head_dim", 256),
    "activation": ("hidden_activation", "gelu_pytorch_tanh"),
    "tied": ("tie_word_embeddings", True),
    "window": ("sliding_window", 4096),
}
_GEMMA_TRAITS = {**LLAMA_TRAITS, "scaled_embedding": True, "norm_after": True}
_BIASES = ("qkv_bias", "output_bias", "ffn_bias")
_GPT_KEYS = {
    "hidden": "n_embd",
    "layers": "n_layer",
    "heads": "n_head",
    "vocabulary": "vocab_size",
    "max_positions": "n_positions",
}
_GPTJ_OPTIONS: dict[str, tuple[str, Any]] = {
    "ffn": ("n_inner", 0),
    "activation": ("activation_function", "gelu_new"),
    "epsilon": ("layer_norm_epsilon", 1e-5),
    "tied": ("tie_word_embeddings", False),
}

LATER: Mapping[str, Family] = MappingProxyType(
    {
        "deepseek_v2": Family(BERT_KEYS, _DEEPSEEK_OPTIONS, LLAMA_TRAITS, _DEEPSEEK_ONLY, _DEEPSEEK_MORE),
        "deepseek_v3": Family(
            BERT_KEYS,
            {**_DEEPSEEK_OPTIONS, "scaled_gates": ("norm_topk_prob", True)},
            {**LLAMA_TRAITS, "router": "sigmoid", "router_bias": True},
            {**_DEEPSEEK_ONLY, "scoring_func": ("sigmoid", None)},
            _DEEPSEEK_MORE,
        ),
        "kimi_k2": Family(
            BERT_KEYS,
            {**_DEEPSEEK_OPTIONS, "scaled_gates": ("norm_topk_prob", True)},
            {**LLAMA_TRAITS, "router": "sigmoid", "router_bias": True},
            {**_DEEPSEEK_ONLY, "scoring_func": ("sigmoid", None)},
            _DEEPSEEK_MORE,
        ),
        "qwen2_moe": Family(
            {**BERT_KEYS, "expert_ffn": "moe_intermediate_size"},
            {
                **_EXPERT_OPTIONS,
                "experts": ("num_experts", 60),
                "experts_per_token": ("num_experts_per_tok", 4),
                "shared_ffn": ("shared_expert_intermediate_size", 5632),
            },
            {**LLAMA_TRAITS, "qkv_bias": True, "shared_gate": True},
            {"use_sliding_window": (False,), "decoder_sparse_step": (1,), "mlp_only_layers": ([], None)},
        ),
        "olmoe": Family(
            BERT_KEYS,
            {**_EXPERT_OPTIONS, "experts": ("num_experts", 64), "qkv_clip": ("clip_qkv", 0.0)},
            {**LLAMA_TRAITS, "wide_qk_norm": True},
            {"attention_bias": (False,)},
        ),
        "gemma2": Family(
            BERT_KEYS,
            {
                **_GEMMA_OPTIONS,
                "score_cap": ("attn_logit_softcapping", 50.0),
                "logit_cap": ("final_logit_softcapping", 30.0),
            },
            {**_GEMMA_TRAITS, "window_pattern": 2},
            {"attention_bias": (False,)},
            ("layer_types",),
        ),
        "gemma3_text": Family(
            {key: BERT_KEYS[key] for key in ("hidden", "layers", "ffn")},
            {
                **_GEMMA_OPTIONS,
                "heads": ("num_attention_heads", 8),
                "kv_heads": ("num_key_value_heads", 4),
                "vocabulary": ("vocab_size", 262208),
                "max_positions": ("max_position_embeddings", 131072),
                "window_pattern": ("sliding_window_pattern", 6),
            },
            {**_GEMMA_TRAITS, "qk_norm": True},
            {"attention_bias": (False,), "attn_logit_softcapping": (None,), "final_logit_softcapping": (None,)},
            ("layer_types",),
        ),
        "olmo2": Family(
            BERT_KEYS,
            {**LLAMA_OPTIONS, "epsilon": ("rms_norm_eps", 1e-5)},
            {**LLAMA_TRAITS, "wide_qk_norm": True, "norm_first": False, "norm_after": True},
            {"attention_bias": (False,)},
        ),
        "starcoder2": Family(
            BERT_KEYS,
            {
                **LLAMA_OPTIONS,
                "activation": ("hidden_act", "gelu_pytorch_tanh"),
                "epsilon": ("norm_epsilon", 1e-5),
                "tied": ("tie_word_embeddings", True),
                "window": ("sliding_window", None),
                **dict.fromkeys(_BIASES, ("use_bias", True)),
            },
            {**LLAMA_TRAITS, "norm": "layer_norm", "gated": False},
        ),
        "cohere": Family(
            BERT_KEYS,
            {
                **LLAMA_OPTIONS,
                "epsilon": ("layer_norm_eps", 1e-5),
                "tied": ("tie_word_embeddings", True),
                "logit_scale": ("logit_scale", 0.0625),
            },
            {**LLAMA_TRAITS, "norm": "layer_norm", "norm_bias": False, "parallel_norms": 1},
            {"attention_bias": (False,), "use_qk_norm": (False,)},
        ),
        "falcon": Family(
            {key: BERT_KEYS[key] for key in ("hidden", "layers", "heads", "vocabulary")},
            {
                "kv_heads": ("num_kv_heads", 0),
                "ffn": ("ffn_hidden_size", 0),
                "max_positions": ("max_position_embeddings", 2048),
                "activation": ("activation", "gelu"),
                "epsilon": ("layer_norm_epsilon", 1e-5),
                "rope_theta": ("rope_theta", 10000.0),
                "tied": ("tie_word_embeddings", True),
            },
            {"architecture": "decoder", "norm": "layer_norm", "parallel_norms": 1},
            {"alibi": (False,), "parallel_attn": (True,), "bias": (False,)},
            ("multi_query", "new_decoder_architecture", "num_ln_in_parallel_attn"),
        ),
        "stablelm": Family(
            BERT_KEYS,
            {
                **LLAMA_OPTIONS,
                "epsilon": ("layer_norm_eps", 1e-5),
                "rotary_fraction": ("partial_rotary_factor", 0.25),
                "qkv_bias": ("use_qkv_bias", False),
            },
            {**LLAMA_TRAITS, "norm": "layer_norm"},
            {"use_parallel_residual": (False,), "qk_layernorm": (False,)},
        ),
        "internlm2": Family(
            BERT_KEYS,
            {**LLAMA_OPTIONS, "qkv_bias": ("bias", False), "output_bias": ("bias", False)},
            LLAMA_TRAITS,
        ),
        "gptj": Family(
            _GPT_KEYS,
            _GPTJ_OPTIONS,
            {
                "architecture": "decoder",
                "norm": "layer_norm",
                "parallel_norms": 1,
                "ffn_bias": True,
                "head_bias": True,
            },
            {},
            ("rotary_dim",),
        ),
        "gpt_bigcode": Family(
            _GPT_KEYS,
            {
                **_GPTJ_OPTIONS,
                "activation": ("activation_function", "gelu_pytorch_tanh"),
                "tied": ("tie_word_embeddings", True),
            },
            {
                "architecture": "decoder",
                "positions": "learned",
                "norm": "layer_norm",
                **dict.fromkeys(_BIASES, True),
            },
            {"add_cross_attention": (False,)},
            ("multi_query",),
        ),
        "bloom": Family(
            {"hidden": "hidden_size", "layers": "n_layer", "heads": "n_head", "vocabulary": "vocab_size"},
            {"epsilon": ("layer_norm_epsilon", 1e-5), "tied": ("tie_word_embeddings", True)},
            {
                "architecture": "decoder",
                "positions": "alibi",
                "norm": "layer_norm",
                "embedding_norm": True,
                "activation": "gelu_new",
                "ffn": 0,
                **dict.fromkeys(_BIASES, True),
            },
            {"apply_residual_connection_post_layernorm": (False,)},
        ),
        "mpt": Family(
            {"hidden": "d_model", "layers": "n_layers", "heads": "n_heads", "vocabulary": "vocab_size"},
            {"max_positions": ("max_seq_len", 2048), "tied": ("tie_word_embeddings", True)},
            {
                "architecture": "decoder",
                "positions": "alibi",
                "norm": "layer_norm",
                "norm_bias": False,
                "activation": "gelu",
                "ffn": 0,
            },
            {"expansion_ratio": (4,), "no_bias": (True,)},
            ("attn_config",),
        ),
    }
)


def settle(values: dict[str, Any], data: Mapping[str, Any], latent: Callable[..., Any]) -> list[str]:
    """Settle, in place, what several keys of these model types tell together; returns complaints."""
    kind = data["model_type"]
    complaints: list[str] = []
    if kind in ("deepseek_v2", "deepseek_v3", "kimi_k2"):
        complaints += _deepseek(values, data, latent)
    if kind == "falcon":
        # One key-value head unless told, two norms in the larger models (modeling_falcon.py).
        newer = data.get("new_decoder_architecture", False)
        many = not newer and data.get("multi_query", True)
        values["kv_heads"] = 1 if many else values["kv_heads"] or values["heads"]
        values["ffn"] = values["ffn"] or 4 * values["hidden"]
        values["parallel_norms"] = 2 if newer and data.get("num_ln_in_parallel_attn") != 1 else 1
    if kind in ("gptj", "gpt_bigcode", "bloom", "mpt"):
        values["ffn"] = values["ffn"] or 4 * values["hidden"]
    if kind == "gpt_bigcode" and data.get("multi_query", True):
        values["kv_heads"] = 1
    if kind == "gptj":
        complaints += _rotary_dim(values, data.get("rotary_dim", 64))
    if kind == "mpt":
        complaints += _attn_config(data.get("attn_config") or {"alibi": True})
    if kind in ("gemma2", "gemma3_text") and isinstance(data.get("layer_types"), list):
        complaints += window_pattern(values, data["layer_types"])
    return complaints


def _rotary_dim(values: dict[str, Any], found: Any) -> list[str]:
    """Dimensions of a head that are rotated, as a share; null for all."""
    width = values["hidden"] // values["heads"]
    if found is not None and not (isinstance(found, int) and 0 < found <= width):
        return [f"rotary_dim: found {found!r}; expected a whole number up to the {width} of a head"]
    values["rotary_fraction"] = 1.0 if found is None else found / width
    return []


def _attn_config(found: Any) -> list[str]:
    """Of MPT: heads without norms and limits, and positions as slopes."""
    only = {"alibi": (True,), "attn_type": ("multihead_attention",), "qk_ln": (False,), "clip_qkv": (None,)}
    if not isinstance(found, Mapping):
        return [f"attn_config: found {found!r}; expected an object"]
    return [
        f"attn_config.{key}: found {found[key]!r}; only {accepted[0]!r} is supported"
        for key, accepted in only.items()
        if found.get(key, accepted[0]) not in accepted
    ]


def window_pattern(values: dict[str, Any], kinds: list[Any]) -> list[str]:
    """`layer_types` as a pattern: every so many layers one attends to all tokens."""
    whole = [index for index, kind in enumerate(kinds) if kind == "full_attention"]
    pattern = whole[0] + 1 if whole else 1
    regular = [index for index in range(len(kinds)) if (index + 1) % pattern == 0] if whole else []
    values["window_pattern"] = pattern
    if len(kinds) != values["layers"] or (pattern == 1 and whole) or whole != regular:
        return ["layer_types: only a full_attention after every so many sliding_attention is supported"]
    return []


def _deepseek(values: dict[str, Any], data: Mapping[str, Any], latent: Callable[..., Any]) -> list[str]:
    found: dict[str, Any] = {part: data.get(key) for part, key in _LATENT_KEYS.items()}
    wrong = [
        f"{key}: found {found[part]!r}; expected a positive integer"
        for part, key in _LATENT_KEYS.items()
        if not (isinstance(found[part], int) and not isinstance(found[part], bool) and found[part] > 0)
        and not (part == "query_rank" and found[part] is None)
    ]
    counts = {key: data.get(key) or 0 for key in ("n_shared_experts", "first_k_dense_replace")}
    wrong += [
        f"{key}: found {count!r}; expected a whole number"
        for key, count in counts.items()
        if not isinstance(count, int) or isinstance(count, bool) or count < 0
    ]
    if wrong:
        return wrong
    shared, values["dense_layers"] = counts.values()
    values["latent"] = latent(**{part: number or 0 for part, number in found.items()})
    values["shared_ffn"] = shared * values["expert_ffn"]
    if values["latent"].rope % 2:
        return [f"qk_rope_head_dim: found {values['latent'].rope}; rotary embedding needs an even number"]
    if data.get("topk_method") == "greedy":
        values["expert_groups"] = values["groups_per_token"] = 1
    values["gate_scale"] = float(values["gate_scale"])
    return []
