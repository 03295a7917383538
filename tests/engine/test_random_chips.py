"""Programs compute the right numbers on chips nobody has drawn: random cores of several kinds, memories and networks.

The sizes are those at which tilings, partitions and slots matter for the small models: kilobytes and a few rows.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from small_models import MODELS

from sim.errors import DoesNotFit
from sim.hw.chip import Chip, chip_from_dict
from sim.pipeline import verify_values

BLOCK = 10
PARTITIONS = ("auto", "auto", "data", "channel", "reduction", "pipeline")
DEVICES = {
    "ddr3_2133": "channels", "ddr4_2400": "channels", "ddr5_4800": "channels", "gddr6": "channels",
    "hbm2": "stacks", "hbm2e": "stacks", "hbm3": "stacks", "lpddr5_6400": "channels",
}  # fmt: skip


def random_core(rng: random.Random, name: str) -> dict[str, Any]:
    """One in seven is without an array; of the others some have no accumulator, or several arrays."""
    core: dict[str, Any] = {
        "name": name,
        "count": rng.choice([1, 1, 2, 3, 4, 7]),
        "vector": {"lanes": rng.choice([1, 8, 16, 60, 128, 1024])},
        "sram": {
            "size": f"{rng.choice([2, 4, 8, 16, 64])} KiB",
            "banks": rng.choice([1, 2, 8, 32]),
            "bandwidth": f"{rng.choice([8, 64, 256, 1000])} GB/s",
        },
        "dma": {
            "channels": rng.choice([1, 2, 4]),
            "outstanding": rng.choice([1, 2, 8]),
            "setup_latency": f"{rng.choice([0, 20, 100, 1000])} ns",
            "bandwidth": f"{rng.choice([4, 32, 128, 600])} GB/s",
        },
    }
    if rng.random() < 6 / 7:
        core["array"] = {
            "rows": rng.choice([1, 2, 4, 7, 8, 16]),
            "cols": rng.choice([1, 2, 4, 5, 8, 16]),
            "count": rng.choice([1, 1, 2, 4]),
            "dataflow": rng.choice(["weight_stationary", "output_stationary", "input_stationary"]),
            "double_buffered_weights": rng.random() < 0.5,
            "rates": {"int8": rng.choice([1, 2, 0.25]), "int16": 0.5, "bf16": 1, "fp16": 1, "fp32": 0.5},
        }
        if rng.random() < 0.6:
            core["accumulator"] = {
                "size": f"{rng.choice([512, 2048, 16384])} B",
                "bandwidth": f"{rng.choice([16, 100, 1000])} GB/s",
            }
    return core


def random_chip(rng: random.Random) -> Chip:
    """A chip of one to three kinds of cores, on any network, with or without a cache and a host."""
    cores = [random_core(rng, f"kind{index}") for index in range(rng.choice([1, 1, 2, 3]))]
    total = sum(core["count"] for core in cores)
    topology = rng.choice(["mesh", "torus", "ring", "crossbar"])
    rows = rng.randint(1, total)
    device = rng.choice(sorted(DEVICES))
    chip: dict[str, Any] = {
        "version": 1,
        "name": "random",
        "technology": rng.choice(["n5", "n7", "n16", "n28", "n45", "n65"]),
        "clock": f"{rng.choice([100, 700, 1000, 1900])} MHz",
        "cores": cores,
        "interconnect": {
            "topology": topology,
            "shape": [rows, -(-total // rows)] if topology in ("mesh", "torus") else [total],
            "link_bandwidth": f"{rng.choice([8, 64, 512])} GB/s",
            "hop_latency": f"{rng.choice([0, 2, 30])} ns",
        },
        "dram": {"device": device, "capacity": "8 GiB", DEVICES[device]: rng.choice([1, 2, 4])},
    }
    if rng.random() < 0.4:
        chip["cache"] = {
            "size": f"{rng.choice([8, 64, 1024])} KiB",
            "ways": rng.choice([1, 4, 16]),
            "line": f"{rng.choice([32, 64, 128, 256])} B",
            "bandwidth": f"{rng.choice([32, 256, 2000])} GB/s",
        }
    if rng.random() < 0.5:
        chip["host"] = {"bandwidth": f"{rng.choice([1, 16, 64])} GB/s", "latency": "1 us"}
    return chip_from_dict(chip)


def dressed(rng: random.Random, chip: Chip) -> Chip:
    """The chip with what GPUs, TPUs and edge cores have besides: tiles dealt from a menu of any shapes, adder trees,
    single slots, vector registers, a cache that scatters lines or lets some tensors pass, and a calibration."""
    values = chip.expanded()
    for core in values["cores"]:
        lanes, array = core["vector"]["lanes"], core.get("array")
        if array and rng.random() < 0.3:
            array["rows_per_adder"] = rng.choice([n for n in range(1, array["rows"] + 1) if array["rows"] % n == 0])
        if rng.random() < 0.3:
            rows = rng.choice([n for n in (1, 2, 4) if lanes % n == 0])
            core["vector"]["register"] = [rows, lanes // rows]
        core["sram"]["padded_rows"] = rng.random() < 0.5
        if rng.random() < 0.4:
            core["sram"]["tile_slots"] = rng.choice([1, 2])
            core["divide"] = rng.choice(["always", "to_fit"])
        else:
            core["dispatch"] = random_dispatch(rng)
            if array and rng.random() < 0.5:
                array["latency"] = rng.choice([0, 1, 33])
    if "cache" in values:
        policy = {role: rng.choice(["cache", "bypass"]) for role in ("weights", "inputs", "states", "activations")}
        values["cache"] |= {"hashed": rng.random() < 0.5, "policy": policy}
    if rng.random() < 0.3:
        values["calibration"] = {
            "launch_overhead": f"{rng.choice([0, 10, 1000])} ns",
            "tile_overhead": f"{rng.choice([0, 20])} ns",
            "array_efficiency": rng.choice([1.0, 0.8]),
            "dram_efficiency": rng.choice([1.0, 0.6]),
        }
    return chip_from_dict(values)


def random_dispatch(rng: random.Random) -> dict[str, Any]:
    sides = (1, 2, 4, 8, 16, 64)
    dispatch: dict[str, Any] = {
        "tiles": [[rng.choice(sides), rng.choice(sides)] for _ in range(rng.randint(1, 4))],
        "depth": rng.choice([1, 3, 4, 8, 16, 64]),
        "stages": rng.choice([1, 2, 3, 5]),
        "choice": rng.choice(["fastest", "largest"]),
        "least_rows": rng.choice([1, 1, 2, 8, 64]),
        "split_sums": rng.random() < 0.5,
        "threads": rng.choice([32, 64, 256, 2048]),
        "issue": rng.choice([1, 32, 128]),
        "access_instructions": rng.choice([0, 0.5, 7]),
        "l1": f"{rng.choice([0, 1, 64])} KiB",
        "block_start": f"{rng.choice([0, 10, 300])} ns",
    }
    if rng.random() < 0.5:
        dispatch["lone_stages"] = rng.choice([1, 2, 4])
    return dispatch


def computed_right(seed: int, *, dress: bool = False) -> bool:
    """Whether a small model came out right on the chip and under the partition of a seed; False where it does not
    fit, for which a scratchpad must be small, or the accumulator that holds a dealt tile."""
    rng = random.Random(seed)
    chip, model = random_chip(rng), rng.choice(sorted(MODELS))
    if dress:
        chip = dressed(random.Random(-seed), chip)
    partition, inputs = rng.choice(PARTITIONS), rng.choice([1, 1, 1, 2])
    try:
        found = verify_values(MODELS[model](), chip, partition=partition, inputs=inputs)
    except DoesNotFit:
        menu = any(kind.dispatch for kind in chip.cores)
        if not menu and min(kind.sram.size_bytes for kind in chip.cores) > 4096:
            raise
        return False
    assert found.passed, (seed, model, partition, found.error)
    assert found.races == 0, (seed, model, partition)
    return True


@pytest.mark.parametrize("first", range(0, 40, BLOCK))
def test_random_chips_compute_the_model(first: int) -> None:
    assert sum(computed_right(seed) for seed in range(first, first + BLOCK)) >= BLOCK - 1


@pytest.mark.parametrize("first", range(0, 30, BLOCK))
def test_random_gpus_and_edge_chips_compute_the_model(first: int) -> None:
    assert sum(computed_right(seed, dress=True) for seed in range(first, first + BLOCK)) >= BLOCK - 1


def test_a_result_in_finer_tiles_than_granules_lies_where_its_tiles_are() -> None:
    """Twelve columns over four cores in twelve tiles, where a granule is two: three columns a core, not two or four."""
    assert computed_right(1566)


@pytest.mark.nightly
@pytest.mark.parametrize("first", range(1000, 4000, 100))
def test_many_random_chips_compute_the_model(first: int) -> None:
    assert sum(computed_right(seed, dress=first % 200 == 0) for seed in range(first, first + 100)) >= 95
