"""Encoders of images: patches as tokens (Dosovitskiy et al., An Image is Worth 16x16 Words, 2021), also CLIP's."""

from __future__ import annotations

import numpy as np

from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.graph.transformer_config import TransformerConfig
from sim.graph.transformer_layers import layer, norm
from sim.graph.transformer_step import Step


def vision(builder: GraphBuilder, config: TransformerConfig, batch: int) -> Graph:
    """An image to logits [batch, classes], of a model without classes to the state of its class token."""
    x = image_state(builder, config, batch)
    if config.classes:
        x = builder.linear(x, config.classes, name="classifier")
    return builder.build([x], items=batch, source=config.model_type)


def image_state(builder: GraphBuilder, config: TransformerConfig, batch: int, prefix: str = "", first: int = 0) -> str:
    """The class token behind all layers, [batch, hidden]: patches by a strided convolution, the class token in front.
    The layers are blocks from `first` on."""
    side = config.image // config.patch
    step = Step(builder, config, batch, side * side + 1, 0, prefix)
    x = builder.input("image", (batch, config.channels, config.image, config.image))
    # CLIP norms what comes of the patches, so they need no bias.
    bias = not config.embedding_norm
    x = builder.conv(x, config.hidden, config.patch, config.patch, bias=bias, name=f"{prefix}patches")
    x = builder.reshape(x, (batch, config.hidden, side * side), f"{prefix}patches.flat")
    x = builder.transpose(x, (0, 2, 1), f"{prefix}patches.tokens")
    rows = builder.weight((batch, 1), f"{prefix}class_token.rows", "int32", np.zeros((batch, 1), np.int32))
    token = builder.embedding(rows, 1, config.hidden, f"{prefix}class_token")
    x = builder.concat([token, x], 1, f"{prefix}embedding")
    places = builder.weight((step.tokens, config.hidden), f"{prefix}positions")
    x = builder.add(x, places, f"{prefix}embedding.positions")
    x = builder.reshape(x, (batch * step.tokens, config.hidden), f"{prefix}embedding.flat")
    x = norm(step, x, f"{prefix}embedding.norm") if config.embedding_norm else x
    for index in range(config.layers):
        with builder.block(first + index):
            x = layer(step, x, index, None)
    if not config.embedding_norm:
        x = norm(step, x, f"{prefix}norm")
    x = builder.reshape(x, (batch, step.tokens, config.hidden))
    x = builder.slice(x, 1, 0, 1, name=f"{prefix}class_state")
    x = builder.reshape(x, (batch, config.hidden))
    return norm(step, x, f"{prefix}norm") if config.embedding_norm else x
