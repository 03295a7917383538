"""Resizing along one axis: which elements of the source every output element reads, and in which mix."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.graph.op import Op

Array = npt.NDArray[Any]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Taps:
    """Per output element [Y]: the source elements `low` <= `high` that it reads from and up to, and the `share` of
    `high` in the mix. Nearest interpolation has no share: `low` alone counts; cubic has a `mix` instead, of elements
    and their shares. Indices never fall with y."""

    low: Int64
    high: Int64
    share: npt.NDArray[np.float64] | None
    mix: tuple[tuple[Int64, npt.NDArray[np.float64]], ...] = ()

    def part(self, start: int, stop: int, origin: int) -> Taps:
        """Those of output elements [start, stop), in a source that begins at its element `origin`."""
        share = None if self.share is None else self.share[start:stop]
        mix = tuple((index[start:stop] - origin, part[start:stop]) for index, part in self.mix)
        return Taps(self.low[start:stop] - origin, self.high[start:stop] - origin, share, mix)


def resize_taps(op: Op, axis: int, source: int) -> Taps:
    """Taps of the resize `op` along one axis (2 or more) of [N, C, *S], `source` elements long.

    Coordinates are clamped to the source. Formulas: onnx.ai/onnx/operators/onnx__Resize.html.
    """
    place = _coordinates(op["coordinates"], source, op["shape"][axis - 2], op["scales"][axis - 2])
    if op["mode"] == "nearest":
        nearest = np.clip(_ROUNDINGS[op["rounding"]](place), 0, source - 1).astype(np.int64)
        return Taps(nearest, nearest, None)
    if op["mode"] == "cubic":
        return _cubic(place, source, op["coefficient"], op["exclude_outside"])
    place = np.clip(place, 0, source - 1)
    low = np.floor(place)
    return Taps(low.astype(np.int64), np.ceil(place).astype(np.int64), place - low)


def _cubic(place: Array, source: int, a: float, exclude_outside: bool) -> Taps:
    """Four elements, with the shares of Keys, Cubic Convolution Interpolation for Digital Image Processing, 1981."""
    first = np.floor(place)
    mix = []
    for step in (-1, 0, 1, 2):
        away = np.abs(place - first - step)
        near = (a + 2) * away**3 - (a + 3) * away**2 + 1
        far = a * away**3 - 5 * a * away**2 + 8 * a * away - 4 * a
        share = np.where(away <= 1, near, far)
        index = first + step
        if exclude_outside:
            share = np.where((index >= 0) & (index < source), share, 0.0)
        mix.append((np.clip(index, 0, source - 1).astype(np.int64), share))
    total = sum(share for _, share in mix)
    return Taps(mix[0][0], mix[3][0], None, tuple((index, share / total) for index, share in mix))


def interpolate(x: Array, axis: int, taps: Taps) -> Array:
    """`x` with `axis` replaced by the outputs of `taps`."""
    if taps.mix:
        shape = (-1, *(1,) * (x.ndim - 1 - axis))
        return np.asarray(sum(x.take(index, axis=axis) * share.reshape(shape) for index, share in taps.mix))
    if taps.share is None:
        return x.take(taps.low, axis=axis)
    share = taps.share.reshape(-1, *(1,) * (x.ndim - 1 - axis))
    return np.asarray(x.take(taps.low, axis=axis) * (1.0 - share) + x.take(taps.high, axis=axis) * share)


_ROUNDINGS: Mapping[str, Callable[[Array], Array]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
}


def _coordinates(rule: str, source: int, target: int, scale: float) -> Array:
    index = np.arange(target, dtype=np.float64)
    if rule == "align_corners":
        return index * (source - 1) / max(target - 1, 1)
    if rule == "pytorch_half_pixel" and target == 1:
        return np.zeros(1)
    half = 0.0 if rule == "asymmetric" else 0.5
    # A ratio of extents is divided last, so that a coordinate that is an integer comes out as one.
    if math.isclose(scale, target / source, rel_tol=1e-6):
        return (index + half) * source / target - half
    return (index + half) / scale - half
