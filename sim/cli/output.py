"""Printing rows and JSON, and saying what is going on while it takes long."""

from __future__ import annotations

import re
import sys
import textwrap
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import typer

from sim.cli.options import Format, ListFormat

if TYPE_CHECKING:
    from rich.console import Console

Row = Mapping[str, Any]

SHORTEST_LINE = 16  # characters of a column whose texts go over several lines
UNFOLDED = 12  # a column of texts up to this long is not narrowed, whatever the width of the terminal


def print_json(value: Any) -> None:
    """One JSON document; a NaN is a bug and raises ValueError."""
    typer.echo(json_text(value), nl=False)


def json_text(value: Any) -> str:
    """One JSON document as the content of a file. Raises ValueError for a NaN."""
    import json

    return f"{json.dumps(value, indent=2, allow_nan=False)}\n"


def csv_text(rows: Sequence[Row]) -> str:
    """Rows with the same keys as the content of a CSV file."""
    import csv
    import io

    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(list(rows[0]) if rows else [])
    writer.writerows(row.values() for row in rows)
    return stream.getvalue()


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
        typer.echo(csv_text(rows), nl=False)
    elif output_format.value == "markdown":
        typer.echo(f"# {title}\n\n| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
        for row in rows:
            typer.echo("| " + " | ".join(_cell(value).replace("|", "\\|") for value in row.values()) + " |")
    else:
        _print_table(rows, columns, title)


def print_sourced(rows: Sequence[Row], title: str) -> None:
    """Numbers with their `source` as a table; what several have in common stands below it, once, by a number."""
    from collections import Counter

    times = Counter(str(row["source"]) for row in rows)
    shared = {text: f"[{place}]" for place, text in enumerate((t for t in times if t and times[t] > 2), start=1)}
    short = [{**row, "source": shared.get(str(row["source"]), row["source"])} for row in rows]
    _print_table(short, list(short[0]), title)
    wrap = textwrap.TextWrapper(console().width, subsequent_indent="    ", break_long_words=False)
    for text, place in shared.items():
        typer.echo(wrap.fill(f"{place} {text}"))


def _print_table(rows: Sequence[Row], columns: Sequence[str], title: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    on = console()
    cells = {name: [_cell(row[name]) for row in rows] for name in columns}
    numeric = {name: all(isinstance(row[name], int | float | None) for row in rows) for name in columns}
    longest = {name: max(map(len, cells[name])) for name in columns}
    solid = [n for n in columns if numeric[n] or n == columns[0] or longest[n] <= UNFOLDED]
    least = {name: longest[name] if name in solid else 0 for name in columns}
    wide = {name: max(longest[name], *map(len, name.split("_"))) + 1 for name in columns}
    breaks = "_" if sum(wide.values()) <= on.width else "_."  # parts of paths stand in lines only where they must
    headings = {name: _folded(name, breaks, least[name]) for name in columns}
    for name in columns:
        justify: Literal["left", "right"] = "right" if numeric[name] else "left"
        whole = max(least[name], *map(len, headings[name].split("\n"))) if name in solid else None
        table.add_column(
            Text(headings[name]), justify=justify, no_wrap=name in solid, overflow="fold", min_width=whole
        )
    for row in zip(*cells.values(), strict=True):
        table.add_row(*map(Text, row))
    on.print(Text(f"{title}\n"))
    # No value is cut, however narrow the terminal: rather a word in two lines, and at last a long line.
    words = [max(map(len, " ".join(cells[name]).split()), default=0) for name in columns if name not in solid]
    needed = Measurement.get(on, on.options.update(width=10_000), table).minimum
    needed -= sum(max(0, longest_word - SHORTEST_LINE) for longest_word in words)
    (Console(width=needed) if needed > on.width else on).print(table)


def _folded(name: str, breaks: str, width: int) -> str:
    """A heading in lines of up to `width` characters where it can be broken: "core.array.rows", "energy per input"."""
    width = max([width, *(len(part.rstrip("_")) for part in re.findall(f"[^{breaks}]+[{breaks}]?", name))])
    lines = [""]
    for part in re.findall(f"[^{breaks} ]+[{breaks} ]?", name):
        if len((lines[-1] + part).rstrip("_ ")) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(line.rstrip("_ ").replace("_", " ") for line in lines)


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
