"""Sweeps: designs per second, what the machinery around a simulation costs, guided against random search, resuming.

    python benchmarks/explore.py [event] [bound] [driver] [efficiency] [guided] [page] [resume]
                                 [--workers 4] [--dask]

event, bound  designs per second of ResNet-50 on variants of lepton_m, stored, beside a plain loop over sim.simulate in
              one process. No two designs share a tile search.
driver        CPU of the driver alone: results of the bound's shape that cost nothing to make.
efficiency    the same designs by one worker and by several. `speed-up / workers` is the usual measure; on a machine
              that does other things too, `busy` is fairer: the share of the workers' time, from the first result to
              the last, that they spent in simulations. With --dask, a Dask cluster on this machine beside it.
guided        NSGA-II and the others on a space of four parameters whose grid is evaluated as well: hypervolume after a
              tenth of the grid's evaluations, as a share of the grid's, median and worst of 5 seeds, beside random.
page          the HTML page of 10,000 points, until it can be used in headless Chromium (where there is one).
resume        a study of 100,000 rows, all stored: until the first batch is handed out.

CPU seconds of the driver are its own; a machine with fewer free cores than workers + 1 shows less than its best.
"""

from __future__ import annotations

import argparse
import pickle
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sim.explore.evaluate import evaluate
from sim.explore.pareto import ideal_and_nadir, normalised_hypervolume
from sim.explore.results import Result, Results
from sim.explore.samplers import Listed
from sim.explore.space import Point, Space
from sim.explore.space_file import space_from_dict
from sim.explore.store import open_store
from sim.explore.study import Study
from sim.explore.sweep import Driver, sweep
from sim.explore.workers import Batch, Outcome, Serial, Workers, local_workers

RESNET: dict[str, Any] = {
    "name": "resnet50 on variants of lepton_m",
    "chip": "lepton_m",
    "workloads": [{"model": "resnet50", "dtype": "int8"}],
    "parameters": {
        "core.array.rows": {"from": 48, "to": 256, "step": 4},
        "core.array.cols": {"from": 48, "to": 256, "step": 4},
        "core.sram.size": {"from": "1 MiB", "to": "8 MiB", "step": "256 KiB"},
        "core.dma.bandwidth": {"from": "64 GB/s", "to": "256 GB/s", "step": "16 GB/s"},
    },
}
FOUR: dict[str, Any] = {
    "name": "four parameters",
    "chip": "lepton_s",
    "workloads": [{"model": "lenet5", "dtype": "int8", "batch": 16}],
    "parameters": {
        "core.array.rows": {"from": 8, "to": 64, "step": 8},
        "core.sram.size": {"from": "64 KiB", "to": "4 MiB", "factor": 2},
        "core.vector.lanes": [4, 8, 16, 32, 64, 96, 128],
        "core.dma.bandwidth": {"from": "4 GB/s", "to": "64 GB/s", "factor": 2},
    },
}
MANY: dict[str, Any] = {
    "name": "many",
    "chip": "lepton_s",
    "workloads": [{"model": "lenet5", "dtype": "int8"}],
    "parameters": {
        "core.array.rows": {"from": 1, "to": 40, "step": 1},
        "core.vector.lanes": {"from": 1, "to": 50, "step": 1},
        "core.dma.bandwidth": {"from": "1 GB/s", "to": "50 GB/s", "step": "1 GB/s"},
    },
}


PROBE, MOST, LASTS_S = 512, 200_000, 20.0
"""Designs of the bound: as many as take so long, by the CPU time of a few; batches have thousands where it is fast."""


def chosen(space: Space, count: int, seed: int) -> list[Point]:
    """Different points of a space."""
    return [space.point_at(number) for number in random.Random(seed).sample(range(space.size), count)]


