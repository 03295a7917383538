"""Measurements on the host's clock: its calls by hand, boards with a calibration of their own, and the fit of both."""

from dataclasses import replace

import numpy as np
import pytest

from sim.errors import InputError
from sim.hw.calibration import UNCALIBRATED, Calibration
from sim.hw.chip import load_chip
from sim.validate.errors import error_table, row_regime
from sim.validate.fit import fit_calibration, fit_call
from sim.validate.intervals import make_intervals
from sim.validate.measured_set import (
    WITH_HOST,
    Board,
    HostCall,
    MeasuredSet,
    board_calibration,
    host_call,
    in_sequence,
    measured_sets,
    set_of,
    timed_as,
)
from sim.validate.measurement import Measurement, load_measurements
from sim.validate.operator_graph import build_graph, work
from sim.validate.planned import planned_s
from sim.validate.prediction import Compared, Prediction, predict

SLOWER = Calibration(array_efficiency=0.5)
MADE = MeasuredSet(
    name="made",
    boards=(Board(chip="tiny", calls={"matmul": HostCall(before_ps=20_000_000)}, calibration=SLOWER),),
)


def gemm(m: int, seconds: float = 1e-3, *, op: str = "matmul", dataset: str = "made_here") -> Measurement:
    return Measurement("Tiny", op, (m, 64, 64), "int8", seconds, WITH_HOST, dataset, "made")


@pytest.fixture
def made(monkeypatch):
    monkeypatch.setattr("sim.validate.measured_set.measured_sets", lambda: (MADE,))


