"""The fitted scalars: each acts where it says, in the engines and in the bound."""

import numpy as np
import pytest

import sim
from sim.errors import InputError
from sim.graph.builder import GraphBuilder
from sim.hw.calibration import UNCALIBRATED, Calibration
from sim.hw.chip import Chip, chip_from_dict, load_chip

GEMM = "gemm:256x256x256"


def chip_with(**scalars: str | float) -> Chip:
    return load_chip("tiny", {f"calibration.{name}": value for name, value in scalars.items()})


def run(chip: Chip, **options: str) -> sim.Report:
    return sim.simulate(GEMM, chip, dtype="int8", **options)


def chain(length: int):
    builder = GraphBuilder("chain", "int8")
    x = builder.input("x", (4, 4))
    for _ in range(length):
        x = builder.softmax(x)
    return builder.build([x], kernel=True)


def test_a_launch_delays_an_operator_by_exactly_its_overhead():
    assert run(chip_with(launch_overhead="3 us"))["latency_s"] == pytest.approx(
        run(load_chip("tiny"))["latency_s"] + 3e-6, rel=1e-12
    )


def test_launches_follow_one_another_beside_the_work():
    chip = chip_with(launch_overhead="1 ms")
    alone = sim.simulate(chain(5), load_chip("tiny"))
    report = sim.simulate(chain(5), chip)
    assert 5e-3 < report["latency_s"] < 5e-3 + alone["latency_s"]
    assert report["bound_latency_s"] == pytest.approx(5e-3)
    assert report["bottleneck"] == "dispatch"
    closed = sim.simulate(chain(5), chip, fidelity="bound")
    assert closed["latency_s"] > 5e-3


def test_both_engines_and_the_values_agree_on_a_calibrated_chip():
    chip = chip_with(launch_overhead="2 us", tile_overhead="40 ns", array_efficiency=0.7, dram_efficiency=0.6)
    found = {run(chip, engine=engine)["latency_s"] for engine in ("compiled", "reference")}
    assert len(found) == 1
    assert sim.verify_values(chain(3), chip).passed


def test_a_tenth_of_the_dram_takes_ten_times_as_long_for_the_same_bytes():
    whole, part = (
        sim.simulate("gemm:1x4096x4096", chip, dtype="int8")
        for chip in (load_chip("tiny"), chip_with(dram_efficiency=0.1))
    )
    assert part["dram_read_bytes"] == pytest.approx(whole["dram_read_bytes"], rel=0.01)
    assert part["bottleneck"] == "dram"
    assert part["bound_latency_s"] == pytest.approx(10 * whole["bound_latency_s"], rel=0.01)
    assert part["bound_latency_s"] <= part["latency_s"] < 1.3 * part["bound_latency_s"]


def test_the_bound_knows_the_achieved_rate_and_the_utilisation_the_peak():
    whole, half = (
        sim.simulate("gemm:2048x2048x2048", chip, dtype="int8")
        for chip in (load_chip("tiny"), chip_with(array_efficiency=0.5))
    )
    assert half["bound_latency_s"] == pytest.approx(2 * whole["bound_latency_s"])
    assert half["array_utilization"] < 0.5


def test_vector_efficiency_divides_the_rate_of_the_vector_unit():
    builder = GraphBuilder("tanh", "int8")
    graph = builder.build([builder.tanh(builder.input("x", (512, 512)))], kernel=True)
    whole, half = (
        sim.simulate(graph, chip).resources.query("kind == 'vector'")["busy_s"].sum()
        for chip in (load_chip("tiny"), chip_with(vector_efficiency=0.5))
    )
    assert half == pytest.approx(2 * whole, rel=1e-3)


def test_a_tile_overhead_is_paid_once_per_tile():
    plain, late = run(load_chip("tiny")), run(chip_with(tile_overhead="1 us"))
    tasks = sim.plan(GEMM, chip_with(tile_overhead="1 us"), dtype="int8")[2]
    units = np.array([queue.unit for queue in tasks.queues])
    tiles = sum(int(np.isin(units[s.queue], ("array", "vector")).sum()) for s in tasks.segments)
    busy = [report.resources.query("kind in ('array', 'vector')")["busy_s"].sum() for report in (plain, late)]
    assert busy[1] >= tiles * 1e-6
    assert late["latency_s"] > plain["latency_s"]


def test_a_calibrated_chip_survives_being_written_out_and_loses_it_again():
    chip = chip_with(launch_overhead="1 us", cache_efficiency=0.5)
    assert chip_from_dict(chip.expanded()) == chip
    plain = chip.with_calibration(UNCALIBRATED)
    assert plain == load_chip("tiny")
    assert "calibration" not in plain.expanded()
    assert all(
        kind.calibration == Calibration(launch_overhead_ps=10**6, cache_efficiency=0.5) for kind in chip.cores
    )


