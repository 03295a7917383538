"""The page of one run."""

from __future__ import annotations

from typing import Any

import numpy as np

from sim.html.page import page, plain
from sim.hw.chip import chip_from_dict
from sim.plot.breakdown import step_colour
from sim.plot.style import COMPONENT_COLOURS, COMPONENT_GROUPS, GROUP_WORDS, UNIT_COLOURS, by_group, rate_text
from sim.plot.traffic import LEVELS
from sim.report.notes import REASON, error_bar, over_power_limit
from sim.report.report import Report
from sim.report.roofline import peak_macs_per_s
from sim.report.words import ENERGY_WORDS, critical_steps
from sim.units import PS_PER_S, format_quantity

_CARDS = (
    ("latency", "latency_s", "time"),
    ("lower bound", "bound_latency_s", "time"),
    ("latency / lower bound", "", "x"),
    ("throughput", "throughput_per_s", ""),
    ("array utilisation", "array_utilization", "share"),
    ("energy per input", "energy_per_input_j", "energy"),
    ("power", "power_w", "power"),
    ("peak power", "peak_power_w", "power"),
    ("efficiency", "tops_per_w", "TOP/s/W"),
    ("die area", "area_mm2", "area"),
    ("cost", "cost_usd", "money"),
    ("work", "macs", "MAC"),
    ("tasks", "tasks", ""),
)
_OPERATORS = (
    "name", "kind", "unit", "dtype", "cores", "time_s", "time_low_s", "time_high_s", "validated_on", "validated_in",
    "share", "active_s", "exposed_transfer_s", "bound_s", "bound_by", "macs", "macs_per_dram_byte", "utilization",
    "dram_read_bytes", "dram_write_bytes", "energy_j", "tasks", "split", "tile", "validity_note", "notes",
)  # fmt: skip
_BODY = """<div id="warnings"></div>
<div id="cards" class="cards"></div>
<h2>Where did the time and the energy go</h2>
<div class="plots"><div id="time" class="plot events"></div><div id="energy" class="plot"></div></div>
<h2>How far from the lower bound</h2>
<div class="plots"><div id="roofline" class="plot"></div><div id="traffic" class="plot"></div></div>
<div class="events">
<h2>What went on when</h2>
<p id="rows" hidden><label>queues <select id="cores"></select></label>
<span class="quiet" id="together"></span></p>
<div id="timeline" class="plot"></div>
<div id="utilisation" class="plot"></div>
<div id="bandwidth" class="plot"></div>
</div>
<div id="power" class="plot"></div>
<h2>Operators</h2>
<p><label>filter <input id="filter" placeholder="name or kind"></label>
<span class="quiet">Click a head to sort, a row to find the operator in the roofline and the timeline.</span></p>
<div id="ops" class="scroll"></div>
<h2>Queues and links</h2>
<div id="resources" class="scroll"></div>
<h2>Inputs</h2>
<details><summary>Manifest: options, versions, hashes and the expanded chip</summary><pre id="manifest"></pre></details>
"""


def run_page(report: Report) -> str:
    """The HTML page of a run, fresh or loaded from a run folder. Of a closed form it has no critical path and no
    times."""
    tables = report.all_tables
    data = {
        "cards": [card for card in (_card(report, *row) for row in _CARDS) if card],
        "summary": report.to_json(),
        "warnings": _warnings(report),
        "time": _time(report),
        "energy": _energy(report),
        "power": _power(report),
        "roofs": _roofs(report),
        "levels": [(name.replace("\n", " "), list(read), list(written)) for name, read, written in LEVELS],
        "tables": {name: tables.get(name, {}) for name in ("ops", "resources", "timeline", "activity")},
        "columns": {
            "ops": [name for name in _OPERATORS if name in tables["ops"]],
            "resources": list(tables["resources"]),
        },
        "colours": {
            "units": dict(UNIT_COLOURS),
            "components": dict(COMPONENT_COLOURS),
            "causes": {name: step_colour(*name.rsplit(" ", 1)) for name, _, _ in _time(report)},
        },
        "manifest": dict(report.manifest),
    }
    title = f"{report['workload']} on {report['chip']}"
    about = (report["fidelity"], report["engine"] and f"{report['engine']} engine", report["dtype"])
    partition = report["partition"] and f"{report['partition']} partition"
    inputs = f"{report['inputs']} inputs" if report["inputs"] != 1 else None
    several = int(report.values.get("chips") or 1)
    chips = f"{several} chips in step: what counts items is of all, the rest of one" if several > 1 else None
    subtitle = ", ".join(str(part) for part in (*about, partition, inputs, chips) if part)
    return page(title, f"lepton {report.manifest['version']}: {subtitle}", _BODY, plain(data), "run.js")


