"""Physical quantities at the border: strings with a unit outside, plain numbers in base units inside.

Base units: B, B/s, Hz, s, ps, J, J/B, W, mm2, USD and their ratios. Decimal prefixes mean powers of 1000 (kB = 1000 B)
and binary prefixes powers of 1024 (KiB = 1024 B), always; a bare number where a unit belongs is refused.
Numbers are read exactly (as fractions) and rounded once at the end, so "1.5 KiB" is 1536 and not nearly so.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

PS_PER_S = 10**12

SLOWEST_LINK, FASTEST_LINK = 62 * 10**6, 65 * 10**15
"""Bytes per second that the engines can tell of a link, in whole 2^-24 bytes per tick (see sim/program.py)."""

_DECIMAL = {"": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15}
_SMALL = {"f": -15, "p": -12, "n": -9, "u": -6, "m": -3, "": 0}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40}

# At most two digits of exponent: "1e99 B" is absurd already, and longer ones cost memory to write out.
_QUANTITY = re.compile(r"([+-]?(?:\d{1,40}(?:\.\d{0,40})?|\.\d{1,40})(?:[eE][+-]?\d{1,2})?)\s*([^\s\d].*)?")


class UnitError(ValueError):
    """A text that is not a quantity of the wanted dimension; the message says what was found and expected."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """One kind of quantity: its units as exact multiples of the base unit, and whether it is whole."""

    name: str
    base: str
    scales: Mapping[str, Fraction]
    integral: bool
    example: str
    shown: tuple[str, ...]  # units used for printing, smallest first


def _decimal(unit: str, prefixes: Mapping[str, int], scale: Fraction | int = 1) -> dict[str, Fraction]:
    return {f"{prefix}{unit}": Fraction(10) ** power * scale for prefix, power in prefixes.items()}


def _bytes(suffix: str = "") -> dict[str, Fraction]:
    binary = {f"{prefix}B{suffix}": Fraction(2**power) for prefix, power in _BINARY.items()}
    return _decimal(f"B{suffix}", _DECIMAL) | binary


def _with_micro_sign(scales: dict[str, Fraction]) -> dict[str, Fraction]:
    """Accept the micro sign beside "u"; printing always uses "u"."""
    return scales | {f"µ{unit[1:]}": s for unit, s in scales.items() if unit.startswith("u")}


def _dimensions() -> dict[str, Dimension]:
    decimal = ("", "k", "M", "G", "T", "P")
    seconds = _decimal("s", _SMALL)
    joules = _decimal("J", _SMALL)
    joules_per_byte = _decimal("J/B", _SMALL) | _decimal("J/bit", _SMALL, 8)
    bits_per_s = _decimal("bit/s", _DECIMAL, Fraction(1, 8))
    watts = _decimal("W", _SMALL | {"k": 3, "M": 6})
    area = {"um2": Fraction(1, 10**6), "mm2": Fraction(1), "cm2": Fraction(100)}
    rows = [
        Dimension("size", "B", _bytes(), True, "128 KiB", ("B", "KiB", "MiB", "GiB", "TiB")),
        Dimension("bandwidth", "B/s", _bytes("/s") | bits_per_s, True, "1.2 TB/s",
                  tuple(f"{p}B/s" for p in decimal)),
        Dimension("frequency", "Hz", _decimal("Hz", _DECIMAL), True, "940 MHz",
                  tuple(f"{p}Hz" for p in decimal[:4])),
        Dimension("time", "s", seconds, False, "34.1 us", ("fs", "ps", "ns", "us", "ms", "s")),
        Dimension("time_ps", "ps", {u: s * PS_PER_S for u, s in seconds.items()}, True, "100 ns",
                  ("ps", "ns", "us", "ms", "s")),
        Dimension("energy", "J", joules, False, "3.2 mJ", ("fJ", "pJ", "nJ", "uJ", "mJ", "J")),
        Dimension("energy_per_byte", "J/B", joules_per_byte, False, "1.3 pJ/B",
                  ("fJ/B", "pJ/B", "nJ/B", "uJ/B")),
        Dimension("energy_per_bit_mm", "J/bit/mm", _decimal("J/bit/mm", _SMALL), False, "0.1 pJ/bit/mm",
                  ("fJ/bit/mm", "pJ/bit/mm")),
        Dimension("power", "W", watts, False, "75 W", ("uW", "mW", "W", "kW")),
        Dimension("power_density", "W/mm2", _decimal("W/mm2", _SMALL), False, "65 mW/mm2",
                  ("uW/mm2", "mW/mm2", "W/mm2")),
        Dimension("power_per_size", "W/MiB", _decimal("W/MiB", _SMALL), False, "20 mW/MiB",
                  ("uW/MiB", "mW/MiB", "W/MiB")),
        Dimension("energy_per_area", "J/mm2", _decimal("J/mm2", _SMALL), False, "175 pJ/mm2",
                  ("fJ/mm2", "pJ/mm2", "nJ/mm2")),
        Dimension("length", "mm", {"um": Fraction(1, 1000), "mm": Fraction(1), "cm": Fraction(10)}, False,
                  "1.5 mm", ("um", "mm")),
        Dimension("area", "mm2", area, False, "854 um2", ("um2", "mm2")),
        Dimension("money_per_area", "USD/mm2", {"USD/mm2": Fraction(1)}, False, "0.1 USD/mm2", ("USD/mm2",)),
        Dimension("money_per_size", "USD/GiB", {"USD/GiB": Fraction(1), "USD/GB": Fraction(2**30, 10**9)},
                  False, "7 USD/GB", ("USD/GiB",)),
        Dimension("money_per_energy", "USD/J", {"USD/J": Fraction(1), "USD/kWh": Fraction(1, 3_600_000)},
                  False, "0.08 USD/kWh", ("USD/kWh",)),
        Dimension("money", "USD", _decimal("USD", {"": 0, "k": 3, "M": 6}), False, "9346 USD", ("USD",)),
    ]  # fmt: skip
    return {
        d.name: Dimension(d.name, d.base, _with_micro_sign(dict(d.scales)), d.integral, d.example, d.shown)
        for d in rows
    }


DIMENSIONS: Mapping[str, Dimension] = _dimensions()


COLUMN_ENDS: Mapping[str, str] = {
    "bandwidth": "_bytes_per_s",
    "energy_per_byte": "_j_per_byte",
    "size": "_bytes",
    "frequency": "_hz",
    "area": "_mm2",
    "length": "_mm",
    "money": "_usd",
    "time": "_s",
    "energy": "_j",
    "power": "_w",
}
"""How the name of a column ends whose values have a dimension, in its base unit."""


def dimension_of_column(name: str) -> str | None:
    """The dimension that the end of a column's name tells: "latency_s" is a time; None for counts and rates
    ("throughput_per_s", "tops_per_w")."""
    found = next((dimension for dimension, end in COLUMN_ENDS.items() if name.endswith(end)), None)
    stem = name.removesuffix(COLUMN_ENDS[found]) if found else name
    return None if stem.endswith("_per") else found


def parse(text: object, dimension: str) -> int | float:
    """The value of `text` ("1.2 TB/s") in the base unit of `dimension`.

    Whole-number dimensions (size, bandwidth, frequency, time_ps) give an int and refuse a remainder.
    Raises UnitError (a ValueError) on a bare number, an unknown or ambiguous unit, or a negative number.
    """
    if not isinstance(text, str):
        wanted = DIMENSIONS[dimension]
        example = f"expected a {_spoken(wanted)} with its unit, such as '{wanted.example}'"
        found = "a bare number" if isinstance(text, int | float) and not isinstance(text, bool) else "no text"
        raise UnitError(f"found {_short(text)}, {found}; {example} (units: {_units(wanted)})")
    return _parsed(text, dimension)


@lru_cache(maxsize=1 << 12)
def _parsed(text: str, dimension: str) -> int | float:
    """`parse` of a text: designs of a sweep have mostly the same."""
    wanted = DIMENSIONS[dimension]
    example = f"expected a {_spoken(wanted)} with its unit, such as '{wanted.example}'"
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise UnitError(f"found {_short(text)}; {example}")
    number, unit = match.groups()
    if unit is None:
        raise UnitError(f"found {_short(text)}, a bare number; {example} (units: {_units(wanted)})")
    if unit not in wanted.scales:
        raise UnitError(f"found {_short(text)}: {_explain_unit(unit, wanted)}")
    value = Fraction(number) * wanted.scales[unit]
    if value < 0:
        raise UnitError(f"found {_short(text)}; expected a {_spoken(wanted)} that is not negative")
    if not wanted.integral:
        return float(value)
    if value.denominator != 1:
        raise UnitError(f"found {_short(text)}; expected a whole number of {wanted.base}")
    return int(value)


def format_quantity(value: float, dimension: str, *, exact: bool = False) -> str:
    """`value`, in the base unit of `dimension`, as text: for reading ("34.1 us") or exact.

    parse(format_quantity(value, dimension, exact=True), dimension) == value.
    """
    wanted = DIMENSIONS[dimension]
    # The shortest decimal that reads back as the float: 1.2e-07 s is 120 ns, not 119.99999999999999 ns.
    number = Fraction(repr(value)) if exact and type(value) is float else Fraction(value)
    unit = _display_unit(number, wanted, exact)
    scaled = number / wanted.scales[unit]
    if not exact:
        return f"{_three_digits(float(scaled))} {unit}"
    text = _decimal_text(scaled)
    read_back = Fraction(text) * wanted.scales[unit]
    same = read_back == value if wanted.integral else float(read_back) == value
    return f"{text} {unit}" if same else f"{value!r} {wanted.base}"


def _display_unit(value: Fraction, wanted: Dimension, exact: bool) -> str:
    """The largest unit below the value; an exact size takes a binary prefix only if it stays whole."""
    candidates = wanted.shown
    if exact and wanted.name == "size":
        candidates = tuple(unit for unit in candidates if value % wanted.scales[unit] == 0)
    # Read by people in three digits, 999.8 us is 1 ms. Of 1,024 bytes four digits are shown.
    rounded = Fraction(1, 10**9) if wanted.name == "size" else Fraction(5, 9995)
    size = abs(value) if exact else abs(value) * (1 + rounded)
    fitting = [unit for unit in candidates if wanted.scales[unit] <= size]
    if fitting:
        return fitting[-1]
    return wanted.base if value == 0 and wanted.base in candidates else candidates[0]


def _three_digits(number: float) -> str:
    """Three significant digits, never in exponent form below 10,000 ("1.2", "34.1", "0.00123", "1020")."""
    if abs(number) >= 999.5:
        return f"{number:.0f}" if abs(number) < 10_000 else f"{number:.3g}"
    text = f"{number:.3g}"
    return f"{number:.6f}".rstrip("0") if "e" in text and abs(number) >= 1e-6 else text


def _decimal_text(number: Fraction) -> str:
    """Shortest decimal text of `number`: exact when it is whole, else 16 digits (float's own precision)."""
    if number.denominator == 1:
        return str(number.numerator)
    for digits in (15, 16, 17):
        text = f"{float(number):.{digits}g}"
        if Fraction(text) == number or float(text) == float(number):
            return text
    return repr(float(number))


def _explain_unit(unit: str, wanted: Dimension) -> str:
    """Why `unit` is refused and which units were probably meant."""
    if wanted.name in ("size", "bandwidth"):
        tail = "/s" if wanted.name == "bandwidth" else ""
        letter = unit[:1].lower()
        missing_second = f"{unit}{tail}" in wanted.scales
        if not missing_second and letter in "kmgt" and unit[1:].lower() in ("", "b", "b/s", "/s"):
            decimal, upper = ("k" if letter == "k" else letter.upper()), letter.upper()
            power = 3 * ("kmgt".index(letter) + 1)
            bits = f", or '{decimal}bit/s'" if unit.endswith("b/s") else ""
            return (
                f"'{unit}' is ambiguous; write '{decimal}B{tail}' (10^{power} bytes) "
                f"or '{upper}iB{tail}' (2^{power // 3 * 10} bytes){bits}"
            )
    close = [u for u in wanted.scales if u.lower() in (unit.lower(), f"{unit.lower()}/s")]
    close += difflib.get_close_matches(unit, wanted.scales, n=1, cutoff=0.5)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    return f"'{unit[:40]}' is not a unit of {wanted.name.replace('_', ' ')} (units: {_units(wanted)}){hint}"


def _units(wanted: Dimension) -> str:
    return ", ".join(unit for unit in wanted.scales if not unit.startswith("µ"))


def _spoken(wanted: Dimension) -> str:
    return "time" if wanted.name == "time_ps" else wanted.name.replace("_", " ")


def _short(text: object) -> str:
    shown = repr(text)
    return shown if len(shown) <= 60 else shown[:57] + "..."
