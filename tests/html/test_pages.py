"""The HTML pages as a reader sees them: opened in a browser without network, clicked, brushed, and read back."""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from browser import open_page

import sim
from sim.cli import run
from sim.explore.store import open_study
from sim.explore.study import Study
from sim.html import run_page, study_page
from sim.report.load import load_report
from sim.report.report import Report
from sim.units import COLUMN_ENDS, DIMENSIONS, format_quantity

if TYPE_CHECKING:
    from playwright.sync_api import Page

SPACE = [
    "--chip", "lepton_s", "--workload", "mobilenet_v2", "--dtype", "int8", "--fidelity", "bound", "--workers", "1",
    "--vary", "core.array.rows=16,32,64", "--vary", "core.sram.size=256KiB,512KiB,1MiB", "--vary", "dram.channels=2,4",
    "--objective", "latency_s", "--objective", "energy_j", "--objective", "area_mm2",
    "--constraint", "area_mm2 <= 30 mm2",
]  # fmt: skip


@pytest.fixture(scope="module")
def report() -> Report:
    return sim.simulate("resnet18", chip="lepton_m", dtype="int8")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    file = tmp_path_factory.mktemp("study") / "small.sqlite"
    assert run(["sweep", *SPACE, "--out", str(file)]) == 0
    return open_study(file)


def data_of(html: str) -> dict[str, Any]:
    packed = re.search(r'<script id="data" type="text/plain">(.*?)</script>', html)
    assert packed
    found: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(packed[1])))
    return found


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with open_page(viewport={"width": 1240, "height": 900}) as page:
        yield page


