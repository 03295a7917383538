"""Pareto front, parallel coordinates, sensitivity and heat map: the data in the Axes is the study's."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from pictures import covered

import sim
from sim.cli import run
from sim.errors import InputError
from sim.explore.sensitivity import steps
from sim.plot.fronts import plot_fronts
from sim.plot.heatmap import plot_heatmap
from sim.plot.parallel import plot_parallel
from sim.plot.pareto import Limit, plot_pareto
from sim.plot.sensitivity import plot_sensitivity
from sim.plot.style import value_text

matplotlib.use("Agg")

ROWS, BATCH = "core.array.rows", "workload.batch"


@pytest.fixture
def table() -> pd.DataFrame:
    """Latency 1 s / rows x batch: halved by each step of rows, doubled by each of the batch; area 10 mm2 a row. Rows of
    64 at batch 4 failed, those of 128 are too large."""
    cells = [
        {
            ROWS: rows, BATCH: batch, "latency_s": batch / rows, "area_mm2": 10.0 * rows, "status": "ok",
            "fidelity": "bound", "feasible": rows < 128, "on_front": batch == 1 and rows < 128,
        }
        for rows, batch in itertools.product((16, 32, 64, 128), (1, 2, 4))
    ]  # fmt: skip
    made = pd.DataFrame(cells)
    failed = (made[ROWS] == 64) & (made[BATCH] == 4)
    made.loc[failed, ["latency_s", "area_mm2"]] = None
    made.loc[failed, "status"] = "failed"
    made.loc[failed, "feasible"] = False
    return made


@pytest.fixture(autouse=True)
def figures_closed() -> Iterator[None]:
    yield
    pyplot.close("all")


def layers(ax: Axes) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    return {
        str(c.get_label()): np.asarray(c.get_offsets()) for c in ax.collections if c.get_label()[0] != "_"
    }


def test_designs_are_on_the_front_dominated_or_infeasible(table: pd.DataFrame) -> None:
    ax = plot_pareto(table, ["latency_s", "area_mm2"])
    found = layers(ax)
    assert [*found] == ["infeasible (3)", "dominated (5)", "front (3)"]
    front = found["front (3)"]
    assert front[np.argsort(front[:, 0])].tolist() == [
        [pytest.approx(1000 / r), 10 * r] for r in (64, 32, 16)
    ]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("latency (ms)", "area (mm²)")
    (line,) = (one for one in ax.lines if one.get_label() == "_front")
    assert np.asarray(line.get_xydata())[:, 1].tolist() == [640, 320, 160]


def test_a_front_of_other_objectives_is_no_line(table: pd.DataFrame) -> None:
    table["on_front"] = table[ROWS] <= 32
    assert not [
        one for one in plot_pareto(table, ["latency_s", "area_mm2"]).lines if one.get_label() == "_front"
    ]


def test_a_constraint_shades_what_it_forbids(table: pd.DataFrame) -> None:
    limits = [Limit("area_mm2", "<=", 700.0), Limit("latency_s", ">=", 0.05), Limit("power_w", "<=", 1.0)]
    ax = plot_pareto(table, ["latency_s", "area_mm2"], limits=limits)
    across, up = (patch.get_extents().transformed(ax.transData.inverted()) for patch in ax.patches)
    assert (across.x1, up.y0) == (pytest.approx(50), pytest.approx(700))
    assert ax.get_ylim()[1] == pytest.approx(up.y1)


def test_three_metrics_have_three_axes(table: pd.DataFrame) -> None:
    ax = plot_pareto(table, ["latency_s", "area_mm2", BATCH])
    assert ax.name == "3d"
    assert sum(len(np.asarray(c.get_offsets())) for c in ax.collections) == 11


def test_parallel_coordinates_scale_every_column(table: pd.DataFrame) -> None:
    ax = plot_parallel(table, [ROWS, BATCH, "latency_s"])
    found = {str(c.get_label()): c for c in ax.collections if isinstance(c, LineCollection)}
    assert [*found] == ["infeasible (3)", "dominated (5)", "front (3)"]
    lines = np.array([segment[:, 1] for segment in found["front (3)"].get_segments()])
    latency = table["latency_s"].dropna()
    wanted = [
        [(rows - 16) / 112, 0.0, (1 / rows - latency.min()) / (latency.max() - latency.min())]
        for rows in (16, 32, 64)
    ]
    np.testing.assert_allclose(lines, wanted)
    texts = {text.get_text() for text in ax.texts}
    assert {"16", "128", "7.81 ms", "250 ms"} <= texts


def test_words_are_numbered_in_parallel_coordinates(table: pd.DataFrame) -> None:
    table["dataflow"] = ["os", "ws"] * 6
    ax = plot_parallel(table, ["dataflow", ROWS])
    assert {"os", "ws"} <= {text.get_text() for text in ax.texts}


def test_steps_are_pairs_that_differ_in_one_parameter(table: pd.DataFrame) -> None:
    found = steps(table, [ROWS, BATCH], "latency_s").set_index("parameter")
    # Three steps of rows at three batches, less the two that the failed design takes part in.
    assert found.loc[ROWS, ["first", "last", "values", "pairs"]].tolist() == [16, 128, 4, 7]
    assert found.loc[ROWS, ["median", "low", "high"]].tolist() == pytest.approx([-0.5] * 3)
    assert found.loc[BATCH, ["values", "pairs"]].tolist() == [3, 7]
    assert found.loc[BATCH, "median"] == pytest.approx(1.0)


def test_steps_do_not_mix_fidelities_or_skip_a_value(table: pd.DataFrame) -> None:
    one = table[table[BATCH] == 1].copy()
    one["fidelity"] = ["bound", "event", "bound", "event"]
    assert steps(one, [ROWS, BATCH], "latency_s").empty
    with pytest.raises(InputError, match="unknown column 'latency'; did you mean 'latency_s'"):
        steps(table, [ROWS], "latency")


def test_a_tornado_has_the_largest_first(table: pd.DataFrame) -> None:
    ax = plot_sensitivity(steps(table, [ROWS, BATCH], "latency_s"), "latency_s")
    assert [patch.get_width() for patch in ax.containers[0].patches] == pytest.approx([100, -50])
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == [f"{BATCH}\n2 steps, 1 to 4", f"{ROWS}\n3 steps, 16 to 128"]
    with pytest.raises(InputError, match="no two designs"):
        plot_sensitivity(steps(table.head(1), [ROWS], "latency_s"), "latency_s")


@pytest.mark.parametrize("best", ["min", "max"])
def test_a_heat_map_has_the_best_of_each_pair(table: pd.DataFrame, best: str) -> None:
    twice = pd.concat([table, table.assign(latency_s=2 * table["latency_s"])])
    ax = plot_heatmap(twice, ROWS, BATCH, "latency_s", best=best)
    (image,) = ax.images
    wanted = table.pivot(index=BATCH, columns=ROWS, values="latency_s") * (1 if best == "min" else 2)
    wanted[128] = np.nan  # too large
    np.testing.assert_allclose(np.ma.filled(image.get_array(), np.nan), 1000 * wanted)
    assert ax.get_title() == f"{'lowest' if best == 'min' else 'highest'} latency within the constraints"
    assert [label.get_text() for label in ax.get_xticklabels()] == ["16", "32", "64", "128"]
    assert len(ax.texts) == 8  # neither has a failed design a value
    free = plot_heatmap(twice.assign(feasible=True), ROWS, BATCH, "latency_s", best=best)
    assert len(free.texts) == 11
    assert "constraints" not in free.get_title()
    assert len(plot_heatmap(twice.drop(columns="feasible"), ROWS, BATCH, "latency_s").texts) == 11


def test_values_in_a_heat_map_can_be_read_on_their_cells(table: pd.DataFrame) -> None:
    """On dark cells white, though a design that is not shown is a thousand times slower and has another unit."""
    table = table.assign(feasible=True)
    slow = table[table["status"] == "ok"].assign(latency_s=1e3 * table["latency_s"])
    ax = plot_heatmap(pd.concat([table, slow]), ROWS, BATCH, "latency_s")
    (image,) = ax.images
    least, most = (image.get_array().min(), image.get_array().max())
    colours = {text.get_text(): text.get_color() for text in ax.texts}
    assert colours[value_text("latency_s", 1 / 128)] == "white"
    assert colours[value_text("latency_s", 4 / 16)] == "black"
    assert (least, most) == pytest.approx((1 / 128, 4 / 16))  # seconds, as the slow ones
    names = [label.get_text() for label in plot_sensitivity(
        pd.DataFrame([("core.sram.size_bytes", 1024, 2048, 2, 1, 0.5, 0.5, 0.5)],
                     columns=["parameter", "first", "last", "values", "pairs", "median", "low", "high"]),
        "latency_s").get_yticklabels()]  # fmt: skip
    assert names == ["core.sram.size\n1 KiB to 2 KiB"]


def test_a_tornado_says_the_numbers_of_its_bars_and_whiskers(table: pd.DataFrame) -> None:
    table.loc[0, "latency_s"] = 1.0  # 16 rows at batch 1, of old 1/16
    ax = plot_sensitivity(steps(table, [ROWS, BATCH], "latency_s"), "latency_s")
    # Rows: -50 % but for the step from 1 to 1/32, -96.9 %. Batch: doubled but for the step from 1 to 1/8, -87.5 %.
    assert [t.get_text() for t in ax.texts] == ["+100 %\n(-87.5 to +100)", "-50 %\n(-96.9 to -50)"]


def test_nothing_covers_a_point_or_a_text(table: pd.DataFrame) -> None:
    table.loc[3, "latency_s"] = 1.0  # in the corner on the upper right
    table["throughput_per_s"] = 100.0 / table["latency_s"]
    limits = [Limit("area_mm2", "<=", 700.0)]
    for ax in (
        plot_pareto(table, ["latency_s", "area_mm2"], limits=limits),
        plot_fronts({"a": table, "b": table}, ["latency_s", "area_mm2"]),
    ):
        assert covered(ax) == []
        legend = ax.get_legend()
        assert legend is not None
        assert legend.get_window_extent().y0 >= ax.get_window_extent().y1 - 1
    pyplot.close("all")
    assert covered(plot_pareto(table, ["throughput_per_s", "latency_s", "area_mm2"])) == []
    assert covered(plot_parallel(table, [ROWS, BATCH, "latency_s", "throughput_per_s"])) == []
    assert covered(plot_heatmap(table, ROWS, BATCH, "latency_s")) == []
    assert covered(plot_sensitivity(steps(table, [ROWS, BATCH], "latency_s"), "latency_s")) == []


def test_a_study_without_numbers_is_told(table: pd.DataFrame) -> None:
    none = table.assign(status="infeasible")[[ROWS, BATCH, "status", "on_front", "feasible", "fidelity"]]
    for call in (
        lambda: plot_pareto(none, ["latency_s", "area_mm2"]),
        lambda: plot_parallel(none, [ROWS, "latency_s"]),
        lambda: plot_heatmap(none, ROWS, BATCH, "latency_s"),
        lambda: steps(none, [ROWS], "latency_s"),
    ):
        with pytest.raises(InputError, match="no design of this study has numbers, of 12"):
            call()


def test_bad_input_is_refused(table: pd.DataFrame) -> None:
    for call, message in (
        (lambda: plot_pareto(table, ["latency_s"]), "found 1 metrics; expected 2 or 3"),
        (
            lambda: plot_pareto(table, ["latency", "area_mm2"]),
            "unknown column 'latency'; did you mean 'latency_s'",
        ),
        (lambda: plot_pareto(table, ["status", "area_mm2"]), "status has no numbers"),
        (lambda: plot_parallel(table, [ROWS]), "found 1 column; expected 2 or more"),
        (lambda: plot_parallel(table[table["status"] == "failed"], [ROWS, BATCH]), "has numbers, of 1"),
        (lambda: plot_heatmap(table, ROWS, ROWS, "latency_s"), "expected two parameters"),
    ):
        with pytest.raises(InputError, match=message):
            call()


SWEEP = (
    "sweep --chip tiny --workload gemm:64x64x64 --dtype int8 --fidelity bound --workers 1 --vary core.array.rows=4,8"
)


def test_the_command_line_draws_studies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = tmp_path / "small.sqlite"
    command = f"{SWEEP} --vary core.array.cols=4,8 --objective latency_s --objective area_mm2"
    assert run([*command.split(), "--out", str(study)]) == 0
    capsys.readouterr()
    for kind in ("pareto", "parallel", "sensitivity", "heatmap"):
        assert run(["plot", kind, str(study)]) == 0
        assert capsys.readouterr().out == f"figure: {tmp_path / kind}.png\n"
    for arguments, message in (
        (["timeline", study], "timeline is no figure of a study; one of pareto"),
        (["pareto", tmp_path], "pareto is no figure of a run; one of breakdown"),
        (["pareto", study, "--metric", "area_mm2"], "pareto takes no --metric"),
        (["heatmap", study, "--x", "core.array.row"], "unknown parameter 'core.array.row'; did you mean"),
        (["sensitivity", study, "--metric", "latency"], "unknown column 'latency'; did you mean 'latency_s'"),
        (["pareto", study, study], "found 2 studies; expected one"),
        (["pareto", study, "--study", "nosuch"], "no study named 'nosuch'"),
    ):
        assert run(["plot", *map(str, arguments)]) == 2
        assert message in capsys.readouterr().err


def test_tornado_and_heat_map_are_what_single_simulations_say(tmp_path: Path) -> None:
    """Four designs simulated one by one; the map has the best of the batches that hold the limit."""
    space = {
        "version": 1, "name": "s", "chip": "tiny", "workloads": [{"model": "lenet5", "dtype": "int8"}],
        "parameters": {"core.array.rows": [4, 16], "workload.batch": [1, 2]}, "constraints": ["latency_s <= 60 us"],
    }  # fmt: skip
    study = sim.sweep(space, workers=1, out=tmp_path / "study.sqlite")
    latency = {
        (rows, batch): float(sim.simulate("lenet5", "tiny", dtype="int8", batch=batch,
                                          overrides={"core.array.rows": rows})["latency_s"] or 0)
        for rows, batch in itertools.product((4, 16), (1, 2))
    }  # fmt: skip
    ratios = [latency[16, batch] / latency[4, batch] - 1 for batch in (1, 2)]
    found = steps(study.table, [ROWS, BATCH], "latency_s").set_index("parameter").loc[ROWS]
    assert (found["low"], found["high"]) == (min(ratios), max(ratios))
    assert found["median"] == pytest.approx(sum(ratios) / 2)
    (image,) = plot_heatmap(study.designs, ROWS, BATCH, "latency_s").images
    wanted = np.array([[latency[rows, batch] for rows in (4, 16)] for batch in (1, 2)])
    assert (wanted > 6e-5).any()
    drawn = np.ma.filled(image.get_array(), np.nan)
    np.testing.assert_allclose(drawn, np.where(wanted <= 6e-5, 1e6 * wanted, np.nan))


def test_objectives_keep_their_order_in_the_store(tmp_path: Path) -> None:
    from sim.explore.store import open_study

    study = tmp_path / "small.sqlite"
    command = f"{SWEEP} --objective power_w --objective area_mm2 --objective latency_s"
    assert run([*command.split(), "--out", str(study)]) == 0
    assert [one.metric for one in open_study(study).objectives] == ["power_w", "area_mm2", "latency_s"]


def test_fronts_of_studies_stand_in_one_figure(table: pd.DataFrame) -> None:
    """The other study is twice as fast on twice the area; a run is a star. Infeasible designs are not drawn."""
    other = table.assign(latency_s=table["latency_s"] / 2, area_mm2=2 * table["area_mm2"])
    runs = {"one run": {"latency_s": 0.05, "area_mm2": 100.0}}
    ax = plot_fronts({"slow": table, "fast": other}, ["area_mm2", "latency_s"], runs)
    found = layers(ax)
    assert list(found) == ["slow (front of 3)", "fast (front of 3)", "one run"]
    slow, fast = found["slow (front of 3)"], found["fast (front of 3)"]
    assert slow[:, 0].tolist() == [160.0, 320.0, 640.0]
    assert fast[:, 0].tolist() == [320.0, 640.0, 1280.0]
    assert slow[:, 1] == pytest.approx([1000 / 16, 1000 / 32, 1000 / 64])  # ms
    assert fast[:, 1] == pytest.approx(slow[:, 1] / 2)
    assert found["one run"].tolist() == [[100.0, 50.0]]
    others = [c for c in ax.collections if c.get_label() == "_others"]
    assert [len(np.asarray(c.get_offsets())) for c in others] == [5, 5]  # 3 x 3 less the front and the failed one
    assert len(ax.lines) == 2


def test_what_cannot_be_compared_is_told(table: pd.DataFrame) -> None:
    bare = table.drop(columns="area_mm2")
    for tables, runs, message in (
        ({"one": table}, {}, "found 1 studies and 0 runs; expected 2 to 8"),
        ({"one": table, "two": bare}, {}, "study 'two': unknown column 'area_mm2'"),
        ({"one": table}, {"r": {"latency_s": 1.0, "area_mm2": None}}, "run r has no area_mm2"),
    ):
        with pytest.raises(InputError, match=message):
            plot_fronts(tables, ["latency_s", "area_mm2"], runs)


def test_studies_of_one_file_are_compared_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder = tmp_path / "both.sqlite", tmp_path / "run"
    for chip in ("tiny", "lepton_s"):
        space = ["--chip", chip, "--workload", "gemm:32x32x32", "--dtype", "int8", "--vary", "core.array.rows=8,16"]
        assert run(["sweep", *space, "--fidelity", "bound", "--workers", "1", "--out", str(file)]) == 0
    assert run(["simulate", "gemm:32x32x32", "--chip", "tiny", "--dtype", "int8", "--out", str(folder)]) == 0
    for targets, picture in (
        ([file], tmp_path / "compare.png"),
        ([folder, file, "--study", "tiny sweep", "--y", "area_mm2"], folder / "compare.png"),
    ):
        assert run(["plot", "compare", *map(str, targets)]) == 0
        assert picture.stat().st_size > 10_000
    capsys.readouterr()
    assert run(["plot", "compare", str(file), "--metric", "latency_s"]) == 2
    assert "compare of studies takes no --metric" in capsys.readouterr().err
