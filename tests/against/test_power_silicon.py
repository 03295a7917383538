"""Power against measured chips. docs/validation.md has the same numbers in a table.

What was used to set a number of a technology file is marked there: idle power of TPU v1 (clock energy and leakage at
28 nm) and constant power of A100 (leakage at 7 nm). Everything else is a prediction.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from real_chips import Row, earlier_gpus, memory_of, real_chips

import sim
from sim.cost.energy import ON_DRAM, REGISTER_BYTES, action_energies, idle_power_w, operand_fetch_j
from sim.graph.builder import GraphBuilder
from sim.hw.chip import Chip, load_chip
from sim.hw.technology import load_technology
from sim.report.notes import over_power_limit

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


def test_tpu_v1_at_86_tops_adds_12_w_to_its_idle_power() -> None:
    # CNN0: full power, 12 W above idle. Arithmetic and registers whose clocks run anyhow (those of nothing else are in
    # the idle power) would be 20 W if each access paid for its clock once more.
    n28 = load_technology("n28")
    moved_j, clocked_j = (5 * j for j in (n28.pipeline_energy_j_per_byte(), n28.register_energy_j_per_byte()))
    assert (n28.mac_energy_j("int8") + moved_j) * 86e12 / 2 == pytest.approx(12, rel=0.15)
    assert (n28.mac_energy_j("int8") + clocked_j) * 86e12 / 2 == pytest.approx(20, rel=0.05)


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
    # Still too low: buffers and arbitration of the crossbar, and what the L1 does besides reading a bank (it sorts the
    # words of 32 threads) are not modelled. A load of 32 threads ends in their registers, and takes an instruction.
    l2, l1 = cache_pj_per_bit(chip)
    assert 0.50 < l2 / 4.71 < 0.60
    assert 0.30 < l1 / 1.59 < 0.36


def cache_pj_per_bit(chip: Chip) -> tuple[float, float]:
    """L2 to L1, and L1 to registers, at the full rate of either: what was measured is all of a board's power beyond
    what flows anyhow, and cores that wait for loads are clocked."""
    kind = chip.cores[0]
    energies = action_energies(chip, kind, load_technology(chip.technology))
    registers = energies.accumulator_write_j_per_byte + energies.instruction_j / (32 * REGISTER_BYTES)
    cache = energies.cache_read_j_per_byte + energies.noc_j_per_byte_hop + energies.sram_write_j_per_byte
    assert chip.cache is not None
    clock_w = kind.count * energies.awake_clock_w
    l2 = cache + clock_w / chip.cache.bandwidth_bytes_per_s
    l1 = energies.sram_read_j_per_byte + registers + energies.awake_clock_w / kind.sram.bandwidth_bytes_per_s
    return l2 / PJ_PER_BIT, l1 / PJ_PER_BIT


def test_a100_that_streams_from_its_memory() -> None:
    """An addition of 3 x 64 MiB, at 1.5 TB/s. The published energies belong to terms of one sum (SC'25: HBM beyond L2
    and L1): 54 W, and 13.11 + 4.71 + 1.59 pJ for every bit, 286 W. With cores clocked where lanes work alone: 198."""
    builder = GraphBuilder("add", "fp16")
    shape = (8192, 4096)
    report = sim.simulate(builder.build([builder.add(builder.input("a", shape), builder.input("b", shape))]), "a100")
    rate = (float(str(report["dram_read_bytes"])) + float(str(report["dram_write_bytes"]))) / report.elapsed_s
    published_w = 54 + rate * (13.11 + 4.71 + 1.59) * PJ_PER_BIT
    assert published_w == pytest.approx(286, rel=0.02)
    assert float(str(report["power_w"])) / published_w - 1 == pytest.approx(-0.21, abs=0.03)


def test_k40_energy_per_bit() -> None:
    # GPUJoule (Arunkumar et al., HPCA 2019): L2 to L1 15.48, shared memory to registers 5.32 pJ/bit. Further off than
    # A100: at 28 nm a load of 32 bit takes 170 pJ of a thread, as much as seven of Dally's instructions.
    assert cache_pj_per_bit(earlier_gpus()["k40"][0]) == pytest.approx((4.05, 0.87), abs=0.02)


@pytest.mark.parametrize(
    ("name", "board_w", "low", "high"),
    [("a100", 400, -0.12, 0.0), ("h100", 700, -0.10, 0.0), ("mi210", 300, -0.15, 0.0), ("a40", 300, -0.25, 0.0)],
)
def test_large_products_on_gpus_take_most_of_what_a_board_may(name: str, board_w: int, low: float, high: float) -> None:
    """Data sheets. A large product is slowed by the power limit on A100, H100 and A40 (`sustained_efficiency`); the
    board's converters take their part of it besides. Nothing was set with these."""
    report = sim.simulate("gemm:4096x4096x4096", CHIPS[name], dtype="fp16")
    assert low < float(str(report["power_w"])) / board_w - 1 < high