class Timed:
    """Workers that note when results came, and how long these took."""

    def __init__(self, inner: Workers) -> None:
        self._inner = inner
        self.taken: list[tuple[float, float, int]] = []  # when, seconds of simulation, points

    @property
    def count(self) -> int:
        return self._inner.count

    def room(self) -> int:
        return self._inner.room()

    def submit(self, batch: Any) -> None:
        self._inner.submit(batch)

    def wait(self, timeout_s: float) -> list[Any]:
        found = self._inner.wait(timeout_s)
        for outcome in found:
            spent_s = sum(outcome.results.wall_s)
            self.taken.append((time.perf_counter(), spent_s, len(outcome.results)))
        return found

    def close(self) -> None:
        self._inner.close()


def timed_run(
    space: Space, points: list[Point], fidelity: Any, open_workers: Callable[[], Workers]
) -> dict[str, float]:
    """Rate, busy share and driver's CPU of a run into a store on disk, counted from when every worker has given about
    two results (start-up and first imports do not count)."""
    workers: list[Timed] = []

    def opened() -> Timed:
        workers.append(Timed(open_workers()))
        return workers[0]

    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder) / "s.sqlite", write=True) as store:
        driver = Driver(space, store, store.study("benchmark", {}), opened, progress=lambda now: None)
        began_cpu = time.process_time()
        driver.run(Listed(iter(points), len(points)), "benchmark", fidelity)
        cpu_s = time.process_time() - began_cpu
        count = workers[0].count
        driver.close()
    taken = workers[0].taken
    first = min(2 * count, len(taken) // 4)
    began, ended = taken[first][0], taken[-1][0]
    spent_s = sum(max(0.0, min(at, ended) - max(at - seconds, began)) for at, seconds, _ in taken)
    done = sum(number for _, _, number in taken[first + 1 :])
    return {
        "rate": done / (ended - began),
        "busy": spent_s / (count * (ended - began)),
        "each": sum(seconds for _, seconds, _ in taken) / len(points),
        "driver": cpu_s / len(points),
    }


def show(name: str, found: dict[str, float], workers: int) -> None:
    print(
        f"  {name:34}{workers:>3} workers{found['rate']:>11,.1f} designs/s{found['each'] * 1e3:>10.3f} ms each"
        f"{found['busy']:>8.1%} busy{found['driver'] * 1e6:>8.0f} us of driver's CPU each",
        flush=True,
    )


def plain_loop(space: Space, points: list[Point], fidelity: Any) -> tuple[float, float]:
    """Designs per second, and per CPU second, of a loop over sim.simulate with nothing stored."""
    from sim.pipeline import simulate

    workload = space.workloads[0]
    began, began_cpu = time.perf_counter(), time.process_time()
    for point in points:
        simulate(workload.model, space.chip(point), **space.options(workload, point), fidelity=fidelity)
    return len(points) / (time.perf_counter() - began), len(points) / (time.process_time() - began_cpu)


def rates(fidelity: Any, count: int | None, workers: int) -> None:
    space = space_from_dict(RESNET)
    evaluate(space, 0, fidelity, chosen(space, 1, 0))
    if count is None:
        began_s = time.process_time()
        evaluate(space, 0, fidelity, chosen(space, PROBE, 4))
        each_s = (time.process_time() - began_s) / PROBE
        count = max(PROBE * workers, min(MOST, int(LASTS_S * workers / each_s)))
    print(f"{fidelity}: {space.name}, {count:,} designs")
    alone, by_cpu = plain_loop(space, chosen(space, 12, 1), fidelity)
    print(
        f"  {'plain loop, not stored':34}{1:>3} process{alone:>12,.1f} designs/s, {by_cpu:,.1f} per CPU second"
    )
    show(
        "sweep",
        timed_run(space, chosen(space, count, 2), fidelity, lambda: local_workers(space, workers)),
        workers,
    )


def efficiency(count: int, workers: int, dask: bool) -> None:
    space = space_from_dict(RESNET)
    points = chosen(space, count, 3)
    print(f"efficiency: {space.name}, events, {count} designs")
    one = timed_run(space, points, "event", lambda: Serial(space))
    show("this process", one, 1)
    many = timed_run(space, points, "event", lambda: local_workers(space, workers))
    show("local workers", many, workers)
    print(f"  speed-up / workers {many['rate'] / one['rate'] / workers:.1%}")
    if dask:
        from distributed import LocalCluster

        from sim.explore.cluster import ClusterWorkers

        with LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster:
            found = timed_run(
                space, points, "event", lambda: ClusterWorkers(space, cluster.scheduler_address)
            )
            show("Dask workers", found, workers)
            print(f"  speed-up / workers {found['rate'] / one['rate'] / workers:.1%}")


class Made:
    """Workers whose results are one of the bound with other numbers, pickled as by a process; `made_s` is the CPU time
    of making them."""

    count = 4

    def __init__(self, template: Result) -> None:
        self._template = template
        self._queue: list[Batch] = []
        self._rng = np.random.default_rng(1)
        self.made_s = 0.0

    def room(self) -> int:
        return 2 * self.count - len(self._queue)

    def submit(self, batch: Batch) -> None:
        self._queue.append(batch)

    def wait(self, timeout_s: float) -> list[Outcome]:
        if not self._queue:
            return []
        began_s = time.process_time()
        batch = self._queue.pop(0)
        count = len(batch.points)
        metrics = {
            name: (value * self._rng.uniform(1.0, 2.0, count)).tolist()
            if isinstance(value, float)
            else [value] * count
            for name, value in self._template.metrics.items()
        }
        sent = pickle.dumps(Results(["ok"] * count, [""] * count, [2e-4] * count, metrics))
        self.made_s += time.process_time() - began_s
        return [Outcome(batch, pickle.loads(sent))]

    def close(self) -> None:
        """Nothing to end."""


def driver_alone(count: int = 50_000) -> None:
    space = space_from_dict(RESNET)
    made = Made(evaluate(space, 0, "bound", chosen(space, 1, 0))[0])
    found = timed_run(space, chosen(space, count, 2), "bound", lambda: made)
    each_s = found["driver"] - made.made_s / count
    print(f"driver: {each_s * 1e6:.1f} us of CPU a point, stored, of {count:,}")


def page(count: int = 10_000) -> None:
    import shutil

    from playwright.sync_api import sync_playwright

    from sim.explore.store import read_study
    from sim.html import study_page

    space = space_from_dict(RESNET)
    made = Made(evaluate(space, 0, "bound", chosen(space, 1, 0))[0])
    points = chosen(space, count, 2)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        plan = {"space": space.to_data(), "sampler": "random", "fidelity": "bound"}
        with open_store(Path(folder) / "s.sqlite", write=True) as store:
            number = store.study("page", plan)
            driver = Driver(space, store, number, lambda: made)
            driver.run(Listed(iter(points), count), "random", "bound")
            began_s = time.process_time()
            study = read_study(store, number, plan)
            table_s = (len(study.table), time.process_time() - began_s)[1]
        file = Path(folder) / "page.html"
        file.write_text(study_page(study), encoding="utf-8")
        written_s = time.process_time() - began_s - table_s
        size = file.stat().st_size / 2**20
        print(f"page: {count:,} points read in {table_s:.2f} s, page of {size:.1f} MiB in {written_s:.2f} s of CPU")
        path = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))))
        browser = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--enable-unsafe-swiftshader"]
        )
        seen = []
        for _ in range(5):
            tab = browser.new_page(viewport={"width": 1240, "height": 900})
            tab.goto(file.as_uri())
            tab.wait_for_function("() => document.body.dataset.readyMs", timeout=60_000)
            seen.append(float(tab.evaluate("() => document.body.dataset.readyMs")) / 1e3)
            tab.close()
        browser.close()
        print(f"  ready in {' '.join(f'{s:.2f}' for s in seen)} s (software renderer)")


