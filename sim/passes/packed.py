"""Scales and zero points of packed weights, one row per group of the inner axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class PackedParts:
    """Of weights [K, N] (or [N, K]): `scale` and `zero` (None: 0 everywhere) [ceil(K / group), N] (or [N, .])."""

    scale: Array
    zero: Array | None
    group: int


def packed_parts(
    shape: tuple[int, ...], inner: int, scale: Array, zero: Array, block: tuple[int, int] | None
) -> PackedParts | None:
    """The parts of a matrix of weights of this shape, whose axis `inner` is summed over; `scale` and `zero` broadcast
    to it, `block` (axis, elements) of them in a row are alike. None where a scale does not belong to a column or a
    group of its elements."""
    if len(shape) != 2:
        return None
    alike = block[1] if block is not None and block[0] == inner else shape[inner]
    if block is not None and block[0] != inner and block[1] > 1:
        return None
    found = []
    for part in (scale, zero):
        whole = part.reshape((1,) * (2 - part.ndim) + part.shape)
        if whole.shape[inner] > 1 and alike == shape[inner] and block is None:
            return None
        spread = np.broadcast_to(whole, shape)
        found.append(np.ascontiguousarray(spread.take(np.arange(0, shape[inner], alike), axis=inner)))
    return PackedParts(found[0], found[1].astype(np.int64) if zero.any() else None, alike)
