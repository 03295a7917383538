"""The command line: exit codes, what goes to which stream, signals, and how little `--help` loads."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import Lepton, Result

from sim.cli.output import Progress

ROOT = Path(__file__).parent.parent
HEAVY = {"pandas", "numba", "matplotlib", "onnx", "numpy", "networkx", "simpy", "ruamel.yaml", "rich"}
PROGRESS = r" *\d+\.\d s  [a-z].*"  # a line of stderr, once a command has taken a second


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    command, pipe = [sys.executable, "-c", code, *arguments], subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=ROOT)


@pytest.mark.parametrize("group", [[], ["show"], ["list"]])
def test_the_list_of_commands_has_whole_sentences(group: list[str], lepton: Lepton) -> None:
    commands = " ".join(lepton(*group, "--help").out.partition("Commands:")[2].split())
    assert "..." not in commands
    assert commands.count(".") >= 3
    assert commands.endswith(".")


@pytest.mark.parametrize("arguments", [["--help"], ["simulate", "--help"], ["--version"]])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    loaded = f"sorted({HEAVY} & set(sys.modules))"
    code = f"import sys; from sim.cli import run; run({arguments}); print({loaded})"
    out, err = python(code).communicate()
    assert out.splitlines()[-1] == "[]", err


def test_import_sim_loads_nothing_but_itself() -> None:
    code = "import sys, sim; print([m for m in sys.modules if m.startswith('sim')], hasattr(sim, 'nothing'))"
    assert python(code).communicate()[0].strip() == "['sim'] False"


def test_public_names_are_what_they_say() -> None:
    import sim

    assert sim.load_chip("lepton_m").core_count == 8
    assert {name for name in sim.__all__ if name not in dir(sim)} == set()
    assert sim.Chip.__module__ == "sim.hw.chip"
    for name in sim.__all__:
        assert getattr(sim, name) is not None


def test_version(lepton: Lepton) -> None:
    import sim

    assert lepton("--version") == Result(0, f"lepton {sim.__version__}\n", "")
    module = subprocess.run(
        [sys.executable, "-m", "sim", "--version"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert module.stdout == f"lepton {sim.__version__}\n"


def test_run_folder_and_pure_json(lepton: Lepton, tmp_path: Path) -> None:
    result = lepton(
        "simulate", "lenet5", "--chip", "tiny", "--dtype", "int8", "--format", "json", "--out", "run"
    )
    *progress, last = result.err.splitlines()
    assert (result.code, last) == (0, "run folder: run")
    assert all(re.fullmatch(PROGRESS, line) for line in progress)  # on a busy machine
    report = json.loads(result.out)
    assert report["latency_s"] >= report["bound_latency_s"] > 0
    written = {path.name for path in (tmp_path / "run").iterdir()}
    assert written >= {"summary.json", "ops.csv", "manifest.json"}
    saved = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert saved["latency_s"] == report["latency_s"]


def test_csv_and_table_of_a_result(lepton: Lepton) -> None:
    import csv

    printed = lepton("simulate", "lenet5", "--chip", "tiny", "--dtype", "int8", "--format", "csv").out
    assert len({len(row) for row in csv.reader(printed.splitlines())}) == 1
    table = lepton("simulate", "lenet5", "--chip", "tiny", "--dtype", "int8").out
    assert "latency" in table.lower()
    assert max(map(len, table.splitlines())) <= 100


def test_every_option_reaches_the_library(lepton: Lepton, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: dict[str, Any] = {}

    class Nothing:
        def to_json(self) -> dict[str, Any]:
            return {}

    def simulate(model: str, chip: str, **options: Any) -> Nothing:
        taken.update(options, model=model, chip=chip)
        return Nothing()

    monkeypatch.setattr("sim.pipeline.simulate", simulate)
    options = (
        "--batch 2 --dtype bf16 --weights int4 --inputs 3 --partition data --dataflow output_stationary --phase decode "
        "--seq 5 --kv 6 --new-tokens 7 --chips 2 --dim a=8 --dim b=9 --set core.array.rows=16 --set clock=1GHz "
        "--engine reference --format json --density 0.4 --density x=1 --attention fused --sample-layers 5"
    )
    assert lepton("simulate", "m", "--chip", "c", *options.split()).code == 0
    progress = taken.pop("progress")
    assert callable(progress)
    assert taken == {
        "model": "m", "chip": "c", "batch": 2, "dtype": "bf16", "weights": "int4", "inputs": 3, "partition": "data",
        "dataflow": "output_stationary", "phase": "decode", "seq": 5, "kv": 6, "new_tokens": 7, "chips": 2,
        "dims": {"a": 8, "b": 9}, "overrides": ("core.array.rows=16", "clock=1GHz"), "fidelity": "event",
        "engine": "reference", "density": {"": 0.4, "x": 1.0}, "attention": "fused", "sample_layers": 5,
    }  # fmt: skip
    assert lepton("simulate", "m", "--chip", "c", "--fidelity", "bound", "--format", "json").code == 0
    assert (taken["fidelity"], taken["engine"], taken["inputs"], taken["attention"]) == ("bound", None, 1, "auto")


def test_parameter_page_is_current(lepton: Lepton) -> None:
    page = (ROOT / "docs" / "parameters.md").read_text(encoding="utf-8")
    assert page == lepton("list", "parameters", "--format", "markdown").out, "run `make docs`"


def test_internal_error(lepton: Lepton, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("sim.hw.chip.load_chip", fail)
    result = lepton("check", "tiny")
    assert result.code == 70
    assert result.err.count("\n") == 1
    assert "RuntimeError: two lines at test_cli.py" in result.err
    assert "LEPTON_DEBUG=1" in result.err
    monkeypatch.setenv("LEPTON_DEBUG", "1")
    assert "Traceback" in lepton("check", "tiny").err


def interrupted(process: subprocess.Popen[str]) -> tuple[int, str]:
    """What a program exits with and says when Ctrl-C reaches it after it has printed `ready`."""
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    return process.returncode, err


def test_ctrl_c() -> None:
    code = (
        "import sys, time, sim.cli, sim.hw.chip\n"
        "sim.hw.chip.load_chip = lambda *_: (print('ready', flush=True), time.sleep(60))\n"
        "sys.argv = ['lepton', 'check', 'tiny']\n"
        "sim.cli.main()"
    )
    assert interrupted(python(code)) == (130, "interrupted\n")


def test_ctrl_c_while_the_command_is_still_being_imported() -> None:
    code = (
        "import sys, sim.cli\n"
        "class Slow:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'sim.cli.entry':\n"
        "            import time\n"
        "            print('ready', flush=True)\n"
        "            time.sleep(60)\n"
        "sys.meta_path.insert(0, Slow())\n"
        "sys.argv = ['lepton', '--version']\n"
        "sim.cli.main()"
    )
    assert interrupted(python(code)) == (130, "interrupted\n")


def test_ctrl_c_in_a_callback_of_compiled_code() -> None:
    """What is raised there is lost, and what called it fails in its own way."""
    code = (
        "import ctypes, os, signal, sys, sim.cli, sim.hw.chip\n"
        "def load(*_):\n"
        "    ctypes.CFUNCTYPE(None)(lambda: os.kill(os.getpid(), signal.SIGINT))()\n"
        "    raise RuntimeError('no compiled object yet')\n"
        "sim.hw.chip.load_chip = load\n"
        "sys.argv = ['lepton', 'check', 'tiny']\n"
        "sim.cli.main()"
    )
    _, err = (process := python(code)).communicate(timeout=20)
    assert (process.returncode, err) == (130, "interrupted\n")


def test_a_standard_output_that_the_shell_closed() -> None:
    code = "import sys; sys.stdout = None; import sim.cli; sys.argv = ['lepton', 'list', 'chips']; sim.cli.main()"
    out, err = (process := python(code)).communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("output_format", ["table", "json"])
@pytest.mark.parametrize("command", [["simulate", "lenet5", "--chip", "lepton_s"], ["list", "chips"]])
def test_disk_that_is_full(command: list[str], output_format: str) -> None:
    arguments = [sys.executable, "-m", "sim", *command, "--format", output_format]
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(arguments, stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.returncode == 1
    last = process.stderr.splitlines()[-1]  # before it a slow machine says what takes it long
    assert last == "error: cannot write the output: No space left on device"


def test_reader_that_goes_away() -> None:
    process = python("import sim.cli; sim.cli.main()", "show", "dram", "hbm3", "--format", "csv")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(timeout=20) == -signal.SIGPIPE


def test_progress_speaks_after_a_second_only(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(after_s=60) as progress:
        progress("mapping")
    assert capsys.readouterr() == ("", "")
    with Progress(after_s=0) as progress:
        progress._timer.join()
        progress("mapping")
        progress("simulating")
    out, err = capsys.readouterr()
    assert out == ""
    assert all(re.fullmatch(PROGRESS, line) for line in err.splitlines())
    assert [line.split("s  ")[1] for line in err.splitlines()] == ["loading", "mapping", "simulating"]
