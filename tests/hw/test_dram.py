"""DRAM: devices, and what they make of access patterns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sim.config import list_resources
from sim.hw.chip import load_chip
from sim.hw.dram import Dram, pattern_efficiency, refresh_power_w, row_activations

DEVICES = (
    "ddr3_2133", "ddr4_2400", "ddr4_3200", "ddr5_4800", "gddr6", "hbm2", "hbm2_2000", "hbm2e", "hbm3", "lpddr5_6400",
)  # fmt: skip


def dram(device: str) -> Dram:
    chip = load_chip("tiny", {"dram.device": device, "dram.channels": 1})
    return chip.dram


def test_the_devices_are_these() -> None:
    assert list_resources("hw_configs/dram") == DEVICES


@pytest.mark.parametrize("device", DEVICES)
def test_devices_load_with_source(device: str) -> None:
    found = dram(device)
    assert found.device == device
    assert found.source
    assert found.bandwidth_bytes_per_s == found.channel_bandwidth_bytes_per_s


@pytest.mark.parametrize(
    ("device", "bandwidth_bytes_per_s", "pj_per_bit"),
    [
        # 128 bit x 2.4 Gb/s, 64 bit x 6.4 Gb/s, 64 bit x 3.2 Gb/s, 16 bit x 6.4 Gb/s
        # On the device 2.24, the interface 5.47 and 3.91, a row of 8192 bit 909 pJ.
        ("hbm2", 38.4e9, 7.82),
        ("hbm3", 51.2e9, 6.26),
        ("ddr4_3200", 25.6e9, 20.3),
        ("lpddr5_6400", 12.8e9, 4.0),
        ("ddr3_2133", 17.066e9, 20.3),
    ],
)
def test_bandwidth_and_energy_of_a_channel(
    device: str, bandwidth_bytes_per_s: float, pj_per_bit: float
) -> None:
    found = dram(device)
    assert found.bandwidth_bytes_per_s == bandwidth_bytes_per_s
    row_j = found.activation_energy_j + found.row_bytes * (
        found.read_energy_j_per_byte + found.io_energy_j_per_byte
    )
    assert 1e12 * row_j / found.row_bytes == pytest.approx(8 * pj_per_bit, rel=5e-3)


@pytest.mark.parametrize("device", DEVICES)
def test_longer_runs_are_never_worse(device: str) -> None:
    found = dram(device)
    runs = found.burst_bytes * np.arange(1, 2000)
    for store in (False, True):
        for pitch in (0, 1 << 20, 3 << 16):
            efficiency = pattern_efficiency(found, runs, pitch, store=store)
            assert (np.diff(efficiency) > -1e-12).all()
            assert 0 < efficiency[0] < efficiency[-1] <= 1
    assert pattern_efficiency(found, [[64, 128], [256, 512]], 4096).shape == (2, 2)


def test_what_is_moved_besides_the_run_costs_as_much() -> None:
    """Runs of 48 B at any multiple of 16 B touch (48 + 64 - 16) / 64 = 1.5 bursts of 64 B on average."""
    found = dram("ddr4_3200")
    starts = np.arange(0, 64, 16)
    bursts = ((starts + 48 + 63) // 64 - starts // 64).mean()
    assert bursts == 1.5
    whole = pattern_efficiency(found, 96, 64 * 3)  # moves 96 + 64 - 32 = 128 B: two bursts
    assert pattern_efficiency(found, 96, 64 * 3) == pytest.approx(0.75 * pattern_efficiency(found, 128, 64 * 3))
    assert pattern_efficiency(found, 48, 64 * 3 + 16) < whole
    aligned = pattern_efficiency(found, [32, 64], 64 * 3)
    assert aligned[0] == pytest.approx(aligned[1] / 2)


def test_channels_share_long_runs_and_leave_short_ones_whole() -> None:
    """512 B over channels of 256 B: two see 256 B each at half the pitch; 256 B are seen by one."""
    one, four = (replace(dram("hbm2"), channels=n, bandwidth_bytes_per_s=1) for n in (1, 4))
    assert pattern_efficiency(four, 256, 8192) == pattern_efficiency(one, 256, 8192)
    assert pattern_efficiency(four, 512, 8192) == pytest.approx(pattern_efficiency(one, 256, 4096))
    assert pattern_efficiency(four, 1 << 14, 1 << 16) == pytest.approx(
        pattern_efficiency(one, 1 << 12, 1 << 14)
    )


def test_latency_is_that_of_the_timing_and_the_controller() -> None:
    """DDR4-3200 by hand: (22 + 22 + 22 + 4) clocks of 625 ps, and 20 ns."""
    assert dram("ddr4_3200").latency_ps == 43_750 + 20_000
    slower = load_chip("tiny", {"dram.device": "ddr4_3200", "dram.timing.CL": 30}).dram
    assert slower.latency_ps == 48_750 + 20_000
    fixed = load_chip("tiny", {"dram.device": "ddr4_3200", "dram.latency": "90 ns"}).dram
    assert fixed.latency_ps == 90_000


def test_rows_opened_by_a_pattern() -> None:
    hbm2 = dram("hbm2")
    # A burst opens a row of its own; a long run opens every row once; one that starts anywhere straddles.
    assert row_activations(hbm2, 32, 1 << 20) == 32768
    assert row_activations(hbm2, 1 << 20, 1 << 20) == pytest.approx(1024 + 1 - 32 / 1024)
    starts = np.arange(0, 1024, 32)
    touched = (starts + 512 + 1023) // 1024 - starts // 1024
    assert row_activations(hbm2, 512, 512) == pytest.approx(touched.mean())
    # O'Connor 2017: 3.92 pJ/bit in all, of which 1.21 for rows of 909 pJ: one per 94 B.
    per_bit_j = hbm2.activation_energy_j * row_activations(hbm2, 94, 1 << 20) / 2**23
    assert 1e12 * per_bit_j == pytest.approx(1.21, rel=0.07)
    assert (np.diff(row_activations(hbm2, np.arange(32, 5000), 1 << 20)) < 0).all()


def test_refresh_opens_every_row_once_a_period() -> None:
    hbm2 = dram("hbm2")
    assert refresh_power_w(hbm2) == pytest.approx(hbm2.capacity_bytes / 1024 * 909e-12 / 32e-3)
    # A stack of 8 GiB, by hand: 2^23 rows x 909 pJ / 32 ms.
    assert refresh_power_w(replace(hbm2, capacity_bytes=8 << 30)) == pytest.approx(0.2383, rel=1e-3)


def test_a_row_stays_open_from_one_run_of_a_box_to_the_next() -> None:
    hbm2 = dram("hbm2")
    # 8 runs of 32 B, 64 B apart, span 480 B: as many rows as one run of 480 B.
    assert row_activations(hbm2, 32, 256, 480) == row_activations(hbm2, 480, 480) == 1 + 448 / 1024
    # 4 KiB apart, every run has a row of its own.
    assert row_activations(hbm2, 32, 256, 7 * 4096 + 32) == 8
