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

from sim.cost.energy import COMPONENTS, IDLE, action_energies, chip_power_w, idle_power_w, operator_energy
from sim.cost.traffic import operator_traffic
from sim.cost.transfers import program_routes
from sim.errors import InputError
from sim.hw.area import chip_area, core_area, hop_length_mm
from sim.hw.chip import Chip, chip_from_dict, load_chip
from sim.hw.dram import chip_share_of_interface
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
    elapsed_s = np.full(len(segment.ops), 2.0)
    found = operator_energy(program, segment, traffic, chip or small_chip(), N7, elapsed_s)
    assert tuple(found) == COMPONENTS
    return {name: joules.tolist() for name, joules in found.items()}


def test_an_array_operator() -> None:
    counts = {"accumulator_read_bytes": 100.0, "accumulator_write_bytes": 200.0, "vector_exp": 10.0}
    build = Builder([operator(macs=1000, counts=counts)])
    build.compute(ARRAY, 5)
    found = _energy(program_of(build.segment()))
    # Jouppi 2021, 7 nm: int8 multiply 0.07 pJ, int32 add 0.03 pJ.
    assert found["mac"] == approx([1000 * 0.10 * PJ])
    # One operand byte and one 4-byte sum, each passed on by a register.
    assert found["registers"] == approx([1000 * 5 * 0.0168 * 0.333 * PJ])
    # An exp is 4 multiply-adds, in the int32 of the sums: 1.48 + 0.03 pJ each.
    assert found["vector"] == approx([10 * 4 * 1.51 * PJ])
    # 16 KiB over two columns are banks of 8 KiB: 7.5 pJ per 64 bit read, writes 1.18 times that.
    assert found["accumulator"] == approx([(100 + 200 * 1.18) * 0.9375 * PJ], rel=1e-3)
    # One task is 16 instructions; 10 elements of an exp are 4 passes of 4 lanes, an instruction each: 33.2 pJ.
    assert found["control"] == approx([(16 + 10 * 4 / 4) * 33.2 * PJ])
    idle_w = idle_power_w(small_chip(), N7)
    for name in ("leakage", "dram_refresh", "dram_standby"):
        assert found[name] == approx([2.0 * idle_w[name]])
    # Two seconds of a clock with 9/10 gated, and 5 ps in which the array has all of it: 2 x 2 PEs of 241 um2.
    array_w = 0.9 * 4 * 241e-6 * 186e-12 * 1e9
    assert found["clock"] == approx([2.0 * idle_w["clock"] + 5e-12 * array_w])
    rest = ("sram", "cache", "dma", "noc", "dram_activate", "dram_read", "dram_write", "dram_io", "host")
    assert [found[name] for name in rest] == [[0.0]] * 9


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
    # HBM3: 2.24 pJ/bit on the device, 3.91 on the interface; rows of 1 KiB at 909 pJ, here one after another.
    assert found["dram_read"] == approx([1000 * 17.92 * PJ, 0])
    assert found["dram_write"] == approx([0, 100 * 17.92 * PJ])
    assert found["dram_io"] == approx([1000 * 31.28 * PJ, 100 * 31.28 * PJ])
    assert found["dram_activate"] == approx([1000 / 1024 * 909 * PJ, 100 / 1024 * 909 * PJ])
    # In a buffer of the DMA engine every byte is written and read.
    assert found["dma"] == approx([1000 * 2 * 0.0168 * PJ, 100 * 2 * 0.0168 * PJ])
    # One hop: 8 bit x its length x 0.0756 pJ/mm and the router's 0.07327 pJ.
    assert found["noc"] == approx([1000 * (8 * hop_mm * 0.0756 + 0.07327) * PJ, 0])
    # Banks of 8 KiB, 1000 bit wide: 0.9375 pJ/B x (1 + 0.064) / 2 read, 1.18 times that written; and half the side of
    # eight banks of 256 + 200 cells of 0.027 um2 a side, the wires between them, and a port of 1000 B a cycle at 0.0105
    # mm2 of wire, were it 2.84 mm long.
    macros_mm2 = 8 * 0.027e-6 * 456**2
    banks_mm2 = macros_mm2 * (1 + 0.13 * 0.215)
    bank, wire = 0.9375 * 1.064 / 2, 8 * 0.0756 * (banks_mm2 + 10.5 * banks_mm2**0.5 / 2.84) ** 0.5 / 2
    assert found["sram"] == approx([1000 * (1.18 * bank + wire) * PJ, 100 * (bank + wire) * PJ], rel=1e-3)


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
    assert found["dram_write"] == approx([1000 * 17.92 * PJ])


def test_rows_opened_are_those_of_the_pattern() -> None:
    build = Builder([operator(counts={"dram_row_activations": 7.0}), operator()])
    build.move(Kind.LOAD, LOAD_QUEUE1, 1024, TO_CORE1)
    build.move(Kind.LOAD, LOAD_QUEUE1, 2048, TO_CORE1, op=1)
    assert _energy(program_of(build.segment()))["dram_activate"] == approx([7 * 909 * PJ, 2 * 909 * PJ])


