"""Eyeriss against eleven of its measured layers (data/eyeriss_silicon.csv): first the law, then whole runs.

The rule that picks the mapping and the cycles of a pass have no constant of a layer; of the energies, that of the clock
at 65 nm was set with the mean power of these rows. docs/validation.md has the same numbers in a table.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import pytest

import sim
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.hw.row_stationary import (
    ConvShape,
    RowMapping,
    RowStationary,
    buffer_bytes,
    layer_cycles,
    layer_mapping,
)

LIMITS = RowStationary(
    input_words=12, filter_words=224, sum_words=24, bank_bytes=4096, banks=25, longest_row=128
)
BYTES_PER_CYCLE, CYCLES_PER_MS = 16, 200e3


@dataclass(frozen=True)
class Layer:
    """One row of the file; `mapping` is of one group."""

    row: dict[str, str]
    mapping: RowMapping

    def __getitem__(self, column: str) -> float:
        return float(self.row[column])


def _layers() -> list[Layer]:
    path = Path(__file__).parent / "data/eyeriss_silicon.csv"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    found = []
    for row in csv.DictReader(lines):
        n, c, m, groups, kernel, stride, rows, columns = (
            int(row[name])
            for name in (
                *("batch", "in_channels_per_group", "out_channels", "groups", "kernel", "stride"),
                *("rows", "columns"),
            )
        )
        shape = ConvShape(n, c, m // groups, rows, columns, kernel, kernel, stride, stride)
        mapping = layer_mapping(shape, 12, 14, LIMITS)
        assert mapping is not None
        found.append(Layer(row, mapping))
    return found


LAYERS = _layers()
EVERY = pytest.mark.parametrize("layer", LAYERS, ids=[f"{v.row['network']}-{v.row['layer']}" for v in LAYERS])


@EVERY
def test_active_pes(layer: Layer) -> None:
    assert layer.mapping.active_pes == layer["active_pes"]


@EVERY
def test_processing_latency(layer: Layer) -> None:
    found_ms = layer["groups"] * layer_cycles(layer.mapping, BYTES_PER_CYCLE) / CYCLES_PER_MS
    assert found_ms == pytest.approx(layer["processing_latency_ms"], rel=0.07)


@EVERY
def test_buffer_traffic(layer: Layer) -> None:
    # The sharpest witness of p, q, r and t: VGG-16 is met to the last printed digit or two.
    tolerance = 0.001 if layer.row["network"] == "VGG-16" else 0.015
    found_mib = layer["groups"] * buffer_bytes(layer.mapping) / 2**20
    assert found_mib == pytest.approx(layer["buffer_mib"], rel=tolerance)


def test_mean_errors() -> None:
    reports = [_run(layer) for layer in LAYERS]
    power = [1e3 * float(str(r["chip_power_w"])) / v["power_mw"] - 1 for r, v in zip(reports, LAYERS, strict=True)]
    total = [
        1e3 * float(str(r["latency_s"])) / v["total_latency_ms"] - 1 for r, v in zip(reports, LAYERS, strict=True)
    ]
    assert sum(power) / len(power) == pytest.approx(0, abs=0.01)
    assert sum(map(abs, total)) / len(total) < 0.05


def test_layers_bound_by_the_buffer_and_by_the_pes_are_told_apart() -> None:
    # CONV1-2 keeps 156 PEs and uses a fifth of them: 16 B a cycle are the bound. CONV5 is bound by its PEs.
    used = {
        v.row["layer"]: v.mapping.shape.macs / v.mapping.active_pes / layer_cycles(v.mapping, BYTES_PER_CYCLE)
        for v in LAYERS
        if v.row["network"] == "VGG-16"
    }
    assert used["CONV1-2"] < 0.25
    assert used["CONV3-2"] < 0.45
    assert used["CONV5-1"] > 0.9


NEXT_ZEROS_PCT = {"CONV3": 79.3, "CONV4": 77.6, "CONV1-1": 47.7, "CONV3-1": 58.1, "CONV3-2": 58.7}
NEXT_ZEROS_PCT |= {"CONV5-1": 87.4, "CONV5-2": 88.5}
"""Zeros of a layer's results: those of the next layer's inputs. Where a pool lies between, those of its own inputs."""


def _graph(layer: Layer) -> Graph:
    shape, groups, size = layer.mapping.shape, int(layer["groups"]), int(layer["padded_rows"]) - 2
    b = GraphBuilder(layer.row["layer"], "int16")
    x = b.input("image", (shape.images, shape.in_channels * groups, size, size))
    kernel, stride = shape.kernel_rows, shape.row_stride
    x = b.conv(x, shape.out_channels * groups, kernel, stride, 1, groups=groups, bias=False, name="conv")
    return b.build([x], items=shape.images, kernel=True)


def _run(layer: Layer) -> sim.Report:
    zeros = layer["zeros_in_inputs_pct"]
    after = NEXT_ZEROS_PCT.get(layer.row["layer"], zeros)
    return sim.simulate(_graph(layer), "eyeriss_v1", density={"image": 1 - zeros / 100, "": 1 - after / 100})


@EVERY
def test_whole_run(layer: Layer) -> None:
    report = _run(layer)
    moved = float(str(report["dram_read_bytes"])) + float(str(report["dram_write_bytes"]))
    assert moved / 2**20 == pytest.approx(layer["dram_mib"], rel=0.10)
    assert 1e3 * float(str(report["chip_power_w"])) == pytest.approx(layer["power_mw"], rel=0.15)
    # With four images in one set of banks ours wait for all of them, where the chip refills image by image.
    slack = 0.13 if layer.mapping.input_slots == 1 else 0.09
    # What the mapper expects of a layer is what the events make of it, waiting for the link included.
    assert float(str(report.facts["closed_form_latency_s"])) == pytest.approx(float(str(report["latency_s"])), rel=0.05)
    assert 1e3 * float(str(report["latency_s"])) == pytest.approx(layer["total_latency_ms"], rel=slack)
