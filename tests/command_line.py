"""What the tests of the command line share: its result, and what a refusal looks like."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

SCREEN_LINES = 24


class Result(NamedTuple):
    """What one command line did."""

    code: int
    out: str
    err: str


Lepton = Callable[..., Result]


def assert_refused(result: Result, code: int, *words: str) -> None:
    """A message on one screen of stderr, no traceback, and nothing on stdout."""
    assert result.code == code, result.err
    assert result.out == ""
    assert "Traceback" not in result.err
    assert 1 <= len(result.err.splitlines()) <= SCREEN_LINES
    for word in words:
        assert word in result.err
