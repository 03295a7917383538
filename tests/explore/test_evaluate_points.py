"""sim/explore/evaluate.py: bounds of many points in one call, whatever they vary and whichever of them cannot be."""

from __future__ import annotations

import math
from typing import Any

import pytest
from spaces import space

import sim
from sim.errors import InputError
from sim.explore.evaluate import evaluate
from sim.explore.sweep import sweep


def test_a_bound_is_that_of_sim_bound_for_every_point() -> None:
    one = space()
    points = list(one.points())
    together = evaluate(one, 0, "bound", points)
    for at in (0, 7, 17):
        table = sim.bound("gemm:48x40x32", one.chip(points[at]), dtype="int8")
        for metric in ("latency_s", "energy_j", "area_mm2", "dram_read_bytes"):
            assert together[at].metrics[metric] == pytest.approx(float(table[metric].iloc[0]), rel=1e-12)
    for at, point in enumerate(points):  # to the last bit, as batches differ with the number of workers
        assert evaluate(one, 0, "bound", [point])[0].metrics == together[at].metrics
    assert all(not isinstance(v, float) or math.isfinite(v) for r in together for v in r.metrics.values())


def test_points_of_different_options_keep_their_places() -> None:
    mixed = space(
        parameters={"workload.batch": [1, 4], "core.array.rows": [4, 8], "workload.dtype": ["int8", "fp32"]}
    )
    points = list(mixed.points())
    found = evaluate(mixed, 0, "bound", points)
    macs = [result.metrics["macs"] for result in found]
    assert macs == [48 * 40 * 32 * (4 if point[0] else 1) for point in points]
    assert [result.metrics["dtype"] for result in found] == ["int8", "fp32"] * 4


def test_an_impossible_point_costs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    crowded = space(chip="lepton_s", parameters={"core.count": [1, 2, 4], "core.array.rows": [8, 16]})
    found = evaluate(crowded, 0, "bound", list(crowded.points()))
    assert [result.status for result in found] == ["ok"] * 4 + ["infeasible"] * 2
    assert "2 nodes cannot hold 4 cores" in found[4].error
    from sim import pipeline

    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("a corner")

    monkeypatch.setattr(pipeline, "bound", broken)
    found = evaluate(crowded, 0, "bound", list(crowded.points())[:3])
    assert [(r.status, r.error) for r in found] == [
        ("failed", "internal error: ZeroDivisionError: a corner")
    ] * 3


def test_what_the_bound_does_not_know_is_told_beforehand() -> None:
    with pytest.raises(InputError, match="cache_hit_rate: the bound does not have it"):
        sweep(space(objectives={"cache_hit_rate": "max"}), workers=1, fidelity="bound")
    with pytest.raises(InputError, match="tasks: the bound does not have it"):
        sweep(space(constraints=["tasks <= 100"]), workers=1, fidelity="screen")