def _of_a100(name: str, ghz: float, core: Row, cache: str, dram: Row) -> Chip:
    """A GPU by its data sheet, as docs/chips.md has it: A100's multiprocessor with half of its tensor cores, whose
    widths go with the clock, that of the cache with the cores besides. `core` may have the board's power_limit."""
    cores = core["core.count"]
    per_ghz = {"core.accumulator": 1024, "core.sram": 128, "core.dma": 32, "cache": 5120 * cores / 108}
    widths = {f"{part}.bandwidth": f"{width * ghz:.1f} GB/s" for part, width in per_ghz.items()}
    given = {
        "name": name, "clock": f"{ghz} GHz", "links": None, "interconnect.shape": [cores], "cache.size": cache,
        "interconnect.link_bandwidth": f"{64 * ghz:.1f} GB/s", "dram": {**dram, "gathers": True, "latency": "205 ns"},
        "core.array.rates": {"fp16": 0.125}, "core.dispatch.instruction": [16, 8, 8],
    }  # fmt: skip
    return load_chip("a100", {**given, **widths, **core})


def _v100(ghz: float) -> Chip:
    core = {"technology": "n12", "core.count": 80, "core.spare": 4, "core.sram.size": "128 KiB", "power_limit": "300 W"}
    return _of_a100("v100", ghz, core, "6 MiB", memory_of("hbm2", "16 GiB", "900 GB/s", stacks=4))


def _t4(ghz: float) -> Chip:
    core = {"technology": "n12", "core.count": 40, "core.spare": 8, "core.sram.size": "64 KiB", "power_limit": "70 W"}
    return _of_a100("t4", ghz, core, "4 MiB", memory_of("gddr6", "16 GiB", "320 GB/s", channels=16))


def _l4(ghz: float) -> Chip:
    core = {"technology": "n4", "core.count": 58, "core.spare": 2, "core.sram.size": "128 KiB", "power_limit": "72 W"}
    own = {**core, "core.vector.lanes": 128}
    return _of_a100("l4", ghz, own, "48 MiB", memory_of("gddr6", "24 GiB", "300 GB/s", channels=12))


def test_a_large_product_on_v100_takes_most_of_its_300_w() -> None:
    report = sim.simulate("gemm:4096x4096x4096", _v100(1.53), dtype="fp16")
    assert -0.20 < float(str(report["power_w"])) / 300 - 1 < 0.0
    assert not list(over_power_limit(report.values))


@pytest.mark.parametrize(("make", "base", "boost", "board_w"), [(_t4, 0.585, 1.59, 70), (_l4, 0.795, 2.04, 72)])
def test_small_boards_hold_their_base_clock_and_not_their_boost(
    make: Callable[[float], Chip], base: float, boost: float, board_w: int
) -> None:
    """Data sheets of T4 and L4: what a board may take lies between what a product takes at its two clocks. The voltage
    is that of the node at both, so the lower comes out too high. A run is not slowed for its power: it is told."""
    slow, fast = (sim.simulate("gemm:4096x4096x4096", make(ghz), dtype="fp16") for ghz in (base, boost))
    assert 0.75 * board_w < float(str(slow["power_w"])) < 1.05 * board_w
    assert 1.5 * board_w < float(str(fast["power_w"])) < 2.5 * board_w
    assert list(over_power_limit(fast.values))


def test_what_an_instruction_of_a_gpu_takes_besides_its_arithmetic() -> None:
    """Dally, Trends in Deep Learning Hardware, 2023, at 45 nm: fetch, decode and operands of a thread 30 pJ, the 64
    products of its part of a matrix instruction 110 pJ."""
    chip, n45 = load_chip("a100", {"technology": "n45"}), load_technology("n45")
    energies = action_energies(chip, chip.cores[0], n45)
    overhead_j = operand_fetch_j("multiply_add", energies) + energies.instruction_j / 32
    assert overhead_j == pytest.approx(30e-12, rel=0.10)
    assert 64 * n45.mac_energy_j("fp16") == pytest.approx(110e-12, rel=0.20)


def test_tpu_v4_idles_at_90_w() -> None:
    # Jouppi et al., ISCA 2023, Table 4: chip and HBM. It gates no clocks, as TPU v1; gated by 0.9 it would be 36 W.
    chip = CHIPS["tpu_v4"]
    assert idle_w(chip)[1] == pytest.approx(90, rel=0.10)
    assert idle_w(chip.replace("clock_gating", 0.9))[1] < 40


@pytest.mark.parametrize(
    ("model", "batch", "low", "high"),
    [("gemm:4096x4096x4096", 1, 153, 192), ("resnet50", 32, 121, 170), ("bert_base", 16, 121, 170)],
)
def test_tpu_v4_lies_in_its_measured_range(model: str, batch: int, low: int, high: int) -> None:
    # Same table: production workloads take 121 W at least, 170 on average (a large product, within 10 %), 192 at most.
    report = sim.simulate(model, CHIPS["tpu_v4"], dtype="bf16", batch=batch)
    assert low < float(str(report["power_w"])) < high
