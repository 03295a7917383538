"""The command line: exit codes, messages, what goes to which stream, and how little `--help` loads."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sim.cli import run
from sim.cli.output import Progress

ROOT = Path(__file__).parent.parent
HEAVY = {"pandas", "numba", "matplotlib", "onnx", "numpy", "networkx", "simpy", "ruamel.yaml", "rich"}
SCREEN_LINES = 24


class Result(NamedTuple):
    """What one command line did."""

    code: int
    out: str
    err: str


Lepton = Callable[..., Result]


@pytest.fixture
def lepton(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Lepton:
    """Runs `lepton ARGUMENTS` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LEPTON_DEBUG", raising=False)

    def call(*arguments: object) -> Result:
        code = run([str(argument) for argument in arguments])
        return Result(code, *capsys.readouterr())

    return call


def assert_refused(result: Result, code: int, *words: str) -> None:
    """A message on one screen of stderr, no traceback, and nothing on stdout."""
    assert result.code == code, result.err
    assert result.out == ""
    assert "Traceback" not in result.err
    assert 1 <= len(result.err.splitlines()) <= SCREEN_LINES
    for word in words:
        assert word in result.err


def python(code: str, *arguments: str) -> subprocess.Popen[str]:
    command, pipe = [sys.executable, "-c", code, *arguments], subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=ROOT)


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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["simulat"], ["simulat"]),
        (["simulate", "lenet5"], ["--chip"]),
        (["simulate", "lenet5", "--chip", "tiny", "--batch", "0"], ["--batch"]),
        (["simulate", "lenet5", "--chip", "tiny", "--format", "xml"], ["--format", "xml"]),
        (["simulate", "lenet5", "--chip", "tiny", "--dim", "batch"], ["--dim batch", "NAME=N"]),
        (["simulate", "lenet5", "--chip", "tiny", "--dim", "batch=-1"], ["batch=-1", "positive"]),
        (["simulate", "lenet5", "--chip", "tiny", "--dim", "n=1", "--dim", "n=2"], ["twice"]),
        (["simulate", "lenet5", "--chip", "tinny"], ["tinny", "did you mean 'tiny'", "lepton_m"]),
        (["simulate", "lenet6", "--chip", "tiny"], ["lenet6", "lenet5"]),
        (["simulate", "absent.onnx", "--chip", "tiny"], ["absent.onnx"]),
        (["simulate", "gemm:8x0x8", "--chip", "tiny"], ["gemm:8x0x8"]),
        (["simulate", "gemm:8x8", "--chip", "tiny"], ["gemm:8x8"]),
        (["simulate", "lenet5", "--chip", "tiny", "--dtype", "int9"], ["int9"]),
        (["simulate", "lenet5", "--chip", "tiny", "--kv", "128"], ["kv"]),
        (["simulate", "lenet5", "--chip", "tiny", "--dim", "batch=2"], ["dim"]),
        (["simulate", "lenet5", "--chip", "tiny", "--partition", "absent.yaml"], ["absent.yaml"]),
        (["simulate", "lenet5", "--chip", "tiny", "--set", "core.array.rows"], ["PATH=VALUE"]),
        (["simulate", "lenet5", "--chip", "tiny", "--set", "core.array.row=8"], ["did you mean 'rows'"]),
        (["simulate", "lenet5", "--chip", "tiny", "--set", "core.sram.size=1024"], ["bare number", "KiB"]),
        (["simulate", "lenet5", "--chip", "tiny", "--fidelity", "bound", "--engine", "compiled"], ["bound"]),
        (["check", "lepton_n"], ["lepton_n", "did you mean 'lepton_", "lepton_m"]),
        (["check", "tiny", "--batch", "2"], ["--batch", "--chip"]),
        (["check", "tiny", "--values"], ["--values", "--chip"]),
        (["check", "cnn.onnx"], ["'cnn.onnx' is a model", "add --chip CHIP"]),
        (["check", "lenet5"], ["'lenet5' is a model", "add --chip CHIP"]),
        (["simulate", "lenet5", "--chip", "nets/cnn.onnx"], ["is a model file, not a chip", "list chips"]),
        (["simulate", "gemm:1x1x1", "--chip", "tiny", "--batch", "9" * 20], ["batch must be at most"]),
        (["simulate", "lenet5", "--chip", "tiny", "--dim", "n=" + "9" * 5000], ["NAME=N"]),
        (["show", "chip", "absent.yaml"], ["absent.yaml"]),
        (["show", "dram", "hbm33"], ["hbm33", "did you mean 'hbm3'"]),
        (["show", "technology", "n8"], ["n8", "n7"]),
        (["show", "model", "lenet6"], ["lenet6", "lenet5"]),
    ],
)  # fmt: skip
def test_bad_input(lepton: Lepton, arguments: list[str], words: list[str]) -> None:
    assert_refused(lepton(*arguments), 2, *words)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("clock:", "clok:", ["unknown key 'clok'", "did you mean 'clock'"]),
        ("technology: n7\n", "", ["technology"]),
        ('"1 GHz"', "1", ["clock", "bare number", "MHz"]),
        ('"1 GHz"', '"-1 GHz"', ["clock", "-1 GHz"]),
        ('"1 GHz"', '"0 GHz"', ["clock"]),
        ("rows: 8", "rows: 0", ["cores[0].array.rows"]),
        ("rows: 8", "rows: -8", ["cores[0].array.rows"]),
        ("rows: 8", "rows: eight", ["cores[0].array.rows"]),
        ("version: 1", "version: 99", ["version"]),
        ("name: mine", "name: mine\nname: mine", ["name"]),
        ("device: ddr4_3200", "device: ddr44", ["ddr44"]),
    ],
)
def test_bad_chip_file(lepton: Lepton, tmp_path: Path, old: str, new: str, words: list[str]) -> None:
    assert CHIP.count(old) == 1
    file = tmp_path / "mine.yaml"
    file.write_text(CHIP.replace(old, new), encoding="utf-8")
    for command in (["check", file], ["simulate", "lenet5", "--chip", file, "--out", "run"]):
        assert_refused(lepton(*command), 2, "mine.yaml", *words)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


