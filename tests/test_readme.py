"""README.md and docs/ tell the truth: their commands succeed and print what is shown. `make docs` refreshes them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from refresh import (
    DEMO,
    FIGURE,
    PAGES,
    PARAMETERS,
    PICTURES,
    ROOT,
    CommandFailed,
    excerpt,
    output_of,
    refreshed,
)

README = ROOT / "README.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_output_shown_is_what_the_commands_print(page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert refreshed(text, tmp_path) == text, "run `make docs`"


def test_the_readme_has_examples_with_output() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(re.findall(r"^\$ lepton ", text, re.MULTILINE)) >= 10
    assert "$ make demo\n" in text


def test_the_demo_is_what_the_makefile_runs() -> None:
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\ndemo:")[2].splitlines()[1]
    assert "light_model_path" in recipe
    assert '"resnet50"' in recipe
    assert recipe.endswith(DEMO)


def test_the_table_of_parameters_is_current() -> None:
    printed = output_of("lepton list parameters --format markdown", ROOT)
    assert PARAMETERS.read_text(encoding="utf-8") == printed


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name}: {target}"
    for picture in (FIGURE, *PICTURES.glob("*.png")):
        assert picture.stat().st_size < 120_000, picture.name


def test_output_is_replaced_below_its_command(tmp_path: Path) -> None:
    page = (
        "```python\n# two.py\nprint('a', 1)\nprint('b')\nprint('c')\nprint('d  ')\n```\n"
        "```console\n$ python two.py\nstale\n...\nstale\n$ lepton --version\n```\n"
        "```sh\nrm -rf nothing\n```\n"
    )
    version = output_of("lepton --version", tmp_path)
    new = page.replace("stale\n...\nstale\n", "a 1\n...\nd\n").replace("--version\n", f"--version\n{version}")
    assert refreshed(page, tmp_path) == new
    assert refreshed(new, tmp_path) == new


def test_only_wall_time_is_left_out() -> None:
    assert excerpt(["x"], '\n  "wall_s": 1.5e-3,\nlatency  1.5 ms\n\n') == [
        '  "wall_s": ...,',
        "latency  1.5 ms",
    ]
    assert excerpt(["x", "...", "y", "z"], "1\n2\n3\n4\n5\n") == ["1", "...", "4", "5"]
    assert excerpt(["x", "..."], "1\n2\n3\n") == ["1", "..."]


def test_a_command_that_fails_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"exit code 2\n(?s:.*)unknown chip"):
        refreshed("```sh\nlepton simulate lenet5 --chip nosuch\n```\n", tmp_path)
    with pytest.raises(CommandFailed, match="exit code 1"):
        output_of("python -c 'raise SystemExit(1)'", tmp_path)
