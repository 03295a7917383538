"""`lepton validate`: the errors of predictions against measured chips, and the fit of a calibration."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sim.cli.options import Fidelity, Format, FormatOption, grouped
from sim.cli.output import Progress, print_json, print_rows
from sim.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from sim.validate.validation import Validation

DATA_VARIABLE = "LEPTON_MEASUREMENTS"
EVALUATIONS = 60


@dataclasses.dataclass(frozen=True, slots=True)
class FitOptions:
    """A fit of the calibration, instead of a comparison."""

    fit: Annotated[
        str | None,
        typer.Option(
            metavar="SCALARS",
            help="Fit these scalars of the calibration (launch_overhead,array_efficiency,...) on half of the rows.",
        ),
    ] = None
    fit_whole: Annotated[
        bool, typer.Option("--fit-whole", help="Fit on all rows, where a half of them is too few.")
    ] = False
    by_plan: Annotated[
        bool,
        typer.Option(
            "--by-plan", help="--fit by the planner's closed form: on more rows, where a simulation takes seconds."
        ),
    ] = False
    evaluations: Annotated[
        int | None,
        typer.Option(min=2, metavar="N", help="Calibrations that --fit tries, about.  [default: 60]"),
    ] = None

    def check(self, comparing: Mapping[str, bool]) -> None:
        """Raise InputError for an option without effect; `comparing`: those of a comparison, and whether given."""
        if self.fit is None:
            given = {
                "--fit-whole": self.fit_whole,
                "--by-plan": self.by_plan,
                "--evaluations": self.evaluations is not None,
            }
            reason = "goes with --fit SCALARS"
        else:
            given = {**comparing, "--fit-whole": self.fit_whole and self.by_plan}
            reason = "has no effect here: --fit" + (" --by-plan" if self.by_plan else "") + " does without it"
        for option, is_given in given.items():
            if is_given:
                raise InputError(f"{option} {reason}")


@dataclasses.dataclass(frozen=True, slots=True)
class MeasuredOptions:
    """Which measurements."""

    data: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            envvar=DATA_VARIABLE,
            help="CSV files of measurements (chip, op, dtype, measured_us, shape). Default: those of the package.",
        ),
    ] = None
    timing: Annotated[
        str | None, typer.Option(metavar="T", help="Only rows whose `regime` or `timing` begins with T.")
    ] = None
    sample: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Only N rows of each kind of operator, evenly over the measured times."
        ),
    ] = None
    most_macs: Annotated[
        float,
        typer.Option(
            min=1, metavar="X", help="Leave out matrix products of more multiply-accumulates.", show_default=False
        ),
    ] = math.inf
    events_to: Annotated[
        float,
        typer.Option(
            min=1,
            metavar="X",
            help="Matrix products of more multiply-accumulates by the closed form.",
            show_default=False,
        ),
    ] = math.inf


@grouped
def validate(
    measured: MeasuredOptions,
    fitting: FitOptions,
    chip: Annotated[
        str | None, typer.Argument(metavar="[CHIP]", help="Default: every chip with measurements.")
    ] = None,
    fidelity: Annotated[
        Fidelity, typer.Option(help="Event simulation, or the closed form: a quick estimate, no lower bound.")
    ] = Fidelity.event,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Worker processes.  [default: one per CPU]")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Also write errors.csv, points.csv, scatter.png and, per chip, CHIP.csv: its error bars.",
        ),
    ] = None,
    output_format: FormatOption = Format.table,
) -> None:
    """Compare predictions with measurements: errors by kind of operator, beside those of a fitted roofline."""
    count = workers or os.cpu_count() or 1
    fitting.check({
        "--sample": measured.sample is not None, "--out": out is not None,
        "--fidelity": fidelity is not Fidelity.event,
        "--events-to": measured.events_to < math.inf and not fitting.by_plan,
    })  # fmt: skip
    if fitting.fit is not None:
        _fit(chip, measured, fitting, count, output_format)
        return
    with Progress() as progress:
        found = _validations(chip, measured, fidelity, count, progress)
        if out is not None:
            _save(found, out)
    if out is not None:
        typer.echo(f"validation folder: {out}", err=True)
    _print(found, output_format)


def _validations(
    chip: str | None, measured: MeasuredOptions, fidelity: Fidelity, workers: int, progress: Progress
) -> list[Validation]:
    """Of one chip, or of every chip that was measured. Raises InputError where there is none."""
    from sim.validate.validation import measured_chips
    from sim.validate.validation import validate as run_validation

    names = [chip] if chip is not None else measured_chips(measured.data)
    if not names:
        raise InputError("no chip of the package has measurements here; --data FOLDER names some")
    return [
        run_validation(
            name,
            measured.data,
            fidelity=fidelity.value,
            timing=measured.timing,
            most_macs=measured.most_macs,
            events_to=measured.events_to,
            sample=measured.sample,
            workers=workers,
            progress=progress,
        )
        for name in names
    ]


def _print(found: Sequence[Validation], output_format: Format) -> None:
    from sim.validate.validation import error_rows

    rows = [row for one in found for row in error_rows(one.errors)]
    if output_format is not Format.table:
        print_rows(rows, output_format, "")
        return
    print_rows([_short(row) for row in rows], output_format, "Errors of predictions, % of the measured time")
    for one in found:
        if one.coverage is not None:
            c = one.coverage
            typer.echo(
                f"{one.chip.name}: error bars of one half hold {c.inside_pct:.0f} % of the other half's rows; "
                f"median width {c.median_width_pct:.0f} %"
            )
        if one.left_out:
            counts = ", ".join(f"{count} x {op}" for op, count in sorted(one.left_out.items()))
            typer.echo(f"{one.chip.name}: not compared: {counts}")


def _short(row: dict[str, Any]) -> dict[str, str]:
    """The columns that fit on a terminal; all of them are in the CSV and JSON."""

    def number(key: str, text: str = "{:.1f}") -> str:
        return "" if row[key] is None else text.format(row[key])

    return {
        "chip": row["chip"],
        "set": row["set"],
        "family": row["family"],
        "regime": row["regime"],
        "rows": str(row["rows"]) + (f" ({row['refused']} refused)" if row["refused"] else ""),
        "mean": number("mean_abs_pct"),
        "median": number("median_abs_pct"),
        "p90": number("p90_abs_pct"),
        "signed": number("median_signed_pct", "{:+.1f}"),
        "unseen": number("unseen_mean_abs_pct"),
        "uncalibrated": number("uncalibrated_mean_abs_pct"),
        "roofline": number("roofline_mean_abs_pct"),
    }


def _save(found: Sequence[Validation], out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import pandas as pd
    from matplotlib import pyplot

    from sim.plot import plot_predicted_measured
    from sim.report.folder import write_folder
    from sim.validate.validation import error_rows, rows_csv

    points = pd.concat([one.points for one in found])
    errors = [row for one in found for row in error_rows(one.errors)]
    files = {"errors.csv": rows_csv(errors), "points.csv": points.to_csv(index=False)}
    for one in found:
        if bars := [dataclasses.asdict(interval) for interval in one.intervals]:
            files[f"{one.chip.name}.csv"] = rows_csv(bars)
    write_folder(out, files)
    figure, axes = pyplot.subplots(
        1, len(found), figsize=(5.2 * len(found), 4.6), layout="constrained", squeeze=False
    )
    for ax, one in zip(axes[0], found, strict=True):
        plot_predicted_measured(one.points, ax)
        ax.set_title(one.chip.name)
    figure.savefig(out / "scatter.png", dpi=110)
    pyplot.close(figure)


def _fitted_rows(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The result of a fit as one table: part, of what (a family of calls, a half of the rows), name and value."""
    found = [("calibration", "", name, value) for name, value in result["calibration"].items()]
    found += [
        ("calls", family, name, value) for family, call in result["calls"].items() for name, value in call.items()
    ]
    found += [
        ("errors", half, name, value)
        for half in ("seen", "unseen")
        for name, value in (result[half] or {}).items()
    ]
    return [dict(zip(("part", "of", "name", "value"), row, strict=True)) for row in found]


