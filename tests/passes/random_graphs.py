"""Random graphs of what the passes look for: contractions, norms, chains, residual sums, constants, dead ends."""

from __future__ import annotations

import numpy as np

from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph

_UNARY = ("relu", "tanh", "sigmoid", "gelu", "silu", "square", "neg")
_BINARY = ("add", "mul", "sub", "max", "min", "less", "greater", "where")


def random_graph(seed: int, size: int = 14) -> Graph:
    """Weights all have values. Names of tensors are drawn at random, so operands come from near and far."""
    rng = np.random.default_rng(seed)
    builder = GraphBuilder(f"random_{seed}", "fp32")
    images = [builder.input("image", (2, 4, 5, 5)), builder.relu(builder.input("other", (2, 4, 5, 5)))]
    rows = [builder.input("row", (3, 4))]
    for step in range(size):
        with builder.block(-1 if rng.random() < 0.8 else step % 2):
            if rng.random() < 0.7:
                images.append(_image_step(builder, images, rng))
            else:
                rows.append(_row_step(builder, rows, rng))
    count = int(rng.integers(1, 3))
    picked = {images[-1], rows[-1], *(str(name) for name in rng.choice(images, count))}
    graph = builder.build(sorted(picked - {"image", "row"}) or [images[1]])
    values = {name: rng.uniform(0.5, 1.5, t.shape) for name, t in graph.tensors.items() if t.role == "weight"}
    return Graph(
        graph.name, graph.tensors, graph.ops, graph.inputs, graph.outputs, {**values, **graph.values}
    )


def _near(names: list[str], rng: np.random.Generator) -> str:
    """Mostly the last one, so that chains appear."""
    return names[-1] if rng.random() < 0.7 else str(rng.choice(names))


def _image_step(builder: GraphBuilder, images: list[str], rng: np.random.Generator) -> str:
    x = _near(images, rng)
    choice = rng.integers(0, 9)
    if choice == 0:
        return builder.conv(
            x, 4, 3, padding="same", groups=int(rng.choice([1, 2, 4])), bias=rng.random() < 0.5
        )
    if choice == 1:
        groups = int(rng.choice([1, 2, 4]))
        return builder.conv_transpose(x, 4, 3, padding=1, groups=groups, bias=rng.random() < 0.5)
    if choice in (2, 3):
        return builder.batch_norm(x)
    if choice == 4:
        constant = builder.weight([(4, 1, 1), (1, 4, 1, 1), (1,), (5, 1)][rng.integers(0, 4)])
        operands = [x, constant] if rng.random() < 0.5 else [constant, x]
        return builder.elementwise(str(rng.choice(["mul", "add", "sub"])), *operands)
    if choice == 5:
        weight = builder.transpose(builder.weight((1, 5, 5, 4)), (0, 3, 1, 2))
        return builder.add(builder.mul(weight, weight), x)
    if choice == 6:
        return builder.elementwise(str(rng.choice(_UNARY)), x)
    function = str(rng.choice(_BINARY))
    operands = [_near(images, rng), str(rng.choice(images)), str(rng.choice(images))]
    rng.shuffle(operands)
    return _as_number(builder, builder.elementwise(function, *operands[: 3 if function == "where" else 2]))


def _row_step(builder: GraphBuilder, rows: list[str], rng: np.random.Generator) -> str:
    x = _near(rows, rng)
    choice = rng.integers(0, 5)
    if choice == 0:
        return builder.linear(x, 4, bias=rng.random() < 0.5)
    if choice == 1:
        return builder.matmul(x, builder.weight((4, 4)), transpose_b=True)
    if choice == 2:
        return builder.batch_norm(x)
    if choice == 3:
        return builder.elementwise(str(rng.choice(["mul", "add"])), builder.weight((4,)), x)
    return builder.elementwise(str(rng.choice(_UNARY)), x)


def _as_number(builder: GraphBuilder, x: str) -> str:
    if builder.tensors[x].dtype != "bool":
        return x
    return builder.add_op("elementwise", [x], {"function": "cast", "parameters": ()}, dtype="fp32")
