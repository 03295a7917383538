"""The functional executor and the happens-before check have teeth: each mistake is noticed, and by whom it should."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import corruptions as c
import pytest
from mapped import Array, assert_equal, computed, expected, given_values, mapped
from small_models import MODELS

from sim.engine.ordering import find_races
from sim.errors import InvariantViolation
from sim.graph.graph import Graph
from sim.passes import default_passes
from sim.program import Kind, Program

WRONG, ERROR, RACE = "wrong numbers", "an error", "a race"

MISTAKES: Mapping[c.Corruption, tuple[str, str]] = {
    c.shifted_load: ("auto", WRONG),
    c.shrunk_halo: ("auto", WRONG),
    c.swapped_slots: ("auto", ERROR),
    c.shortened_sum: ("auto", WRONG),
    c.operand_from_another_slot: ("auto", ERROR),
    c.skipped_store: ("auto", ERROR),
    c.store_to_another_place: ("auto", ERROR),
    c.skipped_load: ("auto", ERROR),
    c.skipped_message: ("reduction", ERROR),
    c.forgotten_part: ("reduction", WRONG),
    c.message_to_another_core: ("reduction", ERROR),
    c.result_in_the_other_slot: ("auto", ERROR),
    c.half_of_the_accumulator: ("auto", RACE),
    c.kept_result_overlapped: ("auto", RACE),
    c.kept_on_another_core: ("auto", ERROR),
    c.dram_reused_too_early: ("auto", RACE),
}

EDGES: Mapping[str, tuple[str, Kind, Kind, bool | None]] = {
    "a product waits for its operands": ("auto", Kind.LOAD, Kind.MATMUL, None),
    "a fused operator waits for its operands": ("auto", Kind.LOAD, Kind.VECTOR, None),
    "a slot is filled when its last product is done": ("auto", Kind.MATMUL, Kind.LOAD, None),
    "a slot is filled when its last drain is done": ("auto", Kind.VECTOR, Kind.LOAD, None),
    "a drain waits for the sum": ("auto", Kind.MATMUL, Kind.VECTOR, None),
    "a sum waits for room in the accumulator": ("auto", Kind.VECTOR, Kind.MATMUL, None),
    "a sum waits for room after another operator": ("auto", Kind.VECTOR, Kind.MATMUL, True),
    "a store waits for the result": ("auto", Kind.VECTOR, Kind.STORE, False),
    "a store waits for readers of what it overwrites": ("auto", Kind.MATMUL, Kind.STORE, True),
    "a result waits for the store of the slot": ("auto", Kind.STORE, Kind.VECTOR, None),
    "a load waits for the store of what it reads": ("auto", Kind.STORE, Kind.LOAD, None),
    "a part is sent when it is complete": ("reduction", Kind.VECTOR, Kind.SEND, None),
    "an addition waits for the message": ("reduction", Kind.SEND, Kind.VECTOR, False),
}


@cache
def case(partition: str) -> tuple[Graph, Program, dict[str, Array], dict[str, Array]]:
    graph = default_passes(MODELS["residual"]())
    program = mapped(graph, "crossbar of 4", partition=partition)
    values = given_values(graph, 9)
    return graph, program, values, expected(graph, values)


def findings(partition: str, program: Program) -> set[str]:
    """Who notices that something is wrong with the program."""
    graph, _, values, wanted = case(partition)
    found = {RACE} if find_races(program) else set()
    try:
        assert_equal(computed(graph, program, values), wanted)
    except InvariantViolation:
        found.add(ERROR)
    except AssertionError:
        found.add(WRONG)
    return found


@pytest.mark.parametrize("partition", ["auto", "reduction"])
def test_nobody_complains_of_the_program_itself(partition: str) -> None:
    assert findings(partition, case(partition)[1]) == set()


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_is_noticed(mistake: c.Corruption) -> None:
    partition, by = MISTAKES[mistake]
    assert by in findings(partition, c.corrupted(case(partition)[1], mistake))


@pytest.mark.parametrize("edges", EDGES)
def test_missing_edges_are_races(edges: str) -> None:
    partition, before, after, other_op = EDGES[edges]
    broken = c.without_edges(case(partition)[1], before, after, other_op=other_op)
    assert RACE in findings(partition, broken)
