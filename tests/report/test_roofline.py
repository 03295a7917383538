"""The bound against hand arithmetic."""

from __future__ import annotations

import pytest
from programs import (
    ARRAY,
    ARRAY1,
    LOAD_QUEUE,
    SLOW_PATTERN,
    TO_CORE0,
    VECTOR,
    Builder,
    operator,
    program_of,
    small_chip,
)

from sim.program import Kind, Program
from sim.report.roofline import Bound, network_bound, operator_bounds, peak_macs_per_s, segment_floors

PS = 1e-12


def _bound(program: Program, **which: int) -> Bound:
    floors = [segment_floors(program, segment, small_chip()) for segment in program.segments]
    return network_bound(floors, program.segments, program.repeats, **which)


def test_the_peak_counts_every_array_and_only_formats_it_has() -> None:
    assert peak_macs_per_s(small_chip(), "int8") == 2 * 4 * 1e9
    assert peak_macs_per_s(small_chip(), "fp32") == 0.0


def test_an_operator_is_bound_by_its_scarcest_resource() -> None:
    build = Builder(
        [operator("compute", macs=80), operator("memory", macs=80), operator("add", unit="vector")]
    )
    build.compute(ARRAY, 9000)
    build.move(Kind.LOAD, LOAD_QUEUE, 6000, SLOW_PATTERN, op=1)  # twice the DRAM time of its bytes
    build.compute(ARRAY1, 9000, op=1)
    build.compute(VECTOR, 400, op=2)
    program = program_of(build.segment())
    seconds, kinds = operator_bounds(segment_floors(program, program.segments[0], small_chip()))
    # 80 MACs at 8 per ns; 6000 B at half of 1 B/ps; 400 ps of one of two vector units.
    assert seconds.tolist() == pytest.approx([10_000 * PS, 12_000 * PS, 200 * PS])
    assert kinds == ["array", "dram", "vector"]
    # Together: 160 MACs need 20 ns, the DRAM 12 ns.
    assert _bound(program).seconds == pytest.approx(20_000 * PS)
    assert (_bound(program).kind, _bound(program).resource) == ("array", "all arrays")


def test_repeats_count_and_other_inputs_do_not() -> None:
    build = Builder([operator("a"), operator("a", input_index=1)])
    build.move(Kind.LOAD, LOAD_QUEUE, 100, TO_CORE0)
    build.move(Kind.LOAD, LOAD_QUEUE, 900, TO_CORE0, op=1)
    program = program_of(build.segment(), repeats=[3])
    assert _bound(program).seconds == pytest.approx(300 * PS)
    assert _bound(program, input_index=1).seconds == pytest.approx(2700 * PS)
    assert _bound(program).resource == "dram"


def test_macs_on_the_vector_unit_do_not_bound_the_arrays() -> None:
    build = Builder([operator("depthwise", macs=8000, unit="vector")])
    build.compute(VECTOR, 100)
    bound = _bound(program_of(build.segment()))
    assert (bound.kind, bound.seconds) == ("vector", pytest.approx(50 * PS))
