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
from sim.mapping.deal_vector import DEPENDENT_CYCLES, EXCHANGE_CYCLES
from sim.mapping.mapper import map_graph
from sim.passes import default_passes
from sim.pipeline import simulate
from sim.program import Kind

CHIP = "dealt to 6"
KINDS = ("elementwise", "softmax", "layer_norm", "rms_norm", "group_norm", "batch_norm", "rope")


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


def test_a_row_is_walked_by_one_block_a_step_at_a_time() -> None:
    """12 more steps of 1024 columns take 12 times (a look into the cache + one thread's instructions), the latter being
    three accesses of 15 and the passes of silu and the product (8 + 1 + 1), and the bytes their way."""
    chip = a100()
    more_s = seconds(gated(1, 16 * 1024), chip) - seconds(gated(1, 4 * 1024), chip)
    instructions = 3 * 15 + 8 + 1 + 1
    step_s = 200e-9 + instructions * DEPENDENT_CYCLES / 1.41e9
    bytes_s = 2 * 12 * 1024 * 2 / 45.1e9  # one operand of the two, on its channel, and the result
    assert more_s == pytest.approx(12 * step_s + bytes_s, rel=0.02)
    # Measured: 24 steps take 19 us on an A100, 12 take 10, 6 take 5.
    assert 12 * 0.5e-6 < more_s < 12 * 0.85e-6


def test_rows_on_other_cores_cost_nothing_a_wave_more_does() -> None:
    """One row, or one on each of 108 cores: the same time. With 1024 threads of 2048 to a row a core holds two; the
    217th begins another wave, which loads when the first is done. Two rows wait for the core to issue their
    instructions, one for its own."""
    chip = a100(dram__bandwidth="100 TB/s", cache__bandwidth="100 TB/s")
    one, full, two, three = (seconds(gated(rows, 8192), chip) for rows in (1, 108, 216, 217))
    assert full == pytest.approx(one, rel=0.03)
    issue_s = 2 * 8192 * ((3 * 15) / 128 + (8 + 1 + 1) / 64) / 1.41e9
    alone_s = 7 * 200e-9 + 8 * (3 * 15 + 8 + 1 + 1) * DEPENDENT_CYCLES / 1.41e9
    bytes_s = 16384 / 45.1e9
    assert two - full == pytest.approx(issue_s - alone_s + 2 * bytes_s, rel=0.1)
    assert three - two == pytest.approx(405e-9 + bytes_s + alone_s, rel=0.03)


def test_instructions_are_issued_for_all_threads() -> None:
    """Many rows: every core issues their instructions, 128 threads a cycle, and 64 lanes take the passes."""
    chip = a100(dram__bandwidth="100 TB/s", cache__bandwidth="100 TB/s", core__dma__bandwidth="10 TB/s",
                core__sram__bandwidth="50 TB/s", interconnect__link_bandwidth="10 TB/s")  # fmt: skip
    rows = 108 * 2 * 20
    busy_s = rows / 108 * 8192 * ((3 * 15) / 128 + (8 + 1 + 1) / 64) / 1.41e9
    assert seconds(gated(rows, 8192), chip) == pytest.approx(busy_s, rel=0.06)


def test_a_norm_waits_for_its_sum() -> None:
    """One step of 1024 columns: four accesses (twice the row, its scale, the result), the passes (an addition and three
    products), and a sum over 1024 threads, a tree of 10 exchanges."""
    segment = map_graph(norm(1, 1024), a100()).segments[0]
    held = segment.hold[segment.kind == Kind.VECTOR]
    cycles = (4 * 15 + 1 + 3) * DEPENDENT_CYCLES + 10 * EXCHANGE_CYCLES
    assert held.tolist() == [pytest.approx(cycles / 1.41e9 * 1e12, abs=2)]


@pytest.mark.parametrize(
    ("kind", "columns", "accesses", "passes", "threads"),
    # Softmax: four elements a thread, maximum and sum; up to 1024 columns the row is read once, else three times. Layer
    # norm: read twice, with scale and offset.
    [("softmax", 1024, 2, 8, 256), ("softmax", 1028, 4, 8, 288), ("layer_norm", 512, 5, 7, 128)],
)
def test_how_often_a_kernel_reads_its_row(
    kind: str, columns: int, accesses: int, passes: int, threads: int
) -> None:
    b = GraphBuilder("rows", "fp16")
    graph = replace(b.build([getattr(b, kind)(b.input("x", (1, columns)))]), kernel=True)
    segment = map_graph(graph, a100()).segments[0]
    held = segment.hold[segment.kind == Kind.VECTOR]
    tree = 2 * math.ceil(math.log2(threads)) * EXCHANGE_CYCLES
    cycles = (accesses * 15 / 4 + passes) * 4 * DEPENDENT_CYCLES + tree
    assert held.tolist() == [pytest.approx(cycles / 1.41e9 * 1e12, abs=2)]


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
