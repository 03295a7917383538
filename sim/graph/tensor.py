"""A tensor: a name, a shape, a number format and the part it plays in the model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Role = Literal["input", "weight", "state", "activation"]

DTYPE_BITS: dict[str, int] = {
    "bool": 8,
    "int4": 4,
    "int8": 8,
    "int16": 16,
    "int32": 32,
    "int64": 64,
    "fp8": 8,
    "fp16": 16,
    "bf16": 16,
    "tf32": 32,
    "fp32": 32,
    "fp64": 64,
}
"""Storage width of every number format, in bits (tf32 is stored as fp32)."""

MAX_EXTENT = 2**31 - 1
"""Longest axis that a user may ask for. Far above any model, and products of a few stay exact in 64 bits."""

MAX_ELEMENTS = 2**48
"""Largest tensor that a user may ask for: half a petabyte in bf16."""

INDEX_DTYPES = frozenset({"bool", "int32", "int64"})
"""Formats of indices and masks: a change of a model's dtype leaves them alone."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """`role` is `input` (given to the model), `weight` (constant), `state` (kept between runs, such as a
    key-value cache) or `activation` (computed). `density` is the share of elements that are not zero, for chips that
    make use of zeros."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    role: Role = "activation"
    density: float = 1.0

    def __post_init__(self) -> None:
        if self.dtype not in DTYPE_BITS:
            raise ValueError(f"tensor {self.name}: unknown dtype {self.dtype!r}; one of {sorted(DTYPE_BITS)}")
        if any(extent < 1 for extent in self.shape):
            raise ValueError(f"tensor {self.name}: every extent must be positive, found {self.shape}")
        if not 0 < self.density <= 1:
            raise ValueError(f"tensor {self.name}: density must be above 0 and at most 1, found {self.density}")

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes in memory, packed, rounded up to whole bytes."""
        return -(-self.elements * DTYPE_BITS[self.dtype] // 8)
