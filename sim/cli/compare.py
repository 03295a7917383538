"""`lepton compare`: a model on several chips, or a chip beside an earlier run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sim.cli.commands import app
from sim.cli.options import Fidelity, Format, FormatOption, MappingOptions, ModelOptions, grouped
from sim.cli.output import Progress, console, csv_text, json_text, print_json, print_rows
from sim.errors import Diagnostic, InputError
from sim.units import format_quantity

if TYPE_CHECKING:
    from sim.explore.compare import Comparison, Difference

TOP = 8


@app.command()
@grouped
def compare(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="As in simulate; with --baseline, default: the run's."),
    ] = None,
    chip: Annotated[
        list[str] | None, typer.Option("--chip", metavar="CHIP", help="Repeatable; ratios are to the first.")
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(metavar="RUN", help="A run folder: what changed since.")
    ] = None,
    variant: ModelOptions = ModelOptions(),  # noqa: B008
    mapping: MappingOptions = MappingOptions(),  # noqa: B008
    fidelity: Annotated[
        Fidelity | None, typer.Option(help="Event simulation, or the closed form: a quick estimate, no lower bound.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the whole comparison, as .json or .csv.")
    ] = None,
    output_format: FormatOption = Format.table,
) -> None:
    """Compare MODEL on several chips, or with an earlier run: ratios, and what the difference is made of."""
    from sim.explore.compare import compare as run_comparison

    if out is not None and out.suffix not in (".json", ".csv"):
        hint = "expected a name that ends in .json or .csv"
        raise InputError(Diagnostic(f"--out: '{out.suffix}' is not a format of comparisons", out, hint=hint))
    options = {**variant.keywords(), **mapping.keywords()}
    if baseline is not None and options["inputs"] == 1:
        del options["inputs"]  # the run's own, unless said
        options |= {} if options["partition"] != "auto" else {"partition": None}
    if fidelity is not None:
        options["fidelity"] = fidelity.value
    with Progress() as progress:
        found = run_comparison(model, chip or (), baseline=baseline, progress=progress, **options)
    if out is not None:
        _write(found, out)
    _print(found, output_format)
    if out is not None:
        typer.echo(f"comparison: {out}", err=True)


def _document(found: Comparison, readable: bool = False) -> dict[str, Any]:
    """What is compared, and its parts as rows; numbers plain, in base units, unless they are to be `readable`."""
    names = [side.name for side in found.sides]
    title = ", ".join(dict.fromkeys(str(side.values["workload"]) for side in found.sides))
    return {
        "workload": title,
        "chips": names,
        "time_by": found.time_of,
        "metrics": _rows(found.metrics, names, ratios=True, readable=readable),
        "settings": _rows(found.settings, names, text=True),
        "time_s": _rows(found.time, names),
        "energy_j": _rows(found.energy, names),
    }


def _write(found: Comparison, file: Path) -> None:
    """All parts: as one document, or as one table with the part in its first column and a ratio where there is one."""
    from sim.report.folder import write_file

    document = _document(found)
    if file.suffix == ".json":
        write_file(file, json_text(document).encode())
        return
    columns = list(document["metrics"][0])
    rows = [
        {"part": part, **{column: row.get(column) for column in columns}}
        for part in ("metrics", "settings", "time_s", "energy_j")
        for row in document[part]
    ]
    write_file(file, csv_text(rows).encode())


def _print(found: Comparison, output_format: Format) -> None:
    blocks = _document(found, readable=output_format is Format.table)
    title, names = blocks["workload"], blocks["chips"]
    if output_format is Format.json:
        print_json(blocks)
        return
    if output_format is Format.csv:
        print_rows(blocks["metrics"], output_format, title)
        return
    print_rows(blocks["metrics"], output_format, f"{title}: {' beside '.join(names)}")
    typer.echo()
    for side in range(1, len(names)):
        typer.echo(fill(_verdict(found, side), console().width, subsequent_indent="  "))
    if blocks["settings"]:
        typer.echo()
        print_rows(blocks["settings"], output_format, "What differs in the inputs")
    for lines, unit, what in (
        (found.time, "time", f"Where the time differs, by {found.time_of}"),
        (found.energy, "energy", "Where the energy differs"),
    ):
        typer.echo()
        print_rows(_changes(lines, names, unit), output_format, what)


def _verdict(found: Comparison, side: int) -> str:
    """One line: how much longer or shorter, and what it is made of."""
    from sim.explore.compare import causes

    first, other = found.sides[0], found.sides[side]
    before, now = (sum(line.values[at] or 0.0 for line in found.time) for at in (0, side))
    if not before or not now or before == now:
        return f"{other.name} takes as long as {first.name}."
    more = now - before
    factor = max(now, before) / min(now, before)
    parts = ", ".join(
        f"{what} {_signed(change, 'time')} ({change / more:.0%})" for what, change in causes(found, side)
    )
    if more > 0:
        head = f"{other.name} takes {factor:.3g} times as long as {first.name}"
    else:
        head = f"{other.name} is {factor:.3g} times as fast as {first.name}"
    return f"{head}, {_signed(more, 'time')}: {parts}."


def _signed(value: float, unit: str) -> str:
    return f"{'+' if value >= 0 else '-'}{format_quantity(abs(value), unit)}"


def _rows(
    lines: Sequence[Difference],
    names: Sequence[str],
    *,
    ratios: bool = False,
    text: bool = False,
    readable: bool = False,
) -> list[dict[str, Any]]:
    """One row per line: what, a value per side, and the ratio to the first of every other."""
    from sim.explore.metrics import show_metric

    rows = []
    for line in lines:
        row: dict[str, Any] = {"what": line.what}
        for name, value in zip(names, line.values, strict=True):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            row[name] = (
                show_metric(line.what, value) if readable and number else _text(value) if text else value
            )
        for name, value in list(zip(names, line.values, strict=True))[1:] if ratios else ():
            first = line.values[0]
            row[f"{name} / {names[0]}"] = value / first if first and value is not None else None
        rows.append(row)
    return rows


def _changes(lines: Sequence[Difference], names: Sequence[str], unit: str) -> list[dict[str, Any]]:
    """The lines that explain most, the rest in one, and the total; changes are against the first side."""
    shown = [(line.what, [value or 0.0 for value in line.values]) for line in lines[:TOP]]
    rest = [[value or 0.0 for value in line.values] for line in lines[TOP:]]
    if rest:
        shown.append((f"{len(rest)} more", [sum(column) for column in zip(*rest, strict=True)]))
    whole = [[value or 0.0 for value in line.values] for line in lines]
    shown.append(("total", [sum(column) for column in zip(*whole, strict=True)]))
    rows = []
    for what, values in shown:
        row = {"what": what} | {
            name: format_quantity(value, unit) for name, value in zip(names, values, strict=True)
        }
        for name, value in list(zip(names, values, strict=True))[1:]:
            row[f"{name} - {names[0]}"] = _signed(value - values[0], unit)
        rows.append(row)
    return rows


def _text(value: Any) -> str:
    if isinstance(value, list) and not any(isinstance(item, list) for item in value):
        return "x".join(map(str, value))
    return "" if value is None else str(value)
