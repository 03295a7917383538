"""Runs of Ramulator 2.1 in `data/dram_bandwidth.csv`, and the same runs on our model.

One controller per channel, open rows, write drain watermarks 0.2 and 0.8, all-bank refresh unless `NoRefresh`. Every
DRAM clock the driver offers requests until one is refused (`queue_limited`) or `max_outstanding` are in flight; 50,000
requests over 128 MiB (5,000 where one is in flight); no controller pipeline. The runs were made for this project.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sim.hw.chip import load_chip
from sim.hw.dram import Dram
from sim.hw.dram_patterns import Pattern, Result, simulate
from sim.hw.dram_timing import Mapper, Scheduler

DEVICES = {
    "DDR4-2400": ("ddr4_2400", {"dram.timing.ranks": 1}),
    "DDR4-2400-2R": ("ddr4_2400", {}),
    "DDR4-3200": ("ddr4_3200", {}),
    "DDR5-4800": ("ddr5_4800", {}),
    "HBM2-2000": ("hbm2_2000", {}),
    "HBM2-2400": ("hbm2", {}),
    "HBM3-6400": ("hbm3", {}),
    "LPDDR5-6400": ("lpddr5_6400", {}),
}
MAPPERS: dict[str, Mapper] = {
    "MOP4CLXOR": "bank_interleaved_xor",
    "RoBaRaCoCh": "row_bank_column",
    "ChRaBaRoCo": "bank_row_column",
}
SCHEDULERS: dict[str, Scheduler] = {"FRFCFS": "first_ready", "FRFCFSRowHit": "first_ready_row_hits"}
NAMED = {
    "seq_rd": Pattern(),
    "seq_wr": Pattern(writing=1),
    "rand_rd": Pattern(scattered=True),
    "rand_wr": Pattern(scattered=True, write_share=1.0),
    "rand_rw50": Pattern(scattered=True, write_share=0.5),
    "copy_line": Pattern(streams=2, writing=1, chunk_bytes=1),
    "copy_4k": Pattern(streams=2, writing=1, chunk_bytes=4096),
    "rd2wr1_4k": Pattern(streams=3, writing=1, chunk_bytes=4096),
    "tile_128x64": Pattern(run_bytes=128, pitch_bytes=8192),
    "tile_512x64": Pattern(run_bytes=512, pitch_bytes=8192),
}


@dataclass(frozen=True, slots=True)
class Run:
    """One row of the file."""

    config: str
    mapper: str
    scheduler: str
    refresh: bool
    channels: int
    pattern: str
    outstanding: int | None
    requests: int
    clocks: int
    read_latency_s: float | None


def runs() -> Iterator[Run]:
    with (Path(__file__).parent / "data" / "dram_bandwidth.csv").open() as file:
        for row in csv.DictReader(file):
            latency, most = row["avg_read_latency_ns"], row["max_outstanding"]
            yield Run(
                row["config"],
                row["addr_mapper"],
                row["scheduler"],
                row["refresh"] == "AllBank",
                int(row["channels"]),
                row["pattern"],
                None if most == "queue_limited" else int(most),
                int(row["requests"]),
                int(row["cycles"]),
                float(latency) * 1e-9 if latency else None,
            )


@cache
def device(config: str) -> Dram:
    name, overrides = DEVICES[config]
    return load_chip("tiny", {"dram.device": name, "dram.channels": 1, **overrides}).dram


def pattern(name: str) -> Pattern:
    """A pattern by the name it has in the file."""
    if name.startswith("stride"):
        distance, way = name.removeprefix("stride").split("_")
        return Pattern(run_bytes=1, pitch_bytes=int(distance), rows=0, writing=int(way == "w"))
    if name.startswith("streams"):
        return Pattern(streams=int(name.removeprefix("streams")), skew_bytes=8192)
    return NAMED[name]


def again(run: Run, most: int | None = None) -> Result:
    """The run on our model, with at most `most` requests."""
    dram = device(run.config)
    count = run.requests if most is None else min(most, run.requests)
    return simulate(
        dram.timing,
        pattern(run.pattern),
        burst_bytes=dram.burst_bytes,
        row_bytes=dram.row_bytes,
        mapper=MAPPERS[run.mapper],
        scheduler=SCHEDULERS[run.scheduler],
        count=count,
        channels=run.channels,
        outstanding=run.outstanding or count,
        refresh=run.refresh,
    )


def errors(run: Run, most: int | None = None) -> tuple[float, float | None]:
    """Relative error of (achieved bandwidth, average read latency)."""
    result = again(run, most)
    count = run.requests if most is None else min(most, run.requests)
    bandwidth = run.clocks / run.requests / (result.clocks / count) - 1
    return bandwidth, None if run.read_latency_s is None else result.latency_s / run.read_latency_s - 1
