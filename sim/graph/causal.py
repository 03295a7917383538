"""Attention to what has been: the last of S queries sees all T keys, the one before it all but one, and so on.

Queries are cut into ranges, each of which meets no key that all of it cannot see: of as many queries as keys, 8 ranges
compute 9/16 of all scores. Kernels leave out blocks (Dao, FlashAttention-2, 2023, section 3.1): 17/32 of 16 blocks.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

CAUSAL = "causal"
"""The step of an attention that hides what is ahead, in the place of an element function."""

LEAST_QUERIES = 256
"""Queries of a range, at least: they are cut into blocks, and over cores."""

MOST_RANGES = 16

HIDDEN = -1e30
"""A score that takes no part: its exponential is 0 beside any other."""


@dataclass(frozen=True, slots=True)
class Range:
    """Queries `first` to `stop`, and how many keys some of them see."""

    first: int
    stop: int
    keys: int

    @property
    def partly_hidden(self) -> float:
        """Share of its keys that some of its queries see and others do not: those have to be compared."""
        return min(1.0, (self.stop - self.first) / self.keys)


def ranges(queries: int, keys: int, causal: bool) -> tuple[Range, ...]:
    """The ranges of so many queries; all in one where nothing is hidden."""
    count = max(1, min(MOST_RANGES, queries // LEAST_QUERIES)) if causal and queries <= keys else 1
    cuts = [queries * part // count for part in range(count + 1)]
    return tuple(
        Range(first, stop, keys - queries + stop if count > 1 else keys) for first, stop in itertools.pairwise(cuts)
    )


def is_ahead(queries: npt.NDArray[np.int64], keys: npt.NDArray[np.int64], offset: int) -> npt.NDArray[np.bool_]:
    """Which of these keys do these queries not see? [queries, keys]; `offset` is T - S."""
    return np.asarray(keys[None, :] > queries[:, None] + offset)


def causal_mask(queries: int, keys: int, hidden: float) -> npt.NDArray[Any]:
    """What is added to the scores [queries, keys]: `hidden` to those of keys ahead, else 0."""
    return np.where(is_ahead(np.arange(queries), np.arange(keys), keys - queries), hidden, 0)
