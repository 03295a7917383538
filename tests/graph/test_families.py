"""Model families beyond the published workloads: other sizes, and the numbers of what is peculiar to each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sim.graph.evaluate import evaluate, random_values
from sim.graph.families import FAMILIES
from sim.graph.graph import Graph


def build(family: str, batch: int = 1, **parameters: Any) -> Graph:
    return FAMILIES[family].builder(name=family, dtype="fp32", batch=batch, **parameters)


def learned(graph: Graph) -> int:
    """Weights without constants and without the running statistics of batch norms."""
    statistics = {name for op in graph.ops if op.kind == "batch_norm" for name in op.inputs[3:]}
    return sum(
        tensor.elements
        for name, tensor in graph.tensors.items()
        if tensor.role == "weight" and name not in graph.values and name not in statistics
    )


# num_params of the torchvision weights, and GFLOPS (multiply-accumulates) to two decimals.
@pytest.mark.parametrize(
    ("family", "depth", "parameters", "giga_macs"),
    [
        ("resnet", 34, 21_797_672, 3.66),
        ("resnet", 101, 44_549_160, 7.80),
        ("resnet", 152, 60_192_808, 11.51),
        ("vgg", 11, 132_863_336, 7.61),
        ("vgg", 13, 133_047_848, 11.31),
        ("vgg", 19, 143_667_240, 19.63),
    ],
)
def test_depths_of_torchvision(family: str, depth: int, parameters: int, giga_macs: float) -> None:
    graph = build(family, depth=depth)
    assert learned(graph) == parameters
    assert round(graph.macs / 1e9, 2) == giga_macs


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_multiplies_the_work_and_not_the_weights(family: str) -> None:
    one, four = build(family), build(family, batch=4)
    assert four.items == 4 * one.items
    assert learned(four) == learned(one)
    shared = 0
    if family == "conformer":  # the projection of the position table, once per layer for the whole batch
        shared = 17 * (2 * 249 - 1) * 512 * 512
    assert four.macs - shared == 4 * (one.macs - shared)


@pytest.mark.parametrize(("width", "parameters"), [(0.5, 1_968_680), (1.4, 6_108_776)])
def test_mobilenet_widths(width: float, parameters: int) -> None:
    """timm mobilenetv2_050 and mobilenetv2_140: 1.97 M and 6.11 M parameters."""
    assert learned(build("mobilenet_v2", width=width)) == parameters


def test_unet_ends_at_the_extent_of_the_paper() -> None:
    graph = build("unet")
    assert graph.tensors[graph.outputs[0]].shape == (1, 2, 388, 388)
    crops = [graph.tensors[op.output].shape[2] for op in graph.ops if op.kind == "slice"]
    assert crops == [56, 104, 200, 392]
    with pytest.raises(ValueError, match="odd extent"):
        build("unet", image=570)


def test_yolo_detects_at_three_scales() -> None:
    graph = build("yolov3", image=320)
    shapes = [graph.tensors[name].shape for name in graph.outputs]
    assert shapes == [(1, 255, 10, 10), (1, 255, 20, 20), (1, 255, 40, 40)]
    with pytest.raises(ValueError, match="multiple of 32"):
        build("yolov3", image=400)


def test_dlrm_equals_plain_numpy() -> None:
    graph = build("dlrm", batch=3, tables=(5, 7), width=4, dense=6, bottom=(8,), top=(9,))
    values = random_values(graph, seed=1)
    found = evaluate(graph, values)[graph.outputs[0]]

    def layer(x: np.ndarray[Any, Any], name: str) -> np.ndarray[Any, Any]:
        return x @ values[f"{name}.weight"] + values[f"{name}.bias"]

    x = np.maximum(layer(np.maximum(layer(values["dense"], "bottom0"), 0), "bottom1"), 0)
    rows = [x, *(values[f"table{i}.weight"][values[f"sparse{i}"]] for i in range(2))]
    pairs = [np.sum(rows[i] * rows[j], axis=1) for i in range(3) for j in range(i)]
    x = np.maximum(layer(np.concatenate([x, np.stack(pairs, axis=1)], axis=1), "top0"), 0)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-layer(x, "click"))), rtol=1e-12)


def test_conformer_attention_looks_up_the_distance_of_query_and_key() -> None:
    """The shifted position scores at (i, j) are (q_i + v) p(i - j), with p of the table row for i - j."""
    graph = build("conformer", batch=2, frames=39, mel_bins=15, layers=1, width=8, heads=2, kernel=3)
    computed = evaluate(graph, random_values(graph, seed=2))
    query, shifted = computed["layer0.attention.q_position"], computed["layer0.attention.shift"]
    table = computed["layer0.attention.position.heads"]  # [heads, 2T - 1, width], distance T - 1 first
    frames = query.shape[2]
    assert frames == 9
    for i in range(frames):
        for j in range(frames):
            expected = np.sum(query[:, :, i] * table[:, frames - 1 - (i - j)], axis=-1)
            np.testing.assert_allclose(shifted[:, :, i, j], expected, atol=1e-12)
    # Row of distance d holds sin(d w): that of distance 1 begins with sin(1).
    assert graph.values["positions"][frames - 2, 0] == pytest.approx(np.sin(1.0))


def test_gemm_shares_its_weight_within_a_batch() -> None:
    graph = build("gemm", batch=3, m=5, n=7, k=11, count=2)
    assert {name: tensor.shape for name, tensor in graph.tensors.items()} == {
        "a": (2, 15, 11),
        "b": (2, 11, 7),
        "gemm": (2, 15, 7),
    }


@pytest.mark.parametrize(
    ("family", "parameters"),
    [
        ("resnet", {"depth": 20}),
        ("vgg", {"depth": 12}),
        ("mlp", {"widths": (8,)}),
        ("conformer", {"heads": 5}),
        ("alexnet", {"image": 32}),
    ],
)
def test_impossible_parameters_are_refused(family: str, parameters: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"found|divide|give"):
        build(family, **parameters)
