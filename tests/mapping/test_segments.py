"""Repeated blocks are lowered once: same time, work and energy as with every block lowered."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from operator_graphs import chip

from sim.engine import run
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.graph.transformer import transformer_graph
from sim.graph.transformer_config import TransformerConfig
from sim.hw.technology import load_technology
from sim.mapping.mapper import map_graph
from sim.mapping.segments import block_signature, find_segments
from sim.passes import default_passes
from sim.program import Kind, Program
from sim.report.report import Report, build_report

LAYERS = 5
CONFIG = {
    "model_type": "llama",
    "hidden_size": 128,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 320,
    "vocab_size": 500,
    "max_position_embeddings": 256,
}


@cache
def llama(phase: str) -> Graph:
    lengths = {"seq": 48} if phase == "prefill" else {"kv": 64}
    config = TransformerConfig.from_hf(CONFIG, "tiny llama")
    return default_passes(transformer_graph(config, dtype="bf16", phase=phase, batch=2, **lengths))


def report_of(graph: Graph, on: str, program: Program) -> Report:
    target = chip(on)
    technology = load_technology(target.technology)
    return build_report(graph, target, technology, program, run(program), options={}, wall_s=0.0)


def kinds(program: Program) -> list[int]:
    """How many tasks of each kind, repeats counted."""
    return [
        sum(
            int((segment.kind == kind).sum()) * repeat
            for segment, repeat in zip(program.segments, program.repeats, strict=True)
        )
        for kind in Kind
    ]


@pytest.mark.parametrize("on", ["lepton_s", "lepton_m"])
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_a_repeated_block_is_that_block_unrolled(phase: str, on: str) -> None:
    graph = llama(phase)
    folded, unrolled = (map_graph(graph, chip(on), unroll=unroll) for unroll in (False, True))
    assert LAYERS - 1 in folded.repeats or LAYERS in folded.repeats
    assert set(unrolled.repeats) == {1}
    assert len(unrolled.segments) == sum(folded.repeats)
    assert kinds(folded) == kinds(unrolled)
    short, long = report_of(graph, on, folded), report_of(graph, on, unrolled)
    # Results lie elsewhere in a program that is unrolled, and so find other lines in a cache (docs/decisions.md).
    cached = short["cache_hit_rate"] is not None
    assert short["latency_s"] == pytest.approx(long["latency_s"], rel=1e-3 if cached else 0)
    assert short["energy_j"] == pytest.approx(long["energy_j"], rel=2e-3 if cached else 1e-12)
    for key in ("macs", "tasks", "sram_read_bytes", "noc_bytes"):
        assert short[key] == long[key], key
    for key in ("dram_read_bytes", "dram_write_bytes"):
        assert short[key] == pytest.approx(long[key], rel=0.02 if cached else 0), key
    assert short["macs"] == graph.macs


def written_out(program: Program) -> Program:
    """The same program with a segment for every repeat, at the addresses of that repeat."""
    segments = []
    for segment, repeats in zip(program.segments, program.repeats, strict=True):
        probes = segment.probes
        for at in range(repeats):
            here = None if probes is None else replace(probes, shift=probes.shift[at : at + 1])
            segments.append(replace(segment, probes=here))
    return replace(program, segments=tuple(segments), repeats=(1,) * len(segments), passes=())


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_repeats_are_accounted_for_to_the_tick_and_byte(phase: str) -> None:
    """With a cache, each repeat finds what the one before left: the same whether it is simulated or replayed."""
    graph = llama(phase)
    rolled = map_graph(graph, chip("lepton_m"))
    short, long = (report_of(graph, "lepton_m", p) for p in (rolled, written_out(rolled)))
    assert len(rolled.segments) < len(written_out(rolled).segments)
    assert 0 < short["cache_hit_rate"] < 1  # type: ignore[operator]
    assert short["latency_s"] == long["latency_s"]
    assert short["energy_j"] == pytest.approx(long["energy_j"], rel=1e-12)
    for key in ("dram_read_bytes", "dram_write_bytes", "cache_read_bytes", "cache_write_bytes", "cache_hit_rate"):
        assert short[key] == long[key], key


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_barriers_between_blocks_cost_little(phase: str) -> None:
    """Without any barrier the next block's weights are prefetched and its first operators start early: the price of
    lowering a block once, at most a tenth here. Prefetching may also cost a little, by taking bandwidth from what is
    needed first."""
    graph = llama(phase)
    whole = replace(graph, ops=tuple(replace(op, block=-1) for op in graph.ops))
    target = chip("lepton_s")
    with_barriers, without = (run(map_graph(g, target)).latency_ps for g in (graph, whole))
    assert without / 1.01 <= with_barriers <= 1.1 * without


def blocks(widths: list[int]) -> Graph:
    b = GraphBuilder("blocks", "int8")
    x = b.relu(b.input("x", (8, 32)))
    for index, width in enumerate(widths):
        with b.block(index):
            x = b.add(x, b.linear(b.linear(x, width), 32))
    return b.build([b.linear(x, 10)])


def test_only_equal_neighbours_are_folded() -> None:
    graph = blocks([64, 64, 48, 64, 64, 64])
    segments = find_segments(graph)
    assert segments.names == ("part 0", "block 0", "block 2", "block 3", "part 4")
    assert segments.repeats == (1, 2, 1, 3, 1)
    assert segments.of_op == (0, 1, 1, 1, -1, -1, -1, 2, 2, 2, 3, 3, 3, *(-1,) * 6, 4)
    assert find_segments(graph, unroll=True).repeats == (1,) * 8


def test_a_block_that_reads_the_same_tensor_twice_is_another_block() -> None:
    def pair(same: bool) -> Graph:
        b = GraphBuilder("pair", "int8")
        x, y = b.input("x", (8, 8)), b.input("y", (8, 8))
        return b.build([b.add(x, x if same else y)])

    assert block_signature(pair(True), 0, 1) != block_signature(pair(False), 0, 1)


def test_back_to_back_inputs_have_no_barriers() -> None:
    """A barrier between blocks would keep the next input from starting."""
    assert map_graph(llama("decode"), chip("lepton_m"), inputs=2).repeats == (1,)


def chain(head: bool, tail: bool) -> Graph:
    """Four equal blocks, perhaps something before and after them; the result of the third is an output as well."""
    b = GraphBuilder("chain", "int8")
    x = b.input("x", (64, 256))
    x = b.linear(x, 256) if head else x
    outputs = []
    for index in range(4):
        with b.block(index):
            x = b.linear(x, 256)
        outputs += [x] if index == 2 else []
    return b.build([*outputs, b.linear(x, 128) if tail else x])


@pytest.mark.parametrize("on", ["lepton_s", "lepton_m"])  # without and with a cache
@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("tail", [False, True])
def test_every_output_goes_to_the_host_once(head: bool, tail: bool, on: str) -> None:
    """64 x 256 bytes of the third block, and the same or 64 x 128 of what is last, wherever that is a repeat."""
    graph = chain(head, tail)
    latency_s = []
    for unroll in (False, True):
        program = map_graph(graph, chip(on), unroll=unroll)
        sent = 0
        for segment, repeats in zip(program.segments, program.repeats, strict=True):
            out = [program.queues[queue].name == "host.out" for queue in segment.queue.tolist()]
            sent += repeats * int(segment.nbytes[out].sum())
        assert sent == 64 * 256 + 64 * (128 if tail else 256)
        latency_s.append(run(program).latency_ps)
    # Unrolled, the third block's output leaves beside the fourth block, and results may stay in the scratchpads.
    assert 0.8 < latency_s[1] / latency_s[0] <= 1.001
