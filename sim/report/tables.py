"""The tables of a report as plain columns: operators, resources, energy, stalls, critical path, parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from sim.cost.energy import COMPONENTS
from sim.cost.traffic import TRAFFIC_COLUMNS
from sim.cost.transfers import Float64
from sim.program import BYTE_UNITS, Int64, OpRow, Policy
from sim.report.account import Account, SegmentAccount
from sim.report.critical_path import CAUSES
from sim.report.error_bars import error_bar_columns
from sim.report.roofline import operator_bounds
from sim.report.stalls import STALLS, compute_queues
from sim.timeline import Probed
from sim.units import PS_PER_S

Table = Mapping[str, list[Any]]
"""Columns of equal length."""


def judged_operators(account: Account) -> Table:
    """Of the columns of `operators` those that say how far off each may be, and those that this depends on: all that a
    report's summary takes from operators."""
    tables = [_judged(s) for s in account.segments]
    columns: dict[str, list[Any]] = {name: [v for t in tables for v in t[name]] for name in tables[0]}
    return columns | error_bar_columns(account.chip, columns)


def _judged(s: SegmentAccount) -> dict[str, list[Any]]:
    ops, n = s.segment.ops, s.repeats
    _, bound_by = operator_bounds(s.floors)
    macs = np.array([op.macs for op in ops], np.float64)
    return {
        "kind": [op.kind for op in ops],
        "dtype": [op.dtype for op in ops],
        "macs": [op.macs * n for op in ops],
        "repeats": [n] * len(ops),
        "time_s": (s.ticks * n / PS_PER_S).tolist(),
        "launch_s": (s.floors.seconds[:, s.floors.kind.index("dispatch")] * n).tolist(),
        "bound_by": bound_by,
        "macs_per_dram_byte": _ratio(macs, s.traffic.dram_read_bytes + s.traffic.dram_write_bytes),
    }


def operators(account: Account, judged: Table) -> Table:
    """One row per operator and segment, repeats counted in every number but `start_s`.

    `time_s` is the operator's part of the critical path; the column sums to the run's latency. `active_s`
    is time with any of its tasks under way, never below `bound_s`, the most that one resource needs for its
    work. In a closed form both are its estimate, and only a timeline shows when it starts, computes and transfers:
    None. The last columns say how far `time_s` may be off (sim/report/error_bars.py); they are among the `judged` ones.
    """
    tables = [_segment_operators(s) for s in account.segments]
    columns: dict[str, list[Any]] = {
        name: list(judged[name]) if name in judged else [v for t in tables for v in t[name]] for name in tables[0]
    }
    total_s = sum(columns["time_s"])
    columns["share"] = [time_s / total_s for time_s in columns["time_s"]]
    return {**columns, **judged}


def _segment_operators(s: SegmentAccount) -> dict[str, list[Any]]:
    ops, n = s.segment.ops, s.repeats
    bound_s, _ = operator_bounds(s.floors)
    macs = np.array([op.macs for op in ops], np.float64)
    active_s = (s.ticks if s.observed is None else s.observed.time.active) / PS_PER_S
    energy = sum((s.energy_j[name] for name in COMPONENTS), np.zeros(len(ops)))
    tasks = np.bincount(s.segment.op, minlength=len(ops))
    columns: dict[str, list[Any]] = {
        "name": [op.name for op in ops],
        "kind": [],
        "input": [op.input_index for op in ops],
        "segment": [s.segment.name] * len(ops),
        "repeats": [],
        "dtype": [],
        "unit": _fact(ops, "unit", ""),
        "cores": _fact(ops, "cores", 0),
        "tasks": (tasks * n).tolist(),
        "macs": [],
        "start_s": _first_start(s),
        "time_s": [],
        "share": [],
        "active_s": (active_s * n).tolist(),
        **{f"{name}_s": _observed_s(s, name) for name in ("compute", "transfer", "exposed_transfer")},
        "launch_s": [],
        "bound_s": (bound_s * n).tolist(),
        "bound_by": [],
        "bound_ratio": _ratio(bound_s, active_s),
        "macs_per_dram_byte": [],
        "attainable_macs_per_s": _ratio(macs, bound_s),
        "achieved_macs_per_s": _ratio(macs, active_s),
        "utilization": _fact(ops, "utilization", None),
        **{name: (getattr(s.traffic, name) * n).tolist() for name in TRAFFIC_COLUMNS},
        "cache_hit_rate": _ratio(s.traffic.cache_hit_bytes, s.traffic.cache_hit_bytes + s.traffic.cache_miss_bytes),
        "energy_j": (energy * n).tolist(),
        **{f"energy_{name}_j": (s.energy_j[name] * n).tolist() for name in COMPONENTS},
        **{name: [_words(op.mapping.get(name)) for op in ops] for name in ("split", "tile", "order")},
        **{name: [_words(op.mapping.get(name)) for op in ops] for name in ("resident", "staying", "notes")},
    }
    return columns


