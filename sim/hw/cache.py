"""Cache: an optional last-level cache shared by all cores, sliced over the memory ports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, cast

import numpy as np

from sim.config import Field, Part, Unit
from sim.errors import FieldError
from sim.units import FASTEST_LINK, SLOWEST_LINK

ADDRESS_BITS, STATE_BITS = 48, 2
"""Of a physical address (estimate: that of today's servers and GPUs); valid and dirty."""

PolicyName = Literal["auto", "cache", "bypass", "pin"]


@dataclass(frozen=True, slots=True)
class CachePolicy(Part):
    """Which tensors go through the cache. `cache`: lines come in and go out again; `bypass`: what is not there stays
    out; `pin`: lines stay once they are there; `auto`: `cache` what is read more than once, `bypass` the rest."""

    weights: Annotated[PolicyName, Field(description="constants of the model")] = "auto"
    inputs: Annotated[PolicyName, Field(description="what the model is given")] = "auto"
    states: Annotated[PolicyName, Field(description="what is kept between runs (key-value caches)")] = "auto"
    activations: Annotated[PolicyName, Field(description="results that go through memory")] = "auto"
    tensors: Annotated[
        Mapping[str, PolicyName], Field(description="policy of single tensors, by their name in the model")
    ] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Cache(Part):
    """Set-associative, LRU, write-back, write-allocate. Raises FieldError unless it divides into whole sets."""

    size_bytes: Annotated[int, Unit("size"), Field(alias="size", gt=0, description="capacity of all slices")]
    ways: Annotated[int, Field(ge=1, le=1024, description="associativity")]
    line_bytes: Annotated[int, Unit("size"), Field(alias="line", gt=0, description="line length")]
    bandwidth_bytes_per_s: Annotated[
        int,
        Unit("bandwidth"),
        Field(alias="bandwidth", ge=SLOWEST_LINK, le=FASTEST_LINK,
              description="all slices together")
    ]
    latency_ps: Annotated[
        int, Unit("time_ps"), Field(alias="latency", ge=0, description="look-up and access, without hops")
    ] = 20_000  # estimate: some 20 cycles of a slice of a few MiB at 1 GHz
    hashed: Annotated[
        bool, Field(description="sets by a hash of the address, so that no pitch comes back to a few of them")
    ] = False
    policy: Annotated[CachePolicy, Field(description="which tensors go through the cache")] = field(
        default_factory=CachePolicy
    )

    def __post_init__(self) -> None:
        if self.size_bytes % (self.ways * self.line_bytes):
            message = (
                f"{self.size_bytes} B is not a whole number of sets of {self.ways} ways x {self.line_bytes} B"
            )
            raise FieldError([(("size",), message)])

    @property
    def tag_bits(self) -> float:
        """Bits that are kept of a line besides its data: what its set does not tell of its address, valid and dirty.

        40 MiB in 16 ways, hashed or not: 48 bit less the 21 of 2.5 MiB, and 2, are 29. May be an array, one entry per
        design.
        """
        return cast(float, ADDRESS_BITS - np.floor(np.log2(self.size_bytes / self.ways)) + STATE_BITS)

    @property
    def sets(self) -> int:
        """Number of sets: size / (ways x line)."""
        return self.size_bytes // (self.ways * self.line_bytes)
