"""Numba in one place: a typed decorator, a compile cache that works wherever the package lies, a message.

Numba is imported when a function is decorated; so only modules that cannot do without it decorate, and those
are imported on first use.
"""

from __future__ import annotations

import logging
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])
CACHE_VARIABLE = "NUMBA_CACHE_DIR"


def jit(function: F) -> F:
    """Compile to machine code on first call, and keep the code on disk for the next process.

    Division by zero goes unnoticed inside: a divisor must be known to be positive.
    """
    return _compiled(function)


def jit_bare(function: F) -> F:
    """`jit` for a function that makes no arrays, views of its arguments aside: without the counting of references,
    which takes longer than a short function's work when tuples of arrays are passed on. It cannot call one that does,
    nor assign to slices."""
    return _compiled(function, _nrt=False)


def jit_inline(function: F) -> F:
    """`jit_bare` for a part of a loop that is to be taken several rounds at a time: it becomes part of its callers."""
    return _compiled(function, _nrt=False, forceinline=True)


def _compiled(function: F, **options: bool) -> F:
    choose_cache_folder()
    numba = _numba()
    settings: Any = numba.config
    if settings.DISABLE_JIT:  # NUMBA_DISABLE_JIT=1: to step through the code, or to measure its coverage
        return function
    njit: Any = numba.njit
    try:
        compiled = njit(cache=True, error_model="numpy", nogil=True, **options)(function)
    except RuntimeError:  # no folder on this machine can be written: compile anew in every process
        return cast(F, njit(error_model="numpy", nogil=True, **options)(function))
    _take_constants_as_numbers(compiled)
    _watch_callees(compiled)
    _share(compiled)
    return cast(F, compiled)


