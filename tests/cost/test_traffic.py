"""Bytes at every level, counted by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from programs import (
    ACROSS,
    ARRAY,
    DMA0,
    DRAM,
    LOAD_QUEUE,
    LOAD_QUEUE1,
    MULTICAST,
    NOC,
    PORT,
    SEND_QUEUE,
    SLOW_PATTERN,
    STORE_QUEUE,
    TO_CORE0,
    TO_CORE1,
    Builder,
    operator,
    program_of,
)

from sim.cost.traffic import operator_traffic
from sim.cost.transfers import link_work, program_routes, ticks_alone
from sim.program import BYTE_UNITS, Kind, Link

COUNTS = {"sram_read_bytes": 1000.0, "sram_write_bytes": 500.0, "accumulator_read_bytes": 30.0}


def test_every_kind_of_transfer_is_charged_at_both_ends() -> None:
    build = Builder([operator("a", counts=COUNTS), operator("b")])
    build.move(Kind.LOAD, LOAD_QUEUE, 100, TO_CORE0)
    build.move(Kind.LOAD, LOAD_QUEUE1, 7, MULTICAST)  # two receivers, one hop, the DRAM read once
    build.move(Kind.STORE, STORE_QUEUE, 40, TO_CORE0)
    build.move(Kind.SEND, SEND_QUEUE, 9, ACROSS, op=1)
    build.compute(ARRAY, 5)
    program = program_of(build.segment())
    traffic = operator_traffic(program, program.segments[0], program_routes(program))
    assert traffic.dram_read_bytes.tolist() == [107, 0]
    assert traffic.dram_write_bytes.tolist() == [40, 0]
    assert traffic.sram_write_bytes.tolist() == [500 + 100 + 2 * 7, 9]
    assert traffic.sram_read_bytes.tolist() == [1000 + 40, 9]
    assert traffic.accumulator_read_bytes.tolist() == [30, 0]
    assert traffic.accumulator_write_bytes.tolist() == [0, 0]
    assert traffic.noc_bytes.tolist() == [7, 9]
    assert traffic.noc_injected_bytes.tolist() == [7, 9]
    assert traffic.host_bytes.tolist() == [0, 0]


def test_what_the_host_sends_is_written_to_the_dram() -> None:
    build = Builder([operator()])
    build.move(Kind.LOAD, LOAD_QUEUE, 64, TO_CORE0)
    build.move(Kind.STORE, STORE_QUEUE, 3, TO_CORE0)
    program = program_of(build.segment())
    host = replace(
        program, links=(*program.links[:DMA0], Link("host", "host", BYTE_UNITS), program.links[-1])
    )
    traffic = operator_traffic(host, host.segments[0], program_routes(host))
    assert (traffic.dram_write_bytes[0], traffic.dram_read_bytes[0], traffic.host_bytes[0]) == (64, 3, 67)
    assert (traffic.sram_write_bytes[0], traffic.sram_read_bytes[0]) == (0, 0)


def test_a_bad_pattern_costs_the_dram_time_but_no_bytes() -> None:
    build = Builder([operator("a"), operator("b")])
    build.move(Kind.LOAD, LOAD_QUEUE, 100, SLOW_PATTERN)
    build.move(Kind.LOAD, LOAD_QUEUE1, 30, TO_CORE1, op=1)
    program = program_of(build.segment())
    segment, routes = program.segments[0], program_routes(program)
    work = link_work(program, segment)
    assert work.payload_bytes[:, DRAM].tolist() == [100, 30]
    assert work.weighted_bytes[:, DRAM].tolist() == [200, 30]
    assert work.weighted_bytes[:, PORT].tolist() == [100, 30]
    assert work.weighted_bytes[:, NOC].tolist() == [0, 30]
    assert ticks_alone(segment, routes).tolist() == [200, 30]
    assert operator_traffic(program, segment, routes).dram_read_bytes.tolist() == [100, 30]


def test_the_slowest_link_of_a_route_sets_its_rate() -> None:
    build = Builder([operator()])
    build.move(Kind.LOAD, LOAD_QUEUE, 1, TO_CORE0)
    routes = program_routes(program_of(build.segment()))
    assert (routes.rate / BYTE_UNITS).tolist() == [1, 1, 2, 0.5, 1]
    assert routes.bottleneck.tolist() == [DRAM, DRAM, DMA0, DRAM, DRAM]
    assert routes.crossings["dma"].tolist() == [1, 1, 2, 1, 2]
    assert routes.hops.tolist() == [0, 1, 1, 0, 1]


def test_a_fraction_of_a_tick_is_rounded_up() -> None:
    build = Builder([operator()])
    build.move(Kind.SEND, SEND_QUEUE, 3, ACROSS)  # 3 B at 2 B/tick
    build.compute(ARRAY, 5)
    program = program_of(build.segment())
    assert np.array_equal(ticks_alone(program.segments[0], program_routes(program)), [2, 0])
