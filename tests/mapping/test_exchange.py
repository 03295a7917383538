"""All-reduce between chips: its time to the tick, its bytes and joules, what stays where, what is refused."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import sim
from sim.errors import InputError
from sim.graph.builder import GraphBuilder
from sim.graph.evaluate import evaluate
from sim.graph.graph import Graph
from sim.hw.chip import Chip, load_chip
from sim.mapping.mapper import map_graph
from sim.program import BYTE_UNITS, PAYLOAD_WEIGHT, Kind, Program
from sim.report.text import render_text

LINKS: Mapping[str, Any] = {
    "links.count": 2, "links.bandwidth": "500 MB/s", "links.latency": "3 us", "links.energy": "2 pJ/bit",
    "links.efficiency": 1,
}  # fmt: skip
PRESETS = ("tiny", "lepton_s", "lepton_m", "a100")


def chip(name: str, **changes: object) -> Chip:
    return load_chip(name, {**LINKS, **{path.replace("__", "."): value for path, value in changes.items()}})


def summed(shape: tuple[int, ...], chips: int, dtype: str = "int8") -> Graph:
    b = GraphBuilder("summed", dtype)
    return b.build([b.all_reduce(b.input("x", shape), chips, "sum")], kernel=True)


def dtype_of(name: str) -> str:
    return "fp16" if name == "a100" else "int8"


def loads(program: Program) -> Any:
    (segment,) = program.segments
    return segment, np.flatnonzero(segment.kind == Kind.LOAD)


def weights(program: Program, task: int) -> dict[str, float]:
    """Bytes that cross each kind of link of a task's route, per byte of it."""
    route = int(program.segments[0].route[task])
    entries = range(int(program.route_ptr[route]), int(program.route_ptr[route + 1]))
    return {
        program.links[int(program.route_link[at])].kind: int(program.route_weight[at]) / PAYLOAD_WEIGHT
        for at in entries
    }