CHIP = """\
version: 1
name: mine
technology: n7
clock: "1 GHz"
cores:
  - name: tensor
    count: 1
    array: {rows: 8, cols: 8, rates: {int8: 1, bf16: 1, fp32: 0.25}}
    accumulator: {size: 16 KiB, bandwidth: 64 GB/s}
    vector: {lanes: 8}
    sram: {size: 64 KiB, banks: 4, bandwidth: 64 GB/s}
    dma: {channels: 2, outstanding: 2, setup_latency: 50 ns, bandwidth: 16 GB/s}
dram: {device: ddr4_3200, channels: 1, capacity: 1 GiB}
"""


def test_good_chip_file(lepton: Lepton, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(CHIP, encoding="utf-8")
    result = lepton("check", "mine.yaml")
    assert (result.code, result.out.splitlines()[0]) == (0, "mine.yaml: ok")


def test_child_that_misspells_its_parents_core_kind(lepton: Lepton, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(CHIP, encoding="utf-8")
    child = "version: 1\nextends: base.yaml\ncores:\n  - {name: NAME, sram: {size: 128 KiB}}\n"
    (tmp_path / "mine.yaml").write_text(child.replace("NAME", "tensr"), encoding="utf-8")
    result = lepton("check", "mine.yaml")
    assert_refused(result, 2, "required key 'count' is missing")
    first = "mine.yaml:4:5: error: cores[1]: the parent has no core kind 'tensr'; did you mean 'tensor'?"
    assert result.err.splitlines()[0] == first
    (tmp_path / "mine.yaml").write_text(child.replace("NAME", "scalar"), encoding="utf-8")
    assert "the parent has no" not in lepton("check", "mine.yaml").err


def test_all_mistakes_are_named_at_once(lepton: Lepton, tmp_path: Path) -> None:
    text = CHIP.replace("lanes: 8", "lanez: 8").replace("rows: 8", "rows: 0").replace('"1 GHz"', "1")
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    result = lepton("check", "mine.yaml")
    assert_refused(result, 2, "mine.yaml:4:1: error: clock", "array.rows", "lanez")


@pytest.mark.parametrize(
    "arguments",
    [
        ["gemm:65536x65536x65536", "--chip", "tiny", "--dtype", "int8"],
        ["llama2_7b", "--chip", "lepton_m", "--phase", "decode", "--kv", "4096", "--batch", "64"],
        ["lenet5", "--chip", "tiny", "--dtype", "int8", "--set", "core.sram.size=16 B"],
        ["lenet5", "--chip", "tiny", "--dtype", "int8", "--set", "dram.capacity=1 KiB"],
    ],
)
def test_what_does_not_fit(lepton: Lepton, tmp_path: Path, arguments: list[str]) -> None:
    for command in (["simulate", *arguments, "--out", "run"], ["check", *arguments]):
        result = lepton(*command)
        assert_refused(result, 1, "does not fit", "needed", "available", "may help")
    assert list(tmp_path.iterdir()) == []


def _light_bytes() -> bytes:
    from sim.graph.onnx import light_model_path

    return light_model_path("squeezenet").read_bytes()


def _onnx(nodes: list[tuple[str, list[str], list[str]]], external: bool = False) -> bytes:
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4], [1.0, 2.0, 3.0, 4.0])
    if external:
        weight.ClearField("float_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value="absent.bin")
    made = [helper.make_node(kind, a, b, name=f"{kind}_{i}") for i, (kind, a, b) in enumerate(nodes)]
    ends = [value("x", TensorProto.FLOAT, [4])], [value("y", TensorProto.FLOAT, [4])]
    model = helper.make_model(helper.make_graph(made, "bad", *ends, [weight]))
    content: bytes = model.SerializeToString()
    return content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda: _light_bytes()[:500], []),
        (lambda: b"\x89PNG\r\n" + _light_bytes(), []),
        (lambda: b"", []),
        (lambda: _onnx([]), []),
        (lambda: _onnx([("Add", ["x", "w"], ["y"])], external=True), ["absent.bin"]),
        (lambda: _onnx([("Add", ["x", "b"], ["a"]), ("Add", ["a", "w"], ["b"]), ("Relu", ["b"], ["y"])]), []),
        (lambda: _onnx([("Det", ["x"], ["a"]), ("Bernoulli", ["a"], ["y"])]), ["Det_0", "Bernoulli_1"]),
    ],
    ids=["truncated", "wrong magic", "no bytes", "empty graph", "external data", "cycle", "unsupported"],
)  # fmt: skip
def test_bad_onnx(lepton: Lepton, tmp_path: Path, content: Callable[[], bytes], words: list[str]) -> None:
    (tmp_path / "bad.onnx").write_bytes(content())
    result = lepton("simulate", "bad.onnx", "--chip", "tiny", "--out", "run")
    assert_refused(result, 2, "bad.onnx", *words)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.onnx"]


