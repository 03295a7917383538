"""Quantities: every prefix, what is refused and what the message says, and exact round trips."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.units import DIMENSIONS, UnitError, format_quantity, parse

BYTES = {
    "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "PB": 10**15,
    "KiB": 1024, "MiB": 1048576, "GiB": 1073741824, "TiB": 1099511627776,
}  # fmt: skip
SMALL = {"f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "µ": 1e-6, "m": 1e-3, "": 1.0}


@pytest.mark.parametrize(("unit", "factor"), BYTES.items())
def test_byte_prefixes(unit: str, factor: int) -> None:
    assert parse(f"3 {unit}", "size") == 3 * factor
    assert parse(f"3 {unit}/s", "bandwidth") == 3 * factor


@pytest.mark.parametrize(
    ("unit", "bits"),
    {
        "bit/s": 1,
        "kbit/s": 10**3,
        "Mbit/s": 10**6,
        "Gbit/s": 10**9,
        "Tbit/s": 10**12,
        "Pbit/s": 10**15,
    }.items(),
)
def test_bits_per_second_only_when_written_out(unit: str, bits: int) -> None:
    assert parse(f"16 {unit}", "bandwidth") == 2 * bits


@pytest.mark.parametrize(
    ("unit", "hz"),
    {"Hz": 1, "kHz": 10**3, "MHz": 10**6, "GHz": 10**9, "THz": 10**12, "PHz": 10**15}.items(),
)
def test_frequency_prefixes(unit: str, hz: int) -> None:
    assert parse(f"940 {unit}", "frequency") == 940 * hz


@pytest.mark.parametrize(("prefix", "factor"), SMALL.items())
def test_small_prefixes(prefix: str, factor: float) -> None:
    assert parse(f"7 {prefix}s", "time") == pytest.approx(7 * factor, rel=1e-15, abs=0)
    assert parse(f"7 {prefix}J", "energy") == pytest.approx(7 * factor, rel=1e-15, abs=0)
    assert parse(f"7 {prefix}W", "power") == pytest.approx(7 * factor, rel=1e-15, abs=0)
    assert parse(f"7 {prefix}J/B", "energy_per_byte") == pytest.approx(7 * factor, rel=1e-15, abs=0)
    assert parse(f"7 {prefix}J/bit", "energy_per_byte") == pytest.approx(56 * factor, rel=1e-15, abs=0)
    assert parse(f"7 {prefix}J/bit/mm", "energy_per_bit_mm") == pytest.approx(7 * factor, rel=1e-15, abs=0)
    assert parse(f"7 {prefix}W/mm2", "power_density") == pytest.approx(7 * factor, rel=1e-15, abs=0)


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("854 um2", "area", 854e-6),
        ("14 mm2", "area", 14.0),
        ("2 cm2", "area", 200.0),
        ("3 kW", "power", 3000.0),
        ("2 MW", "power", 2e6),
        ("1.5 mm", "length", 1.5),
        ("20 um", "length", 0.02),
        ("1 cm", "length", 10.0),
        ("9346 USD", "money", 9346.0),
        ("9.3 kUSD", "money", 9300.0),
        ("1 MUSD", "money", 1e6),
        ("1.5 KiB", "size", 1536),
        ("1.2TB/s", "bandwidth", 1_200_000_000_000),
        ("1e3 kB", "size", 1_000_000),
        ("100 ns", "time_ps", 100_000),
        ("0.25 ns", "time_ps", 250),
        ("1 s", "time_ps", 10**12),
    ],
)
def test_values(text: str, dimension: str, value: float) -> None:
    assert parse(text, dimension) == value


@pytest.mark.parametrize(
    ("text", "dimension", "says"),
    [
        ("128 K", "size", "'kB' (10^3 bytes) or 'KiB' (2^10 bytes)"),
        ("128 KB", "size", "'kB' (10^3 bytes) or 'KiB' (2^10 bytes)"),
        ("2 G", "size", "'GB' (10^9 bytes) or 'GiB' (2^30 bytes)"),
        ("16 Gb/s", "bandwidth", "'Gbit/s'"),
        ("128", "size", "a bare number; expected a size with its unit, such as '128 KiB'"),
        (128, "size", "units: B, kB, MB"),
        (True, "size", "expected a size"),
        (None, "size", "expected a size"),
        ("0.3 B", "size", "whole number of B"),
        ("0.5 ps", "time_ps", "whole number of ps"),
        ("-1 KiB", "size", "not negative"),
        ("5 mhz", "frequency", "did you mean 'MHz'?"),
        ("5 GB", "bandwidth", "did you mean 'GB/s'?"),
        ("fast", "bandwidth", "such as '1.2 TB/s'"),
        ("1e999 B", "size", "is not a unit of size"),
        ("", "size", "expected a size"),
    ],
)
def test_refusals_say_what_is_expected(text: object, dimension: str, says: str) -> None:
    with pytest.raises(UnitError) as error:
        parse(text, dimension)
    assert says in str(error.value)
    assert str(text) in str(error.value)


@pytest.mark.parametrize(
    ("value", "dimension", "text"),
    [
        (1.2e12, "bandwidth", "1.2 TB/s"),
        (34.1e-6, "time", "34.1 us"),
        (3.2e-3, "energy", "3.2 mJ"),
        (1536, "size", "1.5 KiB"),
        (1023, "size", "1023 B"),
        (0, "size", "0 B"),
        (2_500, "time_ps", "2.5 ns"),
        (0.000854, "area", "854 um2"),
        (1e-11, "energy_per_byte", "10 pJ/B"),
        (5e15, "size", "4547 TiB"),
        (999.793545e-6, "time", "1 ms"),
        (999.4e-6, "time", "999 us"),
        (-999.9e-9, "energy", "-1 uJ"),
        (999.8, "energy", "1000 J"),
        (1023.7 * 1024, "size", "1024 KiB"),
    ],
)
def test_for_reading(value: float, dimension: str, text: str) -> None:
    assert format_quantity(value, dimension) == text


@given(st.sampled_from([d for d in DIMENSIONS.values() if d.integral]), st.integers(0, 10**18))
def test_exact_text_of_whole_numbers_round_trips(dimension: object, value: int) -> None:
    name = dimension.name  # type: ignore[attr-defined]
    assert parse(format_quantity(value, name, exact=True), name) == value


@given(st.sampled_from([d for d in DIMENSIONS.values() if not d.integral]), st.floats(1e-30, 1e12))
def test_exact_text_of_real_numbers_round_trips(dimension: object, value: float) -> None:
    name = dimension.name  # type: ignore[attr-defined]
    assert parse(format_quantity(value, name, exact=True), name) == value


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        value = parse(text, "size")
    except UnitError:
        return
    assert value >= 0
    assert text.strip()[0] in "+.0123456789"


@pytest.mark.parametrize(
    ("text", "dimension"),
    [("120 ns", "time"), ("1.1 us", "time"), ("13.2 pJ/B", "energy_per_byte"), ("1.7 mW", "power")],
)
def test_exact_text_of_a_float_is_the_shortest(text: str, dimension: str) -> None:
    assert format_quantity(parse(text, dimension), dimension, exact=True) == text