def _card(report: Report, label: str, metric: str, dimension: str) -> tuple[str, str, str] | None:
    value = report.values.get(metric) if metric else _distance(report)
    if not isinstance(value, int | float):
        return None
    if metric == "throughput_per_s":
        text = (
            f"{value:,.4g} {report['throughput_unit']}/s"
            if value < 1000
            else f"{value:,.0f} {report['throughput_unit']}/s"
        )
    elif dimension == "share":
        text = f"{value:.1%}"
    elif dimension in ("time", "energy", "power", "area", "money"):
        text = format_quantity(value, dimension)
    elif dimension == "MAC":
        text = rate_text(value, dimension)
    elif dimension == "x":
        text = f"{value:.2f} x"
    else:
        text = f"{value:,.4g} {dimension}" if isinstance(value, float) else f"{value:,} {dimension}"
    return label, text.rstrip(), metric


def _distance(report: Report) -> float | None:
    bound_s = float(report["bound_latency_s"] or 0.0)
    return float(report["latency_s"] or 0.0) / bound_s if bound_s else None


def _warnings(report: Report) -> list[str]:
    found: list[str] = []
    for line in error_bar(report):
        text = " ".join(line.split())
        if found and found[-1].endswith(":"):
            found[-1] += f" {text}"
        elif line.startswith(" " * REASON):
            found[-1] += f"; {text}"
        else:
            found.append(text)
    found += [" ".join(line.split()).removeprefix("note: ") for line in over_power_limit(report.values)]
    if not report.overlap_ps:
        found.append(
            "This is the closed form: an estimate of every operator, without contention and without times."
        )
    if not report.facts.get("steady", True):
        found.append("Too few inputs to see the steady rate: the throughput is the lower bound's.")
    return found


def _time(report: Report) -> list[tuple[str, float, str]]:
    if not report.overlap_ps:
        return []
    steps = critical_steps(report.tables["critical_path"])
    names = ((f"{what} {cause}", duration / PS_PER_S) for what, cause, duration in steps)
    return [(name, seconds, name) for name, seconds in names]


def _energy(report: Report) -> list[tuple[str, float, str]]:
    energy = report.tables["energy"]
    parts = zip(energy["component"], energy["energy_j"], strict=True)
    return [(ENERGY_WORDS[name], float(amount), COMPONENT_GROUPS[name]) for name, amount in parts]


def _power(report: Report) -> dict[str, Any]:
    table = report.tables["power"]
    groups = by_group({name[:-2]: np.array(v) for name, v in table.items() if name[:-2] in COMPONENT_GROUPS})
    return {
        "start_s": table["start_s"],
        "groups": [
            (GROUP_WORDS[name], name, groups[name].tolist())
            for name in reversed(groups)
            if groups[name].any()
        ],
        "average_w": report["power_w"],
        "limit_w": report.values.get("power_limit_w"),
    }


def _roofs(report: Report) -> dict[str, Any]:
    chip = chip_from_dict(report.manifest["configuration"])
    ops = report.tables["ops"]
    formats = {dtype for dtype, macs in zip(ops["dtype"], ops["macs"], strict=True) if macs}
    peaks = {dtype: peak_macs_per_s(chip, dtype) for dtype in sorted(formats)}
    return {
        "bytes_per_s": float(chip.dram.bandwidth_bytes_per_s),
        "macs_per_s": {dtype: peak for dtype, peak in peaks.items() if peak},
    }
