"""Every class of edges is needed: without it the happens-before check reports a race, whatever the durations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache

import numpy as np
import numpy.typing as npt
import pytest
from operator_graphs import chip

from sim.engine.ordering import find_races
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.mapping.mapper import map_graph
from sim.program import Kind, Program, Segment

Bool = npt.NDArray[np.bool_]
LOAD, STORE, MATMUL, VECTOR, SEND, BARRIER = Kind


def convolutions() -> Graph:
    b = GraphBuilder("convolutions", "int8")
    x = b.relu(b.conv(b.input("x", (1, 8, 20, 20)), 16, 3, padding=1))
    y = b.conv(x, 16, 3, padding=1)
    return b.build([b.add(b.conv(b.relu(y), 16, 3, padding=1), y)])


def layers() -> Graph:
    b = GraphBuilder("layers", "int8")
    x = b.input("x", (48, 256))
    for width in (96, 64, 96):
        x = b.linear(x, width)
    return b.build([x])


def lookup() -> Graph:
    """A table computed on the chip, read by indices: any row may be any tile's."""
    b = GraphBuilder("lookup", "int8")
    table = b.relu(b.input("x", (64, 256)))
    return b.build([b.gather(table, b.input("indices", (40,), "int32"))])


def vectors() -> Graph:
    """Vector operators that leave their results to each other in the scratchpads."""
    b = GraphBuilder("vectors", "int8")
    return b.build([b.tanh(b.softmax(b.tanh(b.input("x", (96, 64))), 1))])


def cache_steps() -> Graph:
    b = GraphBuilder("cache", "int8")
    return b.build([b.relu(b.cache_update(b.state("cache", (4, 128, 64)), b.input("x", (4, 3, 64)), 1, 5))])


@cache
def programs() -> Mapping[str, Program]:
    return {
        "convolutions": map_graph(convolutions(), chip("small"), inputs=3, functional=True),
        "reduction": map_graph(layers(), chip("ring"), partition="reduction", functional=True),
        "one core": map_graph(layers(), chip("tiny"), functional=True),
        "pipeline": map_graph(convolutions(), chip("ring"), partition="pipeline", inputs=3, functional=True),
        "lookup": map_graph(lookup(), chip("small"), functional=True),
        "vectors": map_graph(vectors(), chip("small"), functional=True),
        "cache": map_graph(cache_steps(), chip("lepton_s"), inputs=2, functional=True),
    }


class Edges:
    """The edges of a segment: kinds of both ends, whether both belong to one operator, and its input."""

    def __init__(self, program: Program, segment: Segment) -> None:
        self.task = np.repeat(np.arange(segment.tasks), np.diff(segment.pptr))
        self.before = segment.pidx.astype(np.int64)
        self.same = segment.op[self.task] == segment.op[self.before]
        self.kinds = segment.kind[self.task], segment.kind[self.before]
        number = np.array([row.input_index for row in segment.ops])[segment.op]
        self.next_input = number[self.task] > number[self.before]
        self.host = np.array([row.name.startswith("host") for row in segment.ops])[segment.op]

    def between(self, task: Kind, before: Kind) -> Bool:
        return np.asarray((self.kinds[0] == task) & (self.kinds[1] == before))


Select = Callable[[Edges], Bool]
CLASSES: Mapping[str, tuple[str, Select]] = {
    "product waits for its loads": ("one core", lambda e: e.between(MATMUL, LOAD)),
    "drain waits for its loads": ("one core", lambda e: e.between(VECTOR, LOAD)),
    "load waits for the last product on its slot": ("one core", lambda e: e.between(LOAD, MATMUL) & e.same),
    "load waits for the last drain on its slot": ("reduction", lambda e: e.between(LOAD, VECTOR) & e.same),
    "drain waits for its sum": ("one core", lambda e: e.between(VECTOR, MATMUL) & e.same),
    "store waits for its drain": ("one core", lambda e: e.between(STORE, VECTOR) & e.same),
    "drain waits for the store of its slot": ("one core", lambda e: e.between(VECTOR, STORE) & e.same),
    "sum waits for its half of the accumulator": ("one core", lambda e: e.between(MATMUL, VECTOR) & e.same),
    "accumulator passes to the next operator": ("reduction", lambda e: e.between(MATMUL, VECTOR) & ~e.same),
    "load waits for the store of what it loads": (
        "convolutions",
        lambda e: e.between(LOAD, STORE) & ~e.host[e.task],
    ),
    "reading in place waits for what was computed": (
        "vectors",
        lambda e: e.between(VECTOR, VECTOR) & ~e.same,
    ),
    "scratchpad is filled after the last operator's use": (
        "one core",
        lambda e: e.between(LOAD, MATMUL) & ~e.same,
    ),
    "slot is filled after the last operator's stores": (
        "pipeline",
        lambda e: e.between(VECTOR, STORE) & ~e.same,
    ),
    "store waits for readers of the memory it reuses": (
        "convolutions",
        lambda e: (e.between(STORE, VECTOR) | e.between(STORE, MATMUL) | e.between(STORE, BARRIER)) & ~e.same,
    ),
    "a message waits for the part it carries": ("reduction", lambda e: e.between(SEND, VECTOR)),
    "an addition waits for its message": ("reduction", lambda e: e.between(VECTOR, SEND)),
    "an addition waits for the one before": ("reduction", lambda e: e.between(VECTOR, VECTOR)),
    "chip waits for the host's input": ("reduction", lambda e: e.host[e.before] & e.between(LOAD, LOAD)),
    "host waits for the result": ("pipeline", lambda e: e.host[e.task] & e.between(STORE, STORE)),
    "host's input waits for readers of the last but one": (
        "convolutions",
        lambda e: e.host[e.task] & (e.between(LOAD, VECTOR) | e.between(LOAD, MATMUL)),
    ),
    "gather waits for the whole table": (
        "lookup",
        lambda e: e.between(LOAD, STORE) | e.between(LOAD, BARRIER),
    ),
    "state is overwritten after the input before read it": (
        "cache",
        lambda e: (e.between(STORE, VECTOR) | e.between(STORE, LOAD) | e.between(STORE, MATMUL)) & e.next_input,
    ),
}


def without(program: Program, select: Select) -> tuple[Program, int]:
    """The program without the selected edges, and how many they were."""
    (segment,) = program.segments
    edges = Edges(program, segment)
    gone = select(edges)
    counts = np.bincount(edges.task[~gone], minlength=segment.tasks)
    pointers = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    cut = replace(segment, pptr=pointers, pidx=segment.pidx[~gone])
    return replace(program, segments=(cut,)), int(gone.sum())


@pytest.mark.parametrize("name", ["convolutions", "reduction", "one core", "pipeline", "lookup", "vectors", "cache"])
def test_with_all_edges_there_is_no_race(name: str) -> None:
    assert find_races(programs()[name]) == []


@pytest.mark.parametrize("name", CLASSES)
def test_without_a_class_of_edges_there_are_races(name: str) -> None:
    program, select = CLASSES[name]
    cut, gone = without(programs()[program], select)
    cut.validate()
    assert gone > 0
    races = find_races(cut)
    assert races, f"{gone} edges are not needed"
    assert all(race.other < race.task for race in races)
