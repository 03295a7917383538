"""A100 and MI210 against wall times of LLMCompass (hw_configs/measured/gpu_llmcompass.csv, BSD-3-Clause).

Bars: what a roofline of three parameters fitted per family, or LLMCompass's own simulator, reaches on these rows. The
suite takes a row or two of each family, the nightly run all of them.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from sim.hw.chip import load_chip
from sim.validate.measured_set import measured_sets
from sim.validate.measurement import Measurement, load_measurements, of_chip
from sim.validate.prediction import Compared, predict

BARS = {
    "a100": {"matmul": 3.0, "softmax": 6.7, "norm": 8.7, "unary": 4.3},
    "mi210": {"matmul": 3.9, "softmax": 11.9, "norm": 11.0, "unary": 1.3},
}
SAMPLE_PCT = {
    "a100": {"matmul": 5.0, "softmax": 12.0, "norm": 3.0, "unary": 3.0},
    "mi210": {"matmul": 4.0, "softmax": 9.0, "norm": 17.0, "unary": 3.0},
}
SAMPLE = {(8192, 1024, 1024), (8192, 512, 512), (4096, 4096), (2048, 4096), (16777216,)}


@cache
def rows(chip: str) -> tuple[Measurement, ...]:
    """Of the figures of single operators, each once; sums over chips have a test of their own."""
    of_set = [row for row in of_chip(load_measurements(), chip) if row.dataset.startswith("llmcompass")]
    mine = [row for row in of_set if row.family in BARS[chip]]
    return tuple({row.case: row for row in mine if "gpt3" not in row.dataset}.values())


def compared(chip: str) -> list[Compared]:
    return predict([row for row in rows(chip) if row.shape in SAMPLE], load_chip(chip))


def family_errors_pct(found: list[Compared]) -> dict[str, float]:
    """Mean absolute error by family."""
    names = {one.row.family or "" for one in found}
    return {n: 100 * float(np.mean([abs(one.error) for one in found if one.row.family == n])) for n in names}


@pytest.mark.parametrize("chip", BARS)
def test_a_sample_of_every_family(chip: str) -> None:
    for family, error_pct in family_errors_pct(compared(chip)).items():
        assert error_pct < SAMPLE_PCT[chip][family], family


@pytest.mark.nightly
@pytest.mark.parametrize("chip", BARS)
def test_all_rows(chip: str) -> None:
    found = predict(rows(chip), load_chip(chip))
    assert {one.prediction.refused for one in found} == {""}
    for family, error_pct in family_errors_pct(found).items():
        assert error_pct < BARS[chip][family], family


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("chip", "scalar"),
    [
        *(("a100", name) for name in ("array_efficiency", "vector_efficiency", "dram_efficiency", "cache_efficiency")),
        *(("mi210", name) for name in ("array_efficiency", "vector_efficiency", "dram_efficiency")),
    ],
)
def test_a_broken_scalar_is_missed(chip: str, scalar: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fifth less of any of them, and a family of the sample leaves its bound."""
    (found,) = (one for one in measured_sets() if one.name == "llmcompass")
    board = found.board(chip)
    assert board is not None
    on = load_chip(chip)
    calibration = board.calibration or on.calibration
    broken = replace(calibration, **{scalar: 0.8 * getattr(calibration, scalar)})
    boards = tuple(replace(one, calibration=broken) if one.chip == chip else one for one in found.boards)
    monkeypatch.setattr("sim.validate.measured_set.measured_sets", lambda: (replace(found, boards=boards),))
    errors = family_errors_pct(compared(chip))
    assert any(error_pct > SAMPLE_PCT[chip][family] for family, error_pct in errors.items())
