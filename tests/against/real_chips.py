"""Chips whose die is published, as chip files: structure from data sheets, no number that is only there to fit.

What the area needs is stated; DMA engines, latencies and the like are placeholders. Sources: TPU v2 and v3, Norrie et
al., IEEE Micro 2021, and Jouppi et al., CACM 2020; TPU v4i, Jouppi et al., ISCA 2021; TPU v4, Google Cloud page and
JAX documentation; A100 and H100, NVIDIA white papers (a streaming multiprocessor is a core, its four tensor cores are
arrays); MI210, LLMCompass mi210.json and data sheet; A40, data sheet; K40, P100 and V100 (`earlier_gpus`), NVIDIA's
table of its generations (May 2017) as the press printed it, with the dies of P100 and V100; K40's is a reseller's.
T4 (TU104), L4 (AD104) and RTX 4090 (AD102): dies and structure as the press and resellers printed them (AnandTech 2022
for the dies of Ada). `many_cores`: see there.
"""

from __future__ import annotations

from typing import Any

from sim.hw.chip import Chip, chip_from_dict, load_chip

Row = dict[str, Any]
DMA = {"channels": 2, "outstanding": 8, "setup_latency": "100 ns", "bandwidth": "100 GB/s"}


GPUS = {"a100": 826.0, "h100": 814.0, "mi210": 720.0, "a40": 628.0}
"""Dies of GPUs whose chip files come with the package."""


def _chip(name: str, technology: str, clock: str, core: Row, dram: Row, **more: Any) -> Chip:
    count = core["count"]
    network = {"topology": "crossbar", "shape": [count], "link_bandwidth": "1 TB/s", "hop_latency": "5 ns"}
    cores = [{"name": "core", "dma": DMA, **core}]
    head = {"version": 1, "name": name, "technology": technology, "clock": clock, "interconnect": network}
    return chip_from_dict({**head, "cores": cores, "dram": dram, **more})


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


def memory_of(device: str, capacity: str, bandwidth: str, **parts: int) -> Row:
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


def _multiprocessor(count: int, spare: int, lanes: int, issue: int, shared_kib: int, shared_gb_per_s: float) -> Row:
    """A core of a GPU with registers of 256 KiB; without tensor cores it has a single PE, as sums need an array."""
    return {
        "count": count,
        "spare": spare,
        "array": {"rows": 1, "cols": 1, "dataflow": "output_stationary", "rates": {"fp32": 1}},
        "accumulator": {"size": "128 KiB", "bandwidth": "1 TB/s"},
        "vector": {"lanes": lanes},
        "sram": {"size": f"{shared_kib} KiB", "banks": 32, "bandwidth": f"{shared_gb_per_s:.1f} GB/s"},
        "dispatch": {"tiles": [[64, 64]], "issue": issue},
    }


def _second_level(size: str, bytes_per_cycle: int, clock_ghz: float) -> Row:
    bandwidth = f"{bytes_per_cycle * clock_ghz:.0f} GB/s"
    return {"size": size, "ways": 16, "line": "128 B", "bandwidth": bandwidth}


def earlier_gpus() -> dict[str, tuple[Chip, float]]:
    """Chip and published die in mm2 of GPUs that no number of the model was made with. Bandwidths of caches are
    estimates; fp64 lanes and graphics are left out; K40's memory is GDDR5, here GDDR6; RTX 4090 uses 72 of the 96 MiB
    on its die."""
    tensor = {"rows": 64, "cols": 64, "dataflow": "output_stationary", "rates": {"fp16": 0.125}}
    volta = {**_multiprocessor(80, 4, 64, 128, 128, 128 * 1.53), "array": tensor}
    turing = {**_multiprocessor(40, 8, 64, 128, 96, 128 * 1.59), "array": tensor}
    small_ada = {**_multiprocessor(58, 2, 128, 128, 128, 128 * 2.04), "array": tensor}
    large_ada = {**_multiprocessor(128, 16, 128, 128, 128, 128 * 2.52), "array": tensor}
    described = (
        ("k40", 561, "n28", "745 MHz", _multiprocessor(15, 0, 192, 192, 64, 256 * 0.745),
         memory_of("gddr6", "12 GiB", "288 GB/s", channels=24), _second_level("1536 KiB", 1024, 0.745), None),
        ("p100", 610, "n16", "1328 MHz", _multiprocessor(56, 4, 64, 64, 64, 128 * 1.328),
         memory_of("hbm2", "16 GiB", "732 GB/s", stacks=4), _second_level("4 MiB", 2048, 1.328), (4, "20 GB/s")),
        ("v100", 815, "n12", "1530 MHz", volta,
         memory_of("hbm2", "16 GiB", "900 GB/s", stacks=4), _second_level("6 MiB", 2048, 1.53), (6, "25 GB/s")),
        ("t4", 545, "n12", "1590 MHz", turing,
         memory_of("gddr6", "16 GiB", "320 GB/s", channels=16), _second_level("4 MiB", 2048, 1.59), (2, "25 GB/s")),
        ("l4", 294.5, "n4", "2040 MHz", small_ada,
         memory_of("gddr6", "24 GiB", "300 GB/s", channels=12), _second_level("48 MiB", 1536, 2.04), None),
        ("rtx_4090", 608.5, "n4", "2520 MHz", large_ada,
         memory_of("gddr6", "24 GiB", "1008 GB/s", channels=24), _second_level("96 MiB", 3072, 2.52), None),
    )  # fmt: skip
    host = {"host": {"bandwidth": "16 GB/s", "latency": "1 us"}}
    found = {}
    for name, die_mm2, node, clock, core, memory, cache, links in described:
        more = {} if links is None else {"links": {"count": links[0], "bandwidth": links[1]}}
        found[name] = (_chip(name, node, clock, core, memory, cache=cache, **host, **more), float(die_mm2))
    return found


