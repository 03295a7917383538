"""Tables of positions that are computed, not learned."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def sinusoids(start: int, count: int, width: int) -> npt.NDArray[np.float32]:
    """[count, width], sines in the first half and cosines in the second, from position `start` on.

    Vaswani et al., Attention Is All You Need, 2017, section 3.5; halves as in Marian.
    """
    frequency = 10000.0 ** (-2.0 * np.arange(width // 2) / width)
    angle = np.arange(start, start + count)[:, None] * frequency
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32)


def relative_indices(
    start: int, count: int, buckets: int, distance: int, bidirectional: bool
) -> npt.NDArray[np.int32]:
    """T5's bucket of each (query, key) pair, [count, start + count], for queries from position `start` on.

    Half of the buckets (of each direction) hold one distance each, the rest grow logarithmically up to
    `distance` (Raffel et al., 2020, section 2.1; modeling_t5.py).
    """
    offset = np.arange(start + count)[None, :] - np.arange(start, start + count)[:, None]
    base = np.zeros_like(offset)
    if bidirectional:
        buckets //= 2
        base = np.where(offset > 0, buckets, 0)
        offset = np.abs(offset)
    else:
        offset = np.maximum(-offset, 0)
    exact = buckets // 2
    ratio = np.log(np.maximum(offset, 1) / exact) / np.log(distance / exact)
    far = np.minimum(exact + (ratio * (buckets - exact)).astype(np.int64), buckets - 1)
    chosen: npt.NDArray[np.int32] = (base + np.where(offset < exact, offset, far)).astype(np.int32)
    return chosen


def slopes(heads: int, count: int) -> npt.NDArray[np.float32]:
    """What is added to the scores of every head for each of `count` keys, [heads, 1, count]: a slope times its distance
    from the last.

    Press et al., Train Short, Test Long, 2022, section 3: 2^(-8 i / heads) for head i from 1 on; where `heads` is no
    power of two, those of the power below and every other one of the power above.
    """
    below = 1 << (heads.bit_length() - 1)
    steps = np.concatenate([np.arange(1, below + 1) / below, np.arange(1, 2 * (heads - below), 2) / (2 * below)])
    distance = np.arange(count) - (count - 1)
    made: npt.NDArray[np.float32] = (2.0 ** (-8 * steps)[:, None, None] * distance).astype(np.float32)
    return made
