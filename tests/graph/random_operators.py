"""One random small operator of every kind, as a graph: its first operator, then those to fuse into its drain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph

Rng = np.random.Generator
Build = Callable[[GraphBuilder, Rng], str]

INDEX = "int32"


def random_operator(kind: str, seed: int, dtype: str = "fp32") -> Graph:
    builder = GraphBuilder(kind, dtype)
    return builder.build([BUILDERS[kind](builder, np.random.default_rng(seed))])


def _extents(rng: Rng, rank: int, low: int = 1, high: int = 6) -> tuple[int, ...]:
    return tuple(rng.integers(low, high + 1, rank).tolist())


def _shape(rng: Rng, least_rank: int = 1) -> tuple[int, ...]:
    return _extents(rng, int(rng.integers(least_rank, 5)))


def _axis(rng: Rng, rank: int) -> int:
    return int(rng.integers(rank))


def _flag(rng: Rng) -> bool:
    return bool(rng.integers(2))


def _window(rng: Rng) -> dict[str, Any]:
    rank = int(rng.integers(1, 4))
    return {
        "kernel": _extents(rng, rank, 1, 4 if rank < 3 else 3),
        "stride": _extents(rng, rank, 1, 4),
        "dilation": _extents(rng, rank, 1, 3),
        "padding": [_extents(rng, 2, 0, 4) for _ in range(rank)],
    }


def _spans(window: Mapping[str, Any]) -> list[int]:
    return [d * (k - 1) + 1 for d, k in zip(window["dilation"], window["kernel"], strict=True)]


def _conv(builder: GraphBuilder, rng: Rng) -> str:
    window, groups = _window(rng), int(rng.integers(1, 4))
    least = [max(1, span - sum(pad)) for span, pad in zip(_spans(window), window["padding"], strict=True)]
    space = tuple(extent + int(rng.integers(8)) for extent in least)
    x = builder.input("x", (int(rng.integers(1, 4)), groups * int(rng.integers(1, 5)), *space))
    out = groups * int(rng.integers(1, 5))
    return _fused(builder, rng, builder.conv(x, out, groups=groups, bias=_flag(rng), **window))


def _conv_transpose(builder: GraphBuilder, rng: Rng) -> str:
    window, groups = _window(rng), int(rng.integers(1, 4))
    # Enough input for one output element or more to be left of the padding.
    space = [
        max(0, -(-(sum(pad) + 1 - span) // stride)) + int(rng.integers(1, 5))
        for span, pad, stride in zip(_spans(window), window["padding"], window["stride"], strict=True)
    ]
    beyond = [int(rng.integers(stride)) for stride in window["stride"]]
    x = builder.input("x", (int(rng.integers(1, 3)), groups * int(rng.integers(1, 4)), *space))
    out = groups * int(rng.integers(1, 4))
    y = builder.conv_transpose(x, out, groups=groups, output_pad=beyond, bias=_flag(rng), **window)
    return _fused(builder, rng, y)


def _matmul(builder: GraphBuilder, rng: Rng) -> str:
    m, n, k = _extents(rng, 3, 1, 7)
    batch = _extents(rng, int(rng.integers(4)), 1, 3)
    transpose_a, transpose_b = _flag(rng), _flag(rng)
    a = builder.input("a", (*_broadcasting(rng, batch), *((k, m) if transpose_a else (m, k))))
    b = builder.input("b", (*_broadcasting(rng, batch), *((n, k) if transpose_b else (k, n))))
    bias = builder.weight((n,), "bias") if _flag(rng) else None
    return _fused(builder, rng, builder.matmul(a, b, transpose_a, transpose_b, bias))


def _packed_matmul(builder: GraphBuilder, rng: Rng) -> str:
    m, n = _extents(rng, 2, 1, 7)
    k, group, turned = int(rng.integers(1, 24)), int(rng.integers(1, 9)), _flag(rng)
    a = builder.input("a", (*_extents(rng, int(rng.integers(3)), 1, 3), m, k))
    rows = -(-k // group)
    b = builder.weight((n, k) if turned else (k, n), "b", "int4")
    parameters = [builder.weight((n, rows) if turned else (rows, n), name) for name in ("scale", "zero")]
    y = builder.packed_matmul(a, b, parameters[0], parameters[1] if _flag(rng) else None, group, turned)
    return _fused(builder, rng, y)


def _attention(builder: GraphBuilder, rng: Rng) -> str:
    """Heads that share keys or not, masks of several shapes, a sink; scores are scaled and capped by turns."""
    batch = _extents(rng, int(rng.integers(4)), 1, 3)
    shared = tuple(1 if rng.random() < 0.4 else extent for extent in batch)
    rows, keys, depth, width = _extents(rng, 4, 1, 9)
    turned = _flag(rng)
    q = builder.input("q", (*batch, rows, depth))
    k = builder.input("k", (*shared, *((keys, depth) if turned else (depth, keys))))
    inputs, steps = [q, k, builder.input("v", (*shared, keys, width))], []
    if _flag(rng):
        steps.append(("mul", ()))
        inputs.append(builder.weight((1,), "scale"))
    if _flag(rng):
        steps.append(("tanh", ()))
    if _flag(rng):
        steps.append(("add", ()))
        inputs.append(builder.input("mask", (*_broadcasting(rng, batch), rows, keys)))
    sink = _flag(rng)
    if sink:
        inputs.append(builder.weight((*batch, 1, 1), "sink"))
    y = builder.add_op("attention", inputs, {"transpose_b": turned, "steps": tuple(steps), "sink": sink}, "attention")
    return _fused(builder, rng, y)


def _broadcasting(rng: Rng, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape that broadcasts with `shape`: some extents 1, leading axes left out."""
    thin = tuple(extent if rng.random() < 0.6 else 1 for extent in shape)
    return thin[int(rng.integers(len(shape) + 1)) :] if _flag(rng) else thin


