"""One transformer layer, and the pass of a stack of layers that it belongs to.

Hidden states are [batch * tokens, hidden], so that every projection is one GEMM whose rows are the tokens of
the whole batch. Heads are axes of their own, and query heads that share a key-value head meet its keys as one
operand, so that the cache is read once per key-value head.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from sim.graph.builder import GraphBuilder
from sim.graph.transformer_experts import mixture
from sim.graph.transformer_families import ACTIVATION_PARAMETERS
from sim.graph.transformer_latent import latent_attention
from sim.graph.transformer_positions import slopes
from sim.graph.transformer_step import Step
from sim.graph.transformer_windows import Blocks, blocks_of, cut_keys, cut_queries, join_queries


@dataclass(frozen=True, slots=True)
class Source:
    """The encoded tokens that a decoder looks at: their number per sequence, and their states
    [batch * tokens, hidden], None once the keys and values are stored."""

    tokens: int
    states: str | None = None


def layer(
    step: Step, x: str, index: int, bias: str | None, cached: bool = False, source: Source | None = None
) -> str:
    """One transformer block: self-attention, attention to `source` encoded tokens if any, FFN."""
    builder, config = step.builder, step.config
    name = f"{step.prefix}{index}"
    if config.parallel_norms:
        y = norm(step, x, f"{name}.attention_norm")
        z = y if config.parallel_norms == 1 else norm(step, x, f"{name}.ffn_norm")
        context = _attention(step, y, index, bias, cached)
        branches = builder.add(context, _ffn(step, z, index), f"{name}.branches")
        return builder.add(branches, x, f"{name}.add")
    sublayers: list[tuple[str, Callable[[str], str]]] = [
        ("attention", lambda y: _attention(step, y, index, bias, cached))
    ]
    if source is not None:
        sublayers.append(("cross", lambda y: _cross_attention(step, y, source, f"{name}.cross")))
    sublayers.append(("ffn", lambda y: _ffn(step, y, index)))
    for part, run in sublayers:
        y = norm(step, x, f"{name}.{part}_norm") if config.norm_first else x
        y = run(y)
        y = norm(step, y, f"{name}.{part}_after") if config.norm_after else y
        y = _scaled(step, y, f"{name}.{part}_scaled")
        x = builder.add(y, x, f"{name}.{part}_add")
        x = x if config.norm_first or config.norm_after else norm(step, x, f"{name}.{part}_norm")
    return x


def _scaled(step: Step, y: str, name: str) -> str:
    """What a sublayer makes, as it is added: times a number for every channel, or one for all."""
    builder, config = step.builder, step.config
    if config.layer_scale:
        return builder.mul(y, builder.weight((config.hidden,), f"{name}.weight"), name)
    return y if config.residual_scale == 1.0 else builder.mul(y, scalar(builder, config.residual_scale), name)


def _attention(step: Step, x: str, index: int, bias: str | None, cached: bool) -> str:
    """Self-attention over the new tokens and, where `cached`, all that the cache holds: of a decode step in a layer
    with a window, the tokens in the window, the newest in the place of the oldest."""
    builder, config, name = step.builder, step.config, f"{step.prefix}{index}.attention"
    if config.latent is not None:
        return latent_attention(step, x, config.latent, bias, name)
    window = config.window_of(index)
    q = _rotate(step, _heads(step, x, step.heads, f"{name}.q"), index, f"{name}.q")
    k = _rotate(step, _heads(step, x, step.kv_heads, f"{name}.k"), index, f"{name}.k")
    v = _heads(step, x, step.kv_heads, f"{name}.v")
    if config.temperature and not config.rotates(index):
        q = builder.mul(q, _temperature(step), f"{name}.q.tuned")
    if cached:
        length, position = step.kv + step.tokens, step.kv
        if window is not None and step.tokens == 1 and length > window:
            # A chunk begins anew, a window goes on in a circle.
            length, position = step.kv % window + 1 if config.chunked else window, step.kv % window
        k = step.store(k, length, position, f"{name}.k")
        v = step.store(v, length, position, f"{name}.v")
    sink = builder.weight((step.heads,), f"{name}.sinks") if config.sinks else None
    context = _attend(step, q, k, v, bias, name, sink, blocks_of(step, window) if cached else None)
    return step.to_hidden(context, config.output_bias, f"{name}.output")


def _cross_attention(step: Step, x: str, source: Source, name: str) -> str:
    """Attention to the keys and values of the encoder's output, which a prefill computes and stores."""
    builder = step.builder
    q = _heads(step, x, step.heads, f"{name}.q")
    if source.states is None:
        shape = (step.batch, step.heads, source.tokens, step.head_dim)
        k, v = (builder.state(f"{name}.{part}.cache", shape) for part in "kv")
    else:
        wide = replace(step, tokens=source.tokens)
        k, v = (
            wide.store(_heads(wide, source.states, step.heads, each), source.tokens, 0, each)
            for each in (f"{name}.k", f"{name}.v")
        )
    context = _attend(step, q, k, v, None, name)
    return step.to_hidden(context, step.config.output_bias, f"{name}.output")


