"""Register files of GPUs: bytes by matrix instructions, energy of operands, by hand from instruction shapes."""

from __future__ import annotations

import pytest

import sim
from sim.cost.energy import action_energies, idle_power_w, operand_fetch_j
from sim.errors import InputError
from sim.graph.builder import GraphBuilder
from sim.hw.area import chip_area
from sim.hw.chip import Chip, chip_from_dict, load_chip
from sim.hw.technology import load_technology

PJ = 1e-12
A100 = load_chip("a100")


def registers(shape: str, dtype: str, chip: Chip) -> tuple[float, float]:
    report = sim.simulate(shape, chip, dtype=dtype)
    ops = report.ops
    return float(ops["accumulator_read_bytes"].sum()), float(ops["accumulator_write_bytes"].sum())


def test_a_product_of_mma_m16n8k16() -> None:
    # 512 instructions of 2,048 products. Each reads 512 B of sums, 16 x 16 and 16 x 8 operands, and writes 512 B.
    read, written = registers("gemm:128x128x64", "fp16", A100)
    assert read == 512 * (512 + 512 + 256) + 128 * 128 * 4  # the drain reads the sums once more
    # Operands come to the registers once for every 64 x 64 results that a warp keeps.
    assert written == 512 * 512 + 2 * 2 * 128 * 64 * 2


def test_an_instruction_sums_twice_as_many_bytes() -> None:
    # m16n8k32: a product of 8 bit has half of the sums to read and write, and half of the operands' bytes.
    read, written = registers("gemm:128x128x64", "int8", A100)
    assert read == 256 * (512 + 512 + 256) + 128 * 128 * 4
    assert written == 256 * 512 + 2 * 2 * 128 * 64


def test_operands_from_the_scratchpad_pass_no_registers() -> None:
    chip = load_chip("a100", {"core.dispatch.operands": "scratchpad"})
    read, written = registers("gemm:128x128x64", "fp16", chip)
    assert (read - 128 * 128 * 4, written) == (512 * 512, 512 * 512)


def test_deeper_instructions_read_their_sums_less_often() -> None:
    core = A100.expanded()["cores"][0]  # type: ignore[index]
    deep = {**core, "dispatch": {**core["dispatch"], "instruction": [16, 8, 64]}}
    chip = chip_from_dict({**A100.expanded(), "cores": [deep]})
    read, written = registers("gemm:128x128x64", "fp16", chip)
    assert read == 128 * (512 + 4 * 768) + 128 * 128 * 4
    assert written == 128 * 512 + 2 * 2 * 128 * 64 * 2


def test_sums_that_stay_in_the_array_are_read_once() -> None:
    core = A100.expanded()["cores"][0]  # type: ignore[index]
    plain = {**core, "dispatch": {k: v for k, v in core["dispatch"].items() if k != "instruction"}}
    chip = chip_from_dict({**A100.expanded(), "cores": [plain]})
    assert registers("gemm:128x128x64", "fp16", chip) == (128 * 128 * 4, 128 * 128 * 4)


def test_energy_of_a_byte_in_a_register_file() -> None:
    """A file of 64 KiB has two banks that give 32 threads 4 B each: 7 nm, 32 KiB, 1.0625 pJ/B at 64 bit. Its wire is
    half the side of a quarter of what the files take."""
    energies = action_energies(A100, A100.cores[0], load_technology("n7"))
    bank = 1.0625 * (1 + 64 / 1024) / 2
    macros_mm2 = 2 * 0.027e-6 * ((8 * 32 << 10) ** 0.5 + 200) ** 2
    banks_mm2 = macros_mm2 * (1 + 0.13 * 0.170 * 0.98)  # with wires as long as the side, 0.167 mm
    area_mm2 = banks_mm2 + 8 * 64 / 4 * 0.0105 * banks_mm2**0.5 / 2.84
    wire = 8 * 0.0756 * area_mm2**0.5 / 2
    assert energies.accumulator_read_j_per_byte / PJ == pytest.approx(bank + wire, rel=1e-3)
    assert energies.accumulator_write_j_per_byte / PJ == pytest.approx(1.18 * bank + wire, rel=1e-3)


def test_what_issues_instructions_is_clocked_while_a_core_has_threads() -> None:
    """128 threads of 996,200 transistors each at 96.3e6 a mm2, beside 64 x 64 PEs of 1025 um2 at a quarter of a
    product and lanes of 134,069; 186 pJ/mm2 a cycle, of which idle units save nine tenths."""
    energies = action_energies(A100, A100.cores[0], load_technology("n7"))
    watts_per_mm2 = 0.9 * 186 * PJ * 1.41e9
    assert energies.awake_clock_w == pytest.approx(watts_per_mm2 * 128 * 996_200 / 96.3e6, rel=1e-3)
    assert energies.array_clock_w == pytest.approx(watts_per_mm2 * 64 * 64 * 1025e-6 / 4, rel=1e-3)
    lanes = A100.cores[0].vector.lanes
    assert energies.vector_clock_w == pytest.approx(watts_per_mm2 * lanes * 134_069 / 96.3e6, rel=1e-3)
    # A core whose lanes are no threads has its control to itself.
    lepton = load_chip("lepton_m")
    plain = action_energies(lepton, lepton.cores[0], load_technology(lepton.technology))
    n = load_technology(lepton.technology)
    pes = lepton.cores[0].array.pe_count * n.pe_area_mm2(lepton.cores[0].array.rates)  # type: ignore[union-attr]
    clock_hz = lepton.cores[0].clock_hz
    assert plain.array_clock_w == pytest.approx(lepton.clock_gating * n.clock_w(pes, clock_hz), rel=1e-6)
    assert plain.awake_clock_w == 0.0


