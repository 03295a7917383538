"""Speed of the two engines on the desynchronised program, in tasks per second of CPU time.

    python benchmarks/engine.py [--tasks 400000] [--repeats 5]

The desynchronised program: every core works through tiles of its own random sizes, so that no two cores ever do
the same thing at the same instant and almost every change of the network is a settle of its own. A tile is two
LOADs (4 to 64 KiB, one queue with two transfers in flight), a MATMUL that waits for both, and a VECTOR that waits
for the MATMUL; the LOADs wait for the MATMUL of two tiles before, whose buffers they fill. A LOAD crosses four
links: the core's own DMA (128 GB/s), a row shared by 4 cores (256 GB/s), a port shared by 16 (800 GB/s) and the
DRAM shared by all (48 GB/s per core, weights 300 and 400). The DRAM is the bottleneck most of the time: every
change of one flow then changes the rates of all, the worst case for the compiled engine. The last two columns are the
same with weights of 256 (every transfer at full efficiency) and with every LOAD looking into a cache.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from sim.engine import compiled, reference
from sim.program import Kind, Link, OpRow, Probes, Program, Queue, Segment, TagStore, link_capacity
from sim.timeline import Timeline

CORES = (1, 4, 16, 64)
REFERENCE_TASKS = {1: 20_000, 4: 20_000, 16: 8_000, 64: 4_000}
LOAD_A, LOAD_B, MATMUL, VECTOR = range(4)
TASKS_PER_TILE = 4
LINE_BYTES = 128


def desynchronised(cores: int, tasks: int, seed: int = 0) -> Program:
    """The program described above, with about `tasks` tasks, laid out tile by tile and core by core."""
    rng = np.random.default_rng(seed)
    tiles = max(3, tasks // (TASKS_PER_TILE * cores))
    shape = (tiles, cores, TASKS_PER_TILE)
    kind = np.broadcast_to(np.array([Kind.LOAD, Kind.LOAD, Kind.MATMUL, Kind.VECTOR], np.int8), shape)
    core = np.broadcast_to(np.arange(cores)[:, None], shape)
    dur = rng.integers(200_000, 1_200_000, shape)
    dur[..., : LOAD_B + 1] = 100_000
    hold = dur.copy()
    hold[..., MATMUL] -= rng.integers(0, 150_000, shape[:2])
    nbytes = np.zeros(shape, np.int64)
    nbytes[..., : LOAD_B + 1] = rng.integers(4 << 10, 64 << 10, (tiles, cores, 2))
    pptr, pidx = _predecessors(np.arange(tiles * cores * TASKS_PER_TILE).reshape(shape))
    segment = Segment(
        name="tiles",
        kind=kind.ravel(),
        queue=(3 * core + np.array([0, 0, 1, 2])).ravel().astype(np.int32),
        hold=hold.ravel(),
        dur=dur.ravel(),
        nbytes=nbytes.ravel(),
        route=np.where(nbytes > 0, 2 * core + np.arange(TASKS_PER_TILE), -1).ravel().astype(np.int32),
        release=np.zeros(kind.size, np.int64),
        pptr=pptr,
        pidx=pidx,
        op=np.zeros(kind.size, np.int32),
        ops=(OpRow("gemm", "matmul", "int8", "int32", macs=0),),
    )
    return _on_chip(segment, cores)


def _predecessors(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compressed rows: [MATMUL two tiles before], the same, [both LOADs], [the MATMUL]."""
    freed = np.full(ids.shape[:2], -1)
    freed[2:] = ids[:-2, :, MATMUL]
    none = np.full_like(freed, -1)
    first = np.stack([freed, freed, ids[..., LOAD_A], ids[..., MATMUL]], axis=-1)
    second = np.stack([none, none, ids[..., LOAD_B], none], axis=-1)
    rows = np.stack([first, second], axis=-1).reshape(-1, 2)
    pptr = np.concatenate([[0], np.cumsum((rows >= 0).sum(axis=1))])
    return pptr.astype(np.int32), rows[rows >= 0].astype(np.int32)


