"""The lines below the tables: how far the time may be off, what was left out, what wastes the chip."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sim.hw.money import RETICLE_MM2
from sim.report.cells import percent_text, size_text, time_text
from sim.report.report import Report
from sim.report.words import MEMORY_WORDS
from sim.units import format_quantity, parse

TOP_REASONS = 3
REASON = 14  # columns that a reason of the line above is indented by
MANY_TIMES = 8  # the size of the cache
HARDLY = 0.1


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
        within = f"{low - 1:+.0%} to {high - 1:+.0%} on {share:.0%} of the time"
        lines.append(f"error bar:  {within}, by {_whose(report)} (9 in 10 rows)")
    total_s = sum(reasons.values())
    if total_s:
        lines.append(f"            {1 - float(share or 0):.0%} of the time is outside what was validated:")
        longest = sorted((reason for reason in reasons if reasons[reason]), key=lambda reason: -reasons[reason])
        for reason in longest[:TOP_REASONS]:
            part = reasons[reason] / total_s * (1 - float(share or 0))
            lines.append(f"{'':{REASON}}{part:.0%} {reason}")
    least, most = report.values.get("dram_error_low"), report.values.get("dram_error_high")
    if isinstance(least, float) and isinstance(most, float):
        interval = f"{least - 1:+.1%} to {most - 1:+.1%} of the bandwidth"
        device = report.manifest["configuration"]["dram"]["device"]
        lines.append(f"            DRAM: {interval}, by every reference run of {device}")
    dram = report.manifest["configuration"].get("dram", {})
    if dram.get("status") == "estimate":
        timing = f"the timing of {dram['device']} is an estimate, with no run to compare"
        lines.append(f"            DRAM: no error is known: {timing}")
    return lines


def _whose(report: Report) -> str:
    """Whose measurements the error bars are: of this chip, of it as it comes where its parameters were changed, or of a
    relative; and in which types where operators compute in others."""
    ops = report.tables["ops"]
    chips = sorted({name for name in ops["validated_on"] if name})
    inside = [(dtype, known) for dtype, known in zip(ops["dtype"], ops["validated_in"], strict=True) if known]
    others = any(dtype not in known.split() for dtype, known in inside)
    types = f" in {', '.join(sorted({name for _, known in inside for name in known.split()}))}" if others else ""
    if "validated" in ops["validity"]:
        return f"measurements of {', '.join(chips)}{types}"
    if chips == [report["chip"]]:
        return f"measurements of {chips[0]}{types or ' as it comes'}"
    return f"a measured relative, {', '.join(chips)}{types}"


def notes(report: Report, rows: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """The mapper's remarks, each once with the operators it is about, longest operators first."""
    about: dict[str, list[str]] = {}
    for row in rows:
        for note in filter(None, row["notes"].split("; ")):
            about.setdefault(note, []).append(row["name"])
    for note, names in about.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield f"  note: {names[0]}{more}: {note}"
    if not report.facts.get("partition", {}).get("overlaps", True):
        yield "  note: operators are kernels of one stream here: the stages of the pipeline follow one another"
    yield from over_power_limit(report.values)
    yield from of_samples(report.facts.get("sampled", ()))
    if sum(report.tables["area"]["area_mm2"]) > RETICLE_MM2:
        yield f"  note: the die is larger than one exposure field ({RETICLE_MM2} mm2): it would have to be several"
    if not report.facts["steady"]:
        yield "  note: too few inputs to see the steady rate: the throughput shown is what the lower bound allows"
    yield from _few_sets(report)
    late_s = float(report.values["drained_s"] or 0) - report.elapsed_s
    if late_s > 0:
        yield f"  note: the cache writes lines back for {time_text(late_s)} after the last task"
    for where in ("scratchpad", "dram"):
        layout = report.facts.get(where)
        if layout:
            peak, wasted = size_text(layout["peak_bytes"]), percent_text(layout["fragmentation"])
            yield f"  {MEMORY_WORDS[where]} peak: {peak}, of which {wasted} fragmentation"


def _few_sets(report: Report) -> Iterable[str]:
    """Tensors that are asked for many times what the cache holds and hardly ever found, where sets follow from plain
    addresses: rows a power of two apart may share a few sets, which a hash would show."""
    cache, asked = report.manifest["configuration"].get("cache"), report.tables["cache"]
    if cache is None or cache["hashed"] or not asked:
        return
    size = float(parse(cache["size"], "size"))
    for name, policy, of, rate in zip(*(asked[key] for key in ("tensor", "policy", "bytes", "hit_rate")), strict=True):
        if policy == "cache" and of > MANY_TIMES * size and rate < HARDLY:
            found = f"{percent_text(rate)} of the {size_text(of)} that are asked of the cache are found"
            yield f"  note: {name}: {found}; its rows may share few sets: compare with --set cache.hashed=true"


def of_samples(sampled: Sequence[Mapping[str, Any]]) -> Iterable[str]:
    """Layers that were not simulated, and how far those that were are apart in time."""
    for one in sampled:
        in_time, in_bytes = (one[f"most_{of}"] / max(1, one[f"least_{of}"]) - 1 for of in ("ps", "bytes"))
        yield (
            f"  note: {one['run']} of {one['repeats']} equal layers ({one['name']}) were simulated, the others count as"
            f" the last (--sample-layers); they are up to {in_time:.2%} apart in time, {in_bytes:.2%} in what the cache"
            " moves from and to memory"
        )


def over_power_limit(v: Mapping[str, Any]) -> Iterable[str]:
    """Where the chip states a limit and the run is above it, on average or for a moment."""
    limit_w = v["power_limit_w"]
    if limit_w is not None and v["peak_power_w"] > limit_w:
        which, watts = ("average", v["power_w"]) if v["power_w"] > limit_w else ("peak", v["peak_power_w"])
        yield (
            f"  note: {which} power of {format_quantity(watts, 'power')} is above the chip's limit of"
            f" {format_quantity(limit_w, 'power')}: the real chip would slow its clock, which is not modelled"
        )
