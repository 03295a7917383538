"""Chips: presets, the worked example, changes by path, complaints with positions, views."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim.errors import InputError, LeptonError
from sim.hw.calibration import UNCALIBRATED
from sim.hw.chip import (
    Chip,
    check_chip,
    chip_from_dict,
    chip_template,
    list_chips,
    load_chip,
    parameter_table,
)
from sim.hw.drawing import drawing
from sim.hw.overrides import parse_overrides
from sim.program import MAX_LINK_CAPACITY, MIN_LINK_CAPACITY, link_capacity
from sim.units import FASTEST_LINK, SLOWEST_LINK

PRESETS = (
    "a100",
    "a40",
    "eyeriss_v1",
    "gemmini_16",
    "h100",
    "lepton_l",
    "lepton_m",
    "lepton_s",
    "mi210",
    "nvdla_large",
    "tiny",
    "tpu_v1",
    "tpu_v4",
)
KNOWN_IMBALANCES = {
    # The one narrow link of the real chip, both ways.
    "eyeriss_v1": [
        "all DMA channels together (480 MB/s) cannot use the 17.1 GB/s of the DRAM",
        "core 'array' has one DMA channel: loads wait behind stores",
    ]
}
TWO_KINDS = {
    "cores": [
        {"name": "big", "count": 1, "sram": {"size": "1 MiB", "bandwidth": "1 TB/s"}},
        {"name": "small", "count": 3, "clock": "500 MHz", "sram": {"size": "1 KiB", "bandwidth": "1 TB/s"}},
    ]
}


def two_kinds() -> dict[str, Any]:
    """lepton_m with one big and three small cores."""
    data = load_chip("lepton_m").expanded()
    base = data["cores"][0]
    data["cores"] = [base | core for core in copy.deepcopy(TWO_KINDS["cores"])]
    return data


def complaints(values: Mapping[str, object], chip: str = "lepton_m") -> str:
    with pytest.raises(InputError) as error:
        load_chip(chip).replace_many(values)
    return str(error.value)


def test_the_presets_are_these() -> None:
    assert list_chips() == PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_presets_round_trip_and_are_balanced(name: str) -> None:
    chip = load_chip(name)
    assert chip.name == name
    assert chip_from_dict(chip.expanded()) == chip
    assert pickle.loads(pickle.dumps(chip)) == chip
    assert hash(chip) == hash(chip_from_dict(chip.expanded()))
    assert check_chip(chip) == KNOWN_IMBALANCES.get(name, [])
    assert chip.source or chip.notes


@pytest.mark.parametrize("name", ["eyeriss_v1", "gemmini_16", "tpu_v1", "tpu_v4"])
def test_every_block_of_a_real_chip_has_a_source(name: str) -> None:
    chip = load_chip(name)
    core = chip.cores[0]
    blocks = (
        core.array,
        core.accumulator,
        core.vector,
        core.sram,
        core.dma,
        chip.dram,
        chip.cache,
        chip.host,
    )
    assert all(block.source for block in blocks if block is not None)


@pytest.mark.parametrize(
    ("name", "dtype", "tera_ops"),
    [
        ("tpu_v1", "int8", 91.75),
        ("tpu_v1", "int16", 22.94),
        ("tpu_v4", "bf16", 275.25),
        ("gemmini_16", "int8", 0.512),
    ],
)
def test_published_peaks(name: str, dtype: str, tera_ops: float) -> None:
    assert 2e-12 * load_chip(name).peak_macs_per_s(dtype) == pytest.approx(tera_ops, rel=1e-3)


def test_the_worked_example() -> None:
    chip = load_chip("lepton_m")
    assert (chip.clock_hz, chip.core_count, chip.core_nodes) == (1_200_000_000, 8, tuple(range(8)))
    assert chip.peak_macs_per_s("int8") == 8 * 128 * 128 * 1.2e9
    assert chip.peak_macs_per_s("fp32") == 2 * 128 * 128 * 1.2e9
    core = chip.kind_of_core(7)
    assert (core.clock_hz, core.sram.size_bytes, core.sram.bank_bytes) == (1_200_000_000, 4 << 20, 128 << 10)
    assert (core.dma.setup_latency_ps, core.dma.bandwidth_bytes_per_s) == (100_000, 128_000_000_000)
    assert (chip.dram.channels, chip.dram.bandwidth_bytes_per_s) == (16, 819_200_000_000)
    assert chip.cache is not None
    assert chip.cache.sets == 8192
    with pytest.raises(IndexError):
        chip.kind_of_core(8)
    with pytest.raises(InputError, match=r"computes in 'int88'; did you mean 'int8'"):
        chip.peak_macs_per_s("int88")


def test_cores_are_numbered_kind_by_kind() -> None:
    chip = chip_from_dict(two_kinds())
    assert [chip.kind_of_core(i).name for i in range(4)] == ["big", "small", "small", "small"]
    assert chip.peak_macs_per_s("int8") == 128 * 128 * (1.2e9 + 3 * 0.5e9)
    smaller = chip.replace_many({"cores.small.array.rows": 32, "cores.big.vector.lanes": 7})
    assert [kind.array.rows for kind in smaller.cores if kind.array] == [128, 32]
    assert [kind.vector.lanes for kind in smaller.cores] == [7, 256]
    with pytest.raises(InputError, match=r"'core.' needs a chip with one core kind; this one has big, small"):
        chip.replace("core.array.rows", 32)
    with pytest.raises(InputError, match="did you mean 'small'"):
        chip.replace("cores.smal.array.rows", 32)


def test_replace_changes_what_depends_on_it() -> None:
    chip = load_chip("lepton_m")
    assert chip.replace("dram.stacks", 2).dram.bandwidth_bytes_per_s == 2 * 819_200_000_000
    assert chip.replace("clock", "1 GHz").cores[0].clock_hz == 10**9
    assert chip.replace("core.vector.functions.exp", 1).cores[0].vector.passes_of("exp") == 1
    assert chip.replace("dram.device", "hbm2").dram.channels == 8
    again = chip_from_dict(chip.expanded())
    assert again.replace("clock", "1 GHz") == chip.replace("clock", "1 GHz")
    assert again.replace("dram.channels", 32) == chip.replace("dram.stacks", 2)
    assert chip.replace("core.array.rows", 128) == chip
    assert chip.replace("core.array.rows", 64) != chip


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"core.array.row": 1}, "core.array.row: unknown path; there is no 'row'; did you mean 'rows'?"),
        ({"cor.array.rows": 1}, "there is no 'cor'; did you mean 'core'?"),
        ({"core": 1}, "say which value of the core"),
        ({"core.sram.size.x": 1}, "'cores[0].sram.size' has no parts"),
        (
            {"core.sram.size": 4096},
            "--set core.sram.size: error: cores[0].sram.size: found 4096, a bare number",
        ),
        ({"core.array.rows": 0}, "cores[0].array.rows: found 0; expected greater than or equal to 1"),
        ({"core.array.rows": 2.5}, "found 2.5; expected a whole number"),
        ({"core.array.rates": {}}, "cores[0].array.rates: found a mapping"),
        ({"core.array.rates": {"int8": float("inf")}}, "cores[0].array.rates.int8: found inf"),
        ({"core.array.dataflow": "weight-stationary"}, "did you mean 'weight_stationary'?"),
        ({"dram.stacks": 0}, "dram.stacks: found 0; expected a whole number of stacks"),
        ({"dram.channels": 3}, "dram.stacks: write stacks or channels, not both"),
        ({"dram.device": "ddr4_2400"}, "'ddr4_2400' does not come in stacks; write channels: N"),
        ({"dram.device": "hbm33"}, "unknown DRAM device 'hbm33'; did you mean 'hbm3'?"),
        (
            {"dram.timing.banks": 3},
            "dram.timing.banks: found 3; address bits need a power of two",
        ),
        ({"technology": "n9"}, "technology: unknown technology 'n9'"),
        ({"interconnect.shape": [1, 4]}, "interconnect.shape: 4 nodes cannot hold 8 cores"),
        ({"interconnect.topology": "ring"}, "interconnect.shape: found [2, 4]; a ring has the shape [nodes]"),
        ({"interconnect.shape": [4096, 4096]}, "at most 4096 are allowed"),
        ({"interconnect.memory_ports": [[0, 9]]}, "interconnect.memory_ports[0]: found [0, 9]; outside"),
        ({"interconnect.memory_ports": [[0, 0], [0, 0]]}, "memory_ports[1]: found [0, 0] a second time"),
        ({"interconnect.host_port": 3}, "interconnect.host_port: found [3]; outside the shape [2, 4]"),
        ({"cache.size": "10 MB"}, "cache.size: 10000000 B is not a whole number of sets of 16 ways x 128 B"),
    ],
)
def test_complaints_about_a_change(values: Mapping[str, object], says: str) -> None:
    assert says in complaints(values)


def test_several_complaints_come_together_and_alone() -> None:
    values = {"core.array.rows": "x", "dram.device": "hbm33", "technology": "n9", "clock": "3 mhz"}
    assert complaints(values).count("\n") == 3


def test_a_stated_total_bandwidth_is_not_left_behind() -> None:
    assert "set dram.bandwidth as well" in complaints({"dram.stacks": 8}, "tpu_v4")
    chip = load_chip("tpu_v4", {"dram.stacks": 8, "dram.bandwidth": "2.4 TB/s"})
    assert (chip.dram.channels, chip.dram.bandwidth_bytes_per_s) == (64, 2_400_000_000_000)


def test_a_child_has_another_dram_than_its_parent(tmp_path: Path) -> None:
    """Stacks give way to channels, blocks of the parent to nothing; its total bandwidth is no child's in silence."""
    path = tmp_path / "mine.yaml"
    text = "version: 1\nextends: a100\nname: mine\nlinks:\ncache:\ncalibration:\n"
    path.write_text(text + "dram: {device: gddr6, channels: 12, bandwidth: }\n")
    chip = load_chip(path)
    assert (chip.dram.bandwidth_bytes_per_s, chip.cache, chip.links) == (12 * 32 * 10**9, None, None)
    assert chip.calibration == UNCALIBRATED
    for changed in ("stacks: 4", "channels: 12", "device: hbm3"):
        path.write_text(f"{text}dram: {{{changed}}}\n")
        words = f"dram.{changed.partition(':')[0]}: the parent states a total bandwidth.*state bandwidth as well"
        with pytest.raises(InputError, match=words):
            load_chip(path)
    path.write_text(text + "dram: {stacks: 4, bandwidth: 1.6 TB/s}\n")
    assert load_chip(path).dram.channels == 32
    assert load_chip(path, {"dram.bandwidth": "1 TB/s"}).dram.bandwidth_bytes_per_s == 10**12


