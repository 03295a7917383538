"""Parameterised models. FAMILIES names them for workload files.

A builder takes `name`, `dtype`, `batch` and its own parameters, all by keyword, and returns a Graph. It
raises ValueError for parameters that make no model. Transformers are built by sim/graph/transformer.py.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from sim.graph.families.classic import alexnet, lenet, mlp, vgg
from sim.graph.families.conformer import conformer
from sim.graph.families.dlrm import dlrm
from sim.graph.families.lstm import lstm
from sim.graph.families.micro import conv2d, gemm, layer_norm, softmax
from sim.graph.families.mobilenet import mobilenet_v2
from sim.graph.families.resnet import resnet
from sim.graph.families.unet import unet
from sim.graph.families.yolo import yolov3
from sim.graph.graph import Graph

Builder = Callable[..., Graph]


@dataclass(frozen=True, slots=True)
class Family:
    """`parameters` are the builder's own, with their defaults."""

    name: str
    builder: Builder
    parameters: Mapping[str, Any]


def _family(builder: Builder) -> Family:
    parameters = {
        name: parameter.default
        for name, parameter in inspect.signature(builder).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    return Family(builder.__name__, builder, MappingProxyType(parameters))


_BUILDERS: tuple[Builder, ...] = (
    alexnet,
    conformer,
    conv2d,
    dlrm,
    gemm,
    layer_norm,
    lenet,
    lstm,
    mlp,
    mobilenet_v2,
    resnet,
    softmax,
    unet,
    vgg,
    yolov3,
)

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {builder.__name__: _family(builder) for builder in _BUILDERS}
)
