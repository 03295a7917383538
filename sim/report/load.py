"""Reading a run folder back as the Report that wrote it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sim.errors import Diagnostic, InputError, did_you_mean
from sim.report import tables
from sim.report.folder import table_from_text
from sim.report.manifest import FOLDER_FORMAT
from sim.report.report import Report

_NEEDED = frozenset(("summary.json", "facts.json", "ops.csv", "resources.csv", "energy.csv"))


def load_report(folder: str | Path) -> Report:
    """The report that `Report.save` wrote into `folder`, without its program.

    Raises InputError where there is no run folder, where it is of another version, incomplete or damaged.
    """
    folder = Path(folder)
    manifest = _manifest(folder)
    files = {name: _text(folder / name) for name in manifest["files"]}
    if missing := _NEEDED - files.keys():
        raise _damaged(folder / "manifest.json", f"names no {', '.join(sorted(missing))}")
    about = _json(folder / "facts.json", files["facts.json"])
    values = _json(folder / "summary.json", files["summary.json"])
    try:
        facts, overlap_ps, elapsed_s = about["facts"], about["overlap_ps"], float(values["elapsed_s"])
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(folder / "facts.json", f"has no {error}") from error
    read = {name[:-4]: _table(folder / name, files[name]) for name in sorted(files) if name.endswith(".csv")}
    absent: dict[str, tables.Table] = {
        "stalls": {}, "critical_path": {}, "cache": {}, "parts": tables.parts(facts)
    }  # fmt: skip
    return Report(values, absent | read, overlap_ps, elapsed_s, facts, manifest)


def is_run_folder(path: Path) -> bool:
    """Whether something there claims to be a run folder."""
    return (path / "manifest.json").is_file()


def _manifest(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        what = "is a file; expected a run folder" if folder.exists() else "no such run folder"
        raise InputError(Diagnostic(what, folder, hint=_others(folder)))
    path = folder / "manifest.json"
    if not path.is_file():
        hint = "lepton simulate ... --out DIR writes one"
        raise InputError(Diagnostic("is not a run folder: it has no manifest.json", folder, hint=hint))
    manifest = _json(path, _text(path))
    found = manifest.get("folder_format", 0)
    if found != FOLDER_FORMAT:
        raise InputError(
            Diagnostic(
                f"found run folder format {found}, written by lepton {manifest.get('version', '?')}; "
                f"expected {FOLDER_FORMAT}",
                path,
                hint="simulate again with --out",
            )
        )
    names = manifest.get("files")
    if not isinstance(names, list) or not all(isinstance(n, str) and Path(n).name == n for n in names):
        raise _damaged(path, "has no list of files")
    return manifest


def _others(folder: Path) -> str:
    """Run folders beside the one that is not there."""
    try:
        beside = [path.name for path in folder.absolute().parent.iterdir() if is_run_folder(path)]
    except OSError:
        return ""
    return did_you_mean(folder.name, beside)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise _damaged(path, f"cannot be read: {reason}") from error


def _json(path: Path, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise _damaged(path, f"is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise _damaged(path, "is not a JSON object")
    return found


def _table(path: Path, text: str) -> Mapping[str, list[Any]]:
    try:
        return table_from_text(text)
    except ValueError as error:
        raise _damaged(path, f"is not a table: {error}") from error


def _damaged(path: Path, what: str) -> InputError:
    return InputError(Diagnostic(what, path, hint="the run folder is damaged; simulate again with --out"))