@pytest.mark.parametrize("dram", ["{device: }", "{device: 3}", "{device: lpddr4}"])
def test_a_dram_without_a_device_is_one_mistake(tmp_path: Path, dram: str) -> None:
    """Not as many as a device has numbers."""
    path = tmp_path / "mine.yaml"
    path.write_text(f"version: 1\nextends: lepton_m\nname: mine\ndram: {dram}\n")
    with pytest.raises(InputError) as error:
        load_chip(path)
    (found,) = error.value.diagnostics
    assert found.path == "dram.device"
    assert "ddr4_2400, ddr4_3200" in found.hint


def test_positions_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "version: 1\nextends: lepton_m\nname: mine\ncores:\n"
        "- name: tensor\n  array: {dataflw: output_stationary}\n  sram: {size: 4}\n"
    )
    with pytest.raises(InputError) as error:
        load_chip(path)
    lines = str(error.value).splitlines()
    assert (
        f"{path}:6:11: error: cores[0].array.dataflw: unknown key 'dataflw'; did you mean 'dataflow'?"
        in lines
    )
    assert any(line.startswith(f"{path}:7:10: error: cores[0].sram.size: found 4") for line in lines)
    assert len(lines) == 2


def test_an_accumulator_needs_an_array() -> None:
    data = load_chip("tiny").expanded()
    del data["cores"][0]["array"]
    with pytest.raises(InputError, match=r"cores\[0\].accumulator: an accumulator without an array"):
        chip_from_dict(data)
    del data["cores"][0]["accumulator"]
    chip = chip_from_dict(data)
    with pytest.raises(InputError, match="available: none"):
        chip.peak_macs_per_s("int8")


