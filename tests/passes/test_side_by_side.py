"""Products of one left operand become one: numbers stay, nobody copies its columns, and nothing is read twice."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import sim
from sim.engine import functional, run
from sim.graph.builder import GraphBuilder
from sim.graph.evaluate import evaluate, random_values
from sim.graph.graph import Graph
from sim.graph.op import Op
from sim.graph.packing import pack_weights, parse_packing
from sim.graph.transformer import transformer_graph
from sim.graph.transformer_config import TransformerConfig
from sim.hw.chip import load_chip
from sim.mapping.fabric import Fabric
from sim.mapping.mapper import map_graph
from sim.mapping.one_or_several import joins_of, seconds_of
from sim.mapping.partition import Assignment
from sim.mapping.plan import make_plan
from sim.mapping.row_walk import accesses
from sim.mapping.sites import working_bytes
from sim.passes import default_passes
from sim.passes.attention import with_attention
from sim.passes.side_by_side import side_by_side

SMALL = {"core.sram.size": "16 KiB", "core.accumulator.size": "4 KiB"}
DEALT = {
    "core.dispatch.tiles": [[16, 8], [8, 8]], "core.count": 3, "interconnect.topology": "crossbar",
    "interconnect.shape": [3], "interconnect.memory_ports": [[0]], "core.array.rows": 4, "core.array.cols": 4,
    "core.accumulator.size": "4 KiB", "core.sram.size": "16 KiB",
}  # fmt: skip
CHIPS = {"tiny": ("tiny", SMALL), "lepton_m": ("lepton_m", SMALL), "dealt": ("lepton_m", DEALT)}
BASE = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 40, "intermediate_size": 20,
    "max_position_embeddings": 64,
}  # fmt: skip
DBRX = {
    **{"model_type": "dbrx", "d_model": 24, "n_layers": 2, "n_heads": 4, "vocab_size": 30},
    "attn_config": {"clip_qkv": 0.25, "kv_n_heads": 2},
    "ffn_config": {"ffn_hidden_size": 20, "moe_num_experts": 1, "moe_top_k": 1},
}
PREFILL, DECODE = {"phase": "prefill", "seq": 7, "batch": 2}, {"phase": "decode", "kv": 7, "batch": 2}
# The card, what is asked for, packing, and the products of all layers that are one (by how many they were).
MODELS: dict[str, tuple[dict[str, Any], dict[str, Any], str, dict[int, int]]] = {
    "bert": ({**BASE, "model_type": "bert"}, {"phase": "encode", "seq": 11, "batch": 3}, "", {3: 2}),
    # Three query heads, then keys of one and values of one: groups of 4 begin where a multiple of 4 heads does.
    "llama": ({**BASE, "model_type": "llama", "num_key_value_heads": 2}, PREFILL, "", {3: 2}),
    "one key head": ({**BASE, "model_type": "llama", "num_key_value_heads": 1}, PREFILL, "", {3: 2}),
    "decode": ({**BASE, "model_type": "llama", "num_key_value_heads": 2}, DECODE, "", {3: 2}),
    "decode, one key head": ({**BASE, "model_type": "llama", "num_key_value_heads": 1}, DECODE, "", {3: 2}),
    "packed": ({**BASE, "model_type": "llama"}, DECODE, "int4:12", {3: 2}),
    # Only a part of each head is rotated: it is copied out of the columns that it lies in.
    "partly rotated": (
        {**BASE, "model_type": "phi", "num_key_value_heads": 2, "partial_rotary_factor": 0.34}, DECODE, "", {3: 2},
    ),
    # A function behind each: the same.
    "clipped": (DBRX, PREFILL, "", {3: 2}),
}  # fmt: skip


def model(name: str, dtype: str = "fp32") -> Graph:
    card, asked, packing, _ = MODELS[name]
    graph = transformer_graph(TransformerConfig.from_hf(card, "model"), dtype=dtype, **asked)
    return default_passes(pack_weights(graph, parse_packing(packing)) if packing else graph)


def joined(graph: Graph, *, integers: bool = False) -> tuple[Graph, Graph, dict[str, Any]]:
    """The graph with known weights, it joined, and its inputs and states."""
    values = random_values(graph, 0, integers)
    weights = {name: value for name, value in values.items() if graph.tensors[name].role == "weight"}
    known = replace(graph, values={**graph.values, **weights})
    return known, side_by_side(known, values=True), {n: v for n, v in values.items() if n not in weights}


def outputs(graph: Graph, given: dict[str, Any]) -> dict[str, Any]:
    every = evaluate(graph, {**graph.values, **given})
    return {name: every[name] for name in (*graph.outputs, *(o.output for o in graph.ops if o.kind == "cache_update"))}


def products(graph: Graph) -> Counter[int]:
    """Joined products by how many they were."""
    kinds = ("matmul", "packed_matmul")
    return Counter(1 + op.name.count("+") for op in graph.ops if op.kind in kinds and "+" in op.name)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_models_keep_their_numbers(name: str, fused: bool) -> None:
    """Bit for bit in whole numbers, as far as an operator has any; the same multiplications, weights and copies."""
    graph = with_attention(model(name)) if fused else model(name)
    before, after, given = joined(graph)
    assert products(after) == MODELS[name][3]
    assert after.macs == before.macs
    assert (after.weight_bytes, after.parameter_count) == (before.weight_bytes, before.parameter_count)
    copies = [sum(op.kind in ("transpose", "slice") and not op.view for op in one.ops) for one in (before, after)]
    assert copies[0] == copies[1]
    assert len(after.nests) - sum(not nests for nests in after.nests) == sum(map(bool, before.nests)) - 4
    wanted, found = outputs(before, given), outputs(after, given)
    for output, value in wanted.items():
        np.testing.assert_allclose(found[output], value, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize("name", MODELS)
def test_a_chip_computes_them(name: str, chip: str) -> None:
    """Tile by tile, from the weights of the products as they were."""
    before, after, given = joined(with_attention(model(name)))
    program = map_graph(after, load_chip(*CHIPS[chip]), functional=True)
    found = functional.run(program, run(program), after, {**after.values, **given})
    for output, value in outputs(before, given).items():
        np.testing.assert_allclose(found[output], value, rtol=1e-9, atol=1e-11)


def branches(change: str = "", dtype: str = "int8") -> Graph:
    """Two products of x, 9 x 16, with 8 and 16 columns, one added to a sum of the other's; with one change."""
    b = GraphBuilder("branches", dtype)
    x = b.input("x", (9, 16)) if change != "state" else b.state("x", (9, 16))
    shared = b.weight((16, 8), "shared") if change == "shared" else ""
    flat = change == "flat"
    y = b.matmul(x, shared or b.weight((8, 16) if flat else (16, 8), "u"), transpose_b=flat, name="a.y")
    more = b.weight((16, 16), "w", dtype="int4" if change == "formats" else None)
    z = b.matmul(b.input("other", (9, 16)) if change == "left" else x, more, transpose_b=flat, name="a.z")
    if change in ("functions", "same functions"):
        y, z = b.relu(y, "ry"), (b.relu if change == "same functions" else b.tanh)(z, "rz")
    if change in ("constants", "matrix"):
        y = b.add(y, b.weight((8,), "by"), "sy")
        z = b.add(z, b.weight((9, 16) if change == "matrix" else (16,), "bz"), "sz")
    y = b.reshape(y, (3, 3, 2, 4), "y4") if change != "residual" else y
    if change == "shared":
        return b.build([turned_heads(b, y), b.transpose(z, (1, 0)), b.matmul(b.input("third", (9, 16)), shared)])
    if change == "residual":
        z = b.relu(b.concat([z, b.relu(z)], 1))
        return b.build([b.add(b.matmul(b.input("third", (9, 4)), b.weight((4, 8), "t")), y), z])
    if change == "norm":
        return b.build([b.rms_norm(y, name="norm"), b.rms_norm(z, name="whole")])
    if change == "planes":
        x = b.conv(b.input("planes", (9, 2, 4)), 4, 1)
        return b.build([turned_heads(b, y), b.concat([b.reshape(z, (9, 4, 4)), x], 1)])
    if change == "output":
        return b.build([y, turned_heads(b, y), b.transpose(z, (1, 0), "z2")])
    if change == "mixed":
        return b.build([b.relu(b.reshape(y, (12, 6))), b.relu(b.reshape(z, (9, 16)))])
    turned = turned_heads(b, y)
    if change == "heads":
        return b.build([turned, b.softmax(b.reshape(z, (9, 4, 4), "z3"), name="shares")])
    return b.build([turned, b.transpose(z, (1, 0), "z2")])


