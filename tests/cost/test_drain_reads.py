"""What a drain reads beside the sums: one element for each of the result, or a number for a row or column."""

from functools import partial

import numpy as np
import pytest

import sim
from sim.cost import kernel
from sim.cost.actions import epilogue_bytes
from sim.cost.bound import compile_model, evaluate
from sim.cost.compiled import compiled_estimate
from sim.cost.designs import designs_of
from sim.cost.estimate import Cuts, estimate
from sim.cost.nest_tables import PER_ELEMENT, nest_tables
from sim.engine import run
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.hw.chip import Chip, load_chip
from sim.mapping.fabric import Fabric
from sim.mapping.mapper import map_graph
from sim.mapping.partition import mode_splits
from sim.mapping.sites import make_site
from sim.passes import default_passes
from sim.program import Kind, OpRow, Program

HEADS, ROWS, KEYS, WIDTH = 3, 40, 48, 32


def scores(mask: tuple[int, ...]) -> Graph:
    """Scores [1, heads, rows, keys] with something added."""
    b = GraphBuilder("scores", "int8")
    q, k = (b.input(name, (1, HEADS, size, WIDTH)) for name, size in (("q", ROWS), ("k", KEYS)))
    y = b.matmul(q, k, transpose_b=True, name="y")
    return default_passes(b.build([b.add(y, b.input("mask", mask))]))


def products(graph: Graph) -> list[OpRow]:
    """Of one lane, so that the array makes them all."""
    _, _, program = sim.plan(graph, "tiny", overrides=["core.vector.lanes=1"])
    found = [row for segment in program.segments for row in segment.ops if row.macs]
    assert all(row.counts["array_cycles"] for row in found)
    return found


@pytest.mark.parametrize(
    ("mask", "each"),
    [
        ((1, HEADS, ROWS, KEYS), True), ((ROWS, KEYS), True), ((1, 1, ROWS, KEYS), True), ((KEYS,), False),
        ((1, HEADS, 1, 1), False), ((1, 1, ROWS, 1), False), ((1,), False),
    ],
)  # fmt: skip
def test_a_mask_that_heads_share_is_read_for_each(mask: tuple[int, ...], each: bool) -> None:
    """The closed form of many designs counts by the same rule."""
    ((nest,),) = scores(mask).nests
    assert epilogue_bytes(nest, nest.out.tensor.elements) == (HEADS * ROWS * KEYS if each else 0)
    tables = nest_tables([nest])
    assert tables.operands[0, 2, PER_ELEMENT] == each


def test_one_row_reads_its_bias() -> None:
    """A number of every column for the only row is one for each element."""
    found = []
    for rows in (1, 2):
        b = GraphBuilder("product", "int8")
        x, w = b.input("x", (rows, 256)), b.weight((256, 512), "w")
        plain, biased = b.matmul(x, w), b.matmul(x, w, bias=b.weight((512,), "bias", "int32"))
        graph = default_passes(b.build([plain, biased]))
        one, other = (row.counts["sram_read_bytes"] for row in products(graph))
        found.append(other - one)
    assert found == [512 * 4, 0]


SIDE = 64
NARROW = {"core.vector.lanes": 32, "core.accumulator.bandwidth": "1 TB/s", "core.sram.bandwidth": "16 GB/s"}
"""Of `tiny`, whose DMA may take all of it: a quarter, 8 bytes a cycle, is for compute. Nothing else binds a drain."""
PORT_BYTES = 8


def summed_up(residual: bool, **overrides: object) -> tuple[Graph, Chip]:
    """A product of int8, and a residual or no more than an activation."""
    b = GraphBuilder("product", "int8")
    y = b.matmul(b.input("x", (SIDE, SIDE)), b.weight((SIDE, SIDE), "w"), name="y")
    y = b.add(y, b.input("r", (SIDE, SIDE))) if residual else b.relu(y)
    return default_passes(b.build([y])), load_chip("tiny", {**NARROW, **overrides})


def drains(program: Program) -> list[int]:
    """Ticks of the lanes' tasks."""
    return [
        int(held)
        for segment in program.segments
        for held in segment.hold[segment.kind == Kind.VECTOR].tolist()
    ]


def test_a_residual_passes_the_port_in_time_too() -> None:
    """A result of one byte and a byte of a residual take the port twice as long as the result alone, in the tasks, in
    both engines, in the mapper's closed form and in that of many designs."""
    found = {}
    for residual in (False, True):
        graph, chip = summed_up(residual)
        ((nest,),) = graph.nests
        program = map_graph(graph, chip)
        cycles = SIDE * SIDE * (1 + residual) // PORT_BYTES
        assert sum(drains(program)) == cycles * 2000
        timelines = [run(program, engine) for engine in ("compiled", "reference")]
        assert timelines[0].latency_ps == timelines[1].latency_ps
        bounds = evaluate(compile_model(graph), designs_of([chip]), partial(mode_splits, "auto"))
        assert bounds.cost[0, 0, kernel.VECTOR_S] == pytest.approx(cycles * 2e-9, rel=1e-12)
        site = make_site(chip, Fabric(chip), chip.cores[0], (0,))
        one = np.ones((1, len(nest.dims)), np.int64)
        cuts = Cuts(one, one, np.array([False]), tuple(np.array([dim.extent]) for dim in nest.dims))
        here = np.ones((1, len(nest.operands)), np.bool_)
        for how in (estimate, compiled_estimate):
            said = how(nest, site, cuts, unit="array", dataflow="weight_stationary", resident=here, stored=False)
            found[residual, how.__name__] = float(said.latency_s[0])
    for name in ("estimate", "compiled_estimate"):
        more = found[True, name] - found[False, name]
        assert more == pytest.approx(SIDE * SIDE // PORT_BYTES * 2e-9, rel=1e-9), name
