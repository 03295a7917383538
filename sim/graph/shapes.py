"""The output shape of every operator kind, from its attributes and the shapes of its inputs.

Shapes are tuples of positive ints. Whatever does not fit raises ValueError that says what was found and what
was expected. Attributes are described in sim/graph/op.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sim.graph.causal import CAUSAL
from sim.graph.op import ELEMENT_FUNCTIONS, arity
from sim.graph.places import RESULT, laid, listed

Shape = tuple[int, ...]

MAX_CHIPS = 4096

_INPUT_COUNTS: Mapping[str, tuple[int, int]] = {
    "conv": (2, 3),
    "conv_transpose": (2, 3),
    "matmul": (2, 3),
    "packed_matmul": (3, 4),
    "attention": (3, 64),
    "elementwise": (1, 3),
    "softmax": (1, 2),
    "layer_norm": (1, 3),
    "rms_norm": (1, 2),
    "group_norm": (1, 3),
    "batch_norm": (5, 5),
    "rope": (3, 3),
    "gather": (2, 2),
    "scatter": (3, 3),
    "cache_update": (2, 2),
}


def infer_shape(kind: str, attributes: Mapping[str, Any], input_shapes: Sequence[Shape]) -> Shape:
    """Shape of the output of one operator.

    Raises ValueError for an unknown kind, a missing attribute, a wrong number of inputs, or shapes that do
    not fit.
    """
    if kind not in _RULES:
        raise ValueError(f"unknown operator kind {kind!r}; one of {sorted(_RULES)}")
    low, high = _INPUT_COUNTS.get(kind, (1, 1))
    if not low <= len(input_shapes) <= high and kind != "concat":
        raise ValueError(f"{kind}: expected {low} to {high} inputs, found {len(input_shapes)}")
    try:
        shape = _RULES[kind](attributes, [tuple(shape) for shape in input_shapes])
    except KeyError as missing:
        raise ValueError(f"{kind}: attribute {missing} is missing") from None
    if any(extent < 1 for extent in shape):
        raise ValueError(f"{kind}: inputs {list(input_shapes)} give the empty shape {shape}")
    return shape


def broadcast_shape(shapes: Sequence[Shape]) -> Shape:
    """The common shape of NumPy's broadcasting. Raises ValueError where extents disagree."""
    rank = max(len(shape) for shape in shapes)
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    result = []
    for extents in zip(*padded, strict=True):
        wide = {extent for extent in extents if extent != 1}
        if len(wide) > 1:
            raise ValueError(f"shapes {list(shapes)} do not broadcast")
        result.append(wide.pop() if wide else 1)
    return tuple(result)


