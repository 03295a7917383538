"""Whole networks on A100, A30 and H100 against what NVIDIA published (data/networks_gpu.csv, networks.py).

Nothing was fitted to these rows, so the bars say what was found: by family the mean error, its sign, and the furthest
rows. docs/validation.md tells why. The suite takes a few cheap rows, the nightly run all (of BERT and ViT those that
took under 20 ms).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from networks import CHIPS, Attention, Row, rows, simulated_s

import sim
from sim.graph.builder import GraphBuilder
from sim.hw.chip import load_chip

MOST_S = 16e-3  # beyond it, minutes of simulation for errors like those of batches half as large


@dataclass(frozen=True)
class Family:
    """Errors in per cent of the measured time: their mean size, their mean, the least and the most; and the mean of the
    rows in `sample`."""

    chosen: Callable[[Row], bool]
    attention: Attention
    size: float
    mean: float
    least: float
    most: float
    sample: tuple[str, ...] = ()
    sampled: float = 0


def _bert(row: Row, *chip_or_precision: str) -> bool:
    """With more than 512 tokens."""
    long = row.source == "trt_bert" and row.batch * row.prompt > 512
    return long and set(chip_or_precision) <= {row.chip, row.precision}


FAMILIES = {
    "convolutions, one image": Family(
        lambda row: row.family == "conv" and row.batch == 1,
        *("stored", 13.2, -13.2, -21, 1),
        ("a100_40gb resnet50 int8 1", "a100_40gb resnet101 int8 1", "a100_40gb mobilenet_v2 int8 1"),
        -13.2,
    ),
    "convolutions, thousands of images": Family(
        lambda row: row.family == "conv" and row.batch != 1,
        *("stored", 2.7, -0.3, -6, 5),
        ("a30 resnet50 int8 1536",),
        -4.6,
    ),
    "BERT, up to 512 tokens of 128": Family(
        lambda row: row.source == "trt_bert" and row.prompt == 128 and row.batch <= 4,
        *("fused", 9.3, 5.3, -18, 36),
        ("a100_40gb bert_base fp16 1 x 128", "a30 bert_base int8 4 x 128"),
        9.2,
    ),
    "BERT, one text of 384": Family(
        lambda row: row.source == "trt_bert" and row.prompt == 384 and row.batch == 1,
        *("fused", 27.1, -27.1, -37, -14),
        ("a100_40gb bert_base fp16 1 x 384",),
        -18.8,
    ),
    "BERT, more tokens, fp16, A100": Family(
        lambda row: _bert(row, "a100_40gb", "fp16"),
        *("fused", 7.4, -2.7, -24, 13.5),
        ("a100_40gb bert_base fp16 8 x 384", "a100_40gb bert_base fp16 8 x 128"),
        -3.2,
    ),
    "BERT, more tokens, int8, A100": Family(
        lambda row: _bert(row, "a100_40gb", "int8"),
        *("fused", 9.9, -5.4, -35, 13),
        ("a100_40gb bert_base int8 8 x 128",),
        -4.0,
    ),
    "BERT, more tokens, A30": Family(
        lambda row: _bert(row, "a30"),
        *("fused", 12.6, -12.5, -26, 3),
        ("a30 bert_base fp16 8 x 128",),
        -9.0,
    ),
    "BERT of FasterTransformer": Family(
        lambda row: row.source == "ft_bert",
        *("stored", 10.5, -4.7, -24.5, 27.5),
        ("a100_40gb bert_base fp16 8 x 128",),
        -12.4,
    ),
    "ViT of FasterTransformer, fp16": Family(
        lambda row: row.family == "vit" and row.precision == "fp16",
        *("stored", 19.6, -19.6, -31, -5),
        ("a100_40gb vit_b_16 fp16 8 x 197",),
        -19.5,
    ),
    "ViT of FasterTransformer, int8": Family(
        lambda row: row.family == "vit" and row.precision == "int8",
        *("stored", 36.2, -36.2, -50.5, -21),
        ("a100_40gb vit_b_16 int8 8 x 197",),
        -35.2,
    ),
    "first token of a prompt of 128, A100": Family(
        lambda row: row.family == "first token" and row.chip == "a100" and row.prompt == 128,
        *("fused", 14.6, -14.6, -26.5, -3),
        ("a100 gptj_6b fp16 1 x 128",),
        -5.0,
    ),
    "first token of a prompt of 128, H100": Family(
        lambda row: row.family == "first token" and row.chip == "h100" and row.prompt == 128,
        *("fused", 47.1, -47.1, -50.5, -42),
        ("h100 gptj_6b fp8 1 x 128",),
        -48.9,
    ),
    "first token of a prompt of 2,048, A100": Family(
        lambda row: row.family == "first token" and row.chip == "a100" and row.prompt == 2048,
        *("fused", 4.9, 1.3, -7, 7),
    ),
    "first token of a prompt of 2,048, H100": Family(
        lambda row: row.family == "first token" and row.chip == "h100" and row.prompt == 2048,
        *("fused", 21.5, -21.5, -26, -18),
    ),
    "2,048 tokens behind prompts of 128": Family(
        lambda row: row.family == "generation",
        *("fused", 4.7, -1.5, -6.5, 7),
    ),
}


@cache
def error_pct(row: Row, attention: Attention) -> float:
    return 100 * (simulated_s(row, attention) / row.measured_s - 1)


def of_family(name: str) -> list[Row]:
    short = name.startswith(("BERT", "ViT"))
    family = FAMILIES[name]
    return [row for row in rows() if family.chosen(row) and (not short or row.measured_s < MOST_S)]


def test_the_published_rows() -> None:
    """Each once, in one family; counted by source."""
    assert len(set(rows())) == len(rows())
    for row in rows():
        assert sum(family.chosen(row) for family in FAMILIES.values()) == 1, row.title
    counts = {source: sum(row.source == source for row in rows()) for source in {row.source for row in rows()}}
    assert counts == {
        "trt_bert": 160,
        "ft_bert": 9,
        "ft_vit": 32,
        "trtllm_first": 12,
        "trtllm_peak": 3,
        "trt_zoo": 3,
        "mlperf_1.0": 3,
        "mlperf_2.1": 1,
    }


def test_throughputs_are_seconds_of_a_batch() -> None:
    """17,483.6 images/s are 29.3 ms for 512; 8,011 tokens/s 30.7 s for 120 texts of 2,048 tokens."""
    found = {row.title: row.measured_s for row in rows()}
    assert found["a30 resnet50 int8 1536"] == pytest.approx(512 / 17483.6)
    assert found["h100 gptj_6b fp8 120 x 128+2048"] == pytest.approx(120 * 2048 / 8011)
    assert found["a100 gptj_6b fp16 1 x 128"] == 12e-3


def test_what_one_text_of_384_takes_longer_than_three_of_128() -> None:
    """25 to 50 us a layer for attention on either chip, though one has half the cores: it occupies few of them."""
    found_s = {
        (row.chip, row.network, row.precision, row.batch, row.prompt): row.measured_s
        for row in rows()
        if row.source == "trt_bert"
    }
    for network, layers in (("bert_base", 12), ("bert_large", 24)):
        for precision in ("fp16", "int8"):
            longer_us = []
            for chip in ("a100_40gb", "a30"):
                case = chip, network, precision
                three_s = (found_s[*case, 2, 128] + found_s[*case, 4, 128]) / 2
                longer_us.append((found_s[*case, 1, 384] - three_s) / layers * 1e6)
            assert 25 < min(longer_us) < max(longer_us) < 50
            assert longer_us[1] == pytest.approx(longer_us[0], abs=4)


def test_what_one_product_of_queries_keys_and_values_saves() -> None:
    """34 us of three products of 128 x 768 x 768 in fp16, 10 of one that is three times as wide: of the 1.17 ms of BERT
    base of 128 tokens 12 layers of it are left out."""

    def layer_us(*widths: int) -> float:
        builder = GraphBuilder("projections", "fp16")
        x = builder.input("x", (128, 768))
        results = [
            builder.matmul(x, builder.weight((768, width), f"{layer}.{number}"))
            for layer in range(6)
            for number, width in enumerate(widths)
        ]
        preset, overrides = CHIPS["a100_40gb"]
        # They are given to the user one by one: nobody may make one of them.
        report = sim.simulate(builder.build(results), preset, overrides=overrides)
        return float(str(report["latency_s"])) / 6 * 1e6

    assert layer_us(768, 768, 768) == pytest.approx(34, abs=1)
    assert layer_us(3 * 768) == pytest.approx(10, abs=1)
    preset, overrides = CHIPS["a100_40gb"]
    asked = {"overrides": overrides, "dtype": "fp16", "seq": 128, "attention": "fused"}
    report = sim.simulate("bert_base", preset, **asked)
    joined = [row for row in report.ops.itertuples() if row.name.endswith(".q+k+v")]
    assert sum(row.repeats for row in joined) == 12
    assert float(str(report["latency_s"])) * 1e6 == pytest.approx(1168 - 12 * (34 - 10), abs=40)


@pytest.mark.nightly
def test_what_one_kernel_for_the_first_stage_would_save() -> None:
    """In MLPerf the ten convolutions of 56 x 56 pixels are one kernel: here they take 30 % of the time, by their
    products 10, and ResNet-50 would take 0.80 of the measured time."""
    (row,) = (row for row in rows() if row.title == "a100_40gb resnet50 int8 2048")
    preset, overrides = CHIPS[row.chip]
    chip = load_chip(preset, overrides)
    report = sim.simulate(row.network, chip, batch=row.simulated_batch, dtype=row.precision)
    stage = report.ops[report.ops["name"].str.startswith("layer1.")]
    assert stage["name"].nunique() == 10
    (kind,) = chip.cores
    products_s = (stage["macs"] / stage["utilization"]).sum() / (kind.count * kind.peak_macs_per_s("int8"))
    latency_s, stage_s = float(str(report["latency_s"])), stage["time_s"].sum()
    assert stage_s / latency_s == pytest.approx(0.30, abs=0.02)
    assert products_s / latency_s == pytest.approx(0.10, abs=0.01)
    assert (latency_s - stage_s + products_s) / row.measured_s == pytest.approx(0.80, abs=0.02)


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.sample])
def test_a_sample(name: str) -> None:
    family = FAMILIES[name]
    found = [row for row in of_family(name) if row.title in family.sample]
    assert {row.title for row in found} == set(family.sample)
    errors_pct = {row: error_pct(row, family.attention) for row in found}
    for row, error in errors_pct.items():
        assert family.least < error < family.most, row.title
    assert np.mean(list(errors_pct.values())) == pytest.approx(family.sampled, abs=2.5)


@pytest.mark.nightly
@pytest.mark.parametrize("name", FAMILIES)
def test_all_rows(name: str) -> None:
    family = FAMILIES[name]
    errors_pct = np.array([error_pct(row, family.attention) for row in of_family(name)])
    assert np.mean(np.abs(errors_pct)) == pytest.approx(family.size, abs=1.5)
    assert np.mean(errors_pct) == pytest.approx(family.mean, abs=2)
    assert family.least < errors_pct.min()
    assert errors_pct.max() < family.most
