"""Builds a Graph operator by operator. Methods take and return tensor names; shapes are inferred.

builder = GraphBuilder("tiny", "int8")
x = builder.input("x", (1, 3, 32, 32))
x = builder.relu(builder.conv(x, 16, 3, padding="same"))
graph = builder.build([builder.linear(builder.reshape(x, (1, -1)), 10)])
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sim.graph import recurrent
from sim.graph.graph import Graph
from sim.graph.op import TRUTHS, Op
from sim.graph.shapes import Shape, infer_shape, same_padding
from sim.graph.tensor import Role, Tensor

Extents = int | Sequence[int]
Padding = int | Literal["same"] | Sequence[int] | Sequence[tuple[int, int]]


class GraphBuilder:
    """A graph under construction. Names are made unique; ValueError tells what does not fit."""

    def __init__(self, name: str, dtype: str) -> None:
        self.name = name
        self.dtype = dtype
        self.tensors: dict[str, Tensor] = {}
        self.values: dict[str, npt.NDArray[Any]] = {}
        self.ops: list[Op] = []
        self.inputs: list[str] = []
        self._counts: dict[str, int] = {}
        self._block = -1
        self._rope_tables: dict[tuple[Any, ...], tuple[str, str]] = {}

    def shape(self, tensor: str) -> Shape:
        return self.tensors[tensor].shape

    @contextmanager
    def block(self, index: int) -> Iterator[None]:
        """Operators added inside belong to repeated block `index`."""
        outer, self._block = self._block, index
        try:
            yield
        finally:
            self._block = outer

    def unique(self, stem: str) -> str:
        """`stem`, or `stem_2`, `stem_3`, ... where that name is taken."""
        name = stem
        while name in self.tensors:
            self._counts[stem] = self._counts.get(stem, 1) + 1
            name = f"{stem}_{self._counts[stem]}"
        return name

    # Tensors that are not computed.

    def input(self, name: str, shape: Sequence[int], dtype: str | None = None) -> str:
        self.inputs.append(self._declare(name, shape, dtype, "input"))
        return name

    def state(self, name: str, shape: Sequence[int], dtype: str | None = None) -> str:
        return self._declare(name, shape, dtype, "state")

    def weight(
        self,
        shape: Sequence[int],
        name: str | None = None,
        dtype: str | None = None,
        value: npt.NDArray[Any] | None = None,
    ) -> str:
        if value is not None and value.shape != tuple(shape):
            raise ValueError(f"weight {name}: expected a value of shape {tuple(shape)}, found {value.shape}")
        name = self._declare(self.unique(name or "weight"), shape, dtype, "weight")
        if value is not None:
            self.values[name] = value
        return name

    def _declare(self, name: str, shape: Sequence[int], dtype: str | None, role: Role) -> str:
        if name in self.tensors:
            raise ValueError(f"tensor {name!r} exists already")
        self.tensors[name] = Tensor(name, tuple(shape), dtype or self.dtype, role)
        return name

    # Operators.

    def add_op(
        self,
        kind: str,
        inputs: Sequence[str],
        attributes: Mapping[str, Any] | None = None,
        name: str | None = None,
        block: int | None = None,
        dtype: str | None = None,
    ) -> str:
        """Append an operator and return its output, which bears the operator's name.

        A cache_update writes in place: its output is the cache. The dtype is that of the first input (of the
        first choice for `where`, bool for comparisons) unless given.
        """
        attributes = attributes or {}
        for tensor in inputs:
            if tensor not in self.tensors:
                raise ValueError(f"{name or kind}: there is no tensor {tensor!r}")
        try:
            shape = infer_shape(kind, attributes, [self.shape(tensor) for tensor in inputs])
        except ValueError as error:
            raise ValueError(f"{name}: {error}" if name else str(error)) from None
        name = self.unique(name or attributes.get("function", kind))
        output = inputs[0] if kind == "cache_update" else name
        if output == name:
            self.tensors[name] = Tensor(name, shape, dtype or self._result_dtype(inputs, attributes))
        self.ops.append(
            Op(name, kind, tuple(inputs), output, attributes, block=self._block if block is None else block)
        )
        return output

    def _result_dtype(self, inputs: Sequence[str], attributes: Mapping[str, Any]) -> str:
        function = attributes.get("function")
        if function in TRUTHS or function in ("argmax", "argmin") or attributes.get("indices"):
            return "bool" if function in TRUTHS else "int64"
        return self.tensors[inputs[1 if function == "where" else 0]].dtype

    def build(
        self,
        outputs: Sequence[str],
        unit: str = "inferences",
        items: int = 1,
        source: str = "",
        kernel: bool = False,
    ) -> Graph:
        return Graph(
            self.name,
            dict(self.tensors),
            tuple(self.ops),
            tuple(self.inputs),
            tuple(outputs),
            dict(self.values),
            unit,
            items,
            source,
            kernel,
        )

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
        """Convolution of x [N, C, *S] with a new weight [channels, C / groups, *kernel]."""
        attributes = self._window(x, kernel, stride, padding, dilation)
        name = self.unique(name or "conv")
        shape = (channels, self.shape(x)[1] // groups, *attributes["kernel"])
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
        """Transposed convolution of x [N, C, *S] with a new weight [C, channels / groups, *kernel]."""
        if padding == "same":
            raise ValueError("conv_transpose: padding 'same' has no one meaning here; give numbers")
        attributes = self._window(x, kernel, stride, padding, dilation)
        attributes["output_pad"] = _entries(output_pad, len(self.shape(x)) - 2)
        name = self.unique(name or "conv_transpose")
        shape = (self.shape(x)[1], channels // groups, *attributes["kernel"])
        inputs = self._with_parameters(x, shape, channels if bias else 0, name)
        return self.add_op("conv_transpose", inputs, {**attributes, "groups": groups}, name)

    def linear(self, x: str, features: int, bias: bool = True, name: str | None = None) -> str:
        """x [..., K] times a new weight [K, features]."""
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
        attributes = {"transpose_a": transpose_a, "transpose_b": transpose_b}
        return self.add_op("matmul", [a, b, bias] if bias else [a, b], attributes, name)

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
        """Maximum or average over windows; the stride is the kernel unless given."""
        attributes = self._window(x, kernel, kernel if stride is None else stride, padding, dilation)
        attributes |= {"function": function, "count_include_pad": count_include_pad}
        return self.add_op("pool", [x], attributes, name or f"{function}_pool")

    def global_average_pool(self, x: str, name: str | None = None) -> str:
        """x [N, C, *S] to [N, C, 1, ...]."""
        return self.reduce(
            x, "mean", tuple(range(2, len(self.shape(x)))), True, name or "global_average_pool"
        )

    def reduce(
        self, x: str, function: str, axes: Sequence[int], keepdims: bool = True, name: str | None = None
    ) -> str:
        rank = len(self.shape(x))
        found = tuple(sorted(axis % rank for axis in axes))
        return self.add_op("reduce", [x], {"function": function, "axes": found, "keepdims": keepdims}, name)

    def elementwise(
        self, function: str, *inputs: str, parameters: Sequence[float] = (), name: str | None = None
    ) -> str:
        return self.add_op(
            "elementwise", inputs, {"function": function, "parameters": tuple(parameters)}, name
        )

    def relu(self, x: str, name: str | None = None) -> str:
        return self.elementwise("relu", x, name=name)

    def gelu(self, x: str, name: str | None = None) -> str:
        return self.elementwise("gelu", x, name=name)

    def silu(self, x: str, name: str | None = None) -> str:
        return self.elementwise("silu", x, name=name)

    def sigmoid(self, x: str, name: str | None = None) -> str:
        return self.elementwise("sigmoid", x, name=name)

    def tanh(self, x: str, name: str | None = None) -> str:
        return self.elementwise("tanh", x, name=name)

    def add(self, a: str, b: str, name: str | None = None) -> str:
        return self.elementwise("add", a, b, name=name)

    def mul(self, a: str, b: str, name: str | None = None) -> str:
        return self.elementwise("mul", a, b, name=name)

    # Normalisation.

    def softmax(self, x: str, axis: int = -1, log: bool = False, name: str | None = None) -> str:
        return self.add_op("softmax", [x], {"axis": self._axis(x, axis), "log": log}, name)

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
        axis = self._axis(x, axis)
        name = self.unique(name or "rms_norm")
        inputs = [x, self.weight(self.shape(x)[axis:], f"{name}.scale")]
        return self.add_op("rms_norm", inputs, {"axis": axis, "epsilon": epsilon}, name)

    def group_norm(self, x: str, groups: int, epsilon: float = 1e-5, name: str | None = None) -> str:
        name = self.unique(name or "group_norm")
        inputs = [x, *self._channel_vectors(x, name, ("scale", "bias"))]
        return self.add_op("group_norm", inputs, {"groups": groups, "epsilon": epsilon}, name)

    def batch_norm(self, x: str, epsilon: float = 1e-5, name: str | None = None) -> str:
        name = self.unique(name or "batch_norm")
        inputs = [x, *self._channel_vectors(x, name, ("scale", "bias", "mean", "variance"))]
        return self.add_op("batch_norm", inputs, {"epsilon": epsilon}, name)

    def _channel_vectors(self, x: str, name: str, parts: Sequence[str]) -> list[str]:
        return [self.weight((self.shape(x)[1],), f"{name}.{part}") for part in parts]

    def _axis(self, x: str, axis: int) -> int:
        rank = len(self.shape(x))
        if not -rank <= axis < rank:
            raise ValueError(f"axis {axis} is outside the shape {self.shape(x)} of {x}")
        return axis % rank

    # Movement.

    def rope(self, x: str, theta: float = 10000.0, position: int = 0, name: str | None = None) -> str:
        """Rotary embedding of x [..., S, D] for the positions from `position` on; tables are shared."""
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
        return self.add_op("transpose", [x], {"perm": tuple(perm)}, name)

    def reshape(self, x: str, shape: Sequence[int], name: str | None = None) -> str:
        """One extent may be -1: what is left."""
        known = math.prod(extent for extent in shape if extent != -1)
        found = tuple(self.tensors[x].elements // known if extent == -1 else extent for extent in shape)
        return self.add_op("reshape", [x], {"shape": found}, name)

    def concat(self, parts: Sequence[str], axis: int, name: str | None = None) -> str:
        return self.add_op("concat", parts, {"axis": self._axis(parts[0], axis)}, name)

    def slice(self, x: str, axis: int, start: int, count: int, step: int = 1, name: str | None = None) -> str:
        """`count` elements along one axis, from `start` on."""
        axis = self._axis(x, axis)
        shape = self.shape(x)
        starts, steps, counts = [0] * len(shape), [1] * len(shape), list(shape)
        starts[axis], steps[axis], counts[axis] = start, step, count
        attributes = {"starts": tuple(starts), "steps": tuple(steps), "counts": tuple(counts)}
        return self.add_op("slice", [x], attributes, name)

    def split(
        self, x: str, parts: int | Sequence[int], axis: int, name: str | None = None
    ) -> tuple[str, ...]:
        """Slices along one axis: `parts` equal ones, or of the extents given."""
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
        """`begin` and `end` count elements per axis."""
        attributes = {"pad_begin": tuple(begin), "pad_end": tuple(end), "value": value}
        return self.add_op("pad", [x], attributes, name)

    def gather(self, data: str, indices: str, axis: int = 0, name: str | None = None) -> str:
        return self.add_op("gather", [data, indices], {"axis": self._axis(data, axis)}, name)

    def embedding(self, indices: str, entries: int, width: int, name: str | None = None) -> str:
        """Rows of a new table [entries, width]."""
        name = self.unique(name or "embedding")
        return self.gather(self.weight((entries, width), f"{name}.weight"), indices, 0, name)

    def resize(
        self, x: str, scale: float | Sequence[float], mode: str = "nearest", name: str | None = None
    ) -> str:
        """Spatial extents times `scale`, rounded down; half-pixel coordinates."""
        spatial = self.shape(x)[2:]
        scales = (float(scale),) * len(spatial) if isinstance(scale, int | float) else tuple(scale)
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
