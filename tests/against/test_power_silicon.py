"""Power against measured chips. docs/validation.md has the same numbers in a table.

What was used to set a number of a technology file is marked there: idle power of TPU v1 (clock energy and leakage at
28 nm) and constant power of A100 (leakage at 7 nm). Everything else is a prediction.
"""

from __future__ import annotations

import pytest
from real_chips import real_chips

import sim
from sim.cost.energy import ON_DRAM, action_energies, idle_power_w
from sim.hw.chip import Chip
from sim.hw.technology import load_technology

CHIPS = {name: chip for name, (chip, _) in real_chips().items()}
PJ_PER_BIT = 8e-12


def idle_w(chip: Chip) -> tuple[float, float]:
    """Of the chip alone, and with its DRAM."""
    found = idle_power_w(chip, load_technology(chip.technology))
    return sum(watts for name, watts in found.items() if name not in ON_DRAM), sum(found.values())


def test_tpu_v1_idles_at_28_w() -> None:
    # Jouppi 2017, Table 2, per die.
    assert idle_w(CHIPS["tpu_v1"])[0] == pytest.approx(28, rel=0.05)


@pytest.mark.parametrize(
    ("model", "batch", "tera_ops"),
    [("resnet50", 8, (12, 25)), ("alexnet", 32, (10, 20))],
)
def test_tpu_v1_is_busy_at_40_w(model: str, batch: int, tera_ops: tuple[int, int]) -> None:
    # Jouppi 2017: 40 W per die; its workloads run at 3 to 86 TOPS, of which MLP0 and CNN1 at 12 and 14.
    report = sim.simulate(model, "tpu_v1", dtype="int8", batch=batch)
    low, high = tera_ops
    assert low < 2e-12 * float(str(report["macs"])) / float(str(report["latency_s"])) < high
    assert report["chip_power_w"] == pytest.approx(40, rel=0.20)


def test_tpu_v1_at_full_speed_is_too_hot() -> None:
    # CNN0, 86 TOPS: full power, 12 W above idle. Ours is 20 W for arithmetic and registers alone: the published
    # energies are those of random operands, and half of a network's activations are zero.
    n28 = load_technology("n28")
    per_mac_j = n28.mac_energy_j("int8") + 5 * n28.register_energy_j_per_byte()
    assert per_mac_j * 86e12 / 2 == pytest.approx(20, rel=0.05)


def test_a100_constant_power() -> None:
    # Antepara et al., SC'25: 54 W, SXM4, with its memory.
    assert idle_w(CHIPS["a100"])[1] == pytest.approx(54, rel=0.05)


def test_a100_energy_per_bit() -> None:
    # Antepara et al., SC'25: HBM with controllers and transport 13.11 pJ/bit, L2 4.71, L1 1.59.
    chip = CHIPS["a100"]
    energies, dram = action_energies(chip, chip.cores[0], load_technology("n7")), chip.dram
    column = dram.read_energy_j_per_byte + dram.io_energy_j_per_byte + energies.noc_j_per_byte_hop
    long, single = (
        (column + dram.activation_energy_j / run) / PJ_PER_BIT for run in (dram.row_bytes, dram.burst_bytes)
    )
    assert long < 13.11 < 1.10 * single
    # Too low by far: crossbar buffers, tags, register file and the instructions of a GPU are not modelled.
    cache = (energies.cache_read_j_per_byte + energies.noc_j_per_byte_hop) / PJ_PER_BIT
    assert 0.2 < cache / 4.71 < 0.4
    assert 0.1 < energies.sram_read_j_per_byte / PJ_PER_BIT / 1.59 < 0.2


def test_tpu_v4_lies_in_its_measured_range() -> None:
    # Measured on production workloads: 90 W at least, 170 on average, 192 at most (chip and HBM).
    busy = sim.simulate("gemm:4096x4096x4096", CHIPS["tpu_v4"], dtype="bf16")
    # The calibrated chip does not load while it computes: half of its peak, and less than the mean of the fleet.
    assert 0.5 < float(str(busy["array_utilization"])) < 0.6
    assert 110 < float(str(busy["power_w"])) < 192
    network = sim.simulate("resnet50", CHIPS["tpu_v4"], dtype="bf16", batch=32)
    assert 80 < float(str(network["power_w"])) < 170
