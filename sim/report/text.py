"""The report on a terminal: what a reader wants to know first, units on everything, at most 100 columns."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sim.report.cells import (
    GAP,
    bar,
    count_text,
    cut_text,
    dollars_text,
    fitted_table,
    percent_text,
    plain_table,
    plain_text,
    size_text,
    ticks_text,
    time_text,
)
from sim.report.notes import error_bar, notes
from sim.report.report import Report
from sim.report.stalls import STALLS
from sim.report.words import (
    AREA_WORDS,
    COST_WORDS,
    ENERGY_WORDS,
    OVERLAP_WORDS,
    RESOURCE_WORDS,
    STALL_WORDS,
    critical_steps,
)
from sim.units import format_quantity

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

WIDTH = 100
TOP_OPERATORS = 10
TOP_STEPS = 8
TOP_PARTS = 16
TOP_TENSORS = 8
NAME_WIDTH = 22
PART_WIDTH = 6
LEAST_WIDTHS = {"operator": 12, "kind": 8, "tile": 9}  # of columns that are cut where there is no room

_CLOSED_FORM = (
    "This is the closed form: the planner's estimate of every operator, one after another, without\n"
    "contention, stalls or overlap between operators. Fidelity event simulates those."
)
_TRAFFIC_ROWS = (
    ("DRAM", "dram_read_bytes", "dram_write_bytes"),
    ("scratchpads", "sram_read_bytes", "sram_write_bytes"),
    ("accumulators", "accumulator_read_bytes", "accumulator_write_bytes"),
)


def render_text(report: Report, console: Console) -> None:
    """Print the report to a rich console, 100 columns wide at most. Bars are plain ASCII where it must be."""
    width = min(console.width, WIDTH)
    block = "#" if console.options.ascii_only else "█"

    def show(item: RichTable | str) -> None:
        # No markup: brackets in the names of operators and links are only brackets.
        console.print(item, width=width, highlight=False, markup=False)

    def title(text: str, more: str = "") -> None:
        from rich.text import Text

        console.print(Text.assemble((text, "bold"), more), width=width)

    title(*_title(report))
    show("")
    show(_headline(report, width))
    if _chips(report) > 1:
        show(_several_chips(report))
    for line in error_bar(report):
        show(line)
    if report.overlap_ps:
        title("\nWhere did the time go")
        show(_overlap_table(report, block))
        show(_units_table(report))
        show(_critical_table(report, block))
    else:
        show(f"\n{_CLOSED_FORM}")
    title("\nWhere did the energy go")
    show(_energy_table(report, block))
    title("\nWhat is on the die, and what the chip costs")
    show(_die_table(report))
    title("\nMemory traffic", "" if _inputs(report) == 1 else " of all inputs")
    show(_traffic_table(report))
    if report.tables["cache"]:
        title("\nCache", " by the tensors that ask it for most")
        show(_cache_table(report.tables["cache"]))
    measure = "part of the critical path" if report.overlap_ps else "estimate"
    title("\nOperators", f" by their {measure} (top {TOP_OPERATORS})")
    rows = top_operators(report.tables["ops"])
    show(_operators_table(rows, width))
    for line in (*_others(rows), *notes(report, rows)):
        show(line)
    if report.tables["parts"]:
        title("\nParts", f" of the partition{_balance(report.facts)}")
        show(_parts_table(report.tables["parts"], width))


def top_operators(table: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Operators by time, longest first, the back-to-back inputs' and segments' rows of one name added up."""
    merged: dict[str, dict[str, Any]] = {}
    for values in zip(*table.values(), strict=True):
        row = dict(zip(table, values, strict=True))
        known = merged.setdefault(row["name"], row)
        if known is not row:
            for column in ("time_s", "share", "active_s", "bound_s", "macs", "tasks"):
                known[column] += row[column]
            for column in ("time_low_s", "time_high_s"):
                known[column] = None if None in (known[column], row[column]) else known[column] + row[column]
    return sorted(merged.values(), key=lambda row: -row["time_s"])


def _inputs(report: Report) -> int:
    return 1 + int(max(report.tables["ops"]["input"]))


def _chips(report: Report) -> int:
    return int(report.values.get("chips") or 1)


def _several_chips(report: Report) -> str:
    chips, unit = _chips(report), _singular(str(report.values["throughput_unit"]))
    return (
        f"{chips} chips run this in step. Throughput, energy per {unit} and cost per million are of all {chips};\n"
        "everything else is of one chip, which stands for the others."
    )


