"""Cycles and action counts of tiles on a row-stationary array, by the law of sim/hw/row_stationary.py."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.cost.work import tile_overhead_cycles
from sim.hw.core import CoreKind
from sim.hw.row_stationary import WORD_BYTES, RowMapping, pass_cycles, tile_buffer_words

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RowTiles:
    """Sizes of tiles in the law's terms: arrays of one shape, at most the mapping's."""

    images: Int64
    filters: Int64
    rows: Int64
    columns: Int64
    channels: Int64

    @property
    def sizes(self) -> tuple[Int64, Int64, Int64, Int64, Int64]:
        """In the order in which the law takes them."""
        return self.images, self.filters, self.rows, self.columns, self.channels


def row_cycles(mapping: RowMapping, tiles: RowTiles, kind: CoreKind) -> Int64:
    """Cycles that every tile holds the array of a core: the law, the calibrated part of its rate, start of a tile.

    The buffer's bandwidth is the scratchpad's; the DMA's share of it is not taken off (on Eyeriss the array alone has
    97 % of it, measured).
    """
    width = kind.sram.bandwidth_bytes_per_s / kind.clock_hz
    cycles = pass_cycles(mapping, *tiles.sizes, bytes_per_cycle=width)
    achieved = np.ceil(cycles / kind.calibration.array_efficiency).astype(np.int64)
    return np.asarray(achieved + tile_overhead_cycles(kind), np.int64)


def row_actions(
    mapping: RowMapping, tiles: RowTiles, macs: int, epilogue_bytes: float, kind: CoreKind, density: float
) -> dict[str, float]:
    """Counts of a layer on a row-stationary array; `macs` are all of its products, `epilogue_bytes` what is read on
    the way out beside the sums, `density` the share of its inputs that are not zero.

    Every product reads an input and a weight of the PE's scratchpads, and reads and writes a sum there (`pe_*`). A
    sum moves on to the next PE after q S products, an input serves p S, a weight goes to each of e PEs
    (`pe_transfer_bytes`). Where zeros are gated, a PE looks at a zero and does no more: no weight, product or sum
    (`switched_macs`). The buffer: half of the sums' words are writes.
    """
    array = kind.array
    assert array is not None
    sums, inputs, filters = tile_buffer_words(mapping, *tiles.sizes)
    cycles = float(row_cycles(mapping, tiles, kind).sum())
    shape = mapping.shape
    passed = macs / (mapping.pe_channels * shape.kernel_columns)
    passed += macs / (mapping.pe_filters * shape.kernel_columns) + float((filters * tiles.rows).sum())
    half_sums = float(sums.sum()) / 2
    switched = macs * (density if array.zero_gating else 1.0)
    return {
        "macs": float(macs),
        "switched_macs": switched,
        "array_cycles": cycles,
        "array_peak_macs": cycles * array.pe_count,
        "sram_read_bytes": WORD_BYTES * (half_sums + float(inputs.sum() + filters.sum())) + epilogue_bytes,
        "sram_write_bytes": WORD_BYTES * half_sums,
        "pe_input_bytes": WORD_BYTES * float(macs),
        "pe_filter_bytes": WORD_BYTES * switched,
        "pe_sum_bytes": 2 * WORD_BYTES * switched,
        "pe_transfer_bytes": WORD_BYTES * passed,
    }
