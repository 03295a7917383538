"""Energy by component against action counts times published energies, by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from programs import (
    ARRAY,
    DMA0,
    LOAD_QUEUE,
    LOAD_QUEUE1,
    STORE_QUEUE,
    TO_CORE0,
    TO_CORE1,
    VECTOR,
    Builder,
    operator,
    program_of,
    small_chip,
)

from sim.cost.energy import COMPONENTS, operator_energy
from sim.cost.traffic import operator_traffic
from sim.cost.transfers import program_routes
from sim.errors import InputError
from sim.hw.area import hop_length_mm
from sim.hw.chip import Chip, chip_from_dict
from sim.hw.technology import load_technology
from sim.program import BYTE_UNITS, Kind, Link, Program

N7 = load_technology("n7")
def approx(expected: object, rel: float = 1e-6) -> object:
    """pytest.approx without its absolute tolerance, which is as large as a picojoule."""
    return pytest.approx(expected, rel=rel, abs=0)


PJ = 1e-12


def _energy(program: Program, chip: Chip | None = None) -> dict[str, list[float]]:
    segment = program.segments[0]
    traffic = operator_traffic(program, segment, program_routes(program))
    static_j = np.full(len(segment.ops), 2.0)
    found = operator_energy(program, segment, traffic, chip or small_chip(), N7, static_j)
    assert tuple(found) == COMPONENTS
    return {name: joules.tolist() for name, joules in found.items()}


def test_an_array_operator() -> None:
    counts = {"accumulator_read_bytes": 100.0, "accumulator_write_bytes": 200.0, "vector_exp": 10.0}
    build = Builder([operator(macs=1000, counts=counts)])
    build.compute(ARRAY, 5)
    found = _energy(program_of(build.segment()))
    # Jouppi 2021, 7 nm: int8 multiply 0.07 pJ, int32 add 0.03 pJ.
    assert found["mac"] == approx([1000 * 0.10 * PJ])
    # One operand byte and one 4-byte sum, each written and read in a register.
    assert found["registers"] == approx([1000 * 2 * 5 * 0.0168 * PJ])
    # An exp is 4 multiply-adds, in the int32 of the sums: 1.48 + 0.03 pJ each.
    assert found["vector"] == approx([10 * 4 * 1.51 * PJ])
    # 16 KiB over two columns are banks of 8 KiB: 7.5 pJ per 64 bit read, writes 1.18 times that.
    assert found["accumulator"] == approx([(100 + 200 * 1.18) * 0.9375 * PJ], rel=1e-3)
    assert found["static"] == [2.0]
    assert [found[name] for name in ("sram", "noc", "dram", "host")] == [[0.0]] * 4


def test_a_vector_operator_pays_passes_and_not_macs() -> None:
    build = Builder([operator(macs=1000, unit="vector", counts={"vector_add": 50.0, "vector_copy": 10.0})])
    build.compute(VECTOR, 5)
    found = _energy(program_of(build.segment()))
    assert (found["mac"], found["registers"]) == ([0.0], [0.0])
    # int8 addition 0.007 pJ; a copy reads and writes one register byte.
    assert found["vector"] == approx([50 * 0.007 * PJ + 10 * 2 * 0.0168 * PJ])


def test_transfers_pay_dram_network_and_scratchpad() -> None:
    build = Builder([operator("load"), operator("store")])
    build.move(Kind.LOAD, LOAD_QUEUE1, 1000, TO_CORE1)
    build.move(Kind.STORE, STORE_QUEUE, 100, TO_CORE0, op=1)
    found = _energy(program_of(build.segment()))
    hop_mm = hop_length_mm(small_chip(), load_technology("n7"))
    # HBM3 at 32.4 pJ/B both ways; one hop: 8 bit x its length x 0.0756 pJ/mm and the router's 0.07327 pJ.
    assert found["dram"] == approx([1000 * 32.4 * PJ, 100 * 32.4 * PJ])
    assert found["noc"] == approx([1000 * (8 * hop_mm * 0.0756 + 0.07327) * PJ, 0])
    # Banks of 8 KiB: 0.9375 pJ/B read, 1.18 times that written.
    assert found["sram"] == approx([1000 * 1.18 * 0.9375 * PJ, 100 * 0.9375 * PJ], rel=1e-3)


def test_the_host_link_is_the_chips_own_number() -> None:
    build = Builder([operator()])
    build.move(Kind.LOAD, LOAD_QUEUE, 1000, TO_CORE0)
    program = program_of(build.segment())
    links = (*program.links[:DMA0], Link("host", "host", BYTE_UNITS), program.links[-1])
    chip = chip_from_dict(
        {**small_chip().expanded(), "host": {"bandwidth": "1 GB/s", "latency": "1 us", "energy": "5 pJ/bit"}}
    )
    found = _energy(replace(program, links=links), chip)
    assert found["host"] == approx([1000 * 40 * PJ])
    assert found["dram"] == approx([1000 * 32.4 * PJ])


def test_nothing_is_free_for_want_of_a_number() -> None:
    build = Builder([operator(unit="vector", counts={"vector_teleport": 1.0})])
    build.compute(VECTOR, 5)
    with pytest.raises(InputError, match="unknown element function 'teleport'"):
        _energy(program_of(build.segment()))
    build = Builder([operator()])
    build.move(Kind.STORE, STORE_QUEUE, 3, TO_CORE0)
    program = program_of(build.segment())
    host = replace(
        program, links=(*program.links[:DMA0], Link("host", "host", BYTE_UNITS), program.links[-1])
    )
    with pytest.raises(InputError, match="a host link that chip 'pair' does not have"):
        _energy(host)