def _fit(
    chip: str | None, measured: MeasuredOptions, fitting: FitOptions, workers: int, output_format: Format
) -> None:
    from sim.config import dump
    from sim.hw.chip import load_chip
    from sim.validate.fit import EFFICIENCIES, TIMES, fit_calibration
    from sim.validate.plan_fit import fit_by_plan
    from sim.validate.validation import measured_rows

    if chip is None:
        raise InputError("--fit fits one chip; name it: lepton validate CHIP --fit ...")
    known = {name.removesuffix("_ps"): name for name in (*TIMES, *EFFICIENCIES)}
    names = [name.strip() for name in (fitting.fit or "").split(",") if name.strip()]
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known) or f"known: {', '.join(known)}"
            raise InputError(f"--fit: unknown scalar '{name}'; {hint}")
    on = load_chip(chip)
    with Progress() as progress:
        rows = measured_rows(on.name, measured.data, measured.timing, measured.most_macs)
        chosen = [known[name] for name in names]
        tries = fitting.evaluations or EVALUATIONS
        if fitting.by_plan:
            found = fit_by_plan(
                rows, on, chosen, workers=workers, evaluations=tries, progress=progress, events_to=measured.events_to
            )
        else:
            found = fit_calibration(
                rows, on, chosen, workers=workers, evaluations=tries, whole=fitting.fit_whole, progress=progress
            )
    block = {key: value for key, value in dump(found.calibration).items() if key not in ("source", "notes")}
    result = {
        "calibration": block,
        "calls": {family: dump(call) for family, call in found.calls.items()},
        "evaluations": found.evaluations,
        "seen": None if found.seen is None else dataclasses.asdict(found.seen),
        "unseen": None if found.unseen is None else dataclasses.asdict(found.unseen),
    }
    if output_format is Format.json:
        print_json(result)
        return
    if output_format is Format.csv:
        print_rows(_fitted_rows(result), output_format, "")
        return
    typer.echo("calibration:")
    for key, value in block.items():
        typer.echo(f"  {key}: {value}")
    if found.calls:
        typer.echo("calls:")
    for family, call in found.calls.items():
        typer.echo(f"  {family}: {{{', '.join(f'{key}: {value}' for key, value in dump(call).items())}}}")
    for half in ("seen", "unseen"):
        statistics = result[half]
        if isinstance(statistics, dict):
            shown = ", ".join(f"{name} {value:.1f}" for name, value in statistics.items())
            typer.echo(f"# {half} half of the rows: {shown}")
