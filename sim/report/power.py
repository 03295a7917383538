"""Power over time: the energy of every component spread over the tasks that spend it, in equal slices of the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from sim.cost.energy import COMPONENTS, IDLE
from sim.cost.transfers import Float64
from sim.report.account import Account, SegmentAccount
from sim.report.ramps import Ramps
from sim.report.tables import Table
from sim.units import PS_PER_S

SLICES = 256
"""Slices of the power table; the peak is that of a slice."""


@dataclass(frozen=True)
class Power:
    """Watts by component (`COMPONENT_w`) and their sum `total_w` in equal slices of a run, between these edges
    (ticks)."""

    edges: Float64
    watts: Mapping[str, Float64]

    @property
    def peak_w(self) -> float:
        """The most of any slice."""
        return float(self.watts["total_w"].max())

    def table(self) -> Table:
        """With `start_s` and `end_s` of the slices."""
        columns = {"start_s": self.edges[:-1] / PS_PER_S, "end_s": self.edges[1:] / PS_PER_S, **self.watts}
        return {name: values.tolist() for name, values in columns.items()}


def power(account: Account, slices: int = SLICES) -> Power:
    """The power of a run in equal slices.

    Arithmetic is spent while a unit is held, a transfer's share between its first byte and its finish, by bytes, the
    clocks of GPU cores that have threads while any task of the operator is under way; idle power flows evenly. Repeats
    are expanded. In a closed form every operator spends its energy evenly over its time.
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
        spending = _closed_form(s, at - whole * end) if times is None else _observed(account, s, at - whole * end)
        for name, until, total_j in spending:
            spent[name] += until + whole * total_j
        offset += end * s.repeats
    run_s = account.latency_ps / PS_PER_S
    for name, watts in account.idle_w.items():
        spent[name] += watts * run_s * edges / edges[-1]
    seconds = np.diff(edges) / PS_PER_S
    watts_of = {name: np.maximum(np.diff(joules), 0.0) / seconds for name, joules in spent.items()}
    total = sum(watts_of.values(), np.zeros(slices))
    return Power(edges, {**{f"{name}_w": watts for name, watts in watts_of.items()}, "total_w": total})


Spent = Iterator[tuple[str, Float64, float]]
"""Component, joules spent by each instant of one run of a segment, joules of the whole run."""


def _closed_form(s: SegmentAccount, at: Float64) -> Spent:
    """Operators one after another."""
    end = np.cumsum(s.ticks)
    ramps = Ramps(end - s.ticks, end)
    for name in COMPONENTS:
        joules = s.energy_j[name] - s.idle_j[name] if name in IDLE else s.energy_j[name]
        yield name, ramps.until(joules, at), float(joules.sum())


def _observed(account: Account, s: SegmentAccount, at: Float64) -> Spent:
    """Tasks where the timeline has them; the energy of each component but for idle power, divided among the tasks of
    each operator. Components that take none are left out."""
    from sim.report import spending

    assert s.observed is not None
    if s.awake_j.any():
        yield "clock", _under_way(s).until(s.awake_j, at), float(s.awake_j.sum())
    times, segment, routes = s.observed.times, s.segment, account.routes
    columns = spending.Columns(
        segment.kind, segment.op, segment.hold, segment.dur, segment.nbytes, segment.route,
        routes.crossings["dma"], routes.crossings["dram"], routes.crossings["host"], routes.hops, routes.exchanged,
    )  # fmt: skip
    share, total = np.empty(spending.SHARES), np.zeros((len(segment.ops), spending.SHARES))
    spending.fill_totals(columns, share, total)
    spent = {name: shares for name, shares in {"sram": _sram(s), **_shares(s)}.items() if _any(shares)}
    if not spent:
        return
    component = np.repeat(np.arange(len(spent)), [len(shares) for shares in spent.values()])
    ways = [spending.joules_per_share(total, *one) for shares in spent.values() for one in shares]
    by_of, each = (np.stack(column, axis=1) for column in zip(*ways, strict=True))
    instants, back = np.unique(at, return_inverse=True)
    ended, under_way = np.zeros((len(instants) + 1, len(spent))), np.zeros((len(instants), len(spent)))
    some = np.empty(len(spent))
    spending.fill_spent(
        columns, times.start, times.finish, by_of, each, component, instants, share, some, ended, under_way
    )
    until = np.cumsum(ended, axis=0)
    for part, name in enumerate(spent):
        yield name, (until[:-1, part] + under_way[:, part])[back], float(until[-1, part])


def _under_way(s: SegmentAccount) -> Ramps:
    """Operators from the first start of their tasks to the last finish; those without tasks take no time."""
    assert s.observed is not None
    times, op = s.observed.times, s.segment.op
    begin, end = np.full(len(s.segment.ops), times.length, np.int64), np.zeros(len(s.segment.ops), np.int64)
    np.minimum.at(begin, op, times.start)
    np.maximum.at(end, op, times.finish)
    return Ramps(np.minimum(begin, end), end)


def _any(shares: list[tuple[Float64, int]]) -> bool:
    """Is anything spent?"""
    return any(joules.any() for joules, _ in shares)


def _shares(s: SegmentAccount) -> dict[str, list[tuple[Float64, int]]]:
    """By component: joules of the operators, and by what their tasks share them."""
    from sim.report import spending as by

    found = {
        **dict.fromkeys(("mac", "registers", "accumulator"), by.PRODUCTS),
        **{"vector": by.PASSES, "control": by.TASKS, "clock": by.HELD, "cache": by.BYTES, "dma": by.DMA},
        **{"noc": by.HOPS, "host": by.HOST, "chip_links": by.EXCHANGED},
        **dict.fromkeys(("dram_activate", "dram_io"), by.DRAM),
        **{"dram_read": by.DRAM_READ, "dram_write": by.DRAM_WRITE},
    }
    joules = {name: s.energy_j[name] - s.idle_j[name] if name in IDLE else s.energy_j[name] for name in found}
    joules["clock"] = joules["clock"] - s.awake_j
    return {name: [(joules[name], share)] for name, share in found.items()}


def _sram(s: SegmentAccount) -> list[tuple[Float64, int]]:
    """Scratchpad accesses by computation while it is held, those by DMA with the bytes."""
    from sim.report import spending as by

    counted = _counted(s, "sram_read_bytes") + _counted(s, "sram_write_bytes")
    total = s.traffic.sram_read_bytes + s.traffic.sram_write_bytes
    computing = np.divide(counted, total, out=np.zeros(len(total)), where=total > 0)
    joules = s.energy_j["sram"]
    return [(joules * computing, by.HELD), (joules * (1 - computing), by.ENGINES)]


def _counted(s: SegmentAccount, name: str) -> Float64:
    return np.array([op.counts.get(name, 0.0) for op in s.segment.ops], np.float64)
