"""An ONNX file on disk: parsing, node order, constants with their external data, attributes.

Raises InputError for a file that cannot be what it says it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import onnx

from sim.errors import Diagnostic, InputError
from sim.graph.onnx_node import DTYPES, Array, Node


def read_model(path: Path) -> onnx.ModelProto:
    """The file with its local functions inlined and its nodes in an order in which they can run."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(Diagnostic(f"cannot be read: {error.strerror}", path)) from error
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # an error of protobuf, which is onnx's dependency and not ours
        raise InputError(Diagnostic(f"not an ONNX file, or a truncated one: {error}", path)) from error
    if not model.graph.node:
        raise InputError(Diagnostic("not an ONNX model, or one without operators", path))
    if model.functions:
        from onnx import inliner

        try:
            model = inliner.inline_local_functions(model)
        except (RuntimeError, ValueError) as error:
            raise InputError(Diagnostic(f"a local function cannot be inlined: {error}", path)) from error
    return model


def write_out(model: onnx.ModelProto, understood: Callable[[str, str], bool]) -> onnx.ModelProto:
    """The model with operators that are not `understood` (domain, type) replaced by what the ONNX standard defines them
    as, where it does: a function of other operators, of which some may be defined that way too."""
    from onnx import inliner

    for _ in range(_MOST_LAYERS):
        opsets = {item.domain: item.version for item in model.opset_import}
        kinds = {(node.domain, node.op_type) for node in model.graph.node}
        # Of a damaged file names may be bytes that are no text.
        named = sorted(each for each in kinds if all(isinstance(name, str) for name in each))
        strange = [each for each in named if not understood(*each)]
        defined = [each for each in strange if _defined(*each, opsets.get(each[0], 1))]
        if not defined:
            break
        try:
            model = inliner.inline_selected_functions(model, defined, inline_schema_functions=True)
        except (RuntimeError, ValueError):  # it does not fit its definition: the node will be complained about
            break
    return model


_MOST_LAYERS = 4
"""How deep definitions of operators by operators are followed."""


def _defined(domain: str, op_type: str, opset: int) -> bool:
    if not onnx.defs.has(op_type, opset, domain):
        return False
    schema: Any = onnx.defs.get_schema(op_type, opset, domain)  # whose type stub lacks both
    return bool(schema.has_function or schema.has_context_dependent_function)


def ordered_nodes(graph: onnx.GraphProto, path: Path) -> list[onnx.NodeProto]:
    """The nodes so that each follows those it reads from. Raises InputError for cycles and unknown names."""
    given = {item.name for item in (*graph.input, *graph.initializer)}
    given |= {item.values.name for item in graph.sparse_initializer}
    producers: dict[str, int] = {}
    complaints = []
    for index, node in enumerate(graph.node):
        for name in filter(None, node.output):
            if name in producers or name in given:
                complaints.append(Diagnostic(f"tensor '{name}' is produced twice", path, path=label(node)))
            producers[name] = index
    edges: dict[int, list[int]] = {}
    for index, node in enumerate(graph.node):
        for name in filter(None, node.input):
            if name not in producers and name not in given:
                message = f"input '{name}' is produced by no node"
                complaints.append(Diagnostic(message, path, path=label(node)))
        edges[index] = [producers[name] for name in _reads(node) if name in producers]
    unknown = [item.name for item in graph.output if item.name not in producers and item.name not in given]
    complaints += [Diagnostic(f"output '{name}' is produced by no node", path) for name in unknown]
    if not graph.output:
        complaints.append(Diagnostic("the graph has no output", path))
    if complaints:
        raise InputError(complaints)
    if all(source < index for index, sources in edges.items() for source in sources):
        return list(graph.node)
    try:
        return [graph.node[index] for index in TopologicalSorter(edges).static_order()]
    except CycleError as error:
        cycle = " -> ".join(label(graph.node[index]) for index in error.args[1][::-1])
        raise InputError(Diagnostic(f"the graph has a cycle: {cycle}", path)) from error


