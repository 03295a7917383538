"""How the model types of Hugging Face write their configuration: data for sim/graph/transformer_config.py.

Keys, their defaults and the layer structure of each `model_type` are those of the transformers library
(configuration_*.py and modeling_*.py of each model, version 4.x).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True)
class Family:
    """How one model_type writes its configuration, by field of TransformerConfig.

    `optional` gives the key and the value that Hugging Face assumes; `only` lists switches of which one
    setting is supported, `more` keys that are read together (sim/graph/transformer_families_later.py).
    """

    required: Mapping[str, str]
    optional: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    traits: Mapping[str, Any] = field(default_factory=dict)
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    more: tuple[str, ...] = ()


BERT_KEYS = {
    "hidden": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "ffn": "intermediate_size",
    "vocabulary": "vocab_size",
    "max_positions": "max_position_embeddings",
}
SEQ2SEQ_KEYS = {
    "hidden": "d_model",
    "layers": "decoder_layers",
    "heads": "decoder_attention_heads",
    "ffn": "decoder_ffn_dim",
    "encoder_layers": "encoder_layers",
    "encoder_heads": "encoder_attention_heads",
    "encoder_ffn": "encoder_ffn_dim",
    "vocabulary": "vocab_size",
    "max_positions": "max_position_embeddings",
}
_ALL_BIASES = {"qkv_bias": True, "output_bias": True, "ffn_bias": True}
LLAMA_OPTIONS: dict[str, tuple[str, Any]] = {
    "kv_heads": ("num_key_value_heads", 0),
    "head_dim": ("head_dim", 0),
    "activation": ("hidden_act", "silu"),
    "rope_theta": ("rope_theta", 10000.0),
    "epsilon": ("rms_norm_eps", 1e-6),
    "tied": ("tie_word_embeddings", False),
}
LLAMA_TRAITS = {"architecture": "decoder", "positions": "rope", "norm": "rms_norm", "gated": True}
_BERT_OPTIONS: dict[str, tuple[str, Any]] = {
    "activation": ("hidden_act", "gelu"),
    "epsilon": ("layer_norm_eps", 1e-12),
    "token_types": ("type_vocab_size", 2),
}
_BERT_TRAITS = {
    "architecture": "encoder",
    "positions": "learned",
    "norm": "layer_norm",
    "norm_first": False,
    "embedding_norm": True,
    **_ALL_BIASES,
}
_SEQ2SEQ_OPTIONS: dict[str, tuple[str, Any]] = {
    "activation": ("activation_function", "gelu"),
    "scaled_embedding": ("scale_embedding", False),
}
_SEQ2SEQ_TRAITS = {
    "architecture": "encoder_decoder",
    "norm": "layer_norm",
    "norm_first": False,
    "tied": True,
    **_ALL_BIASES,
}

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "llama": Family(
            BERT_KEYS,
            {
                **LLAMA_OPTIONS,
                "qkv_bias": ("attention_bias", False),
                "output_bias": ("attention_bias", False),
                "ffn_bias": ("mlp_bias", False),
            },
            LLAMA_TRAITS,
        ),
        "mistral": Family(BERT_KEYS, {**LLAMA_OPTIONS, "window": ("sliding_window", None)}, LLAMA_TRAITS),
        "qwen2": Family(
            BERT_KEYS, LLAMA_OPTIONS, {**LLAMA_TRAITS, "qkv_bias": True}, {"use_sliding_window": (False,)}
        ),
        "qwen3": Family(
            BERT_KEYS,
            {**LLAMA_OPTIONS, "head_dim": ("head_dim", 128)},
            {**LLAMA_TRAITS, "qk_norm": True},
            {"use_sliding_window": (False,), "attention_bias": (False,)},
        ),
        "mixtral": Family(
            BERT_KEYS,
            {
                **LLAMA_OPTIONS,
                "window": ("sliding_window", None),
                "experts": ("num_local_experts", 8),
                "experts_per_token": ("num_experts_per_tok", 2),
            },
            LLAMA_TRAITS,
        ),
        "qwen3_moe": Family(
            {**BERT_KEYS, "ffn": "moe_intermediate_size"},
            {
                **LLAMA_OPTIONS,
                "experts": ("num_experts", 128),
                "experts_per_token": ("num_experts_per_tok", 8),
                "scaled_gates": ("norm_topk_prob", False),
            },
            {**LLAMA_TRAITS, "qk_norm": True},
            {
                "use_sliding_window": (False,),
                "attention_bias": (False,),
                "decoder_sparse_step": (1,),
                "mlp_only_layers": ([], None),
            },
        ),
        "phi3": Family(BERT_KEYS, {**LLAMA_OPTIONS, "window": ("sliding_window", None)}, LLAMA_TRAITS),
        "gemma": Family(
            BERT_KEYS,
            {
                **LLAMA_OPTIONS,
                "head_dim": ("head_dim", 256),
                "activation": ("hidden_activation", "gelu_pytorch_tanh"),
                "tied": ("tie_word_embeddings", True),
            },
            {**LLAMA_TRAITS, "scaled_embedding": True},
            {"attention_bias": (False,)},
        ),
        "phi": Family(
            BERT_KEYS,
            {
                **LLAMA_OPTIONS,
                "activation": ("hidden_act", "gelu_new"),
                "epsilon": ("layer_norm_eps", 1e-5),
                "rotary_fraction": ("partial_rotary_factor", 0.5),
            },
            {**LLAMA_TRAITS, "norm": "layer_norm", "gated": False, "head_bias": True, "parallel_norms": 1}
            | _ALL_BIASES,
            {"qk_layernorm": (False,)},
        ),
        "gpt_neox": Family(
            BERT_KEYS,
            {
                "activation": ("hidden_act", "gelu"),
                "epsilon": ("layer_norm_eps", 1e-5),
                "rotary_fraction": ("rotary_pct", 0.25),
                "tied": ("tie_word_embeddings", False),
            },
            {"architecture": "decoder", "norm": "layer_norm", "parallel_norms": 2, **_ALL_BIASES},
            {"use_parallel_residual": (True,), "attention_bias": (True,)},
        ),
        "gpt2": Family(
            {
                "hidden": "n_embd",
                "layers": "n_layer",
                "heads": "n_head",
                "vocabulary": "vocab_size",
                "max_positions": "n_positions",
            },
            {
                "ffn": ("n_inner", 0),
                "activation": ("activation_function", "gelu_new"),
                "tied": ("tie_word_embeddings", True),
            },
            {"architecture": "decoder", "positions": "learned", "norm": "layer_norm", **_ALL_BIASES},
            {"add_cross_attention": (False,)},
        ),
        "opt": Family(
            {**BERT_KEYS, "ffn": "ffn_dim"},
            {"activation": ("activation_function", "relu"), "tied": ("tie_word_embeddings", True)},
            {
                "architecture": "decoder",
                "positions": "learned",
                "position_offset": 2,
                "norm": "layer_norm",
                **_ALL_BIASES,
            },
            {"do_layer_norm_before": (True,), "enable_bias": (True,)},
        ),
        "bert": Family(BERT_KEYS, _BERT_OPTIONS, {**_BERT_TRAITS, "pooler": True}),
        "roberta": Family(
            BERT_KEYS,
            {**_BERT_OPTIONS, "token_types": ("type_vocab_size", 1)},
            {**_BERT_TRAITS, "pooler": True, "position_offset": 2},
        ),
        "distilbert": Family(
            {
                "hidden": "dim",
                "layers": "n_layers",
                "heads": "n_heads",
                "ffn": "hidden_dim",
                "vocabulary": "vocab_size",
                "max_positions": "max_position_embeddings",
            },
            {"activation": ("activation", "gelu")},
            _BERT_TRAITS,
        ),
        "vit": Family(
            {
                **{key: BERT_KEYS[key] for key in ("hidden", "layers", "heads", "ffn")},
                "image": "image_size",
                "patch": "patch_size",
            },
            {
                "activation": ("hidden_act", "gelu"),
                "channels": ("num_channels", 3),
                "qkv_bias": ("qkv_bias", True),
                "classes": ("num_labels", 1000),
            },
            {
                "architecture": "vision",
                "positions": "learned",
                "norm": "layer_norm",
                "output_bias": True,
                "ffn_bias": True,
            },
        ),
        "bart": Family(
            SEQ2SEQ_KEYS,
            _SEQ2SEQ_OPTIONS,
            {**_SEQ2SEQ_TRAITS, "positions": "learned", "position_offset": 2, "embedding_norm": True},
        ),
        "marian": Family(SEQ2SEQ_KEYS, _SEQ2SEQ_OPTIONS, {**_SEQ2SEQ_TRAITS, "positions": "sinusoidal"}),
        "t5": Family(
            {
                "hidden": "d_model",
                "layers": "num_layers",
                "heads": "num_heads",
                "ffn": "d_ff",
                "head_dim": "d_kv",
                "vocabulary": "vocab_size",
            },
            {
                "activation": ("feed_forward_proj", "relu"),
                "relative_buckets": ("relative_attention_num_buckets", 32),
                "relative_distance": ("relative_attention_max_distance", 128),
                "tied": ("tie_word_embeddings", True),
                "epsilon": ("layer_norm_epsilon", 1e-6),
            },
            {"architecture": "encoder_decoder", "positions": "relative", "scaled_scores": False},
        ),
    }
)

COMMON_KEYS = frozenset(
    {
        "model_type",
        "_name_or_path",
        "torch_dtype",
        "dtype",
        "num_decoder_layers",
        "word_embed_proj_dim",
        "quantization_config",
    }
)
"""Read for every model type, beside the keys of its family."""

ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
    "quick_gelu": "quick_gelu",
    "relu2": "relu2",
}
ACTIVATION_PARAMETERS = {"quick_gelu": (1.702,)}
DTYPES = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32", "float64": "fp64"}
