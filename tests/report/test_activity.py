"""What went on when: the numbers of hand-made programs, conservation on real ones, and no link above its capacity."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from programs import (
    ARRAY,
    DRAM,
    LINKS,
    LOAD_QUEUE,
    SLOW_PATTERN,
    STORE_QUEUE,
    TO_CORE0,
    VECTOR,
    Builder,
    operator,
    simulate,
    small_chip,
)

import sim
from sim.hw.technology import load_technology
from sim.program import BYTE_UNITS, Kind, Segment
from sim.report.account import Account, account
from sim.report.activity import activity, timeline
from sim.report.report import Report


def account_of(*segments: Segment, repeats: tuple[int, ...] = ()) -> Account:
    program, times = simulate(*segments, repeats=repeats)
    return account(program, times, small_chip(), load_technology("n7"), None)


def columns(of: Account, slices: int) -> dict[str, Any]:
    return {name: np.array(values) for name, values in activity(of, slices).items()}


def two_steps() -> Segment:
    """Load 90 B in 10 + 90 ticks, compute for 60 of the next 100, store 90 B in the last 100."""
    build = Builder([operator("a"), operator("b", unit="vector")])
    load = build.move(Kind.LOAD, LOAD_QUEUE, 90, TO_CORE0)
    compute = build.compute(ARRAY, 100, hold=60, after=[load])
    build.move(Kind.STORE, STORE_QUEUE, 90, TO_CORE0, after=[compute], op=1)
    return build.segment()


def test_slices_have_the_work_that_was_done_in_them() -> None:
    table = columns(account_of(two_steps()), 6)  # of 50 ticks each
    ps = 1e-12
    assert table["end_s"][-1] == pytest.approx(300 * ps)
    # Two arrays and two vector units; one array is held from 100 to 160.
    assert table["array_utilization"] == pytest.approx([0, 0, 0.5, 0.1, 0, 0])
    assert "vector_utilization" in table
    # The payload flows at 1 byte a tick from 10 to 100, and from 210 to 300.
    assert table["dram_read_bytes_per_s"] * 50 * ps == pytest.approx([40, 50, 0, 0, 0, 0])
    assert table["dram_write_bytes_per_s"] * 50 * ps == pytest.approx([0, 0, 0, 0, 40, 50])
    assert table["dram_utilization"] == pytest.approx([0.8, 1, 0, 0, 0.8, 1])
    # Two DMA links of 2 bytes a tick: one of them half used.
    assert table["dma_utilization"] == pytest.approx([0.2, 0.25, 0, 0, 0.2, 0.25])


def test_repeats_follow_each_other() -> None:
    once = columns(account_of(two_steps()), 6)
    thrice = columns(account_of(two_steps(), repeats=(3,)), 18)
    for name in set(once) - {"start_s", "end_s"}:
        assert thrice[name] == pytest.approx(np.tile(once[name], 3), abs=1e-9), name


def test_a_bad_pattern_fills_the_dram_without_moving_more() -> None:
    build = Builder([operator("a")])
    build.move(Kind.LOAD, LOAD_QUEUE, 40, SLOW_PATTERN, latency=20)
    table = columns(account_of(build.segment()), 10)  # 20 + 80 ticks
    assert table["dram_utilization"] == pytest.approx([0, 0] + [1] * 8)
    assert table["dram_read_bytes_per_s"].sum() * 10e-12 == pytest.approx(40)


def test_unevenly_shared_links_stay_within_their_capacity() -> None:
    """A long transfer gets half the DRAM while a short one shares it, all of it afterwards: spread evenly, the long
    one would overfill the beginning."""
    build = Builder([operator("long"), operator("short")])
    build.move(Kind.LOAD, LOAD_QUEUE, 900, TO_CORE0)
    build.move(Kind.LOAD, LOAD_QUEUE, 100, TO_CORE0, op=1)
    table = columns(account_of(build.segment()), 101)  # 10 ticks of latency, then 1,000 of a full DRAM
    assert table["dram_utilization"][0] == pytest.approx(0, abs=1e-9)
    assert table["dram_utilization"][1:] == pytest.approx(np.ones(100))
    assert table["dram_read_bytes_per_s"] * 10e-12 == pytest.approx([0] + [10] * 100)


@pytest.fixture(scope="module")
def report() -> Report:
    return sim.simulate("resnet50", chip="lepton_m", dtype="int8")


def test_activity_adds_up_to_the_tables_of_the_run(report: Report) -> None:
    table, resources, ops = report.activity, report.resources, report.ops
    seconds = table["end_s"] - table["start_s"]
    assert seconds.sum() == pytest.approx(report.elapsed_s)
    for kind in ("array", "vector", "dram", "port", "noc", "dma", "host"):
        # Queues of hosts and ports have the kind of their links, but no bandwidth.
        compute = kind in ("array", "vector")
        mine = (resources["kind"] == kind) & (resources["bytes_per_s"].isna() == compute)
        busy = resources.loc[mine, "utilization"]
        share = table[f"{kind}_utilization"]
        assert share.mean() == pytest.approx(busy.mean()), kind
        assert share.min() >= 0
        assert share.max() <= 1 + 1e-9, kind
    for name in ("dram_read", "dram_write", "noc_injected", "host"):
        moved = (table[f"{name}_bytes_per_s"] * seconds).sum()
        assert moved == pytest.approx(ops[f"{name}_bytes"].sum()), name
    peak = resources.loc[resources["kind"] == "dram", "bytes_per_s"].item()
    assert (table["dram_read_bytes_per_s"] + table["dram_write_bytes_per_s"]).max() <= peak * (1 + 1e-9)


def test_a_row_of_the_timeline_is_a_stretch_of_one_operator() -> None:
    table = timeline(account_of(two_steps()))
    rows = list(
        zip(*(table[name] for name in ("resource", "op", "start_ps", "end_ps", "busy_ps")), strict=True)
    )
    assert rows == [
        ("core0.array", "a", 100, 160, 60),
        ("core0.load", "a", 0, 100, 100),
        ("core0.store", "b", 200, 300, 100),
    ]


def test_the_timeline_expands_repeats() -> None:
    once, thrice = (timeline(account_of(two_steps(), repeats=(n,))) for n in (1, 3))
    wanted = sorted(
        (resource, start + 300 * n, end + 300 * n)
        for n in range(3)
        for resource, start, end in zip(once["resource"], once["start_ps"], once["end_ps"], strict=True)
    )
    assert list(zip(thrice["resource"], thrice["start_ps"], thrice["end_ps"], strict=True)) == wanted


def test_many_short_repeats_are_one_row_with_all_their_work() -> None:
    table = timeline(account_of(two_steps(), repeats=(10_000,)), most=150)
    assert len(table["op"]) == 3
    array = table["resource"].index("core0.array")
    assert (table["start_ps"][array], table["end_ps"][array]) == (100, 300 * 9_999 + 160)
    assert table["busy_ps"][array] == 60 * 10_000


def test_of_a_slice_the_operator_with_most_time_has_the_queue() -> None:
    build = Builder([operator("big"), operator("small"), operator("tail", unit="vector")])
    for _ in range(100):
        build.compute(ARRAY, 900, op=0)
        build.compute(ARRAY, 100, op=1)
    build.compute(VECTOR, 7, op=2)
    table = timeline(account_of(build.segment()), most=20)  # at least 50 slices of 2,000 ticks
    assert set(table["op"]) == {"big", "tail"}
    assert sum(table["busy_ps"]) == 100 * 900 + 7


def test_the_timeline_covers_what_the_units_did(report: Report) -> None:
    spans, resources = report.timeline, report.resources.set_index("resource")
    assert len(spans) < 40_000
    spans = spans[spans["unit"] == "array"].sort_values(["resource", "start_ps"])
    busy = spans.groupby("resource")["busy_ps"].sum() / 1e12
    for name, seconds in busy.items():
        assert seconds == pytest.approx(resources.loc[name, "busy_s"], rel=0.02)
    for _, mine in spans.groupby("resource"):
        assert (mine["start_ps"].to_numpy()[1:] >= mine["end_ps"].to_numpy()[:-1]).all()
    assert (spans["busy_ps"] <= spans["end_ps"] - spans["start_ps"]).all()


def test_a_closed_form_has_neither() -> None:
    report = sim.simulate("gemm:64x64x64", chip="tiny", dtype="int8", fidelity="bound")
    assert report.activity.empty
    assert report.timeline.empty


def test_the_dram_of_these_programs_carries_a_byte_a_tick() -> None:
    assert LINKS[DRAM].capacity == BYTE_UNITS