def _title(report: Report) -> tuple[str, str]:
    v, inputs = report.values, _inputs(report)
    several = "" if inputs == 1 else f", {inputs} back-to-back inputs"
    how = f"{v['fidelity']}, {v['engine']} engine" if v["engine"] else "closed form"
    packed = ", ".join(report.facts.get("packed", ()))
    fused = "fused attention" if report.facts.get("fused_attention") else ""
    words = v["dtype"], packed and f"{packed} weights", fused, v["partition"] and f"{v['partition']} partition"
    chips = _chips(report)
    how += f", one of {chips} chips" if chips > 1 else ""
    how += "".join(f", {word}" for word in words if word)
    return f"{v['workload']} on {v['chip']}", f"  ({how}{several})"


def _headline(report: Report, width: int) -> RichTable:
    """Two pairs of name and value side by side, or one where there is no room for two."""
    rows = _headline_rows(report)
    widest = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if sum(widest) + GAP * (len(widest) - 1) > width:
        pairs = [pair for a, b, c, d in rows for pair in ((a, b), (c, d)) if pair[0]]
        grid = plain_table((None, None))
        for pair in pairs:
            grid.add_row(*pair)
    else:
        grid = plain_table((None, None, None, None))
        for row in rows:
            grid.add_row(*row)
    grid.show_header = False
    return grid


def _headline_rows(report: Report) -> list[tuple[str, str, str, str]]:
    v: Mapping[str, Any] = report.values
    unit, bound_s, cost_usd = v["throughput_unit"], v["bound_latency_s"], v["cost_usd"]
    limit = RESOURCE_WORDS.get(v["bottleneck"], "no resource")
    power = format_quantity(v["power_w"], "power")
    several = " of one" if _inputs(report) > 1 else ""
    chips = _chips(report)
    of_all, each = (f" of {chips} chips", " a chip") if chips > 1 else ("", "")
    latency = ("latency" if v["engine"] else "estimate") + several
    rate = f"{count_text(v['throughput_per_s'])} {unit}/s{of_all}"
    rows = [(latency, time_text(v["latency_s"]), "throughput", rate)]
    if "time_to_first_token_s" in v:
        further_s = v["time_per_output_token_s"]
        further = "none asked for" if further_s is None else f"{time_text(further_s)} each (sampled)"
        rows.append(("first token", time_text(v["time_to_first_token_s"]), "further tokens", further))
    distance = f"{v['latency_s'] / bound_s:.2f} x lower bound" if bound_s else ""
    rows.append(("lower bound", f"{time_text(bound_s)}, set by {limit}", "distance", distance))
    closed_s = report.facts["closed_form_latency_s"]
    if v["engine"]:
        rows.append(("closed form", f"{time_text(closed_s)} ({closed_s / v['latency_s']:.2f} x)", "", ""))
    work = f"{count_text(v['macs'])} MAC, {count_text(v['tasks'])} tasks"
    rows.append(("array utilisation", percent_text(v["array_utilization"]), "work", work))
    energy = format_quantity(v["energy_per_input_j"], "energy")
    power = f"{power}{each}, {plain_text(v['tops_per_w'])} TOPS/W"
    rows.append((f"energy per {_singular(unit)}", energy + of_all, "power", power))
    peak, alone = (format_quantity(v[name], "power") for name in ("peak_power_w", "chip_power_w"))
    cost = "no die fits on a wafer" if cost_usd is None else dollars_text(cost_usd) + each
    rows.append(("die area", f"{v['area_mm2']:.1f} mm2", "cost", cost))
    per_million = "" if cost_usd is None else dollars_text(v["cost_per_million_usd"]) + of_all
    rows.append(("peak power", f"{peak}, chip alone {alone}", per_million and "per million", per_million))
    return rows


def _overlap_table(report: Report, block: str) -> RichTable:
    total = sum(report.overlap_ps.values())
    table = plain_table(("the chip as a whole", ">time", ">share", "bar"))
    for name, words in OVERLAP_WORDS.items():
        part = report.overlap_ps[name]
        table.add_row(words, ticks_text(part), percent_text(part / total), bar(part / total, block))
    return table


def _units_table(report: Report) -> RichTable:
    """Average share of the run that the units of each sort spend on every cause; all-zero causes are left
    out."""
    stalls = report.tables["stalls"]
    units = list(dict.fromkeys(stalls["unit"]))
    headers = [f">{stalls['unit'].count(unit)} {unit} unit{_s(stalls['unit'].count(unit))}" for unit in units]
    table = plain_table(("average unit", *headers))
    for name in STALLS:
        shares = [_average_share(stalls, f"{name}_ps", unit) for unit in units]
        if any(shares):
            table.add_row(STALL_WORDS[name], *(percent_text(share) for share in shares))
    return table


