"""Small models with what is hard to lower: halos, groups, residual paths, caches, recurrence, concatenations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.graph.transformer import transformer_graph
from sim.graph.transformer_config import TransformerConfig

LLAMA: Mapping[str, Any] = {
    "model_type": "llama",
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 40,
    "vocab_size": 50,
    "max_position_embeddings": 32,
}
BERT: Mapping[str, Any] = {
    "model_type": "bert",
    "hidden_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 3,
    "intermediate_size": 36,
    "vocab_size": 40,
    "max_position_embeddings": 16,
}


def residual() -> Graph:
    """Two convolutions around a shortcut of another stride, a pool and a classifier."""
    b = GraphBuilder("residual", "int8")
    x = b.relu(b.conv(b.input("x", (2, 3, 17, 15)), 8, 3, padding=1))
    y = b.relu(b.conv(x, 12, 3, stride=2, padding=1))
    y = b.add(b.conv(y, 12, 3, padding=1), b.conv(x, 12, 1, stride=2, bias=False))
    y = b.relu(b.add(b.conv(b.relu(y), 12, 3, padding="same"), y))
    y = b.pool(y, "max", 3, stride=2, padding=1)
    return b.build([b.linear(b.reshape(y, (2, -1)), 10)])


def grouped() -> Graph:
    """Strided, dilated, padded, grouped, depthwise and transposed convolutions."""
    b = GraphBuilder("grouped", "int8")
    x = b.conv(b.input("x", (1, 6, 19, 13)), 12, (3, 5), stride=(2, 1), padding=((2, 0), (1, 3)), groups=3)
    x = b.relu(b.conv(x, 12, 3, padding=2, dilation=2, groups=12))
    x = b.conv(x, 8, 3, stride=3, padding=1, groups=2, bias=False)
    x = b.conv_transpose(x, 6, 4, stride=3, padding=1, groups=2)
    return b.build([b.pool(x, "max", 2, stride=3)])


def split_and_concat() -> Graph:
    """Branches that part and join along channels and rows."""
    b = GraphBuilder("split_and_concat", "int8")
    x = b.relu(b.conv(b.input("x", (1, 4, 12, 12)), 12, 3, padding=1))
    low, high, rest = b.split(x, (4, 4, 4), 1)
    low = b.conv(low, 8, 3, padding=1)
    joined = b.concat([low, b.add(high, rest), x], 1)
    halves = [b.conv(b.slice(joined, 2, first, 6), 5, 3, padding=1) for first in (0, 6)]
    y = b.concat(halves, 2)
    return b.build([y, joined])


def attention() -> Graph:
    """Softmax attention with a mask, layer norms and a gated feed-forward part, in floating point."""
    b = GraphBuilder("attention", "fp32")
    x = b.input("x", (2, 9, 16))
    normed = b.layer_norm(x)
    q, k, v = (b.transpose(b.reshape(b.linear(normed, 16), (2, 9, 4, 4)), (0, 2, 1, 3)) for _ in "qkv")
    scores = b.add(b.matmul(q, k, transpose_b=True), b.input("mask", (9, 9)))
    mixed = b.transpose(b.matmul(b.softmax(scores), v), (0, 2, 1, 3))
    x = b.add(b.linear(b.reshape(mixed, (2, 9, 16)), 16), x)
    normed = b.rms_norm(x)
    gate = b.mul(b.silu(b.linear(normed, 24, bias=False)), b.linear(normed, 24, bias=False))
    return b.build([b.add(b.linear(gate, 16), x)])


def gathered() -> Graph:
    """Rows of a table named by indices that are computed on the chip."""
    b = GraphBuilder("gathered", "fp32")
    indices = b.input("indices", (3, 5), "int32")
    turned = b.transpose(indices, (1, 0))
    rows = b.gather(b.input("table", (30, 7)), turned)
    later = b.gather(b.relu(rows), b.slice(turned, 1, 1, 1))
    return b.build([b.mul(rows, rows), later])


def recurrent() -> Graph:
    b = GraphBuilder("lstm", "fp32")
    return b.build([b.linear(b.lstm(b.input("x", (4, 2, 6)), 5, bidirectional=True), 3)])


def _llama(**lengths: Any) -> Callable[[], Graph]:
    return lambda: transformer_graph(TransformerConfig.from_hf(LLAMA, "llama"), dtype="fp32", **lengths)


MODELS: Mapping[str, Callable[[], Graph]] = {
    "residual": residual,
    "grouped": grouped,
    "split_and_concat": split_and_concat,
    "attention": attention,
    "gathered": gathered,
    "lstm": recurrent,
    "llama prefill": _llama(seq=7),
    "llama decode": _llama(phase="decode", kv=11, batch=2),
    "bert": lambda: transformer_graph(TransformerConfig.from_hf(BERT, "bert"), dtype="fp32", seq=6),
}
