"""SRAM: the software-managed scratchpad of a core."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from sim.config import Field, Part, Unit


@dataclass(frozen=True, slots=True)
class Sram(Part):
    """Scratchpad of one core. All banks together give `bandwidth_bytes_per_s`; it is read and written by the
    array, the vector unit and the DMA engine of the same core only."""

    size_bytes: Annotated[int, Unit("size"), Field(alias="size", gt=0, description="capacity, per core")]
    bandwidth_bytes_per_s: Annotated[
        int, Unit("bandwidth"), Field(alias="bandwidth", gt=0, description="all banks together, per core")
    ]
    banks: Annotated[int, Field(ge=1, le=4096, description="independently accessed banks")] = 1
    tile_slots: Annotated[
        int,
        Field(
            ge=1,
            le=2,
            description="slots of a buffer filled more than once: 2 loads the next tile during this one",
        ),
    ] = 2

    @property
    def bank_bytes(self) -> int:
        """Capacity of one bank, rounded up to whole bytes."""
        return -(-self.size_bytes // self.banks)
