"""Access patterns of a DRAM as streams of requests, and what a channel makes of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.hw.dram_mapper import Place, place
from sim.hw.dram_timing import DramTiming, Mapper, Scheduler, law

Int64 = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

FOOTPRINT_BYTES = 128 << 20
"""Addresses of a pattern wrap round here: far more than all open rows."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """Streams that take turns by chunks. A stream is sequential, or made of runs of `run_bytes` that start
    `pitch_bytes` apart; after `rows` of them the next tile begins beside the first run (0: never). The last
    `writing` streams write. `scattered` runs (of a burst at least) lie anywhere, and `write_share` of them write."""

    run_bytes: int = 0
    pitch_bytes: int = 0
    rows: int = 64
    streams: int = 1
    chunk_bytes: int = 256
    skew_bytes: int = 0
    writing: int = 0
    scattered: bool = False
    write_share: float = 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """What a pattern got: share of the peak bandwidth, and average read latency from arrival to last data, NaN where
    nothing reads.
    """

    clocks: int
    efficiency: float
    latency_s: float


def requests(pattern: Pattern, count: int, burst_bytes: int, seed: int = 1) -> tuple[Int64, Bool]:
    """(byte addresses, writes) of the first `count` bursts of a pattern."""
    number = np.arange(count, dtype=np.int64)
    if pattern.scattered:
        random = np.random.default_rng(seed)
        length = max(1, pattern.run_bytes // burst_bytes)
        runs = -(-count // length)
        start = random.integers(0, FOOTPRINT_BYTES // burst_bytes, runs)
        writes = random.random(runs) < pattern.write_share
        burst = np.repeat(start, length)[:count] + number % length
        return burst * burst_bytes % FOOTPRINT_BYTES, np.repeat(writes, length)[:count]
    chunk = max(1, pattern.chunk_bytes // burst_bytes)
    turn, within = number // chunk, number % chunk
    stream = turn % pattern.streams
    offset = (turn // pattern.streams * chunk + within) * burst_bytes
    spacing = FOOTPRINT_BYTES // (1 << (pattern.streams - 1).bit_length()) + pattern.skew_bytes
    address = stream * spacing + _along(pattern, offset, burst_bytes)
    return address % FOOTPRINT_BYTES, stream >= pattern.streams - pattern.writing


def _along(pattern: Pattern, offset: Int64, burst_bytes: int) -> Int64:
    """Addresses of the bytes of a stream."""
    if not pattern.run_bytes:
        return offset
    length = max(pattern.run_bytes, burst_bytes)
    run, within = offset // length, offset % length
    if not pattern.rows:
        return run * pattern.pitch_bytes + within
    tile, row = run // pattern.rows, run % pattern.rows
    across = max(1, pattern.pitch_bytes // length)
    down, beside = tile // across, tile % across
    return (down * pattern.rows + row) * pattern.pitch_bytes + beside * length + within


def simulate(
    timing: DramTiming,
    pattern: Pattern,
    *,
    burst_bytes: int,
    row_bytes: int,
    mapper: Mapper,
    scheduler: Scheduler,
    count: int,
    channels: int = 1,
    outstanding: int = 1 << 30,
    refresh: bool = True,
) -> Result:
    """Run `count` requests of a pattern through `channels` channels with at most `outstanding` in flight."""
    from sim.hw.dram_channel import simulate_requests

    address, writes = requests(pattern, count, burst_bytes)
    where: Place = place(
        address, timing, mapper=mapper, channels=channels, burst_bytes=burst_bytes, row_bytes=row_bytes
    )
    rules = law(timing, scheduler=scheduler, refresh=refresh)
    clocks, latency = simulate_requests(
        rules, channels, where.channel, where.bank, where.row, writes, outstanding
    )
    least = count * timing.burst_clocks / (channels * timing.pseudo_channels)
    reads = latency[~writes] * timing.clock_ps * 1e-12
    return Result(clocks, least / clocks, float(reads.mean()) if len(reads) else np.nan)
