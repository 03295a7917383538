"""What a drain reads beside the sums: one element for each of the result, or a number for a row or column."""

import pytest

import sim
from sim.cost.actions import epilogue_bytes
from sim.cost.nest_tables import PER_ELEMENT, nest_tables
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.passes import default_passes
from sim.program import OpRow

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
