"""Predictions of measured operators: every distinct case is simulated once, in worker processes if there are many."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import active_children, get_context
from typing import Literal

from sim.errors import DoesNotFit, InputError
from sim.hw.chip import Chip
from sim.pipeline import Fidelity, simulate
from sim.units import PS_PER_S
from sim.validate.copies import COPY_TENSORS, copy_s
from sim.validate.measured_set import HostCall, board_calibration, host_call, in_sequence, set_of, timed_as
from sim.validate.measurement import Measurement
from sim.validate.operator_graph import build_graph, work
from sim.validate.planned import launches_s, planned, product_bounds

FEW_CASES = 64
"""Up to this many cases are simulated in this process: starting others would take longer."""

CASES_PER_CALL = 16

Boards = Literal["all", "calls", "none"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the simulator says of one operator on the device. `bound_by` is the kind of resource of its bound ("array",
    "dram", ...); `macs_per_dram_byte` 0 where it has no multiply-accumulates. `refused` says why there is no
    prediction."""

    latency_s: float
    bound_s: float
    bound_by: str
    launch_s: float
    macs_per_dram_byte: float
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Compared:
    """A measurement beside its prediction; `call` is what the host adds where its clock was read."""

    row: Measurement
    prediction: Prediction
    call: HostCall | None = None

    @property
    def predicted_s(self) -> float:
        """What the measurement should have shown: the time on the device, on the host's clock where it was read."""
        device_s = self.prediction.latency_s
        return device_s if self.call is None else self.call.wall_s(device_s)

    @property
    def host_s(self) -> float:
        """Part of `predicted_s` that is not the device's."""
        return self.predicted_s - self.prediction.latency_s

    @property
    def error(self) -> float:
        """Signed relative error: 0.1 is predicted 10 % too slow."""
        return self.predicted_s / self.row.measured_s - 1.0


def predict(
    rows: Sequence[Measurement],
    chip: Chip,
    *,
    fidelity: Fidelity = "event",
    workers: int = 1,
    progress: Callable[[str], None] | None = None,
    boards: Boards = "all",
    events_to: float = math.inf,
) -> list[Compared]:
    """Every row of a known family beside its prediction, in order; rows of other operators are left out. Rows of a set
    whose board has a calibration of its own are predicted with that one and get the host's calls; with `boards` "calls"
    all are predicted on the chip as it is, with "none" no host adds to them either. Products of more than `events_to`
    multiply-accumulates are predicted by the closed form of their plans."""
    known = [row for row in rows if row.family is not None]
    own = chip.calibration
    used = [board_calibration(set_of(row), chip.name, own) if boards == "all" else own for row in known]
    keys = [(row.case, timed_as(row), in_sequence(row), its) for row, its in zip(known, used, strict=True)]
    found: dict[object, Prediction] = {}
    done = 0
    for calibration in dict.fromkeys(used):
        cases = list({key: row for row, key in zip(known, keys, strict=True) if key[-1] == calibration}.values())
        on = chip if calibration == own else chip.with_calibration(calibration)
        for row, prediction in _predictions(cases, on, fidelity, workers, events_to):
            found[row.case, timed_as(row), in_sequence(row), calibration] = _one_after_another(prediction, row)
            done += 1
            if progress is not None and done % 50 == 0:
                progress(f"simulated {done} operators")
    predictions = [found[key] for key in keys]
    if boards == "none":
        return [Compared(row, prediction) for row, prediction in zip(known, predictions, strict=True)]
    return [_compare(row, prediction) for row, prediction in zip(known, predictions, strict=True)]


def _one_after_another(one: Prediction, row: Measurement) -> Prediction:
    """Of as many kernels as the row timed."""
    _, kernels = timed_as(row)
    if kernels == 1:
        return one
    return replace(
        one, latency_s=kernels * one.latency_s, bound_s=kernels * one.bound_s, launch_s=kernels * one.launch_s
    )


def _compare(row: Measurement, prediction: Prediction) -> Compared:
    try:
        return Compared(row, prediction, host_call(row))
    except KeyError as error:
        return Compared(row, replace(prediction, latency_s=float("nan"), refused=str(error.args[0])))


def _predictions(
    cases: Sequence[Measurement], chip: Chip, fidelity: Fidelity, workers: int, events_to: float
) -> Iterable[tuple[Measurement, Prediction]]:
    one = partial(_predict_some, chip=chip, fidelity=fidelity, events_to=events_to)
    if workers == 1 or len(cases) <= FEW_CASES:
        for row in cases:
            yield row, one([row])[0]
        return
    # forkserver: Numba and matplotlib threads of this process must not be forked into the workers.
    context = get_context("forkserver")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_interrupts) as pool:
        chunks = [cases[at : at + CASES_PER_CALL] for at in range(0, len(cases), CASES_PER_CALL)]
        under_way = [pool.submit(one, chunk) for chunk in chunks]
        try:
            for chunk, future in zip(chunks, under_way, strict=True):
                yield from zip(chunk, future.result(), strict=True)
        except BaseException:
            # Nobody waits for the rest: a case may take a minute.
            for worker in active_children():
                worker.terminate()
            raise


def _leave_interrupts() -> None:
    """Ctrl-C is for the program that started this worker, which ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _predict_some(
    rows: Sequence[Measurement], chip: Chip, fidelity: Fidelity, events_to: float
) -> list[Prediction]:
    def one(row: Measurement) -> Prediction:
        large = row.family == "matmul" and math.prod(row.shape) > events_to
        return _predict_planned(row, chip) if large else _predict_one(row, chip, fidelity)

    return [one(row) for row in rows]


def _predict_planned(row: Measurement, chip: Chip) -> Prediction:
    try:
        latency_s, steps = planned(row, chip)
    except DoesNotFit as error:
        return _refused(error)
    arrays_s, dram_s, intensity = product_bounds(row, chip, steps)
    bound_by = "array" if arrays_s > dram_s else "dram"
    return Prediction(latency_s, max(arrays_s, dram_s), bound_by, launches_s(steps, chip), intensity)


def _refused(error: Exception) -> Prediction:
    return Prediction(float("nan"), float("nan"), "", 0.0, 0.0, refused=str(error).splitlines()[0])


def _predict_copy(row: Measurement, chip: Chip, fidelity: Fidelity) -> Prediction:
    """A copy from the DRAM: the loads of an operator, by events; its bound is the DRAM's bandwidth."""
    bound_s = work(row).nbytes / chip.dram.bandwidth_bytes_per_s
    launch_s = chip.calibration.launch_ps(COPY_TENSORS, contraction=False) / PS_PER_S
    latency_s = copy_s(build_graph(row), chip) if fidelity == "event" else bound_s + launch_s
    return Prediction(latency_s, bound_s, "dram", launch_s, 0.0)


def _predict_one(row: Measurement, chip: Chip, fidelity: Fidelity) -> Prediction:
    try:
        if row.family == "copy":
            return _predict_copy(row, chip, fidelity)
        report = simulate(build_graph(row), chip, fidelity=fidelity)
    except (DoesNotFit, InputError) as error:
        return _refused(error)
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
