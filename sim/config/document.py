"""Reading YAML: plain data with positions, one parent by `extends:`, and nothing that computes.

Anchors, aliases, tags, merge keys and duplicate keys are refused: a configuration is data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from sim.errors import Diagnostic, InputError, Key, KeyPath, did_you_mean, key_path_text

VERSION = 1
MAX_DEPTH = 40  # far above any configuration; keeps hostile input from exhausting the stack

_TAG = "tag:yaml.org,2002:"
_TAGS = frozenset({"null", "bool", "int", "float", "str", "map", "seq", "timestamp", "value", "merge"})


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a file, 1-based."""

    file: Path | str
    line: int | None = None
    col: int | None = None


@dataclass(slots=True)
class _Located:
    """A value and the place that wrote it. Values are dicts and lists of _Located, or scalars."""

    value: Any
    at: Position


@dataclass(frozen=True, slots=True)
class Document:
    """Merged data of a file and its parents, without `version` and `extends`, and where each was written."""

    name: Path | str
    data: dict[str, Any]
    positions: Mapping[KeyPath, Position] = field(repr=False)

    def position(self, path: KeyPath) -> Position:
        """Where `path`, or else the closest thing around it, was written."""
        for length in range(len(path), -1, -1):
            found = self.positions.get(path[:length])
            if found is not None:
                return found
        return Position(self.name)

    def complaint(self, path: KeyPath, message: str, hint: str = "") -> Diagnostic:
        """A diagnostic about `path`, at its file, line and column."""
        at = self.position(path)
        return Diagnostic(message, at.file, at.line, at.col, key_path_text(path), hint)

    @property
    def folder(self) -> Path | None:
        """The folder that paths in this document are relative to; None for data without a file."""
        return self.name.parent if isinstance(self.name, Path) else None

    def absolute(self, path: KeyPath, name: str) -> str:
        """The file `name` that is written at `path`: relative to the file that says so or, of an option of a command,
        to where that was given."""
        file = self.position(path).file
        return str(((file.parent if isinstance(file, Path) else Path()) / name).absolute())

    def with_data(self, data: dict[str, Any], given: Mapping[KeyPath, str] | None = None) -> Document:
        """The same document around changed data; positions of untouched paths stay. `given` says of paths from which
        option of a command they are."""
        changed = {path: Position(option) for path, option in (given or {}).items()}
        return Document(self.name, data, {**self.positions, **changed})


def document_from_data(data: Mapping[str, Any], name: Path | str = "<data>") -> Document:
    """A Document from plain data, such as an expanded configuration. Raises InputError on odd types."""
    if not isinstance(data, Mapping):
        raise InputError(Diagnostic(f"found {type(data).__name__}; expected a mapping", name))
    plain = {key: _plain(value, (key,), name) for key, value in data.items()}
    if "version" in plain and plain.pop("version") != VERSION:
        raise InputError(Diagnostic(f"version must be {VERSION}", name, path="version"))
    return Document(name, plain, {(): Position(name)})


def load_yaml(path: Path, search: Path | None = None) -> Document:
    """Read `path` and its parents.

    `extends:` is a path relative to the file, or (without a slash or suffix) a name in the folder `search`.
    Mappings merge deeply, lists replace, except that a `cores:` list merges by `name`.
    Raises InputError on a file that is unreadable, not UTF-8, not YAML, empty, not a mapping, of another
    version, or part of a cycle.
    """
    tree = _load_tree(path, search, ())
    positions: dict[KeyPath, Position] = {}
    data = _flatten(tree, (), positions)
    return Document(path, data, positions)


def _load_tree(path: Path, search: Path | None, children: tuple[Path, ...]) -> _Located:
    """The merged tree of one file; `children` are the files that led here, to find cycles."""
    tree = _read(path)
    _check_version(tree, path)
    extends = tree.value.pop("extends", None)
    if extends is None:
        return tree
    parent = _parent_path(extends, path, search)
    chain = (*children, path.resolve())
    if parent.resolve() in chain:
        loop = " -> ".join(p.name for p in (*chain, parent))
        raise InputError(_diagnostic(f"'extends' runs in a circle: {loop}", extends.at, "extends"))
    if not parent.is_file():
        raise InputError(_diagnostic(f"no such file: {parent}", extends.at, "extends"))
    return _merge(_load_tree(parent, search, chain), tree, ())


