"""From the first instruction of the `lepton` command: signals and streams, before anything that takes long is imported.

Ctrl-C is no KeyboardInterrupt, which versions of typer turn into different exit codes, and which inside a callback of
compiled code becomes an error of another kind.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import Any

INTERRUPTED = 130
"""Exit code of a shell's command that Ctrl-C ended."""

_RARELY = 200_000
"""New objects, less those that are gone, between two collections of garbage: what a command imports and makes lives as
long as it, and looking through it again and again takes a sixth of the time of a short one."""


class _Ended:
    """Has Ctrl-C ended this command?"""

    by_user = False


def main() -> None:
    """Entry point of the `lepton` command."""
    signal.signal(signal.SIGINT, _interrupt)
    sys.unraisablehook = _quietly
    if hasattr(signal, "SIGPIPE"):  # end quietly where the reader of our output went away, as filters do
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if sys.stdout is None:  # the shell closed it: nobody reads
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (it is the standard output from here on)
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # a terminal without box characters shows "?" instead of failing
            reconfigure(errors="replace")
    gc.set_threshold(_RARELY)
    from sim.cli.entry import run

    code = run(sys.argv[1:])
    gc.freeze()  # all of it ends now: no need to look through it once more
    sys.exit(INTERRUPTED if _Ended.by_user and code else code)


def interrupted() -> bool:
    """Was Ctrl-C what made something fail?"""
    return _Ended.by_user


def _interrupt(*_: object) -> None:
    if not _Ended.by_user and sys.stderr is not None:
        sys.stderr.write("interrupted\n")
    _Ended.by_user = True
    raise SystemExit(INTERRUPTED)


def _quietly(unraisable: Any) -> None:
    """What cannot be raised where it happens, as in a callback of compiled code, is told, but for our own end."""
    if not _Ended.by_user:
        sys.__unraisablehook__(unraisable)
