"""What a report says of chips that share a model: what counts items is of all of them, the rest of one."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console

import sim
from sim.errors import InputError
from sim.explore.evaluate import evaluate
from sim.explore.space_file import space_from_dict
from sim.hw.money import cost_per_million, load_prices
from sim.report.text import render_text

CONFIG: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 256, "num_hidden_layers": 3, "num_attention_heads": 8,
    "num_key_value_heads": 4, "intermediate_size": 512, "vocab_size": 1024, "max_position_embeddings": 512,
}  # fmt: skip
LINKS = {"links.count": 4, "links.bandwidth": "25 GB/s"}
BATCH, TOKENS = 3, 16


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("small") / "config.json"
    path.write_text(json.dumps(CONFIG))
    return str(path)


def run(model: str, chips: int | None, **options: Any) -> sim.Report:
    lengths = {"phase": "prefill", "seq": TOKENS} | options
    return sim.simulate(model, "lepton_m", overrides=LINKS, dtype="int8", batch=BATCH, chips=chips, **lengths)


def test_what_counts_items_is_of_all_chips(model: str) -> None:
    report = run(model, 4)
    items, one_j = BATCH * TOKENS, float(report["energy_j"] or 0)
    assert report["chips"] == 4
    assert report["throughput_per_s"] == pytest.approx(items / float(report["latency_s"] or 0))
    assert report["energy_per_input_j"] == pytest.approx(4 * one_j / items)
    assert report["power_w"] == pytest.approx(one_j / report.elapsed_s)
    each = float(report["cost_usd"] or 0), float(report["power_w"] or 0)
    of_all = cost_per_million(4 * each[0], 4 * each[1], float(report["throughput_per_s"] or 0), load_prices("default"))
    assert report["cost_per_million_usd"] == pytest.approx(of_all)
    assert report["cost_usd"] == run(model, None)["cost_usd"]


def test_work_and_bytes_are_of_one_chip(model: str) -> None:
    whole, part = run(model, None), run(model, 4)
    assert whole["chips"] == 1
    assert int(whole["macs"] or 0) == 4 * int(part["macs"] or 0)
    tokens = BATCH * TOKENS * 256
    assert part.ops["chip_links_bytes"].sum() == pytest.approx((2 * 3 + 1) * 1.5 * tokens)
    assert whole.ops["chip_links_bytes"].sum() == 0
    assert float(part["dram_read_bytes"] or 0) < 0.6 * float(whole["dram_read_bytes"] or 0)


def test_text_generation_on_several_chips(model: str) -> None:
    report = run(model, 2, phase="generate", new_tokens=4)
    assert report["chips"] == 2
    assert report["energy_per_input_j"] == pytest.approx(2 * float(report["energy_j"] or 0) / (BATCH * 4))


def test_the_text_says_so(model: str) -> None:
    def text(report: sim.Report) -> str:
        stream = io.StringIO()
        render_text(report, Console(file=stream, width=100))
        return stream.getvalue()

    several = text(run(model, 4))
    assert "one of 4 chips" in several.splitlines()[0]
    assert "4 chips run this in step. Throughput, energy per token and cost per million are of all 4;" in several
    for words in ("tokens/s of 4 chips", "J of 4 chips", "W a chip", "USD a chip", "USD of 4 chips"):
        assert words in several, words
    assert "chips" not in "".join(text(run(model, None)).splitlines()[:14])


def test_a_chip_without_links_is_refused(model: str) -> None:
    with pytest.raises(InputError, match="adds up over 2 chips, but chip 'lepton_m' has no links"):
        sim.simulate(model, "lepton_m", dtype="int8", phase="prefill", seq=4, chips=2)


def test_the_closed_form_of_many_designs_refuses(model: str) -> None:
    with pytest.raises(InputError, match="is of 2 chips; the closed form of many designs knows one"):
        sim.bound(model, "lepton_m", phase="prefill", seq=4, dtype="int8", chips=2)


def test_a_sweep_takes_the_closed_form_of_each_design(model: str) -> None:
    asked: Any = {"phase": "prefill", "seq": TOKENS, "dtype": "int8", "batch": BATCH, "chips": 2}
    links = {path: [value] for path, value in LINKS.items()}
    swept = space_from_dict(
        {"name": "shared", "chip": "lepton_m", "workloads": [{"model": model, **asked}], "parameters": links}
    )
    found = evaluate(swept, 0, "bound", [(0, 0)])[0]
    alone = sim.simulate(model, "lepton_m", overrides=LINKS, fidelity="bound", **asked)
    assert found.error == ""
    assert (found.metrics["latency_s"], found.metrics["energy_j"]) == (alone["latency_s"], alone["energy_j"])
