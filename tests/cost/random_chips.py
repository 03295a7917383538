"""Random chips around a preset, as columns of parameters: what the bound is compared with the events on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sim.hw.chip import Chip, chip_from_dict, load_chip

GRIDS = {1: [1, 1], 2: [1, 2], 4: [2, 2], 8: [2, 4], 16: [4, 4]}
DEVICES = {"hbm3": (8, 16, 32), "hbm2e": (8, 16, 32), "gddr6": (4, 8, 16), "lpddr5_6400": (4, 8, 16)}


def random_columns(count: int, seed: int, cores: Sequence[int] = tuple(GRIDS)) -> dict[str, list[object]]:
    """Columns of `count` chips: array sides and dataflow, cores and their mesh, memories, lanes, DMA, links, DRAM."""
    rng = np.random.default_rng(seed)

    def choose(options: Sequence[object]) -> list[object]:
        return [options[i] for i in rng.integers(0, len(options), count)]

    columns: dict[str, list[object]] = {
        "clock": [f"{mhz} MHz" for mhz in rng.integers(500, 2000, count).tolist()],
        "core.array.rows": choose([16, 32, 48, 64, 128, 256]),
        "core.array.cols": choose([16, 32, 64, 96, 128, 256]),
        "core.array.dataflow": choose(["weight_stationary", "output_stationary", "input_stationary"]),
        "core.array.double_buffered_weights": choose([True, False]),
        "core.accumulator.size": choose(["64 KiB", "256 KiB", "1 MiB"]),
        "core.vector.lanes": choose([32, 64, 128, 256, 512]),
        "core.sram.size": choose(["512 KiB", "1 MiB", "2 MiB", "4 MiB", "8 MiB"]),
        "core.sram.bandwidth": choose(["200 GB/s", "400 GB/s", "800 GB/s", "1.6 TB/s"]),
        "core.dma.bandwidth": choose(["16 GB/s", "32 GB/s", "64 GB/s", "128 GB/s"]),
        "core.dma.outstanding": choose([1, 2, 4, 8]),
        "core.dma.setup_latency": choose(["20 ns", "100 ns", "400 ns"]),
        "interconnect.link_bandwidth": choose(["32 GB/s", "64 GB/s", "128 GB/s", "512 GB/s"]),
        "interconnect.hop_latency": choose(["1 ns", "5 ns", "20 ns"]),
    }
    counts = choose(list(cores))
    columns["core.count"] = counts
    columns["interconnect.shape"] = [GRIDS[n] for n in counts]  # type: ignore[index]
    columns["interconnect.memory_ports"] = [
        [[0, col] for col in range(GRIDS[n][1])]
        for n in counts  # type: ignore[index]
    ]
    columns["dram.device"] = choose(list(DEVICES))
    columns["dram.channels"] = [
        int(rng.choice(DEVICES[device]))
        for device in columns["dram.device"]  # type: ignore[index]
    ]
    return columns


def base_chip() -> Chip:
    """The preset the columns start from, with its DRAM in channels and without a cache."""
    document = load_chip("lepton_m").document
    assert document is not None
    data = {key: value for key, value in document.data.items() if key != "cache"}
    return chip_from_dict(data | {"dram": {"device": "hbm3", "channels": 16, "capacity": "24 GiB"}})


def random_chips(count: int, seed: int, cores: Sequence[int] = tuple(GRIDS)) -> list[Chip]:
    """The same as chips, each loaded and validated by itself."""
    columns, base = random_columns(count, seed, cores), base_chip()
    rows = zip(*columns.values(), strict=True)
    return [base.replace_many(dict(zip(columns, row, strict=True))) for row in rows]
