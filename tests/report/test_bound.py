"""The closed form: a report without a timeline, from estimates, action counts and traffic alone."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from programs import (
    ARRAY,
    ARRAY1,
    LOAD_QUEUE,
    LOAD_QUEUE1,
    TO_CORE0,
    TO_CORE1,
    Builder,
    operator,
    program_of,
    simulate,
    small_chip,
)
from rich.console import Console
from test_report import KEYS, gemm, layer

import sim
from sim.cost import energy as cost_energy
from sim.cost.transfers import program_routes
from sim.errors import InvariantViolation
from sim.hw.technology import load_technology
from sim.program import Kind, OpRow, Program, Segment
from sim.report.closed_form import after_launches, input_ends, operator_ticks
from sim.report.report import Report, build_report
from sim.report.roofline import network_bound, segment_floors
from sim.report.text import render_text


def closed_form(program: Program) -> Report:
    options = {"engine": None, "fidelity": "bound"}
    return build_report(
        gemm(), small_chip(), load_technology("n7"), program, None, options=options, wall_s=0.5
    )


def idle_power_w() -> float:
    return sum(cost_energy.idle_power_w(small_chip(), load_technology("n7")).values())


def idle_energy_j(report: Report) -> float:
    """All of the components that flow all the time, but for the clocks of units at work."""
    joules = report.energy.set_index("component")["energy_j"]
    technology, kind = load_technology("n7"), small_chip().cores[0]
    energies = cost_energy.action_energies(small_chip(), kind, technology)
    held = report.resources.set_index("kind")["busy_s"]
    arrays_j, vectors_j = energies.array_clock_w * held["array"].sum(), energies.vector_clock_w * held["vector"].sum()
    return float(joules[list(cost_energy.IDLE)].sum() - arrays_j - vectors_j)


def estimated(segment: Segment, **seconds: float) -> Segment:
    """The segment with estimates for the operators named."""

    def row(op: OpRow) -> OpRow:
        given = {"estimate_s": seconds[op.name]} if op.name in seconds else {}
        return replace(op, mapping={**op.mapping, **given})

    return replace(segment, ops=tuple(map(row, segment.ops)))


def ticks_of(segment: Segment) -> list[int]:
    program = program_of(segment)
    floors = segment_floors(program, segment, small_chip())
    ticks: list[int] = operator_ticks(program, segment, floors, program_routes(program)).tolist()
    return ticks


def test_an_operator_takes_its_estimate_or_what_its_busiest_resource_needs() -> None:
    # The array is held for 2000 ticks, the vector unit for 300; the view does nothing.
    assert ticks_of(estimated(layer(), mm=3e-9, relu=4.5e-10)) == [3000, 450, 0]
    assert ticks_of(estimated(layer(), mm=1e-9, relu=4.5e-10)) == [2000, 450, 0]
    # 40 MACs at 125 ticks each on both arrays together.
    build = Builder([operator("mm", macs=40, mapping={"estimate_s": 1e-9})])
    build.compute(ARRAY, 2000)
    assert ticks_of(build.segment()) == [5000]
    # 900 B at 1 B per tick of DRAM.
    build = Builder([operator("mm", mapping={"estimate_s": 1e-10})])
    build.move(Kind.LOAD, LOAD_QUEUE, 900, TO_CORE0)
    assert ticks_of(build.segment()) == [900]


def test_an_operator_without_estimate_takes_its_transfers_one_after_another() -> None:
    build = Builder([operator("host in: x", unit="host")])
    build.move(Kind.LOAD, LOAD_QUEUE, 100, TO_CORE0, latency=20)
    build.move(Kind.LOAD, LOAD_QUEUE1, 300, TO_CORE1, latency=30)
    assert ticks_of(build.segment()) == [20 + 100 + 30 + 300]


def test_launches_follow_one_another_beside_the_work() -> None:
    """Two launches are over before the work of the second operator begins; the fourth operator waits for its own."""
    launches, taken = np.array([10.0, 10, 10, 200, 0]), np.array([5, 100, 3, 4, 7])
    assert after_launches(launches, taken).tolist() == [15, 105, 3, 111, 7]
    rng = np.random.default_rng(3)
    for _ in range(50):
        launches, taken = rng.integers(0, 20, 9).astype(np.float64), rng.integers(0, 20, 9)
        launched = end = 0
        ends = [0]
        for launch, work in zip(launches.tolist(), taken.tolist(), strict=True):
            launched += int(launch)
            end = max(end, launched) + work
            ends.append(end)
        assert after_launches(launches, taken).tolist() == np.diff(ends).tolist()


def test_small_operators_of_a_gpu_take_about_as_long_as_by_events() -> None:
    """Kernels and their launches take turns in both."""
    asked: dict[str, Any] = {"dtype": "fp16", "phase": "decode", "kv": 64}
    event, closed = (sim.simulate("gpt2", "a100", fidelity=kind, **asked) for kind in ("event", "bound"))
    assert 0.8 < float(event["latency_s"] or 0) / float(closed["latency_s"] or 0) < 1.1
    assert float(closed["latency_s"] or 0) >= float(event["bound_latency_s"] or 0)


def two_stages(second: int, loaded_bytes: int = 0) -> Program:
    """Three inputs: 2000 ticks on core 0, then 3000 ticks on the array `second`; both may load from DRAM."""
    rows = [operator(*row, input_index=index) for index in range(3) for row in (("a", 8), ("b", 0))]
    build = Builder(rows)
    for op in range(0, 6, 2):
        first = build.compute(ARRAY, 2000, op=op)
        build.compute(second, 3000, after=[first], op=op + 1)
        for place in (op, op + 1) if loaded_bytes else ():
            build.move(Kind.LOAD, LOAD_QUEUE, loaded_bytes, TO_CORE0, op=place)
    return program_of(build.segment())


@pytest.mark.parametrize(
    ("program", "ends"),
    [
        (two_stages(ARRAY), (5000, 10_000, 15_000)),  # one core does it all
        (two_stages(ARRAY1), (5000, 8000, 11_000)),  # the slower of two stages sets the pace
        (two_stages(ARRAY1, 2500), (2510 + 3000, 5510 + 5000, 5510 + 2 * 5000)),  # the shared DRAM does
    ],
)
def test_inputs_follow_each_other_at_the_pace_of_the_slowest(program: Program, ends: tuple[int, ...]) -> None:
    segment = program.segments[0]
    floors = segment_floors(program, segment, small_chip())
    ticks = operator_ticks(program, segment, floors, program_routes(program))
    bound = network_bound([floors], program.segments, program.repeats)
    assert input_ends(program, [ticks], bound) == ends


def test_the_summary_has_the_same_keys_and_no_engine() -> None:
    report = closed_form(program_of(estimated(layer(), mm=3e-9)))
    found = report.to_json()
    assert tuple(found) == KEYS
    assert (found["engine"], found["fidelity"]) == (None, "bound")
    assert found["latency_s"] == 3300e-12
    assert found["throughput_per_s"] == pytest.approx(1e12 / 3300)
    assert found["array_utilization"] == pytest.approx(8 * 125 / 3300)
    assert (found["bound_latency_s"], found["bottleneck"]) == (pytest.approx(1e-9), "array")
    assert report.facts["closed_form_latency_s"] == report.elapsed_s == 3300e-12
    assert report.manifest["options"] == {"engine": None, "fidelity": "bound"}


def test_energy_and_traffic_are_those_of_the_events_but_for_the_idle_power() -> None:
    segment = estimated(layer(), mm=3e-9)
    program, timeline = simulate(segment)
    closed = closed_form(program)
    event = build_report(
        gemm(), small_chip(), load_technology("n7"), program, timeline, options={}, wall_s=0.5
    )
    for level in ("dram_read_bytes", "dram_write_bytes", "sram_read_bytes", "sram_write_bytes", "noc_bytes"):
        assert closed[level] == event[level], level
    mine, theirs = (report.energy.set_index("component")["energy_j"] for report in (closed, event))
    assert idle_energy_j(closed) == pytest.approx(idle_power_w() * 3300e-12)
    idle = list(cost_energy.IDLE)
    assert mine.drop(idle).tolist() == theirs.drop(idle).tolist()
    assert mine["dram_read"] > 0
    assert event.facts["closed_form_latency_s"] == 3300e-12 != event["latency_s"]


def test_tables_show_what_needs_no_timeline() -> None:
    report = closed_form(program_of(estimated(layer(), mm=3e-9)))
    ops = report.ops.set_index("name")
    assert ops["time_s"].tolist() == ops["active_s"].tolist() == [3000e-12, 300e-12, 0]
    assert ops["share"].tolist() == pytest.approx([3000 / 3300, 300 / 3300, 0])
    assert ops.loc["mm", "bound_ratio"] == pytest.approx(1000 / 3000)
    for column in ("start_s", "compute_s", "transfer_s", "exposed_transfer_s"):
        assert ops[column].isna().all(), column
    resources = report.resources.set_index("resource")
    assert resources.loc["core0.array", "busy_s"] == 2000e-12
    assert resources.loc["core0.array", "utilization"] == pytest.approx(2000 / 3300)
    assert resources.loc["dram", "utilization"] == pytest.approx(150 / 3300)
    assert np.isnan(resources.loc["core0.load", "busy_s"])
    assert (resources.loc["core0.load", "tasks"], resources.loc["core0.load", "bytes"]) == (1, 100)
    assert report.stalls.empty
    assert report.critical_path.empty
    assert report.overlap_ps == {}
    assert report.to_csv().splitlines()[1].startswith("mm,matmul,0,layer,1,int8,array,1,2,8,,3e-09,")


def test_inputs_on_one_core_each_cost_their_share_of_the_idle_power() -> None:
    one, many = (closed_form(program_of(estimated(layer(inputs=n), mm=3e-9))) for n in (1, 8))
    assert many["latency_s"] == one["latency_s"]
    assert many.elapsed_s == 8 * one.elapsed_s
    assert many["throughput_per_s"] == pytest.approx(one["throughput_per_s"])
    assert many["energy_j"] == pytest.approx(8 * one["energy_j"])  # type: ignore[operator]
    assert many.ops["share"].sum() == pytest.approx(1)


def test_stages_that_overlap_share_the_run() -> None:
    report = closed_form(two_stages(ARRAY1))
    assert report.elapsed_s == 11_000e-12
    # Three times 5000 ticks of work in 11,000.
    assert report.ops["time_s"].sum() == pytest.approx(15_000e-12)
    assert report.ops["share"].tolist() == pytest.approx([2 / 15, 3 / 15] * 3)
    assert idle_energy_j(report) == pytest.approx(idle_power_w() * 11_000e-12)
    assert report["throughput_per_s"] == pytest.approx(1e12 / 3000)


def test_passes_of_text_generation_are_told_apart() -> None:
    prefill, decode = estimated(layer("prefill"), mm=3e-9), estimated(layer("decode"), mm=2.5e-9)
    passes = [
        {"name": "prefill", "segments": 1, "repeat": 1, "items": 4},
        {"name": "decode", "segments": 1, "repeat": 5, "items": 1},
    ]
    program = replace(program_of(prefill, decode, repeats=(1, 5)), facts={"passes": passes})
    graph = gemm()
    longer = {name: replace(graph.tensors[name], shape=shape) for name, shape in SIX_TIMES.items()}
    graph = replace(graph, tensors={**graph.tensors, **longer})
    report = build_report(graph, small_chip(), load_technology("n7"), program, None, options={}, wall_s=0.5)
    assert report["time_to_first_token_s"] == 3300e-12
    assert report["time_per_output_token_s"] == pytest.approx(2800e-12)
    assert report["latency_s"] == pytest.approx(3300e-12 + 5 * 2800e-12)
    assert idle_energy_j(report) == pytest.approx(idle_power_w() * (3300e-12 + 5 * 2800e-12))


SIX_TIMES: Mapping[str, tuple[int, int]] = {"a": (2, 12), "b": (12, 2)}


def test_the_work_must_be_the_graphs_without_a_timeline_too() -> None:
    build = Builder([operator("mm", macs=9)])
    build.compute(ARRAY, 2000)
    with pytest.raises(InvariantViolation, match=r"MACs of the program = MACs of the graph.*9 != 1 x 8"):
        closed_form(program_of(build.segment()))


def shown(report: Report, **options: Any) -> str:
    stream = io.StringIO()
    render_text(report, Console(file=stream, **options))
    return stream.getvalue()


def test_the_text_says_what_it_leaves_out() -> None:
    text = shown(closed_form(program_of(estimated(layer(), mm=3e-9))), width=200)
    assert "gemm on pair  (closed form, int8)" in text
    assert re.search(r"without\s+contention, stalls or overlap between operators", text)
    assert "Where did the time go" not in text
    assert "by their estimate" in text
    assert re.search(r"DRAM +100 B +50 B +45\.5 GB/s", text)
    assert max(map(len, text.splitlines())) <= 100


def test_the_text_of_events_shows_the_closed_form_beside_them() -> None:
    program, timeline = simulate(estimated(layer(), mm=3e-9))
    report = build_report(
        gemm(), small_chip(), load_technology("n7"), program, timeline, options={}, wall_s=0.5
    )
    # 3300 of the 2470 ticks that it really takes.
    assert re.search(r"closed form +3\.3 ns \(1\.34 x\)", shown(report, width=200))
