"""Products with packed weights: bytes, cycles and joules in closed form, and numbers tile by tile."""

from __future__ import annotations

import math

import numpy as np
import pytest

import sim
from sim.cost.work import GemmShape, array_cycles, unpack_cost
from sim.errors import InputError
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.graph.packing import pack_weights, parse_packing
from sim.hw.chip import load_chip
from sim.pipeline import plan, verify_values


def product(m: int, n: int, k: int, weights: str | None, dtype: str = "bf16") -> Graph:
    b = GraphBuilder("product", dtype)
    y = b.linear(b.input("x", (m, k)), n, bias=False, name="y")
    plain = b.build([y], kernel=True)
    return plain if weights is None else pack_weights(plain, parse_packing(weights))


@pytest.mark.parametrize("chip", ["lepton_s", "lepton_m", "a100"])
@pytest.mark.parametrize(
    ("weights", "bits", "group"), [("int4", 4, 128), ("int4:32", 4, 32), ("int8", 8, 2048), ("fp8", 8, 2048)]
)
def test_a_decode_reads_packed_weights_once(chip: str, weights: str, bits: int, group: int) -> None:
    """One row by 2048 x 1024: the weights at so many bits, a scale of 16 bits per group, and the row, which some cores
    read once per tile of columns."""
    n, k = 1024, 2048
    report = sim.simulate(product(1, n, k, weights), chip)
    expected = k * n * bits // 8 + math.ceil(k / group) * n * 2
    rest = report["dram_read_bytes"] - expected
    assert rest % (2 * k) == 0
    assert 2 * k <= rest <= 0.02 * expected


def test_how_much_faster_four_bits_are() -> None:
    """On arrays that are never the limit: nearly by what is read where their load path unpacks, else as the lanes of 2
    cores take two passes of each weight."""
    n = k = 4096
    fast = {"core.array.rates": {"bf16": 8}}
    unpacks = {"core.array.unpacks": ["int4"]}
    plain, by_array, by_lanes = (
        sim.simulate(product(1, n, k, weights), "lepton_s", overrides=fast | changes)
        for weights, changes in ((None, {}), ("int4", unpacks), ("int4", {}))
    )
    assert 3.5 < plain["latency_s"] / by_array["latency_s"] < 16 / (4 + 16 / 128)
    kind = load_chip("lepton_s").cores[0]
    lanes_s = 2 * n * k / (kind.count * kind.vector.lanes * kind.clock_hz)
    assert lanes_s < by_lanes["latency_s"] < 1.05 * lanes_s


def test_lanes_unpack_while_the_array_waits() -> None:
    """64 x 32 weights by two passes on 8 lanes: 512 cycles, where 8 x 8 PEs are held 8 x 4 folds of 8 cycles."""
    tiny = load_chip("tiny")
    kind = tiny.cores[0]
    assert kind.vector.lanes == 8
    (nest,) = product(1, 32, 64, "int4:16", "fp32").nests[0]
    assert unpack_cost(nest, kind) == 2.0  # converted, scaled
    one = np.ones(1, np.int64)
    shape = GemmShape(one, one, 32 * one, 64 * one)
    bits = 32, 4
    plain, _ = array_cycles(shape, kind, "int8", "weight_stationary", bits)
    hold, dur = array_cycles(shape, kind, "int8", "weight_stationary", bits, unpack=2.0)
    assert plain.tolist() == [8 * 4 * 8]
    assert hold.tolist() == [64 * 32 // 8 * 2]
    assert (dur >= hold).all()


def test_a_load_path_that_unpacks_takes_no_lanes() -> None:
    graph = product(128, 256, 256, "int4")
    by_lanes = sim.simulate(graph, "lepton_m")
    by_array = sim.simulate(graph, "lepton_m", overrides={"core.array.unpacks": ["int4"]})
    lanes, array = (one.energy.set_index("component")["energy_j"] for one in (by_lanes, by_array))
    assert lanes["vector"] > 2 * array["vector"]
    assert lanes["mac"] == array["mac"]
    assert by_lanes["latency_s"] >= by_array["latency_s"]
    assert by_lanes["dram_read_bytes"] == by_array["dram_read_bytes"]
    other = sim.simulate(graph, "lepton_m", overrides={"core.array.unpacks": ["int8"]})
    assert other["energy_j"] == by_lanes["energy_j"]


def test_joules_of_the_lanes() -> None:
    """Every weight is converted and scaled once where the rows are one tile; every sum is converted once."""
    m, n, k = 4, 64, 128
    _, _, program = plan(product(m, n, k, "int4:32", "fp32"), "tiny", overrides={"core.sram.size": "1 MiB"})
    (op,) = program.segments[0].ops
    assert op.mapping["unit"] == "array"
    rows = math.ceil(m / op.mapping["tile"]["row"])
    assert op.counts["vector_convert"] == k * n * rows + m * n
    assert op.counts["vector_mul"] == k * n * rows


@pytest.mark.parametrize("chip", ["tiny", "lepton_s", "a100"])
@pytest.mark.parametrize("weights", ["int4:32", "int8"])
def test_values_tile_by_tile(chip: str, weights: str) -> None:
    dtype = "fp32" if chip == "tiny" else "bf16"
    assert verify_values(product(20, 72, 200, weights, dtype), chip).outputs


def test_what_cannot_be_unpacked_is_refused_or_goes_elsewhere() -> None:
    with pytest.raises(InputError, match=r"array.unpacks: row-stationary PEs take their words as they are"):
        load_chip("eyeriss_v1", {"core.array.unpacks": ["int8"]})
    report = sim.simulate(product(4, 32, 64, "int8", "int16"), "eyeriss_v1")
    assert report.ops["unit"].tolist() == ["vector"]
    assert "row_stationary is not defined for packed weights" in report.ops["notes"][0]
