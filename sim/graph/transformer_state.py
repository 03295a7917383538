"""A step of a layer that keeps a state instead of keys and values (Gu and Dao, Mamba, 2023, algorithm 2, section 3.3).

One token for each sequence: a convolution over the last inputs, then the state of every channel decays and takes in
the token, as much as the token itself says. A pass over a whole prompt is a scan along it, which kernels keep on chip;
no operator here does that, and written out with those that there are it would move the state of every token through
memory, 16 times what a kernel moves. So there is no prefill.
"""

from __future__ import annotations

from sim.graph.transformer_config import StateSpace
from sim.graph.transformer_step import Step


def state_layer(step: Step, x: str, space: StateSpace, name: str) -> str:
    """x [batch, hidden], normed, to [batch, hidden]; the states are written anew."""
    builder, config, batch = step.builder, step.config, step.batch
    both = builder.linear(x, 2 * space.width, space.bias, f"{name}.in")
    h, gate = builder.split(both, (space.width, space.width), -1, f"{name}.in_part")
    h = builder.elementwise(config.activation, _convolved(step, h, space, name), name=f"{name}.h")
    said = builder.linear(h, space.rank + 2 * space.size, False, f"{name}.said")
    time, taken, shown = builder.split(said, (space.rank, space.size, space.size), -1, f"{name}.said_part")
    time = builder.elementwise("softplus", builder.linear(time, space.width, True, f"{name}.time"))
    # What is learned is the logarithm of -A; inference works with A itself.
    rates = builder.mul(
        builder.reshape(time, (batch, space.width, 1)), builder.weight((space.width, space.size), f"{name}.a")
    )
    decay = builder.elementwise("exp", rates, name=f"{name}.decay")
    new = builder.mul(
        builder.reshape(builder.mul(time, h), (batch, space.width, 1)),
        builder.reshape(taken, (batch, 1, space.size)),
        f"{name}.new",
    )
    state = builder.state(f"{name}.state", (batch, space.width, space.size))
    state = builder.cache_update(
        state, builder.add(builder.mul(decay, state, f"{name}.kept"), new, f"{name}.next"), 1, 0, f"{name}.store"
    )
    y = builder.matmul(state, builder.reshape(shown, (batch, space.size, 1)), name=f"{name}.y")
    y = builder.reshape(y, (batch, space.width))
    y = builder.add(y, builder.mul(h, builder.weight((space.width,), f"{name}.d")), f"{name}.with_input")
    y = builder.mul(y, builder.elementwise("silu", gate), f"{name}.gated")
    return builder.linear(y, config.hidden, space.bias, f"{name}.out")


def _convolved(step: Step, h: str, space: StateSpace, name: str) -> str:
    """h [batch, width] and the inputs before it, weighed per channel: [batch, width]."""
    builder, batch = step.builder, step.batch
    h = builder.reshape(h, (batch, 1, space.width))
    window = h
    if space.taps > 1:
        past = builder.state(f"{name}.past", (batch, space.taps - 1, space.width))
        window = builder.concat([past, h], 1, f"{name}.window")
        builder.cache_update(
            past, builder.slice(window, 1, 1, space.taps - 1, name=f"{name}.recent"), 1, 0, f"{name}.past_store"
        )
    weighed = builder.mul(window, builder.weight((space.taps, space.width), f"{name}.taps"), f"{name}.weighed")
    y = builder.reduce(weighed, "sum", (1,), False, f"{name}.convolved")
    return builder.add(y, builder.weight((space.width,), f"{name}.taps_bias")) if space.taps_bias else y