def turned_heads(b: GraphBuilder, y: str) -> str:
    return b.transpose(y, (0, 2, 1, 3), "turned")


@pytest.mark.parametrize(
    ("change", "alike"),
    [
        *((change, True) for change in ("", "flat", "same functions", "constants", "heads")),
        *((change, False) for change in ("state", "shared", "formats", "left", "functions", "matrix")),
        # Who reads them wants whole columns, a tensor of its own, or both at once.
        *((change, False) for change in ("norm", "output", "mixed", "residual", "planes")),
    ],
)
def test_which_are_joined(change: str, alike: bool) -> None:
    graph = default_passes(branches(change))
    before, after, given = joined(graph, integers=True)
    assert (after is before) is not alike
    if alike:
        assert products(after) == {2: 1}
        for output, value in outputs(before, given).items():
            np.testing.assert_array_equal(outputs(after, given)[output], value)
            program = map_graph(after, load_chip(*CHIPS["dealt"]), functional=True)
            found = functional.run(program, run(program), after, {**after.values, **given})
            np.testing.assert_allclose(found[output], value, rtol=1e-12)


def test_where_not_all_can_be_joined_those_of_one_width_are() -> None:
    """Heads of 6 beside 2 x 4 columns: 14 are no multiple of 6, 8 are one of 4."""
    b = GraphBuilder("widths", "fp32")
    x = b.input("x", (5, 8))
    made = [b.matmul(x, b.weight((8, width), f"w{at}"), name=f"y{at}") for at, width in enumerate((12, 4, 4))]
    heads = [b.reshape(y, (5, size // 4 if size == 4 else 2, -1)) for y, size in zip(made, (12, 4, 4), strict=True)]
    after = side_by_side(b.build([b.transpose(y, (1, 0, 2)) for y in heads]))
    assert [op.name for op in after.ops if op.kind == "matmul"] == ["y0", "y1+y2"]


@pytest.mark.parametrize(("shape", "alike"), [
    ((6,), True), ((1, 6), True), ((6, 1), False), ((1,), False), ((6, 6), False),
])  # fmt: skip
def test_constants_of_columns_lie_side_by_side(shape: tuple[int, ...], alike: bool) -> None:
    """6 rows and columns each: a number for every row is none for every column, nor are two for all of them one, or a
    matrix for both."""
    b = GraphBuilder("constants", "fp32")
    x = b.input("x", (6, 8))
    more = [b.weight(shape, "more")] * 2 if shape == (6, 6) else [b.weight(shape, f"b{at}") for at in range(2)]
    y = [b.add(b.matmul(x, b.weight((8, 6), f"w{at}")), more[at]) for at in range(2)]
    before, after, given = joined(default_passes(b.build([b.transpose(one, (1, 0)) for one in y])))
    assert products(after) == ({2: 1} if alike else {})
    for output, value in outputs(before, given).items():
        np.testing.assert_allclose(outputs(after, given)[output], value, rtol=1e-12)


def test_parts_begin_where_rows_of_the_whole_are_cut() -> None:
    """2, 6 and 1 columns: heads of 3 are a third of 9 columns, but do not begin at the third."""
    b = GraphBuilder("places", "fp32")
    x = b.input("x", (5, 8))
    y, z, rest = (b.matmul(x, b.weight((8, width), f"w{at}"), name=f"y{at}") for at, width in enumerate((2, 6, 1)))
    graph = b.build([b.transpose(b.reshape(z, (5, 2, 3)), (1, 0, 2)), *(b.transpose(one, (1, 0)) for one in (y, rest))])
    assert side_by_side(graph) is graph


def test_names_say_what_was_joined() -> None:
    known, with_values, _ = joined(default_passes(branches("constants")))
    assert with_values.values["u+w"].shape == (16, 24)
    after = side_by_side(known)
    (product,) = (op for op in after.ops if op.kind == "matmul")
    assert (product.name, product.inputs[1], product.result) == ("a.y+z", "u+w", "sy+sz")
    assert after.tensors["u+w"].shape == (16, 24)
    assert not after.values


def test_only_what_is_faster() -> None:
    asked: list[tuple[int, int]] = []

    def faster(one: Graph, several: Graph) -> bool:
        asked.append((len(one.ops), len(several.ops)))
        return False

    graph = default_passes(branches())
    assert side_by_side(graph, faster) is graph
    assert asked == [(1, 2)]
    assert side_by_side(graph) is side_by_side(graph)


def heads(columns: int, rows: int = 128, layers: int = 1) -> Graph:
    """Three products of one x, read head by head."""
    b = GraphBuilder("heads", "fp16")
    x, found = b.input("x", (rows, 768)), []
    for at in range(3 * layers):
        y = b.matmul(x, b.weight((768, columns), f"w{at}"), name=f"y{at}")
        found.append(b.transpose(b.reshape(y, (rows, columns // 64, 64)), (1, 0, 2)))
    return b.build(found)


def test_kernels_are_launched_once() -> None:
    """On A100 the product of 128 x 768 and three times 768 takes less than half of three alone, and reads x once."""
    one = sim.simulate(heads(768), "a100")
    apart = sim.simulate(heads(768), "a100", partition="pipeline")
    rows = [row for row in one.ops.itertuples() if row.kind == "matmul"]
    assert [row.name for row in rows] == ["y0+y1+y2"]
    assert float(str(one["latency_s"])) < float(str(apart["latency_s"]))
    views = one.ops[one.ops.kind == "slice"]
    assert list(views.unit) == ["view"] * 3
    assert float(str(one["dram_read_bytes"])) <= float(str(apart["dram_read_bytes"]))


@pytest.mark.parametrize(("chip", "mode", "joins"), [
    ("a100", "auto", True), ("h100", "data", True), ("a100", "pipeline", False), ("a100", "rules.yaml", False),
    ("lepton_l", "auto", False), ("tpu_v4", "auto", False),
])  # fmt: skip
def test_where_operators_are_kernels(chip: str, mode: str, joins: bool) -> None:
    after = side_by_side(heads(768), joins_of(load_chip(chip), mode, {}))
    assert products(after) == ({3: 1} if joins else {})


ATTENTION = {"transpose_b": True, "steps": (), "sink": False}


def reader(kind: Callable[[GraphBuilder, str], str], *, part: bool, width: int = 32) -> Graph:
    """An operator that reads 64 x 4 x 32 elements: all of a tensor, or the middle of one of 64 x 12 x 32."""
    b = GraphBuilder("reader", "bf16")
    x = b.input("x", (64, 12 if part else 4, width))
    if part:
        how = {"starts": (0, 4, 0), "steps": (1, 1, 1), "counts": (64, 4, width), "in_place": True}
        x = b.add_op("slice", [x], how, "part")
    return b.build([kind(b, x)])


@pytest.mark.parametrize("kind", [
    lambda b, x: b.relu(x), lambda b, x: b.mul(b.silu(x), b.input("other", (64, 4, 32))), lambda b, x: b.rms_norm(x),
    lambda b, x: b.softmax(x), lambda b, x: b.matmul(x, b.weight((32, 64), "w")),
    lambda b, x: b.add_op("attention", [b.input("q", (64, 40, 32)), x, b.input("v", (64, 4, 16))], ATTENTION),
])  # fmt: skip
def test_a_part_is_as_large_as_a_tensor_of_its_size(kind: Callable[[GraphBuilder, str], str]) -> None:
    """What an operator reads of a wider tensor is what it knows of it: the same plan."""
    whole, part = (default_passes(reader(kind, part=one)) for one in (False, True))
    nests = [graph.nests[-1][0] for graph in (whole, part)]
    ours = [next(operand for operand in nest.operands if operand.tensor.name == "x") for nest in nests]
    assert [operand.size_bytes for operand in ours] == [64 * 4 * 32 * 2] * 2
    assert ours[1].tensor.size_bytes == 64 * 12 * 32 * 2
    assert accesses(nests[0]) == accesses(nests[1])
    chip = load_chip("lepton_m", {**DEALT, "core.sram.size": "64 KiB"})
    assert working_bytes(nests[0], chip.cores[0]) == working_bytes(nests[1], chip.cores[0])
    for on in (chip, load_chip("a100")):
        plans = [make_plan(graph, on, Fabric(on), Assignment(on, "auto")) for graph in (whole, part)]
        tilings = [plan.steps[-1].tiling for plan in plans]
        assert tilings[0].deal == tilings[1].deal
        assert tilings[0].latency_s == tilings[1].latency_s
        # But for how well the DRAM's banks take runs that lie apart.
        assert tilings[0].dram_bytes == pytest.approx(tilings[1].dram_bytes, rel=0.04)
    assert sim.verify_values(part, chip).passed


@pytest.mark.parametrize("width", [1 << 14, 1 << 16])
def test_long_rows_of_a_part(width: int) -> None:
    """A block walks such a row in steps; the longer ones of the part are 32 MiB, which the cache of a100 holds;
    it would not hold three times as much."""
    chip = load_chip("a100")
    for kind in (GraphBuilder.rms_norm, GraphBuilder.softmax):
        graphs = [reader(kind, part=one, width=width) for one in (False, True)]
        plans = [make_plan(graph, chip, Fabric(chip), Assignment(chip, "auto")) for graph in graphs]
        whole, part = (plan.steps[-1].tiling for plan in plans)
        assert (whole.deal, whole.latency_s) == (part.deal, part.latency_s)


def test_launches_count() -> None:
    """10 us more to each of three kernels, or to the one that they are."""
    changes = [{"calibration.launch_overhead": launch} for launch in ("20 us", "10 us")]
    for graph, kernels in ((side_by_side(heads(768)), 1), (heads(768), 3)):
        alone = replace(graph, ops=tuple(op for op in graph.ops if op.kind == "matmul"), outputs=())
        slow_s, fast_s = (seconds_of(alone, load_chip("a100", one), "auto", {}) for one in changes)
        assert slow_s - fast_s == pytest.approx(kernels * 10e-6)


@pytest.mark.parametrize("change", ["view", "output", "whole"])
def test_what_a_part_cannot_be(change: str) -> None:
    b = GraphBuilder("part", "fp32")
    how = {"starts": (0, 2), "steps": (1, 1), "counts": (4, 3), "in_place": True}
    part = b.add_op("slice", [b.input("x", (4, 8))], how, "part")
    match change:
        case "view":
            with pytest.raises(ValueError, match="'part' is a part of a tensor, which has no views"):
                b.build([b.relu(b.reshape(part, (2, 6)))])
        case "output":
            with pytest.raises(ValueError, match="'part' is a part of a tensor, which is written as a whole"):
                b.build([part])
        case _:
            graph = b.build([b.rms_norm(part)])
            with pytest.raises(ValueError, match="cannot be that of a part of 8 elements"):
                _ = graph.nests


def test_a_slice_is_a_view_if_it_says_so() -> None:
    how = {"starts": (0,), "steps": (1,), "counts": (2,)}
    assert [Op("s", "slice", ("x",), "s", {**how, **more}).view for more in ({}, {"in_place": True})] == [False, True]
