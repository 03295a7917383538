"""Which cores work on what: the partition of a model over the cores of one chip, as a value.

Within an operator the work is cut by rows (data), columns (channel) or the sum (reduction); as a pipeline, each
stage of consecutive operators has cores of its own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np

from sim.cost.estimate import Site
from sim.errors import InputError, did_you_mean
from sim.graph.graph import Graph, op_macs
from sim.graph.nest import Nest
from sim.hw.chip import Chip
from sim.mapping.memo import Recent
from sim.mapping.search import ALL_ROLES, split_candidates
from sim.mapping.splits import Splits, splits_of

MODES: Mapping[str, frozenset[str]] = {
    "auto": ALL_ROLES,
    "data": frozenset("gm"),
    "channel": frozenset("n"),
    "reduction": frozenset("k"),
}
"""Dimension roles that each mode may split over cores."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Consecutive operators (indices) on cores of their own. `cut_bytes` enter from earlier stages."""

    ops: tuple[int, ...]
    cores: tuple[int, ...]
    seconds: float
    macs: int
    weight_bytes: int
    cut_bytes: int


@dataclass(frozen=True, slots=True)
class Rule:
    """What a partition file says of one operator."""

    mode: str | None = None
    split: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Assignment:
    """The partition asked for: a mode for all operators, rules for some, stages if it is a pipeline.

    `kinds` lists, for each core kind, the cores it may use.
    """

    chip: Chip
    mode: str = "auto"
    stages: tuple[Stage, ...] = ()
    rules: Mapping[str, Rule] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    @cached_property
    def _cores_of(self) -> dict[int, frozenset[int]]:
        """The cores of every operator of a stage."""
        sets = [(stage.ops, frozenset(stage.cores)) for stage in self.stages]
        return {op: cores for ops, cores in sets for op in ops}

    @property
    def overlaps(self) -> bool:
        """Do stages work on an input each at once? Not where operators are kernels of one stream (GPUs)."""
        return bool(self.stages) and all(kind.dispatch is None for kind in self.chip.cores)

    def sites(self, op: int) -> Sequence[tuple[int, tuple[int, ...]]]:
        """(core kind, cores) that operator `op` may run on."""
        every = _all_cores(tuple([kind.count for kind in self.chip.cores]))
        allowed = self._cores_of.get(op)
        if allowed is None:
            return every
        mine = [(index, tuple(core for core in cores if core in allowed)) for index, cores in every]
        return [(index, cores) for index, cores in mine if cores]

    def splits(self, op: int, nest: Nest, site: Site) -> Splits:
        """Partitions of one loop nest to choose from, never empty."""
        rule = self.rules.get(self.names[op]) if self.names else None
        if rule is not None and rule.split:
            return splits_of(nest, [_forced(self.names[op], rule.split, nest, site)])
        mode = (rule.mode if rule is not None else None) or self.mode
        key = mode, id(nest), site.cores
        found = _OF_MODE.get(key)
        if found is None:
            # The entry keeps the nest alive, and with it its id.
            found = _OF_MODE[key] = nest, splits_of(nest, mode_splits(mode, nest, site.cores))
        return found[1]


def on_one_core(graph: Graph, chip: Chip) -> Assignment:
    """The whole model on the first core: the baseline of a partition."""
    return Assignment(chip, stages=(Stage(tuple(range(len(graph.ops))), (0,), 0.0, 0, 0, 0),))


@lru_cache(maxsize=1 << 8)
def _all_cores(counts: tuple[int, ...]) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """(core kind, cores) of a chip with so many cores of each kind."""
    stops = itertools.accumulate(counts)
    return tuple((at, tuple(range(stop - counts[at], stop))) for at, stop in enumerate(stops) if counts[at])


_OF_MODE: Recent[object, tuple[Nest, Splits]] = Recent(1 << 13)


def mode_splits(mode: str, nest: Nest, cores: int) -> list[tuple[int, ...]]:
    """Partitions of a loop nest over so many cores that a mode (of MODES) allows, never empty."""
    roles = MODES[mode]
    if nest.kind == "attention":
        return list(split_candidates(nest, cores, ALL_ROLES))  # heads and queries, whatever the mode
    if nest.contraction or mode in ("auto", "data"):
        return list(split_candidates(nest, cores, roles))
    # Vector operators have rows only: split by channel means by their channel (or last) dimension.
    named = [index for index, dim in enumerate(nest.dims) if dim.name == "channel"]
    only = named[0] if named else len(nest.dims) - 1
    every = split_candidates(nest, cores, ALL_ROLES)
    if mode == "reduction":
        return list(every)
    return [s for s in every if all(part == 1 for dim, part in enumerate(s) if dim != only)]


