"""Graph + Chip -> Program, the whole way: partition, plan, lower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sim.errors import InputError
from sim.graph.graph import Graph, Passes
from sim.hw.chip import Chip
from sim.mapping.allocate import Layout
from sim.mapping.fabric import Fabric
from sim.mapping.lower import lower
from sim.mapping.partition import Assignment, Stage, pipeline_stages
from sim.mapping.partition_file import load_partition
from sim.mapping.plan import Plan, make_plan
from sim.mapping.search import Tiling
from sim.mapping.segments import find_segments, one_segment
from sim.program import Program

MODES = ("auto", "data", "channel", "reduction", "pipeline")

SearchMemo = dict[object, Tiling]
"""Tile searches done so far, by everything they depend on."""


def map_graph(
    graph: Graph | Passes,
    chip: Chip,
    *,
    partition: str = "auto",
    dataflow: str | None = None,
    inputs: int = 1,
    unroll: bool = False,
    functional: bool = False,
    memo: SearchMemo | None = None,
) -> Program:
    """Lower a model, or several passes of one, onto a chip. Repeated blocks are lowered once, unless `unroll`, or
    several inputs or the stages of a pipeline overlap across them. `functional` adds what the functional executor
    needs.

    `partition` is one of MODES or the path of a partition file; `dataflow` overrides the arrays' own; `inputs`
    back-to-back inputs overlap. `memo` keeps tile searches for later calls. Raises DoesNotFit, InputError.
    """
    memo = {} if memo is None else memo
    parts = graph.parts if isinstance(graph, Passes) else ((graph, 1),)
    if len(parts) > 1 and inputs > 1:
        raise InputError(
            f"inputs: {graph.name} is {len(parts)} passes that follow each other; they cannot overlap"
        )
    fabric = Fabric(chip)
    programs, plans = [], []
    for part, _ in parts:
        assignment = _assignment(part, chip, fabric, partition, dataflow, memo)
        single = inputs > 1 or bool(assignment.stages)
        segments = one_segment(part) if single else find_segments(part, unroll=unroll or functional)
        plan = make_plan(part, chip, fabric, assignment, dataflow=dataflow, segments=segments, memo=memo)
        plans.append((plan, assignment))
        programs.append(lower(plan, chip, fabric, inputs=inputs, functional=functional))
    program = _chain(graph.name, programs, [count for _, count in parts])
    facts = _facts(*plans[0], chip, program)
    if len(parts) > 1:
        sizes = [len(one.segments) for one in programs]
        facts["passes"] = [
            {"name": part.name, "segments": size, "repeat": count, "items": part.items}
            for (part, count), size in zip(parts, sizes, strict=True)
        ]
    return replace(program, facts=facts)


def _chain(name: str, programs: Sequence[Program], counts: Sequence[int]) -> Program:
    """Programs of one fabric, run one after another; the tables of the last one have the routes of all."""
    last = programs[-1]
    if len(programs) == 1:
        return last
    segments = [
        replace(segment, name=f"{one.name}: {segment.name}") for one in programs for segment in one.segments
    ]
    repeats = [repeat * count for one, count in zip(programs, counts, strict=True) for repeat in one.repeats]
    return replace(last, name=name, segments=tuple(segments), repeats=tuple(repeats))


def _assignment(
    graph: Graph, chip: Chip, fabric: Fabric, partition: str, dataflow: str | None, memo: SearchMemo
) -> Assignment:
    names = tuple(op.name for op in graph.ops)
    if partition in ("auto", "data", "channel", "reduction"):
        return Assignment(chip, partition, names=names)
    if partition == "pipeline":
        return Assignment(chip, "auto", _stages(graph, chip, fabric, dataflow, memo), names=names)
    return load_partition(
        partition, graph, chip, lambda count, cut: _stages(graph, chip, fabric, dataflow, memo, count, cut)
    )


def _stages(
    graph: Graph,
    chip: Chip,
    fabric: Fabric,
    dataflow: str | None,
    memo: SearchMemo,
    count: int | None = None,
    cut: str = "balanced",
) -> tuple[Stage, ...]:
    """Stages balanced by the estimated time of every operator on one core."""
    seconds = one_core_seconds(graph, chip, fabric, dataflow, memo)
    return pipeline_stages(graph, chip, seconds, count, cut)


def one_core_seconds(
    graph: Graph, chip: Chip, fabric: Fabric, dataflow: str | None, memo: SearchMemo
) -> list[float]:
    """Estimated time of every operator when the whole model runs on the first core: the baseline of a partition."""
    alone = Assignment(chip, stages=(Stage(tuple(range(len(graph.ops))), (0,), 0.0, 0, 0, 0),))
    plan = make_plan(graph, chip, fabric, alone, dataflow=dataflow, memo=memo)
    seconds = [0.0] * len(graph.ops)
    for step in plan.steps:
        seconds[step.op] += step.tiling.latency_s
    return seconds


def _facts(plan: Plan, assignment: Assignment, chip: Chip, program: Program) -> dict[str, Any]:
    """What the report passes on: scratchpad and DRAM use, the partition's parts, the estimate."""
    return {
        "estimate_s": sum(step.tiling.latency_s for step in plan.steps),
        "op_estimate_s": [(step.nest.name, step.tiling.latency_s) for step in plan.steps],
        "scratchpad": _layout_facts(max(plan.scratchpads, key=lambda layout: layout.peak_bytes)),
        "dram": _layout_facts(plan.dram),
        "partition": {"mode": assignment.mode, **_parts(plan, chip, assignment, program)},
    }