def test_output_folder_that_cannot_be_written(lepton: Lepton, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    assert_refused(
        lepton("simulate", "lenet5", "--chip", "tiny", "--dtype", "int8", "--out", "file/run"), 2, "file/run"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_run_folder_and_pure_json(lepton: Lepton, tmp_path: Path) -> None:
    result = lepton(
        "simulate", "lenet5", "--chip", "tiny", "--dtype", "int8", "--format", "json", "--out", "run"
    )
    assert (result.code, result.err) == (0, "run folder: run\n")
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
        "--batch 2 --dtype bf16 --inputs 3 --partition data --dataflow output_stationary --phase decode "
        "--seq 5 --kv 6 --new-tokens 7 --dim a=8 --dim b=9 --set core.array.rows=16 --set clock=1GHz "
        "--engine reference --format json --density 0.4 --density x=1"
    )
    assert lepton("simulate", "m", "--chip", "c", *options.split()).code == 0
    progress = taken.pop("progress")
    assert callable(progress)
    assert taken == {
        "model": "m", "chip": "c", "batch": 2, "dtype": "bf16", "inputs": 3, "partition": "data",
        "dataflow": "output_stationary", "phase": "decode", "seq": 5, "kv": 6, "new_tokens": 7,
        "dims": {"a": 8, "b": 9}, "overrides": ("core.array.rows=16", "clock=1GHz"), "fidelity": "event",
        "engine": "reference", "density": {"": 0.4, "x": 1.0},
    }  # fmt: skip
    assert lepton("simulate", "m", "--chip", "c", "--fidelity", "bound", "--format", "json").code == 0
    assert (taken["fidelity"], taken["engine"], taken["inputs"]) == ("bound", None, 1)


def test_check_of_a_model(lepton: Lepton) -> None:
    result = lepton("check", "gemm:8x16x32", "--chip", "tiny", "--dtype", "int8")
    assert result.code == 0
    assert "4,096 MACs" in result.out
    assert "valid" in result.out


def test_check_of_the_values_of_a_model(lepton: Lepton) -> None:
    result = lepton("check", "gemm:8x16x32", "--chip", "tiny", "--dtype", "int8", "--values")
    assert result.code == 0
    for words in ("128 elements", "races:   0", "verdict: the program computes the model"):
        assert words in result.out


def test_check_of_values_that_are_wrong(lepton: Lepton, monkeypatch: pytest.MonkeyPatch) -> None:
    from sim.engine.verification import ComparedTensor, Verification

    output = ComparedTensor("y", 128, 2.5, 40.0, exact=True)
    found = Verification("gemm", "tiny", 9, (output,), None)
    monkeypatch.setattr("sim.pipeline.verify_values", lambda *_, **__: found)
    result = lepton("check", "gemm:8x16x32", "--chip", "tiny", "--dtype", "int8", "--values")
    assert result.code == 1
    assert "y: 128 elements, largest magnitude 40, largest difference 2.5; none is allowed" in result.out
    assert "too many tasks to check" in result.out
    assert "DOES NOT compute" in result.out


def test_init_makes_a_chip_that_check_accepts_and_never_overwrites(lepton: Lepton, tmp_path: Path) -> None:
    assert lepton("init").code == 0
    written = (tmp_path / "chip.yaml").read_text(encoding="utf-8")
    assert lepton("check", "chip.yaml").code == 0
    assert_refused(lepton("init", "chip.yaml"), 2, "chip.yaml", "exists")
    assert (tmp_path / "chip.yaml").read_text(encoding="utf-8") == written
    assert_refused(lepton("init", "absent/chip.yaml"), 2, "absent/chip.yaml")


def test_shown_chip_loads_again(lepton: Lepton, tmp_path: Path) -> None:
    from sim.hw.chip import load_chip

    shown = lepton("show", "chip", "lepton_m", "--set", "core.array.rows=64", "--format", "yaml")
    (tmp_path / "again.yaml").write_text(shown.out, encoding="utf-8")
    assert load_chip(tmp_path / "again.yaml") == load_chip("lepton_m").replace("core.array.rows", 64)
    assert json.loads(lepton("show", "chip", "lepton_m", "--format", "json").out)["cores"][0]["count"] == 8
    assert "tensor" in lepton("show", "chip", "lepton_m").out


def test_shown_model_program_and_partition_add_up(lepton: Lepton) -> None:
    model = json.loads(lepton("show", "model", "gemm:8x16x32", "--format", "json").out)
    assert [row["macs"] for row in model] == [8 * 16 * 32]
    program = json.loads(
        lepton("show", "program", "gemm:8x16x32", "--chip", "tiny", "--dtype", "int8", "--format", "json").out
    )
    assert sum(row["matmul"] for row in program) >= 1
    assert sum(row["moved_bytes"] for row in program) >= (8 * 32 + 32 * 16 + 8 * 16)
    whole = lepton("show", "partition", "gemm:512x512x512", "--chip", "lepton_m", "--format", "json")
    parts = json.loads(whole.out)
    assert len(parts) == 8
    assert sum(row["stored_bytes"] for row in parts) == 512 * 512 * 2


@pytest.mark.parametrize("what", ["chips", "models", "parameters"])
def test_lists_agree_in_every_format(lepton: Lepton, what: str) -> None:
    import csv

    rows = json.loads(lepton("list", what, "--format", "json").out)
    table = list(csv.DictReader(lepton("list", what, "--format", "csv").out.splitlines()))
    assert len(rows) == len(table) >= 7
    assert {tuple(row) for row in rows} == {tuple(table[0])}
    printed = [["" if value is None else str(value) for value in row.values()] for row in rows]
    assert printed == [list(row.values()) for row in table]
    assert max(map(len, lepton("list", what).out.splitlines())) <= 100


def test_shown_numbers_carry_their_source(lepton: Lepton) -> None:
    for what, name, unsourced in (("dram", "hbm3", set()), ("technology", "n7", {"node_nm"})):
        rows = json.loads(lepton("show", what, name, "--format", "json").out)
        assert {row["name"] for row in rows if not row["source"]} == unsourced
    values = {row["name"]: row["value"] for row in rows}
    assert (values["mul.int8"], values["sram_read[8 KiB]"]) == ("0.07 pJ", "0.9375 pJ/B")


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


def test_ctrl_c() -> None:
    code = (
        "import sys, time, sim.cli, sim.hw.chip\n"
        "sim.hw.chip.load_chip = lambda *_: (print('ready', flush=True), time.sleep(60))\n"
        "sys.argv = ['lepton', 'check', 'tiny']\n"
        "sim.cli.main()"
    )
    process = python(code)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "interrupted\n")


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
    assert [line.split("s  ")[1] for line in err.splitlines()] == ["loading", "mapping", "simulating"]


