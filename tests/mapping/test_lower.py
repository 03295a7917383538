"""Lowering: programs are valid and free of races, and their DRAM traffic is what an enumeration of tiles gives."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from operator_graphs import CHIPS, GRAPHS, chip

from sim.engine.ordering import find_races
from sim.errors import DoesNotFit
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.mapping import lower as lowering
from sim.mapping.fabric import Fabric
from sim.mapping.mapper import SearchMemo, map_graph
from sim.mapping.partition import Assignment
from sim.mapping.plan import make_plan
from sim.mapping.step import Step
from sim.program import Kind, Program

MODES = ("auto", "data", "channel", "reduction", "pipeline")
MEMO: SearchMemo = {}


@pytest.mark.parametrize("on", CHIPS)
@pytest.mark.parametrize("name", GRAPHS)
def test_every_operator_on_every_chip_is_free_of_races(name: str, on: str) -> None:
    """Every mode for one input, and three inputs so that buffers, DRAM copies and states are used again."""
    graph = GRAPHS[name]()
    runs = [(mode, 1) for mode in MODES] if chip(on).core_count > 1 else [("auto", 1)]
    for mode, inputs in [*runs, (MODES[len(name) % len(MODES)], 3)]:
        program = map_graph(graph, chip(on), partition=mode, inputs=inputs, functional=True, memo=MEMO)
        program.validate()
        assert program.tasks > 2
        assert [str(race) for race in find_races(program)] == [], mode


def transfers(program: Program, op: str, kind: Kind) -> int:
    """Bytes that the loads or stores of an operator move."""
    (segment,) = program.segments
    (row,) = [number for number, found in enumerate(segment.ops) if found.name == op]
    return int(segment.nbytes[(segment.op == row) & (segment.kind == kind)].sum())


def tiles(step: Step) -> Iterator[tuple[int, list[dict[str, tuple[int, int]]]]]:
    """For every core, its tiles in order: the range of every dimension by name, from the plain definition."""
    dims, tiling = [dim.name for dim in step.nest.dims], step.tiling
    cuts = dict(zip(dims, [cut.tolist() for cut in tiling.cuts(step.nest)], strict=True))
    order = [dims[dim] for dim in tiling.order]
    steps = dict(zip(dims, tiling.steps, strict=True))
    for core, place in enumerate(itertools.product(*(range(parts) for parts in tiling.splits))):
        first = {name: at * steps[name] for name, at in zip(dims, place, strict=True)}
        found = []
        for index in itertools.product(*(range(steps[name]) for name in order)):
            number = {name: first[name] + i for name, i in zip(order, index, strict=True)}
            found.append({name: (cuts[name][i], cuts[name][i + 1]) for name, i in number.items()})
        yield core, found


Elements = frozenset[tuple[int, ...]]


def loaded(step: Step, touched: dict[str, list[list[Elements]]]) -> dict[str, int]:
    """Bytes (int8) loaded by operand: each core loads a tile when it differs from the one before, or from all before
    where the operand stays; cores that need the same one at the same time share one transfer."""
    found = {}
    for index, (operand, by_core) in enumerate(touched.items()):
        total = 0
        for at in range(len(by_core[0])):
            before = 0 if step.tiling.stays(index) else max(0, at - 1)
            fresh = {core[at] for core in by_core if core[at] not in core[before:at]}
            total += sum(len(box) for box in fresh)
        found[operand] = total
    return found


def window(rows: tuple[int, int], size: int, kernel: int, stride: int, pad: int) -> set[int]:
    """Input rows from the first to the last that an interval of output rows reads, without the padding."""
    taps = [y * stride - pad + k for y in range(*rows) for k in range(kernel)]
    return {row for row in range(min(taps), max(taps) + 1) if 0 <= row < size}


@pytest.mark.parametrize(("kernel", "stride", "pad"), [(3, 1, 1), (3, 2, 1), (5, 2, 0), (1, 1, 0)])
@pytest.mark.parametrize("mode", ["data", "channel", "auto"])
def test_a_convolution_loads_its_halos_once_per_tile(kernel: int, stride: int, pad: int, mode: str) -> None:
    """Exact enumeration of input elements: no tile is expanded kernel x kernel times (im2col)."""
    b = GraphBuilder("conv", "int8")
    graph = b.build([b.conv(b.input("x", (1, 12, 26, 22)), 24, kernel, stride, pad, bias=False)])
    target = chip("small")
    (step,) = make_plan(graph, target, Fabric(target), Assignment(target, mode, names=("conv",))).steps
    inputs: list[list[Elements]] = []
    weights: list[list[Elements]] = []
    for _, mine in tiles(step):
        inputs.append([])
        weights.append([])
        for tile in mine:
            channels = range(*tile["in_channel"])
            rows = window(tile["row"], 26, kernel, stride, pad)
            columns = window(tile["column"], 22, kernel, stride, pad)
            inputs[-1].append(frozenset(itertools.product(channels, rows, columns)))
            filters = range(*tile["out_channel"])
            taps = range(kernel * kernel)
            weights[-1].append(frozenset(itertools.product(filters, channels, taps)))
    wanted = loaded(step, {"input": inputs, "weight": weights})
    program = map_graph(graph, target, partition=mode)
    assert transfers(program, "conv", Kind.LOAD) == sum(wanted.values())
    assert transfers(program, "conv", Kind.STORE) == step.nest.out.tensor.size_bytes
    # The tiles themselves make the halos: more than the input, far from the window of every output.
    assert wanted["input"] >= len(frozenset().union(*(box for core in inputs for box in core)))
    expanded = 12 * kernel**2 * int(np.prod(graph.tensors["conv"].shape[2:]))
    assert kernel == 1 or wanted["input"] < 0.7 * expanded


@pytest.mark.parametrize("mode", ["data", "channel", "reduction"])
def test_a_matrix_product_moves_the_tiles_of_its_mapping(mode: str) -> None:
    b = GraphBuilder("gemm", "int8")
    graph = b.build([b.linear(b.input("x", (70, 300)), 90, bias=False)])
    target = chip("small")
    (step,) = make_plan(graph, target, Fabric(target), Assignment(target, mode, names=("linear",))).steps
    left: list[list[Elements]] = []
    right: list[list[Elements]] = []
    for _, mine in tiles(step):
        left.append([frozenset(itertools.product(range(*t["row"]), range(*t["inner"]))) for t in mine])
        right.append([frozenset(itertools.product(range(*t["inner"]), range(*t["column"]))) for t in mine])
    program = map_graph(graph, target, partition=mode)
    wanted = loaded(step, {"left": left, "right": right})
    assert transfers(program, "linear", Kind.LOAD) == sum(wanted.values())
    assert transfers(program, "linear", Kind.STORE) == 70 * 90
    assert sum(wanted.values()) >= 70 * 300 + 300 * 90


def chain() -> Graph:
    b = GraphBuilder("chain", "int8")
    x = b.linear(b.input("x", (64, 128)), 96, bias=False, name="first")
    return b.build([b.linear(b.relu(x, name="middle"), 32, bias=False, name="last")])


def dram_bytes(program: Program) -> tuple[int, int]:
    """(read, written) by the cores."""
    (segment,) = program.segments
    cores = np.array([queue.unit != "host" for queue in program.queues])[segment.queue]
    read, written = (
        int(segment.nbytes[cores & (segment.kind == kind)].sum()) for kind in (Kind.LOAD, Kind.STORE)
    )
    return read, written


@pytest.mark.parametrize(("middle", "round_trips"), [("d0", 0), ("d1", 2)])
def test_kept_results_never_reach_the_dram(tmp_path: Path, middle: str, round_trips: int) -> None:
    """Rows stay with their core from one operator to the next: input and weights are read once (the weights by
    multicast), only the last result is written. Split along columns in between, both results go out and back in."""
    file = tmp_path / "partition.yaml"
    file.write_text(
        "version: 1\noperators:\n"
        f"  first: {{split: {{row: 8}}}}\n  middle: {{split: {{{middle}: 8}}}}\n  last: {{split: {{row: 8}}}}\n"
    )
    program = map_graph(chain(), chip("lepton_m"), partition=str(file))
    between = round_trips * 64 * 96
    assert dram_bytes(program) == (64 * 128 + 128 * 96 + 96 * 32 + between, 64 * 32 + between)


def columns(program: Program) -> Iterator[npt.NDArray[np.generic]]:
    yield from (program.route_ptr, program.route_link, program.route_weight, program.route_hops)
    for s in program.segments:
        yield from (s.kind, s.queue, s.hold, s.dur, s.nbytes, s.route, s.release, s.pptr, s.pidx, s.op)


@pytest.mark.parametrize("mode", MODES)
def test_the_same_input_gives_the_same_program(mode: str) -> None:
    graph = GRAPHS["conv grouped"]()
    first, again = (map_graph(graph, chip("small"), partition=mode, inputs=2) for _ in range(2))
    for a, b in zip(columns(first), columns(again), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (first.queues, first.links, first.facts) == (again.queues, again.links, again.facts)
    assert [s.ops for s in first.segments] == [s.ops for s in again.segments]


def test_a_program_of_too_many_tasks_is_refused_before_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is above the tasks there would be, by no more than a factor."""
    program = map_graph(chain(), chip("small"))
    monkeypatch.setattr(lowering, "MAX_TASKS", program.tasks - 1)
    with pytest.raises(DoesNotFit, match="program of 'chain'") as caught:
        map_graph(chain(), chip("small"))
    assert program.tasks <= caught.value.needed + 2 <= 3 * program.tasks
    assert "fewer --inputs" not in caught.value.levers  # there is one
    assert "sim.bound" in caught.value.levers[-1]
    with pytest.raises(DoesNotFit, match="fewer --inputs"):
        map_graph(chain(), chip("small"), inputs=2)


def test_back_to_back_inputs_need_two_copies_in_dram() -> None:
    builder = GraphBuilder("wide", "int8")
    graph = builder.build([builder.relu(builder.input("x", (1024, 300_000)))])
    assert map_graph(graph, chip("tiny"), memo=MEMO).facts["dram"]["peak_bytes"] == 2 * 1024 * 300_000
    with pytest.raises(DoesNotFit) as refused:
        map_graph(graph, chip("tiny"), inputs=2, memo=MEMO)
    assert refused.value.needed == 4 * 1024 * 300_000
    assert "a single input (no --inputs)" in refused.value.levers
    assert "(0.00 GiB weights, 1.14 GiB in two copies of inputs and results)" in refused.value.what


def test_a_scalar_is_an_operator_too() -> None:
    """Operands without axes: one element read, one written."""
    b = GraphBuilder("scalar", "int8")
    graph = replace(b.build([b.elementwise("add", b.input("x", ()), b.input("y", ()))]), kernel=True)
    program = map_graph(graph, chip("lepton_s"))
    assert [int(nbytes) for nbytes in program.segments[0].nbytes if nbytes] == [1, 1, 1]
