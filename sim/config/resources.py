"""Where the data that comes with the package lies: hw_configs/ and workloads/."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from sim.errors import Diagnostic, InputError, did_you_mean

_PACKAGE = Path(__file__).resolve().parent.parent


def data_dir(name: str) -> Path:
    """The folder `name` ("hw_configs", "workloads", "hw_configs/dram").

    An installed wheel carries it inside the package; a checkout has it beside the package.
    Raises InputError when neither has it.
    """
    for root in (_PACKAGE, _PACKAGE.parent):
        if (root / name).is_dir():
            return root / name
    raise InputError(f"the data folder '{name}' is missing from this installation")


def list_resources(folder: str, suffix: str = ".yaml") -> tuple[str, ...]:
    """Names (without suffix) of the files in a data folder, sorted; sub-folders are not entered."""
    return tuple(sorted(path.stem for path in data_dir(folder).glob(f"*{suffix}")))


def is_path(name: str) -> bool:
    """Is this the path of a file, and not the name of one that comes with the package?"""
    return "/" in name or name.endswith((".yaml", ".yml"))


def changed_ns(name: str) -> int:
    """When a file that is told by its path was last changed: what is remembered of it is forgotten then. 0 for a name,
    and where there is no such file."""
    return Path(name).stat().st_mtime_ns if is_path(name) and Path(name).is_file() else 0


def data_file(folder: str, name: str, *, what: str) -> Path:
    """The file at the path `name`, or else of that name in a data folder. Raises InputError where there is none."""
    if not is_path(name):
        return find_resource(folder, name, what=what)
    if not Path(name).is_file():
        raise InputError(Diagnostic(f"no such file: {name}"))
    return Path(name)


def find_resource(folder: str, name: str, *, what: str = "file", suffix: str = ".yaml") -> Path:
    """The file `name` of a data folder. Raises InputError that lists the available names."""
    available = list_resources(folder, suffix)
    if name in available:
        return data_dir(folder) / f"{name}{suffix}"
    suggestion = _nearest(name, available) or did_you_mean(name, available)
    known = f"available: {', '.join(available)}"
    hint = "; ".join(filter(None, (suggestion, known, "or the path of a file of your own")))
    raise InputError(Diagnostic(f"unknown {what} '{name}'", hint=hint))


def _nearest(name: str, available: Sequence[str]) -> str:
    """Of names that are a letter and a number, as nodes are: those on either side of one that is not there."""
    numbers = {int(match[1]): one for one in available if (match := re.fullmatch(r"[a-z](\d+)", one))}
    asked = re.fullmatch(r"[a-z](\d{1,4})", name)
    if asked is None or len(numbers) < len(available):
        return ""
    below = [number for number in numbers if number < int(asked[1])]
    above = [number for number in numbers if number > int(asked[1])]
    found = [numbers[number] for number in (*sorted(below)[-1:], *sorted(above)[:1])]
    return f"the nearest {'is' if len(found) == 1 else 'are'} {' and '.join(found)}"