def test_a_single_core_needs_no_interconnect_but_two_do() -> None:
    tiny = load_chip("tiny")
    assert (tiny.interconnect.topology, tiny.interconnect.shape) == ("crossbar", (1,))
    assert "required key 'interconnect' is missing" in complaints({"core.count": 2}, "tiny")


def test_two_kinds_of_the_same_name() -> None:
    data = two_kinds()
    data["cores"][1]["name"] = "big"
    with pytest.raises(InputError, match=r"cores\[1\].name: a second core kind named 'big'"):
        chip_from_dict(data)


def test_overrides_from_the_command_line() -> None:
    texts = ["core.array.rows=256", "interconnect.shape=[4, 2]", "clock=1 GHz"]
    assert parse_overrides(texts) == {"core.array.rows": 256, "interconnect.shape": [4, 2], "clock": "1 GHz"}
    assert load_chip("tiny", ["core.array.rows=16"]).cores[0].array.rows == 16  # type: ignore[union-attr]
    for bad in ("core.array.rows", "=3", "a=[", "a={"):
        with pytest.raises(InputError, match="--set"):
            parse_overrides([bad])


def test_unknown_chips_are_suggested() -> None:
    with pytest.raises(
        InputError, match=r"unknown chip 'lepton_mm'; did you mean 'lepton_m'\?; available: a100"
    ):
        load_chip("lepton_mm")
    with pytest.raises(InputError, match="cannot read the file"):
        load_chip("no/such.yaml")


