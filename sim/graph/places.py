"""Where the axes of an attention's queries, keys, values and result lie in their tensors.

A kernel reads heads where a projection wrote them, token by token, and writes its result so: [batch, tokens, heads,
width] where the operator is listed with [batch, heads, tokens, width], as FlashAttention's does (Dao et al., 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")
Places = tuple[tuple[int, ...], ...]
"""Of queries, keys, values and the result: the axis of the tensor that each listed axis is; () where they are the
same."""

RESULT = 3
"""Place of the result among them."""


def listed(places: Places, number: int, by_axis: Sequence[T]) -> tuple[T, ...]:
    """What is given by axis of the tensor, in the order in which the operator lists its axes.

    With (0, 2, 1, 3) the shape (1, 128, 12, 64) is listed as (1, 12, 128, 64).
    """
    return tuple(by_axis[at] for at in places[number]) if places else tuple(by_axis)


def laid(places: Places, number: int, by_axis: Sequence[T]) -> tuple[T, ...]:
    """What is given in the listed order, by axis of the tensor: the inverse of `listed`."""
    if not places:
        return tuple(by_axis)
    return tuple(by_axis[at] for at in sorted(range(len(by_axis)), key=places[number].__getitem__))


def as_listed(places: Places, number: int, value: Any) -> Any:
    """An array of the tensor's axes with them in the listed order."""
    return value.transpose(listed(places, number, range(value.ndim)))


def as_laid(places: Places, number: int, value: Any) -> Any:
    """An array of the listed axes with them as they lie in the tensor."""
    return value.transpose(laid(places, number, range(value.ndim)))
