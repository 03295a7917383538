"""ONNX LSTM, GRU and RNN, written out step by step: see sim/graph/recurrent.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sim.graph.onnx_node import Array, Handler, Importer, Node, Unsupported
from sim.graph.recurrent import Cell, Pass, States, gru_pass, lstm_pass, rnn_pass

_MOST_STEPS = 4096

_ACTIVATIONS: Mapping[str, str] = {"sigmoid": "sigmoid", "tanh": "tanh", "relu": "relu"}

_PASSES: Mapping[str, Pass] = {"LSTM": lstm_pass, "GRU": gru_pass, "RNN": rnn_pass}

_USUAL: Mapping[str, tuple[str, ...]] = {
    "LSTM": ("sigmoid", "tanh", "tanh"),
    "GRU": ("sigmoid", "tanh"),
    "RNN": ("tanh",),
}
"""Activations of one direction unless the node names others."""

_DIRECTIONS: Mapping[str, tuple[bool, ...]] = {
    "forward": (False,),
    "reverse": (True,),
    "bidirectional": (False, True),
}


def _recurrent(model: Importer, node: Node) -> list[str]:
    """Outputs Y [T, D, N, H], the last hidden state [D, N, H] and, of an LSTM, the last cell state [D, N, H]."""
    reverses = _DIRECTIONS[node.get("direction", "forward")]
    node.expect("input_forget", 0)
    if node.get("clip", None) is not None or node.has(7):
        raise Unsupported("clip" if not node.has(7) else "peepholes (input P)")
    batch_first = bool(node.get("layout", 0))
    x = model.tensor(node, 0)
    if batch_first:
        x = model.op("transpose", [x], {"perm": (1, 0, 2)}, node)
    steps, batch, _ = model.shape(x)
    lengths = model.value(node, 4)
    if lengths is not None and (lengths != steps).any():
        raise Unsupported("sequence_lens shorter than the input")
    if steps > _MOST_STEPS:
        raise Unsupported(f"{steps} time steps; at most {_MOST_STEPS} are written out")
    run = _PASSES[node.op_type]
    states = []
    for index, (cell, reverse) in enumerate(zip(_cells(model, node, reverses), reverses, strict=True)):
        hidden, memory = (_initial(model, node, place, index, batch, cell.hidden) for place in (5, 6))
        states.append(run(model.builder, x, cell, reverse, hidden, memory, f"{node.name}.{index}"))
    outputs = [
        _sequence(model, node, states, batch_first) if node.outputs[0] else "",
        _last(model, node, [state.last for state in states], batch_first),
    ]
    cells = [state.last_cell for state in states if state.last_cell]
    return [*outputs, _last(model, node, cells, batch_first)] if cells else outputs


def _cells(model: Importer, node: Node, reverses: Sequence[bool]) -> list[Cell]:
    """Weights W [D, G H, I], R [D, G H, H] and B [D, 2 G H] of every direction."""
    kernel, recurrent, bias = (model.value(node, index) for index in (1, 2, 3))
    if kernel is None or recurrent is None:
        raise ValueError("W or R is missing")
    hidden = recurrent.shape[2]
    usual = list(_USUAL[node.op_type]) * len(reverses)
    per_direction = len(_USUAL[node.op_type])
    found = [name.lower() for name in node.get("activations", usual)]
    if not set(found) <= set(_ACTIVATIONS) or len(found) != len(usual):
        raise Unsupported(f"activations = {found}; supported: {', '.join(_ACTIVATIONS)}")

    def place(value: Array, part: str, index: int) -> str:
        return model.weight(value, f"{node.name}.{index}.{part}")

    cells = []
    for index in range(len(reverses)):
        halves = (None, None) if bias is None else np.split(bias[index], 2)
        input_bias, recurrent_bias = (
            None if half is None else place(half, part, index)
            for half, part in zip(halves, ("input_bias", "recurrent_bias"), strict=True)
        )
        functions = tuple(_ACTIVATIONS[name] for name in found[index * per_direction :][:per_direction])
        cells.append(
            Cell(
                place(kernel[index], "kernel", index),
                place(recurrent[index], "recurrent", index),
                input_bias,
                recurrent_bias,
                hidden,
                True,
                functions,
                bool(node.get("linear_before_reset", 0)),
            )
        )
    return cells


def _initial(model: Importer, node: Node, place: int, index: int, batch: int, hidden: int) -> str | None:
    """The initial state of one direction, from input `place` [D, N, H]."""
    if not node.has(place):
        return None
    state = model.tensor(node, place)
    if node.get("layout", 0):
        state = model.op("transpose", [state], {"perm": (1, 0, 2)}, node)
    if model.shape(state)[0] > 1:
        state = model.builder.slice(state, 0, index, 1, name=node.name)
    return model.builder.reshape(state, (batch, hidden), node.name)


def _sequence(model: Importer, node: Node, states: Sequence[States], batch_first: bool) -> str:
    builder = model.builder
    batch, hidden = model.shape(states[0].last)
    shape = (len(states[0].hidden), 1, batch, hidden)
    parts = [
        builder.reshape(builder.concat(state.hidden, 0, node.name), shape, node.name) for state in states
    ]
    whole = builder.concat(parts, 1, node.name) if len(parts) > 1 else parts[0]
    return builder.transpose(whole, (2, 0, 1, 3), node.name) if batch_first else whole


def _last(model: Importer, node: Node, states: Sequence[str], batch_first: bool) -> str:
    builder = model.builder
    parts = [builder.reshape(state, (1, *model.shape(state)), node.name) for state in states]
    whole = builder.concat(parts, 0, node.name) if len(parts) > 1 else parts[0]
    return builder.transpose(whole, (1, 0, 2), node.name) if batch_first else whole


RECURRENT: Mapping[str, Handler] = dict.fromkeys(_PASSES, _recurrent)
