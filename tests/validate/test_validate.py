"""Validation against measurements that are known: made by hand, or by the simulator with a known calibration."""

import csv
import json

import numpy as np
import pytest

from sim.cli import run
from sim.errors import InputError
from sim.hw.calibration import Calibration
from sim.hw.chip import load_chip
from sim.validate.errors import error_table, statistics
from sim.validate.fit import fit_calibration
from sim.validate.fitted_roofline import cross_validated_errors, fit_roofline
from sim.validate.intervals import coverage, make_intervals
from sim.validate.measurement import Measurement, chip_key, evenly, load_measurements, of_chip
from sim.validate.minimise import minimise
from sim.validate.operator_graph import build_graph, work
from sim.validate.prediction import Compared, Prediction, predict
from sim.validate.validation import measured_rows, validate

HEADER = "chip,op,M,N,K,shape,elements,dtype,measured_us,regime,dataset,source\n"


def gemm(m: int, n: int, k: int, seconds: float = 1e-6, op: str = "matmul") -> Measurement:
    return Measurement("tiny", op, (m, n, k), "int8", seconds, "warm", "made", "made here")


def write(folder, text: str):
    (folder / "rows.csv").write_text(HEADER + text, encoding="utf-8")
    return folder


# ---- reading ---------------------------------------------------------------------------------------------------


def test_rows_are_read_with_their_shapes_and_units(tmp_path):
    write(
        tmp_path,
        "TPUv4,matmul,8.0,16,32,,128,f16,2.5,warm,a,b\n"
        "TPUv4,add,,,,4x8x16,512,f16,1,warm,a,b\n"
        "TPUv4,relu,,,,,100,float32,1,cold,a,b\n"
        "TPUv4,allgather,,,,,,fp16,1,warm,a,b\n",
    )
    (tmp_path / "other.csv").write_text("metric,value\nx,1\n")
    rows = load_measurements(tmp_path)
    assert [row.shape for row in rows] == [(8, 16, 32), (4, 8, 16), (100,), ()]
    assert [row.dtype for row in rows] == ["fp16", "fp16", "fp32", "fp16"]
    assert [row.family for row in rows] == ["matmul", "binary", "unary", None]
    assert rows[0].measured_s == pytest.approx(2.5e-6)
    assert len(of_chip(rows, "tpu_v4")) == 4
    assert chip_key("TPU-v4") == chip_key("tpu_v4")
    assert len(measured_rows("tpu_v4", tmp_path, "warm")) == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "TPUv4,matmul,8,8,8,,1,f16,-1,warm,a,b",
            r"rows.csv:2: measured_us: found '-1'; expected a positive",
        ),
        ("TPUv4,matmul,8,x,8,,1,f16,1,warm,a,b", r"rows.csv:2: N: found 'x'"),
        ("TPUv4,matmul,8,8.5,8,,1,f16,1,warm,a,b", r"N: found 8.5; expected a whole number"),
        ("TPUv4,relu,,,,,,f16,1,warm,a,b", r"elements: found ''"),
        ("TPUv4,allreduce,,,,,64,f16,1,warm,a,b", r"n_devices: found ''; expected a positive number"),
    ],
)
def test_a_bad_row_is_told_with_its_line(tmp_path, line, message):
    with pytest.raises(InputError, match=message):
        load_measurements(write(tmp_path, line + "\n"))


def test_what_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        load_measurements(tmp_path / "nowhere")
    with pytest.raises(InputError, match="none with the columns chip, op, dtype, measured_us"):
        load_measurements(tmp_path)
    write(tmp_path, "TPUv4,matmul,8,8,8,,1,f16,1,warm,a,b\n")
    with pytest.raises(InputError, match="no measurements of chip 'tpu_v5'; did you mean 'TPUv4'"):
        measured_rows("tpu_v5", tmp_path)
    with pytest.raises(InputError, match=r"timed 'cold'.*warm"):
        measured_rows("tpu_v4", tmp_path, "cold")


