"""Technology: published points are met exactly, laws between them, and nothing is free."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from sim.config import document_from_data, dump, validate
from sim.errors import InputError
from sim.hw.core import DTYPE_BITS
from sim.hw.technology import Technology, list_technologies, load_technology

NODES = ("n12", "n16", "n28", "n3", "n4", "n45", "n5", "n65", "n7", "n8")


def test_the_nodes_are_these() -> None:
    assert list_technologies() == NODES


# Jouppi et al., ISCA 2021, Table 2, pJ: (multiply, add of the accumulator type).
@pytest.mark.parametrize(
    ("node", "dtype", "mul_pj", "add_pj"),
    [
        ("n45", "int8", 0.2, 0.1),
        ("n45", "fp16", 1.1, 0.9),
        ("n45", "fp32", 3.7, 0.9),
        ("n7", "int8", 0.07, 0.03),
        ("n7", "bf16", 0.21, 0.38),
        ("n7", "fp16", 0.34, 0.38),
        ("n7", "fp32", 1.31, 0.38),
        ("n7", "int32", 1.48, 0.03),
    ],
)
def test_a_mac_is_a_multiplication_and_an_accumulation(
    node: str, dtype: str, mul_pj: float, add_pj: float
) -> None:
    assert 1e12 * load_technology(node).mac_energy_j(dtype) == pytest.approx(mul_pj + add_pj)


@pytest.mark.parametrize(
    ("node", "size_bytes", "pj_per_64b"),
    [
        ("n45", 8 << 10, 10),
        ("n45", 32 << 10, 20),
        ("n45", 1 << 20, 100),
        ("n7", 8 << 10, 7.5),
        ("n7", 32 << 10, 8.5),
        ("n7", 1 << 20, 14),
    ],
)
def test_sram_meets_the_published_points(node: str, size_bytes: int, pj_per_64b: float) -> None:
    tech = load_technology(node)
    assert 8e12 * tech.sram_read_energy_j_per_byte(size_bytes) == pytest.approx(pj_per_64b)
    assert 8e12 * tech.sram_write_energy_j_per_byte(size_bytes) == pytest.approx(1.18 * pj_per_64b)


@pytest.mark.parametrize("node", NODES)
def test_sram_grows_by_a_power_law(node: str) -> None:
    tech = load_technology(node)
    sizes = np.array([[1 << 10, 16 << 10], [1 << 20, 128 << 20]])
    energies = tech.sram_read_energy_j_per_byte(sizes)
    assert energies.shape == (2, 2)
    assert (np.diff(energies.ravel()) > 0).all()
    # Twice the size beyond the last point costs what twice the size costs before it.
    beyond = tech.sram_read_energy_j_per_byte([1 << 21])[0] / tech.sram_read_energy_j_per_byte([1 << 20])[0]
    before = tech.sram_read_energy_j_per_byte([1 << 18])[0] / tech.sram_read_energy_j_per_byte([1 << 17])[0]
    assert beyond == pytest.approx(before)


@pytest.mark.parametrize("node", ["n3", "n5", "n8", "n12", "n16", "n28"])
@pytest.mark.parametrize("dtype", list(DTYPE_BITS))
def test_other_nodes_are_straight_lines_in_log_log(node: str, dtype: str) -> None:
    share = math.log(45 / load_technology(node).node_nm) / math.log(45 / 7)
    for operation in ("add", "mul"):
        at_45, at_7, here = (getattr(load_technology(n), operation)[dtype].value for n in ("n45", "n7", node))
        assert here == pytest.approx(at_45 * (at_7 / at_45) ** share, rel=2e-3, abs=0)


@pytest.mark.parametrize("dtype", list(DTYPE_BITS))
def test_every_cost_falls_with_the_node_and_none_is_zero(dtype: str) -> None:
    nodes = [load_technology(node) for node in ("n45", "n28", "n16", "n7", "n5")]
    columns = [
        [tech.mac_energy_j(dtype) for tech in nodes],
        [tech.vector_energy_j("add", dtype) for tech in nodes],
        [tech.vector_energy_j("mul", dtype) for tech in nodes],
        [tech.vector_energy_j("move", dtype) for tech in nodes],
        [tech.noc_energy_j_per_byte_hop(1.0) for tech in nodes],
        [float(tech.sram_write_energy_j_per_byte(1 << 20)) for tech in nodes],
        [tech.pe_area_mm2({dtype: 1.0}) for tech in nodes],  # type: ignore[dict-item]
        [tech.sram_area_mm2(1 << 20) for tech in nodes],
        [tech.sram_leakage.value for tech in nodes],
        [tech.instruction.value for tech in nodes],
    ]
    for column in columns:
        assert all(a > b > 0 for a, b in pairwise(column))


def test_narrow_accesses_cost_more_per_byte() -> None:
    tech = load_technology("n7")
    read = tech.sram_read_energy_j_per_byte
    assert read(8 << 10, 64) == read(8 << 10)
    # Half of a 64-bit access is paid once per access, however wide.
    assert read(8 << 10, 256) / read(8 << 10, 64) == pytest.approx((1 + 1 / 4) / 2)
    assert read(8 << 10, 16) / read(8 << 10, 64) == pytest.approx((1 + 4) / 2)
    assert (np.diff(read(1 << 20, np.array([8, 64, 512, 4096]))) < 0).all()


def test_vector_classes() -> None:
    tech = load_technology("n7")
    assert 1e12 * tech.vector_energy_j("multiply_add", "fp32") == pytest.approx(1.31 + 0.38)
    assert 1e12 * tech.vector_energy_j("compare", "fp32") == pytest.approx(0.38)
    assert 1e12 * tech.vector_energy_j("move", "fp32") == pytest.approx(2 * 4 * 0.0168)
    with pytest.raises(InputError, match="unknown class"):
        tech.vector_energy_j("sort", "fp32")  # type: ignore[arg-type]
    for call in (tech.mac_energy_j, lambda d: tech.vector_energy_j("move", d)):
        with pytest.raises(InputError, match="did you mean 'fp32'"):
            call("fp31")


def test_a_hop_is_wire_and_router() -> None:
    tech = load_technology("n45")
    # Keckler 2011: 310 pJ for 256 bit over 10 mm.
    wire_j = (tech.noc_energy_j_per_byte_hop(10.0) - tech.noc_energy_j_per_byte_hop(0.0)) * 32
    assert 1e12 * wire_j == pytest.approx(310, rel=2e-3)
    assert 1e12 * tech.noc_energy_j_per_byte_hop(0.0) == pytest.approx(0.314)


def test_area_and_idle_power() -> None:
    tech = load_technology("n7")
    assert tech.pe_area_mm2({"bf16": 1.0}) * 128 * 128 == pytest.approx(14, rel=2e-3)  # TPUv4i MXU
    assert tech.pe_area_mm2({"bf16": 1.0, "fp32": 0.25, "int8": 1.0}) == tech.pe_area_mm2({"bf16": 1.0})
    assert tech.pe_area_mm2({"int8": 4.0}) == 4 * tech.pe_area_mm2({"int8": 1.0})
    assert tech.leakage_w(100, 64 << 20) == pytest.approx(100 * 0.054 + 64 * 0.020)
    assert tech.clock_w(10, 1e9) == pytest.approx(10 * 186e-12 * 1e9)


def test_small_banks_of_memory_are_mostly_periphery() -> None:
    tech = load_technology("n7")
    # Squares of cells of 0.027 um2 with 200 more sides of a cell along two edges; larger banks are several of 64 KiB.
    for bank, side in ((64 << 10, 524_288**0.5), (4 << 10, 32_768**0.5)):
        one_mm2 = 0.027e-6 * (side + 200) ** 2
        assert tech.sram_area_mm2(bank, bank) == pytest.approx(one_mm2)
        assert tech.sram_area_mm2(16 * bank, bank) == pytest.approx(16 * one_mm2)
    assert tech.sram_area_mm2(1 << 20, 1 << 20) == tech.sram_area_mm2(1 << 20) == tech.sram_area_mm2(1 << 20, 64 << 10)
    # The smallest are registers, of 46 transistors a bit.
    assert tech.sram_area_mm2(24, 24) == pytest.approx(24 * 8 * 46 / 96.3e6)


def test_a_missing_cost_is_refused() -> None:
    data = dump(load_technology("n7"))
    assert validate(document_from_data(data), Technology) == load_technology("n7")
    del data["mul"]["fp8"]
    with pytest.raises(InputError, match="mul: no cost for fp8; every cost must be stated"):
        validate(document_from_data(data), Technology)
    data = dump(load_technology("n7"))
    data["add"]["int8"]["value"] = "0 pJ"
    del data["router"]
    del data["wire"]["source"]
    with pytest.raises(InputError) as error:
        validate(document_from_data(data), Technology)
    text = str(error.value)
    assert "add.int8.value: found '0 pJ'; expected more than 0 J" in text
    assert "router: required key 'router' is missing" in text
    assert "wire.source: required key 'source' is missing" in text


def test_bank_sizes_must_ascend() -> None:
    data = dump(load_technology("n7"))
    data["sram_read"].reverse()
    with pytest.raises(InputError, match="sram_read: bank sizes must ascend"):
        validate(document_from_data(data), Technology)


def test_published_numbers_say_so() -> None:
    n7 = load_technology("n7")
    assert n7.mul["int8"].status == "published"
    assert "ISCA 2021, Table 2" in n7.mul["int8"].source
    assert all(cost.status == "estimate" for cost in load_technology("n16").mul.values())
