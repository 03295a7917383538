"""DRAM: devices, and the closed form for access patterns against cycle-level runs."""

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
def test_efficiency_is_monotone_between_its_ends(device: str) -> None:
    found = dram(device)
    runs = np.arange(1, 20_000)
    efficiency = pattern_efficiency(found, runs)
    assert (np.diff(efficiency) > 0).all()
    assert pattern_efficiency(found, found.burst_bytes) == pytest.approx(found.efficiency_random)
    assert pattern_efficiency(found, 1 << 40) == pytest.approx(found.efficiency_sequential, rel=1e-6)
    half = found.burst_bytes // 2
    assert pattern_efficiency(found, half) == pytest.approx(found.efficiency_random / 2)
    assert pattern_efficiency(found, [[64, 128], [256, 512]]).shape == (2, 2)


# Ramulator 2.1, one channel, refresh on, any number outstanding: the best of MOP4CLXOR and RoBaRaCoCh with FRFCFS or
# FRFCFSRowHit. A tile of WxH is H rows of W bytes, 8 KiB apart. These are all random and tile rows that there are.
RANDOM = [
    ("ddr4_2400", 64, 0.9189, "rand_rd"),
    ("ddr4_2400", 64, 0.8362, "rand_rw50"),
    ("ddr4_2400", 64, 0.9486, "rand_wr"),
    ("ddr4_3200", 64, 0.4351, "rand_rd"),
    ("ddr4_3200", 64, 0.4288, "rand_rw50"),
    ("ddr4_3200", 64, 0.4469, "rand_wr"),
    ("ddr5_4800", 64, 0.6050, "rand_wr"),
    ("hbm2", 32, 0.3008, "rand_rd"),
    ("hbm2", 32, 0.2846, "rand_rw50"),
    ("hbm3", 32, 0.2955, "rand_wr"),
    ("lpddr5_6400", 32, 0.4459, "rand_rd"),
    ("lpddr5_6400", 32, 0.3363, "rand_rw50"),
    ("lpddr5_6400", 32, 0.3483, "rand_wr"),
]
TILES = [
    ("ddr4_2400", 128, 0.9450, "tile_128x64"),
    ("ddr4_2400", 512, 0.9391, "tile_512x64"),
    ("ddr4_3200", 128, 0.4926, "tile_128x64"),
    ("ddr4_3200", 512, 0.9505, "tile_512x64"),
    ("ddr5_4800", 128, 0.9098, "tile_128x64"),
    ("ddr5_4800", 512, 0.9134, "tile_512x64"),
    ("hbm3", 512, 0.8763, "tile_512x64"),
]
# A pitch of a power of two sends the short rows of a tile to few banks: the closed form is too high by this much.
CONFLICTS = [("hbm2", 128, 0.2466, 2.39), ("hbm3", 128, 0.3719, 1.60), ("lpddr5_6400", 128, 0.3958, 1.72)]


def error(device: str, run_bytes: int, measured: float) -> float:
    """Relative error of the closed form."""
    return float(pattern_efficiency(dram(device), run_bytes)) / measured - 1


@pytest.mark.parametrize(("device", "run_bytes", "measured", "pattern"), TILES)
def test_tiles_without_bank_conflicts(device: str, run_bytes: int, measured: float, pattern: str) -> None:
    assert abs(error(device, run_bytes, measured)) < 0.22, pattern


@pytest.mark.parametrize(("device", "run_bytes", "measured", "factor"), CONFLICTS)
def test_bank_conflicts_are_the_stated_limit(
    device: str, run_bytes: int, measured: float, factor: float
) -> None:
    assert 1 + error(device, run_bytes, measured) == pytest.approx(factor, abs=0.01)


def test_mean_errors_are_those_of_the_docstring() -> None:
    assert np.mean([abs(error(*row[:3])) for row in RANDOM]) == pytest.approx(0.06, abs=0.01)
    assert np.mean([abs(error(*row[:3])) for row in [*TILES, *CONFLICTS]]) == pytest.approx(0.34, abs=0.01)


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
