"""The report as a whole: keys, sums, files, and byte-identical repetition."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from programs import (
    ARRAY,
    LOAD_QUEUE,
    STORE_QUEUE,
    TO_CORE0,
    VECTOR,
    Builder,
    operator,
    simulate,
    small_chip,
)

from sim.errors import InputError
from sim.graph.graph import Graph
from sim.graph.op import Op
from sim.graph.tensor import Tensor
from sim.hw.area import chip_area
from sim.hw.money import chip_cost, load_prices
from sim.hw.technology import load_technology
from sim.plot.breakdown import step_colour
from sim.plot.style import UNIT_COLOURS
from sim.program import Kind, Segment
from sim.report.manifest import MANIFEST_TIME_KEYS, git_commit
from sim.report.report import Report, build_report, throughput_per_s
from sim.report.words import critical_steps

KEYS = (
    "workload", "chip", "engine", "fidelity", "dtype", "partition", "chips", "inputs", "latency_s", "elapsed_s",
    "drained_s", "throughput_per_s", "throughput_unit",
    "macs", "array_utilization", "bound_latency_s", "bottleneck", "energy_j", "energy_per_input_j",
    "tops_per_w", "power_w", "peak_power_w", "chip_power_w", "power_limit_w",
    "area_mm2", "cost_usd", "cost_per_million_usd", "dram_read_bytes", "dram_write_bytes",
    "sram_read_bytes", "sram_write_bytes", "cache_read_bytes", "cache_write_bytes", "cache_hit_rate",
    "noc_bytes", "noc_injected_bytes", "tasks", "wall_s", "validated_share", "time_error_low", "time_error_high",
    "dram_error_low", "dram_error_high",
)  # fmt: skip

FILES = [
    "activity.csv", "area.csv", "cost.csv", "critical_path.csv", "energy.csv", "facts.json",
    "manifest.json", "ops.csv", "power.csv", "resources.csv", "stalls.csv", "summary.json", "timeline.csv",
]  # fmt: skip

LOAD, COMPUTE, RELU, STORE = 110, 2000, 300, 60
"""Ticks of the four tasks of `layer`, one after another."""


def layer(name: str = "layer", inputs: int = 1) -> Segment:
    """Load 100 B, 8 MACs, an activation, store 50 B; for each of the back-to-back inputs. And a view."""
    rows = []
    for index in range(inputs):
        rows += [
            operator(
                "mm", macs=8, input_index=index, mapping={"split": {"m": 2}, "notes": ["1 of 2 cores used"]}
            ),
            operator("relu", unit="vector", input_index=index, counts={"vector_compare": 4.0}),
            operator("view", unit="view", kind="reshape", input_index=index),
        ]
    build = Builder(rows, name)
    for index in range(inputs):
        load = build.move(Kind.LOAD, LOAD_QUEUE, 100, TO_CORE0, op=3 * index)
        compute = build.compute(ARRAY, COMPUTE, after=[load], op=3 * index)
        relu = build.compute(VECTOR, RELU, after=[compute], op=3 * index + 1)
        build.move(Kind.STORE, STORE_QUEUE, 50, TO_CORE0, after=[relu], op=3 * index + 1)
    return build.segment()


def gemm() -> Graph:
    tensors = {
        "a": Tensor("a", (2, 2), "int8", "input"),
        "b": Tensor("b", (2, 2), "int8", "weight"),
        "c": Tensor("c", (2, 2), "int8"),
        "d": Tensor("d", (2, 2), "int8"),
    }
    attributes = {"transpose_a": False, "transpose_b": False}
    ops = (
        Op("mm", "matmul", ("a", "b"), "c", attributes),
        Op("relu", "elementwise", ("c",), "d", {"function": "relu"}),
    )
    return Graph("gemm", tensors, ops, ("a",), ("d",))


def report_of(
    *segments: Segment,
    repeats: tuple[int, ...] = (),
    layers: int = 1,
    wall_s: float = 0.5,
    facts: Mapping[str, Any] | None = None,
) -> Report:
    program, timeline = simulate(*segments, repeats=repeats)
    program = replace(program, facts=facts or {})
    graph = gemm()
    if layers > 1:
        # One graph with the MACs of several layers: a longer reduction does it.
        tensors = {
            **graph.tensors,
            "a": Tensor("a", (2, 2 * layers), "int8", "input"),
            "b": Tensor("b", (2 * layers, 2), "int8", "weight"),
        }
        graph = replace(graph, tensors=tensors)
    options = {"engine": "reference", "fidelity": "event", "batch": 1}
    return build_report(
        graph, small_chip(), load_technology("n7"), program, timeline, options=options, wall_s=wall_s
    )


def test_the_summary_has_exactly_the_documented_keys_and_the_right_numbers() -> None:
    report = report_of(layer())
    found = report.to_json()
    assert tuple(found) == KEYS
    latency_ps = LOAD + COMPUTE + RELU + STORE
    assert found["latency_s"] == latency_ps * 1e-12
    assert found["throughput_per_s"] == pytest.approx(1e12 / latency_ps)
    assert (found["workload"], found["chip"], found["engine"]) == ("gemm", "pair", "reference")
    assert found["macs"] == 8
    assert found["array_utilization"] == pytest.approx(8 * 125 / latency_ps)
    assert found["bound_latency_s"] == pytest.approx(8 * 125e-12)
    assert found["bottleneck"] == "array"
    assert (found["dram_read_bytes"], found["dram_write_bytes"]) == (100, 50)
    assert (found["sram_read_bytes"], found["sram_write_bytes"]) == (50, 100)
    assert (found["noc_bytes"], found["noc_injected_bytes"], found["tasks"]) == (0, 0, 4)
    assert found["tops_per_w"] == pytest.approx(2 * 8 / found["energy_j"] / 1e12)  # type: ignore[operator]
    assert found["power_w"] == pytest.approx(found["energy_j"] / found["latency_s"])  # type: ignore[operator]
    assert found["power_limit_w"] is None
    assert found["area_mm2"] == pytest.approx(sum(chip_area(small_chip(), load_technology("n7")).values()))
    assert (found["cache_hit_rate"], found["cache_read_bytes"]) == (None, 0)
    cost = chip_cost(small_chip(), load_technology("n7"), load_prices("default"))
    assert cost is not None
    assert found["cost_usd"] == pytest.approx(sum(cost.values())) == report.cost["cost_usd"].sum()
    # At this speed hardly anything: 2 x cost over 4 years at 60 %, and 6.7 W, for 405 million a second.
    capital = 2 * sum(cost.values()) / (4 * 365.25 * 86400 * 0.6)
    electricity = float(str(found["power_w"])) * 1.1 * 0.08 / 3.6e6
    assert found["cost_per_million_usd"] == pytest.approx((capital + electricity) * latency_ps * 1e-6)
    assert report.area["area_mm2"].sum() == pytest.approx(found["area_mm2"])
    assert report.area["share"].sum() == pytest.approx(1)


def test_repeats_are_expanded_everywhere() -> None:
    once, thrice = report_of(layer()), report_of(layer(), repeats=(3,), layers=3)
    for key in (
        "latency_s",
        "macs",
        "energy_j",
        "bound_latency_s",
        "dram_read_bytes",
        "sram_write_bytes",
        "tasks",
    ):
        assert thrice[key] == pytest.approx(3 * once[key]), key  # type: ignore[operator]
    assert thrice.critical_path["duration_ps"].sum() == 3 * once.critical_path["duration_ps"].sum()
    assert thrice.ops["macs"].sum() == 24
    for column in ("time_s", "active_s", "energy_j", "tasks", "sram_read_bytes"):
        assert thrice.ops[column].sum() == pytest.approx(3 * once.ops[column].sum()), column
    assert thrice.resources["busy_s"].tolist() == pytest.approx([3 * s for s in once.resources["busy_s"]])
    assert thrice.stalls["busy_ps"].tolist() == [3 * ps for ps in once.stalls["busy_ps"]]
    unrolled = report_of(layer("first"), layer("second"), layer("third"), layers=3)
    assert unrolled["energy_j"] == pytest.approx(thrice["energy_j"])
    assert unrolled["latency_s"] == thrice["latency_s"]


def test_every_table_adds_up_to_the_summary() -> None:
    report = report_of(layer())
    latency_ps = LOAD + COMPUTE + RELU + STORE
    assert report.critical_path["duration_ps"].sum() == latency_ps
    assert report.ops["time_s"].sum() == pytest.approx(latency_ps * 1e-12)
    assert report.ops["time_s"].tolist() == pytest.approx([2110e-12, 360e-12, 0])
    assert report.ops["energy_j"].sum() == pytest.approx(report["energy_j"])
    assert report.energy["energy_j"].sum() == pytest.approx(report["energy_j"])
    assert report.energy["share"].sum() == pytest.approx(1)
    assert list(report.stalls)[:3] == ["resource", "unit", "core"]
    assert (report.stalls.iloc[:, 3:-1].sum(axis=1) == latency_ps).all()
    assert (report.stalls["latency_ps"] == latency_ps).all()
    assert report.stalls.columns.is_unique
    assert sum(report.overlap_ps.values()) == latency_ps
    assert report.overlap_ps == {"compute": 2300, "overlapped": 0, "exposed_transfer": 170, "idle": 0}
    assert len(report.summary) == 1
    assert report.parts.empty


def test_operators_and_resources_say_how_far_from_the_bound() -> None:
    report = report_of(layer())
    mm = report.ops.set_index("name").loc["mm"]
    assert (mm["bound_by"], mm["bound_s"], mm["active_s"]) == ("array", 1000e-12, 2110e-12)
    assert mm["bound_ratio"] == pytest.approx(1000 / 2110)
    assert mm["macs_per_dram_byte"] == pytest.approx(0.08)
    assert mm["achieved_macs_per_s"] == pytest.approx(8 / 2110e-12)
    assert (mm["split"], mm["notes"]) == ("m=2", "1 of 2 cores used")
    view = report.ops.set_index("name").loc["view"]
    assert (view["unit"], view["tasks"], view["energy_j"]) == ("view", 0, 0.0)
    resources = report.resources.set_index("resource")
    assert resources.loc["core0.array", "busy_s"] == COMPUTE * 1e-12
    assert resources.loc["dram", "utilization"] == pytest.approx(150 / 2470)
    assert resources.loc["dram", "bytes_per_s"] == 1e12
    assert resources.loc["core0.load", "bytes"] == 100
    # One of the two transfers that may be in flight, for the whole of the load.
    assert resources.loc["core0.load", "busy_s"] == pytest.approx(LOAD / 2 * 1e-12)


def test_several_inputs_have_the_latency_of_one_and_the_rate_of_the_slowest_stage() -> None:
    one, many = report_of(layer()), report_of(layer(inputs=8))
    # The array is the slowest stage: one input every 2000 ps, once the pipeline is full.
    assert many["throughput_per_s"] == pytest.approx(1e12 / COMPUTE)
    assert many["macs"] == 8
    assert many["bound_latency_s"] == one["bound_latency_s"]
    assert many["dram_read_bytes"] == 800
    assert many["energy_per_input_j"] == pytest.approx(many["energy_j"] / 8)  # type: ignore[operator]
    # The second input's load shares the DRAM with the first's: 100 ps later than alone.
    assert many["latency_s"] == pytest.approx(one["latency_s"] + 100e-12)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("ends", "items", "rate"),
    [
        ((50,), 1, 1 / 50),
        ((50,), 8, 8 / 50),
        ((50, 60), 1, 1 / 10),
        ((50, 60, 70, 75), 2, 2 / 10),
        ((50, 50), 1, 2 / 50),
        ((40, 90, 100, 110, 120, 130, 140, 145), 1, 1 / 10),
    ],
)
def test_throughput_leaves_out_fill_and_drain(ends: tuple[int, ...], items: int, rate: float) -> None:
    assert throughput_per_s(ends, items) == pytest.approx(rate * 1e12)


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (report_of(layer(), wall_s=wall_s).save(tmp_path / str(wall_s)) for wall_s in (0.5, 0.75))
    assert sorted(path.name for path in first.iterdir()) == FILES
    for name in set(FILES) - {"summary.json", "manifest.json"}:
        assert (first / name).read_bytes() == (second / name).read_bytes()
    for name in ("summary.json", "manifest.json"):
        one, other = (json.loads((folder / name).read_text()) for folder in (first, second))
        different = {key for key in one if one[key] != other[key]}
        assert "wall_s" in different
        assert different <= set(MANIFEST_TIME_KEYS)


def test_the_manifest_can_be_run_again(tmp_path: Path) -> None:
    from sim.hw.chip import chip_from_dict

    found = json.loads((report_of(layer()).save(tmp_path / "run") / "manifest.json").read_text())
    assert chip_from_dict(found["configuration"]) == small_chip()
    assert found["options"] == {"batch": 1, "engine": "reference", "fidelity": "event"}
    assert set(found["input_hashes"]) == {"chip", "graph"}
    assert found["seed"] == 0


def test_the_commit_is_found_loose_packed_and_detached(tmp_path: Path) -> None:
    assert git_commit(tmp_path) is None
    git = tmp_path / ".git"
    git.mkdir()
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert git_commit(tmp_path) is None
    (git / "packed-refs").write_text("# pack-refs with: peeled\n" + "a" * 40 + " refs/heads/main\n")
    assert git_commit(tmp_path) == "a" * 40
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "refs" / "heads" / "main").write_text("b" * 40 + "\n")
    assert git_commit(tmp_path) == "b" * 40
    (git / "HEAD").write_text("c" * 40 + "\n")
    assert git_commit(tmp_path) == "c" * 40


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
@pytest.mark.parametrize("relative", ["false", "true"])
def test_the_commit_of_a_worktree_is_what_git_says(tmp_path: Path, relative: str) -> None:
    def git(*arguments: str, where: str = "first") -> str:
        settings = ("user.name=a", "user.email=a@b", "commit.gpgsign=false", f"worktree.useRelativePaths={relative}")
        options = [word for setting in settings for word in ("-c", setting)]
        command = ["git", "-C", str(tmp_path / where), *options, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    (tmp_path / "first").mkdir()
    git("init", "--initial-branch", "main")
    git("commit", "--allow-empty", "-m", "one")
    git("worktree", "add", "-b", "topic/two", "../second")
    git("commit", "--allow-empty", "-m", "two", where="second")
    git("worktree", "add", "--detach", "../third", "HEAD")
    for packed in (False, True):
        if packed:
            git("pack-refs", "--all")
        found = {where: git_commit(tmp_path / where) for where in ("first", "second", "third")}
        assert found == {where: git("rev-parse", "HEAD", where=where) for where in found}
    assert found["first"] == found["third"] != found["second"]


def test_saving_into_an_existing_folder_leaves_the_rest_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "summary.json").write_text("old")
    report_of(layer()).save(tmp_path)
    assert json.loads((tmp_path / "summary.json").read_text())["workload"] == "gemm"
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted([*FILES, "notes.txt"])


def test_nothing_is_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = report_of(layer())
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file; expected a folder"):
        report.save(tmp_path / "file")
    with pytest.raises(InputError, match="cannot be written: File exists; choose another --out"):
        report.save(tmp_path / "file" / "run")

    real = Path.write_text

    def full(self: Path, *args: object, **kwargs: object) -> int:
        if self.name == "ops.csv":
            raise OSError(28, "No space left on device")
        return real(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(InputError, match="No space left on device"):
        report.save(tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_few_inputs_never_seem_faster_than_the_bound() -> None:
    one, two = report_of(layer()), report_of(layer(inputs=2))
    bound_s = one["bound_latency_s"]
    assert isinstance(bound_s, float)
    rate, utilization = two["throughput_per_s"], two["array_utilization"]
    assert isinstance(rate, float)
    assert isinstance(utilization, float)
    assert rate <= 1 / bound_s * (1 + 1e-9)
    # Of the steady state: MACs per second over the peak.
    alone = one["array_utilization"]
    latency_s = one["latency_s"]
    assert isinstance(alone, float)
    assert isinstance(latency_s, float)
    assert utilization == pytest.approx(alone * latency_s * rate)
    assert (two["inputs"], two["dtype"]) == (2, "int8")
    assert two.facts["steady"]


def test_handing_out_kernels_is_no_computing() -> None:
    path = {"kind": ["dispatch", "array", "dispatch"], "cause": ["compute"] * 3, "duration_ps": [2, 9, 3]}
    assert critical_steps(path) == [("array", "compute", 9), ("kernel", "launch", 5)]
    assert step_colour("kernel", "launch") == UNIT_COLOURS["dispatch"]
