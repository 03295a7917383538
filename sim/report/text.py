"""The report on a terminal: what a reader wants to know first, units on everything, at most 100 columns."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sim.hw.money import RETICLE_MM2
from sim.report.report import Report
from sim.report.stalls import STALLS
from sim.units import PS_PER_S, format_quantity

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

WIDTH = 100
TOP_OPERATORS = 10
TOP_STEPS = 8
TOP_PARTS = 16
TOP_TENSORS = 8
BAR = 24
NAME_WIDTH, KIND_WIDTH, TILE_WIDTH = 22, 13, 19

_CLOSED_FORM = (
    "This is the closed form: the planner's estimate of every operator, one after another, without\n"
    "contention, stalls or overlap between operators. Fidelity event simulates those."
)
_RESOURCE_WORDS = {
    "array": "the arrays at their peak",
    "vector": "the vector units",
    "dram": "DRAM bandwidth",
    "port": "a memory port",
    "noc": "an on-chip link",
    "dma": "a DMA channel",
    "cache": "the cache",
    "host": "the host link",
}
_STALL_WORDS = {
    "busy": "busy",
    "dram": "waits for DRAM data",
    "interconnect": "waits for DMA or on-chip links",
    "host": "waits for the host",
    "transfer_latency": "waits for a transfer to begin",
    "dependency": "waits for another unit",
    "release": "waits for its release",
    "fill_drain": "start and end of the run",
    "no_work": "has no work (left)",
}
_OVERLAP_WORDS = {
    "compute": "compute alone",
    "overlapped": "compute with transfers behind it",
    "exposed_transfer": "exposed transfers",
    "idle": "nothing under way",
}
ENERGY_WORDS = {
    "mac": "multiply-accumulates",
    "registers": "array registers",
    "accumulator": "accumulators",
    "vector": "vector units",
    "control": "instructions",
    "sram": "scratchpads",
    "cache": "cache",
    "dma": "DMA buffers",
    "noc": "interconnect",
    "dram_activate": "DRAM rows opened",
    "dram_read": "DRAM reads",
    "dram_write": "DRAM writes",
    "dram_io": "DRAM interface",
    "host": "host link",
    "leakage": "leakage",
    "clock": "clocks",
    "dram_refresh": "DRAM refresh",
    "dram_standby": "DRAM standby",
}
AREA_WORDS = {
    "arrays": "arrays",
    "accumulators": "accumulators",
    "vector": "vector units",
    "sram": "scratchpads",
    "dma": "DMA engines",
    "interconnect": "interconnect",
    "cache": "cache",
    "dram_phy": "DRAM interface",
    "host_phy": "host link",
    "link_phy": "links to other chips",
    "other": "pads, clocks, empty",
}
COST_WORDS = {
    "die": "die",
    "dram": "DRAM",
    "package": "package",
    "test": "test",
    "assembly_loss": "lost at assembly",
}
_LATENCY_WORDS = {
    "load": "load",
    "store": "store",
    "send": "send",
    "port": "multicast",
    "host": "host transfer",
}
_LINK_WORDS = {
    "dram": "DRAM",
    "port": "memory port",
    "noc": "on-chip link",
    "dma": "DMA",
    "cache": "cache",
    "host": "host link",
}
_MEMORY_WORDS = {"scratchpad": "fullest scratchpad", "dram": "DRAM"}
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
    show(_headline(report))
    for line in _error_bar(report):
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
    for line in (*_others(rows), *_notes(report, rows)):
        show(line)
    if report.tables["parts"]:
        title("\nParts", f" of the partition{_balance(report.facts)}")
        show(_parts_table(report.tables["parts"]))


def _error_bar(report: Report) -> list[str]:
    """How far the time may be off, as far as chips and operators like these were measured."""
    ops = report.tables["ops"]
    share, low, high = (report[name] for name in ("validated_share", "time_error_low", "time_error_high"))
    reasons: dict[str, float] = {}
    for reason, time_s in zip(ops["validity_note"], ops["time_s"], strict=True):
        if reason:
            reasons[reason] = reasons.get(reason, 0.0) + time_s
    lines = []
    if share and isinstance(low, float) and isinstance(high, float):
        chips = ", ".join(sorted({name for name in ops["validated_on"] if name}))
        own = "validated" in ops["validity"]
        whose = f"measurements of {chips}" if own else f"a relative that was measured, {chips}"
        lines.append(
            f"error bar:  {low - 1:+.0%} to {high - 1:+.0%} on {share:.0%} of the time, by {whose} (9 in 10 rows)"
        )
    if reasons:
        longest = max(reasons, key=lambda reason: reasons[reason])
        lines.append(f"            {1 - float(share or 0):.0%} of the time is outside what was validated: {longest}")
    return lines


def top_operators(table: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Operators by time, longest first, the back-to-back inputs' and segments' rows of one name added up."""
    merged: dict[str, dict[str, Any]] = {}
    for values in zip(*table.values(), strict=True):
        row = dict(zip(table, values, strict=True))
        known = merged.setdefault(row["name"], row)
        if known is not row:
            for column in ("time_s", "share", "active_s", "bound_s", "macs", "tasks"):
                known[column] += row[column]
    return sorted(merged.values(), key=lambda row: -row["time_s"])


