"""Error bars of GPUs by the intensity of a product: bands that meet, each with the spread of its own rows."""

import numpy as np
import pytest

from sim.hw.chip import load_chip
from sim.report.error_bars import band_edges, error_bar
from sim.validate.intervals import coverage, make_intervals
from sim.validate.measurement import Measurement
from sim.validate.prediction import Compared, Prediction


def compared() -> list[Compared]:
    """Exact at 8 and 32 MACs per byte, within a fifth at 128 and 400; nothing above."""
    rng = np.random.default_rng(2)
    found = []
    for at in range(400):
        intensity = (8.0, 32.0, 128.0, 400.0)[at % 4]
        spread = 0.001 if intensity < 64 else 0.2
        row = Measurement("a100", "matmul", (at + 1, 8, 8), "fp16", 1e-5 * float(rng.uniform(1 - spread, 1 + spread)),
                          "kernel", "", "")  # fmt: skip
        found.append(Compared(row, Prediction(1e-5, 1e-6, "dram", 0.0, intensity)))
    return found


def test_bands_have_widths_of_their_own_and_meet() -> None:
    chip = load_chip("a100")
    assert band_edges(chip) == (64.0, 512.0)
    assert band_edges(load_chip("tpu_v4")) == ()
    few, some = make_intervals(chip, compared())
    assert few.high - few.low < 0.01
    assert 0.3 < some.high - some.low < 0.41
    assert (few.least_macs_per_byte, few.most_macs_per_byte) == (8.0, 64.0)
    assert (some.least_macs_per_byte, some.most_macs_per_byte) == (64.0, 400.0)
    held = coverage(chip, compared())
    assert held is not None
    assert held.inside_pct > 89


@pytest.mark.parametrize(("intensity", "narrow"), [(10.0, True), (63.0, True), (65.0, False), (399.0, False)])
def test_a_report_takes_the_band_of_its_operator(intensity: float, narrow: bool) -> None:
    chip = load_chip("a100")
    row = {"kind": "matmul", "time_s": 1e-5, "repeats": 1, "bound_by": "dram", "launch_s": 0.0,
           "macs_per_dram_byte": intensity}  # fmt: skip
    bar = error_bar(chip, row, make_intervals(chip, compared()))
    assert bar.verdict == "validated"
    assert (bar.high - bar.low < 0.01) == narrow
    beyond = error_bar(chip, row | {"macs_per_dram_byte": 401.0}, make_intervals(chip, compared()))
    assert "measured at 8 to 400 MACs" in beyond.why