def _reads(node: onnx.NodeProto) -> set[str]:
    """What a node reads, by its inputs or from inside the graphs that it holds."""
    found = set(filter(None, node.input))
    for inner in _inner_graphs(node):
        own = {item.name for item in (*inner.input, *inner.initializer)}
        own |= {name for part in inner.node for name in part.output}
        found |= {name for part in inner.node for name in _reads(part)} - own
        found |= {item.name for item in inner.output} - own
    return found


def every_read(graph: onnx.GraphProto) -> set[str]:
    """Names that some node reads or some output is, in the graph and those inside its nodes."""
    found = {item.name for item in graph.output}
    for node in graph.node:
        found.update(node.input)
        for inner in _inner_graphs(node):
            found |= every_read(inner)
    return found


def _inner_graphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [attribute.g for attribute in node.attribute if attribute.type == onnx.AttributeProto.GRAPH]


def label(node: onnx.NodeProto) -> str:
    """The node's name, or its first output where it has none."""
    return node.name or next(filter(None, node.output), node.op_type)


def read_constants(graph: onnx.GraphProto, path: Path) -> dict[str, Array]:
    """Initialisers by name. External ones are mapped, not read: timing never looks at them."""
    constants: dict[str, Array] = {}
    complaints = [
        Diagnostic("sparse initialisers are not supported", path, path=item.values.name)
        for item in graph.sparse_initializer
    ]
    for tensor in graph.initializer:
        try:
            constants[tensor.name] = _array(tensor, path.parent)
        except (ValueError, TypeError, KeyError, OSError, OverflowError) as error:
            complaints.append(Diagnostic(f"initialiser cannot be read: {error}", path, path=tensor.name))
    if complaints:
        raise InputError(complaints)
    return constants


def _array(tensor: onnx.TensorProto, folder: Path) -> Array:
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        value = np.asarray(onnx.numpy_helper.to_array(tensor))
        if value.dtype.name not in DTYPES:
            raise ValueError(f"elements of type {value.dtype.name}")
        return value
    entries = {entry.key: entry.value for entry in tensor.external_data}
    place = PurePosixPath(entries["location"])
    if place.is_absolute() or ".." in place.parts:
        raise ValueError(f"external data '{place}' lies outside the folder of the model")
    file = folder / place
    if not file.is_file():
        raise ValueError(f"external data '{place}' is missing; expected {file}")
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    if "int4" in dtype.name:
        return np.asarray(onnx.numpy_helper.to_array(tensor, str(folder)))  # packed: cannot be mapped
    shape, offset = tuple(tensor.dims), int(entries.get("offset", 0))
    needed = offset + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if needed > file.stat().st_size:
        raise ValueError(f"external data '{place}' is too short: {needed} bytes needed")
    return np.memmap(file, dtype, "r", offset, shape) if 0 not in shape else np.zeros(shape, dtype)


def read_node(proto: onnx.NodeProto, opsets: Mapping[str, int]) -> Node:
    """Attributes as Python values. Raises ValueError where one is not of the type that its operator declares."""
    domain = "" if proto.domain == "ai.onnx" else proto.domain
    opset = opsets.get(domain, 1)
    declared: Mapping[str, Any] = {}
    if onnx.defs.has(proto.op_type, opset, domain):
        declared = onnx.defs.get_schema(proto.op_type, opset, domain).attributes
    attributes = {}
    for attribute in proto.attribute:
        schema = declared.get(attribute.name)
        if schema is not None and int(schema.type.value) != attribute.type:
            raise ValueError(f"attribute {attribute.name} is not of the type {schema.type.name}")
        attributes[attribute.name] = _plain(onnx.helper.get_attribute_value(attribute))
    return Node(
        proto.op_type, domain, label(proto), tuple(proto.input), tuple(proto.output), attributes, opset
    )


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, onnx.TensorProto):
        return _array(value, Path())
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