def guided(workers: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "s.sqlite"
        grid = sweep(FOUR, fidelity="bound", workers=workers, out=file)
        feasible = grid.losses[np.isfinite(grid.losses).all(axis=1)]
        corners = ideal_and_nadir(feasible)
        whole = normalised_hypervolume(feasible, *corners)
        budget = len(grid.rows) // 10
        print(
            f"guided: {grid.name}, grid of {len(grid.rows):,}, front of {int(grid.on_front.sum())}, budget {budget}"
        )
        for sampler in ("nsga2", "tpe", "nsga3", "sobol"):
            shares: dict[str, list[float]] = {}
            for seed in range(5):
                study = sweep(
                    FOUR, fidelity="bound", workers=1, out=file, sampler=sampler, budget=budget, seed=seed
                )
                for name in {point.sampler for point in study.points}:
                    found = normalised_hypervolume(losses_by(study, name), *corners) / whole
                    shares.setdefault(name, []).append(found)
            for name, found_shares in sorted(shares.items()):
                if name == sampler or sampler == "nsga2":
                    median, worst = statistics.median(found_shares), min(found_shares)
                    print(f"  {name:8} median {median:.2%} of the grid's hypervolume, worst {worst:.2%}")


def losses_by(study: Study, sampler: str) -> Any:
    of = {row.point: losses for row, losses in zip(study.rows, study.losses, strict=True)}
    found = np.array([of[point.point] for point in study.points if point.sampler == sampler])
    return found[np.isfinite(found).all(axis=1)]


def resume() -> None:
    """Every evaluation but the last is in the store; the numbers are made up, as only keys matter."""
    from sim.explore.keys import KeyMaker
    from sim.explore.store import Evaluations

    space = space_from_dict(MANY)
    maker = KeyMaker(space, space.workloads[0], "bound")
    numbers = {f"metric_{at}_s": at / 7 for at in range(30)} | {
        "latency_s": 1.0,
        "energy_j": 1.0,
        "area_mm2": 1.0,
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "s.sqlite"
        points = list(space.points())
        with open_store(file, write=True) as store:
            for at in range(0, len(points) - 1, 5000):
                chunk = points[at : min(at + 5000, len(points) - 1)]
                results = Results.of(Result("ok", numbers, "", 0.0) for _ in chunk)
                store.add([Evaluations(maker.keys(chunk), "lenet5", "bound", ["{}"] * len(chunk), results)])
        given: list[float] = []

        class Watched(Serial):
            def submit(self, batch: Any) -> None:
                given.append(time.perf_counter())
                super().submit(batch)

        began = time.perf_counter()
        began_cpu = time.process_time()
        with open_store(file, write=True) as store:
            driver = Driver(space, store, store.study("resume", {}), lambda: Watched(space))
            driver.run(Listed(space.points(), space.size), "grid", "bound")
            cpu_s = time.process_time() - began_cpu
            driver.close()
        size = file.stat().st_size / 2**20
        print(
            f"resume: {space.size:,} rows in {size:.0f} MiB: first new point after {given[0] - began:.2f} s"
        )
        print(f"  {cpu_s:.2f} s of CPU for the whole run; all {len(given)} new point evaluated")


def main() -> None:
    parser = argparse.ArgumentParser()
    parts = ["event", "bound", "driver", "efficiency", "guided", "page", "resume"]
    parser.add_argument("parts", nargs="*", default=parts)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--dask", action="store_true")
    parser.add_argument("--designs", type=int, default=120, help="of event and efficiency")
    asked = parser.parse_args()
    for part in asked.parts:
        if part == "event":
            rates("event", asked.designs, asked.workers)
        elif part == "bound":
            rates("bound", None, asked.workers)
        elif part == "driver":
            driver_alone()
        elif part == "page":
            page()
        elif part == "efficiency":
            efficiency(asked.designs, asked.workers, asked.dask)
        elif part == "guided":
            guided(asked.workers)
        else:
            resume()


if __name__ == "__main__":
    main()