@pytest.mark.parametrize(
    ("values", "warning"),
    [
        (
            {"interconnect.memory_ports": [[0, 0]]},
            "the memory ports carry 512 GB/s together, less than the 819 GB/s",
        ),
        ({"cache.bandwidth": "100 GB/s"}, "the cache (100 GB/s) is slower than the DRAM"),
        ({"core.dma.bandwidth": "10 GB/s"}, "all DMA channels together (160 GB/s) cannot use the 819 GB/s"),
        ({"core.dma.channels": 1}, "core 'tensor' has one DMA channel"),
        ({"core.dma.bandwidth": "1 TB/s"}, "the DMA of core 'tensor' moves 2 TB/s, more than its SRAM"),
        # 128 rows x 4 B x 0.25 and 128 x 2 B: bf16 is the hungriest, 307 GB/s.
        ({"core.sram.bandwidth": "300 GB/s"}, "stream 307 GB/s; its SRAM gives 300 GB/s"),
        ({"core.accumulator.bandwidth": "100 GB/s"}, "is far below its sums (1.23 TB/s)"),
        ({"interconnect.shape": [3, 4]}, "4 of 12 nodes of the mesh hold no core"),
    ],
)
def test_lopsided_chips_are_warned_of(values: Mapping[str, object], warning: str) -> None:
    found = check_chip(load_chip("lepton_m", values))
    assert len(found) == 1
    assert warning in found[0]


def test_a_gpu_whose_cache_is_not_hashed_is_warned_of() -> None:
    (warning,) = check_chip(load_chip("a100", {"cache.hashed": False}))
    assert "the cache is not hashed" in warning


def test_the_drawing() -> None:
    lines = drawing(load_chip("lepton_m")).splitlines()
    assert "  | tensor 0 MH |---|  tensor 1 M |---|  tensor 2 M |---|  tensor 3 M |" in lines
    assert "  |   tensor 4  |---|   tensor 5  |---|   tensor 6  |---|   tensor 7  |" in lines
    assert "  | array  1 x 128 x 128 PEs, weight_stationary            |" in lines
    for name in PRESETS:
        assert max(map(len, drawing(load_chip(name)).splitlines())) <= 150


