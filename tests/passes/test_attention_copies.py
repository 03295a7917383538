"""Copies that only turn heads of an attention vanish into it: numbers stay, and the bytes are those of the rest."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import sim
from sim.cost.online import online_cycles
from sim.engine import run
from sim.graph.builder import GraphBuilder
from sim.graph.evaluate import evaluate, random_values
from sim.graph.graph import Graph
from sim.graph.places import laid, listed
from sim.graph.shapes import infer_shape
from sim.graph.transformer import transformer_graph
from sim.graph.transformer_config import TransformerConfig
from sim.hw.chip import load_chip
from sim.mapping.mapper import map_graph
from sim.passes import default_passes
from sim.passes.attention import with_attention

BASE = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 40,
    "max_position_embeddings": 64,
}  # fmt: skip
SHARING = {**BASE, "num_key_value_heads": 2, "intermediate_size": 20, "head_dim": 6}
ENCODE, PREFILL, DECODE = {"phase": "encode", "seq": 11}, {"phase": "prefill", "seq": 7}, {"phase": "decode", "kv": 7}
WINDOW = {"sliding_window": 4, "query_pre_attn_scalar": 6}
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any], int, int]] = {
    # Copies of two layers before and after: queries, keys, values and result.
    "bert": ({**BASE, "model_type": "bert", "intermediate_size": 32}, ENCODE | {"batch": 3}, 8, 0),
    # Keys and values go to a cache.
    "gpt2": ({"model_type": "gpt2", "n_embd": 24, "n_layer": 2, "n_head": 4, "n_positions": 64, "vocab_size": 40},
             PREFILL, 8, 4),
    # Queries are rotated in between; the result is of heads in groups.
    "llama": ({**SHARING, "model_type": "llama"}, PREFILL | {"batch": 2}, 8, 6),
    "gemma2": ({**SHARING, "model_type": "gemma2", **WINDOW}, PREFILL | {"seq": 9}, 8, 6),
    "decode": ({**SHARING, "model_type": "llama"}, DECODE, 0, 0),
    "t5": (
        {"model_type": "t5", "d_model": 24, "d_kv": 6, "d_ff": 32, "num_layers": 2, "num_heads": 4, "vocab_size": 40},
        {"phase": "prefill", "seq": 6}, 14, 6,
    ),
}  # fmt: skip
SMALL = {"core.sram.size": "16 KiB", "core.accumulator.size": "4 KiB"}
DEALT = {
    "core.dispatch.tiles": [[16, 8], [8, 8]], "core.count": 3, "interconnect.topology": "crossbar",
    "interconnect.shape": [3], "interconnect.memory_ports": [[0]], "core.array.rows": 4, "core.array.cols": 4,
    "core.accumulator.size": "4 KiB", "core.sram.size": "16 KiB",
}  # fmt: skip
CHIPS = {"tiny": ("tiny", SMALL), "lepton_m": ("lepton_m", SMALL), "dealt": ("lepton_m", DEALT)}
TOKENS_FIRST = (0, 2, 1, 3)


def model(name: str) -> Graph:
    card, asked, _, _ = MODELS[name]
    return default_passes(transformer_graph(TransformerConfig.from_hf(card, "model"), dtype="fp32", **asked))


def kinds(graph: Graph) -> Counter[str]:
    return Counter(op.kind for op in graph.ops)


def kernel(
    places: tuple[tuple[int, ...], ...], heads: int, rows: int, keys: int, width: int, *, shared: bool = False,
    rest: tuple[str, ...] = (), flat: bool = True, dtype: str = "fp32",
) -> Graph:  # fmt: skip
    """Two times so many heads, their operands laid out as `places` say."""
    b = GraphBuilder("kernel", dtype)
    few = 1 if shared else heads
    k = (2, few, keys, width) if flat else (2, few, width, keys)
    shapes = ((2, heads, rows, width), k, (2, few, keys, width))
    given = [b.input(name, laid(places, at, shape)) for at, (name, shape) in enumerate(zip("qkv", shapes, strict=True))]
    given += [b.input("mask", (rows, keys))] if "add" in rest else []
    given += [b.weight((heads, 1, 1), "sink")] if "sink" in rest else []
    steps = tuple((function, ()) for function in rest if function != "sink")
    attributes = {"transpose_b": flat, "steps": steps, "sink": "sink" in rest, "places": places}
    return replace(b.build([b.add_op("attention", given, attributes, "att")]), kernel=True)


@pytest.mark.parametrize("name", MODELS)
def test_copies_vanish_and_numbers_stay(name: str) -> None:
    graph = model(name)
    fused = with_attention(graph)
    assert (kinds(graph)["transpose"], kinds(fused)["transpose"]) == MODELS[name][2:]
    assert fused.macs == graph.macs
    values = random_values(graph, 0)
    before, after = evaluate(graph, values), evaluate(fused, values)
    for output in graph.outputs:
        np.testing.assert_allclose(after[output], before[output], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("name", "chip"), [("bert", "dealt"), ("gpt2", "tiny"), ("llama", "lepton_m")])
def test_models_compute_their_numbers_on_a_chip(name: str, chip: str) -> None:
    card, asked, _, _ = MODELS[name]
    graph = transformer_graph(TransformerConfig.from_hf(card, "model"), dtype="fp32", **asked)
    found = sim.verify_values(graph, load_chip(*CHIPS[chip]), attention="fused")
    assert found.passed
    assert not found.races


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize(
    "asked",
    [
        {"heads": 3, "rows": 37, "keys": 101, "width": 12, "rest": ("add",)},
        {"heads": 5, "rows": 19, "keys": 130, "width": 8, "shared": True, "rest": ("add", "sink")},
        {"heads": 3, "rows": 21, "keys": 77, "width": 8, "flat": False},
    ],
)
def test_heads_are_read_and_written_where_they_lie(chip: str, asked: dict[str, Any]) -> None:
    """Each operand in an order of its own, tile by tile: heads inside tokens, batches inside heads, all mixed."""
    for places in (
        (TOKENS_FIRST,) * 4,
        (TOKENS_FIRST, (1, 2, 0, 3), (2, 0, 1, 3), (0, 1, 2, 3)),
        ((0, 1, 2, 3), (2, 1, 0, 3), TOKENS_FIRST, (1, 2, 0, 3)),
    ):
        found = sim.verify_values(kernel(places, **asked), load_chip(*CHIPS[chip]), seed=5)
        assert found.passed, places
        assert not found.races


def test_ranges_of_queries_know_their_place() -> None:
    """Queries that are cut because of what is ahead, of tokens that lie apart."""
    graph = kernel((TOKENS_FIRST,) * 4, 1, 513, 513, 4, rest=("causal",))
    assert len(graph.nests[0]) == 2
    assert sim.verify_values(graph, load_chip("lepton_m", SMALL)).passed


def test_a_number_at_its_place() -> None:
    """Two tokens of two heads of one element, by hand: head 1 of token 0 sees its own head's keys alone."""
    graph = kernel((TOKENS_FIRST,) * 4, 2, 2, 2, 1)
    values = {name: np.zeros((2, 2, 2, 1)) for name in "qkv"}
    values["q"][0, 0, 1] = 1.0
    values["k"][0, :, 1, 0] = 0.0, np.log(3.0)
    values["v"][0, :, 1, 0] = 8.0, 16.0
    y = evaluate(graph, values)["att"]
    assert y[0, 0, 1, 0] == pytest.approx((8 + 3 * 16) / 4)
    assert y[0, 1, 1, 0] == pytest.approx(12.0)
    assert y[0, :, 0].tolist() == [[0.0], [0.0]]


