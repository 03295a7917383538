"""Where a byte lies: address bits to channel, bank and row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.hw.dram_timing import DramTiming, Mapper

Int64 = npt.NDArray[np.int64]

CHUNK_BITS = 2
"""`bank_interleaved_xor` keeps four bursts together before it goes to the next bank."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where requests go; `bank` counts within the channel: pseudo-channel, rank, group, bank. All [requests]."""

    channel: Int64
    bank: Int64
    row: Int64


def place(
    address: Int64, timing: DramTiming, *, mapper: Mapper, channels: int, burst_bytes: int, row_bytes: int
) -> Place:
    """Channel, bank and row of byte addresses. Channels interleave by bursts; `channels` is a power of two.

    From the least significant bit, within a channel: `row_bank_column` has column, pseudo-channel, rank, group,
    bank, row; `bank_row_column` has column, row and then the banks; `bank_interleaved_xor` has two bits of column,
    the banks, the rest of the column and the row, and then XORs each of those fields with successive bits of
    the column (Ramulator 2.1 calls them RoBaRaCoCh, ChRaBaRoCo and MOP4CLXOR).
    """
    burst = address // burst_bytes
    channel, rest = burst % channels, burst // channels
    columns = row_bytes // burst_bytes
    sizes = (timing.pseudo_channels, timing.ranks, timing.groups, timing.banks)
    if mapper == "row_bank_column":
        rest = rest // columns
        fields, rest = _split(rest, sizes)
        row = rest % timing.rows
    elif mapper == "bank_row_column":
        rest = rest // columns
        row, rest = rest % timing.rows, rest // timing.rows
        backwards, _ = _split(rest, sizes[::-1])
        fields = backwards[::-1]
    else:
        low, rest = rest % (1 << CHUNK_BITS), rest >> CHUNK_BITS
        fields, rest = _split(rest, sizes)
        high, row = rest % (columns >> CHUNK_BITS), rest // (columns >> CHUNK_BITS)
        column = high << CHUNK_BITS | low
        for index, size in enumerate(sizes):
            fields[index] ^= column % size
            column = column // size
        row = row ^ column
    bank = np.zeros_like(burst)
    for index, size in enumerate(sizes):
        bank = bank * size + fields[index]
    return Place(channel, bank, row)


def _split(number: Int64, sizes: tuple[int, ...]) -> tuple[list[Int64], Int64]:
    """Fields from the least significant one on, and the rest."""
    fields = []
    for size in sizes:
        fields.append(number % size)
        number = number // size
    return fields, number
