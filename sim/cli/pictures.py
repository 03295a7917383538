"""The commands that make pictures of what was simulated: plot, report and trace."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sim.cli.commands import app
from sim.cli.options import ChipOption, Engine, MappingOptions, ModelArgument, ModelOptions, grouped
from sim.cli.output import Progress
from sim.errors import Diagnostic, InputError, did_you_mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from sim.explore.study import Study


@dataclasses.dataclass(frozen=True, slots=True)
class StudyOptions:
    """What a figure of a study shows."""

    x: Annotated[
        str | None,
        typer.Option("--x", metavar="COLUMN", help="Of pareto or compare (a metric), or heatmap (a parameter)."),
    ] = None
    y: Annotated[str | None, typer.Option("--y", metavar="COLUMN", help="Likewise.")] = None
    z: Annotated[
        str | None,
        typer.Option("--z", metavar="METRIC", help="Of pareto, which is then in three dimensions."),
    ] = None
    metric: Annotated[
        str | None,
        typer.Option(metavar="METRIC", help="Of sensitivity and heatmap.  [default: the first objective]"),
    ] = None
    study: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of several in a file.  [default: the newest; compare: all]")
    ] = None

    def check(self, kind: str, taken: Sequence[str]) -> None:
        """Raises InputError where an option is given that this figure has no use for."""
        given = [field.name for field in dataclasses.fields(self) if getattr(self, field.name) is not None]
        unused = [f"--{name}" for name in given if name not in taken]
        if unused:
            raise InputError(f"{kind} takes no {', '.join(unused)}")


_TAKEN = {
    "pareto": ("x", "y", "z", "study"),
    "parallel": ("study",),
    "sensitivity": ("metric", "study"),
    "heatmap": ("x", "y", "metric", "study"),
}


@app.command()
@grouped
def plot(
    kind: Annotated[
        str,
        typer.Argument(
            metavar="KIND",
            help="Of a run: roofline, breakdown, energy, timeline, utilisation, power, traffic, floorplan; of "
            "several: compare, energy; of a study: pareto, parallel, sensitivity, heatmap; of studies, or a study and "
            "runs: compare.",
        ),
    ],
    target: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...|STUDY...", help="Run folders (simulate --out DIR) or a study (sweep --out FILE)."
        ),
    ],
    shown: StudyOptions,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A .png, .svg or .pdf.  [default: KIND.png in the run folder or beside the study]",
        ),
    ] = None,
) -> None:
    """Draw a figure of a run, of several runs side by side, or of a study."""
    from sim.plot.draw import check_kind, figure_bytes, use_no_display
    from sim.report.folder import write_file

    check_kind(kind)
    file = out or (target[0].parent if _is_study(target[0]) else target[0]) / f"{kind}.png"
    file_format = _format_of(file)
    use_no_display()
    if kind == "compare" and any(map(_is_study, target)):
        ax = _plot_fronts(target, shown)
    else:
        ax = _plot_study(kind, target, shown) if _is_study(target[0]) else _plot_runs(kind, target, shown)
    write_file(file, figure_bytes(ax, file_format))
    typer.echo(f"figure: {file}")


def _is_study(target: Path) -> bool:
    """A file, or what would be one by its name."""
    return target.is_file() or (target.suffix in (".sqlite", ".db") and not target.is_dir())


def _plot_runs(kind: str, folders: Sequence[Path], shown: StudyOptions) -> Axes:
    from sim.plot.draw import RUN_KINDS, check_kind, plot_runs
    from sim.report.load import load_report

    if folders[0].is_dir():
        check_kind(kind, tuple(RUN_KINDS), "a run")
    reports = [load_report(folder) for folder in folders]
    shown.check(f"{kind} of a run", ())
    return plot_runs(kind, reports)


def _plot_fronts(targets: Sequence[Path], shown: StudyOptions) -> Axes:
    """`compare` where there are studies: their fronts, and runs among them."""
    from sim.explore.store import open_studies
    from sim.plot.fronts import plot_fronts
    from sim.report.load import load_report

    shown.check("compare of studies", ("x", "y", "study"))
    studies = [
        (file, study) for file in filter(_is_study, targets) for study in open_studies(file, shown.study)
    ]
    names = [study.name for _, study in studies]
    tables = {
        study.name if names.count(study.name) == 1 else f"{study.name} ({file.name})": study.designs
        for file, study in studies
    }
    runs = {str(folder): load_report(folder).values for folder in targets if not _is_study(folder)}
    objectives = [one.metric for one in studies[0][1].objectives]
    return plot_fronts(tables, [shown.x or objectives[0], shown.y or (objectives + objectives)[1]], runs)


def _plot_study(kind: str, files: Sequence[Path], shown: StudyOptions) -> Axes:
    from sim.explore.store import open_study
    from sim.plot.draw import STUDY_KINDS, check_kind

    check_kind(kind, STUDY_KINDS, "a study")
    shown.check(kind, _TAKEN[kind])
    if len(files) != 1:
        hint = "compare takes several, and --study one of a file"
        raise InputError(Diagnostic(f"{kind}: found {len(files)} studies; expected one", hint=hint))
    study = open_study(files[0], shown.study)
    ax = _draw_study(kind, study, shown)
    ax.title.set_text(f"{study.name}: {ax.get_title()}".removesuffix(": "))
    return ax


def _draw_study(kind: str, study: Study, shown: StudyOptions) -> Axes:
    from sim.explore.metrics import best_direction
    from sim.explore.sensitivity import steps
    from sim.plot.heatmap import plot_heatmap
    from sim.plot.parallel import plot_parallel
    from sim.plot.pareto import Limit, plot_pareto
    from sim.plot.sensitivity import plot_sensitivity

    table, objectives = study.designs, [one.metric for one in study.objectives]
    # Of parameters that move together, the leading one stands for all.
    parameters = [study.columns[axis.paths[0]][0] for axis in study.space.axes if len(axis.rows) > 1]
    metric = shown.metric or objectives[0]
    if kind == "pareto":
        wanted = [shown.x or objectives[0], shown.y or (objectives + objectives)[1]]
        limits = [Limit(one.metric, one.comparison, one.limit) for one in study.constraints]
        return plot_pareto(table, [*wanted, shown.z] if shown.z else wanted, limits=limits)
    if kind == "parallel":
        return plot_parallel(table, [*parameters, *objectives])
    if kind == "sensitivity":
        return plot_sensitivity(steps(study.table, parameters, metric), metric)
    if len(parameters) < 2 and not (shown.x and shown.y):
        raise InputError(f"heatmap: the study varies {len(parameters)} parameter; expected two or more")
    direction = {one.metric: one.direction for one in study.objectives}.get(metric, best_direction(metric))
    return plot_heatmap(table, shown.x or parameters[0], shown.y or parameters[1], metric, best=direction)


@app.command()
def report(
    target: Annotated[
        Path, typer.Argument(metavar="RUN|STUDY", help="A run folder, or a study (lepton sweep --out FILE).")
    ],
    study: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of several studies in a file.  [default: the newest]")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="[default: report.html in the run folder, STUDY.html beside the study]"
        ),
    ] = None,
) -> None:
    """Write one HTML file of a run or a study, which needs no network: figures, tables, inputs."""
    from sim.explore.store import open_study
    from sim.html import run_page, study_page
    from sim.report.folder import write_file
    from sim.report.load import load_report

    if _is_study(target):
        file, text = out or target.with_suffix(".html"), study_page(open_study(target, study))
    else:
        if study is not None:
            raise InputError("--study names one of the studies in a file; a run folder has none")
        file, text = out or target / "report.html", run_page(load_report(target))
    write_file(file, text.encode())
    typer.echo(f"report: {file}")


@app.command()
@grouped
def trace(
    model: ModelArgument,
    chip: ChipOption,
    variant: ModelOptions,
    mapping: MappingOptions,
    engine: Annotated[
        Engine | None, typer.Option(help="Both give the same result to the tick.  [default: compiled]")
    ] = None,
    once: Annotated[
        bool, typer.Option("--once", help="Repeated segments (layers, decode steps) a single time.")
    ] = False,
    out: Annotated[Path, typer.Option(metavar="FILE", help="A .json or .json.gz.")] = Path("trace.json.gz"),
) -> None:
    """Simulate MODEL on a chip and write every task as a trace for ui.perfetto.dev or vizviewer."""
    from sim.pipeline import simulate as run_simulation
    from sim.report.trace import write_trace

    if not out.name.endswith((".json", ".json.gz")):
        hint = "expected a name that ends in .json or .json.gz"
        raise InputError(Diagnostic(f"--out: '{out.suffix}' is not a format of traces", out, hint=hint))
    with Progress() as progress:
        report = run_simulation(
            model,
            chip,
            **variant.keywords(),
            **mapping.keywords(),
            engine=None if engine is None else engine.value,
            progress=progress,
        )
        progress("writing the trace")
        tasks = write_trace(report, out, once=once)
    typer.echo(f"trace: {out}, {tasks:,} tasks")


def _format_of(file: Path) -> str:
    from sim.plot.draw import FORMATS

    ending = file.suffix.removeprefix(".").lower()
    if ending not in FORMATS:
        hint = did_you_mean(ending, FORMATS) or f"expected a name that ends in .{', .'.join(FORMATS)}"
        raise InputError(Diagnostic(f"--out: '{ending}' is not a format of figures", file, hint=hint))
    return ending