def critical_steps(path: Mapping[str, Sequence[Any]]) -> list[tuple[str, str, int]]:
    """The critical path by what it was spent on: (kind of resource, cause, picoseconds), longest first."""
    total: dict[tuple[str, str], int] = {}
    for kind, cause, duration in zip(path["kind"], path["cause"], path["duration_ps"], strict=True):
        words = (_LATENCY_WORDS if cause == "latency" else _LINK_WORDS).get(kind, kind)
        total[words, cause] = total.get((words, cause), 0) + duration
    return sorted(((words, cause, t) for (words, cause), t in total.items()), key=lambda step: -step[2])


def _inputs(report: Report) -> int:
    return 1 + int(max(report.tables["ops"]["input"]))


def _title(report: Report) -> tuple[str, str]:
    v, inputs = report.values, _inputs(report)
    several = "" if inputs == 1 else f", {inputs} back-to-back inputs"
    how = f"{v['fidelity']}, {v['engine']} engine" if v["engine"] else "closed form"
    how += "".join(
        f", {word}" for word in (v["dtype"], v["partition"] and f"{v['partition']} partition") if word
    )
    return f"{v['workload']} on {v['chip']}", f"  ({how}{several})"


def _headline(report: Report) -> RichTable:
    v: Mapping[str, Any] = report.values
    unit, bound_s, cost_usd = v["throughput_unit"], v["bound_latency_s"], v["cost_usd"]
    limit = _RESOURCE_WORDS.get(v["bottleneck"], "no resource")
    power = format_quantity(v["power_w"], "power")
    grid = _table((None, None, None, None))
    grid.show_header = False
    grid.add_row(
        (("latency" if v["engine"] else "estimate") + (" of one" if _inputs(report) > 1 else "")),
        _time(v["latency_s"]),
        "throughput",
        f"{_count(v['throughput_per_s'])} {unit}/s",
    )
    if "time_to_first_token_s" in v:
        further_s = v["time_per_output_token_s"]
        further = "none asked for" if further_s is None else f"{_time(further_s)} each (sampled)"
        grid.add_row("first token", _time(v["time_to_first_token_s"]), "further tokens", further)
    grid.add_row(
        "bound",
        f"{_time(bound_s)}, set by {limit}",
        "distance",
        f"{v['latency_s'] / bound_s:.2f} x the bound" if bound_s else "",
    )
    closed_s = report.facts["closed_form_latency_s"]
    if v["engine"]:
        grid.add_row("closed form", f"{_time(closed_s)} ({closed_s / v['latency_s']:.2f} x)")
    grid.add_row(
        "array utilisation",
        _percent(v["array_utilization"]),
        "work",
        f"{_count(v['macs'])} MAC, {_count(v['tasks'])} tasks",
    )
    grid.add_row(
        f"energy per {_singular(unit)}",
        format_quantity(v["energy_per_input_j"], "energy"),
        "power",
        f"{power}, {_plain(v['tops_per_w'])} TOPS/W",
    )
    peak, alone = (format_quantity(v[name], "power") for name in ("peak_power_w", "chip_power_w"))
    cost = "no die fits on a wafer" if cost_usd is None else _dollars(cost_usd)
    grid.add_row("die area", f"{v['area_mm2']:.1f} mm2", "cost", cost)
    per_million = "" if cost_usd is None else _dollars(v["cost_per_million_usd"])
    grid.add_row("peak power", f"{peak}, chip alone {alone}", per_million and "per million", per_million)
    return grid


