"""The `lepton` command: the only part that prints.

Results go to stdout and nothing else does; progress, warnings and errors go to stderr. Exit code 0 is
success, 1 "does not fit" or failed, 2 bad input, 70 an internal error, 130 interrupted. Everything heavy is
imported inside the commands, so that `lepton --help` answers at once.
"""

from sim.cli.entry import main, run

__all__ = ["main", "run"]
