"""`lepton check`, `init`, `list` and `show`: what they print is right, and loads again where it is a file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from command_line import Lepton, assert_refused

ROOT = Path(__file__).parent.parent


def test_check_of_a_model(lepton: Lepton) -> None:
    result = lepton("check", "gemm:8x16x32", "--chip", "tiny", "--dtype", "int8")
    assert result.code == 0
    assert "4,096 MACs" in result.out
    assert "valid" in result.out


def test_check_of_the_values_of_a_model(lepton: Lepton) -> None:
    result = lepton("check", "gemm:8x16x32", "--chip", "tiny", "--dtype", "int8", "--values")
    assert result.code == 0
    for words in ("128 elements", "races:   0", "verdict: the program computes the model"):
        assert words in result.out


def test_check_of_values_that_are_wrong(lepton: Lepton, monkeypatch: pytest.MonkeyPatch) -> None:
    from sim.engine.verification import ComparedTensor, Verification

    output = ComparedTensor("y", 128, 2.5, 40.0, exact=True)
    found = Verification("gemm", "tiny", 9, (output,), None)
    monkeypatch.setattr("sim.pipeline.verify_values", lambda *_, **__: found)
    result = lepton("check", "gemm:8x16x32", "--chip", "tiny", "--dtype", "int8", "--values")
    assert result.code == 1
    assert "y: 128 elements, largest magnitude 40, largest difference 2.5; none is allowed" in result.out
    assert "too many tasks to check" in result.out
    assert "DOES NOT compute" in result.out


def test_init_makes_a_chip_that_check_accepts_and_never_overwrites(lepton: Lepton, tmp_path: Path) -> None:
    assert lepton("init").code == 0
    written = (tmp_path / "chip.yaml").read_text(encoding="utf-8")
    assert lepton("check", "chip.yaml").code == 0
    assert_refused(lepton("init", "chip.yaml"), 2, "chip.yaml", "exists")
    assert (tmp_path / "chip.yaml").read_text(encoding="utf-8") == written
    assert_refused(lepton("init", "absent/chip.yaml"), 2, "absent/chip.yaml")


def test_shown_chip_loads_again(lepton: Lepton, tmp_path: Path) -> None:
    from sim.hw.chip import load_chip

    shown = lepton("show", "chip", "lepton_m", "--set", "core.array.rows=64", "--format", "yaml")
    (tmp_path / "again.yaml").write_text(shown.out, encoding="utf-8")
    assert load_chip(tmp_path / "again.yaml") == load_chip("lepton_m").replace("core.array.rows", 64)
    assert json.loads(lepton("show", "chip", "lepton_m", "--format", "json").out)["cores"][0]["count"] == 8
    assert "tensor" in lepton("show", "chip", "lepton_m").out


def test_shown_model_program_and_partition_add_up(lepton: Lepton) -> None:
    model = json.loads(lepton("show", "model", "gemm:8x16x32", "--format", "json").out)
    assert [row["macs"] for row in model] == [8 * 16 * 32]
    program = json.loads(
        lepton("show", "program", "gemm:8x16x32", "--chip", "tiny", "--dtype", "int8", "--format", "json").out
    )
    assert sum(row["matmul"] for row in program) >= 1
    assert sum(row["moved_bytes"] for row in program) >= (8 * 32 + 32 * 16 + 8 * 16)
    whole = lepton("show", "partition", "gemm:512x512x512", "--chip", "lepton_m", "--format", "json")
    parts = json.loads(whole.out)
    assert len(parts) == 8
    assert sum(row["stored_bytes"] for row in parts) == 512 * 512 * 2


@pytest.mark.parametrize("what", ["chips", "models", "parameters", "technologies", "drams"])
def test_lists_agree_in_every_format(lepton: Lepton, what: str) -> None:
    import csv

    rows = json.loads(lepton("list", what, "--format", "json").out)
    table = list(csv.DictReader(lepton("list", what, "--format", "csv").out.splitlines()))
    assert len(rows) == len(table) >= 7
    assert {tuple(row) for row in rows} == {tuple(table[0])}
    printed = [["" if value is None else str(value) for value in row.values()] for row in rows]
    assert printed == [list(row.values()) for row in table]
    assert max(map(len, lepton("list", what).out.splitlines())) <= 100


def test_shown_numbers_carry_their_source(lepton: Lepton) -> None:
    for what, name, unsourced in (("dram", "hbm3", set()), ("technology", "n7", {"node_nm"})):
        rows = json.loads(lepton("show", what, name, "--format", "json").out)
        assert {row["name"] for row in rows if not row["source"]} == unsourced
    values = {row["name"]: row["value"] for row in rows}
    every = (ROOT / "hw_configs" / "dram").glob("*.yaml")
    assert {lepton("show", "dram", path.stem).code for path in every} == {0}
    assert (values["mul.int8"], values["sram_read[8 KiB]"]) == ("0.07 pJ", "0.9375 pJ/B")


def test_the_table_of_a_dram_fits_a_screen_or_two_and_has_mixtures_and_streams(lepton: Lepton) -> None:
    """A source that all numbers share stands there once. Half and half: the times of loads and stores add up."""
    lines = lepton("show", "dram", "hbm2e").out.splitlines()
    assert len(lines) < 100
    assert sum("JESD235C" in line for line in lines) == 1
    assert max(map(len, lines)) <= 100
    rows = {tuple(line.split()[:2]): line.split() for line in lines if line.startswith("sequential")}
    assert [(row[1], row[-1]) for row in rows.values()] == [("1", "no"), ("4", "yes"), ("16", "no")]
    for row in rows.values():
        load, half, store = map(float, row[2:5])
        assert store < half < load < 1
        assert half == pytest.approx(2 / (1 / load + 1 / store), rel=1e-3)
    # More streams turn the bus less often: each has its 4 KiB before the next direction's turn.
    assert float(rows["sequential", "16"][4]) > 1.4 * float(rows["sequential", "4"][4])
    table = lepton("show", "technology", "n7").out.splitlines()
    assert sum("Ten Lessons" in line and "Table 2" in line for line in table) <= 4  # sram_read says more


@pytest.mark.parametrize("kind", ["chip", "workload", "partition"])
def test_schemas_say_what_editors_may_complete(lepton: Lepton, kind: str) -> None:
    result = lepton("show", "schema", kind)
    assert result.code == 0
    schema = json.loads(result.out)
    expected = {"chip": "cores", "workload": "family", "partition": "pipeline"}[kind]
    assert expected in schema["properties"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["version"] == {"const": 1}


def test_show_area_and_cost(lepton: Lepton) -> None:
    shown = lepton("show", "area", "tpu_v1", "--format", "json")
    rows = {row["component"]: row["area_mm2"] for row in json.loads(shown.out)}
    # The arrays of TPU v1 are 30 % of 331 mm2, its memories 37 %.
    assert rows["arrays"] == pytest.approx(99.4, rel=0.01)
    assert "Die of tpu_v1: 330.4 mm2 at n28" in lepton("show", "area", "tpu_v1").out
    cost = lepton("show", "cost", "tpu_v4", "--format", "csv").out.splitlines()
    assert cost[0] == "component,cost_usd,share"
    assert [line.split(",")[0] for line in cost[1:]] == ["die", "dram", "package", "test", "assembly_loss"]
    title = lepton("show", "cost", "tpu_v1").out.splitlines()[0]
    assert re.fullmatch(r"tpu_v1: \d+ USD; 175 dies on a wafer, of which 85% are good", title.strip())
