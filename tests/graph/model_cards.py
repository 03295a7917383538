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
DEEPSEEK_V2_LITE = {
    "model_type": "deepseek_v2",
    "hidden_size": 2048,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "intermediate_size": 10944,
    "moe_intermediate_size": 1408,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "num_experts_per_tok": 6,
    "first_k_dense_replace": 1,
    "moe_layer_freq": 1,
    "topk_method": "greedy",
    "n_group": 1,
    "topk_group": 1,
    "norm_topk_prob": False,
    "routed_scaling_factor": 1.0,
    "scoring_func": "softmax",
    "kv_lora_rank": 512,
    "q_lora_rank": None,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "vocab_size": 102400,
    "max_position_embeddings": 163840,
}
DEEPSEEK_V3 = DEEPSEEK_V2_LITE | {
    "model_type": "deepseek_v3",
    "hidden_size": 7168,
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "first_k_dense_replace": 3,
    "topk_method": "noaux_tc",
    "n_group": 8,
    "topk_group": 4,
    "norm_topk_prob": True,
    "routed_scaling_factor": 2.5,
    "scoring_func": "sigmoid",
    "q_lora_rank": 1536,
    "vocab_size": 129280,
}
GEMMA2_2B = {
    "model_type": "gemma2",
    "hidden_size": 2304,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "intermediate_size": 9216,
    "vocab_size": 256000,
    "max_position_embeddings": 8192,
    "sliding_window": 4096,
}
GEMMA3_1B = {
    "model_type": "gemma3_text",
    "hidden_size": 1152,
    "num_hidden_layers": 26,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "intermediate_size": 6912,
    "vocab_size": 262144,
    "max_position_embeddings": 32768,
    "sliding_window": 512,
    "sliding_window_pattern": 6,
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
GPT_OSS_20B = {
    "model_type": "gpt_oss",
    "hidden_size": 2880,
    "num_hidden_layers": 24,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "intermediate_size": 2880,
    "num_local_experts": 32,
    "num_experts_per_tok": 4,
    "vocab_size": 201088,
    "max_position_embeddings": 131072,
    "sliding_window": 128,
    "attention_bias": True,
    "hidden_act": "silu",
    "layer_types": ["sliding_attention", "full_attention"] * 12,
    "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]},
}
LLAMA4_SCOUT = {
    "model_type": "llama4_text",
    "hidden_size": 5120,
    "num_hidden_layers": 48,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 8192,
    "intermediate_size_mlp": 16384,
    "num_local_experts": 16,
    "num_experts_per_tok": 1,
    "interleave_moe_layer_step": 1,
    "vocab_size": 202048,
    "max_position_embeddings": 10485760,
    "attention_chunk_size": 8192,
    "use_qk_norm": True,
    "no_rope_layers": [],
}
LLAMA4_BESIDE = 871_932_416
"""Parameters of Llama 4 that are not of its language model, in both sizes: an encoder of images (34 layers of 1408, FFN
5632, 14 x 14 patches of a 336 x 336 image, four norms around them), an adapter of 5632 x 4096 and 4096 x 4096, and
4096 x 5120 to the language model. modeling_llama4.py; no other bias than those of the layers."""
DBRX = {
    "model_type": "dbrx",
    "d_model": 6144,
    "n_layers": 40,
    "n_heads": 48,
    "max_seq_len": 32768,
    "vocab_size": 100352,
    "tie_word_embeddings": False,
    "attn_config": {"clip_qkv": 8, "kv_n_heads": 8, "rope_theta": 500000},
    "ffn_config": {"ffn_hidden_size": 10752, "moe_num_experts": 16, "moe_top_k": 4, "moe_loss_weight": 0.05},
}
WHISPER_TINY = {
    "model_type": "whisper",
    "d_model": 384,
    "encoder_layers": 4,
    "decoder_layers": 4,
    "encoder_attention_heads": 6,
    "decoder_attention_heads": 6,
    "encoder_ffn_dim": 1536,
    "decoder_ffn_dim": 1536,
    "vocab_size": 51865,
    "max_source_positions": 1500,
    "max_target_positions": 448,
    "num_mel_bins": 80,
}


def whisper(width: int, heads: int, layers: int, decoder_layers: int = 0, **others: Any) -> dict[str, Any]:
    """Whisper of another size: a head has 64 dimensions, an FFN four times the width."""
    sizes: dict[str, Any] = {"d_model": width, "encoder_layers": layers, "decoder_layers": decoder_layers or layers}
    for side in ("encoder", "decoder"):
        sizes |= {f"{side}_attention_heads": heads, f"{side}_ffn_dim": 4 * width}
    return WHISPER_TINY | sizes | others


CLIP_B32: dict[str, Any] = {
    "model_type": "clip",
    "projection_dim": 512,
    "text_config": {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8},
    "vision_config": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12, "patch_size": 32},
}
CLIP_L14_TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
CLIP_L14_IMAGE = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "patch_size": 14,
}
MAMBA_130M = {"model_type": "mamba", "hidden_size": 768, "num_hidden_layers": 24, "state_size": 16, "vocab_size": 50280}

# Parameters as `model.num_parameters()` of the Hugging Face checkpoint gives them, or the count that the hub shows.
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