def _heads(step: Step, x: str, heads: int, name: str) -> str:
    """A projection of x, heads apart: [batch, heads, tokens, head_dim]."""
    builder, config = step.builder, step.config
    bias = config.qkv_bias and (config.key_bias or not name.endswith(".k"))
    x = builder.linear(x, heads * step.head_dim, bias, name)
    if config.qkv_clip:
        limits = (-config.qkv_clip, config.qkv_clip)
        x = builder.elementwise("clip", x, parameters=limits, name=f"{name}.clipped")
    if config.wide_qk_norm and not name.endswith(".v"):
        x = builder.rms_norm(x, epsilon=config.epsilon, name=f"{name}.norm")
    return step.heads_apart(x, heads, step.head_dim, name)


def _rotate(step: Step, x: str, index: int, name: str) -> str:
    """Per-head norm and rotary embedding, where the layer has them."""
    builder, config = step.builder, step.config
    if config.qk_norm:
        x = builder.rms_norm(x, epsilon=config.epsilon, name=f"{name}.norm")
    if not config.rotates(index):
        return x
    if config.bare_qk_norm:
        # Before the rotation, which changes no length: the same numbers as after it.
        attributes = {"axis": len(builder.shape(x)) - 1, "epsilon": config.epsilon}
        x = builder.add_op("rms_norm", [x], attributes, f"{name}.norm")
    width = config.rotary_dim
    if width == step.head_dim:
        return builder.rope(x, config.rope_theta, step.kv, f"{name}.rope")
    turned, rest = builder.split(x, (width, step.head_dim - width), -1, f"{name}.part")
    turned = builder.rope(turned, config.rope_theta, step.kv, f"{name}.rope")
    return builder.concat([turned, rest], -1, f"{name}.rotated")


def _attend(
    step: Step,
    q: str,
    k: str,
    v: str,
    bias: str | None,
    name: str,
    sink: str | None = None,
    blocks: Blocks | None = None,
) -> str:
    """softmax(q k^T / sqrt(head_dim) + bias) v, heads joined: [batch * tokens, heads * head_dim].

    q [B, H, S, D]; k, v [B, KVH, T, D]. The H / KVH query heads of one key-value head become the rows of one
    product where there is a single token, else a batch axis over which k and v broadcast. A `sink` [H] is a score
    without a value: it takes its share of the softmax (Xiao et al., Attention Sinks, 2024). With `blocks` each of them
    meets the keys in its reach.
    """
    builder = step.builder
    batch, heads, tokens, width = builder.shape(q)
    kv_heads, length = builder.shape(k)[1:3]
    group = heads // kv_heads
    if blocks is not None:
        q = cut_queries(step, q, blocks, f"{name}.q")
        k, v = cut_keys(step, k, blocks, f"{name}.k"), cut_keys(step, v, blocks, f"{name}.v")
    if group > 1 and tokens == 1:
        q = builder.reshape(q, (batch, kv_heads, group, width), f"{name}.grouped_q")
    elif group > 1:
        q = builder.reshape(q, (batch, kv_heads, group, *builder.shape(q)[2:]), f"{name}.grouped_q")
        k = builder.reshape(k, (batch, kv_heads, 1, *builder.shape(k)[2:]), f"{name}.grouped_k")
        v = builder.reshape(v, (batch, kv_heads, 1, *builder.shape(v)[2:]), f"{name}.grouped_v")
    scores = builder.matmul(q, k, transpose_b=True, name=f"{name}.scores")
    if step.config.scaled_scores:
        scores = builder.mul(scores, scalar(builder, step.config.score_scale or width**-0.5), f"{name}.scaled")
    if step.config.score_cap:
        scores = capped(builder, scores, step.config.score_cap, f"{name}.cap")
    if step.config.positions == "alibi":
        scores = builder.add(scores, _slopes(builder, heads, length), f"{name}.sloped")
    if bias is not None:
        scores = builder.add(scores, bias, f"{name}.biased")
    if sink is not None:
        per_head = (kv_heads, group) if group > 1 else (heads,)
        ones = (1,) * (len(builder.shape(scores)) - 1 - len(per_head))
        sink = builder.reshape(sink, (*per_head, *ones), f"{name}.sink")
    shares = builder.softmax(scores, name=f"{name}.softmax", sink=sink)
    context = builder.matmul(shares, v, name=f"{name}.context")
    if tokens > 1:
        context = builder.reshape(context, (batch, heads, -1, width), f"{name}.context_heads")
        context = context if blocks is None else join_queries(step, context, blocks, f"{name}.context")
        context = builder.transpose(context, (0, 2, 1, 3), f"{name}.context_tokens")
    return builder.reshape(context, (batch * tokens, heads * width), f"{name}.joined")