def _critical_table(report: Report, block: str) -> RichTable:
    steps = critical_steps(report.tables["critical_path"])
    whole = sum(duration for _, _, duration in steps)
    table = plain_table(("critical path", ">time", ">share", "bar"))
    for what, cause, duration in steps[:TOP_STEPS]:
        share = duration / whole
        table.add_row(f"{what} {cause}", ticks_text(duration), percent_text(share), bar(share, block))
    rest = sum(duration for _, _, duration in steps[TOP_STEPS:])
    if rest:
        table.add_row("everything else", ticks_text(rest), percent_text(rest / whole), bar(rest / whole, block))
    return table


def _energy_table(report: Report, block: str) -> RichTable:
    energy = report.tables["energy"]
    table = plain_table(("component", ">energy", ">power", ">share", "bar"))
    rows = zip(energy["component"], energy["energy_j"], energy["power_w"], energy["share"], strict=True)
    for name, joules, watts, share in sorted(rows, key=lambda row: -row[1]):
        if joules:
            shown = (format_quantity(joules, "energy"), format_quantity(watts, "power"), percent_text(share))
            table.add_row(ENERGY_WORDS[name], *shown, bar(share, block))
    total = sum(energy["energy_j"])
    table.add_row(
        "total", format_quantity(total, "energy"), format_quantity(sum(energy["power_w"]), "power"), ""
    )
    return table


def _die_table(report: Report) -> RichTable:
    """Area and cost side by side, largest first, what there is none of left out."""
    table = plain_table(("component", ">area", ">share", "part", ">cost", ">share"))
    columns = []
    for name, amount, words in (("area", "area_mm2", AREA_WORDS), ("cost", "cost_usd", COST_WORDS)):
        found = report.tables[name]
        rows = zip(found["component"], found[amount], found["share"], strict=True)
        columns.append([(words[part], value, share) for part, value, share in sorted(rows, key=lambda r: -r[1])])
    for (part, mm2, share), cost in itertools.zip_longest(columns[0], columns[1]):
        money = (cost[0], dollars_text(cost[1]), percent_text(cost[2])) if cost else ("", "", "")
        if mm2:
            table.add_row(part, f"{mm2:.1f} mm2", percent_text(share), *money)
    return table


def _traffic_table(report: Report) -> RichTable:
    ops, elapsed_s = report.tables["ops"], report.elapsed_s
    table = plain_table(("level", ">read or sent", ">written", ">average rate", None))

    def add(level: str, inward: float, outward: float | None, remark: str = "") -> None:
        rate = format_quantity((inward + (outward or 0.0)) / elapsed_s, "bandwidth")
        table.add_row(level, size_text(inward), "" if outward is None else size_text(outward), rate, remark)

    for level, read, written in _TRAFFIC_ROWS:
        add(level, sum(ops[read]), sum(ops[written]))
    if report.tables["cache"]:
        rate = report.values["cache_hit_rate"]
        add(
            "cache",
            sum(ops["cache_read_bytes"]),
            sum(ops["cache_write_bytes"]),
            f"{percent_text(float(rate or 0))} hits",
        )
    injected, hops = sum(ops["noc_injected_bytes"]), sum(ops["noc_bytes"])
    add("interconnect", injected, None, f"{hops / injected:.2f} hops on average" if injected else "")
    if sum(ops["host_bytes"]):
        add("host link", sum(ops["host_bytes"]), None, "both ways")
    if sum(ops["chip_links_bytes"]):
        add("other chips", sum(ops["chip_links_bytes"]), None, "sent by this chip; as much comes back")
    return table


def _cache_table(tensors: Mapping[str, Sequence[Any]]) -> RichTable:
    """The tensors that most bytes are looked up of."""
    table = plain_table(("tensor", "policy", ">asked for", ">hits", ">rest of lines", ">written back"))
    rows = [dict(zip(tensors, values, strict=True)) for values in zip(*tensors.values(), strict=True)]
    for row in rows[:TOP_TENSORS]:
        sizes = (
            size_text(row["bytes"]),
            percent_text(row["hit_rate"]),
            size_text(row["rest_bytes"]),
            size_text(row["evicted_bytes"]),
        )
        table.add_row(cut_text(row["tensor"], NAME_WIDTH), row["policy"], *sizes)
    if len(rows) > TOP_TENSORS:
        left = rows[TOP_TENSORS:]
        hits = sum(row["hit_bytes"] for row in left) / sum(row["bytes"] for row in left)
        total = [size_text(sum(row[name] for row in left)) for name in ("bytes", "rest_bytes", "evicted_bytes")]
        table.add_row(f"{len(left)} more", "", total[0], percent_text(hits), *total[1:])
    return table


