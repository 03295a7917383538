"""`lepton sweep`: what is typed, what is printed, what Ctrl-C leaves."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from sim.cli import run
from sim.explore.store import open_study
from sim.explore.study import Row
from sim.explore.summary import study_title, unheld, without_numbers
from sim.explore.sweep import sweep

VARY = ["sweep", "--chip", "tiny", "--workload", "gemm:32x32x32", "--dtype", "int8"]
SMALL = [*VARY, "--vary", "core.array.rows,core.array.cols=4,8", "--vary", "core.sram.size=16 KiB..64 KiB*2"]


def test_options_make_a_space(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    table = tmp_path / "all.csv"
    objectives = ["--objective", "throughput_per_s", "--objective", "area_mm2"]
    code = run([*SMALL, *objectives, "--workers", "1", "--format", "json", "--export", str(table)])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    found = json.loads(printed.out)
    assert printed.err.startswith("space: 6 points\n")
    every = pd.read_csv(table)
    assert len(every) == 6
    assert (every["core.array.rows"] == every["core.array.cols"]).all()
    assert set(every["core.sram.size_bytes"]) == {16384, 32768, 65536}
    assert found["front"][0]["throughput_per_s"] == every["throughput_per_s"].max()
    assert found["front"][-1]["area_mm2"] == every["area_mm2"].min()
    assert len(found["front"]) == every["on_front"].sum()


def test_a_study_is_kept_and_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "study.sqlite"
    for _ in range(2):
        assert run([*SMALL, "--workers", "1", "--out", str(file)]) == 0
        printed = capsys.readouterr()
        assert "tiny sweep: gemm:32x32x32 on tiny, grid, event: 6 points, 0 without numbers" in printed.out
        assert "by latency_s (min), then energy_j (min), then area_mm2 (min)" in printed.out
        assert f"study: {file}" in printed.err
    assert len(open_study(file).table) == 6


def test_an_objective_without_values_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*SMALL, "--workers", "1", "--objective", "cache_hit_rate"]) == 0
    printed = capsys.readouterr().out
    assert "not modelled for all of them: cache_hit_rate\nfront of 0" in printed


def test_constraints_that_nothing_holds_say_how_far_off_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    asked = [*SMALL, "--workers", "1", "--fidelity", "bound"]
    assert run([*asked, "--format", "json", "--objective", "power_w"]) == 0
    front = json.loads(capsys.readouterr().out)["front"]
    least = min(row["power_w"] for row in front)
    assert run([*asked, "--constraint", "power_w <= 1 mW", "--constraint", "area_mm2 <= 1e6 mm2"]) == 0
    printed = capsys.readouterr()
    wanted = "no design holds every constraint: power_w <= 1 mW: 0 of 6 hold it; the nearest that does not has "
    (told,) = [line for line in printed.err.splitlines() if line.startswith("no design")]
    assert told == f"{wanted}{least:.3g} W"
    assert printed.out.rstrip().endswith("front of 0, by latency_s (min), then energy_j (min), then area_mm2 (min)")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (["--objective", "latency"], "--objective: error: objectives.latency: unknown metric 'latency'; did you"),
        (["--constraint", "powerw < 1 W"], "--constraint: error: constraints[1]: unknown metric 'powerw'; did you"),
        (["--constraint", "power_w < 1 s"], "--constraint: error: constraints[1]: limit of power_w: found '1 s'"),
    ],
)
def test_what_an_option_says_is_not_blamed_on_the_file(
    given: list[str], wanted: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file has one constraint of its own."""
    assert run(["sweep", "teaching", *given]) == 2
    assert capsys.readouterr().err.startswith(wanted)


