"""What goes through the cache, where repeats of a block lie, and what a program that is unrolled says to that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sim.engine import run
from sim.errors import DoesNotFit, InputError, InvariantViolation
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.graph.load import load_model
from sim.hw.chip import Chip, load_chip
from sim.hw.technology import load_technology
from sim.mapping.allocate import Layout
from sim.mapping.caching import _probing, block_starts, blocks_of, repeated_tensors
from sim.mapping.mapper import map_graph
from sim.mapping.segments import find_segments
from sim.passes import default_passes
from sim.pipeline import simulate
from sim.program import Policy, Program
from sim.report.account import account
from sim.timeline import Timeline

CACHE = {"size": "1 MiB", "ways": 16, "line": "64 B", "bandwidth": "2 TB/s"}


def chip(**changes: Any) -> Chip:
    """lepton_m with scratchpads too small to keep results in, and a small cache."""
    small = {"core.sram.size": "64 KiB", "core.accumulator.size": "16 KiB"}
    cache = {f"cache.{key.replace('__', '.')}": value for key, value in {**CACHE, **changes}.items()}
    return load_chip("lepton_m", {**small, **cache})


def chain(layers: int = 3, rows: int = 256, width: int = 256) -> Graph:
    """Matrix products one after another."""
    builder = GraphBuilder("chain", dtype="int8")
    x = builder.input("x", (rows, width))
    for layer in range(layers):
        x = builder.matmul(x, builder.weight((width, width), name=f"w{layer}"), name=f"y{layer}")
    return builder.build([x])


def mapped(graph: Graph, on: Chip, **options: Any) -> Program:
    return map_graph(default_passes(graph), on, **options)


def policies(program: Program) -> dict[str, Policy]:
    found: dict[str, Policy] = {}
    for probes in (segment.probes for segment in program.segments if segment.probes is not None):
        pairs = zip(probes.tensor.tolist(), probes.policy.tolist(), strict=True)
        found |= {probes.tensors[tensor]: Policy(policy) for tensor, policy in pairs}
    return found


def total(timeline: Timeline, name: str) -> int:
    parts = zip(timeline.segments, timeline.repeats, strict=True)
    return sum(int(getattr(s.probed, name).sum()) * n for s, n in parts if s.probed is not None)


def test_results_that_are_read_go_through_the_cache_and_the_last_one_does_not() -> None:
    program = mapped(chain(), chip(), partition="channel")
    found = policies(program)
    assert (found["y0"], found["y1"]) == (Policy.CACHE, Policy.CACHE)
    # The last one looks for lines that were left at its address, and brings none there.
    assert found.get("y2", Policy.BYPASS) == Policy.BYPASS
    timeline = run(program)
    # Each result is written once (a miss, of half a line at a time) and then only found: 64 KiB each, all of which
    # fits. The last result takes the place of the first in the DRAM, past the cache, which forgets it; the second is
    # still there in the end. Weights stay in the scratchpads once they are loaded, and need no cache.
    assert set(found) == {"y0", "y1", "y2"}
    assert (total(timeline, "evicted"), total(timeline, "rest")) == (0, 256 * 256)
    assert total(timeline, "miss") == 256 * 256


def test_without_a_cache_nothing_probes() -> None:
    program = mapped(chain(), load_chip("lepton_s"))
    assert program.cache is None
    assert all(segment.probes is None for segment in program.segments)
    assert run(program).drained_ps == run(program).latency_ps


@pytest.mark.parametrize("given", ["cache", "bypass", "pin"])
def test_the_chip_file_says_what_each_sort_of_tensor_does(given: str) -> None:
    found = policies(mapped(chain(), chip(policy__weights=given)))
    assert found.get("w0", Policy.BYPASS) == Policy[given.upper()]


def test_a_single_tensor_may_have_a_policy_of_its_own() -> None:
    found = policies(mapped(chain(), chip(policy__weights="cache", policy__tensors={"w1": "pin"})))
    assert (found["w0"], found["w1"]) == (Policy.CACHE, Policy.PIN)


def test_a_tensor_that_the_model_does_not_have_is_an_input_error() -> None:
    with pytest.raises(InputError, match="'chain' has no tensor 'w11'; did you mean"):
        mapped(chain(), chip(policy__tensors={"w11": "pin"}))


def test_more_pinned_than_all_ways_but_one_is_refused() -> None:
    mapped(chain(width=512, rows=64), chip(policy__weights="pin"))
    with pytest.raises(DoesNotFit, match=r"what cache.policy pins \(4 tensors\)") as caught:
        mapped(chain(layers=4, width=512, rows=64), chip(policy__weights="pin"))
    assert (caught.value.needed, caught.value.available) == (2**20, 15 * 2**16)


def test_pinned_weights_are_read_once_and_stay_although_more_streams_by() -> None:
    """Two inputs back to back: the second finds the weights, but only where they are pinned."""
    graph = chain(layers=3, rows=8192, width=256)
    one, two = (mapped(graph, chip(size="256 KiB", policy__weights=p), inputs=2) for p in ("pin", "cache"))
    weights = 3 * 256 * 256

    def missed(program: Program) -> int:
        (segment,), (times,) = program.segments, run(program).segments
        assert segment.probes is not None
        assert times.probed is not None
        mine = np.array([name.startswith("w") for name in segment.probes.tensors])[segment.probes.tensor]
        return int(times.probed.miss[mine].sum())

    assert missed(one) == weights < missed(two)


def test_a_larger_cache_takes_traffic_off_the_dram() -> None:
    graph = chain(layers=3, rows=4096, width=512)
    evicted, missed = [], []
    for size in ("64 KiB", "512 KiB", "16 MiB"):
        timeline = run(mapped(graph, chip(size=size)))
        evicted.append(total(timeline, "evicted"))
        missed.append(total(timeline, "miss"))
    assert evicted[0] >= evicted[1] >= evicted[2] == 0
    assert missed[0] >= missed[1] >= missed[2] > 0
    assert missed[0] > missed[2]


def test_probed_addresses_of_different_tensors_never_overlap_while_both_live() -> None:
    """Each probe stays inside its own tensor's memory."""
    program = mapped(chain(layers=4), chip(policy__weights="cache"), partition="channel")
    probes = program.segments[0].probes
    assert probes is not None
    assert set(probes.tensors) == {f"{sort}{layer}" for sort in "wy" for layer in range(4)}
    reach = probes.address + ((probes.count - 1) * probes.pitch).sum(axis=1) + probes.run_bytes
    for number, name in enumerate(probes.tensors):
        mine = probes.tensor == number
        span = int(reach[mine].max() - probes.address[mine].min())
        assert span <= 256 * 256, name
        assert probes.address[mine].min() % 4096 == 0


