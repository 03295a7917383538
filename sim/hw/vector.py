"""Vector unit: a row of lanes that computes everything that is not a matrix product.

An element function costs a number of passes: cycles that one lane is held per element. A lane has one
pipelined multiply-add per cycle, so a function costs as many passes as its evaluation has dependent steps.
The defaults below are estimates; a chip file overrides them with `functions: {exp: 1}`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sim.config import Field, Part
from sim.errors import FieldError, InputError, did_you_mean

FunctionClass = Literal["add", "mul", "multiply_add", "compare", "move"]


class Function(NamedTuple):
    """Default cost of an element function and the kind of operation each pass is, for energy."""

    passes: int
    kind: FunctionClass
    reason: str


FUNCTIONS: Mapping[str, Function] = {
    "copy": Function(1, "move", "one read and one write"),
    "convert": Function(1, "move", "change of number format; rounding is in the lane's output stage"),
    "select": Function(1, "compare", "mask and move"),
    "add": Function(1, "add", "one addition"),
    "sub": Function(1, "add", "one addition"),
    "mul": Function(1, "mul", "one multiplication"),
    "multiply_add": Function(1, "multiply_add", "fused"),
    "max": Function(1, "compare", "one comparison"),
    "min": Function(1, "compare", "one comparison"),
    "compare": Function(1, "compare", "one comparison"),
    "abs": Function(1, "compare", "sign bit"),
    "neg": Function(1, "compare", "sign bit"),
    "relu": Function(1, "compare", "max with zero"),
    "floor": Function(1, "compare", "round in the output stage"),
    "exp": Function(4, "multiply_add", "range reduction 1, cubic polynomial 3; exponent is inserted free"),
    "log": Function(4, "multiply_add", "exponent extraction 1, cubic polynomial 3"),
    "reciprocal": Function(3, "multiply_add", "table seed 1, one Newton step 2"),
    "rsqrt": Function(4, "multiply_add", "table seed 1, one Newton step 3"),
    "div": Function(4, "multiply_add", "reciprocal 3, multiply 1"),
    "sqrt": Function(5, "multiply_add", "rsqrt 4, multiply 1"),
    "sigmoid": Function(8, "multiply_add", "exp 4, add 1, reciprocal 3"),
    "tanh": Function(9, "multiply_add", "2 sigmoid(2x) - 1: sigmoid 8, multiply-add 1"),
    "erf": Function(12, "multiply_add", "Abramowitz-Stegun 7.1.26: exp 4, reciprocal 3, quintic 5"),
    "sin": Function(5, "multiply_add", "range reduction 2, polynomial 3"),
    "cos": Function(5, "multiply_add", "range reduction 2, polynomial 3"),
}

FunctionName = Literal[
    "copy", "convert", "select", "add", "sub", "mul", "multiply_add", "max", "min", "compare", "abs", "neg",
    "relu", "floor", "exp", "log", "reciprocal", "rsqrt", "div", "sqrt", "sigmoid", "tanh", "erf",
    "sin", "cos",
]  # fmt: skip
assert set(get_args(FunctionName)) == set(FUNCTIONS), "the type and the table list the same functions"

Passes = Annotated[int, Field(ge=1, le=1000)]
VectorDtype = Literal["int4", "int8", "int16", "int32", "fp8", "fp16", "bf16", "tf32", "fp32", "fp64"]


@dataclass(frozen=True, slots=True)
class Conversion(Part):
    """Passes by which the lanes convert an element of a type they do not compute in. A vector operator pays them for
    each element it reads and writes, the drain of an array for each result."""

    unpack: Annotated[int, Field(ge=0, le=1000, description="to the type the lanes compute in")]
    pack: Annotated[int, Field(ge=0, le=1000, description="back, with rounding")]


NATIVE = Conversion(unpack=0, pack=0)


@dataclass(frozen=True, slots=True)
class SpecialUnit(Part):
    """Lanes beside the others that compute single results of hard functions (a GPU's: exp2, reciprocals, roots)."""

    lanes: Annotated[int, Field(ge=1, le=1 << 20, description="results per cycle")]
    results: Annotated[
        Mapping[FunctionName, Passes],
        Field(description="that an element of a function takes of them, besides its passes"),
    ] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class VectorUnit(Part):
    """Vector unit of one core: `lanes` elements per pass, of any element type but for the passes of `conversions`."""

    lanes: Annotated[int, Field(ge=1, le=1 << 20, description="elements handled per cycle")]
    passes: Annotated[
        Mapping[FunctionName, Passes],
        Field(alias="functions", description="passes per element of a function, over the defaults"),
    ] = field(default_factory=dict, hash=False)
    conversions: Annotated[
        Mapping[VectorDtype, Conversion],
        Field(description="element types that the lanes do not compute in"),
    ] = field(default_factory=dict, hash=False)
    special: Annotated[
        SpecialUnit | None, Field(description="further lanes for single results of hard functions")
    ] = None
    register_shape: Annotated[
        tuple[int, ...],
        Field(
            alias="register",
            description="rows and columns of one vector register: tensors of more axes fill whole ones; default: any",
        ),
    ] = ()

    def __post_init__(self) -> None:
        if self.register_shape and (
            len(self.register_shape) != 2
            or min(self.register_shape) < 1
            or math.prod(self.register_shape) != self.lanes
        ):
            message = f"found {list(self.register_shape)}; expected [rows, columns] of {self.lanes} lanes"
            raise FieldError([(("register",), message)])
        defaults = {name: function.passes for name, function in FUNCTIONS.items()}
        object.__setattr__(self, "passes", defaults | dict(self.passes))

    def conversion(self, dtype: str) -> Conversion:
        """What unpacking and packing an element costs; nothing for a type the lanes compute in."""
        known: Mapping[str, Conversion] = self.conversions  # type: ignore[assignment]
        return known.get(dtype, NATIVE)

    def register_elements(self, extents: Sequence[ArrayLike]) -> NDArray[np.int64]:
        """Elements of a box of these extents when two of its axes fill whole registers: those two, in that order, that
        waste least, as a compiler that chooses the layout would.

        A box of 16 x 24 x 16 on registers of 8 x 128 takes 16 x 16 x 128; a vector of 100 takes 100.
        """
        sizes = [np.asarray(extent, np.int64) for extent in extents]
        elements = math.prod(sizes, start=np.ones((), np.int64))
        if not self.register_shape or len(sizes) < 2:
            return np.asarray(elements, np.int64)
        rows, columns = ([-(-size // whole) * whole for size in sizes] for whole in self.register_shape)
        layouts = [
            elements // (sizes[i] * sizes[j]) * rows[i] * columns[j]
            for i, j in itertools.permutations(range(len(sizes)), 2)
        ]
        return np.asarray(np.minimum.reduce(layouts), np.int64)

    def passes_of(self, function: str) -> int:
        """Cycles of a lane per element of `function`: its passes, and what it waits for the special lanes, of which
        there are fewer. Raises InputError on an unknown name: nothing is free.

        A sigmoid of 16 passes and two special results, with 16 special lanes beside 128: 16 + 2 x 8 = 32.
        """
        passes, results = self._count(function)
        return passes if self.special is None else passes - (-results * self.lanes // self.special.lanes)

    def instructions_of(self, function: str) -> int:
        """Instructions of a thread per element of `function`, which follow each other: a special result is one."""
        return sum(self._count(function))

    def _count(self, function: str) -> tuple[int, int]:
        known: Mapping[str, int] = self.passes  # type: ignore[assignment]
        if function not in known:
            hint = did_you_mean(function, known)
            raise InputError(f"unknown element function '{function}'" + (f"; {hint}" if hint else ""))
        results: Mapping[str, int] = {} if self.special is None else self.special.results  # type: ignore
        return known[function], results.get(function, 0)


def vector_cycles(elements: ArrayLike, passes_per_element: ArrayLike, lanes: ArrayLike) -> NDArray[np.int64]:
    """Cycles = ceil(elements / lanes) x passes. Broadcasts its arguments.

    1000 elements of exp (4 passes) on 256 lanes: 4 x 4 = 16 cycles.
    """
    rows = -(-np.asarray(elements, dtype=np.int64) // np.asarray(lanes, dtype=np.int64))
    return np.asarray(rows * np.asarray(passes_per_element, dtype=np.int64))
