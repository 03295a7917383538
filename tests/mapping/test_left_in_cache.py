"""What a kernel finds of the product before it, by hand: 108 cores of an A100, tiles of 256 x 128 at most."""

from dataclasses import replace

import pytest

from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.hw.chip import load_chip
from sim.mapping.deal_vector import left_in_cache, share_left
from sim.mapping.fabric import Fabric
from sim.mapping.partition import Assignment
from sim.mapping.plan import make_plan
from sim.passes import default_passes

A100 = load_chip("a100")


def gated(rows: int, columns: int, *, after_a_product: bool = True) -> Graph:
    builder = GraphBuilder("gated", "fp16")
    gate, factor = builder.input("a", (rows, columns)), builder.input("b", (rows, columns))
    graph = builder.build([builder.mul(builder.silu(gate), factor)], kernel=True)
    return replace(graph, warm=graph.inputs if after_a_product else ())


def waiting_ps(graph: Graph) -> int:
    """For which the threads of a block wait."""
    graph = default_passes(graph)
    step, *_ = make_plan(graph, A100, Fabric(A100), Assignment(A100, names=tuple(op.name for op in graph.ops))).steps
    assert step.tiling.deal is not None
    assert step.tiling.deal.vector is not None
    return step.tiling.deal.vector.waiting_ps


@pytest.mark.parametrize(
    ("rows", "columns", "share"),
    [
        (1, 6912, 1.0),  # 13,824 elements: 108 tiles of 128 columns
        (1, 6976, 108 / 109),
        (1, 28672, 108 * 128 / 57344),
        (64, 28672, 108 * 128 / 57344),
        (512, 6912, 108 * 256 * 128 / (512 * 13824)),
    ],
)
def test_the_last_wave_of_a_product_is_left(rows: int, columns: int, share: float) -> None:
    graph = gated(rows, columns)
    assert share_left(graph, A100) == pytest.approx(share)
    # By what loads are as fast as the cache: all, where one wave of the largest tiles could have written it.
    assert left_in_cache(graph, A100) == (graph.warm if rows * 2 * columns <= 108 * 256 * 128 else ())


def test_nothing_is_known_of_a_product_before_a_lone_kernel() -> None:
    assert share_left(gated(1, 28672, after_a_product=False), A100) == 1.0
    assert share_left(gated(1, 28672), load_chip("tiny")) == 1.0


def test_a_walk_waits_for_the_dram_where_its_row_is_not_left() -> None:
    """One row of 28,672 elements, 1,024 at a time: at 27 of 28 steps, but for what one wave left, 205 ns more."""
    more_ps = waiting_ps(gated(1, 28672)) - waiting_ps(gated(1, 28672, after_a_product=False))
    assert more_ps == pytest.approx(27 * (1 - 108 * 128 / 57344) * 205e3, abs=2)
    assert waiting_ps(gated(1, 6912)) == waiting_ps(gated(1, 6912, after_a_product=False))


def norm(rows: int, columns: int, *, warm: bool) -> Graph:
    builder = GraphBuilder("norm", "fp16")
    graph = builder.build([builder.rms_norm(builder.input("x", (rows, columns)))], kernel=True)
    return replace(graph, warm=graph.inputs if warm else ())


def test_a_norm_does_not_follow_a_product() -> None:
    """What it normalises was added or looked up, element by element."""
    assert share_left(norm(1, 28672, warm=True), A100) == 1.0
    assert waiting_ps(norm(1, 28672, warm=True)) == waiting_ps(norm(1, 28672, warm=False))


def test_a_norm_finds_what_was_added_where_the_cache_holds_all_of_the_addition() -> None:
    """Three tensors of 1706 rows of 4096 are 41.93 MB of the 41.94 of an A100; 1707 rows are more. Then three of four
    steps, and the first of blocks that begin later, wait 205 ns more: of 16 rows of a core, two at a time."""
    assert [share_left(norm(rows, 4096, warm=True), A100) for rows in (1706, 1707)] == [1.0, 0.0]
    more_ps = waiting_ps(norm(1707, 4096, warm=True)) - waiting_ps(norm(1707, 4096, warm=False))
    assert more_ps == pytest.approx((3 * 8 / 16 + 7 / 16) * 205e3, abs=2)


def added(rows: int, columns: int) -> Graph:
    builder = GraphBuilder("added", "fp16")
    x = builder.input("x", (rows, columns))
    graph = builder.build([builder.add(x, builder.input("residual", (rows, columns)))], kernel=True)
    return replace(graph, warm=(x,))


@pytest.mark.parametrize(
    ("rows", "columns", "there"),
    [
        (256, 13824, True),  # as many results as a wave of full tiles has
        (256, 13825, False),
        (264, 6912, True),  # 2 x 54 tiles, of which half hold 8 rows
        (264, 6913, False),  # 110 tiles of 1.8 M results
        (384, 8192, False),
        (520, 4096, True),  # 3 x 32
    ],
)
def test_an_addition_finds_what_one_wave_of_tiles_wrote(rows: int, columns: int, there: bool) -> None:
    graph = added(rows, columns)
    assert left_in_cache(graph, A100) == (graph.warm if there else ())


def test_a_kernel_that_walks_rows_is_told_its_share() -> None:
    """264 rows of two halves of 4,096: 2 x 64 tiles, but 2.2 M results; `share_left` tells what is left of them."""
    graph = default_passes(gated(264, 4096))
    assert left_in_cache(graph, A100) == graph.warm
