"""Interconnect: links, routes and ports against plain geometry."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import InputError
from sim.hw.chip import load_chip
from sim.hw.noc import Interconnect, Network, build_network, hop_count


def network(topology: str, *shape: int, **options: object) -> Network:
    fields = {"link_bandwidth_bytes_per_s": 100, "hop_latency_ps": 5, **options}
    return build_network(Interconnect(topology, tuple(shape), **fields))  # type: ignore[arg-type]


def names(net: Network, links: tuple[int, ...]) -> list[str]:
    return [net.links[link] for link in links]


@pytest.mark.parametrize(
    ("topology", "shape", "links"),
    [
        ("mesh", (2, 4), 2 * (2 * 3 + 4 * 1)),
        ("mesh", (1, 1), 0),
        ("torus", (3, 4), 4 * 12),
        ("ring", (5,), 10),
        ("ring", (1,), 0),
        # The two ways between two nodes of a ring join the same neighbours: one link each way.
        ("ring", (2,), 2),
        ("crossbar", (4,), 8),
    ],
)
def test_number_of_links(topology: str, shape: tuple[int, ...], links: int) -> None:
    net = network(topology, *shape)
    assert sum(not name.startswith("port") for name in net.links) == links
    assert len(set(net.links)) == len(net.links)


def test_mesh_routes_go_along_the_row_first() -> None:
    net = network("mesh", 2, 4)
    route = net.route(0, 6)
    assert names(net, route.links) == ["link[0,0->0,1]", "link[0,1->0,2]", "link[0,2->1,2]"]
    assert route.hops == 3
    back = net.route(6, 0)
    assert names(net, back.links) == ["link[1,2->1,1]", "link[1,1->1,0]", "link[1,0->0,0]"]


def test_rings_go_the_shorter_way() -> None:
    net = network("ring", 6)
    assert names(net, net.route(0, 5).links) == ["link[0->5]"]
    assert names(net, net.route(0, 2).links) == ["link[0->1]", "link[1->2]"]
    # Three hops either way: the way of rising coordinates.
    assert names(net, net.route(4, 1).links) == ["link[4->5]", "link[5->0]", "link[0->1]"]


def test_torus_wraps_both_ways() -> None:
    net = network("torus", 4, 4)
    assert names(net, net.route(0, 15).links) == ["link[0,0->0,3]", "link[0,3->3,3]"]


def test_a_crossbar_is_one_injection_and_one_ejection() -> None:
    net = network("crossbar", 3)
    route = net.route(2, 0)
    assert (names(net, route.links), route.hops) == (["inject[2]", "eject[0]"], 1)
    assert net.route(1, 1).links == ()


@given(
    st.sampled_from(["mesh", "torus", "ring", "crossbar"]),
    st.integers(1, 5),
    st.integers(1, 5),
    st.data(),
)
def test_routes_are_connected_and_shortest(topology: str, rows: int, cols: int, data: st.DataObject) -> None:
    shape = (rows, cols) if topology in ("mesh", "torus") else (rows * cols,)
    net = network(topology, *shape)
    nodes = st.integers(0, rows * cols - 1)
    source, destination = data.draw(nodes), data.draw(nodes)
    route = net.route(source, destination)
    assert route.hops == hop_count(net.interconnect, source, destination)
    if topology == "crossbar":
        return
    ends = [name[5:-1].split("->") for name in names(net, route.links)]
    assert len(ends) == route.hops
    assert all(a[1] == b[0] for a, b in pairwise(ends))
    far = [min(abs(x - y), n - abs(x - y)) if topology != "mesh" else abs(x - y)
           for x, y, n in zip(net.interconnect.coordinate(source), net.interconnect.coordinate(destination),
                              shape, strict=True)]  # fmt: skip
    assert route.hops == sum(far)


def test_multicast_crosses_each_link_once() -> None:
    net = network("mesh", 2, 4)
    tree = net.multicast_tree(0, range(8))
    # A spanning tree of eight nodes has seven edges.
    assert len(tree) == 7
    assert len(set(tree)) == 7
    assert net.multicast_tree(3, [3]) == ()
    bar = network("crossbar", 4)
    assert sorted(names(bar, bar.multicast_tree(0, [1, 2, 3]))) == [
        "eject[1]",
        "eject[2]",
        "eject[3]",
        "inject[0]",
    ]


def test_default_ports_are_one_edge() -> None:
    assert network("mesh", 3, 4).interconnect.memory_ports == (0, 1, 2, 3)
    assert network("ring", 3).interconnect.memory_ports == (0, 1, 2)
    assert network("crossbar", 2).interconnect.memory_ports == (0, 1)


def test_ports_have_their_own_links() -> None:
    net = network("mesh", 2, 2, memory_port_coordinates=((1, 0), (1, 1)), memory_port_bandwidth_bytes_per_s=7)
    assert net.links[-2:] == ("port[1,0]", "port[1,1]")
    assert net.capacity_bytes_per_s[-2:] == (7, 7)
    assert net.port_ends[1][1] == net.link_id("port[1,1]")
    route = net.memory_read_route(0)
    assert (names(net, route.links), route.hops) == (["port[1,0]", "link[1,0->0,0]"], 1)
    route = net.memory_write_route(0, port=1)
    assert (names(net, route.links), route.hops) == (["link[0,0->0,1]", "link[0,1->1,1]", "port[1,1]"], 2)


@pytest.mark.parametrize(
    ("topology", "shape", "ports", "crossed"),
    [
        # Memory is on the other side of a crossbar, whichever node its ports are at.
        ("crossbar", (4,), None, [1, 1, 1, 1]),
        ("crossbar", (4,), ((0,),), [1, 1, 1, 1]),
        # One core has no switch; a node of a mesh may sit on its memory.
        ("crossbar", (1,), None, [0]),
        ("mesh", (2, 2), None, [0, 0, 1, 1]),
    ],
)
def test_bytes_from_memory_cross_a_crossbar(
    topology: str, shape: tuple[int, ...], ports: tuple[tuple[int, ...], ...] | None, crossed: list[int]
) -> None:
    net = network(topology, *shape, memory_port_coordinates=ports)
    nodes = range(net.interconnect.node_count)
    assert [net.memory_read_route(node).crossed for node in nodes] == crossed
    assert [net.memory_write_route(node).crossed for node in nodes] == crossed
    # A port has a latency of its own only where messages go to another node.
    if ports is None:
        hops = crossed if topology == "mesh" else [0] * len(nodes)
        assert [net.memory_read_route(node).hops for node in nodes] == hops


def test_ties_are_spread_evenly() -> None:
    # Every node of a crossbar is one hop from both ports, except the ports themselves.
    net = network("crossbar", 10, memory_port_coordinates=((0,), (1,)))
    assert Counter(map(net.nearest_port, range(10))) == {0: 5, 1: 5}
    assert (net.nearest_port(0), net.nearest_port(1)) == (0, 1)


@given(st.integers(1, 5), st.integers(1, 6), st.data())
def test_the_nearest_port_is_nearest(rows: int, cols: int, data: st.DataObject) -> None:
    everywhere = list(product(range(rows), range(cols)))
    ports = tuple(data.draw(st.lists(st.sampled_from(everywhere), min_size=1, unique=True)))
    net = network("mesh", rows, cols, memory_port_coordinates=ports)
    for node, at in enumerate(everywhere):
        mine = ports[net.nearest_port(node)]
        distances = [abs(at[0] - p[0]) + abs(at[1] - p[1]) for p in ports]
        assert abs(at[0] - mine[0]) + abs(at[1] - mine[1]) == min(distances)


def test_shared_ends_of_a_chip() -> None:
    net = load_chip("lepton_m").network()
    assert net.links[-3:] == ("dram", "cache", "host")
    assert net.capacity_bytes_per_s[-3:] == (819_200_000_000, 2_000_000_000_000, 64_000_000_000)
    assert [net.nearest_port(node) for node in range(8)] == [0, 1, 2, 3, 0, 1, 2, 3]
    with pytest.raises(InputError, match="no link 'link'"):
        net.link_id("link")
