"""Steps that are emitted once and set in several times, and steps on the skeleton of another chip's, give the same
programs as steps emitted afresh."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from operator_graphs import GRAPHS, chip

from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.hw.chip import Chip
from sim.mapping import lower as lowering
from sim.mapping import skeleton as skeletons
from sim.mapping.deal import loops_of
from sim.mapping.fabric import Fabric
from sim.mapping.mapper import SearchMemo, map_graph
from sim.mapping.memo import Recent
from sim.mapping.partition import Assignment
from sim.mapping.plan import make_plan
from sim.mapping.skeleton import SKELETON_BYTES, Skeleton
from sim.mapping.template import TEMPLATE_BYTES, Template
from sim.program import Program

SEARCHES: SearchMemo = {}


def residual() -> Graph:
    """Equal layers whose results are stored, kept, or both, and whose inputs lie here and there."""
    b = GraphBuilder("residual", "int8")
    x = b.relu(b.conv(b.input("x", (1, 16, 14, 14)), 16, 3, padding="same"))
    for _ in range(3):
        y = b.relu(b.conv(x, 16, 3, padding="same"))
        x = b.add(b.conv(y, 16, 3, padding="same"), x)
    return b.build([x, b.relu(x)])


def twice_transposed() -> Graph:
    """Equal loops, but different work: what lies between input rows makes products that are not the graph's."""
    b = GraphBuilder("transposed", "int8")
    x = b.input("x", (1, 8, 7, 7))
    return b.build([b.conv_transpose(x, 8, 3, 2, 1), b.conv_transpose(x, 8, 2, 2)])


def chain() -> Graph:
    """Equal steps that differ in where their input lies and what becomes of their result."""
    b = GraphBuilder("chain", "int8")
    made = [b.input("x", (64, 64))]
    for _ in range(5):
        made.append(b.tanh(made[-1]))
    return b.build([made[2], made[-1]])


def cases() -> Iterator[tuple[str, Graph, Chip, str, int]]:
    small = chip("small")
    chips = {
        "small": small,
        "slow": small.replace_many({"core.dma.setup_latency": "300 ns", "clock": "600 MHz"}),
        "one way": small.replace_many({"core.dma.channels": 1, "dram.interleave": "64 B"}),
        "ring": chip("ring"),
        "odd sides": small.replace_many({"core.array.rows": 12, "core.array.cols": 20, "clock": "1.3 GHz"}),
        "small sums": small.replace_many({"core.accumulator.size": "2 KiB"}),
        "one slot": small.replace_many({"core.sram.tile_slots": 1}),
    }
    names = ("conv grouped", "matmul deep", "gather", "cache_update")
    graphs = {name: GRAPHS[name]() for name in names}
    graphs |= {"residual": residual(), "transposed": twice_transposed(), "chain": chain()}
    for on, target in chips.items():
        for name, graph in graphs.items():
            yield f"{name} on {on}", graph, target, "auto", 1
        yield f"reduction on {on}", graphs["matmul deep"], target, "reduction", 1
        for mode in ("data", "channel"):
            yield f"{mode} on {on}", graphs["matmul deep"], target, mode, 1
        yield f"stages on {on}", graphs["residual"], target, "pipeline", 2


def mapped(graph: Graph, on: Chip, mode: str, inputs: int) -> Program:
    return map_graph(graph, on, partition=mode, inputs=inputs, functional=True, memo=SEARCHES)


def assert_same(one: Program, other: Program, what: str) -> None:
    assert (one.queues, one.links, one.facts) == (other.queues, other.links, other.facts), what
    for a, b in zip(one.segments, other.segments, strict=True):
        assert a.ops == b.ops, what
        assert a.functional is not None
        assert b.functional is not None
        assert a.functional.roots == b.functional.roots, what
        names = ("kind", "queue", "hold", "dur", "nbytes", "route", "release", "pptr", "pidx", "op")
        more = ("aptr", "write", "operand", "tensor", "start", "stop", "space", "core", "address_bytes")
        for name in names:
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name), f"{what}: {name}")
        for name in more:
            pair = getattr(a.functional, name), getattr(b.functional, name)
            np.testing.assert_array_equal(*pair, f"{what}: {name}")
    for name in ("route_ptr", "route_link", "route_weight", "route_hops"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), f"{what}: {name}")


