"""Report: what a run showed. Where the time went, where the energy went, how far from the bound."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.cost.energy import COMPONENTS, chip_power_w
from sim.cost.repeats import sampled_repeats
from sim.errors import did_you_mean
from sim.graph.graph import Graph, Passes
from sim.hw.chip import Chip
from sim.hw.dram import chip_share_of_interface
from sim.hw.money import cost_per_million, load_prices
from sim.hw.technology import Technology
from sim.program import Program
from sim.report import tables
from sim.report.account import Account, account
from sim.report.activity import activity, timeline
from sim.report.error_bars import dram_error, error_bar_of_all
from sim.report.folder import table_text, write_folder
from sim.report.later import Later
from sim.report.manifest import FOLDER_FORMAT, build_manifest, taken
from sim.report.power import Power, power
from sim.report.roofline import peak_macs_per_s
from sim.report.tables import Table
from sim.timeline import Timeline
from sim.units import PS_PER_S, format_quantity

if TYPE_CHECKING:
    import pandas as pd

Value = str | int | float | None


@dataclass(frozen=True)
class Report:
    """The result of one simulation. Immutable; tables are DataFrames, built when asked for.

    `values` is the summary by its JSON keys, with units in the names. `latency_s`, `macs`, `bound_latency_s` and
    `bottleneck` are of one input; `array_utilization` and the throughput of the steady state; bytes, `energy_j`,
    `elapsed_s` and `tasks` of the whole run of all `inputs`; `energy_per_input_j` is per `throughput_unit` item
    (inference, token, step). `power_w` is the average of chip and DRAM, `chip_power_w` without the DRAM,
    `peak_power_w` the highest of a slice of `power`; `cost_per_million_usd` is per million items. Where several `chips`
    run in step, what counts items (throughput, energy and cost per item) is of all of them, the rest of one. None: not
    modelled, or not stated.

    Of fidelity `bound`, the closed form (sim/report/closed_form.py), there is no engine, no `stalls`, no
    `critical_path`, no `overlap_ps`, no `activity` and no `timeline`.

    `run` is what the tables were read from; None in a report loaded from a run folder (sim/report/load.py).
    """

    values: Mapping[str, Value]
    tables: Mapping[str, Table] = field(repr=False)
    overlap_ps: Mapping[str, int]
    elapsed_s: float
    facts: Mapping[str, Any] = field(repr=False)
    manifest: Mapping[str, Any] = field(repr=False)
    run: Account | None = field(repr=False, compare=False, default=None)

    def __getitem__(self, key: str) -> Value:
        if key not in self.values:
            raise KeyError(f"{key}; {did_you_mean(key, self.values) or 'the keys are those of .values'}")
        return self.values[key]

    def __repr__(self) -> str:
        """One line; `print(report)` shows it all."""
        v = self.values
        amounts = (
            format_quantity(float(v[name] or 0.0), dimension)
            for name, dimension in (("latency_s", "time"), ("energy_per_input_j", "energy"), ("power_w", "power"))
        )
        method = "events" if v["fidelity"] == "event" else "closed form"
        about = f"{v['workload']} on {v['chip']} by {method}: {', '.join(amounts)}"
        return f"<Report of {about}; print it, or see .summary>"

    def __str__(self) -> str:
        """As `lepton simulate` prints it."""
        import io

        from rich.console import Console

        from sim.report.text import WIDTH, render_text

        stream = io.StringIO()
        render_text(self, Console(file=stream, width=WIDTH))
        return stream.getvalue().rstrip()

    @property
    def summary(self) -> pd.DataFrame:
        """One row, one column per JSON key: many reports concatenate to a study."""
        return self._frame({name: [value] for name, value in self.values.items()})

    @property
    def ops(self) -> pd.DataFrame:
        """One row per operator (see sim/report/tables.py for the columns of all tables)."""
        return self._frame(self.tables["ops"])

    @property
    def resources(self) -> pd.DataFrame:
        """One row per queue and link."""
        return self._frame(self.tables["resources"])

    @property
    def energy(self) -> pd.DataFrame:
        """One row per component."""
        return self._frame(self.tables["energy"])

    @property
    def power(self) -> pd.DataFrame:
        """Watts by component in equal slices of the run (see sim/report/power.py)."""
        return self._frame(self.tables["power"])

    @property
    def area(self) -> pd.DataFrame:
        """One row per component of the die (see sim/hw/area.py)."""
        return self._frame(self.tables["area"])

    @property
    def cost(self) -> pd.DataFrame:
        """One row per component of the cost of a good chip (see sim/hw/money.py); empty where no die fits."""
        return self._frame(self.tables["cost"])

    @property
    def cache(self) -> pd.DataFrame:
        """One row per tensor that goes through the cache; empty without one."""
        return self._frame(self.tables["cache"])

    @property
    def stalls(self) -> pd.DataFrame:
        """One row per array and vector unit; picoseconds by cause add up to the latency."""
        return self._frame(self.tables["stalls"])

    @property
    def critical_path(self) -> pd.DataFrame:
        """By operator, resource and cause; `duration_ps` adds up to the latency."""
        return self._frame(self.tables["critical_path"])

    @property
    def parts(self) -> pd.DataFrame:
        """One row per part of the partition; empty without one."""
        return self._frame(self.tables["parts"])

    @property
    def activity(self) -> pd.DataFrame:
        """Utilisation and bandwidth in equal slices of the run (see sim/report/activity.py)."""
        return self._frame(self.all_tables["activity"])

    @property
    def timeline(self) -> pd.DataFrame:
        """Which operator had which queue when: one row per stretch (see sim/report/activity.py)."""
        return self._frame(self.all_tables["timeline"])

    @cached_property
    def all_tables(self) -> Mapping[str, Table]:
        """`tables` and the two that are only computed when asked for: a sweep does not pay for pictures."""
        if self.run is None:
            return {"activity": {}, "timeline": {}, **self.tables}
        return {**self.tables, "activity": activity(self.run), "timeline": timeline(self.run)}

    @staticmethod
    def _frame(table: Table) -> pd.DataFrame:
        import pandas as pd

        return pd.DataFrame(dict(table))

    def to_json(self) -> dict[str, Value]:
        """The summary with its keys in their documented order, safe for JSON (no NaN, no infinity)."""
        return {name: _finite(value) for name, value in self.values.items()}

    def to_csv(self) -> str:
        """The operator table as CSV; floats in full precision, what does not apply is empty."""
        return table_text(self.tables["ops"])

    def save(self, folder: str | Path) -> Path:
        """Write summary.json, facts.json, manifest.json and one CSV file per table into `folder` (the parts of
        the partition are among the facts); returns it. sim/report/load.py reads it back.

        A new folder appears complete or not at all; in one that exists each file is replaced as a whole, and the
        manifest, which names the folder's files, comes last. Raises InputError where it cannot be written.
        """
        facts = {"facts": dict(self.facts), "overlap_ps": dict(self.overlap_ps)}
        files = {
            "summary.json": json.dumps(self.to_json(), indent=2) + "\n",
            "facts.json": json.dumps(facts) + "\n",
        }
        tables = {name: table for name, table in self.all_tables.items() if table and name != "parts"}
        files |= {f"{name}.csv": table_text(table) for name, table in tables.items()}
        manifest = {**self.manifest, "folder_format": FOLDER_FORMAT, "files": sorted(files)}
        files["manifest.json"] = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
        return write_folder(Path(folder), files)


def build_report(
    graph: Graph | Passes,
    chip: Chip,
    technology: Technology,
    program: Program,
    timeline: Timeline | None,
    *,
    options: Mapping[str, Any],
    wall_s: float,
) -> Report:
    """Check the laws of the run and account for its time, bytes and energy; without a timeline, by the closed form.

    `options` is what was asked for (batch, dtype, engine, fidelity, ...): it goes to the manifest. `facts` are the
    program's, `closed_form_latency_s` of one input, `steady`: whether the inputs were enough to see the steady
    rate, `packed`: formats of packed weights, `sampled`: layers of which only some were run, and `fused_attention`: how
    many attentions keep their scores on the chip.
    Raises InvariantViolation where the run breaks a law, InputError where the technology lacks a cost.
    """
    run = account(program, timeline, chip, technology, graph)
    watts = power(run)
    judged = tables.judged_operators(run)
    return Report(
        values=_summary(run, graph, timeline, options, wall_s, watts.peak_w)
        | error_bar_of_all(judged)
        | dram_error(chip),
        tables=Later(partial(_tables, run, judged, watts)),
        overlap_ps=Later(partial(tables.overlap_ps, run)),
        elapsed_s=run.latency_ps / PS_PER_S,
        facts={
            **program.facts,
            "closed_form_latency_s": run.closed_form_ps / PS_PER_S,
            "steady": _is_steady(run, graph.items),
            "packed": _packed(graph),
            "sampled": [] if timeline is None else sampled_repeats(program, timeline),
            "fused_attention": sum(op.kind == "attention" for op in graph.ops),
        },
        manifest=Later(partial(build_manifest, graph, chip, options, wall_s, taken(graph))),
        run=run,
    )


def _tables(run: Account, judged: Table, watts: Power) -> dict[str, Table]:
    """All tables; of two there is the better part already."""
    return {
        "ops": tables.operators(run, judged),
        "resources": tables.resources(run),
        "energy": tables.energy(run),
        "cache": tables.cache(run),
        "power": watts.table(),
        "area": tables.shares("area_mm2", run.area_mm2),
        "cost": tables.shares("cost_usd", run.cost_usd or {}),
        "stalls": tables.stalls(run),
        "critical_path": tables.critical_path_table(run),
        "parts": tables.parts(run.program.facts),
    }


def _summary(
    run: Account,
    graph: Graph | Passes,
    timeline: Timeline | None,
    options: Mapping[str, Any],
    wall_s: float,
    peak_power_w: float,
) -> dict[str, Value]:
    latency_s = run.input_ends[0] / PS_PER_S
    elapsed_s = run.latency_ps / PS_PER_S
    joules = {name: run.energy_j(name) for name in COMPONENTS}
    energy_j = sum(joules.values())
    moved = (run.total("dram_read_bytes"), run.total("dram_write_bytes"))
    chips_interface = float(chip_share_of_interface(run.chip.dram.receiver_share, *moved))
    inputs = len(run.input_ends)
    rate = throughput_per_s(run.input_ends, graph.items)
    if not _is_steady(run, graph.items):
        rate = graph.items / run.steady_bound.seconds
    return {
        "workload": graph.name,
        "chip": run.chip.name,
        "engine": None if timeline is None else timeline.engine,
        "fidelity": "bound" if timeline is None else "event",
        "dtype": _main_dtype(run),
        "partition": run.program.facts.get("partition", {}).get("mode"),
        "chips": graph.chips,
        "inputs": inputs,
        "latency_s": latency_s,
        "elapsed_s": elapsed_s,
        "drained_s": run.drained_ps / PS_PER_S,
        "throughput_per_s": rate,
        "throughput_unit": graph.unit,
        "macs": graph.macs,
        "array_utilization": _array_seconds(run) * rate / graph.items,
        "bound_latency_s": run.bound.seconds,
        "bottleneck": run.bound.kind,
        "energy_j": energy_j,
        "energy_per_input_j": graph.chips * energy_j / (inputs * graph.items),
        "tops_per_w": 2e-12 * graph.macs * inputs / energy_j if energy_j else None,
        "power_w": energy_j / elapsed_s,
        "peak_power_w": peak_power_w,
        "chip_power_w": chip_power_w({name: spent_j / elapsed_s for name, spent_j in joules.items()}, chips_interface),
        "power_limit_w": run.chip.power_limit_w,
        "area_mm2": sum(run.area_mm2.values()),
        **_money(run, rate, energy_j / elapsed_s, graph.chips),
        "dram_read_bytes": round(run.total("dram_read_bytes")),
        "dram_write_bytes": round(run.total("dram_write_bytes")),
        "sram_read_bytes": round(run.total("sram_read_bytes")),
        "sram_write_bytes": round(run.total("sram_write_bytes")),
        "cache_read_bytes": round(run.total("cache_read_bytes")),
        "cache_write_bytes": round(run.total("cache_write_bytes")),
        "cache_hit_rate": _hit_rate(run),
        "noc_bytes": round(run.total("noc_bytes")),
        "noc_injected_bytes": round(run.total("noc_injected_bytes")),
        "tasks": run.program.tasks,
        **_token_times(run),
        "wall_s": wall_s,
    }


def _money(run: Account, rate: float, power_w: float, chips: int) -> dict[str, Value]:
    """Cost of a good chip with its DRAM, and of all chips per million items at the throughput and power of the run."""
    if run.cost_usd is None:
        return {"cost_usd": None, "cost_per_million_usd": None}
    cost_usd = sum(run.cost_usd.values())
    prices = load_prices(run.chip.prices)
    per_million = float(cost_per_million(chips * cost_usd, chips * power_w, rate, prices))
    return {"cost_usd": cost_usd, "cost_per_million_usd": per_million}


def _is_steady(run: Account, items: int) -> bool:
    """Do the inputs end no closer together than the chip can keep up with for ever? The first few may: they filled
    an empty chip."""
    rate = throughput_per_s(run.input_ends, items)
    least_s = run.steady_bound.seconds
    return not least_s or rate <= items / least_s * (1 + 1e-9)


def _hit_rate(run: Account) -> float | None:
    """Bytes found in the cache of those that were looked for; None where nothing looks into one."""
    hits = run.total("cache_hit_bytes")
    asked = hits + run.total("cache_miss_bytes")
    return hits / asked if asked else None


def _main_dtype(run: Account) -> str | None:
    """Number format of most multiply-accumulates; of most operators where there are none."""
    weight: dict[str, int] = {}
    for s in run.segments:
        for op in s.segment.ops:
            weight[op.dtype] = weight.get(op.dtype, 0) + op.macs * s.repeats + 1
    return max(weight, key=lambda name: weight[name]) if weight else None


def _packed(graph: Graph | Passes) -> list[str]:
    """Formats of weights that are kept in fewer bits than they are multiplied in."""
    parts = [part for part, _ in graph.parts] if isinstance(graph, Passes) else [graph]
    return sorted({p.tensors[op.inputs[1]].dtype for p in parts for op in p.ops if op.kind == "packed_matmul"})


def _token_times(run: Account) -> dict[str, Value]:
    """Of text generation: time to the first token (the prefill) and per further token (the mean decode step).

    A pass's segments stand in the program one after another; their repeats count those of the pass.
    """
    passes = run.program.facts.get("passes", ())
    if not passes:
        return {}
    seconds, at = [], 0
    for one in passes:
        mine = [
            s for s, of in zip(run.segments, run.segment_of, strict=True) if at <= of < at + one["segments"]
        ]
        seconds.append(sum(int(s.ticks.sum()) * s.repeats for s in mine) / PS_PER_S)
        at += one["segments"]
    steps = sum(one["repeat"] for one in passes[1:])
    return {
        "time_to_first_token_s": seconds[0],
        "time_per_output_token_s": sum(seconds[1:]) / steps if steps else None,
    }


def throughput_per_s(input_ends: tuple[int, ...], items: int) -> float:
    """Items per second. One input: items / latency. Several: the rate at which the middle half of them
    ends, so that neither the filling nor the draining of the pipeline counts.

    Ends at 40, 50, 60, 70 ps and 1 item: (60 - 50) ps for one input, 1e11 per second.
    """
    count = len(input_ends)
    first, last = (count // 4, count - 1 - count // 4) if count > 1 else (0, 0)
    between = input_ends[last] - input_ends[first]
    if between > 0:
        return items * (last - first) * PS_PER_S / between
    return items * count * PS_PER_S / input_ends[-1]


def _array_seconds(run: Account) -> float:
    """Time of one input's MACs on all arrays at the peak of their formats; MACs in a format that no array has
    take none of the arrays' time."""
    total = 0.0
    for s in run.segments:
        for op in s.segment.ops:
            peak = peak_macs_per_s(run.chip, op.dtype) if op.macs and op.input_index == 0 else 0.0
            total += op.macs * s.repeats / peak if peak else 0.0
    return total


def _finite(value: Value) -> Value:
    return None if isinstance(value, float) and not math.isfinite(value) else value
