"""Ways of transfers: links and latencies worked out by hand, shared by chips of one wiring only."""

from __future__ import annotations

import numpy as np

from sim.hw.chip import load_chip
from sim.mapping.fabric import Fabric
from sim.mapping.ways import WEIGHT_BITS, ways_of

MESH = {"interconnect.shape": [2, 2], "interconnect.memory_ports": [[0, 0]], "core.count": 4}


def names(fabric: Fabric, row: int) -> list[str]:
    pointers, links, *_ = fabric.route_tables()
    return [fabric.links[link].name for link in links[pointers[row] : pointers[row + 1]]]


def test_a_load_crosses_the_port_the_mesh_and_the_channel() -> None:
    """Core 3 of 2 x 2 with memory at (0, 0): two hops, along the row first."""
    chip = load_chip("lepton_m", MESH)
    fabric = Fabric(chip)
    near, far = (fabric.load(core, 1, 300) for core in (0, 3))
    assert names(fabric, near.row) == ["dram", "port[0,0]", "core0.dma1"]
    assert names(fabric, far.row) == [
        "dram", "port[0,0]", "link[0,0->0,1]", "link[0,1->1,1]", "core3.dma1"
    ]  # fmt: skip
    assert far.latency_ps - near.latency_ps == 2 * chip.interconnect.hop_latency_ps
    assert near.latency_ps == chip.cores[0].dma.setup_latency_ps + chip.dram.latency_ps
    _, _, weights, hops = fabric.route_tables()
    assert weights.tolist() == [300, 256, 256, 300, 256, 256, 256, 256]
    assert hops.tolist() == [0, 2]


def test_only_the_links_of_the_dram_bear_its_weight() -> None:
    """A hit in the cache is one route whatever its DRAM weight, a miss one for every weight."""
    fabric = Fabric(load_chip("lepton_m"))
    ways = fabric.ways
    hit, miss = (ways.number("load", 2, 0, level) for level in ("cache", "fill"))
    assert (ways.weighted[hit], ways.weighted[miss]) == (False, True)
    assert fabric.load(2, 0, 300, "cache").row == fabric.load(2, 0, 400, "cache").row
    assert fabric.load(2, 0, 300, "fill").row != fabric.load(2, 0, 400, "fill").row
    rows = fabric.rows(np.array([ways.route[miss] + 300, ways.route[hit], ways.route[miss] + 400]))
    assert rows.tolist() == [1, 0, 2]
    assert ways.route[miss] >> WEIGHT_BITS == ways.route[ways.number("load", 2, 0, "fill")] >> WEIGHT_BITS


def test_chips_share_ways_where_wiring_and_latencies_agree() -> None:
    base = load_chip("lepton_m")
    for path, value, shared in (
        ("core.array.rows", 64, True),
        ("core.sram.size", "2 MiB", True),
        ("core.dma.bandwidth", "64 GB/s", True),
        ("interconnect.link_bandwidth", "256 GB/s", True),
        ("core.dma.channels", 3, False),
        ("core.dma.setup_latency", "77 ns", False),
        ("interconnect.hop_latency", "3 ns", False),
        ("interconnect.memory_ports", [[0, 0]], False),
        ("dram.device", "hbm2", False),
        ("cache.latency", "31 ns", False),
        ("host.latency", "2 us", False),
    ):
        assert (ways_of(base.replace_many({path: value})) is ways_of(base)) == shared, path


def test_a_table_lists_the_ways_of_every_end_and_channel() -> None:
    ways = Fabric(load_chip("lepton_m")).ways
    table = ways.table("multicast", np.array([[0, 1], [4, 6]]), 2, "dram")
    assert table.tolist() == [
        [ways.number("multicast", cores, channel, "dram") for channel in range(2)] for cores in ((0, 1), (4, 6))
    ]
    exchanged = ways.table("load", np.array([[5]]), 2, "fill")
    assert exchanged.tolist() == [[ways.number("load", 5, channel, "fill") for channel in range(2)]]