def test_shapes_of_places() -> None:
    places = (TOKENS_FIRST, (1, 2, 0, 3), (2, 0, 1, 3), (2, 1, 0, 3))
    for number, place in enumerate(places):
        assert laid(places, number, listed(places, number, "abcd")) == tuple("abcd")
        assert listed(places, number, "abcd") == tuple("abcd"[at] for at in place)
    attributes = {"transpose_b": True, "steps": (), "sink": False, "places": places}
    shapes = [laid(places, at, shape) for at, shape in enumerate([(2, 3, 5, 7), (2, 3, 11, 7), (2, 3, 11, 13)])]
    assert infer_shape("attention", attributes, shapes) == (5, 3, 2, 13)
    for wrong in (places[:3], (*places[:3], (0, 1, 1, 3))):
        with pytest.raises(ValueError, match="expected places of the 4 axes"):
            infer_shape("attention", {**attributes, "places": wrong}, shapes)


def turned(**changes: bool) -> Graph:
    """Heads of projections that lie token by token; with one thing that keeps a copy."""
    b = GraphBuilder("turned", "fp32")
    x = [b.input(name, (2, 5, 3, 8)) for name in "qkv"]
    columns = changes.get("columns", False)
    perms = [(0, 2, 1, 3), (0, 2, 3, 1) if columns else (0, 2, 1, 3), (0, 2, 1, 3)]
    if changes.get("scattered"):
        x[0], perms[0] = b.input("wide", (2, 8, 3, 5)), (0, 2, 3, 1)
    if changes.get("cyclic"):
        x[0], perms[0] = b.input("wide", (5, 2, 3, 8)), (1, 2, 0, 3)
    if changes.get("state"):
        x[1] = b.state("cache", (2, 5, 3, 8))
    if changes.get("viewed"):
        x[1] = b.reshape(b.state("cache", (10, 24)), (2, 5, 3, 8))
    q, k, v = (b.transpose(one, perm, name) for one, perm, name in zip(x, perms, ("tq", "tk", "tv"), strict=True))
    scores = b.matmul(q, k, transpose_b=not columns, name="scores")
    y = b.matmul(b.softmax(scores, name="shares"), v, name="y")
    y = b.add(y, b.input("more", (2, 3, 5, 8)), "sum") if changes.get("added") else y
    outputs = [y] if changes.get("given") else []
    outputs += [b.relu(q, "r")] if changes.get("read") else []
    back = (1, 2, 0, 3) if changes.get("cyclic") else (0, 2, 1, 3)
    return default_passes(b.build([b.transpose(y, back, "ty"), *outputs]))


