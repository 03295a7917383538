"""The heaps of the compiled engine against sorting."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest

from sim.engine.heaps import meld, pop, push, without_first
from sim.engine.records import FLOW, FOREVER, MOMENT, NONE


@pytest.mark.parametrize("seed", range(20))
def test_moments_come_by_tick_and_then_by_number(seed: int) -> None:
    rng = random.Random(seed)
    heap, size, held = np.zeros(60, MOMENT), 0, []
    heap["tick"][0] = FOREVER
    for _ in range(400):
        if held and (len(held) == 60 or rng.random() < 0.5):
            assert (int(heap[0]["tick"]), int(heap[0]["number"])) == min(held)
            held.remove(min(held))
            size = pop(heap, size)
        else:
            held.append((rng.randrange(8), rng.randrange(1000)))
            size = push(heap, size, *held[-1])
        assert size == len(held)
        assert size or heap[0]["tick"] == FOREVER


def in_order(first: int, flows: np.ndarray) -> Iterator[int]:
    while first != NONE:
        yield int(flows[first]["target"])
        first = without_first(first, flows)


@pytest.mark.parametrize("seed", range(20))
def test_flows_end_by_what_they_want(seed: int) -> None:
    """Joining and ending in any order; then all that are left end one after another."""
    rng = random.Random(seed)
    flows, first, held = np.zeros(300, FLOW), NONE, []
    flows["child"] = flows["sibling"] = NONE
    for slot in range(300):
        flows[slot]["target"] = rng.choice((rng.randrange(20), rng.randrange(1 << 62)))
        held.append(int(flows[slot]["target"]))
        first = slot if first == NONE else meld(first, slot, flows)
        while held and rng.random() < 0.4:
            assert int(flows[first]["target"]) == min(held)
            held.remove(min(held))
            first = without_first(first, flows)
    assert list(in_order(first, flows)) == sorted(held)
