"""The masks that a prefill is given: what is ahead of a query, or out of its window, is not seen."""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.graph.graph import Graph


def causal_mask(graph: Graph) -> np.ndarray[Any, Any]:
    rows, length = graph.tensors["causal_mask"].shape
    ahead = np.arange(length) - (np.arange(rows)[:, None] + length - rows)
    return np.where(ahead > 0, -1e30, 0.0)


def window_mask(graph: Graph, data: dict[str, Any], kv: int) -> np.ndarray[Any, Any]:
    """[blocks, queries, keys]: a query sees the keys of its chunk, or of its window, that are not ahead of it."""
    chunk, window = data.get("attention_chunk_size"), data.get("sliding_window", 0)
    shape = graph.tensors["window_mask"].shape
    many, (size, width) = len(shape) == 3, shape[-2:]
    block = np.arange(shape[0])[:, None, None] if many else np.zeros((1, 1, 1), int)
    if chunk:
        keys = kv // chunk * chunk + block * size + np.arange(width)
        queries = (kv // chunk * chunk if many else kv) + block * size + np.arange(size)[:, None]
        seen = (keys <= queries) & (keys // chunk == queries // chunk)
    else:
        first = kv - (width - size) if many else max(0, kv - window + 1)
        keys = first + block * size + np.arange(width)
        queries = kv + block * size + np.arange(size)[:, None]
        seen = (keys <= queries) & (keys > queries - window) & (keys >= 0)
    return np.where(seen, 0.0, -1e30).reshape(shape)


def masks(graph: Graph, data: dict[str, Any], kv: int = 0) -> dict[str, np.ndarray[Any, Any]]:
    """The masks that are inputs of a prefill."""
    found = {"causal_mask": causal_mask(graph)} if "causal_mask" in graph.tensors else {}
    if "window_mask" in graph.tensors:
        found["window_mask"] = window_mask(graph, data, kv)
    return found
