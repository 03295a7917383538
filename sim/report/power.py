"""Power over time: the energy of every component spread over the tasks that spend it, in equal slices of the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from sim.cost.energy import COMPONENTS, IDLE
from sim.cost.traffic import dram_directions
from sim.cost.transfers import Float64, is_transfer, program_routes
from sim.program import Kind
from sim.report.account import Account, SegmentAccount
from sim.report.ramps import Ramps
from sim.report.tables import Table
from sim.units import PS_PER_S

SLICES = 256
"""Slices of the power table; the peak is that of a slice."""

Profile = tuple[str, Float64]
"""A component and the joules that each task spends in it."""


def power(account: Account, slices: int = SLICES) -> Table:
    """Equal slices of the run: `start_s`, `end_s`, watts by component (`COMPONENT_w`) and their sum `total_w`.

    Arithmetic is spent while a unit is held, a transfer's share between its first byte and its finish, by bytes; idle
    power flows evenly. Repeats are expanded. In a closed form every operator spends its energy evenly over its time.
    Slices x power sums to the energy of the run, component by component.
    """
    edges = np.linspace(0.0, float(account.latency_ps), slices + 1)
    spent = {name: np.zeros(slices + 1) for name in COMPONENTS}
    offset = 0
    for s in account.segments:
        times = None if s.observed is None else s.observed.times
        end = int(s.ticks.sum()) if times is None else times.length
        if end == 0:
            continue
        at = np.clip(edges - offset, 0.0, float(end * s.repeats))
        whole = np.minimum(at // end, s.repeats - 1)
        profiles = _closed_form(s) if times is None else _observed(account, s)
        for name, until, total_j in profiles(at - whole * end):
            spent[name] += until + whole * total_j
        offset += end * s.repeats
    run_s = account.latency_ps / PS_PER_S
    for name, watts in account.idle_w.items():
        spent[name] += watts * run_s * edges / edges[-1]
    seconds = np.diff(edges) / PS_PER_S
    watts_of = {name: np.maximum(np.diff(joules), 0.0) / seconds for name, joules in spent.items()}
    total = sum(watts_of.values(), np.zeros(slices))
    columns = {"start_s": edges[:-1] / PS_PER_S, "end_s": edges[1:] / PS_PER_S}
    columns |= {f"{name}_w": watts for name, watts in watts_of.items()}
    return {name: values.tolist() for name, values in {**columns, "total_w": total}.items()}


Spent = Iterator[tuple[str, Float64, float]]
"""Component, joules spent by each instant of one run of a segment, joules of the whole run."""


def _closed_form(s: SegmentAccount) -> Callable[[Float64], Spent]:
    """Operators one after another."""
    end = np.cumsum(s.ticks)
    ramps = Ramps(end - s.ticks, end)

    def read(at: Float64) -> Spent:
        for name in COMPONENTS:
            joules = s.energy_j[name] - s.idle_j[name] if name in IDLE else s.energy_j[name]
            yield name, ramps.until(joules, at), float(joules.sum())

    return read


def _observed(account: Account, s: SegmentAccount) -> Callable[[Float64], Spent]:
    """Tasks where the timeline has them."""
    assert s.observed is not None
    times, segment = s.observed.times, s.segment
    moves = is_transfer(segment)
    begin = np.where(moves, np.minimum(times.start + segment.dur, times.finish - 1), times.start)
    end = np.where(moves, times.finish, times.start + segment.hold)
    ramps = Ramps(begin, end)

    def read(at: Float64) -> Spent:
        for name, joules in _profiles(account, s):
            yield name, ramps.until(joules, at), float(joules.sum())

    return read


def _profiles(account: Account, s: SegmentAccount) -> Iterator[Profile]:
    """The energy of each component but for idle power, divided among the tasks of each operator."""
    segment, moves = s.segment, is_transfer(s.segment)
    routes = program_routes(account.program)
    matmul = np.where(segment.kind == Kind.MATMUL, segment.hold, 0).astype(np.float64)
    vector = np.where(segment.kind == Kind.VECTOR, segment.hold, 0).astype(np.float64)
    nbytes = segment.nbytes.astype(np.float64)
    on_dram, on_host = (
        np.where(moves, routes.crossings[kind][segment.route] > 0, False) for kind in ("dram", "host")
    )
    reads, writes = dram_directions(segment.kind, on_dram, on_host)
    dma, hops = (
        np.where(moves, count[segment.route], 0) * nbytes for count in (routes.crossings["dma"], routes.hops)
    )
    share = np.where(moves, routes.exchanged[segment.route], 0.0)
    exchanged = nbytes * share
    every = (segment.kind != Kind.BARRIER).astype(np.float64)
    weights = {
        **dict.fromkeys(("mac", "registers", "accumulator"), matmul),
        **{"vector": vector, "control": every, "clock": matmul + vector},
        **{"cache": nbytes, "dma": dma + 2 * exchanged, "noc": hops * (1 + 2 * share), "host": nbytes * on_host},
        "chip_links": exchanged,
        **dict.fromkeys(("dram_activate", "dram_io"), nbytes * on_dram),
        **{"dram_read": nbytes * reads, "dram_write": nbytes * writes},
    }
    yield "sram", _sram(s, matmul + vector, dma)
    for name, weight in weights.items():
        joules = s.energy_j[name] - s.idle_j[name] if name in IDLE else s.energy_j[name]
        yield name, _divided(joules, weight, s)


def _sram(s: SegmentAccount, held: Float64, dma: Float64) -> Float64:
    """Scratchpad accesses by computation while it is held, those by DMA with the bytes."""
    counted = _counted(s, "sram_read_bytes") + _counted(s, "sram_write_bytes")
    total = s.traffic.sram_read_bytes + s.traffic.sram_write_bytes
    computing = np.divide(counted, total, out=np.zeros(len(total)), where=total > 0)
    joules = s.energy_j["sram"]
    return _divided(joules * computing, held, s) + _divided(joules * (1 - computing), dma, s)


def _counted(s: SegmentAccount, name: str) -> Float64:
    return np.array([op.counts.get(name, 0.0) for op in s.segment.ops], np.float64)


def _divided(joules: Float64, weight: Float64, s: SegmentAccount) -> Float64:
    """The joules of each operator among its tasks by weight; by duration where no task has any weight."""
    op = s.segment.op
    total = np.bincount(op, weights=weight, minlength=len(joules))
    if (joules[total == 0] > 0).any():
        weight = np.where(total[op] == 0, s.segment.dur, weight)
        total = np.bincount(op, weights=weight, minlength=len(joules))
    return np.asarray(joules[op] * weight / np.where(total == 0, 1.0, total)[op], np.float64)
