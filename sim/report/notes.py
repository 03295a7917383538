"""The lines below the tables: how far the time may be off, what was left out, what wastes the chip."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sim.hw.money import RETICLE_MM2
from sim.report.cells import percent_text, size_text, time_text
from sim.report.report import Report
from sim.report.words import MEMORY_WORDS
from sim.units import format_quantity


def error_bar(report: Report) -> list[str]:
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
    least, most = report.values.get("dram_error_low"), report.values.get("dram_error_high")
    if isinstance(least, float) and isinstance(most, float):
        interval = f"{least - 1:+.1%} to {most - 1:+.1%} of the bandwidth"
        device = report.manifest["configuration"]["dram"]["device"]
        lines.append(f"            DRAM: {interval}, by every reference run of {device}")
    return lines


def notes(report: Report, rows: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """The mapper's remarks, each once with the operators it is about, longest operators first."""
    about: dict[str, list[str]] = {}
    for row in rows:
        for note in filter(None, row["notes"].split("; ")):
            about.setdefault(note, []).append(row["name"])
    for note, names in about.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield f"  note: {names[0]}{more}: {note}"
    yield from over_power_limit(report.values)
    if sum(report.tables["area"]["area_mm2"]) > RETICLE_MM2:
        yield f"  note: the die is larger than one exposure field ({RETICLE_MM2} mm2): it would have to be several"
    if not report.facts["steady"]:
        yield "  note: too few inputs to see the steady rate: the throughput shown is what the lower bound allows"
    late_s = float(report.values["drained_s"] or 0) - report.elapsed_s
    if late_s > 0:
        yield f"  note: the cache writes lines back for {time_text(late_s)} after the last task"
    dram = report.manifest["configuration"].get("dram", {})
    if dram.get("status") == "estimate":
        yield f"  note: the timing of {dram['device']} is an estimate: there is no run or part to compare it with"
    for where in ("scratchpad", "dram"):
        layout = report.facts.get(where)
        if layout:
            peak, wasted = size_text(layout["peak_bytes"]), percent_text(layout["fragmentation"])
            yield f"  {MEMORY_WORDS[where]} peak: {peak}, of which {wasted} fragmentation"


def over_power_limit(v: Mapping[str, Any]) -> Iterable[str]:
    """Where the chip states a limit and the run is above it, on average or for a moment."""
    limit_w = v["power_limit_w"]
    if limit_w is not None and v["peak_power_w"] > limit_w:
        which, watts = ("average", v["power_w"]) if v["power_w"] > limit_w else ("peak", v["peak_power_w"])
        yield (
            f"  note: {which} power of {format_quantity(watts, 'power')} is above the chip's limit of"
            f" {format_quantity(limit_w, 'power')}: the real chip would slow its clock, which is not modelled"
        )
