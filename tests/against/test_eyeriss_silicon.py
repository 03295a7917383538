"""The row-stationary law against eleven measured layers of Eyeriss (data/eyeriss_silicon.csv).

The rule that picks the mapping and the cycles of a pass have no constant of a layer. docs/validation.md has the same
numbers in a table.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import pytest

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
