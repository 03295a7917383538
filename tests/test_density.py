"""Sparse activations: what zeros save on a chip that gates and codes them, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import sim
from sim.cli import run
from sim.errors import InputError
from sim.graph.builder import GraphBuilder
from sim.graph.graph import Graph
from sim.hw.chip import load_chip
from sim.pipeline import plan, verify_values
from sim.program import Kind

GATING, CODING = "core.array.row_stationary.zero_gating", "core.dma.run_length_coding"


def layer(dtype: str = "int16") -> Graph:
    """3 x 3, 8 to 16 channels of 32 x 30."""
    b = GraphBuilder("layer", dtype)
    x = b.conv(b.input("image", (2, 8, 32, 30)), 16, 3, padding=1, bias=False, name="conv")
    return b.build([x], kernel=True)


def energy_j(report: sim.Report, name: str) -> float:
    return float(report.ops[f"energy_{name}_j"].sum())


def _strips() -> int:
    segment = plan(layer(), "eyeriss_v1")[2].segments[0]
    return int((segment.kind == Kind.STORE).sum())


def test_gated_products_take_no_energy() -> None:
    dense, sparse = (sim.simulate(layer(), "eyeriss_v1", density=d, overrides={CODING: False}) for d in (1, 0.25))
    assert energy_j(sparse, "mac") == pytest.approx(0.25 * energy_j(dense, "mac"))
    # In a PE, an input is looked at whatever it is; weights and sums follow the density.
    saved = energy_j(dense, "registers") - energy_j(sparse, "registers")
    counts = [plan(layer(), "eyeriss_v1", density=d)[2].segments[0].ops[0].counts for d in (1.0, 0.25)]
    for name in ("pe_filter_bytes", "pe_sum_bytes", "switched_macs"):
        assert counts[1][name] == 0.25 * counts[0][name]
    assert counts[1]["pe_input_bytes"] == counts[0]["pe_input_bytes"]
    assert 0 < saved < energy_j(dense, "registers")
    assert sparse["latency_s"] == dense["latency_s"]
    assert sparse["macs"] == dense["macs"]


def test_coded_activations_cross_the_dram_in_fewer_bytes() -> None:
    on, off = ({GATING: False, CODING: coded} for coded in (True, False))
    coded = sim.simulate(layer(), "eyeriss_v1", density={"image": 0.5, "": 0.3}, overrides=on)
    plain = sim.simulate(layer(), "eyeriss_v1", overrides=on)
    # Rows of 30 words at 0.3: (9 + 1) / 3 words of 8 B.
    assert coded["dram_write_bytes"] == pytest.approx(2 * 16 * 32 * 80 / 3, rel=1e-3)
    assert plain["dram_write_bytes"] == 2 * 16 * 32 * 60
    # Filters are loaded once per strip of rows; the rest is rows of 30 words, of which 15 and one more are coded.
    filters = 2 * 16 * 8 * 9 * _strips()
    rows = (plain["dram_read_bytes"] - filters) / 60
    assert rows > 2 * 8 * 32
    assert coded["dram_read_bytes"] - filters == pytest.approx(rows * 16 / 3 * 8, rel=2e-3)
    assert coded["latency_s"] < plain["latency_s"]
    # What the scratchpad takes is decoded, what it gives not yet coded.
    for name in ("sram_read_bytes", "sram_write_bytes"):
        assert coded[name] == plain[name]
    with pytest.raises(InputError, match="makes no use of zeros"):
        sim.simulate(layer(), "eyeriss_v1", density=0.5, overrides=off)


def test_other_formats_are_not_coded() -> None:
    b = GraphBuilder("masks", "int32")
    graph = b.build([b.relu(b.input("x", (4, 64)))])
    dense, sparse = (sim.simulate(graph, "eyeriss_v1", density=d) for d in (1.0, 0.1))
    assert sparse["dram_read_bytes"] == dense["dram_read_bytes"]


def test_numbers_do_not_depend_on_the_code() -> None:
    found = verify_values(layer(), "eyeriss_v1", density=0.4, integers=True)
    assert found.races == 0
    assert all(output.exact for output in found.outputs)


@pytest.mark.parametrize(
    ("chip", "density", "complaint"),
    [
        ("lepton_s", 0.5, "chip 'lepton_s' makes no use of zeros"),
        ("eyeriss_v1", 0.0, "density: found 0.0; expected a share above 0 and at most 1"),
        ("eyeriss_v1", {"image": 1.5}, "density of image: found 1.5"),
        ("eyeriss_v1", {"imgae": 0.5}, "no input or activation is called 'imgae'.*did you mean 'image'"),
    ],
)
def test_densities_that_mean_nothing_are_refused(chip: str, density: object, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        sim.simulate(layer(), chip, density=density)  # type: ignore[arg-type]


def test_a_cache_has_no_place_for_coded_activations() -> None:
    cache = {"size": "1 MiB", "ways": 4, "line": "64 B", "bandwidth": "1 GB/s"}
    with pytest.raises(InputError, match="coded activations have none"):
        load_chip("eyeriss_v1").replace_many({"cache": cache})


def test_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["simulate", "conv3x3", "--chip", "eyeriss_v1", "--dtype", "int16", "--format", "csv"]
    assert run([*options, "--density", "0.4", "--density", "image=0.9"]) == 0
    sparse = capsys.readouterr().out
    assert run(options) == 0
    assert sparse != capsys.readouterr().out
    assert run([*options, "--density", "much"]) == 2
    assert "--density much: expected a share, or TENSOR=SHARE" in capsys.readouterr().err
    assert run([*options, "--density", "0.4", "--density", "0.5"]) == 2
    assert "given twice" in capsys.readouterr().err
