"""More model types of Hugging Face still: attention sinks, chunks, configurations in parts, sound, pairs, state spaces.

Data as in sim/graph/transformer_families.py, and what takes more than one key to tell. Keys, defaults and structure are
those of the transformers library (configuration_*.py and modeling_*.py of each model, version 4.x).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any

from sim.graph.transformer_families import BERT_KEYS, LLAMA_OPTIONS, LLAMA_TRAITS, SEQ2SEQ_KEYS, Family
from sim.graph.transformer_families_later import window_pattern

_BIASES = dict.fromkeys(("qkv_bias", "output_bias", "ffn_bias"), True)
_CLIP_TRAITS = {"norm": "layer_norm", "positions": "learned", **_BIASES}
_STATE_KEYS = (
    *("state_size", "conv_kernel", "expand", "intermediate_size", "time_step_rank"),
    *("use_bias", "use_conv_bias"),
)

NEWER: Mapping[str, Family] = MappingProxyType(
    {
        "gpt_oss": Family(
            BERT_KEYS,
            {
                **{key: LLAMA_OPTIONS[key] for key in ("kv_heads", "tied")},
                "head_dim": ("head_dim", 64),
                "rope_theta": ("rope_theta", 150000.0),
                "epsilon": ("rms_norm_eps", 1e-5),
                "experts": ("num_local_experts", 128),
                "experts_per_token": ("num_experts_per_tok", 4),
                "window": ("sliding_window", 128),
                "gate_cap": ("swiglu_limit", 7.0),
                "qkv_bias": ("attention_bias", True),
                "output_bias": ("attention_bias", True),
            },
            {
                **LLAMA_TRAITS,
                **{"activation": "quick_gelu", "sinks": True, "router_offset": True, "ffn_bias": True},
                "window_pattern": 2,
            },
            {"hidden_act": ("silu",)},
            ("layer_types",),
        ),
        "llama4_text": Family(
            {key: BERT_KEYS[key] for key in ("hidden", "layers", "heads", "vocabulary", "max_positions")},
            {
                "kv_heads": ("num_key_value_heads", 8),
                "head_dim": ("head_dim", 128),
                "activation": ("hidden_act", "silu"),
                "rope_theta": ("rope_theta", 500000.0),
                "epsilon": ("rms_norm_eps", 1e-5),
                "tied": ("tie_word_embeddings", False),
                "ffn": ("intermediate_size_mlp", 16384),
                "expert_ffn": ("intermediate_size", 8192),
                "shared_ffn": ("intermediate_size", 8192),
                "experts": ("num_local_experts", 16),
                "experts_per_token": ("num_experts_per_tok", 1),
                "expert_step": ("interleave_moe_layer_step", 1),
                "bare_qk_norm": ("use_qk_norm", True),
                "window": ("attention_chunk_size", 8192),
                "window_pattern": ("no_rope_layer_interval", 4),
                "temperature": ("attn_scale", 0.1),
                "temperature_floor": ("floor_scale", 8192),
            },
            {
                **LLAMA_TRAITS,
                **{"chunked": True, "windows_rotate": True, "gates_first": True},
                **{"router": "sigmoid", "scaled_gates": False},
            },
            {"attention_bias": (False,)},
            ("no_rope_layers", "moe_layers", "attn_temperature_tuning"),
        ),
        "dbrx": Family(
            {"hidden": "d_model", "layers": "n_layers", "heads": "n_heads", "vocabulary": "vocab_size"},
            {
                "max_positions": ("max_seq_len", 2048),
                "tied": ("tie_word_embeddings", False),
                "kv_heads": ("attn_config.kv_n_heads", 1),
                "qkv_clip": ("attn_config.clip_qkv", 0.0),
                "rope_theta": ("attn_config.rope_theta", 10000.0),
                "ffn": ("ffn_config.ffn_hidden_size", 3584),
                "experts": ("ffn_config.moe_num_experts", 4),
                "experts_per_token": ("ffn_config.moe_top_k", 1),
            },
            {**LLAMA_TRAITS, "norm": "layer_norm", "norm_bias": False, "activation": "silu"},
            {
                "ffn_config.ffn_act_fn": ({"name": "silu"}, None),
                "ffn_config.moe_normalize_expert_weights": (1, None),
            },
            ("attn_config", "ffn_config"),
        ),
        "whisper": Family(
            {
                **SEQ2SEQ_KEYS,
                "max_positions": "max_target_positions",
                "source_positions": "max_source_positions",
                "mels": "num_mel_bins",
            },
            {
                "activation": ("activation_function", "gelu"),
                "scaled_embedding": ("scale_embedding", False),
                "tied": ("tie_word_embeddings", True),
            },
            {"architecture": "encoder_decoder", **_CLIP_TRAITS, "key_bias": False},
        ),
        "clip": Family(
            {},
            {"projection": ("projection_dim", 512)},
            {"activation": "quick_gelu"},
            {},
            ("text_config", "vision_config"),
        ),
        "clip_text_model": Family(
            {},
            {
                "hidden": ("hidden_size", 512),
                "layers": ("num_hidden_layers", 12),
                "heads": ("num_attention_heads", 8),
                "ffn": ("intermediate_size", 2048),
                "vocabulary": ("vocab_size", 49408),
                "max_positions": ("max_position_embeddings", 77),
                "activation": ("hidden_act", "quick_gelu"),
                "epsilon": ("layer_norm_eps", 1e-5),
            },
            {"architecture": "encoder", **_CLIP_TRAITS, "causal": True},
        ),
        "clip_vision_model": Family(
            {},
            {
                "hidden": ("hidden_size", 768),
                "layers": ("num_hidden_layers", 12),
                "heads": ("num_attention_heads", 12),
                "ffn": ("intermediate_size", 3072),
                "image": ("image_size", 224),
                "patch": ("patch_size", 32),
                "channels": ("num_channels", 3),
                "activation": ("hidden_act", "quick_gelu"),
                "epsilon": ("layer_norm_eps", 1e-5),
            },
            {"architecture": "vision", **_CLIP_TRAITS, "embedding_norm": True},
        ),
        "mamba": Family(
            {"hidden": "hidden_size", "layers": "num_hidden_layers", "vocabulary": "vocab_size"},
            {
                "activation": ("hidden_act", "silu"),
                "epsilon": ("layer_norm_epsilon", 1e-5),
                "tied": ("tie_word_embeddings", True),
            },
            {"architecture": "state_space", "positions": "none", "norm": "rms_norm", "heads": 1, "ffn": 1},
            {},
            _STATE_KEYS,
        ),
    }
)


def opened(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same with the parts that DBRX writes as objects beside the rest, as `attn_config.kv_n_heads` and so on."""
    if data.get("model_type") != "dbrx":
        return data
    inner = {
        f"{part}.{key}": value
        for part in ("attn_config", "ffn_config")
        if isinstance(data.get(part), Mapping)
        for key, value in data[part].items()
    }
    return {**data, **inner}


