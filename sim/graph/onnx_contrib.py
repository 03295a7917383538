"""Operators of the domain com.microsoft that ONNX Runtime's optimisers put into a graph: handlers by operator type.

Each is written out as what it fuses. Semantics: docs/ContribOperators.md of github.com/microsoft/onnxruntime.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from sim.graph.onnx_attention import (
    ATTENTION,
    Scores,
    append,
    attend,
    join_heads,
    masked,
    rotated,
    split_heads,
    view,
    visible,
)
from sim.graph.onnx_functions import FUNCTIONS
from sim.graph.onnx_layers import LAYERS
from sim.graph.onnx_node import Array, Handler, Importer, Node, Unsupported

_MASKED = -10000.0
"""What ONNX Runtime adds to masked scores unless `mask_filter_value` says otherwise."""

_ACTIVATIONS: Mapping[str, str] = {"Relu": "relu", "Tanh": "tanh", "Sigmoid": "sigmoid", "": ""}


def _activated(model: Importer, node: Node, x: str) -> str:
    name = node.get("activation", "")
    parameters = tuple(node.get("activation_params", ()))
    if name in _ACTIVATIONS:
        return model.function(node, _ACTIVATIONS[name], x) if name else x
    known = {"LeakyRelu": "leaky_relu", "Clip": "clip", "HardSigmoid": "hard_sigmoid"}
    if name not in known:
        raise Unsupported(f"activation = {name!r}")
    return model.function(node, known[name], x, parameters=parameters)


def _fused_matmul(model: Importer, node: Node) -> list[str]:
    node.expect("transBatchA", 0)
    node.expect("transBatchB", 0)
    flags = {"transpose_a": bool(node.get("transA", 0)), "transpose_b": bool(node.get("transB", 0))}
    a, b = model.tensor(node, 0), model.tensor(node, 1)
    if min(len(model.shape(a)), len(model.shape(b))) < 2:
        raise Unsupported("a vector as operand")
    result = model.op("matmul", [a, b], flags, node)
    alpha = node.get("alpha", 1.0)
    return [result if alpha == 1.0 else model.function(node, "mul", result, model.scalar(node, alpha, result))]


def _fused_gemm(model: Importer, node: Node) -> list[str]:
    names = {key.replace("activation_", "") for key in node.attributes if key.startswith("activation_")}
    parameters = [node.attributes[f"activation_{name}"] for name in ("alpha", "beta", "gamma") if name in names]
    found = replace(node, attributes={**node.attributes, "activation_params": parameters})
    return [_activated(model, found, LAYERS["Gemm"](model, node)[0])]


def _fused_conv(model: Importer, node: Node) -> list[str]:
    """A convolution, plus input 3 if any, and an activation."""
    plain = replace(node, inputs=node.inputs[:3])
    result = LAYERS["Conv"](model, plain)[0]
    if node.has(3):
        result = model.function(node, "add", result, model.tensor(node, 3))
    return [_activated(model, node, result)]


def _biased(function: str) -> Handler:
    def handler(model: Importer, node: Node) -> list[str]:
        x = model.tensor(node, 0)
        x = model.function(node, "add", x, model.tensor(node, 1)) if node.has(1) else x
        return [model.function(node, function, x)]

    return handler


def _quick_gelu(model: Importer, node: Node) -> list[str]:
    return [model.function(node, "quick_gelu", model.tensor(node, 0), parameters=[node.get("alpha", 1.702)])]


def _skip_norm(model: Importer, node: Node) -> list[str]:
    """Sum, then norm; output 3 is the sum."""
    simplified = node.op_type == "SkipSimplifiedLayerNormalization"
    x = model.function(node, "add", model.tensor(node, 0), model.tensor(node, 1))
    bias = 3 if simplified else 4
    if node.has(bias):
        x = model.function(node, "add", x, model.tensor(node, bias))
    axis = len(model.shape(x)) - 1
    scales = [model.tensor(node, index) for index in ((2,) if simplified else (2, 3)) if node.has(index)]
    kind = "rms_norm" if simplified else "layer_norm"
    default = 1e-5 if simplified else 1e-12
    result = model.op(kind, [x, *scales], {"axis": axis, "epsilon": node.get("epsilon", default)}, node)
    wanted = [bool(name) and name in model.read for name in node.outputs[1:3]]
    if any(wanted):
        raise Unsupported("the mean or the deviation as an output")
    return [result, "", "", x]


def _embed_norm(model: Importer, node: Node) -> list[str]:
    """Word, position and segment embeddings, their sum, a norm; output 1 counts the tokens that a mask keeps."""
    ids = model.tensor(node, 0)
    batch, tokens = model.shape(ids)
    x = model.op("gather", [model.tensor(node, 2), ids], {"axis": 0}, node)
    table = model.tensor(node, 3)
    if node.has(8):
        positions = model.op("gather", [table, model.tensor(node, 8)], {"axis": 0}, node)
    else:
        positions = model.builder.slice(table, 0, 0, tokens, name=node.name)
    x = model.function(node, "add", x, positions)
    if node.has(1) and node.has(4):
        x = model.function(
            node, "add", x, model.op("gather", [model.tensor(node, 4), model.tensor(node, 1)], {"axis": 0}, node)
        )
    scales = [model.tensor(node, index) for index in (5, 6)]
    norm = model.op("layer_norm", [x, *scales], {"axis": 2, "epsilon": node.get("epsilon", 1e-12)}, node)
    kept = ""
    if len(node.outputs) > 1 and node.outputs[1]:
        if node.has(7):
            attributes = {"function": "sum", "axes": (1,), "keepdims": False}
            kept = model.op("reduce", [model.tensor(node, 7)], attributes, node)
        else:
            kept = model.builder.weight((batch,), f"{node.name}.kept", "int32", np.zeros(batch, np.int32))
    return [norm, kept, x]


def _mask(model: Importer, node: Node, index: int, length: int, like: str) -> list[str]:
    """Input `index`: a mask [B, T], [B, S, T] or [B, 1, S, T] of ones and zeros, or [B] lengths."""
    if not node.has(index):
        return []
    given = model.tensor(node, index)
    shape = model.shape(given)
    low = node.get("mask_filter_value", _MASKED)
    if len(shape) == 1:
        places = model.builder.weight((length,), f"{node.name}.places", model.dtype(given), np.arange(length))
        kept = model.function(node, "less", places, view(model, node, given, (shape[0], 1, 1, 1)))
        return [masked(model, node, kept, like, low)]
    if len(shape) == 3:
        given = view(model, node, given, (shape[0], 1, *shape[1:]))
    elif len(shape) == 2:
        given = view(model, node, given, (shape[0], 1, 1, shape[1]))
    zero = model.builder.weight((), f"{node.name}.zero", model.dtype(given), np.zeros((), np.int64))
    dropped = model.function(node, "equal", given, zero)
    nothing, least = (model.scalar(node, value, like) for value in (0.0, low))
    return [model.function(node, "where", dropped, least, nothing)]


def _multi_head_attention(model: Importer, node: Node) -> list[str]:
    """Queries, keys and values [B, S, H * D], projected already."""
    heads, q = node.attributes["num_heads"], model.tensor(node, 0)
    if len(model.shape(q)) != 3 or not (node.has(1) and node.has(2)):
        raise Unsupported("packed queries, keys and values")
    parts = [q, model.tensor(node, 1), model.tensor(node, 2)]
    if node.has(3):
        bias, start = model.tensor(node, 3), 0
        for index, part in enumerate(parts):
            width = model.shape(part)[-1]
            if len(model.shape(part)) == 3:
                cut = model.builder.slice(bias, 0, start, width, name=node.name)
                parts[index] = model.function(node, "add", part, cut)
            start += width
    q, k, v = (x if len(model.shape(x)) == 4 else split_heads(model, node, x, heads) for x in parts)
    past = model.shape(model.tensor(node, 6))[2] if node.has(6) else 0
    k, v = append(model, node, k, 6), append(model, node, v, 7)
    tokens, length = model.shape(q)[2], model.shape(k)[2]
    biases = [*_mask(model, node, 4, length, q), *([model.tensor(node, 5)] if node.has(5) else [])]
    if node.get("unidirectional", 0):
        biases.append(visible(model, node, tokens, length, past, q))
    scale = node.get("scale", 0.0) or 1.0 / math.sqrt(model.shape(q)[3])
    context, _ = attend(model, node, q, k, v, Scores(scale, tuple(biases)))
    return [join_heads(model, node, context), k, v]


def _packed_attention(model: Importer, node: Node) -> list[str]:
    """Attention of com.microsoft: the projections are part of it."""
    heads, x = node.attributes["num_heads"], model.tensor(node, 0)
    node.expect("do_rotary", 0)
    if node.has(6):
        raise Unsupported("past_sequence_length")
    weight = model.tensor(node, 1)
    total = model.shape(weight)[1]
    sizes = tuple(node.get("qkv_hidden_sizes", ())) or (total // 3,) * 3
    bias = [model.tensor(node, 2)] if node.has(2) else []
    flags = {"transpose_a": False, "transpose_b": False}
    projected = model.op("matmul", [x, weight, *bias], flags, node)
    starts = [sum(sizes[:index]) for index in range(3)]
    q, k, v = (
        split_heads(model, node, model.builder.slice(projected, 2, start, size, name=node.name), heads)
        for start, size in zip(starts, sizes, strict=True)
    )
    past = 0
    if node.has(4):
        before = model.tensor(node, 4)  # [2, B, H, P, D]
        shape = model.shape(before)
        past = shape[3]
        old = [
            view(model, node, model.builder.slice(before, 0, part, 1, name=node.name), shape[1:]) for part in (0, 1)
        ]
        k, v = (model.op("concat", [kept, new], {"axis": 2}, node) for kept, new in zip(old, (k, v), strict=True))
    tokens, length = model.shape(q)[2], model.shape(k)[2]
    biases = [*_mask(model, node, 3, length, q), *([model.tensor(node, 5)] if node.has(5) else [])]
    if node.get("unidirectional", 0):
        biases.append(visible(model, node, tokens, length, past, q))
    scale = node.get("scale", 0.0) or 1.0 / math.sqrt(model.shape(q)[3])
    context, _ = attend(model, node, q, k, v, Scores(scale, tuple(biases)))
    outputs = [join_heads(model, node, context)]
    if len(node.outputs) > 1 and node.outputs[1]:
        both = [view(model, node, part, (1, *model.shape(part))) for part in (k, v)]
        outputs.append(model.op("concat", both, {"axis": 0}, node))
    return outputs


def _grouped_attention(model: Importer, node: Node) -> list[str]:
    """GroupQueryAttention. How many tokens the cache holds follows from the total length, where that is a constant (as
    it is where the model takes it from a shape); else the cache is full. New tokens come behind those of the past."""
    for attribute in ("smooth_softmax", "qk_output"):
        node.expect(attribute, 0)
    heads, kv_heads = node.attributes["num_heads"], node.attributes["kv_num_heads"]
    q = model.tensor(node, 0)
    if node.has(1):
        k, v = model.tensor(node, 1), model.tensor(node, 2)
    else:
        width = model.shape(q)[2] // (heads + 2 * kv_heads)
        cuts = ((0, heads * width), (heads * width, kv_heads * width), ((heads + kv_heads) * width, kv_heads * width))
        q, k, v = (model.builder.slice(q, 2, start, size, name=node.name) for start, size in cuts)
    q = split_heads(model, node, q, heads)
    k, v = (split_heads(model, node, x, kv_heads) for x in (k, v))
    tokens = model.shape(q)[2]
    past = _past_tokens(model, node, tokens)
    if node.get("do_rotary", 0):
        if node.has(9):
            raise Unsupported("position_ids")
        cos, sin = (
            model.builder.slice(model.tensor(node, index), 0, past, tokens, name=node.name) for index in (7, 8)
        )
        turned = bool(node.get("rotary_interleaved", 0))
        width = 2 * model.shape(cos)[1]
        q, k = (rotated(model, node, x, cos, sin, width, turned) for x in (q, k))
    k, v = append(model, node, k, 3, past), append(model, node, v, 4, past)
    length = model.shape(k)[2]
    window = node.get("local_window_size", -1)
    biases = []
    if tokens > 1 or 0 < window < length:
        biases.append(visible(model, node, tokens, length, past, q, window - 1 if window > 0 else -1))
    if node.has(10):
        biases.append(model.tensor(node, 10))
    scale = node.get("scale", 0.0) or 1.0 / math.sqrt(model.shape(q)[3])
    how = Scores(scale, tuple(biases), node.get("softcap", 0.0), True)
    context, _ = attend(model, node, q, k, v, how)
    return [join_heads(model, node, context), k, v]


def _past_tokens(model: Importer, node: Node, tokens: int) -> int:
    """Tokens in the cache (input 3) before the new ones, by the total (input 6): at most what the tensor holds."""
    if not node.has(3):
        return 0
    held = model.shape(model.tensor(node, 3))[2]
    total = model.constants.get(node.inputs[6]) if node.has(6) else None
    if total is None:
        return held
    past = int(total.reshape(-1)[0]) - tokens
    if not 0 <= past <= held:
        raise ValueError(f"a total of {past + tokens} tokens, {tokens} of them new, does not fit a cache of {held}")
    return past


def _matmul_nbits(model: Importer, node: Node) -> list[str]:
    """A product with weights of 4 or 8 bits in blocks along the inner axis, a scale (and a zero point) each. A last
    block that is filled up is kept without its filling."""
    k, n, bits = (node.attributes[name] for name in ("K", "N", "bits"))
    block = node.attributes["block_size"]
    if bits not in (4, 8):
        raise Unsupported(f"bits = {bits}; supported: 4, 8")
    if node.has(4):
        raise Unsupported("g_idx")
    packed, scales = model.value(node, 1), model.value(node, 2)
    if packed is None or scales is None:
        raise Unsupported("a product without its weights")
    a = model.tensor(node, 0)
    blocks = -(-k // block)
    values = _unpacked(packed.reshape(n, blocks, -1), bits)[:, :, :block].reshape(n, -1)[:, :k]
    weight, zero, origin = f"{node.name}.weight", None, model.value(node, 3)
    if origin is None:
        values = values - (1 << (bits - 1))
    elif origin.dtype == np.uint8:
        numbers = _unpacked(origin.reshape(n, -1), bits)[:, :blocks]
        zero = model.builder.weight((n, blocks), f"{node.name}.zero", f"int{bits}", numbers)
    else:
        zero = model.weight(origin.reshape(n, blocks), f"{node.name}.zero")
    stored = model.builder.weight((n, k), weight, f"int{bits}", values)
    scale = model.weight(scales.reshape(n, blocks), f"{node.name}.scale")
    result = model.builder.packed_matmul(a, stored, scale, zero, block, True, node.name)
    return [model.function(node, "add", result, model.tensor(node, 5)) if node.has(5) else result]


def _unpacked(packed: Array, bits: int) -> Array:
    """Numbers of so many bits, the low ones of a byte first."""
    if bits == 8:
        return packed.astype(np.int64)
    pairs = np.stack([packed & 15, packed >> 4], axis=-1)
    return pairs.reshape(*packed.shape[:-1], -1).astype(np.int64)


CONTRIB: Mapping[str, Handler] = {
    "Attention": _packed_attention,
    "BiasGelu": _biased("gelu"),
    "EmbedLayerNormalization": _embed_norm,
    "FastGelu": _biased("gelu_tanh"),
    "FusedConv": _fused_conv,
    "FusedGemm": _fused_gemm,
    "FusedMatMul": _fused_matmul,
    "Gelu": FUNCTIONS["Gelu"],
    "GroupQueryAttention": _grouped_attention,
    "MatMulNBits": _matmul_nbits,
    "MultiHeadAttention": _multi_head_attention,
    "QuickGelu": _quick_gelu,
    "RotaryEmbedding": ATTENTION["RotaryEmbedding"],
    "SimplifiedLayerNormalization": LAYERS["SimplifiedLayerNormalization"],
    "SkipLayerNormalization": _skip_norm,
    "SkipSimplifiedLayerNormalization": _skip_norm,
    "TransposeMatMul": _fused_matmul,
}
