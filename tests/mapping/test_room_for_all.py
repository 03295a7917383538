"""Which results are kept no longer where a buffer finds no room beside them."""

from __future__ import annotations

import sim
from sim.hw.chip import load_chip
from sim.mapping.allocate import Span
from sim.mapping.layout import KEPT, _in_the_way


def kept(name: str, size_bytes: int, first: int, last: int) -> Span:
    return Span(f"{KEPT}{name}", size_bytes, first, last)


def in_the_way(homeless: list[Span], beside: list[Span], *, largest: bool = True) -> list[str]:
    return _in_the_way(homeless, [*homeless, *beside], 1000 * 64, largest=largest)


def test_the_smallest_that_makes_up_for_what_is_missing() -> None:
    # 500 + 300 + 200 + 100 + 50 units of 64 B are 150 more than there are.
    lost = Span("3:in0", 500 * 64, 3, 3)
    out = Span("3:out", 50 * 64, 3, 3)
    beside = [kept("a", 300 * 64, 0, 5), kept("b", 200 * 64, 2, 4), kept("c", 100 * 64, 3, 9), out]
    assert in_the_way([lost], beside) == ["b"]
    # What is not there at the time is not in the way, however large.
    assert in_the_way([lost], [*beside, kept("later", 900 * 64, 4, 6), kept("other", 900 * 64, 0, 2)]) == ["b"]


def test_the_largest_or_the_smallest_where_the_holes_are_too_small() -> None:
    lost = Span("3:in0", 500 * 64, 3, 3)
    beside = [kept("a", 300 * 64, 0, 5), kept("b", 100 * 64, 2, 4)]
    assert in_the_way([lost], beside) == ["a"]
    assert in_the_way([lost], beside, largest=False) == ["b"]


def test_one_for_every_place_unless_it_makes_room_in_several() -> None:
    lost = [Span(f"{step}:in0", 900 * 64, step, step) for step in (1, 3, 7)]
    assert in_the_way(lost, [kept("both", 200 * 64, 0, 4), kept("last", 150 * 64, 6, 8)]) == ["both", "last"]
    assert in_the_way(lost[:1], []) == []


def test_an_input_of_several_takes_as_long_as_one_alone() -> None:
    # In one piece, results could stay from block to block: they must not crowd out what makes larger tiles possible.
    chip = load_chip("nvdla_large", {"core.sram.keeps_results": True})
    one, three = (
        float(sim.simulate("gpt2", chip, dtype="int8", phase="prefill", seq=64, inputs=inputs)["latency_s"] or 0)
        for inputs in (1, 3)
    )
    assert three < 1.05 * one
