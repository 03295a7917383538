"""Cores that share operands sit behind one port where links are slow; and what stays in the scratchpads still does."""

from __future__ import annotations

import numpy as np
import pytest

from sim.cost.wires import placed_order
from sim.engine import run
from sim.engine.verification import verify
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.graph.load import load_model
from sim.graph.nest import Nest
from sim.hw.chip import Chip, load_chip
from sim.hw.noc import Interconnect, build_network
from sim.mapping import plan
from sim.mapping.mapper import map_graph
from sim.mapping.search import Tiling
from sim.passes import default_passes
from sim.program import Kind, Program

Placed = list[tuple[Nest, Tiling, tuple[int, ...]]]


def mesh(link: str, topology: str = "mesh", **others: object) -> Chip:
    changes = {
        "clock": "100 MHz",
        "core.count": 12,
        "core.array.rows": 8,
        "core.array.cols": 8,
        "core.array.dataflow": "output_stationary",
        "core.accumulator.size": "4 KiB",
        "core.sram.size": "64 KiB",
        "interconnect.topology": topology,
        "interconnect.shape": [3, 4],
        "interconnect.memory_ports": [[0, column] for column in range(4)],
        "interconnect.link_bandwidth": link,
    }
    return load_chip("lepton_m", changes | others)


def loaded_bytes(program: Program) -> float:
    """What the busiest link or port carries of the loads, by the routes of the program."""
    carried = np.zeros(len(program.links))
    for segment in program.segments:
        for task in np.flatnonzero(segment.kind == Kind.LOAD).tolist():
            route = segment.route[task]
            links = program.route_link[program.route_ptr[route] : program.route_ptr[route + 1]]
            carried[links] += segment.nbytes[task]
    return float(carried[[link.kind in ("noc", "port") for link in program.links]].max())


def groups_per_link(
    net: Interconnect, cores: tuple[int, ...], shape: tuple[int, ...], own: tuple[int, ...]
) -> np.ndarray:
    """[links]: how many groups of cores load over each link. Those whose places in the grid `shape` differ on the axes
    `own` load parts of their own; the others share one, by a multicast from the first one's port."""
    network = build_network(net)
    others = tuple(axis for axis in range(len(shape)) if axis not in own)
    grid = np.transpose(np.array(cores).reshape(shape), (*own, *others))
    found = np.zeros(len(network.links))
    for group in grid.reshape(int(np.prod([shape[axis] for axis in own])), -1).tolist():
        end, port = network.port_ends[network.nearest_port(group[0])]
        found[[port, *network.multicast_tree(end, group)]] += 1
    return found


def loads(program: Program) -> int:
    """Bytes of all loads."""
    return sum(int(part.nbytes[part.kind == Kind.LOAD].sum()) for part in program.segments)


def mapped(graph: Graph, chip: Chip, monkeypatch: pytest.MonkeyPatch, *, move: bool = True) -> tuple[Program, Placed]:
    """The program, and what was placed: loop nest, tiling and cores."""
    found: Placed = []

    def spy(nest: Nest, tiling: Tiling, cores: tuple[int, ...], net: Interconnect) -> tuple[int, ...]:
        placed = real(nest, tiling, cores, net) if move else cores[: tiling.cores]
        found.append((nest, tiling, placed))
        return placed

    with monkeypatch.context() as patch:
        real = plan.placed
        patch.setattr(plan, "placed", spy)
        return map_graph(graph, chip, partition="auto", memo={}), found


@pytest.mark.parametrize("topology", ["mesh", "torus"])
@pytest.mark.parametrize("move", [True, False])
def test_the_busiest_link_carries_what_was_counted(
    topology: str, move: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    chip = mesh("100 MB/s", topology)
    program, found = mapped(default_passes(load_model("gemm:96x192x128", dtype="int8")), chip, monkeypatch, move=move)
    _, tiling, cores = found[0]
    assert loads(program) == 96 * 128 + 192 * 128  # every part of an operand once, by a multicast
    net, rows, columns = chip.interconnect, *tiling.splits[:2]
    a = groups_per_link(net, cores, (rows, columns), (0,)) * (96 * 128 / rows)
    b = groups_per_link(net, cores, (rows, columns), (1,)) * (192 * 128 / columns)
    assert (a + b).max() == pytest.approx(loaded_bytes(program))


@pytest.mark.parametrize(("topology", "product"), [("mesh", "gemm:96x192x128"), ("torus", "gemm:384x192x64")])
def test_slow_links_carry_less_and_the_program_is_faster(
    topology: str, product: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, chip = default_passes(load_model(product, dtype="int8")), mesh("100 MB/s", topology)
    (here, _), (there, _) = (mapped(graph, chip, monkeypatch, move=move) for move in (True, False))
    assert loaded_bytes(here) <= 0.8 * loaded_bytes(there)
    assert run(here, "compiled").latency_ps < 0.91 * run(there, "compiled").latency_ps


def test_where_links_are_no_limit_cores_come_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = default_passes(load_model("gemm:64x384x64", dtype="int8"))
    _, found = mapped(graph, mesh("100 GB/s"), monkeypatch)
    assert found
    assert all(cores == tuple(range(len(cores))) for _, _, cores in found)


def test_orders_of_a_grid() -> None:
    net = mesh("1 GB/s").interconnect
    found = [placed_order((0, 1, 2, 4, 5, 6), net, (2, 3), number) for number in range(4)]
    assert found == [(0, 1, 2, 4, 5, 6), (0, 2, 5, 1, 4, 6), (0, 4, 1, 5, 2, 6), (0, 1, 2, 4, 5, 6)]


def test_results_stay_where_they_were_made_and_the_values_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two users of a product find their parts on its cores, whatever order these are in."""
    b = GraphBuilder("chain", "int8")
    x = b.linear(b.input("x", (64, 64)), 384, name="product")
    graph = default_passes(b.build([b.elementwise(kind, x, name=kind) for kind in ("relu", "sigmoid")]))
    chip = mesh("100 MB/s", **{"core.dma.channels": 1, "core.dma.bandwidth": "100 MB/s"})
    as_they_are, _ = mapped(graph, chip, monkeypatch, move=False)
    monkeypatch.setattr(plan, "placed", lambda nest, tiling, cores, net: cores[: tiling.cores][::-1])
    backwards = map_graph(graph, chip, functional=True, memo={})
    assert loads(backwards) == loads(as_they_are) < 64 * 64 + 2 * 64 * 384
    assert verify(backwards, graph, "mesh").passed
