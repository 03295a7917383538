"""Technologies, DRAM devices and price lists of the user's own, told by their path."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sim.errors import InputError
from sim.explore.keys import KeyMaker
from sim.explore.space_file import load_space
from sim.hw.chip import chip_from_dict, load_chip
from sim.hw.money import load_prices
from sim.hw.technology import load_technology


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"version: 1\n{text}\n", encoding="utf-8")
    return path


def test_a_path_in_a_chip_is_relative_to_the_chip(tmp_path: Path) -> None:
    written(tmp_path / "nodes" / "mine.yaml", "extends: n16\nname: mine\nnode_nm: 14")
    written(tmp_path / "cheap.yaml", "extends: default\nscribe: {value: 0.05 mm, source: 'a test', status: estimate}")
    written(tmp_path / "dram.yaml", "extends: hbm2\nchannel_bandwidth: 40 GB/s")
    text = "extends: tiny\nname: own\ntechnology: nodes/mine.yaml\nprices: ./cheap.yaml"
    file = written(tmp_path / "own.yaml", f"{text}\ndram: {{device: dram.yaml, stacks: 1, capacity: 4 GiB}}")
    file.write_text(file.read_text().replace("extends: tiny", f"extends: {_tiny_without_dram(tmp_path)}"))
    chip = load_chip(file)
    assert chip.technology == str(tmp_path / "nodes" / "mine.yaml")
    assert load_technology(chip.technology).node_nm == 14
    assert load_technology(chip.technology).mac_energy_j("int8") == load_technology("n16").mac_energy_j("int8")
    assert load_prices(chip.prices).scribe.value == 0.05
    assert chip.dram.bandwidth_bytes_per_s == 8 * 40e9
    assert chip_from_dict(chip.expanded()) == chip
    assert chip.summary_text().startswith("own: mine, ")


def _tiny_without_dram(folder: Path) -> str:
    data = load_chip("tiny").expanded()
    data["dram"] = {"device": "hbm2"}
    import yaml

    (folder / "base.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    return "base.yaml"


def test_a_path_of_an_option_is_relative_to_where_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "mine.yaml", "extends: n7\nname: mine\nnode_nm: 6")
    monkeypatch.chdir(tmp_path)
    assert load_chip("tiny", ["technology=mine.yaml"]).technology == str(tmp_path / "mine.yaml")


def test_a_file_that_is_not_there_and_one_that_is_wrong(tmp_path: Path) -> None:
    chip = written(tmp_path / "chip.yaml", "extends: tiny\nname: own\ntechnology: mine.yaml")
    with pytest.raises(InputError) as raised:
        load_chip(chip)
    assert str(raised.value) == f"{chip}:4:1: error: technology: no such file: {tmp_path / 'mine.yaml'}"
    mine = written(tmp_path / "mine.yaml", "extends: n7\nname: mine\nwafer_prise: 1 USD")
    with pytest.raises(InputError) as raised:
        load_chip(chip)
    assert str(raised.value).startswith(f"{mine}:4:1: error: wafer_prise: unknown key 'wafer_prise'; did you mean")


def test_a_file_that_has_changed_is_read_again(tmp_path: Path) -> None:
    mine = written(tmp_path / "mine.yaml", "extends: n7\nname: mine\nnode_nm: 6")
    assert load_technology(str(mine)).node_nm == 6
    written(mine, "extends: n7\nname: mine\nnode_nm: 5")
    os.utime(mine, ns=(1, 1))
    assert load_technology(str(mine)).node_nm == 5


def test_a_sweep_knows_files_by_what_they_say(tmp_path: Path) -> None:
    """Points are evaluated by other processes, and the same design is the same wherever its files lie."""

    def keys(folder: Path, node_nm: int) -> list[bytes]:
        written(folder / "mine.yaml", f"extends: n7\nname: mine\nnode_nm: {node_nm}")
        written(folder / "chip.yaml", "extends: tiny\nname: own\ntechnology: mine.yaml")
        text = "name: s\nchip: chip.yaml\nworkloads: [{model: lenet5}]\nparameters: {technology: [n5, mine.yaml]}"
        space = load_space(written(folder / "space.yaml", text))
        assert [row[0] for axis in space.axes for row in axis.rows] == ["n5", str(folder / "mine.yaml")]
        return KeyMaker(space, space.workloads[0], "bound").keys(list(space.points()))

    here, there, other = (keys(tmp_path / name, nm) for name, nm in (("a", 6), ("b", 6), ("c", 4)))
    assert here[0] != here[1]
    assert here == there
    assert here[1] != other[1]
