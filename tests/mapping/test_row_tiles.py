"""Networks on a row-stationary array: right numbers, no races, the law's time and traffic, refusals that say why."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import sim
from sim.engine.ordering import find_races, finished_before
from sim.errors import DoesNotFit, InputError
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.hw.chip import Chip, load_chip
from sim.hw.row_stationary import ConvShape, RowMapping, buffer_bytes, layer_cycles, layer_mapping
from sim.pipeline import plan, verify_values
from sim.program import Kind, Program
from sim.report.report import Report

SMALL = (
    "core.array.row_stationary.bank=256 B",
    "core.array.row_stationary.banks=9",
    "core.array.row_stationary.longest_row=9",
    "core.sram.size=6 KiB",
)


def _convolutions() -> Graph:
    b = GraphBuilder("convolutions", "int16")
    x = b.relu(b.conv(b.input("x", (2, 3, 15, 19)), 6, 5, 2, 2))
    y = b.conv(x, 6, 3, padding=1)
    return b.build([b.conv(b.relu(b.add(y, x)), 8, 3, padding=1, groups=2)])


def _products() -> Graph:
    b = GraphBuilder("products", "int16")
    x = b.linear(b.input("x", (3, 7, 20)), 12)
    return b.build([b.matmul(x, b.input("y", (3, 12, 5)))])


def _line() -> Graph:
    b = GraphBuilder("line", "int16")
    return b.build([b.conv(b.input("x", (2, 4, 40)), 6, 7, 3, padding=2)])


def _fallbacks() -> Graph:
    b = GraphBuilder("fallbacks", "int16")
    x = b.conv(b.input("x", (1, 4, 12, 12)), 6, 3, padding=2, dilation=2, name="dilated")
    return b.build([b.conv_transpose(x, 3, 2, 2, name="transposed")])


NETWORKS: dict[str, Callable[[], Graph]] = {
    "convolutions": _convolutions,
    "products": _products,
    "line": _line,
    "fallbacks": _fallbacks,
}


def _small(cores: int = 1) -> Chip:
    chip = load_chip("eyeriss_v1", SMALL)
    if cores == 1:
        return chip
    crossbar = {"topology": "crossbar", "shape": [cores], "link_bandwidth": "1 GB/s", "hop_latency": "1 ns"}
    return chip.replace_many({"core.count": cores, "interconnect": crossbar})


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("cores", [1, 2])
def test_tiles_compute_the_network(network: str, cores: int) -> None:
    found = verify_values(NETWORKS[network](), _small(cores), integers=True)
    assert not found.error
    assert found.races == 0
    assert all(output.exact for output in found.outputs)
    assert found.tasks > (40 if network == "convolutions" else 5)


def test_engines_agree_on_row_stationary_programs() -> None:
    graph = _convolutions()
    both = [sim.simulate(graph, _small(), engine=engine, inputs=2) for engine in ("compiled", "reference")]
    assert both[0]["latency_s"] == both[1]["latency_s"]


@cache
def _layer() -> tuple[ConvShape, Report, Program]:
    b = GraphBuilder("layer", "int16")
    graph = b.build(
        [b.conv(b.input("x", (3, 128, 56, 56)), 256, 3, padding=1, bias=False, name="conv")], kernel=True
    )
    return (
        ConvShape(3, 128, 256, 56, 56, 3, 3),
        sim.simulate(graph, "eyeriss_v1"),
        plan(graph, "eyeriss_v1")[2],
    )


def _law(shape: ConvShape) -> RowMapping:
    """How the law maps it on the array of the chip."""
    array = load_chip("eyeriss_v1").cores[0].array
    assert array is not None
    assert array.row_stationary is not None
    mapping = layer_mapping(shape, 12, 14, array.row_stationary)
    assert mapping is not None
    return mapping


def test_layer_holds_the_array_for_as_long_as_the_law_says() -> None:
    shape, _, program = _layer()
    mapping = _law(shape)
    segment = program.segments[0]
    held = int(segment.hold[segment.kind == Kind.MATMUL].sum())
    assert held == layer_cycles(mapping, 16) * 5000  # ticks of a 200 MHz clock
    assert program.segments[0].ops[0].mapping["active_pes"] == mapping.active_pes == 156


def test_layer_moves_what_the_law_says_at_the_buffer_and_at_the_dram() -> None:
    shape, report, program = _layer()
    mapping = _law(shape)
    counts = program.segments[0].ops[0].counts
    assert counts["sram_read_bytes"] + counts["sram_write_bytes"] == buffer_bytes(mapping)
    # Filters once per 5 strips of 3 images, inputs once per 4 shares of the filters; padding is not fetched.
    rows = [13 + 1, 15, 15, 15, 4 + 1]
    inputs = 3 * 128 * sum(rows) * 56 * 4
    assert report["dram_read_bytes"] == 2 * (256 * 128 * 9 * 15 + inputs)
    assert report["dram_write_bytes"] == 2 * 3 * 256 * 56 * 56
    # Every product reads an input and a weight in its PE, and updates a sum.
    assert (
        counts["pe_filter_bytes"] == counts["pe_input_bytes"] == counts["pe_sum_bytes"] / 2 == 2 * shape.macs
    )


def test_results_leave_before_the_next_sums_begin() -> None:
    # One store at a time lies in the buffer; without the edges from stores to products the run would be shorter.
    _, _, program = _layer()
    segment = program.segments[0]
    products, stores = (np.flatnonzero(segment.kind == kind) for kind in (Kind.MATMUL, Kind.STORE))
    assert len(stores) == 5 * 3 * 4
    waits = [set(segment.pidx[segment.pptr[task] : segment.pptr[task + 1]].tolist()) for task in products]
    assert sum(bool(before & set(stores.tolist())) for before in waits) == len(stores) - 1


def test_sums_wait_for_results_of_another_layer_in_the_same_banks() -> None:
    # Layers are placed from the bottom and the top in turn: the first and third lie at the same addresses, each its
    # results where the other's are. Their inputs do not meet, so only the sums can wait for the store.
    b = GraphBuilder("triplets", "int16")
    x = b.input("x", (1, 8, 14, 14))
    names = ("one", "two", "three")
    graph = b.build([b.conv(x, 8, 3, padding=1, bias=False, name=name) for name in names], kernel=True)
    program = plan(graph, "eyeriss_v1")[2]
    segment = program.segments[0]
    layer = np.array([op.name for op in segment.ops])[segment.op]
    store = int(np.flatnonzero((segment.kind == Kind.STORE) & (layer == "one"))[-1])
    product = np.flatnonzero((segment.kind == Kind.MATMUL) & (layer == "three"))[0]
    assert finished_before(program, segment)[product] >> store & 1


def test_a_residual_has_banks_of_its_own() -> None:
    b = GraphBuilder("residual", "int16")
    x = b.input("x", (1, 64, 56, 56))
    graph = b.build([b.add(b.conv(x, 64, 3, padding=1, name="conv"), x)], kernel=True)
    report = sim.simulate(graph, "eyeriss_v1")
    assert len(report.ops) == 1
    parameters = dict(part.split("=") for part in report.ops["notes"][0].split(", ")[1].split())
    held = int(parameters["m"]) * int(parameters["e"]) * int(parameters["n"]) * 56 * 2
    assert 2 * -(-held // 4096) <= 24


def test_nothing_stays_in_the_buffer() -> None:
    b = GraphBuilder("chain", "int16")
    x = b.input("x", (1, 4, 12, 12))
    for _ in range(3):
        x = b.pool(b.conv(x, 4, 3, padding=1), "max", 3, 1, 1)
    report = sim.simulate(b.build([x]), "eyeriss_v1")
    assert len(report.ops) == 6
    assert set(report.ops["resident"]) == {""}
    assert (report.ops["dram_write_bytes"] >= 2 * 4 * 144).all()


def test_report_says_what_is_at_work() -> None:
    _, report, _ = _layer()
    assert "156 of 168 PEs, m=64 n=1 e=13 p=16 q=2 r=1 t=4" in report.ops["notes"][0]
    assert report.ops["utilization"][0] == pytest.approx(0.393, abs=0.01)


def test_what_the_law_does_not_cover_runs_elsewhere_and_says_so() -> None:
    report = sim.simulate(_fallbacks(), "eyeriss_v1")
    assert list(report.ops["unit"]) == ["vector", "vector"]
    assert "not defined for dilated filters" in report.ops["notes"][0]
    assert "not defined for transposed convolutions" in report.ops["notes"][1]


def test_no_races_with_two_inputs_in_flight() -> None:
    program = plan(_convolutions(), _small(), functional=True, inputs=2)[2]
    assert find_races(program) == []


@pytest.mark.parametrize(
    ("chip", "dataflow"), [("eyeriss_v1", "weight_stationary"), ("lepton_s", "row_stationary")]
)
def test_dataflow_of_other_arrays_is_refused(chip: str, dataflow: str) -> None:
    with pytest.raises(InputError, match=f"cannot work {dataflow}"):
        sim.simulate("gemm:64x64x64", chip, dtype="int16", dataflow=dataflow)  # type: ignore[arg-type]


def test_the_compiled_closed_form_refuses_what_it_does_not_know() -> None:
    with pytest.raises(InputError, match="no law for row_stationary arrays"):
        sim.bound("gemm:64x64x64", "eyeriss_v1", dtype="int16")
    with pytest.raises(InputError, match="cannot work row_stationary"):
        sim.bound("gemm:64x64x64", "lepton_s", dtype="int8", dataflow="row_stationary")


def test_closed_form_of_the_estimate_is_near_the_run() -> None:
    _, event, program = _layer()
    assert program.segments[0].ops[0].mapping["estimate_s"] == pytest.approx(event["latency_s"], rel=0.05)


def test_sums_stay_on_one_core() -> None:
    report = sim.simulate(_products(), _small(2), partition="reduction")
    assert list(report.ops["cores"]) == [1, 1]
    assert "only 1 of 2 cores have work" in report.ops["notes"][0]


def test_split_sums_of_a_partition_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.yaml").write_text("version: 1\noperators: {linear: {split: {inner: 2}}}\n")
    with pytest.raises(InputError, match="do not share sums"):
        sim.simulate(_products(), _small(2), partition=str(tmp_path / "cut.yaml"))


def test_row_that_does_not_fit() -> None:
    tight = load_chip(
        "eyeriss_v1", (*SMALL[:2], "core.sram.size=6 KiB", "core.array.row_stationary.longest_row=512")
    )
    b = GraphBuilder("wide", "int16")
    graph = b.build([b.conv(b.input("x", (1, 1, 8, 510)), 4, 3, padding=1, name="conv")])
    with pytest.raises(DoesNotFit, match="one row of operator conv") as found:
        sim.simulate(graph, tight)
    # Three input rows of 512 words and one of results of 510: 12 and 4 banks.
    assert (found.value.needed, found.value.available) == (16 * 256, 9 * 256)
