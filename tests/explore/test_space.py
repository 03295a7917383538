"""sim/explore/space.py and space_file.py: what is varied, and every mistake told with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from spaces import MIX, SMALL, space

import sim
from sim.errors import InputError
from sim.explore.preview import preview
from sim.explore.space import Space
from sim.explore.space_file import list_spaces, load_space


def test_points_and_their_parameters() -> None:
    small = space()
    assert small.size == len(list(small.points())) == 18
    assert [small.point_at(number) for number in range(18)] == list(small.points())
    assert small.parameters((1, 2, 0)) == {
        "core.array.rows": 8, "core.array.cols": 8, "core.sram.size": "64 KiB", "clock": "250 MHz"
    }  # fmt: skip
    chip = small.chip((2, 0, 1))
    assert (chip.cores[0].array.rows, chip.cores[0].array.cols) == (16, 16)  # type: ignore[union-attr]
    assert (chip.cores[0].sram.size_bytes, chip.clock_hz) == (16384, 500_000_000)
    assert set(small.neighbours((1, 0, 0))) == {(0, 0, 0), (2, 0, 0), (1, 1, 0), (1, 0, 1)}


def test_axes_without_order_have_all_others_as_neighbours() -> None:
    words = space(parameters={"dram.device": ["ddr4_2400", "ddr3_2133", "lpddr5_6400"], "clock": ["1 GHz"]})
    assert set(words.neighbours((0, 0))) == {(1, 0), (2, 0)}


def test_parameters_of_the_workload() -> None:
    varied = space(
        parameters={"workload.batch": [1, 4], "workload.dims.n": [2], "workload.dtype": ["int8", "fp32"]},
        workloads=[{"model": "lenet5", "dtype": "int8", "dims": {"m": 3}}],
    )
    assert varied.options(varied.workloads[0], (1, 0, 1)) == {
        "dtype": "fp32", "batch": 4, "dims": {"m": 3, "n": 2}
    }  # fmt: skip
    assert varied.overrides((1, 0, 1)) == {}


def test_a_space_survives_json() -> None:
    for data in (SMALL, MIX):
        one = space(data, constraints=["power_w <= 75 W"], objectives={"throughput_per_s": "max"})
        assert Space.from_data(json.loads(json.dumps(one.to_data()))) == one


def test_duplicates_are_left_out_and_counted() -> None:
    found = preview(
        space(parameters={"core.array.rows": [4, 8, 4], "core.sram.size": ["64 KiB", "0.0625 MiB"]})
    )
    assert (found.size, found.duplicates) == (2, 2)


def test_impossible_points_are_told_beforehand() -> None:
    found = preview(
        space(chip="lepton_s", parameters={"core.count": [1, 2, 4], "interconnect.shape": [[1], [2], [4]]})
    )
    assert (found.checked, found.infeasible) == (9, 3)  # 2 or 4 cores on 1 node, 4 on 2
    assert found.reasons == {
        "interconnect.shape: 1 nodes cannot hold 2 cores": 1,
        "interconnect.shape: 1 nodes cannot hold 4 cores": 1,
        "interconnect.shape: 2 nodes cannot hold 4 cores": 1,
    }
    areas = sorted(
        sim.simulate("gemm:8x8x8", space().chip(p), dtype="int8")["area_mm2"] for p in space().points()
    )
    limit = f"area_mm2 <= {areas[9]} mm2"
    large = preview(space(constraints=[limit]))
    assert large.reasons == {f"constraint {limit}": large.infeasible}
    assert large.infeasible == sum(area > areas[9] for area in areas) > 0


def test_a_space_without_a_possible_point_is_refused() -> None:
    with pytest.raises(InputError, match=r"the space is empty: none of its 2 points.*cannot hold"):
        preview(space(chip="lepton_s", parameters={"core.count": [16, 32]}))
    with pytest.raises(InputError, match=r"the space is empty.*constraint area_mm2 <= 1 mm2"):
        preview(space(constraints=["area_mm2 <= 1 mm2"]))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"core.array.rowz": [1]}, "there is no 'rowz'; did you mean 'rows'"),
        ({"batch": [1, 8]}, "there is no 'batch'; did you mean 'workload.batch'"),
        ({"workload.bach": [1]}, "did you mean 'workload.batch'"),
        ({"core.array.rows": [4, 0]}, "found 0; expected greater than or equal to 1"),
        ({"core.sram.size": ["1 MB", "2 XB"]}, "found '2 XB'"),
        ({"dram.device": ["hbm9"]}, "unknown DRAM device 'hbm9'; did you mean"),
        ({"clock": {"follows": "core.count"}}, "no parameter that leads"),
        ({"clock": []}, "empty list"),
        ({"clock": {"follows": "core.count", "time": 2}, "core.count": [1]}, "did you mean 'times'"),
        ({"clock": {"follows": "core.count", "times": 2, "values": []}, "core.count": [1]}, "times and values"),
    ],
)
def test_a_wrong_parameter_is_told_with_its_path(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        space(parameters=parameters)
    assert caught.value.diagnostics[0].path == f"parameters.{next(iter(parameters))}"


def test_all_mistakes_of_a_file_come_with_line_and_column(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(
        "version: 1\n"
        "name: bad\n"
        "chip: tiny\n"
        "workloads: [{model: lenet5}]\n"
        "parameters:\n"
        "  core.array.rowz: [1]\n"
        "constraints:\n"
        "  - power_w <= 75\n"
        "  - pwer_w <= 75 W\n"
        "  - area_mm2 <= 3 mm2\n"
        "  - area_mm2 > 4 mm2\n"
        "objectives: {latncy_s: min}\n"
    )
    with pytest.raises(InputError) as caught:
        load_space(file)
    places = [(d.line, d.path) for d in caught.value.diagnostics]
    assert places == [
        (6, "parameters.core.array.rowz"),
        (8, "constraints[0]"),
        (9, "constraints[1]"),
        (7, "constraints"),
        (12, "objectives.latncy_s"),
    ]
    text = str(caught.value)
    assert "did you mean 'power_w'" in text
    assert "did you mean 'latency_s'" in text
    assert "cannot both hold" in text


def test_a_chip_that_there_is_not_is_told_where_it_is_named(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    rest = "workloads: [{model: lenet5}]\nparameters: {core.array.rows: [4]}\n"
    no_file = "tinny.yaml: cannot read the file: No such"
    for chip, message in (("tinny", "unknown chip 'tinny'"), ("./tinny.yaml", no_file)):
        file.write_text(f"version: 1\nname: bad\nchip: {chip}\n{rest}")
        with pytest.raises(InputError, match=rf"space.yaml:3:\d+: error: chip: .*{message}"):
            load_space(file)
    (tmp_path / "tinny.yaml").write_text("version: 1\nextends: tiny\ncloc: 1 GHz\n")
    with pytest.raises(InputError, match=r"tinny.yaml:3:1: error: cloc"):
        load_space(file)


def test_chip_and_models_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("version: 1\nextends: tiny\nname: mine\n")
    (tmp_path / "net.csv").write_text("Layer,M,N,K,\nfirst,8,8,8,\n")
    file = tmp_path / "space.yaml"
    file.write_text(
        "version: 1\nname: s\nchip: ./mine.yaml\nworkloads: [{model: net.csv, dtype: int8}]\n"
        "parameters: {core.array.rows: [4, 8]}\n"
    )
    found = load_space(file)
    assert found.chip_data["name"] == "mine"
    assert found.workloads[0].model == str(tmp_path / "net.csv")
    assert found.workloads[0].name == "net"


def test_a_workload_that_does_not_exist_is_told_beforehand() -> None:
    with pytest.raises(InputError, match="did you mean 'lenet5'"):
        preview(space(workloads=[{"model": "lenet"}]))
    with pytest.raises(InputError, match="no workload"):
        space(workloads=[])
    with pytest.raises(InputError, match="two workloads are named 'lenet5'"):
        space(workloads=[{"model": "lenet5"}, {"model": "lenet5"}])


@pytest.mark.parametrize("name", list_spaces())
def test_the_spaces_that_come_along_are_sound(name: str) -> None:
    found = load_space(name)
    looked = preview(found, limit=24)
    assert looked.infeasible < looked.checked / 2
    assert 10 < found.size < 10_000
