"""Well-known transformers: their configurations and how many parameters are published for them."""

from __future__ import annotations

from typing import Any

from model_cards import (
    BART_BASE,
    BERT_SIZES,
    CLIP_B32,
    CLIP_L14_IMAGE,
    CLIP_L14_TEXT,
    DBRX,
    DEEPSEEK_V2_LITE,
    DEEPSEEK_V3,
    GEMMA2_2B,
    GEMMA3_1B,
    GPT2,
    GPT_OSS_20B,
    LLAMA2_7B,
    LLAMA3_8B,
    LLAMA4_BESIDE,
    LLAMA4_SCOUT,
    MAMBA_130M,
    MIXTRAL_8X7B,
    QWEN3_30B_A3B,
    T5_SMALL,
    WHISPER_TINY,
    whisper,
)

CARDS: dict[str, tuple[dict[str, Any], int]] = {
    "Llama-2-7b": (LLAMA2_7B, 6_738_415_616),
    "Mixtral-8x7B-v0.1": (MIXTRAL_8X7B, 46_702_792_704),
    "DeepSeek-V2-Lite": (DEEPSEEK_V2_LITE, 15_706_484_224),
    # Without the layer that predicts a further token; the router's biases included.
    "DeepSeek-V3": (DEEPSEEK_V3, 671_026_419_200),
    "Qwen1.5-MoE-A2.7B": (
        LLAMA2_7B
        | {
            "model_type": "qwen2_moe",
            "hidden_size": 2048,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "num_key_value_heads": 16,
            "intermediate_size": 5632,
            "moe_intermediate_size": 1408,
            "shared_expert_intermediate_size": 5632,
            "num_experts": 60,
            "num_experts_per_tok": 4,
            "decoder_sparse_step": 1,
            "vocab_size": 151936,
        },
        14_315_784_192,
    ),
    "OLMoE-1B-7B-0924": (
        LLAMA2_7B
        | {
            "model_type": "olmoe",
            "hidden_size": 2048,
            "num_hidden_layers": 16,
            "num_attention_heads": 16,
            "intermediate_size": 1024,
            "num_experts": 64,
            "vocab_size": 50304,
        },
        6_919_161_856,
    ),
    "gemma-2-2b": (GEMMA2_2B, 2_614_341_888),
    "gemma-2-9b": (
        GEMMA2_2B
        | {
            "hidden_size": 3584,
            "num_hidden_layers": 42,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "intermediate_size": 14336,
        },
        9_241_705_984,
    ),
    "gemma-3-1b-it": (GEMMA3_1B, 999_885_952),
    "OLMo-2-1124-7B": (LLAMA2_7B | {"model_type": "olmo2", "vocab_size": 100352}, 7_298_617_344),
    "starcoder2-3b": (
        LLAMA2_7B
        | {
            "model_type": "starcoder2",
            "hidden_size": 3072,
            "num_hidden_layers": 30,
            "num_attention_heads": 24,
            "num_key_value_heads": 2,
            "intermediate_size": 12288,
            "vocab_size": 49152,
            "sliding_window": 4096,
        },
        3_030_371_328,
    ),
    "c4ai-command-r-v01": (
        LLAMA2_7B
        | {
            "model_type": "cohere",
            "hidden_size": 8192,
            "num_hidden_layers": 40,
            "num_attention_heads": 64,
            "intermediate_size": 22528,
            "vocab_size": 256000,
            "logit_scale": 0.0625,
        },
        34_980_831_232,
    ),
    "falcon-7b": (
        {
            "model_type": "falcon",
            "hidden_size": 4544,
            "num_hidden_layers": 32,
            "num_attention_heads": 71,
            "vocab_size": 65024,
            "alibi": False,
            "bias": False,
            "multi_query": True,
            "parallel_attn": True,
            "new_decoder_architecture": False,
        },
        6_921_720_704,
    ),
    "falcon-40b": (
        {
            "model_type": "falcon",
            "hidden_size": 8192,
            "num_hidden_layers": 60,
            "num_attention_heads": 128,
            "num_kv_heads": 8,
            "vocab_size": 65024,
            "alibi": False,
            "bias": False,
            "parallel_attn": True,
            "new_decoder_architecture": True,
        },
        41_303_293_952,
    ),
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
    "stablelm-3b-4e1t": (
        LLAMA2_7B
        | {
            "model_type": "stablelm",
            "hidden_size": 2560,
            "intermediate_size": 6912,
            "vocab_size": 50304,
            "use_qkv_bias": False,
            "partial_rotary_factor": 0.25,
        },
        2_795_443_200,
    ),
    "internlm2-7b": (
        LLAMA2_7B
        | {
            "model_type": "internlm2",
            "num_key_value_heads": 8,
            "intermediate_size": 14336,
            "vocab_size": 92544,
            "bias": False,
        },
        7_737_708_544,
    ),
    "gpt-j-6b": (
        GPT2
        | {
            "model_type": "gptj",
            "n_embd": 4096,
            "n_layer": 28,
            "n_head": 16,
            "vocab_size": 50400,
            "n_positions": 2048,
            "rotary_dim": 64,
            "tie_word_embeddings": False,
        },
        6_050_882_784,
    ),
    "starcoder": (
        GPT2
        | {
            "model_type": "gpt_bigcode",
            "n_embd": 6144,
            "n_layer": 40,
            "n_head": 48,
            "n_inner": 24576,
            "vocab_size": 49152,
            "n_positions": 8192,
            "multi_query": True,
        },
        15_517_456_384,
    ),
    "bloom-560m": (
        {"model_type": "bloom", "hidden_size": 1024, "n_layer": 24, "n_head": 16, "vocab_size": 250880},
        559_214_592,
    ),
    "mpt-7b": (
        {
            "model_type": "mpt",
            "d_model": 4096,
            "n_layers": 32,
            "n_heads": 32,
            "vocab_size": 50432,
            "no_bias": True,
            "attn_config": {"alibi": True},
        },
        6_649_286_656,
    ),
    "gpt-oss-20b": (GPT_OSS_20B, 20_914_757_184),
    "gpt-oss-120b": (
        GPT_OSS_20B | {"num_hidden_layers": 36, "num_local_experts": 128, "layer_types": None},
        116_829_156_672,
    ),
    "Llama-4-Scout-17B-16E": (LLAMA4_SCOUT, 108_641_793_536 - LLAMA4_BESIDE),
    "Llama-4-Maverick-17B-128E": (
        LLAMA4_SCOUT | {"num_local_experts": 128, "interleave_moe_layer_step": 2, "use_qk_norm": False},
        401_583_781_376 - LLAMA4_BESIDE,
    ),
    "dbrx-base": (DBRX, 131_596_523_520),
    "whisper-tiny": (WHISPER_TINY, 37_760_640),
    "whisper-small": (whisper(768, 12, 12), 241_734_912),
    "whisper-large-v2": (whisper(1280, 20, 32), 1_543_304_960),
    "whisper-large-v3": (whisper(1280, 20, 32, num_mel_bins=128, vocab_size=51866), 1_543_490_560),
    "whisper-large-v3-turbo": (whisper(1280, 20, 32, 4, num_mel_bins=128, vocab_size=51866), 808_878_080),
    "clip-vit-base-patch32": (CLIP_B32, 151_277_313),
    "clip-vit-large-patch14": (
        CLIP_B32 | {"projection_dim": 768, "text_config": CLIP_L14_TEXT, "vision_config": CLIP_L14_IMAGE},
        427_616_513,
    ),
    "the text encoder of Stable Diffusion 1.5": (CLIP_L14_TEXT | {"model_type": "clip_text_model"}, 123_060_480),
    "mamba-130m-hf": (MAMBA_130M, 129_135_360),
    "mamba-370m-hf": (MAMBA_130M | {"hidden_size": 1024, "num_hidden_layers": 48}, 371_516_416),
}


def shortest(data: dict[str, Any]) -> dict[str, Any]:
    """Lengths of a pass that every model type has: a few tokens, an image, a step."""
    kind = data["model_type"]
    return {"phase": "decode"} if kind == "mamba" else {} if kind == "vit" else {"seq": 16}
