"""Energy, timeline, utilisation, traffic and comparison: the data in the Axes is the report's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.patches import StepPatch
from pictures import covered

import sim
from sim.cli import run
from sim.cost.energy import COMPONENTS
from sim.errors import InputError
from sim.graph.transformer import transformer_graph
from sim.graph.transformer_config import TransformerConfig
from sim.plot import plot_compare, plot_energy, plot_power, plot_timeline, plot_traffic, plot_utilization
from sim.plot.draw import RUN_KINDS, figure_bytes, plot_runs
from sim.plot.energy import TOP
from sim.plot.style import (
    COMPONENT_COLOURS,
    COMPONENT_GROUPS,
    GROUP_WORDS,
    label_of,
    readable_unit,
    shortened,
    text_on,
)
from sim.plot.timeline import MOST_ROWS
from sim.report.report import Report

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def report() -> Report:
    return sim.simulate("resnet18", chip="lepton_m", dtype="int8")


@pytest.fixture(scope="module")
def small() -> Report:
    return sim.simulate("resnet18", chip="lepton_s", dtype="int8")


@pytest.fixture(scope="module")
def closed() -> Report:
    return sim.simulate("lenet5", chip="tiny", dtype="int8", fidelity="bound")


@pytest.fixture(autouse=True)
def figures_closed() -> Iterator[None]:
    yield
    pyplot.close("all")


def widths(ax: Axes) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    """Label -> widths of its bars, from the top down."""
    return {str(c.get_label()): np.array([p.get_width() for p in c.patches]) for c in ax.containers}


def tick_names(ax: Axes) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


def test_energy_bars_are_the_operators_that_take_most(report: Report) -> None:
    ax = plot_energy(report)
    ops = report.ops.nlargest(TOP, "energy_j")
    found = widths(ax)
    dram = [name for name in ops if name.startswith("energy_dram_")]
    assert len(dram) > 2
    assert found["DRAM"] == pytest.approx(1e6 * ops[dram].sum(axis=1).to_numpy())
    assert sum(found.values()) == pytest.approx(1e6 * ops["energy_j"].to_numpy())
    rest_uj = 1e6 * (report.ops["energy_j"].sum() - ops["energy_j"].sum())
    label, text = ax.get_xlabel().split("; ")
    assert label == "energy (uJ)"
    assert text.startswith(f"{len(report.ops) - TOP} other operators: ")
    value, unit = text.split()[-2:]
    assert float(value) * {"uJ": 1, "mJ": 1000}[unit] == pytest.approx(rest_uj, rel=5e-3)


def test_energy_of_several_runs_is_per_inference(report: Report) -> None:
    twice = sim.simulate("resnet18", chip="lepton_m", dtype="int8", inputs=2)
    ax = plot_energy([report, twice])
    totals = sum(widths(ax).values())
    assert totals[0] == pytest.approx(1e3 * float(report["energy_j"] or 0))
    assert totals[1] == pytest.approx(1e3 * float(twice["energy_j"] or 0) / 2)
    assert tick_names(ax) == ["lepton_m", "lepton_m, inputs 2"]


def test_components_have_colours_of_their_own() -> None:
    assert set(COMPONENT_GROUPS) == set(COMPONENTS)
    assert set(COMPONENT_GROUPS.values()) == set(COMPONENT_COLOURS) == set(GROUP_WORDS)
    assert len(set(COMPONENT_COLOURS.values())) == len(COMPONENT_COLOURS)


def test_timeline_bars_are_where_the_tasks_were(report: Report) -> None:
    ax = plot_timeline(report)
    names = tick_names(ax)
    assert len(names) <= MOST_ROWS
    assert names.index("core 0 array") < names.index("core 0 load") < names.index("core 1 array")
    row = names.index("core 1 array")
    mine = [c for c in ax.collections if isinstance(c, PolyCollection) and c.get_label() == f"_{row}"]
    ends = np.array([path.get_extents().intervalx for c in mine for path in c.get_paths()])
    spans = report.timeline[report.timeline["resource"] == "core1.array"]
    assert np.sort(ends[:, 0]) == pytest.approx(1e-6 * spans["start_ps"].to_numpy())
    assert np.sort(ends[:, 1]) == pytest.approx(1e-6 * spans["end_ps"].to_numpy())
    assert ax.get_xlabel().startswith("time (us);")
    assert "of 8 cores" in ax.get_title()
    # The array is busy all the time that a convolution has it; where folds leave gaps, less of it.
    heights = np.array([path.get_extents().height for c in mine for path in c.get_paths()])
    order = np.argsort(ends[:, 0])
    share = (spans["held_ps"] / (spans["end_ps"] - spans["start_ps"])).clip(upper=1)
    assert heights[order] / 0.8 == pytest.approx(share)


def test_a_stretch_of_many_operators_is_as_high_as_they_are_busy_together() -> None:
    """Decode steps are shorter than a slice: the winner has a part of the queue, its name would be wrong."""
    decode = sim.simulate("gpt2", chip="lepton_s", dtype="bf16", phase="generate", seq=8, new_tokens=32)
    ax = plot_timeline(decode)
    row = tick_names(ax).index("core 0 array")
    areas = [
        path.get_extents().width * path.get_extents().height
        for c in ax.collections
        if c.get_label() == f"_{row}"
        for path in c.get_paths()
    ]
    utilization = decode.resources.set_index("resource").loc["core0.array", "utilization"]
    assert utilization < 0.9
    assert sum(areas) / 0.8 / ax.get_xlim()[1] == pytest.approx(utilization, rel=0.05)


def test_launches_of_kernels_have_a_row() -> None:
    kernel = sim.simulate("gemm:256x256x256", chip="a100", dtype="bf16")
    ax = plot_timeline(kernel)
    assert tick_names(ax)[0] == "kernel launches"
    plot_energy(kernel)


def test_an_operator_that_runs_in_every_step_has_one_bar() -> None:
    decode = sim.simulate("gpt2", chip="lepton_s", dtype="bf16", phase="generate", seq=8, new_tokens=8)
    names = tick_names(plot_energy(decode))
    assert len(set(names)) == len(names) == TOP
    ops = decode.ops
    assert ops["name"].duplicated().any()
    most = ops.groupby("name")["energy_j"].sum()
    assert names[0] == most.idxmax()


def test_what_every_layer_does_has_one_bar() -> None:
    """Windows in every other layer, so that no layer repeats the one before."""
    config = TransformerConfig.from_hf(
        {
            "model_type": "gpt_oss", "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 64, "vocab_size": 100,
            "max_position_embeddings": 64, "sliding_window": 8, "num_local_experts": 4, "num_experts_per_tok": 2,
        },
        "small",
    )  # fmt: skip
    report = sim.simulate(transformer_graph(config, phase="decode", kv=20, dtype="bf16"), chip="lepton_s")
    ax, ops = plot_energy(report), report.ops
    of_layers = ops[ops["name"].str.fullmatch(r"\d+\.attention\.q")]
    assert len(of_layers) == 4
    row = tick_names(ax).index("attention.q, 4 layers")
    bar = sum(width[row] for width in widths(ax).values())
    assert bar == pytest.approx(1e6 * of_layers["energy_j"].sum())
    drawn = sum(4 if name.endswith("4 layers") else 1 for name in tick_names(ax))
    assert ax.get_xlabel().split("; ")[1].startswith(f"{ops['name'].nunique() - drawn} other operators: ")


def test_utilisation_strips_have_the_mean_of_the_resources(report: Report, small: Report) -> None:
    ax = plot_utilization(report)
    resources = report.resources
    arrays = resources.loc[resources["kind"] == "array", "utilization"].mean()
    means = [t.get_text() for t in ax.texts]
    assert tick_names(ax)[0] == "arrays"
    assert means[0] == f"mean {arrays:.0%}"
    assert "cache" in tick_names(ax)
    assert "cache" not in tick_names(plot_utilization(small))  # a chip without one


def test_the_area_under_the_power_is_the_energy(report: Report) -> None:
    ax = plot_power(report)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time (us)", "power (W)")
    joules = {}
    for patch in ax.patches:
        assert isinstance(patch, StepPatch)
        values, edges, baseline = patch.get_data()
        joules[patch.get_label()] = float(((values - baseline) * np.diff(edges)).sum()) * 1e-6
    energy = report.energy.set_index("component")["energy_j"]
    assert joules["multiply-accumulates"] == pytest.approx(energy["mac"])
    assert joules["DRAM"] == pytest.approx(energy[[n for n in energy.index if n.startswith("dram_")]].sum())
    assert sum(joules.values()) == pytest.approx(energy.sum())
    (average,) = (line for line in ax.lines if str(line.get_label()).startswith("average"))
    assert np.asarray(average.get_ydata()) == pytest.approx([float(report["power_w"] or 0)] * 2)


def test_the_power_limit_is_a_line() -> None:
    limited = sim.simulate("lenet5", chip="lepton_m", dtype="int8", overrides=["power_limit=20 W"])
    assert "limit of the chip, 20 W" in [line.get_label() for line in plot_power(limited).lines]


def test_traffic_bars_are_the_bytes_of_the_summary(report: Report) -> None:
    ax = plot_traffic(report)
    assert ax.get_xlabel() == "traffic of the whole run (MiB)"
    at = tick_names(ax).index("DRAM")
    bars = sorted(p.get_width() for c in ax.containers for p in c.patches if abs(p.get_y() + 0.18 - at) < 0.3)
    wanted = sorted(float(report[f"dram_{way}_bytes"] or 0) / 2**20 for way in ("read", "write"))
    assert bars == pytest.approx(wanted)


def test_a_comparison_shows_ratios_to_the_first_run(report: Report, small: Report) -> None:
    ax = plot_compare([report, small])
    first, second = ax.lines[:2]
    assert (first.get_label(), second.get_label()) == ("lepton_m", "lepton_s")
    assert np.asarray(first.get_xdata()) == pytest.approx(np.ones(len(first.get_xdata())))
    latency = float(small["latency_s"] or 0) / float(report["latency_s"] or 0)
    assert latency > 2
    assert np.asarray(second.get_xdata())[0] == pytest.approx(latency)
    assert tick_names(ax)[0] == "latency"
    assert "resnet18" in ax.get_title()


@pytest.mark.parametrize("model", ["resnet18 on lepton_m", "mobilenet_v2 on gemmini_16"])
def test_no_text_of_a_figure_covers_another(model: str) -> None:
    workload, chip = model.split(" on ")
    run_of_it = sim.simulate(workload, chip=chip, dtype="int8")
    for kind in RUN_KINDS:
        if kind != "compare":
            assert covered(plot_runs(kind, [run_of_it])) == [], kind
            pyplot.close("all")


def test_a_comparison_of_many_options_has_its_legend_inside(report: Report, small: Report) -> None:
    piped = sim.simulate("resnet18", chip="lepton_m", dtype="int8", inputs=4, partition="pipeline")
    runs = [report, small, piped]
    for kind in ("compare", "energy"):
        assert covered(plot_runs(kind, runs)) == [], kind
    legend = plot_compare(runs).get_legend()
    assert legend is not None
    names = [text.get_text() for text in legend.get_texts()]
    assert names == ["lepton_m", "lepton_s", "lepton_m, inputs 4, partition pipeline"]


def test_a_comparison_of_unlike_runs_has_ticks_that_can_be_read(report: Report) -> None:
    """Latencies 1 : 20,000: powers of two would be numbers of seven digits that lie on each other."""
    long = sim.simulate("gemm:2048x2048x2048", chip="tiny", dtype="int8")
    tiny = sim.simulate("lenet5", chip="tiny", dtype="int8")
    ax = plot_compare([long, tiny, report])
    assert covered(ax) == []
    ticks = [text.get_text() for text in ax.get_xticklabels()]
    assert "1×" in ticks
    assert 4 <= len(ticks) <= 8
    assert all(set(tick) <= set("10,/×") for tick in ticks)


def test_comparisons_refuse_what_they_cannot_show(report: Report) -> None:
    with pytest.raises(InputError, match="found 1 run; expected 2 to 8"):
        plot_compare([report])
    with pytest.raises(InputError, match="unknown metric 'latency'; did you mean 'latency_s'"):
        plot_compare([report, report], metrics=["latency"])
    with pytest.raises(InputError, match="timeline: found 2 runs; expected one"):
        plot_runs("timeline", [report, report])
    with pytest.raises(InputError, match="unknown kind of figure 'rofline'; did you mean 'roofline'"):
        plot_runs("rofline", [report])


@pytest.mark.parametrize("kind", ["timeline", "utilisation", "breakdown"])
def test_a_closed_form_has_no_times(closed: Report, kind: str) -> None:
    with pytest.raises(InputError, match="closed form"):
        plot_runs(kind, [closed])


@pytest.mark.parametrize("kind", sorted(set(RUN_KINDS) - {"compare"}))
def test_every_kind_names_its_units_and_draws_from_a_folder(
    report: Report, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pyplot, "show", lambda: pytest.fail("show was called"))
    ax = plot_runs(kind, [report])
    assert "(" in ax.get_xlabel()  # the unit
    fresh = figure_bytes(ax, "svg")
    assert pyplot.get_fignums() == []
    report.save(tmp_path)
    assert run(["plot", kind, str(tmp_path), "--out", str(tmp_path / "figure.svg")]) == 0
    assert (tmp_path / "figure.svg").read_bytes() == fresh


def test_the_command_line_refuses_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = sim.simulate("lenet5", chip="tiny", dtype="int8", fidelity="bound")
    run_folder = report.save(tmp_path / "run")
    before = sorted(path.name for path in run_folder.iterdir())
    for arguments, message in (
        (["timelin", run_folder], "did you mean 'timeline'"),
        (["timeline", run_folder], "closed form has no timeline"),
        (["energy", run_folder, "--out", "x.pgn"], "'pgn' is not a format of figures; did you mean 'png'"),
        (["energy", tmp_path / "rum"], "no such run folder; did you mean 'run'"),
        (["compare", run_folder], "expected 2 to 8"),
    ):
        assert run(["plot", *map(str, arguments)]) == 2
        streams = capsys.readouterr()
        assert message in streams.err
        assert streams.out == ""
    assert sorted(path.name for path in run_folder.iterdir()) == before
    assert run(["plot", "energy", str(run_folder)]) == 0
    assert (run_folder / "energy.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out == f"figure: {run_folder / 'energy.png'}\n"


@pytest.mark.parametrize(
    ("metric", "largest", "wanted"),
    [
        ("latency_s", 0.0021, (1e3, "latency (ms)")),
        ("energy_per_input_j", 3e-6, (1e6, "energy per input (uJ)")),
        ("area_mm2", 300.0, (1.0, "area (mm²)")),
        ("dram_read_bytes", 3 * 2**20, (2.0**-20, "DRAM read (MiB)")),
        ("dram_read_bytes_per_s", 2e12, (1e-12, "DRAM read (TB/s)")),
        ("throughput_per_s", 5.0, (1.0, "throughput (1/s)")),
        ("achieved_macs_per_s", 5.0, (1.0, "achieved (MAC/s)")),
        ("tops_per_w", 2.0, (1.0, "efficiency (TOP/s/W)")),
        ("array_utilization", 0.5, (100.0, "array utilisation (%)")),
        ("core.array.rows", 256.0, (1.0, "core.array.rows")),
    ],
)
def test_labels_name_the_unit(metric: str, largest: float, wanted: tuple[float, str]) -> None:
    factor, label = label_of(metric, largest)
    assert (pytest.approx(factor), label) == wanted


def test_units_suit_the_largest_value() -> None:
    assert readable_unit(0.999e-6, "time") == (pytest.approx(1e9), "ns")
    assert readable_unit(1e-6, "time") == (pytest.approx(1e6), "us")
    assert readable_unit(0.0, "energy")[1] == "J"


def test_text_has_the_better_contrast_of_black_and_white() -> None:
    """Contrast by WCAG 2.1: (lighter + 0.05) / (darker + 0.05), worked out by hand for a grey and vermilion."""
    assert text_on("#777777") == "black"  # luminance 0.184: 4.69 against black, 4.48 against white
    assert text_on("#757575") == "white"  # 0.178: 4.55 against black, 4.61 against white
    assert text_on("#D55E00") == "black"  # 0.215: 5.3 and 3.96


def test_text_is_black_on_light_and_white_on_dark() -> None:
    assert [text_on(colour) for colour in ("#0072B2", "#000000", "#E69F00", "#F0E442", "#FFFFFF")] == [
        "white", "white", "black", "black", "black",
    ]  # fmt: skip
    assert shortened("layer4.0.downsample", 9) == "laye…mple"
    assert shortened("short", 9) == "short"
