"""Space: what is varied of a chip and its workloads, under which constraints, towards which objectives.

A point is a tuple of indices, one per axis: small to send to a worker, and in one order for everybody.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any

from sim.errors import InputError
from sim.explore.metrics import Constraint, Metrics, Objective, combine, parse_constraint, worst_violation
from sim.explore.values import Value, column_of, plain
from sim.hw.chip import Chip, chip_from_dict, chip_from_document
from sim.hw.overrides import with_overrides

Point = tuple[int, ...]

OPTIONS = (
    "batch", "dtype", "weights", "phase", "seq", "kv", "new_tokens", "chips", "inputs", "partition", "dataflow",
    "density", "attention", "sample_layers",
)  # fmt: skip
"""Of a workload, as sim.simulate takes them; `workload.batch` is the path of a parameter."""

WORKLOAD = "workload."
DIMS = "workload.dims."
DENSITY = "workload.density"


@dataclass(frozen=True, slots=True)
class Workload:
    """A model, how it is run (`options` as sim.simulate takes them), and how often (`weight`) in the mix."""

    model: str
    name: str
    weight: float = 1.0
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Axis:
    """Parameters that change together: one row of values per step, one value per path. The first path leads."""

    paths: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]

    @property
    def of_workload(self) -> bool:
        """Whether it changes how a workload is run."""
        return any(path.startswith(WORKLOAD) for path in self.paths)

    @property
    def ordered(self) -> bool:
        """Whether a step to the next row is a small one: numbers and quantities, not words."""
        _, dimension = column_of(self.paths[0], [row[0] for row in self.rows])
        first = [plain(row[0], dimension) for row in self.rows]
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in first):
            return False
        return first == sorted(first) or first == sorted(first, reverse=True)


@dataclass(frozen=True)
class Space:
    """A design space. `chip_data` is the base chip as its file has it, without parents; `duplicates` are the values
    that were given twice and left out."""

    name: str
    chip_data: Mapping[str, Any] = field(repr=False)
    workloads: tuple[Workload, ...]
    axes: tuple[Axis, ...]
    constraints: tuple[Constraint, ...] = ()
    objectives: tuple[Objective, ...] = ()
    duplicates: int = 0

    @property
    def size(self) -> int:
        """Number of points."""
        return math.prod(len(axis.rows) for axis in self.axes)

    @property
    def paths(self) -> tuple[str, ...]:
        """Every parameter, in order."""
        return tuple(path for axis in self.axes for path in axis.paths)

    @cached_property
    def columns(self) -> dict[str, tuple[str, str | None]]:
        """Of every parameter: the name of its column, which ends in its unit, and its dimension."""
        return {
            path: column_of(path, [row[at] for row in axis.rows])
            for axis in self.axes
            for at, path in enumerate(axis.paths)
        }

    @cached_property
    def base(self) -> Chip:
        """The chip that the parameters change."""
        return chip_from_dict(self.chip_data)

    def leaves_alike(self, axis: Axis) -> bool:
        """Whether the bound searches designs together that differ on this axis only."""
        from sim.cost.designs import leaves_alike

        return not axis.of_workload and all(leaves_alike(self.base, path) for path in axis.paths)

    def points(self) -> Iterator[Point]:
        """All points, the last axis fastest."""
        import itertools

        return itertools.product(*(range(len(axis.rows)) for axis in self.axes))

    def point_at(self, number: int) -> Point:
        """The point at a place of `points`, 0..size-1."""
        found = []
        for axis in reversed(self.axes):
            number, index = divmod(number, len(axis.rows))
            found.append(index)
        return tuple(reversed(found))

    def neighbours(self, point: Point) -> Iterator[Point]:
        """Points one step away on one axis; all other rows of an axis without an order."""
        for at, axis in enumerate(self.axes):
            here, last = point[at], len(axis.rows) - 1
            steps: Iterable[int] = (here - 1, here + 1) if axis.ordered else range(last + 1)
            for index in steps:
                if 0 <= index <= last and index != here:
                    yield (*point[:at], index, *point[at + 1 :])

    def parameters(self, point: Point) -> dict[str, Value]:
        """Path and value of every parameter at a point."""
        found: dict[str, Value] = {}
        for axis, index in zip(self.axes, point, strict=True):
            found.update(zip(axis.paths, axis.rows[index], strict=True))
        return found

    def overrides(self, point: Point) -> dict[str, Any]:
        """The parameters of the chip, as Chip.replace_many takes them."""
        return {
            path: _thawed(value)
            for path, value in self.parameters(point).items()
            if not path.startswith(WORKLOAD)
        }

    def columns_of(self, points: Sequence[Point]) -> dict[str, list[Any]]:
        """`overrides` of many points: a column per parameter of the chip."""
        found: dict[str, list[Any]] = {}
        for axis, indices in zip(self.axes, zip(*points, strict=True), strict=True):
            for at, path in enumerate(axis.paths):
                if not path.startswith(WORKLOAD):
                    values = [_thawed(row[at]) for row in axis.rows]
                    found[path] = [values[index] for index in indices]
        return found

    def chip(self, point: Point) -> Chip:
        """The chip of a point. Raises InputError where there can be no such chip."""
        document = self.base.document
        assert document is not None  # a chip from data always has one
        return chip_from_document(with_overrides(document, self.overrides(point), Chip))

    def options(self, workload: Workload, point: Point) -> dict[str, Any]:
        """How a workload is run at a point, as sim.simulate takes it."""
        found = dict(workload.options)
        dims = dict(found.pop("dims", None) or {})
        for path, value in self.parameters(point).items():
            if path.startswith(DIMS):
                dims[path.removeprefix(DIMS)] = value
            elif path == DENSITY and isinstance(found.get("density"), Mapping):
                found["density"] = found["density"] | {"": value}  # tensors that have their own keep it
            elif path.startswith(WORKLOAD):
                found[path.removeprefix(WORKLOAD)] = value
        return found | ({"dims": dims} if dims else {})

    def combine(self, parts: Sequence[Metrics]) -> dict[str, Any]:
        """Columns of the mix of workloads from those of each, in order."""
        names = [workload.name for workload in self.workloads]
        return combine(names, [workload.weight for workload in self.workloads], parts)

    def violation(self, values: Metrics) -> float:
        """The sum over the constraints of how far each is violated, as a share of its limit; 0 is feasible."""
        names = [workload.name for workload in self.workloads]
        return sum(worst_violation(constraint, values, names) for constraint in self.constraints)

    def losses(self, values: Metrics) -> tuple[float, ...]:
        """The objectives as numbers to minimise, in their order. Raises InputError where one has no value."""
        found = []
        for objective in self.objectives:
            value = values.get(objective.metric)
            if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
                raise InputError(
                    f"objective {objective.metric} has no value here: it is not modelled for this run"
                )
            found.append(objective.loss(float(value)))
        return tuple(found)

    def to_data(self) -> dict[str, Any]:
        """As plain data for a store; from_data gives it back."""
        data = {item.name: getattr(self, item.name) for item in fields(self)}
        return data | {
            "chip_data": dict(self.chip_data),
            "workloads": [asdict(workload) for workload in self.workloads],
            "axes": [asdict(axis) for axis in self.axes],
            "constraints": [constraint.text for constraint in self.constraints],
            "objectives": [[objective.metric, objective.direction] for objective in self.objectives],
        }

    @staticmethod
    def from_data(data: Mapping[str, Any]) -> Space:
        """A space from `to_data`, after JSON or before."""
        return Space(
            name=data["name"],
            chip_data=data["chip_data"],
            workloads=tuple(Workload(**item) for item in data["workloads"]),
            axes=tuple(
                Axis(tuple(a["paths"]), tuple(_frozen(row) for row in a["rows"])) for a in data["axes"]
            ),
            constraints=tuple(parse_constraint(text) for text in data["constraints"]),
            objectives=tuple(Objective(*item) for item in data["objectives"]),
            duplicates=data["duplicates"],
        )


def _thawed(value: Value) -> Any:
    """As a chip file has it."""
    return list(value) if isinstance(value, tuple) else value


def _frozen(row: Iterable[Any]) -> tuple[Value, ...]:
    """Lists back into tuples."""
    return tuple(_frozen(item) if isinstance(item, list | tuple) else item for item in row)
