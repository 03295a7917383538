"""YOLOv3 with Darknet-53 (Redmon and Farhadi, YOLOv3: An Incremental Improvement, 2018; yolov3.cfg).

The graph ends at the three detection maps; decoding boxes and non-maximum suppression run on the host.
"""

from __future__ import annotations

from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph

_STAGES = ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))
_ANCHORS = 3  # per scale


def yolov3(*, name: str, dtype: str, batch: int, image: int = 416, classes: int = 80) -> Graph:
    """Input [batch, 3, image, image]; outputs [batch, 3 (5 + classes), G, G] for G = image / 32, 16, 8.

    Raises ValueError unless `image` is a multiple of 32.
    """
    if image % 32:
        raise ValueError(f"image must be a multiple of 32, found {image}")
    builder = GraphBuilder(name, dtype)
    x = builder.input("image", (batch, 3, image, image))
    x = _conv(builder, x, 32, 3, 1, "stem")
    scales = []
    for stage, (channels, repeats) in enumerate(_STAGES):
        x = _conv(builder, x, channels, 3, 2, f"stage{stage}.down")
        for index in range(repeats):
            part = f"stage{stage}.{index}"
            y = _conv(builder, x, channels // 2, 1, 1, f"{part}.conv1")
            y = _conv(builder, y, channels, 3, 1, f"{part}.conv2")
            x = builder.add(y, x, f"{part}.add")
        scales.append(x)
    outputs = []
    for level, (width, feature) in enumerate(zip((512, 256, 128), scales[:1:-1], strict=True)):
        if level:
            x = _conv(builder, x, width, 1, 1, f"head{level}.route")
            x = builder.resize(x, 2, "nearest", f"head{level}.upsample")
            feature = builder.concat([x, feature], 1, f"head{level}.concat")
        x = _neck(builder, feature, width, f"head{level}")
        y = _conv(builder, x, 2 * width, 3, 1, f"head{level}.expand")
        outputs.append(builder.conv(y, _ANCHORS * (5 + classes), 1, name=f"head{level}.detect"))
    return builder.build(outputs, items=batch)


def _neck(builder: GraphBuilder, x: str, width: int, name: str) -> str:
    """Five convolutions, 1x1 and 3x3 in turn."""
    for index in range(5):
        channels, kernel = (2 * width, 3) if index % 2 else (width, 1)
        x = _conv(builder, x, channels, kernel, 1, f"{name}.conv{index + 1}")
    return x


def _conv(builder: GraphBuilder, x: str, channels: int, kernel: int, stride: int, name: str) -> str:
    x = builder.conv(x, channels, kernel, stride, kernel // 2, bias=False, name=name)
    x = builder.batch_norm(x, name=f"{name}.bn")
    return builder.elementwise("leaky_relu", x, parameters=(0.1,), name=f"{name}.leaky")