def _parent_path(extends: _Located, path: Path, search: Path | None) -> Path:
    name = extends.value
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise InputError(
            _diagnostic("expected the path or the name of one parent file", extends.at, "extends")
        )
    if search is not None and "/" not in name and not name.endswith((".yaml", ".yml")):
        known = sorted(file.stem for file in search.glob("*.yaml"))
        if name not in known:
            hint = f"{did_you_mean(name, known)}; available: {', '.join(known)}".removeprefix("; ")
            raise InputError(_diagnostic(f"unknown parent '{name}'; {hint}", extends.at, "extends"))
        return search / f"{name}.yaml"
    return path.parent / name


def _check_version(tree: _Located, path: Path) -> None:
    version = tree.value.pop("version", None)
    if version is None:
        raise InputError(
            Diagnostic(
                "required key 'version' is missing", path, 1, 1, hint=f"write 'version: {VERSION}' first"
            )
        )
    if version.value != VERSION or isinstance(version.value, bool):
        message = f"found version {version.value!r}; this program reads version {VERSION}"
        raise InputError(_diagnostic(message, version.at, "version"))


_INSTEAD: Mapping[KeyPath, tuple[tuple[str, str], ...]] = {("dram",): (("channels", "stacks"),)}
"""Two ways to say the same: a child that says the one takes the other away."""


def _merge(parent: _Located, child: _Located, path: KeyPath) -> _Located:
    """`child` over `parent`. A key without a value takes the parent's away."""
    if isinstance(parent.value, dict) and isinstance(child.value, dict):
        others = [one for pair in _INSTEAD.get(path, ()) for one, other in (pair, pair[::-1]) if other in child.value]
        dropped = {key for key, value in child.value.items() if value.value is None} | set(others) - child.value.keys()
        merged = {key: value for key, value in parent.value.items() if key not in dropped}
        for key, value in child.value.items():
            if value.value is not None or key not in parent.value:
                merged[key] = _merge(merged[key], value, (*path, key)) if key in merged else value
        return _Located(merged, child.at)
    if path == ("cores",) and isinstance(parent.value, list) and isinstance(child.value, list):
        return _Located(_merge_by_name(parent.value, child.value), child.at)
    return child


def _merge_by_name(parent: list[_Located], child: list[_Located]) -> list[_Located]:
    """Core kinds of the child change the parent's of the same name; others are added after them."""
    merged = list(parent)
    for entry in child:
        name = _name_of(entry)
        match = [i for i, old in enumerate(merged) if name is not None and _name_of(old) == name]
        if match:
            merged[match[0]] = _merge(merged[match[0]], entry, ("cores", match[0]))
        else:
            merged.append(entry)
    return merged


def _name_of(entry: _Located) -> Any:
    if isinstance(entry.value, dict) and "name" in entry.value:
        return entry.value["name"].value
    return None


