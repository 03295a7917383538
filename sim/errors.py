"""The exceptions of the library. Everything that a user can cause is a LeptonError with an exit code."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

Key = str | int
KeyPath = tuple[Key, ...]


class LeptonError(Exception):
    """Base of all errors raised on purpose; `exit_code` is what the command line returns."""

    exit_code: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One complaint about an input: where it stands and what to do. What is absent is not printed."""

    message: str
    file: Path | str | None = None
    line: int | None = None  # 1-based
    col: int | None = None  # 1-based
    path: str = ""  # e.g. "cores[0].array.rows"
    hint: str = ""

    def __str__(self) -> str:
        place = [str(part) for part in (self.file, self.line, self.col) if part is not None]
        head = [":".join(place)] if place else []
        body = [*head, "error", *([self.path] if self.path else []), self.message]
        return ": ".join(body) + (f"; {self.hint}" if self.hint else "")


class InputError(LeptonError):
    """Bad input. Carries every complaint found, so that one run shows them all."""

    exit_code = 2

    def __init__(self, diagnostics: str | Diagnostic | Sequence[Diagnostic]) -> None:
        if isinstance(diagnostics, str):
            diagnostics = Diagnostic(diagnostics)
        if isinstance(diagnostics, Diagnostic):
            diagnostics = [diagnostics]
        self.diagnostics: tuple[Diagnostic, ...] = tuple(diagnostics)
        super().__init__(self.diagnostics)

    def __str__(self) -> str:
        return "\n".join(str(d) for d in self.diagnostics)


class FieldError(ValueError):
    """Raised by a dataclass that checks its own fields: complaints with the key path inside that dataclass.

    The configuration loader turns them into diagnostics with file and line.
    """

    def __init__(self, complaints: Sequence[tuple[KeyPath, str]]) -> None:
        self.complaints = tuple(complaints)
        super().__init__("; ".join(f"{key_path_text(at)}: {message}" for at, message in self.complaints))

    def __reduce__(self) -> tuple[type[FieldError], tuple[object]]:
        return FieldError, (self.complaints,)


class DoesNotFit(LeptonError):
    """Something needs more than there is: what, how much, where, and which knobs would help.

    `needed` and `available` are numbers in `unit` ("B" is shown with binary prefixes).
    """

    def __init__(
        self,
        what: str,
        needed: float,
        available: float,
        where: str,
        levers: Iterable[str] = (),
        unit: str = "B",
    ) -> None:
        self.what = what
        self.needed = needed
        self.available = available
        self.where = where
        self.levers = tuple(levers)
        self.unit = unit
        super().__init__(what, needed, available, where, self.levers, unit)

    def __str__(self) -> str:
        lines = [
            f"error: {self.what} does not fit in {self.where}",
            f"  needed:    {_amount(self.needed, self.unit)}",
            f"  available: {_amount(self.available, self.unit)}",
            f"  short by:  {_amount(self.needed - self.available, self.unit)}"
            if self.needed > self.available
            else "  short by:  nothing, but what is free lies in pieces",
        ]
        if self.levers:
            lines.append("  what may help:")
            lines += [f"    - {lever}" for lever in self.levers]
        return "\n".join(lines)


class InvariantViolation(LeptonError):
    """An internal error: a law that holds for every run was broken. Names the task where there is one."""

    def __init__(self, law: str, *, task: int | None = None, detail: str = "") -> None:
        self.law = law
        self.task = task
        self.detail = detail
        super().__init__(law)

    def __str__(self) -> str:
        where = "" if self.task is None else f" at task {self.task}"
        return f"internal error{where}: {self.law}" + (f" ({self.detail})" if self.detail else "")

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_violation, (self.law, self.task, self.detail)


def _rebuild_violation(law: str, task: int | None, detail: str) -> InvariantViolation:
    return InvariantViolation(law, task=task, detail=detail)


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """The closest candidate as "did you mean 'x'?", or "" when none is close."""
    names = list(candidates)
    folded = {name.lower(): name for name in names}
    close = difflib.get_close_matches(word.lower(), folded, n=1, cutoff=0.6)
    return f"did you mean '{folded[close[0]]}'?" if close else ""


def key_path_text(path: Iterable[Key]) -> str:
    """("cores", 0, "array") as "cores[0].array"."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}"
    return text.removeprefix(".")


def _amount(value: float, unit: str) -> str:
    """1572864 B as "1.5 MiB (1572864 B)"; other units as they are."""
    if unit != "B" or abs(value) < 1024:
        return f"{value:,.6g} {unit}" if isinstance(value, float) else f"{value:,} {unit}"
    power = min(int(math.log2(abs(value))) // 10, 4)
    return f"{value / 1024**power:.4g} {'KMGT'[power - 1]}iB ({int(value):,} B)"