def blocks(layers: int) -> Graph:
    """Residual blocks that repeat, each with its own weights."""
    builder = GraphBuilder("blocks", dtype="int8")
    x = builder.matmul(builder.input("x", (256, 256)), builder.weight((256, 256), name="first"), name="x")
    for layer in range(layers):
        with builder.block(layer):
            y = builder.matmul(x, builder.weight((256, 512), name=f"up{layer}"), name=f"a{layer}")
            y = builder.matmul(y, builder.weight((512, 256), name=f"down{layer}"), name=f"b{layer}")
            x = builder.add(x, y, name=f"x{layer}")
    return builder.build([builder.matmul(x, builder.weight((256, 256), name="last"), name="y")])


@pytest.mark.parametrize("size", ["128 KiB", "512 KiB", "8 MiB"])
@pytest.mark.parametrize("weights", ["bypass", "cache"])
def test_repeated_blocks_take_as_long_as_unrolled_ones(size: str, weights: str) -> None:
    """Each repeat has its own weights, reads what the one before wrote, and finds what that left in the cache."""
    on = chip(size=size, policy__weights=weights)
    # Split by columns: every result goes through the DRAM and the cache.
    rolled, unrolled = (mapped(blocks(6), on, partition="channel", unroll=flat) for flat in (False, True))
    assert max(rolled.repeats) == 6
    assert max(unrolled.repeats) == 1
    one, other = run(rolled), run(unrolled)
    assert one.latency_ps == pytest.approx(other.latency_ps, rel=0.01)
    asked = total(other, "hit") + total(other, "miss")
    assert total(one, "hit") + total(one, "miss") == asked
    assert abs(total(one, "hit") - total(other, "hit")) <= 0.03 * asked
    assert abs(total(one, "evicted") - total(other, "evicted")) <= 0.03 * asked


