"""Passes of the vector unit per element of a nest: of its own, of what is applied on the way out of an array, of
conversions of element types."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from sim.graph.nest import Nest, Operand
from sim.hw.core import CoreKind

Int64 = npt.NDArray[np.int64]

TRAVERSALS = {"layer_norm": 3, "rms_norm": 2, "softmax": 3, "group_norm": 3}
"""How often a kind goes over its operand: once per reduction over it, and once more. Elements are unpacked each time:
the wide copies would not fit the registers."""

_NORM = {"mul": 2.0, "add": 1.0, "rsqrt": 1.0}
OF_A_ROW: Mapping[str, Mapping[str, float]] = {
    "layer_norm": _NORM,
    "group_norm": _NORM,
    "rms_norm": {"mul": 1.0, "add": 1.0, "rsqrt": 1.0},
    "softmax": {"reciprocal": 1.0},
}
"""Functions of one number of a row: sums over their count, epsilon, the root of the variance; one over a sum of
exponentials."""


def body_passes(nest: Nest, kind: CoreKind) -> dict[str, float]:
    """Primitive passes per result element when the vector unit computes the whole nest, conversions of element types
    that its lanes do not compute in among them.

    A contraction costs one multiply-add per product; its reduction is never cut on the vector unit, so
    the length is that of the nest.
    """
    passes = dict(nest.own)
    for name, count in nest.drain.items():
        passes[name] = passes.get(name, 0.0) + count
    if nest.contraction:
        depth = nest.taps
        for dim in nest.role("k"):
            depth *= nest.dims[dim].extent
        passes["multiply_add"] = passes.get("multiply_add", 0.0) + depth
        # Packed weights are unpacked once for all rows of the result.
        rows = math.prod(nest.extents[dim] for dim in nest.role("m"))
        for name, count in nest.unpack.items():
            passes[name] = passes.get(name, 0.0) + count * depth / rows
    for name, count in across_lanes(nest, kind).items():
        passes[name] = passes.get(name, 0.0) + count
    return _with_conversions(passes, nest, nest.operands, kind)


def across_lanes(nest: Nest, kind: CoreKind) -> dict[str, float]:
    """Passes per element, on average, of what a norm or softmax does with one number of a row, by whole registers all
    the same. Its reductions end within one: what its columns hold of a row is added up by halves, in log2(columns)
    steps. Then come the functions of the row's number (`OF_A_ROW`). A unit without registers of two sides
    (`vector.register`) is taken to add along its lanes for free, and to have its numbers side by side.

    A layer norm of rows of 512 in registers of 8 x 128: on one register of four 2 x 7 additions and one more, two
    multiplications and a root: 3.75, 0.5 and 0.25 an element.
    """
    reductions = TRAVERSALS.get(nest.kind, 1) - 1
    if not reductions or not kind.vector.register_shape:
        return {}
    columns = kind.vector.register_shape[1]
    length = math.prod(nest.out.tensor.shape) / math.prod(nest.extents)
    passes = {"add": float(reductions * math.ceil(math.log2(columns)))}
    for name, count in OF_A_ROW[nest.kind].items():
        passes[name] = passes.get(name, 0.0) + count
    return {name: count / math.ceil(length / columns) for name, count in passes.items()}


def drain_passes(nest: Nest, kind: CoreKind) -> dict[str, float]:
    """Primitive passes per result element on its way out of an array, conversions among them."""
    return _with_conversions(dict(nest.drain), nest, nest.epilogue, kind)


def _with_conversions(
    passes: dict[str, float], nest: Nest, operands: Sequence[Operand], kind: CoreKind
) -> dict[str, float]:
    """Add a `convert` per pass that unpacks an operand's elements (shared by the results that read them) or packs a
    result."""

    def elements(operand: Operand) -> float:
        whole = [np.array([extent], np.int64) for extent in nest.extents]
        return float(math.prod(int(extent[0]) for extent in box_extents(operand, whole)))

    extra = float(kind.vector.conversion(nest.out.tensor.dtype).pack)
    for operand in operands:
        unpack = kind.vector.conversion(operand.tensor.dtype).unpack * TRAVERSALS.get(nest.kind, 1)
        extra += unpack * elements(operand) / elements(nest.out) if unpack else 0.0
    if extra:
        passes["convert"] = passes.get("convert", 0.0) + extra
    return passes


def box_extents(operand: Operand, tile: Sequence[Int64]) -> list[Int64]:
    """Extent along every axis of the largest box of each tile."""
    return [np.broadcast_to(np.asarray(axis.extent(tile), np.int64), tile[0].shape) for axis in operand.axes]
