"""A run folder reads back as the report that wrote it; anything else is refused with the reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import sim
from sim.errors import InputError
from sim.report.folder import table_from_text, table_text, write_file
from sim.report.load import load_report
from sim.report.report import Report


@pytest.fixture(scope="module")
def report() -> Report:
    return sim.simulate("lenet5", chip="lepton_m", dtype="int8", partition="pipeline", inputs=3)


@pytest.mark.parametrize("fidelity", ["event", "bound"])
def test_what_was_saved_is_loaded(report: Report, fidelity: str, tmp_path: Path) -> None:
    if fidelity == "bound":
        report = sim.simulate("gpt2", chip="tiny", dtype="int8", phase="decode", kv=8, fidelity="bound")
    loaded = load_report(report.save(tmp_path / "run"))
    assert loaded.to_json() == report.to_json()
    assert loaded.elapsed_s == report.elapsed_s
    assert dict(loaded.overlap_ps) == dict(report.overlap_ps)
    assert json.dumps(loaded.facts) == json.dumps(dict(report.facts))
    assert loaded.all_tables.keys() == report.all_tables.keys()
    for name, table in report.all_tables.items():
        assert loaded.all_tables[name] == table, name
    assert (loaded.tables["stalls"] == {}) == (fidelity == "bound")


def test_a_closed_form_over_an_event_run_leaves_no_old_timeline(report: Report, tmp_path: Path) -> None:
    report.save(tmp_path)
    sim.simulate("lenet5", chip="lepton_m", dtype="int8", fidelity="bound").save(tmp_path)
    assert load_report(tmp_path).timeline.empty


def test_words_stay_words_and_numbers_numbers() -> None:
    table = {
        "name": ["1", "2e5", ""],
        "x": [1, 2.0, None],
        "free": ["1", "one", ""],
        "y": [-3, 10**20, 1e-300],
    }
    assert table_from_text(table_text(table)) == table
    assert [type(v) for v in table_from_text(table_text(table))["x"]] == [int, float, type(None)]
    assert table_from_text("a,b\n") == {"a": [], "b": []}
    with pytest.raises(ValueError, match=r"shorter|longer"):
        table_from_text("a,b\n1\n")


def refused(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_report(folder)
    return str(caught.value)


def test_what_is_no_run_folder_is_refused(report: Report, tmp_path: Path) -> None:
    report.save(tmp_path / "first_run")
    assert "no such run folder; did you mean 'first_run'?" in refused(tmp_path / "frst_run")
    assert "is not a run folder: it has no manifest.json" in refused(tmp_path)
    assert "is a file; expected a run folder" in refused(tmp_path / "first_run" / "ops.csv")


def test_another_version_is_refused(report: Report, tmp_path: Path) -> None:
    report.save(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    for found in (0, 2):
        (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "folder_format": found}))
        assert f"manifest.json: error: found run folder format {found}, written by lepton" in refused(
            tmp_path
        )
    del manifest["folder_format"]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert "expected 1; simulate again with --out" in refused(tmp_path)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("ops.csv", "a,b\n1\n", "ops.csv: error: is not a table"),
        ("ops.csv", None, "ops.csv: error: cannot be read: No such file"),
        ("summary.json", "{", "summary.json: error: is not JSON"),
        ("summary.json", "[]", "summary.json: error: is not a JSON object"),
        ("facts.json", "{}", "facts.json: error: has no 'facts'"),
        ("manifest.json", '{"folder_format": 1, "files": ["../ops.csv"]}', "has no list of files"),
        ("manifest.json", '{"folder_format": 1, "files": ["ops.csv"]}', "names no energy.csv, facts.json"),
    ],
)
def test_a_damaged_folder_is_refused(
    report: Report, tmp_path: Path, file: str, text: str | None, message: str
) -> None:
    report.save(tmp_path)
    if text is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(text)
    found = refused(tmp_path)
    assert message in found
    assert "the run folder is damaged; simulate again with --out" in found


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "a.png"
    assert write_file(file, b"one") == file
    write_file(file, b"two")
    assert file.read_bytes() == b"two"
    assert [path.name for path in file.parent.iterdir()] == ["a.png"]
    with pytest.raises(InputError, match="is a folder; expected a file"):
        write_file(tmp_path, b"")
    with pytest.raises(InputError, match="cannot be written"):
        write_file(file / "below.png", b"")
