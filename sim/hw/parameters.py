"""What a chip file may say, read off the models: the table of parameters and a commented template."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from sim.config import FieldSpec, dump, field_specs
from sim.units import DIMENSIONS, format_quantity

_DOCUMENTATION = ("source", "notes")


def parameter_rows(model: type, filled_in: Mapping[str, str], prefix: str = "") -> Iterator[dict[str, str]]:
    """One row per value of a model and its parts: path, unit, default ("required" or ""), meaning.

    Paths are those of `--set`: "core.array.rows". `filled_in` tells the defaults of paths that the model
    requires and loading fills in.
    """
    for spec in field_specs(model):
        if spec.name in _DOCUMENTATION:
            continue
        path = f"{prefix}{'core' if spec.key == 'cores' else spec.key}"
        inner = _model_inside(spec.type)
        if inner is not None:
            yield from parameter_rows(inner, filled_in, f"{path}.")
        else:
            default = filled_in.get(path) or _default_text(spec)
            yield {"path": path, "unit": _unit_text(spec), "default": default, "meaning": spec.meaning}


def commented_yaml(data: Mapping[str, Any], model: type) -> str:
    """`data`, which validates as `model`, as block YAML with the meaning of every key beside it."""
    lines = ["version: 1"]
    for spec in field_specs(model):
        if spec.key in data:
            lines += _lines(spec, data[spec.key], "")
    return "\n".join(lines) + "\n"


def _lines(spec: FieldSpec, value: Any, indent: str) -> Iterator[str]:
    """One key with its comment; parts and lists of parts are indented under it."""
    inner = _model_inside(spec.type)
    if inner is None:
        text = f"{indent}{spec.key}: {_flow(value)}"
        yield f"{text:<44} # {spec.meaning}" if spec.meaning else text
        return
    yield f"{indent}{spec.key}:".ljust(44) + f" # {spec.meaning}"
    entries = value if isinstance(value, list) else [value]
    for entry in entries:
        body = [
            line
            for child in field_specs(inner)
            if child.key in entry and not _unsaid(child, entry[child.key])
            for line in _lines(child, entry[child.key], "")
        ]
        lead = f"{indent}  - " if isinstance(value, list) else f"{indent}  "
        for line in body:
            yield lead + line
            lead = " " * len(lead)


def _unsaid(spec: FieldSpec, value: Any) -> bool:
    """A default that is empty tells a reader nothing: {}, [], 0 B."""
    empty = value in ({}, []) or (spec.dimension is not None and str(value).partition(" ")[0] == "0")
    return empty and spec.default is not dataclasses.MISSING


def _flow(value: Any) -> str:
    """A scalar, list or flat mapping in flow style."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = str(value)
    return f'"{text}"' if isinstance(value, str) and any(c in text for c in ":#{}[],&*!|>'\"%@`") else text


def _model_inside(hint: Any) -> type | None:
    """The model of a field that holds a part, an optional part or a tuple of parts."""
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return hint
    if typing.get_origin(hint) in (types.UnionType, typing.Union, tuple):
        found = (_model_inside(option) for option in typing.get_args(hint))
        return next((model for model in found if model is not None), None)
    return None


def _unit_text(spec: FieldSpec) -> str:
    """The base unit of a quantity, the choices of a word, or the kind of value."""
    if spec.dimension is not None:
        return DIMENSIONS[spec.dimension].base
    if typing.get_origin(spec.type) is typing.Literal:
        return " | ".join(map(str, typing.get_args(spec.type)))
    if typing.get_origin(spec.type) in (Mapping, dict):
        return "by name"
    names = {int: "count", float: "number", str: "text", bool: "true | false"}
    return names.get(spec.type, "list of counts")


def _default_text(spec: FieldSpec) -> str:
    if spec.default is dataclasses.MISSING:
        return "required"
    if spec.default is None or spec.default == {} or (spec.dimension and spec.default == 0):
        return ""
    if spec.dimension is not None:
        return format_quantity(spec.default, spec.dimension)
    return str(dump(spec.default)).lower() if isinstance(spec.default, bool) else str(spec.default)
