"""Error bars of GPUs by the intensity of a product: bands that meet, each with the spread of its own rows."""

from dataclasses import replace

import numpy as np
import pytest

from sim.hw.chip import load_chip
from sim.report.error_bars import band_edges, error_bar, time_edges
from sim.validate.intervals import coverage, make_intervals, narrowest
from sim.validate.measurement import Measurement
from sim.validate.prediction import Compared, Prediction


def compared() -> list[Compared]:
    """Exact at 8 and 24 MACs per byte, within a fifth at 70 and 100; nothing above."""
    rng = np.random.default_rng(2)
    found = []
    for at in range(400):
        intensity = (8.0, 24.0, 70.0, 100.0)[at % 4]
        spread = 0.001 if intensity < 32 else 0.2
        row = Measurement("a100", "matmul", (at + 1, 8, 8), "fp16", 1e-5 * float(rng.uniform(1 - spread, 1 + spread)),
                          "kernel", "", "")  # fmt: skip
        found.append(Compared(row, Prediction(1e-5, 1e-6, "dram", 0.0, intensity)))
    return found


def test_bands_have_widths_of_their_own_and_meet() -> None:
    chip = load_chip("a100")
    assert band_edges(chip) == (40.0, 64.0, 160.0, 400.0)
    assert band_edges(load_chip("tpu_v4")) == ()
    few, some = make_intervals(chip, compared())
    assert few.high - few.low < 0.01
    assert 0.3 < some.high - some.low < 0.41
    assert (few.least_macs_per_byte, few.most_macs_per_byte) == (8.0, 64.0)
    assert (some.least_macs_per_byte, some.most_macs_per_byte) == (64.0, 100.0)
    held = coverage(chip, compared())
    assert held is not None
    assert held.inside_pct > 89


def test_what_limits_a_product_of_dealt_tiles_is_told_by_its_band() -> None:
    """Rows that the array limits and rows that the memory does share a bar; on a systolic chip each has its own."""
    for name, shared in (("a100", True), ("tpu_v4", False)):
        found = []
        for at, one in enumerate(compared()):
            kind = "array" if at % 8 < 4 else "dram"
            prediction = replace(one.prediction, bound_by=kind)
            found.append(replace(one, row=replace(one.row, chip=name), prediction=prediction))
        made = make_intervals(load_chip(name), found)
        assert {bar.regime for bar in made} == ({"busy"} if shared else {"compute", "memory"})
        row = {"kind": "matmul", "time_s": 1e-5, "repeats": 1, "launch_s": 0.0, "macs_per_dram_byte": 10.0,
               "dtype": "fp16", "macs": 0}  # fmt: skip
        bars = {error_bar(load_chip(name), row | {"bound_by": kind}, made) for kind in ("array", "dram")}
        assert len({(bar.low, bar.high) for bar in bars}) == (1 if shared else 2)
    launch = replace(compared()[0].prediction, launch_s=6e-6)
    for name, regime in (("a100", "busy"), ("tpu_v4", "launch")):
        few = [replace(one, row=replace(one.row, chip=name), prediction=launch) for one in compared()]
        assert {bar.regime for bar in make_intervals(load_chip(name), few)} == {regime}


@pytest.mark.parametrize(("intensity", "narrow"), [(10.0, True), (31.0, True), (65.0, False), (99.0, False)])
def test_a_report_takes_the_band_of_its_operator(intensity: float, narrow: bool) -> None:
    chip = load_chip("a100")
    row = {"kind": "matmul", "time_s": 1e-5, "repeats": 1, "bound_by": "dram", "launch_s": 0.0,
           "macs_per_dram_byte": intensity, "dtype": "fp16", "macs": 0}  # fmt: skip
    bar = error_bar(chip, row, make_intervals(chip, compared()))
    assert bar.verdict == "validated"
    assert (bar.high - bar.low < 0.01) == narrow
    beyond = error_bar(chip, row | {"macs_per_dram_byte": 101.0}, make_intervals(chip, compared()))
    assert "measured at 8 to 100 MACs" in beyond.why


def timed(seconds: list[float]) -> list[Compared]:
    """Products of one intensity that take so long: within 1 % above 20 us, within a third below."""
    rng = np.random.default_rng(3)
    found = []
    for at, latency_s in enumerate(seconds):
        spread = 0.01 if latency_s > 20e-6 else 0.33
        measured_s = latency_s * float(rng.uniform(1 - spread, 1 + spread))
        row = Measurement("a100", "matmul", (at + 1, 8, 8), "fp16", measured_s, "kernel", "", "")
        found.append(Compared(row, Prediction(latency_s, 1e-6, "dram", 0.0, 8.0)))
    return found


def test_short_kernels_have_bars_of_their_own_where_there_are_enough() -> None:
    """30 of 10 us, 30 of 200 us: two bars that meet at 100 us. Ten of 500 us have none of their own: they go with those
    of 200. Kernels that are no products have other edges, systolic arrays none."""
    chip = load_chip("a100")
    assert [time_edges(chip, family) for family in ("matmul", "gated")] == [(100e-6, 300e-6), (5e-6, 20e-6, 100e-6)]
    assert time_edges(load_chip("tpu_v4"), "matmul") == ()
    short, long = make_intervals(chip, timed([10e-6] * 30 + [200e-6] * 30))
    assert (short.shortest_s, short.longest_s, long.shortest_s, long.longest_s) == (10e-6, 100e-6, 100e-6, 200e-6)
    assert long.high - long.low < 0.02 < 0.5 < short.high - short.low
    short, long = make_intervals(chip, timed([10e-6] * 30 + [200e-6] * 30 + [500e-6] * 10))
    assert (short.rows, long.rows) == (30, 40)
    assert (short.shortest_s, long.longest_s) == (10e-6, 500e-6)


def test_an_interval_is_the_narrowest_that_holds_what_comes() -> None:
    """Of 99 ratios, 93 (of 100 places for another one), wherever they lie closest; of ten, all."""
    assert narrowest(np.arange(1.0, 100.0)) == (1.0, 93.0)
    skewed = np.concatenate([np.linspace(1.0, 1.1, 93), np.linspace(2.0, 5.0, 6)])
    assert narrowest(skewed) == (1.0, pytest.approx(1.1))
    assert narrowest(np.arange(10.0)) == (0.0, 9.0)
    rng = np.random.default_rng(5)
    held = [
        float(np.mean((low <= more) & (more <= high)))
        for low, high in (narrowest(rng.normal(size=60)) for _ in range(200))
        for more in [rng.normal(size=200)]
    ]
    assert 0.9 < np.mean(held) < 0.94


def test_ends_are_rounded_away_from_the_rows() -> None:
    """Four digits would leave out a row of 3.23456e-05 s at one end, and one of 7.65432e-05 at the other."""
    chip = load_chip("a100")
    (bar,) = make_intervals(chip, timed([3.23456e-05, *[5e-5] * 20, 7.65432e-05]))
    assert (bar.shortest_s, bar.longest_s) == (3.234e-05, 7.655e-05)