def _slopes(builder: GraphBuilder, heads: int, length: int) -> str:
    """A constant of all layers."""
    if "slopes" in builder.tensors:
        return "slopes"
    return builder.weight((heads, 1, length), "slopes", value=slopes(heads, length))


def capped(builder: GraphBuilder, x: str, limit: float, name: str) -> str:
    """limit * tanh(x / limit)."""
    x = builder.tanh(builder.mul(x, scalar(builder, 1.0 / limit), f"{name}.in"), f"{name}.tanh")
    return builder.mul(x, scalar(builder, limit), name)


def _ffn(step: Step, x: str, index: int) -> str:
    config, name = step.config, f"{step.prefix}{index}.ffn"
    if config.has_experts(index):
        return mixture(step, x, name, _middle)
    return step.to_hidden(_middle(step, x, name, step.ffn), config.ffn_bias, f"{name}.down")


def _middle(step: Step, x: str, name: str, width: int) -> str:
    """act(x W1), or act(x Wg) * x W1 where gated (Shazeer, GLU Variants, 2020): [tokens, width]."""
    builder, config = step.builder, step.config
    activation, parameters = config.activation, ACTIVATION_PARAMETERS.get(config.activation, ())
    up = builder.linear(x, width, config.ffn_bias, f"{name}.up")
    if activation == "relu2":
        # The square of relu (So et al., Primer, 2021).
        up, activation = builder.relu(up, f"{name}.relu"), "square"
    if not config.gated:
        return builder.elementwise(activation, up, parameters=parameters, name=f"{name}.{activation}")
    gate = builder.linear(x, width, config.ffn_bias, f"{name}.gate")
    if config.gate_cap:
        # gpt-oss: both are cut off, the gate above alone, and 1 is added to what is gated.
        cap = config.gate_cap
        gate = builder.elementwise("min", gate, scalar(builder, cap), name=f"{name}.gate_cut")
        up = builder.elementwise("clip", up, parameters=(-cap, cap), name=f"{name}.up_cut")
        up = builder.add(up, scalar(builder, 1.0), f"{name}.up_plus")
    gate = builder.elementwise(activation, gate, parameters=parameters, name=f"{name}.{activation}")
    return builder.mul(up, gate, f"{name}.gated")


def _temperature(step: Step) -> str:
    """What queries are multiplied with, [tokens, 1]: it grows with the logarithm of how often `temperature_floor`
    tokens have gone by (Nakanishi, Scalable-Softmax, 2025; modeling_llama4.py)."""
    builder, config = step.builder, step.config
    if "temperature" in builder.tensors:
        return "temperature"
    places = np.arange(step.kv, step.kv + step.tokens)[:, None]
    value = np.log1p((places + 1) // config.temperature_floor) * config.temperature + 1.0
    return builder.weight(value.shape, "temperature", value=value.astype(np.float32))


def norm(step: Step, x: str, name: str) -> str:
    config = step.config
    if config.norm == "rms_norm":
        return step.builder.rms_norm(x, epsilon=config.epsilon, name=name)
    return step.builder.layer_norm(x, epsilon=config.epsilon, bias=config.norm_bias, name=name)


def scalar(builder: GraphBuilder, value: float) -> str:
    """A constant of one element, shared."""
    name = f"constant_{value:.6g}"
    if name in builder.tensors:
        return name
    return builder.weight((1,), name, value=np.full(1, value, np.float32))
