"""Products against SCALE-Sim 3.0 (github.com/scalesim-project, MIT), run for this project: its cycles and DRAM reads.

`data/scalesim.csv` has 62 GEMMs with 1 MiB for each operand and interfaces that never let the array wait
(InterfaceBandwidth: CALC), int8: "Total Cycles" of COMPUTE_REPORT.csv and the DRAM's reads and writes of
DETAILED_ACCESS_REPORT.csv.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

import sim
from sim.report.report import Report

CFG = """[architecture_presets]
ArrayHeight: {rows}
ArrayWidth: {cols}
IfmapSramSzkB: 1024
FilterSramSzkB: 1024
OfmapSramSzkB: 1024
Dataflow: {dataflow}

[run_presets]
InterfaceBandwidth: CALC
"""
Row = dict[str, int | str]


def measured() -> Iterator[Row]:
    with (Path(__file__).parent / "data" / "scalesim.csv").open() as file:
        for row in csv.DictReader(file):
            yield {name: value if name == "dataflow" else int(value) for name, value in row.items()}


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Row, Report]]:
    folder, found = tmp_path_factory.mktemp("scalesim"), []
    for row in measured():
        chip, layers = folder / "chip.cfg", folder / "layers.csv"
        chip.write_text(CFG.format(**row))
        layers.write_text("layer, {m}, {n}, {k}\n".format(**row))
        found.append((row, sim.simulate(str(layers), chip=str(chip))))
    return found


def test_the_array_is_held_for_as_many_cycles(compared: list[tuple[Row, Report]]) -> None:
    """It tells the number of the last cycle, and where results stay it does not shift them out, fold by fold."""
    for row, report in compared:
        held = report.resources.set_index("resource").loc["core0.array", "busy_s"] * 1e9
        folds = -(-int(row["m"]) // int(row["rows"])) * -(-int(row["n"]) // int(row["cols"]))
        shifted_out = folds * int(row["rows"]) if row["dataflow"] == "os" else 0
        assert held == pytest.approx(int(row["cycles"]) + 1 + shifted_out, abs=1e-3), row


def test_every_operand_is_read_once(compared: list[tuple[Row, Report]]) -> None:
    """There as here, for all of it has room. Its parts of sums go to the DRAM one by one; here they add up first."""
    for row, report in compared:
        summary, results = report.summary.iloc[0], int(row["m"]) * int(row["n"])
        assert summary["dram_read_bytes"] == int(row["input_reads"]) + int(row["filter_reads"]), row
        assert summary["dram_write_bytes"] == results
        parts = 1 if row["dataflow"] == "os" else -(-int(row["k"]) // int(row["rows"]))
        assert int(row["result_writes"]) == pytest.approx(results * parts, rel=1e-4)
