"""Mixtures of experts: a layer whose tokens each go to a few of many feed-forward networks.

Which experts a token chooses is data. Here they are all chosen equally often: the choices of all tokens, in order, go
to one expert after the other. So every expert that is in use has the same number of tokens, to one, and a pass of few
tokens reads the weights of as many experts as it has choices; the others stay in memory. What the router costs, and the
shares that it gives, are computed. Structure: Jiang et al., Mixtral of Experts, 2024; Qwen3 Technical Report, 2025.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sim.graph.transformer_step import Step

Network = Callable[[Step, str, str], str]


def mixture(step: Step, x: str, name: str, network: Network) -> str:
    """x [T, hidden] through the experts: [T, hidden]. `network` makes one of them, with weights of its own."""
    builder, config = step.builder, step.config
    tokens, width = builder.shape(x)
    count = config.experts_per_token
    gates = _gates(step, x, f"{name}.router")
    choices = tokens * count
    used = min(config.experts, choices)
    results, order = [], []
    for expert in range(used):
        mine = np.arange(expert, choices, used)
        rows = mine // count
        part = f"{name}.expert{expert}"
        sent = x
        if rows.tolist() != list(range(tokens)):
            sent = builder.gather(x, builder.weight(rows.shape, f"{part}.rows", "int32", rows), 0, f"{part}.tokens")
        results.append(network(step, sent, part))
        order.append(mine)
    _keep_idle(step, name, used)
    y = builder.concat(results, 0, f"{name}.experts") if len(results) > 1 else results[0]
    back = np.argsort(np.concatenate(order), kind="stable")
    if back.tolist() != list(range(choices)):
        y = builder.gather(y, builder.weight(back.shape, f"{name}.order", "int32", back), 0, f"{name}.in_order")
    y = builder.mul(
        builder.reshape(y, (tokens, count, width), f"{name}.choices"),
        builder.reshape(gates, (tokens, count, 1), f"{name}.shares"),
        f"{name}.weighted",
    )
    return builder.reduce(y, "sum", (1,), False, f"{name}.sum")


def _gates(step: Step, x: str, name: str) -> str:
    """The shares [T, experts_per_token] of the experts that the router rates highest."""
    builder, config = step.builder, step.config
    shares = builder.softmax(builder.linear(x, config.experts, False, name), name=f"{name}.softmax")
    tokens = builder.shape(x)[0]
    attributes = {"axis": 1, "k": config.experts_per_token, "largest": True, "indices": True}
    places = builder.add_op("topk", [shares], attributes, f"{name}.chosen")
    if tokens > 1:
        first = np.arange(tokens)[:, None] * config.experts
        places = builder.add(places, builder.weight(first.shape, f"{name}.first", "int64", first), f"{name}.places")
    flat = builder.reshape(shares, (tokens * config.experts,), f"{name}.flat")
    gates = builder.gather(flat, places, 0, f"{name}.gates")
    if not config.scaled_gates:
        return gates
    total = builder.reduce(gates, "sum", (1,), True, f"{name}.total")
    return builder.elementwise("div", gates, total, name=f"{name}.scaled")


def _keep_idle(step: Step, name: str, used: int) -> None:
    """The weights of the experts that no token of this pass goes to."""
    builder, config = step.builder, step.config
    shapes = {"up": (config.hidden, step.ffn), "down": (step.ffn, config.hidden)}
    shapes |= {"gate": (config.hidden, step.ffn)} if config.gated else {}
    for expert in range(used, config.experts):
        builder.idle += [
            builder.weight(shape, f"{name}.expert{expert}.{part}.weight") for part, shape in shapes.items()
        ]