@pytest.mark.parametrize(
    ("change", "left"),
    [
        ("", set()), ("columns", set()), ("cyclic", set()), ("scattered", {"tq"}), ("state", {"tk"}),
        ("viewed", {"tk"}), ("given", {"ty"}), ("read", {"tq"}), ("added", {"ty"}),
    ],
)  # fmt: skip
def test_which_copies_stay(change: str, left: set[str]) -> None:
    """Those that another reads or that are given; of states and views of them; those that would scatter the rows of a
    head; and one behind a sum, whose operands lie as they do. Keys that exporters make columns are rows again."""
    graph = turned(**{change: True})
    fused = with_attention(graph)
    assert {op.name for op in fused.ops if op.kind == "transpose"} == left
    (op,) = (op for op in fused.ops if op.kind == "attention")
    assert op["transpose_b"]
    values = random_values(graph, 2)
    for output in graph.outputs:
        np.testing.assert_allclose(evaluate(fused, values)[output], evaluate(graph, values)[output], rtol=1e-9)
    assert sim.verify_values(fused, load_chip(*CHIPS["tiny"])).passed


def grouped() -> Graph:
    """Four heads of queries to two of keys and values, as axes of their own."""
    b = GraphBuilder("grouped", "fp32")
    q, k, v = (b.input(name, (2, 7, 4 if name == "q" else 2, 8)) for name in "qkv")
    q, k, v = (b.transpose(one, TOKENS_FIRST, f"t{name}") for one, name in zip((q, k, v), "qkv", strict=True))
    q = b.reshape(q, (2, 2, 2, 7, 8), "grouped_q")
    k, v = (b.reshape(one, (2, 2, 1, 7, 8), name) for one, name in ((k, "grouped_k"), (v, "grouped_v")))
    y = b.matmul(b.softmax(b.matmul(q, k, transpose_b=True)), v, name="y")
    return default_passes(b.build([b.transpose(b.reshape(y, (2, 4, 7, 8), "heads"), TOKENS_FIRST, "ty")]))


def test_views_between_a_copy_and_the_product() -> None:
    graph = grouped()
    fused = with_attention(graph)
    assert kinds(fused) == {"reshape": 4, "attention": 1}
    assert fused.tensors["grouped_q"].shape == (2, 7, 2, 2, 8)
    assert fused.tensors["y"].shape == (2, 7, 2, 2, 8)
    values = random_values(graph, 4)
    np.testing.assert_allclose(evaluate(fused, values)["ty"], evaluate(graph, values)["ty"], rtol=1e-9)
    for chip in CHIPS.values():
        assert sim.verify_values(fused, load_chip(*chip)).passed


def test_queries_that_are_added_to_scores_stay_as_they_are() -> None:
    b = GraphBuilder("added", "fp32")
    q, k, v = (b.transpose(b.input(name, (2, 5, 3, 5)), TOKENS_FIRST, f"t{name}") for name in "qkv")
    graph = default_passes(b.build([b.matmul(b.softmax(b.add(b.matmul(q, k, transpose_b=True), q)), v, name="y")]))
    fused = with_attention(graph)
    assert [op.name for op in fused.ops if op.kind == "transpose"] == ["tq"]
    values = random_values(graph, 4)
    np.testing.assert_allclose(evaluate(fused, values)["y"], evaluate(graph, values)["y"], rtol=1e-9)


def test_lanes_see_rows_of_heads() -> None:
    """Registers of 8 x 128 hold rows of one head, not one row of several heads, wherever the results go."""
    apart, within = (kernel(places, 4, 64, 64, 128, dtype="bf16") for places in ((), (TOKENS_FIRST,) * 4))
    kind = load_chip("tpu_v4").cores[0]
    assert kind.vector.register_shape
    tile = tuple(np.array([size]) for size in (1, 1, 64, 64))
    one, other = (online_cycles(graph.nests[0][0], kind, tile, 1) for graph in (apart, within))
    assert one == other