def test_the_weights_of_a_block_are_not_found_by_the_next_one() -> None:
    """In a cache that holds all: every weight misses once."""
    on = chip(size="16 MiB", policy__weights="cache")
    program = mapped(blocks(6), on)
    timeline = run(program)
    missed = 0
    for number, times, count in zip(timeline.segment_of, timeline.segments, timeline.repeats, strict=True):
        probes = program.segments[number].probes
        assert probes is not None
        assert times.probed is not None
        mine = np.array([name.startswith(("up", "down")) for name in probes.tensors])[probes.tensor]
        missed += count * int(times.probed.miss[mine].sum())
    assert missed == 6 * 2 * 256 * 512


def test_what_the_report_says_of_the_cache_adds_up() -> None:
    on = chip(size="256 KiB")
    report = simulate(chain(layers=3, rows=4096, width=512), on)
    tensors, ops = report.cache, report.ops
    assert (tensors["hit_bytes"] + tensors["miss_bytes"] == tensors["bytes"]).all()
    for column, table in (("hit_bytes", "cache_hit_bytes"), ("miss_bytes", "cache_miss_bytes")):
        assert tensors[column].sum() == ops[table].sum()
    asked = tensors["bytes"].sum()
    assert report["cache_hit_rate"] == pytest.approx(tensors["hit_bytes"].sum() / asked)
    assert 0 < report["cache_hit_rate"] < 1  # type: ignore[operator]
    assert tensors["evicted_bytes"].sum() > 0
    assert report["drained_s"] >= report["elapsed_s"]  # type: ignore[operator]
    assert report["bound_latency_s"] <= report["latency_s"]  # type: ignore[operator]
    # The input from the host and the result for it go past the cache.
    assert report["dram_write_bytes"] == tensors["evicted_bytes"].sum() + 2 * 4096 * 512
    energy = report.energy.set_index("component")["energy_j"]
    assert energy["cache"] > 0


def test_the_law_of_dram_writes_notices_a_lost_write_back() -> None:
    on = chip(size="64 KiB")
    graph = default_passes(chain(layers=3, rows=4096, width=512))
    program = map_graph(graph, on)
    timeline = run(program)
    technology = load_technology(on.technology)
    account(program, timeline, on, technology, graph)
    (times,) = timeline.segments
    assert times.probed is not None
    spoilt = replace(times.probed, hit=times.probed.hit + 1)
    with pytest.raises(InvariantViolation, match="hits \\+ misses"):
        account(program, replace(timeline, segments=(replace(times, probed=spoilt),)), on, technology, graph)


@pytest.mark.parametrize("seed", range(20))
def test_what_shares_memory_with_a_tensor_in_the_cache_is_looked_up(seed: int) -> None:
    """Against comparing every pair; some tensors have no place, some no bytes."""
    rng = np.random.default_rng(seed)
    names = [f"t{number}" for number in range(int(rng.integers(0, 30)))]
    wanted = {name: Policy(int(rng.choice([Policy.CACHE, Policy.BYPASS, Policy.BYPASS, Policy.PIN]))) for name in names}
    placed = {name: int(rng.integers(0, 400)) for name in names if rng.random() < 0.8}
    size = {name: int(rng.integers(0, 40)) for name in placed}
    found = _probing(wanted, Layout(placed, size, 0, 0))
    taken = [name for name in placed if wanted[name] != Policy.BYPASS]
    expected = {
        name: policy
        for name, policy in wanted.items()
        if policy != Policy.BYPASS
        or any(
            name in placed
            and placed[name] < placed[other] + size[other]
            and placed[other] < placed[name] + size[name]
            for other in taken
        )
    }
    assert list(found.items()) == list(expected.items())


def test_who_is_who_in_repeats_is_found_once_per_graph() -> None:
    graph = default_passes(load_model("transformer_mt", dtype="int8"))
    segments = find_segments(graph)
    blocks, starts = blocks_of(graph, segments, {})
    assert blocks == repeated_tensors(graph, segments, {})
    assert starts == block_starts(graph, blocks)
    assert starts
    assert blocks_of(graph, find_segments(graph), {})[0] is blocks
    assert blocks_of(graph, find_segments(graph, unroll=True), {})[0] is not blocks
