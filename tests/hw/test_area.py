"""Areas by component, each from its transistors, macros and wires."""

from __future__ import annotations

import pytest

from sim.hw.area import chip_area, core_area, hop_length_mm, memory_area_mm2
from sim.hw.chip import load_chip
from sim.hw.technology import load_technology


def test_area_is_in_the_range_of_the_real_dies() -> None:
    for name, low_mm2, high_mm2 in (("tpu_v1", 300, 360), ("tpu_v4", 540, 660)):
        chip = load_chip(name)
        assert low_mm2 < sum(chip_area(chip, load_technology(chip.technology)).values()) < high_mm2


def test_area_of_a_gpu_core() -> None:
    # A100 SM: control of 128 threads beside 64 fp32 lanes; 256 KiB of registers in four files, 128 B a cycle each.
    chip, n7 = load_chip("a100"), load_technology("n7")
    area = core_area(chip.cores[0], n7)
    assert area["vector"] == pytest.approx((64 * 134_069 + 128 * 996_200) / 96.3e6)
    file_mm2 = joined(2 * bank_mm2(32))
    assert area["accumulators"] == pytest.approx(4 * (file_mm2 + 128 * 0.0105 * file_mm2**0.5 / 2.84))
    # 32 addresses of loads and stores.
    assert area["dma"] == pytest.approx(32 * 177_690 / 96.3e6)
    # Elsewhere a lane controls itself, and no port crosses an accumulator, whose columns have banks with two ports.
    lepton = load_chip("lepton_m").cores[0]
    plain = core_area(lepton, n7)
    assert plain["vector"] == pytest.approx(lepton.vector.lanes * 1_130_269 / 96.3e6)
    assert plain["accumulators"] == pytest.approx(joined(128 * bank_mm2(8) * 8 / 6))
    assert lepton.accumulator.size_bytes == 128 * 8 << 10
    # Two channels of four addresses.
    assert plain["dma"] == pytest.approx(8 * 177_690 / 96.3e6)


def bank_mm2(kib: int) -> float:
    """At 7 nm: a square of cells of 0.027 um2, and 200 sides of a cell more in height and width."""
    return 0.027e-6 * ((8192 * kib) ** 0.5 + 200) ** 2


def joined(macros_mm2: float) -> float:
    """Macros and 0.13 of them a mm of the side that they have with their wires, found by trial."""
    area = macros_mm2
    for _ in range(200):
        area = macros_mm2 * (1 + 0.13 * min(area**0.5, 10.6))
    return area


def test_lanes_behind_arrays_of_integers_have_no_instructions() -> None:
    # Two stages with an adder and a multiplier; on TPU v1 sigmoid and tanh in hardware besides.
    for name, transistors in (("nvdla_large", 2 * 177_690), ("tpu_v1", 2 * 177_690 + 2 * 134_069)):
        chip = load_chip(name)
        technology = load_technology(chip.technology)
        found = core_area(chip.cores[0], technology)["vector"]
        assert found == pytest.approx(chip.cores[0].vector.lanes * technology.logic_area_mm2(transistors))


@pytest.mark.parametrize(("topology", "sides", "shape"), [("mesh", 5, [2, 4]), ("torus", 5, [2, 4]), ("ring", 3, [8])])
def test_a_router_is_as_wide_as_its_links(topology: str, sides: int, shape: list[int]) -> None:
    # A switch to each other side (Aladdin: 569.5 um2 for 4 B to one of four, at 7.7 transistors a um2) and eight flits
    # in registers, for each side.
    n7 = load_technology("n7")
    network = {"topology": topology, "shape": shape, "link_bandwidth": "512 GB/s", "hop_latency": "2 ns"}
    chip = load_chip("lepton_m").replace("interconnect", network)
    width = 512 / 1.2
    each = sides * width * (569.5 / 4 * 7.7 * (sides - 1) / 4 + 64 * 46)
    assert chip_area(chip, n7)["interconnect"] == pytest.approx(8 * each / 96.3e6)
    twice = chip.replace("interconnect.link_bandwidth", "1024 GB/s")
    assert chip_area(twice, n7)["interconnect"] == pytest.approx(2 * 8 * each / 96.3e6)


def test_area_by_component() -> None:
    chip = load_chip("lepton_m")
    n7 = load_technology("n7")
    area = chip_area(chip, n7)
    assert area["arrays"] == pytest.approx(8 * 128 * 128 * 854e-6)
    # 1.2 TB/s are 1000 B a cycle, whose wires would take 10.5 mm2 across 2.84 mm; those of the cache 17.5, in all of
    # which they cross: its banks are as large as those of VMEM, of which the length is.
    sram = joined(64 * bank_mm2(64))
    assert area["sram"] == pytest.approx(8 * (sram + 1000 * 0.0105 * sram**0.5 / 2.84))
    assert area["cache"] == pytest.approx(joined(256 * bank_mm2(64)) + 2e12 / 1.2e9 * 0.0105, rel=1e-3)
    # CMEM of TPU v4i, 112 mm2. In what is larger no wire is longer.
    assert memory_area_mm2(128 << 20, 1000, n7) == pytest.approx(112.3 + 10.5, rel=1e-3)
    assert memory_area_mm2(256 << 20, 1000, n7) == pytest.approx(2 * 112.3 + 10.5, rel=2e-3)
    assert area["dram_phy"] == pytest.approx(16 * (0.653 + 34_546_438 / 96.3e6))
    # 64 GB/s: 16 lanes of PCIe 5.
    assert area["host_phy"] == pytest.approx(16 * (0.64 + 5_372_100 / 96.3e6))
    assert area["other"] == pytest.approx(0.19 * sum(area.values()))
    tiles_mm2 = sum(area.values()) - area["dram_phy"] - area["host_phy"] - area["other"]
    assert hop_length_mm(chip, n7) == pytest.approx((tiles_mm2 / 8) ** 0.5)
    twice = chip_area(chip.replace("core.array.cols", 256), n7)
    # Sums lie in more banks of half the size.
    assert {part for part in area if twice[part] != area[part]} == {"arrays", "accumulators", "other"}
    linked = chip_area(chip.replace("links", {"count": 2, "bandwidth": "50 GB/s"}), n7)
    # 100 GB/s in all: 0.057 mm2 and 3.225 million transistors for each.
    assert linked["link_phy"] == pytest.approx(100 * (0.057 + 3.225 / 96.3))
    # A crossbar lies in the middle of all tiles.
    tpu = load_chip("tpu_v4")
    parts = chip_area(tpu, n7)
    tiles_mm2 = sum(parts.values()) - sum(parts[name] for name in ("dram_phy", "host_phy", "link_phy", "other"))
    assert hop_length_mm(tpu, n7) == pytest.approx(0.75 * tiles_mm2**0.5)