def _fused(builder: GraphBuilder, rng: Rng, y: str) -> str:
    """Up to three element functions on top, with broadcast operands."""
    for number in range(int(rng.integers(4))):
        function = ("relu", "add", "mul", "sub")[int(rng.integers(4))]
        extra = (
            [] if function == "relu" else [builder.input(f"e{number}", _broadcasting(rng, builder.shape(y)))]
        )
        y = builder.elementwise(function, y, *extra)
    return y


def _pool(builder: GraphBuilder, rng: Rng) -> str:
    window = _window(rng)
    least = [max(1, span - sum(pad)) for span, pad in zip(_spans(window), window["padding"], strict=True)]
    space = tuple(extent + int(rng.integers(8)) for extent in least)
    x = builder.input("x", (*_extents(rng, 2, 1, 3), *space))
    function = ("max", "average")[int(rng.integers(2))]
    return _fused(builder, rng, builder.pool(x, function, count_include_pad=_flag(rng), **window))


def _reduce(builder: GraphBuilder, rng: Rng) -> str:
    x = builder.input("x", _shape(rng))
    rank = len(builder.shape(x))
    axes = rng.permutation(rank)[: int(rng.integers(1, rank + 1))].tolist()
    function = ("sum", "mean", "max", "min", "prod", "argmax", "argmin")[int(rng.integers(7))]
    if function[:3] == "arg":
        attributes = {"function": function, "axes": (axes[0],), "keepdims": _flag(rng), "last": _flag(rng)}
        return builder.add_op("reduce", [x], attributes)
    return builder.reduce(x, function, axes, _flag(rng))


