"""Conformer encoder (Gulati et al., Convolution-augmented Transformer for Speech Recognition, 2020).

Attention has the relative positions of Transformer-XL (Dai et al., 2019, appendix B), with the shift written
out as pad, reshape and slice. The transducer's prediction and joint networks are not part of the graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.graph.transformer_positions import sinusoids


@dataclass(frozen=True, slots=True)
class _Shape:
    """Extents of every layer; `positions` names the table [2 frames - 1, width], `half` a constant."""

    batch: int
    frames: int
    width: int
    heads: int
    kernel: int
    positions: str
    half: str


def conformer(
    *,
    name: str,
    dtype: str,
    batch: int,
    frames: int = 1000,
    mel_bins: int = 80,
    layers: int = 17,
    width: int = 512,
    heads: int = 8,
    kernel: int = 32,
) -> Graph:
    """Spectrogram [batch, 1, frames, mel_bins] to states [batch * T, width], T about frames / 4."""
    if width % heads:
        raise ValueError(f"width {width} does not divide into {heads} heads")
    builder = GraphBuilder(name, dtype)
    x = _subsample(builder, builder.input("spectrogram", (batch, 1, frames, mel_bins)), width)
    length = builder.shape(x)[0] // batch
    table = sinusoids(1 - length, 2 * length - 1, width)[::-1]
    positions = builder.weight(table.shape, "positions", value=table)
    half = builder.weight((1,), "half", value=np.full(1, 0.5, np.float32))
    shape = _Shape(batch, length, width, heads, kernel, positions, half)
    for index in range(layers):
        with builder.block(index):
            x = _layer(builder, x, shape, f"layer{index}")
    return builder.build([x], items=batch)


def _subsample(builder: GraphBuilder, x: str, width: int) -> str:
    """Two 3x3 convolutions with stride 2, then a projection of channels and bands: [batch * T, width]."""
    for index in (1, 2):
        x = builder.relu(builder.conv(x, width, 3, 2, name=f"subsample{index}"), f"subsample{index}.relu")
    batch, channels, frames, bands = builder.shape(x)
    x = builder.transpose(x, (0, 2, 1, 3), "subsample.frames")
    x = builder.reshape(x, (batch * frames, channels * bands), "subsample.flat")
    return builder.linear(x, width, name="subsample.project")


def _layer(builder: GraphBuilder, x: str, shape: _Shape, name: str) -> str:
    """Half a feed-forward step, attention, convolution, half a feed-forward step, norm (equation 1)."""
    for part, module in (
        ("ffn1", _feed_forward),
        ("attention", _attention),
        ("conv", _convolution),
        ("ffn2", _feed_forward),
    ):
        y = builder.layer_norm(x, name=f"{name}.{part}.norm")
        x = builder.add(module(builder, y, shape, f"{name}.{part}"), x, f"{name}.{part}.add")
    return builder.layer_norm(x, name=f"{name}.norm")


def _feed_forward(builder: GraphBuilder, x: str, shape: _Shape, name: str) -> str:
    y = builder.silu(builder.linear(x, 4 * shape.width, name=f"{name}.up"), f"{name}.silu")
    return builder.mul(builder.linear(y, shape.width, name=f"{name}.down"), shape.half, f"{name}.half")


def _attention(builder: GraphBuilder, x: str, shape: _Shape, name: str) -> str:
    """softmax((q + u) k^T + shift((q + v) p^T)) v, scaled by 1 / sqrt(head width)."""
    width = shape.width // shape.heads
    q, k, v = (
        _heads(builder, builder.linear(x, shape.width, name=f"{name}.{p}"), shape, f"{name}.{p}")
        for p in "qkv"
    )
    p = builder.linear(shape.positions, shape.width, bias=False, name=f"{name}.position")
    p = builder.reshape(p, (2 * shape.frames - 1, shape.heads, width), f"{name}.position.split")
    p = builder.transpose(p, (1, 0, 2), f"{name}.position.heads")
    biased = [
        builder.add(q, builder.weight((shape.heads, 1, width), f"{name}.{which}_bias"), f"{name}.q_{which}")
        for which in ("content", "position")
    ]
    content = builder.matmul(biased[0], k, transpose_b=True, name=f"{name}.content_scores")
    position = builder.matmul(biased[1], p, transpose_b=True, name=f"{name}.position_scores")
    scores = builder.add(content, _relative_shift(builder, position, f"{name}.shift"), f"{name}.scores")
    scale = builder.weight((1,), f"{name}.scale", value=np.full(1, width**-0.5, np.float32))
    weights = builder.softmax(builder.mul(scores, scale, f"{name}.scaled"), name=f"{name}.softmax")
    context = builder.transpose(builder.matmul(weights, v, name=f"{name}.context"), (0, 2, 1, 3))
    context = builder.reshape(context, (shape.batch * shape.frames, shape.width), f"{name}.joined")
    return builder.linear(context, shape.width, name=f"{name}.output")


def _heads(builder: GraphBuilder, x: str, shape: _Shape, name: str) -> str:
    """[batch * frames, width] to [batch, heads, frames, head width]."""
    x = builder.reshape(x, (shape.batch, shape.frames, shape.heads, -1), f"{name}.split")
    return builder.transpose(x, (0, 2, 1, 3), f"{name}.heads")


def _relative_shift(builder: GraphBuilder, x: str, name: str) -> str:
    """[B, H, T, 2T - 1], by distance, to [B, H, T, T], by key: row i moves left by T - 1 - i."""
    batch, heads, frames, distances = builder.shape(x)
    x = builder.pad(x, (0, 0, 0, 1), (0, 0, 0, 0), name=f"{name}.pad")
    x = builder.reshape(x, (batch, heads, distances + 1, frames), f"{name}.skew")
    x = builder.slice(x, 2, 1, distances, name=f"{name}.drop")
    x = builder.reshape(x, (batch, heads, frames, distances), f"{name}.rows")
    return builder.slice(x, 3, 0, frames, name=name)


def _convolution(builder: GraphBuilder, x: str, shape: _Shape, name: str) -> str:
    """Pointwise to twice the width, gated linear unit, depthwise over time, pointwise (figure 2)."""
    y = builder.linear(x, 2 * shape.width, name=f"{name}.pointwise1")
    value, gate = builder.split(y, 2, 1, f"{name}.glu")
    y = builder.mul(value, builder.sigmoid(gate, f"{name}.glu.sigmoid"), f"{name}.glu.gated")
    y = builder.reshape(y, (shape.batch, shape.frames, shape.width), f"{name}.frames")
    y = builder.transpose(y, (0, 2, 1), f"{name}.channels")
    y = builder.conv(
        y, shape.width, shape.kernel, padding="same", groups=shape.width, name=f"{name}.depthwise"
    )
    y = builder.silu(builder.batch_norm(y, name=f"{name}.depthwise.bn"), f"{name}.silu")
    y = builder.reshape(builder.transpose(y, (0, 2, 1)), (shape.batch * shape.frames, shape.width))
    return builder.linear(y, shape.width, name=f"{name}.pointwise2")
