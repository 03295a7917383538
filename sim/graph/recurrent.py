"""LSTM and GRU layers written out as operators: one GEMM over all time steps for the inputs, then per step a
recurrent GEMMs and the arithmetic of the gates. Nothing is opaque, so nothing is free.

Equations and gate order are those of the ONNX operators LSTM and GRU (onnx.ai/onnx/operators); the same
layers are Hochreiter and Schmidhuber 1997 and Cho et al. 2014.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from sim.graph.builder import GraphBuilder


@dataclass(frozen=True, slots=True)
class Cell:
    """Weights of one direction of one layer, G gates (4 of an LSTM: i, o, f, c; 3 of a GRU: z, r, h).

    `kernel` is [G * H, I] and `recurrent` [G * H, H] where `transposed`, else [I, G * H] and [H, G * H].
    `input_bias` and `recurrent_bias` are [G * H].
    """

    kernel: str
    recurrent: str
    input_bias: str | None
    recurrent_bias: str | None
    hidden: int
    transposed: bool = False
    activations: tuple[str, ...] = ("sigmoid", "tanh", "tanh")
    linear_before_reset: bool = True


@dataclass(frozen=True, slots=True)
class States:
    """Outputs of one direction: hidden states [N, H] in time order, and the last hidden and cell state."""

    hidden: tuple[str, ...]
    last: str
    last_cell: str | None = None


Pass = Callable[["GraphBuilder", str, Cell, bool, "str | None", "str | None", str], States]


def stack(
    builder: GraphBuilder,
    run: Pass,
    gates: int,
    x: str,
    hidden: int,
    layers: int,
    bidirectional: bool,
    name: str,
) -> str:
    """Layers on x [T, N, I], each with new weights and a zero initial state: [T, N, hidden * directions]."""
    for layer in range(layers):
        steps, batch, features = builder.shape(x)
        directions = []
        for reverse in (False, True) if bidirectional else (False,):
            part = f"{name}.{layer}{'.reverse' if reverse else ''}"
            cell = Cell(
                builder.weight((features, gates * hidden), f"{part}.kernel"),
                builder.weight((hidden, gates * hidden), f"{part}.recurrent"),
                builder.weight((gates * hidden,), f"{part}.input_bias"),
                builder.weight((gates * hidden,), f"{part}.recurrent_bias"),
                hidden,
            )
            directions.append(run(builder, x, cell, reverse, None, None, part).hidden)
        x = join(builder, directions, (steps, batch, hidden), f"{name}.{layer}")
    return x


def join(
    builder: GraphBuilder, directions: list[tuple[str, ...]], shape: tuple[int, int, int], name: str
) -> str:
    """Hidden states [N, H] of every direction and step to one tensor [T, N, H * directions]."""
    steps, batch, hidden = shape
    merged = [
        builder.concat(step, 1, f"{name}.join") if len(step) > 1 else step[0]
        for step in zip(*directions, strict=True)
    ]
    flat = builder.concat(merged, 0, f"{name}.states")
    return builder.reshape(flat, (steps, batch, hidden * len(directions)), f"{name}.output")


def lstm_pass(
    builder: GraphBuilder,
    x: str,
    cell: Cell,
    reverse: bool,
    hidden: str | None,
    memory: str | None,
    name: str,
) -> States:
    """C_t = f C_(t-1) + i c and H_t = o h(C_t). Initial states [N, H] are zero where None."""
    size = cell.hidden
    gate, candidate, squash = cell.activations
    hidden = hidden or _zero_state(builder, x, size, f"{name}.initial_hidden")
    memory = memory or _zero_state(builder, x, size, f"{name}.initial_cell")
    outputs = {}
    for step, drive in _drives(builder, x, cell, reverse, name):
        part = f"{name}.{step}"
        product = _product(builder, hidden, cell.recurrent, cell, cell.recurrent_bias, part)
        total = builder.add(product, drive, name=part)
        opened = builder.elementwise(gate, builder.slice(total, 1, 0, 3 * size, name=part), name=part)
        admit, emit, keep = builder.split(opened, 3, 1, name=part)
        proposal = builder.slice(total, 1, 3 * size, size, name=part)
        proposal = builder.elementwise(candidate, proposal, name=part)
        kept = builder.mul(memory, keep, name=part)
        memory = builder.add(kept, builder.mul(proposal, admit, name=part), name=part)
        hidden = builder.mul(builder.elementwise(squash, memory, name=part), emit, name=f"{part}.hidden")
        outputs[step] = hidden
    return States(tuple(outputs[step] for step in sorted(outputs)), hidden, memory)


def rnn_pass(
    builder: GraphBuilder,
    x: str,
    cell: Cell,
    reverse: bool,
    hidden: str | None,
    memory: str | None,
    name: str,
) -> States:
    """H_t = f(x W + H_(t-1) R + biases): Elman, Finding Structure in Time, 1990. `memory` is not read."""
    hidden = hidden or _zero_state(builder, x, cell.hidden, f"{name}.initial_hidden")
    outputs = {}
    for step, drive in _drives(builder, x, cell, reverse, name):
        part = f"{name}.{step}"
        product = _product(builder, hidden, cell.recurrent, cell, cell.recurrent_bias, part)
        total = builder.add(product, drive, name=part)
        hidden = builder.elementwise(cell.activations[0], total, name=f"{part}.hidden")
        outputs[step] = hidden
    return States(tuple(outputs[step] for step in sorted(outputs)), hidden)


def gru_pass(
    builder: GraphBuilder,
    x: str,
    cell: Cell,
    reverse: bool,
    hidden: str | None,
    memory: str | None,
    name: str,
) -> States:
    """H_t = c + z (H_(t-1) - c) with the candidate c, the update gate z and the reset gate r.

    With `linear_before_reset` the reset gate scales the recurrent product (cuDNN), else the state before it.
    A GRU has no cell state: `memory` is not read.
    """
    size = cell.hidden
    hidden = hidden or _zero_state(builder, x, size, f"{name}.initial_hidden")
    candidate = _gru_step(builder, cell, name)
    outputs = {}
    for step, drive in _drives(builder, x, cell, reverse, name):
        hidden = candidate(drive, hidden, f"{name}.{step}")
        outputs[step] = hidden
    return States(tuple(outputs[step] for step in sorted(outputs)), hidden)


def _gru_step(builder: GraphBuilder, cell: Cell, name: str) -> Callable[[str, str, str], str]:
    """The function of one step: (input product [N, 3 H], state [N, H], name) to the next state."""
    size = cell.hidden
    gate, squash = cell.activations[:2]
    axis = 0 if cell.transposed else 1
    part_size = {"gates": (0, 2 * size), "candidate": (2 * size, size)}
    weights = {
        key: builder.slice(cell.recurrent, axis, *part, name=f"{name}.recurrent_{key}")
        for key, part in part_size.items()
    }
    biases = {
        key: cell.recurrent_bias and builder.slice(cell.recurrent_bias, 0, *part, name=f"{name}.bias_{key}")
        for key, part in part_size.items()
    }

    def step(drive: str, hidden: str, part: str) -> str:
        drives = {key: builder.slice(drive, 1, *span, name=part) for key, span in part_size.items()}
        product = _product(builder, hidden, weights["gates"], cell, biases["gates"], part)
        opened = builder.elementwise(gate, builder.add(product, drives["gates"], name=part), name=part)
        update, reset = builder.split(opened, 2, 1, name=part)
        before = hidden if cell.linear_before_reset else builder.mul(hidden, reset, name=part)
        product = _product(builder, before, weights["candidate"], cell, biases["candidate"], part)
        if cell.linear_before_reset:
            product = builder.mul(product, reset, name=part)
        proposal = builder.elementwise(
            squash, builder.add(product, drives["candidate"], name=part), name=part
        )
        change = builder.elementwise("sub", hidden, proposal, name=part)
        return builder.add(builder.mul(change, update, name=part), proposal, name=f"{part}.hidden")

    return step


def _drives(builder: GraphBuilder, x: str, cell: Cell, reverse: bool, name: str) -> Iterator[tuple[int, str]]:
    """Per time step, in the order of the pass: its index and the input product [N, G * H]."""
    steps, batch, features = builder.shape(x)
    flat = builder.reshape(x, (steps * batch, features), f"{name}.flat")
    product = _product(builder, flat, cell.kernel, cell, cell.input_bias, f"{name}.input")
    for step in reversed(range(steps)) if reverse else range(steps):
        yield step, builder.slice(product, 0, step * batch, batch, name=f"{name}.{step}.drive")


def _product(builder: GraphBuilder, a: str, weight: str, cell: Cell, bias: str | None, name: str) -> str:
    return builder.matmul(a, weight, transpose_b=cell.transposed, bias=bias, name=name)


def _zero_state(builder: GraphBuilder, x: str, size: int, name: str) -> str:
    shape = (builder.shape(x)[1], size)
    return builder.weight(shape, name, builder.tensors[x].dtype, np.zeros(shape, np.float32))
