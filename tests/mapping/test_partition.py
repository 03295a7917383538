"""Partitions of a model over cores: what each mode splits and moves, pipelines, and partition files."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from operator_graphs import GRAPHS, chip

from sim.cost.actions import array_actions
from sim.cost.products import tile_products
from sim.engine.ordering import find_races
from sim.errors import InputError
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.hw.chip import Chip, chip_from_dict, load_chip
from sim.mapping.fabric import Fabric
from sim.mapping.loops import Loops
from sim.mapping.mapper import map_graph
from sim.mapping.partition import Assignment, crossing_bytes, cut_stages, pipeline_stages, share_cores
from sim.mapping.partition_file import load_partition
from sim.mapping.plan import make_plan
from sim.pipeline import simulate
from sim.program import PARTIAL, Kind, Program, Space

QUAD = {"core.count": 4, "interconnect.shape": [2, 2], "interconnect.memory_ports": [[0, 0], [0, 1]]}
ALONE = {"core.count": 1, "interconnect.shape": [1, 1], "interconnect.memory_ports": [[0, 0]]}


def chain(widths: list[int], rows: int = 1024, depth: int = 512) -> Graph:
    """Matrix products one after another, operands in DRAM."""
    b = GraphBuilder("chain", "int8")
    x = b.input("x", (rows, depth))
    for index, width in enumerate(widths):
        x = b.linear(x, width, bias=False, name=f"layer{index}")
    return b.build([x], kernel=True)


def split_by(graph: Graph, on: Chip, folder: Path, splits: dict[str, str], **options: bool) -> Program:
    """Mapped by a partition file: {"layer0": "row: 4"}."""
    file = folder / "partition.yaml"
    lines = [f"  {name}: {{split: {{{split}}}}}" for name, split in splits.items()]
    file.write_text("\n".join(["version: 1", "operators:", *lines]) + "\n")
    return map_graph(graph, on, partition=str(file), **options)


@pytest.mark.parametrize(
    ("mode", "dims"),
    [
        ("data", {"group", "batch", "row", "column"}),
        ("channel", {"out_channel"}),
        ("reduction", {"in_channel"}),
    ],
)
def test_a_mode_splits_its_own_dimensions(mode: str, dims: set[str]) -> None:
    b = GraphBuilder("conv", "int8")
    graph = b.build([b.conv(b.input("x", (1, 64, 56, 56)), 64, 3, padding=1)], kernel=True)
    (segment,) = map_graph(graph, chip("lepton_m"), partition=mode).segments
    split = segment.ops[0].mapping["split"]
    assert 1 < math.prod(split.values()) <= 8
    assert set(split) <= dims


def parts_moved(program: Program, write: bool) -> int:
    """Bytes of partial sums that vector tasks read from (or write to) scratchpads."""
    (segment,) = program.segments
    columns = segment.functional
    assert columns is not None
    task = np.repeat(np.arange(segment.tasks), np.diff(columns.aptr))
    moved = (columns.space == Space.SCRATCHPAD) & (columns.operand == PARTIAL) & (columns.write == write)
    chosen = moved & (segment.kind[task] == Kind.VECTOR)
    return int((columns.stop - columns.start).prod(axis=1)[chosen].sum()) * 4


def array_counts(graph: Graph, folder: Path, parts: int) -> dict[str, float]:
    """Action counts of the operator under the partition file, if each of its sums had this many parts."""
    target = chip("lepton_m")
    assignment = load_partition(str(folder / "partition.yaml"), graph, target, lambda count, cut: ())
    (step,) = make_plan(graph, target, Fabric(target), assignment).steps
    loops, kind = Loops(step.nest, step.tiling, np.array(step.cores)), target.cores[0]
    sums = tile_products(step.nest, loops.ranges, kind, step.tiling.dataflow).sums
    return array_actions(step.nest, step.nest.macs, sums, step.nest.out.tensor.elements, kind, parts)


@pytest.mark.parametrize(("parts", "rounds"), [(2, 1), (3, 2), (4, 2), (7, 3), (8, 3)])
def test_a_reduction_is_a_binary_tree_of_four_byte_sums(tmp_path: Path, parts: int, rounds: int) -> None:
    """Every core but the owner sends its part once, in the accumulator's format; the owner adds once per round of the
    tree; every access to a part is counted."""
    graph = chain([96], rows=64, depth=1024)
    program = split_by(graph, chip("lepton_m"), tmp_path, {"layer0": f"inner: {parts}"}, functional=True)
    assert find_races(program) == []
    (segment,) = program.segments
    sends = segment.kind == Kind.SEND
    assert int(segment.nbytes[sends].sum()) == (parts - 1) * 64 * 96 * 4
    tiles = int((segment.kind == Kind.STORE).sum())
    assert int(sends.sum()) == (parts - 1) * tiles
    # Additions, copies out of the accumulators of cores that only send, and one drain on the owner.
    copies = -(-parts // 2)
    assert int((segment.kind == Kind.VECTOR).sum()) == (parts - 1 + copies + 1) * tiles
    counts = segment.ops[0].counts
    assert (counts["vector_add"], counts["vector_copy"]) == ((parts - 1) * 64 * 96, copies * 64 * 96)
    owner = np.array([queue.core == 0 for queue in program.queues])[segment.queue]
    assert int((owner & (segment.kind == Kind.VECTOR)).sum()) == (rounds + 1) * tiles
    without = array_counts(graph, tmp_path, parts=1)
    assert counts["sram_read_bytes"] - without["sram_read_bytes"] == parts_moved(program, write=False)
    assert counts["sram_write_bytes"] - without["sram_write_bytes"] == parts_moved(program, write=True)


@pytest.mark.parametrize(("split", "shared"), [("row: 8", "weights"), ("column: 8", "input")])
def test_a_multicast_reads_the_dram_once(tmp_path: Path, split: str, shared: str) -> None:
    """Eight cores need all weights (or all of the input): read once from DRAM, written to eight scratchpads."""
    program = split_by(chain([256], rows=256), chip("lepton_m"), tmp_path, {"layer0": split})
    (segment,) = program.segments
    loads = np.flatnonzero(segment.kind == Kind.LOAD)
    assert int(segment.nbytes[loads].sum()) == 256 * 512 + 512 * 256
    is_dma = np.array([link.kind == "dma" for link in program.links])
    receivers = np.add.reduceat(is_dma[program.route_link], program.route_ptr[:-1])[segment.route[loads]]
    assert set(receivers.tolist()) == {1, 8}, shared
    assert int(segment.nbytes[loads][receivers == 8].sum()) == 256 * 512


@pytest.mark.parametrize("widths", [[512] * 4, [512, 512, 1536, 512]])
def test_a_pipeline_runs_at_the_rate_of_its_slowest_stage(widths: list[int]) -> None:
    """Each stage's own time is what one core needs for it per input, alone on a chip of one core."""
    found = simulate(chain(widths), load_chip("lepton_m", QUAD), partition="pipeline", inputs=10)
    stages = found.facts["partition"]["parts"]
    assert [row["first_op"] for row in stages] == ["layer0", "layer1", "layer2", "layer3"]
    alone, depth = [], 512
    for width in widths:
        one = simulate(chain([width], depth=depth), load_chip("lepton_m", ALONE), inputs=10)
        alone.append(1 / float(one["throughput_per_s"]))  # type: ignore[arg-type]
        depth = width
    assert 1 / float(found["throughput_per_s"]) == pytest.approx(max(alone), rel=0.01)  # type: ignore[arg-type]


