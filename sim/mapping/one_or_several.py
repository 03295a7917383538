"""Is one operator faster than several that do the same? By the closed form of both mappings, each alone on the chip."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from sim.errors import DoesNotFit
from sim.graph.graph import Graph
from sim.hw.chip import Chip
from sim.mapping.fabric import Fabric
from sim.mapping.memo import Recent
from sim.mapping.partition import MODES, Assignment, on_one_core
from sim.mapping.plan import SearchMemo, make_plan
from sim.mapping.segments import one_segment
from sim.mapping.sites import fuses_attention
from sim.mapping.split_sum import adding_launch_ps
from sim.mapping.splits import shape_of
from sim.mapping.step import Step, closed_form_s
from sim.units import PS_PER_S

_FASTER: Recent[object, bool] = Recent(1 << 12)

Faster = Callable[[Graph, Graph], bool]
"""Is the first graph, one operator alone, faster than the second, which does the same with several?"""


def faster_of(chip: Chip, partition: str, memo: SearchMemo) -> Faster:
    """Is an attention to be one operator, given alone as one and as several? If that takes less time by the closed form
    on a chip whose cores can keep scores: on all of them, but on one of a pipeline, whose stages have one each where
    they are not fewer; whatever a `partition` file says. `memo` keeps tile searches."""
    if not all(fuses_attention(kind) for kind in chip.cores):
        return _never
    mode = partition if partition in (*MODES, "pipeline") else "auto"
    return partial(_is_faster, chip=chip, mode=mode, memo=memo)


def joins_of(chip: Chip, partition: str, memo: SearchMemo) -> Faster:
    """Are products of one left operand to be one, given alone as one and as several? If that takes less time by the
    closed form on a chip whose operators are kernels. Elsewhere nothing is launched, and results that stay in the
    scratchpads stay one by one; in a pipeline, or under the rules of a file, operators keep their names."""
    if partition not in MODES or any(kind.dispatch is None for kind in chip.cores):
        return _never
    return partial(_is_faster, chip=chip, mode=partition, memo=memo)


def _never(one: Graph, several: Graph) -> bool:
    return False


def _is_faster(one: Graph, several: Graph, *, chip: Chip, mode: str, memo: SearchMemo) -> bool:
    shapes = (tuple(shape_of(nest) for nests in graph.nests for nest in nests) for graph in (one, several))
    key = Fabric(chip).key, mode, tuple(shapes)
    found = _FASTER.get(key)
    if found is None:
        found = _FASTER[key] = seconds_of(one, chip, mode, memo) < seconds_of(several, chip, mode, memo)
    return found


def seconds_of(graph: Graph, chip: Chip, mode: str, memo: SearchMemo) -> float:
    """By the closed form, with the launches of kernels; what does not fit takes for ever."""
    segments = one_segment(graph)
    assignment = on_one_core(graph, chip) if mode == "pipeline" else Assignment(chip, mode)
    try:
        plan = make_plan(graph, chip, Fabric(chip), assignment, segments=segments, memo=memo)
    except DoesNotFit:
        return math.inf
    launches_ps = sum(_launch_ps(step, chip) for step in plan.steps)
    return closed_form_s(plan.steps, segments) + launches_ps / PS_PER_S


def _launch_ps(step: Step, chip: Chip) -> int:
    """Launches that a step waits for: kernels follow one another, the last wave belongs to those before it."""
    kind, deal, nest = chip.cores[step.kind], step.tiling.deal, step.nest
    if kind.dispatch is None:
        return 0
    adding_ps = adding_launch_ps(kind.calibration) if deal is not None and deal.adds else 0
    if deal is not None and deal.first:
        return adding_ps
    return adding_ps + chip.calibration.launch_ps(1 + len(nest.operands), contraction=nest.contraction)
