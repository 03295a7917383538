"""Chips whose die is published, as chip files: structure from data sheets, no number that is only there to fit.

What the area needs is stated; DMA engines, latencies and the like are placeholders. Sources: TPU v2 and v3, Norrie et
al., IEEE Micro 2021, and Jouppi et al., CACM 2020; TPU v4i, Jouppi et al., ISCA 2021; TPU v4, Google Cloud page and
JAX documentation; A100 and H100, NVIDIA white papers (a streaming multiprocessor is a core, its four tensor cores are
arrays); MI210, LLMCompass mi210.json and data sheet; A40, data sheet.
"""

from __future__ import annotations

from typing import Any

from sim.hw.chip import Chip, chip_from_dict, load_chip

Row = dict[str, Any]
DMA = {"channels": 2, "outstanding": 8, "setup_latency": "100 ns", "bandwidth": "100 GB/s"}


def _chip(name: str, technology: str, clock: str, core: Row, dram: Row, **more: Any) -> Chip:
    count = core["count"]
    network = {"topology": "crossbar", "shape": [count], "link_bandwidth": "1 TB/s", "hop_latency": "5 ns"}
    cores = [{"name": "core", "dma": DMA, **core}]
    head = {"version": 1, "name": name, "technology": technology, "clock": clock}
    return chip_from_dict({**head, "cores": cores, "interconnect": network, "dram": dram, **more})


def _tensorcore(arrays: int, count: int, clock_ghz: float, accumulator: str) -> Row:
    """A TPU core from v2 on: 128 x 128 arrays, 8 x 128 lanes, VMEM of 16 MiB that moves a register of 4 KiB a cycle."""
    bandwidth = f"{4096 * clock_ghz:.1f} GB/s"
    return {
        "count": count,
        "array": {"rows": 128, "cols": 128, "count": arrays, "rates": {"bf16": 1}},
        "accumulator": {"size": accumulator, "bandwidth": bandwidth},
        "vector": {"lanes": 1024},
        "sram": {"size": "16 MiB", "banks": 32, "bandwidth": bandwidth},
    }


def _multiprocessor(count: int, spare: int, rows: int, lanes: int, clock_ghz: float, **sizes: Any) -> Row:
    """A GPU core: four arrays of rows x 16, fp32 lanes, 128 B a cycle from its shared memory, a register file."""
    rates = sizes.get("rates", {"fp16": 1})
    return {
        "count": count,
        "spare": spare,
        "array": {"rows": rows, "cols": 16, "count": 4, "rates": rates},
        "accumulator": {"size": sizes["registers"], "bandwidth": "1 TB/s"},
        "vector": {"lanes": lanes},
        "sram": {"size": sizes["shared"], "banks": 32, "bandwidth": f"{128 * clock_ghz:.1f} GB/s"},
    }


def _memory(device: str, capacity: str, bandwidth: str, **parts: int) -> Row:
    return {"device": device, "capacity": capacity, "bandwidth": bandwidth, **parts}


def _around(host: str, links: tuple[int, str], cache: tuple[str, str, str] | None = None) -> Row:
    """Host link, links to other chips (count, rate of each), and a cache of (size, line, bandwidth), if any."""
    found: Row = {
        "host": {"bandwidth": host, "latency": "1 us"},
        "links": {"count": links[0], "bandwidth": links[1]},
    }
    if cache is not None:
        size, line, bandwidth = cache
        found["cache"] = {"size": size, "ways": 16, "line": line, "bandwidth": bandwidth}
    return found


def real_chips() -> dict[str, tuple[Chip, float]]:
    """Chip and published die in mm2 (of TPUs an upper limit) by name."""
    a100 = _multiprocessor(108, 20, 16, 64, 1.41, registers="256 KiB", shared="192 KiB")
    h100 = _multiprocessor(132, 12, 32, 128, 1.83, registers="256 KiB", shared="228 KiB")
    # The matrix cores do fp64 at a quarter of the fp32 rate of 256 a cycle.
    mi210_rates = {"fp16": 0.5, "fp64": 0.125}
    mi210 = _multiprocessor(104, 8, 16, 64, 1.7, registers="512 KiB", shared="80 KiB", rates=mi210_rates)
    a40 = _multiprocessor(84, 0, 8, 128, 1.74, registers="256 KiB", shared="128 KiB")
    v2_memory = _memory("hbm2", "16 GiB", "700 GB/s", stacks=4)
    v3_memory = _memory("hbm2", "32 GiB", "900 GB/s", stacks=4)
    v4i_memory = _memory("hbm2", "8 GiB", "614 GB/s", stacks=2)
    a100_memory = _memory("hbm2e", "80 GiB", "2039 GB/s", stacks=5)
    h100_memory = _memory("hbm3", "80 GiB", "3350 GB/s", stacks=5)
    mi210_memory = _memory("hbm2e", "64 GiB", "1600 GB/s", stacks=4)
    a40_memory = _memory("gddr6", "48 GiB", "696 GB/s", channels=24)
    v2_around = _around("16 GB/s", (4, "62 GB/s"))
    v3_around = _around("16 GB/s", (4, "82 GB/s"))
    v4i_around = _around("16 GB/s", (2, "50 GB/s"), ("128 MiB", "512 B", "2.7 TB/s"))
    a100_around = _around("32 GB/s", (12, "25 GB/s"), ("40 MiB", "128 B", "7.2 TB/s"))
    h100_around = _around("64 GB/s", (18, "25 GB/s"), ("50 MiB", "128 B", "9.4 TB/s"))
    mi210_around = _around("32 GB/s", (8, "50 GB/s"), ("8 MiB", "128 B", "6.9 TB/s"))
    a40_around = _around("32 GB/s", (4, "14 GB/s"), ("6 MiB", "128 B", "3.6 TB/s"))
    described = (
        ("tpu_v2", 611, "n16", "700 MHz", _tensorcore(1, 2, 0.7, "512 KiB"), v2_memory, v2_around),
        ("tpu_v3", 648, "n16", "940 MHz", _tensorcore(2, 2, 0.94, "1 MiB"), v3_memory, v3_around),
        ("tpu_v4i", 400, "n7", "1050 MHz", _tensorcore(4, 1, 1.05, "4 MiB"), v4i_memory, v4i_around),
        ("a100", 826, "n7", "1410 MHz", a100, a100_memory, a100_around),
        ("h100", 814, "n5", "1830 MHz", h100, h100_memory, h100_around),
        ("mi210", 720, "n7", "1700 MHz", mi210, mi210_memory, mi210_around),
        ("a40", 628, "n7", "1740 MHz", a40, a40_memory, a40_around),
    )
    found = {
        name: (_chip(name, node, clock, core, memory, **around), float(die_mm2))
        for name, die_mm2, node, clock, core, memory, around in described
    }
    return {
        "tpu_v1": (load_chip("tpu_v1"), 331),
        "tpu_v4": (load_chip("tpu_v4"), 600),
        **found,
    }