def test_a_sample_is_spread_over_the_times_and_large_products_can_be_left_out(tmp_path):
    write(
        tmp_path,
        "".join(f"tiny,matmul,{m},64,64,,1,int8,{m},warm,a,b\n" for m in range(1, 102))
        + "tiny,add,,,,8x8,64,int8,1,warm,a,b\n",
    )
    rows = measured_rows("tiny", tmp_path)
    assert [row.shape[0] for row in evenly(rows, 5)] == [1, 26, 51, 76, 101, 8]
    assert [row.shape[0] for row in evenly(rows, 1)] == [1, 8]
    assert len(measured_rows("tiny", tmp_path, most_macs=50 * 4096)) == 51
    assert len(validate("tiny", tmp_path, most_macs=4096, sample=3).compared) == 2
    write(tmp_path, "tiny,matmul,8,64,64,,1,int8,1,warm,a,b\n")
    with pytest.raises(InputError, match="more than 2 multiply-accumulates"):
        measured_rows("tiny", tmp_path, most_macs=2)


# ---- operators -------------------------------------------------------------------------------------------------


def test_work_is_counted_by_hand():
    assert work(gemm(4, 5, 6)).flops == 2 * 4 * 5 * 6
    assert work(gemm(4, 5, 6)).nbytes == 4 * 6 + 6 * 5 + 4 * 5
    batched = Measurement("c", "matmul", (3, 4, 5, 6), "fp16", 1e-6, "", "", "")
    assert work(batched).nbytes == 2 * 3 * (4 * 6 + 6 * 5 + 4 * 5)
    assert work(Measurement("c", "add", (10, 10), "fp16", 1e-6, "", "", "")).nbytes == 600
    assert work(Measurement("c", "relu", (10, 10), "fp16", 1e-6, "", "", "")).nbytes == 400
    assert work(Measurement("c", "all_reduce", (4, 100), "fp16", 1e-6, "", "", "")).nbytes == 1.5 * 200


@pytest.mark.parametrize(
    ("op", "shape", "macs"),
    [("matmul", (4, 5, 6), 120), ("matmul", (3, 4, 5, 6), 360), ("selu", (8, 8), 0), ("silu_mul", (8, 8), 0),
     ("layernorm", (4, 8), 0), ("rmsnorm", (4, 8), 0), ("softmax", (4, 8), 0), ("parametric_relu", (9,), 0)],
)  # fmt: skip
def test_every_family_has_a_graph(op, shape, macs):
    graph = build_graph(Measurement("tiny", op, shape, "int8", 1e-6, "", "", ""))
    assert graph.macs == macs
    assert graph.kernel


# ---- fitting ---------------------------------------------------------------------------------------------------


def test_the_simplex_finds_a_known_minimum():
    best = minimise(lambda p: float((np.log(p[0] / 3) ** 2) + np.log(p[1] / 0.02) ** 2), np.array([1.0, 1.0]))
    assert best == pytest.approx([3.0, 0.02], rel=1e-3)


def test_the_roofline_recovers_the_machine_that_made_the_rows():
    rows = []
    for m in (1, 16, 64, 256, 1024):
        for n in (64, 512, 2048):
            amount = work(gemm(m, n, 512))
            rows.append(gemm(m, n, 512, 3e-6 + max(amount.flops / 2e13, amount.nbytes / 4e11)))
    found = fit_roofline(rows)
    assert found.launch_s == pytest.approx(3e-6, rel=0.01)
    assert found.flops_per_s == pytest.approx(2e13, rel=0.02)
    assert found.bytes_per_s == pytest.approx(4e11, rel=0.02)
    assert np.abs(cross_validated_errors(rows)).max() < 0.05


def test_a_row_is_judged_by_the_roofline_of_the_other_half():
    # The halves come from machines of different speed, so the other half's roofline is wrong by their ratio.
    rows = [gemm(m, n, 64) for m in range(1, 9) for n in range(1, 9)]
    rows = [gemm(*row.shape, 1e-6 if row.fold else 3e-6) for row in rows]
    for row, error in zip(rows, cross_validated_errors(rows), strict=True):
        assert error == pytest.approx(2.0 if row.fold else -2 / 3, abs=0.05)


