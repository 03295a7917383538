"""The fixture that all folders share, and the same hypothesis examples in every run: a gate must not depend on luck.

`HYPOTHESIS_PROFILE=random pytest ...` looks for new ones.
"""

import os
from pathlib import Path

import pytest
from command_line import Lepton, Result
from hypothesis import settings

settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("random", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture
def lepton(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Lepton:
    """Runs `lepton ARGUMENTS` in an empty folder."""
    from sim.cli import run

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LEPTON_DEBUG", raising=False)

    def call(*arguments: object) -> Result:
        code = run([str(argument) for argument in arguments])
        return Result(code, *capsys.readouterr())

    return call
