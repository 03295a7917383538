"""The commands. Each calls the library, then prints one result."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sim import __version__
from sim.cli.options import (
    ChipFormat,
    ChipOption,
    Engine,
    Fidelity,
    Format,
    FormatOption,
    ListFormat,
    ListFormatOption,
    MappingOptions,
    ModelArgument,
    ModelOptions,
    SchemaKind,
    SetOption,
    grouped,
)
from sim.cli.output import Progress, console, print_json, print_rows, print_sourced
from sim.cli.validation import validate
from sim.errors import InputError

if TYPE_CHECKING:
    from sim.hw.chip import Chip

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
show_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
list_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(show_app, name="show", help="Print a chip, model, partition, program, technology or DRAM.")
app.add_typer(list_app, name="list", help="List chips, models, nodes, DRAMs, spaces, metrics or parameters.")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lepton {__version__}")
        raise typer.Exit


@app.callback()
def lepton(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Simulate a model on a candidate accelerator chip: where the time goes, where the energy goes, how far
    from the lower bound.
    """


@app.command()
@grouped
def simulate(
    model: ModelArgument,
    chip: ChipOption,
    variant: ModelOptions,
    mapping: MappingOptions,
    fidelity: Annotated[
        Fidelity, typer.Option(help="Event simulation, or the closed form: a quick estimate, no lower bound.")
    ] = Fidelity.event,
    engine: Annotated[
        Engine | None, typer.Option(help="Both give the same result to the tick.  [default: compiled]")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Also write a run folder.")] = None,
    output_format: FormatOption = Format.table,
) -> None:
    """Simulate MODEL on a chip and report time, energy and distance from the lower bound."""
    from sim.pipeline import simulate as run_simulation

    with Progress() as progress:
        report = run_simulation(
            model,
            chip,
            **variant.keywords(),
            **mapping.keywords(),
            fidelity=fidelity.value,
            engine=None if engine is None else engine.value,
            progress=progress,
        )
        if out is not None:
            report.save(out)
    if out is not None:
        typer.echo(f"run folder: {out}", err=True)
    if output_format is Format.json:
        print_json(report.to_json())
    elif output_format is Format.csv:
        typer.echo(report.to_csv(), nl=False)
    else:
        from sim.report.text import render_text

        render_text(report, console())


@app.command()
@grouped
def check(
    target: Annotated[
        str, typer.Argument(metavar="CHIP|MODEL", help="A chip; with --chip, a model to put on it.")
    ],
    variant: ModelOptions,
    mapping: MappingOptions,
    chip: Annotated[
        str | None, typer.Option("--chip", metavar="CHIP", help="Check the model on this chip.")
    ] = None,
    values: Annotated[
        bool, typer.Option("--values", help="Also compute it tile by tile, and compare with NumPy.")
    ] = False,
) -> None:
    """Check a chip file, or that a model loads, fits and lowers on a chip; nothing is simulated."""
    if chip is None:
        if values:
            raise InputError("--values compares the numbers of a model; add --chip CHIP")
        _refuse_unused(variant, mapping)
        _refuse_model(target)
        _check_chip(target, mapping.keywords()["overrides"])
        return
    _refuse_sampling(mapping)
    from sim.pipeline import plan

    with Progress() as progress:
        graph, on_chip, program = plan(
            target, chip, **variant.keywords(), **mapping.keywords(), progress=progress
        )
        program.validate()
    typer.echo(f"model:   {graph.name}: {len(graph.ops):,} operators, {graph.macs:,} MACs per pass,")
    typer.echo(f"         {graph.parameter_count:,} parameters in {graph.weight_bytes:,} B")
    _warn(on_chip)
    capacity = on_chip.dram.capacity_bytes
    typer.echo(f"fits:    {on_chip.name}, {capacity:,} B of DRAM")
    parts = f"{len(program.queues):,} queues, {len(program.links):,} links"
    typer.echo(f"lowers:  {program.tasks:,} tasks on {parts}; valid")
    if values:
        _check_values(target, chip, variant, mapping)


app.command()(validate)


@show_app.command("chip")
def show_chip(
    chip: Annotated[str, typer.Argument(metavar="CHIP", help="A name, a .yaml file or a SCALE-Sim .cfg.")],
    overrides: SetOption = None,
    output_format: Annotated[
        ChipFormat, typer.Option("--format", help="yaml loads again as a chip file.")
    ] = ChipFormat.table,
) -> None:
    """Draw a chip and print its fully expanded configuration."""
    from sim.hw.chip import load_chip

    loaded = load_chip(chip, overrides or ())
    if output_format is ChipFormat.json:
        print_json(loaded.expanded())
        return
    if output_format is ChipFormat.table:
        from sim.hw.drawing import drawing

        typer.echo(drawing(loaded))
        typer.echo()
        _warn(loaded)
    from sim.cli.views import yaml_text

    typer.echo(yaml_text(loaded.expanded()), nl=False)


@show_app.command("model")
@grouped
def show_model(
    model: ModelArgument, variant: ModelOptions, output_format: FormatOption = Format.table
) -> None:
    """Print the operators of a model as they are loaded, before any fusing."""
    from sim.cli.views import graph_rows, graph_title
    from sim.graph.load import load_model

    graph = load_model(model, **variant.keywords())
    print_rows(graph_rows(graph), output_format, graph_title(graph))


@show_app.command("partition")
@grouped
def show_partition(
    model: ModelArgument,
    chip: ChipOption,
    variant: ModelOptions,
    mapping: MappingOptions,
    output_format: FormatOption = Format.table,
) -> None:
    """Print how a model is divided over the cores: work, memory and cut of every part, and one core beside it."""
    _refuse_sampling(mapping)
    from sim.cli.views import partition_rows, partition_title
    from sim.pipeline import plan

    with Progress() as progress:
        _, _, program = plan(
            model, chip, **variant.keywords(), **mapping.keywords(), baseline=True, progress=progress
        )
    print_rows(partition_rows(program), output_format, partition_title(program))


@show_app.command("program")
@grouped
def show_program(
    model: ModelArgument,
    chip: ChipOption,
    variant: ModelOptions,
    mapping: MappingOptions,
    output_format: FormatOption = Format.table,
) -> None:
    """Print what a model was lowered to: tasks and bytes of every operator."""
    _refuse_sampling(mapping)
    from sim.cli.views import program_rows, program_title
    from sim.pipeline import plan

    with Progress() as progress:
        _, _, program = plan(model, chip, **variant.keywords(), **mapping.keywords(), progress=progress)
    print_rows(program_rows(program), output_format, program_title(program))


@show_app.command("technology")
def show_technology(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as n7: lepton list technologies.")],
    output_format: FormatOption = Format.table,
) -> None:
    """Print the energies and areas of a technology node, each with its source."""
    from sim.cli.views import data_file_rows

    rows = data_file_rows("hw_configs/technology", name, "technology")
    if output_format is Format.table:
        print_sourced(rows, f"Technology {name}")
    else:
        print_rows(rows, output_format, f"Technology {name}")


@show_app.command("dram")
def show_dram(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as hbm3: lepton list drams.")],
    output_format: FormatOption = Format.table,
) -> None:
    """Print a DRAM device: each number with its source, efficiency and latency by access pattern."""
    from sim.cli.views import dram_latency_rows, dram_pattern_rows, dram_rows

    if output_format is not Format.table:
        print_rows(dram_rows(name), output_format, f"DRAM device {name}")
        return
    print_sourced(dram_latency_rows(name), f"DRAM device {name}")
    print_rows(
        dram_pattern_rows(name),
        output_format,
        "\nShare of a channel's peak by access pattern and by transfers that take turns (streams);\n"
        "a store bears the cost of turning the bus, as where half of the bytes are loaded",
    )


@show_app.command("area")
def show_area(
    chip: Annotated[str, typer.Argument(metavar="CHIP", help="A name, a .yaml file or a SCALE-Sim .cfg.")],
    overrides: SetOption = None,
    output_format: FormatOption = Format.table,
) -> None:
    """Print what a chip's die consists of, by component."""
    from sim.cli.views import area_rows
    from sim.hw.chip import load_chip

    loaded = load_chip(chip, overrides or ())
    rows = area_rows(loaded)
    total = sum(row["area_mm2"] for row in rows)
    print_rows(rows, output_format, f"Die of {loaded.name}: {total:.1f} mm2 at {loaded.technology}")


@show_app.command("cost")
def show_cost(
    chip: Annotated[str, typer.Argument(metavar="CHIP", help="A name, a .yaml file or a SCALE-Sim .cfg.")],
    overrides: SetOption = None,
    output_format: FormatOption = Format.table,
) -> None:
    """Print what a good chip with its DRAM costs to make, by component."""
    from sim.cli.views import cost_rows, cost_title
    from sim.hw.chip import load_chip

    loaded = load_chip(chip, overrides or ())
    print_rows(cost_rows(loaded), output_format, cost_title(loaded))


@show_app.command("schema")
def show_schema(
    kind: Annotated[SchemaKind, typer.Argument(help="Which kind of file.")] = SchemaKind.CHIP,
) -> None:
    """Print the JSON Schema of a chip, workload or partition file: editors complete and check with it."""
    from sim.cli.views import file_schema

    print_json(file_schema(kind.value))


@list_app.command("chips")
def chips(output_format: ListFormatOption = ListFormat.table) -> None:
    """The chips that come with lepton."""
    from sim.cli.views import chip_rows

    print_rows(chip_rows(), output_format, "Chips")


@list_app.command("models")
def models(output_format: ListFormatOption = ListFormat.table) -> None:
    """The models that come with lepton."""
    from sim.cli.views import model_rows

    print_rows(model_rows(), output_format, "Models")


@list_app.command("parameters")
def parameters(output_format: ListFormatOption = ListFormat.table) -> None:
    """Every parameter of a chip file: path, unit, default and meaning."""
    from sim.cli.views import parameter_rows

    print_rows(parameter_rows(), output_format, "Parameters of a chip file")


@list_app.command("technologies")
def technologies(output_format: ListFormatOption = ListFormat.table) -> None:
    """The technology nodes that come with lepton; `lepton show technology` has every number and its source."""
    from sim.cli.views import technology_rows

    print_rows(technology_rows(), output_format, "Technology nodes")


@list_app.command("drams")
def drams(output_format: ListFormatOption = ListFormat.table) -> None:
    """The DRAM devices that come with lepton, by channel; `lepton show dram` has every number and its source."""
    from sim.cli.views import device_rows

    print_rows(device_rows(), output_format, "DRAM devices")


@list_app.command("spaces")
def spaces(output_format: ListFormatOption = ListFormat.table) -> None:
    """The design spaces that come with lepton, for lepton sweep."""
    from sim.cli.views import space_rows

    print_rows(space_rows(), output_format, "Design spaces")


@list_app.command("metrics")
def metrics(output_format: ListFormatOption = ListFormat.table) -> None:
    """Columns of a report that a sweep can have as --objective or --constraint."""
    from sim.cli.views import metric_rows

    print_rows(metric_rows(), output_format, "Metrics of a report")


@app.command()
def init(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The chip file to write.")] = Path("chip.yaml"),
) -> None:
    """Write a commented chip file to start from; an existing file is never overwritten."""
    from sim.hw.chip import chip_template

    text = chip_template()
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        reason = "exists already; name another file" if isinstance(error, FileExistsError) else error.strerror
        raise InputError(f"cannot write {file}: {reason}") from error
    typer.echo(f"wrote {file}; next: lepton check {file}")


def _check_chip(name: str, overrides: Sequence[str]) -> None:
    from sim.hw.chip import load_chip
    from sim.hw.scalesim_cfg import SUFFIX as SCALESIM_SUFFIX

    chip = load_chip(name, overrides)
    _warn(chip)
    typer.echo(f"{name}: ok")
    typer.echo(chip.summary_text())
    if Path(name).suffix.lower() == SCALESIM_SUFFIX:
        typer.echo(textwrap.fill(chip.notes, 100, initial_indent="  notes  ", subsequent_indent=" " * 9))


def _check_values(model: str, chip: str, variant: ModelOptions, mapping: MappingOptions) -> None:
    from sim.pipeline import verify_values

    with Progress() as progress:
        found = verify_values(model, chip, **variant.keywords(), **mapping.keywords(), progress=progress)
    typer.echo(f"values:  {found.tasks:,} tasks, computed tile by tile with random numbers; against NumPy")
    for output in found.outputs:
        allowed = "none is allowed" if output.exact else f"{found.tolerance:g} of it is allowed"
        typer.echo(
            f"         {output.name}: {output.elements:,} elements, largest magnitude "
            f"{output.largest_magnitude:.4g}, largest difference {output.largest_difference:.2g}; {allowed}"
        )
    if found.error:
        typer.echo(f"         {found.error}")
    races = "too many tasks to check" if found.races is None else f"{found.races:,}"
    typer.echo(f"races:   {races}")
    typer.echo(f"verdict: the program {'computes' if found.passed else 'DOES NOT compute'} the model")
    if not found.passed:
        raise typer.Exit(1)


def _warn(chip: Chip) -> None:
    from sim.hw.chip import check_chip

    for warning in check_chip(chip):
        typer.echo(f"warning: {chip.name}: {warning}", err=True)


def _refuse_model(target: str) -> None:
    from sim.graph.load import list_models

    named = target in {row.name for row in list_models()}
    if named or target.startswith("gemm:") or target.endswith((".onnx", ".json", ".csv")):
        raise InputError(f"'{target}' is a model; add --chip CHIP to check it on a chip")


def _refuse_unused(*groups: ModelOptions | MappingOptions) -> None:
    """Checking a chip alone takes no option but --set."""
    for field, value in ((f, getattr(group, f.name)) for group in groups for f in dataclasses.fields(group)):
        if value != field.default and field.name != "overrides":
            option = f"--{field.name.replace('_', '-')}"
            raise InputError(f"{option} says how a model runs; add --chip CHIP to check a model on a chip")


def _refuse_sampling(mapping: MappingOptions) -> None:
    if mapping.sample_layers is not None:
        raise InputError("--sample-layers chooses which layers are simulated; this command simulates none")
