"""Many chips as columns: a list of chips, or one base chip with columns of changed parameters.

A parameter that is one number of a part (an array's rows, a bandwidth) becomes a column and costs nothing per chip.
One that changes what parts there are or how they are joined (a topology, a DRAM device, a table of rates) makes a
chip of its own per distinct combination.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter, ValidationError

from sim.config import document_from_data, field_adapter, field_specs
from sim.errors import InputError, KeyPath
from sim.hw.calibration import Calibration
from sim.hw.chip import Chip, Host
from sim.hw.core import Accumulator, Array, CoreKind, Dma
from sim.hw.noc import Interconnect
from sim.hw.overrides import resolve_path
from sim.hw.sram import Sram
from sim.hw.systolic import DATAFLOWS
from sim.hw.vector import VectorUnit

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Attributes = tuple[str | int, ...]
"""Where a value sits in a Chip: ("cores", 0, "array", "rows")."""

FREE: Mapping[type, frozenset[str]] = {
    Chip: frozenset({"clock_hz"}),
    CoreKind: frozenset({"clock_hz"}),
    Array: frozenset({"rows", "cols", "count", "dataflow", "double_buffered_weights"}),
    Accumulator: frozenset({"size_bytes", "bandwidth_bytes_per_s"}),
    VectorUnit: frozenset({"lanes"}),
    Sram: frozenset({"size_bytes", "bandwidth_bytes_per_s", "banks"}),
    Dma: frozenset({"channels", "bandwidth_bytes_per_s", "setup_latency_ps", "outstanding"}),
    Interconnect: frozenset({"link_bandwidth_bytes_per_s", "hop_latency_ps"}),
    Host: frozenset({"bandwidth_bytes_per_s", "latency_ps"}),
    Calibration: frozenset(
        {
            "launch_overhead_ps",
            "operand_overhead_ps",
            "contraction_overhead_ps",
            "tile_overhead_ps",
            "array_efficiency",
            "vector_efficiency",
            "dram_efficiency",
        }
    ),
}
"""Fields that are numbers of their own: no rule of the chip joins them to another. A dataflow is the number of its
name in systolic.DATAFLOWS (row_stationary has none: it comes with a block of parameters)."""

SPEEDS: Mapping[type, frozenset[str]] = {
    Chip: frozenset({"clock_hz"}),
    CoreKind: frozenset({"clock_hz"}),
    Accumulator: frozenset({"bandwidth_bytes_per_s"}),
    VectorUnit: FREE[VectorUnit],
    Sram: frozenset({"size_bytes", "bandwidth_bytes_per_s"}),
    Dma: FREE[Dma],
    Interconnect: FREE[Interconnect],
    Host: FREE[Host],
}
"""Those of FREE that leave designs alike (sim/cost/alike.py)."""

_MOST_STRUCTURES = 4096
_STRUCTURES: dict[tuple[int, str], tuple[Chip, Chip]] = {}
"""Chips of distinct structural parameters by their base, which the entry keeps alive: a sweep asks in many calls."""


@dataclass(frozen=True, eq=False)
class Designs:
    """N chips. `chips` are those with a structure of their own, `chip_of` [N] the one each design starts from;
    `changed` [N] columns of numbers that replace the chips' own, by their place in the chip.

    `parameters` are the columns as they were given, by path.
    """

    chips: tuple[Chip, ...]
    chip_of: Int64
    changed: Mapping[Attributes, Float64]
    parameters: Mapping[str, Sequence[object]]

    def __len__(self) -> int:
        return len(self.chip_of)

    def column(self, *place: str | int, missing: float = 0.0) -> Float64:
        """A number of every chip; `missing` where the part is absent."""
        if place in self.changed:
            return self.changed[place]
        return np.array([_value(chip, place, missing) for chip in self.chips], np.float64)[self.chip_of]

    def per_chip(self, values: Sequence[float]) -> Float64:
        """One value per structure, spread over the designs."""
        return np.array(values, np.float64)[self.chip_of]

    def rows(self, which: Int64) -> Designs:
        """Some of the designs, in that order."""
        changed = {place: values[which] for place, values in self.changed.items()}
        parameters = {path: [values[i] for i in which] for path, values in self.parameters.items()}
        return Designs(self.chips, self.chip_of[which], changed, parameters)

    def chip_of_arrays(self, structure: int) -> Chip:
        """A structure with every changed parameter an array over all designs: what closed forms of plain arithmetic
        (area, energies) take as they take a chip. Not validated, and good for nothing else."""
        made: Chip = _placed(self.chips[structure], self.changed)
        return made

    def chip(self, index: int) -> Chip:
        """One design as a chip, without its document; not validated again."""
        made: Chip = self.chips[self.chip_of[index]]
        for place, values in self.changed.items():
            made = _replaced(made, place, values[index])
        return made


def designs_of(chips: Sequence[Chip]) -> Designs:
    """Chips as designs, each with a structure of its own."""
    return Designs(tuple(chips), np.arange(len(chips)), {}, {})


def designs_from(base: Chip, columns: Mapping[str, Sequence[object]]) -> Designs:
    """One design per row of the columns: `base` with the parameters changed by path, as `Chip.replace_many` would.

    Columns are of equal length, quantities strings with a unit. Raises InputError on an unknown path or a bad
    value, as `Chip.replace_many`, and on columns of different lengths.
    """
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        told = ", ".join(f"{path} {len(values)}" for path, values in columns.items())
        raise InputError(f"columns of parameters must be of equal length; found {told}")
    count = lengths.pop() if lengths else 1
    document = base.document or document_from_data(base.expanded(), base.name)
    structural: dict[str, Sequence[object]] = {}
    changed: dict[Attributes, Float64] = {}
    # Rows that share adders are whole groups of them, which a chip has to check.
    shared = any(path.endswith(".rows_per_adder") for path in columns)
    shared = shared or any(kind.array is not None and kind.array.rows_per_adder > 1 for kind in base.cores)
    for path, values in columns.items():
        place, adapter = _free_field(base, resolve_path(document.data, path, Chip))
        if path.endswith(".array.rows") and shared:
            adapter = None
        if adapter is None or (place[-1] == "dataflow" and not set(map(str, values)) <= set(DATAFLOWS)):
            structural[path] = values
        else:
            changed[place] = _numbers(base, path, values, place, adapter)
    chips, chip_of = _structures(base, structural, count)
    for index, _ in enumerate(base.cores):
        # A core without a clock of its own runs at the chip's.
        place = ("cores", index, "clock_hz")
        if ("clock_hz",) in changed and place not in changed and "clock" not in document.data["cores"][index]:
            changed[place] = changed["clock_hz",]
    return Designs(chips, chip_of, changed, {path: list(values) for path, values in columns.items()})


def _structures(
    base: Chip, columns: Mapping[str, Sequence[object]], count: int
) -> tuple[tuple[Chip, ...], Int64]:
    """The distinct combinations of structural parameters as chips, and which of them each row has."""
    if not columns:
        return (base,), np.zeros(count, np.int64)
    numbers: dict[str, int] = {}
    chips: list[Chip] = []
    chip_of = np.empty(count, np.int64)
    paths = repr(list(columns))
    for row, values in enumerate(zip(*columns.values(), strict=True)):
        key = repr(values)
        if key not in numbers:
            numbers[key] = len(chips)
            chips.append(_structure(base, paths + key, dict(zip(columns, values, strict=True))))
        chip_of[row] = numbers[key]
    return tuple(chips), chip_of


def _structure(base: Chip, key: str, values: Mapping[str, object]) -> Chip:
    known = _STRUCTURES.get((id(base), key))
    if known is None:
        if len(_STRUCTURES) >= _MOST_STRUCTURES:
            _STRUCTURES.clear()
        known = _STRUCTURES[id(base), key] = base, base.replace_many(values)
    return known[1]


def leaves_alike(base: Chip, path: str) -> bool:
    """Whether designs that differ in this parameter only are searched together."""
    document = base.document or document_from_data(base.expanded(), base.name)
    place, adapter = _free_field(base, resolve_path(document.data, path, Chip))
    if adapter is None:
        return False
    part: Any = base
    for key in place[:-1]:
        part = part[key] if isinstance(key, int) else getattr(part, key)
    return place[-1] in SPEEDS.get(type(part), ())


def _free_field(base: Chip, path: KeyPath) -> tuple[Attributes, TypeAdapter[Any] | None]:
    """The place of a key path in the chip, and what validates its field if it is a number of its own."""
    here: Any = base
    place: list[str | int] = []
    for index, key in enumerate(path):
        if isinstance(key, int):
            place.append(key)
            here = here[key]
            continue
        part: type = type(here)
        spec = next((spec for spec in field_specs(part) if spec.key == key), None)
        if spec is None:
            return (), None
        place.append(spec.name)
        if index == len(path) - 1:
            free = spec.name in FREE.get(part, ())
            return tuple(place), field_adapter(part, spec.name) if free else None
        here = getattr(here, spec.name)
        if not (dataclasses.is_dataclass(here) or isinstance(here, tuple)):
            return (), None
    return (), None


def _numbers(
    base: Chip, path: str, values: Sequence[object], place: Attributes, adapter: TypeAdapter[Any]
) -> Float64:
    """Values of one free parameter, checked by the rules of its field, each distinct one once."""
    known: dict[object, float] = {}
    found = np.empty(len(values), np.float64)
    for row, value in enumerate(values):
        plain = value.item() if isinstance(value, np.generic) else value
        key = (type(plain), plain) if isinstance(plain, str | int | float) else repr(plain)
        if key not in known:
            try:
                known[key] = _number(adapter.validate_python(plain, strict=True))
            except ValidationError:
                # The chip says what is wrong, in its own words.
                known[key] = _value(base.replace(path, plain), place, 0.0)
        found[row] = known[key]
    return found


def _value(chip: Chip, place: Attributes, missing: float) -> float:
    here: Any = chip
    for key in place:
        if isinstance(key, int):
            if key >= len(here):
                return missing
            here = here[key]
        else:
            here = getattr(here, key)
        if here is None:
            return missing
    return _number(here)


def _number(value: Any) -> float:
    return float(DATAFLOWS.index(value) if value in DATAFLOWS else value)


def _placed(part: Any, changed: Mapping[Attributes, Float64]) -> Any:
    """`part` with arrays in the places of numbers, past all checks; a part that a chip does not have stays absent."""
    inside: dict[str | int, dict[Attributes, Float64]] = {}
    for (key, *rest), values in changed.items():
        inside.setdefault(key, {})[tuple(rest)] = values
    if part is None:
        return None
    if isinstance(part, tuple):
        return tuple(_placed(x, inside.get(i, {})) for i, x in enumerate(part))
    new = copy.copy(part)
    for key, mine in inside.items():
        name = str(key)
        object.__setattr__(new, name, mine[()] if () in mine else _placed(getattr(part, name), mine))
    return new


def _replaced(part: Any, place: Attributes, value: float) -> Any:
    key, *rest = place
    if isinstance(key, int):
        items = list(part)
        items[key] = _replaced(items[key], tuple(rest), value)
        return tuple(items)
    old = getattr(part, key)
    if isinstance(old, str):
        new: Any = DATAFLOWS[int(value)]
    else:
        new = _replaced(old, tuple(rest), value) if rest else type(old)(value)
    return dataclasses.replace(part, **{key: new})
