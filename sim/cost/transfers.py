"""What a transfer costs by itself: where its route goes, which link limits it, how long it takes alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sim.program import BYTE_UNITS, PAYLOAD_WEIGHT, Int64, Kind, Program, Segment

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

LINK_KINDS = ("dram", "port", "noc", "dma", "cache", "host")
TRANSFERS = (Kind.LOAD, Kind.STORE, Kind.SEND)


@dataclass(frozen=True, slots=True)
class Routes:
    """Facts of every route of a program.

    `rate` in link units per tick is what one transfer gets with nobody else on its way, set by link
    `bottleneck`. `crossings[kind]` counts the links of each kind; `hops` is what bytes pay on the chip's
    interconnect.
    """

    rate: Int64
    bottleneck: Int64
    crossings: Mapping[str, Int64]
    hops: Int64


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
        crossings={kind: crossings[:, column] for column, kind in enumerate(LINK_KINDS)},
        hops=program.route_hops.astype(np.int64),
    )


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
class LinkWork:
    """Bytes over each link in one run of a segment, one row per operator and one column per link.

    `payload_bytes` is what is moved, `weighted_bytes` what it costs the link (payload x route weight / 256).
    """

    payload_bytes: Float64
    weighted_bytes: Float64


def link_work(program: Program, segment: Segment) -> LinkWork:
    """Work on every link by operator: transfers are summed by (operator, route) first, then spread over the
    links."""
    ops, links = len(segment.ops), len(program.links)
    moves = is_transfer(segment)
    routes = max(1, len(program.route_ptr) - 1)
    keys = segment.op[moves].astype(np.int64) * routes + segment.route[moves]
    pairs, place = np.unique(keys, return_inverse=True)
    bytes_of_pair = np.bincount(place, weights=segment.nbytes[moves], minlength=len(pairs))
    pair_op, pair_route = pairs // routes, pairs % routes
    lengths = np.diff(program.route_ptr)[pair_route]
    entry = ranges(program.route_ptr[pair_route].astype(np.int64), lengths.astype(np.int64))
    cell = np.repeat(pair_op, lengths) * links + program.route_link[entry]
    payload = np.repeat(bytes_of_pair, lengths)
    weighted = payload * program.route_weight[entry] / PAYLOAD_WEIGHT
    shape = (ops, links)
    return LinkWork(
        np.bincount(cell, weights=payload, minlength=ops * links).reshape(shape).astype(np.float64),
        np.bincount(cell, weights=weighted, minlength=ops * links).reshape(shape).astype(np.float64),
    )


def ranges(starts: Int64, lengths: Int64) -> Int64:
    """starts[0], starts[0] + 1, ... for every range, one after another."""
    offsets = np.cumsum(lengths) - lengths
    place: Int64 = np.arange(int(lengths.sum()), dtype=np.int64)
    return place + np.repeat(starts - offsets, lengths).astype(np.int64)
