"""SCALE-Sim topologies: what the format means, and complaints with line and column."""

from __future__ import annotations

from pathlib import Path

import pytest

from sim.errors import InputError
from sim.graph.scalesim_csv import load_scalesim_csv

HEADER = (
    "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,\n"
)
# The first lines of SCALE-Sim's topologies/conv_nets/alexnet.csv.
ALEXNET = (
    HEADER
    + """Conv1, 224, 224, 11, 11, 3, 96, 4,
Conv2, 31, 31, 5, 5, 96, 256, 1,

Conv3, 15, 15, 3, 3, 256, 384, 1,
"""
)


def write(folder: Path, text: str) -> Path:
    path = folder / "topology.csv"
    path.write_text(text)
    return path


def test_convolutions(tmp_path: Path) -> None:
    """Output extent ceil((IFMAP - filter + stride) / stride), rounded up: 55 = ceil(217 / 4) for Conv1."""
    graph = load_scalesim_csv(write(tmp_path, ALEXNET), batch=2)
    assert [op.name for op in graph.ops] == ["Conv1", "Conv2", "Conv3"]
    shapes = [graph.tensors[name].shape for name in graph.outputs]
    assert shapes == [(2, 96, 55, 55), (2, 256, 27, 27), (2, 384, 13, 13)]
    macs = 55**2 * 96 * 3 * 121 + 27**2 * 256 * 96 * 25 + 13**2 * 384 * 256 * 9
    assert graph.macs == 2 * macs
    # One after another, as there: every layer is a block of its own.
    assert [op.block for op in graph.ops] == [0, 1, 2]
    assert graph.items == 2


def test_gemms_without_header(tmp_path: Path) -> None:
    graph = load_scalesim_csv(write(tmp_path, "qkv, 128, 2304, 768\r\nffn,128,3072,768,,\r\n"), dtype="bf16")
    assert graph.macs == 128 * 768 * (2304 + 3072)
    assert graph.tensors["qkv.weight"].shape == (768, 2304)
    assert {tensor.dtype for tensor in graph.tensors.values()} == {"bf16"}


def test_layers_of_one_name_stay_apart(tmp_path: Path) -> None:
    graph = load_scalesim_csv(write(tmp_path, "fc, 1, 2, 3\nfc, 4, 5, 6\n"))
    assert [graph.tensors[op.output].shape for op in graph.ops] == [(1, 2), (4, 5)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a, 1, 2\n", "topology.csv:1:1: error: found 2 numbers; expected 7 (convolution) or 3 (GEMM)"),
        ("a, 1, 2, 3\nb, 1,  x, 3\n", "topology.csv:2:8: error: N: found 'x'; expected a positive integer"),
        (HEADER + "a, 1, 0, 3\n", "topology.csv:2:7: error: N: found '0'"),
        (HEADER + "c, 4, 4, 5, 3, 1, 1, 1,\n", "topology.csv:2:10: error: a filter of 5 x 3 does not fit"),
        (HEADER, "found no layer"),
        ("", "found no layer"),
    ],
)
def test_complaints(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        load_scalesim_csv(write(tmp_path, text))
    assert expected in str(caught.value)


def test_all_complaints_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_scalesim_csv(write(tmp_path, "a, 1, 2, 3\nb, -1, 2, 1e3\nc, 1\n"))
    places = [(each.line, each.col) for each in caught.value.diagnostics]
    assert places == [(2, 4), (2, 11), (3, 1)]


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        load_scalesim_csv(tmp_path / "missing.csv")
    path = tmp_path / "binary.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        load_scalesim_csv(path)


def test_depthwise_layers_and_the_column_of_sparsity(tmp_path: Path) -> None:
    """Two rows of MobileNet as SCALE-Sim's topologies have them, the second depthwise: 32 channels, 1 filter each."""
    path = tmp_path / "mobilenet.csv"
    header = f"{HEADER.strip()} Sparsity,"
    path.write_text(f"{header}\nConv1, 225, 225, 3, 3, 3, 32, 2, 1:1,\nConv2_DP, 114, 114, 3, 3, 32, 1, 1, 1:1,\n")
    graph = load_scalesim_csv(path)
    first, second = graph.ops
    assert graph.tensors[first.output].shape == (1, 32, 112, 112)
    assert graph.tensors[second.output].shape == (1, 32, 112, 112)
    assert (first["groups"], second["groups"]) == (1, 32)
    assert graph.macs == 112 * 112 * 32 * 27 + 112 * 112 * 32 * 9
    path.write_text("Layer, M, N, K, Sparsity,\nfc, 8, 16, 32, 2:4,\n")
    with pytest.raises(InputError, match=r"mobilenet.csv:2:16: error: sparsity: found '2:4'; .* expected 1:1"):
        load_scalesim_csv(path)
