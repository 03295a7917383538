"""What the handlers of ONNX operators work with: a node, and the graph that is growing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sim.graph.builder import GraphBuilder
from sim.graph.shapes import Shape

if TYPE_CHECKING:
    import onnx

Array = npt.NDArray[Any]
Bound = str | Array
"""What a name of the file stands for: a tensor of the graph, or a number that is known."""

Value = Bound | tuple[Bound, ...]
"""The same, or a sequence of them."""
Handler = Callable[["Importer", "Node"], Sequence[str]]
"""Adds a node's operators and returns the tensor of each of its outputs, or of the first ones."""

DTYPES: Mapping[str, str] = {
    "float16": "fp16",
    "bfloat16": "bf16",
    "float32": "fp32",
    "float64": "fp64",
    "bool": "bool",
    "int4": "int4",
    "uint4": "int4",
    "int8": "int8",
    "uint8": "int8",
    "int16": "int16",
    "uint16": "int16",
    "int32": "int32",
    "uint32": "int32",
    "int64": "int64",
    "uint64": "int64",
    "float8_e4m3fn": "fp8",
    "float8_e4m3fnuz": "fp8",
    "float8_e5m2": "fp8",
    "float8_e5m2fnuz": "fp8",
}
"""Our number format for each NumPy (or ml_dtypes) type that ONNX tensors have; of the same width."""


class Unsupported(Exception):
    """A node that ONNX allows and this importer does not understand."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the file, its attributes as plain Python values; absent inputs are empty names."""

    op_type: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int

    def get(self, attribute: str, default: Any) -> Any:
        return self.attributes.get(attribute, default)

    def has(self, index: int) -> bool:
        """Whether input `index` is there."""
        return index < len(self.inputs) and bool(self.inputs[index])

    def expect(self, attribute: str, *allowed: Any) -> None:
        """Raise Unsupported where an attribute has another value than these (the first is the default)."""
        found = self.get(attribute, allowed[0])
        if found not in allowed:
            raise Unsupported(f"{attribute} = {found!r}; supported: {', '.join(map(repr, allowed))}")


class Importer:
    """The graph under construction, the constants known so far, which names are read at all, and which tensor each ONNX
    name stands for."""

    def __init__(self, builder: GraphBuilder) -> None:
        self.builder = builder
        self.constants: dict[str, Array] = {}
        self.read: frozenset[str] = frozenset()
        self.names: dict[str, str] = {}
        self.sequences: dict[str, tuple[Bound, ...]] = {}
        self.run_subgraph: Callable[[onnx.GraphProto, Mapping[str, Value]], list[Value]] = _no_subgraphs

    def bound(self, name: str) -> Bound:
        """What a name stands for now. Raises KeyError where it stands for no tensor."""
        return self.constants[name] if name in self.constants else self.names[name]

    def value_of(self, name: str) -> Value:
        """What a name stands for now, a sequence too. Raises KeyError where it stands for nothing."""
        return self.sequences[name] if name in self.sequences else self.bound(name)

    def bind(self, name: str, value: Value) -> None:
        """Let a name stand for something from now on, and for nothing else."""
        if not isinstance(value, str | tuple) and self.constants.get(name) is value:
            return
        self.forget(name)
        if isinstance(value, tuple):
            self.sequences[name] = value
        elif isinstance(value, str):
            self.names[name] = value
        else:
            self.constants[name] = value

    def forget(self, name: str) -> None:
        for known in (self.names, self.constants, self.sequences):
            known.pop(name, None)

    def tensor(self, node: Node, index: int) -> str:
        """The tensor of an input; a constant becomes a weight when it is first read."""
        name = node.inputs[index] if node.has(index) else ""
        if not name:
            raise Unsupported(f"input {index + 1} is missing")
        if name not in self.names:
            self.names[name] = self.weight(self.constants[name], name)
        return self.names[name]

    def tensors(self, node: Node) -> list[str]:
        return [self.tensor(node, index) for index, name in enumerate(node.inputs) if name]

    def weight(self, value: Array, name: str) -> str:
        dtype = DTYPES.get(value.dtype.name)
        if dtype is None:
            raise Unsupported(f"constant {name} holds {value.dtype.name}")
        return self.builder.weight(value.shape, name, dtype, value)

    def value(self, node: Node, index: int) -> Array | None:
        """The number(s) of an input, None where it is absent. Raises Unsupported where it is computed."""
        if not node.has(index):
            return None
        if node.inputs[index] not in self.constants:
            raise Unsupported(f"input {node.inputs[index]} is computed by the model; a constant is needed")
        return self.constants[node.inputs[index]]

    def ints(self, node: Node, attribute: str, index: int) -> tuple[int, ...] | None:
        """A list of integers that older opsets give as an attribute and newer ones as an input."""
        found = node.attributes.get(attribute)
        found = self.value(node, index) if found is None else found
        return None if found is None else tuple(int(item) for item in np.ravel(found))

    def shape(self, tensor: str) -> Shape:
        return self.builder.shape(tensor)

    def dtype(self, tensor: str) -> str:
        return self.builder.tensors[tensor].dtype

    def op(
        self,
        kind: str,
        inputs: Sequence[str],
        attributes: Mapping[str, Any],
        node: Node,
        dtype: str | None = None,
    ) -> str:
        return self.builder.add_op(kind, inputs, attributes, node.name, dtype=dtype)

    def function(
        self,
        node: Node,
        function: str,
        *inputs: str,
        parameters: Sequence[float] = (),
        dtype: str | None = None,
    ) -> str:
        """An elementwise operator."""
        attributes = {"function": function, "parameters": tuple(float(number) for number in parameters)}
        return self.op("elementwise", inputs, attributes, node, dtype)

    def scalar(self, node: Node, value: float, like: str) -> str:
        """A constant of the number format of `like`."""
        return self.builder.weight((), f"{node.name}.constant", self.dtype(like), np.array(value, np.float32))


def _no_subgraphs(graph: onnx.GraphProto, given: Mapping[str, Value]) -> list[Value]:
    raise Unsupported("a graph inside an operator")


def normal_axis(axis: int, rank: int) -> int:
    """An axis counted from 0. Raises ValueError where it is outside."""
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} is outside a tensor of rank {rank}")
    return axis % rank