def _layout_facts(layout: Layout) -> dict[str, Any]:
    return {
        "peak_bytes": layout.peak_bytes,
        "live_bytes": layout.live_bytes,
        "fragmentation": layout.fragmentation,
    }


def _parts(plan: Plan, chip: Chip, assignment: Assignment, program: Program) -> dict[str, Any]:
    """One row per stage of a pipeline, else one per core, with its share of the work and the balance of all."""
    rows = _stage_rows(plan.graph, assignment) if assignment.stages else _core_rows(program, chip)
    work = [row["time_s"] for row in rows]
    mean = sum(work) / len(work)
    return {"balance": mean / max(work) if max(work) else 1.0, "parts": rows}


def _stage_rows(graph: Graph, assignment: Assignment) -> list[dict[str, Any]]:
    total = sum(stage.seconds for stage in assignment.stages)
    return [
        {
            "part": f"stage {index}",
            "cores": f"{stage.cores[0]}-{stage.cores[-1]}" if len(stage.cores) > 1 else str(stage.cores[0]),
            "first_op": graph.ops[stage.ops[0]].name,
            "ops": len(stage.ops),
            "macs": stage.macs,
            "weight_bytes": stage.weight_bytes,
            "cut_bytes": stage.cut_bytes,
            "time_s": stage.seconds,
            "of_one_core": stage.seconds / total if total else 0.0,
        }
        for index, stage in enumerate(assignment.stages)
    ]


def _core_rows(program: Program, chip: Chip) -> list[dict[str, Any]]:
    """Busy time and bytes of every core, from the tasks of one input."""
    core_of_queue = np.array([queue.core for queue in program.queues])
    unit = np.array([queue.unit for queue in program.queues])
    busy = np.zeros(chip.core_count)
    moved = {name: np.zeros(chip.core_count) for name in ("load", "store", "send")}
    used = [set[str]() for _ in range(chip.core_count)]
    for segment, repeat in zip(program.segments, program.repeats, strict=True):
        core, kind = core_of_queue[segment.queue], unit[segment.queue]
        computes = np.isin(kind, ("array", "vector"))
        busy += np.bincount(core[computes], segment.hold[computes] * repeat, chip.core_count)
        for name, total in moved.items():
            here = kind == name
            total += np.bincount(core[here], segment.nbytes[here] * repeat, chip.core_count)
        pairs = np.unique(core[computes].astype(np.int64) * len(segment.ops) + segment.op[computes])
        for pair in pairs.tolist():
            used[pair // len(segment.ops)].add(segment.ops[pair % len(segment.ops)].name)
    return [
        {
            "part": f"core {index}",
            "ops": len(used[index]),
            "time_s": float(busy[index]) * 1e-12,
            "loaded_bytes": int(moved["load"][index]),
            "stored_bytes": int(moved["store"][index]),
            "sent_bytes": int(moved["send"][index]),
        }
        for index in range(chip.core_count)
    ]