def test_the_least_dram_efficiency_runs_on_the_worst_pattern():
    slow = {"dram.device": "gddr6", "dram.streams": 16}
    chip = load_chip("tiny", {"calibration.dram_efficiency": 0.05, **slow})
    assert sim.simulate("gemm:7x4099x3", chip, dtype="int8")["latency_s"] > 0


def test_an_efficiency_above_one_is_an_error_with_its_place():
    with pytest.raises(
        InputError, match=r"calibration.array_efficiency: found 1.5; .*less than or equal to 1"
    ):
        chip_with(array_efficiency=1.5)
    with pytest.raises(InputError, match=r"there is no 'launch'; known: launch_overhead"):
        chip_with(launch="1 us")


def test_what_all_arrays_sustain_belongs_to_chips_that_deal_tiles():
    with pytest.raises(InputError, match=r"calibration.sustained_efficiency: belongs to chips that deal tiles"):
        chip_with(sustained_efficiency=0.8)
    assert Calibration(array_efficiency=0.9, sustained_efficiency=0.8).arrays_efficiency == 0.8
    assert Calibration(array_efficiency=0.7, sustained_efficiency=0.8).arrays_efficiency == 0.7


def test_fewer_arrays_at_work_run_at_a_higher_clock_under_the_same_power():
    """What they draw goes with how many work and with the square of their clock, until that is the data sheet's."""
    slowed = Calibration(sustained_efficiency=0.8).slowed(np.array([0.1, 0.64, 0.81, 1.0, 1.0 + 1e-9]))
    assert slowed == pytest.approx([1.0, 1.0, 1.125, 1.25, 1.25])
    clock = 1 / slowed[2:]
    assert np.array([0.81, 1.0, 1.0]) * clock**2 == pytest.approx(0.8**2)
    assert Calibration().slowed(np.array([0.5, 1.0])).tolist() == [1.0, 1.0]


def test_every_operand_adds_to_its_launch():
    plain, late = (
        run(chip_with(launch_overhead="1 us")),
        run(chip_with(launch_overhead="1 us", operand_overhead="2 us")),
    )
    # Two operands and a result.
    assert late["latency_s"] == pytest.approx(plain["latency_s"] + 6e-6, rel=1e-12)
    assert late.ops.iloc[0]["launch_s"] == pytest.approx(7e-6)


def test_a_contraction_adds_to_its_launch_other_work_does_not():
    """A product takes 3 us more; an addition as long as before; the bound says the same."""
    plain, late = (chip_with(launch_overhead="1 us"), chip_with(launch_overhead="1 us", contraction_overhead="3 us"))
    assert run(late)["latency_s"] == pytest.approx(run(plain)["latency_s"] + 3e-6, rel=1e-12)
    builder = GraphBuilder("add", "int8")
    added = builder.build([builder.add(builder.input("x", (8, 8)), builder.input("y", (8, 8)))])
    for fidelity in ("event", "bound"):
        times = [sim.simulate(added, chip, fidelity=fidelity)["latency_s"] for chip in (plain, late)]
        assert times[0] == times[1] > 1e-6
    bounds = [run(chip, fidelity="bound")["latency_s"] for chip in (plain, late)]
    assert bounds[1] == pytest.approx(bounds[0] + 3e-6, rel=1e-12)
    compiled = sim.bound(GEMM, [plain, late], dtype="int8")["latency_s"]
    assert compiled[1] == pytest.approx(compiled[0] + 3e-6, rel=1e-9)
    compiled = sim.bound(added, [plain, late], dtype="int8")["latency_s"]
    assert compiled[1] == compiled[0]


def test_seven_scalars_are_too_many():
    all_of_them = {
        "launch_overhead": "1 us", "operand_overhead": "1 us", "tile_overhead": "1 us", "array_efficiency": 0.9,
        "vector_efficiency": 0.9, "dram_efficiency": 0.9,
    }  # fmt: skip
    assert run(chip_with(**all_of_them))["latency_s"] > 0
    with pytest.raises(InputError, match=r"found 7 scalars .*; expected at most 6"):
        chip_with(**all_of_them, cache_efficiency=0.9)


def test_the_tile_search_sees_the_dram_too():
    estimates = []
    for chip in (load_chip("tiny"), chip_with(dram_efficiency=0.1)):
        program = sim.plan("gemm:1x4096x4096", chip, dtype="int8")[2]
        estimates.append(program.segments[0].ops[0].mapping["estimate_s"])
    assert estimates[1] > 2 * estimates[0]
