"""Configuration files: positions, inheritance, everything that is refused, and fuzzing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.config import (
    Field,
    Part,
    Unit,
    document_from_data,
    dump,
    field_specs,
    find_resource,
    json_schema,
    known_keys,
    load_yaml,
    validate,
)
from sim.errors import InputError, LeptonError


@dataclass(frozen=True, slots=True)
class Box(Part):
    size_bytes: Annotated[int, Unit("size"), Field(alias="size", gt=0, description="how large")]
    kind: Literal["open", "closed"] = "open"
    rates: Mapping[Literal["int8", "fp32"], float] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Shelf(Part):
    name: str
    cores: tuple[Box, ...]
    spare: Box | None = None


def write(folder: Path, text: str, name: str = "a.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def complaints(path: Path, model: type = Shelf, search: Path | None = None) -> list[str]:
    with pytest.raises(InputError) as error:
        validate(load_yaml(path, search), model)
    return [line.removeprefix(f"{path}:") for line in str(error.value).splitlines()]


def test_a_good_file(tmp_path: Path) -> None:
    text = "version: 1\nname: s\nsource: a paper\ncores:\n- {size: 1.5 KiB, rates: {int8: 2}}\n"
    shelf = validate(load_yaml(write(tmp_path, text)), Shelf)
    assert shelf == Shelf("s", (Box(1536, rates={"int8": 2.0}),))
    assert shelf.source == "a paper"


def test_all_complaints_at_once_each_at_its_place(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "version: 1\nnam: s\ncores:\n- size: 4\n  kind: opn\n- {siz: 1 KiB, rates: {int9: 1}}\n"
        "spare: {size: 0 B, rates: {int8: x}}\n",
    )
    assert complaints(path) == [
        "1:1: error: name: required key 'name' is missing",
        "4:3: error: cores[0].size: found 4, a bare number; expected a size with its unit, such as '128 KiB' "
        "(units: B, kB, MB, GB, TB, PB, KiB, MiB, GiB, TiB)",
        "5:3: error: cores[0].kind: found 'opn'; expected 'open' or 'closed'; did you mean 'open'?",
        "6:3: error: cores[1].size: required key 'size' is missing",
        "6:24: error: cores[1].rates.int9: unknown key 'int9'; did you mean 'int8'?",
        "6:4: error: cores[1].siz: unknown key 'siz'; did you mean 'size'?",
        "7:9: error: spare.size: found '0 B'; expected more than 0 B",
        "7:28: error: spare.rates.int8: found 'x'; expected a number",
        "2:1: error: nam: unknown key 'nam'; did you mean 'name'?",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "error: the file is empty"),
        ("# only a comment\n", "error: the file is empty"),
        ("- 1\n", "1:1: error: found a list or a single value at the top; expected a mapping"),
        ("name: s\n", "1:1: error: required key 'version' is missing; write 'version: 1' first"),
        ("version: 2\n", "1:1: error: version: found version 2; this program reads version 1"),
        ("version: true\n", "1:1: error: version: found version True; this program reads version 1"),
        (
            "version: 1\nname: a\nname: b\n",
            "3:1: error: name: duplicate key 'name'; it was first written on line 2",
        ),
        ("version: 1\nname: &x a\n", "2:7: error: name: anchors and aliases are not allowed"),
        ("version: 1\nname: !include a\n", "2:7: error: name: the tag '!include' is not allowed"),
        ("version: 1\nname: !!python/name:os.system ''\n", "is not allowed; a configuration is plain data"),
        ("version: 1\n? [a, b]\n: c\n", "2:3: error: expected a plain word as key"),
        ("version: 1\n1: c\n", "2:1: error: expected a plain word as key"),
        ("version: 1\nname: [a\n", "error: not valid YAML"),
        ("version: 1\n\tname: a\n", "error: not valid YAML"),
        ("version: 1\n---\nversion: 1\n", "error: not valid YAML"),
        ("version: 1\nname: .nan\n", "2:7: error: name: cannot use '.nan' as a number"),
        ("version: 1\nname: " + "9" * 5000 + "\n", "as a number"),
        ("version: 1\nname: " + "[" * 60 + "]" * 60 + "\n", "nested too deeply"),
        ("version: 1\nname: " + "[" * 5000, "error: not valid YAML"),
        ("version: 1\nextends: gone.yaml\n", "2:1: error: extends: no such file"),
        (
            "version: 1\nextends: a.yaml\n",
            "2:1: error: extends: 'extends' runs in a circle: a.yaml -> a.yaml",
        ),
        ("version: 1\nextends: [a, b]\n", "2:1: error: extends: expected the path or the name of one parent"),
    ],
)
def test_refused_files(tmp_path: Path, text: str, says: str) -> None:
    assert says in "\n".join(complaints(write(tmp_path, text)))


def test_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes("version: 1\nname: \xe9\n".encode("latin-1"))
    assert complaints(tmp_path / "latin.yaml") == [" error: the file is not UTF-8 text"]
    assert "cannot read the file" in complaints(tmp_path / "gone.yaml")[0]
    assert "cannot read the file" in complaints(tmp_path)[0]


def test_a_child_changes_its_parent(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    write(
        tmp_path / "lib",
        "version: 1\nname: parent\nspare: {size: 1 KiB, rates: {int8: 1, fp32: 1}}\ncores: [{size: 1 B}]\n",
        "base.yaml",
    )
    text = "version: 1\nextends: base\nname: child\nspare: {rates: {int8: 4}}\ncores: [{size: 2 B}, {size: 3 B}]\n"
    path = write(tmp_path, text)
    shelf = validate(load_yaml(path, search=tmp_path / "lib"), Shelf)
    assert shelf.name == "child"
    assert shelf.spare == Box(1024, rates={"int8": 4.0, "fp32": 1.0})
    # These have no names to merge by, so they are added.
    assert [box.size_bytes for box in shelf.cores] == [1, 2, 3]


def test_an_unknown_parent_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    for name in ("lepton_m", "tiny"):
        write(tmp_path, "version: 1\n", f"{name}.yaml")
    child = write(tmp_path, "version: 1\nextends: lepton_n\n", "child.yaml")
    expected = "unknown parent 'lepton_n'; did you mean 'lepton_m'?; available: child, lepton_m, tiny"
    assert complaints(child, search=tmp_path) == [f"2:1: error: extends: {expected}"]


def test_cores_merge_by_name(tmp_path: Path) -> None:
    parent = "version: 1\ncores:\n- {name: a, count: 1, sram: {size: 1 B, banks: 2}}\n- {name: b}\n"
    child = "version: 1\nextends: p.yaml\ncores:\n- {name: c}\n- {name: a, sram: {size: 9 B}}\n"
    write(tmp_path, parent, "p.yaml")
    document = load_yaml(write(tmp_path, child))
    assert document.data["cores"] == [
        {"name": "a", "count": 1, "sram": {"size": "9 B", "banks": 2}},
        {"name": "b"},
        {"name": "c"},
    ]
    assert document.position(("cores", 0, "sram", "size")).file == tmp_path / "a.yaml"
    assert document.position(("cores", 0, "sram", "banks")).file == tmp_path / "p.yaml"


def test_a_key_without_a_value_takes_the_parents_away(tmp_path: Path) -> None:
    parent = "version: 1\na: {x: 1, y: {z: 2}}\nb: 3\ndram: {stacks: 4, capacity: 8}\ncores: [{name: c, p: 1, q: 2}]\n"
    child = "version: 1\nextends: p.yaml\na: {y: }\nb:\nd:\ndram: {channels: 2}\ncores: [{name: c, p: ~}]\n"
    write(tmp_path, parent, "p.yaml")
    found = load_yaml(write(tmp_path, child)).data
    assert found == {"a": {"x": 1}, "d": None, "dram": {"capacity": 8, "channels": 2}, "cores": [{"name": "c", "q": 2}]}
    both = "version: 1\nextends: p.yaml\ndram: {channels: 2, stacks: 3}\n"
    assert load_yaml(write(tmp_path, both)).data["dram"] == {"stacks": 3, "capacity": 8, "channels": 2}


def test_errors_name_the_file_that_wrote_the_value(tmp_path: Path) -> None:
    parent = write(tmp_path, "version: 1\nname: p\ncores:\n- {size: 1 KB}\n", "p.yaml")
    path = write(tmp_path, "version: 1\nextends: p.yaml\nname: 7\n")
    found = complaints(path)
    assert found[0] == "3:1: error: name: found 7; expected text"
    assert found[1].startswith(f"{parent}:4:4: error: cores[0].size: found '1 KB': 'KB' is ambiguous")


def test_a_longer_circle(tmp_path: Path) -> None:
    write(tmp_path, "version: 1\nextends: a.yaml\n", "b.yaml")
    path = write(tmp_path, "version: 1\nextends: b.yaml\n")
    assert "a.yaml -> b.yaml -> a.yaml" in str(complaints(path))


def test_dump_round_trips() -> None:
    shelf = Shelf("s", (Box(1536, "closed", {"fp32": 0.25}),), Box(10**6 + 1), notes="n")
    data = dump(shelf)
    assert data["cores"][0] == {"size": "1536 B", "kind": "closed", "rates": {"fp32": 0.25}}
    assert validate(document_from_data({"version": 1, **data}), Shelf) == shelf


def test_models_describe_themselves() -> None:
    first = field_specs(Box)[0]
    assert (first.name, first.key, first.dimension, first.meaning) == (
        "size_bytes",
        "size",
        "size",
        "how large",
    )
    assert known_keys(Shelf, ("cores", 3)) == ("size", "kind", "rates", "source", "notes")
    assert known_keys(Shelf, ("spare", "rates")) == ("int8", "fp32")
    assert known_keys(Shelf, ("name",)) == ()


def test_json_schema_gives_quantities_a_pattern() -> None:
    size = json_schema(Shelf)["$defs"]["Box"]["properties"]["size"]
    assert size["examples"] == ["128 KiB"]
    assert re.fullmatch(size["pattern"], "1.5 KiB")
    assert not re.fullmatch(size["pattern"], "1.5 KB")
    assert not re.fullmatch(size["pattern"], "1536")


def test_unknown_resources_list_what_there_is() -> None:
    near = {"n6": "the nearest are n5 and n7", "n77": "the nearest is n65", "N7": "did you mean 'n7'?"}
    for name, nearest in near.items():
        message = f"unknown technology '{name}'; {nearest}; available: n12, n16, n28"
        with pytest.raises(InputError, match=re.escape(message)):
            find_resource("hw_configs/technology", name, what="technology")
    with pytest.raises(InputError, match=r"did you mean 'lpddr5_6400'.*; or the path of a file of your own"):
        find_resource("hw_configs/dram", "lpddr4_4266", what="DRAM device")


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
)
KEYS = st.sampled_from(["name", "cores", "spare", "size", "kind", "rates", "source", "int8"])


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(KEYS, st.recursive(TREES, lambda i: st.dictionaries(KEYS, i, max_size=3), max_leaves=6))
)
def test_random_data_is_accepted_or_refused_in_words(data: dict[str, object]) -> None:
    try:
        validate(document_from_data(data), Shelf)
        text = "error: "
    except LeptonError as error:
        text = str(error)
    assert "error: " in text


@settings(max_examples=150, deadline=None)
@given(text=st.text(alphabet="abc: \n-[]{}&*!|>'\"#%@`?,01.~\t<=", max_size=60) | st.text(max_size=30))
def test_random_text_is_accepted_or_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "a.yaml"
    path.write_text("version: 1\n" + text, encoding="utf-8", errors="replace")
    try:
        validate(load_yaml(path), Shelf)
        text = str(path)
    except LeptonError as error:
        text = str(error)
    assert str(path) in text


def test_a_file_is_read_anew_when_its_text_changes_and_is_never_shared(tmp_path: Path) -> None:
    """Parsed trees are remembered by text: a caller that changes its data must not change the next one's."""
    file, parent = tmp_path / "a.yaml", tmp_path / "b.yaml"
    parent.write_text("version: 1\nlist: [1, 2]\ndeep: {x: 1, y: 2}\n")
    file.write_text("version: 1\nextends: b.yaml\ndeep: {x: 3}\n")
    first = load_yaml(file)
    assert first.data == {"list": [1, 2], "deep": {"x": 3, "y": 2}}
    first.data["list"].append(9)
    first.data["deep"].clear()
    assert load_yaml(file).data == {"list": [1, 2], "deep": {"x": 3, "y": 2}}
    parent.write_text("version: 1\nlist: [1, 2]\ndeep: {x: 1, y: 5}\n")
    assert load_yaml(file).data == {"list": [1, 2], "deep": {"x": 3, "y": 5}}
    assert load_yaml(file).position(("deep", "y")).file == parent
