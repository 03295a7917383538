"""The early convolutional networks and the plain perceptron: LeNet-5, AlexNet, VGG, MLP."""

from __future__ import annotations

from collections.abc import Sequence

from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph

_VGG_STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def mlp(
    *,
    name: str,
    dtype: str,
    batch: int,
    widths: tuple[int, ...] = (784, 512, 512, 10),
    activation: str = "relu",
) -> Graph:
    """Fully connected layers of the given widths, input first; no activation after the last."""
    if len(widths) < 2:
        raise ValueError(f"widths must name the input and one layer or more, found {list(widths)}")
    builder = GraphBuilder(name, dtype)
    x = builder.input("features", (batch, widths[0]))
    return builder.build([_classifier(builder, x, widths[1:], activation)], items=batch)


def lenet(*, name: str, dtype: str, batch: int, classes: int = 10) -> Graph:
    """LeNet-5 (LeCun et al., Gradient-Based Learning Applied to Document Recognition, 1998), 32 x 32 images.

    The second convolution is connected in full and the pools have no weights, as in present-day versions; the
    paper's connection table leaves out 900 weights and its pools have 44.
    """
    builder = GraphBuilder(name, dtype)
    x = builder.input("image", (batch, 1, 32, 32))
    for index, channels in enumerate((6, 16)):
        x = builder.tanh(builder.conv(x, channels, 5, name=f"conv{index + 1}"), f"conv{index + 1}.tanh")
        x = builder.pool(x, "average", 2, name=f"pool{index + 1}")
    x = builder.reshape(x, (batch, -1), "flatten")
    return builder.build([_classifier(builder, x, (120, 84, classes), "tanh")], items=batch)


def alexnet(*, name: str, dtype: str, batch: int, image: int = 224, classes: int = 1000) -> Graph:
    """AlexNet in one tower (Krizhevsky, One Weird Trick for Parallelizing CNNs, 2014), as in torchvision.

    The first fully connected layer takes what the convolutions leave: 256 x 6 x 6 for 224 x 224.
    """
    builder = GraphBuilder(name, dtype)
    x = builder.input("image", (batch, 3, image, image))
    layers = ((64, 11, 4, 2), (192, 5, 1, 2), (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1))
    for index, (channels, kernel, stride, padding) in enumerate(layers):
        x = builder.conv(x, channels, kernel, stride, padding, name=f"conv{index + 1}")
        x = builder.relu(x, f"conv{index + 1}.relu")
        if index in (0, 1, 4):
            x = builder.pool(x, "max", 3, 2, name=f"pool{index + 1}")
    x = builder.reshape(x, (batch, -1), "flatten")
    return builder.build([_classifier(builder, x, (4096, 4096, classes), "relu")], items=batch)


def vgg(
    *, name: str, dtype: str, batch: int, depth: int = 16, image: int = 224, classes: int = 1000
) -> Graph:
    """VGG without batch normalisation (Simonyan and Zisserman, 2014, configurations A, B, D, E)."""
    if depth not in _VGG_STAGES:
        raise ValueError(f"depth must be one of {sorted(_VGG_STAGES)}, found {depth}")
    builder = GraphBuilder(name, dtype)
    x = builder.input("image", (batch, 3, image, image))
    for stage, count in enumerate(_VGG_STAGES[depth]):
        for index in range(count):
            layer = f"conv{stage + 1}_{index + 1}"
            x = builder.conv(x, min(64 << stage, 512), 3, padding=1, name=layer)
            x = builder.relu(x, f"{layer}.relu")
        x = builder.pool(x, "max", 2, name=f"pool{stage + 1}")
    x = builder.reshape(x, (batch, -1), "flatten")
    return builder.build([_classifier(builder, x, (4096, 4096, classes), "relu")], items=batch)


def _classifier(builder: GraphBuilder, x: str, widths: Sequence[int], activation: str) -> str:
    for index, width in enumerate(widths):
        x = builder.linear(x, width, name=f"fc{index + 1}")
        if index < len(widths) - 1:
            x = builder.elementwise(activation, x, name=f"fc{index + 1}.{activation}")
    return x