def _grid(topology: str, shape: tuple[int, int], link: str) -> Row:
    return {"topology": topology, "shape": list(shape), "link_bandwidth": link, "hop_latency": "5 ns"}


def many_cores() -> dict[str, tuple[Chip, float]]:
    """Chip and published mm2 of dies of many cores with memories of their own. Lanes, banks and widths are estimates.

    Graphcore GC200 (1,472 tiles with 900 MB, 250 TFLOP/s, 823 mm2: press of July 2020); Tenstorrent Grayskull (120
    cores of 1 MiB that get 384 GB/s; 477 mm2 are its grid of cores: arXiv 2407.13885, not read again); Meta's second
    MTIA (8 x 8 cores, 354 TOP/s, 25.6 mm x 16.4 mm: press of April 2024; 384 KiB a core and 256 MiB that they share,
    not read again)."""
    host = {"host": {"bandwidth": "32 GB/s", "latency": "1 us"}}
    tile = {"count": 1472, "array": {"rows": 16, "cols": 4, "rates": {"fp16": 1}}, "vector": {"lanes": 4},
            "sram": {"size": "624 KiB", "banks": 20, "bandwidth": "42 GB/s"}}  # fmt: skip
    tensix = {"count": 120, "array": {"rows": 32, "cols": 32, "rates": {"int8": 1.25, "bf16": 0.3125}},
              "vector": {"lanes": 32}, "sram": {"size": "1 MiB", "banks": 16, "bandwidth": "384 GB/s"}}  # fmt: skip
    element = {"count": 64, "array": {"rows": 32, "cols": 64, "rates": {"int8": 1, "fp16": 0.5}},
               "accumulator": {"size": "32 KiB", "bandwidth": "1 TB/s"}, "vector": {"lanes": 64},
               "sram": {"size": "384 KiB", "banks": 8, "bandwidth": "1 TB/s"}}  # fmt: skip
    shared = {"size": "256 MiB", "ways": 16, "line": "128 B", "bandwidth": "2.7 TB/s"}
    none = {"device": "lpddr5_6400", "channels": 1, "capacity": "1 GiB"}
    lpddr = {"device": "lpddr5_6400", "channels": 16, "capacity": "64 GiB"}
    between = {"count": 10, "bandwidth": "32 GB/s"}
    return {
        "gc200": (_chip("gc200", "n7", "1325 MHz", tile, none, **host, links=between,
                        interconnect=_grid("mesh", (32, 46), "10 GB/s")), 823.0),
        "grayskull": (_chip("grayskull", "n12", "1200 MHz", tensix, lpddr, **host,
                            interconnect=_grid("torus", (10, 12), "38 GB/s")), 477.0),
        "mtia_2": (_chip("mtia_2", "n5", "1350 MHz", element, lpddr, **host, cache=shared,
                         interconnect=_grid("mesh", (8, 8), "172 GB/s")), 421.0),
    }  # fmt: skip


def real_chips() -> dict[str, tuple[Chip, float]]:
    """Chip and published die in mm2 (of TPUs an upper limit) by name."""
    v2_memory = memory_of("hbm2", "16 GiB", "700 GB/s", stacks=4)
    v3_memory = memory_of("hbm2", "32 GiB", "900 GB/s", stacks=4)
    v4i_memory = memory_of("hbm2", "8 GiB", "614 GB/s", stacks=2)
    v2_around = _around("16 GB/s", (4, "62 GB/s"))
    v3_around = _around("16 GB/s", (4, "82 GB/s"))
    v4i_around = _around("16 GB/s", (2, "50 GB/s"), ("128 MiB", "512 B", "2.7 TB/s"))
    described = (
        ("tpu_v2", 611, "n16", "700 MHz", _tensorcore(1, 2, 0.7, "512 KiB"), v2_memory, v2_around),
        ("tpu_v3", 648, "n16", "940 MHz", _tensorcore(2, 2, 0.94, "1 MiB"), v3_memory, v3_around),
        ("tpu_v4i", 400, "n7", "1050 MHz", _tensorcore(4, 1, 1.05, "4 MiB"), v4i_memory, v4i_around),
    )
    found = {
        name: (_chip(name, node, clock, core, memory, **around), float(die_mm2))
        for name, die_mm2, node, clock, core, memory, around in described
    }
    return {
        "tpu_v1": (load_chip("tpu_v1"), 331),
        "tpu_v4": (load_chip("tpu_v4"), 600),
        **{name: (load_chip(name), die_mm2) for name, die_mm2 in GPUS.items()},
        **found,
    }
