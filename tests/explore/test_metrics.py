"""sim/explore/metrics.py: limits with units, contradictions, and the mix of workloads by hand."""

from __future__ import annotations

import math

import pytest

from sim.explore.metrics import (
    best_direction,
    check_metric,
    combine,
    contradiction,
    known_metrics,
    parse_constraint,
    show_metric,
    worst_violation,
)


def test_a_limit_is_read_in_base_units() -> None:
    found = parse_constraint(" latency_s<=1.5 ms ")
    assert (found.metric, found.comparison, found.limit) == ("latency_s", "<=", 0.0015)
    assert parse_constraint("array_utilization >= 0.3").limit == 0.3
    assert parse_constraint("dram_read_bytes < 2 KiB").limit == 2048
    assert parse_constraint("throughput_per_s > 100").limit == 100


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("power_w <= 75", "a bare number; expected a power"),
        ("power_w <= 75 s", "is not a unit of power"),
        ("power_w = 75 W", "expected METRIC <= LIMIT"),
        ("tasks <= many", "expected a number"),
        ("tasks <= nan", "expected a number"),
    ],
)
def test_a_limit_without_its_unit_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_constraint(text)


def test_violation_is_a_share_of_the_limit() -> None:
    limit = parse_constraint("power_w <= 50 W")
    assert limit.violation(50.0) == 0
    assert limit.violation(75.0) == pytest.approx(0.5)
    assert limit.violation(None) == limit.violation(math.nan) == math.inf
    assert parse_constraint("power_w < 50 W").violation(50.0) > 0
    assert parse_constraint("tasks >= 10").violation(4) == pytest.approx(0.6)


def test_contradictions_are_found() -> None:
    def pair(*texts: str) -> bool:
        return contradiction([parse_constraint(text) for text in texts]) is not None

    assert pair("power_w <= 5 W", "power_w >= 6 W")
    assert pair("power_w < 5 W", "power_w >= 5 W")
    assert not pair("power_w <= 5 W", "power_w >= 5 W")
    assert not pair("power_w <= 5 W", "tasks >= 6")
    assert not pair("power_w >= 5 W", "power_w <= 6 W")


def test_a_mix_of_workloads_by_hand() -> None:
    """A runs three times as often as B: 3 x 1 s and 1 x 5 s, 3 x 2 J and 1 x 14 J."""
    one = {"latency_s": 1.0, "elapsed_s": 1.0, "energy_j": 2.0, "power_w": 2.0, "throughput_per_s": 1.0,
           "array_utilization": 0.5, "tops_per_w": 3.0, "area_mm2": 7.0, "dtype": "int8", "x": None}  # fmt: skip
    two = {"latency_s": 5.0, "elapsed_s": 5.0, "energy_j": 14.0, "power_w": 2.8, "throughput_per_s": 0.2,
           "array_utilization": 0.1, "tops_per_w": 1.0, "area_mm2": 7.0, "dtype": "bf16", "x": 1.0}  # fmt: skip
    mix = combine(["a", "b"], [3, 1], [one, two])
    assert mix["latency_s"] == pytest.approx(2.0)
    assert mix["energy_j"] == pytest.approx(5.0)
    assert mix["power_w"] == pytest.approx(20 / 8)
    assert mix["throughput_per_s"] == pytest.approx(4 / 8)
    assert mix["array_utilization"] == pytest.approx((3 * 0.5 + 5 * 0.1) / 8)
    assert mix["tops_per_w"] == pytest.approx((6 * 3 + 14 * 1) / 20)
    assert mix["area_mm2"] == 7.0
    assert (mix["dtype"], mix["x"]) == (None, None)
    assert (mix["a.latency_s"], mix["b.dtype"]) == (1.0, "bf16")
    assert combine(["a"], [3], [one]) == one
    limit = parse_constraint("latency_s <= 4 s")
    assert worst_violation(limit, mix, ["a", "b"]) == pytest.approx(0.25)
    assert worst_violation(parse_constraint("a.latency_s <= 4 s"), mix, ["a", "b"]) == 0


def test_metrics_are_the_columns_of_a_report() -> None:
    assert {"latency_s", "energy_j", "power_w", "area_mm2", "time_to_first_token_s"} <= set(known_metrics())
    assert "bottleneck" not in known_metrics()
    assert check_metric("latency_s", ["a"]) == check_metric("b.latency_s", ["a", "b"]) == ""
    assert "did you mean 'latency_s'" in check_metric("latncy_s", ["a"])
    assert "workloads: a, b" in check_metric("xyz.latency_s", ["a", "b"])
    assert "with one workload" in check_metric("a.latency_s", ["a"])
    assert best_direction("throughput_per_s") == "max"
    assert best_direction("energy_j") == "min"
    assert show_metric("latency_s", 0.0015) == "1.5 ms"
    assert show_metric("tasks", 12.0) == "12"