chains = st.integers(2, 8).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(5, 25), min_size=n, max_size=n),
        st.lists(st.integers(0, 9), min_size=n, max_size=n),
        st.integers(1, n),
    )
)


def costs(seconds: list[int], crossing: list[int], first: list[int]) -> tuple[int, int]:
    """(slowest part, bytes cut) of a cut."""
    ends = [*first[1:], len(seconds)]
    return max(sum(seconds[a:b]) for a, b in zip(first, ends, strict=True)), sum(
        crossing[i] for i in first[1:]
    )


@given(chains)
@example(([10, 1, 10], [0, 5, 0], 2))  # 11 and 10 either way round; the cut decides
@example(([20, 1, 19], [0, 9, 0], 2))  # 20 and 20 cut 9 bytes, 21 and 19 none
def test_cuts_are_the_best_of_all(case: tuple[list[int], list[int], int]) -> None:
    seconds, crossing, stages = case
    every = [
        costs(seconds, crossing, [0, *inner])
        for inner in itertools.combinations(range(1, len(seconds)), stages - 1)
    ]
    balanced = costs(seconds, crossing, cut_stages(seconds, crossing, stages))
    assert balanced == min(every)
    narrow = costs(seconds, crossing, cut_stages(seconds, crossing, stages, "min_cut"))
    assert narrow[1] == min(cut for slowest, cut in every if slowest <= balanced[0] * 1.1)
    assert narrow[0] <= balanced[0] * 1.1


def test_a_chain_of_a_thousand_operators_is_cut_at_the_first_of_equal_places() -> None:
    """Four parts of 250 seconds each; with a free cut a little off, there where 10 % of balance may be given up."""
    seconds, crossing = [1.0] * 1000, [8] * 1000
    assert cut_stages(seconds, crossing, 4) == [0, 250, 500, 750]
    crossing[240] = crossing[500] = crossing[765] = 0
    assert cut_stages(seconds, crossing, 4, "min_cut") == [0, 240, 500, 765]
    assert cut_stages([1.0, 0.0, 0.0, 1.0], [0, 5, 5, 5], 2) == [0, 1]