def resources(account: Account) -> Table:
    """One row per queue and link. `busy_s`: held (compute) or with a transfer under way, per place (DMA; None in a
    closed form); for a link, its work at full bandwidth. `utilization` is busy / latency; `bytes` is payload."""
    rows = [
        *_queue_rows(account),
        *(_link_row(account, number) for number in range(len(account.program.links))),
    ]
    names = ("resource", "kind", "core", "busy_s", "utilization", "tasks", "bytes", "bytes_per_s")
    return _columns(names, rows)


def _queue_rows(account: Account) -> Iterator[tuple[Any, ...]]:
    queues, room = account.program.queues, np.maximum(1, account.program.outstanding)
    busy, tasks, nbytes = (np.zeros(len(queues)) for _ in range(3))
    for s in account.segments:
        occupied = s.segment.hold
        if s.observed is not None:
            dma = account.program.outstanding[s.segment.queue] > 0
            occupied = np.where(dma, s.observed.times.finish - s.observed.times.start, occupied)
        for total, values in (
            (busy, occupied),
            (tasks, np.ones(s.segment.tasks)),
            (nbytes, s.segment.nbytes),
        ):
            total += np.bincount(s.segment.queue, weights=values, minlength=len(queues)) * s.repeats
    busy /= room
    for number, queue in enumerate(queues):
        known = account.observed or queue.outstanding == 0
        busy_s = float(busy[number]) / PS_PER_S if known else None
        share = float(busy[number]) / account.latency_ps if known else None
        yield queue.name, queue.unit, queue.core, busy_s, share, int(tasks[number]), int(nbytes[number]), None


def _link_row(account: Account, number: int) -> tuple[Any, ...]:
    link = account.program.links[number]
    bytes_per_s = link.capacity * PS_PER_S / BYTE_UNITS
    weighted = sum(float(s.links.weighted_bytes[:, number].sum()) * s.repeats for s in account.segments)
    payload = sum(float(s.links.payload_bytes[:, number].sum()) * s.repeats for s in account.segments)
    busy_s = weighted / bytes_per_s
    share = busy_s * PS_PER_S / account.drained_ps
    return link.name, link.kind, -1, busy_s, share, None, int(payload), bytes_per_s


def energy(account: Account) -> Table:
    """One row per component: joules, share of all, and average power over the run."""
    joules = [account.energy_j(name) for name in COMPONENTS]
    total = sum(joules)
    return {
        "component": list(COMPONENTS),
        "energy_j": joules,
        "share": [j / total if total else 0.0 for j in joules],
        "power_w": [j * PS_PER_S / account.latency_ps for j in joules],
    }


def shares(column: str, parts: Mapping[str, float]) -> Table:
    """One row per component: amount (in the column of this name) and share of all."""
    total = sum(parts.values())
    return {
        "component": list(parts),
        column: list(parts.values()),
        "share": [amount / total for amount in parts.values()],
    }