def test_the_choice_is_between_one_kernel_and_all_that_it_replaces() -> None:
    """Both read what the projections wrote, and make the same result."""
    asked: list[tuple[Graph, Graph]] = []
    with_attention(model("llama"), lambda fused, stored: not asked.append((fused, stored)))
    with_attention(model("bert"), lambda fused, stored: not asked.append((fused, stored)))
    found = [(kinds(fused), kinds(stored)) for fused, stored in (asked[0], asked[-1])]
    assert found[0][0] == {"attention": 1, "reshape": 1}
    assert found[0][1] == {"matmul": 2, "softmax": 1, "reshape": 1, "transpose": 1}
    assert found[1][0] == {"attention": 1, "reshape": 1}
    assert found[1][1] == {"matmul": 2, "softmax": 1, "reshape": 1, "transpose": 4}
    for fused, stored in asked:
        assert fused.outputs == stored.outputs
        assert set(fused.inputs) <= set(stored.inputs)
        values, (output,) = random_values(stored, 1), fused.outputs
        if "causal_mask" not in stored.inputs:
            np.testing.assert_allclose(evaluate(fused, values)[output], evaluate(stored, values)[output], rtol=1e-9)


@pytest.mark.parametrize("chip", ["tiny", "lepton_m", "a100"])
def test_what_crosses_the_dram(chip: str) -> None:
    """As many bytes as with the heads apart, in runs of the width of a head."""
    asked: dict[str, Any] = {"heads": 4, "rows": 128, "keys": 128, "width": 64}
    asked["dtype"] = {"tiny": "fp32", "lepton_m": "bf16", "a100": "fp16"}[chip]
    apart, within = (kernel(places, **asked) for places in ((), (TOKENS_FIRST,) * 4))
    before, after = (sim.simulate(graph, chip) for graph in (apart, within))
    for name in ("dram_read_bytes", "dram_write_bytes", "macs"):
        assert after[name] == before[name], name
    each = 4 if chip == "tiny" else 2
    assert after["dram_write_bytes"] == (0 if chip == "a100" else 2 * 4 * 128 * 64 * each)  # a cache keeps it
    ((nest,),) = within.nests
    for operand in (*nest.operands, nest.out):
        assert operand.run_bytes(np.array([[1, 64, 1, 64]])) == 64 * each
        assert operand.pitch_bytes(np.array([[1, 64, 1, 64]])) == 4 * 64 * each
    # All heads of a token lie side by side.
    assert nest.out.run_bytes(np.array([[1, 64, 4, 64]])) == 64 * 4 * 64 * each


@pytest.mark.parametrize(("chip", "dtype"), [("lepton_m", "bf16"), ("a100", "fp16")])
def test_closed_form_and_engines(chip: str, dtype: str) -> None:
    graph = kernel((TOKENS_FIRST,) * 4, 12, 512, 512, 64, dtype=dtype)
    program = map_graph(graph, load_chip(chip))
    found, wanted = run(program, "reference"), run(program, "compiled")
    for one, other in zip(found.segments, wanted.segments, strict=True):
        assert (one.start == other.start).all()
        assert (one.finish == other.finish).all()
    events, closed = (sim.simulate(graph, chip, fidelity=how)["latency_s"] for how in ("event", "bound"))
    assert closed == pytest.approx(events, rel=0.03)


def test_bert_on_a_gpu_without_copies() -> None:
    """Four copies of a layer and their launches are gone, and with them what they read and wrote."""
    asked: dict[str, Any] = {"dtype": "fp16", "phase": "encode", "seq": 24, "batch": 4}
    card = {**BASE, "hidden_size": 256, "model_type": "bert", "intermediate_size": 512}
    graph = transformer_graph(TransformerConfig.from_hf(card, "model"), **asked)
    stored, fused = (sim.simulate(graph, "a100", attention=how) for how in ("stored", "fused"))  # type: ignore[arg-type]
    assert (stored.ops["kind"] == "transpose").sum() == 8
    assert "transpose" not in set(fused.ops["kind"])
    # Scores, their softmax, values and four copies were seven kernels of each layer.
    assert len(stored.ops) - len(fused.ops) >= 2 * 6
    copies = stored.ops.loc[stored.ops["kind"] == "transpose", "time_s"].sum()
    assert fused["latency_s"] < stored["latency_s"] - copies < 0.95 * stored["latency_s"]