def _operators_table(rows: Sequence[Mapping[str, Any]], width: int) -> RichTable:
    """The longest operators; on a narrow terminal without their kind and tile. The error bar is that of measured
    operators like it."""
    headers = [
        *("operator", "kind", "unit", ">cores", ">time", ">error bar", ">share", ">of bound", ">PEs used", "tile")
    ]
    cells = [_operator_cells(row) for row in rows[:TOP_OPERATORS]]
    if width < WIDTH:
        for row in (headers, *cells):
            del row[-1], row[1]
    return fitted_table(headers, cells, LEAST_WIDTHS, width)


def _operator_cells(row: Mapping[str, Any]) -> list[str]:
    bound = row["bound_s"] / row["active_s"] if row["active_s"] else None
    used = row["utilization"] if row["unit"] == "array" else None
    # A tile is shown by its sizes alone: the table of operators names their dimensions.
    sizes = "x".join(part.split("=")[1] for part in row["tile"].split())
    times = f" x{row['repeats']}" if row["repeats"] > 1 else ""
    return [
        cut_text(row["name"], NAME_WIDTH - len(times)) + times,
        row["kind"],
        row["unit"],
        str(row["cores"]),
        time_text(row["time_s"]),
        _error_bar_text(row),
        *("" if share is None else percent_text(share) for share in (row["share"], bound, used)),
        sizes,
    ]


def _error_bar_text(row: Mapping[str, Any]) -> str:
    """Between which errors nine in ten measurements of operators like it lay; "none": nothing like it was measured."""
    time_s, low_s, high_s = (row[name] for name in ("time_s", "time_low_s", "time_high_s"))
    if not time_s:
        return ""
    return "none" if low_s is None else f"{low_s / time_s - 1:+.0%} {high_s / time_s - 1:+.0%}"


def _others(rows: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """What the table left out."""
    rest = rows[TOP_OPERATORS:]
    views = sum(row["unit"] == "view" for row in rows)
    if rest:
        time_s, share = sum(row["time_s"] for row in rest), sum(row["share"] for row in rest)
        yield f"  and {len(rest)} more: {time_text(time_s)}, {percent_text(share)}"
    if views:
        yield f"  {views} of the {len(rows)} move nothing: views of memory in another shape"


def _balance(facts: Mapping[str, Any]) -> str:
    partition = facts["partition"]
    against = f", {partition['speedup']:.2f} x one core" if "speedup" in partition else ""
    return f" ({partition['mode']}), balance {percent_text(partition['balance'])} (mean / longest){against}"


def _parts_table(parts: Mapping[str, Sequence[Any]], width: int) -> RichTable:
    """Columns as the mapper names them; the unit at the end of a name says how its numbers are shown."""
    words = {index for index, values in enumerate(parts.values()) if isinstance(values[0], str)}
    names = [name.removesuffix("_s").removesuffix("_bytes").replace("_", " ") for name in parts]
    headers = [name if index in words else f">{name}" for index, name in enumerate(names)]
    rows = list(zip(*([_shown(name, value) for value in values] for name, values in parts.items()), strict=True))
    least = {headers[index]: PART_WIDTH for index in words}
    table = fitted_table(headers, rows[:TOP_PARTS], least, width)
    if len(rows) > TOP_PARTS:
        table.add_row(f"{len(rows) - TOP_PARTS} more")
    return table


def _shown(name: str, value: Any) -> str:
    if isinstance(value, str):
        return cut_text(value, NAME_WIDTH)
    if name.endswith("_s"):
        return time_text(value)
    if name.endswith("_bytes"):
        return size_text(value)
    return percent_text(value) if isinstance(value, float) else count_text(value)


def _average_share(stalls: Mapping[str, Sequence[Any]], column: str, unit: str) -> float:
    rows = [i for i, name in enumerate(stalls["unit"]) if name == unit]
    return float(sum(stalls[column][i] / stalls["latency_ps"][i] for i in rows) / len(rows))


def _singular(unit: str) -> str:
    return unit.removesuffix("s")


def _s(count: int) -> str:
    return "" if count == 1 else "s"
