"""Mixtures of experts: a layer whose tokens each go to a few of many feed-forward networks.

Which experts a token chooses is data. Here they are all chosen equally often: the choices of all tokens, in order, go
to one expert after the other. So every expert that is in use has the same number of tokens, to one, and a pass of few
tokens reads the weights of as many experts as it has choices; the others stay in memory. What the router costs, and the
shares that it gives, are computed. Structure: Jiang et al., Mixtral of Experts, 2024; Qwen3 Technical Report, 2025;
DeepSeek-V2, 2024, and DeepSeek-V3, 2024.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sim.graph.transformer_step import Step

Network = Callable[[Step, str, str, int], str]


def mixture(step: Step, x: str, name: str, network: Network) -> str:
    """x [T, hidden] through the experts, and the network that all tokens go to, if any: [T, hidden]. `network` makes
    one of them as far as its middle, of a width, with weights of its own.

    Of chips that share the layer each has some columns of every expert's middle, and adds up what the experts make of
    them before the chips do: one sum a layer. Of the biases behind it, if any, each chip has an equal share.
    """
    builder, config = step.builder, step.config
    tokens, width = builder.shape(x)
    count = config.experts_per_token
    gates = _gates(step, x, f"{name}.router")
    gates = builder.reshape(gates, (tokens, count, 1), f"{name}.shares")
    choices = tokens * count
    used = min(config.experts, choices)
    given = x
    if config.gates_first:
        given = builder.mul(builder.reshape(x, (tokens, 1, width), f"{name}.each"), gates, f"{name}.weighted")
        given = builder.reshape(given, (choices, width), f"{name}.given")
    results, order = [], []
    for expert in range(used):
        mine = np.arange(expert, choices, used)
        rows = mine if config.gates_first else mine // count
        part = f"{name}.expert{expert}"
        sent = given
        if rows.tolist() != list(range(builder.shape(given)[0])):
            places = builder.weight(rows.shape, f"{part}.rows", "int32", rows)
            sent = builder.gather(given, places, 0, f"{part}.tokens")
        middle = network(step, sent, part, _width(step))
        results.append(builder.linear(middle, width, config.ffn_bias, f"{part}.down"))
        order.append(mine)
    _keep_idle(step, name, used)
    y = builder.concat(results, 0, f"{name}.experts") if len(results) > 1 else results[0]
    back = np.argsort(np.concatenate(order), kind="stable")
    if back.tolist() != list(range(choices)):
        y = builder.gather(y, builder.weight(back.shape, f"{name}.order", "int32", back), 0, f"{name}.in_order")
    y = builder.reshape(y, (tokens, count, width), f"{name}.choices")
    if not config.gates_first:
        y = builder.mul(y, gates, f"{name}.weighted")
    y = builder.reduce(y, "sum", (1,), False, f"{name}.sum")
    y = _with_shared(step, x, y, name, network)
    return y if config.chips == 1 else builder.all_reduce(y, config.chips, f"{name}.of_all_chips")


def _with_shared(step: Step, x: str, y: str, name: str, network: Network) -> str:
    """What the experts made, y, and what the network that all tokens go to makes of x, if there is one."""
    builder, config = step.builder, step.config
    if not config.shared_ffn:
        return y
    shared = network(step, x, f"{name}.shared", config.shared_ffn)
    shared = builder.linear(shared, config.hidden, config.ffn_bias, f"{name}.shared.down")
    if config.shared_gate:
        share = builder.linear(x, 1, False, f"{name}.shared_share")
        shared = builder.mul(shared, builder.elementwise("sigmoid", share), f"{name}.shared_part")
    return builder.add(y, shared, f"{name}.all")


def _width(step: Step) -> int:
    return step.config.expert_ffn or step.ffn


def _gates(step: Step, x: str, name: str) -> str:
    """The shares [T, experts_per_token] of the experts that the router rates highest."""
    builder, config = step.builder, step.config
    logits = builder.linear(x, config.experts, config.router_offset, name)
    if config.router == "softmax":
        shares = builder.softmax(logits, name=f"{name}.softmax")
    else:
        shares = builder.elementwise("sigmoid", logits, name=f"{name}.sigmoid")
    tokens = builder.shape(x)[0]
    attributes = {"axis": 1, "k": config.experts_per_token, "largest": True, "indices": True}
    places = builder.add_op("topk", [_rated(step, shares, name)], attributes, f"{name}.chosen")
    if tokens > 1:
        first = np.arange(tokens)[:, None] * config.experts
        places = builder.add(places, builder.weight(first.shape, f"{name}.first", "int64", first), f"{name}.places")
    flat = builder.reshape(shares, (tokens * config.experts,), f"{name}.flat")
    gates = builder.gather(flat, places, 0, f"{name}.gates")
    if config.scaled_gates:
        total = builder.reduce(gates, "sum", (1,), True, f"{name}.total")
        gates = builder.elementwise("div", gates, total, name=f"{name}.scaled")
    if config.gate_scale == 1.0:
        return gates
    factor = builder.weight((1,), f"{name}.factor", value=np.full(1, config.gate_scale, np.float32))
    return builder.mul(gates, factor, f"{name}.gate")


def _rated(step: Step, shares: str, name: str) -> str:
    """What experts are chosen by [T, experts]: their shares, with a learned bias, 0 outside the best groups. A group is
    as good as its best expert, with a bias as its two best (DeepSeek-V2, section 2.1.2; DeepSeek-V3, 2.1.2)."""
    builder, config = step.builder, step.config
    if config.router_bias:
        shares = builder.add(shares, builder.weight((config.experts,), f"{name}.bias"), f"{name}.biased")
    if config.groups_per_token == config.expert_groups:
        return shares
    tokens, groups = builder.shape(shares)[0], config.expert_groups
    rated = builder.reshape(shares, (tokens, groups, config.experts // groups), f"{name}.groups")
    best = {"axis": 2, "k": 2 if config.router_bias else 1, "largest": True, "indices": False}
    of_group = builder.add_op("topk", [rated], best, f"{name}.best")
    of_group = builder.reduce(of_group, "sum", (2,), False, f"{name}.of_group")
    kept = {"axis": 1, "k": config.groups_per_token, "largest": True, "indices": False}
    limits = builder.add_op("topk", [of_group], kept, f"{name}.kept")
    limit = builder.slice(limits, 1, config.groups_per_token - 1, 1, name=f"{name}.limit")
    dropped = builder.elementwise("less", of_group, limit, name=f"{name}.dropped")
    dropped = builder.reshape(dropped, (tokens, groups, 1), f"{name}.dropped_groups")
    nothing = builder.weight((1,), f"{name}.nothing", value=np.zeros(1, np.float32))
    rated = builder.elementwise("where", dropped, nothing, rated, name=f"{name}.in_groups")
    return builder.reshape(rated, (tokens, config.experts), f"{name}.rated")


def _keep_idle(step: Step, name: str, used: int) -> None:
    """The weights of the experts that no token of this pass goes to."""
    builder, config = step.builder, step.config
    width = _width(step)
    shapes = {"up": (config.hidden, width), "down": (width, config.hidden)}
    shapes |= {"gate": (config.hidden, width)} if config.gated else {}
    weights: list[tuple[str, tuple[int, ...]]] = [(f"{part}.weight", shape) for part, shape in shapes.items()]
    weights += [(f"{part}.bias", shape[1:]) for part, shape in shapes.items()] if config.ffn_bias else []
    for expert in range(used, config.experts):
        builder.idle += [builder.weight(shape, f"{name}.expert{expert}.{part}") for part, shape in weights]