def test_a_fit_recovers_the_calibration_that_made_the_measurements():
    truth = Calibration(launch_overhead_ps=2_000_000, array_efficiency=0.6)
    chip = load_chip("tiny")
    cases = [gemm(m, n, k) for m in (32, 128, 512) for n in (64, 256) for k in (64, 512)]
    made = predict(cases, chip.with_calibration(truth))
    rows = [gemm(*one.row.shape, one.prediction.latency_s) for one in made]
    found = fit_calibration(rows, chip, ["launch_overhead_ps", "array_efficiency"], evaluations=60)
    assert found.calibration.launch_overhead_ps == pytest.approx(2_000_000, rel=0.03)
    assert found.calibration.array_efficiency == pytest.approx(0.6, rel=0.05)
    assert found.unseen is not None
    assert found.unseen.mean_abs_pct < 1.0


def test_halves_are_equal_in_size_and_do_not_hang_on_the_run():
    folds = [gemm(m, n, 64).fold for m in range(1, 21) for n in range(1, 21)]
    assert 170 < sum(folds) < 230
    assert gemm(1, 1, 64).fold == gemm(1, 1, 64, 5.0).fold == 0


# ---- errors ----------------------------------------------------------------------------------------------------


def test_statistics_by_hand():
    found = statistics(np.array([0.1, -0.3, np.nan]))
    assert found is not None
    assert (found.mean_abs_pct, found.median_abs_pct, found.median_signed_pct) == pytest.approx((20, 20, -10))
    assert found.p90_abs_pct == pytest.approx(28)
    assert statistics(np.array([np.nan])) is None


def test_the_table_keeps_families_regimes_and_refusals_apart():
    def one(op: str, error: float, bound_by: str, launch_s: float = 0.0, refused: str = "") -> Compared:
        latency = (1 + error) * 1e-6
        return Compared(gemm(8, 8, 8, 1e-6, op), Prediction(latency, 1e-7, bound_by, launch_s, 1.0, refused))

    compared = [
        one("matmul", 0.2, "array"),
        one("matmul", -0.4, "dram"),
        one("matmul", 0.0, "array", launch_s=6e-7),
        one("matmul", float("nan"), "", refused="does not fit"),
        one("softmax", -0.1, "vector"),
    ]
    table = {(row.family, row.regime): row for row in error_table("tiny", compared)}
    assert set(table) == {
        ("matmul", "all"), ("matmul", "compute"), ("matmul", "memory"), ("matmul", "launch"), ("softmax", "all")
    }  # fmt: skip
    assert (table["matmul", "all"].rows, table["matmul", "all"].refused) == (3, 1)
    assert table["matmul", "all"].errors.mean_abs_pct == pytest.approx(20)
    assert table["matmul", "memory"].errors.median_signed_pct == pytest.approx(-40)
    assert table["softmax", "all"].unseen is None


def test_without_calibration_is_another_prediction(tmp_path):
    write(tmp_path, "".join(f"tiny,matmul,{m},64,64,,1,int8,5,warm,a,b\n" for m in (8, 16, 32, 64)))
    chip = load_chip("tiny", {"calibration.launch_overhead": "4 us"})
    found = validate(chip, tmp_path).errors[0]
    assert found.uncalibrated is not None
    assert found.uncalibrated.median_signed_pct < found.errors.median_signed_pct - 70


def test_workers_give_the_same_predictions(tmp_path, monkeypatch):
    cases = [gemm(m, 32, 32) for m in range(1, 7)]
    alone = predict(cases, load_chip("tiny"))
    monkeypatch.setattr("sim.validate.prediction.FEW_CASES", 2)
    monkeypatch.setattr("sim.validate.prediction.CASES_PER_CALL", 2)
    assert predict(cases, load_chip("tiny"), workers=2) == alone


# ---- command line ----------------------------------------------------------------------------------------------


