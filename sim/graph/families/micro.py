"""Single operators, for looking at one part of a chip at a time."""

from __future__ import annotations

from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph


def gemm(
    *, name: str, dtype: str, batch: int, m: int = 1024, n: int = 1024, k: int = 1024, count: int = 1
) -> Graph:
    """`count` independent products of [batch * m, k] and a weight [k, n], which a batch shares."""
    builder = GraphBuilder(name, dtype)
    groups = () if count == 1 else (count,)
    x = builder.input("a", (*groups, batch * m, k))
    product = builder.matmul(x, builder.weight((*groups, k, n), "b"), name="gemm")
    return builder.build([product], items=batch, kernel=True)


def conv2d(
    *,
    name: str,
    dtype: str,
    batch: int,
    channels: int = 64,
    filters: int = 64,
    image: int = 56,
    kernel: int = 3,
    stride: int = 1,
    groups: int = 1,
) -> Graph:
    """[batch, channels, image, image] with padding kernel // 2 and no bias."""
    builder = GraphBuilder(name, dtype)
    x = builder.input("image", (batch, channels, image, image))
    x = builder.conv(x, filters, kernel, stride, kernel // 2, groups=groups, bias=False, name="conv")
    return builder.build([x], items=batch, kernel=True)


def softmax(*, name: str, dtype: str, batch: int, rows: int = 4096, width: int = 1024) -> Graph:
    """Over the last axis of [batch * rows, width]."""
    builder = GraphBuilder(name, dtype)
    return builder.build([builder.softmax(builder.input("x", (batch * rows, width)))], items=batch, kernel=True)


def layer_norm(*, name: str, dtype: str, batch: int, rows: int = 4096, width: int = 1024) -> Graph:
    """Over the last axis of [batch * rows, width]."""
    builder = GraphBuilder(name, dtype)
    return builder.build([builder.layer_norm(builder.input("x", (batch * rows, width)))], items=batch, kernel=True)