def test_what_is_printed_passes_over_the_rows_a_few_times_however_many_there_are() -> None:
    """Once per row, a sweep of a million points printed for hours what it had found in minutes."""

    class Counted(tuple[Row, ...]):
        passes = 0

        def __iter__(self) -> Iterator[Row]:
            Counted.passes += 1
            return super().__iter__()

    space = {
        "version": 1, "name": "s", "chip": "tiny", "workloads": [{"model": "gemm:32x32x32", "dtype": "int8"}],
        "parameters": {"core.array.rows": {"from": 1, "to": 30, "step": 1}},
    }  # fmt: skip
    study = sweep(space, fidelity="bound", workers=1)
    study.__dict__["rows"] = Counted(study.rows)
    assert study_title(study).startswith("s: gemm:32x32x32 on tiny, grid, closed form: 30 points")
    assert without_numbers(study) == unheld(study) == []
    assert Counted.passes < 12


def test_spaces_and_metrics_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list", "spaces", "--format", "json"]) == 0
    spaces = {row["space"]: row for row in json.loads(capsys.readouterr().out)}
    assert spaces["teaching"]["points"] == 3 * 3 * 2
    assert spaces["edge_vision"]["constraints"] == "power_w <= 5 W, area_mm2 <= 60 mm2"
    assert run(["list", "metrics", "--format", "json"]) == 0
    rows = {row["metric"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["energy_j"] == {"metric": "energy_j", "unit": "J", "better": "min", "closed_form": True}
    assert rows["tops_per_w"] == {"metric": "tops_per_w", "unit": "TOP/s/W", "better": "max", "closed_form": True}
    assert (rows["array_utilization"]["unit"], rows["peak_power_w"]["closed_form"]) == ("share", True)
    assert not rows["cache_hit_rate"]["closed_form"]
    assert "engine" not in rows
    # Each of them can be asked for.
    for name in ("energy_j", "tops_per_w", "dram_error_low"):
        assert run([*SMALL, "--workers", "1", "--objective", name]) == 0


def test_a_screening_says_how_far_the_bound_was_off(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*SMALL, "--workers", "1", "--fidelity", "screen", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = {row["objective"]: row for row in found["disagreement"]}
    assert set(rows) == {"latency_s", "energy_j"}  # the area is the same at both
    assert 0.5 < rows["latency_s"]["least"] <= rows["latency_s"]["median_ratio"] < 2
    assert (
        rows["latency_s"]["still_on_front"]
        <= rows["latency_s"]["closed_form_front"]
        <= rows["latency_s"]["designs"]
        <= 6
    )


@pytest.mark.parametrize("sampler", ["nsga2", "nsga3", "tpe"])
def test_a_guided_sampler_stands_beside_random_search(
    sampler: str, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = [*VARY, "--vary", "core.array.rows=1..16+1", "--vary", "clock=100 MHz..1.6 GHz*2"]
    assert run([*wide, "--sampler", sampler, "--budget", "15", "--workers", "1", "--fidelity", "bound",
                "--format", "json"]) == 0  # fmt: skip
    found = json.loads(capsys.readouterr().out)
    last = found["hypervolume"][-1]
    assert last["evaluations"] == 15
    assert 0 < last[sampler] <= 1
    assert 0 < last["random"] <= 1
    assert [row["random"] for row in found["hypervolume"]] == sorted(
        row["random"] for row in found["hypervolume"]
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep"], "nothing to vary: expected SPACE, or --chip and --vary; lepton sweep edge_vision"),
        (["sweep", "edge_visio"], "unknown space 'edge_visio'; did you mean 'edge_vision'?"),
        (["sweep", "edge_vision", "--chip", "tiny"], "a space file has its own chip"),
        ([*VARY, "--vary", "core.array.rows"], "found 'core.array.rows'; expected PATH=VALUES"),
        ([*VARY, "--vary", "core.array.rows=4..8"], "expected FROM..TO+STEP or FROM..TO*FACTOR"),
        ([*VARY, "--vary", "clock=1 GHz", "--vary", "clock=2 GHz"], "--vary: error: clock: given twice"),
        ([*VARY, "--vary", "core.array.row=4"], "did you mean 'rows'?"),
        ([*SMALL, "--objective", "latency"], "unknown metric 'latency'; did you mean 'latency_s'?"),
        ([*SMALL, "--objective", "latency_s:up"], "expected METRIC, METRIC:min or METRIC:max"),
        ([*SMALL, "--constraint", "power_w <= 5"], "a bare number"),
        ([*SMALL, "--sampler", "random"], "needs a --budget"),
        ([*SMALL, "--export", "all.xlsx"], "unknown kind of table '.xlsx'"),
        ([*SMALL, "--out", "no/such/folder.sqlite"], "cannot write the study"),
        ([*SMALL, "--scheduler", "nowhere"], "no Dask scheduler at 'nowhere'; expected an address such as tcp://"),
        ([*SMALL, "--scheduler", "tcp://127.0.0.1:9"], "no Dask scheduler at 'tcp://127.0.0.1:9'; start one"),
    ],
)
def test_bad_input_ends_with_a_message_and_code_2(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_keeps_what_is_done_and_prints_the_front(tmp_path: Path) -> None:
    file = tmp_path / "study.sqlite"
    long = ["--vary", "clock=100 MHz..1 GHz+1 MHz", "--workers", "2", "--out", str(file)]
    started = subprocess.Popen(
        [sys.executable, "-m", "sim", *VARY, *long],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while started.poll() is None and not _stored(file):
        time.sleep(0.05)
    import os

    os.killpg(started.pid, signal.SIGINT)  # as a terminal does: to the workers as well
    out, err = started.communicate(timeout=60)
    assert started.returncode == 130, err
    assert "interrupted: this is the front so far; the same command goes on where it was" in err
    assert "front of " in out
    assert "Traceback" not in err
    assert 0 < len(open_study(file).table) < 901


def _stored(file: Path) -> int:
    from sim.errors import InputError
    from sim.explore.store import open_store

    try:
        with open_store(file) as store:
            return store.count()
    except InputError:
        return 0


def test_why_points_have_no_numbers_is_said_once_per_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """Two scratchpads too small, in different numbers; with nothing else in the space there is no result: code 1."""
    arguments = ["sweep", "--chip", "tiny", "--workload", "lenet5", "--dtype", "int8", "--workers", "1"]
    assert run([*arguments, "--vary", "core.sram.size=64 B,128 B,64 KiB"]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("without numbers")]
    assert len(told) == 1
    assert told[0].startswith("without numbers: 2 x the smallest tile of")
    assert run([*arguments, "--vary", "core.sram.size=64 B,128 B"]) == 1


def test_no_value_of_a_table_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    """Nine columns in 100 characters: headings of paths are broken at their dots; sixteen make a longer line."""
    paths = ["core.array.rows=8", "core.array.cols=16", "core.sram.size=131072 B", "clock=1200 MHz",
             "core.vector.lanes=4"]  # fmt: skip
    more = ["core.dma.channels=2", "core.dma.outstanding=4", "core.dma.setup_latency=120 ns", "core.sram.banks=16",
            "core.sram.bandwidth=512 GB/s", "core.accumulator.size=64 KiB", "dram.channels=1"]  # fmt: skip
    for varied in (paths, [*paths, *more]):
        arguments = [text for path in varied for text in ("--vary", path)]
        quick = ["--constraint", "power_w <= 1 kW", "--fidelity", "bound", "--workers", "1"]
        assert run([*VARY, *arguments, *quick]) == 0
        printed = capsys.readouterr().out.splitlines()
        others = ("64 KiB", "512 GB/s", "120 ns") if varied != paths else ()
        assert all(text in printed[-1] for text in ("128 KiB", "1.2 GHz", " mm2", " uJ", *others))
        heads = "".join(line for line in printed[2:] if "array." in line)
        assert "core.array.rows" not in heads
        assert "array." in heads
        if varied == paths:
            assert max(map(len, printed)) <= 100
