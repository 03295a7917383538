"""SRAM: the software-managed scratchpad of a core, and what its banks do to reads at a stride.

Words lie in the banks in turn, word w in bank w mod B, and a bank gives one word a cycle. A row of L lanes that reads
words s apart reaches B / gcd(s, B) banks, the busiest of which holds ceil(L gcd(s, B) / B) of the words; side by side
they would take ceil(L / B) cycles. Source: interleaved memories, Rau, "Pseudo-randomly interleaved memory", ISCA 1991,
section 2; tests/hw/test_sram.py counts the cycles of a model of the banks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt

from sim.config import Field, Part, Unit

Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sram(Part):
    """Scratchpad of one core. All banks together give `bandwidth_bytes_per_s`; it is read and written by the
    array, the vector unit and the DMA engine of the same core only."""

    size_bytes: Annotated[int, Unit("size"), Field(alias="size", gt=0, description="capacity, per core")]
    bandwidth_bytes_per_s: Annotated[
        int, Unit("bandwidth"), Field(alias="bandwidth", gt=0, description="all banks together, per core")
    ]
    banks: Annotated[int, Field(ge=1, le=4096, description="independently accessed banks")] = 1
    padded_rows: Annotated[
        bool,
        Field(description="rows of a tile begin an odd number of words apart: no bank conflicts across them"),
    ] = True
    tile_slots: Annotated[
        int,
        Field(
            ge=1,
            le=2,
            description="slots of a buffer filled more than once: 2 loads the next tile during this one",
        ),
    ] = 2
    keeps_results: Annotated[
        bool,
        Field(
            description="results stay for the operators behind where there is room; false: they leave, as where a "
            "buffer feeds an array only"
        ),
    ] = True
    rings: Annotated[
        bool,
        Field(
            description="a tile that is needed again may stay in its slot, and tiles are cut for it; false: only whole "
            "operands stay, where there is room"
        ),
    ] = True
    tiles_bytes: Annotated[
        int,
        Unit("size"),
        Field(
            alias="tiles",
            ge=0,
            description="most that tiles of one operator take, where smaller ones do; default: half of what is free",
        ),
    ] = 0

    @property
    def bank_bytes(self) -> int:
        """Capacity of one bank, rounded up to whole bytes."""
        return -(-self.size_bytes // self.banks)

    def word_bytes(self, clock_hz: int) -> float:
        """Bytes that one bank gives in a cycle of `clock_hz`."""
        return self.bandwidth_bytes_per_s / (self.banks * clock_hz)


def conflict_factor(stride_words: npt.ArrayLike, lanes: npt.ArrayLike, banks: int) -> Float64:
    """Cycles in which `lanes` lanes read words `stride_words` apart, over those in which they read as many words side
    by side; at least 1. Broadcasts its arguments; stride 0 is one word for all.

    16 lanes on 16 banks: 1 at strides 1 and 3, 4 at stride 4, 16 at stride 16.
    """
    stride, lane = np.asarray(stride_words, np.int64), np.asarray(lanes, np.int64)
    reached = banks // np.gcd(stride, banks)
    factor = -(-lane // reached) / -(-lane // banks)
    return np.asarray(np.where(stride == 0, 1.0, factor), np.float64)
