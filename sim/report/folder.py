"""Writing a run folder so that it is never seen half written, and its tables as text."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from sim.errors import Diagnostic, InputError

TEXT_COLUMNS = frozenset({
    "name", "kind", "segment", "dtype", "unit", "bound_by", "split", "tile", "order", "resident", "staying", "notes",
    "resource", "op", "cause", "component",
})  # fmt: skip
"""Columns that hold words even where every word of a run looks like a number."""
_INTEGER = re.compile(r"-?[0-9]+")


def table_text(table: Mapping[str, list[Any]]) -> str:
    """A table as CSV; floats in full precision, None and "" are empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table)
    writer.writerows(zip(*table.values(), strict=True))
    return text.getvalue()


def table_from_text(text: str) -> dict[str, list[Any]]:
    """A table from CSV as `table_text` writes it: an empty cell is None, in a column of words "".

    Raises ValueError where there is no header or rows differ in length.
    """
    rows = list(csv.reader(io.StringIO(text)))
    if not rows:
        raise ValueError("no column names")
    columns = list(zip(*rows[1:], strict=True)) or [()] * len(rows[0])
    return {name: _cells(name, cells) for name, cells in zip(rows[0], columns, strict=True)}


def _cells(column: str, cells: Sequence[str]) -> list[Any]:
    """Numbers, or words where a cell is none or the column has only words."""
    if column in TEXT_COLUMNS:
        return list(cells)
    try:
        return [_number(cell) for cell in cells]
    except ValueError:
        return list(cells)


def _number(cell: str) -> int | float | None:
    if not cell:
        return None
    return int(cell) if _INTEGER.fullmatch(cell) else float(cell)


def write_folder(folder: Path, files: Mapping[str, str]) -> Path:
    """Write text files into `folder`; returns it.

    They are written beside it first. A folder that does not exist yet then appears by one rename; in one
    that does, each file is replaced by one rename and everything else is left alone. Raises InputError
    where that is not allowed.
    """
    folder = folder.absolute()
    if folder.exists() and not folder.is_dir():
        raise InputError(Diagnostic("is a file; expected a folder to write to", folder))
    scratch: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        within = folder if folder.is_dir() else folder.parent
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=within))
        for name, text in files.items():
            (scratch / name).write_text(text, encoding="utf-8")
        if folder.is_dir():
            for name in files:
                os.replace(scratch / name, folder / name)
        else:
            scratch.chmod(0o777 & ~_umask())
            os.replace(scratch, folder)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            Diagnostic(f"cannot be written: {reason}", folder, hint="choose another --out")
        ) from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
    return folder


@contextmanager
def written_file(file: Path) -> Iterator[BinaryIO]:
    """A stream to write one file with: beside its place, then moved there by one rename.

    Raises InputError where that is not allowed. A file that was there stays until the new one is whole; after an
    error nothing of the new one is left.
    """
    file = file.absolute()
    if file.is_dir():
        raise InputError(Diagnostic("is a folder; expected a file to write to", file))
    scratch: str | None = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, scratch = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        with os.fdopen(handle, "wb") as stream:
            yield stream
        os.chmod(scratch, 0o666 & ~_umask())
        os.replace(scratch, file)
        scratch = None
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(Diagnostic(f"cannot be written: {reason}", file, hint="choose another --out")) from error
    finally:
        if scratch is not None:
            Path(scratch).unlink(missing_ok=True)


def write_file(file: Path, data: bytes) -> Path:
    """Write one file as a whole or not at all; returns its absolute path. Raises InputError, see written_file."""
    with written_file(file) as stream:
        stream.write(data)
    return file.absolute()


def _umask() -> int:
    """The process's umask, which can only be read by setting it; mkdtemp makes folders private."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
