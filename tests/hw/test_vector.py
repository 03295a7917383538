"""Vector unit: passes and cycles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import FieldError, InputError
from sim.hw.chip import load_chip
from sim.hw.vector import FUNCTIONS, SpecialUnit, VectorUnit, vector_cycles


def test_cycles() -> None:
    assert vector_cycles(1000, 4, 256) == 16
    assert vector_cycles(1024, 4, 256) == 16
    assert vector_cycles(1025, 4, 256) == 20
    assert vector_cycles(0, 4, 256) == 0
    assert vector_cycles(1, 1, 256) == 1
    assert vector_cycles([[1, 256], [257, 2**40]], [1, 2], 256).tolist() == [[1, 2], [2, 2**33]]


@given(st.integers(0, 10**12), st.integers(1, 100), st.integers(1, 10**4))
def test_cycles_cover_the_work_and_no_more_than_one_row_beyond(
    elements: int, passes: int, lanes: int
) -> None:
    cycles = int(vector_cycles(elements, passes, lanes))
    assert cycles % passes == 0
    assert elements * passes <= cycles * lanes < (elements + lanes) * passes


def test_no_function_is_free() -> None:
    assert all(f.passes >= 1 and f.reason for f in FUNCTIONS.values())
    with pytest.raises(InputError, match="unknown element function 'tanhh'; did you mean 'tanh'"):
        VectorUnit(8).passes_of("tanhh")


def test_composed_functions_add_up() -> None:
    cost = {name: f.passes for name, f in FUNCTIONS.items()}
    assert cost["sigmoid"] == cost["exp"] + cost["add"] + cost["reciprocal"]
    assert cost["tanh"] == cost["sigmoid"] + cost["multiply_add"]
    assert cost["div"] == cost["reciprocal"] + cost["mul"]
    assert cost["sqrt"] == cost["rsqrt"] + cost["mul"]


def test_a_chip_may_be_better_than_the_defaults() -> None:
    unit = VectorUnit(128, {"exp": 1})
    assert (unit.passes_of("exp"), unit.passes_of("tanh")) == (1, FUNCTIONS["tanh"].passes)
    assert np.array_equal(vector_cycles(512, unit.passes_of("exp"), unit.lanes), 4)


@pytest.mark.parametrize(("lanes", "special", "cycles"), [(128, 16, 32), (64, 16, 24), (64, 48, 19), (16, 16, 18)])
def test_special_lanes_hold_an_element_up_but_are_single_instructions(lanes: int, special: int, cycles: int) -> None:
    """16 passes and two results of the special lanes: 2 x lanes / special cycles more, rounded up; 18 instructions."""
    unit = VectorUnit(lanes, {"sigmoid": 16}, special=SpecialUnit(special, {"sigmoid": 2}))
    assert (unit.passes_of("sigmoid"), unit.instructions_of("sigmoid")) == (cycles, 18)
    assert unit.passes_of("exp") == unit.instructions_of("exp") == FUNCTIONS["exp"].passes
    with pytest.raises(InputError, match="did you mean 'tanh'"):
        unit.instructions_of("tanhh")


def test_a_sigmoid_is_one_program_on_three_gpus_whose_lanes_differ() -> None:
    units = [load_chip(name).cores[0].vector for name in ("a100", "h100", "a40")]
    assert [unit.passes_of("sigmoid") for unit in units] == [24, 32, 32]
    assert {unit.instructions_of("sigmoid") for unit in units} == {18}


def test_two_axes_fill_whole_registers_and_the_compiler_picks_which():
    unit = VectorUnit(lanes=1024, register_shape=(8, 128))
    assert unit.register_elements([16, 24, 16]) == 16 * 16 * 128  # 24 columns, 16 rows
    assert unit.register_elements([64, 8, 8]) == 8 * 8 * 128  # 64 columns, 8 rows
    assert unit.register_elements([224, 32]) == 256 * 32
    assert unit.register_elements([100]) == 100
    assert VectorUnit(lanes=1024).register_elements([16, 24, 16]) == 16 * 24 * 16
    several = unit.register_elements([np.array([16, 64]), np.array([24, 8]), np.array([16, 8])])
    assert several.tolist() == [16 * 16 * 128, 8 * 8 * 128]


def test_a_register_has_as_many_places_as_there_are_lanes():
    with pytest.raises(FieldError, match=r"found \[8, 100\]; expected \[rows, columns\] of 1024 lanes"):
        VectorUnit(lanes=1024, register_shape=(8, 100))
