"""A model on N designs of which each computes every attention in the way that is faster there: as one operator, or as
several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from sim.cost import kernel
from sim.cost.bound import Bounds, Model, evaluate, of_all_nests
from sim.cost.core_cuts import Partitions
from sim.cost.designs import Designs
from sim.cost.nest_tables import signature

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Variants:
    """A model in all the ways its attentions may be computed. `choices` has each distinct attention alone, (as one
    operator, as several); `of` makes the model with some of them (by number) as one; `every` has the nests of all."""

    every: Model
    choices: tuple[tuple[Model, Model], ...]
    of: Callable[[frozenset[int]], Model]
    known: dict[frozenset[int], Model] = field(default_factory=dict)

    def model(self, fused: frozenset[int]) -> Model:
        """The model with these attentions as single operators, made once."""
        if fused not in self.known:
            self.known[fused] = self.of(fused)
        return self.known[fused]


def variants_of(choices: Sequence[tuple[Model, Model]], of: Callable[[frozenset[int]], Model]) -> Variants:
    """The variants of a model with these distinct attentions; without any, `of` nothing is all there is."""
    if not choices:
        return Variants(of(frozenset()), (), of)
    whole = of(frozenset()), of(frozenset(range(len(choices))))
    nests = {signature(nest): nest for one in (*whole, *(m for pair in choices for m in pair)) for nest in one.nests}
    every = replace(whole[0], nests=tuple(nests.values()), repeats=np.zeros(len(nests), np.int64), course=())
    known = {frozenset[int](): whole[0], frozenset(range(len(choices))): whole[1]}
    return Variants(every, tuple(choices), of, known)


def evaluate_variants(
    variants: Variants, designs: Designs, partitions: Partitions, dataflow: str | None = None
) -> list[tuple[Bounds, Int64]]:
    """The bounds of every design, with the attentions that take less time as one operator fused, by the closed form:
    designs of the same choice together, each with their numbers. See `bound.evaluate`."""
    every = evaluate(variants.every, designs, partitions, dataflow)
    if not variants.choices:
        return [(every, np.arange(len(designs)))]
    places = {signature(nest): place for place, nest in enumerate(variants.every.nests)}
    pairs = (tuple(_seconds(every, one, places) for one in pair) for pair in variants.choices)
    faster = np.stack([fused < stored for fused, stored in pairs], axis=1)
    found = []
    for choice in np.unique(faster, axis=0):
        rows = np.flatnonzero((faster == choice).all(axis=1))
        model = variants.model(frozenset(np.flatnonzero(choice).tolist()))
        found.append((_part(every, model, rows, places), rows))
    return found


def _seconds(every: Bounds, alone: Model, places: dict[tuple[object, ...], int]) -> Float64:
    """Of a model alone on every design, its launches among them; endless where it does not fit."""
    columns = _columns(alone, places)
    seconds = of_all_nests((every.cost[:, :, kernel.LATENCY_S] + every.nest_launch_s)[:, columns], alone.repeats)
    return np.where(np.isnan(seconds), np.inf, seconds)


def _columns(model: Model, places: dict[tuple[object, ...], int]) -> Int64:
    return np.array([places[signature(nest)] for nest in model.nests], np.int64)


def _part(every: Bounds, model: Model, rows: Int64, places: dict[tuple[object, ...], int]) -> Bounds:
    """The bounds of some designs with the nests of a model that are among those of `every`."""
    columns, formats = _columns(model, places), [every.model.formats.index(name) for name in model.formats]
    costs, whole = every.costs, np.ix_(rows, columns)
    mine = replace(
        costs,
        area_mm2=costs.area_mm2[rows],
        cost_usd=costs.cost_usd[rows],
        idle_w={name: watts[rows] for name, watts in costs.idle_w.items()},
        actions={name: joules[rows] for name, joules in costs.actions.items()},
    )
    rates = every.rates[rows][:, :, formats or [0]]
    return Bounds(
        model, every.designs.rows(rows), every.hardware[rows], rates, mine, every.cost[whole], every.traffic[whole],
        every.choice[whole], every.work[whole],
    )  # fmt: skip
