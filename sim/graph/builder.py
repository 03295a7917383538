"""Builds a Graph operator by operator. Methods take and return tensor names; shapes are inferred.

builder = GraphBuilder("tiny", "int8")
x = builder.input("x", (1, 3, 32, 32))
x = builder.relu(builder.conv(x, 16, 3, padding="same"))
graph = builder.build([builder.linear(builder.reshape(x, (1, -1)), 10)])
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from sim.graph import recurrent
from sim.graph.builder_core import GraphCore
from sim.graph.shapes import same_padding

Extents = int | Sequence[int]
Padding = int | Literal["same"] | Sequence[int] | Sequence[tuple[int, int]]


class GraphBuilder(GraphCore):
    """A graph under construction, layer by layer. Names are made unique; ValueError tells what does not fit.

    Every method takes names of tensors and returns the name of its result; `name` is the operator's, made unique. New
    weights are named after it (`conv.weight`, `conv.bias`) and have the dtype of the builder. All raise ValueError for
    a tensor that does not exist and for shapes that do not fit, and tell what was expected.
    """

    def __init__(self, name: str, dtype: str) -> None:
        super().__init__(name, dtype)
        self._rope_tables: dict[tuple[Any, ...], tuple[str, str]] = {}

    # Contractions.

    def conv(
        self,
        x: str,
        channels: int,
        kernel: Extents,
        stride: Extents = 1,
        padding: Padding = 0,
        dilation: Extents = 1,
        groups: int = 1,
        bias: bool = True,
        name: str | None = None,
    ) -> str:
        """Convolution of x [N, C, *S] of 1 to 3 spatial dimensions with a new weight [channels, C / groups, *kernel]
        and bias [channels]: [N, channels, *windows].

        Kernel, stride, dilation and padding are one number for all spatial dimensions or one each; a padding may be a
        pair (before, after) per dimension, or `same` for ceil(extent / stride) windows.
        """
        attributes = self._window(x, kernel, stride, padding, dilation)
        name = self.unique(name or "conv")
        shape = (channels, self._per_group(x, groups), *attributes["kernel"])
        inputs = self._with_parameters(x, shape, channels if bias else 0, name)
        return self.add_op("conv", inputs, {**attributes, "groups": groups}, name)

    def conv_transpose(
        self,
        x: str,
        channels: int,
        kernel: Extents,
        stride: Extents = 1,
        padding: Padding = 0,
        dilation: Extents = 1,
        groups: int = 1,
        output_pad: Extents = 0,
        bias: bool = True,
        name: str | None = None,
    ) -> str:
        """Transposed convolution of x [N, C, *S] with a new weight [C, channels / groups, *kernel] and bias [channels]:
        [N, channels, *((S - 1) stride + dilation (kernel - 1) + 1 + output_pad - padding)].

        Arguments as of `conv`, but for `same`, which is a ValueError. `output_pad` adds rows at the end.
        """
        if padding == "same":
            raise ValueError("conv_transpose: padding 'same' has no one meaning here; give numbers")
        attributes = self._window(x, kernel, stride, padding, dilation)
        attributes["output_pad"] = _entries(output_pad, len(self.shape(x)) - 2)
        name = self.unique(name or "conv_transpose")
        self._per_group(x, groups)
        shape = (self.shape(x)[1], channels // groups, *attributes["kernel"])
        inputs = self._with_parameters(x, shape, channels if bias else 0, name)
        return self.add_op("conv_transpose", inputs, {**attributes, "groups": groups}, name)

    def linear(self, x: str, features: int, bias: bool = True, name: str | None = None) -> str:
        """x [..., K] times a new weight [K, features], plus a new bias [features]: [..., features]."""
        name = self.unique(name or "linear")
        inputs = self._with_parameters(x, (self.shape(x)[-1], features), features if bias else 0, name)
        return self.add_op("matmul", inputs, {"transpose_a": False, "transpose_b": False}, name)

    def matmul(
        self,
        a: str,
        b: str,
        transpose_a: bool = False,
        transpose_b: bool = False,
        bias: str | None = None,
        name: str | None = None,
    ) -> str:
        """a [..., M, K] times b [..., K, N], plus a bias [N] if any: [..., M, N]. Batch axes broadcast; a transposed
        operand is [..., K, M] or [..., N, K]."""
        attributes = {"transpose_a": transpose_a, "transpose_b": transpose_b}
        return self.add_op("matmul", [a, b, bias] if bias else [a, b], attributes, name)

    def packed_matmul(
        self, a: str, b: str, scale: str, zero: str | None, group: int, transpose_b: bool, name: str | None = None
    ) -> str:
        """a [..., M, K] times packed weights b [K, N] (transposed: [N, K]), of which `group` along K share a scale and
        a zero point (if any) [ceil(K / group), N]: a @ ((b - zero) * scale), [..., M, N]."""
        inputs = [a, b, scale, *([zero] if zero else [])]
        return self.add_op("packed_matmul", inputs, {"transpose_b": transpose_b, "group": group}, name)

    def _per_group(self, x: str, groups: int) -> int:
        """Channels of x [N, C, *S] in each of so many groups. Raises ValueError where they do not divide."""
        shape = self.shape(x)
        if len(shape) < 3:
            raise ValueError(f"expected an input [N, C, *S], found {shape} of {x}")
        if groups < 1 or shape[1] % groups:
            raise ValueError(f"{shape[1]} channels of {x} do not divide into {groups} groups")
        return shape[1] // groups

    def _with_parameters(self, x: str, shape: Sequence[int], bias: int, name: str) -> list[str]:
        inputs = [x, self.weight(shape, f"{name}.weight")]
        return [*inputs, self.weight((bias,), f"{name}.bias")] if bias else inputs

    def _window(
        self, x: str, kernel: Extents, stride: Extents, padding: Padding, dilation: Extents
    ) -> dict[str, Any]:
        spatial = self.shape(x)[2:]
        rank = len(spatial)
        attributes = {
            "kernel": _entries(kernel, rank),
            "stride": _entries(stride, rank),
            "dilation": _entries(dilation, rank),
        }
        if padding == "same":
            begin, end = same_padding(spatial, **attributes)
        else:
            pairs = [
                (entry, entry) if isinstance(entry, int) else tuple(entry)
                for entry in _entries(padding, rank)
            ]
            begin, end = tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)
        return {**attributes, "pad_begin": begin, "pad_end": end}

    # Pools, reductions, element by element.

    def pool(
        self,
        x: str,
        function: str,
        kernel: Extents,
        stride: Extents | None = None,
        padding: Padding = 0,
        dilation: Extents = 1,
        count_include_pad: bool = False,
        name: str | None = None,
    ) -> str:
        """`function` max or average over windows of x [N, C, *S]: [N, C, *windows]. Arguments as of `conv`; the stride
        is the kernel unless given. Averages are over elements, of the padding too with `count_include_pad`."""
        attributes = self._window(x, kernel, kernel if stride is None else stride, padding, dilation)
        attributes |= {"function": function, "count_include_pad": count_include_pad}
        return self.add_op("pool", [x], attributes, name or f"{function}_pool")

    def global_average_pool(self, x: str, name: str | None = None) -> str:
        """The mean of every channel: x [N, C, *S] to [N, C, 1, ...]."""
        return self.reduce(
            x, "mean", tuple(range(2, len(self.shape(x)))), True, name or "global_average_pool"
        )

    def reduce(
        self, x: str, function: str, axes: Sequence[int], keepdims: bool = True, name: str | None = None
    ) -> str:
        """`function` sum, mean, max, min or prod over some axes, or argmax, argmin over one; the axes become 1, or go
        without `keepdims`. Raises ValueError for an axis outside x."""
        found = tuple(sorted(self._axis(x, axis) for axis in axes))
        return self.add_op("reduce", [x], {"function": function, "axes": found, "keepdims": keepdims}, name)

    def elementwise(
        self, function: str, *inputs: str, parameters: Sequence[float] = (), name: str | None = None
    ) -> str:
        """A function of sim.graph.op.ELEMENT_FUNCTIONS on one to three tensors, which broadcast as in NumPy; its
        `parameters` are described there."""
        return self.add_op(
            "elementwise", inputs, {"function": function, "parameters": tuple(parameters)}, name
        )

    def relu(self, x: str, name: str | None = None) -> str:
        """max(x, 0)."""
        return self.elementwise("relu", x, name=name)

    def gelu(self, x: str, name: str | None = None) -> str:
        """x times the normal distribution function of x."""
        return self.elementwise("gelu", x, name=name)

    def silu(self, x: str, name: str | None = None) -> str:
        """x sigmoid(x)."""
        return self.elementwise("silu", x, name=name)

    def sigmoid(self, x: str, name: str | None = None) -> str:
        """1 / (1 + exp(-x))."""
        return self.elementwise("sigmoid", x, name=name)

    def tanh(self, x: str, name: str | None = None) -> str:
        """The hyperbolic tangent of x."""
        return self.elementwise("tanh", x, name=name)

    def add(self, a: str, b: str, name: str | None = None) -> str:
        """a + b, broadcast."""
        return self.elementwise("add", a, b, name=name)

    def mul(self, a: str, b: str, name: str | None = None) -> str:
        """a times b, element by element, broadcast."""
        return self.elementwise("mul", a, b, name=name)

    # Chips.

    def all_reduce(self, x: str, chips: int, name: str | None = None) -> str:
        """The sum of x over `chips` chips that run this program in step, on each of them. The shape of x. Raises
        ValueError for fewer than two chips."""
        return self.add_op("all_reduce", [x], {"chips": chips}, name)

    # Normalisation.

    def softmax(
        self, x: str, axis: int = -1, log: bool = False, name: str | None = None, sink: str | None = None
    ) -> str:
        """exp(x) over its sum along an axis; the logarithm of that with `log`. The exponential of a `sink`, which
        broadcasts and has one element along the axis, is added to the sum. The shape of x."""
        inputs = [x] if sink is None else [x, sink]
        return self.add_op("softmax", inputs, {"axis": self._axis(x, axis), "log": log}, name)

    def layer_norm(
        self, x: str, axis: int = -1, bias: bool = True, epsilon: float = 1e-5, name: str | None = None
    ) -> str:
        """Normalised over `axis` and all after it, with a new scale (and bias) of that shape."""
        axis = self._axis(x, axis)
        name = self.unique(name or "layer_norm")
        inputs = [x, self.weight(self.shape(x)[axis:], f"{name}.scale")]
        if bias:
            inputs.append(self.weight(self.shape(x)[axis:], f"{name}.bias"))
        return self.add_op("layer_norm", inputs, {"axis": axis, "epsilon": epsilon}, name)

    def rms_norm(self, x: str, axis: int = -1, epsilon: float = 1e-5, name: str | None = None) -> str:
        """x over its root mean square from `axis` on, times a new scale of that shape. The shape of x."""
        axis = self._axis(x, axis)
        name = self.unique(name or "rms_norm")
        inputs = [x, self.weight(self.shape(x)[axis:], f"{name}.scale")]
        return self.add_op("rms_norm", inputs, {"axis": axis, "epsilon": epsilon}, name)

    def group_norm(self, x: str, groups: int, epsilon: float = 1e-5, name: str | None = None) -> str:
        """x [N, C, *S] normalised per item and group of channels, with a new scale and bias [C]. Raises ValueError
        where the channels do not divide into the groups."""
        name = self.unique(name or "group_norm")
        inputs = [x, *self._channel_vectors(x, name, ("scale", "bias"))]
        return self.add_op("group_norm", inputs, {"groups": groups, "epsilon": epsilon}, name)

    def batch_norm(self, x: str, epsilon: float = 1e-5, name: str | None = None) -> str:
        """x [N, C, *S] normalised by new constants: scale, bias, mean and variance, each [C]."""
        name = self.unique(name or "batch_norm")
        inputs = [x, *self._channel_vectors(x, name, ("scale", "bias", "mean", "variance"))]
        return self.add_op("batch_norm", inputs, {"epsilon": epsilon}, name)

    def _channel_vectors(self, x: str, name: str, parts: Sequence[str]) -> list[str]:
        if len(self.shape(x)) < 2:
            raise ValueError(f"expected an input [N, C, *S], found {self.shape(x)} of {x}")
        return [self.weight((self.shape(x)[1],), f"{name}.{part}") for part in parts]

    # Movement.

    def rope(self, x: str, theta: float = 10000.0, position: int = 0, name: str | None = None) -> str:
        """Rotary embedding of x [..., S, D] for the positions from `position` on; tables are shared. Raises ValueError
        for an odd D."""
        if len(self.shape(x)) < 2 or self.shape(x)[-1] % 2:
            raise ValueError(f"rope: expected [..., S, D] with D even, found {self.shape(x)} of {x}")
        length, width = self.shape(x)[-2:]
        key = (length, width, theta, position)
        if key not in self._rope_tables:
            self._rope_tables[key] = self._make_rope_tables(*key)
        return self.add_op("rope", [x, *self._rope_tables[key]], {}, name)

    def _make_rope_tables(self, length: int, width: int, theta: float, position: int) -> tuple[str, str]:
        """Angles position * theta^(-2i/D): Su et al., RoFormer, 2021, equation 15."""
        frequency = theta ** (-np.arange(0, width, 2) / width)
        angle = np.arange(position, position + length)[:, None] * frequency
        shape = (length, width // 2)
        cos = self.weight(shape, "rope.cos", value=np.cos(angle).astype(np.float32))
        return cos, self.weight(shape, "rope.sin", value=np.sin(angle).astype(np.float32))

    def transpose(self, x: str, perm: Sequence[int], name: str | None = None) -> str:
        """Axis i of the result is axis perm[i] of x. Raises ValueError where perm is no order of the axes."""
        return self.add_op("transpose", [x], {"perm": tuple(perm)}, name)

    def reshape(self, x: str, shape: Sequence[int], name: str | None = None) -> str:
        """The same elements in another shape (a view: nothing moves). One extent may be -1: what is left."""
        elements = math.prod(self.shape(x))
        if list(shape).count(-1) > 1 or any(extent < 1 and extent != -1 for extent in shape):
            raise ValueError(f"reshape: expected positive extents and at most one -1, found {tuple(shape)}")
        known = math.prod(extent for extent in shape if extent != -1)
        found = tuple(elements // known if extent == -1 else extent for extent in shape)
        return self.add_op("reshape", [x], {"shape": found}, name)

    def concat(self, parts: Sequence[str], axis: int, name: str | None = None) -> str:
        """Tensors one behind the other along an axis; their other extents are equal."""
        if not parts:
            raise ValueError("concat: expected one tensor or more, found none")
        return self.add_op("concat", parts, {"axis": self._axis(parts[0], axis)}, name)

    def slice(self, x: str, axis: int, start: int, count: int, step: int = 1, name: str | None = None) -> str:
        """`count` elements along one axis, every `step`-th from `start` on; a negative step goes backwards."""
        axis = self._axis(x, axis)
        shape = self.shape(x)
        starts, steps, counts = [0] * len(shape), [1] * len(shape), list(shape)
        starts[axis], steps[axis], counts[axis] = start, step, count
        attributes = {"starts": tuple(starts), "steps": tuple(steps), "counts": tuple(counts)}
        return self.add_op("slice", [x], attributes, name)

    def split(
        self, x: str, parts: int | Sequence[int], axis: int, name: str | None = None
    ) -> tuple[str, ...]:
        """Slices along one axis: `parts` equal ones, or of the extents given. Raises ValueError where they do not add
        up to the extent of x."""
        extent = self.shape(x)[self._axis(x, axis)]
        sizes = [extent // parts] * parts if isinstance(parts, int) else list(parts)
        if sum(sizes) != extent:
            raise ValueError(f"split: parts {parts} do not add up to the extent {extent} of {x}")
        starts = [sum(sizes[:index]) for index in range(len(sizes))]
        return tuple(
            self.slice(x, axis, start, size, name=name) for start, size in zip(starts, sizes, strict=True)
        )

    def pad(
        self,
        x: str,
        begin: Sequence[int],
        end: Sequence[int],
        value: float = 0.0,
        name: str | None = None,
    ) -> str:
        """x with `begin` elements of `value` before and `end` behind, along every axis."""
        attributes = {"pad_begin": tuple(begin), "pad_end": tuple(end), "value": value}
        return self.add_op("pad", [x], attributes, name)

    def gather(self, data: str, indices: str, axis: int = 0, name: str | None = None) -> str:
        """Elements of one axis of data [..., A, ...] that integers name: [..., *indices, ...]; negative ones count from
        the end."""
        return self.add_op("gather", [data, indices], {"axis": self._axis(data, axis)}, name)

    def embedding(self, indices: str, entries: int, width: int, name: str | None = None) -> str:
        """Rows of a new table [entries, width] that indices [*I] name: [*I, width]."""
        name = self.unique(name or "embedding")
        return self.gather(self.weight((entries, width), f"{name}.weight"), indices, 0, name)

    def resize(
        self, x: str, scale: float | Sequence[float], mode: str = "nearest", name: str | None = None
    ) -> str:
        """x [N, C, *S] with spatial extents times `scale`, rounded down, by `mode` nearest or linear, in half-pixel
        coordinates. Raises ValueError for scales that are not one per spatial dimension."""
        spatial = self.shape(x)[2:]
        scales = (float(scale),) * len(spatial) if isinstance(scale, int | float) else tuple(scale)
        if len(scales) != len(spatial):
            raise ValueError(f"resize: expected {len(spatial)} scales, one per spatial dimension, found {scales}")
        attributes = {
            "mode": mode,
            "shape": tuple(int(extent * s) for extent, s in zip(spatial, scales, strict=True)),
            "scales": scales,
            "coordinates": "half_pixel",
            "rounding": "round_prefer_floor",
        }
        return self.add_op("resize", [x], attributes, name)

    def cache_update(self, cache: str, new: str, axis: int, position: int, name: str | None = None) -> str:
        """Write `new` into the state `cache` from `position` on; returns the cache."""
        attributes = {"axis": self._axis(cache, axis), "position": position}
        return self.add_op("cache_update", [cache, new], attributes, name)

    # Recurrent layers, written out step by step.

    def lstm(
        self, x: str, hidden: int, layers: int = 1, bidirectional: bool = False, name: str | None = None
    ) -> str:
        """x [T, N, I] to [T, N, hidden * directions]; the hidden states of the last layer."""
        return recurrent.stack(self, recurrent.lstm_pass, 4, x, hidden, layers, bidirectional, name or "lstm")

    def gru(
        self, x: str, hidden: int, layers: int = 1, bidirectional: bool = False, name: str | None = None
    ) -> str:
        """x [T, N, I] to [T, N, hidden * directions]; the hidden states of the last layer."""
        return recurrent.stack(self, recurrent.gru_pass, 3, x, hidden, layers, bidirectional, name or "gru")


def _entries(value: Any, rank: int) -> tuple[Any, ...]:
    """One entry per spatial dimension; a single number stands for all."""
    entries = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(entries) != rank:
        raise ValueError(f"expected {rank} entries, one per spatial dimension, found {entries}")
    return entries