@pytest.mark.parametrize("kind", ["chip", "workload", "partition"])
def test_schemas_say_what_editors_may_complete(lepton: Lepton, kind: str) -> None:
    result = lepton("show", "schema", kind)
    assert result.code == 0
    schema = json.loads(result.out)
    expected = {"chip": "cores", "workload": "family", "partition": "pipeline"}[kind]
    assert expected in schema["properties"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["version"] == {"const": 1}


def test_show_area_and_cost(lepton: Lepton) -> None:
    shown = lepton("show", "area", "tpu_v1", "--format", "json")
    rows = {row["component"]: row["area_mm2"] for row in json.loads(shown.out)}
    # The arrays of TPU v1 are 30 % of 331 mm2, its memories 37 %.
    assert rows["arrays"] == pytest.approx(99.4, rel=0.01)
    assert "Die of tpu_v1: 336.2 mm2 at n28" in lepton("show", "area", "tpu_v1").out
    cost = lepton("show", "cost", "tpu_v4", "--format", "csv").out.splitlines()
    assert cost[0] == "component,cost_usd,share"
    assert [line.split(",")[0] for line in cost[1:]] == ["die", "dram", "package", "test", "assembly_loss"]
    title = lepton("show", "cost", "tpu_v1").out.splitlines()[0]
    assert re.fullmatch(r"tpu_v1: \d+ USD; 172 dies on a wafer, of which 85% are good", title.strip())


def test_a_die_larger_than_a_wafer(lepton: Lepton) -> None:
    found = lepton("show", "cost", "lepton_m", "--set", "cache.size=64 GiB")
    words = ("the die of 'lepton_m' does not fit in the square in a wafer", "available: 45,000 mm2", "less memory")
    assert_refused(found, 1, *words)
