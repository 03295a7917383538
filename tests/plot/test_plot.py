"""Figures show the numbers of the report: what is asserted is the data in the Axes, not pixels."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

import sim
from sim.errors import InputError
from sim.plot import plot_roofline, plot_time_energy
from sim.plot.breakdown import LEAST_SHARE
from sim.plot.roofline import LARGEST_POINT, NAMED, SMALLEST_POINT
from sim.report.report import Report

matplotlib.use("Agg")

INT8_MACS_PER_S = 8 * 128 * 128 * 1.2e9
DRAM_BYTES_PER_S = 16 * 51.2e9


@pytest.fixture(scope="module")
def report() -> Report:
    """Operators of several bounds; a pool and host transfers without MACs."""
    return sim.simulate("resnet18", chip="lepton_m", dtype="int8")


@pytest.fixture(autouse=True)
def figures_closed() -> Iterator[None]:
    yield
    pyplot.close("all")


def line(ax: Axes, label: str) -> np.ndarray:  # type: ignore[type-arg]
    (found,) = (one for one in ax.lines if one.get_label() == label)
    return np.asarray(found.get_xydata())


def bars(ax: Axes, y: float) -> dict[str, tuple[float, float]]:
    """Name -> (left, share) of the parts of the bar at `y`, in the order in which they were drawn."""
    found = {}
    for container in ax.containers:
        (patch,) = container.patches
        assert isinstance(patch, Rectangle)
        if patch.get_y() < y < patch.get_y() + patch.get_height():
            found[str(container.get_label()).removeprefix("_")] = patch.get_x(), patch.get_width()
    return found


def test_every_operator_with_macs_is_a_point_where_the_report_says(report: Report) -> None:
    ax = plot_roofline(report)
    points = np.vstack([np.asarray(group.get_offsets()) for group in ax.collections])
    areas = np.concatenate([np.asarray(group.get_sizes()) for group in ax.collections])
    ops = report.ops
    assert (ops["macs"] == 0).sum() >= 3
    ops = ops[ops["macs"] > 0]
    wanted = [
        ops["macs_per_dram_byte"],
        ops["macs"] / ops["active_s"],
        np.maximum(SMALLEST_POINT, LARGEST_POINT * ops["time_s"] / ops["time_s"].max()),
    ]
    found = np.column_stack([points, areas])
    expected = np.column_stack(wanted)
    order = np.lexsort(found.T), np.lexsort(expected.T)
    np.testing.assert_allclose(found[order[0]], expected[order[1]])
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    left, right = ax.get_xlim()
    assert ((left < points[:, 0]) & (points[:, 0] < right)).all()


def test_the_colours_tell_what_bounds_an_operator(report: Report) -> None:
    ax = plot_roofline(report)
    sizes = {str(group.get_label()): len(np.asarray(group.get_offsets())) for group in ax.collections}
    bound_by = report.ops[report.ops["macs"] > 0]["bound_by"]
    assert sizes.get("DRAM bandwidth", 0) == (bound_by == "dram").sum()
    assert sizes.get("vector units", 0) == (bound_by == "vector").sum()
    assert sum(sizes.values()) == len(bound_by)
    assert len(sizes) > 1


def test_roofs_are_the_peaks_of_the_chip(report: Report) -> None:
    ax = plot_roofline(report)
    arrays, dram = line(ax, "_arrays"), line(ax, "_dram")
    assert arrays[:, 1] == pytest.approx([INT8_MACS_PER_S] * 2)
    assert dram[:, 1] / dram[:, 0] == pytest.approx([DRAM_BYTES_PER_S] * 2)
    assert dram[1] == pytest.approx(arrays[0])  # they meet at the ridge
    texts = [text.get_text() for text in ax.texts]
    assert "arrays, int8: 157 TMAC/s" in texts
    assert "DRAM: 819 GB/s" in texts


def test_no_operator_is_above_its_roof(report: Report) -> None:
    ax = plot_roofline(report)
    points = np.vstack([np.asarray(group.get_offsets()) for group in ax.collections])
    assert (points[:, 1] <= np.minimum(INT8_MACS_PER_S, points[:, 0] * DRAM_BYTES_PER_S)).all()


def test_the_longest_operator_is_named_and_the_share_shown_is_said(report: Report) -> None:
    ax = plot_roofline(report)
    ops = report.ops
    with_macs = ops[ops["macs"] > 0]
    texts = [text.get_text() for text in ax.texts]
    assert with_macs.nlargest(1, "time_s")["name"].item() in texts
    assert 1 <= sum(name in texts for name in with_macs["name"]) <= NAMED
    share = with_macs["time_s"].sum() / ops["time_s"].sum()
    wanted = f"{len(with_macs)} operators with MACs, {share:.0%} of the time\ncolour: what bounds it, area: its time"
    assert wanted in texts


def test_a_roof_for_every_number_format() -> None:
    report = sim.simulate("gemm:64x64x64", chip="lepton_m", dtype="fp32")
    assert line(plot_roofline(report), "_arrays")[:, 1] == pytest.approx([INT8_MACS_PER_S / 4] * 2)


def test_the_upper_bar_is_the_critical_path(report: Report) -> None:
    found = bars(plot_time_energy(report), 1.3)
    path = report.critical_path
    compute = path[(path["kind"] == "array") & (path["cause"] == "compute")]["duration_ps"].sum()
    assert found["array compute"][1] == pytest.approx(100 * compute / path["duration_ps"].sum())
    steps = path.groupby(["kind", "cause"])["duration_ps"].sum()
    small = steps[steps < LEAST_SHARE * steps.sum()].sum()
    assert small > 0
    assert found["everything else"][1] == pytest.approx(100 * small / steps.sum())


def test_the_lower_bar_is_the_energy(report: Report) -> None:
    found = bars(plot_time_energy(report), 0.0)
    energy = report.energy.set_index("component")["energy_j"]
    assert found["leakage"][1] == pytest.approx(100 * energy["leakage"] / energy.sum())
    small = energy[energy < LEAST_SHARE * energy.sum()].sum()
    assert small > 0
    assert found["everything else"][1] == pytest.approx(100 * small / energy.sum())


@pytest.mark.parametrize("y", [0.0, 1.3])
def test_parts_of_a_bar_follow_each_other_and_fill_it(report: Report, y: float) -> None:
    parts = list(bars(plot_time_energy(report), y).values())
    assert len(parts) >= 3
    ends = np.cumsum([share for _, share in parts])
    assert [left for left, _ in parts] == pytest.approx([0.0, *ends[:-1]], abs=1e-9)
    assert ends[-1] == pytest.approx(100)


def test_totals_are_written_with_their_units(report: Report) -> None:
    texts = [text.get_text() for text in plot_time_energy(report).texts]
    (time,) = (text for text in texts if text.startswith("time"))
    value, unit = time.removeprefix("time\n").split()
    assert unit == "us"
    assert float(value) == pytest.approx(1e6 * float(report["latency_s"] or 0), rel=5e-3)
    assert any(text.startswith("energy\n") and text.endswith("mJ") for text in texts)


def test_a_closed_form_has_no_critical_path_but_a_roofline() -> None:
    report = sim.simulate("gemm:64x64x64", chip="lepton_m", dtype="int8", fidelity="bound")
    with pytest.raises(InputError, match="closed form has no critical path"):
        plot_time_energy(report)
    assert len(plot_roofline(report).collections) == 1


def test_the_axes_given_are_drawn_on_and_nothing_is_shown(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pyplot, "show", lambda: pytest.fail("show was called"))
    _, (left, right) = pyplot.subplots(1, 2)
    assert plot_roofline(report, left) is left
    assert plot_time_energy(report, right) is right
    assert len(pyplot.get_fignums()) == 1
