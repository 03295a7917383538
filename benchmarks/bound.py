"""The bound of many designs: designs per second and core, and how it ranks chips beside the events.

    python benchmarks/bound.py [CHIPS [WORKERS]]

Speed, by CPU seconds of this process: random designs (tests/cost/random_chips.py) in one call, hardly two of which have
the same arrays, cores and DRAM; a grid of five parameters in one call, whose designs are searched together where they
are alike (sim/cost/alike.py), beside some of them searched by themselves; and the scalar path of a few chips, one by
one by `simulate(fidelity="bound")`. Rank correlation (Spearman) of latency and of energy between
the bound and the event engine over CHIPS random chips (default 500), simulated by WORKERS processes (default 2).
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "cost"))

import numpy as np
import pandas as pd
from random_chips import base_chip, random_columns

import sim
from sim.cost import alike
from sim.errors import LeptonError
from sim.hw.chip import Chip

RUNS: list[tuple[str, dict[str, object], int]] = [
    ("resnet50", {"dtype": "int8"}, 1000),
    ("llama2_7b", {"dtype": "int8", "phase": "decode", "kv": 2048}, 3000),
]
GRID: dict[str, list[object]] = {
    "core.array.rows": [64, 96, 128, 192],
    "core.array.cols": [64, 128, 256],
    "core.sram.size": ["1 MiB", "1.5 MiB", "2 MiB", "3 MiB", "4 MiB", "6 MiB", "8 MiB"],
    "core.dma.bandwidth": ["64 GB/s", "96 GB/s", "128 GB/s", "160 GB/s", "192 GB/s", "256 GB/s"],
    "clock": ["800 MHz", "1 GHz", "1.2 GHz", "1.4 GHz"],
}
RANKED: list[tuple[str, dict[str, object]]] = [("resnet50", {"dtype": "int8"})]


def main() -> None:
    chips = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    workers = int(sys.argv[2]) if len(sys.argv) > 2 else 2
    base = base_chip()
    print(f"{'model':14}{'designs':>16}{'designs/s':>11}{'by themselves/s':>17}{'one by one/s':>14}")
    for model, options, count in RUNS:
        many = _together(model, options, base, random_columns(count, seed=1))
        one = _one_by_one(model, options)
        print(f"{model:14}{f'{count} random':>16}{many:>11,.0f}{'':>17}{one:>14.2f}")
        rows = list(itertools.product(*GRID.values()))
        columns = dict(zip(GRID, map(list, zip(*rows, strict=True)), strict=True))
        many = _together(model, options, base, columns)
        few = {path: values[:: len(rows) // 200] for path, values in columns.items()}
        with _no_trees():
            alone = _together(model, options, base, few)
        print(f"{model:14}{f'{len(rows)} of a grid':>16}{many:>11,.0f}{alone:>17,.0f}")
    print(
        f"\n{'model':14}{'chips':>8}{'both':>6}{'latency':>9}{'energy':>9}"
        f"{'event/bound latency: 5 %':>26}{'median':>8}{'95 %':>8}"
    )
    for model, options in RANKED:
        columns = random_columns(chips, seed=2)
        bound = sim.bound(model, base, columns, **options)
        with ProcessPoolExecutor(workers) as pool:
            jobs = [(model, options, row) for row in pd.DataFrame(columns).to_dict("records")]
            event = pd.DataFrame(pool.map(_event, jobs, chunksize=4), columns=["latency_s", "energy_j"])
        both = bound["latency_s"].notna() & (bound["error"] == "") & event["latency_s"].notna()
        mine, theirs = bound[both], event[both]
        latency, energy = (mine[c].corr(theirs[c], method="spearman") for c in ("latency_s", "energy_j"))
        low, mid, high = np.percentile(theirs["latency_s"] / mine["latency_s"], [5, 50, 95])
        print(
            f"{model:14}{chips:>8}{both.sum():>6}{latency:>9.3f}{energy:>9.3f}{low:>26.2f}{mid:>8.2f}{high:>8.2f}"
        )


def _together(
    model: str, options: dict[str, object], base: Chip, columns: dict[str, list[object]]
) -> float:
    """Designs per CPU second in one call."""
    sim.bound(model, base, {path: values[:2] for path, values in columns.items()}, **options)  # compiles
    began = time.process_time()
    count = len(sim.bound(model, base, columns, **options))
    return count / (time.process_time() - began)


@contextmanager
def _no_trees() -> Iterator[None]:
    """Inside, every design is searched by itself."""
    kept, alike.FEWEST = alike.FEWEST, sys.maxsize
    try:
        yield
    finally:
        alike.FEWEST = kept


def _one_by_one(model: str, options: dict[str, object], count: int = 4) -> float:
    """Chips per CPU second by the scalar path."""
    base, columns = base_chip(), random_columns(count, seed=1)
    rows = [
        base.replace_many(dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)
    ]
    sim.simulate(model, rows[0], fidelity="bound", **options)
    began = time.process_time()
    for chip in rows:
        sim.simulate(model, chip, fidelity="bound", **options)
    return count / (time.process_time() - began)


def _event(job: tuple[str, dict[str, object], dict[str, object]]) -> tuple[float, float]:
    model, options, row = job
    try:
        report = sim.simulate(model, base_chip().replace_many(row), **options)
    except LeptonError:
        return float("nan"), float("nan")
    return float(report["latency_s"]), float(report["energy_j"])


if __name__ == "__main__":
    main()
