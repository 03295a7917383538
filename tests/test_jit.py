"""Compiled code on disk, where what it was compiled for has changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
    """What a module prints that is imported in a new process. Its machine code is kept beside it; its bytecode is not,
    for Python knows a file by second and size, and a test may change a number twice in a second."""
    found = subprocess.run(
        [sys.executable, "-c", f"import {module.stem}"],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(module.parent), *sys.path]),
            "NUMBA_CACHE_DIR": str(module.parent),
            "PYTHONDONTWRITEBYTECODE": "1",
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


HALF = """
import sys
from pathlib import Path
from numba.core.caching import IndexDataCacheFile
from llvmlite.binding import ExecutionEngine
from sim.jit import jit

@jit
def half(number):
    return number / 2

numbers, waits, refuses = sys.argv[1], sys.argv[2], sys.argv[3]
if waits:
    # Between the index and the code: another process does both meanwhile.
    save = IndexDataCacheFile._save_data
    def later(self, name, data):
        (Path(waits) / "here").touch()
        while not (Path(waits) / "go").exists():
            pass
        save(self, name, data)
    IndexDataCacheFile._save_data = later
if refuses == "object":
    def changed(self, pointer):
        raise RuntimeError("Set changed size during iteration")
    ExecutionEngine._find_module_ptr = changed
if refuses == "disk":
    def full(self, name, data):
        raise OSError(28, "No space left on device")
    IndexDataCacheFile._save_data = full
print(*[half(number) for number in eval(numbers)], sum(half.stats.cache_hits.values()))
"""


def half(folder: Path, numbers: str, waits: str = "", refuses: str = "") -> subprocess.Popen[str]:
    """A process that halves numbers by compiled code, which all that are given the folder share."""
    module = folder / "halves.py"
    if not module.exists():
        module.write_text(HALF)
    paths = os.pathsep.join([str(folder), *sys.path])
    return subprocess.Popen(
        [sys.executable, str(module), numbers, waits, refuses],
        env={**os.environ, "PYTHONPATH": paths, "NUMBA_CACHE_DIR": str(folder / "code")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def told(process: subprocess.Popen[str], error: str = "") -> list[str]:
    out, errors = process.communicate(timeout=120)
    assert error in errors if error else not errors
    assert process.returncode == 0
    return out.split()


def test_code_that_two_processes_write_at_once_is_each_its_own(tmp_path: Path) -> None:
    """One has written its index, not yet its code, for a whole number, when another writes both for a floating-point
    one: the index that stands then is the second's, and the code, under the same number, the first's."""
    first = half(tmp_path, "[7]", waits=str(tmp_path))
    while not (tmp_path / "here").exists():
        assert first.poll() is None
    (tmp_path / "code" / next(tmp_path.glob("code/*/*.nbi"))).unlink()  # as if it had looked before that was written
    assert told(half(tmp_path, "[3.5]")) == ["1.75", "0"]
    (tmp_path / "go").touch()
    assert told(first) == ["3.5", "0"]
    assert told(half(tmp_path, "[3.5, 7]")) == ["1.75", "3.5", "0"]


def test_several_processes_on_an_empty_cache(tmp_path: Path) -> None:
    kinds = ["[7]", "[3.5]", "[7, 3.5]"]
    expected = [["3.5"], ["1.75"], ["3.5", "1.75"]]
    running = [half(tmp_path, kind) for kind in kinds]
    assert [told(process)[:-1] for process in running] == expected


@pytest.mark.parametrize(("refuses", "error"), [("object", "Set changed size"), ("disk", "")])
def test_code_that_cannot_be_kept_is_used_all_the_same(tmp_path: Path, refuses: str, error: str) -> None:
    assert told(half(tmp_path, "[7]", refuses=refuses), error) == ["3.5", "0"]
    assert told(half(tmp_path, "[7]")) == ["3.5", "0"]


def test_code_that_was_cut_short_is_compiled_anew(tmp_path: Path) -> None:
    told(half(tmp_path, "[7]"))
    for kind in ("nbi", "nbc"):
        (file,) = tmp_path.glob(f"code/*/*.{kind}")
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        assert told(half(tmp_path, "[7]")) == ["3.5", "0"]


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
