"""The `lepton` command: the only part that prints.

Results go to stdout and nothing else does; progress, warnings and errors go to stderr. Exit code 0 is
success, 1 "does not fit" or failed, 2 bad input, 70 an internal error, 130 interrupted. Everything heavy is
imported inside the commands, so that `lepton --help` answers at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from sim.cli.start import main

__all__ = ["main", "run"]


def run(arguments: Sequence[str]) -> int:
    """Run one command line in this process, with its signals as they are; the exit code."""
    from sim.cli.entry import run as run_command

    return run_command(arguments)
