"""Exceptions: how they read, what they carry, and that they cross process borders."""

from __future__ import annotations

import pickle

import pytest

from sim.errors import (
    Diagnostic,
    DoesNotFit,
    FieldError,
    InputError,
    InvariantViolation,
    LeptonError,
    did_you_mean,
    key_path_text,
)


def test_a_diagnostic_prints_place_path_message_and_hint() -> None:
    full = Diagnostic(
        "unknown key 'dataflw'", "chip.yaml", 6, 12, "array.dataflw", "did you mean 'dataflow'?"
    )
    assert str(full) == (
        "chip.yaml:6:12: error: array.dataflw: unknown key 'dataflw'; did you mean 'dataflow'?"
    )
    assert str(Diagnostic("empty", "chip.yaml")) == "chip.yaml: error: empty"
    assert str(Diagnostic("empty")) == "error: empty"


def test_an_input_error_shows_all_complaints() -> None:
    error = InputError([Diagnostic("one", "a", 1), Diagnostic("two", "a", 2)])
    assert str(error) == "a:1: error: one\na:2: error: two"
    assert str(InputError("plain")) == "error: plain"


def test_exit_codes() -> None:
    assert (InputError("x").exit_code, DoesNotFit("a", 2, 1, "b").exit_code) == (2, 1)
    assert InvariantViolation("law").exit_code == 1


def test_what_does_not_fit_is_told_with_units_and_levers() -> None:
    error = DoesNotFit(
        "tile of op 'fc1'", 3 * 2**20, 2**20 + 2**19, "SRAM of core 0", ["raise core.sram.size"]
    )
    assert str(error).splitlines() == [
        "error: tile of op 'fc1' does not fit in SRAM of core 0",
        "  needed:    3 MiB (3,145,728 B)",
        "  available: 1.5 MiB (1,572,864 B)",
        "  short by:  1.5 MiB (1,572,864 B)",
        "  what may help:",
        "    - raise core.sram.size",
    ]
    assert "nothing, but what is free lies in pieces" in str(DoesNotFit("a buffer", 2**10, 2**20, "SRAM"))
    tasks = str(DoesNotFit("the program", 5_000_000, 1_000_000, "memory", unit="tasks"))
    assert "needed:    5,000,000 tasks" in tasks


def test_an_invariant_names_its_task() -> None:
    error = InvariantViolation("busy <= elapsed", task=17, detail="5 > 4")
    assert str(error) == "internal error at task 17: busy <= elapsed (5 > 4)"


@pytest.mark.parametrize(
    "error",
    [
        InputError([Diagnostic("one", "a", 1)]),
        DoesNotFit("a", 2, 1, "b", ("lever",), "tasks"),
        InvariantViolation("law", task=3, detail="d"),
    ],
)
def test_errors_survive_pickling(error: LeptonError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)


def test_a_field_error_keeps_its_paths() -> None:
    error = pickle.loads(pickle.dumps(FieldError([(("ports", 2), "twice")])))
    assert error.complaints == ((("ports", 2), "twice"),)
    assert str(error) == "ports[2]: twice"


def test_did_you_mean() -> None:
    assert did_you_mean("dataflw", ["rows", "dataflow"]) == "did you mean 'dataflow'?"
    assert did_you_mean("ROWS", ["rows"]) == "did you mean 'rows'?"
    assert did_you_mean("zzz", ["rows"]) == ""


def test_key_paths() -> None:
    assert key_path_text(("cores", 0, "array", "rows")) == "cores[0].array.rows"
