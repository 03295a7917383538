"""ONNX operators that are a whole attention, and the embedding of positions before it: handlers by operator type.

Each is written out as products, softmax and element functions, as a runtime without a fused kernel would run it.
Query heads that share a key-value head meet its keys as one operand. Semantics: the ONNX operator definitions,
onnx.ai/onnx/operators, and of com.microsoft docs/ContribOperators.md of github.com/microsoft/onnxruntime.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sim.graph.onnx_node import Array, Handler, Importer, Node
from sim.graph.shapes import Shape

_LOWEST = -3.4028234663852886e38
"""The lowest number of fp32: what masked scores become, so that a row without any token stays a number."""


def view(model: Importer, node: Node, x: str, shape: Shape) -> str:
    return x if model.shape(x) == shape else model.op("reshape", [x], {"shape": shape}, node)


def transpose(model: Importer, node: Node, x: str, perm: Shape) -> str:
    return model.op("transpose", [x], {"perm": perm}, node)


def matmul(model: Importer, node: Node, a: str, b: str, transpose_b: bool = False, dtype: str | None = None) -> str:
    return model.op("matmul", [a, b], {"transpose_a": False, "transpose_b": transpose_b}, node, dtype)


@dataclass(frozen=True, slots=True)
class Scores:
    """What happens to the scores [B, H, S, T] before the softmax: a factor, sums (broadcast to the scores) before and
    after scores are squashed to within +- `cap`."""

    scale: float
    biases: tuple[str, ...] = ()
    cap: float = 0.0
    capped_first: bool = False


def attend(model: Importer, node: Node, q: str, k: str, v: str, how: Scores) -> tuple[str, dict[int, str]]:
    """softmax(scale q k^T + biases) v: [B, H, S, DV]; and the scores when they are raw (0), after either of the two
    steps, in their order (1, 2), and as shares (3): [B, H, S, T], or [B, KVH, H / KVH, S, T] where heads share keys.

    q [B, H, S, D]; k [B, KVH, T, D], v [B, KVH, T, DV] with H a multiple of KVH.
    """
    batch, heads, tokens, width = model.shape(q)
    kv_heads, length = model.shape(k)[1:3]
    if heads % kv_heads:
        raise ValueError(f"{heads} query heads do not divide into {kv_heads} key-value heads")
    group, out_width = heads // kv_heads, model.shape(v)[3]
    if group > 1:
        q = view(model, node, q, (batch, kv_heads, group, tokens, width))
        k = view(model, node, k, (batch, kv_heads, 1, length, width))
        v = view(model, node, v, (batch, kv_heads, 1, length, out_width))
    scores = matmul(model, node, q, k, True)
    if how.scale != 1.0:
        scores = model.function(node, "mul", scores, model.scalar(node, how.scale, scores))
    stages = {0: scores}
    for number, step in enumerate(("cap", "bias") if how.capped_first else ("bias", "cap"), start=1):
        now = stages[number - 1]
        if step == "bias":
            for bias in how.biases:
                now = model.function(node, "add", now, _grouped(model, node, bias, kv_heads, group))
        elif how.cap:
            now = model.function(node, "div", now, model.scalar(node, how.cap, now))
            now = model.function(node, "tanh", now)
            now = model.function(node, "mul", now, model.scalar(node, how.cap, now))
        stages[number] = now
    stages[3] = model.op("softmax", [stages[2]], {"axis": len(model.shape(scores)) - 1, "log": False}, node)
    result = matmul(model, node, stages[3], v)
    return view(model, node, result, (batch, heads, tokens, out_width)), stages


def _grouped(model: Importer, node: Node, bias: str, kv_heads: int, group: int) -> str:
    """What is added to scores [B, H, S, T], as it is added to [B, KVH, H / KVH, S, T]."""
    shape = model.shape(bias)
    if group == 1 or len(shape) < 3:
        return bias
    heads = (kv_heads, group) if shape[-3] > 1 else (1, 1)
    return view(model, node, bias, (*shape[:-3], *heads, *shape[-2:]))


def split_heads(model: Importer, node: Node, x: str, heads: int) -> str:
    """[B, S, heads * D] to [B, heads, S, D]."""
    batch, tokens, width = model.shape(x)
    if heads < 1 or width % heads:
        raise ValueError(f"a width of {width} does not divide into {heads} heads")
    if tokens == 1:
        return view(model, node, x, (batch, heads, 1, width // heads))
    x = view(model, node, x, (batch, tokens, heads, width // heads))
    return transpose(model, node, x, (0, 2, 1, 3))


def join_heads(model: Importer, node: Node, x: str) -> str:
    """[B, H, S, D] to [B, S, H * D]."""
    batch, heads, tokens, width = model.shape(x)
    if tokens > 1:
        x = transpose(model, node, x, (0, 2, 1, 3))
    return view(model, node, x, (batch, tokens, heads * width))


def masked(model: Importer, node: Node, kept: str, like: str, low: float = _LOWEST) -> str:
    """A mask of truths as what is added to scores: 0 where kept."""
    zero, least = (model.scalar(node, value, like) for value in (0.0, low))
    return model.function(node, "where", kept, zero, least)


def visible(
    model: Importer, node: Node, tokens: int, length: int, past: Array | int, like: str, left: int = -1, right: int = 0
) -> str:
    """What is added to scores [S, T], or [B, 1, S, T] for `past` [B]: token s sees those from s + past - left up to
    s + past + right; -1 is no limit."""
    here = np.arange(tokens)[:, None] + np.reshape(past, (-1, 1, 1, 1) if np.ndim(past) else ())
    ahead = np.arange(length) - here
    seen = ((ahead <= right) | (right < 0)) & ((-ahead <= left) | (left < 0))
    values = np.where(seen, np.float32(0), np.float32(_LOWEST))
    name = model.builder.weight(values.shape, f"{node.name}.causal", model.dtype(like), values)
    if np.ndim(past) == 0 and (left, right, past) == (-1, 0, length - tokens):
        model.builder.causal.append(name)
    return name


def append(model: Importer, node: Node, new: str, past: int, tokens: int | None = None) -> str:
    """Keys or values [B, H, S, D] behind those of input `past`, if it is there, or behind its first `tokens`."""
    if not node.has(past) or tokens == 0:
        return new
    before = model.tensor(node, past)
    if tokens is not None and tokens < model.shape(before)[2]:
        before = model.builder.slice(before, 2, 0, tokens, name=node.name)
    return model.op("concat", [before, new], {"axis": 2}, node)


def _attention(model: Importer, node: Node) -> list[str]:
    """Attention of ai.onnx, opset 23 and later."""
    node.expect("qk_matmul_output_mode", 0, 1, 2, 3)
    q, k, v = (model.tensor(node, index) for index in range(3))
    flat = len(model.shape(q)) == 3
    if flat:
        q = split_heads(model, node, q, node.attributes["q_num_heads"])
        k, v = (split_heads(model, node, x, node.attributes["kv_num_heads"]) for x in (k, v))
    past: Array | int = model.shape(model.tensor(node, 4))[2] if node.has(4) else 0
    k, v = append(model, node, k, 4), append(model, node, v, 5)
    tokens, length = model.shape(q)[2], model.shape(k)[2]
    biases = []
    if node.has(3):
        biases.append(_given_mask(model, node, q, length))
    left, right = (node.get(f"{side}_window_size", -1) for side in ("left", "right"))
    right = 0 if node.get("is_causal", 0) else right
    if node.has(6):
        biases.append(_shorter(model, node, 6, length, q))
        if max(left, right) >= 0:
            lengths = model.value(node, 6)
            assert lengths is not None
            past = lengths.astype(np.int64) - tokens
    if max(left, right) >= 0:
        biases.append(visible(model, node, tokens, length, past, q, left, right))
    scale = node.get("scale", 0.0) or 1.0 / math.sqrt(model.shape(q)[3])
    how = Scores(scale, tuple(biases), node.get("softcap", 0.0), True)
    context, stages = attend(model, node, q, k, v, how)
    outputs = [join_heads(model, node, context) if flat else context, k, v]
    if len(node.outputs) > 3 and node.outputs[3]:
        wanted = stages[node.get("qk_matmul_output_mode", 0)]
        outputs.append(view(model, node, wanted, (*model.shape(q)[:3], length)))
    return outputs


def _given_mask(model: Importer, node: Node, q: str, length: int) -> str:
    mask = model.tensor(node, 3)
    if model.dtype(mask) == "bool":
        mask = masked(model, node, mask, q)
    shape = model.shape(mask)
    if 1 < shape[-1] < length:
        # Tokens that the mask says nothing of are not seen.
        ends = [0] * (len(shape) - 1) + [length - shape[-1]]
        mask = model.op("pad", [mask], {"pad_begin": (0,) * len(shape), "pad_end": tuple(ends), "value": _LOWEST}, node)
    return mask


def _shorter(model: Importer, node: Node, index: int, length: int, like: str) -> str:
    """Input `index` [B] tells how many tokens of each sequence count."""
    lengths = model.tensor(node, index)
    batch = model.shape(lengths)[0]
    places = model.builder.weight((length,), f"{node.name}.places", model.dtype(lengths), np.arange(length))
    kept = model.function(node, "less", places, view(model, node, lengths, (batch, 1, 1, 1)))
    return masked(model, node, kept, like)


def _rotary_embedding(model: Importer, node: Node) -> list[str]:
    """RotaryEmbedding of ai.onnx (input, cos, sin, positions) and of com.microsoft (input, positions, cos, sin)."""
    microsoft = node.domain != ""
    x, places = model.tensor(node, 0), 1 if microsoft else 3
    tables = (2, 3) if microsoft else (1, 2)
    flat = len(model.shape(x)) == 3
    width = node.get("rotary_embedding_dim", 0)
    if flat:
        heads = node.get("num_heads", 0)
        if not heads and microsoft:
            heads = model.shape(x)[2] // (2 * model.shape(model.tensor(node, 2))[1])
        x = split_heads(model, node, x, heads)
    cos, sin = (_angles(model, node, index, places, model.shape(x)) for index in tables)
    x = rotated(model, node, x, cos, sin, width or model.shape(x)[3], bool(node.get("interleaved", 0)))
    return [join_heads(model, node, x) if flat else x]


def _angles(model: Importer, node: Node, table: int, places: int, shape: Shape) -> str:
    """[B, S, D / 2], or [S, D / 2] where all sequences have the same; `shape` is that of x, [B, H, S, D]."""
    batch, _, tokens, _ = shape
    rows = model.tensor(node, table)
    if node.has(places):
        known = model.constants.get(node.inputs[places])
        if known is not None and known.size == 1 and batch * tokens > 1:
            at = model.weight(int(known.reshape(-1)[0]) + np.arange(tokens), f"{node.name}.places")
        else:
            at = model.tensor(node, places)
            if math.prod(model.shape(at)) == 1 and tokens > 1:  # the first one
                steps = model.builder.weight((tokens,), f"{node.name}.steps", model.dtype(at), np.arange(tokens))
                at = model.function(node, "add", view(model, node, at, (1,)), steps)
        rows = model.op("gather", [rows, at], {"axis": 0}, node)
    half = model.shape(rows)[-1]
    return view(model, node, rows, (tokens, half)) if math.prod(model.shape(rows)) == tokens * half else rows


def rotated(model: Importer, node: Node, x: str, cos: str, sin: str, width: int, interleaved: bool) -> str:
    """x [B, H, S, D], of every head the first `width` elements turned by angles [S, width / 2], [B, ...] of them."""
    batch, heads, tokens, whole = model.shape(x)
    rest = []
    if width != whole:
        x, other = (model.builder.slice(x, 3, *part, name=node.name) for part in ((0, width), (width, whole - width)))
        rest = [other]
    if len(model.shape(cos)) == 2 and not interleaved:
        result = model.op("rope", [x, cos, sin], {}, node)
    else:
        if len(model.shape(cos)) == 3:
            cos, sin = (view(model, node, table, (batch, 1, tokens, width // 2)) for table in (cos, sin))
        if interleaved:
            cut = [(0, width // 2, 2), (1, width // 2, 2)]
        else:
            cut = [(0, width // 2, 1), (width // 2, width // 2, 1)]
        low, high = (model.builder.slice(x, 3, *part, name=node.name) for part in cut)

        def turned(first: str, second: str, function: str) -> str:
            products = (model.function(node, "mul", *pair) for pair in ((first, cos), (second, sin)))
            return model.function(node, function, *products)

        parts = [turned(low, high, "sub"), turned(high, low, "add")]
        if interleaved:
            parts = [view(model, node, part, (batch, heads, tokens, width // 2, 1)) for part in parts]
        result = model.op("concat", parts, {"axis": 4 if interleaved else 3}, node)
        result = view(model, node, result, (batch, heads, tokens, width))
    return model.op("concat", [result, *rest], {"axis": 3}, node) if rest else result


ATTENTION: Mapping[str, Handler] = {"Attention": _attention, "RotaryEmbedding": _rotary_embedding}