def _overlap_table(report: Report, block: str) -> RichTable:
    total = sum(report.overlap_ps.values())
    table = _table(("the chip as a whole", ">time", ">share", "bar"))
    for name, words in _OVERLAP_WORDS.items():
        part = report.overlap_ps[name]
        table.add_row(words, _ps(part), _percent(part / total), _bar(part / total, block))
    return table


def _units_table(report: Report) -> RichTable:
    """Average share of the run that the units of each sort spend on every cause; all-zero causes are left
    out."""
    stalls = report.tables["stalls"]
    units = list(dict.fromkeys(stalls["unit"]))
    headers = [f">{stalls['unit'].count(unit)} {unit} unit{_s(stalls['unit'].count(unit))}" for unit in units]
    table = _table(("average unit", *headers))
    for name in STALLS:
        shares = [_average_share(stalls, f"{name}_ps", unit) for unit in units]
        if any(shares):
            table.add_row(_STALL_WORDS[name], *(_percent(share) for share in shares))
    return table


def _critical_table(report: Report, block: str) -> RichTable:
    steps = critical_steps(report.tables["critical_path"])
    whole = sum(duration for _, _, duration in steps)
    table = _table(("critical path", ">time", ">share", "bar"))
    for what, cause, duration in steps[:TOP_STEPS]:
        share = duration / whole
        table.add_row(f"{what} {cause}", _ps(duration), _percent(share), _bar(share, block))
    rest = sum(duration for _, _, duration in steps[TOP_STEPS:])
    if rest:
        table.add_row("everything else", _ps(rest), _percent(rest / whole), _bar(rest / whole, block))
    return table


def _energy_table(report: Report, block: str) -> RichTable:
    energy = report.tables["energy"]
    table = _table(("component", ">energy", ">power", ">share", "bar"))
    rows = zip(energy["component"], energy["energy_j"], energy["power_w"], energy["share"], strict=True)
    for name, joules, watts, share in sorted(rows, key=lambda row: -row[1]):
        if joules:
            shown = (format_quantity(joules, "energy"), format_quantity(watts, "power"), _percent(share))
            table.add_row(ENERGY_WORDS[name], *shown, _bar(share, block))
    total = sum(energy["energy_j"])
    table.add_row(
        "total", format_quantity(total, "energy"), format_quantity(sum(energy["power_w"]), "power"), ""
    )
    return table


def _die_table(report: Report) -> RichTable:
    """Area and cost side by side, largest first, what there is none of left out."""
    table = _table(("component", ">area", ">share", "part", ">cost", ">share"))
    columns = []
    for name, amount, words in (("area", "area_mm2", AREA_WORDS), ("cost", "cost_usd", COST_WORDS)):
        found = report.tables[name]
        rows = zip(found["component"], found[amount], found["share"], strict=True)
        columns.append([(words[part], value, share) for part, value, share in sorted(rows, key=lambda r: -r[1])])
    for (part, mm2, share), cost in itertools.zip_longest(columns[0], columns[1]):
        money = (cost[0], _dollars(cost[1]), _percent(cost[2])) if cost else ("", "", "")
        if mm2:
            table.add_row(part, f"{mm2:.1f} mm2", _percent(share), *money)
    return table


def _dollars(amount_usd: float) -> str:
    """Three digits, and whole dollars from a hundred on."""
    return f"{amount_usd:,.0f} USD" if amount_usd >= 100 else f"{amount_usd:.3g} USD"


def _traffic_table(report: Report) -> RichTable:
    ops, elapsed_s = report.tables["ops"], report.elapsed_s
    table = _table(("level", ">read or sent", ">written", ">average rate", None))

    def add(level: str, inward: float, outward: float | None, remark: str = "") -> None:
        rate = format_quantity((inward + (outward or 0.0)) / elapsed_s, "bandwidth")
        table.add_row(level, _size(inward), "" if outward is None else _size(outward), rate, remark)

    for level, read, written in _TRAFFIC_ROWS:
        add(level, sum(ops[read]), sum(ops[written]))
    if report.tables["cache"]:
        rate = report.values["cache_hit_rate"]
        add(
            "cache",
            sum(ops["cache_read_bytes"]),
            sum(ops["cache_write_bytes"]),
            f"{_percent(float(rate or 0))} hits",
        )
    injected, hops = sum(ops["noc_injected_bytes"]), sum(ops["noc_bytes"])
    add("interconnect", injected, None, f"{hops / injected:.2f} hops on average" if injected else "")
    if sum(ops["host_bytes"]):
        add("host link", sum(ops["host_bytes"]), None, "both ways")
    return table


