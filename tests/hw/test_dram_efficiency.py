"""Tables of DRAM efficiency: they are the channel model's, what lies between is right, and against Ramulator."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from sim.config import data_dir, list_resources
from sim.hw.chip import load_chip
from sim.hw.dram import Dram, pattern_efficiency
from sim.hw.dram_efficiency import (
    PITCHES,
    RUNS,
    TABLES,
    combine,
    cost_table,
    interpolate,
    point,
    simulated_table,
)
from sim.hw.dram_patterns import Pattern, simulate
from tests.against import ramulator

DEVICES = list_resources("hw_configs/dram")


def dram(device: str) -> Dram:
    return load_chip("tiny", {"dram.device": device, "dram.channels": 1}).dram


def test_every_device_has_its_tables() -> None:
    """None is stale: a change of a device or of the method changes the fingerprint. Then: `make dram-tables`."""
    kept = json.loads((data_dir("hw_configs/dram") / TABLES).read_text())
    wanted = {
        replace(dram(device).channel_setup, streams=streams).fingerprint
        for device in DEVICES
        for streams in (1, 4, 16)
    }
    assert wanted == set(kept)


@pytest.mark.parametrize(("device", "line"), [("hbm2", 2), ("ddr4_3200", 5), ("lpddr5_6400", len(PITCHES))])
def test_a_line_of_the_table_is_what_the_channel_does(device: str, line: int) -> None:
    """Loads and stores; a shorter run costs at least as much as a longer one."""
    setup = dram(device).channel_setup
    pitch = [*PITCHES, 0][line]
    read, half = (
        np.array([*(point(setup, run, pitch, writing) for run in RUNS), point(setup, 0, 0, writing)])
        for writing in (0, 1)
    )
    for kind, costs in enumerate((read, np.maximum(2 * half - read, 1.0))):
        falling = [costs[i:].max() for i in range(len(costs))]
        assert cost_table(setup)[kind, line] == pytest.approx(falling, abs=1e-4)
        assert combine(read, half)[kind] == pytest.approx(falling)


@pytest.mark.nightly
@pytest.mark.parametrize("device", DEVICES)
def test_whole_tables(device: str) -> None:
    setup = dram(device).channel_setup
    assert simulated_table(setup) == pytest.approx(cost_table(setup), abs=1e-4)


def test_between_the_points() -> None:
    table = cost_table(dram("hbm2").channel_setup)[0]
    for line, pitch in enumerate([*PITCHES, 0]):
        assert interpolate(table, RUNS, pitch) == pytest.approx(table[line, :-1])
    # A pass over a row costs once: the mean of 1/2 and 1/4 is at 8/3 bursts; 8 lies half-way from 4 to 16.
    assert interpolate(table, 8 / 3, 16) == pytest.approx((table[2, 1] + table[2, 2]) / 2)
    assert interpolate(table, 1, 8) == pytest.approx((table[1, 0] + table[2, 0]) / 2)
    assert interpolate(table, 1e12, 1) == pytest.approx(table[0, -1])
    assert interpolate(table, 0.5, 1 << 30) == pytest.approx(table[-2, 0])


def test_another_timing_is_simulated_anew() -> None:
    """Twice the burst on the data bus halves the peak; what a row costs beyond it weighs half as much."""
    usual = dram("hbm2")
    slow = load_chip("tiny", {"dram.device": "hbm2", "dram.channels": 1, "dram.timing.BL": 8}).dram
    assert slow.channel_setup.fingerprint != usual.channel_setup.fingerprint
    assert point(slow.channel_setup, 1, 0, 0) < 0.6 * point(usual.channel_setup, 1, 0, 0)


def test_against_ramulator() -> None:
    """Rows of tiles, random bursts and sequential reads at the chip's mapper and scheduler: mean error 5 %."""
    off = []
    for run in ramulator.runs():
        wanted = ("MOP4CLXOR", "FRFCFSRowHit", True, None, 1)
        if (run.mapper, run.scheduler, run.refresh, run.outstanding, run.channels) != wanted:
            continue
        device = replace(ramulator.device(run.config), streams=1)
        burst = device.burst_bytes
        shapes = {"seq_rd": (1 << 20, 1 << 20), "rand_rd": (burst, 0), "tile_128x64": (128, 8192)}
        shapes["tile_512x64"] = (512, 8192)
        if run.pattern in shapes and run.config != "DDR4-2400":
            timing = device.timing
            reached = run.requests * timing.burst_clocks / timing.pseudo_channels / run.clocks
            off.append(float(pattern_efficiency(device, *shapes[run.pattern])) / reached - 1)
    assert len(off) == 16
    assert np.mean(np.abs(off)) < 0.05
    assert np.max(np.abs(off)) < 0.28


@pytest.mark.parametrize("device", ["ddr4_3200", "ddr5_4800", "hbm2", "lpddr5_6400"])
def test_stores_bear_the_turning_of_the_bus(device: str) -> None:
    """Any share of stores from the costs of loads and of stores, against the channel: exact at one half."""
    found = dram(device)
    load, store = (float(pattern_efficiency(found, 1 << 20, 1 << 20, store=s)) for s in (False, True))
    assert store < load
    for writing, streams, within in ((2, 4, 0.02), (1, 4, 0.08), (1, 3, 0.08), (3, 4, 0.08)):
        pattern = Pattern(streams=streams, writing=writing, chunk_bytes=4096, skew_bytes=37 * found.row_bytes)
        seen = simulate(
            found.timing, pattern, burst_bytes=found.burst_bytes, row_bytes=found.row_bytes,
            mapper=found.mapper, scheduler=found.scheduler, count=6000,
        )  # fmt: skip
        share = writing / streams
        assert 1 / ((1 - share) / load + share / store) == pytest.approx(seen.efficiency, rel=within)