def _forced(name: str, split: Mapping[str, int], nest: Nest, site: Site) -> tuple[int, ...]:
    known = [dim.name for dim in nest.dims]
    for dim, parts in split.items():
        if dim not in known:
            hint = did_you_mean(dim, known) or f"it has {', '.join(known)}"
            raise InputError(f"partition of operator {name}: no dimension '{dim}'; {hint}")
        extent = nest.dims[known.index(dim)].extent
        if parts > extent:
            raise InputError(
                f"partition of operator {name}: {dim} has {extent} indices, not enough for {parts} parts"
            )
    total = math.prod(split.values())
    if total > site.cores:
        raise InputError(f"partition of operator {name}: {total} parts, but {site.cores} cores")
    found = tuple(split.get(dim, 1) for dim in known)
    for outer, inner in nest.nested:
        if found[inner] > 1 and found[outer] < nest.dims[outer].extent:
            raise InputError(
                f"partition of operator {name}: {known[inner]} can be split only where {known[outer]} is split "
                f"into all its {nest.dims[outer].extent} indices"
            )
    array = site.kind.array
    alone = array is None or nest.operands[0].tensor.dtype not in array.rates
    summed = [known[dim] for dim in nest.role("k") if found[dim] > 1]
    if summed and alone:
        raise InputError(
            f"partition of operator {name}: {summed[0]} is summed over, which only arrays can share; "
            f"it runs on the vector unit of '{site.kind.name}'"
        )
    return found


def cut_stages(
    seconds: Sequence[float], cut_bytes: Sequence[int], stages: int, method: str = "balanced"
) -> list[int]:
    """Where to cut a chain of operators into `stages` contiguous parts: the index of each part's first operator.

    `cut_bytes[i]` is what crosses a cut before operator i. Dynamic programming, twice: for the least slowest part,
    then for the least bytes cut among all cuts whose slowest part is no slower than that (`balanced`), or at most
    10 % slower (`min_cut`).
    """
    n = len(seconds)
    stages = min(stages, n)
    total = np.array([0.0, *itertools.accumulate(seconds)])
    crossing = np.array([0, *cut_bytes[1:]], np.float64)  # whole numbers; the first part begins at no cut

    def solve(limit: float, by_bytes: bool) -> tuple[float, list[int]]:
        """(slowest part or bytes cut, cuts) at its least, with every part at most `limit` seconds."""
        best = np.full(n + 1, np.inf)  # of so many parts that end before an operator
        best[0], begins = 0.0, []
        for part in range(1, stages + 1):
            now, begin = np.full(n + 1, np.inf), np.zeros(n + 1, np.int64)
            for end in range(part, n - (stages - part) + 1):
                length = total[end] - total[:end]
                score = best[:end] + crossing[:end] if by_bytes else np.maximum(best[:end], length)
                score[length > limit] = np.inf
                begin[end] = score.argmin()  # the first of the least
                now[end] = score[begin[end]]
            best = now
            begins.append(begin)
        cuts = [n]
        for begin in reversed(begins):
            cuts.append(int(begin[cuts[-1]]))
        return float(best[n]), cuts[:0:-1]

    slowest, _ = solve(math.inf, by_bytes=False)
    return solve(slowest * (1.1 if method == "min_cut" else 1.0), by_bytes=True)[1]


def crossing_bytes(graph: Graph) -> list[int]:
    """For each operator, the bytes of activations made before it and read at or after it."""
    change = [0] * (1 + len(graph.ops))
    for name, made in graph.producers.items():
        last = max(graph.consumers.get(name, ()), default=made)
        if last > made:
            change[made + 1] += graph.tensors[name].size_bytes
            change[last + 1] -= graph.tensors[name].size_bytes
    return list(itertools.accumulate(change[:-1]))


def pipeline_stages(
    graph: Graph, chip: Chip, seconds: Sequence[float], stages: int | None = None, method: str = "balanced"
) -> tuple[Stage, ...]:
    """Stages of a pipeline: consecutive operators with about the same time, cores shared out by work.

    Raises InputError when more stages than cores or operators are asked for.
    """
    # A view computes nothing: it goes with the operator before it.
    working = [index for index, op in enumerate(graph.ops) if not op.view]
    most = min(chip.core_count, len(working))
    wanted = stages or most
    if wanted > most:
        raise InputError(
            f"a pipeline of {wanted} stages needs as many cores and operators; "
            f"'{chip.name}' has {chip.core_count} cores and '{graph.name}' {len(working)} operators"
        )
    crossing = crossing_bytes(graph)
    cuts = cut_stages([seconds[op] for op in working], [crossing[op] for op in working], wanted, method)
    bounds = [0, *(working[cut] for cut in cuts[1:]), len(graph.ops)]
    spans = [range(start, stop) for start, stop in itertools.pairwise(bounds)]
    work = [sum(seconds[op] for op in span) for span in spans]
    found, first_core = [], 0
    for span, stage_s, share in zip(spans, work, share_cores(work, chip.core_count), strict=True):
        weights = {n for op in span for n in graph.ops[op].operands if graph.tensors[n].role == "weight"}
        found.append(
            Stage(
                tuple(span),
                tuple(range(first_core, first_core + share)),
                stage_s,
                sum(op_macs(graph.ops[op], graph.tensors) for op in span),
                sum(graph.tensors[name].size_bytes for name in weights),
                crossing[span.start] if span.start else 0,
            )
        )
        first_core += share
    return tuple(found)


def share_cores(work: Sequence[float], cores: int) -> list[int]:
    """At least one core for every stage, each further one to the stage with most work per core.

    >>> share_cores([6.0, 1.0, 2.0], 6)
    [4, 1, 1]
    """
    shares = [1] * len(work)
    for _ in range(cores - len(work)):
        shares[max(range(len(work)), key=lambda stage: work[stage] / shares[stage])] += 1
    return shares
