"""Bytes that every operator moves at every level of the memory system, from its tasks and its action
counts."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from sim.cost.transfers import Bool, Float64, Routes, Sums, sums
from sim.program import Int8, Int64, Kind, Program, Segment
from sim.timeline import Probed


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes by operator (one entry per row of `segment.ops`) in one run of the segment.

    SRAM and accumulator: compute-side accesses (action counts) and the DMA's. `dma_bytes` counts a byte at each engine
    that it passes: a multicast at every receiver, a SEND at both ends. Hits and misses of the cache are what
    transfers asked it for. `noc_bytes` is bytes x hops,
    `noc_injected_bytes` what enters the interconnect, each transfer once. `host_bytes` counts both
    directions. `chip_links_bytes` is what goes to other chips; as much comes from them.
    """

    dram_read_bytes: Float64
    dram_write_bytes: Float64
    sram_read_bytes: Float64
    sram_write_bytes: Float64
    accumulator_read_bytes: Float64
    accumulator_write_bytes: Float64
    cache_read_bytes: Float64
    cache_write_bytes: Float64
    cache_hit_bytes: Float64
    cache_miss_bytes: Float64
    dma_bytes: Float64
    noc_bytes: Float64
    noc_injected_bytes: Float64
    host_bytes: Float64
    chip_links_bytes: Float64


TRAFFIC_COLUMNS = tuple(field.name for field in fields(Traffic))


def operator_traffic(
    program: Program, segment: Segment, routes: Routes, probed: Probed | None = None, moves: Sums | None = None
) -> Traffic:
    """Bytes by operator and level; `probed` is what the segment's probes found in the cache (None: nothing),
    `moves` the `sums` of both, where they are known already.

    A LOAD reads the DRAM once and writes one scratchpad per DMA link of its route; a STORE reads a
    scratchpad and writes the DRAM; a SEND reads its source's scratchpad and writes its destinations'. A
    transfer between host and DRAM goes the other way at the DRAM: what is loaded from the host is written
    there. What hits leaves the DRAM alone; lines that come and go do so between cache and DRAM only. Bytes are
    payload: the route weight of a bad DRAM pattern costs time, not bytes. What is exchanged with other chips comes over
    the interconnect, through the DMA engine into the scratchpad and leaves by the same way.
    """
    moves = sums(segment, len(routes.rate), probed) if moves is None else moves
    kind, route, op, nbytes = moves.kind, moves.route, moves.op, moves.nbytes
    dma, hops = routes.crossings["dma"][route], routes.hops[route]
    on_dram, on_host = routes.crossings["dram"][route] > 0, routes.crossings["host"][route] > 0
    load, send = kind == Kind.LOAD, kind == Kind.SEND
    reads_dram, writes_dram = dram_directions(kind, on_dram, on_host)
    on_cache, inward = routes.crossings["cache"][route] > 0, load != on_host
    # What comes from DRAM is written to the cache on its way, what goes there was read from it.
    reads_cache = on_cache & (inward != on_dram)
    exchanged = nbytes * routes.exchanged[route]
    receivers = np.where(load, dma, np.where(send, np.maximum(1, dma - 1), 0))

    def total(bytes_moved: Int64 | Float64) -> Float64:
        return np.bincount(op, weights=bytes_moved, minlength=len(segment.ops)).astype(np.float64)

    return Traffic(
        dram_read_bytes=total(nbytes * reads_dram),
        dram_write_bytes=total(nbytes * writes_dram),
        sram_read_bytes=total(nbytes * (~load & (dma > 0)) + exchanged) + _counts(segment, "sram_read_bytes"),
        sram_write_bytes=total(nbytes * receivers + exchanged) + _counts(segment, "sram_write_bytes"),
        accumulator_read_bytes=_counts(segment, "accumulator_read_bytes"),
        accumulator_write_bytes=_counts(segment, "accumulator_write_bytes"),
        cache_read_bytes=total(nbytes * reads_cache),
        cache_write_bytes=total(nbytes * (on_cache & ~reads_cache)),
        cache_hit_bytes=_found(segment, probed, "hit"),
        cache_miss_bytes=_found(segment, probed, "miss"),
        dma_bytes=total(nbytes * dma + 2 * exchanged),
        noc_bytes=total((nbytes + 2 * exchanged) * hops),
        noc_injected_bytes=total((nbytes + 2 * exchanged) * (hops > 0)),
        host_bytes=total(nbytes * on_host),
        chip_links_bytes=total(exchanged),
    )


def dram_directions(kind: Int8 | Int64, on_dram: Bool, on_host: Bool) -> tuple[Bool, Bool]:
    """Which transfers read the DRAM and which write it, by their kind and what their routes cross."""
    send = kind == Kind.SEND
    reads: Bool = on_dram & ~send & ((kind == Kind.LOAD) != on_host)
    return reads, on_dram & ~send & ~reads


def _found(segment: Segment, probed: Probed | None, what: str) -> Float64:
    """A column of what probes found, by operator."""
    if segment.probes is None or probed is None:
        return np.zeros(len(segment.ops))
    op, found = segment.op[segment.probes.task], getattr(probed, what)
    return np.bincount(op, weights=found, minlength=len(segment.ops)).astype(np.float64)


def _counts(segment: Segment, name: str) -> Float64:
    return np.array([op.counts.get(name, 0.0) for op in segment.ops], np.float64)
