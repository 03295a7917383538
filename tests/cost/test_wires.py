"""sim/cost/wires.py: the busiest port and link of a split, against the routes of the network and against the events."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest
from test_kernel import NESTS

import sim
from sim.cost import core_cuts, wires
from sim.cost.bound import compile_model, evaluate
from sim.cost.core_cuts import joined_cuts
from sim.cost.designs import designs_from
from sim.cost.estimate import site_wires
from sim.cost.nest_tables import nest_tables
from sim.cost.wires import GIVEN, LINK, PLACED, PORT, may_limit, placed_order, wiring_of
from sim.graph.load import load_model
from sim.graph.nest import Nest, Operand
from sim.hw.chip import Chip, load_chip
from sim.hw.noc import Interconnect, build_network
from sim.mapping.fabric import Fabric
from sim.mapping.partition import mode_splits
from sim.mapping.search import ALL_ROLES, split_candidates
from sim.mapping.sites import make_site
from sim.passes import default_passes

NETWORKS = {
    "mesh": {"topology": "mesh", "shape": [3, 4]},
    "mesh by one port": {"topology": "mesh", "shape": [2, 4], "memory_ports": [[1, 2]]},
    "torus": {"topology": "torus", "shape": [4, 4], "memory_ports": [[0, 1], [2, 3], [3, 0]]},
    "ring": {"topology": "ring", "shape": [8], "memory_ports": [0, 3]},
    "crossbar": {"topology": "crossbar", "shape": [6], "memory_ports": [0, 4]},
    "wide ports": {"topology": "mesh", "shape": [3, 4], "memory_port_bandwidth": "96 GB/s"},
}


def chip_on(network: str, link: str = "32 GB/s", **others: object) -> Chip:
    """Cores that are much faster than their links."""
    given = NETWORKS[network] | {"link_bandwidth": link}
    nodes = math.prod(NETWORKS[network]["shape"])  # type: ignore[arg-type]
    changes = {"core.count": nodes, "core.array.rows": 64, "core.array.cols": 64, "core.sram.size": "1 MiB"}
    base = {"interconnect.memory_ports": None} | {f"interconnect.{key}": value for key, value in given.items()}
    return load_chip("lepton_m", {key: v for key, v in (base | changes | others).items() if v is not None})


def crossed(net: Interconnect, nest: Nest, split: Sequence[int], cores: tuple[int, ...]) -> np.ndarray:
    """[operands, links]: groups of cores that load an operand, or store the result, over every link of the network."""
    network, used = build_network(net), math.prod(split)
    places = np.stack(np.unravel_index(np.arange(used), split), axis=1).tolist()

    def groups(operand: Operand) -> list[list[int]]:
        found: dict[tuple[int, ...], list[int]] = {}
        for place, at in enumerate(places):
            found.setdefault(tuple(at[dim] for dim in sorted(operand.dims)), []).append(cores[place])
        return list(found.values())

    counts = np.zeros((len(nest.operands) + 1, len(network.links)))
    for row, operand in enumerate((*nest.operands, nest.out)):
        for group in groups(operand):
            end, port = network.port_ends[network.nearest_port(group[0])]
            links = network.multicast_tree(end, group)
            if operand is nest.out:
                links = network.route(group[0], end).links
            counts[row, [port, *links]] += 1
    return counts


def once_bytes(nest: Nest, split: Sequence[int]) -> np.ndarray:
    """Bytes of every operand and the result that a group of cores moves."""
    whole = [np.array([extent], np.int64) for extent in nest.extents]
    operands = (*nest.operands, nest.out)
    return np.array([int(o.tile_bytes(whole)[0]) / math.prod(split[dim] for dim in o.dims) for o in operands])


@pytest.mark.parametrize("network", NETWORKS)
def test_counts_are_those_of_the_routes(network: str) -> None:
    """On the links that carry most where every operand is loaded once; of four orders of the cores the best."""
    net, rng = chip_on(network).interconnect, np.random.default_rng(len(network))
    cores, link_names = tuple(range(net.node_count)), build_network(net).links
    ports = np.array([name.startswith("port") for name in link_names])
    each_s = np.where(ports, 1 / net.port_bandwidth_bytes_per_s, 1 / net.link_bandwidth_bytes_per_s)
    moved = 0
    for nest in NESTS.values():
        every = split_candidates(nest, len(cores), ALL_ROLES)
        splits = np.array([every[at] for at in rng.integers(0, len(every), 4)], np.int64)
        counts, orders = wiring_of(net, cores).counted(nest_tables([nest]), 0, splits)
        for split, count, order in zip(splits.tolist(), counts, orders.tolist(), strict=True):
            sizes, used = once_bytes(nest, split), cores[: math.prod(split)]
            grid = [parts for parts in split if parts > 1]
            found_s = []
            for number in range(4 if len(grid) == 2 else 1):
                mine = placed_order(used, net, (grid[0], grid[1]), number) if len(grid) == 2 else used
                truth = crossed(net, nest, split, mine)
                found_s.append(float((sizes[:-1] @ truth[:-1] * each_s).max()))  # as loads go
                for which, here in ((GIVEN, 0), (PLACED, order)):
                    if number == here:
                        for kind, mask in ((PORT, ports), (LINK, ~ports)):
                            busiest = sizes @ truth[:, mask]
                            assert sizes @ count[which, :, kind] == pytest.approx(busiest.max(initial=0.0))
                            same = np.flatnonzero(np.isclose(busiest, busiest.max(initial=0.0)))
                            assert any((truth[:, mask][:, at] == count[which, :, kind]).all() for at in same)
            free = net.topology != "crossbar" and not any(split[dim] > 1 for dim in nest.role("k"))
            moved += order > 0
            assert found_s[order] <= (min(found_s) / 0.99 if free else found_s[0]) * (1 + 1e-9)
    assert (moved > 0) == (net.topology != "crossbar" and len(net.memory_ports) > 1)


def test_links_as_fast_as_the_memory_are_no_limit() -> None:
    for link, limited in (("32 GB/s", True), ("512 GB/s", True), ("820 GB/s", False)):
        chip = chip_on("mesh", link)
        site = make_site(chip, Fabric(chip), chip.cores[0], tuple(range(chip.core_count)))
        assert (site.wiring is not None) == limited == may_limit(chip.interconnect, 819.2e9)
    slow = chip_on("mesh", "2 TB/s", **{"interconnect.memory_port_bandwidth": "64 GB/s"})
    assert may_limit(slow.interconnect, 819.2e9)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_closed_forms_know_the_links(network: str) -> None:
    """That of many designs told down to a third of the time, as if every core reached all ports at full rate."""
    chip = chip_on(network)
    for model in ("gemm:1024x1024x1024", "gemm:64x2048x2048"):
        event = float(sim.simulate(model, chip, dtype="int8")["latency_s"] or 0)
        many = float(sim.bound(model, chip, dtype="int8")["latency_s"].iloc[0])
        one = float(sim.simulate(model, chip, dtype="int8", fidelity="bound")["latency_s"] or 0)
        assert 0.7 < event / many < 1.6, (model, event, many)
        assert 0.9 < event / one < 1.4, (model, event, one)


def test_the_mapper_splits_so_that_links_carry_less() -> None:
    """Four cores with a port each: cut by rows, the weights go to all of them over links of 32 GB/s."""
    changes = {
        "core.count": 4, "interconnect.topology": "crossbar", "interconnect.shape": [4],
        "interconnect.memory_ports": [0, 1, 2, 3], "interconnect.link_bandwidth": "32 GB/s",
    }  # fmt: skip
    chip = load_chip("lepton_m", changes)
    asked = {"dtype": "int8"}
    chosen = float(sim.simulate("gemm:512x2048x2048", chip, **asked)["latency_s"] or 0)  # type: ignore[arg-type]
    rows, columns = (
        float(sim.simulate("gemm:512x2048x2048", chip, partition=mode, **asked)["latency_s"] or 0)  # type: ignore[arg-type]
        for mode in ("data", "channel")
    )
    assert chosen <= 1.01 * columns < 0.6 * rows
    # Weights of 4 MiB in four parts, the input to all, by their links and ports; results go out of the same ports.
    moved_s = (2048 * 2048 / 4 + 512 * 2048 + 512 * 2048 / 4) / 32e9
    assert chosen == pytest.approx(moved_s, rel=0.25)


def test_a_design_does_not_depend_on_the_networks_beside_it() -> None:
    """Ten rings with the ports at the first cores, ten at the last: neither kind is searched with the other's links."""
    clocks: list[object] = [f"{mhz} MHz" for mhz in range(1000, 1200, 10)]
    columns = {"interconnect.memory_ports": [[[0], [1]]] * 10 + [[[6], [7]]] * 10, "clock": clocks}
    chip = chip_on("ring")
    together = sim.bound("gemm:8x1000x300", chip, columns, dtype="int8")["latency_s"]
    for at in (0, 9, 10, 19):
        one = {path: values[at : at + 1] for path, values in columns.items()}
        assert sim.bound("gemm:8x1000x300", chip, one, dtype="int8")["latency_s"][0] == together[at]
    assert len(set(together)) == 20