def _read(path: Path) -> _Located:
    """One file as a located tree whose top is a mapping of the caller's own. Raises InputError with all complaints."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(Diagnostic("the file is not UTF-8 text", path)) from error
    except OSError as error:
        raise InputError(Diagnostic(f"cannot read the file: {error.strerror}", path)) from error
    tree = _parse(path, text)
    return _Located(dict(tree.value), tree.at)


@lru_cache(maxsize=64)
def _parse(path: Path, text: str) -> _Located:
    """The tree of a file with this text; parsed once, for parsing costs more than all the rest of loading a chip."""
    import ruamel.yaml
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        node = ruamel.yaml.YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, col = (mark.line + 1, mark.column + 1) if mark else (None, None)
        hint = "indent with spaces, not tabs" if "'\\t'" in str(error.problem) else ""
        raise InputError(Diagnostic(f"not valid YAML: {error.problem}", path, line, col, hint=hint)) from error
    except (YAMLError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(Diagnostic(f"not valid YAML: {reason}", path)) from error
    except RecursionError as error:
        raise InputError(Diagnostic("not valid YAML: nested too deeply", path)) from error
    if node is None:
        raise InputError(Diagnostic("the file is empty", path))
    complaints: list[Diagnostic] = []
    tree = _build(node, path, (), complaints)
    if not complaints and not isinstance(tree.value, dict):
        complaints.append(
            _diagnostic("found a list or a single value at the top; expected a mapping", tree.at)
        )
    if complaints:
        raise InputError(complaints)
    return tree


def _build(node: Any, file: Path, path: KeyPath, complaints: list[Diagnostic]) -> _Located:
    """A located tree from a composed YAML node; refuses everything but plain data."""
    at = _mark(node, file)
    tag = str(node.tag)
    problem = ""
    if node.anchor is not None:
        problem = "anchors and aliases are not allowed"
    elif not tag.startswith(_TAG) or tag.removeprefix(_TAG) not in _TAGS:
        problem = f"the tag '{tag}' is not allowed"
    elif len(path) > MAX_DEPTH:
        problem = "nested too deeply"
    if problem:
        complaints.append(_diagnostic(f"{problem}; a configuration is plain data", at, key_path_text(path)))
        return _Located(None, at)
    if node.id == "mapping":
        return _Located(_build_mapping(node, file, path, complaints), at)
    if node.id == "sequence":
        items = [_build(child, file, (*path, i), complaints) for i, child in enumerate(node.value)]
        return _Located(items, at)
    return _Located(_scalar(node, at, path, complaints), at)


def _build_mapping(node: Any, file: Path, path: KeyPath, complaints: list[Diagnostic]) -> dict[str, _Located]:
    entries: dict[str, _Located] = {}
    for key_node, value_node in node.value:
        at = _mark(key_node, file)
        if key_node.id != "scalar" or str(key_node.tag) != f"{_TAG}str" or key_node.anchor is not None:
            complaints.append(_diagnostic("expected a plain word as key", at, key_path_text(path)))
            continue
        key = str(key_node.value)
        if key in entries:
            first = entries[key].at.line
            message = f"duplicate key '{key}'; it was first written on line {first}"
            complaints.append(_diagnostic(message, at, key_path_text((*path, key))))
            continue
        value = _build(value_node, file, (*path, key), complaints)
        entries[key] = _Located(value.value, at)
    return entries


def _scalar(node: Any, at: Position, path: KeyPath, complaints: list[Diagnostic]) -> Any:
    """Integers, floats, booleans and null by YAML 1.2; everything else (dates too) stays text."""
    kind, text = str(node.tag).removeprefix(_TAG), str(node.value)
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    try:
        if kind == "int":
            return int(text.replace("_", ""), 0)
        return float(text.replace("_", "")) if kind == "float" else text
    except ValueError:  # .inf, .nan, 010 and numbers of thousands of digits
        complaints.append(_diagnostic(f"cannot use '{text[:40]}' as a number", at, key_path_text(path)))
        return None


def _flatten(tree: _Located, path: KeyPath, positions: dict[KeyPath, Position]) -> Any:
    """Plain data of a located tree; fills `positions`."""
    positions[path] = tree.at
    if isinstance(tree.value, dict):
        return {key: _flatten(value, (*path, key), positions) for key, value in tree.value.items()}
    if isinstance(tree.value, list):
        return [_flatten(value, (*path, i), positions) for i, value in enumerate(tree.value)]
    return tree.value


def _plain(value: Any, path: KeyPath, name: Path | str) -> Any:
    """A deep copy made of dict, list and scalars only."""
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(item, (*path, key), name) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(item, (*path, i), name) for i, item in enumerate(value)]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    message = f"found {type(value).__name__}; expected plain data"
    raise InputError(Diagnostic(message, name, path=key_path_text(path)))


def _mark(node: Any, file: Path) -> Position:
    return Position(file, node.start_mark.line + 1, node.start_mark.column + 1)


def _diagnostic(message: str, at: Position, path: str = "") -> Diagnostic:
    return Diagnostic(message, at.file, at.line, at.col, path)


__all__ = ["Document", "Key", "Position", "document_from_data", "load_yaml"]
