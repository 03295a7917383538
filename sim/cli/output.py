"""Printing rows and JSON, and saying what is going on while it takes long."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from sim.cli.options import Format, ListFormat

if TYPE_CHECKING:
    from rich.console import Console

Row = Mapping[str, Any]

UNFOLDED = 12  # a column of texts up to this long is not narrowed, whatever the width of the terminal


def print_json(value: Any) -> None:
    """One JSON document; a NaN is a bug and raises ValueError."""
    import json

    typer.echo(json.dumps(value, indent=2, allow_nan=False))


def console() -> Console:
    """The terminal, or 100 columns where output goes elsewhere."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=100)


def print_rows(rows: Sequence[Row], output_format: Format | ListFormat, title: str) -> None:
    """Print rows with the same keys; numbers stay plain everywhere but in the table."""
    columns = list(rows[0]) if rows else []
    if output_format.value == "json":
        print_json(list(rows))
    elif output_format.value == "csv":
        import csv

        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(row.values() for row in rows)
    elif output_format.value == "markdown":
        typer.echo(f"# {title}\n\n| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
        for row in rows:
            typer.echo("| " + " | ".join(_cell(value).replace("|", "\\|") for value in row.values()) + " |")
    else:
        _print_table(rows, columns, title)


def _print_table(rows: Sequence[Row], columns: Sequence[str], title: str) -> None:
    from textwrap import fill

    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in columns:
        cells = [_cell(row[name]) for row in rows]
        numeric = all(isinstance(row[name], int | float | None) for row in rows)
        solid = numeric or name == columns[0] or max(map(len, cells)) <= UNFOLDED
        width = max(map(len, [*name.split("_"), *(cells if solid else ())]))
        heading = Text(fill(name.replace("_", " "), width))
        table.add_column(heading, justify="right" if numeric else "left", no_wrap=solid, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row.values()))
    console().print(Text(f"{title}\n"), table)


def _cell(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


class Progress:
    """Says on stderr what is being done, once a command has taken a second: one line that is rewritten on a
    terminal, a line per stage elsewhere."""

    def __init__(self, after_s: float = 1.0) -> None:
        self._began = time.monotonic()
        self._stage = "loading"
        self._lock = threading.Lock()
        self._awake = False
        self._terminal = sys.stderr.isatty()
        self._timer = threading.Timer(after_s, self._wake)
        self._timer.daemon = True

    def __enter__(self) -> Progress:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            if self._awake and self._terminal:
                sys.stderr.write("\r\x1b[K")
            self._awake = False

    def __call__(self, stage: str) -> None:
        """The pipeline enters `stage`."""
        with self._lock:
            self._stage = stage
            self._show()

    def _wake(self) -> None:
        with self._lock:
            self._awake = True
            self._show()

    def _show(self) -> None:
        if not self._awake:
            return
        line = f"{time.monotonic() - self._began:6.1f} s  {self._stage}"
        sys.stderr.write(f"\r\x1b[K{line}" if self._terminal else f"{line}\n")
        sys.stderr.flush()