def test_idle_power_by_hand() -> None:
    chip = small_chip()
    found, area = idle_power_w(chip, N7), chip_area(chip, N7)
    logic_mm2 = sum(area.values()) - area["sram"] - area["accumulators"]
    # Two cores of 64 KiB and 16 KiB at 20 mW/MiB; logic at 54 mW/mm2, and a tenth of 186 pJ/mm2 at 1 GHz.
    assert found["leakage"] == approx(0.054 * logic_mm2 + 0.020 * 2 * 80 / 1024)
    assert found["clock"] == approx(0.1 * 0.186 * logic_mm2)
    assert tuple(found) == IDLE
    ungated = idle_power_w(chip.replace("clock_gating", 0), N7)
    assert ungated["clock"] == approx(10 * found["clock"])
    busy = action_energies(chip.replace("clock_gating", 0), chip.cores[0], N7)
    assert (busy.array_clock_w, busy.vector_clock_w) == (0, 0)


def test_units_at_work_take_the_clock_that_gating_saves() -> None:
    build = Builder([operator(macs=8)])
    build.compute(ARRAY, 10**12, hold=10**12)  # a second
    busy, idle = _energy(program_of(build.segment()))["clock"], 2.0 * idle_power_w(small_chip(), N7)["clock"]
    assert busy[0] - idle == approx(0.9 * 4 * 241e-6 * 186e-12 * 1e9, rel=1e-3)
    build = Builder([operator(unit="vector")])
    build.compute(VECTOR, 10**12)
    lane_mm2 = 2 * 177_690 / 96.3e6
    found = _energy(program_of(build.segment()))["clock"]
    assert found[0] - idle == approx(0.9 * 4 * lane_mm2 * 0.186, rel=1e-3)


def test_spare_cores_are_switched_off() -> None:
    chip = small_chip()
    found = idle_power_w(chip.replace("core.spare", 3), N7)
    idle, more_mm2 = idle_power_w(chip, N7), 3 * 5 * 2000 * (569.5 / 4 * 7.7 + 64 * 46) / 96.3e6
    # Three more routers, and the 19 % that no component explains of the larger die.
    core_mm2 = sum(core_area(chip.cores[0], N7).values())
    more_mm2 += (more_mm2 + 3 * core_mm2) * 0.19 / 0.81
    assert found["leakage"] - idle["leakage"] == approx(0.054 * more_mm2)


def test_memories_pay_for_their_width_and_their_wires() -> None:
    chip = small_chip()
    slow = chip.replace("core.sram.bandwidth", "64 GB/s")  # 64 bit per bank instead of 1000
    for variant, share in ((chip, 1.064 / 2), (slow, 1.0)):
        wire = 8 * 0.0756e-12 * core_area(variant.cores[0], N7)["sram"] ** 0.5 / 2
        found = action_energies(variant, variant.cores[0], N7)
        assert found.sram_read_j_per_byte == approx(0.9375e-12 * share + wire, rel=1e-3)


def test_the_chip_alone_has_its_share_of_the_interface_and_none_of_the_dram() -> None:
    watts = dict.fromkeys(COMPONENTS, 1.0)
    assert chip_power_w(watts, 0.5) == len(COMPONENTS) - 5 - 0.5
    assert chip_power_w(watts, 1.0) == len(COMPONENTS) - 5


def test_who_receives_ends_the_lines() -> None:
    """SSTL of 1.5 V: 34 ohm down, 120 ohm up and down at the other end, so that the line is at 0.271 V. 12.6 and 0.6 of
    15.4 mW are the receiver's, for a bit and a quarter of strobe; of the other 1.1 of 10.1 pJ/bit either has half."""
    line_v = 1.5 * (1 / (1 / 34 + 1 / 120)) / (120 + 1 / (1 / 34 + 1 / 120))
    supplied_w = 1.5 * (1.5 - line_v) / 120
    ended_w = (1.5 - line_v) ** 2 / 120 + line_v**2 / 120
    assert (line_v, supplied_w, ended_w) == approx((0.271, 15.4e-3, 13.2e-3), rel=0.01)
    lines_j = 1.25 * supplied_w / 2.133e9
    receiver = (lines_j * ended_w / supplied_w + (10.1e-12 - lines_j) / 2) / 10.1e-12
    dram = load_chip("tpu_v1").dram
    assert dram.receiver_share == approx(receiver, rel=0.005)
    assert chip_share_of_interface(dram.receiver_share, 7, 0) == approx(0.82)
    assert chip_share_of_interface(dram.receiver_share, 0, 7) == approx(0.18)
    assert chip_share_of_interface(dram.receiver_share, 3, 1) == approx(0.66)
    assert chip_share_of_interface(0.5, [1, 0], [5, 0]).tolist() == [0.5, 0.5]


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
