"""Which points to evaluate: all of them, a random or even spread of them, or where the front is expected.

A sampler gives points in rounds and is told their rows. Rounds do not depend on the number of workers, so neither do
the results. Guided samplers are optuna's, asked and told in memory: its journals stall for half a minute on a stale
lock, and what is worth keeping is in the store, from which a resumed study replays.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np

from sim.errors import Diagnostic, InputError, did_you_mean
from sim.explore.space import Point, Space

if TYPE_CHECKING:
    from sim.explore.study import Row

SamplerName = Literal["grid", "random", "sobol", "nsga2", "nsga3", "tpe"]
GUIDED = ("nsga2", "nsga3", "tpe")

ROUND = 4096
"""Points per round of a sampler that does not learn."""

MAX_GRID = 20_000_000
POPULATION = 24
"""Of the genetic samplers: small, as budgets are hundreds of designs."""

TPE_ROUND = 8
MAX_STALE_ROUNDS = 40
"""Rounds of a guided sampler without a new point, after which it has nothing more to say."""


class Sampler(Protocol):
    """`learns`: whether the next round depends on the rows of the last."""

    learns: bool
    total: int

    def rounds(self) -> Iterator[list[Point]]:
        """Points to evaluate, in rounds; a point may come again."""

    def tell(self, rows: Sequence[Row]) -> None:
        """The rows of the last round, in its order."""


def make_sampler(name: str, space: Space, budget: int | None, seed: int) -> Sampler:
    """A sampler by name; `budget` is the number of distinct points. Raises InputError where it makes no sense."""
    known = get_args(SamplerName)
    if name not in known:
        raise InputError(
            Diagnostic(f"unknown sampler '{name}'", hint=did_you_mean(name, known) or ", ".join(known))
        )
    if budget is not None and budget < 1:
        raise InputError(f"budget: found {budget}; expected a positive number of points")
    if name == "grid":
        return _grid(space, budget)
    if budget is None:
        raise InputError(
            f"sampler {name} needs a --budget: how many of the {space.size:,} points it may evaluate"
        )
    budget = min(budget, space.size)
    if name == "random":
        return Listed(random_points(space, budget, seed), budget)
    if name == "sobol":
        return Listed(sobol_points(space, budget, seed), budget)
    return Guided(name, space, budget, seed)


def _grid(space: Space, budget: int | None) -> Sampler:
    if budget is not None and budget < space.size:
        hint = "leave --budget out, or choose random, sobol or nsga2"
        message = f"the grid is all {space.size:,} points, more than the budget of {budget:,}"
        raise InputError(Diagnostic(message, hint=hint))
    if space.size > MAX_GRID:
        hint = "another sampler with a --budget, or coarser steps"
        raise InputError(Diagnostic(f"the grid has {space.size:,} points; at most {MAX_GRID:,}", hint=hint))
    return Listed(space.points(), space.size)


class Listed:
    """Points known from the start."""

    learns = False

    def __init__(self, points: Iterator[Point], total: int) -> None:
        self._points = points
        self.total = total

    def rounds(self) -> Iterator[list[Point]]:
        import itertools

        while chunk := list(itertools.islice(self._points, ROUND)):
            yield chunk

    def tell(self, rows: Sequence[Row]) -> None:
        """Nothing to learn."""


def random_points(space: Space, count: int, seed: int) -> Iterator[Point]:
    """`count` different points, each as likely as any other."""
    rng = np.random.default_rng(seed)
    if space.size <= 4 * count or space.size <= 1_000_000:
        yield from (space.point_at(int(number)) for number in rng.permutation(space.size)[:count])
        return
    seen: set[int] = set()
    while len(seen) < count:
        number = int(rng.integers(space.size))
        if number not in seen:
            seen.add(number)
            yield space.point_at(number)


def sobol_points(space: Space, count: int, seed: int) -> Iterator[Point]:
    """`count` different points spread evenly: a scrambled Sobol sequence; where it has hit nearly everything, the
    rest at random."""
    from scipy.stats import qmc

    sequence = qmc.Sobol(len(space.axes), scramble=True, rng=np.random.default_rng(seed))
    sizes = np.array([len(axis.rows) for axis in space.axes])
    seen: set[Point] = set()
    block = 1 << max(6, count.bit_length())
    for size in (block, block, 2 * block):  # a Sobol sequence is even over powers of two
        drawn = sequence.random(size)
        for row in np.minimum((drawn * sizes).astype(np.int64), sizes - 1).tolist():
            point = tuple(row)
            if point not in seen and len(seen) < count:
                seen.add(point)
                yield point
    for point in random_points(space, space.size if space.size < 1_000_000 else 4 * count, seed):
        if len(seen) >= count:
            return
        if point not in seen:
            seen.add(point)
            yield point


class Guided:
    """An optuna sampler over the indices of the axes; constraints come first, then the objectives."""

    learns = True

    def __init__(self, name: str, space: Space, budget: int, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.total = budget
        self._space = space
        self._round = TPE_ROUND if name == "tpe" else min(POPULATION, max(4, budget // 4))
        self._study = optuna.create_study(
            sampler=_optuna_sampler(name, seed, self._round), directions=["minimize"] * len(space.objectives)
        )
        self._axes = [
            _distribution(f"p{at}", axis.ordered, len(axis.rows)) for at, axis in enumerate(space.axes)
        ]
        self._trials: list[Any] = []

    def rounds(self) -> Iterator[list[Point]]:
        seen: set[Point] = set()
        stale = 0
        while len(seen) < self.total and stale < MAX_STALE_ROUNDS:
            before = len(seen)
            self._trials = []
            points: list[Point] = []
            while len(points) < self._round and len(seen) < self.total:
                trial = self._study.ask(dict(self._axes))
                point = tuple(int(trial.params[name]) for name, _ in self._axes)
                self._trials.append(trial)
                points.append(point)
                seen.add(point)
            stale = stale + 1 if len(seen) == before else 0
            yield points

    def tell(self, rows: Sequence[Row]) -> None:
        from sim.explore.study import losses_of

        for trial, row in zip(self._trials, rows, strict=True):
            losses = losses_of(self._space, row)
            feasible = bool(np.isfinite(losses).all())
            # Infeasible designs are compared by how far they are from feasible alone.
            violation = 0.0 if feasible else min(row.violation or 1.0, 1e6)
            trial.set_constraint("violation", violation)
            self._study.tell(trial, list(losses) if feasible else [0.0] * len(losses))


def _optuna_sampler(name: str, seed: int, population: int) -> Any:
    import warnings

    import optuna

    if name == "tpe":
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=2 * TPE_ROUND, multivariate=True)
    if name == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed, population_size=population)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.NSGAIIISampler(seed=seed, population_size=population)


def _distribution(name: str, ordered: bool, size: int) -> tuple[str, Any]:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    return name, IntDistribution(0, size - 1) if ordered else CategoricalDistribution(list(range(size)))