def test_one_piece_to_the_tick() -> None:
    """Head latency of a load, six steps of a ring of four, then 1.5 bytes per byte over 1 GB/s."""
    one = chip("lepton_s", core__count=1, interconnect__topology="crossbar", interconnect__shape=[1])
    program = map_graph(summed((64, 64), 4), one)
    segment, (task,) = loads(program)
    dma, dram = one.cores[0].dma, one.dram
    head_ps = dma.setup_latency_ps + dram.latency_ps + 6 * 3_000_000
    assert segment.dur[task] == head_ps
    report = sim.simulate(summed((64, 64), 4), one)
    moved_ps = -(-4096 * BYTE_UNITS // (PAYLOAD_WEIGHT * (10**9 * BYTE_UNITS // 10**12) // 384))
    rest = sim.simulate(summed((64, 64), 4), one.replace("links.latency", "0 us"))
    assert report["latency_s"] - rest["latency_s"] == pytest.approx(18e-6, abs=1e-15)
    assert head_ps + moved_ps < report["latency_s"] * 1e12 < head_ps + moved_ps + 1_500_000  # and adds and stores


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("chips", [2, 4, 8])
def test_bytes_and_joules_are_those_of_a_ring(name: str, chips: int) -> None:
    """2 (n - 1)/n of the tensor go over the links, and as much again comes: through DMA and scratchpads, too."""
    on = chip(name)
    report = sim.simulate(summed((512, 512), chips, dtype_of(name)), on)
    alone = sim.simulate(elementwise((512, 512), dtype_of(name)), on)
    size = 512 * 512 * (2 if name == "a100" else 1)
    sent = 2 * (chips - 1) / chips * size
    ops = report.ops
    assert ops["chip_links_bytes"].sum() == sent
    assert ops["energy_chip_links_j"].sum() == pytest.approx(sent * 16e-12)
    more = ops[["sram_read_bytes", "sram_write_bytes", "dma_bytes", "noc_bytes"]].sum() - alone.ops[
        ["sram_read_bytes", "sram_write_bytes", "dma_bytes", "noc_bytes"]
    ].sum()
    hops = alone["noc_bytes"] / (2 * size)
    assert more.tolist() == pytest.approx([sent, sent, 2 * sent, 2 * sent * hops])
    assert report["latency_s"] > sent / 1e9 + 2 * (chips - 1) * 3e-6
    assert report["bottleneck"] == "chip_links"


def elementwise(shape: tuple[int, ...], dtype: str) -> Graph:
    b = GraphBuilder("copied", dtype)
    return b.build([b.elementwise("neg", b.input("x", shape), name="neg")], kernel=True)


def test_the_way_of_a_byte() -> None:
    """With four chips 1.5 bytes leave and 1.5 come per byte: a DMA channel carries all of them and the byte itself, a
    link of the interconnect what comes."""
    program = map_graph(summed((512, 512), 4), chip("lepton_m"))
    _, found = loads(program)
    far = next(task for task in found if "noc" in weights(program, task))
    carried = weights(program, far)
    assert (carried["chip_links"], carried["dma"], carried["noc"], carried["port"]) == (1.5, 4.0, 2.5, 1.0)


@pytest.mark.parametrize("name", PRESETS)
def test_both_engines_and_the_closed_form(name: str) -> None:
    """The engines agree to the tick, the closed form within 10 % where pieces are many; none is below the ring's."""
    graph, on = summed((2048, 1024), 4, dtype_of(name)), chip(name)
    compiled, reference = (sim.simulate(graph, on, engine=engine) for engine in ("compiled", "reference"))
    closed = sim.simulate(graph, on, fidelity="bound")
    ring_s = 1.5 * graph.tensors["x"].size_bytes / 1e9 + 18e-6
    assert compiled["latency_s"] == reference["latency_s"]
    assert ring_s < compiled["latency_s"] < 1.1 * ring_s
    assert closed["latency_s"] == pytest.approx(compiled["latency_s"], rel=0.1)
    assert closed["latency_s"] >= ring_s


def test_links_are_shared_by_what_goes_on_at_a_time() -> None:
    """Two independent sums take as long as one of twice the size: they contend for the same links."""
    b = GraphBuilder("two", "int8")
    both = b.build([b.all_reduce(b.input(name, (512, 512)), 4) for name in ("x", "y")], kernel=True)
    on = chip("lepton_m", links__latency="0 us")
    one, two = (float(sim.simulate(graph, on)["latency_s"] or 0) for graph in (summed((1024, 512), 4), both))
    assert two == pytest.approx(one, rel=0.03)


def test_a_result_that_others_need_is_not_read_in_place() -> None:
    """Between two operators that would keep their results in the scratchpads, all of it goes over the links."""

    def chain(chips: int) -> Graph:
        b = GraphBuilder("chain", "int8")
        x = b.relu(b.input("x", (256, 256)))
        x = b.all_reduce(x, chips, "sum") if chips else b.tanh(x, "sum")
        return b.build([b.sigmoid(x)], kernel=True)

    on = chip("lepton_m").replace("cache", None)
    kept, sent = sim.simulate(chain(0), on), sim.simulate(chain(2), on)
    assert kept["dram_read_bytes"] == 256 * 256  # else this shows nothing
    assert sent["dram_read_bytes"] == 2 * 256 * 256
    assert sent.ops["chip_links_bytes"].sum() == 256 * 256


def test_the_report_names_the_links() -> None:
    stream = io.StringIO()
    render_text(sim.simulate(summed((512, 512), 4), chip("lepton_m")), Console(file=stream, width=120))
    text = stream.getvalue()
    assert "set by the links to other chips" in text
    assert "waits for other chips" in text
    assert re.search(r"other chips +384 KiB .*sent by this chip; as much comes back", text)
    assert re.search(r"links to other chips +6.29 uJ", text)  # 393,216 B at 16 pJ


def test_a_chip_without_links_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="operator sum adds up over 4 chips, but chip 'tiny' has no links"):
        sim.simulate(summed((8, 8), 4), "tiny")


def test_the_sum_of_chips_that_hold_the_same() -> None:
    graph, x = summed((2, 3), 4, "fp32"), np.arange(6.0).reshape(2, 3)
    assert evaluate(graph, {"x": x})["sum"].tolist() == [[0, 4, 8], [12, 16, 20]]


def test_the_bound_of_many_designs_refuses() -> None:
    from sim.cost.bound import compile_model

    with pytest.raises(InputError, match="operator sum is of 4 chips; the closed form of many designs knows one"):
        compile_model(summed((8, 8), 4))
