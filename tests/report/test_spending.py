"""Energy by task and over time, compiled: against the same in NumPy, all tasks at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from sim.program import Kind
from sim.report import spending as by

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


def spend(
    c: by.Columns, joules: list[tuple[Float64, int]], start: npt.NDArray[np.int64], finish: npt.NDArray[np.int64],
    at: Float64,
) -> tuple[Float64, Float64]:  # fmt: skip
    """Joules by each instant, and in all, of (joules of the operators, by what) that make up one component."""
    share, total = np.empty(by.SHARES), np.zeros((OPS, by.SHARES))
    by.fill_totals(c, share, total)
    ways = [by.joules_per_share(total, *one) for one in joules]
    by_of, each = (np.stack(one, axis=1) for one in zip(*ways, strict=True))
    ended, under_way = np.zeros((len(at) + 1, 1)), np.zeros((len(at), 1))
    component = np.zeros(len(joules), np.int64)
    by.fill_spent(c, start, finish, by_of, each, component, at, share, np.empty(1), ended, under_way)
    until = np.cumsum(ended[:, 0])
    return until[:-1] + under_way[:, 0], until[-1]


@pytest.mark.parametrize("seed", range(4))
def test_joules_go_to_the_tasks_by_their_share_and_are_spent_evenly(seed: int) -> None:
    """Instants within, at the ends of and beyond tasks; tasks without length take a tick."""
    rng = np.random.default_rng(seed)
    c = columns(rng)
    c = c._replace(op=np.where(c.op == 0, 1, c.op).astype(np.int32))
    start = rng.integers(0, 3000, TASKS)
    finish = start + c.dur + rng.integers(0, 500, TASKS)
    finish[:9] = start[:9] + c.dur[:9] - 1
    c.hold[9:20] = 0
    ends = [start[:20], (start + c.hold)[:20], finish[:40]]
    at = np.unique(np.concatenate([rng.random(60) * 5000, *ends, [0, 1e6]]))
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
        moves = c.route >= 0
        begin = np.where(moves, np.minimum(start + c.dur, finish - 1), start)
        end = np.maximum(np.where(moves, finish, start + c.hold), begin + 1)
        slow = (wanted * np.clip((at[:, None] - begin) / (end - begin), 0, 1)).sum(axis=1)
        found, whole = spend(c, [(joules, number)], start, finish, at)
        np.testing.assert_allclose(found, slow, rtol=1e-12, atol=1e-12)
        assert whole == pytest.approx(joules[1:].sum())  # operator 0 has no task
        twice, _ = spend(c, [(joules, number), (joules, number)], start, finish, at)
        np.testing.assert_allclose(twice, 2 * slow, rtol=1e-12, atol=1e-12)


def test_an_operator_without_joules_and_without_shares_spends_nothing() -> None:
    c = columns(np.random.default_rng(9))
    start = np.zeros(TASKS, np.int64)
    found, whole = spend(c, [(np.zeros(OPS), by.PRODUCTS)], start, start + 1, np.array([0.5, 5.0]))
    assert (found.tolist(), whole) == ([0.0, 0.0], 0.0)
