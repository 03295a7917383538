"""Energy by task and over time, compiled: against the same in NumPy, all tasks at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from sim.program import Kind
from sim.report import spending as by
from sim.report.ramps import Ramps

TASKS, OPS, ROUTES = 200, 7, 9
Float64 = npt.NDArray[np.float64]


def columns(rng: np.random.Generator) -> by.Columns:
    kind = rng.integers(0, len(Kind), TASKS).astype(np.int8)
    moves = np.isin(kind, (Kind.LOAD, Kind.STORE, Kind.SEND))
    route = np.where(moves, rng.integers(0, ROUTES, TASKS), -1).astype(np.int32)
    return by.Columns(
        kind,
        rng.integers(0, OPS, TASKS).astype(np.int32),
        rng.integers(1, 1000, TASKS),
        rng.integers(1, 1000, TASKS),
        np.where(moves, rng.integers(1, 4096, TASKS), 0),
        route,
        rng.integers(0, 5, ROUTES),
        rng.integers(0, 2, ROUTES),
        rng.integers(0, 2, ROUTES),
        rng.integers(0, 6, ROUTES),
        np.where(rng.random(ROUTES) < 0.5, 1.5, 0.0),
    )


def shares(c: by.Columns) -> dict[int, Float64]:
    moves, nbytes = c.route >= 0, c.nbytes.astype(np.float64)
    dram, host = moves & (c.on_dram[c.route] > 0), moves & (c.on_host[c.route] > 0)
    engines, hops = (np.where(moves, count[c.route], 0) * nbytes for count in (c.engines, c.hops))
    share = np.where(moves, c.exchanged[c.route], 0.0)
    # A load from the host writes the DRAM, a store to it reads the DRAM.
    reads = dram & (c.kind != Kind.SEND) & ((c.kind == Kind.LOAD) ^ host)
    held = {kind: np.where(c.kind == kind, c.hold, 0) for kind in (Kind.MATMUL, Kind.VECTOR)}
    return {
        by.PRODUCTS: held[Kind.MATMUL],
        by.PASSES: held[Kind.VECTOR],
        by.HELD: held[Kind.MATMUL] + held[Kind.VECTOR],
        by.TASKS: c.kind != Kind.BARRIER,
        by.BYTES: nbytes,
        by.DMA: engines + 2 * nbytes * share,
        by.ENGINES: engines,
        by.HOPS: hops * (1 + 2 * share),
        by.HOST: nbytes * host,
        by.EXCHANGED: nbytes * share,
        by.DRAM: nbytes * dram,
        by.DRAM_READ: nbytes * reads,
        by.DRAM_WRITE: nbytes * (dram & (c.kind != Kind.SEND) & ~reads),
    }  # type: ignore[dict-item]


@pytest.mark.parametrize("seed", range(4))
def test_joules_go_to_the_tasks_by_their_share(seed: int) -> None:
    rng = np.random.default_rng(seed)
    c = columns(rng)
    c = c._replace(op=np.where(c.op == 0, 1, c.op).astype(np.int32))
    for number, weight in shares(c).items():
        weight = np.asarray(weight, np.float64)
        joules = rng.random(OPS)
        lone = 3  # no task of this operator has a share: its joules go by duration
        c.kind[c.op == lone] = Kind.BARRIER
        c.route[c.op == lone] = -1
        c.nbytes[c.op == lone] = 0
        weight[c.op == lone] = c.dur[c.op == lone]
        total = np.bincount(c.op, weights=weight, minlength=OPS)
        weight = np.where(total[c.op] == 0, c.dur, weight)
        total = np.bincount(c.op, weights=weight, minlength=OPS)
        wanted = joules[c.op] * weight / total[c.op]
        found = np.empty(TASKS)
        by.divide(c, joules, number, False, np.empty(OPS), np.empty(OPS, np.bool_), found)
        np.testing.assert_allclose(found, wanted, rtol=1e-12)
        assert found.sum() == pytest.approx(joules[1:].sum())  # operator 0 has no task
        by.divide(c, joules, number, True, np.empty(OPS), np.empty(OPS, np.bool_), found)
        np.testing.assert_allclose(found, 2 * wanted, rtol=1e-12)


def test_an_operator_without_joules_and_without_shares_spends_nothing() -> None:
    c = columns(np.random.default_rng(9))
    found = np.full(TASKS, 7.0)
    by.divide(c, np.zeros(OPS), by.PRODUCTS, False, np.empty(OPS), np.empty(OPS, np.bool_), found)
    assert (found == 0).all()


@pytest.mark.parametrize("seed", range(4))
def test_work_done_is_that_of_straight_ramps(seed: int) -> None:
    """At instants in any order, some at the ends of pieces and beyond them; pieces without length take a tick."""
    rng = np.random.default_rng(seed)
    begin = rng.integers(0, 300, 50)
    ramps, amount = Ramps(begin, begin + rng.integers(0, 40, 50)), rng.random(50)
    at = np.concatenate([rng.random(60) * 350, begin[:20], [0.0, -3.0, 1e6], ramps.times[-2:]])
    found, done = np.empty(len(at)), np.empty(100)
    by.fill_done(amount, ramps.span, ramps.order, ramps.times, at, done, found)
    np.testing.assert_array_equal(found, ramps.until(amount, at))
    slow = (amount * np.clip((at[:, None] - begin) / ramps.span, 0, 1)).sum(axis=1)
    np.testing.assert_allclose(found, slow, atol=1e-9)
