"""What the mapper tells the report: memory use, and the parts of the partition with their work and balance."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from sim.hw.chip import Chip
from sim.mapping.allocate import Layout
from sim.mapping.partition import Assignment
from sim.mapping.step import Plan
from sim.program import Kind, Program


def program_facts(plans: Sequence[tuple[Plan, Assignment]], chip: Chip, program: Program) -> dict[str, Any]:
    """What the report passes on: the fullest scratchpad and DRAM of all passes, and the partition's parts."""
    scratchpads = [layout for plan, _ in plans for layout in plan.scratchpads]
    plan, assignment = plans[0]
    return {
        "scratchpad": _layout_facts(max(scratchpads, key=lambda layout: layout.peak_bytes)),
        "dram": _layout_facts(max((plan.dram for plan, _ in plans), key=lambda layout: layout.peak_bytes)),
        "partition": {
            "mode": "pipeline" if assignment.stages else assignment.mode,
            **({"overlaps": assignment.overlaps} if assignment.stages else {}),
            **_parts(plan, chip, assignment, program),
        },
    }


def _layout_facts(layout: Layout) -> dict[str, Any]:
    return {
        "peak_bytes": layout.peak_bytes,
        "live_bytes": layout.live_bytes,
        "fragmentation": layout.fragmentation,
    }


def _parts(plan: Plan, chip: Chip, assignment: Assignment, program: Program) -> dict[str, Any]:
    """One row per stage of a pipeline, else one per core, with its share of the work and the balance of all."""
    rows = _stage_rows(plan, assignment) if assignment.stages else _core_rows(program, chip)
    work = [row["time_s"] for row in rows]
    mean = sum(work) / len(work)
    return {"balance": mean / max(work) if max(work) else 1.0, "parts": rows}


def _stage_rows(plan: Plan, assignment: Assignment) -> list[dict[str, Any]]:
    """Work of every stage; its time is the closed form on its own cores."""
    graph, total = plan.graph, sum(stage.seconds for stage in assignment.stages)
    seconds = [0.0] * len(graph.ops)
    for step in plan.steps:
        seconds[step.op] += step.tiling.latency_s
    return [
        {
            "part": f"stage {index}",
            "cores": f"{stage.cores[0]}-{stage.cores[-1]}" if len(stage.cores) > 1 else str(stage.cores[0]),
            "first_op": graph.ops[stage.ops[0]].name,
            "ops": len(stage.ops),
            "macs": stage.macs,
            "weight_bytes": stage.weight_bytes,
            "cut_bytes": stage.cut_bytes,
            "time_s": sum(seconds[op] for op in stage.ops),
            "of_one_core": stage.seconds / total if total else 0.0,
        }
        for index, stage in enumerate(assignment.stages)
    ]


def _core_rows(program: Program, chip: Chip) -> list[dict[str, Any]]:
    """Work of every core: multiply-accumulates, busy time of its units, bytes through its DMA."""
    core_of_queue = np.array([queue.core for queue in program.queues])
    computing = np.array([queue.unit in ("array", "vector") for queue in program.queues])
    macs, ops = [0] * chip.core_count, [set[str]() for _ in range(chip.core_count)]
    busy = np.zeros(chip.core_count)
    loaded, stored, sent = (np.zeros(chip.core_count) for _ in range(3))
    ends = _dma_ends(program)
    for segment, repeat in zip(program.segments, program.repeats, strict=True):
        core = core_of_queue[segment.queue]
        computes = computing[segment.queue]
        busy += np.bincount(core[computes], segment.hold[computes] * repeat, chip.core_count)
        pairs = np.flatnonzero(np.bincount(core[computes] * len(segment.ops) + segment.op[computes]))
        for index, row in zip(*(part.tolist() for part in np.divmod(pairs, len(segment.ops))), strict=True):
            ops[index].add(segment.ops[row].name)
        for op in segment.ops:
            for index, count in op.mapping.get("core_macs", {}).items():
                macs[index] += count * repeat
        moves = np.flatnonzero(segment.route >= 0)
        for kind, total in ((Kind.LOAD, loaded), (Kind.STORE, stored), (Kind.SEND, sent)):
            mine = moves[segment.kind[moves] == kind]
            by_route = np.bincount(segment.route[mine], segment.nbytes[mine] * repeat, len(ends))
            for route in np.flatnonzero(by_route).tolist():
                receivers = ends[route] if kind == Kind.LOAD else ends[route][:1]
                total[receivers] += by_route[route]
    return [
        {
            "part": f"core {index}",
            "ops": len(ops[index]),
            "macs": macs[index],
            "time_s": float(busy[index]) * 1e-12,
            "loaded_bytes": int(loaded[index]),
            "stored_bytes": int(stored[index]),
            "sent_bytes": int(sent[index]),
        }
        for index in range(chip.core_count)
    ]


def _dma_ends(program: Program) -> list[list[int]]:
    """The cores whose DMA each route crosses, in its order (a multicast has several)."""
    core = [int(link.name[4:].split(".")[0]) if link.kind == "dma" else -1 for link in program.links]
    pointers = program.route_ptr.tolist()
    return [
        [core[link] for link in program.route_link[start:stop].tolist() if core[link] >= 0]
        for start, stop in itertools.pairwise(pointers)
    ]
