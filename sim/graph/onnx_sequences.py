"""ONNX sequences of tensors, whose length is known while the file is read: handlers by operator type.

Semantics: the ONNX operator definitions, onnx.ai/onnx/operators, of the opset of the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from sim.graph.onnx_arrays import ARRAYS
from sim.graph.onnx_node import Bound, Handler, Importer, Node, Unsupported, normal_axis


def _sequence(model: Importer, node: Node) -> tuple[Bound, ...]:
    found = model.sequences.get(node.inputs[0])
    if found is None:
        raise Unsupported("a sequence that is an input of the model")
    return found


def _place(model: Importer, node: Node, index: int, length: int) -> int:
    given = model.value(node, index)
    return length if given is None else normal_axis(int(given.reshape(-1)[0]), max(length, 1))


def _keep(model: Importer, node: Node, items: Sequence[Bound]) -> list[str]:
    model.bind(node.outputs[0], tuple(items))
    return [""]


def _empty(model: Importer, node: Node) -> list[str]:
    return _keep(model, node, ())


def _construct(model: Importer, node: Node) -> list[str]:
    return _keep(model, node, [model.bound(name) for name in node.inputs])


def _insert(model: Importer, node: Node) -> list[str]:
    items = list(_sequence(model, node))
    given = model.value(node, 2)
    place = len(items) if given is None else int(given.reshape(-1)[0])
    items.insert(place, model.bound(node.inputs[1]))
    return _keep(model, node, items)


def _erase(model: Importer, node: Node) -> list[str]:
    items = list(_sequence(model, node))
    del items[_place(model, node, 1, len(items)) if node.has(1) else -1]
    return _keep(model, node, items)


def _at(model: Importer, node: Node) -> list[str]:
    items = _sequence(model, node)
    model.bind(node.outputs[0], items[_place(model, node, 1, len(items))])
    return [""]


def _length(model: Importer, node: Node) -> list[str]:
    model.bind(node.outputs[0], np.asarray(len(_sequence(model, node)), np.int64))
    return [""]


def _joined(model: Importer, node: Node) -> list[str]:
    """ConcatFromSequence, along an axis or a new one."""
    items = _sequence(model, node)
    if not items:
        raise ValueError("the sequence is empty")
    names = [model.weight(item, f"{node.name}.item") if not isinstance(item, str) else item for item in items]
    if node.get("new_axis", 0):
        shape = model.shape(names[0])
        axis = normal_axis(node.attributes["axis"], len(shape) + 1)
        names = [model.builder.reshape(name, (*shape[:axis], 1, *shape[axis:]), node.name) for name in names]
    else:
        axis = normal_axis(node.attributes["axis"], len(model.shape(names[0])))
    return [model.builder.concat(names, axis, node.name) if len(names) > 1 else names[0]]


def _split(model: Importer, node: Node) -> list[str]:
    """SplitToSequence: by sizes, by one size (the last part may be smaller), or one by one."""
    x, sizes = model.tensor(node, 0), model.value(node, 1)
    axis = normal_axis(node.get("axis", 0), len(model.shape(x)))
    extent = model.shape(x)[axis]
    step = 1 if sizes is None else int(sizes.reshape(-1)[0])
    if sizes is None or sizes.ndim == 0:
        lengths = [min(step, extent - start) for start in range(0, extent, step)]
    else:
        lengths = sizes.tolist()
    names = tuple(f"{node.name}.{index}" for index in range(len(lengths)))
    inner = replace(node, op_type="Split", outputs=names, attributes={"axis": axis, "split": lengths})
    parts = ARRAYS["Split"](model, inner)
    if sizes is None and not node.get("keepdims", 1):
        shape = model.shape(x)
        parts = [model.builder.reshape(part, (*shape[:axis], *shape[axis + 1 :]), node.name) for part in parts]
    return _keep(model, node, parts)


SEQUENCES: Mapping[str, Handler] = {
    "SequenceEmpty": _empty,
    "SequenceConstruct": _construct,
    "SequenceInsert": _insert,
    "SequenceErase": _erase,
    "SequenceAt": _at,
    "SequenceLength": _length,
    "ConcatFromSequence": _joined,
    "SplitToSequence": _split,
}
