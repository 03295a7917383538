"""The tag store against a plain one of dictionaries, and against what no cache can do better."""

from __future__ import annotations

import random
from collections import OrderedDict
from dataclasses import dataclass, replace

import numpy as np
import pytest

from sim.hw.tags import (
    ALLOCATE,
    BYPASS,
    EVICTED,
    HIT,
    MISS,
    PIN,
    REST,
    coarse_line,
    empty_tags,
    probe,
    probe_all,
)


@dataclass(frozen=True, slots=True)
class Shape:
    sets: int
    ways: int
    line: int
    skew: int = 0


@dataclass(frozen=True, slots=True)
class Region:
    address: int
    run: int
    count: tuple[int, int]
    pitch: tuple[int, int]
    write: bool = False
    policy: int = ALLOCATE

    def lines(self, line: int) -> list[tuple[int, int]]:
        """(line, bytes of it) of all runs, in order."""
        found = []
        for i in range(self.count[0]):
            for j in range(self.count[1]):
                start = self.address + i * self.pitch[0] + j * self.pitch[1]
                stop = start + self.run
                numbers = range(start // line, -(-stop // line))
                found += [(n, min(stop, n * line + line) - max(start, n * line)) for n in numbers]
        return found


def plain(shape: Shape, regions: list[Region]) -> list[list[int]]:
    """An LRU cache of one ordered dictionary per set: line -> [dirty, pinned]."""
    sets: list[OrderedDict[int, list[bool]]] = [OrderedDict() for _ in range(shape.sets)]
    results = []
    for region in regions:
        found = [0, 0, 0, 0]
        for number, asked in region.lines(shape.line):
            lines = sets[(number + number // shape.sets * shape.skew) % shape.sets]
            if number in lines:
                found[HIT] += asked
            else:
                found[MISS] += asked
                free = [k for k, (_, pinned) in lines.items() if not pinned]
                if region.policy == BYPASS or (len(lines) == shape.ways and not free):
                    continue
                if len(lines) == shape.ways and lines.pop(free[0])[0]:
                    found[EVICTED] += shape.line
                lines[number] = [False, False]
                found[REST] += shape.line - asked
            lines.move_to_end(number)
            lines[number][0] |= region.write
            if region.policy == PIN and sum(pinned for _, pinned in lines.values()) < shape.ways - 1:
                lines[number][1] = True
        results.append(found)
    return results


def ours(shape: Shape, regions: list[Region]) -> list[list[int]]:
    tags, found = empty_tags(shape.sets, shape.ways), np.zeros(4, np.int64)
    front = tags[:, 0].copy()
    results = []
    for r in regions:
        count, pitch = np.array(r.count, np.int64), np.array(r.pitch, np.int64)
        probe(tags, front, shape.line, shape.skew, r.address, r.run, count, pitch, r.write, r.policy, found)
        results.append(found.tolist())
    return results


def random_trace(
    seed: int, policies: tuple[int, ...] = (ALLOCATE, BYPASS, PIN)
) -> tuple[Shape, list[Region]]:
    rng = random.Random(seed)
    shape = Shape(
        rng.choice((1, 2, 5, 16)), rng.choice((1, 2, 4, 8)), rng.choice((1, 4, 32)), rng.choice((0, 1, 3))
    )
    size = shape.sets * shape.ways * shape.line
    regions = [
        Region(
            rng.randrange(2 * size),
            rng.randint(1, 4 * shape.line),
            (rng.randint(1, 3), rng.randint(1, 4)),
            (rng.randint(0, size), rng.randint(0, 6 * shape.line)),
            rng.random() < 0.3,
            rng.choice(policies),
        )
        for _ in range(rng.randint(20, 120))
    ]
    return shape, regions


@pytest.mark.parametrize("seed", range(200))
def test_random_traces_give_what_a_plain_cache_gives(seed: int) -> None:
    shape, regions = random_trace(seed)
    assert ours(shape, regions) == plain(shape, regions)


@pytest.mark.parametrize("seed", range(80))
def test_long_runs_and_tiles_that_several_cores_load_give_what_a_plain_cache_gives(seed: int) -> None:
    """Tens of lines in a row or at a pitch, many of them used last in their sets: those are looked up together. Runs
    begin within lines, and go round the sets; pitches are whole lines or not; hashed and not."""
    rng = random.Random(seed)
    shape = Shape(rng.choice((33, 64, 100)), rng.choice((1, 2, 4)), rng.choice((4, 32)), rng.choice((0, 1, 39, 61)))
    line, whole = shape.line, rng.random() < 0.6
    regions: list[Region] = []
    for _ in range(40):
        if regions and rng.random() < 0.6:
            tile = rng.choice(regions[-3:])
            policy = rng.choice((ALLOCATE, ALLOCATE, BYPASS, PIN))
            regions.append(replace(tile, write=rng.random() < 0.3, policy=policy))
            continue
        address = rng.randrange(6 * shape.sets) * line + (0 if whole else rng.randrange(line))
        long = rng.random() < 0.5
        run = rng.randint(1, 80) * line if long else rng.randint(1, line)
        pitch = rng.randint(0, 9) * line + (0 if whole else rng.randrange(line))
        rows, runs = rng.randint(1, 2), rng.randint(1, 2) if long else rng.randint(1, 70)
        regions.append(Region(address, run, (rows, runs), (rng.randint(0, 300) * line, pitch), rng.random() < 0.3))
    assert ours(shape, regions) == plain(shape, regions)


@pytest.mark.parametrize("seed", range(60))
def test_bytes_are_conserved(seed: int) -> None:
    """Hits and misses are what was asked; no more is written back than was made dirty."""
    shape, regions = random_trace(seed)
    found = np.array(ours(shape, regions))
    asked = [region.run * region.count[0] * region.count[1] for region in regions]
    assert (found[:, HIT] + found[:, MISS]).tolist() == asked
    dirtied = sum(len(region.lines(shape.line)) for region in regions if region.write) * shape.line
    assert found[:, EVICTED].sum() <= dirtied
    filled = found[:, MISS] + found[:, REST]
    whole = [r.policy == ALLOCATE or (shape.ways == 1 and r.policy == PIN) for r in regions]
    if all(r.policy != PIN for r in regions):
        assert (filled[whole] % shape.line == 0).all()


def belady_hits(shape: Shape, lines: list[int]) -> int:
    """Most hits that any replacement can have: the line whose next use is farthest goes, or is not let in (Belady,
    IBM Systems Journal 1966)."""
    upcoming: dict[int, list[int]] = {}
    for at, number in reversed(list(enumerate(lines))):
        upcoming.setdefault(number, []).append(at)
    held: list[set[int]] = [set() for _ in range(shape.sets)]
    hits = 0
    for number in lines:
        upcoming[number].pop()
        mine = held[number % shape.sets]
        hits += number in mine
        mine.add(number)
        if len(mine) > shape.ways:
            mine.remove(max(mine, key=lambda n: upcoming[n][-1] if upcoming[n] else len(lines)))
    return hits


@pytest.mark.parametrize("seed", range(40))
def test_no_more_hits_than_belady_and_no_more_than_lines_come_again(seed: int) -> None:
    shape, regions = random_trace(seed, (ALLOCATE,))
    lines = [number for region in regions for number, _ in region.lines(shape.line)]
    whole = [Region(n * shape.line, shape.line, (1, 1), (0, 0)) for n in lines]
    hits = sum(found[HIT] for found in ours(shape, whole)) // shape.line
    assert hits <= belady_hits(shape, lines) <= len(lines) - len(set(lines))
    large = Shape(shape.sets, len(set(lines)), shape.line)
    assert sum(found[HIT] for found in ours(large, whole)) // shape.line == len(lines) - len(set(lines))


def test_a_cyclic_sweep_one_line_larger_than_the_cache_never_hits() -> None:
    """The textbook case where LRU is worst and Belady is not: n ways, n + 1 lines in turn."""
    shape, sweep = Shape(1, 8, 64), [Region(64 * (i % 9), 64, (1, 1), (0, 0)) for i in range(90)]
    assert sum(found[HIT] for found in ours(shape, sweep)) == 0
    assert belady_hits(shape, [i % 9 for i in range(90)]) > 60


def test_a_region_row_by_row() -> None:
    """Two rows of 100 B at a pitch of 256 B in lines of 64 B: lines 0, 1, then 4, 5; 2 x 28 B are the rest."""
    shape = Shape(64, 2, 64)
    assert ours(shape, [Region(0, 100, (1, 2), (0, 256))] * 2) == [[0, 200, 56, 0], [200, 0, 0, 0]]


def test_pinned_lines_stay_and_leave_one_way() -> None:
    """Of three lines of one set that are to be pinned in four ways all are; a fourth is ordinary, and a stream passes
    through the one way that is left."""
    shape = Shape(1, 4, 8)
    pins = [Region(8 * i, 8, (1, 1), (0, 0), policy=PIN) for i in range(4)]
    stream = [Region(8 * i, 8, (1, 1), (0, 0)) for i in range(10, 30)]
    hits = [found[HIT] for found in ours(shape, [*pins, *stream, *pins])]
    assert hits[:24] == [0] * 24
    assert hits[24:] == [8, 8, 8, 0]


def test_a_written_line_is_written_back_once() -> None:
    shape = Shape(1, 1, 32)
    trace = [
        Region(0, 8, (1, 1), (0, 0), True),
        Region(32, 32, (1, 1), (0, 0)),
        Region(0, 32, (1, 1), (0, 0)),
    ]
    assert [found[EVICTED] for found in ours(shape, trace)] == [0, 32, 0]


@pytest.mark.parametrize("seed", range(60))
def test_lines_taken_together_behave_the_same(seed: int) -> None:
    """Where all is a multiple of several lines."""
    rng = random.Random(seed)
    sets, line, together = rng.choice((4, 12, 16)), 8, rng.choice((2, 4))
    fewer, longer = coarse_line(sets, line, line * together * rng.choice((1, 3)))
    assert longer > line
    assert fewer * longer == sets * line
    unit = longer
    regions = [
        Region(
            unit * rng.randrange(60),
            unit * rng.randint(1, 3),
            (1, rng.randint(1, 3)),
            (0, unit * rng.randint(1, 9)),
            rng.random() < 0.4,
            rng.choice((ALLOCATE, BYPASS, PIN)),
        )
        for _ in range(150)
    ]
    assert ours(Shape(fewer, 2, longer), regions) == ours(Shape(sets, 2, line), regions)


def test_a_table_of_probes_in_an_order() -> None:
    """The same line twice: the one that comes first misses, whichever row it is."""
    ones = np.ones((2, 1), np.int64)
    found = np.zeros((2, 4), np.int64)
    columns = (np.zeros(2, np.int64), np.full(2, 16, np.int64), ones, 0 * ones)
    rest = (np.zeros(2, np.bool_), np.zeros(2, np.int8))
    nothing = np.zeros((0, 4), np.int64)
    assert probe_all(empty_tags(4, 2), 16, 0, np.array([1, 0]), *columns, *rest, found, nothing)
    assert found.tolist() == [[16, 0, 0, 0], [0, 16, 0, 0]]
    again = np.zeros((2, 4), np.int64)
    assert probe_all(empty_tags(4, 2), 16, 0, np.array([1, 0]), *columns, *rest, again, found)
    assert not probe_all(empty_tags(4, 2), 16, 0, np.array([0, 1]), *columns, *rest, again, found)
