"""Graph + Chip -> Program, the whole way: partition, plan, lower."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from sim.errors import Diagnostic, DoesNotFit, InputError
from sim.graph.graph import Graph, Passes
from sim.hw.chip import Chip
from sim.mapping.fabric import Fabric
from sim.mapping.facts import program_facts
from sim.mapping.lower import lower
from sim.mapping.memo import Hashed, Recent
from sim.mapping.partition import Assignment, Stage, on_one_core, pipeline_stages
from sim.mapping.partition_file import load_partition
from sim.mapping.plan import SearchMemo, Slower, make_plan
from sim.mapping.segments import find_segments, one_segment
from sim.mapping.step import Plan, closed_form_s
from sim.program import Program

MODES = ("auto", "data", "channel", "reduction", "pipeline")


def map_graph(
    graph: Graph | Passes,
    chip: Chip,
    *,
    partition: str = "auto",
    dataflow: str | None = None,
    inputs: int = 1,
    unroll: bool = False,
    functional: bool = False,
    baseline: bool = False,
    memo: SearchMemo | None = None,
) -> Program:
    """Lower a model, or several passes of one, onto a chip. Repeated blocks are lowered once, unless `unroll`, or
    several inputs or the stages of a pipeline overlap across them. `functional` adds what the functional executor
    needs.

    `partition` is one of MODES or the path of a partition file; `dataflow` overrides the arrays' own; `inputs`
    back-to-back inputs overlap. `baseline` compares the partition with one core (a pipeline always is). `memo`
    keeps tile searches for later calls. Raises DoesNotFit, InputError.
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
        make = partial(
            make_plan, part, chip, fabric, dataflow=dataflow, segments=segments, inputs=inputs, memo=memo
        )
        plan, assignment = (
            _finalists(make, assignment, fabric.key) if partition == "auto" else (make(assignment), assignment)
        )
        plans.append((plan, assignment))
        programs.append(lower(plan, chip, fabric, inputs=inputs, functional=functional))
    counts = [count for _, count in parts]
    program = _chain(graph.name, programs, counts)
    if not program.tasks:
        raise InputError(
            Diagnostic(
                f"{graph.name} leaves chip '{chip.name}' nothing to do: what it gives is what it is given, in another "
                "shape, or known beforehand",
                hint="with a block host: the transfers of inputs and results are simulated",
            )
        )
    facts = program_facts(plans, chip, program)
    if baseline or plans[0][1].stages:
        # Without a baseline where one core alone cannot hold the model's tiles.
        with suppress(DoesNotFit):
            facts["partition"] |= _against_one_core(plans, counts, chip, fabric, dataflow, memo)
    if len(parts) > 1:
        sizes = [len(one.segments) for one in programs]
        facts["passes"] = [
            {"name": part.name, "segments": size, "repeat": count, "items": part.items}
            for (part, count), size in zip(parts, sizes, strict=True)
        ]
    return replace(program, facts=facts)


FINALISTS = ("data", "channel")
"""What is compared with the plan that chooses operator by operator. It keeps no eye on where results will lie: a
strategy of one kind may keep more of them in the scratchpads. Split sums are never kept: not a finalist."""

_WINNERS: Recent[object, str] = Recent(1 << 10)


def _finalists(
    make: Callable[..., Plan], assignment: Assignment, on: Hashed[Chip]
) -> tuple[Plan, Assignment]:
    """The plan with the least closed form of the whole model: operator by operator, or one strategy for all."""
    best, winner = make(assignment), assignment
    if assignment.chip.core_count == 1:
        return best, winner
    tensors = tuple((s.nest.out.tensor.name, *(o.tensor.name for o in s.nest.operands)) for s in best.steps)
    steps = tuple((s.signature, s.tiling, s.cores, s.resident) for s in best.steps)
    key = (on, tensors, steps, best.segments)
    known = _WINNERS.get(key)
    for mode in FINALISTS if known is None else (known,):
        if mode == assignment.mode:
            continue
        other = replace(assignment, mode=mode)
        try:
            plan = make(other, limit_s=closed_form_s(best.steps, best.segments))
        except (DoesNotFit, Slower):
            continue
        if closed_form_s(plan.steps, plan.segments) < closed_form_s(best.steps, best.segments):
            best, winner = plan, other
    _WINNERS[key] = winner.mode
    return best, winner


def _chain(name: str, programs: Sequence[Program], counts: Sequence[int]) -> Program:
    """Programs of one fabric, run one after another; the tables of the last one have the routes of all."""
    last = programs[-1]
    if len(programs) == 1:
        return last
    segments = [
        replace(segment, name=f"{one.name}: {segment.name}") for one in programs for segment in one.segments
    ]
    repeats = [repeat * count for one, count in zip(programs, counts, strict=True) for repeat in one.repeats]
    passes = tuple((len(one.segments), count) for one, count in zip(programs, counts, strict=True))
    return replace(last, name=name, segments=tuple(segments), repeats=tuple(repeats), passes=passes)


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
    plan = make_plan(graph, chip, fabric, on_one_core(graph, chip), dataflow=dataflow, memo=memo)
    seconds = [0.0] * len(graph.ops)
    for step in plan.steps:
        seconds[step.op] += step.tiling.latency_s
    return seconds


def _against_one_core(
    plans: Sequence[tuple[Plan, Assignment]],
    counts: Sequence[int],
    chip: Chip,
    fabric: Fabric,
    dataflow: str | None,
    memo: SearchMemo,
) -> dict[str, float]:
    """Seconds of the whole model on one core, and how many times as fast the partition is at the steady rate; both
    by the closed form, without host transfers."""
    alone_s = spent_s = 0.0
    for (plan, assignment), count in zip(plans, counts, strict=True):
        stages = [stage.seconds for stage in assignment.stages]
        alone_s += count * sum(stages or one_core_seconds(plan.graph, chip, fabric, dataflow, memo))
        spent_s += count * _seconds_per_input(plan, assignment)
    return {"one_core_s": alone_s, "speedup": alone_s / spent_s if spent_s else 1.0}


def _seconds_per_input(plan: Plan, assignment: Assignment) -> float:
    """Closed form of one input at the steady rate: the slowest stage of a pipeline, else all operators one after
    another, as are the stages where operators are kernels of one stream."""
    stages = assignment.stages if assignment.overlaps else ()
    stage_of = {op: index for index, stage in enumerate(stages) for op in stage.ops}
    seconds = [0.0] * max(1, len(stages))
    for step in plan.steps:
        repeats = plan.segments.repeats[plan.segments.of_op[step.op]]
        seconds[stage_of.get(step.op, 0)] += step.tiling.latency_s * repeats
    return max(seconds)
