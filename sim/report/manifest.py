"""The manifest of a run: what exactly was simulated, by which version, so that it can be done again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim import __version__
from sim.graph.graph import Graph, Passes
from sim.hw.chip import Chip

FOLDER_FORMAT = 1
"""Format of run folders; one higher whenever an older reader could misread a newer folder or the other way."""
MANIFEST_TIME_KEYS = ("wall_s", "created")
"""The keys in which two runs of the same input differ."""
CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Taken:
    """What may change after a run: the commit, the hash of the model's file ("" without one), the time."""

    commit: str | None
    model_sha256: str
    created: str


def taken(graph: Graph | Passes) -> Taken:
    """What a manifest has to note at once."""
    file = Path(graph.source) if graph.source else None
    digest = _sha256(file.read_bytes()) if file is not None and file.is_file() else ""
    return Taken(git_commit(), digest, _now())


def build_manifest(
    graph: Graph | Passes, chip: Chip, options: Mapping[str, Any], wall_s: float, at: Taken
) -> dict[str, Any]:
    """Version, git commit (None outside a checkout), options, expanded chip, hashes of the inputs, seed,
    times.

    The model's hash is that of its file where it came from one, and always that of the graph simulated.
    """
    configuration = chip.expanded()
    hashes = {"chip": _sha256(_canonical(configuration)), "graph": _sha256(_graph_text(graph))}
    if at.model_sha256:
        hashes["model_file"] = at.model_sha256
    return {
        "version": __version__,
        "commit": at.commit,
        "options": json.loads(_canonical(dict(options))),
        "configuration": configuration,
        "input_hashes": hashes,
        "seed": int(options.get("seed", 0)),
        "wall_s": wall_s,
        "created": at.created,
    }


def git_commit(checkout: Path = CHECKOUT) -> str | None:
    """Commit of a checkout, by default the one this package runs from; None where there is none.

    `.git` is a file that names the folder in a worktree or submodule, whose branches lie in the folder that its
    `commondir` names (gitrepository-layout(5)).
    """
    git = checkout / ".git"
    try:
        if git.is_file():
            git = checkout / git.read_text().removeprefix("gitdir:").strip()
        head = (git / "HEAD").read_text().strip()
        if not head.startswith("ref: "):
            return head
        ref = head.removeprefix("ref: ")
        shared = git / (git / "commondir").read_text().strip() if (git / "commondir").is_file() else git
        loose = next((folder / ref for folder in (git, shared) if (folder / ref).is_file()), None)
        if loose is not None:
            return loose.read_text().strip()
        packed = (line.split() for line in (shared / "packed-refs").read_text().splitlines())
        return next((row[0] for row in packed if len(row) == 2 and row[1] == ref), None)
    except (OSError, UnicodeDecodeError):
        return None


def _graph_text(graph: Graph | Passes) -> str:
    """Everything that timing depends on: tensors and operators, not the weights' values."""
    if isinstance(graph, Passes):
        return "\n".join(f"{count} x {_graph_text(part)}" for part, count in graph.parts)
    tensors = [f"{t.name} {t.shape} {t.dtype} {t.role}" for t in graph.tensors.values()]
    ops = [
        f"{op.name} {op.kind} {op.inputs} {op.output} {sorted(op.attributes.items())} {step_names}"
        for op in graph.ops
        for step_names in [
            [(step.kind, step.inputs, sorted(step.attributes.items())) for step in op.epilogue]
        ]
    ]
    return "\n".join([graph.name, *tensors, *ops, str(graph.inputs), str(graph.outputs)])


def _canonical(data: object) -> str:
    return json.dumps(data, sort_keys=True, default=str)


def _sha256(data: str | bytes) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def _now() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).isoformat(timespec="seconds")
