"""Attention whose keys and values are made from a small vector per token (multi-head latent attention).

Only that vector and one rotated key are kept: 576 numbers per token and layer of DeepSeek-V3 instead of 32,768. A pass
of many tokens makes keys and values of all heads from the vectors in the cache. A decode step takes the queries to the
vectors instead, and what it finds from there to the values (section 2.1.2 of DeepSeek-V2, 2024): the products are
associative, so the weights are the same and the cache is all that is read. It is read twice, by scores and by values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sim.graph.transformer_step import Step

if TYPE_CHECKING:
    from sim.graph.transformer_config import Latent


def latent_attention(step: Step, x: str, latent: Latent, bias: str | None, name: str) -> str:
    """Self-attention of x [batch * tokens, hidden], all that is in the cache included; of the same shape."""
    builder, config = step.builder, step.config
    plain, turned = _queries(step, x, latent, name)
    kept = builder.linear(x, latent.rank + latent.rope, False, f"{name}.kv")
    vector, key = builder.split(kept, (latent.rank, latent.rope), -1, f"{name}.kv_part")
    vector = builder.rms_norm(vector, epsilon=config.epsilon, name=f"{name}.vector")
    vector = builder.reshape(vector, (step.batch, 1, step.tokens, latent.rank), f"{name}.vectors")
    key = builder.reshape(key, (step.batch, 1, step.tokens, latent.rope), f"{name}.keys")
    key = builder.rope(key, config.rope_theta, step.kv, f"{name}.key_rope")
    vectors, keys = (_stored(step, new, f"{name}.{part}") for new, part in ((vector, "vector"), (key, "key")))
    to_key = builder.weight((step.heads, latent.nope, latent.rank), f"{name}.to_key.weight")
    to_value = builder.weight((step.heads, latent.rank, latent.value), f"{name}.to_value.weight")
    by_turn = builder.matmul(turned, keys, transpose_b=True, name=f"{name}.turned_scores")
    if step.tokens == 1:
        plain = builder.matmul(plain, to_key, name=f"{name}.absorbed")
        # All heads meet the one cache as rows of one product.
        plain = builder.reshape(plain, (step.batch, 1, step.heads, latent.rank), f"{name}.rows")
        scores = builder.matmul(plain, vectors, transpose_b=True, name=f"{name}.scores")
        by_turn = builder.reshape(by_turn, builder.shape(scores), f"{name}.turned_rows")
    else:
        every = builder.matmul(vectors, to_key, transpose_b=True, name=f"{name}.k")
        scores = builder.matmul(plain, every, transpose_b=True, name=f"{name}.scores")
    scores = builder.add(scores, by_turn, f"{name}.summed")
    scale = np.full(1, (latent.nope + latent.rope) ** -0.5, np.float32)
    scores = builder.mul(scores, builder.weight((1,), f"{name}.scale", value=scale), f"{name}.scaled")
    scores = scores if bias is None else builder.add(scores, bias, f"{name}.biased")
    shares = builder.softmax(scores, name=f"{name}.softmax")
    if step.tokens == 1:
        context = builder.matmul(shares, vectors, name=f"{name}.context_vector")
        context = builder.reshape(context, (step.batch, step.heads, 1, latent.rank), f"{name}.context_rows")
        context = builder.matmul(context, to_value, name=f"{name}.context")
    else:
        values = builder.matmul(vectors, to_value, name=f"{name}.v")
        context = builder.matmul(shares, values, name=f"{name}.context")
        context = builder.transpose(context, (0, 2, 1, 3), f"{name}.context_tokens")
    context = builder.reshape(context, (step.batch * step.tokens, step.heads * latent.value), f"{name}.joined")
    return step.to_hidden(context, False, f"{name}.output")


def _queries(step: Step, x: str, latent: Latent, name: str) -> tuple[str, str]:
    """The part of the queries that is not rotated and the part that is: [batch, heads, tokens, nope] and [.., rope]."""
    builder, config = step.builder, step.config
    if latent.query_rank:
        x = builder.linear(x, latent.query_rank, False, f"{name}.q_down")
        x = builder.rms_norm(x, epsilon=config.epsilon, name=f"{name}.q_norm")
    x = builder.linear(x, step.heads * (latent.nope + latent.rope), False, f"{name}.q")
    x = step.heads_apart(x, step.heads, latent.nope + latent.rope, f"{name}.q")
    plain, turned = builder.split(x, (latent.nope, latent.rope), -1, f"{name}.q_part")
    return plain, builder.rope(turned, config.rope_theta, step.kv, f"{name}.q_rope")


def _stored(step: Step, new: str, name: str) -> str:
    """The cache [batch, 1, kv + tokens, width] with the new tokens in it."""
    return step.store(new, step.kv + step.tokens, step.kv, name)
