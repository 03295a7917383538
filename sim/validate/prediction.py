"""Predictions of measured operators: every distinct case is simulated once, in worker processes if there are many."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

from sim.errors import DoesNotFit, InputError
from sim.hw.chip import Chip
from sim.pipeline import Fidelity, simulate
from sim.validate.measurement import Measurement
from sim.validate.operator_graph import build_graph

FEW_CASES = 64
"""Up to this many cases are simulated in this process: starting others would take longer."""

CASES_PER_CALL = 16


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the simulator says of one operator. `bound_by` is the kind of resource of its bound ("array", "dram", ...);
    `macs_per_dram_byte` 0 where it has no multiply-accumulates. `refused` says why there is no prediction."""

    latency_s: float
    bound_s: float
    bound_by: str
    launch_s: float
    macs_per_dram_byte: float
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Compared:
    """A measurement beside its prediction."""

    row: Measurement
    prediction: Prediction

    @property
    def error(self) -> float:
        """Signed relative error: 0.1 is predicted 10 % too slow."""
        return self.prediction.latency_s / self.row.measured_s - 1.0


def predict(
    rows: Sequence[Measurement],
    chip: Chip,
    *,
    fidelity: Fidelity = "event",
    workers: int = 1,
    progress: Callable[[str], None] | None = None,
) -> list[Compared]:
    """Every row of a known family beside its prediction, in order; rows of other operators are left out."""
    known = [row for row in rows if row.family is not None]
    cases = list({row.case: row for row in known}.values())
    found: dict[object, Prediction] = {}
    for done, (row, prediction) in enumerate(_predictions(cases, chip, fidelity, workers), start=1):
        found[row.case] = prediction
        if progress is not None and done % 50 == 0:
            progress(f"simulated {done} of {len(cases)} operators")
    return [Compared(row, found[row.case]) for row in known]


def _predictions(
    cases: Sequence[Measurement], chip: Chip, fidelity: Fidelity, workers: int
) -> Iterable[tuple[Measurement, Prediction]]:
    one = partial(_predict_some, chip=chip, fidelity=fidelity)
    if workers == 1 or len(cases) <= FEW_CASES:
        for row in cases:
            yield row, one([row])[0]
        return
    # forkserver: Numba and matplotlib threads of this process must not be forked into the workers.
    with ProcessPoolExecutor(workers, mp_context=get_context("forkserver")) as pool:
        chunks = [cases[at : at + CASES_PER_CALL] for at in range(0, len(cases), CASES_PER_CALL)]
        for chunk, predictions in zip(chunks, pool.map(one, chunks), strict=True):
            yield from zip(chunk, predictions, strict=True)


def _predict_some(rows: Sequence[Measurement], chip: Chip, fidelity: Fidelity) -> list[Prediction]:
    return [_predict_one(row, chip, fidelity) for row in rows]


def _predict_one(row: Measurement, chip: Chip, fidelity: Fidelity) -> Prediction:
    try:
        report = simulate(build_graph(row), chip, fidelity=fidelity)
    except (DoesNotFit, InputError) as error:
        return Prediction(float("nan"), float("nan"), "", 0.0, 0.0, refused=str(error).splitlines()[0])
    ops = report.tables["ops"]
    latency_s = float(report["latency_s"] or 0.0)
    macs = sum(int(value) for value in ops["macs"])
    moved = float(report["dram_read_bytes"] or 0) + float(report["dram_write_bytes"] or 0)
    busiest = max(range(len(ops["bound_s"])), key=lambda index: float(ops["bound_s"][index]))
    return Prediction(
        latency_s,
        float(report["bound_latency_s"] or 0.0),
        str(ops["bound_by"][busiest]),
        sum(float(value) for value in ops["launch_s"]),
        macs / moved if moved else 0.0,
    )
