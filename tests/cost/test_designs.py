"""N designs at once: columns against chips built one by one, and the public table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from random_chips import base_chip, random_chips, random_columns

import sim
from sim.cost.designs import designs_from, designs_of
from sim.cost.hardware import cost_columns, rate_columns, timing_columns
from sim.errors import InputError
from sim.hw.area import chip_area
from sim.hw.chip import load_chip
from sim.hw.money import chip_cost, load_prices
from sim.hw.technology import load_technology

COUNT = 12


def test_columns_are_the_chips_they_stand_for() -> None:
    columns = designs_from(base_chip(), random_columns(COUNT, seed=3))
    chips = random_chips(COUNT, seed=3)
    one_by_one = designs_of(chips)
    assert np.array_equal(timing_columns(columns), timing_columns(one_by_one))
    assert np.array_equal(rate_columns(columns, ["int8"]), rate_columns(one_by_one, ["int8"]))
    mine, theirs = cost_columns(columns), cost_columns(one_by_one)
    for one, other in ((mine.idle_w, theirs.idle_w), (mine.actions, theirs.actions)):
        for name in other:
            assert one[name] == pytest.approx(other[name], rel=1e-12), name
    assert [columns.chip(row) for row in range(COUNT)] == chips
    technology = load_technology("n7")
    assert mine.area_mm2.tolist() == pytest.approx([sum(chip_area(c, technology).values()) for c in chips])
    prices = load_prices("default")
    usd = [sum((chip_cost(c, technology, prices) or {}).values()) for c in chips]
    assert mine.cost_usd.tolist() == pytest.approx(usd, rel=1e-12)


def test_money_is_that_of_a_report() -> None:
    """Spare cores and DRAM are priced, each design by its own; a die that no wafer holds has no price."""
    columns = {"core.sram.size": ["1 MiB", "4 MiB", "4 MiB", "20 GiB"], "core.spare": [0, 0, 2, 0]}
    table = sim.bound("gemm:256x256x256", "lepton_m", columns, dtype="int8")
    base = load_chip("lepton_m")
    for row in range(3):
        chip = base.replace_many({path: values[row] for path, values in columns.items()})
        report = sim.simulate("gemm:256x256x256", chip, dtype="int8")
        assert table["cost_usd"][row] == pytest.approx(report["cost_usd"], rel=1e-12)
        # The default prices: systems of twice the chips, 4 years at 60 %, 0.08 USD/kWh at 1.1 times the power.
        usd_per_s = 2 * table["cost_usd"][row] / (4 * 365.25 * 86400 * 0.6) + 1.1 * 0.08 / 3.6e6 * table["power_w"][row]
        million = 1e6 * usd_per_s / table["throughput_per_s"][row]
        assert table["cost_per_million_usd"][row] == pytest.approx(million, rel=1e-9)
    assert table["cost_usd"][2] != table["cost_usd"][1]
    assert np.isnan(table["cost_usd"][3])


def test_a_core_follows_the_clock_of_the_chip_unless_it_has_its_own() -> None:
    designs = designs_from(load_chip("lepton_m"), {"clock": ["600 MHz", "1.8 GHz"]})
    assert designs.column("cores", 0, "clock_hz").tolist() == [600e6, 1.8e9]
    own = load_chip("lepton_m").replace("core.clock", "1 GHz")
    assert designs_from(own, {"clock": ["600 MHz"]}).column("cores", 0, "clock_hz").tolist() == [1e9]


def test_the_table_is_the_same_for_columns_and_for_chips() -> None:
    columns = random_columns(COUNT, seed=4)
    one = sim.bound("gemm:512x384x256", base_chip(), columns, dtype="int8")
    two = sim.bound("gemm:512x384x256", random_chips(COUNT, seed=4), dtype="int8")
    pd.testing.assert_frame_equal(one[list(two)], two, check_exact=False, rtol=1e-12)
    assert list(one)[: len(columns)] == list(columns)
    assert one["latency_s"].nunique() == COUNT
    assert (one["latency_s"] >= one["bound_latency_s"]).all()


def test_several_inputs_follow_at_the_pace_of_the_cores() -> None:
    one, many = (
        sim.bound("resnet18", "lepton_m", {"core.vector.lanes": [64, 256]}, dtype="int8", inputs=n)
        for n in (1, 10)
    )
    assert many["latency_s"].tolist() == one["latency_s"].tolist()
    between = (many["elapsed_s"] - one["elapsed_s"]) / 9
    assert many["throughput_per_s"].tolist() == pytest.approx((1 / between).tolist())
    # Host transfers of one input hide behind the work on another.
    assert (between < one["latency_s"]).all()
    assert many["dram_read_bytes"].tolist() == (10 * one["dram_read_bytes"]).tolist()
    assert (many["energy_per_input_j"] < one["energy_per_input_j"]).all()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"core.array.rws": [1]}, "core.array.rws: unknown path; there is no 'rws'; did you mean 'rows'?"),
        ({"core.array.rows": [64, 0]}, "found 0; expected greater than or equal to 1"),
        ({"core.array.rows": [64, "64"]}, "expected a whole number"),
        ({"core.sram.size": ["3"]}, "a bare number; expected a size with its unit"),
        ({"dram.device": ["hbm9"]}, "unknown DRAM device 'hbm9'"),
        ({"core.array.rows": [1, 2], "core.array.cols": [1]}, "core.array.rows 2, core.array.cols 1"),
        ({"core.count": [8, 9]}, "8 nodes cannot hold 9 cores"),
    ],
)
def test_bad_columns_are_refused_in_the_words_of_the_chip(
    columns: dict[str, list[object]], message: str
) -> None:
    with pytest.raises(InputError) as error:
        sim.bound("gemm:64x64x64", "lepton_m", columns, dtype="int8")
    assert message in str(error.value)


def test_a_design_that_cannot_run_the_model_is_a_row_that_says_so() -> None:
    table = sim.bound("gemm:4096x4096x4096", "lepton_m", {"core.sram.size": ["128 B", "1 MiB"]}, dtype="int8")
    assert "does not fit in a core" in table.loc[0, "error"]
    assert np.isnan(table.loc[0, "latency_s"])
    assert table.loc[1, "error"] == ""
    assert table.loc[1, "latency_s"] > 0
    small = sim.bound("resnet18", "lepton_m", {"dram.capacity": ["8 MiB"]}, dtype="int8")
    assert "the weights" in small.loc[0, "error"]


def test_rows_that_share_adders_come_in_whole_groups() -> None:
    base = base_chip().replace_many({"core.array.rows": 64, "core.array.rows_per_adder": 16})
    found = designs_from(base, {"core.array.rows": [32, 64], "clock": ["1 GHz", "1.1 GHz"]})
    assert [chip.cores[0].array.rows for chip in found.chips if chip.cores[0].array] == [32, 64]
    with pytest.raises(InputError, match="40 rows are no multiple of 16"):
        designs_from(base, {"core.array.rows": [32, 40]})
    columns = {"core.array.rows": [40, 40], "core.array.rows_per_adder": [8, 16]}
    with pytest.raises(InputError, match="40 rows are no multiple of 16"):
        designs_from(base_chip(), columns)
