"""A few runs side by side: ratios, what differs in their inputs, and where the time and the energy differ."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sim.errors import Diagnostic, InputError
from sim.hw.chip import Chip, chip_from_dict, load_chip
from sim.report.report import Report
from sim.report.words import ENERGY_WORDS, critical_steps

METRICS = (
    "latency_s", "throughput_per_s", "bound_latency_s", "array_utilization", "energy_per_input_j", "energy_j",
    "power_w", "tops_per_w", "area_mm2", "cost_usd", "dram_read_bytes", "dram_write_bytes", "sram_read_bytes",
    "noc_bytes", "tasks",
)  # fmt: skip
"""Columns of a report that are shown, in this order, where any side has a value."""

_SETTING = ("name", "source", "notes", "version")
_RUN_FILES = ("summary.json", "ops.csv", "manifest.json")


@dataclass(frozen=True, slots=True)
class Side:
    """One of the runs compared. `steps` are seconds of the critical path by what they were spent on, None where only
    the operators are known; `operators` are seconds and `energy_j` joules by name."""

    name: str
    values: Mapping[str, Any]
    settings: Mapping[str, Any] = field(repr=False)
    operators: Mapping[str, float] = field(repr=False)
    energy_j: Mapping[str, float] = field(repr=False)
    steps: Mapping[str, float] | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Difference:
    """One line of a comparison: a value per side, None where a side has none."""

    what: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs side by side; ratios and changes are against the first. `time` and `energy` are sorted by how much they
    explain; their columns add up to the sides' totals. `time_of` says what the lines of `time` are."""

    sides: tuple[Side, ...]
    metrics: tuple[Difference, ...]
    settings: tuple[Difference, ...]
    time: tuple[Difference, ...]
    energy: tuple[Difference, ...]
    time_of: str


def compare(
    model: str | None, chips: Sequence[str | Chip], /, *, baseline: str | Path | None = None, **options: Any
) -> Comparison:
    """Simulate a model on several chips, or on one beside the run folder `baseline`, and compare.

    `options` are those of sim.simulate. With a baseline, what is not given is the run's own: its model, its chip as it
    was configured, its options. Raises InputError and DoesNotFit as sim.simulate, InputError on a folder that is no
    run.
    """
    from sim.pipeline import simulate

    sides = []
    if baseline is not None:
        before, manifest = read_run(Path(baseline))
        sides.append(before)
        asked = {key: value for key, value in manifest["options"].items() if key not in ("model", "engine")}
        options = asked | {key: value for key, value in options.items() if value not in (None, (), {})}
        model = model or manifest["options"]["model"]
        chips = list(chips) or [chip_from_dict(manifest["configuration"])]
    if model is None or len(sides) + len(chips) < 2:
        raise InputError("nothing to compare: expected MODEL and two chips, or a baseline")
    for chip in chips:
        on = load_chip(chip) if isinstance(chip, str) else chip
        report = simulate(model, on, **options)
        sides.append(side_of(report, chip if isinstance(chip, str) else "now"))
    return compare_sides(_renamed(sides))


def compare_sides(sides: Sequence[Side]) -> Comparison:
    """Lines of two sides or more."""
    by_step = all(side.steps is not None for side in sides)
    parts = [(side.steps if by_step else side.operators) or {} for side in sides]
    return Comparison(
        sides=tuple(sides),
        metrics=tuple(
            line
            for line in _lines(METRICS, [s.values for s in sides])
            if any(v is not None for v in line.values)
        ),
        settings=tuple(
            line
            for line in _lines(_names([s.settings for s in sides]), [s.settings for s in sides])
            if any(value != line.values[0] for value in line.values)
        ),
        time=_by_change(parts),
        energy=_by_change([side.energy_j for side in sides]),
        time_of="critical path" if by_step else "operator",
    )


def causes(found: Comparison, side: int, most: int = 3) -> list[tuple[str, float]]:
    """What makes a side's time differ from the first's: lines of `time` with their seconds more (or less), those that
    go the way of the whole, largest first."""
    changes = [(line.what, (line.values[side] or 0.0) - (line.values[0] or 0.0)) for line in found.time]
    whole = sum(change for _, change in changes)
    same_way = [(what, change) for what, change in changes if change * whole > 0]
    return sorted(same_way, key=lambda item: -abs(item[1]))[:most]