def _cache_table(tensors: Mapping[str, Sequence[Any]]) -> RichTable:
    """The tensors that most bytes are looked up of."""
    table = _table(("tensor", "policy", ">asked for", ">hits", ">rest of lines", ">written back"))
    rows = [dict(zip(tensors, values, strict=True)) for values in zip(*tensors.values(), strict=True)]
    for row in rows[:TOP_TENSORS]:
        sizes = (
            _size(row["bytes"]),
            _percent(row["hit_rate"]),
            _size(row["rest_bytes"]),
            _size(row["evicted_bytes"]),
        )
        table.add_row(_cut(row["tensor"], NAME_WIDTH), row["policy"], *sizes)
    if len(rows) > TOP_TENSORS:
        left = rows[TOP_TENSORS:]
        hits = sum(row["hit_bytes"] for row in left) / sum(row["bytes"] for row in left)
        total = [_size(sum(row[name] for row in left)) for name in ("bytes", "rest_bytes", "evicted_bytes")]
        table.add_row(f"{len(left)} more", "", total[0], _percent(hits), *total[1:])
    return table


def _operators_table(rows: Sequence[Mapping[str, Any]], width: int) -> RichTable:
    """The longest operators; on a narrow terminal without their kind and tile."""
    wide = width >= WIDTH
    headers = ("operator", "kind", "unit", ">cores", ">time", ">share", ">of bound", ">PEs used", "tile")
    table = _table([header for header in headers if wide or header not in ("kind", "tile")])
    for row in rows[:TOP_OPERATORS]:
        bound = row["bound_s"] / row["active_s"] if row["active_s"] else None
        used = row["utilization"] if row["unit"] == "array" else None
        numbers = (
            row["unit"],
            str(row["cores"]),
            _time(row["time_s"]),
            *("" if share is None else _percent(share) for share in (row["share"], bound, used)),
        )
        # A tile is shown by its sizes alone: the table of operators names their dimensions.
        sizes = "x".join(part.split("=")[1] for part in row["tile"].split())
        times = f" x{row['repeats']}" if row["repeats"] > 1 else ""
        name = _cut(row["name"], NAME_WIDTH - len(times)) + times
        kind = _cut(row["kind"], KIND_WIDTH)
        table.add_row(name, *((kind, *numbers, _cut(sizes, TILE_WIDTH)) if wide else numbers))
    return table


