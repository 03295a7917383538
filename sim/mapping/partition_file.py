"""Partition files: how a user says which operator is split how, or where a pipeline is cut.

version: 1
default: data                  # auto, data, channel or reduction
operators:
  conv1: {split: {row: 4}}     # parts along a dimension of the operator's loop nest
  fc:    {mode: channel}
# or, instead of the two above:
pipeline: {stages: 4, cut: min_cut}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from sim.config import Field, Part, load_yaml, validate
from sim.errors import Diagnostic, FieldError, InputError, did_you_mean
from sim.graph.graph import Graph
from sim.hw.chip import Chip
from sim.mapping.partition import Assignment, Rule, Stage

Mode = Literal["auto", "data", "channel", "reduction"]
StageCutter = Callable[[int | None, str], tuple[Stage, ...]]


@dataclass(frozen=True, slots=True)
class PipelineBlock(Part):
    """Where a pipeline is cut."""

    stages: Annotated[int | None, Field(ge=1, description="number of stages; default: one per core")] = None
    cut: Annotated[
        Literal["balanced", "min_cut"],
        Field(description="least slowest stage, or least bytes between stages"),
    ] = "balanced"


@dataclass(frozen=True, slots=True)
class OperatorBlock(Part):
    """How one operator is split."""

    mode: Annotated[Mode | None, Field(description="which kind of dimension to split")] = None
    split: Annotated[
        Mapping[str, Annotated[int, Field(ge=1)]], Field(description="parts by dimension of its loop nest")
    ] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.mode is not None and self.split:
            raise FieldError([(("mode",), "give a mode or a split, not both")])


@dataclass(frozen=True, slots=True)
class PartitionFile(Part):
    """The whole file."""

    default: Annotated[Mode, Field(description="for operators not listed")] = "auto"
    operators: Annotated[Mapping[str, OperatorBlock], Field(description="by operator name")] = field(
        default_factory=dict
    )
    pipeline: Annotated[PipelineBlock | None, Field(description="stages instead of splits")] = None

    def __post_init__(self) -> None:
        if self.pipeline is not None and self.operators:
            raise FieldError(
                [(("operators",), "a pipeline chooses splits by itself; leave one of the two out")]
            )


def load_partition(path: str, graph: Graph, chip: Chip, cutter: StageCutter) -> Assignment:
    """Read a partition file. Raises InputError: not a mode nor a readable file, a bad key, an operator that the
    model does not have."""
    modes = ("auto", "data", "channel", "reduction", "pipeline")
    if not Path(path).exists():
        hint = did_you_mean(path, modes) or f"one of {', '.join(modes)}, or a partition file"
        raise InputError(Diagnostic(f"unknown partition '{path}'", hint=hint))
    document = load_yaml(Path(path))
    file = validate(document, PartitionFile)
    names = tuple(op.name for op in graph.ops)
    strangers = [name for name in file.operators if name not in names]
    if strangers:
        raise InputError(
            [
                document.complaint(
                    ("operators", name),
                    f"model '{graph.name}' has no operator '{name}'",
                    did_you_mean(name, names),
                )
                for name in strangers
            ]
        )
    stages = cutter(file.pipeline.stages, file.pipeline.cut) if file.pipeline is not None else ()
    rules = {name: Rule(block.mode, block.split) for name, block in file.operators.items()}
    return Assignment(chip, file.default, stages, rules, names)