def settle_newer(
    values: dict[str, Any], data: Mapping[str, Any], read: Callable[..., Any], state: Callable[..., Any]
) -> list[str]:
    """Settle, in place, what several keys of these model types tell together; returns complaints. `read` makes a
    configuration of a part of the data, `state` a StateSpace."""
    kind = data["model_type"]
    if kind == "gpt_oss" and isinstance(data.get("layer_types"), list):
        return window_pattern(values, data["layer_types"])
    if kind == "llama4_text":
        return _llama4(values, data)
    if kind == "dbrx":
        key = "ffn_config.moe_normalize_expert_weights"
        values["scaled_gates"] = data.get(key, 1) is not None
    if kind == "clip":
        return _towers(values, data, read)
    if kind == "mamba":
        return _mamba(values, data, state)
    return []


def _llama4(values: dict[str, Any], data: Mapping[str, Any]) -> list[str]:
    """Every so many layers attend to all tokens, without positions, and every so many have experts."""
    if not data.get("attn_temperature_tuning", True):
        values["temperature"] = 0.0
    layers, interval, step = values["layers"], values["window_pattern"], values["expert_step"]
    regular = {
        "no_rope_layers": [int((layer + 1) % interval != 0) for layer in range(layers)],
        "moe_layers": list(range(step - 1, layers, step)),
    }
    told = {"no_rope_layers": "no_rope_layer_interval", "moe_layers": "interleave_moe_layer_step"}
    return [
        f"{key}: only the layers that {told[key]} gives are supported"
        for key, wanted in regular.items()
        if data.get(key) and data[key] != wanted
    ]


def _towers(values: dict[str, Any], data: Mapping[str, Any], read: Callable[..., Any]) -> list[str]:
    """CLIP is a model of the text and one of the image."""
    parts = {}
    for kind, key in (("clip_text_model", "text_config"), ("clip_vision_model", "vision_config")):
        found = data.get(key) or {}
        if not isinstance(found, Mapping):
            return [f"{key}: found {found!r}; expected an object"]
        parts[kind] = read({**found, "model_type": kind}, key)
    text, image = parts.values()
    own = {item.name: getattr(text, item.name) for item in fields(text)}
    values |= {name: value for name, value in own.items() if name not in ("name", "model_type", "projection", "dtype")}
    values |= {"architecture": "towers", "tower": image}
    return []


def _mamba(values: dict[str, Any], data: Mapping[str, Any], state: Callable[..., Any]) -> list[str]:
    hidden = values["hidden"]
    rank = data.get("time_step_rank", "auto")
    found = {
        "intermediate_size": data.get("intermediate_size") or data.get("expand", 2) * hidden,
        "state_size": data.get("state_size", 16),
        "conv_kernel": data.get("conv_kernel", 4),
        "time_step_rank": -(-hidden // 16) if rank == "auto" else rank,
    }
    wrong = [
        f"{key}: found {value!r}; expected a positive integer below 16,777,216"
        for key, value in found.items()
        if not (isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 24)
    ]
    switches = {"use_bias": data.get("use_bias", False), "use_conv_bias": data.get("use_conv_bias", True)}
    wrong += [
        f"{key}: found {value!r}; expected true or false"
        for key, value in switches.items()
        if not isinstance(value, bool)
    ]
    if not wrong:
        values["state"] = state(*found.values(), *switches.values())
    return wrong