def _on_chip(segment: Segment, cores: int) -> Program:
    queues = [
        Queue(f"core{core}.{unit}", unit, core, outstanding)
        for core in range(cores)
        for unit, outstanding in (("load", 2), ("array", 0), ("vector", 0))
    ]
    rows, ports = -(-cores // 4), -(-cores // 16)
    links = [
        *(Link(f"core{core}.dma", "dma", link_capacity(128e9)) for core in range(cores)),
        *(Link(f"row{row}", "noc", link_capacity(256e9)) for row in range(rows)),
        *(Link(f"port{port}", "port", link_capacity(800e9)) for port in range(ports)),
        Link("dram", "dram", link_capacity(cores * 48e9)),
    ]
    hops = [(c, cores + c // 4, cores + rows + c // 16, len(links) - 1) for c in range(cores)]
    return Program(
        name=f"desynchronised on {cores} cores",
        segments=(segment,),
        repeats=(1,),
        queues=tuple(queues),
        links=tuple(links),
        route_ptr=np.arange(0, 8 * cores + 1, 4, dtype=np.int32),
        route_link=np.repeat(np.array(hops, np.int32), 2, axis=0).ravel(),
        route_weight=np.tile(np.array([256, 256, 256, 300, 256, 256, 256, 400], np.int32), cores),
        route_hops=np.full(2 * cores, 2, np.int32),
    )


def probing(program: Program, seed: int = 0) -> Program:
    """The program with every LOAD looking into a cache of 32 MiB (16 ways, lines of 128 B), for whole lines of an area
    of 48 MiB: some two thirds hit, the others evict. A LOAD asks for 270 lines on average."""
    rng = np.random.default_rng(seed)
    (segment,) = program.segments
    task = np.flatnonzero(segment.route >= 0).astype(np.int32)
    n, nbytes, route = len(task), segment.nbytes.copy(), segment.route[task]
    nbytes[task] = -(-nbytes[task] // LINE_BYTES) * LINE_BYTES
    one = np.ones((n, 1), np.int64)
    probes = Probes(
        task=task,
        write=rng.random(n) < 0.3,
        policy=np.zeros(n, np.int8),
        tensor=np.zeros(n, np.int32),
        address=rng.integers(0, (48 << 20) // LINE_BYTES, n) * LINE_BYTES,
        run_bytes=nbytes[task],
        count=one,
        pitch=0 * one,
        hit_route=route + np.int32(len(program.route_ptr) - 1),
        hit_dur=np.full(n, 50_000, np.int64),
        rest_route=np.full(n, 2 * (len(program.route_ptr) - 1), np.int32),
        tensors=("x",),
        shift=np.zeros((1, 1), np.int64),
    )
    # What hits crosses the cache (twice as fast) in place of the DRAM, the last link; write-backs cross both.
    dram, cache = len(program.links) - 1, len(program.links)
    links = (*program.links, Link("cache", "cache", 2 * program.links[-1].capacity))
    hops = np.where(program.route_link == dram, cache, program.route_link)
    weight = np.where(program.route_link == dram, 256, program.route_weight)
    end = int(program.route_ptr[-1])
    return replace(
        program,
        segments=(replace(segment, nbytes=nbytes, probes=probes),),
        links=links,
        route_ptr=np.concatenate([program.route_ptr, program.route_ptr[1:] + end, [2 * end + 2]]).astype(
            np.int32
        ),
        route_link=np.concatenate([program.route_link, hops, [dram, cache]]).astype(np.int32),
        route_weight=np.concatenate([program.route_weight, weight, [300, 256]]).astype(np.int32),
        route_hops=np.concatenate([program.route_hops, program.route_hops, [0]]).astype(np.int32),
        cache=TagStore((32 << 20) // (16 * LINE_BYTES), 16, LINE_BYTES),
    )


def tasks_per_s(run: Callable[[Program], Timeline], program: Program, repeats: int) -> tuple[float, float]:
    """Median and best over the repeats, per second of CPU time."""
    spent_s = []
    for _ in range(repeats):
        begin_s = time.process_time()
        run(program)
        spent_s.append(time.process_time() - begin_s)
    return program.tasks / float(np.median(spent_s)), program.tasks / min(spent_s)


def same_ticks(program: Program) -> bool:
    """Whether the engines agree on every start and finish."""
    (a,), (b,) = compiled.run(program).segments, reference.run(program).segments
    return np.array_equal(a.start, b.start) and np.array_equal(a.finish, b.finish)


def main() -> None:
    parser = argparse.ArgumentParser(description="Tasks per second of the two engines")
    parser.add_argument("--tasks", type=int, default=400_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    compiled.run(desynchronised(1, 100))
    print(
        f"{'cores':>5} {'compiled/s':>11} {'best':>11} {'reference/s':>11} {'ratio':>6}  same ticks"
        f"  {'unweighted/s':>12}  {'cache/s':>9}"
    )
    for cores in CORES:
        program = desynchronised(cores, options.tasks)
        median, best = tasks_per_s(compiled.run, program, options.repeats)
        plain = replace(program, route_weight=np.full_like(program.route_weight, 256))
        unweighted, _ = tasks_per_s(compiled.run, plain, options.repeats)
        small = desynchronised(cores, REFERENCE_TASKS[cores])
        slow, _ = tasks_per_s(reference.run, small, 1)
        probed = probing(desynchronised(cores, options.tasks // 8))
        looking, _ = tasks_per_s(compiled.run, probed, options.repeats)
        same = "yes" if same_ticks(small) and same_ticks(probing(small)) else "NO"
        row = f"{cores:>5} {median:>11,.0f} {best:>11,.0f} {slow:>11,.0f} {median / slow:>6.0f}"
        print(f"{row}  {same:<10}  {unweighted:>12,.0f}  {looking:>9,.0f}")


if __name__ == "__main__":
    main()