def _elementwise(builder: GraphBuilder, rng: Rng) -> str:
    shape = _shape(rng)
    a = builder.input("a", _broadcasting(rng, shape))
    b = builder.input("b", _broadcasting(rng, shape))
    function = ("add", "sub", "max", "prelu", "where", "clip", "less")[int(rng.integers(7))]
    if function == "where":
        choice = builder.input("choice", _broadcasting(rng, shape), "bool")
        return builder.elementwise("where", choice, a, b)
    if function == "clip":
        return builder.elementwise("clip", a, parameters=(-1, 2))
    return builder.elementwise(function, a, b)


def _softmax(builder: GraphBuilder, rng: Rng) -> str:
    x = builder.input("x", _shape(rng))
    axis, log = _axis(rng, len(builder.shape(x))), _flag(rng)
    if log or not _flag(rng):
        return builder.softmax(x, axis, log)
    shape = [size if _flag(rng) else 1 for size in builder.shape(x)]
    shape[axis] = 1
    return builder.softmax(x, axis, sink=builder.input("sink", shape[rng.integers(0, axis + 1) :]))


def _layer_norm(builder: GraphBuilder, rng: Rng) -> str:
    x = builder.input("x", _shape(rng))
    return builder.layer_norm(x, _axis(rng, len(builder.shape(x))), _flag(rng))


def _rms_norm(builder: GraphBuilder, rng: Rng) -> str:
    x = builder.input("x", _shape(rng))
    return builder.rms_norm(x, _axis(rng, len(builder.shape(x))))


def _group_norm(builder: GraphBuilder, rng: Rng) -> str:
    groups = int(rng.integers(1, 5))
    space = _extents(rng, int(rng.integers(3)))
    x = builder.input("x", (int(rng.integers(1, 4)), groups * int(rng.integers(1, 4)), *space))
    return builder.group_norm(x, groups)


def _batch_norm(builder: GraphBuilder, rng: Rng) -> str:
    return builder.batch_norm(builder.input("x", _shape(rng, 2)))


def _lrn(builder: GraphBuilder, rng: Rng) -> str:
    x = builder.input("x", (2, int(rng.integers(1, 10)), *_extents(rng, int(rng.integers(1, 3)))))
    # An even size reaches further up than down.
    size = int(rng.integers(1, 7))
    return builder.add_op("lrn", [x], {"size": size, "alpha": 0.3, "beta": 0.75, "bias": 1.5})


def _rope(builder: GraphBuilder, rng: Rng) -> str:
    x = builder.input("x", (*_shape(rng), 2 * int(rng.integers(1, 4))))
    return builder.rope(x, position=int(rng.integers(5)))


def _transpose(builder: GraphBuilder, rng: Rng) -> str:
    x = builder.input("x", _shape(rng))
    return builder.transpose(x, rng.permutation(len(builder.shape(x))).tolist())


def _concat(builder: GraphBuilder, rng: Rng) -> str:
    shape = _shape(rng)
    axis = _axis(rng, len(shape))
    parts = [
        builder.input(f"x{number}", (*shape[:axis], int(rng.integers(1, 5)), *shape[axis + 1 :]))
        for number in range(int(rng.integers(1, 5)))
    ]
    return _fused(builder, rng, builder.concat(parts, axis))


