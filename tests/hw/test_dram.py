"""DRAM: devices, and the closed form for access patterns against cycle-level runs."""

from __future__ import annotations

import numpy as np
import pytest

from sim.config import list_resources
from sim.hw.chip import load_chip
from sim.hw.dram import Dram, pattern_efficiency

DEVICES = (
    "ddr3_2133", "ddr4_2400", "ddr4_3200", "ddr5_4800", "gddr6", "hbm2", "hbm2e", "hbm3", "lpddr5_6400",
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
        ("hbm2", 38.4e9, 3.92),
        ("hbm3", 51.2e9, 4.05),
        ("ddr4_3200", 25.6e9, 20.3),
        ("lpddr5_6400", 12.8e9, 4.0),
    ],
)
def test_bandwidth_and_energy_of_a_channel(
    device: str, bandwidth_bytes_per_s: float, pj_per_bit: float
) -> None:
    found = dram(device)
    assert found.bandwidth_bytes_per_s == bandwidth_bytes_per_s
    assert 1e12 * found.read_energy_j_per_byte == pytest.approx(8 * pj_per_bit)


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


# Ramulator 2.1, one channel, FRFCFS with row hits first, refresh on; the better of the two common address mappers
# (MOP4CLXOR, RoBaRaCoCh). A tile of WxH is H rows of W bytes, 8 KiB apart.
RUNS = [
    ("ddr4_2400", 128, 0.945, "tile_128x64"),
    ("ddr4_2400", 512, 0.9391, "tile_512x64"),
    ("ddr4_3200", 64, 0.4351, "rand_rd"),
    ("ddr4_3200", 128, 0.4926, "tile_128x64"),
    ("ddr4_3200", 512, 0.8074, "tile_512x64"),
    ("ddr5_4800", 64, 0.605, "rand_wr"),
    ("ddr5_4800", 512, 0.9134, "tile_512x64"),
    ("hbm3", 32, 0.2955, "rand_wr"),
    ("hbm3", 512, 0.8763, "tile_512x64"),
    ("lpddr5_6400", 32, 0.4456, "rand_rd"),
]


@pytest.mark.parametrize(("device", "run_bytes", "measured", "pattern"), RUNS)
def test_closed_form_against_cycle_level_runs(
    device: str, run_bytes: int, measured: float, pattern: str
) -> None:
    closed_form = float(pattern_efficiency(dram(device), run_bytes))
    assert closed_form == pytest.approx(measured, rel=0.22), pattern


def test_mean_error_of_the_closed_form() -> None:
    errors = [abs(float(pattern_efficiency(dram(d), run)) / measured - 1) for d, run, measured, _ in RUNS]
    assert np.mean(errors) < 0.06
