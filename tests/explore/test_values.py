"""sim/explore/values.py: lists, ranges, links, and one spelling for a quantity."""

from __future__ import annotations

from typing import Any

import pytest

from sim.explore.values import canonical, column_of, expand, follow, plain
from sim.units import dimension_of_column


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([64, 128], [64, 128]),
        ({"values": ["hbm3", "hbm2"]}, ["hbm3", "hbm2"]),
        (7, [7]),
        ({"from": 64, "to": 256, "step": 64}, [64, 128, 192, 256]),
        ({"from": 64, "to": 250, "step": 64}, [64, 128, 192]),
        ({"from": 0.1, "to": 0.5, "step": 0.1}, [0.1, 0.2, 0.3, 0.4, 0.5]),
        ({"from": 8, "to": 100, "factor": 2}, [8, 16, 32, 64]),
        ({"from": "64 KiB", "to": "1 MiB", "factor": 4}, ["64 KiB", "256 KiB", "1 MiB"]),
        ({"from": "600 MHz", "to": "1.2 GHz", "step": "0.3 GHz"}, ["600 MHz", "900 MHz", "1.2 GHz"]),
        ([[2, 2], [2, 4]], [(2, 2), (2, 4)]),
        (["0.25 MiB", "256 KiB"], ["256 KiB", "256 KiB"]),
    ],
)
def test_values_of_a_parameter(given: Any, expected: list[Any]) -> None:
    assert expand(given) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "empty list"),
        ({"from": 1, "to": 4}, "either step or factor"),
        ({"from": 1, "to": 4, "step": 1, "factor": 2}, "either step or factor"),
        ({"from": 4, "to": 1, "step": 1}, "the range is empty"),
        ({"from": 1, "to": 4, "step": 0}, "expected more than 0"),
        ({"from": 1, "to": 4, "factor": 1}, "expected more than 1"),
        ({"from": 0, "to": 4, "factor": 2}, "starts above 0"),
        ({"from": 1, "to": 4, "stp": 1}, "did you mean 'step'"),
        ({"from": 1, "to": 10**9, "step": 1}, "more than 100,000 values"),
        ({"from": "1 KiB", "to": 4, "step": 1}, "quantities of one kind"),
        ({"from": "1 KiB", "to": "1 MHz", "step": "1 KiB"}, "quantities of one kind"),
        ([{"a": 1}], "expected a number, a quantity"),
    ],
)
def test_what_is_no_range_is_said(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        expand(given)


def test_a_parameter_follows_another() -> None:
    assert follow([64, 128], {}) == [64, 128]
    assert follow([64, 128], {"times": 2}) == [128, 256]
    assert follow(["64 KiB", "96 KiB"], {"times": 0.5}) == ["32 KiB", "48 KiB"]
    assert follow([1, 2], {"values": [[1], [2]]}) == [(1,), (2,)]
    with pytest.raises(ValueError, match="expected 2, one for each"):
        follow([1, 2], {"values": [1, 2, 3]})
    with pytest.raises(ValueError, match="positive number"):
        follow([1], {"times": 0})
    with pytest.raises(ValueError, match="is no number"):
        follow(["hbm3"], {"times": 2})


def test_quantities_have_one_spelling_and_a_column_with_a_unit() -> None:
    assert canonical("0.1 us") == canonical("100 ns") == "100 ns"
    assert canonical("lpddr5_6400") == "lpddr5_6400"
    assert column_of("core.sram.size", ["1 MiB", "64 KiB"]) == ("core.sram.size_bytes", "size")
    assert column_of("clock", ["1 GHz"]) == ("clock_hz", "frequency")
    assert column_of("core.dma.setup_latency", ["100 ns"]) == ("core.dma.setup_latency_s", "time")
    assert column_of("core.array.rows", [1, 2]) == ("core.array.rows", None)
    assert plain("64 KiB", "size") == 65536
    assert plain((2, 4), None) == "2x4"


def test_the_end_of_a_column_tells_its_dimension() -> None:
    known = {
        "latency_s": "time", "throughput_per_s": None, "macs_per_s": None, "dram_bytes_per_s": "bandwidth",
        "tops_per_w": None, "power_w": "power", "energy_per_input_j": "energy", "area_mm2": "area", "cost_usd": "money",
        "dram_read_bytes": "size", "clock_hz": "frequency", "noc_j_per_byte": "energy_per_byte", "wire_mm": "length",
        "macs_per_dram_byte": None, "tasks": None,
    }  # fmt: skip
    assert {name: dimension_of_column(name) for name in known} == known
