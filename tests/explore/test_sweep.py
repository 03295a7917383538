"""sim/explore/sweep.py and study.py: every point a row with the numbers of sim.simulate, whatever goes wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from spaces import MIX, SMALL, numbers, space

import sim
from sim import pipeline
from sim.errors import InputError
from sim.explore import evaluate as evaluate_module
from sim.explore import workers as workers_module
from sim.explore.progress import Progress
from sim.explore.results import Result, Results
from sim.explore.store import StudyPoint, open_study
from sim.explore.study import losses_of, losses_together, mix
from sim.explore.sweep import sweep


def test_every_point_is_a_row_with_the_numbers_of_simulate() -> None:
    study = sweep(space(), workers=1)
    assert len(study.table) == 18
    assert (study.table["status"] == "ok").all()
    row = study.table.iloc[13]
    report = sim.simulate(
        "gemm:48x40x32",
        "tiny",
        dtype="int8",
        overrides={
            "core.array.rows": int(row["core.array.rows"]),
            "core.array.cols": int(row["core.array.cols"]),
            "core.sram.size": f"{row['core.sram.size_bytes']} B",
            "clock": f"{row['clock_hz']} Hz",
        },
    )
    for metric in ("latency_s", "energy_j", "area_mm2", "dram_read_bytes", "tasks"):
        assert row[metric] == report[metric]


def test_the_front_is_what_no_other_row_beats_and_its_order_is_told() -> None:
    study = sweep(space(objectives={"area_mm2": "min", "latency_s": "min"}), workers=1)
    rows = [(row.metrics["area_mm2"], row.metrics["latency_s"]) for row in study.rows]
    beaten = [any(a <= x and b <= y and (a, b) != (x, y) for a, b in rows) for x, y in rows]
    assert study.on_front.tolist() == [not each for each in beaten]
    assert study.front["area_mm2"].is_monotonic_increasing
    assert study.table["on_front"].sum() == len(study.front) > 1


def test_a_maximised_objective_and_a_constraint() -> None:
    free = sweep(space(objectives={"throughput_per_s": "max"}), workers=1)
    assert free.front["throughput_per_s"].iloc[0] == free.table["throughput_per_s"].max()
    limit = float(free.table["power_w"].median())
    bound = sweep(
        space(objectives={"throughput_per_s": "max"}, constraints=[f"power_w <= {limit} W"]), workers=1
    )
    assert bound.table["feasible"].tolist() == (free.table["power_w"] <= limit).tolist()
    assert bound.front["power_w"].max() <= limit
    best = free.table[free.table["power_w"] <= limit]["throughput_per_s"].max()
    assert bound.front["throughput_per_s"].iloc[0] == best


def test_a_mix_has_columns_of_each_workload_and_of_the_mean() -> None:
    study = sweep(space(MIX), workers=1)
    table = study.table
    assert len(table) == 18
    mean = (3 * table["wide.latency_s"] + table["deep.latency_s"]) / 4
    assert table["latency_s"].tolist() == pytest.approx(mean.tolist())
    alone = sweep(space(), workers=1).table
    assert table["wide.energy_j"].tolist() == alone["energy_j"].tolist()


def test_a_design_that_cannot_be_is_a_row() -> None:
    study = sweep(
        space(chip="lepton_s", parameters={"core.count": [2, 4], "core.array.rows": [8, 16]}), workers=1
    )
    assert study.table["status"].tolist() == ["ok", "ok", "infeasible", "infeasible"]
    assert "2 nodes cannot hold 4 cores" in study.table["error"][2]
    assert not study.table["on_front"][2:].any()
    assert study.table["latency_s"][2:].isna().all()


def test_a_bug_in_one_corner_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    from sim import pipeline

    real, asked = pipeline.simulate, space()  # reading a space simulates something small once per process

    def sometimes(model: str, chip: Any, **options: Any) -> Any:
        if chip.clock_hz == 250_000_000:
            raise ZeroDivisionError("a corner")
        return real(model, chip, **options)

    monkeypatch.setattr(pipeline, "simulate", sometimes)
    study = sweep(asked, workers=1)
    assert study.table["status"].value_counts().to_dict() == {"ok": 9, "failed": 9}
    assert set(study.table[study.table["status"] == "failed"]["error"]) == {
        "internal error: ZeroDivisionError: a corner"
    }


def test_a_study_is_resumed_extended_and_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated: list[Any] = []
    real = evaluate_module._simulated
    monkeypatch.setattr(evaluate_module, "_simulated", lambda *a: (evaluated.append(a[3]), real(*a))[1])
    file = tmp_path / "study.sqlite"
    first = sweep(space(), workers=1, out=file)
    assert len(evaluated) == 18
    again = sweep(space(), workers=1, out=file)
    assert len(evaluated) == 18
    pd.testing.assert_frame_equal(first.table, again.table)
    more = {**SMALL["parameters"], "core.array.rows": [4, 8, 16, 32]}
    extended = sweep(space(parameters=more), workers=1, out=file)
    assert len(evaluated) == 24  # 6 points with 32 rows
    assert len(extended.table) == 24
    # Another study, of one parameter: 8 x 8 at 64 KiB and 500 MHz is what tiny is.
    sweep(space(name="other", parameters={"core.array.rows": [4, 8, 16]}), workers=1, out=file)
    assert len(evaluated) == 26
    sweep(space(MIX), workers=1, out=file)
    assert len(evaluated) == 26 + 18  # of the second workload
    assert open_study(file, "small").table.shape[0] == 24
    assert open_study(file).name == "mix"
    pd.testing.assert_frame_equal(numbers(open_study(file, "small")), numbers(extended))


def test_wrong_choices_are_told_before_anything_is_written(tmp_path: Path) -> None:
    file = tmp_path / "study.sqlite"
    for choice, message in (
        ({"sampler": "sobl"}, "did you mean 'sobol'"),
        ({"sampler": "random"}, "needs a --budget"),
        ({"budget": 4}, "more than the budget of 4"),
        ({"fidelity": "events"}, "did you mean 'event'"),
        ({"workers": 0}, "expected 1 to 1024"),
        ({"slack": -1}, "expected a share"),
        ({"workers": 2, "scheduler": "tcp://127.0.0.1:1"}, "give one of the two"),
        ({"timeout_s": 0.0}, "expected a positive number of seconds"),
        ({"timeout_s": 1.0, "scheduler": "tcp://127.0.0.1:1"}, "cannot be ended from here"),
    ):
        with pytest.raises(InputError, match=message):
            sweep(space(), out=file, **choice)  # type: ignore[arg-type]
    assert not file.exists()


def test_the_table_can_be_taken_elsewhere(tmp_path: Path) -> None:
    study = sweep(space(), workers=1)
    study.export(tmp_path / "all.csv")
    study.export(tmp_path / "all.parquet")
    for found in (pd.read_csv(tmp_path / "all.csv"), pd.read_parquet(tmp_path / "all.parquet")):
        assert found["latency_s"].tolist() == study.table["latency_s"].tolist()
        assert list(found.columns) == list(study.table.columns)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.csv", "all.parquet"]
    with pytest.raises(InputError, match=r"expected .csv or .parquet"):
        study.export(tmp_path / "all.xlsx")
    with pytest.raises(InputError, match="no such folder"):
        study.export(tmp_path / "nowhere" / "all.csv")


def test_losses_of_many_results_are_those_of_each() -> None:
    """With limits that some hold, a design that cannot be, an objective without value; maximised are negative."""
    aims = {"throughput_per_s": "max", "latency_s": "min", "area_mm2": "min"}
    one = space(constraints=["power_w < 1.5 W", "area_mm2 >= 45 mm2"], objectives=aims)
    powers, areas = [1.0, 1.5, 2.0, None, 1.0, 1.0, 1.0, 1.0], [45.0, 50.0, 50.0, 50.0, 44.9, 50.0, 50.0, 46.0]
    rows = [
        Result(
            "ok", {"power_w": power, "area_mm2": area, "latency_s": at + 1.0, "throughput_per_s": 2.0 + at}, "", 0.0
        )
        for at, (power, area) in enumerate(zip(powers, areas, strict=True))
    ]
    rows[5] = Result("infeasible", {}, "why", 0.0)
    rows[6] = Result("ok", {**rows[6].metrics, "latency_s": None}, "", 0.0)
    found = losses_together(one, Results.of(rows))
    each = [losses_of(one, mix(one, StudyPoint((0, 0, 0), "event", "grid", 0, (b"k",)), {b"k": row})) for row in rows]
    assert found.tolist() == [list(losses) for losses in each]
    assert np.isfinite(found).all(axis=1).tolist() == [True] + 6 * [False] + [True]
    assert found[7].tolist() == [-9.0, 8.0, 46.0]


def test_progress_counts_what_came_and_its_front() -> None:
    """The same of one worker and of several, of one workload and of a mix, and of a study that is resumed."""
    for data in (SMALL, MIX):
        for workers in (1, 2):
            said: list[Progress] = []
            study = sweep(space(data), workers=workers, progress=said.append)
            last = said[-1]
            assert (last.part, last.done, last.total, last.known, last.failed) == ("grid", 18, 18, 0, 0)
            assert last.front == study.on_front.sum() > 1
            assert sum(one.done == one.total for one in said) == 1
    crowded = {"core.count": [1, 2, 4], "core.array.rows": [8, 16]}  # on two nodes
    sweep(space(chip="lepton_s", parameters=crowded), workers=1, fidelity="bound", progress=said.append)
    assert (said[-1].done, said[-1].failed) == (6, 2)


def test_the_bound_is_compiled_before_its_first_batch_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the driver, once: workers would compile all at once, in silence."""
    order: list[str] = []
    told, real_bound, real_evaluate = [].append, pipeline.bound, evaluate_module.evaluate

    def bound(model: str, chip: Any, columns: Any = None, *, progress: Any = None, **options: Any) -> Any:
        if columns is None:
            assert progress is told
            order.append("compiled")
        return real_bound(model, chip, columns, **options)

    def evaluate(*asked: Any) -> Results:
        order.append("batch")
        return real_evaluate(*asked)

    monkeypatch.setattr("sim.pipeline.bound", bound)
    monkeypatch.setattr("sim.explore.workers.evaluate", evaluate)
    sweep(space(), workers=1, fidelity="bound", say=told)
    assert order[:2] == ["compiled", "batch"]
    assert order.count("compiled") == 1
    order.clear()
    sweep(space(), workers=1, say=told)
    assert set(order) == {"batch"}


def test_the_bound_is_given_designs_that_are_alike_together(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[int, ...]] = []

    def evaluate(*args: Any) -> Results:
        given.extend(args[3])
        return evaluate_module.evaluate(*args)

    monkeypatch.setattr(workers_module, "evaluate", evaluate)
    axes = {"core.sram.size": ["32 KiB", "64 KiB"], "core.array.rows": [4, 8, 16], "clock": ["250 MHz", "500 MHz"]}
    study = sweep(space(parameters=axes), workers=1, fidelity="bound")
    assert [point[1] for point in given] == [0] * 4 + [1] * 4 + [2] * 4
    assert [point[0] for point in given[:4]] == [0, 0, 1, 1]  # alike ones as the sampler gave them
    assert [row.point for row in study.rows] == sorted(given)
    given.clear()
    sweep(space(parameters=axes), workers=1)
    assert given == sorted(given)  # events as they come
