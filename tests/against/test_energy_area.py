"""Technology and DRAM files against every published energy, area and density that one of their numbers can be put
beside (data/energy_area.csv); docs/validation.md has the table, which is made and checked here.

Rows that were taken as they stand must be in the files to the digit. The others were not, some contradict each other
(Aladdin and Horowitz on arithmetic, three sources on DRAM), and none may move without the table.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from real_chips import real_chips

from sim.cost.energy import action_energies
from sim.hw.area import chip_area, core_area, memory_area_mm2
from sim.hw.chip import load_chip
from sim.hw.dram import Dram
from sim.hw.technology import load_technology

ROOT = Path(__file__).parents[2]
PICO, BITS = 1e-12, 64
DRAM_RUN_BYTES = 94
"""What O'Connor et al. have read per row opened."""

LINES = (Path(__file__).parent / "data/energy_area.csv").read_text().splitlines()
ROWS = list(csv.DictReader(line for line in LINES if not line.startswith("#")))
TAKEN = [row for row in ROWS if row["taken"] == "yes"]
COMPARED = [row for row in ROWS if row["taken"] == "no"]


def _eyeriss(what: str) -> float:
    """Energy of 16 bit over that of a 16-bit multiply-accumulate at 65 nm."""
    chip, n65 = load_chip("eyeriss_v1"), load_technology("n65")
    energies, dram = action_energies(chip, chip.cores[0], n65), chip.dram
    per_byte = {
        "scratchpad": (energies.pe_input_j_per_byte + energies.pe_filter_j_per_byte + energies.pe_sum_j_per_byte) / 3,
        "transfer": energies.pe_transfer_j_per_byte,
        "buffer": energies.sram_read_j_per_byte,
        "dram": dram.read_energy_j_per_byte + dram.io_energy_j_per_byte + dram.activation_energy_j / dram.row_bytes,
    }
    return 2 * per_byte[what] / n65.mac_energy_j("int16")


def _device(device: str) -> Dram:
    parts = {"stacks": 1} if device.startswith("hbm") else {"channels": 1}
    return load_chip("lepton_m", {"dram": {"device": device, "capacity": "8 GiB", **parts}}).dram


def _dram(device: str, *what: str) -> float:
    """pJ of a row; pJ per bit of the device with its rows opened; the same with the interface (DDR4: per 64 bit)."""
    dram = _device(device)
    device_j = dram.read_energy_j_per_byte + dram.activation_energy_j / min(dram.row_bytes, DRAM_RUN_BYTES)
    if what == ("row",):
        return dram.activation_energy_j / PICO
    if what == ("device",):
        return device_j / 8 / PICO
    long_run_j = dram.read_energy_j_per_byte + dram.io_energy_j_per_byte + dram.activation_energy_j / dram.row_bytes
    return long_run_j / 8 / PICO * (BITS if device == "ddr4_3200" else 1)


def _operation(dtype: str, node: str) -> float:
    """Half a multiply-accumulate with its registers, pJ: what a whole chip takes at full speed, memories aside."""
    technology = load_technology(node)
    return (technology.mac_energy_j(dtype) + 5 * technology.pipeline_energy_j_per_byte()) / 2 / PICO


def _per_mib(name: str) -> float:
    chip = load_chip(name)
    assert chip.cache is not None
    return chip_area(chip, load_technology(chip.technology))["cache"] / (chip.cache.size_bytes / 2**20)


def _core(name: str) -> float:
    chip, _ = real_chips()[name]
    return sum(core_area(chip.cores[0], load_technology(chip.technology)).values())


def _phy(device: str) -> float:
    return _device(device).phy_area_mm2 * (8 if device == "hbm2e" else 1)


FIGURES: dict[str, Callable[..., float]] = {
    "add": lambda dtype, node: load_technology(node).add[dtype].value / PICO,
    "mul": lambda dtype, node: load_technology(node).mul[dtype].value / PICO,
    "sram": lambda kib, node: float(load_technology(node).sram_read_energy_j_per_byte(int(kib) << 10)) * 8 / PICO,
    "wire": lambda node: 256 / 8 * load_technology(node).wire_energy_j_per_byte(10) / PICO,
    "density": lambda node: load_technology(node).logic_transistors_per_mm2.value / 1e6,
    "wafer": lambda node: load_technology(node).wafer_price.value,
    "defects": lambda node: load_technology(node).defects_per_cm2.value,
    "array": lambda _: 128 * 128 * load_technology("n7").pe_area["bf16"].value,
    "operation": _operation,
    "eyeriss": _eyeriss,
    "dram": _dram,
    "phy": _phy,
    "cmem": lambda: memory_area_mm2(128 << 20, 2571, load_technology("n7")),
    "cache": _per_mib,
    "core": _core,
}


def ours(row: dict[str, str]) -> float:
    name, *arguments = row["ours"].split()
    if arguments[1:] == ["in", "all"]:
        arguments = [arguments[0], "all"]
    return FIGURES[name](*arguments)


def table_line(row: dict[str, str]) -> str:
    published, here = float(row["value"]), ours(row)
    node = f"{row['node_nm']} nm" if row["node_nm"] else ""
    cells = row["item"], node, f"{published:g}", f"{here:.3g}", row["unit"], f"{here / published:.2f}", row["source"]
    return f"| {' | '.join(cells)} |"


@pytest.mark.parametrize("row", TAKEN, ids=lambda row: row["ours"])
def test_numbers_taken_from_a_source_are_those_of_the_source(row: dict[str, str]) -> None:
    assert ours(row) == pytest.approx(float(row["value"]), rel=2e-3)


@pytest.mark.parametrize("row", COMPARED, ids=lambda row: row["item"])
def test_the_table_in_the_documentation_is_current(row: dict[str, str]) -> None:
    assert table_line(row) in (ROOT / "docs/validation.md").read_text().splitlines()


def test_most_of_what_was_not_taken_is_within_a_factor_of_two() -> None:
    # The others: Aladdin's arithmetic, whose units are made for 1 ns, and sources that contradict one taken.
    ratios = [ours(row) / float(row["value"]) for row in COMPARED if "Aladdin" not in row["source"]]
    near = [abs(math.log2(ratio)) <= 1 for ratio in ratios]
    assert sum(near) / len(near) > 0.7
