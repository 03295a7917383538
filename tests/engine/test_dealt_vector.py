"""Vector work dealt to the cores of a GPU: right in value, and timed by blocks that walk rows."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from mapped import check
from random_operators import random_operator

from sim.errors import FieldError, InputError
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.hw.calibration import UNCALIBRATED, Calibration
from sim.hw.chip import Chip, load_chip
from sim.hw.dram import pattern_efficiency
from sim.mapping.mapper import map_graph
from sim.mapping.row_walk import DEPENDENT_CYCLES, EXCHANGE_CYCLES
from sim.passes import default_passes
from sim.pipeline import simulate
from sim.program import Kind

CHIP = "dealt to 6"
KINDS = ("elementwise", "softmax", "layer_norm", "rms_norm", "group_norm", "batch_norm", "rope", "all_reduce")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(2))
def test_dealt_vector_work_computes_what_it_should(kind: str, seed: int) -> None:
    check(default_passes(random_operator(kind, seed, "int8")), CHIP, seed)


def gated(rows: int, columns: int) -> Graph:
    b = GraphBuilder("gated", "fp16")
    x, y = b.input("x", (rows, columns)), b.input("y", (rows, columns))
    return replace(b.build([b.mul(b.silu(x), y)]), kernel=True)


def norm(rows: int, columns: int) -> Graph:
    b = GraphBuilder("norm", "fp16")
    return replace(b.build([b.rms_norm(b.input("x", (rows, columns)))]), kernel=True)


def added(rows: int, columns: int) -> Graph:
    b = GraphBuilder("add", "fp16")
    return replace(b.build([b.add(b.input("x", (rows, columns)), b.input("y", (rows, columns)))]), kernel=True)


def a100(**changes: object) -> Chip:
    return load_chip("a100", {path.replace("__", "."): value for path, value in changes.items()}).with_calibration(
        UNCALIBRATED
    )


def seconds(graph: Graph, chip: Chip) -> float:
    return float(simulate(graph, chip)["latency_s"] or 0.0)


LOOK_UP_S = (20 + 180) * 1e-9
"""Set-up and the cache of an A100."""

ISSUE = 3 * 7 / 128 + (24 + 1 + 1) / 64
"""Cycles per element of a gated activation on an A100: three accesses of 7 instructions, the passes of silu and the
product."""


def test_a_row_is_walked_by_one_block_a_step_at_a_time() -> None:
    """12 more steps of 1024 columns take 12 times (a look into the cache + the instructions of 1024 threads); what they
    load and store goes on beside them."""
    chip = a100()
    more_s = seconds(gated(1, 16 * 1024), chip) - seconds(gated(1, 4 * 1024), chip)
    step_s = LOOK_UP_S + 1024 * ISSUE / 1.41e9
    assert more_s == pytest.approx(12 * step_s, rel=0.02)
    # Measured: 24 steps take 19 us on an A100, 12 take 10, 6 take 5.
    assert 12 * 0.45e-6 < more_s < 12 * 0.85e-6


def test_a_step_waits_for_instructions_however_few_lanes_compute_a_special_result() -> None:
    """On an H100 too 1024 threads issue for longer than one is busy: 3 x 7 + 18 + 2 instructions of 10 cycles. Had each
    of the 16 cycles that two special results hold 128 lanes been one of them, a step would take 550 cycles."""
    chip = load_chip("h100").with_calibration(UNCALIBRATED)
    step_s = (seconds(gated(1, 16 * 1024), chip) - seconds(gated(1, 4 * 1024), chip)) / 12
    cycles = max(1024 * (3 * 7 + 32 + 2) / 128, (3 * 7 + 18 + 2) * DEPENDENT_CYCLES)
    # Measured: 24 steps take 13 us, 12 take 7.
    assert step_s == pytest.approx((20 + 130) * 1e-9 + cycles / 1.83e9, rel=0.06)


@pytest.mark.parametrize("name", ["a100", "h100"])
def test_a_last_wave_of_fewer_cores_loads_beside_the_walks_before_it(name: str) -> None:
    """A row fewer than four for every core takes no longer than these, but for some of its own load; it took 13 and 15
    % longer while the load of the last wave was told twice."""
    chip = load_chip(name).with_calibration(UNCALIBRATED)
    cores = chip.core_count
    fewer, full = (seconds(gated(rows, 8192), chip) for rows in (4 * cores - 1, 4 * cores))
    assert full * 0.99 < fewer < 1.06 * full


def test_results_that_leave_the_cache_take_their_time_beside_a_walk_too() -> None:
    """A core of an A40 has room for one block of 1024 threads. Of 40 rows of 8192 on each, all but the first leave its
    6 MiB for the DRAM as fast as they come: in 6.1 us the DRAM moves half as much again. A row takes as long as one
    alone; it took 30 % longer."""
    chip = load_chip("a40").with_calibration(UNCALIBRATED)
    one, many = (seconds(norm(84 * rows, 8192), chip) / rows for rows in (1, 40))
    assert many == pytest.approx(one, rel=0.04)
    assert many > 1.5 * 84 * 2 * 16384 / 696e9


def test_a_row_that_does_not_fit_the_cache_waits_for_the_dram() -> None:
    """With a cache too small for operands and result (2 x 2 and 2 bytes an element), each step waits 205 ns more."""
    columns = 128 * 1024
    fits, not_quite = (
        seconds(gated(1, columns), a100(cache__size=f"{size} KiB", cache__hashed=False)) for size in (768, 640)
    )
    assert not_quite - fits == pytest.approx(127 * 205e-9, rel=0.02)


def test_blocks_on_a_core_wait_together_and_issue_in_turn() -> None:
    """One row, or one on each of 108 cores: the same time. With 1024 threads of 2048 to a row a core holds two blocks,
    which wait together: the 109th row adds the time in which the core issues its instructions, the 217th waits too."""
    chip = a100(dram__bandwidth="100 TB/s", cache__bandwidth="100 TB/s")
    one, full, two, three = (seconds(gated(rows, 8192), chip) for rows in (1, 108, 216, 217))
    assert full == pytest.approx(one, rel=0.03)
    issue_s = 8192 * ISSUE / 1.41e9
    assert two - full == pytest.approx(issue_s, rel=0.03)
    # It loads at its own eight steps, the first too; what it loads and stores goes on beside them.
    assert three - two == pytest.approx(8 * LOOK_UP_S + issue_s, rel=0.02)


def test_instructions_are_issued_for_all_threads() -> None:
    """Many rows: every core issues their instructions, 128 threads a cycle, and 64 lanes take the passes; two blocks
    on it wait together for the DRAM."""
    chip = a100(dram__bandwidth="100 TB/s", cache__bandwidth="100 TB/s", core__dma__bandwidth="10 TB/s",
                core__sram__bandwidth="50 TB/s", interconnect__link_bandwidth="10 TB/s")  # fmt: skip
    rows = 108 * 2 * 20
    # Eight steps of a row wait, the first too: nothing is loaded for a block that has not begun.
    busy_s = rows / 108 * (8192 * ISSUE / 1.41e9 + 8 * (LOOK_UP_S + 205e-9) / 2)
    assert seconds(gated(rows, 8192), chip) == pytest.approx(busy_s, rel=0.025)


def test_a_norm_waits_for_its_sum_and_its_scale() -> None:
    """One step of 1024 columns: four accesses (twice the row, its scale, the result), the passes (an addition and three
    products), the scale from the DRAM, and a sum over 1024 threads, a tree of 10 exchanges."""
    segment = map_graph(norm(1, 1024), a100()).segments[0]
    held = segment.hold[segment.kind == Kind.VECTOR]
    cycles = (4 * 7 + 1 + 3) * DEPENDENT_CYCLES + 10 * EXCHANGE_CYCLES
    assert held.tolist() == [pytest.approx((cycles / 1.41e9 + 405e-9) * 1e12, abs=2)]


@pytest.mark.parametrize(
    ("kind", "columns", "accesses", "passes", "more", "threads"),
    # Softmax: four elements a thread, maximum and sum; up to 1024 columns the row is read once and divided, else it is
    # read three times and the exponential taken twice. Layer norm: read twice, with scale and offset.
    [
        ("softmax", 1024, 2, 12, 9, 256),
        ("softmax", 1028, 4, 12, 8 + 9, 288),
        ("layer_norm", 512, 5, 7, 0, 128),
    ],
)
def test_how_often_a_kernel_reads_its_row(
    kind: str, columns: int, accesses: int, passes: int, more: int, threads: int
) -> None:
    b = GraphBuilder("rows", "fp16")
    graph = replace(b.build([getattr(b, kind)(b.input("x", (1, columns)))]), kernel=True)
    segment = map_graph(graph, a100()).segments[0]
    held = segment.hold[segment.kind == Kind.VECTOR]
    tree = 2 * math.ceil(math.log2(threads)) * EXCHANGE_CYCLES
    # What a kernel computes besides is issued like all instructions, on half as many lanes.
    cycles = (accesses * 7 / 4 + passes + 2 * more) * 4 * DEPENDENT_CYCLES + tree
    # Scale and offset come from the DRAM to the first row of a core.
    waiting_ps = 405e-9 * 1e12 if kind == "layer_norm" else 0.0
    assert held.tolist() == [pytest.approx(cycles / 1.41e9 * 1e12 + waiting_ps, abs=2)]


DMA_BYTES_PER_S = 54.4e9
"""A channel of a compute unit of an MI210."""


def test_rows_that_a_core_does_not_keep_are_read_again() -> None:
    """A softmax reads its row three times. On an MI210 two rows of 16 KiB leave the 16 KiB of a compute unit and come
    from the cache, at a lane's rate; two of 64 KiB on all units leave that too, and come from the DRAM. Rows of 8 KiB
    stay, and with a larger first level all do."""

    def again_s(columns: int) -> float:
        b = GraphBuilder("rows", "fp32")
        graph = replace(b.build([b.softmax(b.input("x", (208, columns)))]), kernel=True)
        held = []
        for size in ("16 KiB", "1 MiB"):
            chip = load_chip("mi210", {"core.dispatch.l1": size}).with_calibration(UNCALIBRATED)
            segment = map_graph(graph, chip).segments[0]
            held.append(segment.hold[segment.kind == Kind.VECTOR].tolist()[0])
        return float(held[0] - held[1]) * 1e-12

    assert again_s(2048) == 0
    # Two blocks of a core read beside each other.
    assert again_s(4096) == pytest.approx(2 * 16384 / (6963e9 / 104) / 2, rel=0.01)
    # With one slot a row, both results leave beside the three last of their four steps; with two, only one need do so.
    # What the results push out of the 8 MiB of the cache leaves beside them too.
    left_s = 65536 / DMA_BYTES_PER_S / 2
    evicted_s = (1 - 8 * 2**20 / (2 * 208 * 65536)) * 65536 / (1600e9 / 104)
    assert again_s(16384) == pytest.approx(65536 / (1600e9 / 104) - (left_s + evicted_s) * 3 / 4, rel=0.01)


def test_blocks_begin_one_after_another() -> None:
    """16 rows of 512 columns that one compute unit holds at once begin 350 ns apart; rows of a softmax that threads
    hold come four to a block."""

    def later_s(kind: str) -> float:
        b = GraphBuilder("rows", "fp32")
        graph = replace(b.build([getattr(b, kind)(b.input("x", (16 * 104, 512)))]), kernel=True)
        chips = (load_chip("mi210", {"core.dispatch.block_start": start}) for start in ("350 ns", "0 ns"))
        late, early = (seconds(graph, chip) for chip in chips)
        return late - early

    assert later_s("layer_norm") == pytest.approx(16 * 350e-9, rel=0.1)
    assert later_s("softmax") == pytest.approx(16 / 4 * 350e-9, rel=0.1)


def test_element_by_element_work_takes_the_memory_its_bytes() -> None:
    """Two operands and a result of 256 MiB each take what the DRAM needs for so many bytes loaded and stored, but for
    the last results, which stay in the cache; and the shape is nothing to it: one row or many. Evicted lines cost the
    DRAM what the transfer costs that evicts them, a load or a store."""
    chip, size = a100(), 256 * 2**20
    load, store = (float(pattern_efficiency(chip.dram, 1 << 20, 1 << 20, store=s)) for s in (False, True))
    least_s, most_s = ((2 * size / load + (size - 13 * 2**20) / out) / 2.039e12 for out in (load, store))
    for rows in (1, 1 << 14):
        assert 0.99 * least_s < seconds(added(rows, (1 << 27) // rows), chip) < most_s < 1.25 * least_s


def test_small_tensors_go_to_all_cores() -> None:
    """55,296 elements are 108 blocks of 128 threads with 4 elements each: as fast as one block's 512."""
    chip = a100(dram__bandwidth="100 TB/s", cache__bandwidth="100 TB/s")
    assert seconds(added(108, 512), chip) == pytest.approx(seconds(added(1, 512), chip), rel=0.02)


def test_a_kernel_of_full_and_last_waves_is_launched_once() -> None:
    chip = a100().with_calibration(Calibration(launch_overhead_ps=5_000_000))
    for rows in (216, 217):
        ops = simulate(gated(rows, 4096), chip).tables["ops"]
        assert math.fsum(ops["launch_s"]) == pytest.approx(5e-6, rel=1e-6)


def test_tensor_cores_have_a_latency_of_their_own_systolic_arrays_not() -> None:
    with pytest.raises((FieldError, InputError), match=r"latency.*belongs to cores that tiles are dealt to"):
        load_chip("lepton_s", {"core.array.latency": 33})
    b = GraphBuilder("gemm", "fp16")
    graph = replace(b.build([b.linear(b.input("x", (64, 64)), 64, bias=False)]), kernel=True)
    short, long = (seconds(graph, a100(core__array__latency=cycles)) for cycles in (33, 1443))
    assert long - short == pytest.approx(1410 / 1.41e9, rel=0.01)
