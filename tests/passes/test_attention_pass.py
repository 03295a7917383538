"""Three operators become one attention where they are one: numbers stay, in every family of models that has some."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import sim
from sim.errors import InputError
from sim.graph.builder import GraphBuilder
from sim.graph.evaluate import evaluate, random_values
from sim.graph.graph import Graph
from sim.graph.op import Op
from sim.graph.transformer import transformer_graph
from sim.graph.transformer_config import TransformerConfig
from sim.passes import default_passes
from sim.passes.attention import attentions, with_attention

BASE = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 40,
    "max_position_embeddings": 64,
}  # fmt: skip
LLAMA = {**BASE, "model_type": "llama", "num_key_value_heads": 2, "intermediate_size": 20, "head_dim": 6}
PREFILL, DECODE = {"phase": "prefill", "seq": 5}, {"phase": "decode", "kv": 7}
FAMILIES: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "heads that share keys": (LLAMA, PREFILL, 2),
    "heads that share keys, one token": (LLAMA, DECODE, 2),
    "bert": ({**BASE, "model_type": "bert", "intermediate_size": 32}, {"phase": "encode", "seq": 6}, 2),
    "caps and windows": (
        {**BASE, "model_type": "gemma2", "num_key_value_heads": 2, "head_dim": 6, "intermediate_size": 32,
         "sliding_window": 4, "query_pre_attn_scalar": 6},
        {"phase": "prefill", "seq": 9}, 2,
    ),
    "sinks": (
        {**BASE, "model_type": "gpt_oss", "num_key_value_heads": 2, "head_dim": 8, "intermediate_size": 16,
         "num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": 128},
        PREFILL, 2,
    ),
    "slopes": ({"model_type": "bloom", "hidden_size": 24, "n_layer": 2, "n_head": 4, "vocab_size": 40}, PREFILL, 2),
    "encoder and decoder": (
        {"model_type": "t5", "d_model": 24, "d_kv": 6, "d_ff": 32, "num_layers": 2, "num_heads": 4, "vocab_size": 40},
        {"phase": "prefill", "seq": 6}, 6,
    ),
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_models_mean_the_same(family: str) -> None:
    """Every attention of a model is found, whatever is done to its scores, and its numbers are those of the three
    operators; none of them is left."""
    card, asked, count = FAMILIES[family]
    graph = default_passes(transformer_graph(TransformerConfig.from_hf(card, "model"), dtype="fp32", **asked))
    fused = with_attention(graph)
    assert [op.kind for op in fused.ops].count("attention") == count
    assert not [op for op in fused.ops if op.kind == "softmax" and "router" not in op.name]
    assert fused.macs == graph.macs
    values = random_values(graph, 0)
    before, after = evaluate(graph, values), evaluate(fused, values)
    for name in graph.outputs:
        np.testing.assert_allclose(after[name], before[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("family", ["heads that share keys", "sinks", "encoder and decoder"])
def test_models_compute_their_numbers_on_a_chip(family: str) -> None:
    """Tile by tile, with little room, without a race; states of the cache too."""
    card, asked, _ = FAMILIES[family]
    graph = transformer_graph(TransformerConfig.from_hf(card, "model"), dtype="fp32", **asked)
    small = {"core.sram.size": "16 KiB", "core.accumulator.size": "2 KiB"}
    found = sim.verify_values(graph, "tiny", overrides=small, attention="fused")
    assert found.passed
    assert not found.races


def three(**changes: bool) -> Graph:
    """Scores, softmax and values, with one thing that keeps them apart."""
    b = GraphBuilder("three", "fp32")
    q, k, v = (b.input(name, (2, 6, 8)) for name in "qkv")
    scores = b.matmul(q, k, transpose_b=True, name="scores")
    shares = b.softmax(scores, axis=1 if changes.get("columns") else 2, log=changes.get("log", False), name="shares")
    y = b.matmul(shares, v, transpose_b=changes.get("turned", False), name="y") if not changes.get("turned") else (
        b.matmul(shares, b.input("w", (2, 8, 6)), transpose_b=True, name="y")
    )  # fmt: skip
    outputs = [y]
    outputs += [scores] if changes.get("given") else []
    outputs += [b.relu(shares, "r")] if changes.get("read") else []
    return default_passes(b.build(outputs))


def test_what_is_an_attention_and_what_is_not() -> None:
    assert len(attentions(three())) == 1
    for change in ("columns", "log", "turned", "given", "read"):
        assert not attentions(three(**{change: True})), change


def test_heads_that_share_queries_are_none() -> None:
    b = GraphBuilder("shared", "fp32")
    q, k, v = (b.input(name, (1 if name == "q" else 3, 6, 8)) for name in "qkv")
    graph = default_passes(b.build([b.matmul(b.softmax(b.matmul(q, k, transpose_b=True)), v)]))
    assert not attentions(graph)
    assert with_attention(graph) is graph


@pytest.mark.parametrize("view", [False, True])
def test_keys_that_are_overwritten_before_the_values_are_read(view: bool) -> None:
    """One kernel would read them too late; what is written before the scores does no harm."""
    for late in (False, True):
        b = GraphBuilder("state", "fp32")
        q, v, new = b.input("q", (2, 3, 8)), b.input("v", (2, 6, 8)), b.input("new", (2, 1, 8))
        state = b.state("keys", (2, 6, 8))
        keys = b.reshape(b.reshape(state, (12, 8)), (2, 6, 8)) if view else state
        if not late:
            b.cache_update(state, new, 1, 5)
        shares = b.softmax(b.matmul(q, keys, transpose_b=True))
        if late:
            b.cache_update(state, new, 1, 5)
        graph = default_passes(b.build([b.matmul(shares, v)]))
        assert len(attentions(graph)) == (not late)


def test_what_is_done_to_shares_or_between_layers_stays() -> None:
    """An element function behind the softmax; scores of one repeated block and values of another."""
    graph = three()
    scores, softmax, values = graph.ops
    relu = Op("r", "elementwise", (softmax.output,), "r", {"function": "relu", "parameters": ()})
    tensors = {**graph.tensors, "r": replace(graph.tensors[softmax.output], name="r")}
    behind = [scores, replace(softmax, epilogue=(relu,)), replace(values, inputs=("r", values.inputs[1]))]
    assert not attentions(replace(graph, tensors=tensors).with_ops(behind))
    for block in ((0, 0, 1), (0, 1, 1)):
        ops = [replace(op, block=at) for op, at in zip(graph.ops, block, strict=True)]
        assert not attentions(graph.with_ops(ops))
    assert len(attentions(graph.with_ops([replace(op, block=0) for op in graph.ops]))) == 1


def test_keys_that_lie_as_columns() -> None:
    """As exporters write them: a transposition of its own, then a product with it."""
    b = GraphBuilder("columns", "fp32")
    q, k, v = b.input("q", (2, 6, 8)), b.input("k", (2, 8, 6)), b.input("v", (2, 6, 8))
    graph = b.build([b.matmul(b.softmax(b.matmul(q, k)), v)])
    fused = with_attention(default_passes(graph))
    assert [op.kind for op in fused.ops] == ["attention"]
    assert not fused.ops[0]["transpose_b"]
    assert sim.verify_values(fused, "tiny", overrides={"core.sram.size": "8 KiB"}).passed


def test_the_same_choice_is_the_same_graph() -> None:
    graph = three()
    assert with_attention(graph) is with_attention(graph)
    assert with_attention(graph, lambda fused, stored: False) is graph


def test_auto_is_the_faster_by_the_closed_form() -> None:
    """Long: scores of 12 x 1024 x 1024 that no scratchpad holds; the report names what was chosen, and its closed form
    is no longer than that of the other."""
    asked: dict[str, Any] = {"dtype": "bf16", "phase": "prefill", "seq": 1024}
    stored, fused, auto = (
        sim.simulate("gpt2", "lepton_m", attention=how, fidelity="bound", **asked)  # type: ignore[arg-type]
        for how in ("stored", "fused", "auto")
    )
    assert auto["latency_s"] == min(stored["latency_s"], fused["latency_s"])
    assert (auto.ops["kind"] == "attention").sum() == (fused.ops["kind"] == "attention").sum() > 0
    assert fused["dram_write_bytes"] < 0.6 * stored["dram_write_bytes"]
    assert "attention" not in set(stored.ops["kind"])
    assert "bf16, fused attention, auto partition" in str(auto)
    assert "fused" not in str(stored)


def test_chips_without_room_for_scores_store_them() -> None:
    graph = replace(three(), kernel=True)
    assert set(sim.simulate(graph, "eyeriss_v1", dtype="int16", attention="auto").ops["kind"]) == {"matmul", "softmax"}
    with pytest.raises(InputError, match="attention: chip 'eyeriss_v1' has cores that cannot keep scores"):
        sim.simulate(graph, "eyeriss_v1", dtype="int16", attention="fused")


def test_a_prefill_on_a_gpu_is_faster_fused() -> None:
    asked: dict[str, Any] = {"dtype": "fp16", "phase": "prefill", "seq": 512}
    stored, auto = (sim.simulate("gpt2", "a100", attention=how, **asked) for how in ("stored", "auto"))  # type: ignore[arg-type]
    assert auto["latency_s"] < 0.97 * stored["latency_s"]
    assert (auto.ops["kind"] == "attention").any()


def test_a_model_without_attention_is_told() -> None:
    with pytest.raises(InputError, match=r"attention: 'lenet5' has none, .* to be fused"):
        sim.simulate("lenet5", "tiny", dtype="int8", attention="fused")
    assert sim.simulate("lenet5", "tiny", dtype="int8", attention="auto")["latency_s"] > 0


def test_the_closed_form_of_many_designs_knows_which_ways_there_are() -> None:
    asked: dict[str, Any] = {"dtype": "bf16", "phase": "prefill", "seq": 64}
    with pytest.raises(InputError, match="did you mean 'fused'"):
        sim.bound("gpt2", "lepton_m", attention="fussed", **asked)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"attention: 'lenet5' has none, .* to be fused"):
        sim.bound("lenet5", "tiny", dtype="int8", attention="fused")
    # A row-stationary array keeps no scores, and is none of the closed form's either.
    with pytest.raises(InputError, match="cannot keep scores"):
        sim.bound(replace(three(), kernel=True), "eyeriss_v1", dtype="int16", attention="fused")



@pytest.mark.parametrize("partition", ["auto", "data", "channel", "reduction"])
def test_auto_is_the_faster_under_the_partition_asked_for(partition: str) -> None:
    """70 queries of 4 heads: stored is faster by heads and rows, fused where products are cut by columns or sums."""
    b = GraphBuilder("heads", "fp32")
    q, k, v = (b.input(name, (4, 70, 16)) for name in "qkv")
    graph = replace(b.build([b.matmul(b.softmax(b.matmul(q, k, transpose_b=True)), v)]), kernel=True)
    small = {
        "core.sram.size": "32 KiB", "core.accumulator.size": "8 KiB", "core.array.rows": 8, "core.array.cols": 8
    }  # fmt: skip
    asked: dict[str, Any] = {"overrides": small, "partition": partition, "fidelity": "bound"}
    stored, fused, auto = (
        sim.simulate(graph, "lepton_m", attention=how, **asked)["latency_s"]  # type: ignore[arg-type]
        for how in ("stored", "fused", "auto")
    )
    assert auto == min(stored, fused)
    assert (fused < stored) == (partition in ("channel", "reduction"))
