"""`lepton sweep`: a design space from a file or from options, evaluated, and its front."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sim.cli.commands import app
from sim.cli.options import Format, FormatOption, ModelOptions, SetOption, grouped
from sim.cli.output import Progress, print_json, print_rows
from sim.errors import Diagnostic, InputError
from sim.units import format_quantity

if TYPE_CHECKING:
    from threading import Event

    from sim.explore.preview import Preview
    from sim.explore.progress import Progress as SweepProgress
    from sim.explore.space import Space
    from sim.explore.study import Study


class Sampler(StrEnum):
    """Which points of a space are evaluated."""

    grid = "grid"
    random = "random"
    sobol = "sobol"
    nsga2 = "nsga2"
    nsga3 = "nsga3"
    tpe = "tpe"


class SweepFidelity(StrEnum):
    """Closed form, events, or the first to find and the second to confirm."""

    bound = "bound"
    event = "event"
    screen = "screen"


@dataclasses.dataclass(frozen=True, slots=True)
class SpaceOptions:
    """What is varied, in place of a file or on top of it."""

    chip: Annotated[
        str | None, typer.Option("--chip", metavar="CHIP", help="Base chip, where there is no SPACE.")
    ] = None
    workload: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="A model (repeatable); takes the place of the file's."),
    ] = None
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH=VALUES",
            help="64,128,256 or FROM..TO+STEP or FROM..TO*FACTOR; PATH,PATH=... change together (repeatable).",
        ),
    ] = None
    constraint: Annotated[
        list[str] | None, typer.Option(metavar="LIMIT", help="Such as 'power_w <= 75 W' (repeatable).")
    ] = None
    objective: Annotated[
        list[str] | None,
        typer.Option(metavar="METRIC[:min|max]", help="The order breaks ties (repeatable)."),
    ] = None
    overrides: SetOption = None


@dataclasses.dataclass(frozen=True, slots=True)
class WorkOptions:
    """Who does the work, and what is kept of it."""

    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Processes.  [default: one per processor]")
    ] = None
    scheduler: Annotated[
        str | None, typer.Option(metavar="tcp://HOST:PORT", help="Of a Dask cluster, instead of processes.")
    ] = None
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="A point that takes longer, with reading its model, is failed."),
    ] = None
    out: Annotated[
        Path | None,
        typer.Option(metavar="STUDY.sqlite", help="Keep the study; what it has is not done again."),
    ] = None
    export: Annotated[
        Path | None, typer.Option(metavar="FILE", help="All points as .csv or .parquet.")
    ] = None
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try points again that failed.")
    ] = False


@app.command()
@grouped
def sweep(
    space: Annotated[
        str | None, typer.Argument(metavar="SPACE", help="A name (edge_vision, ...) or a .yaml file.")
    ] = None,
    what: SpaceOptions = SpaceOptions(),
    variant: ModelOptions = ModelOptions(),  # noqa: B008
    sampler: Annotated[
        Sampler, typer.Option(help="Guided ones get a random search beside them.")
    ] = Sampler.grid,
    budget: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Points to evaluate; not needed by the grid.")
    ] = None,
    fidelity: Annotated[
        SweepFidelity,
        typer.Option(
            help="bound: the closed form, an estimate; screen: all by it, the front and its neighbourhood by events."
        ),
    ] = SweepFidelity.event,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of samplers.")] = 0,
    slack: Annotated[
        float,
        typer.Option(min=0, metavar="X", help="Share by which a design may miss the screening's front."),
    ] = 0.1,
    work: WorkOptions = WorkOptions(),
    output_format: FormatOption = Format.table,
) -> None:
    """Evaluate a design SPACE and print its Pareto front. Ctrl-C keeps what is done, and prints the front so far."""
    from sim.explore.export import check_export
    from sim.explore.preview import preview
    from sim.explore.sweep import sweep as run_sweep

    if work.export is not None:
        check_export(work.export)
    loaded = _space(space, what, variant)
    _tell(preview(loaded))
    with Progress() as progress, _stop_on_interrupt() as stop:
        study = run_sweep(
            loaded,
            sampler=sampler.value,
            budget=budget,
            fidelity=fidelity.value,
            seed=seed,
            slack=slack,
            workers=work.workers,
            scheduler=work.scheduler,
            timeout_s=work.timeout,
            out=work.out,
            retry_failed=work.retry_failed,
            progress=lambda now: progress(progress_text(now)),
            say=progress,
            stop=stop,
        )
    if work.export is not None:
        study.export(work.export)
    _print_study(study, output_format)
    if work.out is not None:
        typer.echo(f"study: {work.out}", err=True)
    if stop.is_set():
        more = "" if work.out is None else "; the same command goes on where it was"
        typer.echo(f"interrupted: this is the front so far{more}", err=True)
        raise typer.Exit(130)
    if study.rows and all(row.status != "ok" for row in study.rows):
        raise typer.Exit(1)


@contextmanager
def _stop_on_interrupt() -> Iterator[Event]:
    """An event that Ctrl-C sets; a second one ends the program. Only where the command line handles signals."""
    import signal
    import threading

    stop = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    mine = threading.current_thread() is threading.main_thread() and before is not signal.default_int_handler

    def first(*_: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    if mine:
        signal.signal(signal.SIGINT, first)
    try:
        yield stop
    finally:
        if mine:
            signal.signal(signal.SIGINT, before)


def progress_text(now: SweepProgress) -> str:
    """One line: what is done, failed and on the front, how fast, how long it takes."""
    left = "" if now.left_s is None else f", {format_quantity(now.left_s, 'time')} left"
    known = f" ({now.known:,} known)" if now.known else ""
    return (
        f"{now.part}: {now.done:,} of {now.total:,}{known}, {now.failed:,} without numbers, "
        f"front {now.front:,}, {now.rate_per_s:,.3g} points/s{left}"
    )


def _space(name: str | None, what: SpaceOptions, variant: ModelOptions) -> Space:
    """The space that the options describe. Raises InputError where they contradict each other."""
    from sim.explore.space_file import load_space, space_from_dict
    from sim.hw.overrides import parse_overrides

    changes: dict[str, Any] = {
        "options": variant.keywords(),
        "workloads": what.workload or (),
        "constraints": what.constraint or (),
        "objectives": _objectives(what.objective or ()),
        "overrides": parse_overrides(what.overrides or ()),
    }
    if name is not None:
        if what.chip or what.vary:
            raise InputError("a space file has its own chip and parameters; give SPACE, or --chip and --vary")
        return load_space(name, **changes)
    if not (what.chip and what.vary):
        hint = "lepton sweep edge_vision, or lepton sweep --chip tiny --workload lenet5 --vary core.array.rows=8,16"
        raise InputError(Diagnostic("nothing to vary: expected SPACE, or --chip and --vary", hint=hint))
    parameters = _varied(what.vary)
    stem = Path(what.chip).stem
    return space_from_dict({"name": f"{stem} sweep", "chip": what.chip, "parameters": parameters}, **changes)


def _varied(texts: Sequence[str]) -> dict[str, Any]:
    """["core.array.rows,core.array.cols=64,128"] as the parameters of a space file."""
    found: dict[str, Any] = {}
    for text in texts:
        paths, equals, values = (part.strip() for part in text.partition("="))
        names = [path.strip() for path in paths.split(",")]
        if not equals or not values or not all(names):
            example = "core.array.rows=64,128,256 or core.sram.size=1 MiB..8 MiB*2"
            raise InputError(
                Diagnostic(f"found '{text}'; expected PATH=VALUES", "--vary", hint=f"such as {example}")
            )
        for path in names:
            if path in found:
                raise InputError(Diagnostic("given twice", "--vary", path=path))
            found[path] = {"follows": names[0]} if path != names[0] else _values(values, text)
    return found


def _values(text: str, whole: str) -> Any:
    """A range FROM..TO+STEP or FROM..TO*FACTOR, or a list of YAML values."""
    from sim.hw.overrides import parse_value

    start, dots, rest = text.partition("..")
    if not dots:
        return parse_value(f"[{text}]", whole)
    for sign, key in (("*", "factor"), ("+", "step")):
        end, found, by = rest.partition(sign)
        if found:
            parts = (("from", start), ("to", end), (key, by))
            return {name: parse_value(part.strip(), whole) for name, part in parts}
    raise InputError(Diagnostic(f"found '{whole}'; expected FROM..TO+STEP or FROM..TO*FACTOR", "--vary"))


def _objectives(texts: Sequence[str]) -> dict[str, str]:
    """["latency_s", "throughput_per_s:max"] with a direction each."""
    from sim.explore.metrics import best_direction

    found: dict[str, str] = {}
    for text in texts:
        metric, _, direction = text.partition(":")
        if direction not in ("", "min", "max"):
            raise InputError(
                Diagnostic(f"found '{text}'; expected METRIC, METRIC:min or METRIC:max", "--objective")
            )
        found[metric] = direction or best_direction(metric)
    return found


def _tell(found: Preview) -> None:
    """What is known beforehand, on stderr."""
    text = f"space: {found.size:,} points"
    if found.duplicates:
        text += f"; left out {found.duplicates:,} given twice"
    if found.infeasible:
        checked = "" if found.checked == found.size else f" of {found.checked:,} looked at"
        text += f"; {found.infeasible:,}{checked} cannot be:"
    typer.echo(text, err=True)
    for reason, count in sorted(found.reasons.items(), key=lambda item: -item[1])[:5]:
        typer.echo(f"  {count:,} x {reason}", err=True)


def _print_study(study: Study, output_format: Format) -> None:
    from sim.explore.summary import (
        baseline_rows,
        disagreement_rows,
        front_rows,
        study_title,
        unheld,
        without_numbers,
    )

    for count, reason in without_numbers(study):
        typer.echo(f"without numbers: {count:,} x {reason.removeprefix('error: ')}", err=True)

    for line in unheld(study):
        typer.echo(f"no design holds every constraint: {line}", err=True)
    front = front_rows(study, readable=output_format is Format.table)
    if output_format is Format.json:
        print_json({
            "study": study.name, "front": front, "hypervolume": baseline_rows(study),
            "disagreement": disagreement_rows(study),
        })  # fmt: skip
        return
    if front or output_format is Format.csv:
        print_rows(front, output_format, study_title(study))
    else:
        typer.echo(study_title(study))
    if output_format is Format.csv:
        return
    for rows, title in (
        (disagreement_rows(study), "Events over the closed form, of the confirmed designs"),
        (baseline_rows(study), "Share of the space of objectives dominated, beside random search"),
    ):
        if rows:
            typer.echo()
            print_rows(rows, output_format, title)
