"""Cache: an optional last-level cache shared by all cores, sliced over the memory ports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sim.config import Field, Part, Unit
from sim.errors import FieldError


@dataclass(frozen=True, slots=True)
class Cache(Part):
    """Set-associative, LRU, write-back. Raises FieldError unless it divides into whole sets."""

    size_bytes: Annotated[int, Unit("size"), Field(alias="size", gt=0, description="capacity of all slices")]
    ways: Annotated[int, Field(ge=1, le=1024, description="associativity")]
    line_bytes: Annotated[int, Unit("size"), Field(alias="line", gt=0, description="line length")]
    bandwidth_bytes_per_s: Annotated[
        int, Unit("bandwidth"), Field(alias="bandwidth", gt=0, description="all slices together")
    ]

    def __post_init__(self) -> None:
        if self.size_bytes % (self.ways * self.line_bytes):
            message = (
                f"{self.size_bytes} B is not a whole number of sets of {self.ways} ways x {self.line_bytes} B"
            )
            raise FieldError([(("size",), message)])

    @property
    def sets(self) -> int:
        """Number of sets: size / (ways x line)."""
        return self.size_bytes // (self.ways * self.line_bytes)