def side_of(report: Report, name: str) -> Side:
    """A report as a side."""
    path = report.tables["critical_path"]
    steps = (
        {f"{what} {cause}": ticks / 1e12 for what, cause, ticks in critical_steps(path)}
        if any(path.values())
        else None
    )
    energy = {
        ENERGY_WORDS.get(part, part): float(joules)
        for part, joules in zip(
            report.tables["energy"]["component"], report.tables["energy"]["energy_j"], strict=True
        )
    }
    ops = report.tables["ops"]
    manifest = report.manifest
    return Side(
        name=name,
        values=report.to_json(),
        settings=_settings(manifest),
        operators=_summed(ops["name"], ops["time_s"]),
        energy_j=energy,
        steps=steps,
    )


def read_run(folder: Path) -> tuple[Side, Mapping[str, Any]]:
    """A run folder that `lepton simulate --out` wrote, and its manifest. Raises InputError where it is none."""
    missing = [name for name in _RUN_FILES if not (folder / name).is_file()]
    if missing:
        hint = "`lepton simulate --out DIR` writes one"
        raise InputError(Diagnostic(f"no run folder: it has no {', '.join(missing)}", folder, hint=hint))
    try:
        values = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        with (folder / "ops.csv").open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        names = [row["name"] for row in rows]
        parts = [
            key for key in rows[0] if key.startswith("energy_") and key.endswith("_j") and key != "energy_j"
        ]
        energy = {
            ENERGY_WORDS.get(word, word): sum(float(row[key]) for row in rows)
            for key in parts
            for word in [key.removeprefix("energy_").removesuffix("_j")]
        }
        operators = _summed(names, [float(row["time_s"]) for row in rows])
        side = Side(str(folder), values, _settings(manifest), operators, energy, None)
        manifest["options"]["model"], manifest["configuration"]
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        message = f"cannot be read as a run folder: {type(error).__name__}: {error}"
        raise InputError(Diagnostic(message, folder, hint="it may be of another version")) from error
    return side, manifest


def flat(data: Any, path: str = "") -> dict[str, Any]:
    """Nested data by path: {"cores": [{"name": "a", "count": 2}]} is {"cores.a.count": 2}."""
    if isinstance(data, Mapping):
        found: dict[str, Any] = {}
        for key, value in data.items():
            if key not in _SETTING:
                found |= flat(value, f"{path}.{key}" if path else str(key))
        return found
    if isinstance(data, list) and data and all(isinstance(item, Mapping) and "name" in item for item in data):
        only = len(data) == 1
        named = {("core" if only and path == "cores" else f"{path}.{item['name']}"): item for item in data}
        return {key: value for name, item in named.items() for key, value in flat(item, name).items()}
    return {path: data}


def _settings(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Everything a result depends on: the chip, the options, the simulator."""
    options = {f"option {key}": value for key, value in manifest["options"].items() if key != "model"}
    head = {
        "model": manifest["options"]["model"],
        "simulator": manifest["version"],
        "commit": manifest["commit"],
    }
    return head | options | flat(manifest["configuration"])


def _renamed(sides: Sequence[Side]) -> list[Side]:
    """Names in a table are told apart."""
    names = [side.name for side in sides]
    return [
        Side(f"{s.name} #{at + 1}", s.values, s.settings, s.operators, s.energy_j, s.steps)
        if names.count(s.name) > 1
        else s
        for at, s in enumerate(sides)
    ]


def _names(sides: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for side in sides for name in side))


def _lines(names: Sequence[str], sides: Sequence[Mapping[str, Any]]) -> list[Difference]:
    return [Difference(name, tuple(side.get(name) for side in sides)) for name in names]


def _by_change(sides: Sequence[Mapping[str, float]]) -> tuple[Difference, ...]:
    """The largest spread first."""

    def spread(line: Difference) -> float:
        numbers = [value or 0.0 for value in line.values]
        return max(numbers) - min(numbers)

    return tuple(sorted(_lines(_names(sides), sides), key=spread, reverse=True))


def _summed(names: Sequence[str], values: Sequence[float]) -> dict[str, float]:
    total: dict[str, float] = {}
    for name, value in zip(names, values, strict=True):
        total[name] = total.get(name, 0.0) + float(value)
    return total
