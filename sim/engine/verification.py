"""Does a program compute what its graph means? Random numbers through both, and the order of all accesses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.engine import functional, run
from sim.engine.ordering import MAX_TASKS, find_races
from sim.errors import InputError, InvariantViolation
from sim.graph.evaluate import evaluate, random_values
from sim.graph.graph import Graph
from sim.program import Program

Array = npt.NDArray[Any]

TOLERANCE = 1e-9
"""Difference allowed to floating-point results, as a part of the largest magnitude: sums are taken in another order,
in double precision."""

MAX_ELEMENTS = 1 << 28
"""Inputs, weights and states together that random numbers are made for (2 GiB)."""


@dataclass(frozen=True, slots=True)
class ComparedTensor:
    """An output, or a state at the end, as computed tile by tile and by NumPy. `exact`: whole numbers, which may not
    differ at all."""

    name: str
    elements: int
    largest_difference: float
    largest_magnitude: float
    exact: bool

    @property
    def passed(self) -> bool:
        """Is the difference allowed? One that is not a number never is."""
        allowed = 0.0 if self.exact else TOLERANCE * self.largest_magnitude
        return self.largest_difference <= allowed


@dataclass(frozen=True, slots=True)
class Verification:
    """What `verify` found. `error` is what the program did that no run may do (read what was never written);
    `races` counts pairs of conflicting accesses that nothing orders, None where there are too many tasks to check."""

    workload: str
    chip: str
    tasks: int
    outputs: tuple[ComparedTensor, ...]
    races: int | None
    error: str = ""
    tolerance: float = TOLERANCE

    @property
    def passed(self) -> bool:
        """Do all numbers agree, without an error or a race?"""
        return not self.error and not self.races and all(output.passed for output in self.outputs)


def verify(
    program: Program, graph: Graph, chip: str, *, seed: int = 0, integers: bool = False
) -> Verification:
    """Run a program on random values and compare every output and state with NumPy's.

    `integers` takes whole numbers even for floating-point tensors. Raises InputError for a model too large to be
    computed, InvariantViolation for a program without functional columns.
    """
    elements = sum(tensor.elements for tensor in graph.tensors.values() if tensor.role != "activation")
    if elements > MAX_ELEMENTS:
        raise InputError(
            f"values: '{graph.name}' has {elements:,} weights, inputs and states; "
            f"at most {MAX_ELEMENTS:,} are computed with"
        )
    # Weights that are all alike (a file without weights has zeros) would let a wrong tile pass for the right one.
    telling = {name: value for name, value in graph.values.items() if not _uniform(value)}
    values = {**telling, **random_values(replace(graph, values=telling), seed, integers)}
    wanted = evaluate(graph, values)
    outputs: tuple[ComparedTensor, ...] = ()
    error = ""
    try:
        found = functional.run(program, run(program), graph, values)
        outputs = tuple(_compared(name, value, wanted[name]) for name, value in found.items())
    except InvariantViolation as violation:
        error = str(violation)
    small = all(segment.tasks <= MAX_TASKS for segment in program.segments)
    races = len(find_races(program)) if small else None
    return Verification(graph.name, chip, program.tasks, outputs, races, error)


def _uniform(value: Array) -> bool:
    """Is this a floating-point tensor of several equal numbers?"""
    return value.size > 1 and np.issubdtype(value.dtype, np.floating) and bool((value == value.flat[0]).all())


def _compared(name: str, found: Array, wanted: Array) -> ComparedTensor:
    exact = not np.issubdtype(wanted.dtype, np.floating)
    a, b = found.astype(np.float64), wanted.astype(np.float64)
    same = (found == wanted) | (np.isnan(a) & np.isnan(b))
    difference = np.abs(np.subtract(a, b, out=np.zeros_like(a), where=~same))
    largest = float(difference.max(initial=0.0))
    magnitude = float(np.abs(b[np.isfinite(b)]).max(initial=0.0))
    if exact and not same.all():
        # Whole numbers beyond 2^53 may differ without their doubles doing so.
        largest = max(largest, 1.0)
    return ComparedTensor(name, wanted.size, largest, magnitude, exact)
