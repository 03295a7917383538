"""The front door: which engine runs, what is refused, when the user hears of a compilation."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from random_programs import TERABYTE_PER_S, Task, build_program

from sim import engine, jit
from sim.errors import InputError, InvariantViolation
from sim.program import Kind, Program


@pytest.fixture
def program() -> Program:
    tasks = [Task(Kind.LOAD, 0, 100, 0, 1000, 0), Task(Kind.MATMUL, 1, 30, after=(0,))]
    return build_program([tasks], [1, 0], [TERABYTE_PER_S], [[(0, 256)]])


@pytest.mark.parametrize("name", ["compiled", "reference"])
def test_the_engine_that_was_asked_for_runs(program: Program, name: engine.Engine) -> None:
    timeline = engine.run(program, name)
    assert timeline.engine == name
    assert timeline.latency_ps == 1130


def test_compiled_is_the_default(program: Program) -> None:
    assert engine.run(program).engine == "compiled"


def test_an_unknown_engine_is_an_input_error(program: Program) -> None:
    with pytest.raises(InputError, match="unknown engine 'compield'; did you mean 'compiled'"):
        engine.run(program, "compield")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("column", "value", "complaint"),
    [
        ("route_link", [1], "hop 0 crosses a link that does not exist"),
        ("route_weight", [255], "hop 0 has a weight out of range"),
        ("route_ptr", [0, 0], "rows of routes do not match"),
    ],
)
def test_a_route_that_no_engine_can_follow_is_refused(
    program: Program, column: str, value: list[int], complaint: str
) -> None:
    with pytest.raises(InvariantViolation, match=complaint):
        engine.run(replace(program, **{column: np.array(value, np.int32)}))


def test_a_route_that_is_empty_or_crosses_a_link_twice_is_refused() -> None:
    with pytest.raises(InvariantViolation, match="route 1 crosses no link"):
        build_program([[]], [], [TERABYTE_PER_S], [[(0, 256)], []])
    with pytest.raises(InvariantViolation, match="route 1 crosses a link twice"):
        build_program([[]], [], [TERABYTE_PER_S] * 2, [[(0, 256), (1, 256)], [(1, 256), (0, 256), (1, 300)]])


def test_importing_the_engines_imports_neither_numba_nor_simpy() -> None:
    code = "import sys, sim.engine; print(sorted({'numba', 'simpy', 'pandas'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_a_compilation_is_announced_once_and_only_when_it_happens(caplog: pytest.LogCaptureFixture) -> None:
    import numba

    double = numba.njit(lambda x: 2 * x)
    messages: list[str] = []
    with jit.announce_compilation(messages.append):
        assert double(2) == 4
        assert double(2.5) == 5.0
    assert len(messages) == 1
    with jit.announce_compilation(messages.append):
        assert double(3) == 6
    assert len(messages) == 1
    with caplog.at_level(logging.INFO, logger="sim"), jit.announce_compilation():
        assert double(1j) == 2j
    assert caplog.messages == messages


def test_the_compile_cache_moves_to_the_user_where_the_package_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv(jit.CACHE_VARIABLE, "placeholder")  # so that it is restored afterwards
    monkeypatch.delenv(jit.CACHE_VARIABLE)
    jit.choose_cache_folder()
    assert jit.CACHE_VARIABLE not in os.environ
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    jit.choose_cache_folder()
    assert Path(os.environ[jit.CACHE_VARIABLE]).parent == tmp_path / "lepton-sim"


def test_the_choice_of_the_user_for_the_compile_cache_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(jit.CACHE_VARIABLE, "mine")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    jit.choose_cache_folder()
    assert os.environ[jit.CACHE_VARIABLE] == "mine"
