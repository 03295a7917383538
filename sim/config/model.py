"""Models: frozen dataclasses that know their YAML keys, units and meanings.

One definition serves validation, the JSON Schema for editors, the parameter table and the written-out
configuration, so these cannot drift apart.
"""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import (
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    TypeAdapter,
    ValidationError,
)
from pydantic import Field as Field
from pydantic.fields import FieldInfo
from pydantic_core import core_schema

from sim import units
from sim.config.document import Document
from sim.errors import Diagnostic, FieldError, InputError, KeyPath, did_you_mean

T = TypeVar("T")

_PLAIN_WORDS = {
    "Input should be ": "expected ",
    "an object": "a mapping",
    "a valid array": "a list",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid boolean": "true or false",
    "a valid string": "text",
    "Tuple": "the list",
}

_LIMITS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
"""Kinds of complaints about a number: what is expected, and the name of the limit."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Annotation of a field that is written as a quantity string and held in the base unit of `dimension`."""

    dimension: str

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(
            lambda text: units.parse(text, self.dimension), handler(source)
        )

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        known = units.DIMENSIONS[self.dimension]
        alternatives = "|".join(sorted(map(re.escape, known.scales), key=len, reverse=True))
        pattern = rf"^\s*[0-9.]+([eE][+-]?[0-9]+)?\s*({alternatives})\s*$"
        return {"type": "string", "pattern": pattern, "examples": [known.example]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Base of all models: no unknown keys, no silent conversions, and room for `source:` and `notes:`.

    Both are documentation: they do not take part in comparison.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    source: Annotated[str, Field(description="where the numbers of this block come from")] = field(
        default="", compare=False
    )
    notes: Annotated[str, Field(description="free text")] = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """What there is to know about one field of a model."""

    name: str  # attribute
    key: str  # in YAML
    type: Any  # without Annotated
    dimension: str | None
    default: Any  # dataclasses.MISSING if required
    meaning: str


@cache
def field_specs(model: type) -> tuple[FieldSpec, ...]:
    """The YAML fields of a model, in order of definition, `source` and `notes` last."""
    hints = typing.get_type_hints(model, include_extras=True)
    specs = []
    for item in dataclasses.fields(model):
        if not item.init:
            continue
        base, extras = _split(hints[item.name])
        notes = [e for e in extras if isinstance(e, FieldInfo)]
        unit = next((e for e in extras if isinstance(e, Unit)), None)
        default = item.default_factory() if callable(item.default_factory) else item.default
        if isinstance(default, dataclasses._MISSING_TYPE):
            default = dataclasses.MISSING
        key = next((note.alias for note in notes if note.alias), item.name)
        meaning = next((note.description for note in notes if note.description), "")
        specs.append(FieldSpec(item.name, key, base, unit.dimension if unit else None, default, meaning))
    return tuple(sorted(specs, key=lambda spec: spec.name in ("source", "notes")))


@cache
def field_adapter(model: type, name: str) -> TypeAdapter[Any]:
    """What validates one field of a model by itself: its type, unit and limits. Strict, as in a file."""
    base, extras = _split(typing.get_type_hints(model, include_extras=True)[name])
    rules: list[Any] = []
    for extra in extras:
        rules += extra.metadata if isinstance(extra, FieldInfo) else [extra]
    return TypeAdapter(Annotated[base, *rules] if rules else base)  # type: ignore[valid-type,unused-ignore]


@lru_cache(maxsize=1 << 10)
def known_keys(model: Any, path: KeyPath) -> tuple[str, ...]:
    """The keys that the mapping at `path` may have; () where that is not a fixed set."""
    here = model
    for key in path:
        here = _inside(here, key)
    here = _strip(here)
    if dataclasses.is_dataclass(here) and isinstance(here, type):
        return tuple(spec.key for spec in field_specs(here))
    if typing.get_origin(here) in (dict, Mapping):
        key_type = _strip(typing.get_args(here)[0])
        if typing.get_origin(key_type) is typing.Literal:
            return tuple(typing.get_args(key_type))
    return ()


def validate(document: Document, model: type[T], complaints: Iterable[Diagnostic] = ()) -> T:
    """The document's data as `model`. Raises InputError with every complaint, each where it was written.

    `complaints` are those that the caller found already; what only follows from them is left out.
    """
    earlier = list(complaints)
    try:
        # JSON mode is the strict mode that still takes lists for tuples and mappings for dataclasses.
        value: T = _adapter(typing.cast(type, model)).validate_json(json.dumps(document.data))
    except ValidationError as error:
        later = _complaints(error.errors(include_url=False), document, model)
        raise InputError(earlier + [c for c in later if not _follows(c, earlier)]) from None
    if earlier:
        raise InputError(earlier)
    return value


@cache
def _adapter(model: type) -> TypeAdapter[Any]:
    return TypeAdapter(model)


def dump(value: Any, *, unit: str | None = None) -> Any:
    """A model as plain YAML data with all defaults written out; quantities are exact strings.

    validate(document_from_data(dump(x)), type(x)) == x.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        out = {}
        for spec in field_specs(type(value)):
            item = getattr(value, spec.name)
            if item is not None and not (spec.name in ("source", "notes") and item == ""):
                out[spec.key] = dump(item, unit=spec.dimension)
        return out
    if isinstance(value, Mapping):
        return {key: dump(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [dump(item, unit=unit) for item in value]
    return value if unit is None else units.format_quantity(value, unit, exact=True)


def json_schema(model: type, title: str = "") -> dict[str, Any]:
    """JSON Schema of a file of this model, for editors; quantities are strings with a pattern."""
    schema = TypeAdapter(model).json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = title or model.__name__
    extends = {"type": "string", "description": "one parent file: a path or a name"}
    schema["properties"] = {"version": {"const": 1}, "extends": extends} | schema["properties"]
    # A file with a parent may leave out what the parent has.
    required = schema.pop("required", [])
    schema["required"] = ["version"]
    schema["anyOf"] = [{"required": ["extends"]}, {"required": required}]
    return schema


def _follows(complaint: Diagnostic, earlier: list[Diagnostic]) -> bool:
    """Whether it is about the same key, or misses a key beside it that the right value would have brought."""
    if any(complaint.path == other.path for other in earlier):
        return True
    beside = complaint.path.rpartition(".")[0]
    missing = complaint.message.startswith("required key")
    return missing and any(beside and beside == other.path.rpartition(".")[0] for other in earlier)


def _complaints(errors: Any, document: Document, model: type) -> Iterator[Diagnostic]:
    locations = [error["loc"] for error in errors]
    for error in errors:
        loc = error["loc"]
        if error["type"] == "too_short" and any(o[: len(loc)] == loc and o != loc for o in locations):
            continue  # the entries are there, but wrong; they are complained of by themselves
        path: KeyPath = tuple(key for key in error["loc"] if key != "[key]")
        cause = error.get("ctx", {}).get("error")
        if isinstance(cause, FieldError):
            for at, message in cause.complaints:
                yield document.complaint((*path, *at), message)
        else:
            message, hint = _explain(error, path, model)
            yield document.complaint(path, message, hint)


def _explain(error: Any, path: KeyPath, model: type) -> tuple[str, str]:
    """What was found, what was expected, and a suggestion."""
    kind, ctx = error["type"], error.get("ctx", {})
    last = str(path[-1]) if path else ""
    if kind == "unexpected_keyword_argument" or error["loc"][-1:] == ("[key]",):
        keys = known_keys(model, path[:-1])
        return f"unknown key '{last}'", did_you_mean(last, keys) or f"known keys: {', '.join(keys)}"
    if kind == "missing":
        of_list = bool(path) and isinstance(path[-1], int)
        return f"entry {int(last) + 1} of the list is missing" if of_list else f"required key '{last}' is missing", ""
    if kind == "value_error":
        return str(ctx["error"]), ""
    found = _short(error["input"])
    if kind == "literal_error":
        expected = str(ctx["expected"])
        hint = did_you_mean(str(error["input"]), re.findall(r"'(.*?)'", expected))
        return f"found {found}; expected {expected}", hint
    if kind in _LIMITS and (dimension := _dimension(model, path)):
        words, limit = _LIMITS[kind]
        return f"found {found}; expected {words} {units.format_quantity(ctx[limit], dimension)}", ""
    expected = str(error["msg"])
    for word, plain in _PLAIN_WORDS.items():
        expected = expected.replace(word, plain)
    return f"found {found}; {expected[:1].lower()}{expected[1:]}", ""


def _dimension(model: type, path: KeyPath) -> str | None:
    """Of the quantity at `path`; None for anything else."""
    here: Any = model
    for key in path[:-1]:
        here = _inside(here, key)
    here = _strip(here)
    if not (dataclasses.is_dataclass(here) and isinstance(here, type)):
        return None
    return next((spec.dimension for spec in field_specs(here) if spec.key == path[-1]), None)


def _inside(model: Any, key: str | int) -> Any:
    """The type of the entry `key` of a type; Any where it is not known."""
    here = _strip(model)
    origin, args = typing.get_origin(here), typing.get_args(here)
    if isinstance(key, int) and origin in (tuple, list) and args:
        return args[0]
    if origin in (dict, Mapping) and len(args) == 2:
        return args[1]
    if dataclasses.is_dataclass(here) and isinstance(here, type):
        return next((spec.type for spec in field_specs(here) if spec.key == key), Any)
    return Any


def _split(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    """An Annotated type as the type and its annotations."""
    if typing.get_origin(hint) is Annotated:
        base, *extras = typing.get_args(hint)
        return base, tuple(extras)
    return hint, ()


def _strip(hint: Any) -> Any:
    """A type without Annotated and without `| None`."""
    hint, _ = _split(hint)
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        options = [option for option in typing.get_args(hint) if option is not type(None)]
        return _strip(options[0]) if len(options) == 1 else hint
    return hint


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    shown = "nothing" if value is None else repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
