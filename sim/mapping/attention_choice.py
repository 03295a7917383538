"""Is an attention faster as one operator? By the closed form of both mappings, each alone on the chip."""

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
from sim.mapping.splits import shape_of
from sim.mapping.step import closed_form_s

_FASTER: Recent[object, bool] = Recent(1 << 12)


def faster_of(chip: Chip, partition: str, memo: SearchMemo) -> Callable[[Graph, Graph], bool]:
    """Is an attention to be one operator, given alone as one and as several? If that takes less time by the closed form
    on a chip whose cores can keep scores: on all of them, but on one of a pipeline, whose stages have one each where
    they are not fewer; whatever a `partition` file says. `memo` keeps tile searches."""
    if not all(fuses_attention(kind) for kind in chip.cores):
        return lambda fused, stored: False
    mode = partition if partition in (*MODES, "pipeline") else "auto"
    return partial(_is_faster, chip=chip, mode=mode, memo=memo)


def _is_faster(fused: Graph, stored: Graph, *, chip: Chip, mode: str, memo: SearchMemo) -> bool:
    both = (shape_of(nest) for graph in (fused, stored) for nests in graph.nests for nest in nests)
    key = Fabric(chip).key, mode, tuple(both)
    found = _FASTER.get(key)
    if found is None:
        found = _FASTER[key] = _seconds(fused, chip, mode, memo) < _seconds(stored, chip, mode, memo)
    return found


def _seconds(graph: Graph, chip: Chip, mode: str, memo: SearchMemo) -> float:
    """By the closed form; what does not fit takes for ever."""
    segments = one_segment(graph)
    assignment = on_one_core(graph, chip) if mode == "pipeline" else Assignment(chip, mode)
    try:
        plan = make_plan(graph, chip, Fabric(chip), assignment, segments=segments, memo=memo)
    except DoesNotFit:
        return math.inf
    return closed_form_s(plan.steps, segments)
