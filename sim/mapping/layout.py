"""Where buffers, kept results and tensors lie: the layouts of a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sim.cost.estimate import aligned
from sim.errors import DoesNotFit
from sim.graph.graph import Graph
from sim.hw.chip import Chip
from sim.mapping.allocate import DramLayout, Layout, Span, place
from sim.mapping.buffers import buffers
from sim.mapping.residency import Residency
from sim.mapping.step import Step

KEPT = "kept:"
"""Before the names of results among the spans of a scratchpad."""

PAGE_BYTES = 4096
"""Where there is a cache, tensors in DRAM start at multiples of this: they share no line, and lines that always come
and go together can be simulated as one (sim/hw/tags.py)."""


def scratchpad_layouts(
    chip: Chip, steps: Sequence[Step], residency: Residency, *, largest: bool
) -> tuple[list[Layout], list[str] | None]:
    """Place kept results and streaming buffers. The second value is None where all find room; else it names results to
    be kept no longer, none where that does not help: the `largest`, or the smallest, where only the holes are too
    small."""
    layouts = []
    crowding: list[str] | None = None
    for kind_index, kind in enumerate(chip.cores):
        spans = [
            Span(f"{KEPT}{root}", kept.size_bytes, kept.made, kept.until)
            for root, kept in residency.results.items()
            if kept.until >= 0 and kept.kind == kind_index
        ]
        for position, step in enumerate(steps):
            if step.kind == kind_index and not _last_wave(step):
                until = position + (position + 1 < len(steps) and _last_wave(steps[position + 1]))
                spans += [
                    Span(f"{position}:{b.name}", b.slots * b.size_bytes, position, until)
                    for b in buffers(step)
                ]
        layout, failed = place(spans, kind.sram.size_bytes, alternate=True)
        if failed is not None:
            homeless = [span for span in spans if span.name not in layout.address_bytes]
            crowding = (crowding or []) + _in_the_way(homeless, spans, kind.sram.size_bytes, largest=largest)
        layouts.append(_with_last_waves(layout, steps, kind_index))
    return layouts, crowding


def _in_the_way(
    homeless: Sequence[Span], spans: Sequence[Span], capacity_bytes: int, *, largest: bool
) -> list[str]:
    """For each span without a home one of the kept results that lie beside it, unless one named for another does: the
    smallest that makes up for what is missing; where only the holes are too small, the `largest` or the smallest."""
    kept = [span for span in spans if span.name.startswith(KEPT)]
    found: list[Span] = []
    for lost in sorted(homeless, key=lambda span: span.first):
        if any(_meet(lost, one) for one in found):
            continue
        missing = sum(aligned(span.size_bytes) for span in spans if _meet(lost, span)) - capacity_bytes
        beside = sorted((one for one in kept if _meet(lost, one)), key=lambda span: span.size_bytes)
        enough = [one for one in beside if one.size_bytes >= missing and (missing > 0 or not largest)]
        found += enough[:1] or beside[-1:]
    return [span.name.removeprefix(KEPT) for span in found]


def _meet(one: Span, other: Span) -> bool:
    return one.first <= other.last and other.first <= one.last


def _last_wave(step: Step) -> bool:
    """Does the step go on with the waves of the one before? It is the same kernel, in the same buffers."""
    return step.tiling.deal is not None and step.tiling.deal.first > 0


def _with_last_waves(layout: Layout, steps: Sequence[Step], kind_index: int) -> Layout:
    """The layout with the buffers of last waves, which are those of the step before."""
    address, size = dict(layout.address_bytes), dict(layout.size_bytes)
    for position, step in enumerate(steps):
        if step.kind == kind_index and _last_wave(step):
            for buffer in buffers(step):
                mine, before = f"{position}:{buffer.name}", f"{position - 1}:{buffer.name}"
                if before in address:
                    address[mine], size[mine] = address[before], size[before]
    return replace(layout, address_bytes=address, size_bytes=size)


def dram_layout(
    graph: Graph,
    chip: Chip,
    steps: Sequence[Step],
    roots: Mapping[str, str],
    *,
    inputs: int,
    stage_of: Mapping[int, int],
    together: Sequence[tuple[str, str, int, int]] = (),
    block_starts: frozenset[str] = frozenset(),
) -> tuple[DramLayout, dict[str, int]]:
    """Weights, inputs and states for good, results from their first write to their last read; the second value
    is the last step that reads each of the latter.

    Back-to-back `inputs` take turns at copies of inputs and results (`_copies`). In a pipeline (`stage_of` operators;
    else empty) every result has memory of its own: the first stage would otherwise wait until the last one is done with
    what lies at the same address. `together` lists pairs of results that both keep their memory from one step to
    another, as the repeats of a block take turns at them. `block_starts` are the first weights or states of each repeat
    of a block: they start at multiples of the cache's sets, so that every repeat falls into the same ones.

    Raises DoesNotFit.
    """
    last = len(steps)

    def padded(size_bytes: int) -> int:
        return aligned(size_bytes) if chip.cache is None else -(-size_bytes // PAGE_BYTES) * PAGE_BYTES

    address: dict[str, int] = {}
    base = 0
    for name, tensor in graph.tensors.items():
        if tensor.role != "activation":
            if chip.cache is not None and name in block_starts:
                all_sets = chip.cache.sets * chip.cache.line_bytes
                base = -(-base // all_sets) * all_sets
            address[name] = base
            base += padded(tensor.size_bytes)
    written, passing = _lifetimes(graph, steps, roots)
    spans = {
        name: Span(name, padded(graph.tensors[name].size_bytes), first, passing[name])
        for name, first in written.items()
    }
    for one, other, first, until in together:
        for name in {one, other} & spans.keys():
            mine = spans[name]
            spans[name] = replace(mine, first=min(mine.first, first), last=max(mine.last, until))
    if stage_of:
        spans = {name: replace(span, first=0, last=last) for name, span in spans.items()}
    layout, failed = place(list(spans.values()), chip.dram.capacity_bytes, base_bytes=base)
    given = sum(padded(graph.tensors[name].size_bytes) for name in graph.inputs)
    turns = min(inputs, 2)
    more = (turns - 1) * (given + layout.peak_bytes - base)
    if failed is not None or layout.peak_bytes + more > chip.dram.capacity_bytes:
        results = sum(span.size_bytes for span in spans.values())
        raise _exceeds_dram(graph, chip, base + results + (turns - 1) * (given + results), turns)
    copies = dict.fromkeys((*graph.inputs, *written), turns)
    if stage_of:
        wanted = _copies(graph, steps, roots, inputs, stage_of)
        more = sum((wanted[name] - 1) * padded(graph.tensors[name].size_bytes) for name in copies)
        if layout.peak_bytes + more <= chip.dram.capacity_bytes:
            copies = {name: wanted[name] for name in copies}
    sizes = layout.size_bytes | {name: graph.tensors[name].size_bytes for name in address}
    addresses = layout.address_bytes | address
    return DramLayout(addresses, sizes, layout.peak_bytes, layout.live_bytes, copies), passing


def _lifetimes(
    graph: Graph, steps: Sequence[Step], roots: Mapping[str, str]
) -> tuple[dict[str, int], dict[str, int]]:
    """The steps that write each result to DRAM first and read it from there last; the user gets outputs at the end."""
    written: dict[str, int] = {}
    passing: dict[str, int] = {}
    for position, step in enumerate(steps):
        root = roots.get(step.nest.out.tensor.name, step.nest.out.tensor.name)
        if step.store and graph.tensors[root].role == "activation":
            written.setdefault(root, position)
            passing[root] = position
        for operand, here in zip(step.nest.operands, step.resident, strict=True):
            read = roots.get(operand.tensor.name, operand.tensor.name)
            if not here and read in passing:
                passing[read] = position
    for name in graph.outputs:
        root = roots.get(name, name)
        if root in passing:
            passing[root] = len(steps)
    return written, passing


def _copies(
    graph: Graph, steps: Sequence[Step], roots: Mapping[str, str], inputs: int, stage_of: Mapping[int, int]
) -> dict[str, int]:
    """How many copies of inputs and results let the stages of a pipeline work on an input each: two, so that one is
    written while the one before is read, and one more for every stage from the writer to the last reader. Where the
    DRAM has no room for all of these there are two of each."""
    final = max(stage_of.values())
    first, last = dict.fromkeys(graph.inputs, 0), dict.fromkeys((roots.get(n, n) for n in graph.outputs), final)
    for step in steps:
        stage = stage_of[step.op]
        first.setdefault(roots.get(step.nest.out.tensor.name, step.nest.out.tensor.name), stage)
        for operand in step.nest.operands:
            root = roots.get(operand.tensor.name, operand.tensor.name)
            last[root] = max(stage, last.get(root, 0))
    return {name: min(inputs, 2 + last.get(name, stage) - stage) for name, stage in first.items()}


def _exceeds_dram(graph: Graph, chip: Chip, total: int, copies: int) -> DoesNotFit:
    weights = sum(t.size_bytes for t in graph.tensors.values() if t.role == "weight")
    states = sum(t.size_bytes for t in graph.tensors.values() if t.role == "state")
    rest = max(0, total - weights - states)
    cached = f"{states / 2**30:.2f} GiB states (key-value cache), " if states else ""
    parts = (
        f"{weights / 2**30:.2f} GiB weights, {cached}"
        f"{rest / 2**30:.2f} GiB {'' if copies == 1 else 'in two copies of '}inputs and results"
    )
    levers = ["a larger dram.capacity", "a narrower --dtype", "a smaller --batch"]
    levers += ["a shorter --seq or --kv"] if states else []
    levers += ["a single input (no --inputs)"] if copies > 1 else []
    return DoesNotFit(
        f"model '{graph.name}' ({parts})", total, chip.dram.capacity_bytes, f"DRAM of '{chip.name}'", levers
    )
