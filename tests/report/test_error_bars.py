"""Error bars of operators: from the chip's own measurements, a relative's, or none."""

import re
from dataclasses import replace
from io import StringIO

import pytest
from rich.console import Console

import sim
from sim.hw.chip import load_chip
from sim.report.error_bars import (
    Interval,
    error_bar,
    error_bar_of_all,
    intervals,
    regime,
    utilization,
    workings,
)
from sim.report.text import render_text


def interval(chip: str = "tiny", family: str = "matmul", kind: str = "compute", rows: int = 10) -> Interval:
    return Interval(
        chip, "systolic", family, kind, rows, 0.9, 1.2, 1e-6, 1e-3, 10.0, 500.0, 0.1, 0.8, "int8 fp16"
    )


def row(**changes):
    return {
        "kind": "matmul", "time_s": 2e-4, "repeats": 2, "bound_by": "array", "launch_s": 0.0,
        "macs_per_dram_byte": 100.0, "dtype": "int8", "macs": int(0.5 * 32e9 * 2e-4),
    } | changes  # fmt: skip


TINY = load_chip("tiny")


def test_regimes():
    assert regime("array", 0.0, 1.0) == regime("vector", 0.4, 1.0) == "compute"
    assert regime("dram", 0.0, 1.0) == "memory"
    assert regime("dram", 0.5, 1.0) == "launch"


def test_own_measurements_come_first_then_the_relative_with_most_rows():
    known = [interval("tiny", rows=3), interval("a", rows=5), interval("b", rows=50)]
    assert (error_bar(TINY, row(), known).verdict, error_bar(TINY, row(), known).chip) == (
        "validated",
        "tiny",
    )
    bar = error_bar(TINY, row(), known[1:])
    assert (bar.verdict, bar.chip, bar.low, bar.high) == ("relative", "b", 0.9, 1.2)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"kind": "conv"}, "no conv was measured"),
        ({"kind": "softmax"}, "no softmax was measured"),
        ({"bound_by": "dram"}, "limited by memory"),
        ({"time_s": 3e-3}, "from 1 to 1e.03 us only"),
        ({"time_s": 1e-6}, "from 1 to 1e.03 us only"),  # of two repeats: half a microsecond each
        ({"macs_per_dram_byte": 501.0}, "at 10 to 500 MACs per DRAM byte only"),
        ({"macs": int(0.81 * 32e9 * 2e-4)}, "at 10.00% to 80.00% of the arrays' peak only"),
        ({"macs": int(0.09 * 32e9 * 2e-4)}, "at 10.00% to 80.00% of the arrays' peak only"),
    ],
)
def test_outside_what_was_measured_it_says_why(changes, why):
    bar = error_bar(TINY, row(**changes), [interval()])
    assert bar.verdict == "outside"

    assert re.search(why, bar.why)


def test_a_gpu_is_no_relative_of_a_systolic_array():
    assert workings(TINY) == "systolic"
    assert workings(load_chip("a100")) == "gpu"
    assert error_bar(load_chip("a100"), row(), [interval("tpu")]).verdict == "outside"


def test_a_gated_activation_is_a_kernel_of_its_own_on_a_gpu():
    """silu times another tensor is one operator, a silu: told by its own family there, by activations elsewhere."""
    known = [interval("tiny", "unary", "busy"), interval("tiny", "unary"), interval("a100", "gated", "busy")]
    known[2] = replace(known[2], workings="gpu", least_macs_per_byte=0.0, high=1.4)
    silu = row(kind="silu", bound_by="vector", macs_per_dram_byte=None, macs=0)
    assert error_bar(load_chip("a100"), silu, known).high == 1.4
    assert error_bar(TINY, silu, known).high == 1.2
    assert error_bar(load_chip("a100"), silu | {"kind": "gelu"}, known).verdict == "outside"


def test_a_chip_with_measurements_is_not_told_by_a_relative():
    known = [interval("tiny", kind="memory"), interval("b", rows=50)]
    assert error_bar(TINY, row(), known).verdict == "outside"


def test_the_part_of_the_peak_counts_all_repeats() -> None:
    """tiny: 64 PEs at 500 MHz are 32e9 multiply-accumulates a second in int8, and a quarter of them in fp32."""
    assert utilization(TINY, "int8", 16e9, 1.0) == pytest.approx(0.5)
    assert utilization(TINY, "fp32", 4e9, 1.0) == pytest.approx(0.5)
    assert utilization(TINY, "bool", 4e9, 1.0) is utilization(TINY, "int8", 0, 1.0) is None
    assert error_bar(TINY, row(macs=int(0.79 * 32e9 * 2e-4)), [interval()]).verdict == "validated"