def opened(page: Page, html: str, folder: Path) -> list[str]:
    """Opens the page from a file and waits until it is drawn; returns what it asked of a network, and its errors."""
    complaints: list[str] = []
    file = folder / "page.html"
    file.write_text(html, encoding="utf-8")
    page.on("request", lambda r: complaints.append(r.url) if r.url.startswith(("http", "ws", "//")) else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(file.as_uri())
    page.wait_for_function("() => document.body.dataset.readyMs", timeout=60_000)
    return complaints


def column(page: Page, table: str, name: str) -> list[str]:
    cells = f"#{table} td[data-column={name}]"
    found: list[str] = page.evaluate(
        "c => [...document.querySelectorAll(c)].map(one => one.dataset.value)", cells
    )
    return found


def test_a_page_loads_nothing_and_is_small(report: Report, study: Study) -> None:
    for html in (run_page(report), study_page(study)):
        # Addresses appear in plotly.js alone, which is packed.
        outside = re.sub(r'<script id="(data|plotly)".*?</script>', "", html, flags=re.DOTALL)
        assert "http" not in outside
        assert "src=" not in outside
        assert len(html) < 4_000_000


def test_columns_have_the_same_units_on_pages_as_elsewhere() -> None:
    script = (resources.files("sim.html") / "assets" / "common.js").read_text()
    ends = dict(re.findall(r'\["(_\w+)", "([^"]+)", \d+\]', script))
    for dimension, end in COLUMN_ENDS.items():
        assert ends[end] == DIMENSIONS[dimension].base.replace("mm2", "mm²")


def test_the_same_report_gives_the_same_page(report: Report, tmp_path: Path) -> None:
    assert run_page(report) == run_page(report)
    loaded = data_of(run_page(load_report(report.save(tmp_path))))
    fresh = data_of(run_page(report))
    del loaded["manifest"], fresh["manifest"]  # a folder's names its files
    assert loaded == fresh


@pytest.mark.browser
def test_a_run_is_read_sorted_and_clicked(report: Report, page: Page, tmp_path: Path) -> None:
    assert opened(page, run_page(report), tmp_path) == []
    cards = page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll('.card')]
            .map(card => [card.dataset.metric, card.lastChild.textContent]))"""
    )
    value, unit = cards["latency_s"].split()
    assert unit == "us"
    assert float(value) == pytest.approx(1e6 * float(report["latency_s"] or 0), rel=5e-3)
    # The table: all operators, in the order of the run, then by energy, most first, then least first.
    ops = report.ops
    assert column(page, "ops", "name") == ops["name"].tolist()
    page.click('#ops th[data-column="energy_j"]')
    falling = [float(v) for v in column(page, "ops", "energy_j")]
    assert falling == pytest.approx(sorted(ops["energy_j"], reverse=True))
    assert column(page, "ops", "name")[0] == ops.loc[ops["energy_j"].idxmax(), "name"]
    page.click('#ops th[data-column="energy_j"]')
    assert [float(v) for v in column(page, "ops", "energy_j")] == pytest.approx(falling[::-1])
    page.fill("#filter", "downsample")
    assert sorted(column(page, "ops", "name")) == sorted(n for n in ops["name"] if "downsample" in n)
    # A click on a row finds the operator in the roofline and in the timeline.
    name = column(page, "ops", "name")[0]
    page.click("#ops tbody tr:first-child")
    assert page.evaluate("""() => document.getElementById('roofline').data.filter(t => t.mode === "markers").flatMap(
        t => t.selectedpoints.map(at => lepton.data.tables.ops.name[t.customdata[at]]))""") == [name]
    marked = page.evaluate(
        "() => document.getElementById('timeline').data.at(-1).x.filter(v => v !== null).length"
    )
    assert marked == 2 * (report.timeline["op"] == name).sum()
    # Figures have the numbers of the report.
    drawn = page.evaluate("() => document.getElementById('energy').data.map(t => t.x[0])")
    assert sum(drawn) == pytest.approx(float(report["energy_j"] or 0))
    traces = page.evaluate("""() => document.getElementById('roofline').data.filter(t => t.mode === "markers").map(
        t => ({ name: t.name, y: [...t.y], limits: t.customdata.map(row => lepton.data.tables.ops.bound_by[row]) }))""")
    # A trace for every resource that limits an operator, so that the legend has it.
    assert {trace["name"] for trace in traces} == {"arrays", "DRAM bandwidth", "vector units", "DMA"}
    assert all(len(set(trace["limits"])) == 1 for trace in traces)
    points = [y for trace in traces for y in trace["y"]]
    with_macs = ops[(ops["macs"] > 0) & (ops["macs_per_dram_byte"] > 0)]
    assert sorted(points) == pytest.approx(sorted(with_macs["achieved_macs_per_s"]))
    # At both widths no legend covers a title, and ticks carry their units.
    for width in (1280, 800):
        assert covered_titles(page, width) == [], width
    ticks = page.locator("#traffic .xtick text").all_text_contents()
    assert len(ticks) > 3
    assert all(re.fullmatch(r"0 B|[0-9.,]+ [KMG]iB", tick) for tick in ticks)
    shares = page.evaluate("() => document.getElementById('time').data.map(t => t.name)")
    assert all(re.search(r" (\d+\.\d|<0\.1) %$", name) for name in shares)
    for plot, axis, unit in (("power", "y", "W"), ("power", "x", "s"), ("bandwidth", "y", "B/s"), ("time", "x", "s")):
        ticks = page.locator(f"#{plot} .{axis}tick text").all_text_contents()
        assert len(ticks) > 2
        assert all(tick.endswith(unit) for tick in ticks), plot
    heads = page.locator("#resources th").all_inner_texts()
    assert len(set(heads)) == len(heads)


def covered_titles(page: Page, width: int) -> list[str]:
    """Figures whose legend covers their title, or that of an axis, once they have followed the width of the page."""
    page.set_viewport_size({"width": width, "height": 900})
    found: list[str] = []
    for _ in range(30):  # on a busy machine that takes seconds
        page.wait_for_timeout(200)
        found = page.evaluate("""() => [...document.querySelectorAll('.plot')].filter(plot => {
            const legend = plot.querySelector('.legend');
            return legend && ['.xtitle', '.gtitle'].map(name => plot.querySelector(name)).some(title => {
                if (!title) return false;
                const [a, b] = [title, legend].map(one => one.getBoundingClientRect());
                return a.left < b.right && b.left < a.right && a.top < b.bottom - 1 && b.top < a.bottom - 1;
            });
        }).map(plot => plot.id)""")
        if not found:
            break
    return found


@pytest.fixture(scope="module")
def many_cores() -> Report:
    return sim.simulate("gemm:2048x2048x512", "lepton_l", dtype="int8")


@pytest.mark.browser
def test_a_page_tells_what_was_not_validated_in_one_line_and_a_limit_that_is_passed() -> None:
    report = sim.simulate("resnet18", "gemmini_16", dtype="int8", overrides={"power_limit": "10 mW"})
    first, *others = (line for line in data_of(run_page(report))["warnings"] if not line.startswith("DRAM"))
    assert first.startswith("100% of the time is outside what was validated: ")
    assert first.count("% no ") >= 2
    assert len(others) == 1
    assert "is above the chip's limit of 10 mW" in others[0]


def test_many_cores_stand_together_until_they_are_asked_for(many_cores: Report, page: Page, tmp_path: Path) -> None:
    """32 cores with some 150 queues would be a picture of 2,500 pixels: each kind of queue is one strip, as high as
    the share of its queues that is busy."""
    opened(page, run_page(many_cores), tmp_path)
    timeline = many_cores.timeline
    assert timeline["resource"].nunique() > 100
    height = "() => document.getElementById('timeline').offsetHeight"
    assert page.evaluate(height) < 700
    labels = "() => document.getElementById('timeline').layout.yaxis.ticktext"
    assert "32 x array" in page.evaluate(labels)
    shares = page.evaluate(
        "() => document.getElementById('timeline').data.find(trace => trace.name === '32 x array').customdata"
    )
    arrays = timeline[timeline["unit"] == "array"]
    busy = arrays["held_ps"].clip(upper=arrays["end_ps"] - arrays["start_ps"]).sum()
    assert sum(shares) / len(shares) == pytest.approx(busy / timeline["end_ps"].max() / 32, rel=1e-6)
    for width in (1240, 800):
        assert covered_titles(page, width) == []
    page.select_option("#cores", "2")
    assert page.inner_text("#cores option:nth-child(3)") == "cores 8 to 15"
    page.wait_for_function("() => document.getElementById('timeline').layout.yaxis.ticktext.length > 20")
    assert {name.split(".")[0] for name in page.evaluate(labels)} == {f"core{core}" for core in range(8, 16)}
    # A chosen operator is marked in what is shown.
    page.click("#ops tbody tr:nth-child(1)")
    marked = page.evaluate("() => document.getElementById('timeline').data.at(-1).x.filter(v => v !== null).length")
    assert marked == 2 * timeline["core"].between(8, 15).sum()


@pytest.mark.browser
def test_a_closed_form_has_a_page_without_times(page: Page, tmp_path: Path) -> None:
    report = sim.simulate("lenet5", chip="tiny", dtype="int8", fidelity="bound")
    assert opened(page, run_page(report), tmp_path) == []
    assert not page.is_visible("#timeline")
    assert page.is_visible("#roofline")
    assert "closed form" in page.inner_text("#warnings")


def clear(page: Page) -> list[int]:
    """Designs that are clear to see in the front, the others being faint."""
    found: list[int] = page.evaluate("""() => {
        const points = document.getElementById('front').data[0];
        return [...points.customdata].filter((_, at) => points.marker.opacity[at] > 0.5);
    }""")
    return found


@pytest.mark.browser
def test_designs_are_brushed_and_selected_together(study: Study, page: Page, tmp_path: Path) -> None:
    table = study.table
    assert opened(page, study_page(study), tmp_path) == []
    for name in ("latency_s", "energy_j", "area_mm2"):
        assert [float(v) for v in column(page, "points", name)] == pytest.approx(
            table[name].tolist(), rel=1e-8
        )
    assert page.inner_text("#selected") == "18 of 18 points selected"
    cards = {str(label): text for label, text, _ in data_of(study_page(study))["cards"]}
    assert cards["designs"] == "18"
    assert cards["lowest latency"] == format_quantity(table.loc[table["on_front"], "latency_s"].min(), "time")
    front = page.evaluate(
        "() => document.getElementById('front').data[0].marker.color.filter(c => c === '#D55E00').length"
    )
    assert front == table["on_front"].sum() > 0

    # The parallel coordinates are drawn when they are looked at; brush the lower half of their last axis by mouse.
    page.locator("#parallel").scroll_into_view_if_needed()
    page.wait_for_selector("#parallel[data-drawn]")
    axes = page.evaluate("() => document.getElementById('parallel').data[0].dimensions.map(d => d.label)")
    at = axes.index("area (mm²)")
    brush = page.locator("#parallel .axis-brush .background").nth(at)
    brush.scroll_into_view_if_needed()
    box = brush.bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 4)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.5, steps=8)
    page.mouse.up()
    page.wait_for_function("() => lepton.selected.length < 18")
    low, high = page.evaluate(
        "(at) => document.getElementById('parallel').data[0].dimensions[at].constraintrange", at
    )
    middle = (table["area_mm2"].min() + table["area_mm2"].max()) / 2
    assert low < middle / 1.05 < high < middle * 1.1
    inside = [i for i, area in enumerate(table["area_mm2"]) if low <= area <= high]
    assert 0 < len(inside) < 18
    assert page.evaluate("() => lepton.selected") == inside
    assert clear(page) == inside
    assert [float(v) for v in column(page, "points", "area_mm2")] == pytest.approx(
        table["area_mm2"].iloc[inside].tolist(), rel=1e-8
    )
    assert page.inner_text("#selected") == f"{len(inside)} of 18 points selected"

    # Then a box in the front, by mouse: what both allow.
    page.locator("#front").scroll_into_view_if_needed()
    plot = page.locator("#front .nsewdrag").first.bounding_box()
    assert plot
    page.mouse.move(plot["x"] + 3, plot["y"] + 3)
    page.mouse.down()
    page.mouse.move(plot["x"] + plot["width"] * 0.6, plot["y"] + plot["height"] - 3, steps=8)
    page.wait_for_timeout(400)  # the selection follows the mouse with a delay
    page.mouse.up()
    page.wait_for_function("() => (document.getElementById('front').layout.selections || []).length")
    edge = page.evaluate("() => document.getElementById('front').layout.selections[0].x1")
    both = [i for i in inside if table["latency_s"].iloc[i] <= edge]
    page.wait_for_function("n => lepton.selected.length === n", arg=len(both))
    assert page.evaluate("() => lepton.selected") == both
    assert 0 < len(both) < len(inside)
    assert clear(page) == both
    page.click("#reset")
    page.wait_for_function("() => lepton.selected.length === 18")


def test_the_command_writes_both(
    report: Report, study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = report.save(tmp_path / "run")
    assert run(["report", str(folder)]) == 0
    assert capsys.readouterr().out == f"report: {folder / 'report.html'}\n"
    assert data_of((folder / "report.html").read_text())["summary"]["latency_s"] == report["latency_s"]
    for arguments, message in (
        ([tmp_path / "rum"], "no such run folder; did you mean 'run'"),
        ([tmp_path / "no.sqlite"], "no such study"),
        ([folder, "--study", "x"], "--study names one of the studies in a file"),
    ):
        assert run(["report", *map(str, arguments)]) == 2
        assert message in capsys.readouterr().err
