"""Reading a space: a YAML file of hw_configs/spaces/ or anyone's, or the options of a command line.

version: 1
name: edge
chip: lepton_s                                   # a name, or a path relative to this file
workloads:
  - {model: mobilenet_v2, dtype: int8, weight: 3}
parameters:
  core.array.rows: [16, 32, 64]
  core.array.cols: {follows: core.array.rows}
  core.sram.size: {from: 256 KiB, to: 4 MiB, factor: 2}
  workload.batch: [1, 4]
constraints: [power_w <= 5 W]
objectives: {latency_s: min, energy_j: min, area_mm2: min}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from sim.config import (
    Document,
    Field,
    Part,
    data_dir,
    document_from_data,
    find_resource,
    is_path,
    load_yaml,
    validate,
)
from sim.errors import Diagnostic, InputError, did_you_mean
from sim.explore.metrics import (
    Constraint,
    Direction,
    Objective,
    check_metric,
    contradiction,
    parse_constraint,
)
from sim.explore.space import DIMS, OPTIONS, WORKLOAD, Axis, Space, Workload
from sim.explore.values import Value, expand, follow
from sim.hw.chip import NAMED_FILES, Chip, load_chip

FOLDER = "hw_configs/spaces"
DEFAULT_OBJECTIVES = {"latency_s": "min", "energy_j": "min", "area_mm2": "min"}
MAX_POINTS = 10**15
COMMAND_LINE = "the command line"

CHECKED_VALUES = 64
"""Of one parameter, evenly spread: a wrong one among the others shows at its points."""


@dataclass(frozen=True, slots=True)
class WorkloadBlock(Part):
    """A model of the mix, and how it is run unless a parameter `workload.*` says otherwise."""

    model: Annotated[str, Field(min_length=1, description="a name of workloads/, a path, or gemm:MxNxK")]
    name: Annotated[str, Field(description="before its columns; default: the model")] = ""
    weight: Annotated[float, Field(gt=0, description="how often it runs, relative to the others")] = 1.0
    batch: Annotated[int | None, Field(ge=1, description="items per pass")] = None
    dtype: Annotated[str | None, Field(description="number format")] = None
    weights: Annotated[str | None, Field(description="packed weights: int4, int8, fp8, or int4:64 (a group)")] = None
    phase: Annotated[str | None, Field(description="prefill, decode or generate")] = None
    seq: Annotated[int | None, Field(ge=1, description="tokens of the input")] = None
    kv: Annotated[int | None, Field(ge=0, description="tokens already in the cache")] = None
    new_tokens: Annotated[int | None, Field(ge=1, description="tokens to generate")] = None
    chips: Annotated[int | None, Field(ge=1, description="chips that share a transformer's layers")] = None
    inputs: Annotated[int | None, Field(ge=1, description="back-to-back inputs")] = None
    partition: Annotated[str | None, Field(description="how it is divided over the cores")] = None
    dataflow: Annotated[str | None, Field(description="instead of the chip's own")] = None
    density: Annotated[
        float | None, Field(gt=0, le=1, description="share of activations that are not zero")
    ] = None
    attention: Annotated[
        Literal["stored", "fused", "auto"] | None, Field(description="attention scores: in memory, or on the chip")
    ] = None
    sample_layers: Annotated[
        int | None, Field(ge=3, description="of equal layers that a shared cache tells apart, how many are simulated")
    ] = None
    dims: Annotated[
        Mapping[str, Annotated[int, Field(ge=1)]], Field(description="symbolic dimensions of an ONNX file")
    ] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SpaceFile(Part):
    """The whole file."""

    name: Annotated[str, Field(min_length=1, description="of the study")]
    chip: Annotated[
        str, Field(min_length=1, description="the base chip: a name, or a path relative to this file")
    ]
    parameters: Annotated[Mapping[str, Any], Field(min_length=1, description="values by path")]
    workloads: Annotated[tuple[WorkloadBlock, ...], Field(description="the mix; more by --workload")] = ()
    constraints: Annotated[tuple[str, ...], Field(description="METRIC <= LIMIT, for every workload")] = ()
    objectives: Annotated[
        Mapping[str, Direction], Field(min_length=1, description="min or max; their order breaks ties")
    ] = field(default_factory=lambda: dict(DEFAULT_OBJECTIVES))  # type: ignore[arg-type]


def list_spaces() -> tuple[str, ...]:
    """Names of the spaces that come with the package."""
    from sim.config import list_resources

    return list_resources(FOLDER)


def load_space(name_or_path: str | Path, **changes: Any) -> Space:
    """A space by name (hw_configs/spaces/) or path, with changes by keyword, as the options of `lepton sweep`:
    `workloads` (names of models, in place of the file's), `options` (as of sim.simulate, for every workload),
    `constraints` (added: ["power_w <= 75 W"]), `objectives` (in place of the file's: {"latency_s": "min"}) and
    `overrides` of the base chip ({"core.array.rows": 64}).

    Raises InputError with every complaint at its file, line and column.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml") and len(path.parts) == 1:
        path = find_resource(FOLDER, str(name_or_path), what="space")
    return space_from_document(load_yaml(path, search=data_dir(FOLDER)), **changes)


def space_from_dict(data: Mapping[str, Any], **changes: Any) -> Space:
    """A space from data in the shape of a file; `changes` as space_from_document. Raises InputError."""
    return space_from_document(document_from_data(data, COMMAND_LINE), **changes)


def space_from_document(
    document: Document,
    *,
    workloads: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    constraints: Sequence[str] = (),
    objectives: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Space:
    """A space from a loaded document. Models in `workloads` and `objectives` take the place of the file's,
    `constraints` are added, `options` (as of sim.simulate) are set for every workload, `overrides` change the base
    chip. Raises InputError with all complaints."""
    data = dict(document.data)
    given: dict[tuple[str | int, ...], str] = {}
    if workloads:
        data["workloads"] = [{"model": model} for model in workloads]
    if objectives:
        data["objectives"] = dict(objectives)
        given[("objectives",)] = "--objective"
    if constraints:
        own = data.get("constraints", ())
        data["constraints"] = [*own, *constraints]
        given |= {("constraints", len(own) + at): "--constraint" for at in range(len(constraints))}
    document = document.with_data(data, given)
    blocks = validate(document, SpaceFile)
    chip = _base_chip(blocks.chip, document, overrides or {})
    assert chip.document is not None  # a loaded chip has one
    mix = _workloads(blocks, document, bool(workloads), options or {})
    complaints = _mix_complaints(mix, document)
    axes, duplicates, found = _axes(blocks.parameters, document)
    complaints += found
    complaints += _path_complaints(axes, chip, document)
    names = [workload.name for workload in mix]
    limits, found = _constraints(blocks.constraints, names, document)
    complaints += found
    complaints += _objective_complaints(blocks.objectives, names, document)
    if complaints:
        raise InputError(complaints)
    aims = tuple(Objective(metric, direction) for metric, direction in blocks.objectives.items())
    space = Space(blocks.name, chip.document.data, mix, axes, limits, aims, duplicates)
    if space.size > MAX_POINTS:
        raise InputError(
            document.complaint(("parameters",), f"{space.size:.3g} points; at most {MAX_POINTS:.0e}")
        )
    return space


def _base_chip(name: str, document: Document, overrides: Mapping[str, object]) -> Chip:
    """The chip by name or path. Raises InputError at the place where the file names one that there is not."""
    try:
        return load_chip(_relative(name, document), overrides)
    except InputError as error:
        if overrides or any(one.line is not None for one in error.diagnostics):
            raise
        told = ((f"{one.file}: " if one.file else "") + one.message for one in error.diagnostics)
        hint = error.diagnostics[0].hint
        raise InputError([document.complaint(("chip",), message, hint) for message in told]) from error


def _relative(name: str, document: Document) -> str:
    """A path in a file is relative to the file; names stay names."""
    path = Path(name)
    if document.folder is None or path.is_absolute() or not (path.suffix or "/" in name) or ":" in name:
        return name
    return str(document.folder / path)


def _whole_path(value: Value, document: Document) -> Value:
    """The absolute path of a file, if it is one: points are evaluated elsewhere."""
    return str(Path(_relative(value, document)).absolute()) if isinstance(value, str) and is_path(value) else value


def _workloads(
    blocks: SpaceFile, document: Document, given: bool, options: Mapping[str, Any]
) -> tuple[Workload, ...]:
    """The mix; models that were `given` are no paths relative to the file."""
    said = {key: value for key, value in options.items() if value not in (None, {})}
    found = []
    for block in blocks.workloads:
        own = {key: getattr(block, key) for key in OPTIONS if getattr(block, key) is not None}
        if block.dims:
            own["dims"] = dict(block.dims)
        model = block.model if given else _relative(block.model, document)
        found.append(Workload(model, block.name or _short_name(block.model), block.weight, own | said))
    return tuple(found)


def _short_name(model: str) -> str:
    """Of a path, the file without its ending; names and gemm:MxNxK as they are."""
    return Path(model).stem if Path(model).suffix or "/" in model else model


def _mix_complaints(mix: Sequence[Workload], document: Document) -> list[Diagnostic]:
    if not mix:
        hint = "add workloads: to the file, or --workload MODEL"
        return [document.complaint((), "no workload: there is nothing to simulate", hint)]
    names = [workload.name for workload in mix]
    twice = {name for name in names if names.count(name) > 1}
    return [
        document.complaint(("workloads",), f"two workloads are named '{name}'", "give one of them a name:")
        for name in sorted(twice)
    ]


def _axes(given: Mapping[str, Any], document: Document) -> tuple[tuple[Axis, ...], int, list[Diagnostic]]:
    """One axis per parameter that leads, with those that follow it; how many values were given twice; complaints."""
    complaints: list[Diagnostic] = []
    columns: dict[str, list[Value]] = {}
    leader = {path: value["follows"] for path, value in given.items() if _follows(value)}
    for path, value in given.items():
        if path not in leader:
            try:
                columns[path] = expand(value)
            except ValueError as error:
                complaints.append(document.complaint(("parameters", path), str(error)))
    for path, lead in leader.items():
        if lead not in columns:
            if lead in leader or lead not in given:
                hint = (
                    did_you_mean(str(lead), [p for p in given if p not in leader])
                    or "name one that follows none"
                )
                message = f"found follows: {lead}, which is no parameter that leads"
                complaints.append(document.complaint(("parameters", path), message, hint))
            continue
        try:
            columns[path] = follow(columns[lead], {k: v for k, v in given[path].items() if k != "follows"})
        except ValueError as error:
            complaints.append(document.complaint(("parameters", path), str(error)))
    for path in NAMED_FILES:
        if path in columns:
            columns[path] = [_whole_path(value, document) for value in columns[path]]
    axes, duplicates = [], 0
    for path in (p for p in given if p in columns and p not in leader):
        paths = (path, *(p for p, lead in leader.items() if lead == path and p in columns))
        rows = list(zip(*(columns[p] for p in paths), strict=True))
        unique = tuple({_typed(row): row for row in reversed(rows)}.values())[::-1]
        duplicates += len(rows) - len(unique)
        axes.append(Axis(paths, unique))
    return tuple(axes), duplicates, complaints


def _typed(row: tuple[Value, ...]) -> tuple[tuple[str, Value], ...]:
    """A key that tells true from 1."""
    return tuple((type(value).__name__, value) for value in row)


def _follows(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("follows"), str)


def _path_complaints(axes: Sequence[Axis], chip: Chip, document: Document) -> list[Diagnostic]:
    """Paths that lead nowhere, and values that are wrong whatever the others are."""
    complaints = []
    known = [f"{WORKLOAD}{name}" for name in OPTIONS]
    for axis in axes:
        for path in axis.paths:
            if path.startswith(WORKLOAD) and path not in known and not path.startswith(DIMS):
                hint = did_you_mean(path, known) or f"known: {', '.join(known)}, {DIMS}NAME"
                complaints.append(document.complaint(("parameters", path), "unknown path", hint))
            elif path.startswith(WORKLOAD):
                values = dict.fromkeys(row[axis.paths.index(path)] for row in axis.rows)
                problems = dict.fromkeys(problem for value in values for problem in _wrong(path, value))
                complaints += [document.complaint(("parameters", path), problem) for problem in problems]
        every = -(-len(axis.rows) // CHECKED_VALUES)
        rows = dict.fromkeys((*axis.rows[::every], *axis.rows[-1:]))
        found = {
            (one.path, one.message): one for row in rows for one in _row_complaints(axis, row, axes, chip)
        }
        for one in found.values():
            hint = did_you_mean(f"{WORKLOAD}{one.path}", known) if one.path in OPTIONS else one.hint
            complaints.append(document.complaint(("parameters", one.path), one.message, hint))
    return complaints


def _wrong(path: str, value: Value) -> list[str]:
    """Why a value cannot be that of a workload's option."""
    given = _listed(value)
    block = (
        {"dims": {path.removeprefix(DIMS): given}}
        if path.startswith(DIMS)
        else {path.removeprefix(WORKLOAD): given}
    )
    try:
        validate(document_from_data({"model": "any"} | block, ""), WorkloadBlock)
    except InputError as error:
        return [one.message for one in error.diagnostics]
    return []


def _row_complaints(
    axis: Axis, row: Sequence[Value], axes: Sequence[Axis], chip: Chip
) -> Iterator[Diagnostic]:
    """What is wrong with a step of an axis on the base chip, and with the first, middle and last step of all other
    axes too; its `path` is the parameter's. What it breaks elsewhere is left to the point."""
    mine = _chip_values(axis, row)
    lasting = _complaints(chip, mine)
    for share in (0.0, 0.5, 1.0):
        if not lasting:
            return
        others: dict[str, object] = {}
        for other in axes:
            if other is not axis:
                others |= _chip_values(other, other.rows[round(share * (len(other.rows) - 1))])
        messages = {(one.path, one.message) for one in _complaints(chip, others | mine)}
        lasting = [one for one in lasting if (one.path, one.message) in messages]
    yield from lasting


def _complaints(chip: Chip, values: Mapping[str, object]) -> list[Diagnostic]:
    """Those about the values themselves, with the parameter as `path`."""
    try:
        chip.replace_many(values)
    except InputError as error:
        found = [(str(one.file).removeprefix("--set "), one) for one in error.diagnostics]
        return [
            replace(one, path=path if path in values else one.path, file=None)
            for path, one in found
            if path in values or one.path in values
        ]
    return []


def _chip_values(axis: Axis, row: Sequence[Value]) -> dict[str, object]:
    pairs = zip(axis.paths, row, strict=True)
    return {path: _listed(value) for path, value in pairs if not path.startswith(WORKLOAD)}


def _listed(value: Value) -> object:
    return list(value) if isinstance(value, tuple) else value


def _constraints(
    texts: Sequence[str], names: Sequence[str], document: Document
) -> tuple[tuple[Constraint, ...], list[Diagnostic]]:
    found, complaints = [], []
    for at, text in enumerate(texts):
        try:
            constraint = parse_constraint(text)
        except ValueError as error:
            complaints.append(document.complaint(("constraints", at), str(error)))
            continue
        problem = check_metric(constraint.metric, names)
        if problem:
            complaints.append(document.complaint(("constraints", at), problem))
        found.append(constraint)
    pair = contradiction(found)
    if pair is not None:
        message = f"'{pair[0].text}' and '{pair[1].text}' cannot both hold"
        complaints.append(document.complaint(("constraints",), message))
    return tuple(found), complaints


def _objective_complaints(
    given: Mapping[str, Direction], names: Sequence[str], document: Document
) -> list[Diagnostic]:
    problems = ((metric, check_metric(metric, names)) for metric in given)
    return [document.complaint(("objectives", metric), problem) for metric, problem in problems if problem]
