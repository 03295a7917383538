"""What the commands take: arguments, options, and groups of options that several commands share."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Annotated, Any, get_type_hints

import typer

from sim.errors import InputError


class Format(StrEnum):
    """How a result is printed."""

    table = "table"
    json = "json"
    csv = "csv"


class ListFormat(StrEnum):
    """How a list is printed; markdown is what docs/ is made of."""

    table = "table"
    json = "json"
    csv = "csv"
    markdown = "markdown"


class ChipFormat(StrEnum):
    """How a chip is printed; table is its drawing and its configuration, yaml a file that loads again."""

    table = "table"
    yaml = "yaml"
    json = "json"


class SchemaKind(StrEnum):
    """Kinds of files a user writes."""

    CHIP = "chip"
    WORKLOAD = "workload"
    PARTITION = "partition"


class Fidelity(StrEnum):
    """Event simulation, or the closed form: an estimate, no lower bound."""

    event = "event"
    bound = "bound"


class Engine(StrEnum):
    """Two engines, equal to the tick."""

    compiled = "compiled"
    reference = "reference"


class Phase(StrEnum):
    """What a decoder does."""

    prefill = "prefill"
    decode = "decode"
    generate = "generate"


class Dataflow(StrEnum):
    """Which operand stays in the array."""

    weight_stationary = "weight_stationary"
    output_stationary = "output_stationary"
    input_stationary = "input_stationary"
    row_stationary = "row_stationary"


class Attention(StrEnum):
    """How attention is computed."""

    stored = "stored"
    fused = "fused"
    auto = "auto"


ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A name (lepton list models), a file (.onnx, workload .yaml, Hugging Face config.json, "
        "SCALE-Sim .csv), or gemm:MxNxK.",
    ),
]
ChipOption = Annotated[
    str, typer.Option("--chip", metavar="CHIP", help="A name (lepton list chips), a .yaml file or a SCALE-Sim .cfg.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="PATH=VALUE", help="Change the chip, e.g. core.array.rows=256 (repeatable)."
    ),
]
FormatOption = Annotated[Format, typer.Option("--format", help="How the result is printed.")]
ListFormatOption = Annotated[ListFormat, typer.Option("--format", help="How the list is printed.")]


@dataclasses.dataclass(frozen=True, slots=True)
class ModelOptions:
    """Which variant of the model."""

    batch: Annotated[int | None, typer.Option(min=1, metavar="N", help="Items per pass.")] = None
    dtype: Annotated[str | None, typer.Option(metavar="T", help="Number format: int8, bf16, fp32, ...")] = (
        None
    )
    weights: Annotated[
        str | None,
        typer.Option(metavar="T", help="Keep the layers' matrices packed: int4, int8, fp8, or int4:64 (a group)."),
    ] = None
    phase: Annotated[Phase | None, typer.Option(help="Of a decoder.")] = None
    seq: Annotated[int | None, typer.Option(min=1, metavar="N", help="Tokens of the input.")] = None
    kv: Annotated[
        int | None, typer.Option(min=0, metavar="N", help="Tokens already in the key-value cache.")
    ] = None
    new_tokens: Annotated[int | None, typer.Option(min=1, metavar="N", help="Tokens to generate.")] = None
    chips: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Chips that share a transformer's layers; one is simulated.")
    ] = None
    dim: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=N", help="Value of a symbolic dimension of an ONNX file (repeatable)."),
    ] = None

    def keywords(self) -> dict[str, Any]:
        """As sim.load_model takes them."""
        phase = None if self.phase is None else self.phase.value
        return {
            "batch": self.batch,
            "dtype": self.dtype,
            "weights": self.weights,
            "phase": phase,
            "seq": self.seq,
            "kv": self.kv,
            "new_tokens": self.new_tokens,
            "chips": self.chips,
            "dims": _dims(self.dim),
        }


@dataclasses.dataclass(frozen=True, slots=True)
class MappingOptions:
    """How the model is put on the chip."""

    inputs: Annotated[int, typer.Option(min=1, metavar="N", help="Back-to-back inputs; they overlap.")] = 1
    partition: Annotated[
        str, typer.Option(help="auto, data, channel, reduction, pipeline or a partition file.")
    ] = "auto"
    dataflow: Annotated[Dataflow | None, typer.Option(help="Instead of the chip's own.")] = None
    attention: Annotated[
        Attention,
        typer.Option(help="Scores in memory, on the chip by an online softmax, or whichever is faster."),
    ] = Attention.auto
    sample_layers: Annotated[
        int | None,
        typer.Option(min=3, metavar="N", help="Simulate N of equal layers that a shared cache tells apart."),
    ] = None
    density: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[TENSOR=]SHARE", help="Share of activations that are not zero: all, or one's (repeatable)."
        ),
    ] = None
    overrides: SetOption = None

    def keywords(self) -> dict[str, Any]:
        """As sim.plan and sim.simulate take them."""
        return {
            "inputs": self.inputs,
            "partition": self.partition,
            "dataflow": None if self.dataflow is None else self.dataflow.value,
            "density": _density(self.density),
            "attention": self.attention.value,
            "sample_layers": self.sample_layers,
            "overrides": tuple(self.overrides or ()),
        }


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Expand every parameter that is a dataclass of options into one option per field."""
    hints: dict[str, Any] = get_type_hints(command, include_extras=True)
    hints.pop("return", None)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if dataclasses.is_dataclass(hint)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        if name not in groups:
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name]))
            continue
        fields = get_type_hints(groups[name], include_extras=True)
        for field in dataclasses.fields(groups[name]):
            kind, hint = inspect.Parameter.KEYWORD_ONLY, fields[field.name]
            parameters.append(inspect.Parameter(field.name, kind, default=field.default, annotation=hint))

    @functools.wraps(command)
    def expanded(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(
                **{field.name: values.pop(field.name) for field in dataclasses.fields(group)}
            )
        command(**values)

    expanded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    expanded.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return expanded


def _density(texts: Sequence[str] | None) -> dict[str, float] | None:
    """["0.4", "image=1"] as {"": 0.4, "image": 1.0}. Raises InputError on anything else."""
    found: dict[str, float] = {}
    for text in texts or ():
        name, _, share = text.rpartition("=")
        try:
            value = float(share)
        except ValueError:
            value = math.nan
        if math.isnan(value):
            raise InputError(f"--density {text[:80]}: expected a share, or TENSOR=SHARE")
        if found.setdefault(name, value) != value:
            raise InputError(f"--density {name or 'of all'} is given twice: {found[name]} and {value}")
    return found or None


def _dims(texts: Sequence[str] | None) -> dict[str, int] | None:
    """["batch=8", ...] as {"batch": 8}. Raises InputError on anything else."""
    found: dict[str, int] = {}
    for text in texts or ():
        name, equals, extent = text.partition("=")
        if not (name and equals and extent.isdecimal() and len(extent) < 1000 and int(extent) > 0):
            raise InputError(f"--dim {text[:80]}: expected NAME=N with a positive whole number N")
        if found.setdefault(name, int(extent)) != int(extent):
            raise InputError(f"--dim {name} is given twice: {found[name]} and {extent}")
    return found or None
