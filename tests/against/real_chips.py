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


HOST = {"bandwidth": "16 GB/s", "latency": "1 us"}
HOST4 = {"bandwidth": "32 GB/s", "latency": "1 us"}
CMEM = {"size": "128 MiB", "ways": 16, "line": "512 B", "bandwidth": "2.7 TB/s"}


def real_chips() -> dict[str, tuple[Chip, float]]:
    """Chip and published die in mm2 (of TPUs an upper limit) by name."""
    hbm4 = {"device": "hbm2", "stacks": 4}
    a100 = _multiprocessor(108, 20, 16, 64, 1.41, registers="256 KiB", shared="192 KiB")
    h100 = _multiprocessor(132, 12, 32, 128, 1.83, registers="256 KiB", shared="228 KiB")
    # The matrix cores do fp64 at a quarter of the fp32 rate of 256 a cycle.
    mi210_rates = {"fp16": 0.5, "fp64": 0.125}
    mi210 = _multiprocessor(104, 8, 16, 64, 1.7, registers="512 KiB", shared="80 KiB", rates=mi210_rates)
    a40 = _multiprocessor(84, 0, 8, 128, 1.74, registers="256 KiB", shared="128 KiB")
    return {
        "tpu_v1": (load_chip("tpu_v1"), 331),
        "tpu_v2": (
            _chip(
                *("tpu_v2", "n16", "700 MHz"),
                _tensorcore(1, 2, 0.7, "512 KiB"),
                {**hbm4, "capacity": "16 GiB", "bandwidth": "700 GB/s"},
                host=HOST,
                links={"count": 4, "bandwidth": "62 GB/s"},
            ),
            611,
        ),
        "tpu_v3": (
            _chip(
                *("tpu_v3", "n16", "940 MHz"),
                _tensorcore(2, 2, 0.94, "1 MiB"),
                {**hbm4, "capacity": "32 GiB", "bandwidth": "900 GB/s"},
                host=HOST,
                links={"count": 4, "bandwidth": "82 GB/s"},
            ),
            648,
        ),
        "tpu_v4": (load_chip("tpu_v4", {"links": {"count": 6, "bandwidth": "45 GB/s"}}), 600),
        "tpu_v4i": (
            _chip(
                *("tpu_v4i", "n7", "1050 MHz"),
                _tensorcore(4, 1, 1.05, "4 MiB"),
                {"device": "hbm2", "stacks": 2, "capacity": "8 GiB", "bandwidth": "614 GB/s"},
                host=HOST,
                cache=CMEM,
                links={"count": 2, "bandwidth": "50 GB/s"},
            ),
            400,
        ),
        "a100": (
            _chip(
                *("a100", "n7", "1410 MHz"),
                a100,
                {"device": "hbm2e", "stacks": 5, "capacity": "80 GiB", "bandwidth": "2039 GB/s"},
                host=HOST4,
                cache={"size": "40 MiB", "ways": 16, "line": "128 B", "bandwidth": "7.2 TB/s"},
                links={"count": 12, "bandwidth": "25 GB/s"},
            ),
            826,
        ),
        "h100": (
            _chip(
                *("h100", "n5", "1830 MHz"),
                h100,
                {"device": "hbm3", "stacks": 5, "capacity": "80 GiB", "bandwidth": "3350 GB/s"},
                host={"bandwidth": "64 GB/s", "latency": "1 us"},
                cache={"size": "50 MiB", "ways": 16, "line": "128 B", "bandwidth": "9.4 TB/s"},
                links={"count": 18, "bandwidth": "25 GB/s"},
            ),
            814,
        ),
        "mi210": (
            _chip(
                *("mi210", "n7", "1700 MHz"),
                mi210,
                {"device": "hbm2e", "stacks": 4, "capacity": "64 GiB", "bandwidth": "1600 GB/s"},
                host=HOST4,
                cache={"size": "8 MiB", "ways": 16, "line": "128 B", "bandwidth": "6.9 TB/s"},
                links={"count": 8, "bandwidth": "50 GB/s"},
            ),
            720,
        ),
        "a40": (
            _chip(
                *("a40", "n7", "1740 MHz"),
                a40,
                {"device": "gddr6", "channels": 24, "capacity": "48 GiB", "bandwidth": "696 GB/s"},
                host=HOST4,
                cache={"size": "6 MiB", "ways": 16, "line": "128 B", "bandwidth": "3.6 TB/s"},
                links={"count": 4, "bandwidth": "14 GB/s"},
            ),
            628,
        ),
    }