def test_kernels_of_a_sequence_find_what_the_one_before_wrote(monkeypatch) -> None:
    """Additions: on an A40 one operand of 512 KiB comes from the L2, not the DRAM, at 696 GB/s at most. Of a tensor
    that a product needs several waves for (on an A100 more than 108 x 256 x 128 elements), nothing is left, though the
    L2 has room."""
    made = (MeasuredSet("seq", in_sequence=True),)
    monkeypatch.setattr("sim.validate.measured_set.measured_sets", lambda: made)

    def latency_s(chip: str, elements: int, dataset: str) -> float:
        row = Measurement(chip, "add", (elements // 4096, 4096), "fp16", 1e-6, "kernel", dataset, "")
        assert in_sequence(row) == dataset.startswith("seq")
        (found,) = predict([row], load_chip(chip))
        return found.prediction.latency_s

    assert latency_s("a40", 1 << 18, "other") - latency_s("a40", 1 << 18, "seq:a") > 0.5 * (1 << 19) / 696e9
    assert latency_s("a100", 1 << 22, "other") == latency_s("a100", 1 << 22, "seq:a")
    assert latency_s("a100", 3 << 20, "other") > 1.05 * latency_s("a100", 3 << 20, "seq:a")


def test_what_the_kernel_before_wrote_of_an_operator() -> None:
    """The first operand; of a gated activation both halves. No weights, and nothing in sets of lone calls."""
    def warm(op: str, shape: tuple[int, ...], dataset: str = "vidur:any") -> tuple[str, ...]:
        return build_graph(Measurement("A40", op, shape, "fp16", 1e-6, "kernel", dataset, "")).warm

    assert warm("matmul", (8, 16, 32)) == warm("add", (8, 16)) == ("a",)
    assert warm("silu_mul", (8, 16)) == ("a", "b")
    assert warm("rmsnorm", (8, 16)) == ("x",)
    assert warm("add", (8, 16), "llmcompass_add") == ()
    with pytest.raises(ValueError, match="cannot be warm"):
        replace(build_graph(Measurement("A40", "matmul", (8, 16, 32), "fp16", 1e-6, "", "", "")), warm=("w",))


def test_a_set_says_what_was_timed_under_a_name() -> None:
    """The layer of phi-2 adds two tensors to its residual; the gelu of LLMCompass is the tanh approximation."""

    def row(op: str, dataset: str) -> Measurement:
        return Measurement("A40", op, (64, 2560), "fp16", 1e-5, "kernel", dataset, "")

    one, two = row("add", "vidur:meta-llama/Llama-2-7b-hf:add:tp1"), row("add", "vidur:microsoft/phi-2:add:tp1")
    assert (timed_as(one), timed_as(two)) == (("add", 1), ("add", 2))
    assert timed_as(row("gelu", "vidur:microsoft/phi-2:mlp_act:tp1")) == ("gelu", 1)
    # Rows of one case with and without: neither takes the prediction of the other.
    a, b = (found.prediction for found in predict([one, two], load_chip("a40")))
    assert b.latency_s == pytest.approx(2 * a.latency_s)
    assert (b.launch_s, b.bound_s) == pytest.approx((2 * a.launch_s, 2 * a.bound_s))
    assert work(two).nbytes == 2 * work(one).nbytes == 12 * 64 * 2560
    assert planned_s(two, load_chip("a40")) == pytest.approx(2 * planned_s(one, load_chip("a40")))

    kinds = [build_graph(row("gelu", made)).ops[0].attributes["function"] for made in ("llmcompass_gelu", "vidur:any")]
    assert kinds == ["gelu_tanh", "gelu"]


def test_phi_2s_sums_are_known_by_their_set() -> None:
    """24 rows of the package, all of 2,560 columns; nobody else's rows have as many."""
    adds = [r for r in load_measurements() if r.op == "add" and r.timing == "kernel"]
    assert [r for r in adds if timed_as(r)[1] == 2] == [r for r in adds if r.shape[1] == 2560]
    assert sum(timed_as(r)[1] == 2 for r in adds) == 24


def test_the_host_works_beside_the_device_before_it_waits() -> None:
    call = HostCall(before_ps=10_000_000, after_ps=4_000_000)
    assert call.wall_s(1e-6) == pytest.approx(14e-6)
    assert call.wall_s(9e-6) == pytest.approx(19e-6)


def test_rows_of_a_set_get_its_board_and_its_calls(made) -> None:
    chip = load_chip("tiny")
    calibrated = chip.with_calibration(Calibration(array_efficiency=0.9))
    ours, theirs = predict([gemm(512), gemm(512, dataset="elsewhere")], calibrated)
    slower = predict([gemm(512, dataset="")], chip.with_calibration(SLOWER), boards="none")[0]
    assert ours.predicted_s == pytest.approx(slower.prediction.latency_s + 20e-6, rel=1e-9)
    assert ours.host_s == pytest.approx(20e-6, rel=1e-9)
    (full,) = predict([gemm(512)], chip, boards="none")
    assert ours.prediction.latency_s > 1.3 * full.prediction.latency_s
    # On the host's clock, but nobody knows what the host adds: told, not compared.
    assert "no host call is known for elsewhere" in theirs.prediction.refused
    assert "no host call of norm" in predict([gemm(8, op="layernorm")], chip)[0].prediction.refused


def test_the_board_is_found_by_the_chip_and_the_data_sheet_stays_the_data_sheet(made) -> None:
    (plain,) = predict([gemm(512)], load_chip("tiny"), boards="calls")
    assert plain.host_s == pytest.approx(20e-6)
    assert plain.prediction == predict([gemm(512)], load_chip("tiny"), boards="none")[0].prediction
    assert board_calibration(None, "tiny", UNCALIBRATED) is UNCALIBRATED
    assert board_calibration(MADE, "TINY", Calibration(launch_overhead_ps=5)) is SLOWER
    assert board_calibration(MADE, "a100", Calibration(launch_overhead_ps=5)).launch_overhead_ps == 5


def test_what_had_the_call_taken_off_gets_none_back(made) -> None:
    row = Measurement("tiny", "matmul", (8, 8, 8), "int8", 1e-6, "host_wall_minus_launch", "made", "")
    assert host_call(row) is None
    assert set_of(row) is MADE


def test_a_call_is_fitted_exactly() -> None:
    device = np.array([1e-6, 2e-6, 30e-6, 90e-6])
    found = fit_call(8e-6 + np.maximum(device, 4e-6), device)
    assert (found.before_ps, found.after_ps) == (8_000_000, 4_000_000)
    plain = fit_call(8e-6 + device, device)
    assert (plain.before_ps, plain.after_ps) == (8_000_000, 0)


def test_calls_are_fitted_along_with_the_calibration(made) -> None:
    truth, chip = Calibration(array_efficiency=0.6), load_chip("tiny")
    cases = [gemm(m) for m in (*range(16, 512, 48), 4096, 32768)]
    assert sum(one.fold for one in cases) < len(cases) - 4
    times = predict(cases, chip.with_calibration(truth), boards="none")
    rows = [gemm(one.row.shape[0], one.prediction.latency_s + 33e-6) for one in times]
    found = fit_calibration(rows, chip, ["array_efficiency"], evaluations=25)
    assert found.calibration.array_efficiency == pytest.approx(0.6, rel=0.05)
    assert found.calls["matmul"].before_ps == pytest.approx(33e6, rel=0.02)
    assert found.unseen is not None
    assert found.unseen.mean_abs_pct < 1
    with pytest.raises(InputError, match="several sets"):
        fit_calibration([*rows, gemm(8, dataset="elsewhere")], chip, ["array_efficiency"])


def test_sets_are_told_apart_and_error_bars_are_of_the_device() -> None:
    call = HostCall(before_ps=9_000_000)
    long_one, short_one = (Prediction(seconds, 1e-7, "array", 0.0, 1.0) for seconds in (20e-6, 1e-6))
    rows = [Compared(gemm(m, 30e-6, dataset="llmcompass_x"), long_one, call) for m in range(1, 9)]
    short = [Compared(gemm(m, 9e-6, dataset="llmcompass_x"), short_one, call) for m in range(9, 19)]
    plain = [Compared(gemm(m, 20e-6, dataset=""), long_one) for m in range(1, 9)]
    table = {(row.measured_set, row.regime): row for row in error_table("tiny", [*rows, *plain])}
    assert table["llmcompass", "all"].errors.median_signed_pct == pytest.approx(100 * (29 / 30 - 1))
    assert table["", "all"].errors.median_signed_pct == pytest.approx(0)
    assert row_regime(short[0]) == "launch"
    (bar,) = make_intervals(load_chip("tiny"), [*rows, *short])
    assert (bar.rows, bar.low, bar.high) == (8, 1.05, 1.05)


def test_the_carried_set_is_complete() -> None:
    (llmcompass,) = (one for one in measured_sets() if one.name == "llmcompass")
    rows = [row for row in load_measurements() if set_of(row) is llmcompass and row.family is not None]
    for row in rows:
        if row.timing == WITH_HOST:
            assert host_call(row) is not None
    for name in ("A100", "MI210"):
        families = [row.family for row in rows if row.chip == name]
        expected = {"A100": (16, 15, 11, 9), "MI210": (12, 14, 10, 7)}[name]
        assert tuple(map(families.count, ("matmul", "softmax", "norm", "unary"))) == expected