def test_the_command_prints_and_writes_what_it_found(tmp_path, capsys, monkeypatch):
    write(tmp_path, "".join(f"tiny,matmul,{m},64,64,,1,int8,5,warm,a,b\n" for m in (8, 64, 512)))
    monkeypatch.setenv("LEPTON_MEASUREMENTS", str(tmp_path))
    assert (
        run(["validate", "tiny", "--workers", "1", "--out", str(tmp_path / "out"), "--format", "json"]) == 0
    )
    rows = json.loads(capsys.readouterr().out)
    assert rows[0]["rows"] == 3
    assert rows[0]["roofline_mean_abs_pct"] is not None
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"errors.csv", "points.csv", "scatter.png"}
    points = (tmp_path / "out" / "points.csv").read_text().splitlines()
    assert points[0] == "chip,family,regime,measured_s,predicted_s,error"
    assert len(points) == 4


def test_the_command_fits_and_refuses_unknown_scalars(tmp_path, capsys):
    write(
        tmp_path, "".join(f"tiny,matmul,{m},64,64,,1,int8,900,warm,a,b\n" for m in (8, 16, 32, 64, 128, 256))
    )
    command = ["validate", "tiny", "--data", str(tmp_path), "--workers", "1"]
    assert run([*command, "--fit", "launch_overhead", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["unseen"]["mean_abs_pct"] < 10
    assert run([*command, "--fit", "launch_overhead", "--format", "csv"]) == 0
    rows = {tuple(row[:3]): row[3] for row in csv.reader(capsys.readouterr().out.splitlines())}
    assert rows["part", "of", "name"] == "value"
    assert rows["calibration", "", "launch_overhead"] == found["calibration"]["launch_overhead"]
    assert float(rows["errors", "unseen", "mean_abs_pct"]) == found["unseen"]["mean_abs_pct"]
    assert run([*command, "--fit", "launch_overhed"]) == 2
    assert "did you mean 'launch_overhead'" in capsys.readouterr().err
    assert run(["validate", "--fit", "launch_overhead", "--data", str(tmp_path)]) == 2


@pytest.mark.parametrize(
    ("options", "ignored"),
    [
        (["--fit-whole"], "--fit-whole"),
        (["--by-plan"], "--by-plan"),
        (["--evaluations", "9"], "--evaluations"),
        (["--fit", "launch_overhead", "--sample", "3"], "--sample"),
        (["--fit", "launch_overhead", "--out", "folder"], "--out"),
        (["--fit", "launch_overhead", "--fidelity", "bound"], "--fidelity"),
        (["--fit", "launch_overhead", "--events-to", "1e6"], "--events-to"),
        (["--fit", "launch_overhead", "--by-plan", "--fit-whole"], "--fit-whole"),
    ],
)
def test_options_that_would_be_ignored_are_refused(tmp_path, capsys, options, ignored):
    write(tmp_path, "tiny,matmul,8,64,64,,1,int8,900,warm,a,b\n")
    assert run(["validate", "tiny", "--data", str(tmp_path), "--workers", "1", *options]) == 2
    assert ignored in capsys.readouterr().err


def test_intervals_of_one_half_hold_the_other():
    rng = np.random.default_rng(5)
    compared = [
        Compared(
            gemm(m, 8, 8, 1e-6 * float(rng.uniform(0.9, 1.1))), Prediction(1e-6, 1e-7, "array", 0.0, 1.0)
        )
        for m in range(1, 401)
    ]
    (made,) = make_intervals(load_chip("tiny"), compared)
    assert (made.family, made.regime, made.rows) == ("matmul", "compute", 400)
    assert made.low == pytest.approx(0.9 + 0.2 * 0.035, abs=0.01)
    assert made.high == pytest.approx(1.1 - 0.2 * 0.035, abs=0.01)
    held = coverage(load_chip("tiny"), compared)
    assert held is not None
    assert held.rows == 400
    assert 88 < held.inside_pct < 98
    assert held.median_width_pct == pytest.approx(18.6, abs=1.5)
    assert make_intervals(load_chip("tiny"), compared[:7]) == []
