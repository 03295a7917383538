"""Bytes by exact enumeration of what tiles touch, and energy that never falls when more is moved."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from operator_graphs import GRAPHS, chip

from sim.cost.energy import IDLE, operator_energy
from sim.cost.traffic import operator_traffic
from sim.cost.transfers import program_routes
from sim.graph.graph import Graph
from sim.graph.tensor import DTYPE_BITS
from sim.hw.chip import Chip
from sim.hw.technology import load_technology
from sim.pipeline import plan, simulate
from sim.program import Kind, Program, Segment, Space

CHIPS = ("tiny", "small")


def without_cache(name: str) -> Chip:
    found = chip(name)
    return found if found.cache is None else found.replace_many({"cache": None})


def kernel(name: str) -> Graph:
    """The operators between, too; what comes in lies in DRAM, so that no byte passes the host link."""
    return replace(GRAPHS[name](), kernel=True)


def loads_enumerated(segment: Segment, graph: Graph) -> int:
    """Bytes to load, from what the computing tasks of each core read of their scratchpad in turn: a box that is not
    the one before at its place has to be fetched; cores that fetch the same box at the same turn share it."""
    found = segment.functional
    assert found is not None
    last: dict[tuple[int, int, int, int], object] = {}
    turns: dict[tuple[int, int, int], int] = {}
    shared: set[tuple[int, int, int, int, tuple[int, ...], tuple[int, ...]]] = set()
    for task in range(segment.tasks):
        if segment.kind[task] not in (Kind.MATMUL, Kind.VECTOR):
            continue
        op = int(segment.op[task])
        for row in range(int(found.aptr[task]), int(found.aptr[task + 1])):
            operand = int(found.operand[row])
            if found.write[row] or operand < 0 or found.space[row] != Space.SCRATCHPAD:
                continue
            box = (tuple(found.start[row].tolist()), tuple(found.stop[row].tolist()))
            key = (op, int(found.core[row]), operand)
            place = (*key, int(found.address_bytes[row]))
            if last.get(place) != box:
                last[place] = box
                turns[key] = turns.get(key, -1) + 1
                shared.add((op, operand, turns[key], int(found.tensor[row]), *box))
    total = 0
    for _, _, _, tensor, start, stop in shared:
        elements = int(np.prod([high - low for low, high in zip(start, stop, strict=True)]))
        total += elements * DTYPE_BITS[graph.tensors[found.tensors[tensor]].dtype] // 8
    return total


def test_loads_and_stores_are_those_of_an_enumeration() -> None:
    """Every operator kind; stores write every element of a result that goes to DRAM exactly once."""
    for name, on in itertools.product(GRAPHS, CHIPS):
        graph, _, program = plan(kernel(name), without_cache(on), functional=True)
        assert isinstance(graph, Graph)
        (segment,) = program.segments
        traffic = operator_traffic(program, segment, program_routes(program))
        assert traffic.dram_read_bytes.sum() == loads_enumerated(segment, graph), (name, on)
        sizes, stored = elements_written(segment)
        assert stored == sizes, "an element was stored twice"
        whole = {n: int(np.prod(graph.tensors[n].shape)) for n in sizes}
        assert {n for n in sizes if sizes[n] != whole[n]} <= partly(graph), (name, on)
        total = sum(size * DTYPE_BITS[graph.tensors[n].dtype] // 8 for n, size in sizes.items())
        assert traffic.dram_write_bytes.sum() == total, (name, on)


def partly(graph: Graph) -> set[str]:
    """Caches of which an update writes only some rows."""
    return {name for op in graph.ops if op.kind == "cache_update" for name in (op.inputs[0], op.output)}


def elements_written(segment: Segment) -> tuple[dict[str, int], dict[str, int]]:
    """How many distinct elements of each tensor stores write to DRAM, and how many they write in all."""
    found = segment.functional
    assert found is not None
    written: dict[str, set[tuple[int, ...]]] = defaultdict(set)
    count: dict[str, int] = defaultdict(int)
    for task in np.flatnonzero(segment.kind == Kind.STORE):
        for row in range(int(found.aptr[task]), int(found.aptr[task + 1])):
            if found.write[row] and found.space[row] == Space.DRAM:
                box = [range(*pair) for pair in zip(found.start[row].tolist(), found.stop[row].tolist(), strict=True)]
                name = found.tensors[int(found.tensor[row])]
                elements = set(itertools.product(*box))
                count[name] += len(elements)
                written[name] |= elements
    return {name: len(elements) for name, elements in written.items()}, dict(count)


def joules(program: Program, segment: Segment, target: Chip) -> dict[str, float]:
    """By component, for a run of one second."""
    traffic = operator_traffic(program, segment, program_routes(program))
    elapsed_s = np.full(len(segment.ops), 1.0 / len(segment.ops))
    found = operator_energy(program, segment, traffic, target, load_technology(target.technology), elapsed_s)
    return {name: float(values.sum()) for name, values in found.items()}


@pytest.mark.parametrize("on", ["lepton_s", "ring"])
def test_no_component_takes_less_energy_when_a_transfer_grows(on: str) -> None:
    """Every tenth transfer of a program by itself, 64 bytes more: what it crosses takes more, the rest the same."""
    _, target, program = plan(GRAPHS["conv"](), without_cache(on))
    (segment,) = program.segments
    before = joules(program, segment, target)
    routes = program_routes(program)
    for task in np.flatnonzero(segment.route >= 0)[::10].tolist():
        nbytes = segment.nbytes.copy()
        nbytes[task] += 64
        after = joules(program, replace(segment, nbytes=nbytes), target)
        more = {name for name in after if after[name] > before[name] * (1 + 1e-12)}
        assert all(after[name] >= before[name] for name in before)
        crossed = {kind for kind, count in routes.crossings.items() if count[segment.route[task]]}
        assert ("dma" in more) == ("dma" in crossed)
        assert ("dram_io" in more) == ("dram" in crossed)
        assert ("host" in more) == ("host" in crossed)
        assert ("noc" in more) == (routes.hops[segment.route[task]] > 0)
        assert len(more & {"dram_read", "dram_write"}) == ("dram" in crossed)


def test_twice_the_work_takes_twice_the_energy_but_for_idling() -> None:
    _, target, program = plan(GRAPHS["conv"](), without_cache("lepton_s"))
    (segment,) = program.segments
    ops = tuple(
        replace(op, macs=2 * op.macs, counts={name: 2 * count for name, count in op.counts.items()})
        for op in segment.ops
    )
    once = joules(program, segment, target)
    twice = joules(program, replace(segment, nbytes=2 * segment.nbytes, ops=ops), target)
    # Sequencing and clocks follow tasks and time, which are the same.
    for name in once.keys() - {*IDLE, "control"}:
        assert twice[name] == pytest.approx(2 * once[name], rel=1e-9), name
    assert twice["control"] > once["control"]


def test_a_mapping_that_moves_more_takes_more_energy_for_it() -> None:
    """The same product under four partitions: reads of DRAM and hops on the chip in the order of their energies."""
    reports = [
        simulate("gemm:512x384x640", "lepton_m", dtype="int8", partition=mode, overrides={"cache": None})
        for mode in ("auto", "data", "channel", "reduction")
    ]
    moved = {"dram_read_bytes": "dram_read", "dram_write_bytes": "dram_write", "noc_bytes": "noc"}
    for traffic, component in moved.items():
        pairs = []
        for report in reports:
            energies = report.energy.set_index("component")["energy_j"]
            pairs.append((float(report[traffic]), float(energies[component])))  # type: ignore[arg-type]
        for (less, low), (more, high) in itertools.pairwise(sorted(pairs)):
            assert high >= low
            # The same energy per byte; none for none (one core, on a memory port, crosses no link).
            assert high * less == pytest.approx(low * more, rel=1e-9)
    assert len({report["noc_bytes"] for report in reports}) > 2
