"""Power over time: joules in every slice by hand, totals exact, repeats and closed forms included."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from programs import (
    ARRAY,
    LOAD_QUEUE,
    TO_CORE0,
    Builder,
    operator,
    program_of,
    simulate,
    small_chip,
)
from test_report import gemm, layer

from sim.cost.energy import COMPONENTS
from sim.hw.chip import Chip
from sim.hw.technology import load_technology
from sim.program import Kind, Segment
from sim.report.account import Account, account
from sim.report.notes import over_power_limit
from sim.report.power import power
from sim.report.report import build_report

N7 = load_technology("n7")


def accounted(segment: Segment, repeats: int = 1, closed: bool = False) -> Account:
    program, timeline = simulate(segment, repeats=(repeats,))
    return account(program, None if closed else timeline, small_chip(), N7, None)


def load_then_compute() -> Segment:
    """1000 B over 100..1100 ticks (after a head of 100), then 3000 ticks of an array that runs 1000 longer."""
    build = Builder([operator(macs=8)])
    load = build.move(Kind.LOAD, LOAD_QUEUE, 1000, TO_CORE0, latency=100)
    build.compute(ARRAY, 4000, hold=3000, after=[load])
    return build.segment()


def test_joules_lie_where_they_are_spent() -> None:
    run = accounted(load_then_compute())
    found = {name: np.array(values) for name, values in power(run, slices=51).table().items()}
    assert found["end_s"][0] == pytest.approx(100e-12)
    energy_j = {name: run.energy_j(name) for name in COMPONENTS}
    # The head of 100 ticks moves nothing, then 10 slices have a tenth each.
    assert found["dram_read_w"][0] == 0
    assert found["dram_read_w"][1:11] == pytest.approx(energy_j["dram_read"] / 10 / 100e-12)
    assert found["dram_read_w"][11:] == pytest.approx(0, abs=1e-9 * found["dram_read_w"].max())
    # The array is held for 30 of the 40 slices that it runs for.
    assert found["mac_w"][11:41] == pytest.approx(energy_j["mac"] / 30 / 100e-12)
    assert found["mac_w"][41:] == pytest.approx(0, abs=1e-9 * found["mac_w"].max())
    assert found["leakage_w"] == pytest.approx(run.idle_w["leakage"])
    assert found["clock_w"][0] == pytest.approx(run.idle_w["clock"])
    busy_j = energy_j["clock"] - run.idle_w["clock"] * 5100e-12
    assert found["clock_w"][11] - found["clock_w"][0] == pytest.approx(busy_j / 3000e-12)


@pytest.mark.parametrize("slices", [1, 7, 256])
@pytest.mark.parametrize("repeats", [1, 3, 1000])
@pytest.mark.parametrize("closed", [False, True])
def test_slices_sum_to_the_energy_of_every_component(slices: int, repeats: int, closed: bool) -> None:
    run = accounted(layer(), repeats, closed)
    found = power(run, slices).table()
    for name in COMPONENTS:
        joules = np.array(found[f"{name}_w"]) @ (np.array(found["end_s"]) - found["start_s"])
        assert joules == pytest.approx(run.energy_j(name), rel=1e-6, abs=0), name
    assert found["total_w"] == pytest.approx(sum(np.array(found[f"{name}_w"]) for name in COMPONENTS))


def test_repeats_look_alike() -> None:
    once = power(accounted(layer()), slices=8).watts["total_w"]
    thrice = power(accounted(layer(), repeats=3), slices=24).watts["total_w"]
    assert thrice == pytest.approx(3 * list(once), rel=1e-6)


def test_energy_of_an_operator_without_a_task_of_the_kind_is_not_lost() -> None:
    segment = load_then_compute()
    ops = tuple(replace(op, counts={"vector_add": 1e6}) for op in segment.ops)
    run = accounted(replace(segment, ops=ops))
    found = power(run, slices=10).watts
    assert np.mean(found["vector_w"]) * 5100e-12 == pytest.approx(run.energy_j("vector"))
    assert run.energy_j("vector") > 0


def test_peak_and_limit() -> None:
    def summary(chip: Chip) -> dict[str, object]:
        program, timeline = simulate(layer())
        return dict(build_report(gemm(), chip, N7, program, timeline, options={}, wall_s=0.5).values)

    free = summary(small_chip())
    peak_w, average_w = float(str(free["peak_power_w"])), float(str(free["power_w"]))
    assert peak_w > average_w > float(str(free["chip_power_w"]))
    assert list(over_power_limit(free)) == []
    for limit_w, words in (
        (peak_w * 1.01, None),
        ((peak_w + average_w) / 2, "peak"),
        (average_w / 2, "average"),
    ):
        found = summary(small_chip().replace("power_limit", f"{limit_w:.6f} W"))
        notes = list(over_power_limit(found))
        assert [words in note for note in notes] == ([] if words is None else [True])
        assert found["power_limit_w"] == pytest.approx(limit_w, rel=1e-5)


def test_a_program_of_nothing_but_a_load_has_power() -> None:
    build = Builder([operator("load")])
    build.move(Kind.LOAD, LOAD_QUEUE, 1000, TO_CORE0)
    program = program_of(build.segment())
    found = power(account(program, None, small_chip(), N7, None), slices=4).watts
    assert min(found["dram_read_w"]) > 0
