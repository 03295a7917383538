"""Writing a run folder so that it is never seen half written."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from sim.errors import Diagnostic, InputError


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


def _umask() -> int:
    """The process's umask, which can only be read by setting it; mkdtemp makes folders private."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
