"""Attention to what has been: which keys a range of queries meets, and that no number depends on the others."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from onnx_models import build, load

import sim
from sim.graph.builder import GraphBuilder
from sim.graph.causal import HIDDEN, LEAST_QUERIES, Range, causal_mask, ranges
from sim.graph.evaluate import evaluate, random_values
from sim.graph.graph import Graph, op_macs, op_passes
from sim.passes import default_passes
from sim.passes.attention import with_attention


def model(queries: int, keys: int, heads: int = 2, width: int = 4, dtype: str = "fp32") -> Graph:
    """Scores, a causal mask, softmax, values."""
    b = GraphBuilder("causal", dtype)
    q = b.input("q", (heads, queries, width))
    k, v = (b.input(name, (heads, keys, width)) for name in "kv")
    b.causal.append("mask")
    scores = b.add(b.matmul(q, k, transpose_b=True), b.input("mask", (queries, keys)))
    return default_passes(b.build([b.matmul(b.softmax(scores), v, name="y")]))


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (255, 255), (512, 512), (700, 900), (4096, 4096), (1000, 3000)])
def test_no_key_that_a_query_sees_is_left_out(queries: int, keys: int) -> None:
    """By brute force over every pair: a key is in the reach of its query's range wherever the mask is 0, every query is
    in one range, and a range's last key is seen by its last query."""
    parts = ranges(queries, keys, True)
    assert [part.first for part in parts] == [0, *(part.stop for part in parts[:-1])]
    assert parts[-1].stop == queries
    visible = causal_mask(queries, keys, HIDDEN) == 0
    for part in parts:
        assert not visible[part.first : part.stop, part.keys :].any()
        assert visible[part.stop - 1, part.keys - 1]
    assert ranges(queries, keys, False) == (replace(parts[0], first=0, stop=queries, keys=keys),)


def test_more_queries_than_keys() -> None:
    """The first of them see nothing: no range is left without keys, and numbers are those of the mask."""
    assert ranges(700, 500, True) == (Range(0, 700, 500),)
    graph = model(700, 500)
    values = random_values(graph, 2)
    found, wanted = (evaluate(one, values)["y"] for one in (with_attention(graph), graph))
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
    assert sim.verify_values(graph, "lepton_m", attention="fused").passed


def test_how_much_is_computed() -> None:
    """16 ranges of 8,192 queries: 17/32 of all scores; 2 of 512: 3/4; of a prompt after 8,192 tokens what lies before
    it too."""
    square = {n: sum((r.stop - r.first) * r.keys for r in ranges(n, n, True)) / n**2 for n in (300, 512, 2048, 8192)}
    assert square == {300: 1.0, 512: 3 / 4, 2048: 9 / 16, 8192: 17 / 32}
    after = ranges(512, 8192 + 512, True)
    assert [part.keys for part in after] == [8192 + LEAST_QUERIES, 8192 + 512]


def test_work_is_that_of_the_ranges() -> None:
    """Multiply-accumulates by hand; exponentials of 3/4 of the scores; comparisons of a softmax once a score, and once
    more where a range's keys are hidden from some of its queries: half of them."""
    fused = with_attention(model(512, 512))
    (op,), scores = fused.ops, 2 * 512 * 512
    assert op_macs(op, fused.tensors) == scores * 3 // 4 * (4 + 4)
    assert sum(nest.macs for nest in fused.nests[0]) == fused.macs
    passes = op_passes(op, fused.tensors)
    elements = fused.tensors["y"].elements
    assert passes["exp"] * elements == scores * 3 / 4
    assert passes["compare"] * elements == scores * 3 / 4 + scores / 2
    assert op["steps"] == (("causal", ()),)
    assert fused.inputs == ("q", "k", "v")


def test_values_may_be_wider_than_keys() -> None:
    b = GraphBuilder("wide", "fp32")
    q, k, v = (b.input(name, (2, 9, 6 if name == "v" else 4)) for name in "qkv")
    graph = default_passes(b.build([b.matmul(b.softmax(b.matmul(q, k, transpose_b=True)), v)]))
    fused = with_attention(graph)
    assert fused.macs == graph.macs == sum(nest.macs for nest in fused.nests[0]) == 2 * 9 * 9 * (4 + 6)
    assert sim.verify_values(graph, "tiny", attention="fused").passed


@pytest.mark.parametrize(("queries", "keys"), [(40, 40), (700, 900), (600, 600)])
def test_numbers_are_those_of_the_mask(queries: int, keys: int) -> None:
    graph = model(queries, keys)
    values = random_values(graph, 2)
    wanted = evaluate(graph, values)["y"]
    np.testing.assert_allclose(evaluate(with_attention(graph), values)["y"], wanted, rtol=1e-12, atol=1e-12)
    scores = values["q"] @ values["k"].swapaxes(-1, -2)
    seen = np.tri(queries, keys, keys - queries)
    e = np.exp(scores) * seen
    np.testing.assert_allclose(wanted, e @ values["v"] / e.sum(-1, keepdims=True), rtol=1e-9)


