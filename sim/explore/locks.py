"""One writer at a time: a locked file beside the study, held by the process that writes it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import IO

from sim.errors import Diagnostic, InputError


def take_lock(path: Path) -> IO[str]:
    """A lock beside the file that ends with its process, however that ends. Raises InputError if it is taken."""
    beside = path.with_name(f"{path.name}.lock")
    while True:
        try:
            handle = beside.open("a+", encoding="utf-8")
        except OSError as error:
            raise InputError(Diagnostic(f"cannot write the study: {error.strerror}", path)) from error
        try:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            return handle  # no such locks on this system: SQLite's own keep the file whole
        except OSError:
            raise _taken(path, handle) from None
        if _is_the_one(handle, beside):
            handle.truncate(0)
            handle.write(str(os.getpid()))
            handle.flush()
            return handle
        handle.close()


def give_up_lock(handle: IO[str]) -> None:
    """Remove the file while it is locked, so that nobody locks a file that others do not see."""
    with suppress(OSError):
        Path(handle.name).unlink()
    handle.close()


def _is_the_one(handle: IO[str], beside: Path) -> bool:
    """Whether the locked file is still there: the last writer may have removed it between opening and locking."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), beside.stat())
    except FileNotFoundError:
        return False


def _taken(path: Path, handle: IO[str]) -> InputError:
    handle.seek(0)
    owner = handle.read().strip()
    handle.close()
    who = f"process {owner}" if owner else "another process"
    hint = "wait for it, or name another file for --out"
    return InputError(Diagnostic(f"the study is being written by {who}", path, hint=hint))
