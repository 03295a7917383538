"""Program -> Timeline: two engines that agree to the tick on every program.

`reference` is SimPy, to be read as the specification; `compiled` is Numba, to be used. Neither is imported
before it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from sim.errors import Diagnostic, InputError, did_you_mean
from sim.program import Program
from sim.timeline import Timeline

Engine = Literal["compiled", "reference"]


def run(
    program: Program, engine: Engine = "compiled", on_compile: Callable[[str], None] | None = None
) -> Timeline:
    """Start and finish of every task, in ticks of 1 ps.

    `on_compile` gets one message if the engine has to be compiled first, which takes some seconds; without it
    the message goes to the log. Raises InvariantViolation if the program is not valid, InputError for an
    unknown engine.
    """
    if engine not in get_args(Engine):
        hint = did_you_mean(engine, get_args(Engine)) or "there are " + " and ".join(get_args(Engine))
        raise InputError(Diagnostic(f"unknown engine '{engine}'", hint=hint))
    program.validate()
    if engine == "reference":
        from sim.engine import reference

        return reference.run(program)
    from sim.engine import compiled
    from sim.jit import announce_compilation

    with announce_compilation(on_compile):
        return compiled.run(program)
