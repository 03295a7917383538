"""ONNX control flow, written out: If whose condition is known, Loop and Scan whose number of steps is.

Semantics: the ONNX operator definitions, onnx.ai/onnx/operators, of the opset of the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sim.graph.onnx_node import Bound, Handler, Importer, Node, Unsupported, Value, normal_axis

_MOST_STEPS = 4096


def _if(model: Importer, node: Node) -> list[str]:
    condition = model.constants.get(node.inputs[0])
    if condition is None:
        raise Unsupported(
            "a condition that the model computes: which branch runs depends on the numbers, which a simulation of time "
            "does not have; export the branch that is to be timed"
        )
    branch = node.attributes["then_branch" if condition.reshape(-1)[0] else "else_branch"]
    return _placed(model, node, model.run_subgraph(branch, {}))


def _loop(model: Importer, node: Node) -> list[str]:
    """Inputs: trip count, condition, carried values; the body's: step, condition, carried values."""
    count, going, body = model.value(node, 0), model.value(node, 1), node.attributes["body"]
    steps = _MOST_STEPS + 1 if count is None else int(count.reshape(-1)[0])
    if count is not None:
        _check_steps(steps)
    carried = [model.value_of(name) for name in node.inputs[2:]]
    kept = len(carried)
    rows: list[list[Value]] = []
    condition = np.asarray(True if going is None else going.reshape(-1)[0], np.bool_)
    names = [item.name for item in body.input]
    for step in range(steps):
        if not condition:
            break
        if step == _MOST_STEPS:
            raise Unsupported(f"a loop that has not ended after {_MOST_STEPS} steps")
        given: dict[str, Value] = dict(zip(names, (np.asarray(step, np.int64), condition, *carried), strict=True))
        found, *results = model.run_subgraph(body, given)
        if isinstance(found, str | tuple):
            raise Unsupported("a loop that ends when the model computes it to")
        condition, carried = found.reshape(()), results[:kept]
        rows.append(results[kept:])
    if not rows and len(node.outputs) > kept:
        raise Unsupported("a loop without steps: its outputs are empty")
    stacked = [_stacked(model, node, [row[index] for row in rows], 0) for index in range(len(node.outputs) - kept)]
    return _placed(model, node, [*carried, *stacked])


def _scan(model: Importer, node: Node) -> list[str]:
    """Inputs: states, then tensors of which every step gets one slice; outputs: states, then what the steps make."""
    if node.opset < 9:
        raise Unsupported("Scan of opset 8")
    body, scanned = node.attributes["body"], node.attributes["num_scan_inputs"]
    kept = len(node.inputs) - scanned
    states = [model.value_of(name) for name in node.inputs[:kept]]
    tensors = [model.tensor(node, kept + index) for index in range(scanned)]
    axes = node.get("scan_input_axes", [0] * scanned)
    back = node.get("scan_input_directions", [0] * scanned)
    places = [normal_axis(axis, len(model.shape(x))) for axis, x in zip(axes, tensors, strict=True)]
    steps = model.shape(tensors[0])[places[0]]
    _check_steps(steps)
    names = [item.name for item in body.input]
    rows: list[list[Value]] = []
    for step in range(steps):
        parts: list[Bound] = []
        for x, axis, reverse in zip(tensors, places, back, strict=True):
            shape = model.shape(x)
            part = model.builder.slice(x, axis, steps - 1 - step if reverse else step, 1, name=node.name)
            parts.append(model.builder.reshape(part, (*shape[:axis], *shape[axis + 1 :]), node.name))
        results = model.run_subgraph(body, dict(zip(names, (*states, *parts), strict=True)))
        states = results[:kept]
        rows.append(results[kept:])
    made = len(node.outputs) - kept
    out_axes, out_back = (node.get(f"scan_output_{what}", [0] * made) for what in ("axes", "directions"))
    stacked = [
        _stacked(model, node, [row[index] for row in (rows[::-1] if out_back[index] else rows)], out_axes[index])
        for index in range(made)
    ]
    return _placed(model, node, [*states, *stacked])


def _check_steps(steps: int) -> None:
    if steps > _MOST_STEPS:
        raise Unsupported(f"{steps} steps; at most {_MOST_STEPS} are written out")


def _stacked(model: Importer, node: Node, values: Sequence[Value], axis: int) -> Bound:
    """The values of all steps as one, along a new axis."""
    parts = [value for value in values if not isinstance(value, tuple)]
    arrays = [part for part in parts if not isinstance(part, str)]
    if len(arrays) == len(parts):
        return np.stack(arrays, axis)
    names = [part if isinstance(part, str) else model.weight(part, f"{node.name}.step") for part in parts]
    shape = model.shape(names[0])
    place = normal_axis(axis, len(shape) + 1)
    rows = [model.builder.reshape(name, (*shape[:place], 1, *shape[place:]), node.name) for name in names]
    return model.builder.concat(rows, place, node.name) if len(rows) > 1 else rows[0]


def _placed(model: Importer, node: Node, values: Sequence[Value]) -> list[str]:
    """Known values stay known, sequences sequences; the others are the tensors of the outputs."""
    for name, value in zip(node.outputs, values, strict=False):
        if not isinstance(value, str):
            model.bind(name, value)
    return [value if isinstance(value, str) else "" for value in values]


CONTROL: Mapping[str, Handler] = {"If": _if, "Loop": _loop, "Scan": _scan}