def test_of_many_designs_each_has_the_counts_of_its_network() -> None:
    """In the best order of the cores: nothing lies in the scratchpads."""
    above, below, chip = *([[row, col] for col in range(4)] for row in (0, 2)), chip_on("mesh")
    model, known = compile_model(default_passes(load_model("gemm:32x2048x640", dtype="int8"))), {}
    two = {"interconnect.memory_ports": [above, below]}
    cuts, spans = joined_cuts(model.nests, model.tables, known, partial(mode_splits, "auto"), designs_from(chip, two))
    for at, ports in enumerate((above, below)):
        net = chip.replace_many({"interconnect.memory_ports": ports}).interconnect
        first, stop = spans[at, 0, 0]
        counts, orders = wiring_of(net, tuple(range(12))).counted(model.tables, 0, cuts.splits[first:stop])
        assert np.array_equal(cuts.wires[first:stop], counts[:, PLACED])
        assert (orders > 0).any()


def test_what_is_kept_of_many_networks_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a design has the same numbers whatever was forgotten."""
    monkeypatch.setattr(core_cuts, "MOST_KNOWN", 3)
    monkeypatch.setattr(wires, "MOST_WIRINGS", 2)
    monkeypatch.setattr(wires, "_WIRINGS", {})
    model = compile_model(default_passes(load_model("gemm:32x2048x640", dtype="int8")))
    chip, ports = chip_on("ring"), [[[at]] for at in range(8)]
    every = designs_from(chip, {"interconnect.memory_ports": ports})
    auto = partial(mode_splits, "auto")
    together = evaluate(model, every, auto).latency_s
    assert len(model.known_cuts) <= 3
    assert len(wires._WIRINGS) <= 2
    again = [evaluate(model, every.rows(np.array([at])), auto).latency_s[0] for at in range(8)]
    assert together.tolist() == again
    assert len(model.known_cuts) <= 3


def test_operands_in_the_scratchpads_keep_the_cores_in_their_order() -> None:
    """A grid of 2 x 6 cores on a mesh of 3 x 4 is better placed in another order, unless something lies there."""
    nest = next(nest for key, nest in NESTS.items() if key.startswith("matmul 0"))
    chip = chip_on("mesh")
    site = make_site(chip, Fabric(chip), chip.cores[0], tuple(range(12)))
    every = [split for split in split_candidates(nest, 12, ALL_ROLES) if math.prod(split) == 12]
    splits, free = np.array(every, np.int64), np.zeros((len(every), len(nest.operands)), np.bool_)
    assert site.wiring is not None
    counts, _ = site.wiring.counted(nest_tables([nest]), 0, splits)
    assert (counts[:, GIVEN] != counts[:, PLACED]).any()
    assert np.array_equal(site_wires(nest, site, splits, free), counts[:, PLACED])
    free[:, 0] = True
    assert np.array_equal(site_wires(nest, site, splits, free), counts[:, GIVEN])
