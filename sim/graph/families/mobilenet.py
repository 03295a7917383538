"""MobileNetV2 (Sandler et al., Inverted Residuals and Linear Bottlenecks, 2018), as torchvision builds it."""

from __future__ import annotations

from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph

# Table 2 of the paper: expansion, channels, repeats, stride of the first.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def mobilenet_v2(
    *, name: str, dtype: str, batch: int, image: int = 224, classes: int = 1000, width: float = 1.0
) -> Graph:
    """Input [batch, 3, image, image]; `width` multiplies the channels, rounded to multiples of 8."""
    builder = GraphBuilder(name, dtype)
    x = builder.input("image", (batch, 3, image, image))
    x = _conv_relu6(builder, x, _round8(32 * width), 3, 2, 1, "stem")
    index = 0
    for expansion, channels, repeats, stride in _STAGES:
        for repeat in range(repeats):
            step = stride if repeat == 0 else 1
            x = _inverted_residual(builder, x, expansion, _round8(channels * width), step, f"block{index}")
            index += 1
    x = _conv_relu6(builder, x, _round8(1280 * max(1.0, width)), 1, 1, 1, "head")
    x = builder.reshape(builder.global_average_pool(x, "avgpool"), (batch, -1), "flatten")
    return builder.build([builder.linear(x, classes, name="classifier")], items=batch)


def _inverted_residual(
    builder: GraphBuilder, x: str, expansion: int, channels: int, stride: int, name: str
) -> str:
    """Expand 1x1, filter each channel 3x3, project 1x1 without activation."""
    hidden = builder.shape(x)[1] * expansion
    y = x if expansion == 1 else _conv_relu6(builder, x, hidden, 1, 1, 1, f"{name}.expand")
    y = _conv_relu6(builder, y, hidden, 3, stride, hidden, f"{name}.depthwise")
    y = builder.conv(y, channels, 1, bias=False, name=f"{name}.project")
    y = builder.batch_norm(y, name=f"{name}.project.bn")
    return builder.add(y, x, f"{name}.add") if builder.shape(x) == builder.shape(y) else y


def _conv_relu6(
    builder: GraphBuilder, x: str, channels: int, kernel: int, stride: int, groups: int, name: str
) -> str:
    x = builder.conv(x, channels, kernel, stride, kernel // 2, groups=groups, bias=False, name=name)
    x = builder.batch_norm(x, name=f"{name}.bn")
    return builder.elementwise("clip", x, parameters=(0.0, 6.0), name=f"{name}.relu6")


def _round8(channels: float) -> int:
    """Nearest multiple of 8 that loses no more than a tenth of the channels."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * channels else rounded + 8
