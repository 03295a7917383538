"""The commands that make pictures of what was simulated: plot."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sim.cli.commands import app
from sim.errors import Diagnostic, InputError, did_you_mean


@app.command()
def plot(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="roofline, breakdown, energy, timeline, utilisation, power, traffic; compare takes several runs.",
        ),
    ],
    target: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders (lepton simulate --out DIR).")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A .png, .svg or .pdf.  [default: KIND.png in the first run folder]"
        ),
    ] = None,
) -> None:
    """Draw a figure of a run, or of several runs side by side."""
    from sim.plot.draw import RUN_KINDS, check_kind, figure_bytes, plot_runs, use_no_display
    from sim.report.folder import write_file
    from sim.report.load import load_report

    check_kind(kind, tuple(RUN_KINDS))
    file = out or target[0] / f"{kind}.png"
    file_format = _format_of(file)
    reports = [load_report(folder) for folder in target]
    use_no_display()
    write_file(file, figure_bytes(plot_runs(kind, reports), file_format))
    typer.echo(f"figure: {file}")


def _format_of(file: Path) -> str:
    from sim.plot.draw import FORMATS

    ending = file.suffix.removeprefix(".").lower()
    if ending not in FORMATS:
        hint = did_you_mean(ending, FORMATS) or f"expected a name that ends in .{', .'.join(FORMATS)}"
        raise InputError(Diagnostic(f"--out: '{ending}' is not a format of figures", file, hint=hint))
    return ending
