"""Which link limited a transfer, where the answer is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
from programs import (
    ACROSS,
    ARRAY,
    DMA0,
    DMA1,
    DRAM,
    LINKS,
    LOAD_QUEUE,
    LOAD_QUEUE1,
    NOC,
    PORT,
    SEND_QUEUE,
    TO_CORE0,
    TO_CORE1,
    Builder,
    operator,
    program_of,
)

from sim.engine.reference import run
from sim.program import BYTE_UNITS, Kind, Link
from sim.report.contention import limiting_links


def _limits(build: Builder, **capacities: int) -> list[int]:
    """Limiting link of every task, with some links' capacities (bytes per tick) changed by name."""
    names = {"dram": DRAM, "noc": NOC, "dma0": DMA0, "dma1": DMA1}
    links = list(LINKS)
    for name, capacity in capacities.items():
        old = links[names[name]]
        links[names[name]] = Link(old.name, old.kind, capacity * BYTE_UNITS)
    program = replace(program_of(build.segment()), links=tuple(links))
    timeline = run(program)
    return limiting_links(program, program.segments[0], timeline.segments[0]).tolist()


def test_alone_it_is_the_slowest_link_and_compute_has_none() -> None:
    build = Builder([operator()])
    load = build.move(Kind.LOAD, LOAD_QUEUE, 1000, TO_CORE0)
    build.compute(ARRAY, 5, after=[load])
    assert _limits(build) == [DRAM, -1]
    assert _limits(build, dram=8) == [DMA0, -1]


@pytest.mark.parametrize(("dram", "limit"), [(2, DRAM), (3, DRAM), (5, PORT)])
def test_two_cores_share_what_is_scarcest_for_both(dram: int, limit: int) -> None:
    # Alone each would be limited by its DMA link of 2 B/tick. A DRAM of 3 B/tick limits both; a faster one leaves
    # the port of 4, which is as busy as the two DMA links behind it and comes before them on the route.
    build = Builder([operator()])
    build.move(Kind.LOAD, LOAD_QUEUE, 1000, TO_CORE0)
    build.move(Kind.LOAD, LOAD_QUEUE1, 1000, TO_CORE1)
    assert _limits(build, dram=dram) == [limit, limit]


def test_a_short_encounter_does_not_blame_the_shared_link() -> None:
    # 100 of the long load's 2000 ticks meet a short one on a DRAM that is otherwise half idle.
    build = Builder([operator()])
    build.move(Kind.LOAD, LOAD_QUEUE, 4000, TO_CORE0)
    build.move(Kind.LOAD, LOAD_QUEUE1, 100, TO_CORE1)
    assert _limits(build, dram=3)[0] == DMA0
    assert _limits(build, dram=3)[1] == DRAM


def test_a_send_that_meets_a_load_on_the_network() -> None:
    build = Builder([operator()])
    build.move(Kind.SEND, SEND_QUEUE, 500, ACROSS)
    build.move(Kind.LOAD, LOAD_QUEUE1, 500, TO_CORE1)
    assert _limits(build, dram=8, dma0=8, dma1=8) == [NOC, NOC]
    assert _limits(build, dram=8, noc=8, dma0=8) == [DMA1, DMA1]
