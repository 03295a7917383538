"""Efficiency of a DRAM by access pattern, for the flow model: tables taken from the channel model, and their use.

A table holds the time per byte of a pattern over that of the peak: its cost, the inverse of its efficiency. Transfers
are taken apart into runs of contiguous bytes a pitch apart. The simulated points are runs of 1 to 256 bursts and one
without end, at pitches that are odd multiples of 1, 4, ... 4096 bursts (the power of two decides on banks; tiles of 64
runs, then the next tile beside), and runs anywhere. Between the points the cost is linear in 1 / run, since each run
pays once for its row, and in the logarithm of the power of two.

Several streams take turns, as DMA channels do. A load's cost is that of streams which all read. A store's is what it
adds where half of the streams write: 2 x cost(half) - cost(read), so that it bears the turning of the data bus.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from functools import cache

import numpy as np
import numpy.typing as npt
from numpy.typing import ArrayLike

from sim.config import data_dir
from sim.hw.dram_patterns import Pattern, simulate
from sim.hw.dram_timing import DramTiming, Mapper, Scheduler

Float64 = npt.NDArray[np.float64]

RUNS = (1, 2, 4, 8, 16, 64, 256)
"""Bursts of the simulated runs; the last column of a table is the run without end."""

PITCHES = tuple(4**i for i in range(7))
"""Bursts whose odd multiples are the simulated pitches; the last row of a table is runs anywhere."""

ENDLESS = float(1 << 40)
"""Bursts of a run that counts as without end."""

TURN_BYTES = 4096
"""What a channel gets of one stream before the next one's turn. Estimate: a DMA channel keeps some KiB in flight; with
1 KiB many streams on GDDR6 would get 0.74 of the peak, where a Wormhole measures 0.93."""

COUNT = 5000
"""Requests simulated for a point."""

TABLES = "patterns.json"


@dataclass(frozen=True, slots=True)
class ChannelSetup:
    """What the table of a device depends on."""

    timing: DramTiming
    burst_bytes: int
    row_bytes: int
    mapper: Mapper
    scheduler: Scheduler
    streams: int

    @property
    def fingerprint(self) -> str:
        """Identifies all numbers in here and those of the method."""
        timing = [(f.name, getattr(self.timing, f.name)) for f in fields(self.timing) if f.compare]
        rest = (self.burst_bytes, self.row_bytes, self.mapper, self.scheduler, self.streams)
        method = (RUNS, PITCHES, TURN_BYTES, COUNT)
        return hashlib.sha256(repr((timing, rest, method)).encode()).hexdigest()[:16]


@cache
def cost_table(setup: ChannelSetup) -> Float64:
    """Costs [load or store, pitch, run], all at least 1: from the file of the package, else simulated (seconds)."""
    known = _tables().get(setup.fingerprint)
    table = np.array(known["cost"]) if known else simulated_table(setup)
    table.flags.writeable = False
    return table


def simulated_table(setup: ChannelSetup) -> Float64:
    """Simulate all points of a table. Costs fall, or stay, as runs grow: longer ones are never worse."""
    shape = (len(PITCHES) + 1, len(RUNS) + 1)
    read, half = np.empty(shape), np.empty(shape)
    for costs, writing in ((read, 0), (half, 1)):
        costs[:, -1] = point(setup, 0, 0, writing)
        for column, run in enumerate(RUNS):
            for line, pitch in enumerate(PITCHES):
                costs[line, column] = point(setup, run, pitch, writing)
            costs[-1, column] = point(setup, run, 0, writing)
    return np.round(combine(read, half), 4)


def combine(read: Float64, half: Float64) -> Float64:
    """Costs of [load, store] from those [pitch, run] of reading alone and of half and half, falling along the runs."""
    costs = np.stack([read, np.maximum(2 * half - read, 1.0)])
    return np.maximum.accumulate(costs[..., ::-1], axis=-1)[..., ::-1]


def point(setup: ChannelSetup, run: int, pitch: int, writing: int) -> float:
    """Cost of runs of `run` bursts (0: without end) at an odd multiple of `pitch` bursts (0: anywhere), where half of
    the streams write or none."""
    burst = setup.burst_bytes
    streams = max(setup.streams, 1 + writing)
    pattern = Pattern(
        run_bytes=run * burst,
        pitch_bytes=(run // pitch + 1 | 1) * pitch * burst if pitch else 0,
        streams=streams,
        chunk_bytes=TURN_BYTES,
        skew_bytes=37 * setup.row_bytes,
        writing=streams // 2 * writing,
        scattered=bool(run) and not pitch,
        write_share=0.5 * writing,
    )
    result = simulate(
        setup.timing,
        pattern,
        burst_bytes=burst,
        row_bytes=setup.row_bytes,
        mapper=setup.mapper,
        scheduler=setup.scheduler,
        count=COUNT,
    )
    return 1 / result.efficiency


def interpolate(table: Float64, run_bursts: ArrayLike, pitch_bursts: ArrayLike) -> Float64:
    """Costs of one kind (a table's [pitch, run]) at runs and pitches in bursts, which broadcast; pitch 0: anywhere.

    Only the largest power of two in a pitch counts; it is at least 1 here. Runs of less than a burst cost a whole one.
    """
    run = np.maximum(np.asarray(run_bursts, np.float64), 1.0)
    pitch = np.asarray(pitch_bursts, np.float64)
    run, pitch = np.broadcast_arrays(run, pitch)
    inverse = np.append(1.0 / np.array(RUNS), 0.0)
    column = np.minimum(np.searchsorted(-inverse, -1.0 / run, side="right") - 1, len(RUNS) - 1)
    along = (inverse[column] - 1.0 / run) / (inverse[column] - inverse[column + 1])
    scale = np.clip(np.log2(np.maximum(pitch, 1.0)) / 2, 0.0, len(PITCHES) - 1)
    line = np.where(pitch > 0, np.minimum(scale.astype(np.int64), len(PITCHES) - 2), len(PITCHES))
    below = np.where(pitch > 0, line + 1, line)
    down = np.where(pitch > 0, scale - line, 0.0)
    upper = table[line, column] * (1 - along) + table[line, column + 1] * along
    lower = table[below, column] * (1 - along) + table[below, column + 1] * along
    return np.asarray(upper * (1 - down) + lower * down)


@cache
def _tables() -> dict[str, dict[str, list[list[list[float]]]]]:
    path = data_dir("hw_configs/dram") / TABLES
    return dict(json.loads(path.read_text())) if path.exists() else {}