def test_stages_keep_to_their_cores() -> None:
    b = GraphBuilder("chain", "int8")
    x = b.input("x", (8, 32))
    for _ in range(6):
        x = b.linear(x, 32)
    graph, on = b.build([x]), load_chip("lepton_m")
    stages = pipeline_stages(graph, on, [1.0] * 6, 3)
    assignment = Assignment(on, stages=stages)
    found = [assignment.sites(op)[0][1] for op in range(6)]
    assert found == [stages[op // 2].cores for op in range(6)]
    assert len(set(found)) == 3
    assert Assignment(on).sites(5)[0][1] == tuple(range(8))


def test_crossing_bytes_count_every_tensor_that_is_still_needed() -> None:
    """A shortcut crosses every cut until its last reader."""
    b = GraphBuilder("shortcut", "int8")
    x = b.relu(b.input("x", (4, 8)))
    y = b.linear(x, 16)
    graph = b.build([b.add(b.linear(y, 8), x)])
    assert crossing_bytes(graph) == [0, 32, 32 + 64, 32 + 32]


def test_a_pipeline_file_cuts_where_it_is_told_to(tmp_path: Path) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text("version: 1\npipeline: {stages: 2, cut: min_cut}\n")
    program = map_graph(chain([512] * 4), chip("lepton_m"), partition=str(file))
    stages = program.facts["partition"]["parts"]
    assert [(row["first_op"], row["cores"]) for row in stages] == [("layer0", "0-3"), ("layer2", "4-7")]
    assert [row["cut_bytes"] for row in stages] == [0, 1024 * 512]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("operators: {layer: {mode: data}}", "has no operator 'layer'; did you mean 'layer0'?"),
        ("operators: {layer0: {split: {rows: 2}}}", "no dimension 'rows'; did you mean 'row'?"),
        ("operators: {layer0: {split: {row: 9}}}", "row has 8 indices, not enough for 9 parts"),
        ("operators: {layer0: {split: {row: 4, column: 4}}}", "16 parts, but 8 cores"),
        ("operators: {layer0: {split: {row: 0}}}", "expected greater than or equal to 1"),
        ("operators: {layer0: {split: {row: 2}, mode: data}}", "give a mode or a split, not both"),
        ("pipeline: {stages: 2}", "a pipeline of 2 stages needs as many cores and operators"),
        ("pipeline: {}\noperators: {layer0: {mode: data}}", "a pipeline chooses splits by itself"),
        ("defualt: data", "unknown key 'defualt'; did you mean 'default'?"),
    ],
)
def test_what_a_partition_file_gets_wrong_is_said(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(f"version: 1\n{text}\n")
    with pytest.raises(InputError) as caught:
        map_graph(chain([32], rows=8, depth=64), chip("lepton_m"), partition=str(file))
    assert message in str(caught.value)


def test_an_unknown_mode_gets_a_suggestion() -> None:
    with pytest.raises(InputError, match="unknown partition 'chanel'; did you mean 'channel'"):
        map_graph(chain([32]), chip("lepton_m"), partition="chanel")


@pytest.mark.parametrize("dim", ["out_channel", "in_channel"])
def test_channels_of_a_group_are_split_only_where_groups_are(tmp_path: Path, dim: str) -> None:
    """A core with several whole groups would hold a range of channels that belongs to others."""
    splits = {"conv": f"{dim}: 2"}
    with pytest.raises(
        InputError, match=f"{dim} can be split only where group is split into all its 4 indices"
    ):
        split_by(GRAPHS["conv grouped"](), chip("lepton_m"), tmp_path, splits)
    program = split_by(
        GRAPHS["conv grouped"](), chip("lepton_m"), tmp_path, {"conv": f"group: 4, {dim}: 2"}, functional=True
    )
    assert find_races(program) == []


def test_a_vector_unit_shares_no_sum(tmp_path: Path) -> None:
    data = chip("lepton_m").expanded()
    del data["cores"][0]["array"], data["cores"][0]["accumulator"]
    with pytest.raises(InputError, match="inner is summed over, which only arrays can share"):
        split_by(chain([32]), chip_from_dict(data), tmp_path, {"layer0": "inner: 2"})


def test_cores_go_to_the_stages_with_most_work_and_views_to_no_stage_of_their_own() -> None:
    assert share_cores([6.0, 1.0, 2.0], 6) == [4, 1, 1]
    assert share_cores([1.0, 1.0], 2) == [1, 1]
    builder = GraphBuilder("viewed", "int8")
    x = builder.conv(builder.input("x", (1, 16, 16, 16)), 64, 3, padding=1)
    x = builder.linear(builder.reshape(x, (1, 64 * 256)), 10)
    graph = builder.build([x])
    stages = pipeline_stages(graph, load_chip("lepton_m"), [8.0, 0.0, 2.0])
    assert [stage.ops for stage in stages] == [(0, 1), (2,)]
    assert [len(stage.cores) for stage in stages] == [6, 2]
    with pytest.raises(InputError, match="8 cores and 'viewed' 2 operators"):
        pipeline_stages(graph, load_chip("lepton_m"), [8.0, 0.0, 2.0], 3)
