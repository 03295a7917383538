"""What a transfer costs by itself: where its route goes, which link limits it, how long it takes alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sim.program import BYTE_UNITS, PAYLOAD_WEIGHT, Int64, Kind, Program, Segment
from sim.timeline import Probed

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

LINK_KINDS = ("dram", "port", "noc", "dma", "cache", "host", "chip_links")
TRANSFERS = (Kind.LOAD, Kind.STORE, Kind.SEND)


@dataclass(frozen=True, slots=True)
class Routes:
    """Facts of every route of a program.

    `rate` in link units per tick is what one transfer gets with nobody else on its way, set by link
    `bottleneck`. `crossings[kind]` counts the links of each kind; `hops` is what bytes pay on the chip's
    interconnect; `exchanged` the bytes that go to other chips, and as many come, per byte of payload.
    """

    rate: Int64
    bottleneck: Int64
    crossings: Mapping[str, Int64]
    hops: Int64
    exchanged: Float64


def program_routes(program: Program) -> Routes:
    """Rate alone, limiting link, links by kind and hops of every route. Time and memory: one pass over the
    routes."""
    routes, links = len(program.route_ptr) - 1, program.route_link
    owner = np.repeat(np.arange(routes), np.diff(program.route_ptr))
    kind_of_link = np.array([LINK_KINDS.index(link.kind) for link in program.links], np.int64)
    crossings = np.bincount(
        owner * len(LINK_KINDS) + kind_of_link[links], minlength=routes * len(LINK_KINDS)
    ).reshape(routes, len(LINK_KINDS))
    rate_on_link = np.maximum(1, PAYLOAD_WEIGHT * program.capacity[links] // program.route_weight)
    first_slowest = np.lexsort((rate_on_link, owner))[program.route_ptr[:-1]] if routes else owner
    return Routes(
        rate=rate_on_link[first_slowest],
        bottleneck=links[first_slowest].astype(np.int64),
        crossings={kind: crossings[:, column].copy() for column, kind in enumerate(LINK_KINDS)},
        hops=program.route_hops.astype(np.int64),
        exchanged=_exchanged(program, owner, routes),
    )


def _exchanged(program: Program, owner: Int64, routes: int) -> Float64:
    """The weights of the links to other chips say how many bytes cross them per byte of payload."""
    on_links = np.array([link.kind == "chip_links" for link in program.links], np.bool_)[program.route_link]
    share = program.route_weight[on_links] / PAYLOAD_WEIGHT
    return np.bincount(owner[on_links], weights=share, minlength=routes).astype(np.float64)


def is_transfer(segment: Segment) -> Bool:
    """Which tasks move data."""
    return segment.route >= 0


def ticks_alone(segment: Segment, routes: Routes) -> Int64:
    """Ticks the payload of each transfer takes on an otherwise idle chip, head latency not included; 0 for
    the rest.

    ceil(bytes x 2^24 / rate), at least 1: 1 MiB over 512 GB/s is 2,048,000 ticks.
    """
    moves = is_transfer(segment)
    alone = np.zeros(segment.tasks, np.int64)
    if moves.any():
        alone[moves] = np.maximum(
            1, -(-segment.nbytes[moves] * BYTE_UNITS // routes.rate[segment.route[moves]])
        )
    return alone


@dataclass(frozen=True, slots=True)
class Moves:
    """Bytes under way in one run of a segment, one entry per way of a transfer: `task`, `op`, `kind` (LOAD, STORE,
    SEND), `route`, head latency `dur`, `nbytes`. In the `background` the cache writes lines back (STORE) and fills the
    rest of lines (LOAD)."""

    task: Int64
    op: Int64
    kind: Int64
    route: Int64
    dur: Int64
    nbytes: Int64
    background: Bool


def segment_moves(segment: Segment, probed: Probed | None = None) -> Moves:
    """Every transfer of a segment; those that probed the cache by what they found there. Without `probed` nothing was
    there, and nothing had to go."""
    tasks, probes = np.flatnonzero(is_transfer(segment)), segment.probes
    if probes is None or probed is None:
        kind, route = (column[tasks].astype(np.int64) for column in (segment.kind, segment.route))
        return _moves(segment, tasks, kind, route, segment.dur[tasks], segment.nbytes[tasks], len(tasks))
    alone, mine = is_transfer(segment).copy(), probes.task
    alone[mine] = False
    plain = np.flatnonzero(alone)
    kind = segment.kind.astype(np.int64)
    back, forth = np.full(len(mine), Kind.STORE, np.int64), np.full(len(mine), Kind.LOAD, np.int64)
    return _moves(
        segment,
        np.concatenate([plain, mine, mine, mine, mine]),
        np.concatenate([kind[plain], kind[mine], kind[mine], forth, back]),
        np.concatenate(
            [
                segment.route[plain],
                probes.hit_route,
                segment.route[mine],
                probes.rest_route,
                probes.rest_route,
            ]
        ).astype(np.int64),
        np.concatenate(
            [segment.dur[plain], probes.hit_dur, segment.dur[mine], segment.dur[mine], segment.dur[mine]]
        ),
        np.concatenate([segment.nbytes[plain], probed.hit, probed.miss, probed.rest, probed.evicted]),
        len(plain) + 2 * len(mine),
    )


def _moves(
    segment: Segment,
    task: Int64,
    kind: Int64,
    route: Int64,
    dur: Int64,
    nbytes: Int64,
    background_from: int,
) -> Moves:
    """Entries that move anything; those from `background_from` on are in the background."""
    some = nbytes > 0
    op, background = segment.op[task].astype(np.int64), np.arange(len(task)) >= background_from
    return Moves(
        task=np.asarray(task, np.int64)[some],
        op=op[some],
        kind=kind[some],
        route=route[some],
        dur=dur[some],
        nbytes=nbytes[some],
        background=background[some],
    )


def by_slower_way(segment: Segment, probed: Probed | None, routes: Routes) -> Segment:
    """The segment with each transfer that found a part of its bytes in the cache reduced to the way that takes longer
    if it is alone: what its duration can be explained by."""
    probes = segment.probes
    if probes is None or probed is None:
        return segment
    mine = probes.task

    def alone(route: Int64, dur: Int64, nbytes: Int64) -> Int64:
        ticks: Int64 = np.where(
            nbytes > 0, dur + np.maximum(1, -(-nbytes * BYTE_UNITS // routes.rate[route])), 0
        )
        return ticks

    miss_route, miss_dur = segment.route[mine].astype(np.int64), segment.dur[mine]
    hit_route = probes.hit_route.astype(np.int64)
    hits = alone(hit_route, probes.hit_dur, probed.hit) > alone(miss_route, miss_dur, probed.miss)
    route, dur, nbytes = segment.route.copy(), segment.dur.copy(), segment.nbytes.copy()
    route[mine] = np.where(hits, hit_route, miss_route)
    dur[mine] = np.where(hits, probes.hit_dur, miss_dur)
    nbytes[mine] = np.where(hits, probed.hit, probed.miss)
    return replace(segment, route=route, dur=dur, nbytes=nbytes)


@dataclass(frozen=True, slots=True)
class Sums:
    """What moved in one run of a segment, in all: bytes by operator, kind, route and whether in the background. An
    operator whose tasks lie apart in the table may have several entries of a kind."""

    op: Int64
    kind: Int64
    route: Int64
    nbytes: Int64
    background: Bool


def sums(segment: Segment, routes: int, probed: Probed | None = None) -> Sums:
    """`segment_moves`, added up, of a program with so many routes."""
    from sim.cost.moved import Tables, sum_moves

    nothing, nowhere = np.zeros(0, np.int64), np.zeros(0, np.int32)
    probes = None if probed is None else segment.probes
    if probes is None or probed is None:
        found = nowhere, nowhere, nowhere, nothing, nothing, nothing, nothing
    else:
        bytes_found = probed.hit, probed.miss, probed.rest, probed.evicted
        found = probes.task, probes.hit_route, probes.rest_route, *bytes_found
    table = Tables(segment.op, segment.kind, segment.route, segment.nbytes, *found)
    op, key, nbytes = sum_moves(table, max(1, routes))
    way, route = np.divmod(key, max(1, routes))
    return Sums(op, way // 2, route, nbytes, way % 2 == 1)


@dataclass(frozen=True, slots=True)
class LinkWork:
    """Bytes over each link in one run of a segment, one row per operator and one column per link.

    `payload_bytes` is what is moved, `weighted_bytes` what it costs the link (payload x route weight / 256), of which
    `background_bytes` by flows that no task waits for.
    """

    payload_bytes: Float64
    weighted_bytes: Float64
    background_bytes: Float64


def link_work(
    program: Program, segment: Segment, probed: Probed | None = None, moves: Sums | None = None
) -> LinkWork:
    """Work on every link by operator: transfers are summed by (operator, route) first, then spread over the
    links. `moves` are the `sums` of the segment, where they are known already."""
    moves = sums(segment, len(program.route_ptr) - 1, probed) if moves is None else moves
    if not moves.background.any():
        payload, weighted = _on_links(program, segment, moves, slice(None))
        return LinkWork(payload, weighted, np.zeros_like(weighted))
    payload, weighted = _on_links(program, segment, moves, ~moves.background)
    behind, background = _on_links(program, segment, moves, moves.background)
    return LinkWork(payload + behind, weighted + background, background)


def _on_links(program: Program, segment: Segment, moves: Sums, which: Bool | slice) -> tuple[Float64, Float64]:
    """Payload and weighted bytes [operators, links] of some of the moves."""
    ops, links = len(segment.ops), len(program.links)
    routes = max(1, len(program.route_ptr) - 1)
    keys = moves.op[which] * routes + moves.route[which]
    # By counting, not by sorting: there are far fewer pairs than transfers where these are many. None moves nothing.
    bytes_of = np.bincount(keys, weights=moves.nbytes[which], minlength=1)
    pairs = np.flatnonzero(bytes_of)
    bytes_of_pair = bytes_of[pairs]
    pair_op, pair_route = pairs // routes, pairs % routes
    lengths = np.diff(program.route_ptr)[pair_route]
    entry = ranges(program.route_ptr[pair_route].astype(np.int64), lengths.astype(np.int64))
    cell = np.repeat(pair_op, lengths) * links + program.route_link[entry]
    payload = np.repeat(bytes_of_pair, lengths)
    weighted = payload * program.route_weight[entry] / PAYLOAD_WEIGHT
    shape = (ops, links)
    return (
        np.bincount(cell, weights=payload, minlength=ops * links).reshape(shape).astype(np.float64),
        np.bincount(cell, weights=weighted, minlength=ops * links).reshape(shape).astype(np.float64),
    )


def ranges(starts: Int64, lengths: Int64) -> Int64:
    """starts[0], starts[0] + 1, ... for every range, one after another."""
    offsets = np.cumsum(lengths) - lengths
    place: Int64 = np.arange(int(lengths.sum()), dtype=np.int64)
    return place + np.repeat(starts - offsets, lengths).astype(np.int64)
