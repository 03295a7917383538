"""DLRM (Naumov et al., 2019): embedding tables, two MLPs, and the dot products of all pairs of features."""

from __future__ import annotations

import numpy as np

from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph


def dlrm(
    *,
    name: str,
    dtype: str,
    batch: int,
    tables: tuple[int, ...] = (100_000,) * 8,
    width: int = 64,
    dense: int = 13,
    bottom: tuple[int, ...] = (512, 256),
    top: tuple[int, ...] = (512, 256),
) -> Graph:
    """One look-up per table of `tables` rows by `width`; hidden layers of both MLPs are given.

    The bottom MLP ends in `width` features, the top one in a probability. Output [batch, 1].
    """
    builder = GraphBuilder(name, dtype)
    x = builder.input("dense", (batch, dense))
    for index, features in enumerate((*bottom, width)):
        x = builder.relu(builder.linear(x, features, name=f"bottom{index}"), f"bottom{index}.relu")
    rows = [x]
    for index, entries in enumerate(tables):
        chosen = builder.input(f"sparse{index}", (batch,), "int32")
        rows.append(builder.embedding(chosen, entries, width, f"table{index}"))
    x = builder.concat([x, _interactions(builder, rows, width)], 1, "features")
    for index, features in enumerate(top):
        x = builder.relu(builder.linear(x, features, name=f"top{index}"), f"top{index}.relu")
    x = builder.sigmoid(builder.linear(x, 1, name="click"), "click.sigmoid")
    return builder.build([x], items=batch)


def _interactions(builder: GraphBuilder, rows: list[str], width: int) -> str:
    """Dot products of all pairs of the F feature vectors: the strict lower triangle, [batch, F (F - 1) / 2].

    The full F x F product is computed and a half of it kept, as in the reference implementation.
    """
    batch, count = builder.shape(rows[0])[0], len(rows)
    stacked = builder.reshape(builder.concat(rows, 1, "stack"), (batch, count, width), "vectors")
    products = builder.matmul(stacked, stacked, transpose_b=True, name="dots")
    flat = builder.reshape(products, (batch, count * count), "dots.flat")
    row, column = np.tril_indices(count, -1)
    chosen = (row * count + column).astype(np.int32)
    return builder.gather(flat, builder.weight(chosen.shape, "pairs", "int32", chosen), 1, "interactions")
