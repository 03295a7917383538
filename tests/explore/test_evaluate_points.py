"""sim/explore/evaluate.py: bounds of many points in one call, whatever they vary and whichever of them cannot be."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
from spaces import space

import sim
from sim.cost.hardware import NoLaw
from sim.errors import InputError
from sim.explore.evaluate import evaluate
from sim.explore.metrics import bound_metrics
from sim.explore.preview import preview
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
    with pytest.raises(InputError, match="cache_hit_rate: the closed form of many designs does not have it"):
        sweep(space(objectives={"cache_hit_rate": "max"}), workers=1, fidelity="bound")
    with pytest.raises(InputError, match="tasks: the closed form of many designs does not have it"):
        sweep(space(constraints=["tasks <= 100"]), workers=1, fidelity="screen")


GPU = {
    "chip": "a100",
    "workloads": [{"model": "gemm:256x256x256", "dtype": "fp16"}],
    "parameters": {"core.count": [4, 8], "core.spare": [0], "interconnect.shape": [[4], [8]]},
}  # fmt: skip


def test_what_the_bound_has_no_law_for_is_evaluated_by_its_own_plan() -> None:
    """Tiles dealt in waves were refused: a sweep of GPUs by the closed form found no design possible."""
    gpus = space(**GPU)
    points = [p for p in gpus.points() if p[0] == p[2]]  # as many nodes as cores
    found = evaluate(gpus, 0, "bound", points)
    assert [result.status for result in found] == ["ok", "ok"]
    for point, result in zip(points, found, strict=True):
        alone = sim.simulate("gemm:256x256x256", gpus.chip(point), dtype="fp16", fidelity="bound")
        assert result.metrics["latency_s"] == alone["latency_s"] > 0
        assert set(bound_metrics()) - {"workload", "chip", "fidelity", "error"} <= set(result.metrics)
    assert found[1].metrics["latency_s"] < found[0].metrics["latency_s"]


def test_designs_with_and_without_a_law_keep_their_places(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = space(
        chip="lepton_s", parameters={"core.sram.padded_rows": [True, False], "core.array.rows": [8, 16]}
    )
    points = [(0, 0), (1, 1), (0, 1), (1, 0)]
    found = evaluate(mixed, 0, "bound", points)
    table = sim.bound("gemm:48x40x32", "lepton_s", {"core.array.rows": [8, 16]}, dtype="int8")
    assert [found[0].metrics["latency_s"], found[2].metrics["latency_s"]] == table["latency_s"].tolist()
    for at in (1, 3):
        alone = sim.simulate("gemm:48x40x32", mixed.chip(points[at]), dtype="int8", fidelity="bound")
        assert found[at].metrics["latency_s"] == alone["latency_s"]
    with pytest.raises(NoLaw, match="no law for bank conflicts") as raised:
        sim.bound("gemm:48x40x32", "lepton_s", {"core.sram.padded_rows": [True, False, True, False]}, dtype="int8")
    assert raised.value.designs == (1, 3)
    again = pickle.loads(pickle.dumps(raised.value))
    assert (str(again), again.designs) == (str(raised.value), (1, 3))


SPARSE = {
    "chip": "eyeriss_v1",
    "workloads": [{"model": "lenet5", "dtype": "int16"}],
    "parameters": {"workload.density": [0.3, 1.0], "core.dma.run_length_coding": [True, False]},
}


@pytest.mark.parametrize("fidelity", ["event", "bound"])
def test_density_is_a_parameter_of_the_workload(fidelity: Any) -> None:
    found = evaluate(space(**SPARSE), 0, fidelity, list(space(**SPARSE).points()))
    joules = {}
    for (density, coded), result in zip(
        [(0.3, True), (0.3, False), (1.0, True), (1.0, False)], found, strict=True
    ):
        alone = sim.simulate(
            "lenet5", "eyeriss_v1", dtype="int16", density=density, fidelity=fidelity,
            overrides={"core.dma.run_length_coding": coded},
        )  # fmt: skip
        assert result.metrics["energy_j"] == alone["energy_j"]
        joules[density, coded] = alone["energy_j"]
    assert joules[0.3, True] < joules[0.3, False] < joules[1.0, False]


def test_density_counts_only_where_a_chip_makes_use_of_zeros() -> None:
    """Of two chips of which one does: the other's numbers are those of dense activations; none of them is refused."""
    plain = {"core.array.row_stationary.zero_gating": [False], "core.dma.run_length_coding": [True, False]}
    mixed = space(**SPARSE | {"parameters": plain | {"workload.density": [0.3]}})
    preview(mixed)
    found = evaluate(mixed, 0, "event", [(0, 1, 0)])[0]
    dense = sim.simulate(
        "lenet5", "eyeriss_v1", dtype="int16",
        overrides=dict.fromkeys(plain, False),
    )  # fmt: skip
    assert found.metrics["energy_j"] == dense["energy_j"]
    plain["core.dma.run_length_coding"] = [False]
    with pytest.raises(InputError, match="density: no chip of this space makes use of zeros"):
        preview(space(**SPARSE | {"parameters": plain | {"workload.density": [0.3]}}))


def test_options_of_the_workload_are_checked_value_by_value() -> None:
    wrong = {"workload.density": [0.5, 0, 1.5], "workload.batch": [1, 0], "workload.dims.n": [2.5]}
    with pytest.raises(InputError) as raised:
        space(parameters=wrong)
    assert [(one.path, one.message) for one in raised.value.diagnostics] == [
        ("parameters.workload.density", "found 0; expected greater than 0"),
        ("parameters.workload.density", "found 1.5; expected less than or equal to 1"),
        ("parameters.workload.batch", "found 0; expected greater than or equal to 1"),
        ("parameters.workload.dims.n", "found 2.5; expected a whole number"),
    ]


def test_sweeps_take_samples_of_the_layers_that_they_simulate() -> None:
    """By events as one design alone; the closed form, which simulates none, is what it is without."""
    options: Any = {"dtype": "bf16", "phase": "decode", "kv": 16}
    workload = {"model": "gpt2", **options}
    cache = {"cache.size": "16 MiB", "cache.hashed": True}
    given = {"chip": "lepton_m", "parameters": {path: [value] for path, value in cache.items()}}
    whole, part = (space(**given, workloads=[workload | more]) for more in ({}, {"sample_layers": 4}))
    alone = sim.simulate("gpt2", "lepton_m", **options, sample_layers=4, overrides=cache)
    (found,) = evaluate(part, 0, "event", list(part.points()))
    assert found.metrics["latency_s"] == alone["latency_s"]
    own = space(**given, workloads=[workload | {"sample_layers": 4, "partition": "pipeline"}])  # not many at once
    bounds = [evaluate(one, 0, "bound", list(one.points()))[0].metrics["latency_s"] for one in (whole, part, own)]
    assert bounds[0] == bounds[1]
    piped = sim.simulate("gpt2", "lepton_m", **options, partition="pipeline", fidelity="bound", overrides=cache)
    assert bounds[2] == piped["latency_s"]
