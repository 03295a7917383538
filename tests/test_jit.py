"""Compiled code on disk, where what it was compiled for has changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

PAIR = """
from typing import NamedTuple
from sim.jit import jit_bare

class {name}(NamedTuple):
    one: int
    two: int

@jit_bare
def added(pair):
    return pair.one + pair.two

print(added({name}(1, 2)), sum(added.stats.cache_hits.values()))
"""


def printed(module: Path) -> str:
    """What a module prints that is imported in a new process, whose machine code is kept beside it."""
    found = subprocess.run(
        [sys.executable, "-c", f"import {module.stem}"],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(module.parent), *sys.path]),
            "NUMBA_CACHE_DIR": str(module.parent),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return found.stdout.strip()


def test_code_for_a_named_tuple_that_has_another_name_now_is_compiled_anew(tmp_path: Path) -> None:
    module = tmp_path / "pairs.py"
    told = []
    for name in ("Pair", "", "Renamed"):
        if name:
            module.write_text(PAIR.format(name=name))
        told.append(printed(module))
    assert told == ["3 0", "3 1", "3 0"]


USER = """
from sim.jit import jit_bare
from numbers_of_others import BY

@jit_bare
def shifted(number):
    return number + BY

print(shifted(1), sum(shifted.stats.cache_hits.values()))
"""


def test_code_with_a_number_of_another_module_is_compiled_anew_when_it_changes(tmp_path: Path) -> None:
    """Numba knows of neither file: the one that has changed has no compiled function."""
    user, others = tmp_path / "user_of_numbers.py", tmp_path / "numbers_of_others.py"
    user.write_text(USER)
    told = []
    for number in (2, 2, 3):
        others.write_text(f"BY = {number}\n")
        told.append(printed(user))
    assert told == ["3 0", "3 1", "4 0"]


CONSTANTS = """
from sim.jit import jit, jit_bare

@jit_bare
def shifted(number, by):
    return number + by

@jit
def total(number):
    at = 0
    while at < 3:
        at = shifted(at, 1)
    return shifted(at, 0) + shifted(number, 5) + shifted(7, number)

print(total(10), len(shifted.overloads))
"""


def test_a_callee_is_compiled_once_whatever_constants_it_is_called_with(tmp_path: Path) -> None:
    module = tmp_path / "constants.py"
    module.write_text(CONSTANTS)
    assert printed(module).split() == [str(3 + 15 + 17), "1"]


WITHOUT_SCIPY = """
import sys
import sim
sim.simulate("gemm:24x24x24", "tiny", dtype="int8")
print("scipy.linalg" in sys.modules, "scipy.linalg.cython_blas" in sys.modules)

import numba
import numpy as np

@numba.njit
def product(a, b):
    return np.dot(a, b)

print(product(np.full((2, 3), 2.0), np.full((3, 1), 5.0)).tolist())
"""


def test_a_run_loads_no_linear_algebra_and_who_needs_it_has_it() -> None:
    found = subprocess.run([sys.executable, "-c", WITHOUT_SCIPY], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == ["False False", "[[30.0], [30.0]]"]


def test_it_runs_without_machine_code() -> None:
    """NUMBA_DISABLE_JIT=1 is how one steps through compiled functions; the numbers are the same."""
    command = [sys.executable, "-m", "sim", "simulate", "gemm:24x24x24", "--chip", "tiny", "--dtype", "int8"]
    found = [
        json.loads(
            subprocess.run(
                [*command, "--format", "json"],
                env=os.environ | {"NUMBA_DISABLE_JIT": disable},
                capture_output=True,
                check=True,
            ).stdout
        )
        for disable in ("0", "1")
    ]
    assert found[0]["latency_s"] == found[1]["latency_s"]