def test_the_template_is_a_chip(tmp_path: Path) -> None:
    path = tmp_path / "chip.yaml"
    path.write_text(chip_template())
    chip, model = load_chip(path), load_chip("lepton_s")
    assert chip.name == "my_chip"
    assert chip.replace("name", "lepton_s") == model
    assert all("#" in line for line in chip_template().splitlines()[2:])


def test_the_parameter_table_covers_every_path() -> None:
    rows = {row["path"]: row for row in parameter_table()}
    assert rows["core.sram.size"] == {
        "path": "core.sram.size", "unit": "B", "default": "required", "meaning": "capacity, per core",
    }  # fmt: skip
    assert rows["core.dma.outstanding"]["default"] == "1"
    assert rows["core.clock"]["default"] == "the chip's clock"
    assert rows["dram.timing.CL"]["default"] == "of the device"
    assert rows["core.array.double_buffered_weights"]["default"] == "true"
    assert all(row["meaning"] for row in rows.values())
    chip = load_chip("lepton_m")
    for path in rows:
        with pytest.raises(InputError) as error:
            chip.replace(path, [[]])
        assert "unknown path" not in str(error.value)


def test_the_summary() -> None:
    text = load_chip("tpu_v1").summary_text()
    assert "22.94 TOP/s int16, 91.75 TOP/s int8" in text
    assert "ddr3_2133, 8 GiB, 34 GB/s" in text


BASE = load_chip("lepton_m").expanded()
PATHS = [row["path"] for row in parameter_table()]
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=6),
    st.sampled_from(["1 B", "1 KiB", "0 B", "3 GHz", "1 PB/s", "5 ns", "hbm3", "ring", "torus", "mesh", "n7"]),
    st.lists(st.lists(st.integers(-2, 9), max_size=3), max_size=3), st.dictionaries(st.text(max_size=4), st.none()),
)  # fmt: skip


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(PATHS), VALUES, min_size=1, max_size=3))
def test_random_changes_give_a_chip_or_an_input_error(values: dict[str, object]) -> None:
    try:
        chip = chip_from_dict(BASE).replace_many(values)
    except LeptonError:
        return
    assert isinstance(chip, Chip)
    assert chip_from_dict(chip.expanded()) == chip
    assert chip.network().route(0, chip.core_count - 1).hops >= 0


@pytest.mark.parametrize(
    "path",
    ["interconnect.link_bandwidth", "interconnect.memory_port_bandwidth", "core.dma.bandwidth", "host.bandwidth",
     "cache.bandwidth", "links.bandwidth", "dram.bandwidth", "dram.channel_bandwidth"],
)  # fmt: skip
def test_links_that_the_engines_cannot_tell(path: str) -> None:
    """Refused where they are written, with their unit, and the limits are those of a program."""
    given = {"links.count": 4, "links.bandwidth": "1 GB/s"}
    for bandwidth, expected in (("61 MB/s", "at least 62 MB/s"), ("66 PB/s", "at most 65 PB/s")):
        with pytest.raises(InputError) as raised:
            load_chip("lepton_l", given | {path: bandwidth})
        assert f"{path.replace('core.', 'cores[0].')}: found '{bandwidth}'; expected {expected}" in str(raised.value)
    load_chip("lepton_l", given | {path: "62 MB/s"})
    with pytest.raises(InputError, match="all links together 40 MB/s; expected at least 62 MB/s"):
        load_chip("lepton_l", given | {"links.efficiency": 0.01})
    assert link_capacity(SLOWEST_LINK) >= MIN_LINK_CAPACITY > link_capacity(0.98 * SLOWEST_LINK)
    assert link_capacity(FASTEST_LINK) <= MAX_LINK_CAPACITY < link_capacity(1.01 * FASTEST_LINK)
