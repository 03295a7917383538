"""From a command line to an exit code."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from sim import __version__
from sim.cli import compare as _compare  # noqa: F401 (registers its command)
from sim.cli import pictures as _pictures  # noqa: F401 (likewise)
from sim.cli import sweep as _sweep  # noqa: F401 (likewise)
from sim.cli.commands import app
from sim.cli.start import INTERRUPTED, interrupted
from sim.errors import InputError, LeptonError


def _summaries(of: typer.Typer) -> None:
    """The first sentence of every command for the list of commands, whole: typer cuts it at 45 characters."""
    for command in of.registered_commands:
        about = " ".join((command.callback.__doc__ or "").split()) if command.callback else ""
        command.short_help = about.partition(". ")[0].removesuffix(".") + "."
    for group in of.registered_groups:
        if group.typer_instance is not None:
            _summaries(group.typer_instance)


_summaries(app)
_REPORT = "this is a bug: please report it with the command and what it prints with LEPTON_DEBUG=1"


_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


def _output_failed(error: OSError) -> int:
    """One line for a disk that is full. What is still buffered is let go, or Python tries again at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    typer.echo(f"error: cannot write the output: {error.strerror}", err=True)
    return LeptonError.exit_code


def _crash(error: Exception) -> int:
    """One line for an error nobody foresaw; the traceback only where it was asked for."""
    import traceback

    if os.environ.get("LEPTON_DEBUG") == "1":
        traceback.print_exc()
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    what = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    typer.echo(f"internal error in lepton {__version__}: {what}{place}; {_REPORT}", err=True)
    return 70


def run(arguments: Sequence[str]) -> int:
    """Run one command line; the exit code."""
    try:
        try:
            app(args=list(arguments), prog_name="lepton")
        finally:
            if sys.stdout is not None:  # as it is where the shell closed it
                sys.stdout.flush()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except LeptonError as error:
        typer.echo(str(error), err=True)
        return error.exit_code
    except Exception as error:
        if interrupted():
            return INTERRUPTED
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return _output_failed(error)
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            typer.echo(f"error: {str(error.filename)[:60]}...: {error.strerror}", err=True)
            return InputError.exit_code
        return _crash(error)
    return 0
