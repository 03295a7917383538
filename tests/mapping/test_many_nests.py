"""Deep models and operators of many loop nests: what grows with their number, and what must not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from operator_graphs import chip

from sim.engine.ordering import find_races
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.hw.chip import load_chip
from sim.hw.dram import pattern_efficiency
from sim.mapping import deal_menu
from sim.mapping.deal_menu import menu_of
from sim.mapping.mapper import map_graph


def joined(parts: int) -> Graph:
    """Rows computed one by one and joined, twice: each of `parts` loop nests of a concatenation writes to the memory
    that as many operators of an earlier input read."""
    b = GraphBuilder("joined", "int8")
    x = b.input("x", (parts, 64))
    for _ in range(2):
        x = b.concat([b.tanh(b.slice(x, 0, at, 1)) for at in range(parts)], 0)
    return b.build([x])


def test_the_loop_nests_of_an_operator_wait_once_for_the_memory_they_share() -> None:
    """Third inputs overwrite what first ones read: 100 writers times 100 readers, which 35,000 edges said."""
    for parts in (10, 100):
        program = map_graph(joined(parts), chip("ring"), inputs=3, functional=True)
        assert find_races(program) == []
        (segment,) = program.segments
        assert len(segment.pidx) < 4 * segment.tasks
    plain = map_graph(joined(100), chip("ring"), inputs=3).segments[0]
    assert plain.tasks == segment.tasks


@pytest.fixture
def contraction() -> Graph:
    b = GraphBuilder("product", "fp16")
    return b.build([b.matmul(b.input("a", (300, 512)), b.input("b", (512, 640)))], kernel=True)


def test_candidates_are_those_of_the_chip_at_hand(contraction: Graph) -> None:
    """What is kept of a contraction on one GPU is taken for another only as far as nothing else would come out."""
    ((nest,),) = contraction.nests
    a100 = load_chip("a100")
    dispatch, dram = a100.cores[0].dispatch, a100.dram
    assert dispatch is not None
    first = menu_of(nest, dispatch, dispatch.tiles, 108)
    assert menu_of(nest, replace(dispatch, stages=2), dispatch.tiles, 64) is first
    for other, cores in ((replace(dispatch, depth=32), 108), (replace(dispatch, split_sums=False), 108), (dispatch, 3)):
        found = menu_of(nest, other, dispatch.tiles, cores)
        deal_menu._MENUS.clear()
        anew = menu_of(nest, other, dispatch.tiles, cores)
        assert found is not first
        for name in ("rows", "columns", "parts", "sum_steps", "tiles"):
            assert getattr(found, name).tolist() == getattr(anew, name).tolist()
        assert found.parts.max() == (1 if not other.split_sums else min(cores, 8))
        first = menu_of(nest, dispatch, dispatch.tiles, 108)
    left = nest.operands[0]
    plain = replace(dram, gathers=False)
    for one in (dram, load_chip("lepton_s").dram, plain, replace(plain, channels=1)):
        extents = np.column_stack([axis.extent(first.tile) for axis in left.axes])
        wanted = pattern_efficiency(one, left.run_bytes(extents), left.pitch_bytes(extents))
        assert first.efficiencies(one)[0].tolist() == wanted.tolist()
