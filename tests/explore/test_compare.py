"""sim/explore/compare.py: ratios, and differences that add up to the difference."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

import sim
from sim.cli import run
from sim.errors import InputError
from sim.explore.compare import Comparison, causes, compare, flat

MODEL = "gemm:64x48x200"


@pytest.fixture(scope="module")
def two() -> Comparison:
    return compare(MODEL, ["tiny", "lepton_s"], dtype="int8")


def test_metrics_are_those_of_simulate(two: Comparison) -> None:
    reports = [sim.simulate(MODEL, chip, dtype="int8") for chip in ("tiny", "lepton_s")]
    for line in two.metrics:
        assert line.values == tuple(report[line.what] for report in reports)
    assert [line.what for line in two.metrics][:2] == ["latency_s", "throughput_per_s"]


def test_time_and_energy_add_up_and_the_largest_difference_comes_first(two: Comparison) -> None:
    assert two.time_of == "critical path"
    for at in (0, 1):
        time_s = sum(line.values[at] or 0.0 for line in two.time)
        assert time_s == pytest.approx(two.sides[at].values["latency_s"], rel=1e-12)
        energy_j = sum(line.values[at] or 0.0 for line in two.energy)
        assert energy_j == pytest.approx(two.sides[at].values["energy_j"], rel=1e-9)
    spreads = [abs((line.values[0] or 0.0) - (line.values[1] or 0.0)) for line in two.time]
    assert spreads == sorted(spreads, reverse=True)
    named = causes(two, 1)
    whole = two.sides[1].values["latency_s"] - two.sides[0].values["latency_s"]
    assert all(change * whole > 0 for _, change in named)
    assert named[0][0] == two.time[0].what


def test_only_what_differs_is_listed() -> None:
    found = compare(MODEL, ["tiny", sim.load_chip("tiny").replace("core.array.rows", 16)], dtype="int8")
    assert [(line.what, line.values) for line in found.settings] == [("core.array.rows", (8, 16))]
    assert compare(MODEL, ["tiny", "tiny"], dtype="int8").settings == ()


def test_a_run_compared_with_itself_has_not_changed(tmp_path: Path) -> None:
    sim.simulate(MODEL, "tiny", dtype="int8", batch=2).save(tmp_path / "run")
    found = compare(None, [], baseline=tmp_path / "run")
    assert found.settings == ()
    assert found.time_of == "operator"
    assert all(line.values[0] == line.values[1] for line in (*found.metrics, *found.time))
    assert all(line.values[0] == pytest.approx(line.values[1]) for line in found.energy)


def test_a_changed_run_names_the_change(tmp_path: Path) -> None:
    sim.simulate(MODEL, "tiny", dtype="int8").save(tmp_path / "run")
    found = compare(None, [], baseline=tmp_path / "run", overrides=("clock=1 GHz",), batch=3)
    assert {line.what: line.values for line in found.settings} == {
        "clock": ("500 MHz", "1 GHz"), "option batch": (None, 3)
    }  # fmt: skip


def test_what_cannot_be_compared_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to compare"):
        compare(MODEL, ["tiny"])
    with pytest.raises(InputError, match=r"no run folder: it has no summary.json, ops.csv, manifest.json"):
        compare(MODEL, [], baseline=tmp_path)
    sim.simulate(MODEL, "tiny", dtype="int8").save(tmp_path / "run")
    (tmp_path / "run" / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be read as a run folder: KeyError"):
        compare(MODEL, [], baseline=tmp_path / "run")


def test_flat_paths() -> None:
    data = {"name": "x", "clock": "1 GHz", "cores": [{"name": "a", "array": {"rows": 2}}], "shape": [2, 4]}
    assert flat(data) == {"clock": "1 GHz", "core.array.rows": 2, "shape": [2, 4]}
    two = {"cores": [{"name": "a", "count": 1}, {"name": "b", "count": 2}]}
    assert flat(two) == {"cores.a.count": 1, "cores.b.count": 2}


def test_the_command_prints_a_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["compare", MODEL, "--chip", "tiny", "--chip", "lepton_s", "--dtype", "int8"]
    assert run([*arguments, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    latency = next(row for row in found["metrics"] if row["what"] == "latency_s")
    assert latency["lepton_s / tiny"] == latency["lepton_s"] / latency["tiny"]
    assert run(arguments) == 0
    printed = capsys.readouterr().out
    factor = latency["tiny"] / latency["lepton_s"]
    assert f"lepton_s is {factor:.3g} times as fast as tiny, -" in printed
    assert "Where the energy differs" in printed
    assert run(["compare", MODEL, "--chip", "tiny"]) == 2
    assert "nothing to compare" in capsys.readouterr().err


def test_a_comparison_is_written_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["compare", MODEL, "--chip", "tiny", "--chip", "lepton_s", "--dtype", "int8"]
    as_json, as_csv = tmp_path / "both.json", tmp_path / "both.csv"
    assert run([*arguments, "--out", str(as_json), "--format", "json"]) == 0
    printed = capsys.readouterr()
    assert as_json.read_text() == printed.out
    assert f"comparison: {as_json}" in printed.err
    assert run([*arguments, "--out", str(as_csv)]) == 0
    with as_csv.open() as stream:
        rows = list(csv.DictReader(stream))
    document = json.loads(as_json.read_text())
    parts = ("metrics", "settings", "time_s", "energy_j")
    assert [row["part"] for row in rows] == [part for part in parts for _ in document[part]]
    for chip in ("tiny", "lepton_s"):  # the whole of the latency and the energy, as in the metrics
        of = {part: [float(r[chip] or 0) for r in rows if r["part"] == part] for part in ("time_s", "energy_j")}
        first = {row["what"]: float(row[chip]) for row in rows if row["what"] in ("latency_s", "energy_j")}
        assert sum(of["time_s"]) == pytest.approx(first["latency_s"], rel=1e-12)
        assert sum(of["energy_j"]) == pytest.approx(first["energy_j"], rel=1e-9)
    assert run([*arguments, "--out", str(tmp_path / "both.txt")]) == 2
    assert "'.txt' is not a format of comparisons" in capsys.readouterr().err
    assert not (tmp_path / "both.txt").exists()


def test_a_model_shared_over_chips_beside_the_whole() -> None:
    """`chips` of the comparison are those compared, `chips` of the options how many share the model."""
    links = {"links.count": 2, "links.bandwidth": "25 GB/s"}
    on = [sim.load_chip("tiny", links), sim.load_chip("tiny", links).replace("links.latency", "9 us")]
    found = compare("gpt2", on, dtype="int8", phase="decode", kv=4, chips=2)
    one, other = (float(side.values["latency_s"]) for side in found.sides)
    assert other - one > 25 * 2 * 7e-6  # two sums in each of 12 layers and one, of two steps each