def made_afresh(monkeypatch: pytest.MonkeyPatch) -> dict[str, Program]:
    """All cases without any memory; from here on there is one of skeletons."""
    monkeypatch.setattr(lowering, "TEMPLATES", Recent[object, Template](0))
    monkeypatch.setattr(skeletons, "SKELETONS", Recent[object, Skeleton](0))
    found = {what: mapped(*case) for what, *case in cases()}
    memory: Recent[object, Skeleton] = Recent(SKELETON_BYTES, lambda skeleton: skeleton.size_bytes)
    monkeypatch.setattr(skeletons, "SKELETONS", memory)
    return found


def test_steps_on_skeletons_of_others_make_the_same_program_task_by_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chips whose arrays, scratchpads, clocks and channels differ, one after another with one memory of skeletons."""
    fresh = made_afresh(monkeypatch)
    for what, *case in cases():
        assert_same(mapped(*case), fresh[what], what)
    steps = sum(1 for what in fresh for s in fresh[what].segments for row in s.ops if "tile" in row.mapping)
    memory = skeletons.SKELETONS
    assert 20 < len(memory) < 0.6 * steps, "chips share skeletons"
    assert all(found.size_bytes >= 6 * 8 * len(found.kind) for found in memory.values())


def test_steps_with_as_many_tiles_in_another_order_have_skeletons_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """32 rows and 32 columns in 4 x 4 tiles: rows outside, the left operand's four tiles are loaded once each and the
    right one's again with every row of tiles, 16 times; columns outside, the other way round."""
    monkeypatch.setattr(skeletons, "SKELETONS", Recent[object, Skeleton](1 << 20))
    b = GraphBuilder("square", "int8")
    graph, on = b.build([b.linear(b.input("x", (32, 32)), 32)]), chip("small")
    fabric = Fabric(on)
    step = make_plan(graph, on, fabric, Assignment(on, "data", names=("linear",))).steps[0]
    found = {}
    for order in ((0, 1, 2), (1, 0, 2)):
        tiling = replace(step.tiling, splits=(1, 1, 1), steps=(4, 4, 1), quanta=(8, 8, 8), order=order)
        mine = replace(step, tiling=tiling, cores=(0,), resident=(False,) * 3, store=True, keep=False)
        frame = skeletons.skeleton_of(mine, on.cores[0], fabric, loops_of(mine))
        found[order] = [len(fetch.fills.first) for fetch in frame.fetches[:2]]
    assert found == {(0, 1, 2): [4, 16], (1, 0, 2): [16, 4]}


def test_remembered_steps_make_the_same_program_task_by_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """All cases one after another with one memory, twice, so that whatever the key forgets meets the wrong template;
    against the same with no memory at all."""
    fresh = made_afresh(monkeypatch)
    memory: Recent[object, Template] = Recent(TEMPLATE_BYTES, lambda template: template.size_bytes)
    monkeypatch.setattr(lowering, "TEMPLATES", memory)
    for _ in range(2):
        for what, *case in cases():
            assert_same(mapped(*case), fresh[what], what)
    steps = sum(1 for what in fresh for s in fresh[what].segments for row in s.ops if "tile" in row.mapping)
    assert 20 < len(memory) < 0.8 * steps, "equal layers share a template"
    assert 0 < memory.used <= TEMPLATE_BYTES


def test_a_template_says_how_much_memory_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """At least its task columns of 8 bytes; the memory drops the oldest to stay within its bound."""
    memory: Recent[object, Template] = Recent(100_000, lambda template: template.size_bytes)
    monkeypatch.setattr(lowering, "TEMPLATES", memory)
    sizes = []
    for _, *case in itertools.islice(cases(), 9):
        mapped(*case)
        sizes.append(sum(template.size_bytes for template in memory.values()))
        assert sizes[-1] == memory.used <= 100_000
        assert all(template.size_bytes >= 6 * 8 * template.tasks for template in memory.values())
    assert max(sizes) > 80_000


def test_recent_keeps_what_was_used_last() -> None:
    memory: Recent[str, str] = Recent(9, len)
    for name in "abcd":
        memory[name] = 2 * name
    assert memory["a"] == "aa"
    memory["e"] = "ee"
    assert (memory.used, list(memory)) == (8, ["c", "d", "a", "e"])
    memory["f"] = "six in all"
    assert (memory.used, list(memory)) == (8, ["c", "d", "a", "e"]), "more than a quarter of the whole"
    memory["c"] = "c"
    assert (memory.used, list(memory)) == (7, ["d", "a", "e", "c"])
    memory["a"] = "no longer small"
    assert (memory.used, memory.get("a")) == (5, None), "the old value is not the new one"
    del memory["d"]
    assert (memory.used, len(memory)) == (3, 2)
    with pytest.raises(KeyError):
        del memory["d"]