def same_padding(
    extents: Sequence[int], kernel: Shape, stride: Shape, dilation: Shape
) -> tuple[Shape, Shape]:
    """Padding (begin, end) that makes ceil(extent / stride) outputs; the odd element goes to the end."""
    totals = [
        max((-(-extent // s) - 1) * s + d * (k - 1) + 1 - extent, 0)
        for extent, k, s, d in zip(extents, kernel, stride, dilation, strict=True)
    ]
    begin = tuple(total // 2 for total in totals)
    return begin, tuple(total - b for total, b in zip(totals, begin, strict=True))


def _expect(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _spatial(kind: str, attributes: Mapping[str, Any], names: Sequence[str], rank: int) -> None:
    """Every named attribute has one entry per spatial dimension."""
    _expect(1 <= rank <= 3, f"{kind}: expected 1 to 3 spatial dimensions, found {rank}")
    for name in names:
        found = attributes[name]
        _expect(len(found) == rank, f"{kind}: expected {rank} entries in {name}, found {tuple(found)}")


def _windows(attributes: Mapping[str, Any], extents: Shape) -> Shape:
    """Window positions along each spatial dimension: floor((extent + padding - span) / stride) + 1."""
    return tuple(
        (extent + begin + end - (dilation * (kernel - 1) + 1)) // stride + 1
        for extent, begin, end, dilation, kernel, stride in zip(
            extents,
            attributes["pad_begin"],
            attributes["pad_end"],
            attributes["dilation"],
            attributes["kernel"],
            attributes["stride"],
            strict=True,
        )
    )


_WINDOW = ("kernel", "stride", "dilation", "pad_begin", "pad_end")


def _conv(attributes: Mapping[str, Any], shapes: list[Shape]) -> Shape:
    x, weight = shapes[:2]
    groups = attributes["groups"]
    _spatial("conv", attributes, _WINDOW, len(x) - 2)
    kernel = tuple(attributes["kernel"])
    _expect(
        len(weight) == len(x)
        and weight[1] * groups == x[1]
        and weight[0] % groups == 0
        and weight[2:] == kernel,
        f"conv: expected a weight [O, {x[1]}/{groups}, {kernel}], O a multiple of {groups}, found {weight}",
    )
    _bias("conv", shapes, weight[0])
    return (x[0], weight[0], *_windows(attributes, x[2:]))


def _conv_transpose(attributes: Mapping[str, Any], shapes: list[Shape]) -> Shape:
    x, weight = shapes[:2]
    groups = attributes["groups"]
    _spatial("conv_transpose", attributes, (*_WINDOW, "output_pad"), len(x) - 2)
    kernel = tuple(attributes["kernel"])
    _expect(
        len(weight) == len(x) and weight[0] == x[1] and x[1] % groups == 0 and weight[2:] == kernel,
        f"conv_transpose: expected a weight [{x[1]}, O/{groups}, {kernel}], found {weight}",
    )
    _bias("conv_transpose", shapes, weight[1] * groups)
    spatial = tuple(
        (extent - 1) * stride + dilation * (k - 1) + 1 + extra - begin - end
        for extent, stride, dilation, k, extra, begin, end in zip(
            x[2:],
            attributes["stride"],
            attributes["dilation"],
            kernel,
            attributes["output_pad"],
            attributes["pad_begin"],
            attributes["pad_end"],
            strict=True,
        )
    )
    return (x[0], weight[1] * groups, *spatial)


def _bias(kind: str, shapes: list[Shape], channels: int) -> None:
    if len(shapes) > 2:
        _expect(shapes[2] == (channels,), f"{kind}: expected a bias [{channels}], found {shapes[2]}")


def _matmul(attributes: Mapping[str, Any], shapes: list[Shape]) -> Shape:
    a, b = shapes[:2]
    _expect(len(a) >= 2 and len(b) >= 2, f"matmul: expected operands of rank 2 or more, found {a} and {b}")
    m, k = reversed(a[-2:]) if attributes["transpose_a"] else a[-2:]
    k_b, n = reversed(b[-2:]) if attributes["transpose_b"] else b[-2:]
    _expect(k == k_b, f"matmul: expected equal inner extents, found {k} of {a} and {k_b} of {b}")
    _bias("matmul", shapes, n)
    return (*broadcast_shape([a[:-2], b[:-2]]), m, n)


def _packed_matmul(attributes: Mapping[str, Any], shapes: list[Shape]) -> Shape:
    a, b, *parameters = shapes
    group, turned = attributes["group"], attributes["transpose_b"]
    fits = len(a) >= 2 and len(b) == 2
    _expect(fits, f"packed_matmul: expected an operand [..., M, K] and weights of rank 2, found {a} and {b}")
    k, n = reversed(b) if turned else b
    _expect(a[-1] == k, f"packed_matmul: expected equal inner extents, found {a[-1]} of {a} and {k} of {b}")
    _expect(group >= 1, f"packed_matmul: expected a group of 1 or more, found {group}")
    rows = -(-k // group)
    wanted = (n, rows) if turned else (rows, n)
    for found in parameters:
        _expect(found == wanted, f"packed_matmul: expected scales and zero points {wanted}, found {found}")
    return (*a[:-1], n)


def _attention(attributes: Mapping[str, Any], shapes: list[Shape]) -> Shape:
    places, (q, k, v, *rest) = attributes.get("places", ()), shapes
    if places:
        every = [tuple(range(len(q)))] * 4
        fits = [tuple(sorted(one)) for one in places] == every and len(q) == len(k) == len(v)
        _expect(fits, f"attention: expected places of the {len(q)} axes of q, k, v and the result, found {places}")
        q, k, v = (listed(places, number, shape) for number, shape in enumerate((q, k, v)))
    k = k if attributes["transpose_b"] else (*k[:-2], *reversed(k[-2:]))
    fits = len(q) >= 2 and len(q) == len(k) == len(v) and q[-1] == k[-1] and k[:-1] == v[:-1]
    _expect(fits, f"attention: expected q [*, S, D], k [*, T, D] and v [*, T, E], found {q}, {k} and {v}")
    shared = all(many in (one, 1) for one, many in zip(q[:-2], k[:-2], strict=True))
    _expect(shared, f"attention: expected the batch axes of {q} or 1 in keys and values, found {k}")
    scores = (*q[:-1], k[-2])
    for function, _ in attributes["steps"]:
        if function == CAUSAL:
            continue
        count = arity(function) - 1
        _expect(len(rest) >= count, f"attention: {function} lacks an input")
        now, rest = rest[:count], rest[count:]
        found = _elementwise({"function": function}, [scores, *now])
        _expect(found == scores, f"attention: {function} makes {found} of scores {scores}")
    if attributes["sink"]:
        _expect(bool(rest), "attention: the sink is missing")
        _softmax({"axis": len(scores) - 1, "log": False}, [scores, rest.pop()])
    _expect(not rest, f"attention: {len(rest)} inputs more than its steps take")
    return laid(places, RESULT, (*q[:-1], v[-1]))


def _pool(attributes: Mapping[str, Any], shapes: list[Shape]) -> Shape:
    (x,) = shapes
    function = attributes["function"]
    _expect(function in ("max", "average"), f"pool: expected function max or average, found {function!r}")
    _spatial("pool", attributes, _WINDOW, len(x) - 2)
    return (*x[:2], *_windows(attributes, x[2:]))


def _reduce(attributes: Mapping[str, Any], shapes: list[Shape]) -> Shape:
    (x,) = shapes
    function, axes = attributes["function"], set(attributes["axes"])
    known = ("sum", "mean", "max", "min", "prod", "argmax", "argmin")
    _expect(function in known, f"reduce: expected a function of {known}, found {function!r}")
    _expect(len(axes) == 1 or function[:3] != "arg", f"{function}: expected one axis, found {sorted(axes)}")
    for axis in axes:
        _axis("reduce", axis, x)
    if attributes["keepdims"]:
        return tuple(1 if axis in axes else extent for axis, extent in enumerate(x))
    return tuple(extent for axis, extent in enumerate(x) if axis not in axes)


def _elementwise(attributes: Mapping[str, Any], shapes: list[Shape]) -> Shape:
    function = attributes["function"]
    _expect(
        function in ELEMENT_FUNCTIONS,
        f"elementwise: unknown function {function!r}; one of {sorted(ELEMENT_FUNCTIONS)}",
    )
    count = arity(function)
    _expect(len(shapes) == count, f"{function}: expected {count} inputs, found {len(shapes)}")
    return broadcast_shape(shapes)


def _axis(kind: str, axis: int, shape: Shape) -> int:
    _expect(0 <= axis < len(shape), f"{kind}: axis {axis} is outside the shape {shape}")
    return axis


def _softmax(attributes: Mapping[str, Any], shapes: list[Shape]) -> Shape:
    x = shapes[0]
    axis = _axis("softmax", attributes["axis"], x)
    for sink in shapes[1:]:
        _expect(not attributes["log"], "softmax: a logarithm with a sink is not supported")
        wanted = (*x[:axis], 1, *x[axis + 1 :])
        fits = len(sink) <= len(x) and broadcast_shape([sink, wanted]) == wanted
        _expect(fits, f"softmax: expected a sink that broadcasts to {wanted}, found {sink}")
    return x


def _along_axis(kind: str) -> Callable[[Mapping[str, Any], list[Shape]], Shape]:
    def rule(attributes: Mapping[str, Any], shapes: list[Shape]) -> Shape:
        x = shapes[0]
        axis = _axis(kind, attributes["axis"], x)
        for extra in shapes[1:]:
            _expect(extra == x[axis:], f"{kind}: expected scale and bias of shape {x[axis:]}, found {extra}")
        return x

    return rule


def _per_channel(kind: str) -> Callable[[Mapping[str, Any], list[Shape]], Shape]:
    def rule(attributes: Mapping[str, Any], shapes: list[Shape]) -> Shape:
        x = shapes[0]
        _expect(len(x) >= 2, f"{kind}: expected an input [N, C, ...], found {x}")
        for extra in shapes[1:]:
            _expect(extra == (x[1],), f"{kind}: expected a vector of {x[1]} channels, found {extra}")
        groups = attributes["groups"] if kind == "group_norm" else 1
        _expect(x[1] % groups == 0, f"{kind}: {x[1]} channels do not divide into {groups} groups")
        return x

    return rule


def _rope(attributes: Mapping[str, Any], shapes: list[Shape]) -> Shape:
    x, cos, sin = shapes
    _expect(len(x) >= 2 and x[-1] % 2 == 0, f"rope: expected [..., S, D] with D even, found {x}")
    table = (x[-2], x[-1] // 2)
    _expect(cos == sin == table, f"rope: expected cos and sin of shape {table}, found {cos} and {sin}")
    return x


def _transpose(attributes: Mapping[str, Any], shapes: list[Shape]) -> Shape:
    (x,) = shapes
    perm = tuple(attributes["perm"])
    _expect(sorted(perm) == list(range(len(x))), f"transpose: perm {perm} does not order the axes of {x}")
    return tuple(x[axis] for axis in perm)


def _reshape(attributes: Mapping[str, Any], shapes: list[Shape]) -> Shape:
    (x,) = shapes
    shape = tuple(attributes["shape"])
    _expect(math.prod(shape) == math.prod(x), f"reshape: {x} does not have the elements of {shape}")
    return shape


def _concat(attributes: Mapping[str, Any], shapes: list[Shape]) -> Shape:
    _expect(bool(shapes), "concat: expected one input or more, found none")
    first = shapes[0]
    axis = _axis("concat", attributes["axis"], first)
    for shape in shapes[1:]:
        fits = (
            len(shape) == len(first) and shape[:axis] + shape[axis + 1 :] == first[:axis] + first[axis + 1 :]
        )
        _expect(fits, f"concat: {shape} and {first} differ beyond axis {axis}")
    return (*first[:axis], sum(shape[axis] for shape in shapes), *first[axis + 1 :])


def _slice(attributes: Mapping[str, Any], shapes: list[Shape]) -> Shape:
    (x,) = shapes
    starts, steps, counts = attributes["starts"], attributes["steps"], tuple(attributes["counts"])
    for name, found in (("starts", starts), ("steps", steps), ("counts", counts)):
        _expect(len(found) == len(x), f"slice: expected {len(x)} entries in {name}, found {tuple(found)}")
    for axis, (extent, start, step, count) in enumerate(zip(x, starts, steps, counts, strict=True)):
        last = start + (count - 1) * step
        _expect(
            step != 0 and 0 <= start < extent and 0 <= last < extent,
            f"slice: elements {start} to {last} by {step} leave axis {axis} of {x}",
        )
    return counts


def _pad(attributes: Mapping[str, Any], shapes: list[Shape]) -> Shape:
    (x,) = shapes
    begin, end = attributes["pad_begin"], attributes["pad_end"]
    _expect(
        len(begin) == len(end) == len(x) and min((0, *begin, *end)) >= 0,
        f"pad: expected {len(x)} entries of 0 or more, found {tuple(begin)} and {tuple(end)}",
    )
    return tuple(b + extent + e for b, extent, e in zip(begin, x, end, strict=True))


def _gather(attributes: Mapping[str, Any], shapes: list[Shape]) -> Shape:
    data, indices = shapes
    axis = _axis("gather", attributes["axis"], data)
    return (*data[:axis], *indices, *data[axis + 1 :])


def _resize(attributes: Mapping[str, Any], shapes: list[Shape]) -> Shape:
    (x,) = shapes
    mode = attributes["mode"]
    _expect(mode in ("nearest", "linear", "cubic"), f"resize: expected mode nearest, linear or cubic, found {mode!r}")
    _spatial("resize", attributes, ("shape", "scales"), len(x) - 2)
    return (*x[:2], *attributes["shape"])


def _topk(attributes: Mapping[str, Any], shapes: list[Shape]) -> Shape:
    (x,) = shapes
    axis, k = _axis("topk", attributes["axis"], x), attributes["k"]
    _expect(1 <= k <= x[axis], f"topk: expected k of 1 to {x[axis]}, the extent of axis {axis}, found {k}")
    return (*x[:axis], k, *x[axis + 1 :])


def _scan(attributes: Mapping[str, Any], shapes: list[Shape]) -> Shape:
    function = attributes["function"]
    _expect(function in ("sum", "prod"), f"scan: expected function sum or prod, found {function!r}")
    _axis("scan", attributes["axis"], shapes[0])
    return shapes[0]


def _scatter(attributes: Mapping[str, Any], shapes: list[Shape]) -> Shape:
    data, rows, updates = shapes
    known, found = ("none", "add", "mul", "max", "min"), attributes["reduction"]
    _expect(found in known, f"scatter: expected a reduction of {known}, found {found!r}")
    _expect(
        len(data) == 2 and len(rows) == 1 and updates == (rows[0], data[1]),
        f"scatter: expected data [R, W], rows [U] and updates [U, W], found {data}, {rows} and {updates}",
    )
    return data


def _cache_update(attributes: Mapping[str, Any], shapes: list[Shape]) -> Shape:
    cache, new = shapes
    axis, position = _axis("cache_update", attributes["axis"], cache), attributes["position"]
    _expect(
        len(new) == len(cache) and new[:axis] + new[axis + 1 :] == cache[:axis] + cache[axis + 1 :],
        f"cache_update: {new} and the cache {cache} differ beyond axis {axis}",
    )
    _expect(
        0 <= position <= cache[axis] - new[axis],
        f"cache_update: {new[axis]} entries at position {position} do not fit a cache of {cache[axis]}",
    )
    return cache


def _all_reduce(attributes: Mapping[str, Any], shapes: list[Shape]) -> Shape:
    chips = attributes["chips"]
    whole = isinstance(chips, int) and not isinstance(chips, bool)
    _expect(whole and 2 <= chips <= MAX_CHIPS, f"all_reduce: expected 2 to {MAX_CHIPS} chips, found {chips!r}")
    return shapes[0]


def _same(attributes: Mapping[str, Any], shapes: list[Shape]) -> Shape:
    return shapes[0]


_RULES: Mapping[str, Callable[[Mapping[str, Any], list[Shape]], Shape]] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "matmul": _matmul,
    "packed_matmul": _packed_matmul,
    "attention": _attention,
    "pool": _pool,
    "reduce": _reduce,
    "elementwise": _elementwise,
    "softmax": _softmax,
    "layer_norm": _along_axis("layer_norm"),
    "rms_norm": _along_axis("rms_norm"),
    "group_norm": _per_channel("group_norm"),
    "batch_norm": _per_channel("batch_norm"),
    "lrn": _same,
    "rope": _rope,
    "transpose": _transpose,
    "reshape": _reshape,
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
