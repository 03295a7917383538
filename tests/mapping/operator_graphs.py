"""One small graph per operator kind, each between two other operators, and the chips they are mapped on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.hw.chip import Chip, load_chip
from sim.passes import default_passes

Body = Callable[[GraphBuilder, str], str]


def between(body: Body, *shape: int) -> Graph:
    """relu, the operator, relu."""
    b = GraphBuilder("between", "int8")
    return b.build([b.relu(body(b, b.relu(b.input("x", shape))))])


def _cache_update(b: GraphBuilder, x: str) -> str:
    return b.cache_update(b.state("cache", (1, 4, 32, 16)), x, 2, 5)


def _gather(b: GraphBuilder, x: str) -> str:
    return b.gather(x, b.input("indices", (3, 7), "int32"), 1)


def _lrn(b: GraphBuilder, x: str) -> str:
    return b.add_op("lrn", [x], {"size": 5, "alpha": 1e-4, "beta": 0.75, "bias": 1.0})


def _added(b: GraphBuilder, x: str) -> str:
    """Fused, so that the drain reads an element of `x` for each of the result."""
    return b.add(b.linear(x, b.shape(x)[-1]), x)


def _packed(b: GraphBuilder, x: str, columns: int, group: int, turned: bool) -> str:
    depth, weights = b.shape(x)[-1], "int4"
    rows = -(-depth // group)
    scale = b.weight((columns, rows) if turned else (rows, columns), "scale")
    zero = b.weight(b.shape(scale), "zero", weights) if turned else None
    w = b.weight((columns, depth) if turned else (depth, columns), "w", weights)
    return b.packed_matmul(x, w, scale, zero, group, turned)


_BODIES: Mapping[str, tuple[Body, tuple[int, ...]]] = {
    "conv": (lambda b, x: b.conv(x, 16, 3, padding="same"), (1, 8, 14, 14)),
    "conv strided": (lambda b, x: b.conv(x, 16, 3, 2, padding=1), (2, 8, 15, 15)),
    "conv depthwise": (lambda b, x: b.conv(x, 16, 3, padding="same", groups=16), (1, 16, 14, 14)),
    "conv grouped": (lambda b, x: b.conv(x, 24, 3, padding="same", groups=4), (1, 16, 14, 14)),
    "conv_transpose": (lambda b, x: b.conv_transpose(x, 8, 3, 2, 1), (1, 8, 7, 7)),
    "matmul": (lambda b, x: b.matmul(x, b.tanh(x), transpose_b=True), (3, 20, 30)),
    "matmul deep": (lambda b, x: b.linear(b.linear(x, 64), 32), (24, 512)),
    "packed_matmul": (lambda b, x: _packed(b, x, 40, 32, False), (24, 200)),
    "packed_matmul by columns": (lambda b, x: _packed(b, x, 96, 512, True), (2, 3, 512)),
    "pool": (lambda b, x: b.pool(x, "max", 3, 2, 1), (1, 8, 14, 14)),
    "reduce": (lambda b, x: b.reduce(x, "sum", (1,), False), (6, 14, 14)),
    "elementwise": (lambda b, x: b.add(b.tanh(x), b.mul(x, b.weight((14,)))), (6, 14, 14)),
    "softmax": (lambda b, x: b.softmax(x, 1), (6, 14, 14)),
    "layer_norm": (lambda b, x: b.layer_norm(x), (6, 14, 64)),
    "rms_norm": (lambda b, x: b.rms_norm(x), (6, 14, 64)),
    "group_norm": (lambda b, x: b.group_norm(x, 4), (2, 16, 6, 6)),
    "batch_norm": (lambda b, x: b.batch_norm(x), (2, 16, 6, 6)),
    "lrn": (_lrn, (2, 16, 6, 6)),
    "rope": (lambda b, x: b.rope(x), (2, 4, 12, 16)),
    "transpose": (lambda b, x: b.transpose(x, (0, 2, 1)), (3, 12, 20)),
    "reshape": (lambda b, x: b.reshape(x, (36, 20)), (3, 12, 20)),
    "concat": (lambda b, x: b.concat([x, b.tanh(x)], 1), (3, 12, 20)),
    "slice": (lambda b, x: b.slice(x, 2, 1, 5, 3), (3, 12, 20)),
    "slice reversed": (lambda b, x: b.slice(x, 1, 11, 5, -2), (3, 12, 20)),
    "pad": (lambda b, x: b.pad(x, (0, 0, 1, 2), (0, 0, 3, 1)), (1, 8, 7, 7)),
    "gather": (_gather, (6, 12, 20)),
    "resize": (lambda b, x: b.resize(x, 2, "linear"), (1, 8, 7, 7)),
    "cache_update": (_cache_update, (1, 4, 3, 16)),
}
GRAPHS: dict[str, Callable[[], Graph]] = {
    name: (lambda body=body, shape=shape: between(body, *shape)) for name, (body, shape) in _BODIES.items()
}
GRAPHS["matmul with a residual"] = lambda: default_passes(between(_added, 40, 56))

_SMALL: Mapping[str, Any] = {
    "core.sram.size": "16 KiB",
    "core.accumulator.size": "1 KiB",
    "core.array.rows": 8,
    "core.array.cols": 8,
    "core.vector.lanes": 8,
}
_CHIPS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "tiny": ("tiny", {}),
    "lepton_s": ("lepton_s", {}),
    "lepton_m": ("lepton_m", {}),
    "small": ("lepton_m", _SMALL),
    "ring": (
        "lepton_m",
        _SMALL
        | {
            "core.count": 4,
            "core.dma.channels": 1,
            "core.dma.outstanding": 1,
            "core.array.dataflow": "output_stationary",
            "interconnect.topology": "ring",
            "interconnect.shape": [4],
            "interconnect.memory_ports": [[0]],
        },
    ),
}
CHIPS = tuple(_CHIPS)


@cache
def chip(name: str) -> Chip:
    """A preset, `small` (lepton_m with arrays and vector units of 8 and scratchpads of 16 KiB) or `ring` (four such
    cores, one DMA channel each)."""
    base, changes = _CHIPS[name]
    return load_chip(base, changes)
