"""README.md tells the truth: its commands succeed and print what it shows."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from sim.cli import run

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DEMO = "--chip lepton_m --dtype int8"
BLOCK = re.compile(r"^```(console|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Example:
    """A `lepton` command of the README and the lines shown below it ("..." stands for lines left out)."""

    command: str
    shown: tuple[str, ...]


def examples(text: str) -> list[Example]:
    """In console blocks commands follow "$ " and all else is output; in sh blocks every line is a command."""
    found: list[Example] = []
    for language, block in BLOCK.findall(text):
        for line in block.splitlines():
            if language == "sh" or line.startswith("$ "):
                found.append(Example(line.removeprefix("$ ").split("  #")[0].strip(), ()))
            elif found and line.strip() not in ("", "..."):
                found[-1] = Example(found[-1].command, (*found[-1].shown, line))
    return [e for e in found if e.command.startswith("lepton ") or e.command == "make demo"]


def arguments(command: str) -> list[str]:
    """The command line of `lepton`; that of `make demo` is in the Makefile."""
    if command != "make demo":
        return shlex.split(command)[1:]
    from sim.graph.onnx import light_model_path

    return ["simulate", str(light_model_path("resnet50")), *DEMO.split()]


def test_the_demo_is_what_the_makefile_runs() -> None:
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\ndemo:")[2].splitlines()[1]
    assert "light_model_path" in recipe
    assert '"resnet50"' in recipe
    assert recipe.endswith(DEMO)


def normal(line: str) -> str:
    """A printed line without its layout and without what the clock on the wall contributes."""
    line = " ".join(line.split())
    return re.sub(r"[0-9.e+-]+( ?[mun]?s)?", "#", line) if "wall" in line else line


def test_examples_are_found_with_their_output() -> None:
    console = "```console\n$ make clean\nx\n$ lepton list chips  # all\ntiny  1\n...\nb\n```\n"
    assert examples(console + "```sh\nlepton check a\n```\n") == [
        Example("lepton list chips", ("tiny  1", "b")),
        Example("lepton check a", ()),
    ]
    assert len(examples(README.read_text(encoding="utf-8"))) >= 10


def test_only_wall_time_is_ignored() -> None:
    assert normal('  "wall_s": 1.5e-3,') == normal('"wall_s": 0.25,')
    assert normal("latency   1.5 ms") != normal("latency 1.6 ms")


def test_readme_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "my_model.onnx")
    for example in examples(README.read_text(encoding="utf-8")):
        assert not re.search(r"[|<>;&]", example.command), f"{example.command}: not one plain command"
        code = run(arguments(example.command))
        output, errors = capsys.readouterr()
        assert code == 0, f"{example.command}: exit code {code}\n{errors}"
        printed = {normal(line) for line in output.splitlines()}
        missing = [line for line in example.shown if normal(line) not in printed]
        assert not missing, f"{example.command} no longer prints:\n" + "\n".join(missing)


def write_model(path: Path) -> None:
    """The reader's own model: a convolution and a classifier, of symbolic batch."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = {"w": (8, 3, 3, 3), "fc": (8, 10)}
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["r"], name="relu"),
            helper.make_node("GlobalAveragePool", ["r"], ["p"], name="pool"),
            helper.make_node("Flatten", ["p"], ["f"], name="flatten"),
            helper.make_node("MatMul", ["f", "fc"], ["y"], name="classify"),
        ],
        "my_model",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 32, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(np.ones(shape, np.float32), name) for name, shape in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