def _slice(builder: GraphBuilder, rng: Rng) -> str:
    shape = _shape(rng)
    starts, steps, counts = [], [], []
    for extent in shape:
        first, last = (int(index) for index in rng.integers(0, extent, 2))
        step = int(rng.integers(1, 4)) * (1 if first <= last else -1)
        starts.append(first)
        steps.append(step)
        counts.append((last - first) // step + 1)
    attributes = {"starts": tuple(starts), "steps": tuple(steps), "counts": tuple(counts)}
    return builder.add_op("slice", [builder.input("x", shape)], attributes)


def _pad(builder: GraphBuilder, rng: Rng) -> str:
    x = builder.input("x", _shape(rng))
    rank = len(builder.shape(x))
    return builder.pad(x, _extents(rng, rank, 0, 4), _extents(rng, rank, 0, 4), value=7)


def _gather(builder: GraphBuilder, rng: Rng) -> str:
    data = builder.input("data", _shape(rng))
    indices = builder.input("indices", _extents(rng, int(rng.integers(3)), 1, 4), INDEX)
    return builder.gather(data, indices, _axis(rng, len(builder.shape(data))))


COORDINATES = ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")
ROUNDINGS = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")


def _resize(builder: GraphBuilder, rng: Rng) -> str:
    space = _extents(rng, int(rng.integers(1, 4)), 1, 7)
    target = _extents(rng, len(space), 1, 12 if len(space) < 3 else 6)
    # A scale is either the ratio of the extents or what gives the target when the product is rounded down.
    extra = float(rng.random()) if _flag(rng) else 0.0
    scales = tuple((y + extra) / x for x, y in zip(space, target, strict=True))
    attributes = {
        "mode": ("nearest", "linear", "cubic")[int(rng.integers(3))],
        "coefficient": -0.75,
        "exclude_outside": _flag(rng),
        "shape": target,
        "scales": scales,
        "coordinates": COORDINATES[int(rng.integers(4))],
        "rounding": ROUNDINGS[int(rng.integers(4))],
    }
    return builder.add_op("resize", [builder.input("x", (1, 2, *space))], attributes)


def _topk(builder: GraphBuilder, rng: Rng) -> str:
    shape = _shape(rng)
    axis = _axis(rng, len(shape))
    k = int(rng.integers(1, shape[axis] + 1))
    attributes = {"axis": axis, "k": k, "largest": _flag(rng), "indices": _flag(rng)}
    return builder.add_op("topk", [builder.input("x", shape)], attributes)


def _scan(builder: GraphBuilder, rng: Rng) -> str:
    shape = _shape(rng)
    function = ("sum", "prod")[int(rng.integers(2))]
    attributes = {"axis": _axis(rng, len(shape)), "function": function, "exclusive": _flag(rng), "reverse": _flag(rng)}
    return builder.add_op("scan", [builder.input("x", shape)], attributes)


def _scatter(builder: GraphBuilder, rng: Rng) -> str:
    """With rows that are written more than once, and indices that count from the end."""
    rows, width, updates = (int(extent) for extent in rng.integers(1, 9, 3))
    reduction = ("none", "add", "mul", "max", "min")[int(rng.integers(5))]
    places = builder.weight((updates,), "places", INDEX, rng.integers(-rows, rows, updates))
    inputs = [builder.input("data", (rows, width)), places, builder.input("updates", (updates, width))]
    return builder.add_op("scatter", inputs, {"reduction": reduction})


def _cache_update(builder: GraphBuilder, rng: Rng) -> str:
    shape = _shape(rng)
    axis = _axis(rng, len(shape))
    count = int(rng.integers(1, shape[axis] + 1))
    new = builder.input("new", (*shape[:axis], count, *shape[axis + 1 :]))
    position = int(rng.integers(shape[axis] - count + 1))
    return builder.cache_update(builder.state("cache", shape), new, axis, position)


def _all_reduce(builder: GraphBuilder, rng: Rng) -> str:
    return builder.all_reduce(builder.input("x", _shape(rng)), int(rng.integers(2, 9)))


BUILDERS: Mapping[str, Build] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "matmul": _matmul,
    "packed_matmul": _packed_matmul,
    "attention": _attention,
    "pool": _pool,
    "reduce": _reduce,
    "elementwise": _elementwise,
    "softmax": _softmax,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "batch_norm": _batch_norm,
    "lrn": _lrn,
    "rope": _rope,
    "transpose": _transpose,
    "concat": _concat,
    "slice": _slice,
    "pad": _pad,
    "gather": _gather,
    "resize": _resize,
    "topk": _topk,
    "scan": _scan,
    "scatter": _scatter,
    "cache_update": _cache_update,
    "all_reduce": _all_reduce,
}
