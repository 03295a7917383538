"""A graph under construction: tensors, operators, names. What layers are made of them: sim/graph/builder.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy.typing as npt

from sim.graph.graph import Graph
from sim.graph.op import TRUTHS, Op
from sim.graph.shapes import Shape, infer_shape
from sim.graph.tensor import Role, Tensor


class GraphCore:
    """Tensors and operators in the order in which they were added. Names are made unique."""

    def __init__(self, name: str, dtype: str) -> None:
        self.name = name
        self.dtype = dtype
        self.tensors: dict[str, Tensor] = {}
        self.values: dict[str, npt.NDArray[Any]] = {}
        self.ops: list[Op] = []
        self.inputs: list[str] = []
        self.idle: list[str] = []
        self.causal: list[str] = []
        self._counts: dict[str, int] = {}
        self._block = -1

    def shape(self, tensor: str) -> Shape:
        """Extents of a tensor. Raises ValueError where there is none of that name."""
        if tensor not in self.tensors:
            raise ValueError(f"there is no tensor {tensor!r}")
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
        """What the model is given, in its dtype unless told. Raises ValueError for a name that is taken, an unknown
        dtype or an extent below 1."""
        self.inputs.append(self._declare(name, shape, dtype, "input"))
        return name

    def state(self, name: str, shape: Sequence[int], dtype: str | None = None) -> str:
        """What is kept from one pass to the next, such as a key-value cache. Errors as `input`."""
        return self._declare(name, shape, dtype, "state")

    def weight(
        self,
        shape: Sequence[int],
        name: str | None = None,
        dtype: str | None = None,
        value: npt.NDArray[Any] | None = None,
    ) -> str:
        """A constant, with its numbers where they are known (timing needs none). Raises ValueError as `input`, and for
        a value of another shape."""
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
        """The graph so far, with these tensors as outputs; `unit`, `items`, `source` and `kernel` as of Graph. Raises
        ValueError for an output that nothing computes."""
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
            tuple(self.idle),
            causal=tuple(self.causal),
        )

    def _axis(self, x: str, axis: int) -> int:
        rank = len(self.shape(x))
        if not -rank <= axis < rank:
            raise ValueError(f"axis {axis} is outside the shape {self.shape(x)} of {x}")
        return axis % rank
