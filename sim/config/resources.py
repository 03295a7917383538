"""Where the data that comes with the package lies: hw_configs/ and workloads/."""

from __future__ import annotations

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


def find_resource(folder: str, name: str, *, what: str = "file", suffix: str = ".yaml") -> Path:
    """The file `name` of a data folder. Raises InputError that lists the available names."""
    available = list_resources(folder, suffix)
    if name in available:
        return data_dir(folder) / f"{name}{suffix}"
    hint = f"available: {', '.join(available)}"
    suggestion = did_you_mean(name, available)
    raise InputError(
        Diagnostic(f"unknown {what} '{name}'", hint=f"{suggestion}; {hint}" if suggestion else hint)
    )
