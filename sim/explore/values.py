"""The values of one swept parameter: a list, a range with a step, a range with a factor, or another's followed.

Quantities are compared and stored in one spelling ("0.25 MiB" is "256 KiB"), so that duplicates are seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from sim.errors import did_you_mean
from sim.units import COLUMN_ENDS, DIMENSIONS, UnitError, format_quantity, parse

Value = str | int | float | bool | None | tuple["Value", ...]
"""Of one parameter: a number, a quantity in its exact spelling, a word, or a list such as a mesh's shape."""

MAX_VALUES = 100_000
"""Of one parameter: beyond, a step was forgotten."""

_RANGE_KEYS = ("from", "to", "step", "factor")
_FOLLOW_KEYS = ("times", "values")


def canonical(value: Any) -> Value:
    """A value in its one spelling; lists become tuples. Raises ValueError on what is no value of a parameter."""
    if isinstance(value, list | tuple):
        return tuple(canonical(item) for item in value)
    if isinstance(value, str):
        dimension = dimension_of([value])
        return value if dimension is None else format_quantity(parse(value, dimension), dimension, exact=True)
    if value is None or isinstance(value, bool | int | float):
        return value
    raise ValueError(f"found {_found(value)}; expected a number, a quantity, a word or a list")


def dimension_of(texts: Sequence[object]) -> str | None:
    """The dimension in which all of `texts` are quantities with a unit ("size"); None where they are no such thing.

    Times are "time" whatever their size.
    """
    for dimension in COLUMN_ENDS if texts else ():
        try:
            for text in texts:
                parse(text, dimension)
        except UnitError:
            continue
        return dimension
    return None


def column_of(path: str, values: Sequence[Value]) -> tuple[str, str | None]:
    """Name of a parameter's column, which ends in its unit, and its dimension ("core.sram.size_bytes", "size")."""
    dimension = dimension_of(values)
    if dimension is None:
        return path, None
    suffix = COLUMN_ENDS[dimension]
    return (path if path.endswith(suffix) else path + suffix), dimension


def plain(value: Value, dimension: str | None) -> Any:
    """A value as it stands in a table: quantities in base units, lists as text ("2x4")."""
    if dimension is not None:
        return parse(value, dimension)
    return "x".join(map(str, value)) if isinstance(value, tuple) else value


def expand(given: Any) -> list[Value]:
    """The values that a file gives for a parameter, in order, with duplicates.

    [64, 128]; {values: [64, 128]}; {from: 64, to: 256, step: 64}; {from: 64 KiB, to: 4 MiB, factor: 2}; one value.
    Raises ValueError with what is wrong.
    """
    if isinstance(given, Mapping):
        if set(given) == {"values"}:
            return expand(given["values"])
        return _range(given)
    if isinstance(given, str) and ".." in given:
        raise ValueError(f"found '{given}'; a range of a file is {{from: 8, to: 64, step: 8}}, or has a factor")
    values = [canonical(item) for item in given] if isinstance(given, list | tuple) else [canonical(given)]
    if not values:
        raise ValueError("an empty list leaves nothing to choose from")
    return values


def follow(source: Sequence[Value], given: Mapping[str, Any]) -> list[Value]:
    """Values of a parameter linked to another's: the same, so many `times` each, or a list of as many `values`.

    Raises ValueError with what is wrong.
    """
    unknown = [key for key in given if key not in _FOLLOW_KEYS]
    if unknown:
        hint = did_you_mean(unknown[0], _FOLLOW_KEYS)
        raise ValueError(f"unknown key '{unknown[0]}'; {hint or 'expected follows with times or values'}")
    if len(given) > 1:
        raise ValueError("found times and values; expected one of them, or neither")
    if "values" in given:
        values = expand(given["values"])
        if len(values) != len(source):
            raise ValueError(f"found {len(values)} values; expected {len(source)}, one for each it follows")
        return values
    times = given.get("times", 1)
    if isinstance(times, bool) or not isinstance(times, int | float) or times <= 0:
        raise ValueError(f"found times {_found(times)}; expected a positive number")
    return [_scaled(value, Fraction(str(times))) for value in source]


def _range(given: Mapping[str, Any]) -> list[Value]:
    unknown = [key for key in given if key not in _RANGE_KEYS]
    if unknown:
        hint = did_you_mean(unknown[0], (*_RANGE_KEYS, "values", "follows", "times"))
        raise ValueError(f"unknown key '{unknown[0]}'; {hint or 'expected from, to and step or factor'}")
    missing = [key for key in ("from", "to") if key not in given]
    if missing or ("step" in given) == ("factor" in given):
        raise ValueError("a range has from, to and either step or factor")
    start, end = given["from"], given["to"]
    by = given.get("step", given.get("factor"))
    ends = [start, end, by] if "step" in given else [start, end]
    dimension = dimension_of(ends)
    low, high = _number(start, dimension), _number(end, dimension)
    if low > high:
        raise ValueError(f"the range is empty: from {start} is above to {end}")
    jump = _number(by, dimension if "step" in given else None)
    least = 0 if "step" in given else 1
    if jump <= least:
        raise ValueError(f"found {'step' if 'step' in given else 'factor'} {by}; expected more than {least}")
    if "factor" in given and low <= 0:
        raise ValueError(f"found from {start}; a range with a factor starts above 0")
    whole = all(isinstance(end, int) for end in ends)
    found: list[Value] = []
    here = low
    while here <= high:
        found.append(_value(here, dimension, whole))
        if len(found) > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES:,} values; a larger step or factor")
        here = here + jump if "step" in given else here * jump
    return found


def _value(number: Fraction, dimension: str | None, whole: bool) -> Value:
    """A number of a range: a quantity, an integer where the ends are (1, 1.5 and 2.25 of factor 1.5 round), a float."""
    if dimension is not None:
        exact = round(number) if DIMENSIONS[dimension].integral else float(number)
        return format_quantity(exact, dimension, exact=True)
    return round(number) if whole or number.denominator == 1 else float(number)


def _number(value: Any, dimension: str | None) -> Fraction:
    if dimension is not None:
        return Fraction(parse(value, dimension))
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(
            f"found {_found(value)}; expected numbers, or quantities of one kind with their units"
        )
    return Fraction(str(value))


def _scaled(value: Value, times: Fraction) -> Value:
    if times == 1:
        return value
    if isinstance(value, tuple):
        return tuple(_scaled(item, times) for item in value)
    dimension = dimension_of([value])
    if dimension is None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError(f"{_found(value)} is no number, so it cannot be taken {float(times):g} times")
    number = _number(value, dimension) * times
    return _value(number, dimension, isinstance(value, int) and number.denominator == 1)


def _found(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
