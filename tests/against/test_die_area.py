"""Die area against published dies, with one model of components and no number of a single chip."""

from __future__ import annotations

import pytest
from real_chips import earlier_gpus, real_chips

from sim.hw.area import IN_CORES, MEMORIES, chip_area, memory_area_mm2
from sim.hw.chip import load_chip
from sim.hw.technology import load_technology

CHIPS = real_chips()


def area(name: str) -> dict[str, float]:
    chip, _ = CHIPS[name]
    return chip_area(chip, load_technology(chip.technology))


@pytest.mark.parametrize("name", ["tpu_v1", "tpu_v2", "tpu_v3", "tpu_v4", "tpu_v4i", "a100", "h100", "mi210"])
def test_dies_within_ten_percent(name: str) -> None:
    assert sum(area(name).values()) == pytest.approx(CHIPS[name][1], rel=0.10)


def test_h100_with_what_is_off_on_its_die() -> None:
    # GH100 has 144 multiprocessors (NVIDIA's H100 white paper), of which an H100 uses 132. Its file leaves them out:
    # the model takes too much at 4 nm.
    chip = CHIPS["h100"][0].replace("core.spare", 12)
    found = sum(chip_area(chip, load_technology(chip.technology)).values())
    assert found / CHIPS["h100"][1] - 1 == pytest.approx(0.15, abs=0.01)


def test_mean_error_of_the_dies_whose_node_is_known() -> None:
    names = ("tpu_v1", "tpu_v2", "tpu_v3", "tpu_v4", "tpu_v4i", "a100")
    errors = [abs(sum(area(name).values()) / CHIPS[name][1] - 1) for name in names]
    assert sum(errors) / len(errors) < 0.05


@pytest.mark.parametrize(
    ("name", "low", "high"), [("mi210", -0.07, -0.04), ("a40", -0.05, 0.05)]
)
def test_known_misses(name: str, low: float, high: float) -> None:
    # MI210 has 112 compute units, of which 8 are off. It is made in 6 nm, here 7, and has fp64 lanes that its file does
    # not have; its memory PHYs and links are twice as large as LLMCompass counts them. A40 is no witness: the density
    # of its 8 nm process is that of this die, and part of it is graphics.
    assert low < sum(area(name).values()) / CHIPS[name][1] - 1 < high


@pytest.mark.parametrize(("name", "error"), [("k40", -0.04), ("p100", 0.08), ("v100", 0.30)])
def test_gpus_that_the_model_was_not_made_with(name: str, error: float) -> None:
    # V100 has A100's multiprocessor, which is a tenth too small at 7 nm: its 12 nm are not as dense as foundries say
    # (21.1e9 transistors on 815 mm2 are 26 a um2, logic and memory together; n12 has 33 for logic).
    chip, die_mm2 = earlier_gpus()[name]
    found = sum(chip_area(chip, load_technology(chip.technology)).values())
    assert found / die_mm2 - 1 == pytest.approx(error, abs=0.01)


def test_core_of_eyeriss() -> None:
    # Chen et al., JSSC 2017, Table IV: 3.5 x 3.5 mm within the pads, 65 nm.
    eyeriss = load_chip("eyeriss_v1")
    assert sum(chip_area(eyeriss, load_technology("n65")).values()) / 3.5**2 - 1 == pytest.approx(-0.09, abs=0.01)


def test_parts_of_tpu_v1() -> None:
    # Jouppi 2017, of at most 331 mm2: data buffers 37 %, compute 30 %, I/O 10 %, control 2 %, and 21 % of the rest.
    found, die_mm2 = area("tpu_v1"), 331
    assert sum(found[part] for part in MEMORIES) == pytest.approx(0.37 * die_mm2, rel=0.05)
    assert found["arrays"] == pytest.approx(0.30 * die_mm2, rel=0.01)
    assert found["dram_phy"] + found["host_phy"] == pytest.approx(0.10 * die_mm2, rel=0.05)
    assert found["other"] == pytest.approx(0.21 * die_mm2, rel=0.10)


def test_parts_of_a100() -> None:
    # Die photo of GA100 (LLMCompass, die_area.csv): cores 476, interconnect 76, memory PHYs and controllers 90 (six
    # sites, one unused), L2 119 (48 MiB of which 40 are used).
    found = area("a100")
    assert sum(found[part] for part in IN_CORES) == pytest.approx(476, rel=0.10)
    assert found["interconnect"] == pytest.approx(76, rel=0.25)
    assert found["dram_phy"] == pytest.approx(90 * 5 / 6, rel=0.10)
    # Tags, controllers and slices are missing from the model of a cache: far too small.
    assert found["cache"] == pytest.approx(119 * 40 / 48, rel=0.25)


def test_memories_of_tpu_v4i() -> None:
    n7 = load_technology("n7")
    # VMEM, which the width of a port was taken from, and CMEM, which the macros were.
    assert memory_area_mm2(16 << 20, 4096, n7) == pytest.approx(51, rel=0.02)
    assert memory_area_mm2(128 << 20, 2571, n7) == pytest.approx(112, rel=0.25)
