"""ResNet (He et al., Deep Residual Learning for Image Recognition, 2015), as torchvision builds it.

The stride of a bottleneck sits on its 3x3 convolution ("v1.5"), which is what published figures of 4.09 GMACs
for ResNet-50 count; the paper's own variant has it on the first 1x1 (3.8 GMACs).
"""

from __future__ import annotations

from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph

_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def resnet(
    *, name: str, dtype: str, batch: int, depth: int = 50, image: int = 224, classes: int = 1000
) -> Graph:
    """Input [batch, 3, image, image]. Raises ValueError for a depth the paper does not have."""
    if depth not in _BLOCKS:
        raise ValueError(f"depth must be one of {sorted(_BLOCKS)}, found {depth}")
    builder = GraphBuilder(name, dtype)
    x = builder.input("image", (batch, 3, image, image))
    x = builder.relu(_conv_norm(builder, x, 64, 7, 2, "conv1"), "conv1.relu")
    x = builder.pool(x, "max", 3, 2, 1, name="maxpool")
    residual = _bottleneck if depth >= 50 else _basic
    for stage, count in enumerate(_BLOCKS[depth]):
        for index in range(count):
            stride = 2 if index == 0 and stage > 0 else 1
            x = residual(builder, x, 64 << stage, stride, f"layer{stage + 1}.{index}")
    x = builder.reshape(builder.global_average_pool(x, "avgpool"), (batch, -1), "flatten")
    return builder.build([builder.linear(x, classes, name="fc")], items=batch)


def _conv_norm(builder: GraphBuilder, x: str, channels: int, kernel: int, stride: int, name: str) -> str:
    x = builder.conv(x, channels, kernel, stride, kernel // 2, bias=False, name=name)
    return builder.batch_norm(x, name=f"{name}.bn")


def _basic(builder: GraphBuilder, x: str, width: int, stride: int, name: str) -> str:
    y = builder.relu(_conv_norm(builder, x, width, 3, stride, f"{name}.conv1"), f"{name}.relu1")
    y = _conv_norm(builder, y, width, 3, 1, f"{name}.conv2")
    return _join(builder, x, y, stride, name)


def _bottleneck(builder: GraphBuilder, x: str, width: int, stride: int, name: str) -> str:
    y = builder.relu(_conv_norm(builder, x, width, 1, 1, f"{name}.conv1"), f"{name}.relu1")
    y = builder.relu(_conv_norm(builder, y, width, 3, stride, f"{name}.conv2"), f"{name}.relu2")
    y = _conv_norm(builder, y, 4 * width, 1, 1, f"{name}.conv3")
    return _join(builder, x, y, stride, name)


def _join(builder: GraphBuilder, x: str, y: str, stride: int, name: str) -> str:
    """Add the shortcut, projected where its shape differs."""
    if builder.shape(x) != builder.shape(y):
        x = _conv_norm(builder, x, builder.shape(y)[1], 1, stride, f"{name}.downsample")
    return builder.relu(builder.add(y, x, f"{name}.add"), f"{name}.relu")