def _others(rows: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """What the table left out."""
    rest = rows[TOP_OPERATORS:]
    views = sum(row["unit"] == "view" for row in rows)
    if rest:
        time_s, share = sum(row["time_s"] for row in rest), sum(row["share"] for row in rest)
        yield f"  and {len(rest)} more: {_time(time_s)}, {_percent(share)}"
    if views:
        yield f"  {views} of the {len(rows)} move nothing: views of memory in another shape"


def _notes(report: Report, rows: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """The mapper's remarks, each once with the operators it is about, longest operators first."""
    about: dict[str, list[str]] = {}
    for row in rows:
        for note in filter(None, row["notes"].split("; ")):
            about.setdefault(note, []).append(row["name"])
    for note, names in about.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield f"  note: {names[0]}{more}: {note}"
    yield from _over_power_limit(report.values)
    if sum(report.tables["area"]["area_mm2"]) > RETICLE_MM2:
        yield f"  note: the die is larger than one exposure field ({RETICLE_MM2} mm2): it would have to be several"
    if not report.facts["steady"]:
        yield "  note: too few inputs to see the steady rate: the throughput shown is what the bound allows"
    late_s = float(report.values["drained_s"] or 0) - report.elapsed_s
    if late_s > 0:
        yield f"  note: the cache writes lines back for {_time(late_s)} after the last task"
    dram = report.manifest["configuration"].get("dram", {})
    if dram.get("status") == "estimate":
        yield f"  note: the timing of {dram['device']} is an estimate: there is no run or part to compare it with"
    for where in ("scratchpad", "dram"):
        layout = report.facts.get(where)
        if layout:
            peak, wasted = _size(layout["peak_bytes"]), _percent(layout["fragmentation"])
            yield f"  {_MEMORY_WORDS[where]} peak: {peak}, of which {wasted} fragmentation"


def _over_power_limit(v: Mapping[str, Any]) -> Iterable[str]:
    """Where the chip states a limit and the run is above it, on average or for a moment."""
    limit_w = v["power_limit_w"]
    if limit_w is not None and v["peak_power_w"] > limit_w:
        which, watts = ("average", v["power_w"]) if v["power_w"] > limit_w else ("peak", v["peak_power_w"])
        yield (
            f"  note: {which} power of {format_quantity(watts, 'power')} is above the chip's limit of"
            f" {format_quantity(limit_w, 'power')}: the real chip would slow its clock, which is not modelled"
        )


def _balance(facts: Mapping[str, Any]) -> str:
    partition = facts["partition"]
    against = f", {partition['speedup']:.2f} x one core" if "speedup" in partition else ""
    return f" ({partition['mode']}), balance {_percent(partition['balance'])} (mean / longest){against}"


def _parts_table(parts: Mapping[str, Sequence[Any]]) -> RichTable:
    """Columns as the mapper names them; the unit at the end of a name says how its numbers are shown."""
    words = {index for index, values in enumerate(parts.values()) if isinstance(values[0], str)}
    names = [name.removesuffix("_s").removesuffix("_bytes").replace("_", " ") for name in parts]
    headers = [name if index in words else f">{name}" for index, name in enumerate(names)]
    table = _table(headers)
    rows = list(zip(*parts.values(), strict=True))
    for row in rows[:TOP_PARTS]:
        table.add_row(*(_shown(name, value) for name, value in zip(parts, row, strict=True)))
    if len(rows) > TOP_PARTS:
        table.add_row(f"{len(rows) - TOP_PARTS} more")
    return table


def _shown(name: str, value: Any) -> str:
    if isinstance(value, str):
        return _cut(value, NAME_WIDTH)
    if name.endswith("_s"):
        return _time(value)
    if name.endswith("_bytes"):
        return _size(value)
    return _percent(value) if isinstance(value, float) else _count(value)


def _table(headers: Iterable[str | None]) -> RichTable:
    """A table without lines; ">" before a header aligns right, "bar" is not shown."""
    from rich.table import Table as RichTable

    table = RichTable(box=None, pad_edge=False, padding=(0, 1), header_style="dim")
    for header in headers:
        text = "" if header in (None, "bar") else str(header)
        right = text.startswith(">")
        table.add_column(text.removeprefix(">"), justify="right" if right else "left", no_wrap=True)
    return table


def _average_share(stalls: Mapping[str, Sequence[Any]], column: str, unit: str) -> float:
    rows = [i for i, name in enumerate(stalls["unit"]) if name == unit]
    return float(sum(stalls[column][i] / stalls["latency_ps"][i] for i in rows) / len(rows))


def _bar(share: float, block: str) -> str:
    return block * round(share * BAR)


def _cut(text: str, width: int) -> str:
    """Text of at most `width` characters, the middle left out: both ends of a name tell operators apart."""
    if len(text) <= width:
        return text
    head = (width - 2) // 2
    return f"{text[:head]}..{text[len(text) - (width - 2 - head) :]}"


def _time(seconds: float) -> str:
    return format_quantity(seconds, "time")


def _ps(ticks: int) -> str:
    return format_quantity(ticks / PS_PER_S, "time")


def _size(size_bytes: float) -> str:
    return format_quantity(round(size_bytes), "size")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _count(value: float) -> str:
    """1234567 as "1.23 M", 1234 as "1,234"."""
    if abs(value) < 10_000:
        return f"{value:,.4g}"
    for power, prefix in ((15, "P"), (12, "T"), (9, "G"), (6, "M")):
        if abs(value) >= 10**power:
            return f"{value / 10**power:.3g} {prefix}"
    return f"{value / 1000:.3g} k"


def _singular(unit: str) -> str:
    return unit.removesuffix("s")


def _s(count: int) -> str:
    return "" if count == 1 else "s"
