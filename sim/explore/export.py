"""A table as a file for other programs: CSV or Parquet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from sim.errors import Diagnostic, InputError

if TYPE_CHECKING:
    import pandas as pd


def export_table(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table as .csv or .parquet; the file appears whole or not at all. Raises InputError."""
    target = Path(path)
    check_export(target)
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        if target.suffix == ".csv":
            table.to_csv(beside, index=False, lineterminator="\n")
        else:
            table.to_parquet(beside, index=False)
        beside.replace(target)
    except OSError as error:
        raise InputError(Diagnostic(f"cannot write the table: {error.strerror}", target)) from error
    finally:
        beside.unlink(missing_ok=True)


def check_export(path: Path) -> None:
    """Raise InputError for a name that no table can be written to: said before a sweep, not after it."""
    if path.suffix not in (".csv", ".parquet"):
        raise InputError(
            Diagnostic(f"unknown kind of table '{path.suffix}'; expected .csv or .parquet", path)
        )
    if not path.absolute().parent.is_dir():
        raise InputError(Diagnostic("no such folder", path.absolute().parent))
    if path.suffix == ".parquet":
        from importlib.util import find_spec

        if find_spec("pyarrow") is None:
            raise InputError(
                Diagnostic("Parquet needs pyarrow", path, hint="pip install 'lepton-sim[parquet]'")
            )
