"""Masks of truths that choose between scores and what hides them, as older exporters of PyTorch write them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from onnx_models import build, compare

import sim
from sim.graph.builder import GraphBuilder
from sim.graph.evaluate import evaluate, random_values
from sim.graph.graph import Graph, op_passes
from sim.graph.onnx import load_onnx
from sim.passes import default_passes
from sim.passes.attention import with_attention

HEADS, QUERIES, KEYS, WIDTH = 2, 40, 56, 8
LOWEST = float(np.finfo(np.float32).min)
SMALL = {"core.sram.size": "16 KiB", "core.accumulator.size": "2 KiB", "core.array.rows": 8, "core.array.cols": 8}


def seen() -> np.ndarray[Any, Any]:
    """[S, T]: the first query sees 17 keys, the last one all; key 0 is hidden from all, and the first queries see none
    of the last keys."""
    return np.tri(QUERIES, KEYS, KEYS - QUERIES, dtype=bool) & (np.arange(KEYS) > 0)


def model(kept_first: bool, low: float, *, given: bool = False, added: bool = False, dtype: str = "fp32") -> Graph:
    """Where(mask, scores, low), or Where(mask, low, scores) with the mask of what is hidden, behind a scale."""
    b = GraphBuilder("choices", dtype)
    q = b.input("q", (HEADS, QUERIES, WIDTH))
    k, v = (b.input(name, (HEADS, KEYS, WIDTH)) for name in "kv")
    truths = seen() if kept_first else ~seen()
    mask = b.input("mask", truths.shape, "bool") if given else b.weight(truths.shape, "mask", "bool", truths)
    least = b.weight((), "low", value=np.float32(low))
    scores = b.mul(b.matmul(q, k, transpose_b=True), b.weight((), value=np.float32(0.5)))
    scores = b.elementwise("where", mask, *((scores, least) if kept_first else (least, scores)))
    scores = b.add(scores, b.input("more", (QUERIES, KEYS))) if added else scores
    return b.build([b.matmul(b.softmax(scores), v, name="y")])


def by_hand(values: dict[str, Any]) -> np.ndarray[Any, Any]:
    scores = 0.5 * values["q"] @ values["k"].swapaxes(-1, -2)
    e = np.exp(scores) * seen() * np.exp(values.get("more", 0.0))
    return np.asarray(e @ values["v"] / e.sum(-1, keepdims=True))


@pytest.mark.parametrize("kept_first", [True, False])
@pytest.mark.parametrize(("low", "added"), [(LOWEST, False), (-np.inf, False), (LOWEST, True)])
def test_they_are_one_attention(kept_first: bool, low: float, added: bool) -> None:
    graph = model(kept_first, low, added=added)
    fused = with_attention(default_passes(graph))
    (op,) = fused.ops
    chosen = "keep_where" if kept_first else "fill_where"
    assert [function for function, _ in op["steps"]] == ["mul", chosen, *["add"] * added]
    assert op.inputs[4:6] == ("mask", "low")
    values = random_values(graph, 3)
    for one in (graph, fused):
        np.testing.assert_allclose(evaluate(one, values)["y"], by_hand(values), rtol=1e-9)


@pytest.mark.parametrize("kept_first", [True, False])
@pytest.mark.parametrize("low", [LOWEST, -np.inf])
@pytest.mark.parametrize("chip", ["tiny", "lepton_m"])
def test_a_chip_computes_them(kept_first: bool, low: float, chip: str) -> None:
    """Blocks of keys of which some queries see none."""
    found = sim.verify_values(model(kept_first, low), chip, overrides=SMALL, attention="fused")
    assert found.passed
    assert not found.races
    assert found.outputs[0].largest_magnitude > 0.1


def test_a_row_that_sees_nothing_at_first() -> None:
    """Keys hidden from their first to beyond a block: the largest score is -inf for a while, and makes no nan."""
    b = GraphBuilder("late", "fp32")
    q, k, v = (b.input(name, (1, 64, 8)) for name in "qkv")
    mask = b.weight((64,), "mask", "bool", np.arange(64) < 50)
    scores = b.elementwise("where", mask, b.weight((), value=np.float32(-np.inf)), b.matmul(q, k, transpose_b=True))
    graph = b.build([b.matmul(b.softmax(scores), v, name="y")])
    found = sim.verify_values(graph, "tiny", overrides={**SMALL, "core.sram.size": "4 KiB"}, attention="fused")
    assert found.passed


@pytest.mark.parametrize("chip", ["lepton_m", "a100"])
def test_what_a_mask_costs(chip: str) -> None:
    """As one that is added, but for its bytes: one an element of it; one selection a score in the place of a sum."""
    dtype = "bf16" if chip == "lepton_m" else "fp16"

    def asked(how: str) -> Graph:
        b = GraphBuilder(how, dtype)
        q, k, v = (b.input(name, (4, 256, 64)) for name in "qkv")
        scores = b.matmul(q, k, transpose_b=True)
        if how == "add":
            scores = b.add(scores, b.input("mask", (256, 256)))
        else:
            mask, low = b.input("mask", (256, 256), "bool"), b.weight((), value=np.float32(-1e4))
            scores = b.elementwise("where", mask, *((low, scores) if how == "fill" else (scores, low)))
        return default_passes(b.build([b.matmul(b.softmax(scores), v)], kernel=True))

    added, kept, filled = (sim.simulate(asked(how), chip, attention="fused") for how in ("add", "keep", "fill"))
    assert set(kept.ops["kind"]) == {"attention"}
    assert kept["latency_s"] == filled["latency_s"]
    assert kept["energy_j"] == filled["energy_j"]
    # A block of queries reads the one number that hides as well: 2 bytes, at most 64 times.
    assert 0 < 256 * 256 - (added["dram_read_bytes"] - kept["dram_read_bytes"]) <= 2 * 64
    assert kept["energy_j"] < added["energy_j"]
    sums, choices = (
        op_passes(fused.ops[0], fused.tensors) for fused in map(with_attention, map(asked, ("add", "keep")))
    )
    scores = 256 / 64
    assert sums["add"] - choices["add"] == choices["select"] == scores
    assert "select" not in sums


@pytest.mark.parametrize("kept_first", [True, False])
@pytest.mark.parametrize("low", [LOWEST, -np.inf])
@pytest.mark.parametrize("given", [True, False])
def test_files(kept_first: bool, low: float, given: bool, tmp_path: Path) -> None:
    """Scores scaled, masked [1, 1, S, T] (a constant, or a row of the input by key, expanded), softmax, values: one
    attention with ONNX Runtime's numbers."""
    rng = np.random.default_rng(5)
    feeds: dict[str, Any] = {
        name: rng.normal(size=(2, HEADS, QUERIES if name == "q" else KEYS, WIDTH)).astype(np.float32) for name in "qkv"
    }
    feeds["k"] = feeds["k"].swapaxes(-1, -2)
    constants = {"root": np.float32(np.sqrt(WIDTH)), "low": np.float32(low)}
    nodes = [helper.make_node("MatMul", ["q", "k"], ["qk"]), helper.make_node("Div", ["qk", "root"], ["scores"])]
    if given:
        # One number for each key of a batch, as DistilBERT hides its padding, behind the scores.
        feeds["of_key"] = (rng.random((2, 1, 1, KEYS)) < 0.7).astype(np.int64)
        constants |= {"wanted": np.int64(kept_first), "shape": np.array([2, HEADS, QUERIES, KEYS])}
        nodes += [
            helper.make_node("Expand", ["of_key", "shape"], ["wide"]),
            helper.make_node("Equal", ["wide", "wanted"], ["mask"]),
        ]
    else:
        constants["mask"] = (seen() if kept_first else ~seen())[None, None]
    choices = ["mask", "scores", "low"] if kept_first else ["mask", "low", "scores"]
    nodes += [
        helper.make_node("Where", choices, ["masked"]),
        helper.make_node("Softmax", ["masked"], ["shares"], axis=-1),
        helper.make_node("MatMul", ["shares", "v"], ["y"]),
    ]
    graph = compare(build(nodes, feeds, ["y"], constants), feeds, tmp_path)
    fused = with_attention(default_passes(graph))
    kinds = [op.kind for op in fused.ops]
    assert kinds[-1] == "attention"
    assert not {"matmul", "softmax"} & set(kinds)
    values = {name: feeds[name] for name in fused.inputs}
    (y,) = graph.outputs
    np.testing.assert_allclose(evaluate(fused, values)[y], evaluate(graph, values)[y], rtol=1e-9, atol=1e-12)
    path = tmp_path / "model.onnx"
    assert load_onnx(path).macs == fused.macs
    assert sim.verify_values(str(path), "tiny", overrides=SMALL, dtype="fp32", attention="fused").passed
