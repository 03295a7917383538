"""A run as a trace in the JSON of Chrome and Perfetto (ui.perfetto.dev, `vizviewer`), one event a line.

Format: "Trace Event Format", Google, 2016 (ph X complete events, M metadata, C counters). Viewers keep whole
nanoseconds, so starts and ends are cut to those: what is shorter may show with no length, in its order.
"""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sim.errors import Diagnostic, InputError
from sim.program import Int64, Kind, Program, Segment
from sim.report.account import Account
from sim.report.activity import activity
from sim.report.folder import written_file
from sim.report.report import Report
from sim.report.tables import Table
from sim.timeline import SegmentTimeline

MOST_TASKS = 4_000_000
"""Tasks, repeats counted, that a trace holds at most: about 400 MB of JSON, and what a viewer can open."""
COUNTER_SLICES = 2_000
CHIP = 1
"""Process of what belongs to no core; core c is process c + 2. Neither processes nor tracks are numbered 0, which
viewers take for the idle task."""
_PS_PER_NS = 1000


def write_trace(report: Report, file: str | Path, *, once: bool = False) -> int:
    """Write the trace of a run to `file`, compressed where it ends in .gz; returns the number of tasks in it.

    A track per compute queue, and per place of a DMA queue, so that nothing on one track overlaps; counters for
    power and for the bandwidth of the DRAM, the interconnect and the host. Segments that repeat are there as often as
    they ran, or with `once` a single time, at their first run. A compute task is as long as it holds its queue.
    Raises InputError for a closed form or a report without its program, for more than MOST_TASKS tasks, and where the
    file cannot be written.
    """
    if report.run is None:
        raise InputError("a run folder does not hold every task; trace a report fresh from simulate")
    if not report.run.observed:
        raise InputError("a closed form has no tasks to trace; simulate with fidelity event")
    tasks = sum(s.segment.tasks * (1 if once else s.repeats) for _, s in report.run.observed)
    if tasks > MOST_TASKS:
        hint = (
            "with once, repeated segments are traced a single time" if not once else "trace a smaller model"
        )
        raise InputError(Diagnostic(f"{tasks:,} tasks; a trace holds at most {MOST_TASKS:,}", hint=hint))
    file = Path(file)
    with written_file(file) as stream:
        # No name and no time inside, so that the same run gives the same bytes.
        text = gzip.GzipFile("", "wb", 6, stream, mtime=0) if file.suffix == ".gz" else stream
        text.write(b'{"displayTimeUnit":"ns","traceEvents":[\n')
        text.write(",\n".join(_metadata(report.run.program, report)).encode())
        for chunk in itertools.chain(
            _events(report.run, once), _counters(report.run, report.tables["power"])
        ):
            text.write(b",\n" + chunk.encode())
        text.write(b"\n]}\n")
        if text is not stream:
            text.close()
    return tasks


def _track_ids(program: Program) -> list[int]:
    """First track of each queue; a DMA queue has one per place."""
    places = np.maximum(1, program.outstanding)
    first: list[int] = (1 + np.cumsum(places) - places).tolist()
    return first


def _metadata(program: Program, report: Report) -> Iterator[str]:
    """Names and order of processes and tracks."""
    cores = sorted({queue.core for queue in program.queues})
    for core in cores:
        name = f"core {core}" if core >= 0 else f"{report['chip']}: {report['workload']}"
        yield _event(ph="M", name="process_name", pid=core + 2, args={"name": name})
        yield _event(ph="M", name="process_sort_index", pid=core + 2, args={"sort_index": core + 2})
    for queue, first in zip(program.queues, _track_ids(program), strict=True):
        for place in range(max(1, queue.outstanding)):
            name = f"{queue.name} {place}" if queue.outstanding > 1 else queue.name
            track: dict[str, Any] = {"pid": queue.core + 2, "tid": first + place}
            yield _event(ph="M", name="thread_name", **track, args={"name": name})
            yield _event(ph="M", name="thread_sort_index", **track, args={"sort_index": first + place})