@pytest.mark.parametrize(
    ("after", "hides"), [("", True), ("add", True), ("tanh", False), ("mul", False), ("tanh add", False)]
)
def test_a_mask_hides_where_nothing_shows_it_again(after: str, hides: bool) -> None:
    """A cap behind the mask makes -1 of what it hides, a factor below 0 the largest score of all: such a mask is read
    and added as any other, and no key is left out."""
    b = GraphBuilder("capped", "fp32")
    q, k, v = (b.input(name, (600, 4)) for name in "qkv")
    more = b.input("more", (600,))
    b.causal.append("mask")
    scores = b.add(b.matmul(q, k, transpose_b=True), b.input("mask", (600, 600)))
    for function in after.split():
        scores = b.elementwise(function, scores, *[more] * (function != "tanh"))
    graph = default_passes(b.build([b.matmul(b.softmax(scores), v, name="y")]))
    fused = with_attention(graph)
    assert (("causal", ()) in fused.ops[0]["steps"]) == (len(fused.nests[0]) > 1) == hides
    values = random_values(graph, 2) | {"more": np.full(600, -1.0)}
    np.testing.assert_allclose(evaluate(fused, values)["y"], evaluate(graph, values)["y"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("chip", ["tiny", "lepton_m"])
def test_a_chip_computes_them(chip: str) -> None:
    """Three ranges, blocks of keys that some, all or none of their queries see."""
    small = {"core.array.rows": 8, "core.array.cols": 8, "core.sram.size": "32 KiB", "core.accumulator.size": "8 KiB"}
    found = sim.verify_values(model(770, 800), chip, overrides=small, attention="fused")
    assert found.passed
    assert found.outputs[0].largest_magnitude > 0.1
    _, _, program = sim.plan(model(770, 800), chip, overrides=small, attention="fused")
    names = [row.name for row in program.segments[-1].ops if row.name.startswith("y[")]
    assert names == ["y[0]", "y[1]", "y[2]"]


def test_a_mask_that_counts_from_the_first_key_is_another(tmp_path: Path) -> None:
    """Of ONNX's Attention to more keys than queries, the first query sees the first key alone, whatever is behind."""
    given = {name: np.zeros((1, 2, 4 if name == "q" else 7, 8), np.float32) for name in "qkv"}
    node = helper.make_node("Attention", list("qkv"), ["y"], name="n", is_causal=1)
    graph = default_passes(load(build([node], given, ["y"], opset=23), tmp_path))
    fused, values = with_attention(graph), random_values(graph, 1)
    (op,) = (op for op in fused.ops if op.kind == "attention")
    assert op["steps"][-1] == ("add", ())
    found = evaluate(fused, values)[graph.outputs[0]]
    np.testing.assert_allclose(found[:, :, 0], values["v"][:, :, 0], rtol=1e-6)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("attributes", "hides"), [({"is_causal": 1}, True), ({}, False), ({"softcap": 2.0}, False)])
def test_masks_of_files_are_known(attributes: dict[str, float], hides: bool, shared: bool, tmp_path: Path) -> None:
    """The causal mask that ONNX's Attention asks for by an attribute, after two keys of the past; its numbers stay.
    Where heads share keys their scores keep the heads in groups, so that nothing stands between them and the values."""
    mine = 2 if shared else 4
    given = {name: np.zeros((1, 4 if name == "q" else mine, 4, 8), np.float32) for name in ("q", "k", "v")}
    given |= {name: np.zeros((1, mine, 2, 8), np.float32) for name in ("past_k", "past_v")}
    given["mask"] = np.zeros((1, 4, 4, 6), np.float32)
    node = helper.make_node("Attention", ["q", "k", "v", "mask", "past_k", "past_v"], ["y"], name="n", **attributes)
    graph = default_passes(load(build([node], given, ["y"], opset=23), tmp_path))
    fused = with_attention(graph)
    (op,) = (op for op in fused.ops if op.kind == "attention")
    assert not any(op.kind in ("matmul", "softmax", "elementwise") for op in fused.ops)
    assert (("causal", ()) in op["steps"]) == hides
    values, (y,) = random_values(graph, 1), graph.outputs
    np.testing.assert_allclose(evaluate(fused, values)[y], evaluate(graph, values)[y], rtol=1e-9, atol=1e-12)


def test_long_prompts_skip_what_is_ahead() -> None:
    """A prefill of 4,096 tokens: against the same without knowing that its mask is causal, fewer multiply-accumulates
    by 15/32 of those of attention, no mask from the host, and less time."""
    graph = replace(model(4096, 4096, heads=32, width=128, dtype="bf16"), name="long")
    blind = sim.simulate(replace(graph, causal=()), "lepton_l", attention="fused")
    found = sim.simulate(graph, "lepton_l", attention="fused")
    assert found["macs"] == blind["macs"] * 17 // 32
    assert blind["dram_write_bytes"] - found["dram_write_bytes"] == 2 * 4096**2
    alone = [replace(one, kernel=True) for one in (replace(graph, causal=()), graph)]
    without, within = (sim.simulate(one, "lepton_l", attention="fused")["latency_s"] for one in alone)
    assert within < 0.66 * without  # whose keys stay, where each part meets its own
