"""What an evaluation gives: of one point, or of many as columns."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Status = Literal["ok", "infeasible", "failed"]


@dataclass(frozen=True, slots=True)
class Result:
    """Of one evaluation. `ok` has metrics; `infeasible` is a design that cannot be or does not hold the model,
    `failed` anything else that went wrong, both with `error`. `wall_s` is what it took."""

    status: Status
    metrics: Mapping[str, Any]
    error: str
    wall_s: float


@dataclass(frozen=True, slots=True)
class Results:
    """Of many evaluations, one row each: columns are sent and stored in a tenth of the time. A metric that a row does
    not have is None."""

    status: Sequence[Status]
    error: Sequence[str]
    wall_s: Sequence[float]
    metrics: Mapping[str, Sequence[Any]]

    @staticmethod
    def of(rows: Iterable[Result]) -> Results:
        """Results one by one as columns."""
        given = list(rows)
        names = dict.fromkeys(name for row in given for name in row.metrics)
        return Results(
            [row.status for row in given],
            [row.error for row in given],
            [row.wall_s for row in given],
            {name: [row.metrics.get(name) for row in given] for name in names},
        )

    def __len__(self) -> int:
        return len(self.status)

    def __getitem__(self, at: int) -> Result:
        ok = self.status[at] == "ok"
        metrics = {name: column[at] for name, column in self.metrics.items()} if ok else {}
        return Result(self.status[at], metrics, self.error[at], self.wall_s[at])

    def __iter__(self) -> Iterator[Result]:
        return map(self.__getitem__, range(len(self)))


class RowMetrics(Mapping[str, Any]):
    """The metrics of one row of columns: a tenth of the memory of a dict of its own."""

    __slots__ = ("_at", "_columns")

    def __init__(self, columns: Mapping[str, Sequence[Any]], at: int) -> None:
        self._columns, self._at = columns, at

    def __getitem__(self, name: str) -> Any:
        return self._columns[name][self._at]

    def get(self, name: str, default: Any = None) -> Any:
        """As of a dict."""
        column = self._columns.get(name)
        return default if column is None else column[self._at]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __repr__(self) -> str:
        return repr(dict(self))


def packed(values: Sequence[Any]) -> Sequence[Any]:
    """The same values in the least memory: numbers of one type side by side, equal words once."""
    kinds = set(map(type, values))
    if kinds == {float}:
        return array("d", values)
    if kinds == {int}:
        return array("q", values)
    known: dict[Any, Any] = {}
    return [known.setdefault(value, value) if type(value) is str else value for value in values]