def test_another_type_or_changed_parameters_are_a_relative() -> None:
    """Measured were int8 and fp16. An array with another clock is no longer the one that was measured."""
    assert error_bar(TINY, row(), [interval()]).verdict == "validated"
    other = error_bar(TINY, row(dtype="fp32", macs=int(0.5 * 8e9 * 2e-4)), [interval()])
    assert (other.verdict, other.chip, other.dtypes) == ("relative", "tiny", "int8 fp16")
    changed = load_chip("tiny", {"clock": "501 MHz"})
    assert error_bar(changed, row(), [interval()]).verdict == "relative"
    assert error_bar(load_chip("tiny"), row(), [interval()]).verdict == "validated"


def test_of_a_whole_run_by_hand():
    table = {"time_s": [1.0, 3.0, 4.0], "time_low_s": [0.5, 3.0, None], "time_high_s": [2.0, 4.0, None]}
    assert error_bar_of_all(table) == {
        "validated_share": 0.5,
        "time_error_low": 3.5 / 4,
        "time_error_high": 1.5,
    }
    nothing = {"time_s": [1.0], "time_low_s": [None], "time_high_s": [None]}
    assert error_bar_of_all(nothing) == {
        "validated_share": 0.0,
        "time_error_low": None,
        "time_error_high": None,
    }


def test_the_intervals_of_the_package_are_sound():
    assert {one.chip for one in intervals()} >= {"tpu_v4"}
    for one in intervals():
        assert 0 < one.low < one.high
        assert one.low < 1.15
        assert one.high > 0.9
        assert 0 < one.shortest_s <= one.longest_s
        assert one.rows >= 8
        assert one.dtypes == "fp16"  # nothing else was measured on these chips' own clocks
        assert 0.0 <= one.least_utilization <= one.most_utilization < 1.0
        assert (one.most_utilization > 0.0) == (one.family == "matmul")


def test_every_report_says_how_far_off_it_may_be():
    report = sim.simulate("gemm:512x512x512", "tpu_v4", dtype="fp16")
    assert report["validated_share"] == 1.0
    assert report["time_error_low"] < 1 < report["time_error_high"]
    assert report.ops.iloc[0]["validity"] == "validated"
    assert report.to_json()["validated_share"] == 1.0
    text = render(report)
    assert "on 100% of the time, by measurements of tpu_v4" in text
    assert re.search(r"gemm +matmul +array +1 +\S+ us +-\d+% \+\d+% ", text)
    network = sim.simulate("resnet50", "tiny", dtype="int8", fidelity="bound")
    assert network["validated_share"] < 0.5
    assert re.search(r"is outside what was validated:\n +\d+% no conv was measured", render(network))
    assert re.search(r"conv +array +1 +\S+ ms +none ", render(network))


def test_a_report_names_the_type_and_the_chip_that_were_measured() -> None:
    """Measured on TPU v4: fp16. The same product in bf16, and in fp16 on a chip with another clock, are not that."""
    product = "gemm:1024x1024x1024"
    other = sim.simulate(product, "tpu_v4", dtype="bf16")
    assert other.ops.iloc[0]["validity"] == "relative"
    assert "by measurements of tpu_v4 in fp16 (9 in 10 rows)" in render(other)
    changed = sim.simulate(product, load_chip("tpu_v4", {"clock": "1 GHz"}), dtype="fp16")
    assert "by measurements of tpu_v4 as it comes (9 in 10 rows)" in render(changed)
    relative = sim.simulate("gemm:64x512x512", "lepton_m", dtype="bf16")
    assert "a measured relative, tpu_v4 in fp16 (9 in 10 rows)" in render(relative)


def render(report: sim.Report) -> str:
    stream = StringIO()
    render_text(report, Console(file=stream, width=100))
    return stream.getvalue()


def test_a_report_says_how_far_its_dram_may_be_off() -> None:
    """HBM3: of 66 runs the slowest is 1.1 % below, the fastest 9.1 % above. No run of HBM2E was made: no interval."""
    report = sim.simulate("gemm:64x64x64", load_chip("tiny", {"dram.device": "hbm3"}), dtype="int8")
    assert (report["dram_error_low"], report["dram_error_high"]) == pytest.approx((0.9891, 1.0906))
    assert "DRAM: -1.1% to +9.1% of the bandwidth, by every reference run of hbm3" in render(report)
    estimate = sim.simulate("gemm:64x64x64", load_chip("tiny", {"dram.device": "hbm2e"}), dtype="int8")
    assert estimate["dram_error_low"] is estimate["dram_error_high"] is None
    line = "            DRAM: no error is known: the timing of hbm2e is an estimate, with no run to compare"
    assert line in [shown.rstrip() for shown in render(estimate).splitlines()]
