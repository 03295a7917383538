"""Collections of garbage are put off, and nothing else."""

from __future__ import annotations

import gc

import pytest

from sim import simulate
from sim.garbage import no_collections


@pytest.fixture(autouse=True)
def _as_it_was() -> object:
    """Whatever a test does, collections go on after it."""
    yield
    gc.enable()


def test_collections_go_on_behind_the_work_and_behind_an_error() -> None:
    with no_collections():
        assert not gc.isenabled()
        with no_collections():
            assert not gc.isenabled()
        assert not gc.isenabled(), "the outer one decides"
    assert gc.isenabled()
    with pytest.raises(ValueError, match="no"), no_collections():
        raise ValueError("no")
    assert gc.isenabled()


def test_who_turned_them_off_finds_them_off() -> None:
    gc.disable()
    with no_collections():
        pass
    assert not gc.isenabled()


def test_a_simulation_puts_them_off(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    simulate("gemm:32x32x32", "tiny", dtype="int8", progress=lambda stage: seen.append(gc.isenabled()))
    assert seen
    assert not any(seen)
    assert gc.isenabled()


def test_a_simulation_leaves_nothing_that_refers_to_itself() -> None:
    """So all of it goes at once, and workers rarely have to look for what does not."""
    for rows in (8, 16, 12):  # what a process makes once is made, machine code for sizes that do not divide among it
        simulate("mnist_mlp", "tiny", dtype="int8", overrides={"core.array.rows": rows})
    gc.collect()
    gc.disable()
    try:
        simulate("mnist_mlp", "tiny", dtype="int8", overrides={"core.array.rows": 14})
        assert gc.collect() == 0
    finally:
        gc.enable()