def cache(account: Account) -> Table:
    """One row per tensor whose transfers look into the cache, most bytes first: bytes asked for, found and not found,
    lines filled beyond that, dirty lines its transfers evicted (of whichever tensor). No columns without a cache."""
    totals: dict[tuple[str, str], Int64] = {}
    for s in account.segments:
        probes, found = s.segment.probes, s.probed
        if probes is None or found is None:
            continue
        columns = [found.hit + found.miss, *(getattr(found, name) for name in Probed.__slots__)]
        key = probes.tensor.astype(np.int64) * len(Policy) + probes.policy
        for cell in np.unique(key).tolist():
            name, policy = probes.tensors[cell // len(Policy)], Policy(cell % len(Policy)).name.lower()
            mine = np.array([int(column[key == cell].sum()) for column in columns]) * s.repeats
            totals[name, policy] = totals.get((name, policy), np.zeros(len(columns), np.int64)) + mine
    rows = [
        (name, policy, *total.tolist(), float(total[1] / total[0])) for (name, policy), total in totals.items()
    ]
    names = ("tensor", "policy", "bytes", "hit_bytes", "miss_bytes", "rest_bytes", "evicted_bytes", "hit_rate")
    return _columns(names, sorted(rows, key=lambda row: -row[2])) if rows else {}


def stalls(account: Account) -> Table:
    """One row per array and vector unit: picoseconds by what it did or waited for; each row sums to
    `latency_ps`. A closed form has none."""
    if not account.observed:
        return {}
    queues = [account.program.queues[i] for i in compute_queues(account.program)]
    ticks = sum(
        (seen.stalls * s.repeats for seen, s in account.observed),
        np.zeros((len(queues), len(STALLS)), np.int64),
    )
    return {
        "resource": [queue.name for queue in queues],
        "unit": [queue.unit for queue in queues],
        "core": [queue.core for queue in queues],
        **{f"{name}_ps": ticks[:, column].tolist() for column, name in enumerate(STALLS)},
        "latency_ps": [account.latency_ps] * len(queues),
    }


def critical_path_table(account: Account) -> Table:
    """The critical path summed by operator, resource and cause; `duration_ps` adds up to the latency
    exactly. A closed form has none."""
    if not account.observed:
        return {}
    queues, links = account.program.queues, account.program.links
    names = [*(q.name for q in queues), *(link.name for link in links)]
    kinds = [*(q.unit for q in queues), *(link.kind for link in links)]
    rows: list[tuple[Any, ...]] = []
    for seen, s in account.observed:
        keys = np.column_stack([seen.pieces.op, seen.pieces.resource, seen.pieces.cause])
        cells, first, place = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        total = np.zeros(len(cells), np.int64)
        np.add.at(total, place.ravel(), seen.pieces.duration)
        for row in np.argsort(first):
            op, resource, cause = cells[row].tolist()
            duration = int(total[row]) * s.repeats
            name = s.segment.ops[op].name
            rows.append((s.segment.name, name, names[resource], kinds[resource], CAUSES[cause], duration))
    table = _columns(("segment", "op", "resource", "kind", "cause", "duration_ps"), rows)
    return {**table, "share": [d / account.latency_ps for d in table["duration_ps"]]}


def parts(facts: Mapping[str, Any]) -> Table:
    """The parts of the partition as the mapper describes them (rows of equal keys); no columns without
    partition."""
    rows: Sequence[Mapping[str, Any]] = facts.get("partition", {}).get("parts", ())
    return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}


def overlap_ps(account: Account) -> dict[str, int]:
    """Picoseconds of only compute, only transfers (exposed), both (overlapped) and neither; they sum to the
    latency. A closed form has none."""
    names = ("compute", "overlapped", "exposed_transfer", "idle") if account.observed else ()
    return {
        name: sum(getattr(seen.overlap, name) * s.repeats for seen, s in account.observed) for name in names
    }


def _first_start(s: SegmentAccount) -> list[float | None]:
    """Seconds from the start of the segment to the operator's first task; None without tasks (a view)."""
    if s.observed is None:
        return [None] * len(s.segment.ops)
    never = np.iinfo(np.int64).max
    first = np.full(len(s.segment.ops), never, np.int64)
    np.minimum.at(first, s.segment.op, s.observed.times.start)
    return [None if t == never else t / PS_PER_S for t in first.tolist()]


def _observed_s(s: SegmentAccount, name: str) -> list[float | None]:
    """A column of OperatorTime in seconds, repeats counted."""
    if s.observed is None:
        return [None] * len(s.segment.ops)
    seconds: list[float | None] = (getattr(s.observed.time, name) * s.repeats / PS_PER_S).tolist()
    return seconds


def _fact(ops: Sequence[OpRow], name: str, missing: object) -> list[Any]:
    return [op.mapping.get(name, missing) for op in ops]


def _ratio(above: Float64 | Int64, below: Float64 | Int64) -> list[float | None]:
    """Element by element; None where there is nothing to divide by."""
    return [float(a) / float(b) if b > 0 else None for a, b in zip(above, below, strict=True)]


def _words(value: object) -> str:
    """A mapping fact as text: {"m": 4, "n": 2} as "m=4 n=2", lists joined by commas."""
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return " ".join(f"{key}={item}" for key, item in value.items())
    return value if isinstance(value, str) else "; ".join(map(str, value))  # type: ignore[call-overload]


def _columns(names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> dict[str, list[Any]]:
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}
