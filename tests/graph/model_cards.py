"""Configurations of well-known transformers, as their `config.json` has them, and their published sizes."""

from __future__ import annotations

from typing import Any

LLAMA2_7B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "intermediate_size": 11008,
    "vocab_size": 32000,
    "max_position_embeddings": 4096,
    "torch_dtype": "float16",
}
LLAMA3_8B = LLAMA2_7B | {"num_key_value_heads": 8, "intermediate_size": 14336, "vocab_size": 128256}
BERT_SIZES = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}
MIXTRAL_8X7B = LLAMA2_7B | {
    "model_type": "mixtral",
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
}
QWEN3_30B_A3B = {
    "model_type": "qwen3_moe",
    "hidden_size": 2048,
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "norm_topk_prob": True,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "mlp_only_layers": [],
}
GPT2 = {
    "model_type": "gpt2",
    "n_embd": 768,
    "n_layer": 12,
    "n_head": 12,
    "vocab_size": 50257,
    "n_positions": 1024,
}
BART_BASE = {
    "model_type": "bart",
    "d_model": 768,
    "encoder_layers": 6,
    "decoder_layers": 6,
    "encoder_attention_heads": 12,
    "decoder_attention_heads": 12,
    "encoder_ffn_dim": 3072,
    "decoder_ffn_dim": 3072,
    "vocab_size": 50265,
    "max_position_embeddings": 1024,
}
T5_SMALL = {
    "model_type": "t5",
    "d_model": 512,
    "num_layers": 6,
    "num_heads": 8,
    "d_ff": 2048,
    "d_kv": 64,
    "vocab_size": 32128,
}

# Parameters as `model.num_parameters()` of the Hugging Face checkpoint gives them.
CARDS: dict[str, tuple[dict[str, Any], int]] = {
    "Llama-2-7b": (LLAMA2_7B, 6_738_415_616),
    "Mixtral-8x7B-v0.1": (MIXTRAL_8X7B, 46_702_792_704),
    "Qwen3-30B-A3B": (QWEN3_30B_A3B, 30_532_122_624),
    "Meta-Llama-3-8B": (LLAMA3_8B, 8_030_261_248),
    "TinyLlama-1.1B": (
        LLAMA2_7B
        | {
            "hidden_size": 2048,
            "num_hidden_layers": 22,
            "num_key_value_heads": 4,
            "intermediate_size": 5632,
        },
        1_100_048_384,
    ),
    "Mistral-7B-v0.1": (
        LLAMA2_7B
        | {
            "model_type": "mistral",
            "num_key_value_heads": 8,
            "intermediate_size": 14336,
            "sliding_window": 4096,
        },
        7_241_732_096,
    ),
    "Qwen2-0.5B": (
        LLAMA2_7B
        | {
            "model_type": "qwen2",
            "hidden_size": 896,
            "num_hidden_layers": 24,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "intermediate_size": 4864,
            "vocab_size": 151936,
            "tie_word_embeddings": True,
            "use_sliding_window": False,
        },
        494_032_768,
    ),
    "Qwen3-0.6B": (
        LLAMA2_7B
        | {
            "model_type": "qwen3",
            "hidden_size": 1024,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "intermediate_size": 3072,
            "vocab_size": 151936,
            "tie_word_embeddings": True,
        },
        596_049_920,
    ),
    "gemma-2b": (
        LLAMA2_7B
        | {
            "model_type": "gemma",
            "hidden_size": 2048,
            "num_hidden_layers": 18,
            "num_attention_heads": 8,
            "num_key_value_heads": 1,
            "head_dim": 256,
            "intermediate_size": 16384,
            "vocab_size": 256000,
        },
        2_506_172_416,
    ),
    "phi-2": (
        LLAMA2_7B
        | {
            "model_type": "phi",
            "hidden_size": 2560,
            "intermediate_size": 10240,
            "vocab_size": 51200,
            "partial_rotary_factor": 0.4,
        },
        2_779_683_840,
    ),
    "pythia-70m": (
        {
            "model_type": "gpt_neox",
            "hidden_size": 512,
            "num_hidden_layers": 6,
            "num_attention_heads": 8,
            "intermediate_size": 2048,
            "vocab_size": 50304,
            "max_position_embeddings": 2048,
        },
        70_426_624,
    ),
    "gpt2": (GPT2, 124_439_808),
    "opt-125m": (
        {
            "model_type": "opt",
            "hidden_size": 768,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "ffn_dim": 3072,
            "vocab_size": 50272,
            "max_position_embeddings": 2048,
        },
        125_239_296,
    ),
    "bert-base-uncased": (
        BERT_SIZES | {"model_type": "bert", "vocab_size": 30522, "max_position_embeddings": 512},
        109_482_240,
    ),
    "roberta-base": (
        BERT_SIZES | {"model_type": "roberta", "vocab_size": 50265, "max_position_embeddings": 514},
        124_645_632,
    ),
    "distilbert-base-uncased": (
        {
            "model_type": "distilbert",
            "dim": 768,
            "n_layers": 6,
            "n_heads": 12,
            "hidden_dim": 3072,
            "vocab_size": 30522,
            "max_position_embeddings": 512,
        },
        66_362_880,
    ),
    "vit-base-patch16-224": (
        BERT_SIZES | {"model_type": "vit", "image_size": 224, "patch_size": 16},
        86_567_656,
    ),
    "bart-base": (BART_BASE, 139_420_416),
    "t5-small": (T5_SMALL, 60_506_624),
    "flan-t5-small": (
        T5_SMALL
        | {
            "num_layers": 8,
            "num_heads": 6,
            "d_ff": 1024,
            "feed_forward_proj": "gated-gelu",
            "tie_word_embeddings": False,
        },
        76_961_152,
    ),
}