@cache
def _numba() -> Any:
    """Numba, without the linear algebra of SciPy, which it loads first of all only to know whether there is one: 0.2 s
    and the threads of a second BLAS; what is compiled later with products of matrices finds it nevertheless. Without
    YAML, too, where the one file is not there that it would read: 0.03 s."""
    unused = ["scipy.linalg.cython_blas", *([] if Path(".numba_config.yaml").exists() else ["yaml"])]
    absent = [] if "numba" in sys.modules else [name for name in unused if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        import numba
        import numba.np.arraymath
    finally:
        for name in absent:
            del sys.modules[name]
    return numba


def _take_constants_as_numbers(compiled: Any) -> None:
    """Compile a callee for whole numbers once: Numba would do so again for every constant that it is called with."""
    from numba.core import types

    unliteral: Any = types.unliteral
    template = compiled.get_call_template

    def get_call_template(args: Any, kws: Any) -> Any:
        return template(tuple(map(unliteral, args)), {name: unliteral(kind) for name, kind in kws.items()})

    compiled.get_call_template = get_call_template


def callee_files(function: Any) -> tuple[str, ...]:
    """Files, sorted, of the compiled functions of other files that a function may call, directly or not: of all that
    its file has imported."""
    return tuple(sorted(set(_modules(function)) - {function.__code__.co_filename}))


def _modules(function: Any) -> dict[str, str]:
    """Modules of the compiled functions that a function may call, and its own, by their files."""
    seen: dict[str, str] = {function.__code__.co_filename: function.__module__}
    waiting = [function]
    while waiting:
        for value in waiting.pop().__globals__.values():
            callee = getattr(value, "py_func", None)
            if callee is not None and callee.__code__.co_filename not in seen:
                seen[callee.__code__.co_filename] = callee.__module__
                waiting.append(callee)
    return seen


def _watch_callees(compiled: Any) -> None:
    """Make the machine code on disk out of date when the file of a callee changes, or a number that one of these files
    has from elsewhere.

    Numba looks at the file of the function only, although what it calls is compiled into it, and so are the numbers
    that stand at the top of modules.
    """
    modules, index = _modules(compiled.py_func), compiled._cache._cache_file
    others = sorted(set(modules) - {compiled.py_func.__code__.co_filename})
    numbers = [_numbers(module) for _, module in sorted(modules.items())]
    index._source_stamp = (index._source_stamp, *numbers, *map(_stamp, others))


_UNREADABLE = (AttributeError, EOFError, ImportError, IndexError, KeyError, TypeError, ValueError, pickle.PickleError)
"""What unpickling raises: of a file cut short, or of one for a named tuple that has another name or place now."""


def _share(compiled: Any) -> None:
    """Keep the machine code on disk right, and its loss harmless, where several processes compile at once.

    Numba numbers the files of a function's code in the order of its index. Two processes that begin with no index, or
    with one out of date, both write number 1, for arguments of different kinds, and the index that is written last
    need not be that of the code that is. So every file says here what it is for, and is looked at for it. Code that
    cannot be read is compiled anew; what cannot be written (a full disk, code that LLVM did not hand out: an exception
    in its callback, as when objects are collected meanwhile, leaves "no compiled object yet") is not kept.
    """
    cache, index = compiled._cache, compiled._cache._cache_file
    load_index, load, save, save_overload = index._load_index, index.load, index.save, cache.save_overload

    def readable_index() -> Any:
        try:
            return load_index()
        except _UNREADABLE:
            return {}

    def load_own(key: Any) -> Any:
        try:
            found = load(key)
        except _UNREADABLE:
            return None
        wanted = (key, index._source_stamp)
        return found[1] if isinstance(found, tuple) and len(found) == 2 and found[0] == wanted else None

    def save_own(key: Any, data: Any) -> None:
        save(key, ((key, index._source_stamp), data))

    def save_if_possible(signature: Any, result: Any) -> None:
        try:
            save_overload(signature, result)
        except (OSError, RuntimeError) as error:
            logging.getLogger("sim").info("machine code is not kept: %s", error)

    index._load_index, index.load, index.save = readable_index, load_own, save_own
    cache.save_overload = save_if_possible


@cache
def _numbers(module: str) -> int:
    """A checksum of the numbers that a module has, its own and imported ones, where this is first asked: at its first
    compiled function."""
    import zlib

    import numpy as np

    found = []
    for name, value in sorted(vars(sys.modules[module]).items()):
        if isinstance(value, int | float | str | tuple) and not name.startswith("__"):
            found.append(f"{name} {value!r}")
        elif isinstance(value, type) and issubclass(value, tuple):
            found.append(f"{name} {getattr(value, '_fields', ())}")
        elif isinstance(value, np.ndarray | np.generic):
            found.append(f"{name} {value.tobytes()!r}")
    return zlib.crc32("\n".join(found).encode())


@cache
def _stamp(file: str) -> tuple[float, int]:
    """Time and size of a file, as this process has it."""
    found = os.stat(file)
    return found.st_mtime, found.st_size


def choose_cache_folder() -> None:
    """Point Numba to a folder of the user's, one per version, where the package's own cannot be written.

    A choice that the user made (NUMBA_CACHE_DIR) stands.
    """
    package = Path(__file__).parent
    if CACHE_VARIABLE not in os.environ and not os.access(package, os.W_OK):
        from sim import __version__

        os.environ[CACHE_VARIABLE] = str(_user_cache() / "lepton-sim" / __version__)


@contextmanager
def announce_compilation(on_compile: Callable[[str], None] | None = None) -> Iterator[None]:
    """Call `on_compile(message)` once if anything is compiled inside the block; code from the cache is not.

    Without a callback the message goes to the log at level INFO.
    """
    from numba.core import event

    with event.install_listener("numba:compile", _announcer()(on_compile or logging.getLogger("sim").info)):
        yield


@cache
def _announcer() -> Any:
    """The class of what listens to Numba, made once: a class refers to itself, so each one is garbage to be found."""
    from numba.core import event

    class Announcer(event.Listener):
        def __init__(self, call: Callable[[str], None]) -> None:
            self.call: Callable[[str], None] | None = call

        def on_start(self, event: Any) -> None:
            call, self.call = self.call, None
            if call is not None:
                call("compiling: once per installation, up to a minute")

        def on_end(self, event: Any) -> None:
            """Nothing is said when it is over."""

    return Announcer


def _user_cache() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", str(Path.home())))
    return Path(os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")))