def test_a_core_that_waits_for_the_dram_is_awake() -> None:
    """An addition of 16 Mi elements on all 108 cores: what issues instructions is clocked from the end of the launch to
    the end, however little the lanes have to do; lanes and arrays, only where they work."""
    builder = GraphBuilder("add", "fp16")
    shape = (4096, 4096)
    graph = builder.build([builder.add(builder.input("a", shape), builder.input("b", shape))], kernel=True)
    report = sim.simulate(graph, "a100")
    technology = load_technology("n7")
    energies = action_energies(A100, A100.cores[0], technology)
    ops, resources = report.ops, report.resources
    run_s, launch_s = float(ops["time_s"].sum()), float(ops["launch_s"].sum())
    awake_s = float((ops["cores"] * (ops["time_s"] - ops["launch_s"])).sum())
    assert (ops["cores"].iloc[0], ops["cores"].iloc[-1]) == (108, 92)  # the last wave
    lanes_s = float(resources.loc[resources["kind"] == "vector", "busy_s"].sum())
    expected = idle_power_w(A100, technology)["clock"] * run_s
    expected += energies.awake_clock_w * awake_s + energies.vector_clock_w * lanes_s
    assert launch_s > 0
    assert lanes_s < 0.5 * 108 * run_s
    assert float(ops["energy_clock_j"].sum()) == pytest.approx(expected, rel=1e-6)


def test_power_over_time_has_the_energy_of_clocks_once() -> None:
    """What flows while cores have threads is spread over their kernels, what idles over the whole run."""
    report = sim.simulate("gemm:512x512x256", "a100", dtype="fp16")
    power, ops = report.power, report.ops
    spent_j = float((power["clock_w"] * (power["end_s"] - power["start_s"])).sum())
    assert spent_j == pytest.approx(float(ops["energy_clock_j"].sum()), rel=1e-6)


def test_a_look_up_reads_the_tags_of_all_ways() -> None:
    """40 MiB in 16 ways of 128 B: 48 - 21 + 2 bit each, 464 of them a look-up, of a bank with the tags of 4,096 lines;
    a bank of 512 KiB gives the line. Writes cost 1.18 of a read, their look-up the same."""
    n7, cache = load_technology("n7"), A100.cache
    assert cache is not None
    assert (cache.size_bytes, cache.ways, cache.line_bytes, cache.tag_bits) == (40 << 20, 16, 128, 29)
    tags = 58 / 128 * float(n7.sram_read_energy_j_per_byte(4096 * 29 / 8, 464))
    data = float(n7.sram_read_energy_j_per_byte(512 << 10, 1024))
    wire = n7.wire_energy_j_per_byte(chip_area(A100, n7)["cache"] ** 0.5 / 2)
    energies = action_energies(A100, A100.cores[0], n7)
    assert energies.cache_read_j_per_byte == pytest.approx(data + tags + wire, rel=1e-9, abs=0)
    assert energies.cache_write_j_per_byte == pytest.approx(1.18 * data + tags + wire, rel=1e-9, abs=0)
    assert 0.05 < tags / (data + wire) < 0.10


def test_vector_work_pays_for_its_registers() -> None:
    builder = GraphBuilder("add", "fp16")
    shape = (1024, 1024)
    graph = builder.build([builder.add(builder.input("a", shape), builder.input("b", shape))], kernel=True)
    energies = action_energies(A100, A100.cores[0], load_technology("n7"))
    fetched = 4 * (2 * energies.accumulator_read_j_per_byte + energies.accumulator_write_j_per_byte)
    assert operand_fetch_j("add", energies) == pytest.approx(fetched, rel=1e-9, abs=0)
    # One fp16 addition an element, and of three accesses of four elements each 7 instructions, as int32 additions.
    instructions = 3 * 7 / 4
    expected = (0.16 * PJ + fetched) + instructions * (0.03 * PJ + fetched)
    report = sim.simulate(graph, "a100")
    assert float(report.ops["energy_vector_j"].sum()) == pytest.approx(expected * 2**20, rel=1e-6)


def test_operands_belong_to_an_instruction() -> None:
    core = A100.expanded()["cores"][0]  # type: ignore[index]
    dispatch = {k: v for k, v in core["dispatch"].items() if k != "instruction"} | {"operands": "scratchpad"}
    with pytest.raises(InputError, match=r"cores\[0\]\.dispatch\.operands: are those of a matrix instruction"):
        chip_from_dict({**A100.expanded(), "cores": [{**core, "dispatch": dispatch}]})


def test_an_instruction_of_two_sides_misses_its_third() -> None:
    with pytest.raises(InputError, match=r"dispatch.instruction\[2\]: entry 3 of the list is missing$"):
        load_chip("a100", {"core.dispatch.instruction": [16, 8]})
