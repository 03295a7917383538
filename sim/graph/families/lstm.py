"""LSTM language model (Zaremba et al., Recurrent Neural Network Regularization, 2014)."""

from __future__ import annotations

from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph


def lstm(
    *,
    name: str,
    dtype: str,
    batch: int,
    vocabulary: int = 10_000,
    hidden: int = 1500,
    layers: int = 2,
    steps: int = 35,
) -> Graph:
    """Embedding, stacked LSTM over `steps` words, logits of every step: [steps * batch, vocabulary].

    Tokens enter time first, [steps, batch]. `items` counts words: batch * steps.
    """
    builder = GraphBuilder(name, dtype)
    x = builder.embedding(builder.input("tokens", (steps, batch), "int32"), vocabulary, hidden, "embedding")
    x = builder.lstm(x, hidden, layers)
    x = builder.linear(builder.reshape(x, (steps * batch, hidden), "states"), vocabulary, name="logits")
    return builder.build([x], unit="tokens", items=batch * steps)
