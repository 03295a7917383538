"""Brings the documentation up to date: the output shown below commands, the table of parameters, the figures.

    make docs

Runs every block of README.md and docs/*.md in order, each file in an empty folder of its own:

* in ```console blocks, commands follow "$ "; the lines below one are replaced by what it prints. A line of "..."
  stands for what is left out: as many lines as stand before and after it are kept of the beginning and the end.
* in ```sh blocks, `lepton` commands run, and show nothing; other commands are for the reader alone.
* a ```python or ```yaml block that begins with "# FILE" is that file, for the commands below it.

tests/test_readme.py asserts that a refresh would change nothing.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sim.cli import run

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
PARAMETERS = ROOT / "docs" / "parameters.md"
FIGURE = ROOT / "docs" / "resnet50_lepton_m.png"
PICTURES = ROOT / "docs" / "pictures"
DEMO = "--chip lepton_m --dtype int8"
"""What the demo of the Makefile adds to the ONNX file."""

GAP = "..."
_BLOCK = re.compile(r"^```(console|sh|python|yaml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w.]+\.(?:py|yaml))\n")
_WALL_TIME = re.compile(r'("wall_s": )[0-9.e+-]+')


class CommandFailed(Exception):
    """A command of the documentation ended with an error."""


def refreshed(text: str, folder: Path) -> str:
    """The page with the output that its commands print today, run in `folder`. Raises CommandFailed."""
    return _BLOCK.sub(lambda block: f"```{block[1]}\n{_refreshed(block[1], block[2], folder)}```", text)


def _refreshed(language: str, block: str, folder: Path) -> str:
    file = _FILE.match(block)
    if file:
        (folder / file[1]).write_text(block, encoding="utf-8")
    elif language == "sh":
        for line in block.splitlines():
            if line.startswith("lepton "):
                output_of(line, folder)
    elif language == "console":
        return "".join(f"{line}\n" for line in _session(block.splitlines(), folder))
    return block


def _session(lines: Sequence[str], folder: Path) -> list[str]:
    """Commands and outputs of a console block, the outputs made anew."""
    starts = [number for number, line in enumerate(lines) if line.startswith("$ ")]
    found: list[str] = []
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        printed = output_of(lines[start].removeprefix("$ "), folder)
        found += [lines[start], *excerpt(lines[start + 1 : end], printed)]
    return found


def excerpt(shown: Sequence[str], printed: str) -> list[str]:
    """The lines of `printed`, or, where `shown` has a gap, as many first and last ones as it has around the gap."""
    lines = [_WALL_TIME.sub(rf"\1{GAP}", line.rstrip()) for line in printed.strip("\n").splitlines()]
    if GAP not in shown:
        return lines
    first = shown.index(GAP)
    last = len(shown) - first - 1
    return [*lines[:first], GAP, *lines[max(first, len(lines) - last) :]]


def output_of(command: str, folder: Path) -> str:
    """What `lepton ...`, `make demo` or `python ...` prints to stdout. Raises CommandFailed."""
    words = shlex.split(command, comments=True)
    if words[0] == "python":
        done = subprocess.run(
            [sys.executable, *words[1:]], cwd=folder, capture_output=True, text=True, check=False
        )
        code, output, errors = done.returncode, done.stdout, done.stderr
    else:
        arguments = demo_arguments() if words == ["make", "demo"] else words[1:]
        code, output, errors = _lepton(arguments, folder)
    if code != 0:
        raise CommandFailed(f"{command}: exit code {code}\n{errors}")
    return output


def demo_arguments() -> list[str]:
    """The command line of `lepton` in the Makefile's demo."""
    from sim.graph.onnx import light_model_path

    return ["simulate", str(light_model_path("resnet50")), *DEMO.split()]


def _lepton(arguments: Sequence[str], folder: Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `lepton`, in this process: a new one would load everything again."""
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        code = run(arguments)
    return code, output.getvalue(), errors.getvalue()


def draw_figure(path: Path) -> None:
    """The picture of the README: ResNet-50 under its roofline, and where its time and energy went."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    import sim
    from sim.plot import plot_roofline, plot_time_energy

    report = sim.simulate("resnet50", chip="lepton_m", dtype="int8")
    figure, (left, right) = pyplot.subplots(
        1, 2, figsize=(12, 4.2), width_ratios=(1, 1.2), layout="constrained"
    )
    plot_roofline(report, left)
    plot_time_energy(report, right)
    # Without the version of matplotlib the same figure is the same file.
    figure.savefig(path, dpi=110, metadata={"Software": None}, pil_kwargs={"optimize": True})
    pyplot.close(figure)


def draw_pictures(folder: Path) -> None:
    """The pictures of docs/pictures.md: a run's times and power, a comparison of chips, a study's front."""
    import matplotlib

    matplotlib.use("Agg")

    import sim.plot
    from sim.explore.sensitivity import steps
    from sim.plot.draw import figure_bytes, plot_runs
    from sim.plot.pareto import Limit

    run, other = (sim.simulate("resnet18", chip=chip, dtype="int8") for chip in ("lepton_m", "lepton_s"))
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "study.sqlite"
        output_of(f"lepton sweep edge_vision --fidelity bound --workers 1 --out {file}", ROOT)
        from sim.explore.store import open_study

        study = open_study(file)
    limits = [Limit(one.metric, one.comparison, one.limit) for one in study.constraints]
    leading = [study.columns[axis.paths[0]][0] for axis in study.space.axes]
    axes = {
        "timeline": sim.plot.plot_timeline(run),
        "power": sim.plot.plot_power(run),
        "floorplan": plot_runs("floorplan", [run]),
        "compare": sim.plot.plot_compare([run, other]),
        "pareto": sim.plot.plot_pareto(study.table, ["latency_s", "energy_j"], limits=limits),
        "sensitivity": sim.plot.plot_sensitivity(steps(study.table, leading, "latency_s"), "latency_s"),
    }
    for name, ax in axes.items():
        (folder / f"{name}.png").write_bytes(figure_bytes(ax, "png", 100))


def main() -> None:
    for page in PAGES:
        with tempfile.TemporaryDirectory() as folder:
            text = page.read_text(encoding="utf-8")
            page.write_text(refreshed(text, Path(folder)), encoding="utf-8")
    table = output_of("lepton list parameters --format markdown", ROOT)
    PARAMETERS.write_text(table, encoding="utf-8")
    draw_figure(FIGURE)
    draw_pictures(PICTURES)


if __name__ == "__main__":
    main()