def _event(**fields: Any) -> str:
    return json.dumps(fields, separators=(",", ":"))


def _events(account: Account, once: bool) -> Iterator[str]:
    """Events of every segment and repeat, in pieces of the file."""
    offset = 0
    for seen, s in account.observed:
        heads, tails, start, end = _slices(account.program, s.segment, seen.times)
        for repeat in range(1 if once else s.repeats):
            shift = offset + repeat * seen.times.end
            first, last = (start + shift) // _PS_PER_NS, (end + shift) // _PS_PER_NS
            rows = zip(heads, first.tolist(), (last - first).tolist(), tails, strict=True)
            yield ",\n".join(f'{head}{_us(t)},"dur":{_us(d)}{tail}' for head, t, d, tail in rows)
        offset += seen.times.end * s.repeats


def _slices(
    program: Program, segment: Segment, times: SegmentTimeline
) -> tuple[list[str], list[str], Int64, Int64]:
    """What stands before and after the times of every task's event, and when it starts and ends."""
    dma = program.outstanding[segment.queue] > 0
    end = np.where(dma, times.finish, times.start + segment.hold)
    process = np.array([queue.core + 2 for queue in program.queues])[segment.queue].tolist()
    track = (np.array(_track_ids(program))[segment.queue] + _places(program, segment, times)).tolist()
    names = [json.dumps(op.name) for op in segment.ops]
    kinds = {int(kind): kind.name.lower() for kind in Kind}
    heads = [
        f'{{"ph":"X","name":{names[op]},"cat":"{kinds[kind]}","pid":{pid},"tid":{tid},"ts":'
        for op, kind, pid, tid in zip(segment.op.tolist(), segment.kind.tolist(), process, track, strict=True)
    ]
    tails = [f',"args":{{"bytes":{n}}}}}' if n else "}" for n in segment.nbytes.tolist()]
    return heads, tails, times.start, end


def _us(ns: int) -> str:
    """Whole nanoseconds as the microseconds of the format. A quarter of one more, as viewers read a float and then cut
    or round it: a task must not begin before the one before it has ended."""
    return f"{ns // 1000}.{ns % 1000:03d}25"


def _places(program: Program, segment: Segment, times: SegmentTimeline) -> Int64:
    """The lowest free place of its DMA queue at every transfer's start; 0 for compute tasks."""
    place = np.zeros(segment.tasks, np.int64)
    room = program.outstanding[segment.queue]
    for queue in np.unique(segment.queue[room > 1]).tolist():
        mine = np.flatnonzero(segment.queue == queue)
        mine = mine[np.argsort(times.start[mine], kind="stable")]
        free = [0] * int(program.outstanding[queue])
        for task, start, finish in zip(
            mine.tolist(), times.start[mine].tolist(), times.finish[mine].tolist(), strict=True
        ):
            lane = next(number for number, until in enumerate(free) if until <= start)
            free[lane] = finish
            place[task] = lane
    return place


def _counters(account: Account, power: Table) -> Iterator[str]:
    """Bandwidths and power of the run; each falls to 0 at its end."""
    table = activity(account, COUNTER_SLICES)
    for column, values in table.items():
        if column.endswith("_bytes_per_s") and any(values):
            name = column.removesuffix("_bytes_per_s").replace("_", " ")
            yield _counter(name, "GB/s", table, [value / 1e9 for value in values])
    yield _counter("power", "W", power, power["total_w"])


def _counter(name: str, unit: str, table: Table, values: list[float]) -> str:
    points = [*zip(table["start_s"], values, strict=True), (table["end_s"][-1], 0.0)]
    return ",\n".join(
        _event(ph="C", name=name, pid=CHIP, ts=start * 1e6, args={unit: round(value, 6)})
        for start, value in points
    )
