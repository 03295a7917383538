"""Fused attentions: of shared heads, with masks, causal, with queries and results where their heads lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.passes import default_passes
from sim.passes.attention import with_attention


def kernel(
    batch: tuple[int, ...], rows: int, keys: int, width: int, *, values: int = 0, shared: tuple[int, ...] | None = None,
    mask: tuple[int, ...] = (), dtype: str = "int8",
) -> Graph:  # fmt: skip
    """One attention: queries [*batch, rows, width], keys [*shared, keys, width], values of another width if told, a
    `mask` of a shape that broadcasts to the scores."""
    b, shared = GraphBuilder("attention", dtype), batch if shared is None else shared
    inputs = [b.input("q", (*batch, rows, width)), b.input("k", (*shared, keys, width))]
    inputs += [b.input("v", (*shared, keys, values or width))] + ([b.input("mask", mask)] if mask else [])
    attributes = {"transpose_b": True, "steps": (("add", ()),) if mask else (), "sink": False}
    # Without a host link, which is a law of its own.
    return replace(b.build([b.add_op("attention", inputs, attributes, "att")]), kernel=True)


def causal(queries: int, keys: int, heads: int, width: int, dtype: str = "int8") -> Graph:
    """Scores behind a causal mask: several ranges of queries. The result goes through a relu of its own."""
    b = GraphBuilder("causal", dtype)
    q = b.relu(b.input("q", (1, heads, queries, width)))
    k, v = (b.input(name, (1, heads, keys, width)) for name in "kv")
    b.causal.append("mask")
    scores = b.add(b.matmul(q, k, transpose_b=True), b.input("mask", (queries, keys)))
    return with_attention(default_passes(b.build([b.relu(b.matmul(b.softmax(scores), v))])))


ATTENTIONS: Mapping[str, Graph] = {
    "attention": kernel((4,), 96, 200, 32),
    "attention of shared heads": kernel((2, 3), 40, 130, 24, shared=(2, 1), values=40),
    "attention of one query": kernel((2, 4), 1, 333, 64),
    "attention with a mask": kernel((2, 3), 65, 90, 16, mask=(65, 90)),
    "attention with a mask of every head": kernel((2, 3), 65, 90, 16, mask=(2, 3, 65, 90)),
    "causal attention": causal(768, 900, 2, 16),
}


def random_attention(rng: np.random.Generator) -> Graph:
    """Of sizes that all tilings of can be tried."""
    batch = tuple(int(x) for x in rng.integers(1, 5, int(rng.integers(1, 3))))
    rows, keys, width = (int(x) for x in rng.integers(1, 24, 3))
    shared = (*batch[:-1], 1) if rng.integers(2) and batch[-1] > 1 else None
    mask = (rows, keys) if rng.integers(2) else ()
    return kernel(batch, rows, keys, width, values=int(rng.integers(1, 24)), shared=shared, mask=mask)
