"""The ledger of results that stay in scratchpads."""

from __future__ import annotations

import numpy as np

from sim.mapping.residency import Boxes, Residency


def box(elements: int) -> Boxes:
    """One core holds so many."""
    return Boxes((elements,), np.array([[0]]), np.array([[elements]]), np.array([True]))


def test_bytes_kept_over_a_step_are_those_of_the_results_kept_over_it() -> None:
    """Results made, read, written anew and forgotten at random, against a sum over all of them."""
    rng = np.random.default_rng(3)
    ledger = Residency((10**9, 10**9))
    for step in range(60):
        ledger.planned(int(rng.integers(2)), 100)
        ledger.made(f"r{rng.integers(20)}", box(int(rng.integers(1, 5000))), "int8", int(rng.integers(2)), 0)
        for root in rng.choice(sorted(ledger.results), min(3, len(ledger.results)), replace=False).tolist():
            ledger.read_in_place(root, step + int(rng.integers(2)))
        if rng.integers(4) == 0:
            ledger.forget(f"r{rng.integers(20)}")
        for kind in (0, 1):
            found = [ledger.held_bytes(at, kind) for at in range(step + 3)]
            results = [kept for kept in ledger.results.values() if kept.kind == kind]
            expected = [sum(k.size_bytes for k in results if k.made <= at <= k.until) for at in range(step + 3)]
            assert found == expected
    assert max(found) > 10_000


def test_a_result_stays_only_where_there_is_room_all_the_way() -> None:
    """1,000 bytes of scratchpad, of which results may fill 500; results take 320, 256 and 64, buffers 700 at last."""
    ledger = Residency((1000,))
    for name, size, buffers in (("first", 300, 200), ("second", 256, 300), ("third", 10, 700)):
        ledger.planned(0, buffers)
        ledger.made(name, box(size), "int8", 0, 0)
    assert ledger.candidate("first", 0, 0) is None  # 320 + 700 in the third step
    assert ledger.candidate("third", 0, 0) is not None
    assert ledger.candidate("third", 0, 1) is None
    assert ledger.candidate("second", 0, 0) is not None
    ledger.read_in_place("second", 3)
    assert ledger.candidate("second", 0, 0) is not None
    assert ledger.candidate("third", 0, 0) is None  # 64 + 256 + 700


def test_room_is_that_of_the_fullest_of_thousands_of_steps() -> None:
    """One step in the middle, with buffers of 900 of 1,000 bytes, refuses what stays over it, of its own cores only."""
    ledger = Residency((1000, 1000))
    for step in range(3000):
        ledger.planned(0, 900 if step == 1500 else 100)
        ledger.made(f"r{step}", box(128), "int8", 0, 0)
        ledger.results.pop(f"r{step - 2}", None) if step not in (1502, 1503, 2) else None
    kept = {step: ledger.candidate(f"r{step}", 0, 0) is not None for step in (0, 1500, 1501, 2998, 2999)}
    assert kept == {0: False, 1500: False, 1501: True, 2998: True, 2999: True}
    assert ledger.candidate("r1501", 1, 0) is None, "made on the cores of another kind"
    ledger.read_in_place("r1501", 2999)
    assert [ledger.held_bytes(step, 0) for step in (1500, 1501, 2999, 3000, 10_000)] == [0, 128, 128, 0, 0]
    assert ledger.held_bytes(1501, 1) == 0
    assert not ledger.keep_until("r0", 1500)
    assert ledger.keep_until("r0", 1499)
    ledger.planned(0, 900)
    assert ledger.candidate("r2999", 0, 0) is None, "900 + 128"
