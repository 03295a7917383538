"""The key of an evaluation: equal for the same chip, workload, options and simulator, whoever asks.

Parameters that say what the base chip's file says already are left out, so that a study of two parameters shares its
evaluations with one of three. What a file contains counts, not where it lies.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from sim import __version__
from sim.config import data_dir, is_path, load_yaml
from sim.explore.space import WORKLOAD, Point, Space, Workload
from sim.explore.values import Value, canonical
from sim.hw.chip import NAMED_FILES, with_own_files

KEY_BYTES = 16
_UNSAID: Mapping[str, object] = {"inputs": 1, "partition": "auto", "dims": {}, "attention": "auto"}
_NUMBERS = (
    "units.py", "pipeline.py", "program.py", "timeline.py", "config", "hw", "graph", "cost", "passes", "mapping",
    "engine", "report",
)  # fmt: skip


class KeyMaker:
    """Keys of one workload of a space at one fidelity."""

    def __init__(self, space: Space, workload: Workload, fidelity: str) -> None:
        chip = {
            key: value for key, value in space.chip_data.items() if key not in ("name", "notes", "source")
        }
        head = [simulator_digest(), fidelity, model_digest(workload.model), with_own_files(chip, _content)]
        varied = set(space.paths)
        self._fixed = _number(json.dumps(head, sort_keys=True)) + sum(
            _number(text)
            for name, value in workload.options.items()
            if f"{WORKLOAD}{name}" not in varied or isinstance(value, Mapping)
            for text in _fragments(f"{WORKLOAD}{name}", value, space.chip_data)
        )
        self._steps = [
            [
                sum(
                    _number(text)
                    for path, value in zip(axis.paths, row, strict=True)
                    for text in _fragments(path, value, space.chip_data)
                )
                for row in axis.rows
            ]
            for axis in space.axes
        ]

    def keys(self, points: Iterable[Point]) -> list[bytes]:
        """The keys of some points: sums of the digests of what each says, whatever the order of the axes."""
        steps, fixed, mask = [axis.__getitem__ for axis in self._steps], self._fixed, (1 << 8 * KEY_BYTES) - 1
        return [
            (sum([step(at) for step, at in zip(steps, point, strict=True)], fixed) & mask).to_bytes(
                KEY_BYTES, "big"
            )
            for point in points
        ]


def _number(text: str) -> int:
    """A digest as a number. Sums of them modulo its range are digests of sets (Bellare and Micciancio, 1997, "A new
    paradigm for collision-free hashing: incrementality at reduced cost")."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=KEY_BYTES).digest(), "big")


def _fragments(path: str, value: Any, chip_data: Mapping[str, Any]) -> list[str]:
    """What a parameter adds to the key; nothing where it changes nothing."""
    if path.startswith(WORKLOAD):
        name = path.removeprefix(WORKLOAD)
        if value is None or _UNSAID.get(name) == value:
            return []
        if isinstance(value, Mapping):
            return [f"{path}.{each}={amount}" for each, amount in value.items()]
        if name == "partition" and Path(str(value)).is_file():
            return [f"{path}=#{_file_digest(Path(str(value)))}"]
        return [f"{path}={json.dumps(value)}"]
    value = canonical(value)
    path, written = _written(path, chip_data)
    if path in NAMED_FILES and isinstance(value, str) and is_path(value):
        value = _content(path, value)
    if written is not None and type(written) is type(value) and written == value:
        return []
    return [f"{path}={json.dumps(value)}"]


def _content(parameter: str, file: str) -> str:
    """A digest of what a data file says, its parents included; its path where there is none."""
    if not Path(file).is_file():
        return file
    data = load_yaml(Path(file), search=data_dir(NAMED_FILES[parameter])).data
    return f"#{hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()}"


def _written(path: str, chip_data: Mapping[str, Any]) -> tuple[str, Value]:
    """The path as `core.` where there is one kind of core, and what the base chip's file says there, if anything."""
    words = path.split(".")
    here: Any = chip_data
    cores = chip_data.get("cores")
    if words[0] in ("core", "cores") and isinstance(cores, list):
        named = words[0] == "cores"
        kinds = [core for core in cores if not named or core.get("name") == words[1]]
        here, words = (kinds[0] if kinds else None), words[2 if named else 1 :]
        path = ".".join(["core", *words]) if len(cores) == 1 else path
    for word in words:
        here = here.get(word) if isinstance(here, Mapping) else None
    try:
        return path, canonical(here)
    except ValueError:
        return path, None


@cache
def simulator_digest() -> str:
    """Of the version, and of the code and data that numbers depend on."""
    digest = hashlib.sha256(__version__.encode())
    package = Path(__file__).resolve().parents[1]
    for name in _NUMBERS:
        found = [package / name] if name.endswith(".py") else sorted((package / name).rglob("*.py"))
        for file in found:
            digest.update(f"{file.relative_to(package)}\n".encode() + file.read_bytes())
    for folder in NAMED_FILES.values():
        for file in sorted(data_dir(folder).glob("*.yaml")):
            digest.update(f"{file.name}\n".encode() + file.read_bytes())
    return digest.hexdigest()


@cache
def model_digest(model: str) -> str:
    """Of a model's file, or of its name where the name says it all (gemm:MxNxK). Raises InputError on neither."""
    from sim.graph.load import model_file

    path = model_file(model)
    return model if path is None else _file_digest(path)


def _file_digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
