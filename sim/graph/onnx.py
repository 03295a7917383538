"""Reads an ONNX file into a Graph.

Only what decides the work is kept: shapes, number formats, weights. Symbolic dimensions get numbers, arithmetic
on constants and shapes is done here, local functions are inlined. What cannot be understood is an InputError
that lists every complaint with its node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from sim.errors import Diagnostic, InputError, did_you_mean
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.graph.onnx_arrays import ARRAYS
from sim.graph.onnx_attention import ATTENTION
from sim.graph.onnx_constants import can_fold, fold
from sim.graph.onnx_contrib import CONTRIB
from sim.graph.onnx_control import CONTROL
from sim.graph.onnx_einsum import EINSUM
from sim.graph.onnx_file import (
    every_read,
    label,
    ordered_nodes,
    read_constants,
    read_model,
    read_node,
    write_out,
)
from sim.graph.onnx_functions import FUNCTIONS
from sim.graph.onnx_layers import LAYERS
from sim.graph.onnx_lookups import LOOKUPS
from sim.graph.onnx_node import DTYPES, Handler, Importer, Node, Unsupported, Value
from sim.graph.onnx_quantized import QUANTIZED, QUANTIZED_CONTRIB
from sim.graph.onnx_recurrent import RECURRENT
from sim.graph.onnx_sampling import SAMPLING
from sim.graph.onnx_sequences import SEQUENCES
from sim.graph.tensor import MAX_EXTENT

_PARTS = (LAYERS, FUNCTIONS, ARRAYS, LOOKUPS, RECURRENT, ATTENTION, QUANTIZED, CONTROL, SAMPLING, EINSUM, SEQUENCES)

_HANDLERS: Mapping[tuple[str, str], Handler] = {
    **{("", name): handler for part in _PARTS for name, handler in part.items()},
    **{("com.microsoft", name): handler for name, handler in {**CONTRIB, **QUANTIZED_CONTRIB}.items()},
}

_MOST_NAMES = 5


def load_onnx(
    path: Path, dims: Mapping[str, int] | None = None, dtype: str | None = None, batch: int | None = None
) -> Graph:
    """The model of an ONNX file.

    `dims` gives every symbolic dimension of the inputs a number; a dimension without a name is called
    `input.axis`, such as `x.0`; `batch` is the number of those that are the first of an input. `dtype`
    replaces the number formats of the file (indices and masks excepted).
    Graph.items is the first extent of the inputs and outputs where they all share it, else 1.

    Raises InputError with every complaint: a file that cannot be parsed, a cycle, missing external data,
    dimensions without a number, operators or attributes that are not supported.
    """
    path = Path(path)
    model = write_out(read_model(path), _understood)
    protos = ordered_nodes(model.graph, path)
    importer = Importer(GraphBuilder(path.stem, "fp32"))
    importer.constants = read_constants(model.graph, path)
    read = every_read(model.graph)
    importer.read = frozenset(read)
    dims = {**_first_dimensions(importer, model.graph, read, batch, dims or {}, path), **(dims or {})}
    _add_inputs(importer, model.graph, read, dims, path)
    opsets = {"" if item.domain == "ai.onnx" else item.domain: item.version for item in model.opset_import}
    complaints = _Nodes(importer, opsets, read, path).add(protos)
    if complaints:
        raise InputError(_with_sizes(complaints, dims))
    graph = _finish(importer, [item.name for item in model.graph.output], path)
    return graph.with_dtype(dtype) if dtype else graph


def _with_sizes(complaints: list[Diagnostic], dims: Mapping[str, int]) -> list[Diagnostic]:
    """With sizes that the user gave, the first complaint asks whether they fit each other: exporters give the batch of
    every input a name of its own."""
    first = next((each for each in complaints if not each.hint and not each.message.startswith("not supported")), None)
    if not dims or first is None:
        return complaints
    given = ", ".join(f"{name}={size}" for name, size in sorted(dims.items()))
    asked = replace(first, hint=f"do the sizes fit each other? {given}")
    return [asked if each is first else each for each in complaints]


def _understood(domain: str, op_type: str) -> bool:
    domain = "" if domain == "ai.onnx" else domain
    return (domain, op_type) in _HANDLERS or (not domain and can_fold(op_type))


def light_model_path(name: str) -> Path:
    """One of the real networks that the onnx package brings for its tests, such as `resnet50` or `vgg19`.

    Their structure is that of the ONNX model zoo; the weights are constants. Raises InputError.
    """
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    known = {file.stem.removeprefix("light_"): file for file in sorted(folder.glob("light_*.onnx"))}
    if name not in known:
        raise InputError(Diagnostic(f"no light model '{name}'", hint=f"one of {', '.join(known)}"))
    return known[name]


def _first_dimensions(
    importer: Importer,
    graph: onnx.GraphProto,
    read: set[str],
    batch: int | None,
    dims: Mapping[str, int],
    path: Path,
) -> dict[str, int]:
    """`batch` for the symbolic dimensions that come first in an input and have no number of their own. Raises
    InputError where there is none."""
    if batch is None:
        return {}
    taken = [item for item in graph.input if item.name not in importer.constants and item.name in read]
    first = [(item, next(iter(item.type.tensor_type.shape.dim), None)) for item in taken]
    names = [dim.dim_param or f"{item.name}.0" for item, dim in first if dim is not None and dim.dim_value <= 0]
    if not set(names) - dims.keys():
        given = ", ".join(f"--dim {name}={dims[name]}" for name in dict.fromkeys(names))
        hint = f"{given} gives the first dimension" if names else "export it with a symbolic first dimension"
        shapes = "; ".join(_written(item) for item in taken[:_MOST_NAMES])
        found = f"batch: the first dimension of every input has its number: {shapes}"
        raise InputError(Diagnostic(found, path, hint=hint))
    return dict.fromkeys(names, batch)


def _add_inputs(
    importer: Importer, graph: onnx.GraphProto, read: set[str], dims: Mapping[str, int], path: Path
) -> None:
    """Declare the inputs that are read and are no constants."""
    complaints: dict[str, Diagnostic] = {}
    symbols: set[str] = set()
    for item in graph.input:
        if item.name in importer.constants or item.name not in read:
            continue
        kind = item.type.tensor_type
        if not kind.HasField("shape") or kind.elem_type == onnx.TensorProto.UNDEFINED:
            complaints[item.name] = Diagnostic("input is no tensor of a known rank", path, path=item.name)
            continue
        found = _input_dtype(kind.elem_type)
        if found not in DTYPES:
            complaints[item.name] = Diagnostic(f"input holds {found}", path, path=item.name)
            continue
        shape = []
        for axis, dim in enumerate(kind.shape.dim):
            symbol = dim.dim_param or f"{item.name}.{axis}"
            extent = dim.dim_value if dim.dim_value > 0 else dims.get(symbol, 0)
            if dim.dim_value <= 0:
                symbols.add(symbol)
            if not 1 <= extent <= MAX_EXTENT:
                empty = dim.HasField("dim_value") and dim.dim_value == 0
                state = f"cannot be {extent}" if extent or symbol in dims else "has no number"
                state = "is 0, and an empty input computes nothing" if empty and symbol not in dims else state
                either = "" if axis else " or --batch N"
                hint = f"give it one with --dim {symbol}=N{either}, at most {MAX_EXTENT:,}; {_written(item)}"
                complaints[symbol] = Diagnostic(
                    f"dimension {symbol} {state}", path, path=item.name, hint=hint
                )
            shape.append(max(extent, 1))
        importer.names[item.name] = importer.builder.input(item.name, shape, DTYPES[found])
    for symbol in set(dims) - symbols:
        hint = did_you_mean(symbol, symbols) or f"symbolic dimensions: {', '.join(sorted(symbols)) or 'none'}"
        complaints[symbol] = Diagnostic(f"no dimension '{symbol}'", path, hint=hint)
    if complaints:
        raise InputError(list(complaints.values()))


def _written(item: onnx.ValueInfoProto) -> str:
    """An input as the file has it: `mask is [batch, 1, seq]`."""
    extents = [dim.dim_param or str(dim.dim_value or "?") for dim in item.type.tensor_type.shape.dim]
    return f"{item.name} is [{', '.join(extents)}]"


def _input_dtype(elem_type: int) -> str:
    try:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(elem_type)).name
    except KeyError:
        return f"elements of unknown type {elem_type}"


class _Nodes:
    """Adds nodes one by one; what follows a node that failed is passed over, so that all complaints are real."""

    def __init__(self, importer: Importer, opsets: Mapping[str, int], read: set[str], path: Path) -> None:
        self.importer = importer
        self.opsets = opsets
        self.read = read
        self.path = path
        self.failed: set[str] = set()
        self.unknown: dict[str, list[str]] = {}
        self.complaints: list[Diagnostic] = []
        importer.run_subgraph = self.run_subgraph

    def run_subgraph(self, graph: onnx.GraphProto, given: Mapping[str, Value]) -> list[Value]:
        """Add the nodes of a graph inside a node, with values for its inputs. Returns what its outputs stand for.

        Names are the file's own, so a body that runs again overwrites what it made before. Raises Unsupported.
        """
        for name, value in (*read_constants(graph, self.path).items(), *given.items()):
            self.importer.bind(name, value)
        for proto in graph.node:
            for name in proto.output:
                self.importer.forget(name)
            message = self._try(proto)
            if message is not None:
                raise Unsupported(f"inside: {label(proto)} ({proto.op_type}): {message or 'unsupported operator'}")
        return [self.importer.value_of(item.name) for item in graph.output]

    def add(self, protos: Sequence[onnx.NodeProto]) -> list[Diagnostic]:
        for proto in protos:
            message = self._try(proto)
            if message is None:
                continue
            self.failed.update(proto.output)
            if message:
                self.complaints.append(
                    Diagnostic(message, self.path, path=f"{label(proto)} ({proto.op_type})")
                )
        unsupported = [
            Diagnostic(f"unsupported operator {kind}", self.path, hint=f"nodes: {_listed(names)}")
            for kind, names in self.unknown.items()
        ]
        return unsupported + self.complaints

    def _try(self, proto: onnx.NodeProto) -> str | None:
        """Add one node. None if that worked, else what is wrong ("" where it has been said already)."""
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        handler = _HANDLERS.get((domain, proto.op_type))
        if not _understood(domain, proto.op_type):
            self.unknown.setdefault(f"{domain or 'ai.onnx'}::{proto.op_type}", []).append(label(proto))
            return ""
        if self.failed.intersection(proto.input):
            return ""
        try:
            self._add(read_node(proto, self.opsets), proto, handler)
        except Unsupported as error:
            return f"not supported: {error}"
        except KeyError as error:
            return f"{error} is missing or unknown"
        except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, MemoryError) as error:
            # a node that contradicts itself or its inputs
            return str(error) or type(error).__name__
        return None

    def _add(self, node: Node, proto: onnx.NodeProto, handler: Handler | None) -> None:
        importer = self.importer
        constants = fold(importer, node, proto)
        if constants is not None:
            importer.constants.update(zip(node.outputs, constants, strict=False))
            return
        if handler is None:
            raise Unsupported("on a tensor that the model computes; only constants are")
        outputs = handler(importer, node)
        for name in filter(None, node.outputs[len(outputs) :]):
            if name in self.read:
                raise Unsupported(f"output '{name}'")
        importer.names.update((name, tensor) for name, tensor in zip(node.outputs, outputs, strict=False) if tensor)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _finish(importer: Importer, outputs: Sequence[str], path: Path) -> Graph:
    if not importer.builder.ops:
        raise InputError(Diagnostic("the model computes nothing from its inputs", path))
    names = []
    sequences = [name for name in outputs if name in importer.sequences]
    if sequences:
        raise InputError([Diagnostic(f"output '{name}' is a sequence, not a tensor", path) for name in sequences])
    for output in outputs:
        if output not in importer.names:
            importer.names[output] = importer.weight(importer.constants[output], output)
        names.append(importer.names[output])
    builder = importer.builder
    shapes = [builder.shape(name) for name in (*builder.inputs, *names)]
    batches = {shape[0] if shape else 1 for shape in shapes}
    items = batches.pop() if len(batches) == 1 else 1
    return builder.build(list(dict.fromkeys(names)), items=items, source=str(path))
