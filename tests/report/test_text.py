"""The report as people read it."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console
from test_report import layer, report_of

import sim
from sim.report.report import Report
from sim.report.text import render_text, top_operators


def _text(report: Report, width: int = 200, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    render_text(report, Console(file=stream, width=width))
    return raw.getvalue().decode(encoding)


def test_the_first_screen_answers_the_three_questions() -> None:
    text = _text(report_of(layer()))
    for expected in (
        r"gemm on pair",
        r"latency +2\.47 ns",
        r"^lower bound +1 ns, set by the arrays at their peak",
        r"2\.47 x lower bound",
        r"array utilisation +40\.5 %",
        r"compute alone +2\.3 ns +93\.1 %",
        r"exposed transfers +170 ps +6\.9 %",
        r"array compute +2 ns +81\.0 %",
        r"DRAM bandwidth +150 ps +6\.1 %",
        r"DRAM +100 B +50 B",
        r"mm +matmul +array +1 +2\.11 ns +none +85\.4 %",
        r"note: mm: 1 of 2 cores used",
    ):
        assert re.search(expected, text, re.MULTILINE), expected


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_no_line_is_wider_than_the_terminal_or_100_columns(width: int) -> None:
    text = _text(report_of(layer()), width)
    assert max(map(len, text.splitlines())) <= min(width, 100)


def test_a_terminal_without_unicode_gets_ascii() -> None:
    assert "####" in _text(report_of(layer()), encoding="ascii")


def test_back_to_back_inputs_are_one_row_per_operator() -> None:
    report = report_of(layer(inputs=3))
    rows = top_operators(report.tables["ops"])
    assert [row["name"] for row in rows] == ["mm", "relu", "view"]
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    assert rows[0]["tasks"] == 6
    # Reading must not change the report.
    assert report.ops["tasks"].tolist() == [2, 2, 0] * 3


def test_facts_of_the_mapping_are_shown_with_their_units() -> None:
    rows = [
        {"part": "core 0", "ops": 12_345, "time_s": 2e-6, "loaded_bytes": 2048, "of_one_core": 0.25},
        {"part": "core 1", "ops": 2, "time_s": 1e-6, "loaded_bytes": 0, "of_one_core": 0.5},
    ]
    facts = {
        "scratchpad": {"peak_bytes": 3 << 20, "fragmentation": 0.125},
        "partition": {"mode": "auto", "balance": 0.75, "parts": rows},
    }
    text = _text(report_of(layer(), facts=facts))
    for expected in (
        r"fullest scratchpad peak: 3 MiB, of which 12\.5 % fragmentation",
        r"Parts of the partition \(auto\), balance 75\.0 %",
        r"part +ops +time +loaded +of one core",
        r"core 0 +12\.3 k +2 us +2 KiB +25\.0 %",
        r"core 1 +2 +1 us +0 B +50\.0 %",
    ):
        assert re.search(expected, text), expected


def test_repeats_and_long_names_are_shown_in_short() -> None:
    name = "encoder.layers.11.feed_forward.down_projection"
    segment = layer()
    long = replace(segment.ops[0], name=name, mapping={**segment.ops[0].mapping, "tile": {"row": 7, "k": 64}})
    text = _text(report_of(replace(segment, ops=(long, *segment.ops[1:])), repeats=(12,), layers=12))
    assert re.search(r"encoder\.\.\.tion x12 +matmul .* 7x64", text)
    assert "relu x12" in text


@pytest.mark.parametrize("width", [80, 100])
def test_numbers_stand_in_full_however_long_names_and_tiles_are(width: int) -> None:
    """A time that ends in "..." is no time."""
    segment = layer()
    sizes = {f"d{axis}": 1024 for axis in range(6)}
    long = replace(
        segment.ops[0],
        name="encoder.layers.11.feed_forward.down_projection",
        kind="host transfer of inputs",
        mapping={**segment.ops[0].mapping, "tile": sizes},
    )
    text = _text(report_of(replace(segment, ops=(long, *segment.ops[1:])), repeats=(12,), layers=12), width)
    row = re.search(r"^encod.*$", text, re.MULTILINE)
    assert row is not None
    for expected in (r"x12 ", r" \d+\.\d ns ", r" \d+\.\d %"):
        assert re.search(expected, row[0]), row[0]
    assert "\u2026" not in text


def test_brackets_in_names_are_not_markup() -> None:
    segment = layer()
    odd = replace(segment.ops[0], name="gate[bold][0]")
    assert "gate[bold][0]  matmul" in _text(report_of(replace(segment, ops=(odd, *segment.ops[1:]))))


def test_text_generation_shows_the_first_token_and_the_others() -> None:
    report = report_of(layer())
    times = {"time_to_first_token_s": 394e-6, "time_per_output_token_s": 281e-6}
    text = _text(replace(report, values={**report.values, **times}))
    assert re.search(r"first token +394 us +further tokens +281 us each", text)
    alone = replace(report, values={**report.values, **times, "time_per_output_token_s": None})
    assert re.search(r"further tokens +none asked for", _text(alone))
    assert "first token" not in _text(report)


def test_area_cost_and_power_are_shown() -> None:
    report = report_of(layer())
    text = _text(report)
    assert re.search(r"die area +23\.\d mm2 +cost +60\.\d USD", text)
    assert re.search(r"peak power +\d+\.\d W, chip alone 3\.\d+ W +per million +\d\.\d+e-09 USD", text)
    assert re.search(r"DRAM interface +\d+\.\d mm2 +\d+\.\d % +package +35 USD +58\.\d %", text)
    assert not re.search(r"^cache ", text, re.MULTILINE)
    unpriced = {**report.values, "cost_usd": None, "cost_per_million_usd": None}
    text = _text(replace(report, values=unpriced, tables={**report.tables, "cost": _NO_COST}))
    assert "cost        no die fits on a wafer" in text
    assert "per million" not in text


def test_a_die_of_several_exposures_and_power_above_the_limit_are_said() -> None:
    report = report_of(layer())
    area = {**report.tables["area"], "area_mm2": [100.0] * 11}
    text = _text(
        replace(report, tables={**report.tables, "area": area}, values={**report.values, "power_limit_w": 5.0})
    )
    assert "the die is larger than one exposure field (858 mm2)" in text
    assert re.search(r"average power of 6\.\d+ W is above the chip's limit of 5 W", text)


_NO_COST: dict[str, list[float]] = {"component": [], "cost_usd": [], "share": []}


def test_rows_that_share_few_sets_are_told() -> None:
    """2048 columns of fp16 are 4 KiB, the sets of 256 KiB in 16 ways go round every 16 KiB: tiles of `a` miss all that
    others have read. With hashed sets most is found."""
    few = {"cache.size": "256 KiB", "cache.hashed": False}
    words = "0.0 % of the 64 MiB that are asked of the cache are found; its rows may share few sets"
    for hashed in (False, True):
        report = sim.simulate("gemm:512x2048x2048", "a100", dtype="fp16", overrides=few | {"cache.hashed": hashed})
        text = " ".join(str(report).split())
        assert (words in text) == (not hashed)
        hits = dict(zip(report.tables["cache"]["tensor"], report.tables["cache"]["hit_rate"], strict=True))
        assert (hits["a"] > 0.5) == hashed
