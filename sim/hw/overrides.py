"""Changing a configuration by path: "core.array.rows", "cores.tensor.sram.size", "interconnect.shape"."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from sim.config import Document, Position, known_keys
from sim.errors import Diagnostic, InputError, KeyPath, did_you_mean, key_path_text

# Keys that a file may write and that loading turns into others.
_EXTRA_KEYS: Mapping[KeyPath, tuple[str, ...]] = {("dram",): ("stacks",)}


def parse_overrides(texts: Iterable[str]) -> dict[str, object]:
    """["core.array.rows=256", "clock=1 GHz"] as a mapping; values are read as YAML scalars or flow lists.

    Raises InputError on a text without '=' or with an unreadable value.
    """
    values: dict[str, object] = {}
    for text in texts:
        path, equals, value = text.partition("=")
        if not equals or not path.strip():
            raise InputError(Diagnostic(f"found '{text}'; expected PATH=VALUE", "--set"))
        values[path.strip()] = parse_value(value.strip(), text)
    return values


def with_overrides(document: Document, values: Mapping[str, object], model: type) -> Document:
    """The document with values set by path. Raises InputError with all unknown paths together.

    A later complaint about such a value names the override instead of a line of the file.
    """
    if not values:
        return document
    data = copy.deepcopy(document.data)
    positions = dict(document.positions)
    complaints: list[Diagnostic] = []
    for text, value in values.items():
        try:
            path = resolve_path(data, text, model)
            _assign(data, path, value, text)
        except InputError as error:
            complaints += error.diagnostics
        else:
            positions[path] = Position(f"--set {text}")
    complaints += _hidden_by_total(document, values)
    if complaints:
        raise InputError(complaints)
    return Document(document.name, data, positions)


def _hidden_by_total(document: Document, values: Mapping[str, object]) -> list[Diagnostic]:
    """More channels change nothing where the file states the total bandwidth: refuse rather than mislead."""
    dram = document.data.get("dram")
    if not isinstance(dram, dict) or "bandwidth" not in dram or "dram.bandwidth" in values:
        return []
    message = "the chip states its total bandwidth, which this would not change; set dram.bandwidth as well"
    counts = ("dram.channels", "dram.stacks", "dram.device")
    return [Diagnostic(message, path=path) for path in counts if path in values]


def resolve_path(data: Mapping[str, Any], text: str, model: type) -> KeyPath:
    """The key path that `text` means."""
    words = text.split(".")
    path: KeyPath = ()
    if words[0] in ("core", "cores"):
        path, words = _resolve_core(data, words, text)
    for word in words:
        keys = (*known_keys(model, path), *_EXTRA_KEYS.get(path, ()))
        if word not in keys:
            known = f"known: {', '.join(keys)}" if keys else f"'{key_path_text(path)}' has no parts"
            hint = did_you_mean(word, (*keys, "core")) or known
            raise InputError(Diagnostic(f"unknown path; there is no '{word}'", path=text, hint=hint))
        path = (*path, word)
    return path


def _resolve_core(data: Mapping[str, Any], words: list[str], text: str) -> tuple[KeyPath, list[str]]:
    """The list entry meant by `core.` or `cores.NAME.`, and the words after it."""
    cores = data.get("cores")
    entries = cores if isinstance(cores, list) else []
    names = [str(core.get("name")) if isinstance(core, dict) else "" for core in entries]
    if words[0] == "core":
        if len(names) != 1:
            message = f"'core.' needs a chip with one core kind; this one has {', '.join(names) or 'none'}"
            raise InputError(Diagnostic(message, path=text, hint="write cores.NAME. instead"))
        return ("cores", 0), words[1:]
    if len(words) < 2 or words[1] not in names:
        asked = words[1] if len(words) > 1 else ""
        hint = did_you_mean(asked, names) or f"known: {', '.join(names)}"
        raise InputError(Diagnostic(f"unknown path; there is no core kind '{asked}'", path=text, hint=hint))
    return ("cores", names.index(words[1])), words[2:]


def _assign(data: dict[str, Any], path: KeyPath, value: object, text: str) -> None:
    here: Any = data
    for key in path[:-1]:
        here = here.setdefault(key, {}) if isinstance(here, dict) else here[key]
        if not isinstance(here, dict | list):
            raise InputError(Diagnostic(f"'{key}' is not a mapping in this configuration", path=text))
    if isinstance(path[-1], int):
        raise InputError(Diagnostic("unknown path; say which value of the core", path=text))
    here[path[-1]] = value


def parse_value(value: str, text: str) -> object:
    """A YAML scalar or flow list; InputError names the whole `text` it stands in."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="safe", pure=True).load(value)
    except (YAMLError, ValueError) as error:
        raise InputError(Diagnostic(f"cannot read the value of '{text}'", "--set")) from error
