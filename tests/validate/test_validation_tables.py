"""The tables of docs/validation.md are those of what `lepton validate` found (docs/validation/)."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from sim.hw.chip import load_chip
from sim.validate.errors import error_table
from sim.validate.measurement import Measurement
from sim.validate.prediction import Compared, Prediction
from sim.validate.validation import error_rows, rows_csv

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("validation_tables", ROOT / "docs/validation_tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_what_was_found(tables: ModuleType) -> None:
    page = (ROOT / "docs/validation.md").read_text()
    assert tables.refreshed(page) == page
    other = page.replace("| 758 | 7.7 |", "| 758 | 7.3 |")
    assert tables.refreshed(other) == page != other


def test_the_errors_of_the_page_are_below_the_bars_where_it_says_so(tables: ModuleType) -> None:
    """The bars are those of a roofline of three parameters, fitted to the same rows."""
    for chip, bars in {
        "tpu_v4": {"matmul": 9.9, "norm": 10, "unary": 7, "binary": 5, "copy": 4},
        "a100": {"matmul": 9.6}, "h100": {"matmul": 12.4}, "a40": {"matmul": 9.9},
    }.items():  # fmt: skip
        found = {row["family"]: row for row in tables.chip_rows(chip) if row["regime"] == "all"}
        for family, bar in bars.items():
            assert float(found[family]["mean_abs_pct"]) < bar
            assert abs(float(found[family]["median_signed_pct"])) < 3
        assert float(found["matmul"]["uncalibrated_mean_abs_pct"]) > float(found["matmul"]["mean_abs_pct"])


def test_rows_of_a_run_take_the_place_of_those_kept(
    tables: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten products 10 % too slow: 10.0 and +10.0 stand in the table, beside what was kept of other families."""
    (tmp_path / "a100.csv").write_text((tables.FOLDER / "a100.csv").read_text())
    before = [row for row in tables.chip_rows("a100") if row["family"] == "norm"]
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    rows = [Measurement("a100", "matmul", (m, 8, 8), "fp16", 1e-4, "kernel", "", "") for m in range(1, 11)]
    compared = [Compared(row, Prediction(1.1e-4, 1e-6, "dram", 0.0, 1.0)) for row in rows]
    text = rows_csv(error_rows(error_table(load_chip("a100").name, compared, compared)))
    (tmp_path / "errors.csv").write_text(text)
    monkeypatch.setattr(tables, "PAGE", tmp_path / "page.md")
    heads = [f"{head} ... |\n|---|\n| old |\n\ntext" for head in tables.HEADS.values()]
    for chip in ("tpu_v4", "h100", "a40"):
        (tmp_path / f"{chip}.csv").write_text((ROOT / f"docs/validation/{chip}.csv").read_text())
    (tmp_path / "page.md").write_text("\n\n".join(heads))
    monkeypatch.setattr(sys, "argv", ["validation_tables.py"])
    tables.main([str(tmp_path / "errors.csv"), "matmul"])
    made = (tmp_path / "page.md").read_text()
    line = next(line for line in made.splitlines() if line.startswith("| A100 | matmul | all"))
    assert line.startswith("| A100 | matmul | all | 10 | 10.0 | 10.0 | 10.0 | +10.0 |")
    assert "| old |" not in made
    assert [row for row in tables.chip_rows("a100") if row["family"] == "norm"] == before
