"""Legal random programs, made to be awkward: ties, crowded links, wide ranges, every kind of waiting."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import numpy as np

from sim.program import (
    MAX_TASK_BYTES,
    MIN_LINK_CAPACITY,
    Kind,
    Link,
    OpRow,
    Policy,
    Probes,
    Program,
    Queue,
    Segment,
    TagStore,
)

OP = OpRow("op", "matmul", "int8", "int32", macs=0)
TERABYTE_PER_S = 1 << 24
SMALL_TIMES = (1, 2, 3, 5)
ROUND_TIMES = (10, 100, 1000)


@dataclass(frozen=True, slots=True)
class Task:
    """One row of a segment, before it is turned into columns."""

    kind: Kind
    queue: int
    dur: int = 1
    hold: int = 0  # 0 stands for dur
    nbytes: int = 0
    route: int = -1
    release: int = 0
    after: tuple[int, ...] = ()


def build_segment(tasks: list[Task], name: str = "segment") -> Segment:
    """Columns of the tasks."""
    pptr = np.cumsum([0, *(len(task.after) for task in tasks)])
    return Segment(
        name=name,
        kind=np.array([task.kind for task in tasks], np.int8),
        queue=np.array([task.queue for task in tasks], np.int32),
        hold=np.array([task.hold or task.dur for task in tasks], np.int64),
        dur=np.array([task.dur for task in tasks], np.int64),
        nbytes=np.array([task.nbytes for task in tasks], np.int64),
        route=np.array([task.route for task in tasks], np.int32),
        release=np.array([task.release for task in tasks], np.int64),
        pptr=pptr.astype(np.int32),
        pidx=np.array([before for task in tasks for before in task.after], np.int32),
        op=np.zeros(len(tasks), np.int32),
        ops=(OP,),
    )


def build_program(
    segments: list[list[Task]],
    outstanding: list[int],
    capacities: list[int],
    routes: list[list[tuple[int, int]]],
    repeats: tuple[int, ...] | None = None,
) -> Program:
    """A valid program; `outstanding` has one entry per queue (0: compute), `routes` (link, weight) pairs."""
    units = ["load" if limit else "array" for limit in outstanding]
    program = Program(
        name="program",
        segments=tuple(build_segment(tasks, f"segment{i}") for i, tasks in enumerate(segments)),
        repeats=repeats or (1,) * len(segments),
        queues=tuple(Queue(f"q{i}", units[i], 0, limit) for i, limit in enumerate(outstanding)),
        links=tuple(Link(f"l{i}", "noc", capacity) for i, capacity in enumerate(capacities)),
        route_ptr=np.cumsum([0, *(len(route) for route in routes)]).astype(np.int32),
        route_link=np.array([link for route in routes for link, _ in route], np.int32),
        route_weight=np.array([weight for route in routes for _, weight in route], np.int32),
        route_hops=np.array([len(route) for route in routes], np.int32),
    )
    program.validate()
    return program


def random_program(seed: int, large: bool = False, hub: bool = False) -> Program:
    """The program of a seed: 1 to 3 segments of up to 40 tasks on up to 8 queues, 6 links and 8 routes;
    a large one has up to 4 times as many of each; with a hub, all routes cross the first link."""
    rng = random.Random(seed)
    scale = 4 if large else 1
    capacities = _capacities(rng, 6 * scale)
    routes = [_route(rng, len(capacities)) for _ in range(rng.randint(1, 8 * scale))]
    if hub:
        weight = rng.choice((256, 256, 300))
        routes = [[*((link, 256) for link, _ in route if link), (0, weight)] for route in routes]
        capacities[0] *= rng.choice((1, 2, 3, 4))
    outstanding = [rng.choice((0, 1, 2, 3)) for _ in range(rng.randint(1, 8 * scale))]
    segments = [_tasks(rng, outstanding, len(routes), 40 * scale) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
    repeats = tuple(rng.randint(1, 3) for _ in segments)
    return build_program(segments, outstanding, capacities, routes, repeats)


def cached_program(seed: int, large: bool = False, hub: bool = False) -> Program:
    """A random program in which many transfers probe a small cache: lines that come and go, in few sets, of few
    tensors that overlap; regions of up to three levels; each segment repeated, some in several passes."""
    rng = random.Random(-1 - seed)
    program = random_program(seed, large, hub)
    cache = TagStore(
        rng.choice((1, 2, 3, 8)), rng.choice((1, 2, 4)), rng.choice((1, 8, 64)), rng.random() < 0.3
    )
    repeats = tuple(rng.choice((1, 2, 5)) for _ in program.segments)
    times = rng.choice((1, 1, 2))
    together = 2 if cache.sets % 2 == 0 else 1
    unit = together * cache.line_bytes if rng.random() < 0.5 else 1
    own = random.Random(seed)
    if own.random() < 0.4:  # some lines are there when a pass begins
        regions = ((own.randrange(0, 40) * unit, own.randint(1, 12) * unit) for _ in range(own.randint(1, 3)))
        cache = replace(cache, warm=tuple(regions))
    program = replace(
        program,
        segments=tuple(
            _with_probes(s, cache, n, len(program.route_ptr) - 1, rng, unit)
            for s, n in zip(program.segments, repeats, strict=True)
        ),
        repeats=tuple(n * times for n in repeats),
        cache=cache,
        passes=((len(repeats), times),),
    )
    program.validate()
    return program


def _with_probes(
    segment: Segment, cache: TagStore, repeats: int, routes: int, rng: random.Random, unit: int
) -> Segment:
    """Most transfers of a segment probe regions of a few lines; everything is a multiple of `unit`."""
    moves = np.flatnonzero(segment.route >= 0).tolist()
    tasks = sorted(rng.sample(moves, rng.randint((len(moves) + 1) // 2, len(moves))))
    tensors = rng.randint(1, 3)
    size = max(unit, cache.sets * cache.ways * cache.line_bytes * rng.choice((1, 2, 4)) // unit * unit)
    rows, n = [], len(tasks)
    for _ in tasks:
        count = [rng.choice((1, 1, 2, 3)) for _ in range(2)]
        pitch = [unit * rng.randint(0, 2 * cache.line_bytes) for _ in range(2)]
        run = unit * rng.randint(1, max(1, 3 * cache.line_bytes // unit))
        rows.append((rng.randrange(size) // unit * unit, run, count, pitch))
    nbytes = segment.nbytes.copy()
    count = np.array([row[2] for row in rows], np.int64).reshape(n, 2)
    run = np.array([row[1] for row in rows], np.int64)
    nbytes[tasks] = run * count.prod(axis=1)
    steps = [unit * rng.choice((0, 0, 1, cache.line_bytes)) for _ in range(tensors)]
    return replace(
        segment,
        nbytes=nbytes,
        probes=Probes(
            task=np.array(tasks, np.int32),
            write=np.array([rng.random() < 0.4 for _ in tasks], np.bool_),
            policy=np.array([rng.choice((0, 0, 0, *Policy)) for _ in tasks], np.int8),
            tensor=np.array([rng.randrange(tensors) for _ in tasks], np.int32),
            address=np.array([row[0] for row in rows], np.int64),
            run_bytes=run,
            count=count,
            pitch=np.array([row[3] for row in rows], np.int64).reshape(n, 2),
            hit_route=np.array([rng.randrange(routes) for _ in tasks], np.int32),
            hit_dur=np.array([rng.choice((1, 3, 100, int(segment.dur[t]))) for t in tasks], np.int64),
            rest_route=np.array([rng.randrange(routes) for _ in tasks], np.int32),
            tensors=tuple(f"t{i}" for i in range(tensors)),
            shift=np.arange(repeats)[:, None] * np.array([steps], np.int64),
        ),
    )


def relabelled(program: Program, seed: int) -> tuple[Program, list[np.ndarray]]:
    """The same program with queues, links, routes, hops and predecessors in another order, and the tasks in
    another one that keeps the order of each queue and puts predecessors first; and where each task went."""
    rng = np.random.default_rng(seed)
    queue, link, route = (
        rng.permutation(n) for n in (len(program.queues), len(program.links), len(program.route_ptr) - 1)
    )
    hops: list[list[tuple[int, int]]] = [[] for _ in route]
    for old, new in enumerate(route):
        for entry in rng.permutation(np.arange(program.route_ptr[old], program.route_ptr[old + 1])):
            hops[new].append((int(link[program.route_link[entry]]), int(program.route_weight[entry])))
    places = [_another_order(segment, rng) for segment in program.segments]
    segments = []
    for segment, place in zip(program.segments, places, strict=True):
        tasks: list[Task | None] = [None] * segment.tasks
        for old, task in enumerate(tasks_of(segment)):
            after = rng.permutation(place[list(task.after)]) if task.after else ()
            tasks[place[old]] = replace(
                task,
                queue=int(queue[task.queue]),
                route=-1 if task.route < 0 else int(route[task.route]),
                after=tuple(int(before) for before in after),
            )
        segments.append([task for task in tasks if task is not None])
    outstanding = program.outstanding[np.argsort(queue)].tolist()
    capacities = program.capacity[np.argsort(link)].tolist()
    return build_program(segments, outstanding, capacities, hops, program.repeats), places


def tasks_of(segment: Segment) -> list[Task]:
    """The rows of a segment."""
    return [
        Task(
            kind=Kind(int(segment.kind[i])),
            queue=int(segment.queue[i]),
            dur=int(segment.dur[i]),
            hold=int(segment.hold[i]),
            nbytes=int(segment.nbytes[i]),
            route=int(segment.route[i]),
            release=int(segment.release[i]),
            after=tuple(segment.pidx[segment.pptr[i] : segment.pptr[i + 1]].tolist()),
        )
        for i in range(segment.tasks)
    ]


def _another_order(segment: Segment, rng: np.random.Generator) -> np.ndarray:
    """A random topological order of the tasks; entry i is where task i goes."""
    waits_for = [set(task.after) for task in tasks_of(segment)]
    last_of_queue: dict[int, int] = {}
    for task, queue in enumerate(segment.queue.tolist()):
        if queue in last_of_queue:
            waits_for[task].add(last_of_queue[queue])
        last_of_queue[queue] = task
    place = np.full(segment.tasks, -1)
    for position in range(segment.tasks):
        free = [t for t in range(segment.tasks) if place[t] < 0 and all(place[b] >= 0 for b in waits_for[t])]
        place[rng.choice(free)] = position
    return place


def _capacities(rng: random.Random, most: int) -> list[int]:
    count = rng.randint(1, most)
    style = rng.choice(("equal", "equal", "near", "wide"))
    if style == "equal":
        return [
            rng.choice((MIN_LINK_CAPACITY, MIN_LINK_CAPACITY + rng.randint(1, 999), TERABYTE_PER_S))
        ] * count
    if style == "near":
        return [TERABYTE_PER_S + rng.randint(-3, 3) for _ in range(count)]
    return [MIN_LINK_CAPACITY << rng.randint(0, 24) for _ in range(count)]


def _route(rng: random.Random, links: int) -> list[tuple[int, int]]:
    hops = rng.sample(range(links), rng.randint(1, min(links, rng.choice((1, 2, 4, 6)))))
    weighted = rng.random() < 0.5
    return [(link, rng.randint(256, 2000) if weighted and rng.random() < 0.5 else 256) for link in hops]


def _tasks(rng: random.Random, outstanding: list[int], routes: int, most: int) -> list[Task]:
    times = rng.choice((SMALL_TIMES, ROUND_TIMES, tuple(rng.randint(1, 10**6) for _ in range(5))))
    sizes = rng.choice(((1,), (64, 128), (1, 64, 4096, 10**6), (10**9, MAX_TASK_BYTES - 1)))
    edges = rng.choice((0, 1, 3))
    tasks: list[Task] = []
    for i in range(rng.randint(1, most)):
        queue = rng.randrange(len(outstanding))
        dur = rng.choice(times)
        after = tuple(rng.sample(range(i), min(i, rng.randint(0, edges))))
        release = rng.choice(times) * rng.randint(1, 10) if rng.random() < 0.1 else 0
        if outstanding[queue]:
            kind = rng.choice((Kind.LOAD, Kind.STORE, Kind.SEND))
            route, nbytes = rng.randrange(routes), rng.choice(sizes)
            tasks.append(Task(kind, queue, dur, 0, nbytes, route, release, after))
        else:
            kind = rng.choice((Kind.MATMUL, Kind.VECTOR, Kind.BARRIER))
            hold = rng.choice((dur, 1, rng.randint(1, dur)))
            tasks.append(Task(kind, queue, dur, hold, 0, -1, release, after))
    return tasks
