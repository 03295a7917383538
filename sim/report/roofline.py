"""The bound: no run can be faster than its work on any one resource divided by what the resource can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sim.cost.transfers import Float64, LinkWork, link_work
from sim.hw.chip import Chip
from sim.program import BYTE_UNITS, OpRow, Program, Segment
from sim.timeline import Probed
from sim.units import PS_PER_S


@dataclass(frozen=True, slots=True)
class Floors:
    """Least seconds of every operator (rows) on every resource (columns) in one run of a segment.

    `kind` and `name` of the columns: all arrays together at their peak, all vector units together, every
    link. `background` is the time of flows that no task waits for (write-backs of the cache); it is not in `seconds`.
    """

    seconds: Float64
    kind: tuple[str, ...]
    name: tuple[str, ...]
    background: Float64


@dataclass(frozen=True, slots=True)
class Bound:
    """A lower bound on a latency and the resource that sets it."""

    seconds: float
    kind: str
    resource: str


def peak_macs_per_s(chip: Chip, dtype: str) -> float:
    """Multiply-accumulates per second of all arrays at `dtype`; 0 where no array computes in it."""
    able = any(kind.array is not None and dtype in kind.array.rates for kind in chip.cores)
    return chip.peak_macs_per_s(dtype) if able else 0.0


def array_seconds(op: OpRow, chip: Chip) -> float:
    """Least time of the operator's MACs on all arrays of the chip, at the calibrated part of their peak; 0 where it
    does not run on arrays."""
    peak = peak_macs_per_s(chip, op.dtype) if op.mapping.get("unit") == "array" else 0.0
    return op.macs / (peak * chip.calibration.arrays_efficiency) if peak else 0.0


def segment_floors(
    program: Program, segment: Segment, chip: Chip, probed: Probed | None = None, links: LinkWork | None = None
) -> Floors:
    """Work / capacity of every operator on every resource; `probed` is what was found in the cache (None: nothing),
    `links` the work of the links where it is known already.

    Arrays: MACs / (PEs x rate x clock), all arrays of the chip together. Vector units: the time they are
    held, spread over all of them. Launches of operators, where they cost time: one after another. Links: bytes,
    times the route weight of the access pattern, / bandwidth (Williams et al., "Roofline", CACM 2009, with every
    link as a roof).
    """
    arrays = np.array([array_seconds(op, chip) for op in segment.ops], np.float64)
    vector = np.array([queue.unit == "vector" for queue in program.queues], np.bool_)
    on_vector = vector[segment.queue]
    held = np.bincount(segment.op[on_vector], weights=segment.hold[on_vector], minlength=len(segment.ops)) / (
        PS_PER_S * max(1, int(vector.sum()))
    )
    bytes_per_s = program.capacity * (PS_PER_S / BYTE_UNITS)
    work = link_work(program, segment, probed) if links is None else links
    seconds = (work.weighted_bytes - work.background_bytes) / bytes_per_s
    launches = launch_ticks(program, segment) / PS_PER_S
    none = np.zeros_like(arrays)
    return Floors(
        np.column_stack([arrays, held, launches, seconds]),
        ("array", "vector", "dispatch", *(link.kind for link in program.links)),
        ("all arrays", "all vector units", "launches", *(link.name for link in program.links)),
        np.column_stack([none, none, none, work.background_bytes / bytes_per_s]),
    )


def launch_ticks(program: Program, segment: Segment) -> Float64:
    """Ticks that the launch of every operator takes; 0 on a chip without a launch overhead."""
    dispatch = np.array([queue.unit == "dispatch" for queue in program.queues], np.bool_)[segment.queue]
    return np.bincount(
        segment.op[dispatch], weights=segment.hold[dispatch], minlength=len(segment.ops)
    ).astype(np.float64)


def operator_bounds(floors: Floors) -> tuple[Float64, list[str]]:
    """Least seconds of every operator alone on the chip, and the kind of resource that sets them."""
    worst = floors.seconds.argmax(axis=1)
    seconds = floors.seconds[np.arange(len(worst)), worst]
    return seconds, [floors.kind[i] if s > 0 else "" for i, s in zip(worst.tolist(), seconds, strict=True)]


def network_bound(
    floors: Sequence[Floors],
    segments: Sequence[Segment],
    repeats: Sequence[int],
    *,
    input_index: int = 0,
    after_s: float = 0.0,
) -> Bound:
    """Least seconds of one input: the largest, over all resources, of its total work / capacity.

    Background flows may go on for `after_s` after the end: so much of their work need not be done before.
    """
    total, behind = np.zeros((2, len(floors[0].kind)))
    for table, segment, count in zip(floors, segments, repeats, strict=True):
        mine = np.array([op.input_index == input_index for op in segment.ops], np.bool_)
        total += table.seconds[mine].sum(axis=0) * count
        behind += table.background[mine].sum(axis=0) * count
    total += np.maximum(0.0, behind - after_s)
    worst = int(total.argmax())
    return Bound(float(total[worst]), floors[0].kind[worst], floors[0].name[worst])
