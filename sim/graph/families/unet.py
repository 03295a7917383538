"""U-Net (Ronneberger et al., 2015) as in the paper: unpadded convolutions, 572 x 572 in, 388 x 388 out."""

from __future__ import annotations

from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph


def unet(
    *,
    name: str,
    dtype: str,
    batch: int,
    image: int = 572,
    channels: int = 1,
    classes: int = 2,
    width: int = 64,
    depth: int = 4,
) -> Graph:
    """Input [batch, channels, image, image]. Up-convolutions are transposed 2x2 of stride 2.

    Raises ValueError where a pool would meet an odd extent.
    """
    builder = GraphBuilder(name, dtype)
    x = builder.input("image", (batch, channels, image, image))
    skips = []
    for level in range(depth):
        x = _double_conv(builder, x, width << level, f"down{level}")
        if builder.shape(x)[2] % 2:
            raise ValueError(f"image {image} leaves an odd extent {builder.shape(x)[2]} at level {level}")
        skips.append(x)
        x = builder.pool(x, "max", 2, name=f"down{level}.pool")
    x = _double_conv(builder, x, width << depth, "bottom")
    for level in reversed(range(depth)):
        x = builder.conv_transpose(x, width << level, 2, 2, name=f"up{level}.conv")
        skip = _crop(builder, skips[level], builder.shape(x)[2], f"up{level}.crop")
        x = builder.concat([skip, x], 1, f"up{level}.concat")
        x = _double_conv(builder, x, width << level, f"up{level}")
    return builder.build([builder.conv(x, classes, 1, name="segment")], items=batch)


def _double_conv(builder: GraphBuilder, x: str, channels: int, name: str) -> str:
    for index in (1, 2):
        x = builder.conv(x, channels, 3, name=f"{name}.conv{index}")
        x = builder.relu(x, f"{name}.relu{index}")
    return x


def _crop(builder: GraphBuilder, x: str, extent: int, name: str) -> str:
    """The centre of x, `extent` high and wide."""
    shape = builder.shape(x)
    start = (shape[2] - extent) // 2
    attributes = {
        "starts": (0, 0, start, start),
        "steps": (1, 1, 1, 1),
        "counts": (*shape[:2], extent, extent),
    }
    return builder.add_op("slice", [x], attributes, name)
