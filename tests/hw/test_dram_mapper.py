"""Address bits to channels, banks and rows."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from sim.hw.chip import load_chip
from sim.hw.dram_mapper import Place, place
from sim.hw.dram_timing import Mapper


def mapped(device: str, mapper: Mapper, address: np.ndarray, channels: int = 1) -> Place:
    dram = load_chip("tiny", {"dram.device": device, "dram.channels": 1}).dram
    return place(
        address,
        dram.timing,
        mapper=mapper,
        channels=channels,
        burst_bytes=dram.burst_bytes,
        row_bytes=dram.row_bytes,
    )


@pytest.mark.parametrize("mapper", get_args(Mapper))
@pytest.mark.parametrize(("device", "columns"), [("ddr4_3200", 128), ("hbm3", 32), ("lpddr5_6400", 64)])
def test_every_row_of_every_bank_gets_just_its_columns(device: str, columns: int, mapper: Mapper) -> None:
    dram = load_chip("tiny", {"dram.device": device, "dram.channels": 1}).dram
    size = dram.timing.bank_count * dram.timing.rows * dram.row_bytes
    # Whole blocks of address space from places apart: below, in the middle, and the last.
    block = dram.timing.bank_count * dram.row_bytes * 8
    for start in (0, size // 2, size - block):
        where = mapped(device, mapper, np.arange(start, start + block, dram.burst_bytes))
        _, count = np.unique(np.stack([where.bank, where.row]), axis=1, return_counts=True)
        assert (count == columns).all()
        assert where.row.max() < dram.timing.rows
        assert where.bank.min() >= 0
        assert where.bank.max() < dram.timing.bank_count


def test_row_bank_column_fills_a_row_and_goes_to_the_next_group() -> None:
    where = mapped("ddr4_3200", "row_bank_column", np.array([0, 8191, 8192, 4 * 8192, 16 * 8192]))
    assert where.bank.tolist() == [0, 0, 4, 1, 0]
    assert where.row.tolist() == [0, 0, 0, 0, 1]


def test_bank_row_column_fills_a_bank() -> None:
    where = mapped("ddr4_3200", "bank_row_column", np.array([0, 8192, 65536 * 8192, 4 * 65536 * 8192]))
    assert where.row.tolist() == [0, 1, 0, 0]
    assert where.bank.tolist() == [0, 0, 1, 4]


def test_bank_interleaved_xor_changes_the_group_with_every_burst() -> None:
    """Four bursts of a chunk: column bits 0 and 1 are XORed into the group, bits 2 and 3 into the bank."""
    where = mapped("ddr4_3200", "bank_interleaved_xor", np.arange(0, 8 * 64, 64))
    assert where.bank.tolist() == [0, 4, 8, 12, 4, 0, 12, 8]
    # One turn round all 16 banks of 256 B later, column bit 2 is set and is XORed into the bank.
    assert mapped("ddr4_3200", "bank_interleaved_xor", np.array([16 * 256])).bank.tolist() == [1]


def test_channels_interleave_by_bursts() -> None:
    where = mapped("hbm2", "row_bank_column", np.arange(0, 4 * 1024 + 1, 32), channels=4)
    assert where.channel[:5].tolist() == [0, 1, 2, 3, 0]
    assert where.bank[0] == where.bank[127]
    assert where.bank[128] != where.bank[127]
